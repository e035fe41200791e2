/* Answers as they come over the channel, and names and records in them. */
#include "dns/dns_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const enum dns_type types[] = { DNS_A,    DNS_NS,  DNS_SOA,
                                           DNS_PTR,  DNS_MX,  DNS_TXT,
                                           DNS_AAAA, DNS_SRV, DNS_TLSA };
    struct dns_question q = { .name = SL("example.com") };
    struct arena *a = arena_new(1u << 20);
    struct dns_answer out;
    struct dns_rr rr;
    struct err err;
    slice in = slice_of(data, n), name;

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        q.type = types[i];
        (void)dns_rdata_parse(q.type, in, a, &rr);
        if (dns_answer_parse(in, &q, a, &out, &err) == 0)
            CHECK(out.n_rr <= DNS_MAX_RECORDS &&
                  (out.result == DNS_OK) == (out.n_rr > 0));
    }
    if (dns_wire_name(&in, a, &name))
        CHECK(name.n <= DNS_NAME_MAX);
    (void)dns_name_ok(slice_of(data, n));
    arena_free(&a);
    return 0;
}
