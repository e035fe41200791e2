#include "store/store_priv.h"

#include <sys/mman.h>
#include <sys/stat.h>

/*
 * The snapshot: one kilobyte of header, then sections, each at a multiple of
 * eight bytes; doc/store.md has the table.  It is written whole, synced, and
 * renamed into place, so that it is never torn; small ones are read and summed,
 * big ones are mapped privately and their values held against bounds when
 * they are used.
 */
enum {
    HEAD_BYTES = 1024,
    MAP_FROM = 1 << 20, /* bytes */
    VERSION = 1,
    AT_VERSION = 8,
    AT_OLDEST = 10,
    AT_HEAD_BYTES = 12,
    AT_FEATURES = 16,
    AT_LOG_UUID = 24,
    AT_ACCOUNT = 40,
    AT_GUID = 56,
    AT_UIDVALIDITY = 72,
    AT_UIDNEXT = 76,
    AT_MODSEQ = 80,
    AT_LOG_END = 88,
    AT_ROWS = 96,
    AT_MESSAGES = 104,
    AT_UNSEEN = 112,
    AT_DELETED = 120,
    AT_BYTES = 128,
    AT_CRLF_BYTES = 136,
    AT_RESERVED = 144,
    AT_NEW_STAMP = 152,
    AT_CUR_STAMP = 168,
    AT_INSTANCE = 184,
    AT_LIVE = 192,
    AT_FILE_BYTES = 200,
    AT_BODY_CRC = 208,
    AT_RECENT = 212,
    AT_SECTIONS = 256, /* offset and length, 16 bytes each */
    AT_HEAD_CRC = HEAD_BYTES - 4,
};

static const char snapshot_magic[8] = "HATOSNAP";

static const struct {
    size_t member; /* a pointer in struct columns */
    size_t bytes;  /* of one row */
    size_t cell;   /* in a row of the tail */
} column_table[] = {
    { offsetof(struct columns, uid), 4, offsetof(struct row, uid) },
    { offsetof(struct columns, flags), 4, offsetof(struct row, flags) },
    { offsetof(struct columns, letters), 4, offsetof(struct row, letters) },
    { offsetof(struct columns, state), 4, offsetof(struct row, state) },
    { offsetof(struct columns, crc), 4, offsetof(struct row, crc) },
    { offsetof(struct columns, cache_len), 4, offsetof(struct row, cache_len) },
    { offsetof(struct columns, cache_version), 4,
      offsetof(struct row, cache_version) },
    { offsetof(struct columns, name_off), 4, offsetof(struct row, name_off) },
    { offsetof(struct columns, name_len), 4, offsetof(struct row, name_len) },
    { offsetof(struct columns, keywords), 8, offsetof(struct row, keywords) },
    { offsetof(struct columns, modseq), 8, offsetof(struct row, modseq) },
    { offsetof(struct columns, created), 8, offsetof(struct row, created) },
    { offsetof(struct columns, size), 8, offsetof(struct row, size) },
    { offsetof(struct columns, crlf_size), 8, offsetof(struct row, crlf_size) },
    { offsetof(struct columns, cache_off), 8, offsetof(struct row, cache_off) },
    { offsetof(struct columns, idate), 8, offsetof(struct row, idate) },
    { offsetof(struct columns, sdate), 8, offsetof(struct row, sdate) },
    { offsetof(struct columns, emailid), ID_BYTES,
      offsetof(struct row, emailid) },
    { offsetof(struct columns, threadid), ID_BYTES,
      offsetof(struct row, threadid) },
    { offsetof(struct columns, id), ID_BYTES, offsetof(struct row, id) },
};

enum {
    N_COLUMNS = ARRAY_LEN(column_table),
    SEC_IDHASH = N_COLUMNS,
    SEC_NAMES,
    SEC_KEYWORDS,
    SEC_DOOMED,
    N_SECTIONS,
};

_Static_assert(AT_SECTIONS + 16 * N_SECTIONS <= AT_HEAD_CRC, "header is full");

/* ---- writing ---- */

/* What a row takes, with its name and its places in the hash. */
enum { ROOM_OF_ROW = 148 + 16 + 80, ROOM_BESIDE = 65536 };

/* Copies of the rows that are no holes, as they will lie in the file. */
struct compact {
    const struct store_mailbox *m;
    size_t *rows; /* row numbers in the mailbox */
    size_t n;
    uint64_t at[N_SECTIONS], len[N_SECTIONS];
};

static void section_begin(struct compact *c, struct buf *b, unsigned s)
{
    while (b->n % 8 != 0)
        buf_byte(b, 0);
    c->at[s] = b->n;
}

static void section_end(struct compact *c, const struct buf *b, unsigned s)
{
    c->len[s] = b->n - c->at[s];
}

static void *column_of(const struct columns *c, unsigned col)
{
    void *p;

    memcpy(&p, (const char *)c + column_table[col].member, sizeof p);
    return p;
}

/* How many rows from the i-th on lie one behind the other below `end`. */
static size_t run_of(const struct compact *c, size_t i, size_t end)
{
    size_t n = 1;

    while (i + n < c->n && c->rows[i + n] == c->rows[i] + n &&
           c->rows[i + n] < end)
        n++;
    return n;
}

/* Of the sizes that there are: a call each would be most of the work. */
static void cell_copy(char *to, const char *from, size_t bytes)
{
    switch (bytes) {
    case 1:
        *to = *from;
        return;
    case 2:
        memcpy(to, from, 2);
        return;
    case 4:
        memcpy(to, from, 4);
        return;
    case 8:
        memcpy(to, from, 8);
        return;
    default:
        memcpy(to, from, ID_BYTES);
    }
}

static void column_put(struct compact *c, struct buf *b, unsigned col)
{
    const struct store_mailbox *m = c->m;
    size_t bytes = column_table[col].bytes;
    const char *base = column_of(&m->base, col);
    size_t i = 0;
    char *out;

    section_begin(c, b, col);
    out = buf_reserve(b, c->n * bytes);
    if (!out)
        return;
    while (i < c->n && c->rows[i] < m->base_n) {
        size_t run = run_of(c, i, m->base_n);

        memcpy(out + i * bytes, base + c->rows[i] * bytes, run * bytes);
        i += run;
    }
    for (; i < c->n; i++)
        cell_copy(out + i * bytes,
                  (const char *)&m->tail[c->rows[i] - m->base_n] +
                      column_table[col].cell,
                  bytes);
    buf_commit(b, c->n * bytes);
    section_end(c, b, col);
}

/* The pool of names, and the offsets into it, which column_put() copied from
 * the old pools. */
static void names_put(struct compact *c, struct buf *b)
{
    section_begin(c, b, SEC_NAMES);
    for (size_t i = 0; i < c->n && !b->overflow; i++) {
        slice name = row_name(c->m, c->rows[i]);
        size_t off = b->n - c->at[SEC_NAMES];

        buf_slice(b, name);
        set_u32(b->p + c->at[7] + 4 * i, (uint32_t)off);
        set_u32(b->p + c->at[8] + 4 * i, (uint32_t)name.n);
    }
    section_end(c, b, SEC_NAMES);
}

static void idhash_put(struct compact *c, struct buf *b)
{
    size_t slots = 8;
    const char *ids;
    uint32_t *hash;

    while (slots < c->n * 2)
        slots *= 2;
    section_begin(c, b, SEC_IDHASH);
    hash = (uint32_t *)(void *)buf_reserve(b, slots * 4);
    if (!hash)
        return;
    memset(hash, 0, slots * 4);
    ids = b->p + c->at[N_COLUMNS - 1];
    for (size_t i = 0; i < c->n; i++) {
        const uint8_t *id = (const uint8_t *)ids + i * ID_BYTES;
        size_t at = (size_t)get_u64(id) & (slots - 1);

        if (id_is_zero(id))
            continue;
        while (hash[at])
            at = (at + 1) & (slots - 1);
        hash[at] = (uint32_t)(i + 1);
    }
    buf_commit(b, slots * 4);
    section_end(c, b, SEC_IDHASH);
}

static void lists_put(struct compact *c, struct buf *b)
{
    const struct store_mailbox *m = c->m;

    section_begin(c, b, SEC_KEYWORDS);
    for (size_t i = 0; i < m->n_keywords; i++)
        attr_put_str(b, 1, m->keyword[i]);
    section_end(c, b, SEC_KEYWORDS);
    section_begin(c, b, SEC_DOOMED);
    for (size_t i = 0; i < m->n_doomed; i++) {
        buf_u32(b, m->doomed[i].uid);
        buf_u32(b, m->doomed[i].letters);
        buf_u32(b, m->doomed[i].state);
        buf_u32(b, (uint32_t)strlen(m->doomed[i].name));
        buf_puts(b, m->doomed[i].name);
    }
    section_end(c, b, SEC_DOOMED);
}

static void head_put(const struct compact *c, const struct buf *b)
{
    const struct store_mailbox *m = c->m;
    char *p = b->p;

    memcpy(p, snapshot_magic, sizeof snapshot_magic);
    set_u16(p + AT_VERSION, VERSION);
    set_u16(p + AT_OLDEST, VERSION);
    set_u32(p + AT_HEAD_BYTES, HEAD_BYTES);
    memcpy(p + AT_LOG_UUID, m->log_uuid, ID_BYTES);
    memcpy(p + AT_ACCOUNT, m->account->id, ID_BYTES);
    memcpy(p + AT_GUID, m->guid, ID_BYTES);
    set_u32(p + AT_UIDVALIDITY, m->uidvalidity);
    set_u32(p + AT_UIDNEXT, m->uidnext);
    set_u64(p + AT_MODSEQ, m->highestmodseq);
    set_u64(p + AT_LOG_END, m->log_end);
    set_u64(p + AT_ROWS, c->n);
    set_u64(p + AT_MESSAGES, m->messages);
    set_u64(p + AT_UNSEEN, m->unseen);
    set_u64(p + AT_DELETED, m->deleted);
    set_u64(p + AT_BYTES, m->bytes);
    set_u64(p + AT_CRLF_BYTES, m->crlf_bytes);
    set_u32(p + AT_RESERVED, m->reserved);
    set_u32(p + AT_RECENT, m->recent);
    set_u64(p + AT_NEW_STAMP, (uint64_t)m->new_stamp.sec);
    set_u64(p + AT_NEW_STAMP + 8, (uint64_t)m->new_stamp.nsec);
    set_u64(p + AT_CUR_STAMP, (uint64_t)m->cur_stamp.sec);
    set_u64(p + AT_CUR_STAMP + 8, (uint64_t)m->cur_stamp.nsec);
    set_u64(p + AT_INSTANCE, m->last_instance);
    set_u64(p + AT_LIVE, m->log_bytes_live);
    set_u64(p + AT_FILE_BYTES, b->n);
    set_u32(p + AT_BODY_CRC, crc32c(0, p + HEAD_BYTES, b->n - HEAD_BYTES));
    for (unsigned s = 0; s < N_SECTIONS; s++) {
        set_u64(p + AT_SECTIONS + (size_t)16 * s, c->at[s]);
        set_u64(p + AT_SECTIONS + (size_t)16 * s + 8, c->len[s]);
    }
    set_u32(p + AT_HEAD_CRC, crc32c(0, p, AT_HEAD_CRC));
}

bool snapshot_encode(const struct store_mailbox *m, struct buf *out)
{
    struct compact c = { .m = m };
    size_t n = rows_count(m);
    char *head;

    buf_clear(out);
    head = buf_reserve(out, HEAD_BYTES);
    if (!head)
        return false;
    memset(head, 0, HEAD_BYTES);
    buf_commit(out, HEAD_BYTES);
    c.rows = xcalloc(n + 1, sizeof *c.rows);
    for (size_t r = 0; r < n; r++)
        if (!row_is_hole(m, r))
            c.rows[c.n++] = r;
    /* At once, not doubled again and again with all that is in it. */
    (void)buf_reserve(out, c.n * ROOM_OF_ROW + ROOM_BESIDE);
    for (unsigned col = 0; col < N_COLUMNS; col++)
        column_put(&c, out, col);
    idhash_put(&c, out);
    names_put(&c, out);
    lists_put(&c, out);
    free(c.rows);
    if (out->overflow)
        return false;
    head_put(&c, out);
    return true;
}

/* ---- reading ---- */

static bool doomed_take(struct store_mailbox *m, slice s)
{
    while (s.n > 0) {
        struct row row = { 0 };
        uint32_t len;

        if (s.n < 16)
            return false;
        row.uid = get_u32(s.p);
        row.letters = get_u32(s.p + 4);
        row.state = get_u32(s.p + 8);
        len = get_u32(s.p + 12);
        if (len == 0 || len > FILE_NAME_MAX || len > s.n - 16)
            return false;
        doom_add(m, &row, slice_sub(s, 16, len));
        s = slice_from(s, 16 + len);
    }
    return true;
}

static bool keywords_take(struct store_mailbox *m, slice s)
{
    struct attr a;
    int got;

    for (got = attr_next(&s, &a); got > 0; got = attr_next(&s, &a)) {
        if (m->n_keywords >= N_KEYWORDS || a.v.n > 255)
            return false;
        m->keyword[m->n_keywords++] = slice_xstrdup(a.v);
    }
    return got == 0;
}

static bool head_ok(const struct store_mailbox *m, const char *p, size_t n,
                    bool any_log)
{
    if (n < HEAD_BYTES ||
        memcmp(p, snapshot_magic, sizeof snapshot_magic) != 0 ||
        get_u32(p + AT_HEAD_CRC) != crc32c(0, p, AT_HEAD_CRC))
        return false;
    if (get_u16(p + AT_OLDEST) > VERSION ||
        get_u32(p + AT_HEAD_BYTES) != HEAD_BYTES ||
        get_u64(p + AT_FILE_BYTES) != n || get_u64(p + AT_ROWS) >= UINT32_MAX)
        return false;
    return any_log || memcmp(p + AT_LOG_UUID, m->log_uuid, ID_BYTES) == 0;
}

static bool sections_take(struct store_mailbox *m, char *p, size_t n)
{
    uint64_t rows = get_u64(p + AT_ROWS);
    slice sec[N_SECTIONS];

    for (unsigned s = 0; s < N_SECTIONS; s++) {
        uint64_t at = get_u64(p + AT_SECTIONS + (size_t)16 * s);
        uint64_t len = get_u64(p + AT_SECTIONS + (size_t)16 * s + 8);

        if (at % 8 != 0 || at > n || len > n - at)
            return false;
        if (s < N_COLUMNS && len != rows * column_table[s].bytes)
            return false;
        sec[s] = slice_of(p + at, len);
    }
    for (unsigned s = 0; s < N_COLUMNS; s++) {
        void *cells = p + get_u64(p + AT_SECTIONS + (size_t)16 * s);

        memcpy((char *)&m->base + column_table[s].member, &cells, sizeof cells);
    }
    m->base.n_idhash = sec[SEC_IDHASH].n / 4;
    if (m->base.n_idhash & (m->base.n_idhash - 1))
        return false;
    m->base.idhash = (const uint32_t *)(const void *)sec[SEC_IDHASH].p;
    m->base.names = sec[SEC_NAMES];
    return keywords_take(m, sec[SEC_KEYWORDS]) &&
           doomed_take(m, sec[SEC_DOOMED]);
}

static bool snapshot_take(struct store_mailbox *m, char *p, size_t n,
                          bool any_log)
{
    if (!head_ok(m, p, n, any_log))
        return false;
    if (!m->is_mapped &&
        get_u32(p + AT_BODY_CRC) != crc32c(0, p + HEAD_BYTES, n - HEAD_BYTES))
        return false;
    if (!sections_take(m, p, n))
        return false;
    m->base_n = get_u64(p + AT_ROWS);
    memcpy(m->guid, p + AT_GUID, ID_BYTES);
    m->uidvalidity = get_u32(p + AT_UIDVALIDITY);
    m->uidnext = get_u32(p + AT_UIDNEXT);
    m->highestmodseq = get_u64(p + AT_MODSEQ);
    m->snapshot_at = get_u64(p + AT_LOG_END);
    m->snapshot_rows = m->base_n;
    m->durable_rows = m->base_n;
    m->messages = get_u64(p + AT_MESSAGES);
    m->unseen = get_u64(p + AT_UNSEEN);
    m->deleted = get_u64(p + AT_DELETED);
    m->bytes = get_u64(p + AT_BYTES);
    m->crlf_bytes = get_u64(p + AT_CRLF_BYTES);
    m->reserved = get_u32(p + AT_RESERVED);
    m->recent = get_u32(p + AT_RECENT);
    m->new_stamp.sec = (int64_t)get_u64(p + AT_NEW_STAMP);
    m->new_stamp.nsec = (int64_t)get_u64(p + AT_NEW_STAMP + 8);
    m->cur_stamp.sec = (int64_t)get_u64(p + AT_CUR_STAMP);
    m->cur_stamp.nsec = (int64_t)get_u64(p + AT_CUR_STAMP + 8);
    m->last_instance = get_u64(p + AT_INSTANCE);
    m->log_bytes_live = get_u64(p + AT_LIVE);
    return m->messages == m->base_n && m->uidvalidity != 0;
}

static bool read_whole(int fd, char *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        ssize_t got = pread(fd, p + at, n - at, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

bool snapshot_load(struct store_mailbox *m, int fd, bool any_log)
{
    struct stat st;
    size_t n;

    CHECK(m->map == NULL);
    if (fstat(fd, &st) < 0 || st.st_size < HEAD_BYTES)
        return false;
    n = (size_t)st.st_size;
    m->is_mapped = n >= MAP_FROM;
    if (m->is_mapped) {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

        m->map = p == MAP_FAILED ? NULL : p;
    } else {
        m->map = xmalloc(n);
        if (!read_whole(fd, m->map, n)) {
            free(m->map);
            m->map = NULL;
        }
    }
    if (!m->map)
        return false;
    m->map_bytes = n;
    if (snapshot_take(m, m->map, n, any_log))
        return true;
    rows_done(m);
    return false;
}

void snapshot_release(struct store_mailbox *m)
{
    if (m->map && m->is_mapped)
        (void)munmap(m->map, m->map_bytes);
    else
        free(m->map);
    m->map = NULL;
    m->map_bytes = 0;
    m->base_n = 0;
    m->base = (struct columns){ 0 };
}
