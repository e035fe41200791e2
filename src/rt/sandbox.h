#ifndef RT_SANDBOX_H
#define RT_SANDBOX_H

/*
 * What a process gives up once it has what it needs: uid, root directory,
 * files (Landlock), system calls (seccomp).  Works as root (all of it) and as
 * an ordinary user (no_new_privs, Landlock, seccomp; uid and root unchanged).
 * Always refused: ptrace, process_vm_*, kexec, mount, bpf, perf_event_open,
 * keyctl, setns/unshare, modules, personality; the rest by flags.  A refused
 * call returns EPERM (so a test can see it); a call that cannot be needed by
 * anything benign kills the process.
 */
#include "base/base.h"

enum {
    SANDBOX_OPEN = 1,  /* open files below the Landlock paths */
    SANDBOX_WRITE = 2, /* create, rename, unlink, truncate there */
    SANDBOX_EXEC = 4,  /* execve */
    SANDBOX_FORK = 8,  /* new processes (threads are always allowed) */
    SANDBOX_INET = 16, /* create INET sockets, connect, bind */
    SANDBOX_UNIX = 32, /* create UNIX sockets, connect, bind */
    SANDBOX_SETUID =
        64, /* keep the right to change uid (template, authworker) */
    SANDBOX_KILL = 128, /* signal other processes */
};

struct sandbox {
    unsigned allow;
    uid_t uid; /* used when started as root; (uid_t)-1: stay */
    gid_t gid;
    const char *empty_root;        /* chroot here when root; NULL: no chroot */
    const char *const *read_paths; /* NULL-terminated or NULL (SANDBOX_OPEN) */
    const char *const
        *write_paths; /* NULL-terminated or NULL (SANDBOX_WRITE) */
};

/* Enter it; there is no way back.  Fails with what was missing. */
int sandbox_enter(const struct sandbox *s, struct err *err);
/* Refuse what is always refused, and nothing else, to this process and all that
 * it starts, without no_new_privs: set-uid programs go on working.  Needs root;
 * the uid may be changed afterwards. */
int sandbox_refuse_always(struct err *err);

#endif
