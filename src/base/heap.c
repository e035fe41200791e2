#include "base/heap.h"

#include "base/base.h"

void heap_init(struct heap *h)
{
    *h = (struct heap){ .v = NULL };
}

void heap_done(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++)
        h->v[i]->at = 0;
    free(h->v);
    *h = (struct heap){ .v = NULL };
}

static void place(struct heap *h, size_t i, struct heap_node *e)
{
    h->v[i] = e;
    e->at = i + 1;
}

static void sift_up(struct heap *h, size_t i, struct heap_node *e)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;

        if (h->v[parent]->key <= e->key)
            break;
        place(h, i, h->v[parent]);
        i = parent;
    }
    place(h, i, e);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *e)
{
    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= h->n)
            break;
        if (child + 1 < h->n && h->v[child + 1]->key < h->v[child]->key)
            child++;
        if (h->v[child]->key >= e->key)
            break;
        place(h, i, h->v[child]);
        i = child;
    }
    place(h, i, e);
}

/* Put `e` where it belongs, starting from the hole at `i`. */
static void settle(struct heap *h, size_t i, struct heap_node *e)
{
    if (i > 0 && h->v[(i - 1) / 2]->key > e->key)
        sift_up(h, i, e);
    else
        sift_down(h, i, e);
}

void heap_put(struct heap *h, struct heap_node *e, int64_t key)
{
    CHECK(e->at == 0);
    if (h->n == h->size) {
        h->size = h->size > 0 ? h->size * 2 : 16;
        h->v = xrealloc(h->v, h->size * sizeof(struct heap_node *));
    }
    e->key = key;
    h->n++;
    sift_up(h, h->n - 1, e);
}

void heap_del(struct heap *h, struct heap_node *e)
{
    size_t i = e->at;
    struct heap_node *last;

    if (i == 0)
        return;
    i--;
    CHECK(i < h->n && h->v[i] == e);
    e->at = 0;
    h->n--;
    last = h->v[h->n];
    if (last != e)
        settle(h, i, last);
}

void heap_move(struct heap *h, struct heap_node *e, int64_t key)
{
    if (e->at == 0) {
        heap_put(h, e, key);
        return;
    }
    CHECK(e->at <= h->n && h->v[e->at - 1] == e);
    e->key = key;
    settle(h, e->at - 1, e);
}

struct heap_node *heap_top(const struct heap *h)
{
    return h->n > 0 ? h->v[0] : NULL;
}
