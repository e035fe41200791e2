#ifndef BASE_ARENA_H
#define BASE_ARENA_H

/*
 * An arena is memory with one lifetime: session, command, message.  It has a
 * hard cap from birth.  arena_alloc() beyond the cap returns NULL (a client can
 * cause that: answer ERR_TEMP/552); xarena_alloc() aborts and is for what the
 * program sizes itself.  Under ASan and valgrind each allocation is its own
 * malloc, poisoned on reset.  There is no implicit current arena.
 */
#include <stddef.h>

struct arena;

/* A new arena of at most cap_bytes; the first chunk is made at first use, so
 * an unused arena costs about 64 bytes. */
struct arena *arena_new(size_t cap_bytes);
/* Free all, run the deferred calls in reverse order; NULL is fine; *a = NULL.
 */
void arena_free(struct arena **a);
/* Give back all memory but one small chunk, run the deferred calls. */
void arena_reset(struct arena *a);

/* 16-byte aligned, zeroed.  NULL at the cap. */
void *arena_alloc(struct arena *a, size_t n);
void *xarena_alloc(struct arena *a, size_t n) __attribute__((returns_nonnull));
/* fn(ptr) runs at reset/free, in reverse order. */
void arena_defer(struct arena *a, void (*fn)(void *), void *ptr);
/* printf into the arena; NULL at the cap. */
char *arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
size_t arena_used(const struct arena *a);
size_t arena_cap(const struct arena *a);

#define ARENA_NEW(a, type)      ((type *)xarena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)xarena_alloc((a), sizeof(type) * (n)))

#endif
