/*
 * Records of parked sessions that another worker made, or nobody: taken over
 * and woken by a client that asks for everything.  The input is a record as it
 * is, or a list of its parts: tag, kind, length, bytes.
 */
#include "base/codec.h"
#include "conf/conf.h"
#include "engine/engine.h"
#include "imap/imap_priv.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "store/store.h"

#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LETTERS = 40, PARTS = 16, TAGS = 12 };

static struct {
    struct store *store;
    struct imap_server *server;
    char location[64];
    uint32_t uidvalidity;
    slice record;
} f;

static void parked(void *arg, const uint8_t *handle, uint64_t n_read,
                   uint64_t n_written, unsigned keepalive_s, slice keepalive)
{
    (void)arg;
    (void)handle;
    (void)n_read;
    (void)n_written;
    (void)keepalive_s;
    (void)keepalive;
}

static void pushed(void *arg, const uint8_t *handle, slice bytes)
{
    (void)arg;
    (void)handle;
    (void)bytes;
}

static void ended(void *arg, const uint8_t *handle)
{
    (void)arg;
    (void)handle;
}

/* A mailbox with holes in it. */
MAY_WAIT static void deliver(void *arg)
{
    static const uint32_t holes[] = { 2, 3, 9, 20, 40 };
    struct store_message msg = { 0 };
    struct store_account *a = NULL;
    struct store_mailbox *m = NULL;
    struct store_status st;
    struct err err;

    (void)arg;
    for (size_t i = 0; i < LETTERS; i++) {
        struct store_rcpt r = { .user = SL("anna"),
                                .location = slice_str(f.location) };
        struct store_draft *d = store_draft_new(f.store, &msg, &r, 1);

        CHECK(store_draft_write(d, SL("Subject: x\n\nx\n"), &err) == 0);
        store_deliver(&d);
        CHECK(!r.failed);
    }
    CHECK(store_account_open(f.store, SL("anna"), slice_str(f.location), false,
                             &a, &err) == 0);
    CHECK(store_mailbox_open(a, SL("INBOX"), 0, &m, &err) == 0);
    CHECK(store_expunge(m, holes, ARRAY_LEN(holes), NULL, &err) == 0);
    store_mailbox_status(m, &st);
    f.uidvalidity = st.uidvalidity;
    store_mailbox_unref(&m);
    store_account_unref(&a);
}

static void begin(void)
{
    struct store_config cfg = { .host = "mx.example.com", .instance = 1 };
    struct imap_parts parts = { .park = parked,
                                .push = pushed,
                                .ended = ended };
    char dir[] = "/tmp/hato-fuzz-XXXXXX";

    loop_init("fuzz", 1);
    mail_charset_setup();
    cfg.engine = engine_local_new();
    f.store = store_new(&cfg);
    parts.store = f.store;
    parts.conf = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    f.server = imap_server_new(&parts);
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(f.location, sizeof f.location, "maildir:%s", dir);
    (void)task_spawn("deliver", deliver, NULL);
    loop_run_until_idle();
}

static void put_part(struct buf *b, uint16_t tag, uint8_t kind, slice bytes)
{
    uint64_t n = 0;

    memcpy(&n, bytes.p, min_size(bytes.n, sizeof n));
    switch (kind % 4) {
    case 0:
        attr_put(b, tag, bytes);
        return;
    case 1:
        attr_put_u64(b, tag, n);
        return;
    case 2:
        attr_put_u64(b, tag, f.uidvalidity);
        return;
    default:
        attr_put_str(b, tag, "INBOX");
    }
}

static void make_record(struct buf *b, slice in)
{
    if (in.n == 0 || (in.p[0] & 1) != 0) {
        buf_slice(b, in.n > 0 ? slice_from(in, 1) : in);
        return;
    }
    in = slice_from(in, 1);
    for (int i = 0; i < PARTS && in.n >= 3; i++) {
        size_t n = min_size((uint8_t)in.p[2], in.n - 3);

        put_part(b, (uint16_t)((uint8_t)in.p[0] % TAGS), (uint8_t)in.p[1],
                 slice_sub(in, 3, n));
        in = slice_from(in, 3 + n);
    }
}

MAY_WAIT static void client(void *arg)
{
    static const uint8_t handle[16] = { 7 };
    static const char talk[] = "DONE\r\na NOOP\r\nb FETCH 1:* (UID FLAGS)\r\n"
                               "c UID FETCH 1:* FLAGS\r\nd SELECT INBOX\r\n"
                               "e LOGOUT\r\n";
    struct imap_start st = { .fd = -1,
                             .handle = handle,
                             .user = SL("anna"),
                             .session = SL("x"),
                             .mail = slice_str(f.location),
                             .is_relay = true };
    struct stream *s;
    struct err err;
    int fds[2];

    (void)arg;
    if (imap_restore(f.server, &st, f.record, &err) < 0)
        return;
    task_yield();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                     fds) == 0);
    CHECK(write(fds[1], talk, sizeof talk - 1) == (ssize_t)sizeof talk - 1);
    if (!imap_wake(f.server, handle, fds[0])) {
        close_fd(&fds[1]);
        imap_drop(f.server, handle);
        return;
    }
    s = stream_from_fd(fds[1]);
    stream_deadline(s, clock_after(1000));
    while (!stream_eof(s) && stream_fill(s, &err) == 0)
        stream_consume(s, stream_peek(s).n);
    stream_free(&s);
    imap_drop(f.server, handle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    if (f.server == NULL)
        begin();
    buf_init(&b, 1 << 20);
    make_record(&b, slice_of(data, size));
    f.record = buf_view(&b);
    (void)task_spawn("client", client, NULL);
    loop_run_until_idle();
    CHECK(imap_sessions(f.server) == 0);
    return 0;
}
