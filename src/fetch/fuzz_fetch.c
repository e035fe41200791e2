/* Policies and records of strangers. */
#include "fetch/fetch_priv.h"
#include "fetch/report.h"

/* The fuzzer's own prototype. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct sts_policy *policy = xcalloc(1, sizeof *policy);
    struct arena *a = arena_new(100000);
    slice in = slice_of(p, n), id = SLICE_NONE, address;
    struct buf b;

    if (sts_parse(in, policy))
        CHECK(policy->max_age <= 31557600 && policy->n_mx <= FETCH_MX_MAX);
    for (size_t i = 0; i < policy->n_mx; i++)
        CHECK(policy->mx[i].n > 0 && policy->mx[i].n <= 255);
    if (sts_parse_record(in, &id))
        CHECK(id.n > 0 && id.n <= 32);
    (void)report_places(in);
    address = report_address(a, in);
    CHECK(slice_chr(address, '\n') < 0);
    buf_init(&b, 1000);
    if (http_url(in, 443, SL("/"), &b))
        CHECK(b.n == in.n + strlen("https://:443/"));
    buf_clear(&b);
    if (http_url(SL("a.example"), 443, in, &b))
        CHECK(slice_chr(buf_view(&b), '\n') < 0);
    buf_done(&b);
    arena_free(&a);
    free(policy);
    return 0;
}
