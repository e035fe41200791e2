/* DANE for SMTP (RFC 7672): is there a TLSA record that holds for this host?
 *
 * What is known of the host's own answers comes with it (mx_secure,
 * host_secure); only where those were validated are TLSA records asked for, and
 * only validated ones count. */
#include "smtp/client/policy.h"

#define TLSA_MAX 32

/* DANE does not apply: what the level becomes, or why mail waits. */
static void incompatible(struct policy_job *j, enum tls_level instead,
                         const char *why)
{
    if (j->out->level == TLS_LEVEL_DANE)
        j->out->level = instead;
    else
        policy_refuse(j, "4.7.5", "%s", why);
}

static int take_records(struct policy_job *j, const struct dns_answer *answer,
                        struct err *err)
{
    struct tls_connect *how = &j->out->how;
    size_t n = min_size(answer->n_rr, TLSA_MAX);
    struct tls_tlsa *tlsa = arena_alloc(j->a, sizeof(*tlsa) * n);

    if (tlsa == NULL)
        return err_temp(err, "too many TLSA records");
    for (size_t i = 0; i < n; i++)
        tlsa[i] =
            (struct tls_tlsa){ answer->rr[i].usage, answer->rr[i].selector,
                               answer->rr[i].matching, answer->rr[i].data };
    how->tlsa = tlsa;
    how->n_tlsa = n;
    return 0;
}

/* For reports (RFC 8460 4.4): as a zone file has them. */
static void tell_records(struct policy_job *j)
{
    const struct tls_connect *how = &j->out->how;
    struct buf b;

    buf_init(&b, 8192);
    for (size_t i = 0; i < how->n_tlsa; i++) {
        const struct tls_tlsa *t = &how->tlsa[i];

        (void)buf_printf(&b, "%u %u %u ", t->usage, t->selector, t->matching);
        for (size_t k = 0; k < t->data.n; k++)
            (void)buf_printf(&b, "%02x", (unsigned char)t->data.p[k]);
        (void)buf_byte(&b, '\n');
    }
    j->out->report_policy = slice_dup(j->a, buf_view(&b));
    buf_done(&b);
}

/* The names that a certificate beneath DANE-TA(2) may have (RFC 7672 3.2.3):
 * the TLSA base domain, and where MX led here, the next hop's domain. */
static int take_names(struct policy_job *j, slice base, struct err *err)
{
    struct tls_connect *how = &j->out->how;
    slice *names = arena_alloc(j->a, sizeof(slice) * 3);

    if (names == NULL)
        return err_temp(err, "too many names");
    names[how->n_names++] = base;
    if (!slice_ieq(base, j->host->name))
        names[how->n_names++] = j->host->name;
    if (j->host->is_mx && !slice_ieq(base, j->host->nexthop))
        names[how->n_names++] = j->host->nexthop;
    how->names = names;
    how->sni = base;
    return 0;
}

/* Ask for one base domain.  1: records that count; 0: none; -1: err; and
 * `refused` when it cannot be known. */
MAY_WAIT static int ask(struct policy_job *j, slice base,
                        struct dns_answer *answer, struct err *err)
{
    char *name = arena_printf(j->a, "_%u._tcp.%.*s", j->host->port, SLF(base));

    if (name == NULL)
        return err_temp(err, "a name is too long");
    if (dns_query(j->client->dns, slice_str(name), DNS_TLSA, 0, j->a, answer,
                  err) < 0)
        return -1;
    if (answer->result == DNS_FAIL) {
        /* RFC 7672 2.1.2: not even opportunistic TLS, or who can suppress the
         * answer could take the protection away. */
        j->out->result = "dnssec-invalid";
        policy_refuse(j, "4.7.5", "TLSA lookup error for %.*s:%u",
                      SLF(j->host->name), j->host->port);
        return 0;
    }
    return answer->result == DNS_OK && answer->is_secure && answer->n_rr > 0;
}

/* RFC 7672 2.2.2: the host's canonical name first, then the name itself. */
MAY_WAIT static int find(struct policy_job *j, slice *base,
                         struct dns_answer *answer, struct err *err)
{
    const struct client_host *h = j->host;
    int found = 0;

    if (h->canonical.n > 0 && !slice_ieq(h->canonical, h->name)) {
        *base = h->canonical;
        found = ask(j, *base, answer, err);
    }
    if (found == 0 && j->out->refused.n == 0) {
        *base = h->name;
        found = ask(j, *base, answer, err);
    }
    return found;
}

static bool is_possible(struct policy_job *j)
{
    const struct client_host *h = j->host;
    bool has_name = h->unix_path.n == 0 && h->addr.n > 0 &&
                    !slice_eq(h->name, h->addr) && j->client->dns != NULL &&
                    j->service->host_dns;
    bool is_known = h->host_secure || j->tls->force_insecure_host;
    bool has_mx = !h->is_mx || h->mx_secure ||
                  (j->out->level != TLS_LEVEL_DANE_ONLY &&
                   j->tls->insecure_mx != TLS_LEVEL_MAY);

    if (has_name && is_known && has_mx)
        return true;
    incompatible(j, TLS_LEVEL_MAY, "non DNSSEC destination");
    return false;
}

int policy_dane(struct policy_job *j, struct err *err)
{
    struct tls_connect *how = &j->out->how;
    struct dns_answer answer = { .result = DNS_FAIL };
    slice base = SLICE_NONE;
    int found;

    if (!is_possible(j))
        return 0;
    found = find(j, &base, &answer, err);
    if (found < 0)
        return -1;
    if (j->out->refused.n > 0)
        return 0;
    if (found == 0) {
        incompatible(j, TLS_LEVEL_MAY, "no TLSA records found");
        return 0;
    }
    if (take_records(j, &answer, err) < 0)
        return -1;
    if (conf_bool(j->client->conf, NULL, "smtp_tls_reporting"))
        tell_records(j);
    if (tls_tlsa_usable(j->out->ctx, how->tlsa, how->n_tlsa) == 0) {
        /* RFC 7672 2.1.1: TLS without a proof of who it is. */
        j->out->result = "tlsa-invalid";
        how->n_tlsa = 0;
        incompatible(j, TLS_LEVEL_ENCRYPT, "TLSA records unusable");
        return 0;
    }
    if (j->host->is_mx && !j->host->mx_secure &&
        j->tls->insecure_mx == TLS_LEVEL_ENCRYPT) {
        j->out->level = TLS_LEVEL_ENCRYPT;
        how->n_tlsa = 0;
        return 0;
    }
    how->check = TLS_CHECK_DANE;
    return take_names(j, base, err);
}
