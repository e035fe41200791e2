/* What is made of the calls in file_plain.c or file_traced.c. */
#include "rt/file.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/statvfs.h>

int file_write_all(int fd, slice data, off_t at)
{
    while (data.n > 0) {
        ssize_t n = file_pwrite(fd, data.p, data.n, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data = slice_from(data, (size_t)n);
        at += n;
    }
    return 0;
}

static int fill_and_sync(int fd, slice data, struct err *err)
{
    if (file_write_all(fd, data, 0) < 0)
        return err_sys(err, "write");
    if (file_fsync(fd) < 0)
        return err_sys(err, "sync");
    return 0;
}

/* The directory that an entry `name` of dirfd lies in, to be synced. */
static int open_parent(int dirfd, const char *name)
{
    const char *slash = strrchr(name, '/');
    char *dir CLEANUP(free_ptr) = NULL;

    if (slash == NULL)
        dir = xstrdup(".");
    else if (slash == name)
        dir = xstrdup("/");
    else
        dir = xstrndup(name, (size_t)(slash - name));
    return openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int file_replace(int dirfd, const char *name, slice data, mode_t mode,
                 struct err *err)
{
    char *tmp CLEANUP(free_ptr) =
        xasprintf("%s.tmp.%016" PRIx64, name, random_u64());
    int parent CLEANUP(close_fd) = open_parent(dirfd, name);
    int fd CLEANUP(close_fd) = -1;

    if (parent < 0)
        return err_sys(err, "open the directory of %s", name);
    fd = file_openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_sys(err, "create %s", tmp);
    if (fill_and_sync(fd, data, err) < 0) {
        err_prefix(err, "%s", tmp);
        goto undo;
    }
    if (file_renameat(dirfd, tmp, dirfd, name) < 0) {
        err_sys(err, "rename %s to %s", tmp, name);
        goto undo;
    }
    if (file_fsync(parent) < 0)
        return err_sys(err, "sync the directory of %s", name);
    return 0;

undo:
    (void)file_unlinkat(dirfd, tmp, 0);
    return -1;
}

int file_read(int dirfd, const char *path, struct buf *b, struct err *err)
{
    int fd CLEANUP(close_fd) = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, "open %s", path);
    if (file_read_fd(fd, b, err) < 0)
        return err_prefix(err, "%s", path);
    return 0;
}

int file_read_fd(int fd, struct buf *b, struct err *err)
{
    enum { STEP = 65536 };

    off_t at = 0;

    for (;;) {
        size_t room = min_size(STEP, b->max - b->n);
        char *p = buf_reserve(b, room > 0 ? room : 1);
        char beyond;
        ssize_t n;

        /* A full buffer: is there one byte more? */
        if (room == 0 || p == NULL) {
            b->overflow = false;
            p = &beyond;
            room = 1;
        }
        /* By place: several processes hold descriptors of one opening, and so
         * share its position. */
        n = pread(fd, p, room, at);
        if (n < 0 && errno == ESPIPE)
            n = read(fd, p, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read");
        if (n == 0)
            return 0;
        if (p == &beyond)
            return err_temp(err, "file is larger than %zu bytes", b->max);
        buf_commit(b, (size_t)n);
        at += n;
    }
}

/* One step of file_mkdirs: the first `n` bytes of path. */
static int make_one(const char *path, size_t n, mode_t mode, struct err *err)
{
    char *part CLEANUP(free_ptr) = xstrndup(path, n);
    struct stat st;
    int cause;

    if (file_mkdirat(AT_FDCWD, part, mode) == 0)
        return 0;
    cause = errno;
    /* On a read-only or foreign file system mkdir of what exists may say
     * something else than EEXIST. */
    if (stat(part, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    errno = cause == EEXIST ? ENOTDIR : cause;
    return err_sys(err, "mkdir %s", part);
}

int file_mkdirs(const char *path, mode_t mode, struct err *err)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    for (size_t i = 1; path[i - 1] != '\0'; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        if (path[i - 1] == '/')
            continue;
        if (make_one(path, i, mode, err) < 0)
            return -1;
    }
    return 0;
}

int file_free_bytes(int fd, uint64_t *out, struct err *err)
{
    struct statvfs vfs;

    if (fstatvfs(fd, &vfs) < 0)
        return err_sys(err, "statvfs");
    *out = (uint64_t)vfs.f_bavail * (uint64_t)vfs.f_frsize;
    return 0;
}

struct read_job {
    int fd;
    void *p;
    size_t n;
    off_t at;
    ssize_t got;
};

static int read_now(void *arg)
{
    struct read_job *j = arg;

    do
        j->got = pread(j->fd, j->p, j->n, j->at);
    while (j->got < 0 && errno == EINTR);
    return 0;
}

ssize_t file_pread_wait(int fd, void *p, size_t n, uint64_t at)
{
    struct read_job j = { fd, p, n, (off_t)at, -1 };
    struct iovec v = { p, n };
    ssize_t got = preadv2(fd, &v, 1, j.at, RWF_NOWAIT);

    if (got >= 0 || (errno != EAGAIN && errno != EOPNOTSUPP))
        return got;
    /* File systems in memory do not know the flag, and need no thread. */
    if (errno == EAGAIN && task_inside())
        (void)offload(read_now, &j);
    else
        (void)read_now(&j);
    return j.got;
}
