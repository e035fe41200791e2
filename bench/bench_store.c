/*
 * Deliveries of the store alone: 4 KiB letters to one and to 100 accounts, and
 * one letter of 1 MiB to 1,000 accounts, cold (made just now), closed, and
 * open. Prints rates, microseconds of CPU each, and what the disk had to write
 * (sectors of the device, after a sync).
 *
 *     bench_store DIRECTORY [letters]
 */
#include "base/base.h"

#include "engine/engine.h"
#include "store/store.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define USERS 1000

static char users[USERS][16];
static char places[USERS][300];
static struct store_rcpt rcpts[USERS];
static uint64_t next_id;

static double cpu_now(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double wall_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Bytes that the device under `dir` has written since it was started. */
static uint64_t written(const char *dir)
{
    char path[64], text[512];
    uint64_t v[7] = { 0 };
    struct stat st;
    ssize_t n;
    slice s, tok;
    int fd;

    if (stat(dir, &st) < 0)
        return 0;
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat",
                   major(st.st_dev), minor(st.st_dev));
    fd = open(path, O_RDONLY);
    n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    close_fd(&fd);
    s = slice_of(text, n > 0 ? (size_t)n : 0);
    for (int i = 0; i < 7 && slice_token(&s, " \n", &tok); i++)
        (void)slice_u64(tok, &v[i]);
    return v[6] * 512;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY);

    if (fd >= 0)
        (void)syncfs(fd);
    close_fd(&fd);
}

static void deliver(struct store *s, slice body, size_t first, size_t n)
{
    struct store_message msg = { .return_path = SL("bench@example.net"),
                                 .size_hint = body.n };
    struct store_draft *d;
    struct err err;

    for (size_t i = 0; i < n; i++) {
        struct store_rcpt *r = &rcpts[i];

        *r = (struct store_rcpt){ .user = slice_str(users[first + i]),
                                  .location = slice_str(places[first + i]),
                                  .delivered_to = slice_str(users[first + i]),
                                  .has_id = true };
        next_id++;
        memcpy(r->id, &next_id, 8);
        memcpy(r->id + 8, "benchids", 8);
    }
    d = store_draft_new(s, &msg, rcpts, n);
    for (slice left = body; left.n > 0; left = slice_from(left, 65536))
        if (store_draft_write(d, slice_sub(left, 0, 65536), &err) < 0)
            panic("%s", err.log);
    store_deliver(&d);
    for (size_t i = 0; i < n; i++)
        if (rcpts[i].failed)
            panic("%s", rcpts[i].err.log);
}

struct mark {
    double wall, cpu;
    uint64_t bytes;
};

static struct mark mark(const char *dir)
{
    sync_dir(dir);
    return (struct mark){ wall_now(), cpu_now(), written(dir) };
}

static void tell(const char *dir, const char *what, struct mark from, size_t n)
{
    double wall = wall_now() - from.wall;
    double cpu = cpu_now() - from.cpu;

    sync_dir(dir);
    printf("%-34s %9.0f a second  %6.1f us CPU each  %7.2f ms  %8.2f MiB\n",
           what, (double)n / wall, cpu * 1e6 / (double)n, wall * 1e3,
           (double)(written(dir) - from.bytes) / 1048576);
}

static void small(struct store *s, const char *dir, slice body, size_t n,
                  size_t accounts)
{
    char what[64];
    struct mark from;

    for (size_t i = 0; i < accounts; i++)
        deliver(s, body, i, 1);
    from = mark(dir);
    for (size_t i = 0; i < n; i++)
        deliver(s, body, i % accounts, 1);
    (void)snprintf(what, sizeof what, "%zu B letters, %zu accounts", body.n,
                   accounts);
    tell(dir, what, from, n);
}

int main(int argc, char **argv)
{
    struct engine *engine = engine_local_new();
    struct store_config cfg = { .engine = engine,
                                .host = "bench.example.org",
                                .instance = 1,
                                .max_accounts = USERS + 10,
                                .max_bytes = 1 << 30 };
    size_t letters = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
    struct store *s = store_new(&cfg);
    struct buf body;
    struct mark from;

    if (argc < 2)
        panic("usage: bench_store DIRECTORY [letters]");
    clock_setup();
    for (size_t i = 0; i < USERS; i++) {
        (void)snprintf(users[i], sizeof users[i], "user%zu", i);
        (void)snprintf(places[i], sizeof places[i], "maildir:%s/%s/Maildir",
                       argv[1], users[i]);
    }
    buf_init(&body, 4 << 20);
    buf_puts(&body, "From: Bench <bench@example.net>\nTo: user@example.org\n"
                    "Subject: a letter of the bench\n"
                    "Message-ID: <1@bench.example.net>\n"
                    "Date: Sat, 21 Nov 2026 18:05:35 +0000\n\n");
    while (body.n < 4096)
        buf_puts(&body, "The quick brown fox jumps over the lazy dog, 72.\n");
    small(s, argv[1], slice_sub(buf_view(&body), 0, 4096), letters, 1);
    small(s, argv[1], slice_sub(buf_view(&body), 0, 4096), letters, 100);
    while (body.n < 1 << 20)
        buf_puts(&body, "The quick brown fox jumps over the lazy dog, 72.\n");
    from = mark(argv[1]);
    deliver(s, buf_view(&body), 0, USERS);
    tell(argv[1], "1 MiB, 1000 accounts, most new", from, USERS);
    store_free(&s);
    s = store_new(&cfg);
    from = mark(argv[1]);
    deliver(s, buf_view(&body), 0, USERS);
    tell(argv[1], "1 MiB, 1000 accounts, closed", from, USERS);
    from = mark(argv[1]);
    deliver(s, buf_view(&body), 0, USERS);
    tell(argv[1], "1 MiB, 1000 accounts, open", from, USERS);
    store_free(&s);
    engine_free(&engine);
    buf_done(&body);
    return 0;
}
