#include "store/test_util.h"

#include "rt/file.h"

#include <fcntl.h>
#include <sys/stat.h>

static const char letter[] = "From: a@example.net\n"
                             "To: b@example.org\n"
                             "Subject: one\n"
                             "\n"
                             "Hello there.\n";

enum { LETTERS = 6 };

static void status_of(struct bench *b, struct store_status *st)
{
    struct store_mailbox *m = bench_mailbox(b, "anna", "INBOX");

    store_mailbox_status(m, st);
    store_mailbox_unref(&m);
}

/* All letters are known, none is there twice, and one more can come. */
static void check_all(struct bench *b, uint64_t n, size_t at)
{
    struct store_status st;

    for (uint64_t i = 1; i <= n; i++) {
        const struct store_rcpt *r = bench_deliver(b, "anna", i, letter);

        if (r->failed || !r->duplicate)
            fail_msg("byte %zu, letter %ju: failed %d, again %d (%s)", at,
                     (uintmax_t)i, r->failed, !r->duplicate, r->err.log);
    }
    status_of(b, &st);
    assert_int_equal(st.messages, n);
    assert_int_equal(bench_files(b, "anna/new"), n);
    assert_false(bench_deliver(b, "anna", 1000, letter)->failed);
    assert_int_equal(bench_files(b, "anna/new"), n + 1);
}

/* Put back what was saved under "keep" and hurt the file. */
static void restore(struct bench *b)
{
    store_free(&b->store);
    bench_shell(b, "rm -rf anna && cp -a keep anna");
}

static void reopen(struct bench *b)
{
    b->cfg.instance++;
    b->store = store_new(&b->cfg);
}

static void keep(struct bench *b)
{
    store_free(&b->store);
    bench_shell(b, "cp -a anna keep");
    b->store = store_new(&b->cfg);
}

static void hurt(struct bench *b, const char *file, off_t at, bool cut)
{
    int fd = open(bench_path(b, file), O_RDWR);
    char c;

    assert_true(fd >= 0);
    if (cut) {
        assert_int_equal(ftruncate(fd, at), 0);
    } else {
        assert_int_equal(pread(fd, &c, 1, at), 1);
        c = (char)~c;
        assert_int_equal(pwrite(fd, &c, 1, at), 1);
    }
    close_fd(&fd);
}

static void torture(const char *file, bool with_snapshot)
{
    struct bench b;
    struct stat st;
    struct store_mailbox *m;
    struct err err;

    bench_open(&b);
    for (uint64_t i = 1; i <= LETTERS; i++) {
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
        if (i == 3 && with_snapshot) {
            m = bench_mailbox(&b, "anna", "INBOX");
            assert_int_equal(store_mailbox_compact(m, &err), 0);
            store_mailbox_unref(&m);
        }
    }
    keep(&b);
    assert_int_equal(stat(bench_path(&b, file), &st), 0);
    if (st.st_size > 5200)
        st.st_size = 5200; /* behind that lies the reserve, zeroes */
    for (off_t at = 0; at < st.st_size; at += at < 200 ? 17 : 97) {
        restore(&b);
        hurt(&b, file, at, true);
        reopen(&b);
        check_all(&b, LETTERS, (size_t)at);
        restore(&b);
        hurt(&b, file, at, false);
        reopen(&b);
        check_all(&b, LETTERS, (size_t)at);
    }
    restore(&b);
    bench_shell(&b, "rm %s", file);
    reopen(&b);
    check_all(&b, LETTERS, 0);
    bench_close(&b);
}

static void test_torture_log(void **state)
{
    (void)state;
    torture("anna/hato.index.log", false);
}

static void test_torture_log_with_snapshot(void **state)
{
    (void)state;
    torture("anna/hato.index.log", true);
}

static void test_torture_snapshot(void **state)
{
    (void)state;
    torture("anna/hato.index", true);
}

static void test_torture_account(void **state)
{
    (void)state;
    torture("anna/hato.account", false);
}

/* A page in the middle never reached the disk, later ones did: what stands
 * there is used, and does not come to life again when the gap is filled. */
static void test_lost_page(void **state)
{
    struct bench b;
    struct store_status st;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= 30; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    keep(&b);
    for (int page = 0; page < 3; page++) {
        restore(&b);
        bench_shell(&b,
                    "dd if=/dev/zero of=anna/hato.index.log bs=4096 seek=%d "
                    "count=1 conv=notrunc status=none; rm -rf anna/cur",
                    page);
        reopen(&b);
        check_all(&b, 30, (size_t)page);
        bench_restart(&b);
        status_of(&b, &st);
        assert_int_equal(st.messages, 31);
        for (uint64_t i = 100; i < 130; i++)
            assert_false(bench_deliver(&b, "anna", i, letter)->failed);
        bench_restart(&b);
        status_of(&b, &st);
        assert_int_equal(st.messages, 61);
        assert_int_equal(bench_files(&b, "anna/new"), 61);
    }
    bench_close(&b);
}

/* UIDs that a damaged log still tells, and those that the snapshot tells, stay.
 * Numbers that may have been shown are not used again. */
static void test_uids_kept(void **state)
{
    struct bench b;
    struct store_status before, after;
    struct store_mailbox *m;
    struct store_row row;
    uint8_t id[16];
    struct err err;
    size_t r;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= LETTERS; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_compact(m, &err), 0);
    store_mailbox_unref(&m);
    assert_false(bench_deliver(&b, "anna", 50, letter)->failed);
    status_of(&b, &before);
    store_free(&b.store);
    bench_shell(&b, "rm anna/hato.index.log");
    reopen(&b);
    status_of(&b, &after);
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_int_equal(after.messages, LETTERS + 1);
    m = bench_mailbox(&b, "anna", "INBOX");
    for (uint64_t i = 1; i <= LETTERS; i++) {
        bench_id(id, i);
        r = store_row_by_delivery_id(m, id);
        assert_true(r < store_rows(m));
        assert_true(store_row_get(m, r, &row));
        assert_int_equal(row.uid, i);
    }
    bench_id(id, 50);
    r = store_row_by_delivery_id(m, id);
    assert_true(r < store_rows(m));
    assert_true(store_row_uid(m, r) > before.uidnext);
    store_mailbox_unref(&m);

    /* Without snapshot and log nobody knows: another UIDVALIDITY. */
    store_free(&b.store);
    bench_shell(&b, "rm anna/hato.index*");
    reopen(&b);
    status_of(&b, &after);
    assert_true(after.uidvalidity > before.uidvalidity);
    assert_true(after.highestmodseq > 0);
    bench_close(&b);
}

static void test_reserve(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct store_status st;
    uint64_t modseq;
    struct err err;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_reserve(m, 100, &err), 0);
    store_mailbox_unref(&m);
    keep(&b); /* with a clean end: the numbers are given back */
    assert_int_equal(bench_deliver(&b, "anna", 2, letter)->uid, 2);

    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_mailbox_reserve(m, 100, &err), 0);
    modseq = store_account_modseq(m->account);
    store_mailbox_unref(&m);
    bench_shell(&b, "rm -rf keep && cp -a anna keep");
    assert_int_equal(bench_deliver(&b, "anna", 3, letter)->uid, 3);
    restore(&b); /* the power was cut: number 3 may have been seen */
    reopen(&b);
    assert_int_equal(bench_deliver(&b, "anna", 4, letter)->uid, 103);
    status_of(&b, &st);
    assert_true(st.highestmodseq > modseq + 1);
    bench_close(&b);
}

/* ---- what a power cut leaves of a delivery ---- */

static void test_torn_file(void **state)
{
    struct bench b;
    const struct store_rcpt *r;
    struct store_status st;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    r = bench_deliver(&b, "anna", 2, letter);
    store_free(&b.store);
    bench_shell(&b, "truncate -s 20 anna/new/%s", r->file);
    reopen(&b);
    r = bench_deliver(&b, "anna", 2, letter);
    assert_false(r->failed);
    assert_false(r->duplicate);
    assert_int_equal(bench_files(&b, "anna/new"), 2);
    assert_int_equal(bench_files(&b, "anna/tmp"), 1);
    status_of(&b, &st);
    assert_int_equal(st.messages, 2);
    assert_true(b.n_notes > 0);

    /* The right size, other bytes; and the file gone altogether. */
    store_free(&b.store);
    bench_shell(&b,
                "printf X | dd of=anna/new/%s bs=1 seek=30 conv=notrunc "
                "status=none",
                r->file);
    reopen(&b);
    assert_false(bench_deliver(&b, "anna", 2, letter)->duplicate);
    store_free(&b.store);
    bench_shell(&b, "rm anna/new/*");
    reopen(&b);
    assert_false(bench_deliver(&b, "anna", 2, letter)->duplicate);
    assert_false(bench_deliver(&b, "anna", 1, letter)->duplicate);
    assert_int_equal(bench_files(&b, "anna/new"), 2);
    bench_close(&b);
}

static void cut(struct bench *b, const char *file)
{
    store_free(&b->store);
    bench_shell(b, "truncate -s 20 anna/new/%s", file);
    reopen(b);
}

/* What was durable when the store ended, or when a session was told of it, is
 * not held against its files again; what came after it is. */
static void test_durable_marks(void **state)
{
    struct store_status st;
    struct store_mailbox *m;
    struct bench b;
    char file[256];
    struct err err;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= 4; i += 2) {
        const struct store_rcpt *r = bench_deliver(&b, "anna", i, letter);

        (void)snprintf(file, sizeof file, "%s", r->file);
        m = bench_mailbox(&b, "anna", "INBOX");
        if (i == 1)
            store_idle(b.store);
        else
            assert_int_equal(store_mailbox_reserve(m, 2, &err), 0);
        assert_int_equal(m->durable_rows, i == 1 ? 1 : 2);
        store_mailbox_unref(&m);
        cut(&b, file);
        status_of(&b, &st);
        assert_int_equal(st.messages, i == 1 ? 1 : 2);
        m = bench_mailbox(&b, "anna", "INBOX");
        assert_int_equal(m->durable_rows, i == 1 ? 1 : 2);
        store_mailbox_unref(&m);
    }
    (void)snprintf(file, sizeof file, "%s",
                   bench_deliver(&b, "anna", 5, letter)->file);
    cut(&b, file);
    status_of(&b, &st);
    assert_int_equal(st.messages, 2);
    assert_false(bench_deliver(&b, "anna", 5, letter)->duplicate);
    bench_close(&b);
}

/* A file that came since the kernel started was hurt by no power cut. */
static void test_since_the_start(void **state)
{
    struct store_status st;
    struct bench b;

    (void)state;
    bench_open(&b);
    for (unsigned i = 0; i < 2; i++) {
        /* Its index is lost, and its file is short. */
        cut(&b, bench_deliver(&b, "anna", 1 + i, letter)->file);
        store_free(&b.store);
        bench_shell(&b, "rm anna/hato*");
        b.cfg.boot = i == 0 ? 1 : 0;
        reopen(&b);
        status_of(&b, &st);
        assert_int_equal(st.messages, i == 0 ? 1 : 0);
        bench_shell(&b, "rm -f anna/new/*");
    }
    bench_close(&b);
}

/* Without index record: a whole file is taken, a torn one is not; what lies in
 * tmp/ goes. */
static void test_lost_record(void **state)
{
    struct bench b;
    char torn[256];
    struct store_status st;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    keep(&b);
    assert_false(bench_deliver(&b, "anna", 2, letter)->failed);
    (void)snprintf(torn, sizeof torn, "%s",
                   bench_deliver(&b, "anna", 3, letter)->file);
    store_free(&b.store);
    bench_shell(&b,
                "cp keep/hato* anna/ && truncate -s 50 anna/new/%s && "
                "touch anna/tmp/%s anna/tmp/stranger",
                torn, torn);
    reopen(&b);
    assert_true(bench_deliver(&b, "anna", 2, letter)->duplicate);
    assert_false(bench_deliver(&b, "anna", 3, letter)->duplicate);
    status_of(&b, &st);
    assert_int_equal(st.messages, 3);
    assert_int_equal(bench_files(&b, "anna/new"), 3);
    assert_int_equal(bench_files(&b, "anna/tmp"), 2); /* lost., stranger */

    /* Where the power cut took tmp/ as well, with and without its record. */
    (void)snprintf(torn, sizeof torn, "%s",
                   bench_deliver(&b, "anna", 4, letter)->file);
    for (uint64_t i = 0; i < 2; i++) {
        store_free(&b.store);
        bench_shell(&b, "rm -r anna/tmp && truncate -s 50 anna/new/%s%s", torn,
                    i == 1 ? " && cp keep/hato* anna/" : "");
        reopen(&b);
        status_of(&b, &st);
        assert_int_equal(st.messages, 3);
        assert_int_equal(bench_files(&b, "anna/tmp"), 1);
        assert_false(bench_deliver(&b, "anna", 4, letter)->duplicate);
        (void)snprintf(torn, sizeof torn, "%s",
                       bench_deliver(&b, "anna", 4, letter)->file);
    }
    bench_close(&b);
}

/* ---- snapshots ---- */

static void check_rows(struct store_mailbox *m, uint64_t n)
{
    struct buf text;
    struct store_row row;

    buf_init(&text, 4096);
    assert_int_equal(store_rows(m), n);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t id[16];

        bench_id(id, i + 1);
        assert_true(store_row_get(m, i, &row));
        assert_int_equal(row.uid, i + 1);
        assert_memory_equal(row.delivery_id, id, 16);
        assert_int_equal(store_row_by_delivery_id(m, id), i);
        assert_int_equal(store_row_at(m, row.uid), i);
        buf_clear(&text);
        if (i % 97 == 0) {
            assert_true(store_cached(m, i, STORE_PREVIEW, &text));
            assert_string_equal(buf_cstr(&text), "Hello there.");
        }
    }
    buf_done(&text);
}

/* Big enough to be mapped; flags and expunges in both parts. */
static void test_snapshot(void **state)
{
    enum { N = 5000 };
    struct bench b;
    struct store_mailbox *m;
    struct store_change change = { .uid = 5, .flags = STORE_SEEN };
    struct store_status st;
    uint32_t gone[] = { 7, N - 1 };
    unsigned bit = 99;
    struct err err;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= N; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    check_rows(m, N);
    assert_int_equal(store_mailbox_compact(m, &err), 0);
    store_mailbox_unref(&m);
    bench_restart(&b);
    for (uint64_t i = N + 1; i <= N + 10; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_true(m->is_mapped);
    check_rows(m, N + 10);
    assert_int_equal(store_keyword_bit(m, SL("$Junk"), &bit, &err), 0);
    assert_int_equal(bit, 0);
    change.keywords = 1;
    assert_int_equal(store_set_flags(m, &change, 1, NULL, &err), 0);
    assert_int_equal(store_expunge(m, gone, 2, NULL, &err), 0);
    store_mailbox_unref(&m);
    for (int round = 0; round < 2; round++) {
        bench_restart(&b);
        m = bench_mailbox(&b, "anna", "INBOX");
        store_mailbox_status(m, &st);
        assert_int_equal(st.messages, N + 8);
        assert_int_equal(st.unseen, N + 7);
        assert_int_equal(st.uidnext, N + 11);
        assert_int_equal(store_row_flags(m, store_row_at(m, 5)), STORE_SEEN);
        assert_true(slice_eqs(store_keyword(m, 0), "$Junk"));
        assert_int_equal(store_mailbox_compact(m, &err), 0);
        assert_int_equal(store_mailbox_tidy(m, 1000), 0);
        store_mailbox_unref(&m);
        assert_int_equal(bench_files(&b, "anna/new"), N + 7);
        assert_int_equal(bench_files(&b, "anna/cur"), 1);
    }
    bench_close(&b);
}

/* A log that is mostly dead is written anew; the cached strings move along. */
static void test_rewrite(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct store_status before, after;
    struct buf text;
    uint32_t uids[90];
    struct stat st;
    struct err err;
    off_t size;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= 100; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    for (uint32_t i = 0; i < 90; i++)
        uids[i] = i + 11;
    assert_int_equal(store_expunge(m, uids, 90, NULL, &err), 0);
    assert_int_equal(store_mailbox_tidy(m, 20), 70);
    store_mailbox_status(m, &before);
    assert_int_equal(stat(bench_path(&b, "anna/hato.index.log"), &st), 0);
    size = st.st_size;
    assert_int_equal(store_mailbox_rebuild(m, &err), 0);
    assert_int_equal(stat(bench_path(&b, "anna/hato.index.log"), &st), 0);
    assert_true(st.st_size < size);
    store_mailbox_unref(&m);
    assert_false(bench_deliver(&b, "anna", 200, letter)->failed);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    store_mailbox_status(m, &after);
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_int_equal(after.messages, 11);
    assert_int_equal(after.uidnext, 102);
    assert_true(after.highestmodseq > before.highestmodseq);
    buf_init(&text, 4096);
    assert_true(store_cached(m, 0, STORE_PREVIEW, &text));
    assert_string_equal(buf_cstr(&text), "Hello there.");
    buf_done(&text);
    assert_int_equal(store_mailbox_tidy(m, 1000), 0);
    assert_int_equal(bench_files(&b, "anna/new"), 11);
    store_mailbox_unref(&m);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_log),
        cmocka_unit_test(test_torture_log_with_snapshot),
        cmocka_unit_test(test_torture_snapshot),
        cmocka_unit_test(test_torture_account),
        cmocka_unit_test(test_lost_page),
        cmocka_unit_test(test_uids_kept),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_torn_file),
        cmocka_unit_test(test_durable_marks),
        cmocka_unit_test(test_since_the_start),
        cmocka_unit_test(test_lost_record),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_rewrite),
    };

    return cmocka_run_group_tests_name("store-index", tests, NULL, NULL);
}
