#ifndef MAIL_DOT_H
#define MAIL_DOT_H

/*
 * A message's bytes on their way in: from SMTP DATA or BDAT, or from the
 * sendmail command, to the stored form with LF line ends.  doc/message-bytes.md
 * is the rule table.
 *
 *     mail_dot_init -> (open) --mail_dot_feed--> done  (DATA: the dot came)
 *                             --mail_dot_finish-> done (all else: the end)
 *
 * Invariants: (1) DATA ends at <CR><LF>.<CR><LF> and nowhere else, whatever
 * the options; (2) after is_bad and saw_rejected the input is still read to
 * that end, so that the session stays in step; (3) one call of feed or finish
 * adds at most the input's length and MAIL_DOT_SLACK bytes.
 */

#include "base/base.h"

#define MAIL_DOT_SLACK 48

/* smtpd_forbid_bare_newline.  In every mode only CRLF.CRLF ends the data. */
enum mail_bare_lf {
    MAIL_BARE_LF_NO,        /* a lone LF ends a line like CRLF */
    MAIL_BARE_LF_NORMALIZE, /* here the same: only the end was in danger */
    MAIL_BARE_LF_REJECT,    /* is_bad: 550 5.5.2 at the end */
};

/* What becomes of an mbox "From " or ">From " line in front of the header. */
enum mail_from_line {
    MAIL_FROM_KEEP,
    MAIL_FROM_RENAME, /* "Mailbox-Line: From …", as Postfix's smtpd does */
    MAIL_FROM_DROP,   /* as Postfix's sendmail command does */
};

struct mail_dot_options {
    bool stuffed;           /* DATA: unstuff and watch for the dot; else BDAT
                             * or sendmail: no dot */
    bool stray_cr_to_space; /* cleanup_replace_stray_cr_lf */
    enum mail_bare_lf bare_lf;
    enum mail_from_line from_line;
    const uint8_t *strip;  /* message_strip_characters: a set or NULL; belongs
                            * to the caller and must outlive the mail_dot */
    const uint8_t *reject; /* message_reject_characters: the same */
};

struct mail_dot {
    struct mail_dot_options opt;
    unsigned char state;
    bool lf_was_bare;  /* the last line ended with a lone LF */
    bool start_done;   /* the first line's beginning has been judged */
    bool dropping;     /* inside a From line that goes */
    bool done;         /* the end was seen */
    bool is_bad;       /* a bare LF, and bare_lf says reject */
    bool saw_rejected; /* a byte of `reject`: 550 5.6.0 or a bounce */
    bool saw_bare_lf;
    bool saw_bare_cr;
    bool saw_nul;
    bool saw_8bit;
    bool starts_blank; /* the first line begins with a blank: an empty line
                        * was put before it, see the rule table */
    char last;         /* last byte given out, '\n' at first */
    unsigned n_cr;     /* CRs held back */
    unsigned n_held;   /* bytes of a possible From line held back */
    char held[8];
    uint64_t n_out;   /* bytes given out */
    uint64_t n_lines; /* LFs given out: size with CRLF = n_out + n_lines */
};

void mail_dot_init(struct mail_dot *d, const struct mail_dot_options *opt);
/* Take bytes from *in, append the stored form to *out.  Stops behind the end
 * (d->done) and leaves what follows in *in; otherwise takes all.  `out` must
 * have room by invariant 3: a buffer that overflows here is a bug (CHECK). */
void mail_dot_feed(struct mail_dot *d, slice *in, struct buf *out);
/* The input is complete (BDAT LAST, end of file): what was held back is given
 * out, and a missing last LF is added.  Not after `done`. */
void mail_dot_finish(struct mail_dot *d, struct buf *out);

/* Parse message_strip_characters and the like: C escapes (\0 \r \n \t \\
 * \nnn …) to a 256-bit set; false when malformed. */
bool mail_byte_set_parse(slice s, uint8_t set[static 32]);

/* The other way: append the stored form as SMTP DATA content (CRLF, dots
 * doubled at line starts when `stuff`).  *at_line_start carries over between
 * calls and starts as true; the caller ends a last line without LF. */
bool mail_dot_stuff(struct buf *b, slice in, bool stuff, bool *at_line_start);

#endif
