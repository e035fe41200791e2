#include "access/test_util.h"

/* Lists that must be refused when they are compiled. */

static void test_refused(void **state)
{
    static const struct {
        const char *settings;
        const char *why;
    } cases[] = {
        { "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions =\n",
          "specify at least one working instance" },
        { "smtpd_relay_restrictions = permit_mynetworks\n"
          "smtpd_recipient_restrictions = permit\n",
          "specify at least one working instance" },
        { "smtpd_relay_restrictions = warn_if_reject "
          "reject_unauth_destination\nsmtpd_recipient_restrictions =\n",
          "specify at least one working instance" },
        { "smtpd_client_restrictions = reject_unknwon\n",
          "unknown smtpd restriction: \"reject_unknwon\"" },
        { "smtpd_client_restrictions = check_client_access\n",
          "an argument is missing" },
        { "smtpd_client_restrictions = check_client_access /etc/x\n",
          "need maptype:mapname" },
        { "smtpd_client_restrictions = check_client_access foo:/etc/x\n",
          "unsupported dictionary type" },
        { "smtpd_data_restrictions = inline:{a=b}\n",
          "need a restriction such as check_client_access" },
        { "smtpd_restriction_classes = c\n", "needs a definition" },
        { "smtpd_restriction_classes = c d\nc = d\nd = c\n",
          "nested too deep" },
        { "smtpd_client_restrictions = sleep soon\n", "need a number" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct access *a = NULL;
        struct setup s;
        struct err err;

        setup_init(&s, cases[i].settings);
        if (access_new(s.conf, NULL, s.b.tables, s.address, &a, &err) == 0)
            fail_msg("%s", cases[i].settings);
        if (strstr(err.log, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].settings, err.log);
        assert_null(a);
        setup_done(&s);
    }
}

/* A class may guard the relay as well. */
static void test_class_guards(void **state)
{
    struct stand t;

    (void)state;
    stand_init(&t, "smtpd_restriction_classes = guard\n"
                   "guard = reject_unauth_destination\n"
                   "smtpd_relay_restrictions = guard\n");
    t.s.recipient = SL("a@else.org");
    assert_string_equal(stand_ask(&t, ACCESS_RCPT),
                        "554 5.7.1 <a@else.org>: Relay access denied");
    stand_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_class_guards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
