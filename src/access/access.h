#ifndef ACCESS_ACCESS_H
#define ACCESS_ACCESS_H

/*
 * access - who may do what in an SMTP session: the restriction lists of
 * smtpd (SMTPD_ACCESS_README, access(5)) and the rates per client.
 *
 * A `struct access` is compiled from the configuration of one listener's
 * service; access_new() fails when a list is wrong or unsafe, so master's check
 * calls it too.  The SMTP server keeps a `struct access_session` per
 * connection, fills in what the client says, and asks access_check() at each
 * stage; the answer is a complete reply line or "go on", and what the lists
 * said about the message (hold, redirect, ...) collects in its `effects`.
 *
 *     CONNECT -> HELO -> MAIL -> RCPT * -> DATA -> END_OF_DATA   (ETRN, VRFY)
 *
 * With smtpd_delay_reject the lists of CONNECT, HELO and MAIL are evaluated at
 * RCPT (and ETRN); the function does that by itself.
 *
 * Invariants: (1) no recipient passes RCPT unless its domain is one that this
 * system is responsible for, or relaying was granted by what a stranger cannot
 * choose: permit_mynetworks, permit_inet_interfaces, authentication, or an
 * access table of clients (check_client_access).  A bare `permit`, and tables
 * asked by helo name, sender or recipient, grant none, wherever they stand; (2)
 * a lookup that fails answers 4xx; (3) restriction classes nest at most
 * ACCESS_DEPTH deep; (4) every refusal is logged here, in Postfix's words,
 * once; (5) the counters bound memory and survive a process that dies at any
 * instruction.
 *
 * access_check() may wait (tables).  It never talks to the client.
 */
#include "address/address.h"
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/proto.h"
#include "rt/rt.h"
#include "table/table.h"

#define ACCESS_DEPTH 10

enum access_stage {
    ACCESS_CONNECT,
    ACCESS_HELO,
    ACCESS_MAIL,
    ACCESS_RCPT,
    ACCESS_DATA,
    ACCESS_END_OF_DATA,
    ACCESS_ETRN,
    ACCESS_VRFY,
};

struct dns;
struct dns_hosts;

/* ---- DNS lists, for restrictions and for postscreen */
/* "127.0.0.[2;4..11]": which answers count. */
struct access_filter {
    bool is_any;
    uint8_t set[4][32];
};

struct access_dnsxl {
    slice domain;
    slice spec; /* as configured: with its filter */
    struct access_filter filter;
};

/* "domain" or "domain=filter"; false: malformed.  The slices lie in `spec`. */
bool access_dnsxl_parse(slice spec, struct access_dnsxl *out);
bool access_filter_match(const struct access_filter *f, const uint8_t *ip4);

struct access;
/* Compile.  ERR_PERM with file and cure when a list is wrong: an unknown word,
 * a table that is missing, or neither smtpd_relay_restrictions nor
 * smtpd_recipient_restrictions refuses relaying. */
int access_new(const struct conf *c, const struct conf_service *service,
               struct tables *t, const struct address *address,
               struct access **out, struct err *err);
void access_free(struct access **a);
/* Whom to ask for names; without, DNS says "try later" to every question.
 * `hosts` may be NULL. */
void access_set_dns(struct access *a, struct dns *dns, struct dns_hosts *hosts);

/* What the lists said about the message; slices in the session's arena. */
struct access_effects {
    bool discard;
    bool hold;
    slice hold_text;
    slice redirect; /* the one recipient to use instead */
    slice filter;   /* transport:destination */
    slice *prepend; /* header lines without line end */
    size_t n_prepend;
    slice *bcc;
    size_t n_bcc;
};

/* What address verification knows of an address. */
struct access_verified {
    enum verify_status status;
    slice text; /* why, in the session's arena */
};

/* What the system of names says of a client (Postfix's SMTPD_PEER_CODE_*). */
enum access_name {
    ACCESS_NAME_NONE, /* it has none, or nobody asked */
    ACCESS_NAME_OK,
    ACCESS_NAME_TEMP,   /* that could not be found out now */
    ACCESS_NAME_FORGED, /* the name has not this address */
};

struct access_session {
    /* ---- filled in by the SMTP server */
    const struct peer_addr *peer;
    slice name;         /* verified client name, "unknown" */
    slice reverse_name; /* unverified, "unknown" */
    enum access_name name_status, reverse_status;
    slice addr;      /* "192.0.2.1", "2001:db8::1" */
    slice helo;      /* "" before HELO */
    slice protocol;  /* "SMTP", "ESMTP" */
    slice sasl_user; /* "" */
    bool is_tls;
    bool ccert_ok;           /* the client's certificate is trusted */
    slice ccert_fingerprint; /* "" without a certificate */
    slice ccert_key_fingerprint;
    slice sender; /* internal; valid when has_sender */
    bool has_sender;
    slice recipient;      /* internal, as given; the one being checked, or the
                           * last one at DATA and END_OF_DATA */
    size_t n_recipients;  /* accepted so far */
    uint64_t size;        /* SIZE= or, at END_OF_DATA, the real size */
    slice etrn;           /* argument of ETRN or VRFY */
    bool has_early_input; /* the client sent more than this command already and
                           * must not have (no PIPELINING, or DATA) */
    /* Ask the queue about an address (VERIFY_ASK); NULL: nobody can be asked.
     */
    MAY_WAIT int (*verify)(void *arg, slice addr, struct arena *a,
                           struct access_verified *out, struct err *err);
    void *verify_arg;
    const char *queue_id; /* NULL: "NOQUEUE" in the log */
    struct arena *arena;  /* of the message (or session): effects, replies */
    /* ---- kept by access; zeroed at the start */
    struct access_effects effects;
    unsigned char deferred_stage; /* DEFER_IF_PERMIT of an earlier stage .. */
    char deferred[160];           /* .. and its reply */
    struct access_known *known;   /* what DNS lists said, in the arena */
};

/* Forget the effects (message ended or RSET); the arena is the caller's. */
void access_reset(struct access_session *s);

struct access_reply {
    bool ok;         /* go on */
    bool disconnect; /* 421 or 521: send it and close */
    int code;
    slice line; /* "554 5.7.1 <a@b>: Relay access denied" */
};

/* 0 with *out; the only -1 is ERR_PEER (cancelled). */
MAY_WAIT int access_check(const struct access *a, struct access_session *s,
                          enum access_stage stage, struct access_reply *out,
                          struct err *err);

/* Client in mynetworks? */
MAY_WAIT int access_is_mynetworks(const struct access *a,
                                  const struct access_session *s, bool *out,
                                  struct err *err);

/* ------------------------------------------------------------------ *
 * Rates and concurrency per client, in memory shared by all smtpd.
 */
struct access_counters;
/* master: a memfd of the right size, zeroed.  n_clients 0: 16384. */
int access_counters_create(size_t n_clients, int *fd_out, struct err *err);
/* A process: map it; fd stays the caller's. */
int access_counters_open(int fd, struct access_counters **out, struct err *err);
void access_counters_close(struct access_counters **c);

/* A client's hold on the table, embedded in the session; zeroed is none. */
struct access_client {
    uint32_t slot; /* 0 none */
    uint64_t key;
    bool is_counted;
};

enum access_event {
    ACCESS_EVENT_CONNECT,
    ACCESS_EVENT_MESSAGE, /* MAIL FROM */
    ACCESS_EVENT_RCPT,
    ACCESS_EVENT_AUTH,
    ACCESS_EVENT_TLS,
    ACCESS_EVENT_N,
};

/* Count an event of this client and answer as Postfix does when a limit of the
 * service is exceeded (421 for connections, 450 for mail and recipients), also
 * in the log.  CONNECT counts the connection too, access_client_gone() takes it
 * back.  Clients in smtpd_client_event_limit_exceptions are never refused.
 * `counters` NULL: all is allowed. */
MAY_WAIT int access_count(const struct access *a, struct access_counters *c,
                          struct access_client *client,
                          struct access_session *s, enum access_event event,
                          struct access_reply *out, struct err *err);
void access_client_gone(struct access_counters *c,
                        struct access_client *client);
/* master: connections of a process that died are taken back at once (else when
 * the next process opens the counters).  Cheap for other processes. */
void access_counters_process_died(int fd, pid_t pid);
void access_counters_dump(struct access_counters *c, struct buf *out);

/* ------------------------------------------------------------------ *
 * What clients have passed of postscreen's tests, in memory shared by all
 * smtpd; qmgr keeps it in a file over a restart.  65,536 addresses; the ones
 * whose passes end first make room.
 */
struct access_passes;

enum access_pass {
    ACCESS_PASS_GREET,
    ACCESS_PASS_DNSBL,
    ACCESS_PASS_PIPELINING,
    ACCESS_PASS_FOREIGN,
    ACCESS_PASS_NEWLINE,
    ACCESS_PASS_N,
};

struct access_passed {
    msec until_ms[ACCESS_PASS_N]; /* wall; 0: never passed */
};

/* master: a memfd of the right size, zeroed. */
int access_passes_create(int *fd_out, struct err *err);
/* A process: map it; fd stays the caller's. */
int access_passes_open(int fd, struct access_passes **out, struct err *err);
void access_passes_close(struct access_passes **p);
/* What `addr` (text) has passed, also what is over.  False: nothing. */
bool access_passes_get(struct access_passes *p, slice addr,
                       struct access_passed *out);
void access_passes_set(struct access_passes *p, slice addr,
                       enum access_pass which, msec until_ms);
/* How often access_passes_set() was called, by all processes. */
uint64_t access_passes_changes(const struct access_passes *p);
/* Forget those whose last pass ended before that. */
void access_passes_clean(struct access_passes *p, msec before_ms);
/* How long what the next two handle is at most. */
size_t access_passes_bytes(void);
/* False: b is too small. */
bool access_passes_pack(struct access_passes *p, struct buf *b);
/* Add what pack() wrote.  Fails, without having added anything, when it is
 * damaged. */
int access_passes_unpack(struct access_passes *p, slice in, struct err *err);

#endif
