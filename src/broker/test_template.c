#include "broker/broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool allows(const char *kind, uint64_t uid, uint64_t gid)
{
    static const struct template_rules rules = {
        .first_uid = 1000,
        .last_uid = 60000,
        .first_gid = 100,
        .last_gid = 0,
        .command_uids = { 65534, 38 },
        .n_command_uids = 2,
    };

    return template_allows(&rules, slice_str(kind), uid, gid);
}

static void never_root(void **state UNUSED)
{
    assert_false(allows("mailbox", 0, 1000));
    assert_false(allows("command", 0, 1000));
    assert_false(allows("mailbox", 1000, 0));
    assert_false(allows("command", 65534, 0));
}

static void mailboxes_stay_in_range(void **state UNUSED)
{
    assert_true(allows("mailbox", 1000, 1000));
    assert_true(allows("mailbox", 60000, 100));
    assert_false(allows("mailbox", 999, 1000));
    assert_false(allows("mailbox", 60001, 1000));
    assert_false(allows("mailbox", 65534, 65534));
    assert_false(allows("mailbox", 1000, 99));
    assert_false(allows("mailbox", 1ull << 32, 1000));
    assert_false(allows("mailbox", UINT32_MAX, 1000));
    assert_false(allows("mailbox", 1000, UINT32_MAX));
}

static void commands_may_be_an_owner(void **state UNUSED)
{
    assert_true(allows("command", 65534, 65534));
    assert_true(allows("command", 38, 38));
    assert_true(allows("command", 1000, 1000));
    assert_false(allows("command", 39, 39));
    assert_false(allows("other", 1000, 1000));
    assert_true(allows("spool", 1000, 1000));
    assert_false(allows("spool", 65534, 65534));
    assert_false(allows("spool", 0, 1000));
}

static void without_a_last_uid(void **state UNUSED)
{
    struct template_rules r = { .first_uid = 500, .first_gid = 1 };

    assert_true(template_allows(&r, SL("mailbox"), 4000000, 4000000));
    assert_false(template_allows(&r, SL("mailbox"), UINT32_MAX, 500));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_root),
        cmocka_unit_test(mailboxes_stay_in_range),
        cmocka_unit_test(commands_may_be_an_owner),
        cmocka_unit_test(without_a_last_uid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
