#include "access/test_util.h"

#include "base/digest.h"

/* What clients have passed of postscreen's tests, in memory and on the disk. */

#define HEAD 16

struct two {
    int fd;
    struct access_passes *a, *b; /* two processes */
};

static void two_init(struct two *t)
{
    struct err err;

    assert_int_equal(access_passes_create(&t->fd, &err), 0);
    assert_int_equal(access_passes_open(t->fd, &t->a, &err), 0);
    assert_int_equal(access_passes_open(t->fd, &t->b, &err), 0);
}

static void two_done(struct two *t)
{
    access_passes_close(&t->a);
    access_passes_close(&t->b);
    close(t->fd);
}

static void assert_until(struct access_passes *p, const char *addr,
                         enum access_pass which, msec until)
{
    struct access_passed got;

    (void)access_passes_get(p, slice_str(addr), &got);
    assert_int_equal(got.until_ms[which], until);
}

static void test_shared(void **state)
{
    struct access_passed got;
    struct two t;

    (void)state;
    two_init(&t);
    assert_false(access_passes_get(t.a, SL("192.0.2.1"), &got));
    access_passes_set(t.a, SL("192.0.2.1"), ACCESS_PASS_GREET, 5000000);
    access_passes_set(t.b, SL("192.0.2.1"), ACCESS_PASS_DNSBL, 7000);
    access_passes_set(t.b, SL("2001:db8::1"), ACCESS_PASS_NEWLINE, 8001);
    assert_until(t.b, "192.0.2.1", ACCESS_PASS_GREET, 5000000);
    assert_until(t.a, "192.0.2.1", ACCESS_PASS_DNSBL, 7000);
    assert_until(t.a, "192.0.2.1", ACCESS_PASS_NEWLINE, 0);
    assert_until(t.a, "2001:db8::1", ACCESS_PASS_NEWLINE, 9000); /* rounded */
    assert_int_equal(access_passes_changes(t.a), 3);
    access_passes_clean(t.a, 5000001);
    assert_false(access_passes_get(t.b, SL("192.0.2.1"), &got));
    assert_false(access_passes_get(t.b, SL("2001:db8::1"), &got));
    two_done(&t);
}

/* More than there is room for: the last ones are there, whose passes end
 * last. */
static void test_full(void **state)
{
    enum { MANY = 150000, LAST = 20000 };

    struct access_passed got;
    size_t n = 0, n_all = 0;
    struct two t;
    char addr[32];

    (void)state;
    two_init(&t);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(addr, sizeof addr, "10.%d.%d.%d", i >> 16, i >> 8 & 255,
                       i & 255);
        access_passes_set(t.a, slice_str(addr), ACCESS_PASS_GREET,
                          (msec)(i + 1) * 1000);
    }
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(addr, sizeof addr, "10.%d.%d.%d", i >> 16, i >> 8 & 255,
                       i & 255);
        if (!access_passes_get(t.b, slice_str(addr), &got))
            continue;
        assert_int_equal(got.until_ms[ACCESS_PASS_GREET], (msec)(i + 1) * 1000);
        n_all++;
        n += i >= MANY - LAST ? 1 : 0;
    }
    assert_int_equal(n, LAST);
    assert_true(n_all > 60000 && n_all <= 65536);
    two_done(&t);
}

static void pack(struct access_passes *p, struct buf *b)
{
    buf_init(b, access_passes_bytes());
    assert_true(access_passes_pack(p, b));
}

static void test_kept(void **state)
{
    struct two t, next;
    struct err err;
    struct buf b;

    (void)state;
    two_init(&t);
    two_init(&next);
    access_passes_set(t.a, SL("192.0.2.1"), ACCESS_PASS_GREET, 5000);
    access_passes_set(t.a, SL("192.0.2.1"), ACCESS_PASS_FOREIGN, 6000);
    access_passes_set(t.a, SL("192.0.2.2"), ACCESS_PASS_DNSBL, 7000);
    pack(t.a, &b);
    /* What was learned before the file was read is newer. */
    access_passes_set(next.a, SL("192.0.2.1"), ACCESS_PASS_GREET, 9000);
    assert_int_equal(access_passes_unpack(next.a, buf_view(&b), &err), 0);
    assert_until(next.b, "192.0.2.1", ACCESS_PASS_GREET, 9000);
    assert_until(next.b, "192.0.2.1", ACCESS_PASS_FOREIGN, 6000);
    assert_until(next.b, "192.0.2.2", ACCESS_PASS_DNSBL, 7000);
    buf_done(&b);
    two_done(&t);
    two_done(&next);
}

static void refused(slice in)
{
    struct access_passed got;
    struct two t;
    struct err err;

    two_init(&t);
    assert_int_equal(access_passes_unpack(t.a, in, &err), -1);
    assert_false(access_passes_get(t.a, SL("192.0.2.1"), &got));
    two_done(&t);
}

/* Each byte changed, each length, another version. */
static void test_damaged(void **state)
{
    struct err err;
    struct two t;
    struct buf b;
    uint32_t sum;

    (void)state;
    two_init(&t);
    access_passes_set(t.a, SL("192.0.2.1"), ACCESS_PASS_GREET, 5000);
    pack(t.a, &b);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 0x20;
        refused(buf_view(&b));
        b.p[i] ^= 0x20;
        refused(slice_sub(buf_view(&b), 0, i));
    }
    b.p[8]++;
    sum = crc32c(0, b.p, b.n - 4);
    memcpy(b.p + b.n - 4, &sum, 4);
    refused(buf_view(&b));
    b.p[8]--;
    b.p[HEAD - 4]++; /* one entry more than there are */
    sum = crc32c(0, b.p, b.n - 4);
    memcpy(b.p + b.n - 4, &sum, 4);
    refused(buf_view(&b));
    b.p[HEAD - 4]--;
    sum = crc32c(0, b.p, b.n - 4);
    memcpy(b.p + b.n - 4, &sum, 4);
    assert_int_equal(access_passes_unpack(t.b, buf_view(&b), &err), 0);
    buf_done(&b);
    two_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
