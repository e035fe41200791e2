/* Records as they travel, and what they say. */
#include "dns/dns_priv.h"

/* Network order. */
static unsigned be16(slice s, size_t at)
{
    return (unsigned)((unsigned char)s.p[at] << 8 | (unsigned char)s.p[at + 1]);
}

static bool parse_address(slice rdata, size_t n, struct dns_rr *out)
{
    if (rdata.n != n)
        return false;
    memcpy(out->ip, rdata.p, n);
    return true;
}

/* `skip` bytes of numbers, then a name and nothing else. */
static bool parse_name(slice rdata, size_t skip, struct arena *a,
                       struct dns_rr *out)
{
    slice rest = slice_from(rdata, skip);

    return rdata.n > skip && dns_wire_name(&rest, a, &out->name) && rest.n == 0;
}

/* RFC 1035 3.3.14: strings, each behind its length.  Joined, as every user of
 * TXT records wants them (RFC 7208 3.3). */
static bool parse_text(slice rdata, struct arena *a, struct dns_rr *out)
{
    char *p = arena_alloc(a, rdata.n + 1);
    size_t n = 0;
    slice rest = rdata;

    if (p == NULL || rdata.n == 0)
        return false;
    while (rest.n > 0) {
        size_t len = (unsigned char)rest.p[0];

        if (len > rest.n - 1)
            return false;
        memcpy(p + n, rest.p + 1, len);
        n += len;
        rest = slice_from(rest, len + 1);
    }
    out->text = slice_of(p, n);
    return true;
}

static bool parse_tlsa(slice rdata, struct arena *a, struct dns_rr *out)
{
    if (rdata.n < 4)
        return false;
    out->usage = (uint8_t)rdata.p[0];
    out->selector = (uint8_t)rdata.p[1];
    out->matching = (uint8_t)rdata.p[2];
    out->data = slice_dup(a, slice_from(rdata, 3));
    return out->data.p != NULL;
}

bool dns_rdata_parse(enum dns_type type, slice rdata, struct arena *a,
                     struct dns_rr *out)
{
    *out = (struct dns_rr){ .type = type };
    switch (type) {
    case DNS_A:
        return parse_address(rdata, 4, out);
    case DNS_AAAA:
        return parse_address(rdata, 16, out);
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
        return parse_name(rdata, 0, a, out);
    case DNS_MX:
        if (!parse_name(rdata, 2, a, out))
            return false;
        out->pref = be16(rdata, 0);
        return true;
    case DNS_SRV: /* RFC 2782 */
        if (!parse_name(rdata, 6, a, out))
            return false;
        out->pref = be16(rdata, 0);
        out->weight = be16(rdata, 2);
        out->port = be16(rdata, 4);
        return true;
    case DNS_TXT:
        return parse_text(rdata, a, out);
    case DNS_TLSA:
        return parse_tlsa(rdata, a, out);
    case DNS_SOA:
        /* Who asks for it wants to know that the zone is there. */
        return dns_wire_name(&rdata, a, &out->name);
    default:
        return false;
    }
}

static slice text_of(slice body, uint16_t tag, struct arena *a)
{
    slice v = SLICE_NONE;

    if (!attr_find(body, tag, &v) || v.n == 0)
        return SL("");
    return slice_dup(a, v);
}

static void parse_records(slice body, const struct dns_question *q,
                          struct arena *a, struct dns_answer *out)
{
    slice rest = body;
    struct attr at;

    while (attr_next(&rest, &at) > 0 && out->n_rr < DNS_MAX_RECORDS) {
        if (at.tag != AT_RDATA)
            continue;
        if (dns_rdata_parse(q->type, at.v, a, &out->rr[out->n_rr])) {
            out->rr[out->n_rr].ttl = out->ttl;
            out->n_rr++;
        }
    }
}

static size_t count_records(slice body)
{
    slice rest = body;
    struct attr at;
    size_t n = 0;

    while (attr_next(&rest, &at) > 0)
        n += at.tag == AT_RDATA;
    return n;
}

int dns_answer_parse(slice body, const struct dns_question *q, struct arena *a,
                     struct dns_answer *out, struct err *err)
{
    uint64_t code = attr_u64_or(body, AT_RCODE, DNS_FAIL);
    uint64_t flags = attr_u64_or(body, AT_FLAGS, 0);
    uint64_t ttl = attr_u64_or(body, AT_TTL, 0);
    size_t n = min_size(count_records(body), DNS_MAX_RECORDS);
    struct dns_answer r = {
        .result = code <= DNS_BAD_NAME ? (enum dns_result)code : DNS_FAIL,
        .is_secure = flags & DNS_IS_SECURE,
        .is_bogus = flags & DNS_IS_BOGUS,
        .is_cname = flags & DNS_IS_CNAME,
        .ttl = ttl > UINT32_MAX ? UINT32_MAX : (uint32_t)ttl,
        .canonical = text_of(body, AT_NAME, a),
        .why = text_of(body, AT_TEXT, a),
    };

    if (r.canonical.n == 0)
        r.canonical = slice_dup(a, q->name);
    r.rr = arena_alloc(a, (n + 1) * sizeof *r.rr);
    if (r.rr == NULL || r.canonical.p == NULL || r.why.p == NULL)
        return err_temp(err, "DNS: the answer is too big");
    if (r.result == DNS_OK)
        parse_records(body, q, a, &r);
    if (r.result == DNS_OK && r.n_rr == 0) {
        /* Records, and none of them can be read: nothing is known. */
        r.result = DNS_FAIL;
        r.is_secure = false;
        r.why = SL("damaged records");
    }
    if (r.is_bogus) {
        /* Invariant 1, whoever sends it. */
        r.result = DNS_FAIL;
        r.is_secure = false;
        r.n_rr = 0;
    }
    *out = r;
    return 0;
}
