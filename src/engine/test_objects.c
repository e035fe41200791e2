/* Bodies, leases, swapped objects, syncs and watches over local files. */
#include "engine/engine.h"

#include "base/test_util.h"
#include "rt/rt.h"
#include <fcntl.h>

static char dir_name[] = "/tmp/hato-engine-XXXXXX";
static struct engine *engine;
static struct engine_dir *dir;
static unsigned n_syncs;
static unsigned n_waited;
static unsigned seen_events;
static struct engine_watch *watch;

static int setup(void **state)
{
    struct err err;

    (void)state;
    loop_init("test", 2);
    assert_non_null(mkdtemp(dir_name));
    engine = engine_local_new();
    assert_int_equal(engine_dir_open(engine, dir_name, 0, &dir, &err),
                     ENGINE_OK);
    assert_int_equal(engine_mkdir(dir, "tmp", 0700, &err), ENGINE_OK);
    assert_int_equal(engine_mkdir(dir, "new", 0700, &err), ENGINE_OK);
    return 0;
}

static bool remove_entry(const char *entry, void *arg)
{
    char path[600];

    (void)snprintf(path, sizeof path, "%s/%s/%s", dir_name, (char *)arg, entry);
    (void)unlink(path);
    return true;
}

static int teardown(void **state)
{
    struct err err;
    static char subs[3][4] = { "", "tmp", "new" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(subs); i++)
        (void)engine_list(dir, subs[i], remove_entry, subs[i], &err);
    assert_int_equal(unlinkat(engine_dir_fd(dir), "tmp", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(engine_dir_fd(dir), "new", AT_REMOVEDIR), 0);
    engine_dir_close(&dir);
    engine_free(&engine);
    assert_int_equal(rmdir(dir_name), 0);
    loop_done();
    return 0;
}

static void test_bodies(void **state)
{
    static char hello[] = "hello ";
    static char world[] = "world\n";
    struct iovec v[2] = { { hello, 6 }, { world, 6 } };
    struct engine_put *put = NULL;
    struct err err;
    uint64_t size;
    char text[32];
    int fd;

    (void)state;
    assert_int_equal(engine_put(dir, "tmp/a", "new/a", v, 2, &err), ENGINE_OK);
    assert_int_equal(engine_get(dir, "new/a", &fd, &size, &err), ENGINE_OK);
    assert_int_equal(size, 12);
    assert_int_equal(read(fd, text, sizeof text), 12);
    assert_memory_equal(text, "hello world\n", 12);
    close_fd(&fd);
    /* The same id again is no trouble; a link is a second name. */
    assert_int_equal(engine_put(dir, "tmp/a", "new/a", v, 2, &err), ENGINE_OK);
    assert_int_equal(engine_link(dir, "new/a", dir, "new/b", &err), ENGINE_OK);
    assert_int_equal(engine_link(dir, "new/a", dir, "new/b", &err),
                     ENGINE_EXISTS);
    assert_int_equal(engine_unlink(dir, "new/a", &err), ENGINE_OK);
    assert_int_equal(engine_unlink(dir, "new/a", &err), ENGINE_NOENT);
    assert_int_equal(engine_size(dir, "new/b", &size, &err), ENGINE_OK);
    assert_int_equal(size, 12);

    assert_int_equal(engine_put_open(dir, "tmp/c", 0600, &put, &err),
                     ENGINE_OK);
    assert_int_equal(engine_put_write(put, v, 1, &err), ENGINE_OK);
    assert_int_equal(engine_put_write(put, v + 1, 1, &err), ENGINE_OK);
    engine_put_abort(&put);
    assert_int_equal(engine_size(dir, "tmp/c", &size, &err), ENGINE_NOENT);
    assert_int_equal(engine_put_open(dir, "../c", 0600, &put, &err),
                     ENGINE_NOENT);
}

static void test_lease(void **state)
{
    struct engine_lease *a = NULL;
    struct engine_lease *b = NULL;
    struct err err;
    uint64_t epoch;

    (void)state;
    assert_int_equal(engine_lease_take(dir, "lock", &a, &err), ENGINE_OK);
    epoch = engine_lease_epoch(a);
    assert_int_equal(engine_lease_take(dir, "lock", &b, &err), ENGINE_TRYLATER);
    assert_non_null(strstr(err.log, "locked by"));
    assert_int_equal(engine_lease_renew(a, &err), ENGINE_OK);
    assert_int_equal(engine_lease_raise(a, epoch + 10, &err), ENGINE_OK);
    engine_lease_drop(&a);
    assert_int_equal(engine_lease_take(dir, "lock", &b, &err), ENGINE_OK);
    assert_int_equal(engine_lease_epoch(b), epoch + 12);
    assert_int_equal(engine_unlink(dir, "lock", &err), ENGINE_OK);
    assert_int_equal(engine_lease_renew(b, &err), ENGINE_FENCED);
    engine_lease_drop(&b);
}

static void test_swap(void **state)
{
    struct buf got;
    struct err err;

    (void)state;
    buf_init(&got, 1000);
    assert_int_equal(engine_load(dir, "cur", &got, &err), ENGINE_NOENT);
    assert_int_equal(engine_swap(dir, "cur", SL("x"), SL("1"), 0, &err),
                     ENGINE_CHANGED);
    assert_int_equal(engine_swap(dir, "cur", SLICE_NONE, SL("1"), 0, &err),
                     ENGINE_OK);
    assert_int_equal(engine_swap(dir, "cur", SL("0"), SL("2"), ENGINE_NOSYNC,
                                 &err),
                     ENGINE_CHANGED);
    assert_int_equal(engine_swap(dir, "cur", SL("1"), SL("2"), ENGINE_NOSYNC,
                                 &err),
                     ENGINE_OK);
    assert_int_equal(engine_load(dir, "cur", &got, &err), ENGINE_OK);
    assert_slice(buf_view(&got), SL("2"));
    buf_done(&got);
}

static int counted_sync(int fd, void *arg, struct err *err)
{
    (void)fd;
    (void)arg;
    n_syncs++;
    return task_sleep(5, err);
}

static void durable_task(void *arg)
{
    struct err err;

    (void)arg;
    assert_int_equal(engine_durable(dir, MSEC_NEVER, &err), ENGINE_OK);
    n_waited++;
}

static void late_task(void *arg)
{
    struct err err;

    (void)task_sleep(2, &err);
    durable_task(arg);
}

static void test_shared_sync(void **state)
{
    (void)state;
    engine_set_syncer(engine, counted_sync, NULL);
    for (int i = 0; i < 10; i++)
        (void)task_spawn("durable", durable_task, NULL);
    /* Who comes while a sync runs is not answered by that one. */
    (void)task_spawn("late", late_task, NULL);
    loop_run_until_idle();
    assert_int_equal(n_waited, 11);
    assert_int_equal(n_syncs, 2);
    engine_set_syncer(engine, NULL, NULL);
    (void)task_spawn("durable", durable_task, NULL);
    loop_run_until_idle();
    assert_int_equal(n_waited, 12);
}

static void on_watch(void *arg, unsigned events, const char *entry)
{
    (void)arg;
    (void)entry;
    seen_events |= events;
    if ((events & ENGINE_EV_CREATED) != 0) {
        engine_watch_free(&watch);
        loop_stop();
    }
}

static void watch_task(void *arg)
{
    struct iovec v = { dir_name, 1 };
    struct err err;

    (void)arg;
    assert_int_equal(engine_put(dir, "tmp/w", "new/w", &v, 1, &err), ENGINE_OK);
}

static void give_up(struct timer *t)
{
    (void)t;
    loop_stop();
}

static void test_watch(void **state)
{
    struct timer limit = { 0 };
    struct err err;

    (void)state;
    assert_int_equal(engine_watch(dir, "new", on_watch, NULL, &watch, &err),
                     ENGINE_OK);
    timer_set(&limit, clock_after(5000), give_up);
    (void)task_spawn("watch", watch_task, NULL);
    loop_run();
    timer_cancel(&limit);
    assert_int_equal(seen_events & ENGINE_EV_CREATED, ENGINE_EV_CREATED);
    assert_null(watch);
    assert_int_equal(engine_watch(dir, "none", on_watch, NULL, &watch, &err),
                     ENGINE_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies), cmocka_unit_test(test_lease),
        cmocka_unit_test(test_swap),   cmocka_unit_test(test_shared_sync),
        cmocka_unit_test(test_watch),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
