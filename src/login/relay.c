/*
 * Bytes between a client's TLS stream and its worker's socket.
 *
 * A direction that has nothing to move is a registration, not a task.  Only
 * while the other direction waits to write to the stream that it would read
 * from does it stay as a task: a stream with a writer cannot be parked.
 */
#include "login/login_priv.h"

#include <sys/socket.h>

#define WORKER_STALL_MS 1800000 /* our own worker may be at a long command */
#define RELAY_IN_MAX    65536
/* An offer is good so long: the worker takes it back after 30 s. */
#define OFFER_MS 20000

struct way { /* a direction */
    struct task *task;
    bool is_armed;   /* its stream was parked, and no task has come of it yet */
    bool is_reading; /* it waits for input, as a task */
    bool is_writing; /* it waits for its output to go */
    bool is_done;    /* the end of its input was passed on */
    uint64_t n;      /* bytes that it has taken to pass on */
};

struct relay {
    struct conn *c;
    struct stream *worker;
    struct way in;  /* client to worker */
    struct way out; /* worker to client */
    uint64_t park_at;
    msec offered_at;
    bool is_parking; /* nothing more goes to the worker */
    bool is_dead;
    bool is_ended; /* by the worker, who tells the broker */
};

static void settle(struct conn *c);
static void worker_event(void *arg, enum stream_why why);

/* ------------------------------------------------------------------ the end */

void relay_free(struct relay **rp)
{
    struct relay *r = *rp;

    if (r == NULL)
        return;
    *rp = NULL;
    CHECK(r->in.task == NULL && r->out.task == NULL);
    r->c->service->login->n_relayed--;
    stream_free(&r->worker);
    free(r);
}

/* A task was spawned for an event of this stream, and has not begun. */
static bool is_coming(const struct stream *s, bool is_armed)
{
    return is_armed && !stream_is_parked(s);
}

static void become_parked(struct conn *c)
{
    bool is_over = c->relay->in.is_done;

    relay_free(&c->relay);
    if (is_over) { /* the client has closed its side: nothing will come */
        login_tell_broker(c, BROKER_DROP);
        c->must_close = true;
    }
    parked_begin(c);
}

static void end(struct conn *c)
{
    struct relay *r = c->relay;

    if (r->in.task != NULL)
        task_cancel(r->in.task);
    if (r->out.task != NULL)
        task_cancel(r->out.task);
    if (r->in.task == NULL && r->out.task == NULL &&
        !is_coming(c->client, c->is_armed) &&
        !is_coming(r->worker, r->out.is_armed))
        conn_free(c);
}

/* Wake the task of a way that waits for input for no good reason any more. */
static void recall(struct way *w)
{
    if (w->task != NULL && w->is_reading)
        task_cancel(w->task);
}

/* True when it was settled that way. */
static bool settle_parking(struct conn *c)
{
    struct relay *r = c->relay;

    if (loop_now() - r->offered_at > OFFER_MS) {
        r->is_parking = false; /* the worker waits no longer for us */
        return false;
    }
    if (r->out.n > r->park_at) {
        /* The worker went on against the rules: so do we. */
        r->is_parking = false;
        return false;
    }
    if (r->out.n < r->park_at || r->in.is_writing || r->out.is_writing)
        return false;
    if (r->in.task == NULL && r->out.task == NULL) {
        if (!is_coming(r->worker, r->out.is_armed))
            become_parked(c);
        return true;
    }
    recall(&r->in);
    recall(&r->out);
    return true;
}

/* What is to happen next; called whenever a task is at its end. */
static void settle(struct conn *c)
{
    struct relay *r = c->relay;

    if (r->is_dead) {
        end(c);
        return;
    }
    if (r->is_parking && settle_parking(c))
        return;
    if (r->out.task == NULL && !r->out.is_armed && !r->in.is_writing) {
        r->out.is_armed = true;
        stream_park(r->worker, MSEC_NEVER, worker_event, c);
    }
    if (r->in.task == NULL && !c->is_armed && !r->out.is_writing &&
        !r->in.is_done && !r->is_parking)
        parked_arm(c, MSEC_NEVER);
    if (!r->out.is_writing)
        recall(&r->in);
    if (!r->in.is_writing)
        recall(&r->out);
}

/* Input for a way: 1 there is some, or its end; 0: it shall be waited for
 * without a task; -1: the stream is broken. */
MAY_WAIT static int next_input(struct relay *r, struct way *w,
                               enum stream_why why)
{
    bool is_in = w == &r->in;
    struct stream *s = is_in ? r->c->client : r->worker;
    const struct way *other = is_in ? &r->out : &r->in;
    struct err err;

    while (stream_peek(s).n == 0 && !stream_eof(s)) {
        bool was_recalled;
        int rc;

        if (stream_fill_now(s) || stream_eof(s))
            return 1;
        if (why == STREAM_EOF)
            return -1; /* without an end of input: broken */
        if (!other->is_writing)
            return 0;
        stream_deadline(s, MSEC_NEVER);
        w->is_reading = true;
        rc = stream_fill(s, &err);
        w->is_reading = false;
        was_recalled = task_is_cancelled();
        if (r->is_dead)
            return 0;
        if (was_recalled)
            task_uncancel();
        else if (rc < 0)
            return -1;
        if (was_recalled && rc < 0)
            return 0;
    }
    return 1;
}

/* ------------------------------------------------------- client to worker */

/* 0, or -1: stop. */
MAY_WAIT static int pass_in(struct conn *c, enum stream_why why)
{
    struct relay *r = c->relay;
    int got = next_input(r, &r->in, why);
    slice bytes = stream_peek(c->client);
    struct err err;
    int rc;

    if (got < 0)
        r->is_dead = true; /* the client is gone */
    if (got <= 0 || r->is_dead || r->is_parking)
        return -1;
    r->in.is_writing = true;
    stream_deadline(r->worker, clock_after(WORKER_STALL_MS));
    if (bytes.n == 0) {
        r->in.is_done = true;
        rc = stream_shutdown(r->worker, &err);
    } else {
        r->in.n += bytes.n; /* before any wait: they are on their way */
        rc = stream_write(r->worker, bytes, &err);
        if (rc == 0)
            rc = stream_flush(r->worker, &err);
        stream_consume(c->client, bytes.n);
    }
    r->in.is_writing = false;
    if (rc < 0 && err.class == ERR_TEMP)
        r->is_dead = true; /* the worker takes nothing for too long */
    if (rc < 0)
        r->in.is_done = true; /* it reads no more; it may have last words */
    return r->in.is_done ? -1 : 0;
}

void relay_client_event(struct conn *c, enum stream_why why)
{
    struct relay *r = c->relay;

    r->in.task = task_self();
    while (!r->is_dead && pass_in(c, why) == 0)
        ;
    r->in.task = NULL;
    if (r->is_dead && !r->is_ended) /* else the broker has heard it */
        login_tell_broker(c, BROKER_DROP);
    settle(c);
}

/* ------------------------------------------------------- worker to client */

/* The stream is broken because the worker closed while we were writing to it:
 * what it wrote before is there. */
MAY_WAIT static void last_words(struct conn *c)
{
    struct relay *r = c->relay;
    char *space CLEANUP(free_ptr) = xmalloc(4096);
    struct err err;
    ssize_t n;

    while ((n = recv(stream_fd(r->worker), space, 4096, MSG_DONTWAIT)) > 0)
        if (stream_write(c->client, slice_of(space, (size_t)n), &err) < 0)
            return;
    (void)stream_flush(c->client, &err);
}

MAY_WAIT static int pass_out(struct conn *c, enum stream_why why)
{
    struct relay *r = c->relay;
    int got = next_input(r, &r->out, why);
    slice bytes = stream_peek(r->worker);
    struct err err;
    int rc = -1;

    if (got == 0 || r->is_dead)
        return -1;
    r->out.is_writing = true;
    stream_deadline(c->client, clock_after(STALL_MS));
    if (got < 0 || bytes.n == 0) {
        if (got < 0)
            last_words(c);
        r->is_dead = true; /* the worker has ended the session */
        r->is_ended = true;
    } else {
        rc = stream_write(c->client, bytes, &err);
        if (rc == 0)
            rc = stream_flush(c->client, &err);
        r->out.n += bytes.n;
        stream_consume(r->worker, bytes.n);
        if (rc < 0 && !r->is_dead) {
            login_tell_broker(c, BROKER_DROP); /* the client is gone */
            r->is_dead = true;
        }
    }
    r->out.is_writing = false;
    return rc;
}

MAY_WAIT static void worker_event(void *arg, enum stream_why why)
{
    struct conn *c = arg;
    struct relay *r = c->relay;

    CHECK_OBJ(c, CONN_MAGIC);
    r->out.is_armed = false;
    r->out.task = task_self();
    while (!r->is_dead && pass_out(c, why) == 0)
        task_yield_if_long();
    r->out.task = NULL;
    settle(c);
}

/* ------------------------------------------------------------- begin, offer */

void relay_start(struct conn *c, int fd)
{
    struct relay *r = xcalloc(1, sizeof *r);

    c->relay = r;
    c->state = CONN_RELAYED;
    c->service->login->n_relayed++;
    r->c = c;
    r->worker = stream_from_fd(fd);
    stream_limits(c->client, RELAY_IN_MAX, 32768);
    stream_limits(r->worker, RELAY_IN_MAX, 32768);
    settle(c);
}

void relay_offer(struct conn *c, slice park)
{
    struct relay *r = c->relay;
    slice text = SLICE_NONE;
    uint64_t n_read = attr_u64_or(park, AT_OFFSET, UINT64_MAX);

    if (c->state != CONN_RELAYED || r->is_dead || r->is_parking)
        return;
    if (n_read != r->in.n)
        return; /* more is on its way to the worker: it will see it */
    attr_find(park, AT_TEXT, &text);
    parked_keepalive_set(c, (unsigned)attr_u64_or(park, AT_TIME, 0), text);
    r->park_at = attr_u64_or(park, AT_LENGTH, 0);
    r->offered_at = loop_now();
    r->is_parking = true;
    settle(c);
}
