#include "command/queue_priv.h"

#include "conf/conf.h"
#include "master/master.h"

#include <sysexits.h>

static void qmgr_msg(struct chan *c, struct msg *m, void *arg)
{
    struct command_queue *q = arg;

    (void)c;
    if (m->type == QUEUE_ITEM && q->on_item != NULL)
        q->on_item(q, m->body);
    else if (m->type == QUEUE_END)
        q->is_done = true;
    if (q->is_done && q->waiter != NULL)
        task_wake(q->waiter);
}

static void qmgr_closed(struct chan *c, void *arg)
{
    struct command_queue *q = arg;

    (void)c;
    q->is_broken = true;
    if (q->waiter != NULL)
        task_wake(q->waiter);
}

void command_queue_open(struct command_queue *q)
{
    static const struct chan_ops ops = { .on_msg = qmgr_msg,
                                         .on_close = qmgr_closed };
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
    q->chan = chan_new(fd, &ops, q);
}

void command_queue_list(struct command_queue *q)
{
    struct err err;

    q->waiter = task_self();
    if (chan_send(q->chan, QUEUE_LIST, SLICE_NONE, NULL, 0, &err) < 0)
        command_die(EX_UNAVAILABLE, "%s", err.log);
    while (!q->is_done && !q->is_broken)
        if (task_wait(clock_after(COMMAND_QUEUE_MS), &err) < 0)
            command_die(EX_UNAVAILABLE, "the queue manager does not answer");
    q->waiter = NULL;
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
        command_die(EX_UNAVAILABLE, "%s", err.log);
    n = attr_u64_or(answer.body, AT_SIZE, 0);
    msg_free(&answer);
    return n;
}
