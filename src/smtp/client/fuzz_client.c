/* What a server may say: the bytes are its side of a whole session. */
#include "smtp/client/fake.h"

#include "rt/rt.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct session {
    slice said;
    bool is_lmtp;
};

MAY_WAIT static void run(void *arg)
{
    static const char *const rcpts[] = { "a@b.test", "c@d.test" };
    struct session *s = arg;
    struct tls_policy policy = { .level = TLS_LEVEL_NONE };
    struct client_conn *conn = xcalloc(1, sizeof *conn);
    struct stream *far;
    struct fake f;
    struct err err;

    fake_open(&f, "compatibility_level = 3.6\nsmtp_chunking_enable = yes\n",
              s->is_lmtp ? "lm" : "plain", "");
    fake_rcpts(&f, rcpts, 2);
    f.job.env.headers = SL("Subject: x\n\n.body\n");
    f.job.is_final_server = true;
    conn->magic = CLIENT_CONN_MAGIC;
    conn->service = f.job.service;
    stream_pair(&conn->st, &far);
    conn->arena = arena_new(1u << 20);
    buf_init(&conn->text, CLIENT_REPLY_MAX);
    list_init(&conn->link);
    list_init(&conn->by_host);
    conn->name = conn->name_port = "x[192.0.2.1]";
    conn->host.name = SL("x");
    stream_deadline(far, clock_after(1000));
    (void)stream_write(far, s->said, &err);
    (void)stream_shutdown(far, &err);
    if (client_hello(&f.job, conn, &policy) == HELLO_OK)
        (void)client_transfer(&f.job, conn);
    client_conn_free(&conn);
    stream_free(&far);
    fake_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static bool is_quiet;
    struct session s;

    if (!is_quiet)
        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
    is_quiet = true;
    if (n < 1 || n > 60000)
        return 0;
    s.is_lmtp = (p[0] & 1) != 0;
    s.said = slice_of(p + 1, n - 1);
    loop_init("fuzz", 1);
    (void)task_spawn("fuzz", run, &s);
    loop_run_until_idle();
    loop_done();
    return 0;
}
