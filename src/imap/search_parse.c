/* The keys of SEARCH: RFC 3501 6.4.4, RFC 4731 (RETURN), RFC 7162 3.1.5
 * (MODSEQ), RFC 5032 (OLDER, YOUNGER), RFC 8474 (EMAILID), RFC 8514 (SAVED). */
#include "imap/search.h"

#include "base/digest.h"
#include "mail/charset.h"
#include "mail/header.h"

static struct search_key *new_key(struct search *q, enum search_kind kind)
{
    struct search_key *k;

    if (q->n_keys++ >= SEARCH_KEYS_MAX)
        return NULL;
    k = arena_alloc(q->c->arena, sizeof *k);
    if (k != NULL)
        k->kind = kind;
    return k;
}

/* ------------------------------------------------------------ what follows */

/* A text in the command's charset, as search_text() wants it. */
static bool text_argument(struct search *q, slice *out)
{
    struct buf utf8 CLEANUP(buf_done) = { 0 };
    struct buf folded CLEANUP(buf_done) = { 0 };
    slice raw;

    if (!imap_sp(&q->c->in) || !imap_astring(&q->c->in, &raw) ||
        raw.n > SEARCH_TEXT_MAX)
        return false;
    buf_init(&utf8, (size_t)8 * SEARCH_TEXT_MAX);
    buf_init(&folded, (size_t)64 * SEARCH_TEXT_MAX);
    (void)mail_charset_to_utf8(&utf8, q->charset, raw);
    search_fold(&folded, buf_view(&utf8));
    *out = slice_dup(q->c->arena, buf_view(&folded));
    return out->p != NULL || folded.n == 0;
}

static bool id_argument(struct search *q, slice *out)
{
    slice word;
    char *bytes;

    if (!imap_sp(&q->c->in) || !imap_atom(&q->c->in, &word))
        return false;
    bytes = arena_alloc(q->c->arena, 16);
    /* One that we did not give matches nothing. */
    if (bytes != NULL && word.n == 32 && hex_get(word, (uint8_t *)bytes, 16))
        *out = slice_of(bytes, 16);
    return bytes != NULL;
}

static bool keyword_argument(struct search *q, struct search_key *k)
{
    const struct store_mailbox *m = q->c->s->selected->view.mailbox;
    slice word;

    if (!imap_sp(&q->c->in) || !imap_atom(&q->c->in, &word))
        return false;
    if (slice_ieqs(word, "$Forwarded")) {
        k->kind = SEARCH_FLAGS;
        k->n = STORE_PASSED;
        return true;
    }
    k->n = SEARCH_NONE;
    for (size_t i = 0; i < store_keywords(m); i++)
        if (slice_ieq(store_keyword(m, i), word))
            k->n = i;
    return true;
}

/* "/flags/\\draft" all 620162338 */
static bool modseq_argument(struct search *q, struct search_key *k)
{
    slice word;

    if (!imap_sp(&q->c->in))
        return false;
    if (q->c->in.rest.n > 0 && q->c->in.rest.p[0] == '"' &&
        (!imap_string(&q->c->in, &word) || !imap_sp(&q->c->in) ||
         !imap_atom(&q->c->in, &word) || !imap_sp(&q->c->in)))
        return false;
    q->uses_modseq = true;
    return imap_number(&q->c->in, &k->n);
}

/* ---------------------------------------------------------------- the words */

enum argument {
    ARG_NONE,
    ARG_BEFORE, /* a date: days before it */
    ARG_ON,
    ARG_SINCE,
    ARG_LARGER,
    ARG_SMALLER,
    ARG_OLDER, /* seconds */
    ARG_YOUNGER,
    ARG_TEXT,
    ARG_HEADER,
    ARG_KEYWORD,
    ARG_MODSEQ,
    ARG_UID,
    ARG_ID,
};

static const struct word {
    const char *name;
    enum search_kind kind;
    enum argument argument;
    bool is_not;
    uint64_t n;
} words[] = {
    { "ALL", SEARCH_ALL, ARG_NONE, false, 0 },
    { "ANSWERED", SEARCH_FLAGS, ARG_NONE, false, STORE_ANSWERED },
    { "BCC", SEARCH_ENVELOPE, ARG_TEXT, false, ENV_BCC },
    { "BEFORE", SEARCH_DATE, ARG_BEFORE, false, 0 },
    { "BODY", SEARCH_BODY, ARG_TEXT, false, 0 },
    { "CC", SEARCH_ENVELOPE, ARG_TEXT, false, ENV_CC },
    { "DELETED", SEARCH_FLAGS, ARG_NONE, false, STORE_DELETED },
    { "DRAFT", SEARCH_FLAGS, ARG_NONE, false, STORE_DRAFT },
    { "EMAILID", SEARCH_EMAILID, ARG_ID, false, 0 },
    { "FLAGGED", SEARCH_FLAGS, ARG_NONE, false, STORE_FLAGGED },
    { "FROM", SEARCH_ENVELOPE, ARG_TEXT, false, ENV_FROM },
    { "HEADER", SEARCH_HEADER, ARG_HEADER, false, 0 },
    { "KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, false, 0 },
    { "LARGER", SEARCH_SIZE, ARG_LARGER, false, 0 },
    { "MODSEQ", SEARCH_MODSEQ, ARG_MODSEQ, false, 0 },
    { "OLD", SEARCH_RECENT, ARG_NONE, true, 0 },
    { "OLDER", SEARCH_SECONDS, ARG_OLDER, false, 0 },
    { "ON", SEARCH_DATE, ARG_ON, false, 0 },
    { "RECENT", SEARCH_RECENT, ARG_NONE, false, 0 },
    { "SAVEDBEFORE", SEARCH_SAVEDATE, ARG_BEFORE, false, 0 },
    { "SAVEDON", SEARCH_SAVEDATE, ARG_ON, false, 0 },
    { "SAVEDSINCE", SEARCH_SAVEDATE, ARG_SINCE, false, 0 },
    { "SAVEDATESUPPORTED", SEARCH_ALL, ARG_NONE, false, 0 },
    { "SEEN", SEARCH_FLAGS, ARG_NONE, false, STORE_SEEN },
    { "SENTBEFORE", SEARCH_SENTDATE, ARG_BEFORE, false, 0 },
    { "SENTON", SEARCH_SENTDATE, ARG_ON, false, 0 },
    { "SENTSINCE", SEARCH_SENTDATE, ARG_SINCE, false, 0 },
    { "SINCE", SEARCH_DATE, ARG_SINCE, false, 0 },
    { "SMALLER", SEARCH_SIZE, ARG_SMALLER, false, 0 },
    { "SUBJECT", SEARCH_ENVELOPE, ARG_TEXT, false, ENV_SUBJECT },
    { "TEXT", SEARCH_TEXT, ARG_TEXT, false, 0 },
    { "THREADID", SEARCH_THREADID, ARG_ID, false, 0 },
    { "TO", SEARCH_ENVELOPE, ARG_TEXT, false, ENV_TO },
    { "UID", SEARCH_UID, ARG_UID, false, 0 },
    { "UNANSWERED", SEARCH_FLAGS, ARG_NONE, true, STORE_ANSWERED },
    { "UNDELETED", SEARCH_FLAGS, ARG_NONE, true, STORE_DELETED },
    { "UNDRAFT", SEARCH_FLAGS, ARG_NONE, true, STORE_DRAFT },
    { "UNFLAGGED", SEARCH_FLAGS, ARG_NONE, true, STORE_FLAGGED },
    { "UNKEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, true, 0 },
    { "UNSEEN", SEARCH_FLAGS, ARG_NONE, true, STORE_SEEN },
    { "YOUNGER", SEARCH_SECONDS, ARG_YOUNGER, false, 0 },
};

/* Days: [from, to) of a date. */
static bool date_argument(struct search *q, struct search_key *k,
                          enum argument arg)
{
    int64_t day;

    if (!imap_sp(&q->c->in) || !imap_date(&q->c->in, &day))
        return false;
    k->from = arg == ARG_BEFORE ? INT64_MIN : day;
    k->to = arg == ARG_SINCE ? INT64_MAX : arg == ARG_ON ? day + 1 : day;
    return true;
}

static bool number_argument(struct search *q, struct search_key *k,
                            enum argument arg)
{
    int64_t now = clock_wall() / 1000;
    uint64_t n;

    if (!imap_sp(&q->c->in) || !imap_number(&q->c->in, &n) ||
        n >= (uint64_t)INT64_MAX / 2)
        return false;
    k->from = INT64_MIN;
    k->to = INT64_MAX;
    if (arg == ARG_LARGER)
        k->from = (int64_t)n + 1;
    else if (arg == ARG_SMALLER)
        k->to = (int64_t)n;
    else if (arg == ARG_OLDER)
        k->to = now - (int64_t)n + 1;
    else
        k->from = now - (int64_t)n;
    return true;
}

/* Message ids and subjects are in ENVELOPE, which is cached. */
static bool header_argument(struct search *q, struct search_key *k)
{
    static const struct {
        const char *name;
        enum search_field field;
    } cached[] = { { "Subject", ENV_SUBJECT },
                   { "In-Reply-To", ENV_IN_REPLY_TO },
                   { "Message-ID", ENV_MESSAGE_ID } };

    if (!imap_sp(&q->c->in) || !imap_astring(&q->c->in, &k->name) ||
        k->name.n > MAIL_HEADER_NAME_MAX)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(cached); i++)
        if (slice_ieqs(k->name, cached[i].name)) {
            k->kind = SEARCH_ENVELOPE;
            k->field = cached[i].field;
        }
    return text_argument(q, &k->text);
}

static bool uid_argument(struct search *q, struct search_key *k)
{
    struct store_view *v = &q->c->s->selected->view;
    uint32_t n = store_view_messages(v);
    uint32_t last = n > 0 ? imap_row_uid(v, store_view_row(v, n)) : 0;

    return imap_sp(&q->c->in) && imap_set_parse(&q->c->in, last, &k->set);
}

static bool argument(struct search *q, struct search_key *k, enum argument arg)
{
    switch (arg) {
    case ARG_NONE:
        return true;
    case ARG_BEFORE:
    case ARG_ON:
    case ARG_SINCE:
        return date_argument(q, k, arg);
    case ARG_LARGER:
    case ARG_SMALLER:
    case ARG_OLDER:
    case ARG_YOUNGER:
        return number_argument(q, k, arg);
    case ARG_TEXT:
        return text_argument(q, &k->text);
    case ARG_HEADER:
        return header_argument(q, k);
    case ARG_KEYWORD:
        return keyword_argument(q, k);
    case ARG_MODSEQ:
        return modseq_argument(q, k);
    case ARG_UID:
        return uid_argument(q, k);
    case ARG_ID:
        return id_argument(q, &k->text);
    }
    return false;
}

/* ------------------------------------------------------------------ the tree
 */

/* Keys hold keys: SEARCH_DEPTH_MAX bounds it.
 * NOLINTBEGIN(misc-no-recursion) */

static struct search_key *parse_key(struct search *q, unsigned depth);

/* Cheap ones first, so that most messages are never opened. */
static void add_by_cost(struct search_key **list, struct search_key *k)
{
    while (*list != NULL && (*list)->kind <= k->kind)
        list = &(*list)->next;
    k->next = *list;
    *list = k;
}

static struct search_key *parse_list(struct search *q, unsigned depth,
                                     bool in_parens)
{
    struct search_key *all = new_key(q, SEARCH_AND);

    if (all == NULL)
        return NULL;
    do {
        struct search_key *k = parse_key(q, depth);

        if (k == NULL)
            return NULL;
        add_by_cost(&all->child, k);
    } while (imap_sp(&q->c->in));
    if (in_parens && !imap_eat(&q->c->in, ')'))
        return NULL;
    return all;
}

static struct search_key *parse_or(struct search *q, unsigned depth)
{
    struct search_key *k = new_key(q, SEARCH_OR);

    if (k == NULL)
        return NULL;
    for (int i = 0; i < 2; i++) {
        struct search_key *one =
            imap_sp(&q->c->in) ? parse_key(q, depth + 1) : NULL;

        if (one == NULL)
            return NULL;
        add_by_cost(&k->child, one);
    }
    return k;
}

static struct search_key *parse_new(struct search *q)
{
    struct search_key *all = new_key(q, SEARCH_AND);
    struct search_key *recent = new_key(q, SEARCH_RECENT);
    struct search_key *unseen = new_key(q, SEARCH_FLAGS);

    if (all == NULL || recent == NULL || unseen == NULL)
        return NULL;
    unseen->n = STORE_SEEN;
    unseen->is_not = true;
    add_by_cost(&all->child, recent);
    add_by_cost(&all->child, unseen);
    return all;
}

static struct search_key *parse_set(struct search *q)
{
    struct search_key *k = new_key(q, SEARCH_SEQ);
    uint32_t n = store_view_messages(&q->c->s->selected->view);

    return k != NULL && imap_set_parse(&q->c->in, n, &k->set) ? k : NULL;
}

static struct search_key *parse_word(struct search *q, slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const struct word *w = &words[i];
        struct search_key *k;

        if (!slice_ieqs(name, w->name))
            continue;
        k = new_key(q, w->kind);
        if (k == NULL)
            return NULL;
        k->is_not = w->is_not;
        k->n = w->n;
        k->field =
            w->kind == SEARCH_ENVELOPE ? (enum search_field)w->n : ENV_DATE;
        return argument(q, k, w->argument) ? k : NULL;
    }
    return NULL;
}

static struct search_key *parse_key(struct search *q, unsigned depth)
{
    struct imap_cursor *in = &q->c->in;
    struct search_key *k;
    slice name;

    if (depth > SEARCH_DEPTH_MAX || in->rest.n == 0)
        return NULL;
    if (imap_eat(in, '('))
        return parse_list(q, depth + 1, true);
    if (ascii_isdigit(in->rest.p[0]) || in->rest.p[0] == '*')
        return parse_set(q);
    if (!imap_atom(in, &name))
        return NULL;
    if (slice_ieqs(name, "NOT")) {
        k = imap_sp(in) ? parse_key(q, depth + 1) : NULL;
        if (k != NULL)
            k->is_not = !k->is_not;
        return k;
    }
    if (slice_ieqs(name, "OR"))
        return parse_or(q, depth);
    if (slice_ieqs(name, "NEW"))
        return parse_new(q);
    return parse_word(q, name);
}

/* NOLINTEND(misc-no-recursion) */

/* ------------------------------------------------------------- in front of it
 */

static bool return_options(struct search *q)
{
    static const struct {
        const char *name;
        unsigned what;
    } options[] = { { "MIN", SEARCH_MIN },
                    { "MAX", SEARCH_MAX },
                    { "ALL", SEARCH_LIST },
                    { "COUNT", SEARCH_COUNT } };
    struct imap_cursor *in = &q->c->in;
    slice word;

    q->is_extended = true;
    if (!imap_sp(in) || !imap_eat(in, '('))
        return false;
    while (!imap_eat(in, ')')) {
        unsigned what = 0;

        (void)imap_sp(in);
        if (!imap_atom(in, &word))
            return false;
        for (size_t i = 0; i < ARRAY_LEN(options); i++)
            if (slice_ieqs(word, options[i].name))
                what = options[i].what;
        if (what == 0)
            return false;
        q->what |= what;
    }
    if (q->what == 0)
        q->what = SEARCH_LIST;
    return imap_sp(in);
}

/* False: answered. */
static bool charset_option(struct search *q)
{
    struct imap_cursor *in = &q->c->in;

    q->charset = SL("utf-8");
    if (!imap_eat_word(in, "CHARSET "))
        return true;
    if (!imap_astring(in, &q->charset) || !imap_sp(in)) {
        imap_bad(q->c, "Invalid charset.");
        return false;
    }
    if (mail_charset_known(q->charset))
        return true;
    imap_no(q->c,
            "BADCHARSET (UTF-8 US-ASCII ISO-8859-1 ISO-2022-JP SHIFT_JIS "
            "EUC-JP)",
            "Unknown charset.");
    return false;
}

bool search_parse(struct search *q)
{
    struct imap_cursor *in = &q->c->in;

    if (!imap_sp(in))
        return false;
    if (imap_eat_word(in, "RETURN") && !return_options(q))
        return false;
    if (!charset_option(q))
        return false;
    q->keys = parse_list(q, 0, false);
    return q->keys != NULL && imap_end(in);
}
