#include "base/test_util.h"

#include "base/codec.h"

static void test_numbers(void **state)
{
    unsigned char v[8];

    (void)state;
    set_u64(v, UINT64_C(0x1122334455667788));
    assert_memory_equal(v, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    assert_true(get_u64(v) == UINT64_C(0x1122334455667788));
    assert_int_equal(get_u32(v), 0x55667788);
    assert_int_equal(get_u16(v), 0x7788);
    set_u32(v, 0xfffefdfc);
    assert_int_equal(get_u32(v), 0xfffefdfc);
}

/* The bytes of doc/codec.md's example. */
static void test_bytes(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_true(attr_put_str(&b, 1, "hi"));
    assert_true(attr_put_u64(&b, 2 | ATTR_MUST, 258));
    assert_slice(buf_view(&b), SL("\x01\x00\x02\x00\x00\x00hi"
                                  "\x02\x80\x08\x00\x00\x00"
                                  "\x02\x01\x00\x00\x00\x00\x00\x00"));
    buf_done(&b);
}

static void test_round(void **state)
{
    struct buf b;
    struct attr a;
    slice in;
    slice v;
    uint64_t u = 5;

    (void)state;
    buf_init(&b, 100);
    assert_true(attr_put(&b, 7, SL("one")));
    assert_true(attr_put(&b, 7, SL("two")));
    assert_true(attr_put(&b, 8 | ATTR_MUST, SLICE_NONE));
    assert_true(attr_put_u64(&b, 9, UINT64_MAX));
    in = buf_view(&b);
    assert_true(attr_find(in, 7, &v));
    assert_slice(v, SL("one"));
    assert_true(attr_find(in, 8, &v));
    assert_int_equal(v.n, 0);
    assert_false(attr_find(in, 10, &v));
    assert_true(attr_find_u64(in, 9, &u));
    assert_true(u == UINT64_MAX);
    assert_false(attr_find_u64(in, 7, &u));
    assert_true(u == UINT64_MAX);
    assert_int_equal(attr_u64_or(in, 10, 3), 3);
    assert_int_equal(attr_u64_or(in, 8, 4), 4);

    assert_int_equal(attr_next(&in, &a), 1);
    assert_int_equal(a.tag, 7);
    assert_false(a.must);
    assert_int_equal(attr_next(&in, &a), 1);
    assert_slice(a.v, SL("two"));
    assert_int_equal(attr_next(&in, &a), 1);
    assert_int_equal(a.tag, 8);
    assert_true(a.must);
    assert_int_equal(attr_next(&in, &a), 1);
    assert_int_equal(attr_next(&in, &a), 0);
    buf_done(&b);
}

/* Every proper prefix of a run is told from the whole, and a length that
 * points outside is damage. */
static void test_damage(void **state)
{
    slice in = SL("\x01\x00\x03\x00\x00\x00xyz");
    slice huge = SL("\x01\x00\xff\xff\xff\xffxyz");
    struct attr a = { .tag = 77 };
    slice v;

    (void)state;
    for (size_t n = 1; n < in.n; n++) {
        slice part = slice_sub(in, 0, n);

        assert_int_equal(attr_next(&part, &a), -1);
        assert_int_equal(a.tag, 77);
        assert_int_equal(part.n, n);
    }
    assert_int_equal(attr_next(&huge, &a), -1);
    assert_false(attr_find(huge, 1, &v));
}

/* An attribute that does not fit leaves nothing of itself. */
static void test_overflow(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_true(attr_put(&b, 1, SL("ab")));
    assert_false(attr_put(&b, 2, SL("")));
    assert_int_equal(b.n, 8);
    assert_true(b.overflow);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_round),    cmocka_unit_test(test_damage),
        cmocka_unit_test(test_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
