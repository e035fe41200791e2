/*
 * The LMTP server with XHATO: the input's first byte gives the size of the
 * pieces, the rest is what the client sends.  Whatever comes, the session ends,
 * its replies are lines, no draft stays, and each message has one answer for
 * each recipient.  Commands are not run: their kind is told as a file's.
 */
#include "lmtp/fake.h"
#include "rt/fuzz_talk.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void check_reply(slice line)
{
    CHECK(line.n >= 6 && slice_ends(line, SL("\r\n")));
    for (size_t i = 0; i < line.n - 2; i++)
        CHECK((unsigned char)line.p[i] >= ' ');
    CHECK(line.p[0] >= '2' && line.p[0] <= '5');
}

static size_t n_sessions(void)
{
    return lmtp_server_sessions(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_client c = { .check = check_reply, .n_sessions = n_sessions };
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
    fuzz_talk(&c);
    CHECK(lmtp_server_is_idle(server));
    fake_store_reset();
    loop_done();
    return 0;
}
