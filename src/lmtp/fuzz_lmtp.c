/*
 * The LMTP server with XHATO: the input's first byte gives the size of the
 * pieces, the rest is what the client sends.  Whatever comes, the session ends,
 * its replies are lines, no draft stays, and each message has one answer for
 * each recipient.  Commands are not run: their kind is told as a file's.
 */
#include "lmtp/fake.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    struct stream *st;
    slice input;
    size_t step;
    bool is_done;
};

static struct lmtp_server *server;
static struct conf *conf;

/* In place of command.c's: a fuzzer starts no programs. */
void lmtp_run_command(struct lmtp_server *s, struct lmtp_tx *tx,
                      struct lmtp_target *t)
{
    (void)s;
    CHECK(tx->n_targets == 1 && t->arg.n > 0);
    t->code = 250;
    t->status = "2.0.0";
    t->text = SL("XDURABLE fs=0 delivered to command");
}

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
        if (c->step < 64)
            task_yield();
    }
    (void)stream_shutdown(c->st, &err);
    c->is_done = true;
}

static void check_reply(slice line)
{
    CHECK(line.n >= 6 && slice_ends(line, SL("\r\n")));
    for (size_t i = 0; i < line.n - 2; i++)
        CHECK((unsigned char)line.p[i] >= ' ');
    CHECK(line.p[0] >= '2' && line.p[0] <= '5');
}

MAY_WAIT static void run(void *arg)
{
    struct client *c = arg;
    struct err err;
    slice line;

    (void)task_spawn("client", send_all, c);
    while (stream_line(c->st, 8192, &line, &err) == 0)
        check_reply(line);
    CHECK(err.class == ERR_PEER);
    while (!c->is_done || lmtp_server_sessions(server) > 0)
        CHECK(task_sleep(1, &err) == 0);
    stream_free(&c->st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client c = { .step = 1 };
    struct err err;
    int fds[2];

    if (size == 0)
        return 0;
    if (server == NULL) {
        struct lmtp_server_parts parts = { .host = "mx.example.com" };

        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
        conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
        parts.conf = conf;
        server = lmtp_server_new(&parts);
    }
    loop_init("fuzz", 1);
    CHECK(chan_socketpair(fds, &err) == 0);
    c.input = slice_of(data + 1, size - 1);
    c.step = (size_t)data[0] * data[0] + 1;
    lmtp_serve(server, fds[0]);
    c.st = stream_from_fd(fds[1]);
    stream_deadline(c.st, clock_after(5000));
    (void)task_spawn("run", run, &c);
    loop_run_until_idle();
    CHECK(lmtp_server_sessions(server) == 0 && lmtp_server_is_idle(server));
    fake_store_reset();
    loop_done();
    return 0;
}
