#include "store/store_priv.h"

#include "rt/rt.h"

#include <sys/resource.h>
#include <sys/stat.h>

enum {
    ACCOUNTS_DEFAULT = 1024,
    FDS_OF_ACCOUNT = 5,
    FDS_OF_OTHERS = 256,
    PINNED_FACTOR = 4, /* how far beyond max_accounts pinned ones may go */
    BYTES_DEFAULT = 64 << 20,
    LOCATION_MAX = 3000,
    CHECK_EVERY_MS = 1000,
    IDLE_MS = 5000, /* for snapshots before the end */
};

int store_fail(enum engine_outcome o, struct err *err, const char *what,
               const char *name)
{
    if (!err)
        return -1;
    err->class = ERR_TEMP;
    if (err->sys == ENOSPC || err->sys == EDQUOT)
        (void)snprintf(err->status, sizeof err->status, "%s",
                       err->sys == EDQUOT ? "4.2.2" : "4.3.1");
    else if (err->status[0] == '\0' || err->status[0] == '5')
        (void)snprintf(err->status, sizeof err->status, "4.3.0");
    if (err->sys == EDQUOT)
        (void)snprintf(err->peer, sizeof err->peer,
                       "mailbox owner's disk quota is used up");
    else if (err->sys == ENOSPC)
        (void)snprintf(err->peer, sizeof err->peer,
                       "insufficient system storage");
    if (o == ENGINE_FENCED)
        return err_prefix(err, "%s %s: the account's lease is lost", what,
                          name);
    return err_prefix(err, "%s %s", what, name);
}

void store_note(const struct store_account *a, const char *fmt, ...)
{
    const struct store_config *cfg = &a->store->cfg;
    char text[400];
    va_list ap;

    if (!cfg->note)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cfg->note(cfg->note_arg, a->user, text);
}

/* As many as there are descriptors for. */
static unsigned places_default(void)
{
    struct rlimit l;
    rlim_t n = ACCOUNTS_DEFAULT;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur != RLIM_INFINITY) {
        n = l.rlim_cur > FDS_OF_OTHERS ? l.rlim_cur - FDS_OF_OTHERS : 0;
        n /= FDS_OF_ACCOUNT;
    }
    if (n > ACCOUNTS_DEFAULT)
        n = ACCOUNTS_DEFAULT;
    return n > 16 ? (unsigned)n : 16;
}

struct store *store_new(const struct store_config *cfg)
{
    struct store *s = xcalloc(1, sizeof *s);

    CHECK(cfg->engine != NULL);
    s->magic = STORE_MAGIC;
    s->cfg = *cfg;
    if (s->cfg.max_accounts == 0)
        s->cfg.max_accounts = places_default();
    if (s->cfg.max_bytes == 0)
        s->cfg.max_bytes = BYTES_DEFAULT;
    if (s->cfg.instance == 0)
        s->cfg.instance = random_u64() | 1;
    if (s->cfg.max_watches == 0)
        s->cfg.max_watches = watch_limit();
    host_clean(s->host, sizeof s->host, cfg->host);
    map_init(&s->accounts, false);
    list_init(&s->lru);
    return s;
}

static void forget(struct store *s, struct store_account *a)
{
    CHECK(a->pins == 0);
    if (!a->detached)
        map_del(&s->accounts, &a->node);
    list_remove(&a->lru);
    s->n_accounts--;
    s->bytes -= a->bytes;
    account_close(a);
}

void store_free(struct store **sp)
{
    struct store *s = *sp;

    if (!s)
        return;
    CHECK_OBJ(s, STORE_MAGIC);
    while (!list_empty(&s->lru))
        forget(s, CONTAINER_OF(s->lru.next, struct store_account, lru));
    map_done(&s->accounts);
    s->magic = 0;
    free(s);
    *sp = NULL;
}

void store_dump(const struct store *s, struct buf *out)
{
    buf_printf(out, "store: %zu accounts open, %zu bytes\n", s->n_accounts,
               s->bytes);
    list_each(l, &s->lru) {
        const struct store_account *a =
            CONTAINER_OF(l, struct store_account, lru);

        buf_printf(out, "  %s: %u pins, modseq %" PRIu64 ", %zu mailboxes\n",
                   a->user, a->pins, store_account_modseq(a), a->n_list);
        list_each(k, &a->mailboxes) {
            const struct store_mailbox *m =
                CONTAINER_OF(k, struct store_mailbox, link);

            buf_printf(out,
                       "    %s: %u pins, %" PRIu64 " messages, %zu rows, log "
                       "%" PRIu64 " bytes\n",
                       m->name, m->pins, m->messages, rows_count(m),
                       m->log_end);
        }
    }
}

/* ---- places ---- */

/* Close unpinned accounts, oldest first, until there is room for one more. */
static bool make_room(struct store *s)
{
    struct list *l = s->lru.next;

    while (l != &s->lru && (s->n_accounts >= s->cfg.max_accounts ||
                            s->bytes > s->cfg.max_bytes)) {
        struct store_account *a = CONTAINER_OF(l, struct store_account, lru);

        l = l->next;
        if (a->pins == 0)
            forget(s, a);
    }
    return s->n_accounts < (size_t)s->cfg.max_accounts * PINNED_FACTOR;
}

static size_t account_memory(const struct store_account *a)
{
    size_t n = sizeof *a + a->gone_size * sizeof *a->gone_ids +
               a->gone.n_slots * sizeof *a->gone.slots;

    list_each(l, &a->mailboxes)
        n += mailbox_memory(CONTAINER_OF(l, struct store_mailbox, link));
    return n;
}

void store_account_unref(struct store_account **ap)
{
    struct store_account *a = *ap;
    struct store *s;
    size_t bytes;

    if (!a)
        return;
    *ap = NULL;
    CHECK_OBJ(a, ACCOUNT_MAGIC);
    CHECK(a->pins > 0);
    if (--a->pins > 0)
        return;
    s = a->store;
    if (a->detached) {
        forget(s, a);
        return;
    }
    bytes = account_memory(a);
    s->bytes = s->bytes - a->bytes + bytes;
    a->bytes = bytes;
    if (s->bytes > s->cfg.max_bytes)
        (void)make_room(s);
}

/* Somebody removed or moved the Maildir: what we hold open is another one. */
bool store_account_detach_if_moved(struct store_account *a)
{
    struct stat held, named;

    a->checked = clock_mono();
    if (fstat(engine_dir_fd(a->dir), &held) < 0)
        return false;
    if (stat(a->path, &named) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return false;
    } else if (held.st_dev == named.st_dev && held.st_ino == named.st_ino) {
        return false;
    }
    if (!a->detached) {
        store_note(a, "%s is not the directory any more that it was", a->path);
        map_del(&a->store->accounts, &a->node);
        a->detached = true;
    }
    return true;
}

/* ---- where an account lies ---- */

struct place {
    slice path;
    slice index; /* empty: with the mail */
};

static int bad_location(struct err *err, slice location, const char *why)
{
    return err_temp(err, "mail_location \"%.*s\": %s", SLF(location), why);
}

static bool is_absolute(slice path)
{
    return path.n > 0 && path.p[0] == '/' &&
           slice_find(path, slice_of("", 1)) < 0;
}

static int parse_location(slice location, struct place *out, struct err *err)
{
    struct place p = { 0 };
    slice rest = location;
    slice part = SLICE_NONE;

    if (location.n > LOCATION_MAX)
        return err_temp(err, "mail_location is too long");
    if (!slice_starts(rest, SL("maildir:")))
        return bad_location(err, location, "only maildir: can be used");
    rest = slice_from(rest, 8);
    slice_cut(&rest, ':', &p.path);
    while (rest.n > 0) {
        slice_cut(&rest, ':', &part);
        if (!slice_starts(part, SL("INDEX=")))
            return bad_location(err, location, "only INDEX= can be used");
        p.index = slice_from(part, 6);
        if (!is_absolute(p.index))
            return bad_location(err, location, "INDEX is no absolute path");
    }
    if (!is_absolute(p.path))
        return bad_location(err, location, "no absolute path");
    *out = p;
    return 0;
}

static int open_dirs(struct store_account *a, const struct place *p,
                     bool create, struct err *err)
{
    struct engine *e = a->store->cfg.engine;
    unsigned flags = create ? ENGINE_CREATE : 0;
    char *path;
    enum engine_outcome o;

    a->path = slice_xstrdup(p->path);
    a->checked = clock_mono();
    /* Most Maildirs are there: look before making. */
    o = engine_dir_open(e, a->path, 0, &a->dir, err);
    if (o == ENGINE_NOENT && create)
        o = engine_dir_open(e, a->path, flags, &a->dir, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "open mailbox of", a->user);
    a->index_dir = a->dir;
    if (p->index.n == 0)
        return 0;
    path = slice_xstrdup(p->index);
    a->index_dir = NULL;
    o = engine_dir_open(e, path, ENGINE_CREATE, &a->index_dir, err);
    free(path);
    if (o != ENGINE_OK)
        return store_fail(o, err, "open index directory of", a->user);
    return 0;
}

static struct store_account *account_new(struct store *s, slice user,
                                         slice location, bool create,
                                         struct err *err)
{
    struct store_account *a;
    struct place place = { 0 };

    if (parse_location(location, &place, err) < 0)
        return NULL;
    if (!make_room(s)) {
        err_temp(err, "%zu accounts are in use", s->n_accounts);
        return NULL;
    }
    a = xcalloc(1, sizeof *a);
    a->magic = ACCOUNT_MAGIC;
    a->store = s;
    a->user = slice_xstrdup(user);
    a->location = slice_xstrdup(location);
    list_init(&a->lru);
    list_init(&a->mailboxes);
    if (open_dirs(a, &place, create, err) < 0 ||
        account_load(a, create, err) < 0) {
        account_close(a);
        return NULL;
    }
    map_put(&s->accounts, &a->node, slice_str(a->location));
    list_push(&s->lru, &a->lru);
    s->n_accounts++;
    return a;
}

static bool moved_away(struct store *s, struct store_account *a)
{
    if (!store_account_detach_if_moved(a))
        return false;
    if (a->pins == 0)
        forget(s, a);
    return true;
}

int store_account_open(struct store *s, slice user, slice location, bool create,
                       struct store_account **out, struct err *err)
{
    struct map_node *node;
    struct store_account *a;

    CHECK_OBJ(s, STORE_MAGIC);
    node = map_get(&s->accounts, location);
    a = node ? CONTAINER_OF(node, struct store_account, node) : NULL;
    if (a && clock_mono() - a->checked > CHECK_EVERY_MS && moved_away(s, a))
        a = NULL;
    if (a) {
        list_remove(&a->lru);
        list_push(&s->lru, &a->lru);
    } else {
        a = account_new(s, user, location, create, err);
        if (!a)
            return -1;
    }
    a->pins++;
    *out = a;
    return 0;
}

/* ---- before the end ---- */

struct at_end {
    struct store_mailbox *m; /* pinned */
    size_t rows;             /* when the sync began */
};

static size_t pin_all(struct store *s, struct at_end **out)
{
    size_t n = 0;

    list_each(l, &s->lru) {
        struct store_account *a = CONTAINER_OF(l, struct store_account, lru);

        list_each(k, &a->mailboxes)
            n++;
    }
    *out = xcalloc(n + 1, sizeof **out);
    n = 0;
    list_each(l, &s->lru) {
        struct store_account *a = CONTAINER_OF(l, struct store_account, lru);

        list_each(k, &a->mailboxes) {
            struct store_mailbox *m =
                CONTAINER_OF(k, struct store_mailbox, link);

            if (!m->loaded || m->is_gone)
                continue;
            m->pins++;
            a->pins++;
            (*out)[n++].m = m;
        }
    }
    return n;
}

static bool same_place(const struct store_mailbox *x,
                       const struct store_mailbox *y)
{
    return x->account->dev == y->account->dev &&
           x->account->index_dev == y->account->index_dev;
}

/* One sync serves all that lie in one place.  What is marked need not be held
 * against its files by who opens the mailbox next. */
MAY_WAIT static void mark_all(struct at_end *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct store_mailbox *m = all[i].m;
        struct err err;

        if (m->durable_rows >= rows_count(m))
            continue;
        for (size_t j = i; j < n; j++)
            all[j].rows = same_place(m, all[j].m) ? rows_count(all[j].m) : 0;
        if (store_mailbox_durable(m, &err) < 0)
            return;
        for (size_t j = i; j < n; j++)
            mailbox_mark_durable(all[j].m, all[j].rows);
    }
}

void store_idle(struct store *s)
{
    msec enough = clock_after(IDLE_MS);
    struct at_end *all;
    size_t n;

    CHECK_OBJ(s, STORE_MAGIC);
    n = pin_all(s, &all);
    for (size_t i = 0; i < n && clock_mono() < enough; i++) {
        struct store_mailbox *m = all[i].m;
        struct err err;

        mailbox_note_times(m); /* which the snapshot holds then */
        if (m->compacting || (!index_wants_compact(m) && !index_is_long(m) &&
                              !index_wants_rewrite(m)))
            continue;
        if (store_mailbox_compact(m, &err) < 0)
            store_note(m->account, "snapshot: %s", err.log);
    }
    mark_all(all, n);
    for (size_t i = 0; i < n; i++)
        store_mailbox_unref(&all[i].m);
    free(all);
}
