/*
 * A lease over local files is the kernel's lock on a file.  The lock ends with
 * the holder, so a new holder knows that the old one can no longer write; the
 * epoch in the file is for the records (and for engines without such locks).
 */
#include "engine/engine_priv.h"

#include "rt/file.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LEASE_BYTES 128 /* "epoch host pid\n", padded with blanks */

struct engine_lease {
    uint32_t magic;
    int fd;
    uint64_t epoch;
    char *name;
};

static enum engine_outcome lease_write(struct engine_lease *l, struct err *err)
{
    char host[64] = "?";
    char text[LEASE_BYTES];
    int n;

    (void)gethostname(host, sizeof host - 1);
    host[sizeof host - 1] = '\0';
    memset(text, ' ', sizeof text);
    n = snprintf(text, sizeof text, "%" PRIu64 " %s %ld", l->epoch, host,
                 (long)getpid());
    text[n] = ' ';
    text[sizeof text - 1] = '\n';
    if (file_write_all(l->fd, slice_of(text, sizeof text), 0) < 0)
        return engine_fail(err, "write lease %s", l->name);
    return ENGINE_OK;
}

static slice lease_read(int fd, char text[static LEASE_BYTES])
{
    ssize_t n = pread(fd, text, LEASE_BYTES, 0);

    return slice_trim(slice_of(text, n > 0 ? (size_t)n : 0));
}

/* Open and lock `name`; -1 with the outcome in *o. */
static int lease_lock(struct engine_dir *d, const char *name,
                      enum engine_outcome *o, struct err *err)
{
    for (int tries = 0; tries < 10; tries++) {
        int fd = file_openat(d->fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        char text[LEASE_BYTES];
        struct stat st;

        if (fd < 0) {
            *o = engine_fail(err, "open lease %s", name);
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            slice who = lease_read(fd, text);

            *o = ENGINE_TRYLATER;
            err_temp(err, "%s is locked by another process (%.*s)", name,
                     SLF(who));
            close_fd(&fd);
            return -1;
        }
        if (fstat(fd, &st) == 0 && st.st_nlink > 0)
            return fd;
        close_fd(&fd); /* removed between open and lock */
    }
    *o = ENGINE_TRYLATER;
    err_temp(err, "lease %s keeps being replaced", name);
    return -1;
}

enum engine_outcome engine_lease_take(struct engine_dir *d, const char *name,
                                      struct engine_lease **out,
                                      struct err *err)
{
    enum engine_outcome o = engine_name_check(name, err);
    char text[LEASE_BYTES];
    struct engine_lease *l;
    slice s;
    slice epoch;
    int fd;

    CHECK_OBJ(d, ENGINE_DIR_MAGIC);
    if (o != ENGINE_OK)
        return o;
    fd = lease_lock(d, name, &o, err);
    if (fd < 0)
        return o;
    l = xcalloc(1, sizeof *l);
    l->magic = ENGINE_LEASE_MAGIC;
    l->fd = fd;
    l->name = xstrdup(name);
    s = lease_read(fd, text);
    (void)slice_cut(&s, ' ', &epoch);
    (void)slice_u64(epoch, &l->epoch);
    l->epoch++;
    o = lease_write(l, err);
    if (o != ENGINE_OK) {
        engine_lease_drop(&l);
        return o;
    }
    *out = l;
    return ENGINE_OK;
}

enum engine_outcome engine_lease_renew(struct engine_lease *l, struct err *err)
{
    struct stat st;

    CHECK_OBJ(l, ENGINE_LEASE_MAGIC);
    if (fstat(l->fd, &st) < 0 || st.st_nlink == 0) {
        err_temp(err, "lease %s is lost: its file was removed", l->name);
        return ENGINE_FENCED;
    }
    return ENGINE_OK;
}

enum engine_outcome engine_lease_raise(struct engine_lease *l, uint64_t epoch,
                                       struct err *err)
{
    CHECK_OBJ(l, ENGINE_LEASE_MAGIC);
    if (l->epoch > epoch)
        return ENGINE_OK;
    l->epoch = epoch + 1;
    return lease_write(l, err);
}

void engine_lease_drop(struct engine_lease **lp)
{
    struct engine_lease *l = *lp;

    if (l == NULL)
        return;
    CHECK_OBJ(l, ENGINE_LEASE_MAGIC);
    close_fd(&l->fd);
    free(l->name);
    l->magic = 0;
    free(l);
    *lp = NULL;
}

uint64_t engine_lease_epoch(const struct engine_lease *l)
{
    return l->epoch;
}
