#include "imap/fetch.h"
#include "imap/test_util.h"

/* FETCH, STORE, EXPUNGE, and what other sessions see of them. */

static const char letter[] = "From: Anna <a@example.net>\n"
                             "Subject: one\n two\n"
                             "To: b@example.org\n"
                             "Mime-Version: 1.0\n"
                             "Content-Type: multipart/mixed; boundary=xx\n"
                             "\n"
                             "Preamble\n"
                             "--xx\n"
                             "\n"
                             "Text.\n"
                             "--xx\n"
                             "Content-Type: message/rfc822\n"
                             "\n"
                             "Subject: inner\n"
                             "\n"
                             "Inner text.\n"
                             "--xx--\n";

static void sections(struct bench *b)
{
    struct client c;
    const char *t;

    bench_deliver(b, letter);
    client_start(b, &c, SLICE_NONE);
    has(client_do(&c, "FETCH 1 FLAGS"), "x BAD Error in IMAP command FETCH: "
                                        "No mailbox selected.");
    (void)client_do(&c, "SELECT INBOX");
    has(client_do(&c, "FETCH 1 FLAGS"), "* 1 FETCH (FLAGS (");
    t = client_do(&c, "FETCH 1 BODY.PEEK[HEADER.FIELDS (subject X-None)]");
    has(t, "* 1 FETCH (BODY[HEADER.FIELDS (subject X-None)] {22}\r\n"
           "Subject: one\r\n two\r\n\r\n)\r\nx OK Fetch completed.\r\n");
    t = client_do(&c, "UID FETCH 1 (BODY.PEEK[2.HEADER] BODY.PEEK[2.TEXT] "
                      "BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[3])");
    has(t, "* 1 FETCH (UID 1 BODY[2.HEADER] {18}\r\nSubject: inner\r\n\r\n"
           " BODY[2.TEXT] {11}\r\nInner text. BODY[1] {5}\r\nText. "
           "BODY[2.MIME] {32}\r\nContent-Type: message/rfc822\r\n\r\n "
           "BODY[3] {0}\r\n)\r\n");
    has(client_do(&c, "FETCH 1 BODY.PEEK[2]<4.5>"),
        "BODY[2]<4> {5}\r\nect: )\r\n");
    has(client_do(&c, "FETCH 1 BODY.PEEK[2]<9.8>"),
        "BODY[2]<9> {8}\r\ninner\r\n\r)\r\n");
    has(client_do(&c, "FETCH 1 BODY.PEEK[2]<900.8>"),
        "BODY[2]<900> {0}\r\n)\r\n");
    t = client_do(&c, "FETCH 1 (RFC822.HEADER RFC822.SIZE INTERNALDATE)");
    has(t, "INTERNALDATE \"14-Nov-2023 22:13:20 +0000\" RFC822.SIZE ");
    has(t, "RFC822.HEADER {");
    has(t, "To: b@example.org\r\n");
    has_not(t, "Preamble");
    has(client_do(&c, "FETCH 1 ALL"),
        "ENVELOPE (NIL {7}\r\none two ((\"Anna\" ");
    t = client_do(&c, "FETCH 1 (BODY BODYSTRUCTURE)");
    has(t, "BODY ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL "
           "\"7bit\" 5 0)(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 29 (NIL "
           "\"inner\" NIL NIL NIL NIL NIL NIL NIL NIL) (\"text\" \"plain\" "
           "(\"charset\" \"us-ascii\") NIL NIL \"7bit\" 11 0) 2) \"mixed\") ");
    has(t, "BODYSTRUCTURE ((");
    t = client_do(&c, "FETCH 1 (EMAILID THREADID SAVEDATE PREVIEW (LAZY))");
    has(t, "* 1 FETCH (EMAILID (");
    has(t, " PREVIEW \"Text.");
    has(client_do(&c, "FETCH 1 BODY[TEXT]"), "BODY[TEXT] {");
    has(client_do(&c, "FETCH 1:* (FLAGS)"), "(FLAGS (\\Seen");
    has(client_do(&c, "FETCH 2 FLAGS"), "x BAD Error in IMAP command FETCH: "
                                        "Invalid messageset.");
    has(client_do(&c, "UID FETCH 7:9 FLAGS"), "x OK Fetch completed.");
    has(client_do(&c, "UID FETCH 9:* FLAGS"), "* 1 FETCH (UID 1 FLAGS");
    static const char *const bad[] = {
        "FETCH 1 BODY[",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[HEADER.FIELDS]",
        "FETCH 1 BODY[]<1",
        "FETCH 1 (FLAGS",
        "FETCH 1 ()",
        "FETCH 1",
        "FETCH x FLAGS",
        "FETCH 1 FROB",
        "FETCH 1 FLAGS (X 1)",
        "FETCH",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        has(client_do(&c, bad[i]), "x BAD ");
    client_stop(&c);
}

static void test_sections(void **state)
{
    (void)state;
    bench_run("", sections);
}

/* A large body in pieces equals the whole. */
static void pieces(struct bench *b)
{
    struct buf text, want, got;
    struct client c;
    char cmd[64];

    buf_init(&text, 1 << 20);
    buf_init(&want, 1 << 20);
    buf_init(&got, 1 << 20);
    buf_puts(&text, "Subject: big\n\n");
    for (unsigned i = 0; i < 4000; i++)
        buf_printf(&text, "%u%.*s\n", i, (int)(i % 71),
                   "-------------------------------------------------------"
                   "-----------------");
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n')
            buf_byte(&want, '\r');
        buf_byte(&want, text.p[i]);
    }
    bench_deliver(b, buf_cstr(&text));
    client_start(b, &c, SLICE_NONE);
    (void)client_do(&c, "SELECT INBOX");
    for (size_t at = 0; at < want.n; at += 7001) {
        const char *t;

        (void)snprintf(cmd, sizeof cmd, "FETCH 1 BODY.PEEK[TEXT]<%zu.7001>",
                       at);
        t = client_do(&c, cmd);
        t = strstr(t, "}\r\n");
        assert_non_null(t);
        buf_put(&got, t + 3, 7001);
    }
    assert_true(got.n >= want.n - 16);
    assert_memory_equal(got.p, want.p + 16, want.n - 16);
    has(client_do(&c, "FETCH 1 BODY[]"), buf_cstr(&want));
    client_stop(&c);
    buf_done(&text);
    buf_done(&want);
    buf_done(&got);
}

static void test_pieces(void **state)
{
    (void)state;
    bench_run("", pieces);
}

static void storing(struct bench *b)
{
    struct client c, d;
    const char *t;

    for (int i = 0; i < 5; i++)
        bench_deliver(b, "Subject: x\n\nx\n");
    client_start(b, &c, SLICE_NONE);
    client_start(b, &d, SLICE_NONE);
    (void)client_do(&c, "SELECT INBOX");
    (void)client_do(&d, "SELECT INBOX (CONDSTORE)");
    t = client_do(&c, "STORE 2:3 +FLAGS (\\Deleted work)");
    has(t, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded "
           "work)\r\n");
    has(t, "* 3 FETCH (FLAGS (\\Deleted ");
    has(t, "x OK Store completed.\r\n");
    t = client_do(&d, "NOOP");
    has(t, "* 2 FETCH (UID 2 MODSEQ (");
    has(t, "FLAGS (\\Deleted work)");
    has(client_do(&c, "STORE 1 -FLAGS.SILENT \\Seen"), "x OK Store completed");
    has_not(client_do(&c, "UID STORE 1 FLAGS.SILENT (\\Seen)"), "FETCH");
    has_not(client_do(&c, "NOOP"), "FETCH"); /* our own */
    has(client_do(&d, "NOOP"), "* 1 FETCH (UID 1 MODSEQ (");
    has(client_do(&d, "STORE 1,4 (UNCHANGEDSINCE 1) +FLAGS (\\Flagged)"),
        "x OK [MODIFIED 1,4] Conditional store failed.");
    has(client_do(&d, "FETCH 1:* (FLAGS) (CHANGEDSINCE 5)"),
        "* 1 FETCH (FLAGS (\\Seen");
    t = client_do(&c, "EXPUNGE");
    has(t, "* 3 EXPUNGE\r\n* 2 EXPUNGE\r\nx OK Expunge completed.\r\n");
    /* The other still counts them: no EXPUNGE may come with FETCH by number. */
    t = client_do(&d, "FETCH 1:* (UID)");
    has_not(t, "EXPUNGE\r\n");
    has(t, "* 3 FETCH (UID 3)\r\n* 4 FETCH (UID 4)\r\n");
    has(client_do(&d, "FETCH 3 BODY[]"), "x NO [EXPUNGEISSUED]");
    has(client_do(&d, "STORE 2 +FLAGS \\Seen"), "x NO [EXPUNGEISSUED]");
    has(client_do(&d, "UID FETCH 4 (FLAGS)"),
        "* 4 FETCH (UID 4 FLAGS ())\r\n* 3 EXPUNGE\r\n* 2 EXPUNGE\r\nx OK");
    has(client_do(&d, "FETCH 2 UID"), "* 2 FETCH (UID 4)\r\n");
    (void)client_do(&d, "STORE 1:3 +FLAGS.SILENT \\Deleted");
    t = client_do(&d, "UID EXPUNGE 5:9");
    has(t, "* 3 EXPUNGE\r\nx OK [HIGHESTMODSEQ ");
    has_not(t, "* 2 EXP");
    (void)client_do(&d, "EXAMINE INBOX");
    has(client_do(&d, "EXPUNGE"), "x NO [READ-ONLY]");
    has(client_do(&d, "STORE 1 FLAGS ()"), "x NO [READ-ONLY]");
    has_not(client_do(&d, "FETCH 2 BODY[]"), "Seen");
    (void)client_do(&c, "CLOSE");
    has(client_do(&c, "SELECT INBOX"), "* 0 EXISTS");
    static const char *const bad[] = {
        "STORE",
        "STORE 1",
        "STORE 1 FLAGS (",
        "STORE 1 FLAGS (\\Bogus)",
        "STORE 1 FLAGS (a) b",
        "STORE 1 XFLAGS (a)",
        "STORE 0 FLAGS ()",
        "STORE 1 (X 1) FLAGS ()",
    };
    bench_deliver(b, "Subject: x\n\nx\n");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        has(client_do(&c, bad[i]), "x BAD ");
    client_stop(&c);
    client_stop(&d);
}

static void test_storing(void **state)
{
    (void)state;
    bench_run("", storing);
}

static void test_structure(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: damaged */
    } t[] = {
        { "\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1 NIL NIL NIL NIL",
          "\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1" },
        { "\"image\" \"x\" (\"a\" {3}\r\n)\"() NIL NIL \"7bit\" 5 NIL (\"x\" "
          "NIL) NIL NIL",
          "\"image\" \"x\" (\"a\" {3}\r\n)\"() NIL NIL \"7bit\" 5" },
        { "(\"text\" \"a\" NIL NIL NIL \"7bit\" 5 1 NIL NIL)(\"b\" \"c\" NIL "
          "NIL NIL \"7bit\" 5 NIL) \"mixed\" (\"boundary\" \"x\") NIL NIL",
          "(\"text\" \"a\" NIL NIL NIL \"7bit\" 5 1)(\"b\" \"c\" NIL NIL NIL "
          "\"7bit\" 5) \"mixed\"" },
        { "(\"text\"", NULL },
        { "((((((((((", NULL },
        { "\"text\" \"plain\" NIL", NULL },
        { ")", NULL },
        { "", NULL },
    };
    struct buf b;

    (void)state;
    buf_init(&b, 10000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        bool ok;

        buf_clear(&b);
        ok = imap_body_of_structure(&b, slice_str(t[i].in));
        assert_int_equal(ok, t[i].out != NULL);
        if (ok)
            assert_slice(buf_view(&b), slice_str(t[i].out));
    }
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_storing),
        cmocka_unit_test(test_structure),
    };

    return cmocka_run_group_tests_name("imap-fetch", tests, NULL, NULL);
}
