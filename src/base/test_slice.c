#include "base/test_util.h"

static void test_compare(void **state)
{
    (void)state;
    assert_true(slice_eq(SLICE_NONE, SL("")));
    assert_true(slice_eq(SL("a\0b"), SL("a\0b")));
    assert_false(slice_eq(SL("a\0b"), SL("a\0c")));
    assert_false(slice_eq(SL("a"), SL("ab")));
    assert_true(slice_ieq(SL("HeLLo[@"), SL("hEllO[@")));
    assert_false(slice_ieq(SL("["), SL("{")));
    assert_false(slice_ieq(SL("\xc4"), SL("\xe4")));
    assert_true(slice_eqs(SL("x"), "x"));
    assert_true(slice_eqs(SLICE_NONE, NULL));
    assert_true(slice_ieqs(SL("X"), "x"));
    assert_true(slice_cmp(SL("a"), SL("b")) < 0);
    assert_true(slice_cmp(SL("ab"), SL("a")) > 0);
    assert_true(slice_cmp(SL("\xff"), SL("a")) > 0);
    assert_int_equal(slice_cmp(SLICE_NONE, SL("")), 0);
    assert_true(slice_starts(SL("abc"), SL("ab")));
    assert_true(slice_starts(SL("abc"), SLICE_NONE));
    assert_false(slice_starts(SL("a"), SL("ab")));
    assert_true(slice_istarts(SL("MAIL FROM"), SL("mail ")));
    assert_true(slice_ends(SL("abc"), SL("bc")));
    assert_false(slice_ends(SL("bc"), SL("abc")));
    assert_true(slice_iends(SL("x.EXAMPLE"), SL(".example")));
}

static void test_search(void **state)
{
    (void)state;
    assert_int_equal(slice_chr(SL("abca"), 'a'), 0);
    assert_int_equal(slice_rchr(SL("abca"), 'a'), 3);
    assert_int_equal(slice_chr(SL("abc"), 'x'), -1);
    assert_int_equal(slice_chr(SLICE_NONE, 'x'), -1);
    assert_int_equal(slice_rchr(SLICE_NONE, '\0'), -1);
    assert_int_equal(slice_chr(SL("a\0b"), 'b'), 2);
    assert_int_equal(slice_find(SL("hello"), SL("ll")), 2);
    assert_int_equal(slice_find(SL("hello"), SL("lo!")), -1);
    assert_int_equal(slice_find(SL("x"), SLICE_NONE), 0);
    assert_int_equal(slice_find(SLICE_NONE, SL("x")), -1);
    assert_int_equal(slice_ifind(SL("hELLo"), SL("Ll")), 2);
    assert_int_equal(slice_ifind(SL("h"), SL("hh")), -1);
    assert_int_equal(slice_ifind(SL("abc"), SL("C")), 2);
}

static void test_parts(void **state)
{
    slice s = SL(" \t a b=c==d \r\n");
    slice head;

    (void)state;
    assert_slice(slice_sub(SL("hello"), 1, 3), SL("ell"));
    assert_slice(slice_sub(SL("hello"), 9, 3), SL(""));
    assert_slice(slice_sub(SL("hello"), 4, SIZE_MAX), SL("o"));
    assert_slice(slice_from(SL("hello"), 3), SL("lo"));
    assert_slice(slice_from(SLICE_NONE, 3), SLICE_NONE);
    assert_slice(slice_trim(s), SL("a b=c==d"));
    assert_slice(slice_rtrim(s), SL(" \t a b=c==d"));
    assert_slice(slice_trim(SL(" \v\f ")), SL(""));

    s = slice_trim(s);
    assert_true(slice_cut(&s, '=', &head));
    assert_slice(head, SL("a b"));
    assert_true(slice_cut(&s, '=', &head));
    assert_slice(head, SL("c"));
    assert_true(slice_cut(&s, '=', &head));
    assert_slice(head, SL(""));
    assert_false(slice_cut(&s, '=', &head));
    assert_slice(head, SL("d"));
    assert_slice(s, SL(""));
    assert_false(slice_cut(&s, '=', &head));
    assert_slice(head, SL(""));
}

static void test_tokens(void **state)
{
    slice s = SL(",, one\0x , two,");
    slice t;

    (void)state;
    assert_true(slice_token(&s, ", ", &t));
    assert_slice(t, SL("one\0x"));
    assert_true(slice_token(&s, ", ", &t));
    assert_slice(t, SL("two"));
    assert_false(slice_token(&s, ", ", &t));
    assert_slice(t, SL("two")); /* outputs are untouched on failure */
    assert_false(slice_token(&s, ", ", &t));
}

static void test_numbers(void **state)
{
    static const char *const bad[] = { "",
                                       "-1",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "0x1",
                                       "18446744073709551616",
                                       "99999999999999999999999" };
    uint64_t u = 7;
    int64_t i = 7;

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(bad); k++)
        assert_false(slice_u64(slice_str(bad[k]), &u));
    assert_int_equal(u, 7);
    assert_true(slice_u64(SL("18446744073709551615"), &u));
    assert_true(u == UINT64_MAX);
    assert_true(slice_u64(SL("007"), &u));
    assert_int_equal(u, 7);
    assert_true(slice_i64(SL("-9223372036854775808"), &i));
    assert_true(i == INT64_MIN);
    assert_true(slice_i64(SL("9223372036854775807"), &i));
    assert_true(i == INT64_MAX);
    assert_false(slice_i64(SL("9223372036854775808"), &i));
    assert_false(slice_i64(SL("-9223372036854775809"), &i));
    assert_false(slice_i64(SL("-"), &i));
    assert_false(slice_i64(SL("--1"), &i));
}

static void test_copies(void **state)
{
    struct arena *a = arena_new(128);
    char small[4] = "old";
    char *p CLEANUP(free_ptr) = slice_xstrdup(SL("heap"));

    (void)state;
    assert_string_equal(p, "heap");
    assert_string_equal(slice_dup(a, SL("ABC")).p, "ABC");
    assert_non_null(slice_dup(a, SLICE_NONE).p);
    assert_string_equal(slice_lower(a, SL("A@[z")).p, "a@[z");
    assert_string_equal(slice_cstr(a, SL("abc")), "abc");
    assert_null(slice_cstr(a, SL("a\0c")));
    assert_null(slice_dup(a, (slice){ "", SIZE_MAX }).p);
    while (arena_alloc(a, 1) != NULL)
        continue;
    assert_null(slice_dup(a, SL("x")).p);
    assert_null(slice_lower(a, SL("x")).p);
    assert_null(slice_cstr(a, SL("x")));
    arena_free(&a);

    assert_false(slice_copy_to(SL("1234"), small, sizeof(small)));
    assert_false(slice_copy_to(SL("1\0"), small, sizeof(small)));
    assert_string_equal(small, "old");
    assert_true(slice_copy_to(SL("123"), small, sizeof(small)));
    assert_string_equal(small, "123");
}

static void test_hash(void **state)
{
    char bytes[64];

    (void)state;
    memset(bytes, 'a', sizeof(bytes));
    for (size_t n = 0; n < sizeof(bytes); n++) {
        slice s = slice_of(bytes, n);
        uint64_t h = slice_hash(s);

        assert_true(h == slice_hash(s));
        assert_true(h != slice_hash(slice_of(bytes, n + 1)));
        for (size_t i = 0; i < n; i++) {
            bytes[i] ^= 1;
            assert_true(h != slice_hash(s));
            bytes[i] ^= 1;
        }
    }
    assert_true(slice_hash(SLICE_NONE) == slice_hash(SL("")));
    assert_true(slice_ihash(SL("Postmaster@Example")) ==
                slice_ihash(SL("postmaster@eXAMPLE")));
    assert_true(slice_ihash(SL("a@x")) != slice_ihash(SL("b@x")));
    assert_true(slice_hash(SL("A")) != slice_hash(SL("a")));
}

static void test_ascii(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        bool upper = i >= 'A' && i <= 'Z';
        bool lower = i >= 'a' && i <= 'z';

        assert_int_equal(ascii_lower(c), upper ? (char)(i + 32) : c);
        assert_int_equal(ascii_upper(c), lower ? (char)(i - 32) : c);
        assert_int_equal(ascii_isalpha(c), upper || lower);
        assert_int_equal(ascii_isdigit(c), i >= '0' && i <= '9');
        assert_int_equal(ascii_isalnum(c),
                         upper || lower || (i >= '0' && i <= '9'));
        assert_int_equal(ascii_isspace(c), i == ' ' || (i >= 9 && i <= 13));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare), cmocka_unit_test(test_search),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_hash),    cmocka_unit_test(test_ascii),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
