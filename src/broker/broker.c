#include "broker/broker.h"
#include "base/digest.h"
#include "base/map.h"
#include "broker/broker_priv.h"
#include "rt/rt.h"

#include <sys/socket.h>

#define WORKERS_MAX  500
#define REQUESTS_MAX 2000 /* waiting at once, of one peer */
#define FORK_MS      20000
#define SLOTS_MAX    64

#define BROKER_MAGIC MAGIC('B', 'R', 'O', 'K')

static void worker_msg(struct chan *c, struct msg *m, void *arg);
static void worker_closed(struct chan *c, void *arg);

static const struct chan_ops worker_chan_ops = {
    .on_msg = worker_msg,
    .on_close = worker_closed,
};

/* ----------------------------------------------------------------- workers */

static void forget(struct entry *e)
{
    map_del(&e->b->workers, &e->node);
    chan_free(&e->chan);
    sessions_worker_gone(e);
    waitq_wake_all(&e->b->changed);
    if (e->b->is_draining && e->b->workers.n == 0)
        process_exit(e->b->p, 0);
    free(e);
}

static void worker_closed(struct chan *c UNUSED, void *arg)
{
    forget(arg);
}

static void retire(struct entry *e)
{
    if (e->state != READY)
        return;
    e->state = RETIRING;
    if (chan_send(e->chan, WORKER_RETIRE, SLICE_NONE, NULL, 0, NULL) < 0)
        log_warning("worker %s cannot be retired", e->key);
}

/* ------------------------------------------------------------ shared syncs */

MAY_WAIT static void sync_fs(struct broker *b, struct chan *c, struct msg *m)
{
    struct buf body;
    struct err err;
    uint64_t dev;

    if (!attr_find_u64(m->body, AT_FSID, &dev)) {
        err_temp(&err, "a sync of no file system");
        chan_fail(c, m->id, &err);
        return;
    }
    /* The operator said that durability is not wanted. */
    buf_init(&body, 1024);
    if (strcmp(conf_str(b->p->conf, NULL, "mail_fsync"), "never") != 0 &&
        syncs_wait(b->syncs, dev,
                   attr_u64_or(m->body, AT_GENERATION, UINT64_MAX),
                   (attr_u64_or(m->body, AT_FLAGS, 0) & 1) != 0,
                   clock_after(REQUEST_MS), &err) < 0) {
        log_error("%s", err.log);
        attr_put_str(&body, AT_LOGTEXT, err.log);
    }
    attr_put_u64(&body, AT_GENERATION, syncs_generation(b->syncs));
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

struct sync_call {
    struct broker *b;
    struct chan *chan;
    struct msg *msg;
};

MAY_WAIT static void sync_task(void *arg)
{
    struct sync_call *call = arg;

    sync_fs(call->b, call->chan, call->msg);
    call->b->n_worker_syncs--;
    chan_unref(&call->chan);
    msg_delete(&call->msg);
    free(call);
}

static void sync_of_worker(struct entry *e, struct msg *m)
{
    struct sync_call *call;
    struct err err;

    if (e->b->n_worker_syncs >= REQUESTS_MAX) {
        err_temp(&err, "too many syncs wait");
        chan_fail(e->chan, m->id, &err);
        return;
    }
    call = xcalloc(1, sizeof *call);
    call->b = e->b;
    call->chan = chan_ref(e->chan);
    call->msg = msg_take(m);
    e->b->n_worker_syncs++;
    task_spawn("sync", sync_task, call);
}

static void worker_msg(struct chan *c UNUSED, struct msg *m, void *arg)
{
    struct entry *e = arg;
    uint64_t dev;

    if (m->type == WORKER_FS && m->n_fds == 1 &&
        attr_find_u64(m->body, AT_FSID, &dev)) {
        syncs_tell(e->b->syncs, dev, m->fds[0]);
        m->fds[0] = -1;
    } else if (m->type == WORKER_IDLE) {
        /* What was handed out since it said so is on its way to it. */
        if (attr_u64_or(m->body, AT_SEQ, 0) == e->n_given &&
            e->n_sessions <= KEPT_MAX)
            retire(e);
    } else if (m->type == WORKER_SYNC) {
        sync_of_worker(e, m);
    } else {
        sessions_worker_msg(e, m);
    }
}

/* Make room for one more: the worker that was used longest ago goes. */
static void retire_oldest(struct broker *b)
{
    struct map_node *n = NULL;
    struct entry *oldest = NULL;
    size_t pos = 0;

    while ((n = map_next(&b->workers, &pos, n)) != NULL) {
        struct entry *e = CONTAINER_OF(n, struct entry, node);

        if (e->state == RETIRING)
            return; /* room is on its way */
        /* Nobody is signed out to make room. */
        if (e->state == READY && e->n_sessions == 0 &&
            (oldest == NULL || e->last_used < oldest->last_used))
            oldest = e;
    }
    if (oldest != NULL)
        retire(oldest);
}

MAY_WAIT static int fork_worker(struct broker *b, const struct entry *e, int fd,
                                pid_t *pid_out, struct err *err)
{
    struct buf body;
    struct msg answer;
    int rc;

    buf_init(&body, 256);
    attr_put_u64(&body, AT_UID, e->uid);
    attr_put_u64(&body, AT_GID, e->gid);
    attr_put(&body, AT_KIND, e->kind);
    rc = link_call(b->template, TEMPLATE_FORK, buf_view(&body), &fd, 1,
                   clock_after(FORK_MS), &answer, err);
    buf_done(&body);
    if (rc < 0)
        return -1;
    *pid_out = (pid_t)attr_u64_or(answer.body, AT_PID, 0);
    msg_free(&answer);
    return 0;
}

/* Before it writes anything: what a sync that fails from now on puts in doubt.
 */
static void tell_generation(struct entry *e)
{
    struct buf b;

    buf_init(&b, 64);
    attr_put_u64(&b, AT_GENERATION, syncs_generation(e->b->syncs));
    (void)chan_send(e->chan, WORKER_GENERATION, buf_view(&b), NULL, 0, NULL);
    buf_done(&b);
}

/* A new worker for `key`; it is in the map, STARTING, until the fork. */
MAY_WAIT static int start_worker(struct broker *b, const struct entry *wanted,
                                 struct err *err)
{
    struct entry *e = xcalloc(1, sizeof *e);
    pid_t pid = 0;
    int fds[2];

    *e = *wanted;
    e->kind = slice_str(worker_kind(wanted->kind));
    if (chan_socketpair(fds, err) < 0) {
        free(e);
        return -1;
    }
    e->b = b;
    e->state = STARTING;
    e->last_used = loop_now();
    list_init(&e->sessions);
    map_put(&b->workers, &e->node, slice_str(e->key));
    if (fork_worker(b, e, fds[1], &pid, err) < 0) {
        close(fds[0]);
        close(fds[1]);
        forget(e);
        return -1;
    }
    close(fds[1]);
    e->pid = pid;
    e->state = READY;
    e->chan = chan_new(fds[0], &worker_chan_ops, e);
    tell_generation(e);
    if (b->is_draining)
        retire(e);
    waitq_wake_all(&b->changed);
    return 0;
}

/* The worker for `wanted`, made when there is none; NULL with err. */
MAY_WAIT struct entry *broker_get_worker(struct broker *b,
                                         const struct entry *wanted,
                                         struct err *err)
{
    msec deadline = clock_after(REQUEST_MS);

    for (;;) {
        struct map_node *n = map_get(&b->workers, slice_str(wanted->key));
        struct entry *e = n ? CONTAINER_OF(n, struct entry, node) : NULL;

        if (b->is_draining) {
            err_temp(err, "the mail system is going down");
            return NULL;
        }
        if (e != NULL && e->state == READY)
            return e;
        if (e == NULL && b->workers.n < WORKERS_MAX) {
            if (start_worker(b, wanted, err) < 0)
                return NULL;
            continue;
        }
        if (e == NULL)
            retire_oldest(b);
        if (waitq_wait(&b->changed, deadline, err) < 0) {
            err_prefix(err, "wait for a worker of uid %" PRIu64, wanted->uid);
            return NULL;
        }
    }
}

/* ---------------------------------------------------------------- requests */

int broker_read_request(struct broker *b, slice body, struct entry *out,
                        struct err *err)
{
    slice account = SLICE_NONE, kind = SL("mailbox");
    unsigned slot;

    memset(out, 0, sizeof *out);
    attr_find(body, AT_ACCOUNT, &account);
    attr_find(body, AT_KIND, &kind);
    if (!attr_find_u64(body, AT_UID, &out->uid) ||
        !attr_find_u64(body, AT_GID, &out->gid))
        return err_temp(err, "a request without uid");
    if (worker_kind(kind) == NULL)
        return err_temp(err, "a request for an unknown kind of worker");
    /* A command or mbox file belongs to no account: one worker for all.  The
     * hash is the same in every process and at every start: local chooses its
     * connections by it, and a new broker finds the workers of the old one. */
    slot = slice_eqs(kind, "mailbox")
               ? crc32c(0, account.p, account.n) % b->n_slots
               : 0;
    out->kind = kind;
    (void)snprintf(out->key, sizeof out->key, "%" PRIu64 ":%" PRIu64 ":%.*s:%u",
                   out->uid, out->gid, SLF(kind), slot);
    return 0;
}

static void answer_slots(struct broker *b, struct chan *c, uint32_t id, int fd)
{
    struct buf body;

    buf_init(&body, 64);
    attr_put_u64(&body, AT_NSLOTS, b->n_slots);
    attr_put_u64(&body, AT_GENERATION, syncs_generation(b->syncs));
    chan_answer(c, id, buf_view(&body), &fd, 1);
    buf_done(&body);
}

MAY_WAIT static void deliver(struct broker *b, struct chan *c, struct msg *m)
{
    uint16_t type = m->type == BROKER_DELIVER ? WORKER_LMTP : WORKER_CHAN;
    struct entry wanted, *e = NULL;
    struct err err;
    int fds[2];

    if (broker_read_request(b, m->body, &wanted, &err) == 0)
        e = broker_get_worker(b, &wanted, &err);
    if (e == NULL || chan_socketpair(fds, &err) < 0) {
        log_warning("no worker: %s", err.log);
        chan_fail(c, m->id, &err);
        return;
    }
    if (chan_send(e->chan, type, SLICE_NONE, &fds[1], 1, &err) < 0) {
        chan_fail(c, m->id, &err);
    } else {
        e->n_given++;
        e->last_used = loop_now();
        answer_slots(b, c, m->id, fds[0]);
    }
    close(fds[0]);
    close(fds[1]);
}

/* Development: let a worker show what its sandbox refuses. */
MAY_WAIT static void probe(struct broker *b, struct chan *c, struct msg *m)
{
    struct entry wanted, *e = NULL;
    struct chan *worker;
    struct msg answer;
    struct err err;

    if (broker_read_request(b, m->body, &wanted, &err) == 0)
        e = broker_get_worker(b, &wanted, &err);
    if (e == NULL) {
        chan_fail(c, m->id, &err);
        return;
    }
    worker = chan_ref(e->chan);
    if (chan_call(worker, WORKER_PROBE, SLICE_NONE, NULL, 0,
                  clock_after(REQUEST_MS), &answer, &err) < 0) {
        chan_fail(c, m->id, &err);
    } else {
        chan_answer(c, m->id, answer.body, NULL, 0);
        msg_free(&answer);
    }
    chan_unref(&worker);
}

/* Who may ask what: a process that was broken into is not believed when it
 * asks for what its row of the design does not need. */
static bool may_ask(enum ptype from, uint16_t type)
{
    switch (type) {
    case BROKER_DELIVER:
    case BROKER_ASK:
    case BROKER_SYNC:
        return from == PT_LOCAL || from == PT_LMTPD;
    case BROKER_SESSION:
    case BROKER_WAKE:
    case BROKER_DROP:
        return from == PT_LOGIN;
    case SESSION_LIST:
    case SESSION_KICK:
    case COMMAND_ASK:
        return from == PT_COMMAND;
    case WORKER_PROBE:
        return from == PT_MASTER;
    default:
        return false;
    }
}

MAY_WAIT static void serve_peer(struct chan *c, struct msg *m, void *arg)
{
    struct peer *peer = arg;
    struct broker *b = peer->b;
    struct err err;

    /* After a wait `peer` may be gone; the channel is kept by chan_serve. */
    if (!may_ask(peer->from, m->type)) {
        err_temp(&err, "the broker does not answer %s of %s",
                 proto_name(m->type), ptype_name(peer->from));
        log_warning("%s", err.log);
        chan_fail(c, m->id, &err);
    } else if (m->type == BROKER_DELIVER || m->type == BROKER_ASK ||
               m->type == COMMAND_ASK) {
        deliver(b, c, m);
    } else if (m->type == BROKER_SYNC) {
        sync_fs(b, c, m);
    } else if (m->type == WORKER_PROBE) {
        probe(b, c, m);
    } else {
        sessions_serve(b, c, m);
    }
}

static void peer_closed(struct chan *c UNUSED, void *arg)
{
    struct peer *peer = arg;

    list_remove(&peer->link);
    sessions_login_gone(peer);
    chan_free(&peer->chan);
    free(peer);
}

static const struct chan_ops peer_ops = {
    .serve = serve_peer,
    .max_tasks = REQUESTS_MAX,
    .on_close = peer_closed,
};

void broker_on_peer(struct broker *b, enum ptype from, int fd)
{
    struct peer *peer = xcalloc(1, sizeof *peer);

    CHECK_OBJ(b, BROKER_MAGIC);
    peer->b = b;
    peer->from = from;
    list_init(&peer->sessions);
    list_push(&b->peers, &peer->link);
    peer->chan = chan_new(fd, &peer_ops, peer);
    if (b->is_draining)
        chan_bye(peer->chan);
}

/* -------------------------------------------------------------- the process */

/* TEMPLATE_EXIT: a worker's end, for the log; its channel tells the rest. */
static void template_msg(struct chan *c UNUSED, struct msg *m, void *arg UNUSED)
{
    uint64_t status = attr_u64_or(m->body, AT_STATUS, 0);

    if (m->type == TEMPLATE_EXIT && status != 0)
        log_warning("worker process %" PRIu64 " ended with %s %" PRIu64,
                    attr_u64_or(m->body, AT_PID, 0),
                    (status & 0x7f) != 0 ? "signal" : "status",
                    (status & 0x7f) != 0 ? status & 0x7f : status >> 8);
}

static const struct chan_ops template_ops = { .on_msg = template_msg };

struct broker *broker_new(struct process *p)
{
    struct broker *b = xcalloc(1, sizeof *b);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    b->magic = BROKER_MAGIC;
    b->p = p;
    map_init(&b->workers, false);
    sessions_init(b);
    waitq_init(&b->changed);
    list_init(&b->peers);
    b->n_slots = cores < 1 ? 1 : (unsigned)cores;
    if (b->n_slots > SLOTS_MAX)
        b->n_slots = SLOTS_MAX;
    b->syncs = syncs_new(NULL);
    b->template = link_new(p, PT_TEMPLATE, &template_ops, b, NULL);
    return b;
}

void broker_on_reload(struct broker *b)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&b->workers, &pos, n)) != NULL) {
        struct entry *e = CONTAINER_OF(n, struct entry, node);

        if (e->chan != NULL && chan_send(e->chan, WORKER_RELOAD, SLICE_NONE,
                                         &b->p->conf_fd, 1, NULL) < 0)
            retire(e);
    }
}

void broker_on_drain(struct broker *b)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    b->is_draining = true;
    list_each(it, &b->peers)
        chan_bye(CONTAINER_OF(it, struct peer, link)->chan);
    while ((n = map_next(&b->workers, &pos, n)) != NULL)
        retire(CONTAINER_OF(n, struct entry, node));
    waitq_wake_all(&b->changed);
    if (b->workers.n == 0)
        process_exit(b->p, 0);
}

void broker_dump(struct broker *b, struct buf *out)
{
    static const char *const states[] = { "starting", "ready", "retiring" };
    struct map_node *n = NULL;
    size_t pos = 0;

    buf_printf(out, "workers: %zu\n", b->workers.n);
    while ((n = map_next(&b->workers, &pos, n)) != NULL) {
        const struct entry *e = CONTAINER_OF(n, struct entry, node);

        buf_printf(out, "worker %s pid %d %s, %" PRIu64 " connections\n",
                   e->key, (int)e->pid, states[e->state], e->n_given);
    }
    sessions_dump(b, out);
    syncs_dump(b->syncs, out);
}
