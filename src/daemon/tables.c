/* tables: lookups that need NSS, a password or a socket. */
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "table/table.h"

static struct table_server *server;

static void look_for_inet(void *ctx, slice type, slice name, slice whole)
{
    bool *needs = ctx;

    (void)whole;
    *needs |= slice_eqs(type, "tcp") ||
              (slice_eqs(type, "socketmap") && slice_starts(name, SL("inet:")));
}

static void look_into(void *ctx, const struct conf_table_ref *ref)
{
    char *spec CLEANUP(free_ptr) =
        xasprintf("%.*s:%.*s", SLF(ref->type), SLF(ref->name));

    table_each_leaf(slice_str(spec), look_for_inet, ctx);
}

/* The right to reach a network is had only where a table needs it. */
static unsigned rights(const struct conf *c)
{
    bool needs_inet = false;

    conf_each_table(c, look_into, &needs_inet);
    return SANDBOX_OPEN | SANDBOX_UNIX | (needs_inet ? SANDBOX_INET : 0);
}

static int on_start(struct process *p, struct err *err)
{
    /* What the system's name services read. */
    static const char *const paths[] = { "/etc",   "/usr", "/lib",
                                         "/lib64", "/run", "/var/lib/sss",
                                         NULL };

    tables_set_direct(fed_tables(),
                      NULL); /* what is not handed down: NSS, sockets */
    server = table_server_new(fed_tables());
    table_server_set_conf(server, p->conf);
    return process_sandbox(p, rights(p->conf), paths, NULL, err);
}

/* Who asks.  The server's operations, but that we know of the end: a process
 * that drains answers what was asked before it goes. */
struct asker {
    struct list link;
    struct process *p;
    struct chan *chan;
    enum table_asker from;
};

static struct list askers = { &askers, &askers };

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    const struct asker *a = arg;

    table_server_answer(server, c, m, a->from);
}

static void on_close(struct chan *c UNUSED, void *arg)
{
    struct asker *a = arg;

    list_remove(&a->link);
    chan_free(&a->chan);
    if (a->p->is_draining && list_empty(&askers))
        process_exit(a->p, 0);
    free(a);
}

static void on_peer(struct process *p, enum ptype from, int fd)
{
    static struct chan_ops ops = { .serve = serve, .on_close = on_close };
    struct asker *a = xcalloc(1, sizeof *a);

    ops.max_tasks = table_server_ops()->max_tasks;
    a->p = p;
    a->from = from == PT_AUTH   ? TABLE_ASKER_AUTH
              : from == PT_SMTP ? TABLE_ASKER_SMTP
                                : TABLE_ASKER_OTHER;
    list_push(&askers, &a->link);
    a->chan = chan_new(fd, &ops, a);
    if (p->is_draining)
        chan_bye(a->chan);
}

static void on_drain(struct process *p)
{
    list_each(it, &askers)
        chan_bye(CONTAINER_OF(it, struct asker, link)->chan);
    if (list_empty(&askers) || p->is_stopping)
        process_exit(p, 0);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    table_server_dump(server, out);
}

static const struct process_ops ops = {
    .type = PT_TABLES,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_tables(void)
{
    return process_main(&ops);
}
