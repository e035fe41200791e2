/* The first words of a message's text (RFC 8970). */
#include "mail/mime.h"

#include "base/base.h"

#include "mail/charset.h"
#include "mail/domain.h"
#include "mail/html.h"

static bool is_type(const struct mail_part *p, const char *type)
{
    return slice_ieqs(p->type.type, type);
}

/* In multipart/alternative: plain over html over any other text. */
static const struct mail_part *best_alternative(const struct mail_part *p)
{
    const struct mail_part *html = NULL, *other = NULL;

    for (const struct mail_part *c = p->child; c != NULL; c = c->next) {
        if (c->has_type && !is_type(c, "text"))
            continue;
        if (!c->has_type || slice_ieqs(c->type.subtype, "plain"))
            return c;
        if (slice_ieqs(c->type.subtype, "html"))
            html = c;
        else
            other = c;
    }
    return html != NULL ? html : other;
}

/* The part itself, if it is text or an alternative with text. */
static const struct mail_part *text_here(const struct mail_part *p)
{
    if (!p->has_type || is_type(p, "text"))
        return p->is_message ? NULL : p;
    if (p->is_multipart && slice_ieqs(p->type.subtype, "alternative"))
        return best_alternative(p);
    return NULL;
}

static bool may_descend(const struct mail_part *p)
{
    return p->is_multipart && p->child != NULL &&
           !slice_ieqs(p->type.subtype, "alternative");
}

const struct mail_part *mail_preview_part(const struct mail_part *root)
{
    const struct mail_part *p = root;

    for (;;) {
        const struct mail_part *found = text_here(p);

        if (found != NULL)
            return found;
        if (may_descend(p)) {
            p = p->child;
            continue;
        }
        while (p != root && p->next == NULL)
            p = p->parent;
        if (p == root)
            return NULL;
        p = p->next;
    }
}

/* Text on one line: white space collapses, quoted lines go aside. */
struct snippet {
    struct buf plain;
    struct buf quoted;
    size_t n_plain; /* characters */
    size_t n_quoted;
    bool in_quote;
    bool at_line_start;
    bool blank; /* a space is due before the next character */
};

static bool snippet_full(const struct snippet *s)
{
    return s->n_plain >= MAIL_PREVIEW_CHARS;
}

static void snippet_put(struct snippet *s, slice ch)
{
    struct buf *b = s->in_quote ? &s->quoted : &s->plain;
    size_t *n = s->in_quote ? &s->n_quoted : &s->n_plain;

    if (s->blank && *n > 0 && *n < MAIL_PREVIEW_CHARS) {
        buf_byte(b, ' ');
        (*n)++;
    }
    s->blank = false;
    if (*n < MAIL_PREVIEW_CHARS) {
        buf_slice(b, ch);
        (*n)++;
    }
}

/* Characters that show nothing: controls, zero-width ones, BOM, soft hyphen. */
static bool is_invisible(slice ch)
{
    if (ch.n == 1)
        return (unsigned char)ch.p[0] < ' ' || ch.p[0] == 0x7F;
    return slice_eqs(ch, "\xE2\x80\x8B") || slice_eqs(ch, "\xE2\x80\x8C") ||
           slice_eqs(ch, "\xE2\x80\x8D") || slice_eqs(ch, "\xEF\xBB\xBF") ||
           slice_eqs(ch, "\xC2\xAD");
}

#define REPLACEMENT "\xEF\xBF\xBD"

/* A run of bad characters shows as one. */
static bool repeats_bad(const struct snippet *s, slice ch)
{
    const struct buf *b = s->in_quote ? &s->quoted : &s->plain;

    return ch.n == 3 && !s->blank && slice_eqs(ch, REPLACEMENT) &&
           slice_ends(buf_view(b), SL(REPLACEMENT));
}

static slice next_line(slice s)
{
    ssize_t lf = slice_chr(s, '\n');

    return lf < 0 ? SLICE_NONE : slice_from(s, (size_t)lf + 1);
}

static void snippet_text(struct snippet *s, slice utf8, bool has_quotes)
{
    while (utf8.n > 0 && !snippet_full(s)) {
        size_t len;
        slice ch;

        if (s->in_quote && s->n_quoted >= MAIL_PREVIEW_CHARS) {
            utf8 = next_line(utf8);
            s->in_quote = false;
            s->at_line_start = s->blank = true;
            continue;
        }
        len = mail_utf8_len(utf8);
        ch = slice_of(utf8.p, len == 0 ? 1 : len);
        utf8 = slice_from(utf8, ch.n);
        if (ascii_isspace(ch.p[0])) {
            s->blank = true;
            s->at_line_start = ch.p[0] == '\n';
            if (s->at_line_start)
                s->in_quote = false;
            continue;
        }
        if (len == 0 || is_invisible(ch) || repeats_bad(s, ch))
            continue;
        if (s->at_line_start)
            s->in_quote = has_quotes && ch.p[0] == '>';
        s->at_line_start = false;
        snippet_put(s, ch);
    }
}

static slice charset_of(struct arena *a, const struct mail_part *p)
{
    slice charset = SLICE_NONE;

    (void)mail_value_param(a, &p->type, "charset", &charset);
    return charset;
}

/* The snippet of a body's front; true when it is full. */
static bool snippet_of(struct snippet *s, const struct mail_part *part,
                       slice charset, slice body)
{
    struct buf bytes CLEANUP(buf_done) = { 0 }, utf8 CLEANUP(buf_done) = { 0 };
    bool is_html = slice_ieqs(part->type.subtype, "html");

    buf_init(&bytes, MAIL_PREVIEW_READ + 16);
    buf_init(&utf8, 4 * MAIL_PREVIEW_READ);
    mail_decode_body(&bytes, part->encoding, body);
    mail_charset_to_utf8(&utf8, charset, buf_view(&bytes));
    if (is_html) {
        buf_clear(&bytes);
        priv_html_to_text(&bytes, buf_view(&utf8));
        snippet_text(s, buf_view(&bytes), false);
    } else {
        snippet_text(s, buf_view(&utf8), true);
    }
    return snippet_full(s);
}

/* Most bodies show their 200 characters in the first KiB, so the rest is only
 * looked at when that was not enough. */
#define FIRST_TRY 1024

bool mail_preview_text(struct buf *b, const struct mail_part *part, slice body)
{
    struct arena *a = arena_new(1 << 20);
    struct snippet s = { .at_line_start = true };
    slice charset = charset_of(a, part);

    body = slice_sub(body, 0, MAIL_PREVIEW_READ);
    buf_init(&s.plain, 4096);
    buf_init(&s.quoted, 4096);
    if (!snippet_of(&s, part, charset, slice_sub(body, 0, FIRST_TRY)) &&
        body.n > FIRST_TRY) {
        buf_clear(&s.plain);
        buf_clear(&s.quoted);
        s.n_plain = s.n_quoted = 0;
        s.in_quote = s.blank = false;
        s.at_line_start = true;
        (void)snippet_of(&s, part, charset, body);
    }
    buf_slice(b, buf_view(s.plain.n > 0 ? &s.plain : &s.quoted));
    buf_done(&s.plain);
    buf_done(&s.quoted);
    arena_free(&a);
    return !b->overflow;
}

bool mail_preview(struct buf *b, const struct mail_part *root, slice message)
{
    const struct mail_part *p = mail_preview_part(root);
    uint64_t at;

    if (p == NULL)
        return !b->overflow;
    at = p->offset + p->header.stored;
    if (at >= message.n)
        return !b->overflow;
    return mail_preview_text(b, p,
                             slice_sub(message, (size_t)at,
                                       p->body.stored > message.n
                                           ? message.n
                                           : (size_t)p->body.stored));
}
