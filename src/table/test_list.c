#include "table/test_util.h"

/* Lists, and the order in which the forms of an address are asked. */

static void test_list(void **state)
{
    struct bench b;
    struct table_list *l = NULL;
    struct err err;
    slice value;

    (void)state;
    bench_init(&b);
    assert_int_equal(table_list_new(b.tables,
                                    SL("inline:{a=1}, inline:{a=2,b=3}"
                                       " {inline:{ {c = 4} }}"),
                                    &l, &err),
                     0);
    assert_int_equal(table_list_lookup(l, SL("a"), 0, b.arena, &value, &err),
                     0);
    assert_slice(value, SL("1"));
    assert_int_equal(table_list_lookup(l, SL("b"), 0, b.arena, &value, &err),
                     0);
    assert_slice(value, SL("3"));
    assert_int_equal(table_list_lookup(l, SL("c"), 0, b.arena, &value, &err),
                     0);
    assert_slice(value, SL("4"));
    assert_int_equal(table_list_lookup(l, SL("d"), 0, b.arena, &value, &err),
                     0);
    assert_null(value.p);
    table_list_free(&l);
    /* Trouble stops a list; what stands before it still answers. */
    assert_int_equal(table_list_new(b.tables,
                                    SL("inline:{a=1} fail:x "
                                       "inline:{b=3}"),
                                    &l, &err),
                     0);
    assert_int_equal(table_list_lookup(l, SL("a"), 0, b.arena, &value, &err),
                     0);
    assert_int_equal(table_list_lookup(l, SL("b"), 0, b.arena, &value, &err),
                     -1);
    assert_int_equal(err.class, ERR_TEMP);
    table_list_free(&l);
    assert_int_equal(
        table_list_new(b.tables, SL("inline:{a=1} xyz:x"), &l, &err), -1);
    assert_null(l);
    bench_done(&b);
}

struct find_case {
    const char *table;
    const char *address;
    unsigned strategy;
    bool is_local;
    const char *want;
    const char *ext;
};

static void test_find(void **state)
{
    const unsigned all = TABLE_ADDR_DEFAULT;
    const unsigned access = TABLE_ADDR_FULL | TABLE_ADDR_NOEXT |
                            TABLE_ADDR_DOMAIN | TABLE_ADDR_USER_AT;
    const struct find_case cases[] = {
        { "inline:{a+b@x.y=1,a@x.y=2}", "a+b@x.y", all, false, "1", "" },
        { "inline:{a@x.y=2}", "a+b@x.y", all, false, "2", "+b" },
        { "inline:{a@x.y=2}", "A+B@X.Y", all, false, "2", "+B" },
        { "inline:{a+b=3,a=4}", "a+b@x.y", all, true, "3", "" },
        { "inline:{a=4}", "a+b@x.y", all, true, "4", "+b" },
        { "inline:{a=4}", "a+b@x.y", all, false, NULL, "" },
        { "inline:{@x.y=5}", "a+b@x.y", all, false, "5", "+b" },
        { "inline:{@x.y=5}", "a@x.y", all, false, "5", "" },
        { "inline:{a=4}", "a", all, false, "4", "" },
        { "inline:{ {\"a b\"@x.y=6} }", "a b@x.y", all, false, "6", "" },
        { "inline:{x.y=7}", "a@x.y", access, false, "7", "" },
        { "inline:{.y=8}", "a@x.y", access | TABLE_ADDR_PARENT, false, "8",
          "" },
        { "inline:{y=9}", "a@x.y", access | TABLE_ADDR_PARENT, false, NULL,
          "" },
        { "inline:{y=9}", "a@z.x.y", access | TABLE_ADDR_PARENT_BARE, false,
          "9", "" },
        { "inline:{a@=10}", "a+b@x.y", access, false, "10", "+b" },
        { "inline:{a+b@=11}", "a+b@x.y", access, false, "11", "" },
        { "inline:{owner=1}", "owner-list@x", all, true, NULL, "" },
    };
    struct bench b;

    (void)state;
    bench_init(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct find_case *c = &cases[i];
        struct table_addr_find how = { .strategy = c->strategy,
                                       .delimiters = SL("+-"),
                                       .is_local = c->is_local };
        struct table_list *l = NULL;
        struct err err;
        slice value;
        slice ext = SLICE_NONE;

        assert_int_equal(
            table_list_new(b.tables, slice_str(c->table), &l, &err), 0);
        assert_int_equal(table_list_find_addr(l, slice_str(c->address), &how,
                                              b.arena, &value, &ext, &err),
                         0);
        assert_answer(value.p == NULL ? NULL : slice_cstr(b.arena, value),
                      c->want, c->address);
        assert_slice(ext, slice_str(c->ext));
        table_list_free(&l);
    }
    bench_done(&b);
}

/* A pattern table sees the full address only. */
static void test_find_pattern(void **state)
{
    struct bench b;
    struct table_addr_find how = { .strategy = TABLE_ADDR_DEFAULT,
                                   .delimiters = SL("+"),
                                   .is_local = true };
    struct table_list *l = NULL;
    struct err err;
    slice value;

    (void)state;
    bench_init(&b);
    assert_int_equal(table_list_new(b.tables,
                                    bench_file(&b, 0, "regexp",
                                               "/^@/ x\n/^a$/ y\n"
                                               "/^b\\+c@/ z\n"),
                                    &l, &err),
                     0);
    assert_int_equal(table_list_find_addr(l, SL("a@x"), &how, b.arena, &value,
                                          NULL, &err),
                     0);
    assert_null(value.p);
    assert_int_equal(table_list_find_addr(l, SL("b+c@x"), &how, b.arena, &value,
                                          NULL, &err),
                     0);
    assert_slice(value, SL("z"));
    table_list_free(&l);
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_find_pattern),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
