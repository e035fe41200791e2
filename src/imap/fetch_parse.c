/* What FETCH is asked for: RFC 3501 6.4.5, RFC 7162 3.1.4, RFC 8474, 8514,
 * 8970. */
#include "imap/fetch.h"

#include "mail/header.h"

static const struct {
    const char *name;
    unsigned items;
} simple[] = {
    { "UID", FETCH_UID },           { "FLAGS", FETCH_FLAGS },
    { "INTERNALDATE", FETCH_DATE }, { "RFC822.SIZE", FETCH_SIZE },
    { "ENVELOPE", FETCH_ENVELOPE }, { "BODYSTRUCTURE", FETCH_STRUCTURE },
    { "BODY", FETCH_BODY },         { "MODSEQ", FETCH_MODSEQ },
    { "EMAILID", FETCH_EMAILID },   { "THREADID", FETCH_THREADID },
    { "SAVEDATE", FETCH_SAVEDATE }, { "PREVIEW", FETCH_PREVIEW },
};

static const struct {
    const char *name;
    unsigned items;
} macros[] = {
    { "ALL", FETCH_FLAGS | FETCH_DATE | FETCH_SIZE | FETCH_ENVELOPE },
    { "FAST", FETCH_FLAGS | FETCH_DATE | FETCH_SIZE },
    { "FULL",
      FETCH_FLAGS | FETCH_DATE | FETCH_SIZE | FETCH_ENVELOPE | FETCH_BODY },
};

/* Letters, digits and dots: names of items and of sections. */
static slice word(struct imap_cursor *c)
{
    size_t n = 0;
    slice out;

    while (n < c->rest.n &&
           (ascii_isalnum(c->rest.p[n]) || c->rest.p[n] == '.'))
        n++;
    out = slice_sub(c->rest, 0, n);
    c->rest = slice_from(c->rest, n);
    return out;
}

static struct fetch_section *add_section(struct fetch *f)
{
    struct fetch_section **at = &f->sections;
    struct fetch_section *sec =
        arena_alloc(f->c->arena, sizeof(struct fetch_section));
    size_t n = 0;

    for (; *at != NULL; at = &(*at)->next)
        n++;
    if (sec != NULL && n < FETCH_SECTIONS_MAX)
        *at = sec;
    else
        sec = NULL;
    return sec;
}

/* "1.2." in front of a section's name; the rest of `text` is the name. */
static bool part_number(slice *text, slice *part)
{
    size_t at = 0;
    size_t end = 0;

    while (at < text->n && ascii_isdigit(text->p[at])) {
        if (text->p[at] == '0')
            return false;
        while (at < text->n && ascii_isdigit(text->p[at]))
            at++;
        end = at;
        if (at == text->n)
            break;
        if (text->p[at] != '.')
            return false;
        at++;
    }
    if (end > 0 && at == text->n && end < at)
        return false; /* "1." */
    *part = slice_sub(*text, 0, end);
    *text = slice_from(*text, at);
    return true;
}

static bool kind_of(slice name, bool has_part, enum fetch_kind *out)
{
    static const struct {
        const char *name;
        enum fetch_kind kind;
    } kinds[] = {
        { "HEADER", FETCH_HEADER },
        { "HEADER.FIELDS", FETCH_FIELDS },
        { "HEADER.FIELDS.NOT", FETCH_FIELDS_NOT },
        { "TEXT", FETCH_TEXT },
    };

    *out = FETCH_ALL;
    if (name.n == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (slice_ieqs(name, kinds[i].name)) {
            *out = kinds[i].kind;
            return true;
        }
    }
    *out = FETCH_MIME;
    return has_part && slice_ieqs(name, "MIME");
}

/* " (From To)" */
static bool field_names(struct imap_cursor *c, struct fetch_section *sec)
{
    enum { MOST = 1000 };

    slice *v = arena_alloc(c->arena, MOST * sizeof *v);

    if (v == NULL || !imap_sp(c) || !imap_eat(c, '('))
        return false;
    do {
        if (sec->n_fields == MOST || !imap_astring(c, &v[sec->n_fields]))
            return false;
        sec->n_fields++;
    } while (imap_sp(c));
    sec->fields = v;
    return imap_eat(c, ')');
}

static void put_upper(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_byte(b, ascii_upper(s.p[i]));
}

/* A field's name as the client hears it again. */
static void put_field(struct buf *b, slice name)
{
    bool plain = mail_header_name_valid(name);

    for (size_t i = 0; plain && i < name.n; i++)
        plain = strchr("(){%*\"\\]", name.p[i]) == NULL;
    if (plain) {
        buf_slice(b, name);
        return;
    }
    buf_byte(b, '"');
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            buf_byte(b, '\\');
        buf_byte(b, (unsigned char)name.p[i] < ' ' ? '?' : name.p[i]);
    }
    buf_byte(b, '"');
}

static bool make_label(struct fetch *f, struct fetch_section *sec, slice name)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 4 * (size_t)IMAP_COMMAND_MAX);
    buf_puts(&b, "BODY[");
    buf_slice(&b, sec->part);
    if (sec->part.n > 0 && name.n > 0)
        buf_byte(&b, '.');
    put_upper(&b, name);
    for (size_t i = 0; i < sec->n_fields; i++) {
        buf_puts(&b, i == 0 ? " (" : " ");
        put_field(&b, sec->fields[i]);
    }
    buf_puts(&b, sec->n_fields > 0 ? ")]" : "]");
    if (sec->is_partial) {
        buf_byte(&b, '<');
        imap_u64(&b, sec->from);
        buf_byte(&b, '>');
    }
    sec->label = slice_dup(f->c->arena, buf_view(&b));
    return !b.overflow && sec->label.p != NULL;
}

/* "<0.1000>"; without the number of bytes it is all that follows. */
static bool partial(struct imap_cursor *c, struct fetch_section *sec)
{
    sec->count = UINT64_MAX;
    if (!imap_eat(c, '<'))
        return true;
    sec->is_partial = true;
    if (!imap_number(c, &sec->from))
        return false;
    if (imap_eat(c, '.') && !imap_number(c, &sec->count))
        return false;
    return imap_eat(c, '>');
}

/* Behind "BODY[" or "BODY.PEEK[". */
static bool body_section(struct fetch *f)
{
    struct imap_cursor *c = &f->c->in;
    struct fetch_section *sec = add_section(f);
    slice name = word(c);

    if (sec == NULL || !part_number(&name, &sec->part) ||
        !kind_of(name, sec->part.n > 0, &sec->kind))
        return false;
    if ((sec->kind == FETCH_FIELDS || sec->kind == FETCH_FIELDS_NOT) &&
        !field_names(c, sec))
        return false;
    return imap_eat(c, ']') && partial(c, sec) && make_label(f, sec, name);
}

static bool old_section(struct fetch *f, const char *label,
                        enum fetch_kind kind)
{
    struct fetch_section *sec = add_section(f);

    if (sec == NULL)
        return false;
    sec->label = slice_str(label);
    sec->kind = kind;
    sec->count = UINT64_MAX;
    f->sets_seen = f->sets_seen || kind != FETCH_HEADER;
    return true;
}

/* "(LAZY)" behind PREVIEW: ours are ready. */
static bool preview_modifier(struct imap_cursor *c)
{
    if (!slice_istarts(c->rest, SL(" (LAZY)")))
        return true;
    return imap_eat_word(c, " (LAZY)");
}

static bool one_item(struct fetch *f)
{
    slice name = word(&f->c->in);

    if (slice_ieqs(name, "BODY") && imap_eat(&f->c->in, '[')) {
        f->sets_seen = true;
        return body_section(f);
    }
    if (slice_ieqs(name, "BODY.PEEK"))
        return imap_eat(&f->c->in, '[') && body_section(f);
    if (slice_ieqs(name, "RFC822"))
        return old_section(f, "RFC822", FETCH_ALL);
    if (slice_ieqs(name, "RFC822.HEADER"))
        return old_section(f, "RFC822.HEADER", FETCH_HEADER);
    if (slice_ieqs(name, "RFC822.TEXT"))
        return old_section(f, "RFC822.TEXT", FETCH_TEXT);
    for (size_t i = 0; i < ARRAY_LEN(simple); i++) {
        if (!slice_ieqs(name, simple[i].name))
            continue;
        f->items |= simple[i].items;
        return !(simple[i].items & FETCH_PREVIEW) ||
               preview_modifier(&f->c->in);
    }
    return false;
}

static bool items(struct fetch *f)
{
    struct imap_cursor was = f->c->in;
    slice name;

    if (imap_eat(&f->c->in, '(')) {
        do {
            if (!one_item(f))
                return false;
        } while (imap_sp(&f->c->in));
        return imap_eat(&f->c->in, ')');
    }
    name = word(&f->c->in);
    for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
        if (slice_ieqs(name, macros[i].name)) {
            f->items |= macros[i].items;
            return true;
        }
    }
    f->c->in = was;
    return one_item(f);
}

/* " (CHANGEDSINCE 12345)" */
static bool modifiers(struct fetch *f)
{
    struct imap_cursor *c = &f->c->in;
    slice name;

    if (imap_end(c))
        return true;
    if (!imap_sp(c) || !imap_eat(c, '('))
        return false;
    do {
        if (!imap_atom(c, &name) || !slice_ieqs(name, "CHANGEDSINCE") ||
            !imap_sp(c) || !imap_number(c, &f->since))
            return false;
        f->has_since = true;
    } while (imap_sp(c));
    return imap_eat(c, ')') && imap_end(c);
}

bool fetch_parse(struct fetch *f)
{
    if (!items(f)) {
        imap_bad(f->c, "Unknown parameter.");
        return false;
    }
    if (!modifiers(f)) {
        imap_bad(f->c, "Unknown FETCH modifier.");
        return false;
    }
    if (f->c->is_uid)
        f->items |= FETCH_UID;
    if (f->has_since || (f->items & FETCH_MODSEQ)) {
        f->items |= FETCH_MODSEQ;
        imap_use_condstore(f->s);
    }
    return true;
}
