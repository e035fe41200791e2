/* login: IMAP and POP3 before sign-in, the TLS of sessions after it. */
#include "login/login.h"
#include "daemon/daemon.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct login *login;

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    struct login_parts parts = { .process = p,
                                 .keyring = frame_keyring(p),
                                 .counters_fd = p->counters_fd };

    if (login_new(&parts, &login, err) < 0)
        return -1;
    if (process_sandbox(p, 0, NULL, NULL, err) < 0)
        return -1;
    frame_keyring_wait(p);
    return 0;
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    struct err err;

    if (login_listen(login, l, &err) < 0)
        log_error("%s", err.log);
}

static void on_drain(struct process *p)
{
    login_drain(login, frame_on_idle, p);
    if (p->is_stopping)
        login_close_all(login);
}

static void on_status(struct process *p, struct buf *out)
{
    login_dump(login, out);
    keyring_dump(frame_keyring(p), out);
}

static const struct process_ops ops = {
    .type = PT_LOGIN,
    .on_start = on_start,
    .on_fd = frame_on_fd,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_login(void)
{
    return process_main(&ops);
}
