#include "mail/mail.h"

#include "base/test_util.h"

#define PLAIN       "\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" "
#define NO_ENVELOPE "NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL"

/* What Debian's Dovecot 2.3.19 answers to FETCH BODYSTRUCTURE. */
static const struct {
    const char *in, *want;
} structures[] = {
    { "", PLAIN "0 0 NIL NIL NIL NIL" },
    { "\nx\n", PLAIN "3 1 NIL NIL NIL NIL" },
    { "Content-Type: text/html\n\nx", "\"text\" \"html\" (\"charset\" "
                                      "\"us-ascii\") NIL NIL \"7bit\" 1 0 "
                                      "NIL NIL NIL NIL" },
    { "Content-Type: TEXT/PLAIN; charset=US-ASCII\n\nx\r\n",
      PLAIN "3 1 NIL NIL NIL NIL" },
    { "Content-Transfer-Encoding: 8bit\n\nx\n", PLAIN "3 1 NIL NIL NIL NIL" },
    { "MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nx\n",
      "\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"8bit\" 3 1 "
      "NIL NIL NIL NIL" },
    { "Content-Type: text/html x\n\nx\n",
      "\"\" \"\" NIL NIL NIL \"7bit\" 3 NIL NIL NIL NIL" },
    { "Content-Type: multipart\n\nx\n",
      "\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 3 NIL NIL NIL "
      "NIL" },
    { "Content-Type: text/html; title*1=x; title*0=y; a=b\n\nx\n",
      "\"text\" \"html\" (\"a\" \"b\" \"title\" \"yx\" \"charset\" "
      "\"us-ascii\") NIL NIL \"7bit\" 3 1 NIL NIL NIL NIL" },
    { "Content-Type: text/html; a*0=x; a*1*=y%41\n\nx\n",
      "\"text\" \"html\" (\"a*\" \"''xy%41\" \"charset\" \"us-ascii\") NIL "
      "NIL \"7bit\" 3 1 NIL NIL NIL NIL" },
    { "Content-Type: text/html; a*0=x;a*2=y\n\nx\n",
      "\"text\" \"html\" (\"a*0\" \"x\" \"a*2\" \"y\" \"charset\" "
      "\"us-ascii\") NIL NIL \"7bit\" 3 1 NIL NIL NIL NIL" },
    { "Content-Type: image/png\nContent-ID: <i>\nContent-MD5: m\n"
      "Content-Description: d\nContent-Transfer-Encoding: base64\n"
      "Content-Disposition: attachment; filename=\"a b\"\n"
      "Content-Language: en, de\nContent-Location: l\n\nx\n",
      "\"image\" \"png\" NIL \"<i>\" \"d\" \"base64\" 3 \"m\" (\"attachment\" "
      "(\"filename\" \"a b\")) (\"en\" \"de\") \"l\"" },
    { "Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\nx\n--b\n"
      "Content-Type: text/html\n\ny\n--b--\nepi\n",
      "(" PLAIN "1 0 NIL NIL NIL NIL)(\"text\" \"html\" (\"charset\" "
      "\"us-ascii\") NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL) \"mixed\" "
      "(\"boundary\" \"b\") NIL NIL NIL" },
    { "Content-Type: multipart/mixed\n\nx\n",
      "(" PLAIN "0 0 NIL NIL NIL NIL) \"mixed\" NIL NIL NIL NIL" },
    { "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: s\n\nx\n"
      "--b--\n",
      "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 15 (NIL \"s\" NIL NIL NIL "
      "NIL NIL NIL NIL NIL) (" PLAIN "1 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "
      "\"digest\" (\"boundary\" \"b\") NIL NIL NIL" },
    { "Content-Type: message/rfc822\n\nFrom: a@b\n\nx\n",
      "\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL NIL ((NIL NIL "
      "\"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) NIL NIL "
      "NIL NIL NIL) (" PLAIN "3 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL" },
    /* a part without end, a boundary inside a header, an inner one that
     * begins like the outer one */
    { "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n",
      "(" PLAIN "3 1 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL "
      "NIL" },
    { "Content-Type: multipart/mixed; boundary=b\n\n--b\nX: y\n--b--\n",
      "(" PLAIN "0 0 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL "
      "NIL" },
    { "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
      "Content-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--bb--\n--b--\n",
      "((" PLAIN "1 0 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"bb\") NIL NIL "
      "NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL" },
    { "Content-Type: message/rfc822\n",
      "\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 0 (" NO_ENVELOPE ") (" PLAIN
      "0 0 NIL NIL NIL NIL) 0 NIL NIL NIL NIL" },
};

/* Fed whole, and by each step: the string must be the same. */
static void assert_structure(slice in, slice want)
{
    for (size_t step = 1; step <= in.n + 1; step++) {
        struct arena *a = arena_new(1 << 20);
        struct mail_mime *m = mail_mime_new(a);
        struct buf b CLEANUP(buf_done) = { 0 };

        buf_init(&b, 10000);
        for (size_t at = 0; at < in.n; at += step)
            mail_mime_feed(m, slice_sub(in, at, step));
        assert_true(mail_imap_bodystructure(&b, mail_mime_finish(m)));
        if (!slice_eq(buf_view(&b), want))
            fail_msg("%.*s\nby %zu gave %.*s\nwant %.*s", SLF(in), step,
                     (int)b.n, b.p, SLF(want));
        arena_free(&a);
    }
}

static void test_structures(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(structures); i++)
        assert_structure(slice_str(structures[i].in),
                         slice_str(structures[i].want));
}

static const struct {
    const char *in, *want;
} envelopes[] = {
    { "", NO_ENVELOPE },
    { "Date: d\nSubject: s\nFrom: F <a@b>\nTo: c@d\nCc: e@f\nBcc: g@h\n"
      "In-Reply-To: <i>\nMessage-ID: <m>\n\n",
      "\"d\" \"s\" ((\"F\" NIL \"a\" \"b\")) ((\"F\" NIL \"a\" \"b\")) ((\"F\" "
      "NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) ((NIL NIL \"e\" \"f\")) ((NIL "
      "NIL \"g\" \"h\")) \"<i>\" \"<m>\"" },
    { "From: a@b\nSender: c@d\nReply-To: e@f\n\n",
      "NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) ((NIL NIL "
      "\"e\" \"f\")) NIL NIL NIL NIL NIL" },
    { "From: a@b\nSender:\n\n",
      "NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL "
      "\"a\" \"b\")) NIL NIL NIL NIL NIL" },
    { "To: a@b\nTo: c@d\nSubject: 1\nSubject: 2\n\n",
      "NIL \"2\" NIL NIL NIL ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) NIL "
      "NIL NIL NIL" },
    { "To: g: a@b;\n\n", "NIL NIL NIL NIL NIL ((NIL NIL \"g\" NIL)(NIL NIL "
                         "\"a\" \"b\")(NIL NIL NIL NIL)) NIL NIL NIL NIL" },
    { "Subject: a\n  b \"c\"\nMessage-ID: <a\n\t\"b>\n\n",
      "NIL {7}\r\na b \"c\" NIL NIL NIL NIL NIL NIL NIL \"<a\t\\\"b>\"" },
    { "Subject: \xC3\xA9\nDate: \xE9\n\n",
      "{1}\r\n\xE9 {2}\r\n\xC3\xA9 NIL NIL NIL NIL NIL NIL NIL NIL" },
};

static void test_envelopes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(envelopes); i++) {
        struct arena *a = arena_new(1 << 20);
        struct buf b CLEANUP(buf_done) = { 0 };

        buf_init(&b, 10000);
        assert_true(mail_imap_envelope(
            &b, mail_mime_parse(a, slice_str(envelopes[i].in))));
        assert_slice(buf_view(&b), slice_str(envelopes[i].want));
        arena_free(&a);
    }
}

static void test_sizes(void **state)
{
    struct arena *a = arena_new(1 << 20);
    const struct mail_part *root, *p;
    slice in = SL("Content-Type: multipart/mixed; boundary=b\n"
                  "\n"
                  "--b\n"
                  "A: b\n"
                  "\n"
                  "one\n"
                  "two\n"
                  "--b\r\n"
                  "\r\n"
                  "x\r\n"
                  "--b--\n");

    (void)state;
    root = mail_mime_parse(a, in);
    assert_int_equal(root->header.stored + root->body.stored, in.n);
    assert_int_equal(mail_part_virtual_size(root), in.n + 8);
    assert_int_equal(root->header.lines + root->body.lines, 11);
    p = mail_part_find(root, SL("1"));
    assert_non_null(p);
    assert_slice(slice_sub(in, p->offset, p->header.stored), SL("A: b\n\n"));
    assert_slice(slice_sub(in, p->offset + p->header.stored, p->body.stored),
                 SL("one\ntwo"));
    assert_int_equal(p->body.crlf, 8);
    assert_int_equal(p->body.lines, 1);
    p = mail_part_find(root, SL("2"));
    assert_int_equal(p->body.stored, 1);
    assert_null(mail_part_find(root, SL("3")));
    assert_null(mail_part_find(root, SL("0")));
    assert_null(mail_part_find(root, SL("1.1")));
    assert_null(mail_part_find(root, SL("x")));
    assert_ptr_equal(mail_part_find(root, SL("")), root);
    arena_free(&a);
}

static void test_sections(void **state)
{
    struct arena *a = arena_new(1 << 20);
    const struct mail_part *root;

    (void)state;
    root = mail_mime_parse(
        a, SL("Content-Type: multipart/mixed; boundary=b\n\n--b\n"
              "Content-Type: message/rfc822\n\n"
              "Content-Type: multipart/mixed; boundary=c\n\n--c\n\nx\n--c\n"
              "Content-Type: text/html\n\ny\n--c--\n--b\n"
              "Content-Type: message/rfc822\n\nSubject: s\n\nz\n--b--\n"));
    assert_true(mail_part_find(root, SL("1"))->is_message);
    assert_true(
        slice_eqs(mail_part_find(root, SL("1.2"))->type.subtype, "html"));
    assert_int_equal(mail_part_find(root, SL("2.1"))->body.stored, 1);
    assert_null(mail_part_find(root, SL("2.2")));
    assert_null(mail_part_find(root, SL("2.1.1")));
    root = mail_mime_parse(a, SL("\nx"));
    assert_ptr_equal(mail_part_find(root, SL("1")), root);
    assert_null(mail_part_find(root, SL("1.1")));
    arena_free(&a);
}

static size_t depth_of(const struct mail_part *p)
{
    size_t n = 0;

    for (; p->child != NULL; p = p->child)
        n++;
    return n;
}

/* Invariant 1: bombs stay small. */
static void test_limits(void **state)
{
    struct arena *a = arena_new(64u << 20);
    struct buf in CLEANUP(buf_done) = { 0 }, out CLEANUP(buf_done) = { 0 };
    const struct mail_part *root;

    (void)state;
    buf_init(&in, 4u << 20);
    buf_init(&out, 8u << 20);
    for (int i = 0; i < 1000; i++)
        buf_puts(&in, "Content-Type: message/rfc822\n\n");
    root = mail_mime_parse(a, buf_view(&in));
    assert_int_equal(depth_of(root), MAIL_MIME_DEPTH - 1);
    assert_true(mail_imap_bodystructure(&out, root));

    buf_clear(&in);
    buf_clear(&out);
    for (int i = 0; i < 300; i++)
        buf_printf(&in,
                   "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i,
                   i);
    root = mail_mime_parse(a, buf_view(&in));
    assert_int_equal(depth_of(root), MAIL_MIME_DEPTH - 1);
    assert_true(mail_imap_bodystructure(&out, root));
    assert_true(slice_find(buf_view(&out), SL("\"application\" "
                                              "\"octet-stream\"")) > 0);

    buf_clear(&in);
    buf_puts(&in, "Content-Type: multipart/mixed; boundary=b\n\n");
    for (int i = 0; i < 20000; i++)
        buf_puts(&in, "--b\n\nx\n");
    root = mail_mime_parse(a, buf_view(&in));
    assert_int_equal(root->n_children, MAIL_MIME_PARTS - 1);
    assert_int_equal(root->header.stored + root->body.stored, in.n);
    arena_free(&a);

    /* Invariant 3: in an arena too small the message is still measured. */
    a = arena_new(16384);
    root = mail_mime_parse(a, buf_view(&in));
    assert_true(root->truncated);
    assert_int_equal(root->header.stored + root->body.stored, in.n);
    arena_free(&a);
}

static void test_bodies(void **state)
{
    static const struct {
        const char *encoding, *in, *want;
    } t[] = {
        { "base64", "aGVs\nbG8=\n", "hello" },
        { "BASE64", "aGVs*bG8", "hello" },
        { "base64", "aA==aA==", "hh" },
        { "base64", "a", "" },
        { "quoted-printable", "a=3Db=\nc =E9\n", "a=bc \xE9\n" },
        { "quoted-printable", "a=\r\nb", "ab" },
        { "quoted-printable", "a= \t\nb", "ab" },
        { "quoted-printable", "a=zzb=4", "a=zzb=4" },
        { "quoted-printable", "a=", "a" },
        { "7bit", "a=3D", "a=3D" },
        { "", "x", "x" },
    };
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        buf_clear(&b);
        assert_true(
            mail_decode_body(&b, slice_str(t[i].encoding), slice_str(t[i].in)));
        assert_slice(buf_view(&b), slice_str(t[i].want));
    }
}

static const struct {
    const char *in, *want;
} previews[] = {
    { "\nHello,\n\n  world\n", "Hello, world" },
    { "\n> quoted\nanswer\n> more\n", "answer" },
    { "\n> only\n> quotes\n", "> only > quotes" },
    { "\n", "" },
    { "Content-Type: text/html\n\n<html><style>x</style><p>A&amp;B "
      "<b>c</b>d<br>e&#233;<!-- no --><blockquote>old</blockquote></html>",
      "A&B cd e\xC3\xA9" },
    { "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1B$BF|\x1B(B\n",
      "\xE6\x97\xA5" },
    { "Content-Type: text/plain; charset=utf-8\n"
      "Content-Transfer-Encoding: base64\n\nw6k=\n",
      "\xC3\xA9" },
    { "Content-Type: multipart/alternative; boundary=b\n\n--b\n"
      "Content-Type: text/html\n\n<p>h\n--b\nContent-Type: text/plain\n\np\n"
      "--b--\n",
      "p" },
    { "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
      "Content-Type: image/png\n\nx\n--b\nContent-Type: text/plain\n\nt\n"
      "--b--\n",
      "t" },
    { "Content-Type: image/png\n\nx\n", "" },
    { "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
      "Content-Type: image/png\n\nx\n--b--\n",
      "" },
    { "Content-Type: text/html\n\n<", "<" },
    { "Content-Type: text/html\n\n<!--", "" },
    { "Content-Type: text/html\n\n<script>", "" },
    { "Content-Type: text/html\n\na<3 &nope; &#xZ; &#0;", NULL },
};

static void test_previews(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(previews); i++) {
        struct arena *a = arena_new(1 << 20);
        slice in = slice_str(previews[i].in);
        struct buf b CLEANUP(buf_done) = { 0 };

        buf_init(&b, 4000);
        assert_true(mail_preview(&b, mail_mime_parse(a, in), in));
        if (previews[i].want != NULL)
            assert_slice(buf_view(&b), slice_str(previews[i].want));
        assert_true(mail_utf8_valid(buf_view(&b)));
        arena_free(&a);
    }
}

static void test_preview_length(void **state)
{
    struct arena *a = arena_new(1 << 20);
    struct buf in CLEANUP(buf_done) = { 0 }, b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&in, 1 << 20);
    buf_init(&b, 4000);
    buf_puts(&in, "Content-Type: text/plain; charset=utf-8\n\n");
    for (int i = 0; i < 1000; i++)
        buf_puts(&in, "\xE6\x97\xA5");
    assert_true(
        mail_preview(&b, mail_mime_parse(a, buf_view(&in)), buf_view(&in)));
    assert_int_equal(b.n, 3 * MAIL_PREVIEW_CHARS);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structures),
        cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_previews),
        cmocka_unit_test(test_preview_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
