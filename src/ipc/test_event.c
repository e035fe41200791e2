#include "base/clock.h"
#include "ipc/event.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct event decoded;
static struct ev_field fields[EVENT_MAX_FIELDS];
static char keys[EVENT_MAX_FIELDS][24];

/* Encode, decode and render as `how` does; the result is NUL-terminated. */
static const char *render(struct buf *out, const struct event *e,
                          void (*how)(struct buf *, const struct event *))
{
    struct buf wire;

    buf_init(&wire, EVENT_MAX_BYTES);
    assert_true(event_encode(&wire, e));
    assert_true(event_decode(buf_view(&wire), &decoded, fields, keys));
    buf_clear(out);
    how(out, &decoded);
    buf_done(&wire);
    return buf_cstr(out);
}

static void postfix_line(void **state UNUSED)
{
    const struct ev_field f[] = {
        ev_addr("to", SL("a@b.example")),
        ev_str("relay", SL("virtual")),
        ev_ms("delay", 73),
        ev_u64("size", 9000000000),
        { "password", EVT_SECRET, { NULL, 0 }, 7 },
        ev_tail(SL("(delivered to maildir)")),
    };
    struct event e = { .level = EV_INFO,
                       .service = SL("virtual"),
                       .name = SL("delivered"),
                       .queue_id = SL("4Bz0Xyz"),
                       .fields = f,
                       .n_fields = ARRAY_LEN(f) };
    struct buf b;

    buf_init(&b, 10000);
    assert_string_equal(render(&b, &e, event_render_postfix),
                        "4Bz0Xyz: to=<a@b.example>, relay=virtual, delay=0.07, "
                        "size=9000000000, password=*** (delivered to maildir)");
    e.n_fields = 0;
    assert_string_equal(render(&b, &e, event_render_postfix), "4Bz0Xyz: ");
    e.level = EV_WARNING;
    e.queue_id = SLICE_NONE;
    e.fields = f + 5;
    e.n_fields = 1;
    assert_string_equal(render(&b, &e, event_render_postfix),
                        "warning: (delivered to maildir)");
    buf_done(&b);
}

static void foreign_bytes_are_harmless(void **state UNUSED)
{
    const struct ev_field f[] = {
        ev_str("helo", SL("a\n\x1b[2J\x7f\xff\xc3\xa9\xc2\x9b\"\\z")),
    };
    struct event e = { .level = EV_INFO,
                       .service = SL("smtpd"),
                       .name = SL("x"),
                       .fields = f,
                       .n_fields = 1,
                       .pid = 7 };
    struct buf b;

    buf_init(&b, 10000);
    assert_string_equal(render(&b, &e, event_render_postfix),
                        "helo=a??[2J??\xc3\xa9??\"\\z");
    assert_string_equal(
        render(&b, &e, event_render_json),
        "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"info\","
        "\"service\":\"smtpd\",\"pid\":7,\"event\":\"x\","
        "\"helo\":\"a??[2J??\xc3\xa9??\\\"\\\\z\"}");
    assert_string_equal(
        render(&b, &e, event_render_logfmt),
        "time=1970-01-01T00:00:00.000000Z level=info service=smtpd pid=7 "
        "event=x helo=\"a??[2J??\xc3\xa9??\\\"\\\\z\"");
    buf_done(&b);
}

static void delays_are_short(void **state UNUSED)
{
    static const struct {
        int64_t ms;
        const char *text;
    } t[] = { { 0, "0" },      { -5, "0" },       { 4, "0" },
              { 5, "0.01" },   { 73, "0.07" },    { 334, "0.33" },
              { 996, "1" },    { 1240, "1.2" },   { 9960, "10" },
              { 12400, "12" }, { 100500, "101" }, { 3600000, "3600" } };

    char out[24];

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(event_format_ms(t[i].ms, out), strlen(t[i].text));
        assert_string_equal(out, t[i].text);
    }
}

static void decode_refuses_damage(void **state UNUSED)
{
    struct buf wire;
    const struct ev_field f[] = { ev_u64("n", 3), ev_tail(SL("text")) };
    struct event e = { .level = EV_INFO, .fields = f, .n_fields = 2 };

    buf_init(&wire, EVENT_MAX_BYTES);
    assert_true(event_encode(&wire, &e));
    for (size_t n = 1; n < wire.n; n++)
        if (event_decode(slice_of(wire.p, n), &decoded, fields, keys))
            assert_true(decoded.n_fields < 2);
    buf_done(&wire);
}

static void a_long_text_is_cut(void **state UNUSED)
{
    static char big[9000];
    struct ev_field f[8];
    struct event e = { .level = EV_INFO, .fields = f, .n_fields = 8 };
    struct buf b, wire;

    memset(big, 'x', sizeof big);
    for (size_t i = 0; i < 8; i++)
        f[i] = ev_str("k", slice_of(big, sizeof big));
    buf_init(&b, 20000);
    buf_init(&wire, EVENT_MAX_BYTES);
    assert_true(event_encode(&wire, &e));
    assert_true(wire.n <= EVENT_MAX_BYTES);
    f[0] = ev_tail(slice_of(big, sizeof big));
    e.n_fields = 1;
    buf_clear(&wire);
    assert_int_equal(strlen(render(&b, &e, event_render_postfix)), 0);
    f[0] = ev_tail(slice_of(big, 5000));
    assert_int_equal(strlen(render(&b, &e, event_render_postfix)),
                     EVENT_MAX_TEXT);
    buf_done(&b);
    buf_done(&wire);
}

/* Read one datagram and count its events that hold `text`. */
static size_t receive(int fd, const char *text)
{
    static char datagram[65536];
    ssize_t n = recv(fd, datagram, sizeof datagram, MSG_DONTWAIT);
    slice rest = slice_of(datagram, n > 0 ? (size_t)n : 0), one;
    size_t found = 0;

    while (event_next(&rest, &one)) {
        assert_true(event_decode(one, &decoded, fields, keys));
        for (size_t i = 0; i < decoded.n_fields; i++)
            found += slice_find(decoded.fields[i].str, slice_str(text)) >= 0;
    }
    assert_int_equal(rest.n, 0);
    return found;
}

static void a_full_log_is_counted(void **state UNUSED)
{
    int fds[2], n = 0;
    ssize_t sent;

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    event_setup(fds[1], "test");
    log_info("one %d", 1);
    assert_int_equal(receive(fds[0], "one 1"), 1);
    do
        sent = send(fds[1], "", 1, MSG_DONTWAIT);
    while (sent >= 0 && n++ < 100000);
    log_info("lost");
    log_info("lost");
    while (recv(fds[0], &n, 1, MSG_DONTWAIT) >= 0)
        ;
    log_warning("seen");
    assert_int_equal(receive(fds[0], "dropped 2 events"), 1);
    event_setup(-1, "test");
    close(fds[0]);
    close(fds[1]);
}

/* A batch that is full makes room for the next without a pause: what was lost
 * of it is told all the same, though nothing is said any more. */
static void flood_body(void *arg)
{
    int *fds = arg;
    bool is_told = false;
    struct err err;
    int n = 0;

    event_setup(fds[1], "test");
    event_batch(true);
    for (ssize_t sent = 0; sent >= 0 && n < 100000; n++)
        sent = send(fds[1], "", 1, MSG_DONTWAIT);
    for (int i = 0; i < 1000; i++)
        log_info("a line of a flood that does not fit, number %d", i);
    while (recv(fds[0], &n, 1, MSG_DONTWAIT) >= 0)
        ;
    for (int i = 0; i < 200 && !is_told; i++) {
        (void)task_sleep(25, &err);
        is_told = receive(fds[0], "dropped ") == 1;
    }
    assert_true(is_told);
    event_batch(false);
    event_setup(-1, "test");
    loop_stop();
}

static void a_flood_is_counted(void **state UNUSED)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    loop_init("test", 1);
    task_spawn("flood", flood_body, fds);
    loop_run();
    loop_done();
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_is_counted),
        cmocka_unit_test(postfix_line),
        cmocka_unit_test(foreign_bytes_are_harmless),
        cmocka_unit_test(delays_are_short),
        cmocka_unit_test(decode_refuses_damage),
        cmocka_unit_test(a_long_text_is_cut),
        cmocka_unit_test(a_full_log_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
