#include "store/test_util.h"

#include "rt/file.h"
#include "rt/rt.h"

/*
 * Many tasks at once: deliveries to shared accounts, big ones through tmp/, few
 * places for accounts, snapshots meanwhile, and a task order drawn by chance.
 */

enum { TASKS = 12, ACCOUNTS = 5, EACH = 260 };

static struct bench b;
static unsigned n_done;
static unsigned n_again;
static char users[ACCOUNTS][16];
static char places[ACCOUNTS][128];

struct job {
    uint64_t first_id;
    unsigned n;
    size_t bytes;
};

static void fill(struct store_draft *d, size_t bytes)
{
    static const char line[] = "The quick brown fox jumps over the lazy dog.\n";
    struct err err;

    assert_int_equal(
        store_draft_write(d, SL("Subject: loop\n\nFirst line.\n"), &err), 0);
    while (store_draft_size(d) < bytes) {
        for (int i = 0; i < 100; i++)
            assert_int_equal(store_draft_write(d, SL(line), &err), 0);
        task_yield();
    }
}

static void deliver_task(void *arg)
{
    const struct job *job = arg;
    struct store_message msg = { .return_path = SL("a@example.net") };
    struct store_rcpt *rcpts = xcalloc(ACCOUNTS, sizeof *rcpts);

    for (unsigned k = 0; k < job->n; k++) {
        struct store_draft *d;

        for (unsigned i = 0; i < ACCOUNTS; i++) {
            unsigned who = (i + (unsigned)job->first_id + k) % ACCOUNTS;

            rcpts[i] = (struct store_rcpt){ .user = slice_str(users[who]),
                                            .location = slice_str(places[who]),
                                            .has_id = true };
            if (k % 7 == 3)
                rcpts[i].mailbox = SL("Folder");
            bench_id(rcpts[i].id, (job->first_id + k) * ACCOUNTS + who);
        }
        d = store_draft_new(b.store, &msg, rcpts, ACCOUNTS);
        fill(d, job->bytes);
        store_deliver(&d);
        for (unsigned i = 0; i < ACCOUNTS; i++) {
            if (rcpts[i].failed)
                fail_msg("%s", rcpts[i].err.log);
            n_done += !rcpts[i].duplicate;
            n_again += rcpts[i].duplicate;
        }
        task_yield();
    }
    free(rcpts);
}

static void idle_task(void *arg)
{
    (void)arg;
    store_idle(b.store);
    /* The snapshots that deliveries began pin their accounts. */
    store_idle(b.store);
}

static void check_account(unsigned who)
{
    struct store_mailbox *m = bench_mailbox(&b, users[who], "INBOX");
    struct store_status st, folder;
    uint32_t last = 0;
    struct err err;

    assert_int_equal(store_mailbox_sync(m, true, &err), 0);
    store_mailbox_status(m, &st);
    for (size_t r = 0; r < store_rows(m); r++) {
        assert_true(store_row_uid(m, r) > last);
        last = store_row_uid(m, r);
    }
    store_mailbox_unref(&m);
    m = bench_mailbox(&b, users[who], "Folder");
    store_mailbox_status(m, &folder);
    store_mailbox_unref(&m);
    assert_int_equal(st.messages + folder.messages, TASKS * EACH);
    assert_int_equal(bench_files(&b, who == 0 ? "user0/tmp" : "user1/tmp"), 0);
}

static void run(uint64_t seed)
{
    static struct job jobs[2 * TASKS];

    bench_open(&b);
    store_free(&b.store);
    b.cfg.max_accounts = 3;
    b.store = store_new(&b.cfg);
    n_done = n_again = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(users[i], sizeof users[i], "user%u", i);
        (void)snprintf(places[i], sizeof places[i], "maildir:%s/user%u", b.dir,
                       i);
    }
    loop_init("test", 2);
    task_schedule_seed(seed);
    for (unsigned i = 0; i < TASKS; i++) {
        jobs[i] = (struct job){ (uint64_t)i * EACH, EACH, 100 };
        if (i == 0) /* the same again, at the same time, and big */
            jobs[i].n = 20;
        (void)task_spawn("deliver", deliver_task, &jobs[i]);
    }
    jobs[TASKS] = (struct job){ 0, EACH, 300 << 10 };
    jobs[TASKS].n = 20;
    (void)task_spawn("deliver", deliver_task, &jobs[TASKS]);
    jobs[TASKS + 1] = (struct job){ 20, EACH - 20, 100 };
    (void)task_spawn("deliver", deliver_task, &jobs[TASKS + 1]);
    loop_run_until_idle();
    (void)task_spawn("idle", idle_task, NULL);
    loop_run_until_idle();
    assert_int_equal(n_done, TASKS * EACH * ACCOUNTS);
    assert_int_equal(n_again, 20 * ACCOUNTS);
    assert_true(bench_files(&b, "user0/.Folder/new") > 0);
    assert_int_equal(access(bench_path(&b, "user0/hato.index"), F_OK), 0);
    loop_done();
    task_schedule_seed(0);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        check_account(i);
    bench_restart(&b);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        check_account(i);
    bench_close(&b);
}

static void test_loop(void **state)
{
    (void)state;
    run(0);
    run(4711);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),
    };

    return cmocka_run_group_tests_name("store-loop", tests, NULL, NULL);
}
