#ifndef RT_SANDBOX_PRIV_H
#define RT_SANDBOX_PRIV_H

/* The two halves of a sandbox that the kernel enforces. */
#include "rt/sandbox.h"

/* Files, TCP, abstract sockets and signals as far as the kernel's Landlock
 * goes.  landlock_open() resolves the paths (before a chroot) into a ruleset
 * descriptor, -1 in *fd_out where there is no Landlock; landlock_enter() obeys
 * it from then on. */
int landlock_open(const struct sandbox *s, int *fd_out, struct err *err);
int landlock_enter(int fd, struct err *err);

/* Without no_new_privs it needs root. */
int seccomp_enter(const struct sandbox *s, bool no_new_privs, struct err *err);

#endif
