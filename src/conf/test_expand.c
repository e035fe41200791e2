/* The language of values: expansion, and its errors by their text. */
#include "conf/conf.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char fixture[] = "one = 1\ntwo =\nthree = $two\n"
                              "compatibility_level = 3.6\n"
                              "loop = $pool\npool = ${loop}\n";

static const struct {
    const char *text;
    const char *want;
} good[] = {
    { "${one:foo} [${two:foo}] [${two?x}] [${one?y}]", " [foo] [] [y]" },
    { "${one?{a b}:{c d}} ${two ? {q} : {r s}}", "a b r s" },
    { "${{$one} == {1} ? {eq} : {ne}}", "eq" },
    { "[${{$one} == {1}}] [${{$one} == {2}}]", "[true] []" },
    { "${{abc} < {abd} ? {lt} : {ge}} ${{10} < {9} ? {lt}:{ge}} "
      "${{10x} < {9x} ? {lt}:{ge}}",
      "lt ge lt" },
    { "$$one $(one) ${one}", "$one 1 1" },
    { "${undefinedx}|$undefinedx|", "||" },
    { "${{3.10} <level {3.9} ? {lt} : {ge}} ${{3.10} >=level {3.9} ? {x} }",
      "ge x" },
    { "${one?a:b}", "a:b" },
    { "${one?{a}:b}", "a" },
    { "${two?{x}:y}", "y" },
    { "${ one }", "1" },
    { "$one-x $one.y", "1-x 1.y" },
    { "${{a} == {b} : {d}}", "d" },
    { "[${one? {a} : {b} }]", "[a]" },
    { "${two?{a}:{${one?{in}:{out}}}}", "in" },
    { "[${one?{a}}] [${one?}] [${two:}]", "[a] [] []" },
    { "[${one? a }] [${one?{ a }:{ b }}]", "[ a ] [ a ]" },
    { "${{1}>{2}?{a}:{b}} ${{1}>={2}?{a}:{b}}${{1}<={2}?{a}:{b}}", "b ba" },
    { "[${{}=={}?{a}:{b}}]", "[a]" },
    { "${{ x }=={x}?{a}:{b}} ${{ABC}=={abc}?{a}:{b}}", "b b" },
    { "$(one?{a}:{b}) $(one?(a))", "a (a)" },
    { "${one?{a}:{b}}}", "a}" },
    { "${{01} == {1} ?{eq}:{ne}} ${{1} != {1.0}?{ne}:{eq}} "
      "${{-1} < {0}?{lt}:{ge}}",
      "eq ne lt" },
    { "${one?$$one} ${one?${two:{z}}}", "$one z" },
    { "[${three?{set}:{empty}}] ${two:one}", "[set] one" },
    { "[${{$three} == {} ? {eq} : {ne}}]", "[eq]" },
    { "${{3.6.1} >level {3.6} ? {y}:{n}} ${{3} ==level {3.0} ? {y}:{n}}",
      "y y" },
    { "[${one?{}:{x}}] ${one?{a}:}${two?{a}:}", "[] a" },
    { "${one?a}b}", "ab}" },
    { "${{$one}=={1}?x y:z}", "x y:z" },
    { "a b, c", "a b, c" },
    { "$mydomain $myhostname", "example.com hato.example.com" },
};

static void test_good(void **state)
{
    struct conf *c = conf_from_text(SL(fixture), SLICE_NONE, NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct buf out;
        struct err err;

        buf_init(&out, 10000);
        if (conf_expand(c, NULL, slice_str(good[i].text), &out, &err) < 0)
            fail_msg("%s: %s", good[i].text, err.log);
        assert_string_equal(buf_cstr(&out), good[i].want);
        buf_done(&out);
    }
    conf_unref(&c);
}

static const struct {
    const char *text;
    const char *want;
} bad[] = {
    { "a$ b", "empty name behind $ (write $$ for a dollar) at: \" b\"" },
    { "a$", "empty name behind $ (write $$ for a dollar) at: \"\"" },
    { "${one", "truncated ${ reference at: \"{one\"" },
    { "${}", "empty name in ${}" },
    { "${one?{a}b}", "\":\" expected at: \"b\"" },
    { "${one.foo}", "name syntax error at: \".foo\"" },
    { "${one !}", "name syntax error at: \"!\"" },
    { "${(one)}", "name syntax error at: \"(one)\"" },
    { "${{$one}==1?{a}:{b}}", "bad operator suffix at: \"1?{a}:{b}\"" },
    { "${{a}={b}?{c}:{d}}",
      "one of == != < <= > >= expected at: \"={b}?{c}:{d}\"" },
    { "${{3} <level {x}?{a}:{b}}",
      "malformed compatibility level: \"3\" or \"x\"" },
    { "${{a} == b}", "\"{\" expected at: \" b\"" },
    { "${{a} == {b} x}", "\"?\" or \":\" expected at: \"x\"" },
    { "${two:{x}:{y}}", "unexpected input at: \":{y}\"" },
    { "${two:{x}y}", "unexpected input at: \"y\"" },
    { "$loop", "more than 50 names and braces in each other: does \"$pool\" "
               "name itself?" },
};

static void test_bad(void **state)
{
    struct conf *c = conf_from_text(SL(fixture), SLICE_NONE, NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf out;
        struct err err;

        buf_init(&out, 10000);
        if (conf_expand(c, NULL, slice_str(bad[i].text), &out, &err) == 0)
            fail_msg("%s: not refused", bad[i].text);
        assert_string_equal(err.log, bad[i].want);
        buf_done(&out);
    }
    conf_unref(&c);
}

/* $a is $b$b, $b is $c$c ...: no output, but 2^40 names. */
static void test_bomb(void **state)
{
    struct buf text;
    struct buf out;
    struct err err;
    struct conf *c;

    (void)state;
    buf_init(&text, 10000);
    for (int i = 0; i < 40; i++)
        buf_printf(&text, "x%d = $x%d$x%d\n", i, i + 1, i + 1);
    c = conf_from_text(buf_view(&text), SLICE_NONE, NULL);
    buf_init(&out, 10000);
    assert_int_equal(conf_expand(c, NULL, SL("$x0"), &out, &err), -1);
    assert_string_equal(err.log, "more than 20000 names to expand");
    buf_done(&out);
    buf_done(&text);
    conf_unref(&c);
}

static bool lookup_user(void *ctx, slice name, struct buf *out)
{
    (void)ctx;
    if (slice_eqs(name, "user"))
        return buf_puts(out, "to$mo;x");
    if (slice_eqs(name, "extension"))
        return buf_puts(out, "");
    return false;
}

static void test_foreign(void **state)
{
    struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 100);
    assert_int_equal(conf_expand_with(SL("/u/$user${extension?+$extension}$x"),
                                      lookup_user, NULL, &out, &err),
                     0);
    assert_string_equal(buf_cstr(&out), "/u/to$mo;x");
    buf_clear(&out);
    assert_int_equal(conf_expand_filtered(SL("; $user"), lookup_user, NULL,
                                          "abcdefghijklmnopqrstuvwxyz", &out,
                                          &err),
                     0);
    assert_string_equal(buf_cstr(&out), "; to_mo_x");
    buf_clear(&out);
    buf_done(&out);
}

static void test_long(void **state)
{
    struct conf *c = conf_from_text(SL("a = 0123456789\n"), SLICE_NONE, NULL);
    struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 15);
    assert_int_equal(conf_expand(c, NULL, SL("$a$a"), &out, &err), -1);
    assert_non_null(strstr(err.log, "the expanded value is longer than"));
    buf_done(&out);
    conf_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bomb), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
