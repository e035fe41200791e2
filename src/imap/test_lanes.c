#include "imap/test_util.h"

/* Commands side by side (RFC 9051 5.5).  Here every command takes long, so that
 * the next ones run as soon as they may. */

static const char letter[] = "Subject: one\nFrom: a@example.net\n\nHello.\n";

enum { LETTERS = 400 };

static void begin(struct bench *b, struct client *c)
{
    b->server->is_eager = true;
    for (int i = 0; i < LETTERS; i++)
        bench_deliver(b, letter);
    client_start(b, c, SLICE_NONE);
    has(client_do(c, "CREATE Other"), "x OK");
    has(client_do(c, "SELECT INBOX"), "x OK");
}

/* The place of a line that begins so; it has to be there. */
static size_t at(const char *all, const char *text)
{
    const char *p = all;

    while ((p = strstr(p, text)) != NULL && p > all && p[-1] != '\n')
        p++;
    if (p == NULL)
        fail_msg("no \"%s\" in: %.3000s", text, all);
    return (size_t)(p - all);
}

/* Send both lines at once; are their answers in the other order? */
static bool overtakes(struct client *c, const char *slow, const char *quick)
{
    char text[400];
    const char *all;
    bool first;

    (void)snprintf(text, sizeof text, "s %s\r\nq %s\r\nz LOGIN\r\n", slow,
                   quick);
    client_send(c, text);
    all = client_read(c, "z ");
    first = at(all, "q ") < at(all, "s ");
    return first;
}

/* Files are read by threads, which may be slow at times. */
static bool overtakes_once(struct client *c, const char *slow,
                           const char *quick, bool may)
{
    int tries = may ? 50 : 1;

    while (tries-- > 0)
        if (overtakes(c, slow, quick))
            return true;
    return false;
}

static void order(struct bench *b)
{
    static const struct {
        const char *slow, *quick;
        bool may;
    } pairs[] = {
        { "SEARCH TEXT hello", "NOOP", true },
        { "SEARCH TEXT hello", "STATUS Other (MESSAGES)", true },
        { "SEARCH TEXT hello", "FETCH 1 (UID BODY.PEEK[])", true },
        { "UID SEARCH TEXT hello", "UID FETCH 1 ENVELOPE", true },
        { "FETCH 1:* (FLAGS BODY.PEEK[])", "CAPABILITY", true },
        { "FETCH 1:* BODY.PEEK[]", "FETCH 2 FLAGS", true },
        { "FETCH 1:* BODY.PEEK[]", "LIST \"\" *", true },
        { "FETCH 1:* RFC822.HEADER", "STORE 1 FLAGS.SILENT ()", true },
        { "FETCH 1:* BODY[]", "STATUS Other (APPENDLIMIT)", false },
        /* What one changes, the other shows. */
        { "FETCH 1:* (FLAGS BODY.PEEK[])", "STORE 1 FLAGS ()", false },
        { "FETCH 1:* (BODY[])", "FETCH 1 FLAGS", false },
        { "FETCH 1:* (BODY[])", "SEARCH UNSEEN", false },
        { "FETCH 1:* RFC822", "STORE 1 +FLAGS (\\Seen)", false },
        { "SEARCH TEXT hello", "FETCH 1 BODY[]", false },
        { "SEARCH TEXT hello", "STORE 1 +FLAGS (\\Seen)", false },
        { "COPY 1:* Other", "STATUS Other (MESSAGES)", false },
        { "COPY 1:* Other", "NOOP", true },
        { "COPY 1:* Other", "FETCH 1 FLAGS", true },
        /* Those always wait for their turn. */
        { "SEARCH TEXT hello", "EXPUNGE", false },
        { "SEARCH TEXT hello", "CREATE x", false },
        { "SEARCH TEXT hello", "ENABLE CONDSTORE", false },
        { "SEARCH TEXT hello", "FROB", false },
        { "SEARCH TEXT hello", "STATUS {5+}\r\nOther (MESSAGES)", false },
        { "SEARCH TEXT hello", "SELECT INBOX", false },
    };
    struct client c;

    begin(b, &c);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (overtakes_once(&c, pairs[i].slow, pairs[i].quick, pairs[i].may) !=
            pairs[i].may)
            fail_msg("%s, then %s: %s", pairs[i].slow, pairs[i].quick,
                     pairs[i].may ? "waits" : "does not wait");
    client_stop(&c);
}

static void test_order(void **state)
{
    (void)state;
    bench_run("", order);
}

static unsigned expunges(const char *all)
{
    unsigned n = 0;

    for (; (all = strstr(all, " EXPUNGE\r\n")) != NULL; all++)
        n++;
    return n;
}

/* A letter that does not fit into the buffers between us. */
static void deliver_long(struct bench *b)
{
    struct buf big CLEANUP(buf_done) = { 0 };

    buf_init(&big, 4 << 20);
    buf_puts(&big, letter);
    for (int i = 0; i < 20000; i++)
        buf_puts(&big, "a line of a long message\n");
    bench_deliver(b, buf_cstr(&big));
}

/* The view stays as it is while commands run, and moves behind them. */
static void fixed_view(struct bench *b)
{
    struct client one, two;
    const char *all;
    unsigned n;

    begin(b, &one);
    deliver_long(b);
    client_start(b, &two, SLICE_NONE);
    has(client_do(&two, "SELECT INBOX"), "x OK");
    has(client_do(&two, "STORE 1:3 +FLAGS.SILENT (\\Deleted)"), "x OK");
    (void)client_do(&one, "NOOP");
    /* It stays in flight as long as nobody reads. */
    client_send(&one, "s UID FETCH 401 BODY.PEEK[TEXT]\r\n");
    has(client_do(&two, "EXPUNGE"), "x OK");
    bench_deliver(b, letter);
    client_send(&one, "q NOOP\r\nr UID FETCH 5 (UID)\r\nz LOGIN\r\n");
    all = client_read(&one, "z ");
    (void)at(all, "s OK");
    (void)at(all, "q OK");
    has(all, "* 5 FETCH (UID 5)\r\n");
    n = expunges(all);
    if (n > 0 && at(all, "* 5 FETCH") > at(all, "* 1 EXPUNGE"))
        fail_msg("%s", "the view moved beneath a command");
    all = client_do(&one, "NOOP");
    assert_int_equal(n + expunges(all), 3);
    has(client_do(&one, "FETCH 2 UID"), "* 2 FETCH (UID 5)\r\n");
    client_stop(&one);
    client_stop(&two);
}

static void test_fixed_view(void **state)
{
    (void)state;
    bench_run("", fixed_view);
}

/* Literals in pieces stay whole: nothing comes between. */
static void whole_items(struct bench *b)
{
    struct client c;
    struct err err;
    unsigned n_bodies = 0, n_answers = 0;

    begin(b, &c);
    for (int i = 0; i < 5; i++)
        deliver_long(b);
    has(client_do(&c, "NOOP"), "* 405 EXISTS");
    client_send(&c, "a FETCH 390:* BODY.PEEK[]\r\nb FETCH 390:* (BODY.PEEK[] "
                    "UID)\r\nc SEARCH TEXT long\r\nd NOOP\r\ne FETCH 401:* "
                    "RFC822.HEADER\r\nf FETCH 399:* BODY.PEEK[TEXT]\r\n"
                    "g NOOP\r\n");
    while (n_answers < 7) {
        slice line;
        uint64_t n;
        bool plus;

        if (stream_line(c.stream, 60000, &line, &err) < 0)
            fail_msg("%s", err.log);
        if (slice_ends(line, SL("\r\n")))
            line.n -= 2;
        if (imap_line_literal(line, &n, &plus)) {
            char *p CLEANUP(free_ptr) = xmalloc((size_t)n + 1);

            assert_true(slice_starts(line, SL("* ")));
            assert_int_equal(stream_read_exact(c.stream, p, (size_t)n, &err),
                             0);
            assert_null(memmem(p, (size_t)n, " OK ", 4));
            assert_null(memmem(p, (size_t)n, "FETCH", 5));
            n_bodies++;
        } else if (line.n > 4 && line.p[1] == ' ' && line.p[0] != '*') {
            assert_true(slice_starts(slice_from(line, 1), SL(" OK ")));
            n_answers++;
        }
    }
    assert_int_equal(n_bodies, 16 + 16 + 5 + 7);
    client_stop(&c);
}

static void test_whole_items(void **state)
{
    (void)state;
    bench_run("", whole_items);
}

/* Clients that go, and servers that say goodbye, in the midst. */
static void gone(struct bench *b)
{
    struct client c;

    begin(b, &c);
    client_send(&c, "a SEARCH TEXT hello\r\nb FETCH 1:* BODY.PEEK[]\r\n"
                    "c SEARCH TEXT x\r\nd SEARCH TEXT y\r\ne SEARCH TEXT z\r\n"
                    "f NOOP\r\n");
    task_yield();
    task_yield();
    stream_free(&c.stream);
    buf_done(&c.seen);
    while (imap_sessions(b->server) > 0)
        task_yield();
    client_start(b, &c, SLICE_NONE);
    has(client_do(&c, "SELECT INBOX"), "x OK");
    client_send(&c, "a SEARCH TEXT hello\r\nb SEARCH TEXT x\r\n");
    for (int i = 0; i < 5; i++)
        task_yield();
    imap_close_all(b->server, SL("Going away."));
    (void)client_read(&c, "* BYE Going away.");
    stream_free(&c.stream);
    buf_done(&c.seen);
    while (imap_sessions(b->server) > 0)
        task_yield();
}

static void test_gone(void **state)
{
    (void)state;
    bench_run("", gone);
}

static void test_claims(void **state)
{
    (void)state;
    assert_true(imap_claims_clash(IMAP_BESIDE | IMAP_SETS_FLAGS,
                                  IMAP_BESIDE | IMAP_READS_FLAGS));
    assert_true(imap_claims_clash(IMAP_BESIDE | IMAP_READS_BOXES,
                                  IMAP_BESIDE | IMAP_SETS_BOXES));
    assert_true(imap_claims_clash(IMAP_SETS_FLAGS, IMAP_SETS_FLAGS));
    assert_true(imap_claims_clash(IMAP_SETS_BOXES, IMAP_SETS_BOXES));
    assert_false(imap_claims_clash(IMAP_SETS_BOXES, IMAP_READS_FLAGS));
    assert_false(imap_claims_clash(IMAP_BESIDE | IMAP_READS_FLAGS,
                                   IMAP_BESIDE | IMAP_READS_FLAGS));
    assert_false(imap_claims_clash(IMAP_BESIDE, IMAP_BESIDE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims),     cmocka_unit_test(test_order),
        cmocka_unit_test(test_fixed_view), cmocka_unit_test(test_whole_items),
        cmocka_unit_test(test_gone),
    };

    return cmocka_run_group_tests_name("imap-lanes", tests, NULL, NULL);
}
