#include "address/address_priv.h"

#include "mail/header.h"

/*
 * Addresses in header fields, as cleanup(8) rewrites them for the clients in
 * local_header_rewrite_clients.  Only the bytes of an address that changes are
 * replaced; display names, comments, folding and everything else stay.
 */

#define FIELD_ADDRESSES                                                        \
 10000 /* in one field; further ones stay as they are                          \
        */

struct header_kind {
    const char *name;
    bool is_sender;
};

static const struct header_kind kinds[] = {
    { "From", true },
    { "Sender", true },
    { "Reply-To", true },
    { "Errors-To", true },
    { "Return-Path", true },
    { "Return-Receipt-To", true },
    { "Disposition-Notification-To", true },
    { "Mail-Followup-To", true },
    { "Resent-From", true },
    { "Resent-Sender", true },
    { "To", false },
    { "Cc", false },
    { "Bcc", false },
    { "Apparently-To", false },
    { "Resent-To", false },
    { "Resent-Cc", false },
    { "Resent-Bcc", false },
    { "Resent-Reply-To", false },
};

static const struct header_kind *kind_of(slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (slice_ieqs(name, kinds[i].name))
            return &kinds[i];
    }
    return NULL;
}

/* ------------------------------------------------------------------ *
 * Finding the addresses
 */

struct scan {
    slice in;
    size_t at;
    /* the entry being read: words outside <> and comments */
    size_t from;
    size_t to;
    bool has_word;
    bool is_broken; /* blanks or comments inside: no plain address */
    bool has_angle;
    size_t angle_from;
    size_t angle_to;
};

static void entry_begin(struct scan *s)
{
    s->has_word = false;
    s->is_broken = false;
    s->has_angle = false;
}

/* Behind the closing quote of what starts at `i`. */
static size_t skip_quoted(slice in, size_t i, char close)
{
    for (i++; i < in.n; i++) {
        if (in.p[i] == '\\')
            i++;
        else if (in.p[i] == close)
            return i + 1;
    }
    return in.n;
}

static size_t skip_comment(slice in, size_t i)
{
    unsigned depth = 0;

    for (; i < in.n; i++) {
        if (in.p[i] == '\\') {
            i++;
        } else if (in.p[i] == '(') {
            depth++;
        } else if (in.p[i] == ')' && --depth == 0) {
            return i + 1;
        }
    }
    return in.n;
}

/* Where the <> that opens at `i` ends (on the '>'); in.n when it does not. */
static size_t find_angle_end(slice in, size_t i)
{
    while (i < in.n && in.p[i] != '>')
        i = in.p[i] == '"' ? skip_quoted(in, i, '"') : i + 1;
    return min_size(i, in.n);
}

static void word(struct scan *s, size_t from, size_t to)
{
    if (!s->has_word)
        s->from = from;
    else if (s->to != from)
        s->is_broken = true;
    s->has_word = true;
    s->to = to;
}

/* One token; false at the end of an entry. */
static bool scan_token(struct scan *s)
{
    size_t from = s->at;
    char c = s->in.p[from];

    if (ascii_isspace(c)) {
        s->at++;
    } else if (c == '(') {
        s->at = skip_comment(s->in, from);
    } else if (c == '"') {
        s->at = min_size(skip_quoted(s->in, from, '"'), s->in.n);
        word(s, from, s->at);
    } else if (c == '[') {
        s->at = min_size(skip_quoted(s->in, from, ']'), s->in.n);
        word(s, from, s->at);
    } else if (c == '<') {
        s->angle_from = from + 1;
        s->angle_to = find_angle_end(s->in, from);
        s->has_angle = s->angle_to < s->in.n;
        s->at = min_size(s->angle_to + 1, s->in.n);
    } else if (c == ',' || c == ';' || c == ':') {
        /* ":" ends a group's name, which is no address. */
        if (c == ':')
            entry_begin(s);
        s->at++;
        return false;
    } else {
        s->at += c == '\\' && from + 1 < s->in.n ? 2 : 1;
        word(s, from, s->at);
    }
    return true;
}

/* Next address: its place in the value.  False at the end. */
static bool scan_next(struct scan *s, size_t *from, size_t *to)
{
    while (s->at < s->in.n) {
        entry_begin(s);
        while (s->at < s->in.n && scan_token(s))
            ;
        if (s->has_angle) {
            *from = s->angle_from;
            *to = s->angle_to;
        } else if (s->has_word && !s->is_broken) {
            *from = s->from;
            *to = s->to;
        } else {
            continue;
        }
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ *
 * Rewriting
 */

struct rewriting {
    const struct address *a;
    enum address_context context;
    struct arena *arena; /* of one field */
    struct err *err;
};

/* The external address at `place`: 1 and *out when it changes, 0 when not. */
MAY_WAIT static int rewrite_one(struct rewriting *r, slice place,
                                bool is_sender, slice *out)
{
    struct buf text CLEANUP(buf_done);
    slice was;
    slice addr;

    buf_init(&text, ADDRESS_BYTES);
    place = slice_trim(place);
    /* Nothing, routes, and what is folded inside are left alone. */
    if (place.n == 0 || place.p[0] == '@' || slice_chr(place, '\n') >= 0 ||
        !mail_addr_unquote(&text, place))
        return 0;
    was = slice_dup(r->arena, buf_view(&text));
    if (was.p == NULL)
        return 0;
    if (address_rewrite(r->a, r->context, was, r->arena, &addr, r->err) < 0 ||
        address_canonical(r->a, is_sender ? IN_HEADER_SENDER : IN_HEADER_RCPT,
                          &addr, r->arena, r->err) < 0)
        return -1;
    if (slice_eq(addr, was) || addr.n == 0)
        return 0;
    buf_clear(&text);
    if (!mail_addr_quote(&text, addr))
        return 0;
    *out = slice_dup(r->arena, buf_view(&text));
    return out->p != NULL;
}

MAY_WAIT static int rewrite_field(struct rewriting *r,
                                  const struct mail_field *f, bool is_sender,
                                  struct buf *out)
{
    struct scan s = { .in = f->value };
    slice rest = f->whole;
    const char *done = rest.p; /* all before is in `out` */
    size_t from;
    size_t to;

    for (int i = 0; i < FIELD_ADDRESSES && scan_next(&s, &from, &to); i++) {
        slice place = slice_trim(slice_sub(f->value, from, to - from));
        slice text;
        int rc;

        arena_reset(r->arena);
        rc = rewrite_one(r, place, is_sender, &text);
        if (rc < 0)
            return -1;
        if (rc == 0)
            continue;
        buf_put(out, done, (size_t)(place.p - done));
        buf_slice(out, text);
        done = place.p + place.n;
    }
    buf_put(out, done, (size_t)(rest.p + rest.n - done));
    return 0;
}

bool address_has_header_work(const struct address *a,
                             enum address_context context)
{
    CHECK_OBJ(a, ADDRESS_MAGIC);
    return context == ADDRESS_LOCAL || a->remote_domain.n > 0;
}

int address_rewrite_headers(const struct address *a,
                            enum address_context context, slice in,
                            struct buf *out, struct err *err)
{
    struct arena *arena CLEANUP(arena_free) = NULL;
    struct rewriting r = { .a = a, .context = context, .err = err };
    struct mail_header_iter it;
    struct mail_field f;
    size_t done = 0;

    if (!address_has_header_work(a, context)) {
        buf_slice(out, in);
        return 0;
    }
    arena = arena_new(1u << 20);
    r.arena = arena;
    mail_header_iter_init(&it, in, false);
    while (mail_header_next(&it, &f)) {
        const struct header_kind *kind = kind_of(f.name);

        if (kind == NULL)
            continue;
        buf_slice(out, slice_sub(in, done, f.offset - done));
        if (rewrite_field(&r, &f, kind->is_sender, out) < 0)
            return -1;
        done = f.offset + f.whole.n;
    }
    buf_slice(out, slice_from(in, done));
    if (out->overflow)
        return err_temp(err, "header too long after rewriting");
    return 0;
}

/* ------------------------------------------------------------------ *
 * local_header_rewrite_clients
 */

static int client_has_own_address(const struct address *a, slice ip, bool *out)
{
    uint8_t bytes[16];
    int family;

    *out = false;
    if (!mail_ip_parse(ip, &family, bytes))
        return 0;
    for (size_t i = 0; i < a->n_own && !*out; i++)
        *out = a->own[i].is_v6 == (family == 6) &&
               memcmp(a->own[i].ip, bytes, family == 6 ? 16 : 4) == 0;
    return 0;
}

MAY_WAIT static int client_in_table(const struct address *a, slice spec,
                                    slice ip, bool *out, struct err *err)
{
    struct arena *arena CLEANUP(arena_free) = arena_new(TABLE_VALUE_MAX + 4096);
    slice value;

    if (table_lookup(a->tables, spec, ip, 0, arena, &value, err) < 0)
        return err_prefix(err, "local_header_rewrite_clients");
    *out = value.p != NULL;
    return 0;
}

int address_rewrites_headers_of(const struct address *a, slice name, slice ip,
                                bool is_authenticated, bool *out,
                                struct err *err)
{
    slice rest = a->rewrite_clients;
    bool is_map = false;
    slice item;

    CHECK_OBJ(a, ADDRESS_MAGIC);
    *out = false;
    while (!*out && conf_list_next(&rest, &item)) {
        int rc = 0;

        if (slice_ieqs(item, "permit_inet_interfaces"))
            rc = client_has_own_address(a, ip, out);
        else if (slice_ieqs(item, "permit_mynetworks"))
            rc = table_match_client(a->mynetworks, name, ip, out, err);
        else if (slice_ieqs(item, "permit_sasl_authenticated"))
            *out = is_authenticated;
        else if (is_map || slice_chr(item, ':') > 0)
            rc = client_in_table(a, item, ip, out, err);
        if (rc < 0)
            return -1;
        is_map = slice_ieqs(item, "check_address_map");
    }
    return 0;
}
