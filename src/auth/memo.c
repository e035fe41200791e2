#include "auth/auth_priv.h"

#define ENTRY_BYTES 160 /* with its share of the map */

struct noted {
    struct map_node node;
    struct list link; /* the oldest first */
    msec until;
    memo_key key;
};

struct memo {
    uint8_t secret[32];
    struct map map;
    struct list order;
    size_t max;
    msec ttl_ms;
};

struct memo *memo_new(void)
{
    struct memo *m = xcalloc(1, sizeof *m);

    random_bytes(m->secret, sizeof m->secret);
    map_init(&m->map, false);
    list_init(&m->order);
    return m;
}

static void drop(struct memo *m, struct noted *e)
{
    map_del(&m->map, &e->node);
    list_remove(&e->link);
    explicit_bzero(e, sizeof *e);
    free(e);
}

static void shrink(struct memo *m, size_t max)
{
    while (m->map.n > max)
        drop(m, CONTAINER_OF(m->order.next, struct noted, link));
}

void memo_free(struct memo **pm)
{
    struct memo *m = *pm;

    *pm = NULL;
    if (m == NULL)
        return;
    shrink(m, 0);
    map_done(&m->map);
    explicit_bzero(m->secret, sizeof m->secret);
    free(m);
}

void memo_limit(struct memo *m, size_t bytes, msec ttl_ms)
{
    m->max = ttl_ms > 0 ? bytes / ENTRY_BYTES : 0;
    m->ttl_ms = ttl_ms;
    shrink(m, m->max);
}

/* The stored value is part of it: a changed password is never a known one. */
memo_key memo_key_of(const struct memo *m, slice stored, slice password)
{
    uint8_t both[64];
    memo_key k;

    hmac_sha256(slice_of(m->secret, sizeof m->secret), stored, both);
    hmac_sha256(slice_of(m->secret, sizeof m->secret), password, both + 32);
    hmac_sha256(slice_of(m->secret, sizeof m->secret),
                slice_of(both, sizeof both), k.v);
    explicit_bzero(both, sizeof both);
    return k;
}

static struct noted *find(struct memo *m, const memo_key *k)
{
    struct map_node *n = map_get(&m->map, slice_of(k->v, sizeof k->v));

    return n != NULL ? CONTAINER_OF(n, struct noted, node) : NULL;
}

bool memo_knows(struct memo *m, const memo_key *k)
{
    struct noted *e = find(m, k);

    if (e != NULL && e->until <= loop_now()) {
        drop(m, e);
        e = NULL;
    }
    return e != NULL;
}

void memo_add(struct memo *m, const memo_key *k)
{
    struct noted *e;

    if (m->max == 0 || find(m, k) != NULL)
        return;
    shrink(m, m->max - 1);
    e = xcalloc(1, sizeof *e);
    list_init(&e->link);
    e->key = *k;
    e->until = clock_after(m->ttl_ms);
    map_put(&m->map, &e->node, slice_of(e->key.v, sizeof e->key.v));
    list_push(&m->order, &e->link);
}

size_t memo_count(const struct memo *m)
{
    return m->map.n;
}
