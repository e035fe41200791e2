#include "ipc/chan.h"
#include "ipc/chan_priv.h"
#include "ipc/proto.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct chan *a, *b;
static unsigned n_got, n_closed, n_bye, running, most;

static void open_pair(const struct chan_ops *ops_a,
                      const struct chan_ops *ops_b)
{
    int fds[2];

    n_got = n_closed = n_bye = running = most = 0;
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    a = chan_new(fds[0], ops_a, NULL);
    b = chan_new(fds[1], ops_b, NULL);
}

static void run(task_fn *fn)
{
    loop_init("test", 1);
    task_spawn("test", fn, NULL);
    loop_run();
    loop_done();
}

static void finish(void)
{
    chan_free(&a);
    chan_free(&b);
    loop_stop();
}

static void closed(struct chan *c UNUSED, void *arg UNUSED)
{
    n_closed++;
}

static void echo(struct chan *c, struct msg *m, void *arg UNUSED)
{
    n_got++;
    chan_answer(c, m->id, m->body, m->fds, m->n_fds);
}

static const struct chan_ops echo_ops = { .on_msg = echo, .on_close = closed };
static const struct chan_ops mute_ops = { .on_close = closed };

/* ---- calls, descriptors, big bodies */

static void calls_body(void *arg UNUSED)
{
    struct msg answer;
    struct err err;
    int pipes[2];
    char c = 0;
    struct buf big;

    open_pair(&mute_ops, &echo_ops);
    assert_int_equal(chan_call(a, 50, SL("body"), NULL, 0, clock_after(5000),
                               &answer, &err),
                     0);
    assert_true(slice_eqs(answer.body, "body"));
    msg_free(&answer);

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    for (int i = 0; i < 60; i++) { /* more than one sendmsg may carry */
        int many[2] = { pipes[0], pipes[1] };
        struct err e;

        assert_int_equal(chan_send(a, 51, SL("x"), many, 2, &e), 0);
    }
    assert_int_equal(chan_call(a, 52, SL("y"), pipes, 2, clock_after(5000),
                               &answer, &err),
                     0);
    assert_int_equal(n_got, 62);
    assert_int_equal(answer.n_fds, 2);
    assert_int_equal(write(answer.fds[1], "!", 1), 1);
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_int_equal(c, '!');
    msg_free(&answer);
    close(pipes[0]);
    close(pipes[1]);

    buf_init(&big, CHAN_MAX_BYTES);
    memset(buf_reserve(&big, CHAN_MAX_BYTES), 'b', CHAN_MAX_BYTES);
    buf_commit(&big, CHAN_MAX_BYTES);
    assert_int_equal(chan_call(a, 53, buf_view(&big), NULL, 0,
                               clock_after(20000), &answer, &err),
                     0);
    assert_true(slice_eq(answer.body, buf_view(&big)));
    msg_free(&answer);
    buf_byte(&big, 'c');
    buf_done(&big);
    finish();
}

static void calls_are_answered(void **state UNUSED)
{
    run(calls_body);
}

/* ---- failures */

static void refuse(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct err err;

    if (m->type == 61)
        return; /* never answered */
    err_perm(&err, "never %u", m->type);
    chan_fail(c, m->id, &err);
}

static const struct chan_ops refuse_ops = { .on_msg = refuse,
                                            .on_close = closed };

static void failures_body(void *arg UNUSED)
{
    struct msg answer;
    struct err err;

    open_pair(&mute_ops, &refuse_ops);
    assert_int_equal(chan_call(a, 60, SLICE_NONE, NULL, 0, clock_after(5000),
                               &answer, &err),
                     -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_string_equal(err.log, "never 60");
    assert_int_equal(chan_call(a, 61, SLICE_NONE, NULL, 0, clock_after(50),
                               &answer, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(chan_pending(a), 0);
    finish();
}

static void failed_and_late_calls(void **state UNUSED)
{
    run(failures_body);
}

static void hang_up(void *arg UNUSED)
{
    chan_free(&b);
}

static void gone_body(void *arg UNUSED)
{
    struct msg answer;
    struct err err;

    open_pair(&mute_ops, &refuse_ops);
    task_spawn("hang-up", hang_up, NULL);
    assert_int_equal(chan_call(a, 61, SLICE_NONE, NULL, 0, clock_after(5000),
                               &answer, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(n_closed, 1);
    assert_false(chan_is_open(a));
    assert_int_equal(chan_send(a, 1, SLICE_NONE, NULL, 0, &err), -1);
    finish();
}

static void a_lost_peer_ends_calls(void **state UNUSED)
{
    run(gone_body);
}

/* ---- last words of a peer that went */

static void words_body(void *arg UNUSED)
{
    struct err err;

    open_pair(&echo_ops, &mute_ops);
    for (int i = 0; i < 100; i++)
        assert_int_equal(chan_send(b, 7, SL("last"), NULL, 0, &err), 0);
    chan_free(&b);
    for (int i = 0; i < 100; i++) /* nobody will read this */
        if (chan_send(a, 7, SL("more"), NULL, 0, &err) < 0)
            break;
    while (n_closed == 0 && task_sleep(5, &err) == 0)
        ;
    assert_int_equal(n_got, 100);
    finish();
}

static void last_words_are_heard(void **state UNUSED)
{
    run(words_body);
}

/* ---- tasks for messages, bounded */

static void slow(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct err err;

    n_got++;
    running++;
    if (running > most)
        most = running;
    task_sleep(2, &err);
    running--;
    chan_answer(c, m->id, m->body, NULL, 0);
}

static const struct chan_ops slow_ops = { .serve = slow,
                                          .max_tasks = 3,
                                          .on_close = closed };

static void served_body(void *arg UNUSED)
{
    struct msg answer;
    struct err err;

    open_pair(&mute_ops, &slow_ops);
    for (int i = 0; i < 50; i++)
        assert_int_equal(chan_send(a, 7, SL("w"), NULL, 0, &err), 0);
    assert_int_equal(chan_call(a, 8, SL("end"), NULL, 0, clock_after(5000),
                               &answer, &err),
                     0);
    assert_true(slice_eqs(answer.body, "end"));
    msg_free(&answer);
    assert_int_equal(n_got, 51);
    assert_int_equal(most, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(chan_send(a, 7, SL("w"), NULL, 0, &err), 0);
    task_sleep(1, &err);
    chan_free(&b); /* while tasks serve it */
    task_sleep(20, &err);
    finish();
}

static void serving_is_bounded(void **state UNUSED)
{
    run(served_body);
}

/* ---- back pressure */

static void pressure_body(void *arg UNUSED)
{
    static char block[1 << 20];
    struct err err;
    unsigned n = 0;

    open_pair(&mute_ops, &echo_ops);
    chan_pause(b, true);
    while (n < 100 &&
           chan_send(a, 9, slice_of(block, sizeof block), NULL, 0, &err) == 0)
        n++;
    assert_in_range(n, 16, 20);
    assert_int_equal(err.class, ERR_TEMP);
    chan_pause(b, false);
    assert_int_equal(chan_flush(a, clock_after(10000), &err), 0);
    while (n_got < n && task_sleep(5, &err) == 0)
        ;
    assert_int_equal(n_got, n);
    finish();
}

static void a_full_channel_is_trouble_not_loss(void **state UNUSED)
{
    run(pressure_body);
}

/* ---- goodbye, and a wrong hello */

static void bye(struct chan *c UNUSED, void *arg UNUSED)
{
    n_bye++;
}

static const struct chan_ops bye_ops = { .on_close = closed, .on_bye = bye };

static void bye_body(void *arg UNUSED)
{
    struct err err;
    int fds[2];

    open_pair(&bye_ops, &mute_ops);
    chan_bye(b);
    while (n_bye == 0 && task_sleep(2, &err) == 0)
        ;
    assert_int_equal(n_bye, 1);
    chan_free(&a);
    chan_free(&b);

    n_closed = 0;
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    a = chan_new(fds[0], &echo_ops, NULL);
    assert_int_equal(write(fds[1], "\0\0\0\0\7\0\0\0\0\0\0\0", 12), 12);
    while (n_closed == 0 && task_sleep(2, &err) == 0)
        ;
    assert_int_equal(n_got, 0);
    close(fds[1]);
    finish();
}

static void goodbye_and_wrong_hello(void **state UNUSED)
{
    run(bye_body);
}

/* ---- a handler may free its channel */

static void suicide(struct chan *c UNUSED, struct msg *m UNUSED,
                    void *arg UNUSED)
{
    n_got++;
    chan_free(&b);
}

static const struct chan_ops suicide_ops = { .on_msg = suicide };

static void suicide_body(void *arg UNUSED)
{
    struct err err;

    open_pair(&mute_ops, &suicide_ops);
    for (int i = 0; i < 3; i++)
        assert_int_equal(chan_send(a, 7, SL("w"), NULL, 0, &err), 0);
    while (n_closed == 0 && task_sleep(2, &err) == 0)
        ;
    assert_int_equal(n_got, 1);
    finish();
}

static void a_handler_may_free(void **state UNUSED)
{
    run(suicide_body);
}

/* ---- answers longer than a frame */

static void long_answer(struct chan *c, struct msg *m, void *arg UNUSED)
{
    size_t n = 0;
    char *p;
    int pipes[2];

    if (slice_eqs(m->body, "pipe")) {
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        chan_answer(c, m->id, SLICE_NONE, pipes, 1);
        close(pipes[0]);
        close(pipes[1]);
        return;
    }
    n = slice_eqs(m->body, "long") ? (size_t)3 * CHAN_MAX_BYTES : 10;
    p = xmalloc(n);
    memset(p, 'l', n);
    chan_answer_big(c, m->id, slice_of(p, n));
    free(p);
}

static int ask_long(const char *what, size_t max, size_t *n, struct err *err)
{
    struct msg answer;
    struct buf more;
    slice body = SLICE_NONE;
    int rc;

    buf_init(&more, max);
    assert_int_equal(chan_call(a, 60, slice_str(what), NULL, 0,
                               clock_after(5000), &answer, err),
                     0);
    rc = msg_read_big(&answer, &more, &body, err);
    *n = body.n;
    for (size_t i = 0; i < body.n; i++)
        if (body.p[i] != 'l')
            fail_msg("byte %zu is another", i);
    buf_done(&more);
    msg_free(&answer);
    return rc;
}

static void long_body(void *arg UNUSED)
{
    static const struct chan_ops long_ops = { .on_msg = long_answer,
                                              .on_close = closed };
    const size_t max = (size_t)16 << 20;
    struct err err;
    size_t n;

    open_pair(&mute_ops, &long_ops);
    assert_int_equal(ask_long("short", max, &n, &err), 0);
    assert_int_equal(n, 10);
    assert_int_equal(ask_long("long", max, &n, &err), 0);
    assert_int_equal(n, (size_t)3 * CHAN_MAX_BYTES);
    assert_int_equal(ask_long("long", CHAN_MAX_BYTES, &n, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    /* Somebody who would make us wait. */
    assert_int_equal(ask_long("pipe", max, &n, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    finish();
}

static void long_answers(void **state UNUSED)
{
    run(long_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_answered),
        cmocka_unit_test(failed_and_late_calls),
        cmocka_unit_test(a_lost_peer_ends_calls),
        cmocka_unit_test(last_words_are_heard),
        cmocka_unit_test(serving_is_bounded),
        cmocka_unit_test(a_full_channel_is_trouble_not_loss),
        cmocka_unit_test(goodbye_and_wrong_hello),
        cmocka_unit_test(a_handler_may_free),
        cmocka_unit_test(long_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
