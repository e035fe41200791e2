/*
 * ENVELOPE, BODY and BODYSTRUCTURE (RFC 9051 7.5.2) as Dovecot 2.3 writes
 * them.
 */
#include "mail/mime.h"

#include "base/base.h"

#include "mail/address.h"
#include "mail/mail_priv.h"
#include "mail/mime_priv.h"

/* Addresses in one ENVELOPE: more are cut off. */
#define ADDRESSES_MAX 20000

/* ---- strings ---- */

static void put_literal(struct buf *b, slice s)
{
    buf_printf(b, "{%zu}\r\n", s.n);
    buf_slice(b, s);
}

static void put_quoted(struct buf *b, slice s)
{
    buf_byte(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_byte(b, '\\');
        buf_byte(b, s.p[i]);
    }
    buf_byte(b, '"');
}

/* Quoted if it may be and escapes are few, else a literal. */
static void put_string(struct buf *b, slice s)
{
    size_t escapes = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '\r' || c == '\n' || (unsigned char)c >= 0x80) {
            put_literal(b, s);
            return;
        }
        escapes += c == '"' || c == '\\';
    }
    if (escapes > 4)
        put_literal(b, s);
    else
        put_quoted(b, s);
}

static void put_nstring(struct buf *b, slice s)
{
    if (s.p == NULL)
        buf_puts(b, "NIL");
    else
        put_string(b, s);
}

static bool has_line_end(slice s)
{
    return slice_chr(s, '\n') >= 0 || slice_chr(s, '\r') >= 0;
}

/* Folding taken off. */
static void put_unfolded(struct buf *b, slice s)
{
    struct buf plain CLEANUP(buf_done) = { 0 };

    if (s.p == NULL || !has_line_end(s)) {
        put_nstring(b, s);
        return;
    }
    buf_init(&plain, s.n + 1);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\r' && s.p[i] != '\n')
            buf_byte(&plain, s.p[i]);
        else if (i + 1 < s.n && !ascii_isspace(s.p[i + 1]))
            buf_byte(&plain, ' ');
    }
    put_string(b, buf_view(&plain));
}

/* A display name or subject: runs of white space become one space, none at the
 * ends. */
static void put_for_humans(struct buf *b, slice s)
{
    struct buf plain CLEANUP(buf_done) = { 0 };
    bool blank = true, as_is = true;

    buf_init(&plain, s.n + 1);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            if (!blank)
                buf_byte(&plain, ' ');
            as_is &= !blank && c == ' ';
            blank = true;
            continue;
        }
        blank = false;
        as_is &= c != '"' && c != '\\' && (unsigned char)c < 0x80;
        buf_byte(&plain, c);
    }
    if (blank && plain.n > 0) {
        plain.n--;
        as_is = false;
    }
    if (as_is || plain.n == 0)
        put_quoted(b, buf_view(&plain));
    else
        put_literal(b, buf_view(&plain));
}

/* ---- ENVELOPE ---- */

static void put_address(struct buf *b, const struct mail_addr *addr)
{
    if (addr->kind == MAIL_ADDR_GROUP) {
        buf_puts(b, "(NIL NIL ");
        put_string(b, addr->mailbox);
        buf_puts(b, " NIL)");
        return;
    }
    if (addr->kind == MAIL_ADDR_GROUP_END) {
        buf_puts(b, "(NIL NIL NIL NIL)");
        return;
    }
    buf_byte(b, '(');
    if (addr->has_name)
        put_for_humans(b, addr->name);
    else
        buf_puts(b, "NIL");
    buf_byte(b, ' ');
    put_nstring(b, addr->has_route ? addr->route : SLICE_NONE);
    buf_byte(b, ' ');
    put_string(b, addr->mailbox);
    buf_byte(b, ' ');
    put_string(b, addr->domain);
    buf_byte(b, ')');
}

/* The addresses of all fields of one name; false, and nothing put, when there
 * are none.  `a` is for work. */
static bool put_addresses(struct buf *b, struct arena *a,
                          const struct mail_values *v)
{
    bool any = false;

    for (; v != NULL; v = v->next) {
        struct mail_addr_iter it;
        struct mail_addr addr;

        mail_addr_iter_init(&it, a, v->value, true, ADDRESSES_MAX);
        while (mail_addr_next(&it, &addr)) {
            buf_puts(b, any ? "" : "(");
            put_address(b, &addr);
            any = true;
        }
        arena_reset(a);
    }
    if (any)
        buf_byte(b, ')');
    return any;
}

static void put_addresses_or_nil(struct buf *b, struct arena *a,
                                 const struct mail_values *v)
{
    buf_byte(b, ' ');
    if (!put_addresses(b, a, v))
        buf_puts(b, "NIL");
}

/* RFC 9051 7.5.2: Sender and Reply-To default to From, which stands in the
 * buffer at `from` already. */
static void put_addresses_or_from(struct buf *b, struct arena *a,
                                  const struct mail_values *v, slice from)
{
    buf_byte(b, ' ');
    if (!put_addresses(b, a, v))
        buf_slice(b, from);
}

static void put_envelope(struct buf *b, const struct mail_envelope *e)
{
    struct buf from CLEANUP(buf_done) = { 0 };
    struct arena *a;

    if (e == NULL) {
        buf_puts(b, "NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL");
        return;
    }
    a = arena_new(4u << 20);
    buf_init(&from, b->max);
    put_unfolded(b, e->date);
    buf_byte(b, ' ');
    if (e->subject.p == NULL)
        buf_puts(b, "NIL");
    else
        put_for_humans(b, e->subject);
    if (!put_addresses(&from, a, e->from))
        buf_puts(&from, "NIL");
    b->overflow |= from.overflow;
    buf_byte(b, ' ');
    buf_slice(b, buf_view(&from));
    put_addresses_or_from(b, a, e->sender, buf_view(&from));
    put_addresses_or_from(b, a, e->reply_to, buf_view(&from));
    put_addresses_or_nil(b, a, e->to);
    put_addresses_or_nil(b, a, e->cc);
    put_addresses_or_nil(b, a, e->bcc);
    buf_byte(b, ' ');
    put_unfolded(b, e->in_reply_to);
    buf_byte(b, ' ');
    put_unfolded(b, e->message_id);
    arena_free(&a);
}

bool mail_imap_envelope(struct buf *b, const struct mail_part *root)
{
    put_envelope(b, root->envelope);
    return !b->overflow;
}

/* ---- BODYSTRUCTURE ---- */

static void put_params(struct buf *b, const struct mail_value *v,
                       bool default_charset)
{
    struct mail_pair pairs[MAIL_PAIRS_MAX];
    struct buf work CLEANUP(buf_done) = { 0 };
    bool has_charset = false;
    size_t n;

    buf_init(&work, PRIV_WORK_MAX);
    n = priv_params_joined(v, pairs, &work);
    if (n == 0 && !default_charset) {
        buf_puts(b, "NIL");
        return;
    }
    buf_byte(b, '(');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_byte(b, ' ');
        has_charset |= slice_ieqs(pairs[i].name, "charset");
        put_string(b, pairs[i].name);
        buf_byte(b, ' ');
        put_string(b, pairs[i].value);
    }
    if (default_charset && !has_charset) {
        if (n > 0)
            buf_byte(b, ' ');
        buf_puts(b, "\"charset\" \"us-ascii\"");
    }
    buf_byte(b, ')');
}

/* "en, de" becomes ("en" "de"). */
static void put_language(struct buf *b, slice raw)
{
    struct buf token CLEANUP(buf_done) = { 0 };
    struct lex l;
    bool any = false;

    buf_init(&token, raw.n + 1);
    lex_init(&l, raw, NULL);
    while (lex_skip(&l) == LEX_MORE) {
        buf_clear(&token);
        if (lex_atom(&l, &token) == LEX_BAD || token.n == 0)
            break;
        buf_puts(b, any ? " " : "(");
        put_string(b, buf_view(&token));
        any = true;
        if (!lex_is(&l, ','))
            break;
        l.p++;
    }
    buf_puts(b, any ? ")" : "NIL");
}

/* Disposition, language, location. */
static void put_common(struct buf *b, const struct mail_part *p)
{
    if (p->has_disposition) {
        buf_byte(b, '(');
        put_string(b, p->disposition.type);
        buf_byte(b, ' ');
        put_params(b, &p->disposition, false);
        buf_byte(b, ')');
    } else {
        buf_puts(b, "NIL");
    }
    buf_byte(b, ' ');
    put_language(b, p->language);
    buf_byte(b, ' ');
    put_unfolded(b, p->location);
}

/* A multipart's own fields, behind its parts. */
static void put_multipart_tail(struct buf *b, const struct mail_part *p,
                               bool extended)
{
    if (p->child == NULL) {
        /* The grammar wants one part. */
        buf_puts(b, "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL "
                    "\"7bit\" 0 0");
        buf_puts(b, extended ? " NIL NIL NIL NIL)" : ")");
    }
    buf_byte(b, ' ');
    put_string(b, p->type.subtype);
    if (!extended)
        return;
    buf_byte(b, ' ');
    put_params(b, &p->type, false);
    buf_byte(b, ' ');
    put_common(b, p);
}

/*
 * Nothing but text in US-ASCII: Dovecot remembers that as one flag, and so
 * forgets how the names were written.
 */
static bool is_plain_7bit(const struct mail_part *p)
{
    const struct mail_value *t = &p->type;

    if (p->is_multipart || p->is_message || !p->is_text)
        return false;
    if (p->has_type &&
        (!slice_ieqs(t->type, "text") || !slice_ieqs(t->subtype, "plain")))
        return false;
    if (t->n_pairs > 1 ||
        (t->n_pairs == 1 && (!slice_ieqs(t->pairs[0].name, "charset") ||
                             !slice_ieqs(t->pairs[0].value, "us-ascii"))))
        return false;
    if (p->encoding.p != NULL && !slice_ieqs(p->encoding, "7bit"))
        return false;
    return p->id.p == NULL && p->description.p == NULL && p->md5.p == NULL &&
           p->language.p == NULL && p->location.p == NULL &&
           !p->has_disposition;
}

/* Type to size, of a part that is no multipart. */
static void put_single_head(struct buf *b, const struct mail_part *p)
{
    bool is_text = p->is_text;

    if (p->is_message) {
        buf_puts(b, "\"message\" \"rfc822\"");
    } else if (slice_ieqs(p->type.type, "multipart")) {
        /* Not cut into parts: too deep, or without a subtype. */
        buf_puts(b, "\"application\" \"octet-stream\"");
    } else if (p->has_type) {
        put_string(b, p->type.type);
        buf_byte(b, ' ');
        put_string(b, p->type.subtype);
    } else {
        buf_puts(b, "\"text\" \"plain\"");
    }
    buf_byte(b, ' ');
    put_params(b, &p->type, is_text);
    buf_byte(b, ' ');
    put_unfolded(b, p->id);
    buf_byte(b, ' ');
    put_unfolded(b, p->description);
    buf_byte(b, ' ');
    if (p->encoding.p != NULL)
        put_string(b, p->encoding);
    else
        buf_puts(b, "\"7bit\"");
    buf_printf(b, " %" PRIu64, p->body.crlf);
}

/* From the lines on, of a part that is no multipart. */
static void put_single_tail(struct buf *b, const struct mail_part *p,
                            bool extended)
{
    if (p->is_text || p->is_message)
        buf_printf(b, " %" PRIu64, p->body.lines);
    if (!extended)
        return;
    buf_byte(b, ' ');
    put_unfolded(b, p->md5);
    buf_byte(b, ' ');
    put_common(b, p);
}

/* What stands before a part's children.  `nested`: in parentheses of its own.
 */
static void open_part(struct buf *b, const struct mail_part *p, bool nested)
{
    if (nested)
        buf_byte(b, '(');
    if (p->is_multipart)
        return;
    put_single_head(b, p);
    if (p->is_message && p->child != NULL) {
        buf_puts(b, " (");
        put_envelope(b, p->child->envelope);
        buf_puts(b, ") ");
    }
}

static void close_part(struct buf *b, const struct mail_part *p, bool nested,
                       bool extended)
{
    if (p->is_multipart)
        put_multipart_tail(b, p, extended);
    else
        put_single_tail(b, p, extended);
    if (nested)
        buf_byte(b, ')');
}

/* The tree in order, without recursion: down on the way in, up on the way
 * out. */
static bool put_structure(struct buf *b, const struct mail_part *root,
                          bool extended)
{
    const struct mail_part *p = root;

    if (is_plain_7bit(root)) {
        buf_printf(b,
                   "\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL "
                   "\"7bit\" %" PRIu64 " %" PRIu64 "%s",
                   root->body.crlf, root->body.lines,
                   extended ? " NIL NIL NIL NIL" : "");
        return !b->overflow;
    }
    open_part(b, p, false);
    while (!b->overflow) {
        if (p->child != NULL) {
            p = p->child;
            open_part(b, p, true);
            continue;
        }
        close_part(b, p, p != root, extended);
        while (p != root && p->next == NULL) {
            p = p->parent;
            close_part(b, p, p != root, extended);
        }
        if (p == root)
            break;
        p = p->next;
        open_part(b, p, true);
    }
    return !b->overflow;
}

bool mail_imap_bodystructure(struct buf *b, const struct mail_part *root)
{
    return put_structure(b, root, true);
}

bool mail_imap_body(struct buf *b, const struct mail_part *root)
{
    return put_structure(b, root, false);
}
