#include "imap/test_util.h"

/* SEARCH in its forms, charsets, and what is too much. */

static const char one[] =
    "Date: Fri, 1 Feb 2002 23:30:00 -0800\n"
    "From: =?ISO-8859-1?Q?Andr=E9?= Pirard <PIRARD@vm1.ulg.ac.be>\n"
    "To: tomo@example.org, \"Ana B.\" <ana@example.net>\n"
    "Cc: list@example.org\n"
    "Subject: =?UTF-8?B?5pel5pys6Kqe?= and Caf\303\251\n"
    "Message-ID: <one@example.org>\nX-Thing: some =?UTF-8?Q?W=C3=B6rd?= here\n"
    "MIME-Version: 1.0\n"
    "Content-Type: multipart/mixed; boundary=b\n\n"
    "--b\nContent-Type: text/plain; charset=iso-2022-jp\n\n"
    "\033$BF|K\\\033(B Text\n"
    "--b\nContent-Type: text/html; charset=utf-8\n"
    "Content-Transfer-Encoding: quoted-printable\n\n"
    "Stra=C3=9Fe =\nlang\n"
    "--b\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"
    "aGlkZGVu\n--b--\n";

static const char two[] = "Subject: two\nFrom: b@example.com\n\nplain body\n";

static void searches(struct bench *b)
{
    struct client c;

    client_start(b, &c, SLICE_NONE);
    bench_deliver(b, one);
    bench_deliver(b, two);
    bench_deliver(b, two);
    (void)client_do(&c, "SELECT INBOX");
    (void)client_do(&c, "STORE 2 +FLAGS (\\Seen $Blue)");
#define FINDS(what, want)                                                      \
 has(client_do(&c, "SEARCH " what), "* SEARCH" want "\r\n")
    FINDS("ALL", " 1 2 3");
    FINDS("SEEN", " 2");
    FINDS("UNSEEN", " 1 3");
    FINDS("KEYWORD $Blue", " 2");
    FINDS("UNKEYWORD $blue 2:3", " 3");
    FINDS("KEYWORD nothing", "");
    FINDS("NOT NOT SEEN", " 2");
    FINDS("OR SEEN 3", " 2 3");
    FINDS("OR (SEEN 2) (UID 1 NOT SEEN)", " 1 2");
    FINDS("UID 2:*", " 2 3");
    FINDS("*", " 3");
    FINDS("NEW", " 1 3");
    FINDS("OLD", "");
    FINDS("SUBJECT two", " 2 3");
    FINDS("SUBJECT \"TWO\" 3", " 3");
    FINDS("CHARSET UTF-8 SUBJECT {9+}\r\n\346\227\245\346\234\254\350\252\236",
          " 1");
    FINDS("CHARSET ISO-2022-JP SUBJECT {10+}\r\n\033$BF|K\\\033(B", " 1");
    FINDS("CHARSET Shift_JIS BODY {4+}\r\n\223\372\226\173", " 1");
    FINDS("CHARSET EUC-JP TEXT {4+}\r\n\306\374\313\334", " 1");
    FINDS("CHARSET ISO-8859-1 SUBJECT {4+}\r\nCAF\311", " 1");
    FINDS("SUBJECT {5+}\r\ncafe\314", "");
    FINDS("SUBJECT {6+}\r\ncafe\314\201", " 1");
    FINDS("FROM andr\303\251", " 1");
    FINDS("FROM pirard@vm1", " 1");
    FINDS("TO \"ana b. <ana@\"", " 1");
    FINDS("CC list", " 1");
    FINDS("BCC list", "");
    FINDS("BODY \"STRASSE LANG\"", " 1");
    FINDS("BODY hidden", "");
    FINDS("BODY two", "");
    FINDS("TEXT two", " 2 3");
    FINDS("BODY \"plain body\"", " 2 3");
    FINDS("HEADER X-Thing w\303\266RD", " 1");
    FINDS("HEADER X-Thing \"\"", " 1");
    FINDS("HEADER Message-ID one@EXAMPLE", " 1");
    FINDS("HEADER Subject \"\"", " 1 2 3");
    FINDS("SENTON 1-Feb-2002", " 1");
    FINDS("SENTBEFORE 1-Feb-2002", "");
    FINDS("SENTSINCE \"1-Feb-2002\"", " 1");
    FINDS("SINCE 1-Jan-2000", " 1 2 3");
    FINDS("BEFORE 1-Jan-2000", "");
    FINDS("LARGER 400", " 1");
    FINDS("SMALLER 400", " 2 3");
    FINDS("YOUNGER 1000", "");
    FINDS("OLDER 1000", " 1 2 3");
    has(client_do(&c, "UID SEARCH 3"), "* SEARCH 3\r\n");
    has(client_do(&c, "SEARCH RETURN (MIN MAX COUNT ALL) ALL"),
        "* ESEARCH (TAG \"x\") MIN 1 MAX 3 ALL 1:3 COUNT 3\r\n");
    has(client_do(&c, "UID SEARCH RETURN () SEEN"),
        "* ESEARCH (TAG \"x\") UID ALL 2\r\n");
    has(client_do(&c, "SEARCH RETURN (COUNT MIN) FLAGGED"),
        "* ESEARCH (TAG \"x\") COUNT 0\r\n");
    has(client_do(&c, "SEARCH MODSEQ 1"), "* SEARCH 1 2 3 (MODSEQ ");
    has(client_do(&c, "SEARCH MODSEQ \"/flags/\\\\draft\" all 1 2"),
        "* SEARCH 2 (MODSEQ ");
    client_stop(&c);
#undef FINDS
}

static void test_searches(void **state)
{
    (void)state;
    bench_run("", searches);
}

static void refusals(struct bench *b)
{
    static const char *const bad[] = {
        "SEARCH",
        "SEARCH ",
        "SEARCH FROB",
        "SEARCH (",
        "SEARCH (SEEN",
        "SEARCH SEEN)",
        "SEARCH OR SEEN",
        "SEARCH NOT",
        "SEARCH SUBJECT",
        "SEARCH BEFORE 32-Jan-2000",
        "SEARCH LARGER x",
        "SEARCH RETURN (FROB) ALL",
        "SEARCH RETURN (ALL)",
        "SEARCH 0",
        "SEARCH UID x",
        "SEARCH CHARSET",
    };
    struct client c;
    struct buf deep;

    client_start(b, &c, SLICE_NONE);
    bench_deliver(b, two);
    (void)client_do(&c, "SELECT INBOX");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        has(client_do(&c, bad[i]), "x BAD ");
        has(client_do(&c, "NOOP"), "x OK ");
    }
    has(client_do(&c, "SEARCH CHARSET frob ALL"), "x NO [BADCHARSET (UTF-8 ");
    buf_init(&deep, 100000);
    (void)buf_puts(&deep, "SEARCH ");
    for (int i = 0; i < 20000; i++)
        (void)buf_puts(&deep, "(");
    has(client_do(&c, buf_cstr(&deep)), "x BAD ");
    buf_clear(&deep);
    (void)buf_puts(&deep, "SEARCH ");
    for (int i = 0; i < 10000; i++)
        (void)buf_puts(&deep, "NOT ");
    (void)buf_puts(&deep, "ALL");
    has(client_do(&c, buf_cstr(&deep)), "x BAD ");
    buf_clear(&deep);
    (void)buf_puts(&deep, "SEARCH");
    for (int i = 0; i < 9000; i++)
        (void)buf_puts(&deep, " SEEN");
    has(client_do(&c, buf_cstr(&deep)), "* SEARCH\r\n");
    buf_done(&deep);
    client_stop(&c);
}

static void test_refusals(void **state)
{
    (void)state;
    bench_run("", refusals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_searches),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
