#include "base/map.h"

#include "base/base.h"

/*
 * Both maps share one table: their structs begin alike, and so do their nodes
 * (next, then 64 bits that decide the bucket).  The asserts below hold that.
 */
struct node {
    struct node *next;
    uint64_t hash;
};

struct table {
    struct node **buckets;
    size_t n_buckets;
    struct node **old;
    size_t n_old;
    size_t moved;
    size_t n;
};

static_assert(offsetof(struct map_node, hash) == offsetof(struct node, hash),
              "nodes begin alike");
static_assert(offsetof(struct imap_node, key) == offsetof(struct node, hash),
              "nodes begin alike");
static_assert(offsetof(struct map, n) == offsetof(struct table, n),
              "maps begin alike");
static_assert(offsetof(struct imap, n) == offsetof(struct table, n),
              "maps begin alike");

#define BUCKETS_LEAST ((size_t)16)
/* Old buckets moved with each insertion: twice what a doubling needs. */
#define MOVE_STEP 4
/* A walk's position: bucket and place in its chain. */
#define CHAIN_BITS 16

/* Spread keys that are counters or chosen by a peer; the seed is the
 * process's. */
static uint64_t spread(uint64_t h)
{
    static uint64_t seed;

    if (seed == 0)
        seed = random_u64() | 1;
    h = (h ^ seed) * UINT64_C(0x9fb21c651e98df25);
    h ^= h >> 35;
    h *= UINT64_C(0x9fb21c651e98df25);
    return h ^ h >> 28;
}

static struct node **bucket_of(struct node **v, size_t n, uint64_t hash)
{
    return &v[spread(hash) & (n - 1)];
}

static void chain_push(struct node **bucket, struct node *e)
{
    e->next = *bucket;
    *bucket = e;
}

/* Move up to `n` old buckets to the new table. */
static void move_some(struct table *t, size_t n)
{
    for (; t->old != NULL && n > 0; n--) {
        struct node *next;

        for (struct node *e = t->old[t->moved]; e != NULL; e = next) {
            next = e->next;
            chain_push(bucket_of(t->buckets, t->n_buckets, e->hash), e);
        }
        t->old[t->moved] = NULL;
        t->moved++;
        if (t->moved == t->n_old) {
            free(t->old);
            t->old = NULL;
            t->n_old = 0;
            t->moved = 0;
        }
    }
}

static void resize(struct table *t, size_t n_buckets)
{
    t->old = t->buckets;
    t->n_old = t->n_buckets;
    t->moved = 0;
    t->buckets = xcalloc(n_buckets, sizeof(struct node *));
    t->n_buckets = n_buckets;
}

static void table_put(struct table *t, struct node *e)
{
    if (t->n_buckets == 0)
        resize(t, BUCKETS_LEAST);
    move_some(t, MOVE_STEP);
    if (t->old == NULL && t->n >= t->n_buckets)
        resize(t, t->n_buckets * 2);
    else if (t->old == NULL && t->n_buckets > BUCKETS_LEAST &&
             t->n < t->n_buckets / 16)
        resize(t, t->n_buckets / 2);
    chain_push(bucket_of(t->buckets, t->n_buckets, e->hash), e);
    t->n++;
}

static bool chain_del(struct node **at, struct node *e)
{
    for (; *at != NULL; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            e->next = NULL;
            return true;
        }
    }
    return false;
}

static void table_del(struct table *t, struct node *e)
{
    bool found = false;

    if (t->n_buckets > 0)
        found = chain_del(bucket_of(t->buckets, t->n_buckets, e->hash), e);
    if (!found && t->old != NULL)
        found = chain_del(bucket_of(t->old, t->n_old, e->hash), e);
    CHECK(found);
    t->n--;
}

/*
 * The next node from *pos on.  `prev` may have been freed by now, so it is only
 * compared: when it still stands where it was, the walk steps over it.
 */
static struct node *table_next(struct table *t, size_t *pos, const void *prev)
{
    size_t bucket;
    size_t place;

    if (*pos == 0) {
        move_some(t, SIZE_MAX);
        *pos = 1;
    }
    bucket = (*pos - 1) >> CHAIN_BITS;
    place = (*pos - 1) & (((size_t)1 << CHAIN_BITS) - 1);
    CHECK(t->old == NULL);
    for (; bucket < t->n_buckets; bucket++, place = 0) {
        struct node *e = t->buckets[bucket];

        for (size_t i = 0; i < place && e != NULL; i++)
            e = e->next;
        if (e != NULL && e == prev) {
            e = e->next;
            place++;
        }
        if (e != NULL) {
            CHECK(place >> CHAIN_BITS == 0);
            *pos = (bucket << CHAIN_BITS | place) + 1;
            return e;
        }
    }
    *pos = (bucket << CHAIN_BITS) + 1;
    return NULL;
}

static void table_done(struct table *t)
{
    free(t->buckets);
    free(t->old);
    *t = (struct table){ .buckets = NULL };
}

static struct table *table_of(struct map *m)
{
    return (struct table *)(void *)m;
}

static struct table *itable_of(struct imap *m)
{
    return (struct table *)(void *)m;
}

void map_init(struct map *m, bool icase)
{
    *m = (struct map){ .icase = icase };
}

void map_done(struct map *m)
{
    table_done(table_of(m));
}

static uint64_t hash_of(const struct map *m, slice key)
{
    return m->icase ? slice_ihash(key) : slice_hash(key);
}

static struct map_node *chain_get(const struct map *m, struct node *const *at,
                                  uint64_t hash, slice key)
{
    for (struct node *e = *at; e != NULL; e = e->next) {
        struct map_node *n = (struct map_node *)(void *)e;

        if (n->hash == hash &&
            (m->icase ? slice_ieq(n->key, key) : slice_eq(n->key, key)))
            return n;
    }
    return NULL;
}

static struct map_node *find(struct map *m, uint64_t hash, slice key)
{
    struct table *t = table_of(m);
    struct map_node *n;

    if (t->n == 0)
        return NULL;
    n = chain_get(m, bucket_of(t->buckets, t->n_buckets, hash), hash, key);
    if (n == NULL && t->old != NULL)
        n = chain_get(m, bucket_of(t->old, t->n_old, hash), hash, key);
    return n;
}

struct map_node *map_get(struct map *m, slice key)
{
    return find(m, hash_of(m, key), key);
}

void map_put(struct map *m, struct map_node *n, slice key)
{
    uint64_t hash = hash_of(m, key);

    CHECK(find(m, hash, key) == NULL);
    n->hash = hash;
    n->key = key;
    table_put(table_of(m), (struct node *)(void *)n);
}

void map_del(struct map *m, struct map_node *n)
{
    table_del(table_of(m), (struct node *)(void *)n);
}

struct map_node *map_next(struct map *m, size_t *pos, struct map_node *prev)
{
    return (struct map_node *)(void *)table_next(table_of(m), pos, prev);
}

void imap_init(struct imap *m)
{
    *m = (struct imap){ .buckets = NULL };
}

void imap_done(struct imap *m)
{
    table_done(itable_of(m));
}

static struct imap_node *ichain_get(struct node *const *at, uint64_t key)
{
    for (struct node *e = *at; e != NULL; e = e->next) {
        if (e->hash == key)
            return (struct imap_node *)(void *)e;
    }
    return NULL;
}

struct imap_node *imap_get(struct imap *m, uint64_t key)
{
    struct table *t = itable_of(m);
    struct imap_node *n;

    if (t->n == 0)
        return NULL;
    n = ichain_get(bucket_of(t->buckets, t->n_buckets, key), key);
    if (n == NULL && t->old != NULL)
        n = ichain_get(bucket_of(t->old, t->n_old, key), key);
    return n;
}

void imap_put(struct imap *m, struct imap_node *n, uint64_t key)
{
    CHECK(imap_get(m, key) == NULL);
    n->key = key;
    table_put(itable_of(m), (struct node *)(void *)n);
}

void imap_del(struct imap *m, struct imap_node *n)
{
    table_del(itable_of(m), (struct node *)(void *)n);
}

struct imap_node *imap_next(struct imap *m, size_t *pos, struct imap_node *prev)
{
    return (struct imap_node *)(void *)table_next(itable_of(m), pos, prev);
}
