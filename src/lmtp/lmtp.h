#ifndef LMTP_LMTP_H
#define LMTP_LMTP_H

/*
 * lmtp - LMTP (RFC 2033) between Hato's own processes: the server side in a
 * mailbox worker, the client side in `local`.
 *
 * Both sides hold a socket pair that the broker made, so nobody else can speak
 * on it.  The extension XHATO (doc/lmtp-xhato.md) carries what LMTP lacks: the
 * delivery id, the account, the kind of delivery; and the answer says whether a
 * message is only visible or durable already.  Transactions are pipelined:
 * the client writes the next before the last is answered, the server answers
 * in order.
 *
 *     client:  lmtp_client_new -> lmtp_deliver * -> lmtp_client_free
 *     server:  lmtp_server_new -> lmtp_serve(fd) * -> lmtp_server_free
 *
 * Invariants: (1) an answer 250 XDURABLE means durable, 250 XVISIBLE means in
 * place: durable after a sync of file system `fs` that starts after the
 * answer; (2) each recipient gets one answer, in order; a connection that
 * breaks answers ERR_TEMP to all that are open, and the delivery ids make the
 * repetition harmless; (3) the server runs with the user's uid and touches only
 * what its own rights allow; (4) lines, recipients and message sizes are
 * bounded.
 *
 * Everything waits but new and free.
 */
#include "base/base.h"
#include "base/clock.h"
#include "conf/conf.h"

struct store;

#define LMTP_LINE_MAX  16384
#define LMTP_RCPTS_MAX 10000 /* of one transaction */

/* What a recipient's delivery is. */
enum lmtp_kind {
    LMTP_MAILBOX, /* into the account's mailbox, with the index */
    LMTP_FILE,    /* XARG: an mbox file, or a Maildir with '/' at its end */
    LMTP_COMMAND, /* XARG: a shell command; the message is its input */
};

/* ---- server */
struct lmtp_server;

struct lmtp_server_parts {
    struct store *store;
    const struct conf *conf; /* replaced by lmtp_server_set_conf() */
    const char *host;        /* myhostname */
    /* May be NULL: a transaction began (1) or ended (-1). */
    void (*busy)(void *arg, int change);
    /* May be NULL: a message lies on file system `dev`, of which dirfd is a
     * directory; called before the first answer that names it. */
    MAY_WAIT void (*on_fs)(void *arg, uint64_t dev, int dirfd);
    void *arg;
};

struct lmtp_server *lmtp_server_new(const struct lmtp_server_parts *parts);
void lmtp_server_set_conf(struct lmtp_server *server, const struct conf *conf);
/* Serve a connection; fd is taken over. */
void lmtp_serve(struct lmtp_server *server, int fd);
size_t lmtp_server_sessions(const struct lmtp_server *server);
/* True when no transaction is under way (connections may be open). */
bool lmtp_server_is_idle(const struct lmtp_server *server);
/* Ends the connections; transactions under way are cancelled first. */
void lmtp_server_close_all(struct lmtp_server *server);
void lmtp_server_free(struct lmtp_server **sp); /* no sessions left */

/* ---- client */
struct lmtp_client;
/* Take over a connected socket. */
struct lmtp_client *lmtp_client_new(int fd);
/* Also looks whether the worker closed a quiet connection. */
bool lmtp_client_is_broken(struct lmtp_client *c);
size_t lmtp_client_pending(const struct lmtp_client *c);
/* No delivery may be pending. */
void lmtp_client_free(struct lmtp_client **c);

struct lmtp_rcpt {
    slice addr; /* internal form */
    slice user;
    slice home;
    slice mail; /* expanded mail_location */
    slice orig; /* X-Original-To; empty: none */
    slice arg;  /* of LMTP_FILE, LMTP_COMMAND */
    enum lmtp_kind kind;
    uint8_t id[16];
    /* ---- the answer */
    int code; /* 250, 4xx, 5xx; 0: none came */
    bool is_durable;
    uint64_t fs;
    char status[8]; /* "2.0.0" */
    slice text;     /* behind the status, in the arena */
};

/* The message: `head` (prepended header fields) and then bytes of a file. */
struct lmtp_message {
    slice sender; /* internal */
    int64_t arrival_ms;
    slice head;
    int body_fd;
    uint64_t body_at;
    uint64_t body_bytes;
    msec deadline; /* of the whole transaction; workers set their own */
};

/* Send one transaction and wait for its answers, which stand in rcpts.  All
 * recipients are of one kind; LMTP_FILE and LMTP_COMMAND come alone.  -1: the
 * connection broke or the deadline passed (ERR_TEMP); recipients with code 0
 * have no answer.  Cancelling the task does not take back what was sent. */
MAY_WAIT int lmtp_deliver(struct lmtp_client *c, const struct lmtp_message *m,
                          struct lmtp_rcpt *rcpts, size_t n, struct arena *a,
                          struct err *err);

/* ---- workers of the broker, for `local` and `lmtpd` */
struct link;
struct lmtp_workers;
struct lmtp_worker;

/* Where a recipient's mail goes, once that is known. */
struct lmtp_place {
    enum lmtp_kind kind;
    uint64_t uid;
    uint64_t gid;
    slice account; /* what the worker is chosen by */
    slice user;
    slice home;
    slice mail;             /* LMTP_MAILBOX: expanded mail_location */
    slice arg;              /* LMTP_FILE, LMTP_COMMAND */
    bool by_command_worker; /* uid of default_privs, not of a mail user */
    bool by_spool_worker;   /* a file in mail_spool_directory */
};

struct lmtp_syncs;
/* `broker` is a link to it, borrowed; what its answers tell about failed syncs
 * goes to `syncs`. */
struct lmtp_workers *lmtp_workers_new(struct link *broker,
                                      struct lmtp_syncs *syncs);
/* The worker of a place, connected when missing.  Recipients whose worker is
 * the same may share a transaction, if they are all LMTP_MAILBOX.  Give it back
 * by lmtp_worker_put(). */
MAY_WAIT int lmtp_worker_get(struct lmtp_workers *w,
                             const struct lmtp_place *place,
                             struct lmtp_worker **out, struct err *err);
/* lmtp_deliver() to it, with a deadline of its own. */
MAY_WAIT int lmtp_worker_deliver(struct lmtp_worker *w,
                                 const struct lmtp_message *m,
                                 struct lmtp_rcpt *rcpts, size_t n,
                                 struct arena *a, struct err *err);
void lmtp_worker_put(struct lmtp_worker **vp);
/* Ask a WORKER_FORWARD or the like (ipc/proto.h) of the place's worker. */
struct msg;
MAY_WAIT int lmtp_worker_ask(struct lmtp_workers *w,
                             const struct lmtp_place *place, uint16_t type,
                             slice body, struct msg *answer, struct err *err);
void lmtp_workers_dump(const struct lmtp_workers *w, struct buf *out);

/* Shared syncs: one BROKER_SYNC for all that became visible before it. */
struct lmtp_syncs;
/* `hurry`: clients wait for these syncs; else the broker takes its time. */
struct lmtp_syncs *lmtp_syncs_new(struct link *broker, bool hurry);
/* The broker's count of failed syncs: read it after lmtp_worker_get() and
 * before anything is sent to the worker. */
uint64_t lmtp_syncs_generation(const struct lmtp_syncs *s);
/* Take over AT_GENERATION of an answer of the broker. */
void lmtp_syncs_learn(struct lmtp_syncs *s, slice answer);
/* A delivery is on its way that will ask for a sync (1), or asks now, or never
 * will (-1): a sync waits a moment for those. */
void lmtp_syncs_coming(struct lmtp_syncs *s, int change);
/* Wait until what is visible on file system `fs` is durable; `since`: the
 * generation from before it was sent. */
MAY_WAIT int lmtp_sync(struct lmtp_syncs *s, uint64_t fs, uint64_t since,
                       struct err *err);

/* ---- one message to the workers of all its recipients, side by side.  Those
 * of one worker whose mailboxes are all of kind LMTP_MAILBOX share a
 * transaction, so the message goes to the worker once and lies on the disk
 * once. */
struct lmtp_spread {
    struct lmtp_workers *workers;
    struct lmtp_syncs *syncs;
    const struct lmtp_message *message;
    size_t n;            /* recipients */
    struct arena *arena; /* of the answers' texts */
    void *arg;
    /* NULL: nobody's, or there is an answer already. */
    const struct lmtp_place *(*place)(void *arg, size_t i);
    void (*fill)(void *arg, size_t i, struct lmtp_rcpt *out);
    /* Once for each that has a place: what the worker said, which is durable
     * when it is 250; or why that cannot be. */
    void (*answered)(void *arg, size_t i, const struct lmtp_rcpt *answer);
    void (*failed)(void *arg, size_t i, const struct err *err);
    /* May be NULL: a sync is waited for from now on. */
    void (*syncing)(void *arg);
};

/* Returns when all have an answer; place() must be NULL for those then. */
MAY_WAIT void lmtp_spread(const struct lmtp_spread *spread);

#endif
