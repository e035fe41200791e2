/* Socket addresses, connecting and listening. */
#include "rt/address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { UNIX_RETRY_MS = 10 };

static void from_ipv4(const void *ip, struct peer_addr *out)
{
    out->family = AF_INET;
    memcpy(out->ip, ip, 4);
    (void)inet_ntop(AF_INET, ip, out->text, sizeof(out->text));
}

int address_from_sockaddr(const struct sockaddr_storage *sa, socklen_t len,
                          struct peer_addr *out)
{
    struct peer_addr a = { .uid = (uid_t)-1, .gid = (gid_t)-1 };

    if (len < sizeof(sa->ss_family))
        return -1;
    a.family = sa->ss_family;
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;

        a.port = ntohs(in->sin_port);
        from_ipv4(&in->sin_addr, &a);
    } else if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)sa;

        a.port = ntohs(in->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
            from_ipv4(in->sin6_addr.s6_addr + 12, &a);
        } else {
            memcpy(a.ip, in->sin6_addr.s6_addr, 16);
            (void)inet_ntop(AF_INET6, a.ip, a.text, sizeof(a.text));
        }
    } else if (sa->ss_family != AF_UNIX) {
        return -1;
    }
    *out = a;
    return 0;
}

void address_credentials(int fd, struct peer_addr *out)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return;
    out->uid = cred.uid;
    out->gid = cred.gid;
    out->pid = cred.pid;
}

int peer_addr_of(int fd, struct peer_addr *out, struct err *err)
{
    struct sockaddr_storage sa = { 0 };
    socklen_t len = sizeof(sa);

    if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0)
        return err_sys(err, "getpeername");
    if (address_from_sockaddr(&sa, len, out) < 0)
        return err_perm(err, "unknown address family %d", sa.ss_family);
    if (out->family == AF_UNIX)
        address_credentials(fd, out);
    return 0;
}

int local_addr_of(int fd, struct peer_addr *out, struct err *err)
{
    struct sockaddr_storage sa = { 0 };
    socklen_t len = sizeof(sa);

    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
        return err_sys(err, "getsockname");
    if (address_from_sockaddr(&sa, len, out) < 0)
        return err_perm(err, "unknown address family %d", sa.ss_family);
    return 0;
}

/* ---- parsing */

static int parse_unix(slice path, struct sockaddr_storage *out,
                      socklen_t *len_out, struct err *err)
{
    struct sockaddr_un *un = (void *)out;

    un->sun_family = AF_UNIX;
    if (path.n == 0 || !slice_copy_to(path, un->sun_path, sizeof(un->sun_path)))
        return err_perm(err, "socket path empty or over %zu bytes: %.*s",
                        sizeof(un->sun_path) - 1, SLF(path));
    *len_out = (socklen_t)sizeof(*un);
    return 0;
}

static bool parse_ipv4(slice host, uint16_t port, struct sockaddr_storage *out,
                       socklen_t *len_out)
{
    struct sockaddr_in *in = (void *)out;
    char text[64];

    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    *len_out = sizeof(*in);
    return slice_copy_to(host, text, sizeof(text)) &&
           inet_pton(AF_INET, text, &in->sin_addr) == 1;
}

static bool parse_ipv6(slice host, uint16_t port, struct sockaddr_storage *out,
                       socklen_t *len_out)
{
    struct sockaddr_in6 *in = (void *)out;
    char text[64];

    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    *len_out = sizeof(*in);
    return slice_copy_to(host, text, sizeof(text)) &&
           inet_pton(AF_INET6, text, &in->sin6_addr) == 1;
}

static int parse_inet(slice rest, struct sockaddr_storage *out,
                      socklen_t *len_out, struct err *err)
{
    ssize_t colon = slice_rchr(rest, ':');
    slice host;
    uint64_t port;
    bool ok;

    if (colon < 0 || !slice_u64(slice_from(rest, (size_t)colon + 1), &port) ||
        port > UINT16_MAX)
        return err_perm(err, "no port in address inet:%.*s", SLF(rest));
    host = slice_sub(rest, 0, (size_t)colon);
    if (slice_starts(host, SL("[")) && slice_ends(host, SL("]")))
        ok = parse_ipv6(slice_sub(host, 1, host.n - 2), (uint16_t)port, out,
                        len_out);
    else
        ok = parse_ipv4(host, (uint16_t)port, out, len_out);
    return ok ? 0 : err_perm(err, "not a numeric address: %.*s", SLF(host));
}

int address_parse(slice where, struct sockaddr_storage *out, socklen_t *len_out,
                  struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (slice_starts(where, SL("unix:")))
        return parse_unix(slice_from(where, 5), out, len_out, err);
    if (slice_starts(where, SL("inet:")))
        return parse_inet(slice_from(where, 5), out, len_out, err);
    return err_perm(err, "address must be unix:PATH or inet:HOST:PORT: %.*s",
                    SLF(where));
}

/* ---- connecting */

MAY_WAIT static int connect_finish(int fd, slice where, msec deadline,
                                   struct err *err)
{
    int cause = 0;
    socklen_t len = sizeof(cause);

    if (fd_wait(fd, WATCH_WRITE, deadline, err) < 0)
        return err_prefix(err, "connect to %.*s", SLF(where));
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &cause, &len) < 0)
        cause = errno;
    errno = cause;
    return cause == 0 ? 0 : err_sys(err, "connect to %.*s", SLF(where));
}

/* 0 connected, 1 try again, -1 failed. */
MAY_WAIT static int connect_try(int fd, const struct sockaddr_storage *sa,
                                socklen_t len, slice where, msec deadline,
                                struct err *err)
{
    if (connect(fd, (const struct sockaddr *)sa, len) == 0)
        return 0;
    if (errno == EINPROGRESS)
        return connect_finish(fd, where, deadline, err);
    /* A UNIX listener's queue is full, and nothing tells when it is not. */
    if (errno != EAGAIN && errno != EINTR)
        return err_sys(err, "connect to %.*s", SLF(where));
    if (clock_mono() >= deadline)
        return err_temp(err, "connect to %.*s: timed out", SLF(where));
    return task_sleep(UNIX_RETRY_MS, err) < 0 ? -1 : 1;
}

/* The descriptor, which CLEANUP then leaves alone. */
static int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

int socket_connect_from(slice where, slice from, msec deadline, int *fd_out,
                        struct err *err)
{
    int fd CLEANUP(close_fd) = -1;
    struct sockaddr_storage sa;
    struct sockaddr_storage own;
    socklen_t len = 0;
    socklen_t own_len = 0;
    const int on = 1;
    int rc;

    if (address_parse(where, &sa, &len, err) < 0)
        return -1;
    if (from.n > 0 && address_parse(from, &own, &own_len, err) < 0)
        return -1;
    fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "socket for %.*s", SLF(where));
    if (sa.ss_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (from.n > 0 && bind(fd, (const void *)&own, own_len) < 0)
        return err_sys(err, "bind %.*s", SLF(from));

    do
        rc = connect_try(fd, &sa, len, where, deadline, err);
    while (rc > 0);
    if (rc < 0)
        return -1;
    *fd_out = take_fd(&fd);
    return 0;
}

int socket_connect(slice where, msec deadline, int *fd_out, struct err *err)
{
    return socket_connect_from(where, SLICE_NONE, deadline, fd_out, err);
}

/* ---- listening */

/* A socket file that nobody listens on is what a killed process left. */
static bool is_stale(const struct sockaddr_storage *sa, socklen_t len)
{
    int fd CLEANUP(close_fd) =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)sa, len) < 0 &&
           errno == ECONNREFUSED;
}

static int bind_unix(int fd, const struct sockaddr_storage *sa, socklen_t len,
                     mode_t mode, struct err *err)
{
    const char *path = ((const struct sockaddr_un *)(const void *)sa)->sun_path;
    int rc;

    /* The file is born with the socket's mode, less the umask; never wider
     * than asked. */
    (void)fchmod(fd, mode);
    rc = bind(fd, (const struct sockaddr *)sa, len);
    if (rc < 0 && errno == EADDRINUSE && is_stale(sa, len)) {
        (void)unlink(path);
        rc = bind(fd, (const struct sockaddr *)sa, len);
    }
    if (rc < 0)
        return err_sys(err, "bind to %s", path);
    if (chmod(path, mode) < 0)
        return err_sys(err, "chmod %s", path);
    return 0;
}

static int bind_inet(int fd, const struct sockaddr_storage *sa, socklen_t len,
                     unsigned flags, struct err *err)
{
    const int on = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (sa->ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if ((flags & LISTEN_REUSEPORT) &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        return err_sys(err, "SO_REUSEPORT");
    if (bind(fd, (const struct sockaddr *)sa, len) < 0)
        return err_sys(err, "bind");
    return 0;
}

int socket_listen(slice where, int backlog, unsigned flags, mode_t unix_mode,
                  int *fd_out, struct err *err)
{
    int fd CLEANUP(close_fd) = -1;
    struct sockaddr_storage sa;
    socklen_t len = 0;
    int rc;

    if (address_parse(where, &sa, &len, err) < 0)
        return -1;
    fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "socket for %.*s", SLF(where));
    if (sa.ss_family == AF_UNIX)
        rc = bind_unix(fd, &sa, len, unix_mode, err);
    else
        rc = bind_inet(fd, &sa, len, flags, err);
    if (rc < 0)
        return err_prefix(err, "%.*s", SLF(where));
    if (listen(fd, backlog) < 0)
        return err_sys(err, "listen on %.*s", SLF(where));
    *fd_out = take_fd(&fd);
    return 0;
}
