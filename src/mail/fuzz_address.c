/* Addresses: SMTP paths, header lists, alias lists, quoting there and back. */
#include "mail/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(slice internal)
{
    struct buf ext, back;

    buf_init(&ext, 1 << 20);
    buf_init(&back, 1 << 20);
    mail_addr_quote(&ext, internal);
    mail_addr_unquote(&back, buf_view(&ext));
    CHECK(slice_eq(buf_view(&back), internal));
    buf_done(&ext);
    buf_done(&back);
}

static void run_path(struct arena *a, slice in, unsigned flags)
{
    struct mail_path path;
    struct mail_param param;
    struct err err;

    if (mail_path_parse(a, &in, flags, &path, &err) < 0)
        return;
    CHECK(path.addr.n <= MAIL_ADDRESS_MAX);
    CHECK(path.addr.n == path.local.n + path.domain.n + path.has_domain);
    if (path.domain.n > 0 && path.local.n > 0)
        check_round_trip(path.addr);
    while (mail_param_next(&in, &param) > 0)
        continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(4u << 20);
    slice in = slice_of(data, size);
    struct mail_addr_iter it;
    struct mail_addr addr;
    struct mail_dest_iter dests;
    struct mail_dest dest;
    struct buf b;
    slice user, ext;

    if (size > 65536) {
        arena_free(&a);
        return 0;
    }
    for (unsigned flags = 0; flags < 32; flags++)
        run_path(a, in, flags);
    mail_addr_iter_init(&it, a, in, true, 1000);
    while (mail_addr_next(&it, &addr))
        CHECK(addr.kind != MAIL_ADDR_MAILBOX || addr.domain.n > 0);
    for (int header = 0; header < 2; header++) {
        mail_dest_iter_init(&dests, a, in, header, 1000);
        while (mail_dest_next(&dests, &dest) == 1)
            continue;
    }
    buf_init(&b, 1 << 20);
    mail_xtext_put(&b, in);
    (void)mail_xtext_get(&b, in);
    (void)mail_uxtext_get(&b, in);
    (void)mail_domain_to_ascii(&b, in);
    (void)mail_domain_to_utf8(&b, in);
    (void)mail_domain_valid(in);
    (void)mail_local_split(in, SL("+-"), true, &user, &ext);
    buf_done(&b);
    arena_free(&a);
    return 0;
}
