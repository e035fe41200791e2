#include "base/base.h"

#include "base/base_priv.h"

#include <sys/random.h>

#define QUICK_MAX ((size_t)1024)

static NO_RETURN void no_memory(size_t n)
{
    panic("out of memory: %zu bytes asked for", n);
}

void *xmalloc(size_t n)
{
    void *p = malloc(n > 0 ? n : 1);

    if (p == NULL)
        no_memory(n);
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p;

    /* malloc() has quick lists for small ones, calloc() does not use them. */
    if (n > 0 && size > 0 && n <= QUICK_MAX && size <= QUICK_MAX / n)
        return memset(xmalloc(n * size), 0, n * size);
    p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
    if (p == NULL)
        no_memory(n);
    return p;
}

/* ---- blocks */

enum { N_BLOCKS = 4, BLOCK_MIN = 2048 };

struct block {
    struct block *next;
};

/* One for each thread, as offload's may work with buffers. */
static _Thread_local struct block *blocks[N_BLOCKS];
static _Thread_local unsigned n_blocks[N_BLOCKS];

static const unsigned blocks_max[N_BLOCKS] = { 32, 32, 16, 8 };

/* The index of the list for this size, or -1. */
static int block_list(size_t size)
{
    if (HAS_ASAN || RUNNING_ON_VALGRIND)
        return -1;
    for (int i = 0; i < N_BLOCKS; i++)
        if (size == (size_t)BLOCK_MIN << i)
            return i;
    return -1;
}

void *block_get(size_t size)
{
    int i = block_list(size);
    struct block *b;

    if (i < 0 || blocks[i] == NULL)
        return xmalloc(size);
    b = blocks[i];
    blocks[i] = b->next;
    n_blocks[i]--;
    return b;
}

void block_put(void *p, size_t size)
{
    int i = p != NULL ? block_list(size) : -1;
    struct block *b = p;

    if (i < 0 || n_blocks[i] >= blocks_max[i]) {
        free(p);
        return;
    }
    b->next = blocks[i];
    blocks[i] = b;
    n_blocks[i]++;
}

void *xrealloc(void *old, size_t n)
{
    void *p = realloc(old, n > 0 ? n : 1);

    if (p == NULL)
        no_memory(n);
    return p;
}

char *xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = xmalloc(len + 1);

    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

char *xstrdup(const char *s)
{
    size_t size = strlen(s) + 1;

    return memcpy(xmalloc(size), s, size);
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *p = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0 || p == NULL)
        panic("cannot format \"%s\"", fmt);
    return p;
}

void free_ptr(void *pp)
{
    void *p;

    memcpy(&p, pp, sizeof(p));
    free(p);
    p = NULL;
    memcpy(pp, &p, sizeof(p));
}

void close_fd(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    errno = saved;
}

void random_bytes(void *out, size_t n)
{
    char *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            panic("no random source: %s", strerror(errno));
        p += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t v;

    random_bytes(&v, sizeof(v));
    return v;
}
