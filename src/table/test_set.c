#include "table/test_util.h"

/* The types that stand in the configuration, files, and what happens when
 * data are missing or broken. */

static void test_kinds(void **state)
{
    static const struct {
        const char *type;
        enum table_kind kind;
    } cases[] = {
        { "hash", TABLE_BUILT },       { "btree", TABLE_BUILT },
        { "lmdb", TABLE_BUILT },       { "cdb", TABLE_BUILT },
        { "dbm", TABLE_BUILT },        { "texthash", TABLE_SOURCE },
        { "regexp", TABLE_SOURCE },    { "pcre", TABLE_SOURCE },
        { "cidr", TABLE_SOURCE },      { "inline", TABLE_CONF },
        { "static", TABLE_CONF },      { "unionmap", TABLE_CONF },
        { "pipemap", TABLE_CONF },     { "randmap", TABLE_CONF },
        { "fail", TABLE_CONF },        { "environ", TABLE_CONF },
        { "unix", TABLE_SERVED },      { "passwd-file", TABLE_SERVED },
        { "socketmap", TABLE_SERVED }, { "tcp", TABLE_SERVED },
        { "ldap", TABLE_NOT_YET },     { "mysql", TABLE_NOT_YET },
        { "nonsense", TABLE_UNKNOWN },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(table_kind(slice_str(cases[i].type)), cases[i].kind);
}

static void test_canonical(void **state)
{
    slice type;
    slice name;
    slice whole;

    (void)state;
    assert_true(
        table_canonical(SL(" proxy:hash:/etc/x "), &type, &name, &whole));
    assert_slice(type, SL("hash"));
    assert_slice(name, SL("/etc/x"));
    assert_slice(whole, SL("hash:/etc/x"));
    assert_false(table_canonical(SL("/etc/x"), &type, &name, &whole));
}

static void add_leaf(void *ctx, slice type, slice name, slice whole)
{
    (void)type;
    (void)name;
    buf_printf(ctx, "<%.*s>", SLF(whole));
}

static void test_leaves(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    table_each_leaf(SL("unionmap:{hash:/a, pipemap:{texthash:/b,{inline:{ {x = "
                       "y} }}}}"),
                    add_leaf, &out);
    assert_string_equal(buf_cstr(&out),
                        "<hash:/a><texthash:/b><inline:{ {x = y}"
                        " }>");
    buf_done(&out);
}

static void test_in_configuration(void **state)
{
    static const struct {
        const char *spec;
        const char *key;
        const char *want;
    } cases[] = {
        { "inline:{a=b, C=d}", "c", "d" },
        { "inline:{a=b, C=d}", "A", "b" },
        { "inline:{a=b}", "b", NULL },
        { "inline:{ {a = b, c} { x y = z } }", "a", "b, c" },
        { "inline:{ {a = b, c} { x y = z } }", "x y", "z" },
        { "inline:{a}", "a", "!inline:{a}: missing '='" },
        { "inline:a=b", "a", "!bad syntax" },
        { "static:word", "anything", "word" },
        { "static:{two words}", "anything", "two words" },
        { "fail:x", "a", "!table fail:x: lookup error" },
        { "randmap:{only}", "a", "only" },
        { "randmap:{}", "a", "!bad syntax" },
        { "unionmap:{inline:{a=1},inline:{b=2},inline:{a=3}}", "a", "1,3" },
        { "unionmap:{inline:{a=1},inline:{b=2},inline:{a=3}}", "c", NULL },
        { "unionmap:{inline:{a=1},fail:y}", "a", "!table fail:y" },
        { "pipemap:{inline:{a=b},inline:{b=c}}", "a", "c" },
        { "pipemap:{inline:{a=b},inline:{b=c}}", "b", NULL },
        { "environ:", "hato_test_variable", NULL },
        { "ldap:/x", "a", "!ldap:/x: lookup tables of type ldap are not done" },
        { "nonsense:x", "a", "!unsupported dictionary type: nonsense" },
        { "noname", "a", "!need type:name" },
        { "inline:{a=b}", "", NULL },
    };
    struct bench b;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got =
            bench_ask(&b, slice_str(cases[i].spec), cases[i].key, 0);
        const char *want = cases[i].want;

        if (want != NULL && want[0] == '!' && got != NULL &&
            strncmp(got, want, strlen(want)) == 0)
            continue;
        assert_answer(got, want, cases[i].spec);
    }
    bench_done(&b);
}

static void test_texthash(void **state)
{
    static const char text[] = "# comment\n"
                               "User@Example.org   value with  spaces  \n"
                               "key one,\n"
                               "# in between\n"
                               "  two\n"
                               "\"quoted key\"@x  yes\n"
                               "key again\n"
                               "lonely\n"
                               "M\xc3\x9cLLER@x m\n"
                               "name: value\n";
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "texthash", text);
    assert_answer(bench_ask(&b, spec, "user@EXAMPLE.org", 0),
                  "value with  spaces", "folded");
    assert_answer(bench_ask(&b, spec, "key", 0), "one,  two", "continued");
    assert_answer(bench_ask(&b, spec, "\"quoted key\"@x", 0), "yes", "quoted");
    assert_answer(bench_ask(&b, spec, "lonely", 0), NULL, "no value");
    assert_answer(bench_ask(&b, spec, "m\xc3\xbcller@x", 0), "m", "UTF-8");
    assert_non_null(
        strstr(buf_cstr(&b.warnings), "line 7: duplicate entry: \"key\""));
    assert_non_null(strstr(buf_cstr(&b.warnings),
                           "line 8: expected format: key whitespace value"));
    assert_non_null(strstr(buf_cstr(&b.warnings), "is this an alias file?"));
    bench_done(&b);
}

/* Invariant 1: what is gone or broken is trouble that names the table. */
static void test_missing(void **state)
{
    struct bench b;
    const char *got;
    struct tables *fed;
    struct err err;
    slice value;

    (void)state;
    bench_init(&b);
    got = bench_ask(&b, SL("texthash:/nonexistent/t"), "a", 0);
    assert_non_null(got);
    assert_non_null(strstr(got, "texthash:/nonexistent/t"));
    got = bench_ask(&b, SL("hash:/nonexistent/t"), "a", 0);
    assert_true(got != NULL && got[0] == '!');
    got = bench_ask(&b, SL("texthash:/tmp"), "a", 0);
    assert_true(got != NULL && got[0] == '!');

    fed = tables_new();
    assert_int_equal(table_lookup(fed, SL("hash:/x"), SL("a"), 0, b.arena,
                                  &value, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_non_null(strstr(err.log, "hash:/x"));
    assert_int_equal(table_lookup(fed, SL("unix:passwd.byname"), SL("a"), 0,
                                  b.arena, &value, &err),
                     -1);
    tables_free(&fed);
    bench_done(&b);
}

/* Invariant 2: a list sees new data; broken new data leave the old ones. */
static void test_give(void **state)
{
    struct bench b;
    struct tables *t = tables_new();
    struct table_list *l = NULL;
    struct err err;
    slice value;
    slice spec;

    (void)state;
    bench_init(&b);
    assert_int_equal(table_list_new(t, SL("texthash:/some/where"), &l, &err),
                     0);
    assert_int_equal(table_list_lookup(l, SL("a"), 0, b.arena, &value, &err),
                     -1);
    for (int i = 0; i < 2; i++) {
        spec = bench_file(&b, i, "texthash", i == 0 ? "a first\n" : "a 2nd\n");
        assert_int_equal(
            tables_give(t, SL("texthash:/some/where"),
                        open(slice_cstr(b.arena, slice_from(spec, 9)),
                             O_RDONLY),
                        1, &err),
            0);
        assert_int_equal(
            table_list_lookup(l, SL("a"), 0, b.arena, &value, &err), 0);
        assert_slice(value, i == 0 ? SL("first") : SL("2nd"));
    }
    spec = bench_file(&b, 3, "cdb", "this is no cdb file\n");
    assert_int_equal(tables_give(t, SL("hash:/y"),
                                 open(slice_cstr(b.arena, slice_from(spec, 4)),
                                      O_RDONLY),
                                 1, &err),
                     -1);
    assert_int_equal(
        table_lookup(t, SL("hash:/y"), SL("a"), 0, b.arena, &value, &err), -1);
    table_list_free(&l);
    tables_free(&t);
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_in_configuration),
        cmocka_unit_test(test_texthash),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_give),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
