/* Running a child to its end, with its input and output. */
#include "rt/proc.h"

#include "rt/rt_priv.h"

#include <fcntl.h>
#include <signal.h>

enum {
    CHUNK = 65536,
    KILLED_WAIT_MS = 2000, /* for a killed child to be gone */
    COPY_AT_ONCE = 16,     /* chunks before the deadline is looked at */
};

/* Outlives proc_run() when a killed child does not go away. */
struct ending {
    struct task *task; /* NULL: nobody waits any more */
    bool is_ended;
    int wstatus;
};

struct run {
    int in_w;  /* our end of descriptor 0; -1 when all is fed */
    int out_r; /* our end of 1 and 2; -1 at its end */
    slice input;
    int source_fd; /* more input, or -1 */
    struct buf *output;
    struct fd_watch *in_watch, *out_watch;
    struct ending *ending;
    char *chunk;
    struct buf pending; /* read from source_fd, not written yet */
};

static void ended(UNUSED pid_t pid, int wstatus, void *arg)
{
    struct ending *e = arg;

    e->is_ended = true;
    e->wstatus = wstatus;
    if (e->task != NULL)
        task_wake(e->task);
    else
        free(e);
}

static void wake(void *arg, UNUSED int events)
{
    task_wake(arg);
}

static void close_in(struct run *r)
{
    fd_watch_free(&r->in_watch);
    close_fd(&r->in_w);
}

static void close_out(struct run *r)
{
    fd_watch_free(&r->out_watch);
    close_fd(&r->out_r);
}

/* ---- feeding: each step is the next bytes of the memory or the file */

/* False when there is no more input. */
static bool next_input(struct run *r)
{
    ssize_t n;

    if (r->input.n > 0)
        return true;
    if (r->source_fd < 0)
        return false;
    do
        n = read(r->source_fd, r->chunk, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    buf_clear(&r->pending);
    CHECK(buf_put(&r->pending, r->chunk, (size_t)n));
    r->input = buf_view(&r->pending);
    return true;
}

static void feed(struct run *r)
{
    for (int i = 0; i < COPY_AT_ONCE && r->in_w >= 0; i++) {
        ssize_t n;

        if (!next_input(r)) {
            close_in(r);
            return;
        }
        n = write(r->in_w, r->input.p, r->input.n);
        if (n >= 0)
            r->input = slice_from(r->input, (size_t)n);
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            close_in(r); /* EPIPE: it does not want the rest */
    }
}

static void collect(struct run *r)
{
    for (int i = 0; i < COPY_AT_ONCE && r->out_r >= 0; i++) {
        ssize_t n = read(r->out_r, r->chunk, CHUNK);

        if (n > 0) {
            size_t room = r->output->max - r->output->n;

            /* The rest is read, so that the child does not block, and
             * dropped. */
            (void)buf_put(r->output, r->chunk, min_size((size_t)n, room));
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else if (n == 0 || errno != EINTR) {
            close_out(r);
        }
    }
}

/* ---- */

static int make_pipes(struct run *r, int child_fds[3], struct err *err)
{
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    if (pipe2(out, O_CLOEXEC) < 0) {
        err_sys(err, "pipe");
        (void)close(in[0]);
        (void)close(in[1]);
        return -1;
    }
    r->in_w = in[1];
    r->out_r = out[0];
    (void)fcntl(r->in_w, F_SETFL, O_NONBLOCK);
    (void)fcntl(r->out_r, F_SETFL, O_NONBLOCK);
    child_fds[0] = in[0];
    child_fds[1] = out[1];
    child_fds[2] = out[1];
    return 0;
}

static int start(struct run *r, const struct proc_spec *spec, pid_t *pid_out,
                 struct err *err)
{
    struct proc_spec mine = *spec;
    int fds[3];
    int rc;

    if (make_pipes(r, fds, err) < 0)
        return -1;
    mine.fds = fds;
    mine.n_fds = 3;
    rc = proc_spawn_group(&mine, pid_out, err);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return rc;
}

/* The child has ended, its output has been read: a grandchild that keeps the
 * pipe open is not waited for. */
MAY_WAIT static int talk(struct run *r, msec deadline, struct err *err)
{
    struct task *self = task_self();

    r->in_watch = fd_watch_new(r->in_w, WATCH_WRITE, wake, self);
    r->out_watch = fd_watch_new(r->out_r, WATCH_READ, wake, self);
    for (;;) {
        bool was_ended = r->ending->is_ended;

        feed(r);
        collect(r);
        if (was_ended)
            return 0;
        if (task_wait(deadline, err) < 0)
            return -1;
    }
}

/* After SIGKILL to the group: reap it, unless it hangs in the kernel. */
MAY_WAIT static void wait_killed(struct ending *e)
{
    msec until = clock_after(KILLED_WAIT_MS);
    bool was_cancelled = task_is_cancelled();

    task_uncancel();
    while (!e->is_ended && task_block(WAIT_WAKE, until) == WAIT_WOKEN)
        continue;
    if (was_cancelled)
        task_cancel(task_self());
}

MAY_WAIT static int run_child(struct run *r, const struct proc_spec *spec,
                              msec deadline, int *wstatus_out, struct err *err)
{
    struct ending *e;
    pid_t pid;
    int rc;

    if (start(r, spec, &pid, err) < 0)
        return -1;
    e = xcalloc(1, sizeof(*e));
    e->task = task_self();
    r->ending = e;
    proc_on_exit(pid, ended, e);
    rc = talk(r, deadline, err);
    if (rc < 0) {
        (void)kill(-pid, SIGKILL);
        wait_killed(e);
        err_prefix(err, "command %s", spec->path);
    } else {
        *wstatus_out = e->wstatus;
    }
    if (e->is_ended)
        free(e);
    else
        e->task = NULL;
    return rc;
}

MAY_WAIT static int run_all(struct run *r, const struct proc_spec *spec,
                            msec deadline, int *wstatus_out, struct err *err)
{
    int rc;

    r->in_w = -1;
    r->out_r = -1;
    r->chunk = xmalloc(CHUNK);
    buf_init(&r->pending, CHUNK);
    rc = run_child(r, spec, deadline, wstatus_out, err);
    close_in(r);
    close_out(r);
    buf_done(&r->pending);
    free(r->chunk);
    return rc;
}

int proc_run(const struct proc_spec *spec, slice input, struct buf *output,
             msec deadline, int *wstatus_out, struct err *err)
{
    struct run r = { .input = input, .source_fd = -1, .output = output };

    return run_all(&r, spec, deadline, wstatus_out, err);
}

int proc_run_fd(const struct proc_spec *spec, int in_fd, struct buf *output,
                msec deadline, int *wstatus_out, struct err *err)
{
    struct run r = { .source_fd = in_fd, .output = output };

    return run_all(&r, spec, deadline, wstatus_out, err);
}
