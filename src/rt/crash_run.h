#ifndef RT_CRASH_RUN_H
#define RT_CRASH_RUN_H

/* What the test programs of power cuts (src/ROOM/crash_*.c) share: their
 * arguments, `run DIR COUNT SEED` or `check DIR [N]`, chance that the seed
 * repeats, and their lines on standard output. */
#include "base/base.h"

extern struct crash_run {
    const char *dir;
    uint64_t count; /* COUNT or N */
    uint64_t random;
    bool is_run;
    int status; /* of main() */
} crash;

/* `check_args`: how many follow "check".  -1 when the arguments are wrong; what
 * is right was said. */
CHECKED int crash_begin(int argc, char **argv, int check_args);
/* xorshift: the same seed makes the same work. */
uint64_t crash_draw(uint64_t below);
/* How long the trace of the file calls is by now. */
uint64_t crash_trace_bytes(void);
/* Says it, and the status is 1. */
void crash_bad(const char *what, const struct err *err);

#endif
