/*
 * The client's side of TLS: what a server's certificate is held against, and
 * sessions to go on with.
 *
 * The handshake itself never fails for a certificate.  OpenSSL tells each of
 * its doubts to on_verify(), which keeps the first about the chain and the
 * first about names; conclude() makes of them what the caller is told.  A
 * session that goes on has no certificate to check: its outcome comes with it,
 * and whoever keeps sessions keeps them apart by what was demanded.
 */
#include "rt/tls_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct tls_session {
    SSL_SESSION *session;
    struct tls_server_info info;
};

struct tls_judge {
    const struct tls_connect *how; /* during the handshake only */
    enum tls_check check;
    size_t n_names, n_usable;
    bool fingerprint_ok;
    int chain_error, name_error; /* X509_V_ERR_*, the first of each */
    bool is_concluded;
    struct tls_server_info info;
    void (*on_session)(void *arg, struct tls_session *s);
    void *on_session_arg;
};

void tls_judge_free(struct tls_judge **j)
{
    free(*j);
    *j = NULL;
}

void tls_session_free(struct tls_session **sp)
{
    struct tls_session *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    SSL_SESSION_free(s->session);
    free(s);
}

struct tls_session *tls_session_dup(const struct tls_session *s)
{
    struct tls_session *copy = xcalloc(1, sizeof(*copy));

    *copy = *s;
    CHECK(SSL_SESSION_up_ref(s->session) == 1);
    return copy;
}

/* ---- the verdict */

/* The words of RFC 8460 4.3.2. */
static const char *result_type(int error)
{
    switch (error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "certificate-host-mismatch";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "certificate-expired";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
        return "certificate-not-trusted";
    default:
        return "validation-failure";
    }
}

static void say_why(struct tls_server_info *i, const char *type,
                    const char *text)
{
    i->result_type = type;
    (void)snprintf(i->why, sizeof(i->why), "%s", text);
}

static void say_error(struct tls_server_info *i, int error)
{
    const char *text;

    switch (error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        text = "the certificate is for another name";
        break;
    case X509_V_ERR_DANE_NO_MATCH:
        text = "no TLSA record matches";
        break;
    default:
        text = X509_verify_cert_error_string(error);
        break;
    }
    say_why(i, result_type(error), text);
}

/* Does what DANE found good rest on a TLSA record? */
static bool has_tlsa_match(SSL *ssl)
{
    return SSL_get_verify_result(ssl) != X509_V_OK ||
           SSL_get0_dane_authority(ssl, NULL, NULL) >= 0;
}

static void conclude_chain(struct tls_judge *j, SSL *ssl)
{
    struct tls_server_info *i = &j->info;
    long result = SSL_get_verify_result(ssl);

    /* Failures of OpenSSL itself come without a call of on_verify(). */
    if (j->chain_error == 0 && j->name_error == 0 && result != X509_V_OK)
        j->chain_error = (int)result;
    i->is_trusted = j->chain_error == 0;
    if (j->check == TLS_CHECK_DANE && i->is_trusted && !has_tlsa_match(ssl)) {
        i->is_trusted = false;
        j->chain_error = X509_V_ERR_DANE_NO_MATCH;
    }
    if (j->check == TLS_CHECK_NONE) {
        if (!i->is_trusted)
            say_error(i, j->chain_error);
        return;
    }
    i->is_matched = i->is_trusted && j->name_error == 0 && j->n_names > 0;
    if (!i->is_trusted)
        say_error(i, j->chain_error);
    else if (!i->is_matched)
        say_error(i, j->name_error != 0 ? j->name_error
                                        : X509_V_ERR_HOSTNAME_MISMATCH);
}

/* What this handshake came to; before it is over (TLS 1.2 gives sessions away
 * in its last step) as well as after. */
static const struct tls_server_info *conclude(struct tls_judge *j, SSL *ssl)
{
    struct tls_server_info *i = &j->info;

    if (j->is_concluded)
        return i;
    j->is_concluded = true;
    i->result_type = "";
    if (SSL_get0_peer_certificate(ssl) == NULL) {
        say_why(i, "validation-failure", "the server showed no certificate");
    } else if (j->check == TLS_CHECK_FINGERPRINT) {
        i->is_trusted = i->is_matched = j->fingerprint_ok;
        if (!j->fingerprint_ok)
            say_why(i, "validation-failure",
                    "the fingerprint is not one of those that are good");
    } else if (j->check == TLS_CHECK_DANE && j->n_usable == 0) {
        say_why(i, "tlsa-invalid", "no TLSA record can be used");
    } else {
        conclude_chain(j, ssl);
    }
    return i;
}

/* OpenSSL's callback: the verdict is ours, so the handshake goes on. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl =
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_judge *j = SSL_get_app_data(ssl);
    int error = X509_STORE_CTX_get_error(store);

    if (ok)
        return 1;
    if (error == X509_V_ERR_HOSTNAME_MISMATCH ||
        error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        if (j->name_error == 0)
            j->name_error = error;
    } else if (j->chain_error == 0) {
        j->chain_error = error;
    }
    return 1;
}

/* ---- fingerprints */

static bool digest_is_listed(const struct tls_connect *how,
                             const unsigned char *md, unsigned n)
{
    char text[3 * EVP_MAX_MD_SIZE + 1] = "";
    size_t at = 0;

    for (unsigned i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%02X",
                               i > 0 ? ":" : "", md[i]);
    for (size_t i = 0; i < how->n_fingerprints; i++)
        if (slice_ieqs(how->fingerprints[i], text))
            return true;
    return false;
}

static bool fingerprint_matches(const struct tls_connect *how,
                                const EVP_MD *digest, X509 *x)
{
    unsigned char md[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned n = 0;
    bool found;
    int n_der;

    found = X509_digest(x, digest, md, &n) == 1 && digest_is_listed(how, md, n);
    n_der = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    if (!found && n_der > 0 &&
        EVP_Digest(der, (size_t)n_der, md, &n, digest, NULL) == 1)
        found = digest_is_listed(how, md, n);
    OPENSSL_free(der);
    return found;
}

/* Takes the place of OpenSSL's verification where only the fingerprint counts.
 */
static int on_certificate(X509_STORE_CTX *store, void *context)
{
    SSL *ssl =
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_judge *j = SSL_get_app_data(ssl);
    const struct tls_context *c = context;
    X509 *x = X509_STORE_CTX_get0_cert(store);

    if (j->check != TLS_CHECK_FINGERPRINT)
        return X509_verify_cert(store);
    j->fingerprint_ok = x != NULL && j->how != NULL &&
                        fingerprint_matches(j->how, c->digest, x);
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

/* ---- sessions */

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_judge *j = SSL_get_app_data(ssl);
    struct tls_session *s;

    if (j == NULL || j->on_session == NULL ||
        SSL_SESSION_is_resumable(session) != 1)
        return 0;
    s = xcalloc(1, sizeof(*s));
    s->session = session; /* our reference now: 1 says so */
    s->info = *conclude(j, ssl);
    j->on_session(j->on_session_arg, s);
    return 1;
}

/* ---- the context */

static int set_authorities(X509_STORE *store, slice pem, struct err *err)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)min_size(pem.n, INT_MAX));
    X509 *x;
    int ok = 1;

    while (ok == 1 &&
           (x = PEM_read_bio_X509(b, NULL, NULL, unconst(""))) != NULL) {
        ok = X509_STORE_add_cert(store, x);
        X509_free(x);
    }
    (void)BIO_free(b);
    if (ok != 1 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return tls_fail(err, ERR_PERM, "the authorities");
    ERR_clear_error();
    return 0;
}

/* The digests of TLSA records, the best first; what is not named is not used.
 */
static int set_dane(SSL_CTX *ctx, const char *digests, struct err *err)
{
    static const struct {
        const char *name;
        uint8_t matching;
    } known[] = { { "sha256", 1 }, { "sha512", 2 } };

    slice list = slice_str(digests), word;
    uint8_t rank = 2;

    if (SSL_CTX_dane_enable(ctx) != 1)
        return tls_fail(err, ERR_TEMP, "no DANE");
    if (slice_trim(list).n == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (SSL_CTX_dane_mtype_set(ctx, NULL, known[i].matching, 0) != 1)
            return tls_fail(err, ERR_TEMP, "no DANE");
    while (slice_token(&list, ", \t\r\n:", &word)) {
        bool found = false;

        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
            if (!slice_ieqs(word, known[i].name))
                continue;
            found =
                SSL_CTX_dane_mtype_set(ctx, EVP_get_digestbyname(known[i].name),
                                       known[i].matching, rank) == 1;
            rank = rank > 1 ? (uint8_t)(rank - 1) : 1;
        }
        if (!found)
            return err_perm(err, "\"%.*s\" is no digest of DANE", SLF(word));
    }
    return 0;
}

int tls_client_setup(struct tls_context *c, const struct tls_settings *s,
                     struct err *err)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(c->ctx);

    c->host_flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    if (s->wildcard_multi)
        c->host_flags |= X509_CHECK_FLAG_MULTI_LABEL_WILDCARDS;
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_NONE, on_verify);
    SSL_CTX_set_cert_verify_callback(c->ctx, on_certificate, c);
    if (s->verify_depth > 0)
        SSL_CTX_set_verify_depth(c->ctx, (int)s->verify_depth);
    if (s->is_ca_any)
        (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT |
                                               SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ctx, on_new_session);
    if (s->ca.n > 0 &&
        set_authorities(SSL_CTX_get_cert_store(c->ctx), s->ca, err) < 0)
        return -1;
    return set_dane(c->ctx, s->dane_digests, err);
}

/* ---- anchors of one connection */

struct tls_anchors {
    X509_STORE *store;
};

int tls_anchors_new(slice pem, struct tls_anchors **out, struct err *err)
{
    struct tls_anchors *a = xcalloc(1, sizeof *a);

    *out = a;
    a->store = X509_STORE_new();
    CHECK(a->store != NULL);
    ERR_clear_error();
    if (set_authorities(a->store, pem, err) == 0) {
        if (sk_X509_OBJECT_num(X509_STORE_get0_objects(a->store)) > 0)
            return 0;
        (void)err_perm(err, "there is no certificate in PEM");
    }
    tls_anchors_free(out);
    return -1;
}

void tls_anchors_free(struct tls_anchors **ap)
{
    struct tls_anchors *a = *ap;

    *ap = NULL;
    if (a == NULL)
        return;
    X509_STORE_free(a->store);
    free(a);
}

static int set_anchors(SSL *ssl, const struct tls_connect *how, struct err *err)
{
    if (how->anchors == NULL)
        return 0;
    if (SSL_set1_verify_cert_store(ssl, how->anchors->store) != 1 ||
        X509_VERIFY_PARAM_set_flags(SSL_get0_param(ssl),
                                    X509_V_FLAG_PARTIAL_CHAIN) != 1)
        return tls_fail(err, ERR_TEMP, "the authorities");
    return 0;
}

/* ---- DANE */

static bool tlsa_add(SSL *ssl, const struct tls_tlsa *t)
{
    /* RFC 7672 3.1.3: PKIX-TA(0) and PKIX-EE(1) are not for mail. */
    bool ok =
        (t->usage == 2 || t->usage == 3) && t->data.n > 0 &&
        SSL_dane_tlsa_add(ssl, t->usage, t->selector, t->matching,
                          (const unsigned char *)t->data.p, t->data.n) == 1;

    ERR_clear_error();
    return ok;
}

size_t tls_tlsa_usable(struct tls_context *ctx, const struct tls_tlsa *tlsa,
                       size_t n)
{
    SSL *ssl = SSL_new(ctx->ctx);
    size_t usable = 0;

    CHECK(ssl != NULL);
    ERR_clear_error();
    if (SSL_dane_enable(ssl, "name.invalid") == 1)
        for (size_t i = 0; i < n; i++)
            usable += tlsa_add(ssl, &tlsa[i]);
    ERR_clear_error();
    SSL_free(ssl);
    return usable;
}

static int set_dane_records(SSL *ssl, struct tls_judge *j,
                            const struct tls_connect *how, struct err *err)
{
    char *first CLEANUP(free_ptr) =
        slice_xstrdup(how->n_names > 0 ? how->names[0] : SL("name.invalid"));

    if (SSL_dane_enable(ssl, first) != 1)
        return tls_fail(err, ERR_TEMP, "no DANE");
    (void)SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    for (size_t i = 0; i < how->n_tlsa; i++)
        j->n_usable += tlsa_add(ssl, &how->tlsa[i]);
    return 0;
}

/* ---- one connection */

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
    bool is = ip != NULL;

    ASN1_OCTET_STRING_free(ip);
    ERR_clear_error();
    return is;
}

/* OpenSSL would demand an address beside the names, not as one of them: it is
 * left out where there are others. */
static int set_names(SSL *ssl, const struct tls_connect *how, struct err *err)
{
    bool is_dane = how->check == TLS_CHECK_DANE, has_some = is_dane;

    if (how->check != TLS_CHECK_NAMES && !is_dane)
        return 0;
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = is_dane ? 1 : 0; i < how->n_names; i++) {
            char *name CLEANUP(free_ptr) = slice_xstrdup(how->names[i]);

            if (is_address(name) != (turn == 1) || (turn == 1 && has_some))
                continue;
            if (SSL_add1_host(ssl, name) != 1)
                return tls_fail(err, ERR_TEMP, "a name of the server");
            has_some = true;
        }
    return 0;
}

static int set_name_to_ask(SSL *ssl, slice sni, struct err *err)
{
    char *name CLEANUP(free_ptr) = slice_xstrdup(sni);

    /* SSL_dane_enable() has put its base domain there. */
    if (SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                 sni.n > 0 ? name : NULL) != 1)
        return tls_fail(err, ERR_TEMP, "the name that is asked for");
    return 0;
}

static int set_strength(SSL *ssl, const struct tls_connect *how,
                        struct err *err)
{
    /* Opportunistic TLS takes what it gets: the other choice is none at all.
     */
    SSL_set_security_level(ssl, how->check == TLS_CHECK_NONE ? 0 : 1);
    if ((how->min_version != 0 &&
         SSL_set_min_proto_version(ssl, how->min_version) != 1) ||
        (how->max_version != 0 &&
         SSL_set_max_proto_version(ssl, how->max_version) != 1))
        return tls_fail(err, ERR_TEMP, "the protocol versions");
    if (how->ciphers != NULL) {
        char *all CLEANUP(free_ptr) =
            xasprintf("%s" TLS_NEVER_CLIENT, how->ciphers);

        if (SSL_set_cipher_list(ssl, all) != 1)
            return tls_fail(err, ERR_TEMP, "the cipher list");
    }
    return 0;
}

static int prepare(struct tls_conn *t, const struct tls_connect *how,
                   struct err *err)
{
    struct tls_judge *j = xcalloc(1, sizeof(*j));
    SSL *ssl = t->ssl;

    t->judge = j;
    j->how = how;
    j->check = how->check;
    j->n_names = how->n_names;
    j->on_session = how->on_session;
    j->on_session_arg = how->on_session_arg;
    ERR_clear_error();
    SSL_set_app_data(ssl, j);
    SSL_set_connect_state(ssl);
    SSL_set_hostflags(ssl, t->context->host_flags);
    X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl),
                               (time_t)(clock_wall() / 1000));
    if (how->check == TLS_CHECK_DANE && set_dane_records(ssl, j, how, err) < 0)
        return -1;
    if (set_anchors(ssl, how, err) < 0 || set_names(ssl, how, err) < 0 ||
        set_name_to_ask(ssl, how->sni, err) < 0 ||
        set_strength(ssl, how, err) < 0)
        return -1;
    /* One that cannot be used (too old, of another version) changes nothing. */
    if (how->session != NULL)
        (void)SSL_set_session(ssl, how->session->session);
    ERR_clear_error();
    return 0;
}

int stream_tls_connect(struct stream *s, struct tls_context *ctx,
                       const struct tls_connect *how,
                       struct tls_server_info *out, struct err *err)
{
    struct tls_conn *t;

    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK_OBJ(ctx, TLS_CONTEXT_MAGIC);
    CHECK(s->tls == NULL && !s->is_parked && s->reader == NULL);
    CHECK(!ctx->is_server);
    if (stream_flush(s, err) < 0)
        return -1;
    if (s->eof)
        return err_peer(err, "lost connection");
    t = tls_attach(s, ctx);
    if (prepare(t, how, err) < 0 || tls_handshake(s, err) < 0) {
        s->broken = EPROTO;
        return -1;
    }
    t->is_up = true;
    s->in_ready |= SSL_has_pending(t->ssl) != 0;
    if (SSL_session_reused(t->ssl) == 1 && how->session != NULL)
        *out = how->session->info;
    else
        *out = *conclude(t->judge, t->ssl);
    t->judge->info = *out;
    t->judge->is_concluded = true;
    t->judge->how = NULL;
    return 0;
}
