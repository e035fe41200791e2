/* What the owner knows of a message, in memory. */
#include "spool/owner_priv.h"

/* ----------------------------------------------------------------- reasons */

static struct reason *reason_get(struct spool *s, slice status, slice text)
{
    char key_bytes[600];
    struct map_node *n;
    struct reason *r;
    slice key;

    status = slice_sub(status, 0, 16);
    text = slice_sub(text, 0, 500);
    memcpy(key_bytes, status.n > 0 ? status.p : "", status.n);
    key_bytes[status.n] = '\0';
    memcpy(key_bytes + status.n + 1, text.n > 0 ? text.p : "", text.n);
    key = slice_of(key_bytes, status.n + 1 + text.n);
    n = map_get(&s->reasons, key);
    if (n != NULL) {
        r = CONTAINER_OF(n, struct reason, node);
        r->refs++;
        return r;
    }
    r = xcalloc(1, sizeof *r + key.n);
    r->refs = 1;
    r->status_n = status.n;
    r->text_n = text.n;
    memcpy(r->bytes, key.p, key.n);
    map_put(&s->reasons, &r->node, slice_of(r->bytes, key.n));
    return r;
}

static void reason_put(struct spool *s, struct reason **rp)
{
    struct reason *r = *rp;

    *rp = NULL;
    if (r == NULL || --r->refs > 0)
        return;
    map_del(&s->reasons, &r->node);
    free(r);
}

slice reason_status(const struct reason *r)
{
    return slice_of(r->bytes, r->status_n);
}

slice reason_text(const struct reason *r)
{
    return slice_of(r->bytes + r->status_n + 1, r->text_n);
}

/* ---------------------------------------------------------------- messages */

uint64_t message_length(const struct spool_message *m)
{
    return SEG_OVERHEAD + m->body_bytes + m->envelope_bytes;
}

static void place_in(struct spool_message *m, struct segment *g, uint64_t at)
{
    m->segment = g;
    m->at = (uint32_t)at;
    list_push(&g->messages, &m->in_segment);
    g->n_live++;
    g->live_bytes += message_length(m);
}

static void take_out(struct spool_message *m)
{
    struct segment *g = m->segment;

    list_remove(&m->in_segment);
    g->n_live--;
    g->live_bytes -= message_length(m);
    m->segment = NULL;
}

struct spool_message *message_new(struct spool *s,
                                  const struct message_place *p,
                                  struct segment *g)
{
    struct spool_message *m = xcalloc(1, sizeof *m);

    m->body_bytes = p->body_bytes;
    m->envelope_bytes = p->envelope_bytes;
    m->size = p->size;
    m->arrival_usec = p->arrival_usec;
    m->flags = p->flags;
    m->n_rcpts = m->n_first = m->n_pending = p->n_rcpts;
    m->is_held = (p->flags & ENV_HOLD) != 0;
    place_in(m, g, p->at);
    imap_put(&s->messages, &m->by_seq, p->seq);
    return m;
}

static void free_states(struct spool *s, struct spool_message *m)
{
    if (m->rcpts != NULL) {
        for (uint32_t i = 0; i < m->n_rcpts; i++)
            reason_put(s, &m->rcpts[i].reason);
    }
    free(m->rcpts);
    m->rcpts = NULL;
    for (uint32_t i = m->n_first; i < m->n_rcpts; i++)
        free(m->expansions[i - m->n_first]);
    free(m->expansions);
    m->expansions = NULL;
}

void message_drop(struct spool *s, struct spool_message *m)
{
    struct segment *g = m->segment;

    imap_del(&s->messages, &m->by_seq);
    take_out(m);
    free_states(s, m);
    free(m);
    segment_check(s, g);
}

void message_move(struct spool *s, struct spool_message *m, struct segment *g,
                  uint64_t at)
{
    struct segment *old = m->segment;

    take_out(m);
    place_in(m, g, at);
    segment_check(s, old);
}

/* Arrays grow by powers of two: room for n, and whether n fill it. */
static size_t room_for(uint32_t n)
{
    size_t room = 1;

    while (room < n)
        room *= 2;
    return room;
}

static bool is_full(uint32_t n)
{
    return n == 0 || (n & (n - 1)) == 0;
}

static struct rcpt_state *states(struct spool_message *m)
{
    if (m->rcpts == NULL)
        m->rcpts = xcalloc(room_for(m->n_rcpts), sizeof *m->rcpts);
    return m->rcpts;
}

bool message_settle(struct spool *s, struct spool_message *m, uint32_t rcpt,
                    enum outcome how)
{
    struct rcpt_state *r;

    if (rcpt >= m->n_rcpts)
        return false;
    r = &states(m)[rcpt];
    if (r->is_settled)
        return false;
    r->is_settled = true;
    r->outcome = (uint8_t)how;
    reason_put(s, &r->reason);
    m->n_pending--;
    return true;
}

void message_reason(struct spool *s, struct spool_message *m, uint32_t rcpt,
                    slice status, slice text)
{
    struct rcpt_state *r;

    if (rcpt >= m->n_rcpts)
        return;
    r = &states(m)[rcpt];
    if (r->is_settled)
        return;
    reason_put(s, &r->reason);
    r->reason = reason_get(s, status, text);
}

void message_forget_tries(struct spool *s, struct spool_message *m)
{
    m->next_try = 0;
    m->attempts = 0;
    if (m->rcpts == NULL)
        return;
    for (uint32_t i = 0; i < m->n_rcpts; i++)
        reason_put(s, &m->rcpts[i].reason);
}

slice expanded_part(const struct expanded *x, int part)
{
    size_t at = 0;

    for (int i = 0; i < part; i++)
        at += x->n[i];
    return slice_of(x->bytes + at, x->n[part]);
}

static struct expanded *expanded_new(uint32_t parent,
                                     const struct spool_expansion *v)
{
    const slice parts[4] = { v->addr, v->orig, v->orcpt, v->owner };
    size_t total = v->addr.n + v->orig.n + v->orcpt.n + v->owner.n;
    struct expanded *x = xcalloc(1, sizeof *x + total);
    char *to = x->bytes;

    x->parent = parent;
    x->notify = v->notify;
    x->has_owner = v->has_owner;
    for (int i = 0; i < 4; i++) {
        x->n[i] = (uint32_t)parts[i].n;
        if (parts[i].n > 0)
            memcpy(to, parts[i].p, parts[i].n);
        to += parts[i].n;
    }
    return x;
}

bool message_expand(struct spool_message *m, uint32_t parent,
                    const struct spool_expansion *v)
{
    uint32_t n = m->n_rcpts - m->n_first;

    if (m->n_rcpts >= 1u << 24)
        return false;
    if (is_full(n))
        m->expansions =
            xrealloc(m->expansions, room_for(n + 1) * sizeof(void *));
    m->rcpts = states(m);
    if (is_full(m->n_rcpts))
        m->rcpts =
            xrealloc(m->rcpts, room_for(m->n_rcpts + 1) * sizeof *m->rcpts);
    m->rcpts[m->n_rcpts] = (struct rcpt_state){ 0 };
    m->expansions[n] = expanded_new(parent, v);
    m->n_rcpts++;
    m->n_pending++;
    return true;
}

void message_unexpand(struct spool *s, struct spool_message *m, uint32_t from)
{
    while (m->n_rcpts > from && m->n_rcpts > m->n_first) {
        uint32_t i = --m->n_rcpts;

        if (!m->rcpts[i].is_settled)
            m->n_pending--;
        reason_put(s, &m->rcpts[i].reason);
        free(m->expansions[i - m->n_first]);
    }
}

void message_place_of(const struct spool_message *m, struct message_place *p)
{
    *p = (struct message_place){ .seq = m->by_seq.key,
                                 .segment = m->segment->by_number.key,
                                 .at = m->at,
                                 .length = message_length(m),
                                 .body_bytes = m->body_bytes,
                                 .envelope_bytes = m->envelope_bytes,
                                 .n_rcpts = m->n_first,
                                 .arrival_usec = m->arrival_usec,
                                 .size = m->size,
                                 .flags = m->flags };
}

/* ----------------------------------------------------------------- looking */

uint64_t spool_message_seq(const struct spool_message *m)
{
    return m->by_seq.key;
}

void spool_message_id(const struct spool_message *m,
                      char out[static MAIL_QUEUE_ID_SIZE])
{
    mail_queue_id_format(m->arrival_usec / 1000000,
                         (uint32_t)(m->arrival_usec % 1000000), m->by_seq.key,
                         out);
}

int64_t spool_message_arrival_ms(const struct spool_message *m)
{
    return m->arrival_usec / 1000;
}

uint64_t spool_message_size(const struct spool_message *m)
{
    return m->size;
}

bool spool_message_held(const struct spool_message *m)
{
    return m->is_held;
}

msec spool_message_next_try(const struct spool_message *m)
{
    return m->next_try;
}

uint32_t spool_message_attempts(const struct spool_message *m)
{
    return m->attempts;
}

uint32_t spool_message_rcpts(const struct spool_message *m)
{
    return m->n_rcpts;
}

uint32_t spool_message_pending(const struct spool_message *m)
{
    return m->n_pending;
}

bool spool_message_is_pending(const struct spool_message *m, uint32_t rcpt)
{
    return rcpt < m->n_rcpts &&
           (m->rcpts == NULL || !m->rcpts[rcpt].is_settled);
}

void *spool_message_user(const struct spool_message *m)
{
    return m->user;
}

void spool_message_set_user(struct spool_message *m, void *user)
{
    m->user = user;
}

struct spool_message *spool_find(struct spool *s, uint64_t seq)
{
    struct imap_node *n = imap_get(&s->messages, seq);

    return n != NULL ? CONTAINER_OF(n, struct spool_message, by_seq) : NULL;
}

struct spool_message *spool_find_id(struct spool *s, slice queue_id)
{
    struct spool_message *m;
    int64_t sec;
    uint32_t usec;
    uint64_t seq;

    if (!mail_queue_id_parse(queue_id, &sec, &usec, &seq))
        return NULL;
    m = spool_find(s, seq);
    return m != NULL && m->arrival_usec == sec * 1000000 + usec ? m : NULL;
}

size_t spool_count(const struct spool *s)
{
    return s->messages.n;
}

static int seq_cmp(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return *x < *y ? -1 : *x > *y;
}

size_t spool_seqs(struct spool *s, uint64_t **out)
{
    uint64_t *v = xcalloc(s->messages.n + 1, sizeof *v);
    struct imap_node *n = NULL;
    size_t pos = 0;
    size_t k = 0;

    while ((n = imap_next(&s->messages, &pos, n)) != NULL && k < s->messages.n)
        v[k++] = n->key;
    qsort(v, k, sizeof *v, seq_cmp);
    *out = v;
    return k;
}
