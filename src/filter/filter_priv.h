#ifndef FILTER_FILTER_PRIV_H
#define FILTER_FILTER_PRIV_H

/* What filter.c (life), scan.c (lines and MIME structure) and action.c (what a
 * table says) share. */
#include "filter/filter.h"
#include "mail/mail.h"

#define FILTER_LINE_MAX    (64u << 10) /* longer lines are checked in front */
#define FILTER_NESTING_MAX 100

enum filter_class {
    FILTER_HEADER, /* of the message itself */
    FILTER_MIME,   /* of a MIME part, and MIME fields of the message */
    FILTER_NESTED, /* of an attached message */
    FILTER_BODY,
    FILTER_N,
};

struct filter {
    struct table_list *lists[FILTER_N];
    size_t header_max;
    uint64_t body_max;
    size_t nesting_max;
    size_t boundary_max; /* mime_boundary_length_limit */
    bool is_mime_off;    /* disable_mime_input_processing */
    bool has_work;
    bool is_client; /* of mail that leaves */
};

struct filter_message {
    const struct filter *filter;
    const struct filter_context *context;
    struct arena *arena;
    struct arena *scratch; /* of one lookup */
    struct filter_result result;
    bool stopped; /* REJECT, DISCARD, PASS: the rest passes unchecked */
    enum filter_class state;
    struct buf line;   /* an incomplete line */
    bool in_long_line; /* its front was handled already */
    struct buf header; /* a logical header field that may go on */
    char *boundaries[FILTER_NESTING_MAX]; /* innermost last */
    size_t n_boundaries;
    /* Of the entity whose header is being read: */
    bool is_multipart;
    bool is_message;
    char *boundary;
    uint64_t body_seen; /* bytes of this part's body */
};

/* What to do with the checked text after all. */
enum filter_verdict { FILTER_KEEP, FILTER_DROP, FILTER_REPLACED };

/* Ask the table of `class` about `text` (no line end) and do what it says:
 * output goes to `out` but for FILTER_KEEP.  -1: the table failed. */
MAY_WAIT int filter_ask(struct filter_message *m, enum filter_class class,
                        slice text, enum filter_verdict *verdict,
                        struct buf *out, struct err *err);

#endif
