/* A client's bytes against a whole session on a mailbox with two messages. */
#include "conf/conf.h"
#include "engine/engine.h"
#include "mail/mail.h"
#include "pop3/pop3.h"
#include "rt/fuzz_talk.h"
#include "store/store.h"

#include <stdlib.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct store *store;
    struct pop3_server *server;
    char location[64];
} f;

MAY_WAIT static void deliver(void *arg)
{
    struct store_rcpt r = { .user = SL("anna"),
                            .location = slice_str(f.location) };
    struct store_message msg = { 0 };
    struct store_draft *d = store_draft_new(f.store, &msg, &r, 1);
    struct err err;

    CHECK(store_draft_write(d, slice_str(arg), &err) == 0);
    store_deliver(&d);
    CHECK(!r.failed);
}

static void begin(void)
{
    struct store_config cfg = { .host = "mx.example.com", .instance = 1 };
    struct pop3_parts parts = { 0 };
    static char one[] = "Subject: one\n\n.dot\n", two[] = "Subject: two\n\nend";
    char dir[] = "/tmp/hato-fuzz-XXXXXX";

    loop_init("fuzz", 1);
    mail_charset_setup();
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(f.location, sizeof f.location, "maildir:%s", dir);
    cfg.engine = engine_local_new();
    f.store = store_new(&cfg);
    parts.store = f.store;
    parts.conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    f.server = pop3_server_new(&parts);
    (void)task_spawn("deliver", deliver, one);
    (void)task_spawn("deliver", deliver, two);
    loop_run_until_idle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct imap_start start = { .handle = (const uint8_t *)"0123456789abcdef",
                                .user = SL("anna"),
                                .session = SL("x") };
    int fds[2];

    if (f.server == NULL)
        begin();
    if (size > 16384)
        return 0;
    /* A DELE that counts would empty the mailbox for all that follow. */
    for (size_t i = 0; i + 3 < size; i++)
        if ((data[i] | 0x20) == 'q')
            return 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                     fds) == 0);
    CHECK(write(fds[1], data, size) == (ssize_t)size);
    CHECK(shutdown(fds[1], SHUT_WR) == 0);
    start.fd = fds[0];
    start.mail = slice_str(f.location);
    pop3_start(f.server, &start);
    (void)task_spawn("client", fuzz_drain, stream_from_fd(fds[1]));
    loop_run_until_idle();
    CHECK(pop3_sessions(f.server) == 0);
    return 0;
}
