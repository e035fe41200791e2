/* A mailbox worker, with the uid of its user. */
#include "broker/broker.h"
#include "daemon/daemon.h"

static int on_start(struct worker *w, struct err *err)
{
    return worker_sandbox(w, err);
}

static void on_retire(struct worker *w)
{
    worker_exit(w, 0);
}

const struct worker_ops daemon_mailbox_ops = {
    .on_start = on_start,
    .on_retire = on_retire,
};
