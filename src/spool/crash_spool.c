/*
 * The spool under crash test 2.
 *
 *     crash_spool run DIR COUNT SEED   work; on standard output, each with the
 *         length of the trace at that moment:
 *             ack OFFSET SEQ FILL SIZE     answered with 250
 *             done OFFSET SEQ              its end is durable
 *             begin OFFSET SEQ             its end may become durable
 *             expanded OFFSET SEQ          its first recipient's expansion is
 *     crash_spool check DIR            start on DIR and tell what is there:
 *             have SEQ FILL SIZE RCPTS     body checked
 *             bad SEQ REASON
 */
#include "rt/crash_run.h"
#include "rt/rt.h"
#include "spool/spool.h"

static struct {
    struct spool *spool;
    unsigned n_running;
} t;

static void on_trouble(struct spool *s, const char *text, void *arg)
{
    (void)s;
    (void)arg;
    fprintf(stderr, "trouble: %s\n", text);
}

static const struct spool_ops ops = { .on_trouble = on_trouble };

static bool has_failed(int result, const struct err *err)
{
    if (result == 0)
        return false;
    fprintf(stderr, "%s\n", err->log);
    crash.status = 1;
    return true;
}

static MAY_WAIT bool commit(char fill, size_t size, uint64_t *seq)
{
    struct envelope_rcpt to[2] = { { .addr = SL("a@example.org") },
                                   { .addr = SL("b@example.org") } };
    struct envelope e = { .sender = SL("s@example.org"),
                          .rcpts = to,
                          .n_rcpts = 2,
                          .headers = SL("Received: by crash test\n") };
    struct spool_draft *d = NULL;
    char *body = xmalloc(size + 1);
    struct err err;
    int r = -1;

    memset(body, fill, size);
    if (spool_draft_open(spool_own_writer(t.spool), 0, &d, &err) == 0 &&
        spool_draft_write(d, slice_of(body, size), &err) == 0)
        r = spool_draft_commit(&d, &e, &err);
    spool_draft_abort(&d);
    free(body);
    *seq = e.seq;
    return !has_failed(r, &err);
}

static MAY_WAIT void expand(uint64_t seq)
{
    struct spool_expansion v[3] = { { .addr = SL("x@example.org") },
                                    { .addr = SL("y@example.org") },
                                    { .addr = SL("z@example.org") } };
    struct err err;
    uint32_t first;

    if (!has_failed(spool_expand(t.spool, spool_find(t.spool, seq), 0, v, 3,
                                 &first, &err),
                    &err))
        printf("expanded %" PRIu64 " %" PRIu64 "\n", crash_trace_bytes(), seq);
}

static MAY_WAIT void finish(uint64_t seq)
{
    struct err err;

    printf("begin %" PRIu64 " %" PRIu64 "\n", crash_trace_bytes(), seq);
    spool_delete(t.spool, spool_find(t.spool, seq));
    if (crash_draw(3) == 0 && !has_failed(spool_sync(t.spool, &err), &err))
        printf("done %" PRIu64 " %" PRIu64 "\n", crash_trace_bytes(), seq);
}

static MAY_WAIT void work_task(void *arg)
{
    struct spool_deferral why = { 0, SL("4.0.0"), SL("later") };

    (void)arg;
    for (uint64_t i = 0; i < crash.count && crash.status == 0; i++) {
        size_t size = crash_draw(12) == 0 ? 262144 + crash_draw(100000)
                                          : 1 + crash_draw(9000);
        char fill = (char)('a' + crash_draw(26));
        uint64_t seq;

        if (!commit(fill, size, &seq))
            break;
        printf("ack %" PRIu64 " %" PRIu64 " %c %zu\n", crash_trace_bytes(), seq,
               fill, size);
        if (crash_draw(4) == 0)
            expand(seq);
        if (crash_draw(4) == 0)
            spool_defer(t.spool, spool_find(t.spool, seq), 1, 1, &why, 1);
        if (crash_draw(3) > 0)
            finish(seq);
    }
    t.n_running--;
}

static struct spool_conf conf_of(void)
{
    /* Small, so that segments roll, die and are moved, and snapshots are made
     * in a short run. */
    return (struct spool_conf){ .dir = crash.dir,
                                .segment_bytes = 128u << 10,
                                .journal_bytes = 8u << 10,
                                .straggler_age_ms = 1 };
}

static MAY_WAIT void run_task(void *arg)
{
    struct spool_conf conf = conf_of();
    struct err err;

    (void)arg;
    if (has_failed(spool_open(&conf, &ops, NULL, &t.spool, &err), &err))
        return;
    t.n_running = 4;
    for (int i = 0; i < 4; i++)
        (void)task_spawn("work", work_task, NULL);
    while (t.n_running > 0) {
        (void)task_sleep(3, &err);
        spool_tick(t.spool);
    }
    spool_close(&t.spool);
}

static MAY_WAIT void check_one(uint64_t seq)
{
    struct spool_message *m = spool_find(t.spool, seq);
    struct arena *a = arena_new(1 << 20);
    struct spool_detail d;
    struct err err;
    uint64_t at;
    uint64_t n;
    char *body;
    int fd;

    if (spool_load(t.spool, m, a, &d, &err) < 0 ||
        spool_read_fd(t.spool, m, &fd, &at, &n, &err) < 0) {
        printf("bad %" PRIu64 " %s\n", seq, err.log);
        arena_free(&a);
        return;
    }
    body = xcalloc(1, n + 1);
    if (pread(fd, body, n, (off_t)at) != (ssize_t)n ||
        (n > 1 && memcmp(body, body + 1, n - 1) != 0))
        printf("bad %" PRIu64 " body\n", seq);
    else
        printf("have %" PRIu64 " %c %" PRIu64 " %zu\n", seq, body[0], n,
               d.n_rcpts);
    free(body);
    arena_free(&a);
}

static MAY_WAIT void check_task(void *arg)
{
    struct spool_conf conf = conf_of();
    uint64_t *seqs;
    struct err err;
    uint64_t seq;
    size_t n;

    (void)arg;
    if (has_failed(spool_open(&conf, &ops, NULL, &t.spool, &err), &err))
        return;
    n = spool_seqs(t.spool, &seqs);
    for (size_t i = 0; i < n; i++)
        check_one(seqs[i]);
    free(seqs);
    /* It works on: a new message gets a new number. */
    if (commit('N', 10, &seq))
        printf("new %" PRIu64 "\n", seq);
    spool_close(&t.spool);
}

int main(int argc, char **argv)
{
    if (crash_begin(argc, argv, 1) < 0)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    loop_init("crash_spool", 4);
    (void)task_spawn("crash", crash.is_run ? run_task : check_task, NULL);
    loop_run_until_idle();
    loop_done();
    return crash.status;
}
