#ifndef MAIL_PRIV_H
#define MAIL_PRIV_H

/*
 * Inside the room: a lexer for the grammar of RFC 5322 3.2 with its obsolete
 * forms, shared by address lists and structured header values.
 *
 * Each lex function that takes a word appends it to a buffer, then passes over
 * the white space and comments behind it.  The result tells where that left
 * the reader, so that callers can follow Dovecot's choices for broken mail.
 */

#include "base/base.h"

enum lex_result {
    LEX_BAD = -1, /* not this token; the position is unspecified */
    LEX_END = 0,  /* fine, and the input is used up */
    LEX_MORE = 1, /* fine, and something follows */
};

struct lex {
    const char *p;
    const char *end;
    struct buf *comment; /* the text of the last comment, or NULL */
};

#define LEX_COMMENT_DEPTH 1000

void lex_init(struct lex *l, slice s, struct buf *comment);

static inline bool lex_at_end(const struct lex *l)
{
    return l->p >= l->end;
}

/* Is the next byte c? */
static inline bool lex_is(const struct lex *l, char c)
{
    return l->p < l->end && *l->p == c;
}

bool lex_is_atext(char c);  /* RFC 5322 atext, and bytes above 127 */
bool lex_is_mtoken(char c); /* RFC 2045 token, and bytes above 127 */

enum lex_result lex_skip(struct lex *l); /* white space and comments */
enum lex_result lex_quoted(struct lex *l, struct buf *out); /* at the '"' */
enum lex_result lex_atom(struct lex *l, struct buf *out);   /* may be empty */
/* atext *( [CFWS] "." [CFWS] atext ), and no other dots: a domain. */
enum lex_result lex_dot_atom(struct lex *l, struct buf *out);
/* Dots first, last (before '@' or the end) and doubled as well, but no white
 * space behind them: a local part. */
enum lex_result lex_loose_dots(struct lex *l, struct buf *out);
/* Words and dots, joined by one space where white space stood. */
enum lex_result lex_phrase(struct lex *l, struct buf *out);
enum lex_result lex_mtoken(struct lex *l, struct buf *out); /* may be empty */
enum lex_result lex_domain(struct lex *l, struct buf *out); /* at the '@' */

/* Slice of the buffer's content in the arena; p NULL when it is full. */
slice priv_dup(struct arena *a, const struct buf *b);

/* Hexadecimal digit's value, or -1. */
int priv_hex(char c);

#endif
