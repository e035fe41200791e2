#include "table/test_util.h"

/* passwd lines, passwd-file: and unix: tables. */

static void test_parse(void **state)
{
    struct table_user u;
    slice value;

    (void)state;
    assert_true(table_user_parse(SL("joe:{PLAIN}x:5000:5001:Joe:/home/joe:/bin/"
                                    "sh:userdb_mail=maildir:~/M allow_nets=1"),
                                 &u));
    assert_slice(u.name, SL("joe"));
    assert_slice(u.password, SL("{PLAIN}x"));
    assert_int_equal(u.uid, 5000);
    assert_int_equal(u.gid, 5001);
    assert_slice(u.home, SL("/home/joe"));
    assert_slice(u.shell, SL("/bin/sh"));
    assert_slice(u.mail, SL("maildir:~/M"));
    assert_true(table_user_extra(&u, "allow_nets", &value));
    assert_false(table_user_extra(&u, "nothing", &value));

    assert_true(table_user_parse(SL("joe"), &u));
    assert_false(u.has_uid);
    assert_slice(u.home, SLICE_NONE);
    assert_true(table_user_parse(SL("joe:x:1:2::/h"), &u));
    assert_slice(u.home, SL("/h"));
    assert_true(table_user_parse(SL("joe:x:::::"), &u));
    assert_false(u.has_uid);
    assert_false(table_user_parse(SL(":x:1:2"), &u));
    assert_false(table_user_parse(SL("joe:x:minus:2"), &u));
    assert_false(table_user_parse(SL("joe:x:4294967295:2"), &u));
}

static void test_passwd_file(void **state)
{
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "passwd-file",
                      "# users\n"
                      "Joe@Example.org:{PLAIN}x:1:2::/home/joe::\n"
                      "\n"
                      "ann@example.org::3:4::/home/ann\n"
                      "bad:x:no:1\n"
                      "ann@example.org::9:9::/other\n");
    assert_answer(bench_ask(&b, spec, "joe@example.org", 0),
                  "Joe@Example.org:{PLAIN}x:1:2::/home/joe::", "joe");
    assert_answer(bench_ask(&b, spec, "ann@example.org", 0),
                  "ann@example.org::3:4::/home/ann", "ann");
    assert_answer(bench_ask(&b, spec, "bad", 0), NULL, "bad");
    assert_non_null(strstr(buf_cstr(&b.warnings), "line 5: not a line"));
    assert_non_null(strstr(buf_cstr(&b.warnings), "line 6: duplicate entry"));
    bench_done(&b);
}

static void test_unix(void **state)
{
    struct bench b;
    struct table_user u;
    struct err err;
    bool found;
    const char *got;

    (void)state;
    bench_init(&b);
    for (int i = 0; i < 2; i++) { /* the second time from the cache */
        got = bench_ask(&b, SL("proxy:unix:passwd.byname"), "ROOT", 0);
        assert_non_null(got);
        assert_int_equal(strncmp(got, "root:", 5), 0);
        assert_null(bench_ask(&b, SL("unix:passwd.byname"), "no-such-user", 0));
    }
    got = bench_ask(&b, SL("unix:group.byname"), "root", 0);
    assert_non_null(got);
    got = bench_ask(&b, SL("unix:nonsense"), "root", 0);
    assert_non_null(strstr(got, "unknown table"));
    assert_int_equal(
        tables_system_user(b.tables, SL("root"), b.arena, &u, &found, &err), 0);
    assert_true(found);
    assert_int_equal(u.uid, 0);
    assert_slice(u.home, SL("/root"));
    assert_int_equal(tables_system_user(b.tables, SL("no-such-user"), b.arena,
                                        &u, &found, &err),
                     0);
    assert_false(found);
    got = bench_ask(&b, SL("unix:passwd.byuid"), "0", 0);
    assert_non_null(got);
    assert_int_equal(strncmp(got, "root:", 5), 0);
    assert_null(bench_ask(&b, SL("unix:passwd.byuid"), "4294967000", 0));
    assert_null(bench_ask(&b, SL("unix:passwd.byuid"), "root", 0));
    bench_done(&b);
}

static void matches(struct bench *b, uid_t uid, const char *list,
                    const char *name, bool want)
{
    struct conf *c =
        conf_from_text(slice_str(arena_printf(
                           b->arena, "authorized_mailq_users = %s\n", list)),
                       SL(""), NULL);
    struct table_match *m;
    struct err err;
    slice got;
    bool ok = !want;

    assert_int_equal(table_match_new(b->tables, c, NULL,
                                     "authorized_mailq_users", &m, &err),
                     0);
    assert_int_equal(
        tables_user_matches(b->tables, m, uid, b->arena, &got, &ok, &err), 0);
    assert_slice(got, slice_str(name));
    assert_int_equal(ok, want);
    table_match_free(&m);
    conf_unref(&c);
}

static void test_user_lists(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    matches(&b, 0, "static:anyone", "root", true);
    matches(&b, 4294967000, "static:anyone", "unknown", true);
    matches(&b, 0, "", "root", false);
    matches(&b, 0, "daemon, root", "root", true);
    matches(&b, 0, "!root, static:anyone", "root", false);
    matches(&b, 4294967000, "!unknown, static:anyone", "unknown", false);
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_passwd_file),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_user_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
