#include "mail/mail_priv.h"

#include "base/base.h"

enum { ATEXT = 1, MTOKEN = 2 };

/* RFC 5322 3.2.3 atext, RFC 2045 5.1 token.  '.' is neither: dots are handled
 * where they may stand. */
static unsigned char_class(unsigned char c)
{
    if (c >= 0x80 || ascii_isalnum((char)c))
        return ATEXT | MTOKEN;
    if (c == '\0')
        return 0;
    if (strchr("!#$%&'*+-^_`{|}~", c) != NULL)
        return ATEXT | MTOKEN;
    if (strchr("/=?", c) != NULL)
        return ATEXT;
    return 0;
}

bool lex_is_atext(char c)
{
    return (char_class((unsigned char)c) & ATEXT) != 0;
}

bool lex_is_mtoken(char c)
{
    return (char_class((unsigned char)c) & MTOKEN) != 0;
}

void lex_init(struct lex *l, slice s, struct buf *comment)
{
    l->p = s.p;
    l->end = s.p == NULL ? NULL : s.p + s.n;
    l->comment = comment;
}

static enum lex_result lex_where(const struct lex *l)
{
    return lex_at_end(l) ? LEX_END : LEX_MORE;
}

static size_t comment_length(const struct lex *l)
{
    return l->comment == NULL ? 0 : l->comment->n;
}

/* Folding: the line end goes, the white space behind it stays. */
static bool is_crlf(const struct lex *l)
{
    return *l->p == '\r' && l->p + 1 < l->end && l->p[1] == '\n';
}

/*
 * At the '('.  Comments nest (RFC 5322 3.2.2).  One that never ends is bad, and
 * leaves only what stood before its last backslash or line end.
 */
static bool skip_comment(struct lex *l)
{
    unsigned depth = 0;
    size_t sure = 0;

    if (l->comment != NULL)
        buf_clear(l->comment);
    for (; l->p < l->end; l->p++) {
        char c = *l->p;

        if (c == '(' && depth++ == 0)
            continue;
        if (c == ')' && --depth == 0) {
            l->p++;
            return true;
        }
        if (depth > LEX_COMMENT_DEPTH)
            return false;
        if (c == '\\') {
            if (l->p + 1 == l->end)
                break;
            c = *++l->p;
            sure = comment_length(l);
        } else if (c == '\n' || is_crlf(l)) {
            sure = comment_length(l);
            continue;
        }
        if (l->comment != NULL)
            buf_byte(l->comment, c);
    }
    if (l->comment != NULL)
        l->comment->n = sure;
    return false;
}

enum lex_result lex_skip(struct lex *l)
{
    while (l->p < l->end) {
        if (*l->p == '(') {
            if (!skip_comment(l))
                return LEX_BAD;
        } else if (*l->p == ' ' || *l->p == '\t' || *l->p == '\r' ||
                   *l->p == '\n') {
            l->p++;
        } else {
            break;
        }
    }
    return lex_where(l);
}

/* One that never ends leaves only what stood before its last backslash or line
 * end, as comments do. */
enum lex_result lex_quoted(struct lex *l, struct buf *out)
{
    size_t sure = out->n;

    CHECK(lex_is(l, '"'));
    for (l->p++; l->p < l->end; l->p++) {
        char c = *l->p;

        if (c == '"') {
            l->p++;
            return lex_skip(l);
        }
        if (c == '\\') {
            if (l->p + 1 == l->end)
                break;
            /* A folding line end cannot be quoted. */
            if (l->p[1] != '\r' && l->p[1] != '\n')
                c = *++l->p;
            sure = out->n;
        } else if (c == '\n' || is_crlf(l)) {
            sure = out->n;
            continue;
        }
        buf_byte(out, c);
    }
    out->n = sure;
    return LEX_BAD;
}

enum lex_result lex_atom(struct lex *l, struct buf *out)
{
    const char *start = l->p;

    while (l->p < l->end && lex_is_atext(*l->p))
        l->p++;
    buf_put(out, start, (size_t)(l->p - start));
    return lex_skip(l);
}

enum lex_result lex_dot_atom(struct lex *l, struct buf *out)
{
    for (;;) {
        const char *start = l->p;
        enum lex_result r;

        while (l->p < l->end && lex_is_atext(*l->p))
            l->p++;
        if (l->p == start)
            return LEX_BAD;
        buf_put(out, start, (size_t)(l->p - start));
        r = lex_skip(l);
        if (r != LEX_MORE || *l->p != '.')
            return r;
        buf_byte(out, '.');
        l->p++;
        if (lex_skip(l) == LEX_BAD)
            return LEX_BAD;
    }
}

enum lex_result lex_loose_dots(struct lex *l, struct buf *out)
{
    for (;;) {
        const char *start = l->p;
        enum lex_result r;

        while (l->p < l->end && (lex_is_atext(*l->p) || *l->p == '.'))
            l->p++;
        if (l->p == start)
            return LEX_BAD;
        buf_put(out, start, (size_t)(l->p - start));
        if (lex_at_end(l))
            return LEX_END;
        if (l->p[-1] == '.')
            return *l->p == '@' ? LEX_MORE : LEX_BAD;
        r = lex_skip(l);
        if (r != LEX_MORE || *l->p != '.')
            return r;
    }
}

/* A run of atext and dots, maybe empty. */
static enum lex_result lex_dotted_word(struct lex *l, struct buf *out)
{
    const char *start = l->p;

    while (l->p < l->end && (lex_is_atext(*l->p) || *l->p == '.'))
        l->p++;
    buf_put(out, start, (size_t)(l->p - start));
    return lex_skip(l);
}

enum lex_result lex_phrase(struct lex *l, struct buf *out)
{
    if (lex_at_end(l))
        return LEX_END;
    if (*l->p == '.')
        return LEX_BAD;
    for (;;) {
        enum lex_result r;

        if (*l->p == '"')
            r = lex_quoted(l, out);
        else
            r = lex_dotted_word(l, out);
        if (r != LEX_MORE)
            return r;
        if (!lex_is_atext(*l->p) && *l->p != '"' && *l->p != '.')
            return LEX_MORE;
        buf_byte(out, ' ');
    }
}

enum lex_result lex_mtoken(struct lex *l, struct buf *out)
{
    const char *start = l->p;

    while (l->p < l->end && (lex_is_mtoken(*l->p) || *l->p == '.'))
        l->p++;
    buf_put(out, start, (size_t)(l->p - start));
    return lex_skip(l);
}

/* "[" … "]" with its brackets (RFC 5322 3.4.1 domain-literal). */
static enum lex_result lex_literal(struct lex *l, struct buf *out)
{
    buf_byte(out, '[');
    for (l->p++; l->p < l->end; l->p++) {
        char c = *l->p;

        if (c == '[')
            return LEX_BAD;
        if (c == '\\' && l->p + 1 < l->end) {
            buf_byte(out, c);
            c = *++l->p;
        } else if (c == '\n' || is_crlf(l))
            continue;
        buf_byte(out, c);
        if (c == ']') {
            l->p++;
            return lex_skip(l);
        }
    }
    return LEX_BAD;
}

enum lex_result lex_domain(struct lex *l, struct buf *out)
{
    enum lex_result r;

    CHECK(lex_is(l, '@'));
    l->p++;
    r = lex_skip(l);
    if (r != LEX_MORE)
        return r;
    if (*l->p == '[')
        return lex_literal(l, out);
    return lex_dot_atom(l, out);
}

slice priv_dup(struct arena *a, const struct buf *b)
{
    return slice_dup(a, buf_view(b));
}

int priv_hex(char c)
{
    if (ascii_isdigit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
