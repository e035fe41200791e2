#ifndef STORE_PRIV_H
#define STORE_PRIV_H

/*
 * Inside the store: the objects behind the public header.
 *
 *   names.c     names of mailboxes and files, both ways        pure
 *   record.c    records of the index log                       pure
 *   idset.c     a set of 16-byte ids                            pure
 *   rows.c      a mailbox in memory: base columns and tail rows
 *   snapshot.c  the columns on disk
 *   log.c       replaying and appending the index log
 *   view.c      what one client was told
 *   rewrite.c   the log written anew; cached strings
 *   mailbox.c   opening, rows
 *   add.c       messages come into the index
 *   changes.c   messages come, change and go
 *   compact.c   durability, reservations, snapshots on disk
 *   recent.c    what nobody was told of, what is gone since
 *   arrive.c    several messages or none
 *   copy.c      COPY and MOVE
 *   upload.c    APPEND
 *   folders.c   folders come, go, and get other names
 *   list.c      which folders there are
 *   subs.c      subscriptions
 *   verify.c    the index held against the files
 *   tidy.c      the names of files follow the index
 *   watch.c     strangers, told by inotify
 *   keywords.c  names of keywords, dovecot-keywords
 *   takeover.c  what Dovecot or Courier left          parsers: pure
 *   peek.c      for sessions that wait without a mailbox
 *   scan.c      what others did in the Maildir; recovery; rebuild
 *   account.c   the account's log, ids, numbers, list of mailboxes
 *   store.c     open accounts and their places
 *   draft.c     a message on its way in
 *   deliver.c   the draft to its recipients
 *   append.c    mbox files and Maildirs without index
 */

#include "base/base.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/digest.h"
#include "base/map.h"
#include "engine/engine.h"
#include "rt/rt.h"
#include "store/store.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "columns are mapped as they lie on disk");

#define ID_BYTES        16
#define FILE_NAME_MAX   255 /* a file name of Linux */
#define MAILBOX_DIR_MAX 220 /* ".Name.Sub" in modified UTF-7 */
#define PATH_IN_DIR_MAX ENGINE_NAME_MAX
#define INDEX_PATH_MAX  256 /* of an index file in its directory */
#define N_KEYWORDS      64
#define GONE_MAX        1000000 /* ids of expunged mail in memory */

#define ACCOUNT_LOG "hato.account"
#define LEASE_NAME  "hato.lease"
#define INDEX_LOG   "hato.index.log"
#define INDEX_NEW   "hato.index.log.new"
#define SNAPSHOT    "hato.index"

/* A piece of an append: writev() does not write to it. */
static inline struct iovec piece_of(const void *p, size_t n)
{
    union {
        const void *in;
        void *out;
    } u = { .in = p };

    return (struct iovec){ u.out, n };
}

/* ---- names.c ---- */

/* A file's name in new/ or cur/, taken apart. */
struct file_name {
    slice base;
    uint32_t letters;
    bool has_info; /* ":2," was there */
    bool odd;      /* cannot be put together again from base and letters */
    bool has_id;
    uint8_t id[ID_BYTES];
    bool has_crc;
    uint32_t crc;
    uint64_t size;      /* S=, 0 when absent */
    uint64_t crlf_size; /* W= */
    int64_t sec;        /* leading number, 0 when there is none */
};

bool file_name_parse(slice name, struct file_name *out);
/* Flags to letters and back; letters a..z are keywords 0..25. */
uint32_t letters_of(uint32_t flags, uint64_t keywords);
uint32_t flags_of_letters(uint32_t letters);
uint64_t keywords_of_letters(uint32_t letters);
/* ":2,DFPRST" for the letters, into at least 40 bytes. */
void info_put(char *dst, size_t size, uint32_t letters);

struct name_parts {
    int64_t usec;
    uint8_t id[ID_BYTES];
    uint32_t crc;
    uint64_t size;
    uint64_t crlf_size;
    const char *host;
    bool no_crc; /* not known */
};

void base_name_make(char *dst, size_t size, const struct name_parts *p);
/* A host name without what may not be in a file name. */
void host_clean(char *dst, size_t size, const char *host);

/* "INBOX" to "", "Work.Hato" to ".Work.Hato" in modified UTF-7. */
int mailbox_dir_of(slice name, char dst[static MAILBOX_DIR_MAX + 1],
                   struct err *err);
/* And back; false when it is no folder's directory. */
bool mailbox_name_of(slice dir, struct buf *out);
bool utf7_encode(struct buf *b, slice utf8);
bool utf7_decode(struct buf *b, slice utf7);

/* ---- idset.c ---- */

struct idset {
    struct idset_slot {
        uint8_t id[ID_BYTES];
        uint32_t value; /* 0: free */
    } * slots;

    size_t n_slots; /* power of two, or 0 */
    size_t n;
};

void idset_done(struct idset *s);
void idset_put(struct idset *s, const uint8_t *id, uint32_t value);
uint32_t idset_get(const struct idset *s, const uint8_t *id); /* 0: absent */
bool id_is_zero(const uint8_t *id);

/* ---- record.c ---- */

enum index_record {
    IR_HEADER = 1,
    IR_ADD = 2,
    IR_EXPUNGE = 3,
    IR_FLAGS = 4,
    IR_FILE = 5,
    IR_KEYWORD = 6,
    IR_RESERVE = 7,
    IR_CACHE = 8,
    IR_UNLINKED = 9,
    IR_SCAN = 10,
    IR_INSTANCE = 11,
    IR_DURABLE = 12,
    IR_DOOMED = 13,
    IR_RECENT = 14,
    IR_ADDS = 15,
    IR_RENAMED = 16,
    IR_MOVE = 17,
    IR_MOVED = 18,
    IR_LAST = IR_MOVED,
};

enum {
    ROW_IN_NEW = 1,
    ROW_HAS_INFO = 2,
    ROW_ODD_NAME = 4,
    ROW_FOREIGN = 8, /* found, not delivered by us */
    ROW_HOLE = 16,   /* expunged; never on disk */
    ROW_UIDL = 32,   /* its strings hold another server's UIDL */
    ROW_KEEP = ROW_FOREIGN | ROW_UIDL, /* whatever the name says */
};

/* What an index keeps of a message: the fixed part of IR_ADD. */
struct row {
    uint64_t keywords;
    uint64_t modseq;
    uint64_t created;
    int64_t idate;
    int64_t sdate;
    uint64_t size;
    uint64_t crlf_size;
    uint64_t cache_off; /* of the strings, in the log */
    uint8_t emailid[ID_BYTES];
    uint8_t threadid[ID_BYTES];
    uint8_t id[ID_BYTES];
    uint32_t uid;
    uint32_t flags;
    uint32_t letters;
    uint32_t state;
    uint32_t crc;
    uint32_t cache_len;
    uint32_t cache_version;
    uint32_t name_off; /* in the pool: snapshot's or tail's */
    uint32_t name_len;
    uint32_t spare;
};

#define ADD_FIXED 148u

struct add_record {
    struct row row; /* cache_off is relative to the payload */
    uint64_t instance;
    slice name;
    slice strings; /* attributes, tags of enum store_cached */
};

void add_encode(uint8_t out[static ADD_FIXED], const struct row *r,
                uint64_t instance, size_t name_len);
bool add_decode(slice payload, struct add_record *out);

struct header_record {
    uint8_t account[ID_BYTES];
    uint8_t guid[ID_BYTES];
    uint32_t uidvalidity;
    uint64_t instance;
    int64_t created;
    slice name;
};

bool header_encode(struct buf *b, const struct header_record *h);
bool header_decode(slice payload, struct header_record *out);

struct dir_stamp {
    int64_t sec;
    int64_t nsec;
};

struct flags_item {
    uint32_t uid;
    uint32_t flags;
    uint64_t keywords;
};

struct file_item {
    uint32_t uid;
    uint32_t letters;
    uint32_t state;
};

/* Fixed lists: the head's bytes, then items of `item` bytes.  The number of
 * items, or -1 when it does not come out even. */
ssize_t list_count(slice payload, size_t head, size_t item);

/* ---- a mailbox in memory ---- */

struct columns { /* of the snapshot; private memory, may be written */
    uint32_t *uid, *flags, *letters, *state, *crc;
    uint32_t *cache_len, *cache_version, *name_off, *name_len;
    uint64_t *keywords, *modseq, *created, *size, *crlf_size, *cache_off;
    int64_t *idate, *sdate;
    uint8_t (*emailid)[ID_BYTES], (*threadid)[ID_BYTES], (*id)[ID_BYTES];
    const uint32_t *idhash;
    size_t n_idhash; /* power of two, or 0 */
    slice names;
};

struct doomed {
    uint32_t uid;
    uint32_t letters;
    uint32_t state;
    char *name; /* base */
    /* The file is gone, but no sync told that it stays so: a power cut may
     * bring it back, and then it must be known that it has to go. */
    bool is_unlinked;
    bool is_missing; /* not where it should be */
    bool is_seen;    /* by the last scan */
};

/* Messages on their way to another mailbox; move.c. */
struct move {
    struct move *next;
    uint8_t key[ID_BYTES];
    uint8_t guid[ID_BYTES]; /* the target's */
    uint32_t uidvalidity;
    struct buf items; /* as in the record */
    bool is_old;      /* of another life of this mailbox */
};

/* We renamed its file, and no sync told that the name stays: after a power cut
 * the old letters may be back, and they are no stranger's doing. */
struct renamed {
    uint32_t uid;
    uint32_t from; /* letters */
};

/* What other programs do in new/ and cur/ (watch.c). */
struct stranger {
    struct engine_watch *dir[2]; /* new, cur */
    bool on;                     /* every change is told */
    bool lost;                   /* but not any more: list the directories */
    bool dir_gone;               /* one of them was replaced */
    bool is_syncing;             /* by a task of its own */
    struct buf names;            /* events: flags, length, name */
    msec synced;
    struct timer timer;
    uint32_t *table; /* row + 1 by base name, of files that others made */
    size_t n_table, n_in_table;
};

struct store_mailbox {
    uint32_t magic;
    unsigned pins;
    struct list link; /* in the account's list */
    struct store_account *account;
    char *name;                    /* UTF-8 */
    char dir[MAILBOX_DIR_MAX + 2]; /* "" or ".Name/": before new/x */
    char index_dir[MAILBOX_DIR_MAX + 2];
    bool is_inbox;
    bool loaded;
    bool compacting;
    bool must_scan;            /* a file may lie there without a record */
    bool damaged;              /* log had holes: rewrite it */
    bool is_gone;              /* deleted, but somebody still has it open */
    struct takeover *takeover; /* while it is read for the first time */
    unsigned arriving;         /* copies or uploads put files into place */

    uint8_t guid[ID_BYTES];
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint32_t reserved;   /* UIDs up to here may have been shown */
    uint32_t recent;     /* the first UID that no session was told of; 0: 1 */
    uint32_t shown_safe; /* the same, durable */
    uint64_t highestmodseq;
    uint64_t last_instance;
    struct dir_stamp new_stamp, cur_stamp;
    struct dir_stamp keywords_time; /* of dovecot-keywords when last read */

    void *map; /* the snapshot */
    size_t map_bytes;
    bool is_mapped; /* else on the heap */
    struct columns base;
    size_t base_n;
    struct row *tail;
    size_t tail_n, tail_size;
    struct buf names; /* of the tail */
    struct idset ids; /* of the tail; value row + 1 */
    char *keyword[N_KEYWORDS];
    size_t n_keywords;
    struct doomed *doomed;
    size_t n_doomed, doomed_size;
    struct renamed *renamed;
    size_t n_renamed, renamed_size;
    struct move *moves; /* without an end */

    uint64_t messages, unseen, deleted, bytes, crlf_bytes;
    size_t durable_rows; /* rows from the snapshot, or before a mark */

    uint8_t log_uuid[ID_BYTES];
    struct engine_log *log; /* NULL until the first append */
    int cache_fd;           /* for cached strings; -1 */
    void *cache_map;        /* the log, as far as it was mapped; read-only */
    size_t cache_map_bytes;
    uint64_t log_end;           /* valid records end here; 0: there is no log */
    uint64_t log_room;          /* the file is this long, with its reserve */
    uint8_t new_uuid[ID_BYTES]; /* of the log that index_log_create() made */
    uint64_t log_bytes_live;
    uint64_t snapshot_at; /* log offset of the last snapshot */
    size_t snapshot_rows;
    struct list watches;
    struct stranger stranger;
    struct timer tidy_timer;
    bool is_tidying, is_settling;

    /* For views: holes counted, rows in the order in which they were expunged
     * since the mailbox was opened, and the last rows whose flags changed. */
    uint32_t *fenwick;
    size_t n_fenwick, n_holes;
    uint32_t *expunged;
    size_t n_expunged, expunged_size;
    uint32_t *changed; /* a ring of VIEW_CHANGES */
    uint64_t changes_end;
};

#define MAILBOX_MAGIC MAGIC('M', 'B', 'O', 'X')

struct mailbox_entry { /* in the account's list */
    uint8_t guid[ID_BYTES];
    uint32_t uidvalidity;
    char *name;
    uint64_t bytes, messages; /* as last told; INBOX: not used */
    unsigned use;             /* enum store_use, as CREATE asked for */
};

struct store_account {
    uint32_t magic;
    unsigned pins;
    struct list lru;      /* in store->lru */
    struct map_node node; /* in store->accounts, by location */
    struct store *store;
    char *location;
    char *path; /* of the Maildir */
    char *user;
    msec checked;  /* when the path was last compared with `dir` */
    bool detached; /* its directory is gone: only those who pin it know it */
    struct engine_dir *dir;
    struct engine_dir *index_dir; /* == dir when not elsewhere */
    uint64_t index_dev;
    struct engine_lease *lease;
    struct engine_log *log; /* NULL until the first append */
    uint64_t log_end;
    uint64_t log_live;
    uint64_t dev;
    uint8_t id[ID_BYTES];
    uint64_t modseq;
    uint64_t floor;
    uint64_t modseq_safe; /* the floor, durable */
    uint32_t uidvalidity; /* last one given */
    struct mailbox_entry *list;
    size_t n_list, list_size;
    struct idset gone;

    struct gone_id {
        uint8_t id[ID_BYTES];
        int64_t when;
    } * gone_ids;

    size_t n_gone, gone_size;
    struct list mailboxes;
    struct store_mailbox *inbox;
    size_t bytes; /* as counted in the store */
    bool fresh;   /* made just now */
    bool is_damaged;
};

#define ACCOUNT_MAGIC MAGIC('A', 'C', 'C', 'T')

struct store {
    uint32_t magic;
    struct store_config cfg;
    char host[64];
    struct map accounts;
    struct list lru; /* all accounts, most recently used last */
    size_t n_accounts;
    size_t bytes; /* of all accounts, as of their last unpinning */
    void (*on_change)(void *arg, struct store_mailbox *m);
    void *on_change_arg;
    unsigned n_watches;  /* directories */
    msec no_watch_until; /* the system has none left */
};

#define STORE_MAGIC MAGIC('S', 'T', 'O', 'R')

/* An engine outcome that is no OK: the err is filled, give it context. */
int store_fail(enum engine_outcome o, struct err *err, const char *what,
               const char *name);
/* When the account's path leads elsewhere by now: forget it as soon as nobody
 * pins it; the next open starts anew.  True when so. */
bool store_account_detach_if_moved(struct store_account *a);
void store_note(const struct store_account *a, const char *fmt, ...)
    PRINTF(2, 3);

/* ---- rows.c: everything by row number, base and tail alike ---- */

#define ROW_FIELD(m, r, f)                                                     \
 (*((r) < (m)->base_n ? &(m)->base.f[r] : &(m)->tail[(r) - (m)->base_n].f))

static inline size_t rows_count(const struct store_mailbox *m)
{
    return m->base_n + m->tail_n;
}

static inline bool row_is_hole(const struct store_mailbox *m, size_t r)
{
    return (ROW_FIELD(m, r, state) & ROW_HOLE) != 0;
}

void rows_init(struct store_mailbox *m);
void rows_done(struct store_mailbox *m); /* forget everything */
size_t row_find(const struct store_mailbox *m, uint32_t uid); /* or count */
slice row_name(const struct store_mailbox *m, size_t r);
void row_load(const struct store_mailbox *m, size_t r, struct row *out);
/* Append a row; its uid must be above all others: false otherwise. */
bool row_add(struct store_mailbox *m, const struct row *r, slice name);
/* Make a hole; with `doom` its file is remembered for unlinking. */
void row_remove(struct store_mailbox *m, size_t r, bool doom);
void row_set_flags(struct store_mailbox *m, size_t r, uint32_t flags,
                   uint64_t keywords, uint64_t modseq);
size_t row_by_id(const struct store_mailbox *m, const uint8_t *id);
/* Path below the account's directory; false when it is too long. */
bool row_path(const struct store_mailbox *m, size_t r, char *dst, size_t size);
bool file_path(const struct store_mailbox *m, slice base, uint32_t letters,
               uint32_t state, char *dst, size_t size);
void doom_add(struct store_mailbox *m, const struct row *r, slice name);
void doom_del(struct store_mailbox *m, uint32_t uid);
void renamed_add(struct store_mailbox *m, uint32_t uid, uint32_t from);
void renamed_del(struct store_mailbox *m, uint32_t uid);
const struct renamed *renamed_find(const struct store_mailbox *m, uint32_t uid);
bool keyword_set(struct store_mailbox *m, size_t bit, slice name);
size_t mailbox_memory(const struct store_mailbox *m);

/* ---- view.c ---- */

enum { VIEW_CHANGES = 4096 };

/* A row became a hole, or got other flags. */
void view_note_hole(struct store_mailbox *m, size_t row);
void view_note_change(struct store_mailbox *m, size_t row);
void view_forget(struct store_mailbox *m);
size_t view_memory(const struct store_mailbox *m);

/* ---- snapshot.c ---- */

/* The whole snapshot's bytes; nothing waits. */
bool snapshot_encode(const struct store_mailbox *m, struct buf *out);
/* Take it over: true when it belongs to the log m->log_uuid (or any_log) and
 * is whole. */
bool snapshot_load(struct store_mailbox *m, int fd, bool any_log);
void snapshot_release(struct store_mailbox *m);

/* ---- log.c ---- */

int index_log_create(struct store_mailbox *m, const char *name,
                     struct engine_log **out, struct err *err);
/* Read snapshot and log; 1: fine, 0: there is none, -1: cannot be read now.
 * Damage is told by m->damaged. */
int index_load(struct store_mailbox *m, struct err *err);
/* Open the log for writing (m->log) if it is not. */
int index_log_ready(struct store_mailbox *m, struct err *err);
/* Append a record; refused when it would use the reserve. */
int index_append(struct store_mailbox *m, uint16_t type, const struct iovec *v,
                 int n, uint64_t *payload_at, struct err *err);
/* The same for what changes or frees: it may use the reserve. */
int index_append_buf(struct store_mailbox *m, uint16_t type, slice payload,
                     struct err *err);
/* Apply one record's payload to the mailbox; false when it is damaged. */
bool index_apply(struct store_mailbox *m, uint16_t type, slice payload,
                 uint64_t payload_at);
void index_close(struct store_mailbox *m);
/* A reader at the log's first record. */
int index_reader(struct store_mailbox *m, struct engine_reader **out,
                 struct err *err);
bool index_wants_compact(const struct store_mailbox *m);
/* Long enough behind the snapshot to be worth one before the end. */
bool index_is_long(const struct store_mailbox *m);
/* An index file's path in the index directory. */
void index_file(const struct store_mailbox *m, const char *name, char *dst,
                size_t size);
/* What a row's IR_ADD takes. */
uint64_t row_log_bytes(const struct row *r);

/* ---- rewrite.c ---- */

/* The cached strings' attributes of a row, in the mapped log. */
bool index_strings_view(struct store_mailbox *m, size_t r, slice *out);
void cache_unmap(struct store_mailbox *m);
/* Append them to a buffer. */
bool index_strings(struct store_mailbox *m, size_t r, struct buf *out);
/* More of the log is dead than alive, or it is damaged. */
bool index_wants_rewrite(const struct store_mailbox *m);
/* Write a new log that holds what is, and put it in the place of the old. */
int index_rewrite(struct store_mailbox *m, struct err *err);

/* ---- mailbox.c, add.c ---- */

int mailbox_add(struct store_mailbox *m, struct row *r, slice name,
                slice strings, struct err *err);

/* Many in few records: they are in the mailbox once they are flushed.  Their
 * UIDs are known before, in the order of the puts: row->uid, or the next one
 * above. */
struct add_batch {
    struct store_mailbox *m;
    struct buf bytes;
    struct idset ids; /* of those that are not flushed */
    uint32_t next_uid;
};

void add_batch_init(struct add_batch *b, struct store_mailbox *m);
int add_batch_put(struct add_batch *b, struct row *r, slice name, slice strings,
                  struct err *err);
bool add_batch_knows(const struct add_batch *b, const uint8_t *id);
int add_batch_flush(struct add_batch *b, struct err *err);
void add_batch_done(struct add_batch *b);
void mailbox_changed(struct store_mailbox *m);
/* cur, new and tmp, as far as they are missing. */
int mailbox_make_dirs(struct store_mailbox *m, struct err *err);
void mailbox_free(struct store_mailbox *m);
/* Loaded and recovered, unpinned. */
int mailbox_get(struct store_account *a, slice name, unsigned flags,
                struct store_mailbox **out, struct err *err);

/* It is not deleted: else ERR_PERM, ENOENT. */
int mailbox_check_there(const struct store_mailbox *m, struct err *err);
/* The open one whose directory this is ("": INBOX), or NULL. */
struct store_mailbox *mailbox_find_open(struct store_account *a,
                                        const char *dir);
/* Fill err as the folder operations of store.h do: -1. */
int mailbox_refuse(struct err *err, int sys, const char *text);
/* A task of its own writes the snapshot when it is due. */
void mailbox_compact_if_due(struct store_mailbox *m);
void mailbox_mark_durable(struct store_mailbox *m, size_t rows);

/* ---- arrive.c ---- */

struct arrival {
    struct row row;
    uint8_t id[ID_BYTES]; /* zero: one is drawn */
    char base[FILE_NAME_MAX + 1];
    slice strings;
    void *own;     /* where they are, when on the heap */
    bool in_tmp;   /* an upload's file, whole, not in place */
    bool placed;   /* the file is in place */
    bool recorded; /* and in the index */
};

/* No scan takes files without a record for a stranger's in between. */
void arrival_begin(struct store_mailbox *to);
void arrival_end(struct store_mailbox *to);
/* Draw an id, make the name and what follows from flags. */
void arrival_name(struct store_mailbox *to, struct arrival *a);
bool arrival_path(const struct store_mailbox *to, const struct arrival *a,
                  char *dst, size_t size);
/* Records of all, whose files are in place; on failure all is undone. */
int arrival_record(struct store_mailbox *to, struct arrival *list, size_t n,
                   struct err *err);
void arrival_undo(struct store_mailbox *to, struct arrival *list, size_t n);

/* ---- move.c ---- */

void moves_free(struct store_mailbox *m);
bool moves_apply(struct store_mailbox *m, slice payload);
bool moves_apply_end(struct store_mailbox *m, slice payload);
/* Payloads of IR_MOVE of all that have no end. */
int moves_each_record(const struct store_mailbox *m,
                      int (*put)(void *arg, slice payload, struct err *err),
                      void *arg, struct err *err);
/* ids[]: what the copies of job->uids[] will have.  Sets job->key. */
int move_begin(struct store_copy *job, const uint8_t (*ids)[ID_BYTES],
               struct err *err);
void move_end(struct store_mailbox *from, const uint8_t key[static ID_BYTES]);
/* A mailbox was read: end what a crash has left, in a task of its own. */
void moves_finish(struct store_mailbox *m);

/* ---- tidy.c ---- */

/* Flags or files wait for store_mailbox_tidy(): it is done soon, if there is a
 * loop. */
void tidy_later(struct store_mailbox *m);
/* Unlink all that is doomed, and forget it at once: for who needs the names. */
void tidy_unlink_all(struct store_mailbox *m);
/* Wait until what was renamed and unlinked stays so, and note that; false when
 * there was nothing, or when it cannot be. */
MAY_WAIT bool tidy_settle(struct store_mailbox *m);

/* ---- keywords.c ---- */

/* Names that another program gave to letters. */
void keywords_learn(struct store_mailbox *m);

/* ---- takeover.c ---- */

#define DOVECOT_KEYWORDS "dovecot-keywords"

/* What another server knew of a message. */
struct takeover_entry {
    slice base; /* in the takeover's texts, as is uidl */
    slice uidl;
    uint64_t crlf_size;
    uint64_t keywords;                /* beside those in the file's name */
    uint32_t uid;                     /* 0: not known */
    uint32_t pop3_uid, pop3_validity; /* Courier's */
    bool uidl_is_name;
};

struct takeover {
    struct buf text[4];
    uint32_t uidvalidity; /* 0: not known */
    uint32_t uidnext;
    bool has_guid;
    uint8_t guid[ID_BYTES];
    struct takeover_entry *list;
    size_t n, size;
    uint32_t *table; /* entry + 1 by base name */
    size_t n_table;
    char *keyword[N_KEYWORDS];
};

struct takeover *takeover_new(void);
void takeover_free(struct takeover **t);
/* All that lies in the mailbox's directory; NULL when nothing does. */
struct takeover *takeover_read(struct store_mailbox *m);
struct takeover_entry *takeover_find(const struct takeover *t, slice base);
bool takeover_uidl(const struct takeover_entry *e, struct buf *out);
uint32_t takeover_last_uidvalidity(struct store_account *a);
/* Parsers, pure; `text` has to outlive the takeover. */
bool takeover_uidlist(struct takeover *t, slice text);
void takeover_keywords(struct takeover *t, slice text);
void takeover_courier_keywords(struct takeover *t, slice text);
void takeover_courier_message(struct takeover *t, slice file, slice text);
void takeover_courier_sizes(struct takeover *t, slice text);
bool takeover_keyword_ok(slice name);

/* ---- peek.c ---- */

/* Tell whom store_on_change() named. */
void peek_changed(struct store_mailbox *m);

/* ---- scan.c ---- */

enum {
    SCAN_FORCE = 1,
    SCAN_RECOVER = 2, /* hold records past the durable mark against files */
};

int mailbox_scan(struct store_mailbox *m, unsigned flags, struct err *err);
/* Note the directories' times, if nothing happened in them that the index does
 * not know: then the next to open the mailbox need not list them. */
void mailbox_note_times(struct store_mailbox *m);

/* Take over some files without listing any directory. */
struct scan_names;
struct scan_names *scan_names_new(struct store_mailbox *m);
void scan_names_put(struct scan_names *n, slice name, bool in_new);
int scan_names_apply(struct scan_names **n, struct err *err); /* frees it */

/* ---- watch.c ---- */

unsigned watch_limit(void);
/* All that strangers did is known. */
bool watch_is_quiet(struct store_mailbox *m);
void watch_stop(struct store_mailbox *m);

/* The path of the file with this base name, wherever a stranger put it. */
bool find_by_base(struct store_mailbox *m, slice base, char *path, size_t size);
/* Remove it; false when it is there and cannot be removed. */
bool unlink_by_base(struct store_mailbox *m, slice base);

/* ---- draft.c ---- */

/* Attributes with the cached strings of a file; its size with CRLF.  False when
 * it cannot be read. */
bool file_strings(int fd, struct buf *out, uint64_t *crlf_size_out);
struct mail_part;
/* The same from a parsed tree; `from` holds the message, or fd does. */
bool tree_strings(const struct mail_part *root, slice from, int fd,
                  struct buf *out);
/* CRC32C of a whole file. */
bool file_crc(int fd, uint32_t *out);

/* ---- account.c ---- */

int account_load(struct store_account *a, bool create, struct err *err);
void account_close(struct store_account *a);
int account_make_dirs(struct store_account *a, struct err *err);
int account_next_modseq(struct store_account *a, struct store_mailbox *m,
                        uint64_t *out, struct err *err);
int account_next_uidvalidity(struct store_account *a, uint32_t *out,
                             struct err *err);
/* The entry of a mailbox, made (and logged) when absent and `guid` is given. */
struct mailbox_entry *account_mailbox(struct store_account *a, slice name);
bool account_has_guid(struct store_account *a, const uint8_t *guid);
/* Valid until the list of mailboxes changes. */
bool account_name_of(struct store_account *a, const uint8_t *guid, slice *name);
int account_add_mailbox(struct store_account *a, slice name,
                        const uint8_t *guid, uint32_t uidvalidity,
                        struct err *err);
int account_gone(struct store_account *a, const uint8_t (*ids)[ID_BYTES],
                 size_t n, struct err *err);
/* May the queue still hold what was delivered then? */
bool account_may_retry(const struct store_account *a, int64_t delivered);
bool account_knows_gone(const struct store_account *a, const uint8_t *id);
int account_raise_floor(struct store_account *a, uint64_t floor,
                        struct err *err);
void account_tell_usage(struct store_account *a);
int account_set_use(struct store_account *a, const uint8_t *guid, unsigned use,
                    struct err *err);
/* Forget a mailbox that is deleted. */
void account_drop_mailbox(struct store_account *a, const uint8_t *guid);

/* ---- folders.c, list.c, subs.c ---- */

#define FOLDER_TRASH "hato.gone." /* in tmp/: a deleted folder */

/* Remove one that a crash has left. */
void folder_remove_trash(int dirfd, const char *path);
bool folder_has_children(struct store_account *a, const char *dir);

struct subs {
    char **name; /* storage names, modified UTF-7 */
    size_t n, size;
    int version; /* of the file */
};

void subs_parse(struct subs *s, slice text);
void subs_parse_courier(struct subs *s, slice text);
void subs_print(const struct subs *s, struct buf *out);
int subs_load(struct store_account *a, struct subs *out, struct err *err);
bool subs_has(const struct subs *s, const char *raw);
void subs_done(struct subs *s);

struct store_draft {
    uint32_t magic;
    struct store *store;
    struct store_rcpt *rcpts;
    size_t n_rcpts;
    int64_t arrival_usec;
    struct arena *arena; /* the parser and its tree */
    struct mail_mime *mime;
    struct buf mem; /* bytes not written yet */
    uint64_t size;
    uint64_t crlf_size;
    uint32_t crc;
    struct engine_put *spill; /* once it is big */
    struct store_account *spill_account;
    char spill_tmp[FILE_NAME_MAX + 8];
    struct buf strings;
};

#define DRAFT_MAGIC MAGIC('D', 'R', 'F', 'T')

/* ---- renew.c */
/* A retry found its message in row `row`: write its file and the index again,
 * so that the next sync is about them.  A file that is hurt loses its entry
 * instead, and the message is to be delivered as if for the first time. */
int store_renew(struct store_mailbox *m, size_t row, struct err *err);

/* Write what is in memory behind what is in the file. */
int draft_flush(struct store_draft *d, struct err *err);

#endif
