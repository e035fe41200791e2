/* SEARCH and UID SEARCH: RFC 3501 6.4.4, answers by RFC 4731 (ESEARCH). */
#include "imap/search.h"

struct results {
    struct search *q;
    struct buf all; /* "1 2 3", or a set */
    struct imap_set_out set;
    uint32_t min, max;
    uint64_t count;
    uint64_t modseq; /* highest of those found */
};

/* ------------------------------------------------------------ is it one of
 * them */

static bool in_days(const struct search_key *k, int64_t seconds)
{
    int64_t day = (seconds - (seconds < 0 ? 86399 : 0)) / 86400;

    return day >= k->from && day < k->to;
}

/* What lies in the columns. */
static bool by_row(const struct search_message *m, struct search_key *k)
{
    struct store_row row;

    switch ((unsigned)k->kind) {
    case SEARCH_ALL:
        return true;
    case SEARCH_FLAGS:
        return (store_row_flags(m->m, m->row) & k->n) == k->n;
    case SEARCH_KEYWORD:
        return k->n != SEARCH_NONE &&
               (store_row_keywords(m->m, m->row) >> k->n & 1) != 0;
    case SEARCH_RECENT:
        return m->uid >= m->s->selected->recent_from;
    case SEARCH_SEQ:
        return imap_set_has(&k->set, m->seq);
    case SEARCH_UID:
        return imap_set_has(&k->set, m->uid);
    case SEARCH_MODSEQ:
        return store_row_modseq(m->m, m->row) >= k->n;
    case SEARCH_DATE:
        return in_days(k, store_row_internaldate(m->m, m->row));
    case SEARCH_SECONDS: {
        int64_t at = store_row_internaldate(m->m, m->row);

        return at >= k->from && at < k->to;
    }
    case SEARCH_SAVEDATE:
        return store_row_get(m->m, m->row, &row) && in_days(k, row.savedate);
    case SEARCH_EMAILID:
        return k->text.n == 16 && store_row_get(m->m, m->row, &row) &&
               memcmp(row.emailid, k->text.p, 16) == 0;
    case SEARCH_THREADID:
        return k->text.n == 16 && store_row_get(m->m, m->row, &row) &&
               memcmp(row.threadid, k->text.p, 16) == 0;
    default:
        return false;
    }
}

MAY_WAIT static bool by_size(const struct search_message *m,
                             const struct search_key *k)
{
    uint64_t size = store_row_crlf_size(m->m, m->row);
    struct err err;

    if (size == 0 && store_fill(m->m, m->uid, &err) == 0)
        size = store_row_crlf_size(m->m, m->row);
    return (int64_t)size >= k->from && (int64_t)size < k->to;
}

/* As deep as the parser let it be.
 * NOLINTNEXTLINE(misc-no-recursion) */
MAY_WAIT static bool matches(struct search_message *m, struct search_key *k,
                             unsigned depth)
{
    bool found = false;

    CHECK(depth <= 2 * SEARCH_DEPTH_MAX + 2);
    switch ((unsigned)k->kind) {
    case SEARCH_AND:
        found = true;
        for (struct search_key *c = k->child; found && c != NULL; c = c->next)
            found = matches(m, c, depth + 1);
        break;
    case SEARCH_OR:
        for (struct search_key *c = k->child; !found && c != NULL; c = c->next)
            found = matches(m, c, depth + 1);
        break;
    case SEARCH_SIZE:
        found = by_size(m, k);
        break;
    case SEARCH_SENTDATE:
    case SEARCH_ENVELOPE:
    case SEARCH_HEADER:
    case SEARCH_BODY:
    case SEARCH_TEXT:
        found = search_text(m, k);
        break;
    default:
        found = by_row(m, k);
    }
    return found != k->is_not;
}

/* ---------------------------------------------------------------- the answer
 */

static void add_result(struct results *r, const struct search_message *m)
{
    uint32_t n = r->q->c->is_uid ? m->uid : m->seq;
    uint64_t modseq = store_row_modseq(m->m, m->row);

    if (r->count++ == 0)
        r->min = n;
    r->max = n;
    if (modseq > r->modseq)
        r->modseq = modseq;
    if (r->q->is_extended) {
        if (r->q->what & SEARCH_LIST)
            imap_set_add(&r->set, &r->all, n);
        return;
    }
    (void)buf_byte(&r->all, ' ');
    imap_u64(&r->all, n);
}

static void say_number(struct imap_session *s, const char *name, uint64_t n)
{
    imap_says(s, name);
    imap_say_u64(s, n);
}

static void say_extended(struct results *r)
{
    struct imap_cmd *c = r->q->c;
    struct imap_session *s = c->s;

    imap_set_flush(&r->set, &r->all);
    imap_says(s, "* ESEARCH (TAG ");
    imap_say_string(s, c->tag);
    imap_says(s, c->is_uid ? ") UID" : ")");
    if (r->count > 0) {
        if (r->q->what & SEARCH_MIN)
            say_number(s, " MIN ", r->min);
        if (r->q->what & SEARCH_MAX)
            say_number(s, " MAX ", r->max);
        if (r->q->what & SEARCH_LIST) {
            imap_says(s, " ALL ");
            imap_say(s, buf_view(&r->all));
        }
    }
    if (r->q->what & SEARCH_COUNT)
        say_number(s, " COUNT ", r->count);
    if (r->q->uses_modseq && r->count > 0)
        say_number(s, " MODSEQ ", r->modseq);
    imap_says(s, "\r\n");
}

static void say_plain(struct results *r)
{
    struct imap_session *s = r->q->c->s;

    imap_says(s, "* SEARCH");
    imap_say(s, buf_view(&r->all));
    if (r->q->uses_modseq && r->count > 0) {
        say_number(s, " (MODSEQ ", r->modseq);
        imap_says(s, ")");
    }
    imap_says(s, "\r\n");
}

/* ------------------------------------------------------------------ the walk
 */

MAY_WAIT static void walk(struct results *r)
{
    struct imap_session *s = r->q->c->s;
    struct store_view *v = &s->selected->view;
    struct search_message m = { .s = s, .m = v->mailbox };

    for (size_t row = store_view_next(v, 0); row < v->rows && !s->is_broken;
         row = store_view_next(v, row + 1)) {
        m.seq++;
        m.row = row;
        m.uid = store_row_uid(v->mailbox, row);
        if (m.uid == 0) /* expunged, and not told yet */
            continue;
        if (matches(&m, r->q->keys, 0))
            add_result(r, &m);
        search_message_done(&m);
        if ((m.seq & 63) == 0 && !imap_room(s))
            break;
    }
    search_message_free(&m);
}

MAY_WAIT static void cmd_search(struct imap_cmd *c)
{
    struct search q = { .c = c };
    struct results r = { .q = &q };

    if (!search_parse(&q))
        return;
    if (q.uses_modseq)
        imap_use_condstore(c->s);
    buf_init(&r.all, IMAP_OUT_MAX / 2);
    walk(&r);
    if (!c->s->is_broken) {
        if (q.is_extended)
            say_extended(&r);
        else
            say_plain(&r);
        imap_ok(c, NULL, "Search completed.");
    }
    buf_done(&r.all);
}

const struct imap_command imap_search_commands[] = {
    { "SEARCH", IMAP_SELECTED,
      IMAP_UID | IMAP_BY_SEQ | IMAP_BESIDE | IMAP_READS_FLAGS, cmd_search },
    { 0 },
};
