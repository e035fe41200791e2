#include "mail/mail.h"

#include "base/test_util.h"

/* One row of doc/message-bytes.md. */
static const struct row {
    const char *name;
    const char *in;
    const char *want; /* NULL: no end in it */
    const char *rest;
    bool bare_lf, bare_cr;
} rows[] = {
    { "plain", "a\r\nb\r\n.\r\nQUIT\r\n", "a\nb\n", "QUIT\r\n", false, false },
    { "empty", ".\r\n", "", "", false, false },
    { "blank", "\r\n.\r\n", "\n", "", false, false },
    { "stuffed", "..\r\n..a\r\n.b\r\n.\r\n", ".\n.a\nb\n", "", false, false },
    { "lone lf ends a line", "a\nb\r\n.\r\n", "a\nb\n", "", true, false },
    { "lf . lf is no end", "a\n.\nb\r\n.\r\n", "a\n.\nb\n", "", true, false },
    { "lf . crlf is no end", "a\n.\r\nb\r\n.\r\n", "a\n.\nb\n", "", true,
      false },
    { "crlf . lf is no end", "a\r\n.\nb\r\n.\r\n", "a\n.\nb\n", "", true,
      false },
    { "crlf . cr is no end", "a\r\n.\rb\r\n.\r\n", "a\n\rb\n", "", false,
      true },
    { "cr . cr is no end", "a\r.\rb\r\n.\r\n", "a\r.\rb\n", "", false, true },
    { "crlf . crcrlf is no end", "a\r\n.\r\r\nb\r\n.\r\n", "a\n.\nb\n", "",
      false, true },
    { "lf .. lf is unstuffed", "a\n..\nb\r\n.\r\n", "a\n.\nb\n", "", true,
      false },
    { "bare cr stays", "a\rb\r\n.\r\n", "a\rb\n", "", false, true },
    { "crcrlf is one end", "a\r\r\nb\r\n.\r\n", "a\nb\n", "", false, true },
    { "crcr . crlf", "a\r\r\n.\r\n", "a\n", "", false, true },
    { "unended", "a\r\n.\r", NULL, "", false, false },
    { "smuggled", "a\r\n\n.\r\nMAIL\r\n.\r\n", "a\n\n.\nMAIL\n", "", true,
      false },
    { "8-bit", "\xE9\r\n.\r\n", "\xE9\n", "", false, false },
};

static void feed(struct mail_dot *d, slice *in, struct buf *out, size_t step)
{
    while (in->n > 0 && !d->done) {
        slice piece = slice_sub(*in, 0, step);
        size_t n = piece.n, before = out->n;

        mail_dot_feed(d, &piece, out);
        assert_true(d->done || piece.n == 0);
        assert_true(out->n - before <= n - piece.n + MAIL_DOT_SLACK);
        *in = slice_from(*in, n - piece.n);
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        slice whole = slice_str(rows[i].in);

        for (size_t step = 1; step <= whole.n; step++) {
            struct mail_dot_options opt = { .stuffed = true };
            struct buf out CLEANUP(buf_done) = { 0 };
            struct mail_dot d;
            slice in = whole;

            buf_init(&out, 1000);
            mail_dot_init(&d, &opt);
            feed(&d, &in, &out, step);
            if (d.done != (rows[i].want != NULL))
                fail_msg("%s by %zu: done %d", rows[i].name, step, d.done);
            if (!d.done)
                continue;
            if (!slice_eqs(buf_view(&out), rows[i].want))
                fail_msg("%s by %zu: %.*s", rows[i].name, step, (int)out.n,
                         out.p);
            assert_slice(in, slice_str(rows[i].rest));
            assert_int_equal(d.saw_bare_lf, rows[i].bare_lf);
            assert_int_equal(d.saw_bare_cr, rows[i].bare_cr);
            assert_int_equal(d.n_out, out.n);
        }
    }
}

static void run(struct mail_dot *d, const struct mail_dot_options *opt,
                slice in, struct buf *out)
{
    buf_clear(out);
    mail_dot_init(d, opt);
    mail_dot_feed(d, &in, out);
    if (!d->done)
        mail_dot_finish(d, out);
}

static void test_options(void **state)
{
    struct buf out CLEANUP(buf_done) = { 0 };
    uint8_t nul[32], all[32];
    struct mail_dot d;
    struct mail_dot_options opt = { .stuffed = false };

    (void)state;
    buf_init(&out, 1000);
    run(&d, &opt, SL("a\r\n.\r\nno end"), &out);
    assert_slice(buf_view(&out), SL("a\n.\nno end\n"));
    assert_int_equal(d.n_lines, 3);
    run(&d, &opt, SL("a\0b\n"), &out);
    assert_slice(buf_view(&out), SL("a\0b\n"));
    assert_true(d.saw_nul && !d.saw_8bit);
    run(&d, &opt, SL("a\r"), &out);
    assert_slice(buf_view(&out), SL("a\r\n"));
    run(&d, &opt, SL(""), &out);
    assert_int_equal(out.n, 0);

    opt.stray_cr_to_space = true;
    run(&d, &opt, SL("a\rb\r\n"), &out);
    assert_slice(buf_view(&out), SL("a b\n"));

    assert_true(mail_byte_set_parse(SL("\\0\\x"), nul) == false);
    assert_true(mail_byte_set_parse(SL("\\0\\177\\r"), nul));
    opt.stray_cr_to_space = false;
    opt.strip = nul;
    run(&d, &opt,
        SL("a\0b\x7F"
           "c\rd\n"),
        &out);
    assert_slice(buf_view(&out), SL("abcd\n"));

    assert_true(mail_byte_set_parse(SL("q"), all));
    opt.strip = NULL;
    opt.reject = all;
    run(&d, &opt, SL("ab\n"), &out);
    assert_false(d.saw_rejected);
    run(&d, &opt, SL("aqb\n"), &out);
    assert_true(d.saw_rejected);

    opt = (struct mail_dot_options){ .stuffed = true,
                                     .bare_lf = MAIL_BARE_LF_REJECT };
    run(&d, &opt, SL("a\nb\r\n.\r\n"), &out);
    assert_true(d.done && d.is_bad);
    run(&d, &opt, SL("a\r\nb\r\n.\r\n"), &out);
    assert_true(d.done && !d.is_bad);
}

static void test_from_line(void **state)
{
    static const struct {
        const char *in, *keep, *rename, *drop;
    } t[] = {
        { "From x Sat\nA: b\n", "From x Sat\nA: b\n",
          "Mailbox-Line: From x Sat\nA: b\n", "A: b\n" },
        { ">From x\r\nA: b\n", ">From x\nA: b\n",
          "Mailbox-Line: >From x\nA: b\n", "A: b\n" },
        { "From: x\n", "From: x\n", "From: x\n", "From: x\n" },
        { "From\n", "From\n", "From\n", "From\n" },
        { "Fro", "Fro\n", "Fro\n", "Fro\n" },
        { "F", "F\n", "F\n", "F\n" },
        { "A: b\nFrom x\n", "A: b\nFrom x\n", "A: b\nFrom x\n",
          "A: b\nFrom x\n" },
        { "From a\nFrom b\nC: d\n", "From a\nFrom b\nC: d\n",
          "Mailbox-Line: From a\nFrom b\nC: d\n", "C: d\n" },
        { " x\n", "\n x\n", "\n x\n", "\n x\n" },
        { "\n x\n", "\n x\n", "\n x\n", "\n x\n" },
        { "From only", "From only\n", "Mailbox-Line: From only\n", "" },
    };
    struct buf out CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&out, 1000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct mail_dot_options opt = { .from_line = MAIL_FROM_KEEP };
        struct mail_dot d;

        run(&d, &opt, slice_str(t[i].in), &out);
        assert_slice(buf_view(&out), slice_str(t[i].keep));
        opt.from_line = MAIL_FROM_RENAME;
        run(&d, &opt, slice_str(t[i].in), &out);
        assert_slice(buf_view(&out), slice_str(t[i].rename));
        opt.from_line = MAIL_FROM_DROP;
        run(&d, &opt, slice_str(t[i].in), &out);
        assert_slice(buf_view(&out), slice_str(t[i].drop));
        assert_int_equal(d.n_out, out.n);
    }
}

static void test_stuff(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    bool start = true;

    (void)state;
    buf_init(&b, 1000);
    mail_dot_stuff(&b, SL(".a\nb"), true, &start);
    mail_dot_stuff(&b, SL(".c\n"), true, &start);
    mail_dot_stuff(&b, SL(".\n"), true, &start);
    assert_true(start);
    assert_slice(buf_view(&b), SL("..a\r\nb.c\r\n..\r\n"));
    buf_clear(&b);
    mail_dot_stuff(&b, SL(".\n"), false, &start);
    assert_slice(buf_view(&b), SL(".\r\n"));
}

/* ---- queue ids and dates ---- */

static void test_queue_ids(void **state)
{
    char id[MAIL_QUEUE_ID_SIZE], before[MAIL_QUEUE_ID_SIZE];
    int64_t sec;
    uint32_t usec;
    uint64_t number;

    (void)state;
    mail_queue_id_format(1700000000, 123456, 987654, id);
    assert_true(mail_queue_id_valid(slice_str(id)));
    assert_true(mail_queue_id_parse(slice_str(id), &sec, &usec, &number));
    assert_true(sec == 1700000000 && usec == 123456 && number == 987654);
    assert_int_equal(id[10], 'z');
    memcpy(before, id, sizeof id);
    mail_queue_id_format(1700000000, 123457, 0, id);
    assert_true(strcmp(before, id) < 0);
    mail_queue_id_format(0, 0, UINT64_MAX, id);
    assert_true(mail_queue_id_parse(slice_str(id), &sec, &usec, &number));
    assert_true(number == UINT64_MAX);
    mail_queue_id_format(INT64_MAX, 999999, UINT64_MAX, id);
    assert_true(mail_queue_id_parse(slice_str(id), &sec, &usec, &number));
    assert_true(sec == INT64_MAX);
    /* one that Postfix made */
    assert_true(
        mail_queue_id_parse(SL("3Pt2mN2VXxznjll"), &sec, &usec, &number));
    assert_false(mail_queue_id_valid(SL("3Pt2mN2VXx")));
    assert_false(mail_queue_id_valid(SL("ABCDEF0123")));
    assert_false(mail_queue_id_valid(SL("3Pt2mN2VXxz")));
    assert_false(mail_queue_id_valid(SL("")));
    assert_false(mail_queue_id_valid(SL("../../../etcz0")));
    assert_false(mail_queue_id_valid(SL("3Pt2mNzzzzz1"))); /* usec too big */
}

static void test_dates(void **state)
{
    static const struct {
        const char *in;
        int64_t sec;
        int zone;
        bool ok;
    } t[] = {
        { "Sat, 21 Nov 2026 18:05:35 +0000", 1795284335, 0, true },
        { "21 Nov 2026 18:05:35 +0900", 1795251935, 540, true },
        { "Sat, 21 Nov 2026 18:05 -0130", 1795289700, -90, true },
        { "Wrong, 21 Nov 2026 18:05:35 GMT", 1795284335, 0, true },
        { "Sat 21 Nov 26 18:05:35 EST", 1795302335, -300, true },
        { "Sat, 21 Nov 126 18:05:35 UT", 1795284335, 0, true },
        { "Fri, 21 Nov 97 09(comment):   55  :  06 -0600", 880127706, -360,
          true },
        { "Sat, 21 Nov 2026 18:05:35", 1795284335, 0, true },
        { "Sat, 21 Nov 2026 18:05:35 XYZ", 1795284335, 0, true },
        { "Sat, 21 Nov 2026 18:05:35 +0000 (UTC) junk", 1795284335, 0, true },
        { "  Sat,\r\n 21 Nov 2026 18:05:35 +0000", 1795284335, 0, true },
        { "Sat, 21 November 2026 18:05:35 +0000", 1795284335, 0, true },
        { "21-Nov-2026 18:05:35 +0000", 1795284335, 0, true },
        { "Thu, 1 Jan 1970 00:00:00 +0000", 0, 0, true },
        { "", 0, 0, false },
        { "yesterday", 0, 0, false },
        { "Sat, 32 Nov 2026 18:05:35 +0000", 0, 0, false },
        { "Sat, 21 Foo 2026 18:05:35 +0000", 0, 0, false },
        { "Sat, 21 Nov 2026 25:05:35 +0000", 0, 0, false },
        { "Sat, 21 Nov 2026", 0, 0, false },
        { "Sat, 21 Nov 2026 18:05:35 +9999", 1795284335, 0, true },
        { "2026-11-21T18:05:35Z", 0, 0, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        int64_t sec = 0;
        int zone = 0;
        bool r = mail_date_parse(slice_str(t[i].in), &sec, &zone);

        if (r != t[i].ok || (r && (sec != t[i].sec || zone != t[i].zone)))
            fail_msg("%s: %d %lld %d", t[i].in, r, (long long)sec, zone);
    }
}

static void test_date_format(void **state)
{
    char out[40];
    int64_t sec;
    int zone;
    struct civil when;

    (void)state;
    mail_date_format(1795284335, 540, out);
    assert_string_equal(out, "Sun, 22 Nov 2026 03:05:35 +0900");
    assert_true(mail_date_parse(slice_str(out), &sec, &zone));
    assert_true(sec == 1795284335 && zone == 540);
    mail_date_imap(1795284335 - 20 * 86400, -90, out);
    assert_string_equal(out, " 1-Nov-2026 16:35:35 -0130");
    assert_true(mail_date_imap_parse(slice_str(out), &sec, &zone));
    assert_true(sec == 1795284335 - 20 * 86400 && zone == -90);
    assert_false(mail_date_imap_parse(SL("1 Nov 2026"), &sec, &zone));
    clock_utc(1795284335, &when);
    mail_date_mbox(&when, out);
    assert_string_equal(out, "Sat Nov 21 18:05:35 2026");
    mail_date_format(INT64_MAX, 99999, out); /* clamped, not overflowing */
    assert_true(strlen(out) < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),        cmocka_unit_test(test_options),
        cmocka_unit_test(test_from_line),   cmocka_unit_test(test_stuff),
        cmocka_unit_test(test_queue_ids),   cmocka_unit_test(test_dates),
        cmocka_unit_test(test_date_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
