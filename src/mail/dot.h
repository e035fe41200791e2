#ifndef MAIL_DOT_H
#define MAIL_DOT_H

/*
 * A message's bytes on their way in: from SMTP DATA or BDAT, or from the
 * sendmail command, to the stored form with LF line ends.  doc/message-bytes.md
 * is the rule table.
 *
 *     mail_dot_init() -> OPEN --mail_dot_feed()--> DONE (DATA: the dot came)
 *                                      \---------> BAD  (bare LF, rejecting)
 *
 * Invariants: (1) DATA ends at <CR><LF>.<CR><LF> and nowhere else, whatever
 * the options; (2) after BAD the input is still read to that end, so that the
 * session stays in step; (3) the output grows by at most the input's length
 * and two bytes per call.
 */

#include "base/base.h"

/* smtpd_forbid_bare_newline.  In every mode only CRLF.CRLF ends the data. */
enum mail_bare_lf {
    MAIL_BARE_LF_NO,        /* a lone LF ends a line like CRLF */
    MAIL_BARE_LF_NORMALIZE, /* the same, and the line is stored as a line; a
                             * dot on it is no end and is not unstuffed */
    MAIL_BARE_LF_REJECT,    /* BAD: 550 5.5.2 */
};

struct mail_dot_options {
    bool stuffed; /* DATA: unstuff and watch for the dot; else BDAT
                   * or sendmail: no dot */
    enum mail_bare_lf bare_lf;
    const uint8_t *strip;  /* message_strip_characters: 32-byte set or NULL */
    const uint8_t *reject; /* message_reject_characters: the same */
};

struct mail_dot {
    struct mail_dot_options opt;
    unsigned char state;
    bool done;         /* the end was seen */
    bool is_bad;       /* a bare LF and bare_lf says reject */
    bool saw_rejected; /* a byte of `reject` was met: bounce or 5xx 5.6.0 */
    bool saw_bare_lf;
    bool saw_bare_cr;
    bool saw_nul;
    bool saw_8bit;
    uint64_t n_out;   /* bytes given out */
    uint64_t n_lines; /* LFs given out: size with CRLF = n_out + n_lines */
};

void mail_dot_init(struct mail_dot *d, const struct mail_dot_options *opt);
/* Take bytes from *in, append the stored form to *out.  Stops behind the end
 * (d->done) and leaves what follows in *in; otherwise takes all.  `out` must
 * have room (invariant 3), else the call CHECKs: make it so. */
void mail_dot_feed(struct mail_dot *d, slice *in, struct buf *out);
/* The input is complete (BDAT LAST, end of file): a bare CR held back is given
 * out, and a missing last LF is added. */
void mail_dot_finish(struct mail_dot *d, struct buf *out);

/* Parse message_strip_characters and the like: C escapes (\0 \r \n \t \\
 * \nnn \xhh …) to a 256-bit set. */
bool mail_byte_set_parse(slice s, uint8_t set[static 32]);

/* The other way: append the stored form as SMTP DATA content (CRLF, dots
 * doubled at line starts when `stuff`).  *at_line_start carries over between
 * calls and starts as true. */
bool mail_dot_stuff(struct buf *b, slice in, bool stuff, bool *at_line_start);

#endif
