/*
 * Whole sessions behind postscreen's tests: the input's first byte gives the
 * size of the pieces, the rest is what the client sends, beginning before the
 * greeting.  Every session comes from an address that was never seen.  Whatever
 * comes, the session ends, its replies are lines of SMTP, and no draft stays.
 */
#include "smtp/server/fake.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake fake;

static const char conf[] = "smtpd_timeout = 1\n"
                           "smtpd_hard_error_limit = 1000\n"
                           "smtpd_junk_command_limit = 1000\n"
                           "line_length_limit = 600\n"
                           "message_size_limit = 20000\n"
                           "smtpd_forbidden_commands = CONNECT GET\n"
                           "postscreen_forbidden_commands = CONNECT GET\n"
                           "postscreen_greet_wait = 1s\n"
                           "postscreen_greet_action = ignore\n"
                           "postscreen_pipelining_enable = yes\n"
                           "postscreen_pipelining_action = enforce\n"
                           "postscreen_non_smtp_command_enable = yes\n"
                           "postscreen_non_smtp_command_action = drop\n"
                           "postscreen_bare_newline_enable = yes\n"
                           "postscreen_bare_newline_action = enforce\n";

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
        CHECK((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
    CHECK(line.p[0] >= '2' && line.p[0] <= '5' && ascii_isdigit(line.p[1]) &&
          ascii_isdigit(line.p[2]) && (line.p[3] == ' ' || line.p[3] == '-'));
}

MAY_WAIT static void run(void *arg)
{
    struct client *c = arg;
    struct err err;
    slice line;

    (void)task_spawn("client", send_all, c);
    while (stream_line(c->st, 8192, &line, &err) == 0)
        check_reply(line);
    CHECK(err.class == ERR_PEER); /* and no timeout */
    while (!c->is_done || smtp_server_sessions(fake.server) > 0)
        CHECK(task_sleep(1, &err) == 0);
    stream_free(&c->st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned n_addresses;
    struct client c = { .step = 1 };

    if (size < 2)
        return 0;
    if (fake.server == NULL) /* nobody reads the log */
        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
    loop_init("fuzz", 1);
    if (fake.server == NULL)
        fake_open_lines(&fake, conf, "smtp inet n - n - 1 postscreen\n");
    n_addresses++;
    (void)snprintf(fake.peer.text, sizeof fake.peer.text, "10.%u.%u.%u",
                   n_addresses >> 16 & 255, n_addresses >> 8 & 255,
                   n_addresses & 255);
    c.input = slice_of(data + 1, size - 1);
    c.step = (size_t)(data[0] >> 1) * (data[0] >> 1) + 1;
    c.st = fake_connect(&fake, false);
    stream_deadline(c.st, clock_after(5000));
    (void)task_spawn("run", run, &c);
    loop_run_until_idle();
    CHECK(smtp_server_sessions(fake.server) == 0);
    CHECK(fake_spool.n_open == 0);
    loop_done();
    return 0;
}
