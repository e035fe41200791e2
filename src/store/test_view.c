#include "store/test_util.h"

/* Views held against a plain model: an array of what each client knows. */

enum { CLIENTS = 3, MAX = 4096 };

struct client {
    struct store_view view;
    uint32_t uid[MAX]; /* as the client counts: message i + 1 */
    uint32_t n;
    size_t n_flags;  /* rows told in the last sync */
    uint32_t n_told; /* by exists */
};

static void on_expunged(void *arg, uint32_t seq, uint32_t uid)
{
    struct client *c = arg;

    assert_true(seq >= 1 && seq <= c->n);
    assert_int_equal(c->uid[seq - 1], uid);
    memmove(&c->uid[seq - 1], &c->uid[seq], (c->n - seq) * sizeof c->uid[0]);
    c->n--;
}

static void on_exists(void *arg, uint32_t messages, size_t first)
{
    struct client *c = arg;
    struct store_mailbox *m = c->view.mailbox;

    for (size_t r = first; r < store_rows(m); r++)
        if (store_row_uid(m, r))
            c->uid[c->n++] = store_row_uid(m, r);
    assert_int_equal(c->n, messages);
}

static void on_flags(void *arg, size_t row, uint32_t seq)
{
    struct client *c = arg;

    assert_true(seq >= 1 && seq <= c->n);
    assert_int_equal(c->uid[seq - 1], store_row_uid(c->view.mailbox, row));
    c->n_flags++;
}

static const struct store_view_ops ops = { on_expunged, on_exists, on_flags };

static void fill(struct bench *b, unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_false(
            bench_deliver(b, "anna", from + i, "Subject: x\n\nx\n")->failed);
}

static void check(struct client *c)
{
    struct store_mailbox *m = c->view.mailbox;
    size_t row = 0;

    assert_int_equal(store_view_messages(&c->view), c->n);
    for (uint32_t i = 0; i < c->n; i++) {
        size_t r = store_view_row(&c->view, i + 1);
        struct store_row one;

        assert_true(r < store_rows(m));
        assert_int_equal(store_view_seq(&c->view, r), i + 1);
        assert_int_equal(store_view_next(&c->view, row), r);
        row = r + 1;
        store_view_get(&c->view, r, &one);
        assert_int_equal(one.uid, c->uid[i]);
        assert_int_equal(store_view_by_uid(&c->view, one.uid), r);
    }
    assert_int_equal(store_view_next(&c->view, row), store_rows(m));
    assert_int_equal(store_view_row(&c->view, c->n + 1), store_rows(m));
    assert_int_equal(store_view_row(&c->view, 0), store_rows(m));
}

static void client_open(struct client *c, struct store_mailbox *m)
{
    store_view_open(&c->view, m);
    c->n = 0;
    for (size_t r = 0; r < store_rows(m); r++)
        if (store_row_uid(m, r))
            c->uid[c->n++] = store_row_uid(m, r);
}

static void expunge_some(struct store_mailbox *m, unsigned n)
{
    struct err err;

    while (n-- > 0 && m->messages > 0) {
        size_t r = (size_t)random_u64() % store_rows(m);
        uint32_t uid = store_row_uid(m, r);

        if (uid)
            assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    }
}

static void test_model(void **state)
{
    struct client *c = xcalloc(CLIENTS, sizeof *c);
    struct store_mailbox *m;
    struct bench b;
    unsigned next = 0;

    (void)state;
    bench_open(&b);
    fill(&b, next, 70);
    next = 70;
    m = bench_mailbox(&b, "anna", "INBOX");
    for (unsigned i = 0; i < CLIENTS; i++)
        client_open(&c[i], m);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct client *one = &c[random_u64() % CLIENTS];

        switch (random_u64() % 4) {
        case 0:
            fill(&b, next, 3);
            next += 3;
            break;
        case 1:
            expunge_some(m, 4);
            break;
        case 2:
            store_view_sync(&one->view, (unsigned)(random_u64() % 8), &ops,
                            one);
            break;
        default:
            store_view_sync(&one->view, 7, &ops, one);
            assert_int_equal(store_view_pending(&one->view), 0);
            assert_int_equal(one->n, m->messages);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
            check(&c[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        store_view_close(&c[i].view);
    store_mailbox_unref(&m);
    bench_close(&b);
    free(c);
}

static void set(struct store_mailbox *m, uint32_t uid, uint32_t flags,
                uint64_t *modseq)
{
    struct store_change ch = { .uid = uid, .flags = flags };
    struct err err;

    assert_int_equal(store_set_flags(m, &ch, 1, modseq, &err), 0);
}

/* Changed rows are told once, one's own not, also when there are more changes
 * than the list holds. */
static void test_flags(void **state)
{
    struct client *c = xcalloc(2, sizeof *c);
    struct store_mailbox *m;
    struct bench b;
    uint64_t modseq;

    (void)state;
    bench_open(&b);
    fill(&b, 0, 5);
    m = bench_mailbox(&b, "anna", "INBOX");
    client_open(&c[0], m);
    client_open(&c[1], m);
    set(m, 2, STORE_SEEN, &modseq);
    set(m, 4, STORE_SEEN, &modseq);
    set(m, 4, STORE_FLAGGED, &modseq);
    c[0].view.own = modseq;
    assert_int_equal(store_view_pending(&c[0].view), STORE_VIEW_FLAGS);
    store_view_sync(&c[0].view, 7, &ops, &c[0]);
    store_view_sync(&c[1].view, 7, &ops, &c[1]);
    assert_int_equal(c[0].n_flags, 1);
    assert_int_equal(c[1].n_flags, 2);
    c[0].n_flags = 0;
    store_view_sync(&c[0].view, 7, &ops, &c[0]);
    assert_int_equal(c[0].n_flags, 0);
    for (unsigned i = 0; i < VIEW_CHANGES; i++) {
        set(m, 1, i % 2 ? STORE_SEEN : 0, NULL);
        set(m, 3, i % 2 ? 0 : STORE_SEEN, NULL);
    }
    c[0].n_flags = 0;
    store_view_sync(&c[0].view, 7, &ops, &c[0]);
    assert_int_equal(c[0].n_flags, 2);
    store_view_close(&c[0].view);
    store_view_close(&c[1].view);
    store_mailbox_unref(&m);
    bench_close(&b);
    free(c);
}

/* Strings are read without a copy, of expunged mail too. */
static void test_cached(void **state)
{
    struct store_mailbox *m;
    struct bench b;
    uint32_t uid = 1;
    struct err err;
    slice s;

    (void)state;
    bench_open(&b);
    fill(&b, 0, 2);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_true(store_cached_view(m, 0, STORE_ENVELOPE, &s));
    assert_true(slice_find(s, SL("NIL \"x\" ")) >= 0);
    fill(&b, 2, 200); /* beyond what was mapped */
    assert_true(store_cached_view(m, 201, STORE_PREVIEW, &s));
    assert_true(slice_eqs(s, "x"));
    assert_false(store_cached_view(m, 201, STORE_POP3_UIDL, &s));
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    assert_true(store_cached_view(m, 0, STORE_PREVIEW, &s));
    assert_int_equal(store_mailbox_rebuild(m, &err), 0);
    assert_false(store_cached_view(m, 0, STORE_PREVIEW, &s));
    assert_true(store_cached_view(m, 1, STORE_PREVIEW, &s));
    assert_true(slice_eqs(s, "x"));
    store_mailbox_unref(&m);
    bench_close(&b);
}

struct uids {
    uint32_t uid[16];
    size_t n;
};

static void on_gone(void *arg, uint32_t uid)
{
    struct uids *u = arg;

    assert_true(u->n < ARRAY_LEN(u->uid));
    u->uid[u->n++] = uid;
}

/* What is gone since a MODSEQ, as far as the log tells; what is recent. */
static void test_past(void **state)
{
    static const uint32_t two[] = { 2, 4 };
    static const uint32_t one[] = { 5 };
    struct uids u = { 0 };
    struct store_mailbox *m;
    struct bench b;
    uint64_t modseq;
    struct err err;

    (void)state;
    bench_open(&b);
    fill(&b, 0, 6);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_recent(m, false), 1);
    assert_int_equal(store_mailbox_recent(m, true), 1);
    assert_int_equal(store_mailbox_recent(m, false), 7);
    assert_int_equal(store_expunge(m, two, 2, &modseq, &err), 0);
    assert_int_equal(store_expunge(m, one, 1, NULL, &err), 0);
    assert_int_equal(store_expunged_since(m, modseq, on_gone, &u, &err), 1);
    assert_int_equal(u.n, 1);
    assert_int_equal(u.uid[0], 5);
    u.n = 0;
    assert_int_equal(store_expunged_since(m, 1, on_gone, &u, &err), 1);
    assert_int_equal(u.n, 3);
    assert_int_equal(store_mailbox_rebuild(m, &err), 0);
    u.n = 0;
    assert_int_equal(store_expunged_since(m, modseq, on_gone, &u, &err), 0);
    assert_int_equal(u.n, 0);
    assert_int_equal(
        store_expunged_since(m, m->highestmodseq, on_gone, &u, &err), 1);
    fill(&b, 6, 1);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_recent(m, true), 7);
    assert_int_equal(store_mailbox_compact(m, &err), 0);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_recent(m, true), 8);
    store_mailbox_unref(&m);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_cached),
        cmocka_unit_test(test_past),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
