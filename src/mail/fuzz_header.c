/* Header fields, encoded words, parameters, dates. */
#include "mail/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_value(struct arena *a, slice v)
{
    struct mail_value value;
    struct buf b;
    int64_t sec;
    int zone;
    slice out;

    buf_init(&b, 1 << 20);
    if (mail_words_decode(&b, v))
        CHECK(mail_utf8_valid(buf_view(&b)));
    buf_clear(&b);
    if (mail_words_encode(&b, v, 10) && mail_utf8_valid(v))
        CHECK(mail_is_ascii(buf_view(&b)));
    buf_clear(&b);
    mail_header_put(&b, "X", v);
    if (mail_content_type_parse(a, v, &value))
        (void)mail_value_param(a, &value, "name", &out);
    if (mail_disposition_parse(a, v, &value))
        (void)mail_value_param(a, &value, "filename", &out);
    (void)mail_date_parse(v, &sec, &zone);
    (void)mail_date_imap_parse(v, &sec, &zone);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(16u << 20);
    slice in = slice_of(data, size);
    struct mail_header_iter it;
    struct mail_field f;

    if (size > 65536) {
        arena_free(&a);
        return 0;
    }
    for (int junk = 0; junk < 2; junk++) {
        size_t at = 0;

        mail_header_iter_init(&it, in, junk);
        while (mail_header_next(&it, &f)) {
            CHECK(f.offset >= at && f.whole.n > 0);
            at = f.offset + f.whole.n;
            run_value(a, f.value);
        }
        CHECK(mail_header_body(&it) <= in.n);
    }
    run_value(a, in);
    (void)mail_header_delivered_to(in, SL("a@b"));
    arena_free(&a);
    return 0;
}
