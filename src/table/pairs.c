#include "table/table_priv.h"

/* In-memory maps of text: texthash, inline, environ. */

#define PAIRS_MAX_BYTES (512u << 20)

struct pair {
    struct map_node node;
    slice value;
};

struct pairs {
    struct map map;
    struct arena *arena;
};

struct pairs *pairs_new(void)
{
    struct pairs *p = xcalloc(1, sizeof(*p));

    map_init(&p->map, false);
    p->arena = arena_new(PAIRS_MAX_BYTES);
    return p;
}

void pairs_free(void *vp)
{
    struct pairs *p = vp;

    map_done(&p->map);
    arena_free(&p->arena);
    free(p);
}

bool pairs_add(struct pairs *p, slice key, slice value)
{
    struct pair *e;

    if (map_get(&p->map, key) != NULL)
        return false;
    e = xarena_alloc(p->arena, sizeof(*e));
    e->value = slice_dup(p->arena, value);
    map_put(&p->map, &e->node, slice_dup(p->arena, key));
    return true;
}

bool pairs_find(struct pairs *p, slice key, slice *value)
{
    struct map_node *n = map_get(&p->map, key);

    if (n == NULL)
        return false;
    *value = CONTAINER_OF(n, struct pair, node)->value;
    return true;
}

static int pairs_lookup(struct table *t, slice key, unsigned flags,
                        struct arena *a, slice *value, struct err *err)
{
    slice found;

    (void)flags;
    if (!pairs_find(t->data, key, &found)) {
        *value = SLICE_NONE;
        return 0;
    }
    *value = slice_dup(a, found);
    if (value->p == NULL)
        return err_temp(err, "%s: no memory for the value", t->whole);
    return 0;
}

static int each_pair(struct table *t, table_each_fn *fn, void *ctx,
                     struct err *err)
{
    struct pairs *p = t->data;
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&p->map, &pos, n)) != NULL) {
        if (fn(ctx, n->key, CONTAINER_OF(n, struct pair, node)->value, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- texthash */

static void warn_source(void *ctx, unsigned line, const char *text)
{
    struct table *t = ctx;

    table_warn(t, "%.*s, line %u: %s", SLF(t->name), line, text);
}

static void texthash_line(struct table *t, struct pairs *p, slice text,
                          unsigned line)
{
    struct arena *a CLEANUP(arena_free) = arena_new(64u << 10);
    const char *wrong;
    slice key;
    slice value;

    wrong = source_split_map(text, &key, &value);
    if (wrong != NULL) {
        warn_source(t, line, wrong);
        return;
    }
    if (key.p[key.n - 1] == ':')
        warn_source(t, line,
                    "record is in \"key: value\" format; is this an "
                    "alias file?");
    key = table_fold(a, key);
    if (key.p == NULL)
        warn_source(t, line, "key too long -- ignoring this line");
    else if (!pairs_add(p, key, value))
        table_warn(t, "%.*s, line %u: duplicate entry: \"%.*s\"", SLF(t->name),
                   line, SLF(key));
}

static int texthash_load(struct table *t, slice text, void **out,
                         struct err *err)
{
    struct pairs *p = pairs_new();
    struct source s;
    slice line;
    unsigned number;

    (void)err;
    source_init(&s, text);
    s.warn = warn_source;
    s.ctx = t;
    while (source_next(&s, &line, &number))
        texthash_line(t, p, line, number);
    source_done(&s);
    *out = p;
    return 0;
}

/* ---- inline:{ key=value, { key = value with spaces } } */

static int inline_item(struct table *t, struct pairs *p, slice item,
                       struct err *err)
{
    struct arena *a CLEANUP(arena_free) = arena_new(64u << 10);
    slice value = conf_list_unbrace(item);
    slice key;

    if (!slice_cut(&value, '=', &key))
        return err_temp(err, "%s: missing '=' after attribute name", t->whole);
    key = slice_trim(key);
    value = slice_trim(value);
    if (key.n > 1 && key.p[0] == '"' && key.p[key.n - 1] == '"')
        key = slice_sub(key, 1, key.n - 2);
    if (key.n == 0)
        return err_temp(err, "%s: missing attribute name", t->whole);
    key = table_fold(a, key);
    if (key.p == NULL)
        return err_temp(err, "%s: key too long", t->whole);
    if (!pairs_add(p, key, value))
        table_warn(t, "%s: duplicate entry: \"%.*s\"", t->whole, SLF(key));
    return 0;
}

static int inline_load(struct table *t, slice text, void **out, struct err *err)
{
    struct pairs *p;
    slice rest = slice_trim(text);
    slice item;

    if (rest.n < 2 || rest.p[0] != '{' || rest.p[rest.n - 1] != '}')
        return err_temp(err,
                        "bad syntax: \"%s\"; need \"inline:{name=value"
                        "...}\"",
                        t->whole);
    rest = slice_trim(slice_sub(rest, 1, rest.n - 2));
    if (rest.n == 0)
        return err_temp(err, "%s: empty inline table", t->whole);
    p = pairs_new();
    while (conf_list_next(&rest, &item)) {
        if (inline_item(t, p, item, err) < 0) {
            pairs_free(p);
            return -1;
        }
    }
    *out = p;
    t->is_fixed = true;
    return 0;
}

const struct table_ops table_ops_texthash = {
    .type = "texthash",
    .kind = TABLE_SOURCE,
    .is_fixed = true,
    .folds = true,
    .load = texthash_load,
    .lookup = pairs_lookup,
    .each = each_pair,
    .free = pairs_free,
};

const struct table_ops table_ops_inline = {
    .type = "inline",
    .kind = TABLE_CONF,
    .is_fixed = true,
    .folds = true,
    .load = inline_load,
    .lookup = pairs_lookup,
    .each = each_pair,
    .free = pairs_free,
};
