/* The server and the client of LMTP against each other, the store faked, and
 * each against a peer that does not keep to the protocol. */
#include "lmtp/fake.h"

#include "base/test_util.h"

#include <fcntl.h>
#include <sys/mman.h>

struct bench {
    struct conf *conf;
    struct lmtp_server *server;
    struct lmtp_client *client;
    struct arena *arena;
    int body_fd;
    int n_busy;
};

static void busy(void *arg, int change)
{
    struct bench *b = arg;

    b->n_busy += change;
    assert_true(b->n_busy >= 0);
}

static void pair_of(int fds[2])
{
    struct err err;

    if (chan_socketpair(fds, &err) < 0)
        fail_msg("%s", err.log);
}

static void bench_open(struct bench *b)
{
    struct lmtp_server_parts parts = { .busy = busy, .arg = b };
    int fds[2];

    memset(b, 0, sizeof *b);
    b->conf = conf_from_text(SL("myhostname = mx.example.com\n"
                                "command_time_limit = 5\n"),
                             SLICE_NONE, NULL);
    parts.conf = b->conf;
    parts.host = "mx.example.com";
    b->server = lmtp_server_new(&parts);
    b->arena = arena_new(64u << 20);
    b->body_fd = memfd_create("body", MFD_CLOEXEC);
    assert_int_equal(write(b->body_fd, "XXa: b\n\nbody\n", 13), 13);
    pair_of(fds);
    lmtp_serve(b->server, fds[0]);
    b->client = lmtp_client_new(fds[1]);
}

MAY_WAIT static void bench_close(struct bench *b)
{
    struct err err;

    lmtp_client_free(&b->client);
    lmtp_server_close_all(b->server);
    while (lmtp_server_sessions(b->server) > 0)
        assert_int_equal(task_sleep(1, &err), 0);
    assert_int_equal(b->n_busy, 0);
    lmtp_server_free(&b->server);
    arena_free(&b->arena);
    conf_unref(&b->conf);
    close(b->body_fd);
    fake_store_reset();
}

/* A test that is a task on a bench. */
#define LMTP_TEST(name)                                                        \
 MAY_WAIT static void name##_run(struct bench *b);                             \
 MAY_WAIT static void name##_task(void *arg)                                   \
 {                                                                             \
  struct bench b;                                                              \
                                                                               \
  (void)arg;                                                                   \
  bench_open(&b);                                                              \
  name##_run(&b);                                                              \
  bench_close(&b);                                                             \
 }                                                                             \
 static void name(void **state)                                                \
 {                                                                             \
  msec began = clock_mono();                                                   \
                                                                               \
  (void)state;                                                                 \
  loop_init("test", 1);                                                        \
  (void)task_spawn("test", name##_task, NULL);                                 \
  loop_run_until_idle();                                                       \
  loop_done();                                                                 \
  /* Nothing is left that waits for its deadline. */                           \
  assert_true(clock_mono() - began < 300000);                                  \
 }                                                                             \
 MAY_WAIT static void name##_run(struct bench *b)

static struct lmtp_message letter(const struct bench *b)
{
    return (struct lmtp_message){
        .sender = SL("a b@from.example"),
        .arrival_ms = 1000,
        .head = SL("H: x\n"),
        .body_fd = b->body_fd,
        .body_at = 2,
        .body_bytes = 11,
        .deadline = clock_after(60000),
    };
}

static struct lmtp_rcpt rcpt(const char *user)
{
    return (struct lmtp_rcpt){
        .addr = SL("to@example.com"),
        .user = slice_str(user),
        .mail = SL("maildir:/m"),
        .kind = LMTP_MAILBOX,
        .id = { 0x5a },
    };
}

MAY_WAIT static int deliver(struct bench *b, struct lmtp_rcpt *v, size_t n,
                            struct err *err)
{
    struct lmtp_message m = letter(b);

    return lmtp_deliver(b->client, &m, v, n, b->arena, err);
}

/* ---- the two together */

LMTP_TEST(test_answers)
{
    struct lmtp_rcpt v[] = { rcpt("tomo"), rcpt("temp"), rcpt("perm"),
                             rcpt("durable") };
    struct err err;

    v[0].orig = SL("list+x=y@example.com");
    v[0].mail = SL("maildir:/m a\xc3\xa9+=");
    assert_int_equal(deliver(b, v, 4, &err), 0);
    assert_int_equal(v[0].code, 250);
    assert_false(v[0].is_durable);
    assert_int_equal(v[0].fs, 0xab);
    assert_string_equal(v[0].status, "2.0.0");
    assert_int_equal(v[1].code, 451);
    assert_string_equal(v[1].status, "4.2.2");
    assert_slice(v[1].text, SL("Quota??exceeded"));
    assert_int_equal(v[2].code, 550);
    assert_string_equal(v[2].status, "5.2.2");
    assert_true(v[3].code == 250 && v[3].is_durable);
    assert_slice(
        buf_view(&fake_store.log),
        SL("tomo|maildir:/m a\xc3\xa9+=|to@example.com|list+x=y@example.com|5a"
           "|H: x\na: b\n\nbody\n\n"
           "durable|maildir:/m|to@example.com||5a|H: x\na: b\n\nbody\n\n"));
}

struct one {
    struct bench *b;
    const char *user;
    struct lmtp_rcpt rcpt;
    size_t *left;
};

MAY_WAIT static void one_task(void *arg)
{
    struct one *o = arg;
    struct err err;

    o->rcpt = rcpt(o->user);
    if (deliver(o->b, &o->rcpt, 1, &err) < 0)
        fail_msg("%s", err.log);
    --*o->left;
}

LMTP_TEST(test_pipelined)
{
    static const char *const users[] = { "tomo", "slow", "perm", "durable" };
    static struct one v[60];
    size_t left = ARRAY_LEN(v);
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        v[i] = (struct one){ .b = b, .user = users[i % 4], .left = &left };
        (void)task_spawn("one", one_task, &v[i]);
    }
    while (left > 0)
        assert_int_equal(task_sleep(1, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        assert_int_equal(v[i].rcpt.code, i % 4 == 2 ? 550 : 250);
        assert_int_equal(v[i].rcpt.is_durable, i % 4 == 3);
    }
    assert_int_equal(fake_store.n_delivered, ARRAY_LEN(v) * 3 / 4);
}

LMTP_TEST(test_full_disk)
{
    struct lmtp_rcpt v[] = { rcpt("tomo"), rcpt("ana") };
    struct err err;

    fake_store.fails_write = true;
    assert_int_equal(deliver(b, v, 2, &err), 0);
    assert_int_equal(v[0].code, 451);
    assert_int_equal(v[1].code, 451);
    assert_string_equal(v[1].status, "4.3.1");
    fake_store.fails_write = false;
    assert_int_equal(deliver(b, v, 2, &err), 0);
    assert_int_equal(v[1].code, 250);
}

LMTP_TEST(test_commands_and_files)
{
    struct lmtp_rcpt v = rcpt("tomo");
    struct err err;

    v.kind = LMTP_COMMAND;
    v.arg = SL("test \"$SENDER\" = 'a b@from.example' && grep -q '^a: b' && "
               "exit 67; echo wrong; exit 1");
    assert_int_equal(deliver(b, &v, 1, &err), 0);
    assert_int_equal(v.code, 550);
    assert_string_equal(v.status, "5.1.1");
    assert_slice(v.text, SL("user unknown"));
    v.arg = SL("kill -9 $$");
    assert_int_equal(deliver(b, &v, 1, &err), 0);
    assert_int_equal(v.code, 451);
    v.kind = LMTP_FILE;
    v.arg = SL("/tmp/mbox");
    assert_int_equal(deliver(b, &v, 1, &err), 0);
    assert_true(v.code == 250 && v.is_durable && v.fs == 7);
}

/* A recipient that no line can carry fails alone. */
LMTP_TEST(test_overlong_recipient)
{
    struct lmtp_rcpt v = rcpt("tomo");
    char *arg = xcalloc(1, 6000);
    struct err err;

    memset(arg, ' ', 6000);
    v.kind = LMTP_COMMAND;
    v.arg = slice_of(arg, 6000);
    assert_int_equal(deliver(b, &v, 1, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_false(lmtp_client_is_broken(b->client));
    v = rcpt("tomo");
    assert_int_equal(deliver(b, &v, 1, &err), 0);
    assert_int_equal(v.code, 250);
    free(arg);
}

/* ---- ends */

LMTP_TEST(test_worker_ends)
{
    struct lmtp_rcpt v = rcpt("tomo");
    struct err err;

    assert_int_equal(deliver(b, &v, 1, &err), 0);
    assert_false(lmtp_client_is_broken(b->client));
    lmtp_server_close_all(b->server);
    while (lmtp_server_sessions(b->server) > 0)
        assert_int_equal(task_sleep(1, &err), 0);
    assert_true(lmtp_client_is_broken(b->client));
    assert_int_equal(deliver(b, &v, 1, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
}

/* Nobody answers in time: the delivery fails for now, the connection is given
 * up, and what waited for its answers ends with it. */
LMTP_TEST(test_deadline)
{
    struct lmtp_rcpt v = rcpt("slow for ever");
    struct lmtp_message m = letter(b);
    struct err err;

    m.deadline = clock_after(50);
    assert_int_equal(lmtp_deliver(b->client, &m, &v, 1, b->arena, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_true(lmtp_client_is_broken(b->client));
    assert_int_equal(lmtp_client_pending(b->client), 0);
}

/* ---- a worker that was taken over */

MAY_WAIT static int deliver_to(struct bench *b, const char *answers,
                               size_t n_times, struct lmtp_rcpt *v)
{
    struct lmtp_message m = letter(b);
    struct lmtp_client *client;
    struct stream *worker;
    struct err err;
    int fds[2];
    int r;

    pair_of(fds);
    worker = stream_from_fd(fds[0]);
    client = lmtp_client_new(fds[1]);
    stream_deadline(worker, clock_after(1000));
    *v = rcpt("tomo");
    for (size_t i = 0; i < n_times; i++)
        assert_int_equal(stream_puts(worker, answers, &err), 0);
    assert_int_equal(stream_flush(worker, &err), 0);
    m.deadline = clock_after(200);
    r = lmtp_deliver(client, &m, v, 1, b->arena, &err);
    lmtp_client_free(&client);
    stream_free(&worker);
    return r;
}

LMTP_TEST(test_hostile_worker)
{
    struct lmtp_rcpt v;

    assert_int_equal(
        deliver_to(b, "250 x\r\n250 x\r\n250 2.1.5 XVISIBLE fs=zz\r\n", 1, &v),
        0);
    assert_int_equal(v.code, 250);
    /* A status that is none, and more answers than questions. */
    assert_int_equal(deliver_to(b,
                                "250 x\r\n250 x\r\n550 5.\x1bX.1 no\r\n250\r\n"
                                "250\r\n250\r\n",
                                1, &v),
                     0);
    assert_int_equal(v.code, 550);
    assert_string_equal(v.status, "");
    assert_int_equal(deliver_to(b, "what?\r\n", 1, &v), -1);
    assert_int_equal(deliver_to(b, "000 x\r\n", 1, &v), -1);
    assert_int_equal(deliver_to(b, "250", 1, &v), -1);
    /* A line without end. */
    assert_int_equal(
        deliver_to(b, "250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 4000, &v), -1);
    assert_int_equal(deliver_to(b, "250-x\r\n", 4000, &v), -1);
}

/* ---- the server's words */

MAY_WAIT static void expect(struct stream *st, const char *send,
                            const char *want)
{
    struct err err;
    slice line;

    assert_int_equal(stream_puts(st, send, &err), 0);
    assert_int_equal(stream_flush(st, &err), 0);
    do {
        if (stream_line(st, 4096, &line, &err) < 0) {
            if (*want != '\0')
                fail_msg("%s: %s", send, err.log);
            return;
        }
    } while (line.n > 3 && line.p[3] == '-');
    if (!slice_starts(line, slice_str(want)))
        fail_msg("%s: got %.*s want %s", send, SLF(line), want);
}

MAY_WAIT static struct stream *talk(struct bench *b)
{
    struct stream *st;
    int fds[2];

    pair_of(fds);
    lmtp_serve(b->server, fds[0]);
    st = stream_from_fd(fds[1]);
    stream_deadline(st, clock_after(60000));
    return st;
}

#define MAILBOX " XKIND=mailbox XUSER=tomo XMAIL=maildir:/m\r\n"

LMTP_TEST(test_server)
{
    struct stream *st = talk(b);

    expect(st, "LHLO x\r\n", "250 XHATO");
    expect(st, "RCPT TO:<a@b>" MAILBOX, "503 5.5.1");
    expect(st, "MAIL FROM:a b c\r\n", "250 2.1.0");
    expect(st, "MAIL FROM:<>\r\n", "503 5.5.1 nested MAIL");
    expect(st, "RSET\r\n", "250");
    expect(st, "MAIL FROM:<> XARRIVAL=18446744073709551615 SIZE=x\r\n", "250");
    expect(st, "RCPT TO:<>" MAILBOX, "501 5.1.3");
    expect(st, "RCPT TO:<a@b>\r\n", "501 5.5.4 account is missing");
    expect(st, "RCPT TO:<a@b> XKIND=file\r\n", "501 5.5.4 account is missing");
    expect(st, "RCPT TO:<a@b> XKIND=x\r\n", "501 5.5.4 bad parameter");
    expect(st, "RCPT TO:<a@b> XID=zz\r\n", "501 5.5.4 bad parameter");
    expect(st, "RCPT TO:<a@b> XARG=a+00b\r\n", "501 5.5.4 bad parameter");
    expect(st, "BDAT 3 LAST\r\nxyz", "503 5.5.1 no valid recipients");
    expect(st, "MAIL FROM:<>\r\n", "250");
    expect(st, "RCPT TO:<a@b>" MAILBOX, "250 2.1.5");
    expect(st, "RCPT TO:<a@b> XKIND=file XARG=/x\r\n",
           "452 4.5.3 files and commands come alone");
    expect(st, "BDAT 0 LAST\r\n", "250 2.0.0 XVISIBLE fs=ab stored");
    expect(st, "NOOP\r\n", "250");
    expect(st, "XYZ\r\n", "500 5.5.2");
    expect(st, "BDAT 3\r\n", "501 5.5.4 Syntax: BDAT count LAST");
    expect(st, "", "");
    stream_free(&st);
    st = talk(b);
    for (int i = 0; i < 400; i++) {
        struct err err;

        if (stream_puts(st, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                        &err) < 0)
            break;
    }
    expect(st, "", "");
    stream_free(&st);
}

/* Our own full memory is a 4xx. */
LMTP_TEST(test_full_transaction)
{
    struct stream *st = talk(b);
    char *line = xcalloc(1, LMTP_LINE_MAX);
    struct err err;
    slice got;
    unsigned n = 0;

    expect(st, "MAIL FROM:<>\r\n", "250");
    (void)snprintf(line, LMTP_LINE_MAX,
                   "RCPT TO:<a@b> XKIND=mailbox XUSER=tomo XMAIL=%015000d\r\n",
                   0);
    do {
        stream_deadline(st, clock_after(60000));
        assert_int_equal(stream_puts(st, line, &err), 0);
        assert_int_equal(stream_flush(st, &err), 0);
        if (stream_line(st, 4096, &got, &err) < 0)
            fail_msg("%s", err.log);
    } while (slice_starts(got, SL("250")) && n++ < LMTP_RCPTS_MAX);
    assert_true(n > 1000 && n < LMTP_RCPTS_MAX);
    if (!slice_starts(got, SL("452 4.5.3")))
        fail_msg("%u: %.*s", n, SLF(got));
    free(line);
    stream_free(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_commands_and_files),
        cmocka_unit_test(test_overlong_recipient),
        cmocka_unit_test(test_worker_ends),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_hostile_worker),
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_full_transaction),
    };

    return cmocka_run_group_tests_name("lmtp", tests, NULL, NULL);
}
