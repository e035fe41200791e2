/* A client's bytes against a whole session on a mailbox with three messages. */
#include "conf/conf.h"
#include "engine/engine.h"
#include "imap/imap_priv.h"
#include "mail/mail.h"
#include "rt/fuzz_talk.h"
#include "store/store.h"

#include <ftw.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RUNS = 300 }; /* then another mailbox: what was done to it is undone */

static struct {
    struct store *store;
    struct imap_server *server;
    unsigned n_runs;
    char dir[32];
    char location[64];
} f;

static const char *const letters[] = {
    "Subject: one\nFrom: Anna <a@example.net>\n\nHello\n",
    "Subject: two\nMime-Version: 1.0\nContent-Type: multipart/mixed;"
    " boundary=x\n\n--x\n\none\n--x\nContent-Type: message/rfc822\n\n"
    "Subject: in\n\ninner\n--x--\n",
    "Subject: =?utf-8?q?drei?=\nContent-Transfer-Encoding: base64\n\nZHJlaQ==\n",
};

MAY_WAIT static void deliver(void *arg)
{
    struct store_message msg = { 0 };
    struct err err;

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(letters); i++) {
        struct store_rcpt r = { .user = SL("anna"),
                                .location = slice_str(f.location) };
        struct store_draft *d = store_draft_new(f.store, &msg, &r, 1);

        CHECK(store_draft_write(d, slice_str(letters[i]), &err) == 0);
        store_deliver(&d);
        CHECK(!r.failed);
    }
}

static void begin(void)
{
    struct store_config cfg = { .host = "mx.example.com", .instance = 1 };
    struct imap_parts parts = { 0 };

    loop_init("fuzz", 1);
    mail_charset_setup();
    cfg.engine = engine_local_new();
    f.store = store_new(&cfg);
    parts.store = f.store;
    parts.conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    f.server = imap_server_new(&parts);
}

static int remove_entry(const char *path, const struct stat *st, int flag,
                        struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void new_account(void)
{
    if (f.n_runs > 0)
        (void)nftw(f.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    (void)snprintf(f.dir, sizeof f.dir, "/tmp/hato-fuzz-XXXXXX");
    CHECK(mkdtemp(f.dir) != NULL);
    (void)snprintf(f.location, sizeof f.location, "maildir:%s", f.dir);
    (void)task_spawn("deliver", deliver, NULL);
    loop_run_until_idle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct imap_start start = { .handle = (const uint8_t *)"0123456789abcdef",
                                .user = SL("anna"),
                                .session = SL("x"),
                                .tag = SL("a"),
                                .input = SL("s SELECT INBOX\r\n") };
    int fds[2];

    if (f.server == NULL)
        begin();
    if (f.n_runs % RUNS == 0)
        new_account();
    f.n_runs++;
    f.server->is_eager = (size & 1) != 0; /* commands side by side */
    if (size > 16384)
        return 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                     fds) == 0);
    CHECK(write(fds[1], data, size) == (ssize_t)size);
    CHECK(shutdown(fds[1], SHUT_WR) == 0);
    start.fd = fds[0];
    start.mail = slice_str(f.location);
    imap_start(f.server, &start);
    (void)task_spawn("client", fuzz_drain, stream_from_fd(fds[1]));
    loop_run_until_idle();
    CHECK(imap_sessions(f.server) == 0);
    return 0;
}
