/* Hosts of a nexthop, connecting, and conversion, without a network.
 * covers: smtp_address_preference smtp_balance_inet_protocols
 * smtp_randomize_addresses smtp_defer_if_no_mx_address_found smtp_host_lookup
 * smtp_dns_reply_filter smtp_cname_overrides_servername smtp_dns_support_level
 * smtp_tcp_port disable_dns_lookups ignore_mx_lookup_error
 * smtp_mx_address_limit lmtp_address_preference lmtp_balance_inet_protocols
 * lmtp_randomize_addresses lmtp_host_lookup lmtp_dns_reply_filter
 * lmtp_dns_support_level lmtp_cname_overrides_servername lmtp_mx_address_limit
 * smtp_bind_address6 lmtp_bind_address6 lmtp_bind_address_enforce
 * lmtp_bind_address
 */
#include "base/test_util.h"
#include "smtp/client/convert.h"
#include "smtp/client/fake.h"

#include "rt/rt.h"

static const char zone[] = "two.test MX 20 b.test\n"
                           "two.test MX 10 a.test\n"
                           "a.test A 192.0.2.1\n"
                           "a.test AAAA 2001:db8::1\n"
                           "b.test A 192.0.2.2\n"
                           "null.test MX 0 \n"
                           "nulls.test MX 0 \n"
                           "nulls.test MX 10 \n"
                           "nullmore.test MX 10 a.test\n"
                           "nullmore.test MX 0 \n"
                           "only-a.test A 192.0.2.3\n"
                           "broken.test FAIL\n"
                           "alias.test MX 5 cname.test\n"
                           "cname.test CNAME b.test\n"
                           "empty.test MX 5 gone.test\n"
                           "soft.test MX 5 broken.test\n"
                           "half.test MX 5 gone.test\n"
                           "half.test MX 10 b.test\n"
                           "self.test A 127.0.0.1\n"
                           "loop.test MX 5 self.test\n"
                           "second.test MX 5 b.test\n"
                           "second.test MX 10 self.test\n"
                           "second.test MX 20 a.test\n"
                           "lost.test MX 5 gone.test\n"
                           "lost.test MX 10 self.test\n"
                           "same.test MX 5 v4a.test\n"
                           "same.test MX 5 v4b.test\n"
                           "same.test MX 5 v4c.test\n"
                           "same.test MX 5 v6.test\n"
                           "v4a.test A 192.0.2.11\n"
                           "v4b.test A 192.0.2.12\n"
                           "v4c.test A 192.0.2.13\n"
                           "v6.test AAAA 2001:db8::6";

/* The machine's name service asks DNS. */
#define WITH_DNS "# DNS\n"

static const struct {
    const char *conf;
    const char *transport;
    const char *dest;
    const char *want; /* "name[addr]:port ...", or "status text" */
} cases[] = {
    { "", "plain", "two.test",
      "a.test[192.0.2.1]:25 a.test[2001:db8::1]:25 b.test[192.0.2.2]:25" },
    { "", "plain", "two.test:587",
      "a.test[192.0.2.1]:587 a.test[2001:db8::1]:587 b.test[192.0.2.2]:587" },
    { "smtp_tcp_port = 2525\n", "plain", "[b.test]", "b.test[192.0.2.2]:2525" },
    { "smtp_address_preference = ipv6\n", "plain", "[a.test]",
      "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25" },
    { "smtp_address_preference = ipv4\n", "plain", "[a.test]",
      "a.test[192.0.2.1]:25 a.test[2001:db8::1]:25" },
    { "inet_protocols = ipv4\n", "plain", "[a.test]", "a.test[192.0.2.1]:25" },
    { "", "plain", "only-a.test", "only-a.test[192.0.2.3]:25" },
    { "", "plain", "[192.0.2.9]:26", "192.0.2.9[192.0.2.9]:26" },
    { "", "plain", "[IPv6:2001:db8::9]", "2001:db8::9[2001:db8::9]:25" },
    { "", "plain", "null.test",
      "5.1.0 Domain null.test does not accept mail (nullMX)" },
    { "", "plain", "nullmore.test",
      "5.1.0 Domain nullmore.test does not accept mail (nullMX)" },
    { "smtp_defer_if_no_mx_address_found = yes\n", "plain", "nulls.test",
      "5.1.0 Domain nulls.test does not accept mail (nullMX)" },
    { "inet_protocols = ipv4\n", "plain", "nowhere.test",
      "5.4.4 Host or domain name not found. Name service error for "
      "name=nowhere.test type=A: Host not found" },
    { "", "plain", "broken.test",
      "4.4.3 Host or domain name not found. Name service error for "
      "name=broken.test type=MX: Host not found, try again" },
    { "ignore_mx_lookup_error = yes\n", "plain", "broken.test",
      "4.4.3 Host or domain name not found. Name service error for "
      "name=broken.test type=A" },
    { "", "plain", "[oops", "5.4.4 Name service error for [oops: invalid" },
    { "", "plain", "alias.test", "cname.test[192.0.2.2]:25" },
    { "smtp_cname_overrides_servername = yes\n", "plain", "alias.test",
      "b.test[192.0.2.2]:25" },
    { "", "plain", "empty.test", "5.4.4 Host or domain name not found" },
    { "smtp_defer_if_no_mx_address_found = yes\n", "plain", "empty.test",
      "4.4.4 Host or domain name not found" },
    { "", "plain", "soft.test", "4.4.3 " },
    { "", "plain", "half.test", "b.test[192.0.2.2]:25" },
    { "", "plain", "loop.test", "5.4.6 mail for loop.test loops back to my" },
    { "", "plain", "[self.test]", "5.4.6 mail for self.test loops back" },
    { "", "plain", "[self.test]:2525", "self.test[127.0.0.1]:2525" },
    { "", "plain", "second.test", "b.test[192.0.2.2]:25" },
    { "", "plain", "lost.test",
      "5.4.6 unable to find primary relay for lost.test" },
    { "smtp_mx_address_limit = 2\nsmtp_address_preference = ipv4\n", "plain",
      "same.test", "v4a.test[192.0.2.11]:25 v6.test[2001:db8::6]:25" },
    { "smtp_mx_address_limit = 2\nsmtp_address_preference = ipv4\n"
      "smtp_balance_inet_protocols = no\n",
      "plain", "same.test",
      "v4a.test[192.0.2.11]:25 v4b.test[192.0.2.12]:25 "
      "v4c.test[192.0.2.13]:25 v6.test[2001:db8::6]:25" },
    { "smtp_dns_reply_filter = inline:{ {b.test. 60 IN A 192.0.2.2=IGNORE} }\n",
      "plain", "[b.test]",
      "4.7.0 Error looking up name=b.test type=A: DNS "
      "reply filter drops all results" },
    { "smtp_dns_reply_filter = inline:{ {two.test. 60 IN MX 10 "
      "a.test.=IGNORE} }\n",
      "plain", "two.test", "b.test[192.0.2.2]:25" },
    { "smtp_host_lookup = native\n", "plain", "[b.test]",
      "5.4.4 unable to look up host b.test" },
    { WITH_DNS "smtp_host_lookup = native\n", "plain", "[b.test]",
      "b.test[192.0.2.2]:25" },
    { WITH_DNS "smtp_host_lookup = native\n", "plain", "broken.test:26",
      "4.4.3 Host or domain name not found" },
    { WITH_DNS "smtp_host_lookup = native\n", "plain", "[broken.test]",
      "4.4.3 unable to look up host broken.test: Temporary failure" },
    { WITH_DNS "smtp_host_lookup = native\n", "plain", "[no.test]",
      "5.4.4 unable to look up host no.test: Name or service not known" },
    { WITH_DNS "disable_dns_lookups = yes\n", "plain", "b.test",
      "b.test[192.0.2.2]:25" },
    { "disable_dns_lookups = yes\n", "plain", "two.test",
      "5.4.4 unable to look up host two.test" },
    { "smtp_dns_support_level = disabled\n", "plain", "two.test",
      "5.4.4 unable to look up host two.test" },
    { "lmtp_cname_overrides_servername = yes\n", "lm", "cname.test",
      "b.test[192.0.2.2]:24" },
    /* LMTP asks for no MX. */
    { "", "lm", "two.test", "5.4.4 Host or domain name not found" },
    { "", "lm", "inet:b.test", "b.test[192.0.2.2]:24" },
    { "lmtp_address_preference = ipv6\n", "lm", "a.test:2003",
      "a.test[2001:db8::1]:2003 a.test[192.0.2.1]:2003" },
    { "lmtp_mx_address_limit = 1\nlmtp_balance_inet_protocols = yes\n"
      "lmtp_address_preference = ipv4\n",
      "lm", "a.test", "a.test[192.0.2.1]:24" },
    { "lmtp_host_lookup = native\n", "lm", "b.test", "5.4.4 unable to look" },
    { "lmtp_dns_support_level = disabled\n", "lm", "b.test", "5.4.4 unable" },
    { "lmtp_dns_reply_filter = inline:{ {b.test. 60 IN A 192.0.2.2=IGNORE} "
      "}\n",
      "lm", "b.test", "4.7.0 Error" },
    { "", "lm", "unix:/run/x", "hato.example.com[]:0" },
};

static const char *shown(struct fake *f, const char *dest)
{
    struct client_host *v;
    struct buf b;
    size_t n;
    slice out;

    assert_int_equal(client_hosts(&f->job, slice_str(dest), &v, &n), 0);
    buf_init(&b, 65536);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s%.*s[%.*s]:%u", i > 0 ? " " : "", SLF(v[i].name),
                   SLF(v[i].addr), v[i].port);
    if (n == 0)
        buf_printf(&b, "%s %.*s", f->job.why.status, SLF(f->job.why.text));
    out = slice_dup(f->job.arena, buf_view(&b));
    buf_done(&b);
    return out.p;
}

MAY_WAIT static void hosts_task(void *arg UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake f;
        char *conf = xasprintf("compatibility_level = 3.6\n"
                               "smtp_randomize_addresses = no\n"
                               "lmtp_randomize_addresses = no\n%s",
                               cases[i].conf);
        const char *got;

        fake_open(&f, conf, cases[i].transport, zone);
        dns_hosts_free(&f.client->hosts);
        f.client->native_dns =
            strncmp(cases[i].conf, WITH_DNS, strlen(WITH_DNS)) == 0;
        got = shown(&f, cases[i].dest);
        if (strncmp(got, cases[i].want, strlen(cases[i].want)) != 0 ||
            (cases[i].want[0] > '9' && strlen(got) != strlen(cases[i].want)))
            fail_msg("%s%s: got \"%s\", want \"%s\"", cases[i].conf,
                     cases[i].dest, got, cases[i].want);
        fake_close(&f);
        free(conf);
    }
}

/* Hosts of one preference come in any order, those of two never. */
MAY_WAIT static void shuffle_task(void *arg UNUSED)
{
    bool differs = false;
    struct fake f;
    const char *first;

    fake_open(&f, "compatibility_level = 3.6\n", "plain", zone);
    first = shown(&f, "same.test");
    for (int i = 0; i < 200 && !differs; i++)
        differs = strcmp(first, shown(&f, "same.test")) != 0;
    assert_true(differs);
    for (int i = 0; i < 50; i++)
        assert_non_null(strstr(shown(&f, "two.test"), " b.test[192.0.2.2]:25"));
    fake_close(&f);
}

/* A port where nobody listens, and one with a listener. */
static uint16_t port_of(int fd)
{
    struct peer_addr a;
    struct err err;

    assert_int_equal(local_addr_of(fd, &a, &err), 0);
    return a.port;
}

static int listen_on(const char *where)
{
    struct err err;
    int fd;

    return socket_listen(slice_str(where), 5, 0, 0, &fd, &err) < 0 ? -1 : fd;
}

/* The addresses of one preference race; the one that answers wins, at most
 * smtp_mx_address_limit are tried. */
MAY_WAIT static void race(struct client_host *v, const char *conf, size_t limit)
{
    static struct fake f;
    struct client_conn *conn;
    size_t used = 0;

    fake_open(&f, conf, "plain", zone);
    for (size_t i = 0; i < 3; i++)
        v[i].is_tried = false;
    conn = client_connect(&f.job, v, 3, &used);
    assert_int_equal(used, limit);
    if (limit == 3) {
        assert_non_null(conn);
        assert_slice(conn->host.name, SL("z"));
    } else {
        assert_null(conn);
        assert_slice(slice_sub(f.job.why.text, 0, 11), SL("connect to "));
        assert_string_equal(f.job.why.status, "4.4.1");
    }
    client_conn_free(&conn);
    fake_close(&f);
}

MAY_WAIT static void race_task(void *arg UNUSED)
{
    struct client_host v[3] = { { .name = SL("x"), .addr = SL("127.0.0.1") },
                                { .name = SL("y"), .addr = SL("127.0.0.1") },
                                { .name = SL("z"), .addr = SL("127.0.0.1") } };
    int open_fd = listen_on("inet:127.0.0.1:0");
    int shut_fd = listen_on("inet:127.0.0.1:0");

    v[2].port = port_of(open_fd);
    v[0].port = v[1].port = port_of(shut_fd);
    close(shut_fd);
    race(v, "compatibility_level = 3.6\n", 3);
    race(v, "compatibility_level = 3.6\nsmtp_mx_address_limit = 2\n", 2);
    close(open_fd);
}

/* Our own end, where there is IPv6. */
MAY_WAIT static void bind6_task(void *arg UNUSED)
{
    static const struct {
        const char *conf;
        const char *transport;
        bool works;
    } v[] = {
        { "smtp_bind_address6 = ::1\n", "plain", true },
        { "smtp_bind_address6 = 2001:db8::77\n", "plain", true },
        { "smtp_bind_address6 = 2001:db8::77\nsmtp_bind_address_enforce = "
          "yes\n",
          "plain", false },
        { "lmtp_bind_address6 = 2001:db8::77\nlmtp_bind_address_enforce = "
          "yes\n",
          "lm", false },
        { "lmtp_bind_address = 192.0.2.77\n", "lm", true },
    };

    int fd = listen_on("inet:[::1]:0");

    for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(v); i++) {
        static struct fake f;
        struct client_host h = { .name = SL("x"),
                                 .addr = SL("::1"),
                                 .port = port_of(fd) };
        struct client_conn *conn;
        size_t used = 0;

        fake_open(&f, v[i].conf, v[i].transport, zone);
        conn = client_connect(&f.job, &h, 1, &used);
        assert_int_equal(conn != NULL, v[i].works);
        client_conn_free(&conn);
        fake_close(&f);
    }
    if (fd >= 0)
        close(fd);
}

/* Whatever the pieces, the same message comes out. */
static void convert_pieces(void **state UNUSED)
{
    static const char in[] =
        "Subject: x\nContent-Type: multipart/mixed; boundary=\"b\"\n"
        "Content-Transfer-Encoding: 8bit\n\n--b\n"
        "Content-Transfer-Encoding: 8bit\n\n\xc3\xa4 = \n.\n--b\n"
        "Content-Type: message/rfc822\n\nContent-Transfer-Encoding: binary\n\n"
        "\xff\n--b--\nrest\xc3\xa4";
    static const char want[] =
        "Subject: x\nContent-Type: multipart/mixed; boundary=\"b\"\n"
        "Content-Transfer-Encoding: 7bit\n\n--b\n"
        "Content-Transfer-Encoding: quoted-printable\n\n=C3=A4 =3D=20\n.\n--b\n"
        "Content-Type: message/rfc822\n\n"
        "Content-Transfer-Encoding: quoted-printable\n\n"
        "=FF\n--b--\nrest\xc3\xa4\n";

    for (size_t step = 1; step < sizeof in; step++) {
        struct client_convert *c = client_convert_new(NULL, true);
        struct buf out;
        struct err err;

        buf_init(&out, 1 << 20);
        for (size_t at = 0; at < sizeof in - 1; at += step)
            assert_int_equal(
                client_convert_feed(
                    c, slice_sub(slice_of(in, sizeof in - 1), at, step), &out,
                    &err),
                0);
        assert_int_equal(client_convert_finish(c, &out, &err), 0);
        assert_slice(buf_view(&out), slice_str(want));
        buf_done(&out);
        client_convert_free(&c);
    }
}

static void run_task(void (*fn)(void *))
{
    loop_init("test", 1);
    (void)task_spawn("test", fn, NULL);
    loop_run_until_idle();
    loop_done();
}

static void test_hosts(void **state UNUSED)
{
    run_task(hosts_task);
}

static void test_shuffle(void **state UNUSED)
{
    run_task(shuffle_task);
}

static void test_race(void **state UNUSED)
{
    run_task(race_task);
}

static void test_bind6(void **state UNUSED)
{
    run_task(bind6_task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),     cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_race),      cmocka_unit_test(test_bind6),
        cmocka_unit_test(convert_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
