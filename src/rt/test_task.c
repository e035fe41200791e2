#include "rt/test_util_rt.h"

#include <math.h>

/* ---- running and yielding */

struct trace {
    char text[64];
    size_t n;
    int steps;
};

struct actor {
    struct trace *trace;
    char name;
};

static void mark(struct trace *t, char c)
{
    assert_true(t->n + 1 < sizeof(t->text));
    t->text[t->n++] = c;
}

static void act(void *arg)
{
    struct actor *a = arg;

    assert_true(task_inside());
    assert_non_null(task_self());
    for (int i = 0; i < a->trace->steps; i++) {
        mark(a->trace, a->name);
        task_yield();
    }
}

static void run_three(struct trace *t, uint64_t seed)
{
    struct actor actors[3] = { { t, 'a' }, { t, 'b' }, { t, 'c' } };

    task_schedule_seed(seed);
    for (size_t i = 0; i < 3; i++)
        (void)task_spawn("actor", act, &actors[i]);
    assert_int_equal(task_count(), 3);
    assert_int_equal(t->n, 0); /* spawning runs nothing */
    loop_run_until_idle();
    assert_int_equal(task_count(), 0);
    assert_false(task_inside());
}

static void test_fifo(void **state)
{
    struct trace t = { .steps = 3 };

    (void)state;
    run_three(&t, 0);
    assert_string_equal(t.text, "abcabcabc");
}

static void test_seed(void **state)
{
    struct trace a = { .steps = 10 }, b = { .steps = 10 }, c = { .steps = 10 };

    (void)state;
    run_three(&a, 7);
    run_three(&b, 7);
    run_three(&c, 8);
    assert_string_equal(a.text, b.text);
    assert_string_not_equal(a.text, c.text);
}

static void spawn_child(void *arg)
{
    struct trace *t = arg;
    static struct actor child;

    child = (struct actor){ t, 'x' };
    mark(t, '1');
    (void)task_spawn("child", act, &child);
    mark(t, '2'); /* it does not run before we wait or end */
    task_yield();
    mark(t, '3');
}

static void test_spawn_inside(void **state)
{
    struct trace t = { .steps = 1 };

    (void)state;
    in_task(spawn_child, &t);
    assert_string_equal(t.text, "12x3");
}

/* ---- waits */

static void wait_deadline(UNUSED void *arg)
{
    struct err err;
    msec before = clock_mono();

    assert_int_equal(task_wait(clock_after(20), &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_true(clock_mono() - before >= 20);
    /* A deadline in the past ends the wait at once. */
    assert_int_equal(task_wait(before, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    /* A wake is remembered, once. */
    task_wake(task_self());
    task_wake(task_self());
    assert_int_equal(task_wait(clock_after(1000), &err), 0);
    assert_int_equal(task_wait(clock_after(5), &err), -1);
    /* Deadlines move both ways. */
    before = clock_mono();
    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(task_sleep(5, &err), 0);
    assert_true(clock_mono() - before >= 35);
    assert_true(clock_mono() - before < 5000);
    /* Sleeping keeps a wake for the next wait. */
    task_wake(task_self());
    assert_int_equal(task_sleep(5, &err), 0);
    assert_int_equal(task_wait(clock_after(1000), &err), 0);
}

static void test_wait_deadline(void **state)
{
    (void)state;
    in_task(wait_deadline, NULL);
}

struct victim {
    struct task *task;
    int ended;
};

static void be_cancelled(void *arg)
{
    struct victim *v = arg;
    struct err err;

    assert_int_equal(task_wait(MSEC_NEVER, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    assert_true(task_is_cancelled());
    /* Sticky, whatever the wait. */
    assert_int_equal(task_sleep(1, &err), -1);
    assert_int_equal(err.class, ERR_PEER);
    task_wake(task_self());
    assert_int_equal(task_wait(MSEC_NEVER, &err), -1);
    task_uncancel();
    assert_false(task_is_cancelled());
    assert_int_equal(task_wait(MSEC_NEVER, &err), 0);
    assert_int_equal(task_sleep(1, &err), 0);
    v->ended++;
}

static void cancel_it(void *arg)
{
    struct victim *v = arg;

    task_cancel(v->task);
    task_cancel(v->task);
}

static void test_cancel(void **state)
{
    struct victim v = { 0 };

    (void)state;
    v.task = task_spawn("victim", be_cancelled, &v);
    (void)task_spawn("killer", cancel_it, &v);
    loop_run_until_idle();
    assert_int_equal(v.ended, 1);
}

/* ---- queues and semaphores */

struct crowd {
    struct waitq q;
    struct sema s;
    int woken, timed_out, inside, most;
};

static void queue_wait(void *arg)
{
    struct crowd *c = arg;
    struct err err;

    if (waitq_wait(&c->q, clock_after(30), &err) == 0)
        c->woken++;
    else
        c->timed_out++;
}

static void queue_wake(void *arg)
{
    struct crowd *c = arg;

    assert_true(waitq_wake_one(&c->q));
    task_yield();
    assert_int_equal(c->woken, 1);
    waitq_wake_all(&c->q);
    task_yield();
    assert_int_equal(c->woken, 3);
    assert_false(waitq_wake_one(&c->q));
    queue_wait(c);
    assert_int_equal(c->timed_out, 1);
    assert_false(waitq_wake_one(&c->q)); /* who timed out is not in it */
}

static void test_waitq(void **state)
{
    struct crowd c = { 0 };

    (void)state;
    waitq_init(&c.q);
    for (int i = 0; i < 3; i++)
        (void)task_spawn("waiter", queue_wait, &c);
    (void)task_spawn("waker", queue_wake, &c);
    loop_run_until_idle();
    assert_int_equal(c.woken, 3);
}

/* A wake that meets a cancel in the same turn is not lost. */
static void cancel_and_wake(void *arg)
{
    struct victim *v = arg;
    struct crowd *c = (void *)(v + 1);

    task_cancel(v->task);
    assert_true(waitq_wake_one(&c->q));
}

static void test_wake_meets_cancel(void **state)
{
    struct {
        struct victim v;
        struct crowd c;
    } both = { 0 };

    (void)state;
    waitq_init(&both.c.q);
    both.v.task = task_spawn("waiter", queue_wait, &both.c);
    (void)task_spawn("other", cancel_and_wake, &both.v);
    loop_run_until_idle();
    assert_int_equal(both.c.woken, 1);
    assert_int_equal(both.c.timed_out, 0);
}

static void use_sema(void *arg)
{
    struct crowd *c = arg;
    struct err err;

    assert_int_equal(sema_down(&c->s, MSEC_NEVER, &err), 0);
    c->inside++;
    if (c->inside > c->most)
        c->most = c->inside;
    assert_int_equal(task_sleep(1, &err), 0);
    c->inside--;
    c->woken++;
    sema_up(&c->s);
}

static void test_sema(void **state)
{
    struct crowd c = { 0 };

    (void)state;
    sema_init(&c.s, 2);
    for (int i = 0; i < 9; i++)
        (void)task_spawn("user", use_sema, &c);
    loop_run_until_idle();
    assert_int_equal(c.woken, 9);
    assert_int_equal(c.most, 2);
    assert_int_equal(c.s.n, 2);
}

/* ---- what the switch preserves */

static void keep_registers(void *arg)
{
    double x = 1.0 + *(int *)arg;
    double want = x;
    long a = *(int *)arg, b = a * 3, c = a * 5, d = a * 7, e = a * 11;
    char deep[512];

    memset(deep, (int)a, sizeof(deep));
    for (int i = 0; i < 100; i++) {
        task_yield();
        x = sqrt(x * x);
        a++, b++, c++, d++, e++;
    }
    assert_true(fabs(x - want) < 1e-9);
    assert_int_equal(a, *(int *)arg + 100);
    assert_int_equal(b, *(int *)arg * 3 + 100);
    assert_int_equal(c, *(int *)arg * 5 + 100);
    assert_int_equal(d, *(int *)arg * 7 + 100);
    assert_int_equal(e, *(int *)arg * 11 + 100);
    for (size_t i = 0; i < sizeof(deep); i++)
        assert_int_equal((unsigned char)deep[i], *(int *)arg);
}

static void test_registers(void **state)
{
    int n[50];

    (void)state;
    for (int i = 0; i < 50; i++) {
        n[i] = i;
        (void)task_spawn("registers", keep_registers, &n[i]);
    }
    loop_run_until_idle();
}

/* Hundreds of stacks at once, more than the pool keeps. */
static void sleep_a_little(void *arg)
{
    struct err err;

    assert_int_equal(task_sleep(5, &err), 0);
    ++*(int *)arg;
}

static void test_many(void **state)
{
    int n = 0;

    (void)state;
    for (int i = 0; i < 300; i++)
        (void)task_spawn("many", sleep_a_little, &n);
    loop_run_until_idle();
    assert_int_equal(n, 300);
}

/* ---- what dies */

static void wait_in_no_wait(UNUSED void *arg)
{
    no_wait_begin();
    task_yield();
}

static void run_no_wait(UNUSED void *arg)
{
    loop_init("test", 1);
    in_task(wait_in_no_wait, NULL);
}

static void wait_outside(UNUSED void *arg)
{
    loop_init("test", 1);
    (void)task_wait(MSEC_NEVER, NULL);
}

static void ok_no_wait(UNUSED void *arg)
{
    no_wait_begin();
    no_wait_begin();
    no_wait_end();
    no_wait_end();
    task_yield();
}

static void test_no_wait(void **state)
{
    (void)state;
    assert_true(dies(run_no_wait, NULL));
    assert_true(dies(wait_outside, NULL));
    in_task(ok_no_wait, NULL);
}

/* ---- long computations */

static void burn(void *arg)
{
    int *others = arg;
    int before = *others;
    msec until;
    int i;

    /* Who has just begun goes on, unless the machine was elsewhere meanwhile:
     * so not every time. */
    for (i = 0; i < 20; i++) {
        task_yield();
        before = *others;
        task_yield_if_long();
        if (*others == before)
            break;
    }
    assert_true(i < 20);
    until = clock_mono() + 10000;
    while (*others == before && clock_mono() < until)
        task_yield_if_long();
    assert_true(*others > before);
}

static void count(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        ++*(int *)arg;
        task_yield();
    }
}

static void test_yield_if_long(void **state)
{
    int n = 0;

    (void)state;
    (void)task_spawn("burn", burn, &n);
    (void)task_spawn("count", count, &n);
    loop_run_until_idle();
}

/* loop_done() ends what still waits. */
static void wait_for_ever(void *arg)
{
    struct err err;

    assert_int_equal(task_wait(MSEC_NEVER, &err), -1);
    ++*(int *)arg;
    loop_stop();
}

static void stop_soon(UNUSED void *arg)
{
    loop_stop();
}

static void test_done_cancels(void **state)
{
    int n = 0;

    (void)state;
    loop_init("test", 1);
    (void)task_spawn("ever", wait_for_ever, &n);
    (void)task_spawn("stop", stop_soon, NULL);
    loop_run();
    assert_int_equal(n, 0);
    loop_done();
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_fifo),
        LOOP_TEST(test_seed),
        LOOP_TEST(test_spawn_inside),
        LOOP_TEST(test_wait_deadline),
        LOOP_TEST(test_cancel),
        LOOP_TEST(test_waitq),
        LOOP_TEST(test_wake_meets_cancel),
        LOOP_TEST(test_sema),
        LOOP_TEST(test_registers),
        LOOP_TEST(test_many),
        LOOP_TEST(test_no_wait),
        LOOP_TEST(test_yield_if_long),
        cmocka_unit_test(test_done_cancels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
