#include "mail/html.h"

#include "base/base.h"

/* Elements whose content is no text to show. */
static const char *const silent[] = { "style", "script" };

/* Elements that do not part words. */
static const char *const inline_tags[] = { "b",      "i",    "u",     "em",
                                           "strong", "span", "font",  "a",
                                           "tt",     "code", "small", "big",
                                           "sub",    "sup",  "s",     "wbr" };

static const struct {
    const char *name;
    uint32_t c;
} entities[] = {
    { "amp", '&' },       { "lt", '<' },       { "gt", '>' },
    { "quot", '"' },      { "apos", '\'' },    { "nbsp", 0xA0 },
    { "copy", 0xA9 },     { "reg", 0xAE },     { "trade", 0x2122 },
    { "euro", 0x20AC },   { "pound", 0xA3 },   { "yen", 0xA5 },
    { "hellip", 0x2026 }, { "ndash", 0x2013 }, { "mdash", 0x2014 },
    { "lsquo", 0x2018 },  { "rsquo", 0x2019 }, { "ldquo", 0x201C },
    { "rdquo", 0x201D },  { "bull", 0x2022 },  { "middot", 0xB7 },
    { "laquo", 0xAB },    { "raquo", 0xBB },   { "auml", 0xE4 },
    { "ouml", 0xF6 },     { "uuml", 0xFC },    { "Auml", 0xC4 },
    { "Ouml", 0xD6 },     { "Uuml", 0xDC },    { "szlig", 0xDF },
    { "eacute", 0xE9 },   { "egrave", 0xE8 },  { "agrave", 0xE0 },
    { "ccedil", 0xE7 },   { "ecirc", 0xEA },   { "acirc", 0xE2 },
    { "ntilde", 0xF1 },   { "oslash", 0xF8 },  { "aring", 0xE5 },
    { "aelig", 0xE6 },    { "zwnj", 0x200C },  { "zwj", 0x200D },
};

static bool named(slice name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_ieqs(name, list[i]))
            return true;
    }
    return false;
}

static void put_char(struct buf *b, uint32_t c)
{
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        c = 0xFFFD;
    if (c < 0x80) {
        buf_byte(b, (char)c);
        return;
    }
    if (c < 0x800) {
        buf_byte(b, (char)(0xC0 | c >> 6));
    } else {
        if (c < 0x10000) {
            buf_byte(b, (char)(0xE0 | c >> 12));
        } else {
            buf_byte(b, (char)(0xF0 | c >> 18));
            buf_byte(b, (char)(0x80 | (c >> 12 & 0x3F)));
        }
        buf_byte(b, (char)(0x80 | (c >> 6 & 0x3F)));
    }
    buf_byte(b, (char)(0x80 | (c & 0x3F)));
}

/* "#65" or "#x41"; false when it is no number. */
static bool number_reference(slice s, uint32_t *out)
{
    bool is_hex = s.n > 1 && (s.p[1] == 'x' || s.p[1] == 'X');
    uint32_t c = 0;
    size_t i = is_hex ? 2 : 1;

    if (i >= s.n || s.n - i > 8)
        return false;
    for (; i < s.n; i++) {
        char d = ascii_lower(s.p[i]);

        if (ascii_isdigit(d))
            c = c * (is_hex ? 16 : 10) + (uint32_t)(d - '0');
        else if (is_hex && d >= 'a' && d <= 'f')
            c = c * 16 + (uint32_t)(d - 'a' + 10);
        else
            return false;
    }
    *out = c;
    return true;
}

/* At the '&': put the character, return the length taken. */
static size_t reference(struct buf *b, slice s)
{
    size_t n = 1;
    uint32_t c;
    slice name;

    while (n < s.n && n < 12 && (ascii_isalnum(s.p[n]) || s.p[n] == '#'))
        n++;
    name = slice_sub(s, 1, n - 1);
    if (n < s.n && s.p[n] == ';')
        n++;
    if (name.n > 1 && name.p[0] == '#' && number_reference(name, &c)) {
        put_char(b, c);
        return n;
    }
    for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
        if (slice_eqs(name, entities[i].name)) {
            put_char(b, entities[i].c);
            return n;
        }
    }
    buf_byte(b, '&');
    return 1;
}

/* Length of the tag at the '<', quoted attribute values passed over. */
static size_t tag_length(slice s)
{
    char quote = '\0';

    for (size_t i = 1; i < s.n; i++) {
        if (quote != '\0') {
            if (s.p[i] == quote)
                quote = '\0';
        } else if ((s.p[i] == '"' || s.p[i] == '\'') && s.p[i - 1] == '=') {
            quote = s.p[i];
        } else if (s.p[i] == '>') {
            return i + 1;
        }
    }
    return s.n;
}

static slice tag_name(slice tag)
{
    size_t n = 0;

    tag = slice_from(tag, 1);
    if (tag.n > 0 && tag.p[0] == '/')
        tag = slice_from(tag, 1);
    while (n < tag.n && ascii_isalnum(tag.p[n]))
        n++;
    return slice_sub(tag, 0, n);
}

/* Behind "<style>": the length up to and with "</style>". */
static size_t silent_length(slice s, slice name)
{
    size_t i = 0;

    while (i < s.n) {
        ssize_t at = slice_find(slice_from(s, i), SL("</"));

        if (at < 0)
            break;
        i += (size_t)at;
        if (slice_ieq(slice_sub(s, i + 2, name.n), name))
            return i + tag_length(slice_from(s, i));
        i += 2;
    }
    return s.n;
}

struct html {
    struct buf *out;
    unsigned quote_depth; /* of blockquote */
};

/* At a '<': what it is goes; returns the length taken. */
static size_t markup(struct html *h, slice s)
{
    size_t n;
    slice name;

    if (slice_starts(s, SL("<!--"))) {
        ssize_t end = slice_find(s, SL("-->"));

        return end < 0 ? s.n : (size_t)end + 3;
    }
    if (s.n < 2 || (!ascii_isalpha(s.p[1]) && strchr("/!?", s.p[1]) == NULL)) {
        buf_byte(h->out, '<');
        return 1;
    }
    n = tag_length(s);
    name = tag_name(slice_sub(s, 0, n));
    if (slice_ieqs(name, "blockquote")) {
        if (s.p[1] != '/')
            h->quote_depth++;
        else if (h->quote_depth > 0)
            h->quote_depth--;
    }
    if (s.p[1] != '/' && named(name, silent, ARRAY_LEN(silent)))
        return n + silent_length(slice_from(s, n), name);
    if (!named(name, inline_tags, ARRAY_LEN(inline_tags)))
        buf_byte(h->out, ' ');
    return n;
}

bool priv_html_to_text(struct buf *b, slice html)
{
    struct html h = { .out = b };

    while (html.n > 0 && !b->overflow) {
        size_t n = 1;
        size_t before = b->n;

        if (html.p[0] == '<')
            n = markup(&h, html);
        else if (html.p[0] == '&')
            n = reference(b, html);
        else
            buf_byte(b, html.p[0]);
        if (h.quote_depth > 0)
            b->n = before;
        html = slice_from(html, n);
    }
    return !b->overflow;
}
