/* Any bytes in the place of a TLS client, or of a server, in any portions: the
 * handshake ends, nothing is taken for protected input, and memory stays
 * bounded. */
#include "rt/rt.h"
#include "rt/stream.h"
#include "rt/tls.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

struct run {
    slice data;
    struct stream *server, *client;
    size_t portion;
};

static struct tls_context *context, *client_context;
static struct tls_key *key;

/* The fuzzer's own prototype. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int sign(void *arg, const uint8_t id[static 32], uint16_t scheme,
                slice tbs, struct buf *out, struct err *err)
{
    (void)arg;
    (void)id;
    return tls_key_sign(key, scheme, tbs, out, err);
}

static slice text_of(BIO *b)
{
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);

    return slice_of(p, (size_t)n);
}

static void make_context(void)
{
    EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *x = X509_new();
    BIO *cert = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_mem());
    struct tls_cert one;
    struct tls_settings set = { .certs = &one,
                                .n_certs = 1,
                                .sign = sign,
                                .ask_client_cert = true,
                                .verify_depth = 3,
                                .alpn = "imap",
                                .session_sec = 60 };
    struct err err;

    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, k);
    CHECK(X509_sign(x, k, EVP_sha256()) > 0);
    CHECK(PEM_write_bio_X509(cert, x) == 1);
    CHECK(PEM_write_bio_PrivateKey(pem, k, NULL, NULL, 0, NULL, NULL) == 1);
    one.chain = text_of(cert);
    CHECK(tls_key_new(text_of(pem), &key, &err) == 0);
    CHECK(tls_context_new(&set, &context, &err) == 0);
    set = (struct tls_settings){ .ca = one.chain };
    CHECK(tls_context_new(&set, &client_context, &err) == 0);
    EVP_PKEY_free(k);
    X509_free(x);
    (void)BIO_free(cert);
    (void)BIO_free(pem);
}

MAY_WAIT static void feed(void *arg)
{
    struct run *r = arg;
    struct err err;

    while (r->data.n > 0) {
        slice part = slice_sub(r->data, 0, r->portion);

        if (stream_write(r->client, part, &err) < 0 ||
            stream_flush(r->client, &err) < 0)
            break;
        r->data = slice_from(r->data, part.n);
        task_yield();
    }
    stream_free(&r->client);
}

MAY_WAIT static void serve(void *arg)
{
    struct run *r = arg;
    struct tls_info info;
    struct err err;

    if (stream_tls_accept(r->server, context, &err) == 0) {
        /* Without our randomness nobody gets here by chance. */
        while (stream_fill(r->server, &err) == 0 && !stream_eof(r->server))
            stream_consume(r->server, stream_peek(r->server).n);
        CHECK(stream_tls_info(r->server, &info));
    } else {
        CHECK(err.class == ERR_PEER);
    }
    stream_free(&r->server);
}

MAY_WAIT static void call(void *arg)
{
    const slice name = SL("mx.example.org");
    const struct tls_tlsa tlsa = { 3, 1, 1,
                                   SL("01234567890123456789012345678901") };
    const struct tls_connect how = { .check = TLS_CHECK_DANE,
                                     .names = &name,
                                     .n_names = 1,
                                     .tlsa = &tlsa,
                                     .n_tlsa = 1 };
    struct tls_server_info info;
    struct run *r = arg;
    struct err err;

    if (stream_tls_connect(r->server, client_context, &how, &info, &err) < 0)
        CHECK(err.class == ERR_PEER);
    else
        CHECK(!info.is_matched);
    stream_free(&r->server);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static bool is_ready;
    struct run r;

    if (n < 1)
        return 0;
    if (!is_ready) {
        loop_init("fuzz", 1);
        make_context();
        is_ready = true;
    }
    r = (struct run){ .data = slice_of(p + 1, n - 1),
                      .portion = (size_t)p[0] * 8 + 1 };
    stream_pair(&r.server, &r.client);
    if (p[0] & 1)
        (void)task_spawn("call", call, &r);
    else
        (void)task_spawn("serve", serve, &r);
    (void)task_spawn("feed", feed, &r);
    loop_run_until_idle();
    return 0;
}
