#include "access/access_priv.h"

#include "ipc/event.h"
#include "mail/address.h"
#include "mail/domain.h"

#include <arpa/inet.h>
#include <sys/socket.h>

/* Restrictions that ask DNS for the names that a client gave, or has. */

/* ------------------------------------------------------------------ *
 * Asking
 */

/* smtpd_dns_reply_filter: "name ttl class type [preference] value", names with
 * their final dot. */
static void put_record(struct buf *b, slice owner, const struct dns_rr *rr,
                       struct arena *a)
{
    static const struct {
        enum dns_type type;
        const char *name;
    } types[] = {
        { DNS_A, "A" },   { DNS_AAAA, "AAAA" }, { DNS_MX, "MX" },
        { DNS_NS, "NS" }, { DNS_TXT, "TXT" },   { DNS_PTR, "PTR" },
    };

    const char *type = "?";
    const char *addr = check_rr_text(rr, a);

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].type == rr->type)
            type = types[i].name;
    (void)buf_printf(b, "%.*s. %u IN %s ", SLF(owner), rr->ttl, type);
    if (addr != NULL)
        (void)buf_puts(b, addr);
    else if (rr->type == DNS_TXT)
        (void)buf_slice(b, rr->text);
    else if (rr->type == DNS_MX)
        (void)buf_printf(b, "%u %.*s.", rr->pref, SLF(rr->name));
    else
        (void)buf_printf(b, "%.*s.", SLF(rr->name));
}

/* -1: cancelled.  *is_kept: does the filter let it through? */
MAY_WAIT static int filter_record(struct check *c, slice owner,
                                  const struct dns_rr *rr, struct arena *a,
                                  bool *is_kept)
{
    slice value = SLICE_NONE;
    struct err err;
    struct buf b;
    int rc;

    *is_kept = true;
    buf_init(&b, 70000);
    put_record(&b, owner, rr, a);
    rc = table_list_lookup(c->a->dns_filter, buf_view(&b), 0, a, &value, &err);
    if (rc < 0)
        log_warning("%s", err.log);
    else if (slice_ieqs(value, "IGNORE"))
        *is_kept = false;
    else if (value.p != NULL)
        log_warning("smtpd_dns_reply_filter: unknown action %.*s for %.*s",
                    SLF(slice_sub(value, 0, 60)),
                    SLF(slice_sub(buf_view(&b), 0, 200)));
    buf_done(&b);
    return rc < 0 && err.class == ERR_PEER ? -1 : 0;
}

MAY_WAIT static int filter_answers(struct check *c, size_t n, struct arena *a,
                                   struct dns_answer *out)
{
    bool is_kept;

    if (table_list_is_empty(c->a->dns_filter))
        return 0;
    for (size_t i = 0; i < n; i++) {
        size_t kept = 0;

        for (size_t k = 0; k < out[i].n_rr; k++) {
            if (filter_record(c, out[i].canonical, &out[i].rr[k], a, &is_kept) <
                0)
                return -1;
            if (is_kept)
                out[i].rr[kept++] = out[i].rr[k];
        }
        if (out[i].n_rr == 0 || kept == out[i].n_rr)
            continue;
        out[i].n_rr = kept;
        if (kept > 0)
            continue;
        out[i].result = DNS_NODATA;
        out[i].why = SL("DNS reply filter drops all results");
    }
    return 0;
}

int check_dns(struct check *c, const struct dns_question *q, size_t n,
              struct arena *a, struct dns_answer *out)
{
    struct err err;

    for (size_t i = 0; i < n; i++)
        out[i] =
            (struct dns_answer){ .result = DNS_FAIL, .why = SL("no resolver") };
    if (c->a->dns == NULL)
        return 0;
    if (dns_query_all(c->a->dns, q, n, a, out, &err) == 0)
        return filter_answers(c, n, a, out);
    if (err.class == ERR_PEER)
        return -1;
    log_warning("%s", err.log);
    for (size_t i = 0; i < n; i++)
        out[i] = (struct dns_answer){ .result = DNS_FAIL,
                                      .why = SL("answer too big") };
    return 0;
}

int check_host_addrs(struct check *c, slice host, struct arena *a,
                     struct dns_answer out[static 2])
{
    struct dns_question q[2] = { { .name = host, .type = DNS_A },
                                 { .name = host, .type = DNS_AAAA } };

    out[1] = (struct dns_answer){ .result = DNS_NODATA };
    if (c->a->hosts != NULL) {
        dns_hosts_find(c->a->hosts, host, a, &out[0]);
        if (out[0].result == DNS_OK)
            return 0;
    }
    if (c->a->use_v4 && c->a->use_v6)
        return check_dns(c, q, 2, a, out);
    return check_dns(c, c->a->use_v6 ? &q[1] : &q[0], 1, a, out);
}

const char *check_rr_text(const struct dns_rr *rr, struct arena *a)
{
    char *text = arena_alloc(a, INET6_ADDRSTRLEN);

    if (text == NULL || (rr->type != DNS_A && rr->type != DNS_AAAA) ||
        inet_ntop(rr->type == DNS_A ? AF_INET : AF_INET6, rr->ip, text,
                  INET6_ADDRSTRLEN) == NULL)
        return NULL;
    return text;
}

slice check_domain_of(slice addr_or_name)
{
    ssize_t at = slice_rchr(addr_or_name, '@');

    return slice_from(addr_or_name, at < 0 ? 0 : (size_t)at + 1);
}

/* ------------------------------------------------------------------ *
 * Does a name exist?
 */

enum existence { THERE, NOT_THERE, TAKES_NO_MAIL, NOT_KNOWN, CANCELLED };

static bool is_null_mx(const struct dns_answer *answer)
{
    return answer->result == DNS_OK && answer->n_rr == 1 &&
           answer->rr[0].type == DNS_MX &&
           (answer->rr[0].name.n == 0 || slice_eqs(answer->rr[0].name, "."));
}

/* By an MX, A or AAAA record; all three are asked for at once. */
MAY_WAIT static enum existence exists(struct check *c, slice name)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);

    static const enum dns_type types[] = { DNS_MX, DNS_A, DNS_AAAA };
    struct dns_question q[ARRAY_LEN(types)];
    struct dns_answer answers[ARRAY_LEN(types)];
    bool is_unknown = false;
    slice ascii;

    if (!mail_domain_valid(name) || dns_ascii_name(name, a, &ascii) < 0)
        return NOT_THERE;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        q[i] = (struct dns_question){ .name = ascii, .type = types[i] };
    if (check_dns(c, q, ARRAY_LEN(types), a, answers) < 0)
        return CANCELLED;
    if (is_null_mx(&answers[0]))
        return TAKES_NO_MAIL;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (answers[i].result == DNS_OK)
            return THERE;
        is_unknown |= answers[i].result == DNS_FAIL;
    }
    return is_unknown ? NOT_KNOWN : NOT_THERE;
}

/* *_tempfail_action */
static enum verdict not_known(struct check *c, bool defers, const char *status,
                              slice name, const char *class, const char *why)
{
    if (defers || c->warn_depth > 0)
        return check_refuse(c, false, 450, status, "<%.*s>: %s rejected: %s",
                            SLF(name), class, why);
    check_defer_if_text(c, &c->if_permit, status, "<%.*s>: %s rejected: %s",
                        SLF(name), class, why);
    return SAYS_DUNNO;
}

MAY_WAIT static enum verdict reject_unknown_helo(struct check *c,
                                                 const struct rule *r)
{
    slice helo = c->s->helo;
    uint8_t ip[16];
    int family;

    (void)r;
    if (helo.n == 0)
        return SAYS_DUNNO;
    if (helo.p[0] == '[') {
        if (mail_literal_parse(helo, &family, ip))
            return SAYS_DUNNO;
        return check_refuse(c, false, c->a->bad_name_code, "5.5.2",
                            "<%.*s>: Helo command rejected: invalid ip "
                            "address",
                            SLF(helo));
    }
    switch (exists(c, helo)) {
    case THERE:
    case TAKES_NO_MAIL:
        return SAYS_DUNNO;
    case CANCELLED:
        return SAYS_GONE;
    case NOT_KNOWN:
        return not_known(c, c->a->unknown_host_defers, "4.7.1", helo,
                         "Helo command", "Host not found");
    case NOT_THERE:
        break;
    }
    return check_refuse(c, false, c->a->unknown_host_code, "4.7.1",
                        "<%.*s>: Helo command rejected: Host not found",
                        SLF(helo));
}

MAY_WAIT static enum verdict unknown_domain(struct check *c, slice addr,
                                            slice domain, bool is_sender)
{
    const char *class = is_sender ? "Sender address" : "Recipient address";
    const char *status = is_sender ? "4.1.8" : "4.1.2";

    switch (exists(c, domain)) {
    case THERE:
        return SAYS_DUNNO;
    case CANCELLED:
        return SAYS_GONE;
    case TAKES_NO_MAIL: /* RFC 7505 */
        return check_refuse(c, false, is_sender ? 550 : 556,
                            is_sender ? "4.7.27" : "4.1.10",
                            "<%.*s>: %s rejected: Domain %.*s does not accept "
                            "mail (nullMX)",
                            SLF(addr), class, SLF(domain));
    case NOT_KNOWN:
        return not_known(c, c->a->unknown_address_defers, status, addr, class,
                         "Domain not found");
    case NOT_THERE:
        break;
    }
    return check_refuse(c, false, c->a->unknown_address_code, status,
                        "<%.*s>: %s rejected: Domain not found", SLF(addr),
                        class);
}

MAY_WAIT static enum verdict unknown_address(struct check *c, slice addr,
                                             bool is_sender)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    struct address_route route;
    struct err err;
    slice domain;
    ssize_t at;

    if (address_resolve(c->a->address, is_sender ? SLICE_NONE : c->s->sender,
                        addr, a, &route, &err) < 0)
        return check_trouble(c, addr, &err);
    at = slice_rchr(route.recipient, '@');
    if (at < 0 || (route.class != ADDRESS_CLASS_DEFAULT &&
                   route.class != ADDRESS_CLASS_RELAY))
        return SAYS_DUNNO;
    domain = slice_from(route.recipient, (size_t)at + 1);
    if (domain.n > 0 && domain.p[0] == '[')
        return SAYS_DUNNO;
    return unknown_domain(c, addr, domain, is_sender);
}

MAY_WAIT static enum verdict reject_unknown_sender(struct check *c,
                                                   const struct rule *r)
{
    (void)r;
    if (!c->s->has_sender || c->s->sender.n == 0)
        return SAYS_DUNNO;
    return unknown_address(c, c->s->sender, true);
}

MAY_WAIT static enum verdict reject_unknown_rcpt(struct check *c,
                                                 const struct rule *r)
{
    (void)r;
    if (c->s->recipient.n == 0)
        return SAYS_DUNNO;
    return unknown_address(c, c->s->recipient, false);
}

/* ------------------------------------------------------------------ *
 * The client's name (RFC 7372 3.3 for its status)
 */

static enum verdict unknown_client(struct check *c, enum access_name status,
                                   const char *dsn, const char *which)
{
    if (status == ACCESS_NAME_OK)
        return SAYS_DUNNO;
    return check_refuse(
        c, false, status == ACCESS_NAME_TEMP ? 450 : c->a->unknown_client_code,
        dsn, "Client host rejected: cannot find your %s, [%.*s]", which,
        SLF(c->s->addr));
}

static enum verdict reject_unknown_client(struct check *c, const struct rule *r)
{
    (void)r;
    return unknown_client(c, c->s->name_status, "4.7.25", "hostname");
}

static enum verdict reject_unknown_reverse(struct check *c,
                                           const struct rule *r)
{
    (void)r;
    return unknown_client(c, c->s->reverse_status, "4.7.1", "reverse hostname");
}

/* ------------------------------------------------------------------ */

const struct restriction dns_restrictions[] = {
    { "reject_unknown_client_hostname", reject_unknown_client, ARG_NONE,
      false },
    { "reject_unknown_client", reject_unknown_client, ARG_NONE, false },
    { "reject_unknown_reverse_client_hostname", reject_unknown_reverse,
      ARG_NONE, false },
    { "reject_unknown_helo_hostname", reject_unknown_helo, ARG_NONE, false },
    { "reject_unknown_hostname", reject_unknown_helo, ARG_NONE, false },
    { "reject_unknown_sender_domain", reject_unknown_sender, ARG_NONE, false },
    { "reject_unknown_address", reject_unknown_sender, ARG_NONE, false },
    { "reject_unknown_recipient_domain", reject_unknown_rcpt, ARG_NONE, false },
    { "reject_rbl_client", check_rbl_client, ARG_DNSXL, false },
    { "reject_maps_rbl", check_maps_rbl, ARG_NONE, false },
    { "reject_rhsbl_client", check_rhsbl, ARG_DNSXL, false },
    { "reject_rhsbl_reverse_client", check_rhsbl, ARG_DNSXL, false },
    { "reject_rhsbl_helo", check_rhsbl, ARG_DNSXL, false },
    { "reject_rhsbl_sender", check_rhsbl, ARG_DNSXL, false },
    { "reject_rhsbl_recipient", check_rhsbl, ARG_DNSXL, false },
    { "permit_dnswl_client", check_dnswl, ARG_DNSXL, false },
    { "permit_rhswl_client", check_dnswl, ARG_DNSXL, false },
    { "permit_mx_backup", check_mx_backup, ARG_NONE, true },
    { "check_client_a_access", check_servers, ARG_TABLE, false },
    { "check_client_mx_access", check_servers, ARG_TABLE, false },
    { "check_client_ns_access", check_servers, ARG_TABLE, false },
    { "check_reverse_client_hostname_a_access", check_servers, ARG_TABLE,
      false },
    { "check_reverse_client_hostname_mx_access", check_servers, ARG_TABLE,
      false },
    { "check_reverse_client_hostname_ns_access", check_servers, ARG_TABLE,
      false },
    { "check_helo_a_access", check_servers, ARG_TABLE, false },
    { "check_helo_mx_access", check_servers, ARG_TABLE, false },
    { "check_helo_ns_access", check_servers, ARG_TABLE, false },
    { "check_sender_a_access", check_servers, ARG_TABLE, false },
    { "check_sender_mx_access", check_servers, ARG_TABLE, false },
    { "check_sender_ns_access", check_servers, ARG_TABLE, false },
    { "check_recipient_a_access", check_servers, ARG_TABLE, false },
    { "check_recipient_mx_access", check_servers, ARG_TABLE, false },
    { "check_recipient_ns_access", check_servers, ARG_TABLE, false },
};

const size_t n_dns_restrictions = ARRAY_LEN(dns_restrictions);
