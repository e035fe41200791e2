#ifndef RT_TEST_UTIL_TLS_H
#define RT_TEST_UTIL_TLS_H

/* A certificate of our own making, and OpenSSL's client in a task, on the other
 * end of a stream. */
#include "rt/stream.h"
#include "rt/test_util_rt.h"
#include "rt/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct test_cert {
    char *cert; /* PEM */
    char *key;
    struct tls_key *private;
};

static inline char *bio_text(BIO *b)
{
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    char *text = xstrndup(p, (size_t)n);

    (void)BIO_free(b);
    return text;
}

/* `kind`: "RSA", "P-256", "P-384", "ED25519". */
static inline struct test_cert test_cert_new(const char *kind, const char *name)
{
    struct test_cert c;
    X509 *x = X509_new();
    X509_NAME *n = X509_get_subject_name(x);
    EVP_PKEY *key;
    BIO *b = BIO_new(BIO_s_mem());
    bool is_ed = kind[0] == 'E';
    struct err err;

    if (strcmp(kind, "RSA") == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    else if (is_ed)
        key = EVP_PKEY_Q_keygen(NULL, NULL, kind);
    else
        key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);
    assert_non_null(key);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, n);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, is_ed ? NULL : EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(b, x), 1);
    c.cert = bio_text(b);
    b = BIO_new(BIO_s_mem());
    assert_int_equal(
        PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL), 1);
    c.key = bio_text(b);
    assert_int_equal(tls_key_new(slice_str(c.key), &c.private, &err), 0);
    EVP_PKEY_free(key);
    X509_free(x);
    return c;
}

static inline void test_cert_free(struct test_cert *c)
{
    free(c->cert);
    free(c->key);
    tls_key_free(&c->private);
}

/* ---- a BIO whose reads and writes wait, as the client's task may */

static inline int wait_read(BIO *b, char *p, int n)
{
    struct stream *s = BIO_get_data(b);
    struct err err;
    slice have;

    if (stream_peek(s).n == 0 && stream_fill(s, &err) < 0)
        return -1;
    have = slice_sub(stream_peek(s), 0, (size_t)n);
    memcpy(p, have.p, have.n);
    stream_consume(s, have.n);
    return (int)have.n;
}

static inline int wait_write(BIO *b, const char *p, int n)
{
    struct stream *s = BIO_get_data(b);
    struct err err;

    if (stream_write(s, slice_of(p, (size_t)n), &err) < 0)
        return -1;
    return n;
}

static inline long wait_ctrl(BIO *b, int what, long number, void *p)
{
    struct err err;

    (void)number;
    (void)p;
    if (what == BIO_CTRL_FLUSH)
        return stream_flush(BIO_get_data(b), &err) == 0;
    return what == BIO_CTRL_EOF && stream_eof(BIO_get_data(b));
}

static inline SSL *test_client(SSL_CTX *ctx, struct stream *s)
{
    static BIO_METHOD *m;
    SSL *ssl = SSL_new(ctx);
    BIO *b;

    if (m == NULL) {
        m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "test");
        BIO_meth_set_read(m, wait_read);
        BIO_meth_set_write(m, wait_write);
        BIO_meth_set_ctrl(m, wait_ctrl);
    }
    b = BIO_new(m);
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    SSL_set_connect_state(ssl);
    ERR_clear_error();
    return ssl;
}

/* SSL_write() and out with it. */
static inline int test_send(SSL *ssl, const char *text)
{
    int n = SSL_write(ssl, text, (int)strlen(text));

    return BIO_flush(SSL_get_wbio(ssl)) == 1 ? n : -1;
}

#endif
