/* Slots and their children: birth, messages, death. */
#include "access/access.h"
#include "master/master_priv.h"
#include "rt/proc.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define BACK_OFF_MIN 100
#define BACK_OFF_MAX 10000
#define LONG_LIFE_MS 60000

static void restart_now(struct timer *t);

/* ------------------------------------------------------------------- joints */

bool joint_allowed(enum ptype from, enum ptype to)
{
    static const struct {
        enum ptype from, to;
    } joints[] = {
        { PT_SMTPD, PT_QMGR },       { PT_SMTPD, PT_TABLES },
        { PT_LOCAL, PT_BROKER },     { PT_LOCAL, PT_TABLES },
        { PT_QMGR, PT_LOCAL },       { PT_QMGR, PT_TABLES },
        { PT_COMMAND, PT_QMGR },     { PT_BROKER, PT_TEMPLATE },
        { PT_MASTER, PT_BROKER }, /* to probe a worker */
        { PT_SMTPD, PT_KEYS },       { PT_SMTPD, PT_AUTH },
        { PT_LOGIN, PT_KEYS },       { PT_LOGIN, PT_AUTH },
        { PT_LOGIN, PT_BROKER },     { PT_BROKER, PT_AUTH },
        { PT_LMTPD, PT_KEYS },       { PT_LMTPD, PT_TABLES },
        { PT_LMTPD, PT_BROKER },     { PT_AUTH, PT_TABLES },
        { PT_AUTH, PT_AUTHWORKER },  { PT_COMMAND, PT_BROKER },
        { PT_COMMAND, PT_AUTH },     { PT_COMMAND, PT_RESOLVER },
        { PT_QMGR, PT_SMTP },        { PT_SMTP, PT_TABLES },
        { PT_SMTP, PT_RESOLVER },    { PT_SMTP, PT_KEYS },
        { PT_SMTP, PT_FETCHER },     { PT_SMTPD, PT_RESOLVER },
        { PT_FETCHER, PT_RESOLVER }, { PT_FETCHER, PT_QMGR },
    };

    for (size_t i = 0; i < ARRAY_LEN(joints); i++)
        if (joints[i].from == from && joints[i].to == to)
            return true;
    return false;
}

struct child *child_of(struct master *m, enum ptype type)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->type == type && s->current != NULL)
            return s->current;
    }
    return NULL;
}

/* Who is asked for.  A lazy one is started; its caller asks again until it is
 * there. */
static struct child *child_at(struct master *m, enum ptype type, unsigned index)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->type != type || s->index != index)
            continue;
        if (s->current == NULL && s->is_lazy && !timer_is_set(&s->restart))
            restart_now(&s->restart);
        if (s->current == NULL || s->current->state == CHILD_READY)
            return s->current;
        /* Its channel would work, but nobody shall wait for what may fail. */
        return s->is_lazy ? NULL : s->current;
    }
    return NULL;
}

int child_connect(struct master *m, enum ptype from, enum ptype to, int *fd_out,
                  struct err *err)
{
    const struct child_address address = { to, 0 };

    return child_connect_to(m, from, &address, fd_out, err);
}

int child_connect_to(struct master *m, enum ptype from,
                     const struct child_address *to_whom, int *fd_out,
                     struct err *err)
{
    enum ptype to = to_whom->type;
    struct child *c;
    struct buf b;
    int fds[2], rc;

    if (!joint_allowed(from, to))
        return err_perm(err, "%s has no joint with %s", ptype_name(from),
                        ptype_name(to));
    c = child_at(m, to, to_whom->slot);
    if (c == NULL || c->state == CHILD_DRAINING)
        return err_temp(err, "%s is not running", ptype_name(to));
    if (chan_socketpair(fds, err) < 0)
        return -1;
    buf_init(&b, 64);
    attr_put_u64(&b, AT_PTYPE, (uint64_t)from);
    rc = chan_send(c->chan, MASTER_PEER, buf_view(&b), &fds[1], 1, err);
    buf_done(&b);
    close(fds[1]);
    if (rc < 0)
        close(fds[0]);
    else
        *fd_out = fds[0];
    return rc;
}

static void on_connect(struct child *c, struct msg *m)
{
    uint64_t to = attr_u64_or(m->body, AT_PTYPE, PT_NONE);
    uint64_t slot = attr_u64_or(m->body, AT_SLOT, 0);
    struct child_address address = { to < PT_N ? (enum ptype)to : PT_NONE,
                                     slot < SLOTS_MAX ? (unsigned)slot : 0 };
    struct err err;
    int fd = -1;

    if (child_connect_to(c->m, c->type, &address, &fd, &err) < 0) {
        if (err.class == ERR_PERM)
            log_warning("%s", err.log);
        chan_fail(c->chan, m->id, &err);
        return;
    }
    chan_answer(c->chan, m->id, SLICE_NONE, &fd, 1);
    close(fd);
}

/* ----------------------------------------------------------------- messages */

static void child_msg(struct chan *ch, struct msg *m, void *arg)
{
    struct child *c = arg;
    slice text = SLICE_NONE;
    struct err err;

    if (m->type == MASTER_READY) {
        if (c->state == CHILD_STARTING)
            c->state = CHILD_READY;
        waitq_wake_all(&c->m->changed);
    } else if (m->type == MASTER_FAILED) {
        attr_find(m->body, AT_LOGTEXT, &text);
        master_trouble(c->m, "%s: %.*s", ptype_name(c->type), SLF(text));
        event_text(EV_FATAL, ptype_name(c->type), NULL, "%.*s", SLF(text));
    } else if (m->type == MASTER_CONNECT) {
        on_connect(c, m);
    } else if (m->type == MASTER_STATUS && c->type == PT_METRICS) {
        control_answer_status(c->m, ch, m->id);
    } else if (m->id != 0) {
        err_temp(&err, "master does not know %s", proto_name(m->type));
        chan_fail(ch, m->id, &err);
    }
}

static const struct chan_ops child_ops = { .on_msg = child_msg };

/* -------------------------------------------------------------------- death */

static void come_back(struct slot *s, const struct child *c)
{
    if (loop_now() - c->started_at >= LONG_LIFE_MS || s->back_off == 0)
        s->back_off = BACK_OFF_MIN;
    else if (s->back_off * 2 <= BACK_OFF_MAX)
        s->back_off *= 2;
    else
        s->back_off = BACK_OFF_MAX;
    timer_set(&s->restart, clock_after(s->back_off), restart_now);
}

static void tell_death(const struct child *c, int wstatus)
{
    bool is_signal = WIFSIGNALED(wstatus);
    int code = is_signal ? WTERMSIG(wstatus) : WEXITSTATUS(wstatus);

    if (wstatus == 0 || c->m->state == MASTER_STOPPING)
        return;
    c->m->n_died[c->type]++;
    log_warning("process hato: %s pid %d %s %d", ptype_name(c->type),
                (int)c->pid, is_signal ? "killed by signal" : "exit status",
                code);
    if (c->state == CHILD_STARTING)
        master_trouble(c->m, "%s ended at its start with %s %d",
                       ptype_name(c->type), is_signal ? "signal" : "status",
                       code);
}

static void child_ended(pid_t pid, int wstatus, void *arg)
{
    struct child *c = arg;
    struct master *m = c->m;
    struct slot *s = c->slot;

    tell_death(c, wstatus);
    access_counters_process_died(m->counters_fd, pid);
    list_remove(&c->link);
    chan_free(&c->chan);
    if (s->next == c)
        s->next = NULL;
    if (s->current == c) {
        s->current = NULL;
        if (m->state == MASTER_RUNNING && s->is_wanted)
            come_back(s, c);
    }
    free(c);
    waitq_wake_all(&m->changed);
}

static void restart_now(struct timer *t)
{
    struct slot *s = CONTAINER_OF(t, struct slot, restart);
    struct master *m = s->m;
    struct err err;

    if (m->state != MASTER_RUNNING || s->current != NULL || !s->is_wanted)
        return;
    if (m->is_reloading) {
        timer_set(&s->restart, clock_after(BACK_OFF_MIN), restart_now);
        return;
    }
    if (child_start(s, m->conf_fd, &s->current, &err) == 0)
        return;
    log_error("%s", err.log);
    timer_set(&s->restart, clock_after(BACK_OFF_MAX), restart_now);
}

/* -------------------------------------------------------------------- birth */

/* A child's environment: what every program may expect, and what tests set. */
static void make_env(const struct master *m, char **env, size_t max)
{
    static const char *const kept[] = {
        "TZ",           "HATO_TEST_CLOCK", "HATO_FAULT",
        "ASAN_OPTIONS", "UBSAN_OPTIONS",   "MAIL_CONFIG",
    };
    size_t n = 0;

    env[n++] = xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                       "/sbin:/bin");
    for (size_t i = 0; i < ARRAY_LEN(kept) && n + 2 < max; i++)
        if (getenv(kept[i]) != NULL)
            env[n++] = xasprintf("%s=%s%s", kept[i], getenv(kept[i]),
                                 /* its tracer cannot work in a sandbox */
                                 kept[i][0] == 'A' ? ":detect_leaks=0" : "");
    if (m->trace_fd >= 0)
        env[n++] = xstrdup("HATO_FSTRACE_FD=6");
    env[n] = NULL;
}

static int spawn(struct master *m, enum ptype type, int control, pid_t *pid,
                 struct err *err)
{
    char title[32];
    char *env[16];
    const char *argv[] = { title, NULL };
    int fds[] = { -1,         -1,           m->stderr_tx,
                  control,    m->events_tx, m->counters_fd,
                  m->trace_fd };
    struct proc_spec spec = {
        .path = m->exe,
        .argv = argv,
        .envp = (const char *const *)env,
        .chdir = "/",
        .uid = (uid_t)-1, /* each becomes who it is when it has its files */
        .fds = fds,
        .n_fds = ARRAY_LEN(fds),
        .die_with_parent = true,
    };
    int rc;

    (void)snprintf(title, sizeof title, "hato: %s", ptype_name(type));
    make_env(m, env, ARRAY_LEN(env));
    rc = proc_spawn(&spec, pid, err);
    for (size_t i = 0; env[i] != NULL; i++)
        free(env[i]);
    return rc;
}

static unsigned siblings(const struct master *m, enum ptype t)
{
    if (t == PT_SMTPD || t == PT_SMTP || t == PT_LMTPD)
        return m->n_smtpd;
    return t == PT_LOGIN ? m->n_login : 1;
}

static void give_start(struct child *c, int conf_fd)
{
    struct master *m = c->m;
    const struct identity *id = &m->ids[c->type];
    struct buf b;

    buf_init(&b, 2048);
    attr_put_u64(&b, AT_PTYPE, (uint64_t)c->type);
    attr_put_u64(&b, AT_SERVICE, UINT64_MAX);
    attr_put_u64(&b, AT_SLOT, c->slot->index);
    attr_put_u64(&b, AT_NSLOTS, siblings(m, c->type));
    attr_put_u64(&b, AT_ROOT, m->is_root);
    attr_put_u64(&b, AT_UID, id->uid);
    attr_put_u64(&b, AT_GID, id->gid);
    attr_put_str(&b, AT_WHERE, m->empty_root);
    (void)chan_send(c->chan, MASTER_START, buf_view(&b), &conf_fd, 1, NULL);
    buf_done(&b);
}

void child_give_fd(struct child *c, const char *name, int fd)
{
    struct buf b;

    buf_init(&b, 8192);
    attr_put_str(&b, AT_NAME, name);
    (void)chan_send(c->chan, MASTER_FD, buf_view(&b), &fd, 1, NULL);
    buf_done(&b);
}

void child_give_templates(struct child *c)
{
    const char *path = conf_str(c->m->conf, NULL, "bounce_template_file");
    int fd;

    if (c->type != PT_QMGR || *path == '\0')
        return;
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        log_warning("bounce_template_file: open %s: %s; built-in texts are "
                    "used",
                    path, strerror(errno));
        return;
    }
    child_give_fd(c, "templates", fd);
    close(fd);
}

static void give_all(struct child *c, int conf_fd)
{
    struct master *m = c->m;

    give_start(c, conf_fd);
    if (c->type == PT_LOG) {
        child_give_fd(c, "events", m->events_rx);
        if (m->log_fd >= 0)
            child_give_fd(c, m->is_syslog ? "syslog" : "maillog", m->log_fd);
    }
    if (c->type == PT_SMTPD || c->type == PT_QMGR)
        child_give_fd(c, "passes", m->passes_fd);
    child_give_templates(c);
    sources_give(m, c);
    ports_give(m, c);
    (void)chan_send(c->chan, MASTER_TABLES_DONE, SLICE_NONE, NULL, 0, NULL);
}

int child_start(struct slot *s, int conf_fd, struct child **out,
                struct err *err)
{
    struct master *m = s->m;
    struct child *c;
    int fds[2], rc;
    pid_t pid;

    if (chan_socketpair(fds, err) < 0)
        return -1;
    rc = spawn(m, s->type, fds[1], &pid, err);
    close(fds[1]);
    if (rc < 0) {
        close(fds[0]);
        return -1;
    }
    c = xcalloc(1, sizeof *c);
    c->m = m;
    c->slot = s;
    c->type = s->type;
    c->pid = pid;
    c->started_at = loop_now();
    c->chan = chan_new(fds[0], &child_ops, c);
    list_push(&m->children, &c->link);
    proc_on_exit(pid, child_ended, c);
    give_all(c, conf_fd);
    *out = c;
    return 0;
}

void child_drain(struct child *c, bool is_stop)
{
    struct buf b;

    c->state = CHILD_DRAINING;
    buf_init(&b, 64);
    attr_put_u64(&b, AT_FLAGS, is_stop ? 1 : 0);
    if (chan_send(c->chan, MASTER_DRAIN, buf_view(&b), NULL, 0, NULL) < 0)
        (void)kill(c->pid, SIGTERM);
    buf_done(&b);
}
