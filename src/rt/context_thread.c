/*
 * Threads passing a baton: each task has a thread, and only the one that holds
 * the baton runs.  Slow, but gdb, TSan and valgrind need to know nothing.  Idle
 * threads are kept for the next task, also because PR_SET_PDEATHSIG of a child
 * looks at the thread that forked it.
 */
#include "rt/context.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>

enum { POOL_MAX = 64, STACK_BYTES = 1 << 20 };

struct baton_thread {
    struct baton_thread *next; /* in the pool */
    pthread_t id;
    sem_t baton;
    sigjmp_buf top;
    struct context *c; /* what to run next; NULL: end */
};

static struct baton_thread *pool;
static size_t n_pool;
static struct baton_thread main_thread;

static void baton_take(struct baton_thread *t)
{
    while (sem_wait(&t->baton) < 0)
        CHECK(errno == EINTR);
}

static void baton_give(struct baton_thread *t)
{
    CHECK(sem_post(&t->baton) == 0);
}

static void *thread_main(void *arg)
{
    struct baton_thread *t = arg;

    (void)sigsetjmp(t->top, 0);
    baton_take(t);
    if (t->c != NULL)
        t->c->entry(t->c->arg);
    return NULL;
}

static struct baton_thread *thread_new(void)
{
    struct baton_thread *t = xcalloc(1, sizeof(*t));
    pthread_attr_t attr;

    CHECK(sem_init(&t->baton, 0, 0) == 0);
    CHECK(pthread_attr_init(&attr) == 0);
    CHECK(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    if (pthread_create(&t->id, &attr, thread_main, t) != 0)
        panic("no thread for a task");
    (void)pthread_attr_destroy(&attr);
    return t;
}

static void thread_end(struct baton_thread *t)
{
    t->c = NULL;
    baton_give(t);
    CHECK(pthread_join(t->id, NULL) == 0);
    (void)sem_destroy(&t->baton);
    free(t);
}

void context_main(struct context *c)
{
    memset(c, 0, sizeof(*c));
    CHECK(sem_init(&main_thread.baton, 0, 0) == 0);
    c->thread = &main_thread;
}

void context_make(struct context *c, void (*entry)(void *arg), void *arg)
{
    struct baton_thread *t = pool;

    memset(c, 0, sizeof(*c));
    c->entry = entry;
    c->arg = arg;
    if (t != NULL) {
        pool = t->next;
        n_pool--;
    } else {
        t = thread_new();
    }
    t->c = c;
    c->thread = t;
}

void context_switch(struct context *from, struct context *to)
{
    struct baton_thread *self = from->thread;

    baton_give(to->thread);
    baton_take(self);
}

void context_leave(struct context *from, struct context *to)
{
    struct baton_thread *self = from->thread;

    baton_give(to->thread);
    /* `from` may be freed by now.  The thread waits for its next task. */
    siglongjmp(self->top, 1);
}

void context_free(struct context *c)
{
    struct baton_thread *t = c->thread;

    c->thread = NULL;
    if (t == NULL)
        return;
    if (n_pool >= POOL_MAX) {
        thread_end(t);
        return;
    }
    t->next = pool;
    pool = t;
    n_pool++;
}

void context_pool_drain(void)
{
    while (pool != NULL) {
        struct baton_thread *t = pool;

        pool = t->next;
        thread_end(t);
    }
    n_pool = 0;
}

size_t context_depth(UNUSED const struct context *c)
{
    return 0;
}

void context_backtrace(UNUSED const struct context *c, UNUSED unsigned max,
                       UNUSED void (*fn)(void *arg, uintptr_t pc),
                       UNUSED void *arg)
{
}
