/* Logs: framing, group commit, torn tails, and what a failure does. */
#include "engine/engine.h"

#include "base/codec.h"
#include "base/test_util.h"
#include "rt/rt.h"
#include <fcntl.h>

static char dir_name[] = "/tmp/hato-engine-XXXXXX";
static struct engine *engine;
static struct engine_dir *dir;
static struct engine_log *shared;
static unsigned n_durable;
static unsigned n_failed;

static struct engine_log_spec spec_of(const char *name, bool self_sync)
{
    return (struct engine_log_spec){ .name = name,
                                     .kind = { 'T', 'E', 'S', 'T' },
                                     .version = 1,
                                     .oldest = 1,
                                     .uuid = { 1, 2, 3 },
                                     .number = 7,
                                     .self_sync = self_sync };
}

static int setup(void **state)
{
    struct err err;

    (void)state;
    loop_init("test", 2);
    assert_non_null(mkdtemp(dir_name));
    engine = engine_local_new();
    assert_int_equal(engine_dir_open(engine, dir_name, 0, &dir, &err),
                     ENGINE_OK);
    return 0;
}

static bool remove_entry(const char *entry, void *arg)
{
    struct err err;

    (void)arg;
    assert_int_equal(engine_unlink(dir, entry, &err), ENGINE_OK);
    return true;
}

static int teardown(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(engine_list(dir, "", remove_entry, NULL, &err), ENGINE_OK);
    engine_dir_close(&dir);
    engine_free(&engine);
    assert_int_equal(rmdir(dir_name), 0);
    loop_done();
    return 0;
}

static void append_text(struct engine_log *l, const char *text)
{
    struct iovec v = { (void *)(uintptr_t)text, strlen(text) };
    struct err err;

    assert_int_equal(engine_log_append(l, 5, &v, 1, ENGINE_COPY, NULL, &err),
                     ENGINE_OK);
}

/* Count the records of a log; *end is where they stop. */
static unsigned count_records(const char *name, uint64_t *end, bool *torn)
{
    struct engine_log_spec spec = spec_of(name, false);
    struct engine_reader *r = NULL;
    struct engine_record rec;
    struct err err;
    unsigned n = 0;

    assert_int_equal(engine_reader_open(dir, &spec, &r, NULL, &err), ENGINE_OK);
    while (engine_reader_next(r, &rec, &err) == 1)
        n++;
    *end = engine_reader_end(r);
    *torn = engine_reader_torn(r);
    engine_reader_free(&r);
    return n;
}

static void test_write_and_read(void **state)
{
    struct engine_log_spec spec = spec_of("a", false);
    struct engine_log *l = NULL;
    struct engine_reader *r = NULL;
    struct engine_log_info info;
    struct engine_record rec;
    struct err err;

    (void)state;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &l, &err), ENGINE_OK);
    append_text(l, "one");
    append_text(l, "");
    append_text(l, "three");
    assert_int_equal(engine_log_end(l), 64 + 3 * 24 + 8);
    engine_log_close(&l);
    assert_int_equal(engine_log_create(dir, NULL, &spec, &l, &err),
                     ENGINE_EXISTS);

    assert_int_equal(engine_reader_open(dir, &spec, &r, &info, &err),
                     ENGINE_OK);
    assert_int_equal(info.number, 7);
    assert_int_equal(engine_reader_next(r, &rec, &err), 1);
    assert_int_equal(rec.type, 5);
    assert_slice(rec.payload, SL("one"));
    assert_int_equal(engine_reader_next(r, &rec, &err), 1);
    assert_int_equal(rec.payload.n, 0);
    assert_int_equal(engine_reader_next(r, &rec, &err), 1);
    assert_slice(rec.payload, SL("three"));
    assert_int_equal(engine_reader_next(r, &rec, &err), 0);
    assert_false(engine_reader_torn(r));
    engine_reader_free(&r);

    /* Another sort of log, another owner, a reader that is too old. */
    spec.kind[0] = 'X';
    assert_int_equal(engine_reader_open(dir, &spec, &r, &info, &err),
                     ENGINE_CHANGED);
    spec.kind[0] = 'T';
    spec.uuid[15] = 9;
    assert_int_equal(engine_reader_open(dir, &spec, &r, &info, &err),
                     ENGINE_CHANGED);
    assert_non_null(strstr(err.log, "UUID"));
    spec.uuid[15] = 0;
    spec.version = 0;
    assert_int_equal(engine_reader_open(dir, &spec, &r, &info, &err),
                     ENGINE_CHANGED);
}

/* Cut a log at every byte: whole records before the cut are read, nothing
 * else, and appending goes on from there. */
static void test_cut_everywhere(void **state)
{
    struct engine_log_spec spec = spec_of("cut", false);
    struct engine_log *l = NULL;
    struct err err;
    uint64_t ends[4];
    uint64_t end;
    char *all;
    int fd;

    (void)state;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &l, &err), ENGINE_OK);
    ends[0] = engine_log_end(l);
    for (int i = 1; i < 4; i++) {
        append_text(l, "0123456789");
        ends[i] = engine_log_end(l);
    }
    engine_log_close(&l);
    all = xcalloc(1, ends[3]);
    fd = openat(engine_dir_fd(dir), "cut", O_RDWR | O_CLOEXEC);
    assert_true(pread(fd, all, ends[3], 0) == (ssize_t)ends[3]);
    for (uint64_t cut = ends[3]; cut >= ENGINE_LOG_HEAD; cut--) {
        unsigned want = 0;
        bool torn;

        while (want < 3 && ends[want + 1] <= cut)
            want++;
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        assert_int_equal(count_records("cut", &end, &torn), want);
        assert_int_equal(end, ends[want]);
        /* The same with zeroes behind, as in a preallocated file. */
        assert_int_equal(ftruncate(fd, (off_t)ends[3] + 4096), 0);
        assert_int_equal(count_records("cut", &end, &torn), want);
        assert_int_equal(torn, cut > ends[want]);
    }
    for (uint64_t at = ENGINE_LOG_HEAD; at < ends[3]; at++) {
        char bad = (char)(all[at] ^ 0x10);
        bool torn;

        assert_true(pwrite(fd, all, ends[3], 0) == (ssize_t)ends[3]);
        assert_true(pwrite(fd, &bad, 1, (off_t)at) == 1);
        assert_int_equal(count_records("cut", &end, &torn), at < ends[1]   ? 0
                                                            : at < ends[2] ? 1
                                                                           : 2);
    }
    free(all);
    close_fd(&fd);
    assert_int_equal(engine_log_open(dir, NULL, &spec, ends[2], &l, &err),
                     ENGINE_OK);
    append_text(l, "again");
    engine_log_close(&l);
    bool torn;
    assert_int_equal(count_records("cut", &end, &torn), 3);
}

static void commit_task(void *arg)
{
    struct iovec v = { arg, strlen(arg) };
    struct err err;

    for (int i = 0; i < 20; i++) {
        if (engine_log_append(shared, 5, &v, 1, 0, NULL, &err) != ENGINE_OK ||
            engine_log_durable(shared, engine_log_end(shared), &err) !=
                ENGINE_OK) {
            n_failed++;
            continue;
        }
        n_durable++;
    }
}

static void test_group_commit(void **state)
{
    struct engine_log_spec spec = spec_of("group", true);
    static char text[] = "a record of a task";
    struct err err;
    uint64_t end;
    bool torn;

    (void)state;
    spec.preallocate_bytes = 1 << 20;
    n_durable = n_failed = 0;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &shared, &err),
                     ENGINE_OK);
    for (int i = 0; i < 10; i++)
        (void)task_spawn("commit", commit_task, text);
    loop_run_until_idle();
    assert_int_equal(n_durable, 200);
    assert_int_equal(engine_log_durable_end(shared), engine_log_end(shared));
    assert_int_equal(count_records("group", &end, &torn), 200);
    assert_int_equal(end, engine_log_end(shared));

    /* Outside any task it works too, at once. */
    append_text(shared, "blocking");
    assert_int_equal(engine_log_durable(shared, engine_log_end(shared), &err),
                     ENGINE_OK);
    assert_int_equal(engine_log_seal(shared, &err), ENGINE_OK);
    assert_false(engine_log_is_open(shared));
    engine_log_close(&shared);
    assert_int_equal(count_records("group", &end, &torn), 201);
}

static void test_push_writes_without_waiting(void **state)
{
    struct engine_log_spec spec = spec_of("push", true);
    struct engine_log *l = NULL;
    struct err err;
    uint64_t end;
    bool torn;

    (void)state;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &l, &err), ENGINE_OK);
    append_text(l, "x");
    append_text(l, "y");
    engine_log_push(l);
    loop_run_until_idle();
    assert_int_equal(count_records("push", &end, &torn), 2);
    assert_int_equal(engine_log_durable_end(l), ENGINE_LOG_HEAD);
    engine_log_close(&l);
}

/* A descriptor that cannot be written: all waiters fail, and nothing is tried
 * again (invariant 2). */
static void test_failure_closes(void **state)
{
    struct engine_log_spec spec = spec_of("fail", true);
    struct engine_log *l = NULL;
    struct err err;
    static char text[] = "lost";
    int fd;

    (void)state;
    n_durable = n_failed = 0;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &l, &err), ENGINE_OK);
    engine_log_close(&l);
    fd = openat(engine_dir_fd(dir), "fail", O_RDONLY | O_CLOEXEC);
    assert_int_equal(engine_log_adopt(engine, fd, ENGINE_LOG_HEAD, &spec,
                                      &shared, &err),
                     ENGINE_OK);
    for (int i = 0; i < 3; i++)
        (void)task_spawn("commit", commit_task, text);
    loop_run_until_idle();
    assert_int_equal(n_failed, 60);
    assert_int_equal(n_durable, 0);
    assert_false(engine_log_is_open(shared));
    assert_int_equal(engine_log_end(shared), ENGINE_LOG_HEAD);
    engine_log_close(&shared);
}

static void cancelled_task(void *arg)
{
    struct iovec v = { arg, strlen(arg) };
    struct err err;

    task_cancel(task_self());
    assert_int_equal(engine_log_append(shared, 5, &v, 1, 0, NULL, &err),
                     ENGINE_OK);
    assert_int_equal(engine_log_durable(shared, engine_log_end(shared), &err),
                     ENGINE_OK);
    assert_true(task_is_cancelled());
    n_durable++;
}

static void test_cancel_waits_for_the_outcome(void **state)
{
    struct engine_log_spec spec = spec_of("cancel", true);
    static char text[] = "kept";
    struct err err;

    (void)state;
    n_durable = 0;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &shared, &err),
                     ENGINE_OK);
    (void)task_spawn("cancelled", cancelled_task, text);
    loop_run_until_idle();
    assert_int_equal(n_durable, 1);
    engine_log_close(&shared);
}

/* ---- patience: who is about to append shares the sync */

static unsigned n_coming;
static uint64_t first_end;
static msec first_at;

static bool are_more_coming(void *arg)
{
    (void)arg;
    return n_coming > 0;
}

static MAY_WAIT void first_task(void *arg)
{
    struct err err;

    (void)arg;
    append_text(shared, "first");
    first_end = engine_log_end(shared);
    first_at = loop_now();
    assert_int_equal(engine_log_durable(shared, first_end, &err), ENGINE_OK);
    n_durable++;
}

static MAY_WAIT void second_task(void *arg)
{
    struct err err;

    (void)arg;
    /* Many turns of the loop, in far less than the patience. */
    for (int i = 0; i < 20; i++)
        task_yield();
    if (loop_now() - first_at < ENGINE_PATIENCE_MS) /* a busy machine */
        assert_int_equal(n_durable, 0);
    append_text(shared, "second");
    n_coming = 0;
    assert_int_equal(engine_log_durable(shared, engine_log_end(shared), &err),
                     ENGINE_OK);
    n_durable++;
}

static void test_patience(void **state)
{
    struct engine_log_spec spec = spec_of("patience", true);
    struct err err;

    (void)state;
    n_durable = 0;
    assert_int_equal(engine_log_create(dir, NULL, &spec, &shared, &err),
                     ENGINE_OK);
    engine_log_patience(shared, are_more_coming, NULL);
    n_coming = 1;
    (void)task_spawn("first", first_task, NULL);
    (void)task_spawn("second", second_task, NULL);
    loop_run_until_idle();
    assert_int_equal(n_durable, 2);
    /* Who never comes does not hold up the others for long. */
    n_coming = 1;
    (void)task_spawn("first", first_task, NULL);
    loop_run_until_idle();
    assert_int_equal(n_durable, 3);
    assert_int_equal(engine_log_durable_end(shared), first_end);
    engine_log_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_group_commit),
        cmocka_unit_test(test_push_writes_without_waiting),
        cmocka_unit_test(test_failure_closes),
        cmocka_unit_test(test_cancel_waits_for_the_outcome),
        cmocka_unit_test(test_patience),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
