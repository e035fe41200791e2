/* lmtpd: LMTP for other programs. */
#include "lmtpd/lmtpd.h"
#include "daemon/daemon.h"
#include "daemon/fed.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct lmtpd *lmtpd;

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    struct lmtpd_parts parts = { .process = p };

    parts.tables = fed_link(p);
    parts.keyring = frame_keyring(p);
    if (lmtpd_new(&parts, &lmtpd, err) < 0)
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

    if (lmtpd_listen(lmtpd, l, &err) < 0)
        log_error("%s", err.log);
}

static void on_drain(struct process *p)
{
    lmtpd_drain(lmtpd, frame_on_idle, p);
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
    .on_fd = frame_on_fd,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_lmtpd(void)
{
    return process_main(&ops);
}
