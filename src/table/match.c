#include "table/table_priv.h"

/* Match lists: match_list(3) and match_ops(3).  The first pattern that fits
 * decides; "!" in front turns its answer round. */

struct pattern {
    bool negated;
    slice text;
    struct table *table; /* type:name */
    bool is_net;         /* an address or net/mask */
};

struct table_match {
    uint32_t magic;
    char *param;
    bool parents; /* "domain" matches below it as well */
    struct arena *arena;
    struct pattern *v;
    size_t n;
};

#define TABLE_MATCH_MAGIC MAGIC('T', 'M', 'A', 'T')

enum match_what { MATCH_STRING, MATCH_DOMAIN, MATCH_ADDR };

static bool has_parents(const struct conf *c, const char *param)
{
    slice rest = conf_slice(c, NULL, "parent_domain_matches_subdomains");
    slice word;

    while (conf_list_next(&rest, &word)) {
        if (slice_ieqs(word, param))
            return true;
    }
    return false;
}

static bool looks_like_net(slice s)
{
    if (s.n > 0 && s.p[0] == '[')
        return true;
    if (slice_chr(s, ':') >= 0)
        return true;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_isdigit(s.p[i]) && s.p[i] != '.' && s.p[i] != '/')
            return false;
    }
    return s.n > 0;
}

static int pattern_init(struct tables *t, struct table_match *m,
                        const struct conf_item *item, struct err *err)
{
    struct pattern *p = &m->v[m->n];
    char why[300];
    const char *wrong;

    p->negated = item->negated;
    p->text = slice_dup(m->arena, item->text);
    if (p->text.p == NULL)
        return err_perm(err, "%s: list too long", m->param);
    m->n++;
    if (item->is_table) {
        if (tables_entry(t, p->text, 0, &p->table, err) < 0)
            return err_prefix(err, "%s", m->param);
        return 0;
    }
    p->is_net = looks_like_net(p->text);
    if (!p->is_net || slice_chr(p->text, '/') < 0)
        return 0;
    wrong = table_net_check(p->text, why, sizeof(why));
    return wrong == NULL ? 0 : err_perm(err, "%s: %s", m->param, wrong);
}

int table_match_new(struct tables *t, const struct conf *c,
                    const struct conf_service *service, const char *param,
                    struct table_match **out, struct err *err)
{
    struct conf_items items = conf_match_list(c, service, param);
    struct table_match *m = xcalloc(1, sizeof(*m));

    CHECK_OBJ(t, TABLES_MAGIC);
    m->magic = TABLE_MATCH_MAGIC;
    m->param = xstrdup(param);
    m->parents = has_parents(c, param);
    m->arena = arena_new(TABLE_SOURCE_MAX);
    m->v = xcalloc(items.n + 1, sizeof(struct pattern));
    for (size_t i = 0; i < items.n; i++) {
        if (pattern_init(t, m, &items.v[i], err) < 0) {
            table_match_free(&m);
            return -1;
        }
    }
    *out = m;
    return 0;
}

void table_match_free(struct table_match **mp)
{
    struct table_match *m = *mp;

    if (m == NULL)
        return;
    CHECK_OBJ(m, TABLE_MATCH_MAGIC);
    m->magic = 0;
    free(m->param);
    free(m->v);
    arena_free(&m->arena);
    free(m);
    *mp = NULL;
}

MAY_WAIT static int in_table(struct table *t, slice key, struct arena *a,
                             bool *out, struct err *err)
{
    slice value;

    if (table_ask(t, key, 0, a, &value, err) < 0)
        return -1;
    *out = value.p != NULL;
    return 0;
}

/* A name and, for tables with fixed strings, what it lies below. */
MAY_WAIT static int domain_in_table(const struct table_match *m,
                                    struct table *t, slice name,
                                    struct arena *a, bool *out, struct err *err)
{
    slice entry = name;

    *out = false;
    while (entry.n > 0) {
        ssize_t dot;

        if (in_table(t, entry, a, out, err) < 0)
            return -1;
        dot = slice_chr(slice_from(entry, 1), '.');
        if (*out || dot < 0 || !t->is_fixed)
            return 0;
        entry = slice_from(entry, (size_t)dot + 1 + (m->parents ? 1 : 0));
    }
    return 0;
}

static bool domain_fits(const struct table_match *m, slice pattern, slice name)
{
    slice tail;

    if (slice_ieq(name, pattern))
        return true;
    if (pattern.n == 0 || name.n <= pattern.n)
        return false;
    tail = slice_from(name, name.n - pattern.n);
    if (!slice_ieq(tail, pattern))
        return false;
    return m->parents ? name.p[name.n - pattern.n - 1] == '.'
                      : pattern.p[0] == '.';
}

static bool addr_fits(const struct pattern *p, slice ip)
{
    if (slice_chr(p->text, '/') >= 0 || (p->text.n > 0 && p->text.p[0] == '['))
        return table_net_match(p->text, ip);
    return slice_ieq(p->text, ip) ||
           (slice_chr(p->text, ':') >= 0 && table_net_match(p->text, ip));
}

/* One question: a string, a domain, or a client by name and address. */
struct question {
    const struct table_match *m;
    enum match_what what;
    slice key;
    slice name; /* MATCH_ADDR: the client's name; "" or "unknown": none */
    struct arena *a;
    struct err *err;
};

/* A client fits by name or by address. */
MAY_WAIT static int client_fits(const struct question *q,
                                const struct pattern *p, bool *out)
{
    bool has_name = q->name.n > 0 && !slice_ieqs(q->name, "unknown");

    *out = false;
    if (has_name && p->table != NULL &&
        domain_in_table(q->m, p->table, q->name, q->a, out, q->err) < 0)
        return -1;
    if (has_name && p->table == NULL && !p->is_net)
        *out = domain_fits(q->m, p->text, q->name);
    if (*out)
        return 0;
    if (p->table != NULL)
        return in_table(p->table, q->key, q->a, out, q->err);
    *out = p->is_net && addr_fits(p, q->key);
    return 0;
}

/* Does this one pattern fit, "!" aside? */
MAY_WAIT static int pattern_fits(const struct question *q,
                                 const struct pattern *p, bool *out)
{
    if (q->what == MATCH_ADDR)
        return client_fits(q, p, out);
    if (p->table != NULL && q->what == MATCH_DOMAIN)
        return domain_in_table(q->m, p->table, q->key, q->a, out, q->err);
    if (p->table != NULL)
        return in_table(p->table, q->key, q->a, out, q->err);
    *out = q->what == MATCH_STRING ? slice_ieq(p->text, q->key)
                                   : domain_fits(q->m, p->text, q->key);
    return 0;
}

MAY_WAIT static int match_any(struct question *q, bool *out)
{
    struct arena *a CLEANUP(arena_free) = NULL;

    *out = false;
    if (q->m == NULL || q->m->n == 0)
        return 0;
    CHECK_OBJ(q->m, TABLE_MATCH_MAGIC);
    a = arena_new((size_t)2 * TABLE_VALUE_MAX);
    q->a = a;
    for (size_t i = 0; i < q->m->n; i++) {
        bool fits;

        if (pattern_fits(q, &q->m->v[i], &fits) < 0)
            return err_prefix(q->err, "%s", q->m->param);
        if (fits) {
            *out = !q->m->v[i].negated;
            return 0;
        }
    }
    return 0;
}

int table_match_string(struct table_match *m, slice s, bool *out,
                       struct err *err)
{
    struct question q = { m, MATCH_STRING, s, SLICE_NONE, NULL, err };

    return match_any(&q, out);
}

int table_match_domain(struct table_match *m, slice domain, bool *out,
                       struct err *err)
{
    struct question q = { m, MATCH_DOMAIN, domain, SLICE_NONE, NULL, err };

    return match_any(&q, out);
}

int table_match_client(struct table_match *m, slice name, slice ip, bool *out,
                       struct err *err)
{
    struct question q = { m, MATCH_ADDR, ip, name, NULL, err };

    return match_any(&q, out);
}
