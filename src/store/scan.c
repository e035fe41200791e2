#include "store/store_priv.h"

#include "mail/mime.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/*
 * Holding the index against the directories.
 *
 * A pass lists new/ and cur/ (those whose modification time differs from what
 * the last scan noted) and matches each name with a row by its base name.
 *
 *   row, other letters or place  three-way merge: what changed between the
 *                                letters we saw last and those that are there
 *                                now is the stranger's doing, the rest is ours
 *   row, no file                 listed again, as readdir() may miss a file
 *                                that is renamed meanwhile; then expunged
 *   file, no row                 new, in order of the time in its name
 *
 * When recovering, rows past the last durable mark are held against size and
 * CRC of their files as well; what a power cut has hurt is moved aside, and is
 * forgotten with its delivery id, so that the queue delivers it again.
 */

enum {
    PASSES = 2,
    LIST_ITEMS = 8192, /* of one log record */
    STRINGS_MAX_FILE = 1 << 20,
    FILL_MAX = 1000,    /* of more, strings are made when they are asked for */
    BOOT_MARGIN_S = 60, /* a clock that is set at the start */
};

struct found {
    size_t off; /* in names */
    uint32_t len;
    bool in_new;
};

struct add {
    slice name; /* in the scan's names */
    slice base;
    int64_t sec;
    bool in_new;
    uint32_t uid; /* another server's; 0: none */
    const struct takeover_entry *known;
};

struct scan {
    struct store_mailbox *m;
    bool recover;
    bool partial; /* only the names that were given */
    bool list_new, list_cur;
    struct dir_stamp new_stamp, cur_stamp;
    struct buf names;
    struct found *found;
    size_t n_found, found_size;
    bool in_new;     /* being listed */
    uint32_t *table; /* row + 1 by base name; behind the rows the doomed */
    size_t n_table;
    uint8_t *seen;   /* in this pass */
    uint8_t *missed; /* passes in which the row was not seen */
    struct add *adds;
    size_t n_adds;
    struct buf flags; /* items of IR_FLAGS */
    struct buf files; /* items of IR_FILE */
    struct buf gone;  /* UIDs */
    bool changed;
    struct add_batch batch;
};

static void scan_done(struct scan *s)
{
    buf_done(&s->names);
    buf_done(&s->flags);
    buf_done(&s->files);
    buf_done(&s->gone);
    free(s->found);
    free(s->table);
    free(s->seen);
    free(s->missed);
    free(s->adds);
}

/* ---- which directories ---- */

static int dir_stamp(struct store_mailbox *m, const char *sub,
                     struct dir_stamp *out, struct err *err)
{
    char path[PATH_IN_DIR_MAX];
    struct timespec now;
    struct stat st;
    int64_t age_ns;

    (void)snprintf(path, sizeof path, "%s%s", m->dir, sub);
    if (fstatat(engine_dir_fd(m->account->dir), path, &st, 0) < 0) {
        /* The account's log lies beside it, so this is no file system that is
         * not mounted: a power cut or another program took it. */
        if (errno == ENOENT && mailbox_make_dirs(m, err) == 0) {
            *out = (struct dir_stamp){ 0, -1 };
            return 0;
        }
        return err_sys(err, "stat %s of %s", path, m->account->user);
    }
    /* The file system's own clock, which a test's clock does not move. */
    (void)clock_gettime(CLOCK_REALTIME, &now);
    out->sec = st.st_mtim.tv_sec;
    out->nsec = st.st_mtim.tv_nsec;
    age_ns = (now.tv_sec - out->sec) * INT64_C(1000000000) +
             (now.tv_nsec - out->nsec);
    /* It may change again within the tick without another stamp: a stamp that
     * equals none makes the next scan look again. */
    if (age_ns <
        (out->nsec % 1000000 == 0 ? INT64_C(2000000000) : INT64_C(50000000)))
        out->nsec = -1;
    return 0;
}

static bool stamp_eq(const struct dir_stamp *a, const struct dir_stamp *b)
{
    return a->sec == b->sec && a->nsec == b->nsec && a->nsec >= 0;
}

/* ---- listing ---- */

static bool list_entry(const char *entry, void *arg)
{
    struct scan *s = arg;
    size_t len = strlen(entry);

    if (entry[0] == '.' || len > FILE_NAME_MAX)
        return true;
    if (s->n_found == s->found_size) {
        s->found_size = s->found_size ? s->found_size * 2 : 256;
        s->found = xrealloc(s->found, s->found_size * sizeof *s->found);
    }
    s->found[s->n_found++] =
        (struct found){ s->names.n, (uint32_t)len, s->in_new };
    return buf_put(&s->names, entry, len);
}

/* Not inlined, as take_over(): their paths would lie in one frame. */
__attribute__((noinline)) static int list_dir(struct scan *s, const char *sub,
                                              struct err *err)
{
    char path[PATH_IN_DIR_MAX];
    enum engine_outcome o;

    (void)snprintf(path, sizeof path, "%s%s", s->m->dir, sub);
    s->in_new = sub[0] == 'n';
    o = engine_list(s->m->account->dir, path, list_entry, s, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "list", path);
    if (s->names.overflow)
        return err_temp(err, "%s holds too many files", path);
    return 0;
}

static bool in_scope(const struct scan *s, size_t r)
{
    if (row_is_hole(s->m, r))
        return false;
    return ROW_FIELD(s->m, r, state) & ROW_IN_NEW ? s->list_new : s->list_cur;
}

/* ---- matching ---- */

static slice table_name(const struct scan *s, size_t i)
{
    size_t n = rows_count(s->m);

    return i < n ? row_name(s->m, i) : slice_str(s->m->doomed[i - n].name);
}

static void table_make(struct scan *s)
{
    size_t rows = rows_count(s->m);
    size_t n = rows + s->m->n_doomed;

    s->n_table = 16;
    while (s->n_table < 2 * n)
        s->n_table *= 2;
    s->table = xcalloc(s->n_table, sizeof *s->table);
    for (size_t i = 0; i < n; i++) {
        size_t at;

        if (i < rows && row_is_hole(s->m, i))
            continue;
        at = slice_hash(table_name(s, i)) & (s->n_table - 1);
        while (s->table[at])
            at = (at + 1) & (s->n_table - 1);
        s->table[at] = (uint32_t)(i + 1);
    }
}

/* A row, or at least rows_count(): a doomed file; SIZE_MAX: neither. */
static size_t table_find(const struct scan *s, slice base)
{
    size_t at = slice_hash(base) & (s->n_table - 1);

    while (s->table[at]) {
        size_t i = s->table[at] - 1;

        if (slice_eq(table_name(s, i), base))
            return i;
        at = (at + 1) & (s->n_table - 1);
    }
    return SIZE_MAX;
}

/* Bits of the keywords that have a name and a letter. */
static uint64_t named_keywords(const struct store_mailbox *m)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < m->n_keywords && i < 26; i++)
        if (m->keyword[i][0] != '\0')
            bits |= UINT64_C(1) << i;
    return bits;
}

static void merge_letters(struct scan *s, size_t r, uint32_t theirs)
{
    struct store_mailbox *m = s->m;
    uint32_t flags = ROW_FIELD(m, r, flags);
    uint64_t keywords = ROW_FIELD(m, r, keywords);
    uint32_t changed = theirs ^ ROW_FIELD(m, r, letters);
    uint32_t merged =
        (letters_of(flags, keywords) & ~changed) | (theirs & changed);
    uint64_t named = named_keywords(m);

    uint32_t new_flags = flags_of_letters(merged);
    uint64_t new_keywords =
        (keywords & ~named) | (keywords_of_letters(merged) & named);

    if (new_flags == flags && new_keywords == keywords)
        return;
    buf_u32(&s->flags, ROW_FIELD(m, r, uid));
    buf_u32(&s->flags, new_flags);
    buf_u64(&s->flags, new_keywords);
}

/* Letters that a power cut brought back are not a stranger's. */
static bool is_our_name(const struct scan *s, size_t r,
                        const struct file_name *f)
{
    const struct renamed *x =
        s->recover ? renamed_find(s->m, ROW_FIELD(s->m, r, uid)) : NULL;

    return x && x->from == f->letters;
}

static void match_row(struct scan *s, size_t r, const struct file_name *f,
                      bool in_new)
{
    struct store_mailbox *m = s->m;
    uint32_t state = ROW_FIELD(m, r, state) & ROW_KEEP;

    if (s->seen[r])
        return; /* a second name of it: links are no messages */
    s->seen[r] = 1;
    state |= in_new ? ROW_IN_NEW : 0;
    state |= f->has_info ? ROW_HAS_INFO : 0;
    state |= f->odd ? ROW_ODD_NAME : 0;
    if (state == ROW_FIELD(m, r, state) &&
        f->letters == ROW_FIELD(m, r, letters))
        return;
    if (f->letters != ROW_FIELD(m, r, letters) && !is_our_name(s, r, f))
        merge_letters(s, r, f->letters);
    buf_u32(&s->files, ROW_FIELD(m, r, uid));
    buf_u32(&s->files, f->letters);
    buf_u32(&s->files, state);
}

static int add_cmp(const void *a, const void *b)
{
    const struct add *x = a;
    const struct add *y = b;

    if (x->uid != y->uid) /* without a UID (0) behind those with one */
        return x->uid - 1 < y->uid - 1 ? -1 : 1;
    if (x->sec != y->sec)
        return x->sec < y->sec ? -1 : 1;
    return slice_cmp(x->base, y->base);
}

static struct add add_of(const struct scan *s, slice name,
                         const struct file_name *f, bool in_new)
{
    const struct takeover *t = s->m->takeover;
    struct add a = { name, f->base, f->sec, in_new, 0, NULL };

    if (!t)
        return a;
    a.known = takeover_find(t, f->base);
    if (a.known && t->uidvalidity != 0)
        a.uid = a.known->uid;
    return a;
}

static void match(struct scan *s)
{
    struct store_mailbox *m = s->m;

    s->n_adds = 0;
    for (size_t i = 0; i < m->n_doomed; i++)
        m->doomed[i].is_seen = false;
    s->adds = xrealloc(s->adds, (s->n_found + 1) * sizeof *s->adds);
    for (size_t i = 0; i < s->n_found; i++) {
        const struct found *e = &s->found[i];
        slice name = slice_of(s->names.p + e->off, e->len);
        struct file_name f;
        size_t r;

        if (!file_name_parse(name, &f))
            continue;
        r = table_find(s, f.base);
        if (r < rows_count(m))
            match_row(s, r, &f, e->in_new);
        else if (r != SIZE_MAX)
            m->doomed[r - rows_count(m)].is_seen = true;
        else
            s->adds[s->n_adds++] = add_of(s, name, &f, e->in_new);
    }
}

/* One pass over the directories; true in *again when a file seems gone. */
static int scan_pass(struct scan *s, bool *again, struct err *err)
{
    size_t n = rows_count(s->m);

    s->n_found = 0;
    buf_clear(&s->names);
    buf_clear(&s->flags);
    buf_clear(&s->files);
    memset(s->seen, 0, n + 1);
    if ((s->list_new && list_dir(s, "new", err) < 0) ||
        (s->list_cur && list_dir(s, "cur", err) < 0))
        return -1;
    match(s);
    *again = false;
    for (size_t r = 0; r < n; r++) {
        if (s->seen[r] || !in_scope(s, r))
            continue;
        s->missed[r]++;
        *again = true;
    }
    return 0;
}

/* ---- what a power cut may have hurt ---- */

static bool bytes_ok(struct store_mailbox *m, const char *path, uint64_t size,
                     uint32_t crc, bool has_crc)
{
    int fd CLEANUP(close_fd) = -1;
    uint64_t real;
    uint32_t sum;
    struct err err;

    if (engine_get(m->account->dir, path, &fd, &real, &err) != ENGINE_OK)
        return true; /* not to be judged */
    return real == size && (!has_crc || !file_crc(fd, &sum) || sum == crc);
}

/* A file that stays would be taken for mail by the next scan, and by other
 * programs: so without this the mailbox does not open. */
static int move_aside(struct store_mailbox *m, const char *path, slice base,
                      struct err *err)
{
    char to[PATH_IN_DIR_MAX];
    enum engine_outcome o;

    (void)snprintf(to, sizeof to, "%stmp/lost.%.*s", m->dir, SLF(base));
    o = engine_rename(m->account->dir, path, to, err);
    /* tmp/ itself may be what the power cut took. */
    if (o == ENGINE_NOENT && mailbox_make_dirs(m, err) == 0)
        o = engine_rename(m->account->dir, path, to, err);
    if (o != ENGINE_OK && o != ENGINE_NOENT)
        return store_fail(o, err, "move aside", path);
    if (o == ENGINE_OK)
        store_note(m->account, "%s was not written whole: moved to %s", path,
                   to);
    return 0;
}

static bool is_unverified(const struct scan *s, size_t r)
{
    return s->recover && r >= s->m->durable_rows;
}

static int check_rows(struct scan *s, struct err *err)
{
    struct store_mailbox *m = s->m;
    size_t n = rows_count(m);

    for (size_t r = m->durable_rows; s->recover && r < n; r++) {
        char path[PATH_IN_DIR_MAX + 64];
        struct row row;

        row_load(m, r, &row);
        if ((row.state & (ROW_HOLE | ROW_FOREIGN)) || !s->seen[r] ||
            !account_may_retry(m->account, row.sdate) ||
            !row_path(m, r, path, sizeof path) ||
            bytes_ok(m, path, row.size, row.crc, row.crc != 0))
            continue;
        if (move_aside(m, path, row_name(m, r), err) < 0)
            return -1;
        s->seen[r] = 0;
        s->missed[r] = PASSES;
    }
    return 0;
}

/* ---- taking it over into the index ---- */

static int put_list(struct scan *s, uint16_t type, slice items, size_t item,
                    struct err *err)
{
    struct store_mailbox *m = s->m;
    struct buf b CLEANUP(buf_done) = { 0 };
    bool counted = type == IR_FLAGS || type == IR_EXPUNGE;
    uint16_t must = counted ? ENGINE_MUST_UNDERSTAND : 0;
    uint64_t modseq = 0;

    buf_init(&b, ENGINE_RECORD_MAX);
    if (items.n > 0 && counted &&
        account_next_modseq(m->account, m, &modseq, err) < 0)
        return -1;
    for (size_t i = 0; i < items.n; i += LIST_ITEMS * item) {
        slice some = slice_sub(items, i, LIST_ITEMS * item);

        buf_clear(&b);
        if (counted)
            buf_u64(&b, modseq);
        if (type == IR_EXPUNGE)
            buf_u64(&b, (uint64_t)(clock_wall() / 1000));
        buf_slice(&b, some);
        if (index_append_buf(m, type | must, buf_view(&b), err) < 0)
            return -1;
        (void)index_apply(m, type, buf_view(&b), 0);
        s->changed = true;
    }
    return 0;
}

static int remember_gone(struct scan *s, struct err *err)
{
    struct store_mailbox *m = s->m;
    struct buf ids CLEANUP(buf_done) = { 0 };

    buf_init(&ids, (size_t)1 << 30);
    for (size_t r = 0; r < rows_count(m); r++) {
        struct row row;

        if (s->missed[r] < PASSES || row_is_hole(m, r))
            continue;
        row_load(m, r, &row);
        buf_u32(&s->gone, row.uid);
        /* Lost in a power cut, it was never delivered. */
        if (!is_unverified(s, r) && !id_is_zero(row.id))
            buf_put(&ids, row.id, ID_BYTES);
    }
    if (ids.n == 0)
        return 0;
    return account_gone(m->account, (const uint8_t(*)[ID_BYTES])(void *)ids.p,
                        ids.n / ID_BYTES, err);
}

static int64_t arrival(const struct file_name *f, const struct stat *st)
{
    return f->has_id && f->sec > 0 ? f->sec : st->st_mtim.tv_sec;
}

static void fill_strings(struct store_mailbox *m, const char *path,
                         struct row *row, struct buf *strings)
{
    int fd CLEANUP(close_fd) = -1;
    uint64_t size;
    struct err err;

    if (row->size > STRINGS_MAX_FILE ||
        engine_get(m->account->dir, path, &fd, &size, &err) != ENGINE_OK)
        return;
    if (file_strings(fd, strings, &row->crlf_size))
        row->cache_version = MAIL_MIME_VERSION;
    else
        buf_clear(strings);
}

static void foreign_id(slice base, uint8_t id[static ID_BYTES])
{
    uint8_t digest[32];

    sha256_of(base, digest);
    memcpy(id, digest, ID_BYTES);
}

/* What another server knew of it. */
static void take_known(const struct add *a, struct row *row,
                       struct buf *strings)
{
    struct buf uidl CLEANUP(buf_done) = { 0 };

    if (!a->known)
        return;
    row->uid = a->uid;
    if (row->crlf_size == 0)
        row->crlf_size = a->known->crlf_size;
    row->keywords |= a->known->keywords;
    buf_init(&uidl, FILE_NAME_MAX + 64);
    if (takeover_uidl(a->known, &uidl) &&
        attr_put(strings, STORE_POP3_UIDL, buf_view(&uidl)))
        row->state |= ROW_UIDL;
}

/* UIDs that the other server gave to messages that are gone. */
static int skip_known(struct store_mailbox *m, struct err *err)
{
    const struct takeover *t = m->takeover;
    uint8_t b[4];

    if (!t || t->uidvalidity == 0)
        return 0;
    if (t->uidnext > m->uidnext)
        m->uidnext = t->uidnext;
    m->recent = m->uidnext;
    set_u32(b, m->uidnext);
    if (index_append_buf(m, IR_RECENT, slice_of(b, sizeof b), err) < 0)
        return -1;
    m->reserved = m->uidnext - 1;
    set_u32(b, m->reserved);
    return index_append_buf(m, IR_RESERVE | ENGINE_MUST_UNDERSTAND,
                            slice_of(b, sizeof b), err);
}

/* Of a message of ours that has no row: it may have come with a power cut. */
static bool may_be_hurt(const struct scan *s, const struct file_name *f,
                        const struct stat *st)
{
    int64_t boot = s->m->account->store->cfg.boot;

    return s->recover && f->has_id && f->has_crc &&
           account_may_retry(s->m->account, f->sec) &&
           (boot == 0 || st->st_ctim.tv_sec <= boot + BOOT_MARGIN_S);
}

static int add_file(struct scan *s, const struct add *a, struct err *err)
{
    struct store_mailbox *m = s->m;
    struct buf strings CLEANUP(buf_done) = { 0 };
    char path[PATH_IN_DIR_MAX + 64];
    struct row row = { 0 };
    struct file_name f;
    struct stat st;
    int n = snprintf(path, sizeof path, "%s%s/%.*s", m->dir,
                     a->in_new ? "new" : "cur", SLF(a->name));

    if (n < 0 || (size_t)n >= sizeof path || !file_name_parse(a->name, &f) ||
        fstatat(engine_dir_fd(m->account->dir), path, &st,
                AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(st.st_mode))
        return 0;
    if (may_be_hurt(s, &f, &st) && !bytes_ok(m, path, f.size, f.crc, true))
        return move_aside(m, path, f.base, err);
    row.letters = f.letters;
    row.flags = flags_of_letters(f.letters);
    row.keywords = keywords_of_letters(f.letters) & named_keywords(m);
    row.state = (a->in_new ? ROW_IN_NEW : 0u) |
                (f.has_info ? ROW_HAS_INFO : 0u) | (f.odd ? ROW_ODD_NAME : 0u);
    row.size = (uint64_t)st.st_size;
    row.crlf_size = f.size == row.size ? f.crlf_size : 0;
    row.crc = f.has_crc ? f.crc : 0;
    row.idate = arrival(&f, &st);
    row.sdate = clock_wall() / 1000;
    if (f.has_id && row_by_id(m, f.id) == rows_count(m) &&
        !add_batch_knows(&s->batch, f.id)) {
        memcpy(row.id, f.id, ID_BYTES);
        memcpy(row.emailid, f.id, ID_BYTES);
    } else {
        row.state |= ROW_FOREIGN;
        foreign_id(f.base, row.emailid);
    }
    buf_init(&strings, ENGINE_RECORD_MAX / 2);
    if (s->recover && f.has_id && s->n_adds <= FILL_MAX &&
        account_may_retry(m->account, f.sec))
        fill_strings(m, path, &row, &strings);
    take_known(a, &row, &strings);
    s->changed = true;
    return add_batch_put(&s->batch, &row, f.base, buf_view(&strings), err);
}

static int note_scan(struct scan *s, struct err *err)
{
    struct store_mailbox *m = s->m;
    uint64_t instance = m->account->store->cfg.instance;
    struct buf b CLEANUP(buf_done) = { 0 };

    if (s->recover && m->last_instance != instance) {
        uint8_t now[8];

        set_u64(now, instance);
        if (index_append_buf(m, IR_INSTANCE, slice_of(now, sizeof now), err) <
            0)
            return -1;
        m->last_instance = instance;
    }
    if ((!s->list_new || s->new_stamp.nsec < 0 ||
         stamp_eq(&s->new_stamp, &m->new_stamp)) &&
        (!s->list_cur || s->cur_stamp.nsec < 0 ||
         stamp_eq(&s->cur_stamp, &m->cur_stamp)))
        return 0;
    if (!s->list_new)
        s->new_stamp = m->new_stamp;
    if (!s->list_cur)
        s->cur_stamp = m->cur_stamp;
    buf_init(&b, 64);
    buf_u64(&b, (uint64_t)s->new_stamp.sec);
    buf_u64(&b, (uint64_t)s->new_stamp.nsec);
    buf_u64(&b, (uint64_t)s->cur_stamp.sec);
    buf_u64(&b, (uint64_t)s->cur_stamp.nsec);
    if (index_append_buf(m, IR_SCAN, buf_view(&b), err) < 0)
        return -1;
    (void)index_apply(m, IR_SCAN, buf_view(&b), 0);
    return 0;
}

__attribute__((noinline)) /* Those with another server's UIDs come first. */
static int
add_run(struct scan *s, struct err *err)
{
    struct store_mailbox *m = s->m;
    bool skipped = false;

    for (size_t i = 0; i < s->n_adds; i++) {
        if (s->adds[i].uid == 0 && !skipped) {
            if (add_batch_flush(&s->batch, err) < 0 || skip_known(m, err) < 0)
                return -1;
            s->batch.next_uid = m->uidnext;
            skipped = true;
        }
        if (add_file(s, &s->adds[i], err) < 0)
            return -1;
    }
    if (add_batch_flush(&s->batch, err) < 0)
        return -1;
    return skipped ? 0 : skip_known(m, err);
}

static int add_all(struct scan *s, struct err *err)
{
    int rc;

    add_batch_init(&s->batch, s->m);
    rc = add_run(s, err);
    add_batch_done(&s->batch);
    return rc;
}

/* Of two files with one UID the second gets a new one. */
static void sort_adds(struct scan *s)
{
    bool again = false;

    qsort(s->adds, s->n_adds, sizeof *s->adds, add_cmp);
    for (size_t i = 1; i < s->n_adds; i++) {
        if (s->adds[i].uid == 0 || s->adds[i].uid != s->adds[i - 1].uid)
            continue;
        s->adds[i - 1].uid = 0;
        again = true;
    }
    if (again)
        qsort(s->adds, s->n_adds, sizeof *s->adds, add_cmp);
}

static int take_over(struct scan *s, struct err *err)
{
    struct store_mailbox *m = s->m;

    if (check_rows(s, err) < 0 || remember_gone(s, err) < 0 ||
        put_list(s, IR_EXPUNGE, buf_view(&s->gone), 4, err) < 0 ||
        put_list(s, IR_UNLINKED, buf_view(&s->gone), 4, err) < 0 ||
        put_list(s, IR_FLAGS, buf_view(&s->flags), 16, err) < 0 ||
        put_list(s, IR_FILE, buf_view(&s->files), 12, err) < 0)
        return -1;
    if (m->arriving > 0) { /* some of them may be on their way in */
        m->must_scan = true;
        return 0;
    }
    sort_adds(s);
    if (add_all(s, err) < 0)
        return -1;
    if (!s->partial)
        m->must_scan = false;
    return note_scan(s, err);
}

/* ---- tmp/: what a crash left of our own deliveries ---- */

static bool tmp_entry(const char *entry, void *arg)
{
    struct store_mailbox *m = arg;
    char path[PATH_IN_DIR_MAX + 64];
    struct file_name f;
    struct err err;

    if (m->is_inbox &&
        strncmp(entry, FOLDER_TRASH, sizeof FOLDER_TRASH - 1) == 0) {
        (void)snprintf(path, sizeof path, "tmp/%s", entry);
        folder_remove_trash(engine_dir_fd(m->account->dir), path);
        return true;
    }
    /* Under our lease nobody else writes such names here. */
    if (file_name_parse(slice_str(entry), &f) && f.has_id && f.has_crc) {
        (void)snprintf(path, sizeof path, "%stmp/%s", m->dir, entry);
        (void)engine_unlink(m->account->dir, path, &err);
    }
    return true;
}

static void clean_tmp(struct store_mailbox *m)
{
    char path[PATH_IN_DIR_MAX];
    struct err err;

    (void)snprintf(path, sizeof path, "%stmp", m->dir);
    (void)engine_list(m->account->dir, path, tmp_entry, m, &err);
}

static void scan_begin(struct scan *s)
{
    size_t n = rows_count(s->m);

    buf_init(&s->names, (size_t)1 << 30);
    buf_init(&s->flags, (size_t)1 << 30);
    buf_init(&s->files, (size_t)1 << 30);
    buf_init(&s->gone, (size_t)1 << 30);
    s->seen = xcalloc(n + 1, 1);
    s->missed = xcalloc(n + 1, 1);
    keywords_learn(s->m);
    table_make(s);
}

static int scan_run(struct scan *s, struct err *err)
{
    bool again = false;

    scan_begin(s);
    for (int pass = 0; pass < PASSES; pass++) {
        if (scan_pass(s, &again, err) < 0)
            return -1;
        if (!again)
            break;
    }
    /* Unlinked before a power cut, or a kill. */
    for (size_t i = 0; i < s->m->n_doomed; i++)
        if (s->recover && s->list_new && s->list_cur &&
            !s->m->doomed[i].is_seen)
            s->m->doomed[i].is_unlinked = true;
    return take_over(s, err);
}

int mailbox_scan(struct store_mailbox *m, unsigned flags, struct err *err)
{
    bool force = (flags & SCAN_FORCE) != 0 || m->must_scan;
    struct scan s = { .m = m, .recover = (flags & SCAN_RECOVER) != 0 };
    int rc;

    if (mailbox_check_there(m, err) < 0)
        return -1;
    if (dir_stamp(m, "new", &s.new_stamp, err) < 0 ||
        dir_stamp(m, "cur", &s.cur_stamp, err) < 0)
        return -1;
    s.list_new = force || !stamp_eq(&s.new_stamp, &m->new_stamp);
    s.list_cur = force || !stamp_eq(&s.cur_stamp, &m->cur_stamp);
    if (!s.list_new && !s.list_cur)
        return 0;
    if (s.recover)
        clean_tmp(m);
    rc = scan_run(&s, err);
    scan_done(&s);
    if (rc < 0)
        return err_prefix(err, "scan %s", m->name);
    if (s.changed) {
        mailbox_changed(m);
        tidy_later(m); /* what came with both sides' flags */
        if (m->loaded)
            mailbox_compact_if_due(m);
    }
    return 0;
}

void mailbox_note_times(struct store_mailbox *m)
{
    struct scan s = { .m = m, .list_new = true, .list_cur = true };
    struct err err;

    if (m->damaged || m->must_scan || m->arriving > 0 || !m->stranger.on)
        return;
    /* Times first: what happens after is told, or makes them others. */
    if (dir_stamp(m, "new", &s.new_stamp, &err) == 0 &&
        dir_stamp(m, "cur", &s.cur_stamp, &err) == 0 && watch_is_quiet(m) &&
        s.new_stamp.nsec >= 0 && s.cur_stamp.nsec >= 0)
        (void)note_scan(&s, &err);
}

/* ---- some files ---- */

struct scan_names {
    struct scan s;
};

struct scan_names *scan_names_new(struct store_mailbox *m)
{
    struct scan_names *n = xcalloc(1, sizeof *n);

    n->s.m = m;
    n->s.partial = true;
    scan_begin(&n->s);
    return n;
}

void scan_names_put(struct scan_names *n, slice name, bool in_new)
{
    char text[FILE_NAME_MAX + 1];

    n->s.in_new = in_new;
    if (slice_copy_to(name, text, sizeof text))
        (void)list_entry(text, &n->s);
}

int scan_names_apply(struct scan_names **np, struct err *err)
{
    struct scan_names *n = *np;
    int rc = 0;

    if (n->s.n_found > 0) {
        match(&n->s);
        rc = take_over(&n->s, err);
    }
    if (n->s.changed)
        mailbox_changed(n->s.m);
    scan_done(&n->s);
    free(n);
    *np = NULL;
    return rc;
}

/* ---- one file ---- */

struct base_search {
    slice base;
    char name[FILE_NAME_MAX + 1];
};

static bool base_entry(const char *entry, void *arg)
{
    struct base_search *b = arg;
    struct file_name f;

    if (!file_name_parse(slice_str(entry), &f) || !slice_eq(f.base, b->base))
        return true;
    return !slice_copy_to(slice_str(entry), b->name, sizeof b->name);
}

bool find_by_base(struct store_mailbox *m, slice base, char *path, size_t size)
{
    static const char *const subs[] = { "cur", "new" };

    for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
        struct base_search b = { .base = base };
        char dir[PATH_IN_DIR_MAX];
        struct err err;
        int n;

        (void)snprintf(dir, sizeof dir, "%s%s", m->dir, subs[i]);
        (void)engine_list(m->account->dir, dir, base_entry, &b, &err);
        if (b.name[0] == '\0')
            continue;
        n = snprintf(path, size, "%s/%s", dir, b.name);
        return n > 0 && (size_t)n < size;
    }
    return false;
}

bool unlink_by_base(struct store_mailbox *m, slice base)
{
    char path[PATH_IN_DIR_MAX + FILE_NAME_MAX];
    enum engine_outcome o;
    struct err err;

    if (!find_by_base(m, base, path, sizeof path))
        return true;
    o = engine_unlink(m->account->dir, path, &err);
    return o == ENGINE_OK || o == ENGINE_NOENT;
}
