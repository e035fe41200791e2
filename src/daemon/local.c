/* local: alias expansion and deliveries to this machine's accounts. */
#include "local/local.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "table/table.h"

static struct tables *tables;
static struct local *local;

static void on_table(struct process *p, slice name, int fd, int64_t mtime)
{
    struct err err;

    if (tables == NULL)
        tables = tables_new();
    if (tables_give(tables, name, fd, mtime, &err) < 0)
        log_error("%s", err.log);
    tables_set_owner(tables, name, p->table_owner);
}

static int on_start(struct process *p, struct err *err)
{
    static const struct chan_ops ops = { 0 };

    if (tables == NULL)
        tables = tables_new();
    tables_set_server(tables, link_new(p, PT_TABLES, &ops, NULL, NULL));
    local = local_new(p, tables);
    if (local_setup(local, err) < 0)
        return -1;
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    local_on_peer(local, fd);
}

static void on_idle(void *arg)
{
    process_exit(arg, 0);
}

static void on_drain(struct process *p)
{
    local_drain(local, on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    local_dump(local, out);
}

static const struct process_ops ops = {
    .type = PT_LOCAL,
    .on_start = on_start,
    .on_table = on_table,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_local(void)
{
    return process_main(&ops);
}
