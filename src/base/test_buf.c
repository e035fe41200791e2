#include "base/test_util.h"

static void test_append(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    assert_int_equal(buf_view(&b).n, 0);
    assert_string_equal(buf_cstr(&b), "");
    assert_true(buf_puts(&b, "one "));
    assert_true(buf_slice(&b, SL("two ")));
    assert_true(buf_slice(&b, SLICE_NONE));
    assert_true(buf_byte(&b, '3'));
    assert_true(buf_printf(&b, " %d%s", 4, "!"));
    assert_slice(buf_view(&b), SL("one two 3 4!"));
    assert_string_equal(buf_cstr(&b), "one two 3 4!");
    buf_consume(&b, 4);
    assert_slice(buf_view(&b), SL("two 3 4!"));
    buf_consume(&b, 8);
    assert_int_equal(b.n, 0);
    buf_done(&b);
    buf_done(&b);
}

static void test_overflow(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 8);
    assert_true(buf_puts(&b, "12345678"));
    assert_string_equal(buf_cstr(&b), "12345678");
    assert_false(b.overflow);
    assert_false(buf_byte(&b, '9'));
    assert_true(b.overflow);
    assert_false(buf_puts(&b, ""));
    buf_clear(&b);
    assert_true(buf_puts(&b, "1234"));
    assert_false(buf_printf(&b, "%s", "56789"));
    assert_false(buf_byte(&b, '5')); /* would fit, but comes after a gap */
    assert_slice(buf_view(&b), SL("1234"));
    buf_clear(&b);
    assert_true(buf_printf(&b, "%s", "12345678"));
    buf_release(&b);
    assert_int_equal(b.size, 0);
    assert_int_equal(b.max, 8);
    buf_done(&b);
}

static void test_reserve(void **state)
{
    struct buf b;
    char *p;

    (void)state;
    buf_init(&b, 10);
    p = buf_reserve(&b, 10);
    assert_non_null(p);
    memcpy(p, "abc", 3);
    buf_commit(&b, 3);
    assert_null(buf_reserve(&b, 8));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_false(b.overflow);
    assert_slice(buf_view(&b), SL("abc"));
    buf_done(&b);
}

static void test_large(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < 1 << 18; i++)
        assert_true(buf_u32(&b, i));
    assert_false(buf_byte(&b, 'x'));
    assert_true(b.size <= (1 << 20) + 1);
    for (unsigned i = 0; i < 1 << 18; i++) {
        const unsigned char *at = (const unsigned char *)b.p + (size_t)i * 4;

        assert_int_equal(at[0] | at[1] << 8 | at[2] << 16, i);
        assert_int_equal(at[3], 0);
    }
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
