#ifndef STORE_STORE_H
#define STORE_STORE_H

/*
 * store - accounts, their mailboxes, and the index of each.
 *
 * A mailbox is a Maildir++ folder with real files, LF line ends, and an index:
 * a log of changes with a compact snapshot as columns mapped into memory.  The
 * index is the truth; the names of files follow it (doc/store.md has the
 * formats).  Only mailbox workers use this room, each for one uid; a worker
 * writes an account only while it holds the account's lease, which an open
 * account holds.
 *
 *     store_new -> store_account_open -> store_mailbox_open -> rows, bodies
 *               -> store_draft_new -> write * -> store_deliver
 *
 * An account stays open when nobody uses it, until the store needs its place
 * for another (store_config.max_accounts): what a caller holds between
 * _open and _unref is pinned.  Row numbers of a mailbox (0, 1, ...) ascend
 * with the UIDs and stay while the mailbox is pinned; rows of expunged mail are
 * holes, whose columns and strings can still be read (store_view_get()).  So a
 * session needs no copy of the mailbox: a view (struct store_view) holds what
 * its client was told.
 *
 * Invariants:
 *  (1) A message's bytes are in place before the record that names it goes out.
 *  (2) A delivery id that the account knows (in an index, or among those of
 *      expunged mail) is answered as delivered and makes no second message; the
 *      id stands in the file's name, so that this survives the index.
 *  (3) UIDs ascend, MODSEQ is one ascending counter per account, UIDVALIDITY
 *      ascends per account; none is used twice once it could have been seen
 *      (store_mailbox_reserve()).
 *  (4) Index first, then the names of files and unlinks: store_mailbox_tidy().
 *  (5) A damaged index costs one mailbox a rebuild from its files, and never
 *      the process.
 *  (6) Trouble of our own (full disk, missing home, foreign owner, lease held
 *      elsewhere) is ERR_TEMP.
 *
 * Waits: the functions marked MAY_WAIT.  It never logs, except through
 * store_config.note.  It never makes a message durable unless asked to
 * (mail_fsync): the caller has the file system synced (broker) and settles the
 * delivery then.
 */

#include "base/base.h"
#include "base/clock.h"

struct engine;
struct store;
struct store_account;
struct store_mailbox;
struct store_draft;

enum store_fsync {
    STORE_FSYNC_OPTIMIZED, /* visible now, durable by the shared sync */
    STORE_FSYNC_ALWAYS,    /* durable when store_deliver() returns */
    STORE_FSYNC_NEVER,     /* as optimized; nobody waits */
};

/* What a mailbox is for, RFC 6154; \Important RFC 8457. */
enum store_use {
    STORE_USE_ALL = 1,
    STORE_USE_ARCHIVE = 2,
    STORE_USE_DRAFTS = 4,
    STORE_USE_FLAGGED = 8,
    STORE_USE_JUNK = 16,
    STORE_USE_SENT = 32,
    STORE_USE_TRASH = 64,
    STORE_USE_IMPORTANT = 128,
};

struct store_special {
    const char *name; /* UTF-8 */
    unsigned use;     /* enum store_use */
};

struct store_config {
    struct engine *engine; /* borrowed */
    const char *host;      /* for file names; '/' and ':' are escaped */
    /* Drawn by master at each start of the server: what was written under
     * another number may have been hurt by a power cut and is held against its
     * files when a mailbox is first opened.  0: this store draws its own. */
    uint64_t instance;
    /* When this kernel started, in seconds of wall-clock time: a file that came
     * after that was hurt by no power cut.  0: any may have been. */
    int64_t boot;
    enum store_fsync fsync;
    unsigned max_accounts; /* open at once; 0: 256 */
    size_t max_bytes;      /* memory of unused open accounts; 0: 64 MiB */
    int64_t gone_keep_s;   /* ids of expunged mail; 0: 8 days */
    unsigned max_links;    /* names of one file; 0: until EMLINK */
    /* What mailboxes are for by their names; NULL: Drafts, Junk, Trash, Sent,
     * "Sent Messages", Archive.  Borrowed. */
    const struct store_special *special;
    size_t n_special;
    /* Directories watched for strangers at once, two a mailbox; 0: half of
     * fs.inotify.max_user_watches, at most 65536. */
    unsigned max_watches;
    /* Facts worth a log line (a rebuild, a file that was moved aside); may be
     * NULL. */
    void (*note)(void *arg, const char *account, const char *text);
    void *note_arg;
};

struct store *store_new(const struct store_config *cfg);
/* Close all accounts (none may be pinned).  NULL is fine; *s = NULL. */
void store_free(struct store **s);
/* Before the end, when nothing more comes: what makes the next opening fast is
 * written, snapshots and marks of what is durable.  Some seconds at most, but
 * for a slow disk. */
MAY_WAIT void store_idle(struct store *s);
void store_dump(const struct store *s, struct buf *out);

/* ---- accounts ---- */

/*
 * Open `user`'s account: `location` is an expanded mail_location,
 * "maildir:PATH" or "maildir:PATH:INDEX=DIR" (absolute).  With `create`,
 * missing directories are made (0700) and the account gets its id.  Takes the
 * lease; ERR_TEMP when somebody else holds it.  Fails with ERR_TEMP, 4.3.0 or
 * 4.2.0, also for a location that cannot be understood.
 */
CHECKED int store_account_open(struct store *s, slice user, slice location,
                               bool create, struct store_account **out,
                               struct err *err);
/* Give the pin back; NULL is fine; *a = NULL. */
void store_account_unref(struct store_account **a);
const uint8_t *store_account_id(const struct store_account *a); /* 16 bytes */
slice store_account_user(const struct store_account *a);
/* Highest MODSEQ given out so far. */
uint64_t store_account_modseq(const struct store_account *a);

/* Logical size: each message counts whole, hard links or not. */
struct store_usage {
    uint64_t bytes; /* stored bytes */
    uint64_t messages;
};

void store_account_usage(const struct store_account *a,
                         struct store_usage *out);
/* st_dev of the account's Maildir: what BROKER_SYNC names. */
uint64_t store_account_fs(const struct store_account *a);
/* A borrowed descriptor on it. */
int store_account_fd(const struct store_account *a);

struct store_fs {
    uint64_t fs; /* st_dev */
    int dirfd;   /* borrowed */
};

/* The file systems that what was done in the account lies on: that of the
 * Maildir, and that of INDEX= when it is another one.  How many. */
size_t store_account_places(const struct store_account *a,
                            struct store_fs out[static 2]);

/* Names of all mailboxes in UTF-8 with '.' between levels, INBOX first.  fn
 * returns false to stop. */
CHECKED int store_mailbox_list(struct store_account *a,
                               bool (*fn)(void *arg, slice name), void *arg,
                               struct err *err);

/* ---- folders ----
 *
 * Names are UTF-8 with '.' between levels.  In all of these an err that is
 * ERR_PERM tells by err->sys why: EEXIST there is such a mailbox, ENOENT there
 * is none, EINVAL the name cannot be used, ENOTEMPTY it has children, EPERM not
 * with INBOX.  What is done to a folder is noticed at once by those who have
 * it open: after a rename they go on under its new name; after a deletion
 * store_mailbox_is_gone() is true, and whatever writes fails with ENOENT.
 */
struct store_folder {
    slice name;        /* UTF-8 */
    bool exists;       /* can be selected; else only a level above others, or
                        * subscribed to and gone */
    bool has_children; /* that exist */
    bool subscribed;
    unsigned use; /* enum store_use */
};

/* All folders sorted by name, INBOX first, levels above existing ones and
 * subscribed names included.  fn returns false to stop. */
CHECKED int store_folders(struct store_account *a,
                          bool (*fn)(void *arg, const struct store_folder *f),
                          void *arg, struct err *err);
/* Is the name usable?  False with ERR_PERM, EINVAL. */
bool store_folder_name_ok(slice name, struct err *err);
/* Make it, `use` is what CREATE ... (USE) asked for, or 0. */
CHECKED int store_folder_create(struct store_account *a, slice name,
                                unsigned use, struct err *err);
/* Remove it with its mail; its children stay. */
MAY_WAIT CHECKED int store_folder_delete(struct store_account *a, slice name,
                                         struct err *err);
/* With its children, subscriptions aside; MAILBOXID, UIDVALIDITY and UIDs stay.
 * Renaming INBOX moves its messages into the new folder (RFC 9051 6.3.6). */
MAY_WAIT CHECKED int store_folder_rename(struct store_account *a, slice from,
                                         slice to, struct err *err);
/* Subscribing needs no mailbox of the name.  Durable on return. */
CHECKED int store_subscribe(struct store_account *a, slice name, bool on,
                            struct err *err);

/* ---- mailboxes ---- */

enum { STORE_CREATE = 1 };

/* Open a mailbox by name ("INBOX" in any case, "Work.Hato"); one that does not
 * exist, or a name that cannot be used, is ERR_PERM 5.2.0.  Pins the account as
 * well.  Rebuilds a damaged index. */
CHECKED int store_mailbox_open(struct store_account *a, slice name,
                               unsigned flags, struct store_mailbox **out,
                               struct err *err);
void store_mailbox_unref(struct store_mailbox **m);

struct store_status {
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t highestmodseq;
    uint64_t messages;
    uint64_t unseen;
    uint64_t deleted;
    uint64_t bytes;   /* with CRLF */
    uint8_t guid[16]; /* MAILBOXID; stays when renamed */
};

void store_mailbox_status(const struct store_mailbox *m,
                          struct store_status *out);
/* Its name as it is by now (UTF-8); valid until the next wait. */
slice store_mailbox_name(const struct store_mailbox *m);
struct store_account *store_mailbox_account(const struct store_mailbox *m);
/* It was deleted while it was open. */
bool store_mailbox_is_gone(const struct store_mailbox *m);
/* RFC 3501's \Recent: the first UID that no session has claimed before; with
 * `claim` all that are there are claimed from now on. */
uint32_t store_mailbox_recent(struct store_mailbox *m, bool claim);

/* Look for what others did in the Maildir: new, renamed and removed files.
 * Reads directories only when they changed since: told by inotify, once a first
 * call has set it up, else by modification times, with the clock tick held
 * against them.  While somebody watches the mailbox (store_watch_add()) this is
 * done without being asked, within half a second of what a stranger does, or
 * every 30 s where the system has no inotify watches left. */
CHECKED int store_mailbox_sync(struct store_mailbox *m, bool force,
                               struct err *err);
/* Carry flags into file names and unlink expunged files: at most `max_ops` of
 * them.  Returns how many are left.  Where there is a loop the store does it by
 * itself, a second after a change. */
size_t store_mailbox_tidy(struct store_mailbox *m, size_t max_ops);
/* Make the numbers up to `n_uids` messages ahead safe to show: after this a
 * client may see UIDs and MODSEQs of later deliveries at once.  Durable on
 * return.  Does nothing, and does not wait, while half of what was reserved
 * before is left: a session calls it at SELECT and before it tells of new
 * messages, with 1,000 or so. */
MAY_WAIT CHECKED int store_mailbox_reserve(struct store_mailbox *m,
                                           uint32_t n_uids, struct err *err);
/* Wait until all that the index holds is durable. */
MAY_WAIT CHECKED int store_mailbox_durable(struct store_mailbox *m,
                                           struct err *err);
/* Write the snapshot now. */
MAY_WAIT CHECKED int store_mailbox_compact(struct store_mailbox *m,
                                           struct err *err);
/* Look for strangers' doings, then hold size and, where known, CRC of every
 * file against the index, and tell what does not fit. */
MAY_WAIT CHECKED int store_mailbox_check(struct store_mailbox *m,
                                         void (*fn)(void *arg, uint32_t uid,
                                                    const char *what),
                                         void *arg, struct err *err);
/* Throw the index away and make it anew from the files; UIDs that the old
 * index still tells are kept. */
CHECKED int store_mailbox_rebuild(struct store_mailbox *m, struct err *err);

/* Called on the loop's thread, at once, after each change of the mailbox (a
 * delivery, a sync, a session's own): outside any task perhaps, so it only
 * wakes somebody. */
struct store_watch {
    struct list link; /* zeroed is unset */
    void (*fn)(struct store_watch *w, struct store_mailbox *m);
};

void store_watch_add(struct store_mailbox *m, struct store_watch *w);
void store_watch_del(struct store_watch *w); /* fine when unset */

/* For sessions that wait in large numbers and pin nothing.  fn is called like a
 * watch's, after each change of any mailbox of this store. */
void store_on_change(struct store *s,
                     void (*fn)(void *arg, struct store_mailbox *m), void *arg);
/* The directory of the mailbox; false when it does not fit. */
bool store_mailbox_path(const struct store_mailbox *m, char *dst, size_t size);
/* A number that is another one when names in its new/ or cur/ have come or
 * gone; 0 when it cannot be read.  Needs no store: for a thread of offload().
 */
uint64_t store_peek(const char *path);
/* An inotify descriptor (not blocking) that becomes readable then; -1: none can
 * be had.  For a process that may not read the mail itself. */
int store_peek_watch(const char *path);

/* ---- rows ---- */

enum store_flag {
    STORE_SEEN = 1,
    STORE_ANSWERED = 2,
    STORE_FLAGGED = 4,
    STORE_DELETED = 8,
    STORE_DRAFT = 16,
    STORE_PASSED = 32, /* Maildir's P: $Forwarded */
};

#define STORE_FLAGS_ALL 63u

/* Cached strings of a message, in its index record. */
enum store_cached {
    STORE_ENVELOPE = 1, /* as mail_imap_envelope() */
    STORE_BODYSTRUCTURE = 2,
    STORE_PREVIEW = 3,
    STORE_DELIVERED_TO = 4,  /* where the file does not say it */
    STORE_X_ORIGINAL_TO = 5, /* likewise */
    STORE_POP3_UIDL = 6,     /* another server's, that is to be kept */
};

struct store_row {
    uint32_t uid;
    uint32_t flags;    /* enum store_flag */
    uint64_t keywords; /* bit i: store_keyword(i) */
    uint64_t modseq;
    uint64_t created_modseq;
    int64_t internaldate; /* seconds since 1970 */
    int64_t savedate;
    uint64_t size;      /* stored, LF */
    uint64_t crlf_size; /* RFC822.SIZE; 0: not known, store_fill() */
    uint32_t letters;   /* flags last seen in the file's name, a bit per
                         * letter: A..Z by their place among DFPRST, a..z */
    bool in_new;        /* lies in new/, else cur/ */
    bool has_uidl;      /* then STORE_POP3_UIDL stands in its strings */
    uint32_t crc;       /* CRC32C of the file, 0: not known */
    uint8_t emailid[16];
    uint8_t threadid[16]; /* zero: none */
    uint8_t delivery_id[16];
    uint32_t cache_version; /* MAIL_MIME_VERSION that filled the strings;
                             * 0: none */
    slice base_name;        /* without ":2,..."; valid until the next change */
};

/* Rows, holes included. */
size_t store_rows(const struct store_mailbox *m);
/* The row's number of a UID, or of the first above it; store_rows() at the
 * end. */
size_t store_row_at(const struct store_mailbox *m, uint32_t uid);
/* One column, fast; a hole's UID is 0. */
uint32_t store_row_uid(const struct store_mailbox *m, size_t row);
uint32_t store_row_flags(const struct store_mailbox *m, size_t row);
uint64_t store_row_keywords(const struct store_mailbox *m, size_t row);
int64_t store_row_internaldate(const struct store_mailbox *m, size_t row);
uint64_t store_row_modseq(const struct store_mailbox *m, size_t row);
uint64_t store_row_crlf_size(const struct store_mailbox *m, size_t row);
/* All of them; false for a hole. */
bool store_row_get(const struct store_mailbox *m, size_t row,
                   struct store_row *out);
/* Row of a delivery id, or store_rows(). */
size_t store_row_by_delivery_id(struct store_mailbox *m,
                                const uint8_t id[static 16]);

/* Keywords, at most 64 a mailbox.  The first 26 stand as letters a..z in the
 * files' names, with their names in dovecot-keywords, as Dovecot has them; the
 * others in the index only.  STORE_PASSED is to be shown as $Forwarded; a
 * taken-over mailbox may have a keyword of that name too: either shows it. */
size_t store_keywords(const struct store_mailbox *m); /* how many names */
/* Empty: a letter that nobody gave a name to. */
slice store_keyword(const struct store_mailbox *m, size_t i);
/* The keyword's bit number; made when absent.  ERR_PERM when there are 64. */
CHECKED int store_keyword_bit(struct store_mailbox *m, slice name,
                              unsigned *out, struct err *err);

/* The message's file, read-only; the caller closes.  Finds it again when a
 * stranger has renamed it. */
CHECKED int store_open_body(struct store_mailbox *m, uint32_t uid, int *fd_out,
                            struct err *err);
/* Append a cached string; true when it is there. */
bool store_cached(struct store_mailbox *m, size_t row, enum store_cached what,
                  struct buf *out);

/* The same without a copy and, most times, without a system call: a slice of
 * the mapped index, valid until the next wait or change of the mailbox.  Reads
 * rows of expunged mail as well. */
bool store_cached_view(struct store_mailbox *m, size_t row,
                       enum store_cached what, slice *out);

/* Fill the cached strings (and RFC822.SIZE, which is 0 until then) of a message
 * that somebody else put there, or that another parser's version read. */
CHECKED int store_fill(struct store_mailbox *m, uint32_t uid, struct err *err);

/* New flags of one message, absolute. */
struct store_change {
    uint32_t uid;
    uint32_t flags;
    uint64_t keywords;
};

/* One log write for all; UIDs that are gone are passed over.  Rows whose flags
 * change get a new MODSEQ, the same for all. */
CHECKED int store_set_flags(struct store_mailbox *m,
                            const struct store_change *c, size_t n,
                            uint64_t *modseq_out, struct err *err);
CHECKED int store_expunge(struct store_mailbox *m, const uint32_t *uids,
                          size_t n, uint64_t *modseq_out, struct err *err);

/* ---- copies ---- */

struct store_copied {
    uint32_t from; /* UIDs */
    uint32_t to;
};

enum { STORE_MOVE = 1 };

struct store_copy {
    struct store_mailbox *from;
    struct store_mailbox *to; /* of the same account; may be `from` */
    const uint32_t *uids;
    size_t n;
    unsigned flags;           /* STORE_MOVE */
    struct store_copied *out; /* room for n pairs */
    size_t n_out;             /* out: how many there are */
    uint8_t key[16];          /* of a move, until its end */
};

/*
 * COPY, or with STORE_MOVE MOVE: all or nothing.  Flags, keywords, INTERNALDATE
 * and EMAILID come along, SAVEDATE is now.  UIDs that are gone are passed over;
 * pairs stand in the order of uids[].  Files are linked, not copied, where the
 * file system can.  Not durable on return: wait by store_mailbox_durable(to)
 * before the client hears of it.
 *
 * With STORE_MOVE and success store_move_end() has to follow, when the copies
 * are durable: it expunges the originals, or with `expunge` false (something
 * failed, the client is gone) the copies.  After a crash in between, whoever
 * opens `from` next finds the first done.
 */
MAY_WAIT CHECKED int store_copy(struct store_copy *c, struct err *err);
int store_move_end(struct store_copy *job, bool expunge, struct err *err);

/* ---- messages from a client: APPEND, MULTIAPPEND ----
 *
 *     store_upload_new -> (store_upload_begin -> write *) * -> commit
 *
 * Nothing is seen of them before the commit, which is all or nothing.  Bytes
 * come as the client sent them: CRLF becomes LF, all else stays.
 */
struct store_upload;

struct store_upload_message {
    uint32_t flags;       /* enum store_flag */
    uint64_t keywords;    /* of the target's, store_keyword_bit() */
    int64_t internaldate; /* seconds since 1970; INT64_MIN: now */
};

/* Pins the mailbox. */
struct store_upload *store_upload_new(struct store_mailbox *to);
/* The next message; the one before is whole. */
CHECKED int store_upload_begin(struct store_upload *u,
                               const struct store_upload_message *msg,
                               struct err *err);
CHECKED int store_upload_write(struct store_upload *u, slice bytes,
                               struct err *err);
/* How many messages were begun. */
size_t store_upload_count(const struct store_upload *u);
/* Put them into the mailbox; uids[] has room for each.  Not durable on return
 * unless mail_fsync = always: store_mailbox_durable().  Frees *u. */
MAY_WAIT CHECKED int store_upload_commit(struct store_upload **u,
                                         uint32_t *uids, struct err *err);
void store_upload_free(struct store_upload **u); /* aborts; NULL is fine */

/* ---- views: what one client was told ----
 *
 * A view numbers the rows that its client knows, 1 to store_view_messages().
 * Rows that came since are not in it, rows that were expunged since still are,
 * until store_view_sync() tells them: so numbers hold over waits and over what
 * other sessions do, and only a sync moves them.  It costs a few words: the
 * number of rows told, places in the mailbox's lists of changes and expunges,
 * and the rows that were expunged and not told yet.  A sync looks at what
 * changed since the last one and not at all rows.
 */
struct store_view {
    struct store_mailbox *mailbox; /* pinned; NULL: not open */
    struct list link;
    size_t rows;       /* rows below are in the view, or were told gone */
    uint32_t messages; /* as told */
    uint64_t own;      /* set by the session after a STORE .SILENT, to the
                        * MODSEQ it was given: such rows are not told */
    uint64_t changes;  /* place in the list of changes */
    uint64_t modseq;   /* what was told last, should that list be too short */
    uint64_t expunges; /* place in the list of expunges */
    bool is_old;       /* set by a session that put `rows`, `messages` and
                        * `modseq` back to what they were before the view was
                        * closed: the next sync looks at all rows */
    uint32_t *gone;    /* rows in it that are expunged, ascending */
    size_t n_gone, gone_size;
};

/* Open it with all that is there.  Pins the mailbox. */
void store_view_open(struct store_view *v, struct store_mailbox *m);
void store_view_close(struct store_view *v); /* fine when not open */
uint32_t store_view_messages(const struct store_view *v);
/* Row of a message sequence number, or store_rows(). */
size_t store_view_row(struct store_view *v, uint32_t seq);
/* Sequence number of a row; 0: not in the view. */
uint32_t store_view_seq(struct store_view *v, size_t row);
/* The first row at or behind `row` in the view, or store_rows().  A walk over
 * all with this and a counter is the fast way to numbers. */
size_t store_view_next(struct store_view *v, size_t row);
/* Row of a UID in the view, or store_rows(). */
size_t store_view_by_uid(struct store_view *v, uint32_t uid);
/* In the view, but expunged: its file may be gone. */
bool store_view_is_gone(const struct store_view *v, size_t row);
/* As store_row_get(), also for an expunged one. */
void store_view_get(const struct store_view *v, size_t row,
                    struct store_row *out);

enum {
    STORE_VIEW_EXPUNGED = 1,
    STORE_VIEW_NEW = 2,
    STORE_VIEW_FLAGS = 4,
};

/* What a sync would tell, cheap: enum of bits above.  STORE_VIEW_FLAGS may be
 * set although the sync finds nothing to tell. */
unsigned store_view_pending(struct store_view *v);

struct store_view_ops {
    /* From the highest to the lowest, each number as the client has to count
     * when it gets them in this order.  `uid` for VANISHED. */
    void (*expunged)(void *arg, uint32_t seq, uint32_t uid);
    /* How many there are by now; rows from first_row on are new. */
    void (*exists)(void *arg, uint32_t messages, size_t first_row);
    /* Flags of a row that the client knew before this sync, ascending. */
    void (*flags)(void *arg, size_t row, uint32_t seq);
};

/* Tell what `what` allows, and move the view to it. */
void store_view_sync(struct store_view *v, unsigned what,
                     const struct store_view_ops *ops, void *arg);

/*
 * UIDs that were expunged with a MODSEQ above `since`, for VANISHED (EARLIER):
 * read from the index log.  1: fn got them all, maybe some twice; 0: the log
 * does not reach back so far; -1: it cannot be read.
 */
CHECKED int store_expunged_since(struct store_mailbox *m, uint64_t since,
                                 void (*fn)(void *arg, uint32_t uid), void *arg,
                                 struct err *err);

/* ---- POP3 ---- */

/* What a UIDL is made of. */
struct store_uidl {
    uint32_t uid;
    uint32_t uidvalidity;
    slice base_name;
};

/* Is it a pop3_uidl_format: %u %v %f %g with Dovecot's modifiers, as
 * "%08Xu%08Xv" (Dovecot), "%f", "%g", "UID%u-%v" (Courier)? */
bool store_uidl_format_ok(slice format, struct err *err);
/* The unique id by that format; what may not stand in one (RFC 1939 7) becomes
 * '_'.  At most 70 bytes with %u and %v; names of files may be longer, as they
 * are with Dovecot and Courier.  Pure. */
void store_uidl_put(struct buf *out, slice format, const struct store_uidl *u);
/* The same for a row, or the one that was taken over with it. */
void store_uidl_of_row(struct store_mailbox *m, size_t row, slice format,
                       struct buf *out);

/* ---- delivery ---- */

/* One recipient of a delivery, and how it went. */
struct store_rcpt {
    slice user;
    slice location;     /* expanded mail_location */
    slice mailbox;      /* empty: INBOX */
    slice delivered_to; /* external form; empty: none */
    slice orig_to;      /* X-Original-To; empty: none */
    uint8_t id[16];     /* delivery id */
    uint32_t flags;     /* enum store_flag: put into cur/ with them */
    bool has_id;        /* false: one is drawn */

    /* Filled by store_deliver(). */
    bool failed;    /* then err tells why: ERR_TEMP or ERR_PERM */
    bool duplicate; /* the id was known: delivered before */
    bool durable;   /* else only visible: sync fs */
    uint32_t uid;
    uint64_t fs; /* st_dev */
    struct err err;
    char file[256]; /* base name */
};

struct store_message {
    slice return_path;    /* external form without <>; empty: <> */
    int64_t arrival_usec; /* for the name and INTERNALDATE; 0: now */
    uint64_t size_hint;   /* bytes to come; 0: unknown */
};

/*
 * Begin a delivery to `n` recipients, all of this worker's uid.  The draft
 * keeps `rcpts` (borrowed until store_deliver() or store_draft_free()) and
 * opens the accounts when it needs them.  Bytes are kept in memory up to
 * 256 KiB, and beyond that written into tmp/ of the first account that opens.
 * `msg` is copied, its slices are borrowed until the first write.
 */
struct store_draft *store_draft_new(struct store *s,
                                    const struct store_message *msg,
                                    struct store_rcpt *rcpts, size_t n);
/* Add bytes of the message, LF line ends, as they will lie in the file. */
CHECKED int store_draft_write(struct store_draft *d, slice bytes,
                              struct err *err);
uint64_t store_draft_size(const struct store_draft *d);
void store_draft_free(struct store_draft **d); /* aborts; NULL is fine */

/*
 * Deliver: each recipient's outcome stands in its rcpts[i].  Written once, hard
 * links for the others; another file system or a full link count starts a new
 * file.  Frees *d.  Yields between recipients when there are many.
 */
MAY_WAIT void store_deliver(struct store_draft **d);

/* ---- destinations without index ---- */

enum {
    STORE_LOCK_FCNTL = 1,
    STORE_LOCK_FLOCK = 2,
    STORE_LOCK_DOTLOCK = 4,
};

struct store_append {
    const char *path;    /* mbox file, or a Maildir with '/' at its end */
    slice return_path;   /* external form without <>; empty: <> */
    slice envelope_from; /* for mbox's "From " line; empty: MAILER-DAEMON */
    slice orig_to;       /* X-Original-To; empty: none */
    slice delivered_to;  /* empty: none */
    slice body;          /* the whole message, LF; or body_fd */
    int body_fd;         /* used when body.p is NULL: pread from body_at */
    uint64_t body_at, body_bytes;
    uint8_t id[16]; /* of a Maildir name */
    const char *host;
    unsigned locks;      /* mailbox_delivery_lock */
    unsigned lock_tries; /* deliver_lock_attempts */
    msec lock_delay;     /* deliver_lock_delay */
    msec stale_lock;     /* stale_lock_time */
    uint64_t max_bytes;  /* mailbox_size_limit; 0: none */
    bool fsync;          /* durable on return */
    uint64_t fs;         /* out: st_dev */
    char file[192];      /* out: a Maildir file's base name */
};

/*
 * Append to an mbox file (locks, "From " line, ">From " quoting, a blank line
 * behind it; cut back to its old size on failure), or deliver into a Maildir
 * without an index.  At least once: a crash between here and the queue's
 * journal repeats it.  A full mailbox_size_limit and what is no file are
 * ERR_PERM, a lock that is not free in time and all other trouble ERR_TEMP.
 */
MAY_WAIT CHECKED int store_append(struct store_append *a, struct err *err);

#endif
