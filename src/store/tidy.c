#include "store/store_priv.h"

/*
 * The files follow the index: names get the letters of the flags, expunged
 * files go.  A task of its own does it, a while after a change and a little at
 * a time, so that a command does not wait for renames; what it does not come to
 * is still in the index when the mailbox is opened again.
 *
 * A power cut may undo renames and unlinks while the index tells of them.  So
 * an expunged file is remembered until a sync has made its unlink last, or it
 * would come back as a new message; and a name's old letters are, or they would
 * be taken for what a stranger did since, and take back flags.
 */

enum {
    UNLINK_BATCH = 256,
    LATER_MS = 1000,
    PAUSE_MS = 10,
    AT_A_TIME = 200,
    RENAMED_MAX = 1024, /* names that no sync has settled */
};

/* Letters that the file's name should have: ours, and such keyword letters as
 * nobody gave a name to. */
static uint32_t want_letters(const struct store_mailbox *m, size_t r)
{
    uint32_t unnamed = ROW_FIELD(m, r, letters) & ~UINT32_C(63);

    for (size_t i = 0; i < m->n_keywords && i < 26; i++)
        if (m->keyword[i][0] != '\0')
            unnamed &= ~(UINT32_C(64) << i);
    return letters_of(ROW_FIELD(m, r, flags), ROW_FIELD(m, r, keywords)) |
           unnamed;
}

/* What is gone by now; without a loop nobody will sync, so that it is noted at
 * once. */
static void unlinked(struct doomed *d, struct buf *done)
{
    if (done)
        buf_u32(done, d->uid);
    else
        d->is_unlinked = true;
}

/* Files that are not where they should be: a stranger renamed or removed them.
 * Many are looked for together. */
static size_t tidy_missing(struct store_mailbox *m, size_t n_missing,
                           struct buf *done)
{
    bool is_listed = false;
    size_t left = 0;
    struct err err;

    if (n_missing > 2 && mailbox_scan(m, SCAN_FORCE, &err) == 0)
        is_listed = true;
    for (size_t i = 0; i < m->n_doomed; i++) {
        struct doomed *d = &m->doomed[i];

        if (!d->is_missing)
            continue;
        d->is_missing = false;
        if ((is_listed && !d->is_seen) || unlink_by_base(m, slice_str(d->name)))
            unlinked(d, done);
        else
            left++;
    }
    return left;
}

static size_t tidy_doomed(struct store_mailbox *m, size_t max_ops,
                          struct buf *done)
{
    char path[PATH_IN_DIR_MAX];
    size_t left = 0;
    size_t n_missing = 0;
    size_t ops = 0;
    struct err err;

    for (size_t i = 0; i < m->n_doomed; i++) {
        struct doomed *d = &m->doomed[i];
        enum engine_outcome o;

        if (d->is_unlinked)
            continue;
        if (ops >= max_ops || (done && done->n >= done->max) ||
            !file_path(m, slice_str(d->name), d->letters, d->state, path,
                       sizeof path)) {
            left++;
            continue;
        }
        ops++;
        o = engine_unlink(m->account->dir, path, &err);
        if (o == ENGINE_OK) {
            unlinked(d, done);
        } else if (o == ENGINE_NOENT) {
            d->is_missing = true;
            n_missing++;
        } else {
            left++;
        }
    }
    return n_missing == 0 ? left : left + tidy_missing(m, n_missing, done);
}

static void note_unlinked(struct store_mailbox *m, const struct buf *uids)
{
    struct err err;

    if (uids->n > 0 &&
        index_append_buf(m, IR_UNLINKED, buf_view(uids), &err) == 0)
        (void)index_apply(m, IR_UNLINKED, buf_view(uids), 0);
}

void tidy_unlink_all(struct store_mailbox *m)
{
    struct buf done CLEANUP(buf_done) = { 0 };

    buf_init(&done, ENGINE_RECORD_MAX / 2);
    for (size_t i = 0; i < m->n_doomed; i++)
        if (m->doomed[i].is_unlinked)
            buf_u32(&done, m->doomed[i].uid);
    (void)tidy_doomed(m, SIZE_MAX, &done);
    note_unlinked(m, &done);
}

static bool tidy_row(struct store_mailbox *m, size_t r, uint32_t letters,
                     struct buf *done)
{
    uint32_t state = ROW_HAS_INFO | (ROW_FIELD(m, r, state) & ROW_KEEP);
    char from[PATH_IN_DIR_MAX + 64];
    char to[PATH_IN_DIR_MAX + 64];
    struct err err;

    if (!row_path(m, r, from, sizeof from) ||
        !file_path(m, row_name(m, r), letters, state, to, sizeof to) ||
        engine_rename(m->account->dir, from, to, &err) != ENGINE_OK)
        return false;
    buf_u32(done, ROW_FIELD(m, r, uid));
    buf_u32(done, letters);
    buf_u32(done, state);
    if (task_inside())
        buf_u32(done, ROW_FIELD(m, r, letters));
    return true;
}

static size_t tidy_names(struct store_mailbox *m, size_t max_ops)
{
    struct buf done CLEANUP(buf_done) = { 0 };
    uint16_t type = task_inside() ? IR_RENAMED : IR_FILE;
    size_t n = rows_count(m);
    size_t ops = 0;
    size_t left = 0;
    struct err err;

    buf_init(&done, (size_t)16 * UNLINK_BATCH);
    for (size_t r = 0; r < n; r++) {
        uint32_t letters;

        if (row_is_hole(m, r) || (ROW_FIELD(m, r, state) & ROW_ODD_NAME))
            continue;
        letters = want_letters(m, r);
        if (letters == ROW_FIELD(m, r, letters))
            continue;
        /* Of a file without a settled name two are possible, not three: it
         * waits for tidy_settle(), nobody else can do more. */
        if (m->n_renamed >= RENAMED_MAX ||
            renamed_find(m, ROW_FIELD(m, r, uid)))
            continue;
        if (ops >= max_ops || done.n >= done.max)
            left++;
        else if (tidy_row(m, r, letters, &done))
            ops++;
        /* Otherwise a stranger was faster: the next sync tells. */
    }
    if (done.n > 0 && index_append_buf(m, type, buf_view(&done), &err) == 0)
        (void)index_apply(m, type, buf_view(&done), 0);
    return left;
}

static bool is_unsettled(const struct store_mailbox *m)
{
    for (size_t i = 0; i < m->n_doomed; i++)
        if (m->doomed[i].is_unlinked)
            return true;
    return m->n_renamed > 0;
}

size_t store_mailbox_tidy(struct store_mailbox *m, size_t max_ops)
{
    struct buf done CLEANUP(buf_done) = { 0 };
    size_t left;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    buf_init(&done, (size_t)4 * UNLINK_BATCH);
    left = tidy_doomed(m, max_ops, task_inside() ? NULL : &done);
    note_unlinked(m, &done);
    left += tidy_names(m, max_ops);
    if (is_unsettled(m))
        tidy_later(m);
    return left;
}

/* ---- what the disk has for good ---- */

static void put_settled(struct store_mailbox *m, const struct renamed *list,
                        size_t n, struct buf *b)
{
    for (size_t i = 0; i < n; i++) {
        size_t r = row_find(m, list[i].uid);

        if (r >= rows_count(m) || !renamed_find(m, list[i].uid))
            continue;
        buf_u32(b, list[i].uid);
        buf_u32(b, ROW_FIELD(m, r, letters));
        buf_u32(b, ROW_FIELD(m, r, state));
    }
}

/* Notes what was so before the sync, and is still. */
MAY_WAIT static bool settle(struct store_mailbox *m, const struct buf *uids,
                            const struct renamed *list, size_t n)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    if (store_mailbox_durable(m, &err) < 0 || m->is_gone)
        return false;
    note_unlinked(m, uids);
    buf_init(&b, ENGINE_RECORD_MAX / 2);
    put_settled(m, list, n, &b);
    if (b.n > 0 && index_append_buf(m, IR_FILE, buf_view(&b), &err) == 0)
        (void)index_apply(m, IR_FILE, buf_view(&b), 0);
    for (size_t i = 0; i < n; i++) /* of rows that are gone, too */
        renamed_del(m, list[i].uid);
    return true;
}

bool tidy_settle(struct store_mailbox *m)
{
    struct buf uids CLEANUP(buf_done) = { 0 };
    struct renamed *list CLEANUP(free_ptr) = NULL;
    size_t n = m->n_renamed;
    bool done = false;

    if (m->is_settling || m->is_gone || !is_unsettled(m))
        return false;
    m->is_settling = true;
    m->pins++;
    m->account->pins++;
    buf_init(&uids, ENGINE_RECORD_MAX / 2);
    for (size_t i = 0; i < m->n_doomed; i++)
        if (m->doomed[i].is_unlinked)
            buf_u32(&uids, m->doomed[i].uid);
    list = xcalloc(n + 1, sizeof *list);
    for (size_t i = 0; i < n; i++)
        list[i] = m->renamed[i];
    done = settle(m, &uids, list, n);
    m->is_settling = false;
    store_mailbox_unref(&m);
    return done;
}

/* ---- by itself ---- */

MAY_WAIT static void tidy_task(void *arg)
{
    struct store_mailbox *m = arg;
    size_t before = SIZE_MAX;
    size_t left;
    struct err err;

    /* What cannot be done now, because a stranger was faster or the disk says
     * no, has time until the next change. */
    while (!m->is_gone) {
        left = store_mailbox_tidy(m, AT_A_TIME);
        if (left == 0 || left >= before || m->n_renamed >= RENAMED_MAX) {
            if (!tidy_settle(m))
                break;
            left = SIZE_MAX;
        } else if (task_sleep(PAUSE_MS, &err) < 0) {
            break;
        }
        before = left;
    }
    m->is_tidying = false;
    store_mailbox_unref(&m);
}

static void fired(struct timer *t)
{
    struct store_mailbox *m = CONTAINER_OF(t, struct store_mailbox, tidy_timer);

    if (m->is_gone)
        return;
    m->is_tidying = true;
    m->pins++;
    m->account->pins++;
    (void)task_spawn("store-tidy", tidy_task, m);
}

void tidy_later(struct store_mailbox *m)
{
    if (task_inside() && !m->is_tidying && !timer_is_set(&m->tidy_timer))
        timer_set(&m->tidy_timer, clock_after(LATER_MS), fired);
}
