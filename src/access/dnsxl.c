#include "access/access_priv.h"

#include "ipc/event.h"
#include "mail/domain.h"

#include <sys/socket.h>

/*
 * DNS lists: reject_rbl_client and its kin, with the replies that
 * rbl_reply_maps and default_rbl_reply make.  What a list says is kept for the
 * transaction, and lists that stand one behind the other are asked at once.
 */

#define ASK_AT_ONCE   32
#define REASON_MAX    1000
#define LIST_NAME_MAX 255

/* ------------------------------------------------------------------ *
 * Filters
 */

static bool take_number(slice *s, unsigned *out)
{
    size_t n = 0;
    uint64_t v;

    while (n < s->n && n < 3 && ascii_isdigit(s->p[n]))
        n++;
    if (n == 0 || !slice_u64(slice_sub(*s, 0, n), &v) || v > 255)
        return false;
    *out = (unsigned)v;
    *s = slice_from(*s, n);
    return true;
}

static bool take_char(slice *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

/* "4" or "4..11" */
static bool take_range(slice *s, uint8_t set[static 32])
{
    unsigned from;
    unsigned to;

    if (!take_number(s, &from))
        return false;
    to = from;
    if (slice_starts(*s, SL(".."))) {
        *s = slice_from(*s, 2);
        if (!take_number(s, &to) || to < from)
            return false;
    }
    for (unsigned i = from; i <= to; i++)
        set[i / 8] |= (uint8_t)(1u << i % 8);
    return true;
}

static bool take_octet(slice *s, uint8_t set[static 32])
{
    unsigned n;

    if (!take_char(s, '[')) {
        if (!take_number(s, &n))
            return false;
        set[n / 8] |= (uint8_t)(1u << n % 8);
        return true;
    }
    do {
        if (!take_range(s, set))
            return false;
    } while (take_char(s, ';'));
    return take_char(s, ']');
}

static bool filter_parse(slice text, struct access_filter *out)
{
    *out = (struct access_filter){ .is_any = false };
    for (int i = 0; i < 4; i++)
        if ((i > 0 && !take_char(&text, '.')) ||
            !take_octet(&text, out->set[i]))
            return false;
    return text.n == 0;
}

bool access_filter_match(const struct access_filter *f, const uint8_t *ip4)
{
    for (int i = 0; i < 4 && !f->is_any; i++)
        if ((f->set[i][ip4[i] / 8] & 1u << ip4[i] % 8) == 0)
            return false;
    return true;
}

bool access_dnsxl_parse(slice spec, struct access_dnsxl *out)
{
    slice rest = spec;

    *out = (struct access_dnsxl){ .spec = spec, .filter.is_any = true };
    if (slice_cut(&rest, '=', &out->domain) &&
        !filter_parse(rest, &out->filter))
        return false;
    if (out->domain.n > 1 && out->domain.p[out->domain.n - 1] == '.')
        out->domain.n--;
    return mail_domain_valid(out->domain);
}

/* ------------------------------------------------------------------ *
 * What was asked
 */

struct access_known {
    struct access_known *next;
    slice query;
    enum dns_result result;
    uint8_t (*ip)[4];
    size_t n_ip;
    bool has_reason;
    slice reason; /* TXT */
};

static struct access_known *known_find(const struct access_session *s,
                                       slice query)
{
    for (struct access_known *k = s->known; k != NULL; k = k->next)
        if (slice_ieq(k->query, query))
            return k;
    return NULL;
}

static void known_add(struct access_session *s, slice query,
                      const struct dns_answer *answer)
{
    struct access_known *k = arena_alloc(s->arena, sizeof *k);

    if (k == NULL)
        return;
    k->query = slice_dup(s->arena, query);
    k->result = answer->result;
    k->ip = arena_alloc(s->arena, (answer->n_rr + 1) * sizeof *k->ip);
    if (k->ip == NULL || k->query.p == NULL)
        return;
    for (size_t i = 0; i < answer->n_rr; i++)
        if (answer->rr[i].type == DNS_A)
            memcpy(k->ip[k->n_ip++], answer->rr[i].ip, 4);
    if (k->result == DNS_FAIL)
        log_warning("%.*s: RBL lookup error: %.*s", SLF(query),
                    SLF(answer->why));
    k->next = s->known;
    s->known = k;
}

/* ------------------------------------------------------------------ *
 * Questions
 */

/* What a restriction looks for in its list. */
static slice subject_of(const struct check *c, const struct rule *r)
{
    const struct access_session *s = c->s;
    const char *name = r->what->name;

    if (r->what->fn == check_rbl_client)
        return s->addr;
    if (strcmp(name, "permit_dnswl_client") == 0)
        return s->addr;
    if (strcmp(name, "reject_rhsbl_client") == 0 ||
        strcmp(name, "permit_rhswl_client") == 0)
        return slice_ieqs(s->name, "unknown") ? SLICE_NONE : s->name;
    if (strcmp(name, "reject_rhsbl_reverse_client") == 0)
        return slice_ieqs(s->reverse_name, "unknown") ? SLICE_NONE
                                                      : s->reverse_name;
    if (strcmp(name, "reject_rhsbl_helo") == 0)
        return s->helo;
    if (strcmp(name, "reject_rhsbl_sender") == 0)
        return s->has_sender ? s->sender : SLICE_NONE;
    return s->recipient;
}

static bool is_list_rule(const struct rule *r)
{
    return r->what != NULL && r->what->arg == ARG_DNSXL;
}

static bool is_by_addr(const struct rule *r)
{
    return r->what->fn == check_rbl_client ||
           strcmp(r->what->name, "permit_dnswl_client") == 0;
}

static slice addr_query(slice addr, slice domain, struct arena *a)
{
    char digits[100];
    uint8_t ip[16];
    int family;

    if (!mail_ip_parse(addr, &family, ip))
        return SLICE_NONE;
    dns_reverse_name(family == 4 ? AF_INET : AF_INET6, ip, "", "", digits);
    return slice_str(arena_printf(a, "%s%.*s", digits, SLF(domain)));
}

static slice name_query(slice what, slice domain, struct arena *a)
{
    slice name = check_domain_of(what);
    slice ascii;
    uint8_t ip[16];
    int family;

    if (name.n == 0 || name.p[0] == '[' || mail_ip_parse(name, &family, ip) ||
        !mail_domain_valid(name) || dns_ascii_name(name, a, &ascii) < 0 ||
        ascii.n + 1 + domain.n > LIST_NAME_MAX)
        return SLICE_NONE;
    return slice_str(arena_printf(a, "%.*s.%.*s", SLF(ascii), SLF(domain)));
}

/* n 0: this rule has nothing to ask. */
static slice query_of(const struct check *c, const struct rule *r,
                      struct arena *a)
{
    slice subject = subject_of(c, r);

    if (subject.n == 0)
        return SLICE_NONE;
    return is_by_addr(r) ? addr_query(subject, r->list.domain, a)
                         : name_query(subject, r->list.domain, a);
}

/* This question, and those of the lists right behind it. */
MAY_WAIT static int ask_lists(struct check *c, slice query, struct arena *a)
{
    struct dns_question q[ASK_AT_ONCE];
    struct dns_answer *answers = xarena_alloc(a, ASK_AT_ONCE * sizeof *answers);
    size_t n = 1;

    q[0] = (struct dns_question){ .name = query, .type = DNS_A };
    for (size_t i = 1; i < c->n_rest && n < ASK_AT_ONCE; i++) {
        slice more;

        if (!is_list_rule(&c->rest[i]))
            break;
        more = query_of(c, &c->rest[i], a);
        if (more.n > 0 && known_find(c->s, more) == NULL)
            q[n++] = (struct dns_question){ .name = more, .type = DNS_A };
    }
    if (check_dns(c, q, n, a, answers) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (known_find(c->s, q[i].name) == NULL)
            known_add(c->s, q[i].name, &answers[i]);
    return 0;
}

enum listed { LISTED_NO, LISTED_YES, LISTED_LATER, LISTED_GONE };

MAY_WAIT static enum listed look_up(struct check *c,
                                    const struct access_dnsxl *list,
                                    slice query, struct access_known **out)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    struct access_known *k;

    if (query.n == 0)
        return LISTED_NO;
    k = known_find(c->s, query);
    if (k == NULL) {
        a = arena_new(1u << 20);
        if (ask_lists(c, query, a) < 0)
            return LISTED_GONE;
        k = known_find(c->s, query);
    }
    if (k == NULL || k->result == DNS_FAIL)
        return LISTED_LATER;
    for (size_t i = 0; k->result == DNS_OK && i < k->n_ip; i++)
        if (access_filter_match(&list->filter, k->ip[i])) {
            *out = k;
            return LISTED_YES;
        }
    return LISTED_NO;
}

/* ------------------------------------------------------------------ *
 * Replies
 */

/* The TXT records, as "one / two". */
MAY_WAIT static int find_reason(struct check *c, struct access_known *k)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    const struct dns_question q = { .name = k->query, .type = DNS_TXT };
    struct dns_answer answer;
    struct buf b CLEANUP(buf_done);

    buf_init(&b, (size_t)4 * REASON_MAX);
    if (k->has_reason)
        return 0;
    if (check_dns(c, &q, 1, a, &answer) < 0)
        return -1;
    for (size_t i = 0; i < answer.n_rr && b.n < REASON_MAX; i++) {
        if (answer.rr[i].type != DNS_TXT)
            continue;
        (void)buf_printf(&b, "%s%.*s", b.n > 0 ? " / " : "",
                         SLF(answer.rr[i].text));
    }
    k->has_reason = true;
    k->reason = slice_dup(c->s->arena, slice_sub(buf_view(&b), 0, REASON_MAX));
    return 0;
}

struct expansion {
    struct check *c;
    const struct access_dnsxl *list;
    slice what;
    const char *class;
    slice reason;
};

/* The parts of an address: "sender_name", "recipient_domain" ... */
static void put_addr(slice addr, slice part, struct buf *out)
{
    slice local = addr;
    slice domain = SLICE_NONE;
    ssize_t at = slice_rchr(addr, '@');

    if (at >= 0) {
        local = slice_sub(addr, 0, (size_t)at);
        domain = slice_from(addr, (size_t)at + 1);
    }
    if (slice_eqs(part, "_name"))
        (void)buf_slice(out, local);
    else if (slice_eqs(part, "_domain"))
        (void)buf_slice(out, domain);
    else
        (void)buf_slice(out, addr);
}

static bool expand_session(const struct access_session *s, slice name,
                           struct check *c, struct buf *out)
{
    const struct {
        const char *name;
        slice value;
    } plain[] = {
        { "client_address", s->addr },
        { "client_name", s->name },
        { "reverse_client_name", s->reverse_name },
        { "helo_name", s->helo },
        { "sasl_username", s->sasl_user },
        { "ccert_fingerprint", s->ccert_fingerprint },
        { "ccert_pubkey_fingerprint", s->ccert_key_fingerprint },
    };

    if (slice_eqs(name, "client"))
        return buf_slice(out, check_client_text(c->a, c->s));
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (slice_eqs(name, plain[i].name)) {
            (void)buf_slice(out, plain[i].value);
            return plain[i].value.n > 0;
        }
    if (slice_starts(name, SL("sender"))) {
        if (s->has_sender && s->sender.n == 0 &&
            !slice_ends(name, SL("_domain")))
            (void)buf_puts(out, "<>");
        else
            put_addr(s->sender, slice_from(name, 6), out);
        return s->has_sender;
    }
    if (!slice_starts(name, SL("recipient")))
        return false;
    put_addr(s->recipient, slice_from(name, 9), out);
    return s->recipient.n > 0;
}

static bool expand(void *ctx, slice name, struct buf *out)
{
    const struct expansion *e = ctx;

    if (slice_eqs(name, "rbl_code"))
        return buf_printf(out, "%03d", e->c->a->rbl_code);
    if (slice_eqs(name, "rbl_domain"))
        return buf_slice(out, e->list->domain);
    if (slice_eqs(name, "rbl_reason") || slice_eqs(name, "rbl_txt")) {
        (void)buf_slice(out, e->reason);
        return e->reason.n > 0;
    }
    if (slice_eqs(name, "rbl_what"))
        return buf_slice(out, e->what);
    if (slice_eqs(name, "rbl_class"))
        return buf_puts(out, e->class);
    return expand_session(e->c->s, name, e->c, out);
}

static enum verdict say(struct check *c, slice reply)
{
    char status[16] = "4.7.1";
    slice text = reply;
    slice code;
    uint64_t n;

    if (!slice_cut(&text, ' ', &code) || code.n != 3 || !slice_u64(code, &n) ||
        n < 400 || n > 599) {
        log_warning("rbl response code configuration error: %.*s",
                    SLF(slice_sub(reply, 0, 100)));
        return check_refuse(c, false, 450, "4.7.1", "Service unavailable");
    }
    text = slice_trim(text);
    (void)check_status_take(&text, status, sizeof status);
    return check_refuse(c, false, (int)n, status, "%.*s",
                        SLF(text.n > 0 ? text : SL("Service unavailable")));
}

MAY_WAIT static enum verdict listed(struct check *c,
                                    const struct access_dnsxl *list,
                                    struct access_known *k, slice what,
                                    const char *class)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    struct expansion e = { c, list, what, class, SLICE_NONE };
    slice template = SLICE_NONE;
    struct buf b CLEANUP(buf_done);
    struct err err;

    buf_init(&b, 4096);
    if (find_reason(c, k) < 0)
        return SAYS_GONE;
    e.reason = k->reason;
    if (!table_list_is_empty(c->a->rbl_replies) &&
        table_list_lookup(c->a->rbl_replies, list->spec, 0, a, &template,
                          &err) < 0) {
        if (err.class == ERR_PEER)
            return SAYS_GONE;
        log_warning("%s", err.log);
        return check_server_error(c);
    }
    if (template.p != NULL &&
        conf_expand_filtered(template, expand, &e, c->a->expansion_chars, &b,
                             &err) == 0)
        return say(c, buf_view(&b));
    if (template.p != NULL)
        log_warning("bad rbl reply template for domain %.*s: %.*s",
                    SLF(list->spec), SLF(slice_sub(template, 0, 100)));
    buf_clear(&b);
    if (conf_expand_filtered(c->a->rbl_reply, expand, &e, c->a->expansion_chars,
                             &b, &err) < 0) {
        log_warning("default_rbl_reply: %s", err.log);
        return check_server_error(c);
    }
    return say(c, buf_view(&b));
}

/* ------------------------------------------------------------------ *
 * Restrictions
 */

MAY_WAIT static enum verdict reject_listed(struct check *c,
                                           const struct access_dnsxl *list,
                                           slice query, slice what,
                                           const char *class)
{
    struct access_known *k = NULL;

    switch (look_up(c, list, query, &k)) {
    case LISTED_YES:
        return listed(c, list, k, what, class);
    case LISTED_GONE:
        return SAYS_GONE;
    case LISTED_NO:
    case LISTED_LATER: /* no mail is kept away by a list that is down */
        break;
    }
    return SAYS_DUNNO;
}

enum verdict check_rbl_client(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 16);

    return reject_listed(c, &r->list, query_of(c, r, a), c->s->addr,
                         "Client host");
}

static const char *class_of(const struct rule *r)
{
    static const char *const classes[][2] = {
        { "reject_rhsbl_client", "Client host" },
        { "reject_rhsbl_reverse_client", "Unverified Client host" },
        { "reject_rhsbl_helo", "Helo command" },
        { "reject_rhsbl_sender", "Sender address" },
    };

    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (strcmp(r->what->name, classes[i][0]) == 0)
            return classes[i][1];
    return "Recipient address";
}

enum verdict check_rhsbl(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 16);

    return reject_listed(c, &r->list, query_of(c, r, a), subject_of(c, r),
                         class_of(r));
}

enum verdict check_maps_rbl(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 16);
    enum verdict says = SAYS_DUNNO;

    (void)r;
    c->n_rest = 0;
    for (size_t i = 0; i < c->a->n_maps_rbl && says == SAYS_DUNNO; i++) {
        const struct access_dnsxl *list = &c->a->maps_rbl[i];

        says = reject_listed(c, list, addr_query(c->s->addr, list->domain, a),
                             c->s->addr, "Client host");
    }
    return says;
}

/* Nobody is let through to where he may not relay. */
MAY_WAIT static enum verdict may_permit(struct check *c)
{
    enum verdict says;

    if (strcmp(c->where, "RCPT") != 0 || c->s->recipient.p == NULL)
        return SAYS_OK;
    says = check_auth_destination(c);
    return says;
}

enum verdict check_dnswl(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 16);
    slice subject = subject_of(c, r);
    enum verdict says = may_permit(c);
    struct access_known *k = NULL;

    if (says != SAYS_OK)
        return says;
    switch (look_up(c, &r->list, query_of(c, r, a), &k)) {
    case LISTED_YES:
        c->grants_relay = false;
        return SAYS_OK;
    case LISTED_LATER:
        check_defer_if_text(c, &c->if_reject, "4.7.1",
                            "<%.*s>: %s rejected: Service unavailable",
                            SLF(subject), "Client host");
        return SAYS_DUNNO;
    case LISTED_GONE:
        return SAYS_GONE;
    case LISTED_NO:
        break;
    }
    return SAYS_DUNNO;
}
