/* Policies, records, URLs and reports as text. */
#include "fetch/fetch_priv.h"
#include "fetch/libs.h"
#include "fetch/report.h"

#include "base/test_util.h"

#include <sys/mman.h>

/* ---- policies */

static void test_policy(void **state UNUSED)
{
    static const struct {
        const char *text;
        bool ok;
        enum sts_mode mode;
        uint64_t age;
        size_t n_mx;
    } rows[] = {
        { "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n"
          "mx: *.example.net\r\nmax_age: 604800\r\n",
          true, STS_ENFORCE, 604800, 2 },
        { "version:STSv1\nmode:testing\nmx:a.example\nmax_age:1\n", true,
          STS_TESTING, 1, 1 },
        { "mode: none\nmax_age: 0\nversion: STSv1", true, STS_NONE, 0, 0 },
        { "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 99999999\n",
          true, STS_ENFORCE, 31557600, 1 },
        /* What is not known is passed over; of a key the first counts. */
        { "version: STSv1\nnew: x\nmode: enforce\nmode: none\nmx: a.example\n"
          "max_age: 5\nmax_age: 6\n",
          true, STS_ENFORCE, 5, 1 },
        { "mode: enforce\nmx: a.example\nmax_age: 5\n", false, 0, 0, 0 },
        { "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 5\n", false,
          0, 0, 0 },
        { "version: STSv1\nmx: a.example\nmax_age: 5\n", false, 0, 0, 0 },
        { "version: STSv1\nmode: enforce\nmx: a.example\n", false, 0, 0, 0 },
        { "version: STSv1\nmode: enforce\nmax_age: 5\n", false, 0, 0, 0 },
        { "version: STSv1\nmode: strict\nmx: a.example\nmax_age: 5\n", false, 0,
          0, 0 },
        { "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -5\n", false,
          0, 0, 0 },
        { "version: STSv1\nmode: enforce\nmx: a b\nmax_age: 5\n", false, 0, 0,
          0 },
        { "<html>", false, 0, 0, 0 },
        { "", false, 0, 0, 0 },
    };
    static struct sts_policy p;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (sts_parse(slice_str(rows[i].text), &p) != rows[i].ok)
            fail_msg("row %zu", i);
        if (!rows[i].ok)
            continue;
        assert_int_equal(p.mode, rows[i].mode);
        assert_int_equal(p.max_age, rows[i].age);
        assert_int_equal(p.n_mx, rows[i].n_mx);
    }
}

static void test_record(void **state UNUSED)
{
    slice id;

    assert_true(sts_parse_record(SL("v=STSv1; id=20160831085700Z;"), &id));
    assert_slice(id, SL("20160831085700Z"));
    assert_true(sts_parse_record(SL("v=STSv1;id=1"), &id));
    assert_true(sts_parse_record(SL("v=STSv1 ; other=2; id = 7 ;"), &id));
    assert_slice(id, SL("7"));
    assert_false(sts_parse_record(SL("v=STSv1;"), &id));
    assert_false(sts_parse_record(SL("v=STSv10; id=1"), &id));
    assert_false(sts_parse_record(SL("v=STSv1; id=a-b"), &id));
    assert_false(sts_parse_record(SL("v=STSv1; id="), &id));
    assert_false(sts_parse_record(
        SL("v=STSv1; id=123456789012345678901234567890123"), &id));
    assert_false(sts_parse_record(SL(""), &id));
}

static void test_mx(void **state UNUSED)
{
    assert_true(sts_mx_matches(SL("mx.example.com"), SL("MX.example.com")));
    assert_true(sts_mx_matches(SL("mx.example.com"), SL("mx.example.com.")));
    assert_false(sts_mx_matches(SL("mx.example.com"), SL("a.mx.example.com")));
    assert_true(sts_mx_matches(SL("*.example.com"), SL("a.example.com")));
    /* RFC 8461 4.1: one label. */
    assert_false(sts_mx_matches(SL("*.example.com"), SL("a.b.example.com")));
    assert_false(sts_mx_matches(SL("*.example.com"), SL("example.com")));
    assert_false(sts_mx_matches(SL("*.example.com"), SL(".example.com")));
}

/* ---- HTTP */

static void test_url(void **state UNUSED)
{
    struct buf b;

    buf_init(&b, 100);
    assert_true(http_url(SL("mta-sts.a_b.example"), 443, SL("/x/y?z"), &b));
    assert_slice(buf_view(&b), SL("https://mta-sts.a_b.example:443/x/y?z"));
    /* What would make it another host, port, or request. */
    assert_false(http_url(SL("mta-sts.a@b.example"), 443, SL("/"), &b));
    assert_false(http_url(SL("mta-sts.a.example#"), 443, SL("/"), &b));
    assert_false(http_url(SL("mta-sts.a/b"), 443, SL("/"), &b));
    assert_false(http_url(SL("mta-sts.a?b"), 443, SL("/"), &b));
    assert_false(http_url(SL("mta-sts.a:25"), 443, SL("/"), &b));
    assert_false(http_url(SL("[::1]"), 443, SL("/"), &b));
    assert_false(http_url(SL(""), 443, SL("/"), &b));
    assert_false(http_url(SL("a.example"), 443, SL(""), &b));
    assert_false(http_url(SL("a.example"), 443, SL("@b.example/"), &b));
    assert_false(http_url(SL("a.example"), 443, SL("/ HTTP/1.1"), &b));
    assert_false(http_url(SL("a.example"), 443, SL("/\r\nX: y"), &b));
    buf_done(&b);
}

/* ---- reports */

static void test_gzip(void **state UNUSED)
{
    struct buf in, out;
    char *back = xcalloc(1, 200000);
    z_stream z = { 0 };

    buf_init(&in, 200000);
    buf_init(&out, 200000);
    for (int i = 0; i < 10000; i++)
        (void)buf_printf(&in, "line %d\n", i);
    assert_true(report_gzip(buf_view(&in), &out));
    assert_true(out.n < in.n / 2);
    assert_memory_equal(out.p, "\x1f\x8b\x08", 3);
    z.next_in = (Bytef *)out.p;
    z.avail_in = (uInt)out.n;
    z.next_out = (Bytef *)back;
    z.avail_out = 200000;
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    (void)inflateEnd(&z);
    assert_slice(slice_of(back, z.total_out), buf_view(&in));
    buf_done(&out);
    /* No room: said, not cut. */
    buf_init(&out, 100);
    assert_false(report_gzip(buf_view(&in), &out));
    buf_done(&out);
    buf_done(&in);
    free(back);
}

static void test_places(void **state UNUSED)
{
    struct arena *a = arena_new(10000);

    assert_slice(report_places(SL("v=TLSRPTv1; rua=mailto:a@b.c,https://x/y")),
                 SL("mailto:a@b.c,https://x/y"));
    assert_int_equal(report_places(SL("v=TLSRPTv1;")).n, 0);
    assert_slice(report_address(a, SL("tls%2Dreports@example.com?subject=x")),
                 SL("tls-reports@example.com"));
    assert_int_equal(report_address(a, SL("a@b%0AX: y")).n, 0);
    assert_int_equal(report_address(a, SL("a b@c")).n, 0);
    assert_int_equal(report_address(a, SL("nobody")).n, 0);
    arena_free(&a);
}

static void test_json(void **state UNUSED)
{
    struct failure f = { .type = xstrdup("certificate-expired"),
                         .local = xstrdup("192.0.2.1"),
                         .remote = xstrdup("mx.example"),
                         .addr = xstrdup(""),
                         .text = xstrdup("a \"quoted\" word"),
                         .n = 2 };
    struct counted c = { .domain = xstrdup("example"),
                         .kind = xstrdup("sts"),
                         .lines = xstrdup("version: STSv1\nmode: enforce\n"
                                          "mx: *.example\nmax_age: 9\n"),
                         .n_good = 3,
                         .n_failed = 2,
                         .n_failures = 1 };
    struct counted plain = { .domain = xstrdup("\xc3\xa9.example"),
                             .kind = xstrdup("no-policy-found"),
                             .lines = xstrdup("not UTF-8: \xff\xfe"),
                             .n_good = 7 };
    struct report_names *names = xcalloc(1, sizeof *names);
    struct json_t *report;
    struct buf b;

    (void)snprintf(names->submitter, sizeof names->submitter, "us.example");
    (void)snprintf(names->sender, sizeof names->sender, "me@us.example");
    (void)snprintf(names->id, sizeof names->id, "1@us");
    (void)snprintf(names->from, sizeof names->from, "a");
    (void)snprintf(names->until, sizeof names->until, "b");
    list_init(&plain.failures);
    list_init(&c.failures);
    list_push(&c.failures, &f.link);
    buf_init(&b, 10000);
    report = report_new(names);
    report_add(report, &c);
    report_add(report, &plain);
    assert_true(report_write(report, &b));
    assert_slice(
        buf_view(&b),
        SL("{\"organization-name\":\"us.example\",\"date-range\":{"
           "\"start-datetime\":\"a\",\"end-datetime\":\"b\"},"
           "\"contact-info\":\"me@us.example\",\"report-id\":\"1@us\","
           "\"policies\":[{\"policy\":{\"policy-type\":\"sts\",\"policy-string\":[\"version: "
           "STSv1\",\"mode: enforce\",\"mx: *.example\",\"max_age: 9\"],"
           "\"policy-domain\":\"example\",\"mx-host\":[\"*.example\"]},"
           "\"summary\":{\"total-successful-session-count\":3,"
           "\"total-failure-session-count\":2},\"failure-details\":[{"
           "\"result-type\":\"certificate-expired\",\"sending-mta-ip\":"
           "\"192.0.2.1\",\"receiving-mx-hostname\":\"mx.example\","
           "\"failure-reason-code\":\"a \\\"quoted\\\" word\","
           "\"failed-session-count\":2}]},{\"policy\":{\"policy-type\":"
           "\"no-policy-found\",\"policy-string\":[\"not UTF-8: ??\"],"
           "\"policy-domain\":\"\\u00E9.example\"},"
           "\"summary\":{\"total-successful-session-count\":7,"
           "\"total-failure-session-count\":0}}]}"));
    buf_done(&b);
    /* No room: said, not cut. */
    buf_init(&b, 50);
    assert_false(report_write(report_new(names), &b));
    free(names);
    free(plain.domain);
    free(plain.kind);
    free(plain.lines);
    buf_done(&b);
    free(f.type);
    free(f.local);
    free(f.remote);
    free(f.addr);
    free(f.text);
    free(c.domain);
    free(c.kind);
    free(c.lines);
}

/* ---- the end */

static void count_idle(void *arg)
{
    ++*(int *)arg;
}

struct ending {
    struct fetch_server *s;
    int n_idle;
};

/* There is no record; and while it is looked for, the word to drain comes. */
static void no_record(void *arg, const struct dns_question *q UNUSED,
                      struct arena *a UNUSED, struct dns_answer *out)
{
    struct ending *e = arg;

    *out = (struct dns_answer){ .result = DNS_NXDOMAIN };
    fetch_server_drain(e->s, count_idle, &e->n_idle);
    assert_int_equal(e->n_idle, 0);
}

/* A drain that comes while reports are written ends with them. */
static void test_drain(void **state UNUSED)
{
    struct process *p = xcalloc(1, sizeof *p);
    struct fetch_server *s = xcalloc(1, sizeof *s);
    struct buf b;
    struct ending e = { .s = s };

    loop_init("test", 0);
    p->conf =
        conf_from_text(SL("myhostname = mx.us.example\n"), SLICE_NONE, NULL);
    s->p = p;
    s->reports = true;
    s->dns = dns_new_fake(no_record, &e);
    map_init(&s->policies, true);
    map_init(&s->counts, true);
    list_init(&s->by_age);
    list_init(&s->peers);
    for (int i = 0; i < 2; i++)
        s->fd[i] = memfd_create("fetcher", MFD_CLOEXEC);
    buf_init(&b, 1000);
    (void)attr_put_str(&b, AT_NAME, "them.example");
    (void)attr_put_str(&b, AT_KIND, "sts");
    report_count(s, buf_view(&b));
    buf_done(&b);
    s->day--;
    report_start(s);
    s->midnight.fn(&s->midnight);
    assert_true(s->is_reporting);
    loop_run_until_idle();
    assert_int_equal(s->counts.n, 0);
    assert_int_equal(e.n_idle, 1);
    timer_cancel(&s->midnight);
    dns_free(&s->dns);
    map_done(&s->policies);
    map_done(&s->counts);
    close_fd(&s->fd[0]);
    close_fd(&s->fd[1]);
    conf_unref(&p->conf);
    free(s);
    free(p);
    loop_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy), cmocka_unit_test(test_record),
        cmocka_unit_test(test_mx),     cmocka_unit_test(test_url),
        cmocka_unit_test(test_gzip),   cmocka_unit_test(test_places),
        cmocka_unit_test(test_json),   cmocka_unit_test(test_drain),
    };

    struct err err;

    if (fetch_libs_load(&err) < 0) {
        (void)fprintf(stderr, "%s\n", err.log);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
