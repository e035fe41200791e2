#include "access/access_priv.h"

#include "mail/domain.h"

/* Compiling the restriction lists of one service. */

struct compiling {
    struct access *a;
    const char *param; /* the list's name */
    struct err *err;
};

static int wrong(struct compiling *k, const char *what, slice word)
{
    const char *file;
    int line;

    conf_where(k->a->conf, k->a->service, k->param, &file, &line);
    if (line > 0)
        return err_perm(k->err, "%s:%d: %s: %s \"%.*s\"", file, line, k->param,
                        what, SLF(slice_sub(word, 0, 60)));
    return err_perm(k->err, "%s: %s \"%.*s\"", k->param, what,
                    SLF(slice_sub(word, 0, 60)));
}

static int rule_table(struct compiling *k, struct rule *r, slice spec)
{
    spec = conf_list_unbrace(spec);
    r->spec = slice_dup(k->a->arena, spec);
    if (slice_chr(spec, ':') <= 0)
        return wrong(k, "need maptype:mapname, not", spec);
    if (table_list_new(k->a->tables, spec, &r->table, k->err) < 0)
        return err_prefix(k->err, "%s", k->param);
    return 0;
}

/* The argument of a restriction, from the front of *rest. */
static int rule_arg(struct compiling *k, struct rule *r, slice *rest)
{
    uint64_t number;
    slice word;

    if (r->what->arg == ARG_NONE)
        return 0;
    if (!conf_list_next(rest, &word))
        return wrong(k, "an argument is missing behind",
                     slice_str(r->what->name));
    if (r->what->arg == ARG_TABLE)
        return rule_table(k, r, word);
    if (r->what->arg == ARG_DNSXL) {
        r->spec = slice_dup(k->a->arena, word);
        if (!access_dnsxl_parse(r->spec, &r->list))
            return wrong(k, "need a domain, or domain=d.d.d.d, not", word);
        return 0;
    }
    if (!slice_u64(word, &number) || number > 30)
        return wrong(k, "need a number of at most 30, not", word);
    r->number = (unsigned)number;
    return 0;
}

static int rule_init(struct compiling *k, struct rules *list, slice word,
                     slice *rest)
{
    struct rule *r = &list->v[list->n];
    struct map_node *n;

    *r = (struct rule){ .what = restriction_find(word) };
    list->n++;
    if (r->what != NULL)
        return rule_arg(k, r, rest);
    if (slice_chr(word, ':') > 0) {
        r->what = list->kind == LIST_CLASS ? &restriction_bare
                                           : restriction_default(list->kind);
        if (r->what == NULL)
            return wrong(k,
                         "need a restriction such as check_client_access "
                         "in front of",
                         word);
        return rule_table(k, r, word);
    }
    n = map_get(k->a->classes, word);
    if (n == NULL)
        return wrong(k, "unknown smtpd restriction:", word);
    r->class = CONTAINER_OF(n, struct rules, node);
    return 0;
}

static int compile_list(struct access *a, struct rules *list, const char *param,
                        enum list_kind kind, struct err *err)
{
    struct compiling k = { a, param, err };
    slice rest = conf_slice(a->conf, a->service, param);
    slice word;

    list->kind = kind;
    list->v = arena_alloc(a->arena, (rest.n / 2 + 1) * sizeof(struct rule));
    if (list->v == NULL)
        return err_perm(err, "%s: list too long", param);
    while (conf_list_next(&rest, &word)) {
        if (rule_init(&k, list, word, &rest) < 0)
            return -1;
    }
    return 0;
}

/* smtpd_restriction_classes: all names first, since they may name each other.
 */
static int classes_init(struct access *a, struct err *err)
{
    slice rest = conf_slice(a->conf, a->service, "smtpd_restriction_classes");
    struct map_node *n = NULL;
    size_t pos = 0;
    slice word;

    while (conf_list_next(&rest, &word)) {
        struct rules *class = ARENA_NEW(a->arena, struct rules);

        if (map_get(a->classes, word) != NULL)
            continue;
        class->name = slice_dup(a->arena, word);
        map_put(a->classes, &class->node, class->name);
    }
    while ((n = map_next(a->classes, &pos, n)) != NULL) {
        struct rules *class = CONTAINER_OF(n, struct rules, node);
        char *name = slice_cstr(a->arena, class->name);

        if (name == NULL || !conf_is_set(a->conf, a->service, name))
            return err_perm(err, "restriction class `%.*s' needs a definition",
                            SLF(class->name));
        if (compile_list(a, class, name, LIST_CLASS, err) < 0)
            return -1;
    }
    return 0;
}

static int lists_init(struct access *a, struct err *err)
{
    if (classes_init(a, err) < 0 ||
        compile_list(a, &a->client, "smtpd_client_restrictions", LIST_CLIENT,
                     err) < 0 ||
        compile_list(a, &a->helo, "smtpd_helo_restrictions", LIST_HELO, err) <
            0 ||
        compile_list(a, &a->sender, "smtpd_sender_restrictions", LIST_SENDER,
                     err) < 0 ||
        compile_list(a, &a->relay, "smtpd_relay_restrictions", LIST_RECIPIENT,
                     err) < 0)
        return -1;
    if (compile_list(a, &a->recipient, "smtpd_recipient_restrictions",
                     LIST_RECIPIENT, err) < 0 ||
        compile_list(a, &a->data, "smtpd_data_restrictions", LIST_DATA, err) <
            0 ||
        compile_list(a, &a->end_of_data, "smtpd_end_of_data_restrictions",
                     LIST_DATA, err) < 0)
        return -1;
    return compile_list(a, &a->etrn, "smtpd_etrn_restrictions", LIST_ETRN, err);
}

/* ------------------------------------------------------------------ *
 * "In parameter smtpd_relay_restrictions or smtpd_recipient_restrictions,
 * specify at least one working instance of: ..."
 */

static bool is_guard(slice name)
{
    static const char *const guards[] = {
        "reject_unauth_destination",
        "defer_unauth_destination",
        "reject",
        "defer",
        "defer_if_permit",
    };

    for (size_t i = 0; i < ARRAY_LEN(guards); i++) {
        if (slice_eqs(name, guards[i]))
            return true;
    }
    return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_DEPTH */
static bool has_guard(const struct rules *list, unsigned depth)
{
    bool only_warns = false;

    for (size_t i = 0; i < list->n && depth < ACCESS_DEPTH; i++) {
        const struct rule *r = &list->v[i];

        if (r->what == NULL && !only_warns && has_guard(r->class, depth + 1))
            return true;
        if (r->what != NULL && !only_warns &&
            is_guard(slice_str(r->what->name)))
            return true;
        only_warns =
            r->what != NULL && strcmp(r->what->name, "warn_if_reject") == 0;
    }
    return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): ACCESS_DEPTH */
static bool is_deeper_than(const struct rules *list, unsigned depth)
{
    if (depth == 0)
        return true;
    for (size_t i = 0; i < list->n; i++) {
        if (list->v[i].what == NULL &&
            is_deeper_than(list->v[i].class, depth - 1))
            return true;
    }
    return false;
}

static int safety_check(struct access *a, struct err *err)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(a->classes, &pos, n)) != NULL) {
        const struct rules *class = CONTAINER_OF(n, struct rules, node);

        if (is_deeper_than(class, ACCESS_DEPTH))
            return err_perm(err,
                            "restriction class %.*s is nested too deep, "
                            "or in itself",
                            SLF(class->name));
    }
    if (has_guard(&a->relay, 0) || has_guard(&a->recipient, 0))
        return 0;
    return err_perm(
        err, "in parameter smtpd_relay_restrictions or "
             "smtpd_recipient_restrictions, specify at least one working "
             "instance of: reject_unauth_destination, "
             "defer_unauth_destination, reject, defer or defer_if_permit");
}

/* ------------------------------------------------------------------ */

static bool flag_of(const struct access *a, const char *param)
{
    return conf_bool(a->conf, a->service, param);
}

static int code_of(const struct access *a, const char *param)
{
    return (int)conf_int(a->conf, a->service, param);
}

static bool parents_for(const struct access *a, const char *name)
{
    slice rest = conf_slice(a->conf, NULL, "parent_domain_matches_subdomains");
    slice word;

    while (conf_list_next(&rest, &word)) {
        if (slice_ieqs(word, name))
            return true;
    }
    return false;
}

static void values_init(struct access *a)
{
    a->delay_reject = flag_of(a, "smtpd_delay_reject");
    a->relay_first = flag_of(a, "smtpd_relay_before_recipient_restrictions");
    a->soft_bounce = flag_of(a, "soft_bounce");
    a->rejects_unlisted_rcpt = flag_of(a, "smtpd_reject_unlisted_recipient");
    a->rejects_unlisted_sender = flag_of(a, "smtpd_reject_unlisted_sender");
    a->allows_routes = flag_of(a, "allow_untrusted_routing");
    a->logs_port = flag_of(a, "smtpd_client_port_logging");
    a->access_parents = parents_for(a, "smtpd_access_maps");
    a->reject_code = code_of(a, "reject_code");
    a->defer_code = code_of(a, "defer_code");
    a->map_reject_code = code_of(a, "access_map_reject_code");
    a->map_defer_code = code_of(a, "access_map_defer_code");
    a->relay_code = code_of(a, "relay_domains_reject_code");
    a->bad_name_code = code_of(a, "invalid_hostname_reject_code");
    a->non_fqdn_code = code_of(a, "non_fqdn_reject_code");
    a->multi_rcpt_code = code_of(a, "multi_recipient_bounce_reject_code");
    a->plaintext_code = code_of(a, "plaintext_reject_code");
    a->delimiters = conf_slice(a->conf, a->service, "recipient_delimiter");
    a->null_key =
        conf_slice(a->conf, a->service, "smtpd_null_access_lookup_key");
    a->myhostname = conf_slice(a->conf, a->service, "myhostname");
    a->service_name =
        a->service != NULL ? slice_str(a->service->name) : SL("smtp");
}

static bool defers(const struct access *a, const char *param)
{
    return slice_ieqs(conf_slice(a->conf, a->service, param), "defer");
}

static void dns_values_init(struct access *a)
{
    a->unknown_address_code = code_of(a, "unknown_address_reject_code");
    a->unknown_client_code = code_of(a, "unknown_client_reject_code");
    a->unknown_host_code = code_of(a, "unknown_hostname_reject_code");
    a->rbl_code = code_of(a, "maps_rbl_reject_code");
    a->unknown_address_defers = defers(a, "unknown_address_tempfail_action");
    a->unknown_host_defers = defers(a, "unknown_helo_hostname_tempfail_action");
    a->rbl_reply = conf_slice(a->conf, a->service, "default_rbl_reply");
    a->has_mx_networks =
        conf_slice(a->conf, a->service, "permit_mx_backup_networks").n > 0;
}

static void protocols_init(struct access *a)
{
    slice rest = conf_slice(a->conf, NULL, "inet_protocols");
    slice word;

    while (conf_list_next(&rest, &word)) {
        a->use_v4 |= slice_ieqs(word, "all") || slice_ieqs(word, "ipv4");
        a->use_v6 |= slice_ieqs(word, "all") || slice_ieqs(word, "ipv6");
    }
}

/* "\t", "\40" and "\\" of a set of characters. */
static const char *unescape(slice text, struct arena *a)
{
    static const char from[] = "abfnrtv";
    static const char to[] = "\a\b\f\n\r\t\v";
    char *out = xarena_alloc(a, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        const char *known;
        unsigned octal = 0;
        int digits = 0;

        if (text.p[i] != '\\' || i + 1 == text.n) {
            out[n++] = text.p[i];
            continue;
        }
        i++;
        known = strchr(from, text.p[i]);
        while (digits < 3 && i < text.n && text.p[i] >= '0' &&
               text.p[i] <= '7') {
            octal = octal * 8 + (unsigned)(text.p[i] - '0');
            digits++;
            i++;
        }
        if (digits > 0)
            i--;
        out[n++] = digits > 0      ? (char)octal
                   : known != NULL ? to[known - from]
                                   : text.p[i];
    }
    return out;
}

static int maps_rbl_init(struct access *a, struct err *err)
{
    slice list = conf_slice(a->conf, a->service, "maps_rbl_domains");
    slice rest = list;
    slice word;

    a->maps_rbl =
        xarena_alloc(a->arena, (list.n / 2 + 1) * sizeof(struct access_dnsxl));
    while (conf_list_next(&rest, &word)) {
        if (!access_dnsxl_parse(slice_dup(a->arena, word),
                                &a->maps_rbl[a->n_maps_rbl]))
            return err_perm(err, "maps_rbl_domains: bad domain \"%.*s\"",
                            SLF(slice_sub(word, 0, 60)));
        a->n_maps_rbl++;
    }
    return 0;
}

static void limits_init(struct access *a)
{
    static const char *const params[LIMIT_N] = {
        [LIMIT_COUNT] = "smtpd_client_connection_count_limit",
        [LIMIT_CONNECT_RATE] = "smtpd_client_connection_rate_limit",
        [LIMIT_MESSAGE_RATE] = "smtpd_client_message_rate_limit",
        [LIMIT_RCPT_RATE] = "smtpd_client_recipient_rate_limit",
        [LIMIT_AUTH_RATE] = "smtpd_client_auth_rate_limit",
        [LIMIT_TLS_RATE] = "smtpd_client_new_tls_session_rate_limit",
    };

    for (int i = 0; i < LIMIT_N; i++)
        a->limits[i] = conf_int(a->conf, a->service, params[i]);
    a->rate_unit_ms =
        conf_time(a->conf, a->service, "anvil_rate_time_unit") * 1000;
    if (a->rate_unit_ms <= 0)
        a->rate_unit_ms = 60000;
}

static int tables_init(struct access *a, struct err *err)
{
    a->own = ARENA_ARRAY(a->arena, struct conf_addr, 1024);
    a->n_own = conf_own_addrs(a->conf, false, a->own, 1024);
    if (table_match_new(a->tables, a->conf, a->service, "mynetworks",
                        &a->mynetworks, err) < 0 ||
        table_match_new(a->tables, a->conf, a->service,
                        "smtpd_client_event_limit_exceptions",
                        &a->limit_exceptions, err) < 0)
        return -1;
    if (table_list_param(a->tables, a->conf, a->service, "rbl_reply_maps",
                         &a->rbl_replies, err) < 0 ||
        table_list_param(a->tables, a->conf, a->service,
                         "smtpd_dns_reply_filter", &a->dns_filter, err) < 0 ||
        table_match_new(a->tables, a->conf, a->service,
                        "permit_mx_backup_networks", &a->mx_networks, err) < 0)
        return -1;
    if (table_list_param(a->tables, a->conf, a->service, "relay_clientcerts",
                         &a->relay_ccerts, err) < 0)
        return -1;
    return table_list_param(a->tables, a->conf, a->service,
                            "smtpd_sender_login_maps", &a->sender_login, err);
}

int access_new(const struct conf *c, const struct conf_service *service,
               struct tables *t, const struct address *address,
               struct access **out, struct err *err)
{
    struct access *a = xcalloc(1, sizeof(*a));

    a->magic = ACCESS_MAGIC;
    memcpy(&a->conf, &c,
           sizeof(void *)); /* a reference changes only the count */
    (void)conf_ref(a->conf);
    a->service = service;
    a->tables = t;
    a->address = address;
    a->arena = arena_new(16u << 20);
    a->classes = ARENA_NEW(a->arena, struct map);
    map_init(a->classes, true);
    values_init(a);
    dns_values_init(a);
    protocols_init(a);
    a->expansion_chars =
        unescape(conf_slice(a->conf, a->service, "smtpd_expansion_filter"),
                 a->arena);
    limits_init(a);
    if (maps_rbl_init(a, err) < 0 || tables_init(a, err) < 0 ||
        lists_init(a, err) < 0 || safety_check(a, err) < 0) {
        access_free(&a);
        return -1;
    }
    *out = a;
    return 0;
}

static void rules_done(struct rules *list)
{
    for (size_t i = 0; i < list->n; i++)
        table_list_free(&list->v[i].table);
}

void access_free(struct access **ap)
{
    struct access *a = *ap;
    struct map_node *n = NULL;
    size_t pos = 0;

    if (a == NULL)
        return;
    CHECK_OBJ(a, ACCESS_MAGIC);
    struct rules *const lists[] = { &a->client,      &a->helo,      &a->sender,
                                    &a->relay,       &a->recipient, &a->data,
                                    &a->end_of_data, &a->etrn };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        rules_done(lists[i]);
    while ((n = map_next(a->classes, &pos, n)) != NULL)
        rules_done(CONTAINER_OF(n, struct rules, node));
    map_done(a->classes);
    table_match_free(&a->mynetworks);
    table_match_free(&a->limit_exceptions);
    table_list_free(&a->rbl_replies);
    table_list_free(&a->dns_filter);
    table_match_free(&a->mx_networks);
    table_list_free(&a->sender_login);
    table_list_free(&a->relay_ccerts);
    arena_free(&a->arena);
    conf_unref(&a->conf);
    a->magic = 0;
    free(a);
    *ap = NULL;
}

void access_set_dns(struct access *a, struct dns *dns, struct dns_hosts *hosts)
{
    CHECK_OBJ(a, ACCESS_MAGIC);
    a->dns = dns;
    a->hosts = hosts;
}
