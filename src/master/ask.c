/* The commands' side of the control socket. */
#include "ipc/bchan.h"
#include "ipc/ipc.h"
#include "master/master_priv.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define END_MS 10000

static int connect_control(const struct conf *c, int *fd_out, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    const char *queue = conf_str(c, NULL, "queue_directory");
    int fd CLEANUP(close_fd) = -1;
    int n = snprintf(sa.sun_path, sizeof sa.sun_path, "%s/run/control", queue);

    if (n >= (int)sizeof sa.sun_path)
        return err_perm(err, "queue_directory is too long for a socket");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "make a socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            return err_temp(err, "the mail system is not running");
        if (errno == EACCES)
            return err_perm(err,
                            "only root and the user who started the mail "
                            "system may ask it (%s)",
                            sa.sun_path);
        return err_sys(err, "connect to %s", sa.sun_path);
    }
    *fd_out = take_fd(&fd);
    return 0;
}

/* The end of master shows as the end of its connection; the lock is free by
 * then, so that a start may follow. */
static void await_end(struct bchan *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    struct err err;

    while (poll(&p, 1, END_MS) > 0 && bchan_fill(c, &err) == 0)
        buf_clear(&c->in);
}

int master_ask(const struct conf *c, uint16_t what, slice body,
               struct buf *text, int *fd_out, struct err *err)
{
    struct bchan ch = { .fd = -1 };
    slice said = SLICE_NONE;
    struct msg answer;
    uint64_t failed;
    int fd = -1, rc;

    if (connect_control(c, &fd, err) < 0)
        return -1;
    rc = bchan_open(&ch, fd, err);
    if (rc == 0)
        rc = bchan_call(&ch, what, body, -1, &answer, err);
    if (rc == 0) {
        attr_find(answer.body, AT_TEXT, &said);
        failed = attr_u64_or(answer.body, AT_OUTCOME, 0);
        if (text != NULL)
            buf_slice(text, said);
        if (failed != 0)
            rc = err_perm(err, "%.*s", SLF(slice_rtrim(said)));
        if (fd_out != NULL) {
            *fd_out = answer.n_fds == 1 ? answer.fds[0] : -1;
            answer.n_fds = answer.n_fds == 1 ? 0 : answer.n_fds;
        }
        msg_free(&answer);
    }
    if (rc == 0 && (what == CTL_STOP || what == CTL_ABORT))
        await_end(&ch);
    bchan_close(&ch);
    return rc;
}
