/* smtp: mail to other hosts. */
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "ipc/ipc.h"
#include "keys/keys.h"
#include "rt/sandbox.h"
#include "smtp/client/client.h"

/* How long a start waits for the process `keys`. */
#define KEYS_MS 5000

static struct smtp_client *client;
static struct keyring *keyring;

static void on_fd(struct process *p, slice name, int fd)
{
    if (keyring == NULL)
        keyring = keyring_new(p);
    keyring_on_fd(keyring, name, fd);
}

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    /* Sockets of LMTP servers have names in the file system; Landlock lets
     * nothing there be opened but this. */
    static const char *const paths[] = { "/etc/hosts", NULL };
    struct smtp_client_parts parts = { .process = p };

    parts.tables = fed_link(p);
    parts.dns = dns_new(p);
    if (keyring == NULL)
        keyring = keyring_new(p);
    parts.keyring = keyring;
    if (smtp_client_new(&parts, &client, err) < 0)
        return -1;
    if (process_sandbox(p, SANDBOX_INET | SANDBOX_UNIX | SANDBOX_OPEN, paths,
                        NULL, err) < 0)
        return -1;
    keyring_wait(keyring, clock_after(KEYS_MS));
    return 0;
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    smtp_client_on_peer(client, fd);
}

static void on_idle(void *arg)
{
    process_exit(arg, 0);
}

static void on_drain(struct process *p)
{
    smtp_client_drain(client, on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    smtp_client_dump(client, out);
}

static const struct process_ops ops = {
    .type = PT_SMTP,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_fd = on_fd,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_smtp(void)
{
    return process_main(&ops);
}
