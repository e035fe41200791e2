#ifndef SMTP_SERVER_PRIV_H
#define SMTP_SERVER_PRIV_H

/*
 * What the files of the SMTP server share: the settings of a service, the
 * session, the mail transaction, replies.
 */
#include "access/access.h"
#include "address/address.h"
#include "base/map.h"
#include "conf/conf.h"
#include "filter/filter.h"
#include "ipc/ipc.h"
#include "keys/keys.h"
#include "mail/mail.h"
#include "rt/stream.h"
#include "smtp/smtp.h"
#include "spool/spool.h"
#include "table/table.h"

/* Keywords of EHLO that smtpd_discard_ehlo_keywords can take away. */
enum {
    EHLO_PIPELINING = 1,
    EHLO_SIZE = 2,
    EHLO_VRFY = 4,
    EHLO_ETRN = 8,
    EHLO_ENHANCED = 16,
    EHLO_8BITMIME = 32,
    EHLO_DSN = 64,
    EHLO_SMTPUTF8 = 128,
    EHLO_CHUNKING = 256,
    EHLO_SILENT = 512,
    EHLO_STARTTLS = 1024,
    EHLO_AUTH = 2048,
    EHLO_REQUIRETLS = 4096,
};

struct smtp_tls_settings {
    struct keys_service how;
    msec timeout_ms; /* of a handshake */
    int64_t loglevel;
    bool in_received;
    bool asks_cert;
    bool demands_cert;
};

struct smtp_auth;
struct smtp_screen;
struct smtp_screening;
struct smtp_notes;
struct auth_client;

/* A master.cf line (or the pickup socket) with all that its sessions ask
 * often.  Immutable; freed with its last session after a reload. */
struct smtp_service {
    struct list link; /* in smtp_server.services */
    struct smtp_server *server;
    const struct conf *conf;         /* the server's, held by it */
    const struct conf_service *line; /* NULL: pickup */
    int index;                       /* of the line, -1: pickup */
    bool is_pickup;
    bool logs_port;
    bool looks_up_names; /* smtpd_peername_lookup */
    char tag[64]; /* "smtpd", "submission/smtpd", "pickup": for the log */
    const char *myhostname;
    const char *mail_name;
    char *banner;
    msec timeout_ms;
    size_t line_max;
    size_t header_max;
    uint64_t message_max; /* 0: none */
    unsigned rcpt_max;
    unsigned rcpt_overshoot;
    unsigned soft_errors;
    unsigned hard_errors;
    unsigned junk_max;
    msec error_sleep_ms;
    bool is_limited;       /* maxproc is a number */
    unsigned max_sessions; /* this process' share of it, may be 0 */
    unsigned n_sessions;
    unsigned hop_max;
    slice noop_commands;
    slice forbidden_commands;
    bool forbids_pipelining; /* where it is not allowed */
    bool helo_required;
    bool vrfy_disabled;
    bool strict_paths;
    bool smtputf8;
    bool always_add_headers;
    bool stray_cr_to_space;
    enum mail_bare_lf bare_lf;
    bool has_strip;
    bool has_reject;
    uint8_t strip[32];
    uint8_t reject[32];
    unsigned ehlo_off;
    unsigned notify; /* notify_classes */
    struct smtp_tls_settings tls;
    struct access *access;
    struct table_match *submitters; /* of the pickup socket */
    struct table_match *verp_clients;
    struct address *address;
    struct filter *filter;
    struct smtp_auth *auth;     /* NULL: AUTH is off */
    struct smtp_screen *screen; /* postscreen in front; NULL: none */
};

struct smtp_listener {
    struct list link;
    struct smtp_service *service;
    struct listener *listener;
    int fd;
};

struct smtp_server {
    struct smtp_server_parts parts;
    struct conf *conf;
    struct access_counters *counters;
    struct access_passes *passes; /* where a line is postscreen's */
    struct auth_client *auth;     /* NULL: no service needs it */
    struct smtp_names *names;
    struct list services;
    struct list listeners;
    struct list sessions;
    size_t n_sessions;
    uint64_t n_accepted;
    uint64_t n_messages;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

enum smtp_verb {
    VERB_CONNECT, /* before any command */
    VERB_HELO,
    VERB_EHLO,
    VERB_STARTTLS,
    VERB_AUTH,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_BDAT,
    VERB_RSET,
    VERB_NOOP,
    VERB_QUIT,
    VERB_VRFY,
    VERB_ETRN,
    VERB_HELP,
    VERB_UNKNOWN,
    VERB_N,
};

#define SMTP_SESSION_MAGIC MAGIC('S', 'M', 'T', 'P')
#define SMTP_TX_ARENA_MAX  (16u << 20)

struct smtp_tx;

/* What the system of names says of an address; shared by its sessions. */
struct smtp_name {
    struct map_node node;
    struct list link;
    unsigned n_refs;
    enum access_name name_status, reverse_status;
    msec until;
    char *name;    /* verified; NULL: "unknown" */
    char *reverse; /* what PTR says; NULL: "unknown" */
    char addr[64];
};

/* A session: what stays in memory while its client is quiet. */
struct smtp {
    uint32_t magic;
    bool is_esmtp;
    bool must_close; /* end after the reply that is going out */
    bool said_quit;
    bool is_denied;     /* refused at connect: may only QUIT */
    bool is_timeout;    /* the client was silent within a command */
    bool was_early;     /* "improper command pipelining" is logged already */
    bool reply_failed;  /* the last reply was 4xx or 5xx */
    bool is_shutdown;   /* the process ends: 421 at the next chance */
    bool is_introduced; /* "connect from" is in the log */
    unsigned char last_verb;
    unsigned n_errors;
    unsigned n_junk;
    uint16_t n_ok[VERB_N]; /* of each verb, for the "disconnect from" line */
    uint16_t n_all[VERB_N];
    struct list link;
    struct smtp_service *service;
    struct stream *stream;
    char *helo;             /* as given; NULL before */
    struct smtp_name *name; /* NULL: not looked up */
    char *client;           /* "unknown[192.0.2.1]" */
    char *login;            /* pickup: the user's name */
    char *sasl_user;        /* who has signed in; NULL nobody */
    char *sasl_method;      /* "PLAIN" */
    char *deferred;         /* DEFER_IF_PERMIT of CONNECT or HELO, else NULL */
    unsigned char deferred_stage;
    struct peer_addr peer;
    struct access_client counted;
    struct task *task; /* that works on it; NULL while it is parked */
    /* Under test, or refused by one; NULL: neither. */
    struct smtp_screening *screening;
    struct smtp_tx *tx;
    struct smtp_notes *notes; /* transcript; NULL: none */
};

/* A transaction: from MAIL (or an earlier policy question) to the reply that
 * ends it. */
struct smtp_tx {
    struct arena *arena;
    struct envelope env;
    struct access_session policy;
    struct address_list rcpts; /* after rewriting and expansion */
    slice sender;              /* as given, internal */
    slice sasl_sender;         /* AUTH= of MAIL */
    slice first_rcpt;          /* as given, for Received and logs */
    bool has_mail;
    struct spool_coming coming;
    bool is_bdat; /* a BDAT was taken: only BDAT or RSET may follow */
    uint64_t size_said;
    size_t n_rcpts; /* accepted RCPTs */
    size_t n_refused;
    struct spool_draft *draft;
    struct smtp_body *body;  /* while the message comes in */
    bool is_content_refusal; /* by header or body checks, in their own words */
    bool is_failed;          /* the message will be refused with `why` */
    struct err why;
};

/* ---- reply.c.  0 to go on, -1 when the peer is gone.  The lines are collected
 * and flushed when the session has no complete command left. */
MAY_WAIT int smtp_reply(struct smtp *s, int code, const char *status,
                        const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A ready line of room access ("554 5.7.1 ..."). */
MAY_WAIT int smtp_reply_line(struct smtp *s, const struct access_reply *r);
/* An err becomes a reply and a log line; ERR_PEER only unwinds (-1). */
MAY_WAIT int smtp_fail(struct smtp *s, const struct err *err);
int smtp_fail_code(const struct err *err); /* of the reply to it */
/* "NOQUEUE: reject: WHERE from client: REPLY; from=... to=...", as the lists of
 * room access say it. */
void smtp_log_reject(struct smtp *s, const char *where, const char *reply);

/* ---- session.c */
void smtp_session_start(struct smtp_service *service, int fd,
                        const struct peer_addr *peer);
/* The same over a stream, which is taken over. */
void smtp_session_begin(struct smtp_service *service, struct stream *stream,
                        const struct peer_addr *peer);
/* The greeting, and all that follows. */
MAY_WAIT void smtp_session_greet(struct smtp *s);
/* The end of a session that was never greeted. */
MAY_WAIT void smtp_session_drop(struct smtp *s);
/* The lists' view of the session: its transaction's, made when missing. */
struct smtp_tx *smtp_tx_get(struct smtp *s);
void smtp_tx_reset(struct smtp *s);
/* Ask the lists; *ok false when a refusal went out.  -1: end the session. */
MAY_WAIT int smtp_check(struct smtp *s, enum access_stage stage, bool *ok);
/* Count an event of this client in the shared rates; the same results. */
MAY_WAIT int smtp_count(struct smtp *s, enum access_event event, bool *ok);
slice smtp_verb_name(unsigned verb);
/* More input, within smtpd_timeout.  -1: end the session. */
MAY_WAIT int smtp_fill(struct smtp *s);

/* ---- names.c */
struct smtp_names *smtp_names_new(void);
void smtp_names_free(struct smtp_names **ap);
void smtp_names_dump(const struct smtp_names *all, struct buf *out);
/* Look up the client's name, where it is wanted.  -1: the session ends. */
MAY_WAIT int smtp_name_find(struct smtp *s);
void smtp_name_unref(struct smtp_name **n);
const char *smtp_client_name(const struct smtp *s);
void smtp_name_policy(const struct smtp *s, struct access_session *policy);

/* ---- screen.c */
/* The settings of a postscreen line, which stands in front of `v`. */
int smtp_screen_new(struct smtp_service *v, const struct conf_service *line,
                    struct err *err);
void smtp_screen_free(struct smtp_service *v);
/* Test a client that has just connected; smtp_session_greet() follows, now or
 * later, or smtp_session_drop(). */
MAY_WAIT void smtp_screen_begin(struct smtp *s);
void smtp_screen_end(struct smtp *s);
/* What it says is watched: a command line with its end; a foreign command.
 * 0: go on, 1: it was told to go, -1: it is gone. */
bool smtp_screen_is_deep(const struct smtp *s);
MAY_WAIT int smtp_screen_line(struct smtp *s, slice line);
MAY_WAIT int smtp_screen_foreign(struct smtp *s, slice line);
/* Of a client that failed under `enforce`, or is watched: refuse a recipient.
 */
MAY_WAIT int smtp_screen_refuse(struct smtp *s, slice rcpt);

/* ---- tls.c */
void smtp_tls_settings(struct smtp_service *v);
/* May STARTTLS be said? */
bool smtp_tls_offered(const struct smtp *s);
/* TLS is demanded and not there yet. */
bool smtp_tls_missing(const struct smtp *s);
/* smtpd_tls_auth_only: may AUTH be used now? */
bool smtp_tls_auth_ok(const struct smtp *s);
/* Wrapper mode: the handshake before the greeting.  -1: end the session. */
MAY_WAIT int smtp_tls_wrap(struct smtp *s);
void smtp_tls_policy(const struct smtp *s, struct smtp_tx *tx);
/* smtpd_tls_received_header: comments of a Received field. */
void smtp_tls_received(const struct smtp *s, struct buf *out);
MAY_WAIT int smtp_cmd_starttls(struct smtp *s, slice args);

/* ---- notify.c: transcripts for the postmaster */
unsigned smtp_notify_classes(const struct conf *c,
                             const struct conf_service *line);
void smtp_note_in(struct smtp *s, slice line);
void smtp_note_out(struct smtp *s, int code, slice line);
/* At the session's end, when something went wrong that is wanted. */
MAY_WAIT void smtp_notes_send(struct smtp *s);
void smtp_notes_free(struct smtp *s);

/* ---- verify.c */
/* May this client say XVERP?  Trouble of a table is a no. */
MAY_WAIT bool smtp_verp_allowed(const struct smtp *s);
/* The value of XVERP= into the transaction; false: not two good characters. */
bool smtp_verp_take(struct smtp *s, slice value);
/* XTRACE= of sendmail on the pickup socket: RECORD (-v), VERIFY (-bv). */
bool smtp_trace_take(struct smtp *s, slice value);
void smtp_verify_policy(const struct smtp *s, struct smtp_tx *tx);

/* ---- server.c: open or shut the listeners of a service by its limit */
void smtp_service_limit(struct smtp_service *service);

/* ---- settings.c */
int smtp_service_new(struct smtp_server *server,
                     const struct conf_service *line, struct smtp_service **out,
                     struct err *err);
void smtp_service_free(struct smtp_service **vp);

/* ---- the verbs; `args` is what stands behind the verb.  0 to go on, -1 to end
 * the session without a word. */
MAY_WAIT int smtp_cmd_helo(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_ehlo(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_mail(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_rcpt(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_data(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_bdat(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_rset(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_noop(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_quit(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_vrfy(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_etrn(struct smtp *s, slice args);
MAY_WAIT int smtp_cmd_help(struct smtp *s, slice args);

/* ---- receive.c: a message's way from the client to the spool */
int smtp_body_begin(struct smtp *s, bool stuffed, struct err *err);
/* Take raw bytes from *in, to the dot or to its end.  A failure is remembered
 * in the transaction, and the rest is read and dropped. */
MAY_WAIT void smtp_body_feed(struct smtp *s, slice *in);
bool smtp_body_done(const struct smtp *s); /* DATA: the dot came */
/* All is there: check, rewrite, commit, reply. */
MAY_WAIT int smtp_body_end(struct smtp *s);
void smtp_body_free(struct smtp_body **b);

/* ---- submit.c: headers that a message of our own client may lack, Received */
MAY_WAIT int smtp_headers_complete(struct smtp *s, slice header,
                                   struct buf *out, struct err *err);
bool smtp_received(const struct smtp *s, struct buf *out);

#endif
