#include "base/codec.h"

#include "base/base.h"

#define ATTR_HEAD_BYTES ((size_t)6)

bool attr_put(struct buf *b, uint16_t tag, slice v)
{
    size_t total;
    char *to;

    /* Room for all of it first, so that no half attribute is ever left. */
    if (v.n > UINT32_MAX || !ADD_OK(v.n, ATTR_HEAD_BYTES, &total) ||
        (to = buf_reserve(b, total)) == NULL) {
        b->overflow = true;
        return false;
    }
    set_u16(to, tag);
    set_u32(to + 2, (uint32_t)v.n);
    if (v.n > 0)
        memcpy(to + ATTR_HEAD_BYTES, v.p, v.n);
    buf_commit(b, total);
    return true;
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
