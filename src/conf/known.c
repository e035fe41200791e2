/* Which names are known, and the nearest known one. */
#include "conf/conf_priv.h"

#define MAX_WORD 80

struct conf_names {
    struct map *map; /* looked up in a const struct conf_names */
    struct arena *arena;
};

/* Optimal string alignment: insert, delete, replace, swap of neighbours. */
size_t conf_edit_distance(slice a, slice b, size_t max)
{
    uint8_t rows[3][MAX_WORD + 1];
    uint8_t *before = rows[0];
    uint8_t *last = rows[1];
    uint8_t *now = rows[2];

    if (a.n > MAX_WORD || b.n > MAX_WORD)
        return max + 1;
    if (a.n > b.n + max || b.n > a.n + max)
        return max + 1;
    for (size_t j = 0; j <= b.n; j++)
        last[j] = (uint8_t)j;
    for (size_t i = 1; i <= a.n; i++) {
        uint8_t *recycled = before;

        now[0] = (uint8_t)i;
        for (size_t j = 1; j <= b.n; j++) {
            bool same = a.p[i - 1] == b.p[j - 1];
            size_t d = min_size(last[j] + 1u, now[j - 1] + 1u);

            d = min_size(d, last[j - 1] + (same ? 0u : 1u));
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
                a.p[i - 2] == b.p[j - 1])
                d = min_size(d, before[j - 2] + 1u);
            now[j] = (uint8_t)d;
        }
        before = last;
        last = now;
        now = recycled;
    }
    return last[b.n] <= max ? last[b.n] : max + 1;
}

/* The best name so far. */
struct nearest {
    slice name;
    const char *best;
    size_t distance;
};

static void consider(struct nearest *n, const char *candidate)
{
    size_t d = conf_edit_distance(n->name, slice_str(candidate), n->distance);

    if (d < n->distance) {
        n->distance = d;
        n->best = candidate;
    }
}

const char *conf_param_nearest(const struct conf *c, slice name)
{
    /* Farther than this is another word. */
    struct nearest n = { .name = name,
                         .distance = min_size(name.n / 4 + 1, 4) + 1 };

    for (size_t i = 0; i < conf_param_count(); i++)
        consider(&n, conf_param_at(i)->name);
    for (size_t i = 0; c != NULL && i < c->n_services; i++) {
        for (size_t f = 0; f < conf_family_count(); f++) {
            char full[MAX_WORD + 1];
            int len = snprintf(full, sizeof(full), "%s%s", c->services[i].name,
                               conf_family_at(f)->name);

            if (len > 0 && (size_t)len < sizeof(full) &&
                conf_edit_distance(name, slice_str(full), n.distance) <
                    n.distance) {
                n.best = slice_cstr(c->arena, slice_str(full));
                n.distance = conf_edit_distance(name, slice_str(full), 40);
            }
        }
    }
    return n.best;
}

static bool in_list(const struct conf *c, const struct conf_service *s,
                    const char *param, slice name)
{
    slice list = conf_slice(c, s, param);
    slice w;

    while (conf_list_next(&list, &w))
        if (slice_eq(w, name))
            return true;
    return false;
}

static bool is_class(const struct conf *c, slice name)
{
    if (in_list(c, NULL, "smtpd_restriction_classes", name))
        return true;
    for (size_t i = 0; i < c->n_services; i++)
        if (c->services[i].n_overrides > 0 &&
            in_list(c, &c->services[i], "smtpd_restriction_classes", name))
            return true;
    return false;
}

/* What a table whose settings are in main.cf may be told: name_suffix. */
static const struct {
    const char *type;
    const char *suffixes;
} table_suffixes[] = {
    { "ldap",
      "server_host server_port timeout search_base query_filter result_format "
      "result_filter domain result_attribute special_result_attribute "
      "leaf_result_attribute terminal_result_attribute scope bind bind_dn "
      "bind_pw recursion_limit expansion_limit size_limit dereference "
      "chase_referrals version debuglevel start_tls tls_ca_cert_file "
      "tls_ca_cert_dir tls_cert tls_key tls_require_cert tls_random_file "
      "tls_cipher_suite sasl_mechs sasl_realm sasl_authz_id sasl_minssf cache "
      "cache_expiry cache_size lookup_wildcards" },
    { "mysql",
      "hosts user password dbname query result_format domain expansion_limit "
      "option_file option_group require_result_set charset idle_interval "
      "retry_interval tls_cert_file tls_key_file tls_CAfile tls_CApath "
      "tls_ciphers tls_verify_cert table select_field where_field "
      "additional_conditions" },
    { "pgsql", "hosts user password dbname encoding query result_format domain "
               "expansion_limit idle_interval retry_interval table "
               "select_function select_field where_field "
               "additional_conditions" },
    { "sqlite", "dbpath query result_format domain expansion_limit "
                "result_template" },
};

/* name = table's name + "_" + known suffix. */
struct prefix_ctx {
    slice name;
    bool found;
};

static void match_prefix(void *ctx, const struct conf_table_ref *ref)
{
    struct prefix_ctx *p = ctx;
    slice rest;
    slice suffix;

    if (p->found || ref->name.n == 0 || ref->name.p[0] == '/' ||
        !slice_starts(p->name, ref->name) || p->name.n < ref->name.n + 2 ||
        p->name.p[ref->name.n] != '_')
        return;
    for (size_t i = 0; i < ARRAY_LEN(table_suffixes); i++) {
        if (!slice_eqs(ref->type, table_suffixes[i].type))
            continue;
        rest = slice_str(table_suffixes[i].suffixes);
        while (conf_list_next(&rest, &suffix))
            if (slice_eq(suffix, slice_from(p->name, ref->name.n + 1)))
                p->found = true;
    }
}

bool conf_is_known(const struct conf *c, slice name)
{
    struct prefix_ctx p = { .name = name };

    if (conf_param_for(c, name) != NULL || is_class(c, name))
        return true;
    conf_each_table(c, match_prefix, &p);
    return p.found;
}

struct name_node {
    struct map_node node;
};

static void add_name(void *ctx, slice name)
{
    struct conf_names *names = ctx;
    struct name_node *n;

    if (map_get(names->map, name) != NULL)
        return;
    n = ARENA_NEW(names->arena, struct name_node);
    map_put(names->map, &n->node, slice_dup(names->arena, name));
}

struct conf_names *conf_names_referenced(const struct conf *c)
{
    struct conf_names *names = xcalloc(1, sizeof(*names));

    names->arena = arena_new(CONF_MAX_ARENA);
    names->map = xmalloc(sizeof(*names->map));
    map_init(names->map, false);
    for (size_t i = 0; i < c->n_entries; i++)
        conf_each_reference(slice_str(c->entries[i]->value), add_name, names);
    for (size_t i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];

        for (size_t o = 0; o < s->n_overrides; o++)
            conf_each_reference(slice_str(s->overrides[o].value), add_name,
                                names);
    }
    return names;
}

bool conf_names_has(const struct conf_names *n, slice name)
{
    return map_get(n->map, name) != NULL;
}

void conf_names_free(struct conf_names **n)
{
    if (*n == NULL)
        return;
    map_done((*n)->map);
    free((*n)->map);
    arena_free(&(*n)->arena);
    free(*n);
    *n = NULL;
}
