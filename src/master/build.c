/* Indexed tables: made by a short-lived child with the uid of the source's
 * owner, which writes a file that master made. */
#include "master/master_priv.h"
#include "rt/file.h"
#include "rt/proc.h"
#include "table/table.h"

#include <fcntl.h>
#include <sys/wait.h>

#define BUILD_MS 300000

struct building {
    struct task *task;
    bool is_done;
    int wstatus;
};

static void ended(pid_t pid UNUSED, int wstatus, void *arg)
{
    struct building *b = arg;

    b->is_done = true;
    b->wstatus = wstatus;
    task_wake(b->task);
}

/* Waits for the child whatever happens: its record is on this stack. */
MAY_WAIT static int wait_child(pid_t pid, struct err *err)
{
    struct building b = { .task = task_self() };
    msec deadline = clock_after(BUILD_MS);
    bool is_killed = false;

    proc_on_exit(pid, ended, &b);
    while (!b.is_done) {
        if (task_wait(is_killed ? MSEC_NEVER : deadline, err) < 0 &&
            !is_killed) {
            is_killed = true;
            (void)kill(pid, SIGKILL);
        }
        if (is_killed && task_is_cancelled())
            task_uncancel();
    }
    if (is_killed)
        return err_temp(err, "the building child was too slow");
    if (!WIFEXITED(b.wstatus) || WEXITSTATUS(b.wstatus) != 0)
        return err_temp(err,
                        "the building child ended with status %d (see "
                        "the log)",
                        WIFEXITED(b.wstatus) ? WEXITSTATUS(b.wstatus)
                                             : b.wstatus);
    return 0;
}

MAY_WAIT static int run_child(struct master *m, struct source *s, int source_fd,
                              int out_fd, const struct stat *st,
                              struct err *err)
{
    const char *argv[] = { "hato: build", s->is_alias ? "aliases" : "map",
                           s->path, NULL };
    const char *envp[] = { "PATH=/usr/bin:/bin", NULL };
    const int fds[] = { -1, -1, m->stderr_tx, source_fd, out_fd, m->events_tx };
    struct proc_spec spec = {
        .path = m->exe,
        .argv = argv,
        .envp = envp,
        .uid = m->is_root ? st->st_uid : (uid_t)-1,
        .gid = m->is_root ? st->st_gid : (gid_t)-1,
        .fds = fds,
        .n_fds = ARRAY_LEN(fds),
        .die_with_parent = true,
    };
    pid_t pid;

    if (proc_spawn(&spec, &pid, err) < 0)
        return -1;
    return wait_child(pid, err);
}

/* The index as it lies there, when it is of this source; else -1. */
static int open_fresh(int dir, const char *name, const struct stat *st)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && !table_built_is_fresh(fd, st))
        close_fd(&fd);
    return fd;
}

MAY_WAIT static int build(struct master *m, struct source *s, int dir,
                          int source_fd, const struct stat *st, struct err *err)
{
    char name[TABLE_FILE_NAME], tmp[TABLE_FILE_NAME + 8];
    int out CLEANUP(close_fd) = -1;

    table_built_name(slice_str(s->path),
                     s->is_alias ? TABLE_POSTALIAS : TABLE_POSTMAP, name);
    (void)snprintf(tmp, sizeof tmp, ".new.%s", name);
    (void)file_unlinkat(dir, tmp, 0);
    out = file_openat(dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                      st->st_mode & 0644);
    if (out < 0)
        return err_sys(err, "create %s", tmp);
    if (run_child(m, s, source_fd, out, st, err) < 0) {
        (void)file_unlinkat(dir, tmp, 0);
        return err_prefix(err, "index %s", s->whole);
    }
    if (file_renameat(dir, tmp, dir, name) < 0)
        return err_sys(err, "rename %s", tmp);
    return 0;
}

int source_build(struct master *m, struct source *s, int source_fd,
                 const struct stat *st, int *fd_out, struct err *err)
{
    char *path CLEANUP(free_ptr) =
        xasprintf("%s/tables", conf_str(m->conf, NULL, "data_directory"));
    int dir CLEANUP(close_fd) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[TABLE_FILE_NAME];
    int fd;

    if (dir < 0)
        return err_sys(err, "open %s", path);
    table_built_name(slice_str(s->path),
                     s->is_alias ? TABLE_POSTALIAS : TABLE_POSTMAP, name);
    fd = open_fresh(dir, name, st);
    if (fd < 0) {
        if (build(m, s, dir, source_fd, st, err) < 0)
            return -1;
        /* What was built may be of a newer source than st: both are right,
         * and the next look builds again. */
        fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            return err_sys(err, "open %s/%s", path, name);
    }
    *fd_out = fd;
    return 0;
}
