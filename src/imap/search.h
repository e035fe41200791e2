#ifndef IMAP_SEARCH_H
#define IMAP_SEARCH_H

/* Inside SEARCH: search_parse.c makes the tree of keys, search.c walks over the
 * messages and answers, search_text.c looks into their words. */
#include "imap/imap_priv.h"

enum {
    SEARCH_DEPTH_MAX = 50,      /* parentheses, NOT, OR in each other */
    SEARCH_KEYS_MAX = 10000,    /* of one command */
    SEARCH_TEXT_MAX = 1000,     /* bytes of a text that is looked for */
    SEARCH_READ_MAX = 16 << 20, /* of a message; what is behind is not seen */
};

/* In the order of what they cost. */
enum search_kind {
    SEARCH_ALL,
    SEARCH_FLAGS,   /* all bits of n are set */
    SEARCH_KEYWORD, /* bit n, SEARCH_NONE when there is no such keyword */
    SEARCH_RECENT,
    SEARCH_SEQ,
    SEARCH_UID,
    SEARCH_MODSEQ,
    SEARCH_DATE, /* INTERNALDATE's day in [from, to) */
    SEARCH_SAVEDATE,
    SEARCH_SECONDS, /* INTERNALDATE in [from, to) */
    SEARCH_EMAILID,
    SEARCH_THREADID,
    SEARCH_SIZE, /* in [from, to) */
    SEARCH_AND,
    SEARCH_OR,
    SEARCH_SENTDATE,
    SEARCH_ENVELOPE, /* text in one field of it */
    SEARCH_HEADER,   /* text in the fields called `name` */
    SEARCH_BODY,
    SEARCH_TEXT,
};

/* Fields of ENVELOPE by their place. */
enum search_field {
    ENV_DATE,
    ENV_SUBJECT,
    ENV_FROM,
    ENV_SENDER,
    ENV_REPLY_TO,
    ENV_TO,
    ENV_CC,
    ENV_BCC,
    ENV_IN_REPLY_TO,
    ENV_MESSAGE_ID,
    ENV_FIELDS,
};

#define SEARCH_NONE UINT64_MAX

struct search_key {
    struct search_key *next;  /* beside it */
    struct search_key *child; /* SEARCH_AND, SEARCH_OR */
    enum search_kind kind;
    bool is_not;
    enum search_field field;
    uint64_t n;
    int64_t from, to;
    slice name;
    slice text; /* UTF-8, folded */
    struct imap_set set;
};

enum {
    SEARCH_MIN = 1,
    SEARCH_MAX = 2,
    SEARCH_LIST = 4,
    SEARCH_COUNT = 8,
};

struct search {
    struct imap_cmd *c;
    struct search_key *keys;
    bool is_extended; /* RETURN: the answer is ESEARCH */
    unsigned what;    /* of it: SEARCH_MIN ... */
    bool uses_modseq;
    slice charset;
    size_t n_keys;
};

/* The arguments; false: answered. */
bool search_parse(struct search *q);

/* A message that is looked into; what it needed is kept until the next. */
struct search_message {
    struct imap_session *s;
    struct store_mailbox *m;
    size_t row;
    uint32_t uid;
    uint32_t seq;
    struct arena *arena; /* of one message */
    bool has_envelope, has_bytes, is_unreadable;
    slice envelope[ENV_FIELDS]; /* as it is cached; p NULL: NIL */
    struct buf bytes;           /* of the file, up to SEARCH_READ_MAX */
    struct buf text, folded;    /* for one part at a time */
};

MAY_WAIT bool search_text(struct search_message *m,
                          const struct search_key *key);
void search_message_done(struct search_message *m);
/* The walk is over: all memory back. */
void search_message_free(struct search_message *m);

/* Append UTF-8 so that two texts that differ in case or composition alone
 * become the same bytes (as i;unicode-casemap, RFC 5051, would have it). */
void search_fold(struct buf *out, slice in);

#endif
