#include "ipc/bchan.h"
#include "ipc/chan_priv.h"
#include "rt/proc.h"

#include <fcntl.h>
#include <poll.h>

#define READ_CHUNK 65536
#define SEND_MS    10000 /* a peer that does not read for so long is lost */

static int send_all(struct bchan *c, slice bytes, struct err *err)
{
    struct pollfd p = { .fd = c->fd, .events = POLLOUT };

    while (bytes.n > 0) {
        ssize_t n = fd_send(c->fd, bytes.p, bytes.n, NULL, 0);

        if (n >= 0) {
            bytes = slice_from(bytes, (size_t)n);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return err_sys(err, "send a message");
        if (poll(&p, 1, SEND_MS) == 0)
            return err_temp(err, "the peer does not read its messages");
    }
    return 0;
}

static int put(struct bchan *c, const struct frame *f, struct err *err)
{
    struct buf b;
    int rc;

    if (c->fd < 0)
        return err_temp(err, "the channel is closed");
    buf_init(&b, CHAN_MAX_BYTES + FRAME_HEADER);
    frame_put(&b, f);
    rc = send_all(c, buf_view(&b), err);
    buf_done(&b);
    return rc;
}

int bchan_open(struct bchan *c, int fd, struct err *err)
{
    struct buf b;
    int rc, flags = fcntl(fd, F_GETFL);

    memset(c, 0, sizeof *c);
    c->fd = fd;
    buf_init(&c->in, CHAN_MAX_BYTES + FRAME_HEADER + READ_CHUNK);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_sys(err, "prepare a channel");
    buf_init(&b, 256);
    frame_put_hello(&b);
    rc = send_all(c, buf_view(&b), err);
    buf_done(&b);
    return rc;
}

void bchan_close(struct bchan *c)
{
    close_fd(&c->fd);
    for (size_t i = 0; i < c->n_fds; i++)
        close(c->fds[i]);
    c->n_fds = 0;
    buf_done(&c->in);
}

int bchan_fill(struct bchan *c, struct err *err)
{
    size_t n_fds = FD_PASS_MAX;
    char *room = buf_reserve(&c->in, READ_CHUNK);
    ssize_t n;

    if (room == NULL || c->n_fds + FD_PASS_MAX > ARRAY_LEN(c->fds))
        return err_temp(err, "the peer sends too much");
    n = fd_recv(c->fd, room, READ_CHUNK, c->fds + c->n_fds, &n_fds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return err_sys(err, "read from a channel");
    if (n == 0)
        return err_peer(err, "the channel was closed");
    c->n_fds += n_fds;
    buf_commit(&c->in, (size_t)n);
    return 0;
}

/* The peer's first frame.  1, 0, -1 as bchan_next(). */
static int take_hello(struct bchan *c)
{
    struct frame f;
    uint64_t features;
    int got = frame_parse(buf_view(&c->in), &f);

    if (got <= 0)
        return got;
    c->has_hello = frame_hello_ok(&f, &features);
    buf_consume(&c->in, f.size);
    return c->has_hello ? 1 : -1;
}

/* As bchan_next(), with the flags of the frame. */
static int next_frame(struct bchan *c, struct msg *m, uint8_t *flags)
{
    struct frame f;
    int got = c->has_hello ? 1 : take_hello(c);

    if (got > 0)
        got = frame_parse(buf_view(&c->in), &f);
    if (got <= 0)
        return got;
    if (f.n_fds > c->n_fds)
        return -1;
    *flags = f.flags;
    *m = (struct msg){ .type = f.type, .id = f.id, .body = f.body };
    m->n_fds = f.n_fds;
    for (size_t i = 0; i < m->n_fds; i++)
        m->fds[i] = c->fds[i];
    c->n_fds -= m->n_fds;
    memmove(c->fds, c->fds + m->n_fds, c->n_fds * sizeof(int));
    /* The body must outlive the buffer's move. */
    if (m->body.n > 0) {
        m->heap = xmalloc(m->body.n);
        memcpy(m->heap, m->body.p, m->body.n);
        m->body.p = m->heap;
    }
    buf_consume(&c->in, f.size);
    return 1;
}

int bchan_next(struct bchan *c, struct msg *m)
{
    uint8_t flags;

    return next_frame(c, m, &flags);
}

int bchan_send(struct bchan *c, uint16_t type, slice body, struct err *err)
{
    struct frame f = { .type = type, .body = body };

    return put(c, &f, err);
}

int bchan_answer(struct bchan *c, uint32_t id, slice body, struct err *err)
{
    struct frame f = { .flags = FRAME_ANSWER, .id = id, .body = body };

    return id == 0 ? 0 : put(c, &f, err);
}

int bchan_fail(struct bchan *c, uint32_t id, const struct err *why)
{
    struct frame f = { .flags = FRAME_ANSWER | FRAME_FAILED, .id = id };
    struct buf body;
    int rc;

    if (id == 0)
        return 0;
    buf_init(&body, 4096);
    frame_put_err(&body, why);
    f.body = buf_view(&body);
    rc = put(c, &f, NULL);
    buf_done(&body);
    return rc;
}

int bchan_call(struct bchan *c, uint16_t type, slice body, int ms,
               struct msg *answer_out, struct err *err)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    struct frame f = { .type = type, .id = 1, .body = body };
    uint8_t flags;
    int got;

    if (put(c, &f, err) < 0)
        return -1;
    for (;;) {
        got = next_frame(c, answer_out, &flags);
        if (got < 0)
            return err_temp(err, "the answer is damaged");
        if (got == 1 && (flags & FRAME_ANSWER) != 0 && answer_out->id == 1)
            break;
        if (got == 1) {
            msg_free(answer_out);
            continue;
        }
        got = poll(&p, 1, ms);
        if (got == 0)
            return err_temp(err, "no answer");
        if (got > 0 && bchan_fill(c, err) < 0)
            return -1;
    }
    if ((flags & FRAME_FAILED) == 0)
        return 0;
    (void)frame_get_err(answer_out->body, err);
    msg_free(answer_out);
    return -1;
}
