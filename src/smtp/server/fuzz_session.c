/*
 * Whole sessions of the SMTP server: the input's first byte chooses the service
 * and the size of the pieces, the rest is what the client sends.  Whatever
 * comes, the session ends, its replies are lines of SMTP, and no draft stays.
 */
#include "rt/fuzz_talk.h"
#include "smtp/server/fake.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake fake;

static const char conf[] =
    "smtpd_timeout = 1\n"
    "smtpd_hard_error_limit = 1000\n"
    "smtpd_junk_command_limit = 1000\n"
    "line_length_limit = 600\n"
    "header_size_limit = 2000\n"
    "message_size_limit = 20000\n"
    "smtpd_recipient_limit = 20\n"
    "smtpd_recipient_overshoot_limit = 5\n"
    "smtpd_forbidden_commands = CONNECT GET\n"
    "smtpd_noop_commands = XNOOP\n"
    "recipient_delimiter = +\n"
    "virtual_alias_maps = inline:{list@example.com={a@example.com, b@c}}\n"
    "header_checks = inline:{none=REJECT}\n"
    "smtpd_data_restrictions = reject_unauth_pipelining\n";

static size_t n_sessions(void)
{
    return smtp_server_sessions(fake.server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_client c = { .check = fuzz_check_reply,
                             .n_sessions = n_sessions };

    if (size == 0)
        return 0;
    if (fake.server == NULL) /* nobody reads the log */
        event_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), "fuzz");
    loop_init("fuzz", 1);
    if (fake.server == NULL)
        fake_open(&fake, conf);
    c.input = slice_of(data + 1, size - 1);
    c.step = (size_t)(data[0] >> 1) * (data[0] >> 1) + 1;
    c.st = fake_connect(&fake, (data[0] & 1) != 0);
    fuzz_talk(&c);
    CHECK(fake_spool.n_open == 0);
    loop_done();
    return 0;
}
