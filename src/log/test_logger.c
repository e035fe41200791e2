#include "base/clock.h"
#include "base/codec.h"
#include "log/log.h"
#include "rt/rt.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct log_settings postfix = { LOG_POSTFIX, "postfix", "host",
                                             16 };
static struct logger *l;
static char content[1 << 16];

static const char *read_back(int fd)
{
    ssize_t n = pread(fd, content, sizeof content - 1, 0);

    assert_true(n >= 0);
    content[n] = '\0';
    return content;
}

static struct event sample(void)
{
    static const struct ev_field f[] = {
        { "client", EVT_STR, { "unknown[192.0.2.1]", 18 }, 0 },
    };

    return (struct event){ .level = EV_INFO,
                           .wall_usec = 1700000000000000,
                           .pid = 42,
                           .service = SL("smtpd"),
                           .name = SL("accepted"),
                           .queue_id = SL("4Xyz"),
                           .fields = f,
                           .n_fields = 1 };
}

static void lines_of_each_format(void **state UNUSED)
{
    struct log_settings s = postfix;
    struct event e = sample();
    struct buf b;

    setenv("TZ", "UTC", 1);
    buf_init(&b, 10000);
    log_line(&b, &s, &e);
    assert_string_equal(buf_cstr(&b),
                        "Nov 14 22:13:20 host postfix/smtpd[42]: 4Xyz: "
                        "client=unknown[192.0.2.1]\n");
    buf_clear(&b);
    log_syslog_line(&b, &s, &e);
    assert_string_equal(buf_cstr(&b),
                        "<22>Nov 14 22:13:20 postfix/smtpd[42]: 4Xyz: "
                        "client=unknown[192.0.2.1]");
    buf_clear(&b);
    s.format = LOG_JSON;
    log_line(&b, &s, &e);
    assert_string_equal(
        buf_cstr(&b),
        "{\"time\":\"2023-11-14T22:13:20.000000Z\",\"level\":\"info\","
        "\"service\":\"smtpd\",\"pid\":42,\"event\":\"accepted\","
        "\"queue_id\":\"4Xyz\",\"client\":\"unknown[192.0.2.1]\"}\n");
    buf_clear(&b);
    s.format = LOG_LOGFMT;
    log_line(&b, &s, &e);
    assert_string_equal(buf_cstr(&b),
                        "time=2023-11-14T22:13:20.000000Z level=info "
                        "service=smtpd pid=42 event=accepted queue_id=4Xyz "
                        "client=unknown[192.0.2.1]\n");
    buf_done(&b);
}

static void datagram(struct buf *b, size_t n)
{
    struct event e = sample();

    buf_clear(b);
    for (size_t i = 0; i < n; i++) {
        size_t at = b->n;

        buf_u16(b, 0);
        event_encode(b, &e);
        set_u16(b->p + at, (uint16_t)(b->n - at - 2));
    }
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;

    for (const char *p = strstr(text, word); p != NULL; p = strstr(p + 1, word))
        n++;
    return n;
}

static void stop_soon(void *arg)
{
    struct err err;

    task_sleep(50, &err);
    assert_int_equal(count(read_back(*(int *)arg), "4Xyz"), 300);
    loop_stop();
}

static void events_reach_the_file(void **state UNUSED)
{
    int fds[2], file = memfd_create("log", MFD_CLOEXEC);
    struct buf b;

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    loop_init("log", 1);
    l = logger_new(&postfix);
    logger_output(l, dup(file), false);
    buf_init(&b, 10000);
    datagram(&b, 3);
    for (int i = 0; i < 100; i++)
        assert_int_equal(send(fds[1], b.p, b.n, MSG_DONTWAIT), b.n);
    logger_events(l, fds[0]);
    task_spawn("stop", stop_soon, &file);
    loop_run();
    assert_int_equal(send(fds[1], b.p, b.n, MSG_DONTWAIT), b.n);
    logger_drain(l);
    assert_int_equal(count(read_back(file), "4Xyz"), 303);
    logger_free(&l);
    loop_done();
    buf_done(&b);
    close(fds[1]);
    close(file);
}

static void what_is_lost_is_told(void **state UNUSED)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int file = memfd_create("log", MFD_CLOEXEC);
    struct buf b;
    char *p;

    assert_true(full >= 0);
    loop_init("log", 1);
    l = logger_new(&postfix);
    logger_output(l, full, false);
    buf_init(&b, 20000);
    datagram(&b, 100);
    for (int i = 0; i < 800; i++) {
        logger_take(l, buf_view(&b));
        logger_flush(l);
    }
    logger_take(l, SL("\3\0abc"));
    logger_output(l, file, false);
    read_back(file);
    assert_true(lseek(file, -200, SEEK_END) > 0);
    p = content;
    assert_true(read(file, p, 200) == 200);
    p[200] = '\0';
    assert_non_null(strstr(p, "postfix/log["));
    assert_non_null(strstr(p, "warning: lost "));
    logger_free(&l);
    loop_done();
    buf_done(&b);
}

static void syslog_gets_datagrams(void **state UNUSED)
{
    int fds[2];
    struct buf b;
    ssize_t n;

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    loop_init("log", 1);
    l = logger_new(&postfix);
    logger_output(l, fds[1], true);
    buf_init(&b, 10000);
    datagram(&b, 2);
    logger_take(l, buf_view(&b));
    for (int i = 0; i < 2; i++) {
        n = recv(fds[0], content, sizeof content - 1, MSG_DONTWAIT);
        assert_true(n > 0);
        content[n] = '\0';
        assert_ptr_equal(strstr(content, "<22>Nov"), content);
    }
    assert_int_equal(recv(fds[0], content, 1, MSG_DONTWAIT), -1);
    logger_free(&l);
    loop_done();
    buf_done(&b);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_each_format),
        cmocka_unit_test(events_reach_the_file),
        cmocka_unit_test(what_is_lost_is_told),
        cmocka_unit_test(syslog_gets_datagrams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
