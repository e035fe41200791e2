#include "master/master_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* doc/design.md section 1 and ipc/proto.h: who may reach whom. */
static void only_the_joints_of_the_list(void **state UNUSED)
{
    static const struct {
        enum ptype from, to;
    } allowed[] = {
        { PT_SMTPD, PT_QMGR },       { PT_SMTPD, PT_TABLES },
        { PT_LOCAL, PT_BROKER },     { PT_LOCAL, PT_TABLES },
        { PT_QMGR, PT_LOCAL },       { PT_QMGR, PT_TABLES },
        { PT_COMMAND, PT_QMGR },     { PT_BROKER, PT_TEMPLATE },
        { PT_MASTER, PT_BROKER },    { PT_SMTPD, PT_KEYS },
        { PT_SMTPD, PT_AUTH },       { PT_LOGIN, PT_KEYS },
        { PT_LOGIN, PT_AUTH },       { PT_LOGIN, PT_BROKER },
        { PT_BROKER, PT_AUTH },      { PT_LMTPD, PT_KEYS },
        { PT_LMTPD, PT_TABLES },     { PT_LMTPD, PT_BROKER },
        { PT_AUTH, PT_TABLES },      { PT_AUTH, PT_AUTHWORKER },
        { PT_COMMAND, PT_BROKER },   { PT_COMMAND, PT_AUTH },
        { PT_QMGR, PT_SMTP },        { PT_SMTP, PT_TABLES },
        { PT_SMTP, PT_RESOLVER },    { PT_SMTP, PT_KEYS },
        { PT_SMTP, PT_FETCHER },     { PT_SMTPD, PT_RESOLVER },
        { PT_FETCHER, PT_QMGR },     { PT_FETCHER, PT_RESOLVER },
        { PT_COMMAND, PT_RESOLVER },
    };

    for (unsigned from = 0; from < PT_N; from++)
        for (unsigned to = 0; to < PT_N; to++) {
            bool wanted = false;

            for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
                wanted |= allowed[i].from == from && allowed[i].to == to;
            assert_int_equal(joint_allowed((enum ptype)from, (enum ptype)to),
                             wanted);
        }
    /* What matters most, said by name. */
    assert_false(joint_allowed(PT_SMTPD, PT_BROKER));
    assert_false(joint_allowed(PT_SMTPD, PT_TEMPLATE));
    assert_false(joint_allowed(PT_LOCAL, PT_TEMPLATE));
    assert_false(joint_allowed(PT_LOGIN, PT_TEMPLATE));
    assert_false(joint_allowed(PT_LOGIN, PT_TABLES));
    assert_false(joint_allowed(PT_LOGIN, PT_AUTHWORKER));
    assert_false(joint_allowed(PT_SMTPD, PT_AUTHWORKER));
    assert_false(joint_allowed(PT_LMTPD, PT_AUTH));
    assert_false(joint_allowed(PT_MAILBOX, PT_QMGR));
}

/* Processes that are not there cannot be reached, joint or not. */
static void nobody_is_there(void **state UNUSED)
{
    struct master m = { .n_login = 1 };
    struct err err;
    int fd = -1;

    list_init(&m.slots);
    list_init(&m.children);
    assert_int_equal(child_connect(&m, PT_SMTPD, PT_QMGR, &fd, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(child_connect(&m, PT_SMTPD, PT_BROKER, &fd, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    assert_int_equal(fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_joints_of_the_list),
        cmocka_unit_test(nobody_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
