/*
 * Whole sessions of lmtpd: the first byte chooses the size of the pieces, the
 * rest is what the client sends.  Whatever comes, the session ends, its answers
 * are lines of LMTP, every worker is given back and all memory is counted.
 */
#include "lmtpd/fake.h"
#include "rt/fuzz_talk.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_sessions(void)
{
    return fake.server->n_sessions;
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
        fake_open("smtpd_timeout = 1\nmessage_size_limit = 600000\n"
                  "smtpd_recipient_limit = 20\n");
    buf_clear(&fake.delivered);
    fake.fails_sync = (data[0] & 1) != 0;
    c.input = slice_of(data + 1, size - 1);
    c.step = (size_t)(data[0] >> 1) * (data[0] >> 1) + 1;
    c.st = fake_connect();
    fuzz_talk(&c);
    CHECK(fake.server->memory == 0);
    CHECK(fake.n_workers_out == 0);
    loop_done();
    return 0;
}
