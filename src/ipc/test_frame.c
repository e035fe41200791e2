#include "ipc/chan_priv.h"
#include "ipc/process.h"
#include "ipc/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void parses_what_it_writes(void **state UNUSED)
{
    struct buf b;
    struct frame f = { .type = 77, .flags = 3, .n_fds = 2, .id = 0xdeadbeef };
    struct frame g;

    buf_init(&b, 1000);
    f.body = SL("hello");
    frame_put(&b, &f);
    frame_put(&b, &f);
    for (size_t n = 0; n < FRAME_HEADER + 5; n++)
        assert_int_equal(frame_parse(slice_of(b.p, n), &g), 0);
    assert_int_equal(frame_parse(buf_view(&b), &g), 1);
    assert_int_equal(g.type, 77);
    assert_int_equal(g.flags, 3);
    assert_int_equal(g.n_fds, 2);
    assert_int_equal(g.id, 0xdeadbeef);
    assert_true(slice_eqs(g.body, "hello"));
    assert_int_equal(g.size, FRAME_HEADER + 5);
    buf_done(&b);
}

static void refuses_damage(void **state UNUSED)
{
    char head[FRAME_HEADER];
    struct frame f = { .type = 1 };

    frame_header(head, &f);
    set_u32(head, CHAN_MAX_BYTES + 1);
    assert_int_equal(frame_parse(slice_of(head, sizeof head), &f), -1);
    set_u32(head, 0);
    head[7] = CHAN_MAX_FDS + 1;
    assert_int_equal(frame_parse(slice_of(head, sizeof head), &f), -1);
}

static void hello_speaks_with_neighbours(void **state UNUSED)
{
    struct buf b, body;
    struct frame f;
    uint64_t features = 1;

    buf_init(&b, 1000);
    buf_init(&body, 1000);
    frame_put_hello(&b);
    assert_int_equal(frame_parse(buf_view(&b), &f), 1);
    assert_true(frame_hello_ok(&f, &features));
    assert_int_equal(features, CHAN_FEATURES);
    for (uint64_t r = 0; r < 5; r++) {
        buf_clear(&body);
        attr_put_u64(&body, AT_RELEASE, r);
        f.body = buf_view(&body);
        assert_int_equal(frame_hello_ok(&f, &features),
                         r + 1 >= CHAN_RELEASE && r <= CHAN_RELEASE + 1);
    }
    f.type = MSG_BYE;
    assert_false(frame_hello_ok(&f, &features));
    buf_done(&b);
    buf_done(&body);
}

static void an_err_travels(void **state UNUSED)
{
    struct buf b;
    struct err a, z;

    buf_init(&b, 4096);
    err_set(&a, ERR_PERM, "5.1.1", "no such user");
    err_log(&a, "no user %s", "bob");
    frame_put_err(&b, &a);
    assert_int_equal(frame_get_err(buf_view(&b), &z), -1);
    assert_int_equal(z.class, ERR_PERM);
    assert_string_equal(z.status, "5.1.1");
    assert_string_equal(z.peer, "no such user");
    assert_string_equal(z.log, "no user bob");
    assert_int_equal(frame_get_err(SLICE_NONE, &z), -1);
    assert_int_equal(z.class, ERR_TEMP);
    buf_done(&b);
}

static void names_are_known(void **state UNUSED)
{
    assert_string_equal(proto_name(DELIVER_REQUEST), "DELIVER_REQUEST");
    assert_string_equal(proto_name(9999), "?");
    assert_string_equal(ptype_name(PT_SMTPD), "smtpd");
    for (unsigned t = PT_MASTER; t < PT_N; t++)
        assert_int_equal(ptype_of(slice_str(ptype_name((enum ptype)t))), t);
    assert_int_equal(ptype_of(SL("none")), PT_NONE);
    assert_int_equal(ptype_of(SL("x")), PT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_what_it_writes),
        cmocka_unit_test(refuses_damage),
        cmocka_unit_test(hello_speaks_with_neighbours),
        cmocka_unit_test(an_err_travels),
        cmocka_unit_test(names_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
