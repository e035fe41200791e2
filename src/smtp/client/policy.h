#ifndef SMTP_CLIENT_POLICY_H
#define SMTP_CLIENT_POLICY_H

/*
 * What the files of TLS in the client share.
 *
 *     tls_settings.c  parameters of a service, authorities, contexts
 *     policy.c        level and demands for one host
 *     policy_map.c    an entry of smtp_tls_policy_maps; names that are good
 *     policy_anchor.c its attribute tafile
 *     policy_dane.c   TLSA records (RFC 7672)
 *     tls_session.c   sessions to go on with
 *     sts.c           MTA-STS (RFC 8461), reports (RFC 8460)
 *
 * Invariants: (1) a policy that cannot be understood, and a lookup that failed,
 * defers: it never lowers the level; (2) DNS that was not validated never
 * raises trust: no TLSA record of such an answer is used; (3) MTA-STS never
 * replaces DANE, and neither lowers what main.cf demands.
 */
#include "smtp/client/client_priv.h"

/* Postfix's grades and lists, not yet made into what OpenSSL wants. */
struct policy_text {
    slice protocols, ciphers, exclude, match, servername;
    slice tafile; /* paths with a blank between them */
};

struct client_tls {
    struct client_service *service;
    enum tls_level level;
    bool level_is_ours; /* nobody says: by what the far side proves */
    bool is_wrapper;
    bool has_sts;
    enum tls_level insecure_mx;
    bool force_insecure_host;
    int loglevel;
    bool note_offer;
    struct policy_text may, must; /* servername and match: not set */
    slice verify_match, secure_match, fingerprint_match, servername;
    struct table_list *maps, *per_site;
    struct list anchors; /* files that entries of `maps` name */
    size_t n_anchors;
    struct tls_settings set; /* of the contexts */
    struct buf ca;
    struct tls_context *ctx;
    msec session_ms; /* how long a session is kept; 0: not at all */
};

/* A policy while it is made. */
struct policy_job {
    struct smtp_client *client;
    const struct client_service *service;
    const struct client_tls *tls;
    const struct client_host *host;
    slice nexthop;
    struct arena *a;
    struct tls_policy *out;
    struct policy_text text;
    bool from_map;
    struct tls_context *own; /* of client_tls_context() */
    struct client_sts *sts;  /* NULL: no policy of MTA-STS */
};

/* ---- tls_settings.c */
/* Of a name: "may" ..; false: there is no such level. */
bool policy_level(slice name, enum tls_level *out);
const char *policy_level_name(enum tls_level level);
/* The context of a service, with the certificates that it shows to servers. */
struct tls_context *client_tls_context(const struct client_tls *t);
/* The context for certificates that the system's authorities vouch for; NULL
 * (and a warning, once) when there are none. */
struct tls_context *client_tls_sts_context(const struct client_tls *t);

/* What is in a file, with a line end behind it. */
int policy_read_file(int dirfd, const char *name, struct buf *out,
                     struct err *err);

/* ---- policy_anchor.c: the attribute tafile */
/* Before the sandbox: read every file that a text of smtp_tls_policy_maps names
 * so.  What cannot be read is complained of. */
void policy_anchors_read(struct client_tls *t);
void policy_anchors_forget(struct client_tls *t);
/* how.anchors from j->text.tafile.  ERR_PERM: one is not there. */
int policy_set_anchors(struct policy_job *j, struct err *err);

/* ---- policy_map.c */
/* The entry for the next hop: *found, with j->out->level and j->text.  -1:
 * ERR_TEMP (a table), ERR_PERM (an entry that cannot be used). */
MAY_WAIT int policy_map_find(struct policy_job *j, bool *found,
                             struct err *err);
/* The same from smtp_tls_per_site, for the next hop and the host; no
 * attributes. */
MAY_WAIT int policy_site_find(struct policy_job *j, bool *found,
                              struct err *err);
/* Versions, ciphers, SNI from j->text. */
int policy_set_strength(struct policy_job *j, struct err *err);
/* how.names from a list such as "nexthop, dot-nexthop". */
int policy_set_names(struct policy_job *j, slice list, struct err *err);
int policy_set_fingerprints(struct policy_job *j, slice list, struct err *err);

/* ---- policy_dane.c */
/* For level dane and dane-only: TLSA records, or another level.  Sets
 * out->refused where mail must wait.  -1: cancelled. */
MAY_WAIT int policy_dane(struct policy_job *j, struct err *err);

/* ---- sts.c */
struct client_sts {
    slice domain;
    slice text;     /* of the policy file, in the caller's arena */
    bool is_strict; /* mode enforce; else testing */
    slice *mx;
    size_t n_mx;
};

/* The policy of a domain; *out NULL: it has none.  -1: cancelled. */
MAY_WAIT int client_sts_find(struct smtp_client *c, slice domain,
                             struct arena *a, struct client_sts **out,
                             struct err *err);
/* Before the sandbox: has the fetcher kept policies of an earlier time? */
void client_sts_note_files(const char *data_dir);
bool client_sts_matches(const struct client_sts *s, slice host);

/* ---- tls_session.c: sessions of servers, by host and all that is demanded */
/* Puts one that is still good into out->how, and what keeps new ones. */
void policy_use_session(struct policy_job *j);

/* "%s: why" of a refusal, in the arena. */
void policy_refuse(struct policy_job *j, const char *status, const char *fmt,
                   ...) __attribute__((format(printf, 3, 4)));

#endif
