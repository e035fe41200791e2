/* The broker: workers and the syncs that they share; it reads no mail. */
#include "broker/broker.h"
#include "daemon/daemon.h"

static struct broker *broker;

static int on_start(struct process *p, struct err *err)
{
    broker = broker_new(p);
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from, int fd)
{
    broker_on_peer(broker, from, fd);
}

static void on_reload(struct process *p UNUSED, struct conf *conf UNUSED)
{
    broker_on_reload(broker);
}

static void on_drain(struct process *p UNUSED)
{
    broker_on_drain(broker);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    broker_dump(broker, out);
}

static const struct process_ops ops = {
    .type = PT_BROKER,
    .on_start = on_start,
    .on_peer = on_peer,
    .on_reload = on_reload,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_broker(void)
{
    return process_main(&ops);
}
