#include "base/clock.h"
#include "broker/broker_priv.h"
#include "ipc/bchan.h"
#include "rt/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CONTROL_FD 3
#define EVENT_FD   4

struct template
{
    struct bchan master;
    struct bchan broker;
    int signal_fd;
    struct conf *conf;
    struct template_rules rules;
    bool is_root_mode;
    bool is_ended;
    int status;
    size_t n_workers;
    const struct worker_ops *ops;
};

/* ----------------------------------------------------------------- workers */

/* In the child: become the user, forget what is the template's. */
static int become(struct template *t, int fd, bool is_spool, uid_t uid,
                  gid_t gid)
{
    gid_t groups[2] = { gid, t->rules.spool_gid };
    size_t n_groups = is_spool && groups[1] != 0 ? 2 : 1;
    sigset_t none;

    bchan_close(&t->master);
    bchan_close(&t->broker);
    close(t->signal_fd);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (t->is_root_mode &&
        (setgroups(n_groups, groups) < 0 || setresgid(gid, gid, gid) < 0 ||
         setresuid(uid, uid, uid) < 0)) {
        log_error("become uid %u: %s", (unsigned)uid, strerror(errno));
        return -1;
    }
    if (t->is_root_mode && (getuid() != uid || setuid(0) == 0))
        panic("the uid did not stay at %u", (unsigned)uid);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

NO_RETURN static void run_worker(struct template *t, int fd, slice kind,
                                 uid_t uid, gid_t gid)
{
    const char *name = worker_kind(kind);
    char title[32];

    if (name == NULL)
        _exit(1);
    (void)snprintf(title, sizeof title, "hato: %s", name);
    process_title(title);
    if (become(t, fd, strcmp(name, "spool") == 0, uid, gid) < 0)
        _exit(1);
    exit(worker_main(fd, t->conf, name, t->is_root_mode, t->ops));
}

static int fork_worker(struct template *t, struct msg *m, pid_t *pid_out,
                       struct err *err)
{
    uint64_t uid = attr_u64_or(m->body, AT_UID, 0);
    uint64_t gid = attr_u64_or(m->body, AT_GID, 0);
    slice kind = SLICE_NONE;
    pid_t pid;

    attr_find(m->body, AT_KIND, &kind);
    if (m->n_fds != 1)
        return err_temp(err, "a request for a worker without its channel");
    if (t->is_root_mode && !template_allows(&t->rules, kind, uid, gid))
        return err_temp(err,
                        "no worker of kind %.*s for uid %" PRIu64
                        " gid %" PRIu64
                        ": outside first_valid_uid/last_valid_uid (or gid)",
                        SLF(kind), uid, gid);
    pid = fork();
    if (pid < 0)
        return err_sys(err, "fork a worker");
    if (pid == 0) {
        int fd = m->fds[0];

        m->fds[0] = -1;
        run_worker(t, fd, kind, (uid_t)uid, (gid_t)gid);
    }
    t->n_workers++;
    *pid_out = pid;
    return 0;
}

static void reap(struct template *t)
{
    struct signalfd_siginfo info;
    struct buf b;
    int status;
    pid_t pid;

    while (read(t->signal_fd, &info, sizeof info) > 0)
        if (info.ssi_signo == SIGTERM)
            t->is_ended = true;
    buf_init(&b, 128);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        t->n_workers--;
        buf_clear(&b);
        attr_put_u64(&b, AT_PID, (uint64_t)pid);
        attr_put_u64(&b, AT_STATUS, (uint64_t)status);
        if (t->broker.fd >= 0)
            (void)bchan_send(&t->broker, TEMPLATE_EXIT, buf_view(&b), NULL);
    }
    buf_done(&b);
}

/* Of root's rights only the change of uid is needed, and to signal workers.
 * Who becomes a user loses even these with his uid.  What nobody needs is
 * refused here for workers and their commands too; without no_new_privs, since
 * a command may be a set-uid program, which takes root to ask for. */
static int drop_rights(struct err *err)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { 0 };

    data[0].permitted = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;
    data[0].effective = data[0].permitted;
    if (sandbox_refuse_always(err) < 0)
        return -1;
    if (syscall(SYS_capset, &head, data) < 0)
        return err_sys(err, "drop capabilities");
    return 0;
}

/* ---------------------------------------------------------------- messages */

static int from_broker(struct template *t, struct msg *m)
{
    struct err err;
    struct buf b;
    pid_t pid = 0;
    int rc;

    if (m->type != TEMPLATE_FORK || fork_worker(t, m, &pid, &err) < 0) {
        if (m->type != TEMPLATE_FORK)
            err_temp(&err, "template does not know %s", proto_name(m->type));
        log_error("%s", err.log);
        return bchan_fail(&t->broker, m->id, &err);
    }
    buf_init(&b, 64);
    attr_put_u64(&b, AT_PID, (uint64_t)pid);
    rc = bchan_answer(&t->broker, m->id, buf_view(&b), &err);
    buf_done(&b);
    return rc;
}

static int take_conf(struct template *t, struct msg *m, struct err *err)
{
    struct conf *conf;

    if (m->n_fds != 1)
        return err_temp(err, "no configuration came");
    if (process_read_conf(m->fds[0], &conf, err) < 0)
        return -1;
    conf_unref(&t->conf);
    t->conf = conf;
    template_read_rules(&t->rules, t->conf);
    return 0;
}

static void reload(struct template *t, struct msg *m)
{
    struct err err;

    if (take_conf(t, m, &err) < 0)
        (void)bchan_fail(&t->master, m->id, &err);
    else
        (void)bchan_answer(&t->master, m->id, SLICE_NONE, NULL);
}

static void start(struct template *t, struct msg *m)
{
    struct err err;
    struct buf b;

    t->is_root_mode = attr_u64_or(m->body, AT_ROOT, 0) != 0;
    if (take_conf(t, m, &err) == 0 &&
        (!t->is_root_mode || drop_rights(&err) == 0))
        return;
    buf_init(&b, 1024);
    attr_put_str(&b, AT_LOGTEXT, err.log);
    (void)bchan_send(&t->master, MASTER_FAILED, buf_view(&b), NULL);
    buf_done(&b);
    t->is_ended = true;
    t->status = 1;
}

static void peer(struct template *t, struct msg *m)
{
    struct err err;

    if (m->n_fds != 1 || attr_u64_or(m->body, AT_PTYPE, 0) != PT_BROKER)
        return;
    bchan_close(&t->broker);
    if (bchan_open(&t->broker, m->fds[0], &err) < 0)
        bchan_close(&t->broker);
    m->fds[0] = -1;
}

static void status(struct template *t, struct msg *m)
{
    char text[64];
    struct buf b;

    (void)snprintf(text, sizeof text, "workers alive: %zu\n", t->n_workers);
    buf_init(&b, 256);
    attr_put_str(&b, AT_TEXT, text);
    (void)bchan_answer(&t->master, m->id, buf_view(&b), NULL);
    buf_done(&b);
}

static void probe(struct template *t, struct msg *m)
{
    struct buf text, body;

    buf_init(&text, 4096);
    buf_init(&body, 8192);
    process_probe(&text);
    attr_put(&body, AT_TEXT, buf_view(&text));
    (void)bchan_answer(&t->master, m->id, buf_view(&body), NULL);
    buf_done(&text);
    buf_done(&body);
}

static int from_master(struct template *t, struct msg *m)
{
    struct err err;

    if (m->type == MASTER_START)
        start(t, m);
    else if (m->type == MASTER_TABLES_DONE)
        return bchan_send(&t->master, MASTER_READY, SLICE_NONE, &err);
    else if (m->type == MASTER_PEER)
        peer(t, m);
    else if (m->type == MASTER_RELOAD)
        reload(t, m);
    else if (m->type == MASTER_STATUS)
        status(t, m);
    else if (m->type == MASTER_PROBE)
        probe(t, m);
    else if (m->type == MASTER_DRAIN)
        t->is_ended = true;
    else if (m->id != 0) {
        err_temp(&err, "template does not know %s", proto_name(m->type));
        return bchan_fail(&t->master, m->id, &err);
    }
    return 0;
}

/* Read and handle; -1 when the channel is to be closed. */
static int pump(struct template *t, struct bchan *c,
                int (*fn)(struct template *t, struct msg *m))
{
    struct err err;
    struct msg m;
    int got, rc = 0;

    if (bchan_fill(c, &err) < 0)
        return -1;
    while (rc == 0 && c->fd >= 0 && (got = bchan_next(c, &m)) != 0) {
        if (got < 0)
            return -1;
        rc = fn(t, &m);
        msg_free(&m);
    }
    return rc;
}

static void turn(struct template *t)
{
    struct pollfd p[] = {
        { .fd = t->master.fd, .events = POLLIN },
        { .fd = t->broker.fd, .events = POLLIN }, /* -1 is passed over */
        { .fd = t->signal_fd, .events = POLLIN },
    };

    if (poll(p, ARRAY_LEN(p), -1) < 0)
        return;
    if (p[2].revents != 0)
        reap(t);
    if (p[1].revents != 0 && pump(t, &t->broker, from_broker) < 0)
        bchan_close(&t->broker);
    if (p[0].revents != 0 && pump(t, &t->master, from_master) < 0)
        t->is_ended = true; /* master is gone */
}

int template_main(const struct worker_ops *ops)
{
    static struct template t;
    sigset_t wanted;
    struct err err;

    clock_setup();
    process_title("hato: template");
    event_setup(fcntl(EVENT_FD, F_GETFD) >= 0 ? EVENT_FD : -1, "template");
    t.ops = ops;
    t.broker.fd = -1;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigprocmask(SIG_SETMASK, &wanted, NULL);
    t.signal_fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    if (t.signal_fd < 0 || bchan_open(&t.master, CONTROL_FD, &err) < 0) {
        log_error("template cannot start");
        return 1;
    }
    while (!t.is_ended)
        turn(&t);
    conf_unref(&t.conf);
    return t.status;
}
