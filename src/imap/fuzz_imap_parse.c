/* The words of IMAP commands, sequence sets, names, and BODY out of a
 * BODYSTRUCTURE. */
#include "imap/fetch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void words(struct arena *arena, slice in)
{
    struct imap_cursor c = { in, arena };
    uint64_t n;
    uint32_t u;
    int64_t t;
    slice s;
    bool b;

    while (!imap_end(&c)) {
        struct imap_cursor was = c;

        (void)imap_atom(&c, &s);
        (void)imap_string(&c, &s);
        (void)imap_nstring(&c, &s, &b);
        (void)imap_astring(&c, &s);
        (void)imap_number(&c, &n);
        (void)imap_nz_number32(&c, &u);
        (void)imap_mailbox(&c, &s);
        (void)imap_list_mailbox(&c, &s);
        (void)imap_flag(&c, &u, &s);
        (void)imap_date_time(&c, &t);
        (void)imap_date(&c, &t);
        (void)imap_literal_mark(&c, &n, &b);
        if (c.rest.n == was.rest.n)
            c.rest = slice_from(c.rest, 1);
    }
    (void)imap_line_literal(in, &n, &b);
}

static void sets(struct arena *arena, slice in)
{
    struct imap_cursor c = { in, arena };
    struct imap_set set;

    if (!imap_set_parse(&c, 1000, &set))
        return;
    for (size_t i = 1; i < set.n; i++)
        CHECK(set.v[i].lo > set.v[i - 1].hi);
    for (size_t i = 0; i < set.n && i < 100; i++) {
        CHECK(imap_set_has(&set, set.v[i].lo));
        CHECK(imap_set_has(&set, set.v[i].hi));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4 << 20);
    slice in = slice_of(data, size);
    uint64_t keywords;
    struct err err;
    uint32_t flags;
    struct buf b;

    words(arena, in);
    sets(arena, in);
    (void)imap_flag_list(&(struct imap_cursor){ in, arena }, true, NULL, &flags,
                         &keywords, &err);
    buf_init(&b, 1 << 20);
    (void)imap_utf7_to_utf8(&b, in);
    buf_clear(&b);
    imap_utf8_to_utf7(&b, in);
    buf_clear(&b);
    (void)imap_body_of_structure(&b, in);
    buf_done(&b);
    arena_free(&arena);
    return 0;
}
