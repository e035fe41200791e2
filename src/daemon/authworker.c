/* authworker: PAM and shadow, as root; only where passdb names them. */
#include "auth/auth.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static int on_start(struct process *p, struct err *err)
{
    static const char *const all[] = { "/", NULL };

    /* What PAM's modules need cannot be known; what no module needs (modules
     * of the kernel, mounts, ptrace ...) is refused all the same. */
    p->uid = (uid_t)-1;
    return process_sandbox(p,
                           SANDBOX_OPEN | SANDBOX_WRITE | SANDBOX_EXEC |
                               SANDBOX_FORK | SANDBOX_INET | SANDBOX_UNIX |
                               SANDBOX_SETUID | SANDBOX_KILL,
                           all, all, err);
}

static void on_peer(struct process *p, enum ptype from UNUSED, int fd)
{
    authworker_serve(fd, (unsigned)conf_int(p->conf, NULL,
                                            "auth_worker_max_count"));
}

static const struct process_ops ops = {
    .type = PT_AUTHWORKER,
    .on_start = on_start,
    .on_peer = on_peer,
};

int daemon_authworker(void)
{
    return process_main(&ops);
}

int daemon_authcheck(void)
{
    return authworker_check();
}
