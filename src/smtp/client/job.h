#ifndef SMTP_CLIENT_JOB_H
#define SMTP_CLIENT_JOB_H

/*
 * One request of qmgr, and one connection to a server.
 *
 *     request.c  parses it, answers it, logs each recipient
 *     deliver.c  hosts one after the other; what a failure means (Postfix's
 *                smtp_connect.c and smtp_trouble.c)
 *     hosts.c    nexthop -> hosts
 *     conn.c     connecting, the race, the cache
 *     reply.c    what a server says
 *     session.c  greeting, EHLO, STARTTLS, AUTH
 *     transfer.c MAIL, RCPT, DATA for the recipients that are left
 *     body.c     the message's bytes
 */
#include "smtp/client/client_priv.h"

#define CLIENT_ARENA_MAX (64u << 20)

/* Why something failed, until a recipient gets it. */
struct client_why {
    char status[16]; /* "4.4.1"; "" nothing failed yet */
    slice text;      /* "connect to mx[192.0.2.1]:25: Connection refused" */
    slice diag;      /* "smtp; 550 5.1.1 ..." when a server said it */
    slice remote;    /* its name */
};

static inline bool client_why_is_soft(const struct client_why *w)
{
    return w->status[0] == '4';
}

struct client_rcpt {
    uint32_t index;
    uint32_t notify;
    slice addr, orig, orcpt;
    bool is_done;    /* outcome is set */
    bool is_refused; /* in this session */
    enum outcome outcome;
    enum relayed action;
    char status[16];
    slice text, diag, remote, relay;
    bool is_passed_on; /* to best_mx_transport */
    bool is_softened;  /* by soft_bounce */
};

struct client_job {
    struct smtp_client *client;
    struct client_service *service;
    struct arena *arena;
    struct chan *chan;
    const char *queue_id;
    slice sender, nexthop;
    int64_t arrival_ms;
    int64_t before_ms, queued_ms; /* delays a and b */
    msec started, connected;      /* this turn's; connected 0: never was */
    struct envelope env;
    int body_fd;
    uint64_t body_at, body_bytes;
    unsigned flags; /* DELIVER_* */
    struct client_rcpt *rcpts;
    size_t n_rcpts, n_left;

    /* deliver.c */
    struct client_why why;
    struct client_dest *dest; /* of the cache */
    slice place;              /* the destination that is tried: the nexthop, one
                               * of its list, or a fallback relay */
    bool is_final_nexthop;    /* no other destination comes after this one */
    bool is_final_server;     /* no other host: failures decide */
    bool is_loop;
    bool is_best_mx; /* we are: best_mx_transport has it */
    bool has_positive;
    char hop_status[16]; /* "" no throttle */
    slice hop_text;
    msec deadline; /* of it all */
};

/* What a server can do. */
enum {
    CAN_ESMTP = 1,
    CAN_PIPELINING = 2,
    CAN_8BITMIME = 4,
    CAN_SIZE = 8,
    CAN_STARTTLS = 16,
    CAN_AUTH = 32,
    CAN_DSN = 64,
    CAN_SMTPUTF8 = 128,
    CAN_CHUNKING = 256,
    CAN_REQUIRETLS = 512,
    CAN_XFORWARD = 1024,
    CAN_STATUSCODES = 2048,
};

struct client_reply {
    int code;
    char status[12]; /* of the text, or "5.0.0" by the code */
    slice text;      /* lines joined by blanks; good until the next reply */
};

struct client_conn {
    uint32_t magic;
    struct client_service *service;
    struct stream *st;
    struct arena *arena; /* what it knows of its server */
    struct client_host host;
    const char *name;      /* "mx.example[192.0.2.1]" */
    const char *name_port; /* with ":25" */
    unsigned can;
    uint64_t size_limit;               /* of SIZE; 0: none */
    slice auth;                        /* mechanisms offered */
    slice xforward;                    /* attributes offered */
    bool is_pix, delays_dot, no_esmtp; /* an old firewall before it */
    bool is_tls, is_verified;
    bool is_dirty; /* a transaction was begun and not ended: RSET */
    bool is_dead;
    unsigned n_used; /* messages before this one */
    msec born;
    struct buf text; /* of the last reply */
    bool in_hello;   /* the lines of this reply tell what it can do */
    unsigned n_hello;
    unsigned discard; /* CAN_* that are passed over */
    bool is_self;     /* it says our own name */
    slice policy_key, credentials;
    /* In the cache */
    struct client_dest *dest;
    struct list link;    /* of dest->idle */
    struct list by_host; /* of all idle ones */
    struct timer timer;
};

#define CLIENT_CONN_MAGIC MAGIC('C', 'O', 'N', 'N')

/* ---- request.c */
/* A chan_ops.serve of DELIVER_REQUEST. */
MAY_WAIT void client_serve(struct smtp_client *c, struct chan *chan,
                           struct msg *m);
/* Settle a recipient and log it; `conn` NULL: none. */
MAY_WAIT void client_sent(struct client_job *j, struct client_rcpt *r,
                          const struct client_conn *conn,
                          const struct client_reply *reply);
/* By j->why: deferred or bounced. */
MAY_WAIT void client_fail(struct client_job *j, struct client_rcpt *r,
                          const struct client_conn *conn);

/* ---- deliver.c */
MAY_WAIT void client_deliver(struct client_job *j);
void client_why_set(struct client_job *j, const char *status, const char *fmt,
                    ...) __attribute__((format(printf, 3, 4)));
/* What `reply` says: the text by fmt, the status and diagnostics its own. */
void client_why_reply(struct client_job *j, const struct client_conn *conn,
                      const struct client_reply *reply, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* j->why is the fate of all recipients that are left: decided now when there is
 * no other host, kept for the next one otherwise.  `throttle`: tell qmgr. */
MAY_WAIT void client_bulk_fail(struct client_job *j,
                               const struct client_conn *conn, bool throttle);
/* Whoever is left goes to best_mx_transport. */
void client_pass_on(struct client_job *j);
/* The same for one recipient. */
MAY_WAIT void client_rcpt_fail(struct client_job *j, struct client_rcpt *r,
                               const struct client_conn *conn);
/* j->why throttles the destination, unless another host may take the mail. */
void client_throttle(struct client_job *j);
/* The connection broke or stalled (err) "while ...". */
MAY_WAIT void client_broken(struct client_job *j, struct client_conn *conn,
                            const struct err *err, const char *doing);

/* ---- hosts.c */
MAY_WAIT int client_dns(struct client_job *j, const struct dns_question *q,
                        size_t n, struct dns_answer *out, struct err *err);
/* The hosts of one destination ("example.com", "[host]:25", "unix:/path").
 * n 0: j->why tells. */
MAY_WAIT int client_hosts(struct client_job *j, slice dest,
                          struct client_host **out, size_t *n_out);
/* "host:port" taken apart; brackets say that no MX is looked up. */
bool client_dest_parse(const struct client_service *s, slice dest, slice *host,
                       uint16_t *port, bool *is_literal);

/* ---- conn.c */
struct client_cache *client_cache_new(void);
void client_cache_free(struct client_cache **cp);
void client_cache_dump(const struct client_cache *c, struct buf *out);
/* Close what is idle: the client drains. */
void client_cache_close(struct client_cache *c);
/* The job begins and ends with a nexthop: what decides whether connections are
 * kept. */
void client_dest_begin(struct client_job *j);
void client_dest_end(struct client_job *j);
/* An idle connection to the job's nexthop, or NULL. */
struct client_conn *client_cache_take(struct client_job *j);
/* Keep it or end it with QUIT; *cp = NULL. */
MAY_WAIT void client_conn_put(struct client_job *j, struct client_conn **cp);
void client_conn_free(struct client_conn **cp); /* at once */
/* Connect to the first host that answers of those not tried yet (they are
 * marked); NULL: none did, j->why tells. */
MAY_WAIT struct client_conn *client_connect(struct client_job *j,
                                            struct client_host *hosts, size_t n,
                                            size_t *used);

/* ---- reply.c */
/* Read one reply.  0, or -1 when the connection broke, stalled or said too
 * much. */
MAY_WAIT int client_read_reply(struct client_conn *conn, msec deadline,
                               struct client_reply *out, struct err *err);

/* A command and its answer.  As client_read_reply(). */
MAY_WAIT int client_ask(struct client_conn *conn, msec deadline,
                        struct client_reply *out, struct err *err,
                        const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* One line of an answer to EHLO or LHLO. */
void client_hello_line(struct client_conn *conn, slice line);

/* ---- session.c: 0, or -1 with the recipients handled. */
enum client_hello {
    HELLO_OK,
    HELLO_FAILED, /* the recipients are handled */
    HELLO_NO_TLS, /* TLS failed, and may be left out: connect once more */
};
MAY_WAIT enum client_hello client_hello(struct client_job *j,
                                        struct client_conn *conn,
                                        const struct tls_policy *policy);

/* ---- transfer.c */
MAY_WAIT int client_transfer(struct client_job *j, struct client_conn *conn);

/* ---- body.c */
/* Send headers and body, dots stuffed, and the final dot.  The last bytes may
 * still be buffered. */
MAY_WAIT int client_send_body(struct client_job *j, struct client_conn *conn,
                              bool to_7bit, struct err *err);
/* Nothing above 127 in its header fields (of the first 64 KiB). */
MAY_WAIT bool client_header_is_ascii(const struct client_job *j);
/* The same as bytes for BDAT: nothing stuffed.  `out` is made here, also to be
 * given back by the caller; not after -1. */
MAY_WAIT int client_make_body(struct client_job *j, bool to_7bit,
                              struct buf *out, struct err *err);

#endif
