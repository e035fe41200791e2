#ifndef IMAP_PRIV_H
#define IMAP_PRIV_H

/*
 * Inside the IMAP server.
 *
 *   server.c    sessions: start, end, drop, kick
 *   session.c   one session: its task, quiet times, IDLE's waiting
 *   input.c     lines and literals, counted and bounded
 *   output.c    responses: numbers, strings, tagged answers
 *   command.c   the table of commands; how one is run
 *   lanes.c     commands side by side, while one takes long
 *   parse.c     atoms, strings, mailbox names, dates        pure
 *   set.c       sequence sets                               pure
 *   sync.c      news of the selected mailbox
 *   walk.c      the messages that a command names
 *   select.c basic.c fetch*.c flags.c expunge.c ...: a group of commands each
 *
 * Adding a group of commands: a file of its own with functions
 * `static MAY_WAIT void cmd_x(struct imap_cmd *c)` and a table
 * `const struct imap_command imap_x_commands[]` that ends with an empty entry,
 * declared below, and a line in the list in command.c.  When cmd_x() runs,
 * c->in stands behind the name of the command (its first argument follows a
 * space: imap_sp()), all literals have been read.  It parses (imap_atom() and
 * so on: false means BAD), does the deed, writes untagged responses
 * (imap_say*(), and imap_room() now and then), and sets the answer once:
 * imap_ok(), imap_no(), imap_bad(), imap_fail().  The news of the mailbox and
 * the tagged answer are sent behind it by command.c.  c->arena ends with the
 * command.
 *
 * Rules: imap_room(), imap_sync(), imap_durable() and what reads input wait;
 * after them the mailbox may have changed, the view has not.
 */
#include "base/base.h"
#include "base/clock.h"
#include "base/map.h"
#include "imap/imap.h"
#include "ipc/event.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "store/store.h"

enum {
    IMAP_LINE_MAX = 65536,      /* imap_max_line_length's default */
    IMAP_LITERAL_MAX = 65536,   /* an argument's; APPEND's are streamed */
    IMAP_COMMAND_MAX = 262144,  /* line and literals together */
    IMAP_ARENA_MAX = 16 << 20,  /* memory of one command */
    IMAP_OUT_FLUSH = 32 << 10,  /* so much is sent at once */
    IMAP_OUT_MAX = 32 << 20,    /* no single item is longer */
    IMAP_BAD_MAX = 20,          /* bad commands in a row */
    IMAP_RESERVE = 1000,        /* store_mailbox_reserve() */
    IMAP_IDLE_OUT_MS = 1800000, /* without a command, RFC 3501 5.4 */
    IMAP_PACK_ABOVE = 256,
    IMAP_QUIET_MS = 60000, /* then a session is parked */
    IMAP_QUIET_IDLE_MS = 1000,
    IMAP_LANES_MAX = 4,     /* commands in flight */
    IMAP_STALL_MS = 300000, /* a client that neither reads nor writes */
};

struct imap_packed;

struct imap_server {
    struct imap_parts parts;
    struct list sessions;
    size_t n_sessions;
    struct map by_handle;
    struct map groups; /* of packed sessions: park.h */
    struct list round;
    struct timer round_timer;
    bool is_looking;
    size_t pack_above; /* so many sessions do not pack */
    msec quiet_ms, quiet_idle_ms;
    msec idle_notify_ms;
    size_t line_max;
    bool no_sync;  /* mail_fsync = never */
    bool is_eager; /* tests: every command takes long */
};

/* The last piece of a message that was sent: who fetches a large one in pieces
 * goes on from there. */
struct imap_memo {
    uint32_t uid;
    int kind;
    char part[24];
    uint64_t at, stored, crlf; /* the section */
    uint64_t pos_crlf, pos;    /* a place in it: with CRLF, in the file */
    bool pos_cr;               /* a CR stands before it */
};

/* The selected mailbox. */
struct imap_selected {
    struct store_view view;
    struct store_watch watch;
    struct imap_session *session;
    uint64_t modseq_told; /* highest of all that was told */
    uint32_t recent_from; /* UIDs from here are \Recent */
    uint32_t n_keywords;  /* told in FLAGS */
    bool is_read_only;
    struct imap_memo memo;
    struct buf missing; /* uint32_t, ascending: sequence numbers that went while
                         * the session was packed, to be told next */
};

struct imap_lanes;
struct imap_cmd;

/* What a session has only while its task runs; and each command that runs
 * beside another (lanes.c). */
struct imap_work {
    struct buf line; /* the command: line, literals, line ... */
    struct buf out;  /* not written yet */
    struct task *task;
    struct imap_lanes *lanes; /* of the main one; mostly NULL */
    struct imap_cmd *cmd;     /* while one runs */
    unsigned claims;          /* of it; 0: nothing may run beside it */
    bool in_item;             /* the client has the beginning of an item */
    bool wants_turn;          /* to write; waits */
    bool is_side;
};

struct imap_session {
    uint32_t magic;
    struct list link;
    struct map_node node; /* in server->by_handle */
    struct imap_server *server;
    struct stream *stream; /* NULL: parked at login's */
    struct task *task;     /* while it runs */
    struct imap_work *work;
    struct imap_selected *selected;
    struct store_account *account; /* pinned; NULL: not now */
    struct buf early;              /* input that came with the start */
    char *idle_tag;                /* in IDLE */
    uint64_t n_read, n_written;    /* over the present socket */
    msec active_at;                /* last command */
    msec told_at;                  /* last bytes to the client */
    uint8_t handle[16];
    struct imap_packed *packed; /* instead of `selected` */
    struct timer timer;         /* of a parked one */
    msec asked_at;
    char *text; /* what the slices below point into */
    slice user, home, mail, session_id, remote, local;
    uint64_t n_in, n_out, n_fetched, n_expunged; /* for the log */
    unsigned n_bad;
    bool is_tls, is_relay;
    bool has_handle;
    bool is_closing; /* said BYE, or gone */
    bool is_broken;  /* nothing can be written */
    bool is_kicked;
    bool has_news;   /* the watch called */
    bool is_busy;    /* as told to the owner */
    bool is_packed;  /* account and mailbox are not pinned */
    bool is_quiet;   /* the quiet step was done */
    bool park_asked; /* of login: nothing may be written */
    bool is_spawned; /* a task that will run it is on its way */
    bool is_stale;   /* as is_spawned, for an event of a stream before */
    bool is_given;   /* to the broker: it does not end */
    bool condstore;  /* ENABLEd, or asked for by a MODSEQ */
    bool is_logout;
};

#define IMAP_SESSION_MAGIC MAGIC('I', 'M', 'A', 'P')

/* ---- parse.c: each takes from the front of c; false: not there, and c stays
 * where it was.  Slices point into the command or its arena. */

struct imap_cursor {
    slice rest;
    struct arena *arena;
};

bool imap_eat(struct imap_cursor *c, char ch);
bool imap_eat_word(struct imap_cursor *c, const char *word); /* any case */
bool imap_sp(struct imap_cursor *c); /* one space, or several */
bool imap_end(const struct imap_cursor *c);
bool imap_atom(struct imap_cursor *c, slice *out);    /* 1*ATOM-CHAR */
bool imap_string(struct imap_cursor *c, slice *out);  /* quoted or literal */
bool imap_astring(struct imap_cursor *c, slice *out); /* also an atom with ] */
bool imap_nstring(struct imap_cursor *c, slice *out, bool *is_nil);
bool imap_number(struct imap_cursor *c, uint64_t *out); /* up to 63 bits */
bool imap_nz_number32(struct imap_cursor *c, uint32_t *out);
/* A mailbox name as UTF-8: modified UTF-7 (or plain UTF-8) decoded.  INBOX in
 * any case comes as "INBOX".  Names stay as they are when they are no UTF-7. */
bool imap_mailbox(struct imap_cursor *c, slice *out);
/* The same with * and % (LIST). */
bool imap_list_mailbox(struct imap_cursor *c, slice *out);
/* A flag: \Seen and so on into *flags, a keyword's name into *keyword (else
 * empty).  \Recent gives neither, and false for other unknown \Names. */
bool imap_flag(struct imap_cursor *c, uint32_t *flags, slice *keyword);
/* "(" flags ")" or, with `bare`, flags without parentheses to the end.  Made
 * keywords' bits of `m` (NULL: such flags are passed over); those that there is
 * no room for are passed over.  -1: syntax (err->class ERR_NONE) or store. */
int imap_flag_list(struct imap_cursor *c, bool bare, struct store_mailbox *m,
                   uint32_t *flags, uint64_t *keywords, struct err *err);
/* date-time in quotes to seconds since 1970. */
bool imap_date_time(struct imap_cursor *c, int64_t *out);
/* date (1-Feb-1994, quoted or not): days since 1970. */
bool imap_date(struct imap_cursor *c, int64_t *days_out);
/* {n} or {n+} at the end of the text. */
bool imap_literal_mark(struct imap_cursor *c, uint64_t *n, bool *is_plus);
/* Is there one at the end of a line?  For readers. */
bool imap_line_literal(slice line, uint64_t *n, bool *is_plus);

bool imap_utf7_to_utf8(struct buf *out, slice in); /* false: it is none */
void imap_utf8_to_utf7(struct buf *out, slice in);

/* ---- set.c */

struct imap_range {
    uint32_t lo, hi; /* hi UINT32_MAX: to "*" or beyond */
};

/* Ascending, apart from each other. */
struct imap_set {
    struct imap_range *v;
    size_t n;
    size_t at; /* imap_set_has(): the last place */
};

/* sequence-set; "*" becomes `max` (0 when there is nothing: then sets with "*"
 * alone are empty).  At most as many members as fit a command. */
bool imap_set_parse(struct imap_cursor *c, uint32_t max, struct imap_set *out);
/* Quick when asked in ascending order. */
bool imap_set_has(struct imap_set *s, uint32_t n);
/* How many numbers it holds up to max. */
uint64_t imap_set_count(const struct imap_set *s, uint32_t max);

/* Numbers that come ascending, as "1:4,7"; zeroed is empty. */
struct imap_set_out {
    uint32_t lo, hi;
    bool any;
};

void imap_set_add(struct imap_set_out *o, struct buf *b, uint32_t n);
void imap_set_flush(struct imap_set_out *o, struct buf *b);

/* ---- commands */

struct imap_cmd;

enum {
    IMAP_AUTH = 1, /* states */
    IMAP_SELECTED = 2,
    IMAP_ANY = 3,
};

enum {
    IMAP_UID = 1,     /* UID x exists too: c->is_uid */
    IMAP_BY_SEQ = 2,  /* no EXPUNGE may be told at its end, unless UID */
    IMAP_STREAM = 4,  /* reads its literals itself: APPEND */
    IMAP_NO_SYNC = 8, /* no news at its end */
    /* What may run beside others, and what it claims then. */
    IMAP_BESIDE = 16,
    IMAP_READS_FLAGS = 32,
    IMAP_SETS_FLAGS = 64,
    IMAP_READS_BOXES = 128, /* which there are, what they count */
    IMAP_SETS_BOXES = 256,
    IMAP_FETCHES = 512, /* its arguments say what it claims */
    IMAP_CLAIMS = 16 | 32 | 64 | 128 | 256 | 512,
};

struct imap_command {
    const char *name;
    unsigned states;
    unsigned flags;
    MAY_WAIT void (*fn)(struct imap_cmd *c);
};

enum imap_answer { IMAP_NONE, IMAP_OK, IMAP_NO, IMAP_BAD };

struct imap_cmd {
    struct imap_session *s;
    const struct imap_command *def;
    struct arena *arena;
    slice tag, name;
    struct imap_cursor in;
    slice args; /* where `in` was at first */
    bool is_uid;
    enum imap_answer answer;
    bool no_sync;    /* set by the command: no news at its end */
    struct buf text; /* of the answer */
};

extern const struct imap_command imap_basic_commands[];
extern const struct imap_command imap_select_commands[];
extern const struct imap_command imap_expunge_commands[];
extern const struct imap_command imap_fetch_commands[];
extern const struct imap_command imap_store_commands[];
extern const struct imap_command imap_mailboxes_commands[];
extern const struct imap_command imap_list_commands[];
extern const struct imap_command imap_copy_commands[];
extern const struct imap_command imap_append_commands[];
extern const struct imap_command imap_search_commands[];

/* Run the command that lies in work->line. */
MAY_WAIT void imap_command_run(struct imap_session *s);
/* What the command of this line would claim; 0: it waits for its turn. */
unsigned imap_command_claims(const struct imap_session *s, slice line);

/* ---- lanes.c: commands side by side */

/* The lane of the running task; for what it writes, imap_out(). */
struct imap_work *imap_lane(const struct imap_session *s);

static inline struct imap_work *imap_work(const struct imap_session *s)
{
    return s->work->lanes == NULL ? s->work : imap_lane(s);
}

static inline struct buf *imap_out(const struct imap_session *s)
{
    return &imap_work(s)->out;
}

unsigned imap_claims(const struct imap_session *s,
                     const struct imap_command *def, slice args);
bool imap_claims_clash(unsigned a, unsigned b);
/* Is no other command in flight?  Else the view stays as it is. */
bool imap_is_alone(const struct imap_session *s);
/* The running command takes long: let others run beside it. */
MAY_WAIT void imap_side_by_side(struct imap_session *s);
/* The same, and others' turn, when it ran for 5 ms. */
MAY_WAIT void imap_pause(struct imap_session *s);
/* Wait for all that runs beside the main task, and for what comes to run
 * beside those. */
MAY_WAIT void imap_lanes_settle(struct imap_session *s);
/* The right to write to the stream.  False: cancelled. */
MAY_WAIT bool imap_turn_take(struct imap_session *s);
void imap_turn_give(struct imap_session *s);
bool imap_turn_is_ours(struct imap_session *s);

/* ---- the answer, once for each command: `code` without brackets, or NULL.
 * Texts as Dovecot's. */
void imap_ok(struct imap_cmd *c, const char *code, const char *text);
void imap_no(struct imap_cmd *c, const char *code, const char *text);
void imap_bad(struct imap_cmd *c, const char *text);
/* NO with what an err says; its log text is logged when it is our trouble. */
void imap_fail(struct imap_cmd *c, const struct err *err);
/* For longer ones: "OK [CODE " ..., put together by the caller. */
void imap_answer_begin(struct imap_cmd *c, enum imap_answer what);

/* ---- output.c: these collect and never wait */

void imap_say(struct imap_session *s, slice v);
void imap_says(struct imap_session *s, const char *v);
void imap_say_u64(struct imap_session *s, uint64_t n);
/* A string: quoted where it can be, else a literal. */
void imap_say_string(struct imap_session *s, slice v);
void imap_say_astring(struct imap_session *s, slice v);
/* A name in UTF-8, as modified UTF-7. */
void imap_say_mailbox(struct imap_session *s, slice utf8);
/* "(\Seen $Forwarded)" without parentheses. */
void imap_say_flags(struct imap_session *s, const struct store_mailbox *m,
                    uint32_t flags, uint64_t keywords, bool is_recent);
void imap_say_date_time(struct imap_session *s, int64_t unix_sec);
/* Decimal into b. */
void imap_u64(struct buf *b, uint64_t n);

/* Between pieces of a long response: sends what is there when it is much, lets
 * others run after 5 ms.  False: the client is gone, stop. */
MAY_WAIT bool imap_room(struct imap_session *s);
MAY_WAIT bool imap_flush(struct imap_session *s);

/* ---- input.c */

/* A whole command with its literals into work->line.  1; 0: end the session
 * (BYE was said where it could be); -1: what came was refused and answered,
 * read on. */
MAY_WAIT int imap_read_command(struct imap_session *s);
/* Is something there that may be a command? */
bool imap_has_line(struct imap_session *s);
bool imap_has_input(const struct imap_session *s);
/* Take what is there without waiting. */
bool imap_fill_now(struct imap_session *s);
/* For a reader beside a command: a whole line, not taken yet (1); none yet (0);
 * one that is too long (-1).  Wait for more; false: there will be none. */
int imap_input_line(const struct imap_session *s, slice *out);
MAY_WAIT bool imap_input_wait(struct imap_session *s);
void imap_input_consume(struct imap_session *s, size_t n);
/* A line without its line end; NULL slice: gone or too long (then closed). */
MAY_WAIT bool imap_read_line(struct imap_session *s, slice *out);

/* For IMAP_STREAM commands, when c->in stands before {n} or {n+} at the end of
 * the line.  Ask for it ("+ OK", unless is_plus), then read its n bytes in
 * pieces, then the rest of the line into c->in. */
MAY_WAIT bool imap_literal_ask(struct imap_cmd *c, bool is_plus);
/* At most `left` bytes that are there, at least one; valid until the next call.
 */
MAY_WAIT bool imap_literal_next(struct imap_cmd *c, uint64_t *left, slice *out);
/* All n bytes into the arena; n <= IMAP_LITERAL_MAX. */
MAY_WAIT bool imap_literal_whole(struct imap_cmd *c, uint64_t n, slice *out);
MAY_WAIT bool imap_line_rest(struct imap_cmd *c);

/* ---- sync.c */

/* Tell the news of the selected mailbox: everything, or all but EXPUNGE.
 * False: the mailbox is gone and BYE was said. */
MAY_WAIT bool imap_sync(struct imap_session *s, bool with_expunges);
/* Look for what others did in the Maildir first. */
MAY_WAIT void imap_look(struct imap_session *s);
/* Flag changes of others only, at once: before a command changes flags. */
void imap_sync_flags(struct imap_session *s);
/* "* n FETCH (FLAGS (...))" with UID and MODSEQ where they are due. */
void imap_tell_flags(struct imap_session *s, size_t row, uint32_t seq,
                     bool with_uid);
/* The same with MODSEQ alone. */
void imap_tell_modseq(struct imap_session *s, size_t row, uint32_t seq,
                      bool with_uid);
/* FLAGS and PERMANENTFLAGS anew when there are new keywords. */
void imap_tell_keywords(struct imap_session *s);
/* Wait until what was changed in the mailbox is durable (invariant 4). */
MAY_WAIT int imap_durable(struct imap_session *s, struct store_mailbox *m,
                          struct err *err);

/* ---- walk.c: the messages of a set */

/* " set" of a command's arguments, by UID or sequence number as c->is_uid says.
 * False: BAD was answered. */
bool imap_cmd_set(struct imap_cmd *c, struct imap_set *out);

struct imap_walk {
    struct store_view *view;
    struct imap_set *set;
    bool is_uid;
    bool in_range;
    size_t range;
    /* After imap_walk_next(): */
    size_t row;
    uint32_t seq, uid;
};

/* From the first on, those that are expunged but not told of included
 * (store_view_is_gone()).  May wait in between, but not tell news. */
void imap_walk_init(struct imap_walk *w, struct imap_session *s,
                    struct imap_set *set, bool is_uid);
bool imap_walk_next(struct imap_walk *w);
/* Also of an expunged row. */
uint32_t imap_row_uid(struct store_view *v, size_t row);

/* ---- flags.c */

/* Change flags of messages in the selected mailbox as one step, telling what
 * others changed before it; the new values are not told. */
int imap_change_flags(struct imap_session *s, const struct store_change *v,
                      size_t n, struct err *err);

/* ---- select.c, session.c, server.c */

/* The account, opened and pinned. */
int imap_account(struct imap_session *s, struct err *err);
/* Open a mailbox of it by its UTF-8 name, pinned. */
int imap_open(struct imap_session *s, slice name, struct store_mailbox **out,
              struct err *err);
void imap_unselect(struct imap_session *s);
MAY_WAIT int imap_select(struct imap_session *s, slice name, bool read_only,
                         struct err *err);
/* Expunge what is \Deleted (of these UIDs, or NULL: all), durably. */
MAY_WAIT int imap_expunge_deleted(struct imap_session *s, struct imap_set *uids,
                                  struct err *err);
/* Turn CONDSTORE on (RFC 7162 3.1). */
void imap_use_condstore(struct imap_session *s);

/* Over this stream instead of start->fd; it answers the sign-in. */
struct imap_session *imap_session_new(struct imap_server *server,
                                      const struct imap_start *start,
                                      struct stream *stream);
void imap_session_set_stream(struct imap_session *s, struct stream *stream);
void imap_session_free(struct imap_session *s);
/* Its first task: answers the sign-in with `tag`. */
void imap_session_begin(struct imap_session *s, slice tag);
/* Run it as the calling task until it waits again, or is over. */
MAY_WAIT void imap_session_run(struct imap_session *s, enum stream_why why);
/* Let it wait for input, news, or its next quiet step. */
void imap_session_park(struct imap_session *s);
/* End it soon, with "* BYE why". */
void imap_session_end(struct imap_session *s, slice why);
void imap_session_busy(struct imap_session *s, bool is_busy);
/* A line of the log, as Dovecot has it: "imap(user)<pid><session>: text". */
void imap_log(const struct imap_session *s, enum ev_level level,
              const char *fmt, ...) PRINTF(3, 4);
/* "* BYE ..." and no more commands. */
void imap_bye(struct imap_session *s, const char *why);

/* ---- park.c, pack.c */

/* Its mailbox changed: wake it when it may be told. */
void imap_session_news(struct imap_session *s);
/* A task that runs it soon, when it has no stream that could. */
void imap_session_spawn(struct imap_session *s);
/* It wrote and read nothing for a while: pack it, ask login to park it. */
MAY_WAIT void imap_quiet(struct imap_session *s);
msec imap_quiet_at(const struct imap_session *s);
/* Login has closed the socket. */
void imap_session_parked(struct imap_session *s);
/* What a parked one waits for. */
void imap_session_wait_parked(struct imap_session *s);
MAY_WAIT int imap_unpack(struct imap_session *s, struct err *err);
void imap_packed_free(struct imap_session *s);
/* EXPUNGE for selected->missing. */
void imap_tell_missing(struct imap_session *s);
/* Of a record. */
void imap_packed_put(const struct imap_session *s, struct buf *out);
int imap_packed_get(struct imap_session *s, slice record, struct err *err);
/* imap_wake() with a stream. */
bool imap_wake_stream(struct imap_server *server, const uint8_t *handle,
                      struct stream *stream);

extern const char imap_capability[];

#endif
