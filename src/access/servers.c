#include "access/access_priv.h"

#include "ipc/event.h"
#include "mail/address.h"
#include "mail/domain.h"

/* The hosts behind a name: check_*_{a,mx,ns}_access, and permit_mx_backup. */

/* ------------------------------------------------------------------ *
 * check_*_access
 */

struct subject {
    slice name; /* what was given: an address, a host name */
    const char *class;
    slice reply_name;
};

/* Of whom this restriction asks; false: of nobody now. */
static bool subject_find(struct check *c, const struct rule *r,
                         struct subject *out)
{
    const struct access_session *s = c->s;
    slice word = slice_from(slice_str(r->what->name), strlen("check_"));

    if (slice_starts(word, SL("client_")))
        *out = (struct subject){ s->name, "Client host",
                                 check_client_text(c->a, c->s) };
    else if (slice_starts(word, SL("reverse_")))
        *out = (struct subject){ s->reverse_name, "Unverified Client host",
                                 s->reverse_name };
    else if (slice_starts(word, SL("helo_")))
        *out = (struct subject){ s->helo, "Helo command", s->helo };
    else if (slice_starts(word, SL("sender_")))
        *out = (struct subject){ s->sender, "Sender address", s->sender };
    else
        *out =
            (struct subject){ s->recipient, "Recipient address", s->recipient };
    if (slice_starts(word, SL("client_")) || slice_starts(word, SL("reverse_")))
        return !slice_ieqs(out->name, "unknown");
    return out->name.n > 0;
}

static enum dns_type type_of(const struct rule *r)
{
    slice word = slice_str(r->what->name);

    if (slice_ends(word, SL("_mx_access")))
        return DNS_MX;
    return slice_ends(word, SL("_ns_access")) ? DNS_NS : DNS_A;
}

/* "[192.0.2.1]": its own mail server; it has no name server. */
MAY_WAIT static int ask_literal(struct asking *q, slice domain,
                                enum dns_type type, enum verdict *says)
{
    slice inside = slice_sub(domain, 1, domain.n - 2);
    uint8_t ip[16];
    int family;

    if (type == DNS_NS || !mail_literal_parse(domain, &family, ip))
        return 0;
    if (slice_istarts(inside, SL("IPv6:")))
        inside = slice_from(inside, 5);
    return check_ask_addr(q, inside, says);
}

static bool is_missing(const struct dns_answer *answer)
{
    return answer->result == DNS_NODATA || answer->result == DNS_NXDOMAIN;
}

/* A domain's name servers may be its parent's. */
MAY_WAIT static int ask_parents(struct asking *q, slice name,
                                struct dns_answer *answer)
{
    struct dns_question question = { .name = name, .type = DNS_NS };
    slice head;

    while (is_missing(answer) && slice_cut(&question.name, '.', &head) &&
           question.name.n > 0)
        if (check_dns(q->c, &question, 1, q->a, answer) < 0)
            return -1;
    return 0;
}

/* The servers' names.  0 with *n (0: none, or it cannot be known, which is
 * logged), -1: cancelled. */
MAY_WAIT static int servers_of(struct asking *q, slice domain,
                               enum dns_type type, slice **names, size_t *n)
{
    const struct dns_question question = { .name = domain, .type = type };
    struct dns_answer answer = { .result = DNS_OK };

    *n = 0;
    if (type != DNS_A && check_dns(q->c, &question, 1, q->a, &answer) < 0)
        return -1;
    if (type == DNS_NS && ask_parents(q, domain, &answer) < 0)
        return -1;
    *names = arena_alloc(q->a, (answer.n_rr + 1) * sizeof **names);
    if (*names == NULL)
        return 0;
    if (type == DNS_A || (type == DNS_MX && is_missing(&answer))) {
        (*names)[(*n)++] = domain;
        return 0;
    }
    if (answer.result == DNS_FAIL)
        log_warning("Unable to look up %s host for %.*s: %.*s",
                    type == DNS_MX ? "MX" : "NS", SLF(domain), SLF(answer.why));
    for (size_t i = 0; i < answer.n_rr; i++)
        if (answer.rr[i].type == type && answer.rr[i].name.n > 0)
            (*names)[(*n)++] = answer.rr[i].name;
    return 0;
}

MAY_WAIT static int ask_answers(struct asking *q,
                                const struct dns_answer answers[static 2],
                                enum verdict *says)
{
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < answers[k].n_rr; i++) {
            const char *text = check_rr_text(&answers[k].rr[i], q->a);

            if (text != NULL && check_ask_addr(q, slice_str(text), says) < 0)
                return -1;
            if (q->value.p != NULL)
                return 0;
        }
    return 0;
}

/* A server: by its name, then by its addresses. */
MAY_WAIT static int ask_server(struct asking *q, slice name, enum dns_type type,
                               enum verdict *says)
{
    struct dns_answer answers[2];
    uint8_t ip[16];
    int family;

    if (mail_ip_parse(name, &family, ip) && check_ask_addr(q, name, says) < 0)
        return -1;
    if (q->value.p == NULL && type != DNS_A &&
        check_ask_domain(q, name, says) < 0)
        return -1;
    if (q->value.p != NULL)
        return 0;
    if (check_host_addrs(q->c, name, q->a, answers) < 0) {
        *says = SAYS_GONE;
        return -1;
    }
    if (type != DNS_A && answers[0].result != DNS_OK &&
        answers[1].result != DNS_OK)
        log_warning("Unable to look up %s host %.*s for %s %.*s: %.*s",
                    type == DNS_MX ? "MX" : "NS", SLF(name), q->c->reply_class,
                    SLF(q->c->reply_name), SLF(answers[0].why));
    return ask_answers(q, answers, says);
}

MAY_WAIT static int ask_servers(struct asking *q, slice domain,
                                enum dns_type type, enum verdict *says)
{
    slice *names;
    size_t n;
    slice ascii;

    if (domain.n > 0 && domain.p[0] == '[')
        return ask_literal(q, domain, type, says);
    if (dns_ascii_name(domain, q->a, &ascii) < 0)
        return 0;
    if (servers_of(q, ascii, type, &names, &n) < 0) {
        *says = SAYS_GONE;
        return -1;
    }
    for (size_t i = 0; i < n && q->value.p == NULL; i++)
        if (ask_server(q, names[i], type, says) < 0)
            return -1;
    return 0;
}

enum verdict check_forbid_ok(struct check *c, const struct rule *r,
                             enum verdict says, slice name)
{
    if (says != SAYS_OK)
        return says;
    log_warning("restriction %s returns OK for %.*s", r->what->name, SLF(name));
    log_warning("this is not allowed for security reasons");
    log_warning("use DUNNO instead of OK if you want to make an exception");
    return check_server_error(c);
}

enum verdict check_servers(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    struct asking q = { .c = c, .r = r, .a = a };
    slice saved_name = c->reply_name;
    const char *saved_class = c->reply_class;
    enum verdict says = SAYS_DUNNO;
    struct subject who;

    if (!subject_find(c, r, &who))
        return SAYS_DUNNO;
    c->reply_name = who.reply_name;
    c->reply_class = who.class;
    if (ask_servers(&q, check_domain_of(who.name), type_of(r), &says) == 0 &&
        q.value.p != NULL)
        says =
            check_forbid_ok(c, r, check_result(c, r, q.key, q.value), who.name);
    c->reply_name = saved_name;
    c->reply_class = saved_class;
    return says;
}

/* ------------------------------------------------------------------ *
 * permit_mx_backup
 */

struct backup {
    struct check *c;
    struct arena *a;
    const struct dns_answer *mx;
};

static bool is_own(const struct access *a, const struct dns_rr *rr)
{
    bool is_v6 = rr->type == DNS_AAAA;

    for (size_t i = 0; i < a->n_own; i++)
        if (a->own[i].is_v6 == is_v6 &&
            memcmp(a->own[i].ip, rr->ip, is_v6 ? 16 : 4) == 0)
            return true;
    return false;
}

static void cannot_look_up(struct check *c, slice host, slice why)
{
    if (why.n == 0)
        why = SL("Host not found");
    check_defer_if_text(c, &c->if_reject, "4.4.4",
                        "<%.*s>: Recipient address rejected: Unable to look up "
                        "host %.*s as mail exchanger: %.*s",
                        SLF(c->s->recipient), SLF(host), SLF(why));
}

/* Is the host this machine?  -1: cancelled. */
MAY_WAIT static int is_me(struct backup *b, slice host, bool *out)
{
    struct dns_answer answers[2];
    struct err err;

    *out = false;
    if (address_is_local(b->c->a->address, host, out, &err) < 0 &&
        err.class == ERR_PEER)
        return -1;
    if (*out)
        return 0;
    if (check_host_addrs(b->c, host, b->a, answers) < 0)
        return -1;
    if (answers[0].result != DNS_OK && answers[1].result != DNS_OK)
        cannot_look_up(b->c, host, answers[0].why);
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < answers[k].n_rr; i++)
            *out |= is_own(b->c->a, &answers[k].rr[i]);
    return 0;
}

/* All addresses of the host lie in permit_mx_backup_networks. */
MAY_WAIT static int is_trusted(struct backup *b, slice host, bool *out)
{
    struct dns_answer answers[2];
    struct err err;

    if (check_host_addrs(b->c, host, b->a, answers) < 0)
        return -1;
    *out = answers[0].result == DNS_OK || answers[1].result == DNS_OK;
    if (!*out)
        cannot_look_up(b->c, host, answers[0].why);
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < answers[k].n_rr && *out; i++) {
            const char *text = check_rr_text(&answers[k].rr[i], b->a);

            if (text == NULL)
                continue;
            if (table_match_client(b->c->a->mx_networks, host, slice_str(text),
                                   out, &err) < 0) {
                *out = false;
                if (err.class == ERR_PEER)
                    return -1;
                cannot_look_up(b->c, host, slice_str(err.log));
            }
        }
    return 0;
}

static unsigned best_pref(const struct dns_answer *mx)
{
    unsigned best = UINT_MAX;

    for (size_t i = 0; i < mx->n_rr; i++)
        if (mx->rr[i].type == DNS_MX && mx->rr[i].pref < best)
            best = mx->rr[i].pref;
    return best;
}

/* We are among the mail exchangers, and the best ones are trusted. */
MAY_WAIT static int is_backup(struct backup *b, bool *out)
{
    unsigned best = best_pref(b->mx);
    bool good = true;
    bool me = false;

    *out = false;
    for (size_t i = 0; i < b->mx->n_rr; i++) {
        bool this = false;

        if (b->mx->rr[i].type != DNS_MX || b->mx->rr[i].name.n == 0)
            continue;
        if (is_me(b, b->mx->rr[i].name, &this) < 0)
            return -1;
        /* The primary one: mail would come back to us. */
        if (this && b->mx->rr[i].pref == best)
            return 0;
        me |= this;
    }
    for (size_t i = 0; i < b->mx->n_rr && me && good; i++)
        if (b->c->a->has_mx_networks && b->mx->rr[i].type == DNS_MX &&
            b->mx->rr[i].pref == best &&
            is_trusted(b, b->mx->rr[i].name, &good) < 0)
            return -1;
    *out = me && good;
    return 0;
}

MAY_WAIT static enum verdict backup_for(struct check *c, slice domain,
                                        struct arena *a)
{
    struct dns_question q = { .type = DNS_MX };
    struct dns_answer mx;
    struct backup b = { c, a, &mx };
    bool yes;

    if (dns_ascii_name(domain, a, &q.name) < 0)
        return SAYS_DUNNO;
    if (check_dns(c, &q, 1, a, &mx) < 0)
        return SAYS_GONE;
    if (mx.result == DNS_FAIL)
        check_defer_if_text(c, &c->if_reject, "4.4.4",
                            "<%.*s>: Recipient address rejected: Unable to "
                            "look up mail exchanger information: %.*s",
                            SLF(c->s->recipient), SLF(mx.why));
    if (mx.result != DNS_OK)
        return SAYS_DUNNO;
    if (is_backup(&b, &yes) < 0)
        return SAYS_GONE;
    c->grants_relay = yes;
    return yes ? SAYS_OK : SAYS_DUNNO;
}

enum verdict check_mx_backup(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    struct address_route route;
    struct err err;
    ssize_t at;

    (void)r;
    if (c->s->recipient.n == 0)
        return SAYS_DUNNO;
    if (address_resolve(c->a->address, c->s->sender, c->s->recipient, a, &route,
                        &err) < 0)
        return check_trouble(c, c->s->recipient, &err);
    at = slice_rchr(route.recipient, '@');
    if (at < 0 || route.class == ADDRESS_CLASS_LOCAL)
        return SAYS_OK;
    if (route.is_routed && !c->a->allows_routes)
        return SAYS_DUNNO;
    if (route.class != ADDRESS_CLASS_DEFAULT)
        return SAYS_OK;
    if (route.recipient.p[at + 1] == '[')
        return SAYS_DUNNO;
    return backup_for(c, slice_from(route.recipient, (size_t)at + 1), a);
}
