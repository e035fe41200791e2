#include "local/local_priv.h"

#include "rt/file.h"

#include <fcntl.h>
#include <sys/stat.h>

/*
 * The worker's part: reads .forward and :include: files with the user's own
 * rights, for `local`, which has no file system of its own.
 */
#define FORWARD_MAX_BYTES (256u << 10)

struct files {
    struct chan *chan;
    struct store *store;
};

/* Postfix's rules for a .forward: a regular file (no link), of the user or
 * root, that others cannot write. */
static bool is_trusted(const struct stat *st)
{
    return S_ISREG(st->st_mode) &&
           (st->st_uid == geteuid() || st->st_uid == 0) &&
           (st->st_mode & S_IWOTH) == 0;
}

/* 1 read, 0 there is none (or not to be trusted, which is logged), -1 err. */
static int read_file(slice path, bool is_forward, struct buf *out,
                     struct err *err)
{
    int fd CLEANUP(close_fd) = -1;
    char *name CLEANUP(free_ptr) = NULL;
    struct stat st;

    if (path.n == 0 || path.n >= PATH_MAX || path.p[0] != '/' ||
        slice_chr(path, '\0') >= 0)
        return err_perm(err, "bad file name");
    name = slice_xstrdup(path);
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK |
                        (is_forward ? O_NOFOLLOW : 0));
    if (fd < 0 && is_forward &&
        (errno == ENOENT || errno == ENOTDIR || errno == EACCES ||
         errno == ELOOP))
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "open %s", name);
    if (is_forward ? !is_trusted(&st) : !S_ISREG(st.st_mode)) {
        log_warning("file %s is not used: it must be a regular file of its "
                    "user that others cannot write",
                    name);
        if (is_forward)
            return 0;
        return err_temp(err, "%s is not a regular file", name);
    }
    if (file_read_fd(fd, out, err) < 0)
        return err_prefix(err, "read %s", name);
    if (out->overflow)
        return err_temp(err, "%s is larger than %zu bytes", name, out->max);
    return 1;
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    const struct files *f = arg;
    bool is_forward = m->type == WORKER_FORWARD;
    slice in = m->body;
    struct buf content;
    struct buf reply;
    struct attr a;
    struct err err;
    int r = 0;

    if (m->type == WORKER_MAILBOX && f->store) {
        local_mailboxes_serve(c, m, f->store);
        return;
    }
    if (!is_forward && m->type != WORKER_INCLUDE) {
        err_temp(&err, "a worker does not know this question");
        chan_fail(c, m->id, &err);
        return;
    }
    buf_init(&content, is_forward ? FORWARD_MAX_BYTES : LOCAL_INCLUDE_MAX);
    buf_init(&reply, content.max + 4096);
    while (r == 0 && attr_next(&in, &a) > 0)
        if (a.tag == AT_PATH)
            r = read_file(a.v, is_forward, &content, &err);
    if (r < 0) {
        chan_fail(c, m->id, &err);
    } else {
        if (r > 0)
            (void)attr_put(&reply, AT_CONTENT, buf_view(&content));
        chan_answer_big(c, m->id, buf_view(&reply));
    }
    buf_done(&content);
    buf_done(&reply);
}

static void on_close(struct chan *c UNUSED, void *arg)
{
    struct files *f = arg;

    chan_free(&f->chan);
    free(f);
}

void local_files_serve(int fd, struct store *store)
{
    static const struct chan_ops ops = { .serve = serve,
                                         .on_close = on_close,
                                         .max_tasks = 32 };
    struct files *f = xcalloc(1, sizeof *f);

    f->store = store;
    f->chan = chan_new(fd, &ops, f);
}
