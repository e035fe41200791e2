/* tables: lookups that need NSS, a password or a socket. */
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "table/table.h"

static struct tables *tables;
static struct table_server *server;

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
    /* What the system's name services read. */
    static const char *const paths[] = { "/etc",   "/usr", "/lib",
                                         "/lib64", "/run", "/var/lib/sss",
                                         NULL };

    if (tables == NULL)
        tables = tables_new();
    server = table_server_new(tables);
    table_server_set_conf(server, p->conf);
    return process_sandbox(p, SANDBOX_OPEN | SANDBOX_UNIX, paths, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    (void)chan_new(fd, table_server_ops(), server);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    table_server_dump(server, out);
}

static const struct process_ops ops = {
    .type = PT_TABLES,
    .on_start = on_start,
    .on_table = on_table,
    .on_peer = on_peer,
    .on_status = on_status,
};

int daemon_tables(void)
{
    return process_main(&ops);
}
