#include "store/store_priv.h"

#include "rt/file.h"
#include <sys/stat.h>

enum {
    LOG_VERSION = 1,
    RESERVE_BYTES = 4096, /* kept for expunges and flags on a full disk */
    FIRST_BYTES = 8192,
    SALVAGE_MAX = 8 << 20, /* how far behind damage to look for records */
    LIST_MAX = 10000,      /* items of one record */
    COMPACT_ROWS = 1000,
    COMPACT_BYTES = 4 << 20,
    LONG_BYTES = 1 << 20,
};

static const struct engine_log_spec log_spec = {
    .kind = { 'M', 'B', 'O', 'X' },
    .version = LOG_VERSION,
    .oldest = LOG_VERSION,
    /* Rolled by index_rewrite(), by what is dead in it and not by size. */
    .max_bytes = UINT64_C(1) << 40,
};

void index_file(const struct store_mailbox *m, const char *name, char *dst,
                size_t size)
{
    (void)snprintf(dst, size, "%s%s", m->index_dir, name);
}

/* ---- applying records ---- */

uint64_t row_log_bytes(const struct row *r)
{
    return ENGINE_RECORD_HEAD + ADD_FIXED + r->name_len + r->cache_len;
}

static void remove_uid(struct store_mailbox *m, uint32_t uid)
{
    size_t r = row_find(m, uid);
    struct row row;

    if (r >= rows_count(m))
        return;
    row_load(m, r, &row);
    m->log_bytes_live -= min_size(m->log_bytes_live, row_log_bytes(&row));
    row_remove(m, r, true);
}

static bool apply_header(struct store_mailbox *m, slice payload)
{
    struct header_record h;

    if (!header_decode(payload, &h))
        return false;
    memcpy(m->guid, h.guid, ID_BYTES);
    m->uidvalidity = h.uidvalidity;
    m->last_instance = h.instance;
    return true;
}

static bool apply_add(struct store_mailbox *m, slice payload, uint64_t at)
{
    struct add_record a;

    if (!add_decode(payload, &a))
        return false;
    a.row.cache_off += at;
    a.row.state &= ~(uint32_t)ROW_HOLE;
    if (!row_add(m, &a.row, a.name))
        return false;
    m->log_bytes_live += row_log_bytes(&a.row);
    m->last_instance = a.instance;
    return true;
}

/* Length and record of each. */
static bool apply_adds(struct store_mailbox *m, slice payload, uint64_t at)
{
    while (payload.n > 0) {
        uint32_t n;

        if (payload.n < 4)
            return false;
        n = get_u32(payload.p);
        if (n > payload.n - 4 ||
            !apply_add(m, slice_sub(payload, 4, n), at + 4))
            return false;
        payload = slice_from(payload, 4 + (size_t)n);
        at += 4 + (uint64_t)n;
    }
    return true;
}

static bool apply_expunge(struct store_mailbox *m, slice payload)
{
    ssize_t n = list_count(payload, 16, 4);

    if (n < 0)
        return false;
    for (ssize_t i = 0; i < n; i++)
        remove_uid(m, get_u32(payload.p + 16 + 4 * i));
    if (get_u64(payload.p) > m->highestmodseq)
        m->highestmodseq = get_u64(payload.p);
    return true;
}

static bool apply_flags(struct store_mailbox *m, slice payload)
{
    ssize_t n = list_count(payload, 8, 16);

    for (ssize_t i = 0; i < n; i++) {
        const char *p = payload.p + 8 + 16 * i;
        size_t r = row_find(m, get_u32(p));

        if (r < rows_count(m))
            row_set_flags(m, r, get_u32(p + 4), get_u64(p + 8),
                          get_u64(payload.p));
    }
    return n >= 0;
}

static bool apply_file(struct store_mailbox *m, slice payload)
{
    ssize_t n = list_count(payload, 0, 12);

    for (ssize_t i = 0; i < n; i++) {
        const char *p = payload.p + 12 * i;
        size_t r = row_find(m, get_u32(p));

        if (r >= rows_count(m))
            continue;
        ROW_FIELD(m, r, letters) = get_u32(p + 4);
        ROW_FIELD(m, r, state) = get_u32(p + 8) & ~(uint32_t)ROW_HOLE;
        renamed_del(m, get_u32(p));
    }
    return n >= 0;
}

/* As IR_FILE, and what the letters were before. */
static bool apply_renamed(struct store_mailbox *m, slice payload)
{
    ssize_t n = list_count(payload, 0, 16);

    for (ssize_t i = 0; i < n; i++) {
        const char *p = payload.p + 16 * i;
        size_t r = row_find(m, get_u32(p));

        if (r >= rows_count(m))
            continue;
        ROW_FIELD(m, r, letters) = get_u32(p + 4);
        ROW_FIELD(m, r, state) = get_u32(p + 8) & ~(uint32_t)ROW_HOLE;
        renamed_add(m, get_u32(p), get_u32(p + 12));
    }
    return n >= 0;
}

static bool apply_cache(struct store_mailbox *m, slice payload, uint64_t at)
{
    size_t r;

    if (payload.n < 16)
        return false;
    r = row_find(m, get_u32(payload.p));
    if (r >= rows_count(m))
        return true;
    ROW_FIELD(m, r, cache_version) = get_u32(payload.p + 4);
    ROW_FIELD(m, r, cache_off) = at + 16;
    ROW_FIELD(m, r, cache_len) = (uint32_t)(payload.n - 16);
    if (ROW_FIELD(m, r, crlf_size) == 0) {
        ROW_FIELD(m, r, crlf_size) = get_u64(payload.p + 8);
        m->crlf_bytes += get_u64(payload.p + 8);
    }
    return true;
}

static bool apply_scan(struct store_mailbox *m, slice payload)
{
    if (payload.n < 32)
        return false;
    m->new_stamp.sec = (int64_t)get_u64(payload.p);
    m->new_stamp.nsec = (int64_t)get_u64(payload.p + 8);
    m->cur_stamp.sec = (int64_t)get_u64(payload.p + 16);
    m->cur_stamp.nsec = (int64_t)get_u64(payload.p + 24);
    return true;
}

static bool apply_unlinked(struct store_mailbox *m, slice payload)
{
    ssize_t n = list_count(payload, 0, 4);

    for (ssize_t i = 0; i < n; i++)
        doom_del(m, get_u32(payload.p + 4 * i));
    return n >= 0;
}

static bool apply_doomed(struct store_mailbox *m, slice payload)
{
    struct row row = { 0 };

    if (payload.n <= 12 || payload.n - 12 > FILE_NAME_MAX)
        return false;
    row.uid = get_u32(payload.p);
    row.letters = get_u32(payload.p + 4);
    row.state = get_u32(payload.p + 8);
    doom_add(m, &row, slice_from(payload, 12));
    return true;
}

bool index_apply(struct store_mailbox *m, uint16_t type, slice payload,
                 uint64_t payload_at)
{
    switch (type) {
    case IR_HEADER:
        return apply_header(m, payload);
    case IR_ADD:
        return apply_add(m, payload, payload_at);
    case IR_ADDS:
        return apply_adds(m, payload, payload_at);
    case IR_EXPUNGE:
        return apply_expunge(m, payload);
    case IR_FLAGS:
        return apply_flags(m, payload);
    case IR_FILE:
        return apply_file(m, payload);
    case IR_MOVE:
        return moves_apply(m, payload);
    case IR_MOVED:
        return moves_apply_end(m, payload);
    case IR_RENAMED:
        return apply_renamed(m, payload);
    case IR_KEYWORD:
        return payload.n > 4 &&
               keyword_set(m, get_u32(payload.p), slice_from(payload, 4));
    case IR_RESERVE:
        if (payload.n < 4)
            return false;
        m->reserved = get_u32(payload.p);
        return true;
    case IR_CACHE:
        return apply_cache(m, payload, payload_at);
    case IR_UNLINKED:
        return apply_unlinked(m, payload);
    case IR_SCAN:
        return apply_scan(m, payload);
    case IR_INSTANCE:
        if (payload.n < 8)
            return false;
        m->last_instance = get_u64(payload.p);
        return true;
    case IR_DURABLE:
        m->durable_rows = rows_count(m);
        return true;
    case IR_DOOMED:
        return apply_doomed(m, payload);
    case IR_RECENT:
        if (payload.n < 4)
            return false;
        m->recent = get_u32(payload.p);
        return true;
    default:
        return true;
    }
}

/* ---- reading ---- */

/* Find the next whole record behind damage at `from`; 0 when there is none. */
static uint64_t salvage_next(int fd, uint64_t from)
{
    uint8_t head[ENGINE_LOG_HEAD];
    char *p CLEANUP(free_ptr) = xmalloc(SALVAGE_MAX);
    ssize_t n = pread(fd, p, SALVAGE_MAX, (off_t)from);

    if (n < ENGINE_RECORD_HEAD ||
        pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return 0;
    for (size_t i = 1; i + ENGINE_RECORD_HEAD <= (size_t)n; i++) {
        const uint8_t *at = (const uint8_t *)p + i;
        struct engine_record_head h;
        uint32_t crc;

        if (!engine_record_decode(at, &h, &crc) ||
            (h.type & ~ENGINE_MUST_UNDERSTAND) > IR_LAST ||
            h.length > (size_t)n - i - ENGINE_RECORD_HEAD)
            continue;
        if (crc ==
            engine_record_crc(&h, crc32c(engine_crc_start(head, from + i),
                                         at + ENGINE_RECORD_HEAD, h.length)))
            return from + i;
    }
    return 0;
}

/* Is there anything but the reserve's zeroes behind the end?  A power cut may
 * have kept a later page and lost an earlier one. */
static bool has_bytes_behind(int fd, uint64_t from)
{
    enum { PIECE = 16384 };

    char *p CLEANUP(free_ptr) = xmalloc(PIECE);

    for (;;) {
        ssize_t n = pread(fd, p, PIECE, (off_t)from);

        if (n <= 0)
            return false;
        if (p[0] != 0 || memcmp(p, p + 1, (size_t)n - 1) != 0)
            return true;
        from += (uint64_t)n;
    }
}

static int replay(struct store_mailbox *m, int fd, struct engine_reader *r,
                  struct err *err)
{
    struct engine_record rec;
    uint64_t end = engine_reader_end(r);
    int got;

    for (;;) {
        got = engine_reader_next(r, &rec, err);
        if (got < 0)
            return err_prefix(err, "%s%s", m->index_dir, INDEX_LOG);
        if (got == 0) {
            uint64_t next;

            if (!has_bytes_behind(fd, engine_reader_end(r)))
                break;
            next = salvage_next(fd, engine_reader_end(r));
            if (next == 0)
                break;
            m->damaged = true;
            engine_reader_seek(r, next);
            continue;
        }
        if (rec.type > IR_LAST && rec.must)
            return err_temp(err, "%s%s was written by a newer release",
                            m->index_dir, INDEX_LOG);
        if (!index_apply(m, rec.type, rec.payload, rec.at + ENGINE_RECORD_HEAD))
            m->damaged = true;
        end = rec.next;
    }
    m->log_end = end;
    return 0;
}

/* A log whose header says that a newer release wrote it is not damaged. */
static bool log_is_newer(int fd)
{
    uint8_t head[ENGINE_LOG_HEAD];

    return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
           memcmp(head, "HATOMBOX", 8) == 0 &&
           get_u32(head + 60) == crc32c(0, head, 60) &&
           get_u16(head + 10) > LOG_VERSION;
}

static bool load_snapshot(struct store_mailbox *m, bool any_log)
{
    char path[INDEX_PATH_MAX];
    int fd CLEANUP(close_fd) = -1;
    uint64_t size;
    struct err err;

    index_file(m, SNAPSHOT, path, sizeof path);
    if (engine_get(m->account->index_dir, path, &fd, &size, &err) != ENGINE_OK)
        return false;
    return snapshot_load(m, fd, any_log);
}

int index_load(struct store_mailbox *m, struct err *err)
{
    struct engine_log_spec spec = log_spec;
    struct engine_reader *r = NULL;
    struct engine_log_info info;
    enum engine_outcome o;
    char path[INDEX_PATH_MAX];
    int fd CLEANUP(close_fd) = -1;
    uint64_t size = 0;
    int rc;

    index_file(m, INDEX_LOG, path, sizeof path);
    spec.name = path;
    m->damaged = false;
    m->log_end = 0;
    o = engine_get(m->account->index_dir, path, &fd, &size, err);
    if (o != ENGINE_OK && o != ENGINE_NOENT)
        return store_fail(o, err, "open index", m->name);
    if (o == ENGINE_OK)
        o = engine_reader_fd(fd, &spec, &r, &info, err);
    if (o != ENGINE_OK) {
        if (fd >= 0 && (o != ENGINE_CHANGED || log_is_newer(fd)))
            return store_fail(o, err, "read index", m->name);
        /* Without its log, the snapshot still tells UIDs. */
        m->damaged = load_snapshot(m, true) || fd >= 0;
        return 0;
    }
    memcpy(m->log_uuid, info.uuid, ID_BYTES);
    if (load_snapshot(m, false)) {
        if (m->snapshot_at < ENGINE_LOG_HEAD || m->snapshot_at > size)
            m->damaged = true;
        engine_reader_seek(r, m->snapshot_at);
    }
    rc = replay(m, fd, r, err);
    engine_reader_free(&r);
    if (rc < 0)
        return -1;
    if (m->uidvalidity == 0)
        m->damaged = true;
    if (m->reserved >= m->uidnext)
        m->uidnext = m->reserved + 1;
    return m->uidvalidity != 0 ? 1 : 0;
}

int index_reader(struct store_mailbox *m, struct engine_reader **out,
                 struct err *err)
{
    struct engine_log_spec spec = log_spec;
    struct engine_log_info info;
    char path[INDEX_PATH_MAX];
    enum engine_outcome o;

    index_file(m, INDEX_LOG, path, sizeof path);
    spec.name = path;
    o = engine_reader_open(m->account->index_dir, &spec, out, &info, err);
    return o == ENGINE_OK ? 0 : store_fail(o, err, "read index", m->name);
}

/* ---- appending ---- */

void index_close(struct store_mailbox *m)
{
    engine_log_close(&m->log);
    cache_unmap(m);
    close_fd(&m->cache_fd);
}

/* Open for appending, also after an append that failed. */
int index_log_ready(struct store_mailbox *m, struct err *err)
{
    struct engine_log_spec spec = log_spec;
    char path[INDEX_PATH_MAX];
    enum engine_outcome o;

    if (mailbox_check_there(m, err) < 0)
        return -1;
    if (m->log && engine_log_is_open(m->log))
        return 0;
    CHECK(m->log_end >= ENGINE_LOG_HEAD);
    engine_log_close(&m->log);
    index_file(m, INDEX_LOG, path, sizeof path);
    spec.name = path;
    o = engine_log_open(m->account->index_dir, m->account->lease, &spec,
                        m->log_end, &m->log, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "open index", m->name);
    return 0;
}

/* Keep room behind the end, so that a full disk can be emptied. */
static int reserve_keep(struct store_mailbox *m, size_t need, struct err *err)
{
    int fd = engine_log_fd(m->log);
    uint64_t want = m->log_end + need + RESERVE_BYTES;
    uint64_t chunk = m->log_end < (64 << 10) ? 8192 : 65536;
    struct stat st;

    if (want <= m->log_room)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat index of %s", m->name);
    m->log_room = (uint64_t)st.st_size;
    if (want <= m->log_room)
        return 0;
    want = (want + chunk - 1) / chunk * chunk;
    if (file_fallocate(fd, st.st_size, (off_t)(want - m->log_room)) < 0 &&
        errno != EOPNOTSUPP)
        return err_sys(err, "extend index of %s", m->name);
    m->log_room = want;
    return 0;
}

static int append(struct store_mailbox *m, uint16_t type, const struct iovec *v,
                  int n, uint64_t *at, struct err *err)
{
    uint64_t where = 0;
    enum engine_outcome o =
        engine_log_append(m->log, type, v, n, 0, &where, err);

    if (o != ENGINE_OK)
        return store_fail(o, err, "append to index", m->name);
    m->log_end = engine_log_end(m->log);
    if (at)
        *at = where + ENGINE_RECORD_HEAD;
    return 0;
}

int index_append(struct store_mailbox *m, uint16_t type, const struct iovec *v,
                 int n, uint64_t *payload_at, struct err *err)
{
    size_t need = ENGINE_RECORD_HEAD;

    if (index_log_ready(m, err) < 0)
        return -1;
    for (int i = 0; i < n; i++)
        need += v[i].iov_len;
    if (reserve_keep(m, need, err) < 0)
        return -1;
    return append(m, type, v, n, payload_at, err);
}

int index_append_buf(struct store_mailbox *m, uint16_t type, slice payload,
                     struct err *err)
{
    struct iovec v = piece_of(payload.p, payload.n);

    if (index_log_ready(m, err) < 0)
        return -1;
    return append(m, type, &v, 1, NULL, err);
}

int index_log_create(struct store_mailbox *m, const char *name,
                     struct engine_log **out, struct err *err)
{
    struct engine_log_spec spec = log_spec;
    struct header_record h = {
        .uidvalidity = m->uidvalidity,
        .instance = m->account->store->cfg.instance,
        .created = clock_wall() / 1000,
        .name = slice_str(m->name),
    };
    struct engine_log *log = NULL;
    struct buf b CLEANUP(buf_done) = { 0 };
    char path[INDEX_PATH_MAX];
    enum engine_outcome o;
    struct iovec v;

    index_file(m, name, path, sizeof path);
    spec.name = path;
    spec.preallocate_bytes = FIRST_BYTES;
    random_bytes(spec.uuid, sizeof spec.uuid);
    memcpy(h.account, m->account->id, ID_BYTES);
    memcpy(h.guid, m->guid, ID_BYTES);
    buf_init(&b, 4096);
    header_encode(&b, &h);
    o = engine_log_create(m->account->index_dir, m->account->lease, &spec, &log,
                          err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "create index", m->name);
    v = (struct iovec){ b.p, b.n };
    o = engine_log_append(log, IR_HEADER | ENGINE_MUST_UNDERSTAND, &v, 1, 0,
                          NULL, err);
    if (o != ENGINE_OK) {
        engine_log_close(&log);
        (void)engine_unlink(m->account->index_dir, path, NULL);
        return store_fail(o, err, "write index", m->name);
    }
    memcpy(m->new_uuid, spec.uuid, ID_BYTES);
    *out = log;
    return 0;
}

bool index_wants_compact(const struct store_mailbox *m)
{
    size_t fresh = rows_count(m) - min_size(rows_count(m), m->snapshot_rows);
    uint64_t behind = m->log_end - m->snapshot_at;

    return fresh >= max_size(COMPACT_ROWS, m->snapshot_rows / 4) ||
           behind >= max_size(COMPACT_BYTES, m->snapshot_at / 4);
}

bool index_is_long(const struct store_mailbox *m)
{
    return rows_count(m) >= m->snapshot_rows + COMPACT_ROWS ||
           m->log_end >= m->snapshot_at + LONG_BYTES;
}
