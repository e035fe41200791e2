#ifndef RT_TLS_PRIV_H
#define RT_TLS_PRIV_H

/*
 * The inside of TLS.  tls_stream.c puts an SSL object between a stream and the
 * io beneath it; tls.c makes contexts; tls_provider.c has private keys that are
 * elsewhere; tls_info.c tells what a handshake came to.
 *
 * OpenSSL's error queue belongs to the thread, and tasks interleave whenever a
 * signature is waited for: the queue is cleared before each call whose result
 * is read from it, and again after that wait.
 */
#include "rt/stream_priv.h"
#include "rt/tls.h"

#include <openssl/ssl.h>

#define TLS_CONTEXT_MAGIC MAGIC('T', 'L', 'S', 'C')
#define TLS_CERTS_MAX     8

/* Ciphers that are never used: those without any key, and, of a server, those
 * whose handshake the process `keys` cannot do (it signs only). */
#define TLS_NEVER_CLIENT ":!aNULL:!eNULL:!PSK:!SRP"
#define TLS_NEVER_SERVER ":!kRSA" TLS_NEVER_CLIENT

struct tls_context {
    uint32_t magic;
    unsigned refs;
    SSL_CTX *ctx;
    bool is_server;
    size_t n_ids;
    uint8_t ids[TLS_CERTS_MAX][32];
    char alpn[16];
    const EVP_MD *digest; /* of fingerprints */
    unsigned host_flags;  /* X509_CHECK_FLAG_* of a client */
    struct tls_context *(*by_name)(void *arg, slice name);
    void *by_name_arg;
};

/* A stream's TLS: s->tls. */
struct tls_conn {
    SSL *ssl;
    const struct stream_io *io; /* beneath */
    struct tls_context *context;
    char *held; /* session tickets, which go with what comes next */
    size_t n_held;
    int16_t broken; /* errno of the io beneath */
    bool saw_end;   /* the io beneath has ended */
    bool was_cut;   /* ... without close_notify */
    bool is_up;     /* the handshake is done and nothing fatal came since */
    struct tls_judge *judge; /* of a client (tls_client.c) */
};

/* Once for each process, before its sandbox: OpenSSL reads its configuration
 * and takes up our provider. */
void tls_library_init(void);
/* A private key that is elsewhere, with its public half.  Signs by
 * sign(arg, id, ...). */
EVP_PKEY *tls_remote_key(EVP_PKEY *public, const uint8_t id[static 32],
                         tls_sign_fn *sign, void *arg);
void tls_provider_load(void);

/* The digest of a public key's DER form. */
int tls_pkey_id(EVP_PKEY *key, uint8_t id[static 32], struct err *err);
/* Fill err from the first error of OpenSSL's queue, and clear it. */
int tls_fail(struct err *err, enum err_class class, const char *what);

/* What a client's context has beside: authorities, DANE, sessions. */
int tls_client_setup(struct tls_context *c, const struct tls_settings *s,
                     struct err *err);
void tls_judge_free(struct tls_judge **j);

/* Put TLS on the stream, whose input in the clear is forgotten. */
struct tls_conn *tls_attach(struct stream *s, struct tls_context *ctx);
/* A failure of it is told in err, and the stream is broken. */
MAY_WAIT int tls_handshake(struct stream *s, struct err *err);

#endif
