#include "imap/test_util.h"

static struct arena *arena;

static struct imap_cursor at(const char *text)
{
    return (struct imap_cursor){ slice_str(text), arena };
}

static void test_words(void **state)
{
    struct imap_cursor c = at("atom \"a \\\"b\\\\\" {3}\r\nx\"y lit]eral NIL");
    slice s;
    bool nil;

    (void)state;
    assert_true(imap_atom(&c, &s));
    assert_slice(s, SL("atom"));
    assert_true(imap_sp(&c) && imap_string(&c, &s));
    assert_slice(s, SL("a \"b\\"));
    assert_true(imap_sp(&c) && imap_astring(&c, &s));
    assert_slice(s, SL("x\"y"));
    assert_true(imap_sp(&c) && imap_astring(&c, &s));
    assert_slice(s, SL("lit]eral"));
    assert_true(imap_sp(&c) && imap_nstring(&c, &s, &nil) && nil);
    assert_true(imap_end(&c));
    c = at("\"open");
    assert_false(imap_string(&c, &s));
    c = at("\"esc\\");
    assert_false(imap_string(&c, &s));
    c = at("{5}\r\nabc");
    assert_false(imap_string(&c, &s));
    c = at("{99999999999999999999999}\r\nabc");
    assert_false(imap_string(&c, &s));
}

static void test_utf7(void **state)
{
    static const struct {
        const char *utf8, *utf7;
    } t[] = {
        { "Entw\xc3\xbcrfe", "Entw&APw-rfe" },
        { "a&b", "a&-b" },
        { "\xe5\x8f\xb0\xe5\x8c\x97", "&U,BTFw-" },
        { "\xf0\x9f\x98\x80", "&2D3eAA-" },
    };
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        buf_clear(&b);
        imap_utf8_to_utf7(&b, slice_str(t[i].utf8));
        assert_slice(buf_view(&b), slice_str(t[i].utf7));
        buf_clear(&b);
        assert_true(imap_utf7_to_utf8(&b, slice_str(t[i].utf7)));
        assert_slice(buf_view(&b), slice_str(t[i].utf8));
    }
    assert_false(imap_utf7_to_utf8(&b, SL("a&open")));
    assert_false(imap_utf7_to_utf8(&b, SL("&2D0-"))); /* half a pair */
    assert_false(imap_utf7_to_utf8(&b, SL("&!!-")));
    buf_done(&b);
}

static void test_set(void **state)
{
    struct imap_cursor c = at("7,1:3,*,2:5 x");
    struct imap_set_out o = { 0 };
    struct imap_set s;
    struct buf b;

    (void)state;
    assert_true(imap_set_parse(&c, 9, &s));
    assert_slice(c.rest, SL(" x"));
    assert_int_equal(s.n, 3);
    assert_int_equal(imap_set_count(&s, 100), 7);
    buf_init(&b, 100);
    for (uint32_t i = 1; i < 12; i++)
        if (imap_set_has(&s, i))
            imap_set_add(&o, &b, i);
    imap_set_flush(&o, &b);
    assert_slice(buf_view(&b), SL("1:5,7,9"));
    assert_true(imap_set_has(&s, 2) && imap_set_has(&s, 9));
    buf_done(&b);
    c = at("*");
    assert_true(imap_set_parse(&c, 0, &s) && s.n == 0);
    c = at("5:*");
    assert_true(imap_set_parse(&c, 3, &s) && s.n == 1 && s.v[0].lo == 3);
    c = at("1:4294967295");
    assert_true(imap_set_parse(&c, 3, &s) && imap_set_has(&s, UINT32_MAX));
    for (size_t i = 0; i < 6; i++) {
        static const char *const bad[] = { "", "0", "1,", "1:", "x", ",1" };

        c = at(bad[i]);
        assert_false(imap_set_parse(&c, 3, &s));
    }
}

static void test_flags_and_dates(void **state)
{
    struct imap_cursor c = at("(\\Seen \\deleted $forwarded)");
    uint32_t flags;
    uint64_t keywords;
    int64_t n;
    struct err err;

    (void)state;
    assert_int_equal(imap_flag_list(&c, false, NULL, &flags, &keywords, &err),
                     0);
    assert_int_equal(flags, STORE_SEEN | STORE_DELETED | STORE_PASSED);
    c = at("\\Seen key");
    assert_int_equal(imap_flag_list(&c, true, NULL, &flags, &keywords, &err),
                     0);
    c = at("(\\Bogus)");
    assert_int_equal(imap_flag_list(&c, false, NULL, &flags, &keywords, &err),
                     -1);
    c = at("\" 1-Feb-1994 00:00:01 +0100\"");
    assert_true(imap_date_time(&c, &n));
    assert_int_equal(n, 760057201);
    c = at("1-Feb-1994");
    assert_true(imap_date(&c, &n) && n == 8797);
    c = at("\"31-Dec-1969\"");
    assert_true(imap_date(&c, &n) && n == -1);
    c = at("32-Feb-1994");
    assert_false(imap_date(&c, &n));
}

static int setup(void **state)
{
    (void)state;
    arena = arena_new(1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_utf7),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_flags_and_dates),
    };

    return cmocka_run_group_tests_name("imap-parse", tests, setup, teardown);
}
