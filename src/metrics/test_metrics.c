#include "metrics/metrics.h"

#include "base/test_util.h"

static const char status[] =
    "master pid 1, version 0.1.0, up 90 s\n"
    "configuration /etc/hato\n"
    "    died smtpd 2\n"
    "log pid 2 ready, up 89 s\n"
    "    lines: 8, waiting bytes: 0, lost: 1\n"
    "    delivered virtual sent 12\n"
    "    delivered smtp deferred 3\n"
    "    level warning 4\n"
    "smtpd/0 pid 3 ready, up 80 s\n"
    "    sessions 5, accepted 70, messages 60, draining\n"
    "smtpd/1 pid 4 ready, up 80 s\n"
    "    sessions 6, accepted 7, messages 8\n"
    "    key \"\\ of no row 9\n"
    "smtpd/0 pid 5 draining, up 80 s\n"
    "    sessions 1000, accepted 1000, messages 1000\n"
    "qmgr pid 6 ready, up 80 s\n"
    "    messages 11\n"
    "    active 12\n"
    "    active-recipients 13\n"
    "    sent-total 14\n"
    "    bounced-total 15\n"
    "broker pid 7 ready, up 80 s\n"
    "    workers: 16\n"
    "    worker 1000 pid 9 ready, 5 connections\n"
    "    sessions 17 (parked 2, without a worker 1), signed in 40\n"
    "    fs fe01: 18 syncs for 19, 20 failed, one running\n"
    "auth pid 8 ready, up 80 s\n"
    "    sign-ins good 21, refused 22, failed 23; under way 0, connections 1\n"
    "resolver pid 9 starting, up 0 s\n";

#define SMTPD                                                                  \
 "# TYPE hato_smtpd_sessions gauge\nhato_smtpd_sessions{slot=\"0\"} 5\n"       \
 "hato_smtpd_sessions{slot=\"1\"} 6\n"
#define RCPTS                                                                  \
 "hato_queue_recipients_total{outcome=\"sent\"} 14\n"                          \
 "hato_queue_recipients_total{outcome=\"bounced\"} 15\n"
#define AUTH                                                                     \
 "hato_auth_total{result=\"good\"} 21\nhato_auth_total{result=\"refused\"} 22\n" \
 "hato_auth_total{result=\"failed\"} 23\n"

static const char *const expected[] = {
    "hato_uptime_seconds 90\n",
    "hato_process_deaths_total{type=\"smtpd\"} 2\n",
    "hato_process_uptime_seconds{type=\"smtpd\",slot=\"1\"} 80\n",
    "hato_log_lines_total 8\n",
    "hato_log_lost_total 1\n",
    "hato_deliveries_total{transport=\"virtual\",status=\"sent\"} 12\n",
    "hato_deliveries_total{transport=\"smtp\",status=\"deferred\"} 3\n",
    "hato_log_trouble_total{level=\"warning\"} 4\n",
    (SMTPD),
    "hato_smtpd_messages_total{slot=\"0\"} 60\n",
    "hato_queue_messages 11\n",
    "hato_queue_active_messages 12\n",
    "hato_queue_active_recipients 13\n",
    (RCPTS),
    "hato_mailbox_workers 16\n",
    "hato_sessions 17\n",
    "hato_mail_syncs_total{fs=\"fe01\"} 18\n",
    "hato_mail_synced_total{fs=\"fe01\"} 19\n",
    "hato_mail_sync_failures_total{fs=\"fe01\"} 20\n",
    (AUTH),
};

static size_t count(slice all, slice what)
{
    size_t n = 0;
    ssize_t at;

    while ((at = slice_find(all, what)) >= 0) {
        n++;
        all = slice_from(all, (size_t)at + what.n);
    }
    return n;
}

static void each_number_has_its_name(void **state UNUSED)
{
    struct buf out;
    slice all;

    buf_init(&out, 1u << 20);
    metrics_render(SL(status), &out);
    all = buf_view(&out);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        if (slice_find(all, slice_str(expected[i])) < 0)
            fail_msg("%s is not in\n%.*s", expected[i], SLF(all));
    assert_int_equal(count(all, SL("1000")), 0); /* of one that drains */
    assert_int_equal(count(all, SL("no row")), 0);
    assert_int_equal(count(all, SL("# TYPE hato_auth_total ")), 1);
    assert_int_equal(count(all, SL("# TYPE hato_queue_recipients_total ")), 1);
    assert_int_equal(count(all, SL("# HELP ")), count(all, SL("# TYPE ")));
    buf_done(&out);
}

static void nonsense_gives_nothing(void **state UNUSED)
{
    struct buf out;

    buf_init(&out, 1u << 20);
    metrics_render(
        SL("\n\n   a\nsmtpd/ up\n    sessions x, , (7\n/ , up 1 s\n"), &out);
    assert_int_equal(count(buf_view(&out), SL("hato_smtpd")), 0);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_number_has_its_name),
        cmocka_unit_test(nonsense_gives_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
