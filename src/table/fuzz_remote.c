/* What a server of socketmap or tcp tables may answer: any bytes, whole or byte
 * by byte, are a value, nothing, or an error; never more than was sent. */
#include "table/remote.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct run {
    slice input;
    struct stream *server;
    struct remote remote;
    bool is_tcp, is_slow;
};

MAY_WAIT static void answer(void *arg)
{
    struct run *r = arg;
    slice left = r->input;
    struct err err;

    while (left.n > 0) {
        slice part = slice_sub(left, 0, r->is_slow ? 1 : left.n);

        if (stream_write(r->server, part, &err) < 0 ||
            stream_flush(r->server, &err) < 0)
            break;
        left = slice_from(left, part.n);
        task_yield();
    }
    stream_free(&r->server);
}

MAY_WAIT static void ask(void *arg)
{
    struct run *r = arg;
    struct arena *a = arena_new(1u << 20);
    char whole[] = "socketmap:unix:/x:map";
    struct table t = { .whole = whole, .name = SL("unix:/x:map") };
    slice value = SLICE_NONE;
    struct err err;
    int rc = 0;

    /* Questions go on as long as answers are good. */
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = r->is_tcp ? tcp_ask(&t, &r->remote, SL("k %\n"), a, &value, &err)
                       : sm_ask(&t, &r->remote, SL("k"), a, &value, &err);
        CHECK(rc < 0 || value.n <= r->input.n);
        CHECK(rc == 0 || err.log[0] != '\0');
    }
    stream_free(&r->remote.s);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct run r = { 0 };

    if (n < 2)
        return 0;
    loop_init("fuzz", 1);
    r.is_tcp = (data[0] & 1) != 0;
    r.is_slow = (data[0] & 2) != 0;
    r.input = slice_of(data + 1, n - 1);
    stream_pair(&r.server, &r.remote.s);
    stream_limits(r.remote.s, SOCKETMAP_MAX + 64, SOCKETMAP_MAX + 64);
    stream_deadline(r.remote.s, clock_after(5000));
    (void)task_spawn("answer", answer, &r);
    (void)task_spawn("ask", ask, &r);
    loop_run_until_idle();
    loop_done();
    return 0;
}
