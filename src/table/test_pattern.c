#include "table/table_priv.h"
#include "table/test_util.h"

/* regexp:, pcre: and cidr: tables, rule by rule. */

struct ask {
    const char *key;
    const char *want;
};

static void ask_all(struct bench *b, slice spec, const struct ask *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_answer(bench_ask(b, spec, v[i].key, 0), v[i].want, v[i].key);
}

static void test_regexp(void **state)
{
    static const char text[] = "# a comment\n"
                               "/^(.*)@old\\.example$/  $1@new.example\n"
                               "/^a[\\.]b$/ backslash or dot\n"
                               "!/@/ no at sign: $$1\n"
                               "if /special/\n"
                               "/first/\n"
                               "  continued ${1}\n"
                               "/one(.)two/ <$(1)>\n"
                               "endif\n"
                               "/x{2,3}y/ repeated\n"
                               "/case/i sensitive\n";
    static const struct ask asks[] = {
        { "Joe@OLD.example", "Joe@new.example" },
        { "a.b@c", NULL },
        { "nothing", "no at sign: $1" },
        { "special-one+two@x", "<+>" },
        { "one+two@x", NULL },
        { "axxy@z", "repeated" },
        { "axy@z", NULL },
        { "case@z", "sensitive" },
        { "CASE@z", NULL },
    };
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "regexp", text);
    ask_all(&b, spec, asks, ARRAY_LEN(asks));
    assert_non_null(strstr(buf_cstr(&b.warnings), "out of range"));
    bench_done(&b);
}

static void test_pcre(void **state)
{
    static const char text[] = "/^(\\w+)@(?:a|b)\\.example$/ user=$1\n"
                               "/dot.all/s no newline\n"
                               "/^e$/ before the newline\n"
                               "if !/^x/\n"
                               "/in-if/ ok\n"
                               "endif\n"
                               "/(opt)?end-$/ [$1]\n";
    static const struct ask asks[] = {
        { "Joe@A.example", "user=Joe" },
        { "joe@c.example", NULL },
        { "dot all", "no newline" },
        { "dot\nall", NULL },
        { "e\n", "before the newline" },
        { "in-if", "ok" },
        { "xin-if", NULL },
        { "end-", "[]" },
        { "optend-", "[opt]" },
    };
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "pcre", text);
    ask_all(&b, spec, asks, ARRAY_LEN(asks));
    assert_slice(buf_view(&b.warnings), SLICE_NONE);
    bench_done(&b);
}

/* Each bad line is left out with a warning and the rest goes on. */
static void test_bad_rules(void **state)
{
    static const struct {
        const char *line;
        const char *warning;
    } bad[] = {
        { "/unclosed", "no closing regexp delimiter" },
        { "/a/q x", "unknown regexp option \"q\"" },
        { "/a/ $2", "out of range replacement index" },
        { "/a(b)/ ${one}", "non-numeric replacement index" },
        { "/a(b)/ ${1", "bad replacement syntax" },
        { "!/a(b)/ $1", "$number found in negative match" },
        { "*what", "no closing regexp delimiter" },
        { "word text", "ignoring unrecognized request" },
        { "endif", "ignoring ENDIF without matching IF" },
        { "if /a/", "IF has no matching ENDIF" },
        { "/a/", "no replacement text: using empty string" },
        { "/(/ x", "" },
        { "/a**{,2}[/ x", "Unmatched [" },
        { "/*a/ x", "Invalid preceding regular expression" },
        { "/a**/x x", "Invalid preceding regular expression" },
        { "/(a\\1)/ x", "Invalid back reference" },
    };
    struct bench b;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        slice spec;
        const char *got;
        char text[200];

        bench_init(&b);
        (void)snprintf(text, sizeof(text), "/^good$/ yes\n%s\n", bad[i].line);
        spec = bench_file(&b, 0, "regexp", text);
        assert_answer(bench_ask(&b, spec, "good", 0), "yes", bad[i].line);
        got = buf_cstr(&b.warnings);
        if (strstr(got, bad[i].warning) == NULL || got[0] == '\0')
            fail_msg("%s: warned \"%s\"", bad[i].line, got);
        bench_done(&b);
    }
}

static void test_no_regsub(void **state)
{
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "regexp", "/^(a)/ $1\n/^a/ plain\n");
    assert_answer(bench_ask(&b, spec, "ab", 0), "a", "with");
    assert_answer(bench_ask(&b, spec, "ab", TABLE_NO_REGSUB), "plain",
                  "without");
    bench_done(&b);
}

/* A pattern that backtracks for ever is trouble, not an answer. */
static void test_limits(void **state)
{
    char key[101];
    struct bench b;
    slice spec;
    const char *got;

    (void)state;
    memset(key, 'a', 99);
    key[99] = 'b';
    key[100] = '\0';
    bench_init(&b);
    spec = bench_file(&b, 0, "pcre", "/^(a|aa)+$/ x\n");
    got = bench_ask(&b, spec, key, 0);
    assert_true(got != NULL && strstr(got, "match limit exceeded") != NULL);
    bench_done(&b);
}

static void test_posix(void **state)
{
    static const struct {
        const char *posix;
        bool extended;
        const char *pcre;
    } cases[] = {
        { "a\\.b", true, "a\\.b" },
        { "a{,3}", true, "a{0,3}" },
        { "a+*", true, "(?:a+)*" },
        { "(ab)*?", true, "(?:(ab)*)?" },
        { "[]a\\]", true, "[\\x5da\\x5c]" },
        { "[^[:alpha:]-]", true, "[^[:alpha:]-]" },
        { "[[.-.]x]", true, "[\\x2dx]" },
        { "\\<a\\>", true, "\\b(?=\\w)a\\b(?<=\\w)" },
        { "a)", true, "a\\)" },
        { "\\(a\\)*b+", false, "(a)*b\\+" },
        { "*a^b$c$", false, "\\*a\\^b\\$c$" },
        { "a\\{2\\}", false, "a{2}" },
    };
    struct buf out;
    const char *why;

    (void)state;
    buf_init(&out, 4096);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&out);
        assert_true(posix_to_pcre(slice_str(cases[i].posix),
                                  cases[i].extended ? POSIX_EXTENDED : 0, &out,
                                  &why));
        assert_string_equal(buf_cstr(&out), cases[i].pcre);
    }
    buf_done(&out);
}

static void test_cidr(void **state)
{
    static const char text[] = "192.0.2.1 one\n"
                               "192.0.2.0/24 net\n"
                               "!10.0.0.0/8 not ten\n"
                               "if 10.1.0.0/16\n"
                               "10.1.2.0/24 inner\n"
                               "endif\n"
                               "10.0.0.0/8 ten\n"
                               "[2001:db8::]/32 v6\n"
                               "::/0 any v6\n";
    static const struct ask asks[] = {
        { "192.0.2.1", "one" },       { "192.0.2.2", "net" },
        { "10.1.2.3", "inner" },      { "10.1.3.3", "ten" },
        { "203.0.113.9", "not ten" }, { "2001:db8::7", "v6" },
        { "2001:db9::7", "any v6" },  { "not an address", NULL },
    };
    static const struct ask warned[] = {
        { "10.0.0.1/8 x", "perhaps you should use \"10.0.0.0/8\" instead" },
        { "10.0.0.0/33 x", "bad mask value" },
        { "300.0.0.1 x", "bad net/mask pattern" },
        { "10.0.0.0/8", "no lookup result" },
        { "endif", "ENDIF without matching IF" },
    };
    struct bench b;
    slice spec;

    (void)state;
    bench_init(&b);
    spec = bench_file(&b, 0, "cidr", text);
    ask_all(&b, spec, asks, ARRAY_LEN(asks));
    assert_slice(buf_view(&b.warnings), SLICE_NONE);
    for (size_t i = 0; i < ARRAY_LEN(warned); i++) {
        buf_clear(&b.warnings);
        spec = bench_file(&b, (int)i + 1, "cidr", warned[i].key);
        assert_answer(bench_ask(&b, spec, "10.2.3.4", 0), NULL, warned[i].key);
        if (strstr(buf_cstr(&b.warnings), warned[i].want) == NULL)
            fail_msg("warned %s", buf_cstr(&b.warnings));
    }
    bench_done(&b);
}

static void test_net(void **state)
{
    (void)state;
    assert_true(table_net_match(SL("127.0.0.0/8"), SL("127.1.2.3")));
    assert_false(table_net_match(SL("127.0.0.0/8"), SL("128.0.0.1")));
    assert_true(table_net_match(SL("[::1]/128"), SL("::1")));
    assert_true(table_net_match(SL("[::1]"), SL("::1")));
    assert_true(table_net_match(SL("0.0.0.0/0"), SL("9.9.9.9")));
    assert_false(table_net_match(SL("0.0.0.0/0"), SL("::1")));
    assert_true(table_net_match(SL("10.9.8.0/23"), SL("10.9.9.1")));
    assert_false(table_net_match(SL("10.9.8.0/23"), SL("10.9.10.1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regexp),    cmocka_unit_test(test_pcre),
        cmocka_unit_test(test_bad_rules), cmocka_unit_test(test_no_regsub),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_posix),
        cmocka_unit_test(test_cidr),      cmocka_unit_test(test_net),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
