/*
 * hato trace over a log that strangers had their words in: the first byte
 * chooses what is looked for, the rest is the log.
 */
#include "command/trace/trace_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const keys[] = { "4A1B2C3D", "joe@example.com",
                                    "<m1@example.com>", "joe" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool is_ready;
    struct trace_files files = { 0 };
    struct trace t;
    struct err err;
    char path[64];
    int fd;

    if (n < 2)
        return 0;
    if (!is_ready && freopen("/dev/null", "w", stdout) == NULL)
        abort();
    is_ready = true;
    fd = memfd_create("log", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(write(fd, data + 1, n - 1) == (ssize_t)n - 1);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    trace_files_add(&files, path);
    trace_init(&t, slice_str(keys[data[0] % ARRAY_LEN(keys)]), 5);
    CHECK(trace_follow(&t, &files, &err) == 0);
    trace_print(&t);
    trace_print_json(&t);
    trace_done(&t);
    trace_files_done(&files);
    (void)close(fd);
    return 0;
}
