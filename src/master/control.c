/* The control socket: what commands ask of the running master. */
#include "master/master_priv.h"

#define LAZY_START_MS 10000
#define LAZY_LOOK_MS  20

/* -------------------------------------------------------------------- status
 */

MAY_WAIT static void ask_status(struct child *c, struct buf *out)
{
    struct chan *ch = chan_ref(c->chan);
    slice text = SLICE_NONE, line;
    struct msg answer;
    struct err err;

    /* After the call `c` may be gone: only the channel is used. */
    if (chan_call(ch, MASTER_STATUS, SLICE_NONE, NULL, 0, clock_after(2000),
                  &answer, &err) == 0) {
        attr_find(answer.body, AT_TEXT, &text);
        while (text.n > 0) {
            slice_cut(&text, '\n', &line);
            if (line.n > 0)
                buf_printf(out, "    %.*s\n", SLF(line));
        }
        msg_free(&answer);
    } else {
        buf_printf(out, "    no answer: %s\n", err.log);
    }
    chan_unref(&ch);
}

static void put_child(struct child *c, struct buf *out)
{
    static const char *const states[] = { "starting", "ready", "draining" };

    buf_printf(out, "%s", ptype_name(c->type));
    if (c->type == PT_SMTPD || c->type == PT_LMTPD || c->type == PT_LOGIN ||
        c->type == PT_SMTP)
        buf_printf(out, "/%u", c->slot->index);
    buf_printf(out, " pid %d %s, up %lld s\n", (int)c->pid, states[c->state],
               (long long)((loop_now() - c->started_at) / 1000));
}

/* Children by pid, since the list may change while one is asked. */
static struct child *child_after(struct master *m, pid_t pid)
{
    struct child *best = NULL;

    list_each(it, &m->children) {
        struct child *c = CONTAINER_OF(it, struct child, link);

        if (c->pid > pid && (best == NULL || c->pid < best->pid))
            best = c;
    }
    return best;
}

MAY_WAIT static int status(struct master *m, struct buf *out,
                           struct err *err UNUSED)
{
    struct child *c;
    pid_t last = 0;

    buf_printf(out, "master pid %d, version %s, up %lld s\n", (int)getpid(),
               HATO_VERSION, (long long)((loop_now() - m->started_at) / 1000));
    buf_printf(out, "configuration %s\n", conf_dir(m->conf));
    for (size_t t = 0; t < PT_N; t++)
        if (m->n_died[t] > 0)
            buf_printf(out, "    died %s %u\n", ptype_name((enum ptype)t),
                       m->n_died[t]);
    while ((c = child_after(m, last)) != NULL) {
        last = c->pid;
        put_child(c, out);
        if (c->state != CHILD_STARTING)
            ask_status(c, out);
    }
    return 0;
}

struct status_call {
    struct master *m;
    struct chan *chan;
    uint32_t id;
};

MAY_WAIT static void status_task(void *arg)
{
    struct status_call *s = arg;
    struct buf text, body;

    buf_init(&text, CHAN_MAX_BYTES / 2);
    buf_init(&body, CHAN_MAX_BYTES);
    (void)status(s->m, &text, NULL);
    attr_put(&body, AT_TEXT, buf_view(&text));
    chan_answer(s->chan, s->id, buf_view(&body), NULL, 0);
    buf_done(&text);
    buf_done(&body);
    chan_unref(&s->chan);
    free(s);
}

void control_answer_status(struct master *m, struct chan *c, uint32_t id)
{
    struct status_call *s = xcalloc(1, sizeof *s);

    s->m = m;
    s->chan = chan_ref(c);
    s->id = id;
    (void)task_spawn("status", status_task, s);
}

/* ------------------------------------------------------------------ requests
 */

MAY_WAIT static int reload(struct master *m, struct buf *out, struct err *err)
{
    if (m->state != MASTER_RUNNING)
        return err_temp(err, "the mail system is not running yet, or stops");
    return master_reload(m, out, err);
}

MAY_WAIT static int stop(struct master *m, struct buf *out UNUSED,
                         struct err *err UNUSED)
{
    master_stop(m);
    return 0;
}

MAY_WAIT static int abort_all(struct master *m, struct buf *out UNUSED,
                              struct err *err UNUSED)
{
    master_abort(m);
    return 0;
}

/* QUEUE_FLUSH of everything, for who has no channel to qmgr. */
MAY_WAIT static int flush(struct master *m, struct buf *out UNUSED,
                          struct err *err)
{
    static const struct chan_ops none = { .on_msg = NULL };
    struct msg answer;
    struct chan *c;
    int fd = -1, rc;

    if (child_connect(m, PT_COMMAND, PT_QMGR, &fd, err) < 0)
        return -1;
    c = chan_new(fd, &none, NULL);
    rc = chan_call(c, QUEUE_FLUSH, SLICE_NONE, NULL, 0, clock_after(10000),
                   &answer, err);
    if (rc == 0)
        msg_free(&answer);
    chan_free(&c);
    return rc;
}

static const struct {
    uint16_t type;
    bool is_alone; /* invariant 5 */
    int (*fn)(struct master *m, struct buf *out, struct err *err);
} requests[] = {
    { CTL_STATUS, false, status }, { CTL_RELOAD, true, reload },
    { CTL_STOP, true, stop },      { CTL_ABORT, false, abort_all },
    { CTL_FLUSH, false, flush },
};

/* A process that is started when first asked for takes its time. */
MAY_WAIT static void serve_connect(struct master *master, struct chan *c,
                                   struct msg *m)
{
    uint64_t number = attr_u64_or(m->body, AT_PTYPE, PT_NONE);
    enum ptype to = number < PT_N ? (enum ptype)number : PT_NONE;
    msec deadline = clock_after(LAZY_START_MS);
    struct err err;
    int fd = -1;

    while (child_connect(master, PT_COMMAND, to, &fd, &err) < 0) {
        if (err.class == ERR_TEMP && slot_is_lazy(to) &&
            clock_mono() < deadline && task_sleep(LAZY_LOOK_MS, NULL) == 0)
            continue;
        chan_fail(c, m->id, &err);
        return;
    }
    chan_answer(c, m->id, SLICE_NONE, &fd, 1);
    close(fd);
}

static void serve_reopen(struct master *master, struct chan *c, struct msg *m)
{
    slice name = SLICE_NONE;
    struct err err;

    attr_find(m->body, AT_NAME, &name);
    if (place_reopen_log(master, name, &err) < 0)
        chan_fail(c, m->id, &err);
    else
        chan_answer(c, m->id, SLICE_NONE, NULL, 0);
}

/* postlog: lines for the log. */
static void serve_log(struct chan *c, const struct msg *m)
{
    slice name = SL("postlog"), kind = SL("info"), text = SLICE_NONE, line;
    char tag[64];
    enum ev_level level = EV_INFO;

    (void)attr_find(m->body, AT_NAME, &name);
    (void)attr_find(m->body, AT_KIND, &kind);
    (void)attr_find(m->body, AT_TEXT, &text);
    (void)slice_copy_to(slice_sub(name, 0, sizeof tag - 1), tag, sizeof tag);
    if (slice_starts(kind, SL("warn")))
        level = EV_WARNING;
    else if (slice_eqs(kind, "error"))
        level = EV_ERROR;
    else if (!slice_eqs(kind, "info"))
        level = EV_FATAL;
    while (text.n > 0) {
        (void)slice_cut(&text, '\n', &line);
        if (line.n > 0)
            event_text(level, tag, NULL, "%.*s", SLF(line));
    }
    chan_answer(c, m->id, SLICE_NONE, NULL, 0);
}

/* A worker is reached through the broker. */
MAY_WAIT static int probe_worker(struct master *m, slice body,
                                 struct msg *answer, struct err *err)
{
    static const struct chan_ops none = { .on_msg = NULL };
    struct chan *c;
    int fd = -1, rc;

    if (child_connect(m, PT_MASTER, PT_BROKER, &fd, err) < 0)
        return -1;
    c = chan_new(fd, &none, NULL);
    rc = chan_call(c, WORKER_PROBE, body, NULL, 0, clock_after(10000), answer,
                   err);
    chan_free(&c);
    return rc;
}

MAY_WAIT static int probe_child(struct master *m, enum ptype type,
                                struct msg *answer, struct err *err)
{
    struct child *child = child_of(m, type);
    struct chan *c;
    int rc;

    if (child == NULL)
        return err_temp(err, "no such process");
    c = chan_ref(child->chan);
    rc = chan_call(c, MASTER_PROBE, SLICE_NONE, NULL, 0, clock_after(10000),
                   answer, err);
    chan_unref(&c);
    return rc;
}

/* Builds for development: a process tries what its sandbox must refuse. */
MAY_WAIT static void serve_probe(struct master *master, struct chan *c,
                                 struct msg *m)
{
    uint64_t type = attr_u64_or(m->body, AT_PTYPE, PT_NONE);
    struct msg answer = { 0 };
    struct err err;
    int rc;

    if (type == PT_MAILBOX)
        rc = probe_worker(master, m->body, &answer, &err);
    else
        rc = probe_child(master, type < PT_N ? (enum ptype)type : PT_NONE,
                         &answer, &err);
    if (rc < 0) {
        chan_fail(c, m->id, &err);
        return;
    }
    chan_answer(c, m->id, answer.body, NULL, 0);
    msg_free(&answer);
}

MAY_WAIT static void run(struct master *m, struct chan *c, struct msg *msg,
                         size_t i)
{
    struct buf text, body;
    struct err err;
    int rc;

    if (requests[i].is_alone && sema_down(&m->admin, MSEC_NEVER, &err) < 0)
        return;
    buf_init(&text, CHAN_MAX_BYTES / 2);
    buf_init(&body, CHAN_MAX_BYTES);
    rc = requests[i].fn(m, &text, &err);
    if (rc < 0)
        buf_printf(&text, "%s\n", err.log);
    attr_put(&body, AT_TEXT, buf_view(&text));
    if (rc < 0)
        attr_put_u64(&body, AT_OUTCOME, 1);
    chan_answer(c, msg->id, buf_view(&body), NULL, 0);
    if (msg->type == CTL_STOP || msg->type == CTL_ABORT) {
        (void)chan_flush(c, clock_after(1000), NULL);
        loop_stop();
    }
    buf_done(&text);
    buf_done(&body);
    if (requests[i].is_alone)
        sema_up(&m->admin);
}

MAY_WAIT static void serve(struct chan *c, struct msg *msg, void *arg)
{
    struct master *m = arg;
    struct err err;

    if (msg->type == CTL_CONNECT) {
        serve_connect(m, c, msg);
        return;
    }
    if (msg->type == CTL_REOPEN) {
        serve_reopen(m, c, msg);
        return;
    }
    if (msg->type == CTL_LOG) {
        serve_log(c, msg);
        return;
    }
    if (msg->type == CTL_PROBE) {
        serve_probe(m, c, msg);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        if (requests[i].type == msg->type) {
            run(m, c, msg, i);
            return;
        }
    err_temp(&err, "master does not know %s", proto_name(msg->type));
    chan_fail(c, msg->id, &err);
}

static void gone(struct chan *c, void *arg UNUSED)
{
    chan_free(&c);
}

static const struct chan_ops admin_ops = {
    .serve = serve,
    .max_tasks = 16,
    .on_close = gone,
};

static void accepted(int fd, const struct peer_addr *peer, void *arg)
{
    /* The mode of the socket says it already. */
    if (peer->uid != 0 && peer->uid != geteuid()) {
        close(fd);
        return;
    }
    (void)chan_new(fd, &admin_ops, arg); /* gone() frees it */
}

int control_open(struct master *m, struct err *err)
{
    char where[256];
    int n = snprintf(where, sizeof where, "unix:%s/run/control",
                     conf_str(m->conf, NULL, "queue_directory"));

    if (n >= (int)sizeof where)
        return err_perm(err, "queue_directory is too long for a socket");
    if (socket_listen(slice_str(where), 16, 0, 0600, &m->control_fd, err) < 0)
        return -1;
    m->control = listener_new(m->control_fd, accepted, m);
    return 0;
}

void control_close(struct master *m)
{
    char path[256];

    listener_free(&m->control);
    close_fd(&m->control_fd);
    (void)snprintf(path, sizeof path, "%s/run/control",
                   conf_str(m->conf, NULL, "queue_directory"));
    (void)unlink(path);
}
