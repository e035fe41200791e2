/* auth: sign-in, for smtpd, login and other programs. */
#include "auth/auth.h"
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct auth *auth;

static int on_start(struct process *p, struct err *err)
{
    if (auth_new(p, fed_link(p), &auth, err) < 0)
        return -1;
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    auth_listen(auth, l);
}

static void on_peer(struct process *p UNUSED, enum ptype from, int fd)
{
    auth_on_peer(auth, from, fd);
}

static void on_reload(struct process *p UNUSED, struct conf *conf)
{
    struct err err;

    if (auth_reload(auth, conf, &err) < 0)
        log_error("%s; the last configuration stays in use", err.log);
}

static void on_drain(struct process *p)
{
    /* A reload leaves it where it is; at the end nobody is there to answer. */
    if (p->is_stopping)
        process_exit(p, 0);
    else
        auth_drain(auth, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    auth_dump(auth, out);
}

static const struct process_ops ops = {
    .type = PT_AUTH,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_listener = on_listener,
    .on_peer = on_peer,
    .on_reload = on_reload,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_auth(void)
{
    return process_main(&ops);
}
