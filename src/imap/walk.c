/* Over the messages that a command names. */
#include "imap/imap_priv.h"

uint32_t imap_row_uid(struct store_view *v, size_t row)
{
    struct store_row r;
    uint32_t uid = store_row_uid(v->mailbox, row);

    if (uid != 0)
        return uid;
    store_view_get(v, row, &r); /* expunged, but not told */
    return r.uid;
}

/* The highest UID of the view, or 0. */
static uint32_t last_uid(struct store_view *v)
{
    uint32_t n = store_view_messages(v);

    return n > 0 ? imap_row_uid(v, store_view_row(v, n)) : 0;
}

bool imap_cmd_set(struct imap_cmd *c, struct imap_set *out)
{
    struct store_view *v = &c->s->selected->view;
    uint32_t n = store_view_messages(v);

    if (!imap_sp(&c->in) ||
        !imap_set_parse(&c->in, c->is_uid ? last_uid(v) : n, out)) {
        imap_bad(c, "Invalid messageset.");
        return false;
    }
    if (n == 0)
        out->n = 0;
    if (!c->is_uid && out->n > 0 && out->v[out->n - 1].hi > n) {
        imap_bad(c, "Invalid messageset.");
        return false;
    }
    return true;
}

void imap_walk_init(struct imap_walk *w, struct imap_session *s,
                    struct imap_set *set, bool is_uid)
{
    *w = (struct imap_walk){ .view = &s->selected->view,
                             .set = set,
                             .is_uid = is_uid };
}

/* To the first message of the range that begins the next stretch. */
static bool enter_range(struct imap_walk *w)
{
    const struct imap_range *r = &w->set->v[w->range];
    struct store_view *v = w->view;
    size_t row;

    if (w->is_uid)
        row = store_view_next(v, store_row_at(v->mailbox, r->lo));
    else
        row = store_view_row(v, r->lo);
    if (row >= v->rows) {
        w->range = w->set->n; /* nor in those behind it */
        return false;
    }
    w->row = row;
    w->seq = w->is_uid ? store_view_seq(v, row) : r->lo;
    w->in_range = true;
    return true;
}

static bool step(struct imap_walk *w)
{
    if (!w->in_range)
        return enter_range(w);
    w->row = store_view_next(w->view, w->row + 1);
    w->seq++;
    if (w->row < w->view->rows)
        return true;
    w->range = w->set->n;
    return false;
}

bool imap_walk_next(struct imap_walk *w)
{
    while (w->range < w->set->n) {
        if (!step(w))
            continue;
        w->uid = imap_row_uid(w->view, w->row);
        if ((w->is_uid ? w->uid : w->seq) <= w->set->v[w->range].hi)
            return true;
        w->in_range = false;
        w->range++;
    }
    return false;
}
