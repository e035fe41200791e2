/* The envelope's codec. */
#include "spool/envelope.h"

#include "base/codec.h"
#include "base/test_util.h"

static struct envelope_rcpt rcpts[2];
static const struct envelope_settles settles[1] = { { 77, 3 } };

static struct envelope full(void)
{
    rcpts[0] = (struct envelope_rcpt){ .addr = SL("a@example.org"),
                                       .orig = SL("A@example.org"),
                                       .orcpt = SL("rfc822;a@example.org"),
                                       .notify = ENV_NOTIFY_NEVER };
    rcpts[1] = (struct envelope_rcpt){ .addr = SL("b c@example.org") };
    return (struct envelope){ .seq = 5 << 20,
                              .arrival_usec = 1700000000123456,
                              .sender = SL("s@example.org"),
                              .rcpts = rcpts,
                              .n_rcpts = 2,
                              .ret = ENV_RET_HDRS,
                              .envid = SL("id 1"),
                              .flags = ENV_8BITMIME | ENV_SMTPUTF8,
                              .client_name = SL("unknown"),
                              .client_addr = SL("192.0.2.1"),
                              .client_port = 2525,
                              .helo = SL("h"),
                              .protocol = SL("ESMTP"),
                              .login = SL("user"),
                              .service = SL("smtpd"),
                              .message_id = SL("<m@example.org>"),
                              .size = 1000,
                              .headers = SL("Received: x\n"),
                              .filter = SL("smtp:[127.0.0.1]:1"),
                              .redirect = SL("r@example.org"),
                              .warning = SL("w"),
                              .settles = settles,
                              .n_settles = 1,
                              .body_bytes = 988 };
}

static void test_round_trip(void **state)
{
    struct arena *a = arena_new(1 << 20);
    struct envelope e = full();
    struct envelope got;
    struct buf b;
    struct buf again;
    struct err err;

    (void)state;
    buf_init(&b, ENVELOPE_MAX_BYTES);
    buf_init(&again, ENVELOPE_MAX_BYTES);
    assert_true(envelope_encode(&b, &e));
    assert_int_equal(get_u64(b.p + ENVELOPE_SEQ_AT), 5 << 20);
    assert_int_equal(envelope_decode(buf_view(&b), a, true, &got, &err), 0);
    assert_true(envelope_encode(&again, &got));
    assert_slice(buf_view(&again), buf_view(&b));
    assert_int_equal(got.n_rcpts, 2);
    assert_slice(got.rcpts[1].addr, SL("b c@example.org"));
    assert_int_equal(got.settles[0].rcpt, 3);
    assert_true(mail_queue_id_valid(slice_str(got.id)));
    assert_int_equal(envelope_arrival_ms(&got), 1700000000123);
    buf_done(&b);
    buf_done(&again);
    arena_free(&a);
}

static void test_damage_is_refused(void **state)
{
    struct arena *a = arena_new(1 << 20);
    struct envelope e = full();
    struct envelope got = { .seq = 1 };
    struct buf b;
    struct err err;
    unsigned n_bad = 0;

    (void)state;
    buf_init(&b, ENVELOPE_MAX_BYTES);
    assert_true(envelope_encode(&b, &e));
    for (size_t n = 0; n < b.n; n++) {
        if (envelope_decode(slice_of(b.p, n), a, true, &got, &err) < 0)
            n_bad++;
        arena_reset(a);
    }
    assert_true(n_bad > b.n / 2);
    /* An attribute that must be understood and is not. */
    (void)attr_put(&b, 999 | ATTR_MUST, SL("x"));
    got.seq = 1;
    assert_int_equal(envelope_decode(buf_view(&b), a, true, &got, &err), -1);
    assert_int_equal(got.seq, 1);
    buf_done(&b);
    arena_free(&a);
    /* Memory is capped. */
    a = arena_new(64);
    buf_init(&b, ENVELOPE_MAX_BYTES);
    assert_true(envelope_encode(&b, &e));
    assert_int_equal(envelope_decode(buf_view(&b), a, true, &got, &err), -1);
    assert_int_equal(err.class, ERR_TEMP);
    buf_done(&b);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
