#include "user/user_priv.h"

#include "table/test_util.h"

/* Who has mail where: the same answer for local, lmtpd and auth. */

struct setup {
    struct bench b;
    struct conf *conf;
    struct users *users;
};

static void setup_init(struct setup *s, bool is_root_mode, const char *fmt,
                       const char *a1, const char *a2)
{
    struct err err;
    char *text;

    bench_init(&s->b);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    text = arena_printf(s->b.arena, fmt, a1, a2);
#pragma GCC diagnostic pop
    text = arena_printf(s->b.arena,
                        "compatibility_level = 3.6\nmyhostname = "
                        "mx.example.com\nmydestination = example.com\n"
                        "recipient_delimiter = +\nfirst_valid_uid = 0\n%s",
                        text);
    s->conf = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    if (users_new(s->conf, s->b.tables, is_root_mode, &s->users, &err) < 0)
        fail_msg("%s", err.log);
}

static void setup_done(struct setup *s)
{
    users_free(&s->users);
    conf_unref(&s->conf);
    bench_done(&s->b);
}

/* "uid account kind mail-or-arg", "-" when there is none, "!log" on trouble. */
static const char *any(struct setup *s, const char *name)
{
    struct user_place p;
    struct err err;
    bool found;

    if (users_any(s->users, slice_str(name), s->b.arena, &p, &found, &err) < 0)
        return arena_printf(s->b.arena, "!%s", err.log);
    if (!found)
        return "-";
    return arena_printf(s->b.arena, "%" PRIu64 " %.*s %d %.*s", p.uid,
                        SLF(p.account), (int)p.kind,
                        SLF(p.kind == USER_MAILBOX ? p.mail : p.arg));
}

static void test_userdb(void **state)
{
    struct setup s;
    slice file;

    (void)state;
    bench_init(&s.b); /* only for the file */
    file = bench_file(&s.b, 0, "passwd-file",
                      "tomo@example.org:{PLAIN}x:5000:5001::/home/t::\n"
                      "Ann@Example.org:x:5002:5002::::userdb_mail=maildir:/a/"
                      "%n\n"
                      "noid@example.org:x::::::\n");
    s.conf = conf_from_text(
        slice_str(arena_printf(s.b.arena,
                               "compatibility_level = 3.6\n"
                               "mydestination = example.com\n"
                               "recipient_delimiter = +\n"
                               "userdb = %.*s\n"
                               "mail_location = maildir:/m/%%d/%%n\n",
                               SLF(file))),
        SLICE_NONE, NULL);
    assert_int_equal(users_new(s.conf, s.b.tables, true, &s.users, NULL), 0);
    assert_string_equal(any(&s, "tomo@example.org"),
                        "5000 tomo@example.org 0 maildir:/m/example.org/tomo");
    /* one account, however it is written */
    assert_string_equal(any(&s, "Tomo+lists@Example.ORG"),
                        "5000 tomo@example.org 0 maildir:/m/example.org/tomo");
    assert_string_equal(any(&s, "ann@example.org"),
                        "5002 ann@example.org 0 maildir:/a/ann");
    assert_string_equal(any(&s, "nobody@example.org"), "-");
    assert_non_null(strstr(any(&s, "noid@example.org"), "!no uid for"));
    setup_done(&s);
}

static void test_hostile(void **state)
{
    static const char *const names[] = {
        "../tomo",
        "a/b",
        "..",
        ".tomo",
        "",
        "a\nb",
        "tomo@../x",
        "tomo@.example.org",
        ("a\x7f"
         "b"),
    };
    struct setup s;

    (void)state;
    setup_init(&s, false,
               "mail_location = maildir:/m/%%d/%%n\n"
               "virtual_mailbox_maps = static:x\n%s%s",
               "", "");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(any(&s, names[i]), "-") != 0)
            fail_msg("\"%s\": %s", names[i], any(&s, names[i]));
    /* a long name, and one with NUL inside */
    {
        char *big = arena_printf(s.b.arena, "%0*d@example.org", 200000, 1);
        struct user_place p;
        bool found = true;

        assert_string_equal(any(&s, big), "-");
        assert_int_equal(users_any(s.users, SL("a\0b@example.org"), s.b.arena,
                                   &p, &found, NULL),
                         0);
        assert_false(found);
    }
    /* variables in a name are no variables */
    assert_non_null(
        strstr(any(&s, "%d%n@example.org"), "maildir:/m/example.org/%d%n"));
    setup_done(&s);
}

static void test_mapped(void **state)
{
    struct setup s;

    (void)state;
    setup_init(&s, true,
               "virtual_mailbox_base = /v\n"
               "virtual_mailbox_maps = inline:{ {a@example.org = a/} "
               "{b@example.org = b} {c@example.org = ../c/} }\n"
               "virtual_uid_maps = static:5000\n"
               "virtual_gid_maps = static:5001\n%s%s",
               "", "");
    assert_string_equal(any(&s, "a+x@example.org"),
                        "5000 a@example.org 0 maildir:/v/a");
    assert_string_equal(any(&s, "b@example.org"), "5000 b@example.org 1 /v/b");
    assert_non_null(strstr(any(&s, "c@example.org"), "leaves"));
    assert_string_equal(any(&s, "d@example.org"), "-");
    setup_done(&s);
}

static void test_system(void **state)
{
    struct setup s;

    (void)state;
    setup_init(&s, true,
               "mail_location = maildir:~/Maildir\n"
               "mailbox_command = /bin/false\n%s%s",
               "", "");
    /* `daemon` is everywhere uid 1 */
    assert_string_equal(any(&s, "daemon"),
                        "1 daemon 0 maildir:/usr/sbin/Maildir");
    assert_string_equal(any(&s, "Daemon+x@Example.com"),
                        "1 daemon 0 maildir:/usr/sbin/Maildir");
    assert_string_equal(any(&s, "daemon@example.org"), "-");
    assert_string_equal(any(&s, "no-such-user"), "-");
    assert_non_null(strstr(any(&s, "root"), "!root has uid 0"));
    {
        struct user_place p;
        bool found;

        assert_int_equal(users_system(s.users, SL("daemon"), s.b.arena, &p,
                                      &found, NULL),
                         0);
        assert_int_equal(p.kind, USER_COMMAND);
        assert_slice(p.arg, SL("/bin/false"));
    }
    setup_done(&s);
}

static void test_system_in_userdb(void **state)
{
    struct setup s;

    (void)state;
    setup_init(&s, true,
               "userdb = inline:{ {daemon = "
               "daemon::::::: mail=maildir:/m/%%u} }\n%s%s",
               "", "");
    assert_string_equal(any(&s, "daemon"), "1 daemon 0 maildir:/m/daemon");
    assert_string_equal(any(&s, "daemon@example.com"),
                        "1 daemon 0 maildir:/m/daemon");
    setup_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_userdb),           cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_mapped),           cmocka_unit_test(test_system),
        cmocka_unit_test(test_system_in_userdb),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
