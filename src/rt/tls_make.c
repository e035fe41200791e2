/* A key and a certificate that signs itself, for a first try. */
#include "rt/tls.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define DAY_S 86400L

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = e != NULL && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool fill(X509 *x, EVP_PKEY *key, const char *host, unsigned days)
{
    X509_NAME *name = X509_get_subject_name(x);
    unsigned char serial[15];
    char alt[300];
    BIGNUM *n;
    bool ok;

    random_bytes(serial, sizeof serial);
    serial[0] |= 0x40;
    n = BN_bin2bn(serial, sizeof serial, NULL);
    (void)snprintf(alt, sizeof alt, "DNS:%.253s", host);
    ok = n != NULL && X509_set_version(x, X509_VERSION_3) == 1 &&
         BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL &&
         X509_gmtime_adj(X509_getm_notBefore(x), -DAY_S) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(x), DAY_S * (long)days) != NULL &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                    (const unsigned char *)host, -1, -1,
                                    0) == 1 &&
         X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
         add_extension(x, NID_subject_alt_name, alt) &&
         add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
         add_extension(x, NID_ext_key_usage, "serverAuth") &&
         X509_sign(x, key, EVP_sha256()) > 0;
    BN_free(n);
    return ok;
}

static bool put_pem(BIO *from, struct buf *out)
{
    char *text;
    long n = BIO_get_mem_data(from, &text);

    return n > 0 && buf_put(out, text, (size_t)n);
}

int tls_make_self_signed(const char *host, unsigned days, struct buf *cert,
                         struct buf *key, struct err *err)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *c = BIO_new(BIO_s_mem());
    BIO *p = BIO_new(BIO_s_secmem());
    /* X.509 bounds a common name. */
    bool ok = k != NULL && x != NULL && c != NULL && p != NULL &&
              strlen(host) <= 64 && fill(x, k, host, days) &&
              PEM_write_bio_X509(c, x) == 1 &&
              PEM_write_bio_PrivateKey(p, k, NULL, NULL, 0, NULL, NULL) == 1 &&
              put_pem(c, cert) && put_pem(p, key);

    BIO_free(c);
    BIO_free(p);
    X509_free(x);
    EVP_PKEY_free(k);
    return ok ? 0
              : err_temp(err, "libcrypto makes no certificate for %.100s",
                         host);
}
