#include "queue/queue.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/* A wall clock can be set, and the timer runs on the monotonic one. */
#define TIMER_MAX_MS 60000
#define SCRATCH_MAX  (CHAN_MAX_BYTES)

static void on_pump(struct deferred *d);
static void msg_unlink(struct queue *q, struct qmsg *qm);
static MAY_WAIT void router_task(void *arg);

/* ------------------------------------------------------------- the heap */

/* Room for one more active message? */
static bool has_room(const struct queue *q)
{
    return q->n_active < q->set->active_limit &&
           (q->n_active_rcpts < q->set->rcpt_limit || q->n_active == 0);
}

static struct qmsg *due(const struct queue *q)
{
    struct heap_node *n = heap_top(&q->waiting);

    if (n == NULL || n->key > clock_wall())
        return NULL;
    return CONTAINER_OF(n, struct qmsg, in.node);
}

static bool has_work(const struct queue *q)
{
    return !list_empty(&q->fresh) || (has_room(q) && due(q) != NULL);
}

static void on_timer(struct timer *t)
{
    queue_pump(CONTAINER_OF(t, struct queue, timer));
}

static void set_timer(struct queue *q)
{
    struct heap_node *n = heap_top(&q->waiting);
    msec in;

    if (n == NULL || !has_room(q)) {
        timer_cancel(&q->timer); /* whatever makes room pumps */
        return;
    }
    in = n->key - clock_wall();
    if (in > TIMER_MAX_MS)
        in = TIMER_MAX_MS;
    timer_set(&q->timer, clock_after(in < 0 ? 0 : in), on_timer);
}

static void on_pump(struct deferred *d)
{
    struct queue *q = CONTAINER_OF(d, struct queue, pump);

    if (q->is_closing || !q->is_open)
        return;
    if (has_work(q)) {
        /* Routers that wait for a table do not keep others from starting;
         * when all are busy, the first to end goes on. */
        if (q->n_routers < QUEUE_ROUTERS) {
            q->n_routers++;
            q->n_tasks++;
            (void)task_spawn("queue-router", router_task, q);
        }
        timer_cancel(&q->timer);
        return;
    }
    set_timer(q);
}

void queue_pump(struct queue *q)
{
    if (q->is_closing)
        return;
    deferred_set(&q->pump, on_pump);
}

void queue_task_ended(struct queue *q)
{
    CHECK(q->n_tasks > 0);
    q->n_tasks--;
    if (q->n_tasks == 0)
        waitq_wake_all(&q->idle);
}

static struct active *next_active(struct queue *q)
{
    struct list *l = list_pop(&q->fresh);
    struct qmsg *qm;

    if (l != NULL)
        return CONTAINER_OF(l, struct active, ready);
    if (!has_room(q))
        return NULL;
    qm = due(q);
    if (qm == NULL)
        return NULL;
    msg_unlink(q, qm);
    return active_new(q, qm);
}

static MAY_WAIT void router_task(void *arg)
{
    struct queue *q = arg;
    struct active *a;

    while (!q->is_closing) {
        a = next_active(q);
        if (a == NULL)
            break;
        /* If this one waits, another router takes what is left. */
        if (!list_empty(&q->fresh))
            queue_pump(q);
        active_run(a);
        task_yield_if_long();
    }
    q->n_routers--;
    if (!q->is_closing)
        queue_pump(q);
    queue_task_ended(q);
}

struct active *queue_msg_active(const struct qmsg *qm)
{
    return qm->where == QM_PARKED ? NULL : qm->by.active;
}

/* Out of whatever it waits in. */
static void msg_unlink(struct queue *q, struct qmsg *qm)
{
    if (qm->where == QM_WAITING) {
        heap_del(&q->waiting, &qm->in.node);
    } else if (qm->where == QM_PARKED) {
        struct dest *d = qm->by.dest;

        list_remove(&qm->in.parked);
        qm->by.active = NULL;
        d->n_parked--;
        q->n_parked--;
        dest_unref(q, d);
    }
    qm->where = QM_NOWHERE;
}

void queue_msg_wait(struct queue *q, struct qmsg *qm, msec at)
{
    msg_unlink(q, qm);
    if (qm->by.active != NULL || spool_message_held(qm->sm))
        return;
    qm->in.node = (struct heap_node){ .at = 0 };
    heap_put(&q->waiting, &qm->in.node, at);
    qm->where = QM_WAITING;
    queue_pump(q);
}

void queue_msg_park(struct queue *q, struct qmsg *qm, struct dest *d)
{
    msg_unlink(q, qm);
    if (spool_message_held(qm->sm)) {
        dest_unref(q, d);
        return;
    }
    list_push(&d->parked, &qm->in.parked);
    qm->by.dest = d;
    qm->where = QM_PARKED;
    d->n_parked++;
    q->n_parked++;
    dest_unpark(q, d);
}

void queue_msg_gone(struct queue *q, struct qmsg *qm)
{
    msg_unlink(q, qm);
    if (qm->by.active != NULL)
        qm->by.active->qm = NULL;
    q->n_msgs--;
    free(qm);
}

/* ------------------------------------------------------------- the spool */

/* Not tried yet, or before a restart: first come, first served. */
static void wait_first(struct queue *q, struct qmsg *qm)
{
    msec at = spool_message_next_try(qm->sm);

    queue_msg_wait(q, qm, at != 0 ? at : spool_message_arrival_ms(qm->sm));
}

static void on_message(struct spool *s, struct spool_message *m,
                       const struct envelope *e, void *arg)
{
    struct queue *q = arg;
    struct qmsg *qm = xcalloc(1, sizeof(*qm));
    struct active *a;

    CHECK_OBJ(q, QUEUE_MAGIC);
    q->spool = s;
    qm->sm = m;
    spool_message_set_user(m, qm);
    q->n_msgs++;
    q->count.n_messages++;
    if (e == NULL || !q->is_open || q->is_closing || !has_room(q) ||
        spool_message_held(m)) {
        wait_first(q, qm);
        return;
    }
    a = active_new(q, qm);
    if (active_take(a, e))
        list_push(&q->fresh, &a->ready); /* invariant 4 */
    else {
        active_drop(&a);
        wait_first(q, qm);
    }
    queue_pump(q);
}

/* A report that is in the queue has settled this recipient: one that is being
 * made now, or was before the machine stopped. */
static void on_settled(struct spool *s, struct spool_message *m, uint32_t rcpt,
                       bool is_last, void *arg)
{
    struct queue *q = arg;
    struct qmsg *qm = spool_message_user(m);
    struct active *a = qm != NULL ? queue_msg_active(qm) : NULL;
    char id[MAIL_QUEUE_ID_SIZE];

    (void)s;
    CHECK_OBJ(q, QUEUE_MAGIC);
    if (a != NULL && rcpt < a->n)
        a->v[rcpt].state = RS_NONE;
    if (!is_last)
        return;
    if (a != NULL) {
        a->owes_removed = true; /* logged behind the report's own line */
    } else {
        spool_message_id(m, id);
        log_removed(id);
    }
    if (qm != NULL)
        queue_msg_gone(q, qm);
}

static void on_trouble(struct spool *s, const char *text, void *arg)
{
    (void)s;
    (void)arg;
    log_warning("queue: %s", text);
}

static const struct spool_ops spool_side = {
    .on_message = on_message,
    .on_settled = on_settled,
    .on_trouble = on_trouble,
};

/* --------------------------------------------------------------- its life */

struct queue *queue_new(struct conf *c, const struct queue_ops *ops, void *arg)
{
    struct queue *q = xcalloc(1, sizeof(*q));

    q->magic = QUEUE_MAGIC;
    q->ops = ops;
    q->arg = arg;
    q->set = settings_new(c);
    heap_init(&q->waiting);
    list_init(&q->fresh);
    list_init(&q->actives);
    list_init(&q->running);
    list_init(&q->serving);
    map_init(&q->transports, false);
    map_init(&q->dests, true);
    waitq_init(&q->kicked);
    waitq_init(&q->idle);
    buf_init(&q->scratch, SCRATCH_MAX);
    return q;
}

int queue_open(struct queue *q, const struct spool_conf *conf, struct err *err)
{
    CHECK_OBJ(q, QUEUE_MAGIC);
    if (spool_open(conf, &spool_side, q, &q->spool, err) < 0)
        return -1;
    verify_open(q, conf->dir);
    q->epoch = clock_wall();
    q->is_open = true;
    queue_pump(q);
    return 0;
}

struct spool *queue_spool(struct queue *q)
{
    return q->spool;
}

void queue_set_conf(struct queue *q, struct conf *c)
{
    settings_unref(q->set);
    q->set = settings_new(c);
    dests_configure(q);
    queue_pump(q);
}

void queue_kick(struct queue *q)
{
    waitq_wake_all(&q->kicked);
}

static void free_messages(struct queue *q)
{
    list_each_safe(it, tmp, &q->actives) {
        struct active *a = CONTAINER_OF(it, struct active, link);

        active_drop(&a);
    }
}

static void forget_messages(struct queue *q)
{
    uint64_t *seqs CLEANUP(free_ptr) = NULL;
    size_t n = q->spool != NULL ? spool_seqs(q->spool, &seqs) : 0;

    for (size_t i = 0; i < n; i++) {
        struct spool_message *m = spool_find(q->spool, seqs[i]);
        struct qmsg *qm = m != NULL ? spool_message_user(m) : NULL;

        if (qm == NULL)
            continue;
        spool_message_set_user(m, NULL);
        queue_msg_gone(q, qm);
    }
}

void queue_stop(struct queue *q, msec deadline)
{
    struct err err;

    CHECK_OBJ(q, QUEUE_MAGIC);
    q->is_closing = true;
    timer_cancel(&q->timer);
    deferred_cancel(&q->pump);
    verify_stop(q);
    waitq_wake_all(&q->kicked);
    while (q->n_tasks > 0 && waitq_wait(&q->idle, deadline, &err) == 0)
        continue;
    if (q->n_tasks > 0)
        jobs_cancel(q);
    /* A cancelled task ends soon, and it is the one that uses this memory. */
    while (q->n_tasks > 0)
        if (waitq_wait(&q->idle, MSEC_NEVER, &err) < 0)
            task_uncancel();
}

void queue_hurry(struct queue *q)
{
    CHECK_OBJ(q, QUEUE_MAGIC);
    if (q->is_closing)
        jobs_cancel(q);
}

void queue_close(struct queue **qp)
{
    struct queue *q = *qp;

    if (q == NULL)
        return;
    CHECK_OBJ(q, QUEUE_MAGIC);
    *qp = NULL;
    if (!q->is_closing)
        queue_stop(q, clock_mono());
    verify_free(q);
    templates_free(&q->templates);
    free_messages(q);
    forget_messages(q);
    dests_free(q);
    if (q->spool != NULL)
        spool_close(&q->spool);
    heap_done(&q->waiting);
    map_done(&q->transports);
    map_done(&q->dests);
    buf_done(&q->scratch);
    settings_unref(q->set);
    q->magic = 0;
    free(q);
}

void queue_status(const struct queue *q, struct buf *out)
{
    (void)buf_printf(out, "messages %zu\nactive %zu\nwaiting %zu\n", q->n_msgs,
                     q->n_active, q->waiting.n);
    (void)buf_printf(out,
                     "parked %zu\ndestinations-busy %zu\n"
                     "destinations-dead %zu\n",
                     q->n_parked, q->n_busy_dests, q->n_dead_dests);
    (void)buf_printf(out, "active-recipients %zu\ntasks %zu\n",
                     q->n_active_rcpts, q->n_tasks);
    (void)buf_printf(out,
                     "messages-total %" PRIu64 "\njobs-total %" PRIu64
                     "\nsent-total %" PRIu64 "\ndeferred-total %" PRIu64
                     "\nbounced-total %" PRIu64 "\nexpanded-total %" PRIu64
                     "\nnotices-total %" PRIu64 "\nrepeated-total %" PRIu64
                     "\n",
                     q->count.n_messages, q->count.n_jobs, q->count.n_sent,
                     q->count.n_deferred, q->count.n_bounced,
                     q->count.n_expanded, q->count.n_notices,
                     q->count.n_repeated);
}

void queue_dump(const struct queue *q, struct buf *out)
{
    queue_status(q, out);
    list_each(it, &q->actives) {
        const struct active *a = CONTAINER_OF(it, struct active, link);

        (void)buf_printf(out, "active %s rcpts %zu refs %u\n", a->env.id,
                         a->n_charged, a->n_refs);
    }
}
