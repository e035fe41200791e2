/*
 * Blocking work on a pool of threads.
 *
 *     queued --(a thread)--> running --> finished --(the loop)--> done
 *
 * Not libuv's pool: a sync is on the way of every few messages, and hearing of
 * its end through libuv's own epoll cost more than the rest of the hand-over.
 * Threads start when there is more work than idle threads, and stay.  The loop
 * is told through an eventfd that is never read: it is watched for edges.
 */
#include "rt/rt_priv.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

enum { THREADS_MAX = 64, STACK_SIZE = 1 << 20 };

struct work {
    struct work *next;
    int (*fn)(void *arg);
    void *arg;
    int result;
    int error;
    void (*end)(struct work *w); /* in the loop */
};

struct queue {
    struct work *first;
    struct work *last;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock */
    struct queue waiting;
    struct queue finished;
    unsigned n_idle;
    bool is_told; /* of what is finished */
    bool is_ending;
    /* of the loop */
    struct source source;
    int event_fd;
    pthread_t threads[THREADS_MAX];
    unsigned n_threads;
    unsigned max_threads;
} pool;

static void queue_put(struct queue *q, struct work *w)
{
    w->next = NULL;
    if (q->first == NULL)
        q->first = w;
    else
        q->last->next = w;
    q->last = w;
}

static struct work *queue_take(struct queue *q)
{
    struct work *w = q->first;

    if (w != NULL)
        q->first = w->next;
    return w;
}

/* ---- in the threads */

static void tell_loop(void)
{
    const uint64_t one = 1;

    while (write(pool.event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void *thread_main(UNUSED void *arg)
{
    struct work *w;
    bool must_tell;

    (void)pthread_mutex_lock(&pool.lock);
    for (;;) {
        while ((w = queue_take(&pool.waiting)) == NULL && !pool.is_ending) {
            pool.n_idle++;
            (void)pthread_cond_wait(&pool.wake, &pool.lock);
            pool.n_idle--;
        }
        if (w == NULL)
            break;
        (void)pthread_mutex_unlock(&pool.lock);
        errno = 0;
        w->result = w->fn(w->arg);
        w->error = errno;
        (void)pthread_mutex_lock(&pool.lock);
        queue_put(&pool.finished, w);
        must_tell = !pool.is_told;
        pool.is_told = true;
        if (must_tell) {
            (void)pthread_mutex_unlock(&pool.lock);
            tell_loop();
            (void)pthread_mutex_lock(&pool.lock);
        }
    }
    (void)pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* ---- in the loop */

static void on_finished(UNUSED struct source *src, UNUSED uint32_t events)
{
    struct work *w;

    (void)pthread_mutex_lock(&pool.lock);
    w = pool.finished.first;
    pool.finished.first = NULL;
    pool.is_told = false;
    (void)pthread_mutex_unlock(&pool.lock);
    while (w != NULL) {
        struct work *next = w->next; /* w is gone after its end */

        w->end(w);
        w = next;
    }
}

/* Signals are the loop's.  Without a first thread nothing would ever be done;
 * without a further one it is done later. */
static void start_thread(void)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t before;
    int rc;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
    rc =
        pthread_create(&pool.threads[pool.n_threads], &attr, thread_main, NULL);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pool.n_threads++;
    else if (pool.n_threads == 0)
        panic("cannot start a thread: %s", strerror(rc));
}

static void submit(struct work *w)
{
    bool needs_thread;

    CHECK(rt_loop.is_open);
    (void)pthread_mutex_lock(&pool.lock);
    /* Idle threads that were woken and have not run yet are counted as idle:
     * then one too few starts, and this work waits for the next that ends. */
    needs_thread = pool.n_idle == 0 || pool.waiting.first != NULL;
    queue_put(&pool.waiting, w);
    if (pool.n_idle > 0)
        (void)pthread_cond_signal(&pool.wake);
    (void)pthread_mutex_unlock(&pool.lock);
    if (needs_thread && pool.n_threads < pool.max_threads)
        start_thread();
}

void offload_open(unsigned n_threads)
{
    memset(&pool, 0, sizeof(pool)); /* a forked child's threads are gone */
    CHECK(pthread_mutex_init(&pool.lock, NULL) == 0);
    CHECK(pthread_cond_init(&pool.wake, NULL) == 0);
    pool.max_threads = n_threads < THREADS_MAX ? n_threads : THREADS_MAX;
    pool.source.fn = on_finished;
    pool.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool.event_fd < 0 ||
        source_add(pool.event_fd, EPOLLIN | EPOLLET, &pool.source) < 0)
        panic("no eventfd for the pool of threads: %s", strerror(errno));
}

void offload_close(void)
{
    (void)pthread_mutex_lock(&pool.lock);
    pool.is_ending = true;
    (void)pthread_cond_broadcast(&pool.wake);
    (void)pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < pool.n_threads; i++)
        (void)pthread_join(pool.threads[i], NULL);
    pool.n_threads = 0;
    source_del(pool.event_fd, &pool.source);
    (void)close(pool.event_fd);
    (void)pthread_cond_destroy(&pool.wake);
    (void)pthread_mutex_destroy(&pool.lock);
}

void offload_forget(void)
{
    (void)close(pool.event_fd);
}

/* ---- a task waits; this stands on its stack, which stays while it waits */

struct wait {
    struct work work;
    bool is_done;
    struct task *task;
};

static void wait_end(struct work *work)
{
    struct wait *w = CONTAINER_OF(work, struct wait, work);

    w->is_done = true;
    task_resume(w->task);
}

int offload(int (*fn)(void *arg), void *arg)
{
    struct wait w = { .work = { .fn = fn, .arg = arg, .end = wait_end },
                      .task = task_self() };

    if (w.task == NULL)
        return fn(arg);
    submit(&w.work);
    while (!w.is_done)
        (void)task_block(WAIT_FIRM, MSEC_NEVER);
    errno = w.work.error;
    return w.work.result;
}

/* ---- nobody waits */

struct background {
    struct work work;
    void (*done)(void *arg, int result);
};

static void background_end(struct work *work)
{
    struct background *b = CONTAINER_OF(work, struct background, work);

    rt_loop.n_background--;
    if (b->done != NULL)
        b->done(b->work.arg, b->work.result);
    free(b);
}

void offload_bg(int (*fn)(void *arg), void (*done)(void *arg, int result),
                void *arg)
{
    struct background *b = xcalloc(1, sizeof(*b));

    b->work = (struct work){ .fn = fn, .arg = arg, .end = background_end };
    b->done = done;
    rt_loop.n_background++;
    submit(&b->work);
}
