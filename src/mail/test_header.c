#include "mail/mail.h"

#include "base/test_util.h"

static struct arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = arena_new(1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void put_fields(struct buf *b, slice in, bool keep_junk)
{
    struct mail_header_iter it;
    struct mail_field f;

    mail_header_iter_init(&it, in, keep_junk);
    while (mail_header_next(&it, &f))
        buf_printf(b, "[%.*s|%.*s]", SLF(f.name), SLF(f.value));
    buf_printf(b, "%d@%zu", (int)it.end, mail_header_body(&it));
}

static const struct {
    const char *in;
    bool keep_junk;
    const char *want;
} headers[] = {
    { "A: b\n\nbody", false, "[A|b]1@6" },
    { "A: b\r\n\r\nbody", false, "[A|b]1@8" },
    { "A:b\nC :\td \n\n", false, "[A|b][C|d ]1@12" },
    { "A: b\n c\n\td\nE: f\n\n", false, "[A|b\n c\n\td][E|f]1@17" },
    { "A: b", false, "[A|b]3@4" },
    { "", false, "3@0" },
    { "\nbody", false, "1@1" },
    { "A: b\njunk\nC: d\n\n", false, "[A|b]2@5" },
    { "A: b\njunk\nC: d\n\n", true, "[A|b][|junk][C|d]1@16" },
    { "From x@y Sat\nA: b\n\n", false, "[A|b]1@19" },
    { ">From x@y Sat\nA: b\n\n", false, "[A|b]1@20" },
    { "A B: c\n\n", false, "2@0" },
    { ": c\n\n", false, "2@0" },
    { "A:\n\n", false, "[A|]1@4" },
    { "A: b\n \n\n", false, "[A|b\n ]1@8" },
};

static void test_fields(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 10000);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        buf_clear(&b);
        put_fields(&b, slice_str(headers[i].in), headers[i].keep_junk);
        assert_slice(buf_view(&b), slice_str(headers[i].want));
    }
}

static void test_find(void **state)
{
    slice in = SL("Received: 1\nreceived: 2\nTo: x\nRECEIVED: 3\n\n"
                  "Received: no\n");
    slice v;

    (void)state;
    assert_int_equal(mail_header_hops(in), 3);
    assert_true(mail_header_find(in, "Received", 1, &v));
    assert_slice(v, SL("2"));
    assert_false(mail_header_find(in, "Received", 3, &v));
    assert_false(mail_header_find(in, "Subject", 0, &v));
}

static void test_delivered_to(void **state)
{
    slice in = SL("Delivered-To: a@b\nDelivered-To:  \"c d\"@E\n\n"
                  "Delivered-To: body@x\n");

    (void)state;
    assert_true(mail_header_delivered_to(in, SL("A@B")));
    assert_true(mail_header_delivered_to(in, SL("c d@e")));
    assert_false(mail_header_delivered_to(in, SL("body@x")));
    assert_false(mail_header_delivered_to(in, SL("a")));
}

static void test_unfold(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 100);
    mail_header_unfold(&b, SL("a\n b\r\n\tc\rd\ne"));
    assert_slice(buf_view(&b), SL("a b\tc d e"));
}

static void test_put(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    mail_header_put(&b, "To", SL("a  b"));
    assert_slice(buf_view(&b), SL("To: a b\n"));
    buf_clear(&b);
    mail_header_put(&b, "To",
                    SL("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
                       "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb "
                       "ccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
                       "cccccccccccccccccccccccccccccccc"));
    assert_true(slice_find(buf_view(&b), SL("\n b")) > 0);
    assert_true(slice_find(buf_view(&b), SL("\n c")) > 0);
}

static void test_name(void **state)
{
    (void)state;
    assert_true(mail_header_name_valid(SL("X-A.b_c")));
    assert_false(mail_header_name_valid(SL("")));
    assert_false(mail_header_name_valid(SL("a b")));
    assert_false(mail_header_name_valid(SL("a:")));
    assert_false(mail_header_name_valid(SL("\xC3\xA9")));
}

static void test_head(void **state)
{
    slice whole = SL("A: b\r\nC: d\n\nbody");
    struct mail_head h;

    (void)state;
    for (size_t step = 1; step < whole.n; step++) {
        slice rest = SLICE_NONE;

        mail_head_init(&h, 1000);
        for (size_t at = 0; at < whole.n && !h.done; at += step) {
            rest = slice_sub(whole, at, step);
            mail_head_feed(&h, &rest);
            if (h.done)
                rest = slice_of(rest.p, (size_t)(whole.p + whole.n - rest.p));
        }
        assert_true(h.done && !h.truncated);
        assert_slice(buf_view(&h.bytes), SL("A: b\r\nC: d\n\n"));
        assert_slice(rest, SL("body"));
        mail_head_done(&h);
    }
    mail_head_init(&h, 5);
    mail_head_feed(&h, &whole);
    assert_true(h.done && h.truncated);
    mail_head_done(&h);
}

/* ---- RFC 2047 ---- */

static const struct {
    const char *in, *want;
} words[] = {
    { "plain", "plain" },
    { "=?utf-8?Q?a=C3=A9_b?=", "a\xC3\xA9 b" },
    { "=?UTF-8?B?w6k=?= x", "\xC3\xA9 x" },
    { "=?utf-8?q?a?= =?utf-8?q?b?=", "ab" },
    { "=?utf-8?q?a?=\n =?iso-8859-1?q?=E9?=", "a\xC3\xA9" },
    { "=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c" },
    /* a character cut between two words */
    { "=?utf-8?b?w4M=?= =?utf-8?q?=C3?= =?utf-8?q?=A9?=", "\xC3\x83\xC3\xA9" },
    { "=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "\xE6\x97\xA5\xE6\x9C\xAC" },
    { "=?Shift_JIS?Q?=93=FA=96=7B?=", "\xE6\x97\xA5\xE6\x9C\xAC" },
    { "=?euc-jp?b?xvzL3A==?=", "\xE6\x97\xA5\xE6\x9C\xAC" },
    { "=?no-such-charset?q?x?=", "=?no-such-charset?q?x?=" },
    { "=?utf-8?x?y?=", "=?utf-8?x?y?=" },
    { "=?utf-8?q?open", "=?utf-8?q?open" },
    { "=?utf-8*en?q?lang?=", "lang" },
    { "a=?utf-8?q?b?=c", "abc" },
    { "\xE9", "\xEF\xBF\xBD" },
    { "a\n b", "a b" },
    { "=?utf-8?q?a=0Ab?=", "a b" },
};

static void test_words_decode(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        buf_clear(&b);
        assert_true(mail_words_decode(&b, slice_str(words[i].in)));
        assert_slice(buf_view(&b), slice_str(words[i].want));
    }
}

static void test_words_encode(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 }, back CLEANUP(buf_done) = { 0 };
    char text[400];
    size_t n = 0;
    slice rest, line;

    (void)state;
    buf_init(&b, 10000);
    buf_init(&back, 10000);
    assert_true(mail_words_encode(&b, SL("plain text"), 9));
    assert_slice(buf_view(&b), SL("plain text"));
    while (n + 3 <= sizeof text) {
        memcpy(text + n, "\xE6\x97\xA5", 3);
        n += 3;
    }
    buf_clear(&b);
    assert_true(mail_words_encode(&b, slice_of(text, n), 9));
    assert_true(mail_is_ascii(buf_view(&b)));
    rest = buf_view(&b);
    while (slice_cut(&rest, '\n', &line) || line.n > 0) {
        assert_true(line.n <= 76);
        if (rest.n == 0)
            break;
    }
    assert_true(mail_words_decode(&back, buf_view(&b)));
    assert_slice(buf_view(&back), slice_of(text, n));
}

/* ---- parameters ---- */

static void test_content_type(void **state)
{
    struct mail_value v;
    slice out;

    (void)state;
    assert_true(mail_content_type_parse(
        arena, SL("Text/HTML (c); charset=\"utf-8\" ;x=y;\n z=\"a\\\"b\""),
        &v));
    assert_slice(v.type, SL("Text"));
    assert_slice(v.subtype, SL("HTML"));
    assert_int_equal(v.n_pairs, 3);
    assert_true(mail_value_param(arena, &v, "CHARSET", &out));
    assert_slice(out, SL("utf-8"));
    assert_true(mail_value_param(arena, &v, "z", &out));
    assert_slice(out, SL("a\"b"));
    assert_false(mail_value_param(arena, &v, "none", &out));
    assert_true(mail_content_type_parse(arena, SL("text/plain charset=x"), &v));
    assert_true(v.is_broken && v.type.n == 0 && v.n_pairs == 0);
    assert_true(mail_content_type_parse(arena, SL("text"), &v));
    assert_slice(v.type, SL("text"));
    assert_true(mail_content_type_parse(arena, SL(""), &v));
    assert_true(v.is_broken);
}

static const struct {
    const char *in, *want;
} filenames[] = {
    { "attachment; filename=a.txt", "a.txt" },
    { "attachment; filename*=utf-8''%C3%A9.txt", "\xC3\xA9.txt" },
    { "attachment; filename*=iso-8859-1'fr'%E9.txt", "\xC3\xA9.txt" },
    { "attachment; filename*0=a; filename*1=b; filename*2=c", "abc" },
    { "attachment; filename*1*=%A9; filename*0*=utf-8''%C3", "\xC3\xA9" },
    { "attachment; filename*0*=utf-8''%C3; filename*1=x", "\xEF\xBF\xBDx" },
    { "attachment; filename=\"=?utf-8?q?=C3=A9?=\"", "\xC3\xA9" },
    { "attachment; filename==?utf-8?q?=C3=A9?=", "\xC3\xA9" },
    { "attachment; filename*=utf-8''%zz%4", "%zz%4" },
    { "; filename=x", "x" },
    { "attachment", NULL },
};

static void test_rfc2231(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(filenames); i++) {
        struct mail_value v;
        slice out;
        bool r;

        assert_true(
            mail_disposition_parse(arena, slice_str(filenames[i].in), &v));
        r = mail_value_param(arena, &v, "filename", &out);
        if (r != (filenames[i].want != NULL))
            fail_msg("%s", filenames[i].in);
        if (r)
            assert_slice(out, slice_str(filenames[i].want));
    }
}

/* A header of parameters without end stays small. */
static void test_many_pairs(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct mail_value v;

    (void)state;
    buf_init(&b, 1 << 20);
    buf_puts(&b, "text/plain");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "; p%d=%d", i, i);
    assert_true(mail_content_type_parse(arena, buf_view(&b), &v));
    assert_int_equal(v.n_pairs, MAIL_PAIRS_MAX);
}

/* ---- charsets ---- */

static void test_charsets(void **state)
{
    static const struct {
        const char *charset, *in, *want;
        bool ok;
    } t[] = {
        { "", "a\xC3\xA9", "a\xC3\xA9", true },
        { "us-ascii", "a\xE9z", "a\xEF\xBF\xBDz", true },
        { "ISO-8859-1", "\xE9", "\xC3\xA9", true },
        { "iso-8859-1", "\x93", "\xE2\x80\x9C", true },
        { "windows-1251", "\xCF", "\xD0\x9F", true },
        { "GB2312", "\xD6\xD0", "\xE4\xB8\xAD", true },
        { "ks_c_5601-1987", "\xC7\xD1", "\xED\x95\x9C", true },
        { "iso-2022-jp", "\x1B$BF|\x1B(B", "\xE6\x97\xA5", true },
        { "shift_jis", "\x87\x40", "\xE2\x91\xA0", true },
        { "eucJP-ms", "\xAD\xA1", "\xE2\x91\xA0", true },
        { "unknown-8bit", "x\xFFy", "x\xEF\xBF\xBDy", true },
        { "utf-8", "\xFF\xFE", "\xEF\xBF\xBD", true },
        { "utf-7", "+MMYwuTDI-", "\xE3\x83\x86\xE3\x82\xB9\xE3\x83\x88", true },
        { "x-nope", "a\xC3\xA9\xFF", "a\xC3\xA9\xEF\xBF\xBD", false },
        { "utf-8//TRANSLIT", "a", "a", false },
        { "../../etc/passwd", "a", "a", false },
        { "euc-jp", "\xC6", "\xEF\xBF\xBD", true },
    };
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    mail_charset_setup();
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        buf_clear(&b);
        if (mail_charset_to_utf8(&b, slice_str(t[i].charset),
                                 slice_str(t[i].in)) != t[i].ok)
            fail_msg("%s", t[i].charset);
        assert_slice(buf_view(&b), slice_str(t[i].want));
    }
    assert_true(mail_charset_known(SL("Shift_JIS")));
    assert_false(mail_charset_known(SL("x-nope")));
}

/* More charsets than converters are kept. */
static void test_converter_table(void **state)
{
    char name[32];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 250; i <= 258; i++) {
            (void)snprintf(name, sizeof name, "cp1%d", i);
            assert_true(mail_charset_known(slice_str(name)));
        }
        for (int i = 1; i <= 16; i++) {
            (void)snprintf(name, sizeof name, "iso-8859-%d", i);
            assert_true(mail_charset_known(slice_str(name)) == (i != 12));
            (void)snprintf(name, sizeof name, "iso_8859-%d", i);
            (void)mail_charset_known(slice_str(name));
            (void)snprintf(name, sizeof name, "iso8859-%d", i);
            (void)mail_charset_known(slice_str(name));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_delivered_to),
        cmocka_unit_test(test_unfold),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_words_decode),
        cmocka_unit_test(test_words_encode),
        cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_rfc2231),
        cmocka_unit_test(test_many_pairs),
        cmocka_unit_test(test_charsets),
        cmocka_unit_test(test_converter_table),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
