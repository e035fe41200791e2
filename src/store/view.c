#include "store/store_priv.h"

/*
 * Views: what one client was told of a mailbox (store.h).
 *
 * A row's sequence number is its place among the rows that are no holes, plus
 * the holes before it that this view does not know of yet (v->gone).  The
 * mailbox counts holes in a Fenwick tree, which all its views share; a view
 * holds only what lies between it and the present.
 */

enum {
    FENWICK_FIRST = 64,
    GONE_FIRST = 16,
    GONE_KEEP = 1024, /* a longer array is given back when it is empty */
};

/* ---- holes of a mailbox, counted ---- */

static uint32_t low_bit(size_t i)
{
    return (uint32_t)(i & (~i + 1));
}

/* Holes among the first n rows. */
static size_t holes_before(const struct store_mailbox *m, size_t n)
{
    size_t sum = 0;

    if (n >= m->n_fenwick)
        return m->n_holes;
    for (size_t i = n; i > 0; i -= low_bit(i))
        sum += m->fenwick[i];
    return sum;
}

static void fenwick_grow(struct store_mailbox *m, size_t row)
{
    size_t old = m->n_fenwick ? m->n_fenwick : 1;
    size_t n = old > FENWICK_FIRST ? old : FENWICK_FIRST;

    if (row + 1 < m->n_fenwick)
        return;
    while (n <= row + 1)
        n *= 2;
    m->fenwick = xrealloc(m->fenwick, n * sizeof *m->fenwick);
    if (m->n_fenwick == 0)
        m->fenwick[0] = 0;
    /* A new node takes what the nodes below it, which are whole, hold. */
    for (size_t i = old; i < n; i++) {
        uint32_t sum = 0;

        for (uint32_t b = 1; b < low_bit(i); b *= 2)
            sum += m->fenwick[i - b];
        m->fenwick[i] = sum;
    }
    m->n_fenwick = n;
}

void view_note_hole(struct store_mailbox *m, size_t row)
{
    fenwick_grow(m, row);
    for (size_t i = row + 1; i < m->n_fenwick; i += low_bit(i))
        m->fenwick[i]++;
    m->n_holes++;
    if (!m->loaded)
        return;
    if (m->n_expunged == m->expunged_size) {
        m->expunged_size = m->expunged_size ? m->expunged_size * 2 : 16;
        m->expunged =
            xrealloc(m->expunged, m->expunged_size * sizeof *m->expunged);
    }
    m->expunged[m->n_expunged++] = (uint32_t)row;
}

void view_note_change(struct store_mailbox *m, size_t row)
{
    if (!m->loaded)
        return;
    if (!m->changed)
        m->changed = xcalloc(VIEW_CHANGES, sizeof *m->changed);
    m->changed[m->changes_end++ % VIEW_CHANGES] = (uint32_t)row;
}

void view_forget(struct store_mailbox *m)
{
    free(m->fenwick);
    free(m->expunged);
    free(m->changed);
    m->fenwick = m->expunged = m->changed = NULL;
    m->n_fenwick = m->n_holes = m->n_expunged = m->expunged_size = 0;
    m->changes_end = 0;
}

size_t view_memory(const struct store_mailbox *m)
{
    return (m->n_fenwick + m->expunged_size) * sizeof(uint32_t) +
           (m->changed ? VIEW_CHANGES * sizeof(uint32_t) : 0);
}

/* ---- one view ---- */

void store_view_open(struct store_view *v, struct store_mailbox *m)
{
    CHECK_OBJ(m, MAILBOX_MAGIC);
    *v = (struct store_view){
        .mailbox = m,
        .rows = rows_count(m),
        .messages = (uint32_t)m->messages,
        .changes = m->changes_end,
        .modseq = m->highestmodseq,
        .expunges = m->n_expunged,
    };
    m->pins++;
    m->account->pins++;
}

void store_view_close(struct store_view *v)
{
    free(v->gone);
    store_mailbox_unref(&v->mailbox);
    *v = (struct store_view){ 0 };
}

uint32_t store_view_messages(const struct store_view *v)
{
    return v->messages;
}

/* How many of the untold ones lie below `row`. */
static size_t gone_below(const struct store_view *v, size_t row)
{
    size_t lo = 0;
    size_t hi = v->n_gone;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (v->gone[mid] < row)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int row_cmp(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Take over what was expunged since. */
static void pull(struct store_view *v)
{
    const struct store_mailbox *m = v->mailbox;
    bool sorted = true;

    for (; v->expunges < m->n_expunged; v->expunges++) {
        uint32_t row = m->expunged[v->expunges];

        if (row >= v->rows)
            continue; /* came and went untold */
        if (v->n_gone == v->gone_size) {
            v->gone_size = v->gone_size ? v->gone_size * 2 : GONE_FIRST;
            v->gone = xrealloc(v->gone, v->gone_size * sizeof *v->gone);
        }
        sorted = sorted && (v->n_gone == 0 || v->gone[v->n_gone - 1] < row);
        v->gone[v->n_gone++] = row;
    }
    if (!sorted)
        qsort(v->gone, v->n_gone, sizeof *v->gone, row_cmp);
}

bool store_view_is_gone(const struct store_view *v, size_t row)
{
    return row < v->rows && row_is_hole(v->mailbox, row);
}

static bool is_untold(const struct store_view *v, size_t row)
{
    size_t at = gone_below(v, row);

    return at < v->n_gone && v->gone[at] == row;
}

/* Numbers used up by the rows to `row`, itself included. */
static size_t number_of(const struct store_view *v, size_t row)
{
    return row + 1 - holes_before(v->mailbox, row + 1) + gone_below(v, row + 1);
}

size_t store_view_row(struct store_view *v, uint32_t seq)
{
    size_t lo = 0;
    size_t hi = v->rows;

    pull(v);
    if (seq == 0 || seq > v->messages)
        return rows_count(v->mailbox);
    if (v->mailbox->n_holes == 0)
        return seq - 1;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (number_of(v, mid) < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t store_view_seq(struct store_view *v, size_t row)
{
    pull(v);
    if (row >= v->rows || (row_is_hole(v->mailbox, row) && !is_untold(v, row)))
        return 0;
    return (uint32_t)number_of(v, row);
}

size_t store_view_next(struct store_view *v, size_t row)
{
    pull(v);
    for (; row < v->rows; row++)
        if (!row_is_hole(v->mailbox, row) || is_untold(v, row))
            return row;
    return rows_count(v->mailbox);
}

size_t store_view_by_uid(struct store_view *v, uint32_t uid)
{
    size_t row = store_row_at(v->mailbox, uid);

    if (row < v->rows && ROW_FIELD(v->mailbox, row, uid) == uid &&
        store_view_next(v, row) == row)
        return row;
    return rows_count(v->mailbox);
}

/* The first row behind the view that is there. */
static size_t first_new(const struct store_view *v)
{
    const struct store_mailbox *m = v->mailbox;
    size_t row = v->rows;

    while (row < rows_count(m) && row_is_hole(m, row))
        row++;
    return row;
}

unsigned store_view_pending(struct store_view *v)
{
    const struct store_mailbox *m = v->mailbox;
    unsigned what = 0;

    pull(v);
    if (v->n_gone > 0)
        what |= STORE_VIEW_EXPUNGED;
    if (first_new(v) < rows_count(m))
        what |= STORE_VIEW_NEW;
    if (v->is_old || m->changes_end > v->changes)
        what |= STORE_VIEW_FLAGS;
    return what;
}

static void tell_expunged(struct store_view *v,
                          const struct store_view_ops *ops, void *arg)
{
    const struct store_mailbox *m = v->mailbox;

    while (v->n_gone > 0) {
        size_t row = v->gone[v->n_gone - 1];
        uint32_t seq = (uint32_t)number_of(v, row);

        v->n_gone--;
        v->messages--;
        ops->expunged(arg, seq, ROW_FIELD(m, row, uid));
    }
    if (v->gone_size > GONE_KEEP) {
        free(v->gone);
        v->gone = NULL;
        v->gone_size = 0;
    }
}

static void tell_new(struct store_view *v, const struct store_view_ops *ops,
                     void *arg)
{
    const struct store_mailbox *m = v->mailbox;
    size_t first = first_new(v);
    uint32_t n = 0;

    v->rows = rows_count(m);
    for (size_t row = first; row < v->rows; row++)
        n += !row_is_hole(m, row);
    v->messages += n;
    if (n > 0)
        ops->exists(arg, v->messages, first);
}

static void tell_row(struct store_view *v, size_t row,
                     const struct store_view_ops *ops, void *arg)
{
    const struct store_mailbox *m = v->mailbox;

    if (row_is_hole(m, row) ||
        (v->own != 0 && ROW_FIELD(m, row, modseq) == v->own))
        return;
    ops->flags(arg, row, (uint32_t)number_of(v, row));
}

static void tell_flags(struct store_view *v, size_t known,
                       const struct store_view_ops *ops, void *arg)
{
    const struct store_mailbox *m = v->mailbox;
    size_t n = (size_t)(m->changes_end - v->changes);
    uint32_t *rows;

    if (v->is_old || n > VIEW_CHANGES) {
        for (size_t row = 0; row < known; row++)
            if (ROW_FIELD(m, row, modseq) > v->modseq)
                tell_row(v, row, ops, arg);
        return;
    }
    if (n == 0)
        return;
    rows = xcalloc(n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        rows[i] = m->changed[(v->changes + i) % VIEW_CHANGES];
    qsort(rows, n, sizeof *rows, row_cmp);
    for (size_t i = 0; i < n; i++)
        if (rows[i] < known && (i == 0 || rows[i] != rows[i - 1]))
            tell_row(v, rows[i], ops, arg);
    free(rows);
}

void store_view_sync(struct store_view *v, unsigned what,
                     const struct store_view_ops *ops, void *arg)
{
    size_t known = v->rows;

    CHECK_OBJ(v->mailbox, MAILBOX_MAGIC);
    pull(v);
    if (what & STORE_VIEW_EXPUNGED)
        tell_expunged(v, ops, arg);
    if (what & STORE_VIEW_NEW)
        tell_new(v, ops, arg);
    if (what & STORE_VIEW_FLAGS) {
        tell_flags(v, known, ops, arg);
        v->is_old = false;
        v->changes = v->mailbox->changes_end;
        v->modseq = v->mailbox->highestmodseq;
    }
}
