/* metrics: numbers of all processes, for who watches them. */
#include "metrics/metrics.h"
#include "daemon/daemon.h"
#include "daemon/frame.h"
#include "ipc/ipc.h"
#include "rt/sandbox.h"

static struct metrics *metrics;

static int on_start(struct process *p, struct err *err)
{
    metrics = metrics_new(p);
    return process_sandbox(p, 0, NULL, NULL, err);
}

static void on_listener(struct process *p UNUSED,
                        const struct process_listener *l)
{
    metrics_listen(metrics, l);
}

static void on_drain(struct process *p)
{
    if (p->is_stopping)
        process_exit(p, 0);
    else
        metrics_drain(metrics, frame_on_idle, p);
}

static void on_status(struct process *p UNUSED, struct buf *out)
{
    metrics_dump(metrics, out);
}

static const struct process_ops ops = {
    .type = PT_METRICS,
    .on_start = on_start,
    .on_listener = on_listener,
    .on_drain = on_drain,
    .on_status = on_status,
};

int daemon_metrics(void)
{
    return process_main(&ops);
}
