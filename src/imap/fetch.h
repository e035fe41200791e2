#ifndef IMAP_FETCH_H
#define IMAP_FETCH_H

/* Inside FETCH: fetch_parse.c reads what is asked for, fetch.c walks over the
 * messages, fetch_body.c sends what lies in their files. */
#include "imap/imap_priv.h"

enum fetch_item {
    FETCH_UID = 1,
    FETCH_FLAGS = 2,
    FETCH_DATE = 4,
    FETCH_SIZE = 8,
    FETCH_ENVELOPE = 16,
    FETCH_BODY = 32,
    FETCH_STRUCTURE = 64,
    FETCH_MODSEQ = 128,
    FETCH_EMAILID = 256,
    FETCH_THREADID = 512,
    FETCH_SAVEDATE = 1024,
    FETCH_PREVIEW = 2048,
};

enum fetch_kind {
    FETCH_ALL, /* BODY[] or a part's body */
    FETCH_HEADER,
    FETCH_FIELDS,
    FETCH_FIELDS_NOT,
    FETCH_TEXT,
    FETCH_MIME,
};

enum {
    FETCH_SECTIONS_MAX = 100,
    FETCH_PIECE = 32768,        /* of a file, at a time */
    FETCH_HEADER_MAX = 4 << 20, /* of which fields are picked */
    FETCH_TREE_MAX = 8 << 20,
    FETCH_SEEN_CHUNK = 32, /* messages marked \Seen by one write */
};

struct fetch_section {
    struct fetch_section *next;
    slice label; /* "BODY[1.HEADER]<0>", as the client hears it */
    slice part;  /* "1.2" */
    enum fetch_kind kind;
    slice *fields;
    size_t n_fields;
    bool is_partial;
    uint64_t from, count;
};

struct fetch {
    struct imap_cmd *c;
    struct imap_session *s;
    unsigned items;
    struct fetch_section *sections;
    bool sets_seen;
    bool has_since;
    uint64_t since; /* CHANGEDSINCE */
    bool some_gone; /* a file that was asked for is not there any more */
    char *piece;    /* FETCH_PIECE bytes, once a file was opened */
};

/* The items, behind the set and a space.  False: BAD was answered. */
bool fetch_parse(struct fetch *f);

/* A message whose file is open. */
struct fetch_message {
    struct fetch *f;
    size_t row;
    uint32_t uid;
    int fd;
    uint64_t stored, crlf; /* sizes of the whole */
    struct arena *arena;   /* of the tree */
    const struct mail_part *root;
    bool has_header;

    struct imap_range64 {
        uint64_t at, stored, crlf;
    } header;
};

/* 1: open; 0: it is gone; -1: err. */
MAY_WAIT int fetch_open(struct fetch *f, size_t row, struct fetch_message *out,
                        struct err *err);
/* Parse it: m->root. */
MAY_WAIT bool fetch_tree(struct fetch_message *m);
void fetch_close(struct fetch_message *m); /* also of one that is not open */
/* "LABEL {n}..." for a section.  False: the session is over. */
MAY_WAIT bool fetch_send(struct fetch_message *m,
                         const struct fetch_section *sec);

/* structure.c: BODY out of a cached BODYSTRUCTURE.  False: it is damaged. */
bool imap_body_of_structure(struct buf *out, slice structure);

#endif
