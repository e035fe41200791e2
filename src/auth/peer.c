#include "auth/auth_priv.h"

#include "ipc/event.h"

/*
 * One connection of Dovecot's authentication protocol (version 1.2), as its
 * server.  Lines are read and written on the loop, without a task; what takes
 * time is a task of its request.  Buffers that held a password are wiped.
 */
#define IN_BYTES      ((size_t)4 * AUTH_LINE_MAX)
#define OUT_MAX_BYTES (1u << 20)
#define PEER_REQUESTS 4096

struct auth_peer {
    struct list link;
    struct auth *auth;
    enum ptype from; /* PT_NONE: the UNIX socket */
    int fd;
    struct fd_watch *readable, *writable;
    struct deferred flush;
    struct buf in, out;
    struct imap requests;
    bool has_version, has_pid, is_closing;
    uint64_t number;
};

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_release(b);
}

void auth_peer_close(struct auth_peer *p)
{
    struct auth *a = p->auth;
    struct imap_node *n;
    size_t pos = 0;

    fd_watch_free(&p->readable);
    fd_watch_free(&p->writable);
    deferred_cancel(&p->flush);
    close_fd(&p->fd);
    while ((n = imap_next(&p->requests, &pos, NULL)) != NULL) {
        struct auth_request *r = CONTAINER_OF(n, struct auth_request, node);

        imap_del(&p->requests, n);
        auth_request_orphan(r);
        pos = 0;
    }
    imap_done(&p->requests);
    wipe(&p->in);
    wipe(&p->out);
    list_remove(&p->link);
    a->n_peers--;
    free(p);
    auth_tell_idle(a);
}

struct imap *auth_peer_requests(struct auth_peer *p)
{
    return &p->requests;
}

bool auth_peer_gives_tickets(const struct auth_peer *p)
{
    return p->from == PT_LOGIN;
}

/* ---- output */

static void on_writable(void *arg, int events);

/* False: the peer is gone. */
static bool flush(struct auth_peer *p)
{
    while (p->out.n > 0) {
        ssize_t n = write(p->fd, p->out.p, p->out.n);

        if (n > 0) {
            explicit_bzero(p->out.p, (size_t)n);
            buf_consume(&p->out, (size_t)n);
        } else if (errno == EAGAIN) {
            if (p->writable == NULL)
                p->writable = fd_watch_new(p->fd, WATCH_WRITE, on_writable, p);
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
    fd_watch_free(&p->writable);
    return true;
}

static void on_writable(void *arg, int events UNUSED)
{
    struct auth_peer *p = arg;

    if (!flush(p))
        auth_peer_close(p);
}

static void flush_now(struct deferred *d)
{
    struct auth_peer *p = CONTAINER_OF(d, struct auth_peer, flush);

    if (p->is_closing || !flush(p))
        auth_peer_close(p);
}

void auth_peer_say(struct auth_peer *p, struct buf *text)
{
    if (text->overflow || !buf_slice(&p->out, buf_view(text)))
        p->is_closing = true; /* it does not read: the end */
    deferred_set(&p->flush, flush_now);
    wipe(text);
    buf_done(text);
}

static void greet(struct auth_peer *p)
{
    uint8_t cookie[16];
    struct buf b;

    random_bytes(cookie, sizeof cookie);
    buf_init(&b, 4096);
    (void)buf_puts(&b, "VERSION\t1\t2\n");
    sasl_mechs(p->auth->config->mechs, &b);
    (void)buf_printf(&b, "SPID\t%d\nCUID\t%" PRIu64 "\nCOOKIE\t", (int)getpid(),
                     p->number);
    (void)hex_put(&b, slice_of(cookie, sizeof cookie));
    (void)buf_puts(&b, "\nDONE\n");
    auth_peer_say(p, &b);
}

/* ---- input */

static bool on_version(struct auth_peer *p, slice rest)
{
    slice major;

    p->has_version = auth_field(&rest, &major) && slice_eqs(major, "1");
    return p->has_version;
}

static bool on_cpid(struct auth_peer *p, slice rest UNUSED)
{
    p->has_pid = true;
    return true;
}

static bool on_auth(struct auth_peer *p, slice rest)
{
    return p->has_version && p->has_pid && p->requests.n < PEER_REQUESTS &&
           auth_request_begin(p, p->auth, rest);
}

static const struct {
    const char *name;
    bool (*fn)(struct auth_peer *p, slice rest);
} lines[] = {
    { "AUTH", on_auth },
    { "CONT", auth_request_continue },
    { "CANCEL", auth_request_cancel },
    { "VERSION", on_version },
    { "CPID", on_cpid },
};

static bool on_line(struct auth_peer *p, slice line)
{
    slice rest = line;
    slice word;

    if (!auth_field(&rest, &word))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (slice_eqs(word, lines[i].name))
            return lines[i].fn(p, rest);
    return true; /* what a newer version says */
}

/* False: not this protocol. */
static bool take_lines(struct auth_peer *p)
{
    slice rest = buf_view(&p->in);
    size_t used = 0;
    bool ok = true;
    slice line;

    while (ok && slice_cut(&rest, '\n', &line)) {
        used += line.n + 1;
        ok = line.n < AUTH_LINE_MAX && on_line(p, line);
    }
    if (used > 0) {
        explicit_bzero(p->in.p, used);
        buf_consume(&p->in, used);
    }
    if (p->in.n == 0)
        wipe(&p->in);
    return ok && p->in.n < AUTH_LINE_MAX;
}

static void on_readable(void *arg, int events UNUSED)
{
    struct auth_peer *p = arg;
    char *room = buf_reserve(&p->in, AUTH_LINE_MAX);
    ssize_t n = read(p->fd, room, AUTH_LINE_MAX);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        buf_commit(&p->in, (size_t)n);
        if (take_lines(p))
            return;
        log_warning("auth: a client (%s) does not speak the protocol",
                    p->from == PT_NONE ? "unix" : ptype_name(p->from));
    }
    auth_peer_close(p);
}

void auth_peer_new(struct auth *a, enum ptype from, int fd)
{
    struct auth_peer *p;

    if (a->n_peers >= AUTH_PEERS_MAX) {
        log_warning("auth: more than %d connections", AUTH_PEERS_MAX);
        close(fd);
        return;
    }
    p = xcalloc(1, sizeof *p);
    p->auth = a;
    p->from = from;
    p->fd = fd;
    p->number = ++a->n_connections;
    buf_init(&p->in, IN_BYTES);
    buf_init(&p->out, OUT_MAX_BYTES);
    imap_init(&p->requests);
    list_init(&p->link);
    list_push(&a->peers, &p->link);
    a->n_peers++;
    p->readable = fd_watch_new(fd, WATCH_READ, on_readable, p);
    greet(p);
}
