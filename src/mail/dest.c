/*
 * Recipients in an alias's right-hand side, in .forward and :include: files,
 * and in header fields for `sendmail -t`.
 *
 * A list is a run of words.  Words in front of '<' are a display name and those
 * in front of ':' a group's name: both go.  Else every word is an entry, since
 * people forget commas.  scan_plain() looks ahead once per run to tell which it
 * is, so that reading a list stays linear.
 */
#include "mail/address.h"

#include "base/base.h"

#include "mail/mail_priv.h"

#define LITERAL_MAX 80

void mail_dest_iter_init(struct mail_dest_iter *it, struct arena *a,
                         slice value, bool header, size_t max)
{
    *it = (struct mail_dest_iter){
        .a = a, .rest = value, .whole = value, .header = header, .n_left = max
    };
}

/* Quoted string at the front of s: its length with the quotes. */
static size_t quoted_length(slice s)
{
    size_t i = 1;

    while (i < s.n && s.p[i] != '"')
        i += s.p[i] == '\\' ? 2 : 1;
    return min_size(i + 1, s.n);
}

/* Comment at the front of s: its length; all of s when it does not end. */
static size_t comment_length(slice s)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && --depth == 0)
            return i + 1;
    }
    return s.n;
}

/* White space and comments in front of s. */
static size_t skip_blank(slice s)
{
    size_t i = 0;

    while (i < s.n) {
        if (s.p[i] == '(')
            i += comment_length(slice_from(s, i));
        else if (ascii_isspace(s.p[i]))
            i++;
        else
            break;
    }
    return i;
}

static bool is_separator(char c)
{
    return c == ',' || c == ';' || c == '<' || c == '>';
}

/* In an alias these start a word that ends at a blank or comma only. */
static bool is_raw_start(const struct mail_dest_iter *it, slice s)
{
    return !it->header && s.n > 0 &&
           (s.p[0] == '|' || s.p[0] == '/' || s.p[0] == '~' || s.p[0] == ':');
}

static size_t raw_length(slice s)
{
    size_t i = 0;

    while (i < s.n && s.p[i] != ',' && !ascii_isspace(s.p[i]))
        i += s.p[i] == '"' ? quoted_length(slice_from(s, i)) : 1;
    return i;
}

/* A '#' that is the first of its line. */
static bool at_comment_line(const struct mail_dest_iter *it, slice s)
{
    const char *p = s.p;

    if (it->header || s.p[0] != '#')
        return false;
    while (p > it->whole.p && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    return p == it->whole.p || p[-1] == '\n';
}

/* Length of the literal at the '[': one with no ']' near is a character. */
static size_t literal_length(slice s)
{
    ssize_t close = slice_chr(slice_sub(s, 0, LITERAL_MAX), ']');

    return close < 0 ? 1 : (size_t)close + 1;
}

/* Length of the run of words at the front of s, up to a separator or colon. */
static size_t scan_plain(const struct mail_dest_iter *it, slice s)
{
    size_t i = 0;
    bool word_start = true;

    while (i < s.n && !is_separator(s.p[i])) {
        slice rest = slice_from(s, i);
        size_t blank = skip_blank(rest);

        if (i > 0 && at_comment_line(it, rest))
            break;
        if (blank > 0) {
            i += blank;
            word_start = true;
            continue;
        }
        if (word_start && is_raw_start(it, rest)) {
            i += raw_length(rest);
            continue;
        }
        if (s.p[i] == ':')
            break;
        word_start = false;
        if (s.p[i] == '"')
            i += quoted_length(rest);
        else if (s.p[i] == '[')
            i += literal_length(rest);
        else
            i += s.p[i] == '\\' ? 2 : 1;
    }
    return min_size(i, s.n);
}

/* Does the word go on behind the blank: around '@' and '.'? */
static bool joins(const struct buf *b, slice next)
{
    if (b->n > 0 && (b->p[b->n - 1] == '@' || b->p[b->n - 1] == '.'))
        return true;
    return next.n > 0 && (next.p[0] == '@' || next.p[0] == '.');
}

/* One word of s (which ends where the run does) in internal form. */
static size_t take_word(const struct mail_dest_iter *it, slice s, struct buf *b)
{
    size_t end = is_raw_start(it, s) ? raw_length(s) : s.n, i = 0;
    bool raw = is_raw_start(it, s);

    if (!it->header && s.n > 0 && s.p[0] == '\\')
        buf_byte(b, s.p[i++]); /* \user keeps its mark */
    while (i < end) {
        size_t n = 1;

        if (s.p[i] == '"') {
            n = quoted_length(slice_from(s, i));
            mail_addr_unquote(b, slice_sub(s, i, n));
        } else if (s.p[i] == '[' && !raw) {
            n = min_size(literal_length(slice_from(s, i)), end - i);
            buf_put(b, s.p + i, n);
        } else if (s.p[i] == '\\' && i + 1 < end) {
            buf_byte(b, s.p[i + 1]);
            n = 2;
        } else if (!raw && (ascii_isspace(s.p[i]) || s.p[i] == '(')) {
            n = skip_blank(slice_sub(s, i, end - i));
            if (!joins(b, slice_sub(s, i + n, end - i - n)))
                return i + n;
        } else {
            buf_byte(b, s.p[i]);
        }
        i += n;
    }
    return end;
}

/* At the '<': the address inside, its route dropped. */
static size_t take_angle(const struct mail_dest_iter *it, slice s,
                         struct buf *b)
{
    size_t i = 1, close;
    slice inner;

    while (i < s.n && s.p[i] != '>')
        i += s.p[i] == '"' ? quoted_length(slice_from(s, i)) : 1;
    close = min_size(i, s.n);
    inner = slice_trim(slice_sub(s, 1, close - 1));
    if (inner.n > 0 && inner.p[0] == '@') {
        ssize_t colon = slice_chr(inner, ':');

        if (colon >= 0)
            inner = slice_from(inner, (size_t)colon + 1);
    }
    inner = slice_from(inner, skip_blank(inner));
    (void)take_word(it, inner, b);
    return min_size(close + 1, s.n);
}

static struct mail_dest classify(slice text, bool header)
{
    struct mail_dest d = { .kind = MAIL_DEST_ADDRESS, .text = text };

    if (header || text.n == 0)
        return d;
    if (text.p[0] == '|') {
        d.kind = MAIL_DEST_COMMAND;
        d.text = slice_from(text, 1);
    } else if (text.p[0] == '/' || slice_starts(text, SL("~/"))) {
        d.kind = MAIL_DEST_FILE;
    } else if (slice_istarts(text, SL(":include:"))) {
        d.kind = MAIL_DEST_INCLUDE;
        d.text = slice_from(text, 9);
    } else if (text.p[0] == '\\') {
        d.kind = MAIL_DEST_USER;
        d.text = slice_from(text, 1);
    }
    return d;
}

/* Pass over what separates entries; true when an entry starts there. */
static bool to_entry(struct mail_dest_iter *it)
{
    for (;;) {
        slice s = it->rest = slice_from(it->rest, skip_blank(it->rest));

        if (s.n == 0)
            return false;
        if (s.p[0] == ',' || s.p[0] == ';' || s.p[0] == '>') {
            it->rest = slice_from(s, 1);
        } else if (at_comment_line(it, s)) {
            ssize_t lf = slice_chr(s, '\n');

            it->rest = lf < 0 ? SLICE_NONE : slice_from(s, (size_t)lf);
        } else {
            return true;
        }
    }
}

/* Take one entry's text into b; an empty b means: go on. */
static void take_entry(struct mail_dest_iter *it, struct buf *b)
{
    slice s = it->rest;
    size_t took;

    if (it->plain_left == 0) {
        size_t run = scan_plain(it, s);
        slice behind = slice_from(s, run);

        if (behind.n > 0 && behind.p[0] == '<') {
            it->rest = slice_from(behind, take_angle(it, behind, b));
            return;
        }
        if (behind.n > 0 && behind.p[0] == ':') {
            it->rest = slice_from(behind, 1); /* a group's name */
            return;
        }
        it->plain_left = run;
    }
    took = take_word(it, slice_sub(s, 0, it->plain_left), b);
    it->rest = slice_from(s, took);
    it->plain_left -= took;
}

int mail_dest_next(struct mail_dest_iter *it, struct mail_dest *out)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    slice text;

    buf_init(&b, it->rest.n + 1);
    while (b.n == 0) {
        if (it->plain_left == 0 && !to_entry(it))
            return 0;
        if (it->n_left == 0)
            return -1;
        take_entry(it, &b);
    }
    text = priv_dup(it->a, &b);
    if (text.p == NULL)
        return -1;
    it->n_left--;
    *out = classify(text, it->header);
    return 1;
}
