/* Policies, records and HTTP answers of strangers. */
#include "fetch/fetch_priv.h"
#include "fetch/report.h"

/* The fuzzer's own prototype. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct sts_policy *policy = xcalloc(1, sizeof *policy);
    struct arena *a = arena_new(100000);
    struct http_answer answer = { 0 };
    slice in = slice_of(p, n), id = SLICE_NONE, address;
    int64_t length;
    bool chunked;
    struct buf b;

    if (sts_parse(in, policy))
        CHECK(policy->max_age <= 31557600 && policy->n_mx <= FETCH_MX_MAX);
    for (size_t i = 0; i < policy->n_mx; i++)
        CHECK(policy->mx[i].n > 0 && policy->mx[i].n <= 255);
    if (sts_parse_record(in, &id))
        CHECK(id.n > 0 && id.n <= 32);
    (void)http_parse_head(in, &answer, &length, &chunked);
    CHECK(length >= -1);
    (void)report_places(in);
    address = report_address(a, in);
    CHECK(slice_chr(address, '\n') < 0);
    buf_init(&b, 1000);
    (void)http_take_chunks(&in, &b);
    CHECK(b.n <= 1000 && !b.overflow);
    buf_done(&b);
    arena_free(&a);
    free(policy);
    return 0;
}
