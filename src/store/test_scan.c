#include "store/test_util.h"

#include "rt/file.h"

#include <fcntl.h>
#include <sys/stat.h>

static const char letter[] = "From: a@example.net\n"
                             "Subject: one\n"
                             "\n"
                             "Hello there.\n";

static void sync_now(struct store_mailbox *m)
{
    struct err err;

    if (store_mailbox_sync(m, true, &err) < 0)
        fail_msg("%s", err.log);
}

static void set_flags(struct store_mailbox *m, uint32_t uid, uint32_t flags)
{
    struct store_change c = { .uid = uid, .flags = flags };
    struct err err;

    assert_int_equal(store_set_flags(m, &c, 1, NULL, &err), 0);
}

/* Strangers deliver, with and without sizes in the name, in the order of the
 * names' times. */
static void test_strangers_deliver(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct store_row row;
    struct buf text;
    struct err err;
    int fd = -1;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    bench_shell(&b, "printf 'Subject: two\\n\\nzwei\\n' > anna/new/200.b.host;"
                    "printf 'Subject: x\\n\\n' > anna/new/100.a.host,S=12,W=14;"
                    "printf 'Subject: seen\\n\\n' > anna/cur/300.c.host:2,FS;"
                    "printf 'no' > anna/new/.hidden; mkdir anna/new/dir;"
                    "printf 'Subject: odd\\n\\n' > anna/cur/400.d.host:2,SFx");
    sync_now(m);
    assert_int_equal(m->messages, 5);
    assert_true(store_row_get(m, 1, &row));
    assert_int_equal(row.uid, 2);
    assert_true(slice_eqs(row.base_name, "100.a.host,S=12,W=14"));
    assert_int_equal(row.crlf_size, 14);
    assert_int_equal(row.cache_version, 0);
    assert_true(store_row_get(m, 2, &row));
    assert_true(slice_eqs(row.base_name, "200.b.host"));
    assert_int_equal(row.crlf_size, 0);
    assert_int_equal(store_fill(m, row.uid, &err), 0);
    assert_true(store_row_get(m, 2, &row));
    assert_int_equal(row.size, 19);
    assert_int_equal(row.crlf_size, 22);
    assert_true(row.cache_version > 0);
    buf_init(&text, 4096);
    assert_true(store_cached(m, 2, STORE_PREVIEW, &text));
    assert_string_equal(buf_cstr(&text), "zwei");
    buf_done(&text);
    assert_true(store_row_get(m, 3, &row));
    assert_int_equal(row.flags, STORE_SEEN | STORE_FLAGGED);
    assert_int_equal(store_open_body(m, row.uid, &fd, &err), 0);
    close_fd(&fd);
    assert_true(store_row_get(m, 4, &row));
    assert_int_equal(row.flags, STORE_SEEN | STORE_FLAGGED);
    assert_int_equal(row.keywords, 0); /* nobody named the letter x */
    assert_int_equal(store_open_body(m, row.uid, &fd, &err), 0);
    close_fd(&fd);
    sync_now(m);
    assert_int_equal(m->messages, 5);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 5);
    assert_true(store_row_get(m, 2, &row));
    assert_int_equal(row.crlf_size, 22);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* Flags of both sides come together; what is pending is not taken back. */
static void test_three_way(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    char name[256];
    struct store_row row;
    uint64_t modseq;
    struct err err;
    int fd = -1;

    (void)state;
    bench_open(&b);
    (void)snprintf(name, sizeof name, "%s",
                   bench_deliver(&b, "anna", 1, letter)->file);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);

    /* Ours: \Flagged, not yet in the name.  Theirs: moved to cur, seen. */
    set_flags(m, 1, STORE_FLAGGED);
    bench_shell(&b, "mv anna/new/%s anna/cur/%s:2,S", name, name);
    assert_int_equal(store_open_body(m, 1, &fd, &err), 0);
    close_fd(&fd);
    assert_int_equal(store_row_flags(m, 0), STORE_FLAGGED | STORE_SEEN);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    bench_shell(&b, "test -f anna/cur/%s:2,FS", name);

    /* They take \Seen away, we set \Answered meanwhile. */
    set_flags(m, 1, STORE_FLAGGED | STORE_SEEN | STORE_ANSWERED);
    bench_shell(&b, "mv anna/cur/%s:2,FS anna/cur/%s:2,F", name, name);
    modseq = store_row_modseq(m, 0);
    sync_now(m);
    assert_int_equal(store_row_flags(m, 0), STORE_FLAGGED | STORE_ANSWERED);
    assert_true(store_row_modseq(m, 0) > modseq);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    bench_shell(&b, "test -f anna/cur/%s:2,FR", name);

    /* Nothing changed: nothing is written. */
    modseq = store_account_modseq(m->account);
    sync_now(m);
    sync_now(m);
    assert_int_equal(store_account_modseq(m->account), modseq);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_true(store_row_get(m, 0, &row));
    assert_int_equal(row.flags, STORE_FLAGGED | STORE_ANSWERED);
    assert_int_equal(row.uid, 1);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* A message that a stranger removed does not come again by its delivery id;
 * one that he puts back is there again. */
static void test_removed(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    char name[256];

    (void)state;
    bench_open(&b);
    (void)snprintf(name, sizeof name, "%s",
                   bench_deliver(&b, "anna", 1, letter)->file);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    bench_shell(&b, "mv anna/new/%s kept", name);
    sync_now(m);
    assert_int_equal(m->messages, 0);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    store_mailbox_unref(&m);
    assert_true(bench_deliver(&b, "anna", 1, letter)->duplicate);
    bench_shell(&b, "mv kept anna/cur/%s:2,S", name);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    assert_int_equal(m->messages, 1);
    assert_int_equal(store_row_uid(m, 1), 2);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* Expunged by us, the file not yet gone: it never comes back. */
static void test_pending_unlink(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    char name[256];
    uint32_t uid = 1;
    struct err err;

    (void)state;
    bench_open(&b);
    (void)snprintf(name, sizeof name, "%s",
                   bench_deliver(&b, "anna", 1, letter)->file);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    sync_now(m);
    assert_int_equal(m->messages, 0);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    assert_int_equal(m->messages, 0);
    bench_shell(&b, "mv anna/new/%s anna/cur/%s:2,ST", name, name);
    sync_now(m);
    assert_int_equal(m->messages, 0);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    assert_int_equal(bench_files(&b, "anna/cur"), 0);
    store_mailbox_unref(&m);
    bench_close(&b);
}

/* A Maildir that was there before us, with folders. */
static bool count_name(void *arg, slice name)
{
    (void)name;
    ++*(unsigned *)arg;
    return true;
}

static void test_take_over(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct store_account *a = NULL;
    unsigned n = 0;
    struct err err;

    (void)state;
    bench_open(&b);
    bench_shell(&b, "mkdir -p anna/cur anna/new anna/tmp anna/.Sent/cur "
                    "anna/.Sent/new anna/.Sent/tmp anna/.Work\\&AOQ-.A/cur "
                    "anna/.nothing;"
                    "for i in 1 2 3; do echo x > anna/cur/$i.x.h:2,S; done;"
                    "echo y > anna/.Sent/cur/9.y.h:2,;"
                    "echo z > anna/new/5.z.h");
    assert_int_equal(bench_deliver(&b, "anna", 1, letter)->uid, 5);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 5);
    assert_int_equal(m->unseen, 2);
    a = m->account;
    assert_int_equal(store_mailbox_list(a, count_name, &n, &err), 0);
    assert_int_equal(n, 3);
    store_mailbox_unref(&m);
    m = bench_mailbox(&b, "anna", "Sent");
    assert_int_equal(m->messages, 1);
    assert_int_not_equal(m->uidvalidity, 0);
    store_mailbox_unref(&m);
    assert_int_equal(store_account_open(b.store, SL("anna"),
                                        bench_location(&b, "anna"), false, &a,
                                        &err),
                     0);
    m = NULL;
    assert_int_equal(store_mailbox_open(a, SL("None"), 0, &m, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_int_equal(store_mailbox_open(a, SL("../x"), STORE_CREATE, &m, &err),
                     -1);
    assert_int_equal(store_mailbox_open(a, SL("a..b"), STORE_CREATE, &m, &err),
                     -1);
    store_account_unref(&a);
    bench_close(&b);
}

/* The directories are read only when they changed. */
static void test_stamps(void **state)
{
    struct bench b;
    struct store_mailbox *m;
    struct err err;

    (void)state;
    bench_open(&b);
    assert_false(bench_deliver(&b, "anna", 1, letter)->failed);
    m = bench_mailbox(&b, "anna", "INBOX");
    bench_shell(&b, "touch -d '2 hours ago' anna/new anna/cur");
    sync_now(m);
    assert_true(m->new_stamp.nsec >= 0);
    /* Behind our back and behind the stamp's: not noticed. */
    bench_shell(&b,
                "echo x > anna/new/7.q.h;"
                "touch -d '@%jd.%09jd' anna/new",
                (intmax_t)m->new_stamp.sec, (intmax_t)m->new_stamp.nsec);
    assert_int_equal(store_mailbox_sync(m, false, &err), 0);
    assert_int_equal(m->messages, 1);
    bench_shell(&b, "touch -d '1 hour ago' anna/new");
    assert_int_equal(store_mailbox_sync(m, false, &err), 0);
    assert_int_equal(m->messages, 2);
    /* Within the clock tick the stamp is worth nothing. */
    bench_shell(&b, "touch anna/new");
    assert_int_equal(store_mailbox_sync(m, false, &err), 0);
    assert_true(m->new_stamp.nsec >= 0);
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_index_elsewhere(void **state)
{
    struct bench b;
    char place[300];
    struct store_message msg = { 0 };
    struct store_rcpt r = { .user = SL("anna"), .mailbox = SL("A.B") };
    struct store_draft *d;
    struct err err;

    (void)state;
    bench_open(&b);
    (void)snprintf(place, sizeof place, "maildir:%s/anna:INDEX=%s/index/anna",
                   b.dir, b.dir);
    r.location = slice_str(place);
    for (int i = 0; i < 2; i++) {
        d = store_draft_new(b.store, &msg, &r, 1);
        assert_int_equal(store_draft_write(d, SL(letter), &err), 0);
        store_deliver(&d);
        assert_false(r.failed);
        bench_restart(&b);
    }
    bench_shell(&b, "test -f index/anna/.A.B/hato.index.log && "
                    "test -f anna/hato.account && "
                    "test ! -f anna/.A.B/hato.index.log");
    assert_int_equal(r.uid, 2);
    bench_close(&b);
}

/* Where the index lies on another file system, that one is synced as well. */
static void test_index_on_another_file_system(void **state)
{
    char other[] = "/dev/shm/hato-test-XXXXXX";
    struct stat here, there;
    struct store_account *a = NULL;
    struct store_fs v[2];
    struct bench b;
    char place[300];
    struct err err;

    (void)state;
    if (mkdtemp(other) == NULL)
        skip();
    bench_open(&b);
    assert_int_equal(stat(b.dir, &here), 0);
    assert_int_equal(stat(other, &there), 0);
    (void)snprintf(place, sizeof place, "maildir:%s/ben:INDEX=%s", b.dir,
                   other);
    assert_int_equal(store_account_open(b.store, SL("ben"), slice_str(place),
                                        true, &a, &err),
                     0);
    assert_int_equal(store_account_places(a, v),
                     here.st_dev == there.st_dev ? 1 : 2);
    assert_int_equal(v[0].fs, here.st_dev);
    assert_int_equal(v[1].fs, there.st_dev);
    store_account_unref(&a);
    bench_close(&b);
    (void)rmdir(other);
}

/* A power cut may keep the index and lose new/ with what lay in it. */
static void test_lost_directory(void **state)
{
    const struct store_rcpt *r;
    struct store_mailbox *m;
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_int_equal(bench_deliver(&b, "anna", 1, letter)->uid, 1);
    bench_restart(&b);
    bench_shell(&b, "rm -r anna/new");
    r = bench_deliver(&b, "anna", 1, letter);
    assert_false(r->failed);
    assert_false(r->duplicate);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 1);
    store_mailbox_unref(&m);
    assert_int_equal(bench_files(&b, "anna/new"), 1);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strangers_deliver),
        cmocka_unit_test(test_three_way),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_pending_unlink),
        cmocka_unit_test(test_take_over),
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_index_elsewhere),
        cmocka_unit_test(test_index_on_another_file_system),
        cmocka_unit_test(test_lost_directory),
    };

    return cmocka_run_group_tests_name("store-scan", tests, NULL, NULL);
}
