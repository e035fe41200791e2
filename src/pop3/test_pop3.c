/* A client's talk with a session, over a socket pair, on a store in a directory
 * of its own.
 * covers: pop3_uidl_format pop3_no_flag_updates */
#include "base/test_util.h"
#include "conf/conf.h"
#include "engine/engine.h"
#include "mail/mail.h"
#include "pop3/pop3.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "store/store.h"

#include <ftw.h>
#include <sys/socket.h>

struct talk {
    char dir[64];
    struct engine *engine;
    struct store *store;
    struct conf *conf;
    struct pop3_server *server;
    struct stream *client;
    int n_ended;
    int n_busy;
    uint8_t handle[16];
    const char *input; /* behind the sign-in */
};

static struct talk t;

static void on_busy(void *arg, int change)
{
    (void)arg;
    t.n_busy += change;
}

static void on_ended(void *arg, const uint8_t *handle)
{
    (void)arg;
    assert_memory_equal(handle, t.handle, 16);
    t.n_ended++;
}

static slice location(void)
{
    static char text[128];

    (void)snprintf(text, sizeof text, "maildir:%s/anna", t.dir);
    return slice_str(text);
}

static void make_server(const char *main_cf)
{
    struct pop3_parts parts = { .store = t.store,
                                .busy = on_busy,
                                .ended = on_ended };

    t.conf = conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
    parts.conf = t.conf;
    t.server = pop3_server_new(&parts);
}

static int setup(void **state)
{
    struct store_config cfg = { .host = "mx.example.com", .instance = 1 };
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)state;
    loop_init("test", 2);
    mail_charset_setup();
    t = (struct talk){ .handle = "0123456789abcde" };
    (void)snprintf(t.dir, sizeof t.dir, "%s/hato-pop3-XXXXXX", base);
    assert_non_null(mkdtemp(t.dir));
    t.engine = engine_local_new();
    cfg.engine = t.engine;
    t.store = store_new(&cfg);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int flag,
                        struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    pop3_server_free(&t.server);
    store_free(&t.store);
    engine_free(&t.engine);
    conf_unref(&t.conf);
    loop_done();
    (void)nftw(t.dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
    return 0;
}

MAY_WAIT static void deliver(const char *text)
{
    struct store_rcpt r = { .user = SL("anna"), .location = location() };
    struct store_message msg = { 0 };
    struct store_draft *d = store_draft_new(t.store, &msg, &r, 1);
    struct err err;

    assert_int_equal(store_draft_write(d, slice_str(text), &err), 0);
    store_deliver(&d);
    assert_false(r.failed);
}

static void begin(void)
{
    struct imap_start start = { .handle = t.handle,
                                .user = SL("anna"),
                                .mail = location(),
                                .session = SL("abc"),
                                .input =
                                    slice_str(t.input == NULL ? "" : t.input) };
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    start.fd = fds[0];
    t.client = stream_from_fd(fds[1]);
    stream_deadline(t.client, clock_after(10000));
    pop3_start(t.server, &start);
}

MAY_WAIT static void expect(const char *want)
{
    struct err err;
    slice line;

    if (stream_line(t.client, 8192, &line, &err) < 0)
        fail_msg("%s instead of \"%s\"", err.log, want);
    assert_slice(line, slice_str(want));
}

MAY_WAIT static void say(const char *text)
{
    struct err err;

    assert_int_equal(stream_puts(t.client, text, &err), 0);
    assert_int_equal(stream_flush(t.client, &err), 0);
}

MAY_WAIT static void expect_end(void)
{
    struct err err;
    slice line;

    assert_int_equal(stream_line(t.client, 8192, &line, &err), -1);
    assert_true(stream_eof(t.client));
    stream_free(&t.client);
}

MAY_WAIT static void ask(const char *command, const char *want)
{
    say(command);
    expect(want);
}

MAY_WAIT static void expect_start(const char *want)
{
    struct err err;
    slice line;

    assert_int_equal(stream_line(t.client, 8192, &line, &err), 0);
    assert_slice(slice_sub(line, 0, strlen(want)), slice_str(want));
}

MAY_WAIT static void ask_uidl(void)
{
    say("UIDL 2\r\nuidl\r\n");
    expect("+OK 2 2-x\r\n");
    expect("+OK\r\n");
    expect("1 1-x\r\n");
    expect("2 2-x\r\n");
    expect(".\r\n");
}

/* ---- what a message becomes on the line */

MAY_WAIT static void whole_talk(void *arg)
{
    (void)arg;
    deliver("Subject: one\n\n.dot\nline 2\nline 3\n");
    deliver("Subject: two\n\nno end");
    make_server("pop3_uidl_format = %u-x\n");
    begin();
    expect("+OK Logged in.\r\n");
    ask("STAT\r\n", "+OK 2 94\r\n");
    ask("LIST\r\n", "+OK 2 messages:\r\n");
    expect("1 55\r\n");
    expect("2 39\r\n");
    expect(".\r\n");
    ask_uidl();
    ask("RETR 1\r\n", "+OK 55 octets\r\n");
    expect("Return-Path: <>\r\n");
    expect("Subject: one\r\n");
    expect("\r\n");
    expect("..dot\r\n");
    expect("line 2\r\n");
    expect("line 3\r\n");
    expect(".\r\n");
    ask("TOP 1 1\r\n", "+OK\r\n");
    expect("Return-Path: <>\r\n");
    expect("Subject: one\r\n");
    expect("\r\n");
    expect("..dot\r\n");
    expect(".\r\n");
    ask("TOP 1 0\r\n", "+OK\r\n");
    expect("Return-Path: <>\r\n");
    expect("Subject: one\r\n");
    expect("\r\n");
    expect(".\r\n");
    ask("DELE 1\r\n", "+OK Marked to be deleted.\r\n");
    ask("RETR 1\r\n", "-ERR Message is deleted.\r\n");
    ask("LIST\r\n", "+OK 1 messages:\r\n");
    expect("2 39\r\n");
    expect(".\r\n");
    ask("RSET\r\n", "+OK\r\n");
    ask("DELE 2\r\n", "+OK Marked to be deleted.\r\n");
    ask("STAT\r\n", "+OK 1 55\r\n");
    ask("QUIT\r\n", "+OK Logging out, messages deleted.\r\n");
    expect_end();
}

static void test_talk(void **state)
{
    (void)state;
    (void)task_spawn("test", whole_talk, NULL);
    loop_run_until_idle();
    assert_int_equal(t.n_ended, 1);
    assert_int_equal(t.n_busy, 0);
}

/* ---- who deletes */

MAY_WAIT static uint32_t flags_of_first(void)
{
    struct store_account *a;
    struct store_mailbox *m;
    struct err err;
    uint32_t flags;

    assert_int_equal(store_account_open(t.store, SL("anna"), location(), false,
                                        &a, &err),
                     0);
    assert_int_equal(store_mailbox_open(a, SL("INBOX"), 0, &m, &err), 0);
    flags = store_row_flags(m, store_row_at(m, 1));
    store_mailbox_unref(&m);
    store_account_unref(&a);
    return flags;
}

MAY_WAIT static void dropped_line(void *arg)
{
    struct err err;

    (void)arg;
    deliver("Subject: one\n\n1\n");
    make_server("");
    begin();
    expect("+OK Logged in.\r\n");
    ask("DELE 1\r\n", "+OK Marked to be deleted.\r\n");
    stream_free(&t.client);
    while (t.n_ended < 1)
        assert_int_equal(task_sleep(1, &err), 0);
    begin();
    expect("+OK Logged in.\r\n");
    ask("STAT\r\n", "+OK 1 36\r\n");
    /* Half a QUIT is none. */
    ask("DELE 1\r\nQUIT", "+OK Marked to be deleted.\r\n");
    stream_free(&t.client);
    while (t.n_ended < 2)
        assert_int_equal(task_sleep(1, &err), 0);
    begin();
    expect("+OK Logged in.\r\n");
    ask("DELE 1\r\n", "+OK Marked to be deleted.\r\n");
    pop3_kick(t.server, t.handle, SL("Kicked"));
    expect("-ERR [SYS/TEMP] Kicked\r\n");
    expect_end();
    assert_int_equal(flags_of_first(), 0);
    begin();
    expect("+OK Logged in.\r\n");
    ask("RETR 1\r\n", "+OK 36 octets\r\n");
    expect("Return-Path: <>\r\n");
    expect("Subject: one\r\n");
    expect("\r\n");
    expect("1\r\n");
    expect(".\r\n");
    ask("QUIT\r\n", "+OK Logging out.\r\n");
    expect_end();
    assert_int_equal(flags_of_first(), STORE_SEEN);
}

static void test_dropped_line(void **state)
{
    (void)state;
    (void)task_spawn("test", dropped_line, NULL);
    loop_run_until_idle();
    assert_int_equal(t.n_ended, 4);
}

MAY_WAIT static void quiet_flags(void *arg)
{
    (void)arg;
    deliver("Subject: one\n\n1\n");
    make_server("pop3_no_flag_updates = yes\n");
    begin();
    expect("+OK Logged in.\r\n");
    ask("RETR 1\r\nQUIT\r\n", "+OK 36 octets\r\n");
    for (int i = 0; i < 5; i++) {
        struct err err;
        slice line;

        assert_int_equal(stream_line(t.client, 100, &line, &err), 0);
    }
    expect("+OK Logging out.\r\n");
    expect_end();
    assert_int_equal(flags_of_first(), 0);
}

static void test_quiet_flags(void **state)
{
    (void)state;
    (void)task_spawn("test", quiet_flags, NULL);
    loop_run_until_idle();
    assert_int_equal(t.n_ended, 1);
}

/* ---- a pipe full of commands, some of them bad, behind the sign-in */

MAY_WAIT static void pipelined(void *arg)
{
    (void)arg;
    deliver("Subject: one\n\n1\n");
    make_server("");
    t.input = "STAT\r\nNO";
    begin();
    expect("+OK Logged in.\r\n");
    expect("+OK 1 36\r\n");
    ask("OP\r\nLIST 0\r\nLIST 2\r\nLIST x\r\nRETR\r\nTOP 1\r\nFOO bar\r\n"
        "\001\r\nCAPA\r\nUIDL\r\n",
        "+OK\r\n");
    expect("-ERR There's no message 0.\r\n");
    expect("-ERR There's no message 2.\r\n");
    expect("-ERR Invalid message number: x\r\n");
    expect("-ERR Invalid message number: \r\n");
    expect("-ERR Invalid number of lines.\r\n");
    expect("-ERR Unknown command: FOO\r\n");
    expect("-ERR Unknown command.\r\n");
    expect("+OK\r\n");
    expect("CAPA\r\n");
    expect("TOP\r\n");
    expect("UIDL\r\n");
    expect("RESP-CODES\r\n");
    expect("PIPELINING\r\n");
    expect("AUTH-RESP-CODE\r\n");
    expect(".\r\n");
    expect("+OK\r\n");
    expect_start("1 00000001");
    expect(".\r\n");
    for (int i = 0; i < 300; i++) {
        struct err err;

        assert_int_equal(stream_puts(t.client, "0123456789", &err), 0);
    }
    say("");
    expect("-ERR Input line too long.\r\n");
    expect_end();
}

static void test_pipelined(void **state)
{
    (void)state;
    (void)task_spawn("test", pipelined, NULL);
    loop_run_until_idle();
    assert_int_equal(t.n_ended, 1);
}

/* ---- others at the same mailbox */

MAY_WAIT static void removed_meanwhile(void *arg)
{
    struct store_account *a;
    struct store_mailbox *m;
    uint32_t uid = 1;
    struct err err;

    (void)arg;
    deliver("Subject: one\n\n1\n");
    deliver("Subject: two\n\n2\n");
    make_server("");
    begin();
    expect("+OK Logged in.\r\n");
    assert_int_equal(store_account_open(t.store, SL("anna"), location(), false,
                                        &a, &err),
                     0);
    assert_int_equal(store_mailbox_open(a, SL("INBOX"), 0, &m, &err), 0);
    assert_int_equal(store_expunge(m, &uid, 1, NULL, &err), 0);
    while (store_mailbox_tidy(m, 10) > 0)
        continue;
    store_mailbox_unref(&m);
    store_account_unref(&a);
    deliver("Subject: three\n\n3\n");
    ask("STAT\r\n", "+OK 2 72\r\n");
    say("RETR 1\r\n");
    {
        slice line;

        assert_int_equal(stream_line(t.client, 200, &line, &err), 0);
        assert_true(slice_starts(line, SL("-ERR ")));
    }
    ask("RETR 2\r\n", "+OK 36 octets\r\n");
    expect("Return-Path: <>\r\n");
    expect("Subject: two\r\n");
    expect("\r\n");
    expect("2\r\n");
    expect(".\r\n");
    ask("DELE 1\r\nDELE 2\r\nQUIT\r\n", "+OK Marked to be deleted.\r\n");
    expect("+OK Marked to be deleted.\r\n");
    expect("+OK Logging out, messages deleted.\r\n");
    expect_end();
    begin();
    expect("+OK Logged in.\r\n");
    ask("STAT\r\nQUIT\r\n", "+OK 1 38\r\n");
    expect("+OK Logging out.\r\n");
    expect_end();
}

static void test_removed_meanwhile(void **state)
{
    (void)state;
    (void)task_spawn("test", removed_meanwhile, NULL);
    loop_run_until_idle();
    assert_int_equal(t.n_ended, 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_talk),
        TEST(test_dropped_line),
        TEST(test_quiet_flags),
        TEST(test_pipelined),
        TEST(test_removed_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
