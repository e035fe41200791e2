/*
 * Address lists of header fields.  Where the field is broken, what comes out
 * is what Dovecot 2.3 puts into ENVELOPE, since clients have seen that for
 * years and the store's cached strings are compared with it.
 */
#include "mail/address.h"

#include "base/base.h"

#include "mail/header.h"
#include "mail/mail_priv.h"

/* One entry while it is read. */
struct entry {
    struct lex lex;
    struct buf word;
    struct buf comment;
    struct arena *a;
    bool fill_missing;
    bool no_memory;
    bool has_mailbox;
    bool has_domain;
    struct mail_addr addr;
};

static slice keep(struct entry *e)
{
    slice s = priv_dup(e->a, &e->word);

    if (s.p == NULL)
        e->no_memory = true;
    return s;
}

static void set_name(struct entry *e, slice name)
{
    e->addr.name = name;
    e->addr.has_name = true;
}

static void set_mailbox(struct entry *e)
{
    e->addr.mailbox = keep(e);
    e->has_mailbox = true;
}

/* A quoted string or words with dots. */
static enum lex_result parse_local(struct entry *e)
{
    enum lex_result r;

    buf_clear(&e->word);
    if (lex_at_end(&e->lex))
        return LEX_END;
    if (*e->lex.p == '"')
        r = lex_quoted(&e->lex, &e->word);
    else
        r = lex_loose_dots(&e->lex, &e->word);
    if (r != LEX_BAD)
        set_mailbox(e);
    return r;
}

static enum lex_result parse_domain(struct entry *e)
{
    enum lex_result r;

    buf_clear(&e->word);
    r = lex_domain(&e->lex, &e->word);
    if (r == LEX_BAD)
        return r;
    e->addr.domain = keep(e);
    e->has_domain = true;
    return r;
}

/* "@one,@two" in front of the ':' (RFC 5322 4.4 obs-domain-list). */
static enum lex_result parse_route(struct entry *e)
{
    buf_clear(&e->word);
    while (!lex_at_end(&e->lex)) {
        if (*e->lex.p != '@') {
            e->addr.route = keep(e);
            e->addr.has_route = true;
            return LEX_MORE;
        }
        if (e->word.n > 0)
            buf_byte(&e->word, ',');
        buf_byte(&e->word, '@');
        if (lex_domain(&e->lex, &e->word) != LEX_MORE)
            return LEX_BAD;
        while (lex_skip(&e->lex) == LEX_MORE && *e->lex.p == ',')
            e->lex.p++;
    }
    return LEX_END;
}

/* At the '<'.  An end before the '>' is bad. */
static enum lex_result parse_angle(struct entry *e)
{
    e->lex.p++;
    if (lex_skip(&e->lex) != LEX_MORE)
        return LEX_BAD;
    if (*e->lex.p == '@') {
        if (parse_route(e) != LEX_MORE || *e->lex.p != ':') {
            if (e->fill_missing) {
                e->addr.route = SL("INVALID_ROUTE");
                e->addr.has_route = true;
            }
            e->addr.is_invalid = true;
            if (lex_at_end(&e->lex))
                return LEX_BAD;
        } else {
            e->lex.p++;
        }
        if (lex_skip(&e->lex) != LEX_MORE)
            return LEX_BAD;
    }
    if (*e->lex.p != '>') {
        if (parse_local(e) != LEX_MORE)
            return LEX_BAD;
        if (*e->lex.p == '@' && parse_domain(e) != LEX_MORE)
            return LEX_BAD;
    }
    if (*e->lex.p != '>')
        return LEX_BAD;
    e->lex.p++;
    return lex_skip(&e->lex);
}

/* Display name <address>. */
static enum lex_result parse_name_addr(struct entry *e)
{
    buf_clear(&e->word);
    if (lex_at_end(&e->lex))
        return LEX_BAD;
    if (*e->lex.p != '<') {
        if (lex_phrase(&e->lex, &e->word) != LEX_MORE || *e->lex.p != '<')
            return LEX_BAD;
        if (e->word.n > 0)
            set_name(e, keep(e));
    }
    if (parse_angle(e) == LEX_BAD) {
        if (e->fill_missing) {
            e->addr.domain = SL("SYNTAX_ERROR");
            e->has_domain = true;
        }
        e->addr.is_invalid = true;
    }
    return lex_at_end(&e->lex) ? LEX_END : LEX_MORE;
}

/* A word without a domain: an address if it stands alone, else a name. */
static void take_as_name(struct entry *e, bool was_quoted)
{
    size_t before;

    buf_byte(&e->word, ' ');
    before = e->word.n;
    (void)lex_phrase(&e->lex, &e->word);
    if (e->word.n != before) {
        set_name(e, keep(e));
        e->has_mailbox = false;
    } else if (was_quoted && e->has_mailbox) {
        set_name(e, e->addr.mailbox);
        e->has_mailbox = false;
    }
    e->addr.is_invalid = true;
}

/* local@domain (name as a comment). */
static enum lex_result parse_addr_spec(struct entry *e)
{
    enum lex_result r;
    bool domain_tried = false, was_quoted = lex_is(&e->lex, '"');

    buf_clear(&e->comment);
    r = parse_local(e);
    if (r != LEX_MORE)
        e->addr.is_invalid = true;
    if (r != LEX_END && lex_is(&e->lex, '@')) {
        domain_tried = true;
        r = parse_domain(e);
    }
    if (e->comment.n > 0) {
        slice s = priv_dup(e->a, &e->comment);

        e->no_memory |= s.p == NULL;
        set_name(e, s);
    } else if (!domain_tried) {
        take_as_name(e, was_quoted);
        r = LEX_BAD;
    }
    return r;
}

static void fill_missing(struct entry *e)
{
    if (!e->has_mailbox) {
        e->addr.mailbox = e->fill_missing ? SL("MISSING_MAILBOX") : SL("");
        e->addr.is_invalid = true;
    }
    if (!e->has_domain || e->addr.domain.n == 0) {
        e->addr.domain = e->fill_missing ? SL("MISSING_DOMAIN") : SL("");
        e->addr.is_invalid = true;
    }
}

static enum lex_result parse_mailbox(struct entry *e)
{
    const char *start = e->lex.p;
    enum lex_result r;

    e->addr = (struct mail_addr){ .kind = MAIL_ADDR_MAILBOX };
    e->has_mailbox = e->has_domain = false;
    r = parse_name_addr(e);
    if (r == LEX_BAD) {
        e->lex.p = start;
        r = parse_addr_spec(e);
    }
    if (r == LEX_BAD)
        e->addr.is_invalid = true;
    fill_missing(e);
    return r;
}

/* "Name:" in front of a group; the position is put back when it is none. */
static bool parse_group_name(struct entry *e)
{
    const char *start = e->lex.p;

    buf_clear(&e->word);
    if (lex_phrase(&e->lex, &e->word) == LEX_MORE && *e->lex.p == ':') {
        e->lex.p++;
        e->addr = (struct mail_addr){ .kind = MAIL_ADDR_GROUP };
        e->addr.name = e->addr.mailbox = keep(e);
        e->addr.has_name = true;
        return true;
    }
    e->lex.p = start;
    return false;
}

void mail_addr_iter_init(struct mail_addr_iter *it, struct arena *a,
                         slice value, bool fill_missing_parts, size_t max)
{
    *it = (struct mail_addr_iter){
        .a = a, .rest = value, .fill_missing = fill_missing_parts, .n_left = max
    };
}

/* Behind an address of the list: go on only after a comma. */
static void after_entry(struct mail_addr_iter *it, struct entry *e)
{
    it->done = true;
    if (!lex_is(&e->lex, ','))
        return;
    e->lex.p++;
    switch (lex_skip(&e->lex)) {
    case LEX_MORE:
        it->done = false;
        break;
    case LEX_BAD:
        it->garbage = true;
        break;
    case LEX_END:
    default:
        break;
    }
}

static bool next_in_group(struct mail_addr_iter *it, struct entry *e)
{
    enum lex_result r = lex_skip(&e->lex);

    if (it->group_closing || r != LEX_MORE || *e->lex.p == ';') {
        e->addr = (struct mail_addr){ .kind = MAIL_ADDR_GROUP_END };
        it->in_group = it->group_closing = false;
        if (lex_is(&e->lex, ';')) {
            e->lex.p++;
            (void)lex_skip(&e->lex);
        } else {
            e->addr.is_invalid = true;
        }
        after_entry(it, e);
        return true;
    }
    (void)parse_mailbox(e);
    if (lex_is(&e->lex, ',')) {
        e->lex.p++;
        if (lex_skip(&e->lex) != LEX_MORE)
            it->group_closing = true;
    } else {
        it->group_closing = true;
    }
    return true;
}

static bool next_entry(struct mail_addr_iter *it, struct entry *e)
{
    if (it->in_group)
        return next_in_group(it, e);
    if (it->garbage) {
        /* A comment that never ends stands where an address should. */
        it->garbage = false;
        e->addr = (struct mail_addr){ .kind = MAIL_ADDR_MAILBOX };
        fill_missing(e);
        return true;
    }
    if (it->done || lex_skip(&e->lex) != LEX_MORE)
        return false;
    if (parse_group_name(e)) {
        it->in_group = true;
        return true;
    }
    (void)parse_mailbox(e);
    after_entry(it, e);
    return true;
}

bool mail_addr_next(struct mail_addr_iter *it, struct mail_addr *out)
{
    struct entry e = { .a = it->a, .fill_missing = it->fill_missing };
    bool got;

    if (it->n_left == 0)
        return false;
    /* A word can grow by the blanks between two words only. */
    buf_init(&e.word, it->rest.n + 16);
    buf_init(&e.comment, it->rest.n + 16);
    lex_init(&e.lex, it->rest, &e.comment);
    got = next_entry(it, &e) && !e.no_memory;
    it->rest =
        got ? slice_of(e.lex.p, (size_t)(e.lex.end - e.lex.p)) : SLICE_NONE;
    it->n_left = got ? it->n_left - 1 : 0;
    buf_done(&e.word);
    buf_done(&e.comment);
    if (got)
        *out = e.addr;
    return got;
}
