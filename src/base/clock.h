#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/*
 * Time as the program sees it.  All code asks here and never the system, so
 * tests can move time: with HATO_TEST_CLOCK=FILE in the environment the file's
 * first 8 bytes (a little-endian int64 of milliseconds, mapped shared) are
 * added to both clocks, in every process that maps it.  A sandboxed process
 * gets the mapping before it enters its sandbox (clock_setup()).
 */
#include <stdbool.h>
#include <stdint.h>

typedef int64_t msec;
#define MSEC_NEVER INT64_MAX

void clock_setup(void);   /* once, early in main(); idempotent */
bool clock_is_test(void); /* a test clock is mapped */
msec clock_mono(void);    /* monotonic milliseconds, for deadlines */
msec clock_wall(void);    /* milliseconds since 1970, UTC */
int64_t clock_wall_usec(void);
/* now + ms, saturating; MSEC_NEVER stays. */
msec clock_after(msec ms);

/* Broken-down time without the C library's static buffers. */
struct civil {
    int year, month, day, hour, min, sec, wday; /* month 1..12, wday 0=Sunday */
    int offset_min;                             /* of local time, else 0 */
};

void clock_utc(int64_t unix_sec, struct civil *out);
void clock_local(int64_t unix_sec, struct civil *out);
int64_t clock_from_civil(const struct civil *c); /* uses offset_min */
/* RFC 5322 3.3 date-time in local time: "Sat, 21 Nov 2026 18:05:35 +0000". */
void clock_rfc5322(int64_t unix_sec, char out[static 40]);

#endif
