/* Policies, records, HTTP and reports as text. */
#include "fetch/fetch_priv.h"
#include "fetch/report.h"

#include "base/test_util.h"

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

static void test_head(void **state UNUSED)
{
    struct http_answer a = { 0 };
    int64_t length;
    bool chunked;

    assert_true(http_parse_head(SL("HTTP/1.1 200 OK\r\nContent-Type: "
                                   "text/plain; charset=utf-8\r\n"
                                   "Content-Length: 12\r\n\r\n"),
                                &a, &length, &chunked));
    assert_int_equal(a.status, 200);
    assert_true(a.is_text);
    assert_int_equal(length, 12);
    assert_false(chunked);
    assert_true(http_parse_head(SL("HTTP/1.0 301 Moved\r\ncontent-type: "
                                   "text/html\r\nTransfer-Encoding: chunked"
                                   "\r\n\r\n"),
                                &a, &length, &chunked));
    assert_int_equal(a.status, 301);
    assert_false(a.is_text);
    assert_int_equal(length, -1);
    assert_true(chunked);
    assert_false(
        http_parse_head(SL("HTTP/2 200\r\n\r\n"), &a, &length, &chunked));
    assert_false(
        http_parse_head(SL("220 mail\r\n\r\n"), &a, &length, &chunked));
    assert_false(http_parse_head(SL("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n"
                                    "\r\n"),
                                 &a, &length, &chunked));
    assert_false(http_parse_head(SL("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), &a,
                                 &length, &chunked));
    assert_false(http_parse_head(SL("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                                    "gzip\r\n\r\n"),
                                 &a, &length, &chunked));
}

static void test_chunks(void **state UNUSED)
{
    struct buf b;
    slice in = SL("4\r\nWiki\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n");

    buf_init(&b, 20);
    assert_int_equal(http_take_chunks(&in, &b), 1);
    assert_slice(buf_view(&b), SL("Wiki0123456789"));
    buf_clear(&b);
    in = SL("4\r\nWi");
    assert_int_equal(http_take_chunks(&in, &b), 0);
    assert_int_equal(in.n, 5);
    in = SL("15\r\n123");
    assert_int_equal(http_take_chunks(&in, &b), -1);
    in = SL("x\r\n123");
    assert_int_equal(http_take_chunks(&in, &b), -1);
    in = SL("2\r\n12");
    assert_int_equal(http_take_chunks(&in, &b), 0);
    in = SL("2\r\n1234\r\n");
    assert_int_equal(http_take_chunks(&in, &b), -1);
    buf_done(&b);
}

/* ---- reports */

static void test_gzip(void **state UNUSED)
{
    static const unsigned char want[] = {
        0x1f, 0x8b, 8,   0,   0,   0,    0,    0,    0,    3, 1, 3, 0,
        0xfc, 0xff, 'a', 'b', 'c', 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0
    };
    struct buf b;

    buf_init(&b, 200000);
    assert_true(report_gzip(SL("abc"), &b));
    assert_int_equal(b.n, sizeof want);
    assert_memory_equal(b.p, want, sizeof want);
    buf_done(&b);
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
    struct buf b;

    list_init(&c.failures);
    list_push(&c.failures, &f.link);
    buf_init(&b, 10000);
    report_policy(&c, false, &b);
    assert_slice(
        buf_view(&b),
        SL("{\"policy\":{\"policy-type\":\"sts\",\"policy-string\":[\"version: "
           "STSv1\",\"mode: enforce\",\"mx: *.example\",\"max_age: 9\"],"
           "\"policy-domain\":\"example\",\"mx-host\":[\"*.example\"]},"
           "\"summary\":{\"total-successful-session-count\":3,"
           "\"total-failure-session-count\":2},\"failure-details\":[{"
           "\"result-type\":\"certificate-expired\",\"sending-mta-ip\":"
           "\"192.0.2.1\",\"receiving-mx-hostname\":\"mx.example\","
           "\"failure-reason-code\":\"a \\\"quoted\\\" word\","
           "\"failed-session-count\":2}]}"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy), cmocka_unit_test(test_record),
        cmocka_unit_test(test_mx),     cmocka_unit_test(test_head),
        cmocka_unit_test(test_chunks), cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_places), cmocka_unit_test(test_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
