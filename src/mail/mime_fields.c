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
    if (slice_ieqs(p->type.type, "multipart") && p->type.subtype.n > 0) {
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

    /* The first with parameters counts, else the last. */
    if (p->disposition.n_pairs > 0)
        return true;
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

    if (s->part->encoding.p != NULL)
        return true;
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

/* The first that names a language counts. */
static bool take_language(struct sink *s)
{
    struct lex l;

    lex_init(&l, s->value, NULL);
    if (lex_skip(&l) != LEX_MORE || !lex_is_atext(*l.p))
        return true;
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

/* The blanks behind the colon; where nothing follows them on the line only
 * one goes, as Dovecot does. */
static size_t leading_blanks(slice value)
{
    size_t n = 0;

    while (n < value.n && (value.p[n] == ' ' || value.p[n] == '\t'))
        n++;
    if (n > 1 && (n == value.n || value.p[n] == '\n' ||
                  slice_starts(slice_from(value, n), SL("\r\n"))))
        n = 1;
    return n;
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
    *value = slice_from(*value, leading_blanks(*value));
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
    if (slice_ieqs(name, "mime-version"))
        p->is_mime = true;
    if (p->parent == NULL || p->parent->is_message)
        return take_envelope(&s, name);
    return true;
}

/* ---- RFC 2231 pieces as Dovecot joins them ---- */

struct piece {
    slice key; /* without the marks */
    uint32_t number;
    bool coded;
};

/* "key*", "key*3", "key*3*"; false for a plain name. */
static bool piece_parse(slice name, struct piece *out)
{
    ssize_t star = slice_chr(name, '*');
    struct piece p = { .coded = true };
    size_t i;

    if (star < 0)
        return false;
    p.key = slice_sub(name, 0, (size_t)star);
    i = (size_t)star + 1;
    if (i < name.n) {
        for (; i < name.n && ascii_isdigit(name.p[i]); i++)
            p.number = p.number * 10 + (uint32_t)(name.p[i] - '0');
        p.coded = i < name.n && name.p[i] == '*';
        i += p.coded;
    }
    if (i < name.n)
        return false;
    *out = p;
    return true;
}

/* Where a pair with marks stands: by key, then number, then place. */
static bool piece_less(const struct mail_value *v, size_t a, size_t b)
{
    struct piece pa = { .coded = false }, pb = pa;
    int c;

    if (!piece_parse(v->pairs[a].name, &pa) ||
        !piece_parse(v->pairs[b].name, &pb))
        return false;
    c = slice_cmp(pa.key, pb.key);
    if (c != 0)
        return c < 0;
    return pa.number != pb.number ? pa.number < pb.number : a < b;
}

/* A group is the sorted pieces of one key: order[from..to). */
struct group {
    size_t from, to;
    bool complete; /* numbered 0, 1, 2, … */
    bool coded;    /* any of them is */
};

static struct group next_group(const struct mail_value *v,
                               const unsigned char *order, size_t n,
                               size_t from)
{
    struct group g = { .from = from, .to = from, .complete = true };
    struct piece first = { .coded = false }, p = first;

    (void)piece_parse(v->pairs[order[from]].name, &first);
    while (g.to < n) {
        (void)piece_parse(v->pairs[order[g.to]].name, &p);
        if (!slice_eq(p.key, first.key))
            break;
        g.complete &= p.number == g.to - from;
        g.coded |= p.coded;
        g.to++;
    }
    return g;
}

/* Lengths for now: `work` may still move. */
static void pair_done(struct mail_pair *out, const struct buf *work,
                      size_t name_at, size_t value_at)
{
    out->name = (slice){ NULL, value_at - name_at };
    out->value = (slice){ NULL, work->n - value_at };
}

static void put_percent_escaped(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%')
            buf_puts(b, "%25");
        else
            buf_byte(b, s.p[i]);
    }
}

/* The pieces as one parameter: "key*" when any is coded. */
static void join_group(const struct mail_value *v, const unsigned char *order,
                       const struct group *g, struct mail_pair *out,
                       struct buf *work)
{
    size_t name_at = work->n, value_at;
    struct piece p = { .coded = false };

    (void)piece_parse(v->pairs[order[g->from]].name, &p);
    buf_slice(work, p.key);
    if (g->coded)
        buf_byte(work, '*');
    value_at = work->n;
    if (g->coded && !p.coded)
        buf_puts(work, "''"); /* no charset, no language */
    for (size_t i = g->from; i < g->to; i++) {
        slice value = v->pairs[order[i]].value;

        (void)piece_parse(v->pairs[order[i]].name, &p);
        if (g->coded && !p.coded)
            put_percent_escaped(work, value);
        else
            buf_slice(work, value);
    }
    pair_done(out, work, name_at, value_at);
}

/* Pieces that do not fit together are shown one by one. */
static void show_piece(const struct mail_pair *pair, struct mail_pair *out,
                       struct buf *work)
{
    size_t name_at = work->n, value_at;
    struct piece p = { .coded = false };

    (void)piece_parse(pair->name, &p);
    buf_slice(work, p.key);
    buf_printf(work, "*%" PRIu32 "%s", p.number, p.coded ? "*" : "");
    value_at = work->n;
    buf_slice(work, pair->value);
    pair_done(out, work, name_at, value_at);
}

/* Insertion sort: there are at most MAIL_PAIRS_MAX. */
static size_t sort_pieces(const struct mail_value *v, unsigned char *order)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_pairs; i++) {
        struct piece p;
        size_t at;

        if (!piece_parse(v->pairs[i].name, &p))
            continue;
        for (at = n++; at > 0 && piece_less(v, i, order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = (unsigned char)i;
    }
    return n;
}

size_t priv_params_joined(const struct mail_value *v, struct mail_pair *out,
                          struct buf *work)
{
    unsigned char order[MAIL_PAIRS_MAX];
    size_t n = 0, n_plain, n_pieces = sort_pieces(v, order), at = 0;
    struct piece p;

    for (size_t i = 0; i < v->n_pairs; i++) {
        if (!piece_parse(v->pairs[i].name, &p))
            out[n++] = v->pairs[i];
    }
    n_plain = n;
    for (size_t from = 0; from < n_pieces;) {
        struct group g = next_group(v, order, n_pieces, from);

        if (g.complete) {
            join_group(v, order, &g, &out[n++], work);
        } else {
            for (size_t i = g.from; i < g.to; i++)
                show_piece(&v->pairs[order[i]], &out[n++], work);
        }
        from = g.to;
    }
    for (size_t i = n_plain; i < n; i++) {
        out[i].name.p = work->p + at;
        at += out[i].name.n;
        out[i].value.p = work->p + at;
        at += out[i].value.n;
    }
    return n;
}
