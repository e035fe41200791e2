#include "base/test_util.h"

#include "base/base_priv.h"
#include "base/digest.h"

static void assert_hex(const void *p, size_t n, const char *want)
{
    struct buf b;

    buf_init(&b, 200);
    assert_true(hex_put(&b, slice_of(p, n)));
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
}

static void test_crc32c(void **state)
{
    unsigned char v[48] = { 0 };
    static unsigned char noise[4096];

    (void)state;
    /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, v, 32), 0x8a9136aa);
    memset(v, 0xff, 32);
    assert_int_equal(crc32c(0, v, 32), 0x62a8ab43);
    for (unsigned char i = 0; i < 32; i++)
        v[i] = i;
    assert_int_equal(crc32c(0, v, 32), 0x46dd794e);
    assert_int_equal(crc32c_by_table(0, v, 32), 0x46dd794e);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);

    random_bytes(noise, sizeof(noise));
    for (size_t i = 0; i < 300; i++) {
        size_t at = i % 9;
        size_t n = i * 13 % (sizeof(noise) - at);
        uint32_t whole = crc32c(0, noise + at, n);

        assert_int_equal(whole, crc32c_by_table(0, noise + at, n));
        assert_int_equal(whole, crc32c(crc32c(0, noise + at, n / 3),
                                       noise + at + n / 3, n - n / 3));
    }
}

static void test_sha256(void **state)
{
    struct sha256 h;
    uint8_t out[32];
    char key[131];

    (void)state;
    /* FIPS 180-2 appendix B */
    sha256_of(SL("abc"), out);
    assert_hex(out, 32,
               "ba7816bf8f01cfea414140de5dae2223"
               "b00361a396177a9cb410ff61f20015ad");
    sha256_init(&h);
    sha256_update(&h, SL("a"));
    sha256_update(&h, SLICE_NONE);
    sha256_update(&h, SL("bc"));
    sha256_final(&h, out);
    assert_null(h.ctx);
    assert_hex(out, 4, "ba7816bf");
    sha256_of(SLICE_NONE, out);
    assert_hex(out, 4, "e3b0c442");

    /* RFC 4231 4.3 and 4.7 */
    hmac_sha256(SL("Jefe"), SL("what do ya want for nothing?"), out);
    assert_hex(out, 32,
               "5bdcc146bf60754e6a042426089575c7"
               "5a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    hmac_sha256(slice_of(key, sizeof(key)),
                SL("Test Using Larger Than Block-Size Key - Hash Key First"),
                out);
    assert_hex(out, 8, "60e431591ee0b67f");
    hmac_sha256(SLICE_NONE, SLICE_NONE, out);
    assert_hex(out, 4, "b613679a");
}

static void test_equal(void **state)
{
    (void)state;
    assert_true(const_time_eq(SL("abc"), SL("abc")));
    assert_false(const_time_eq(SL("abc"), SL("abd")));
    assert_false(const_time_eq(SL("abc"), SL("ab")));
    assert_true(const_time_eq(SLICE_NONE, SL("")));
}

static void test_hex(void **state)
{
    unsigned char out[3] = { 9, 9, 9 };
    struct buf b;

    (void)state;
    assert_false(hex_get(SL("00ff1"), out, 3));
    assert_false(hex_get(SL("00ff1g"), out, 3));
    assert_false(hex_get(SL("00ff1122"), out, 3));
    assert_int_equal(out[0], 9);
    assert_true(hex_get(SL("00fFa1"), out, 3));
    assert_memory_equal(out, "\x00\xff\xa1", 3);
    assert_true(hex_get(SLICE_NONE, out, 0));
    buf_init(&b, 5);
    assert_false(hex_put(&b, SL("abc")));
    assert_int_equal(b.n, 0);
    assert_true(b.overflow);
    buf_done(&b);
}

static void test_base64(void **state)
{
    /* RFC 4648 10 */
    static const char *const pairs[][2] = {
        { "", "" },
        { "f", "Zg==" },
        { "fo", "Zm8=" },
        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
        { "\xfb\xff\xbf", "+/+/" },
    };
    static const char *const bad[] = { "Zg=",      "Zg",   "Z===", "====",
                                       "Zh==",     "Zm9=", "Z g=", "Zm9v\n",
                                       "Zg==Zg==", "Zg=v", "-_-_" };
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&b);
        assert_true(base64_put(&b, slice_str(pairs[i][0])));
        assert_slice(buf_view(&b), slice_str(pairs[i][1]));
        buf_clear(&b);
        assert_true(base64_get(&b, slice_str(pairs[i][1])));
        assert_slice(buf_view(&b), slice_str(pairs[i][0]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_clear(&b);
        assert_true(buf_puts(&b, "x"));
        assert_false(base64_get(&b, slice_str(bad[i])));
        assert_slice(buf_view(&b), SL("x"));
    }
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c), cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_equal),  cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
