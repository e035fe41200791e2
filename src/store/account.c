#include "store/store_priv.h"

#include "rt/file.h"
#include <sys/stat.h>

/* Records of hato.account; doc/store.md. */
enum {
    AR_ACCOUNT = 1,     /* id, created i64, login name when it was made */
    AR_FLOOR = 2,       /* MODSEQs up to here may have been used */
    AR_UIDVALIDITY = 3, /* last one given */
    AR_MAILBOX = 4,     /* guid, uidvalidity, name */
    AR_MAILBOX_GONE = 5,
    AR_GONE = 6,  /* time i64, ids of expunged mail */
    AR_USAGE = 7, /* guid, bytes, messages */
    AR_USE = 8,   /* guid, enum store_use u32 */
    AR_LAST = AR_USE,
};

enum {
    ACCOUNT_VERSION = 1,
    FLOOR_STEP = 65536,
    GONE_RECORD = 4096, /* ids of one record */
    REWRITE_FROM = 256 << 10,
};

#define ACCOUNT_NEW "hato.account.new"
#define ACCOUNT_BAD "hato.account.bad"

static const struct engine_log_spec account_spec = {
    .name = ACCOUNT_LOG,
    .kind = { 'A', 'C', 'C', 'T' },
    .version = ACCOUNT_VERSION,
    .oldest = ACCOUNT_VERSION,
    .max_bytes = UINT64_C(1) << 40,
};

/* ---- what the log says ---- */

static struct mailbox_entry *entry_by_guid(struct store_account *a,
                                           const char *guid)
{
    for (size_t i = 0; i < a->n_list; i++)
        if (memcmp(a->list[i].guid, guid, ID_BYTES) == 0)
            return &a->list[i];
    return NULL;
}

struct mailbox_entry *account_mailbox(struct store_account *a, slice name)
{
    for (size_t i = 0; i < a->n_list; i++)
        if (slice_eqs(name, a->list[i].name))
            return &a->list[i];
    return NULL;
}

static void drop_entry(struct store_account *a, struct mailbox_entry *e)
{
    if (!e)
        return;
    free(e->name);
    *e = a->list[--a->n_list];
}

bool account_has_guid(struct store_account *a, const uint8_t *guid)
{
    return entry_by_guid(a, (const char *)guid) != NULL;
}

bool account_name_of(struct store_account *a, const uint8_t *guid, slice *name)
{
    const struct mailbox_entry *e = entry_by_guid(a, (const char *)guid);

    if (!e)
        return false;
    *name = slice_str(e->name);
    return true;
}

static bool apply_mailbox(struct store_account *a, slice p)
{
    struct mailbox_entry *e;

    if (p.n < 21 || p.n > 20 + 4 * MAILBOX_DIR_MAX)
        return false;
    /* Another one of this name was deleted behind our back. */
    e = account_mailbox(a, slice_from(p, 20));
    if (e && memcmp(e->guid, p.p, ID_BYTES) != 0)
        drop_entry(a, e);
    e = entry_by_guid(a, p.p);
    if (!e) {
        if (a->n_list == a->list_size) {
            a->list_size = a->list_size ? a->list_size * 2 : 4;
            a->list = xrealloc(a->list, a->list_size * sizeof *a->list);
        }
        e = &a->list[a->n_list++];
        *e = (struct mailbox_entry){ 0 };
        memcpy(e->guid, p.p, ID_BYTES);
    }
    free(e->name);
    e->name = slice_xstrdup(slice_from(p, 20));
    e->uidvalidity = get_u32(p.p + 16);
    if (e->uidvalidity > a->uidvalidity)
        a->uidvalidity = e->uidvalidity;
    return true;
}

static void gone_put(struct store_account *a, const uint8_t *id, int64_t when)
{
    if (a->n_gone >= GONE_MAX || idset_get(&a->gone, id))
        return;
    if (a->n_gone == a->gone_size) {
        a->gone_size = a->gone_size ? a->gone_size * 2 : 16;
        a->gone_ids = xrealloc(a->gone_ids, a->gone_size * sizeof *a->gone_ids);
    }
    memcpy(a->gone_ids[a->n_gone].id, id, ID_BYTES);
    a->gone_ids[a->n_gone++].when = when;
    idset_put(&a->gone, id, (uint32_t)a->n_gone);
}

static int64_t gone_keep(const struct store_account *a)
{
    int64_t keep = a->store->cfg.gone_keep_s;

    return keep > 0 ? keep : INT64_C(8) * 86400;
}

bool account_may_retry(const struct store_account *a, int64_t delivered)
{
    return delivered >= clock_wall() / 1000 - gone_keep(a);
}

static bool apply_gone(struct store_account *a, slice p)
{
    ssize_t n = list_count(p, 8, ID_BYTES);
    int64_t when;

    if (n < 0)
        return false;
    when = (int64_t)get_u64(p.p);
    if (!account_may_retry(a, when))
        return true;
    for (ssize_t i = 0; i < n; i++)
        gone_put(a, (const uint8_t *)p.p + 8 + ID_BYTES * (size_t)i, when);
    return true;
}

static bool apply_usage(struct store_account *a, slice p)
{
    struct mailbox_entry *e;

    if (p.n < 32)
        return false;
    e = entry_by_guid(a, p.p);
    if (e) {
        e->bytes = get_u64(p.p + 16);
        e->messages = get_u64(p.p + 24);
    }
    return true;
}

static bool apply_use(struct store_account *a, slice p)
{
    struct mailbox_entry *e;

    if (p.n < 20)
        return false;
    e = entry_by_guid(a, p.p);
    if (e)
        e->use = get_u32(p.p + 16);
    return true;
}

static bool account_apply(struct store_account *a, uint16_t type, slice p)
{
    switch (type) {
    case AR_ACCOUNT:
        if (p.n < 24)
            return false;
        memcpy(a->id, p.p, ID_BYTES);
        return true;
    case AR_FLOOR:
        if (p.n < 8)
            return false;
        if (get_u64(p.p) > a->floor)
            a->floor = get_u64(p.p);
        return true;
    case AR_UIDVALIDITY:
        if (p.n < 4)
            return false;
        if (get_u32(p.p) > a->uidvalidity)
            a->uidvalidity = get_u32(p.p);
        return true;
    case AR_MAILBOX:
        return apply_mailbox(a, p);
    case AR_MAILBOX_GONE:
        if (p.n < ID_BYTES)
            return false;
        drop_entry(a, entry_by_guid(a, p.p));
        return true;
    case AR_GONE:
        return apply_gone(a, p);
    case AR_USAGE:
        return apply_usage(a, p);
    case AR_USE:
        return apply_use(a, p);
    default:
        return true;
    }
}

/* ---- appending ---- */

static int put(struct engine_log *log, uint16_t type, const struct buf *b,
               struct err *err)
{
    struct iovec v = { b->p, b->n };
    enum engine_outcome o = engine_log_append(log, type, &v, 1, 0, NULL, err);

    return o == ENGINE_OK ? 0 : store_fail(o, err, "append to", ACCOUNT_LOG);
}

static int account_append(struct store_account *a, uint16_t type,
                          const struct buf *b, struct err *err)
{
    enum engine_outcome o;

    if (!a->log || !engine_log_is_open(a->log)) {
        engine_log_close(&a->log);
        o = engine_log_open(a->dir, a->lease, &account_spec, a->log_end,
                            &a->log, err);
        if (o != ENGINE_OK)
            return store_fail(o, err, "open", ACCOUNT_LOG);
    }
    if (put(a->log, type, b, err) < 0)
        return -1;
    a->log_end = engine_log_end(a->log);
    return 0;
}

static void mailbox_record(struct buf *b, const uint8_t *guid,
                           uint32_t uidvalidity, slice name)
{
    buf_clear(b);
    buf_put(b, guid, ID_BYTES);
    buf_u32(b, uidvalidity);
    buf_slice(b, name);
}

int account_add_mailbox(struct store_account *a, slice name,
                        const uint8_t *guid, uint32_t uidvalidity,
                        struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 4096);
    mailbox_record(&b, guid, uidvalidity, name);
    if (account_append(a, AR_MAILBOX, &b, err) < 0)
        return -1;
    (void)apply_mailbox(a, buf_view(&b));
    return 0;
}

static void use_record(struct buf *b, const uint8_t *guid, unsigned use)
{
    buf_clear(b);
    buf_put(b, guid, ID_BYTES);
    buf_u32(b, use);
}

int account_set_use(struct store_account *a, const uint8_t *guid, unsigned use,
                    struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 64);
    use_record(&b, guid, use);
    if (account_append(a, AR_USE, &b, err) < 0)
        return -1;
    (void)apply_use(a, buf_view(&b));
    return 0;
}

void account_drop_mailbox(struct store_account *a, const uint8_t *guid)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&b, 64);
    buf_put(&b, guid, ID_BYTES);
    /* Without the record the list has an entry too many, no more. */
    if (account_append(a, AR_MAILBOX_GONE, &b, &err) < 0)
        store_note(a, "deleted mailbox: %s", err.log);
    drop_entry(a, entry_by_guid(a, (const char *)guid));
}

int account_next_uidvalidity(struct store_account *a, uint32_t *out,
                             struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    uint32_t now = (uint32_t)(clock_wall() / 1000);
    uint32_t next = a->uidvalidity >= now ? a->uidvalidity + 1 : now;

    buf_init(&b, 16);
    buf_u32(&b, next);
    if (account_append(a, AR_UIDVALIDITY, &b, err) < 0)
        return -1;
    a->uidvalidity = next;
    *out = next;
    return 0;
}

int account_raise_floor(struct store_account *a, uint64_t floor,
                        struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    if (floor <= a->floor)
        return 0;
    buf_init(&b, 16);
    buf_u64(&b, floor);
    if (account_append(a, AR_FLOOR, &b, err) < 0)
        return -1;
    a->floor = floor;
    return 0;
}

/*
 * MODSEQs that INBOX uses are known from its index, which is read whenever an
 * account numbers something; for all other mailboxes the account's log says
 * up to where they may have gone, so that an account can be opened without
 * reading every one of them.
 */
int account_next_modseq(struct store_account *a, struct store_mailbox *m,
                        uint64_t *out, struct err *err)
{
    struct store_mailbox *inbox = a->inbox;

    if (!inbox && mailbox_get(a, SL("INBOX"), STORE_CREATE, &inbox, err) < 0)
        return -1;
    if (inbox->highestmodseq > a->modseq)
        a->modseq = inbox->highestmodseq;
    if (m->highestmodseq > a->modseq)
        a->modseq = m->highestmodseq;
    if (!m->is_inbox && a->modseq + 1 > a->floor &&
        account_raise_floor(a, a->modseq + 1 + FLOOR_STEP, err) < 0)
        return -1;
    *out = ++a->modseq;
    return 0;
}

bool account_knows_gone(const struct store_account *a, const uint8_t *id)
{
    return idset_get(&a->gone, id) != 0;
}

int account_gone(struct store_account *a, const uint8_t (*ids)[ID_BYTES],
                 size_t n, struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    int64_t now = clock_wall() / 1000;

    buf_init(&b, 8 + GONE_RECORD * ID_BYTES);
    for (size_t i = 0; i < n; i += GONE_RECORD) {
        size_t some = min_size(n - i, GONE_RECORD);

        buf_clear(&b);
        buf_u64(&b, (uint64_t)now);
        buf_put(&b, ids[i], some * ID_BYTES);
        if (account_append(a, AR_GONE, &b, err) < 0)
            return -1;
        (void)apply_gone(a, buf_view(&b));
    }
    return 0;
}

static void usage_record(struct buf *b, const uint8_t *guid, uint64_t bytes,
                         uint64_t messages)
{
    buf_clear(b);
    buf_put(b, guid, ID_BYTES);
    buf_u64(b, bytes);
    buf_u64(b, messages);
}

/* INBOX is always read when the account counts, so its figures stand in its
 * index alone. */
void account_tell_usage(struct store_account *a)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&b, 64);
    list_each(l, &a->mailboxes) {
        struct store_mailbox *m = CONTAINER_OF(l, struct store_mailbox, link);
        struct mailbox_entry *e = account_mailbox(a, slice_str(m->name));

        if (m->is_inbox || !m->loaded || !e ||
            (e->bytes == m->bytes && e->messages == m->messages))
            continue;
        usage_record(&b, m->guid, m->bytes, m->messages);
        /* Only a hint until the mailbox is opened again: trouble is no
         * matter. */
        if (account_append(a, AR_USAGE, &b, &err) == 0) {
            e->bytes = m->bytes;
            e->messages = m->messages;
        }
    }
}

void store_account_usage(const struct store_account *a, struct store_usage *out)
{
    struct store_usage u = { 0 };

    for (size_t i = 0; i < a->n_list; i++) {
        const struct mailbox_entry *e = &a->list[i];
        const struct store_mailbox *open = NULL;

        list_each(l, &a->mailboxes) {
            const struct store_mailbox *m =
                CONTAINER_OF(l, struct store_mailbox, link);

            if (m->loaded && strcmp(m->name, e->name) == 0)
                open = m;
        }
        u.bytes += open ? open->bytes : e->bytes;
        u.messages += open ? open->messages : e->messages;
    }
    *out = u;
}

/* ---- making and opening ---- */

/* Everything that is known, as records of a new log. */
static int write_all(struct store_account *a, struct engine_log *log,
                     struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 8 + GONE_RECORD * ID_BYTES);
    buf_put(&b, a->id, ID_BYTES);
    buf_u64(&b, (uint64_t)(clock_wall() / 1000));
    buf_puts(&b, a->user);
    if (put(log, AR_ACCOUNT | ENGINE_MUST_UNDERSTAND, &b, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u64(&b, a->floor);
    if (a->floor > 0 && put(log, AR_FLOOR, &b, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u32(&b, a->uidvalidity);
    if (a->uidvalidity > 0 && put(log, AR_UIDVALIDITY, &b, err) < 0)
        return -1;
    for (size_t i = 0; i < a->n_list; i++) {
        const struct mailbox_entry *e = &a->list[i];

        mailbox_record(&b, e->guid, e->uidvalidity, slice_str(e->name));
        if (put(log, AR_MAILBOX, &b, err) < 0)
            return -1;
        usage_record(&b, e->guid, e->bytes, e->messages);
        if (e->messages > 0 && put(log, AR_USAGE, &b, err) < 0)
            return -1;
        use_record(&b, e->guid, e->use);
        if (e->use != 0 && put(log, AR_USE, &b, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < a->n_gone; i++) {
        buf_clear(&b);
        buf_u64(&b, (uint64_t)a->gone_ids[i].when);
        buf_put(&b, a->gone_ids[i].id, ID_BYTES);
        for (; i + 1 < a->n_gone && b.n < 8 + GONE_RECORD * ID_BYTES &&
               a->gone_ids[i + 1].when == a->gone_ids[i].when;
             i++)
            buf_put(&b, a->gone_ids[i + 1].id, ID_BYTES);
        if (put(log, AR_GONE, &b, err) < 0)
            return -1;
    }
    return 0;
}

/* Put a log with everything that is known in the place of the old one. */
static int account_rewrite(struct store_account *a, struct err *err)
{
    struct engine_log_spec spec = account_spec;
    struct engine_log *log = NULL;
    enum engine_outcome o;
    int rc;

    spec.name = ACCOUNT_NEW;
    random_bytes(spec.uuid, sizeof spec.uuid);
    (void)engine_unlink(a->dir, ACCOUNT_NEW, NULL);
    o = engine_log_create(a->dir, a->lease, &spec, &log, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "create", ACCOUNT_NEW);
    rc = write_all(a, log, err);
    if (rc == 0 && file_fdatasync(engine_log_fd(log)) < 0)
        rc = err_sys(err, "sync " ACCOUNT_NEW);
    if (rc == 0) {
        o = engine_rename(a->dir, ACCOUNT_NEW, ACCOUNT_LOG, err);
        rc = o == ENGINE_OK ? 0 : store_fail(o, err, "replace", ACCOUNT_LOG);
    }
    if (rc == 0) {
        engine_log_close(&a->log);
        a->log_end = engine_log_end(log);
        a->log_live = a->log_end;
    } else {
        (void)engine_unlink(a->dir, ACCOUNT_NEW, NULL);
    }
    engine_log_close(&log);
    return rc;
}

static int make_dirs(struct store_account *a, size_t *n_made, struct err *err)
{
    static const char *const dirs[] = { "cur", "new", "tmp" };

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        enum engine_outcome o = engine_mkdir(a->dir, dirs[i], 0700, err);

        if (o != ENGINE_OK && o != ENGINE_EXISTS)
            return store_fail(o, err, "make Maildir of", a->user);
        *n_made += o == ENGINE_OK;
    }
    return 0;
}

/* Without an account's log: the index of INBOX may still tell its id. */
static void find_id(struct store_account *a)
{
    struct engine_log_spec spec = { .name = INDEX_LOG,
                                    .kind = { 'M', 'B', 'O', 'X' },
                                    .version = 1 };
    struct engine_reader *r = NULL;
    struct engine_log_info info;
    struct engine_record rec;
    struct header_record h;
    struct err err;

    random_bytes(a->id, ID_BYTES);
    if (engine_reader_open(a->index_dir, &spec, &r, &info, &err) != ENGINE_OK)
        return;
    if (engine_reader_next(r, &rec, &err) > 0 && rec.type == IR_HEADER &&
        header_decode(rec.payload, &h))
        memcpy(a->id, h.account, ID_BYTES);
    engine_reader_free(&r);
    /* Numbers that were given may be forgotten.  No account has had a change
     * a millisecond since 1970. */
    a->floor = (uint64_t)clock_wall();
}

static int account_make(struct store_account *a, bool was_bad, struct err *err)
{
    struct engine_log_spec spec = account_spec;
    enum engine_outcome o;

    size_t n_made = 0;

    if (make_dirs(a, &n_made, err) < 0)
        return -1;
    find_id(a);
    a->uidvalidity = takeover_last_uidvalidity(a);
    a->fresh = n_made == 3; /* else there may be mail in it */
    if (was_bad) {
        store_note(a, "%s is damaged: made anew, the old one is %s",
                   ACCOUNT_LOG, ACCOUNT_BAD);
        (void)engine_rename(a->dir, ACCOUNT_LOG, ACCOUNT_BAD, NULL);
    }
    random_bytes(spec.uuid, sizeof spec.uuid);
    o = engine_log_create(a->dir, a->lease, &spec, &a->log, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "create", ACCOUNT_LOG);
    if (write_all(a, a->log, err) < 0) {
        engine_log_close(&a->log);
        (void)engine_unlink(a->dir, ACCOUNT_LOG, NULL);
        return -1;
    }
    a->log_end = engine_log_end(a->log);
    return 0;
}

static int account_read(struct store_account *a, struct engine_reader *r,
                        struct err *err)
{
    struct engine_record rec;
    bool known = false;
    int got;

    for (;;) {
        got = engine_reader_next(r, &rec, err);
        if (got < 0)
            return err_prefix(err, ACCOUNT_LOG);
        if (got == 0)
            break;
        if (rec.type > AR_LAST && rec.must)
            return err_temp(err, ACCOUNT_LOG " was written by a newer release");
        if (!account_apply(a, rec.type, rec.payload))
            a->is_damaged = true;
        known = known || rec.type == AR_ACCOUNT;
    }
    a->log_end = engine_reader_end(r);
    if (!known) {
        find_id(a);
        a->is_damaged = true;
    }
    return 0;
}

static bool is_newer(int fd)
{
    uint8_t head[ENGINE_LOG_HEAD];

    return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
           memcmp(head, "HATOACCT", 8) == 0 &&
           get_u32(head + 60) == crc32c(0, head, 60) &&
           get_u16(head + 10) > ACCOUNT_VERSION;
}

static int account_open_log(struct store_account *a, bool create,
                            struct err *err)
{
    struct engine_reader *r = NULL;
    struct engine_log_info info;
    int fd CLEANUP(close_fd) = -1;
    enum engine_outcome o;
    uint64_t size;
    int rc;

    o = engine_get(a->dir, ACCOUNT_LOG, &fd, &size, err);
    if (o == ENGINE_NOENT && create)
        return account_make(a, false, err);
    if (o == ENGINE_OK)
        o = engine_reader_fd(fd, &account_spec, &r, &info, err);
    if (o == ENGINE_CHANGED && !is_newer(fd))
        return account_make(a, true, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "open", ACCOUNT_LOG);
    rc = account_read(a, r, err);
    engine_reader_free(&r);
    if (rc < 0)
        return -1;
    a->modseq = a->floor;
    a->log_live = 256 + a->n_list * 128 + a->n_gone * ID_BYTES;
    if (a->is_damaged)
        store_note(a, ACCOUNT_LOG " is damaged: what it tells is kept");
    if (a->is_damaged ||
        (a->log_end > REWRITE_FROM && a->log_end > 2 * a->log_live))
        return account_rewrite(a, err);
    return 0;
}

int account_load(struct store_account *a, bool create, struct err *err)
{
    enum engine_outcome o;
    struct stat st;

    if (fstat(engine_dir_fd(a->dir), &st) < 0)
        return err_sys(err, "stat %s", a->location);
    a->dev = st.st_dev;
    if (a->index_dir != a->dir && fstat(engine_dir_fd(a->index_dir), &st) < 0)
        return err_sys(err, "stat the index directory of %s", a->location);
    a->index_dev = st.st_dev;
    o = engine_lease_take(a->dir, LEASE_NAME, &a->lease, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "take the lease of", a->user);
    return account_open_log(a, create, err);
}

int account_make_dirs(struct store_account *a, struct err *err)
{
    size_t n_made = 0;

    return make_dirs(a, &n_made, err);
}

void account_close(struct store_account *a)
{
    if (a->log_end > 0)
        account_tell_usage(a);
    for (struct list *l = list_pop(&a->mailboxes); l;
         l = list_pop(&a->mailboxes))
        mailbox_free(CONTAINER_OF(l, struct store_mailbox, link));
    a->inbox = NULL;
    engine_log_close(&a->log);
    engine_lease_drop(&a->lease);
    if (a->index_dir != a->dir)
        engine_dir_close(&a->index_dir);
    engine_dir_close(&a->dir);
    for (size_t i = 0; i < a->n_list; i++)
        free(a->list[i].name);
    free(a->list);
    free(a->gone_ids);
    idset_done(&a->gone);
    free(a->location);
    free(a->path);
    free(a->user);
    a->magic = 0;
    free(a);
}

const uint8_t *store_account_id(const struct store_account *a)
{
    return a->id;
}

slice store_account_user(const struct store_account *a)
{
    return slice_str(a->user);
}

uint64_t store_account_modseq(const struct store_account *a)
{
    uint64_t inbox = a->inbox ? a->inbox->highestmodseq : 0;

    return inbox > a->modseq ? inbox : a->modseq;
}

uint64_t store_account_fs(const struct store_account *a)
{
    return a->dev;
}

int store_account_fd(const struct store_account *a)
{
    return engine_dir_fd(a->dir);
}

size_t store_account_places(const struct store_account *a,
                            struct store_fs out[static 2])
{
    out[0] = (struct store_fs){ a->dev, engine_dir_fd(a->dir) };
    out[1] = (struct store_fs){ a->index_dev, engine_dir_fd(a->index_dir) };
    return a->index_dev != a->dev ? 2 : 1;
}
