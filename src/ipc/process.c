#include "ipc/process.h"
#include "ipc/event.h"
#include "ipc/proto.h"
#include "rt/proc.h"
#include "rt/rt.h"
#include "rt/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define CONTROL_FD 3
#define EVENT_FD   4
#define COUNTER_FD 5

/* How long a process that lost its master may still work on. */
#define ORPHAN_MS 30000
/* How long an ending process waits for its last words to go out. */
#define LAST_WORDS_MS 1000

/* Messages that came before on_start() had returned. */
struct pending {
    struct list link;
    struct msg *msg;
};

static struct {
    struct process p;
    bool is_started; /* on_start() is done: listeners and peers may come */
    bool is_starting;
    bool is_exiting;
    int status;
    struct list pending;
    struct timer orphan;
    pid_t parent;
    struct sema reload; /* one reload at a time */
} life;

static void handle(struct msg *m);

/* The descriptor shares its offset with every other process: no read(). */
static int read_all(int fd, struct buf *b, struct err *err)
{
    struct stat st;
    size_t at = 0;
    char *room;

    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat the configuration");
    room = st.st_size > 0 ? buf_reserve(b, (size_t)st.st_size) : NULL;
    if (room == NULL)
        return err_temp(err, "the configuration is empty or too long");
    while (at < (size_t)st.st_size) {
        ssize_t n = pread(fd, room + at, (size_t)st.st_size - at, (off_t)at);

        if (n <= 0)
            return err_sys(err, "read the configuration");
        at += (size_t)n;
    }
    buf_commit(b, at);
    return 0;
}

int process_read_conf(int fd, struct conf **out, struct err *err)
{
    struct buf b;
    int rc;

    buf_init(&b, CONF_MAX_BYTES);
    rc = read_all(fd, &b, err);
    if (rc == 0)
        rc = conf_from_bytes(buf_view(&b), out, err);
    buf_done(&b);
    return rc;
}

#define PATHS_MAX 32

/* Those of `in` that are there; NULL stays NULL. */
static const char *const *existing(const char *const *in, const char **out)
{
    size_t n = 0;

    if (in == NULL)
        return NULL;
    for (; *in != NULL && n + 1 < PATHS_MAX; in++)
        if (access(*in, F_OK) == 0)
            out[n++] = *in;
    out[n] = NULL;
    return out;
}

int process_sandbox(struct process *p, unsigned allow,
                    const char *const *read_paths,
                    const char *const *write_paths, struct err *err)
{
    const char *to_read[PATHS_MAX], *to_write[PATHS_MAX];
    bool has_paths = read_paths != NULL || write_paths != NULL;
    struct sandbox box = {
        .allow = allow,
        .uid = p->is_root_mode ? p->uid : (uid_t)-1,
        .gid = p->is_root_mode ? p->gid : (gid_t)-1,
        .empty_root = p->is_root_mode && p->empty_root[0] != '\0' && !has_paths
                          ? p->empty_root
                          : NULL,
        .read_paths = existing(read_paths, to_read),
        .write_paths = existing(write_paths, to_write),
    };

    /* The offload pool starts its threads at first use, which is later than
     * this: they inherit what the process gives up here. */
    if (sandbox_enter(&box, err) < 0)
        return -1;
    /* A change of uid clears it; nobody may work on without master. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(err, "prctl(PR_SET_PDEATHSIG)");
    if (getppid() == 1 && life.parent != 1)
        return err_temp(err, "master is gone");
    return 0;
}

/* ------------------------------------------------------------------ the end */

MAY_WAIT static void exit_task(void *arg UNUSED)
{
    struct process *p = &life.p;

    event_flush();
    (void)chan_flush(p->master, clock_after(LAST_WORDS_MS), NULL);
    loop_stop();
}

void process_exit(struct process *p UNUSED, int status)
{
    if (life.is_exiting)
        return;
    life.is_exiting = true;
    life.status = status;
    task_spawn("exit", exit_task, NULL);
}

static void drain(bool is_stopping)
{
    struct process *p = &life.p;

    p->is_stopping |= is_stopping;
    if (!life.is_started) {
        process_exit(p, 0);
        return;
    }
    if (p->is_draining && !is_stopping)
        return;
    p->is_draining = true;
    if (p->ops->on_drain != NULL)
        p->ops->on_drain(p);
    else
        process_exit(p, 0);
}

static void orphan_is_late(struct timer *t UNUSED)
{
    process_exit(&life.p, 1);
}

/* Without master there are no new listeners, tables or peers: finish. */
static void master_gone(struct chan *c UNUSED, void *arg UNUSED)
{
    timer_set(&life.orphan, clock_after(ORPHAN_MS), orphan_is_late);
    drain(true);
}

/* -------------------------------------------------------------- the start */

static void start_failed(const struct err *err)
{
    struct buf b;

    buf_init(&b, 1024);
    attr_put_str(&b, AT_LOGTEXT, err->log);
    (void)chan_send(life.p.master, MASTER_FAILED, buf_view(&b), NULL, 0, NULL);
    buf_done(&b);
    process_exit(&life.p, 1);
}

static void run_pending(void)
{
    struct list *e;

    while ((e = list_pop(&life.pending)) != NULL) {
        struct pending *w = CONTAINER_OF(e, struct pending, link);

        handle(w->msg);
        msg_delete(&w->msg);
        free(w);
    }
}

static void start_task(void *arg UNUSED)
{
    struct process *p = &life.p;
    struct err err;

    if (p->ops->on_start != NULL && p->ops->on_start(p, &err) < 0) {
        start_failed(&err);
        return;
    }
    life.is_started = true;
    run_pending();
    process_ready(p);
}

void process_ready(struct process *p)
{
    (void)chan_send(p->master, MASTER_READY, SLICE_NONE, NULL, 0, NULL);
}

static void keep_conf_fd(struct process *p, struct msg *m)
{
    close_fd(&p->conf_fd);
    p->conf_fd = m->fds[0];
    m->fds[0] = -1;
}

static void on_start_message(struct msg *m)
{
    struct process *p = &life.p;
    slice where = SLICE_NONE;
    struct err err;

    if (p->conf != NULL || m->n_fds != 1)
        return;
    if (process_read_conf(m->fds[0], &p->conf, &err) < 0) {
        start_failed(&err);
        return;
    }
    keep_conf_fd(p, m);
    p->service = (int)(int64_t)attr_u64_or(m->body, AT_SERVICE, UINT64_MAX);
    p->slot = (unsigned)attr_u64_or(m->body, AT_SLOT, 0);
    p->n_slots = (unsigned)attr_u64_or(m->body, AT_NSLOTS, 1);
    p->is_root_mode = attr_u64_or(m->body, AT_ROOT, 0) != 0;
    p->uid = (uid_t)attr_u64_or(m->body, AT_UID, (uid_t)-1);
    p->gid = (gid_t)attr_u64_or(m->body, AT_GID, (gid_t)-1);
    attr_find(m->body, AT_WHERE, &where);
    (void)slice_copy_to(where, p->empty_root, sizeof p->empty_root);
}

/* ---------------------------------------------------------------- messages */

static void on_listener_message(struct msg *m)
{
    struct process_listener l = { .fd = m->fds[0] };
    slice kind = SLICE_NONE, where = SLICE_NONE;

    if (m->n_fds != 1 || life.p.ops->on_listener == NULL)
        return;
    l.service = (int)(int64_t)attr_u64_or(m->body, AT_SERVICE, UINT64_MAX);
    attr_find(m->body, AT_KIND, &kind);
    attr_find(m->body, AT_WHERE, &where);
    (void)slice_copy_to(kind, l.kind, sizeof l.kind);
    (void)slice_copy_to(where, l.where, sizeof l.where);
    m->fds[0] = -1;
    life.p.ops->on_listener(&life.p, &l);
}

static void on_named_message(struct msg *m)
{
    const struct process_ops *ops = life.p.ops;
    slice name = SLICE_NONE;
    int fd = m->n_fds == 1 ? m->fds[0] : -1;

    attr_find(m->body, AT_NAME, &name);
    if (fd < 0)
        return;
    if (m->type == MASTER_TABLE && ops->on_table != NULL) {
        m->fds[0] = -1;
        life.p.table_owner =
            (uid_t)attr_u64_or(m->body, AT_UID, (uint64_t)(uid_t)-1);
        ops->on_table(&life.p, name, fd,
                      (int64_t)attr_u64_or(m->body, AT_TIME, 0));
    } else if (m->type != MASTER_TABLE && ops->on_fd != NULL) {
        m->fds[0] = -1;
        ops->on_fd(&life.p, m->type == MASTER_REOPEN ? SL("maillog") : name,
                   fd);
    }
}

static void on_peer_message(struct msg *m)
{
    const struct process_ops *ops = life.p.ops;
    uint64_t from = attr_u64_or(m->body, AT_PTYPE, PT_NONE);
    int fd = m->n_fds == 1 ? m->fds[0] : -1;

    if (fd < 0 || from == PT_NONE || from >= PT_N || ops->on_peer == NULL)
        return;
    m->fds[0] = -1;
    ops->on_peer(&life.p, (enum ptype)from, fd);
}

MAY_WAIT static void reload_task(void *arg)
{
    struct msg *m CLEANUP(msg_delete) = arg;
    struct process *p = &life.p;
    struct conf *conf = NULL, *old;
    struct err err;
    uint32_t id = m->id;

    if (sema_down(&life.reload, MSEC_NEVER, &err) < 0)
        return;
    if (m->n_fds != 1 || process_read_conf(m->fds[0], &conf, &err) < 0) {
        chan_fail(p->master, id, &err);
    } else {
        keep_conf_fd(p, m);
        old = p->conf;
        p->conf = conf;
        if (p->ops->on_reload != NULL)
            p->ops->on_reload(p, conf);
        conf_unref(&old);
        chan_answer(p->master, id, SLICE_NONE, NULL, 0);
    }
    sema_up(&life.reload);
}

static void answer_text(uint32_t id,
                        void (*fill)(struct process *, struct buf *))
{
    struct buf text, body;

    buf_init(&text, CHAN_MAX_BYTES / 2);
    buf_init(&body, CHAN_MAX_BYTES);
    if (fill != NULL)
        fill(&life.p, &text);
    attr_put(&body, AT_TEXT, buf_view(&text));
    chan_answer(life.p.master, id, buf_view(&body), NULL, 0);
    buf_done(&text);
    buf_done(&body);
}

MAY_WAIT static void probe_task(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    struct buf text, body;

    buf_init(&text, CHAN_MAX_BYTES / 2);
    buf_init(&body, CHAN_MAX_BYTES);
    process_probe(&text);
    process_probe_joints(&life.p, &text);
    attr_put(&body, AT_TEXT, buf_view(&text));
    chan_answer(life.p.master, id, buf_view(&body), NULL, 0);
    buf_done(&text);
    buf_done(&body);
}

static void handle(struct msg *m)
{
    struct process *p = &life.p;

    switch (m->type) {
    case MASTER_LISTENER:
        on_listener_message(m);
        break;
    case MASTER_PEER:
        on_peer_message(m);
        break;
    case MASTER_RELOAD:
        task_spawn("reload", reload_task, msg_take(m));
        break;
    case MASTER_DRAIN:
        drain((attr_u64_or(m->body, AT_FLAGS, 0) & 1) != 0);
        break;
    case MASTER_STATUS:
        answer_text(m->id, p->ops->on_status);
        break;
    case MASTER_PROBE:
        /* A number, never followed.
         * NOLINTNEXTLINE(performance-no-int-to-ptr) */
        task_spawn("probe", probe_task, (void *)(uintptr_t)m->id);
        break;
    default: /* of a later release */
        if (m->id != 0) {
            struct err err;

            err_temp(&err, "the message %s is not known here",
                     proto_name(m->type));
            chan_fail(p->master, m->id, &err);
        }
        break;
    }
}

static void from_master(struct chan *c UNUSED, struct msg *m, void *arg UNUSED)
{
    struct process *p = &life.p;
    struct pending *w;

    if (m->type == MASTER_START) {
        on_start_message(m);
        return;
    }
    if (p->conf == NULL || life.is_exiting)
        return;
    if (m->type == MASTER_TABLE || m->type == MASTER_FD ||
        m->type == MASTER_REOPEN) {
        on_named_message(m);
        return;
    }
    if (m->type == MASTER_TABLES_DONE && !life.is_starting) {
        life.is_starting = true;
        task_spawn("start", start_task, NULL);
        return;
    }
    if (life.is_started || m->type == MASTER_DRAIN) {
        handle(m);
        return;
    }
    w = xcalloc(1, sizeof *w);
    w->msg = msg_take(m);
    list_push(&life.pending, &w->link);
}

static const struct chan_ops master_ops = {
    .on_msg = from_master,
    .on_close = master_gone,
};

static void on_term(int signo UNUSED, void *arg UNUSED)
{
    drain(true);
}

int process_main(const struct process_ops *ops)
{
    struct process *p = &life.p;
    const char *type = ptype_name(ops->type);
    char title[32];

    loop_init(type, 0);
    (void)snprintf(title, sizeof title, "hato: %s", type);
    process_title(title);
    event_setup(fcntl(EVENT_FD, F_GETFD) >= 0 ? EVENT_FD : -1, type);
    event_batch(true);
    list_init(&life.pending);
    sema_init(&life.reload, 1);
    life.parent = getppid();
    p->ops = ops;
    p->service = -1;
    p->conf_fd = -1;
    p->counters_fd = fcntl(COUNTER_FD, F_GETFD) >= 0 ? COUNTER_FD : -1;
    signal_on(SIGTERM, on_term, NULL);
    p->master = chan_new(CONTROL_FD, &master_ops, NULL);
    loop_run();
    event_flush();
    chan_free(&p->master);
    return life.status;
}

unsigned process_n_smtp(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (cores < 1)
        cores = 1;
    return (unsigned)((cores < PROCESS_CORES_MAX ? cores : PROCESS_CORES_MAX) +
                      1) /
           2;
}

int process_connect(struct process *p, enum ptype to, msec deadline,
                    int *fd_out, struct err *err)
{
    return process_connect_slot(p, to, 0, deadline, fd_out, err);
}

int process_connect_slot(struct process *p, enum ptype to, unsigned slot,
                         msec deadline, int *fd_out, struct err *err)
{
    struct buf body;
    struct msg answer;
    msec pause = 20;
    int rc;

    buf_init(&body, 64);
    attr_put_u64(&body, AT_PTYPE, (uint64_t)to);
    if (slot != 0)
        attr_put_u64(&body, AT_SLOT, slot);
    for (;;) {
        rc = chan_call(p->master, MASTER_CONNECT, buf_view(&body), NULL, 0,
                       deadline, &answer, err);
        if (rc == 0 && answer.n_fds == 1) {
            *fd_out = answer.fds[0];
            answer.fds[0] = -1;
            msg_free(&answer);
            break;
        }
        if (rc == 0) {
            msg_free(&answer);
            rc = err_temp(err, "master gave no connection to %s",
                          ptype_name(to));
        }
        if (err->class != ERR_TEMP || loop_now() + pause >= deadline ||
            !chan_is_open(p->master) || task_sleep(pause, err) < 0)
            break;
        pause = pause < 1000 ? pause * 2 : pause;
    }
    buf_done(&body);
    return rc;
}
