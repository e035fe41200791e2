#include "base/base.h"
#include "base/codec.h"
#include "base/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Whatever the bytes are: the walk ends, stays inside, and what it yields can
 * be written again to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    slice in = slice_of(data, n);
    slice rest = in;
    struct attr a;
    struct buf out;
    uint64_t v;
    int got;

    buf_init(&out, n + 1024);
    while ((got = attr_next(&rest, &a)) == 1) {
        uint16_t tag = (uint16_t)(a.tag | (a.must ? ATTR_MUST : 0));

        CHECK(attr_put(&out, tag, a.v));
        (void)attr_u64(&a, &v);
    }
    CHECK(slice_starts(in, buf_view(&out)));
    if (got == 0)
        CHECK(slice_eq(in, buf_view(&out)));
    (void)attr_u64_or(in, 1, 0);

    buf_clear(&out);
    if (base64_get(&out, in)) {
        struct buf again;

        buf_init(&again, n + 16);
        CHECK(base64_put(&again, buf_view(&out)));
        CHECK(slice_eq(in, buf_view(&again)));
        buf_done(&again);
    }
    buf_done(&out);
    return 0;
}
