#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

/*
 * engine - the storage interface under spool and store (doc/design.md section
 * 4): bodies, leases, logs, small swapped objects, watches.  Today it stands on
 * local files; a distributed engine gets the same calls through a table of
 * functions in `struct engine` when there is a second one.
 *
 * Used by qmgr (journal, snapshots, segments), smtpd (a segment it was given),
 * mailbox workers (index, Maildir) and tools.  A *dir* is a name space that one
 * lease guards (a spool, an account, a mailbox); names in it are relative paths
 * of at most ENGINE_NAME_MAX bytes without "..".
 *
 *     engine_new -> dir_open -> lease_take -> log_open / put / swap ...
 *     log:  OPEN --append--> OPEN --seal or any answer but OK--> CLOSED
 *
 * Invariants:
 *  (1) No call spans two objects; link is a second name of one object.
 *  (2) Any answer but ENGINE_OK to an append or a sync closes the log for
 *      appending, for ever: a failed sync is never tried again on it.  Who
 *      goes on opens another log.
 *  (3) Records reach the disk in append order; a reader stops at the first
 *      record whose CRC is wrong, so a torn tail is never seen.
 *  (4) A write under a lease happens only while the lease is held (locally:
 *      the kernel's lock; records carry the epoch).
 *  (5) Nothing here is durable before engine_durable() or engine_log_durable()
 *      said so, calls marked DURABLE excepted.
 *
 * Waits: only functions marked MAY_WAIT; the others make a few system calls
 * that end in the page cache.  It never parses what is in a record or a body.
 */

#include "base/base.h"
#include "base/clock.h"
#include <sys/uio.h>

enum engine_outcome {
    ENGINE_OK,
    ENGINE_FENCED,  /* the lease is lost */
    ENGINE_EXISTS,  /* put, link: the name is taken */
    ENGINE_NOENT,   /* no such object */
    ENGINE_CHANGED, /* swap: somebody else changed it; log: not in its format */
    ENGINE_TRYLATER, /* lease held elsewhere, disk full, no descriptors */
    ENGINE_UNKNOWN,  /* input/output error: may have happened */
};

const char *engine_outcome_name(enum engine_outcome o);

#define ENGINE_NAME_MAX   512
#define ENGINE_RECORD_MAX (1u << 20)  /* an append is atomic up to here */
#define ENGINE_LOG_MAX    (64u << 20) /* then the owner rolls */

struct engine;
struct engine_dir;
struct engine_lease;
struct engine_log;
struct engine_put;
struct engine_watch;

/* ---- one per process */
struct engine *engine_local_new(void);
void engine_free(struct engine **e);
/* How engine_durable() gets its sync: fn is called with a descriptor of the
 * file system and answers when all that was written to it before the call is
 * durable.  Default: syncfs() in a pool thread, one in flight, shared by all
 * who wait.  A worker sets one that asks the broker. */
void engine_set_syncer(struct engine *e,
                       MAY_WAIT int (*fn)(int fd, void *arg, struct err *err),
                       void *arg);

/* ---- dirs.  engine_dir_open() makes missing directories (mode 0700) with
 * ENGINE_CREATE.  engine_dir_adopt() takes over a directory descriptor. */
enum { ENGINE_CREATE = 1, ENGINE_NOSYNC = 2 };
enum engine_outcome engine_dir_open(struct engine *e, const char *path,
                                    unsigned flags, struct engine_dir **out,
                                    struct err *err);
struct engine_dir *engine_dir_adopt(struct engine *e, int fd);
void engine_dir_close(struct engine_dir **d);
int engine_dir_fd(const struct engine_dir *d); /* borrowed */

/* ---- bodies.  A put is written under a temporary name and gets its own by
 * commit; it is idempotent by name (the second commit replaces the same bytes
 * by the same bytes).  `tmp` and `name` are paths in the dir ("tmp/x",
 * "new/x").  engine_put() is all of it for bytes in memory. */
enum engine_outcome engine_put_open(struct engine_dir *d, const char *tmp,
                                    mode_t mode, struct engine_put **out,
                                    struct err *err);
enum engine_outcome engine_put_write(struct engine_put *p,
                                     const struct iovec *v, int n,
                                     struct err *err);
int engine_put_fd(const struct engine_put *p); /* borrowed, read/write */
/* Frees *p whatever the outcome; on failure the temporary file is gone. */
enum engine_outcome engine_put_commit(struct engine_put **p, const char *name,
                                      struct err *err);
void engine_put_abort(struct engine_put **p);
enum engine_outcome engine_put(struct engine_dir *d, const char *tmp,
                               const char *name, const struct iovec *v, int n,
                               struct err *err);
/* A read-only descriptor of the body (the caller closes) and its size. */
enum engine_outcome engine_get(struct engine_dir *d, const char *name,
                               int *fd_out, uint64_t *size_out,
                               struct err *err);
enum engine_outcome engine_size(struct engine_dir *d, const char *name,
                                uint64_t *out, struct err *err);
/* A second name, maybe in another dir of the same engine.  TRYLATER with
 * err->sys EMLINK: the file has its maximum of links, put a new one. */
enum engine_outcome engine_link(struct engine_dir *from_dir, const char *from,
                                struct engine_dir *to_dir, const char *to,
                                struct err *err);
enum engine_outcome engine_rename(struct engine_dir *d, const char *from,
                                  const char *to, struct err *err);
enum engine_outcome engine_unlink(struct engine_dir *d, const char *name,
                                  struct err *err);
enum engine_outcome engine_mkdir(struct engine_dir *d, const char *name,
                                 mode_t mode, struct err *err);
/* For repair and start only: calls fn for each entry of directory `name` ("":
 * the dir itself); fn returns false to stop. */
enum engine_outcome engine_list(struct engine_dir *d, const char *name,
                                bool (*fn)(const char *entry, void *arg),
                                void *arg, struct err *err);

/* Make the entries of directory `name` ("": the dir itself) durable. */
MAY_WAIT enum engine_outcome engine_dir_sync(struct engine_dir *d,
                                             const char *name, struct err *err);
/* Wait until all that this process wrote into the dir's file system before the
 * call is durable (shared; see engine_set_syncer). */
MAY_WAIT enum engine_outcome engine_durable(struct engine_dir *d, msec deadline,
                                            struct err *err);

/* ---- leases.  `name` is a lock file in the dir; its contents hold the epoch,
 * the host and the pid of the holder.  TRYLATER: somebody holds it (err says
 * who).  The epoch grows with each take; engine_log_open() raises it above any
 * epoch that the log holds. */
enum engine_outcome engine_lease_take(struct engine_dir *d, const char *name,
                                      struct engine_lease **out,
                                      struct err *err);
enum engine_outcome engine_lease_renew(struct engine_lease *l, struct err *err);
void engine_lease_drop(struct engine_lease **l);
uint64_t engine_lease_epoch(const struct engine_lease *l);
/* The owner saw `epoch` in a record: go above it (a power cut may have taken
 * back the lease file's last write). */
enum engine_outcome engine_lease_raise(struct engine_lease *l, uint64_t epoch,
                                       struct err *err);

/* ---- logs.  File: 64 bytes of header, then records of 24 bytes of header and
 * the payload (doc/spool.md, "engine log").  `kind` is four characters that go
 * into the magic, so that one sort of log is never read as another. */
struct engine_log_spec {
    const char *name;
    char kind[4];
    uint16_t version;  /* of what the records mean */
    uint16_t oldest;   /* oldest reader that may read it; checked on open */
    uint64_t features; /* kept in the header */
    uint8_t uuid[16];  /* on create; checked on open unless all zero */
    uint64_t number;   /* the owner's number of this log */
    uint64_t preallocate_bytes; /* 0: none */
    uint64_t max_bytes;         /* 0: ENGINE_LOG_MAX */
    bool self_sync; /* engine_log_durable() syncs this file by itself (group
                     * commit); else append writes at once, and the caller
                     * relies on engine_durable() */
};

struct engine_log_info {
    uint16_t version;
    uint64_t features;
    uint8_t uuid[16];
    uint64_t number;
    uint64_t epoch;
};
/* Make a new log (EXISTS when the name is taken).  Header and preallocation
 * are written, not yet durable (the directory's entry neither). */
enum engine_outcome engine_log_create(struct engine_dir *d,
                                      struct engine_lease *lease,
                                      const struct engine_log_spec *spec,
                                      struct engine_log **out, struct err *err);
/* Open one: `end` is where valid records stop, as the caller found it by
 * reading; what is behind it is overwritten by the next append. */
enum engine_outcome engine_log_open(struct engine_dir *d,
                                    struct engine_lease *lease,
                                    const struct engine_log_spec *spec,
                                    uint64_t end, struct engine_log **out,
                                    struct err *err);
/* A log that another process created and handed over as a descriptor, which
 * is taken over: appending starts at `end`. */
enum engine_outcome engine_log_adopt(struct engine *e, int fd, uint64_t end,
                                     const struct engine_log_spec *spec,
                                     struct engine_log **out, struct err *err);
int engine_log_fd(const struct engine_log *l); /* borrowed */
/* After a close with data under way, frees later; waiters get UNKNOWN. */
void engine_log_close(struct engine_log **l);
bool engine_log_is_open(const struct engine_log *l);
/* What closed a log that is not open any more. */
void engine_log_why(const struct engine_log *l, struct err *err);
uint64_t engine_log_end(const struct engine_log *l); /* queued bytes included */
uint64_t engine_log_durable_end(const struct engine_log *l);
/* Bytes left for records (headers included) before max_bytes. */
uint64_t engine_log_room(const struct engine_log *l);

#define ENGINE_MUST_UNDERSTAND 0x8000u /* in a record's type */
#define ENGINE_RECORD_HEAD     24
#define ENGINE_LOG_HEAD        64

/* Append one record made of n pieces (n <= 4).  self_sync: the bytes are only
 * queued; the pieces must stay until engine_log_durable() returned (unless the
 * log copies: ENGINE_COPY); they go out in one write with all others at the end
 * of this turn of the loop, or when the sync in flight has ended.  Otherwise
 * written at once.  *at_out: offset of the record's header.  The caller has
 * seen to it that engine_log_room() suffices. */
enum { ENGINE_COPY = 1 };
enum engine_outcome engine_log_append(struct engine_log *l, uint16_t type,
                                      const struct iovec *v, int n,
                                      unsigned flags, uint64_t *at_out,
                                      struct err *err);
/* Before each shared sync more(arg) is asked whether others are just about to
 * append; while they are, who waits is kept waiting for them, up to
 * ENGINE_PATIENCE_MS.  A sync costs more than all else about a small record. */
#define ENGINE_PATIENCE_MS 2
void engine_log_patience(struct engine_log *l, bool (*more)(void *arg),
                         void *arg);
/* Write what is queued soon, without a sync (self_sync logs). */
void engine_log_push(struct engine_log *l);
/* Wait until every record that starts below `upto` is durable: the ticket of
 * an append is engine_log_end() after it.  Not ended early by task_cancel():
 * the outcome must be known.  Any outcome but OK: the log is closed. */
MAY_WAIT enum engine_outcome engine_log_durable(struct engine_log *l,
                                                uint64_t upto, struct err *err);
/* No more appends, by a last record; readers see `sealed`. */
MAY_WAIT enum engine_outcome engine_log_seal(struct engine_log *l,
                                             struct err *err);
enum engine_outcome engine_log_remove(struct engine_dir *d, const char *name,
                                      struct err *err);

/* A log whose creation did not reach the disk whole: its header is damaged or
 * missing, and nothing stands where the first record should be.  Nothing that
 * was promised can be in it, since the first sync covers the header. */
bool engine_log_is_blank(int fd);

/* Reading, independent of appending (the payload's copy is in the reader). */
struct engine_reader;

struct engine_record {
    uint16_t type; /* without the must-understand bit */
    bool must;
    uint64_t epoch;
    uint64_t at;   /* offset of its header */
    uint64_t next; /* offset behind it */
    slice payload; /* valid until the next call */
};
enum engine_outcome engine_reader_open(struct engine_dir *d,
                                       const struct engine_log_spec *spec,
                                       struct engine_reader **out,
                                       struct engine_log_info *info,
                                       struct err *err);
/* The same over a descriptor, which stays the caller's. */
enum engine_outcome engine_reader_fd(int fd, const struct engine_log_spec *spec,
                                     struct engine_reader **out,
                                     struct engine_log_info *info,
                                     struct err *err);
void engine_reader_seek(struct engine_reader *r, uint64_t at);
/* 1: a record; 0: the end of the valid records (engine_reader_end() tells
 * where, engine_reader_torn() whether bytes that are no record follow);
 * -1: could not read (err). */
int engine_reader_next(struct engine_reader *r, struct engine_record *out,
                       struct err *err);
uint64_t engine_reader_end(const struct engine_reader *r);
bool engine_reader_torn(const struct engine_reader *r);
bool engine_reader_sealed(const struct engine_reader *r);
void engine_reader_free(struct engine_reader **r);

/* Records outside a log's append path (own files of the spool): the header's
 * bytes for a payload whose CRC was chained piece by piece, started with
 * engine_crc_start() for the log's header and the record's offset. */
uint32_t engine_crc_start(const uint8_t log_head[static ENGINE_LOG_HEAD],
                          uint64_t at);

struct engine_record_head {
    uint16_t type;  /* with the must-understand bit */
    uint16_t flags; /* 0 as yet; kept for later releases */
    uint64_t length;
    uint64_t epoch;
};

void engine_record_encode(uint8_t out[static ENGINE_RECORD_HEAD],
                          const struct engine_record_head *h, uint32_t crc);
/* The header's fields and the CRC it claims; false when it cannot be one. */
bool engine_record_decode(const uint8_t in[static ENGINE_RECORD_HEAD],
                          struct engine_record_head *out, uint32_t *crc_out);
/* What the CRC field must be, given the chained CRC of the payload. */
uint32_t engine_record_crc(const struct engine_record_head *h,
                           uint32_t payload_crc);
void engine_log_head_encode(uint8_t out[static ENGINE_LOG_HEAD],
                            const struct engine_log_spec *spec, uint64_t epoch);
enum engine_outcome engine_log_head_decode(
    const uint8_t in[static ENGINE_LOG_HEAD],
    const struct engine_log_spec *spec, struct engine_log_info *out,
    struct err *err);

/* ---- swap: replace the small object `name` by `now` if it is `was` (an empty
 * `was`: if there is none).  CHANGED when it is something else.  DURABLE on
 * return unless ENGINE_NOSYNC.  Blocks for the syncs: offload it where that
 * matters.  engine_load() reads it (NOENT). */
enum engine_outcome engine_swap(struct engine_dir *d, const char *name,
                                slice was, slice now, unsigned flags,
                                struct err *err);
enum engine_outcome engine_load(struct engine_dir *d, const char *name,
                                struct buf *out, struct err *err);

/* ---- watch: fn runs on the loop, outside any task, when something in
 * directory `name` of the dir changed.  A hint: events may be merged; `resync`
 * says that some were lost.  `entry` may be "". */
enum engine_event {
    ENGINE_EV_CREATED = 1, /* made here or moved in */
    ENGINE_EV_REMOVED = 2, /* unlinked or moved out */
    ENGINE_EV_CHANGED = 4, /* written */
    ENGINE_EV_RESYNC = 8,
    ENGINE_EV_GONE = 16, /* the directory itself; no more events */
};
enum engine_outcome engine_watch(struct engine_dir *d, const char *name,
                                 void (*fn)(void *arg, unsigned events,
                                            const char *entry),
                                 void *arg, struct engine_watch **out,
                                 struct err *err);
void engine_watch_free(struct engine_watch **w);
/* Tell at once what has happened up to here, and not with the next turn of the
 * loop. */
void engine_watch_poll(struct engine *e);
/* Tell other processes.  Local files tell by themselves: does nothing. */
void engine_notify(struct engine_dir *d, const char *name);

#endif
