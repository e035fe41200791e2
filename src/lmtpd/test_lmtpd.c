/* A client's talk with lmtpd; the system test is test/test_lmtpd.py. */
#include "base/test_util.h"
#include "lmtpd/fake.h"

struct talk {
    const char *main_cf, *input;
    struct buf out;
};

MAY_WAIT static void run(void *arg)
{
    struct talk *t = arg;
    struct stream *st = fake_connect();
    struct err err;

    stream_deadline(st, clock_after(20000));
    assert_int_equal(stream_puts(st, t->input, &err), 0);
    assert_int_equal(stream_shutdown(st, &err), 0);
    while (!stream_eof(st) && stream_fill(st, &err) == 0) {
        (void)buf_slice(&t->out, stream_peek(st));
        stream_consume(st, stream_peek(st).n);
    }
    stream_free(&st);
}

/* What the server says to the input, first and last lines' rest aside: the
 * codes with their status. */
static const char *talk(const char *main_cf, const char *input)
{
    static char codes[2000];
    struct talk t = { .main_cf = main_cf, .input = input };
    slice rest, line;

    buf_done(&fake.delivered);
    memset(&fake, 0, sizeof fake);
    loop_init("test", 1);
    fake_open(main_cf);
    buf_init(&t.out, 1 << 20);
    (void)task_spawn("test", run, &t);
    loop_run_until_idle();
    assert_int_equal(fake.server->n_sessions, 0);
    assert_int_equal(fake.server->memory, 0);
    fake_close();
    assert_int_equal(fake.n_workers_out, 0);
    codes[0] = '\0';
    rest = buf_view(&t.out);
    while (slice_cut(&rest, '\n', &line))
        if (line.n > 3 && line.p[3] == ' ')
            (void)snprintf(codes + strlen(codes), sizeof codes - strlen(codes),
                           "%.*s,",
                           line.p[0] == '3' || line.p[5] != '.' ? 3 : 9,
                           line.p);
    buf_done(&t.out);
    loop_done();
    return codes;
}

#define HELLO "LHLO x\r\nMAIL FROM:<a@b>\r\n"

static void each_has_its_answer(void **state)
{
    const char *got;

    (void)state;
    got = talk("", HELLO "RCPT TO:<anna@x>\r\nRCPT TO:<full@x>\r\n"
                         "RCPT TO:<nobody@x>\r\nRCPT TO:<temp@x>\r\n"
                         "RCPT TO:<gone@x>\r\nRCPT TO:<break1@x>\r\n"
                         "DATA\r\nSubject: s\r\n\r\nx\r\n.\r\nQUIT\r\n");
    assert_string_equal(got, "220,250,250 2.1.0,250 2.1.5,250 2.1.5,550 5.1.1,"
                             "451 4.3.0,250 2.1.5,250 2.1.5,354,250 2.0.0,"
                             "550 5.2.0,451 4.3.0,451 4.3.0,221 2.0.0,");
    assert_non_null(strstr(buf_cstr(&fake.delivered),
                           "anna@x: Received: from x\n\tby hato.example.com "
                           "with LMTP\n\tid "));
}

static void nothing_is_yes_before_the_sync(void **state)
{
    const char *got;

    (void)state;
    got = talk("", HELLO "RCPT TO:<anna@x>\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n");
    assert_string_equal(got,
                        "220,250,250 2.1.0,250 2.1.5,250 2.0.0,221 2.0.0,");
    assert_int_equal(fake.n_syncs, 1);
}

static void big_ones_lie_in_a_file(void **state)
{
    struct buf in;
    const char *got;

    (void)state;
    buf_init(&in, 4 << 20);
    (void)buf_puts(&in, HELLO "RCPT TO:<anna@x>\r\nDATA\r\n");
    for (int i = 0; i < 20000; i++)
        (void)buf_printf(&in, "%050d\r\n", i);
    (void)buf_puts(&in, ".\r\nQUIT\r\n");
    got = talk("", buf_cstr(&in));
    assert_string_equal(got, "220,250,250 2.1.0,250 2.1.5,354,250 2.0.0,"
                             "221 2.0.0,");
    assert_int_equal(slice_find(slice_from(buf_view(&fake.delivered),
                                           fake.delivered.n - 51),
                                SL("019999\n")),
                     44);
    got = talk("message_size_limit = 1000\n", buf_cstr(&in));
    assert_string_equal(got, "220,250,250 2.1.0,250 2.1.5,354,550 5.3.4,"
                             "221 2.0.0,");
    assert_int_equal(fake.delivered.n, 0);
    buf_done(&in);
    buf_done(&fake.delivered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_answer),
        cmocka_unit_test(nothing_is_yes_before_the_sync),
        cmocka_unit_test(big_ones_lie_in_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
