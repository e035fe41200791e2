/*
 * Whole sessions of lmtpd: the first byte chooses the size of the pieces, the
 * rest is what the client sends.  Whatever comes, the session ends, its answers
 * are lines of LMTP, every worker is given back and all memory is counted.
 */
#include "lmtpd/fake.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    struct stream *st;
    slice input;
    size_t step;
    bool is_done;
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
    }
    (void)stream_shutdown(c->st, &err);
    c->is_done = true;
}

MAY_WAIT static void run(void *arg)
{
    struct client *c = arg;
    struct err err;
    slice line;

    (void)task_spawn("client", send_all, c);
    while (stream_line(c->st, 8192, &line, &err) == 0) {
        CHECK(line.n >= 6 && slice_ends(line, SL("\r\n")));
        CHECK(line.p[0] >= '2' && line.p[0] <= '5' &&
              (line.p[3] == ' ' || line.p[3] == '-'));
        for (size_t i = 0; i < line.n - 2; i++)
            CHECK((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
    }
    CHECK(err.class == ERR_PEER); /* and no timeout */
    while (!c->is_done || fake.server->n_sessions > 0)
        CHECK(task_sleep(1, &err) == 0);
    stream_free(&c->st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client c = { .step = 1 };

    if (size == 0)
        return 0;
    if (fake.server == NULL) /* nobody reads the log */
        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
    loop_init("fuzz", 1);
    if (fake.server == NULL)
        fake_open("smtpd_timeout = 1\nmessage_size_limit = 600000\n"
                  "smtpd_recipient_limit = 20\n");
    buf_clear(&fake.delivered);
    fake.fails_sync = (data[0] & 1) != 0;
    c.input = slice_of(data + 1, size - 1);
    c.step = (size_t)(data[0] >> 1) * (data[0] >> 1) + 1;
    c.st = fake_connect();
    stream_deadline(c.st, clock_after(5000));
    (void)task_spawn("run", run, &c);
    loop_run_until_idle();
    CHECK(fake.server->n_sessions == 0);
    CHECK(fake.server->memory == 0);
    CHECK(fake.n_workers_out == 0);
    loop_done();
    return 0;
}
