#include "address/test_util.h"

/* The forms of addresses.
 * covers: append_at_myorigin append_dot_mydomain allow_percent_hack
 * swap_bangpath remote_header_rewrite_domain myorigin mydomain */

struct rewrite_case {
    const char *in;
    const char *out;
};

static void run(const char *settings, enum address_context context,
                const struct rewrite_case *v, size_t n)
{
    struct setup s;

    setup_init(&s, settings);
    for (size_t i = 0; i < n; i++) {
        slice out;
        struct err err;

        assert_int_equal(address_rewrite(s.address, context, slice_str(v[i].in),
                                         s.b.arena, &out, &err),
                         0);
        assert_slice(out, slice_str(v[i].out));
    }
    setup_done(&s);
}

static void test_local(void **state)
{
    static const struct rewrite_case cases[] = {
        { "", "" },
        { "@", "" },
        { "joe", "joe@example.com" },
        { "joe@host", "joe@host.example.com" },
        { "joe@host.org", "joe@host.org" },
        { "joe@host.org.", "joe@host.org" },
        { "joe@host.org..", "joe@host.org.." },
        { "joe@", "joe@" },
        { "joe@[1.2.3.4]", "joe@[1.2.3.4]" },
        { "joe%other.org", "joe@other.org" },
        { "a%b%other", "a%b@other.example.com" },
        { "site!joe", "joe@site.example.com" },
        { "site!next!joe", "next!joe@site.example.com" },
        { "joe%x@host.org", "joe%x@host.org" },
        { "a@b@c", "a@b@c.example.com" },
    };

    (void)state;
    run("append_dot_mydomain = yes\n", ADDRESS_LOCAL, cases, ARRAY_LEN(cases));
}

static void test_off(void **state)
{
    static const struct rewrite_case cases[] = {
        { "joe", "joe" },
        { "joe@host", "joe@host" },
        { "joe%other.org", "joe%other.org" },
        { "site!joe", "site!joe" },
    };

    (void)state;
    run("append_dot_mydomain = no\nappend_at_myorigin = no\n"
        "allow_percent_hack = no\nswap_bangpath = no\n",
        ADDRESS_LOCAL, cases, ARRAY_LEN(cases));
}

static void test_remote(void **state)
{
    static const struct rewrite_case none[] = {
        { "joe", "joe" },
        { "joe@host", "joe@host" },
    };
    static const struct rewrite_case cases[] = {
        { "joe", "joe@domain.invalid" },
        { "joe@host", "joe@host.domain.invalid" },
    };

    (void)state;
    run("append_dot_mydomain = yes\n", ADDRESS_REMOTE, none, ARRAY_LEN(none));
    run("append_dot_mydomain = yes\nremote_header_rewrite_domain = "
        "domain.invalid\n",
        ADDRESS_REMOTE, cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_remote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
