/* Any bytes as main.cf: parsed, checked, each parameter looked up. */
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_table(void *ctx, const struct conf_table_ref *ref)
{
    *(size_t *)ctx += ref->name.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_diags d;
    struct buf out;
    struct err err;
    struct conf *c;
    size_t n = 0;

    if (size > 20000)
        return 0;
    conf_diags_init(&d);
    c = conf_from_text(slice_of(data, size),
                       SL("smtp inet n - n - - smtpd -o a=$b\n"), &d);
    conf_check(c, false, &d);
    conf_each_table(c, count_table, &n);
    for (size_t i = 0; i < conf_param_count(); i++)
        n += conf_slice(c, conf_service_at(c, 0), conf_param_at(i)->name).n;
    n += conf_match_list(c, NULL, "mydestination").n;
    buf_init(&out, 1 << 20);
    conf_edit_text(slice_of(data, size), CONF_EDIT_SET, SL("mydestination"),
                   SL("x"), &out, &err);
    buf_clear(&out);
    conf_print(c, NULL, CONF_PRINT_CHANGED | CONF_PRINT_EXPANDED, &out, &err);
    buf_done(&out);
    conf_unref(&c);
    conf_diags_done(&d);
    return 0;
}
