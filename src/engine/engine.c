#include "engine/engine_priv.h"

#include "rt/file.h"
#include <fcntl.h>
#include <sys/stat.h>

const char *engine_outcome_name(enum engine_outcome o)
{
    static const char *const names[] = { "OK",     "FENCED",  "EXISTS",
                                         "NOENT",  "CHANGED", "TRYLATER",
                                         "UNKNOWN" };

    return (size_t)o < ARRAY_LEN(names) ? names[o] : "?";
}

enum engine_outcome engine_fail(struct err *err, const char *fmt, ...)
{
    int sys = errno;
    char what[160];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    errno = sys;
    err_sys(err, "%s", what);
    switch (sys) {
    case EEXIST:
        return ENGINE_EXISTS;
    case ENOENT:
        return ENGINE_NOENT;
    case EIO:
    case ETIMEDOUT:
    case EINTR:
        return ENGINE_UNKNOWN;
    default:
        return ENGINE_TRYLATER;
    }
}

enum engine_outcome engine_name_check(const char *name, struct err *err)
{
    size_t n = strlen(name);

    if (n == 0 || n > ENGINE_NAME_MAX || name[0] == '/' ||
        strncmp(name, "../", 3) == 0 || strstr(name, "/../") != NULL ||
        strcmp(name, "..") == 0) {
        err_temp(err, "bad object name \"%.80s\"", name);
        return ENGINE_NOENT;
    }
    return ENGINE_OK;
}

struct engine *engine_local_new(void)
{
    struct engine *e = xcalloc(1, sizeof *e);

    e->magic = ENGINE_MAGIC;
    list_init(&e->sync_groups);
    e->inotify_fd = -1;
    imap_init(&e->watched);
    return e;
}

void engine_set_syncer(struct engine *e,
                       int (*fn)(int fd, void *arg, struct err *err), void *arg)
{
    CHECK_OBJ(e, ENGINE_MAGIC);
    e->sync_fn = fn;
    e->sync_arg = arg;
}

struct engine_dir *engine_dir_adopt(struct engine *e, int fd)
{
    struct engine_dir *d = xcalloc(1, sizeof *d);
    struct stat st;

    CHECK_OBJ(e, ENGINE_MAGIC);
    d->magic = ENGINE_DIR_MAGIC;
    d->engine = e;
    d->fd = fd;
    if (fstat(fd, &st) == 0)
        d->dev = st.st_dev;
    return d;
}

enum engine_outcome engine_dir_open(struct engine *e, const char *path,
                                    unsigned flags, struct engine_dir **out,
                                    struct err *err)
{
    int fd;

    if ((flags & ENGINE_CREATE) != 0 && file_mkdirs(path, 0700, err) < 0)
        return ENGINE_TRYLATER;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return engine_fail(err, "open directory %s", path);
    *out = engine_dir_adopt(e, fd);
    (*out)->path = xstrdup(path);
    return ENGINE_OK;
}

void engine_dir_close(struct engine_dir **dp)
{
    struct engine_dir *d = *dp;

    if (d == NULL)
        return;
    CHECK_OBJ(d, ENGINE_DIR_MAGIC);
    close_fd(&d->fd);
    free(d->path);
    d->magic = 0;
    free(d);
    *dp = NULL;
}

int engine_dir_fd(const struct engine_dir *d)
{
    return d->fd;
}

void engine_notify(struct engine_dir *d, const char *name)
{
    /* The kernel tells every watcher of a local file by itself. */
    (void)d;
    (void)name;
}
