/* lmtpd: LMTP for other programs. */
#include "lmtpd/lmtpd.h"
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "ipc/ipc.h"
#include "keys/keys.h"
#include "rt/sandbox.h"

/* How long a start waits for the process `keys`. */
#define KEYS_MS 5000

static struct lmtpd *lmtpd;
static struct keyring *keyring;

static void on_fd(struct process *p, slice name, int fd)
{
    if (keyring == NULL)
        keyring = keyring_new(p);
    keyring_on_fd(keyring, name, fd);
}

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    struct lmtpd_parts parts = { .process = p };

    parts.tables = fed_link(p);
    if (keyring == NULL)
        keyring = keyring_new(p);
    parts.keyring = keyring;
    if (lmtpd_new(&parts, &lmtpd, err) < 0)
        return -1;
    if (process_sandbox(p, 0, NULL, NULL, err) < 0)
        return -1;
    keyring_wait(keyring, clock_after(KEYS_MS));
    return 0;
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    struct err err;

    if (lmtpd_listen(lmtpd, l, &err) < 0)
        log_error("%s", err.log);
}

static void on_idle(void *arg)
{
    process_exit(arg, 0);
}

static void on_drain(struct process *p)
{
    lmtpd_drain(lmtpd, on_idle, p);
    if (p->is_stopping)
        lmtpd_close_all(lmtpd);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    lmtpd_dump(lmtpd, out);
}

static const struct process_ops ops = {
    .type = PT_LMTPD,
    .on_start = on_start,
    .on_table = fed_on_table,
    .on_fd = on_fd,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_lmtpd(void)
{
    return process_main(&ops);
}
