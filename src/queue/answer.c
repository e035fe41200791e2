#include "base/base.h"

#include "base/codec.h"
#include "ipc/event.h"
#include "queue/queue_priv.h"

/*
 * What `local` answers, recipient by recipient.  The answer comes from another
 * process of ours, but what is in it may come from a user's .forward: addresses
 * are data, and the numbers are checked.
 */

/* New recipients of one expansion, and all recipients of one message. */
#define EXPANSION_MAX     200000
#define RCPTS_MAX         ((size_t)400000)
#define EXPANDED_ADDR_MAX 8192

struct reply {
    uint32_t index;
    enum outcome outcome;
    slice status, diag, owner, expansion, remote_mta;
    slice transport, nexthop; /* OUT_DEFERRED: it goes there instead */
    msec tried;
    enum relayed relayed;
    bool has_owner;
};

static bool parse_reply(slice in, struct reply *out)
{
    uint64_t index;
    uint64_t outcome;

    *out = (struct reply){ .index = 0 };
    if (!attr_find_u64(in, AT_RCPT_INDEX, &index) || index > UINT32_MAX ||
        !attr_find_u64(in, AT_OUTCOME, &outcome) || outcome > OUT_DISCARDED)
        return false;
    out->index = (uint32_t)index;
    out->outcome = (enum outcome)outcome;
    (void)attr_find(in, AT_STATUS, &out->status);
    (void)attr_find(in, AT_DIAG, &out->diag);
    (void)attr_find(in, AT_EXPANSION, &out->expansion);
    (void)attr_find(in, AT_TRANSPORT, &out->transport);
    (void)attr_find(in, AT_NEXTHOP, &out->nexthop);
    (void)attr_find(in, AT_REMOTE_MTA, &out->remote_mta);
    out->tried = (msec)attr_u64_or(in, AT_LAST_ATTEMPT, 0);
    out->relayed = (enum relayed)attr_u64_or(in, AT_ACTION, RELAYED_DELIVERED);
    out->has_owner = attr_find(in, AT_OWNER, &out->owner);
    return true;
}

/* -------------------------------------------------------------- duplicates */

struct seen {
    struct map_node node;
    uint32_t index; /* UINT32_MAX: being journaled */
};

/* Files and commands are not compared: their texts are not addresses, and
 * `local` knows best. */
static bool is_address(slice addr)
{
    if (queue_is_special(addr))
        return addr.n > 1 && addr.p[1] == 'U';
    return slice_chr(addr, '@') > 0;
}

static struct seen *seen_put(struct active *a, slice addr, uint32_t index)
{
    struct map_node *n = map_get(&a->seen, addr);
    struct seen *s;

    if (n != NULL)
        return CONTAINER_OF(n, struct seen, node);
    s = arena_alloc(a->arena, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->index = index;
    map_put(&a->seen, &s->node, addr);
    return s;
}

static void seen_begin(struct active *a)
{
    if (a->has_seen)
        return;
    map_init(&a->seen, true);
    a->has_seen = true;
    for (size_t i = 0; i < a->n; i++)
        if (is_address(a->v[i].addr))
            (void)seen_put(a, a->v[i].addr, (uint32_t)i);
}

static bool is_ancestor(const struct active *a, uint32_t of, uint32_t index)
{
    for (unsigned n = 0; n <= QUEUE_MAX_DEPTH && of < a->n; n++) {
        if (of == index)
            return true;
        of = a->v[of].parent;
    }
    return false;
}

/*
 * As Postfix's duplicate filter: an address that the message already goes to
 * is not added again, however it was reached.  An alias that names itself is
 * let through once: `local` sees from the path that it must deliver.
 */
static bool is_duplicate(struct active *a, uint32_t parent, slice addr,
                         struct seen **out)
{
    struct map_node *n;

    *out = NULL;
    if (!is_address(addr))
        return false;
    n = map_get(&a->seen, addr);
    if (n == NULL) {
        *out = seen_put(a, active_dup(a, addr), UINT32_MAX);
        return false;
    }
    *out = CONTAINER_OF(n, struct seen, node);
    if ((*out)->index == UINT32_MAX || !is_ancestor(a, parent, (*out)->index))
        return true;
    (*out)->index = UINT32_MAX;
    return false;
}

/* --------------------------------------------------------------- expansion */

struct growth {
    struct spool_expansion *v;
    struct seen **seen;
    size_t n;
};

static size_t count_rcpts(slice in)
{
    struct attr at;
    size_t n = 0;

    while (attr_next(&in, &at) == 1)
        if (at.tag == AT_RCPT)
            n++;
    return n;
}

static void grow_one(struct active *a, const struct reply *y, slice in,
                     struct growth *g)
{
    const struct qrcpt *parent = &a->v[y->index];
    struct spool_expansion e = { .addr = SLICE_NONE };

    if (!attr_find(in, AT_ADDR, &e.addr) || e.addr.n == 0 ||
        e.addr.n > EXPANDED_ADDR_MAX)
        return;
    if (is_duplicate(a, y->index, e.addr, &g->seen[g->n]))
        return;
    if (!attr_find(in, AT_ORIG_ADDR, &e.orig))
        e.orig = parent->orig.n > 0 ? parent->orig : parent->addr;
    /* RFC 3461 5.2.7: the members of a list are the list's affair; an alias
     * hands the sender's wishes on. */
    if (!y->has_owner) {
        e.notify = parent->notify;
        e.orcpt = parent->orcpt;
    }
    e.has_owner = y->has_owner || parent->has_owner;
    e.owner = y->has_owner ? y->owner : parent->owner;
    g->v[g->n++] = e;
}

static void grow_all(struct active *a, const struct reply *y, struct growth *g)
{
    slice in = y->expansion;
    struct attr at;

    seen_begin(a);
    while (attr_next(&in, &at) == 1)
        if (at.tag == AT_RCPT)
            grow_one(a, y, at.v, g);
}

/* RFC 3461 5.2.7.3: who wants a report of success hears that it became
 * several; their own deliveries are not reported. */
static void report_expanded(struct active *a, const struct reply *y,
                            struct growth *g)
{
    struct qrcpt *r = &a->v[y->index];

    if ((r->notify & ENV_NOTIFY_SUCCESS) == 0 || r->has_owner ||
        a->env.sender.n == 0 || (g->n == 1 && !y->has_owner))
        return;
    for (size_t i = 0; i < g->n; i++) {
        g->v[i].notify &= ~(uint32_t)ENV_NOTIFY_SUCCESS;
        if (g->v[i].notify == 0 && !y->has_owner)
            g->v[i].notify = ENV_NOTIFY_NEVER; /* asked for SUCCESS only */
    }
    r->status = SL("2.0.0");
    r->diag = active_dup(a, y->diag.n > 0 ? y->diag : SL("alias expanded"));
    a->expanded =
        xrealloc(a->expanded, (a->n_expanded + 1) * sizeof(*a->expanded));
    a->expanded[a->n_expanded++] = y->index;
}

static slice path_below(struct active *a, slice path, slice addr)
{
    char *p = arena_alloc(a->arena, path.n + 1 + addr.n);

    if (p == NULL)
        return SLICE_NONE;
    memcpy(p, path.p, path.n);
    p[path.n] = '\n';
    memcpy(p + path.n + 1, addr.p, addr.n);
    return slice_of(p, path.n + 1 + addr.n);
}

/* The new recipients as the journal has them.  False when memory is at its cap:
 * they are read from the journal in the next attempt. */
static bool adopt(struct active *a, const struct reply *y,
                  const struct growth *g, uint32_t first)
{
    for (size_t i = 0; i < g->n; i++) {
        uint32_t index = first + (uint32_t)i;
        struct qrcpt *r = active_rcpt(a, index);
        const struct qrcpt *parent = &a->v[y->index];
        const struct spool_expansion *e = &g->v[i];

        *r = (struct qrcpt){
            .addr = active_dup(a, e->addr),
            .orig = active_dup(a, e->orig),
            .orcpt = active_dup(a, e->orcpt),
            .owner = active_dup(a, e->owner),
            .has_owner = e->has_owner,
            .notify = e->notify,
            .depth = parent->depth + 1,
            .parent = y->index,
            .state = RS_PENDING,
        };
        r->verp = parent->verp;
        r->path = path_below(a, parent->path, r->addr);
        if (r->path.p == NULL || r->addr.n != e->addr.n ||
            (e->has_owner && r->owner.n != e->owner.n)) {
            r->state = RS_NONE;
            return false;
        }
        if (g->seen[i] != NULL)
            g->seen[i]->index = index;
    }
    return true;
}

static MAY_WAIT void journal_expansion(struct active *a, const struct reply *y,
                                       struct growth *g)
{
    struct err err;
    uint32_t first = 0;

    report_expanded(a, y, g);
    a->v[y->index].state = RS_EXPANDING;
    if (spool_expand(a->q->spool, a->qm->sm, y->index, g->v, g->n, &first,
                     &err) < 0) {
        if (active_is_gone(a))
            return;
        event_text(EV_WARNING, NULL, a->env.id,
                   "an expansion could not be written: %s", err.log);
        rcpt_decide(a, y->index, false, SL("4.3.0"),
                    SL("the queue's journal cannot be written"));
        return;
    }
    if (active_is_gone(a))
        return;
    a->q->count.n_expanded++;
    a->v[y->index].state = RS_NONE;
    active_charge(a, g->n);
    if (adopt(a, y, g, first)) {
        active_note_sites(a, first);
        active_route(a, first, g->n);
    }
}

static MAY_WAIT void expand(struct active *a, const struct reply *y)
{
    size_t max = count_rcpts(y->expansion);
    struct growth g = { .n = 0 };

    if (a->v[y->index].depth >= QUEUE_MAX_DEPTH) {
        char *text CLEANUP(free_ptr) =
            xasprintf("mail forwarding loop for %.*s",
                      SLF(a->v[y->index].addr));

        rcpt_decide(a, y->index, true, SL("5.4.6"), slice_str(text));
        return;
    }
    if (max > EXPANSION_MAX || a->n + max > RCPTS_MAX) {
        rcpt_decide(a, y->index, true, SL("5.3.4"),
                    SL("too many recipients after alias expansion"));
        return;
    }
    g.v = xcalloc(max + 1, sizeof(*g.v));
    g.seen = xcalloc(max + 1, sizeof(struct seen *));
    grow_all(a, y, &g);
    if (g.n == 0)
        rcpt_sent(a, y->index, SLICE_NONE,
                  SL("alias expanded")); /* all known already */
    else
        journal_expansion(a, y, &g);
    free(g.v);
    free(g.seen);
}

/* ----------------------------------------------------------------- answers */

/* Who said it and when, for the report. */
static void note_origin(struct active *a, const struct reply *y)
{
    struct qrcpt *r = &a->v[y->index];

    r->remote_mta = active_dup(a, y->remote_mta);
    r->tried = y->tried != 0 ? y->tried : clock_wall();
    r->relayed = y->relayed;
}

/* As Postfix's delivery agents hand a request on (best_mx_transport), once. */
static void pass_on(struct active *a, const struct reply *y)
{
    struct qrcpt *r = &a->v[y->index];
    const struct queue_route route = { active_dup(a, y->transport),
                                       active_dup(a, y->nexthop), r->to };

    if (r->is_passed_on) {
        rcpt_decide(a, y->index, true, SL("5.4.6"),
                    SL("mail forwarding loop between transports"));
        return;
    }
    r->is_passed_on = true;
    r->state = RS_PENDING;
    job_add(a, y->index, &route);
    jobs_submit(a);
}

static MAY_WAIT void apply_one(struct active *a, const struct reply *y)
{
    /* A repetition, or what another answer settled. */
    if (y->index >= a->n || a->v[y->index].state != RS_JOB)
        return;
    note_origin(a, y);
    switch (y->outcome) {
    case OUT_SENT:
        rcpt_sent(a, y->index, y->status, y->diag);
        break;
    case OUT_DEFERRED:
        if (y->transport.n > 0) {
            pass_on(a, y);
            break;
        }
        rcpt_deferred(a, y->index, y->status, y->diag);
        break;
    case OUT_BOUNCED:
        rcpt_bounced(a, y->index, y->status, y->diag);
        break;
    case OUT_EXPANDED:
        expand(a, y);
        break;
    case OUT_DISCARDED:
        rcpt_discarded(a, y->index);
        break;
    }
}

void answer_apply(struct active *a, slice body)
{
    struct attr at;
    struct reply y;

    while (!active_is_gone(a) && attr_next(&body, &at) == 1)
        if (at.tag == AT_RCPT && parse_reply(at.v, &y))
            apply_one(a, &y);
}

void queue_partial(struct queue *q, slice body)
{
    struct spool_message *m;
    struct qmsg *qm;
    struct active *a;
    uint64_t seq;

    if (q->spool == NULL || !attr_find_u64(body, AT_SEQ, &seq))
        return;
    m = spool_find(q->spool, seq);
    qm = m != NULL ? spool_message_user(m) : NULL;
    a = qm != NULL ? queue_msg_active(qm) : NULL;
    if (a == NULL || a->is_finishing)
        return;
    q->n_tasks++;
    active_ref(a);
    answer_apply(a, body);
    active_unref(a);
    queue_task_ended(q);
}
