#ifndef RT_PROC_H
#define RT_PROC_H

/*
 * Child processes and passing of descriptors.  proc_spawn() starts a program
 * with exactly the descriptors and environment it is given; all else is closed.
 */
#include "base/base.h"
#include "base/clock.h"

struct proc_spec {
    const char *path;        /* executable, absolute or /proc/self/exe */
    const char *const *argv; /* NULL-terminated */
    const char *const *envp; /* NULL-terminated; never inherited */
    const char *chdir;       /* or NULL */
    uid_t uid; /* (uid_t)-1: unchanged; else setgid, setgroups({gid}), setuid */
    gid_t gid;
    /* fds[i] becomes descriptor i in the child; -1: /dev/null for 0..2,
     * closed otherwise. */
    const int *fds;
    size_t n_fds;
    bool new_session;     /* setsid() */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
    uint64_t max_cpu_s, max_mem_bytes, max_file_bytes; /* 0: unchanged */
};

/* Start it.  Failure of the child before exec (chdir, exec) is reported here,
 * with its errno. */
int proc_spawn(const struct proc_spec *spec, pid_t *pid_out, struct err *err);
/* fn runs on the loop, outside tasks, when pid has ended. */
void proc_on_exit(pid_t pid, void (*fn)(pid_t pid, int wstatus, void *arg),
                  void *arg);
/* Run to its end: feed `input` to descriptor 0 (with EPIPE ignored), collect
 * descriptors 1 and 2 into `output` up to its max (the rest is read and
 * dropped).  At the deadline the process group is killed and ERR_TEMP
 * returned.  spec->fds is ignored. */
MAY_WAIT int proc_run(const struct proc_spec *spec, slice input,
                      struct buf *output, msec deadline, int *wstatus_out,
                      struct err *err);
/* The same with the input from descriptor in_fd (read to its end). */
MAY_WAIT int proc_run_fd(const struct proc_spec *spec, int in_fd,
                         struct buf *output, msec deadline, int *wstatus_out,
                         struct err *err);

#define FD_PASS_MAX 16
/* One sendmsg/recvmsg with descriptors on a UNIX stream socket.  Return as
 * send/recv (-1 and errno); received descriptors are close-on-exec. */
ssize_t fd_send(int sock, const void *p, size_t n, const int *fds,
                size_t n_fds);
ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t *n_fds_inout);

#endif
