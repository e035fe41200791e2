/* What streams run over: descriptors and memory. */
#include "rt/stream_priv.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- descriptors */

/* The registration of out_fd when it is not fd. */
struct out_side {
    struct source source;
    struct stream *stream;
};

static void fd_event(struct source *src, uint32_t events)
{
    stream_event(CONTAINER_OF(src, struct stream, source), events);
}

static void out_side_event(struct source *src, uint32_t events)
{
    struct out_side *o = CONTAINER_OF(src, struct out_side, source);

    /* Nothing of this says that there is input. */
    if (events & (EPOLLHUP | EPOLLERR))
        events = EPOLLOUT;
    stream_event(o->stream, events & EPOLLOUT);
}

static ssize_t fd_read(struct stream *s, void *p, size_t n)
{
    if (s->fd < 0)
        return 0;
    return read(s->fd, p, n);
}

static ssize_t fd_writev(struct stream *s, const struct iovec *v, int n)
{
    if (s->out_fd < 0) {
        errno = EPIPE;
        return -1;
    }
    if (n == 1)
        return write(s->out_fd, v[0].iov_base, v[0].iov_len);
    return writev(s->out_fd, v, n);
}

/* epoll refuses regular files: they never make anybody wait. */
static bool watch(int fd, uint32_t events, struct source *src, bool is_added)
{
    int rc =
        is_added ? source_mod(fd, events, src) : source_add(fd, events, src);

    if (rc < 0 && errno != EPERM)
        panic("cannot watch descriptor %d: %s", fd, strerror(errno));
    return rc == 0;
}

enum { IN_EVENTS = (int)(EPOLLIN | EPOLLRDHUP) };

static void fd_arm_in(struct stream *s)
{
    if (s->in_armed)
        return;
    if (watch(s->fd, (uint32_t)IN_EVENTS | EPOLLET, &s->source, s->out_armed))
        s->in_armed = true;
    else
        s->in_ready = true;
}

static void fd_arm_out(struct stream *s)
{
    struct out_side *o;

    if (s->out_armed)
        return;
    if (s->out_fd == s->fd) {
        s->out_armed = watch(s->fd, (uint32_t)IN_EVENTS | EPOLLOUT | EPOLLET,
                             &s->source, s->in_armed);
        s->in_armed = s->out_armed;
        return;
    }
    o = xcalloc(1, sizeof(*o));
    o->source.fn = out_side_event;
    o->stream = s;
    s->side = o;
    s->out_armed = watch(s->out_fd, EPOLLOUT | EPOLLET, &o->source, false);
}

static void close_out_side(struct stream *s)
{
    struct out_side *o = s->side;

    if (o != NULL && s->out_armed)
        source_del(s->out_fd, &o->source);
    free(o);
    s->side = NULL;
    s->out_armed = false;
    if (s->out_fd >= 0)
        (void)close(s->out_fd);
    s->out_fd = -1;
}

static void fd_shut_out(struct stream *s)
{
    if (s->out_fd != s->fd)
        close_out_side(s);
    else if (s->fd >= 0)
        (void)shutdown(s->fd, SHUT_WR);
}

static void fd_close(struct stream *s)
{
    if (s->out_fd != s->fd)
        close_out_side(s);
    if (s->fd < 0)
        return;
    if (s->is_own)
        source_forget(&s->source);
    else if (s->in_armed || (s->out_armed && s->out_fd == s->fd))
        source_del(s->fd, &s->source);
    (void)close(s->fd);
}

const struct stream_io stream_fd_io = {
    .read = fd_read,
    .writev = fd_writev,
    .arm_in = fd_arm_in,
    .arm_out = fd_arm_out,
    .shut_out = fd_shut_out,
    .close = fd_close,
};

struct stream *stream_from_fd(int fd)
{
    struct stream *s = stream_new(&stream_fd_io, fd, fd);

    s->source.fn = fd_event;
    return s;
}

struct stream *stream_from_own_fd(int fd)
{
    struct stream *s = stream_from_fd(fd);

    s->is_own = true;
    return s;
}

static void set_nonblocking(int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

struct stream *stream_from_fds(int in_fd, int out_fd)
{
    struct stream *s = stream_new(&stream_fd_io, in_fd, out_fd);

    s->source.fn = fd_event;
    set_nonblocking(in_fd);
    set_nonblocking(out_fd);
    return s;
}

/* ---- memory */

enum { MEMORY_BYTES = 65536 };

/* One end: what was sent to it and not read yet. */
struct mem_end {
    struct stream *stream; /* NULL: freed */
    struct mem_end *peer;
    struct buf in;
    bool is_ended; /* the peer writes no more */
};

static ssize_t mem_read(struct stream *s, void *p, size_t n)
{
    struct mem_end *e = s->side;

    n = min_size(n, e->in.n);
    if (n == 0) {
        errno = EAGAIN;
        return e->is_ended ? 0 : -1;
    }
    memcpy(p, e->in.p, n);
    buf_consume(&e->in, n);
    if (e->peer->stream != NULL)
        stream_event(e->peer->stream, EPOLLOUT);
    return (ssize_t)n;
}

static ssize_t mem_writev(struct stream *s, const struct iovec *v, int n)
{
    struct mem_end *peer = ((struct mem_end *)s->side)->peer;
    size_t done = 0;

    if (peer->stream == NULL) {
        errno = EPIPE;
        return -1;
    }
    for (int i = 0; i < n; i++) {
        size_t part = min_size(v[i].iov_len, MEMORY_BYTES - peer->in.n);

        CHECK(buf_put(&peer->in, v[i].iov_base, part));
        done += part;
    }
    if (done == 0) {
        errno = EAGAIN;
        return -1;
    }
    stream_event(peer->stream, EPOLLIN);
    return (ssize_t)done;
}

/* Events always come. */
static void mem_arm(UNUSED struct stream *s)
{
}

static void mem_shut_out(struct stream *s)
{
    struct mem_end *peer = ((struct mem_end *)s->side)->peer;

    peer->is_ended = true;
    if (peer->stream != NULL)
        stream_event(peer->stream, EPOLLIN | EPOLLRDHUP);
}

static void mem_close(struct stream *s)
{
    struct mem_end *e = s->side;
    struct mem_end *peer = e->peer;

    e->stream = NULL;
    buf_release(&e->in);
    mem_shut_out(s);
    if (peer->stream != NULL) {
        stream_event(peer->stream, EPOLLOUT);
        return;
    }
    buf_done(&e->in);
    buf_done(&peer->in);
    free(e);
    free(peer);
}

static const struct stream_io mem_io = {
    .read = mem_read,
    .writev = mem_writev,
    .arm_in = mem_arm,
    .arm_out = mem_arm,
    .shut_out = mem_shut_out,
    .close = mem_close,
};

static struct mem_end *mem_end_new(struct stream **out)
{
    struct mem_end *e = xcalloc(1, sizeof(*e));

    e->stream = stream_new(&mem_io, -1, -1);
    e->stream->side = e;
    buf_init(&e->in, MEMORY_BYTES);
    *out = e->stream;
    return e;
}

void stream_pair(struct stream **a, struct stream **b)
{
    struct mem_end *x = mem_end_new(a);
    struct mem_end *y = mem_end_new(b);

    x->peer = y;
    y->peer = x;
}
