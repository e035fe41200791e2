/* Any bytes as master.cf, and any bytes as a serialised snapshot. */
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_snapshot(slice bytes)
{
    struct conf *c;
    struct err err;

    if (conf_from_bytes(bytes, &c, &err) == 0)
        conf_unref(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_diags d;
    struct buf out;
    struct err err;
    struct conf *c;

    if (size > 20000)
        return 0;
    try_snapshot(slice_of(data, size));
    conf_diags_init(&d);
    c = conf_from_text(SLICE_NONE, slice_of(data, size), &d);
    conf_check(c, false, &d);
    buf_init(&out, 1 << 20);
    conf_print_services(c, NULL, CONF_PRINT_FOLD, &out, &err);
    conf_print_overrides(c, NULL, CONF_PRINT_EXPANDED, &out, &err);
    buf_clear(&out);
    if (conf_to_bytes(c, &out, &err) == 0)
        try_snapshot(buf_view(&out));
    buf_done(&out);
    conf_unref(&c);
    conf_diags_done(&d);
    return 0;
}
