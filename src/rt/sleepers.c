/* Two tasks that sleep in nested calls, for test_gdb.py. */
#include "rt/rt.h"

MAY_WAIT __attribute__((noinline)) static int deep_one(void)
{
    struct err err;
    int rc = task_sleep(100000, &err);

    __asm__ volatile("" ::: "memory"); /* no tail call */
    return rc;
}

MAY_WAIT __attribute__((noinline)) static void deep_two(UNUSED void *arg)
{
    (void)!deep_one();
    __asm__ volatile("" ::: "memory");
}

static void tell(UNUSED struct timer *t)
{
    (void)puts("ready");
    (void)fflush(stdout);
}

int main(void)
{
    struct timer t = { 0 };

    loop_init("sleepers", 1);
    (void)task_spawn("sleeper", deep_two, NULL);
    (void)task_spawn("sleeper", deep_two, NULL);
    timer_set(&t, clock_after(20), tell);
    loop_run();
    return 0;
}
