/*
 * Logins, a command, local, workers and auth who say to the broker whatever
 * they like, with handles, records and tickets that are right, of others, or
 * made up.  A step of the input: who speaks, what type, how its body is made,
 * its length, its bytes.  A login must never hear of a session that is not its
 * own, and none must be given for a ticket that auth did not sign.
 */
#include "broker/broker_priv.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HANDLES = 64, WORKERS = 8, STEPS = 64, LOGINS = 2 };

struct end { /* a login, command, local, or worker */
    struct chan *chan;
    uint8_t handles[HANDLES][16]; /* given to it */
    size_t n_handles;
};

static struct process process;
static struct broker *b;
static struct chan *master, *auth, *template;
static struct end ends[4], workers[WORKERS];
static size_t n_workers, n_asking;
static uint8_t last_handle[16];
static slice input;

static bool is_given(const struct end *e, slice handle)
{
    for (size_t i = 0; i < e->n_handles && i < HANDLES; i++)
        if (handle.n == 16 && memcmp(e->handles[i], handle.p, 16) == 0)
            return true;
    return false;
}

static void end_msg(struct chan *c, struct msg *m, void *arg)
{
    struct end *e = arg;
    slice handle = SLICE_NONE;
    struct err err;

    (void)attr_find(m->body, AT_HANDLE, &handle);
    if (m->type == LOGIN_PARK || m->type == LOGIN_PUSH || m->type == LOGIN_END)
        CHECK(e->n_handles > HANDLES || is_given(e, handle));
    if (m->type == WORKER_SESSION && handle.n == 16)
        memcpy(last_handle, handle.p, 16);
    if (m->type != WORKER_WAKE)
        return;
    if (((uint8_t)handle.p[0] & 1) != 0) {
        chan_answer(c, m->id, SLICE_NONE, NULL, 0);
        return;
    }
    err_temp(&err, "no such session");
    chan_fail(c, m->id, &err);
}

static void end_close(struct chan *c UNUSED, void *arg)
{
    struct end *e = arg;

    chan_free(&e->chan);
}

static const struct chan_ops end_ops = { .on_msg = end_msg,
                                         .on_close = end_close };
static const struct chan_ops quiet_ops = { 0 };

static void put_joe(struct buf *body)
{
    attr_put_str(body, AT_USER, "joe");
    attr_put_str(body, AT_ACCOUNT, "joe");
    attr_put_u64(body, AT_UID, 1000);
    attr_put_u64(body, AT_GID, 1000);
    attr_put_str(body, AT_HOME, "/home/joe");
    attr_put_str(body, AT_MAIL, "maildir:/home/joe/Maildir");
}

static void auth_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    slice ticket = SLICE_NONE;
    struct err err;
    struct buf body;

    (void)attr_find(m->body, AT_TICKET, &ticket);
    if (!slice_eqs(ticket, "good ticket 1234")) {
        err_perm(&err, "no such ticket");
        chan_fail(c, m->id, &err);
        return;
    }
    buf_init(&body, 1000);
    put_joe(&body);
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

static void template_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct buf body;
    struct err err;

    if (n_workers == WORKERS || m->n_fds == 0) {
        err_temp(&err, "no more of them");
        chan_fail(c, m->id, &err);
        return;
    }
    workers[n_workers].chan =
        chan_new(m->fds[0], &end_ops, &workers[n_workers]);
    m->fds[0] = -1;
    n_workers++;
    buf_init(&body, 64);
    attr_put_u64(&body, AT_PID, 100 + n_workers);
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

static const struct chan_ops auth_ops = { .on_msg = auth_msg };
static const struct chan_ops template_ops = { .on_msg = template_msg };

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    bool is_auth = attr_u64_or(m->body, AT_PTYPE, 0) == PT_AUTH;
    int fds[2];

    CHECK(chan_socketpair(fds, NULL) == 0);
    *(is_auth ? &auth : &template) =
        chan_new(fds[0], is_auth ? &auth_ops : &template_ops, NULL);
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };

/* ---- steps ---- */

enum how {
    REAL_HANDLE = 1,
    RAW = 2,
    WITH_FD = 4,
    ASK = 8,
    GOOD_TICKET = 16,
    LONG = 32,
};

static void make_body(struct buf *body, unsigned how, slice bytes)
{
    static const uint16_t texts[] = { AT_RECORD, AT_CONTENT, AT_TEXT,
                                      AT_TAG,    AT_SESSION, AT_USER };
    static const uint16_t numbers[] = { AT_FLAGS,  AT_FSID, AT_GENERATION,
                                        AT_OFFSET, AT_TIME, AT_LENGTH };
    uint8_t n = bytes.n > 0 ? (uint8_t)bytes.p[0] : 0;
    char filler[1000];

    if (how & RAW) {
        buf_slice(body, bytes);
        return;
    }
    attr_put(body, AT_HANDLE,
             how & REAL_HANDLE ? slice_of(last_handle, 16) : bytes);
    attr_put(body, AT_TICKET,
             how & GOOD_TICKET ? SL("good ticket 1234") : bytes);
    attr_put_str(body, AT_SERVICE_NAME, n & 1 ? "imap" : "pop3");
    attr_put_str(body, AT_REMOTE, "192.0.2.1");
    attr_put_str(body, AT_ACCOUNT, n & 2 ? "joe" : "eve");
    attr_put_str(body, AT_KIND, "mailbox");
    attr_put_u64(body, AT_UID, 1000u + (n & 3));
    attr_put_u64(body, AT_GID, 1000);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        attr_put_u64(body, numbers[i], n >> i & 3);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        attr_put(body, texts[i], bytes);
    memset(filler, 'x', sizeof filler);
    for (size_t i = 0; how & LONG && i < 70; i++)
        attr_put(body, AT_RECORD, slice_of(filler, sizeof filler));
}

struct question {
    struct end *end;
    uint16_t type;
    struct buf body;
    int fd;
    bool is_good;
};

MAY_WAIT static void ask_task(void *arg)
{
    struct question *q = arg;
    struct msg answer;
    struct err err;
    slice handle;

    if (chan_call(q->end->chan, q->type, buf_view(&q->body), &q->fd,
                  q->fd >= 0 ? 1 : 0, clock_after(300), &answer, &err) == 0) {
        if (q->type == BROKER_SESSION) {
            CHECK(q->is_good);
            if (attr_find(answer.body, AT_HANDLE, &handle) && handle.n == 16)
                memcpy(q->end->handles[q->end->n_handles++ % HANDLES], handle.p,
                       16);
        }
        msg_free(&answer);
    }
    close_fd(&q->fd);
    buf_done(&q->body);
    free(q);
    n_asking--;
}

static uint16_t type_of(uint8_t n)
{
    static const uint16_t types[] = {
        BROKER_SESSION, BROKER_WAKE, BROKER_DROP, BROKER_DELIVER, BROKER_ASK,
        BROKER_SYNC,    WORKER_PARK, WORKER_PUSH, WORKER_ENDED,   WORKER_KEEP,
        WORKER_FS,      WORKER_IDLE, WORKER_SYNC, WORKER_PROBE,   SESSION_LIST,
        SESSION_KICK,   COMMAND_ASK, LOGIN_PARK,  WORKER_SESSION, AUTH_TICKET,
    };

    return types[n % ARRAY_LEN(types)];
}

static struct end *speaker(uint8_t who)
{
    who %= ARRAY_LEN(ends) + WORKERS;
    return who < ARRAY_LEN(ends) ? &ends[who] : &workers[who - ARRAY_LEN(ends)];
}

static void say(uint8_t who, uint16_t type, unsigned how, slice bytes)
{
    struct end *e = speaker(who);
    struct question *q;
    struct buf body;
    int fd = -1;

    if (!e->chan)
        return;
    buf_init(&body, 200000);
    make_body(&body, how, bytes);
    if (how & WITH_FD)
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (how & ASK) {
        q = xcalloc(1, sizeof *q);
        *q = (struct question){ e, type, body, fd,
                                (how & (GOOD_TICKET | RAW)) == GOOD_TICKET ||
                                    (how & RAW) };
        n_asking++;
        (void)task_spawn("ask", ask_task, q);
        return;
    }
    (void)chan_send(e->chan, type, buf_view(&body), &fd, fd >= 0 ? 1 : 0, NULL);
    close_fd(&fd);
    buf_done(&body);
}

static void connect_as(struct end *e, enum ptype type)
{
    int fds[2];

    CHECK(chan_socketpair(fds, NULL) == 0);
    e->n_handles = 0;
    broker_on_peer(b, type, fds[0]);
    e->chan = chan_new(fds[1], &end_ops, e);
}

MAY_WAIT static void play(void *arg UNUSED)
{
    slice in = input;
    struct err err;

    connect_as(&ends[0], PT_LOGIN);
    connect_as(&ends[1], PT_LOGIN);
    connect_as(&ends[2], PT_COMMAND);
    connect_as(&ends[3], PT_LOCAL);
    for (int i = 0; i < STEPS && in.n >= 4; i++) {
        size_t n = min_size((uint8_t)in.p[3], in.n - 4);

        say((uint8_t)in.p[0], type_of((uint8_t)in.p[1]), (uint8_t)in.p[2],
            slice_sub(in, 4, n));
        in = slice_from(in, 4 + n);
        for (int k = 0; k < 4; k++)
            task_yield();
        if (i % 8 == 7)
            (void)task_sleep(1, &err);
    }
    while (n_asking > 0)
        (void)task_sleep(1, &err);
    for (size_t i = 0; i < WORKERS; i++)
        chan_free(&workers[i].chan);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        chan_free(&ends[i].chan);
    n_workers = 0;
    (void)task_sleep(2, &err);
    loop_stop();
}

static void world_make(void)
{
    static bool is_made;
    int fds[2];

    if (is_made)
        return;
    is_made = true;
    loop_init("fuzz", 2);
    process.conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    CHECK(chan_socketpair(fds, NULL) == 0);
    master = chan_new(fds[0], &master_ops, NULL);
    process.master = chan_new(fds[1], &quiet_ops, NULL);
    b = broker_new(&process);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world_make();
    input = slice_of(data, size);
    (void)task_spawn("play", play, NULL);
    loop_run();
    return 0;
}
