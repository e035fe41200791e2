/*
 * covers: minimal_backoff_time maximal_backoff_time queue_run_delay
 * covers: maximal_queue_lifetime bounce_queue_lifetime delay_warning_time
 * covers: delay_notice_recipient soft_bounce
 */
#include "queue/test_util_queue.h"

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

static void test_next_try(void **state)
{
    struct queue_times t = { .min_backoff = 300 * SECOND,
                             .max_backoff = 4000 * SECOND,
                             .run_delay = 300 * SECOND };

    (void)state;
    /* At the run after the least pause. */
    assert_int_equal(queue_next_try(&t, 0, 1, 0), 600 * SECOND);
    assert_int_equal(queue_next_try(&t, 0, 0, 0), 300 * SECOND);
    /* As long again as it has waited. */
    assert_int_equal(queue_next_try(&t, 0, 600 * SECOND, 0), 1200 * SECOND);
    assert_int_equal(queue_next_try(&t, 0, 1000 * SECOND, 0), 2100 * SECOND);
    /* But no longer than the most. */
    assert_int_equal(queue_next_try(&t, 0, 9000 * SECOND, 0), 13200 * SECOND);
    /* A clock that was set back. */
    assert_int_equal(queue_next_try(&t, 900 * SECOND, 0, 0), 300 * SECOND);
    t.run_delay = 0;
    assert_int_equal(queue_next_try(&t, 0, 1, 0), 300 * SECOND + 1);
}

static void later(struct world *w, const struct asked *r, struct told *out)
{
    if (r->sender[0] == '\0' && w->arg == NULL)
        return; /* bounces come through */
    out->outcome = OUT_DEFERRED;
    out->status = "4.2.2";
    out->diag = "mailbox is full";
}

/* Go through `days` in steps of a minute while mail is in the queue. */
static void live(struct world *w, msec time, size_t until)
{
    for (msec t = 0; t < time && world_count(w) > until; t += MINUTE) {
        struct heap_node *n = heap_top(&w->q->waiting);

        world_advance(MINUTE);
        if (n != NULL && n->key <= clock_wall())
            world_settle(w);
    }
}

static void check_gaps(const struct world *w, msec least, msec most)
{
    msec old = 0;

    for (size_t i = 1; i < w->n_asked; i++) {
        msec gap = w->asked[i].at - w->asked[i - 1].at;

        if (w->asked[i].sender[0] == '\0')
            break;
        assert_true(gap >= least);
        assert_true(gap <= most);
        assert_true(gap >= old / 2); /* it grows, but for the grid */
        old = gap;
    }
}

/* Five days of back-off, then the bounce. */
static void five_days_in(struct world *w)
{
    msec start = clock_wall();
    const struct asked *r;
    const char *log;
    size_t n;

    w->answer = later;
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(w->n_asked, 1);
    live(w, 6 * DAY, 0);
    assert_int_equal(world_count(w), 0);
    n = world_asked(w, "u@virtual.example");
    /* 5 d in pauses that reach 4000 s, rounded up to the run. */
    assert_in_range(n, 5 * 86400 / 4200, 5 * 86400 / 4000 + 12);
    check_gaps(w, 300 * SECOND, 4000 * SECOND + 300 * SECOND + 2 * MINUTE);
    r = world_last(w, "a@virtual.example");
    assert_string_equal(r->sender, "");
    assert_in_range(r->at - start, 5 * DAY, 5 * DAY + 2 * HOUR);
    log = world_log(w);
    assert_has(log,
               "from=<a@virtual.example>, status=expired, returned to sender");
    assert_has(log, ": sender non-delivery notification: ");
}

RUN(five_days, "");

static void short_life_in(struct world *w)
{
    w->answer = later;
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    live(w, 40 * MINUTE, 0);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    /* After 0, 1, 2 minutes and then every 2, but for the test's steps. */
    assert_in_range(world_asked(w, "u@virtual.example"), 10, 18);
}

RUN(short_life, "minimal_backoff_time = 60s\nmaximal_backoff_time = 120s\n"
                "queue_run_delay = 1s\nmaximal_queue_lifetime = 30m\n");

/* A bounce (sender <>) has a life of its own. */
static void bounce_life_in(struct world *w)
{
    w->answer = later;
    w->arg = w;
    world_mail(w, "", "u@virtual.example");
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    live(w, 2 * HOUR, 1);
    assert_int_equal(world_count(w), 1);
    assert_has(world_log(w), "from=<>, status=expired, returned to sender");
    live(w, 2 * HOUR, 1);
    assert_int_equal(world_count(w), 1);
}

RUN(bounce_life, "bounce_queue_lifetime = 1h\nnotify_classes =\n");

static void zero_life_in(struct world *w)
{
    w->answer = later;
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "u@virtual.example"), 1);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
}

RUN(zero_life, "maximal_queue_lifetime = 0\n");

/* The sender hears of a delay, once; not who said NOTIFY without DELAY. */
static void warning_in(struct world *w)
{
    struct envelope_rcpt v[] = {
        { .addr = SL("u@virtual.example") },
        { .addr = SL("v@virtual.example"), .notify = ENV_NOTIFY_FAILURE },
        { .addr = SL("w@virtual.example"), .notify = ENV_NOTIFY_DELAY },
    };
    struct envelope e = { .sender = SL("a@virtual.example"),
                          .rcpts = v,
                          .n_rcpts = 3 };
    const char *text;

    w->answer = later;
    w->keep_last = true;
    world_mail_of(w, &e, "", SL("Subject: waits\n\nbody\n"));
    world_settle(w);
    live(w, 3 * HOUR, 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
    for (int i = 0; i < 200 && world_asked(w, "a@virtual.example") == 0; i++) {
        world_advance(MINUTE);
        world_settle(w);
    }
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_in_range(world_last(w, "a@virtual.example")->at -
                        e.arrival_usec / 1000,
                    4 * HOUR, 6 * HOUR);
    text = buf_cstr(&w->last);
    assert_has(text, "Subject: Delayed Mail (still being retried)\n");
    assert_has(text, "\nAction: delayed\nStatus: 4.2.2\n");
    assert_has(text, "\nWill-Retry-Until: ");
    assert_has(text, "text/rfc822-headers");
    assert_has(text, "Subject: waits\n");
    assert_has(text, "rfc822; u@virtual.example");
    assert_has(text, "rfc822; w@virtual.example");
    assert_has_not(text, "rfc822; v@virtual.example");
    assert_has_not(text, "body");
    assert_has(world_log(w), "sender delay notification: ");
    /* Over a restart, too. */
    world_close(w);
    world_open(w, "delay_warning_time = 4h\n");
    w->keep_last = false;
    for (int i = 0; i < 300; i++) {
        world_advance(MINUTE);
        world_settle(w);
    }
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
}

RUN(warning, "delay_warning_time = 4h\n");

/* The postmaster's copy, for class delay. */
static void warning_copy_in(struct world *w)
{
    w->answer = later;
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    for (int i = 0; i < 240 && world_asked(w, "pm@virtual.example") == 0; i++) {
        world_advance(MINUTE);
        world_settle(w);
    }
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_int_equal(world_asked(w, "pm@virtual.example"), 1);
    assert_has(world_log(w), "postmaster delay notification: ");
}

RUN(warning_copy, "delay_warning_time = 1h\nnotify_classes = delay\n"
                  "delay_notice_recipient = pm@virtual.example\n");

static void never(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    (void)r;
    out->outcome = OUT_BOUNCED;
    out->status = "5.1.1";
    out->diag = "unknown user";
}

static void soft_in(struct world *w)
{
    w->answer = never;
    world_mail(w, "a@virtual.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 1);
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
}

RUN(soft, "soft_bounce = yes\n");

/* A restart keeps the time of the next try. */
static void restart_in(struct world *w)
{
    msec next;

    w->answer = later;
    world_mail(w, "a@virtual.example", "u@virtual.example v@virtual.example");
    world_settle(w);
    assert_int_equal(w->n_asked, 2);
    next = heap_top(&w->q->waiting)->key;
    world_close(w);
    world_open(w, "");
    world_settle(w);
    assert_int_equal(w->n_asked, 2);
    assert_int_equal(heap_top(&w->q->waiting)->key, next);
    world_advance(HOUR);
    w->answer = NULL;
    world_settle(w);
    assert_int_equal(w->n_asked, 4);
    assert_string_equal(w->asked[0].id, w->asked[2].id);
    assert_string_equal(w->asked[1].id, w->asked[3].id);
    assert_int_equal(world_count(w), 0);
}

RUN(restart, "");

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_try), cmocka_unit_test(five_days),
        cmocka_unit_test(short_life),    cmocka_unit_test(bounce_life),
        cmocka_unit_test(zero_life),     cmocka_unit_test(warning),
        cmocka_unit_test(warning_copy),  cmocka_unit_test(soft),
        cmocka_unit_test(restart),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
