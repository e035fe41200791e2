#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/*
 * Jobs: recipients of one message with one sender, transport and destination,
 * asked for by one request.  Whose turn it is says dest.c.
 */

/* A request without an answer is made again: after 0.2 s, doubling to 5 s; 20
 * times, then the recipients are deferred. */
#define REPEAT_FIRST_MS 200
#define REPEAT_MAX_MS   5000
#define REPEAT_MAX      20
/* As Postfix's watchdog (daemon_timeout): a delivery that takes longer hangs.
 * It is asked again with the same ids. */
#define DELIVER_MS ((msec)18000 * 1000)

/* A list's members: what `local` makes at most. */
#define ANSWER_MAX ((size_t)128 << 20)

#define UNAVAILABLE "mail transport unavailable"

bool queue_transport_is_local(slice transport)
{
    static const char *const names[] = { "local", "virtual", "error",
                                         "discard" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eqs(transport, names[i]))
            return true;
    return false;
}

/* -------------------------------------------------------------------- jobs */

static struct job *job_new(struct active *a, struct dest *d,
                           const struct queue_route *r, slice sender)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->a = a;
    j->d = d;
    j->sender = sender;
    j->nexthop = r->nexthop;
    list_init(&j->running);
    list_init(&j->young);
    list_init(&j->of_work);
    list_push(&a->jobs, &j->link);
    d->n_refs++;
    d->open = j;
    active_ref(a);
    return j;
}

void job_free(struct queue *q, struct job *j)
{
    list_remove(&j->link);
    work_leave(j);
    list_remove(&j->running);
    list_remove(&j->young);
    if (j->d->open == j)
        j->d->open = NULL;
    dest_unref(q, j->d);
    free(j->rcpts);
    free(j);
}

static struct job *job_for(struct active *a, struct dest *d,
                           const struct queue_route *r, slice sender)
{
    struct job *j = d->open;

    if (j != NULL && j->a == a && j->n < d->t->rcpt_limit &&
        slice_eq(j->sender, sender))
        return j;
    return job_new(a, d, r, sender);
}

/* "4.2.1 text": an enhanced status in front of a transport's own text. */
static slice split_status(slice text, slice def, slice *status)
{
    slice rest = text;
    slice head;

    *status = def;
    if (slice_cut(&rest, ' ', &head) && head.n >= 5 && head.n <= 9 &&
        (head.p[0] == '4' || head.p[0] == '5') && head.p[1] == '.') {
        *status = head;
        return slice_trim(rest);
    }
    return text;
}

static bool has_transport(const struct queue *q, slice name)
{
    return queue_transport_is_local(name) || slice_eqs(name, "retry") ||
           (q->ops->has_transport != NULL &&
            q->ops->has_transport(q->arg, name));
}

/* A name that was mistyped: once in a while, not for each message. */
static void tell_missing(struct transport *t)
{
    if (t->told_until > clock_mono())
        return;
    t->told_until = clock_after(t->retry_time);
    log_warning("there is no transport \"%s\" in master.cf; its mail is "
                "deferred",
                t->name);
}

/* Deferred or kept waiting without a request? */
static bool is_settled_early(struct active *a, uint32_t i, struct transport *t,
                             const struct queue_route *r)
{
    slice status;

    bool exists = has_transport(a->q, r->transport);

    if (!exists)
        tell_missing(t);
    if (!exists || t->dead_until > clock_mono()) {
        rcpt_decide(a, i, false, SL("4.3.0"), SL(UNAVAILABLE));
    } else if (t->is_deferred && !a->is_flushed) {
        rcpt_decide(a, i, false, SL("4.3.2"), SL("deferred transport"));
    } else if (slice_eqs(r->transport, "retry")) {
        slice text = split_status(r->nexthop, SL("4.3.0"), &status);

        rcpt_decide(a, i, false, status, text);
    } else {
        return false;
    }
    return true;
}

static void job_join(struct active *a, uint32_t i, const struct queue_route *r,
                     struct dest *d)
{
    struct job *j = job_for(a, d, r, active_sender(a, &a->v[i]));

    if (j->n == j->size) {
        j->size = j->size != 0 ? j->size * 2 : 1;
        j->rcpts = xrealloc(j->rcpts, j->size * sizeof(*j->rcpts));
    }
    j->rcpts[j->n++] = i;
    a->v[i].to = r->recipient;
    a->v[i].state = RS_JOB;
    a->v[i].job = j;
}

void job_add(struct active *a, uint32_t i, const struct queue_route *r)
{
    struct queue *q = a->q;
    struct transport *t = transport_get(q, r->transport);
    struct dest *d;

    if (is_settled_early(a, i, t, r))
        return;
    /* As in Postfix, where each recipient has a request of its own it is a
     * destination of its own. */
    d = dest_get(q, t, t->rcpt_limit == 1 ? r->recipient : r->nexthop);
    if (d->dead_text != NULL) {
        rcpt_decide(a, i, false, slice_str(d->dead_status),
                    slice_str(d->dead_text));
    } else if (a->park == d || (a->park == NULL && dest_is_congested(q, d))) {
        /* It stays RS_PENDING. */
        if (a->park == NULL) {
            d->n_refs++;
            a->park = d;
        }
    } else {
        job_join(a, i, r, d);
    }
    dest_unref(q, d);
}

/* Is its i-th recipient still without an answer, and not in another job? */
static bool is_owed(const struct job *j, size_t i)
{
    const struct qrcpt *r = &j->a->v[j->rcpts[i]];

    return r->state == RS_JOB && r->job == j;
}

/* ---------------------------------------------------------------- requests */

/* The envelope without its recipients: `local` gets those it is asked for. */
static void put_head(struct buf *b, struct queue *q, const struct active *a)
{
    buf_clear(&q->scratch);
    if (envelope_encode(&q->scratch, &a->env))
        (void)attr_put(b, AT_HEAD, buf_view(&q->scratch));
    else
        b->overflow = true;
}

static void put_rcpt(struct buf *b, struct queue *q, const struct active *a,
                     uint32_t i)
{
    const struct qrcpt *r = &a->v[i];
    struct buf *n = &q->scratch;
    uint8_t id[SPOOL_DELIVERY_ID];

    spool_delivery_id(q->spool, a->env.seq, r->path, id);
    buf_clear(n);
    (void)attr_put_u64(n, AT_RCPT_INDEX, i);
    (void)attr_put(n, AT_ADDR, r->to);
    if (r->orig.n > 0)
        (void)attr_put(n, AT_ORIG_ADDR, r->orig);
    if (r->orcpt.n > 0)
        (void)attr_put(n, AT_ORCPT, r->orcpt);
    (void)attr_put_u64(n, AT_NOTIFY, r->notify);
    (void)attr_put(n, AT_DELIVERY_ID, slice_of(id, sizeof(id)));
    (void)attr_put(n, AT_PATH, r->path);
    (void)attr_put_u64(n, AT_DEPTH, r->depth);
    (void)attr_put(b, AT_RCPT, buf_view(n));
}

static void put_delays(struct buf *b, const struct active *a)
{
    msec arrival = envelope_arrival_ms(&a->env);
    msec now = clock_wall();
    uint8_t v[32] = { 0 };

    set_u64(v, a->since > arrival ? (uint64_t)(a->since - arrival) : 0);
    set_u64(v + 8, now > a->since ? (uint64_t)(now - a->since) : 0);
    (void)attr_put(b, AT_DELAYS, slice_of(v, sizeof(v)));
}

/* The recipients that are still owed an answer; their number. */
static size_t put_request(struct buf *b, const struct job *j, uint64_t body_at,
                          uint64_t body_bytes)
{
    const struct active *a = j->a;
    size_t n = 0;

    (void)attr_put_str(b, AT_QUEUE_ID, a->env.id);
    (void)attr_put_u64(b, AT_SEQ, a->env.seq);
    (void)attr_put(b, AT_SENDER, j->sender);
    (void)attr_put_u64(b, AT_ARRIVAL, (uint64_t)envelope_arrival_ms(&a->env));
    (void)attr_put_u64(b, AT_SIZE, spool_message_size(a->qm->sm));
    (void)attr_put_u64(b, AT_BODY_OFFSET, body_at);
    (void)attr_put_u64(b, AT_BODY_BYTES, body_bytes);
    (void)attr_put_str(b, AT_TRANSPORT, j->d->t->name);
    (void)attr_put(b, AT_NEXTHOP, j->nexthop);
    if ((a->env.flags & ENV_VERIFY) != 0)
        (void)attr_put_u64(b, AT_FLAGS, DELIVER_PROBE);
    put_delays(b, a);
    put_head(b, a->q, a);
    for (size_t i = 0; i < j->n; i++) {
        if (!is_owed(j, i))
            continue;
        put_rcpt(b, a->q, a, j->rcpts[i]);
        n++;
    }
    return n;
}

static void take_feedback(struct dest *d, slice body)
{
    slice status = SLICE_NONE;
    slice text = SLICE_NONE;

    if (!attr_find(body, AT_HOP_STATUS, &status)) {
        dest_positive(d);
        return;
    }
    (void)attr_find(body, AT_HOP_TEXT, &text);
    dest_negative(d, status, text);
}

/* One request and its answer.  *n_left tells for how many recipients none came
 * (all, when -1 is returned). */
static MAY_WAIT int ask(struct job *j, size_t *n_left, struct err *err)
{
    struct active *a = j->a;
    struct queue *q = a->q;
    struct buf b CLEANUP(buf_done);
    struct buf more CLEANUP(buf_done);
    struct queue_request r;
    struct msg answer;
    slice body;
    uint64_t at;
    uint64_t bytes;
    int fd;

    *n_left = 1;
    buf_init(&b, CHAN_MAX_BYTES - 1024);
    buf_init(&more, ANSWER_MAX);
    if (spool_read_fd(q->spool, a->qm->sm, &fd, &at, &bytes, err) < 0)
        return -1;
    *n_left = put_request(&b, j, at, bytes);
    if (*n_left == 0)
        return 0;
    if (b.overflow)
        return err_temp(err, "a request is too large");
    q->count.n_jobs++;
    r = (struct queue_request){ slice_str(j->d->t->name), j->nexthop,
                                buf_view(&b), fd, clock_after(DELIVER_MS) };
    if (q->ops->deliver(q->arg, &r, &answer, err) < 0)
        return -1;
    if (msg_read_big(&answer, &more, &body, err) < 0) {
        msg_free(&answer);
        return -1;
    }
    take_feedback(j->d, body);
    if (!active_is_gone(a))
        answer_apply(a, body);
    msg_free(&answer);
    *n_left = 0;
    for (size_t i = 0; i < j->n; i++)
        if (is_owed(j, i))
            ++*n_left;
    if (*n_left > 0)
        return err_temp(err, "the answer lacks %zu recipients", *n_left);
    return 0;
}

static void defer_all(struct job *j, slice status, slice text)
{
    for (size_t i = 0; i < j->n && !active_is_gone(j->a); i++)
        if (is_owed(j, i))
            rcpt_decide(j->a, j->rcpts[i], false, status, text);
}

/* What waited for its turn while its destination or transport died. */
static bool is_dead(struct job *j)
{
    if (j->d->dead_text != NULL) {
        defer_all(j, slice_str(j->d->dead_status), slice_str(j->d->dead_text));
        return true;
    }
    if (j->d->t->dead_until > clock_mono()) {
        defer_all(j, SL("4.3.0"), SL(UNAVAILABLE));
        return true;
    }
    return false;
}

static MAY_WAIT void job_run(struct job *j)
{
    struct active *a = j->a;
    struct queue *q = a->q;
    msec pause = REPEAT_FIRST_MS;
    struct err err;
    struct err ignored;
    size_t n_left;

    for (unsigned n = 0; n < REPEAT_MAX; n++) {
        if (active_is_gone(a) || q->is_closing)
            return;
        if (ask(j, &n_left, &err) == 0 || active_is_gone(a))
            return;
        if (q->is_closing)
            return;
        /* invariant 3 */
        q->count.n_repeated++;
        event_text(EV_WARNING, NULL, a->env.id,
                   "delivery by %s got no answer and is asked again: %s",
                   j->d->t->name, err.log);
        (void)waitq_wait(&q->kicked, clock_after(pause), &ignored);
        pause = pause * 2 < REPEAT_MAX_MS ? pause * 2 : REPEAT_MAX_MS;
    }
    transport_dead(j->d->t);
    defer_all(j, SL("4.3.0"), SL(UNAVAILABLE));
}

/* ----------------------------------------------------------------- running */

static MAY_WAIT void job_task(void *arg);

void transport_pump(struct transport *t)
{
    struct queue *q = t->q;

    /* Called for each job that got its turn; a task that ends a job takes the
     * next one, so some tasks find nothing and end. */
    if (q->is_closing || !transport_has_turn(t))
        return;
    t->n_tasks++;
    q->n_tasks++;
    (void)task_spawn("queue-job", job_task, t);
}

static MAY_WAIT void job_end(struct job *j, bool was_tried)
{
    struct active *a = j->a;
    struct queue *q = a->q;
    struct dest *d = j->d;

    d->n_running--;
    if (j->is_slow)
        d->t->n_slow--;
    if (was_tried)
        dest_rest(d);
    dest_update(d);
    dest_unpark(q, d);
    if (transport_has_turn(d->t))
        transport_pump(d->t); /* the window may have grown by one */
    job_free(q, j);
    active_unref(a);
}

static MAY_WAIT void job_task(void *arg)
{
    struct transport *t = arg;
    struct queue *q = t->q;
    struct job *j;

    while (!q->is_closing) {
        bool was_tried;

        j = transport_next(t);
        if (j == NULL)
            break;
        j->task = task_self();
        list_push(&q->running, &j->running);
        was_tried = !is_dead(j);
        if (was_tried)
            job_run(j);
        job_end(j, was_tried);
        task_yield_if_long();
    }
    t->n_tasks--;
    queue_task_ended(q);
}

/* Who makes many requests of a transport can be preempted by who makes fewer.
 */
static int kind_of(const struct work *w)
{
    const struct transport *t = w->t;

    return t->slot_cost > 0 && w->n_all / t->slot_cost >= t->min_slots
               ? JOBS_BIG
               : JOBS_SMALL;
}

void jobs_submit(struct active *a)
{
    struct list *l;

    list_each(it, &a->jobs) {
        struct job *j = CONTAINER_OF(it, struct job, link);

        work_add(work_get(a, j->d->t), j);
    }
    while ((l = list_pop(&a->jobs)) != NULL) {
        struct job *j = CONTAINER_OF(l, struct job, link);
        struct dest *d = j->d;

        if (d->open == j)
            d->open = NULL;
        j->kind = (uint8_t)kind_of(j->work);
        dest_put(d, j);
        transport_pump(d->t);
    }
}

void jobs_cancel(struct queue *q)
{
    list_each(it, &q->running) {
        struct job *j = CONTAINER_OF(it, struct job, running);

        task_cancel(j->task);
    }
    requests_cancel(q);
}
