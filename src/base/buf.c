#include "base/buf.h"

#include "base/base.h"
#include "base/base_priv.h"
#include "base/codec.h"

#define BUF_FIRST   ((size_t)64)
#define PRINT_FIRST ((size_t)127)

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){ .max = max_bytes };
}

void buf_done(struct buf *b)
{
    block_put(b->p, b->size);
    *b = (struct buf){ .p = NULL };
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->overflow = false;
}

void buf_release(struct buf *b)
{
    block_put(b->p, b->size);
    *b = (struct buf){ .max = b->max };
}

/* Not realloc(): it does without malloc's quick lists. */
static void move_to(struct buf *b, size_t size)
{
    char *p;

    if (size > BLOCK_MAX) {
        b->p = xrealloc(b->p, size);
    } else {
        p = block_get(size);
        if (b->n > 0)
            memcpy(p, b->p, b->n);
        block_put(b->p, b->size);
        b->p = p;
    }
    b->size = size;
}

/* Have memory for `want` bytes, doubling so that appends stay cheap. */
static void grow(struct buf *b, size_t want)
{
    size_t size = max_size(b->size, BUF_FIRST);

    if (want <= b->size)
        return;
    while (size < want)
        size = size > SIZE_MAX / 2 ? want : size * 2;
    /* One byte beyond max is for the NUL of buf_cstr(). */
    if (b->max < SIZE_MAX && size > b->max + 1)
        size = max_size(b->max + 1, want);
    move_to(b, size);
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t want;

    if (b->overflow || !ADD_OK(b->n, n, &want) || want > b->max)
        return NULL;
    grow(b, max_size(want, 1));
    return b->p + b->n;
}

void buf_commit(struct buf *b, size_t n)
{
    CHECK(n <= b->size - b->n);
    b->n += n;
}

bool buf_put_slow(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);

    if (to == NULL) {
        b->overflow = true;
        return false;
    }
    if (n > 0)
        memcpy(to, p, n);
    b->n += n;
    return true;
}

/* Printed where it belongs; a second time only when that was too small. */
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    size_t room;
    int n;

    if (b->p == NULL && b->max > 0)
        (void)buf_reserve(b, min_size(PRINT_FIRST, b->max));
    room = b->overflow ? 0 : b->size - b->n;
    va_copy(again, ap);
    n = vsnprintf(room > 0 ? b->p + b->n : NULL, room, fmt, again);
    va_end(again);
    CHECK(n >= 0);
    if (buf_reserve(b, (size_t)n) == NULL) {
        b->overflow = true;
        return false;
    }
    if ((size_t)n >= room) {
        /* vsnprintf writes a NUL, which is not part of the text. */
        grow(b, b->n + (size_t)n + 1);
        (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    }
    b->n += (size_t)n;
    return true;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    bool ok;

    va_start(ap, fmt);
    ok = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return ok;
}

bool buf_u16(struct buf *b, uint16_t v)
{
    char raw[sizeof(v)];

    set_u16(raw, v);
    return buf_put(b, raw, sizeof(raw));
}

bool buf_u32(struct buf *b, uint32_t v)
{
    char raw[sizeof(v)];

    set_u32(raw, v);
    return buf_put(b, raw, sizeof(raw));
}

bool buf_u64(struct buf *b, uint64_t v)
{
    char raw[sizeof(v)];

    set_u64(raw, v);
    return buf_put(b, raw, sizeof(raw));
}

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->n);
    b->n -= n;
    if (n > 0 && b->n > 0)
        memmove(b->p, b->p + n, b->n);
}

slice buf_view(const struct buf *b)
{
    return slice_of(b->p, b->n);
}

const char *buf_cstr(struct buf *b)
{
    grow(b, b->n + 1);
    b->p[b->n] = '\0';
    return b->p;
}
