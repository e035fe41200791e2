#ifndef LMTPD_LMTPD_PRIV_H
#define LMTPD_LMTPD_PRIV_H

/* What server.c (lines and listeners), session.c (the talk), message.c (its
 * bytes) and deliver.c (to the workers) share. */
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "keys/keys.h"
#include "lmtp/lmtp.h"
#include "lmtpd/lmtpd.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "table/table.h"
#include "user/user.h"

#define LMTPD_LINE_MAX 4096
#define LMTPD_TX_ARENA (64u << 20)
#define LMTPD_INLINE   (256u << 10) /* longer messages lie in a memfd */
#define LMTPD_MEMORY   (512u << 20) /* of all messages of a process */
#define LMTPD_SESSIONS 10000 /* of a line in one process, without maxproc */
#define LMTPD_BAD_MAX  20    /* commands without sense */

struct lmtpd_line {
    struct list link;
    struct lmtpd *server;
    const struct conf_service *service;
    struct table_match *trusted; /* mynetworks */
    size_t rcpt_max;
    uint64_t message_max; /* 0: no limit */
    msec timeout;
    enum mail_bare_lf bare_lf;
    struct keys_service tls;
    size_t n_sessions, max_sessions;
};

struct lmtpd_listener {
    struct list link;
    struct listener *listener;
    struct lmtpd_line *line;
    int fd;
};

struct lmtpd {
    struct lmtpd_parts parts;
    struct conf *conf;
    const char *host;
    struct users *users;
    struct link *broker;
    struct lmtp_workers *workers;
    struct lmtp_syncs *syncs;
    struct list lines, listeners, sessions;
    size_t n_sessions;
    size_t memory; /* of messages under way */
    uint64_t n_messages, n_delivered;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

struct lmtpd_rcpt {
    slice addr; /* external, as the client wrote it */
    struct lmtp_place place;
    struct lmtp_rcpt lmtp;
    bool is_done; /* lmtp.code and text stand */
};

struct lmtpd_tx {
    struct arena *arena;
    slice sender; /* internal */
    struct lmtpd_rcpt *rcpts;
    size_t n_rcpts, room;
    bool is_bdat;
    bool is_coming; /* as told to lmtp_syncs_coming() */
    /* while and after the bytes come in: */
    bool has_body;
    struct mail_dot dot;
    struct buf bytes; /* Received and, up to LMTPD_INLINE, the message */
    int body_fd;      /* what is beyond; -1: nothing */
    uint64_t body_bytes;
    size_t counted; /* in lmtpd.memory */
    slice message_id;
    bool is_failed;
    struct err why;
};

struct lmtpd_session {
    struct list link;
    struct lmtpd *server;
    struct lmtpd_line *line;
    struct stream *stream;
    struct task *task; /* while it runs */
    struct lmtpd_tx *tx;
    struct peer_addr peer;
    char *client; /* "unknown[192.0.2.1]" or "local" */
    char *helo;
    char id[17]; /* for logs and Received */
    unsigned n_bad;
    unsigned n_messages;
    bool is_closing;
    bool is_ending; /* 421 at the next chance */
};

/* ---- server.c */
/* A session of the line began (1) or ended (-1): who comes when it is full
 * waits in the backlog, or for another process. */
void lmtpd_line_count(struct lmtpd_line *line, int change);

/* ---- session.c */
void lmtpd_session_start(struct lmtpd_line *line, int fd,
                         const struct peer_addr *peer);
MAY_WAIT int lmtpd_reply(struct lmtpd_session *s, const char *fmt, ...)
    PRINTF(2, 3);

/* ---- message.c */
void lmtpd_tx_free(struct lmtpd_session *s);
/* It asks for a sync now, or never will. */
void lmtpd_tx_arrived(struct lmtpd_session *s);
void lmtpd_body_begin(struct lmtpd_session *s, bool stuffed);
/* Take bytes off *in (up to the end of the data, when stuffed). */
void lmtpd_body_feed(struct lmtpd_session *s, slice *in);
void lmtpd_body_finish(struct lmtpd_session *s);

/* ---- deliver.c: afterwards every recipient has its answer */
MAY_WAIT void lmtpd_deliver(struct lmtpd_session *s);

#endif
