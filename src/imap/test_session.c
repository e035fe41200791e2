#include "imap/test_util.h"

/* Sessions, SELECT and what needs no mailbox.
 * covers: imap_id_send imap_id_log imap_idle_notify_interval
 * imap_max_line_length */

static const char letter[] = "Subject: one\nFrom: a@example.net\n\nHello.\n";

static void basics(struct bench *b)
{
    struct client c;
    const char *t;

    client_start(b, &c, SL("b NOOP\r\nc CAPAB"));
    has(client_read(&c, "b "), "b OK NOOP completed.\r\n");
    client_send(&c, "ILITY\r\n");
    has(client_read(&c, "c "), "* CAPABILITY IMAP4rev1 LITERAL+");
    has(client_do(&c, "FROB"), "x BAD Error in IMAP command FROB: Unknown");
    has(client_do(&c, "CLOSE"), "x BAD Error in IMAP command CLOSE: No mail");
    client_send(&c, "\r\n");
    has(client_read(&c, "* "), "* BAD Error in IMAP command received by");
    has(client_do(&c, "SELECT nope"),
        "x NO [NONEXISTENT] Mailbox doesn't exist.");
    t = client_do(&c, "SELECT INBOX");
    has(t, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft");
    has(t, "* 0 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY ");
    has(t, "* OK [UIDNEXT 1] Predicted next UID\r\n");
    has(t, "x OK [READ-WRITE] Select completed.\r\n");
    bench_deliver(b, letter);
    has(client_do(&c, "NOOP"), "* 1 EXISTS\r\n");
    t = client_do(&c, "EXAMINE {5}\r\ninbox");
    has(t, "+ OK\r\n");
    has(t, "* OK [CLOSED] Previous mailbox closed.\r\n");
    has(t, "* OK [UNSEEN 1] First unseen.\r\n");
    has(t, "* OK [PERMANENTFLAGS ()] Read-only mailbox.\r\n");
    has(t, "x OK [READ-ONLY] Examine completed.\r\n");
    has(client_do(&c, "UNSELECT"), "x OK Unselect completed.");
    has(client_do(&c, "SELECT {5+}\r\nINBOX (CONDSTORE)"),
        "* OK [HIGHESTMODSEQ ");
    has(client_do(&c, "CLOSE"), "x OK Close completed.");
    has(client_do(&c, "ENABLE CONDSTORE X"), "* ENABLED CONDSTORE\r\n");
    has(client_do(&c, "ID (\"name\" \"t\" \"x\" NIL)"),
        "* ID (\"name\" \"Hato\" \"version\" \"" HATO_VERSION "\")\r\n");
    has(client_do(&c, "ID NIL"), "x OK ID completed.");
    client_stop(&c);
}

static void test_basics(void **state)
{
    (void)state;
    bench_run("imap_id_send = name * version *\nimap_id_log = *\n", basics);
}

static void idle(struct bench *b)
{
    struct client c;

    client_start(b, &c, SLICE_NONE);
    (void)client_do(&c, "SELECT INBOX");
    client_send(&c, "i IDLE\r\n");
    has(client_read(&c, "+ "), "+ idling\r\n");
    bench_deliver(b, letter);
    has(client_read(&c, "* 1 RECENT"), "* 1 EXISTS\r\n");
    has(client_read(&c, "* OK Still"), "* OK Still here\r\n");
    bench_deliver(b, letter);
    (void)client_read(&c, "* 2 EXISTS");
    client_send(&c, "DONE\r\n");
    has(client_read(&c, "i "), "i OK Idle completed.\r\n");
    client_send(&c, "i IDLE\r\nnonsense\r\n");
    has(client_read(&c, "i "), "i BAD Expected DONE.\r\n");
    client_stop(&c);
}

static void test_idle(void **state)
{
    (void)state;
    bench_run("imap_idle_notify_interval = 1s\n", idle);
}

static void hostile(struct bench *b)
{
    struct client c;
    char line[1500];

    client_start(b, &c, SLICE_NONE);
    has(client_do(&c, "SELECT {99999999}"), "x BAD [TOOBIG]");
    has(client_do(&c, "NOOP"), "x OK");
    client_send(&c, "x SELECT {99999999+}\r\n");
    has(client_read(&c, "* BYE"), "* BYE Too long literal.");
    stream_free(&c.stream);
    buf_done(&c.seen);

    client_start(b, &c, SLICE_NONE);
    memset(line, 'a', sizeof line);
    line[sizeof line - 1] = '\0';
    client_send(&c, line);
    has(client_read(&c, "* BYE"), "* BYE Too long command line.");
    stream_free(&c.stream);
    buf_done(&c.seen);

    client_start(b, &c, SLICE_NONE);
    for (int i = 1; i < IMAP_BAD_MAX; i++)
        has(client_do(&c, "BOGUS"), "x BAD");
    client_send(&c, "x BOGUS\r\n");
    (void)client_read(&c, "* BYE Too many");
    stream_free(&c.stream);
    buf_done(&c.seen);

    client_start(b, &c, SLICE_NONE);
    imap_close_all(b->server, SL("Going away."));
    (void)client_read(&c, "* BYE Going away.");
    stream_free(&c.stream);
    buf_done(&c.seen);
    task_yield();
}

static void test_hostile(void **state)
{
    (void)state;
    bench_run("imap_max_line_length = 1024\n", hostile);
}

static struct client piped;

static void pipe_reader(void *arg)
{
    unsigned *n = arg;

    for (; *n < 100000; ++*n) {
        struct err err;
        slice line;

        if (stream_line(piped.stream, 1000, &line, &err) < 0)
            fail_msg("%s", err.log);
    }
}

/* 100,000 commands in a pipe. */
static void pipe_many(struct bench *b)
{
    unsigned n = 0;
    struct err err;

    client_start(b, &piped, SLICE_NONE);
    (void)task_spawn("reader", pipe_reader, &n);
    for (int i = 0; i < 100000; i++)
        if (stream_puts(piped.stream, "y NOOP\r\n", &err) < 0)
            fail_msg("%s", err.log);
    assert_int_equal(stream_flush(piped.stream, &err), 0);
    while (n < 100000)
        task_yield();
    client_stop(&piped);
}

static void test_pipe(void **state)
{
    (void)state;
    bench_run("", pipe_many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_pipe),
    };

    return cmocka_run_group_tests_name("imap-session", tests, NULL, NULL);
}
