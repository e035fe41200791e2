#include "base/arena.h"

#include "base/base.h"
#include "base/base_priv.h"

#define ARENA_MAGIC MAGIC('A', 'R', 'E', 'N')
#define ALIGN       ((size_t)16)
/* With its header a chunk is a power of two. */
#define CHUNK_FIRST   ((size_t)1024 - sizeof(struct chunk))
#define CHUNK_LARGEST ((size_t)64 * 1024 - sizeof(struct chunk))

/* The header is as large as the alignment, so the data behind it is aligned. */
struct chunk {
    struct chunk *next;
    size_t size; /* of the data */
};

static_assert(sizeof(struct chunk) % 16 == 0, "data behind it is aligned");

struct deferred_call {
    struct deferred_call *next;
    void (*fn)(void *);
    void *ptr;
};

struct arena {
    uint32_t magic;
    uint32_t at; /* bytes used in the newest chunk, at most CHUNK_LARGEST */
    struct chunk *chunks; /* newest first; the newest is being filled */
    struct deferred_call *deferred;
    size_t used;
    size_t cap;
};

/* Each allocation its own malloc, so that the tools see every overrun and
 * every use after reset. */
static bool is_watched(void)
{
    return HAS_ASAN || RUNNING_ON_VALGRIND;
}

struct arena *arena_new(size_t cap_bytes)
{
    struct arena *a = xcalloc(1, sizeof(*a));

    a->magic = ARENA_MAGIC;
    a->cap = cap_bytes;
    return a;
}

static void run_deferred(struct arena *a)
{
    while (a->deferred != NULL) {
        struct deferred_call *d = a->deferred;

        a->deferred = d->next;
        d->fn(d->ptr);
        free(d);
    }
}

static void free_chunks(struct arena *a, struct chunk *kept)
{
    struct chunk *next;

    for (struct chunk *c = a->chunks; c != NULL; c = next) {
        next = c->next;
        if (c != kept)
            block_put(c, sizeof(*c) + c->size);
    }
    a->chunks = kept;
    if (kept != NULL)
        kept->next = NULL;
    a->at = 0;
    a->used = 0;
}

void arena_reset(struct arena *a)
{
    struct chunk *kept = NULL;

    CHECK_OBJ(a, ARENA_MAGIC);
    run_deferred(a);
    for (struct chunk *c = a->chunks; c != NULL && !is_watched(); c = c->next) {
        if (c->size == CHUNK_FIRST)
            kept = c;
    }
    free_chunks(a, kept);
}

void arena_free(struct arena **ap)
{
    struct arena *a = *ap;

    *ap = NULL;
    if (a == NULL)
        return;
    CHECK_OBJ(a, ARENA_MAGIC);
    run_deferred(a);
    free_chunks(a, NULL);
    a->magic = 0;
    free(a);
}

static struct chunk *chunk_new(size_t size)
{
    struct chunk *c = block_get(sizeof(*c) + size);

    c->next = NULL;
    c->size = size;
    return c;
}

/* A chunk of its own, put behind the one that is being filled. */
static void *alloc_own(struct arena *a, size_t n)
{
    struct chunk *c = chunk_new(n);

    if (a->chunks == NULL) {
        a->chunks = c;
        a->at = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    } else {
        c->next = a->chunks->next;
        a->chunks->next = c;
    }
    return c + 1;
}

static void *alloc_shared(struct arena *a, size_t n)
{
    struct chunk *c = a->chunks;
    char *p;

    if (c == NULL || a->at > c->size || c->size - a->at < n) {
        size_t size = CHUNK_FIRST;

        if (c != NULL)
            size = min_size(max_size(c->size * 2 + sizeof(*c), CHUNK_FIRST),
                            CHUNK_LARGEST);
        c = chunk_new(max_size(size, n));
        c->next = a->chunks;
        a->chunks = c;
        a->at = 0;
    }
    p = (char *)(c + 1) + a->at;
    a->at += (uint32_t)n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    size_t want;
    void *p;

    CHECK_OBJ(a, ARENA_MAGIC);
    if (!ADD_OK(n, ALIGN - 1, &want))
        return NULL;
    want = max_size(want & ~(ALIGN - 1), ALIGN);
    if (want > a->cap - a->used)
        return NULL;
    a->used += want;
    if (is_watched())
        p = alloc_own(a, n > 0 ? n : 1);
    else if (want > CHUNK_LARGEST / 4)
        p = alloc_own(a, want);
    else
        p = alloc_shared(a, want);
    return memset(p, 0, n);
}

void *xarena_alloc(struct arena *a, size_t n)
{
    void *p = arena_alloc(a, n);

    if (p == NULL)
        panic("arena of %zu bytes has no %zu left", a->cap, n);
    return p;
}

void arena_defer(struct arena *a, void (*fn)(void *), void *ptr)
{
    struct deferred_call *d = xmalloc(sizeof(*d));

    CHECK_OBJ(a, ARENA_MAGIC);
    d->fn = fn;
    d->ptr = ptr;
    d->next = a->deferred;
    a->deferred = d;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    p = arena_alloc(a, (size_t)n + 1);
    if (p == NULL)
        return NULL;
    if ((size_t)n < sizeof(text))
        return memcpy(p, text, (size_t)n + 1);
    va_start(ap, fmt);
    (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

size_t arena_cap(const struct arena *a)
{
    return a->cap;
}
