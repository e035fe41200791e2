/*
 * What other servers left in a Maildir, and unique ids made of it.  The first
 * byte chooses the file.
 */
#include "store/store_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct takeover *t)
{
    struct buf b;

    buf_init(&b, 1024);
    for (size_t i = 0; i < t->n; i++) {
        const struct takeover_entry *e = &t->list[i];

        CHECK(e->base.n > 0 && e->base.n <= FILE_NAME_MAX);
        CHECK(takeover_find(t, e->base) == e);
        CHECK(e->uid == 0 || t->uidvalidity == 0 || e->uid < t->uidnext);
        buf_clear(&b);
        (void)takeover_uidl(e, &b);
    }
    for (size_t i = 0; i < N_KEYWORDS; i++)
        if (t->keyword[i])
            CHECK(takeover_keyword_ok(slice_str(t->keyword[i])));
    buf_done(&b);
}

static void fuzz_subscriptions(slice in, bool is_courier)
{
    struct subs s = { 0 };
    struct subs again = { 0 };
    struct buf b;

    if (is_courier)
        subs_parse_courier(&s, in);
    else
        subs_parse(&s, in);
    buf_init(&b, (size_t)4 << 20);
    subs_print(&s, &b);
    subs_parse(&again, buf_view(&b));
    CHECK(s.version == 1 || again.n <= s.n);
    subs_done(&s);
    subs_done(&again);
    buf_done(&b);
}

static void fuzz_uidl(slice in)
{
    struct store_uidl u = { 7, 9, in };
    struct buf b;
    struct err err;
    slice format;

    slice_cut(&in, '\n', &format);
    u.base_name = in;
    buf_init(&b, 4096);
    if (store_uidl_format_ok(format, &err)) {
        store_uidl_put(&b, format, &u);
        CHECK(b.n > 0 && b.n <= FILE_NAME_MAX);
        for (size_t i = 0; i < b.n; i++)
            CHECK(b.p[i] > ' ' && b.p[i] <= '~');
    }
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct takeover *t;
    slice in = slice_of(data, size);
    slice file;

    if (size == 0)
        return 0;
    in = slice_from(in, 1);
    t = takeover_new();
    switch (data[0] & 7) {
    case 0:
    case 1:
        (void)takeover_uidlist(t, in);
        break;
    case 2:
        takeover_keywords(t, in);
        break;
    case 3:
        takeover_courier_keywords(t, in);
        break;
    case 4:
        slice_cut(&in, '\n', &file);
        takeover_courier_message(t, file, in);
        break;
    case 5:
        takeover_courier_sizes(t, in);
        break;
    case 6:
        fuzz_subscriptions(in, (data[0] & 8) != 0);
        break;
    default:
        fuzz_uidl(in);
    }
    look(t);
    takeover_free(&t);
    return 0;
}
