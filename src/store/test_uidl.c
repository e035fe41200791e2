#include "store/test_util.h"

/* pop3_uidl_format: what Dovecot, Courier and others make of it. */

static void expect(const char *format, const char *want)
{
    struct store_uidl u = { .uid = 0x1a2b,
                            .uidvalidity = 1700000000,
                            .base_name = SL("17.M1P2.Host,S=5") };
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&b, 1024);
    assert_true(store_uidl_format_ok(slice_str(format), &err));
    store_uidl_put(&b, slice_str(format), &u);
    assert_string_equal(buf_cstr(&b), want);
}

static void test_formats(void **state)
{
    (void)state;
    expect("%08Xu%08Xv", "00001a2b6553f100");
    expect("%u", "6699");
    expect("%v.%u", "1700000000.6699");
    expect("UID%u-%v", "UID6699-1700000000");
    expect("%f", "17.M1P2.Host,S=5");
    expect("%g", "17.M1P2.Host,S=5");
    expect("%Uf%%", "17.M1P2.HOST,S=5%");
    expect("%4f-%6Lf", "17.M-17.m1p");
    expect("%XUu%UXu", "1A2B1a2b");
    expect("x%%u%u", "x%u6699");
}

static void test_refused(void **state)
{
    static const char *const bad[] = { "",      "abc",  "%v",   "%",
                                       "%u%",   "%m",   "%08",  "% u",
                                       "%999u", "%u\n", "%u \t" };
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (store_uidl_format_ok(slice_str(bad[i]), &err))
            fail_msg("%s was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
