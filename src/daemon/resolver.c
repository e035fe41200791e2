/* resolver: DNS, for all others. */
#include "daemon/daemon.h"
#include "daemon/frame.h"
#include "dns/dns.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct dns_server *server;

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    /* What it reads, it reads here: later there are sockets only. */
    if (dns_server_new(p, &server, err) < 0)
        return -1;
    return process_sandbox(p, SANDBOX_INET, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    dns_server_on_peer(server, fd);
}

static void on_drain(struct process *p)
{
    if (p->is_stopping)
        process_exit(p, 0);
    else
        dns_server_drain(server, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    dns_server_dump(server, out);
}

static const struct process_ops ops = {
    .type = PT_RESOLVER,
    .on_start = on_start,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_resolver(void)
{
    return process_main(&ops);
}
