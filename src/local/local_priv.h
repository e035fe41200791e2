#ifndef LOCAL_LOCAL_PRIV_H
#define LOCAL_LOCAL_PRIV_H

/* What the files of local share. */
#include "address/address.h"
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "lmtp/lmtp.h"
#include "local/local.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "spool/envelope.h"
#include "table/table.h"
#include "user/user.h"

#define LOCAL_JOB_ARENA_MAX (192u << 20)
/* Others that one recipient becomes; qmgr takes as many. */
#define LOCAL_EXPANSION_MAX 200000
/* An :include: file, and an answer to qmgr. */
#define LOCAL_INCLUDE_MAX   (16u << 20)
#define LOCAL_ANSWER_MAX    (128u << 20)
#define LOCAL_DEPTH_MAX     100 /* of expansion, as in Postfix */
#define LOCAL_INCLUDE_DEPTH 10

struct local {
    struct process *p;
    struct tables *tables;
    struct link *broker;
    struct address *address;
    struct table_list *aliases;
    struct users *users;
    struct lmtp_workers *workers;
    struct lmtp_syncs *syncs;
    struct list peers;
    size_t n_jobs;
    uint64_t n_done;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

struct local_rcpt {
    uint32_t index;
    uint32_t depth;
    uint32_t notify;
    slice addr;
    slice orig;
    slice orcpt;
    slice path;
    uint8_t id[16];
    slice shown; /* for logs and headers: addr, or the alias of a special */

    bool has_place;
    struct lmtp_place place;

    bool is_done;
    bool is_told; /* in a DELIVER_PARTIAL */
    enum outcome outcome;
    char status[8];
    slice diag;
    slice relay;
    slice *others; /* OUT_EXPANDED */
    size_t n_others;
    size_t others_room;
    slice owner;
    bool has_owner;
};

struct local_job {
    struct local *local;
    struct arena *arena;
    struct chan *chan;
    const char *queue_id;
    slice sender;
    slice transport;
    slice nexthop;
    int64_t arrival_ms;
    msec started;
    struct envelope env;
    int body_fd;
    uint64_t body_at;
    uint64_t body_bytes;
    bool is_probe;   /* address verification: nothing is delivered */
    bool shows_orig; /* X-Original-To is added */
    slice header;    /* of the message as accepted, read when first needed */
    bool has_header;
    struct local_rcpt *rcpts;
    size_t n_rcpts;
};

/* ---- request.c */
void local_sent(struct local_rcpt *r, const char *diag);
/* From an err: ERR_PERM bounces, all else defers. */
void local_failed(struct local_job *j, struct local_rcpt *r,
                  const struct err *err);
void local_bounced(struct local_job *j, struct local_rcpt *r,
                   const char *status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void local_log(struct local_job *j, struct local_rcpt *r);

/* ---- alias.c: transport `local`.  Afterwards the recipient is done (failed or
 * expanded) or has a place. */
MAY_WAIT void local_route(struct local_job *j, struct local_rcpt *r);

/* ---- expand.c: the right-hand side of an alias, .forward or :include: */
struct local_source {
    bool is_forward; /* else an alias or what it includes */
    slice user;      /* of .forward */
    slice home;
    uint64_t uid; /* commands and files run with these */
    uint64_t gid;
    slice domain; /* for \user */
};

/* Append what `text` names to r->others.  *n_out counts the entries. */
MAY_WAIT int local_expand(struct local_job *j, struct local_rcpt *r,
                          const struct local_source *src, slice text,
                          unsigned depth, struct err *err);
/* Append one address or user name; src->domain completes it. */
int local_expand_address(struct local_job *j, struct local_rcpt *r,
                         const struct local_source *src, slice text,
                         struct err *err);

/* ---- user.c */
/* getpwnam; ERR_TEMP when it cannot be known. */
MAY_WAIT int local_system_user(struct local_job *j, slice name,
                               struct table_user *out, bool *found,
                               struct err *err);
/* The place of a system user's mail. */
MAY_WAIT int local_user_place(struct local_job *j, const struct table_user *u,
                              struct lmtp_place *out, struct err *err);
/* Transport `virtual`: place, or *found false. */
MAY_WAIT int local_virtual_place(struct local_job *j, slice addr,
                                 struct lmtp_place *out, bool *found,
                                 struct err *err);
/* default_privs */
MAY_WAIT int local_default_privs(struct local_job *j, uint64_t *uid,
                                 uint64_t *gid, struct err *err);

/* ---- special.c: destinations that are no addresses */
bool local_is_special(slice addr);
slice local_special_mailbox(struct arena *a, slice user, slice domain);
/* SLICE_NONE when the text cannot be carried. */
slice local_special_target(struct arena *a, enum lmtp_kind kind,
                           const struct local_source *src, slice arg);
/* Which it is: *mailbox the address of a mailbox, or *place. */
bool local_special_parse(slice addr, slice *mailbox, struct lmtp_place *place);

/* ---- deliver.c: all recipients that have a place */
MAY_WAIT void local_deliver(struct local_job *j);

/* ---- mailboxes.c, in a mailbox worker: answers WORKER_MAILBOX */
struct store;
MAY_WAIT void local_mailboxes_serve(struct chan *c, struct msg *m,
                                    struct store *store);

#endif
