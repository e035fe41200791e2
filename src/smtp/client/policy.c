/* What TLS must be for one host: level by level, as Postfix's TLS_README tells
 * it, and MTA-STS where nothing stronger holds. */
#include "smtp/client/policy.h"

#define BROKEN "client TLS configuration problem"

void policy_refuse(struct policy_job *j, const char *status, const char *fmt,
                   ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->out->refused = slice_dup(j->a, slice_str(text));
    if (j->out->refused.n == 0)
        j->out->refused = SL(BROKEN);
    j->out->refused_status = slice_str(status);
}

/* ---- where the level comes from */

/* The next hop as tables know it: how LMTP gets there is not part of it. */
static slice destination(const struct client_service *s, slice nexthop)
{
    bool has_kind = slice_istarts(nexthop, SL("inet:")) ||
                    slice_istarts(nexthop, SL("unix:"));

    return s->is_lmtp && has_kind ? slice_from(nexthop, 5) : nexthop;
}

MAY_WAIT static int find_level(struct policy_job *j, struct err *err)
{
    const struct client_tls *t = j->tls;
    bool is_site = t->maps == NULL && t->per_site != NULL;
    int rc = is_site ? policy_site_find(j, &j->from_map, err)
                     : policy_map_find(j, &j->from_map, err);

    if (rc < 0 && err->class != ERR_PERM)
        return -1;
    if (rc < 0) {
        event_text(EV_WARNING, j->service->log_name, NULL, "%s: %.*s: %s",
                   client_param(j->service,
                                is_site ? "tls_per_site" : "tls_policy_maps"),
                   SLF(j->nexthop), err->log);
        policy_refuse(j, "4.7.5", BROKEN);
        return 0;
    }
    if (j->from_map)
        return 0;
    j->out->level = t->level;
    j->text = t->level <= TLS_LEVEL_MAY ? t->may : t->must;
    j->text.servername = t->servername;
    /* Nobody asked for TLS to a neighbour's socket. */
    if (t->level_is_ours && j->host->unix_path.n > 0)
        j->out->level = TLS_LEVEL_NONE;
    else if (t->level_is_ours && j->out->is_wrapper)
        j->out->level = TLS_LEVEL_ENCRYPT;
    return 0;
}

/* ---- MTA-STS */

static bool is_domain(slice s)
{
    bool has_letter = false;

    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_isalnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '.' &&
            s.p[i] != '_')
            return false;
        has_letter |= ascii_isalpha(s.p[i]);
    }
    return has_letter;
}

static bool may_have_sts(const struct policy_job *j)
{
    return j->tls->has_sts && !j->service->is_lmtp && j->client->dns != NULL &&
           j->service->host_dns && !j->host->is_fallback &&
           !j->out->is_wrapper && slice_ieq(j->nexthop, j->host->nexthop) &&
           is_domain(j->nexthop) &&
           (j->out->level == TLS_LEVEL_MAY || j->out->level == TLS_LEVEL_DANE);
}

/* RFC 8461 5: the host must be listed, and show a certificate for its name. */
static int apply_sts(struct policy_job *j, struct err *err)
{
    struct tls_policy *out = j->out;

    out->sts_domain = j->sts->domain;
    out->report_kind = "sts";
    out->report_policy = j->sts->text;
    if (!client_sts_matches(j->sts, j->host->name)) {
        out->result = "validation-failure";
        if (j->sts->is_strict)
            policy_refuse(j, "4.7.5",
                          "host %.*s is not in the MTA-STS policy of %.*s",
                          SLF(j->host->name), SLF(j->sts->domain));
        return 0;
    }
    out->ctx = client_tls_sts_context(j->tls);
    if (out->ctx == NULL) {
        out->ctx = j->own;
        if (j->sts->is_strict)
            policy_refuse(j, "4.7.5", BROKEN);
        return 0;
    }
    if (j->sts->is_strict) {
        out->level = TLS_LEVEL_SECURE;
        j->text = j->tls->must;
        j->text.protocols = SL(">=TLSv1.2");
    }
    if (policy_set_names(j, SL("hostname"), err) < 0)
        return -1;
    j->text.servername = SL("hostname");
    return 0;
}

/* ---- REQUIRETLS (RFC 8689 4.2.1): a host that DNSSEC or MTA-STS vouches for,
 * with a certificate that DANE or an authority does. */
static int require_tls(struct policy_job *j, struct err *err)
{
    const struct client_host *h = j->host;
    struct tls_policy *out = j->out;

    if (out->level >= TLS_LEVEL_FINGERPRINT || out->refused.n > 0)
        return 0;
    if (h->is_mx && !h->mx_secure) {
        policy_refuse(j, "5.7.30",
                      "REQUIRETLS: nothing proves that %.*s is the host for "
                      "this domain",
                      SLF(h->name));
        return 0;
    }
    if (out->how.check == TLS_CHECK_NONE)
        out->ctx = client_tls_sts_context(j->tls);
    if (out->ctx == NULL) {
        out->ctx = j->own;
        policy_refuse(j, "5.7.30", BROKEN);
        return 0;
    }
    out->level = TLS_LEVEL_SECURE;
    j->text = j->tls->must;
    j->text.servername = SL("hostname");
    return policy_set_names(j, SL("hostname"), err);
}

/* ---- what each level asks */

static int demand(struct policy_job *j, struct err *err)
{
    const struct client_tls *t = j->tls;
    slice list = j->text.match;

    switch (j->out->level) {
    case TLS_LEVEL_FINGERPRINT:
        return policy_set_fingerprints(j,
                                       list.n > 0 ? list : t->fingerprint_match,
                                       err);
    case TLS_LEVEL_VERIFY:
        return policy_set_names(j, list.n > 0 ? list : t->verify_match, err);
    case TLS_LEVEL_SECURE:
        return j->sts != NULL
                   ? 0
                   : policy_set_names(j, list.n > 0 ? list : t->secure_match,
                                      err);
    case TLS_LEVEL_NONE:
    case TLS_LEVEL_MAY:
    case TLS_LEVEL_ENCRYPT:
    case TLS_LEVEL_DANE:
    case TLS_LEVEL_DANE_ONLY:
    default:
        return 0;
    }
}

MAY_WAIT static int by_proof(struct policy_job *j, struct err *err)
{
    struct tls_policy *out = j->out;
    enum tls_level before = out->level;
    bool has_sts = may_have_sts(j);

    if (out->level == TLS_LEVEL_DANE || out->level == TLS_LEVEL_DANE_ONLY) {
        if (policy_dane(j, err) < 0)
            return -1;
        if (out->how.check == TLS_CHECK_DANE || out->result != NULL)
            out->report_kind = "tlsa";
        if (out->level == TLS_LEVEL_MAY && !j->from_map)
            j->text = j->tls->may;
        if (out->level != before && out->level == TLS_LEVEL_MAY)
            j->text.servername = j->tls->servername;
    }
    if (!has_sts || out->level != TLS_LEVEL_MAY || out->refused.n > 0)
        return 0;
    if (client_sts_find(j->client, j->nexthop, j->a, &j->sts, err) < 0)
        return -1;
    return j->sts != NULL ? apply_sts(j, err) : 0;
}

/* ---- the key: two policies with the same one may share connections */

static int make_key(struct policy_job *j, struct err *err)
{
    const struct tls_policy *p = j->out;
    struct buf b;

    buf_init(&b, 65536);
    (void)buf_printf(&b, "%d %d %d %d %d %d\n%s\n%.*s\n", p->level,
                     p->is_wrapper, p->ctx == j->own, p->how.check,
                     p->how.min_version, p->how.max_version,
                     p->how.ciphers != NULL ? p->how.ciphers : "",
                     SLF(p->how.sni));
    if (p->how.anchors != NULL)
        (void)buf_printf(&b, "a %.*s\n", SLF(j->text.tafile));
    for (size_t i = 0; i < p->how.n_names; i++)
        (void)buf_printf(&b, "n %.*s\n", SLF(p->how.names[i]));
    for (size_t i = 0; i < p->how.n_fingerprints; i++)
        (void)buf_printf(&b, "f %.*s\n", SLF(p->how.fingerprints[i]));
    for (size_t i = 0; i < p->how.n_tlsa; i++) {
        const struct tls_tlsa *t = &p->how.tlsa[i];

        (void)buf_printf(&b, "t %u %u %u %zu ", t->usage, t->selector,
                         t->matching, t->data.n);
        (void)buf_slice(&b, t->data);
    }
    j->out->key = slice_dup(j->a, buf_view(&b));
    buf_done(&b);
    return j->out->key.n > 0 ? 0 : err_temp(err, "a policy of TLS is too long");
}

static int finish(struct policy_job *j, bool requires_tls, struct err *err)
{
    struct tls_policy *out = j->out;
    int rc = demand(j, err);

    if (rc == 0)
        rc = policy_set_anchors(j, err);
    if (rc == 0 && requires_tls)
        rc = require_tls(j, err);
    if (rc == 0)
        rc = policy_set_strength(j, err);
    if (rc < 0 && err->class == ERR_PERM) {
        event_text(EV_WARNING, j->service->log_name, NULL, "TLS for %.*s: %s",
                   SLF(j->nexthop), err->log);
        policy_refuse(j, "4.7.5", BROKEN);
        rc = 0;
    }
    if (out->how.check == TLS_CHECK_DANE)
        out->how.sni = out->how.names[0];
    if (out->is_wrapper && out->level < TLS_LEVEL_ENCRYPT)
        policy_refuse(j, "4.7.5", BROKEN);
    out->may_fall_back = out->level == TLS_LEVEL_MAY;
    if (rc < 0 || make_key(j, err) < 0)
        return -1;
    policy_use_session(j);
    return 0;
}

static void drop_context(void *arg)
{
    struct tls_context *c = arg;

    tls_context_unref(&c);
}

int client_policy(const struct client_service *s, const struct client_way *way,
                  struct arena *a, struct tls_policy *out, struct err *err)
{
    struct policy_job j = { .client = s->client,
                            .service = s,
                            .tls = s->tls,
                            .host = way->host,
                            .nexthop = destination(s, way->nexthop),
                            .a = a,
                            .out = out };

    /* It may be made anew when its files change, while this one is in use. */
    j.own = tls_context_ref(client_tls_context(s->tls));
    arena_defer(a, drop_context, j.own);
    *out = (struct tls_policy){ .is_wrapper = s->tls->is_wrapper,
                                .ctx = j.own,
                                .report_kind = "no-policy-found" };
    if (find_level(&j, err) < 0)
        return -1;
    if (out->refused.n > 0)
        return make_key(&j, err);
    if (out->level == TLS_LEVEL_NONE && !way->requires_tls) {
        if (out->is_wrapper)
            policy_refuse(&j, "4.7.5", BROKEN);
        return make_key(&j, err);
    }
    if (by_proof(&j, err) < 0)
        return -1;
    return finish(&j, way->requires_tls, err);
}

/* ---- the log */

void client_tls_log(const struct client_service *s, const char *server,
                    const struct stream *st, const struct tls_policy *p,
                    const struct tls_server_info *info)
{
    bool is_good = p->level >= TLS_LEVEL_FINGERPRINT && info->is_matched;
    struct tls_info *t = xcalloc(1, sizeof *t);

    if (p->level >= TLS_LEVEL_FINGERPRINT && !info->is_matched)
        event_text(EV_INFO, s->log_name, NULL,
                   "certificate verification failed for %s: %s", server,
                   info->why);
    if (s->tls->loglevel >= 1 && stream_tls_info(st, t)) {
        if (s->tls->loglevel >= 2)
            event_text(EV_INFO, s->log_name, NULL,
                       "%s: subject_CN=%s, issuer_CN=%s, fingerprint=%s, "
                       "pkey_fingerprint=%s",
                       server, t->client_name, t->client_issuer,
                       t->client_fingerprint, t->client_key_fingerprint);
        event_text(EV_INFO, s->log_name, NULL,
                   "%s TLS connection %s to %s: %s with cipher %s (%d/%d "
                   "bits)%s%s%s%s",
                   !t->has_client_cert && !t->was_resumed ? "Anonymous"
                   : is_good                              ? "Verified"
                   : info->is_trusted                     ? "Trusted"
                                                          : "Untrusted",
                   t->was_resumed ? "reused" : "established", server,
                   t->protocol, t->cipher, t->bits, t->algorithm_bits,
                   t->key_exchange[0] != '\0' ? " key-exchange " : "",
                   t->key_exchange, t->signature[0] != '\0' ? " " : "",
                   t->signature);
    }
    free(t);
}

void client_tls_note_offer(const struct client_service *s, slice host)
{
    if (s->tls->note_offer)
        event_text(EV_INFO, s->log_name, NULL, "Host offered STARTTLS: [%.*s]",
                   SLF(host));
}
