#include "imap/test_util.h"

/* CREATE to STATUS, LIST, COPY, MOVE, APPEND.
 * covers: message_size_limit */

static const char letter[] = "Subject: one\nFrom: a@example.net\n\nHello.\n";

static void folders(struct bench *b)
{
    struct client c;
    const char *t;

    client_start(b, &c, SLICE_NONE);
    has(client_do(&c, "CREATE Work"), "x OK [MAILBOXID (");
    has(client_do(&c, "CREATE Work"), "x NO [ALREADYEXISTS]");
    has(client_do(&c, "CREATE inbox"), "x NO [");
    has(client_do(&c, "CREATE \"Work.Hato.\""), "x OK [MAILBOXID (");
    has(client_do(&c, "CREATE \"&ZeVnLIqe-\""), "x OK ");
    has(client_do(&c, "CREATE \"Out\" (USE (\\Sent))"), "x OK ");
    has(client_do(&c, "CREATE \"Bad\" (USE (\\Frob))"), "x NO [USEATTR]");
    has(client_do(&c, "CREATE \"../x\""), "x NO [CANNOT]");
    has(client_do(&c, "CREATE"), "x BAD ");
    t = client_do(&c, "LIST \"\" *");
    has(t, "* LIST (\\HasNoChildren) \".\" INBOX\r\n");
    has(t, "* LIST (\\HasChildren) \".\" Work\r\n");
    has(t, "* LIST (\\HasNoChildren) \".\" Work.Hato\r\n");
    has(t, "* LIST (\\HasNoChildren \\Sent) \".\" Out\r\n");
    has(t, " &ZeVnLIqe-\r\n");
    t = client_do(&c, "LIST \"\" %");
    has(t, " Work\r\n");
    has_not(t, "Work.Hato");
    t = client_do(&c, "LIST Work. %");
    has(t, " Work.Hato\r\n");
    has_not(t, " Work\r\n");
    has(client_do(&c, "LIST \"\" \"\""), "* LIST (\\Noselect) \".\" \"\"\r\n");
    has(client_do(&c, "LIST \"\" inBox"), " INBOX\r\n");
    t = client_do(&c, "LIST (SPECIAL-USE) \"\" *");
    has(t, " Out\r\n");
    has_not(t, "Work");
    t = client_do(&c,
                  "LIST \"\" (INBOX Out) RETURN (STATUS (MESSAGES UIDNEXT))");
    has(t, "* STATUS INBOX (MESSAGES 0 UIDNEXT 1)\r\n");
    has(t, "* STATUS Out (MESSAGES 0 UIDNEXT 1)\r\n");
    has(client_do(&c, "RENAME Work Job"), "x OK Rename completed.");
    t = client_do(&c, "LIST \"\" *");
    has(t, " Job.Hato\r\n");
    has_not(t, "Work");
    has(client_do(&c, "DELETE Job"), "x OK Delete completed.");
    has(client_do(&c, "LIST \"\" %"),
        "* LIST (\\Noselect \\HasChildren) \".\" Job");
    has(client_do(&c, "LIST \"\" % RETURN ()"),
        "* LIST (\\NonExistent \\HasChildren) \".\" Job");
    has(client_do(&c, "DELETE Job"), "x NO [");
    has(client_do(&c, "DELETE Jobs"), "x NO [NONEXISTENT]");
    has(client_do(&c, "DELETE INBOX"), "x NO [CANNOT]");
    has(client_do(&c, "SELECT Job.Hato"), "x OK [READ-WRITE]");
    has(client_do(&c, "DELETE Job.Hato"), "x OK Delete completed.");
    has(client_do(&c, "CHECK"), "x BAD ");
    has(client_do(&c, "NAMESPACE"), "* NAMESPACE ((\"\" \".\")) NIL NIL\r\n");
    client_stop(&c);
}

static void test_folders(void **state)
{
    (void)state;
    bench_run("", folders);
}

static void subscriptions(struct bench *b)
{
    struct client c;
    const char *t;

    client_start(b, &c, SLICE_NONE);
    (void)client_do(&c, "CREATE a.b.c");
    (void)client_do(&c, "CREATE z");
    has(client_do(&c, "SUBSCRIBE a.b.c"), "x OK Subscribe completed.");
    has(client_do(&c, "SUBSCRIBE gone"), "x OK Subscribe completed.");
    t = client_do(&c, "LSUB \"\" *");
    has(t, "* LSUB () \".\" a.b.c\r\n");
    has(t, " gone\r\n");
    has_not(t, " z\r\n");
    has_not(t, " a.b\r\n");
    t = client_do(&c, "LSUB \"\" %");
    has(t, "* LSUB (\\Noselect) \".\" a\r\n");
    t = client_do(&c, "LIST (SUBSCRIBED) \"\" *");
    has(t, "* LIST (\\HasNoChildren \\Subscribed) \".\" a.b.c\r\n");
    has(t,
        "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \".\" gone\r\n");
    t = client_do(&c, "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %");
    has(t, " a (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n");
    has_not(t, " z\r\n");
    has(client_do(&c, "LIST (RECURSIVEMATCH) \"\" %"), "x BAD ");
    has_not(client_do(&c, "LIST \"\" *"), "gone");
    has(client_do(&c, "LIST \"\" * RETURN (SUBSCRIBED CHILDREN)"),
        "* LIST (\\HasNoChildren \\Subscribed) \".\" a.b.c\r\n");
    has(client_do(&c, "UNSUBSCRIBE a.b.c"), "x OK Unsubscribe completed.");
    has_not(client_do(&c, "LSUB \"\" *"), "a.b.c");
    /* Patterns that would take a naive matcher for ever. */
    t = client_do(&c,
                  "LIST \"\" \"*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*x\"");
    has(t, "x OK List completed.");
    client_stop(&c);
}

static void test_subscriptions(void **state)
{
    (void)state;
    bench_run("", subscriptions);
}

static void status(struct bench *b)
{
    struct client c;

    client_start(b, &c, SLICE_NONE);
    bench_deliver(b, letter);
    bench_deliver(b, letter);
    has(client_do(&c, "STATUS INBOX (MESSAGES RECENT UIDNEXT UNSEEN SIZE "
                      "DELETED APPENDLIMIT)"),
        "* STATUS INBOX (MESSAGES 2 RECENT 2 UIDNEXT 3 UNSEEN 2 DELETED 0 SIZE "
        "156 APPENDLIMIT 100)\r\nx OK Status completed.\r\n");
    has(client_do(&c, "STATUS INBOX (HIGHESTMODSEQ)"), "(HIGHESTMODSEQ ");
    has(client_do(&c, "STATUS nope (MESSAGES)"), "x NO [NONEXISTENT]");
    has(client_do(&c, "STATUS INBOX (FROB)"), "x BAD ");
    has(client_do(&c, "STATUS INBOX ()"), "x BAD ");
    client_stop(&c);
}

static void test_status(void **state)
{
    (void)state;
    bench_run("message_size_limit = 100\n", status);
}

static void copies(struct bench *b)
{
    struct client c;
    const char *t;

    client_start(b, &c, SLICE_NONE);
    for (int i = 0; i < 4; i++)
        bench_deliver(b, letter);
    (void)client_do(&c, "CREATE Other");
    (void)client_do(&c, "SELECT INBOX");
    has(client_do(&c, "COPY 2:3 Nope"), "x NO [TRYCREATE]");
    t = client_do(&c, "COPY 4,2:3 Other");
    has(t, "x OK [COPYUID ");
    has(t, " 2:4 1:3] Copy completed.\r\n");
    has(client_do(&c, "UID COPY 77 Other"), "x OK No messages found.");
    has(client_do(&c, "COPY 9 Other"), "x ");
    t = client_do(&c, "UID MOVE 1,3 Other");
    has(t, "* OK [COPYUID ");
    has(t, " 1,3 4:5] Moved UIDs.\r\n");
    has(t, "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n");
    has(t, "x OK Move completed.\r\n");
    has(client_do(&c, "STATUS Other (MESSAGES)"), "(MESSAGES 5)");
    has(client_do(&c, "EXAMINE Other"), "* 5 EXISTS");
    has(client_do(&c, "MOVE 1 INBOX"), "x NO [READ-ONLY]");
    has(client_do(&c, "COPY 1 INBOX"), " 1 5] Copy completed.");
    client_stop(&c);
}

static void test_copies(void **state)
{
    (void)state;
    bench_run("", copies);
}

static void appends(struct bench *b)
{
    struct client c;
    const char *t;

    client_start(b, &c, SLICE_NONE);
    t = client_do(&c, "APPEND INBOX (\\Seen $Label1) \" 1-Feb-2003 04:05:06 "
                      "+0000\" {17+}\r\nSubject: a\r\n\r\nx\r\n");
    has(t, "x OK [APPENDUID ");
    has(t, " 1] Append completed.\r\n");
    client_send(&c, "x APPEND INBOX {17}\r\n");
    has(client_read(&c, "+ "), "+ OK\r\n");
    client_send(&c, "Subject: a\r\n\r\nx\r\n\r\n");
    has(client_read(&c, "x "), " 2] Append completed.\r\n");
    /* The mailbox's name as a literal, two messages in one. */
    client_send(&c, "x APPEND {5+}\r\ninbox {17+}\r\nSubject: b\r\n\r\nx\r\n "
                    "(\\Flagged) {17+}\r\nSubject: c\r\n\r\nx\r\n\r\n");
    has(client_read(&c, "x "), " 3:4] Append completed.\r\n");
    /* All or nothing. */
    client_send(&c,
                "x APPEND INBOX {17+}\r\nSubject: b\r\n\r\nx\r\n {0+}\r\n\r\n");
    has(client_read(&c, "x "), "x NO Can't save a zero byte message.");
    has(client_do(&c, "STATUS INBOX (MESSAGES UNSEEN)"),
        "(MESSAGES 4 UNSEEN 3)");
    has(client_do(&c, "APPEND nope {99}"), "x NO [TRYCREATE]");
    has(client_do(&c, "APPEND nope {3+}\r\nabc"), "x NO [TRYCREATE]");
    has(client_do(&c, "APPEND INBOX {101}"), "x NO [TOOBIG]");
    has(client_do(&c, "APPEND INBOX x"), "x BAD ");
    has(client_do(&c, "APPEND INBOX"), "x BAD ");
    has(client_do(&c, "NOOP"), "x OK ");
    t = client_do(&c, "SELECT INBOX");
    has(t, "* 4 EXISTS\r\n");
    has(t, "$Label1");
    t = client_do(&c, "APPEND INBOX {3+}\r\nabc");
    has(t, "* 5 EXISTS\r\n");
    client_stop(&c);
}

static void test_appends(void **state)
{
    (void)state;
    bench_run("message_size_limit = 100\n", appends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders), cmocka_unit_test(test_subscriptions),
        cmocka_unit_test(test_status),  cmocka_unit_test(test_copies),
        cmocka_unit_test(test_appends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
