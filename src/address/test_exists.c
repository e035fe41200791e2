#include "address/test_util.h"

/* Who is listed.
 * covers: local_recipient_maps virtual_mailbox_maps relay_recipient_maps userdb
 * show_user_unknown_table_name unknown_local_recipient_reject_code
 * unknown_virtual_alias_reject_code unknown_virtual_mailbox_reject_code
 * unknown_relay_recipient_reject_code */

static const char settings[] =
    "virtual_alias_domains = alias.example\n"
    "virtual_mailbox_domains = box.example\n"
    "relay_domains = relay.example\n"
    "recipient_delimiter = +\n"
    "local_recipient_maps = inline:{joe=x}\n"
    "virtual_alias_maps = inline:{a@alias.example=joe, @all.alias.example=joe}\n"
    "virtual_mailbox_maps = inline:{b@box.example=x}\n"
    "relay_recipient_maps = inline:{r@relay.example=x}\n"
    "unknown_local_recipient_reject_code = 450\n"
    "unknown_virtual_mailbox_reject_code = 551\n";

struct exists_case {
    const char *addr;
    int code; /* 0: exists */
    const char *status;
    const char *why;
};

static void run(const char *text, const struct exists_case *v, size_t n)
{
    struct setup s;

    setup_init(&s, text);
    for (size_t i = 0; i < n; i++) {
        struct address_answer got;
        struct err err;

        if (address_recipient_exists(s.address, slice_str(v[i].addr), s.b.arena,
                                     &got, &err) < 0)
            fail_msg("%s: %s", v[i].addr, err.log);
        if (got.exists != (v[i].code == 0))
            fail_msg("%s: exists %d", v[i].addr, got.exists);
        if (got.exists)
            continue;
        assert_int_equal(got.code, v[i].code);
        assert_slice(got.status, slice_str(v[i].status));
        assert_slice(got.why, slice_str(v[i].why));
    }
    setup_done(&s);
}

static void test_listed(void **state)
{
    static const struct exists_case cases[] = {
        { "joe@example.com", 0, "", "" },
        { "JOE+x@example.com", 0, "", "" },
        { "joe", 0, "", "" },
        { "postmaster@example.com", 0, "", "" },
        { "MAILER-DAEMON@example.com", 0, "", "" },
        { "ann@example.com", 450, "5.1.1",
          "User unknown in local recipient table" },
        { "a@alias.example", 0, "", "" },
        { "b@alias.example", 550, "5.1.1",
          "User unknown in virtual alias table" },
        { "b+ext@box.example", 0, "", "" },
        { "c@box.example", 551, "5.1.1",
          "User unknown in virtual mailbox table" },
        { "r@relay.example", 0, "", "" },
        { "s@relay.example", 550, "5.1.1",
          "User unknown in relay recipient table" },
        { "any@else.org", 0, "", "" },
        { "bad@b..c", 550, "5.1.3", "bad address syntax" },
    };

    (void)state;
    run(settings, cases, ARRAY_LEN(cases));
}

static void test_userdb(void **state)
{
    static const struct exists_case cases[] = {
        { "b@box.example", 0, "", "" },
        { "c@box.example", 550, "5.1.1", "User unknown" },
    };
    static const struct exists_case anybody[] = {
        { "c@box.example", 0, "", "" },
    };

    (void)state;
    run("virtual_mailbox_domains = box.example\n"
        "show_user_unknown_table_name = no\n"
        "userdb = inline:{b@box.example=b:::}\n",
        cases, ARRAY_LEN(cases));
    run("virtual_mailbox_domains = box.example\nuserdb =\n", anybody,
        ARRAY_LEN(anybody));
}

static void test_moved(void **state)
{
    static const struct exists_case cases[] = {
        { "joe@example.com", 550, "5.1.6", "User has moved to joe@new.org" },
        { "ann@else.org", 550, "5.7.0", "not for you" },
        { "bob@else.org", 450, "4.0.0", "later" },
    };

    (void)state;
    run("relocated_maps = inline:{joe@example.com=joe@new.org}\n"
        "transport_maps = inline:{ {ann@else.org = error:5.7.0 not for you}, "
        "bob@else.org=retry:later}\n",
        cases, ARRAY_LEN(cases));
}

static void test_trouble(void **state)
{
    struct setup s;
    struct address_answer got;
    struct err err;

    (void)state;
    setup_init(&s, "local_recipient_maps = hash:/nonexistent/x\n");
    assert_int_equal(address_recipient_exists(s.address, SL("joe@example.com"),
                                              s.b.arena, &got, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_non_null(strstr(err.log, "hash:/nonexistent/x"));
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listed),
        cmocka_unit_test(test_userdb),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
