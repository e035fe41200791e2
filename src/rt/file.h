#ifndef RT_FILE_H
#define RT_FILE_H

/*
 * Every call that changes what a disk holds goes through here: spool, journal,
 * Maildir, index, tables.  These block; on the loop they are wrapped in
 * offload() where they may wait long (sync, big writes).  They keep the
 * semantics and errno of the system call they are named after.
 *
 * In the crash-test build (-Dfstrace=true), with HATO_FSTRACE_FD=n in the
 * environment, each successful call is appended to that descriptor as one
 * record before its result is used (format: doc/fstrace.md), so that a power
 * cut can be simulated from one ordered trace of all processes.  With
 * HATO_FAULT="fdatasync:3:EIO,pwrite:10:ENOSPC" the n-th call of that name in
 * the process fails (test builds only).
 */
#include "base/base.h"
#include <sys/stat.h>
#include <sys/uio.h>

int file_openat(int dirfd, const char *path, int flags, mode_t mode);
ssize_t file_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t file_pwritev(int fd, const struct iovec *v, int n, off_t at);
int file_ftruncate(int fd, off_t size);
int file_fallocate(int fd, off_t from, off_t size); /* extends, zero-filled */
int file_fdatasync(int fd);
int file_fsync(int fd);
int file_syncfs(int fd);
int file_renameat(int odir, const char *from, int ndir, const char *to);
int file_linkat(int odir, const char *from, int ndir, const char *to);
int file_unlinkat(int dir, const char *name, int flags);
int file_mkdirat(int dir, const char *name, mode_t mode);

/* Loops over partial writes.  0 or -1 (errno). */
int file_write_all(int fd, slice data, off_t at);
/* Replace `name` in `dirfd` by `data` through a temporary file: write, fsync,
 * rename, fsync of the directory; the old one stays on failure. */
int file_replace(int dirfd, const char *name, slice data, mode_t mode,
                 struct err *err);
/* Read a whole file of at most max bytes into b. */
int file_read(int dirfd, const char *path, struct buf *b, struct err *err);
/* The same over a descriptor, from its beginning whatever its position. */
int file_read_fd(int fd, struct buf *b, struct err *err);
/* pread() of up to n bytes for a loop: what is in memory at once, what would
 * have to come from a disk by a thread of offload()'s pool.  May be short; 0 at
 * the end of the file, -1 with errno. */
MAY_WAIT ssize_t file_pread_wait(int fd, void *p, size_t n, uint64_t at);
/* mkdir -p of `path` with `mode` for what is made. */
int file_mkdirs(const char *path, mode_t mode, struct err *err);
/* When this kernel started, in seconds of the clock that file systems take; 0
 * when that is not known, and in the build that traces, whose power cuts are
 * only played. */
int64_t file_boot_time(void);
/* Bytes free for this user on the file system of fd. */
int file_free_bytes(int fd, uint64_t *out, struct err *err);

#endif
