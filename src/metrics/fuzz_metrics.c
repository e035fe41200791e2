/* What processes say of themselves. */
#include "metrics/metrics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf out;

    buf_init(&out, 1u << 20);
    metrics_render(slice_of(data, n), &out);
    CHECK(!out.overflow || n > 1000);
    buf_done(&out);
    return 0;
}
