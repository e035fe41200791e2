#include "store/store_priv.h"

#include "rt/file.h"

#include <fcntl.h>

enum {
    DAMAGE_SKIP = 100000, /* UIDs that a lost log may have given out */
    KEEP_OPEN = 8,        /* mailboxes of an account with nobody in them */
};

/* ---- one object per mailbox of an open account ---- */

static struct store_mailbox *mailbox_new(struct store_account *a, slice name,
                                         const char *dir)
{
    struct store_mailbox *m = xcalloc(1, sizeof *m);

    m->magic = MAILBOX_MAGIC;
    m->account = a;
    m->is_inbox = dir[0] == '\0';
    m->name = m->is_inbox ? xstrdup("INBOX") : slice_xstrdup(name);
    if (!m->is_inbox)
        (void)snprintf(m->dir, sizeof m->dir, "%s/", dir);
    memcpy(m->index_dir, m->dir, sizeof m->index_dir);
    m->cache_fd = -1;
    list_init(&m->watches);
    rows_init(m);
    list_push(&a->mailboxes, &m->link);
    return m;
}

/* Give back the numbers that nobody was told of. */
static void release_numbers(struct store_mailbox *m)
{
    uint8_t b[4];
    struct err err;

    if (!m->loaded || m->reserved < m->uidnext || m->damaged || m->is_gone)
        return;
    set_u32(b, m->uidnext - 1);
    (void)index_append_buf(m, IR_RESERVE | ENGINE_MUST_UNDERSTAND,
                           slice_of(b, sizeof b), &err);
}

void mailbox_free(struct store_mailbox *m)
{
    CHECK(m->pins == 0);
    if (m->loaded && !m->is_gone)
        mailbox_note_times(m);
    release_numbers(m);
    if (m->account->inbox == m) {
        if (m->highestmodseq > m->account->modseq)
            m->account->modseq = m->highestmodseq;
        m->account->inbox = NULL;
    }
    list_remove(&m->link);
    watch_stop(m);
    timer_cancel(&m->tidy_timer);
    list_each_safe(l, tmp, &m->watches)
        list_remove(l);
    takeover_free(&m->takeover);
    index_close(m);
    rows_done(m);
    free(m->name);
    m->magic = 0;
    free(m);
}

struct store_mailbox *mailbox_find_open(struct store_account *a,
                                        const char *dir)
{
    size_t n = strlen(dir);

    list_each(l, &a->mailboxes) {
        struct store_mailbox *m = CONTAINER_OF(l, struct store_mailbox, link);

        if (m->is_inbox ? n == 0
                        : strncmp(m->dir, dir, n) == 0 && m->dir[n] == '/')
            return m;
    }
    return NULL;
}

int mailbox_refuse(struct err *err, int sys, const char *text)
{
    (void)err_set(err, ERR_PERM, "5.2.0", "%s", text);
    if (err)
        err->sys = sys;
    return -1;
}

int mailbox_check_there(const struct store_mailbox *m, struct err *err)
{
    return m->is_gone ? mailbox_refuse(err, ENOENT, "Mailbox was deleted") : 0;
}

bool store_mailbox_is_gone(const struct store_mailbox *m)
{
    return m->is_gone;
}

/* ---- making ---- */

/* *n_made counts those that were not there. */
static int make_dir(struct engine_dir *d, const char *base, const char *name,
                    size_t *n_made, struct err *err)
{
    char path[PATH_IN_DIR_MAX];
    enum engine_outcome o;

    if (name[0] == '\0') /* the folder itself, without its slash */
        (void)snprintf(path, sizeof path, "%.*s", (int)strlen(base) - 1, base);
    else
        (void)snprintf(path, sizeof path, "%s%s", base, name);
    o = engine_mkdir(d, path, 0700, err);
    if (o != ENGINE_OK && o != ENGINE_EXISTS)
        return store_fail(o, err, "make", path);
    *n_made += o == ENGINE_OK;
    return 0;
}

/* *fresh: nothing of it was there, so there can be no mail in it. */
static int make_folder(struct store_mailbox *m, bool *fresh, struct err *err)
{
    struct engine_dir *d = m->account->dir;
    char path[PATH_IN_DIR_MAX];
    size_t n_made = 0;
    int fd;

    if (make_dir(d, m->dir, "", &n_made, err) < 0 ||
        make_dir(d, m->dir, "cur", &n_made, err) < 0 ||
        make_dir(d, m->dir, "new", &n_made, err) < 0 ||
        make_dir(d, m->dir, "tmp", &n_made, err) < 0)
        return -1;
    *fresh = n_made == 4;
    /* Maildir++: it marks a folder for programs that were led into it. */
    (void)snprintf(path, sizeof path, "%smaildirfolder", m->dir);
    fd = file_openat(engine_dir_fd(d), path, O_WRONLY | O_CREAT | O_CLOEXEC,
                     0600);
    close_fd(&fd);
    return 0;
}

int mailbox_make_dirs(struct store_mailbox *m, struct err *err)
{
    bool fresh;

    return m->is_inbox ? account_make_dirs(m->account, err)
                       : make_folder(m, &fresh, err);
}

static bool folder_exists(const struct store_mailbox *m)
{
    char path[PATH_IN_DIR_MAX];
    uint64_t size;
    struct err err;

    if (m->is_inbox)
        return true;
    (void)snprintf(path, sizeof path, "%scur", m->dir);
    return engine_size(m->account->dir, path, &size, &err) == ENGINE_OK;
}

/* A log with holes may have given out more UIDs than it tells. */
static void skip_uids(struct store_mailbox *m)
{
    if (m->uidnext < UINT32_MAX - 2 * DAMAGE_SKIP)
        m->uidnext += DAMAGE_SKIP;
}

/* Numbers of another server.  True when they are to be used. */
static bool old_numbers(struct store_mailbox *m)
{
    struct takeover *t = takeover_read(m);

    if (!t)
        return false;
    m->takeover = t;
    for (size_t i = 0; i < N_KEYWORDS; i++)
        if (t->keyword[i])
            (void)keyword_set(m, i, slice_str(t->keyword[i]));
    if (t->has_guid && !id_is_zero(t->guid) &&
        !account_has_guid(m->account, t->guid))
        memcpy(m->guid, t->guid, ID_BYTES);
    if (t->uidvalidity == 0)
        return false;
    m->uidvalidity = t->uidvalidity;
    store_note(m->account, "%s: %zu UIDs of another server are kept", m->name,
               t->n);
    return true;
}

/* Numbers of a mailbox whose index told none. */
static int new_numbers(struct store_mailbox *m, bool fresh, struct err *err)
{
    const struct mailbox_entry *e =
        account_mailbox(m->account, slice_str(m->name));

    if (m->uidvalidity != 0) { /* the snapshot told */
        skip_uids(m);
        return 0;
    }
    if (e)
        memcpy(m->guid, e->guid, ID_BYTES);
    else
        random_bytes(m->guid, ID_BYTES);
    /* With an entry, the mailbox was ours before, and has given out UIDs that
     * the other server's list does not know. */
    if (!e && !fresh && old_numbers(m))
        return 0;
    /* The UIDs are lost: a client must not take new ones for old ones. */
    return account_next_uidvalidity(m->account, &m->uidvalidity, err);
}

static int make_index(struct store_mailbox *m, bool fresh, struct err *err)
{
    struct store_account *a = m->account;
    size_t n_made = 0;

    if (!m->is_inbox && a->index_dir != a->dir &&
        make_dir(a->index_dir, m->index_dir, "", &n_made, err) < 0)
        return -1;
    if (new_numbers(m, fresh, err) < 0)
        return -1;
    if (!fresh || m->damaged)
        return index_rewrite(m, err);
    if (index_log_create(m, INDEX_LOG, &m->log, err) < 0)
        return -1;
    memcpy(m->log_uuid, m->new_uuid, ID_BYTES);
    m->log_end = engine_log_end(m->log);
    m->last_instance = a->store->cfg.instance;
    return 0;
}

static int enter_list(struct store_mailbox *m, struct err *err)
{
    const struct mailbox_entry *e =
        account_mailbox(m->account, slice_str(m->name));

    if (e && e->uidvalidity == m->uidvalidity &&
        memcmp(e->guid, m->guid, ID_BYTES) == 0)
        return 0;
    return account_add_mailbox(m->account, slice_str(m->name), m->guid,
                               m->uidvalidity, err);
}

/* ---- opening ---- */

static int recover(struct store_mailbox *m, struct err *err)
{
    bool rewrite = m->damaged;

    if (rewrite)
        store_note(m->account, "index of %s is damaged: rebuilding it",
                   m->name);
    /* With all of it durable, directories that have the time that they had
     * when they were last held against it hold what they held then. */
    if (mailbox_scan(m,
                     SCAN_RECOVER | (rewrite || m->durable_rows < rows_count(m)
                                         ? SCAN_FORCE
                                         : 0),
                     err) < 0)
        return -1;
    return rewrite ? index_rewrite(m, err) : 0;
}

static int mailbox_load(struct store_mailbox *m, unsigned flags,
                        struct err *err)
{
    struct store_account *a = m->account;
    bool fresh = m->is_inbox && a->fresh;
    int rc = index_load(m, err);

    if (rc < 0)
        return -1;
    if (m->is_inbox)
        a->inbox = m; /* scanning gives out numbers */
    if (rc > 0) {
        uint64_t now = a->store->cfg.instance;

        if (m->damaged)
            skip_uids(m);
        if (m->damaged || now == 0 || m->last_instance != now)
            return recover(m, err);
        return 0;
    }
    if (!folder_exists(m)) {
        if (!(flags & STORE_CREATE))
            return mailbox_refuse(err, ENOENT, "No such mailbox");
        if (make_folder(m, &fresh, err) < 0)
            return -1;
    }
    if (make_index(m, fresh, err) < 0 || enter_list(m, err) < 0)
        return -1;
    rc = fresh ? 0 : recover(m, err);
    takeover_free(&m->takeover);
    return rc;
}

int mailbox_get(struct store_account *a, slice name, unsigned flags,
                struct store_mailbox **out, struct err *err)
{
    char dir[MAILBOX_DIR_MAX + 1];
    struct store_mailbox *m;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (mailbox_dir_of(name, dir, err) < 0)
        return -1;
    m = mailbox_find_open(a, dir);
    if (!m) {
        m = mailbox_new(a, name, dir);
        if (mailbox_load(m, flags, err) < 0) {
            mailbox_free(m);
            return -1;
        }
        m->loaded = true;
        if (m->n_doomed + m->n_renamed > 0)
            tidy_later(m);
        moves_finish(m);
        mailbox_compact_if_due(m);
        if (m->is_inbox)
            a->fresh = false;
    }
    *out = m;
    return 0;
}

int store_mailbox_open(struct store_account *a, slice name, unsigned flags,
                       struct store_mailbox **out, struct err *err)
{
    struct store_mailbox *m;

    if (mailbox_get(a, name, flags, &m, err) < 0)
        return -1;
    m->pins++;
    a->pins++;
    *out = m;
    return 0;
}

/* With nobody in it: drop what a later open reads faster from the snapshot,
 * and what an account with many folders need not keep. */
static void drop_idle(struct store_mailbox *m)
{
    size_t n = 0;

    if (m->pins > 0 || m->compacting)
        return;
    if (m->is_gone) {
        mailbox_free(m);
        return;
    }
    list_each(l, &m->account->mailboxes)
        n++;
    if ((m->tail_n > 1000 && m->snapshot_rows >= m->base_n + m->tail_n / 2) ||
        (n > KEEP_OPEN && !m->is_inbox)) {
        account_tell_usage(m->account);
        mailbox_free(m);
    }
}

void store_mailbox_unref(struct store_mailbox **mp)
{
    struct store_mailbox *m = *mp;
    struct store_account *a;

    if (!m)
        return;
    *mp = NULL;
    CHECK_OBJ(m, MAILBOX_MAGIC);
    CHECK(m->pins > 0);
    a = m->account;
    m->pins--;
    drop_idle(m);
    store_account_unref(&a);
}

void store_mailbox_status(const struct store_mailbox *m,
                          struct store_status *out)
{
    CHECK_OBJ(m, MAILBOX_MAGIC);
    *out = (struct store_status){
        .uidvalidity = m->uidvalidity,
        .uidnext = m->uidnext,
        .highestmodseq = m->highestmodseq,
        .messages = m->messages,
        .unseen = m->unseen,
        .deleted = m->deleted,
        .bytes = m->crlf_bytes,
    };
    memcpy(out->guid, m->guid, ID_BYTES);
}

slice store_mailbox_name(const struct store_mailbox *m)
{
    return slice_str(m->name);
}

struct store_account *store_mailbox_account(const struct store_mailbox *m)
{
    return m->account;
}

/* ---- rows ---- */

size_t store_rows(const struct store_mailbox *m)
{
    return rows_count(m);
}

uint32_t store_row_uid(const struct store_mailbox *m, size_t row)
{
    return row_is_hole(m, row) ? 0 : ROW_FIELD(m, row, uid);
}

uint32_t store_row_flags(const struct store_mailbox *m, size_t row)
{
    return ROW_FIELD(m, row, flags);
}

uint64_t store_row_modseq(const struct store_mailbox *m, size_t row)
{
    return ROW_FIELD(m, row, modseq);
}

uint64_t store_row_crlf_size(const struct store_mailbox *m, size_t row)
{
    return ROW_FIELD(m, row, crlf_size);
}

uint64_t store_row_keywords(const struct store_mailbox *m, size_t row)
{
    return ROW_FIELD(m, row, keywords);
}

int64_t store_row_internaldate(const struct store_mailbox *m, size_t row)
{
    return ROW_FIELD(m, row, idate);
}

static void row_tell(const struct store_mailbox *m, size_t row,
                     struct store_row *out)
{
    struct row r;

    CHECK(row < rows_count(m));
    row_load(m, row, &r);
    *out = (struct store_row){
        .uid = r.uid,
        .flags = r.flags,
        .keywords = r.keywords,
        .modseq = r.modseq,
        .created_modseq = r.created,
        .internaldate = r.idate,
        .savedate = r.sdate,
        .size = r.size,
        .crlf_size = r.crlf_size,
        .letters = r.letters,
        .in_new = (r.state & ROW_IN_NEW) != 0,
        .has_uidl = (r.state & ROW_UIDL) != 0,
        .crc = r.crc,
        .cache_version = r.cache_version,
        .base_name = row_name(m, row),
    };
    memcpy(out->emailid, r.emailid, ID_BYTES);
    memcpy(out->threadid, r.threadid, ID_BYTES);
    memcpy(out->delivery_id, r.id, ID_BYTES);
}

bool store_row_get(const struct store_mailbox *m, size_t row,
                   struct store_row *out)
{
    CHECK(row < rows_count(m));
    if (row_is_hole(m, row))
        return false;
    row_tell(m, row, out);
    return true;
}

void store_view_get(const struct store_view *v, size_t row,
                    struct store_row *out)
{
    row_tell(v->mailbox, row, out);
}

size_t store_row_by_delivery_id(struct store_mailbox *m,
                                const uint8_t id[static 16])
{
    return row_by_id(m, id);
}

bool store_cached_view(struct store_mailbox *m, size_t row,
                       enum store_cached what, slice *out)
{
    slice all;

    CHECK(row < rows_count(m));
    return index_strings_view(m, row, &all) &&
           attr_find(all, (uint16_t)what, out);
}

bool store_cached(struct store_mailbox *m, size_t row, enum store_cached what,
                  struct buf *out)
{
    slice v;

    return store_cached_view(m, row, what, &v) && buf_slice(out, v);
}

int store_mailbox_rebuild(struct store_mailbox *m, struct err *err)
{
    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (mailbox_scan(m, SCAN_FORCE, err) < 0)
        return -1;
    return index_rewrite(m, err);
}
