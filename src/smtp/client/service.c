#include "smtp/client/client_priv.h"

#include "address/address.h"
#include "filter/filter.h"

/* The settings of transports.  Parameters are smtp_* or lmtp_*: which, the
 * line's command says. */

#define PARAM_MAX 80

const char *client_param(const struct client_service *s, const char *suffix)
{
    char name[PARAM_MAX];
    const struct conf_param *p;

    (void)snprintf(name, sizeof name, "%s_%s", s->is_lmtp ? "lmtp" : "smtp",
                   suffix);
    p = conf_param_find(slice_str(name));
    CHECK(p != NULL);
    return p->name;
}

slice client_str(const struct client_service *s, const char *suffix)
{
    return conf_slice(s->client->conf, s->line, client_param(s, suffix));
}

int64_t client_int(const struct client_service *s, const char *suffix)
{
    return conf_int(s->client->conf, s->line, client_param(s, suffix));
}

bool client_bool(const struct client_service *s, const char *suffix)
{
    return conf_bool(s->client->conf, s->line, client_param(s, suffix));
}

int64_t client_time(const struct client_service *s, const char *suffix)
{
    return conf_time(s->client->conf, s->line, client_param(s, suffix));
}

int client_tables(const struct client_service *s, const char *suffix,
                  struct table_list **out, struct err *err)
{
    struct table_list *l;

    if (table_list_param(s->client->tables, s->client->conf, s->line,
                         client_param(s, suffix), &l, err) < 0)
        return -1;
    if (table_list_is_empty(l))
        table_list_free(&l);
    *out = l;
    return 0;
}

static msec ms_of(const struct client_service *s, const char *suffix)
{
    return (msec)client_time(s, suffix) * 1000;
}

static unsigned uint_of(const struct client_service *s, const char *suffix)
{
    int64_t n = client_int(s, suffix);

    return n < 0 ? 0 : n > INT_MAX ? INT_MAX : (unsigned)n;
}

/* Is `word` one of a list's? */
static bool has_word(slice list, const char *word)
{
    slice one;

    while (slice_token(&list, " ,\t\n", &one))
        if (slice_ieqs(one, word))
            return true;
    return false;
}

static void set_log_name(struct client_service *s)
{
    const char *global = conf_str(s->client->conf, NULL, "syslog_name");
    const char *own = conf_str(s->client->conf, s->line, "syslog_name");
    const char *base = s->is_lmtp ? "lmtp" : "smtp";
    size_t n = strlen(global);

    if (s->line == NULL && strcmp(s->transport, "relay") == 0)
        (void)snprintf(s->log_name, sizeof s->log_name, "relay/smtp");
    else if (strcmp(global, own) == 0)
        (void)snprintf(s->log_name, sizeof s->log_name, "%s", base);
    else if (strncmp(global, own, n) == 0 && own[n] == '/')
        (void)snprintf(s->log_name, sizeof s->log_name, "%s/%s", own + n + 1,
                       base);
    else
        (void)snprintf(s->log_name, sizeof s->log_name, "%s/%s", own, base);
}

static void set_times(struct client_service *s)
{
    s->connect_ms = ms_of(s, "connect_timeout");
    s->helo_ms = ms_of(s, s->is_lmtp ? "lhlo_timeout" : "helo_timeout");
    s->mail_ms = ms_of(s, "mail_timeout");
    s->rcpt_ms = ms_of(s, "rcpt_timeout");
    s->data_init_ms = ms_of(s, "data_init_timeout");
    s->data_xfer_ms = ms_of(s, "data_xfer_timeout");
    s->data_done_ms = ms_of(s, "data_done_timeout");
    s->rset_ms = ms_of(s, "rset_timeout");
    s->quit_ms = ms_of(s, "quit_timeout");
    s->xforward_ms = ms_of(s, "xforward_timeout");
    s->starttls_ms = ms_of(s, "starttls_timeout");
    if (s->connect_ms == 0) /* "none" in Postfix: the kernel's own */
        s->connect_ms = (msec)127 * 1000;
    s->per_request_deadline = client_bool(s, "per_request_deadline");
    s->min_data_rate = uint_of(s, "min_data_rate");
}

static int set_places(struct client_service *s, struct err *err)
{
    struct conf *c = s->client->conf;
    slice lookup = client_str(s, "host_lookup");
    slice preference = client_str(s, "address_preference");
    slice protocols = conf_slice(c, s->line, "inet_protocols");
    slice level = client_str(s, "dns_support_level");

    if (!conf_port(c, client_str(s, "tcp_port"), &s->port))
        return err_perm(err, "%s: unknown port", client_param(s, "tcp_port"));
    s->randomize = client_bool(s, "randomize_addresses");
    s->balance = client_bool(s, "balance_inet_protocols");
    s->dns_off = slice_ieqs(level, "disabled") ||
                 (level.n == 0 && conf_bool(c, s->line, "disable_dns_lookups"));
    s->host_dns = has_word(lookup, "dns") && !s->dns_off;
    s->host_native = has_word(lookup, "native") || !s->host_dns;
    s->preference = slice_ieqs(preference, "ipv4")   ? PREFER_V4
                    : slice_ieqs(preference, "ipv6") ? PREFER_V6
                                                     : PREFER_ANY;
    s->use_v4 = has_word(protocols, "all") || has_word(protocols, "ipv4");
    s->use_v6 = has_word(protocols, "all") || has_word(protocols, "ipv6");
    s->address_limit = uint_of(s, "mx_address_limit");
    s->session_limit = uint_of(s, "mx_session_limit");
    s->defer_no_address = client_bool(s, "defer_if_no_mx_address_found");
    s->ignore_mx_error = conf_bool(c, s->line, "ignore_mx_lookup_error");
    s->cname_is_name = client_bool(s, "cname_overrides_servername");
    s->fallback = client_str(s, "fallback_relay");
    s->best_mx = conf_slice(c, s->line, "best_mx_transport");
    s->bind4 = client_str(s, "bind_address");
    s->bind6 = client_str(s, "bind_address6");
    s->bind_enforce = client_bool(s, "bind_address_enforce");
    return 0;
}

static void set_dialogue(struct client_service *s)
{
    struct conf *c = s->client->conf;

    s->helo_name = client_str(s, s->is_lmtp ? "lhlo_name" : "helo_name");
    if (!s->is_lmtp) {
        s->always_ehlo = client_bool(s, "always_send_ehlo");
        s->never_ehlo = client_bool(s, "never_send_ehlo");
        s->skip_4xx = true;
        s->pix_workarounds = client_str(s, "pix_workarounds");
        s->pix_threshold = ms_of(s, "pix_workaround_threshold_time");
        s->pix_delay = ms_of(s, "pix_workaround_delay_time");
    } else {
        s->assume_final = client_bool(s, "assume_final");
    }
    s->skip_5xx = client_bool(s, "skip_5xx_greeting");
    s->skip_quit = client_bool(s, "skip_quit_response");
    s->soft_bounce = conf_bool(c, s->line, "soft_bounce");
    s->quote_envelope = client_bool(s, "quote_rfc821_envelope");
    s->send_xforward = client_bool(s, "send_xforward_command");
    s->no_mime_out = conf_bool(c, s->line, "disable_mime_output_conversion");
    s->probe_data = slice_ieqs(client_str(s, "address_verify_target"), "data");
    s->use_chunking = client_bool(s, "chunking_enable");
    s->dummy_auth = client_bool(s, "send_dummy_mail_auth");
    s->line_limit = uint_of(s, "line_length_limit");
    if (s->line_limit == 1) /* no room behind the blank of what is folded */
        s->line_limit = 2;
    s->discard_ehlo = client_str(s, s->is_lmtp ? "discard_lhlo_keywords"
                                               : "discard_ehlo_keywords");
}

static int set_tables(struct client_service *s, struct err *err)
{
    const struct {
        const char *suffix;
        struct table_list **out;
    } lists[] = {
        { s->is_lmtp ? "discard_lhlo_keyword_address_maps"
                     : "discard_ehlo_keyword_address_maps",
          &s->discard_ehlo_maps },
        { s->is_lmtp ? NULL : "pix_workaround_maps", &s->pix_maps },
        { "reply_filter", &s->reply_filter },
        { "delivery_status_filter", &s->status_filter },
        { "dns_reply_filter", &s->dns_filter },
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (lists[i].suffix != NULL &&
            client_tables(s, lists[i].suffix, lists[i].out, err) < 0)
            return -1;
    if (client_str(s, "generic_maps").n > 0 &&
        address_new_generic(s->client->conf, s->line, s->client->tables,
                            client_param(s, "generic_maps"), &s->generic,
                            err) < 0)
        return -1;
    if (filter_new_client(s->client->conf, s->line, s->client->tables,
                          s->is_lmtp ? "lmtp_" : "smtp_", &s->checks, err) < 0)
        return -1;
    if (filter_is_idle(s->checks))
        filter_free(&s->checks);
    return client_login_new(s->client->tables, s->client->conf, s->line,
                            s->is_lmtp ? "lmtp" : "smtp", &s->login, err);
}

static int set_cache(struct client_service *s, struct err *err)
{
    s->cache_on_demand = client_bool(s, "connection_cache_on_demand");
    s->cache_ms = ms_of(s, "connection_cache_time_limit");
    s->reuse_ms = ms_of(s, "connection_reuse_time_limit");
    s->reuse_count = uint_of(s, "connection_reuse_count_limit");
    if (client_str(s, "connection_cache_destinations").n == 0)
        return 0;
    return table_match_new(s->client->tables, s->client->conf, s->line,
                           client_param(s, "connection_cache_destinations"),
                           &s->cache_destinations, err);
}

static void service_free(struct client_service *s)
{
    table_list_free(&s->discard_ehlo_maps);
    table_list_free(&s->pix_maps);
    table_list_free(&s->reply_filter);
    table_list_free(&s->status_filter);
    table_list_free(&s->dns_filter);
    address_free(&s->generic);
    filter_free(&s->checks);
    client_login_free(&s->login);
    client_tls_free(&s->tls);
    table_match_free(&s->cache_destinations);
    free(s);
}

static int add(struct smtp_client *c, const char *transport,
               const struct conf_service *line, bool is_lmtp, struct err *err)
{
    struct client_service *s = xcalloc(1, sizeof *s);

    c->services = xrealloc(c->services, (c->n_services + 1) *
                                            sizeof(struct client_service *));
    c->services[c->n_services++] = s;
    s->client = c;
    s->transport = transport;
    s->line = line;
    s->is_lmtp = is_lmtp;
    set_log_name(s);
    set_times(s);
    set_dialogue(s);
    if (set_places(s, err) < 0 || set_tables(s, err) < 0 ||
        set_cache(s, err) < 0 || client_tls_new(c, s, &s->tls, err) < 0)
        return -1;
    return 0;
}

struct client_service *client_service_of(const struct smtp_client *c,
                                         slice transport)
{
    for (size_t i = 0; i < c->n_services; i++)
        if (slice_eqs(transport, c->services[i]->transport))
            return c->services[i];
    return NULL;
}

int client_services_new(struct smtp_client *c, struct err *err)
{
    static const char *const always[] = { "smtp", "relay", "lmtp" };

    for (size_t i = 0; i < conf_service_count(c->conf); i++) {
        const struct conf_service *line = conf_service_at(c->conf, i);
        bool is_lmtp = strcmp(line->command, "lmtp") == 0;

        if (line->type == CONF_UNIX &&
            (is_lmtp || strcmp(line->command, "smtp") == 0) &&
            client_service_of(c, slice_str(line->name)) == NULL &&
            add(c, line->name, line, is_lmtp, err) < 0)
            return -1;
    }
    /* Postfix's own, as its master.cf has them. */
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (client_service_of(c, slice_str(always[i])) == NULL &&
            add(c, always[i], NULL, i == 2, err) < 0)
            return -1;
    return 0;
}

void client_services_free(struct smtp_client *c)
{
    for (size_t i = 0; i < c->n_services; i++)
        service_free(c->services[i]);
    free(c->services);
    c->services = NULL;
    c->n_services = 0;
}
