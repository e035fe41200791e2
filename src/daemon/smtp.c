/* smtp: mail to other hosts. */
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "smtp/client/client.h"

static struct smtp_client *client;

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    /* Sockets of LMTP servers have names in the file system; Landlock lets
     * nothing there be opened but this. */
    static const char *const paths[] = { "/etc/hosts", NULL };
    struct smtp_client_parts parts = { .process = p };

    parts.tables = fed_link(p);
    parts.dns = dns_new(p);
    parts.keyring = frame_keyring(p);
    if (smtp_client_new(&parts, &client, err) < 0)
        return -1;
    if (process_sandbox(p, SANDBOX_INET | SANDBOX_UNIX | SANDBOX_OPEN, paths,
                        NULL, err) < 0)
        return -1;
    frame_keyring_wait(p);
    return 0;
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    smtp_client_on_peer(client, fd);
}

static void on_drain(struct process *p)
{
    smtp_client_drain(client, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    smtp_client_dump(client, out);
}

static const struct process_ops ops = {
    .type = PT_SMTP,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_fd = frame_on_fd,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_smtp(void)
{
    return process_main(&ops);
}
