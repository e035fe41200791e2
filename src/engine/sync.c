/*
 * Shared syncs: all tasks that want a file system durable at the same time
 * share one sync.  A sync answers only those who asked before it began, so who
 * comes while one is in flight waits for the next.
 */
#include "engine/engine_priv.h"

#include "rt/file.h"
#include <fcntl.h>

struct sync_group {
    struct list link;
    struct engine *engine;
    uint64_t dev;
    int fd; /* a directory of the file system, ours */
    bool busy;
    struct list waiters; /* struct sync_waiter, for the next sync */
};

struct sync_waiter {
    struct list link;
    struct task *task;
    bool done;
    int result;
    struct err err;
};

struct sync_call {
    int fd;
    int (*fn)(int fd);
};

static int call_run(void *arg)
{
    struct sync_call *c = arg;

    return c->fn(c->fd);
}

static MAY_WAIT int sync_now(struct engine *e, int fd, struct err *err)
{
    struct sync_call call = { fd, file_syncfs };

    if (e->sync_fn != NULL)
        return e->sync_fn(fd, e->sync_arg, err);
    if (offload(call_run, &call) < 0)
        return err_sys(err, "sync the file system");
    return 0;
}

static MAY_WAIT void group_task(void *arg)
{
    struct sync_group *g = arg;

    while (!list_empty(&g->waiters)) {
        struct list now;
        struct err err = { 0 };
        int result;

        list_init(&now);
        for (struct list *l = list_pop(&g->waiters); l != NULL;
             l = list_pop(&g->waiters))
            list_push(&now, l);
        result = sync_now(g->engine, g->fd, &err);
        for (struct list *l = list_pop(&now); l != NULL; l = list_pop(&now)) {
            struct sync_waiter *w = CONTAINER_OF(l, struct sync_waiter, link);

            w->done = true;
            w->result = result;
            w->err = err;
            task_wake(w->task);
        }
    }
    g->busy = false;
}

static struct sync_group *group_of(struct engine_dir *d, struct err *err)
{
    struct engine *e = d->engine;
    struct sync_group *g;
    int fd;

    list_each(l, &e->sync_groups) {
        g = CONTAINER_OF(l, struct sync_group, link);
        if (g->dev == d->dev)
            return g;
    }
    fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        err_sys(err, "duplicate a directory's descriptor");
        return NULL;
    }
    g = xcalloc(1, sizeof *g);
    g->engine = e;
    g->dev = d->dev;
    g->fd = fd;
    list_init(&g->waiters);
    list_push(&e->sync_groups, &g->link);
    return g;
}

enum engine_outcome engine_durable(struct engine_dir *d, msec deadline,
                                   struct err *err)
{
    struct sync_waiter w = { .task = task_self() };
    struct sync_group *g;

    CHECK_OBJ(d, ENGINE_DIR_MAGIC);
    if (!task_inside())
        return sync_now(d->engine, d->fd, err) < 0 ? ENGINE_UNKNOWN : ENGINE_OK;
    g = group_of(d, err);
    if (g == NULL)
        return ENGINE_TRYLATER;
    list_init(&w.link);
    list_push(&g->waiters, &w.link);
    if (!g->busy) {
        g->busy = true;
        (void)task_spawn("engine-sync", group_task, g);
    }
    while (!w.done) {
        if (task_wait(deadline, err) < 0) {
            /* In `waiters` or in the running sync's list: leave either. */
            list_remove(&w.link);
            return ENGINE_UNKNOWN;
        }
    }
    if (w.result < 0) {
        if (err != NULL)
            *err = w.err;
        return ENGINE_UNKNOWN;
    }
    return ENGINE_OK;
}

enum engine_outcome engine_dir_sync(struct engine_dir *d, const char *name,
                                    struct err *err)
{
    const char *path = name[0] == '\0' ? "." : name;
    struct sync_call call = { -1, file_fsync };
    enum engine_outcome o = ENGINE_OK;

    call.fd = openat(d->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (call.fd < 0)
        return engine_fail(err, "open directory %s", path);
    if (offload(call_run, &call) < 0)
        o = engine_fail(err, "sync directory %s", path);
    close_fd(&call.fd);
    return o;
}

void engine_free(struct engine **ep)
{
    struct engine *e = *ep;

    if (e == NULL)
        return;
    CHECK_OBJ(e, ENGINE_MAGIC);
    for (struct list *l = list_pop(&e->sync_groups); l != NULL;
         l = list_pop(&e->sync_groups)) {
        struct sync_group *g = CONTAINER_OF(l, struct sync_group, link);

        CHECK(!g->busy);
        close_fd(&g->fd);
        free(g);
    }
    CHECK(e->watched.n == 0);
    imap_done(&e->watched);
    fd_watch_free(&e->inotify);
    close_fd(&e->inotify_fd);
    e->magic = 0;
    free(e);
    *ep = NULL;
}
