#include "ipc/auth_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fields go through unescape and escape to the same text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(1u << 20);
    slice rest = slice_of(data, size);
    slice field, key, value, text;
    struct buf b;

    buf_init(&b, 1u << 20);
    while (auth_field(&rest, &field)) {
        auth_key(field, &key, &value);
        CHECK(key.n + value.n <= field.n);
        text = auth_unescape(a, field);
        if (text.p == NULL)
            continue;
        buf_clear(&b);
        CHECK(auth_escape(&b, text));
        CHECK(slice_eq(auth_unescape(a, buf_view(&b)), text));
        CHECK(memchr(b.p != NULL ? b.p : "", '\t', b.n) == NULL);
    }
    buf_done(&b);
    arena_free(&a);
    return 0;
}
