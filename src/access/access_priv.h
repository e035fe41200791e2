#ifndef ACCESS_ACCESS_PRIV_H
#define ACCESS_ACCESS_PRIV_H

/* What the files of the access room share: compiled lists, and the state of
 * one evaluation. */
#include "access/access.h"
#include "base/base.h"
#include "base/map.h"
#include "dns/dns.h"

#define ACCESS_RESULT_DEPTH 20 /* restriction names as table results */

/* What a rule says. */
enum verdict {
    SAYS_DUNNO,
    SAYS_OK,
    SAYS_REJECT,
    SAYS_GONE, /* cancelled: unwind */
};

enum rule_arg { ARG_NONE, ARG_TABLE, ARG_NUMBER, ARG_DNSXL };

/* Which table a bare type:name means in a list. */
enum list_kind {
    LIST_CLIENT,
    LIST_HELO,
    LIST_SENDER,
    LIST_RECIPIENT,
    LIST_DATA, /* and end of data: no default */
    LIST_ETRN,
    LIST_CLASS, /* of the list that names the class */
};

struct check;
struct rule;

struct restriction {
    const char *name;
    MAY_WAIT enum verdict (*fn)(struct check *c, const struct rule *r);
    enum rule_arg arg;
    bool grants_relay; /* its OK lets strangers' mail through: invariant 1 */
};

struct rule {
    const struct restriction *what; /* NULL: a class */
    const struct rules *class;
    slice spec; /* of the table or DNS list, for messages */
    struct table_list *table;
    struct access_dnsxl list;
    unsigned number;
};

struct rules {
    struct map_node node; /* of a class: its name */
    slice name;
    enum list_kind kind;
    struct rule *v;
    size_t n;
};

enum limit {
    LIMIT_COUNT,
    LIMIT_CONNECT_RATE,
    LIMIT_MESSAGE_RATE,
    LIMIT_RCPT_RATE,
    LIMIT_AUTH_RATE,
    LIMIT_TLS_RATE,
    LIMIT_N,
};

struct access {
    uint32_t magic;
    struct conf *conf;
    const struct conf_service *service;
    struct tables *tables;
    const struct address *address;
    struct arena *arena;
    struct map *classes;
    struct rules client, helo, sender, relay, recipient, data, end_of_data,
        etrn;
    struct table_match *mynetworks, *limit_exceptions;
    struct table_list *sender_login;
    struct table_list *relay_ccerts;
    struct conf_addr *own;
    size_t n_own;
    slice delimiters;
    slice null_key;     /* smtpd_null_access_lookup_key */
    slice service_name; /* master.cf's, in the log */
    slice myhostname;
    bool delay_reject, relay_first, access_parents, soft_bounce;
    bool rejects_unlisted_rcpt, rejects_unlisted_sender, allows_routes;
    bool logs_port;
    int reject_code, defer_code, map_reject_code, map_defer_code, relay_code,
        bad_name_code, non_fqdn_code, multi_rcpt_code, plaintext_code;
    int unknown_address_code, unknown_client_code, unknown_host_code, rbl_code;
    bool unknown_address_defers, unknown_host_defers; /* *_tempfail_action */
    slice rbl_reply;                                  /* default_rbl_reply */
    const char *expansion_chars; /* smtpd_expansion_filter */
    struct table_list *rbl_replies, *dns_filter;
    struct table_match *mx_networks; /* permit_mx_backup_networks */
    struct access_dnsxl *maps_rbl;   /* maps_rbl_domains */
    size_t n_maps_rbl;
    bool has_mx_networks, use_v4, use_v6;
    struct dns *dns; /* NULL: DNS says nothing, for tests */
    struct dns_hosts *hosts;
    int64_t limits[LIMIT_N];
    int64_t rate_unit_ms;
};

#define ACCESS_MAGIC MAGIC('A', 'C', 'C', 'S')

/* A reply that waits for what the rest of the lists says. */
struct deferral {
    bool is_active;
    slice line; /* "450 4.7.0 ..." */
};

struct check {
    const struct access *a;
    struct access_session *s;
    const char *where;   /* "RCPT" */
    enum list_kind kind; /* of the list being evaluated */
    slice reply_name;    /* "<name>: class rejected" */
    const char *reply_class;
    unsigned depth;
    unsigned warn_depth; /* warn_if_reject at this depth; 0 none */
    struct deferral if_permit, if_reject;
    bool grants_relay;       /* the last OK came from a rule that may */
    const struct rule *rest; /* the rule at hand and those behind it */
    size_t n_rest;
    bool is_rcpt_checked, is_sender_checked;
    slice line; /* of SAYS_REJECT */
    int code;
};

/* ---- reply.c */
/* Refuse: log and keep the line (or, under warn_if_reject, only log).
 * `is_own_fault` cannot become a warning. */
enum verdict check_refuse(struct check *c, bool is_own_fault, int code,
                          const char *status, const char *fmt, ...)
    PRINTF(5, 6);
/* "reject", "hold" ... with Postfix's tail of facts. */
void check_log(struct check *c, const char *what, slice text);
/* What an err of a lookup becomes: 451 4.3.0 <name>: Temporary lookup failure.
 */
enum verdict check_trouble(struct check *c, slice name, const struct err *err);
enum verdict check_server_error(struct check *c);
void check_defer_if(struct check *c, struct deferral *d, const char *status,
                    const char *text);
/* The same with a whole text of its own. */
void check_defer_if_text(struct check *c, struct deferral *d,
                         const char *status, const char *fmt, ...) PRINTF(4, 5);
/* unknown[192.0.2.1], with the port where that is wanted. */
slice check_client_text(const struct access *a, struct access_session *s);

/* ---- check.c */
MAY_WAIT enum verdict check_rules(struct check *c, const struct rules *r);
MAY_WAIT enum verdict check_rule(struct check *c, const struct rule *r);

/* ---- rules.c */
const struct restriction *restriction_find(slice name);
/* What a bare type:name in a list of this kind stands for; NULL: nothing. */
const struct restriction *restriction_default(enum list_kind kind);
/* A bare type:name in a class. */
extern const struct restriction restriction_bare;
MAY_WAIT enum verdict check_unlisted_rcpt(struct check *c);
MAY_WAIT enum verdict check_unlisted_sender(struct check *c);
MAY_WAIT enum verdict check_unauth_destination(struct check *c, int code,
                                               const char *status);
/* Is the recipient's domain ours to take?  SAYS_OK, SAYS_DUNNO, or trouble. */
MAY_WAIT enum verdict check_auth_destination(struct check *c);

/* ---- tls.c */
MAY_WAIT enum verdict check_permit_clientcerts(struct check *c,
                                               const struct rule *r);
enum verdict check_permit_all_clientcerts(struct check *c,
                                          const struct rule *r);
MAY_WAIT enum verdict check_ccert_access(struct check *c, const struct rule *r);
enum verdict check_reject_plaintext(struct check *c, const struct rule *r);

/* ---- verify.c */
MAY_WAIT enum verdict check_unverified_recipient(struct check *c,
                                                 const struct rule *r);
/* Is the recipient the sender of our own probes?  It is taken whatever the
 * lists say: others verify it as well. */
bool check_is_probe_sender(const struct check *c);
MAY_WAIT enum verdict check_unverified_sender(struct check *c,
                                              const struct rule *r);

/* Lookups in the table of a rule. */
struct asking {
    struct check *c;
    const struct rule *r;
    struct arena *a;
    slice key;   /* found */
    slice value; /* p NULL: not found */
};

/* A host name and its parents; an address and the networks that its octets
 * name.  0, or -1 with *says. */
MAY_WAIT int check_ask_domain(struct asking *q, slice domain,
                              enum verdict *says);
MAY_WAIT int check_ask_addr(struct asking *q, slice addr, enum verdict *says);

/* ---- names.c: restrictions that ask DNS */
extern const struct restriction dns_restrictions[];
extern const size_t n_dns_restrictions;
/* Fails only when cancelled (SAYS_GONE). */
MAY_WAIT int check_dns(struct check *c, const struct dns_question *q, size_t n,
                       struct arena *a, struct dns_answer *out);
/* The addresses of a host, as the system would find them: /etc/hosts, then A
 * and AAAA.  out[0] and out[1]. */
MAY_WAIT int check_host_addrs(struct check *c, slice host, struct arena *a,
                              struct dns_answer out[static 2]);
const char *check_rr_text(const struct dns_rr *rr, struct arena *a);
slice check_domain_of(slice addr_or_name);

/* ---- dnsxl.c */
MAY_WAIT enum verdict check_rbl_client(struct check *c, const struct rule *r);
MAY_WAIT enum verdict check_rhsbl(struct check *c, const struct rule *r);
MAY_WAIT enum verdict check_maps_rbl(struct check *c, const struct rule *r);
MAY_WAIT enum verdict check_dnswl(struct check *c, const struct rule *r);

/* ---- servers.c: check_*_{a,mx,ns}_access, permit_mx_backup */
/* What strangers' names say may not let them in. */
enum verdict check_forbid_ok(struct check *c, const struct rule *r,
                             enum verdict says, slice name);
MAY_WAIT enum verdict check_servers(struct check *c, const struct rule *r);
MAY_WAIT enum verdict check_mx_backup(struct check *c, const struct rule *r);

/* ---- result.c */
/* Take "5.7.1" off the front of *text. */
bool check_status_take(slice *text, char *out, size_t size);
/* What access(5) says for `value`, found for `key`. */
MAY_WAIT enum verdict check_result(struct check *c, const struct rule *r,
                                   slice key, slice value);

#endif
