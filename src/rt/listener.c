/* Listeners: accept what comes and hand it over. */
#include "rt/rt_priv.h"

#include "rt/address.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum {
    PER_EVENT = 32,    /* then the others have their turn */
    SHORTAGE_MS = 100, /* how long a lack of descriptors pauses us */
};

struct listener {
    struct source source;
    int fd;
    bool is_paused; /* by the caller */
    bool is_short;  /* for lack of descriptors, until the timer */
    bool is_watched;
    bool is_accepting; /* inside fn: free later */
    bool is_freed;
    int burst;          /* how many to accept at this event */
    uint64_t last_turn; /* of the loop in which there was something */
    struct timer retry;
    void (*fn)(int fd, const struct peer_addr *peer, void *arg);
    void *arg;
};

static void update(struct listener *l)
{
    bool want = !l->is_paused && !l->is_short && !l->is_freed;

    if (want == l->is_watched)
        return;
    if (!want)
        source_del(l->fd, &l->source);
    else if (source_add(l->fd, EPOLLIN, &l->source) < 0)
        panic("cannot watch listener %d: %s", l->fd, strerror(errno));
    l->is_watched = want;
}

static void shortage_over(struct timer *t)
{
    struct listener *l = CONTAINER_OF(t, struct listener, retry);

    l->is_short = false;
    update(l);
}

static bool is_shortage(int e)
{
    return e == EMFILE || e == ENFILE || e == ENOBUFS || e == ENOMEM;
}

/* False when there is nothing more to accept now. */
static bool accept_one(struct listener *l)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    struct peer_addr peer;
    int fd = accept4(l->fd, (struct sockaddr *)&sa, &len,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0 && is_shortage(errno)) {
        l->is_short = true;
        timer_set(&l->retry, clock_after(SHORTAGE_MS), shortage_over);
        update(l);
        return false;
    }
    if (fd < 0) /* what else is wrong concerns one connection that is gone */
        return errno != EAGAIN && errno != EINVAL && errno != EBADF;
    if (address_from_sockaddr(&sa, len, &peer) < 0) {
        (void)close(fd);
        return true;
    }
    if (peer.family == AF_UNIX)
        address_credentials(fd, &peer);
    l->fn(fd, &peer, l->arg);
    return true;
}

static void listener_event(struct source *src, UNUSED uint32_t events)
{
    struct listener *l = CONTAINER_OF(src, struct listener, source);

    /* Most often one came, and asking for a second costs more than to be told
     * of it in the next turn: ask for more only while that happens. */
    if (l->last_turn + 1 == rt_loop.n_turns)
        l->burst = l->burst < PER_EVENT ? l->burst * 2 : PER_EVENT;
    else
        l->burst = 1;
    l->last_turn = rt_loop.n_turns;
    l->is_accepting = true;
    for (int i = 0; i < l->burst && !l->is_paused && !l->is_freed; i++)
        if (!accept_one(l))
            break;
    l->is_accepting = false;
    if (l->is_freed)
        free(l);
}

struct listener *listener_new(int fd,
                              void (*fn)(int fd, const struct peer_addr *peer,
                                         void *arg),
                              void *arg)
{
    struct listener *l = xcalloc(1, sizeof(*l));
    int flags = fcntl(fd, F_GETFL);
    const int on = 1;

    /* What is accepted inherits it; a UNIX socket has no such option. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    l->source.fn = listener_event;
    l->fd = fd;
    l->burst = 1;
    l->fn = fn;
    l->arg = arg;
    update(l);
    return l;
}

void listener_pause(struct listener *l)
{
    l->is_paused = true;
    update(l);
}

void listener_resume(struct listener *l)
{
    l->is_paused = false;
    update(l);
}

void listener_free(struct listener **lp)
{
    struct listener *l = *lp;

    *lp = NULL;
    if (l == NULL)
        return;
    l->is_freed = true;
    timer_cancel(&l->retry);
    update(l);
    if (!l->is_accepting)
        free(l);
}
