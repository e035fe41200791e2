#ifndef SMTP_CLIENT_PRIV_H
#define SMTP_CLIENT_PRIV_H

/* What the files of smtp/client share, and the seams between them. */
#include "base/list.h"
#include "base/map.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "rt/tls.h"
#include "smtp/client/client.h"
#include "spool/envelope.h"
#include "table/table.h"

/* A host to try, in order. */
struct client_host {
    slice name; /* as DNS calls it, or "192.0.2.1" of a literal */
    slice addr; /* "192.0.2.1", "2001:db8::1"; "" for a UNIX socket */
    uint16_t port;
    slice unix_path; /* lmtp to unix:path */
    unsigned pref;
    bool is_mx;       /* found by MX: `name` is an MX host of the nexthop */
    bool mx_secure;   /* the MX answer was validated */
    bool host_secure; /* its address answer was validated */
    slice canonical;  /* its name behind CNAMEs, when host_secure */
    bool is_fallback; /* of smtp_fallback_relay */
};

/* ---- policy.c: what TLS must be, for one host */
enum tls_level {
    TLS_LEVEL_NONE,
    TLS_LEVEL_MAY,
    TLS_LEVEL_ENCRYPT,
    TLS_LEVEL_FINGERPRINT,
    TLS_LEVEL_DANE, /* usable TLSA records are there: mandatory */
    TLS_LEVEL_DANE_ONLY,
    TLS_LEVEL_VERIFY,
    TLS_LEVEL_SECURE,
};

struct tls_policy {
    enum tls_level level;
    bool is_wrapper;         /* TLS from the first byte */
    struct tls_connect how;  /* check, names, tlsa, versions, ciphers, sni */
    struct tls_context *ctx; /* borrowed */
    bool may_fall_back; /* at level may: after a failed handshake, in clear */
    /* Why mail must not go to this host at all now: no usable TLSA under
     * dane-only, not in the MTA-STS policy, REQUIRETLS without a proof.  ""
     * when it may.  A deferral's text and status. */
    slice refused, refused_status;
    slice sts_domain; /* MTA-STS was applied: for reports; "" */
    slice key;        /* all of the above as bytes: for the two caches */
};

struct client_service; /* settings of one transport (its -o), below */

/* 0 with *out in the arena; -1: ERR_TEMP, a table failed. */
MAY_WAIT int client_policy(struct smtp_client *c,
                           const struct client_service *s, slice nexthop,
                           const struct client_host *h, bool requires_tls,
                           struct arena *a, struct tls_policy *out,
                           struct err *err);
/* TLSRPT: how a session with this host went; `result` NULL: well. */
void client_policy_report(struct smtp_client *c, const struct tls_policy *p,
                          slice nexthop, const struct client_host *h,
                          slice local_addr, const char *result, slice text);
/* The authorities and contexts of a service; before the sandbox. */
struct client_tls;
CHECKED int client_tls_new(struct smtp_client *c, struct client_service *s,
                           struct client_tls **out, struct err *err);
void client_tls_free(struct client_tls **t);

/* ---- sasl.c: sign in to a server */
struct client_sasl_wish {
    slice mechs; /* as AUTH of EHLO offered them */
    slice user, password;
    slice host;     /* of the server, for mechanisms that bind to it */
    slice security; /* properties, smtp_sasl_security_options .. */
    slice filter;   /* smtp_sasl_mechanism_filter's list, or "" */
};

struct client_sasl;
/* Choose a mechanism.  ERR_PERM: none is left (its text says why). */
int client_sasl_new(const struct client_sasl_wish *w, struct client_sasl **out,
                    struct err *err);
void client_sasl_free(struct client_sasl **s); /* wipes */
const char *client_sasl_mech(const struct client_sasl *s);
/* The next base64 line to send for a server's challenge (base64, "" at first).
 * *has_line false with the first call: no initial response.  ERR_PERM: the
 * server's challenge is wrong, or it did not prove that it knows us. */
int client_sasl_step(struct client_sasl *s, slice challenge, bool *has_line,
                     struct buf *line, struct err *err);
/* After 235: has the server proved what the mechanism demands (SCRAM)? */
bool client_sasl_is_done(const struct client_sasl *s);
/* dlopen of GNU SASL, before the sandbox. */
CHECKED int client_sasl_setup(struct err *err);

#endif
