#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

/*
 * broker - who may write whose mail: mailbox workers and the syncs that they
 * share.
 *
 * Three processes stand on this room.
 *
 * `broker` (hato-broker, sandboxed) knows every worker.  deliver(account)
 * gives the caller a socket to the one worker that holds the account: accounts
 * of one uid are spread over as many workers as there are processors by a hash
 * of their name (CRC-32C, so that who keeps a connection knows which accounts
 * it is for), so an account always has the same one; a user with a uid of his
 * own has one worker.  session(ticket) has a ticket redeemed by auth and gives
 * the signed-in connection to the worker of that account, under a handle that
 * is drawn here; it knows every session until it ends, passes what worker and
 * login tell each other about parked ones, and keeps the records of those whose
 * worker has left.  sync(file system) is answered when everything that was
 * visible before is durable: one syncfs per file system runs at a time, and all
 * who asked before it began share it.
 *
 * `template` (root, blocking, no loop) forks a worker when broker asks: of
 * kind "mailbox" with a uid within first_valid_uid and last_valid_uid, of kind
 * "command" also with default_privs or an owner of an alias file; never 0.
 * Kind "spool" writes users' files in mail_spool_directory: it has the group of
 * that directory beside its own, reaches nothing else, and does what `local`
 * says, never what a user's files say.
 *
 * A `worker` has the user's uid.  What it serves belongs to other rooms, in
 * struct worker_ops.
 *
 *     worker:  STARTING --fork--> READY --idle or broker full--> RETIRING
 *              --its channel closes--> gone; the next request makes another
 *
 * Invariants: (1) at most one worker per (uid, gid, kind, slot) takes requests:
 * a retiring one must be gone before the next is forked; (2) a sync is answered
 * "done" only by a syncfs that began after the request came; a failed one is
 * told to all whose mail was written before it ended, whenever they ask, and
 * never repeated for them: they say which generation they knew when they began
 * to write; (3) the number of workers, of sessions, of file systems and of
 * waiting requests is bounded; (4) nothing here reads mail; (5) who asks is
 * known by its type, which master says: a login gets sessions for tickets and
 * no LMTP, local gets LMTP and no session; a handle is good on the channel that
 * got it alone.
 *
 * What waits: requests, for the fork or for the end of a retiring worker.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/ipc.h"

/* ------------------------------------------------------------------ *
 * The broker process
 */
struct broker;
/* Before the sandbox: counts processors. */
struct broker *broker_new(struct process *p);
/* Serve on fd what a process of type `from` may ask. */
void broker_on_peer(struct broker *b, enum ptype from, int fd);
/* Tell every worker of the new configuration (in p->conf_fd). */
void broker_on_reload(struct broker *b);
/* Retire all workers and end the process when they are gone. */
void broker_on_drain(struct broker *b);
void broker_dump(struct broker *b, struct buf *out);

/* ------------------------------------------------------------------ *
 * Workers
 */
struct worker;

struct worker_ops {
    /* Open what is needed, then worker_sandbox(). */
    MAY_WAIT int (*on_start)(struct worker *w, struct err *err);
    /* Serve LMTP with XHATO on this socket (owned). */
    void (*on_lmtp)(struct worker *w, int fd);
    /* Serve WORKER_FORWARD and the like on a channel on fd (owned). */
    void (*on_chan)(struct worker *w, int fd);
    /* A session was given to this worker: m is WORKER_SESSION, or WORKER_WAKE
     * (then answer it with worker_answer()), its descriptor may be taken.  Runs
     * on the loop, must not wait. */
    void (*on_session)(struct worker *w, struct msg *m);
    /* WORKER_DROP and WORKER_KICK of a session. */
    void (*on_session_end)(struct worker *w, const struct msg *m);
    MAY_WAIT void (*on_reload)(struct worker *w, struct conf *conf);
    /* Finish what is being done, close the rest, then worker_exit(). */
    void (*on_retire)(struct worker *w);
    void (*on_status)(struct worker *w, struct buf *out);
};

struct worker {
    const struct worker_ops *ops;
    struct conf *conf;
    char kind[16]; /* "mailbox", "command", "spool" */
    bool is_command;
    bool is_spool;     /* writes into mail_spool_directory and nowhere else */
    bool is_root_mode; /* the uid was changed to this user's */
    bool is_retiring;
    struct chan *broker;
    void *data; /* of the ops */
};

/* Something was done: the time of idleness begins anew. */
void worker_touch(struct worker *w);
/* How many sessions or transactions are open; above 0 the worker is not idle.
 */
void worker_busy(struct worker *w, int change);
/* Make a file system known for shared syncs: `dirfd` is any directory of it
 * (duplicated; the caller keeps his).  Told once per device. */
int worker_tell_fs(struct worker *w, uint64_t dev, int dirfd, struct err *err);

/* Sessions, to the broker: WORKER_PARK, WORKER_PUSH, WORKER_ENDED, WORKER_KEEP
 * (ipc/proto.h).  `handle` is the 16 bytes of WORKER_SESSION. */
struct worker_parking {
    const uint8_t *handle;
    uint64_t n_read, n_written; /* on the session's present socket */
    unsigned keepalive_s;
    slice keepalive;
};

void worker_park(struct worker *w, const struct worker_parking *p);
void worker_push(struct worker *w, const uint8_t *handle, slice bytes);
void worker_ended(struct worker *w, const uint8_t *handle);
void worker_keep(struct worker *w, const uint8_t *handle, slice record,
                 int watch_fd);
/* Answer a WORKER_WAKE. */
void worker_answer(struct worker *w, const struct msg *m);
void worker_refuse(struct worker *w, const struct msg *m,
                   const struct err *why);
/* BROKER_SYNC, from a worker: wait until what is visible on `fs` is durable.
 * After a failed sync, also one that others asked for, it fails for a minute:
 * for all that may have been written before. */
MAY_WAIT int worker_sync(struct worker *w, uint64_t fs, int dirfd,
                         struct err *err);
/* What a worker of its kind gives up: "mailbox" keeps files, "command" all. */
int worker_sandbox(struct worker *w, struct err *err);
void worker_exit(struct worker *w, int status);
/* The life of a worker on its control channel; for template and tests. */
int worker_main(int fd, struct conf *conf, const char *kind, bool is_root_mode,
                const struct worker_ops *ops);

/* ------------------------------------------------------------------ *
 * The template process
 */
/* Blocks until master or a drain ends it; also returns, in a forked worker,
 * when that worker ends: the result is the exit status either way. */
int template_main(const struct worker_ops *ops);

/* Pure: may a worker of this kind have this uid and gid? */
struct template_rules {
    uid_t first_uid, last_uid; /* last 0: no upper limit */
    gid_t first_gid, last_gid;
    uid_t command_uids[64]; /* default_privs, owners of alias files */
    size_t n_command_uids;
    gid_t spool_gid; /* of a group-writable mail_spool_directory; 0: none */
};

/* "mailbox", "command" or "spool" as a literal; NULL for anything else. */
const char *worker_kind(slice text);

bool template_allows(const struct template_rules *r, slice kind, uint64_t uid,
                     uint64_t gid);

#endif
