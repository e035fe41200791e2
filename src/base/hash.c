#include "base/codec.h"

#include "base/base.h"

/*
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): one
 * round a block, three at the end, keyed once per process so that a peer
 * cannot choose keys that collide.
 */
struct sip {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotl(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}

static void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v2 = rotl(s->v2, 32);
}

static void sip_block(struct sip *s, uint64_t m)
{
    s->v3 ^= m;
    sip_round(s);
    s->v0 ^= m;
}

static void sip_start(struct sip *s)
{
    static uint64_t key[2];
    static bool is_keyed;

    if (!is_keyed) {
        random_bytes(key, sizeof(key));
        is_keyed = true;
    }
    s->v0 = key[0] ^ UINT64_C(0x736f6d6570736575);
    s->v1 = key[1] ^ UINT64_C(0x646f72616e646f6d);
    s->v2 = key[0] ^ UINT64_C(0x6c7967656e657261);
    s->v3 = key[1] ^ UINT64_C(0x7465646279746573);
}

/* Up to eight bytes as a number, little endian, the rest zero. */
static uint64_t load(const char *p, size_t n, bool icase)
{
    unsigned char raw[8] = { 0 };

    for (size_t i = 0; i < n; i++)
        raw[i] = (unsigned char)(icase ? ascii_lower(p[i]) : p[i]);
    return get_u64(raw);
}

static uint64_t hash(slice s, bool icase)
{
    struct sip h;
    size_t i = 0;

    sip_start(&h);
    for (; s.n - i >= 8; i += 8)
        sip_block(&h, icase ? load(s.p + i, 8, true) : get_u64(s.p + i));
    sip_block(&h, load(s.n > 0 ? s.p + i : "", s.n - i, icase) | (uint64_t)s.n
                                                                     << 56);
    h.v2 ^= 0xff;
    sip_round(&h);
    sip_round(&h);
    sip_round(&h);
    return h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
}

uint64_t slice_hash(slice s)
{
    return hash(s, false);
}

uint64_t slice_ihash(slice s)
{
    return hash(s, true);
}
