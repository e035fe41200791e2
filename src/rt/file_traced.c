/*
 * The calls of file.h in the crash-test build: each is done, then told in one
 * record (doc/fstrace.md), before its result is used.  Calls that change
 * something are done and told under a lock that all traced processes share, so
 * that the trace has their true order; syncs, which take long, are not.
 */
#include "rt/file.h"

#include "rt/fstrace.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "records are written as they lie in memory");

/* ---- what the environment asks for */

static const char *const call_names[FSTRACE_N_CALLS] = {
    [FSTRACE_OPENAT] = "openat",       [FSTRACE_PWRITE] = "pwrite",
    [FSTRACE_PWRITEV] = "pwritev",     [FSTRACE_FTRUNCATE] = "ftruncate",
    [FSTRACE_FALLOCATE] = "fallocate", [FSTRACE_FDATASYNC] = "fdatasync",
    [FSTRACE_FSYNC] = "fsync",         [FSTRACE_SYNCFS] = "syncfs",
    [FSTRACE_RENAMEAT] = "renameat",   [FSTRACE_LINKAT] = "linkat",
    [FSTRACE_UNLINKAT] = "unlinkat",   [FSTRACE_MKDIRAT] = "mkdirat",
};

static const struct {
    const char *name;
    int error;
} errors[] = {
    { "EIO", EIO },       { "ENOSPC", ENOSPC }, { "EDQUOT", EDQUOT },
    { "EACCES", EACCES }, { "EROFS", EROFS },   { "EMFILE", EMFILE },
    { "ENOENT", ENOENT }, { "EMLINK", EMLINK }, { "EINTR", EINTR },
    { "ENFILE", ENFILE }, { "EPERM", EPERM },   { "EFBIG", EFBIG },
};

enum { MAX_FAULTS = 16 };

struct fault {
    unsigned call;
    uint64_t nth;
    bool and_later;
    int error;
};

static struct {
    int fd; /* -1: no trace */
    struct fault faults[MAX_FAULTS];
    size_t n_faults;
    atomic_ullong calls[FSTRACE_N_CALLS];
    atomic_uint seq;
} trace = { .fd = -1 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Is this the process that a fault is for?  A process says what it is in its
 * name: "hato: smtpd". */
static bool is_here(slice process)
{
    char name[16] = "";

    (void)prctl(PR_GET_NAME, name, 0, 0, 0);
    return slice_ends(slice_str(name), process);
}

/* "fdatasync:3:EIO", "smtpd/pwrite:10+:ENOSPC" */
static void add_fault(slice text)
{
    struct fault f = { 0 };
    slice name, nth;
    slice rest = text;
    bool ok;

    if (memchr(text.p, '/', text.n) != NULL && slice_cut(&rest, '/', &name)) {
        if (!is_here(name))
            return;
        text = rest;
    }
    ok = slice_cut(&text, ':', &name) && slice_cut(&text, ':', &nth);
    for (unsigned i = 1; i < FSTRACE_N_CALLS; i++)
        if (slice_eqs(name, call_names[i]))
            f.call = i;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++)
        if (slice_eqs(text, errors[i].name))
            f.error = errors[i].error;
    f.and_later = ok && slice_ends(nth, SL("+"));
    if (f.and_later)
        nth.n--;
    if (!ok || f.call == 0 || f.error == 0 || !slice_u64(nth, &f.nth) ||
        trace.n_faults == MAX_FAULTS)
        panic("HATO_FAULT: cannot read one of its parts");
    trace.faults[trace.n_faults++] = f;
}

static void read_environment(void)
{
    slice faults = slice_str(getenv("HATO_FAULT"));
    slice one;
    uint64_t fd;

    if (slice_u64(slice_str(getenv("HATO_FSTRACE_FD")), &fd) && fd < INT_MAX)
        trace.fd = (int)fd;
    while (slice_token(&faults, ",", &one))
        add_fault(one);
}

int fstrace_fd(void)
{
    (void)pthread_once(&once, read_environment);
    return trace.fd;
}

/* Does this call fail by order? */
static bool is_faulty(enum fstrace_call call)
{
    uint64_t n;

    (void)fstrace_fd();
    n = atomic_fetch_add(&trace.calls[call], 1) + 1;
    for (size_t i = 0; i < trace.n_faults; i++) {
        const struct fault *f = &trace.faults[i];

        if (f->call == call && (f->nth == n || (f->and_later && n > f->nth))) {
            errno = f->error;
            return true;
        }
    }
    return false;
}

/* ---- the lock */

static void lock_file(short type)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

    while (fcntl(trace.fd, F_SETLKW, &l) < 0 && errno == EINTR)
        continue;
}

static void lock(void)
{
    if (fstrace_fd() < 0)
        return;
    CHECK(pthread_mutex_lock(&mutex) == 0);
    lock_file(F_WRLCK);
}

/* Keeps errno. */
static void unlock(void)
{
    int saved = errno;

    if (fstrace_fd() < 0)
        return;
    lock_file(F_UNLCK);
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    errno = saved;
}

/* ---- records */

static struct fstrace_record record(enum fstrace_call call, int64_t result)
{
    return (struct fstrace_record){
        .magic = FSTRACE_MAGIC,
        .pid = (uint32_t)getpid(),
        .call = (uint16_t)call,
        .result = result,
        .error = result < 0 ? errno : 0,
    };
}

static void set_object(struct fstrace_record *r, const struct stat *st)
{
    r->dev = st->st_dev;
    r->ino = st->st_ino;
    r->file_size = st->st_size;
    r->mode = st->st_mode;
    r->uid = st->st_uid;
    r->gid = st->st_gid;
    r->nlink = (uint32_t)st->st_nlink;
    if (S_ISDIR(st->st_mode))
        r->flags |= FSTRACE_IS_DIR;
}

static void object_of_fd(struct fstrace_record *r, int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0)
        set_object(r, &st);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* The directory that path's last part lies in. */
static void parent_of(int dirfd, const char *path, uint64_t *dev, uint64_t *ino)
{
    const char *name = base_name(path);
    char *dir CLEANUP(free_ptr) =
        name == path ? xstrdup(".") : xstrndup(path, (size_t)(name - path));
    struct stat st;

    if (fstatat(dirfd, dir, &st, 0) < 0)
        return;
    *dev = st.st_dev;
    *ino = st.st_ino;
}

/* One write, so that the records of all processes stand one after another. */
static void append(struct fstrace_record *r, const char *name,
                   const char *name2, const struct iovec *v, int n_v)
{
    size_t left = r->data_len;
    struct buf b;

    r->name_len = (uint16_t)strlen(name);
    r->name2_len = (uint16_t)strlen(name2);
    r->size = (uint32_t)sizeof(*r) + r->name_len + r->name2_len + r->data_len;
    r->seq = atomic_fetch_add(&trace.seq, 1);
    buf_init(&b, UINT32_MAX);
    CHECK(buf_put(&b, r, sizeof(*r)) && buf_puts(&b, name) &&
          buf_puts(&b, name2));
    for (int i = 0; i < n_v && left > 0; i++) {
        size_t n = min_size(left, v[i].iov_len);

        CHECK(buf_put(&b, v[i].iov_base, n));
        left -= n;
    }
    if (write(trace.fd, b.p, b.n) != (ssize_t)b.n)
        panic("cannot write the trace: %s", strerror(errno));
    buf_done(&b);
}

static void tell(struct fstrace_record *r, const char *name, const char *name2)
{
    append(r, name, name2, NULL, 0);
}

/* ---- the calls */

int file_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    const int telling = O_ACCMODE | O_CREAT | O_TRUNC;
    struct stat before;
    bool was_there;
    int fd;

    if (is_faulty(FSTRACE_OPENAT))
        return -1;
    if (fstrace_fd() < 0 || (flags & telling) == O_RDONLY)
        return openat(dirfd, path, flags, mode);
    lock();
    was_there = fstatat(dirfd, path, &before, 0) == 0;
    fd = openat(dirfd, path, flags, mode);
    if (fd >= 0) {
        struct fstrace_record r = record(FSTRACE_OPENAT, fd);

        object_of_fd(&r, fd);
        parent_of(dirfd, path, &r.dir_dev, &r.dir_ino);
        r.open_flags = (uint32_t)flags;
        if (!was_there)
            r.flags |= FSTRACE_CREATED;
        else if (flags & O_TRUNC)
            r.flags |= FSTRACE_TRUNCATED;
        tell(&r, base_name(path), "");
    }
    unlock();
    return fd;
}

static void tell_write(enum fstrace_call call, int fd, ssize_t n, off_t at,
                       const struct iovec *v, int n_v)
{
    struct fstrace_record r = record(call, n);

    if (n <= 0)
        return;
    object_of_fd(&r, fd);
    r.offset = at;
    r.length = n;
    r.data_len = (uint32_t)n;
    append(&r, "", "", v, n_v);
}

ssize_t file_pwrite(int fd, const void *p, size_t n, off_t at)
{
    const struct iovec v = { (void *)(uintptr_t)p, n };
    ssize_t done;

    if (is_faulty(FSTRACE_PWRITE))
        return -1;
    if (fstrace_fd() < 0)
        return pwrite(fd, p, n, at);
    lock();
    done = pwrite(fd, p, n, at);
    tell_write(FSTRACE_PWRITE, fd, done, at, &v, 1);
    unlock();
    return done;
}

ssize_t file_pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    ssize_t done;

    if (is_faulty(FSTRACE_PWRITEV))
        return -1;
    if (fstrace_fd() < 0)
        return pwritev(fd, v, n, at);
    lock();
    done = pwritev(fd, v, n, at);
    tell_write(FSTRACE_PWRITEV, fd, done, at, v, n);
    unlock();
    return done;
}

static void tell_size(enum fstrace_call call, int fd, off_t from, off_t size)
{
    struct fstrace_record r = record(call, 0);

    object_of_fd(&r, fd);
    r.offset = from;
    r.length = size;
    tell(&r, "", "");
}

int file_ftruncate(int fd, off_t size)
{
    int rc;

    if (is_faulty(FSTRACE_FTRUNCATE))
        return -1;
    if (fstrace_fd() < 0)
        return ftruncate(fd, size);
    lock();
    rc = ftruncate(fd, size);
    if (rc == 0)
        tell_size(FSTRACE_FTRUNCATE, fd, 0, size);
    unlock();
    return rc;
}

int file_fallocate(int fd, off_t from, off_t size)
{
    int rc;

    if (is_faulty(FSTRACE_FALLOCATE))
        return -1;
    if (fstrace_fd() < 0)
        return fallocate(fd, 0, from, size);
    lock();
    rc = fallocate(fd, 0, from, size);
    if (rc == 0)
        tell_size(FSTRACE_FALLOCATE, fd, from, size);
    unlock();
    return rc;
}

/* What was told before the begin is what the sync covers for certain. */
static int traced_sync(enum fstrace_call call, int fd, int (*fn)(int fd))
{
    int refused = is_faulty(call) ? errno : 0;
    struct fstrace_record r;
    int rc;

    if (fstrace_fd() < 0) {
        errno = refused;
        return refused != 0 ? -1 : fn(fd);
    }
    r = record(call, 0);
    object_of_fd(&r, fd);
    r.flags |= FSTRACE_BEGIN;
    tell(&r, "", "");
    rc = refused != 0 ? -1 : fn(fd);
    if (refused != 0)
        errno = refused;
    r = record(call, rc);
    object_of_fd(&r, fd);
    r.flags |= FSTRACE_END;
    tell(&r, "", "");
    errno = r.error;
    return rc;
}

int file_fdatasync(int fd)
{
    return traced_sync(FSTRACE_FDATASYNC, fd, fdatasync);
}

int file_fsync(int fd)
{
    return traced_sync(FSTRACE_FSYNC, fd, fsync);
}

int file_syncfs(int fd)
{
    return traced_sync(FSTRACE_SYNCFS, fd, syncfs);
}

int file_renameat(int odir, const char *from, int ndir, const char *to)
{
    struct stat moved = { 0 }, replaced;
    bool is_replacing;
    int rc;

    if (is_faulty(FSTRACE_RENAMEAT))
        return -1;
    if (fstrace_fd() < 0)
        return renameat(odir, from, ndir, to);
    lock();
    (void)fstatat(odir, from, &moved, AT_SYMLINK_NOFOLLOW);
    is_replacing = fstatat(ndir, to, &replaced, AT_SYMLINK_NOFOLLOW) == 0;
    rc = renameat(odir, from, ndir, to);
    if (rc == 0) {
        struct fstrace_record r = record(FSTRACE_RENAMEAT, 0);

        set_object(&r, &moved);
        parent_of(odir, from, &r.dir_dev, &r.dir_ino);
        parent_of(ndir, to, &r.dir2_dev, &r.dir2_ino);
        if (is_replacing) {
            r.flags |= FSTRACE_REPLACED;
            r.replaced = replaced.st_ino;
        }
        tell(&r, base_name(from), base_name(to));
    }
    unlock();
    return rc;
}

int file_linkat(int odir, const char *from, int ndir, const char *to)
{
    int rc;

    if (is_faulty(FSTRACE_LINKAT))
        return -1;
    if (fstrace_fd() < 0)
        return linkat(odir, from, ndir, to, 0);
    lock();
    rc = linkat(odir, from, ndir, to, 0);
    if (rc == 0) {
        struct fstrace_record r = record(FSTRACE_LINKAT, 0);
        struct stat st;

        if (fstatat(ndir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
            set_object(&r, &st);
        parent_of(odir, from, &r.dir_dev, &r.dir_ino);
        parent_of(ndir, to, &r.dir2_dev, &r.dir2_ino);
        tell(&r, base_name(from), base_name(to));
    }
    unlock();
    return rc;
}

int file_unlinkat(int dir, const char *name, int flags)
{
    struct stat gone = { 0 };
    int rc;

    if (is_faulty(FSTRACE_UNLINKAT))
        return -1;
    if (fstrace_fd() < 0)
        return unlinkat(dir, name, flags);
    lock();
    (void)fstatat(dir, name, &gone, AT_SYMLINK_NOFOLLOW);
    rc = unlinkat(dir, name, flags);
    if (rc == 0) {
        struct fstrace_record r = record(FSTRACE_UNLINKAT, 0);

        set_object(&r, &gone);
        r.nlink -= r.nlink > 0;
        r.open_flags = (uint32_t)flags;
        parent_of(dir, name, &r.dir_dev, &r.dir_ino);
        tell(&r, base_name(name), "");
    }
    unlock();
    return rc;
}

int file_mkdirat(int dir, const char *name, mode_t mode)
{
    int rc;

    if (is_faulty(FSTRACE_MKDIRAT))
        return -1;
    if (fstrace_fd() < 0)
        return mkdirat(dir, name, mode);
    lock();
    rc = mkdirat(dir, name, mode);
    if (rc == 0) {
        struct fstrace_record r = record(FSTRACE_MKDIRAT, 0);
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            set_object(&r, &st);
        parent_of(dir, name, &r.dir_dev, &r.dir_ino);
        tell(&r, base_name(name), "");
    }
    unlock();
    return rc;
}

int64_t file_boot_time(void)
{
    return 0;
}
