#ifndef BASE_MAP_H
#define BASE_MAP_H

/*
 * Intrusive hash map: the entry embeds a struct map_node; the map owns only its
 * buckets.  Keys are slices that live in the entry.  Growth is incremental
 * enough not to stall a loop (a map of 1,000,000 rehashes in steps).
 */
#include "base/slice.h"

struct map_node {
    struct map_node *next;
    uint64_t hash;
    slice key; /* points into the entry */
};

struct map {
    struct map_node **buckets;
    size_t n_buckets;
    struct map_node **old; /* being moved, or NULL */
    size_t n_old;
    size_t moved;
    size_t n;
    bool icase;
};

void map_init(struct map *m, bool icase);
void map_done(struct map *m); /* frees buckets, not entries */
struct map_node *map_get(struct map *m, slice key);
/* The node's key is set to `key`, which must outlive it.  CHECKs absence. */
void map_put(struct map *m, struct map_node *n, slice key);
void map_del(struct map *m, struct map_node *n);
/* Walk: start with *pos = 0, NULL at the end.  Deleting the returned node is
 * allowed, adding is not. */
struct map_node *map_next(struct map *m, size_t *pos, struct map_node *prev);

/* The same over a 64-bit key. */
struct imap_node {
    struct imap_node *next;
    uint64_t key;
};

struct imap {
    struct imap_node **buckets;
    size_t n_buckets;
    struct imap_node **old;
    size_t n_old;
    size_t moved;
    size_t n;
};

void imap_init(struct imap *m);
void imap_done(struct imap *m);
struct imap_node *imap_get(struct imap *m, uint64_t key);
void imap_put(struct imap *m, struct imap_node *n, uint64_t key);
void imap_del(struct imap *m, struct imap_node *n);
struct imap_node *imap_next(struct imap *m, size_t *pos,
                            struct imap_node *prev);

#endif
