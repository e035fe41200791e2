/* What a handshake came to: for logs, Received: and access rules. */
#include "base/digest.h"
#include "rt/tls_priv.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

/* The curve's usual name: "P-256" rather than "prime256v1". */
static const char *curve_name(const EVP_PKEY *key, char *room, size_t size)
{
    const char *nist;

    if (EVP_PKEY_get_group_name(key, room, size, NULL) != 1)
        return "";
    nist = EC_curve_nid2nist(OBJ_sn2nid(room));
    return nist != NULL ? nist : room;
}

static void tell_key_exchange(SSL *ssl, struct tls_info *out)
{
    EVP_PKEY *key = NULL;
    char group[32];

    if (SSL_get_negotiated_group(ssl) == NID_undef ||
        SSL_get_tmp_key(ssl, &key) != 1)
        return;
    if (EVP_PKEY_is_a(key, "EC"))
        (void)snprintf(out->key_exchange, sizeof(out->key_exchange),
                       "ECDHE (%s)", curve_name(key, group, sizeof(group)));
    else if (EVP_PKEY_is_a(key, "DH"))
        (void)snprintf(out->key_exchange, sizeof(out->key_exchange),
                       "DHE (%d bits)", EVP_PKEY_get_bits(key));
    else
        (void)snprintf(out->key_exchange, sizeof(out->key_exchange), "%s",
                       EVP_PKEY_get0_type_name(key));
    EVP_PKEY_free(key);
}

static void tell_signature(const EVP_PKEY *key, int digest, const char *who,
                           struct tls_info *out)
{
    size_t n = strlen(out->signature), size = sizeof(out->signature);
    char group[32];

    if (key == NULL)
        return;
    n += (size_t)snprintf(out->signature + n, size - n, "%s%s-signature ",
                          n > 0 ? " " : "", who);
    if (n >= size)
        return;
    if (EVP_PKEY_is_a(key, "RSA"))
        n += (size_t)snprintf(out->signature + n, size - n, "RSA-PSS (%d bits)",
                              EVP_PKEY_get_bits(key));
    else if (EVP_PKEY_is_a(key, "EC"))
        n += (size_t)snprintf(out->signature + n, size - n, "ECDSA (%s)",
                              curve_name(key, group, sizeof(group)));
    else
        n += (size_t)snprintf(out->signature + n, size - n, "%s",
                              EVP_PKEY_get0_type_name(key));
    if (n < size && digest != NID_undef)
        (void)snprintf(out->signature + n, size - n, " %s-digest %s", who,
                       OBJ_nid2sn(digest));
}

/* Only TLS 1.3's cipher names leave these out. */
static void tell_details(SSL *ssl, struct tls_info *out)
{
    bool is_server = SSL_is_server(ssl) == 1;
    X509 *peer;
    int digest = NID_undef;

    if (SSL_version(ssl) < TLS1_3_VERSION)
        return;
    tell_key_exchange(ssl, out);
    if (out->was_resumed)
        return;
    peer = SSL_get0_peer_certificate(ssl);
    if (is_server) {
        (void)SSL_get_signature_nid(ssl, &digest);
        tell_signature(SSL_get_privatekey(ssl), digest, "server", out);
    }
    if (peer != NULL) {
        digest = NID_undef;
        (void)SSL_get_peer_signature_nid(ssl, &digest);
        tell_signature(X509_get0_pubkey(peer), digest,
                       is_server ? "client" : "server", out);
    }
    digest = NID_undef;
    if (!is_server && SSL_get_signature_nid(ssl, &digest) == 1)
        tell_signature(SSL_get_privatekey(ssl), digest, "client", out);
}

/* ---- the client's certificate */

static void put_name(const X509_NAME *name, char *out, size_t size)
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    int n;

    out[0] = '\0';
    if (at < 0)
        return;
    n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(
                                       X509_NAME_get_entry(name, at)));
    if (n <= 0)
        return;
    if (!slice_copy_to(slice_of(utf8, (size_t)n), out, size))
        out[0] = '\0'; /* a NUL in it, or too long: no name */
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    OPENSSL_free(utf8);
}

static void put_fingerprint(const unsigned char *md, unsigned n, char *out,
                            size_t size)
{
    size_t at = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < n && at + 4 < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%02X", i > 0 ? ":" : "",
                               md[i]);
}

static void tell_client(const struct tls_conn *t, struct tls_info *out)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    unsigned char md[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned n = 0;
    int n_der;

    if (x == NULL)
        return;
    out->has_client_cert = true;
    out->client_cert_ok = SSL_get_verify_result(t->ssl) == X509_V_OK;
    put_name(X509_get_subject_name(x), out->client_name,
             sizeof(out->client_name));
    put_name(X509_get_issuer_name(x), out->client_issuer,
             sizeof(out->client_issuer));
    if (X509_digest(x, t->context->digest, md, &n) == 1)
        put_fingerprint(md, n, out->client_fingerprint,
                        sizeof(out->client_fingerprint));
    n_der = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    if (n_der > 0 &&
        EVP_Digest(der, (size_t)n_der, md, &n, t->context->digest, NULL) == 1)
        put_fingerprint(md, n, out->client_key_fingerprint,
                        sizeof(out->client_key_fingerprint));
    OPENSSL_free(der);
}

bool stream_tls_info(const struct stream *s, struct tls_info *out)
{
    const struct tls_conn *t = s->tls;
    const SSL_CIPHER *cipher;
    const char *name;

    if (t == NULL)
        return false;
    *out = (struct tls_info){ .protocol = SSL_get_version(t->ssl),
                              .cipher = SSL_get_cipher_name(t->ssl),
                              .was_cut = t->was_cut,
                              .was_resumed = SSL_session_reused(t->ssl) == 1 };
    ERR_clear_error();
    cipher = SSL_get_current_cipher(t->ssl);
    if (cipher != NULL)
        out->bits = SSL_CIPHER_get_bits(cipher, &out->algorithm_bits);
    name = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
    if (name != NULL)
        (void)slice_copy_to(slice_str(name), out->sni, sizeof(out->sni));
    tell_details(t->ssl, out);
    tell_client(t, out);
    ERR_clear_error();
    return true;
}

/* RFC 9266: with a context of no bytes. */
static bool export_binding(SSL *ssl, struct tls_bindings *out)
{
    static const char label[] = "EXPORTER-Channel-Binding";

    if (SSL_export_keying_material(ssl, out->exporter, sizeof out->exporter,
                                   label, strlen(label),
                                   (const unsigned char *)"", 0, 1) != 1) {
        ERR_clear_error();
        return false;
    }
    out->n_exporter = sizeof out->exporter;
    return true;
}

bool stream_tls_bindings(const struct stream *s, struct tls_bindings *out)
{
    SSL *ssl;

    *out = (struct tls_bindings){ 0 };
    if (s->tls == NULL || !s->tls->is_up || !s->tls->context->is_server)
        return false;
    ssl = s->tls->ssl;
    if (SSL_version(ssl) < TLS1_3_VERSION) {
        /* Without it another session may have the same secret (RFC 7627). */
        if (SSL_get_extms_support(ssl) != 1)
            return false;
        /* RFC 5929 3.1: the first Finished: the client's, but for a session
         * that goes on. */
        out->n_unique =
            SSL_session_reused(ssl)
                ? SSL_get_finished(ssl, out->unique, sizeof out->unique)
                : SSL_get_peer_finished(ssl, out->unique, sizeof out->unique);
    }
    return export_binding(ssl, out);
}
