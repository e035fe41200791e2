#include "access/test_util.h"

/* Access tables: which key is found, and what its value does.
 * covers: access_map_reject_code access_map_defer_code
 * parent_domain_matches_subdomains recipient_delimiter */

struct key_case {
    const char *list;
    const char *table; /* in inline:{...}, each entry REJECT <name> */
    const char *want;  /* the text that came, NULL: none */
};

static void ask(const char *settings, const char *want, const char *what)
{
    struct stand t;
    const char *got;

    stand_init(&t, settings);
    t.s.name = SL("mail.sub.example.org");
    t.s.recipient = SL("joe+ext@example.com");
    got = stand_ask(&t, ACCESS_RCPT);
    if (want == NULL)
        assert_answer(got, "", what);
    else if (strstr(got, want) == NULL)
        fail_msg("%s: got \"%s\", want \"%s\"", what, got, want);
    stand_done(&t);
}

static void test_keys(void **state)
{
    static const struct key_case cases[] = {
        { "client", "mail.sub.example.org=REJECT 1,sub.example.org=REJECT 2",
          "1" },
        { "client", "example.org=REJECT 2,192.0.2.1=REJECT 3", "rejected: 2" },
        { "client", "192.0.2.1=REJECT 3,192.0.2=REJECT 4", "rejected: 3" },
        { "client", "192.0=REJECT 5", "rejected: 5" },
        { "client", "192=REJECT 6", "rejected: 6" },
        { "client", ".org=REJECT 7", NULL },
        { "helo", "helo.example.org=REJECT 1", "rejected: 1" },
        { "helo", "org=REJECT 2", "rejected: 2" },
        { "sender", "s@from.example=REJECT 1,from.example=REJECT 2",
          "rejected: 1" },
        { "sender", "from.example=REJECT 2", "rejected: 2" },
        { "sender", "example=REJECT 3", "rejected: 3" },
        { "sender", "s@=REJECT 4", "rejected: 4" },
        { "recipient", "joe+ext@example.com=REJECT 1,joe@example.com=REJECT 2",
          "rejected: 1" },
        { "recipient", "joe@example.com=REJECT 2", "rejected: 2" },
        { "recipient", "joe+ext@=REJECT 3,joe@=REJECT 4", "rejected: 3" },
        { "recipient", "joe@=REJECT 4", "rejected: 4" },
        { "recipient", "joe=REJECT 5", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char settings[400];
        struct buf table;
        slice rest = slice_str(cases[i].table);
        slice word;

        buf_init(&table, 300);
        while (slice_token(&rest, ",", &word))
            buf_printf(&table, " {%.*s}", SLF(word));
        (void)snprintf(settings, sizeof(settings),
                       "recipient_delimiter = +\n"
                       "smtpd_%s_restrictions = check_%s_access "
                       "inline:{%s }\n",
                       cases[i].list, cases[i].list, buf_cstr(&table));
        ask(settings, cases[i].want, cases[i].table);
        buf_done(&table);
    }
    ask("parent_domain_matches_subdomains =\nsmtpd_client_restrictions = "
        "check_client_access inline:{ {.example.org = REJECT 1} }\n",
        "rejected: 1", "parent with a dot");
    ask("parent_domain_matches_subdomains =\nsmtpd_client_restrictions = "
        "check_client_access inline:{ {example.org = REJECT 1} }\n",
        NULL, "parent without a dot");
}

static void test_values(void **state)
{
    static const struct {
        const char *value;
        const char *want; /* "" accepted */
    } cases[] = {
        { "OK", "" },
        { "1234567890", "" },
        { "DUNNO", "" },
        { "REJECT", "554 5.7.1 <s@from.example>: Sender address rejected: "
                    "Access denied" },
        { "reject 5.7.9 go away", "554 5.7.9 <s@from.example>: Sender address "
                                  "rejected: go away" },
        { "REJECT 5.1.1 who", "554 5.1.0 <s@from.example>: Sender address "
                              "rejected: who" },
        { "DEFER", "450 4.7.1 <s@from.example>: Sender address rejected: "
                   "Access denied" },
        { "550 no", "550 5.7.1 <s@from.example>: Sender address rejected: no" },
        { "450 4.2.0 later", "450 4.2.0 <s@from.example>: Sender address "
                             "rejected: later" },
        { "521 out", "521 5.7.1 <s@from.example>: Sender address rejected: "
                     "out" },
        { "DEFER_IF_PERMIT 4.5.0 soon", "450 4.5.0 <s@from.example>: Sender "
                                        "address rejected: soon" },
        { "reject", "554 5.7.1 <s@from.example>: Sender address rejected: "
                    "Access denied" },
        { "permit_mynetworks, defer", "450 4.3.2 <s@from.example>: Sender "
                                      "address rejected: Try again later" },
        { "class",
          "554 5.7.1 <s@from.example>: Sender address rejected: Access "
          "denied" },
        { "nonsense", "451 4.3.5 Server configuration error" },
        { "check_sender_access", "451 4.3.5 Server configuration error" },
        { "hash:/etc/x", "451 4.3.5 Server configuration error" },
        { "loop", "451 4.3.5 Server configuration error" },
        { "WARN text", "" },
        { "INFO text", "" },
        { "FILTER nothing", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct stand t;
        char settings[500];

        (void)snprintf(settings, sizeof(settings),
                       "smtpd_restriction_classes = class, loop\n"
                       "class = reject\n"
                       "loop = check_sender_access inline:{s@from.example="
                       "loop}\n"
                       "smtpd_sender_restrictions = check_sender_access "
                       "inline:{ {s@from.example = %s} }\n",
                       cases[i].value);
        stand_init(&t, settings);
        assert_answer(stand_ask(&t, ACCESS_RCPT), cases[i].want,
                      cases[i].value);
        stand_done(&t);
    }
}

static void run_effect(struct stand *t, const char *value)
{
    char settings[300];

    (void)snprintf(settings, sizeof(settings),
                   "smtpd_recipient_restrictions = check_recipient_access "
                   "inline:{ {joe@example.com = %s} }\n",
                   value);
    stand_init(t, settings);
    assert_string_equal(stand_ask(t, ACCESS_RCPT), "");
}

static void test_effects(void **state)
{
    struct stand t;

    (void)state;
    run_effect(&t, "HOLD look");
    assert_true(t.s.effects.hold);
    assert_slice(t.s.effects.hold_text, SL("look"));
    access_reset(&t.s);
    assert_false(t.s.effects.hold);
    stand_done(&t);

    run_effect(&t, "DISCARD");
    assert_true(t.s.effects.discard);
    stand_done(&t);

    run_effect(&t, "REDIRECT a@b.org");
    assert_slice(t.s.effects.redirect, SL("a@b.org"));
    stand_done(&t);

    run_effect(&t, "REDIRECT nowhere");
    assert_null(t.s.effects.redirect.p);
    stand_done(&t);

    run_effect(&t, "FILTER smtp:[127.0.0.1]:10025");
    assert_slice(t.s.effects.filter, SL("smtp:[127.0.0.1]:10025"));
    stand_done(&t);

    run_effect(&t, "PREPEND X-Seen: yes");
    (void)stand_ask(&t, ACCESS_RCPT);
    assert_int_equal(t.s.effects.n_prepend, 2);
    assert_slice(t.s.effects.prepend[0], SL("X-Seen: yes"));
    stand_done(&t);

    run_effect(&t, "BCC archive@example.com");
    assert_int_equal(t.s.effects.n_bcc, 1);
    stand_done(&t);
}

/* A table that cannot be asked defers, and says so in Postfix's words. */
static void test_trouble(void **state)
{
    (void)state;
    ask("smtpd_client_restrictions = check_client_access hash:/nonexistent/x\n",
        "451 4.3.5 <mail.sub.example.org[192.0.2.1]>: Client host rejected: "
        "Server configuration error",
        "client");
    ask("smtpd_sender_restrictions = check_sender_access fail:x\n",
        "451 4.3.5 <s@from.example>: Sender address rejected: Server "
        "configuration error",
        "sender");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_effects),
        cmocka_unit_test(test_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
