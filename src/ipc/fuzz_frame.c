#include "ipc/chan_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice in = slice_of(data, size);
    struct frame f;
    uint64_t features;
    struct err err;

    while (frame_parse(in, &f) == 1) {
        CHECK(f.size <= in.n && f.body.n <= CHAN_MAX_BYTES);
        (void)frame_hello_ok(&f, &features);
        CHECK(frame_get_err(f.body, &err) == -1);
        CHECK(err.class == ERR_TEMP || err.class == ERR_PERM);
        in = slice_from(in, f.size);
    }
    return 0;
}
