/* main.cf: lines, lookups, types, lists, the snapshot as bytes.
 *
 * covers: myhostname mydomain myorigin mynetworks mynetworks_style
 * covers: inet_interfaces inet_protocols compatibility_level stress
 * covers: process_name service_name mail_version multi_instance_name
 * covers: known_tcp_ports syslog_name config_directory
 * smtpd_restriction_classes
 */
#include "conf/conf.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct conf *make(const char *main_cf)
{
    return conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
}

static void expect(const char *main_cf, const char *name, const char *want)
{
    struct conf *c = make(main_cf);

    assert_string_equal(conf_str(c, NULL, name), want);
    conf_unref(&c);
}

static void test_lines(void **state)
{
    (void)state;
    expect("a = b\n  c\n# no\n\n\td\n", "a", "b  c\td");
    expect("a=b", "a", "b");
    expect("a =\n", "a", "");
    expect("  # comment\na = b # not a comment\n", "a", "b # not a comment");
    expect("a = b = c\n", "a", "b = c");
    expect("a = 1\r\nb = 2\r\n", "a", "1");
    expect("a = 1\na = 2\n", "a", "2");
}

static void expect_diag(const char *main_cf, const char *want)
{
    struct conf_diags d;
    struct conf *c;
    struct buf out;

    conf_diags_init(&d);
    c = conf_from_text(slice_str(main_cf), SLICE_NONE, &d);
    buf_init(&out, 10000);
    conf_diags_print(&d, &out);
    assert_string_equal(buf_cstr(&out), want);
    buf_done(&out);
    conf_diags_done(&d);
    conf_unref(&c);
}

static void test_line_errors(void **state)
{
    (void)state;
    expect_diag("a = 1\n\nb c = 2\n",
                "/etc/hato/main.cf:3: error: missing '=' after attribute name: "
                "\"b c = 2\" (write: name = value)\n");
    expect_diag("= 1\n", "/etc/hato/main.cf:1: error: missing attribute name: "
                         "\"= 1\" (write: name = value)\n");
    expect_diag("  a = 1\n",
                "/etc/hato/main.cf:1: error: the first line starts with white "
                "space: \"  a = 1\" (write: name = value)\n");
    expect_diag("a = 1\nb = 2\na = 3\n",
                "/etc/hato/main.cf:3: warning: overriding earlier entry: a=1 "
                "(line 1) (remove one of the two)\n");
}

static void test_names(void **state)
{
    (void)state;
    expect("", "myhostname", "hato.example.com");
    expect("", "mydomain", "example.com");
    expect("", "myorigin", "hato.example.com");
    expect("myhostname = mail.sample.org\n", "mydomain", "sample.org");
    expect("myhostname = mail\n", "mydomain", "localdomain");
    expect("mydomain = a.org\nmyhostname = x.$mydomain\n", "myhostname",
           "x.a.org");
    /* No loop: without mydomain there is nothing to take it from. */
    expect("myhostname = x.$mydomain\n", "mydomain", "localdomain");
    expect("myhostname = x.$d\nd = b.org\n", "mydomain", "b.org");
    expect("", "mydestination",
           "hato.example.com, localhost.example.com, localhost");
    expect("", "syslog_name", "postfix");
    expect("multi_instance_name = second\n", "syslog_name", "second");
    expect("", "mail_version", HATO_VERSION);
    expect("", "config_directory", "/etc/hato");
    expect("", "process_name", "");
}

static void test_networks(void **state)
{
    (void)state;
    expect("", "mynetworks", "127.0.0.0/8 [::1]/128");
    expect("compatibility_level = 2\n", "mynetworks", "127.0.0.1/32 [::1]/128");
    expect("mynetworks_style = class\n", "mynetworks", "127.0.0.0/8 [::1]/128");
    expect("mynetworks_style = host\ninet_protocols = ipv4\n", "mynetworks",
           "127.0.0.1/32");
    expect("inet_interfaces = ::1\n", "mynetworks", "[::1]/128");
    expect("mynetworks = 10.0.0.0/8\n", "mynetworks", "10.0.0.0/8");
}

static void test_types(void **state)
{
    struct conf *c = make("smtpd_timeout = 5m\nmaximal_queue_lifetime = 3\n"
                          "queue_run_delay = 300\nmessage_size_limit = 42\n"
                          "smtpd_helo_required = YES\nsmtpd_hard_error_limit "
                          "= 2x\nsmtpd_error_sleep_time = soon\n"
                          "disable_vrfy_command = perhaps\nstress = yes\n");

    (void)state;
    assert_int_equal(conf_time(c, NULL, "smtpd_timeout"), 300);
    /* The default is 5d, so its unit is the day. */
    assert_int_equal(conf_time(c, NULL, "maximal_queue_lifetime"), 3 * 86400);
    assert_int_equal(conf_time(c, NULL, "queue_run_delay"), 300);
    assert_int_equal(conf_time(c, NULL, "delay_warning_time"), 0);
    assert_int_equal(conf_time(c, NULL, "bounce_queue_lifetime"), 5 * 86400);
    assert_int_equal(conf_size(c, NULL, "message_size_limit"), 42);
    assert_int_equal(conf_size(c, NULL, "header_size_limit"), 102400);
    assert_true(conf_bool(c, NULL, "smtpd_helo_required"));
    assert_false(conf_bool(c, NULL, "soft_bounce"));
    /* What does not parse has its default; under stress that is 1. */
    assert_int_equal(conf_int(c, NULL, "smtpd_hard_error_limit"), 1);
    assert_int_equal(conf_time(c, NULL, "smtpd_error_sleep_time"), 1);
    assert_false(conf_bool(c, NULL, "disable_vrfy_command"));
    assert_int_equal(conf_int(c, NULL, "smtpd_junk_command_limit"), 1);
    conf_unref(&c);
}

static void test_compat(void **state)
{
    struct conf *c = make("compatibility_level = 3.6\n");

    (void)state;
    assert_true(conf_compat(c, 3, 6));
    assert_true(conf_compat(c, 2, 0));
    assert_false(conf_compat(c, 3, 10));
    assert_string_equal(conf_str(c, NULL, "append_dot_mydomain"), "no");
    assert_string_equal(conf_str(c, NULL, "relay_domains"), "");
    conf_unref(&c);
    expect("", "append_dot_mydomain", "yes");
    expect("", "smtpd_relay_restrictions", "");
}

static void test_raw(void **state)
{
    (void)state;
    expect("", "forward_path",
           "$home/.forward${recipient_delimiter}${extension}, $home/.forward");
    expect("luser_relay = $user@x\n", "luser_relay", "$user@x");
    /* A value that does not expand counts as its default. */
    expect("smtpd_banner = ${x\n", "smtpd_banner",
           "hato.example.com ESMTP Hato");
}

static void test_transports(void **state)
{
    struct conf *c = make("maildrop_destination_recipient_limit = 1\n"
                          "default_destination_concurrency_limit = 7\n");

    (void)state;
    assert_int_equal(
        conf_transport_int(c, "maildrop", "_destination_recipient_limit"), 1);
    assert_int_equal(
        conf_transport_int(c, "smtp", "_destination_recipient_limit"), 50);
    assert_int_equal(
        conf_transport_int(c, "x", "_destination_concurrency_limit"), 7);
    assert_int_equal(
        conf_transport_int(c, "local", "_destination_concurrency_limit"), 2);
    assert_int_equal(conf_transport_time(c, "uucp", "_destination_rate_delay"),
                     0);
    assert_int_equal(conf_transport_time(c, "uucp", "_time_limit"), 1000);
    conf_unref(&c);
}

static void test_list(void **state)
{
    static const char *const want[] = { "a", "b", "{ c, d }", "e{f g}h",
                                        "check:{x y}" };
    slice rest = SL("  a,b ,\t{ c, d },, e{f g}h\ncheck:{x y} ");
    slice item;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(conf_list_next(&rest, &item));
        assert_true(slice_eqs(item, want[i]));
    }
    assert_false(conf_list_next(&rest, &item));
    assert_true(slice_eqs(conf_list_unbrace(SL("{ c, d }")), "c, d"));
    assert_true(slice_eqs(conf_list_unbrace(SL("c}")), "c}"));
}

static void test_split_table(void **state)
{
    slice type;
    slice name;

    (void)state;
    assert_true(conf_split_table(SL("hash:/etc/x:y"), &type, &name));
    assert_true(slice_eqs(type, "hash") && slice_eqs(name, "/etc/x:y"));
    assert_true(conf_split_table(SL("proxy:unix:passwd.byname"), &type, &name));
    assert_true(slice_eqs(type, "unix") && slice_eqs(name, "passwd.byname"));
    assert_true(conf_split_table(SL("inline:{ a=b }"), &type, &name));
    assert_true(slice_eqs(name, "{ a=b }"));
    assert_false(conf_split_table(SL("[::1]"), &type, &name));
    assert_false(conf_split_table(SL("nosuch:/x"), &type, &name));
    assert_false(conf_split_table(SL("hash"), &type, &name));
}

/* A directory with files, removed at the end. */
static char dir[] = "/tmp/hato-conf-XXXXXX";

static void put_file(const char *name, const char *text)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void drop_file(const char *name)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/%s", dir, name);

    unlink(path);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    drop_file("main.cf");
    drop_file("master.cf");
    drop_file("names");
    drop_file("more");
    drop_file("mailname");
    return rmdir(dir);
}

static struct conf *load(struct conf_diags *d)
{
    struct conf *c;
    struct err err;

    if (conf_load(dir, 0, &c, d, &err) < 0)
        fail_msg("%s", err.log);
    return c;
}

static void check_files(const struct conf *c)
{
    struct conf_items items = conf_match_list(c, NULL, "mydestination");

    assert_int_equal(items.n, 5);
    assert_true(slice_eqs(items.v[0].text, "a.org"));
    assert_true(slice_eqs(items.v[1].text, "b.org") && items.v[1].negated);
    assert_true(slice_eqs(items.v[2].text, "c.org") && !items.v[2].negated);
    assert_true(slice_eqs(items.v[3].text, "hash:/x") && items.v[3].is_table);
    assert_true(slice_eqs(items.v[4].text, "d.org") && items.v[4].negated);
    assert_string_equal(conf_str(c, NULL, "myorigin"), "mail.example.net");
    assert_string_equal(conf_str(c, NULL, "double_bounce_sender"),
                        "x@mail.example.net");
}

/* The same answers from the bytes, without the files (invariant 3). */
static void test_files_and_bytes(void **state)
{
    char *main_cf CLEANUP(free_ptr) =
        xasprintf("mydestination = a.org !%s/names, hash:/x !d.org\n"
                  "myorigin = %s/mailname\n"
                  "double_bounce_sender = x@$myorigin\n",
                  dir, dir);
    char *more CLEANUP(free_ptr) = xasprintf("b.org\n# no\n!%s/more\n", dir);
    struct conf_diags d;
    struct conf *c;
    struct conf *copy;
    struct buf bytes;
    struct err err;

    (void)state;
    put_file("main.cf", main_cf);
    put_file("master.cf", "submission inet n - n - 5 smtpd\n");
    put_file("names", more);
    put_file("more", "c.org");
    put_file("mailname", "mail.example.net\nnot this\n");
    conf_diags_init(&d);
    c = load(&d);
    assert_int_equal(d.n, 0);
    conf_diags_done(&d);
    check_files(c);
    buf_init(&bytes, CONF_MAX_BYTES);
    assert_int_equal(conf_to_bytes(c, &bytes, &err), 0);
    drop_file("names");
    drop_file("mailname");
    assert_int_equal(conf_from_bytes(buf_view(&bytes), &copy, &err), 0);
    check_files(copy);
    assert_int_equal(conf_service_at(copy, 0)->port, 587);
    assert_string_equal(conf_dir(copy), dir);
    assert_string_equal(conf_str(copy, NULL, "myhostname"),
                        conf_str(c, NULL, "myhostname"));
    assert_string_equal(conf_str(copy, NULL, "mynetworks"),
                        conf_str(c, NULL, "mynetworks"));
    conf_unref(&copy);
    /* Damage is told. */
    assert_int_equal(conf_from_bytes(slice_sub(buf_view(&bytes), 0,
                                               bytes.n - 1),
                                     &copy, &err),
                     -1);
    assert_string_equal(err.log, "the configuration snapshot is damaged");
    buf_done(&bytes);
    conf_unref(&c);
}

static void test_missing(void **state)
{
    struct conf_diags d;
    struct conf *c;
    struct err err;
    struct buf out;

    (void)state;
    put_file("main.cf", "mydestination = /nonexistent/list\n");
    drop_file("master.cf");
    conf_diags_init(&d);
    assert_int_equal(conf_load(dir, 0, &c, &d, &err), -1);
    assert_non_null(strstr(err.log, "master.cf: No such file or directory"));
    assert_int_equal(conf_load(dir, CONF_MAIN_ONLY, &c, &d, &err), 0);
    buf_init(&out, 1000);
    conf_diags_print(&d, &out);
    assert_non_null(strstr(buf_cstr(&out),
                           "error: open /nonexistent/list: No such file or "
                           "directory (make the file readable or take its "
                           "name out)"));
    buf_done(&out);
    conf_diags_done(&d);
    conf_unref(&c);
}

static void test_addresses(void **state)
{
    struct conf *c = make("");
    struct conf_addr v[8];

    (void)state;
    assert_int_equal(conf_listen_addrs(c, NULL, v, 8), 2);
    assert_true(!v[0].is_v6 && v[0].ip[0] == 0 && v[1].is_v6);
    assert_int_equal(conf_own_addrs(c, true, v, 8), 2);
    assert_true(v[0].ip[0] == 127 && v[0].bits == 8 && v[1].ip[15] == 1);
    conf_unref(&c);
    c = make("inet_interfaces = loopback-only\ninet_protocols = ipv4\n");
    assert_int_equal(conf_listen_addrs(c, NULL, v, 8), 1);
    assert_int_equal(v[0].ip[0], 127);
    conf_unref(&c);
    c = make("inet_interfaces = localhost, 192.0.2.7\n");
    assert_int_equal(conf_listen_addrs(c, NULL, v, 8), 3);
    assert_true(v[2].ip[0] == 192 && v[2].ip[3] == 7);
    conf_unref(&c);
}

static void test_set(void **state)
{
    struct conf *c = make("# x\nrelayhost =\n");
    const char *file;
    int line;

    (void)state;
    assert_true(conf_is_set(c, NULL, "relayhost"));
    assert_false(conf_is_set(c, NULL, "transport_maps"));
    conf_where(c, NULL, "relayhost", &file, &line);
    assert_string_equal(file, "/etc/hato/main.cf");
    assert_int_equal(line, 2);
    conf_where(c, NULL, "transport_maps", &file, &line);
    assert_int_equal(line, 0);
    assert_null(conf_raw(c, NULL, "nosuch"));
    assert_string_equal(conf_raw(c, NULL, "myorigin"), "$myhostname");
    conf_unref(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_line_errors),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_compat),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_transports),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_split_table),
        cmocka_unit_test(test_files_and_bytes),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_set),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
