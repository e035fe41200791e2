#include "base/codec.h"

#include "base/base.h"

#define ATTR_HEAD_BYTES ((size_t)6)

uint16_t get_u16(const void *p)
{
    const unsigned char *b = p;

    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t get_u32(const void *p)
{
    const unsigned char *b = p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

uint64_t get_u64(const void *p)
{
    const unsigned char *b = p;

    return get_u32(b) | (uint64_t)get_u32(b + 4) << 32;
}

void set_u16(void *p, uint16_t v)
{
    unsigned char *b = p;

    b[0] = (unsigned char)v;
    b[1] = (unsigned char)(v >> 8);
}

void set_u32(void *p, uint32_t v)
{
    set_u16(p, (uint16_t)v);
    set_u16((unsigned char *)p + 2, (uint16_t)(v >> 16));
}

void set_u64(void *p, uint64_t v)
{
    set_u32(p, (uint32_t)v);
    set_u32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}

bool attr_put(struct buf *b, uint16_t tag, slice v)
{
    unsigned char head[ATTR_HEAD_BYTES];
    size_t total;

    /* Room for all of it first, so that no half attribute is ever left. */
    if (v.n > UINT32_MAX || !ADD_OK(v.n, sizeof(head), &total) ||
        buf_reserve(b, total) == NULL) {
        b->overflow = true;
        return false;
    }
    set_u16(head, tag);
    set_u32(head + 2, (uint32_t)v.n);
    return buf_put(b, head, sizeof(head)) && buf_slice(b, v);
}

bool attr_put_str(struct buf *b, uint16_t tag, const char *s)
{
    return attr_put(b, tag, slice_str(s));
}

bool attr_put_u64(struct buf *b, uint16_t tag, uint64_t v)
{
    char raw[sizeof(v)];

    set_u64(raw, v);
    return attr_put(b, tag, slice_of(raw, sizeof(raw)));
}

int attr_next(slice *in, struct attr *out)
{
    uint32_t n;
    uint16_t tag;

    if (in->n == 0)
        return 0;
    if (in->n < ATTR_HEAD_BYTES)
        return -1;
    tag = get_u16(in->p);
    n = get_u32(in->p + 2);
    if (n > in->n - ATTR_HEAD_BYTES)
        return -1;
    out->tag = (uint16_t)(tag & ~ATTR_MUST);
    out->must = (tag & ATTR_MUST) != 0;
    out->v = slice_of(in->p + ATTR_HEAD_BYTES, n);
    *in = slice_from(*in, ATTR_HEAD_BYTES + n);
    return 1;
}

bool attr_u64(const struct attr *a, uint64_t *out)
{
    if (a->v.n != sizeof(*out))
        return false;
    *out = get_u64(a->v.p);
    return true;
}

bool attr_find(slice in, uint16_t tag, slice *out)
{
    struct attr a;

    while (attr_next(&in, &a) == 1) {
        if (a.tag == (tag & ~ATTR_MUST)) {
            *out = a.v;
            return true;
        }
    }
    return false;
}

bool attr_find_u64(slice in, uint16_t tag, uint64_t *out)
{
    struct attr a = { .tag = tag };

    return attr_find(in, tag, &a.v) && attr_u64(&a, out);
}

uint64_t attr_u64_or(slice in, uint16_t tag, uint64_t def)
{
    uint64_t v = def;

    (void)attr_find_u64(in, tag, &v);
    return v;
}
