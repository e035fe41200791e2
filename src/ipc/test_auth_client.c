#include "ipc/auth_client.h"

#include "ipc/auth_line.h"
#include "ipc/ipc.h"
#include "rt/rt.h"
#include "rt/stream.h"

#include "base/test_util.h"

/* The client against an auth of a few lines of C. */

static struct process p;
static struct chan *master;
static struct stream *server;
static struct auth_client *client;
static struct buf seen; /* what the server read */
static unsigned n_connects;

static void say(const char *text)
{
    assert_int_equal(stream_puts(server, text, NULL), 0);
    assert_int_equal(stream_flush(server, NULL), 0);
}

/* Wait for a line of the client that starts with `what`. */
static const char *hear(const char *what)
{
    static char text[AUTH_LINE_MAX + 1];
    slice line;
    struct err err;

    for (;;) {
        if (stream_line(server, AUTH_LINE_MAX, &line, &err) < 0)
            fail_msg("no \"%s\": %s", what, err.log);
        (void)buf_slice(&seen, line);
        if (slice_starts(line, slice_str(what)))
            break;
    }
    assert_true(
        slice_copy_to(slice_sub(line, 0, line.n - 1), text, sizeof text));
    return text;
}

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    int fds[2];

    assert_int_equal(m->type, MASTER_CONNECT);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    stream_free(&server);
    server = stream_from_fd(fds[0]);
    stream_deadline(server, clock_after(5000));
    n_connects++;
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };
static const struct chan_ops client_ops = { .on_msg = NULL };

static const char greeting[] =
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\n"
    "MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tchannel-binding\n"
    "MECH\tSECRET\tprivate\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n";

static struct auth_params params(void)
{
    return (struct auth_params){ .service = "imap",
                                 .mech = SL("plain"),
                                 .secured = true,
                                 .remote_ip = SL("192.0.2.1"),
                                 .session = SL("a\tb\n\001c"),
                                 .initial = SL("\0tomo\0secret") };
}

struct sign_in {
    struct auth_request *r;
    struct auth_answer answer;
    struct err err;
    int rc;
    bool done;
};

static void sign_in_task(void *arg)
{
    struct sign_in *s = arg;
    struct auth_params ap = params();

    s->rc =
        auth_begin(client, &ap, clock_after(5000), &s->r, &s->answer, &s->err);
    s->done = true;
}

static void until(const bool *done)
{
    for (int i = 0; i < 500 && !*done; i++)
        (void)task_sleep(10, NULL);
    assert_true(*done);
}

static void connected(void)
{
    for (int i = 0; i < 500 && server == NULL; i++)
        (void)task_sleep(10, NULL);
    assert_non_null(server);
    say(greeting);
    (void)hear("VERSION\t1\t2");
    (void)hear("CPID\t");
}

static void mechs_task(void *arg)
{
    bool *done = arg;
    slice out;
    struct err err;

    assert_int_equal(auth_client_mechs(client, true, false, &out, &err), 0);
    assert_slice(out, SL("PLAIN SCRAM-SHA-256"));
    assert_int_equal(auth_client_mechs(client, false, false, &out, &err), 0);
    assert_slice(out, SL("SCRAM-SHA-256"));
    assert_int_equal(auth_client_mechs(client, false, true, &out, &err), 0);
    assert_slice(out, SL("SCRAM-SHA-256 SCRAM-SHA-256-PLUS"));
    *done = true;
}

static void script(void *arg UNUSED)
{
    static struct sign_in a, b;
    bool done = false;
    const char *line;
    struct arena *arena = arena_new(65536);
    slice rest, field;
    char text[64];

    task_spawn("mechs", mechs_task, &done);
    connected();
    until(&done);

    /* Two at once, answered in the other order. */
    task_spawn("a", sign_in_task, &a);
    task_spawn("b", sign_in_task, &b);
    line =
        hear("AUTH\t2\tplain\tservice=imap\tnologin\tsecured\trip=192.0.2.1");
    assert_non_null(strstr(line, "\tresp=AHRvbW8Ac2VjcmV0"));
    rest = slice_str(strstr(line, "session=") + 8);
    assert_true(auth_field(&rest, &field));
    assert_slice(auth_unescape(arena, field), SL("a\tb\n\001c"));
    (void)hear("AUTH\t3\t");
    say("FAIL\t3\tuser=tomo\treason=no\001tway\tcode=user_disabled\n"
        "OK\t99\tuser=nobody\n"
        "OK\t2\tuser=tomo@example.org\tticket="
        "000102030405060708090a0b0c0d0e0f\n");
    until(&a.done);
    until(&b.done);
    assert_int_equal(a.answer.result, AUTH_OK);
    assert_string_equal(a.answer.user, "tomo@example.org");
    assert_true(a.answer.has_ticket);
    assert_int_equal(a.answer.ticket[15], 15);
    assert_null(a.r);
    assert_int_equal(b.answer.result, AUTH_FAIL);
    assert_string_equal(b.answer.code, "user_disabled");
    assert_string_equal(buf_cstr(&b.answer.text), "no\tway");
    auth_answer_done(&a.answer);
    auth_answer_done(&b.answer);

    /* A dialogue that the client ends. */
    a = (struct sign_in){ .done = false };
    task_spawn("a", sign_in_task, &a);
    (void)hear("AUTH\t4\t");
    say("CONT\t4\taGVsbG8=\n");
    until(&a.done);
    assert_int_equal(a.answer.result, AUTH_CONTINUE);
    assert_string_equal(buf_cstr(&a.answer.text), "hello");
    auth_answer_done(&a.answer);
    auth_abort(&a.r);
    (void)hear("CANCEL\t4");
    say("FAIL\t4\n"); /* too late for anybody */

    /* One that auth ends by itself, while nobody asks. */
    a = (struct sign_in){ .done = false };
    task_spawn("a", sign_in_task, &a);
    (void)hear("AUTH\t5\t");
    say("CONT\t5\taGVsbG8=\n");
    until(&a.done);
    auth_answer_done(&a.answer);
    say("FAIL\t5\treason=late\n");
    (void)task_sleep(50, NULL);
    assert_int_equal(
        auth_continue(&a.r, SL("x"), clock_after(5000), &a.answer, &a.err), -1);
    assert_null(a.r);
    assert_non_null(strstr(a.err.log, "too long"));

    /* The connection breaks: made again, and the request with it. */
    a = (struct sign_in){ .done = false };
    task_spawn("a", sign_in_task, &a);
    (void)hear("AUTH\t6\t");
    stream_free(&server);
    connected();
    line = hear("AUTH\t");
    rest = slice_str(line + 5);
    assert_true(auth_field(&rest, &field));
    (void)snprintf(text, sizeof text, "FAIL\t%.*s\ttemp\n", SLF(field));
    say(text);
    until(&a.done);
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.answer.result, AUTH_TEMP);
    auth_answer_done(&a.answer);
    assert_int_equal(n_connects, 2);

    /* Twice in a row is trouble. */
    a = (struct sign_in){ .done = false };
    task_spawn("a", sign_in_task, &a);
    (void)hear("AUTH\t");
    stream_free(&server);
    connected();
    (void)hear("AUTH\t");
    say("CONT\tnonsense\n\xff\xfe\n");
    stream_free(&server);
    until(&a.done);
    assert_int_equal(a.rc, -1);
    assert_int_equal(a.err.class, ERR_TEMP);
    arena_free(&arena);
    auth_client_free(&client);
    loop_stop();
}

static void test_client(void **state)
{
    int fds[2];

    (void)state;
    loop_init("test", 1);
    buf_init(&seen, 1u << 20);
    p.conf =
        conf_from_text(SL("disable_plaintext_auth = yes\n"), SLICE_NONE, NULL);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    p.master = chan_new(fds[0], &client_ops, NULL);
    master = chan_new(fds[1], &master_ops, NULL);
    client = auth_client_new(&p);
    task_spawn("script", script, NULL);
    loop_run();
    chan_free(&master);
    chan_free(&p.master);
    stream_free(&server);
    conf_unref(&p.conf);
    buf_done(&seen);
    loop_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_client) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
