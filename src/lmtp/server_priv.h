#ifndef LMTP_SERVER_PRIV_H
#define LMTP_SERVER_PRIV_H

/* What session.c (the protocol) and deliver.c (the deed) share. */
#include "base/digest.h"
#include "lmtp/lmtp.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "store/store.h"

#define LMTP_FS_MAX 16

struct lmtp_server {
    struct lmtp_server_parts parts;
    struct list sessions;
    size_t n_sessions;
    size_t n_busy; /* transactions under way */
    uint64_t n_delivered;
    uint64_t told_fs[LMTP_FS_MAX]; /* st_dev + 1 of those told */
};

/* A recipient as it was given. */
struct lmtp_target {
    slice addr; /* internal */
    slice user;
    slice home;
    slice mail;
    slice orig;
    slice arg;
    enum lmtp_kind kind;
    uint8_t id[16];
    bool has_id;
    /* the answer */
    int code;
    const char *status;
    slice text; /* in the transaction's arena */
};

struct lmtp_tx {
    struct arena *arena;
    slice sender; /* internal */
    uint64_t arrival_ms;
    uint64_t size;
    enum lmtp_kind kind;
    struct lmtp_target *targets;
    size_t n_targets;
    size_t room;
    /* While the message comes in: */
    struct store_rcpt *rcpts; /* of LMTP_MAILBOX */
    struct store_draft *draft;
    int body_fd; /* memfd, of the other kinds; -1 */
    uint64_t body_bytes;
    bool is_failed;
    struct err why;
};

/* Begin, add bytes, finish: afterwards each target has its answer.  A failure
 * is remembered and becomes every target's answer. */
void lmtp_tx_begin(struct lmtp_server *server, struct lmtp_tx *tx);
void lmtp_tx_write(struct lmtp_tx *tx, slice bytes);
MAY_WAIT void lmtp_tx_finish(struct lmtp_server *server, struct lmtp_tx *tx);
void lmtp_tx_free(struct lmtp_tx **tp);
/* Set a target's answer from an err. */
void lmtp_target_fail(struct lmtp_tx *tx, struct lmtp_target *t,
                      const struct err *err);
/* Run a command as Postfix's local does, with the message as input. */
MAY_WAIT void lmtp_run_command(struct lmtp_server *server, struct lmtp_tx *tx,
                               struct lmtp_target *t);

#endif
