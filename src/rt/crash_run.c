#include "rt/crash_run.h"

#include <sys/stat.h>

struct crash_run crash;

int crash_begin(int argc, char **argv, int check_args)
{
    crash.is_run = argc == 5 && strcmp(argv[1], "run") == 0;
    if ((!crash.is_run &&
         (argc != 2 + check_args || strcmp(argv[1], "check") != 0)) ||
        (argc > 3 && !slice_u64(slice_str(argv[3]), &crash.count)) ||
        (crash.is_run && !slice_u64(slice_str(argv[4]), &crash.random))) {
        fprintf(stderr, "usage: %s run DIR COUNT SEED | check DIR%s\n", argv[0],
                check_args > 1 ? " N" : "");
        return -1;
    }
    crash.dir = argv[2];
    crash.random = crash.random * 2654435761u + 88172645463325252u;
    return 0;
}

uint64_t crash_draw(uint64_t below)
{
    crash.random ^= crash.random << 13;
    crash.random ^= crash.random >> 7;
    crash.random ^= crash.random << 17;
    return crash.random % below;
}

uint64_t crash_trace_bytes(void)
{
    const char *fd_text = getenv("HATO_FSTRACE_FD");
    uint64_t fd = 0;
    struct stat st;

    if (fd_text == NULL || !slice_u64(slice_str(fd_text), &fd) ||
        fstat((int)fd, &st) < 0)
        return 0;
    return (uint64_t)st.st_size;
}

void crash_bad(const char *what, const struct err *err)
{
    printf("bad %s: %s\n", what, err->log);
    crash.status = 1;
}
