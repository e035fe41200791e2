#ifndef BASE_BUF_H
#define BASE_BUF_H

/*
 * A buf is the only growing run of bytes.  It lives on the heap and has a
 * maximum from birth; appending beyond it sets `overflow`, keeps what fitted
 * before, and every later append does nothing, so a writer checks once at the
 * end.  Embedded or on the stack: buf_init/buf_done.
 */
#include "base/slice.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *p;
    size_t n;    /* bytes used */
    size_t size; /* bytes allocated */
    size_t max;
    bool overflow;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_done(struct buf *b);    /* frees; fine on a zeroed struct */
void buf_clear(struct buf *b);   /* n = 0, overflow = false, keeps memory */
void buf_release(struct buf *b); /* n = 0 and memory given back; max kept */

/* Each returns false when the buffer has overflowed. */
bool buf_put_slow(struct buf *b, const void *p, size_t n); /* of buf_put() */

static inline bool buf_put(struct buf *b, const void *p, size_t n)
{
    if (b->overflow || n == 0 || n > b->size - b->n || n > b->max - b->n)
        return buf_put_slow(b, p, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return true;
}

static inline bool buf_puts(struct buf *b, const char *s)
{
    return buf_put(b, s, strlen(s));
}

static inline bool buf_slice(struct buf *b, slice s)
{
    return buf_put(b, s.p, s.n);
}

static inline bool buf_byte(struct buf *b, char c)
{
    return buf_put(b, &c, 1);
}

bool buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
bool buf_u16(struct buf *b, uint16_t v); /* little endian */
bool buf_u32(struct buf *b, uint32_t v);
bool buf_u64(struct buf *b, uint64_t v);
/* Room for n more bytes, not counted yet; NULL when beyond max. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n); /* count n bytes of the reserve */
/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);
slice buf_view(const struct buf *b);
/* NUL-terminated view, valid until the next change. */
const char *buf_cstr(struct buf *b);

#endif
