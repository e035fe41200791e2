#include "rt/tls.h"

#include "base/digest.h"
#include "rt/test_util_tls.h"

#include <sys/socket.h>

#define MAX_CERTS 3

/* What one test asks for, and what came of it. */
struct talk {
    const char *kinds[MAX_CERTS];
    struct tls_settings set;
    bool on_sockets;
    msec sign_ms; /* a signature takes this long */
    bool sign_fails;
    int client_max;          /* version */
    const char *client_sigs; /* signature algorithms */
    const char *client_name; /* SNI */
    const char *client_alpn;
    const char *client_cert_kind;
    SSL_SESSION *session; /* to resume; replaced by the new one */
    void (*client)(struct talk *t, SSL *ssl);
    void (*server)(struct talk *t);
    /* */
    struct test_cert certs[MAX_CERTS];
    struct tls_context *context;
    struct stream *a, *b; /* server, client */
    unsigned n_signed;
    int accept_rc, connect_rc;
    struct err err;
    bool was_resumed;
    size_t n_got;
};

/* Of the last handshake. */
static struct tls_info info;

static int sign(void *arg, const uint8_t id[static 32], uint16_t scheme,
                slice tbs, struct buf *out, struct err *err)
{
    struct talk *t = arg;

    t->n_signed++;
    if (t->sign_ms > 0 && task_sleep(t->sign_ms, err) < 0)
        return -1;
    /* What another task left behind does not disturb this handshake. */
    ERR_raise_data(ERR_LIB_SSL, 1, "not mine");
    if (t->sign_fails)
        return err_temp(err, "keys is not there");
    for (size_t i = 0; i < MAX_CERTS && t->certs[i].private != NULL; i++)
        if (memcmp(tls_key_id(t->certs[i].private), id, 32) == 0)
            return tls_key_sign(t->certs[i].private, scheme, tbs, out, err);
    return err_perm(err, "no such key");
}

static void server(void *arg)
{
    struct talk *t = arg;

    stream_deadline(t->a, clock_after(10000));
    t->accept_rc = stream_tls_accept(t->a, t->context, &t->err);
    if (t->accept_rc == 0) {
        assert_true(stream_is_tls(t->a));
        assert_true(stream_tls_info(t->a, &info));
        if (t->server != NULL)
            t->server(t);
    }
    stream_free(&t->a);
}

static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    struct talk *t = SSL_get_app_data(ssl);

    SSL_SESSION_free(t->session);
    t->session = s;
    return 1;
}

static SSL_CTX *client_context(struct talk *t)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (t->client_max != 0)
        SSL_CTX_set_max_proto_version(ctx, t->client_max);
    if (t->client_sigs != NULL) {
        char *list = xstrdup(t->client_sigs);

        assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, list), 1);
        free(list);
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
                                            SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    if (t->client_cert_kind != NULL) {
        struct test_cert c = test_cert_new(t->client_cert_kind, "the client");
        BIO *b = BIO_new_mem_buf(c.cert, -1);
        BIO *k = BIO_new_mem_buf(c.key, -1);
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);

        assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
        X509_free(x);
        EVP_PKEY_free(key);
        (void)BIO_free(b);
        (void)BIO_free(k);
        test_cert_free(&c);
    }
    return ctx;
}

static void client(void *arg)
{
    struct talk *t = arg;
    SSL_CTX *ctx = client_context(t);
    SSL *ssl = test_client(ctx, t->b);

    stream_deadline(t->b, clock_after(10000));
    SSL_set_app_data(ssl, t);
    if (t->client_name != NULL) {
        char *name = xstrdup(t->client_name);

        SSL_set_tlsext_host_name(ssl, name);
        free(name);
    }
    if (t->client_alpn != NULL)
        SSL_set_alpn_protos(ssl, (const unsigned char *)t->client_alpn,
                            (unsigned)strlen(t->client_alpn));
    if (t->session != NULL)
        SSL_set_session(ssl, t->session);
    t->connect_rc = SSL_connect(ssl);
    t->was_resumed = SSL_session_reused(ssl);
    if (t->connect_rc == 1 && t->client != NULL)
        t->client(t, ssl);
    /* Before TLS 1.3 nobody is called for a renewed ticket. */
    if (t->connect_rc == 1 && t->session != NULL &&
        SSL_version(ssl) == TLS1_2_VERSION)
        (void)keep_session(ssl, SSL_get1_session(ssl));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    stream_free(&t->b);
}

static void make_streams(struct talk *t)
{
    int fds[2];

    if (!t->on_sockets) {
        stream_pair(&t->a, &t->b);
        return;
    }
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    t->a = stream_from_fd(fds[0]);
    t->b = stream_from_fd(fds[1]);
}

static void make_context(struct talk *t)
{
    struct tls_cert list[MAX_CERTS];
    struct err err;

    t->set.certs = list;
    t->set.sign = sign;
    t->set.sign_arg = t;
    if (t->set.session_sec == 0)
        t->set.session_sec = 3600;
    for (size_t i = 0; i < MAX_CERTS && t->kinds[i] != NULL; i++) {
        t->certs[i] = test_cert_new(t->kinds[i], "server.example");
        list[t->set.n_certs++].chain = slice_str(t->certs[i].cert);
    }
    if (tls_context_new(&t->set, &t->context, &err) < 0)
        fail_msg("%s", err.log);
}

static void run(struct talk *t)
{
    make_streams(t);
    (void)task_spawn("server", server, t);
    (void)task_spawn("client", client, t);
    loop_run_until_idle();
}

static void done(struct talk *t)
{
    tls_context_unref(&t->context);
    SSL_SESSION_free(t->session);
    for (size_t i = 0; i < MAX_CERTS; i++)
        if (t->certs[i].cert != NULL)
            test_cert_free(&t->certs[i]);
}

/* ---- */

static void hello_server(struct talk *t)
{
    struct err err;
    slice line;

    assert_int_equal(stream_line(t->a, 100, &line, &err), 0);
    assert_slice(line, SL("hello\r\n"));
    assert_int_equal(stream_puts(t->a, "and good ", &err), 0);
    assert_int_equal(stream_puts(t->a, "bye\r\n", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    assert_int_equal(stream_fill(t->a, &err), 0);
    assert_true(stream_eof(t->a));
    assert_true(stream_tls_info(t->a, &info));
}

static void hello_client(struct talk *t, SSL *ssl)
{
    char text[64];
    int n = 0, got;

    assert_int_equal(test_send(ssl, "hello\r\n"), 7);
    do {
        got = SSL_read(ssl, text + n, (int)sizeof(text) - n);
        n += got;
    } while (got > 0 && n < 14);
    assert_int_equal(n, 14);
    assert_memory_equal(text, "and good bye\r\n", 14);
    t->n_got = (size_t)n;
    (void)SSL_shutdown(ssl);
    (void)BIO_flush(SSL_get_wbio(ssl));
}

static const struct {
    const char *kind;
    int version;
    const char *sigs;
    const char *signature; /* of TLS 1.3 */
} kinds[] = {
    { "RSA", TLS1_3_VERSION, NULL,
      "server-signature RSA-PSS (2048 bits) server-digest SHA256" },
    { "RSA", TLS1_3_VERSION, "RSA-PSS+SHA512",
      "server-signature RSA-PSS (2048 bits) server-digest SHA512" },
    { "RSA", TLS1_2_VERSION, "RSA+SHA256", "" },
    { "RSA", TLS1_2_VERSION, "RSA-PSS+SHA384", "" },
    { "P-256", TLS1_3_VERSION, NULL,
      "server-signature ECDSA (P-256) server-digest SHA256" },
    { "P-256", TLS1_2_VERSION, "ECDSA+SHA512", "" },
    { "P-384", TLS1_3_VERSION, NULL,
      "server-signature ECDSA (P-384) server-digest SHA384" },
    { "ED25519", TLS1_3_VERSION, NULL, "server-signature ED25519" },
    { "ED25519", TLS1_2_VERSION, NULL, "" },
};

static void test_every_kind_of_key(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct talk t = { .kinds = { kinds[i].kind },
                          .client_max = kinds[i].version,
                          .client_sigs = kinds[i].sigs,
                          .sign_ms = 3,
                          .on_sockets = i % 2 == 0,
                          .server = hello_server,
                          .client = hello_client };

        make_context(&t);
        run(&t);
        if (t.accept_rc != 0)
            fail_msg("%s: %s", kinds[i].kind, t.err.log);
        assert_int_equal(t.connect_rc, 1);
        assert_int_equal(t.n_signed, 1);
        assert_int_equal(t.n_got, 14);
        assert_string_equal(info.protocol, kinds[i].version == TLS1_3_VERSION
                                               ? "TLSv1.3"
                                               : "TLSv1.2");
        assert_string_equal(info.signature, kinds[i].signature);
        assert_false(info.was_cut);
        assert_false(info.has_client_cert);
        if (kinds[i].version == TLS1_3_VERSION)
            assert_string_equal(info.key_exchange, "X25519");
        done(&t);
    }
}

/* The client's signature algorithms choose between two certificates. */
static void test_two_certificates(void **state UNUSED)
{
    static const char *const sigs[] = { "RSA-PSS+SHA256", "ECDSA+SHA256" };

    for (size_t i = 0; i < 2; i++) {
        struct talk t = { .kinds = { "RSA", "P-256" },
                          .client_sigs = sigs[i],
                          .server = hello_server,
                          .client = hello_client };
        uint8_t ids[4][32];

        make_context(&t);
        assert_int_equal(tls_context_key_ids(t.context, ids, 4), 2);
        assert_memory_equal(ids[0], tls_key_id(t.certs[0].private), 32);
        assert_memory_equal(ids[1], tls_key_id(t.certs[1].private), 32);
        run(&t);
        assert_int_equal(t.accept_rc, 0);
        assert_non_null(strstr(info.signature, i == 0 ? "RSA" : "ECDSA"));
        done(&t);
    }
}

/* ---- much data both ways, with a peer that reads slowly */

#define MUCH (3u << 20)

static void much_server(struct talk *t)
{
    static char piece[30000];
    size_t n = 0;
    struct err err;

    memset(piece, 'x', sizeof(piece));
    while (n < MUCH) {
        assert_int_equal(
            stream_write(t->a, slice_of(piece, sizeof(piece)), &err), 0);
        n += sizeof(piece);
    }
    assert_int_equal(stream_flush(t->a, &err), 0);
    for (n = 0; !stream_eof(t->a);) {
        slice have = stream_peek(t->a);

        for (size_t i = 0; i < have.n; i++)
            assert_int_equal(have.p[i], 'y');
        n += have.n;
        stream_consume(t->a, have.n);
        assert_int_equal(stream_fill(t->a, &err), 0);
    }
    assert_true(n >= MUCH);
}

static void much_client(struct talk *t, SSL *ssl)
{
    static char piece[20000];
    struct err err;
    size_t n = 0;

    while (n < MUCH) {
        int got = SSL_read(ssl, piece, sizeof(piece));

        assert_true(got > 0);
        n += (size_t)got;
        if (n % 7 == 0)
            (void)task_sleep(1, &err);
    }
    t->n_got = n;
    memset(piece, 'y', sizeof(piece));
    for (n = 0; n < MUCH; n += sizeof(piece))
        assert_int_equal(SSL_write(ssl, piece, sizeof(piece)), sizeof(piece));
    (void)SSL_shutdown(ssl);
    (void)BIO_flush(SSL_get_wbio(ssl));
}

static void test_much(void **state UNUSED)
{
    for (int sockets = 0; sockets <= 1; sockets++) {
        struct talk t = { .kinds = { "P-256" },
                          .on_sockets = sockets,
                          .server = much_server,
                          .client = much_client };

        make_context(&t);
        run(&t);
        assert_int_equal(t.accept_rc, 0);
        assert_true(t.n_got >= MUCH);
        done(&t);
    }
}

/* ---- quiet streams */

static int n_wakes;

static void woken(void *arg, enum stream_why why)
{
    struct talk *t = arg;
    slice have = stream_peek(t->a);
    struct err err;

    if (why == STREAM_EOF) {
        stream_free(&t->a);
        return;
    }
    assert_int_equal(why, STREAM_INPUT);
    n_wakes++;
    assert_slice(have, SL("ping"));
    stream_consume(t->a, have.n);
    assert_int_equal(stream_puts(t->a, "pong", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), 0);
    stream_park(t->a, MSEC_NEVER, woken, t);
}

static void park_server(void *arg)
{
    struct talk *t = arg;

    assert_int_equal(stream_tls_accept(t->a, t->context, &t->err), 0);
    stream_park(t->a, MSEC_NEVER, woken, t);
}

static void park_client(struct talk *t, SSL *ssl)
{
    char text[8];
    struct err err;

    for (int i = 0; i < 5; i++) {
        assert_int_equal(test_send(ssl, "ping"), 4);
        assert_int_equal(SSL_read(ssl, text, sizeof(text)), 4);
        assert_memory_equal(text, "pong", 4);
        assert_int_equal(task_sleep(2, &err), 0);
        /* A key update is answered while the stream is parked. */
        if (t->client_max != TLS1_2_VERSION && i == 2)
            assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    }
}

static void test_parked(void **state UNUSED)
{
    for (int i = 0; i < 4; i++) {
        struct talk t = { .kinds = { "P-256" },
                          .on_sockets = i & 1,
                          .client_max = i & 2 ? TLS1_2_VERSION : 0,
                          .client = park_client };

        n_wakes = 0;
        make_context(&t);
        make_streams(&t);
        (void)task_spawn("server", park_server, &t);
        (void)task_spawn("client", client, &t);
        loop_run_until_idle();
        assert_int_equal(n_wakes, 5);
        assert_null(t.a);
        done(&t);
    }
}

/* Bytes that came with the last ones of the handshake wake at once. */
static void early_client(struct talk *t UNUSED, SSL *ssl)
{
    char text[8];

    assert_int_equal(SSL_read(ssl, text, sizeof(text)), 4);
}

static void early_connect(void *arg)
{
    struct talk *t = arg;
    SSL_CTX *ctx = client_context(t);
    SSL *ssl = test_client(ctx, t->b);

    SSL_set_app_data(ssl, t);
    assert_int_equal(SSL_connect(ssl), 1); /* our Finished is not flushed */
    assert_int_equal(test_send(ssl, "ping"), 4);
    early_client(t, ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    stream_free(&t->b);
}

static void test_early_bytes(void **state UNUSED)
{
    for (int i = 0; i < 2; i++) {
        struct talk t = { .kinds = { "P-256" }, .on_sockets = i };

        n_wakes = 0;
        make_context(&t);
        make_streams(&t);
        (void)task_spawn("server", park_server, &t);
        (void)task_spawn("client", early_connect, &t);
        loop_run_until_idle();
        assert_int_equal(n_wakes, 1);
        done(&t);
    }
}

/* ---- resumption */

static struct tls_ticket_key ticket_key(int n)
{
    struct tls_ticket_key k;

    memset(&k, n, sizeof(k));
    return k;
}

static void read_some(struct talk *t UNUSED, SSL *ssl)
{
    char text[8];

    (void)test_send(ssl, "ping");
    (void)SSL_read(ssl, text, sizeof(text));
    (void)SSL_shutdown(ssl);
    (void)BIO_flush(SSL_get_wbio(ssl));
}

static void answer_ping(struct talk *t)
{
    struct err err;

    (void)stream_fill(t->a, &err);
    (void)stream_puts(t->a, "pong", &err);
    (void)stream_flush(t->a, &err);
}

static void test_resumption(void **state UNUSED)
{
    static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
    struct tls_ticket_key keys[3] = { ticket_key(1) };

    for (size_t i = 0; i < 2; i++) {
        struct talk t = { .kinds = { "P-256" },
                          .client_max = versions[i],
                          .client_cert_kind = "P-256",
                          .set = { .ask_client_cert = true, .verify_depth = 9 },
                          .server = answer_ping,
                          .client = read_some };

        keys[0] = ticket_key(1);
        tls_ticket_keys(keys, 1);
        make_context(&t);
        run(&t);
        assert_int_equal(t.accept_rc, 0);
        assert_false(t.was_resumed);
        assert_non_null(t.session);
        /* Another process has the same keys, and newer ones. */
        keys[0] = ticket_key(2);
        keys[1] = ticket_key(1);
        tls_ticket_keys(keys, 2);
        run(&t);
        assert_true(t.was_resumed);
        assert_true(info.was_resumed);
        assert_int_equal(t.n_signed, 1);
        /* The client's certificate is still known. */
        assert_string_equal(info.client_name, "the client");
        /* It was given a ticket of the new key. */
        tls_ticket_keys(keys, 1);
        run(&t);
        assert_true(t.was_resumed);
        /* A key that is gone opens nothing, and nothing fails. */
        keys[0] = ticket_key(3);
        tls_ticket_keys(keys, 1);
        run(&t);
        assert_false(t.was_resumed);
        assert_int_equal(t.accept_rc, 0);
        assert_int_equal(t.n_signed, 2);
        done(&t);
    }
}

/* ---- names, ALPN */

static struct tls_context *by_name(void *arg, slice name)
{
    return slice_eqs(name, "other.example") ? arg : NULL;
}

static void check_name(struct talk *t UNUSED, SSL *ssl)
{
    X509 *x = SSL_get0_peer_certificate(ssl);
    EVP_PKEY *key = X509_get0_pubkey(x);

    assert_int_equal(EVP_PKEY_is_a(key, "RSA"),
                     strcmp(t->client_name, "other.example") == 0);
}

static void test_names(void **state UNUSED)
{
    static const char *const names[] = { "other.example", "x.example" };
    struct talk other = { .kinds = { "RSA" } };

    make_context(&other);
    for (size_t i = 0; i < 2; i++) {
        struct talk t = { .kinds = { "P-256" },
                          .client_name = names[i],
                          .set = { .by_name = by_name },
                          .client = check_name };

        t.set.by_name_arg = other.context;
        make_context(&t);
        run(&t);
        assert_int_equal(t.accept_rc, 0);
        assert_int_equal(t.connect_rc, 1);
        assert_string_equal(info.sni, names[i]);
        assert_int_equal(other.n_signed, 1);
        done(&t);
    }
    done(&other);
}

static void test_alpn(void **state UNUSED)
{
    static const struct {
        const char *offer;
        bool ok;
    } offers[] = {
        { NULL, true },
        { "\4imap", true },
        { "\2h2\4imap", true },
        { "\2h2\10http/1.1", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        struct talk t = { .kinds = { "P-256" },
                          .client_alpn = offers[i].offer,
                          .set = { .alpn = "imap" } };

        make_context(&t);
        run(&t);
        assert_int_equal(t.accept_rc, offers[i].ok ? 0 : -1);
        if (!offers[i].ok)
            assert_int_equal(t.err.class, ERR_PEER);
        done(&t);
    }
}

/* ---- client certificates */

static void test_client_certificate(void **state UNUSED)
{
    struct test_cert ca = test_cert_new("P-256", "someone else");
    struct talk t = {
        .kinds = { "P-256" },
        .client_cert_kind = "P-256",
        .set = { .ask_client_cert = true, .verify_depth = 9, .digest = "sha1" }
    };

    t.set.ca = slice_str(ca.cert);
    make_context(&t);
    run(&t);
    assert_int_equal(t.accept_rc, 0);
    assert_true(info.has_client_cert);
    assert_false(info.client_cert_ok); /* signed by itself */
    assert_string_equal(info.client_name, "the client");
    assert_string_equal(info.client_issuer, "the client");
    assert_int_equal(strlen(info.client_fingerprint), 59);
    assert_int_equal(strlen(info.client_key_fingerprint), 59);
    assert_non_null(strstr(info.signature, " client-signature ECDSA"));
    done(&t);
    test_cert_free(&ca);
}

/* ---- what goes wrong */

static void fails(const struct talk *what, enum err_class class,
                  const char *text)
{
    static struct talk t;

    t = *what;
    make_context(&t);
    run(&t);
    assert_int_equal(t.accept_rc, -1);
    assert_int_equal(t.err.class, class);
    if (strstr(t.err.log, text) == NULL)
        fail_msg("%s", t.err.log);
    done(&t);
}

static void test_failures(void **state UNUSED)
{
    static const struct talk old = { .kinds = { "P-256" },
                                     .client_max = TLS1_1_VERSION };
    static const struct talk dead = { .kinds = { "P-256" },
                                      .sign_fails = true };
    static const struct talk narrow = { .kinds = { "P-256" },
                                        .client_max = TLS1_2_VERSION,
                                        .set = { .min_version =
                                                     TLS1_3_VERSION } };

    fails(&old, ERR_PEER, "");
    fails(&dead, ERR_TEMP, "keys is not there");
    fails(&narrow, ERR_PEER, "unsupported protocol");
}

static void cut_client(void *arg)
{
    struct talk *t = arg;

    stream_free(&t->b);
}

static void garbage_client(void *arg)
{
    struct talk *t = arg;
    struct err err;

    (void)stream_puts(t->b, "MAIL FROM:<a@b>\r\n", &err);
    (void)stream_flush(t->b, &err);
    (void)task_sleep(5, &err);
    stream_free(&t->b);
}

static void silent_client(void *arg)
{
    struct talk *t = arg;
    struct err err;

    (void)task_sleep(60, &err);
    stream_free(&t->b);
}

static void late_server(void *arg)
{
    struct talk *t = arg;

    stream_deadline(t->a, clock_after(20));
    t->accept_rc = stream_tls_accept(t->a, t->context, &t->err);
    stream_free(&t->a);
}

static void bad_peer(task_fn *client_fn, enum err_class class, const char *text)
{
    struct talk t = { .kinds = { "P-256" }, .on_sockets = true };

    make_context(&t);
    make_streams(&t);
    (void)task_spawn("server", late_server, &t);
    (void)task_spawn("client", client_fn, &t);
    loop_run_until_idle();
    assert_int_equal(t.accept_rc, -1);
    assert_int_equal(t.err.class, class);
    if (strstr(t.err.log, text) == NULL)
        fail_msg("%s", t.err.log);
    done(&t);
}

static void test_bad_peers(void **state UNUSED)
{
    bad_peer(cut_client, ERR_PEER, "lost connection");
    bad_peer(garbage_client, ERR_PEER, "wrong version number");
    bad_peer(silent_client, ERR_TEMP, "");
}

/* Without close_notify: the end of input, and it is marked. */
static void cut_server(struct talk *t)
{
    struct err err;

    assert_int_equal(stream_fill(t->a, &err), 0);
    assert_slice(stream_peek(t->a), SL("ping"));
    stream_consume(t->a, 4);
    assert_int_equal(stream_fill(t->a, &err), 0);
    assert_true(stream_eof(t->a));
    assert_true(stream_tls_info(t->a, &info));
    assert_true(info.was_cut);
    assert_int_equal(stream_puts(t->a, "x", &err), 0);
    assert_int_equal(stream_flush(t->a, &err), -1);
}

static void send_and_go(struct talk *t UNUSED, SSL *ssl)
{
    assert_int_equal(test_send(ssl, "ping"), 4);
    SSL_set_quiet_shutdown(ssl, 1);
}

static void test_cut(void **state UNUSED)
{
    struct talk t = { .kinds = { "P-256" },
                      .on_sockets = true,
                      .server = cut_server,
                      .client = send_and_go };

    make_context(&t);
    run(&t);
    assert_int_equal(t.accept_rc, 0);
    assert_true(info.was_cut);
    done(&t);
}

/* Clear text that lies in the buffer is not taken into the session. */
static void inject_client(void *arg)
{
    struct talk *t = arg;
    struct err err;

    assert_int_equal(stream_puts(t->b, "RCPT TO:<evil>\r\n", &err), 0);
    assert_int_equal(stream_flush(t->b, &err), 0);
    assert_int_equal(task_sleep(5, &err), 0);
    client(arg);
}

static void inject_server(void *arg)
{
    struct talk *t = arg;
    struct err err;

    assert_int_equal(stream_fill(t->a, &err), 0);
    assert_int_equal(stream_peek(t->a).n, 16);
    server(arg);
}

static void test_injection(void **state UNUSED)
{
    struct talk t = { .kinds = { "P-256" },
                      .server = hello_server,
                      .client = hello_client };

    make_context(&t);
    make_streams(&t);
    (void)task_spawn("server", inject_server, &t);
    (void)task_spawn("client", inject_client, &t);
    loop_run_until_idle();
    assert_int_equal(t.accept_rc, 0);
    assert_int_equal(t.n_got, 14);
    done(&t);
}

/* Many handshakes of one process at a time, each waiting for its signature. */
static void test_many_at_once(void **state UNUSED)
{
    enum { N = 20 };
    static struct talk t[N];

    for (int i = 0; i < N; i++) {
        t[i] = (struct talk){ .kinds = { "P-256" },
                              .sign_ms = 1 + i % 7,
                              .sign_fails = i % 5 == 4,
                              .server = hello_server,
                              .client = hello_client };
        make_context(&t[i]);
        make_streams(&t[i]);
        (void)task_spawn("server", server, &t[i]);
        (void)task_spawn("client", client, &t[i]);
    }
    loop_run_until_idle();
    for (int i = 0; i < N; i++) {
        assert_int_equal(t[i].accept_rc, i % 5 == 4 ? -1 : 0);
        assert_int_equal(t[i].n_got, i % 5 == 4 ? 0 : 14);
        done(&t[i]);
    }
}

/* ---- contexts that cannot be */

static void refuse(const struct tls_settings *s, const char *text)
{
    struct tls_context *c = NULL;
    struct err err;

    assert_int_equal(tls_context_new(s, &c, &err), -1);
    assert_null(c);
    if (strstr(err.log, text) == NULL)
        fail_msg("%s", err.log);
}

static void test_bad_settings(void **state UNUSED)
{
    struct tls_cert cert = { .chain = SL("not a certificate") };
    struct tls_settings s = { .certs = &cert, .n_certs = 1, .sign = sign };
    struct test_cert good = test_cert_new("P-256", "x");
    char *broken = xasprintf("%s-----BEGIN CERTIFICATE-----\nAAAA\n"
                             "-----END CERTIFICATE-----\n",
                             good.cert);
    uint8_t id[32], id2[32];
    struct err err;

    refuse(&s, "no certificate in PEM");
    cert.chain = slice_str(broken);
    refuse(&s, "chain");
    cert.chain = slice_str(good.cert);
    s.ciphers = "NO-SUCH-CIPHER";
    refuse(&s, "cipher list");
    s.ciphers = "";
    s.groups = "nonsense";
    refuse(&s, "groups");
    s.groups = NULL;
    s.digest = "md17";
    refuse(&s, "digest");
    assert_int_equal(tls_cert_key_id(slice_str(good.cert), id, &err), 0);
    assert_int_equal(tls_cert_key_id(slice_str(good.key), id2, &err), 0);
    assert_memory_equal(id, id2, 32);
    assert_int_equal(tls_cert_key_id(SL("x"), id, &err), -1);
    free(broken);
    test_cert_free(&good);
}

static struct tls_bindings of_server;
static bool has_bindings;

static void binding_server(struct talk *t)
{
    has_bindings = stream_tls_bindings(t->a, &of_server);
    t->n_got = has_bindings ? of_server.n_exporter : 0;
    answer_ping(t);
}

/* What RFC 9266 and 5929 have the client compute. */
static void binding_client(struct talk *t, SSL *ssl)
{
    unsigned char exported[32], unique[64];
    size_t n;

    read_some(t, ssl);
    assert_true(has_bindings);
    assert_int_equal(SSL_export_keying_material(ssl, exported, 32,
                                                "EXPORTER-Channel-Binding", 24,
                                                (const unsigned char *)"", 0,
                                                1),
                     1);
    assert_memory_equal(exported, of_server.exporter, 32);
    if (SSL_version(ssl) == TLS1_3_VERSION) {
        assert_int_equal(of_server.n_unique, 0);
        return;
    }
    n = SSL_session_reused(ssl)
            ? SSL_get_peer_finished(ssl, unique, sizeof unique)
            : SSL_get_finished(ssl, unique, sizeof unique);
    assert_true(n >= 12);
    assert_int_equal(of_server.n_unique, n);
    assert_memory_equal(unique, of_server.unique, n);
}

static void test_channel_binding(void **state UNUSED)
{
    static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
    struct tls_ticket_key key = ticket_key(1);

    tls_ticket_keys(&key, 1);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct talk t = { .kinds = { "P-256" },
                          .client_max = versions[i],
                          .server = binding_server,
                          .client = binding_client };

        make_context(&t);
        for (int again = 0; again <= 1; again++) {
            has_bindings = false;
            run(&t);
            assert_int_equal(t.n_got, 32);
            assert_int_equal(t.was_resumed, again);
        }
        done(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_every_kind_of_key),
        LOOP_TEST(test_two_certificates),
        LOOP_TEST(test_much),
        LOOP_TEST(test_parked),
        LOOP_TEST(test_early_bytes),
        LOOP_TEST(test_resumption),
        LOOP_TEST(test_names),
        LOOP_TEST(test_alpn),
        LOOP_TEST(test_client_certificate),
        LOOP_TEST(test_failures),
        LOOP_TEST(test_bad_peers),
        LOOP_TEST(test_cut),
        LOOP_TEST(test_injection),
        LOOP_TEST(test_many_at_once),
        LOOP_TEST(test_bad_settings),
        LOOP_TEST(test_channel_binding),
    };

    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
