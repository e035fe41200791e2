/* fetcher: HTTPS to others: policies of MTA-STS, reports on TLS. */
#include "daemon/daemon.h"
#include "daemon/frame.h"
#include "fetch/fetch.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct fetch_server *server;

static int on_start(struct process *p, struct err *err)
{
    if (fetch_server_new(p, &server, err) < 0)
        return -1;
    return process_sandbox(p, SANDBOX_INET, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    fetch_server_on_peer(server, fd);
}

static void on_drain(struct process *p)
{
    fetch_server_drain(server, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    fetch_server_dump(server, out);
}

static const struct process_ops ops = {
    .type = PT_FETCHER,
    .on_start = on_start,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_fetcher(void)
{
    return process_main(&ops);
}
