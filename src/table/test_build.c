#include "table/table_priv.h"
#include "table/test_util.h"

/* Building a source into an indexed file, and reading it back. */

static int built(struct bench *b, slice source, enum table_format format,
                 unsigned dups)
{
    const char *path = slice_cstr(b->arena, source);
    struct table_build how = {
        .source_fd = open(path, O_RDONLY | O_CLOEXEC),
        .source_name = path,
        .format = format,
        .warn = bench_warn,
        .warn_ctx = b,
        .dup_is_ok = dups == 1,
        .dup_is_first = dups == 2,
    };
    int dir = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err err;
    int fd;

    assert_int_equal(table_build_file(&how, dir, "f99", 0640, &err), 0);
    fd = openat(dir, "f99", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)close(how.source_fd);
    (void)close(dir);
    return fd;
}

static int collect(void *ctx, slice key, slice value, struct err *err)
{
    (void)err;
    buf_printf(ctx, "%.*s=%.*s;", SLF(key), SLF(value));
    return 0;
}

static void test_postmap(void **state)
{
    struct bench b;
    struct stat st;
    struct err err;
    struct buf all;
    slice spec;
    int fd;

    (void)state;
    bench_init(&b);
    buf_init(&all, 4096);
    spec = bench_file(&b, 0, "hash", "A@x  one\nb two\n  more\nb three\nc\n");
    fd = built(&b, slice_from(spec, 5), TABLE_POSTMAP, 0);
    assert_int_equal(stat(slice_cstr(b.arena, slice_from(spec, 5)), &st), 0);
    assert_true(table_built_is_fresh(fd, &st));
    st.st_size++;
    assert_false(table_built_is_fresh(fd, &st));
    assert_int_equal(tables_give(b.tables, spec, fd, 1, &err), 0);
    assert_answer(bench_ask(&b, spec, "a@X", 0), "one", "folded");
    assert_answer(bench_ask(&b, spec, "b", 0), "two  more", "first wins");
    assert_answer(bench_ask(&b, spec, "c", 0), NULL, "no value");
    assert_answer(bench_ask(&b, spec, "d", 0), NULL, "absent");
    assert_int_equal(table_each(b.tables, spec, collect, &all, &err), 0);
    assert_string_equal(buf_cstr(&all), "a@x=one;b=two  more;");
    assert_non_null(
        strstr(buf_cstr(&b.warnings), "line 4: duplicate entry: \"b\""));
    assert_non_null(strstr(buf_cstr(&b.warnings), "line 5: expected format"));
    buf_done(&all);
    bench_done(&b);
}

static void test_duplicates(void **state)
{
    struct bench b;
    struct err err;
    slice spec;

    (void)state;
    for (unsigned how = 1; how <= 2; how++) {
        bench_init(&b);
        spec = bench_file(&b, 0, "lmdb", "b two\nb three\n");
        assert_int_equal(tables_give(b.tables, spec,
                                     built(&b, slice_from(spec, 5),
                                           TABLE_POSTMAP, how),
                                     1, &err),
                         0);
        assert_answer(bench_ask(&b, spec, "b", 0), how == 1 ? "three" : "two",
                      "duplicate");
        assert_slice(buf_view(&b.warnings), SLICE_NONE);
        bench_done(&b);
    }
}

static void test_postalias(void **state)
{
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "hash",
                      "# aliases\n"
                      "Postmaster: root\n"
                      "\"Joe User\": joe, \"|cmd a:b\"\n"
                      "list : :include:/x,\n"
                      "   other\n"
                      "broken line\n"
                      "empty:\n");
    tables_set_alias_format(b.tables, spec);
    assert_answer(bench_ask(&b, spec, "postmaster", 0), "root", "postmaster");
    assert_answer(bench_ask(&b, spec, "joe user", 0), "joe, \"|cmd a:b\"",
                  "quoted");
    assert_answer(bench_ask(&b, spec, "LIST", 0), ":include:/x,   other",
                  "list");
    assert_non_null(strstr(buf_cstr(&b.warnings), "line 6: need name:value"));
    assert_non_null(strstr(buf_cstr(&b.warnings), "line 7: need name:value"));
    bench_done(&b);
}

static void test_names(void **state)
{
    char one[TABLE_FILE_NAME];
    char two[TABLE_FILE_NAME];

    (void)state;
    table_built_name(SL("/etc/aliases"), TABLE_POSTALIAS, one);
    table_built_name(SL("/etc/aliases"), TABLE_POSTMAP, two);
    assert_int_equal(strncmp(one, "aliases-", 8), 0);
    assert_string_not_equal(one, two);
    table_built_name(SL("/etc/we/../ird na\nme"), TABLE_POSTMAP, one);
    assert_int_equal(strncmp(one, "ird_na_me-", 10), 0);
    assert_int_equal(table_format_of("alias_maps"), TABLE_POSTALIAS);
    assert_int_equal(table_format_of("alias_database"), TABLE_POSTALIAS);
    assert_int_equal(table_format_of("virtual_alias_maps"), TABLE_POSTMAP);
}

/* In direct mode a built file is used while it is fresh, else the source. */
static void test_direct(void **state)
{
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "hash", "a one\n");
    tables_set_direct(b.tables, b.dir);
    assert_answer(bench_ask(&b, spec, "a", 0), "one", "from the source");
    bench_done(&b);
}

static void test_damage(void **state)
{
    struct bench b;
    slice spec;
    int from;
    static char bytes[4096];
    ssize_t n;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "hash", "a one\nb two\nc three\n");
    from = built(&b, slice_from(spec, 5), TABLE_POSTMAP, 0);
    n = read(from, bytes, sizeof(bytes));
    assert_true(n > 2048);
    (void)close(from);
    for (ssize_t i = 0; i < n; i += 7) {
        int fd = built_memfd(NULL);
        struct tables *t = tables_new();
        struct err err;
        slice value;
        char was = bytes[i];

        bytes[i] = (char)~bytes[i];
        assert_int_equal(write(fd, bytes, (size_t)n), n);
        if (tables_give(t, spec, fd, 1, &err) == 0)
            (void)table_lookup(t, spec, SL("b"), 0, b.arena, &value, &err);
        bytes[i] = was;
        tables_free(&t);
    }
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_postmap),   cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_postalias), cmocka_unit_test(test_names),
        cmocka_unit_test(test_direct),    cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
