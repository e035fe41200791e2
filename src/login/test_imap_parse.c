#include "login/test_util_login.h"

static enum imap_found extent(const char *text, size_t asked, size_t *n)
{
    return login_imap_extent(slice_str(text), asked, 100, n);
}

static void lines_and_literals(void **state UNUSED)
{
    size_t n = 0;

    assert_int_equal(extent("a NOOP", 0, &n), IMAP_NONE);
    assert_int_equal(extent("a NOOP\r\nb", 0, &n), IMAP_COMMAND);
    assert_int_equal(n, 8);
    assert_int_equal(extent("a NOOP\nb", 0, &n), IMAP_COMMAND);
    assert_int_equal(n, 7);
    assert_int_equal(extent("a LOGIN {3}\r\n", 0, &n), IMAP_LITERAL);
    assert_int_equal(n, 13);
    assert_int_equal(extent("a LOGIN {3}\r\njo", 13, &n), IMAP_NONE);
    assert_int_equal(extent("a LOGIN {3}\r\njoe {1}\r\n", 13, &n),
                     IMAP_LITERAL);
    assert_int_equal(n, 22);
    assert_int_equal(extent("a LOGIN {3}\r\njoe {1}\r\nx\r\n", 22, &n),
                     IMAP_COMMAND);
    assert_int_equal(n, 25);
    assert_int_equal(extent("a LOGIN {3+}\r\njoe x\r\n", 0, &n), IMAP_COMMAND);
    assert_int_equal(extent("a LOGIN {3+}\r\njo", 0, &n), IMAP_NONE);
    assert_int_equal(extent("a LOGIN {200000}\r\n", 0, &n), IMAP_TOO_LONG);
    assert_int_equal(n, 18);
    assert_int_equal(extent("a LOGIN {99999999999999999999999}\r\n", 0, &n),
                     IMAP_TOO_LONG);
    assert_int_equal(extent("a LOGIN {200000+}\r\n", 0, &n), IMAP_FLOOD);
    assert_int_equal(extent("a LOGIN {}\r\n", 0, &n), IMAP_COMMAND);
    assert_int_equal(extent("a LOGIN {-1}\r\n", 0, &n), IMAP_COMMAND);
    assert_int_equal(extent("a LOGIN 3}\r\n", 0, &n), IMAP_COMMAND);
}

static enum imap_token first(const char *text, size_t n, slice *out)
{
    static char space[200];

    memcpy(space, text, n);
    return login_imap_token(&(struct imap_words){ space, n }, out);
}

#define FIRST(text, out) first(text, sizeof(text) - 1, out)

static void tokens(void **state UNUSED)
{
    slice s;

    assert_int_equal(FIRST("joe x\r\n", &s), IMAP_ATOM);
    assert_true(slice_eqs(s, "joe"));
    assert_int_equal(FIRST("  \r\n", &s), IMAP_END);
    assert_int_equal(FIRST("\n", &s), IMAP_END);
    assert_int_equal(FIRST("", &s), IMAP_END);
    assert_int_equal(FIRST("\"a\\\"b\\\\c\" x\r\n", &s), IMAP_STRING);
    assert_true(slice_eqs(s, "a\"b\\c"));
    assert_int_equal(FIRST("\"\"\r\n", &s), IMAP_STRING);
    assert_int_equal(s.n, 0);
    assert_int_equal(FIRST("\"a\r\n", &s), IMAP_WRONG);
    assert_int_equal(FIRST("\"a\0b\"\r\n", &s), IMAP_WRONG);
    assert_int_equal(FIRST("\"a\\", &s), IMAP_WRONG);
    assert_int_equal(FIRST("{3}\r\njoe x\r\n", &s), IMAP_STRING);
    assert_true(slice_eqs(s, "joe"));
    assert_int_equal(FIRST("{3+}\r\njoe\r\n", &s), IMAP_STRING);
    assert_int_equal(FIRST("{3}\r\na\0b\r\n", &s), IMAP_WRONG);
    assert_int_equal(FIRST("{9}\r\njoe\r\n", &s), IMAP_WRONG);
    assert_int_equal(FIRST("{x\r\n", &s), IMAP_WRONG);
    assert_int_equal(FIRST("(a)", &s), IMAP_OPEN);
    assert_int_equal(FIRST(")", &s), IMAP_CLOSE);
    assert_int_equal(FIRST("\x01", &s), IMAP_WRONG);
    assert_int_equal(FIRST("a\"b", &s), IMAP_ATOM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_literals),
        cmocka_unit_test(tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
