/* Any bytes as an envelope; what decodes must encode to the same again. */
#include "spool/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(1 << 20);
    struct envelope e;
    struct envelope again;
    struct err err;
    struct buf b;
    struct buf b2;

    buf_init(&b, ENVELOPE_MAX_BYTES);
    buf_init(&b2, ENVELOPE_MAX_BYTES);
    if (envelope_decode(slice_of(data, size), a, size % 2 == 0, &e, &err) ==
            0 &&
        envelope_encode(&b, &e)) {
        CHECK(envelope_decode(buf_view(&b), a, true, &again, &err) == 0 ||
              arena_used(a) > 1 << 18);
        if (arena_used(a) <= 1 << 18) {
            CHECK(envelope_encode(&b2, &again));
            CHECK(slice_eq(buf_view(&b), buf_view(&b2)));
        }
    }
    buf_done(&b);
    buf_done(&b2);
    arena_free(&a);
    return 0;
}
