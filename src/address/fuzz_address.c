#include "address/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Header rewriting and resolving of foreign bytes. */

static struct address *setting(void)
{
    static struct address *a;
    struct err err;
    struct conf *c;

    if (a != NULL)
        return a;
    c = conf_from_text(SL("myorigin = example.com\nmydestination = "
                          "example.com\nmasquerade_domains = example.com\n"
                          "append_dot_mydomain = yes\nrecipient_delimiter = "
                          "+\nvirtual_alias_maps = inline:{a=b, b=@c}\n"
                          "transport_maps = inline:{*=x:y}\n"),
                       SLICE_NONE, NULL);
    CHECK(address_new(c, NULL, tables_new(), &a, &err) == 0);
    conf_unref(&c);
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct address *a = setting();
    struct arena *arena = arena_new(8u << 20);
    struct address_route route;
    struct address_list l;
    struct buf out;
    struct err err;
    slice in = slice_of(data, size);

    buf_init(&out, 1u << 20);
    (void)address_rewrite_headers(a, ADDRESS_LOCAL, in, &out, &err);
    (void)address_resolve(a, SLICE_NONE, in, arena, &route, &err);
    address_list_init(&l, arena);
    (void)address_add_recipient(a, &l, in, SLICE_NONE, 0, &err);
    buf_done(&out);
    arena_free(&arena);
    return 0;
}
