/* master.cf: columns, options, overrides, ports; errors by their text. */
#include "conf/conf.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char master[] =
    "# comment\n"
    "smtp      inet  n       -       y       -       -       smtpd\n"
    "127.0.0.1:submission inet n -   y       -       20       smtpd\n"
    "  -o syslog_name=postfix/$service_name -v\n"
    "# between\n"
    "  -o { smtpd_client_restrictions = permit_mynetworks, reject }\n"
    "  -o smtpd_banner=$mine -o mine=here -o mine=there\n"
    "[::1]:2525 inet n - n - - smtpd -v -v\n"
    "pickup    unix  n       -       y       60      1       pickup\n"
    "tlsmgr    unix  -       -       y       1000?   1       tlsmgr\n"
    "postlog   unix-dgram n  -       n       -       1       postlogd\n"
    "maildrop  unix  -       n       n       -       -       pipe\n"
    "  flags=DRXhu user=vmail argv=/usr/bin/maildrop -o x { a b } "
    "${recipient}\n"
    "q fifo n - - - 0 qmgr\n"
    "p pass - - - - - smtpd\n";

static void test_columns(void **state)
{
    struct conf *c = conf_from_text(SLICE_NONE, SL(master), NULL);
    const struct conf_service *s;

    (void)state;
    assert_int_equal(conf_service_count(c), 9);
    s = conf_service_find(c, "smtp", "inet");
    assert_non_null(s);
    assert_true(s->type == CONF_INET && !s->is_private && s->is_unpriv &&
                s->is_chroot);
    assert_int_equal(s->port, 25);
    assert_string_equal(s->host, "");
    assert_int_equal(s->maxproc, CONF_MAXPROC_DEFAULT);
    assert_int_equal(s->line, 2);
    s = conf_service_find(c, "pickup", NULL);
    assert_true(s->wakeup_sec == 60 && !s->wakeup_if_used && s->maxproc == 1);
    s = conf_service_find(c, "tlsmgr", NULL);
    assert_true(s->wakeup_sec == 1000 && s->wakeup_if_used && s->is_private);
    s = conf_service_find(c, "[::1]:2525", "inet");
    assert_string_equal(s->host, "::1");
    assert_int_equal(s->port, 2525);
    assert_int_equal(s->verbose, 2);
    assert_int_equal(conf_service_find(c, "q", "fifo")->maxproc, 0);
    assert_null(conf_service_find(c, "smtp", "unix"));
    conf_unref(&c);
}

static void test_overrides(void **state)
{
    struct conf *c =
        conf_from_text(SL("mine = main\nsmtpd_banner = x\n"), SL(master), NULL);
    const struct conf_service *s =
        conf_service_find(c, "127.0.0.1:submission", NULL);
    const char *file;
    int line;

    (void)state;
    assert_int_equal(s->n_overrides, 5);
    assert_int_equal(s->verbose, 1);
    assert_int_equal(s->maxproc, 20);
    assert_int_equal(s->port, 587);
    assert_string_equal(conf_str(c, s, "syslog_name"),
                        "postfix/127.0.0.1:submission");
    assert_string_equal(conf_str(c, s, "smtpd_client_restrictions"),
                        "permit_mynetworks, reject");
    /* An override's $name sees the other overrides; the last one wins. */
    assert_string_equal(conf_str(c, s, "smtpd_banner"), "there");
    assert_string_equal(conf_str(c, NULL, "smtpd_banner"), "x");
    assert_string_equal(conf_str(c, s, "process_name"), "smtpd");
    conf_where(c, s, "mine", &file, &line);
    assert_string_equal(file, "/etc/hato/master.cf");
    assert_int_equal(line, 3);
    conf_unref(&c);
}

static void test_args(void **state)
{
    static const char *const want[] = {
        "flags=DRXhu", "user=vmail",  "argv=/usr/bin/maildrop", "-o", "x",
        "a b",         "${recipient}"
    };
    struct conf *c = conf_from_text(SLICE_NONE, SL(master), NULL);
    const struct conf_service *s = conf_service_find(c, "maildrop", "unix");

    (void)state;
    /* Behind the first other word -o is an argument like any other. */
    assert_int_equal(s->n_args, ARRAY_LEN(want));
    for (size_t i = 0; i < s->n_args; i++)
        assert_string_equal(s->args[i], want[i]);
    assert_null(s->args[s->n_args]);
    assert_false(s->is_unpriv);
    conf_unref(&c);
}

static const struct {
    const char *text;
    const char *want;
} bad[] = {
    { "smtp inet n - y\n",
      "a service needs 8 columns, here are 5 (name type private unpriv chroot "
      "wakeup maxproc command)" },
    { "smtp tcp n - y - - smtpd\n",
      "unknown service type \"tcp\" (inet, unix, unix-dgram, fifo or pass)" },
    { "smtp inet x - y - - smtpd\n",
      "the private column holds \"x\" (write y, n or -)" },
    { "smtp inet y - y - - smtpd\n",
      "an inet service cannot be private (write n in the private column)" },
    { "smtp inet n - y soon - smtpd\n",
      "the wakeup column holds \"soon\" (write seconds, seconds? or -)" },
    { "smtp inet n - y - many smtpd\n",
      "the maxproc column holds \"many\" (write a number or -)" },
    { "smtp inet n - y - - smtpd -o\n",
      "-o at the end of the line (write -o name=value)" },
    { "smtp inet n - y - - smtpd -o a = b\n",
      "-o: missing '=' after attribute name: \"a\" (write -o name=value or -o "
      "{ name = value })" },
    { "smtp inet n - y - - smtpd -o { a = b\n",
      "missing '}' in \"{ a = b\" (close it with })" },
    { "a unix - - n - - smtp\na unix - - n - - smtp\n",
      "the service a unix is there twice (remove one of the two)" },
    { " smtp inet n - y - - smtpd\n",
      "the line starts with white space or holds a NUL byte (start the line "
      "with the service's name)" },
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct conf_diags d;
        struct conf *c;
        struct buf out;

        conf_diags_init(&d);
        c = conf_from_text(SLICE_NONE, slice_str(bad[i].text), &d);
        buf_init(&out, 10000);
        conf_diags_print(&d, &out);
        if (strstr(buf_cstr(&out), bad[i].want) == NULL)
            fail_msg("%s gave %s", bad[i].text, buf_cstr(&out));
        assert_int_equal(strncmp(buf_cstr(&out), "/etc/hato/master.cf:", 20),
                         0);
        buf_done(&out);
        conf_diags_done(&d);
        conf_unref(&c);
    }
}

static void test_ports(void **state)
{
    struct conf *c =
        conf_from_text(SL("known_tcp_ports = mymail=mymail2=4711, smtp=26\n"),
                       SLICE_NONE, NULL);
    uint16_t port = 0;

    (void)state;
    assert_true(conf_port(c, SL("mymail2"), &port));
    assert_int_equal(port, 4711);
    assert_true(conf_port(c, SL("smtp"), &port));
    assert_int_equal(port, 26);
    assert_true(conf_port(c, SL("587"), &port));
    assert_int_equal(port, 587);
    assert_false(conf_port(c, SL("0"), &port));
    assert_false(conf_port(c, SL("65536"), &port));
    assert_false(conf_port(c, SL("nosuchservice"), &port));
    conf_unref(&c);
}

static void test_system_ports(void **state)
{
    struct conf *c;
    uint16_t port = 0;

    (void)state;
    if (access("/etc/services", R_OK) < 0)
        skip();
    c = conf_from_text(SLICE_NONE, SLICE_NONE, NULL);
    assert_true(conf_port(c, SL("imap2"), &port) ||
                conf_port(c, SL("imap"), &port));
    assert_int_equal(port, 143);
    conf_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns), cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_args),    cmocka_unit_test(test_bad),
        cmocka_unit_test(test_ports),   cmocka_unit_test(test_system_ports),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
