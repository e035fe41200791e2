#include "keys/keys_priv.h"

#include "rt/test_util_tls.h"

#include <sys/mman.h>

/* The process `keys` and a keyring in one process, with a master between. */

#define MASTER_CF "25 inet n - n - - smtpd\n"
#define MAIN_CF                                                                \
 "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /c\n"                  \
 "smtpd_tls_key_file = /k\n"

static struct process p;
static struct chan *master;
static struct keys *keys;
/* They live as long as their process. */
static struct keys *kept[8];
static size_t n_kept;
static struct keyring *ring;
static struct test_cert one, two;

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    int fds[2];

    assert_int_equal(m->type, MASTER_CONNECT);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    keys_on_peer(keys, fds[0]);
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };
static const struct chan_ops quiet_ops = { .on_msg = NULL };

static int file_of(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    return fd;
}

static int open_all(void **state UNUSED)
{
    int fds[2];

    loop_init("test", 1);
    if (one.cert == NULL) {
        one = test_cert_new("P-256", "one");
        two = test_cert_new("RSA", "two");
    }
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    memset(&p, 0, sizeof p);
    p.conf = conf_from_text(SL(MAIN_CF), SL(MASTER_CF), NULL);
    p.master = chan_new(fds[0], &quiet_ops, NULL);
    master = chan_new(fds[1], &master_ops, NULL);
    keys = keys_new(&p);
    kept[n_kept++] = keys;
    ring = NULL;
    return 0;
}

static int close_all(void **state UNUSED)
{
    keyring_free(&ring);
    chan_free(&p.master);
    chan_free(&master);
    conf_unref(&p.conf);
    loop_done();
    return 0;
}

static struct tls_context *ask(void)
{
    return keyring_context(ring, conf_service_at(p.conf, 0), NULL);
}

static void pause_ms(msec ms)
{
    struct err err;

    assert_int_equal(task_sleep(ms, &err), 0);
}

/* ---- the pair */

static void pair_task(void *arg UNUSED)
{
    struct tls_context *c, *before;
    uint8_t ids[4][32];

    ring = keyring_new(&p);
    keyring_on_fd(ring, SL("cert:/c"), file_of(one.cert));
    keyring_wait(ring, clock_after(5000));
    assert_null(ask()); /* there is no key */
    keys_on_fd(keys, SL("key:/k"), file_of(one.key));
    pause_ms(30);
    c = ask();
    assert_non_null(c);
    assert_int_equal(tls_context_key_ids(c, ids, 4), 1);
    assert_memory_equal(ids[0], tls_key_id(one.private), 32);
    /* A certificate without its key changes nothing. */
    keyring_on_fd(ring, SL("cert:/c"), file_of(two.cert));
    pause_ms(30);
    before = ask();
    assert_non_null(before);
    assert_int_equal(tls_context_key_ids(before, ids, 4), 1);
    assert_memory_equal(ids[0], tls_key_id(one.private), 32);
    /* Nonsense neither. */
    keys_on_fd(keys, SL("key:/k"), file_of("nonsense"));
    keyring_on_fd(ring, SL("cert:/c"), file_of("nonsense"));
    pause_ms(30);
    assert_non_null(ask());
    assert_int_equal(tls_context_key_ids(ask(), ids, 4), 1);
    assert_memory_equal(ids[0], tls_key_id(one.private), 32);
    /* Both. */
    keyring_on_fd(ring, SL("cert:/c"), file_of(two.cert));
    keys_on_fd(keys, SL("key:/k"), file_of(two.key));
    pause_ms(30);
    assert_int_equal(tls_context_key_ids(ask(), ids, 4), 1);
    assert_memory_equal(ids[0], tls_key_id(two.private), 32);
    loop_stop();
}

static void test_pair(void **state UNUSED)
{
    (void)task_spawn("test", pair_task, NULL);
    loop_run();
}

/* ---- a handshake through all of it */

static void accept_task(void *arg)
{
    struct stream *s = arg;
    struct err err;

    if (stream_tls_accept(s, ask(), &err) < 0)
        fail_msg("%s", err.log);
    stream_free(&s);
}

static void handshake_task(void *arg UNUSED)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct stream *a, *b;
    SSL *ssl;

    ring = keyring_new(&p);
    keyring_on_fd(ring, SL("cert:/c"), file_of(one.cert));
    keys_on_fd(keys, SL("key:/k"), file_of(one.key));
    keyring_wait(ring, clock_after(5000));
    pause_ms(30);
    stream_pair(&a, &b);
    (void)task_spawn("accept", accept_task, a);
    ssl = test_client(ctx, b);
    assert_int_equal(SSL_connect(ssl), 1);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    stream_free(&b);
    loop_stop();
}

static void test_handshake(void **state UNUSED)
{
    (void)task_spawn("test", handshake_task, NULL);
    loop_run();
}

/* ---- what the process answers to those who ask wrongly */

static uint8_t tickets[4096];
static size_t n_tickets;

static void note_tickets(struct chan *c UNUSED, struct msg *m, void *arg UNUSED)
{
    if (m->type != KEYS_TICKETS)
        return;
    n_tickets = min_size(m->body.n, sizeof tickets);
    memcpy(tickets, m->body.p, n_tickets);
}

static int sign(struct chan *c, slice id, uint64_t scheme, slice tbs,
                struct err *err)
{
    struct buf b;
    struct msg answer;
    int rc;

    buf_init(&b, 100000);
    attr_put(&b, AT_KEY_ID, id);
    attr_put_u64(&b, AT_SCHEME, scheme);
    attr_put(&b, AT_CONTENT, tbs);
    rc = chan_call(c, KEYS_SIGN, buf_view(&b), NULL, 0, clock_after(5000),
                   &answer, err);
    if (rc == 0) {
        assert_null(memmem(answer.body.p, answer.body.n, one.key + 40, 20));
        msg_free(&answer);
    }
    buf_done(&b);
    return rc;
}

static void wrong_task(void *arg UNUSED)
{
    static const struct chan_ops ops = { .on_msg = note_tickets };
    slice id = slice_of(tls_key_id(one.private), 32);
    uint8_t other[32] = { 1 };
    struct chan *c;
    struct msg answer;
    struct err err;
    int fds[2];

    keys_on_fd(keys, SL("key:/k"), file_of(one.key));
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    keys_on_peer(keys, fds[0]);
    c = chan_new(fds[1], &ops, NULL);
    assert_int_equal(sign(c, id, 0x0403, SL("to be signed"), &err), 0);
    assert_int_equal(sign(c, id, 0x0804, SL("x"), &err), -1); /* RSA's */
    assert_int_equal(sign(c, id, 99, SL("x"), &err), -1);
    assert_int_equal(sign(c, slice_of(other, 32), 0x0403, SL("x"), &err), -1);
    assert_int_equal(sign(c, slice_of(other, 3), 0x0403, SL("x"), &err), -1);
    assert_int_equal(sign(c, SLICE_NONE, UINT64_MAX, SLICE_NONE, &err), -1);
    assert_int_equal(chan_call(c, 9999, SLICE_NONE, NULL, 0, clock_after(5000),
                               &answer, &err),
                     -1);
    /* The names and secrets of one ticket key came at once. */
    assert_int_equal(n_tickets, 6 + 16 + 6 + 64 + 6 + 8);
    chan_free(&c);
    loop_stop();
}

static void test_wrong_questions(void **state UNUSED)
{
    (void)task_spawn("test", wrong_task, NULL);
    loop_run();
}

/* ---- keys that no parameter names any more */

static size_t n_keys(void)
{
    struct buf b;
    size_t n = 0;
    slice rest, line;

    buf_init(&b, 10000);
    keys_dump(keys, &b);
    rest = buf_view(&b);
    while (rest.n > 0) {
        slice_cut(&rest, '\n', &line);
        n += slice_starts(line, SL("key /"));
    }
    buf_done(&b);
    return n;
}

static void test_versions_and_list(void **state UNUSED)
{
    char *both = xasprintf("%s%s%s", one.key, one.cert, two.key);

    keys_on_fd(keys, SL("key:/a"), file_of(both));
    assert_int_equal(n_keys(), 2);
    keys_on_fd(keys, SL("key:/a"), file_of(both));
    assert_int_equal(n_keys(), 2);
    keys_on_fd(keys, SL("key:/b"), file_of(one.key));
    assert_int_equal(n_keys(), 3);
    keys_on_fd(keys, SL("keylist"), file_of("/b\n"));
    assert_int_equal(n_keys(), 3); /* for a minute */
    keys_on_fd(keys, SL("other:/x"), file_of(one.key));
    assert_int_equal(n_keys(), 3);
    free(both);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pair),
        TEST(test_handshake),
        TEST(test_wrong_questions),
        TEST(test_versions_and_list),
    };

    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
