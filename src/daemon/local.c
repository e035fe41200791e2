/* local: alias expansion and deliveries to this machine's accounts. */
#include "local/local.h"
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct local *local;

static int on_start(struct process *p, struct err *err)
{
    local = local_new(p, fed_link(p));
    if (local_setup(local, err) < 0)
        return -1;
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    local_on_peer(local, fd);
}

static void on_drain(struct process *p)
{
    local_drain(local, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    local_dump(local, out);
}

static const struct process_ops ops = {
    .type = PT_LOCAL,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_local(void)
{
    return process_main(&ops);
}
