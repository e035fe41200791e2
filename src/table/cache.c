#include "table/table_priv.h"

/* What `tables` (or NSS) said a moment ago. */

struct cached {
    struct map_node node; /* key: table, NUL, key; stored behind the value */
    struct list link;     /* in order of age */
    msec until;
    bool found;
    size_t n_value;
    char bytes[];
};

static void drop(struct tables *t, struct cached *c)
{
    map_del(&t->cache, &c->node);
    list_remove(&c->link);
    free(c);
}

static slice full_key(struct arena *a, const struct table *of, slice key)
{
    slice whole = slice_str(of->whole);
    char *p = arena_alloc(a, whole.n + 1 + key.n);

    if (p == NULL)
        return SLICE_NONE;
    memcpy(p, whole.p, whole.n + 1);
    memcpy(p + whole.n + 1, key.p, key.n);
    return slice_of(p, whole.n + 1 + key.n);
}

bool cache_get(struct tables *t, const struct table *of, slice key,
               struct arena *a, slice *value)
{
    slice full = full_key(a, of, key);
    struct map_node *n = full.p != NULL ? map_get(&t->cache, full) : NULL;
    struct cached *c;
    slice found = SLICE_NONE;

    if (n == NULL)
        return false;
    c = CONTAINER_OF(n, struct cached, node);
    if (c->until <= clock_mono()) {
        drop(t, c);
        return false;
    }
    if (c->found) {
        found = slice_dup(a, slice_of(c->bytes, c->n_value));
        if (found.p == NULL)
            return false;
    }
    *value = found;
    return true;
}

void cache_put(struct tables *t, const struct table *of, slice key, slice value,
               msec ttl_ms)
{
    size_t n_whole = strlen(of->whole);
    size_t n_key = n_whole + 1 + key.n;
    struct cached *c;
    struct map_node *old;

    if (value.n > (64u << 10) || key.n > 1024)
        return;
    c = xcalloc(1, sizeof(*c) + value.n + n_key + 1);
    c->until = clock_after(ttl_ms);
    c->found = value.p != NULL;
    c->n_value = value.n;
    if (value.p != NULL)
        memcpy(c->bytes, value.p, value.n);
    memcpy(c->bytes + value.n, of->whole, n_whole + 1);
    if (key.n > 0)
        memcpy(c->bytes + value.n + n_whole + 1, key.p, key.n);
    old = map_get(&t->cache, slice_of(c->bytes + value.n, n_key));
    if (old != NULL)
        drop(t, CONTAINER_OF(old, struct cached, node));
    if (t->cache.n >= CACHE_ENTRIES)
        drop(t, CONTAINER_OF(t->cache_order.next, struct cached, link));
    map_put(&t->cache, &c->node, slice_of(c->bytes + value.n, n_key));
    list_push(&t->cache_order, &c->link);
}

void cache_clear(struct tables *t)
{
    while (!list_empty(&t->cache_order))
        drop(t, CONTAINER_OF(t->cache_order.next, struct cached, link));
}
