#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

/*
 * Header fields.  The iterator works on a slice that starts at a message's or
 * part's first byte and may end anywhere; it takes LF and CRLF, and stops at
 * the empty line, or at a line that can be no header (the body then starts
 * there, as in Postfix).  mail_head finds the end of a header that arrives in
 * pieces.
 */

#include "base/base.h"

#define MAIL_HEADER_NAME_MAX 256 /* longer: the line is no header */

struct mail_field {
    slice name;    /* without blanks before the colon */
    slice value;   /* raw behind the colon and its blanks: folding kept, the
                    * last line end not */
    slice whole;   /* from the name to the last line end, included */
    size_t offset; /* of whole, from the start of the input */
};

enum mail_header_end {
    MAIL_HEADER_MORE,  /* not there yet */
    MAIL_HEADER_BLANK, /* the empty line was met and is passed */
    MAIL_HEADER_JUNK,  /* a line that is no header: the body starts with it */
    MAIL_HEADER_EOF,   /* the input ended inside the header */
};

struct mail_header_iter {
    slice in;
    size_t pos;
    enum mail_header_end end;
    bool keep_junk;
    slice from_line; /* an mbox "From " line at the start; empty otherwise */
};

/* With keep_junk, a line that is no header does not end the header (it is
 * yielded with an empty name), as Dovecot reads stored mail; without, as
 * Postfix's cleanup reads new mail.  A "From " or ">From " line in front is
 * told in from_line, and passed over without keep_junk. */
void mail_header_iter_init(struct mail_header_iter *it, slice in,
                           bool keep_junk);
bool mail_header_next(struct mail_header_iter *it, struct mail_field *out);
/* After the last field: where the body starts. */
size_t mail_header_body(const struct mail_header_iter *it);

/* First field `name` of the header at the front of `in` (nth counts from 0). */
bool mail_header_find(slice in, const char *name, size_t nth, slice *raw);
size_t mail_header_count(slice in, const char *name);
/* Does a Delivered-To field name this address (internal; compared without
 * regard to case, both sides unquoted)?  Loop check of local delivery. */
bool mail_header_delivered_to(slice in, slice address);
/* Received fields, for hopcount_limit. */
size_t mail_header_hops(slice in);

/* Unfold: each line end goes (the white space behind it stays), other CR and
 * LF become spaces. */
bool mail_header_unfold(struct buf *b, slice raw);
/* Is `name` a syntactically fine field name (RFC 5322 2.2)? */
bool mail_header_name_valid(slice name);
/* Write "Name: value" folded at white space towards 78 columns, LF ends. */
bool mail_header_put(struct buf *b, const char *name, slice value);

/* RFC 2047.  Decoding gives UTF-8, unknown charsets and bad words stay as they
 * are, 8-bit bytes outside words are taken as UTF-8 if valid and otherwise
 * replaced; folding is undone.  Encoding gives pure ASCII, words of at most 75
 * columns on lines folded with LF SP, starting at column `col`. */
bool mail_words_decode(struct buf *b, slice raw);
bool mail_words_encode(struct buf *b, slice utf8, size_t col);

/* Structured values: token [/ token] *( ; name = value ). */
struct mail_pair {
    slice name;  /* as written, with any RFC 2231 marks: filename*0* */
    slice value; /* unquoted */
};

#define MAIL_PAIRS_MAX 48 /* further parameters are dropped */

struct mail_value {
    slice type;    /* or the disposition; empty when malformed */
    slice subtype; /* empty when there is no '/' */
    struct mail_pair *pairs;
    size_t n_pairs;
    bool is_broken; /* something behind the type could not be read */
};

/* RFC 2045 5.1 Content-Type and RFC 2183 Content-Disposition, tolerant.  False
 * when nothing was found or the arena is full. */
bool mail_content_type_parse(struct arena *a, slice raw,
                             struct mail_value *out);
bool mail_disposition_parse(struct arena *a, slice raw, struct mail_value *out);
/* A parameter by name in UTF-8: RFC 2231 continuations and charsets, else RFC
 * 2047 words in the value (common though wrong).  False when absent. */
bool mail_value_param(struct arena *a, const struct mail_value *v,
                      const char *name, slice *out);

/*
 * Finding the end of a header that arrives in pieces.  Feed the stored form
 * (LF) or CRLF; `size` counts the header's bytes so far.
 */
struct mail_head {
    struct buf bytes; /* the header so far, with its blank line */
    bool done;
    bool truncated; /* max_bytes reached: the rest counts as body */
    size_t max;
    size_t line_start;
};

void mail_head_init(struct mail_head *h, size_t max_bytes);
void mail_head_done(struct mail_head *h);
/* Take from *in what belongs to the header, up to the blank line.  A header
 * without one is all the input; mail_header_iter finds where its body starts.
 */
void mail_head_feed(struct mail_head *h, slice *in);

#endif
