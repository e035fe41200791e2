#include "store/store_priv.h"

/* Which folders there are: directories, the levels above them, and what is
 * subscribed to. */

enum { FOLDERS_MAX = 100000 };

struct folder {
    char *name; /* UTF-8 */
    bool exists;
    bool subscribed;
};

struct listing {
    struct store_account *account;
    struct folder *list;
    size_t n, size;
};

static void listing_done(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->list[i].name);
    free(l->list);
}

static void put(struct listing *l, slice name, bool exists, bool subscribed)
{
    if (l->n >= FOLDERS_MAX)
        return;
    if (l->n == l->size) {
        l->size = l->size ? l->size * 2 : 32;
        l->list = xrealloc(l->list, l->size * sizeof *l->list);
    }
    l->list[l->n++] =
        (struct folder){ slice_xstrdup(name), exists, subscribed };
}

/* Every level above a name. */
static void put_parents(struct listing *l, slice name)
{
    for (size_t i = 1; i < name.n; i++)
        if (name.p[i] == '.')
            put(l, slice_sub(name, 0, i), false, false);
}

static bool on_entry(const char *entry, void *arg)
{
    struct listing *l = arg;
    struct buf name CLEANUP(buf_done) = { 0 };
    char cur[PATH_IN_DIR_MAX];
    uint64_t size;
    struct err err;

    if (entry[0] != '.')
        return true;
    buf_init(&name, (size_t)4 * MAILBOX_DIR_MAX);
    if (!mailbox_name_of(slice_str(entry), &name) ||
        !store_folder_name_ok(buf_view(&name), &err))
        return true;
    (void)snprintf(cur, sizeof cur, "%s/cur", entry);
    if (engine_size(l->account->dir, cur, &size, &err) == ENGINE_OK) {
        put(l, buf_view(&name), true, false);
        put_parents(l, buf_view(&name));
    }
    return true;
}

static void put_subscribed(struct listing *l, const struct subs *s)
{
    struct err err;

    for (size_t i = 0; i < s->n; i++) {
        struct buf name CLEANUP(buf_done) = { 0 };

        buf_init(&name, (size_t)4 * MAILBOX_DIR_MAX);
        if (strcmp(s->name[i], "INBOX") == 0)
            put(l, SL("INBOX"), true, true);
        else if (utf7_decode(&name, slice_str(s->name[i])) &&
                 store_folder_name_ok(buf_view(&name), &err))
            put(l, buf_view(&name), false, true);
    }
}

/* ---- order: INBOX, then by level, so that children follow their parent */

static bool is_inbox(const char *name)
{
    return strncmp(name, "INBOX", 5) == 0 &&
           (name[5] == '\0' || name[5] == '.');
}

static unsigned rank(char c)
{
    return c == '\0' ? 0 : c == '.' ? 1 : (unsigned)(uint8_t)c + 1;
}

static int folder_cmp(const void *a, const void *b)
{
    const char *x = ((const struct folder *)a)->name;
    const char *y = ((const struct folder *)b)->name;
    bool ix = is_inbox(x);

    if (ix != is_inbox(y))
        return ix ? -1 : 1;
    while (*x && *x == *y) {
        x++;
        y++;
    }
    return rank(*x) < rank(*y) ? -1 : rank(*x) > rank(*y);
}

static void merge_equal(struct listing *l)
{
    size_t n = 0;

    qsort(l->list, l->n, sizeof *l->list, folder_cmp);
    for (size_t i = 0; i < l->n; i++) {
        struct folder *last = n > 0 ? &l->list[n - 1] : NULL;

        if (last && strcmp(last->name, l->list[i].name) == 0) {
            last->exists = last->exists || l->list[i].exists;
            last->subscribed = last->subscribed || l->list[i].subscribed;
            free(l->list[i].name);
        } else {
            l->list[n++] = l->list[i];
        }
    }
    l->n = n;
}

static bool has_children(const struct listing *l, size_t i)
{
    const char *name = l->list[i].name;
    size_t n = strlen(name);

    for (size_t k = i + 1; k < l->n; k++) {
        if (strncmp(l->list[k].name, name, n) != 0 || l->list[k].name[n] != '.')
            return false;
        if (l->list[k].exists)
            return true;
    }
    return false;
}

/* ---- what they are for ---- */

static const struct store_special default_special[] = {
    { "Drafts", STORE_USE_DRAFTS },      { "Junk", STORE_USE_JUNK },
    { "Trash", STORE_USE_TRASH },        { "Sent", STORE_USE_SENT },
    { "Sent Messages", STORE_USE_SENT }, { "Archive", STORE_USE_ARCHIVE },
};

static unsigned use_by_name(const struct store *s, const char *name)
{
    const struct store_special *list = s->cfg.special;
    size_t n = s->cfg.n_special;

    if (!list) {
        list = default_special;
        n = ARRAY_LEN(default_special);
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return list[i].use;
    return 0;
}

static unsigned use_of(struct store_account *a, const char *name,
                       unsigned claimed)
{
    const struct mailbox_entry *e = account_mailbox(a, slice_str(name));

    if (e && e->use)
        return e->use;
    return use_by_name(a->store, name) & ~claimed;
}

/* ---- telling ---- */

static void tell(struct listing *l,
                 bool (*fn)(void *arg, const struct store_folder *f), void *arg)
{
    struct store_account *a = l->account;
    unsigned claimed = 0; /* what CREATE ... (USE) gave to some mailbox */

    for (size_t i = 0; i < a->n_list; i++)
        claimed |= a->list[i].use;
    for (size_t i = 0; i < l->n; i++) {
        const struct folder *f = &l->list[i];
        struct store_folder out = {
            .name = slice_str(f->name),
            .exists = f->exists,
            .has_children = has_children(l, i),
            .subscribed = f->subscribed,
            .use = f->exists ? use_of(a, f->name, claimed) : 0,
        };

        if (!fn(arg, &out))
            return;
    }
}

int store_folders(struct store_account *a,
                  bool (*fn)(void *arg, const struct store_folder *f),
                  void *arg, struct err *err)
{
    struct listing l = { .account = a };
    struct subs s CLEANUP(subs_done) = { 0 };
    enum engine_outcome o;
    int rc = 0;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (subs_load(a, &s, err) < 0)
        return -1;
    put(&l, SL("INBOX"), true, false);
    o = engine_list(a->dir, "", on_entry, &l, err);
    if (o == ENGINE_OK) {
        put_subscribed(&l, &s);
        merge_equal(&l);
        tell(&l, fn, arg);
    } else {
        rc = store_fail(o, err, "list mailboxes of", a->user);
    }
    listing_done(&l);
    return rc;
}

struct names_walk {
    bool (*fn)(void *arg, slice name);
    void *arg;
};

static bool tell_name(void *arg, const struct store_folder *f)
{
    struct names_walk *w = arg;

    return !f->exists || w->fn(w->arg, f->name);
}

int store_mailbox_list(struct store_account *a,
                       bool (*fn)(void *arg, slice name), void *arg,
                       struct err *err)
{
    struct names_walk w = { fn, arg };

    return store_folders(a, tell_name, &w, err);
}
