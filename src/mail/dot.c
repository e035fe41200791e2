#include "mail/dot.h"

#include "base/base.h"

/* Where the reader stands; see the rule table in doc/message-bytes.md. */
enum {
    LINE_START,  /* nothing of this line has been seen */
    LINE_DOT,    /* a '.' at its start is held back */
    LINE_DOT_CR, /* ".<CR>" is held back */
    LINE_MIDDLE,
    LINE_CR, /* n_cr CRs are held back */
};

/* More CRs in a row than this are stray whatever follows. */
#define CR_MAX 16

void mail_dot_init(struct mail_dot *d, const struct mail_dot_options *opt)
{
    *d = (struct mail_dot){ .opt = *opt, .state = LINE_START, .last = '\n' };
}

static bool in_set(const uint8_t *set, unsigned char c)
{
    return set != NULL && (set[c >> 3] >> (c & 7) & 1) != 0;
}

/* Below the rules of the first line: count and append. */
static void put_run(struct mail_dot *d, struct buf *out, const char *p,
                    size_t n)
{
    if (n == 0)
        return;
    CHECK(buf_put(out, p, n));
    d->n_out += n;
    d->last = p[n - 1];
}

static void put_lf(struct mail_dot *d, struct buf *out)
{
    put_run(d, out, "\n", 1);
    d->n_lines++;
}

/* A possible "From " or ">From " at the very start: judge by what is held. */
enum { START_UNDECIDED, START_FROM, START_OTHER };

static int judge_start(const struct mail_dot *d)
{
    slice held = slice_of(d->held, d->n_held);
    slice from = SL(">From ");

    if (d->opt.from_line == MAIL_FROM_KEEP)
        return START_OTHER;
    if (d->held[0] != '>')
        from = slice_from(from, 1);
    if (!slice_starts(from, held))
        return START_OTHER;
    return held.n == from.n ? START_FROM : START_UNDECIDED;
}

static void release_start(struct mail_dot *d, struct buf *out)
{
    put_run(d, out, d->held, d->n_held);
    d->n_held = 0;
    d->start_done = true;
}

/* One byte of the message's first line, before it is known what that is. */
static void put_start(struct mail_dot *d, struct buf *out, char c)
{
    if (c == '\n') {
        release_start(d, out);
        put_lf(d, out);
        return;
    }
    if (d->n_held == 0 && (c == ' ' || c == '\t')) {
        /* Behind our trace headers it would continue the last of them. */
        d->starts_blank = true;
        put_lf(d, out);
    }
    d->held[d->n_held++] = c;
    switch (judge_start(d)) {
    case START_UNDECIDED:
        return;
    case START_FROM:
        if (d->opt.from_line == MAIL_FROM_RENAME) {
            put_run(d, out, "Mailbox-Line: ", 14);
            release_start(d, out);
            return;
        }
        d->n_held = 0;
        d->dropping = true;
        return;
    default:
        release_start(d, out);
    }
}

/* A byte of the message, by the rules for single bytes. */
static void put_slow(struct mail_dot *d, struct buf *out, char c)
{
    unsigned char u = (unsigned char)c;

    if (in_set(d->opt.strip, u))
        return;
    d->saw_rejected |= in_set(d->opt.reject, u);
    d->saw_nul |= u == 0;
    d->saw_8bit |= u >= 0x80;
    if (d->dropping)
        return;
    if (!d->start_done)
        put_start(d, out, c);
    else if (c == '\n')
        put_lf(d, out);
    else
        put_run(d, out, &c, 1);
}

static void put_text(struct mail_dot *d, struct buf *out, const char *p,
                     size_t n)
{
    size_t i = 0;

    while (i < n && (!d->start_done || d->dropping))
        put_slow(d, out, p[i++]);
    if (d->opt.strip != NULL || d->opt.reject != NULL) {
        while (i < n)
            put_slow(d, out, p[i++]);
        return;
    }
    if (i == n)
        return;
    if (!d->saw_nul)
        d->saw_nul = memchr(p + i, '\0', n - i) != NULL;
    for (size_t k = i; k < n && !d->saw_8bit; k++)
        d->saw_8bit = (unsigned char)p[k] >= 0x80;
    put_run(d, out, p + i, n - i);
}

/* The line ends here, by CRLF or by a lone LF. */
static void end_line(struct mail_dot *d, struct buf *out, bool bare)
{
    d->lf_was_bare = bare;
    d->state = LINE_START;
    d->n_cr = 0;
    if (bare) {
        d->saw_bare_lf = true;
        d->is_bad |= d->opt.bare_lf == MAIL_BARE_LF_REJECT;
    }
    if (d->dropping)
        d->dropping = false; /* the next line is a first line again */
    else
        put_slow(d, out, '\n');
}

/* CRs that no LF followed. */
static void put_stray_crs(struct mail_dot *d, struct buf *out, unsigned n)
{
    d->saw_bare_cr |= n > 0;
    for (; n > 0; n--)
        put_slow(d, out, d->opt.stray_cr_to_space ? ' ' : '\r');
}

/* A held CR meets the next byte. */
static void after_cr(struct mail_dot *d, struct buf *out, slice *in)
{
    if (in->p[0] == '\n') {
        /* Postfix takes all CRs in front of the LF for the line end. */
        d->saw_bare_cr |= d->n_cr > 1;
        *in = slice_from(*in, 1);
        end_line(d, out, false);
        return;
    }
    if (in->p[0] == '\r') {
        *in = slice_from(*in, 1);
        if (d->n_cr == CR_MAX)
            put_stray_crs(d, out, 1);
        else
            d->n_cr++;
        return;
    }
    put_stray_crs(d, out, d->n_cr);
    d->n_cr = 0;
    d->state = LINE_MIDDLE;
}

/* A held dot meets the next byte (RFC 5321 4.5.2). */
static void after_dot(struct mail_dot *d, struct buf *out, slice *in)
{
    char c = in->p[0];

    if (c == '\r') {
        *in = slice_from(*in, 1);
        d->state = LINE_DOT_CR;
        return;
    }
    /* A dot alone on a line with a bare LF is no end, but text: the dot stays
     * (invariant 1).  Otherwise it was stuffing. */
    if (c == '\n')
        put_slow(d, out, '.');
    d->state = LINE_MIDDLE;
}

/* ".<CR>" meets the next byte. */
static void after_dot_cr(struct mail_dot *d, struct buf *out, slice *in)
{
    if (in->p[0] == '\n' && !d->lf_was_bare) {
        *in = slice_from(*in, 1);
        d->done = true;
        if (d->n_held > 0)
            release_start(d, out);
        if (d->last != '\n')
            put_lf(d, out);
        return;
    }
    /* ".<CR><LF>" behind a lone LF, or ".<CR><CR>…": text. */
    if (in->p[0] == '\n' || in->p[0] == '\r')
        put_slow(d, out, '.');
    d->n_cr = 1;
    d->state = LINE_CR;
}

/* Text up to the next CR or LF. */
static void in_line(struct mail_dot *d, struct buf *out, slice *in)
{
    const char *lf = memchr(in->p, '\n', in->n);
    size_t n = lf == NULL ? in->n : (size_t)(lf - in->p);
    const char *cr = n == 0 ? NULL : memchr(in->p, '\r', n);

    if (cr != NULL)
        n = (size_t)(cr - in->p);
    put_text(d, out, in->p, n);
    *in = slice_from(*in, n);
    if (in->n == 0)
        return;
    *in = slice_from(*in, 1);
    if (cr == NULL) {
        end_line(d, out, true);
    } else {
        d->state = LINE_CR;
        d->n_cr = 1;
    }
}

void mail_dot_feed(struct mail_dot *d, slice *in, struct buf *out)
{
    while (in->n > 0 && !d->done) {
        switch (d->state) {
        case LINE_START:
            if (d->opt.stuffed && in->p[0] == '.') {
                *in = slice_from(*in, 1);
                d->state = LINE_DOT;
                break;
            }
            d->state = LINE_MIDDLE;
            break;
        case LINE_DOT:
            after_dot(d, out, in);
            break;
        case LINE_DOT_CR:
            after_dot_cr(d, out, in);
            break;
        case LINE_CR:
            after_cr(d, out, in);
            break;
        default:
            in_line(d, out, in);
        }
    }
}

void mail_dot_finish(struct mail_dot *d, struct buf *out)
{
    CHECK(!d->done);
    if (d->state == LINE_DOT || d->state == LINE_DOT_CR)
        put_slow(d, out, '.');
    if (d->state == LINE_DOT_CR)
        d->n_cr = 1;
    put_stray_crs(d, out, d->n_cr);
    if (!d->dropping) {
        if (d->n_held > 0)
            release_start(d, out);
        if (d->last != '\n')
            put_lf(d, out);
    }
    d->done = true;
}

/* The escape behind a backslash; returns its length, 0 when malformed. */
static size_t escape_value(slice s, unsigned *out)
{
    static const char names[] = "abfnrtv\\\"'";
    static const char values[] = "\a\b\f\n\r\t\v\\\"'";
    const char *at;
    size_t n = 0;
    unsigned v = 0;

    while (n < s.n && n < 3 && s.p[n] >= '0' && s.p[n] <= '7')
        v = v * 8 + (unsigned)(s.p[n++] - '0');
    if (n > 0) {
        *out = v;
        return v < 256 ? n : 0;
    }
    at = s.n == 0 || s.p[0] == '\0' ? NULL : strchr(names, s.p[0]);
    if (at == NULL)
        return 0;
    *out = (unsigned char)values[at - names];
    return 1;
}

bool mail_byte_set_parse(slice s, uint8_t set[static 32])
{
    uint8_t got[32] = { 0 };

    for (size_t i = 0; i < s.n; i++) {
        unsigned c = (unsigned char)s.p[i];

        if (c == '\\') {
            size_t len = escape_value(slice_from(s, i + 1), &c);

            if (len == 0)
                return false;
            i += len;
        }
        got[c >> 3] |= (uint8_t)(1u << (c & 7));
    }
    memcpy(set, got, sizeof got);
    return true;
}

bool mail_dot_stuff(struct buf *b, slice in, bool stuff, bool *at_line_start)
{
    while (in.n > 0 && !b->overflow) {
        ssize_t lf = slice_chr(in, '\n');
        size_t n = lf < 0 ? in.n : (size_t)lf;

        if (stuff && *at_line_start && in.p[0] == '.')
            buf_byte(b, '.');
        buf_put(b, in.p, n);
        in = slice_from(in, n);
        *at_line_start = lf >= 0;
        if (lf >= 0) {
            buf_put(b, "\r\n", 2);
            in = slice_from(in, 1);
        }
    }
    return !b->overflow;
}
