#ifndef RT_TEST_UTIL_RT_H
#define RT_TEST_UTIL_RT_H

/* What rt's unit tests share. */
#include "base/test_util.h"
#include "rt/rt.h"

#include <time.h>

#ifdef __has_include
# if __has_include(<valgrind/valgrind.h>)
#  include <valgrind/valgrind.h>
# endif
#endif

static inline bool on_valgrind(void)
{
#ifdef RUNNING_ON_VALGRIND
    return RUNNING_ON_VALGRIND;
#else
    return false;
#endif
}

/* Blocks the process, not only a task. */
static inline void nap_ms(long ms)
{
    struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

    (void)nanosleep(&ts, NULL);
}

static inline int loop_setup(void **state)
{
    (void)state;
    loop_init("test", 2);
    return 0;
}

static inline int loop_teardown(void **state)
{
    (void)state;
    loop_done();
    return 0;
}

#define LOOP_TEST(fn)                                                          \
 cmocka_unit_test_setup_teardown(fn, loop_setup, loop_teardown)

/* Run fn(arg) as a task, and the loop until nothing is left. */
static inline void in_task(task_fn *fn, void *arg)
{
    (void)task_spawn("test", fn, arg);
    loop_run_until_idle();
}

#endif
