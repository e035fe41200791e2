/*
 * What a disk does to the spool: full, failing, failing once.  Each case runs
 * in a process of its own with HATO_FAULT set; only a -Dfstrace=true build can.
 */
#include "spool/test_util_spool.h"

#ifdef HATO_FSTRACE

static struct spool *spool;
static struct watch_queue queue;
static bool commit_failed;

enum { EXIT_COMMIT_FAILED = 3 };

static MAY_WAIT int try_mail(size_t size, struct err *err)
{
    struct envelope_rcpt to = { .addr = SL("a@example.org") };
    struct envelope e = mail_to(&to, 1);
    struct spool_draft *d = NULL;
    char *body CLEANUP(free_ptr) = xcalloc(1, size + 1);
    int r = -1;

    memset(body, 'f', size);
    if (spool_draft_open(spool_own_writer(spool), 0, &d, err) == 0 &&
        spool_draft_write(d, slice_of(body, size), err) == 0)
        r = spool_draft_commit(&d, &e, err);
    spool_draft_abort(&d);
    return r;
}

/* Commit until one fails and until they go on; what was promised is there after
 * a restart, and what was refused is not. */
static void commits_task(void *arg)
{
    size_t size = *(size_t *)arg;
    unsigned n_ok = 0;
    unsigned n_failed = 0;
    struct err err = { 0 };

    spool = open_spool(test_dir, &queue);
    for (int i = 0; i < 12; i++) {
        if (try_mail(size, &err) == 0) {
            n_ok++;
        } else {
            n_failed++;
            assert_int_equal(err.class, ERR_TEMP);
            assert_int_equal(err.status[0], '4');
        }
    }
    assert_true(n_ok > 0);
    commit_failed = n_failed > 0;
    spool_tick(spool); /* a snapshot where the journal failed */
    spool_close(&spool);
    queue = (struct watch_queue){ 0 };
    spool = open_spool(test_dir, &queue);
    assert_int_equal(queue.n_messages, n_ok);
    spool_close(&spool);
}

/* The disk is full from the first commit on: 452, and what is there still goes
 * out and is forgotten. */
static void full_task(void *arg)
{
    uint64_t seq = 0;
    struct err err = { 0 };
    int n = 0;

    (void)arg;
    spool = open_spool(test_dir, &queue);
    while (try_mail(5000, &err) == 0 && n++ < 1000)
        seq = queue.last_seq;
    assert_string_equal(err.status, "4.3.1");
    assert_non_null(spool_find(spool, seq));
    assert_true(spool_settle(spool, spool_find(spool, seq), 0, OUT_SENT));
    assert_int_equal(spool_sync(spool, &err), 0);
    spool_close(&spool);
    spool = open_spool(test_dir, &queue);
    assert_null(spool_find(spool, seq));
    spool_close(&spool);
}

/* Run fn(arg) in a child with these faults; true: a commit failed by them, and
 * not only something behind it. */
static bool with_faults(const char *faults, task_fn *fn, void *arg)
{
    int status = 0;
    pid_t pid;

    make_test_dir();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
        assert_int_equal(setenv("HATO_FAULT", faults, 1), 0);
        loop_init("test", 2);
        in_task(fn, arg);
        loop_done();
        _exit(commit_failed ? EXIT_COMMIT_FAILED : 0);
    }
    assert_true(waitpid(pid, &status, 0) == pid);
    remove_dir(test_dir, 0);
    if (!WIFEXITED(status) ||
        (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_COMMIT_FAILED))
        fail_msg("%s: the child ended with %x", faults, (unsigned)status);
    return WEXITSTATUS(status) == EXIT_COMMIT_FAILED;
}

static void test_failed_calls(void **state)
{
    static size_t small = 5000;
    static size_t big = SPOOL_DRAFT_MEMORY + 5000;
    unsigned n_hit = 0;
    char faults[80];

    (void)state;
    /* The n-th sync fails: of a segment, of the journal, of a directory. */
    for (int n = 4; n <= 12; n++) {
        (void)snprintf(faults, sizeof faults, "fdatasync:%d:EIO", n);
        n_hit += with_faults(faults, commits_task, &small);
    }
    for (int n = 3; n <= 8; n++) {
        (void)snprintf(faults, sizeof faults, "pwritev:%d:EIO", n);
        n_hit += with_faults(faults, commits_task, &small);
    }
    assert_true(n_hit >= 6);
    assert_true(with_faults("pwrite:20:ENOSPC", commits_task, &big));
    for (int n = 18; n <= 26; n++) {
        (void)snprintf(faults, sizeof faults, "pwrite:%d:EIO", n);
        (void)with_faults(faults, commits_task, &big);
    }
}

static void test_full_disk(void **state)
{
    (void)state;
    (void)with_faults("fallocate:5+:ENOSPC", full_task, NULL);
    (void)with_faults("fallocate:7+:ENOSPC", full_task, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_calls),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    print_message("needs a build with -Dfstrace=true\n");
    return 77;
}

#endif
