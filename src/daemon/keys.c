/* keys: private keys; it signs, and gives none away. */
#include "keys/keys.h"
#include "daemon/daemon.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"
#include "rt/tls.h"

static struct keys *keys;

static void on_fd(struct process *p, slice name, int fd)
{
    if (keys == NULL)
        keys = keys_new(p);
    keys_on_fd(keys, name, fd);
}

static int on_start(struct process *p, struct err *err)
{
    if (keys == NULL)
        keys = keys_new(p);
    tls_init();
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_peer(struct process *p UNUSED, enum ptype from UNUSED, int fd)
{
    keys_on_peer(keys, fd);
}

static void on_drain(struct process *p)
{
    if (p->is_stopping)
        process_exit(p, 0);
    else
        keys_drain(keys, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    keys_dump(keys, out);
}

static const struct process_ops ops = {
    .type = PT_KEYS,
    .on_start = on_start,
    .on_fd = on_fd,
    .on_peer = on_peer,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_keys(void)
{
    return process_main(&ops);
}
