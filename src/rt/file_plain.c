/* The calls of file.h as they are: the build without -Dfstrace. */
#include "rt/file.h"

#include <fcntl.h>
#include <time.h>

int file_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    return openat(dirfd, path, flags, mode);
}

ssize_t file_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return pwrite(fd, p, n, at);
}

ssize_t file_pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    return pwritev(fd, v, n, at);
}

int file_ftruncate(int fd, off_t size)
{
    return ftruncate(fd, size);
}

int file_fallocate(int fd, off_t from, off_t size)
{
    return fallocate(fd, 0, from, size);
}

int file_fdatasync(int fd)
{
    return fdatasync(fd);
}

int file_fsync(int fd)
{
    return fsync(fd);
}

int file_syncfs(int fd)
{
    return syncfs(fd);
}

int file_renameat(int odir, const char *from, int ndir, const char *to)
{
    return renameat(odir, from, ndir, to);
}

int file_linkat(int odir, const char *from, int ndir, const char *to)
{
    return linkat(odir, from, ndir, to, 0);
}

int file_unlinkat(int dir, const char *name, int flags)
{
    return unlinkat(dir, name, flags);
}

int file_mkdirat(int dir, const char *name, mode_t mode)
{
    return mkdirat(dir, name, mode);
}

int64_t file_boot_time(void)
{
    struct timespec now, up;

    if (clock_gettime(CLOCK_REALTIME, &now) < 0 ||
        clock_gettime(CLOCK_BOOTTIME, &up) < 0)
        return 0;
    return now.tv_sec - up.tv_sec;
}
