#ifndef RT_FSTRACE_H
#define RT_FSTRACE_H

/* The record of doc/fstrace.md, and what the crash-test build adds to
 * proc_spawn(). */
#include <stdint.h>

enum fstrace_call {
    FSTRACE_OPENAT = 1,
    FSTRACE_PWRITE,
    FSTRACE_PWRITEV,
    FSTRACE_FTRUNCATE,
    FSTRACE_FALLOCATE,
    FSTRACE_FDATASYNC,
    FSTRACE_FSYNC,
    FSTRACE_SYNCFS,
    FSTRACE_RENAMEAT,
    FSTRACE_LINKAT,
    FSTRACE_UNLINKAT,
    FSTRACE_MKDIRAT,
    FSTRACE_N_CALLS
};

enum {
    FSTRACE_CREATED = 1,   /* openat made the file */
    FSTRACE_TRUNCATED = 2, /* openat emptied it */
    FSTRACE_BEGIN = 4,     /* of a sync */
    FSTRACE_END = 8,
    FSTRACE_REPLACED = 16, /* renameat took the place of `replaced` */
    FSTRACE_IS_DIR = 32,
};

#define FSTRACE_MAGIC 0x52545346u /* "FSTR" */

/* Little endian; names and data follow. */
struct fstrace_record {
    uint32_t magic;
    uint32_t size; /* with names and data */
    uint32_t pid;
    uint16_t call;
    uint16_t flags;
    int64_t result;
    int32_t error;
    uint32_t seq; /* in this process */
    uint64_t dev, ino;
    uint64_t dir_dev, dir_ino;
    uint64_t dir2_dev, dir2_ino;
    int64_t offset;
    int64_t length;
    int64_t file_size; /* after the call */
    uint32_t mode, uid, gid, nlink;
    uint32_t open_flags;
    uint16_t name_len, name2_len;
    uint32_t data_len;
    uint32_t reserved;
    uint64_t replaced;
};

_Static_assert(sizeof(struct fstrace_record) == 144, "as doc/fstrace.md says");

/* The trace's descriptor, or -1. */
#ifdef HATO_FSTRACE
int fstrace_fd(void);
#else
static inline int fstrace_fd(void)
{
    return -1;
}
#endif

#endif
