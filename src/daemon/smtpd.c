/* smtpd: SMTP sessions of strangers and of the pickup socket. */
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static int on_start(struct process *p, struct err *err)
{
    return process_sandbox(p, 0, NULL, NULL, err);
}

static const struct process_ops ops = {
    .type = PT_SMTPD,
    .on_start = on_start,
};

int daemon_smtpd(void)
{
    return process_main(&ops);
}
