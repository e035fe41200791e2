/*
 * One process holds 100,000 quiet connections and 1,000 busy ones.
 *
 *     bench_idle [quiet [busy [seconds]]]
 *
 * A second process is the peer.  Each quiet connection is greeted, says EHLO,
 * is answered and then says nothing more, as an idle SMTP session; each busy
 * one sends a line and waits for its echo, again and again.  Printed: bytes of
 * memory each quiet connection costs the process (difference of PSS), kernel
 * memory beside it, mappings, descriptors, and what the busy ones get done.
 *
 * Where RLIMIT_NOFILE cannot be raised far enough (root without
 * CAP_SYS_RESOURCE, an ordinary user), the quiet sessions beyond it run over
 * memory: their structs, timers and stacks are the same, their sockets are
 * missing, and both kinds are counted apart.
 */
#include "rt/rt.h"
#include "rt/stream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

enum { PER_ADDRESS = 2000, MAX_QUIET = 1000000 };

/* Between the two processes. */
struct shared {
    volatile unsigned port;
    volatile unsigned n_quiet; /* connections that the peer has greeted */
    volatile unsigned is_busy;
    volatile unsigned is_done;
    volatile uint64_t n_echoes;
};

static struct shared *shared;
static unsigned want_quiet = 100000, want_busy = 1000, seconds = 5;
static unsigned want_memory; /* of the quiet ones, without a socket */

/* ---- what /proc says */

static long proc_number(const char *path, const char *key)
{
    char line[256];
    FILE *f = fopen(path, "re");
    long value = -1;

    if (f == NULL)
        return -1;
    while (fgets(line, sizeof(line), f) != NULL) {
        slice s = slice_str(line);
        slice word;
        uint64_t n;

        if (!slice_starts(s, slice_str(key)))
            continue;
        s = slice_from(s, strlen(key));
        if (slice_token(&s, " \t\n", &word) && slice_u64(word, &n))
            value = (long)n;
        break;
    }
    (void)fclose(f);
    return value;
}

static long pss_kib(void)
{
    return proc_number("/proc/self/smaps_rollup", "Pss:");
}

static long count_mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    long n = 0;
    int c;

    if (f == NULL)
        return -1;
    while ((c = fgetc(f)) != EOF)
        n += c == '\n';
    (void)fclose(f);
    return n;
}

static double cpu_seconds(void)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ---- the server */

struct session {
    struct stream *stream;
    unsigned n_commands;
};

static unsigned n_sessions, n_answered;
static long pss_before, slab_before;
static double cpu_before;
static uint64_t n_commands;

static void session_end(struct session *s)
{
    stream_free(&s->stream);
    free(s);
    n_sessions--;
}

MAY_WAIT static void session_run(void *arg, enum stream_why why)
{
    struct session *s = arg;
    struct err err;
    slice line;

    if (why != STREAM_INPUT) {
        session_end(s);
        return;
    }
    stream_deadline(s->stream, clock_after(300000));
    do {
        if (stream_line(s->stream, 1000, &line, &err) < 0 ||
            stream_write(s->stream, line, &err) < 0) {
            session_end(s);
            return;
        }
        n_commands++;
        if (s->n_commands++ == 0)
            n_answered++;
    } while (stream_has_line(s->stream));
    if (stream_flush(s->stream, &err) < 0) {
        session_end(s);
        return;
    }
    stream_park(s->stream, clock_after(300000), session_run, s);
}

MAY_WAIT static void session_greet(void *arg)
{
    struct session *s = arg;
    struct err err;

    if (stream_puts(s->stream, "220 ready\r\n", &err) < 0 ||
        stream_flush(s->stream, &err) < 0)
        session_end(s);
    else
        stream_park(s->stream, clock_after(300000), session_run, s);
}

static void accepted(int fd, UNUSED const struct peer_addr *peer,
                     UNUSED void *arg)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->stream = stream_from_fd(fd);
    n_sessions++;
    (void)task_spawn("greet", session_greet, s);
}

static void print_quiet(void)
{
    long pss = pss_kib();
    long slab = proc_number("/proc/meminfo", "Slab:");
    double each = (double)(pss - pss_before) * 1024 / n_sessions;

    (void)printf("quiet, over TCP           %u\n", n_sessions);
    (void)printf("process memory (PSS)      %ld KiB, before %ld KiB\n", pss,
                 pss_before);
    (void)printf("bytes each, process       %.0f\n", each);
    (void)printf("bytes each, kernel slab   %.0f (both ends)\n",
                 (double)(slab - slab_before) * 1024 / n_sessions);
    (void)printf("mappings                  %ld of %ld\n", count_mappings(),
                 proc_number("/proc/sys/vm/max_map_count", ""));
    (void)fflush(stdout);
}

/* Two sessions that are each other's peer. */
static void memory_pair(void)
{
    struct session *s[2];

    for (int i = 0; i < 2; i++)
        s[i] = xcalloc(1, sizeof(*s[i]));
    stream_pair(&s[0]->stream, &s[1]->stream);
    for (int i = 0; i < 2; i++)
        stream_park(s[i]->stream, clock_after(300000), session_run, s[i]);
}

static void add_memory(void)
{
    long before = pss_kib();

    for (unsigned i = 0; i + 1 < want_memory; i += 2)
        memory_pair();
    if (want_memory > 0)
        (void)printf("quiet, over memory        %u\n"
                     "bytes each of these       %.0f\n",
                     want_memory,
                     (double)(pss_kib() - before) * 1024 / want_memory);
    (void)fflush(stdout);
}

static void print_busy(void)
{
    double cpu = cpu_seconds() - cpu_before;

    (void)printf("busy connections          %u\n", want_busy);
    (void)printf("echoes a second           %.0f\n",
                 (double)shared->n_echoes / seconds);
    (void)printf("server CPU each           %.2f us\n",
                 cpu * 1e6 / (double)n_commands);
    (void)printf("process memory (PSS)      %ld KiB\n", pss_kib());
    (void)printf("mappings                  %ld\n", count_mappings());
}

static void look(struct timer *t)
{
    if (!shared->is_busy && shared->n_quiet == want_quiet &&
        n_answered == want_quiet) {
        print_quiet();
        add_memory();
        cpu_before = cpu_seconds();
        n_commands = 0;
        shared->is_busy = 1;
    }
    if (shared->is_done) {
        print_busy();
        loop_stop();
        return;
    }
    timer_set(t, clock_after(20), look);
}

static void serve(int fd)
{
    struct timer t = { 0 };
    struct listener *l;
    struct peer_addr addr;
    struct err err;

    loop_init("bench", 1);
    pss_before = pss_kib();
    slab_before = proc_number("/proc/meminfo", "Slab:");
    CHECK(local_addr_of(fd, &addr, &err) == 0);
    l = listener_new(fd, accepted, NULL);
    timer_set(&t, loop_now(), look);
    shared->port = addr.port;
    loop_run();
    listener_free(&l);
}

/* ---- the peer */

static void nap(void)
{
    struct timespec ts = { 0, 1000000 };

    (void)nanosleep(&ts, NULL);
}

MAY_WAIT static int call(unsigned i, struct err *err)
{
    char where[64];
    int fd = -1;

    (void)snprintf(where, sizeof(where), "inet:127.0.0.%u:%u",
                   1 + i / PER_ADDRESS, shared->port);
    if (socket_connect(slice_str(where), clock_after(10000), &fd, err) < 0)
        return -1;
    return fd;
}

NO_RETURN static void peer_fail(const struct err *err)
{
    (void)fprintf(stderr, "peer: %s\n", err->log);
    shared->is_done = 1;
    _exit(1);
}

MAY_WAIT static void be_quiet(UNUSED void *arg)
{
    char text[64];
    struct err err;

    for (unsigned i = 0; i < want_quiet; i++) {
        int fd = call(i, &err);
        ssize_t n = 0;

        if (fd < 0)
            peer_fail(&err);
        /* The greeting and the answer are read, the descriptor is kept. */
        if (fd_wait(fd, WATCH_READ, clock_after(10000), &err) < 0)
            peer_fail(&err);
        n = read(fd, text, sizeof(text));
        if (n <= 0 || write(fd, "EHLO client.example\r\n", 21) != 21 ||
            fd_wait(fd, WATCH_READ, clock_after(10000), &err) < 0 ||
            read(fd, text, sizeof(text)) != 21)
            peer_fail(&err);
        shared->n_quiet = i + 1;
    }
}

static msec busy_until;

MAY_WAIT static void be_busy(UNUSED void *arg)
{
    struct stream *s;
    struct err err;
    slice line;
    int fd = call(100 * PER_ADDRESS, &err);

    if (fd < 0)
        peer_fail(&err);
    s = stream_from_fd(fd);
    stream_deadline(s, clock_after(60000));
    if (stream_line(s, 100, &line, &err) < 0)
        peer_fail(&err);
    while (loop_now() < busy_until) {
        if (stream_puts(s, "NOOP\r\n", &err) < 0 || stream_flush(s, &err) < 0 ||
            stream_line(s, 100, &line, &err) < 0)
            peer_fail(&err);
        shared->n_echoes++;
    }
    stream_free(&s);
}

NO_RETURN static void peer_run(void)
{
    loop_init("bench-peer", 1);
    while (shared->port == 0)
        nap();
    (void)task_spawn("quiet", be_quiet, NULL);
    loop_run_until_idle();
    while (!shared->is_busy)
        nap();
    busy_until = clock_after((msec)seconds * 1000);
    for (unsigned i = 0; i < want_busy; i++)
        (void)task_spawn("busy", be_busy, NULL);
    loop_run_until_idle();
    shared->is_done = 1;
    _exit(0);
}

/* ---- */

static void raise_limit(void)
{
    struct rlimit lim;
    rlim_t need = want_quiet + want_busy + 100;

    CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
    if (lim.rlim_max < need) {
        lim.rlim_max = need;
        lim.rlim_cur = need;
        (void)setrlimit(RLIMIT_NOFILE, &lim);
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
    if (lim.rlim_max >= need)
        return;
    want_memory = want_quiet;
    want_quiet = (unsigned)lim.rlim_max - want_busy - 100;
    want_memory -= want_quiet;
    (void)printf("RLIMIT_NOFILE is %lu and this user cannot raise it\n",
                 (unsigned long)lim.rlim_max);
}

static unsigned argument(int argc, char **argv, int i, unsigned otherwise)
{
    uint64_t n;

    if (argc <= i || !slice_u64(slice_str(argv[i]), &n) || n > MAX_QUIET)
        return otherwise;
    return (unsigned)n;
}

int main(int argc, char **argv)
{
    struct err err;
    int status = 0;
    pid_t peer;
    int fd;

    want_quiet = argument(argc, argv, 1, want_quiet);
    want_busy = argument(argc, argv, 2, want_busy);
    seconds = argument(argc, argv, 3, seconds);
    raise_limit();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    if (socket_listen(SL("inet:0.0.0.0:0"), 4096, 0, 0, &fd, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.log);
        return 1;
    }
    peer = fork();
    CHECK(peer >= 0);
    if (peer == 0)
        peer_run();
    serve(fd);
    CHECK(waitpid(peer, &status, 0) == peer);
    (void)fflush(stdout);
    /* Nothing of the 100,000 needs to be taken down one by one. */
    _exit(status == 0 ? 0 : 1);
}
