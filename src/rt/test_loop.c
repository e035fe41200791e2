#include "rt/test_util_rt.h"

#include "rt/stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- timers */

struct ticker {
    struct timer timer;
    int id;
};

static int order[8];
static size_t n_order;

static void tick(struct timer *t)
{
    order[n_order++] = CONTAINER_OF(t, struct ticker, timer)->id;
}

static void again(struct timer *t)
{
    tick(t);
    if (n_order < 5)
        timer_set(t, loop_now() + 1, again);
}

static void test_timers(void **state)
{
    struct ticker a = { .id = 1 }, b = { .id = 2 }, c = { .id = 3 };
    msec now = clock_mono();

    (void)state;
    n_order = 0;
    assert_false(timer_is_set(&a.timer));
    timer_cancel(&a.timer);
    timer_set(&a.timer, now + 30, tick);
    timer_set(&b.timer, now + 10, tick);
    timer_set(&c.timer, now + 20, tick);
    timer_set(&a.timer, now + 5, tick);  /* earlier */
    timer_set(&b.timer, now + 25, tick); /* later */
    assert_true(timer_is_set(&a.timer));
    loop_run_until_idle();
    assert_true(clock_mono() >= now + 25);
    assert_int_equal(n_order, 3);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 3);
    assert_int_equal(order[2], 2);
    assert_false(timer_is_set(&a.timer));

    timer_set(&a.timer, now, again);
    timer_set(&b.timer, now, tick);
    timer_cancel(&b.timer);
    loop_run_until_idle();
    assert_int_equal(n_order, 5);
}

/* ---- deferred calls */

static char seen[16];

static void note(char c)
{
    size_t n = strlen(seen);

    assert_true(n + 1 < sizeof(seen));
    seen[n] = c;
}

static void batch(struct deferred *d)
{
    note('d');
    if (strlen(seen) < 6)
        deferred_set(d, batch);
}

static struct deferred flush_soon;

static void work(UNUSED void *arg)
{
    note('t');
    deferred_set(&flush_soon, batch);
}

static void test_deferred(void **state)
{
    struct deferred never = { 0 };

    (void)state;
    memset(seen, 0, sizeof(seen));
    (void)task_spawn("a", work, NULL);
    (void)task_spawn("b", work, NULL);
    deferred_set(&never, batch);
    deferred_cancel(&never);
    deferred_cancel(&never);
    loop_run_until_idle();
    /* One call for both, after both. */
    assert_string_equal(seen, "ttdddd");
}

/* ---- signals */

static int signals;

static void on_signal(int signo, void *arg)
{
    assert_int_equal(signo, SIGUSR1);
    assert_ptr_equal(arg, &signals);
    signals++;
    loop_stop();
}

static void test_signal(void **state)
{
    (void)state;
    signals = 0;
    signal_on(SIGUSR1, on_signal, &signals);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    loop_run();
    assert_int_equal(signals, 1);
}

/* ---- offload */

struct job {
    int n;
    int done;
};

static int slow_job(void *arg)
{
    struct job *j = arg;

    assert_false(task_inside());
    nap_ms(20);
    errno = ENOTTY;
    return j->n * 2;
}

static void use_offload(void *arg)
{
    struct job *j = arg;

    errno = 0;
    assert_int_equal(offload(slow_job, j), j->n * 2);
    assert_int_equal(errno, ENOTTY);
    j->done++;
}

static void cancel_it(void *task)
{
    task_yield(); /* it is in the pool by now */
    task_cancel(task);
}

static void test_offload(void **state)
{
    struct job jobs[10] = { 0 };
    msec before = clock_mono();

    (void)state;
    for (int i = 0; i < 10; i++) {
        struct task *t;

        jobs[i].n = i;
        t = task_spawn("job", use_offload, &jobs[i]);
        if (i == 3)
            (void)task_spawn("cancel", cancel_it, t);
    }
    loop_run_until_idle();
    for (int i = 0; i < 10; i++)
        assert_int_equal(jobs[i].done, 1);
    assert_true(clock_mono() - before >= 40);
}

static int twice(void *arg)
{
    return ((struct job *)arg)->n * 2;
}

static void job_done(void *arg, int result)
{
    ((struct job *)arg)->done = result;
}

static void test_offload_bg(void **state)
{
    struct job j = { .n = 21 };

    (void)state;
    offload_bg(twice, job_done, &j);
    offload_bg(twice, NULL, &j);
    assert_int_equal(offload(twice, &j), 42); /* outside a task */
    loop_run_until_idle();
    assert_int_equal(j.done, 42);
}

/* ---- descriptors */

static void wait_for_fd(UNUSED void *arg)
{
    struct err err;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(fd_wait(fds[0], WATCH_READ, clock_after(10), &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(fd_wait(fds[1], WATCH_WRITE, clock_after(1000), &err), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(fd_wait(fds[0], WATCH_READ, clock_after(1000), &err), 0);
    assert_int_equal(close(fds[1]), 0);
    assert_int_equal(fd_wait(fds[0], WATCH_READ, clock_after(1000), &err), 0);
    assert_int_equal(fd_wait(9999, WATCH_READ, clock_after(1000), &err), -1);
    assert_int_equal(close(fds[0]), 0);
}

static void test_fd_wait(void **state)
{
    (void)state;
    in_task(wait_for_fd, NULL);
}

struct watched {
    struct fd_watch *w[2];
    int fds[2];
    int n;
};

/* Whichever comes first frees both: the other's event of the same batch must
 * not arrive. */
static void free_both(void *arg, int events)
{
    struct watched *x = arg;

    assert_true(events & WATCH_READ);
    x->n++;
    fd_watch_free(&x->w[0]);
    fd_watch_free(&x->w[1]);
    loop_stop();
}

static void test_watch(void **state)
{
    struct watched x = { 0 };
    int other[2];

    (void)state;
    assert_int_equal(pipe2(x.fds, O_CLOEXEC), 0);
    assert_int_equal(pipe2(other, O_CLOEXEC), 0);
    x.w[0] = fd_watch_new(x.fds[0], WATCH_READ, free_both, &x);
    x.w[1] = fd_watch_new(other[0], WATCH_READ, free_both, &x);
    assert_int_equal(write(x.fds[1], "x", 1), 1);
    assert_int_equal(write(other[1], "x", 1), 1);
    loop_run();
    assert_int_equal(x.n, 1);
    assert_null(x.w[0]);
    fd_watch_free(&x.w[0]);
    for (int i = 0; i < 2; i++) {
        (void)close(x.fds[i]);
        (void)close(other[i]);
    }
}

/* ---- listeners */

struct server {
    struct listener *l;
    struct peer_addr peer;
    int n;
};

static void accepted(int fd, const struct peer_addr *peer, void *arg)
{
    struct server *s = arg;
    int at_once = 0;
    socklen_t n = sizeof(at_once);

    s->peer = *peer;
    s->n++;
    if (peer->family == AF_INET || peer->family == AF_INET6) {
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, &n),
                         0);
        assert_true(at_once);
    }
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(write(fd, "hi\n", 3), 3);
    assert_int_equal(close(fd), 0);
}

static void call(const char *where, struct server *s)
{
    struct err err;
    struct stream *c;
    struct peer_addr remote;
    slice line;
    int fd;
    int before = s->n;

    if (socket_connect(slice_str(where), clock_after(2000), &fd, &err) < 0)
        fail_msg("%s", err.log);
    assert_int_equal(peer_addr_of(fd, &remote, &err), 0);
    c = stream_from_fd(fd);
    stream_deadline(c, clock_after(2000));
    assert_int_equal(stream_line(c, 10, &line, &err), 0);
    assert_slice(line, SL("hi\n"));
    assert_int_equal(s->n, before + 1);
    stream_free(&c);
}

static int listen_at(const char *where)
{
    struct err err;
    int fd;

    if (socket_listen(slice_str(where), 16, 0, 0600, &fd, &err) < 0)
        return -1;
    return fd;
}

static void test_inet(int fd, const char *host, int family, const char *text)
{
    struct server s = { 0 };
    struct peer_addr local;
    struct err err;
    char where[64];

    assert_int_equal(local_addr_of(fd, &local, &err), 0);
    assert_true(local.port > 0);
    s.l = listener_new(fd, accepted, &s);
    (void)snprintf(where, sizeof(where), "inet:%s:%u", host, local.port);
    call(where, &s);
    assert_int_equal(s.peer.family, family);
    assert_string_equal(s.peer.text, text);
    assert_true(s.peer.port > 0);
    assert_int_equal(s.peer.uid, (uid_t)-1);
    listener_free(&s.l);
    assert_int_equal(close(fd), 0);
}

/* Open to both, so that IPv4 comes mapped. */
static int listen_mapped(void)
{
    struct sockaddr_in6 sa = { .sin6_family = AF_INET6 };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    assert_int_equal(bind(fd, (void *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void test_unix(void)
{
    char path[64], where[80];
    struct server s = { 0 };
    struct stat st;
    int fd;

    (void)snprintf(path, sizeof(path), "/tmp/hato-test-%d.sock", (int)getpid());
    (void)snprintf(where, sizeof(where), "unix:%s", path);
    (void)unlink(path);
    fd = listen_at(where);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* Somebody listens there; when nobody does, it is taken over. */
    assert_int_equal(listen_at(where), -1);
    assert_int_equal(close(fd), 0);
    fd = listen_at(where);
    assert_true(fd >= 0);
    s.l = listener_new(fd, accepted, &s);
    call(where, &s);
    assert_int_equal(s.peer.family, AF_UNIX);
    assert_int_equal(s.peer.uid, getuid());
    assert_int_equal(s.peer.pid, getpid());
    listener_free(&s.l);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
}

static void listeners(UNUSED void *arg)
{
    int fd;

    test_inet(listen_at("inet:127.0.0.1:0"), "127.0.0.1", AF_INET, "127.0.0.1");
    fd = listen_at("inet:[::1]:0");
    if (fd >= 0)
        test_inet(fd, "[::1]", AF_INET6, "::1");
    fd = listen_mapped();
    if (fd >= 0)
        test_inet(fd, "127.0.0.1", AF_INET, "127.0.0.1");
    test_unix();
}

static void test_listeners(void **state)
{
    (void)state;
    in_task(listeners, NULL);
}

/* More than sun_path holds. */
#define TEN       "0123456789"
#define LONG_PATH "unix:/" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void bad_addresses(UNUSED void *arg)
{
    static const char *const bad[] = { "127.0.0.1:25",
                                       "inet:localhost:25",
                                       "inet:127.0.0.1",
                                       "inet:127.0.0.1:65536",
                                       "inet:127.0.0.1:x",
                                       "inet:[::1:25",
                                       "inet:127.0.0.1:",
                                       "unix:",
                                       "",
                                       "inet:1.2.3.4.5.6:1",
                                       LONG_PATH };
    struct err err;
    int fd = -7;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(socket_connect(slice_str(bad[i]), 0, &fd, &err), -1);
        assert_int_equal(err.class, ERR_PERM);
    }
    assert_int_equal(socket_connect(SL("inet:127.0.0.1:1"), clock_after(1000),
                                    &fd, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(err.sys, ECONNREFUSED);
    assert_int_equal(fd, -7);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    in_task(bad_addresses, NULL);
}

/* No descriptors: the listener rests and comes back. */
static void shortage(UNUSED void *arg)
{
    struct server s = { 0 };
    struct rlimit old, low;
    struct err err;
    int fd = listen_at("inet:127.0.0.1:0");
    struct peer_addr local;
    char where[64];
    int c;

    assert_int_equal(local_addr_of(fd, &local, &err), 0);
    (void)snprintf(where, sizeof(where), "inet:127.0.0.1:%u", local.port);
    s.l = listener_new(fd, accepted, &s);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    c = dup(fd); /* the lowest free one, which the client's socket takes */
    (void)close(c);
    low = old;
    low.rlim_cur = (rlim_t)c + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(
        socket_connect(slice_str(where), clock_after(1000), &c, &err), 0);
    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(task_sleep(150, &err), 0);
    assert_int_equal(s.n, 1);
    (void)close(c);

    listener_pause(s.l);
    assert_int_equal(
        socket_connect(slice_str(where), clock_after(1000), &c, &err), 0);
    assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(s.n, 1);
    listener_resume(s.l);
    assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(s.n, 2);
    (void)close(c);
    listener_free(&s.l);
    (void)close(fd);
}

static void test_shortage(void **state)
{
    (void)state;
    if (on_valgrind())
        skip(); /* it makes up limits of its own */
    in_task(shortage, NULL);
}

/* ---- stalls */

static char stalled[32];

static void on_stall(const char *name, msec took)
{
    assert_true(took > 50);
    (void)snprintf(stalled, sizeof(stalled), "%s", name);
}

static void stall(UNUSED void *arg)
{
    msec until = clock_mono() + 80;

    while (clock_mono() < until)
        continue;
}

static void test_stall(void **state)
{
    (void)state;
    loop_on_stall = on_stall;
    (void)task_spawn("hog", stall, NULL);
    loop_run_until_idle();
    loop_on_stall = NULL;
    assert_string_equal(stalled, "hog");
}

/* ---- a fork that goes on with a loop of its own */

static void child_work(void *arg)
{
    struct stream *a, *b;
    struct err err;
    slice line;

    stream_pair(&a, &b);
    if (stream_puts(a, "x\n", &err) == 0 && stream_flush(a, &err) == 0 &&
        stream_line(b, 10, &line, &err) == 0 && offload(twice, arg) == 8)
        ((struct job *)arg)->done = 1;
    stream_free(&a);
    stream_free(&b);
}

static void child_main(void)
{
    struct job j = { .n = 4 };

    loop_init("child", 1);
    assert_int_equal(task_count(), 0);
    (void)task_spawn("child", child_work, &j);
    loop_run_until_idle();
    loop_done();
    _exit(j.done == 1 ? 0 : 1);
}

static void forking(void *arg)
{
    struct stream *s = arg;
    struct err err;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        child_main();
    /* Ours goes on untouched, with its registrations. */
    assert_int_equal(task_sleep(10, &err), 0);
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_int_equal(status, 0);
    stream_deadline(s, clock_after(1000));
    assert_int_equal(stream_fill(s, &err), 0);
    assert_true(stream_eof(s));
}

static void never(UNUSED void *arg, UNUSED enum stream_why why)
{
}

static void test_fork(void **state)
{
    struct stream *s, *other;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds),
                     0);
    s = stream_from_fd(fds[0]);
    other = stream_from_fd(fds[1]);
    stream_park(s, MSEC_NEVER, never, NULL);
    stream_kick(s);
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    in_task(forking, s);
    stream_free(&s);
    stream_free(&other);
}

/* ---- a test clock */

enum { HOUR_MS = 3600000 };

static void by_clock_file(void *path)
{
    struct ticker t = { .id = 1 };
    int64_t *ahead;
    int fd;
    pid_t pid;
    msec began;

    assert_int_equal(setenv("HATO_TEST_CLOCK", path, 1), 0);
    fd = open(path, O_RDWR);
    ahead = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ahead == MAP_FAILED)
        _exit(3);
    loop_init("clock", 1);
    if (!clock_is_test())
        _exit(4);
    began = clock_mono();
    timer_set(&t.timer, clock_after(HOUR_MS), tick);
    pid = fork();
    if (pid == 0) {
        nap_ms(30);
        *ahead = HOUR_MS;
        _exit(0);
    }
    n_order = 0;
    loop_run_until_idle();
    if (n_order != 1 || clock_mono() - began < HOUR_MS)
        _exit(5);
    _exit(0);
}

static void test_clock(void **state)
{
    char path[] = "/tmp/hato-clock-XXXXXX";
    int fd = mkstemp(path);
    int status;
    pid_t pid;

    (void)state;
    assert_int_equal(ftruncate(fd, 8), 0);
    pid = fork();
    if (pid == 0)
        by_clock_file(path);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(status, 0);
}

/* ---- the panic dump names the task */

static void fall(UNUSED void *arg)
{
    panic("on purpose");
}

static void fall_in_task(void *arg)
{
    int *fds = arg;

    (void)dup2(fds[1], STDERR_FILENO);
    loop_init("falling", 1);
    (void)task_spawn("falls", fall, NULL);
    loop_run_until_idle();
}

static void test_panic(void **state)
{
    static char text[4096];
    int fds[2];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_true(dies(fall_in_task, fds));
    n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "on purpose"));
    assert_non_null(strstr(text, "in task falls"));
    assert_non_null(strstr(text, "task falls running"));
    (void)close(fds[0]);
    (void)close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_timers),        LOOP_TEST(test_deferred),
        LOOP_TEST(test_signal),        LOOP_TEST(test_offload),
        LOOP_TEST(test_offload_bg),    LOOP_TEST(test_fd_wait),
        LOOP_TEST(test_watch),         LOOP_TEST(test_listeners),
        LOOP_TEST(test_bad_addresses), LOOP_TEST(test_shortage),
        LOOP_TEST(test_stall),         LOOP_TEST(test_fork),
        cmocka_unit_test(test_clock),  cmocka_unit_test(test_panic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
