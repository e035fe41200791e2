#ifndef SPOOL_OWNER_PRIV_H
#define SPOOL_OWNER_PRIV_H

/* The owner's side.  spool.c opens and closes, message.c holds what is known of
 * a message, journal.c writes it down, snapshot.c and replay.c save and restore
 * it, segments.c owns the files, peer.c talks to writers, load.c reads. */
#include "spool/spool_priv.h"

#define SPOOL_MAGIC   MAGIC('S', 'P', 'O', 'L')
#define MESSAGE_MAGIC MAGIC('S', 'P', 'M', 'S')
#define PEER_MAGIC    MAGIC('S', 'P', 'P', 'E')

#define JOURNAL_RECORD_MAX                                                     \
 (512u << 10)            /* a batch is written before it grows                 \
                          * beyond this */
#define OPEN_FDS_MAX 128 /* descriptors for reading */

/* ---- messages */

/* A deferral's text, shared by all recipients that have it. */
struct reason {
    struct map_node node; /* key: status, NUL, text */
    size_t refs;
    size_t status_n;
    size_t text_n;
    char bytes[];
};

struct rcpt_state {
    struct reason *reason;
    uint8_t is_settled;
    uint8_t outcome; /* enum outcome */
};

/* A recipient that came from an expansion. */
struct expanded {
    uint32_t parent;
    uint32_t notify;
    bool has_owner;
    uint32_t n[4]; /* lengths of addr, orig, orcpt, owner in bytes[] */
    char bytes[];
};

struct spool_message {
    struct imap_node by_seq;
    struct list in_segment;
    struct segment *segment;
    uint64_t body_bytes;
    uint64_t size;
    int64_t arrival_usec;
    msec next_try;
    struct rcpt_state *rcpts;     /* NULL: all pending, none tried */
    struct expanded **expansions; /* n_rcpts - n_first of them */
    void *user;
    uint32_t at; /* of its record in the segment */
    uint32_t envelope_bytes;
    uint32_t attempts;
    uint32_t flags;
    uint32_t n_rcpts;
    uint32_t n_first; /* of the envelope */
    uint32_t n_pending;
    bool is_held;
};

/* ---- segments */
struct segment {
    struct imap_node by_number;
    struct list link; /* spool.dying */
    enum segment_kind kind;
    struct list messages;
    size_t n_live;
    uint64_t live_bytes;
    uint64_t known_end;      /* all below has been learnt */
    uint64_t want_end;       /* a gap to here is to be read */
    uint64_t want_seal;      /* sealed by its writer here, once all is learnt */
    uint64_t seal_end;       /* sealed: no record ends above */
    unsigned n_failures;     /* of reading it */
    struct spool_peer *peer; /* NULL: none, or the own writer */
    bool is_own_writer;
    bool is_sealed;
    bool is_foreign; /* locked by a writer that is not connected */
    bool is_scanning;
    bool is_gone; /* replay: its file is to be removed */
    bool has_file;
    bool is_dying;
    int fd; /* for reading; -1 */
    struct list in_lru;
    msec made;
};

/* A place in replay that lies behind a gap: not to be taken twice. */
struct seen {
    struct imap_node node;
};

struct old_log {
    struct list link;
    struct engine_log *log;
};

struct spool {
    uint32_t magic;
    struct spool_conf conf;
    const struct spool_ops *ops;
    void *arg;
    struct engine *engine;
    struct engine_dir *dir;
    struct engine_lease *lease;
    uint8_t uuid[16];
    unsigned n_tasks; /* background tasks of ours */
    struct waitq idle;

    struct imap messages;
    struct map reasons;
    struct imap segments;
    struct list lru; /* segments with an open descriptor, oldest first */
    size_t n_open;
    struct list dying;
    struct list peers;
    struct imap seen; /* during replay */

    /* journal */
    struct engine_log *log; /* NULL: none could be made */
    uint64_t log_number;
    uint64_t next_log;    /* made ahead: its number, 0: none */
    struct list old_logs; /* rolled, not yet known to be durable */
    uint64_t dir_changes; /* journal files made */
    uint64_t dir_synced;  /* of these, whose names are durable */
    struct buf batch;     /* operations of this turn */
    struct deferred flush;
    struct timer sync_timer;
    uint64_t base;        /* generation that `current` names */
    uint64_t bytes_since; /* journaled since the last snapshot */
    uint64_t snapshot_bytes;
    struct arena *scratch; /* for one envelope */

    uint64_t next_segment;
    uint64_t reserved;         /* numbers below are taken, says the journal */
    uint64_t reserved_durable; /* and that is durable */

    struct timer tick_timer;
    struct timer probe_timer;

    struct spool_writer *own;
    struct engine_log *bulk;
    struct segment *bulk_segment;

    bool is_closing;
    bool next_unsynced;  /* its header may not be on the disk yet */
    bool needs_snapshot; /* the journal was damaged or lost operations */
    bool is_replaying;
    bool is_opening; /* the user is told of messages at the end of it */
    bool is_willing;
    bool was_full; /* a write met a full disk */
    bool is_ticking;
};

struct spool_peer {
    uint32_t magic;
    struct list link;
    struct spool *spool;
    struct chan *chan; /* NULL: gone, tasks still refer to it */
    unsigned refs;
};

/* Memory only, no files. */
struct spool *spool_alloc(const struct spool_conf *conf,
                          const struct spool_ops *ops, void *arg);
void spool_delete_memory(struct spool *s);
void spool_trouble(struct spool *s, const char *fmt, ...) PRINTF(2, 3);
/* A background task of the spool, counted so that close waits for it. */
void spool_spawn(struct spool *s, const char *name, task_fn *fn, void *arg);
void spool_task_end(struct spool *s);

/* ---- message.c */
struct message_place {
    uint64_t seq;
    uint64_t segment;
    uint64_t at;
    uint64_t length; /* of the record */
    uint64_t body_bytes;
    uint32_t envelope_bytes;
    uint32_t n_rcpts;
    int64_t arrival_usec;
    uint64_t size;
    uint32_t flags;
};
struct spool_message *message_new(struct spool *s,
                                  const struct message_place *p,
                                  struct segment *g);
/* Out of all lists and freed; its segment may start to die. */
void message_drop(struct spool *s, struct spool_message *m);
uint64_t message_length(const struct spool_message *m);
/* Changes in memory only.  settle: true when it was pending. */
bool message_settle(struct spool *s, struct spool_message *m, uint32_t rcpt,
                    enum outcome how);
void message_reason(struct spool *s, struct spool_message *m, uint32_t rcpt,
                    slice status, slice text);
bool message_expand(struct spool_message *m, uint32_t parent,
                    const struct spool_expansion *v);
/* Take back expansions from index `from` on. */
void message_unexpand(struct spool *s, struct spool_message *m, uint32_t from);
void message_move(struct spool *s, struct spool_message *m, struct segment *g,
                  uint64_t at);
void message_forget_tries(struct spool *s, struct spool_message *m);
slice reason_status(const struct reason *r);
slice reason_text(const struct reason *r);
slice expanded_part(const struct expanded *x, int part);

/* ---- journal.c: operations; numbers are never used again */
enum journal_op {
    J_RESERVE = 1, /* u64 numbers below are taken */
    J_MESSAGE = 2, /* place */
    J_SETTLE = 3,  /* seq, u32 recipient, u8 outcome */
    J_DONE = 4,    /* seq */
    J_TRY = 5,     /* seq, next try, u32 attempts */
    J_REASON = 6,  /* seq, u8 n, status, u16 n, text, u32 recipients */
    J_EXPAND = 7,  /* seq, u32 parent, u32 index; attributes X_* */
    J_HOLD = 8,    /* seq, u8 */
    J_MOVE = 9,    /* seq, segment, at */
    J_SEAL = 10,   /* segment, end */
    J_MARK = 11,   /* segment, end */
    J_GONE = 12,   /* segment */
    J_END = 13,    /* of a snapshot */
};

enum {
    X_ADDR = 1,
    X_ORIG = 2,
    X_ORCPT = 3,
    X_NOTIFY = 4,
    X_OWNER = 5,
};

#define JOURNAL_TYPE_BATCH (1u | ENGINE_MUST_UNDERSTAND)
#define PLACE_BYTES        68

struct engine_log_spec journal_spec(const struct spool *s, const char *name,
                                    const char *kind, uint64_t number);
#define JOURNAL_NAME_SIZE 40
void journal_name(char out[static JOURNAL_NAME_SIZE], const char *what,
                  uint64_t number);
/* Put one operation into a batch. */
void op_message(struct buf *b, const struct message_place *p);
void op_seq(struct buf *b, enum journal_op op, uint64_t seq);
void op_settle(struct buf *b, uint64_t seq, uint32_t rcpt, enum outcome how);
void op_try(struct buf *b, const struct spool_message *m);
void op_reason(struct buf *b, uint64_t seq, const struct reason *r,
               const uint32_t *rcpts, size_t n);
void op_expand(struct buf *b, uint64_t seq, uint32_t parent, uint32_t index,
               const struct spool_expansion *v);
void op_hold(struct buf *b, uint64_t seq, bool held);
void op_move(struct buf *b, uint64_t seq, uint64_t segment, uint64_t at);
void op_two(struct buf *b, enum journal_op op, uint64_t x, uint64_t y);
void message_place_of(const struct spool_message *m, struct message_place *p);

/* The batch of this turn; call journal_kick() after putting to it. */
void journal_kick(struct spool *s);
/* Hand the batch to the log now. */
void journal_flush(struct spool *s);
MAY_WAIT int journal_sync(struct spool *s, struct err *err);
/* Room only for what must always go through? */
bool journal_is_tight(const struct spool *s);
/* Go on in a new file. */
int journal_roll(struct spool *s, struct err *err);
/* Make the next file ahead. */
MAY_WAIT void journal_make_next(struct spool *s);
void journal_close(struct spool *s);
/* Names of all journal files made so far are durable on 0. */
MAY_WAIT int journal_sync_names(struct spool *s, struct err *err);

/* ---- snapshot.c */
MAY_WAIT int snapshot_write(struct spool *s, struct err *err);
bool snapshot_is_due(const struct spool *s);
void current_encode(const struct spool *s, uint64_t base,
                    uint8_t out[static ENGINE_LOG_HEAD]);
/* Remove journals and snapshots before the base. */
void snapshot_remove_old(struct spool *s);
/* Remove journals with a higher number. */
void snapshot_remove_above(struct spool *s, uint64_t number);

/* ---- replay.c */
/* Read `current`, the snapshot and the journals; -1 when they are damaged. */
MAY_WAIT int replay_all(struct spool *s, bool *is_new, struct err *err);
/* Drop what was not whole and what was finished. */
void replay_finish(struct spool *s);
/* For the fuzzer: one batch. */
int replay_batch(struct spool *s, slice batch, bool *end_seen, struct err *err);

/* ---- segments.c */
struct segment *segment_get(struct spool *s, uint64_t number);  /* or NULL */
struct segment *segment_need(struct spool *s, uint64_t number); /* makes one */
void segment_free(struct spool *s, struct segment *g);
/* Something became less: may it die? */
void segment_check(struct spool *s, struct segment *g);
int segment_fd(struct spool *s, struct segment *g, struct err *err);
void segment_close_fd(struct spool *s, struct segment *g);
MAY_WAIT int segment_create(struct spool *s, enum segment_kind kind,
                            struct segment **out, int *fd_out, struct err *err);
/* Up to n own files, durable in their directory. */
MAY_WAIT int segment_create_files(struct spool *s, size_t n,
                                  struct segment **out, int *fds, size_t *n_out,
                                  struct err *err);
/* See to it that all up to `end` is learnt (UINT64_MAX: all there is). */
void segment_want(struct spool *s, struct segment *g, uint64_t end);
MAY_WAIT int segment_learn(struct spool *s, struct segment *g, uint64_t limit,
                           bool sync_first);
/* The segment will get no more records. */
void segment_seal(struct spool *s, struct segment *g, uint64_t end);
/* Is a living writer's lock on it? */
bool segment_is_locked(struct spool *s, struct segment *g);
/* Its writer is not connected any more: take over when it is dead. */
void segment_orphan(struct spool *s, struct segment *g);
MAY_WAIT int segments_load(struct spool *s, struct err *err);
MAY_WAIT void segments_bury(struct spool *s);
MAY_WAIT void segments_probe(struct spool *s);

/* ---- bulk.c */
MAY_WAIT void bulk_move_stragglers(struct spool *s);

/* ---- peer.c */
/* A message of a segment is known to be durable: journal it, apply what it
 * settles, tell the queue. */
void spool_accept(struct spool *s, struct segment *g, const struct seg_found *f,
                  slice envelope);
int spool_told(struct spool *s, struct spool_peer *p, uint16_t type,
               slice body);
struct spool_writer *own_writer_new(struct spool *s);

#endif
