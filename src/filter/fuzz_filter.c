/* Whatever comes in, bytes that no action changes come out as they went in. */
#include "filter/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct filter *filter;
    static struct conf *c;
    static struct tables *t;
    struct filter_context context = { .queue_id = "NOQUEUE" };
    struct arena *arena = arena_new(1u << 20);
    struct filter_message *m;
    struct buf out;
    struct err err;
    size_t step = size > 0 ? (size_t)data[0] + 1 : 1;

    if (filter == NULL) {
        c = conf_from_text(SL("header_checks = inline:{none=REJECT}\n"
                              "body_checks = inline:{none=REJECT}\n"),
                           SLICE_NONE, NULL);
        t = tables_new();
        tables_set_direct(t, NULL);
        CHECK(filter_new(c, NULL, t, &filter, &err) == 0);
    }
    m = filter_begin(filter, &context, arena);
    buf_init(&out, 64u << 20);
    for (size_t at = 0; at < size; at += step)
        CHECK(filter_feed(m, slice_of(data + at, min_size(step, size - at)),
                          &out, &err) == 0);
    CHECK(filter_finish(m, &out, &err) == 0);
    CHECK(out.n == size && (size == 0 || memcmp(out.p, data, size) == 0));
    filter_end(&m);
    buf_done(&out);
    arena_free(&arena);
    return 0;
}
