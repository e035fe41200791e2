#include "table/test_util.h"

/* Match lists.
 * covers: parent_domain_matches_subdomains */

struct match_case {
    const char *list;
    const char *what;
    bool want;
};

static struct table_match *match_of(struct bench *b, const char *param,
                                    const char *list, struct err *err)
{
    const char *text = arena_printf(b->arena, "%s = %s\n", param, list);
    struct conf *c = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    struct table_match *m = NULL;

    if (table_match_new(b->tables, c, NULL, param, &m, err) < 0)
        m = NULL;
    conf_unref(&c);
    return m;
}

static void test_string(void **state)
{
    static const struct match_case cases[] = {
        { "a.example, B.example", "b.EXAMPLE", true },
        { "a.example, B.example", "x.a.example", false },
        { "!a.example, static:all", "a.example", false },
        { "!a.example, static:all", "b.example", true },
        { "inline:{a.example=x}", "A.example", true },
        { "", "a", false },
    };
    struct bench b;
    struct err err;
    bool got;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct table_match *m =
            match_of(&b, "mydestination", cases[i].list, &err);

        assert_non_null(m);
        assert_int_equal(
            table_match_string(m, slice_str(cases[i].what), &got, &err), 0);
        assert_int_equal(got, cases[i].want);
        table_match_free(&m);
    }
    bench_done(&b);
}

static void test_domain(void **state)
{
    static const struct {
        const char *param;
        const char *list;
        const char *what;
        bool want;
    } cases[] = {
        { "relay_domains", "example.org", "a.b.example.org", true },
        { "relay_domains", "example.org", "xexample.org", false },
        { "relay_domains", "!b.example.org example.org", "a.b.example.org",
          false },
        { "relay_domains", "inline:{example.org=x}", "a.b.example.org", true },
        { "virtual_alias_domains", "example.org", "a.example.org", false },
        { "virtual_alias_domains", ".example.org", "a.example.org", true },
        { "virtual_alias_domains", ".example.org", "example.org", false },
        { "virtual_alias_domains", "inline:{.example.org=x}", "a.example.org",
          true },
    };
    struct bench b;
    struct err err;
    bool got;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct table_match *m =
            match_of(&b, cases[i].param, cases[i].list, &err);

        assert_non_null(m);
        assert_int_equal(
            table_match_domain(m, slice_str(cases[i].what), &got, &err), 0);
        if (got != cases[i].want)
            fail_msg("%s %s", cases[i].list, cases[i].what);
        table_match_free(&m);
    }
    bench_done(&b);
}

static void test_client(void **state)
{
    static const struct {
        const char *list;
        const char *name;
        const char *ip;
        bool want;
    } cases[] = {
        { "127.0.0.0/8 [::1]/128", "unknown", "127.0.0.1", true },
        { "127.0.0.0/8 [::1]/128", "unknown", "::1", true },
        { "127.0.0.0/8 [::1]/128", "unknown", "10.0.0.1", false },
        { "!10.1.0.0/16, 10.0.0.0/8", "unknown", "10.1.2.3", false },
        { "!10.1.0.0/16, 10.0.0.0/8", "unknown", "10.2.2.3", true },
        { "192.0.2.7", "unknown", "192.0.2.7", true },
        { "2001:db8::7", "unknown", "2001:db8::7", true },
        { "example.org", "mail.example.org", "192.0.2.7", true },
        { "unknown", "unknown", "192.0.2.7", false },
        { "inline:{192.0.2.7=x}", "unknown", "192.0.2.7", true },
        { "", "unknown", "192.0.2.7", false },
    };
    struct bench b;
    struct err err;
    bool got;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct table_match *m = match_of(&b, "mynetworks", cases[i].list, &err);

        assert_non_null(m);
        assert_int_equal(table_match_client(m, slice_str(cases[i].name),
                                            slice_str(cases[i].ip), &got, &err),
                         0);
        if (got != cases[i].want)
            fail_msg("%s %s", cases[i].list, cases[i].ip);
        table_match_free(&m);
    }
    /* A mask that does not fit is refused at once, not "no match". */
    assert_null(match_of(&b, "mynetworks", "10.0.0.1/8", &err));
    assert_non_null(strstr(err.log, "perhaps you should use"));
    bench_done(&b);
}

static void test_trouble(void **state)
{
    struct bench b;
    struct table_match *m;
    struct err err;
    bool got = true;

    (void)state;
    bench_init(&b);
    m = match_of(&b, "mydestination", "a.example hash:/nonexistent/x", &err);
    assert_non_null(m);
    assert_int_equal(table_match_string(m, SL("a.example"), &got, &err), 0);
    assert_true(got);
    assert_int_equal(table_match_string(m, SL("b.example"), &got, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_non_null(strstr(err.log, "mydestination"));
    table_match_free(&m);
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_string),
        cmocka_unit_test(test_domain),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
