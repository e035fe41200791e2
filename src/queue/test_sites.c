/*
 * Destinations that are dead, slow or flap, and the healthy ones beside them.
 *
 * covers: default_destination_concurrency_positive_feedback
 * covers: default_destination_concurrency_negative_feedback
 * covers: default_destination_concurrency_failed_cohort_limit
 * covers: _destination_concurrency_positive_feedback
 * covers: _destination_concurrency_negative_feedback
 * covers: _destination_concurrency_failed_cohort_limit
 * covers: destination_concurrency_feedback_debug transport_retry_time
 * covers: default_destination_rate_delay _destination_rate_delay
 * covers: default_transport_rate_delay _transport_rate_delay
 * covers: default_delivery_slot_cost default_delivery_slot_loan
 * covers: default_delivery_slot_discount default_minimum_delivery_slots
 * covers: _delivery_slot_cost _delivery_slot_loan _delivery_slot_discount
 * covers: _minimum_delivery_slots default_recipient_limit _recipient_limit
 * covers: default_extra_recipient_limit _extra_recipient_limit
 */
#include "queue/test_util_queue.h"

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

/* ---------------------------------------------------------------- the rules */

static struct feedback feedback(const char *text)
{
    struct feedback f;

    assert_true(feedback_parse(slice_str(text), &f));
    return f;
}

static void test_feedback(void **state)
{
    struct feedback f;

    (void)state;
    assert_int_equal(feedback("1").base, FEEDBACK_ONE);
    assert_int_equal(feedback(" 0.25 ").base, FEEDBACK_ONE / 4);
    assert_int_equal(feedback("1/8").base, FEEDBACK_ONE / 8);
    assert_int_equal(feedback("1 / concurrency").kind, PER_CONCURRENCY);
    assert_int_equal(feedback("0.5/sqrt(concurrency)").kind, PER_ROOT);
    assert_false(feedback_parse(SL(""), &f));
    assert_false(feedback_parse(SL("x"), &f));
    assert_false(feedback_parse(SL("1/0"), &f));
    assert_false(feedback_parse(SL("1/window"), &f));
    assert_false(feedback_parse(SL("1 2"), &f));
    assert_false(feedback_parse(SL("9999999999999999999"), &f));
}

static unsigned grow(struct window_rules *r, unsigned n)
{
    struct window w = { .size = r->start };

    while (n-- > 0)
        window_grow(&w, r, w.size);
    return w.size;
}

static void test_window(void **state)
{
    struct window_rules r = { .limit = 20, .start = 5, .cohort_limit = 1 };
    struct window w = { .size = 5 };
    unsigned n = 1;

    (void)state;
    r.positive = r.negative = feedback("1");
    assert_int_equal(grow(&r, 3), 8);
    assert_int_equal(grow(&r, 300), 20);
    r.limit = 0;
    assert_int_equal(grow(&r, 300), 305);
    r.positive = feedback("1/concurrency");
    assert_int_equal(grow(&r, 5), 6);
    r.positive = feedback("1/sqrt(concurrency)");
    assert_int_equal(grow(&r, 3), 6);
    /* It does not run away from what is on the way. */
    r.positive = feedback("1");
    for (unsigned i = 0; i < 100; i++)
        window_grow(&w, &r, 1);
    assert_int_equal(w.size, 6);
    /* One cohort of failures: dead. */
    w = (struct window){ .size = 5 };
    while (!window_shrink(&w, &r))
        n++;
    assert_in_range(n, 3, 5);
    /* Success between them begins anew. */
    w = (struct window){ .size = 5 };
    for (unsigned i = 0; i < 100; i++) {
        assert_false(window_shrink(&w, &r));
        window_grow(&w, &r, w.size);
    }
    /* Without a cohort limit the window gets narrow. */
    r.cohort_limit = 0;
    for (unsigned i = 0; i < 100; i++)
        assert_false(window_shrink(&w, &r));
    assert_int_equal(w.size, 1);
    /* Half a step. */
    r.negative = feedback("0.5");
    w = (struct window){ .size = 5 };
    for (unsigned i = 0; i < 4; i++)
        (void)window_shrink(&w, &r);
    assert_int_equal(w.size, 3);
}

/* ---------------------------------------------------------------- dead sites
 */

static bool is_at(const struct asked *r, const char *domain)
{
    return strcmp(r->nexthop, domain) == 0;
}

static size_t asked_at(const struct world *w, const char *domain)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_asked; i++)
        n += is_at(&w->asked[i], domain);
    return n;
}

static void fail_hop(struct told *out)
{
    out->outcome = OUT_DEFERRED;
    out->status = "4.4.1";
    out->diag = out->hop_text = "connect to dead[192.0.2.1]:25: "
                                "Connection refused";
    out->hop_status = "4.4.1";
}

static void dead_answers(struct world *w, const struct asked *r,
                         struct told *out)
{
    (void)w;
    if (is_at(r, "dead.far.example"))
        fail_hop(out);
}

static void mail_to(struct world *w, const char *domain, unsigned n)
{
    char rcpt[100];

    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(rcpt, sizeof(rcpt), "u%u@%s", i, domain);
        world_mail(w, "a@virtual.example", rcpt);
    }
}

static void dead_in(struct world *w)
{
    w->has_smtp = true;
    w->answer = dead_answers;
    mail_to(w, "dead.far.example", 40);
    mail_to(w, "well.far.example", 40);
    world_settle(w);
    assert_int_equal(asked_at(w, "well.far.example"), 40);
    assert_int_equal(world_count(w), 40);
    /* A handful was tried, the others wait with the same reason. */
    assert_in_range(asked_at(w, "dead.far.example"), 4, 9);
    assert_has(
        world_log(w),
        "dsn=4.4.1, status=deferred (delivery temporarily suspended: connect to "
        "dead[192.0.2.1]:25: Connection refused)");
    assert_int_equal(w->q->n_dead_dests, 1);
    /* It is remembered for what comes now, */
    w->n_asked = 0;
    mail_to(w, "dead.far.example", 5);
    world_settle(w);
    assert_int_equal(asked_at(w, "dead.far.example"), 0);
    /* for minimal_backoff_time, */
    world_advance(301 * SECOND);
    mail_to(w, "dead.far.example", 1);
    world_settle(w);
    assert_true(asked_at(w, "dead.far.example") > 0);
    /* and forgotten when the administrator wants a try. */
    world_advance(SECOND);
    mail_to(w, "dead.far.example", 20);
    world_settle(w);
    assert_int_equal(w->q->n_dead_dests, 1);
    w->n_asked = 0;
    dests_revive(w->q);
    assert_int_equal(w->q->n_dead_dests, 0);
    w->answer = NULL;
    mail_to(w, "dead.far.example", 3);
    world_settle(w);
    assert_int_equal(asked_at(w, "dead.far.example"), 3);
}

RUN(dead, "");

static void no_cohort_in(struct world *w)
{
    w->has_smtp = true;
    w->answer = dead_answers;
    mail_to(w, "dead.far.example", 30);
    world_settle(w);
    assert_int_equal(asked_at(w, "dead.far.example"), 30);
    assert_int_equal(w->q->n_dead_dests, 0);
    assert_has(world_log(w), "failure: limit 20 window 4 ");
}

RUN(no_cohort, "smtp_destination_concurrency_failed_cohort_limit = 0\n"
               "destination_concurrency_feedback_debug = yes\n");

/* Five days: a dead site beside one that is up every other hour. */
static bool is_up(void)
{
    return clock_wall() / HOUR % 2 == 0;
}

static void flapping_answers(struct world *w, const struct asked *r,
                             struct told *out)
{
    dead_answers(w, r, out);
    if (is_at(r, "flap.far.example") && !is_up())
        fail_hop(out);
}

static void flapping_in(struct world *w)
{
    msec end = clock_wall() + 6 * DAY;
    size_t n_dead;

    w->has_smtp = true;
    w->answer = flapping_answers;
    mail_to(w, "dead.far.example", 20);
    for (unsigned hour = 0; clock_wall() < end; hour++) {
        if (hour < 100)
            mail_to(w, "flap.far.example", 2);
        for (unsigned i = 0; i < 6; i++) {
            world_advance(10 * MINUTE);
            world_settle(w);
        }
    }
    assert_int_equal(world_count(w), 0);
    /* The dead site's mail came back, the other's was delivered. */
    assert_int_equal(world_asked(w, "a@virtual.example"), 20);
    n_dead = asked_at(w, "dead.far.example");
    /* Each run of the queue tries a few, not all twenty. */
    assert_in_range(n_dead, 100, 20 * 5 * 86400 / 4000 / 2);
    assert_true(asked_at(w, "flap.far.example") >= 200);
}

RUN(flapping, "");

/* ---------------------------------------------------------------- slow sites
 */

static int hang(struct world *w, unsigned job, struct err *err)
{
    bool is_slow = false;

    for (size_t i = 0; i < w->n_asked; i++)
        if (w->asked[i].job == job)
            is_slow = strncmp(w->asked[i].nexthop, "slow", 4) == 0;
    while (is_slow && w->arg == NULL)
        if (task_sleep(5, err) < 0)
            return -1;
    return 0;
}

static void wait_for(struct world *w, const char *domain, size_t n)
{
    for (unsigned i = 0; i < 10000 && asked_at(w, domain) < n; i++)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    assert_int_equal(asked_at(w, domain), n);
}

static void wait_sent(struct world *w, size_t left)
{
    for (unsigned i = 0; i < 10000 && world_count(w) > left; i++)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    assert_int_equal(world_count(w), left);
}

/* Slow ones have taken all places; after a moment they count no longer. */
static void slow_in(struct world *w)
{
    w->has_smtp = true;
    w->before = hang;
    mail_to(w, "slow1.far.example", 5);
    mail_to(w, "slow2.far.example", 5);
    wait_for(w, "slow1.far.example", 5);
    mail_to(w, "well.far.example", 30);
    world_advance(4 * SECOND);
    wait_sent(w, 10);
    w->arg = w;
    world_settle(w);
    assert_int_equal(world_count(w), 0);
}

RUN(slow, "default_process_limit = 1\n");

/* Mail for a slow site does not fill the active queue. */
static void parked_in(struct world *w)
{
    w->has_smtp = true;
    w->before = hang;
    mail_to(w, "slow.far.example", 100);
    wait_for(w, "slow.far.example", 5);
    mail_to(w, "well.far.example", 50);
    wait_sent(w, 100);
    assert_true(w->q->n_parked > 50);
    assert_int_equal(asked_at(w, "slow.far.example"), 5);
    w->arg = w;
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->q->n_parked, 0);
    assert_int_equal(asked_at(w, "slow.far.example"), 100);
}

RUN(parked, "qmgr_message_active_limit = 40\n");

static void parked_transport_in(struct world *w)
{
    w->has_smtp = true;
    w->before = hang;
    mail_to(w, "slow.far.example", 60);
    wait_for(w, "slow.far.example", 5);
    for (unsigned i = 0; i < 10000 && w->q->n_parked < 39; i++)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    assert_in_range(w->q->n_parked, 39, 41);
    world_close(w); /* parked messages are in nobody's way */
    w->n_asked = 0;
    w->arg = w;
    world_open(w, "");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
}

RUN(parked_transport, "smtp_recipient_limit = 10\n"
                      "default_extra_recipient_limit = 5\n");

/* The process that delivers gives no answer at all. */
static int no_answer(struct world *w, unsigned job, struct err *err)
{
    bool is_far = false;

    for (size_t i = 0; i < w->n_asked; i++)
        if (w->asked[i].job == job)
            is_far = strcmp(w->asked[i].transport, "smtp") == 0;
    return is_far && w->arg == NULL ? err_temp(err, "it is gone") : 0;
}

static void no_transport_in(struct world *w)
{
    size_t n;

    w->has_smtp = true;
    w->before = no_answer;
    mail_to(w, "x.far.example", 1);
    for (unsigned i = 0; i < 60 && w->n_jobs < 20; i++) {
        world_advance(6 * SECOND);
        (void)task_sleep(5, &(struct err){ .sys = 0 });
    }
    world_advance(6 * SECOND);
    world_settle(w);
    assert_int_equal(world_count(w), 1);
    n = w->n_jobs;
    mail_to(w, "y.far.example", 3);
    mail_to(w, "virtual.example", 1); /* others are not meant */
    world_settle(w);
    assert_has(world_log(w), "(mail transport unavailable)");
    w->arg = w;
    world_advance(91 * SECOND);
    mail_to(w, "z.far.example", 3);
    world_settle(w);
    assert_int_equal(asked_at(w, "z.far.example"), 3);
    assert_int_equal(asked_at(w, "y.far.example"), 0);
    assert_true(w->n_jobs > n);
}

RUN(no_transport, "transport_retry_time = 90s\n");

/* A name that is in no line of master.cf is told. */
static void missing_transport_in(struct world *w)
{
    mail_to(w, "x.far.example", 3);
    world_settle(w);
    assert_has(world_log(w), "(mail transport unavailable)");
    assert_has(world_log(w), "there is no transport \"smtp\" in master.cf");
}

RUN(missing_transport, "");

/* ---------------------------------------------------------------- rate delays
 */

static void check_pauses(struct world *w, const char *domain, msec least)
{
    msec last = 0;

    for (size_t i = 0; i < w->n_asked; i++) {
        if (domain != NULL && !is_at(&w->asked[i], domain))
            continue;
        assert_true(w->asked[i].at - last >= least);
        last = w->asked[i].at;
    }
}

static void dest_rate_in(struct world *w)
{
    w->has_smtp = true;
    mail_to(w, "one.far.example", 6);
    mail_to(w, "two.far.example", 6);
    for (unsigned i = 0; i < 200 && world_count(w) > 0; i++) {
        world_advance(SECOND);
        for (unsigned k = 0; k < 4; k++)
            (void)task_sleep(1, &(struct err){ .sys = 0 });
    }
    assert_int_equal(world_count(w), 0);
    check_pauses(w, "one.far.example", 10 * SECOND);
    check_pauses(w, "two.far.example", 10 * SECOND);
    /* Side by side. */
    assert_true(w->asked[w->n_asked - 1].at - w->asked[0].at < 100 * SECOND);
}

RUN(dest_rate, "smtp_destination_rate_delay = 10s\n");

static void transport_rate_in(struct world *w)
{
    w->has_smtp = true;
    mail_to(w, "one.far.example", 4);
    mail_to(w, "two.far.example", 4);
    for (unsigned i = 0; i < 200 && world_count(w) > 0; i++) {
        world_advance(SECOND);
        for (unsigned k = 0; k < 4; k++)
            (void)task_sleep(1, &(struct err){ .sys = 0 });
    }
    assert_int_equal(world_count(w), 0);
    check_pauses(w, NULL, 10 * SECOND);
}

RUN(transport_rate, "smtp_transport_rate_delay = 10s\n");

/* ------------------------------------------------------------------ big, small
 */

static void big_mail(struct world *w)
{
    struct buf b;

    buf_init(&b, 65536);
    for (unsigned i = 0; i < 200; i++)
        (void)buf_printf(&b, "%sb%u@far.example", i == 0 ? "" : " ", i);
    world_mail(w, "big@virtual.example", buf_cstr(&b));
    buf_done(&b);
}

/* Until all mail is there. */
static int hold_back(struct world *w, unsigned job, struct err *err)
{
    (void)job;
    while (w->arg == NULL)
        if (task_sleep(2, err) < 0)
            return -1;
    return 0;
}

static size_t place_of(const struct world *w, const char *addr)
{
    for (size_t i = 0; i < w->n_asked; i++)
        if (strcmp(w->asked[i].addr, addr) == 0)
            return i;
    fail_msg("%s was not asked for", addr);
    return 0;
}

/* 100 requests of two, and then 30 small letters to the same place. */
static void overtake(struct world *w)
{
    w->has_smtp = true;
    w->before = hold_back;
    big_mail(w);
    wait_for(w, "far.example", 2);
    mail_to(w, "far.example", 30);
    while (!list_empty(&w->q->fresh) || w->q->n_routers > 0)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    w->arg = w;
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(asked_at(w, "far.example"), 230);
}

/* The requests' order, from the first letters: "b10 m10 b90". */
static void assert_order(const struct world *w, const char *expected)
{
    unsigned n = 0;
    struct buf b;

    buf_init(&b, 4096);
    for (size_t i = 0; i < w->n_asked; i++) {
        const struct asked *r = &w->asked[i];

        if (i > 0 && w->asked[i - 1].job == r->job)
            continue;
        n++;
        /* Is it the last one of its run? */
        for (size_t k = i + 1; k <= w->n_asked; k++) {
            if (k < w->n_asked && w->asked[k].job == r->job)
                continue;
            if (k == w->n_asked || w->asked[k].addr[0] != r->addr[0]) {
                (void)buf_printf(&b, "%s%c%u", b.n > 0 ? " " : "", r->addr[0],
                                 n);
                n = 0;
            }
            break;
        }
    }
    assert_string_equal(buf_cstr(&b), expected);
    buf_done(&b);
}

/* A message of n requests of two. */
static void mail_of(struct world *w, char letter, unsigned n)
{
    struct buf b;

    buf_init(&b, 65536);
    for (unsigned i = 0; i < 2 * n; i++)
        (void)buf_printf(&b, "%s%c%u@far.example", i == 0 ? "" : " ", letter,
                         i);
    world_mail(w, "x@virtual.example", buf_cstr(&b));
    buf_done(&b);
    while (!list_empty(&w->q->fresh) || w->q->n_routers > 0)
        (void)task_sleep(1, &(struct err){ .sys = 0 });
}

/* 100 requests for b, of which one is on its way, then this many for each
 * further letter. */
static void run_order(struct world *w, const char *letters, const unsigned *n)
{
    w->has_smtp = true;
    w->before = hold_back;
    mail_of(w, 'b', 100);
    wait_for(w, "far.example", 2);
    for (size_t i = 0; letters[i] != '\0'; i++)
        mail_of(w, letters[i], n[i]);
    w->arg = w;
    world_settle(w);
    assert_int_equal(world_count(w), 0);
}

#define ALONE                                                                  \
 "smtp_destination_concurrency_limit = 1\n"                                    \
 "smtp_destination_recipient_limit = 2\n"

/* SCHEDULER_README, "How the preemption works": each 5 deliveries are a slot,
 * which a delivery of who preempts costs; with the loan of 3 slots and the
 * discount of 50 per cent, 10 deliveries may begin when 10 / 2 - 3 = 2 slots
 * are there. */
static void documented_in(struct world *w)
{
    run_order(w, "m", (const unsigned[]){ 10 });
    assert_order(w, "b10 m10 b90");
}

/* Where what preempts may be preempted itself: 20 / 2 - 3 = 7 slots. */
static void documented_big_in(struct world *w)
{
    run_order(w, "m", (const unsigned[]){ 20 });
    assert_order(w, "b35 m20 b65");
}

/* The best delay/deliveries goes first; each one that goes costs 5 deliveries,
 * which must be earned before the next, and after the last slot that can be
 * earned nobody is let in: no mail is delayed by more than a fifth. */
static void documented_score_in(struct world *w)
{
    run_order(w, "msu", (const unsigned[]){ 2, 1, 1 });
    assert_order(w, "b1 s1 b5 u1 b5 m2 b89");
}

/* No discount, no loan. */
static void documented_full_price_in(struct world *w)
{
    run_order(w, "m", (const unsigned[]){ 10 });
    assert_order(w, "b50 m10 b50");
}

/* What would take more than all slots together waits for the end. */
static void documented_too_big_in(struct world *w)
{
    run_order(w, "m", (const unsigned[]){ 21 });
    assert_order(w, "b100 m21");
}

static void overtaking_in(struct world *w)
{
    size_t first;
    size_t last;

    overtake(w);
    first = place_of(w, "u0@far.example");
    last = place_of(w, "u29@far.example");
    /* After the first delivery, and then one after each five (of two
     * recipients), 20 in all; the others after the end. */
    assert_int_equal(first, 2);
    assert_int_equal(place_of(w, "u1@far.example"), 2 + 1 + 10);
    assert_int_equal(place_of(w, "u19@far.example"), 2 + 19 * 11);
    assert_int_equal(place_of(w, "u20@far.example"), 220);
    assert_int_equal(last, 229);
}

RUN(overtaking, "smtp_destination_concurrency_limit = 1\n"
                "smtp_destination_recipient_limit = 2\n");

static void in_order_in(struct world *w)
{
    overtake(w);
    assert_int_equal(place_of(w, "u0@far.example"), 200);
}

RUN(in_order, "smtp_destination_concurrency_limit = 1\n"
              "smtp_destination_recipient_limit = 2\n"
              "smtp_delivery_slot_cost = 0\n");
RUN(documented, ALONE);
RUN(documented_big, ALONE);
RUN(documented_score, ALONE);
RUN(documented_full_price, ALONE "smtp_delivery_slot_loan = 0\n"
                                 "smtp_delivery_slot_discount = 0\n");
RUN(documented_too_big, ALONE);

#define in_order_least_in in_order_in
RUN(in_order_least, "smtp_destination_concurrency_limit = 1\n"
                    "smtp_destination_recipient_limit = 2\n"
                    "default_minimum_delivery_slots = 30\n");

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_window),
        cmocka_unit_test(dead),
        cmocka_unit_test(no_cohort),
        cmocka_unit_test(flapping),
        cmocka_unit_test(slow),
        cmocka_unit_test(parked),
        cmocka_unit_test(parked_transport),
        cmocka_unit_test(no_transport),
        cmocka_unit_test(missing_transport),
        cmocka_unit_test(dest_rate),
        cmocka_unit_test(transport_rate),
        cmocka_unit_test(overtaking),
        cmocka_unit_test(in_order),
        cmocka_unit_test(in_order_least),
        cmocka_unit_test(documented),
        cmocka_unit_test(documented_big),
        cmocka_unit_test(documented_score),
        cmocka_unit_test(documented_full_price),
        cmocka_unit_test(documented_too_big),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
