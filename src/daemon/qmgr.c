/* qmgr: the spool and the schedule. */
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static int on_start(struct process *p, struct err *err)
{
    static char spool[1024];
    static const char *const paths[] = { spool, NULL };

    (void)snprintf(spool, sizeof spool, "%s/spool",
                   conf_str(p->conf, NULL, "queue_directory"));
    return process_sandbox(p, SANDBOX_OPEN | SANDBOX_WRITE, paths, paths, err);
}

static const struct process_ops ops = {
    .type = PT_QMGR,
    .on_start = on_start,
};

int daemon_qmgr(void)
{
    return process_main(&ops);
}
