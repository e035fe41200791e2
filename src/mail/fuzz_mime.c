/* A message whole and in pieces: the same strings, and sizes that add up. */
#include "mail/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void derive(struct buf *out, const struct mail_part *root, slice in)
{
    CHECK(root->header.stored + root->body.stored == in.n);
    CHECK(mail_part_virtual_size(root) >= in.n);
    CHECK(mail_part_virtual_size(root) <=
          in.n + root->header.lines + root->body.lines);
    mail_imap_envelope(out, root);
    mail_imap_body(out, root);
    mail_imap_bodystructure(out, root);
    mail_preview(out, root, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(32u << 20), *b = arena_new(32u << 20);
    slice in = slice_of(data, size);
    struct buf whole, pieces;
    struct mail_mime *m;
    size_t step;

    if (size > 0 && size < 65536) {
        buf_init(&whole, 16u << 20);
        buf_init(&pieces, 16u << 20);
        derive(&whole, mail_mime_parse(a, in), in);
        m = mail_mime_new(b);
        step = (size_t)data[0] % 13 + 1;
        for (size_t at = 0; at < in.n; at += step)
            mail_mime_feed(m, slice_sub(in, at, step));
        derive(&pieces, mail_mime_finish(m), in);
        CHECK(slice_eq(buf_view(&whole), buf_view(&pieces)));
        buf_done(&whole);
        buf_done(&pieces);
    }
    arena_free(&a);
    arena_free(&b);
    return 0;
}
