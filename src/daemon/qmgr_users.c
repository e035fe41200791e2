/*
 * The queue for ordinary users: they may look at it and flush it where
 * authorized_mailq_users and authorized_flush_users say so.  They come by a
 * socket of their own and are known by its credentials; everything else is
 * asked over the control socket, which is root's and the owner's.
 */
#include "daemon/fed.h"
#include "daemon/qmgr_ops.h"

#include "ipc/ipc.h"
#include "rt/rt.h"
#include "table/table.h"

/* Who does not ask gives his place to others. */
#define SILENT_MS   60000
#define CLIENTS_MAX 200
#define PER_USER    20

struct acl {
    struct table_match *view, *flush;
    unsigned n_users;
};

struct client {
    struct list link;
    struct chan *chan;
    struct timer silence;
    uid_t uid;
};

static struct {
    struct acl *acl;
    struct queue *queue;
    struct list clients;
    struct list ears;
} users;

struct ear {
    struct list link;
    struct listener *listener;
    int fd;
};

/* --------------------------------------------------------------- who may what
 */

static void acl_unref(struct acl *a)
{
    if (a == NULL || --a->n_users > 0)
        return;
    table_match_free(&a->view);
    table_match_free(&a->flush);
    free(a);
}

int qmgr_users_set(struct conf *c, struct err *err)
{
    struct tables *t = fed_tables();
    struct acl *a = xcalloc(1, sizeof *a);

    a->n_users = 1;
    if (table_match_new(t, c, NULL, "authorized_mailq_users", &a->view, err) <
            0 ||
        table_match_new(t, c, NULL, "authorized_flush_users", &a->flush, err) <
            0) {
        acl_unref(a);
        return -1;
    }
    acl_unref(users.acl);
    users.acl = a;
    return 0;
}

/* As in Postfix, root and the owner of the mail system may in any case. */
MAY_WAIT static int check(uid_t uid, bool is_flush, struct err *err)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    struct acl *acl = users.acl;
    slice name = SLICE_NONE;
    bool ok = false;
    int rc;

    if (uid == 0 || uid == geteuid())
        return 0;
    a = arena_new(1u << 20);
    acl->n_users++;
    rc = tables_user_matches(fed_tables(), is_flush ? acl->flush : acl->view,
                             uid, a, &name, &ok, err);
    acl_unref(acl);
    if (rc < 0)
        return -1;
    return ok ? 0
              : err_perm(err, "User %.*s(%ld) is not allowed to %s",
                         SLF(slice_sub(name, 0, 100)), (long)uid,
                         is_flush ? "flush the mail queue"
                                  : "view the mail queue");
}

/* ------------------------------------------------------------------ requests
 */

static void client_free(struct client *c)
{
    list_remove(&c->link);
    timer_cancel(&c->silence);
    chan_free(&c->chan);
    free(c);
}

static void on_silence(struct timer *t)
{
    client_free(CONTAINER_OF(t, struct client, silence));
}

MAY_WAIT static void serve(struct chan *chan, struct msg *m, void *arg)
{
    struct client *c = arg;
    bool is_flush = m->type == QUEUE_FLUSH;
    struct err err;

    /* A list that is long, or a reader who is slow, has its own limits. */
    timer_cancel(&c->silence);
    if (users.queue == NULL)
        (void)err_temp(&err, "the queue is not open");
    else if (!is_flush && m->type != QUEUE_LIST)
        (void)err_perm(&err, "only the queue's owner and root may do that");
    else if (check(c->uid, is_flush, &err) == 0 && users.queue != NULL) {
        queue_serve(users.queue, chan, m);
        err.class = ERR_NONE;
    }
    if (err.class != ERR_NONE)
        chan_fail(chan, m->id, &err);
    if (chan_is_open(chan)) /* else the client is gone */
        timer_set(&c->silence, clock_after(SILENT_MS), on_silence);
}

static void on_close(struct chan *chan, void *arg)
{
    (void)chan;
    client_free(arg);
}

static size_t count(uid_t uid)
{
    size_t n = 0;

    list_each(it, &users.clients)
        n += uid == (uid_t)-1 ||
             CONTAINER_OF(it, struct client, link)->uid == uid;
    return n;
}

static void accepted(int fd, const struct peer_addr *peer, void *arg)
{
    static const struct chan_ops ops = { .serve = serve,
                                         .max_tasks = 1,
                                         .on_close = on_close };
    struct client *c;

    (void)arg;
    if (users.queue == NULL || peer->uid == (uid_t)-1 ||
        count((uid_t)-1) >= CLIENTS_MAX || count(peer->uid) >= PER_USER) {
        close(fd);
        return;
    }
    c = xcalloc(1, sizeof *c);
    c->uid = peer->uid;
    list_push(&users.clients, &c->link);
    timer_set(&c->silence, clock_after(SILENT_MS), on_silence);
    c->chan = chan_new(fd, &ops, c);
}

/* ------------------------------------------------------------------- its life
 */

void qmgr_users_open(struct queue *q)
{
    list_init(&users.clients);
    list_init(&users.ears);
    users.queue = q;
}

void qmgr_users_listen(const struct process_listener *l)
{
    struct ear *e = xcalloc(1, sizeof *e);

    e->fd = l->fd;
    e->listener = listener_new(l->fd, accepted, NULL);
    list_push(&users.ears, &e->link);
}

void qmgr_users_deafen(void)
{
    struct list *it;

    while ((it = list_pop(&users.ears)) != NULL) {
        struct ear *e = CONTAINER_OF(it, struct ear, link);

        listener_free(&e->listener);
        close(e->fd);
        free(e);
    }
}

void qmgr_users_close(void)
{
    users.queue = NULL;
    qmgr_users_deafen();
    list_each_safe(it, tmp, &users.clients)
        client_free(CONTAINER_OF(it, struct client, link));
}
