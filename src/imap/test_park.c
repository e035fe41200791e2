#include "imap/test_util.h"

#include "imap/park.h"

#include <malloc.h>

/* Sessions that login holds: parking, news, waking, records. */

static const char letter[] = "Subject: one\n\nHello.\n";

/* Until fn is true, at most a few seconds. */
#define WAIT_FOR(cond)                                                         \
 do {                                                                          \
  msec until_ = clock_after(5000);                                             \
  struct err err_;                                                             \
  while (!(cond) && clock_mono() < until_)                                     \
   (void)task_sleep(5, &err_);                                                 \
  assert_true(cond);                                                           \
 } while (0)

static struct imap_session *session_of(struct bench *b, uint8_t n)
{
    uint8_t handle[16] = { n };
    struct map_node *node =
        map_get(&b->server->by_handle, slice_of(handle, 16));

    assert_non_null(node);
    return CONTAINER_OF(node, struct imap_session, node);
}

/* As login: nothing is on its way, so the socket is closed. */
static void accept_park(struct bench *b, struct client *c, uint8_t n)
{
    unsigned before = b->n_parked;
    struct imap_session *s = session_of(b, n);

    WAIT_FOR(b->n_parked > before || s->park_asked);
    assert_int_equal(b->park_read, s->n_read);
    assert_int_equal(b->park_written, s->n_written);
    stream_free(&c->stream);
    WAIT_FOR(s->stream == NULL);
}

static void wake(struct bench *b, struct client *c, uint8_t n)
{
    uint8_t handle[16] = { n };
    struct stream *ours;

    stream_pair(&c->stream, &ours);
    stream_deadline(c->stream, clock_after(5000));
    assert_true(imap_wake_stream(b->server, handle, ours));
}

static const char *pushed(struct bench *b)
{
    return buf_cstr(&b->pushed);
}

static void parking_not_idle(struct bench *b, struct client *c,
                             struct client *d)
{
    const char *t;

    /* Not in IDLE: asked for later, and nothing is pushed. */
    accept_park(b, c, 1);
    (void)client_do(d, "STORE 1 +FLAGS (\\Deleted work)");
    (void)client_do(d, "EXPUNGE");
    bench_deliver(b, letter);
    (void)client_do(d, "STORE 2 +FLAGS (work)");
    assert_int_equal(b->pushed.n, 0);
    wake(b, c, 1);
    t = client_do(c, "NOOP");
    has(t, "* 1 EXPUNGE\r\n");
    has(t, "* 4 EXISTS\r\n");
    has(t, "* 2 FETCH (FLAGS (work))\r\n");
    has(client_do(c, "FETCH 4 UID"), "* 4 FETCH (UID 7)\r\n");
}

static void parking(struct bench *b)
{
    struct client c, d;

    b->server->quiet_idle_ms = 30;
    b->server->quiet_ms = 60;
    for (int i = 0; i < 5; i++)
        bench_deliver(b, letter);
    client_start(b, &d, SLICE_NONE);
    (void)client_do(&d, "SELECT INBOX");
    client_relay(b, &c, 1);
    (void)client_do(&c, "SELECT INBOX");
    client_send(&c, "i IDLE\r\n");
    (void)client_read(&c, "+ ");
    accept_park(b, &c, 1);
    /* News go out without a socket. */
    bench_deliver(b, letter);
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 6 EXISTS\r\n");
    buf_clear(&b->pushed);
    (void)client_do(&d, "STORE 2,4 +FLAGS (\\Deleted)");
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 2 FETCH (FLAGS (\\Deleted");
    buf_clear(&b->pushed);
    has(client_do(&d, "EXPUNGE"), "x OK");
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n");
    buf_clear(&b->pushed);
    wake(b, &c, 1);
    client_send(&c, "DONE\r\n");
    has(client_read(&c, "i "), "i OK Idle completed.");
    has(client_do(&c, "FETCH 4 UID"), "* 4 FETCH (UID 6)\r\n");
    parking_not_idle(b, &c, &d);
    client_stop(&c);
    client_stop(&d);
    assert_int_equal(b->n_ended, 1);
}

static void parking_packed(struct bench *b)
{
    b->server->pack_above = 0;
    parking(b);
}

static void test_parking(void **state)
{
    (void)state;
    bench_run("", parking);
    bench_run("", parking_packed);
}

/* The client speaks while login is being asked: the park is void. */
static void refused(struct bench *b)
{
    struct client c;

    b->server->quiet_idle_ms = 30;
    client_relay(b, &c, 1);
    (void)client_do(&c, "SELECT INBOX");
    client_send(&c, "i IDLE\r\n");
    (void)client_read(&c, "+ ");
    WAIT_FOR(b->n_parked == 1);
    /* Held back until it is known who has the line. */
    bench_deliver(b, letter);
    client_send(&c, "DONE\r\n");
    has(client_read(&c, "i "), "* 1 EXISTS\r\n");
    assert_int_equal(b->pushed.n, 0);
    client_stop(&c);
}

static void test_refused(void **state)
{
    (void)state;
    bench_run("", refused);
}

/* By number nothing can be done while the client does not know what went. */
static void missing(struct bench *b)
{
    struct client c, d;

    b->server->pack_above = 0;
    b->server->quiet_ms = 30;
    for (int i = 0; i < 3; i++)
        bench_deliver(b, letter);
    client_start(b, &d, SLICE_NONE);
    (void)client_do(&d, "SELECT INBOX");
    client_relay(b, &c, 1);
    (void)client_do(&c, "SELECT INBOX");
    accept_park(b, &c, 1);
    assert_true(session_of(b, 1)->is_packed);
    (void)client_do(&d, "STORE 2 +FLAGS \\Deleted");
    (void)client_do(&d, "EXPUNGE");
    wake(b, &c, 1);
    has(client_do(&c, "FETCH 3 UID"), "x NO [EXPUNGEISSUED]");
    has(client_do(&c, "UID FETCH 3 UID"),
        "* 2 EXPUNGE\r\n* 2 FETCH (UID 3)\r\nx OK");
    client_stop(&c);
    client_stop(&d);
}

static void test_missing(void **state)
{
    (void)state;
    bench_run("", missing);
}

static struct buf given;
static int given_fd = -1;

static void keep(void *arg UNUSED, const uint8_t *handle UNUSED, slice record,
                 int watch_fd)
{
    buf_clear(&given);
    buf_slice(&given, record);
    given_fd = dup(watch_fd);
}

/* A worker that leaves: who looks after the session sees what strangers do. */
static void giving(struct bench *b)
{
    uint8_t handle[16] = { 1 };
    struct imap_start st = {
        .fd = -1, .handle = handle, .user = SL("anna"), .is_relay = true
    };
    struct client c;
    char mail[200], room[256];
    struct err err;

    buf_init(&given, 1 << 20);
    b->server->quiet_idle_ms = 30;
    client_relay(b, &c, 1);
    (void)client_do(&c, "SELECT INBOX");
    client_send(&c, "i IDLE\r\n");
    (void)client_read(&c, "+ ");
    imap_give_parked(b->server, keep, NULL); /* none yet */
    assert_int_equal(given.n, 0);
    accept_park(b, &c, 1);
    imap_give_parked(b->server, keep, NULL);
    assert_true(given.n > 0 && given_fd >= 0);
    assert_int_equal(imap_sessions(b->server), 0);
    assert_int_equal(b->n_ended, 0);
    assert_int_equal(read(given_fd, room, sizeof room), -1);
    bench_deliver(b, letter);
    assert_true(read(given_fd, room, sizeof room) > 0);
    (void)close(given_fd);
    (void)snprintf(mail, sizeof mail, "maildir:%s/anna", b->dir);
    st.mail = slice_str(mail);
    assert_int_equal(imap_restore(b->server, &st, buf_view(&given), &err), 0);
    assert_int_equal(imap_restore(b->server, &st, buf_view(&given), &err), -1);
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 1 EXISTS\r\n");
    imap_drop(b->server, handle);
    buf_done(&given);
    buf_done(&c.seen);
}

static void test_giving(void **state)
{
    (void)state;
    bench_run("", giving);
}

/* To another server (of another worker) by a record. */
static void records(struct bench *b)
{
    uint8_t handle[16] = { 1 };
    struct imap_start st = { .fd = -1,
                             .handle = handle,
                             .user = SL("anna"),
                             .session = SL("S1"),
                             .is_relay = true };
    struct imap_server *first = b->server;
    struct imap_parts parts = first->parts;
    char mail[200];
    struct client c;
    struct buf rec;
    struct err err;

    buf_init(&rec, 1 << 20);
    first->quiet_idle_ms = 30;
    bench_deliver(b, letter);
    client_relay(b, &c, 1);
    (void)client_do(&c, "ENABLE CONDSTORE");
    (void)client_do(&c, "EXAMINE INBOX");
    client_send(&c, "i IDLE\r\n");
    (void)client_read(&c, "+ ");
    accept_park(b, &c, 1);
    assert_int_equal(imap_record(first, handle, &rec, &err), 0);
    assert_true(rec.n < 200);
    b->server = imap_server_new(&parts);
    (void)snprintf(mail, sizeof mail, "maildir:%s/anna", b->dir);
    st.mail = slice_str(mail);
    assert_int_equal(imap_restore(b->server, &st,
                                  slice_sub(buf_view(&rec), 0, 10), &err),
                     -1);
    assert_int_equal(imap_sessions(b->server), 0);
    bench_deliver(b, letter);
    assert_int_equal(imap_restore(b->server, &st, buf_view(&rec), &err), 0);
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 2 EXISTS\r\n");
    wake(b, &c, 1);
    client_send(&c, "DONE\r\n");
    has(client_read(&c, "i "), "i OK Idle completed.");
    has(client_do(&c, "STORE 1 FLAGS ()"), "x NO [READ-ONLY]");
    has(client_do(&c, "FETCH 1 MODSEQ"), "* 1 FETCH (MODSEQ (");
    client_stop(&c);
    imap_drop(first, handle);
    task_yield();
    assert_int_equal(imap_sessions(first), 0);
    imap_server_free(&first);
    buf_done(&rec);
}

static void test_records(void **state)
{
    (void)state;
    bench_run("", records);
}

static void ending(struct bench *b)
{
    uint8_t handle[16] = { 1 }, other[16] = { 9 };
    struct stream *x, *y;
    struct client c;

    b->server->quiet_ms = 30;
    client_relay(b, &c, 1);
    accept_park(b, &c, 1);
    imap_kick(b->server, handle, SL("You were kicked."));
    WAIT_FOR(b->n_ended == 1);
    has(pushed(b), "* BYE You were kicked.\r\n");
    buf_done(&c.seen);
    client_relay(b, &c, 1);
    accept_park(b, &c, 1);
    imap_drop(b->server, handle);
    assert_int_equal(b->n_ended, 2);
    buf_done(&c.seen);
    stream_pair(&x, &y);
    assert_false(imap_wake_stream(b->server, other, y));
    stream_free(&x);
    client_relay(b, &c, 1);
    (void)client_do(&c, "NOOP");
    stream_free(&c.stream); /* gone, without having been asked */
    WAIT_FOR(b->n_ended == 3);
    buf_done(&c.seen);
}

static void test_ending(void **state)
{
    (void)state;
    bench_run("", ending);
}

/* What a stranger puts there is seen by a look at the directory. */
static void strangers(struct bench *b)
{
    struct client c;
    char path[200];
    FILE *f;

    b->server->pack_above = 0;
    b->server->quiet_idle_ms = 30;
    client_relay(b, &c, 1);
    (void)client_do(&c, "SELECT INBOX");
    client_send(&c, "i IDLE\r\n");
    (void)client_read(&c, "+ ");
    accept_park(b, &c, 1);
    assert_true(session_of(b, 1)->is_packed);
    (void)snprintf(path, sizeof path, "%s/anna/new/1.2.host", b->dir);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(letter, f);
    (void)fclose(f);
    WAIT_FOR(b->pushed.n > 0);
    has(pushed(b), "* 1 EXISTS\r\n");
    wake(b, &c, 1);
    client_send(&c, "DONE\r\n");
    (void)client_read(&c, "i ");
    client_stop(&c);
}

static void test_strangers(void **state)
{
    (void)state;
    bench_run("", strangers);
}

/* A parked session of a mailbox with 100 messages costs less than 1 KiB. */
static void memory(struct bench *b)
{
    enum { N = 400 };

    struct client c;
    struct mallinfo2 before = { 0 };
    struct mallinfo2 after;

    b->server->pack_above = 0;
    b->server->quiet_idle_ms = 1;
    for (int i = 0; i < 100; i++)
        bench_deliver(b, letter);
    for (unsigned i = 0; i < N; i++) {
        uint8_t handle[16] = { (uint8_t)i, (uint8_t)(i >> 8), 1 };
        struct imap_session *s;

        if (i == 100)
            before = mallinfo2();
        client_relay_handle(b, &c, handle);
        (void)client_do(&c, "SELECT INBOX");
        client_send(&c, "i IDLE\r\n");
        (void)client_read(&c, "+ ");
        s = CONTAINER_OF(map_get(&b->server->by_handle, slice_of(handle, 16)),
                         struct imap_session, node);
        WAIT_FOR(s->park_asked);
        stream_free(&c.stream);
        buf_done(&c.seen);
        WAIT_FOR(s->stream == NULL);
    }
    after = mallinfo2();
    if (after.uordblks > before.uordblks) /* 0 under a sanitizer */
        assert_true((after.uordblks - before.uordblks) / (N - 100) < 1024);
    if (getenv("TEST_TALK"))
        (void)fprintf(stderr, "a parked session: %zu bytes\n",
                      (after.uordblks - before.uordblks) / (N - 100));
    imap_close_all(b->server, SL("Bye."));
    WAIT_FOR(imap_sessions(b->server) == 0);
}

static void test_memory(void **state)
{
    (void)state;
    bench_run("", memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parking), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_missing), cmocka_unit_test(test_records),
        cmocka_unit_test(test_ending),  cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_giving),
    };

    return cmocka_run_group_tests_name("imap-park", tests, NULL, NULL);
}
