#include "engine/engine_priv.h"

#include "rt/file.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

struct engine_put {
    struct engine_dir *dir;
    int fd;
    off_t at;
    bool failed;
    char tmp[]; /* temporary name */
};

enum engine_outcome engine_put_open(struct engine_dir *d, const char *tmp,
                                    mode_t mode, struct engine_put **out,
                                    struct err *err)
{
    enum engine_outcome o = engine_name_check(tmp, err);
    struct engine_put *p;
    size_t n = strlen(tmp) + 1;
    int fd;

    CHECK_OBJ(d, ENGINE_DIR_MAGIC);
    if (o != ENGINE_OK)
        return o;
    fd = file_openat(d->fd, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return engine_fail(err, "create %s", tmp);
    p = xcalloc(1, sizeof *p + n);
    p->dir = d;
    p->fd = fd;
    memcpy(p->tmp, tmp, n);
    *out = p;
    return ENGINE_OK;
}

/* Write all of v at *at; the vector is not changed. */
static int write_vector(int fd, const struct iovec *v, int n, off_t *at)
{
    ssize_t wrote = file_pwritev(fd, v, n, *at);
    size_t skip;

    if (wrote < 0)
        return -1;
    *at += wrote;
    skip = (size_t)wrote;
    for (int i = 0; i < n; i++) {
        slice rest;

        if (skip >= v[i].iov_len) {
            skip -= v[i].iov_len;
            continue;
        }
        rest = slice_from(slice_of(v[i].iov_base, v[i].iov_len), skip);
        skip = 0;
        if (file_write_all(fd, rest, *at) < 0)
            return -1;
        *at += (off_t)rest.n;
    }
    return 0;
}

enum engine_outcome engine_put_write(struct engine_put *p,
                                     const struct iovec *v, int n,
                                     struct err *err)
{
    if (write_vector(p->fd, v, n, &p->at) < 0) {
        p->failed = true;
        return engine_fail(err, "write %s", p->tmp);
    }
    return ENGINE_OK;
}

int engine_put_fd(const struct engine_put *p)
{
    return p->fd;
}

enum engine_outcome engine_put_commit(struct engine_put **pp, const char *name,
                                      struct err *err)
{
    struct engine_put *p = *pp;
    enum engine_outcome o = engine_name_check(name, err);

    CHECK(!p->failed);
    if (o == ENGINE_OK &&
        file_renameat(p->dir->fd, p->tmp, p->dir->fd, name) < 0)
        o = engine_fail(err, "rename %s to %s", p->tmp, name);
    if (o != ENGINE_OK) {
        engine_put_abort(pp);
        return o;
    }
    close_fd(&p->fd);
    free(p);
    *pp = NULL;
    return ENGINE_OK;
}

void engine_put_abort(struct engine_put **pp)
{
    struct engine_put *p = *pp;

    if (p == NULL)
        return;
    (void)file_unlinkat(p->dir->fd, p->tmp, 0);
    close_fd(&p->fd);
    free(p);
    *pp = NULL;
}

enum engine_outcome engine_put(struct engine_dir *d, const char *tmp,
                               const char *name, const struct iovec *v, int n,
                               struct err *err)
{
    struct engine_put *p = NULL;
    enum engine_outcome o = engine_put_open(d, tmp, 0600, &p, err);

    if (o != ENGINE_OK)
        return o;
    CHECK(p != NULL);
    o = engine_put_write(p, v, n, err);
    if (o != ENGINE_OK) {
        engine_put_abort(&p);
        return o;
    }
    return engine_put_commit(&p, name, err);
}

enum engine_outcome engine_get(struct engine_dir *d, const char *name,
                               int *fd_out, uint64_t *size_out, struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);
    struct stat st;
    int fd;

    if (o != ENGINE_OK)
        return o;
    fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return engine_fail(err, "open %s", name);
    if (fstat(fd, &st) < 0) {
        o = engine_fail(err, "fstat %s", name);
        close_fd(&fd);
        return o;
    }
    *fd_out = fd;
    *size_out = (uint64_t)st.st_size;
    return ENGINE_OK;
}

enum engine_outcome engine_size(struct engine_dir *d, const char *name,
                                uint64_t *out, struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);
    struct stat st;

    if (o != ENGINE_OK)
        return o;
    if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return engine_fail(err, "stat %s", name);
    *out = (uint64_t)st.st_size;
    return ENGINE_OK;
}

enum engine_outcome engine_link(struct engine_dir *from_dir, const char *from,
                                struct engine_dir *to_dir, const char *to,
                                struct err *err)
{
    enum engine_outcome o = engine_name_check(from, err);

    if (o == ENGINE_OK)
        o = engine_name_check(to, err);
    if (o != ENGINE_OK)
        return o;
    if (file_linkat(from_dir->fd, from, to_dir->fd, to) < 0)
        return engine_fail(err, "link %s to %s", from, to);
    return ENGINE_OK;
}

enum engine_outcome engine_rename(struct engine_dir *d, const char *from,
                                  const char *to, struct err *err)
{
    enum engine_outcome o = engine_name_check(from, err);

    if (o == ENGINE_OK)
        o = engine_name_check(to, err);
    if (o != ENGINE_OK)
        return o;
    if (file_renameat(d->fd, from, d->fd, to) < 0)
        return engine_fail(err, "rename %s to %s", from, to);
    return ENGINE_OK;
}

enum engine_outcome engine_unlink(struct engine_dir *d, const char *name,
                                  struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);

    if (o != ENGINE_OK)
        return o;
    if (file_unlinkat(d->fd, name, 0) < 0)
        return engine_fail(err, "unlink %s", name);
    return ENGINE_OK;
}

enum engine_outcome engine_mkdir(struct engine_dir *d, const char *name,
                                 mode_t mode, struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);

    if (o != ENGINE_OK)
        return o;
    if (file_mkdirat(d->fd, name, mode) < 0)
        return engine_fail(err, "mkdir %s", name);
    return ENGINE_OK;
}

enum engine_outcome engine_list(struct engine_dir *d, const char *name,
                                bool (*fn)(const char *entry, void *arg),
                                void *arg, struct err *err)
{
    const char *path = name[0] == '\0' ? "." : name;
    int fd = openat(d->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir;

    if (fd < 0)
        return engine_fail(err, "open directory %s", path);
    dir = fdopendir(fd);
    if (dir == NULL) {
        enum engine_outcome o = engine_fail(err, "read directory %s", path);

        close_fd(&fd);
        return o;
    }
    errno = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            !fn(e->d_name, arg))
            break;
        errno = 0;
    }
    if (errno != 0) {
        enum engine_outcome o = engine_fail(err, "read directory %s", path);

        (void)closedir(dir);
        return o;
    }
    (void)closedir(dir);
    return ENGINE_OK;
}
