#include "store/test_util.h"

#include "rt/file.h"

/* COPY, MOVE and APPEND. */

static const char letter[] = "From: a@example.net\n"
                             "Subject: one\n"
                             "\n"
                             "Hello there.\n";

static void body_of(struct store_mailbox *m, uint32_t uid, struct buf *out)
{
    struct err err;
    int fd = -1;

    if (store_open_body(m, uid, &fd, &err) < 0)
        fail_msg("%s", err.log);
    buf_clear(out);
    assert_int_equal(file_read_fd(fd, out, &err), 0);
    close_fd(&fd);
}

static uint64_t keyword(struct store_mailbox *m, const char *name)
{
    struct err err;
    unsigned bit;

    assert_int_equal(store_keyword_bit(m, slice_str(name), &bit, &err), 0);
    return UINT64_C(1) << bit;
}

static int copy(struct store_mailbox *from, const uint32_t *uids, size_t n,
                struct store_mailbox *to, unsigned flags,
                struct store_copied *out, size_t *n_out, struct err *err)
{
    struct store_copy c = {
        .from = from, .to = to, .uids = uids, .n = n, .flags = flags, .out = out
    };
    int rc = store_copy(&c, err);

    if (rc == 0 && (flags & STORE_MOVE))
        rc = store_move_end(&c, true, err);

    *n_out = c.n_out;
    return rc;
}

static struct store_mailbox *three(struct bench *b)
{
    struct store_mailbox *m;
    struct store_change c[2];
    struct err err;

    bench_open(b);
    for (unsigned i = 1; i <= 3; i++)
        assert_false(bench_deliver(b, "anna", i, letter)->failed);
    m = bench_mailbox(b, "anna", "INBOX");
    (void)keyword(m, "Other");
    c[0] = (struct store_change){ 1, STORE_SEEN, keyword(m, "Junk") };
    c[1] = (struct store_change){ 3, STORE_FLAGGED | STORE_DELETED, 0 };
    assert_int_equal(store_set_flags(m, c, 2, NULL, &err), 0);
    return m;
}

static void test_copy(void **state)
{
    static const uint32_t uids[] = { 3, 1, 77 };
    struct store_copied out[3];
    struct store_mailbox *m, *to;
    struct buf one CLEANUP(buf_done) = { 0 };
    struct buf two CLEANUP(buf_done) = { 0 };
    struct store_row a, b2;
    struct bench b;
    struct err err;
    slice s;
    size_t n;

    (void)state;
    m = three(&b);
    to = bench_mailbox(&b, "anna", "Work.Hato");
    buf_init(&one, 4096);
    buf_init(&two, 4096);
    assert_int_equal(copy(m, uids, 3, to, 0, out, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(out[0].from, 3);
    assert_int_equal(out[0].to, 1);
    assert_int_equal(out[1].from, 1);
    assert_int_equal(out[1].to, 2);
    assert_int_equal(m->messages, 3);
    assert_true(store_row_get(m, 0, &a));
    assert_true(store_row_get(to, 1, &b2));
    assert_int_equal(b2.flags, STORE_SEEN);
    assert_int_equal(b2.keywords, keyword(to, "Junk"));
    assert_int_equal(b2.internaldate, a.internaldate);
    assert_int_equal(b2.size, a.size);
    assert_int_equal(b2.crlf_size, a.crlf_size);
    assert_memory_equal(b2.emailid, a.emailid, 16);
    assert_memory_not_equal(b2.delivery_id, a.delivery_id, 16);
    assert_true(store_cached_view(to, 1, STORE_PREVIEW, &s));
    assert_true(slice_eqs(s, "Hello there."));
    body_of(m, 1, &one);
    body_of(to, 2, &two);
    assert_true(slice_eq(buf_view(&one), buf_view(&two)));
    bench_shell(
        &b, "test $(find anna/.Work.Hato/cur -type f -links 2 | wc -l) = 2");
    assert_int_equal(bench_files(&b, "anna/.Work.Hato/new"), 0);

    /* Into itself, and what it says after a scan and a restart. */
    assert_int_equal(copy(to, (uint32_t[]){ 2 }, 1, to, 0, out, &n, &err), 0);
    assert_int_equal(out[0].to, 3);
    assert_int_equal(store_mailbox_sync(to, true, &err), 0);
    assert_int_equal(to->messages, 3);
    store_mailbox_unref(&to);
    store_mailbox_unref(&m);
    bench_restart(&b);
    to = bench_mailbox(&b, "anna", "Work.Hato");
    assert_int_equal(to->messages, 3);
    assert_int_equal(to->uidnext, 4);
    assert_true(store_row_get(to, 2, &b2));
    assert_int_equal(b2.keywords, keyword(to, "Junk"));
    store_mailbox_unref(&to);
    bench_close(&b);
}

/* Views of several rows hold together, though the log grew since it was mapped
 * and the first row lies in what was mapped before. */
static void test_views(void **state)
{
    struct store_mailbox *m;
    const void *map;
    struct bench b;
    slice s;

    (void)state;
    m = three(&b);
    assert_true(store_cached_view(m, 0, STORE_PREVIEW, &s));
    for (unsigned i = 10; m->log_end <= m->cache_map_bytes; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    assert_true(store_cached_view(m, 0, STORE_PREVIEW, &s));
    map = m->cache_map;
    assert_true(
        store_cached_view(m, store_rows(m) - 1, STORE_PREVIEW, &(slice){ 0 }));
    assert_ptr_equal(m->cache_map, map);
    assert_true(slice_eqs(s, "Hello there."));
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_move(void **state)
{
    static const uint32_t uids[] = { 1, 2 };
    struct store_copied out[2];
    struct store_mailbox *m, *to;
    struct bench b;
    struct err err;
    size_t n;

    (void)state;
    m = three(&b);
    to = bench_mailbox(&b, "anna", "Trash");
    assert_int_equal(copy(m, uids, 2, to, STORE_MOVE, out, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(m->messages, 1);
    assert_int_equal(to->messages, 2);
    assert_null(m->moves);
    assert_int_equal(store_mailbox_tidy(m, 100), 0);
    assert_int_equal(bench_files(&b, "anna/new") + bench_files(&b, "anna/cur"),
                     1);
    assert_int_equal(bench_files(&b, "anna/.Trash/cur"), 2);
    /* One that cannot be finished leaves everything where it was. */
    {
        struct store_copy c = { .from = m,
                                .to = to,
                                .uids = (uint32_t[]){ 3 },
                                .n = 1,
                                .flags = STORE_MOVE,
                                .out = out };

        assert_int_equal(store_copy(&c, &err), 0);
        assert_non_null(m->moves);
        assert_int_equal(to->messages, 3);
        assert_int_equal(store_move_end(&c, false, &err), 0);
        assert_null(m->moves);
        assert_int_equal(m->messages, 1);
        assert_int_equal(to->messages, 2);
    }
    /* The queue tries again what was moved: it was delivered. */
    assert_true(bench_deliver(&b, "anna", 1, letter)->duplicate);
    store_mailbox_unref(&to);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* One cannot be copied: none is. */
static void test_all_or_nothing(void **state)
{
    static const uint32_t uids[] = { 2, 3, 1 };
    struct store_copied out[3];
    struct store_mailbox *m, *to;
    char name[16];
    struct bench b;
    struct err err;
    size_t n;

    (void)state;
    m = three(&b);
    to = bench_mailbox(&b, "anna", "Full");
    for (unsigned i = 0; i < N_KEYWORDS; i++) {
        (void)snprintf(name, sizeof name, "k%u", i);
        (void)keyword(to, name);
    }
    assert_int_equal(copy(m, uids, 3, to, STORE_MOVE, out, &n, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_int_equal(n, 0);
    assert_int_equal(m->messages, 3);
    assert_int_equal(to->messages, 0);
    assert_int_equal(bench_files(&b, "anna/.Full/cur"), 0);
    /* A target whose directory is gone. */
    bench_shell(&b, "rm -r anna/.Full/cur");
    assert_int_equal(copy(m, uids, 2, to, STORE_MOVE, out, &n, &err), -1);
    assert_int_equal(m->messages, 3);
    assert_int_equal(to->messages, 0);
    assert_int_equal(store_mailbox_sync(to, true, &err), 0);
    assert_int_equal(copy(m, uids, 2, to, 0, out, &n, &err), 0);
    assert_int_equal(to->messages, 2);
    store_mailbox_unref(&to);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* ---- APPEND ---- */

static void upload(struct store_upload *u, slice text, size_t piece)
{
    struct err err;

    for (size_t at = 0; at < text.n; at += piece)
        assert_int_equal(
            store_upload_write(u, slice_sub(text, at, piece), &err), 0);
}

static void test_upload(void **state)
{
    const slice text = SL("Subject: up\r\nX: \r\r\n\r\nbare\nlf\r\rcr\r\n\r");
    struct store_upload_message msg = { .flags = STORE_SEEN,
                                        .internaldate = 1000000000 };
    struct buf big CLEANUP(buf_done) = { 0 };
    struct buf got CLEANUP(buf_done) = { 0 };
    struct store_upload *u;
    struct store_mailbox *m;
    struct store_row row;
    struct bench b;
    uint32_t uids[3];
    struct err err;
    slice s;

    (void)state;
    buf_init(&big, 2 << 20);
    buf_init(&got, 2 << 20);
    buf_puts(&big, "Subject: big\r\n\r\n");
    for (unsigned i = 0; i < 40000; i++)
        buf_puts(&big, "0123456789 0123456789\r\n");
    m = three(&b);
    u = store_upload_new(m);
    msg.keywords = keyword(m, "Junk");
    assert_int_equal(store_upload_begin(u, &msg, &err), 0);
    upload(u, text, 1);
    msg = (struct store_upload_message){ .internaldate = INT64_MIN };
    assert_int_equal(store_upload_begin(u, &msg, &err), 0);
    upload(u, buf_view(&big), 8191);
    assert_int_equal(store_upload_begin(u, &msg, &err), 0);
    upload(u, text, 7);
    assert_int_equal(store_upload_count(u), 3);
    assert_int_equal(m->messages, 3);
    assert_int_equal(store_mailbox_sync(m, true, &err), 0);
    assert_int_equal(store_upload_commit(&u, uids, &err), 0);
    assert_null(u);
    assert_int_equal(uids[0], 4);
    assert_int_equal(uids[2], 6);
    assert_int_equal(m->messages, 6);
    body_of(m, 4, &got);
    assert_true(slice_eq(buf_view(&got),
                         SL("Subject: up\nX: \r\n\nbare\nlf\r\rcr\n\r")));
    body_of(m, 6, &got);
    assert_true(slice_eq(buf_view(&got),
                         SL("Subject: up\nX: \r\n\nbare\nlf\r\rcr\n\r")));
    body_of(m, 5, &got);
    assert_int_equal(got.n, big.n - 40002);
    assert_true(store_row_get(m, 4, &row));
    assert_int_equal(row.crlf_size, big.n);
    assert_true(store_cached_view(m, 4, STORE_PREVIEW, &s));
    assert_true(slice_starts(s, SL("0123456789 ")));
    assert_true(store_row_get(m, 3, &row));
    assert_int_equal(row.internaldate, 1000000000);
    assert_int_equal(row.flags, STORE_SEEN);
    assert_int_equal(bench_files(&b, "anna/tmp"), 0);
    store_mailbox_unref(&m);

    /* Without the index, the names tell what they can. */
    store_free(&b.store);
    bench_shell(&b, "rm anna/hato.index*");
    b.store = store_new(&b.cfg);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 6);
    assert_true(store_row_get(m, 0, &row));
    assert_int_equal(row.internaldate, 1000000000);
    assert_int_equal(row.flags, STORE_SEEN);
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_upload_abort(void **state)
{
    static const struct store_upload_message msg = { .flags = 0 };
    struct store_upload *u;
    struct store_mailbox *m;
    struct bench b;
    uint32_t uids[3];
    struct err err;

    (void)state;
    m = three(&b);
    u = store_upload_new(m);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(store_upload_begin(u, &msg, &err), 0);
        upload(u, slice_str(letter), 10);
    }
    store_upload_free(&u);
    assert_int_equal(bench_files(&b, "anna/tmp"), 0);
    assert_int_equal(m->messages, 3);

    /* The second cannot be put into place: the first goes as well. */
    u = store_upload_new(m);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(store_upload_begin(u, &msg, &err), 0);
        upload(u, slice_str(letter), 10);
    }
    bench_shell(&b, "rm anna/tmp/*");
    assert_int_equal(store_upload_commit(&u, uids, &err), -1);
    assert_int_equal(m->messages, 3);
    assert_int_equal(bench_files(&b, "anna/cur"), 0);
    assert_int_equal(bench_files(&b, "anna/tmp"), 0);
    store_mailbox_unref(&m);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),           cmocka_unit_test(test_move),
        cmocka_unit_test(test_all_or_nothing), cmocka_unit_test(test_upload),
        cmocka_unit_test(test_upload_abort),   cmocka_unit_test(test_views),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
