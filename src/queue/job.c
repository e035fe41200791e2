#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/*
 * Jobs: recipients of one message with one sender, transport and destination,
 * asked for by one request.  A transport runs `limit` jobs at once and gives
 * its turns to the destinations that have jobs and room, round and round.
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

/* --------------------------------------------- transports and destinations */

struct transport *transport_get(struct queue *q, slice name)
{
    struct map_node *n = map_get(&q->transports, name);
    struct transport *t;

    if (n != NULL)
        return CONTAINER_OF(n, struct transport, node);
    t = xcalloc(1, sizeof(*t));
    t->name = slice_xstrdup(name);
    list_init(&t->ready);
    transport_configure(t, q->set);
    map_put(&q->transports, &t->node, slice_str(t->name));
    return t;
}

static struct dest *dest_get(struct queue *q, struct transport *t, slice what)
{
    struct buf *key = &q->scratch;
    struct map_node *n;
    struct dest *d;

    buf_clear(key);
    (void)buf_puts(key, t->name);
    (void)buf_byte(key, '\n');
    (void)buf_slice(key, what);
    n = map_get(&q->dests, buf_view(key));
    if (n != NULL)
        return CONTAINER_OF(n, struct dest, node);
    d = xcalloc(1, sizeof(*d) + key->n);
    memcpy(d->key, key->p, key->n);
    d->t = t;
    d->window = t->dest_start;
    list_init(&d->ready);
    list_init(&d->jobs);
    map_put(&q->dests, &d->node, slice_of(d->key, key->n));
    return d;
}

static void dest_unref(struct queue *q, struct dest *d)
{
    CHECK(d->n_refs > 0);
    if (--d->n_refs > 0)
        return;
    list_remove(&d->ready);
    map_del(&q->dests, &d->node);
    free(d);
}

/* Is it its turn some time?  Call whenever jobs or room of d changed. */
static void dest_update(struct dest *d)
{
    bool has_room = d->t->dest_limit == 0 || d->n_running < d->window;
    bool is_ready = has_room && !list_empty(&d->jobs);

    if (!is_ready)
        list_remove(&d->ready);
    else if (list_empty(&d->ready))
        list_push(&d->t->ready, &d->ready);
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
    list_push(&a->jobs, &j->link);
    d->n_refs++;
    d->open = j;
    active_ref(a);
    return j;
}

/* The memory only; who calls has dealt with the active message. */
static void job_free(struct queue *q, struct job *j)
{
    list_remove(&j->link);
    list_remove(&j->running);
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

void job_add(struct active *a, uint32_t i, const struct queue_route *r)
{
    struct queue *q = a->q;
    struct transport *t = transport_get(q, r->transport);
    struct job *j;
    slice status;

    if (!has_transport(q, r->transport)) {
        rcpt_decide(a, i, false, SL("4.3.0"), SL(UNAVAILABLE));
        return;
    }
    if (t->is_deferred && !a->is_flushed) {
        rcpt_decide(a, i, false, SL("4.3.2"), SL("deferred transport"));
        return;
    }
    if (slice_eqs(r->transport, "retry")) {
        slice text = split_status(r->nexthop, SL("4.3.0"), &status);

        rcpt_decide(a, i, false, status, text);
        return;
    }
    /* As in Postfix, where each recipient has a request of its own it is a
     * destination of its own. */
    j = job_for(a,
                dest_get(q, t, t->rcpt_limit == 1 ? r->recipient : r->nexthop),
                r, active_sender(a, &a->v[i]));
    if (j->n == j->size) {
        j->size = j->size != 0 ? j->size * 2 : 1;
        j->rcpts = xrealloc(j->rcpts, j->size * sizeof(*j->rcpts));
    }
    j->rcpts[j->n++] = i;
    a->v[i].to = r->recipient;
    a->v[i].state = RS_JOB;
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
    put_delays(b, a);
    put_head(b, a->q, a);
    for (size_t i = 0; i < j->n; i++) {
        if (a->v[j->rcpts[i]].state != RS_JOB)
            continue;
        put_rcpt(b, a->q, a, j->rcpts[i]);
        n++;
    }
    return n;
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
    if (!active_is_gone(a))
        answer_apply(a, body);
    msg_free(&answer);
    *n_left = 0;
    for (size_t i = 0; i < j->n; i++)
        if (a->v[j->rcpts[i]].state == RS_JOB)
            ++*n_left;
    if (*n_left > 0)
        return err_temp(err, "the answer lacks %zu recipients", *n_left);
    return 0;
}

static void give_up(struct job *j)
{
    for (size_t i = 0; i < j->n && !active_is_gone(j->a); i++)
        if (j->a->v[j->rcpts[i]].state == RS_JOB)
            rcpt_decide(j->a, j->rcpts[i], false, SL("4.3.0"),
                        SL("mail transport unavailable"));
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
    give_up(j);
}

/* ----------------------------------------------------------------- running */

struct start {
    struct queue *q;
    struct transport *t;
};

static MAY_WAIT void job_task(void *arg);

static void transport_pump(struct queue *q, struct transport *t)
{
    struct start *s;

    /* Called for each job that got its turn; a task that ends a job takes the
     * next one, so some tasks find nothing and end. */
    if (q->is_closing || list_empty(&t->ready) || t->n_tasks >= t->limit)
        return;
    s = xmalloc(sizeof(*s));
    *s = (struct start){ q, t };
    t->n_tasks++;
    q->n_tasks++;
    (void)task_spawn("queue-job", job_task, s);
}

static struct job *next_job(struct transport *t)
{
    struct list *l = list_pop(&t->ready);
    struct dest *d;
    struct job *j;

    if (l == NULL)
        return NULL;
    d = CONTAINER_OF(l, struct dest, ready);
    j = CONTAINER_OF(list_pop(&d->jobs), struct job, link);
    d->n_running++;
    dest_update(d);
    return j;
}

static MAY_WAIT void job_end(struct job *j)
{
    struct active *a = j->a;
    struct queue *q = a->q;
    struct dest *d = j->d;

    d->n_running--;
    if (d->window < d->t->dest_limit)
        d->window++;
    dest_update(d);
    if (!list_empty(&d->ready))
        transport_pump(q, d->t); /* the window may have grown by one */
    job_free(q, j);
    active_unref(a);
}

static MAY_WAIT void job_task(void *arg)
{
    struct start s = *(struct start *)arg;
    struct job *j;

    free(arg);
    while (!s.q->is_closing) {
        j = next_job(s.t);
        if (j == NULL)
            break;
        j->task = task_self();
        list_push(&s.q->running, &j->running);
        job_run(j);
        job_end(j);
    }
    s.t->n_tasks--;
    queue_task_ended(s.q);
}

void jobs_submit(struct active *a)
{
    struct list *l;

    while ((l = list_pop(&a->jobs)) != NULL) {
        struct job *j = CONTAINER_OF(l, struct job, link);
        struct dest *d = j->d;

        if (d->open == j)
            d->open = NULL;
        list_push(&d->jobs, &j->link);
        dest_update(d);
        transport_pump(a->q, d->t);
    }
}

void jobs_configure(struct queue *q)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&q->transports, &pos, n)) != NULL) {
        struct transport *t = CONTAINER_OF(n, struct transport, node);

        transport_configure(t, q->set);
    }
    pos = 0;
    n = NULL;
    while ((n = map_next(&q->dests, &pos, n)) != NULL) {
        struct dest *d = CONTAINER_OF(n, struct dest, node);

        if (d->window > d->t->dest_limit || d->window == 0)
            d->window = d->t->dest_start;
        dest_update(d);
        transport_pump(q, d->t);
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

/* Jobs that never ran; their messages are freed by the caller. */
static void dest_free(struct queue *q, struct dest *d)
{
    d->n_refs++;
    list_each_safe(it, tmp, &d->jobs)
        job_free(q, CONTAINER_OF(it, struct job, link));
    dest_unref(q, d);
}

void jobs_free(struct queue *q)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    CHECK(list_empty(&q->running));
    while ((n = map_next(&q->dests, &pos, NULL)) != NULL) {
        dest_free(q, CONTAINER_OF(n, struct dest, node));
        pos = 0;
    }
    pos = 0;
    while ((n = map_next(&q->transports, &pos, NULL)) != NULL) {
        struct transport *t = CONTAINER_OF(n, struct transport, node);

        map_del(&q->transports, n);
        free(t->name);
        free(t);
        pos = 0;
    }
}
