#include "ipc/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ev_field fields[EVENT_MAX_FIELDS];
    static char keys[EVENT_MAX_FIELDS][24];
    slice in = slice_of(data, size), one;
    struct event e;
    struct buf b;

    buf_init(&b, 1 << 20);
    while (event_next(&in, &one))
        if (event_decode(one, &e, fields, keys)) {
            event_render_postfix(&b, &e);
            event_render_json(&b, &e);
            event_render_logfmt(&b, &e);
        }
    for (size_t i = 0; i < b.n; i++)
        CHECK((uint8_t)b.p[i] >= ' ' && b.p[i] != 0x7f);
    buf_done(&b);
    return 0;
}
