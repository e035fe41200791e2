#ifndef BROKER_BROKER_PRIV_H
#define BROKER_BROKER_PRIV_H

#include "base/clock.h"
#include "base/map.h"
#include "broker/broker.h"
#include "rt/rt.h"

#define REQUEST_MS 60000 /* a request waits so long for a worker at most */
/* A worker that has nothing but parked sessions leaves, and the broker keeps
 * their records, unless it has more than these: then it is worth its memory. */
#define KEPT_MAX 16

enum worker_state { STARTING, READY, RETIRING };

struct entry { /* a worker as the broker sees it */
    struct map_node node;
    struct broker *b;
    char key[64]; /* "uid:gid:kind:slot" */
    uint64_t uid, gid;
    slice kind;
    enum worker_state state;
    pid_t pid;
    struct chan *chan;
    msec last_used;
    uint64_t n_given;
    struct list sessions;
    size_t n_sessions;
};

struct peer { /* a process that asks */
    struct list link;
    struct broker *b;
    enum ptype from;
    struct chan *chan;
    struct list sessions; /* of a login */
};

struct broker {
    uint32_t magic;
    struct process *p;
    struct map workers;
    struct waitq changed; /* a worker became ready, gave a session, or went */
    struct list peers;
    struct link *template;
    struct link *auth; /* NULL until the first sign-in */
    struct syncs *syncs;
    unsigned n_worker_syncs;
    unsigned n_slots;
    bool is_draining;
    struct map sessions; /* by handle */
    struct map counts;   /* by service, user and address of the client */
    struct map tickets;  /* pushed by auth, not redeemed yet */
    struct list oldest;  /* of them */
    uint64_t n_signed_in;
};

/* The worker that UID GID KIND ACCOUNT of a request name: only key and ids are
 * filled in. */
int broker_read_request(struct broker *b, slice body, struct entry *out,
                        struct err *err);
/* The worker for `wanted`, made when there is none; NULL with err. */
MAY_WAIT struct entry *broker_get_worker(struct broker *b,
                                         const struct entry *wanted,
                                         struct err *err);

/* ---- sessions.c */
void sessions_init(struct broker *b);
/* A message of a login or a command. */
MAY_WAIT void sessions_serve(struct broker *b, struct chan *c, struct msg *m);
void sessions_worker_msg(struct entry *e, struct msg *m);
void sessions_worker_gone(struct entry *e);
void sessions_login_gone(struct peer *login);
void sessions_dump(struct broker *b, struct buf *out);

/* What the configuration allows the template (blocking: asks the system's
 * users, looks at alias files). */
void template_read_rules(struct template_rules *r, const struct conf *c);

/* Syncs of all file systems.  `fd_sync` may be replaced by tests. */
struct syncs;
struct syncs *syncs_new(int (*fd_sync)(int fd));
void syncs_free(struct syncs **s); /* nothing may be in flight */
/* A worker says where a file system can be reached; fd is taken over. */
void syncs_tell(struct syncs *s, uint64_t dev, int fd);
/* It grows with each sync that fails. */
uint64_t syncs_generation(const struct syncs *s);
/* Wait until all that was visible on `dev` is durable.  `since`: the generation
 * that was known before it was written.  `hurry`: a client waits for it. */
MAY_WAIT int syncs_wait(struct syncs *s, uint64_t dev, uint64_t since,
                        bool hurry, msec deadline, struct err *err);
void syncs_dump(struct syncs *s, struct buf *out);

#endif
