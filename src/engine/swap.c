#include "engine/engine_priv.h"

#include "rt/file.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define SWAP_MAX (1u << 30)

enum engine_outcome engine_load(struct engine_dir *d, const char *name,
                                struct buf *out, struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);
    int fd;
    int r;

    if (o != ENGINE_OK)
        return o;
    fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return engine_fail(err, "open %s", name);
    r = file_read_fd(fd, out, err);
    close_fd(&fd);
    if (r < 0) {
        err_prefix(err, "read %s", name);
        return ENGINE_UNKNOWN;
    }
    return ENGINE_OK;
}

/* As file_replace(), without the syncs. */
static enum engine_outcome replace_nosync(struct engine_dir *d,
                                          const char *name, slice now,
                                          struct err *err)
{
    char tmp[ENGINE_NAME_MAX + 8];
    enum engine_outcome o = ENGINE_OK;
    int fd;

    (void)snprintf(tmp, sizeof tmp, "%s.new", name);
    (void)file_unlinkat(d->fd, tmp, 0);
    fd = file_openat(d->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return engine_fail(err, "create %s", tmp);
    if (file_write_all(fd, now, 0) < 0)
        o = engine_fail(err, "write %s", tmp);
    close_fd(&fd);
    if (o == ENGINE_OK && file_renameat(d->fd, tmp, d->fd, name) < 0)
        o = engine_fail(err, "rename %s to %s", tmp, name);
    if (o != ENGINE_OK)
        (void)file_unlinkat(d->fd, tmp, 0);
    return o;
}

static enum engine_outcome swap_locked(struct engine_dir *d, const char *name,
                                       slice was, slice now, unsigned flags,
                                       struct err *err)
{
    enum engine_outcome o;
    struct buf have;
    bool same;

    buf_init(&have, SWAP_MAX);
    o = engine_load(d, name, &have, err);
    same = slice_eq(buf_view(&have), was);
    buf_done(&have);
    if (o == ENGINE_NOENT)
        same = was.n == 0;
    else if (o != ENGINE_OK)
        return o;
    if (!same) {
        err_temp(err, "%s was changed by somebody else", name);
        return ENGINE_CHANGED;
    }
    if ((flags & ENGINE_NOSYNC) != 0)
        return replace_nosync(d, name, now, err);
    if (file_replace(d->fd, name, now, 0600, err) < 0)
        return ENGINE_TRYLATER;
    return ENGINE_OK;
}

enum engine_outcome engine_swap(struct engine_dir *d, const char *name,
                                slice was, slice now, unsigned flags,
                                struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);
    int lock;

    if (o != ENGINE_OK)
        return o;
    /* Processes that hold no lease take turns by a lock on the dir. */
    lock = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return engine_fail(err, "open the directory of %s", name);
    if (flock(lock, LOCK_EX) < 0)
        o = engine_fail(err, "lock the directory of %s", name);
    else
        o = swap_locked(d, name, was, now, flags, err);
    close_fd(&lock);
    return o;
}
