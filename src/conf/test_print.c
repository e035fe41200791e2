/* What postconf prints and edits; the registry and its sums. */
#include "conf/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char main_cf[] =
    "# head\nsmtpd_banner = $myhostname\n   hello\nmua = permit\n"
    "smtpd_client_restrictions = $mua\nunused = 1\n";
static const char master_cf[] =
    "smtp inet n - y - - smtpd\n"
    "relay unix - - y - - smtp -v -o syslog_name=postfix/$service_name\n"
    "  -o { smtpd_banner = a b } x { y z }\n";

static void expect(int rc, struct buf *out, const char *want)
{
    assert_int_equal(rc, 0);
    assert_string_equal(buf_cstr(out), want);
    buf_clear(out);
}

static void test_print(void **state)
{
    struct conf *c = conf_from_text(SL(main_cf), SL(master_cf), NULL);
    struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 1 << 20);
    expect(conf_print(c, "smtpd_banner", 0, &out, &err), &out,
           "smtpd_banner = $myhostname hello\n");
    expect(conf_print(c, "smtpd_banner", CONF_PRINT_EXPANDED, &out, &err), &out,
           "smtpd_banner = hato.example.com hello\n");
    expect(conf_print(c, "smtpd_banner", CONF_PRINT_DEFAULTS, &out, &err), &out,
           "smtpd_banner = $myhostname ESMTP $mail_name\n");
    expect(conf_print(c, "myorigin", CONF_PRINT_NO_NAME, &out, &err), &out,
           "$myhostname\n");
    expect(conf_print(c, "relayhost", 0, &out, &err), &out, "relayhost =\n");
    expect(conf_print(c, "relayhost", CONF_PRINT_NO_VALUE, &out, &err), &out,
           "relayhost\n");
    expect(conf_print(c, NULL, CONF_PRINT_CHANGED, &out, &err), &out,
           "config_directory = /etc/hato\nmua = permit\n"
           "smtpd_banner = $myhostname hello\n"
           "smtpd_client_restrictions = $mua\n");
    assert_int_equal(conf_print(c, "nosuch", 0, &out, &err), -1);
    assert_string_equal(err.log, "nosuch: unknown parameter");
    expect(conf_print(c, "command_expansion_filter", CONF_PRINT_FOLD, &out,
                      &err),
           &out,
           "command_expansion_filter =\n    1234567890!@%-_=+:,./"
           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\n");
    buf_done(&out);
    conf_unref(&c);
}

/* Old names that stand in the defaults of new ones.
 * covers: smtp_per_record_deadline lmtp_per_record_deadline */
static void test_old_names(void **state)
{
    struct conf *c = conf_from_text(SL("smtp_per_record_deadline = yes\n"
                                       "lmtp_per_record_deadline = yes\n"
                                       "lmtp_per_request_deadline = no\n"),
                                    SL(""), NULL);

    (void)state;
    assert_true(conf_bool(c, NULL, "smtp_per_request_deadline"));
    assert_false(conf_bool(c, NULL, "lmtp_per_request_deadline"));
    conf_unref(&c);
    c = conf_from_text(SL("lmtp_per_record_deadline = yes\n"), SL(""), NULL);
    assert_true(conf_bool(c, NULL, "lmtp_per_request_deadline"));
    assert_false(conf_bool(c, NULL, "smtp_per_request_deadline"));
    conf_unref(&c);
}

static void test_services(void **state)
{
    struct conf *c = conf_from_text(SL(main_cf), SL(master_cf), NULL);
    struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 1 << 20);
    expect(conf_print_services(c, "relay/unix", 0, &out, &err), &out,
           "relay      unix  -       -       y       -       -       smtp -v "
           "-o syslog_name=postfix/$service_name -o { smtpd_banner = a b } x "
           "{ y z }\n");
    expect(conf_print_services(c, "smtp", 0, &out, &err), &out,
           "smtp       inet  n       -       y       -       -       smtpd\n");
    assert_int_equal(conf_print_services(c, "smtp/unix", 0, &out, &err), -1);
    assert_string_equal(err.log, "unmatched request: \"smtp/unix\"");
    expect(conf_print_overrides(c, "relay/unix/syslog_name", 0, &out, &err),
           &out, "relay/unix/syslog_name = postfix/$service_name\n");
    expect(conf_print_overrides(c, NULL, CONF_PRINT_EXPANDED, &out, &err), &out,
           "relay/unix/syslog_name = postfix/relay\n"
           "relay/unix/smtpd_banner = a b\n");
    buf_done(&out);
    conf_unref(&c);
}

static const struct {
    const char *before;
    enum conf_edit how;
    const char *name;
    const char *value;
    const char *after;
} edits[] = {
    { "# h\na = 1\n  # in\n  2\nb = 3\n", CONF_EDIT_SET, "a", "9",
      "# h\na = 9\n  # in\nb = 3\n" },
    { "a = 1\nb = 3\na = 2\n\tx\n# t\n", CONF_EDIT_SET, "a", " 9 ",
      "b = 3\na = 9\n# t\n" },
    { "b = 3", CONF_EDIT_SET, "a", "9", "b = 3\na = 9\n" },
    { "", CONF_EDIT_SET, "a", "", "a = \n" },
    { "aa = 1\n#a = 2\n", CONF_EDIT_SET, "a", "3", "aa = 1\n#a = 2\na = 3\n" },
    { "a = 1\n  # in\n  2\nb = 3\n", CONF_EDIT_COMMENT_OUT, "a", "",
      "#a = 1\n  # in\n#  2\nb = 3\n" },
    { "a=1\n 2\n\nb = 3\na = 4\n", CONF_EDIT_REMOVE, "a", "", "\nb = 3\n" },
    { "b = 3\n", CONF_EDIT_REMOVE, "a", "", "b = 3\n" },
};

static void test_edit(void **state)
{
    struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 10000);
    for (size_t i = 0; i < ARRAY_LEN(edits); i++)
        expect(conf_edit_text(slice_str(edits[i].before), edits[i].how,
                              slice_str(edits[i].name),
                              slice_str(edits[i].value), &out, &err),
               &out, edits[i].after);
    assert_int_equal(conf_edit_text(SL(""), CONF_EDIT_SET, SL("a b"), SL(""),
                                    &out, &err),
                     -1);
    assert_string_equal(err.log, "\"a b\" is no name of a parameter");
    assert_int_equal(conf_edit_text(SL(""), CONF_EDIT_SET, SL("a"),
                                    SL("x\ny = z"), &out, &err),
                     -1);
    assert_string_equal(err.log, "the value of a holds a line end or NUL");
    buf_done(&out);
}

static void test_edit_file(void **state)
{
    char dir[] = "/tmp/hato-edit-XXXXXX";
    char *path CLEANUP(free_ptr) = NULL;
    struct err err;
    struct stat st;
    char text[100] = "";
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    path = xasprintf("%s/main.cf", dir);
    assert_int_equal(conf_edit_file(dir, CONF_EDIT_SET, SL("a"), SL("b"), &err),
                     -1);
    assert_non_null(strstr(err.log, "main.cf: No such file or directory"));
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("# x\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(conf_edit_file(dir, CONF_EDIT_SET, SL("a"), SL("b"), &err),
                     0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, sizeof(text) - 1, f), 10);
    assert_string_equal(text, "# x\na = b\n");
    assert_int_equal(fclose(f), 0);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void test_registry(void **state)
{
    const struct conf_param *p;
    struct conf_coverage v;
    struct buf out;

    (void)state;
    for (size_t i = 0; i < conf_param_count(); i++) {
        p = conf_param_at(i);
        assert_ptr_equal(conf_param_find(slice_str(p->name)), p);
        assert_true(i == 0 || strcmp(conf_param_at(i - 1)->name, p->name) < 0);
    }
    assert_null(conf_param_find(SL("nosuch")));
    p = conf_param_find(SL("mail_location"));
    assert_true(p != NULL && p->is_ours && p->type == CONF_T_STRING);
    assert_string_equal(p->def, "maildir:~/Maildir");
    assert_int_equal(conf_param_find(SL("bounce_queue_lifetime"))->unit, 'd');
    assert_false(conf_param_find(SL("queue_directory"))->is_reloadable);
    assert_true(conf_param_find(SL("smtpd_banner"))->is_reloadable);
    conf_coverage(&v);
    assert_true(v.n_names > 831 && v.n_ours >= 10);
    assert_int_equal(v.n_names, v.n_honoured + v.n_no_effect + v.n_refused);
    assert_int_equal(v.percent,
                     100 * (v.n_honoured + v.n_no_effect) / v.n_names);
    buf_init(&out, 10000);
    conf_coverage_print(&out);
    assert_non_null(strstr(buf_cstr(&out), "honoured or rightly"));
    buf_done(&out);
}

/* Every default is accepted: alone, and by the letter. */
static void test_defaults_are_fine(void **state)
{
    struct conf_diags d;
    struct buf text;
    struct buf out;
    struct conf *c;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_puts(&text, "compatibility_level = 3.6\n");
    for (size_t i = 0; i < conf_param_count(); i++) {
        const struct conf_param *p = conf_param_at(i);

        /* These are computed, or were set above. */
        if (p->def[0] != '\0' && strcmp(p->name, "compatibility_level") != 0)
            buf_printf(&text, "%s = %s\n", p->name, p->def);
    }
    conf_diags_init(&d);
    c = conf_from_text(buf_view(&text), SL("smtp inet n - n - - smtpd\n"), &d);
    conf_check(c, false, &d);
    buf_init(&out, 1 << 20);
    conf_diags_print(&d, &out);
    assert_string_equal(buf_cstr(&out), "");
    buf_done(&out);
    buf_done(&text);
    conf_diags_done(&d);
    conf_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_old_names),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_edit),
        cmocka_unit_test(test_edit_file),
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_defaults_are_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
