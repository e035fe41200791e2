#include "ipc/socketmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void netstrings(void **state UNUSED)
{
    static const struct {
        const char *in;
        int result;
        const char *out;
    } t[] = {
        { "5:hello,x", 1, "hello" },
        { "0:,", 1, "" },
        { "5:hello", 0, "" },
        { "5:hell", 0, "" },
        { "12", 0, "" },
        { "", 0, "" },
        { "5:hellox", -1, "" },
        { ":a,", -1, "" },
        { "a:b,", -1, "" },
        { "100001:", -1, "" },
        { "1000000:", -1, "" },
        { "01:a,", -1, "" },
        { "-1:a,", -1, "" },
        { "99999999", -1, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        slice in = slice_str(t[i].in), out = SLICE_NONE;

        assert_int_equal(socketmap_get(&in, &out), t[i].result);
        if (t[i].result == 1)
            assert_true(slice_eqs(out, t[i].out));
    }
}

static void requests_and_answers(void **state UNUSED)
{
    slice name, key;
    enum socketmap_answer what;

    assert_true(socketmap_request(SL("virt a b"), &name, &key));
    assert_true(slice_eqs(name, "virt") && slice_eqs(key, "a b"));
    assert_false(socketmap_request(SL("virt"), &name, &key));
    assert_false(socketmap_request(SL(" key"), &name, &key));
    assert_true(socketmap_answer_parse(SL("OK a b"), &what, &key));
    assert_true(what == SM_OK && slice_eqs(key, "a b"));
    assert_true(socketmap_answer_parse(SL("NOTFOUND "), &what, &key));
    assert_true(what == SM_NOTFOUND && key.n == 0);
    assert_true(socketmap_answer_parse(SL("TEMP why"), &what, &key));
    assert_int_equal(what, SM_TEMP);
    assert_false(socketmap_answer_parse(SL("OKAY x"), &what, &key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(netstrings),
        cmocka_unit_test(requests_and_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
