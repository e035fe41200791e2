/* A mailbox worker, with the uid of its user. */
#include "broker/broker.h"
#include "daemon/daemon.h"
#include "daemon/mailbox_sessions.h"
#include "engine/engine.h"
#include "lmtp/lmtp.h"
#include "local/local.h"
#include "mail/mail.h"
#include "rt/file.h"
#include "store/store.h"

static struct engine *engine;
static struct store *store;
static struct lmtp_server *lmtp;
static struct conf *conf;

static void busy(void *arg, int change)
{
    worker_busy(arg, change);
    worker_touch(arg);
}

static void on_fs(void *arg, uint64_t dev, int dirfd)
{
    struct err err;

    if (worker_tell_fs(arg, dev, dirfd, &err) < 0)
        log_warning("%s", err.log);
}

static void note(void *arg UNUSED, const char *account, const char *text)
{
    log_warning("%s: %s", account, text);
}

static enum store_fsync fsync_mode(const struct conf *c)
{
    const char *mode = conf_str(c, NULL, "mail_fsync");

    if (strcmp(mode, "always") == 0)
        return STORE_FSYNC_ALWAYS;
    return strcmp(mode, "never") == 0 ? STORE_FSYNC_NEVER
                                      : STORE_FSYNC_OPTIMIZED;
}

static int on_start(struct worker *w, struct err *err)
{
    struct store_config cfg = { .note = note };
    struct lmtp_server_parts parts = { .busy = busy, .on_fs = on_fs, .arg = w };

    mail_charset_setup(); /* iconv loads its tables from files */
    conf = conf_ref(w->conf);
    engine = engine_local_new();
    cfg.engine = engine;
    cfg.host = conf_str(conf, NULL, "myhostname");
    cfg.fsync = fsync_mode(conf);
    /* Ids of expunged mail outlive every retry of the queue. */
    cfg.gone_keep_s =
        conf_time(conf, NULL, "maximal_queue_lifetime") + (int64_t)3 * 86400;
    cfg.boot = file_boot_time();
    store = store_new(&cfg);
    parts.store = store;
    parts.conf = conf;
    parts.host = cfg.host;
    lmtp = lmtp_server_new(&parts);
    mailbox_sessions_start(w, store, conf);
    return worker_sandbox(w, err);
}

static void on_lmtp(struct worker *w UNUSED, int fd)
{
    lmtp_serve(lmtp, fd);
}

static void on_chan(struct worker *w, int fd)
{
    worker_touch(w);
    local_files_serve(fd, store);
}

static void on_reload(struct worker *w UNUSED, struct conf *now)
{
    /* The old snapshot stays: store keeps names that point into it. */
    now = conf_ref(now);
    lmtp_server_set_conf(lmtp, now);
    mailbox_sessions_set_conf(now);
}

MAY_WAIT static void finish(void *arg)
{
    struct worker *w = arg;
    struct err err;

    mailbox_sessions_leave(w);
    while (!lmtp_server_is_idle(lmtp))
        if (task_sleep(20, &err) < 0)
            break;
    lmtp_server_close_all(lmtp);
    store_idle(store);
    worker_exit(w, 0);
}

static void on_retire(struct worker *w)
{
    task_spawn("retire", finish, w);
}

static void on_status(struct worker *w UNUSED, struct buf *out)
{
    (void)buf_printf(out, "lmtp sessions %zu\n", lmtp_server_sessions(lmtp));
    mailbox_sessions_dump(out);
    store_dump(store, out);
}

const struct worker_ops daemon_mailbox_ops = {
    .on_start = on_start,
    .on_lmtp = on_lmtp,
    .on_chan = on_chan,
    .on_session = mailbox_sessions_take,
    .on_session_end = mailbox_sessions_end,
    .on_reload = on_reload,
    .on_retire = on_retire,
    .on_status = on_status,
};
