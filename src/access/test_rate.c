#include "access/test_util.h"

#include <poll.h>
#include <sys/mman.h>

/* Rates and connections.
 * covers: smtpd_client_connection_count_limit
 * smtpd_client_connection_rate_limit smtpd_client_message_rate_limit
 * smtpd_client_recipient_rate_limit smtpd_client_auth_rate_limit
 * smtpd_client_new_tls_session_rate_limit anvil_rate_time_unit
 * smtpd_client_event_limit_exceptions */

struct rates {
    struct stand t;
    int fd;
    struct access_counters *c;
};

static void rates_init(struct rates *r, const char *settings, size_t n)
{
    struct err err;

    stand_init(&r->t, settings);
    assert_int_equal(access_counters_create(n, &r->fd, &err), 0);
    assert_int_equal(access_counters_open(r->fd, &r->c, &err), 0);
}

static void rates_done(struct rates *r)
{
    access_counters_close(&r->c);
    (void)close(r->fd);
    stand_done(&r->t);
}

static const char *count(struct rates *r, struct access_client *client,
                         enum access_event event)
{
    struct access_reply reply;
    struct err err;

    assert_int_equal(access_count(r->t.access, r->c, client, &r->t.s, event,
                                  &reply, &err),
                     0);
    assert_int_equal(reply.disconnect, !reply.ok && reply.code == 421);
    return reply.ok ? "" : slice_cstr(r->t.s.arena, reply.line);
}

static void test_connections(void **state)
{
    struct access_client v[4] = { { 0 } };
    struct rates r;

    (void)state;
    rates_init(&r, "smtpd_client_connection_count_limit = 2\n", 0);
    r.t.s.addr = SL("198.51.100.1");
    assert_string_equal(count(&r, &v[0], ACCESS_EVENT_CONNECT), "");
    assert_string_equal(count(&r, &v[1], ACCESS_EVENT_CONNECT), "");
    assert_string_equal(count(&r, &v[2], ACCESS_EVENT_CONNECT),
                        "421 4.7.0 mx.example.com Error: too many connections "
                        "from 198.51.100.1");
    access_client_gone(r.c, &v[2]);
    access_client_gone(r.c, &v[1]);
    access_client_gone(r.c, &v[1]); /* twice does no harm */
    assert_string_equal(count(&r, &v[3], ACCESS_EVENT_CONNECT), "");
    /* another client is another client */
    r.t.s.addr = SL("198.51.100.2");
    assert_string_equal(count(&r, &v[1], ACCESS_EVENT_CONNECT), "");
    rates_done(&r);
}

static void test_rates(void **state)
{
    struct access_client v = { 0 };
    struct rates r;

    (void)state;
    rates_init(&r,
               "smtpd_client_connection_rate_limit = 1\n"
               "smtpd_client_message_rate_limit = 2\n"
               "smtpd_client_recipient_rate_limit = 1\n"
               "smtpd_client_event_limit_exceptions =\n"
               "anvil_rate_time_unit = 1s\n",
               0);
    assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT), "");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_MESSAGE), "");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_MESSAGE), "");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_MESSAGE),
                        "450 4.7.1 Error: too much mail from 192.0.2.1");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_RCPT), "");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_RCPT),
                        "450 4.7.1 Error: too many recipients from 192.0.2.1");
    access_client_gone(r.c, &v);
    assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT),
                        "421 4.7.0 mx.example.com Error: too many connections "
                        "from 192.0.2.1");
    (void)poll(NULL, 0, 1050); /* the unit is over */
    assert_string_equal(count(&r, &v, ACCESS_EVENT_MESSAGE), "");
    access_client_gone(r.c, &v);
    rates_done(&r);
}

static void test_exceptions(void **state)
{
    struct access_client v[2] = { { 0 } };
    struct rates r;

    (void)state;
    rates_init(&r,
               "smtpd_client_connection_count_limit = 1\n"
               "smtpd_client_event_limit_exceptions = 192.0.2.0/24\n",
               0);
    assert_string_equal(count(&r, &v[0], ACCESS_EVENT_CONNECT), "");
    assert_string_equal(count(&r, &v[1], ACCESS_EVENT_CONNECT), "");
    r.t.s.addr = SL("198.51.100.1");
    assert_string_equal(count(&r, &v[0], ACCESS_EVENT_CONNECT), "");
    assert_int_not_equal(count(&r, &v[1], ACCESS_EVENT_CONNECT)[0], '\0');
    rates_done(&r);
}

/* What a killed process counted is taken back; another's stays. */
static void test_death(void **state)
{
    struct access_client v = { 0 };
    struct rates r;
    struct err err;
    int status;
    pid_t pid;

    (void)state;
    rates_init(&r, "smtpd_client_connection_count_limit = 2\n", 0);
    r.t.s.addr = SL("198.51.100.1");
    assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT), "");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct access_client mine = { 0 };
        struct access_reply reply;
        struct access_counters *c;

        if (access_counters_open(r.fd, &c, &err) < 0)
            _exit(2);
        for (int i = 0; i < 5; i++)
            (void)access_count(r.t.access, c, &mine, &r.t.s,
                               ACCESS_EVENT_CONNECT, &reply, &err);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_not_equal(count(&r, &v, ACCESS_EVENT_CONNECT)[0], '\0');
    access_client_gone(r.c, &v);
    access_counters_process_died(r.fd, pid);
    assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT), "");
    rates_done(&r);
}

/* .. also without master's word, when the next process comes. */
static void test_death_untold(void **state)
{
    struct access_client v = { 0 };
    struct access_counters *next;
    struct rates r;
    struct err err;
    int status;
    pid_t pid;

    (void)state;
    rates_init(&r, "smtpd_client_connection_count_limit = 1\n", 0);
    r.t.s.addr = SL("198.51.100.1");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        access_counters_close(&r.c);
        if (access_counters_open(r.fd, &r.c, &err) == 0)
            (void)count(&r, &v, ACCESS_EVENT_CONNECT);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(access_counters_open(r.fd, &next, &err), 0);
    assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT), "");
    access_counters_close(&next);
    rates_done(&r);
}

/* More clients than slots: bounded, nobody refused for it, slots come free. */
static void test_full(void **state)
{
    struct rates r;
    struct buf out;

    (void)state;
    rates_init(&r,
               "smtpd_client_connection_rate_limit = 1\n"
               "anvil_rate_time_unit = 1s\n",
               16);
    for (int i = 0; i < 200; i++) {
        struct access_client v = { 0 };
        char *ip = arena_printf(r.t.s.arena, "198.51.100.%d", i);

        r.t.s.addr = slice_str(ip);
        assert_string_equal(count(&r, &v, ACCESS_EVENT_CONNECT), "");
        access_client_gone(r.c, &v);
    }
    buf_init(&out, 200);
    access_counters_dump(r.c, &out);
    assert_string_equal(buf_cstr(&out), "clients 16 of 16, connections 0\n");
    buf_done(&out);
    rates_done(&r);
}

/* Several processes at once count every connection. */
static void test_many_processes(void **state)
{
    struct rates r;
    struct err err;
    pid_t pids[4];
    struct buf out;
    int done[2]; /* the children tell that they have counted .. */
    int go[2];   /* .. and end when this is closed */
    char c4[4];
    size_t n = 0;

    (void)state;
    assert_int_equal(pipe(done), 0);
    assert_int_equal(pipe(go), 0);
    rates_init(&r, "smtpd_client_connection_count_limit = 60000\n", 0);
    r.t.s.addr = SL("198.51.100.1");
    for (int p = 0; p < 4; p++) {
        pids[p] = fork();
        assert_true(pids[p] >= 0);
        if (pids[p] != 0)
            continue;
        struct access_counters *c;

        if (access_counters_open(r.fd, &c, &err) < 0)
            _exit(2);
        for (int i = 0; i < 500; i++) {
            struct access_client v = { 0 };
            struct access_reply reply;

            (void)access_count(r.t.access, c, &v, &r.t.s, ACCESS_EVENT_CONNECT,
                               &reply, &err);
            if (i % 5 != 0)
                access_client_gone(c, &v);
        }
        (void)close(go[1]);
        _exit(write(done[1], "x", 1) == 1 && read(go[0], c4, 1) == 0 ? 0 : 1);
    }
    while (n < 4) {
        ssize_t got = read(done[0], c4, 4 - n);

        assert_true(got > 0);
        n += (size_t)got;
    }
    buf_init(&out, 200);
    access_counters_dump(r.c, &out);
    assert_string_equal(buf_cstr(&out),
                        "clients 1 of 16384, connections 400\n");
    (void)close(go[1]);
    for (int p = 0; p < 4; p++) {
        int status;

        assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
        assert_int_equal(status, 0);
    }
    (void)close(go[0]);
    (void)close(done[0]);
    (void)close(done[1]);
    buf_done(&out);
    rates_done(&r);
}

static void test_damaged(void **state)
{
    struct access_counters *c;
    struct err err;
    int fd = memfd_create("x", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(access_counters_open(fd, &c, &err), -1);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(access_counters_open(fd, &c, &err), -1);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections),    cmocka_unit_test(test_rates),
        cmocka_unit_test(test_exceptions),     cmocka_unit_test(test_death),
        cmocka_unit_test(test_death_untold),   cmocka_unit_test(test_full),
        cmocka_unit_test(test_many_processes), cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
