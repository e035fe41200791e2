#include "rt/stack.h"

#include "base/base.h"

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
# define RT_ASAN 1
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define RT_ASAN 1
# endif
#endif
#ifdef RT_ASAN
# include <sanitizer/asan_interface.h>
# define STACK_BYTES ((size_t)1 << 20)
#else
# define STACK_BYTES ((size_t)128 << 10)
#endif
#ifdef __has_include
# if __has_include(<valgrind/valgrind.h>)
#  include <valgrind/valgrind.h>
# endif
#endif

/* Linux 6.13: a guard without a mapping of its own, so that 100,000 stacks do
 * not reach vm.max_map_count. */
#ifndef MADV_GUARD_INSTALL
# define MADV_GUARD_INSTALL 102
#endif

enum {
    POOL_MAX = 2048,     /* idle stacks kept while the load comes and goes */
    POOL_WARM = 256,     /* idle stacks kept whatever comes */
    TRIM_EVERY = 1024,   /* uses between two looks at what is idle */
    KEPT_BYTES = 16384,  /* stays resident in an idle stack */
    PAGE_BYTES = 4096,   /* how much below it is looked at */
    LOOK_EVERY = 8,      /* uses between two looks at that page */
    FULL_LOOK_EVERY = 64 /* uses between two looks at the whole stack */
};

/* At the high end of each mapping. */
struct stack_head {
    struct stack_head *next; /* in the pool */
    char *lo;                /* of the mapping */
    unsigned uses;
    unsigned valgrind_id;
};

static struct stack_head *pool;
static size_t n_pool;
static size_t n_spare; /* least of n_pool since the last look */
static unsigned n_puts;
static size_t n_stacks;

static struct stack_head *head_of(char *lo, size_t size)
{
    return (struct stack_head *)(void *)(lo + size);
}

static size_t page_size(void)
{
    static size_t size;

    if (size == 0)
        size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}

static void guard_install(char *lo)
{
    if (madvise(lo, page_size(), MADV_GUARD_INSTALL) == 0)
        return;
    if (mprotect(lo, page_size(), PROT_NONE) < 0)
        panic("cannot guard a stack: %s", strerror(errno));
}

static struct stack_head *stack_new(void)
{
    struct stack_head *h;
    char *lo;

    lo = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (lo == MAP_FAILED)
        panic("no memory for a stack: %s", strerror(errno));
    (void)madvise(lo, STACK_BYTES, MADV_NOHUGEPAGE);
    guard_install(lo);
    h = (struct stack_head *)(void *)(lo + STACK_BYTES - sizeof(*h));
    h->lo = lo;
#ifdef VALGRIND_STACK_REGISTER
    h->valgrind_id = (unsigned)VALGRIND_STACK_REGISTER(lo + page_size(), h);
#endif
    n_stacks++;
    return h;
}

static void stack_free(struct stack_head *h)
{
#ifdef VALGRIND_STACK_DEREGISTER
    VALGRIND_STACK_DEREGISTER(h->valgrind_id);
#endif
    n_stacks--;
    CHECK(munmap(h->lo, STACK_BYTES) == 0);
}

void stack_get(char **lo_out, size_t *size_out)
{
    struct stack_head *h = pool;

    if (h != NULL) {
        pool = h->next;
        n_pool--;
        if (n_pool < n_spare)
            n_spare = n_pool;
    } else {
        n_spare = 0;
        h = stack_new();
    }
    h->uses++;
    *lo_out = h->lo + page_size();
    *size_out = (size_t)((char *)h - *lo_out);
}

/*
 * Was more than KEPT_BYTES used?  Each call pushes a return address and frames
 * stay under 2 KiB, so a deep use has left something in the page below.  An
 * untouched page reads as the one zero page, which is in the cache.  A library
 * with a great frame can jump over it, hence the full look now and then.  Each
 * look reads 64 cold cache lines, so it is not taken after each short task: the
 * stack used last is the first to be used again.
 */
static bool was_deep(const struct stack_head *h, const char *kept)
{
    const uint64_t *at = (const uint64_t *)(const void *)(kept - PAGE_BYTES);
    uint64_t any = 0;

    if (h->uses % FULL_LOOK_EVERY == 0)
        return true;
    if (h->uses % LOOK_EVERY != 1)
        return false;
    for (size_t i = 0; i < PAGE_BYTES / sizeof(*at); i++)
        any |= at[i];
    return any != 0;
}

static void give_back_pages(struct stack_head *h)
{
    char *top = h->lo + STACK_BYTES;
    char *kept = top - KEPT_BYTES;
    char *lo = h->lo + page_size();

#ifdef VALGRIND_MAKE_MEM_DEFINED_IF_ADDRESSABLE
    if (RUNNING_ON_VALGRIND)
        return;
#endif
    if (page_size() > PAGE_BYTES || was_deep(h, kept))
        (void)madvise(lo, (size_t)(kept - lo), MADV_DONTNEED);
}

/* What nobody has used for a while goes back to the system. */
static void trim(void)
{
    while (n_spare > 0 && n_pool > POOL_WARM) {
        struct stack_head *h = pool;

        pool = h->next;
        n_pool--;
        n_spare--;
        stack_free(h);
    }
    n_spare = n_pool;
}

void stack_put(char *lo, size_t size)
{
    struct stack_head *h = head_of(lo, size);

#ifdef RT_ASAN
    ASAN_UNPOISON_MEMORY_REGION(lo, size);
#endif
    if (n_pool >= POOL_MAX) {
        stack_free(h);
        return;
    }
    give_back_pages(h);
    h->next = pool;
    pool = h;
    n_pool++;
    if (++n_puts % TRIM_EVERY == 0)
        trim();
}

void stack_pool_drain(void)
{
    while (pool != NULL) {
        struct stack_head *h = pool;

        pool = h->next;
        stack_free(h);
    }
    n_pool = 0;
    n_spare = 0;
}

size_t stack_count(void)
{
    return n_stacks;
}
