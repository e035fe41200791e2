#include "smtp/client/job.h"

#include "mail/domain.h"

#include <arpa/inet.h>

/* From a nexthop to the hosts to try, in order: RFC 5321 5.1, RFC 7505, and
 * what Postfix's smtp_addr.c makes of it. */

#define HOSTS_MAX 400
#define SMTP_PORT 25 /* loops are looked for there only */

struct finding {
    struct client_job *job;
    const struct client_service *service;
    struct client_host *v;
    size_t n;
    uint16_t port;
    slice nexthop;
};

/* ---------------------------------------------------------------- destinations
 */

bool client_dest_parse(const struct client_service *s, slice dest, slice *host,
                       uint16_t *port, bool *is_literal)
{
    slice rest = SLICE_NONE;

    *port = s->port;
    *is_literal = dest.n > 0 && dest.p[0] == '[';
    if (*is_literal) {
        ssize_t end = slice_rchr(dest, ']');

        if (end < 0)
            return false;
        *host = slice_sub(dest, 1, (size_t)end - 1);
        rest = slice_from(dest, (size_t)end + 1);
        if (rest.n > 0 && rest.p[0] != ':')
            return false;
        rest = slice_from(rest, 1);
    } else {
        ssize_t colon = slice_chr(dest, ':');

        *host = dest;
        /* More than one colon: a bare IPv6 address. */
        if (colon >= 0 && slice_rchr(dest, ':') == colon) {
            *host = slice_sub(dest, 0, (size_t)colon);
            rest = slice_from(dest, (size_t)colon + 1);
        }
    }
    if (host->n > 5 && slice_istarts(*host, SL("ipv6:")))
        *host = slice_from(*host, 5);
    if (rest.n > 0 && !conf_port(s->client->conf, rest, port))
        return false;
    if (host->n > 0 && host->p[host->n - 1] == '.')
        host->n--;
    return host->n > 0;
}

/* --------------------------------------------------------------------
 * addresses */

static slice ip_text(struct arena *a, bool is_v6, const uint8_t *ip)
{
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 64);
    if (!is_v6) {
        (void)buf_printf(&b, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
    } else {
        char text[INET6_ADDRSTRLEN];

        if (inet_ntop(AF_INET6, ip, text, sizeof text) != NULL)
            (void)buf_puts(&b, text);
    }
    return slice_dup(a, buf_view(&b));
}

static const char *type_name(enum dns_type type)
{
    return type == DNS_MX ? "MX" : type == DNS_AAAA ? "AAAA" : "A";
}

static const char dropped[] = "DNS reply filter drops all results";

/* "name. ttl IN MX 10 mx.name.", as the filter reads it. */
static slice rr_text(struct client_job *j, slice name, const struct dns_rr *rr)
{
    if (rr->type == DNS_MX)
        return slice_str(arena_printf(j->arena, "%.*s. %u IN MX %u %.*s.",
                                      SLF(name), rr->ttl, rr->pref,
                                      SLF(rr->name)));
    return slice_str(
        arena_printf(j->arena, "%.*s. %u IN %s %.*s", SLF(name), rr->ttl,
                     type_name(rr->type),
                     SLF(ip_text(j->arena, rr->type == DNS_AAAA, rr->ip))));
}

/* smtp_dns_reply_filter: the only action is IGNORE. */
MAY_WAIT static bool is_ignored(struct client_job *j, slice name,
                                const struct dns_rr *rr)
{
    struct err err;
    slice value;

    if (table_list_lookup(j->service->dns_filter, rr_text(j, name, rr), 0,
                          j->arena, &value, &err) < 0) {
        log_warning("%s", err.log);
        return false;
    }
    if (value.p == NULL)
        return false;
    if (slice_ieqs(value, "IGNORE"))
        return true;
    log_warning("%s: unknown action \"%.*s\"",
                client_param(j->service, "dns_reply_filter"), SLF(value));
    return false;
}

MAY_WAIT static void filter_answer(struct client_job *j,
                                   const struct dns_question *q,
                                   struct dns_answer *a)
{
    size_t n = 0;

    if (a->result != DNS_OK)
        return;
    for (size_t i = 0; i < a->n_rr; i++)
        if (!is_ignored(j, a->is_cname ? a->canonical : q->name, &a->rr[i]))
            a->rr[n++] = a->rr[i];
    a->n_rr = n;
    if (n == 0) {
        a->result = DNS_FAIL;
        a->why = slice_str(dropped);
    }
}

int client_dns(struct client_job *j, const struct dns_question *q, size_t n,
               struct dns_answer *out, struct err *err)
{
    if (dns_query_all(j->client->dns, q, n, j->arena, out, err) < 0)
        return -1;
    for (size_t i = 0; i < n && j->service->dns_filter != NULL; i++)
        filter_answer(j, &q[i], &out[i]);
    return 0;
}

static bool is_own(const struct smtp_client *c, slice addr)
{
    uint8_t ip[16];
    int family;

    if (!mail_ip_parse(addr, &family, ip))
        return false;
    for (size_t i = 0; i < c->n_own; i++)
        if (c->own[i].is_v6 == (family == 6) &&
            memcmp(c->own[i].ip, ip, family == 6 ? 16 : 4) == 0)
            return true;
    return false;
}

static struct client_host *add_host(struct finding *f, slice name, slice addr,
                                    unsigned pref)
{
    struct client_host *h;

    if (f->n == HOSTS_MAX)
        return NULL;
    h = &f->v[f->n++];
    *h = (struct client_host){ .name = name,
                               .addr = addr,
                               .port = f->port,
                               .pref = pref,
                               .nexthop = f->nexthop };
    return h;
}

static void name_error(struct client_job *j, const char *status, slice name,
                       enum dns_type type, const char *text)
{
    client_why_set(j, status,
                   "Host or domain name not found. Name service error for "
                   "name=%.*s type=%s: %s",
                   SLF(name), type_name(type), text);
}

/* Set j->why by a failed answer. */
static void dns_error(struct client_job *j, slice name, enum dns_type type,
                      const struct dns_answer *a)
{
    switch (a->result) {
    case DNS_NXDOMAIN:
        name_error(j, "5.4.4", name, type, "Host not found");
        break;
    case DNS_BAD_NAME:
        client_why_set(j, "5.4.4",
                       "Name service error for %.*s: invalid host or domain "
                       "name",
                       SLF(name));
        break;
    case DNS_FAIL:
        if (slice_eqs(a->why, dropped))
            client_why_set(j, "4.7.0", "Error looking up name=%.*s type=%s: %s",
                           SLF(name), type_name(type), dropped);
        else
            name_error(j, "4.4.3", name, type, "Host not found, try again");
        break;
    case DNS_OK:
    case DNS_NODATA:
        name_error(j, "5.4.4", name, type,
                   "Host found but no data record of requested type");
        break;
    }
}

/* What an answer brings, as addresses of `name`. */
static size_t add_answer(struct finding *f, slice name,
                         const struct dns_answer *a, unsigned pref)
{
    size_t before = f->n;

    if (a->result != DNS_OK)
        return 0;
    for (size_t i = 0; i < a->n_rr; i++) {
        const struct dns_rr *rr = &a->rr[i];
        struct client_host *h;
        slice shown = name;

        /* The hosts file has both kinds. */
        if (!(rr->type == DNS_A && f->service->use_v4) &&
            !(rr->type == DNS_AAAA && f->service->use_v6))
            continue;
        if (a->is_cname && f->service->cname_is_name)
            shown = a->canonical;
        h = add_host(f, shown,
                     ip_text(f->job->arena, rr->type == DNS_AAAA, rr->ip),
                     pref);
        if (h == NULL)
            break;
        h->host_secure = a->is_secure;
        h->canonical = a->is_cname ? a->canonical : name;
    }
    return f->n - before;
}

static size_t add_literal(struct finding *f, slice name, int family,
                          unsigned pref)
{
    if (family == 6 ? !f->service->use_v6 : !f->service->use_v4) {
        client_why_set(f->job, "5.4.4",
                       "unable to look up host %.*s: address family is not "
                       "in inet_protocols",
                       SLF(name));
        return 0;
    }
    return add_host(f, name, name, pref) != NULL ? 1 : 0;
}

/* The addresses of one host by DNS; how many.  0: j->why. */
MAY_WAIT static size_t add_dns(struct finding *f, slice name, unsigned pref)
{
    struct dns_question q[2];
    struct dns_answer a[2];
    struct err err;
    size_t n = 0;
    size_t n_q = 0;
    size_t failed = 0;

    if (f->service->use_v4)
        q[n_q++] = (struct dns_question){ name, DNS_A, 0 };
    if (f->service->use_v6)
        q[n_q++] = (struct dns_question){ name, DNS_AAAA, 0 };
    if (n_q == 0)
        return 0;
    if (client_dns(f->job, q, n_q, a, &err) < 0) {
        name_error(f->job, "4.4.3", name, q[0].type,
                   "Host not found, try again");
        return 0;
    }
    for (size_t i = 0; i < n_q; i++)
        n += add_answer(f, name, &a[i], pref);
    if (n > 0)
        return n;
    /* Trouble before "none". */
    for (size_t i = 0; i < n_q; i++)
        if (a[i].result == DNS_FAIL || a[failed].result != DNS_FAIL)
            failed = i;
    dns_error(f->job, name, q[failed].type, &a[failed]);
    return 0;
}

/* By the name service of this machine: the hosts file, and then DNS where it is
 * set up so. */
MAY_WAIT static size_t add_native(struct finding *f, slice name, unsigned pref)
{
    struct smtp_client *c = f->service->client;
    struct client_job *j = f->job;
    struct dns_answer a = { .result = DNS_NXDOMAIN };
    bool asks_dns = c->native_dns && !f->service->host_dns;
    size_t n;

    if (c->hosts != NULL)
        dns_hosts_find(c->hosts, name, j->arena, &a);
    n = add_answer(f, name, &a, pref);
    if (n == 0 && asks_dns)
        n = add_dns(f, name, pref);
    if (n > 0 || (j->why.status[0] != '\0' && f->service->host_dns))
        return n;
    if (client_why_is_soft(&j->why))
        client_why_set(j, "4.4.3",
                       "unable to look up host %.*s: Temporary failure in "
                       "name resolution",
                       SLF(name));
    else
        client_why_set(j, "5.4.4",
                       "unable to look up host %.*s: Name or service not known",
                       SLF(name));
    return 0;
}

/* The addresses of one host; how many.  0: j->why. */
MAY_WAIT static size_t add_addresses(struct finding *f, slice name,
                                     unsigned pref)
{
    uint8_t ip[16];
    size_t n;
    int family;

    if (mail_ip_parse(name, &family, ip))
        return add_literal(f, name, family, pref);
    if (f->service->host_dns) {
        n = add_dns(f, name, pref);
        if (n > 0 || client_why_is_soft(&f->job->why))
            return n;
    }
    return f->service->host_native ? add_native(f, name, pref) : 0;
}

/* ------------------------------------------------------------------------
 * order */

static bool host_is_v6(const struct client_host *h)
{
    return slice_chr(h->addr, ':') >= 0;
}

static int rank(const struct client_service *s, const struct client_host *h)
{
    if (s->preference == PREFER_ANY)
        return 0;
    return host_is_v6(h) == (s->preference == PREFER_V6) ? 0 : 1;
}

static void shuffle(struct client_host *v, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)(random_u64() % i);
        struct client_host t = v[i - 1];

        v[i - 1] = v[k];
        v[k] = t;
    }
}

/* By preference, then by protocol; the order of equals stays. */
static void sort(const struct client_service *s, struct client_host *v,
                 size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct client_host h = v[i];
        size_t k = i;

        while (k > 0 &&
               (v[k - 1].pref > h.pref || (v[k - 1].pref == h.pref &&
                                           rank(s, &v[k - 1]) > rank(s, &h)))) {
            v[k] = v[k - 1];
            k--;
        }
        v[k] = h;
    }
}

/* With more addresses than are tried, have both protocols among those:
 * Postfix's smtp_balance_inet_protocols. */
static void balance(const struct client_service *s, struct finding *f)
{
    size_t limit = s->address_limit;
    size_t n[2] = { 0, 0 };
    size_t room[2];
    size_t kept = 0;

    for (size_t i = 0; i < f->n; i++)
        n[host_is_v6(&f->v[i])]++;
    if (limit == 0 || f->n <= limit || n[0] == 0 || n[1] == 0)
        return;
    room[1] = min_size(n[1], limit / 2);
    room[0] = min_size(n[0], limit - room[1]);
    room[1] = min_size(n[1], limit - room[0]);
    for (size_t i = 0; i < f->n; i++) {
        bool v6 = host_is_v6(&f->v[i]);

        if (room[v6] == 0)
            continue;
        room[v6]--;
        f->v[kept++] = f->v[i];
    }
    f->n = kept;
}

static void order(struct finding *f)
{
    const struct client_service *s = f->service;

    if (f->n < 2)
        return;
    if (s->randomize)
        shuffle(f->v, f->n);
    sort(s, f->v, f->n);
    if (s->balance)
        balance(s, f);
}

/* ------------------------------------------------------------------------
 * loops */

static bool looks_for_loops(const struct finding *f)
{
    return f->port == SMTP_PORT;
}

static ssize_t find_self(const struct finding *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (is_own(f->service->client, f->v[i].addr))
            return (ssize_t)i;
    return -1;
}

static void loops(struct finding *f, slice domain)
{
    f->job->is_loop = true;
    f->n = 0;
    client_why_set(f->job, "5.4.6", "mail for %.*s loops back to myself",
                   SLF(domain));
}

/* We are an MX ourselves: only better ones are good (RFC 5321 5.1). */
static void truncate_self(struct finding *f, slice domain, unsigned best)
{
    ssize_t self;
    size_t n = 0;
    unsigned pref;

    sort(f->service, f->v, f->n);
    self = looks_for_loops(f) ? find_self(f) : -1;
    if (self < 0)
        return;
    pref = f->v[self].pref;
    while (n < f->n && f->v[n].pref < pref)
        n++;
    f->n = n;
    if (n > 0)
        return;
    loops(f, domain);
    f->job->is_best_mx = best == pref;
    if (best != pref)
        client_why_set(f->job, "5.4.6", "unable to find primary relay for %.*s",
                       SLF(domain));
}

/* ----------------------------------------------------------------------
 * domains */

MAY_WAIT static void find_host(struct finding *f, slice name)
{
    (void)add_addresses(f, name, 0);
    if (f->n > 0 && looks_for_loops(f) && find_self(f) >= 0)
        loops(f, name);
    order(f);
}

MAY_WAIT static void find_mx(struct finding *f, slice domain,
                             const struct dns_answer *mx)
{
    struct client_job *j = f->job;
    unsigned best = UINT_MAX;
    struct client_why soft = { .status = "" };

    for (size_t i = 0; i < mx->n_rr; i++) {
        const struct dns_rr *rr = &mx->rr[i];
        size_t from = f->n;

        if (rr->type != DNS_MX || rr->name.n == 0)
            continue;
        if (rr->pref < best)
            best = rr->pref;
        j->why = (struct client_why){ .status = "" };
        (void)add_addresses(f, rr->name, rr->pref);
        if (client_why_is_soft(&j->why))
            soft = j->why;
        for (size_t k = from; k < f->n; k++) {
            f->v[k].is_mx = true;
            f->v[k].mx_secure = mx->is_secure;
        }
    }
    if (soft.status[0] != '\0')
        j->why = soft;
    if (f->n == 0) {
        event_text(EV_WARNING, j->service->log_name, NULL,
                   "no MX host for %.*s has a valid address record",
                   SLF(domain));
        if (j->service->defer_no_address)
            j->why.status[0] = '4';
        return;
    }
    truncate_self(f, domain, best);
    order(f);
}

/* RFC 7505: "."; as in Postfix, beside other records as well. */
static bool is_null_mx(const struct dns_answer *a)
{
    for (size_t i = 0; i < a->n_rr; i++)
        if (a->rr[i].type == DNS_MX && a->rr[i].name.n == 0)
            return true;
    return false;
}

MAY_WAIT static void find_domain(struct finding *f, slice domain)
{
    struct client_job *j = f->job;
    struct dns_question q = { domain, DNS_MX, 0 };
    struct dns_answer a;
    struct err err;

    if (client_dns(j, &q, 1, &a, &err) < 0) {
        name_error(j, "4.4.3", domain, DNS_MX, "Host not found, try again");
        return;
    }
    switch (a.result) {
    case DNS_OK:
        if (is_null_mx(&a))
            client_why_set(j, "5.1.0",
                           "Domain %.*s does not accept mail (nullMX)",
                           SLF(domain));
        else
            find_mx(f, domain, &a);
        return;
    case DNS_NXDOMAIN:
    case DNS_NODATA:
        find_host(f, domain);
        return;
    case DNS_FAIL:
    case DNS_BAD_NAME:
        break;
    }
    dns_error(j, domain, DNS_MX, &a);
    if (f->service->ignore_mx_error) {
        j->why = (struct client_why){ .status = "" };
        find_host(f, domain);
    }
}

static void find_unix(struct finding *f, slice path)
{
    struct client_host *h = add_host(f, SLICE_NONE, SLICE_NONE, 0);
    slice name = conf_slice(f->service->client->conf, NULL, "myhostname");

    if (path.n == 0) {
        f->n = 0;
        client_why_set(f->job, "5.3.5", "a destination without a path");
        return;
    }
    h->name = name;
    h->nexthop = name;
    h->unix_path = path;
    if (path.p[0] != '/')
        h->unix_path = slice_str(arena_printf(f->job->arena, "%s/%.*s",
                                              conf_str(f->service->client->conf,
                                                       NULL, "queue_directory"),
                                              SLF(path)));
}

int client_hosts(struct client_job *j, slice dest, struct client_host **out,
                 size_t *n_out)
{
    struct finding f = { .job = j, .service = j->service };
    struct buf ascii CLEANUP(buf_done);
    bool is_literal;
    slice host;

    j->why = (struct client_why){ .status = "" };
    f.v = arena_alloc(j->arena, HOSTS_MAX * sizeof *f.v);
    *out = f.v;
    *n_out = 0;
    buf_init(&ascii, 300);
    if (f.v == NULL) {
        client_why_set(j, "4.3.0", "out of memory");
    } else if (slice_starts(dest, SL("unix:"))) {
        find_unix(&f, slice_from(dest, 5));
    } else {
        if (slice_starts(dest, SL("inet:")))
            dest = slice_from(dest, 5);
        if (!client_dest_parse(j->service, dest, &host, &f.port, &is_literal) ||
            !mail_domain_to_ascii(&ascii, host)) {
            client_why_set(j, "5.4.4",
                           "Name service error for %.*s: invalid host or "
                           "domain name",
                           SLF(dest));
            return 0;
        }
        f.nexthop = slice_dup(j->arena, buf_view(&ascii));
        /* LMTP knows no MX; nor does who is to look in the hosts file only. */
        if (is_literal || j->service->is_lmtp || j->service->dns_off)
            find_host(&f, f.nexthop);
        else
            find_domain(&f, f.nexthop);
    }
    *n_out = f.n;
    return 0;
}
