/* Answers that are longer than a frame: in memory that is passed on. */
#include "ipc/chan.h"
#include "rt/file.h"

#include <fcntl.h>
#include <sys/mman.h>

/* Room for what a frame has around its body. */
#define INLINE_MAX ((size_t)CHAN_MAX_BYTES - 1024)

static int write_all(int fd, slice body)
{
    size_t at = 0;

    while (at < body.n) {
        ssize_t n = pwrite(fd, body.p + at, body.n - at, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        at += (size_t)n;
    }
    return 0;
}

static int in_memory(slice body, int *fd_out, struct err *err)
{
    int fd = memfd_create("answer", MFD_CLOEXEC);

    if (fd < 0 || write_all(fd, body) < 0) {
        (void)err_sys(err, "memory for a long answer");
        close_fd(&fd);
        return -1;
    }
    *fd_out = fd;
    return 0;
}

void chan_answer_big(struct chan *c, uint32_t id, slice body)
{
    int fd CLEANUP(close_fd) = -1;
    struct err err;

    if (body.n <= INLINE_MAX)
        chan_answer(c, id, body, NULL, 0);
    else if (in_memory(body, &fd, &err) < 0)
        chan_fail(c, id, &err);
    else
        chan_answer(c, id, SLICE_NONE, &fd, 1);
}

int msg_read_big(const struct msg *m, struct buf *b, slice *out,
                 struct err *err)
{
    if (m->body.n > 0 || m->n_fds == 0) {
        *out = m->body;
        return 0;
    }
    /* Only memory has seals: a file of somebody's own could make us wait. */
    if (fcntl(m->fds[0], F_GET_SEALS) < 0)
        return err_sys(err, "a long answer is not in memory");
    buf_clear(b);
    if (file_read_fd(m->fds[0], b, err) < 0)
        return err_prefix(err, "a long answer");
    if (b->overflow)
        return err_temp(err, "an answer is longer than %zu bytes", b->max);
    *out = buf_view(b);
    return 0;
}
