/* smtpd: SMTP sessions of strangers and of the pickup socket. */
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/frame.h"
#include "dns/dns.h"
#include "ipc/ipc.h"
#include "keys/keys.h"
#include "rt/sandbox.h"
#include "smtp/smtp.h"
#include "spool/spool.h"

static struct smtp_server *server;
static int passes_fd; /* what clients have passed of postscreen's tests */

static void on_fd(struct process *p, slice name, int fd)
{
    if (slice_eqs(name, "passes"))
        passes_fd = fd;
    else
        frame_on_fd(p, name, fd);
}

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    struct smtp_server_parts parts = { .process = p,
                                       .counters_fd = p->counters_fd,
                                       .passes_fd = passes_fd };

    parts.tables = fed_link(p);
    parts.spool = spool_writer_link(p, NULL);
    parts.keyring = frame_keyring(p);
    parts.dns = dns_new(p);
    parts.hosts = dns_hosts_new("/etc/hosts"); /* as it is now */
    if (smtp_server_new(&parts, &server, err) < 0)
        return -1;
    if (process_sandbox(p, 0, NULL, NULL, err) < 0)
        return -1;
    frame_keyring_wait(p);
    return 0;
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    struct err err;

    if (smtp_server_listen(server, l, &err) < 0)
        log_error("%s", err.log);
}

static void on_drain(struct process *p)
{
    smtp_server_drain(server, frame_on_idle, p);
    if (p->is_stopping)
        smtp_server_close_all(server);
}

static void on_status(struct process *p, struct buf *out)
{
    smtp_server_dump(server, out);
    keyring_dump(frame_keyring(p), out);
}

static const struct process_ops ops = {
    .type = PT_SMTPD,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_fd = on_fd,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_smtpd(void)
{
    return process_main(&ops);
}
