/* What tasks cost: a switch there and back, a spawn with its end, and a wait
 * with a deadline.  Prints nanoseconds each; not a test. */
#include "rt/rt.h"

#include "rt/stream.h"

#include <time.h>

enum { ROUNDS = 2000000 };

static int64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void report(const char *what, int64_t began, int n)
{
    (void)printf("%-44s %8.1f ns\n", what, (double)(now_ns() - began) / n);
}

MAY_WAIT static void yield_many(UNUSED void *arg)
{
    int64_t began = now_ns();

    for (int i = 0; i < ROUNDS; i++)
        task_yield();
    report("yield, turn of the loop, back", began, ROUNDS);
}

static void nothing(UNUSED void *arg)
{
}

static struct task *partner;

MAY_WAIT static void answer(void *arg)
{
    struct task *other = *(struct task **)arg;

    for (int i = 0; i < ROUNDS; i++) {
        (void)task_wait(MSEC_NEVER, NULL);
        task_wake(other);
    }
}

MAY_WAIT static void ask(UNUSED void *arg)
{
    static struct task *self;
    int64_t began;

    self = task_self();
    partner = task_spawn("answer", answer, &self);
    began = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        task_wake(partner);
        (void)task_wait(MSEC_NEVER, NULL);
    }
    /* Each round switches four times: to the loop and to the other, twice. */
    report("switch (a wake and a wait in each)", began, 4 * ROUNDS);
}

MAY_WAIT static void spawn_many(UNUSED void *arg)
{
    int64_t began = now_ns();

    for (int i = 0; i < ROUNDS / 100; i++) {
        for (int j = 0; j < 100; j++)
            (void)task_spawn("nothing", nothing, NULL);
        task_yield();
    }
    report("spawn, run, end", began, ROUNDS);
}

MAY_WAIT static void wait_deadlines(UNUSED void *arg)
{
    msec at = clock_after(1000000);
    int64_t began = now_ns();

    for (int i = 0; i < ROUNDS; i++) {
        task_wake(task_self());
        (void)task_wait(at, NULL);
    }
    report("wait that is woken already", began, ROUNDS);
}

static void run(task_fn *fn)
{
    (void)task_spawn("bench", fn, NULL);
    loop_run_until_idle();
}

int main(void)
{
    loop_init("bench", 1);
    run(ask);
    run(spawn_many);
    run(wait_deadlines);
    run(yield_many);
    loop_done();
    return 0;
}
