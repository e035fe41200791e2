/* RFC 2047 encoded words. */
#include "mail/header.h"

#include "base/base.h"

#include "base/digest.h"
#include "mail/charset.h"
#include "mail/domain.h"
#include "mail/mail_priv.h"
#include "mail/mime.h"

struct word {
    slice charset;
    char encoding; /* 'b' or 'q' */
    slice text;
    size_t length; /* of the whole word */
};

/* "=?charset[*language]?B|Q?text?=" at the front of s (RFC 2047 2, RFC 2231
 * 5). */
static bool word_at(slice s, struct word *out)
{
    struct word w = { .length = 0 };
    slice rest = s;
    ssize_t end;
    slice enc;

    if (!slice_starts(s, SL("=?")))
        return false;
    rest = slice_from(s, 2);
    if (!slice_cut(&rest, '?', &w.charset) || w.charset.n == 0 ||
        w.charset.n > 80 || !slice_cut(&rest, '?', &enc) || enc.n != 1)
        return false;
    w.encoding = ascii_lower(enc.p[0]);
    if (w.encoding != 'b' && w.encoding != 'q')
        return false;
    end = slice_find(rest, SL("?="));
    if (end < 0)
        return false;
    w.text = slice_sub(rest, 0, (size_t)end);
    for (size_t i = 0; i < w.text.n; i++) {
        if (w.text.p[i] == '\n' && w.encoding == 'q')
            return false;
    }
    w.length = (size_t)(rest.p - s.p) + (size_t)end + 2;
    (void)slice_cut(&(slice){ w.charset.p, w.charset.n }, '*', &w.charset);
    *out = w;
    return true;
}

static void decode_text(struct buf *b, const struct word *w)
{
    if (w->encoding == 'b')
        mail_decode_base64(b, w->text);
    else
        mail_decode_qp(b, w->text, true);
}

/* Length of the white space, folding included, at the front of s. */
static size_t blank_length(slice s)
{
    size_t n = 0;

    while (n < s.n && ascii_isspace(s.p[n]))
        n++;
    return n;
}

/* Convert what was collected in one charset; control characters that would
 * break a line become spaces. */
static void flush_bytes(struct buf *b, struct buf *bytes, slice charset)
{
    size_t from = b->n;

    if (bytes->n == 0)
        return;
    mail_charset_to_utf8(b, charset, buf_view(bytes));
    for (size_t i = from; i < b->n; i++) {
        if (b->p[i] == '\n' || b->p[i] == '\r' || b->p[i] == '\0')
            b->p[i] = ' ';
    }
    buf_clear(bytes);
}

/* Neighbouring words of one charset are decoded together, because senders cut
 * multi-byte characters at word ends.  Returns the length taken. */
static size_t decode_run(struct buf *b, struct buf *bytes, slice s)
{
    struct word w, next;
    size_t at;
    slice charset;

    if (!word_at(s, &w) || !mail_charset_known(w.charset))
        return 0;
    charset = w.charset;
    decode_text(bytes, &w);
    at = w.length;
    for (;;) {
        size_t blank = blank_length(slice_from(s, at));

        if (!word_at(slice_from(s, at + blank), &next) ||
            !mail_charset_known(next.charset))
            break;
        if (!slice_ieq(next.charset, charset))
            flush_bytes(b, bytes, charset);
        charset = next.charset;
        decode_text(bytes, &next);
        at += blank + next.length; /* RFC 2047 6.2: the blank goes */
    }
    flush_bytes(b, bytes, charset);
    return at;
}

bool mail_words_decode(struct buf *b, slice raw)
{
    struct buf plain CLEANUP(buf_done) = { 0 }, bytes CLEANUP(buf_done) = { 0 };
    slice s;

    buf_init(&plain, 2 * raw.n + 16);
    buf_init(&bytes, raw.n + 16);
    mail_header_unfold(&plain, raw);
    s = buf_view(&plain);
    while (s.n > 0 && !b->overflow) {
        ssize_t eq = slice_find(s, SL("=?"));
        size_t before = eq < 0 ? s.n : (size_t)eq;
        size_t took;

        mail_utf8_clean(b, slice_sub(s, 0, before));
        s = slice_from(s, before);
        if (s.n == 0)
            break;
        took = decode_run(b, &bytes, s);
        if (took == 0) {
            buf_puts(b, "=?");
            took = 2;
        }
        s = slice_from(s, took);
    }
    return !b->overflow;
}

/* "=?UTF-8?B?" and "?=" are 12 columns; 45 bytes become 60. */
#define WORD_BYTES   45
#define WORD_COLUMNS 75
#define LINE_COLUMNS 76

/* At most `max` bytes of s, not cutting a UTF-8 sequence. */
static size_t whole_chars(slice s, size_t max)
{
    size_t n = 0;

    while (n < s.n) {
        size_t len = mail_utf8_len(slice_from(s, n));

        if (len == 0)
            len = 1;
        if (n + len > max)
            break;
        n += len;
    }
    return n;
}

static bool needs_words(slice s)
{
    if (!mail_is_ascii(s) || slice_find(s, SL("=?")) >= 0)
        return true;
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < ' ' && s.p[i] != '\t')
            return true;
    }
    return false;
}

bool mail_words_encode(struct buf *b, slice utf8, size_t col)
{
    struct buf clean CLEANUP(buf_done) = { 0 };
    slice s;

    if (!needs_words(utf8))
        return buf_slice(b, utf8);
    buf_init(&clean, 3 * utf8.n + 16);
    mail_utf8_clean(&clean, utf8);
    for (s = buf_view(&clean); s.n > 0;) {
        size_t room = col + 20 < LINE_COLUMNS ? LINE_COLUMNS - col - 12 : 0;
        size_t n = whole_chars(s, min_size(room / 4 * 3, WORD_BYTES));

        if (n == 0) {
            buf_puts(b, "\n ");
            col = 1;
            continue;
        }
        buf_puts(b, "=?UTF-8?B?");
        base64_put(b, slice_sub(s, 0, n));
        buf_puts(b, "?=");
        s = slice_from(s, n);
        col = LINE_COLUMNS;
        if (b->overflow)
            return false;
    }
    return !b->overflow;
}
