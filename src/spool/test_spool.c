/* Writer and owner together: commits, restarts, stragglers, snapshots. */
#include "spool/test_util_spool.h"

static void close_all(struct spool **s)
{
    spool_close(s);
    assert_null(*s);
}

static void commit_and_settle_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    struct arena *a = arena_new(1 << 20);
    struct spool_detail d;
    struct err err;
    uint64_t seq = put_mail(spool_own_writer(s), 2, 'x', 5000);
    struct spool_message *m = spool_find(s, seq);
    char id[MAIL_QUEUE_ID_SIZE];

    (void)arg;
    assert_int_equal(q.n_messages, 1);
    assert_non_null(m);
    check_body(s, seq, 'x', 5000);
    assert_int_equal(spool_message_size(m), 5018);
    spool_message_id(m, id);
    assert_ptr_equal(spool_find_id(s, slice_str(id)), m);
    assert_int_equal(spool_load(s, m, a, &d, &err), 0);
    assert_slice(d.envelope.sender, SL("sender@example.org"));
    assert_slice(d.rcpts[1].addr, SL("b@example.org"));
    assert_slice(d.rcpts[1].path, SL("b@example.org"));
    assert_int_equal(d.rcpts[1].notify, ENV_NOTIFY_FAILURE);
    assert_false(spool_settle(s, m, 0, OUT_SENT));
    assert_false(spool_settle(s, m, 0, OUT_SENT));
    assert_int_equal(spool_message_pending(m), 1);
    close_all(&s);

    q = (struct watch_queue){ 0 };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 1);
    m = spool_find(s, seq);
    assert_false(spool_message_is_pending(m, 0));
    assert_true(spool_message_is_pending(m, 1));
    check_body(s, seq, 'x', 5000);
    assert_true(spool_settle(s, m, 1, OUT_BOUNCED));
    assert_null(spool_find(s, seq));
    close_all(&s);

    q = (struct watch_queue){ 0 };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 0);
    spool_tick(s);
    /* Only the own writer's fresh segment is left. */
    assert_int_equal(count_files(test_dir, "plain-"), 1);
    assert_int_equal(q.n_trouble, 0);
    close_all(&s);
    arena_free(&a);
}

static void big_messages_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    struct spool_draft *d = NULL;
    struct err err;
    uint64_t seq = put_mail(spool_own_writer(s), 1, 'B', 1000000);

    (void)arg;
    check_body(s, seq, 'B', 1000000);
    /* An aborted one leaves nothing. */
    assert_int_equal(spool_draft_open(spool_own_writer(s), 1 << 20, &d, &err),
                     0);
    assert_int_equal(spool_draft_write(d, SL("abc"), &err), 0);
    spool_draft_abort(&d);
    close_all(&s);
    assert_int_equal(count_files(test_dir, "own-"), 1);
    q = (struct watch_queue){ 0 };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 1);
    check_body(s, seq, 'B', 1000000);
    assert_true(spool_settle(s, spool_find(s, seq), 0, OUT_SENT));
    spool_tick(s);
    assert_int_equal(count_files(test_dir, "own-"), 0);
    close_all(&s);
}

static void expansions_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    struct spool_expansion v[2] = { { .addr = SL("x@example.org"),
                                      .orig = SL("a@example.org"),
                                      .owner = SL("owner-a@example.org"),
                                      .has_owner = true },
                                    { .addr = SL("y@example.org") } };
    struct arena *a = arena_new(1 << 20);
    struct spool_detail d;
    uint64_t seq = put_mail(spool_own_writer(s), 1, 'x', 100);
    struct spool_message *m = spool_find(s, seq);
    uint8_t ids[2][SPOOL_DELIVERY_ID];
    uint32_t first = 0;
    struct err err;

    (void)arg;
    assert_int_equal(spool_expand(s, m, 0, v, 2, &first, &err), 0);
    assert_int_equal(first, 1);
    assert_int_equal(spool_message_pending(m), 2);
    assert_int_equal(spool_expand(s, m, 1, v + 1, 1, &first, &err), 0);
    assert_int_equal(first, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(spool_load(s, m, a, &d, &err), 0);
        assert_int_equal(d.n_rcpts, 4);
        assert_slice(d.rcpts[3].path,
                     SL("a@example.org\nx@example.org\ny@example.org"));
        assert_int_equal(d.rcpts[3].depth, 2);
        assert_slice(d.rcpts[3].owner, SL("owner-a@example.org"));
        assert_true(d.rcpts[1].settled);
        assert_int_equal(d.rcpts[1].outcome, OUT_EXPANDED);
        assert_false(d.rcpts[2].settled);
        spool_delivery_id(s, seq, d.rcpts[3].path, ids[i]);
        close_all(&s);
        s = open_spool(test_dir, &q);
        m = spool_find(s, seq);
    }
    assert_memory_equal(ids[0], ids[1], SPOOL_DELIVERY_ID);
    close_all(&s);
    arena_free(&a);
}

/* A list of thousands, in several records of the journal and of a snapshot. */
static void large_list_task(void *arg)
{
    enum { N = 40000 };
    struct watch_queue q = { .is_loud = true };
    struct spool_conf conf = { .dir = test_dir, .segment_bytes = 1u << 20 };
    struct spool *s = NULL;
    struct spool_expansion *v = xcalloc(N, sizeof *v);
    char(*names)[100] = xcalloc(N, sizeof *names);
    struct spool_message *m;
    struct err err;
    uint64_t seq;
    uint32_t first;

    (void)arg;
    assert_int_equal(spool_open(&conf, &queue_ops, &q, &s, &err), 0);
    for (int i = 0; i < N; i++) {
        (void)snprintf(names[i], sizeof names[i],
                       "somebody.with.a.long.name.%060d@example.org", i);
        v[i].addr = slice_str(names[i]);
    }
    seq = put_mail(spool_own_writer(s), 1, 'l', 100);
    m = spool_find(s, seq);
    assert_int_equal(spool_expand(s, m, 0, v, N, &first, &err), 0);
    for (uint32_t i = 0; i < N; i += 2)
        (void)spool_settle(s, m, first + i, OUT_SENT);
    s->needs_snapshot = true;
    spool_tick(s);
    assert_false(s->needs_snapshot);
    close_all(&s);
    assert_int_equal(spool_open(&conf, &queue_ops, &q, &s, &err), 0);
    m = spool_find(s, seq);
    assert_int_equal(spool_message_rcpts(m), N + 1);
    assert_int_equal(spool_message_pending(m), N / 2);
    assert_false(spool_message_is_pending(m, first + N - 2));
    assert_true(spool_message_is_pending(m, first + N - 1));
    assert_int_equal(q.n_trouble, 0);
    close_all(&s);
    free(names);
    free(v);
}

static void deferrals_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    struct spool_deferral v[2] = { { 0, SL("4.4.1"), SL("timed out") },
                                   { 1, SL("4.4.1"), SL("timed out") } };
    struct arena *a = arena_new(1 << 20);
    struct spool_detail d;
    uint64_t seq = put_mail(spool_own_writer(s), 2, 'x', 100);
    struct spool_message *m = spool_find(s, seq);
    struct err err;

    (void)arg;
    spool_defer(s, m, 12345678, 3, v, 2);
    assert_int_equal(s->reasons.n, 1);
    spool_hold(s, m, true);
    close_all(&s);
    s = open_spool(test_dir, &q);
    m = spool_find(s, seq);
    assert_int_equal(spool_message_next_try(m), 12345678);
    assert_int_equal(spool_message_attempts(m), 3);
    assert_true(spool_message_held(m));
    assert_int_equal(spool_load(s, m, a, &d, &err), 0);
    assert_slice(d.rcpts[1].reason, SL("timed out"));
    assert_slice(d.rcpts[1].status, SL("4.4.1"));
    spool_requeue(s, m);
    spool_hold(s, m, false);
    assert_int_equal(s->reasons.n, 0);
    close_all(&s);
    s = open_spool(test_dir, &q);
    m = spool_find(s, seq);
    assert_int_equal(spool_message_attempts(m), 0);
    assert_false(spool_message_held(m));
    spool_delete(s, m);
    close_all(&s);
    q = (struct watch_queue){ 0 };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 0);
    close_all(&s);
    arena_free(&a);
}

/* A bounce settles what it is about in one step, also when only the bounce
 * itself reached the disk. */
static void bounce_settles_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    char *copy CLEANUP(free_ptr) = xasprintf("%s-crash", test_dir);
    uint64_t seq = put_mail(spool_own_writer(s), 1, 'x', 100);
    struct envelope_settles settles = { seq, 0 };
    struct envelope_rcpt to = { .addr = SL("sender@example.org") };
    struct envelope e = mail_to(&to, 1);
    struct spool_draft *d = NULL;
    struct err err;

    (void)arg;
    assert_int_equal(spool_sync(s, &err), 0);
    e.settles = &settles;
    e.n_settles = 1;
    assert_int_equal(spool_draft_open(spool_own_writer(s), 0, &d, &err), 0);
    assert_int_equal(spool_draft_write(d, SL("zzzzzz"), &err), 0);
    assert_int_equal(spool_draft_commit(&d, &e, &err), 0);
    assert_int_equal(q.n_settled, 1);
    assert_int_equal(q.n_last, 1);
    assert_null(spool_find(s, seq));
    /* Nothing of the bounce is in the journal yet. */
    assert_true(s->batch.n > 0);
    copy_dir(test_dir, copy, 0);
    close_all(&s);
    q = (struct watch_queue){ 0 };
    s = open_spool(copy, &q);
    assert_int_equal(q.n_messages, 1);
    assert_null(spool_find(s, seq));
    check_body(s, e.seq, 'z', 6);
    close_all(&s);
    remove_dir(copy, 0);
}

/* One report about more recipients than a record of the journal can settle. */
static void large_bounce_task(void *arg)
{
    enum { N = 80000 };
    struct watch_queue q = { 0 };
    struct spool_conf conf = { .dir = test_dir, .segment_bytes = 1u << 20 };
    struct spool *s = NULL;
    uint64_t seq;
    struct spool_expansion *v CLEANUP(free_ptr) = xcalloc(N, sizeof *v);
    struct envelope_settles *settles CLEANUP(free_ptr) =
        xcalloc(N, sizeof *settles);
    struct envelope_rcpt to = { .addr = SL("sender@example.org") };
    struct envelope e = mail_to(&to, 1);
    struct spool_draft *d = NULL;
    struct err err;
    uint32_t first;

    (void)arg;
    assert_int_equal(spool_open(&conf, &queue_ops, &q, &s, &err), 0);
    seq = put_mail(spool_own_writer(s), 1, 'x', 100);
    for (size_t i = 0; i < N; i++)
        v[i].addr = SL("a@example.org");
    assert_int_equal(spool_expand(s, spool_find(s, seq), 0, v, N, &first, &err),
                     0);
    for (uint32_t i = 0; i < N; i++)
        settles[i] = (struct envelope_settles){ seq, first + i };
    e.settles = settles;
    e.n_settles = N;
    assert_int_equal(spool_draft_open(spool_own_writer(s), 0, &d, &err), 0);
    assert_int_equal(spool_draft_write(d, SL("zzzzzz"), &err), 0);
    assert_int_equal(spool_draft_commit(&d, &e, &err), 0);
    assert_int_equal(q.n_settled, N);
    assert_int_equal(q.n_last, 1);
    close_all(&s);
    q = (struct watch_queue){ 0 };
    assert_int_equal(spool_open(&conf, &queue_ops, &q, &s, &err), 0);
    assert_int_equal(q.n_messages, 1);
    assert_null(spool_find(s, seq));
    check_body(s, e.seq, 'z', 6);
    close_all(&s);
}

static void one_owner_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    struct spool *other = NULL;
    struct spool_conf conf = small_conf(test_dir);
    struct err err;

    (void)arg;
    assert_int_equal(spool_open(&conf, &queue_ops, &q, &other, &err), -1);
    assert_non_null(strstr(err.log, "locked by"));
    close_all(&s);
}

/* The few live messages of an old segment move, and it goes. */
static void stragglers_task(void *arg)
{
    struct watch_queue q = { 0 };
    struct spool *s = open_spool(test_dir, &q);
    uint64_t seqs[40];
    struct err err;

    (void)arg;
    for (int i = 0; i < 40; i++)
        seqs[i] = put_mail(spool_own_writer(s), 1, 'x', 20000);
    for (int i = 0; i < 40; i++) {
        if (i != 7)
            (void)spool_settle(s, spool_find(s, seqs[i]), 0, OUT_SENT);
    }
    assert_int_equal(task_sleep(5, &err), 0);
    spool_tick(s);
    assert_int_equal(count_files(test_dir, "bulk-"), 1);
    check_body(s, seqs[7], 'x', 20000);
    assert_int_equal(count_files(test_dir, "plain-"), 1);
    close_all(&s);
    q = (struct watch_queue){ 0 };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 1);
    check_body(s, seqs[7], 'x', 20000);
    (void)spool_settle(s, spool_find(s, seqs[7]), 0, OUT_SENT);
    spool_tick(s);
    assert_int_equal(count_files(test_dir, "bulk-"), 0);
    close_all(&s);
}

/* So many changes that the journal rolls and snapshots are taken. */
static void snapshots_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct spool *s = open_spool(test_dir, &q);
    struct spool_deferral v = { 0, SL("4.0.0"), SL("a reason of some length") };
    uint64_t seqs[50];
    struct err err;

    (void)arg;
    for (int i = 0; i < 50; i++)
        seqs[i] = put_mail(spool_own_writer(s), 2, 'x', 1000);
    for (uint32_t round = 1; round <= 40; round++) {
        for (int i = 0; i < 50; i++) {
            v.rcpt = round % 2;
            spool_defer(s, spool_find(s, seqs[i]), round, round, &v, 1);
        }
        assert_int_equal(spool_sync(s, &err), 0);
        if (round % 10 == 0)
            spool_tick(s);
    }
    assert_true(s->base > 1);
    for (int i = 0; i < 25; i++)
        spool_delete(s, spool_find(s, seqs[i]));
    close_all(&s);
    assert_int_equal(q.n_trouble, 0);
    q = (struct watch_queue){ .is_loud = true };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 25);
    assert_int_equal(q.n_trouble, 0);
    for (int i = 25; i < 50; i++) {
        assert_int_equal(spool_message_attempts(spool_find(s, seqs[i])), 40);
        check_body(s, seqs[i], 'x', 1000);
    }
    close_all(&s);
}

static unsigned n_done;

static void many_task(void *arg)
{
    for (int i = 0; i < 5; i++) {
        (void)put_mail(arg, 1, 'm', 4096);
        n_done++;
    }
}

/* Commits of many tasks share syncs, and the notes come in order. */
static void group_commit_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct spool *s = open_spool(test_dir, &q);
    struct spool_writer_stats st;
    struct err err;

    (void)arg;
    n_done = 0;
    for (int i = 0; i < 100; i++)
        (void)task_spawn("many", many_task, spool_own_writer(s));
    while (n_done < 500)
        assert_int_equal(task_sleep(1, &err), 0);
    spool_writer_stats(spool_own_writer(s), &st);
    assert_int_equal(st.n_commits, 500);
    assert_int_equal(st.n_drafts, 0);
    assert_int_equal(st.draft_bytes, 0);
    assert_int_equal(q.n_messages, 500);
    assert_int_equal(q.n_trouble, 0);
    close_all(&s);
    q = (struct watch_queue){ .is_loud = true };
    s = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 500);
    close_all(&s);
}

SPOOL_TEST(commit_and_settle)
SPOOL_TEST(big_messages)
SPOOL_TEST(expansions)
SPOOL_TEST(large_list)
SPOOL_TEST(deferrals)
SPOOL_TEST(bounce_settles)
SPOOL_TEST(large_bounce)
SPOOL_TEST(one_owner)
SPOOL_TEST(stragglers)
SPOOL_TEST(snapshots)
SPOOL_TEST(group_commit)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit_and_settle),
        cmocka_unit_test(test_big_messages),
        cmocka_unit_test(test_expansions),
        cmocka_unit_test(test_large_list),
        cmocka_unit_test(test_deferrals),
        cmocka_unit_test(test_bounce_settles),
        cmocka_unit_test(test_large_bounce),
        cmocka_unit_test(test_one_owner),
        cmocka_unit_test(test_stragglers),
        cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_group_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
