/* Descriptors over UNIX sockets. */
#include "rt/proc.h"

#include "rt/rt_priv.h"

#include <sys/socket.h>

union fd_control {
    char space[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    struct cmsghdr align;
};

ssize_t fd_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
    union fd_control control;
    struct iovec v = { unconst(p), n };
    struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
    ssize_t sent;

    CHECK(n_fds <= FD_PASS_MAX);
    if (n_fds > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        c = CMSG_FIRSTHDR(&msg);
        CHECK(c != NULL);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    do
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* Take the descriptors of one message; what the caller has no place for is
 * closed. */
static void take(const struct cmsghdr *c, int *fds, size_t max, size_t *n_fds)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
        if (*n_fds < max)
            fds[(*n_fds)++] = fd;
        else
            (void)close(fd);
    }
}

ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t *n_fds_inout)
{
    union fd_control control;
    struct iovec v = { p, n };
    struct msghdr msg = { .msg_iov = &v,
                          .msg_iovlen = 1,
                          .msg_control = control.space,
                          .msg_controllen = sizeof(control.space) };
    size_t max = *n_fds_inout;
    size_t n_fds = 0;
    ssize_t got;

    do
        got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL;
         c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            take(c, fds, max, &n_fds);
    if (msg.msg_flags & MSG_CTRUNC) {
        /* The table of descriptors is full, or more came than may: the
         * message is not what was sent. */
        while (n_fds > 0)
            (void)close(fds[--n_fds]);
        errno = EMFILE;
        return -1;
    }
    *n_fds_inout = n_fds;
    return got;
}
