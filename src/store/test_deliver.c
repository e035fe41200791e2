#include "store/test_util.h"

#include "rt/file.h"

#include <dirent.h>
#include <sys/stat.h>

static const char letter[] = "From: a@example.net\n"
                             "To: b@example.org\n"
                             "Subject: one\n"
                             "\n"
                             "Hello there.\n";

static void read_body(struct store_mailbox *m, uint32_t uid, struct buf *out)
{
    int fd = -1;
    struct err err;

    assert_int_equal(store_open_body(m, uid, &fd, &err), 0);
    buf_init(out, 1 << 22);
    assert_int_equal(file_read_fd(fd, out, &err), 0);
    close_fd(&fd);
}

/* ---- retries: doc/store.md, "Delivery" */

static struct timespec written_at(const struct bench *b, const char *pattern)
{
    char name[200] = "";
    struct stat st;
    struct dirent *e;
    DIR *d = opendir(bench_path(b, pattern));

    assert_non_null(d);
    for (e = readdir(d); e != NULL; e = readdir(d))
        if (strncmp(e->d_name, "hato.index.log", 15) == 0 ||
            strstr(e->d_name, ",S=") != NULL)
            (void)snprintf(name, sizeof name, "%.180s", e->d_name);
    assert_int_equal(fstatat(dirfd(d), name, &st, 0), 0);
    (void)closedir(d);
    return st.st_mtim;
}

static bool is_later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec ||
           (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* What a retry finds may have been dropped by the kernel after a failed sync:
 * it is written again. */
static void test_retry_writes_again(void **state)
{
    struct bench b;
    struct timespec file, log;
    struct buf body;
    struct store_mailbox *m;

    (void)state;
    bench_open(&b);
    (void)bench_deliver(&b, "anna", 7, letter);
    file = written_at(&b, "anna/new");
    log = written_at(&b, "anna");
    bench_shell(&b, "sleep 0.05");
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    assert_true(is_later(written_at(&b, "anna/new"), file));
    assert_true(is_later(written_at(&b, "anna"), log));
    bench_restart(&b);
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    m = bench_mailbox(&b, "anna", "inbox");
    read_body(m, 1, &body);
    assert_non_null(strstr(buf_cstr(&body), "Hello there."));
    buf_done(&body);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* It did drop them: the retry delivers. */
static void test_retry_of_a_hurt_file(void **state)
{
    struct bench b;
    const struct store_rcpt *r;
    struct store_mailbox *m;
    struct buf body;
    struct store_status st;

    (void)state;
    bench_open(&b);
    (void)bench_deliver(&b, "anna", 6, letter);
    r = bench_deliver(&b, "anna", 7, letter);
    bench_shell(&b,
                "printf XXXX | dd of='%s/%s' conv=notrunc bs=1 seek=90 "
                "2>/dev/null",
                bench_path(&b, "anna/new"), r->file);
    r = bench_deliver(&b, "anna", 7, letter);
    assert_false(r->failed);
    assert_false(r->duplicate);
    assert_int_equal(r->uid, 3);
    assert_int_equal(b.n_notes, 1);
    assert_int_equal(bench_files(&b, "anna/new"), 2);
    assert_true(bench_deliver(&b, "anna", 6, letter)->duplicate);
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    m = bench_mailbox(&b, "anna", "inbox");
    read_body(m, 3, &body);
    assert_null(strstr(buf_cstr(&body), "XXXX"));
    buf_done(&body);
    store_mailbox_status(m, &st);
    assert_int_equal(st.messages, 2);
    assert_int_equal(store_mailbox_tidy(m, 100), 0);
    assert_int_equal(bench_files(&b, "anna/new"), 2);
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_one(void **state)
{
    struct bench b;
    const struct store_rcpt *r;
    struct store_mailbox *m;
    struct store_row row;
    struct store_status st;
    struct buf body, text;

    (void)state;
    bench_open(&b);
    r = bench_deliver(&b, "anna", 1, letter);
    assert_false(r->failed);
    assert_false(r->duplicate);
    assert_false(r->durable);
    assert_int_equal(r->uid, 1);
    assert_true(r->fs != 0);
    assert_int_equal(bench_files(&b, "anna/new"), 1);
    assert_int_equal(bench_files(&b, "anna/tmp"), 0);

    m = bench_mailbox(&b, "anna", "inbox");
    store_mailbox_status(m, &st);
    assert_int_equal(st.messages, 1);
    assert_int_equal(st.uidnext, 2);
    assert_int_equal(st.unseen, 1);
    assert_true(st.uidvalidity > 0);
    assert_true(store_row_get(m, 0, &row));
    assert_true(row.in_new);
    assert_int_equal(row.uid, 1);
    assert_memory_equal(row.delivery_id, r->id, 16);
    read_body(m, 1, &body);
    assert_int_equal(body.n, row.size);
    assert_int_equal(row.crlf_size, row.size + 8);
    assert_int_equal(row.crc, crc32c(0, body.p, body.n));
    assert_string_equal(buf_cstr(&body), "Return-Path: <from@example.net>\n"
                                         "X-Original-To: To@example.org\n"
                                         "Delivered-To: to@example.org\n"
                                         "From: a@example.net\n"
                                         "To: b@example.org\n"
                                         "Subject: one\n"
                                         "\n"
                                         "Hello there.\n");
    buf_init(&text, 4096);
    assert_true(store_cached(m, 0, STORE_ENVELOPE, &text));
    assert_true(slice_find(buf_view(&text), SL("\"one\"")) >= 0);
    buf_clear(&text);
    assert_true(store_cached(m, 0, STORE_PREVIEW, &text));
    assert_string_equal(buf_cstr(&text), "Hello there.");
    assert_false(store_cached(m, 0, STORE_DELIVERED_TO, &text));
    buf_done(&text);
    buf_done(&body);
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_known_id(void **state)
{
    struct bench b;
    const struct store_rcpt *r;
    struct store_mailbox *m;
    uint32_t uid = 1;
    struct err err;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 7, letter)->duplicate);
    r = bench_deliver(&b, "anna", 7, letter);
    assert_true(r->duplicate);
    assert_false(r->failed);
    assert_int_equal(r->uid, 1);
    bench_restart(&b);
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    assert_int_equal(bench_files(&b, "anna/new"), 1);
    /* Another user's delivery has another id, but even the same one counts
     * per account. */
    assert_false(bench_deliver(&b, "bert", 7, letter)->duplicate);

    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    assert_int_equal(bench_files(&b, "anna/new"), 0);
    store_mailbox_unref(&m);
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    bench_restart(&b);
    assert_true(bench_deliver(&b, "anna", 7, letter)->duplicate);
    assert_int_equal(bench_files(&b, "anna/new"), 0);
    r = bench_deliver(&b, "anna", 8, letter);
    assert_int_equal(r->uid, 2);
    bench_close(&b);
}

static void test_rebuild_from_names(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct store_status st;

    (void)state;
    bench_open(&b);
    for (uint64_t i = 1; i <= 20; i++)
        assert_false(bench_deliver(&b, "anna", i, letter)->failed);
    store_free(&b.store);
    bench_shell(&b, "rm anna/hato.*");
    b.cfg.instance++;
    b.store = store_new(&b.cfg);
    for (uint64_t i = 1; i <= 20; i++)
        assert_true(bench_deliver(&b, "anna", i, letter)->duplicate);
    assert_int_equal(bench_files(&b, "anna/new"), 20);
    m = bench_mailbox(&b, "anna", "INBOX");
    store_mailbox_status(m, &st);
    assert_int_equal(st.messages, 20);
    assert_int_equal(st.uidnext, 21);
    store_mailbox_unref(&m);
    bench_close(&b);
}

enum { MANY = 40 };

static struct store_rcpt many[MANY];

static void many_deliver(struct bench *b, slice body, uint64_t first_id)
{
    static char users[MANY][16];
    static char places[MANY][128];
    struct store_message msg = { 0 };
    struct store_draft *d;
    struct err err;

    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(users[i], sizeof users[i], "user%u", i);
        (void)snprintf(places[i], sizeof places[i], "maildir:%s/%s", b->dir,
                       users[i]);
        many[i] = (struct store_rcpt){ .user = slice_str(users[i]),
                                       .location = slice_str(places[i]),
                                       .has_id = true,
                                       .delivered_to = slice_str(users[i]) };
        bench_id(many[i].id, first_id + i);
    }
    d = store_draft_new(b->store, &msg, many, MANY);
    assert_int_equal(store_draft_write(d, body, &err), 0);
    store_deliver(&d);
}

static void check_many(struct bench *b, size_t size)
{
    char path[300];
    struct stat st;
    struct buf text;

    buf_init(&text, 4096);
    for (unsigned i = 0; i < MANY; i++) {
        struct store_mailbox *m;

        if (many[i].failed)
            fail_msg("%s", many[i].err.log);
        assert_false(many[i].duplicate);
        (void)snprintf(path, sizeof path, "%s/user%u/new/%s", b->dir, i,
                       many[i].file);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_nlink, MANY);
        assert_int_equal(st.st_size, size);
        m = bench_mailbox(b, buf_cstr(&text)[0] ? "" : "user0", "INBOX");
        store_mailbox_unref(&m);
    }
    buf_done(&text);
}

static void test_many(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct buf text;

    (void)state;
    bench_open(&b);
    many_deliver(&b, SL(letter), 100);
    check_many(&b, sizeof letter - 1 + sizeof "Return-Path: <>\n" - 1);
    m = bench_mailbox(&b, "user3", "INBOX");
    buf_init(&text, 4096);
    assert_true(store_cached(m, 0, STORE_DELIVERED_TO, &text));
    assert_string_equal(buf_cstr(&text), "user3");
    buf_done(&text);
    store_mailbox_unref(&m);
    many_deliver(&b, SL(letter), 100);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(many[i].duplicate);
    assert_int_equal(bench_files(&b, "user0/new"), 1);
    assert_int_equal(bench_files(&b, "user39/new"), 1);
    bench_close(&b);
}

/* Bigger than what is kept in memory: it goes through tmp/. */
static void test_many_big(void **state)
{
    struct bench b;
    struct buf big;
    size_t size;

    (void)state;
    bench_open(&b);
    buf_init(&big, 4 << 20);
    buf_puts(&big, letter);
    while (big.n < 1 << 20)
        buf_puts(&big, "The quick brown fox jumps over the lazy dog.\n");
    size = big.n + sizeof "Return-Path: <>\n" - 1;
    many_deliver(&b, buf_view(&big), 100);
    check_many(&b, size);
    assert_int_equal(bench_files(&b, "user0/tmp"), 0);
    many_deliver(&b, buf_view(&big), 100);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(many[i].duplicate);
    assert_int_equal(bench_files(&b, "user0/tmp"), 0);
    buf_done(&big);
    bench_close(&b);
}

static void test_full_links(void **state)
{
    struct bench b;
    char path[300];
    struct stat st;
    struct buf big;

    (void)state;
    bench_open(&b);
    store_free(&b.store);
    b.cfg.max_links = 3;
    b.store = store_new(&b.cfg);
    buf_init(&big, 4 << 20);
    buf_puts(&big, letter);
    while (big.n < 400 << 10)
        buf_puts(&big, "The quick brown fox jumps over the lazy dog.\n");
    for (int round = 0; round < 2; round++) {
        many_deliver(&b, round ? buf_view(&big) : SL(letter),
                     1000 * (uint64_t)(round + 1));
        for (unsigned i = 0; i < MANY; i++) {
            if (many[i].failed)
                fail_msg("%s", many[i].err.log);
            (void)snprintf(path, sizeof path, "%s/user%u/new/%s", b.dir, i,
                           many[i].file);
            assert_int_equal(stat(path, &st), 0);
            assert_in_range(st.st_nlink, 1, 3);
            assert_int_equal(st.st_size, (round ? big.n : sizeof letter - 1) +
                                             sizeof "Return-Path: <>\n" - 1);
        }
    }
    buf_done(&big);
    bench_close(&b);
}

static void test_failures(void **state)
{
    struct bench b;
    const struct store_rcpt *r;
    struct engine *other;
    struct store *second;
    struct store_config cfg;
    struct store_account *a = NULL;
    struct err err;

    (void)state;
    bench_open(&b);
    bench_shell(&b, "echo x > file");
    r = bench_deliver(&b, "file", 1, letter);
    assert_true(r->failed);
    assert_int_equal(r->err.class, ERR_TEMP);
    r = bench_deliver(&b, "file/sub", 1, letter);
    assert_true(r->failed);
    assert_int_equal(r->err.class, ERR_TEMP);
    assert_int_equal(store_account_open(b.store, SL("x"), SL("mbox:/tmp/x"),
                                        true, &a, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(store_account_open(b.store, SL("x"), SL("maildir:rel"),
                                        true, &a, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);

    /* Somebody else holds the account. */
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    other = engine_local_new();
    cfg = b.cfg;
    cfg.engine = other;
    second = store_new(&cfg);
    assert_int_equal(store_account_open(second, SL("anna"),
                                        bench_location(&b, "anna"), true, &a,
                                        &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    store_free(&second);
    engine_free(&other);

    /* tmp/ and new/ were removed by somebody: they come back. */
    bench_shell(&b, "rmdir anna/tmp");
    assert_false(bench_deliver(&b, "anna", 2, letter)->failed);

    /* The whole Maildir was removed, or is another one now. */
    bench_shell(&b, "rm -r anna");
    assert_false(bench_deliver(&b, "anna", 3, letter)->failed);
    assert_int_equal(bench_files(&b, "anna/new"), 1);
    bench_shell(&b, "mv anna berta");
    assert_int_equal(store_account_open(b.store, SL("anna"),
                                        bench_location(&b, "anna"), true, &a,
                                        &err),
                     0);
    a->checked -= 2000; /* it is looked at once a second */
    store_account_unref(&a);
    assert_false(bench_deliver(&b, "anna", 4, letter)->failed);
    assert_int_equal(bench_files(&b, "anna/new"), 1);
    assert_int_equal(bench_files(&b, "berta/new"), 1);
    bench_close(&b);
}

static void test_places(void **state)
{
    struct bench b;
    char user[16];

    (void)state;
    bench_open(&b);
    store_free(&b.store);
    b.cfg.max_accounts = 4;
    b.store = store_new(&b.cfg);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 20; i++) {
            (void)snprintf(user, sizeof user, "u%u", i);
            assert_false(
                bench_deliver(&b, user, round * 100 + i, letter)->failed);
            assert_true(b.store->n_accounts <= 4);
        }
    }
    assert_int_equal(bench_files(&b, "u7/new"), 3);
    bench_close(&b);
}

static void test_folder_and_flags(void **state)
{
    struct bench b;
    struct store_message msg = { 0 };
    struct store_rcpt r = { .user = SL("anna"),
                            .mailbox = SL("Work.H\xc3\xa4to"),
                            .flags = STORE_SEEN | STORE_FLAGGED };
    struct store_draft *d;
    struct store_mailbox *m;
    struct store_row row;
    struct store_account *a = NULL;
    struct store_usage usage;
    struct err err;

    (void)state;
    bench_open(&b);
    r.location = bench_location(&b, "anna");
    d = store_draft_new(b.store, &msg, &r, 1);
    assert_int_equal(store_draft_write(d, SL(letter), &err), 0);
    store_deliver(&d);
    assert_false(r.failed);
    assert_int_equal(bench_files(&b, "anna/.Work.H&AOQ-to/cur"), 1);
    m = bench_mailbox(&b, "anna", "Work.H\xc3\xa4to");
    assert_true(store_row_get(m, 0, &row));
    assert_int_equal(row.flags, STORE_SEEN | STORE_FLAGGED);
    assert_false(row.in_new);
    assert_int_equal(store_mailbox_sync(m, true, &err), 0);
    assert_int_equal(store_rows(m), 1);
    assert_int_equal(store_account_open(b.store, SL("anna"),
                                        bench_location(&b, "anna"), false, &a,
                                        &err),
                     0);
    store_account_usage(a, &usage);
    assert_int_equal(usage.messages, 1);
    assert_int_equal(usage.bytes, row.size);
    store_mailbox_unref(&m);
    store_account_unref(&a);
    bench_restart(&b);
    assert_int_equal(store_account_open(b.store, SL("anna"),
                                        bench_location(&b, "anna"), false, &a,
                                        &err),
                     0);
    store_account_usage(a, &usage);
    assert_int_equal(usage.messages, 1);
    assert_int_equal(usage.bytes, row.size);
    store_account_unref(&a);
    bench_close(&b);
}

static void test_fsync_always(void **state)
{
    struct bench b;
    const struct store_rcpt *r;

    (void)state;
    bench_open(&b);
    store_free(&b.store);
    b.cfg.fsync = STORE_FSYNC_ALWAYS;
    b.store = store_new(&b.cfg);
    r = bench_deliver(&b, "anna", 1, letter);
    assert_false(r->failed);
    assert_true(r->durable);
    many_deliver(&b, SL(letter), 50);
    for (unsigned i = 0; i < MANY; i++)
        assert_true(many[i].durable);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_retry_writes_again),
        cmocka_unit_test(test_retry_of_a_hurt_file),
        cmocka_unit_test(test_known_id),
        cmocka_unit_test(test_rebuild_from_names),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_many_big),
        cmocka_unit_test(test_full_links),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_folder_and_flags),
        cmocka_unit_test(test_fsync_always),
    };

    return cmocka_run_group_tests_name("store-deliver", tests, NULL, NULL);
}
