#include "command/queue_priv.h"

#include "conf/conf.h"
#include "master/master.h"

#include <sys/stat.h>
#include <sysexits.h>

static void qmgr_msg(struct chan *c, struct msg *m, void *arg)
{
    struct command_queue *q = arg;

    (void)c;
    if (m->type == QUEUE_ITEM && q->on_item != NULL)
        q->on_item(q, m->body);
    else if (m->type == QUEUE_END)
        q->is_done = true;
}

static const struct chan_ops queue_ops = { .on_msg = qmgr_msg };

/* Are we who started the mail system, or root? */
static bool is_ours(const struct conf *conf)
{
    char *path CLEANUP(free_ptr) =
        xasprintf("%s/run/control", conf_str(conf, NULL, "queue_directory"));
    struct stat st;

    return geteuid() == 0 || (stat(path, &st) == 0 && st.st_uid == geteuid());
}

MAY_WAIT static int connect_as_user(const struct conf *conf, int *fd,
                                    struct err *err)
{
    char *where CLEANUP(free_ptr) =
        xasprintf("unix:%s/run/showq", conf_str(conf, NULL, "queue_directory"));

    if (socket_connect(slice_str(where), clock_after(COMMAND_QUEUE_MS), fd,
                       err) == 0)
        return 0;
    return err_temp(err, "mail system is down");
}

void command_queue_open_as_user(struct command_queue *q)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    struct err err;
    int fd = -1;

    if (is_ours(conf)) {
        conf_unref(&conf);
        command_queue_open(q);
        return;
    }
    if (connect_as_user(conf, &fd, &err) < 0)
        command_die(EX_UNAVAILABLE, "Queue report unavailable - %s", err.log);
    conf_unref(&conf);
    q->chan = chan_new(fd, &queue_ops, q);
}

void command_queue_open(struct command_queue *q)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    struct buf b;
    struct err err;
    int fd = -1;

    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_PTYPE, PT_QMGR);
    if (master_ask(conf, CTL_CONNECT, buf_view(&b), NULL, &fd, &err) < 0 ||
        fd < 0)
        command_die(EX_UNAVAILABLE, "Queue report unavailable - %s",
                    fd < 0 && err.log[0] == '\0' ? "no answer" : err.log);
    buf_done(&b);
    conf_unref(&conf);
    q->chan = chan_new(fd, &queue_ops, q);
}

static NO_RETURN void refused(const struct err *err)
{
    command_die(err->class == ERR_PERM ? EX_NOPERM : EX_UNAVAILABLE, "%s",
                err->log);
}

void command_queue_list(struct command_queue *q, slice body)
{
    struct msg answer;
    struct err err;

    /* The items come before the answer. */
    if (chan_call(q->chan, QUEUE_LIST, body, NULL, 0,
                  clock_after(COMMAND_LIST_MS), &answer, &err) < 0)
        refused(&err);
    msg_free(&answer);
    if (!q->is_done)
        command_die(EX_UNAVAILABLE, "the queue manager went away");
}

uint64_t command_queue_change(struct command_queue *q, uint16_t type,
                              slice body)
{
    struct msg answer;
    struct err err;
    uint64_t n;

    if (chan_call(q->chan, type, body, NULL, 0, clock_after(COMMAND_QUEUE_MS),
                  &answer, &err) < 0)
        refused(&err);
    n = attr_u64_or(answer.body, AT_SIZE, 0);
    msg_free(&answer);
    return n;
}
