#include "store/test_util.h"

#include "rt/file.h"
#include "rt/rt.h"

/* Strangers in the Maildir of a mailbox that a session has open. */

static struct bench b;
static unsigned n_woken;

static void woken(struct store_watch *w, struct store_mailbox *m)
{
    (void)w;
    (void)m;
    n_woken++;
}

static void sync_now(struct store_mailbox *m)
{
    struct err err;

    if (store_mailbox_sync(m, false, &err) < 0)
        fail_msg("%s", err.log);
}

static void deliver(uint64_t id)
{
    assert_false(bench_deliver(&b, "anna", id, "Subject: x\n\nx\n")->failed);
}

/* Until there are `n` messages, at most a second. */
static void wait_messages(struct store_mailbox *m, uint64_t n)
{
    struct err err;

    for (int i = 0; i < 100 && m->messages != n; i++)
        assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(m->messages, n);
}

static void end(void)
{
    bench_close(&b);
    loop_stop();
}

static void run(void (*fn)(void *arg))
{
    n_woken = 0;
    bench_open(&b);
    (void)task_spawn("test", fn, NULL);
    loop_run();
}

/* What is ours is not taken for a stranger's; what is not is seen at once. */
static void sync_task(void *arg)
{
    struct store_change c = { 1, STORE_SEEN, 0 };
    struct store_mailbox *m;
    uint32_t uid = 2;
    struct err err;
    char name[256];

    (void)arg;
    deliver(1);
    deliver(2);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    assert_true(m->stranger.on);
    deliver(3);
    assert_int_equal(store_set_flags(m, &c, 1, NULL, &err), 0);
    c.flags |= STORE_FLAGGED;
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    assert_int_equal(store_set_flags(m, &c, 1, NULL, &err), 0);
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    assert_int_equal(task_sleep(5, &err), 0);
    sync_now(m);
    assert_false(m->stranger.lost);
    assert_int_equal(m->messages, 2);
    assert_int_equal(store_row_flags(m, 0), c.flags);

    /* One comes, one is seen, one goes. */
    (void)snprintf(name, sizeof name, "%.*s", SLF(row_name(m, 2)));
    bench_shell(&b,
                "printf 'Subject: s\\n\\ns\\n' > anna/tmp/1.s.h;"
                "mv anna/tmp/1.s.h anna/new/1.s.h;"
                "mv anna/new/%s anna/cur/%s:2,RS",
                name, name);
    sync_now(m);
    assert_int_equal(m->messages, 3);
    assert_int_equal(store_row_flags(m, 2), STORE_ANSWERED | STORE_SEEN);
    bench_shell(&b,
                "mv anna/new/1.s.h anna/cur/1.s.h:2,F;"
                "rm anna/cur/%s:2,RS",
                name);
    sync_now(m);
    assert_int_equal(m->messages, 2);
    assert_int_equal(store_row_flags(m, 3), STORE_FLAGGED);
    c = (struct store_change){ store_row_uid(m, 3), STORE_SEEN, 0 };
    assert_int_equal(store_set_flags(m, &c, 1, NULL, &err), 0);
    assert_int_equal(store_mailbox_tidy(m, 10), 0);
    bench_shell(&b, "mv anna/cur/1.s.h:2,S anna/cur/1.s.h:2,FS");
    sync_now(m);
    assert_int_equal(store_row_flags(m, 3), STORE_FLAGGED | STORE_SEEN);
    store_mailbox_unref(&m);
    end();
}

/* Who waits is woken by itself. */
static void idle_task(void *arg)
{
    struct store_watch w = { .fn = woken };
    struct store_mailbox *m;
    struct err err;

    (void)arg;
    deliver(1);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    store_watch_add(m, &w);
    bench_shell(&b, "printf 'Subject: s\\n\\ns\\n' > anna/new/1.s.h");
    wait_messages(m, 2);
    assert_true(n_woken > 0);
    bench_shell(&b, "for i in 1 2 3 4 5; do rm anna/new/1.s.h;"
                    "echo > anna/new/2.$i.h; echo > anna/new/1.s.h; done");
    wait_messages(m, 7);
    bench_shell(&b, "rm anna/new/2.*");
    wait_messages(m, 2);
    /* More than is kept of names. */
    bench_shell(&b, "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); : > "
                    "anna/new/3.$i.with-a-long-name-that-fills-the-queue-of-"
                    "events-until-nothing-more-is-kept-of-it.example.org; "
                    "done");
    wait_messages(m, 4002);
    /* The directory is replaced. */
    bench_shell(&b, "mv anna/new anna/old; mkdir anna/new");
    for (int i = 0; i < 100 && m->messages != 0; i++)
        assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(m->messages, 0);
    bench_shell(&b, "echo > anna/new/5.x.h");
    for (int i = 0; i < 200 && m->messages != 1; i++)
        assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(m->messages, 1);
    store_watch_del(&w);
    store_mailbox_unref(&m);
    end();
}

/* No watches left: the mailboxes that nobody has open give theirs. */
static void few_task(void *arg)
{
    struct store_mailbox *one, *two;
    struct err err;

    (void)arg;
    b.store->cfg.max_watches = 3;
    one = bench_mailbox(&b, "anna", "INBOX");
    two = bench_mailbox(&b, "anna", "Two");
    sync_now(one);
    sync_now(two);
    assert_true(one->stranger.on);
    assert_false(two->stranger.on);
    bench_shell(&b, "echo > anna/.Two/new/5.x.h");
    assert_int_equal(task_sleep(60, &err), 0);
    sync_now(two);
    assert_int_equal(two->messages, 1);
    store_mailbox_unref(&one);
    b.store->no_watch_until = 0;
    sync_now(two);
    assert_true(two->stranger.on);
    assert_int_equal(b.store->n_watches, 2);
    store_mailbox_unref(&two);
    end();
}

/* A mailbox that was closed with all known is opened without a listing. */
static void times_task(void *arg)
{
    struct store_mailbox *m;
    struct dir_stamp was;
    struct err err;

    (void)arg;
    deliver(1);
    deliver(2);
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    deliver(3);
    assert_int_equal(store_mailbox_compact(m, &err), 0);
    assert_int_equal(task_sleep(60, &err), 0);
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 3);
    was = m->new_stamp;
    assert_true(was.nsec >= 0);
    /* Were it listed, this would be found. */
    bench_shell(&b, "cp -p anna/new anna/keep -r; rm anna/new/*; "
                    "touch -r anna/keep anna/new");
    store_mailbox_unref(&m);
    bench_restart(&b);
    m = bench_mailbox(&b, "anna", "INBOX");
    assert_int_equal(m->messages, 3);
    assert_int_equal(store_mailbox_sync(m, true, &err), 0);
    assert_int_equal(m->messages, 0);
    store_mailbox_unref(&m);
    end();
}

/* Names get their letters and expunged files go without being asked. */
static void tidy_task(void *arg)
{
    static struct store_change c[250];
    struct store_mailbox *m;
    uint32_t uid = 1;
    struct err err;

    (void)arg;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        deliver(i + 1);
        c[i] = (struct store_change){ i + 1, STORE_SEEN, 0 };
    }
    m = bench_mailbox(&b, "anna", "INBOX");
    sync_now(m);
    assert_int_equal(store_set_flags(m, c, ARRAY_LEN(c), NULL, &err), 0);
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    assert_int_equal(bench_files(&b, "anna/new"), ARRAY_LEN(c));
    for (int i = 0; i < 300 && bench_files(&b, "anna/cur") < 249; i++)
        assert_int_equal(task_sleep(10, &err), 0);
    assert_int_equal(bench_files(&b, "anna/cur"), 249);
    assert_int_equal(bench_files(&b, "anna/new"), 0);
    sync_now(m);
    assert_int_equal(m->messages, 249);
    assert_int_equal(task_sleep(20, &err), 0);
    store_mailbox_unref(&m);
    end();
}

static void test_tidy(void **state)
{
    (void)state;
    run(tidy_task);
}

static void test_sync(void **state)
{
    (void)state;
    run(sync_task);
}

static void test_idle(void **state)
{
    (void)state;
    run(idle_task);
}

static void test_few(void **state)
{
    (void)state;
    run(few_task);
}

static void test_times(void **state)
{
    (void)state;
    run(times_task);
}

static int setup(void **state)
{
    (void)state;
    loop_init("test", 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_done();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sync, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_few, setup, teardown),
        cmocka_unit_test_setup_teardown(test_times, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tidy, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
