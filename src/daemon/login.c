/* login: IMAP and POP3 before sign-in, the TLS of sessions after it. */
#include "login/login.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

/* How long a start waits for the process `keys`. */
#define KEYS_MS 5000

static struct keyring *keyring;
static struct login *login;

static struct keyring *the_keyring(struct process *p)
{
    if (keyring == NULL)
        keyring = keyring_new(p);
    return keyring;
}

static void on_fd(struct process *p, slice name, int fd)
{
    keyring_on_fd(the_keyring(p), name, fd);
}

MAY_WAIT static int on_start(struct process *p, struct err *err)
{
    struct login_parts parts = { .process = p,
                                 .keyring = the_keyring(p),
                                 .counters_fd = p->counters_fd };

    if (login_new(&parts, &login, err) < 0)
        return -1;
    if (process_sandbox(p, 0, NULL, NULL, err) < 0)
        return -1;
    keyring_wait(the_keyring(p), clock_after(KEYS_MS));
    return 0;
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    struct err err;

    if (login_listen(login, l, &err) < 0)
        log_error("%s", err.log);
}

static void on_idle(void *arg)
{
    process_exit(arg, 0);
}

static void on_drain(struct process *p)
{
    login_drain(login, on_idle, p);
    if (p->is_stopping)
        login_close_all(login);
}

static void on_status(struct process *p, struct buf *out)
{
    login_dump(login, out);
    keyring_dump(the_keyring(p), out);
}

static const struct process_ops ops = {
    .type = PT_LOGIN,
    .on_start = on_start,
    .on_fd = on_fd,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_login(void)
{
    return process_main(&ops);
}
