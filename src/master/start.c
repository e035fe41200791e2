/* From a command to a running server. */
#include "access/access.h"
#include "keys/keys.h"
#include "master/master_priv.h"
#include "rt/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define READY_MS     60000
#define EVENT_BUFFER (4 << 20)

void master_trouble(struct master *m, const char *fmt, ...)
{
    va_list ap;

    if (m->trouble[0] != '\0')
        return; /* the first one is the cause */
    va_start(ap, fmt);
    (void)vsnprintf(m->trouble, sizeof m->trouble, fmt, ap);
    va_end(ap);
    waitq_wake_all(&m->changed);
}

int master_conf_fd(const struct conf *c, int *fd_out, struct err *err)
{
    int fd CLEANUP(close_fd) =
        memfd_create("hato-conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct buf b;
    int rc;

    if (fd < 0)
        return err_sys(err, "memfd_create");
    buf_init(&b, CONF_MAX_BYTES);
    rc = conf_to_bytes(c, &b, err);
    if (rc == 0 && file_write_all(fd, buf_view(&b), 0) < 0)
        rc = err_sys(err, "write the configuration");
    buf_done(&b);
    if (rc == 0 &&
        fcntl(fd, F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        rc = err_sys(err, "seal the configuration");
    if (rc == 0)
        *fd_out = take_fd(&fd);
    return rc;
}

/* ------------------------------------------- before the caller is let go */

static int load_conf(struct master *m, const char *dir, struct err *err)
{
    struct conf_diags diags;
    struct buf text;
    int rc;

    conf_diags_init(&diags);
    buf_init(&text, 1 << 20);
    rc = conf_load(conf_dir_default(dir), 0, &m->conf, &diags, err);
    if (rc == 0) {
        (void)conf_check(m->conf, true, &diags);
        keys_check(m->conf, &diags);
        if (diags.n_errors > 0)
            rc = err_perm(err, "the configuration has errors");
    }
    conf_diags_print(&diags, &text);
    (void)fprintf(stderr, "%.*s", SLF(buf_view(&text)));
    buf_done(&text);
    conf_diags_done(&diags);
    return rc;
}

static int own_path(struct master *m, struct err *err)
{
    char path[1024];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    if (n < 0)
        return err_sys(err, "read /proc/self/exe");
    path[n] = '\0';
    m->exe = xstrdup(path);
    return 0;
}

/* The socket on which all processes send events.  Both ends stay here, so
 * that what is said while the log process starts anew is not lost. */
static int make_events(struct master *m, struct err *err)
{
    const int size = EVENT_BUFFER;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, "make a socket pair");
    m->events_rx = fds[0];
    m->events_tx = fds[1];
    if (setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return 0;
}

static int make_pipes(struct master *m, struct err *err)
{
    const char *trace = getenv("HATO_FSTRACE_FD");
    uint64_t fd;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, "make a pipe");
    m->stderr_rx = fds[0];
    m->stderr_tx = fds[1];
    if (trace != NULL && slice_u64(slice_str(trace), &fd) && fd < 1 << 20)
        m->trace_fd = (int)fd;
    return 0;
}

/* How many login processes there are is of the start: they share ports.  Few
 * are better than many: who finds more to do at each turn sleeps less often,
 * and so do auth, the broker and the workers behind. */
static unsigned count_login(const struct conf *c)
{
    long n = conf_int(c, NULL, "login_process_count");

    if (n <= 0)
        n = process_n_smtp();
    return n < SLOTS_MAX ? (unsigned)n : SLOTS_MAX;
}

static int prepare(struct master *m, const struct master_options *o,
                   struct err *err)
{
    m->is_root = geteuid() == 0;
    m->is_foreground = o->is_foreground;
    m->n_smtpd = process_n_smtp();
    if (load_conf(m, o->conf_dir, err) < 0 || own_path(m, err) < 0 ||
        place_users(m, m->conf, err) < 0 || place_dirs(m, m->conf, err) < 0 ||
        place_lock(m, m->conf, err) < 0 || place_log(m, m->conf, err) < 0 ||
        make_events(m, err) < 0 || make_pipes(m, err) < 0 ||
        access_counters_create(0, &m->counters_fd, err) < 0 ||
        access_passes_create(&m->passes_fd, err) < 0 ||
        master_conf_fd(m->conf, &m->conf_fd, err) < 0)
        return -1;
    m->n_login = count_login(m->conf);
    return 0;
}

/* ------------------------------------------------------------- the children */

/* What a child wrote to standard error is a panic dump or a complaint of a
 * library: both belong into the log. */
static void on_stderr(void *arg, int events UNUSED)
{
    struct master *m = arg;
    char text[1500];
    ssize_t n = read(m->stderr_rx, text, sizeof text);
    slice rest = slice_of(text, n > 0 ? (size_t)n : 0), line;

    if (n > 0 && (m->is_foreground || m->state == MASTER_STARTING))
        (void)!write(STDERR_FILENO, text, (size_t)n);
    while (rest.n > 0) {
        slice_cut(&rest, '\n', &line);
        if (line.n > 0)
            log_error("%.*s", SLF(line));
    }
}

static bool all_ready(struct master *m)
{
    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->is_wanted && !s->is_lazy &&
            (s->current == NULL || s->current->state != CHILD_READY))
            return false;
    }
    return true;
}

MAY_WAIT static int start_children(struct master *m, struct err *err)
{
    msec deadline = clock_after(READY_MS);

    list_each(it, &m->slots) {
        struct slot *s = CONTAINER_OF(it, struct slot, link);

        if (s->is_wanted && !s->is_lazy &&
            child_start(s, m->conf_fd, &s->current, err) < 0)
            return -1;
    }
    while (m->trouble[0] == '\0' && !all_ready(m))
        if (waitq_wait(&m->changed, deadline, err) < 0)
            return err_prefix(err, "not every process became ready");
    if (m->trouble[0] != '\0')
        return err_temp(err, "%s", m->trouble);
    return 0;
}

static void write_pid(struct master *m)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%*lld\n", 10, (long long)getpid());

    if (ftruncate(m->lock_fd, 0) < 0 ||
        pwrite(m->lock_fd, text, (size_t)n, 0) != n)
        log_warning("the pid file cannot be written: %s", strerror(errno));
}

/* Tell the waiting command; it ends with `status`. */
static void report(struct master *m, int status, const char *text)
{
    char message[600];
    int n = snprintf(message, sizeof message, "%c%s", '0' + status, text);

    if (m->report_fd < 0) {
        if (status != 0)
            (void)fprintf(stderr, "hato: fatal: %s\n", text);
        return;
    }
    (void)!write(m->report_fd, message, min_size((size_t)n, sizeof message));
    close_fd(&m->report_fd);
}

static void let_go(struct master *m)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (m->is_foreground || null < 0)
        return;
    for (int fd = 0; fd <= 2; fd++)
        (void)dup2(null, fd);
    close(null);
}

MAY_WAIT static int start_all(struct master *m, struct err *err)
{
    slots_mark(m, m->conf);
    if (ports_open(m, m->conf, err) < 0 || sources_load(m, m->conf, err) < 0 ||
        start_children(m, err) < 0 || control_open(m, err) < 0)
        return -1;
    return 0;
}

MAY_WAIT static void start_task(void *arg)
{
    struct master *m = arg;
    struct err err;

    if (start_all(m, &err) < 0) {
        log_error("start: %s", err.log);
        master_abort(m);
        m->status = 1;
        report(m, 1, err.log);
        loop_stop();
        return;
    }
    m->state = MASTER_RUNNING;
    write_pid(m);
    sources_watch(m);
    log_info("daemon started -- version %s, configuration %s", HATO_VERSION,
             conf_dir(m->conf));
    report(m, 0, "");
    let_go(m);
}

/* ------------------------------------------------------------------ signals */

MAY_WAIT static void stop_task(void *arg)
{
    struct master *m = arg;
    struct err err;

    if (sema_down(&m->admin, MSEC_NEVER, &err) < 0)
        return;
    master_stop(m);
    loop_stop();
}

MAY_WAIT static void reload_task(void *arg)
{
    struct master *m = arg;
    struct buf text;
    struct err err;

    buf_init(&text, 1 << 20);
    if (sema_down(&m->admin, MSEC_NEVER, &err) == 0) {
        (void)master_reload(m, &text, &err); /* it logs */
        sema_up(&m->admin);
    }
    buf_done(&text);
}

static void on_signal(int signo, void *arg)
{
    struct master *m = arg;
    struct err err;

    if (m->state == MASTER_STOPPING)
        return;
    if (signo == SIGTERM || signo == SIGINT)
        task_spawn("stop", stop_task, m);
    else if (m->state != MASTER_RUNNING)
        return;
    else if (signo == SIGHUP)
        task_spawn("reload", reload_task, m);
    else if (place_reopen_log(m, SLICE_NONE, &err) < 0)
        log_error("%s", err.log);
}

/* ------------------------------------------------------------------ the life
 */

static void close_ports(struct master *m)
{
    list_each(it, &m->ports)
        CONTAINER_OF(it, struct port, link)->is_wanted = false;
    ports_drop(m);
}

static int serve(struct master *m)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };

    loop_init("master", 1);
    process_title("hato: master");
    event_setup(m->events_tx, "master");
    event_batch(true);
    if (chdir("/") < 0)
        log_warning("cannot go to /: %s", strerror(errno));
    waitq_init(&m->changed);
    sema_init(&m->admin, 1);
    m->started_at = clock_mono();
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        signal_on(signals[i], on_signal, m);
    m->stderr_watch = fd_watch_new(m->stderr_rx, WATCH_READ, on_stderr, m);
    task_spawn("start", start_task, m);
    loop_run();
    control_close(m);
    close_ports(m);
    close_fd(&m->lock_fd);
    return m->status;
}

/* The caller waits for the first word of its child. */
static int await_report(int fd)
{
    char text[600];
    ssize_t n;

    do
        n = read(fd, text, sizeof text - 1);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        (void)fprintf(stderr, "hato: fatal: master ended at its start\n");
        return 1;
    }
    text[n] = '\0';
    if (text[0] != '0')
        (void)fprintf(stderr, "hato: fatal: %s\n", text + 1);
    return text[0] - '0';
}

static int go_behind(struct master *m)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        (void)fprintf(stderr, "hato: fatal: %s\n", strerror(errno));
        return 1;
    }
    if (pid > 0) {
        close(fds[1]);
        return await_report(fds[0]);
    }
    close(fds[0]);
    m->report_fd = fds[1];
    (void)setsid();
    return serve(m);
}

int master_start(const struct master_options *o)
{
    static struct master m = { .conf_fd = -1,
                               .lock_fd = -1,
                               .events_rx = -1,
                               .events_tx = -1,
                               .counters_fd = -1,
                               .passes_fd = -1,
                               .trace_fd = -1,
                               .stderr_rx = -1,
                               .stderr_tx = -1,
                               .log_fd = -1,
                               .report_fd = -1,
                               .dirs_inotify = -1,
                               .control_fd = -1 };
    struct err err;

    clock_setup();
    (void)umask(022);
    list_init(&m.slots);
    list_init(&m.children);
    list_init(&m.ports);
    list_init(&m.sources);
    list_init(&m.keyfiles);
    if (prepare(&m, o, &err) < 0) {
        (void)fprintf(stderr, "hato: fatal: %s\n", err.log);
        return 1;
    }
    return m.is_foreground ? serve(&m) : go_behind(&m);
}
