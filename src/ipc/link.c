#include "ipc/process.h"
#include "ipc/proto.h"
#include "rt/rt.h"

/* How long one attempt to get a connection from master may take. */
#define CONNECT_MS 5000

/* A channel whose peer said goodbye: it stays for its last answers. */
struct leaving {
    struct list link;
    struct chan *chan;
};

struct link {
    uint32_t magic;
    struct process *p;
    enum ptype to;
    unsigned slot;
    bool is_lazy;
    struct chan_ops ops; /* ours, around the user's */
    const struct chan_ops *user;
    void *arg;
    void (*on_up)(struct link *l, void *arg);
    struct chan *chan;
    struct list leaving;
    struct waitq up;
    struct task *connecting;
    bool is_freed;
};

#define LINK_MAGIC MAGIC('L', 'I', 'N', 'K')

MAY_WAIT static void connect_task(void *arg)
{
    struct link *l = arg;
    struct err err;
    int fd;

    while (!l->is_freed && l->chan == NULL && chan_is_open(l->p->master)) {
        if (process_connect_slot(l->p, l->to, l->slot, clock_after(CONNECT_MS),
                                 &fd, &err) < 0) {
            if (task_sleep(100, &err) < 0)
                break;
            continue;
        }
        if (l->is_freed) {
            close(fd);
            break;
        }
        l->chan = chan_new(fd, &l->ops, l);
        if (l->on_up != NULL)
            l->on_up(l, l->arg);
        waitq_wake_all(&l->up);
    }
    l->connecting = NULL;
    if (l->is_freed)
        free(l);
}

static void connect_again(struct link *l)
{
    if (l->connecting == NULL && !l->is_freed)
        l->connecting = task_spawn("link", connect_task, l);
}

/* Close the leaving channels that owe us nothing any more. */
static void reap(struct link *l)
{
    list_each_safe(it, tmp, &l->leaving) {
        struct leaving *old = CONTAINER_OF(it, struct leaving, link);

        if (chan_is_open(old->chan) && chan_pending(old->chan) > 0)
            continue;
        list_remove(&old->link);
        chan_free(&old->chan);
        free(old);
    }
}

static void link_msg(struct chan *c, struct msg *m, void *arg)
{
    struct link *l = arg;

    l->user->on_msg(c, m, l->arg);
}

static void link_serve(struct chan *c, struct msg *m, void *arg)
{
    struct link *l = arg;

    l->user->serve(c, m, l->arg);
}

static void link_close(struct chan *c, void *arg)
{
    struct link *l = arg;

    if (c != l->chan) { /* a leaving one */
        reap(l);
        return;
    }
    if (l->user != NULL && l->user->on_close != NULL)
        l->user->on_close(c, l->arg);
    chan_free(&l->chan);
    if (!l->is_lazy || !list_empty(&l->up.waiters))
        connect_again(l);
}

static void link_bye(struct chan *c, void *arg)
{
    struct link *l = arg;
    struct leaving *old;

    if (c != l->chan)
        return;
    old = xcalloc(1, sizeof *old);
    old->chan = l->chan;
    l->chan = NULL;
    list_push(&l->leaving, &old->link);
    reap(l);
    if (!l->is_lazy)
        connect_again(l);
}

static struct link *make(struct process *p, enum ptype to,
                         const struct chan_ops *ops, void *arg,
                         void (*on_up)(struct link *l, void *arg))
{
    struct link *l = xcalloc(1, sizeof *l);

    l->magic = LINK_MAGIC;
    l->p = p;
    l->to = to;
    l->user = ops;
    l->arg = arg;
    l->on_up = on_up;
    if (ops != NULL && ops->on_msg != NULL)
        l->ops.on_msg = link_msg;
    else if (ops != NULL && ops->serve != NULL)
        l->ops.serve = link_serve;
    l->ops.max_tasks = ops != NULL ? ops->max_tasks : 0;
    l->ops.on_close = link_close;
    l->ops.on_bye = link_bye;
    list_init(&l->leaving);
    waitq_init(&l->up);
    return l;
}

struct link *link_new(struct process *p, enum ptype to,
                      const struct chan_ops *ops, void *arg,
                      void (*on_up)(struct link *l, void *arg))
{
    struct link *l = make(p, to, ops, arg, on_up);

    connect_again(l);
    return l;
}

struct link *link_new_lazy(struct process *p, enum ptype to, unsigned slot,
                           const struct chan_ops *ops, void *arg,
                           void (*on_up)(struct link *l, void *arg))
{
    struct link *l = make(p, to, ops, arg, on_up);

    l->is_lazy = true;
    l->slot = slot;
    return l;
}

/* NOLINTNEXTLINE(readability-function-size): as chan_call() */
int link_call(struct link *l, uint16_t type, slice body, const int *fds,
              size_t n_fds, msec deadline, struct msg *answer_out,
              struct err *err)
{
    int rc;

    CHECK_OBJ(l, LINK_MAGIC);
    while (l->chan == NULL) {
        connect_again(l);
        if (waitq_wait(&l->up, deadline, err) < 0)
            return err_prefix(err, "no connection to %s", ptype_name(l->to));
    }
    rc = chan_call(l->chan, type, body, fds, n_fds, deadline, answer_out, err);
    reap(l);
    if (rc < 0)
        err_prefix(err, "%s", proto_name(type));
    return rc;
}

int link_send(struct link *l, uint16_t type, slice body, const int *fds,
              size_t n_fds, struct err *err)
{
    CHECK_OBJ(l, LINK_MAGIC);
    if (l->chan == NULL)
        return err_temp(err, "no connection to %s", ptype_name(l->to));
    return chan_send(l->chan, type, body, fds, n_fds, err);
}

struct chan *link_chan(struct link *l)
{
    return l->chan;
}

void link_free(struct link **lp)
{
    struct link *l = *lp;

    if (l == NULL)
        return;
    *lp = NULL;
    CHECK_OBJ(l, LINK_MAGIC);
    chan_free(&l->chan);
    list_each_safe(it, tmp, &l->leaving) {
        struct leaving *old = CONTAINER_OF(it, struct leaving, link);

        list_remove(&old->link);
        chan_free(&old->chan);
        free(old);
    }
    l->is_freed = true;
    if (l->connecting != NULL)
        task_cancel(l->connecting);
    else
        free(l);
}
