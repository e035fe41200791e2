#include "mail/mail.h"

#include "base/test_util.h"

static struct arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = arena_new(1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

/* ---- SMTP paths ---- */

static const struct {
    const char *in;
    unsigned flags;
    const char *addr; /* NULL: refused */
    const char *rest;
} paths[] = {
    { "<a@b.example>", 0, "a@b.example", "" },
    { " <a@b.example> SIZE=1", 0, "a@b.example", " SIZE=1" },
    { "<a@b.example>SIZE=1", 0, NULL, "" },
    { "<>", MAIL_PATH_NULL, "", "" },
    { "<> BODY=8BITMIME", MAIL_PATH_NULL, "", " BODY=8BITMIME" },
    { "<>", 0, NULL, "" },
    { "", MAIL_PATH_NULL, NULL, "" },
    { "<postmaster>", 0, "postmaster", "" },
    { "<\"john doe\"@b.c>", 0, "john doe@b.c", "" },
    { "<\"a\\\"b\"@b.c>", 0, "a\"b@b.c", "" },
    { "<\"a>b\"@b.c>", 0, "a>b@b.c", "" },
    { "<john\\ doe@b.c>", 0, "john doe@b.c", "" },
    { "<@one,@two:a@b.c>", 0, "a@b.c", "" },
    { "<@one:a@b.c>", MAIL_PATH_STRICT, "a@b.c", "" },
    { "<@one@b.c>", 0, NULL, "" },
    { "<a@[1.2.3.4]>", 0, "a@[1.2.3.4]", "" },
    { "<a@[IPv6:2001:db8::1]>", 0, "a@[IPv6:2001:db8::1]", "" },
    { "<a@[1.2.3]>", 0, NULL, "" },
    { "<a@[1.2.3.4>", 0, NULL, "" },
    { "a@b.c", 0, "a@b.c", "" },
    { "a@b.c", MAIL_PATH_STRICT, NULL, "" },
    { "< a@b.c >", 0, "a@b.c", "" },
    { "< a@b.c >", MAIL_PATH_STRICT, NULL, "" },
    { "<a@b.c(comment)>", 0, "a@b.c", "" },
    { "<a@b.c(comment)>", MAIL_PATH_STRICT, NULL, "" },
    { "<a@>", 0, NULL, "" },
    { "<@b.c>", 0, NULL, "" },
    { "<a@b.c", 0, NULL, "" },
    { "<a b@c>", 0, NULL, "" },
    { "<a@b@c>", 0, "a@b@c", "" },
    { "<a..b.@c>", 0, "a..b.@c", "" },
    { "<\xC3\xA9@b.c>", 0, NULL, "" },
    { "<\xC3\xA9@b.c>", MAIL_PATH_UTF8, "\xC3\xA9@b.c", "" },
    { "<\xE9@b.c>", MAIL_PATH_UTF8, NULL, "" },
    { "<\xE9@b.c>", MAIL_PATH_8BIT, "\xE9@b.c", "" },
    { "<a\x01@b.c>", 0, NULL, "" },
    { "<\"a\x7F\"@b.c>", 0, NULL, "" },
    { "<a@b.c> x <d@e>", 0, "a@b.c", " x <d@e>" },
};

static void test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        slice in = slice_str(paths[i].in);
        struct mail_path p = { .has_domain = false };
        struct err err;
        int r = mail_path_parse(arena, &in, paths[i].flags, &p, &err);

        if ((r == 0) != (paths[i].addr != NULL))
            fail_msg("%s gave %d", paths[i].in, r);
        if (r < 0) {
            assert_string_equal(err.status, paths[i].flags & MAIL_PATH_NULL
                                                ? "5.1.7"
                                                : "5.1.3");
            continue;
        }
        assert_slice(p.addr, slice_str(paths[i].addr));
        assert_slice(in, slice_str(paths[i].rest));
    }
}

static void test_path_parts(void **state)
{
    slice in = SL("<x@y@[1.2.3.4]>");
    struct mail_path p;
    struct err err;

    (void)state;
    assert_int_equal(mail_path_parse(arena, &in, 0, &p, &err), 0);
    assert_slice(p.local, SL("x@y"));
    assert_slice(p.domain, SL("[1.2.3.4]"));
    assert_true(p.has_domain && p.is_literal && !p.has_8bit);
}

/* 64 is a rule of RFC 5321 that Postfix does not enforce; 255 is enforced. */
static void test_path_limits(void **state)
{
    char text[1400];
    struct mail_path p;
    struct err err;
    slice in;

    (void)state;
    (void)snprintf(text, sizeof text, "<%0100d@b.c>", 1);
    in = slice_str(text);
    assert_int_equal(mail_path_parse(arena, &in, 0, &p, &err), 0);
    in = slice_str(text);
    assert_int_equal(mail_path_parse(arena, &in, MAIL_PATH_LOCAL_MAX, &p, &err),
                     -1);
    (void)snprintf(text, sizeof text, "<a@%0256d>", 1);
    in = slice_str(text);
    assert_int_equal(mail_path_parse(arena, &in, 0, &p, &err), -1);
    (void)snprintf(text, sizeof text, "<%01200d@b.c>", 1);
    in = slice_str(text);
    assert_int_equal(mail_path_parse(arena, &in, 0, &p, &err), -1);
}

static void test_params(void **state)
{
    slice in = SL(" SIZE=123  BODY=8BITMIME SMTPUTF8 ORCPT=rfc822;a+2Bb ");
    struct mail_param p;

    (void)state;
    assert_int_equal(mail_param_next(&in, &p), 1);
    assert_slice(p.key, SL("SIZE"));
    assert_slice(p.value, SL("123"));
    assert_int_equal(mail_param_next(&in, &p), 1);
    assert_int_equal(mail_param_next(&in, &p), 1);
    assert_false(p.has_value);
    assert_int_equal(mail_param_next(&in, &p), 1);
    assert_slice(p.value, SL("rfc822;a+2Bb"));
    assert_int_equal(mail_param_next(&in, &p), 0);
    in = SL("SIZE=");
    assert_int_equal(mail_param_next(&in, &p), -1);
    in = SL("=x");
    assert_int_equal(mail_param_next(&in, &p), -1);
    in = SL("-A=x");
    assert_int_equal(mail_param_next(&in, &p), -1);
}

static void test_xtext(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    assert_true(mail_xtext_put(&b, SL("a+b=c d\xE9")));
    assert_slice(buf_view(&b), SL("a+2Bb+3Dc+20d+E9"));
    buf_clear(&b);
    assert_true(mail_xtext_get(&b, SL("a+2Bb+3Dc+20d")));
    assert_slice(buf_view(&b), SL("a+b=c d"));
    assert_false(mail_xtext_get(&b, SL("a+2")));
    assert_false(mail_xtext_get(&b, SL("a+zz")));
    assert_false(mail_xtext_get(&b, SL("a=b")));
    assert_slice(buf_view(&b), SL("a+b=c d"));
    buf_clear(&b);
    assert_true(mail_uxtext_get(&b, SL("x\\x{E9}y\\x{1F600}")));
    assert_slice(buf_view(&b), SL("x\xC3\xA9y\xF0\x9F\x98\x80"));
    buf_clear(&b);
    assert_true(mail_uxtext_put(&b, SL("x\xC3\xA9+\xF0\x9F\x98\x80\n"), false));
    assert_slice(buf_view(&b), SL("x\\x{E9}\\x{2B}\\x{1F600}\\x{0A}"));
    buf_clear(&b);
    assert_true(mail_uxtext_put(&b, SL("x\xC3\xA9="), true));
    assert_slice(buf_view(&b), SL("x\xC3\xA9\\x{3D}"));
    buf_clear(&b);
    assert_false(mail_uxtext_get(&b, SL("\\x{D800}")));
    assert_false(mail_uxtext_get(&b, SL("\\x{}")));
    assert_false(mail_uxtext_get(&b, SL("\\x41")));
}

/* ---- forms ---- */

static void test_quote(void **state)
{
    static const struct {
        const char *internal, *external;
    } t[] = {
        { "a@b", "a@b" },
        { "a.b+c@d", "a.b+c@d" },
        { "a b@c", "\"a b\"@c" },
        { "a..b@c", "\"a..b\"@c" },
        { ".a@c", "\".a\"@c" },
        { "a\"b@c", "\"a\\\"b\"@c" },
        { "@c", "\"\"@c" },
        { "x@y@c", "\"x@y\"@c" },
        { "", "" },
        { "local", "local" },
        { "\xC3\xA9@c", "\xC3\xA9@c" },
    };
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        buf_clear(&b);
        assert_true(mail_addr_quote(&b, slice_str(t[i].internal)));
        assert_slice(buf_view(&b), slice_str(t[i].external));
        buf_clear(&b);
        assert_true(mail_addr_unquote(&b, slice_str(t[i].external)));
        assert_slice(buf_view(&b), slice_str(t[i].internal));
    }
}

static void test_fold(void **state)
{
    (void)state;
    assert_slice(mail_addr_fold(arena, SL("Ab@Cd.EX"), false), SL("Ab@cd.ex"));
    assert_slice(mail_addr_fold(arena, SL("Ab@Cd.EX"), true), SL("ab@cd.ex"));
    assert_slice(mail_addr_fold(arena, SL("Ab"), false), SL("Ab"));
}

static void test_delimiter(void **state)
{
    static const struct {
        const char *local, *delims;
        const char *user, *ext; /* NULL: not split */
    } t[] = {
        { "user+ext", "+", "user", "ext" },
        { "user+a+b", "+", "user", "a+b" },
        { "user-ext", "+-", "user", "ext" },
        { "user", "+", NULL, NULL },
        { "user+", "+", "user", "" },
        { "+ext", "+", NULL, NULL },
        { "user+ext", "", NULL, NULL },
        { "owner-list", "-", NULL, NULL },
        { "OWNER-list", "+-", NULL, NULL },
        { "list-request", "-", NULL, NULL },
        { "owner+list", "+", "owner", "list" },
        { "a-b", "-", "a", "b" },
        { "mailer-daemon", "-", NULL, NULL },
        { "double-bounce", "-", NULL, NULL },
        { "Postmaster", "m", NULL, NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        slice user, ext;
        bool r = mail_local_split(slice_str(t[i].local), slice_str(t[i].delims),
                                  true, &user, &ext);

        if (r != (t[i].user != NULL))
            fail_msg("%s", t[i].local);
        if (!r)
            continue;
        assert_slice(user, slice_str(t[i].user));
        assert_slice(ext, slice_str(t[i].ext));
    }
    slice user, ext;
    assert_true(
        mail_local_split(SL("owner-list"), SL("-"), false, &user, &ext));
}

/* ---- header lists ---- */

static void put_list(struct buf *b, slice value)
{
    struct mail_addr_iter it;
    struct mail_addr a;

    mail_addr_iter_init(&it, arena, value, true, 100);
    while (mail_addr_next(&it, &a)) {
        if (a.kind == MAIL_ADDR_GROUP)
            buf_printf(b, "{%.*s:", SLF(a.name));
        else if (a.kind == MAIL_ADDR_GROUP_END)
            buf_puts(b, "}");
        else
            buf_printf(b, "(%s%.*s|%.*s|%.*s|%.*s)", a.is_invalid ? "!" : "",
                       SLF(a.name), SLF(a.route), SLF(a.mailbox),
                       SLF(a.domain));
    }
}

static const struct {
    const char *in, *want;
} lists[] = {
    { "a@b", "(||a|b)" },
    { "a@b, c@d", "(||a|b)(||c|d)" },
    { "John Doe <a@b>", "(John Doe||a|b)" },
    { "\"Doe, John\" <a@b>", "(Doe, John||a|b)" },
    { "Joe Q. Public <a@b>", "(Joe Q. Public||a|b)" },
    { "a@b (John (J.) Doe)", "(John (J.) Doe||a|b)" },
    { "<@r1,@r2:a@b>", "(|@r1,@r2|a|b)" },
    { "grp: a@b, c@d;, e@f", "{grp:(||a|b)(||c|d)}(||e|f)" },
    { "undisclosed-recipients:;", "{undisclosed-recipients:}" },
    { "", "" },
    { " , a@b", "(!||MISSING_MAILBOX|MISSING_DOMAIN)(||a|b)" },
    { "user", "(!||user|MISSING_DOMAIN)" },
    { "two words", "(!two words||MISSING_MAILBOX|MISSING_DOMAIN)" },
    { "Name <>", "(!Name||MISSING_MAILBOX|MISSING_DOMAIN)" },
    { "Name <a@b", "(!Name||a|SYNTAX_ERROR)" },
    { "\"a b\"@c", "(||a b|c)" },
    { "a . b @ c . d", "(!a.  b||MISSING_MAILBOX|MISSING_DOMAIN)" },
    { "a@[1.2.3.4]", "(||a|[1.2.3.4])" },
    { "a@b c@d", "(||a|b)" },
    { "\"unclosed <a@b>", "(!||MISSING_MAILBOX|MISSING_DOMAIN)" },
    { "=?utf-8?q?x?= <a@b>", "(=?utf-8?q?x?=||a|b)" },
    { "N\r\n ame\n <a@b>", "(N ame||a|b)" },
};

static void test_lists(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 10000);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        buf_clear(&b);
        put_list(&b, slice_str(lists[i].in));
        assert_slice(buf_view(&b), slice_str(lists[i].want));
    }
}

static void test_list_limit(void **state)
{
    struct mail_addr_iter it;
    struct mail_addr a;
    size_t n = 0;

    (void)state;
    mail_addr_iter_init(&it, arena, SL("a@b,c@d,e@f"), true, 2);
    while (mail_addr_next(&it, &a))
        n++;
    assert_int_equal(n, 2);
}

/* ---- aliases ---- */

static void put_dests(struct buf *b, slice value, bool header)
{
    static const char kinds[] = "AUCFI";
    struct mail_dest_iter it;
    struct mail_dest d;

    mail_dest_iter_init(&it, arena, value, header, 100);
    while (mail_dest_next(&it, &d) == 1)
        buf_printf(b, "%c(%.*s)", kinds[d.kind], SLF(d.text));
}

static const struct {
    const char *in, *want;
    bool header;
} dests[] = {
    { "a, b@c", "A(a)A(b@c)", false },
    { "a b\tc", "A(a)A(b)A(c)", false },
    { "|cmd", "C(cmd)", false },
    { "\"|cmd arg, arg2\"", "C(cmd arg, arg2)", false },
    { "\"|cmd \\\"x y\\\"\"", "C(cmd \"x y\")", false },
    { "/var/mail/x, ~/y", "F(/var/mail/x)F(~/y)", false },
    { "\"/a b/c\"", "F(/a b/c)", false },
    { ":include:/etc/list", "I(/etc/list)", false },
    { "\":include:/etc/a list\", b", "I(/etc/a list)A(b)", false },
    { "\\user, x", "U(user)A(x)", false },
    { "Name <a@b>", "A(a@b)", false },
    { "Two Words <a@b>, c", "A(a@b)A(c)", false },
    { "\"john doe\"@b", "A(john doe@b)", false },
    { "a @ b", "A(a@b)", false },
    { "(comment) a (another), (x)", "A(a)", false },
    { "a, , ;b;", "A(a)A(b)", false },
    { "a # b", "A(a)A(#)A(b)", false },
    { "a, # b", "A(a)A(#)A(b)", false },
    { "# comment\na\n  # b, c\nd", "A(a)A(d)", false },
    { "", "", false },
    { "friends: a, b@c;, d", "A(a)A(b@c)A(d)", false },
    { "x@[IPv6:::1]", "A(x@[IPv6:::1])", false },
    { "<@r:a@b>", "A(a@b)", false },
    { "/x:y", "F(/x:y)", false },
    { "To: undisclosed-recipients:;", "", true },
    { "|cmd, /file", "A(|cmd)A(/file)", true },
    { "\"Doe, John\" <a@b>,\n c@d", "A(a@b)A(c@d)", true },
    { "\"a\\\\b\"@c", "A(a\\b@c)", true },
    { "a@b\"", "A(a@b)", true },
    { "<", "", true },
};

static void test_dests(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 10000);
    for (size_t i = 0; i < ARRAY_LEN(dests); i++) {
        buf_clear(&b);
        put_dests(&b, slice_str(dests[i].in), dests[i].header);
        assert_slice(buf_view(&b), slice_str(dests[i].want));
    }
}

static void test_dest_limit(void **state)
{
    struct mail_dest_iter it;
    struct mail_dest d;

    (void)state;
    mail_dest_iter_init(&it, arena, SL("a,b"), false, 1);
    assert_int_equal(mail_dest_next(&it, &d), 1);
    assert_int_equal(mail_dest_next(&it, &d), -1);
}

/* ---- domains ---- */

static void test_domains(void **state)
{
    static const struct {
        const char *name;
        bool ok;
    } t[] = {
        { "example.org", true }, { "a", true },
        { "a_b.c-d.e", true },   { "1.2.3.4", false },
        { "1a.2", true },        { "a.", false },
        { ".a", false },         { "a..b", false },
        { "-a.b", false },       { "a-.b", false },
        { "", false },           { "a b", false },
        { "a.b-", false },       { "\xE6\x97\xA5\xE6\x9C\xAC.jp", true },
        { "\xFF.jp", false },    { "[1.2.3.4]", false },
    };

    char text[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        if (mail_domain_valid(slice_str(t[i].name)) != t[i].ok)
            fail_msg("%s", t[i].name);
    }
    (void)snprintf(text, sizeof text, "a%063d", 1);
    assert_false(mail_domain_valid(slice_str(text)));
    (void)snprintf(text, sizeof text, "a%062d", 1);
    assert_true(mail_domain_valid(slice_str(text)));
}

static void test_idn(void **state)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    (void)state;
    buf_init(&b, 1000);
    assert_true(mail_domain_to_ascii(&b, SL("B\xC3\xBC"
                                            "cher.Example")));
    assert_slice(buf_view(&b), SL("xn--bcher-kva.example"));
    buf_clear(&b);
    assert_true(mail_domain_to_utf8(&b, SL("xn--bcher-kva.example")));
    assert_slice(buf_view(&b), SL("b\xC3\xBC"
                                  "cher.example"));
    buf_clear(&b);
    assert_true(mail_domain_to_ascii(&b, SL("PLAIN.org")));
    assert_slice(buf_view(&b), SL("plain.org"));
    buf_clear(&b);
    assert_false(mail_domain_to_ascii(&b, SL("\xFF.org")));
    assert_int_equal(b.n, 0);
}

static void test_literals(void **state)
{
    uint8_t addr[16];
    int family = 0;

    (void)state;
    assert_true(mail_literal_parse(SL("[1.2.3.4]"), &family, addr));
    assert_int_equal(family, 4);
    assert_memory_equal(addr, "\1\2\3\4", 4);
    assert_true(mail_literal_parse(SL("[ipv6:::1]"), &family, addr));
    assert_int_equal(family, 6);
    assert_int_equal(addr[15], 1);
    assert_false(mail_literal_parse(SL("[::1]"), &family, addr));
    assert_false(mail_literal_parse(SL("[IPv6:1.2.3.4]"), &family, addr));
    assert_false(mail_literal_parse(SL("[01.2.3.4.5]"), &family, addr));
    assert_false(mail_literal_parse(SL("1.2.3.4"), &family, addr));
    assert_true(mail_ip_parse(SL("2001:db8::1"), &family, addr));
}

static void test_utf8(void **state)
{
    (void)state;
    assert_true(mail_utf8_valid(SL("a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80")));
    assert_false(mail_utf8_valid(SL("\xC0\x80")));
    assert_false(mail_utf8_valid(SL("\xED\xA0\x80")));
    assert_false(mail_utf8_valid(SL("\xF4\x90\x80\x80")));
    assert_false(mail_utf8_valid(SL("\xE6\x97")));
    assert_false(mail_utf8_valid(SL("\x80")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),       cmocka_unit_test(test_path_parts),
        cmocka_unit_test(test_path_limits), cmocka_unit_test(test_params),
        cmocka_unit_test(test_xtext),       cmocka_unit_test(test_quote),
        cmocka_unit_test(test_fold),        cmocka_unit_test(test_delimiter),
        cmocka_unit_test(test_lists),       cmocka_unit_test(test_list_limit),
        cmocka_unit_test(test_dests),       cmocka_unit_test(test_dest_limit),
        cmocka_unit_test(test_domains),     cmocka_unit_test(test_idn),
        cmocka_unit_test(test_literals),    cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
