/* Queues of waiting tasks, and semaphores. */
#include "rt/rt_priv.h"

/* On the stack of the task that waits. */
struct waiter {
    struct list link;
    struct task *task;
    bool is_woken;
};

void waitq_init(struct waitq *q)
{
    list_init(&q->waiters);
}

int waitq_wait(struct waitq *q, msec deadline, struct err *err)
{
    struct waiter w = { .task = task_self() };

    list_push(&q->waiters, &w.link);
    for (;;) {
        enum wait_end end = task_block(WAIT_WAKE, deadline);

        /* A wake that was meant for us counts even if the deadline or a
         * cancel came in the same turn: otherwise it would be lost for the
         * others. */
        if (w.is_woken)
            return 0;
        if (end != WAIT_WOKEN) {
            list_remove(&w.link);
            return wait_result(end, err);
        }
    }
}

bool waitq_wake_one(struct waitq *q)
{
    struct list *e = list_pop(&q->waiters);
    struct waiter *w;

    if (e == NULL)
        return false;
    w = CONTAINER_OF(e, struct waiter, link);
    w->is_woken = true;
    task_wake(w->task);
    return true;
}

void waitq_wake_all(struct waitq *q)
{
    while (waitq_wake_one(q))
        continue;
}

void sema_init(struct sema *s, unsigned n)
{
    s->n = n;
    waitq_init(&s->q);
}

int sema_down(struct sema *s, msec deadline, struct err *err)
{
    if (s->n > 0) {
        s->n--;
        return 0;
    }
    /* sema_up() hands its unit to the waiter that it wakes. */
    return waitq_wait(&s->q, deadline, err);
}

void sema_up(struct sema *s)
{
    if (!waitq_wake_one(&s->q))
        s->n++;
}
