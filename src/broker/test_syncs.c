#include "broker/broker_priv.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static atomic_int n_syncs, n_running, n_most, visible, synced, fail_with,
    hold_for;
static struct syncs *syncs;
static int n_done, n_failed;

/* Everything visible when the sync begins is durable when it ends. */
static int slow_sync(int fd UNUSED)
{
    int seen = atomic_load(&visible);
    int now = atomic_fetch_add(&n_running, 1) + 1;

    if (now > atomic_load(&n_most))
        atomic_store(&n_most, now);
    atomic_fetch_add(&n_syncs, 1);
    do
        (void)nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    while (atomic_load(&visible) < atomic_load(&hold_for));
    atomic_fetch_sub(&n_running, 1);
    if (atomic_load(&fail_with) != 0) {
        errno = atomic_exchange(&fail_with, 0);
        return -1;
    }
    atomic_store(&synced, seen);
    return 0;
}

static void one_wait(void *arg)
{
    int mine = atomic_fetch_add(&visible, 1) + 1;
    struct err err;

    uint64_t since = arg != NULL ? *(uint64_t *)arg : syncs_generation(syncs);

    if (syncs_wait(syncs, 7, since, false, clock_after(5000), &err) < 0) {
        assert_int_equal(err.class, ERR_TEMP);
        n_failed++;
    } else {
        assert_true(atomic_load(&synced) >= mine); /* invariant 2 */
    }
    n_done++;
}

static void run(task_fn *fn)
{
    n_done = n_failed = 0;
    n_syncs = n_most = visible = synced = fail_with = hold_for = 0;
    loop_init("test", 4);
    syncs = syncs_new(slow_sync);
    task_spawn("test", fn, NULL);
    loop_run();
    loop_done();
    syncs_free(&syncs);
}

static void wait_all(int n)
{
    struct err err;

    while (n_done < n && task_sleep(5, &err) == 0)
        ;
    loop_stop();
}

static void many_body(void *arg UNUSED)
{
    struct err err;

    syncs_tell(syncs, 7, open("/", O_RDONLY | O_CLOEXEC));
    for (int i = 0; i < 200; i++) {
        task_spawn("wait", one_wait, NULL);
        if (i % 10 == 0)
            task_sleep(2, &err);
    }
    wait_all(200);
}

static void many_share_few_syncs(void **state UNUSED)
{
    run(many_body);
    assert_int_equal(n_failed, 0);
    assert_int_equal(n_most, 1); /* one in flight for a file system */
    assert_in_range(n_syncs, 2, 20);
}

static void failure_body(void *arg UNUSED)
{
    struct err err;

    syncs_tell(syncs, 7, open("/", O_RDONLY | O_CLOEXEC));
    fail_with = EIO;
    hold_for = 3;
    task_spawn("wait", one_wait, NULL);
    task_spawn("wait", one_wait, NULL);
    while (atomic_load(&n_running) == 0)
        (void)task_sleep(5, &err);
    task_spawn("wait", one_wait, NULL); /* written before the failure */
    wait_all(3);
}

/* Also to those whose mail was visible before it: the kernel drops what it
 * could not write and tells it once. */
static void a_failure_is_told_to_all_before_it(void **state UNUSED)
{
    run(failure_body);
    assert_int_equal(n_failed, 3);
    assert_int_equal(n_syncs, 1);
}

static void late_body(void *arg UNUSED)
{
    static uint64_t before;
    struct err err;

    syncs_tell(syncs, 7, open("/", O_RDONLY | O_CLOEXEC));
    syncs_tell(syncs, 8, open("/", O_RDONLY | O_CLOEXEC));
    before = syncs_generation(syncs);
    fail_with = EIO;
    task_spawn("wait", one_wait, NULL);
    while (n_done < 1)
        (void)task_sleep(5, &err);
    assert_int_equal(n_failed, 1);
    task_spawn("wait", one_wait, &before); /* asks late, was written early */
    task_spawn("wait", one_wait, NULL);
    while (n_done < 3)
        (void)task_sleep(5, &err);
    assert_int_equal(n_failed, 2);
    /* Another file system knows nothing of it. */
    assert_int_equal(
        syncs_wait(syncs, 8, before, true, clock_after(5000), &err), 0);
    before = 1; /* told by a broker of the past */
    assert_int_equal(
        syncs_wait(syncs, 8, before, true, clock_after(5000), &err), -1);
    loop_stop();
}

static void who_asks_late_is_told(void **state UNUSED)
{
    run(late_body);
}

static void unknown_body(void *arg UNUSED)
{
    struct err err;

    task_spawn("wait", one_wait, NULL);
    task_sleep(20, &err);
    assert_int_equal(n_done, 0);
    syncs_tell(syncs, 7, open("/", O_RDONLY | O_CLOEXEC));
    syncs_tell(syncs, 7, open("/", O_RDONLY | O_CLOEXEC));
    wait_all(1);
}

static void an_unknown_file_system_is_awaited(void **state UNUSED)
{
    run(unknown_body);
    assert_int_equal(n_failed, 0);
    assert_int_equal(n_syncs, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_share_few_syncs),
        cmocka_unit_test(a_failure_is_told_to_all_before_it),
        cmocka_unit_test(who_asks_late_is_told),
        cmocka_unit_test(an_unknown_file_system_is_awaited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
