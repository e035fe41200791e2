/*
 * Structured header values with parameters: Content-Type, Content-Disposition
 * (RFC 2045 5.1, RFC 2183, RFC 2231).
 */
#include "mail/header.h"

#include "base/base.h"

#include "mail/charset.h"
#include "mail/mail_priv.h"

/* The value behind "name=".  Some senders write an encoded word there without
 * quotes: it is taken up to the next blank or ';'. */
static enum lex_result param_value(struct lex *l, struct buf *out)
{
    if (*l->p == '"')
        return lex_quoted(l, out);
    if (*l->p != '=')
        return lex_mtoken(l, out);
    while (l->p < l->end && *l->p != ';' && !ascii_isspace(*l->p))
        buf_byte(out, *l->p++);
    return lex_skip(l);
}

/* "; name = value" at the reader: 1 got one, 0 the end, -1 broken. */
static int next_pair(struct lex *l, struct buf *name, struct buf *value)
{
    enum lex_result r;

    buf_clear(name);
    buf_clear(value);
    if (lex_at_end(l))
        return 0;
    if (*l->p != ';')
        return -1;
    l->p++;
    r = lex_skip(l);
    if (r == LEX_BAD)
        return -1;
    if (r == LEX_END)
        return 0; /* a ';' at the end is harmless */
    if (lex_mtoken(l, name) != LEX_MORE || *l->p != '=')
        return -1;
    l->p++;
    r = lex_skip(l);
    if (r == LEX_BAD)
        return -1;
    if (r == LEX_END)
        return 1; /* "name=" and nothing: an empty value */
    return param_value(l, value) == LEX_BAD ? -1 : 1;
}

/* Pairs grow by steps: most values have one or two. */
#define PAIRS_STEP 6

static bool add_pair(struct arena *a, struct mail_value *v,
                     const struct buf *name, const struct buf *value)
{
    struct mail_pair *p;

    if (v->n_pairs == MAIL_PAIRS_MAX)
        return true;
    if (v->n_pairs % PAIRS_STEP == 0) {
        p = arena_alloc(a, (v->n_pairs + PAIRS_STEP) * sizeof *p);
        if (p == NULL)
            return false;
        if (v->n_pairs > 0)
            memcpy(p, v->pairs, v->n_pairs * sizeof *p);
        v->pairs = p;
    }
    p = &v->pairs[v->n_pairs];
    p->name = priv_dup(a, name);
    p->value = priv_dup(a, value);
    if (p->name.p == NULL || p->value.p == NULL)
        return false;
    v->n_pairs++;
    return true;
}

static bool parse_pairs(struct arena *a, struct lex *l, struct mail_value *v)
{
    struct buf name CLEANUP(buf_done) = { 0 }, value CLEANUP(buf_done) = { 0 };
    size_t max = (size_t)(l->end - l->p) + 16;
    int r;

    buf_init(&name, max);
    buf_init(&value, max);
    while ((r = next_pair(l, &name, &value)) != 0) {
        if (r > 0) {
            if (!add_pair(a, v, &name, &value))
                return false;
            continue;
        }
        v->is_broken = true;
        /* Go on at the next ';' that can be seen. */
        if (lex_at_end(l))
            break;
        l->p++;
    }
    return true;
}

/* Type and subtype as written; a type alone is let through.  "text/plain
 * charset=x" and the like say nothing for sure. */
static bool parse_type(struct lex *l, struct buf *type, struct buf *subtype)
{
    enum lex_result r;

    if (lex_skip(l) != LEX_MORE)
        return false;
    r = lex_mtoken(l, type);
    if (r == LEX_END)
        return type->n > 0;
    if (r == LEX_BAD || type->n == 0 || *l->p != '/')
        return false;
    l->p++;
    if (lex_skip(l) != LEX_MORE)
        return false;
    r = lex_mtoken(l, subtype);
    return subtype->n > 0 && (r == LEX_END || (r == LEX_MORE && *l->p == ';'));
}

static slice dup_or_empty(struct arena *a, const struct buf *b, bool *full)
{
    slice s = priv_dup(a, b);

    *full |= s.p == NULL;
    return s;
}

bool mail_content_type_parse(struct arena *a, slice raw, struct mail_value *out)
{
    struct buf type CLEANUP(buf_done) = { 0 },
                    subtype CLEANUP(buf_done) = { 0 };
    struct mail_value v = { .n_pairs = 0 };
    struct lex l;
    bool full = false;

    buf_init(&type, raw.n + 16);
    buf_init(&subtype, raw.n + 16);
    lex_init(&l, raw, NULL);
    v.is_broken = !parse_type(&l, &type, &subtype);
    if (v.is_broken) {
        buf_clear(&type);
        buf_clear(&subtype);
    }
    v.type = dup_or_empty(a, &type, &full);
    v.subtype = dup_or_empty(a, &subtype, &full);
    if (full || (!v.is_broken && !parse_pairs(a, &l, &v)))
        return false;
    *out = v;
    return true;
}

bool mail_disposition_parse(struct arena *a, slice raw, struct mail_value *out)
{
    struct buf type CLEANUP(buf_done) = { 0 };
    struct mail_value v = { .n_pairs = 0 };
    struct lex l;
    bool full = false;

    buf_init(&type, raw.n + 16);
    lex_init(&l, raw, NULL);
    if (lex_skip(&l) != LEX_MORE || lex_mtoken(&l, &type) == LEX_BAD)
        v.is_broken = true;
    v.type = dup_or_empty(a, &type, &full);
    if (full || (!v.is_broken && !parse_pairs(a, &l, &v)))
        return false;
    *out = v;
    return true;
}

/* ---- RFC 2231 ---- */

#define SEGMENTS_MAX 1000

/* Is this parameter a piece of `name`?  name*, name*N, name*N*. */
static bool piece_of(slice param, slice name, bool *coded, int *number)
{
    slice rest;
    uint64_t n;

    if (!slice_istarts(param, name) || param.n == name.n ||
        param.p[name.n] != '*')
        return false;
    rest = slice_from(param, name.n + 1);
    *coded = rest.n == 0 || rest.p[rest.n - 1] == '*';
    if (rest.n == 0) {
        *number = -1;
        return true;
    }
    if (*coded)
        rest.n--;
    if (!slice_u64(rest, &n) || n >= SEGMENTS_MAX)
        return false;
    *number = (int)n;
    return true;
}

static void put_percent(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        int hi = -1, lo = -1;

        if (s.p[i] == '%' && s.n - i > 2) {
            hi = priv_hex(s.p[i + 1]);
            lo = priv_hex(s.p[i + 2]);
        }
        if (hi < 0 || lo < 0) {
            buf_byte(b, s.p[i]);
        } else {
            buf_byte(b, (char)(hi << 4 | lo));
            i += 2;
        }
    }
}

/* Append one piece; the first coded one names the charset. */
static void put_piece(struct buf *b, slice value, bool coded, slice *charset)
{
    slice rest = value, cs, lang;

    if (!coded) {
        buf_slice(b, value);
        return;
    }
    if (charset->p == NULL && slice_cut(&rest, '\'', &cs) &&
        slice_cut(&rest, '\'', &lang)) {
        *charset = slice_of(cs.p == NULL ? "" : cs.p, cs.n);
        value = rest;
    }
    put_percent(b, value);
}

static bool find_piece(const struct mail_value *v, slice name, int number,
                       bool *coded, slice *value)
{
    for (size_t i = 0; i < v->n_pairs; i++) {
        int got;

        if (!piece_of(v->pairs[i].name, name, coded, &got) || got != number)
            continue;
        *value = v->pairs[i].value;
        return true;
    }
    return false;
}

static bool finish_param(struct arena *a, struct buf *bytes, slice charset,
                         slice *out)
{
    struct buf text CLEANUP(buf_done) = { 0 };
    slice got;

    buf_init(&text, 4 * bytes->n + 16);
    if (charset.n > 0)
        mail_charset_to_utf8(&text, charset, buf_view(bytes));
    else
        mail_utf8_clean(&text, buf_view(bytes));
    got = priv_dup(a, &text);
    if (got.p == NULL)
        return false;
    *out = got;
    return true;
}

bool mail_value_param(struct arena *a, const struct mail_value *v,
                      const char *name, slice *out)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    slice key = slice_str(name), charset = SLICE_NONE, value;
    size_t total = 16;
    bool coded, any = false;

    for (size_t i = 0; i < v->n_pairs; i++)
        total += v->pairs[i].value.n;
    buf_init(&b, 4 * total);
    if (find_piece(v, key, -1, &coded, &value)) {
        put_piece(&b, value, true, &charset);
        return finish_param(a, &b, charset, out);
    }
    for (int n = 0; find_piece(v, key, n, &coded, &value); n++) {
        put_piece(&b, value, coded, &charset);
        any = true;
    }
    if (any)
        return finish_param(a, &b, charset, out);
    for (size_t i = 0; i < v->n_pairs; i++) {
        if (!slice_ieq(v->pairs[i].name, key))
            continue;
        mail_words_decode(&b, v->pairs[i].value);
        value = priv_dup(a, &b);
        if (value.p == NULL)
            return false;
        *out = value;
        return true;
    }
    return false;
}
