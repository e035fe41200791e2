/* Readiness of descriptors that are not streams. */
#include "rt/rt_priv.h"

static uint32_t epoll_bits(int events)
{
    return (events & WATCH_READ ? (uint32_t)EPOLLIN | EPOLLRDHUP : 0) |
           (events & WATCH_WRITE ? (uint32_t)EPOLLOUT : 0);
}

/* An error or the end makes both directions ready: the next call shows it. */
static int watch_bits(uint32_t events)
{
    int out = 0;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        out |= WATCH_READ;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        out |= WATCH_WRITE;
    return out;
}

/* ---- a task waits once; this stands on its stack */
struct once {
    struct source source;
    struct task *task;
    bool is_ready;
};

static void once_event(struct source *src, UNUSED uint32_t events)
{
    struct once *o = CONTAINER_OF(src, struct once, source);

    o->is_ready = true;
    task_wake(o->task);
}

int fd_wait(int fd, int events, msec deadline, struct err *err)
{
    struct once o = { .source = { once_event }, .task = task_self() };
    enum wait_end end = WAIT_WOKEN;

    CHECK(o.task != NULL);
    if (source_add(fd, epoll_bits(events) | EPOLLONESHOT, &o.source) < 0) {
        if (errno == EPERM)
            return 0; /* a regular file is always ready */
        return err_sys(err, "watch descriptor %d", fd);
    }
    while (!o.is_ready && end == WAIT_WOKEN)
        end = task_block(WAIT_WAKE, deadline);
    source_del(fd, &o.source);
    return o.is_ready ? 0 : wait_result(end, err);
}

/* ---- callbacks */

struct fd_watch {
    struct source source;
    int fd;
    int events;
    void (*fn)(void *arg, int events);
    void *arg;
};

static void watch_event(struct source *src, uint32_t events)
{
    struct fd_watch *w = CONTAINER_OF(src, struct fd_watch, source);
    int bits = watch_bits(events) & w->events;

    if (bits != 0)
        w->fn(w->arg, bits);
}

struct fd_watch *fd_watch_new(int fd, int events,
                              void (*fn)(void *arg, int events), void *arg)
{
    struct fd_watch *w = xcalloc(1, sizeof(*w));

    w->source.fn = watch_event;
    w->fd = fd;
    w->events = events;
    w->fn = fn;
    w->arg = arg;
    if (source_add(fd, epoll_bits(events), &w->source) < 0)
        panic("cannot watch descriptor %d: %s", fd, strerror(errno));
    return w;
}

void fd_watch_free(struct fd_watch **w)
{
    if (*w == NULL)
        return;
    source_del((*w)->fd, &(*w)->source);
    free(*w);
    *w = NULL;
}
