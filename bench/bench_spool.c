/*
 * How many durable commits a second the spool makes, with 1, 10 and 100 tasks
 * that each commit one message after the other, and that a queue settles at
 * once.
 *
 *     bench_spool DIRECTORY [BYTES [SECONDS]]
 *
 * The directory must be on the disk that is to be measured.
 */
#include "rt/rt.h"
#include "spool/spool.h"

#include <sys/resource.h>

static struct {
    const char *dir;
    size_t bytes;
    msec run_ms;
    struct spool *spool;
    char *body;
    uint64_t n_commits;
    unsigned n_running;
    msec end;
} b;

static void on_message(struct spool *s, struct spool_message *m,
                       const struct envelope *e, void *arg)
{
    (void)e;
    (void)arg;
    (void)spool_settle(s, m, 0, OUT_SENT);
}

static void on_trouble(struct spool *s, const char *text, void *arg)
{
    (void)s;
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static const struct spool_ops ops = { .on_message = on_message,
                                      .on_trouble = on_trouble };

static MAY_WAIT void commit_one(struct err *err)
{
    struct envelope_rcpt to = { .addr = SL("user@example.org") };
    struct envelope e = {
        .sender = SL("sender@example.org"),
        .rcpts = &to,
        .n_rcpts = 1,
        .client_name = SL("unknown"),
        .client_addr = SL("192.0.2.1"),
        .helo = SL("client.example.org"),
        .protocol = SL("ESMTP"),
        .service = SL("smtpd"),
        .message_id = SL("<20261121180535.12345@example.org>"),
        .headers =
            SL("Received: from client.example.org (unknown [192.0.2.1])\n"
               "\tby mail.example.org with ESMTP id 4X1234567890123z\n"
               "\tfor <user@example.org>; Sat, 21 Nov 2026 18:05:35 "
               "+0000\n"),
    };
    struct spool_draft *d = NULL;

    if (spool_draft_open(spool_own_writer(b.spool), b.bytes, &d, err) < 0)
        return;
    if (spool_draft_write(d, slice_of(b.body, b.bytes), err) < 0 ||
        spool_draft_commit(&d, &e, err) < 0) {
        fprintf(stderr, "%s\n", err->log);
        spool_draft_abort(&d);
        return;
    }
    b.n_commits++;
}

static void client_task(void *arg)
{
    struct err err;

    (void)arg;
    while (clock_mono() < b.end)
        commit_one(&err);
    b.n_running--;
}

static double cpu_seconds(void)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static MAY_WAIT void round_of(unsigned n_tasks)
{
    struct err err;
    double cpu = cpu_seconds();
    msec begin = clock_mono();
    double took;

    b.n_commits = 0;
    b.end = begin + b.run_ms;
    b.n_running = n_tasks;
    for (unsigned i = 0; i < n_tasks; i++)
        (void)task_spawn("client", client_task, NULL);
    while (b.n_running > 0)
        (void)task_sleep(5, &err);
    took = (double)(clock_mono() - begin) / 1000;
    cpu = cpu_seconds() - cpu;
    printf("%4u tasks: %8.0f commits/s, %6.1f us CPU each\n", n_tasks,
           (double)b.n_commits / took, cpu * 1e6 / (double)b.n_commits);
}

static void main_task(void *arg)
{
    struct spool_conf conf = { .dir = b.dir };
    struct err err;

    (void)arg;
    if (spool_open(&conf, &ops, NULL, &b.spool, &err) < 0) {
        fprintf(stderr, "%s\n", err.log);
        return;
    }
    round_of(1);
    round_of(10);
    round_of(100);
    spool_close(&b.spool);
}

int main(int argc, char **argv)
{
    uint64_t n = 4096;
    uint64_t seconds = 3;

    if (argc < 2 || (argc > 2 && !slice_u64(slice_str(argv[2]), &n)) ||
        (argc > 3 && !slice_u64(slice_str(argv[3]), &seconds))) {
        fprintf(stderr, "usage: bench_spool DIRECTORY [BYTES [SECONDS]]\n");
        return 2;
    }
    b.dir = argv[1];
    b.bytes = (size_t)n;
    b.run_ms = (msec)seconds * 1000;
    b.body = xcalloc(1, b.bytes + 1);
    memset(b.body, 'x', b.bytes);
    loop_init("bench_spool", 4);
    (void)task_spawn("bench", main_task, NULL);
    loop_run_until_idle();
    loop_done();
    free(b.body);
    return 0;
}
