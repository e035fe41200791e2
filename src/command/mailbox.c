/* hato mailbox list|status|check|rebuild USER [MAILBOX]: the account's worker
 * answers. */
#include "command/command.h"

#include "base/clock.h"
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "master/master.h"

#include <sysexits.h>

#define ASK_MS   60000
#define CHECK_MS 3600000 /* every byte of an account is read */

struct question {
    const char *what, *user, *mailbox;
    int status;
};

static const struct chan_ops ops = { 0 };

MAY_WAIT static struct chan *connect_to(enum ptype who, const char *name)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    struct buf b;
    struct err err;
    int fd = -1;

    buf_init(&b, 64);
    err.log[0] = '\0';
    (void)attr_put_u64(&b, AT_PTYPE, who);
    if (master_ask(conf, CTL_CONNECT, buf_view(&b), NULL, &fd, &err) < 0 ||
        fd < 0)
        command_die(EX_UNAVAILABLE, "%s cannot be asked: %s", name,
                    err.log[0] == '\0' ? "no answer" : err.log);
    buf_done(&b);
    conf_unref(&conf);
    return chan_new(fd, &ops, NULL);
}

/* Who that is, as auth knows him. */
MAY_WAIT static void find_user(const struct question *q, struct msg *out)
{
    struct chan *c = connect_to(PT_AUTH, "auth");
    struct buf b;
    struct err err;
    slice mail;

    buf_init(&b, 4096);
    (void)attr_put_str(&b, AT_NAME, q->user);
    if (chan_call(c, AUTH_USER, buf_view(&b), NULL, 0, clock_after(ASK_MS), out,
                  &err) < 0)
        command_die(EX_TEMPFAIL, "%s: %s", q->user, err.log);
    if (!attr_find(out->body, AT_MAIL, &mail) || mail.n == 0)
        command_die(EX_NOUSER, "%s: no such user, or one without mailboxes",
                    q->user);
    buf_done(&b);
    chan_free(&c);
}

/* A channel to the worker that holds the account. */
MAY_WAIT static struct chan *find_worker(slice who)
{
    struct chan *broker = connect_to(PT_BROKER, "the broker");
    struct chan *worker;
    struct msg answer;
    struct err err;

    if (chan_call(broker, COMMAND_ASK, who, NULL, 0, clock_after(ASK_MS),
                  &answer, &err) < 0)
        command_die(EX_TEMPFAIL, "no worker: %s", err.log);
    if (answer.n_fds != 1)
        command_die(EX_SOFTWARE, "no worker: no descriptor came");
    worker = chan_new(answer.fds[0], &ops, NULL);
    answer.n_fds = 0;
    msg_free(&answer);
    chan_free(&broker);
    return worker;
}

static void copy_attr(struct buf *b, slice from, uint16_t tag)
{
    slice v = SLICE_NONE;

    if (attr_find(from, tag, &v))
        (void)attr_put(b, tag, v);
}

MAY_WAIT static void run(void *arg)
{
    struct question *q = arg;
    slice text = SLICE_NONE, line;
    struct msg who, answer;
    struct chan *worker;
    struct buf b;
    struct err err;

    find_user(q, &who);
    worker = find_worker(who.body);
    buf_init(&b, 65536);
    (void)attr_put_str(&b, AT_NAME, q->what);
    copy_attr(&b, who.body, AT_USER);
    copy_attr(&b, who.body, AT_HOME);
    copy_attr(&b, who.body, AT_MAIL);
    (void)attr_put_str(&b, AT_PATH, q->mailbox);
    if (chan_call(worker, WORKER_MAILBOX, buf_view(&b), NULL, 0,
                  clock_after(CHECK_MS), &answer, &err) < 0)
        command_die(err.class == ERR_PERM ? EX_DATAERR : EX_TEMPFAIL, "%s: %s",
                    q->user, err.log);
    (void)attr_find(answer.body, AT_TEXT, &text);
    while (text.n > 0) {
        (void)slice_cut(&text, '\n', &line);
        command_print_text(line);
        putchar('\n');
        if (slice_ends(line, SL(" troubles")))
            q->status = 1;
    }
    msg_free(&answer);
    msg_free(&who);
    chan_free(&worker);
    buf_done(&b);
}

static bool is_action(const char *what)
{
    static const char *const actions[] = { "list", "status", "check",
                                           "rebuild" };

    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(what, actions[i]) == 0)
            return true;
    return false;
}

int command_mailbox(int argc, char **argv)
{
    struct question q = { .mailbox = argc > 3 ? argv[3] : "" };

    if (argc < 3 || argc > 4 || !is_action(argv[1])) {
        (void)fprintf(stderr, "usage: hato mailbox list|status|check|rebuild "
                              "USER [MAILBOX]\n");
        return EX_USAGE;
    }
    q.what = argv[1];
    q.user = argv[2];
    command_run_task(run, &q);
    command_flush();
    return q.status;
}
