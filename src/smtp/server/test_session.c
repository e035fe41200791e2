/* Sessions over a memory stream, the spool faked: what system tests cannot
 * reach, and what a review found. */
#include "smtp/server/fake.h"

#include "base/test_util.h"

/* ---- a client */

struct talk {
    struct fake f;
    struct stream *st;
    struct arena *arena;
};

static void talk_connect(struct talk *t, bool is_pickup)
{
    stream_free(&t->st);
    t->st = fake_connect(&t->f, is_pickup);
    stream_deadline(t->st, clock_after(20000));
}

static void talk_open(struct talk *t, const char *conf)
{
    memset(t, 0, sizeof *t);
    fake_open(&t->f, conf);
    t->arena = arena_new(64u << 20);
    talk_connect(t, false);
}

MAY_WAIT static void talk_close(struct talk *t)
{
    struct err err;

    stream_free(&t->st);
    while (smtp_server_sessions(t->f.server) > 0)
        assert_int_equal(task_sleep(1, &err), 0);
    arena_free(&t->arena);
    fake_close(&t->f);
}

/* The next reply without its line end; of several lines, the last.  "" when the
 * server has closed. */
MAY_WAIT static const char *answer(struct talk *t)
{
    struct err err;
    slice line;

    stream_deadline(t->st, clock_after(60000));
    do {
        if (stream_line(t->st, 4096, &line, &err) < 0)
            return "";
        line = slice_rtrim(line);
    } while (line.n > 3 && line.p[3] == '-');
    return slice_cstr(t->arena, line);
}

MAY_WAIT static void send_bytes(struct talk *t, slice bytes)
{
    struct err err;

    if (stream_write(t->st, bytes, &err) < 0 || stream_flush(t->st, &err) < 0)
        fail_msg("%s", err.log);
}

MAY_WAIT static const char *ask(struct talk *t, const char *line)
{
    send_bytes(t, slice_str(line));
    send_bytes(t, SL("\r\n"));
    return answer(t);
}

#define EXPECT(t, line, want)                                                  \
 do {                                                                          \
  const char *got_ = ask((t), (line));                                         \
  if (strncmp(got_, (want), strlen(want)) != 0)                                \
   fail_msg("%s: got \"%s\", want \"%s\"", (line), got_, (want));              \
 } while (0)

#define EXPECT_NEXT(t, want)                                                   \
 do {                                                                          \
  const char *got_ = answer(t);                                                \
  if (strncmp(got_, (want), strlen(want)) != 0)                                \
   fail_msg("got \"%s\", want \"%s\"", got_, (want));                          \
 } while (0)

MAY_WAIT static void hello(struct talk *t)
{
    EXPECT_NEXT(t, "220 mx.example.com");
    EXPECT(t, "EHLO client.example", "250 CHUNKING");
}

/* A test that is a task: `arg` the configuration. */
#define SESSION_TEST(name, conf)                                               \
 MAY_WAIT static void name##_run(struct talk *t);                              \
 MAY_WAIT static void name##_task(void *arg)                                   \
 {                                                                             \
  struct talk t;                                                               \
                                                                               \
  talk_open(&t, arg);                                                          \
  name##_run(&t);                                                              \
  talk_close(&t);                                                              \
 }                                                                             \
 static void name(void **state)                                                \
 {                                                                             \
  static char text[] = conf;                                                   \
                                                                               \
  (void)state;                                                                 \
  loop_init("test", 1);                                                        \
  (void)task_spawn("test", name##_task, text);                                 \
  loop_run_until_idle();                                                       \
  loop_done();                                                                 \
 }                                                                             \
 MAY_WAIT static void name##_run(struct talk *t)

/* ---- the way of a message */

SESSION_TEST(test_message, "")
{
    hello(t);
    EXPECT(t, "MAIL FROM:<a@b.example> ENVID=x+20y", "250 2.1.0");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250 2.1.5");
    EXPECT(t, "DATA", "354");
    EXPECT(t, "Subject: x\r\n\r\n..dot\r\n.", "250 2.0.0 Ok: queued as ");
    assert_int_equal(fake_spool.n_committed, 1);
    assert_slice(buf_view(&fake_spool.rcpts), SL("tomo@example.com\n"));
    assert_slice(buf_view(&fake_spool.sender), SL("a@b.example"));
    assert_slice(buf_view(&fake_spool.envid), SL("x y"));
    assert_true(
        slice_ends(buf_view(&fake_spool.last), SL("\001Subject: x\n\n.dot\n")));
    EXPECT(t, "QUIT", "221 2.0.0 Bye");
    assert_string_equal(answer(t), "");
}

SESSION_TEST(test_chunks, "")
{
    hello(t);
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    send_bytes(t, SL("BDAT 4\r\nA: b"));
    EXPECT_NEXT(t, "250 2.0.0 Ok: 4 bytes");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "503 5.5.1 Error: RCPT after BDAT");
    EXPECT(t, "NOOP", "250");
    send_bytes(t, SL("BDAT 8 LAST\r\n\r\n\r\n.\r\nx"));
    EXPECT_NEXT(t, "250 2.0.0 Ok: queued as");
    assert_true(
        slice_ends(buf_view(&fake_spool.last), SL("\001A: b\n\n.\nx\n")));
    /* Without a transaction its bytes are passed over. */
    send_bytes(t, SL("BDAT 6\r\nQUIT\r\nNOOP\r\n"));
    EXPECT_NEXT(t, "503 5.5.1 Error: need RCPT command");
    EXPECT_NEXT(t, "250");
    EXPECT(t, "BDAT 5 FIRST", "521 5.5.4 Syntax: BDAT count [LAST]");
    assert_string_equal(answer(t), "");
}

SESSION_TEST(test_spool_trouble, "")
{
    hello(t);
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    fake_spool.fails_open = true;
    EXPECT(t, "DATA", "452 4.3.1 Insufficient system storage");
    fake_spool.fails_open = false;
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    fake_spool.fails_write = true;
    EXPECT(t, "DATA", "354");
    EXPECT(t, "a\r\n.", "452 4.3.1 Insufficient system storage");
    fake_spool.fails_write = false;
    fake_spool.fails_commit = true;
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    EXPECT(t, "DATA", "354");
    EXPECT(t, "a\r\n.", "452 4.3.1 Insufficient system storage");
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    send_bytes(t, SL("BDAT 3 LAST\r\na:b"));
    EXPECT_NEXT(t, "452 4.3.1");
    assert_int_equal(fake_spool.n_open, 0);
    assert_int_equal(fake_spool.n_committed, 0);
}

/* ---- HELO and EHLO */

SESSION_TEST(test_helo_is_harmless, "")
{
    EXPECT_NEXT(t, "220");
    EXPECT(t, "HELO a(b)<c>\"d\\e;f@g", "250 mx.example.com");
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    EXPECT(t, "DATA", "354");
    EXPECT(t, ".", "250");
    assert_true(slice_starts(
        buf_view(&fake_spool.last),
        SL("Received: from a?b??c??d?e?f?g (unknown [192.0.2.1])\n")));
}

SESSION_TEST(test_refused_helo_changes_nothing,
             "smtpd_delay_reject = no\n"
             "smtpd_helo_restrictions = reject_invalid_helo_hostname\n")
{
    hello(t);
    EXPECT(t, "MAIL FROM:<a@b.example>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    EXPECT(t, "HELO -bad-", "501 5.5.2");
    EXPECT(t, "HELO", "501 Syntax: HELO hostname");
    EXPECT(t, "DATA", "354");
    EXPECT(t, "a: b\r\n.", "250 2.0.0 Ok: queued as");
    assert_true(slice_starts(buf_view(&fake_spool.last),
                             SL("Received: from client.example (")));
    assert_true(slice_find(buf_view(&fake_spool.last), SL("with ESMTP")) > 0);
    /* One that is taken resets the transaction. */
    EXPECT(t, "MAIL FROM:<a@b.example>", "250");
    EXPECT(t, "HELO good.example", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "503");
}

SESSION_TEST(test_received_names_ipv6, "")
{
    stream_free(&t->st);
    t->f.peer.family = AF_INET6;
    (void)snprintf(t->f.peer.text, sizeof t->f.peer.text, "2001:db8::1");
    talk_connect(t, false);
    hello(t);
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    EXPECT(t, "DATA", "354");
    EXPECT(t, ".", "250");
    assert_true(slice_find(buf_view(&fake_spool.last),
                           SL("(unknown [IPv6:2001:db8::1])")) > 0);
}

/* What our own clients leave out; of a message that is sent on, the fields of
 * the one who does. */
SESSION_TEST(test_missing_headers, "")
{
    slice last;

    talk_connect(t, true);
    EXPECT_NEXT(t, "220");
    EXPECT(t, "EHLO x", "250");
    EXPECT(t, "MAIL FROM:<tomo@example.com>", "250");
    EXPECT(t, "RCPT TO:<ana@example.com>", "250");
    EXPECT(t, "DATA", "354");
    EXPECT(t, "Subject: x\r\nDate: then\r\n\r\nbody\r\n.", "250");
    last = buf_view(&fake_spool.last);
    assert_true(slice_find(last, SL("\nFrom: tomo@example.com\n")) > 0);
    assert_true(slice_find(last, SL("\001Message-Id: <")) > 0);
    assert_true(slice_find(last, SL("Date: then\n\nbody\n")) > 0);
    EXPECT(t, "MAIL FROM:<tomo@example.com>", "250");
    EXPECT(t, "RCPT TO:<ana@example.com>", "250");
    EXPECT(t, "DATA", "354");
    EXPECT(t, "Resent-To: a\r\nFrom: first@b.example\r\n\r\nbody\r\n.", "250");
    last = buf_view(&fake_spool.last);
    assert_true(slice_find(last, SL("\nResent-From: tomo@example.com\n")) > 0);
    assert_true(slice_find(last, SL("\001Resent-Message-Id: <")) > 0);
    assert_true(slice_find(last, SL("\nResent-Date: ")) > 0);
    assert_true(slice_find(last, SL("\nMessage-Id: ")) < 0);
}

/* ---- commands and their errors */

SESSION_TEST(test_order_of_commands, "smtpd_helo_required = yes\n")
{
    EXPECT_NEXT(t, "220");
    EXPECT(t, "MAIL FROM:<>", "503 5.5.1 Error: send HELO/EHLO first");
    EXPECT(t, "RCPT TO:<a@b>", "503 5.5.1 Error: need MAIL command");
    EXPECT(t, "DATA", "503 5.5.1 Error: need RCPT command");
    EXPECT(t, "EHLO x.example", "250");
    EXPECT(t, "MAIL FROM:", "501 5.5.4 Syntax: MAIL FROM:<address>");
    EXPECT(t, "MAIL TO:<>", "501 5.5.4 Syntax: MAIL FROM:<address>");
    EXPECT(t, "MAIL FROM:<> ENVID=a+0Ab", "501 5.5.4 Bad ENVID");
    EXPECT(t, "MAIL FROM:<> FUNNY=x", "555 5.5.4 Unsupported option: FUNNY");
    EXPECT(t, "MAIL FROM:<>", "250");
    EXPECT(t, "MAIL FROM:<>", "503 5.5.1 Error: nested MAIL command");
    EXPECT(t, "DATA", "554 5.5.1 Error: no valid recipients");
    EXPECT(t, "RCPT TO:", "501 5.5.4 Syntax: RCPT TO:<address>");
    EXPECT(t, "RCPT TO:<>", "501 5.1.3 Bad recipient address syntax");
    EXPECT(t, "RCPT TO:<a@elsewhere.example>", "454 4.7.1");
    EXPECT(t, "RSET x", "501 5.5.4 Syntax: RSET");
    EXPECT(t, "RSET", "250");
}

/* Empty lines and lines that are too long are errors like all others. */
SESSION_TEST(test_every_error_counts, "smtpd_hard_error_limit = 4\n"
                                      "line_length_limit = 600\n")
{
    static char line[1201];

    hello(t);
    memset(line, 'A', 602);
    EXPECT(t, "", "500 5.5.2 Error: bad syntax");
    EXPECT(t, "\xff\xfe", "500 5.5.2 Error: bad UTF-8 syntax");
    EXPECT(t, line, "500 5.5.2 Error: line too long");
    memset(line, 'A', 1200);
    EXPECT(t, line, "500 5.5.2 Error: line too long");
    EXPECT_NEXT(t, "421 4.7.0 mx.example.com Error: too many errors");
    assert_string_equal(answer(t), "");
}

/* A line of line_length_limit bytes is taken, however it arrives. */
SESSION_TEST(test_longest_line, "line_length_limit = 600\n")
{
    static char line[601];
    struct err err;

    hello(t);
    memset(line, 'A', 600);
    memcpy(line, "NOOP ", 5);
    EXPECT(t, line, "250");
    send_bytes(t, slice_str(line));
    send_bytes(t, SL("\r"));
    assert_int_equal(task_sleep(20, &err), 0);
    send_bytes(t, SL("\n"));
    EXPECT_NEXT(t, "250");
}

/* A limit above the stream's own buffer: it once stopped the process. */
SESSION_TEST(test_large_line_limit, "line_length_limit = 200000\n")
{
    char *line = xcalloc(1, 150001);

    hello(t);
    memset(line, 'A', 150000);
    memcpy(line, "NOOP ", 5);
    EXPECT(t, line, "250");
    free(line);
}

SESSION_TEST(test_recipients_beyond_the_limit,
             "smtpd_recipient_limit = 2\n"
             "smtpd_recipient_overshoot_limit = 10\n"
             "smtpd_hard_error_limit = 3\n")
{
    hello(t);
    EXPECT(t, "MAIL FROM:<>", "250");
    for (int i = 0; i < 2; i++)
        EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    /* So many are no errors, and the message still goes to the others. */
    for (int i = 0; i < 10; i++)
        EXPECT(t, "RCPT TO:<tomo@example.com>", "452 4.5.3 Error: too many");
    EXPECT(t, "DATA", "354");
    EXPECT(t, ".", "250");
    EXPECT(t, "MAIL FROM:<>", "250");
    for (int i = 0; i < 2; i++)
        EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
    for (int i = 0; i < 10 + 3; i++)
        EXPECT(t, "RCPT TO:<tomo@example.com>", "452 4.5.3 Error: too many");
    EXPECT_NEXT(t, "421 4.7.0");
}

/* Our own memory is never the client's syntax error. */
SESSION_TEST(test_full_transaction, "")
{
    char *line = xcalloc(1, 1700);
    unsigned n = 0;
    const char *got = "";

    talk_connect(t, true);
    EXPECT_NEXT(t, "220");
    EXPECT(t, "EHLO x", "250");
    EXPECT(t, "MAIL FROM:<>", "250");
    do {
        (void)snprintf(line, 1700, "RCPT TO:<%u%0800d@example.com>", n, 0);
        got = ask(t, line);
    } while (strncmp(got, "250", 3) == 0 && n++ < 50000);
    assert_true(n > 1000);
    if (strncmp(got, "45", 2) != 0)
        fail_msg("recipient %u: %s", n, got);
    free(line);
}

SESSION_TEST(test_denied_client, "smtpd_delay_reject = no\n"
                                 "smtpd_client_restrictions = reject\n")
{
    EXPECT_NEXT(t, "554 5.7.1");
    EXPECT(t, "EHLO x", "503 5.7.0 Error: access denied for unknown");
    EXPECT(t, "BOGUS", "503 5.7.0 Error: access denied for unknown");
    EXPECT(t, "QUIT", "221");
}

/* ---- pipelining */

SESSION_TEST(test_pipelining, "smtpd_data_restrictions = "
                              "reject_unauth_pipelining\n")
{
    hello(t);
    send_bytes(t, SL("MAIL FROM:<>\r\nRCPT TO:<tomo@example.com>\r\n"
                     "DATA\r\nNOOP\r\n"));
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "503 5.5.0 <DATA>: Data command rejected: Improper use of "
                   "SMTP command pipelining");
    EXPECT_NEXT(t, "250");
    /* What follows BDAT in the buffer is its chunk. */
    send_bytes(t, SL("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<tomo@example.com>\r\n"
                     "BDAT 6 LAST\r\na: b\r\nQUIT\r\n"));
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250 2.0.0 Ok: queued as");
    EXPECT_NEXT(t, "221");
}

/* What comes too early is shown in the log, but not what may be a password. */
SESSION_TEST(test_early_input_in_log, "")
{
    static char log[65536];
    struct err err;
    size_t n = 0;
    ssize_t got;
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    event_setup(fds[0], "smtpd");
    hello(t);
    send_bytes(t, SL("AUTH LOGIN\r\ndG9tbw==\r\nc2VjcmV0\r\n"));
    for (int i = 0; i < 3; i++)
        (void)answer(t);
    talk_connect(t, false);
    hello(t);
    send_bytes(t, SL("NOOP\r\nRSET\r\n"));
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250");
    assert_int_equal(task_sleep(20, &err), 0);
    event_flush();
    while ((got = recv(fds[1], log + n, sizeof log - n, 0)) > 0)
        n += (size_t)got;
    event_setup(-1, "smtpd");
    close(fds[0]);
    close(fds[1]);
    assert_true(slice_find(slice_of(log, n), SL("after AUTH from")) > 0);
    assert_true(slice_find(slice_of(log, n), SL("c2VjcmV0")) < 0);
    assert_true(slice_find(slice_of(log, n), SL("after NOOP from")) > 0);
    assert_true(slice_find(slice_of(log, n), SL("RSET")) > 0);
}

SESSION_TEST(test_half_closed, "")
{
    struct err err;

    hello(t);
    send_bytes(t, SL("MAIL FROM:<>\r\nRCPT TO:<tomo@example.com>\r\nDATA\r\n"
                     "a: b\r\n.\r\nNOOP\r\nNOO"));
    assert_int_equal(stream_shutdown(t->st, &err), 0);
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "250");
    EXPECT_NEXT(t, "354");
    EXPECT_NEXT(t, "250 2.0.0 Ok: queued as");
    EXPECT_NEXT(t, "250");
    assert_string_equal(answer(t), "");
}

/* Only CRLF.CRLF ends the data, in whatever pieces it comes. */
SESSION_TEST(test_smuggling, "")
{
    static const char *const ends[] = { "\n.\n",        "\n.\r\n",
                                        "\r\n.\n",      "\r.\r",
                                        "\r\n.\r",      "\r\n\0.\r\n",
                                        "\r\r\n.\r\r\n" };
    struct err err;

    hello(t);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        EXPECT(t, "MAIL FROM:<>", "250");
        EXPECT(t, "RCPT TO:<tomo@example.com>", "250");
        EXPECT(t, "DATA", "354");
        send_bytes(t, SL("a: b\r\n\r\nx"));
        send_bytes(t, slice_str(ends[i]));
        assert_int_equal(task_sleep(5, &err), 0);
        send_bytes(t, SL("MAIL FROM:<evil@example.com>\r\nRCPT TO:<x@y>\r\n"));
        EXPECT(t, ".", "250 2.0.0 Ok: queued as");
        assert_int_equal(fake_spool.n_committed, i + 1);
        assert_true(slice_find(buf_view(&fake_spool.last),
                               SL("MAIL FROM:<evil@example.com>")) > 0);
    }
    EXPECT(t, "NOOP", "250");
}

/* ---- the end of the process */

SESSION_TEST(test_shutdown, "")
{
    struct talk in_data = *t;
    struct err err;

    hello(t);
    in_data.st = fake_connect(&t->f, false);
    stream_deadline(in_data.st, clock_after(20000));
    hello(&in_data);
    EXPECT(&in_data, "MAIL FROM:<>", "250");
    EXPECT(&in_data, "RCPT TO:<tomo@example.com>", "250");
    EXPECT(&in_data, "DATA", "354");
    send_bytes(&in_data, SL("a: b\r\n"));
    assert_int_equal(task_sleep(5, &err), 0);
    smtp_server_close_all(t->f.server);
    assert_string_equal(answer(t),
                        "421 4.3.2 mx.example.com Service shutting down");
    assert_string_equal(answer(t), "");
    assert_string_equal(answer(&in_data),
                        "421 4.3.2 mx.example.com Service shutting down");
    assert_string_equal(answer(&in_data), "");
    assert_int_equal(fake_spool.n_open, 0);
    stream_free(&in_data.st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_spool_trouble),
        cmocka_unit_test(test_helo_is_harmless),
        cmocka_unit_test(test_refused_helo_changes_nothing),
        cmocka_unit_test(test_received_names_ipv6),
        cmocka_unit_test(test_missing_headers),
        cmocka_unit_test(test_order_of_commands),
        cmocka_unit_test(test_every_error_counts),
        cmocka_unit_test(test_longest_line),
        cmocka_unit_test(test_large_line_limit),
        cmocka_unit_test(test_recipients_beyond_the_limit),
        cmocka_unit_test(test_full_transaction),
        cmocka_unit_test(test_denied_client),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_early_input_in_log),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_shutdown),
    };

    return cmocka_run_group_tests_name("smtp session", tests, NULL, NULL);
}
