/* hato who [USER], hato kick USER [ADDRESS]: who is signed in. */
#include "command/command.h"

#include "base/clock.h"
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "master/master.h"

#include <sysexits.h>
#include <time.h>

#define ASK_MS 60000

struct who {
    const char *user, *remote;
    struct chan *chan;
    bool is_kick;
    uint64_t n;
};

static void print_item(const struct who *w, slice item)
{
    slice user = SLICE_NONE, service = SLICE_NONE, remote = SLICE_NONE;
    slice session = SLICE_NONE;
    uint64_t flags = attr_u64_or(item, AT_FLAGS, 0);
    time_t since = (time_t)attr_u64_or(item, AT_TIME, 0);
    char when[32] = "";
    struct tm tm;

    (void)attr_find(item, AT_USER, &user);
    (void)attr_find(item, AT_SERVICE_NAME, &service);
    (void)attr_find(item, AT_REMOTE, &remote);
    (void)attr_find(item, AT_SESSION, &session);
    if (w->user != NULL && !slice_eqs(user, w->user))
        return;
    if (localtime_r(&since, &tm) != NULL)
        (void)strftime(when, sizeof when, "%b %e %H:%M:%S", &tm);
    command_print_text(user);
    printf("  %.*s  ", SLF(service));
    command_print_text(remote);
    printf("  since %s%s%s  <", when, (flags & 1) != 0 ? "  TLS" : "",
           (flags & 2) != 0 ? "  parked" : "");
    command_print_text(session);
    puts(">");
}

static void broker_msg(struct chan *c UNUSED, struct msg *m, void *arg)
{
    if (m->type == SESSION_ITEM)
        print_item(arg, m->body);
}

static const struct chan_ops ops = { .on_msg = broker_msg };

MAY_WAIT static void connect_broker(struct who *w)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    struct buf b;
    struct err err;
    int fd = -1;

    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_PTYPE, PT_BROKER);
    if (master_ask(conf, CTL_CONNECT, buf_view(&b), NULL, &fd, &err) < 0 ||
        fd < 0)
        command_die(EX_UNAVAILABLE, "the broker cannot be asked: %s",
                    fd < 0 && err.log[0] == '\0' ? "no answer" : err.log);
    buf_done(&b);
    conf_unref(&conf);
    w->chan = chan_new(fd, &ops, w);
}

MAY_WAIT static void run(void *arg)
{
    struct who *w = arg;
    struct msg answer;
    struct buf b;
    struct err err;

    connect_broker(w);
    buf_init(&b, 4096);
    if (w->user != NULL)
        (void)attr_put_str(&b, AT_USER, w->user);
    if (w->remote != NULL)
        (void)attr_put_str(&b, AT_REMOTE, w->remote);
    if (chan_call(w->chan, w->is_kick ? SESSION_KICK : SESSION_LIST,
                  buf_view(&b), NULL, 0, clock_after(ASK_MS), &answer,
                  &err) < 0)
        command_die(EX_UNAVAILABLE, "%s", err.log);
    w->n = attr_u64_or(answer.body, AT_SIZE, 0);
    msg_free(&answer);
    buf_done(&b);
    chan_free(&w->chan);
}

int command_who(int argc, char **argv)
{
    struct who w = { .user = argc > 1 ? argv[1] : NULL };

    if (argc > 2) {
        (void)fprintf(stderr, "usage: hato who [USER]\n");
        return EX_USAGE;
    }
    command_run_task(run, &w);
    command_flush();
    return 0;
}

int command_kick(int argc, char **argv)
{
    struct who w = { .is_kick = true };

    if (argc < 2 || argc > 3) {
        (void)fprintf(stderr, "usage: hato kick USER [ADDRESS]\n");
        return EX_USAGE;
    }
    w.user = argv[1];
    w.remote = argc > 2 ? argv[2] : NULL;
    command_run_task(run, &w);
    printf("%" PRIu64 " session%s ended\n", w.n, w.n == 1 ? "" : "s");
    command_flush();
    return w.n > 0 ? 0 : 1;
}
