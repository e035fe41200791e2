#ifndef BASE_HEAP_H
#define BASE_HEAP_H

/* Intrusive binary min-heap on an int64 key (deadlines, next tries). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;
    size_t at; /* index + 1 in the heap; 0 when in none */
};

struct heap {
    struct heap_node **v;
    size_t n;
    size_t size;
};

void heap_init(struct heap *h);
void heap_done(struct heap *h);
void heap_put(struct heap *h, struct heap_node *e, int64_t key);
void heap_del(struct heap *h, struct heap_node *e); /* fine when in none */
void heap_move(struct heap *h, struct heap_node *e, int64_t key);
struct heap_node *heap_top(const struct heap *h); /* NULL when empty */

#endif
