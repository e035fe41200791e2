/* hato metrics: the numbers of the running processes, for Prometheus. */
#include "command/command.h"

#include "conf/conf.h"
#include "ipc/ipc.h"
#include "master/master.h"
#include "metrics/metrics.h"

#include <sysexits.h>

int command_metrics(int argc, char **argv UNUSED)
{
    struct conf *conf;
    struct buf text, out;
    struct err err;

    if (argc != 1) {
        (void)fprintf(stderr, "usage: hato metrics\n");
        return EX_USAGE;
    }
    conf = command_conf(NULL, CONF_MAIN_ONLY);
    buf_init(&text, CHAN_MAX_BYTES);
    buf_init(&out, CHAN_MAX_BYTES);
    if (master_ask(conf, CTL_STATUS, SLICE_NONE, &text, NULL, &err) < 0)
        command_die(EX_UNAVAILABLE, "%s", err.log);
    metrics_render(buf_view(&text), &out);
    command_print(&out, stdout);
    command_flush();
    buf_done(&text);
    buf_done(&out);
    conf_unref(&conf);
    return 0;
}
