#include "store/test_util.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

/*
 * A full disk: deliveries are put off (never refused), nothing half lies in
 * new/, mail can be deleted, and then there is room again.  On a small tmpfs in
 * a mount namespace of its own; skipped where that is not allowed.
 */

static char letter[8192];
static uint32_t uids[4000];

static bool write_proc(const char *path, const char *text)
{
    int fd CLEANUP(close_fd) = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* An ordinary user's own namespace: without a map no file can be made. */
static bool map_ids(uid_t uid, gid_t gid)
{
    char uids_text[64];
    char gids_text[64];

    (void)snprintf(uids_text, sizeof uids_text, "%u %u 1\n", uid, uid);
    (void)snprintf(gids_text, sizeof gids_text, "%u %u 1\n", gid, gid);
    return write_proc("/proc/self/setgroups", "deny") &&
           write_proc("/proc/self/uid_map", uids_text) &&
           write_proc("/proc/self/gid_map", gids_text);
}

static bool small_disk(const struct bench *b)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    unsigned flags = CLONE_NEWNS | (uid != 0 ? CLONE_NEWUSER : 0);

    return unshare((int)flags) == 0 && (uid == 0 || map_ids(uid, gid)) &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", b->dir, "tmpfs", 0, "size=12m,mode=0700") == 0;
}

/* Deliver until the disk is full; the number of letters that came in. */
static uint64_t fill_disk(struct bench *b, uint64_t from)
{
    for (uint64_t i = from; i < from + 9000; i++) {
        const struct store_rcpt *r = bench_deliver(b, "anna", i, letter);

        if (!r->failed)
            continue;
        assert_int_equal(r->err.class, ERR_TEMP);
        assert_string_equal(r->err.status, "4.3.1");
        return i - from;
    }
    fail_msg("the disk is never full");
    return 0;
}

static void check(struct bench *b, uint64_t n)
{
    struct store_mailbox *m = bench_mailbox(b, "anna", "INBOX");

    assert_int_equal(m->messages, n);
    assert_int_equal(bench_files(b, "anna/new"), n);
    assert_int_equal(bench_files(b, "anna/tmp"), 0);
    store_mailbox_unref(&m);
}

static void run_full(struct bench *b)
{
    uint64_t n = fill_disk(b, 1);
    struct store_mailbox *m;
    struct err err;

    assert_true(n > 50);
    check(b, n);
    /* Smaller letters fill what is left, the index's blocks as well. */
    memset(letter + 700, 0, sizeof letter - 700);
    n += fill_disk(b, 5000);
    check(b, n);
    for (uint64_t i = 1; i <= 20; i++)
        assert_true(bench_deliver(b, "anna", i, letter)->duplicate);
    m = bench_mailbox(b, "anna", "INBOX");
    for (uint32_t i = 0; i < 50; i++)
        uids[i] = i + 1;
    if (store_expunge(m, uids, 50, NULL, &err) < 0)
        fail_msg("%s", err.log);
    assert_int_equal(store_mailbox_tidy(m, 1000), 0);
    store_mailbox_unref(&m);
    check(b, n - 50);
    assert_false(bench_deliver(b, "anna", 9000, letter)->failed);
    assert_true(bench_deliver(b, "anna", 3, letter)->duplicate);
    bench_restart(b);
    n -= 49;
    check(b, n);
    assert_true(bench_deliver(b, "anna", 3, letter)->duplicate);
    /* Thousands of tiny ones, deleted at once: more than the reserve takes. */
    memcpy(letter, "Subject: tiny\n\n", 16);
    (void)fill_disk(b, 10000);
    m = bench_mailbox(b, "anna", "INBOX");
    for (uint32_t i = 0; i < ARRAY_LEN(uids); i++)
        uids[i] = i + 1;
    if (store_expunge(m, uids, ARRAY_LEN(uids), NULL, &err) < 0)
        fail_msg("%s", err.log);
    assert_int_equal(m->messages, 0);
    while (store_mailbox_tidy(m, 100) > 0) {
    }
    store_mailbox_unref(&m);
    check(b, 0);
    /* Read-only: put off as well. */
    store_free(&b->store);
    b->store = store_new(&b->cfg);
    if (mount(NULL, b->dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0) {
        const struct store_rcpt *r = bench_deliver(b, "anna", 9001, letter);

        assert_true(r->failed);
        assert_int_equal(r->err.class, ERR_TEMP);
    }
}

static void test_full(void **state)
{
    struct bench b;
    int status;
    pid_t pid;

    (void)state;
    bench_open(&b);
    memset(letter, 'x', sizeof letter - 1);
    for (size_t i = 0; i < 15; i++)
        letter[i] = "Subject: full\n\n"[i];
    for (size_t i = 79; i < sizeof letter - 1; i += 80)
        letter[i] = '\n';
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!small_disk(&b))
            _exit(77);
        run_full(&b);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    bench_close(&b);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests_name("store-full", tests, NULL, NULL);
}
