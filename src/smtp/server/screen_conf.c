#include "smtp/server/screen_priv.h"

/* postscreen's settings, and what its access list says. */

#define SITES_MAX 100

/* ------------------------------------------------------------------ *
 * Settings
 */

static enum screen_action action_of(const struct conf *c,
                                    const struct conf_service *line,
                                    const char *param)
{
    slice word = conf_slice(c, line, param);

    if (slice_ieqs(word, "drop"))
        return ACTION_DROP;
    return slice_ieqs(word, "enforce") ? ACTION_ENFORCE : ACTION_IGNORE;
}

/* "domain=filter*weight" */
static bool site_parse(slice spec, struct screen_site *out)
{
    ssize_t star = slice_rchr(spec, '*');
    int64_t weight = 1;

    if (star >= 0) {
        slice number = slice_from(spec, (size_t)star + 1);

        if (!slice_i64(number, &weight) || weight < -10000 || weight > 10000)
            return false;
        spec = slice_sub(spec, 0, (size_t)star);
    }
    out->weight = (int)weight;
    return access_dnsxl_parse(spec, &out->list);
}

static int sites_init(struct smtp_screen *k, slice list, struct err *err)
{
    slice word;

    k->sites = xarena_alloc(k->arena, SITES_MAX * sizeof *k->sites);
    while (conf_list_next(&list, &word)) {
        if (k->n_sites == SITES_MAX)
            return err_perm(err, "postscreen_dnsbl_sites: more than %d sites",
                            SITES_MAX);
        if (!site_parse(slice_dup(k->arena, word), &k->sites[k->n_sites]))
            return err_perm(err,
                            "postscreen_dnsbl_sites: bad site \"%.*s\": need "
                            "domain=d.d.d.d*weight",
                            SLF(slice_sub(word, 0, 60)));
        k->n_sites++;
    }
    return 0;
}

static int rules_init(struct smtp_screen *k, struct tables *t, slice list,
                      struct err *err)
{
    static const struct {
        const char *word;
        enum rule_kind kind;
    } words[] = {
        { "permit_mynetworks", RULE_MYNETWORKS },
        { "permit", RULE_PERMIT },
        { "reject", RULE_REJECT },
    };

    slice word;

    while (conf_list_next(&list, &word)) {
        struct screen_rule *r = &k->rules[k->n_rules];
        bool is_known = false;

        if (k->n_rules == RULES_MAX)
            return err_perm(err, "postscreen_access_list: too long");
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (slice_ieqs(word, words[i].word)) {
                r->kind = words[i].kind;
                is_known = true;
            }
        if (!is_known && slice_chr(word, ':') <= 0)
            return err_perm(err, "postscreen_access_list: unknown word %.*s",
                            SLF(slice_sub(word, 0, 60)));
        k->n_rules++;
        if (is_known)
            continue;
        r->kind = RULE_TABLE;
        if (table_list_new(t, conf_list_unbrace(word), &r->table, err) < 0)
            return err_prefix(err, "postscreen_access_list");
    }
    return 0;
}

static msec ms_of(const struct conf *c, const struct conf_service *line,
                  const char *param)
{
    return conf_time(c, line, param) * 1000;
}

static void deep_init(struct smtp_screen *k, const struct conf *c,
                      const struct conf_service *line)
{
    static const struct {
        const char *is_on, *action, *ttl;
    } params[DEEP_N] = {
        [DEEP_PIPELINING] = { "postscreen_pipelining_enable",
                              "postscreen_pipelining_action",
                              "postscreen_pipelining_ttl" },
        [DEEP_FOREIGN] = { "postscreen_non_smtp_command_enable",
                           "postscreen_non_smtp_command_action",
                           "postscreen_non_smtp_command_ttl" },
        [DEEP_NEWLINE] = { "postscreen_bare_newline_enable",
                           "postscreen_bare_newline_action",
                           "postscreen_bare_newline_ttl" },
    };

    for (int i = 0; i < DEEP_N; i++) {
        k->deep[i].is_on = conf_bool(c, line, params[i].is_on);
        k->deep[i].action = action_of(c, line, params[i].action);
        k->deep[i].ttl_ms = ms_of(c, line, params[i].ttl);
    }
}

static void values_init(struct smtp_screen *k, const struct conf *c,
                        const struct conf_service *line)
{
    const char *banner = conf_str(c, line, "postscreen_greet_banner");

    k->deny = action_of(c, line, "postscreen_denylist_action");
    k->greet = action_of(c, line, "postscreen_greet_action");
    k->dnsbl = action_of(c, line, "postscreen_dnsbl_action");
    k->wait_ms = ms_of(c, line, "postscreen_greet_wait");
    k->greet_ttl_ms = ms_of(c, line, "postscreen_greet_ttl");
    k->dnsbl_min_ms = ms_of(c, line, "postscreen_dnsbl_min_ttl");
    k->dnsbl_max_ms = ms_of(c, line, "postscreen_dnsbl_max_ttl");
    k->retention_ms = ms_of(c, line, "postscreen_cache_retention_time");
    k->threshold = conf_int(c, line, "postscreen_dnsbl_threshold");
    k->allow_threshold =
        conf_int(c, line, "postscreen_dnsbl_allowlist_threshold");
    k->testing_max = (size_t)conf_int(c, line, "postscreen_pre_queue_limit");
    k->per_client_max =
        (size_t)conf_int(c, line, "postscreen_client_connection_count_limit");
    deep_init(k, c, line);
    if (banner[0] != '\0')
        k->teaser = arena_printf(k->arena, "220-%s\r\n", banner);
}

int smtp_screen_new(struct smtp_service *v, const struct conf_service *line,
                    struct err *err)
{
    struct tables *t = v->server->parts.tables;
    struct smtp_screen *k = xcalloc(1, sizeof *k);
    const struct conf *c = v->conf;

    v->screen = k;
    k->arena = arena_new(4u << 20);
    k->passes = v->server->passes;
    map_init(&k->clients, false);
    values_init(k, c, line);
    if (sites_init(k, conf_slice(c, line, "postscreen_dnsbl_sites"), err) < 0 ||
        rules_init(k, t, conf_slice(c, line, "postscreen_access_list"), err) <
            0 ||
        table_match_new(t, c, line, "mynetworks", &k->mynetworks, err) < 0)
        return -1;
    return table_list_param(t, c, line, "postscreen_dnsbl_reply_map",
                            &k->reply_map, err);
}

void smtp_screen_free(struct smtp_service *v)
{
    struct smtp_screen *k = v->screen;

    v->screen = NULL;
    if (k == NULL)
        return;
    CHECK(k->clients.n == 0);
    map_done(&k->clients);
    for (size_t i = 0; i < k->n_rules; i++)
        table_list_free(&k->rules[i].table);
    table_match_free(&k->mynetworks);
    table_list_free(&k->reply_map);
    arena_free(&k->arena);
    free(k);
}

/* ------------------------------------------------------------------ *
 * The access list
 */

static enum listed result_of(slice value)
{
    if (slice_ieqs(value, "permit"))
        return LISTED_ALLOW;
    if (slice_ieqs(value, "reject"))
        return LISTED_DENY;
    if (!slice_ieqs(value, "dunno"))
        log_warning("postscreen_access_list: bad result \"%.*s\"",
                    SLF(slice_sub(value, 0, 60)));
    return LISTED_NOT;
}

MAY_WAIT static enum listed rule_says(struct smtp_screen *k,
                                      const struct screen_rule *r, slice addr)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    slice value = SLICE_NONE;
    bool ours = false;
    struct err err;

    switch (r->kind) {
    case RULE_PERMIT:
        return LISTED_ALLOW;
    case RULE_REJECT:
        return LISTED_DENY;
    case RULE_MYNETWORKS:
        if (table_match_client(k->mynetworks, SL("unknown"), addr, &ours,
                               &err) < 0)
            log_warning("%s", err.log);
        return ours ? LISTED_ALLOW : LISTED_NOT;
    case RULE_TABLE:
        break;
    }
    a = arena_new(1u << 20);
    if (table_list_lookup(r->table, addr, 0, a, &value, &err) < 0)
        log_warning("%s", err.log);
    return value.p != NULL ? result_of(slice_trim(value)) : LISTED_NOT;
}

enum listed screen_access_says(struct smtp_screen *k, slice addr)
{
    enum listed says = LISTED_NOT;

    for (size_t i = 0; i < k->n_rules && says == LISTED_NOT; i++)
        says = rule_says(k, &k->rules[i], addr);
    return says;
}
