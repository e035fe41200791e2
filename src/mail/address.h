#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

/*
 * Addresses: in SMTP commands, in header fields, in alias lists.  See mail.h
 * for the words *internal* and *external*.
 */

#include "base/base.h"

#define MAIL_LOCAL_MAX   64   /* RFC 5321 4.5.3.1.1, see MAIL_PATH_LOCAL_MAX */
#define MAIL_DOMAIN_MAX  255  /* RFC 5321 4.5.3.1.2 */
#define MAIL_ADDRESS_MAX 1000 /* what mail_path_parse() takes at all, bytes */

/* ---- SMTP commands ---- */

/* Flags of mail_path_parse(). */
enum {
    MAIL_PATH_NULL = 1,       /* <> is allowed (MAIL FROM) */
    MAIL_PATH_STRICT = 2,     /* strict_rfc821_envelopes: <> around the address,
                               * no comment, no space, no "@" at its start */
    MAIL_PATH_UTF8 = 4,       /* SMTPUTF8 was asked for: bytes above 127 must be
                               * UTF-8; without it they are refused */
    MAIL_PATH_8BIT = 8,       /* let bytes above 127 through unchecked
                               * (strict_smtputf8 = no, as Postfix does) */
    MAIL_PATH_LOCAL_MAX = 16, /* refuse local parts over 64 bytes; Postfix
                               * does not, and SRS and VERP need more */
};

struct mail_path {
    slice addr;   /* internal; empty for the null sender */
    slice local;  /* the part of addr before the last @ */
    slice domain; /* behind it, as written; empty when there is none */
    bool has_domain;
    bool is_literal; /* the domain is [..] and valid */
    bool has_8bit;   /* some byte is above 127 */
};

/*
 * Take the path of MAIL FROM: or RCPT TO: from the front of *in (which starts
 * behind the colon; leading spaces are skipped) and move *in behind it.
 * RFC 5321 4.1.2, RFC 6531 3.3: quoted local parts, address literals; a source
 * route is accepted and dropped.  As in Postfix, without MAIL_PATH_STRICT the
 * <> may be missing, and comments and spaces inside are passed over.  A domain
 * that is neither a literal nor a plausible host name is *not* refused here
 * (reject_non_fqdn_… and mail_domain_valid() do that); a bad literal is.
 * Fails with ERR_PERM "5.1.7" for MAIL_PATH_NULL, "5.1.3" otherwise.
 */
CHECKED int mail_path_parse(struct arena *a, slice *in, unsigned flags,
                            struct mail_path *out, struct err *err);

/* One ESMTP parameter, RFC 5321 4.1.2: KEYWORD[=value]. */
struct mail_param {
    slice key; /* as written; compare with slice_ieqs() */
    slice value;
    bool has_value;
};

/* Next parameter of *in: 1 got one, 0 the end, -1 malformed (*out.key then
 * holds the bad token for the reply). */
int mail_param_next(slice *in, struct mail_param *out);

/* RFC 3461 4 xtext.  Encoding never fails but for the buffer; decoding gives
 * false for bad xtext and leaves the buffer as it was. */
bool mail_xtext_put(struct buf *b, slice s);
bool mail_xtext_get(struct buf *b, slice s);
/* RFC 6533 3: \x{HEX} forms of a utf-8 ORCPT, to UTF-8. */
bool mail_uxtext_get(struct buf *b, slice s);
/* The other way; `with_utf8`: what is not ASCII may stay as it is. */
bool mail_uxtext_put(struct buf *b, slice s, bool with_utf8);

/* ---- forms of one address ---- */

/* External form of an internal address: the local part is quoted when it is
 * not a dot-atom.  False when the buffer is full. */
bool mail_addr_quote(struct buf *b, slice internal);
/* Only the local part. */
bool mail_local_quote(struct buf *b, slice local);
/* Internal form of an external address. */
bool mail_addr_unquote(struct buf *b, slice external);
/* Split at the last '@'; false, with *local the whole and *domain empty, when
 * there is none. */
bool mail_addr_split(slice internal, slice *local, slice *domain);
/* Lower-case the domain only / the whole (as tables are asked). */
slice mail_addr_fold(struct arena *a, slice internal, bool fold_local);

/*
 * Split `user+ext` at the first character of `delims` (recipient_delimiter, a
 * set).  As in Postfix: never for postmaster, mailer-daemon and double-bounce;
 * with '-' in the set not for owner-list and list-request when
 * `owner_request_special`; never to an empty user.  False when not split.
 */
bool mail_local_split(slice local, slice delims, bool owner_request_special,
                      slice *user, slice *ext);

/* ---- header address lists (RFC 5322 3.4 and 4.4) ---- */

enum mail_addr_kind {
    MAIL_ADDR_MAILBOX,
    MAIL_ADDR_GROUP, /* name is the group's */
    MAIL_ADDR_GROUP_END,
};

/* One entry as IMAP's ENVELOPE wants it.  has_x tells NIL from "". */
struct mail_addr {
    enum mail_addr_kind kind;
    bool has_name;
    bool has_route;
    bool is_invalid; /* parsed with errors; domain may be MISSING_DOMAIN, … */
    slice name;      /* display name, unquoted, encoded words left alone */
    slice route;     /* "@a,@b" */
    slice mailbox;   /* internal */
    slice domain;
};

struct mail_addr_iter {
    struct arena *a;
    slice rest;
    bool in_group;
    bool group_closing;
    bool done;
    bool garbage;
    bool fill_missing; /* Dovecot's MISSING_MAILBOX and MISSING_DOMAIN */
    size_t n_left;
};

/* Iterate over the addresses of an unfolded or raw header value; at most
 * `max` entries.  With fill_missing, broken entries are completed as Dovecot
 * does for ENVELOPE; without, their fields stay empty. */
void mail_addr_iter_init(struct mail_addr_iter *it, struct arena *a,
                         slice value, bool fill_missing, size_t max);
/* False at the end, at `max`, or when the arena is full. */
bool mail_addr_next(struct mail_addr_iter *it, struct mail_addr *out);

/* Put `=?..?=`-encoded words where needed: "Name" <addr> as a header value. */
bool mail_addr_put_mailbox(struct buf *b, slice utf8_name, slice internal);

/* ---- recipients of `sendmail -t`, entries of aliases and .forward ---- */

enum mail_dest_kind {
    MAIL_DEST_ADDRESS, /* internal form */
    MAIL_DEST_USER,    /* \user: deliver, do not expand; text without the \ */
    MAIL_DEST_COMMAND, /* |command; text without the bar */
    MAIL_DEST_FILE,    /* /file, or ~/file with the tilde kept */
    MAIL_DEST_INCLUDE, /* :include:/file; text is the path */
};

struct mail_dest {
    enum mail_dest_kind kind;
    slice text;
};

struct mail_dest_iter {
    struct arena *a;
    slice rest;
    bool header;       /* header rules: everything is an address */
    size_t plain_left; /* of rest, known to be single words */
    slice whole;
    size_t n_left;
};

/* Iterate over the entries of an alias's right-hand side or a line of a
 * .forward or :include: file, separated by commas or (as in Postfix) blanks;
 * comments in () and lines that begin with # are
 * passed over, quotes are taken off, groups and
 * display names reduce to their addresses.  With `header`, special forms are
 * plain addresses (`sendmail -t`). */
void mail_dest_iter_init(struct mail_dest_iter *it, struct arena *a,
                         slice value, bool header, size_t max);
/* 1 got one, 0 the end, -1 the arena or `max` is exhausted. */
int mail_dest_next(struct mail_dest_iter *it, struct mail_dest *out);

#endif
