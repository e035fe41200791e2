/* Sessions, with an auth, a template, workers and logins of the test's own. */
#include "broker/broker_priv.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TYPES_MAX 64

struct far_end { /* a login, a command, or a worker */
    struct chan *chan;
    uint16_t types[TYPES_MAX]; /* what it got, without an answer being due */
    unsigned n_types;
    uint8_t handle[16]; /* of the last */
    char text[200];
    size_t n_record;
    unsigned n_fds;
    int fd; /* the newest, -1 */
    bool refuses;
};

static struct process process;
static struct conf *conf;
static struct chan *master, *auth, *template;
static struct broker *b;
static struct broker *lasting[16]; /* they live as long as the process */
static unsigned n_lasting;
static struct far_end workers[4], login, login2, command, stranger;
static unsigned n_workers, n_redeemed;
static void (*the_body)(void);

#define UNTIL(cond)                                                            \
 do {                                                                          \
  for (int u_ = 0; !(cond); u_++) {                                            \
   struct err e_;                                                              \
   assert_true(u_ < 3000);                                                     \
   assert_int_equal(task_sleep(2, &e_), 0);                                    \
  }                                                                            \
 } while (0)

/* ------------------------------------------------------------ the far ends */

static void note(struct far_end *f, struct msg *m)
{
    slice v;

    assert_true(f->n_types < TYPES_MAX);
    f->types[f->n_types++] = m->type;
    if (attr_find(m->body, AT_HANDLE, &v) && v.n == 16)
        memcpy(f->handle, v.p, 16);
    f->text[0] = '\0';
    if (attr_find(m->body, AT_TEXT, &v) || attr_find(m->body, AT_CONTENT, &v) ||
        attr_find(m->body, AT_USER, &v))
        (void)slice_copy_to(v, f->text, sizeof f->text);
    f->n_record = attr_find(m->body, AT_RECORD, &v) ? v.n : 0;
    f->n_fds = (unsigned)m->n_fds;
    if (m->n_fds > 0) {
        close_fd(&f->fd);
        f->fd = m->fds[0];
        m->fds[0] = -1;
    }
}

static void far_msg(struct chan *c, struct msg *m, void *arg)
{
    struct far_end *f = arg;
    struct err err;

    note(f, m);
    if (m->type != WORKER_WAKE)
        return;
    if (f->refuses) {
        err_temp(&err, "no such session");
        chan_fail(c, m->id, &err);
        return;
    }
    chan_answer(c, m->id, SLICE_NONE, NULL, 0);
}

static void far_close(struct chan *c UNUSED, void *arg)
{
    struct far_end *f = arg;

    chan_free(&f->chan);
}

static const struct chan_ops far_ops = { .on_msg = far_msg,
                                         .on_close = far_close };

static bool got(const struct far_end *f, uint16_t type)
{
    for (unsigned i = 0; i < f->n_types; i++)
        if (f->types[i] == type)
            return true;
    return false;
}

static bool late_ticket;
static void push_ticket(const char *ticket);

static void auth_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    slice ticket = SLICE_NONE;
    struct err err;
    struct buf body;

    assert_int_equal(m->type, AUTH_REDEEM);
    attr_find(m->body, AT_TICKET, &ticket);
    if (!slice_eqs(ticket, "good ticket 1234")) {
        if (late_ticket)
            push_ticket("late enough 1234");
        err_perm(&err, "no such ticket");
        chan_fail(c, m->id, &err);
        return;
    }
    n_redeemed++;
    buf_init(&body, 1000);
    attr_put_str(&body, AT_USER, "joe");
    attr_put_str(&body, AT_ACCOUNT, "joe");
    attr_put_u64(&body, AT_UID, 1000);
    attr_put_u64(&body, AT_GID, 1000);
    attr_put_str(&body, AT_HOME, "/home/joe");
    attr_put_str(&body, AT_MAIL, "maildir:/home/joe/Maildir");
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

static void template_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct far_end *w = &workers[n_workers];
    struct buf body;

    assert_int_equal(m->type, TEMPLATE_FORK);
    assert_true(n_workers < ARRAY_LEN(workers));
    n_workers++;
    w->chan = chan_new(m->fds[0], &far_ops, w);
    m->fds[0] = -1;
    buf_init(&body, 64);
    attr_put_u64(&body, AT_PID, 100 + n_workers);
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

static const struct chan_ops auth_ops = { .on_msg = auth_msg };
static const struct chan_ops template_ops = { .on_msg = template_msg };
static const struct chan_ops quiet_ops = { 0 };

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    uint64_t to = attr_u64_or(m->body, AT_PTYPE, 0);
    int fds[2];

    assert_int_equal(chan_socketpair(fds, NULL), 0);
    if (to == PT_AUTH)
        auth = chan_new(fds[0], &auth_ops, NULL);
    else
        template = chan_new(fds[0], &template_ops, NULL);
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };

static void connect_as(struct far_end *f, enum ptype type)
{
    int fds[2];

    assert_int_equal(chan_socketpair(fds, NULL), 0);
    broker_on_peer(b, type, fds[0]);
    f->chan = chan_new(fds[1], &far_ops, f);
}

MAY_WAIT static void run_body(void *arg UNUSED)
{
    the_body();
    loop_stop();
}

static void in_world(const char *more, void (*body)(void))
{
    struct far_end *const ends[] = { &workers[0], &workers[1], &workers[2],
                                     &workers[3], &login,      &login2,
                                     &command,    &stranger };
    int fds[2];

    loop_init("test", 2);
    n_workers = n_redeemed = 0;
    conf = conf_from_text(slice_str(more), SLICE_NONE, NULL);
    memset(&process, 0, sizeof process);
    process.conf = conf;
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    master = chan_new(fds[0], &master_ops, NULL);
    process.master = chan_new(fds[1], &quiet_ops, NULL);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        memset(ends[i], 0, sizeof *ends[i]);
        ends[i]->fd = -1;
    }
    b = broker_new(&process);
    lasting[n_lasting++ % ARRAY_LEN(lasting)] = b;
    connect_as(&login, PT_LOGIN);
    connect_as(&login2, PT_LOGIN);
    connect_as(&command, PT_COMMAND);
    the_body = body;
    task_spawn("body", run_body, NULL);
    loop_run();
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        chan_free(&ends[i]->chan);
        close_fd(&ends[i]->fd);
    }
    chan_free(&process.master);
    chan_free(&master);
    chan_free(&auth);
    chan_free(&template);
    conf_unref(&conf);
    loop_done();
}

/* ----------------------------------------------------------------- questions
 */

/* 0 and, in *answer, what came; -1 refused. */
MAY_WAIT static int ask(struct far_end *f, uint16_t type, struct buf *body,
                        int *fd, struct msg *answer)
{
    struct err err;
    int rc = chan_call(f->chan, type, buf_view(body), fd, fd != NULL ? 1 : 0,
                       clock_after(5000), answer, &err);

    buf_done(body);
    return rc;
}

static void session_body(struct buf *body, const char *ticket, bool is_tls)
{
    buf_init(body, 4096);
    attr_put_str(body, AT_TICKET, ticket);
    attr_put_str(body, AT_SERVICE_NAME, "imap");
    attr_put_str(body, AT_SESSION, "s1");
    attr_put_str(body, AT_REMOTE, "192.0.2.1");
    attr_put_u64(body, AT_FLAGS, is_tls ? 1 : 0);
    attr_put_str(body, AT_TAG, "a");
}

static void handle_body(struct buf *body, const uint8_t *handle)
{
    buf_init(body, 4096);
    attr_put(body, AT_HANDLE, slice_of(handle, 16));
}

/* As auth does it when a password was right. */
static void push_ticket(const char *ticket)
{
    struct buf body;

    buf_init(&body, 1000);
    attr_put_str(&body, AT_TICKET, ticket);
    attr_put_str(&body, AT_SERVICE_NAME, "imap");
    attr_put_str(&body, AT_SESSION, "s1");
    attr_put_str(&body, AT_REMOTE, "192.0.2.1");
    attr_put_str(&body, AT_USER, "joe");
    attr_put_str(&body, AT_ACCOUNT, "joe");
    attr_put_u64(&body, AT_UID, 1000);
    attr_put_u64(&body, AT_GID, 1000);
    attr_put_str(&body, AT_HOME, "/home/joe");
    attr_put_str(&body, AT_MAIL, "maildir:/home/joe/Maildir");
    assert_int_equal(
        chan_send(auth, AUTH_TICKET, buf_view(&body), NULL, 0, NULL), 0);
    buf_done(&body);
}

MAY_WAIT static int sign_in_as(struct far_end *f, const char *ticket,
                               const char *session)
{
    struct msg answer;
    struct buf body;

    buf_init(&body, 4096);
    attr_put_str(&body, AT_TICKET, ticket);
    attr_put_str(&body, AT_SERVICE_NAME, "imap");
    attr_put_str(&body, AT_SESSION, session);
    attr_put_str(&body, AT_REMOTE, "192.0.2.1");
    attr_put_u64(&body, AT_FLAGS, 1);
    attr_put_str(&body, AT_TAG, "a");
    if (ask(f, BROKER_SESSION, &body, NULL, &answer) < 0)
        return -1;
    msg_free(&answer);
    return 0;
}

MAY_WAIT static int sign_in(struct far_end *f, uint8_t handle[16])
{
    struct msg answer;
    struct buf body;
    slice v;

    session_body(&body, "good ticket 1234", true);
    if (ask(f, BROKER_SESSION, &body, NULL, &answer) < 0)
        return -1;
    assert_true(attr_find(answer.body, AT_HANDLE, &v));
    assert_int_equal(v.n, 16);
    memcpy(handle, v.p, 16);
    assert_int_equal(answer.n_fds, 1);
    assert_true(attr_find(answer.body, AT_USER, &v) && slice_eqs(v, "joe"));
    assert_true(attr_u64_or(answer.body, AT_PID, 0) > 100);
    msg_free(&answer);
    return 0;
}

static void tell(struct far_end *f, uint16_t type, struct buf *body,
                 const int *fd)
{
    assert_int_equal(chan_send(f->chan, type, buf_view(body), fd,
                               fd != NULL ? 1 : 0, NULL),
                     0);
    buf_done(body);
}

/* -------------------------------------------------------------------- tests */

static void life_body(void)
{
    uint8_t handle[16];
    struct buf body;

    assert_int_equal(sign_in(&login, handle), 0);
    UNTIL(got(&workers[0], WORKER_SESSION));
    assert_memory_equal(workers[0].handle, handle, 16);
    assert_string_equal(workers[0].text, "joe");
    assert_int_equal(workers[0].n_fds, 1);
    handle_body(&body, handle);
    tell(&workers[0], WORKER_PARK, &body, NULL);
    UNTIL(got(&login, LOGIN_PARK));
    handle_body(&body, handle);
    attr_put_str(&body, AT_CONTENT, "* 1 EXISTS");
    tell(&workers[0], WORKER_PUSH, &body, NULL);
    UNTIL(got(&login, LOGIN_PUSH));
    assert_string_equal(login.text, "* 1 EXISTS");
    handle_body(&body, handle);
    tell(&workers[0], WORKER_ENDED, &body, NULL);
    UNTIL(got(&login, LOGIN_END));
    assert_int_equal(b->sessions.n, 0);
    assert_int_equal(b->counts.n, 0);
    assert_false(got(&login2, LOGIN_PARK));
}

static void life(void **state UNUSED)
{
    in_world("", life_body);
}

static void forged_body(void)
{
    static const uint16_t of_others[] = { BROKER_DELIVER, BROKER_ASK,
                                          BROKER_SYNC,    SESSION_LIST,
                                          SESSION_KICK,   COMMAND_ASK,
                                          WORKER_PROBE };
    static const uint16_t of_login[] = { BROKER_SESSION, BROKER_WAKE,
                                         BROKER_DROP };
    uint8_t handle[16], other[16];
    struct msg answer;
    struct buf body;
    int fd;

    /* Tickets: none, forged, of a wrong length; a missing or surplus socket. */
    session_body(&body, "forged ticket 12", true);
    assert_int_equal(ask(&login, BROKER_SESSION, &body, NULL, &answer), -1);
    session_body(&body, "", true);
    assert_int_equal(ask(&login, BROKER_SESSION, &body, NULL, &answer), -1);
    session_body(&body, "good ticket 1234", false);
    assert_int_equal(ask(&login, BROKER_SESSION, &body, NULL, &answer), -1);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    session_body(&body, "good ticket 1234", true);
    assert_int_equal(ask(&login, BROKER_SESSION, &body, &fd, &answer), -1);
    close_fd(&fd);
    assert_int_equal(n_workers, 0); /* nothing was forked for them */

    /* A login asks for what is not its business: for a socket that delivers,
     * a question to a worker, the list of sessions. */
    for (size_t i = 0; i < ARRAY_LEN(of_others); i++) {
        buf_init(&body, 1000);
        attr_put_u64(&body, AT_UID, 1000);
        attr_put_u64(&body, AT_GID, 1000);
        attr_put_str(&body, AT_ACCOUNT, "joe");
        attr_put_u64(&body, AT_FSID, 1);
        assert_int_equal(ask(&login, of_others[i], &body, NULL, &answer), -1);
    }
    assert_int_equal(n_workers, 0);
    /* And others ask for sessions: smtpd nothing at all, local none. */
    for (int t = 0; t < 2; t++) {
        chan_free(&stranger.chan);
        connect_as(&stranger, t == 0 ? PT_SMTPD : PT_LOCAL);
        for (size_t i = 0; i < ARRAY_LEN(of_login); i++) {
            session_body(&body, "good ticket 1234", true);
            assert_int_equal(ask(&stranger, of_login[i], &body, NULL, &answer),
                             -1);
        }
    }
    buf_init(&body, 1000);
    attr_put_u64(&body, AT_UID, 1000);
    attr_put_u64(&body, AT_GID, 1000);
    chan_free(&stranger.chan);
    connect_as(&stranger, PT_SMTPD);
    assert_int_equal(ask(&stranger, BROKER_DELIVER, &body, NULL, &answer), -1);
    assert_int_equal(n_workers, 0);
    assert_int_equal(n_redeemed, 0);

    /* A handle is good on the channel that got it alone, and guessing is
     * nothing. */
    assert_int_equal(sign_in(&login, handle), 0);
    handle_body(&body, handle);
    assert_int_equal(ask(&login2, BROKER_WAKE, &body, NULL, &answer), -1);
    handle_body(&body, handle);
    tell(&login2, BROKER_DROP, &body, NULL);
    random_bytes(other, sizeof other);
    handle_body(&body, other);
    assert_int_equal(ask(&login, BROKER_WAKE, &body, NULL, &answer), -1);
    buf_init(&body, 100);
    attr_put(&body, AT_HANDLE, SL("short"));
    assert_int_equal(ask(&login, BROKER_WAKE, &body, NULL, &answer), -1);
    assert_int_equal(b->sessions.n, 1);
    assert_false(got(&workers[0], WORKER_DROP));
    assert_false(got(&workers[0], WORKER_WAKE));
}

static void forged(void **state UNUSED)
{
    in_world("", forged_body);
}

static void limit_body(void)
{
    uint8_t handle[2][16], no[16];
    struct buf body;

    assert_int_equal(sign_in(&login, handle[0]), 0);
    assert_int_equal(sign_in(&login2, handle[1]), 0);
    assert_memory_not_equal(handle[0], handle[1], 16);
    assert_int_equal(sign_in(&login, no), -1);
    handle_body(&body, handle[0]);
    tell(&login, BROKER_DROP, &body, NULL);
    UNTIL(got(&workers[0], WORKER_DROP));
    assert_int_equal(sign_in(&login, no), 0);
}

/* covers: mail_max_userip_connections */
static void limit(void **state UNUSED)
{
    in_world("mail_max_userip_connections = 2\n", limit_body);
}

/* Tickets that auth sent ahead: auth is not asked, and each is good once. */
static void ahead_body(void)
{
    uint8_t handle[16];
    unsigned n;

    assert_int_equal(sign_in(&login, handle), 0); /* auth is known from here */
    n = n_redeemed;
    push_ticket("ahead of it 1234");
    push_ticket("for another 1234");
    UNTIL(b->tickets.n == 2);
    assert_int_equal(sign_in_as(&login, "ahead of it 1234", "s1"), 0);
    assert_int_equal(n_redeemed, n);
    assert_int_equal(sign_in_as(&login, "ahead of it 1234", "s1"), -1);
    assert_int_equal(sign_in_as(&login, "for another 1234", "s2"), -1);
    assert_int_equal(sign_in_as(&login, "for another 1234", "s1"), -1);
    assert_int_equal(b->tickets.n, 0);
    /* One that is overtaken by who brings it. */
    late_ticket = true;
    assert_int_equal(sign_in_as(&login, "late enough 1234", "s1"), 0);
    late_ticket = false;
}

static void ahead(void **state UNUSED)
{
    in_world("mail_max_userip_connections = 0\n", ahead_body);
}

static void deaths_body(void)
{
    uint8_t handle[16];

    assert_int_equal(sign_in(&login, handle), 0);
    UNTIL(got(&workers[0], WORKER_SESSION));
    chan_free(&login.chan);
    UNTIL(got(&workers[0], WORKER_DROP));
    assert_int_equal(b->sessions.n, 0);
    assert_int_equal(sign_in(&login2, handle), 0);
    chan_free(&workers[0].chan);
    UNTIL(got(&login2, LOGIN_END));
    assert_int_equal(b->sessions.n, 0);
    assert_int_equal(sign_in(&login2, handle), 0); /* in a new one */
    assert_int_equal(n_workers, 2);
}

static void deaths(void **state UNUSED)
{
    in_world("", deaths_body);
}

/* The worker says that it is idle, is retired, and gives its session away. */
MAY_WAIT static void keep(struct far_end *w, const uint8_t *handle, int *watch)
{
    unsigned n_given = 0;
    struct buf body;

    for (unsigned i = 0; i < w->n_types; i++)
        n_given += w->types[i] == WORKER_SESSION || w->types[i] == WORKER_WAKE;
    buf_init(&body, 64);
    attr_put_u64(&body, AT_SEQ, n_given);
    tell(w, WORKER_IDLE, &body, NULL);
    UNTIL(got(w, WORKER_RETIRE));
    handle_body(&body, handle);
    attr_put_str(&body, AT_RECORD, "all there is to know");
    tell(w, WORKER_KEEP, &body, watch);
    chan_free(&w->chan);
    UNTIL(b->workers.n == 0);
    assert_int_equal(b->sessions.n, 1);
}

static void kept_body(void)
{
    uint8_t handle[16];
    struct msg answer;
    struct buf body;
    int pipe_fds[2];

    assert_int_equal(sign_in(&login, handle), 0);
    UNTIL(got(&workers[0], WORKER_SESSION));
    keep(&workers[0], handle, NULL);
    /* The client calls: another worker goes on. */
    handle_body(&body, handle);
    assert_int_equal(ask(&login, BROKER_WAKE, &body, NULL, &answer), 0);
    assert_int_equal(answer.n_fds, 1);
    msg_free(&answer);
    assert_true(got(&workers[1], WORKER_WAKE));
    assert_int_equal(workers[1].n_record, 20);
    assert_string_equal(workers[1].text, "joe");
    assert_int_equal(workers[1].n_fds, 1);
    /* It leaves too, and somebody changes the mailbox. */
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    keep(&workers[1], handle, &pipe_fds[0]);
    close(pipe_fds[0]);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    UNTIL(got(&workers[2], WORKER_WAKE));
    assert_int_equal(workers[2].n_fds, 0);
    assert_int_equal(workers[2].n_record, 20);
    close(pipe_fds[1]);
    handle_body(&body, handle);
    attr_put_str(&body, AT_CONTENT, "* 2 EXISTS");
    tell(&workers[2], WORKER_PUSH, &body, NULL);
    UNTIL(got(&login, LOGIN_PUSH));
}

static void kept(void **state UNUSED)
{
    in_world("", kept_body);
}

static void who_body(void)
{
    uint8_t handle[16];
    struct msg answer;
    struct buf body;

    assert_int_equal(sign_in(&login, handle), 0);
    buf_init(&body, 64);
    assert_int_equal(ask(&command, SESSION_LIST, &body, NULL, &answer), 0);
    msg_free(&answer);
    assert_true(got(&command, SESSION_ITEM));
    assert_true(got(&command, SESSION_LIST_END));
    buf_init(&body, 64);
    attr_put_str(&body, AT_USER, "jo");
    assert_int_equal(ask(&command, SESSION_KICK, &body, NULL, &answer), 0);
    assert_int_equal(attr_u64_or(answer.body, AT_SIZE, 9), 0);
    msg_free(&answer);
    buf_init(&body, 64);
    attr_put_str(&body, AT_USER, "joe");
    attr_put_str(&body, AT_REMOTE, "192.0.2.1");
    assert_int_equal(ask(&command, SESSION_KICK, &body, NULL, &answer), 0);
    assert_int_equal(attr_u64_or(answer.body, AT_SIZE, 9), 1);
    msg_free(&answer);
    UNTIL(got(&workers[0], WORKER_KICK));
    assert_memory_equal(workers[0].handle, handle, 16);
}

static void who_and_kick(void **state UNUSED)
{
    in_world("", who_body);
}

static void foreign_worker_body(void)
{
    uint8_t handle[16];
    struct buf body;
    struct err err;

    /* A worker speaks of its own sessions only. */
    assert_int_equal(sign_in(&login, handle), 0);
    connect_as(&stranger, PT_LOCAL);
    buf_init(&body, 1000);
    attr_put_u64(&body, AT_UID, 1001);
    attr_put_u64(&body, AT_GID, 1001);
    attr_put_str(&body, AT_ACCOUNT, "eve");
    {
        struct msg answer;

        assert_int_equal(ask(&stranger, BROKER_DELIVER, &body, NULL, &answer),
                         0);
        msg_free(&answer);
    }
    assert_int_equal(n_workers, 2);
    handle_body(&body, handle);
    attr_put_str(&body, AT_CONTENT, "forged");
    tell(&workers[1], WORKER_PUSH, &body, NULL);
    handle_body(&body, handle);
    tell(&workers[1], WORKER_ENDED, &body, NULL);
    handle_body(&body, handle);
    attr_put_str(&body, AT_RECORD, "x");
    tell(&workers[1], WORKER_KEEP, &body, NULL);
    assert_int_equal(task_sleep(50, &err), 0);
    assert_int_equal(b->sessions.n, 1);
    assert_int_equal(login.n_types, 0);
}

static void foreign_worker(void **state UNUSED)
{
    in_world("", foreign_worker_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(life),           cmocka_unit_test(forged),
        cmocka_unit_test(limit),          cmocka_unit_test(deaths),
        cmocka_unit_test(kept),           cmocka_unit_test(who_and_kick),
        cmocka_unit_test(foreign_worker), cmocka_unit_test(ahead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
