/* What a scraper may say: any bytes in any portions end in one answer, or in
 * none. */
#include "metrics/server.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct client {
    struct stream *st;
    slice input;
    size_t step;
};

MAY_WAIT static void send_all(void *arg)
{
    struct client *c = arg;
    struct err err;

    while (c->input.n > 0) {
        slice part = slice_sub(c->input, 0, c->step);

        c->input = slice_from(c->input, part.n);
        if (stream_write(c->st, part, &err) < 0 ||
            stream_flush(c->st, &err) < 0)
            break;
        task_yield();
    }
    (void)stream_shutdown(c->st, &err);
}

MAY_WAIT static void take(void *arg)
{
    struct client *c = arg;
    struct err err;
    slice line;
    size_t n = 0;

    while (stream_line(c->st, 8192, &line, &err) == 0) {
        if (n++ == 0)
            CHECK(slice_starts(line, SL("HTTP/1.1 ")));
        CHECK(n < 100);
    }
    CHECK(n == 0 || n >= 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct process process;
    static struct metrics *m;
    struct client c;
    struct session *s;

    if (n < 2)
        return 0;
    loop_init("fuzz", 1);
    if (m == NULL)
        m = metrics_new(&process);
    /* Master is not asked: the numbers are new enough. */
    buf_clear(&m->text);
    (void)buf_puts(&m->text, "hato_up 1\n");
    m->has_text = true;
    m->text_at = clock_mono() + 100000;
    s = xcalloc(1, sizeof *s);
    s->m = m;
    m->n_sessions++;
    c.step = data[0] + 1u;
    c.input = slice_of(data + 1, n - 1);
    stream_pair(&s->stream, &c.st);
    stream_deadline(c.st, clock_after(5000));
    (void)task_spawn("serve", session_task, s);
    (void)task_spawn("send", send_all, &c);
    (void)task_spawn("take", take, &c);
    loop_run_until_idle();
    CHECK(m->n_sessions == 0);
    stream_free(&c.st);
    loop_done();
    return 0;
}
