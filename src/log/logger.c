#include "base/clock.h"
#include "log/counts.h"
#include "log/log.h"
#include "rt/rt.h"

#include <sys/socket.h>

#define N_BATCH    16 /* datagrams a call */
#define N_ROUNDS   8  /* calls a turn, so that others have theirs */
#define DATAGRAM   ((size_t)17 << 10) /* more than a sender's batch */
#define OUT_MAX    ((size_t)4 << 20)  /* lines that wait for a slow output */
#define LINE_MAX_N ((size_t)EVENT_MAX_BYTES * 8)

struct logger {
    struct log_settings settings;
    int events;
    struct fd_watch *watch;
    int out_fd;
    bool is_syslog;
    struct buf out;
    struct buf line;
    struct timer retry;
    uint64_t n_lines, n_lost;
    struct counts *counts;
    int lost_errno;
};

static struct ev_field fields[EVENT_MAX_FIELDS];
static char keys[EVENT_MAX_FIELDS][24];
static char datagrams[N_BATCH][DATAGRAM];

struct logger *logger_new(const struct log_settings *s)
{
    struct logger *l = xcalloc(1, sizeof *l);

    l->settings = *s;
    l->counts = counts_new();
    l->events = -1;
    l->out_fd = -1;
    buf_init(&l->out, OUT_MAX);
    buf_init(&l->line, LINE_MAX_N);
    return l;
}

void logger_free(struct logger **lp)
{
    struct logger *l = *lp;

    if (l == NULL)
        return;
    *lp = NULL;
    fd_watch_free(&l->watch);
    timer_cancel(&l->retry);
    close_fd(&l->events);
    close_fd(&l->out_fd);
    buf_done(&l->out);
    buf_done(&l->line);
    counts_free(&l->counts);
    free(l);
}

void logger_set(struct logger *l, const struct log_settings *s)
{
    l->settings = *s;
}

static void lost(struct logger *l, uint64_t n, int code)
{
    l->n_lost += n;
    l->lost_errno = code;
}

/* The line that owns up to what was lost (invariant 2). */
static void tell_lost(struct logger *l)
{
    char text[128];
    int n = snprintf(text, sizeof text, "lost %" PRIu64 " lines: %s", l->n_lost,
                     strerror(l->lost_errno));
    struct ev_field f =
        ev_tail(slice_of(text, min_size((size_t)n, sizeof text - 1)));
    struct event e = { .level = EV_WARNING,
                       .wall_usec = clock_wall_usec(),
                       .pid = getpid(),
                       .service = SL("log"),
                       .name = SL("lost"),
                       .fields = &f,
                       .n_fields = 1 };

    buf_clear(&l->line);
    log_line(&l->line, &l->settings, &e);
}

static void retry_now(struct timer *t)
{
    logger_flush(CONTAINER_OF(t, struct logger, retry));
}

/* Write from the front of `b`; what did not go out stays. */
static bool write_some(struct logger *l, struct buf *b)
{
    while (b->n > 0) {
        ssize_t n = write(l->out_fd, b->p, b->n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        buf_consume(b, (size_t)n);
    }
    return true;
}

void logger_flush(struct logger *l)
{
    if (l->out_fd < 0 || l->is_syslog || l->out.n == 0)
        return;
    if (write_some(l, &l->out)) {
        if (l->n_lost > 0) {
            tell_lost(l);
            if (write(l->out_fd, l->line.p, l->line.n) == (ssize_t)l->line.n)
                l->n_lost = 0;
        }
        return;
    }
    l->lost_errno = errno;
    timer_set(&l->retry, clock_after(1000), retry_now);
}

static void add_line(struct logger *l, const struct event *e)
{
    size_t at = l->out.n;

    log_line(&l->out, &l->settings, e);
    if (l->out.overflow) { /* the output is full or slow: keep what is there */
        l->out.n = at;
        l->out.overflow = false;
        lost(l, 1, l->lost_errno != 0 ? l->lost_errno : EAGAIN);
    }
}

static void send_line(struct logger *l, const struct event *e)
{
    buf_clear(&l->line);
    log_syslog_line(&l->line, &l->settings, e);
    if (send(l->out_fd, l->line.p, l->line.n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        lost(l, 1, errno);
}

void logger_take(struct logger *l, slice datagram)
{
    struct event e;
    slice one;

    while (event_next(&datagram, &one)) {
        if (!event_decode(one, &e, fields, keys)) {
            lost(l, 1, EBADMSG);
            continue;
        }
        l->n_lines++;
        counts_event(l->counts, &e);
        if (l->is_syslog && l->out_fd >= 0)
            send_line(l, &e);
        else
            add_line(l, &e);
    }
}

/* One call.  The number of datagrams. */
static int receive(struct logger *l)
{
    struct mmsghdr headers[N_BATCH];
    struct iovec parts[N_BATCH];
    int n;

    memset(headers, 0, sizeof headers);
    for (size_t i = 0; i < N_BATCH; i++) {
        parts[i] = (struct iovec){ datagrams[i], DATAGRAM };
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    n = recvmmsg(l->events, headers, N_BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++)
        logger_take(l, slice_of(datagrams[i], headers[i].msg_len));
    return n > 0 ? n : 0;
}

static void on_events(void *arg, int events UNUSED)
{
    struct logger *l = arg;

    for (int i = 0; i < N_ROUNDS; i++)
        if (receive(l) < N_BATCH)
            break;
    logger_flush(l);
}

void logger_events(struct logger *l, int fd)
{
    fd_watch_free(&l->watch);
    close_fd(&l->events);
    l->events = fd;
    l->watch = fd_watch_new(fd, WATCH_READ, on_events, l);
}

void logger_output(struct logger *l, int fd, bool is_syslog)
{
    logger_flush(l);
    close_fd(&l->out_fd);
    l->out_fd = fd;
    l->is_syslog = is_syslog;
    logger_flush(l);
}

void logger_drain(struct logger *l)
{
    if (l->events >= 0)
        while (receive(l) > 0)
            logger_flush(l);
    logger_flush(l);
}

void logger_dump(const struct logger *l, struct buf *out)
{
    buf_printf(out,
               "lines: %" PRIu64 ", waiting bytes: %zu, lost: %" PRIu64 "\n",
               l->n_lines, l->out.n, l->n_lost);
    counts_dump(l->counts, out);
}
