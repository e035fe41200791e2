#include "imap/test_util.h"

#include "conf/conf.h"

#include <ftw.h>
#include <sys/stat.h>

static void on_ended(void *arg, const uint8_t *handle UNUSED)
{
    ((struct bench *)arg)->n_ended++;
}

static void on_park(void *arg, const uint8_t *handle UNUSED, uint64_t n_read,
                    uint64_t n_written, unsigned keepalive_s UNUSED,
                    slice keepalive UNUSED)
{
    struct bench *b = arg;

    b->n_parked++;
    b->park_read = n_read;
    b->park_written = n_written;
}

static void on_push(void *arg, const uint8_t *handle UNUSED, slice bytes)
{
    buf_slice(&((struct bench *)arg)->pushed, bytes);
}

void bench_open(struct bench *b, const char *main_cf)
{
    const char *base = getenv("TMPDIR");
    struct store_config cfg = { .host = "mail.example.org", .instance = 1 };
    struct imap_parts parts = {
        .ended = on_ended, .park = on_park, .push = on_push, .arg = b
    };

    *b = (struct bench){ 0 };
    if (base == NULL || strlen(base) > 40)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(b->dir, sizeof b->dir, "%s/hato-imap-XXXXXX", base);
    assert_non_null(mkdtemp(b->dir));
    buf_init(&b->pushed, 1 << 20);
    b->engine = engine_local_new();
    cfg.engine = b->engine;
    b->store = store_new(&cfg);
    b->conf = conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
    parts.store = b->store;
    parts.conf = b->conf;
    b->server = imap_server_new(&parts);
}

static int remove_entry(const char *path, const struct stat *st, int flag,
                        struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void bench_close(struct bench *b)
{
    imap_server_free(&b->server);
    store_free(&b->store);
    engine_free(&b->engine);
    conf_unref(&b->conf);
    buf_done(&b->pushed);
    (void)nftw(b->dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
}

static slice location(const struct bench *b)
{
    static char text[128];

    (void)snprintf(text, sizeof text, "maildir:%s/anna", b->dir);
    return slice_str(text);
}

void bench_deliver(struct bench *b, const char *text)
{
    struct store_message msg = { .return_path = SL("from@example.net"),
                                 .arrival_usec = INT64_C(1700000000000000) };
    struct store_rcpt r = { .user = SL("anna"), .location = location(b) };
    struct store_draft *d = store_draft_new(b->store, &msg, &r, 1);
    struct err err;

    b->n_deliveries++;
    assert_int_equal(store_draft_write(d, slice_str(text), &err), 0);
    store_deliver(&d);
    if (r.failed)
        fail_msg("%s", r.err.log);
}

static void (*bench_fn)(struct bench *b);

static void bench_task(void *arg)
{
    bench_fn(arg);
}

void bench_run(const char *main_cf, void (*fn)(struct bench *b))
{
    static struct bench b;

    loop_init("test", 2);
    bench_open(&b, main_cf);
    bench_fn = fn;
    (void)task_spawn("test", bench_task, &b);
    loop_run_until_idle();
    assert_int_equal(imap_sessions(b.server), 0);
    bench_close(&b);
    loop_done();
}

static void start(struct bench *b, struct client *c, slice input,
                  const uint8_t *handle)
{
    struct imap_start st = { .handle = handle,
                             .user = SL("anna"),
                             .mail = location(b),
                             .session = SL("S1"),
                             .remote = SL("192.0.2.1"),
                             .is_relay = handle != NULL,
                             .tag = SL("a"),
                             .input = input };
    struct stream *ours;

    c->seen = (struct buf){ 0 };
    buf_init(&c->seen, 64 << 20);
    stream_pair(&c->stream, &ours);
    stream_deadline(c->stream, clock_after(20000));
    imap_session_begin(imap_session_new(b->server, &st, ours), st.tag);
    has(client_read(c, "a "), "a OK [CAPABILITY IMAP4rev1 ");
}

void client_start(struct bench *b, struct client *c, slice input)
{
    start(b, c, input, NULL);
}

void client_relay_handle(struct bench *b, struct client *c,
                         const uint8_t *handle)
{
    start(b, c, SLICE_NONE, handle);
}

void client_relay(struct bench *b, struct client *c, uint8_t n)
{
    uint8_t handle[16] = { n };

    start(b, c, SLICE_NONE, handle);
}

void client_send(struct client *c, const char *text)
{
    struct err err;

    if (stream_puts(c->stream, text, &err) < 0 ||
        stream_flush(c->stream, &err) < 0)
        fail_msg("send: %s", err.log);
}

const char *client_read(struct client *c, const char *until)
{
    struct err err;
    slice line;

    buf_clear(&c->seen);
    for (;;) {
        if (stream_line(c->stream, 60000, &line, &err) < 0)
            fail_msg("waiting for \"%s\": %s; so far: %.*s", until, err.log,
                     SLF(buf_view(&c->seen)));
        buf_slice(&c->seen, line);
        if (slice_starts(line, slice_str(until)))
            break;
    }
    if (getenv("TEST_TALK"))
        (void)fprintf(stderr, "%s", buf_cstr(&c->seen));
    return buf_cstr(&c->seen);
}

const char *client_do(struct client *c, const char *cmd)
{
    client_send(c, "x ");
    client_send(c, cmd);
    client_send(c, "\r\n");
    return client_read(c, "x ");
}

void client_stop(struct client *c)
{
    has(client_do(c, "LOGOUT"), "x OK Logout completed.\r\n");
    stream_free(&c->stream);
    buf_done(&c->seen);
    task_yield();
    task_yield();
}

void has(const char *all, const char *text)
{
    if (strstr(all, text) == NULL)
        fail_msg("no \"%s\" in: %s", text, all);
}

void has_not(const char *all, const char *text)
{
    if (strstr(all, text) != NULL)
        fail_msg("\"%s\" in: %s", text, all);
}
