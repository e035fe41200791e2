/*
 * covers: default_process_limit default_destination_concurrency_limit
 * covers: _destination_concurrency_limit local_destination_concurrency_limit
 * covers: default_destination_recipient_limit _destination_recipient_limit
 * covers: local_destination_recipient_limit initial_destination_concurrency
 * covers: _initial_destination_concurrency defer_transports
 * covers: qmgr_message_active_limit qmgr_message_recipient_limit
 */
#include "queue/test_util_queue.h"

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

/* A small fresh message: one request with all that `local` needs. */
static void one_in(struct world *w)
{
    const struct asked *r;
    const char *log;

    w->keep_last = true;
    world_mail(w, "a@far.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 1);
    r = world_last(w, "u@virtual.example");
    assert_string_equal(r->sender, "a@far.example");
    assert_string_equal(r->transport, "virtual");
    assert_string_equal(r->nexthop, "virtual.example");
    assert_string_equal(r->path, "u@virtual.example");
    assert_int_equal(r->depth, 0);
    assert_slice(buf_view(&w->last),
                 SL("Received: from there\nFrom: a@far.example\nSubject: s\n\n"
                    "body\n"));
    assert_int_equal(world_count(w), 0);
    log = world_log(w);
    assert_has(log, ": from=<a@far.example>, size=58, nrcpt=1 (queue active)");
    assert_has(log, ": removed\n");
    assert_has(log, r->queue_id);
    assert_has_not(log, "status=");
}

RUN(one, "");

/* Recipients of one destination share a request, in bounds. */
static char *many(const char *domain, size_t n)
{
    struct buf b;

    buf_init(&b, 8 << 20);
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(&b, "u%zu@%s ", i, domain);
    (void)buf_cstr(&b);
    return b.p;
}

static void groups_in(struct world *w)
{
    char *rcpts = many("virtual.example", 1001);

    world_mail(w, "a@far.example", "a@one.example b@two.example c@one.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 2);
    assert_int_equal(world_last(w, "a@one.example")->job,
                     world_last(w, "c@one.example")->job);
    w->n_jobs = 0;
    world_mail(w, "a@far.example", rcpts);
    world_settle(w);
    assert_int_equal(w->n_jobs, 2); /* QUEUE_JOB_RCPTS */
    free(rcpts);
    w->n_jobs = 0;
    world_mail(w, "a@far.example", "a@local.example b@local.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 2); /* local_destination_recipient_limit */
    assert_int_equal(world_count(w), 0);
}

RUN(groups, "");

static void recipient_limit_in(struct world *w)
{
    char *rcpts = many("virtual.example", 100);

    world_mail(w, "a@far.example", rcpts);
    world_settle(w);
    assert_int_equal(w->n_jobs, 10);
    assert_int_equal(w->n_asked, 100);
    w->n_jobs = 0;
    world_mail(w, "a@far.example", "a@local.example b@local.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 1);
    free(rcpts);
}

RUN(recipient_limit, "virtual_destination_recipient_limit = 10\n"
                     "local_destination_recipient_limit = 5\n");

static void default_recipient_limit_in(struct world *w)
{
    char *rcpts = many("virtual.example", 100);

    world_mail(w, "a@far.example", rcpts);
    world_settle(w);
    assert_int_equal(w->n_jobs, 4);
    free(rcpts);
}

RUN(default_recipient_limit, "default_destination_recipient_limit = 25\n");

/* ------------------------------------------------------------ concurrency */

/* Deliveries that end when all mail is there and nothing more begins. */
static struct waitq gate;
static bool gate_is_open;

static int gated(struct world *w, unsigned job, struct err *err)
{
    (void)w;
    (void)job;
    return gate_is_open ? 0 : waitq_wait(&gate, clock_after(MINUTE), err);
}

static void pause_ms(msec ms)
{
    (void)task_sleep(ms, &(struct err){ .sys = 0 });
}

static void open_gate(struct world *w)
{
    gate_is_open = true;
    waitq_wake_all(&gate);
    world_settle(w);
    assert_int_equal(world_count(w), 0);
}

/* Fill the queue; `want` jobs run at once and no more. */
static void fill(struct world *w, const char *rcpt, unsigned n, unsigned want)
{
    w->before = gated;
    w->max_open = 0;
    waitq_init(&gate);
    gate_is_open = false;
    for (unsigned i = 0; i < n; i++)
        world_mail(w, "a@far.example", rcpt);
    for (unsigned i = 0; i < 5000 && w->n_open < want; i++)
        pause_ms(1);
    pause_ms(5);
    assert_int_equal(w->max_open, want);
}

static void burst(struct world *w, const char *rcpt, unsigned n, unsigned want)
{
    fill(w, rcpt, n, want);
    open_gate(w);
    assert_int_equal(w->max_open, want);
}

/* One user's mail is delivered two at a time, other users' beside it. */
static void local_limit_in(struct world *w)
{
    burst(w, "u@local.example", 20, 2);
    burst(w, "u@local.example v@local.example", 20, 4);
    burst(w, "u@virtual.example", 100, 100); /* no limit that nobody wrote */
}

RUN(local_limit, "");

static void virtual_limit_in(struct world *w)
{
    burst(w, "u@virtual.example", 30, 3);
}

RUN(virtual_limit, "virtual_destination_concurrency_limit = 3\n");

static void default_limit_in(struct world *w)
{
    burst(w, "u@virtual.example", 60, 7);
}

RUN(default_limit, "default_destination_concurrency_limit = 7\n"
                   "initial_destination_concurrency = 9\n");

/* A destination starts with initial_destination_concurrency and gets one more
 * with each job that ended. */
static void initial_in(struct world *w)
{
    fill(w, "u@virtual.example", 20, 2);
    assert_true(waitq_wake_one(&gate));
    for (unsigned i = 0; i < 5000 && w->max_open < 3; i++)
        pause_ms(1);
    pause_ms(5);
    assert_int_equal(w->max_open, 3);
    open_gate(w);
}

RUN(initial, "default_destination_concurrency_limit = 9\n"
             "initial_destination_concurrency = 2\n");

static void initial_own_in(struct world *w)
{
    initial_in(w);
}

RUN(initial_own, "default_destination_concurrency_limit = 9\n"
                 "virtual_initial_destination_concurrency = 2\n");

static void process_limit_in(struct world *w)
{
    burst(w, "u@virtual.example", 40, 2 * QUEUE_JOBS_PER_PROCESS);
}

RUN(process_limit, "default_process_limit = 2\n");

static void active_limit_in(struct world *w)
{
    burst(w, "u@virtual.example", 40, 5);
}

RUN(active_limit, "qmgr_message_active_limit = 5\n");

static void rcpt_limit_in(struct world *w)
{
    burst(w, "u@virtual.example v@virtual.example w@virtual.example", 40,
          4); /* 3 messages are below 10, the 4th fits */
}

RUN(rcpt_limit, "qmgr_message_recipient_limit = 10\n");

/* ------------------------------------------------------------ lost answers */

static int fail_twice(struct world *w, unsigned job, struct err *err)
{
    (void)w;
    return job <= 2 ? err_temp(err, "the peer is gone") : 0;
}

static void lost_in(struct world *w)
{
    w->before = fail_twice;
    world_mail(w, "a@far.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 3);
    assert_string_equal(w->asked[0].id, w->asked[2].id);
    assert_int_equal(world_count(w), 0);
    assert_has_not(world_log(w), "status=");
}

RUN(lost, "");

/* What a partial answer settled is not asked again. */
static int partial_then_gone(struct world *w, unsigned job, struct err *err)
{
    struct buf b;
    struct buf one;

    if (job > 1)
        return 0;
    buf_init(&b, 4096);
    buf_init(&one, 4096);
    (void)attr_put_u64(&b, AT_SEQ, *(uint64_t *)w->arg);
    (void)attr_put_u64(&one, AT_RCPT_INDEX, 1);
    (void)attr_put_u64(&one, AT_OUTCOME, OUT_SENT);
    (void)attr_put(&b, AT_RCPT, buf_view(&one));
    queue_partial(w->q, buf_view(&b));
    buf_done(&b);
    buf_done(&one);
    return err_temp(err, "the peer is gone");
}

static void partial_in(struct world *w)
{
    uint64_t seq = 0;

    w->arg = &seq;
    w->before = partial_then_gone;
    seq = world_mail(w, "a@far.example",
                     "u@virtual.example v@virtual.example w@virtual.example");
    world_settle(w);
    assert_int_equal(world_asked(w, "u@virtual.example"), 2);
    assert_int_equal(world_asked(w, "v@virtual.example"), 1);
    assert_int_equal(world_asked(w, "w@virtual.example"), 2);
    assert_int_equal(world_count(w), 0);
}

RUN(partial, "");

/* ---------------------------------------------- a delivery without an end */

static int never_ends(struct world *w, unsigned job, struct err *err)
{
    (void)w;
    (void)job;
    while (task_wait(MSEC_NEVER, err) == 0)
        continue;
    return -1;
}

static void wait_for_job(struct world *w)
{
    for (unsigned i = 0; i < 5000 && w->n_jobs == 0; i++)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    assert_int_equal(w->n_jobs, 1);
}

/* What was not answered is asked again after the next start, with its id. */
static void assert_asked_again(struct world *w)
{
    assert_has_not(world_log(w), "status=");
    w->before = NULL;
    world_open(w, "");
    world_settle(w);
    assert_int_equal(w->n_jobs, 2);
    assert_string_equal(w->asked[0].id, w->asked[1].id);
    assert_int_equal(world_count(w), 0);
}

static void hang_stop_in(struct world *w)
{
    w->before = never_ends;
    world_mail(w, "a@far.example", "u@virtual.example");
    wait_for_job(w);
    queue_stop(w->q, clock_after(20));
    assert_int_equal(w->q->n_tasks, 0);
    queue_close(&w->q);
    conf_unref(&w->conf);
    assert_asked_again(w);
}

RUN(hang_stop, "");

/* As a process that is told to end once more while it drains. */
static void stop_task(void *arg)
{
    struct world *w = arg;

    queue_stop(w->q, MSEC_NEVER);
    queue_close(&w->q);
    conf_unref(&w->conf);
}

static void hang_hurry_in(struct world *w)
{
    w->before = never_ends;
    world_mail(w, "a@far.example", "u@virtual.example");
    wait_for_job(w);
    queue_hurry(w->q); /* it does not stop: nothing to be in a hurry for */
    (void)task_spawn("stop", stop_task, w);
    (void)task_sleep(20, &(struct err){ .sys = 0 });
    assert_non_null(w->q);
    queue_hurry(w->q);
    for (unsigned i = 0; i < 5000 && w->conf != NULL; i++)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    assert_null(w->conf);
    assert_asked_again(w);
}

RUN(hang_hurry, "");

static void silent_once(struct world *w, const struct asked *r,
                        struct told *out)
{
    out->is_silent = world_asked(w, r->addr) == 1 && r->index == 0;
}

static void silent_in(struct world *w)
{
    w->answer = silent_once;
    world_mail(w, "a@far.example", "u@virtual.example v@virtual.example");
    world_settle(w);
    assert_int_equal(world_asked(w, "u@virtual.example"), 2);
    assert_int_equal(world_asked(w, "v@virtual.example"), 1);
    assert_int_equal(world_count(w), 0);
}

RUN(silent, "");

/* --------------------------------------------------- decided in the queue */

static void far_in(struct world *w)
{
    const char *log;

    world_mail(w, "a@far.example", "x@far.example");
    world_settle(w);
    assert_int_equal(w->n_jobs, 0);
    assert_int_equal(world_count(w), 1);
    log = world_log(w);
    assert_has(log, "error: ");
    assert_has(log, ": to=<x@far.example>, relay=none, delay=");
    assert_has(log, "dsn=4.3.0, status=deferred (mail transport unavailable)");
}

RUN(far, "");

static void decided_in(struct world *w)
{
    const char *log;

    world_mail(w, "a@far.example", "x@retry.example y@table.example");
    world_settle(w);
    log = world_log(w);
    assert_has(log, "dsn=4.2.9, status=deferred (not now)");
    assert_has(log, "dsn=4.3.0, status=deferred (address resolver failure)");
    assert_has(log, "table hash:/x is gone");
    world_mail(w, "a@far.example", "x@error.example");
    world_settle(w);
    assert_string_equal(world_last(w, "x@error.example")->nexthop,
                        "5.1.1 nobody");
}

RUN(decided, "");

static void defer_transports_in(struct world *w)
{
    world_mail(w, "a@far.example", "x@local.example y@virtual.example");
    world_settle(w);
    assert_int_equal(world_asked(w, "x@local.example"), 0);
    assert_int_equal(world_asked(w, "y@virtual.example"), 1);
    assert_has(world_log(w), "dsn=4.3.2, status=deferred (deferred transport)");
    assert_int_equal(world_count(w), 1);
}

RUN(defer_transports, "defer_transports = smtp, local\n");

/* ENV_DISCARD and FILTER of access tables. */
static void actions_in(struct world *w)
{
    struct envelope e = { .sender = SL("a@far.example"), .flags = ENV_DISCARD };

    world_mail_of(w, &e, "u@virtual.example", SL("\n"));
    world_settle(w);
    assert_int_equal(w->n_jobs, 0);
    assert_int_equal(world_count(w), 0);
    e = (struct envelope){ .sender = SL("a@far.example"),
                           .filter = SL("virtual:there.example") };
    world_mail_of(w, &e, "u@far.example", SL("\n"));
    world_settle(w);
    assert_string_equal(world_last(w, "u@far.example")->nexthop,
                        "there.example");
}

RUN(actions, "");

/* A message that waits costs no more than it must. */
static void test_sizes(void **state)
{
    (void)state;
    assert_true(sizeof(struct qmsg) <= 48);
}

/* A reload changes limits of what runs. */
static void reload_in(struct world *w)
{
    struct conf *c =
        conf_from_text(SL("virtual_destination_concurrency_limit = 1\n"),
                       SL(""), NULL);

    burst(w, "u@virtual.example", 30, 30);
    queue_set_conf(w->q, c);
    conf_unref(&c);
    burst(w, "u@virtual.example", 30, 1);
}

RUN(reload, "");

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one),
        cmocka_unit_test(groups),
        cmocka_unit_test(recipient_limit),
        cmocka_unit_test(default_recipient_limit),
        cmocka_unit_test(local_limit),
        cmocka_unit_test(virtual_limit),
        cmocka_unit_test(default_limit),
        cmocka_unit_test(initial),
        cmocka_unit_test(initial_own),
        cmocka_unit_test(process_limit),
        cmocka_unit_test(active_limit),
        cmocka_unit_test(rcpt_limit),
        cmocka_unit_test(lost),
        cmocka_unit_test(partial),
        cmocka_unit_test(hang_stop),
        cmocka_unit_test(hang_hurry),
        cmocka_unit_test(silent),
        cmocka_unit_test(far),
        cmocka_unit_test(decided),
        cmocka_unit_test(defer_transports),
        cmocka_unit_test(actions),
        cmocka_unit_test(reload),
        cmocka_unit_test(test_sizes),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
