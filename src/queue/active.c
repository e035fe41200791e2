#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/* Memory for one active message beside its array of recipients: 200,000
 * recipients with long addresses fit. */
#define ACTIVE_MAX_BYTES ((size_t)192 << 20)
/* An envelope that cannot be read now is read again after this long. */
#define RELOAD_MS 30000

struct active *active_new(struct queue *q, struct qmsg *qm)
{
    struct active *a = xcalloc(1, sizeof(*a));

    CHECK(qm->where == QM_NOWHERE && qm->by.active == NULL);
    a->magic = ACTIVE_MAGIC;
    a->q = q;
    a->qm = qm;
    a->arena = arena_new(ACTIVE_MAX_BYTES);
    a->since = clock_wall();
    a->set = settings_ref(q->set);
    list_init(&a->ready);
    list_init(&a->jobs);
    list_init(&a->works);
    list_push(&q->actives, &a->link);
    spool_message_id(qm->sm, a->env.id);
    a->is_flushed = qm->is_flushed;
    qm->is_flushed = false;
    qm->by.active = a;
    q->n_active++;
    return a;
}

void active_drop(struct active **ap)
{
    struct active *a = *ap;
    struct queue *q = a->q;

    CHECK_OBJ(a, ACTIVE_MAGIC);
    *ap = NULL;
    while (list_pop(&a->works) != NULL)
        continue; /* the process ends, and its jobs after it */
    list_remove(&a->link);
    list_remove(&a->ready);
    if (a->qm != NULL)
        a->qm->by.active = NULL;
    if (a->park != NULL)
        dest_unref(q, a->park);
    q->n_active--;
    q->n_active_rcpts -= a->n_counted;
    if (a->has_seen)
        map_done(&a->seen);
    free(a->v);
    free(a->expanded);
    arena_free(&a->arena);
    settings_unref(a->set);
    a->magic = 0;
    free(a);
}

bool active_is_gone(const struct active *a)
{
    return a->qm == NULL;
}

slice active_sender(const struct active *a, const struct qrcpt *r)
{
    if (r->has_owner)
        return r->owner;
    return r->verp.n > 0 ? r->verp : a->env.sender;
}

slice active_dup(struct active *a, slice s)
{
    slice copy;

    if (s.n == 0)
        return SL("");
    copy = slice_dup(a->arena, s);
    return copy.p == NULL ? SL("") : copy;
}

struct qrcpt *active_rcpt(struct active *a, uint32_t index)
{
    if (index >= a->size) {
        size_t size = a->size != 0 ? a->size : 1;

        while (size <= index)
            size *= 2;
        a->v = xrealloc(a->v, size * sizeof(*a->v));
        a->size = size;
    }
    while (a->n <= index)
        a->v[a->n++] = (struct qrcpt){ .state = RS_NONE };
    return &a->v[index];
}

/* ---------------------------------------------- an envelope that was noted */

struct packer {
    char *p;
};

static slice pack(struct packer *k, slice s)
{
    slice out = { k->p, s.n };

    if (s.n == 0)
        return SL("");
    memcpy(k->p, s.p, s.n);
    k->p += s.n;
    return out;
}

/* The byte strings of an envelope that are kept while it is active. */
static size_t env_slices(struct envelope *e, slice *v[static 16])
{
    slice *all[] = { &e->sender,      &e->envid,   &e->client_name,
                     &e->client_addr, &e->helo,    &e->protocol,
                     &e->login,       &e->service, &e->message_id,
                     &e->headers,     &e->filter,  &e->verp };

    static_assert(ARRAY_LEN(all) <= 16, "fits the caller's array");
    memcpy(v, all, sizeof(all));
    return ARRAY_LEN(all);
}

static void copy_plain(struct active *a, struct envelope *to,
                       const struct envelope *from)
{
    *to = *from;
    to->seq = spool_message_seq(a->qm->sm);
    spool_message_id(a->qm->sm, to->id);
    to->rcpts = NULL;
    to->n_rcpts = 0;
    to->settles = NULL;
    to->n_settles = 0;
    to->redirect = SLICE_NONE;
    to->warning = SLICE_NONE;
    to->on_id = NULL;
}

/* A message with very many recipients does not count for more than a quarter of
 * the limit: it is in memory anyhow, and others shall not wait for its end. */
void active_charge(struct active *a, size_t n)
{
    size_t most = a->set->rcpt_limit / 4 + 1;
    size_t counted;

    a->n_charged += n;
    counted = min_size(a->n_charged, most);
    a->q->n_active_rcpts += counted - a->n_counted;
    a->n_counted = counted;
}

void active_note_sites(struct active *a, size_t from)
{
    for (size_t i = from; i < a->n; i++)
        a->qm->sites |= queue_site_bit(a->v[i].addr);
}

bool active_take(struct active *a, const struct envelope *e)
{
    struct envelope copy;
    slice *v[16];
    size_t n = env_slices(&copy, v);
    size_t total = 1;
    struct packer k;

    copy_plain(a, &copy, e);
    for (size_t i = 0; i < n; i++)
        total += v[i]->n;
    for (size_t i = 0; i < e->n_rcpts; i++)
        total += e->rcpts[i].addr.n + e->rcpts[i].orig.n + e->rcpts[i].orcpt.n;
    k.p = arena_alloc(a->arena, total);
    if (k.p == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        *v[i] = pack(&k, *v[i]);
    a->env = copy;
    a->size = e->n_rcpts;
    a->v = xcalloc(e->n_rcpts != 0 ? e->n_rcpts : 1, sizeof(*a->v));
    a->n = e->n_rcpts;
    for (size_t i = 0; i < e->n_rcpts; i++) {
        slice addr = pack(&k, e->rcpts[i].addr);

        a->v[i] = (struct qrcpt){
            .addr = addr,
            .path = addr,
            .orig = pack(&k, e->rcpts[i].orig),
            .orcpt = pack(&k, e->rcpts[i].orcpt),
            .notify = e->rcpts[i].notify,
            .parent = UINT32_MAX,
            .state = RS_PENDING,
        };
        verp_set(a, &a->v[i]);
    }
    a->is_loaded = true;
    active_note_sites(a, 0);
    active_charge(a, a->n);
    return true;
}

/* ------------------------------------------- a message that waited on disk */

static MAY_WAIT int load(struct active *a, struct err *err)
{
    struct spool_detail d;
    size_t n_pending = 0;

    if (spool_load(a->q->spool, a->qm->sm, a->arena, &d, err) < 0)
        return -1;
    if (active_is_gone(a))
        return err_temp(err, "the message was deleted");
    copy_plain(a, &a->env, &d.envelope);
    for (size_t i = 0; i < d.n_rcpts; i++) {
        const struct spool_rcpt *s = &d.rcpts[i];
        struct qrcpt *r = active_rcpt(a, s->index);

        *r = (struct qrcpt){
            .addr = s->addr,
            .orig = s->orig,
            .orcpt = s->orcpt,
            .path = s->path,
            .owner = s->owner,
            .has_owner = s->has_owner,
            .notify = s->notify,
            .depth = s->depth,
            .parent = s->parent,
            .state = s->settled ? RS_NONE : RS_PENDING,
        };
        verp_set(a, r);
        n_pending += s->settled ? 0 : 1;
    }
    a->is_loaded = true;
    active_note_sites(a, 0);
    active_charge(a, n_pending);
    return 0;
}

/* --------------------------------------------------------------- routing */

/* FILTER transport:destination of an access or header table. */
static void filter_route(const struct active *a, const struct qrcpt *r,
                         struct queue_route *out)
{
    slice rest = a->env.filter;

    (void)slice_cut(&rest, ':', &out->transport);
    out->nexthop = rest;
    out->recipient = r->addr;
}

bool queue_is_special(slice addr)
{
    return addr.n > 0 && addr.p[0] == '\001';
}

slice queue_shown(slice addr, slice path)
{
    slice shown = addr;
    slice step;
    bool is_more = queue_is_special(addr);

    while (is_more) {
        is_more = slice_cut(&path, '\n', &step);
        if (!queue_is_special(step))
            shown = step;
    }
    return shown;
}

static void not_resolved(struct active *a, uint32_t i, const struct err *err)
{
    bool is_bounced = err->class == ERR_PERM;
    const char *status = is_bounced ? "5.3.0" : "4.3.0";

    if (active_is_gone(a) || err->class == ERR_PEER)
        return;
    if (!is_bounced)
        event_text(EV_WARNING, NULL, a->env.id, "routing %.*s: %s",
                   SLF(a->v[i].addr), err->log);
    if (err->status[0] != '\0')
        status = err->status;
    rcpt_decide(a, i, is_bounced, slice_str(status),
                is_bounced ? slice_str(err->peer)
                           : SL("address resolver failure"));
}

static void route_one(struct active *a, uint32_t i)
{
    struct queue *q = a->q;
    struct qrcpt r = a->v[i];
    struct queue_route route = { SL("local"), slice_str(a->set->hostname),
                                 r.addr };
    struct err err;

    if (queue_is_special(r.addr)) {
        /* From outside it is no address, whoever let it in. */
        if (r.depth == 0) {
            rcpt_decide(a, i, true, SL("5.1.3"), SL("bad address syntax"));
            return;
        }
    } else if (a->env.filter.n > 0) {
        filter_route(a, &r, &route);
    } else if (q->ops->resolve(q->arg, active_sender(a, &r), r.addr, a->arena,
                               &route, &err) < 0) {
        not_resolved(a, i, &err);
        return;
    }
    if (active_is_gone(a))
        return;
    if (slice_eqs(route.transport, "local") &&
        verify_is_sender(a->set->conf, r.addr)) {
        log_decided(a, &a->v[i], "sent", SL("2.0.0"),
                    SL("undeliverable postmaster notification discarded"));
        rcpt_discarded(a, i);
        return;
    }
    job_add(a, i, &route);
}

void active_route(struct active *a, size_t from, size_t n)
{
    for (size_t i = from; i < from + n && !active_is_gone(a); i++) {
        if (a->v[i].state == RS_PENDING)
            route_one(a, (uint32_t)i);
        if ((i & 63) == 63)
            task_yield_if_long();
    }
    jobs_submit(a);
}

static void discard_all(struct active *a)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].state == RS_PENDING)
            rcpt_discarded(a, (uint32_t)i);
}

void active_run(struct active *a)
{
    struct queue *q = a->q;
    struct qmsg *qm = a->qm;
    struct err err;

    active_ref(a);
    if (!active_is_gone(a) && !a->is_loaded && load(a, &err) < 0) {
        bool is_gone = active_is_gone(a);

        if (!is_gone)
            event_text(EV_WARNING, NULL, a->env.id,
                       "the envelope cannot be read, try again later: %s",
                       err.log);
        active_drop(&a);
        if (!is_gone)
            queue_msg_wait(q, qm, clock_wall() + RELOAD_MS);
        return;
    }
    if (!active_is_gone(a)) {
        log_active(a);
        if ((a->env.flags & ENV_DISCARD) != 0)
            discard_all(a);
        else
            active_route(a, 0, a->n);
    }
    active_unref(a);
}

void active_ref(struct active *a)
{
    CHECK_OBJ(a, ACTIVE_MAGIC);
    a->n_refs++;
}

void active_unref(struct active *a)
{
    struct queue *q = a->q;
    struct qmsg *qm;
    struct dest *park;
    msec next_try;

    CHECK_OBJ(a, ACTIVE_MAGIC);
    CHECK(a->n_refs > 0);
    if (a->n_refs > 1) {
        a->n_refs--;
        return;
    }
    /* The last one keeps its reference while the reports are written; nothing
     * takes a new one then. */
    a->is_finishing = true;
    active_finish(a);
    CHECK(a->n_refs == 1);
    if (a->owes_removed)
        log_removed(a->env.id);
    qm = a->qm;
    next_try = a->next_try;
    park = a->park;
    a->park = NULL;
    active_drop(&a);
    if (qm != NULL && park != NULL)
        queue_msg_park(q, qm, park);
    else if (qm != NULL)
        queue_msg_wait(q, qm, next_try);
    else if (park != NULL)
        dest_unref(q, park);
    queue_pump(q);
}
