#ifndef BASE_BASE_H
#define BASE_BASE_H

/*
 * base - what every room stands on: bytes, errors, memory, containers,
 * digests, clocks.
 *
 * This header brings the attributes, CHECK(), slices, errors, buffers, arenas
 * and lists; map.h, heap.h, digest.h, clock.h and codec.h are included where
 * they are needed.  The room knows nothing of mail, of the event loop or of
 * processes, and nothing in it waits.
 *
 * Invariants: (1) nothing here returns NULL for lack of memory: the process
 * aborts, and what a stranger sizes goes through a capped arena or buffer;
 * (2) outputs are untouched on failure; (3) every growing thing has a maximum
 * given where it is made.
 */

#include <assert.h> /* for static_assert() only */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define CHECKED        __attribute__((warn_unused_result))
#define NO_RETURN      __attribute__((noreturn))
#define CLEANUP(fn)    __attribute__((cleanup(fn)))
#define PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))
#define UNUSED         __attribute__((unused))
#if defined(__clang__)
# define MAY_WAIT __attribute__((annotate("may_wait")))
#else
# define MAY_WAIT
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member)                                        \
 ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#include "base/arena.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"

/* Heap memory for the process lifetime or for a named owner.  They abort when
 * memory is gone (invariant 1); the caller frees with free(). */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *old, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n)
    __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) PRINTF(1, 2)
    __attribute__((malloc, returns_nonnull));

/* Cleanup helpers for CLEANUP(): each accepts the "nothing" value (NULL, -1)
 * and sets the variable to it. */
void free_ptr(void *pp); /* for any `T *p CLEANUP(free_ptr)` */
void close_fd(int *fd);  /* keeps errno */

/* Fill `n` bytes at `out` from the kernel's random source.  Aborts if there is
 * none. */
void random_bytes(void *out, size_t n);
uint64_t random_u64(void);

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Overflow-checked arithmetic on lengths: true when the result fits. */
#define ADD_OK(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define MUL_OK(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

#endif
