#ifndef BASE_CODEC_H
#define BASE_CODEC_H

/*
 * The small attribute codec: a message or record is a run of attributes, each
 *
 *     u16 tag (bit 15: must be understood)   u32 length   bytes
 *
 * little endian, no padding.  Tags are declared per message type by the room
 * that owns it.  An unknown tag is skipped unless its must-understand bit is
 * set; a tag may repeat (a list).  Numbers are u64, 8 bytes.  The format is
 * described in doc/codec.md; release N reads N-1 and N+1 by these rules.
 */
#include "base/buf.h"

#define ATTR_MUST 0x8000u

bool attr_put(struct buf *b, uint16_t tag, slice v);
bool attr_put_str(struct buf *b, uint16_t tag, const char *s);
bool attr_put_u64(struct buf *b, uint16_t tag, uint64_t v);

/* Iterate: *in moves forward.  1 got one, 0 the end, -1 damaged. */
struct attr {
    uint16_t tag; /* without ATTR_MUST */
    bool must;
    slice v;
};

int attr_next(slice *in, struct attr *out);
bool attr_u64(const struct attr *a, uint64_t *out);

/* Find the first `tag`: false when absent or damaged. */
bool attr_find(slice in, uint16_t tag, slice *out);
bool attr_find_u64(slice in, uint16_t tag, uint64_t *out);
uint64_t attr_u64_or(slice in, uint16_t tag, uint64_t def);

/* Little-endian loads for fixed headers. */
static inline uint16_t get_u16(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t get_u32(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

static inline uint64_t get_u64(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return get_u32(b) | (uint64_t)get_u32(b + 4) << 32;
}

static inline void set_u16(void *p, uint16_t v)
{
    unsigned char *b = (unsigned char *)p;

    b[0] = (unsigned char)v;
    b[1] = (unsigned char)(v >> 8);
}

static inline void set_u32(void *p, uint32_t v)
{
    set_u16(p, (uint16_t)v);
    set_u16((unsigned char *)p + 2, (uint16_t)(v >> 16));
}

static inline void set_u64(void *p, uint64_t v)
{
    set_u32(p, (uint32_t)v);
    set_u32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}

#endif
