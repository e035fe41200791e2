#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

/*
 * queue - what qmgr does with the mail that the spool keeps: when a message is
 * tried, what is asked of whom, what becomes of the answers, who is told of
 * failures, and what the administrator sees and changes.
 *
 * Only qmgr uses it.  The room reaches everything else through three calls
 * (struct queue_ops): where a recipient goes, what one of our own notices'
 * addresses becomes, and "deliver this".  doc/queue.md is the description for
 * administrators.
 *
 *     a message:  noted by the spool -> WAITING (in one heap, by next try)
 *        --due, fewer than qmgr_message_active_limit--> ACTIVE: recipients are
 *        routed, grouped into jobs by transport and nexthop, jobs run
 *        --last job ended--> bounces and reports written, then WAITING again
 *        (recipients deferred) or gone ("removed")
 *        WAITING or ACTIVE <--queue_serve(QUEUE_HOLD, _RELEASE)--> HELD
 *     a job:  READY (its destination or transport is at its limit) -> RUNNING
 *        (one task, one DELIVER_REQUEST) -> ended
 *
 * Invariants:
 *  (1) A recipient is settled only after an answer that says sent, bounced or
 *      discarded, or by the administrator; what a bounce or report tells is
 *      settled by that bounce's existence (envelope.settles), in one step.
 *  (2) New recipients of an expansion are journaled before one of them is
 *      asked for.
 *  (3) A job that ended without an answer is asked again with the same delivery
 *      ids; nothing is logged or settled for what was not answered.
 *  (4) A fresh message is delivered from the envelope that came with its note;
 *      the disk is read only for messages that waited.
 *  (5) A message that waits costs its heap entry: no task, no timer, no
 *      envelope.  Tasks: at most QUEUE_ROUTERS to route, and one a running job.
 *  (6) A failed bounce (sender <>) is told to the postmaster at most; a failed
 *      notice to the postmaster is discarded, so notices never make a loop.
 *
 * Waits: what is marked MAY_WAIT.  It never delivers, looks nothing up by
 * itself, writes to the disk only through the spool.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/chan.h"
#include "spool/spool.h"

/* Expansions of one recipient below one another; deeper is a loop. */
#define QUEUE_MAX_DEPTH 100
/* Tasks that read envelopes and route recipients. */
#define QUEUE_ROUTERS 64
/* Recipients of one request where no <transport>_destination_recipient_limit
 * is configured. */
#define QUEUE_JOB_RCPTS 1000
/* Requests on the way per allowed delivery process of Postfix: there is no
 * process behind each of ours, they share syncs. */
#define QUEUE_JOBS_PER_PROCESS 8

/* Transports that the process `local` delivers for. */
bool queue_transport_is_local(slice transport);

struct queue_route {
    slice transport;
    slice nexthop;
    slice recipient;
};

/* A request to deliver. */
struct queue_request {
    slice transport;
    slice nexthop;
    slice body;
    int fd; /* borrowed; -1 for a probe of verify.c */
    msec deadline;
};

struct queue_ops {
    /* Where `addr` goes; slices live in the arena.  ERR_TEMP: deferred with
     * the err's peer text; ERR_PERM: bounced. */
    MAY_WAIT int (*resolve)(void *arg, slice sender, slice addr,
                            struct arena *a, struct queue_route *out,
                            struct err *err);
    /* What a recipient of our own notices becomes: completed, rewritten,
     * aliases expanded.  NULL: itself. */
    MAY_WAIT int (*recipients)(void *arg, slice addr, struct arena *a,
                               const slice **out, size_t *n_out,
                               struct err *err);
    /* Send a DELIVER_REQUEST to who serves this transport and wait for its
     * answer. */
    MAY_WAIT int (*deliver)(void *arg, const struct queue_request *r,
                            struct msg *answer, struct err *err);
    /* Is there one that serves it? */
    bool (*has_transport)(void *arg, slice transport);
    /* As resolve(), by the rules for probes (address_verify_relayhost ...).
     * NULL: the same. */
    MAY_WAIT int (*resolve_probe)(void *arg, slice sender, slice addr,
                                  struct arena *a, struct queue_route *out,
                                  struct err *err);
    /* Is this one of the fast_flush_domains?  NULL: none is. */
    MAY_WAIT int (*is_fast_flush)(void *arg, slice domain, bool *out,
                                  struct err *err);
};

struct queue;
/* `ops` outlives the queue; the conf is referenced. */
struct queue *queue_new(struct conf *c, const struct queue_ops *ops, void *arg);
/* Open the spool (spool_open()) and begin to work. */
CHECKED MAY_WAIT int queue_open(struct queue *q, const struct spool_conf *conf,
                                struct err *err);
struct spool *queue_spool(struct queue *q);
/* A new configuration: used from the next decision on. */
void queue_set_conf(struct queue *q, struct conf *c);
/* The process that delivers is there (again): ask at once what waits for it. */
void queue_kick(struct queue *q);

/* A DELIVER_PARTIAL's body. */
MAY_WAIT void queue_partial(struct queue *q, slice body);
/* Serve a QUEUE_ETRN of smtpd: answers, and then tries what waits. */
MAY_WAIT void queue_etrn(struct queue *q, struct chan *c, struct msg *m);
/* Serve a QUEUE_* message of a command (in a task: chan_ops.serve). */
MAY_WAIT void queue_serve(struct queue *q, struct chan *c, struct msg *m);

/* The content of bounce_template_file, empty: the built-in texts; what is wrong
 * in it is logged. */
void queue_set_templates(struct queue *q, slice text);
/* For postconf -t, or -b with $names expanded: the templates of such a file,
 * for the rest what is built in. */
int queue_show_templates(struct conf *c, slice text, bool is_expanded,
                         struct buf *out, struct err *err);

/* Answer a VERIFY_ASK at once: what is known of an address; who is not known,
 * or for too long, is probed meanwhile (verify.c). */
void queue_verify(struct queue *q, struct chan *c, const struct msg *m);
/* Append the sender of probes, "" the null sender. */
void queue_verify_sender(const struct conf *c, msec now, struct buf *out);

/* Begin nothing new and wait until `deadline` for the jobs on the way; those
 * that are not done are cancelled.  What was not answered is asked again after
 * the next start.  The spool goes on learning of new messages. */
MAY_WAIT void queue_stop(struct queue *q, msec deadline);
/* queue_stop(), which waits in another task, shall not wait any longer. */
void queue_hurry(struct queue *q);
/* Give the spool back and free all; stops first, without patience, when
 * queue_stop() was not called.  The writers' peers must be gone. */
MAY_WAIT void queue_close(struct queue **q);

/* "name value" lines for the status command. */
void queue_status(const struct queue *q, struct buf *out);
void queue_dump(const struct queue *q, struct buf *out);

/* ---- pure parts, for tests and the commands */

struct queue_times {
    msec min_backoff, max_backoff, run_delay; /* milliseconds */
    msec lifetime, bounce_lifetime;
};

/* When to try again a message that arrived at `arrival` and failed at `now`
 * (wall milliseconds): after its age, but between min_backoff and max_backoff,
 * at the next queue run, which come every run_delay after `epoch`. */
msec queue_next_try(const struct queue_times *t, msec arrival, msec now,
                    msec epoch);

#endif
