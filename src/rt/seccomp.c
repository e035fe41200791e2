/*
 * The filter of system calls.  A process that does not exec gets a list of what
 * it may call; all else returns EPERM.  One that does (SANDBOX_EXEC) hands its
 * filter on to foreign programs, whose needs nobody can list: it gets a list of
 * what is refused instead.
 */
#include "rt/sandbox_priv.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SYS(name) SCMP_SYS(name)
#define REFUSE    SCMP_ACT_ERRNO(EPERM)

/* Everything that works on what a process already holds. */
static const int always[] = {
    SYS(read),
    SYS(write),
    SYS(readv),
    SYS(writev),
    SYS(pread64),
    SYS(pwrite64),
    SYS(preadv),
    SYS(pwritev),
    SYS(preadv2),
    SYS(pwritev2),
    SYS(lseek),
    SYS(close),
    SYS(close_range),
    SYS(fstat),
    SYS(fstatfs),
    SYS(ftruncate),
    SYS(fallocate),
    SYS(fsync),
    SYS(fdatasync),
    SYS(syncfs),
    SYS(sync_file_range),
    SYS(fadvise64),
    SYS(readahead),
    SYS(flock),
    SYS(fcntl),
    SYS(dup),
    SYS(dup2),
    SYS(dup3),
    SYS(pipe),
    SYS(pipe2),
    SYS(sendfile),
    SYS(splice),
    SYS(tee),
    SYS(copy_file_range),
    SYS(getdents64),
    SYS(memfd_create),
    SYS(mmap),
    SYS(munmap),
    SYS(mprotect),
    SYS(mremap),
    SYS(madvise),
    SYS(msync),
    SYS(mincore),
    SYS(mlock),
    SYS(munlock),
    SYS(mlock2),
    SYS(brk),
    SYS(futex),
    SYS(futex_waitv),
    SYS(set_robust_list),
    SYS(get_robust_list),
    SYS(set_tid_address),
    SYS(rseq),
    SYS(membarrier),
    SYS(epoll_create),
    SYS(epoll_create1),
    SYS(epoll_ctl),
    SYS(epoll_wait),
    SYS(epoll_pwait),
    SYS(epoll_pwait2),
    SYS(eventfd),
    SYS(eventfd2),
    SYS(signalfd4),
    SYS(timerfd_create),
    SYS(timerfd_settime),
    SYS(timerfd_gettime),
    SYS(poll),
    SYS(ppoll),
    SYS(select),
    SYS(pselect6),
    SYS(recvfrom),
    SYS(recvmsg),
    SYS(recvmmsg),
    SYS(sendto),
    SYS(sendmsg),
    SYS(sendmmsg),
    SYS(shutdown),
    SYS(getsockopt),
    SYS(setsockopt),
    SYS(getsockname),
    SYS(getpeername),
    SYS(accept),
    SYS(accept4),
    SYS(socketpair),
    SYS(getpid),
    SYS(getppid),
    SYS(gettid),
    SYS(getuid),
    SYS(geteuid),
    SYS(getgid),
    SYS(getegid),
    SYS(getresuid),
    SYS(getresgid),
    SYS(getgroups),
    SYS(getpgrp),
    SYS(getpgid),
    SYS(getsid),
    SYS(clock_gettime),
    SYS(clock_getres),
    SYS(clock_nanosleep),
    SYS(nanosleep),
    SYS(gettimeofday),
    SYS(time),
    SYS(times),
    SYS(getrusage),
    SYS(getrlimit),
    SYS(setrlimit),
    SYS(getitimer),
    SYS(setitimer),
    SYS(alarm),
    SYS(rt_sigaction),
    SYS(rt_sigprocmask),
    SYS(rt_sigreturn),
    SYS(rt_sigpending),
    SYS(rt_sigsuspend),
    SYS(rt_sigtimedwait),
    SYS(sigaltstack),
    SYS(restart_syscall),
    SYS(pause),
    SYS(sched_yield),
    SYS(sched_getaffinity),
    SYS(sched_getparam),
    SYS(sched_getscheduler),
    SYS(getpriority),
    SYS(getcpu),
    SYS(exit),
    SYS(exit_group),
    SYS(wait4),
    SYS(waitid),
    SYS(getrandom),
    SYS(uname),
    SYS(sysinfo),
    SYS(umask),
    SYS(getcwd),
    SYS(fchdir),
    SYS(arch_prctl),
};

static const int of_open[] = {
    SYS(stat),
    SYS(lstat),
    SYS(newfstatat),
    SYS(statx),
    SYS(access),
    SYS(faccessat),
    SYS(faccessat2),
    SYS(readlink),
    SYS(readlinkat),
    SYS(statfs),
    SYS(getdents),
    SYS(chdir),
    SYS(inotify_init),
    SYS(inotify_init1),
    SYS(inotify_add_watch),
    SYS(inotify_rm_watch),
    SYS(getxattr),
    SYS(lgetxattr),
    SYS(fgetxattr),
};
static const int opens[] = { SYS(open), SYS(openat) };

static const int of_write[] = {
    SYS(creat),     SYS(truncate),  SYS(rename),    SYS(renameat),
    SYS(renameat2), SYS(link),      SYS(linkat),    SYS(symlink),
    SYS(symlinkat), SYS(unlink),    SYS(unlinkat),  SYS(mkdir),
    SYS(mkdirat),   SYS(rmdir),     SYS(mknod),     SYS(mknodat),
    SYS(chmod),     SYS(fchmod),    SYS(fchmodat),  SYS(chown),
    SYS(fchown),    SYS(lchown),    SYS(fchownat),  SYS(utime),
    SYS(utimes),    SYS(futimesat), SYS(utimensat), SYS(sync),
};

static const int of_fork[] = {
    SYS(fork), SYS(vfork), SYS(setpgid), SYS(setsid), SYS(pidfd_open),
};

static const int of_exec[] = { SYS(execve), SYS(execveat) };

static const int of_sockets[] = { SYS(connect), SYS(bind), SYS(listen) };

static const int of_setuid[] = {
    SYS(setuid),    SYS(setgid),    SYS(setreuid),  SYS(setregid),
    SYS(setresuid), SYS(setresgid), SYS(setgroups), SYS(setfsuid),
    SYS(setfsgid),  SYS(capset),    SYS(capget),
};

static const int of_kill[] = {
    SYS(kill),
    SYS(tkill),
    SYS(tgkill),
    SYS(rt_sigqueueinfo),
    SYS(rt_tgsigqueueinfo),
    SYS(pidfd_send_signal),
};

/* Refused whatever the flags say. */
static const int never[] = {
    SYS(ptrace),
    SYS(process_vm_readv),
    SYS(process_vm_writev),
    SYS(process_madvise),
    SYS(pidfd_getfd),
    SYS(kcmp),
    SYS(mount),
    SYS(umount2),
    SYS(move_mount),
    SYS(open_tree),
    SYS(fsopen),
    SYS(fsconfig),
    SYS(fsmount),
    SYS(fspick),
    SYS(mount_setattr),
    SYS(pivot_root),
    SYS(bpf),
    SYS(perf_event_open),
    SYS(keyctl),
    SYS(add_key),
    SYS(request_key),
    SYS(setns),
    SYS(unshare),
    SYS(personality),
    SYS(userfaultfd),
    SYS(io_uring_setup),
    SYS(io_uring_enter),
    SYS(io_uring_register),
    SYS(quotactl),
    SYS(acct),
    SYS(settimeofday),
    SYS(clock_settime),
    SYS(adjtimex),
    SYS(clock_adjtime),
    SYS(sethostname),
    SYS(setdomainname),
    SYS(syslog),
    SYS(vhangup),
    SYS(lookup_dcookie),
    SYS(name_to_handle_at),
    SYS(open_by_handle_at),
    SYS(fanotify_init),
    SYS(fanotify_mark),
    SYS(nfsservctl),
    SYS(chroot),
    SYS(modify_ldt),
    SYS(migrate_pages),
    SYS(move_pages),
};

/* Nothing benign calls these: the process is taken over, so it dies. */
static const int deadly[] = {
    SYS(kexec_load),   SYS(kexec_file_load), SYS(init_module),
    SYS(finit_module), SYS(delete_module),   SYS(create_module),
    SYS(reboot),       SYS(swapon),          SYS(swapoff),
    SYS(iopl),         SYS(ioperm),
};

/* What the C library and streams ask of a descriptor. */
static const unsigned long ioctls[] = { FIONREAD, FIONBIO,    FIOCLEX, FIONCLEX,
                                        TCGETS,   TIOCGWINSZ, TIOCOUTQ };

/* The filter being made; the first failure stays. */
struct filter {
    scmp_filter_ctx ctx;
    bool is_list_of_refused; /* SANDBOX_EXEC */
    int rc;
};

static void rule(struct filter *f, uint32_t action, int call, unsigned n,
                 const struct scmp_arg_cmp *args)
{
    int rc;

    if (f->rc < 0)
        return;
    rc = seccomp_rule_add_array(f->ctx, action, call, n, args);
    /* A call that this architecture has not, or the default repeated. */
    if (rc < 0 && rc != -EDOM && rc != -EACCES)
        f->rc = rc;
}

static void all(struct filter *f, uint32_t action, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rule(f, action, calls[i], 0, NULL);
}

#define ALL(f, action, calls) all((f), (action), (calls), ARRAY_LEN(calls))

/* Allow a family or refuse it, whichever list this filter is. */
static void family(struct filter *f, bool is_allowed, const int *calls,
                   size_t n)
{
    if (is_allowed && !f->is_list_of_refused)
        all(f, SCMP_ACT_ALLOW, calls, n);
    if (!is_allowed && f->is_list_of_refused)
        all(f, REFUSE, calls, n);
}

#define FAMILY(f, is_allowed, calls)                                           \
 family((f), (is_allowed), (calls), ARRAY_LEN(calls))

/* Argument n, of which only the low half counts: the kernel takes an int. */
static struct scmp_arg_cmp arg_is(unsigned n, uint32_t value)
{
    return (struct scmp_arg_cmp){ n, SCMP_CMP_MASKED_EQ, UINT32_MAX, value };
}

static struct scmp_arg_cmp arg_bits(unsigned n, uint32_t mask, uint32_t value)
{
    return (struct scmp_arg_cmp){ n, SCMP_CMP_MASKED_EQ, mask, value };
}

static void allow_if(struct filter *f, int call, struct scmp_arg_cmp arg)
{
    if (!f->is_list_of_refused)
        rule(f, SCMP_ACT_ALLOW, call, 1, &arg);
}

static void refuse_if(struct filter *f, int call, struct scmp_arg_cmp arg)
{
    if (f->is_list_of_refused)
        rule(f, REFUSE, call, 1, &arg);
}

/* ---- families whose arguments matter */

static void files(struct filter *f, unsigned allow)
{
    const unsigned changing = O_ACCMODE | O_CREAT | O_TRUNC;
    /* Foreign programs open /dev/null and the like for writing; there it is
     * for Landlock and the uid to say which. */
    bool open_any = (allow & SANDBOX_WRITE) || f->is_list_of_refused;

    FAMILY(f, allow & SANDBOX_OPEN, of_open);
    FAMILY(f, allow & SANDBOX_WRITE, of_write);
    FAMILY(f, (allow & SANDBOX_OPEN) && open_any, opens);
    if ((allow & SANDBOX_OPEN) && !open_any) {
        allow_if(f, SYS(open), arg_bits(1, changing, 0));
        allow_if(f, SYS(openat), arg_bits(2, changing, 0));
    }
    if (!(allow & SANDBOX_OPEN)) {
        /* fstat() of the C library is newfstatat(fd, "", AT_EMPTY_PATH). */
        allow_if(f, SYS(newfstatat), arg_bits(3, AT_EMPTY_PATH, AT_EMPTY_PATH));
        allow_if(f, SYS(statx), arg_bits(2, AT_EMPTY_PATH, AT_EMPTY_PATH));
    }
}

static void processes(struct filter *f, unsigned allow)
{
    const unsigned namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                CLONE_NEWNET;
    const unsigned mask = namespaces | CLONE_THREAD;

    /* Its flags are behind a pointer.  With ENOSYS the C library uses clone. */
    rule(f, SCMP_ACT_ERRNO(ENOSYS), SYS(clone3), 0, NULL);
    FAMILY(f, allow & SANDBOX_FORK, of_fork);
    FAMILY(f, allow & SANDBOX_EXEC, of_exec);
    allow_if(f, SYS(clone), arg_bits(0, mask, CLONE_THREAD));
    if (allow & SANDBOX_FORK)
        allow_if(f, SYS(clone), arg_bits(0, mask, 0));
    else
        refuse_if(f, SYS(clone), arg_bits(0, CLONE_THREAD, 0));
    for (unsigned bit = 1u << 16; bit != 0; bit <<= 1)
        if (namespaces & bit)
            refuse_if(f, SYS(clone), arg_bits(0, bit, bit));
}

static void signals(struct filter *f, unsigned allow)
{
    const uint32_t self = (uint32_t)getpid();

    FAMILY(f, allow & SANDBOX_KILL, of_kill);
    if (allow & SANDBOX_KILL)
        return;
    /* abort() and pthread_kill(); children have other pids, and Landlock's
     * scope keeps their signals among themselves. */
    allow_if(f, SYS(kill), arg_is(0, self));
    if (allow & SANDBOX_FORK)
        allow_if(f, SYS(tgkill), arg_bits(0, 0, 0));
    else
        allow_if(f, SYS(tgkill), arg_is(0, self));
}

static void sockets(struct filter *f, unsigned allow)
{
    FAMILY(f, allow & (SANDBOX_INET | SANDBOX_UNIX), of_sockets);
    if (allow & SANDBOX_INET) {
        allow_if(f, SYS(socket), arg_is(0, AF_INET));
        allow_if(f, SYS(socket), arg_is(0, AF_INET6));
    } else {
        refuse_if(f, SYS(socket), arg_is(0, AF_INET));
        refuse_if(f, SYS(socket), arg_is(0, AF_INET6));
    }
    if (allow & SANDBOX_UNIX)
        allow_if(f, SYS(socket), arg_is(0, AF_UNIX));
    else
        refuse_if(f, SYS(socket), arg_is(0, AF_UNIX));
    refuse_if(f, SYS(socket), arg_is(0, AF_PACKET));
    refuse_if(f, SYS(socket), arg_is(0, AF_ALG));
    refuse_if(f, SYS(socket), arg_is(0, AF_VSOCK));
}

static void odds_and_ends(struct filter *f)
{
    const struct scmp_arg_cmp own = arg_is(0, 0);
    const struct scmp_arg_cmp self = arg_is(0, (uint32_t)getpid());

    for (size_t i = 0; i < ARRAY_LEN(ioctls); i++)
        allow_if(f, SYS(ioctl), arg_is(1, (uint32_t)ioctls[i]));
    refuse_if(f, SYS(ioctl), arg_is(1, TIOCSTI));
    /* Names of threads, death signals, dumpability: nothing of it gains
     * anything once no_new_privs is set. */
    if (!f->is_list_of_refused) {
        rule(f, SCMP_ACT_ALLOW, SYS(prctl), 0, NULL);
        rule(f, SCMP_ACT_ALLOW, SYS(prlimit64), 1, &own);
        rule(f, SCMP_ACT_ALLOW, SYS(prlimit64), 1, &self);
    }
}

static void add_rules(struct filter *f, unsigned allow)
{
    FAMILY(f, true, always);
    files(f, allow);
    processes(f, allow);
    signals(f, allow);
    sockets(f, allow);
    FAMILY(f, allow & SANDBOX_SETUID, of_setuid);
    odds_and_ends(f);
    ALL(f, REFUSE, never);
    ALL(f, SCMP_ACT_KILL_PROCESS, deadly);
}

int seccomp_enter(const struct sandbox *s, bool no_new_privs, struct err *err)
{
    struct filter f = { .is_list_of_refused = s->allow & SANDBOX_EXEC };

    f.ctx = seccomp_init(f.is_list_of_refused ? SCMP_ACT_ALLOW : REFUSE);
    if (f.ctx == NULL)
        return err_temp(err, "sandbox: seccomp_init");
    /* A binary tree instead of a chain of comparisons. */
    (void)seccomp_attr_set(f.ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!no_new_privs)
        f.rc = seccomp_attr_set(f.ctx, SCMP_FLTATR_CTL_NNP, 0);
    add_rules(&f, s->allow);
    if (f.rc == 0)
        f.rc = seccomp_load(f.ctx);
    seccomp_release(f.ctx);
    errno = -f.rc;
    return f.rc == 0 ? 0 : err_sys(err, "sandbox: seccomp filter");
}
