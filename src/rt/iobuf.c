/* Buffers of streams: powers of two from 4 to 64 KiB from bounded free lists,
 * larger ones (a stream with greater limits) from the heap. */
#include "rt/rt_priv.h"

enum { N_CLASSES = 5 };

/* How many idle buffers of each class are kept: 1 MiB of small ones. */
static const unsigned kept_max[N_CLASSES] = { 256, 32, 16, 16, 16 };

struct idle {
    struct idle *next;
};
static struct idle *pool[N_CLASSES];
static unsigned n_pool[N_CLASSES];

static int class_of(size_t size)
{
    int c = 0;

    while (c < N_CLASSES && ((size_t)IOBUF_MIN << c) < size)
        c++;
    return c;
}

static char *mem_get(size_t size)
{
    int c = class_of(size);
    struct idle *m;

    if (c == N_CLASSES || pool[c] == NULL)
        return xmalloc(size);
    m = pool[c];
    pool[c] = m->next;
    n_pool[c]--;
    return (char *)m;
}

static void mem_put(char *p, size_t size)
{
    int c = class_of(size);
    struct idle *m = (struct idle *)(void *)p;

    if (c == N_CLASSES || n_pool[c] >= kept_max[c]) {
        free(p);
        return;
    }
    m->next = pool[c];
    pool[c] = m;
    n_pool[c]++;
}

void iobuf_free(struct iobuf *b)
{
    if (b->p != NULL)
        mem_put(b->p, b->size);
    *b = (struct iobuf){ 0 };
}

void iobuf_room(struct iobuf *b, size_t n)
{
    size_t used = iobuf_used(b);
    size_t size = IOBUF_MIN;
    char *p;

    if (b->p != NULL && b->size - b->to >= n)
        return;
    if (b->p != NULL && b->size - used >= n) {
        memmove(b->p, b->p + b->from, used);
        b->from = 0;
        b->to = (uint32_t)used;
        return;
    }
    CHECK(n <= UINT32_MAX / 4 && used <= UINT32_MAX / 4);
    while (size < used + n)
        size *= 2;
    p = mem_get(size);
    if (b->p != NULL && used > 0)
        memcpy(p, b->p + b->from, used);
    iobuf_free(b);
    *b = (struct iobuf){ p, (uint32_t)size, 0, (uint32_t)used };
}

void iobuf_pool_drain(void)
{
    for (int c = 0; c < N_CLASSES; c++) {
        while (pool[c] != NULL) {
            struct idle *m = pool[c];

            pool[c] = m->next;
            free(m);
        }
        n_pool[c] = 0;
    }
}
