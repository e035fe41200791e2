#ifndef RT_TASK_H
#define RT_TASK_H

/*
 * Tasks: stackful coroutines on the process's one loop.  Three back ends
 * behind one face: own assembly (x86-64, aarch64), ucontext, and threads
 * passing a baton (for gdb, TSan, valgrind); chosen when building
 * (-Dtask_backend=asm|ucontext|thread).
 *
 * States:  READY --run--> RUNNING --wait--> WAITING --wake/cancel/deadline-->
 * READY; RUNNING --return--> gone (its stack goes back to the pool).
 */
#include "base/base.h"
#include "base/clock.h"

struct task;
typedef void task_fn(void *arg);

/* Start fn(arg) as a task named `name` (a literal); it runs in this turn of the
 * loop, after the caller waits or returns to the loop. */
struct task *task_spawn(const char *name, task_fn *fn, void *arg);
struct task *task_self(void); /* NULL outside any task */
bool task_inside(void);
/* Let others run, come back in this turn or the next. */
MAY_WAIT void task_yield(void);
/* Has it run for more than 5 ms since its last wait? */
bool task_is_long(void);
/* Yield if this task has run for more than 5 ms since its last wait. */
MAY_WAIT void task_yield_if_long(void);
MAY_WAIT int task_sleep(msec ms, struct err *err);
/* The task's current or next wait returns -1 with ERR_PEER.  Sticky: every
 * later wait does too, until task_uncancel() in the task itself. */
void task_cancel(struct task *t);
void task_uncancel(void);
bool task_is_cancelled(void);
/* The number of live tasks. */
size_t task_count(void);

/* The primitive under all waits.  task_wait() parks the current task until
 * task_wake(), the deadline (-1, ERR_TEMP) or cancel (-1, ERR_PEER).  A wake
 * of a task that does not wait is remembered once. */
MAY_WAIT int task_wait(msec deadline, struct err *err);
void task_wake(struct task *t);

/* A queue of waiting tasks; zero-init with waitq_init. */
struct waitq {
    struct list waiters;
};

void waitq_init(struct waitq *q);
MAY_WAIT int waitq_wait(struct waitq *q, msec deadline, struct err *err);
bool waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);

/* A counting semaphore: a bound on what runs at once. */
struct sema {
    unsigned n;
    struct waitq q;
};

void sema_init(struct sema *s, unsigned n);
MAY_WAIT int sema_down(struct sema *s, msec deadline, struct err *err);
void sema_up(struct sema *s);

/* Asserts at run time that nothing between begin and end waits. */
void no_wait_begin(void);
void no_wait_end(void);

/* For tests: run ready tasks in an order drawn from `seed` (0: FIFO). */
void task_schedule_seed(uint64_t seed);

#endif
