#ifndef SMTP_CLIENT_PRIV_H
#define SMTP_CLIENT_PRIV_H

/* What the files of smtp/client share, and the seams between them. */
#include "base/list.h"
#include "base/map.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "rt/tls.h"
#include "smtp/client/client.h"
#include "smtp/client/sasl.h"
#include "spool/envelope.h"
#include "table/table.h"

struct client_tls;
struct filter;

/* Settings of one transport: a line `unix ... smtp` or `lmtp` of master.cf, or
 * one of Postfix's own without a line.  Made at the start, never changed.  In
 * the order of their reader, as there are but a few:
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct client_service {
    struct smtp_client *client;
    const struct conf_service *line; /* NULL: none; for conf_*() */
    const char *transport;           /* "smtp", "relay", "lmtp" .. */
    bool is_lmtp;                    /* parameters are lmtp_* */
    char log_name[64];               /* "smtp", "relay/smtp" */
    struct client_tls *tls;

    /* Milliseconds. */
    msec connect_ms, helo_ms, mail_ms, rcpt_ms, data_init_ms, data_xfer_ms,
        data_done_ms, rset_ms, quit_ms, xforward_ms, starttls_ms;
    bool per_request_deadline;
    uint64_t min_data_rate; /* bytes a second */

    /* Where to */
    uint16_t port;
    bool randomize, balance, host_dns, host_native, dns_off;

    enum client_preference { PREFER_ANY, PREFER_V4, PREFER_V6 } preference;

    bool use_v4, use_v6;
    unsigned address_limit, session_limit; /* 0: none */
    bool defer_no_address, ignore_mx_error, cname_is_name;
    slice fallback, best_mx;
    slice bind4, bind6;
    bool bind_enforce;

    /* Dialogue */
    slice helo_name;
    bool always_ehlo, never_ehlo, skip_5xx, skip_4xx, assume_final, skip_quit;
    bool soft_bounce; /* 5xx is no last word */
    bool quote_envelope, send_xforward, no_mime_out, probe_data, dummy_auth;
    bool use_chunking;
    size_t line_limit; /* 0: none */
    slice discard_ehlo, pix_workarounds;
    msec pix_threshold, pix_delay;

    /* Sign-in: client_login_new() with client_param()'s prefix; NULL: off.
     * Connections are shared between senders unless
     * client_login_by_sender(). */
    struct client_login *login;

    /* Tables; NULL: empty */
    struct table_list *discard_ehlo_maps, *pix_maps, *reply_filter,
        *status_filter, *dns_filter;
    struct address *generic;
    struct filter *checks;

    /* Cache */
    bool cache_on_demand;
    struct table_match *cache_destinations; /* NULL: none */
    msec cache_ms, reuse_ms;
    unsigned reuse_count;
};

struct smtp_client {
    uint32_t magic;
    struct process *p;
    struct conf *conf;
    struct tables *tables;
    struct dns *dns;
    struct dns_hosts *hosts;
    bool native_dns; /* the name service asks DNS as well (nsswitch.conf) */
    struct keyring *keyring;
    struct arena *arena; /* of the settings */
    struct address *address;
    struct conf_addr *own; /* of this machine, and of its proxies */
    size_t n_own;
    struct client_service **services;
    size_t n_services;
    struct client_cache *cache;
    struct list peers;
    size_t n_jobs;
    size_t n_quits; /* tasks that say QUIT and hold their connection */
    uint64_t n_done, n_connects, n_reuses;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

/* ---- service.c */
CHECKED int client_services_new(struct smtp_client *c, struct err *err);
void client_services_free(struct smtp_client *c);
/* The service of a transport; NULL: it is not ours. */
struct client_service *client_service_of(const struct smtp_client *c,
                                         slice transport);
/* "tls_security_level" -> "smtp_tls_security_level" or "lmtp_...", a literal
 * that lives as long as the client. */
const char *client_param(const struct client_service *s, const char *suffix);
slice client_str(const struct client_service *s, const char *suffix);
int64_t client_int(const struct client_service *s, const char *suffix);
bool client_bool(const struct client_service *s, const char *suffix);
int64_t client_time(const struct client_service *s, const char *suffix);
/* The list of a table parameter; *out NULL when it is empty. */
int client_tables(const struct client_service *s, const char *suffix,
                  struct table_list **out, struct err *err);

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
    bool is_tried;    /* deliver.c: was connected to, or refused */
    slice nexthop;    /* the domain that led here, without brackets and port */
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
    /* For reports (RFC 8460): "sts", "tlsa", "no-policy-found"; the policy's
     * lines; a result type that is known before any session, or NULL. */
    const char *report_kind;
    slice report_policy;
    const char *result;
};

/* Whose policy is asked for. */
struct client_way {
    slice nexthop;
    const struct client_host *host; /* that was reached */
    bool requires_tls;              /* RFC 8689 */
};

/* 0 with *out in the arena; -1: ERR_TEMP, a table failed. */
MAY_WAIT int client_policy(const struct client_service *s,
                           const struct client_way *way, struct arena *a,
                           struct tls_policy *out, struct err *err);
/* TLSRPT: how a session went; `result` NULL: well. */
void client_policy_report(struct smtp_client *c, const struct tls_policy *p,
                          const struct client_way *way, slice local_addr,
                          const char *result, slice text);
/* After a handshake: Postfix's "Verified TLS connection established to ..." by
 * smtp_tls_loglevel, and why a certificate that had to match did not.  `server`
 * is "mx.example[192.0.2.1]:25". */
void client_tls_log(const struct client_service *s, const char *server,
                    const struct stream *st, const struct tls_policy *p,
                    const struct tls_server_info *info);
/* smtp_tls_note_starttls_offer: at level none, a host that offers STARTTLS. */
void client_tls_note_offer(const struct client_service *s, slice host);
/* The authorities and contexts of a service; before the sandbox. */
CHECKED int client_tls_new(struct smtp_client *c, struct client_service *s,
                           struct client_tls **out, struct err *err);
void client_tls_free(struct client_tls **t);

#endif
