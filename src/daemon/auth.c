/* auth: sign-in, for smtpd, login and other programs. */
#include "auth/auth.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "table/table.h"

static struct tables *tables;
static struct auth *auth;

static void on_table(struct process *p UNUSED, slice name, int fd,
                     int64_t mtime)
{
    struct err err;

    if (tables == NULL)
        tables = tables_new();
    if (tables_give(tables, name, fd, mtime, &err) < 0)
        log_error("%s", err.log);
}

static int on_start(struct process *p, struct err *err)
{
    static const struct chan_ops ops = { 0 };

    if (tables == NULL)
        tables = tables_new();
    tables_set_server(tables, link_new(p, PT_TABLES, &ops, NULL, NULL));
    if (auth_new(p, tables, &auth, err) < 0)
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

static void on_idle(void *arg)
{
    process_exit(arg, 0);
}

static void on_drain(struct process *p)
{
    /* A reload leaves it where it is; at the end nobody is there to answer. */
    if (p->is_stopping)
        process_exit(p, 0);
    else
        auth_drain(auth, on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    auth_dump(auth, out);
}

static const struct process_ops ops = {
    .type = PT_AUTH,
    .on_start = on_start,
    .on_table = on_table,
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
