/* Blocking work on libuv's thread pool. */
#include "rt/rt_priv.h"

/* ---- a task waits; this stands on its stack, which stays while it waits */
struct work {
    uv_work_t uv;
    int (*fn)(void *arg);
    void *arg;
    int result;
    int error;
    bool is_done;
    struct task *task;
};

static void work_run(uv_work_t *uv)
{
    struct work *w = CONTAINER_OF(uv, struct work, uv);

    errno = 0;
    w->result = w->fn(w->arg);
    w->error = errno;
}

static void work_done(uv_work_t *uv, UNUSED int status)
{
    struct work *w = CONTAINER_OF(uv, struct work, uv);

    w->is_done = true;
    task_resume(w->task);
}

int offload(int (*fn)(void *arg), void *arg)
{
    struct work w = { .fn = fn, .arg = arg, .task = task_self() };

    if (w.task == NULL)
        return fn(arg);
    CHECK(uv_queue_work(&rt_loop.uv, &w.uv, work_run, work_done) == 0);
    while (!w.is_done)
        (void)task_block(WAIT_FIRM, MSEC_NEVER);
    errno = w.error;
    return w.result;
}

/* ---- nobody waits */
struct bg_work {
    uv_work_t uv;
    int (*fn)(void *arg);
    void (*done)(void *arg, int result);
    void *arg;
    int result;
};

static void bg_run(uv_work_t *uv)
{
    struct bg_work *w = CONTAINER_OF(uv, struct bg_work, uv);

    w->result = w->fn(w->arg);
}

static void bg_done(uv_work_t *uv, UNUSED int status)
{
    struct bg_work *w = CONTAINER_OF(uv, struct bg_work, uv);

    rt_loop.n_background--;
    if (w->done != NULL)
        w->done(w->arg, w->result);
    free(w);
}

void offload_bg(int (*fn)(void *arg), void (*done)(void *arg, int result),
                void *arg)
{
    struct bg_work *w = xcalloc(1, sizeof(*w));

    w->fn = fn;
    w->done = done;
    w->arg = arg;
    rt_loop.n_background++;
    CHECK(uv_queue_work(&rt_loop.uv, &w->uv, bg_run, bg_done) == 0);
}
