#ifndef RT_TLS_H
#define RT_TLS_H

/*
 * TLS on a stream (OpenSSL 3).  A context holds what a service shows: for each
 * of its certificates the chain and the id of the private key, which is not
 * here: signatures are asked for by a function of the owner (the `keys`
 * process, room keys).  stream_tls_accept() turns a plain stream into one whose
 * bytes are protected; afterwards everything of stream.h works on it as before.
 * A quiet TLS stream gives its buffers back; what it costs then is in
 * bench/RESULTS.md.
 *
 *     plain --stream_tls_accept/connect--> handshake --> protected
 *
 * Invariants: (1) bytes that were received in the clear before the handshake
 * are thrown away, never taken for protected ones (STARTTLS injection,
 * CVE-2011-0411): a caller that finds input behind STARTTLS refuses; (2) no
 * renegotiation, no compression, no early data; (3) end of input without
 * close_notify is an end of input, marked in tls_info.was_cut.
 */
#include "base/base.h"
#include "base/clock.h"
#include "rt/stream.h"

struct tls_context;

/* Reads OpenSSL's own configuration and makes it ready: before a sandbox is
 * entered.  Done by itself with the first context. */
void tls_init(void);

/* Sign `tbs` (not yet hashed) with the key whose SubjectPublicKeyInfo has this
 * SHA-256; `scheme` is TLS's SignatureScheme (RFC 8446 4.2.3). */
typedef int tls_sign_fn(void *arg, const uint8_t key_id[static 32],
                        uint16_t scheme, slice tbs, struct buf *signature,
                        struct err *err);

struct tls_ticket_key {
    uint8_t name[16];
    uint8_t aes[32];
    uint8_t hmac[32];
};

#define TLS_TICKET_KEYS_MAX 4

struct tls_cert {
    slice chain; /* PEM: the certificate first, then its issuers */
};

struct tls_settings {
    const struct tls_cert *certs; /* of different key types, for one name */
    size_t n_certs;
    /* OpenSSL's names: minimum and maximum version (0: TLS 1.2, newest),
     * cipher list for TLS 1.2 ("" the default), groups ("" the default). */
    int min_version, max_version;
    const char *ciphers;
    const char *groups;
    bool server_ciphers_first;
    bool ask_client_cert; /* without demanding one */
    slice ca; /* PEM of authorities, for client certificates; of a client: for
               * servers' */
    unsigned verify_depth;
    const char *digest; /* of fingerprints: "sha256" (also for ""), "md5" ... */
    unsigned session_sec; /* how long a ticket is good; 0: none are made */
    const char *alpn;  /* "imap", "pop3", ...: chosen when offered; NULL none */
    tls_sign_fn *sign; /* NULL: a context for clients without certificates */
    void *sign_arg;
    bool is_client; /* with `sign`: its certificates are shown to servers */
    bool is_ca_any; /* of a client: `ca` may also hold intermediate ones,
                     * and servers' own certificates */
    bool wildcard_multi; /* of a client: "*.a.org" stands for x.y.a.org too */
    const char *dane_digests; /* of a client: "sha512 sha256", the best first;
                               * NULL or "": these two */
    /* The context for a name of SNI, or NULL: this one.  Borrowed. */
    struct tls_context *(*by_name)(void *arg, slice name);
    void *by_name_arg;
};

/* Reads certificates; fails with what is wrong in them (not PEM, a leaf without
 * supported kind of key, a weak key). */
int tls_context_new(const struct tls_settings *s, struct tls_context **out,
                    struct err *err);
struct tls_context *tls_context_ref(struct tls_context *c);
void tls_context_unref(struct tls_context **c);
/* Ids of the private keys that its certificates need: how many. */
size_t tls_context_key_ids(const struct tls_context *c, uint8_t (*ids)[32],
                           size_t max);
/* The process's ticket keys: the first makes new tickets, all open old ones. */
void tls_ticket_keys(const struct tls_ticket_key *keys, size_t n);

/* The SHA-256 of a PEM certificate's or private key's SubjectPublicKeyInfo. */
int tls_cert_key_id(slice pem, uint8_t id[static 32], struct err *err);

/* A private key, for the process that has them.  PEM without a passphrase; in
 * memory it is wiped when it is freed. */
struct tls_key;
int tls_key_new(slice pem, struct tls_key **out, struct err *err);
void tls_key_free(struct tls_key **k);
const uint8_t *tls_key_id(const struct tls_key *k); /* 32 bytes */
const char *tls_key_type(const struct tls_key *k);  /* "RSA", "EC", ... */
int tls_key_bits(const struct tls_key *k);
/* As tls_sign_fn; does not wait. */
int tls_key_sign(const struct tls_key *k, uint16_t scheme, slice tbs,
                 struct buf *signature, struct err *err);

/* A new key (EC P-256) and a certificate for `host` (at most 64 bytes) that it
 * signs itself, as PEM; wipe `key` after use. */
int tls_make_self_signed(const char *host, unsigned days, struct buf *cert,
                         struct buf *key, struct err *err);

/* From when to when a PEM certificate is good, in seconds since 1970. */
int tls_cert_dates(slice pem, int64_t *from, int64_t *until, struct err *err);

struct tls_info {
    const char *protocol; /* "TLSv1.3" */
    const char *cipher;   /* "TLS_AES_256_GCM_SHA384" */
    int bits, algorithm_bits;
    /* Of TLS 1.3, as Postfix logs it; "" before it: "X25519" and
     * "server-signature ECDSA (P-256) server-digest SHA256". */
    char key_exchange[64];
    char signature[192];
    char sni[256];
    bool was_resumed;
    bool was_cut;
    /* At the client's end these tell of the server's certificate, and
     * client_cert_ok says nothing: see struct tls_server_info. */
    bool has_client_cert, client_cert_ok;
    /* The names are those of CN ("" when there is none that is printable);
     * fingerprints are "12:AB:...", of the certificate and of its public key.
     */
    char client_name[256], client_issuer[256];
    char client_fingerprint[200], client_key_fingerprint[200];
};

/* ---- clients */

enum tls_check {
    TLS_CHECK_NONE,        /* any certificate; what is known of it is told */
    TLS_CHECK_NAMES,       /* a chain to a trusted authority, and a name */
    TLS_CHECK_FINGERPRINT, /* of the certificate or its public key */
    TLS_CHECK_DANE,        /* TLSA records (RFC 6698, 7671, 7672) */
};

struct tls_tlsa {
    uint8_t usage, selector, matching;
    slice data;
};

/* A session that a server gave, for a later connection to the same one with the
 * same demands (the caller's key decides). */
struct tls_session;
void tls_session_free(struct tls_session **s);
/* Another one of the same, with a life of its own. */
struct tls_session *tls_session_dup(const struct tls_session *s);

/* Authorities of single connections, in the place of the context's; as with
 * is_ca_any they may be intermediate ones, and servers' own certificates. */
struct tls_anchors;
int tls_anchors_new(slice pem, struct tls_anchors **out, struct err *err);
void tls_anchors_free(struct tls_anchors **a);

struct tls_connect {
    enum tls_check check;
    const struct tls_anchors *anchors; /* NULL: the context's authorities */
    slice sni;                         /* "": none is sent */
    /* Names that are good; ".example.com" stands for its subdomains.  With
     * DANE-TA(2) the base names (RFC 7672 3.2.3). */
    const slice *names;
    size_t n_names;
    const slice *fingerprints; /* "12:AB:..", digest of the context */
    size_t n_fingerprints;
    const struct tls_tlsa *tlsa; /* without usable ones nothing matches */
    size_t n_tlsa;
    int min_version, max_version; /* 0: the context's */
    const char *ciphers; /* of TLS 1.2 and older; NULL: the context's */
    const struct tls_session *session; /* to go on with, or NULL */
    void (*on_session)(void *arg, struct tls_session *s); /* s is given away */
    void *on_session_arg;
};

/* How many of these records RFC 7672 can use: DANE-TA(2) and DANE-EE(3), of
 * known selector and digest, well formed. */
size_t tls_tlsa_usable(struct tls_context *ctx, const struct tls_tlsa *tlsa,
                       size_t n);

/* What a server's certificate turned out to be. */
struct tls_server_info {
    bool is_trusted; /* its chain ends at an authority, TLSA or fingerprint */
    bool is_matched; /* and it is the one that was wanted (check != NONE) */
    /* Why not; a result type of RFC 8460 4.3 and a text, "" when it is. */
    const char
        *result_type; /* "certificate-expired", "validation-failure" .. */
    char why[256];
};

/* Do the handshake as a client.  A certificate that does not pass `how->check`
 * is no failure of this call: `out` says so, and the caller decides before it
 * sends anything.  At failure the stream is unusable: free it.  ERR_PEER for
 * what the peer did, ERR_TEMP for us.  The context has sign == NULL or client
 * certificates. */
MAY_WAIT int stream_tls_connect(struct stream *s, struct tls_context *ctx,
                                const struct tls_connect *how,
                                struct tls_server_info *out, struct err *err);

/* Do the handshake as the server; the plain input buffer must be empty.  At
 * failure the stream is unusable: free it.  ERR_PEER for what the peer did (the
 * reason for the log in err), ERR_TEMP for us. */
MAY_WAIT int stream_tls_accept(struct stream *s, struct tls_context *ctx,
                               struct err *err);
bool stream_is_tls(const struct stream *s);
/* False when it is not TLS. */
bool stream_tls_info(const struct stream *s, struct tls_info *out);

/* Channel bindings of a server's stream, as bytes. */
struct tls_bindings {
    uint8_t exporter[32]; /* tls-exporter (RFC 9266) */
    size_t n_exporter;
    uint8_t unique[64]; /* tls-unique (RFC 5929); up to TLS 1.2 */
    size_t n_unique;
};

/* False: there are none: no TLS, or an old one without extended master secret.
 */
bool stream_tls_bindings(const struct stream *s, struct tls_bindings *out);

#endif
