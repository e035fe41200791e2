/* Starting children and hearing of their end. */
#include "rt/proc.h"

#include "rt/fstrace.h"
#include "rt/rt_priv.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What a child that cannot exec writes to its parent. */
struct failure {
    int error;
    char what[32];
};

/* What the child needs; made before the fork, since a forked child of a
 * process with threads may only make system calls. */
struct birth {
    const struct proc_spec *spec;
    bool new_group;
    pid_t parent;
    uint64_t nofile; /* soft limit to restore, or 0 */
    int report;      /* descriptor for a struct failure */
    int dev_null;
    int trace_fd;
    const char *const *envp;
    int max_signal;
};

/* ---- in the child: system calls only */

NO_RETURN static void child_fail(const struct birth *b, const char *what)
{
    struct failure f = { .error = errno };

    for (size_t i = 0; what[i] != '\0' && i < sizeof(f.what) - 1; i++)
        f.what[i] = what[i];
    (void)!write(b->report, &f, sizeof(f));
    _exit(127);
}

static void child_signals(const struct birth *b)
{
    struct sigaction sa = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int i = 1; i <= b->max_signal; i++)
        (void)sigaction(i, &sa, NULL); /* fails for KILL, STOP and libc's */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_limit(const struct birth *b, int which, uint64_t value)
{
    struct rlimit lim = { .rlim_cur = value, .rlim_max = value };

    if (value != 0 && setrlimit((__rlimit_resource_t)which, &lim) < 0)
        child_fail(b, "setrlimit");
}

static void child_nofile(const struct birth *b)
{
    struct rlimit lim;

    if (b->nofile == 0 || getrlimit(RLIMIT_NOFILE, &lim) < 0)
        return;
    lim.rlim_cur = b->nofile;
    (void)setrlimit(RLIMIT_NOFILE, &lim);
}

/* Raw calls: the C library's would stop all threads first, which a forked
 * child does not have. */
static void child_identity(const struct birth *b)
{
    const struct proc_spec *s = b->spec;

    if (s->uid == (uid_t)-1)
        return;
    if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
        child_fail(b, "setgid");
    if (syscall(SYS_setgroups, 1, &s->gid) < 0 && geteuid() == 0)
        child_fail(b, "setgroups");
    if (syscall(SYS_setresuid, s->uid, s->uid, s->uid) < 0)
        child_fail(b, "setuid");
}

/* Where descriptor i comes from, or -1: closed. */
static int wanted(const struct birth *b, size_t i)
{
    if (i < b->spec->n_fds && b->spec->fds[i] >= 0)
        return b->spec->fds[i];
    return i < 3 ? b->dev_null : -1;
}

static void child_close_rest(struct birth *b, size_t n)
{
    /* The report's descriptor stands right behind the wanted ones. */
    if (dup3(b->report, (int)n, O_CLOEXEC) < 0)
        child_fail(b, "dup");
    b->report = (int)n++;
    /* Crash-test build: our own children go on with the trace. */
    if (fstrace_fd() >= 0 && dup3(b->trace_fd, (int)n++, 0) < 0)
        child_fail(b, "dup");
    if (syscall(SYS_close_range, (unsigned)n, ~0U, 0) == 0)
        return;
    for (int i = (int)n; i < (int)sysconf(_SC_OPEN_MAX); i++)
        (void)close(i);
}

/*
 * Put the wanted descriptors in place.  All are first copied above the highest
 * place, so that none is overwritten before it was used.
 */
static void child_descriptors(struct birth *b)
{
    const struct proc_spec *s = b->spec;
    size_t n = max_size(s->n_fds, 3);
    int above = (int)n + 2;
    int high[256];

    b->report = fcntl(b->report, F_DUPFD_CLOEXEC, above);
    if (b->report < 0)
        _exit(127);
    if (fstrace_fd() >= 0)
        b->trace_fd = fcntl(fstrace_fd(), F_DUPFD_CLOEXEC, above);
    for (size_t i = 0; i < n; i++) {
        int fd = wanted(b, i);

        high[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, above);
        if (fd >= 0 && high[i] < 0)
            child_fail(b, "dup");
    }
    for (size_t i = 0; i < n; i++) {
        if (high[i] < 0)
            (void)close((int)i);
        else if (dup3(high[i], (int)i, 0) < 0)
            child_fail(b, "dup");
    }
    child_close_rest(b, n);
}

NO_RETURN static void child_run(struct birth *b)
{
    const struct proc_spec *s = b->spec;

    if (s->new_session && setsid() < 0)
        child_fail(b, "setsid");
    if (!s->new_session && b->new_group && setpgid(0, 0) < 0)
        child_fail(b, "setpgid");
    child_descriptors(b);
    child_limit(b, RLIMIT_CPU, s->max_cpu_s);
    child_limit(b, RLIMIT_AS, s->max_mem_bytes);
    child_limit(b, RLIMIT_FSIZE, s->max_file_bytes);
    child_nofile(b);
    child_identity(b);
    if (s->chdir != NULL && chdir(s->chdir) < 0)
        child_fail(b, "chdir");
    /* A change of uid clears it, so it comes last. */
    if (s->die_with_parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            child_fail(b, "prctl");
        if (getppid() != b->parent)
            _exit(127);
    }
    child_signals(b);
    (void)execve(s->path, unconst(s->argv), unconst(b->envp));
    child_fail(b, "exec");
}

/* ---- in the parent */

/* Waits for the child's exec, which closes the pipe: short, and the child has
 * nothing left to wait for itself. */
static int read_report(int fd, const struct proc_spec *spec, pid_t pid,
                       struct err *err)
{
    struct failure f;
    ssize_t n;

    do
        n = read(fd, &f, sizeof(f));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (n != (ssize_t)sizeof(f))
        return err_temp(err, "start %s: no report from the child", spec->path);
    errno = f.error;
    return err_sys(err, "start %s: %s", spec->path, f.what);
}

/* Opened by loop_init(), since a sandbox may refuse it later. */
static int dev_null(void)
{
    static int fd = -1;

    if (fd < 0)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return fd;
}

void proc_prepare(void)
{
    (void)dev_null();
}

/* The given environment and, with a trace, where the child finds it. */
static const char *const *environment(const struct proc_spec *spec,
                                      struct arena *a)
{
    size_t n = 0;
    const char **out;

    if (fstrace_fd() < 0)
        return spec->envp;
    while (spec->envp[n] != NULL)
        n++;
    out = ARENA_ARRAY(a, const char *, n + 2);
    memcpy(out, spec->envp, n * sizeof(*out));
    out[n] =
        arena_printf(a, "HATO_FSTRACE_FD=%zu", max_size(spec->n_fds, 3) + 1);
    return out;
}

static int spawn(const struct proc_spec *spec, bool new_group, pid_t *pid_out,
                 struct err *err)
{
    struct birth b = { .spec = spec,
                       .new_group = new_group,
                       .parent = getpid(),
                       .nofile = loop_old_nofile(),
                       .dev_null = dev_null(),
                       .trace_fd = -1,
                       .max_signal = SIGRTMAX };
    int r CLEANUP(close_fd) = -1;
    int w CLEANUP(close_fd) = -1;
    struct arena *env CLEANUP(arena_free) = arena_new(65536);
    sigset_t all, old;
    int ends[2];
    pid_t pid;

    if (b.dev_null < 0)
        return err_sys(err, "start %s: open /dev/null", spec->path);
    if (spec->n_fds > 255)
        return err_perm(err, "start %s: too many descriptors", spec->path);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, "start %s: pipe", spec->path);
    r = ends[0];
    w = ends[1];
    b.report = w;
    b.envp = environment(spec, env);
    /* No handler of ours may run in the child: libuv's would write to the
     * pipe that it shares with us. */
    (void)sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, &old) == 0);
    pid = fork();
    if (pid == 0)
        child_run(&b);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    if (pid < 0)
        return err_sys(err, "start %s: fork", spec->path);
    close_fd(&w);
    if (read_report(r, spec, pid, err) < 0)
        return -1;
    *pid_out = pid;
    return 0;
}

int proc_spawn(const struct proc_spec *spec, pid_t *pid_out, struct err *err)
{
    return spawn(spec, false, pid_out, err);
}

int proc_spawn_group(const struct proc_spec *spec, pid_t *pid_out,
                     struct err *err)
{
    return spawn(spec, true, pid_out, err);
}

/* ---- the end of children */

struct child {
    struct list link;
    pid_t pid;
    void (*fn)(pid_t pid, int wstatus, void *arg);
    void *arg;
};

static struct list children = { &children, &children };
static bool is_listening;
static struct deferred look_soon;

static struct child *find_ended(int *wstatus)
{
    list_each(e, &children) {
        struct child *c = CONTAINER_OF(e, struct child, link);
        pid_t pid = waitpid(c->pid, wstatus, WNOHANG);

        if (pid == c->pid)
            return c;
        if (pid < 0 && errno == ECHILD) {
            *wstatus = 0; /* somebody else has waited for it */
            return c;
        }
    }
    return NULL;
}

static void look(void)
{
    struct child *c;
    int wstatus;

    /* Anew after each call: fn may start and drop children. */
    while ((c = find_ended(&wstatus)) != NULL) {
        list_remove(&c->link);
        rt_loop.n_children--;
        c->fn(c->pid, wstatus, c->arg);
        free(c);
    }
}

static void sigchld(UNUSED int signo, UNUSED void *arg)
{
    look();
}

static void look_deferred(UNUSED struct deferred *d)
{
    look();
}

void proc_on_exit(pid_t pid, void (*fn)(pid_t pid, int wstatus, void *arg),
                  void *arg)
{
    struct child *c = xcalloc(1, sizeof(*c));

    CHECK(rt_loop.is_open);
    c->pid = pid;
    c->fn = fn;
    c->arg = arg;
    list_push(&children, &c->link);
    rt_loop.n_children++;
    if (!is_listening)
        signal_on(SIGCHLD, sigchld, NULL);
    is_listening = true;
    /* It may have ended before we listened. */
    deferred_set(&look_soon, look_deferred);
}

void children_forget(void)
{
    list_each_safe(e, next, &children)
        free(CONTAINER_OF(e, struct child, link));
    list_init(&children);
    is_listening = false;
    look_soon = (struct deferred){ 0 };
}
