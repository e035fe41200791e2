#include "store/test_util.h"

/* Folders: made, listed, renamed, deleted; subscriptions. */

static struct store_account *account(struct bench *b)
{
    struct store_account *a = NULL;
    struct err err;

    if (store_account_open(b->store, SL("anna"), bench_location(b, "anna"),
                           true, &a, &err) < 0)
        fail_msg("%s", err.log);
    return a;
}

static bool put_folder(void *arg, const struct store_folder *f)
{
    struct buf *b = arg;

    buf_printf(b, "%.*s%s%s%s", SLF(f->name), f->exists ? "" : " -",
               f->has_children ? " +" : "", f->subscribed ? " s" : "");
    if (f->use)
        buf_printf(b, " %u", f->use);
    return buf_byte(b, '\n');
}

static void lists(struct store_account *a, const char *want)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&b, 65536);
    if (store_folders(a, put_folder, &b, &err) < 0)
        fail_msg("%s", err.log);
    assert_string_equal(buf_cstr(&b), want);
}

static void make(struct store_account *a, const char *name)
{
    struct err err;

    if (store_folder_create(a, slice_str(name), 0, &err) < 0)
        fail_msg("%s: %s", name, err.log);
}

static void test_create_and_list(void **state)
{
    struct store_account *a;
    struct bench b;
    struct err err;

    (void)state;
    bench_open(&b);
    a = account(&b);
    lists(a, "INBOX\n");
    make(a, "Work.Hato.2026");
    make(a, "Work-other");
    make(a, "\xc3\x84rger");
    make(a, "Trash");
    make(a, "INBOX.Sub");
    assert_int_equal(store_folder_create(a, SL("Bin"), STORE_USE_TRASH, &err),
                     0);
    bench_shell(&b, "test -d 'anna/.&AMQ-rger/cur'; mkdir anna/.nothing");
    lists(a, "INBOX +\n"
             "INBOX.Sub\n"
             "Bin 64\n"
             "Trash\n" /* \Trash is Bin's */
             "Work - +\n"
             "Work.Hato - +\n"
             "Work.Hato.2026\n"
             "Work-other\n"
             "\xc3\x84rger\n");
    assert_int_equal(store_folder_create(a, SL("Trash"), 0, &err), -1);
    assert_int_equal(err.sys, EEXIST);
    assert_int_equal(store_folder_create(a, SL("inbox"), 0, &err), -1);
    assert_int_equal(err.sys, EEXIST);
    store_account_unref(&a);
    bench_restart(&b);
    a = account(&b);
    assert_int_equal(store_folder_delete(a, SL("Bin"), &err), 0);
    lists(a, "INBOX +\n"
             "INBOX.Sub\n"
             "Trash 64\n"
             "Work - +\n"
             "Work.Hato - +\n"
             "Work.Hato.2026\n"
             "Work-other\n"
             "\xc3\x84rger\n");
    store_account_unref(&a);
    bench_close(&b);
}

static void test_names_refused(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
        { "..", 2 },   { "a..b", 4 },     { ".a", 2 },    { "a.", 2 },
        { "../x", 4 }, { "a/b", 3 },      { "/etc", 4 },  { "a\0b", 3 },
        { "a\nb", 3 }, { "\xff\xfe", 2 }, { "a\x7f", 2 },
    };

    char longer[300];
    struct store_account *a;
    struct bench b;
    struct err err;

    (void)state;
    bench_open(&b);
    a = account(&b);
    make(a, "ok");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        slice name = slice_of(bad[i].p, bad[i].n);

        assert_false(store_folder_name_ok(name, &err));
        assert_int_equal(store_folder_create(a, name, 0, &err), -1);
        assert_int_equal(err.sys, EINVAL);
        assert_int_equal(err.class, ERR_PERM);
        assert_int_equal(store_folder_delete(a, name, &err), -1);
        assert_int_equal(store_folder_rename(a, SL("ok"), name, &err), -1);
        assert_int_equal(store_subscribe(a, name, true, &err), -1);
    }
    memset(longer, 'x', sizeof longer);
    assert_int_equal(
        store_folder_create(a, slice_of(longer, sizeof longer), 0, &err), -1);
    assert_int_equal(err.sys, EINVAL);
    lists(a, "INBOX\nok\n");
    store_account_unref(&a);
    bench_close(&b);
}

static const struct store_rcpt *deliver(struct bench *b, const char *folder,
                                        uint64_t id)
{
    struct store_message msg = { .return_path = SL("from@example.net") };
    static struct store_rcpt r;
    struct store_draft *d;
    struct err err;

    r = (struct store_rcpt){ .user = SL("anna"),
                             .location = bench_location(b, "anna"),
                             .mailbox = slice_str(folder),
                             .has_id = true };
    bench_id(r.id, id);
    d = store_draft_new(b->store, &msg, &r, 1);
    assert_int_equal(store_draft_write(d, SL("Subject: x\n\nx\n"), &err), 0);
    store_deliver(&d);
    assert_false(r.failed);
    return &r;
}

/* Whoever has it open goes on; ids, numbers and mail stay. */
static void test_rename(void **state)
{
    struct store_status was, now;
    struct store_mailbox *m;
    struct store_account *a;
    struct bench b;
    struct err err;
    int fd = -1;

    (void)state;
    bench_open(&b);
    a = account(&b);
    make(a, "A");
    make(a, "A.B");
    make(a, "A.B.C");
    make(a, "AB");
    (void)deliver(&b, "A.B", 1);
    m = bench_mailbox(&b, "anna", "A.B");
    store_mailbox_status(m, &was);
    assert_int_equal(store_folder_rename(a, SL("A"), SL("A.X"), &err), -1);
    assert_int_equal(err.sys, EINVAL);
    assert_int_equal(store_folder_rename(a, SL("A"), SL("AB"), &err), -1);
    assert_int_equal(err.sys, EEXIST);
    assert_int_equal(store_folder_rename(a, SL("Z"), SL("Y"), &err), -1);
    assert_int_equal(err.sys, ENOENT);
    assert_int_equal(store_folder_rename(a, SL("A"), SL("N.\xc3\xa4"), &err),
                     0);
    lists(a, "INBOX\n"
             "AB\n"
             "N - +\n"
             "N.\xc3\xa4 +\n"
             "N.\xc3\xa4.B +\n"
             "N.\xc3\xa4.B.C\n");
    assert_true(slice_eqs(store_mailbox_name(m), "N.\xc3\xa4.B"));
    assert_int_equal(store_open_body(m, 1, &fd, &err), 0);
    close_fd(&fd);
    (void)deliver(&b, "N.\xc3\xa4.B", 2);
    assert_int_equal(m->messages, 2);
    store_mailbox_unref(&m);
    store_account_unref(&a);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "N.\xc3\xa4.B");
    store_mailbox_status(m, &now);
    assert_memory_equal(now.guid, was.guid, 16);
    assert_int_equal(now.uidvalidity, was.uidvalidity);
    assert_int_equal(now.messages, 2);
    assert_int_equal(now.uidnext, 3);
    store_mailbox_unref(&m);
    bench_close(&b);
}

static void test_rename_inbox(void **state)
{
    struct store_mailbox *m;
    struct store_account *a;
    struct bench b;
    struct err err;

    (void)state;
    bench_open(&b);
    a = account(&b);
    make(a, "INBOX.Sub");
    (void)deliver(&b, "INBOX", 1);
    (void)deliver(&b, "INBOX", 2);
    assert_int_equal(store_folder_rename(a, SL("INBOX"), SL("Old"), &err), 0);
    lists(a, "INBOX +\nINBOX.Sub\nOld\n");
    m = bench_mailbox(&b, "anna", "Old");
    assert_int_equal(m->messages, 2);
    store_mailbox_unref(&m);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 0);
    assert_int_equal(m->uidnext, 3);
    store_mailbox_unref(&m);
    store_account_unref(&a);
    bench_close(&b);
}

static void woken(struct store_watch *w, struct store_mailbox *m)
{
    (void)m;
    w->fn = NULL;
}

/* Deleted under somebody's hands; its mail does not come again. */
static void test_delete(void **state)
{
    struct store_watch w = { .fn = woken };
    struct store_mailbox *m, *again;
    struct store_account *a;
    struct store_change c = { 1, STORE_SEEN, 0 };
    uint8_t guid[16];
    struct bench b;
    struct err err;
    int fd = -1;

    (void)state;
    bench_open(&b);
    a = account(&b);
    make(a, "A");
    make(a, "A.B");
    (void)deliver(&b, "A", 1);
    m = bench_mailbox(&b, "anna", "A");
    memcpy(guid, m->guid, 16);
    store_watch_add(m, &w);
    assert_int_equal(store_folder_delete(a, SL("INBOX"), &err), -1);
    assert_int_equal(err.sys, EPERM);
    assert_int_equal(store_folder_delete(a, SL("A"), &err), 0);
    assert_null(w.fn);
    assert_true(store_mailbox_is_gone(m));
    lists(a, "INBOX\nA - +\nA.B\n");
    assert_int_equal(store_folder_delete(a, SL("A"), &err), -1);
    assert_int_equal(err.sys, ENOTEMPTY);
    assert_int_equal(bench_files(&b, "anna/tmp"), 0);
    assert_int_equal(store_set_flags(m, &c, 1, NULL, &err), -1);
    assert_int_equal(err.sys, ENOENT);
    assert_int_equal(store_open_body(m, 1, &fd, &err), -1);
    assert_int_equal(store_mailbox_sync(m, true, &err), -1);
    make(a, "A");
    again = bench_mailbox(&b, "anna", "A");
    assert_ptr_not_equal(again, m);
    assert_memory_not_equal(again->guid, guid, 16);
    assert_true(again->uidvalidity > m->uidvalidity);
    store_watch_del(&w);
    store_mailbox_unref(&m);
    assert_true(deliver(&b, "A", 1)->duplicate);
    store_mailbox_unref(&again);
    store_account_unref(&a);
    bench_close(&b);
}

static void test_subscriptions(void **state)
{
    struct store_account *a;
    struct bench b;
    struct err err;

    (void)state;
    bench_open(&b);
    a = account(&b);
    make(a, "A.\xc3\xa4");
    assert_int_equal(store_subscribe(a, SL("A.\xc3\xa4"), true, &err), 0);
    assert_int_equal(store_subscribe(a, SL("inbox"), true, &err), 0);
    assert_int_equal(store_subscribe(a, SL("Gone"), true, &err), 0);
    assert_int_equal(store_subscribe(a, SL("Gone"), true, &err), 0);
    lists(a, "INBOX s\nA - +\nA.\xc3\xa4 s\nGone - s\n");
    bench_shell(&b, "printf 'V\\t2\\n\\nA\\t&AOQ-\\nINBOX\\nGone\\n' |"
                    "cmp - anna/subscriptions");
    assert_int_equal(store_subscribe(a, SL("Gone"), false, &err), 0);
    lists(a, "INBOX s\nA - +\nA.\xc3\xa4 s\n");
    /* The old format stays what it is. */
    bench_shell(&b, "printf 'A\\nB.C\\n../x\\n\\n' > anna/subscriptions");
    lists(a, "INBOX\nA - + s\nA.\xc3\xa4\nB.C - s\n");
    assert_int_equal(store_subscribe(a, SL("D"), true, &err), 0);
    bench_shell(&b, "printf 'A\\nB.C\\n../x\\nD\\n' |"
                    "cmp - anna/subscriptions");
    /* Courier's, until we write our own. */
    bench_shell(&b, "rm anna/subscriptions;"
                    "printf 'INBOX\\nINBOX.A.&AOQ-\\nINBOX.E\\n' >"
                    "anna/courierimapsubscribed");
    lists(a, "INBOX s\nA - +\nA.\xc3\xa4 s\nE - s\n");
    assert_int_equal(store_subscribe(a, SL("E"), false, &err), 0);
    lists(a, "INBOX s\nA - +\nA.\xc3\xa4 s\n");
    store_account_unref(&a);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_list),
        cmocka_unit_test(test_names_refused),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_rename_inbox),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_subscriptions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
