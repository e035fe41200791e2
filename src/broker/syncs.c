#include "base/map.h"
#include "broker/broker_priv.h"
#include "rt/file.h"
#include "rt/rt.h"

#define FS_MAX 64 /* file systems with mail on them */
/* How long to wait for a worker to say where an unknown file system is: its
 * word and the question come by different ways. */
#define UNKNOWN_MS 5000
/* From the start of one sync to the start of the next on a file system at
 * least: nobody whose message is safe in the spool hurries, and each sync costs
 * the whole machine.  The first one after a pause begins at once, and so does
 * one for which a client waits. */
#define PACE_MS 50

/* One who waits for a sync; on the stack of his task. */
struct waiter {
    struct list link;
    struct task *task;
    bool is_done;
    int code; /* errno of the sync */
};

struct fs {
    struct imap_node node;
    struct syncs *owner;
    int fd; /* -1: not told yet */
    bool is_running;
    bool is_hurried; /* of those who wait somebody has a client waiting */
    msec began;      /* the last sync */
    struct timer pace;
    struct list waiting; /* came after the running sync began */
    struct list sharing; /* came before */
    struct waitq told;
    uint64_t n_syncs, n_served, n_failed;
    uint64_t good_from; /* a generation: what was written before is in doubt */
    int code;           /* set by the thread */
};

struct syncs {
    struct imap all;
    int (*fd_sync)(int fd);
    uint64_t generation, first_generation;
};

struct syncs *syncs_new(int (*fd_sync)(int fd))
{
    struct syncs *s = xcalloc(1, sizeof *s);

    imap_init(&s->all);
    /* Above any that an earlier broker told: what it did not see to the end is
     * in doubt too. */
    s->generation = (uint64_t)clock_wall_usec();
    s->first_generation = s->generation;
    s->fd_sync = fd_sync != NULL ? fd_sync : file_syncfs;
    return s;
}

void syncs_free(struct syncs **sp)
{
    struct syncs *s = *sp;
    struct imap_node *n = NULL;
    size_t pos = 0;

    if (s == NULL)
        return;
    *sp = NULL;
    while ((n = imap_next(&s->all, &pos, n)) != NULL) {
        struct fs *f = CONTAINER_OF(n, struct fs, node);

        CHECK(!f->is_running && list_empty(&f->waiting));
        imap_del(&s->all, n);
        timer_cancel(&f->pace);
        close_fd(&f->fd);
        free(f);
        n = NULL;
        pos = 0;
    }
    imap_done(&s->all);
    free(s);
}

static struct fs *get_fs(struct syncs *s, uint64_t dev)
{
    struct imap_node *n = imap_get(&s->all, dev);
    struct fs *f;

    if (n != NULL)
        return CONTAINER_OF(n, struct fs, node);
    if (s->all.n >= FS_MAX)
        return NULL;
    f = xcalloc(1, sizeof *f);
    f->owner = s;
    f->fd = -1;
    f->good_from = s->first_generation;
    list_init(&f->waiting);
    list_init(&f->sharing);
    waitq_init(&f->told);
    imap_put(&s->all, &f->node, dev);
    return f;
}

void syncs_tell(struct syncs *s, uint64_t dev, int fd)
{
    struct fs *f = get_fs(s, dev);

    if (f == NULL || f->fd >= 0) {
        close(fd);
        return;
    }
    f->fd = fd;
    waitq_wake_all(&f->told);
}

/* On a pool thread. */
static int sync_now(void *arg)
{
    struct fs *f = arg;

    f->code = f->owner->fd_sync(f->fd) < 0 ? errno : 0;
    return 0;
}

static void begin_soon(struct fs *f);

static void answer_all(struct fs *f, struct list *waiters)
{
    struct list *e;

    while ((e = list_pop(waiters)) != NULL) {
        struct waiter *w = CONTAINER_OF(e, struct waiter, link);

        w->is_done = true;
        w->code = f->code;
        f->n_served++;
        task_wake(w->task);
    }
}

static void sync_done(void *arg, int result UNUSED)
{
    struct fs *f = arg;

    f->is_running = false;
    answer_all(f, &f->sharing);
    /* Invariant 2: what was written before this moment may be lost, and the
     * next sync would not say so. */
    if (f->code != 0) {
        f->n_failed++;
        f->good_from = ++f->owner->generation;
        answer_all(f, &f->waiting);
    }
    if (!list_empty(&f->waiting))
        begin_soon(f);
}

/* Invariant 2 of broker.h: only who asked before this moment shares it. */
static void begin(struct fs *f)
{
    struct list *e;

    while ((e = list_pop(&f->waiting)) != NULL)
        list_push(&f->sharing, e);
    f->is_running = true;
    f->is_hurried = false;
    f->began = clock_mono();
    f->n_syncs++;
    offload_bg(sync_now, sync_done, f);
}

static void on_pace(struct timer *t)
{
    struct fs *f = CONTAINER_OF(t, struct fs, pace);

    if (!f->is_running && !list_empty(&f->waiting))
        begin(f);
}

static void begin_soon(struct fs *f)
{
    if (f->is_running || (timer_is_set(&f->pace) && !f->is_hurried))
        return;
    if (f->is_hurried)
        timer_cancel(&f->pace);
    if (f->is_hurried || f->n_syncs == 0 || clock_mono() - f->began >= PACE_MS)
        begin(f);
    else
        timer_set(&f->pace, f->began + PACE_MS, on_pace);
}

uint64_t syncs_generation(const struct syncs *s)
{
    return s->generation;
}

int syncs_wait(struct syncs *s, uint64_t dev, uint64_t since, bool hurry,
               msec deadline, struct err *err)
{
    struct fs *f = get_fs(s, dev);
    struct waiter w = { .task = task_self() };
    msec until = clock_after(UNKNOWN_MS);

    if (f == NULL)
        return err_temp(err, "more than %d file systems with mail", FS_MAX);
    while (f->fd < 0)
        if (waitq_wait(&f->told, until < deadline ? until : deadline, err) < 0)
            return err_temp(err,
                            "no worker told of file system %" PRIx64 " to sync",
                            dev);
    if (since < f->good_from)
        return err_temp(err,
                        "a sync of file system %" PRIx64
                        " failed since this was written",
                        dev);
    list_push(&f->waiting, &w.link);
    f->is_hurried = f->is_hurried || hurry;
    begin_soon(f);
    while (!w.is_done)
        if (task_wait(deadline, err) < 0 && !w.is_done) {
            list_remove(&w.link);
            return err_prefix(err, "sync of file system %" PRIx64, dev);
        }
    if (w.code != 0) {
        errno = w.code;
        return err_sys(err, "sync of file system %" PRIx64, dev);
    }
    return 0;
}

void syncs_dump(struct syncs *s, struct buf *out)
{
    struct imap_node *n = NULL;
    size_t pos = 0;

    while ((n = imap_next(&s->all, &pos, n)) != NULL) {
        const struct fs *f = CONTAINER_OF(n, struct fs, node);

        buf_printf(out,
                   "fs %" PRIx64 ": %" PRIu64 " syncs for %" PRIu64 ", %" PRIu64
                   " failed%s\n",
                   n->key, f->n_syncs, f->n_served, f->n_failed,
                   f->is_running ? ", one running" : "");
    }
}
