/* Private keys, for the process `keys` (and tests). */
#include "rt/tls_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

struct tls_key {
    EVP_PKEY *key;
    uint8_t id[32];
};

/* RFC 8446 4.2.3, without what is based on SHA-1. */
static const struct scheme {
    const char *type;
    const char *digest; /* NULL: the scheme has its own */
    int padding;
    uint16_t number;
} schemes[] = {
    { "RSA", "SHA256", RSA_PKCS1_PADDING, 0x0401 },
    { "RSA", "SHA384", RSA_PKCS1_PADDING, 0x0501 },
    { "RSA", "SHA512", RSA_PKCS1_PADDING, 0x0601 },
    { "RSA", "SHA256", RSA_PKCS1_PSS_PADDING, 0x0804 },
    { "RSA", "SHA384", RSA_PKCS1_PSS_PADDING, 0x0805 },
    { "RSA", "SHA512", RSA_PKCS1_PSS_PADDING, 0x0806 },
    { "EC", "SHA256", 0, 0x0403 },
    { "EC", "SHA384", 0, 0x0503 },
    { "EC", "SHA512", 0, 0x0603 },
    { "ED25519", NULL, 0, 0x0807 },
    { "ED448", NULL, 0, 0x0808 },
};

static int no_passphrase(UNUSED char *out, UNUSED int size, UNUSED int writing,
                         UNUSED void *arg)
{
    return -1;
}

int tls_key_new(slice pem, struct tls_key **out, struct err *err)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)min_size(pem.n, INT_MAX));
    struct tls_key *k = xcalloc(1, sizeof(*k));

    tls_init();
    ERR_clear_error();
    k->key = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL);
    (void)BIO_free(b);
    if (k->key == NULL) {
        tls_key_free(&k);
        return tls_fail(err, ERR_PERM, "no private key in PEM");
    }
    ERR_clear_error();
    if (tls_pkey_id(k->key, k->id, err) < 0) {
        tls_key_free(&k);
        return -1;
    }
    *out = k;
    return 0;
}

void tls_key_free(struct tls_key **kp)
{
    struct tls_key *k = *kp;

    *kp = NULL;
    if (k == NULL)
        return;
    EVP_PKEY_free(k->key);
    free(k);
}

const uint8_t *tls_key_id(const struct tls_key *k)
{
    return k->id;
}

const char *tls_key_type(const struct tls_key *k)
{
    return EVP_PKEY_get0_type_name(k->key);
}

int tls_key_bits(const struct tls_key *k)
{
    return EVP_PKEY_get_bits(k->key);
}

static const struct scheme *scheme_of(const EVP_PKEY *key, uint16_t number)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (schemes[i].number == number && EVP_PKEY_is_a(key, schemes[i].type))
            return &schemes[i];
    return NULL;
}

static bool sign(EVP_MD_CTX *ctx, EVP_PKEY *key, const struct scheme *how,
                 slice tbs, struct buf *out)
{
    EVP_PKEY_CTX *c = NULL;
    size_t n = 0;
    char *room;

    if (EVP_DigestSignInit_ex(ctx, &c, how->digest, NULL, NULL, key, NULL) != 1)
        return false;
    if (how->padding != 0 && EVP_PKEY_CTX_set_rsa_padding(c, how->padding) <= 0)
        return false;
    if (how->padding == RSA_PKCS1_PSS_PADDING &&
        EVP_PKEY_CTX_set_rsa_pss_saltlen(c, RSA_PSS_SALTLEN_DIGEST) <= 0)
        return false;
    if (EVP_DigestSign(ctx, NULL, &n, (const unsigned char *)tbs.p, tbs.n) != 1)
        return false;
    room = buf_reserve(out, n);
    if (room == NULL ||
        EVP_DigestSign(ctx, (unsigned char *)room, &n,
                       (const unsigned char *)tbs.p, tbs.n) != 1)
        return false;
    buf_commit(out, n);
    return true;
}

int tls_key_sign(const struct tls_key *k, uint16_t scheme, slice tbs,
                 struct buf *signature, struct err *err)
{
    const struct scheme *how = scheme_of(k->key, scheme);
    EVP_MD_CTX *ctx;
    bool ok;

    if (how == NULL)
        return err_perm(err, "a %s key has no signature scheme %#x",
                        tls_key_type(k), scheme);
    ERR_clear_error();
    ctx = EVP_MD_CTX_new();
    CHECK(ctx != NULL);
    ok = sign(ctx, k->key, how, tbs, signature);
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : tls_fail(err, ERR_TEMP, "cannot sign");
}
