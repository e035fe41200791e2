#include "base/clock.h"

#include "base/base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* The mapped offset of the test clock, or NULL. */
static const int64_t *test_offset;

static const int64_t *map_offset(const char *path)
{
    int fd CLEANUP(close_fd) = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0 || fstat(fd, &st) < 0)
        panic("HATO_TEST_CLOCK: open %s: %s", path, strerror(errno));
    /* Reading a mapping beyond the end of its file kills the process. */
    if (st.st_size < (off_t)sizeof(int64_t))
        panic("HATO_TEST_CLOCK: %s has fewer than 8 bytes", path);
    p = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        panic("HATO_TEST_CLOCK: map %s: %s", path, strerror(errno));
    return p;
}

void clock_setup(void)
{
    const char *path = secure_getenv("HATO_TEST_CLOCK");

    /* Loads the zone now; localtime_r() opens no file afterwards, so that it
     * works in an empty root. */
    tzset();
    if (test_offset == NULL && path != NULL && path[0] != '\0')
        test_offset = map_offset(path);
}

bool clock_is_test(void)
{
    return test_offset != NULL;
}

static msec offset_ms(void)
{
    uint64_t v;

    if (test_offset == NULL)
        return 0;
    v = (uint64_t)__atomic_load_n(test_offset, __ATOMIC_RELAXED);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return (msec)v;
}

static int64_t read_usec(clockid_t which)
{
    struct timespec ts;

    CHECK(clock_gettime(which, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
           offset_ms() * 1000;
}

msec clock_mono(void)
{
    return read_usec(CLOCK_MONOTONIC) / 1000;
}

msec clock_wall(void)
{
    return read_usec(CLOCK_REALTIME) / 1000;
}

int64_t clock_wall_usec(void)
{
    return read_usec(CLOCK_REALTIME);
}

msec clock_after(msec ms)
{
    msec at;

    if (ms == MSEC_NEVER || !ADD_OK(clock_mono(), ms, &at))
        return MSEC_NEVER;
    return at;
}

/*
 * The Gregorian calendar is counted here in years that begin in March, so that
 * the leap day is the last of its year; day 0 is 0000-03-01.
 */
#define DAYS_BEFORE_1970 719468
#define DAYS_400_YEARS   146097
#define DAYS_100_YEARS   36524
#define DAYS_4_YEARS     1461
#define SECS_PER_DAY     86400

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

/* The last of four centuries, and of four years, is a day longer. */
static int64_t at_most_3(int64_t v)
{
    return v > 3 ? 3 : v;
}

/* Days of a March year before the month `m` (0 = March) begins. */
static int64_t days_before_month(int64_t m)
{
    return (153 * m + 2) / 5;
}

static void set_date(struct civil *out, int64_t days)
{
    int64_t day = days + DAYS_BEFORE_1970;
    int64_t cycle = floor_div(day, DAYS_400_YEARS);
    int64_t rest = day - cycle * DAYS_400_YEARS;
    int64_t century = at_most_3(rest / DAYS_100_YEARS);
    int64_t in_century = rest - century * DAYS_100_YEARS;
    int64_t four = in_century / DAYS_4_YEARS;
    int64_t in_four = in_century - four * DAYS_4_YEARS;
    int64_t one = at_most_3(in_four / 365);
    int64_t in_year = in_four - one * 365;
    int64_t month = (5 * in_year + 2) / 153;
    int64_t year = cycle * 400 + century * 100 + four * 4 + one;

    out->day = (int)(in_year - days_before_month(month) + 1);
    out->month = (int)(month < 10 ? month + 3 : month - 9);
    out->year = (int)(month < 10 ? year : year + 1);
    /* 1970-01-01 was a Thursday. */
    out->wday = (int)(days + 4 - 7 * floor_div(days + 4, 7));
}

/* Beyond these the year does not fit an int or four digits; nothing in mail
 * is dated there. */
#define SEC_LEAST   (-INT64_C(62167219200)) /* year 0 */
#define SEC_LARGEST INT64_C(253402300799)   /* end of year 9999 */

static int64_t clamp_sec(int64_t sec)
{
    if (sec < SEC_LEAST)
        return SEC_LEAST;
    return sec > SEC_LARGEST ? SEC_LARGEST : sec;
}

void clock_utc(int64_t unix_sec, struct civil *out)
{
    int64_t sec = clamp_sec(unix_sec);
    int64_t days = floor_div(sec, SECS_PER_DAY);
    int rest = (int)(sec - days * SECS_PER_DAY);

    set_date(out, days);
    out->hour = rest / 3600;
    out->min = rest / 60 % 60;
    out->sec = rest % 60;
    out->offset_min = 0;
}

void clock_local(int64_t unix_sec, struct civil *out)
{
    time_t sec = clamp_sec(unix_sec);
    struct tm tm;

    if (localtime_r(&sec, &tm) == NULL) {
        clock_utc(unix_sec, out);
        return;
    }
    *out = (struct civil){ .year = tm.tm_year + 1900,
                           .month = tm.tm_mon + 1,
                           .day = tm.tm_mday,
                           .hour = tm.tm_hour,
                           .min = tm.tm_min,
                           .sec = tm.tm_sec,
                           .wday = tm.tm_wday,
                           .offset_min = (int)(tm.tm_gmtoff / 60) };
}

int64_t clock_from_civil(const struct civil *c)
{
    int64_t month = c->month > 2 ? c->month - 3 : c->month + 9;
    int64_t year = c->month > 2 ? c->year : (int64_t)c->year - 1;
    int64_t cycle = floor_div(year, 400);
    int64_t in_cycle = year - cycle * 400;
    int64_t days = cycle * DAYS_400_YEARS + in_cycle * 365 + in_cycle / 4 -
                   in_cycle / 100 + days_before_month(month) + c->day - 1 -
                   DAYS_BEFORE_1970;

    return days * SECS_PER_DAY + (int64_t)c->hour * 3600 +
           (int64_t)c->min * 60 + c->sec - (int64_t)c->offset_min * 60;
}

void clock_rfc5322(int64_t unix_sec, char out[static 40])
{
    static const char days[][4] = { "Sun", "Mon", "Tue", "Wed",
                                    "Thu", "Fri", "Sat" };
    static const char months[][4] = {
        "Jan", "Feb", "Mar", "Apr", "May", "Jun",
        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
    };
    struct civil c;
    unsigned off;

    clock_local(unix_sec, &c);
    off = (unsigned)(c.offset_min < 0 ? -c.offset_min : c.offset_min);
    (void)snprintf(out, 40, "%s, %d %s %04d %02d:%02d:%02d %c%02u%02u",
                   days[c.wday], c.day, months[c.month - 1], c.year, c.hour,
                   c.min, c.sec, c.offset_min < 0 ? '-' : '+', off / 60 % 24,
                   off % 60);
}
