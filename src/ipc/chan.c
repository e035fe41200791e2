#include "ipc/chan.h"
#include "base/map.h"
#include "ipc/chan_priv.h"
#include "ipc/proto.h"
#include "rt/proc.h"

#include <fcntl.h>
#include <sys/socket.h>

/* Bytes that wait to be written: chan_send() refuses above OUT_MAX, answers
 * above OUT_HARD break the channel, and above OUT_EAGER they are written
 * without waiting for the turn's end. */
#define OUT_MAX    ((size_t)16 << 20)
#define OUT_HARD   ((size_t)64 << 20)
#define OUT_EAGER  ((size_t)256 << 10)
#define READ_CHUNK ((size_t)64 << 10)
#define FDS_MAX    256 /* received, not yet claimed by their frames */

/* A call of ours; lives on the stack of the task in chan_call(). */
struct call {
    struct imap_node node;
    struct task *task;
    bool is_done;
    bool has_failed;
    struct msg answer;
};

/* Descriptors that belong to the frame which starts at byte `at` of out. */
struct out_fd {
    uint64_t at;
    int fd;
};

struct chan {
    uint32_t magic;
    unsigned refs;
    int fd;
    struct fd_watch *watch;
    int watch_events;
    const struct chan_ops *ops;
    void *arg;

    struct buf in;
    int *in_fds;
    size_t n_in_fds;

    struct buf out;
    size_t out_at;    /* bytes of out written already */
    uint64_t out_pos; /* position in the stream of out.p[0] */
    struct out_fd *out_fds;
    size_t n_out_fds;
    size_t size_out_fds;
    struct deferred flush;
    struct deferred again; /* handle what is buffered, or close */
    struct waitq flushed;

    struct imap calls;
    uint32_t next_id;
    unsigned n_tasks;
    unsigned max_tasks;
    uint64_t peer_features;
    bool has_hello;
    bool is_open;
    bool is_paused;
    bool is_blocked;  /* the socket takes no more for now */
    bool is_out_dead; /* writing failed: read to the end, then close */
    bool is_broken;   /* close in the next turn */
    bool is_dispatching;
    bool has_owner; /* until chan_free() */
};

#define CHAN_MAGIC MAGIC('C', 'H', 'A', 'N')

static void on_ready(void *arg, int events);
static void on_again(struct deferred *d);

/* ----------------------------------------------------------------- closing */

/* Answer every pending call with trouble of our own. */
static void fail_calls(struct chan *c)
{
    size_t pos = 0;
    struct imap_node *n = NULL;

    while ((n = imap_next(&c->calls, &pos, n)) != NULL) {
        struct call *call = CONTAINER_OF(n, struct call, node);

        imap_del(&c->calls, n);
        call->is_done = true;
        call->has_failed = true;
        task_wake(call->task);
    }
}

static void shut(struct chan *c)
{
    if (!c->is_open)
        return;
    c->is_open = false;
    fd_watch_free(&c->watch);
    deferred_cancel(&c->flush);
    deferred_cancel(&c->again);
    close_fd(&c->fd);
    for (size_t i = 0; i < c->n_out_fds; i++)
        close(c->out_fds[i].fd);
    c->n_out_fds = 0;
    for (size_t i = 0; i < c->n_in_fds; i++)
        close(c->in_fds[i]);
    c->n_in_fds = 0;
    buf_release(&c->out);
    fail_calls(c);
    waitq_wake_all(&c->flushed);
}

struct chan *chan_ref(struct chan *c)
{
    CHECK_OBJ(c, CHAN_MAGIC);
    c->refs++;
    return c;
}

void chan_unref(struct chan **cp)
{
    struct chan *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    CHECK_OBJ(c, CHAN_MAGIC);
    if (--c->refs > 0)
        return;
    CHECK(!c->is_open && !c->has_owner);
    buf_done(&c->in);
    buf_done(&c->out);
    imap_done(&c->calls);
    free(c->in_fds);
    free(c->out_fds);
    c->magic = 0;
    free(c);
}

/* The peer is gone: tell the owner once. */
static void break_off(struct chan *c)
{
    if (!c->is_open)
        return;
    chan_ref(c);
    shut(c);
    if (c->has_owner && c->ops->on_close != NULL)
        c->ops->on_close(c, c->arg);
    chan_unref(&c);
}

/* As break_off(), from a place that must not call the owner. */
static void break_later(struct chan *c)
{
    c->is_broken = true;
    deferred_set(&c->again, on_again);
}

/* ------------------------------------------------------------------ output */

static bool is_reading(const struct chan *c)
{
    return c->is_open && !c->is_paused && c->n_tasks < c->max_tasks;
}

/* Make the watch say what we wait for now. */
static void set_watch(struct chan *c)
{
    int events = is_reading(c) ? WATCH_READ : 0;

    if (c->is_blocked && !c->is_out_dead)
        events |= WATCH_WRITE;
    if (!c->is_open || events == c->watch_events)
        return;
    fd_watch_free(&c->watch);
    c->watch_events = events;
    if (events != 0)
        c->watch = fd_watch_new(c->fd, events, on_ready, c);
}

/* How much of the output may go out in one call, with how many descriptors:
 * one call carries FD_PASS_MAX at most, all with its first byte. */
static size_t next_send(const struct chan *c, int fds[FD_PASS_MAX],
                        size_t *n_fds_out)
{
    uint64_t end = c->out_pos + c->out.n;
    size_t n = 0;

    while (n < c->n_out_fds && n < FD_PASS_MAX) {
        fds[n] = c->out_fds[n].fd;
        n++;
    }
    /* The frame of the first descriptor left behind waits for its turn, and
     * with it the descriptors of the same frame. */
    if (n < c->n_out_fds) {
        end = c->out_fds[n].at;
        while (n > 0 && c->out_fds[n - 1].at >= end)
            n--;
    }
    *n_fds_out = n;
    return (size_t)(end - c->out_pos) - c->out_at;
}

static void drop_sent_fds(struct chan *c, size_t n)
{
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        close(c->out_fds[i].fd);
    memmove(c->out_fds, c->out_fds + n,
            (c->n_out_fds - n) * sizeof *c->out_fds);
    c->n_out_fds -= n;
}

static void out_is_empty(struct chan *c)
{
    c->out_pos += c->out.n;
    c->out_at = 0;
    if (c->out.size > OUT_EAGER)
        buf_release(&c->out);
    else
        buf_clear(&c->out);
    waitq_wake_all(&c->flushed);
}

/* Writing is over, but the peer may have said something before it went. */
static void out_dies(struct chan *c)
{
    c->is_out_dead = true;
    c->is_blocked = false;
    drop_sent_fds(c, c->n_out_fds);
    out_is_empty(c);
}

/* Write until all is out or the socket takes no more. */
static void write_out(struct chan *c)
{
    int fds[FD_PASS_MAX];
    size_t n_fds, n;
    ssize_t sent;

    c->is_blocked = false;
    while (c->is_open && c->out_at < c->out.n) {
        n = next_send(c, fds, &n_fds);
        sent = fd_send(c->fd, c->out.p + c->out_at, n, fds, n_fds);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            c->is_blocked = true;
            break;
        }
        if (sent < 0) {
            if (errno != EPIPE && errno != ECONNRESET)
                break_later(c); /* the peer is there and will not close */
            out_dies(c);
            break;
        }
        drop_sent_fds(c, n_fds);
        c->out_at += (size_t)sent;
    }
    if (c->is_open && c->out.n > 0 && c->out_at == c->out.n)
        out_is_empty(c);
    set_watch(c);
}

static void on_flush(struct deferred *d)
{
    write_out(CONTAINER_OF(d, struct chan, flush));
}

static bool queue_fds(struct chan *c, const int *fds, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

        if (fd < 0) {
            while (i-- > 0)
                close(c->out_fds[--c->n_out_fds].fd);
            return false;
        }
        if (c->n_out_fds == c->size_out_fds) {
            c->size_out_fds = max_size(16, c->size_out_fds * 2);
            c->out_fds =
                xrealloc(c->out_fds, c->size_out_fds * sizeof *c->out_fds);
        }
        c->out_fds[c->n_out_fds++] = (struct out_fd){ at, fd };
    }
    return true;
}

/* Move what is unsent to the front before the buffer grows over old bytes. */
static void compact(struct chan *c)
{
    if (c->out_at < OUT_EAGER || c->out_at * 2 < c->out.n)
        return;
    buf_consume(&c->out, c->out_at);
    c->out_pos += c->out_at;
    c->out_at = 0;
}

static int put_frame(struct chan *c, const struct frame *f, const int *fds,
                     struct err *err)
{
    if (!c->is_open || c->is_out_dead)
        return err_temp(err, "the channel is closed");
    if (f->body.n > CHAN_MAX_BYTES || f->n_fds > CHAN_MAX_FDS)
        return err_temp(err, "message %s is too long (%zu bytes, %u files)",
                        proto_name(f->type), f->body.n, f->n_fds);
    compact(c);
    if (!queue_fds(c, fds, f->n_fds, c->out_pos + c->out.n))
        return err_sys(err, "duplicate a descriptor");
    frame_put(&c->out, f);
    if (c->out.overflow) {
        out_dies(c);
        break_later(c);
        return err_temp(err, "the peer does not read its messages");
    }
    if (!c->is_blocked && c->out.n - c->out_at > OUT_EAGER)
        write_out(c);
    else if (!c->is_blocked)
        deferred_set(&c->flush, on_flush);
    return 0;
}

int chan_send(struct chan *c, uint16_t type, slice body, const int *fds,
              size_t n_fds, struct err *err)
{
    struct frame f = { .type = type, .n_fds = (uint8_t)n_fds, .body = body };

    CHECK_OBJ(c, CHAN_MAGIC);
    CHECK(n_fds <= CHAN_MAX_FDS);
    if (c->out.n - c->out_at > OUT_MAX)
        return err_temp(err, "too much waits to be sent to the peer");
    return put_frame(c, &f, fds, err);
}

void chan_answer(struct chan *c, uint32_t id, slice body, const int *fds,
                 size_t n_fds)
{
    struct frame f = {
        .flags = FRAME_ANSWER, .n_fds = (uint8_t)n_fds, .id = id, .body = body
    };
    struct err err;

    CHECK_OBJ(c, CHAN_MAGIC);
    CHECK(n_fds <= CHAN_MAX_FDS);
    if (id == 0 || !c->is_open)
        return;
    if (put_frame(c, &f, fds, &err) < 0)
        chan_fail(c, id, &err);
}

void chan_fail(struct chan *c, uint32_t id, const struct err *why)
{
    struct frame f = { .flags = FRAME_ANSWER | FRAME_FAILED, .id = id };
    struct buf body;

    CHECK_OBJ(c, CHAN_MAGIC);
    if (id == 0 || !c->is_open)
        return;
    buf_init(&body, 4096);
    frame_put_err(&body, why);
    f.body = buf_view(&body);
    /* A channel that cannot take even this is broken: the call ends with it. */
    (void)put_frame(c, &f, NULL, NULL);
    buf_done(&body);
}

int chan_flush(struct chan *c, msec deadline, struct err *err)
{
    int rc = 0;

    chan_ref(c);
    write_out(c);
    while (rc == 0 && c->is_open && c->out.n > 0)
        rc = waitq_wait(&c->flushed, deadline, err);
    if (rc == 0 && (!c->is_open || c->is_out_dead))
        rc = err_temp(err, "the channel is closed");
    chan_unref(&c);
    return rc;
}

/* NOLINTNEXTLINE(readability-function-size): eight things make a call */
int chan_call(struct chan *c, uint16_t type, slice body, const int *fds,
              size_t n_fds, msec deadline, struct msg *answer_out,
              struct err *err)
{
    struct frame f = { .type = type, .n_fds = (uint8_t)n_fds, .body = body };
    struct call call = { .task = task_self() };
    int rc;

    CHECK_OBJ(c, CHAN_MAGIC);
    CHECK(n_fds <= CHAN_MAX_FDS && call.task != NULL);
    if (c->out.n - c->out_at > OUT_MAX)
        return err_temp(err, "too much waits to be sent to the peer");
    do
        f.id = ++c->next_id;
    while (f.id == 0 || imap_get(&c->calls, f.id) != NULL);
    if (put_frame(c, &f, fds, err) < 0)
        return -1;
    imap_put(&c->calls, &call.node, f.id);
    chan_ref(c);
    while (!call.is_done && task_wait(deadline, err) == 0)
        ;
    rc = call.is_done ? 0 : -1;
    if (!call.is_done)
        imap_del(&c->calls, &call.node);
    else if (call.has_failed && call.answer.body.n == 0)
        rc = err_temp(err, "the peer went away");
    else if (call.has_failed)
        rc = frame_get_err(call.answer.body, err);
    chan_unref(&c);
    if (rc == 0)
        *answer_out = call.answer;
    else
        msg_free(&call.answer);
    return rc;
}

void chan_bye(struct chan *c)
{
    /* A closed channel needs no goodbye. */
    (void)chan_send(c, MSG_BYE, SLICE_NONE, NULL, 0, NULL);
}

/* ------------------------------------------------------------------- input */

struct served {
    struct chan *chan;
    struct msg *msg;
};

static void serve_task(void *arg)
{
    struct served *s = arg;
    struct chan *c = s->chan;

    if (c->has_owner) /* else nobody knows `arg` any more */
        c->ops->serve(c, s->msg, c->arg);
    msg_delete(&s->msg);
    free(s);
    if (c->n_tasks-- == c->max_tasks && c->is_open)
        deferred_set(&c->again, on_again);
    chan_unref(&c);
}

static void got_message(struct chan *c, struct msg *m)
{
    struct served *s;

    if (m->type == MSG_BYE) {
        if (c->ops->on_bye != NULL)
            c->ops->on_bye(c, c->arg);
        return;
    }
    if (c->ops->on_msg != NULL) {
        c->ops->on_msg(c, m, c->arg);
        return;
    }
    if (c->ops->serve == NULL)
        return;
    s = xcalloc(1, sizeof *s);
    s->chan = chan_ref(c);
    s->msg = msg_take(m);
    c->n_tasks++;
    task_spawn("serve", serve_task, s);
}

static void got_answer(struct chan *c, const struct frame *f, struct msg *m)
{
    struct imap_node *n = imap_get(&c->calls, f->id);
    struct call *call;
    struct msg *copy;

    if (n == NULL) /* the caller did not wait for it */
        return;
    call = CONTAINER_OF(n, struct call, node);
    imap_del(&c->calls, n);
    copy = msg_take(m);
    call->answer = *copy;
    free(copy);
    call->is_done = true;
    call->has_failed = (f->flags & FRAME_FAILED) != 0;
    task_wake(call->task);
}

/* False when the frame's descriptors did not come with it: damaged. */
static bool claim_fds(struct chan *c, const struct frame *f, struct msg *m)
{
    m->n_fds = f->n_fds;
    if (c->n_in_fds < m->n_fds) {
        m->n_fds = 0;
        return false;
    }
    for (size_t i = 0; i < m->n_fds; i++)
        m->fds[i] = c->in_fds[i];
    c->n_in_fds -= m->n_fds;
    if (m->n_fds > 0)
        memmove(c->in_fds, c->in_fds + m->n_fds, c->n_in_fds * sizeof(int));
    return true;
}

/* One frame.  False: the channel is damaged. */
static bool handle_frame(struct chan *c, const struct frame *f)
{
    struct msg m = { .type = f->type, .id = f->id, .body = f->body };

    if (!claim_fds(c, f, &m))
        return false;
    if (!c->has_hello) {
        c->has_hello = frame_hello_ok(f, &c->peer_features);
        msg_free(&m);
        return c->has_hello;
    }
    if ((f->flags & FRAME_ANSWER) != 0)
        got_answer(c, f, &m);
    else
        got_message(c, &m);
    msg_free(&m);
    return true;
}

/* Handle every whole frame in the buffer.  Handlers may pause, close or free
 * the channel. */
static void dispatch(struct chan *c)
{
    size_t at = 0;
    struct frame f;
    int got = 0;

    chan_ref(c);
    c->is_dispatching = true;
    while (is_reading(c)) {
        got = frame_parse(slice_from(buf_view(&c->in), at), &f);
        if (got <= 0)
            break;
        at += f.size;
        if (!handle_frame(c, &f)) {
            got = -1;
            break;
        }
    }
    c->is_dispatching = false;
    buf_consume(&c->in, at);
    if (c->in.n == 0 && c->in.size > READ_CHUNK * 2)
        buf_release(&c->in);
    if (got < 0)
        break_off(c);
    else
        set_watch(c);
    chan_unref(&c);
}

static void on_again(struct deferred *d)
{
    struct chan *c = CONTAINER_OF(d, struct chan, again);

    if (c->is_broken)
        break_off(c);
    else
        dispatch(c);
}

static void read_in(struct chan *c)
{
    size_t n_fds = min_size(FD_PASS_MAX, FDS_MAX - c->n_in_fds);
    char *room = buf_reserve(&c->in, READ_CHUNK);
    ssize_t n;

    CHECK(room != NULL);
    n = fd_recv(c->fd, room, READ_CHUNK, c->in_fds + c->n_in_fds, &n_fds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        break_off(c);
        return;
    }
    c->n_in_fds += n_fds;
    buf_commit(&c->in, (size_t)n);
    if (c->n_in_fds > FDS_MAX - FD_PASS_MAX)
        break_off(c); /* nobody sends that many for one frame */
    else
        dispatch(c);
}

static void on_ready(void *arg, int events)
{
    struct chan *c = arg;

    chan_ref(c);
    if ((events & WATCH_WRITE) != 0)
        write_out(c);
    if (is_reading(c) && (events & WATCH_READ) != 0)
        read_in(c);
    chan_unref(&c);
}

/* ---------------------------------------------------------------- the rest */

struct chan *chan_new(int fd, const struct chan_ops *ops, void *arg)
{
    struct chan *c = xcalloc(1, sizeof *c);
    int flags = fcntl(fd, F_GETFL);

    c->magic = CHAN_MAGIC;
    c->refs = 1;
    c->has_owner = true;
    c->is_open = true;
    c->fd = fd;
    c->ops = ops;
    c->arg = arg;
    c->max_tasks = ops->max_tasks > 0 ? ops->max_tasks : 1024;
    c->in_fds = xcalloc(FDS_MAX, sizeof(int));
    buf_init(&c->in, CHAN_MAX_BYTES + FRAME_HEADER + READ_CHUNK * 2);
    buf_init(&c->out, OUT_HARD);
    imap_init(&c->calls);
    waitq_init(&c->flushed);
    (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    frame_put_hello(&c->out);
    deferred_set(&c->flush, on_flush);
    set_watch(c);
    return c;
}

void chan_free(struct chan **cp)
{
    struct chan *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    CHECK_OBJ(c, CHAN_MAGIC);
    CHECK(c->has_owner);
    c->has_owner = false;
    write_out(c); /* what fits now still goes out */
    shut(c);
    chan_unref(&c);
}

bool chan_is_open(const struct chan *c)
{
    return c->is_open;
}

void *chan_arg(const struct chan *c)
{
    return c->arg;
}

uint64_t chan_peer_features(const struct chan *c)
{
    return c->peer_features;
}

size_t chan_pending(const struct chan *c)
{
    return c->calls.n;
}

void chan_pause(struct chan *c, bool paused)
{
    CHECK_OBJ(c, CHAN_MAGIC);
    if (c->is_paused == paused)
        return;
    c->is_paused = paused;
    if (paused || c->is_dispatching)
        set_watch(c);
    else if (c->is_open)
        deferred_set(&c->again, on_again); /* what is buffered comes first */
}

int chan_socketpair(int fds[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   fds) < 0)
        return err_sys(err, "make a socket pair");
    return 0;
}
