/* TLS contexts: certificates, settings, session tickets. */
#include "rt/tls.h"

#include "base/digest.h"
#include "rt/tls_priv.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#define CHAIN_MAX 20

void tls_init(void)
{
    static bool is_done;

    if (is_done)
        return;
    is_done = true;
    if (OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS |
                             OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                         NULL) != 1)
        panic("OpenSSL does not start");
    tls_provider_load();
}

int tls_fail(struct err *err, enum err_class class, const char *what)
{
    const char *data = NULL;
    char text[160] = "no reason given";
    int flags = 0;
    unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);

    if (ERR_GET_LIB(code) == ERR_LIB_USER && data != NULL)
        (void)err_set(err, ERR_TEMP, "4.3.0", "%s", data);
    else if (code == 0)
        (void)err_set(err, class, "4.7.0", "%s", what);
    else {
        ERR_error_string_n(code, text, sizeof(text));
        (void)err_set(err, class, "4.7.0", "%s%s%s", what,
                      what[0] != '\0' ? ": " : "", text);
    }
    ERR_clear_error();
    return -1;
}

/* ---- tickets (RFC 5077 4, shared by all processes) */

static struct tls_ticket_key ticket_keys[TLS_TICKET_KEYS_MAX];
static size_t n_ticket_keys;

void tls_ticket_keys(const struct tls_ticket_key *keys, size_t n)
{
    CHECK(n > 0 && n <= TLS_TICKET_KEYS_MAX);
    memcpy(ticket_keys, keys, n * sizeof(*keys));
    if (n < n_ticket_keys)
        OPENSSL_cleanse(ticket_keys + n, (n_ticket_keys - n) * sizeof(*keys));
    n_ticket_keys = n;
}

static int set_ticket_key(const struct tls_ticket_key *k, unsigned char *iv,
                          EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, unconst(k->hmac),
                                          sizeof(k->hmac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()
    };

    return EVP_MAC_CTX_set_params(mac, params) &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, enc);
}

/* OpenSSL's callback.  Decrypting: 0 unknown, 1 good, 2 good but make a new
 * one. */
static int on_ticket(UNUSED SSL *ssl, unsigned char *name, unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc)
{
    if (enc) {
        const struct tls_ticket_key *k = &ticket_keys[0];

        memcpy(name, k->name, sizeof(k->name));
        random_bytes(iv, 16);
        return set_ticket_key(k, iv, cipher, mac, 1) ? 1 : -1;
    }
    for (size_t i = 0; i < n_ticket_keys; i++) {
        const struct tls_ticket_key *k = &ticket_keys[i];

        if (memcmp(name, k->name, sizeof(k->name)) != 0)
            continue;
        if (!set_ticket_key(k, iv, cipher, mac, 0))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

/* A process whose keys have not come yet makes tickets that it alone opens. */
static void first_ticket_key(void)
{
    if (n_ticket_keys > 0)
        return;
    random_bytes(&ticket_keys[0], sizeof(ticket_keys[0]));
    n_ticket_keys = 1;
}

/* Which sessions may go on here: those of the same protocol that asked clients
 * for the same certificates. */
static void set_session_id(SSL_CTX *ctx, const struct tls_settings *s)
{
    struct sha256 h;
    uint8_t id[32], ask = s->ask_client_cert;

    sha256_init(&h);
    sha256_update(&h, slice_str(s->alpn != NULL ? s->alpn : "smtp"));
    sha256_update(&h, slice_of(&ask, 1));
    if (ask)
        sha256_update(&h, s->ca);
    sha256_final(&h, id);
    SSL_CTX_set_session_id_context(ctx, id, sizeof(id));
}

static void set_sessions(SSL_CTX *ctx, const struct tls_settings *s)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    set_session_id(ctx, s);
    if (s->session_sec == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    first_ticket_key();
    SSL_CTX_set_timeout(ctx, (long)s->session_sec);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}

/* ---- names */

static int on_name(SSL *ssl, UNUSED int *alert, void *arg)
{
    struct tls_context *c = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct tls_context *other;

    if (name == NULL || c->by_name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    other = c->by_name(c->by_name_arg, slice_str(name));
    if (other != NULL && other != c)
        SSL_set_SSL_CTX(ssl, other->ctx);
    return other != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* RFC 7301 3.2: a client that offers only other protocols is at the wrong door
 * (ALPACA). */
static int on_alpn(UNUSED SSL *ssl, const unsigned char **out,
                   unsigned char *out_n, const unsigned char *in, unsigned n,
                   void *arg)
{
    struct tls_context *c = arg;
    slice rest = slice_of(in, n);

    while (rest.n > 0) {
        slice name = slice_sub(rest, 1, (uint8_t)rest.p[0]);

        if (slice_eqs(name, c->alpn)) {
            *out = (const unsigned char *)name.p;
            *out_n = (unsigned char)name.n;
            return SSL_TLSEXT_ERR_OK;
        }
        rest = slice_from(rest, 1 + name.n);
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- certificates */

int tls_pkey_id(EVP_PKEY *key, uint8_t id[static 32], struct err *err)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);

    if (n <= 0)
        return tls_fail(err, ERR_PERM, "no public key");
    sha256_of(slice_of(der, (size_t)n), id);
    OPENSSL_free(der);
    return 0;
}

static void x509_free(X509 **x)
{
    X509_free(*x);
    *x = NULL;
}

static void bio_free(BIO **b)
{
    (void)BIO_free(*b);
    *b = NULL;
}

static void pkey_free(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
    *k = NULL;
}

static BIO *pem_bio(slice pem)
{
    return BIO_new_mem_buf(pem.p, (int)min_size(pem.n, INT_MAX));
}

/* A key without a passphrase: nobody is there to type one. */
static int no_passphrase(UNUSED char *out, UNUSED int size, UNUSED int writing,
                         UNUSED void *arg)
{
    return -1;
}

int tls_cert_key_id(slice pem, uint8_t id[static 32], struct err *err)
{
    BIO *b CLEANUP(bio_free) = pem_bio(pem);
    BIO *again CLEANUP(bio_free) = NULL;
    X509 *x CLEANUP(x509_free) = NULL;
    EVP_PKEY *key CLEANUP(pkey_free) = NULL;

    tls_init();
    ERR_clear_error();
    x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL);
    if (x != NULL)
        return tls_pkey_id(X509_get0_pubkey(x), id, err);
    again = pem_bio(pem);
    key = PEM_read_bio_PrivateKey(again, NULL, no_passphrase, NULL);
    if (key == NULL)
        return tls_fail(err, ERR_PERM, "no certificate and no key in PEM");
    ERR_clear_error();
    return tls_pkey_id(key, id, err);
}

static bool seconds_of(const ASN1_TIME *t, int64_t *out)
{
    struct tm tm;
    struct civil c = { 0 };

    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return false;
    c.year = tm.tm_year + 1900;
    c.month = tm.tm_mon + 1;
    c.day = tm.tm_mday;
    c.hour = tm.tm_hour;
    c.min = tm.tm_min;
    c.sec = tm.tm_sec;
    *out = clock_from_civil(&c);
    return true;
}

int tls_cert_dates(slice pem, int64_t *from, int64_t *until, struct err *err)
{
    BIO *b CLEANUP(bio_free) = pem_bio(pem);
    X509 *x CLEANUP(x509_free) = NULL;

    tls_init();
    ERR_clear_error();
    x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL);
    if (x == NULL)
        return tls_fail(err, ERR_PERM, "no certificate in PEM");
    if (!seconds_of(X509_get0_notBefore(x), from) ||
        !seconds_of(X509_get0_notAfter(x), until))
        return tls_fail(err, ERR_PERM, "the certificate has no dates");
    return 0;
}

/* The issuers behind the certificate just set. */
static int add_chain(SSL_CTX *ctx, BIO *b, struct err *err)
{
    X509 *x;
    int n = 0;

    while ((x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL) {
        if (n++ >= CHAIN_MAX || SSL_CTX_add0_chain_cert(ctx, x) != 1) {
            X509_free(x);
            return tls_fail(err, ERR_PERM, "the chain of issuers");
        }
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return tls_fail(err, ERR_PERM, "the chain of issuers");
    ERR_clear_error();
    return 0;
}

static int add_cert(struct tls_context *c, const struct tls_settings *s,
                    slice pem, struct err *err)
{
    BIO *b CLEANUP(bio_free) = pem_bio(pem);
    X509 *x CLEANUP(x509_free) = NULL;
    EVP_PKEY *key CLEANUP(pkey_free) = NULL;
    uint8_t *id = c->ids[c->n_ids];

    if (c->n_ids == TLS_CERTS_MAX)
        return err_perm(err, "more than %d certificates", TLS_CERTS_MAX);
    x = PEM_read_bio_X509_AUX(b, NULL, no_passphrase, NULL);
    if (x == NULL)
        return tls_fail(err, ERR_PERM, "no certificate in PEM");
    if (X509_get0_pubkey(x) == NULL)
        return tls_fail(err, ERR_PERM, "no public key in the certificate");
    if (tls_pkey_id(X509_get0_pubkey(x), id, err) < 0)
        return -1;
    key = tls_remote_key(X509_get0_pubkey(x), id, s->sign, s->sign_arg);
    if (key == NULL)
        return tls_fail(err, ERR_PERM, "a key of an unsupported kind");
    if (SSL_CTX_use_certificate(c->ctx, x) != 1)
        return tls_fail(err, ERR_PERM, "the certificate cannot be used");
    if (add_chain(c->ctx, b, err) < 0)
        return -1;
    if (SSL_CTX_use_PrivateKey(c->ctx, key) != 1)
        return tls_fail(err, ERR_PERM, "the key cannot be used");
    c->n_ids++;
    return 0;
}

/* What is asked of clients is judged by the owner, not by the handshake. */
static int take_any(UNUSED int ok, UNUSED X509_STORE_CTX *store)
{
    return 1;
}

static int set_client_certs(SSL_CTX *ctx, const struct tls_settings *s,
                            struct err *err)
{
    BIO *b CLEANUP(bio_free) = NULL;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509 *x;

    if (!s->ask_client_cert)
        return 0;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, take_any);
    SSL_CTX_set_verify_depth(ctx, (int)s->verify_depth);
    if (s->ca.n == 0)
        return 0;
    b = pem_bio(s->ca);
    while ((x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL) {
        int ok = X509_STORE_add_cert(store, x) == 1 &&
                 SSL_CTX_add_client_CA(ctx, x) == 1;

        X509_free(x);
        if (!ok)
            return tls_fail(err, ERR_PERM, "the authorities");
    }
    ERR_clear_error();
    return 0;
}

/* ---- the context */

static int set_ciphers(const struct tls_context *c, const char *list,
                       struct err *err)
{
    char *all CLEANUP(free_ptr) =
        xasprintf("%s%s", list != NULL && list[0] != '\0' ? list : "DEFAULT",
                  c->is_server ? TLS_NEVER_SERVER : TLS_NEVER_CLIENT);

    if (SSL_CTX_set_cipher_list(c->ctx, all) != 1)
        return tls_fail(err, ERR_PERM, "the cipher list");
    return 0;
}

/* OpenSSL's macro casts const away: it gets a copy. */
static int set_groups(SSL_CTX *ctx, const char *groups)
{
    char *copy CLEANUP(free_ptr) = xstrdup(groups != NULL ? groups : "");

    return copy[0] == '\0' || SSL_CTX_set1_groups_list(ctx, copy) == 1 ? 0 : -1;
}

static int apply(struct tls_context *c, const struct tls_settings *s,
                 struct err *err)
{
    SSL_CTX *ctx = c->ctx;
    uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION;

    if (s->server_ciphers_first)
        options |= SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
    SSL_CTX_set_options(ctx, options);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS |
                              SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(ctx, 1); /* one read() takes what is there */
    SSL_CTX_set_dh_auto(ctx, 1);
    SSL_CTX_set_max_early_data(ctx, 0);
    if (SSL_CTX_set_min_proto_version(
            ctx, s->min_version != 0 ? s->min_version : TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, s->max_version) != 1)
        return tls_fail(err, ERR_PERM, "the protocol versions");
    if (set_ciphers(c, s->ciphers, err) < 0)
        return -1;
    if (set_groups(ctx, s->groups) < 0)
        return tls_fail(err, ERR_PERM, "the groups");
    c->digest = EVP_get_digestbyname(
        s->digest != NULL && s->digest[0] != '\0' ? s->digest : "sha256");
    if (c->digest == NULL)
        return err_perm(err, "the digest %s is not known", s->digest);
    return 0;
}

static int apply_server(struct tls_context *c, const struct tls_settings *s,
                        struct err *err)
{
    set_sessions(c->ctx, s);
    if (set_client_certs(c->ctx, s, err) < 0)
        return -1;
    c->by_name = s->by_name;
    c->by_name_arg = s->by_name_arg;
    SSL_CTX_set_tlsext_servername_callback(c->ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(c->ctx, c);
    if (s->alpn != NULL) {
        (void)snprintf(c->alpn, sizeof(c->alpn), "%s", s->alpn);
        SSL_CTX_set_alpn_select_cb(c->ctx, on_alpn, c);
    }
    return 0;
}

static int apply_all(struct tls_context *c, const struct tls_settings *s,
                     struct err *err)
{
    int rc = apply(c, s, err);

    if (rc == 0)
        rc = c->is_server ? apply_server(c, s, err)
                          : tls_client_setup(c, s, err);
    for (size_t i = 0; rc == 0 && s->sign != NULL && i < s->n_certs; i++)
        rc = add_cert(c, s, s->certs[i].chain, err);
    return rc;
}

int tls_context_new(const struct tls_settings *s, struct tls_context **out,
                    struct err *err)
{
    struct tls_context *c = xcalloc(1, sizeof(*c));

    tls_init();
    ERR_clear_error();
    c->magic = TLS_CONTEXT_MAGIC;
    c->refs = 1;
    c->is_server = s->sign != NULL && !s->is_client;
    c->ctx =
        SSL_CTX_new(c->is_server ? TLS_server_method() : TLS_client_method());
    if (c->ctx == NULL) {
        free(c);
        return tls_fail(err, ERR_TEMP, "no TLS context");
    }
    if (apply_all(c, s, err) < 0) {
        tls_context_unref(&c);
        return -1;
    }
    *out = c;
    return 0;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    CHECK_OBJ(c, TLS_CONTEXT_MAGIC);
    c->refs++;
    return c;
}

void tls_context_unref(struct tls_context **cp)
{
    struct tls_context *c = *cp;

    *cp = NULL;
    if (c == NULL)
        return;
    CHECK_OBJ(c, TLS_CONTEXT_MAGIC);
    if (--c->refs > 0)
        return;
    c->magic = 0;
    SSL_CTX_free(c->ctx);
    free(c);
}

size_t tls_context_key_ids(const struct tls_context *c, uint8_t (*ids)[32],
                           size_t max)
{
    size_t n = min_size(c->n_ids, max);

    memcpy(ids, c->ids, n * sizeof(*ids));
    return c->n_ids;
}
