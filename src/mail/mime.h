#ifndef MAIL_MIME_H
#define MAIL_MIME_H

/*
 * The structure of a message: a push parser that takes the message in pieces,
 * as stored (LF) or with CRLF, and builds the tree of parts in the caller's
 * arena, holding no body bytes.  From the tree come the strings that the
 * store's index keeps: IMAP ENVELOPE, BODY, BODYSTRUCTURE, and the place of
 * the text for the preview.  The rules are those of Dovecot 2.3.
 *
 *     mail_mime_new -> mail_mime_feed * -> mail_mime_finish -> tree
 *
 * Invariants: (1) at most MAIL_MIME_DEPTH levels and MAIL_MIME_PARTS parts,
 * what is deeper or more is text of its parent; (2) the tree lives as long as
 * the arena; (3) a message whose headers do not fit the arena is still
 * measured: its strings then lack what did not fit, and `truncated` is set.
 */

#include "base/base.h"
#include "mail/header.h"

#define MAIL_MIME_DEPTH 100
#define MAIL_MIME_PARTS 10000
/* Bumped whenever ENVELOPE, BODYSTRUCTURE or preview of some message would
 * come out differently: cached columns carry it. */
#define MAIL_MIME_VERSION 1

struct mail_size {
    uint64_t stored; /* bytes as fed */
    uint64_t crlf;   /* bytes if every line ended with CRLF */
    uint64_t lines;  /* LFs */
};

/* The values of the fields of one name, in their order. */
struct mail_values {
    slice value; /* raw, folding kept */
    struct mail_values *next;
};

/* The header fields of ENVELOPE, raw values; p is NULL where absent.  Of the
 * single ones the last field counts, address fields add up (so that no reader
 * can be shown another From than a check saw). */
struct mail_envelope {
    slice date;
    slice subject;
    struct mail_values *from;
    struct mail_values *sender;
    struct mail_values *reply_to;
    struct mail_values *to;
    struct mail_values *cc;
    struct mail_values *bcc;
    slice in_reply_to;
    slice message_id;
};

struct mail_part {
    struct mail_part *parent;
    struct mail_part *child; /* first */
    struct mail_part *last;  /* last child */
    struct mail_part *next;  /* sibling */
    uint64_t offset;         /* of the part's header in the message */
    struct mail_size header; /* with the blank line */
    struct mail_size body;   /* without the line end before the boundary */
    unsigned depth;          /* 0 for the message itself */
    unsigned n_children;     /* direct ones */
    bool is_multipart;
    bool is_digest;  /* multipart/digest */
    bool is_message; /* message/rfc822, by its field or in a digest */
    bool is_text;
    bool is_mime; /* MIME-Version was there */
    bool has_nul;
    bool truncated; /* of the root: something did not fit (invariant 3) */
    /* Content fields of this part; p is NULL where absent or unusable. */
    bool has_type; /* a Content-Type field was there */
    struct mail_value type;
    bool has_disposition;
    struct mail_value disposition;
    slice id;
    slice description;
    slice encoding; /* the token, unfolded */
    slice md5;
    slice language; /* raw */
    slice location;
    struct mail_envelope *envelope; /* of the root and of message children */
};

struct mail_mime;

/* `a` holds the parser and the tree; give it a cap of a MiB or more (invariant
 * 3).  The parser needs no freeing beyond the arena. */
struct mail_mime *mail_mime_new(struct arena *a);
void mail_mime_feed(struct mail_mime *m, slice in);
/* End of the message.  Never NULL. */
const struct mail_part *mail_mime_finish(struct mail_mime *m);
/* All at once. */
const struct mail_part *mail_mime_parse(struct arena *a, slice message);

/* "1.2.3", "" for the message itself; NULL when there is no such part.  IMAP
 * numbering, RFC 9051 6.4.5: a message part's parts count through. */
const struct mail_part *mail_part_find(const struct mail_part *root,
                                       slice section);

/* Bytes of the whole message with CRLF (RFC822.SIZE). */
uint64_t mail_part_virtual_size(const struct mail_part *root);

/* The parenthesised strings without FETCH's item name: ENVELOPE with its outer
 * parentheses' content, as Dovecot caches them.  False when the buffer is
 * full or the arena for parsing addresses is. */
bool mail_imap_envelope(struct buf *b, const struct mail_part *root);
bool mail_imap_bodystructure(struct buf *b, const struct mail_part *root);
bool mail_imap_body(struct buf *b, const struct mail_part *root);

/* ---- text for people ---- */

#define MAIL_PREVIEW_CHARS 200
#define MAIL_PREVIEW_READ  ((size_t)64 * 1024) /* body bytes worth reading */

/* The part whose text the preview shows, or NULL: the first text part;
 * text/plain over text/html in multipart/alternative. */
const struct mail_part *mail_preview_part(const struct mail_part *root);
/* Its body's front (at most MAIL_PREVIEW_READ bytes are used), still encoded,
 * to at most 200 characters of UTF-8 on one line; quoted lines are left out
 * unless there is nothing else. */
bool mail_preview_text(struct buf *b, const struct mail_part *part, slice body);
/* Both, for a message in memory. */
bool mail_preview(struct buf *b, const struct mail_part *root, slice message);

/* Content-Transfer-Encoding to bytes; an unknown encoding passes through.
 * Tolerant (RFC 2045 6.7 and 6.8): what cannot be decoded is passed over. */
bool mail_decode_body(struct buf *b, slice encoding, slice in);
bool mail_decode_base64(struct buf *b, slice in);
bool mail_decode_qp(struct buf *b, slice in, bool is_header_q);

#endif
