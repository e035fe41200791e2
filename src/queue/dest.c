#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/*
 * Transports and destinations: whose turn it is.
 *
 * A transport runs `limit` jobs at once and gives its turns to destinations
 * that have jobs and room, round and round.  A destination has room for as many
 * jobs as its window is wide.  One that failed too often is dead for a while:
 * its mail is deferred without being tried, so it has room for all of it.
 *
 * Small messages overtake big ones as in Postfix (preempt.c).  Messages for a
 * destination that holds more than its share of the memory are parked until it
 * has worked off half of that, so that others find room.
 */

/* Jobs that have run for longer do not keep others from starting, but for at
 * most this many. */
#define SLOW_MS  3000
#define SLOW_MAX 2000
/* No destination's share of the memory is less than so many recipients. */
#define SHARE_MIN 20

#define SUSPENDED "delivery temporarily suspended: "

static struct queue *queue_of(const struct dest *d)
{
    return d->t->q;
}

static struct window_rules rules_of(const struct transport *t)
{
    return (struct window_rules){ t->dest_limit, t->dest_start, t->cohort_limit,
                                  t->positive, t->negative };
}

/* -------------------------------------------------------------- transports */

static void on_transport_rest(struct timer *timer)
{
    struct transport *t = CONTAINER_OF(timer, struct transport, rest);

    t->is_resting = false;
    transport_pump(t);
}

static void on_slow(struct timer *timer)
{
    transport_pump(CONTAINER_OF(timer, struct transport, slow));
}

struct transport *transport_get(struct queue *q, slice name)
{
    struct map_node *n = map_get(&q->transports, name);
    struct transport *t;

    if (n != NULL)
        return CONTAINER_OF(n, struct transport, node);
    t = xcalloc(1, sizeof(*t));
    t->q = q;
    t->name = slice_xstrdup(name);
    list_init(&t->young);
    list_init(&t->works);
    for (size_t i = 0; i < N_JOB_KINDS; i++)
        list_init(&t->ready[i]);
    transport_configure(t, q->set);
    map_put(&q->transports, &t->node, slice_str(t->name));
    return t;
}

/* Jobs that have run for some time count no longer against the limit: they
 * wait for a far side that is slow, and healthy ones shall not wait for it. */
static void let_go_slow(struct transport *t)
{
    msec now = clock_mono();

    while (!list_empty(&t->young) && t->n_slow < SLOW_MAX) {
        struct job *j = CONTAINER_OF(t->young.next, struct job, young);

        if (now - j->since < SLOW_MS) {
            timer_set(&t->slow, j->since + SLOW_MS, on_slow);
            return;
        }
        list_remove(&j->young);
        j->is_slow = true;
        t->n_slow++;
    }
}

bool transport_has_turn(struct transport *t)
{
    if (list_empty(&t->ready[JOBS_SMALL]) && list_empty(&t->ready[JOBS_BIG]))
        return false;
    if (t->is_resting || (t->delay > 0 && t->n_tasks > 0))
        return false;
    if (t->n_tasks - t->n_slow < t->limit)
        return true;
    if (t->is_limit_hard)
        return false;
    let_go_slow(t);
    return t->n_tasks - t->n_slow < t->limit;
}

void transport_dead(struct transport *t)
{
    t->dead_until = clock_after(t->retry_time);
    log_warning("transport %s is not available, its mail is deferred for a "
                "while",
                t->name);
}

/* ------------------------------------------------------------ destinations */

static void die(struct dest *d, slice status, slice text);
static void revive(struct dest *d);

struct dest *dest_get(struct queue *q, struct transport *t, slice what)
{
    struct buf *key = &q->scratch;
    struct map_node *n;
    struct dest *d;

    buf_clear(key);
    (void)buf_puts(key, t->name);
    (void)buf_byte(key, '\n');
    (void)buf_slice(key, what);
    n = map_get(&q->dests, buf_view(key));
    if (n != NULL) {
        d = CONTAINER_OF(n, struct dest, node);
        d->n_refs++;
        return d;
    }
    d = xcalloc(1, sizeof(*d) + key->n + 1);
    memcpy(d->key, key->p, key->n);
    d->t = t;
    d->n_refs = 1;
    d->window.size = t->dest_start;
    list_init(&d->parked);
    for (size_t i = 0; i < N_JOB_KINDS; i++) {
        list_init(&d->ready[i]);
        list_init(&d->jobs[i]);
    }
    map_put(&q->dests, &d->node, slice_of(d->key, key->n));
    return d;
}

void dest_unref(struct queue *q, struct dest *d)
{
    CHECK(d->n_refs > 0);
    if (--d->n_refs > 0)
        return;
    for (size_t i = 0; i < N_JOB_KINDS; i++)
        list_remove(&d->ready[i]);
    timer_cancel(&d->timer);
    map_del(&q->dests, &d->node);
    if (d->dead_text != NULL)
        q->n_dead_dests--;
    free(d->dead_status);
    free(d->dead_text);
    free(d);
}

static bool has_room(const struct dest *d)
{
    if (d->dead_text != NULL)
        return true; /* to be deferred */
    if (d->is_resting || (d->t->dest_delay > 0 && d->n_running > 0))
        return false;
    return !d->t->has_windows || d->n_running < d->window.size;
}

void dest_update(struct dest *d)
{
    bool is_open = has_room(d);

    for (size_t i = 0; i < N_JOB_KINDS; i++) {
        if (!is_open || list_empty(&d->jobs[i]))
            list_remove(&d->ready[i]);
        else if (list_empty(&d->ready[i])) {
            list_push(&d->t->ready[i], &d->ready[i]);
            d->t->n_changes++;
        }
    }
}

void dest_put(struct dest *d, struct job *j)
{
    struct queue *q = queue_of(d);

    list_push(&d->jobs[j->kind], &j->link);
    if (d->n_ready++ == 0)
        q->n_busy_dests++;
    d->n_rcpts += j->n;
    d->t->n_rcpts += j->n;
    dest_update(d);
}

static void dest_take(struct dest *d, struct job *j)
{
    list_remove(&j->link);
    work_leave(j);
    d->n_rcpts -= j->n;
    d->t->n_rcpts -= j->n;
    if (--d->n_ready == 0)
        queue_of(d)->n_busy_dests--;
    for (size_t i = 0; i < N_JOB_KINDS; i++)
        list_remove(&d->ready[i]); /* to the end of the round */
}

/* ---------------------------------------------------------------- feedback */

/* covers: destination_concurrency_feedback_debug */
static void log_window(const struct dest *d, const char *what)
{
    slice key = slice_str(d->key);
    slice transport;

    if (!d->t->is_debugged)
        return;
    (void)slice_cut(&key, '\n', &transport);
    log_info("%.*s: %s: limit %u window %u success %" PRId64 " failure %" PRId64
             " fail_cohorts %" PRId64 " (millionths)",
             SLF(key), what, d->t->dest_limit, d->window.size,
             d->window.success, d->window.failure, d->window.cohorts);
}

void dest_positive(struct dest *d)
{
    struct window_rules r = rules_of(d->t);

    d->t->dead_until = 0;
    if (d->dead_text != NULL) {
        /* One that was on its way has come through. */
        revive(d);
        if (d->n_running > d->window.size)
            d->window.size = d->n_running;
        return;
    }
    window_grow(&d->window, &r, d->n_running);
    log_window(d, "success");
}

static void on_dest(struct timer *timer)
{
    struct dest *d = CONTAINER_OF(timer, struct dest, timer);
    struct queue *q = queue_of(d);
    struct transport *t = d->t;

    if (d->dead_text != NULL)
        revive(d);
    d->is_resting = false;
    dest_update(d);
    dest_unpark(q, d);
    dest_unref(q, d);
    transport_pump(t);
}

/* The timer holds a reference. */
static void start_timer(struct dest *d, msec in)
{
    if (!timer_is_set(&d->timer))
        d->n_refs++;
    timer_set(&d->timer, clock_after(in), on_dest);
}

static void revive(struct dest *d)
{
    log_window(d, "alive");
    queue_of(d)->n_dead_dests--;
    free(d->dead_status);
    free(d->dead_text);
    d->dead_status = NULL;
    d->dead_text = NULL;
    d->window = (struct window){ .size = d->t->dest_start };
}

static void die(struct dest *d, slice status, slice text)
{
    struct queue *q = queue_of(d);

    d->dead_status = slice_xstrdup(status.n > 0 ? status : SL("4.0.0"));
    if (d->dead_status[0] != '4')
        d->dead_status[0] = '4'; /* it is only put off */
    d->dead_text = xasprintf(SUSPENDED "%.*s", SLF(slice_sub(text, 0, 800)));
    d->is_resting = false;
    q->n_dead_dests++;
    start_timer(d, d->t->backoff);
    log_window(d, "dead");
    dest_update(d);
    dest_unpark(q, d); /* what waits for it is deferred with the rest */
}

void dest_negative(struct dest *d, slice status, slice text)
{
    struct window_rules r = rules_of(d->t);

    if (d->dead_text != NULL)
        return;
    if (window_shrink(&d->window, &r)) {
        die(d, status, text);
        return;
    }
    log_window(d, "failure");
    /* Remembered for as long, should no more mail be there just now. */
    if (!d->is_resting)
        start_timer(d, d->t->backoff);
}

/* covers: default_destination_rate_delay, default_transport_rate_delay */
void dest_rest(struct dest *d)
{
    struct transport *t = d->t;

    if (t->dest_delay > 0 && d->dead_text == NULL) {
        d->is_resting = true;
        start_timer(d, t->dest_delay);
    }
    if (t->delay > 0) {
        t->is_resting = true;
        timer_set(&t->rest, clock_after(t->delay), on_transport_rest);
    }
}

void dests_revive(struct queue *q)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&q->transports, &pos, n)) != NULL)
        CONTAINER_OF(n, struct transport, node)->dead_until = 0;
    pos = 0;
    n = NULL;
    while ((n = map_next(&q->dests, &pos, n)) != NULL) {
        struct dest *d = CONTAINER_OF(n, struct dest, node);

        if (d->dead_text == NULL)
            continue;
        timer_cancel(&d->timer);
        on_dest(&d->timer); /* gives up its reference */
    }
}

/* ----------------------------------------------------------------- parking */

static size_t share(const struct queue *q, const struct dest *d)
{
    size_t all = min_size(q->set->active_limit, q->set->rcpt_limit);
    size_t n = all / (q->n_busy_dests + 1);

    n = n > SHARE_MIN ? n : SHARE_MIN;
    n = min_size(n, all - all / 4);
    return min_size(n, d->t->held_rcpts);
}

static bool is_half_full(const struct queue *q)
{
    return q->n_active > q->set->active_limit / 2 ||
           q->n_active_rcpts > q->set->rcpt_limit / 2;
}

bool dest_is_congested(const struct queue *q, const struct dest *d)
{
    if (d->n_ready == 0 || d->dead_text != NULL)
        return false;
    if (d->t->n_rcpts >= d->t->held_rcpts)
        return true;
    return is_half_full(q) && d->n_rcpts >= share(q, d);
}

void dest_unpark(struct queue *q, struct dest *d)
{
    size_t low = share(q, d) / 2;

    if (d->n_parked == 0 || q->is_closing)
        return;
    if (d->dead_text == NULL && d->n_rcpts > low)
        return;
    if (d->dead_text == NULL)
        low -= min_size(low, d->n_rcpts);
    else
        low = SIZE_MAX;
    d->n_refs++;
    for (; low > 0 && !list_empty(&d->parked); low--) {
        struct qmsg *qm = CONTAINER_OF(d->parked.next, struct qmsg, in.parked);

        queue_msg_wait(q, qm, spool_message_arrival_ms(qm->sm));
    }
    dest_unref(q, d);
}

/* ------------------------------------------------------------- whose turn? */

static struct job *first_job(struct list *ready, int kind)
{
    struct dest *d;

    if (list_empty(ready))
        return NULL;
    d = CONTAINER_OF(ready->next - kind, struct dest, ready);
    return CONTAINER_OF(d->jobs[kind].next, struct job, link);
}

/* First come, first served, but for work that preempts other work. */
static struct job *choose(struct transport *t)
{
    struct job *small, *big, *j = preempt_next(t);

    if (j != NULL)
        return j;
    small = first_job(&t->ready[JOBS_SMALL], JOBS_SMALL);
    big = first_job(&t->ready[JOBS_BIG], JOBS_BIG);
    if (big == NULL)
        return small;
    if (small != NULL && small->work->order < big->work->order)
        return small;
    j = preempt_choose(t, big);
    return j != NULL ? j : big;
}

struct job *transport_next(struct transport *t)
{
    struct job *j;

    if (t->is_resting)
        return NULL;
    j = choose(t);
    if (j == NULL)
        return NULL;
    dest_take(j->d, j);
    j->d->n_running++;
    j->since = clock_mono();
    list_push(&t->young, &j->young);
    dest_update(j->d);
    return j;
}

/* -------------------------------------------------------------- their life */

void dests_configure(struct queue *q)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&q->transports, &pos, n)) != NULL)
        transport_configure(CONTAINER_OF(n, struct transport, node), q->set);
    pos = 0;
    n = NULL;
    while ((n = map_next(&q->dests, &pos, n)) != NULL) {
        struct dest *d = CONTAINER_OF(n, struct dest, node);
        unsigned limit = d->t->dest_limit;

        if ((limit != 0 && d->window.size > limit) || d->window.size == 0)
            d->window.size = d->t->dest_start;
        dest_update(d);
        transport_pump(d->t);
    }
}

/* Jobs that never ran; their messages are freed by the caller. */
static void dest_free(struct queue *q, struct dest *d)
{
    d->n_refs++;
    for (size_t i = 0; i < N_JOB_KINDS; i++)
        list_each_safe(it, tmp, &d->jobs[i])
            job_free(q, CONTAINER_OF(it, struct job, link));
    if (timer_is_set(&d->timer)) {
        timer_cancel(&d->timer);
        CHECK(d->n_refs > 1); /* the timer's and ours */
        dest_unref(q, d);
    }
    CHECK(d->n_refs == 1);
    dest_unref(q, d);
}

void dests_free(struct queue *q)
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
        timer_cancel(&t->rest);
        timer_cancel(&t->slow);
        free(t->name);
        free(t);
        pos = 0;
    }
}
