/* The log process: the log, and nothing else. */
#include "log/log.h"
#include "daemon/daemon.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct logger *logger;

static void on_fd(struct process *p, slice name, int fd)
{
    struct log_settings s;

    if (logger == NULL) {
        log_settings_read(&s, p->conf);
        logger = logger_new(&s);
    }
    if (slice_eqs(name, "events"))
        logger_events(logger, fd);
    else
        logger_output(logger, fd, slice_eqs(name, "syslog"));
}

static int on_start(struct process *p, struct err *err)
{
    if (logger == NULL)
        return err_temp(err, "master gave no socket to log from");
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_reload(struct process *p UNUSED, struct conf *conf)
{
    struct log_settings s;

    log_settings_read(&s, conf);
    logger_set(logger, &s);
}

static void on_drain(struct process *p)
{
    event_flush();
    logger_drain(logger);
    process_exit(p, 0);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    logger_dump(logger, out);
}

static const struct process_ops ops = {
    .type = PT_LOG,
    .on_start = on_start,
    .on_fd = on_fd,
    .on_reload = on_reload,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_log(void)
{
    int status = process_main(&ops);

    logger_free(&logger);
    return status;
}
