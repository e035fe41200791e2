#include "rt/stream.h"

#include "rt/test_util_rt.h"

#include <fcntl.h>
#include <sys/socket.h>

struct two {
    struct stream *a, *b;
    int flag;
};

static void pair_of(bool in_memory, struct two *t)
{
    int fds[2];

    memset(t, 0, sizeof(*t));
    if (in_memory) {
        stream_pair(&t->a, &t->b);
        return;
    }
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    t->a = stream_from_fd(fds[0]);
    t->b = stream_from_fd(fds[1]);
}

static void both_ways(task_fn *x, task_fn *y)
{
    for (int mem = 0; mem <= 1; mem++) {
        struct two t;

        pair_of(mem, &t);
        (void)task_spawn("x", x, &t);
        if (y != NULL)
            (void)task_spawn("y", y, &t);
        loop_run_until_idle();
        stream_free(&t.a);
        stream_free(&t.b);
    }
}

/* ---- lines */

static void lines_client(void *arg)
{
    struct two *t = arg;
    struct err err;

    assert_int_equal(stream_puts(t->a, "one\r\ntw", &err), 0);
    assert_int_equal(stream_unsent(t->a), 7);
    assert_int_equal(stream_flush(t->a, &err), 0);
    assert_int_equal(stream_unsent(t->a), 0);
    assert_int_equal(task_sleep(5, &err), 0);
    assert_int_equal(stream_printf(t->a, &err, "o %d\n\nfour", 2), 0);
    assert_int_equal(stream_shutdown(t->a, &err), 0);
}

static void lines_server(void *arg)
{
    struct two *t = arg;
    struct err err;
    slice line;

    assert_false(stream_has_line(t->b));
    assert_int_equal(stream_line(t->b, 100, &line, &err), 0);
    assert_slice(line, SL("one\r\n"));
    assert_false(stream_has_line(t->b));
    assert_int_equal(stream_line(t->b, 100, &line, &err), 0);
    assert_slice(line, SL("two 2\n"));
    assert_true(stream_has_line(t->b));
    assert_int_equal(stream_line(t->b, 100, &line, &err), 0);
    assert_slice(line, SL("\n"));
    assert_int_equal(stream_line(t->b, 100, &line, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    assert_true(stream_eof(t->b));
    assert_slice(stream_peek(t->b), SL("four"));
}

static void test_lines(void **state)
{
    (void)state;
    both_ways(lines_client, lines_server);
}

static void long_line(void *arg)
{
    struct two *t = arg;
    struct err err;
    slice line;

    assert_int_equal(stream_puts(t->a, "0123456789\nab\n", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    assert_int_equal(stream_line(t->b, 10, &line, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_int_equal(stream_peek(t->b).n, 14); /* nothing consumed */
    assert_int_equal(stream_line(t->b, 11, &line, &err), 0);
    stream_consume(t->b, 1);
    assert_slice(stream_peek(t->b), SL("b\n"));
    stream_deadline(t->b, clock_after(10));
    assert_int_equal(stream_line(t->b, 11, &line, &err), 0);
    assert_int_equal(stream_line(t->b, 11, &line, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
}

static void test_long_line(void **state)
{
    (void)state;
    both_ways(long_line, NULL);
}

/* A line that fills the buffer without an end. */
static void endless(void *arg)
{
    struct two *t = arg;
    struct err err;
    slice line;
    char x[1000];

    memset(x, 'x', sizeof(x));
    stream_limits(t->b, 6000, 32768);
    for (int i = 0; i < 20; i++)
        assert_int_equal(stream_write(t->a, slice_of(x, sizeof(x)), &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    assert_int_equal(stream_line(t->b, 1 << 20, &line, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_int_equal(stream_peek(t->b).n, 6000);
}

static void test_endless_line(void **state)
{
    (void)state;
    both_ways(endless, NULL);
}

/* ---- bulk: more than every buffer, both directions at once */

enum { BULK = 3 << 20 };

static char bulk_byte(size_t i)
{
    return (char)(i * 7 + i / 251);
}

static void bulk_write(struct stream *s)
{
    struct err err;
    char part[1277];
    size_t at = 0;

    while (at < BULK) {
        size_t n = min_size(sizeof(part), BULK - at);

        for (size_t i = 0; i < n; i++)
            part[i] = bulk_byte(at + i);
        assert_int_equal(stream_write(s, slice_of(part, n), &err), 0);
        at += n;
    }
    assert_int_equal(stream_shutdown(s, &err), 0);
}

static void bulk_read(struct stream *s)
{
    struct err err;
    size_t at = 0;

    for (;;) {
        slice got = stream_peek(s);

        for (size_t i = 0; i < got.n; i++)
            if (got.p[i] != bulk_byte(at + i))
                fail_msg("byte %zu differs", at + i);
        at += got.n;
        stream_consume(s, got.n);
        if (stream_eof(s))
            break;
        assert_int_equal(stream_fill(s, &err), 0);
    }
    assert_int_equal(at, BULK);
}

static void bulk_a(void *arg)
{
    bulk_write(((struct two *)arg)->a);
}

static void bulk_b(void *arg)
{
    struct two *t = arg;

    bulk_read(t->b);
    bulk_write(t->b);
}

static void bulk_c(void *arg)
{
    bulk_read(((struct two *)arg)->a);
}

static void bulk_all(void *arg)
{
    (void)task_spawn("c", bulk_c, arg);
    bulk_a(arg);
}

static void test_bulk(void **state)
{
    (void)state;
    both_ways(bulk_all, bulk_b);
}

static void read_exact(void *arg)
{
    struct two *t = arg;
    struct err err;
    char *big = xmalloc(100000);

    assert_int_equal(stream_read_exact(t->b, big, 100000, &err), 0);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(big[i], bulk_byte(i));
    assert_int_equal(stream_read_exact(t->b, big, 1, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    free(big);
}

static void write_exact(void *arg)
{
    struct two *t = arg;
    struct err err;
    char *big = xmalloc(100000);

    for (size_t i = 0; i < 100000; i++)
        big[i] = bulk_byte(i);
    /* More than the output's limit goes out without being copied. */
    assert_int_equal(stream_puts(t->a, "", &err), 0);
    assert_int_equal(stream_write(t->a, slice_of(big, 10), &err), 0);
    assert_int_equal(stream_write(t->a, slice_of(big + 10, 99990), &err), 0);
    assert_int_equal(stream_unsent(t->a), 0);
    assert_int_equal(stream_shutdown(t->a, &err), 0);
    free(big);
}

static void test_read_exact(void **state)
{
    (void)state;
    both_ways(read_exact, write_exact);
}

static void print_long(void *arg)
{
    struct two *t = arg;
    struct err err;
    char x[1500];
    slice line;

    memset(x, 'y', sizeof(x));
    x[sizeof(x) - 1] = '\0';
    assert_int_equal(stream_printf(t->a, &err, "%s%s\n", x, x), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    assert_int_equal(stream_line(t->b, 5000, &line, &err), 0);
    assert_int_equal(line.n, 2999);
}

static void test_print_long(void **state)
{
    (void)state;
    both_ways(print_long, NULL);
}

/* ---- errors */

static void peer_gone(void *arg)
{
    struct two *t = arg;
    struct err err;
    static char x[4000];
    int rc = 0;

    stream_free(&t->b);
    assert_int_equal(stream_fill(t->a, &err), 0);
    assert_true(stream_eof(t->a));
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = stream_write(t->a, slice_of(x, sizeof(x)), &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.class, ERR_PEER);
    assert_int_equal(stream_flush(t->a, &err), -1);
}

static void test_peer_gone(void **state)
{
    (void)state;
    both_ways(peer_gone, NULL);
}

/* A peer that does not read: the write ends at the deadline. */
static void full_peer(void *arg)
{
    struct two *t = arg;
    struct err err;
    static char x[4000];
    int rc = 0;

    stream_deadline(t->a, clock_after(20));
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = stream_write(t->a, slice_of(x, sizeof(x)), &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.class, ERR_TEMP);
}

static void test_full_peer(void **state)
{
    (void)state;
    both_ways(full_peer, NULL);
}

/* The peer vanishes while we wait for room. */
static void leave_soon(void *arg)
{
    struct two *t = arg;
    struct err err;

    assert_int_equal(task_sleep(10, &err), 0);
    stream_free(&t->b);
}

static void write_until_gone(void *arg)
{
    struct two *t = arg;
    struct err err;
    static char x[4000];

    while (stream_write(t->a, slice_of(x, sizeof(x)), &err) == 0)
        continue;
    assert_int_equal(err.class, ERR_PEER);
}

static void test_gone_in_write(void **state)
{
    (void)state;
    both_ways(write_until_gone, leave_soon);
}

static void cancelled_reader(void *arg)
{
    struct two *t = arg;
    struct err err;

    assert_int_equal(stream_fill(t->a, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    t->flag = 1;
}

static void cancel_task(void *task)
{
    task_cancel(task);
}

static void test_cancel_read(void **state)
{
    struct two t;
    struct task *task;

    (void)state;
    pair_of(false, &t);
    task = task_spawn("reader", cancelled_reader, &t);
    (void)task_spawn("killer", cancel_task, task);
    loop_run_until_idle();
    assert_int_equal(t.flag, 1);
    stream_free(&t.a);
    stream_free(&t.b);
}

/* ---- parking */

struct session {
    struct stream *s;
    int n_started;
    enum stream_why why;
    int rounds;
};

static void echo_session(void *arg, enum stream_why why)
{
    struct session *c = arg;
    struct err err;
    slice line;

    c->n_started++;
    c->why = why;
    if (why != STREAM_INPUT)
        return;
    while (stream_has_line(c->s)) {
        assert_int_equal(stream_line(c->s, 100, &line, &err), 0);
        assert_int_equal(stream_write(c->s, line, &err), 0);
    }
    assert_int_equal(stream_flush(c->s, &err), 0);
    stream_park(c->s, clock_after(5000), echo_session, c);
    assert_true(stream_is_parked(c->s));
}

static void talk(void *arg)
{
    struct two *t = arg;
    struct session c = { .s = t->b };
    struct err err;
    slice line;

    stream_park(t->b, MSEC_NEVER, echo_session, &c);
    for (int i = 0; i < 20; i++) {
        assert_true(stream_is_parked(t->b));
        assert_int_equal(c.n_started, i);
        assert_int_equal(stream_printf(t->a, &err, "hello %d\n", i), 0);
        assert_int_equal(stream_flush(t->a, &err), 0);
        assert_int_equal(stream_line(t->a, 100, &line, &err), 0);
        assert_int_equal(line.n, i < 10 ? 8 : 9);
        task_yield();
    }
    stream_kick(t->b);
    task_yield();
    assert_int_equal(c.why, STREAM_KICKED);
    assert_false(stream_is_parked(t->b));
    stream_kick(t->b); /* not parked: nothing */
    stream_park(t->b, clock_after(10), echo_session, &c);
    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(c.why, STREAM_DEADLINE);
    stream_park(t->b, clock_after(5000), echo_session, &c);
    stream_free(&t->a);
    assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(c.why, STREAM_EOF);
    assert_int_equal(c.n_started, 23);
}

static void test_park(void **state)
{
    (void)state;
    both_ways(talk, NULL);
}

/* What is buffered or has come before the park fires at once. */
static void park_late(void *arg)
{
    struct two *t = arg;
    struct session c = { .s = t->b };
    struct err err;

    assert_int_equal(stream_puts(t->a, "x\n", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    stream_park(t->b, MSEC_NEVER, echo_session, &c);
    assert_int_equal(task_sleep(5, &err), 0);
    assert_int_equal(c.n_started, 1);
    stream_kick(t->b);
    assert_int_equal(stream_puts(t->a, "y", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    task_yield();
    assert_int_equal(stream_fill(t->b, &err), 0);
    assert_slice(stream_peek(t->b), SL("y"));
    stream_kick(t->b);
    c.why = STREAM_KICKED;
    stream_park(t->b, MSEC_NEVER, echo_session, &c);
    assert_false(stream_is_parked(t->b)); /* it fires in this turn */
    stream_consume(t->b, 1);
    task_yield();
    assert_int_equal(c.why, STREAM_INPUT);
    stream_kick(t->b);
    task_yield();
}

static void test_park_late(void **state)
{
    (void)state;
    both_ways(park_late, NULL);
}

static void wait_for_deadline(const struct session *c)
{
    struct err err;

    for (int i = 0; i < 200 && c->why != STREAM_DEADLINE; i++)
        assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(c->why, STREAM_DEADLINE);
}

/* A later deadline does not move the timer, but counts. */
static void repark(void *arg)
{
    struct two *t = arg;
    struct session c = { .s = t->b };
    struct err err;
    msec before = clock_mono();

    stream_park(t->b, clock_after(20), echo_session, &c);
    stream_kick(t->b);
    task_yield();
    stream_park(t->b, before + 500, echo_session, &c);
    assert_int_equal(task_sleep(40, &err), 0);
    assert_true(stream_is_parked(t->b));
    wait_for_deadline(&c);
    assert_true(clock_mono() >= before + 500);
    /* An earlier one does. */
    c.why = STREAM_INPUT;
    before = clock_mono();
    stream_park(t->b, before + 5000, echo_session, &c);
    stream_kick(t->b);
    task_yield();
    stream_park(t->b, before + 10, echo_session, &c);
    wait_for_deadline(&c);
}

static void test_repark(void **state)
{
    (void)state;
    both_ways(repark, NULL);
}

/* A parked stream may be freed. */
static void test_free_parked(void **state)
{
    struct two t;
    struct session c = { 0 };

    (void)state;
    pair_of(false, &t);
    stream_park(t.a, clock_after(10), echo_session, &c);
    stream_free(&t.a);
    stream_park(t.b, clock_after(10), echo_session, &c);
    loop_run_until_idle();
    assert_int_equal(c.n_started, 1);
    assert_int_equal(c.why, STREAM_EOF);
    stream_free(&t.b);
}

/* ---- pipes, files, releasing */

static void pipes(UNUSED void *arg)
{
    struct stream *in, *out;
    struct err err;
    int fds[2];
    static char x[3000];
    int rc = 0;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    in = stream_from_fds(fds[0], -1);
    out = stream_from_fds(-1, fds[1]);
    assert_int_equal(stream_fill(out, &err), 0);
    assert_true(stream_eof(out));
    assert_int_equal(stream_puts(out, "through", &err), 0);
    assert_int_equal(stream_shutdown(out, &err), 0);
    assert_int_equal(stream_fill(in, &err), 0);
    assert_slice(stream_peek(in), SL("through"));
    assert_int_equal(stream_fill(in, &err), 0);
    assert_true(stream_eof(in));
    stream_free(&in);
    stream_free(&out);

    /* One stream over both ends; full, then drained by itself. */
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    in = stream_from_fds(fds[0], fds[1]);
    stream_deadline(in, clock_after(10));
    while (rc == 0)
        rc = stream_write(in, slice_of(x, sizeof(x)), &err);
    assert_int_equal(err.class, ERR_TEMP);
    stream_deadline(in, clock_after(5000));
    assert_int_equal(stream_fill(in, &err), 0);
    assert_int_equal(stream_peek(in).p[0], 0);
    stream_free(&in);
}

static void test_pipes(void **state)
{
    (void)state;
    in_task(pipes, NULL);
}

static void regular_file(UNUSED void *arg)
{
    char path[] = "/tmp/hato-test-XXXXXX";
    int fd = mkstemp(path);
    struct stream *s;
    struct err err;
    slice line;

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    s = stream_from_fds(-1, dup(fd));
    assert_int_equal(stream_puts(s, "first\nsecond\n", &err), 0);
    assert_int_equal(stream_flush(s, &err), 0);
    stream_free(&s);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    s = stream_from_fds(fd, -1);
    assert_int_equal(stream_line(s, 100, &line, &err), 0);
    assert_int_equal(stream_line(s, 100, &line, &err), 0);
    assert_slice(line, SL("second\n"));
    assert_int_equal(stream_line(s, 100, &line, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    stream_free(&s);
}

static void test_regular_file(void **state)
{
    (void)state;
    in_task(regular_file, NULL);
}

static void release(void *arg)
{
    struct two *t = arg;
    struct err err;
    char c;
    int fd;

    stream_deadline(t->a, clock_after(5));
    assert_int_equal(stream_fill(t->a, &err), -1); /* registered by now */
    fd = stream_fd(t->a);
    assert_int_equal(stream_release_fd(&t->a), fd);
    assert_null(t->a);
    assert_int_equal(stream_puts(t->b, "z", &err), 0);
    assert_int_equal(stream_flush(t->b, &err), 0);
    assert_int_equal(read(fd, &c, 1), 1);
    t->a = stream_from_fd(fd);
}

static void test_release(void **state)
{
    struct two t;

    (void)state;
    pair_of(false, &t);
    in_task(release, &t);
    stream_free(&t.a);
    stream_free(&t.b);
}

/* What somebody else read stands in front, also of half a line. */
static void unread(void *arg)
{
    struct two *t = arg;
    struct err err;
    slice line;

    assert_int_equal(stream_puts(t->b, "ree\nfour\n", &err), 0);
    assert_int_equal(stream_flush(t->b, &err), 0);
    assert_int_equal(stream_fill(t->a, &err), 0);
    stream_unread(t->a, SL("two\nth"));
    stream_unread(t->a, SLICE_NONE);
    stream_unread(t->a, SL("one\n"));
    assert_slice(stream_peek(t->a), SL("one\ntwo\nthree\nfour\n"));
    assert_int_equal(stream_line(t->a, 80, &line, &err), 0);
    assert_slice(line, SL("one\n"));
    stream_consume(t->a, 3);
    stream_unread(t->a, SL("2"));
    assert_int_equal(stream_line(t->a, 80, &line, &err), 0);
    assert_slice(line, SL("2\n"));
    assert_int_equal(stream_line(t->a, 80, &line, &err), 0);
    assert_slice(line, SL("three\n"));
}

static void test_unread(void **state)
{
    (void)state;
    both_ways(unread, NULL);
}

static void nothing(UNUSED void *arg)
{
}

static void test_dump(void **state)
{
    struct two t;
    struct buf b;

    (void)state;
    pair_of(true, &t);
    (void)task_spawn("dumped", nothing, NULL);
    buf_init(&b, 10000);
    rt_dump(&b);
    assert_non_null(strstr(buf_cstr(&b), "task dumped ready"));
    assert_non_null(strstr(buf_cstr(&b), "stream fd=-1"));
    buf_done(&b);
    loop_run_until_idle();
    stream_free(&t.a);
    stream_free(&t.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_lines),         LOOP_TEST(test_long_line),
        LOOP_TEST(test_endless_line),  LOOP_TEST(test_bulk),
        LOOP_TEST(test_read_exact),    LOOP_TEST(test_print_long),
        LOOP_TEST(test_peer_gone),     LOOP_TEST(test_full_peer),
        LOOP_TEST(test_gone_in_write), LOOP_TEST(test_cancel_read),
        LOOP_TEST(test_park),          LOOP_TEST(test_park_late),
        LOOP_TEST(test_repark),        LOOP_TEST(test_free_parked),
        LOOP_TEST(test_pipes),         LOOP_TEST(test_regular_file),
        LOOP_TEST(test_release),       LOOP_TEST(test_dump),
        LOOP_TEST(test_unread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
