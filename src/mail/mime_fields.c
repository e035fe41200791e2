/* The header fields that describe a part. */
#include "mail/mime.h"

#include "base/base.h"

#include "mail/mail_priv.h"
#include "mail/mime_priv.h"

struct sink {
    struct arena *a;
    struct mail_part *part;
    slice value; /* raw, in the parser's buffer */
    slice *boundary;
};

/* Copy into the arena; a NUL becomes U+FFFD, since the strings made of it may
 * hold none. */
static bool keep_text(struct arena *a, slice s, slice *out)
{
    slice copy;

    if (s.n > 0 && memchr(s.p, '\0', s.n) != NULL) {
        struct buf b CLEANUP(buf_done) = { 0 };

        buf_init(&b, 3 * s.n);
        for (size_t i = 0; i < s.n; i++) {
            if (s.p[i] == '\0')
                buf_puts(&b, "\xEF\xBF\xBD");
            else
                buf_byte(&b, s.p[i]);
        }
        copy = priv_dup(a, &b);
    } else {
        copy = slice_dup(a, s);
    }
    if (copy.p == NULL)
        return false;
    *out = copy;
    return true;
}

/* The first field of the name counts. */
static bool keep_first(struct sink *s, slice *out)
{
    return out->p != NULL || keep_text(s->a, s->value, out);
}

static bool take_boundary(struct sink *s, const struct mail_value *v)
{
    struct mail_pair pairs[MAIL_PAIRS_MAX];
    struct buf work CLEANUP(buf_done) = { 0 };
    size_t n;

    buf_init(&work, PRIV_WORK_MAX);
    n = priv_params_joined(v, pairs, &work);
    for (size_t i = 0; i < n; i++) {
        if (slice_ieqs(pairs[i].name, "boundary"))
            return keep_text(s->a, pairs[i].value, s->boundary);
    }
    return true;
}

static bool take_type(struct sink *s)
{
    struct mail_part *p = s->part;
    slice value;

    if (p->has_type)
        return true;
    p->has_type = true;
    if (!keep_text(s->a, s->value, &value) ||
        !mail_content_type_parse(s->a, value, &p->type))
        return false;
    if (slice_ieqs(p->type.type, "multipart")) {
        p->is_multipart = true;
        p->is_digest = slice_ieqs(p->type.subtype, "digest");
        return take_boundary(s, &p->type);
    }
    p->is_message = slice_ieqs(p->type.type, "message") &&
                    slice_ieqs(p->type.subtype, "rfc822");
    p->is_text = slice_ieqs(p->type.type, "text");
    return true;
}

static bool take_disposition(struct sink *s)
{
    struct mail_part *p = s->part;
    slice value;

    if (!keep_text(s->a, s->value, &value) ||
        !mail_disposition_parse(s->a, value, &p->disposition))
        return false;
    p->has_disposition = true;
    return true;
}

/* One token and nothing behind it. */
static bool take_encoding(struct sink *s)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct lex l;

    buf_init(&b, s->value.n + 1);
    lex_init(&l, s->value, NULL);
    if (lex_skip(&l) != LEX_MORE || lex_mtoken(&l, &b) != LEX_END || b.n == 0)
        return true;
    return keep_text(s->a, buf_view(&b), &s->part->encoding);
}

static bool take_id(struct sink *s)
{
    return keep_first(s, &s->part->id);
}

static bool take_description(struct sink *s)
{
    return keep_first(s, &s->part->description);
}

static bool take_md5(struct sink *s)
{
    return keep_first(s, &s->part->md5);
}

static bool take_language(struct sink *s)
{
    return keep_first(s, &s->part->language);
}

static bool take_location(struct sink *s)
{
    return keep_first(s, &s->part->location);
}

static const struct {
    const char *name;
    bool (*take)(struct sink *s);
} content_fields[] = {
    { "content-type", take_type },
    { "content-transfer-encoding", take_encoding },
    { "content-disposition", take_disposition },
    { "content-id", take_id },
    { "content-description", take_description },
    { "content-md5", take_md5 },
    { "content-language", take_language },
    { "content-location", take_location },
};

#define ENVELOPE(member) offsetof(struct mail_envelope, member)

static const struct {
    const char *name;
    size_t at;
    bool is_list;
} envelope_fields[] = {
    { "date", ENVELOPE(date), false },
    { "subject", ENVELOPE(subject), false },
    { "from", ENVELOPE(from), true },
    { "sender", ENVELOPE(sender), true },
    { "reply-to", ENVELOPE(reply_to), true },
    { "to", ENVELOPE(to), true },
    { "cc", ENVELOPE(cc), true },
    { "bcc", ENVELOPE(bcc), true },
    { "in-reply-to", ENVELOPE(in_reply_to), false },
    { "message-id", ENVELOPE(message_id), false },
};

static bool add_value(struct sink *s, struct mail_values **list)
{
    struct mail_values *v = arena_alloc(s->a, sizeof *v);

    if (v == NULL || !keep_text(s->a, s->value, &v->value))
        return false;
    while (*list != NULL)
        list = &(*list)->next;
    *list = v;
    return true;
}

static bool take_envelope(struct sink *s, slice name)
{
    struct mail_part *p = s->part;

    for (size_t i = 0; i < ARRAY_LEN(envelope_fields); i++) {
        char *at;

        if (!slice_ieqs(name, envelope_fields[i].name))
            continue;
        if (p->envelope == NULL)
            p->envelope = arena_alloc(s->a, sizeof *p->envelope);
        if (p->envelope == NULL)
            return false;
        at = (char *)p->envelope + envelope_fields[i].at;
        if (envelope_fields[i].is_list)
            return add_value(s, (struct mail_values **)(void *)at);
        return keep_text(s->a, s->value, (slice *)(void *)at);
    }
    return true;
}

/* Everything before the colon, less blanks, names the field: unlike new mail,
 * stored mail is read with any name. */
static bool split_field(slice field, slice *name, slice *value)
{
    ssize_t colon = slice_chr(field, ':');
    ssize_t lf = slice_chr(field, '\n');

    if (colon < 0 || (lf >= 0 && lf < colon))
        return false;
    *name = slice_sub(field, 0, (size_t)colon);
    while (name->n > 0 &&
           (name->p[name->n - 1] == ' ' || name->p[name->n - 1] == '\t'))
        name->n--;
    *value = slice_from(field, (size_t)colon + 1);
    while (value->n > 0 && (value->p[0] == ' ' || value->p[0] == '\t'))
        *value = slice_from(*value, 1);
    if (value->n > 0 && value->p[value->n - 1] == '\n')
        value->n--;
    if (value->n > 0 && value->p[value->n - 1] == '\r')
        value->n--;
    return true;
}

bool priv_part_field(struct arena *a, struct mail_part *p, slice field,
                     slice *boundary)
{
    struct sink s = { .a = a, .part = p, .boundary = boundary };
    slice name;

    if (!split_field(field, &name, &s.value))
        return true;
    if (slice_istarts(name, SL("content-"))) {
        for (size_t i = 0; i < ARRAY_LEN(content_fields); i++) {
            if (slice_ieqs(name, content_fields[i].name))
                return content_fields[i].take(&s);
        }
        return true;
    }
    if (p->parent == NULL || p->parent->is_message)
        return take_envelope(&s, name);
    return true;
}

/* ---- RFC 2231 pieces as Dovecot joins them ---- */

struct piece {
    slice key; /* without the marks */
    uint64_t number;
    bool coded;
    bool used;
};

/* "key*", "key*3", "key*3*"; false for a plain name. */
static bool piece_parse(slice name, struct piece *out)
{
    ssize_t star = slice_chr(name, '*');
    slice rest;
    struct piece p = { .number = 0 };

    if (star < 0)
        return false;
    p.key = slice_sub(name, 0, (size_t)star);
    rest = slice_from(name, (size_t)star + 1);
    if (rest.n == 0) {
        p.coded = true;
        *out = p;
        return true;
    }
    if (rest.p[rest.n - 1] == '*') {
        p.coded = true;
        rest.n--;
    }
    if (!slice_u64(rest, &p.number))
        return false;
    *out = p;
    return true;
}

/* Find piece `number` of `key`. */
static const struct mail_pair *piece_find(const struct mail_value *v, slice key,
                                          uint64_t number, bool *coded)
{
    for (size_t i = 0; i < v->n_pairs; i++) {
        struct piece p;

        if (piece_parse(v->pairs[i].name, &p) && p.number == number &&
            slice_ieq(p.key, key)) {
            *coded = p.coded;
            return &v->pairs[i];
        }
    }
    return NULL;
}

static void put_escaped(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c > ' ' && c < 0x7F && (lex_is_mtoken((char)c) || c == '.') &&
            strchr("*'%", c) == NULL)
            buf_byte(b, (char)c);
        else
            buf_printf(b, "%%%02x", c);
    }
}

/* Join the pieces of `key` into *out. */
static void join_pieces(const struct mail_value *v, slice key,
                        struct mail_pair *out, struct buf *work)
{
    const struct mail_pair *p;
    size_t name_at, value_at;
    bool coded, any = false;

    for (uint64_t n = 0; (p = piece_find(v, key, n, &coded)) != NULL; n++)
        any |= coded;
    name_at = work->n;
    buf_slice(work, key);
    if (any)
        buf_byte(work, '*');
    value_at = work->n;
    for (uint64_t n = 0; (p = piece_find(v, key, n, &coded)) != NULL; n++) {
        if (any && !coded)
            put_escaped(work, p->value);
        else
            buf_slice(work, p->value);
    }
    /* Offsets for now: `work` may still move. */
    out->name = (slice){ NULL, value_at - name_at };
    out->value = (slice){ NULL, work->n - value_at };
}

/* The smallest key after `last` (all, when it is empty). */
static bool next_key(const struct mail_value *v, slice last, slice *out)
{
    bool found = false;

    for (size_t i = 0; i < v->n_pairs; i++) {
        struct piece p;

        if (!piece_parse(v->pairs[i].name, &p) || p.number != 0)
            continue;
        if (last.p != NULL && slice_cmp(p.key, last) <= 0)
            continue;
        if (!found || slice_cmp(p.key, *out) < 0)
            *out = p.key;
        found = true;
    }
    return found;
}

size_t priv_params_joined(const struct mail_value *v, struct mail_pair *out,
                          struct buf *work)
{
    size_t n = 0, n_plain, at = 0;
    slice key = SLICE_NONE;
    struct piece p;

    for (size_t i = 0; i < v->n_pairs; i++) {
        if (!piece_parse(v->pairs[i].name, &p))
            out[n++] = v->pairs[i];
    }
    n_plain = n;
    while (n < MAIL_PAIRS_MAX && next_key(v, key, &key))
        join_pieces(v, key, &out[n++], work);
    for (size_t i = n_plain; i < n; i++) {
        out[i].name.p = work->p + at;
        at += out[i].name.n;
        out[i].value.p = work->p + at;
        at += out[i].value.n;
    }
    return n;
}
