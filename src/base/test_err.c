#include "base/test_util.h"

static void test_classes(void **state)
{
    struct err e;

    (void)state;
    errno = ENOENT;
    assert_int_equal(err_sys(&e, "open %s", "/x"), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(e.class, ERR_TEMP);
    assert_int_equal(e.sys, ENOENT);
    assert_string_equal(e.status, "");
    assert_string_equal(e.log, "open /x: No such file or directory");
    assert_string_equal(e.peer, "try again later");

    assert_int_equal(err_temp(&e, "table %d", 1), -1);
    assert_int_equal(e.class, ERR_TEMP);
    assert_int_equal(e.sys, 0);
    assert_string_equal(e.log, "table 1");
    assert_string_equal(e.peer, "try again later");

    assert_int_equal(err_perm(&e, "no such %s", "user"), -1);
    assert_int_equal(e.class, ERR_PERM);
    assert_string_equal(e.peer, "no such user");
    assert_string_equal(e.log, "no such user");

    assert_int_equal(err_peer(&e, "gone"), -1);
    assert_int_equal(e.class, ERR_PEER);
    assert_string_equal(e.log, "gone");

    assert_int_equal(err_set(&e, ERR_TEMP, "4.3.1", "disk %s", "full"), -1);
    assert_int_equal(e.class, ERR_TEMP);
    assert_string_equal(e.status, "4.3.1");
    assert_string_equal(e.peer, "disk full");
    err_log(&e, "fsync of %s failed", "log");
    assert_string_equal(e.peer, "disk full");
    assert_string_equal(e.log, "fsync of log failed");
    assert_int_equal(err_prefix(&e, "spool %d", 3), -1);
    assert_string_equal(e.log, "spool 3: fsync of log failed");
    assert_string_equal(e.peer, "disk full");
    assert_string_equal(e.status, "4.3.1");
}

static void test_nobody_asks(void **state)
{
    (void)state;
    assert_int_equal(err_sys(NULL, "x"), -1);
    assert_int_equal(err_temp(NULL, "x"), -1);
    assert_int_equal(err_perm(NULL, "x"), -1);
    assert_int_equal(err_peer(NULL, "x"), -1);
    assert_int_equal(err_set(NULL, ERR_PERM, NULL, "x"), -1);
    assert_int_equal(err_prefix(NULL, "x"), -1);
    err_log(NULL, "x");
}

static void test_peer_is_one_line(void **state)
{
    struct err e;

    (void)state;
    err_perm(&e, "%s", "a\r\n250 ok\t\x7f");
    assert_string_equal(e.peer, "a??250 ok??");
    assert_string_equal(e.log, "a\r\n250 ok\t\x7f");
}

static void test_long(void **state)
{
    struct err e;
    char text[1000];

    (void)state;
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_perm(&e, "%s", text);
    assert_int_equal(strlen(e.peer), sizeof(e.peer) - 1);
    assert_int_equal(strlen(e.log), sizeof(e.log) - 1);
    err_prefix(&e, "%s", "where");
    assert_int_equal(strncmp(e.log, "where: aaa", 10), 0);
    assert_int_equal(strlen(e.log), sizeof(e.log) - 1);
    err_prefix(&e, "%s", text);
    assert_int_equal(strlen(e.log), sizeof(e.log) - 1);
    errno = EIO;
    err_sys(&e, "%s", text);
    assert_int_equal(e.sys, EIO);

    /* A cut never leaves half a character. */
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n;

        for (size_t i = 0; i + 4 < sizeof(text); i++)
            text[i] = i < shift ? 'a' : "\xf0\x9f\x93\xa7"[(i - shift) % 4];
        err_perm(&e, "%s", text);
        n = strlen(e.peer);
        assert_int_equal((n - shift) % 4, 0);
        assert_true(n + 4 >= sizeof(e.peer));
    }
}

/* The arguments may be the texts that are being replaced. */
static void test_own_text(void **state)
{
    struct err e;

    (void)state;
    err_perm(&e, "one");
    err_set(&e, ERR_TEMP, e.status, "%s and %s", e.log, e.peer);
    assert_string_equal(e.log, "one and one");
    err_prefix(&e, "%s", e.log);
    assert_string_equal(e.log, "one and one: one and one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_nobody_asks),
        cmocka_unit_test(test_peer_is_one_line),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_own_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
