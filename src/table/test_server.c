#include "table/test_util.h"

#include "ipc/chan.h"
#include "ipc/proto.h"
#include "rt/rt.h"
#include "rt/stream.h"

/* The `tables` process's answers over a channel, and socketmap and tcp servers
 * as it asks them. */

struct world {
    struct bench b;
    struct table_server *server;
    struct chan *client;
    struct chan *other;
    slice passwd, passdb;
    bool is_auth;
    int socketmap_fd;
    int n_done;
};

static void client_closed(struct chan *c, void *arg)
{
    (void)c;
    (void)arg;
}

static void no_message(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    (void)m;
    (void)arg;
}

static const struct chan_ops client_ops = { .on_msg = no_message,
                                            .on_close = client_closed };

static const char *lookup(struct world *w, slice table, const char *key)
{
    struct msg answer;
    struct buf body;
    struct err err;
    slice value;
    const char *out = NULL;

    buf_init(&body, 4096);
    attr_put(&body, AT_TABLE, table);
    attr_put_str(&body, AT_KEY, key);
    if (chan_call(w->client, TABLES_LOOKUP, buf_view(&body), NULL, 0,
                  clock_after(5000), &answer, &err) < 0) {
        out = arena_printf(w->b.arena, "!%s", err.log);
    } else {
        if (attr_find(answer.body, AT_VALUE, &value))
            out = slice_cstr(w->b.arena, value);
        msg_free(&answer);
    }
    buf_done(&body);
    return out;
}

MAY_WAIT static void answer_auth(struct chan *c, struct msg *m, void *arg)
{
    table_server_answer(arg, c, m, TABLE_ASKER_AUTH);
}

static const struct chan_ops auth_ops = { .serve = answer_auth,
                                          .on_close = client_closed };

static void ask_all(void *arg)
{
    struct world *w = arg;
    const char *got;

    /* Nobody but auth sees a password, or what only passdb names. */
    assert_answer(lookup(w, w->passwd, "joe@x"),
                  w->is_auth ? "joe@x:{PLAIN}secret:1:2::/h" : "joe@x::1:2::/h",
                  "joe");
    got = lookup(w, w->passdb, "joe@x");
    assert_non_null(got);
    if (w->is_auth)
        assert_string_equal(got, "joe@x:{PLAIN}hidden");
    else
        assert_non_null(strstr(got, "not one of the configuration"));
    assert_answer(lookup(w, w->passwd, "ann@x"), NULL, "ann");
    got = lookup(w, SL("unix:passwd.byname"), "root");
    assert_non_null(got);
    assert_int_equal(strncmp(got, "root:", 5), 0);
    assert_null(lookup(w, SL("unix:passwd.byname"), "no-such-user"));
    /* What the configuration does not name is not served. */
    got = lookup(w, SL("passwd-file:/etc/passwd"), "root");
    assert_non_null(strstr(got, "not one of the configuration"));
    got = lookup(w, SL("hash:/etc/aliases"), "root");
    assert_int_equal(got[0], '!');
    w->n_done++;
    loop_stop();
}

static void lookups(bool is_auth)
{
    struct world w = { .is_auth = is_auth };
    struct conf *c;
    struct err err;
    int fds[2];
    const char *text;

    loop_init("test", 1);
    bench_init(&w.b);
    w.passwd =
        bench_file(&w.b, 0, "passwd-file", "joe@x:{PLAIN}secret:1:2::/h\n");
    w.passdb = bench_file(&w.b, 1, "passwd-file", "joe@x:{PLAIN}hidden\n");
    text = arena_printf(w.b.arena,
                        "virtual_mailbox_maps = %.*s\npassdb = %.*s %.*s\n",
                        SLF(w.passwd), SLF(w.passwd), SLF(w.passdb));
    c = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    w.server = table_server_new(w.b.tables);
    table_server_set_conf(w.server, c);
    assert_int_equal(chan_socketpair(fds, &err), 0);
    w.client = chan_new(fds[0], &client_ops, &w);
    w.other =
        chan_new(fds[1], is_auth ? &auth_ops : table_server_ops(), w.server);
    task_spawn("test", ask_all, &w);
    loop_run();
    assert_int_equal(w.n_done, 1);
    chan_free(&w.client);
    chan_free(&w.other);
    table_server_free(&w.server);
    conf_unref(&c);
    bench_done(&w.b);
    loop_done();
}

static void test_lookups(void **state)
{
    (void)state;
    lookups(false);
    lookups(true);
}

/* ---- TABLES_USER */

static void ask_user(void *arg)
{
    struct world *w = arg;
    static const char *const names[] = { "root", "no-such-user" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct msg answer;
        struct buf body;
        struct err err;
        slice home;

        buf_init(&body, 100);
        attr_put_str(&body, AT_NAME, names[i]);
        assert_int_equal(chan_call(w->client, TABLES_USER, buf_view(&body),
                                   NULL, 0, clock_after(5000), &answer, &err),
                         0);
        assert_int_equal(attr_find(answer.body, AT_HOME, &home), i == 0);
        if (i == 0)
            assert_int_equal(attr_u64_or(answer.body, AT_UID, 99), 0);
        msg_free(&answer);
        buf_done(&body);
    }
    w->n_done++;
    loop_stop();
}

static void test_user(void **state)
{
    struct world w = { .n_done = 0 };
    struct err err;
    int fds[2];

    (void)state;
    loop_init("test", 1);
    bench_init(&w.b);
    w.server = table_server_new(w.b.tables);
    assert_int_equal(chan_socketpair(fds, &err), 0);
    w.client = chan_new(fds[0], &client_ops, &w);
    w.other = chan_new(fds[1], table_server_ops(), w.server);
    task_spawn("test", ask_user, &w);
    loop_run();
    assert_int_equal(w.n_done, 1);
    chan_free(&w.client);
    chan_free(&w.other);
    table_server_free(&w.server);
    bench_done(&w.b);
    loop_done();
}

/* ---- servers of socketmap and tcp tables, on loopback */

struct remote_server {
    struct world *w;
    struct listener *listener;
    bool is_tcp;
    bool hangs_up; /* after each answer */
};

static void answer_tcp(struct stream *s, slice line, struct err *err)
{
    if (slice_starts(line, SL("get joe%20x")))
        (void)stream_puts(s, "200 the%20value\n", err);
    else if (slice_starts(line, SL("get trouble")))
        (void)stream_puts(s, "400 not%20now\n", err);
    else if (slice_starts(line, SL("get odd")))
        (void)stream_puts(s, "what?\n", err);
    else
        (void)stream_puts(s, "500 no\n", err);
}

static void answer_socketmap(struct stream *s, struct err *err)
{
    slice in = stream_peek(s);
    size_t before = in.n;

    if (slice_find(in, SL("users joe x")) >= 0)
        (void)stream_puts(s, "12:OK the value,", err);
    else if (slice_find(in, SL("trouble")) >= 0)
        (void)stream_puts(s, "12:TEMP not now,", err);
    else if (slice_find(in, SL("odd")) >= 0)
        (void)stream_puts(s, "nonsense", err);
    else
        (void)stream_puts(s, "9:NOTFOUND ,", err);
    stream_consume(s, before);
}

struct remote_session {
    struct stream *s;
    const struct remote_server *server;
};

static void remote_talk(void *arg)
{
    struct remote_session *session = arg;
    struct err err;
    slice line;

    stream_deadline(session->s, clock_after(5000));
    for (;;) {
        if (session->server->is_tcp) {
            if (stream_line(session->s, 4096, &line, &err) < 0)
                break;
            answer_tcp(session->s, line, &err);
        } else {
            if (stream_fill(session->s, &err) < 0 || stream_eof(session->s))
                break;
            answer_socketmap(session->s, &err);
        }
        if (stream_flush(session->s, &err) < 0 || session->server->hangs_up)
            break;
    }
    stream_free(&session->s);
    free(session);
}

static void remote_accept(int fd, const struct peer_addr *peer, void *arg)
{
    struct remote_session *session = xcalloc(1, sizeof(*session));

    (void)peer;
    session->s = stream_from_fd(fd);
    session->server = arg;
    task_spawn("server", remote_talk, session);
}

static void ask_remote(void *arg)
{
    struct world *w = arg;
    const char *got;

    for (int i = 0; i < 3; i++) {
        assert_answer(bench_ask(&w->b, w->passwd, "joe x", 0), "the value",
                      "joe");
        assert_answer(bench_ask(&w->b, w->passwd, "ann", 0), NULL, "ann");
        got = bench_ask(&w->b, w->passwd, "trouble", 0);
        assert_true(got != NULL && strstr(got, "not now") != NULL);
    }
    got = bench_ask(&w->b, w->passwd, "odd", 0);
    assert_true(got != NULL && strstr(got, "malformed answer") != NULL);
    assert_answer(bench_ask(&w->b, w->passwd, "joe x", 0), "the value",
                  "again");
    got = bench_ask(&w->b, SL("socketmap:inet:127.0.0.1:1:x"), "a", 0);
    assert_true(got != NULL && got[0] == '!');
    w->n_done++;
    loop_stop();
}

static void run_remote(bool is_tcp, bool hangs_up)
{
    struct world w = { .n_done = 0 };
    struct remote_server server = { &w, NULL, is_tcp, hangs_up };
    struct peer_addr at;
    struct err err;
    int fd;

    loop_init("test", 1);
    bench_init(&w.b);
    assert_int_equal(socket_listen(SL("inet:127.0.0.1:0"), 10, 0, 0, &fd, &err),
                     0);
    assert_int_equal(local_addr_of(fd, &at, &err), 0);
    w.passwd = slice_str(
        is_tcp ? arena_printf(w.b.arena, "tcp:127.0.0.1:%u", at.port)
               : arena_printf(w.b.arena, "socketmap:inet:localhost:%u:users",
                              at.port));
    server.listener = listener_new(fd, remote_accept, &server);
    task_spawn("test", ask_remote, &w);
    loop_run();
    assert_int_equal(w.n_done, 1);
    listener_free(&server.listener);
    (void)close(fd);
    bench_done(&w.b);
    loop_done();
}

static void test_remote(void **state)
{
    (void)state;
    run_remote(false, false);
    run_remote(false, true);
    run_remote(true, false);
    run_remote(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_remote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
