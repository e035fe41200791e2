/* Relayed and parked sessions: invariant 4, in many orders of events. */
#include "login/test_util_login.h"

/* ------------------------------------------------------ both ends, at random
 */

struct end { /* a source and a sink of one known run of bytes */
    uint64_t sent, got;
};

static struct {
    uint64_t rng;
    struct end client, worker;
    struct stream *c, *w;
    uint64_t n_read, n_written; /* on the worker's present socket */
    bool is_parked, is_limbo;
    bool client_done, worker_done, reader_done;
    unsigned n_parks;
} sim;

static unsigned draw(unsigned n)
{
    sim.rng = sim.rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(sim.rng >> 33) % n;
}

static char byte_at(uint64_t i)
{
    return (char)(i * 131 + (i >> 8) * 31 + (i >> 16));
}

static void make(struct buf *b, struct end *e, size_t n)
{
    buf_init(b, n);
    for (size_t i = 0; i < n; i++)
        buf_byte(b, byte_at(e->sent++));
}

static void check(struct stream *s, struct end *e)
{
    slice in = stream_peek(s);

    for (size_t i = 0; i < in.n; i++)
        if (in.p[i] != byte_at(e->got + i))
            fail_msg("byte %" PRIu64 " is wrong", e->got + i);
    e->got += in.n;
    stream_consume(s, in.n);
}

static size_t size_of_a_write(void)
{
    return draw(20) == 0 ? 1 + draw(200000) : 1 + draw(300);
}

MAY_WAIT static void nap(void)
{
    struct err err;

    if (draw(3) == 0)
        (void)task_sleep(draw(3), &err);
    else
        task_yield();
}

MAY_WAIT static void client_writes(void *arg)
{
    int n = (int)(uintptr_t)arg;
    struct err err;
    struct buf b;

    for (; n > 0; n--) {
        make(&b, &sim.client, size_of_a_write());
        stream_deadline(sim.c, clock_after(20000));
        assert_int_equal(stream_write(sim.c, buf_view(&b), &err), 0);
        assert_int_equal(stream_flush(sim.c, &err), 0);
        buf_done(&b);
        for (unsigned k = draw(12); k > 0; k--)
            nap();
    }
    sim.client_done = true;
}

MAY_WAIT static void client_reads(void *arg UNUSED)
{
    struct err err;

    while (!stream_eof(sim.c)) {
        check(sim.c, &sim.worker); /* what the worker sent */
        stream_deadline(sim.c, MSEC_NEVER);
        if (stream_fill(sim.c, &err) < 0)
            break;
        if (draw(10) == 0)
            nap();
    }
    check(sim.c, &sim.worker);
    sim.reader_done = true;
}

static void drop_socket(void)
{
    stream_free(&sim.w);
    sim.n_read = 0;
    sim.n_written = 0;
    sim.is_parked = true;
    sim.n_parks++;
}

/* True when something came, within a moment. */
MAY_WAIT static bool poll_input(struct stream *s)
{
    struct err err;

    stream_deadline(s, clock_after(1));
    return stream_fill_now(s) ||
           (!stream_eof(s) && stream_fill(s, &err) == 0 && !stream_eof(s));
}

/* What the worker's socket has; its end means that login parked. */
MAY_WAIT static void worker_takes(void)
{
    while (stream_peek(sim.w).n > 0 || poll_input(sim.w)) {
        sim.n_read += stream_peek(sim.w).n;
        sim.is_limbo = false;
        check(sim.w, &sim.client);
    }
    if (stream_eof(sim.w)) {
        assert_true(sim.is_limbo);
        drop_socket();
    }
}

MAY_WAIT static void worker_acts(void)
{
    struct err err;
    struct buf b;

    if (sim.is_limbo)
        return; /* writes nothing */
    if (draw(3) == 0) {
        sim.is_limbo = true;
        world_park(sim.n_read, sim.n_written, draw(2), "* OK Still here\r\n");
        return;
    }
    make(&b, &sim.worker, size_of_a_write());
    sim.n_written += b.n;
    stream_deadline(sim.w, clock_after(20000));
    assert_int_equal(stream_write(sim.w, buf_view(&b), &err), 0);
    assert_int_equal(stream_flush(sim.w, &err), 0);
    buf_done(&b);
}

static void parked_acts(void)
{
    struct buf b;

    if (world.worker_fd >= 0) {
        sim.w = stream_from_fd(world.worker_fd);
        world.worker_fd = -1;
        sim.is_parked = false;
        sim.is_limbo = false;
    } else if (draw(4) == 0) {
        make(&b, &sim.worker, 1 + draw(500));
        world_push(buf_view(&b));
        buf_done(&b);
    }
}

MAY_WAIT static void worker_lives(void *arg)
{
    int n = (int)(uintptr_t)arg;

    for (; n > 0 || !sim.client_done || sim.worker.sent == 0 ||
           sim.client.got < sim.client.sent;
         n--) {
        if (sim.is_parked)
            parked_acts();
        else
            worker_takes();
        if (!sim.is_parked && n > 0)
            worker_acts();
        nap();
        assert_true(n > -2000000);
    }
    sim.worker_done = true;
}

static void random_body(void)
{
    sim.c = world_signed_in(&sim.w);
    task_spawn("client-w", client_writes, (void *)60);
    task_spawn("client-r", client_reads, NULL);
    task_spawn("worker", worker_lives, (void *)300);
    for (int i = 0; i < 2000 && !(sim.client_done && sim.worker_done); i++) {
        struct err err;

        (void)task_sleep(5, &err);
    }
    if (!sim.client_done || !sim.worker_done)
        fail_msg("stuck: client %d sent %" PRIu64 " got %" PRIu64
                 ", worker sent %" PRIu64 " got %" PRIu64
                 ", parked %d limbo %d n_read %" PRIu64 " fd %d, state %d",
                 sim.client_done, sim.client.sent, sim.client.got,
                 sim.worker.sent, sim.worker.got, sim.is_parked, sim.is_limbo,
                 sim.n_read, world.worker_fd, world_conn()->state);
    UNTIL(sim.worker.got == sim.worker.sent);
    assert_true(sim.client.got == sim.client.sent);
    /* The end, by either side. */
    if (sim.is_parked && world.worker_fd < 0) {
        world_tell_end("");
        sim.is_parked = false;
    } else if (world.worker_fd >= 0) {
        close_fd(&world.worker_fd);
    } else {
        stream_free(&sim.w);
    }
    UNTIL(world.login->n_conns == 0);
    UNTIL(sim.reader_done);
    stream_free(&sim.c);
    stream_free(&sim.w);
}

static void no_byte_is_lost(void **state UNUSED)
{
    unsigned n_parks = 0;

    for (uint64_t seed = 1; seed <= 24; seed++) {
        memset(&sim, 0, sizeof sim);
        sim.rng = seed * 7919;
        in_world("", random_body, seed);
        n_parks += sim.n_parks;
    }
    assert_true(n_parks > 60); /* it did happen */
}

/* ------------------------------------------------------------ one by one */

static struct stream *parked(struct stream **worker)
{
    struct stream *s = world_signed_in(worker);

    say(*worker, "* 1 EXISTS\r\n");
    expect(s, "* 1 EXISTS");
    world_park(0, 12, 0, "");
    expect_end(*worker);
    UNTIL(world_conn()->state == CONN_PARKED && !world_conn()->is_busy);
    assert_true(stream_is_parked(world_conn()->client));
    return s;
}

static void park_and_wake_body(void)
{
    struct stream *worker, *s = parked(&worker);

    stream_free(&worker);
    assert_int_equal(world.login->n_parked, 1);
    world_push(SL("* 2 EXISTS\r\n"));
    expect(s, "* 2 EXISTS");
    assert_int_equal(world.n_wakes, 0);
    /* News that were pushed before the socket was given come first. */
    world.hold_wake = true;
    say(s, "DONE\r\n");
    UNTIL(world.n_wakes == 1);
    world_push(SL("* 3 EXISTS\r\n"));
    world_wake();
    worker = world_worker();
    say(worker, "a OK Idle completed.\r\n");
    expect(s, "* 3 EXISTS");
    expect(s, "a OK Idle completed.");
    expect(worker, "DONE");
    /* An offer that is too old is passed over. */
    say(s, "b NOOP\r\n");
    expect(worker, "b NOOP");
    world_park(6, 22, 0, "");
    say(worker, "b OK\r\n");
    expect(s, "b OK");
    assert_int_equal(world.login->n_parked, 0);
    /* Logout. */
    stream_free(&worker);
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void park_and_wake(void **state UNUSED)
{
    in_world("", park_and_wake_body, 0);
}

static void half_closed_body(void)
{
    struct stream *worker, *s = world_signed_in(&worker);
    struct err err;

    /* The last commands of one who closes his side are answered. */
    say(s, "b NOOP\r\nc LOGOUT\r\n");
    assert_int_equal(stream_shutdown(s, &err), 0);
    expect(worker, "b NOOP");
    expect(worker, "c LOGOUT");
    expect_end(worker);
    say(worker, "b OK\r\nc OK\r\n");
    stream_free(&worker);
    expect(s, "b OK");
    expect(s, "c OK");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
    /* And of one who closes it while the worker takes its end for parking. */
    s = world_signed_in(&worker);
    say(s, "DONE\r\n");
    expect(worker, "DONE");
    assert_int_equal(stream_shutdown(s, &err), 0);
    expect_end(worker);
    world.n_drops = 0;
    world_park(6, 0, 0, "");
    UNTIL(world.login->n_conns == 0);
    UNTIL(world.n_drops > 0);
    stream_free(&worker);
    stream_free(&s);
}

static void half_closed(void **state UNUSED)
{
    in_world("", half_closed_body, 0);
}

static void last_words_body(void)
{
    for (int i = 0; i < 20; i++) {
        struct stream *worker, *s = world_signed_in(&worker);

        /* The worker says goodbye and closes while input is on its way. */
        say(s, "b NOOP\r\n");
        say(worker, "* BYE Server shutting down.\r\n");
        stream_free(&worker);
        say(s, "c NOOP\r\nd NOOP\r\n");
        expect(s, "* BYE Server shutting down.");
        stream_free(&s);
        UNTIL(world.login->n_conns == 0);
    }
}

static void last_words_are_heard(void **state UNUSED)
{
    in_world("", last_words_body, 0);
    for (uint64_t seed = 1; seed < 10; seed++)
        in_world("", last_words_body, seed);
}

static void parked_ends_body(void)
{
    struct stream *worker, *s = parked(&worker);

    /* The client goes. */
    stream_free(&worker);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
    UNTIL(world.n_drops == 1);
    /* The session is ended, with last words. */
    s = parked(&worker);
    stream_free(&worker);
    world_push(SL("* BYE kicked\r\n"));
    world_tell_end("");
    expect(s, "* BYE kicked");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
    /* It cannot be woken. */
    s = parked(&worker);
    stream_free(&worker);
    world.refuse_wake = true;
    say(s, "DONE\r\n");
    expect_start(s, "* BYE Internal error");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
    /* The broker dies: its handles are void. */
    s = parked(&worker);
    stream_free(&worker);
    chan_free(&world.broker);
    expect_start(s, "* BYE Internal error");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void parked_ends(void **state UNUSED)
{
    in_world("", parked_ends_body, 0);
}

static void stalled_body(void)
{
    struct stream *worker, *s = parked(&worker);
    static char news[4000];
    struct err err;

    memset(news, 'x', sizeof news);
    stream_free(&worker);
    /* A parked client that reads nothing: after some news it is dropped. */
    for (int i = 0; i < 400 && world.n_drops == 0; i++) {
        world_push(slice_of(news, sizeof news));
        assert_int_equal(task_sleep(1, &err), 0);
    }
    assert_int_equal(world.n_drops, 1);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void stalled_is_bounded(void **state UNUSED)
{
    in_world("", stalled_body, 0);
}

static void keepalive_body(void)
{
    struct stream *worker, *s = world_signed_in(&worker);

    world_park(0, 0, 1, "* OK Still here\r\n");
    expect_end(worker);
    expect(s, "* OK Still here");
    expect(s, "* OK Still here");
    stream_free(&worker);
    login_close_all(world.login);
    expect(s, "* BYE Server shutting down.");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void keepalive(void **state UNUSED)
{
    in_world("", keepalive_body, 0);
}

static bool is_idle;

static void idle(void *arg UNUSED)
{
    is_idle = true;
}

/* covers: login_drain_timeout */
static void drain_body(void)
{
    struct stream *worker, *s = parked(&worker), *relayed;
    struct err err;

    stream_free(&worker);
    login_drain(world.login, idle, NULL);
    assert_int_equal(task_sleep(50, &err), 0);
    assert_false(is_idle);
    /* It goes on with what it has. */
    say(s, "DONE\r\n");
    relayed = world_worker();
    expect(relayed, "DONE");
    say(relayed, "a OK\r\n");
    expect(s, "a OK");
    world_park(6, 6, 0, "");
    expect_end(relayed);
    stream_free(&relayed);
    /* Until its time is over. */
    expect(s, "* BYE Server shutting down.");
    stream_free(&s);
    UNTIL(is_idle);
}

static void drain(void **state UNUSED)
{
    in_world("login_drain_timeout = 1s\n", drain_body, 0);
}

/* A client that sends and sends while the worker answers and answers, and
 * neither reads: nothing is lost, and nobody waits for ever. */
static void both_ways_body(void)
{
    struct stream *worker, *s = world_signed_in(&worker);
    char *big = xmalloc(1 << 20);
    size_t n_worker = 0, n_client = 0;
    struct err err;

    memset(big, 'y', 1 << 20);
    stream_deadline(s, clock_after(300));
    stream_deadline(worker, clock_after(300));
    (void)stream_write(s, slice_of(big, 1 << 20), &err);
    (void)stream_write(worker, slice_of(big, 1 << 20), &err);
    for (int i = 0; i < 3000 && (n_client < 300000 || n_worker < 300000); i++) {
        while (poll_input(worker)) {
            n_worker += stream_peek(worker).n;
            stream_consume(worker, stream_peek(worker).n);
        }
        while (poll_input(s)) {
            n_client += stream_peek(s).n;
            stream_consume(s, stream_peek(s).n);
        }
        assert_int_equal(task_sleep(1, &err), 0);
    }
    assert_true(n_worker >= 200000);
    assert_true(n_client >= 200000);
    free(big);
    stream_free(&worker);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void both_ways(void **state UNUSED)
{
    in_world("", both_ways_body, 0);
}

static void small_when_parked(void **state UNUSED)
{
    assert_true(sizeof(struct conn) <= 192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(park_and_wake),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(last_words_are_heard),
        cmocka_unit_test(parked_ends),
        cmocka_unit_test(stalled_is_bounded),
        cmocka_unit_test(keepalive),
        cmocka_unit_test(drain),
        cmocka_unit_test(both_ways),
        cmocka_unit_test(small_when_parked),
        cmocka_unit_test(no_byte_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
