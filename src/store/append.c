#include "store/store_priv.h"

#include "mail/date.h"
#include "rt/file.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

/*
 * Destinations without an index: mbox files (mail_spool_directory, `/file`) and
 * Maildirs (`/dir/`) of aliases and .forward.  At least once.
 */

enum {
    CHUNK = 64 << 10,
    TRIES_DEFAULT = 20,
    DELAY_DEFAULT = 1000,
    STALE_DEFAULT = 500000,
};

/* ---- the message, piece by piece ---- */

struct source_bytes {
    const struct store_append *a;
    uint64_t at;
    char *chunk; /* when it comes from a descriptor */
};

static int next_bytes(struct source_bytes *s, slice *out, struct err *err)
{
    uint64_t left = s->a->body_bytes - s->at;
    ssize_t n;

    if (s->a->body.p) {
        *out = slice_from(s->a->body, s->at);
        s->at = s->a->body.n;
        return 0;
    }
    if (left == 0) {
        *out = SLICE_NONE;
        return 0;
    }
    do
        n = pread(s->a->body_fd, s->chunk, min_size(CHUNK, left),
                  (off_t)(s->a->body_at + s->at));
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_sys(err, "read the message");
    s->at += (uint64_t)n;
    *out = slice_of(s->chunk, (size_t)n);
    return 0;
}

static void put_line(struct buf *b, const char *name, slice value,
                     const char *end)
{
    buf_puts(b, name);
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];

        buf_byte(b, c == '\n' || c == '\r' || c == '\0' ? ' ' : c);
    }
    buf_puts(b, end);
}

static void put_prefix(struct buf *b, const struct store_append *a)
{
    put_line(b, "Return-Path: <", a->return_path, ">\n");
    if (a->orig_to.n > 0)
        put_line(b, "X-Original-To: ", a->orig_to, "\n");
    if (a->delivered_to.n > 0)
        put_line(b, "Delivered-To: ", a->delivered_to, "\n");
}

/* "From sender Sat Nov 21 18:05:35 2026", in local time as everywhere. */
static void put_from(struct buf *b, const struct store_append *a)
{
    struct civil now;
    char date[32];

    clock_local(clock_wall() / 1000, &now);
    mail_date_mbox(&now, date);
    put_line(b, "From ",
             a->envelope_from.n > 0 ? a->envelope_from : SL("MAILER-DAEMON"),
             "  ");
    buf_printf(b, "%s\n", date);
}

struct quoter {
    struct buf *out;
    bool at_start;
    slice held; /* a front of "From " at a line's start, at a piece's end */
};

static void quote(struct quoter *q, slice s)
{
    static const char from[] = "From ";

    while (s.n > 0) {
        size_t have = q->held.n;
        ssize_t lf;

        if (q->at_start) {
            if (s.p[0] == from[have]) {
                q->held = slice_of(from, have + 1);
                s = slice_from(s, 1);
                if (q->held.n < 5)
                    continue;
                buf_byte(q->out, '>');
            }
            buf_slice(q->out, q->held);
            q->held = SLICE_NONE;
            q->at_start = false;
            continue;
        }
        lf = slice_chr(s, '\n');
        q->at_start = lf >= 0;
        buf_slice(q->out, slice_sub(s, 0, lf < 0 ? s.n : (size_t)lf + 1));
        s = slice_from(s, lf < 0 ? s.n : (size_t)lf + 1);
    }
}

/* ---- locks ---- */

static const char *lock_path(const struct store_append *a)
{
    return xasprintf("%s.lock", a->path);
}

static bool lock_is_stale(const struct store_append *a, const char *path)
{
    msec stale = a->stale_lock > 0 ? a->stale_lock : STALE_DEFAULT;
    struct stat st;

    return lstat(path, &st) == 0 &&
           clock_wall() / 1000 - st.st_mtim.tv_sec > stale / 1000;
}

/* 1 got it (or it cannot be had here), 0 held by another, -1 trouble. */
static int dot_try(const struct store_append *a, const char *path, bool *made,
                   struct err *err)
{
    int fd = file_openat(AT_FDCWD, path,
                         O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0) {
        close_fd(&fd);
        *made = true;
        return 1;
    }
    /* A user's own file in a directory that is not his: the kernel's lock has
     * to do. */
    if (errno == EACCES || errno == EPERM)
        return 1;
    if (errno != EEXIST)
        return err_sys(err, "create %s", path);
    if (lock_is_stale(a, path))
        (void)file_unlinkat(AT_FDCWD, path, 0);
    return 0;
}

static bool kernel_try(const struct store_append *a, int fd)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    /* Open file description locks stand against everybody's fcntl() locks and
     * also between two tasks of this process. */
    if ((a->locks & STORE_LOCK_FCNTL) && fcntl(fd, F_OFD_SETLK, &l) < 0 &&
        (errno == EAGAIN || errno == EACCES))
        return false;
    return !(a->locks & STORE_LOCK_FLOCK) ||
           flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

/* Wait before the next try; -1 when there is none. */
MAY_WAIT static int lock_wait(const struct store_append *a, unsigned *tries,
                              struct err *err)
{
    unsigned max = a->lock_tries > 0 ? a->lock_tries : TRIES_DEFAULT;
    msec delay = a->lock_delay > 0 ? a->lock_delay : DELAY_DEFAULT;

    if (++*tries >= max || !task_inside())
        return err_set(err, ERR_TEMP, "4.2.0",
                       "unable to lock for exclusive access: %s", a->path);
    return task_sleep(delay, err);
}

MAY_WAIT static int dot_lock(const struct store_append *a, const char *path,
                             bool *made, struct err *err)
{
    unsigned tries = 0;
    int got;

    if (!(a->locks & STORE_LOCK_DOTLOCK))
        return 0;
    for (;;) {
        got = dot_try(a, path, made, err);
        if (got != 0)
            return got < 0 ? -1 : 0;
        if (lock_wait(a, &tries, err) < 0)
            return -1;
    }
}

MAY_WAIT static int kernel_lock(const struct store_append *a, int fd,
                                struct err *err)
{
    unsigned tries = 0;

    while (!kernel_try(a, fd))
        if (lock_wait(a, &tries, err) < 0)
            return -1;
    return 0;
}

/* ---- mbox ---- */

static int mbox_open(const struct store_append *a, struct stat *st,
                     struct err *err)
{
    int fd =
        file_openat(AT_FDCWD, a->path,
                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);

    if (fd < 0)
        return err_sys(err, "cannot open %s", a->path);
    if (fstat(fd, st) < 0) {
        err_sys(err, "stat %s", a->path);
    } else if (S_ISREG(st->st_mode) && st->st_nlink != 1) {
        err_set(err, ERR_PERM, "5.2.0", "file has %ju hard links: %s",
                (uintmax_t)st->st_nlink, a->path);
    } else if (S_ISREG(st->st_mode) || S_ISCHR(st->st_mode)) {
        return fd;
    } else {
        err_set(err, ERR_PERM, "5.2.0", "%s is not a regular file", a->path);
    }
    close_fd(&fd);
    return -1;
}

static int write_out(int fd, struct buf *b, off_t *at, struct err *err)
{
    if (b->overflow)
        return err_temp(err, "buffer overflow");
    if (file_write_all(fd, buf_view(b), *at) < 0) {
        int sys = errno;

        err_sys(err, "write");
        if (sys == EDQUOT)
            err_set(err, ERR_TEMP, "4.2.2", "disk quota exceeded");
        return -1;
    }
    *at += (off_t)b->n;
    buf_clear(b);
    return 0;
}

static int mbox_write(const struct store_append *a, int fd, off_t *at,
                      struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    char *chunk CLEANUP(free_ptr) = a->body.p ? NULL : xmalloc(CHUNK);
    struct source_bytes src = { a, 0, chunk };
    struct quoter q = { &b, true, SLICE_NONE };
    slice piece = SLICE_NONE;
    char last = '\n';

    buf_init(&b, (a->body.p ? a->body.n : CHUNK) * 2 + 65536);
    put_from(&b, a);
    put_prefix(&b, a);
    for (;;) {
        if (next_bytes(&src, &piece, err) < 0)
            return -1;
        if (piece.n == 0)
            break;
        last = piece.p[piece.n - 1];
        quote(&q, piece);
        if (b.n >= CHUNK && write_out(fd, &b, at, err) < 0)
            return -1;
    }
    buf_slice(&b, q.held);
    buf_puts(&b, last == '\n' ? "\n" : "\n\n");
    return write_out(fd, &b, at, err);
}

struct fsync_job {
    int fd;
};

static int fsync_run(void *arg)
{
    return file_fsync(((struct fsync_job *)arg)->fd);
}

MAY_WAIT static int mbox_locked(struct store_append *a, int fd, struct err *err)
{
    uint64_t bytes = a->body.p ? a->body.n : a->body_bytes;
    struct fsync_job job = { fd };
    struct stat st;
    off_t at;

    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat %s", a->path);
    a->fs = st.st_dev;
    if (S_ISREG(st.st_mode) && a->max_bytes > 0 &&
        (uint64_t)st.st_size + bytes > a->max_bytes)
        return err_set(err, ERR_PERM, "5.2.2",
                       "mailbox %s: size limit exceeded", a->path);
    at = S_ISREG(st.st_mode) ? st.st_size : 0;
    if (mbox_write(a, fd, &at, err) < 0 ||
        (a->fsync && S_ISREG(st.st_mode) && offload(fsync_run, &job) < 0 &&
         err_sys(err, "sync") < 0)) {
        if (S_ISREG(st.st_mode))
            (void)file_ftruncate(fd, st.st_size);
        return err_prefix(err, "deliver to %s", a->path);
    }
    return 0;
}

MAY_WAIT static int mbox_append(struct store_append *a, struct err *err)
{
    const char *lock CLEANUP(free_ptr) = lock_path(a);
    int fd CLEANUP(close_fd) = -1;
    struct stat st = { 0 };
    bool made = false;
    int rc = -1;

    if (dot_lock(a, lock, &made, err) < 0)
        return -1;
    fd = mbox_open(a, &st, err);
    if (fd >= 0 && (!S_ISREG(st.st_mode) || kernel_lock(a, fd, err) == 0))
        rc = mbox_locked(a, fd, err);
    if (made)
        (void)file_unlinkat(AT_FDCWD, lock, 0);
    return rc;
}

/* ---- Maildir ---- */

static int maildir_dirs(const struct store_append *a, int *fd, struct err *err)
{
    static const char *const dirs[] = { "cur", "new", "tmp" };
    struct stat st;

    if (file_mkdirs(a->path, 0700, err) < 0)
        return -1;
    *fd = open(a->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return err_sys(err, "open %s", a->path);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (fstatat(*fd, dirs[i], &st, 0) < 0 &&
            file_mkdirat(*fd, dirs[i], 0700) < 0 && errno != EEXIST)
            return err_sys(err, "create %s%s", a->path, dirs[i]);
    return 0;
}

MAY_WAIT static int maildir_write(const struct store_append *a, int fd,
                                  struct err *err)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    char *chunk CLEANUP(free_ptr) = a->body.p ? NULL : xmalloc(CHUNK);
    struct source_bytes src = { a, 0, chunk };
    struct fsync_job job = { fd };
    off_t at = 0;
    slice piece = SLICE_NONE;

    buf_init(&b, 65536);
    put_prefix(&b, a);
    if (write_out(fd, &b, &at, err) < 0)
        return -1;
    for (;;) {
        if (next_bytes(&src, &piece, err) < 0)
            return -1;
        if (piece.n == 0)
            break;
        if (file_write_all(fd, piece, at) < 0)
            return err_sys(err, "write");
        at += (off_t)piece.n;
    }
    if (a->fsync && offload(fsync_run, &job) < 0)
        return err_sys(err, "sync");
    return 0;
}

static void maildir_name(struct store_append *a, size_t prefix_bytes)
{
    struct name_parts p = {
        .usec = clock_wall_usec(),
        .size = prefix_bytes + (a->body.p ? a->body.n : a->body_bytes),
    };
    char host[64];
    char *comma;

    host_clean(host, sizeof host, a->host);
    p.host = host;
    memcpy(p.id, a->id, ID_BYTES);
    if (id_is_zero(p.id))
        random_bytes(p.id, ID_BYTES);
    base_name_make(a->file, sizeof a->file, &p);
    /* W= is not known here. */
    comma = strrchr(a->file, ',');
    *comma = '\0';
}

MAY_WAIT static int maildir_sync(int dir, struct err *err)
{
    int fd CLEANUP(close_fd) =
        openat(dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fsync_job job = { fd };

    return fd < 0 || offload(fsync_run, &job) < 0 ? err_sys(err, "sync new/")
                                                  : 0;
}

MAY_WAIT static int maildir_append(struct store_append *a, struct err *err)
{
    struct buf prefix CLEANUP(buf_done) = { 0 };
    char tmp[FILE_NAME_MAX + 8];
    char to[FILE_NAME_MAX + 8];
    int dir CLEANUP(close_fd) = -1;
    int fd CLEANUP(close_fd) = -1;
    struct stat st;

    if (maildir_dirs(a, &dir, err) < 0)
        return -1;
    buf_init(&prefix, 65536);
    put_prefix(&prefix, a);
    maildir_name(a, prefix.n);
    (void)snprintf(tmp, sizeof tmp, "tmp/%s", a->file);
    (void)snprintf(to, sizeof to, "new/%s", a->file);
    fd = file_openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "create maildir file %s%s", a->path, tmp);
    a->fs = fstat(dir, &st) == 0 ? st.st_dev : 0;
    if (maildir_write(a, fd, err) < 0 ||
        (file_renameat(dir, tmp, dir, to) < 0 && err_sys(err, "rename") < 0)) {
        (void)file_unlinkat(dir, tmp, 0);
        return err_prefix(err, "deliver to %s", a->path);
    }
    return a->fsync ? maildir_sync(dir, err) : 0;
}

int store_append(struct store_append *a, struct err *err)
{
    size_t n = strlen(a->path);

    a->fs = 0;
    a->file[0] = '\0';
    if (a->path[0] != '/')
        return err_set(err, ERR_PERM, "5.2.0", "%s is not an absolute path",
                       a->path);
    return a->path[n - 1] == '/' ? maildir_append(a, err) : mbox_append(a, err);
}
