#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H

/*
 * spool - accepted mail that is still owed to somebody, on disk.
 *
 * Two sides.  A *writer* (each smtpd, and qmgr for its bounces) appends
 * messages to a segment that belongs to it alone.  The *owner* (qmgr) makes
 * segments, learns of committed messages, and journals what became of them.
 *
 *     draft:    OPEN --write--> OPEN --commit--> (durable, has an id) |
 * --abort--> segment:  WRITING --full, failed sync, writer gone--> SEALED
 *               --all settled--> deleted
 *     message:  NEW --settle/expand/defer/hold--> ... --last recipient--> gone
 *
 * A *segment* is a log of at most 64 MiB; a record is body, envelope and a
 * trailer (doc/spool.md).  A message over 256 KiB, or one that does not fit
 * into the process's memory cap for drafts, has a file of its own: a segment of
 * one record.  Every segment and own file has a number that is never used
 * again (reserved in the journal before use); a message's *sequence number* is
 * segment number * 2^20 + its place in the segment, so writers number messages
 * without asking and no number is used twice.
 *
 * Invariants:
 *  (1) spool_draft_commit() returns 0 only after the record, and the directory
 *      entry of its file, are durable.
 *  (2) A failed write or sync seals the segment: every message that waited
 *      for it gets ERR_TEMP; no second sync is tried on it.  The writer cuts
 *      the file back to what was durable, so that no scan finds the rest.
 *  (3) Notes are sent in the order of the records, and only for durable
 *      records.  The owner knows for each segment the offset up to which it
 *      has learned everything: a note below it is a repetition, a note above it
 *      shows a gap, which the owner reads from the file.  Thus lost notes
 *      cost a read and never a message:
 *      - qmgr restarts, writer lives: the writer holds the lock that qmgr took
 *        on the segment's open file, so the new qmgr sees that the segment is
 *        still written, takes from its journal what was noted, and waits for
 *        the writer's link to come back.  The writer then announces for every
 *        segment that it holds (and each sealed one that was not acknowledged)
 *        how far it is durable; the owner reads the gap up to there.
 *      - the writer dies: its channel closes and its lock is gone; the owner
 *        reads to the last valid record, syncs the file, and seals it.  What
 *        was never answered may be found as well: a message answered with 250
 *        is there once, one that was not answered may be there.
 *      - both die: the new qmgr finds the segment unlocked and does the same.
 *  (4) The owner never acts on a record before it is durable.
 *  (5) A segment's file is unlinked only after the journal holds durably that
 *      all in it is settled or moved.  The journal holds for every message
 *      noted its place, so that a start reads only what came after the last
 *      note of each segment.
 *  (6) Journal and qmgr's own segment hold a preallocated reserve; when a disk
 *      is full, new messages get ERR_TEMP 452 from the writers while
 *      settlements, deletions and bounces still go through.
 *  (7) One owner at a time (a lease on the directory).
 *  (8) An expansion is durable before spool_expand() returns; settlements are
 *      written at the end of the turn of the loop and synced at most
 *      SPOOL_SYNC_MS later, or when spool_sync() asks.
 *
 * Waits: what is marked MAY_WAIT.  It never logs a message's life (its user
 * does), never parses a body, never decides when a message is tried.
 */

#include "base/base.h"
#include "base/clock.h"
#include "ipc/chan.h"
#include "ipc/process.h"
#include "ipc/proto.h"
#include "spool/envelope.h"

#define SPOOL_DRAFT_MEMORY  (256u << 10) /* a larger one gets a file */
#define SPOOL_SEGMENT_BYTES (64u << 20)
#define SPOOL_SYNC_MS       200
#define SPOOL_DELIVERY_ID   16

/* ================================================================ writer */

struct spool_writer;
struct spool_draft;

/* A segment or own file as the owner hands it out.  fd is taken over. */
struct spool_grant {
    uint64_t segment;
    uint64_t start; /* offset of the first record */
    uint64_t bytes; /* preallocated; records must end below */
    int fd;
};

/* Where a writer gets segments and tells of messages.  spool_writer_link()
 * makes one over a link to qmgr, the owner's own writer uses direct calls. */
struct spool_source {
    MAY_WAIT int (*segment)(void *arg, struct spool_grant *out,
                            struct err *err);
    /* Up to max own files; *n_out > 0 on success. */
    MAY_WAIT int (*files)(void *arg, struct spool_grant *out, size_t max,
                          size_t *n_out, struct err *err);
    /* A SPOOL_NOTE, SPOOL_SEALED or SPOOL_UNUSED with its attributes. */
    int (*tell)(void *arg, uint16_t type, slice body, struct err *err);
};

struct spool_writer_conf {
    size_t draft_memory_bytes; /* of all drafts together; 0: 32 MiB */
    size_t file_pool;          /* own files kept ready; 0: 4 */
    msec gather; /* a note goes at once unless another went within this time:
                  * then with all others of that time */
};
struct spool_writer *spool_writer_new(const struct spool_source *source,
                                      void *arg,
                                      const struct spool_writer_conf *conf);
/* Over a link to qmgr that the writer makes and owns.  It announces its
 * segments whenever the link comes up. */
struct spool_writer *spool_writer_link(struct process *p,
                                       const struct spool_writer_conf *conf);
/* Seals what it holds; drafts must be gone.  Waits for a segment that is under
 * way. */
MAY_WAIT void spool_writer_free(struct spool_writer **w);
/* Ask the owner's process something else over the same link (VERIFY_ASK,
 * QUEUE_ETRN).  msg_free() the answer.  ERR_TEMP without a link. */
CHECKED MAY_WAIT int spool_writer_ask(struct spool_writer *w, uint16_t type,
                                      slice body, msec deadline,
                                      struct msg *answer, struct err *err);
/* Tell again what the owner may not know: after its restart. */
void spool_writer_announce(struct spool_writer *w);

/* A client has begun to send a message, or goes on with it: commits of others
 * wait a moment (ENGINE_PATIENCE_MS) for one that has moved lately, to share a
 * sync with it.  The struct is the caller's, zeroed at first, and stays until
 * spool_coming_over(), which is due before the commit and in any case. */
struct spool_coming {
    struct list link;
    msec since;
};

void spool_coming(struct spool_writer *w, struct spool_coming *c);
void spool_coming_over(struct spool_coming *c);

/* Start a message; size_hint (SIZE= of MAIL FROM, 0: unknown) decides early on
 * an own file.  The draft is the caller's until commit or abort. */
CHECKED MAY_WAIT int spool_draft_open(struct spool_writer *w,
                                      uint64_t size_hint,
                                      struct spool_draft **out,
                                      struct err *err);
/* Append body bytes (LF line ends).  Waits only for an own file's writes.
 * ERR_TEMP 4.3.1 (452) when the disk is full. */
CHECKED MAY_WAIT int spool_draft_write(struct spool_draft *d, slice data,
                                       struct err *err);
uint64_t spool_draft_bytes(const struct spool_draft *d);
/* Make it durable.  Fills id, seq, size, body_bytes (and arrival_usec if 0) of
 * *e.  0: durable, *d is NULL, the queue was told.  -1: not accepted: *d still
 * has to be aborted; err is ERR_TEMP with status 4.3.1 (disk full: 452) or
 * 4.3.0 (451).  Not ended early by task_cancel(). */
CHECKED MAY_WAIT int spool_draft_commit(struct spool_draft **d,
                                        struct envelope *e, struct err *err);
/* Forget it; NULL is fine; *d = NULL. */
void spool_draft_abort(struct spool_draft **d);

struct spool_writer_stats {
    uint64_t n_commits, n_batches, n_failed;
    size_t draft_bytes, n_drafts;
};

void spool_writer_stats(const struct spool_writer *w,
                        struct spool_writer_stats *out);

/* ================================================================= owner */

struct spool;
struct spool_message; /* about 130 bytes a queued message */
struct spool_peer;    /* a connected writer */

struct spool_conf {
    const char *dir;         /* made when missing, 0700 */
    uint64_t segment_bytes;  /* 0: SPOOL_SEGMENT_BYTES */
    uint64_t journal_bytes;  /* of one journal file; 0: 16 MiB */
    uint64_t reserve_bytes;  /* journal's reserve; 0: 4 MiB */
    uint64_t min_free_bytes; /* below: no new segments (queue_minfree) */
    msec straggler_age_ms;   /* move live messages out of segments older than
                              * this; 0: 10 minutes */
};

/* NULL: nobody wants to know. */
struct spool_ops {
    /* A message is there: at start (e is NULL: see spool_load) and whenever one
     * is noted (e is valid during the call; NULL when it was found on disk).
     * Runs outside any task or in the task of spool_open(): must not wait. */
    void (*on_message)(struct spool *s, struct spool_message *m,
                       const struct envelope *e, void *arg);
    /* A recipient was settled because a message with envelope.settles was
     * committed (by spool_own_writer(), or found on disk after a crash). Called
     * before that message's on_message.  is_last: m is gone after the call. */
    void (*on_settled)(struct spool *s, struct spool_message *m, uint32_t rcpt,
                       bool is_last, void *arg);
    /* Trouble for the log; damage and failed syncs. */
    void (*on_trouble)(struct spool *s, const char *text, void *arg);
};

/* Take the lease, replay the journal, read segment tails, collect garbage;
 * on_message is called for each live message before it returns.  One spool per
 * directory and process.  ERR_TEMP with "locked by ..." when another owner
 * lives. */
CHECKED MAY_WAIT int spool_open(const struct spool_conf *conf,
                                const struct spool_ops *ops, void *arg,
                                struct spool **out, struct err *err);
/* Another min_free_bytes, from the next segment on. */
void spool_set_min_free(struct spool *s, uint64_t bytes);
/* Journal all, write a snapshot when worth it, give the lease back. */
MAY_WAIT void spool_close(struct spool **s);

/* ---- writers connect.  Hand every SPOOL_* message of a channel to
 * spool_serve(), from on_msg (it does not wait; what must wait becomes a task
 * and answers later).  spool_peer_gone() from on_close, before chan_free(). */
struct spool_peer *spool_peer_new(struct spool *s, struct chan *c);
void spool_peer_gone(struct spool_peer **p);
void spool_serve(struct spool_peer *p, struct msg *m);
/* The owner's own writer, for bounces and notices.  Its segment is made at
 * open, so a full disk does not stop bounces. */
struct spool_writer *spool_own_writer(struct spool *s);

/* ---- looking */
size_t spool_count(const struct spool *s);
struct spool_message *spool_find(struct spool *s, uint64_t seq);
struct spool_message *spool_find_id(struct spool *s, slice queue_id);
/* All sequence numbers, ascending, on the heap (the caller frees); hold these,
 * not pointers, across waits. */
size_t spool_seqs(struct spool *s, uint64_t **out);
/* Messages whose journal says so: hold, next try, attempts. */
uint64_t spool_message_seq(const struct spool_message *m);
void spool_message_id(const struct spool_message *m,
                      char out[static MAIL_QUEUE_ID_SIZE]);
int64_t spool_message_arrival_ms(const struct spool_message *m);
uint64_t spool_message_size(const struct spool_message *m); /* headers+body */
bool spool_message_held(const struct spool_message *m);
msec spool_message_next_try(const struct spool_message *m); /* wall ms; 0 now */
uint32_t spool_message_attempts(const struct spool_message *m);
uint32_t spool_message_rcpts(const struct spool_message *m);   /* all ever */
uint32_t spool_message_pending(const struct spool_message *m); /* unsettled */
bool spool_message_is_pending(const struct spool_message *m, uint32_t rcpt);
void *spool_message_user(const struct spool_message *m);
void spool_message_set_user(struct spool_message *m, void *user);

/* One recipient as the queue needs it.  Index < envelope's n_rcpts: from the
 * envelope; above: from expansions, in the order they were journaled. */
struct spool_rcpt {
    uint32_t index;
    uint32_t parent; /* index that was expanded; UINT32_MAX: none */
    uint32_t depth;  /* of expansion; 0 for the envelope's */
    uint32_t notify;
    slice addr, orig, orcpt;
    slice path;  /* "a@b" or "a@b\nc@d..." */
    slice owner; /* sender to use instead (owner-list), if has_owner */
    bool has_owner;
    bool settled;
    enum outcome outcome; /* when settled */
    slice status;         /* last deferral: "4.3.0"; empty */
    slice reason;         /* last deferral's text; empty: not tried */
};

struct spool_detail {
    struct envelope envelope;
    struct spool_rcpt *rcpts;
    size_t n_rcpts;
};

/* Read a message's envelope from its segment and put the recipients' state to
 * it, all in the arena.  m may be gone when another task settled it during the
 * wait: this is told as -1. */
CHECKED MAY_WAIT int spool_load(struct spool *s, struct spool_message *m,
                                struct arena *a, struct spool_detail *out,
                                struct err *err);
/* A read-only descriptor (borrowed: valid until the next wait; chan_send()
 * duplicates it) with the place of the body. */
CHECKED int spool_read_fd(struct spool *s, struct spool_message *m, int *fd,
                          uint64_t *body_at, uint64_t *body_bytes,
                          struct err *err);
/* First 16 bytes of SHA-256(uuid, seq u64 LE, path). */
void spool_delivery_id(const struct spool *s, uint64_t seq, slice path,
                       uint8_t out[static SPOOL_DELIVERY_ID]);

/* ---- the journal.  These change memory at once and queue the record; none
 * waits but spool_expand() and spool_sync(). */

/* Recipient `rcpt` is finished (not with OUT_DEFERRED or OUT_EXPANDED).  True
 * when it was the last one: m is gone. */
bool spool_settle(struct spool *s, struct spool_message *m, uint32_t rcpt,
                  enum outcome how);

struct spool_deferral {
    uint32_t rcpt;
    slice status; /* "4.3.0" */
    slice reason;
};

/* An attempt failed for these recipients; the message's next try and number of
 * attempts are kept for a restart. */
void spool_defer(struct spool *s, struct spool_message *m, msec next_try,
                 uint32_t attempts, const struct spool_deferral *v, size_t n);

struct spool_expansion {
    slice addr;
    slice orig; /* "orig_to"; empty: none */
    slice orcpt;
    uint32_t notify;
    slice owner;
    bool has_owner;
};

/* Recipient `rcpt` became n others (n >= 1), with indexes *first_out upwards;
 * it counts as settled.  On 0 durable.  -1: nothing changed. */
CHECKED MAY_WAIT int spool_expand(struct spool *s, struct spool_message *m,
                                  uint32_t rcpt,
                                  const struct spool_expansion *v, size_t n,
                                  uint32_t *first_out, struct err *err);
void spool_hold(struct spool *s, struct spool_message *m, bool held);
/* Forget next try and deferral texts; attempts start again. */
void spool_requeue(struct spool *s, struct spool_message *m);
/* The administrator deletes it; m is gone. */
void spool_delete(struct spool *s, struct spool_message *m);
/* All of the above so far is durable on return. */
CHECKED MAY_WAIT int spool_sync(struct spool *s, struct err *err);

/* False: no room for new mail (smtpd answers 452). */
bool spool_willing(const struct spool *s);
/* Housekeeping that the room does by itself on a timer; for tests: delete
 * settled segments, move stragglers, snapshot when the journal is long, take
 * over segments whose writers are gone. */
MAY_WAIT void spool_tick(struct spool *s);
void spool_dump(const struct spool *s, struct buf *out);

#endif
