#include "store/store_priv.h"

/*
 * The files follow the index: names get the letters of the flags, expunged
 * files go.  A task of its own does it, a while after a change and a little at
 * a time, so that a command does not wait for renames; what it does not come to
 * is still in the index when the mailbox is opened again.
 */

enum {
    UNLINK_BATCH = 256,
    LATER_MS = 1000,
    PAUSE_MS = 10,
    AT_A_TIME = 200,
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

static size_t tidy_doomed(struct store_mailbox *m, size_t max_ops)
{
    struct buf done CLEANUP(buf_done) = { 0 };
    char path[PATH_IN_DIR_MAX + 64];
    size_t left = 0;
    struct err err;

    buf_init(&done, (size_t)4 * UNLINK_BATCH);
    for (size_t i = 0; i < m->n_doomed; i++) {
        const struct doomed *d = &m->doomed[i];
        enum engine_outcome o;

        if (i >= max_ops || done.n >= done.max ||
            !file_path(m, slice_str(d->name), d->letters, d->state, path,
                       sizeof path)) {
            left++;
            continue;
        }
        o = engine_unlink(m->account->dir, path, &err);
        if (o == ENGINE_OK ||
            (o == ENGINE_NOENT && unlink_by_base(m, slice_str(d->name))))
            buf_u32(&done, d->uid);
        else
            left++;
    }
    if (done.n > 0 &&
        index_append_buf(m, IR_UNLINKED, buf_view(&done), &err) == 0)
        (void)index_apply(m, IR_UNLINKED, buf_view(&done), 0);
    return left;
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
    return true;
}

size_t store_mailbox_tidy(struct store_mailbox *m, size_t max_ops)
{
    struct buf done CLEANUP(buf_done) = { 0 };
    size_t left, n = rows_count(m);
    size_t ops = 0;
    struct err err;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    left = tidy_doomed(m, max_ops);
    buf_init(&done, (size_t)12 * UNLINK_BATCH);
    for (size_t r = 0; r < n; r++) {
        uint32_t letters;

        if (row_is_hole(m, r) || (ROW_FIELD(m, r, state) & ROW_ODD_NAME))
            continue;
        letters = want_letters(m, r);
        if (letters == ROW_FIELD(m, r, letters))
            continue;
        if (ops >= max_ops || done.n >= done.max)
            left++;
        else if (tidy_row(m, r, letters, &done))
            ops++;
        /* Otherwise a stranger was faster: the next sync tells. */
    }
    if (done.n > 0 && index_append_buf(m, IR_FILE, buf_view(&done), &err) == 0)
        (void)index_apply(m, IR_FILE, buf_view(&done), 0);
    return left;
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
    while (!m->is_gone && (left = store_mailbox_tidy(m, AT_A_TIME)) > 0 &&
           left < before) {
        before = left;
        if (task_sleep(PAUSE_MS, &err) < 0)
            break;
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
