/* tables: lookups that need NSS, a password or a socket. */
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static int on_start(struct process *p, struct err *err)
{
    /* What the system's name services read. */
    static const char *const paths[] = { "/etc",   "/usr", "/lib",
                                         "/lib64", "/run", "/var/lib/sss",
                                         NULL };

    return process_sandbox(p, SANDBOX_OPEN | SANDBOX_UNIX, paths, NULL, err);
}

static const struct process_ops ops = {
    .type = PT_TABLES,
    .on_start = on_start,
};

int daemon_tables(void)
{
    return process_main(&ops);
}
