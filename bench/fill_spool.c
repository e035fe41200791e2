/*
 * Fills a spool with mail that waits: deferred once, to be tried again in some
 * hours, written by the spool room's own writer.
 *
 *     fill_spool DIRECTORY MESSAGES [BYTES [DESTINATIONS]]
 *
 * DIRECTORY is $queue_directory/spool of a server that does not run.
 */
#include "mail/queue_id.h"
#include "rt/rt.h"
#include "spool/spool.h"

#define N_TASKS 2000

static struct {
    const char *dir;
    size_t n, bytes, n_dests;
    size_t next;
    unsigned n_running;
    struct spool *spool;
    char *body;
    bool has_failed;
} f;

static void on_trouble(struct spool *s, const char *text, void *arg)
{
    (void)s;
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static const struct spool_ops ops = { .on_trouble = on_trouble };

static void defer(uint64_t seq, size_t i)
{
    struct spool_message *m = spool_find(f.spool, seq);
    struct spool_deferral v = { .rcpt = 0, .status = SL("4.4.1") };
    char text[200];

    (void)snprintf(text, sizeof text,
                   "connect to mx.d%zu.example[192.0.2.1]:25: Connection "
                   "refused",
                   i % f.n_dests);
    v.reason = slice_str(text);
    if (m != NULL)
        spool_defer(f.spool, m,
                    clock_wall() + 4 * 3600000 + (msec)(i % 3600) * 1000, 1, &v,
                    1);
}

static MAY_WAIT int put_one(size_t i, struct err *err)
{
    char to[100];
    char from[100];
    char id[100];
    struct envelope_rcpt rcpt;
    struct envelope e = {
        .rcpts = &rcpt,
        .n_rcpts = 1,
        .client_name = SL("unknown"),
        .client_addr = SL("192.0.2.1"),
        .helo = SL("client.example.org"),
        .protocol = SL("ESMTP"),
        .service = SL("smtpd"),
        .headers =
            SL("Received: from client.example.org (unknown [192.0.2.1])\n"
               "\tby mail.example.org with ESMTP id 4X1234567890123z;\n"
               "\tSat, 21 Nov 2026 18:05:35 +0000\n"),
    };
    struct spool_draft *d = NULL;

    (void)snprintf(to, sizeof to, "user%zu@d%zu.example", i, i % f.n_dests);
    (void)snprintf(from, sizeof from, "sender%zu@example.org", i % 100);
    (void)snprintf(id, sizeof id, "<%zu.20261121180535@example.org>", i);
    rcpt = (struct envelope_rcpt){ .addr = slice_str(to) };
    e.sender = slice_str(from);
    e.message_id = slice_str(id);
    if (spool_draft_open(spool_own_writer(f.spool), f.bytes, &d, err) < 0)
        return -1;
    if (spool_draft_write(d, slice_of(f.body, f.bytes), err) < 0 ||
        spool_draft_commit(&d, &e, err) < 0) {
        spool_draft_abort(&d);
        return -1;
    }
    defer(e.seq, i);
    return 0;
}

static void fill_task(void *arg)
{
    struct err err;

    (void)arg;
    while (f.next < f.n && !f.has_failed) {
        if (put_one(f.next++, &err) == 0)
            continue;
        fprintf(stderr, "%s\n", err.log);
        f.has_failed = true;
    }
    f.n_running--;
}

static void main_task(void *arg)
{
    struct spool_conf conf = { .dir = f.dir };
    struct err err;

    (void)arg;
    if (spool_open(&conf, &ops, NULL, &f.spool, &err) < 0) {
        fprintf(stderr, "%s\n", err.log);
        f.has_failed = true;
        return;
    }
    f.n_running = N_TASKS;
    for (unsigned i = 0; i < N_TASKS; i++)
        (void)task_spawn("fill", fill_task, NULL);
    while (f.n_running > 0)
        (void)task_sleep(20, &err);
    printf("%zu messages\n", spool_count(f.spool));
    spool_close(&f.spool);
}

int main(int argc, char **argv)
{
    uint64_t n = 0;
    uint64_t bytes = 1024;
    uint64_t n_dests = 1000;

    if (argc < 3 || !slice_u64(slice_str(argv[2]), &n) ||
        (argc > 3 && !slice_u64(slice_str(argv[3]), &bytes)) ||
        (argc > 4 && !slice_u64(slice_str(argv[4]), &n_dests)) ||
        n_dests == 0) {
        fprintf(stderr,
                "usage: fill_spool DIRECTORY MESSAGES [BYTES [DESTS]]\n");
        return 2;
    }
    f.dir = argv[1];
    f.n = (size_t)n;
    f.bytes = (size_t)bytes;
    f.n_dests = (size_t)n_dests;
    f.body = xcalloc(1, f.bytes + 1);
    for (size_t i = 0; i < f.bytes; i++)
        f.body[i] = i % 72 == 71 ? '\n' : 'x';
    loop_init("fill_spool", 4);
    (void)task_spawn("main", main_task, NULL);
    loop_run_until_idle();
    loop_done();
    free(f.body);
    return f.has_failed ? 1 : 0;
}
