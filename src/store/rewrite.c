#include "store/store_priv.h"

#include "rt/file.h"

#include <sys/mman.h>
#include <sys/stat.h>

/*
 * The cached strings in the log, and the log written anew: with damage, or when
 * most of it is dead.  The new one is whole by itself and synced before it
 * takes the old one's name.
 */

static int put(struct engine_log *log, uint16_t type, const void *p, size_t n,
               struct err *err)
{
    struct iovec v = piece_of(p, n);
    enum engine_outcome o = engine_log_append(log, type, &v, 1, 0, NULL, err);

    return o == ENGINE_OK ? 0 : store_fail(o, err, "write index", "");
}

/* Bytes of the cached strings, from the old log; none when they are gone. */
static void old_strings(struct store_mailbox *m, const struct row *row,
                        struct buf *out)
{
    char *p;

    buf_clear(out);
    if (row->cache_len == 0 || m->cache_fd < 0)
        return;
    p = buf_reserve(out, row->cache_len);
    if (p && pread(m->cache_fd, p, row->cache_len, (off_t)row->cache_off) ==
                 (ssize_t)row->cache_len)
        buf_commit(out, row->cache_len);
}

static int rewrite_row(struct store_mailbox *m, struct engine_log *log,
                       size_t r, struct buf *strings, uint64_t *cache_off,
                       struct err *err)
{
    uint8_t fixed[ADD_FIXED];
    struct iovec v[3];
    struct row row;
    slice name = row_name(m, r);
    enum engine_outcome o;
    uint64_t at;

    row_load(m, r, &row);
    old_strings(m, &row, strings);
    if (strings->n == 0)
        row.cache_version = 0;
    add_encode(fixed, &row, m->last_instance, name.n);
    v[0] = (struct iovec){ fixed, sizeof fixed };
    v[1] = piece_of(name.p, name.n);
    v[2] = (struct iovec){ strings->p, strings->n };
    o = engine_log_append(log, IR_ADD | ENGINE_MUST_UNDERSTAND, v,
                          strings->n ? 3 : 2, 0, &at, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "write index", m->name);
    *cache_off = at + ENGINE_RECORD_HEAD + ADD_FIXED + name.n;
    ROW_FIELD(m, r, cache_len) = (uint32_t)strings->n;
    ROW_FIELD(m, r, cache_version) = row.cache_version;
    return 0;
}

static int rewrite_rows(struct store_mailbox *m, struct engine_log *log,
                        uint64_t *cache_off, struct err *err)
{
    struct buf strings CLEANUP(buf_done) = { 0 };
    size_t n = rows_count(m);

    buf_init(&strings, ENGINE_RECORD_MAX);
    for (size_t r = 0; r < n; r++) {
        if (r == m->durable_rows && r > 0 &&
            put(log, IR_DURABLE, NULL, 0, err) < 0)
            return -1;
        if (!row_is_hole(m, r) &&
            rewrite_row(m, log, r, &strings, &cache_off[r], err) < 0)
            return -1;
    }
    if (n > 0 && m->durable_rows == n)
        return put(log, IR_DURABLE, NULL, 0, err);
    return 0;
}

static int put_move(void *arg, slice payload, struct err *err)
{
    return put(arg, IR_MOVE, payload.p, payload.n, err);
}

static int rewrite_rest(struct store_mailbox *m, struct engine_log *log,
                        struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 4096);
    for (size_t i = 0; i < m->n_doomed; i++) {
        buf_clear(&b);
        buf_u32(&b, m->doomed[i].uid);
        buf_u32(&b, m->doomed[i].letters);
        buf_u32(&b, m->doomed[i].state);
        buf_puts(&b, m->doomed[i].name);
        if (put(log, IR_DOOMED, b.p, b.n, err) < 0)
            return -1;
    }
    if (moves_each_record(m, put_move, log, err) < 0)
        return -1;
    for (size_t i = 0; i < m->n_renamed; i++) {
        size_t r = row_find(m, m->renamed[i].uid);

        if (r >= rows_count(m))
            continue;
        buf_clear(&b);
        buf_u32(&b, m->renamed[i].uid);
        buf_u32(&b, ROW_FIELD(m, r, letters));
        buf_u32(&b, ROW_FIELD(m, r, state));
        buf_u32(&b, m->renamed[i].from);
        if (put(log, IR_RENAMED, b.p, b.n, err) < 0)
            return -1;
    }
    /* UIDNEXT and HIGHESTMODSEQ, which expunged rows may have set. */
    buf_clear(&b);
    buf_u32(&b, m->uidnext - 1);
    if (put(log, IR_RESERVE | ENGINE_MUST_UNDERSTAND, b.p, b.n, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u64(&b, m->highestmodseq);
    buf_u64(&b, 0);
    if (put(log, IR_EXPUNGE | ENGINE_MUST_UNDERSTAND, b.p, b.n, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u64(&b, (uint64_t)m->new_stamp.sec);
    buf_u64(&b, (uint64_t)m->new_stamp.nsec);
    buf_u64(&b, (uint64_t)m->cur_stamp.sec);
    buf_u64(&b, (uint64_t)m->cur_stamp.nsec);
    if (put(log, IR_SCAN, b.p, b.n, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u32(&b, m->recent);
    if (m->recent > 0 && put(log, IR_RECENT, b.p, b.n, err) < 0)
        return -1;
    buf_clear(&b);
    buf_u64(&b, m->last_instance);
    return put(log, IR_INSTANCE, b.p, b.n, err);
}

static int rewrite_keywords(struct store_mailbox *m, struct engine_log *log,
                            struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 4096);
    for (size_t i = 0; i < m->n_keywords; i++) {
        if (m->keyword[i][0] == '\0')
            continue;
        buf_clear(&b);
        buf_u32(&b, (uint32_t)i);
        buf_puts(&b, m->keyword[i]);
        if (put(log, IR_KEYWORD | ENGINE_MUST_UNDERSTAND, b.p, b.n, err) < 0)
            return -1;
    }
    return 0;
}

static void cache_fd_need(struct store_mailbox *m)
{
    char path[INDEX_PATH_MAX];
    uint64_t size;
    struct err err;

    if (m->cache_fd >= 0 || m->log_end == 0)
        return;
    index_file(m, INDEX_LOG, path, sizeof path);
    if (engine_get(m->account->index_dir, path, &m->cache_fd, &size, &err) !=
        ENGINE_OK)
        m->cache_fd = -1;
}

/* Map the log to its end: mapping less would mean to map again for another
 * row, and so to take away what was shown before, without any change between
 * the two. */
static bool cache_map_need(struct store_mailbox *m)
{
    struct stat st;
    void *p;

    if (m->log_end <= m->cache_map_bytes)
        return true;
    cache_fd_need(m);
    if (m->cache_fd < 0 || fstat(m->cache_fd, &st) < 0 ||
        (uint64_t)st.st_size < m->log_end)
        return false;
    cache_unmap(m);
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, m->cache_fd, 0);
    if (p == MAP_FAILED)
        return false;
    m->cache_map = p;
    m->cache_map_bytes = (size_t)st.st_size;
    return true;
}

void cache_unmap(struct store_mailbox *m)
{
    if (m->cache_map)
        (void)munmap(m->cache_map, m->cache_map_bytes);
    m->cache_map = NULL;
    m->cache_map_bytes = 0;
}

bool index_strings_view(struct store_mailbox *m, size_t r, slice *out)
{
    uint32_t len = ROW_FIELD(m, r, cache_len);
    uint64_t off = ROW_FIELD(m, r, cache_off);

    if (len == 0 || len > ENGINE_RECORD_MAX || off > m->log_end ||
        len > m->log_end - off || !cache_map_need(m))
        return false;
    *out = slice_of((const char *)m->cache_map + off, len);
    return true;
}

bool index_strings(struct store_mailbox *m, size_t r, struct buf *out)
{
    uint32_t len = ROW_FIELD(m, r, cache_len);
    uint64_t off = ROW_FIELD(m, r, cache_off);
    char *p;

    if (len == 0 || len > ENGINE_RECORD_MAX)
        return false;
    cache_fd_need(m);
    if (m->cache_fd < 0)
        return false;
    p = buf_reserve(out, len);
    if (!p || pread(m->cache_fd, p, len, (off_t)off) != (ssize_t)len)
        return false;
    buf_commit(out, len);
    return true;
}

/* The new log is whole: it takes the old one's place. */
static int rewrite_swap(struct store_mailbox *m, struct engine_log **log,
                        const uint64_t *cache_off, struct err *err)
{
    char from[INDEX_PATH_MAX];
    char to[INDEX_PATH_MAX];
    char snapshot[INDEX_PATH_MAX];
    struct engine_dir *dir = m->account->index_dir;
    enum engine_outcome o;

    index_file(m, INDEX_NEW, from, sizeof from);
    index_file(m, INDEX_LOG, to, sizeof to);
    index_file(m, SNAPSHOT, snapshot, sizeof snapshot);
    if (file_fdatasync(engine_log_fd(*log)) < 0)
        return err_sys(err, "sync index of %s", m->name);
    o = engine_rename(dir, from, to, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "replace index", m->name);
    /* It belonged to the old log. */
    (void)engine_unlink(dir, snapshot, NULL);
    m->snapshot_at = 0;
    m->snapshot_rows = 0;
    m->log_end = engine_log_end(*log);
    m->log_room = 0;
    memcpy(m->log_uuid, m->new_uuid, ID_BYTES);
    m->log_bytes_live = 0;
    for (size_t r = 0; r < rows_count(m); r++) {
        struct row row;

        if (row_is_hole(m, r)) {
            ROW_FIELD(m, r, cache_len) = 0; /* it was in the old log */
            continue;
        }
        ROW_FIELD(m, r, cache_off) = cache_off[r];
        row_load(m, r, &row);
        m->log_bytes_live += row_log_bytes(&row);
    }
    index_close(m);
    engine_log_close(log); /* its name was the temporary one */
    m->damaged = false;
    return 0;
}

int index_rewrite(struct store_mailbox *m, struct err *err)
{
    uint64_t *cache_off CLEANUP(free_ptr) = NULL;
    struct engine_log *log = NULL;
    char path[INDEX_PATH_MAX];

    index_file(m, INDEX_NEW, path, sizeof path);
    (void)engine_unlink(m->account->index_dir, path, NULL);
    cache_fd_need(m);
    if (index_log_create(m, INDEX_NEW, &log, err) < 0)
        return -1;
    cache_off = xcalloc(rows_count(m) + 1, sizeof *cache_off);
    if (rewrite_keywords(m, log, err) < 0 ||
        rewrite_rows(m, log, cache_off, err) < 0 ||
        rewrite_rest(m, log, err) < 0 ||
        rewrite_swap(m, &log, cache_off, err) < 0) {
        engine_log_close(&log);
        (void)engine_unlink(m->account->index_dir, path, NULL);
        return -1;
    }
    return 0;
}

bool index_wants_rewrite(const struct store_mailbox *m)
{
    uint64_t dead = m->log_end - min_size(m->log_end, m->log_bytes_live);

    return m->damaged || (dead > (1 << 20) && dead > m->log_bytes_live);
}
