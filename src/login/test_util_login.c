#include "login/test_util_login.h"

#include <sys/socket.h>

struct world world;

static struct process process;
static struct chan *master;
static struct conf *conf;
static void (*the_body)(void);

/* ---------------------------------------------------------- broker, master */

static void take_text(slice body, uint16_t tag, char *out, size_t size)
{
    slice v = SLICE_NONE;

    attr_find(body, tag, &v);
    assert_true(slice_copy_to(v, out, size));
}

static void give_socket(struct chan *c, uint32_t id, bool is_tls, int client_fd)
{
    struct buf body;
    int fds[2] = { -1, -1 };

    if (is_tls) {
        assert_int_equal(chan_socketpair(fds, NULL), 0);
        world.worker_fd = fds[1];
    } else {
        world.worker_fd = client_fd;
    }
    buf_init(&body, 1000);
    attr_put(&body, AT_HANDLE, slice_of(world.handle, 16));
    attr_put_str(&body, AT_USER, "joe@example.com");
    attr_put_u64(&body, AT_PID, 4711);
    chan_answer(c, id, buf_view(&body), &fds[0], is_tls ? 1 : 0);
    buf_done(&body);
    close_fd(&fds[0]);
}

static void on_session(struct chan *c, struct msg *m)
{
    bool is_tls = attr_u64_or(m->body, AT_FLAGS, 0) & 1;
    slice ticket, content = SLICE_NONE;
    struct err err;

    assert_true(attr_find(m->body, AT_TICKET, &ticket));
    assert_int_equal(ticket.n, 16);
    assert_int_equal(ticket.p[3], 7);
    if (world.refuse_session || world.is_full) {
        if (world.is_full)
            err_set(&err, ERR_PERM, "4.7.0", "Maximum number of connections");
        else
            err_temp(&err, "no worker");
        chan_fail(c, m->id, &err);
        return;
    }
    world.n_sessions++;
    random_bytes(world.handle, 16);
    take_text(m->body, AT_SERVICE_NAME, world.service, sizeof world.service);
    take_text(m->body, AT_TAG, world.tag, sizeof world.tag);
    take_text(m->body, AT_REMOTE, world.remote, sizeof world.remote);
    buf_clear(&world.content);
    attr_find(m->body, AT_CONTENT, &content);
    buf_slice(&world.content, content);
    assert_int_equal(m->n_fds, is_tls ? 0 : 1);
    give_socket(c, m->id, is_tls, is_tls ? -1 : m->fds[0]);
    if (!is_tls)
        m->fds[0] = -1;
}

void world_wake(void)
{
    give_socket(world.broker, world.held_id, true, -1);
    world.held_id = 0;
}

static void broker_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    slice handle = SLICE_NONE;
    struct err err;

    attr_find(m->body, AT_HANDLE, &handle);
    if (m->type == BROKER_SESSION) {
        on_session(c, m);
    } else if (m->type == BROKER_WAKE) {
        assert_true(slice_eq(handle, slice_of(world.handle, 16)));
        world.n_wakes++;
        world.held_id = m->id;
        if (world.refuse_wake) {
            err_temp(&err, "no such session");
            chan_fail(c, m->id, &err);
        } else if (!world.hold_wake) {
            world_wake();
        }
    } else {
        assert_int_equal(m->type, BROKER_DROP);
        world.n_drops++;
    }
}

static void broker_close(struct chan *c UNUSED, void *arg UNUSED)
{
    chan_free(&world.broker);
}

static const struct chan_ops broker_ops = { .on_msg = broker_msg,
                                            .on_close = broker_close };

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    int fds[2];

    assert_int_equal(m->type, MASTER_CONNECT);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    world.broker = chan_new(fds[0], &broker_ops, NULL);
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };
static const struct chan_ops quiet_ops = { 0 };

void world_park(uint64_t n_read, uint64_t n_written, unsigned seconds,
                const char *text)
{
    struct buf body;

    buf_init(&body, 2000);
    attr_put(&body, AT_HANDLE, slice_of(world.handle, 16));
    attr_put_u64(&body, AT_OFFSET, n_read);
    attr_put_u64(&body, AT_LENGTH, n_written);
    attr_put_u64(&body, AT_TIME, seconds);
    attr_put_str(&body, AT_TEXT, text);
    assert_int_equal(
        chan_send(world.broker, LOGIN_PARK, buf_view(&body), NULL, 0, NULL), 0);
    buf_done(&body);
}

static void send_bytes(uint16_t type, uint16_t tag, slice bytes)
{
    struct buf body;

    buf_init(&body, CHAN_MAX_BYTES);
    attr_put(&body, AT_HANDLE, slice_of(world.handle, 16));
    attr_put(&body, tag, bytes);
    assert_int_equal(
        chan_send(world.broker, type, buf_view(&body), NULL, 0, NULL), 0);
    buf_done(&body);
}

void world_push(slice bytes)
{
    send_bytes(LOGIN_PUSH, AT_CONTENT, bytes);
}

void world_tell_end(const char *text)
{
    send_bytes(LOGIN_END, AT_TEXT, slice_str(text));
}

/* -------------------------------------------------------------------- auth */

struct auth_client {
    int nothing;
};

struct auth_request {
    bool has_user;
    char user[64];
};

struct auth_client *auth_client_new(struct process *p UNUSED)
{
    return xcalloc(1, sizeof(struct auth_client));
}

void auth_client_free(struct auth_client **c)
{
    free(*c);
    *c = NULL;
}

int auth_client_mechs(struct auth_client *c UNUSED, bool secured,
                      bool is_bound UNUSED, slice *out, struct err *err)
{
    if (world.auth_down)
        return err_temp(err, "no auth");
    *out = slice_str(secured ? world.offered : "SCRAM-SHA-256");
    return 0;
}

/* "\0joe\0secret" */
static void check(slice response, struct auth_answer *a)
{
    slice user, rest = response;

    slice_cut(&rest, '\0', &user); /* authorization */
    slice_cut(&rest, '\0', &user);
    (void)slice_copy_to(slice_sub(user, 0, 500), a->user, sizeof a->user);
    if (slice_eqs(user, "joe") && slice_eqs(rest, "secret")) {
        a->result = AUTH_OK;
        a->has_ticket = true;
        memset(a->ticket, 7, sizeof a->ticket);
    } else {
        a->result = slice_eqs(user, "temp") ? AUTH_TEMP : AUTH_FAIL;
    }
}

int auth_begin(struct auth_client *c UNUSED, const struct auth_params *p,
               msec deadline UNUSED, struct auth_request **out,
               struct auth_answer *answer, struct err *err)
{
    memset(answer, 0, sizeof *answer);
    *out = NULL;
    if (world.auth_down)
        return err_temp(err, "no auth");
    buf_init(&answer->text, 1000);
    assert_int_equal(task_sleep(1, err), 0);
    if (p->initial.p != NULL) {
        check(p->initial, answer);
        return 0;
    }
    answer->result = AUTH_CONTINUE;
    *out = xcalloc(1, sizeof **out);
    return 0;
}

int auth_continue(struct auth_request **r, slice response, msec deadline UNUSED,
                  struct auth_answer *answer, struct err *err)
{
    memset(answer, 0, sizeof *answer);
    buf_init(&answer->text, 1000);
    assert_int_equal(task_sleep(1, err), 0);
    check(response, answer);
    free(*r);
    *r = NULL;
    return 0;
}

void auth_abort(struct auth_request **r)
{
    free(*r);
    *r = NULL;
}

void auth_answer_done(struct auth_answer *a)
{
    buf_done(&a->text);
}

/* -------------------------------------------------------------------- keys */

struct keys_service keys_service_of(const struct conf *c UNUSED,
                                    const struct conf_service *service UNUSED)
{
    struct keys_service k = { .level =
                                  world.offers_tls ? KEYS_MAY : KEYS_NO_TLS };

    return k;
}

/* There is one, as far as an offer goes; nobody shakes hands here. */
struct tls_context *keyring_context(struct keyring *r UNUSED,
                                    const struct conf_service *service UNUSED,
                                    const char *alpn UNUSED)
{
    return world.offers_tls ? (struct tls_context *)(void *)&world : NULL;
}

/* ------------------------------------------------------------------- world */

void world_begin(const char *more)
{
    static const char lines[] = "1143 inet n - n - - imapd\n"
                                "1110 inet n - n - - pop3d\n";
    struct login_parts parts = { .process = &process, .counters_fd = -1 };
    struct err err;
    int fds[2];

    world.worker_fd = -1;
    buf_init(&world.content, 65536);
    if (world.offered[0] == '\0')
        (void)snprintf(world.offered, sizeof world.offered, "PLAIN LOGIN");
    conf = conf_from_text(slice_str(more), SL(lines), NULL);
    memset(&process, 0, sizeof process);
    process.conf = conf;
    process.n_slots = 1;
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    master = chan_new(fds[0], &master_ops, NULL);
    process.master = chan_new(fds[1], &quiet_ops, NULL);
    assert_int_equal(login_new(&parts, &world.login, &err), 0);
}

void world_end(void)
{
    login_free(&world.login);
    chan_free(&process.master);
    chan_free(&master);
    chan_free(&world.broker);
    close_fd(&world.worker_fd);
    conf_unref(&conf);
    buf_done(&world.content);
    memset(&world, 0, sizeof world);
}

struct stream *world_client(int service, bool is_tls)
{
    struct peer_addr peer = { .family = AF_INET, .port = 4000 };
    struct login_service *s = login_service_at(world.login, service);
    struct conn *c;
    int fds[2];

    (void)snprintf(peer.text, sizeof peer.text, "192.0.2.7");
    peer.ip[0] = 192;
    peer.ip[2] = 2;
    peer.ip[3] = 7;
    assert_non_null(s);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    c = login_adopt(s, fds[0], &peer);
    c->pre->is_tls = is_tls;
    return stream_from_fd(fds[1]);
}

struct conn *world_conn(void)
{
    return CONTAINER_OF(world.login->conns.prev, struct conn, link);
}

void expect(struct stream *s, const char *line)
{
    struct err err;
    slice got;

    stream_deadline(s, clock_after(8000));
    if (stream_line(s, 60000, &got, &err) < 0)
        fail_msg("\"%s\" did not come: %s", line, err.log);
    got = slice_rtrim(got);
    if (!slice_eqs(got, line))
        fail_msg("\"%.*s\" is not \"%s\"", SLF(got), line);
}

void expect_start(struct stream *s, const char *start)
{
    struct err err;
    slice got;

    stream_deadline(s, clock_after(8000));
    if (stream_line(s, 60000, &got, &err) < 0)
        fail_msg("\"%s\" did not come: %s", start, err.log);
    if (!slice_starts(got, slice_str(start)))
        fail_msg("\"%.*s\" does not start with \"%s\"", SLF(got), start);
}

void expect_end(struct stream *s)
{
    struct err err;

    stream_deadline(s, clock_after(8000));
    while (!stream_eof(s) && stream_peek(s).n == 0)
        if (stream_fill(s, &err) < 0)
            break;
    assert_int_equal(stream_peek(s).n, 0);
}

void say(struct stream *s, const char *text)
{
    struct err err;

    assert_int_equal(stream_puts(s, text, &err), 0);
    assert_int_equal(stream_flush(s, &err), 0);
}

struct stream *world_worker(void)
{
    struct stream *s;

    UNTIL(world.worker_fd >= 0);
    s = stream_from_fd(world.worker_fd);
    world.worker_fd = -1;
    return s;
}

struct stream *world_signed_in(struct stream **worker)
{
    struct stream *s = world_client(0, true);

    expect_start(s, "* OK [CAPABILITY");
    say(s, "a LOGIN joe secret\r\n");
    *worker = world_worker();
    UNTIL(world_conn()->state == CONN_RELAYED);
    return s;
}

MAY_WAIT static void run_body(void *arg UNUSED)
{
    the_body();
    loop_stop();
}

void in_world(const char *more, void (*body)(void), uint64_t seed)
{
    loop_init("test", 2);
    task_schedule_seed(seed);
    world_begin(more);
    the_body = body;
    task_spawn("body", run_body, NULL);
    loop_run();
    world_end();
    loop_run_until_idle();
    task_schedule_seed(0);
    loop_done();
}
