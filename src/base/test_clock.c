#include "base/test_util.h"

#include "base/clock.h"
#include "base/codec.h"

#include <fcntl.h>
#include <time.h>

static void set_zone(const char *zone)
{
    assert_int_equal(setenv("TZ", zone, 1), 0);
    clock_setup();
}

static void test_utc(void **state)
{
    static const struct {
        int64_t sec;
        struct civil want;
    } v[] = {
        { 0, { 1970, 1, 1, 0, 0, 0, 4, 0 } },
        { -1, { 1969, 12, 31, 23, 59, 59, 3, 0 } },
        { 951827696, { 2000, 2, 29, 12, 34, 56, 2, 0 } },
        { 4107542399, { 2100, 2, 28, 23, 59, 59, 0, 0 } },
        { 4107542400, { 2100, 3, 1, 0, 0, 0, 1, 0 } },
        { 1795284335, { 2026, 11, 21, 18, 5, 35, 6, 0 } },
        { INT64_MAX, { 9999, 12, 31, 23, 59, 59, 5, 0 } },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        struct civil c;

        clock_utc(v[i].sec, &c);
        assert_memory_equal(&c, &v[i].want, sizeof(c));
        if (v[i].sec != INT64_MAX)
            assert_true(clock_from_civil(&c) == v[i].sec);
    }
}

/* The C library agrees, day by day and back again. */
static void test_every_day(void **state)
{
    (void)state;
    for (int64_t sec = -INT64_C(62167219200); sec < INT64_C(253402300800);
         sec += 86400 * 3 + 3607) {
        struct civil c;
        time_t t = sec;
        struct tm tm;

        clock_utc(sec, &c);
        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(c.year, tm.tm_year + 1900);
        assert_int_equal(c.month, tm.tm_mon + 1);
        assert_int_equal(c.day, tm.tm_mday);
        assert_int_equal(c.hour * 60 + c.min, tm.tm_hour * 60 + tm.tm_min);
        assert_int_equal(c.wday, tm.tm_wday);
        assert_true(clock_from_civil(&c) == sec);
    }
}

static void test_local(void **state)
{
    struct civil c;
    char text[40];

    (void)state;
    set_zone("XST-5:30");
    clock_local(1795284335, &c);
    assert_int_equal(c.hour, 23);
    assert_int_equal(c.offset_min, 330);
    assert_true(clock_from_civil(&c) == 1795284335);
    clock_rfc5322(1795284335, text);
    assert_string_equal(text, "Sat, 21 Nov 2026 23:35:35 +0530");
    set_zone("NST3:30");
    clock_rfc5322(1795284335, text);
    assert_string_equal(text, "Sat, 21 Nov 2026 14:35:35 -0330");
    set_zone("UTC0");
    clock_rfc5322(1795284335, text);
    assert_string_equal(text, "Sat, 21 Nov 2026 18:05:35 +0000");
    clock_rfc5322(INT64_MIN, text);
    assert_string_equal(text, "Sat, 1 Jan 0000 00:00:00 +0000");
}

static void test_after(void **state)
{
    msec now = clock_mono();

    (void)state;
    assert_true(clock_after(MSEC_NEVER) == MSEC_NEVER);
    assert_true(clock_after(MSEC_NEVER - 1) == MSEC_NEVER);
    assert_true(clock_after(1000) >= now + 1000);
    assert_true(clock_after(1000) < now + 60000);
    assert_true(clock_mono() >= now);
}

static void set_offset(int fd, int64_t ms)
{
    char raw[8];

    set_u64(raw, (uint64_t)ms);
    assert_int_equal(pwrite(fd, raw, sizeof(raw), 0), sizeof(raw));
}

static void setup_here(void *arg)
{
    (void)setenv("HATO_TEST_CLOCK", arg, 1);
    clock_setup();
}

/* Last, because a mapped test clock stays. */
static void test_moved(void **state)
{
    char path[] = "/tmp/hato-clock-XXXXXX";
    int fd = mkstemp(path);
    msec mono = clock_mono();
    msec wall = clock_wall();

    (void)state;
    assert_true(fd >= 0);
    assert_false(clock_is_test());
    assert_true(dies(setup_here, path)); /* too short to be a clock */
    set_offset(fd, 0);
    setup_here(path);
    assert_true(clock_is_test());
    assert_true(clock_mono() - mono < 60000);
    set_offset(fd, 86400000);
    assert_true(clock_mono() - mono >= 86400000);
    assert_true(clock_wall() - wall >= 86400000);
    assert_true(clock_wall_usec() / 1000 - wall >= 86400000);
    set_offset(fd, -5000000);
    assert_true(clock_wall() - wall < 0);
    (void)unlink(path);
    close_fd(&fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utc),   cmocka_unit_test(test_every_day),
        cmocka_unit_test(test_local), cmocka_unit_test(test_after),
        cmocka_unit_test(test_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
