/* What the queue tells the spool: outcomes, expansions, deferrals. */
#include "spool/owner_priv.h"

/* Ends m when nothing is pending; true: it is gone. */
static bool finish(struct spool *s, struct spool_message *m)
{
    if (m->n_pending > 0)
        return false;
    op_seq(&s->batch, J_DONE, m->by_seq.key);
    message_drop(s, m);
    journal_kick(s);
    return true;
}

bool spool_settle(struct spool *s, struct spool_message *m, uint32_t rcpt,
                  enum outcome how)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    CHECK(how != OUT_DEFERRED && how != OUT_EXPANDED);
    if (!message_settle(s, m, rcpt, how))
        return false;
    if (m->n_pending > 0) {
        op_settle(&s->batch, m->by_seq.key, rcpt, how);
        journal_kick(s);
    }
    return finish(s, m);
}

/* Recipients with the same text share one operation. */
static void put_reasons(struct spool *s, const struct spool_message *m,
                        const struct spool_deferral *v, size_t n)
{
    uint32_t *same = xcalloc(n, sizeof *same);

    for (size_t i = 0; i < n; i++) {
        const struct reason *r;
        size_t k = 0;

        if (v[i].rcpt >= m->n_rcpts || m->rcpts == NULL)
            continue;
        r = m->rcpts[v[i].rcpt].reason;
        if (r == NULL)
            continue;
        for (; i + k < n && v[i + k].rcpt < m->n_rcpts &&
               m->rcpts[v[i + k].rcpt].reason == r;
             k++)
            same[k] = v[i + k].rcpt;
        op_reason(&s->batch, m->by_seq.key, r, same, k);
        if (s->batch.n >= JOURNAL_RECORD_MAX)
            journal_flush(s);
        i += k - 1;
    }
    free(same);
}

void spool_defer(struct spool *s, struct spool_message *m, msec next_try,
                 uint32_t attempts, const struct spool_deferral *v, size_t n)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    m->next_try = next_try;
    m->attempts = attempts;
    for (size_t i = 0; i < n; i++)
        message_reason(s, m, v[i].rcpt, v[i].status, v[i].reason);
    if (journal_is_tight(s))
        return; /* the reserve is for outcomes: a restart tries earlier */
    op_try(&s->batch, m);
    if (n > 0)
        put_reasons(s, m, v, n);
    journal_kick(s);
}

/* Take back an expansion that did not become durable. */
static void unexpand(struct spool *s, struct spool_message *m, uint32_t rcpt,
                     uint32_t first)
{
    message_unexpand(s, m, first);
    if (m->rcpts[rcpt].is_settled) {
        m->rcpts[rcpt].is_settled = false;
        m->n_pending++;
    }
    /* The disk may hold it or not: the next snapshot says what is so. */
    s->needs_snapshot = true;
}

/* NOLINTNEXTLINE(readability-function-size): an expansion has seven facts */
int spool_expand(struct spool *s, struct spool_message *m, uint32_t rcpt,
                 const struct spool_expansion *v, size_t n, uint32_t *first_out,
                 struct err *err)
{
    uint64_t seq = m->by_seq.key;
    uint32_t first = m->n_rcpts;

    CHECK_OBJ(s, SPOOL_MAGIC);
    CHECK(n > 0 && spool_message_is_pending(m, rcpt));
    if (journal_is_tight(s)) {
        err_set(err, ERR_TEMP, "4.3.1", "Insufficient system storage");
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t index = m->n_rcpts;

        if (!message_expand(m, rcpt, &v[i])) {
            unexpand(s, m, rcpt, first);
            return err_temp(err, "too many recipients");
        }
        op_expand(&s->batch, seq, rcpt, index, &v[i]);
        if (s->batch.n >= JOURNAL_RECORD_MAX)
            journal_flush(s);
    }
    /* Last, as the mark that the expansion is whole. */
    (void)message_settle(s, m, rcpt, OUT_EXPANDED);
    op_settle(&s->batch, seq, rcpt, OUT_EXPANDED);
    if (journal_sync(s, err) < 0) {
        if (spool_find(s, seq) == m)
            unexpand(s, m, rcpt, first);
        return -1;
    }
    *first_out = first;
    return 0;
}

void spool_hold(struct spool *s, struct spool_message *m, bool held)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    m->is_held = held;
    op_hold(&s->batch, m->by_seq.key, held);
    journal_kick(s);
}

void spool_requeue(struct spool *s, struct spool_message *m)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    message_forget_tries(s, m);
    op_try(&s->batch, m);
    journal_kick(s);
}

void spool_delete(struct spool *s, struct spool_message *m)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    op_seq(&s->batch, J_DONE, m->by_seq.key);
    message_drop(s, m);
    journal_kick(s);
}

int spool_sync(struct spool *s, struct err *err)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    return journal_sync(s, err);
}
