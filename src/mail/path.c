/* SMTP paths and ESMTP parameters. */
#include "mail/address.h"

#include "base/base.h"

#include "mail/domain.h"
#include "mail/mail_priv.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/*
 * The first argument of the command: up to a blank that stands outside quotes
 * and <>, as Postfix cuts it.  False when a quote or bracket stays open.
 */
static bool cut_argument(slice *in, slice *arg)
{
    size_t i = 0, start;
    bool quoted = false, angle = false;

    while (i < in->n && is_blank(in->p[i]))
        i++;
    for (start = i; i < in->n; i++) {
        char c = in->p[i];

        if (c == '\\') {
            if (++i == in->n)
                return false;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && c == '<') {
            angle = true;
        } else if (!quoted && c == '>') {
            angle = false;
        } else if (!quoted && !angle && is_blank(c)) {
            break;
        }
    }
    if (quoted || angle)
        return false;
    *arg = slice_sub(*in, start, i - start);
    *in = slice_from(*in, i);
    return true;
}

struct path_parser {
    struct lex lex;
    struct buf local;
    struct buf domain;
    bool has_domain;
    bool lenient;
};

/* Between tokens: nothing may stand there in strict mode. */
static bool gap(struct path_parser *p)
{
    return !p->lenient || lex_skip(&p->lex) != LEX_BAD;
}

/* "@one,@two:" is accepted and dropped (RFC 5321 appendix C). */
static bool skip_route(struct path_parser *p)
{
    bool in_literal = false;

    for (; p->lex.p < p->lex.end; p->lex.p++) {
        char c = *p->lex.p;

        if (c == '[')
            in_literal = true;
        else if (c == ']')
            in_literal = false;
        else if (c == '<' || c == '>' || c == '"')
            return false;
        else if (c == ':' && !in_literal) {
            p->lex.p++;
            return gap(p);
        }
    }
    return false;
}

static bool parse_quoted(struct path_parser *p)
{
    for (p->lex.p++; p->lex.p < p->lex.end; p->lex.p++) {
        char c = *p->lex.p;

        if (c == '"') {
            p->lex.p++;
            return true;
        }
        if (c == '\\' && ++p->lex.p < p->lex.end)
            c = *p->lex.p;
        buf_byte(&p->local, c);
    }
    return false;
}

/* Characters Postfix takes in an unquoted local part: whatever is no special
 * of the grammar, no control and no blank; dots where they come. */
static bool local_char(char c)
{
    return lex_is_atext(c) || c == '.';
}

static bool parse_local(struct path_parser *p)
{
    while (!lex_at_end(&p->lex)) {
        char c = *p->lex.p;

        if (c == '"') {
            if (!parse_quoted(p))
                return false;
        } else if (c == '\\' && p->lex.p + 1 < p->lex.end) {
            buf_byte(&p->local, p->lex.p[1]); /* RFC 821 quoting */
            p->lex.p += 2;
        } else if (local_char(c)) {
            buf_byte(&p->local, c);
            p->lex.p++;
        } else {
            break;
        }
        if (p->lenient && (lex_is(&p->lex, ' ') || lex_is(&p->lex, '(') ||
                           lex_is(&p->lex, '\t')))
            return gap(p);
    }
    return true;
}

static bool parse_path_domain(struct path_parser *p)
{
    const char *start;

    p->has_domain = true;
    p->lex.p++;
    if (!gap(p))
        return false;
    if (lex_is(&p->lex, '[')) {
        start = p->lex.p;
        while (p->lex.p < p->lex.end && *p->lex.p != ']' &&
               (unsigned char)*p->lex.p > ' ')
            p->lex.p++;
        if (!lex_is(&p->lex, ']'))
            return false;
        p->lex.p++;
        return buf_put(&p->domain, start, (size_t)(p->lex.p - start)) && gap(p);
    }
    for (; p->lex.p < p->lex.end && local_char(*p->lex.p); p->lex.p++)
        buf_byte(&p->domain, *p->lex.p);
    return gap(p);
}

/* The whole argument; *in_angle tells whether it stood in <>. */
static bool parse_argument(struct path_parser *p, bool *in_angle)
{
    if (!gap(p))
        return false;
    *in_angle = lex_is(&p->lex, '<');
    if (*in_angle) {
        p->lex.p++;
        if (!gap(p))
            return false;
    }
    if (lex_is(&p->lex, '@') && !skip_route(p))
        return false;
    if (!parse_local(p))
        return false;
    if (lex_is(&p->lex, '@') && !parse_path_domain(p))
        return false;
    /* user@one@two: what stood before the last @ is the local part. */
    while (lex_is(&p->lex, '@')) {
        buf_byte(&p->local, '@');
        buf_slice(&p->local, buf_view(&p->domain));
        buf_clear(&p->domain);
        if (!parse_path_domain(p))
            return false;
    }
    if (*in_angle) {
        if (!lex_is(&p->lex, '>'))
            return false;
        p->lex.p++;
        if (!gap(p))
            return false;
    }
    return lex_at_end(&p->lex);
}

static bool has_8bit_or_bad(slice s, unsigned flags, bool *bad)
{
    bool ascii = mail_is_ascii(s);

    *bad = false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < ' ' || c == 0x7F)
            *bad = true; /* no control character in an envelope */
    }
    if (!ascii && (flags & MAIL_PATH_8BIT) == 0)
        *bad |= (flags & MAIL_PATH_UTF8) == 0 || !mail_utf8_valid(s);
    return !ascii;
}

/* Put the result together; false when it breaks a limit or a rule. */
static bool path_finish(struct arena *a, struct path_parser *p, unsigned flags,
                        bool in_angle, struct mail_path *out)
{
    slice local = buf_view(&p->local), domain = buf_view(&p->domain);
    struct buf whole CLEANUP(buf_done) = { 0 };
    struct mail_path path = { .has_domain = p->has_domain };
    uint8_t addr[16];
    int family;
    bool bad;

    if (p->local.overflow || p->domain.overflow || domain.n > MAIL_DOMAIN_MAX)
        return false;
    if ((flags & MAIL_PATH_LOCAL_MAX) != 0 && local.n > MAIL_LOCAL_MAX)
        return false;
    if (p->has_domain && (domain.n == 0 || local.n == 0))
        return false;
    if (local.n == 0 && ((flags & MAIL_PATH_NULL) == 0 || !in_angle))
        return false;
    if (domain.n > 0 && domain.p[0] == '[') {
        path.is_literal = mail_literal_parse(domain, &family, addr);
        if (!path.is_literal)
            return false;
    }
    buf_init(&whole, MAIL_ADDRESS_MAX);
    buf_slice(&whole, local);
    if (p->has_domain) {
        buf_byte(&whole, '@');
        buf_slice(&whole, domain);
    }
    if (whole.overflow)
        return false;
    path.has_8bit = has_8bit_or_bad(buf_view(&whole), flags, &bad);
    if (bad)
        return false;
    if (whole.n > 0) {
        path.addr = priv_dup(a, &whole);
        if (path.addr.p == NULL)
            return false;
    }
    path.local = slice_sub(path.addr, 0, local.n);
    path.domain = slice_from(path.addr, path.addr.n - domain.n);
    *out = path;
    return true;
}

int mail_path_parse(struct arena *a, slice *in, unsigned flags,
                    struct mail_path *out, struct err *err)
{
    struct path_parser p = { .lenient = (flags & MAIL_PATH_STRICT) == 0 };
    slice rest = *in, arg;
    bool in_angle = false, ok;

    if (!cut_argument(&rest, &arg) || arg.n == 0)
        goto bad;
    lex_init(&p.lex, arg, NULL);
    buf_init(&p.local, MAIL_ADDRESS_MAX);
    buf_init(&p.domain, MAIL_ADDRESS_MAX);
    ok = parse_argument(&p, &in_angle) && (p.lenient || in_angle) &&
         path_finish(a, &p, flags, in_angle, out);
    buf_done(&p.local);
    buf_done(&p.domain);
    if (ok) {
        *in = rest;
        return 0;
    }
bad:
    if ((flags & MAIL_PATH_NULL) != 0)
        return err_set(err, ERR_PERM, "5.1.7", "Bad sender address syntax");
    return err_set(err, ERR_PERM, "5.1.3", "Bad recipient address syntax");
}

/* RFC 5321 4.1.2 esmtp-keyword and esmtp-value. */
static bool param_valid(slice key, slice value)
{
    if (key.n == 0 || !ascii_isalnum(key.p[0]))
        return false;
    for (size_t i = 1; i < key.n; i++) {
        if (!ascii_isalnum(key.p[i]) && key.p[i] != '-')
            return false;
    }
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if (c < 33 || c == 127)
            return false;
    }
    return true;
}

int mail_param_next(slice *in, struct mail_param *out)
{
    struct mail_param got = { .has_value = false };
    slice token;

    if (!slice_token(in, " \t\r\n", &token))
        return 0;
    got.value = token;
    got.has_value = slice_cut(&got.value, '=', &got.key);
    if (!param_valid(got.key, got.value) ||
        (got.has_value && got.value.n == 0)) {
        out->key = token;
        return -1;
    }
    *out = got;
    return 1;
}

bool mail_xtext_put(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 33 || c > 126 || c == '+' || c == '=')
            buf_printf(b, "+%02X", c);
        else
            buf_byte(b, (char)c);
    }
    return !b->overflow;
}

bool mail_xtext_get(struct buf *b, slice s)
{
    size_t before = b->n;

    for (size_t i = 0; i < s.n; i++) {
        int hi, lo;

        if ((unsigned char)s.p[i] < 33 || (unsigned char)s.p[i] > 126 ||
            s.p[i] == '=')
            goto undo;
        if (s.p[i] != '+') {
            buf_byte(b, s.p[i]);
            continue;
        }
        if (s.n - i < 3)
            goto undo;
        hi = priv_hex(s.p[i + 1]);
        lo = priv_hex(s.p[i + 2]);
        if (hi < 0 || lo < 0)
            goto undo;
        buf_byte(b, (char)(hi << 4 | lo));
        i += 2;
    }
    if (!b->overflow)
        return true;
undo:
    b->n = before;
    return false;
}

/* Append the character as UTF-8; false when it is none. */
static bool put_utf8(struct buf *b, uint32_t c)
{
    if (c < 0x80)
        return buf_byte(b, (char)c);
    if (c < 0x800) {
        buf_byte(b, (char)(0xC0 | c >> 6));
        return buf_byte(b, (char)(0x80 | (c & 0x3F)));
    }
    if (c >= 0xD800 && c <= 0xDFFF)
        return false;
    if (c < 0x10000) {
        buf_byte(b, (char)(0xE0 | c >> 12));
    } else if (c <= 0x10FFFF) {
        buf_byte(b, (char)(0xF0 | c >> 18));
        buf_byte(b, (char)(0x80 | (c >> 12 & 0x3F)));
    } else {
        return false;
    }
    buf_byte(b, (char)(0x80 | (c >> 6 & 0x3F)));
    return buf_byte(b, (char)(0x80 | (c & 0x3F)));
}

/* "\x{HEX}" at the front of s: its length, 0 when malformed. */
static size_t embedded_char(slice s, uint32_t *out)
{
    size_t i = 3;
    uint32_t c = 0;

    if (!slice_starts(s, SL("\\x{")))
        return 0;
    for (; i < s.n && s.p[i] != '}'; i++) {
        int d = priv_hex(s.p[i]);

        if (d < 0 || i > 8)
            return 0;
        c = c << 4 | (uint32_t)d;
    }
    if (i == 3 || i == s.n)
        return 0;
    *out = c;
    return i + 1;
}

/* The code point of a sequence that mail_utf8_len() has measured. */
static uint32_t code_point(const char *p, size_t n)
{
    uint32_t c = (unsigned char)*p;

    if (n > 1)
        c &= n == 2 ? 0x1Fu : n == 3 ? 0x0Fu : 0x07u;
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)p[i] & 0x3Fu);
    return c;
}

bool mail_uxtext_put(struct buf *b, slice s, bool with_utf8)
{
    while (s.p != NULL && s.n > 0) {
        size_t n = mail_utf8_len(s);
        slice one = slice_sub(s, 0, n > 0 ? n : 1);
        char c = *s.p;

        /* QCHAR: what is printable, but for "+", "=" and the backslash. */
        if (one.n == 1 && c > ' ' && c <= '~' && c != '\\' && c != '+' &&
            c != '=')
            buf_byte(b, c);
        else if (one.n > 1 && with_utf8)
            buf_slice(b, one);
        else
            buf_printf(b, "\\x{%02X}", code_point(one.p, one.n));
        s = slice_from(s, one.n);
    }
    return !b->overflow;
}

bool mail_uxtext_get(struct buf *b, slice s)
{
    size_t before = b->n;

    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        size_t len;

        if (s.p[i] != '\\') {
            buf_byte(b, s.p[i++]);
            continue;
        }
        len = embedded_char(slice_from(s, i), &c);
        if (len == 0 || !put_utf8(b, c))
            goto undo;
        i += len;
    }
    if (!b->overflow && mail_utf8_valid(slice_from(buf_view(b), before)))
        return true;
undo:
    b->n = before;
    return false;
}
