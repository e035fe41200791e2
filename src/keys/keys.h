#ifndef KEYS_KEYS_H
#define KEYS_KEYS_H

/*
 * keys - private keys, and the certificates that go with them.
 *
 * Two sides.  The process `keys` (hato-keys, sandboxed, no network, no files)
 * gets the key files as descriptors from master and signs; a key never leaves
 * it.  The keyring, in smtpd, login and lmtpd, gets the certificate files and
 * makes a TLS context of them for each service line; its contexts sign by
 * asking `keys`.  A certificate is used once `keys` has its key (they are
 * matched by the SHA-256 of the public key), so that a half-replaced pair of
 * files never breaks a server: until both are there and fit, the old ones
 * serve, with a warning.  Session ticket keys are made by `keys`, rotated, and
 * given to every keyring: whoever speaks TLS must have those (design section
 * 1).
 *
 * Descriptors from master (MASTER_FD) are named "key:/path" (to `keys` alone),
 * "cert:/path" (a copy in memory that holds certificates only: Postfix allows
 * key and certificate in one file) and "map:/path" (the text of
 * tls_server_sni_maps); master looks at the files once a second as at tables'
 * sources and hands changed ones down again.  Which paths: keys_each_file().
 *
 * Invariants: (1) no message of this room carries a private key; (2) what
 * cannot be read or does not fit changes nothing; (3) sizes and numbers of
 * files are bounded.
 *
 * What waits: keyring_wait(), and the handshake of a stream, through the sign
 * function.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "rt/tls.h"

#define KEYS_FILE_MAX (1u << 20)

/* ---- which files (master) */
enum keys_kind { KEYS_CERT, KEYS_KEY, KEYS_MAP };

/* Every certificate and key file that a service of `c` needs, from
 * {smtpd,smtp,lmtp}_tls_{cert,key,eccert,eckey}_file, .._tls_chain_files,
 * tls_server_sni_maps and its values, ssl_cert, ssl_key, smtpd_tls_CAfile.  A
 * file that holds both is told twice; a path may come more than once.
 * Blocking: reads the maps. */
void keys_each_file(const struct conf *c,
                    void (*fn)(void *arg, enum keys_kind kind, slice path),
                    void *arg);
/* Does any service want TLS and have certificates for it? */
bool keys_wanted(const struct conf *c);
/* The certificates of a PEM text, without private keys and anything else. */
void keys_only_certs(slice pem, struct buf *out);
/* Blocking: `hato check`: do certificate and key exist, parse and fit; is the
 * certificate in date; do the lists of versions and ciphers mean something. */
void keys_check(const struct conf *c, struct conf_diags *diags);

/* ---- the process */
struct keys;
struct keys *keys_new(struct process *p);
void keys_on_fd(struct keys *k, slice name, int fd); /* "key:..."; owned */
void keys_on_peer(struct keys *k, int fd);           /* serve KEYS_* on it */
/* Say goodbye to all peers; fn(arg) when the last has gone. */
void keys_drain(struct keys *k, void (*fn)(void *arg), void *arg);
void keys_dump(const struct keys *k, struct buf *out);

/* ---- the keyring of a process that speaks TLS */
struct keyring;
/* Makes a link to `keys` when `conf` wants TLS anywhere. */
struct keyring *keyring_new(struct process *p);
void keyring_on_fd(struct keyring *r, slice name, int fd); /* "cert:"; owned */
/* Until it is known which keys there are (at once when no TLS is wanted), but
 * not beyond the deadline: for a start, so that the first client finds TLS. */
MAY_WAIT void keyring_wait(struct keyring *r, msec deadline);
/* The context of a service line (its -o's count), or NULL: no certificate can
 * be used at present.  `alpn`: "imap", "pop3" or NULL.  Borrowed: take a
 * reference over a wait. */
struct tls_context *keyring_context(struct keyring *r,
                                    const struct conf_service *service,
                                    const char *alpn);
/* The certificates that a client shows to servers (smtp_tls_cert_file and its
 * kin, or lmtp_*), in a context like `base`; `line` NULL: of main.cf.  NULL:
 * there are none, or none can be used now: connect without.  Borrowed, as
 * above; what `base` points to stays. */
struct tls_context *keyring_client_context(struct keyring *r,
                                           const struct conf_service *line,
                                           bool is_lmtp,
                                           const struct tls_settings *base);
void keyring_free(struct keyring **r);

void keyring_dump(const struct keyring *r, struct buf *out);

/* How a service wants TLS: smtpd_tls_wrappermode, smtpd_tls_security_level,
 * smtpd_use_tls, smtpd_enforce_tls, smtpd_tls_auth_only; of imapd and pop3d
 * also Dovecot's `ssl` (yes, no, required). */
enum keys_level { KEYS_NO_TLS, KEYS_MAY, KEYS_ENCRYPT };

struct keys_service {
    enum keys_level level;
    bool is_wrapper;
    bool auth_only; /* plaintext sign-in only inside TLS */
};

struct keys_service keys_service_of(const struct conf *c,
                                    const struct conf_service *service);

/* ---- lists of versions and ciphers; pure */

enum { KEYS_TLS_OLDEST = 0x0301 }; /* of a client */

/* "!TLSv1 >=TLSv1.2": the oldest and newest version (RFC 8446 4.1.2) that are
 * left of those since `oldest`.  -1: a word that is no version (*min is -1), or
 * none is left (0). */
int keys_versions(slice list, int oldest, int *min, int *max, struct err *err);
/* A grade's list (tls_<grade>_cipherlist) without what is excluded, as OpenSSL
 * writes lists. */
int keys_ciphers(const struct conf *c, const struct conf_service *service,
                 slice grade, slice exclude, struct buf *out, struct err *err);

#endif
