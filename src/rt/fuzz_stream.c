/* Lines out of any bytes in any portions: nothing is lost, added or handed out
 * beyond its limit. */
#include "rt/rt.h"
#include "rt/stream.h"

struct run {
    slice data;
    struct stream *to, *from;
    size_t portion, max, in_max;
};

/* The fuzzer's own prototype. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

MAY_WAIT static void feed(void *arg)
{
    struct run *r = arg;
    slice left = r->data;
    struct err err;

    while (left.n > 0) {
        slice part = slice_sub(left, 0, r->portion);

        if (stream_write(r->to, part, &err) < 0 ||
            stream_flush(r->to, &err) < 0)
            break; /* the reader has given up */
        left = slice_from(left, part.n);
        task_yield();
    }
    stream_free(&r->to);
}

MAY_WAIT static void take(void *arg)
{
    struct run *r = arg;
    size_t at = 0;
    struct err err;
    slice line;

    stream_limits(r->from, r->in_max, 4096);
    while (stream_line(r->from, r->max, &line, &err) == 0) {
        CHECK(line.n > 0 && line.n <= r->max && line.p[line.n - 1] == '\n');
        CHECK(slice_chr(line, '\n') == (ssize_t)line.n - 1);
        CHECK(slice_eq(line, slice_sub(r->data, at, line.n)));
        at += line.n;
    }
    line = stream_peek(r->from);
    CHECK(slice_eq(line, slice_sub(r->data, at, line.n)));
    if (err.class == ERR_PEER)
        CHECK(at + line.n == r->data.n && slice_chr(line, '\n') < 0);
    else
        CHECK(err.class == ERR_PERM);
    stream_free(&r->from);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static bool is_ready;
    struct run r;

    if (n < 3)
        return 0;
    if (!is_ready)
        loop_init("fuzz", 1);
    is_ready = true;
    r.portion = p[0] + 1u;
    r.max = p[1] * 8u + 1u;
    r.in_max = p[2] * 16u + 1u;
    r.data = slice_of(p + 3, n - 3);
    stream_pair(&r.to, &r.from);
    (void)task_spawn("feed", feed, &r);
    (void)task_spawn("take", take, &r);
    loop_run_until_idle();
    return 0;
}
