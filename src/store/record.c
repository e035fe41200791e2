#include "store/store_priv.h"

/*
 * IR_ADD's fixed part, little endian:
 *
 *   0 uid u32      4 flags u32     8 keywords u64   16 modseq u64
 *  24 created u64 32 idate i64    40 sdate i64      48 size u64
 *  56 crlf u64    64 letters u32  68 state u32      72 crc u32
 *  76 cache version u32           80 emailid        96 threadid
 * 112 delivery id                128 instance u64  136 name length u32
 * 140 reserved u64
 *
 * then the base name, then attributes with the cached strings.
 */
void add_encode(uint8_t out[static ADD_FIXED], const struct row *r,
                uint64_t instance, size_t name_len)
{
    set_u32(out, r->uid);
    set_u32(out + 4, r->flags);
    set_u64(out + 8, r->keywords);
    set_u64(out + 16, r->modseq);
    set_u64(out + 24, r->created);
    set_u64(out + 32, (uint64_t)r->idate);
    set_u64(out + 40, (uint64_t)r->sdate);
    set_u64(out + 48, r->size);
    set_u64(out + 56, r->crlf_size);
    set_u32(out + 64, r->letters);
    set_u32(out + 68, r->state);
    set_u32(out + 72, r->crc);
    set_u32(out + 76, r->cache_version);
    memcpy(out + 80, r->emailid, ID_BYTES);
    memcpy(out + 96, r->threadid, ID_BYTES);
    memcpy(out + 112, r->id, ID_BYTES);
    set_u64(out + 128, instance);
    set_u32(out + 136, (uint32_t)name_len);
    set_u64(out + 140, 0);
}

static bool name_is_safe(slice name)
{
    if (name.n == 0 || name.n > FILE_NAME_MAX || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '/' || name.p[i] == '\0' || name.p[i] == ':')
            return false;
    return true;
}

bool add_decode(slice payload, struct add_record *out)
{
    const uint8_t *p = (const uint8_t *)payload.p;
    struct add_record a = { 0 };
    size_t name_len;

    if (payload.n < ADD_FIXED)
        return false;
    a.row.uid = get_u32(p);
    a.row.flags = get_u32(p + 4);
    a.row.keywords = get_u64(p + 8);
    a.row.modseq = get_u64(p + 16);
    a.row.created = get_u64(p + 24);
    a.row.idate = (int64_t)get_u64(p + 32);
    a.row.sdate = (int64_t)get_u64(p + 40);
    a.row.size = get_u64(p + 48);
    a.row.crlf_size = get_u64(p + 56);
    a.row.letters = get_u32(p + 64);
    a.row.state = get_u32(p + 68);
    a.row.crc = get_u32(p + 72);
    a.row.cache_version = get_u32(p + 76);
    memcpy(a.row.emailid, p + 80, ID_BYTES);
    memcpy(a.row.threadid, p + 96, ID_BYTES);
    memcpy(a.row.id, p + 112, ID_BYTES);
    a.instance = get_u64(p + 128);
    name_len = get_u32(p + 136);
    if (name_len > payload.n - ADD_FIXED)
        return false;
    a.name = slice_sub(payload, ADD_FIXED, name_len);
    a.strings = slice_from(payload, ADD_FIXED + name_len);
    a.row.cache_off = ADD_FIXED + name_len;
    a.row.cache_len = (uint32_t)a.strings.n;
    a.row.name_len = (uint32_t)name_len;
    if (!name_is_safe(a.name) || a.row.uid == 0)
        return false;
    *out = a;
    return true;
}

enum { HEADER_FIXED = 56 };

bool header_encode(struct buf *b, const struct header_record *h)
{
    buf_put(b, h->account, ID_BYTES);
    buf_put(b, h->guid, ID_BYTES);
    buf_u32(b, h->uidvalidity);
    buf_u32(b, 0);
    buf_u64(b, h->instance);
    buf_u64(b, (uint64_t)h->created);
    return buf_slice(b, h->name);
}

bool header_decode(slice payload, struct header_record *out)
{
    const uint8_t *p = (const uint8_t *)payload.p;

    if (payload.n < HEADER_FIXED)
        return false;
    memcpy(out->account, p, ID_BYTES);
    memcpy(out->guid, p + 16, ID_BYTES);
    out->uidvalidity = get_u32(p + 32);
    out->instance = get_u64(p + 40);
    out->created = (int64_t)get_u64(p + 48);
    out->name = slice_from(payload, HEADER_FIXED);
    return out->uidvalidity != 0;
}

ssize_t list_count(slice payload, size_t head, size_t item)
{
    if (payload.n < head || (payload.n - head) % item != 0)
        return -1;
    return (ssize_t)((payload.n - head) / item);
}
