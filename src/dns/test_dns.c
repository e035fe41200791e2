/* Names, records, hosts files and answers of a fake. */
#include "dns/dns_priv.h"

#include "base/test_util.h"

#include <fcntl.h>
#include <sys/socket.h>

static struct arena *arena;

static int set_up(void **state UNUSED)
{
    arena = arena_new(1u << 20);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_free(&arena);
    return 0;
}

static void names(void **state UNUSED)
{
    static const uint8_t v4[16] = { 192, 0, 2, 1 };
    static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x1f };
    char long_label[70], out[100];
    slice a;

    memset(long_label, 'a', sizeof long_label);
    assert_true(dns_name_ok(SL("example.com")));
    assert_true(dns_name_ok(SL("_25._tcp.mx.example.com")));
    assert_true(dns_name_ok(slice_of(long_label, 63)));
    assert_false(dns_name_ok(slice_of(long_label, 64)));
    assert_false(dns_name_ok(SL("")));
    assert_false(dns_name_ok(SL("a..b")));
    assert_false(dns_name_ok(SL(".a")));
    assert_false(dns_name_ok(SL("a.")));
    assert_false(dns_name_ok(SL("a b")));
    assert_false(dns_name_ok(SL("a\\b")));
    assert_false(dns_name_ok(SL("a\0b")));
    assert_false(dns_name_ok(SL("\303\274.example")));

    dns_reverse_name(AF_INET, v4, NULL, NULL, out);
    assert_string_equal(out, "1.2.0.192.in-addr.arpa");
    dns_reverse_name(AF_INET6, v6, NULL, NULL, out);
    assert_string_equal(out, "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
                             "8.b.d.0.1.0.0.2.ip6.arpa");
    dns_reverse_name(AF_INET, v4, "bl.example", "", out);
    assert_string_equal(out, "1.2.0.192.bl.example");
    dns_reverse_name(AF_INET6, v6, "",
                     "a.zone.that.is.too.long.for.this.example", out);
    assert_string_equal(out, "");

    assert_int_equal(dns_ascii_name(SL("Ma\303\261ana.Example."), arena, &a),
                     0);
    assert_slice(a, SL("xn--maana-pta.example"));
    assert_int_equal(dns_ascii_name(SL("\377\376"), arena, &a), -1);
    assert_int_equal(dns_ascii_name(SL(""), arena, &a), -1);
}

static void wire_names(void **state UNUSED)
{
    char deep[300];
    slice in, out;

    in = SL("\3foo\7example\0rest");
    assert_true(dns_wire_name(&in, arena, &out));
    assert_slice(out, SL("foo.example"));
    assert_slice(in, SL("rest"));
    in = SL("\0");
    assert_true(dns_wire_name(&in, arena, &out));
    assert_int_equal(out.n, 0);
    in = SL("\5a.b\\\n\1c\0");
    assert_true(dns_wire_name(&in, arena, &out));
    assert_slice(out, SL("a\\.b\\\\\\010.c"));
    in = SL("\3fo");
    assert_false(dns_wire_name(&in, arena, &out));
    in = SL("\3foo");
    assert_false(dns_wire_name(&in, arena, &out));
    in = SL("\300\014"); /* a pointer: never in what we are given */
    assert_false(dns_wire_name(&in, arena, &out));
    memset(deep, 1, sizeof deep);
    in = slice_of(deep, sizeof deep); /* never ends */
    assert_false(dns_wire_name(&in, arena, &out));
}

static void records(void **state UNUSED)
{
    struct dns_rr rr;

    assert_true(dns_rdata_parse(DNS_A, SL("\x7f\0\0\2"), arena, &rr));
    assert_memory_equal(rr.ip, "\x7f\0\0\2", 4);
    assert_false(dns_rdata_parse(DNS_A, SL("\x7f\0\0"), arena, &rr));
    assert_false(dns_rdata_parse(DNS_AAAA, SL("\x7f\0\0\2"), arena, &rr));
    assert_true(dns_rdata_parse(DNS_MX, SL("\1\2\2mx\7example\0"), arena, &rr));
    assert_int_equal(rr.pref, 258);
    assert_slice(rr.name, SL("mx.example"));
    assert_true(dns_rdata_parse(DNS_MX, SL("\0\0\0"), arena, &rr));
    assert_int_equal(rr.name.n, 0); /* RFC 7505: a null MX */
    assert_false(dns_rdata_parse(DNS_MX, SL("\0\0\2mx\0x"), arena, &rr));
    assert_false(dns_rdata_parse(DNS_MX, SL("\0\0"), arena, &rr));
    assert_true(
        dns_rdata_parse(DNS_SRV, SL("\0\1\0\2\0\x19\1h\0"), arena, &rr));
    assert_int_equal(rr.pref, 1);
    assert_int_equal(rr.weight, 2);
    assert_int_equal(rr.port, 25);
    assert_true(dns_rdata_parse(DNS_TXT, SL("\3v=s\0\4pf1 "), arena, &rr));
    assert_slice(rr.text, SL("v=spf1 "));
    assert_false(dns_rdata_parse(DNS_TXT, SL("\4abc"), arena, &rr));
    assert_true(dns_rdata_parse(DNS_TLSA, SL("\3\1\1xyz"), arena, &rr));
    assert_int_equal(rr.usage, 3);
    assert_int_equal(rr.selector, 1);
    assert_int_equal(rr.matching, 1);
    assert_slice(rr.data, SL("xyz"));
    assert_false(dns_rdata_parse(DNS_TLSA, SL("\3\1\1"), arena, &rr));
    assert_true(dns_rdata_parse(DNS_PTR, SL("\1h\0"), arena, &rr));
    assert_slice(rr.name, SL("h"));
    assert_false(dns_rdata_parse((enum dns_type)9, SL("\1h\0"), arena, &rr));
}

static void put_rcode(struct buf *b, enum dns_result result, unsigned flags)
{
    buf_clear(b);
    (void)attr_put_u64(b, AT_RCODE, (uint64_t)result);
    (void)attr_put_u64(b, AT_FLAGS, flags);
    (void)attr_put_u64(b, AT_TTL, 300);
}

static void answers(void **state UNUSED)
{
    const struct dns_question q = { .name = SL("example.com"), .type = DNS_A };
    struct dns_answer out;
    struct buf b;
    struct err err;

    buf_init(&b, 65536);
    put_rcode(&b, DNS_OK, DNS_IS_SECURE | DNS_IS_CNAME);
    (void)attr_put_str(&b, AT_NAME, "real.example.com");
    (void)attr_put(&b, AT_RDATA, SL("\1\2\3\4"));
    (void)attr_put(&b, AT_RDATA, SL("short"));
    for (int i = 0; i < 200; i++)
        (void)attr_put(&b, AT_RDATA, SL("\1\2\3\5"));
    assert_int_equal(dns_answer_parse(buf_view(&b), &q, arena, &out, &err), 0);
    assert_int_equal(out.result, DNS_OK);
    assert_int_equal(out.n_rr, DNS_MAX_RECORDS);
    assert_int_equal(out.rr[0].ttl, 300);
    assert_true(out.is_secure && out.is_cname && !out.is_bogus);
    assert_slice(out.canonical, SL("real.example.com"));

    /* Data that is bogus is no data; damaged records are no "no". */
    put_rcode(&b, DNS_OK, DNS_IS_SECURE | DNS_IS_BOGUS);
    (void)attr_put(&b, AT_RDATA, SL("\1\2\3\4"));
    assert_int_equal(dns_answer_parse(buf_view(&b), &q, arena, &out, &err), 0);
    assert_int_equal(out.result, DNS_FAIL);
    assert_true(out.is_bogus && !out.is_secure && out.n_rr == 0);
    put_rcode(&b, DNS_OK, 0);
    (void)attr_put(&b, AT_RDATA, SL("short"));
    assert_int_equal(dns_answer_parse(buf_view(&b), &q, arena, &out, &err), 0);
    assert_int_equal(out.result, DNS_FAIL);
    put_rcode(&b, DNS_NXDOMAIN, 0);
    assert_int_equal(dns_answer_parse(buf_view(&b), &q, arena, &out, &err), 0);
    assert_int_equal(out.result, DNS_NXDOMAIN);
    assert_slice(out.canonical, SL("example.com"));
    assert_int_equal(out.ttl, 300);
    assert_int_equal(dns_answer_parse(SL("junk"), &q, arena, &out, &err), 0);
    assert_int_equal(out.result, DNS_FAIL);
    buf_done(&b);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void hosts(void **state UNUSED)
{
    char path[] = "/tmp/hato-hosts-XXXXXX";
    uint8_t loopback[16] = { 127, 0, 0, 2 };
    struct dns_hosts *h;
    struct dns_answer out;
    slice name;

    close(mkstemp(path));
    write_file(path, "# 192.0.2.9 comment\n"
                     "127.0.0.2\tmail.Example mail # not this: nor\n"
                     "::1 mail.example\n"
                     "127.0.0.2 mail.example\n"
                     "nonsense mail.example\n"
                     "192.0.2.7 other");
    h = dns_hosts_new(path);
    dns_hosts_find(h, SL("MAIL.example."), arena, &out);
    assert_int_equal(out.result, DNS_OK);
    assert_int_equal(out.n_rr, 2);
    assert_int_equal(out.rr[0].type, DNS_A);
    assert_int_equal(out.rr[0].ip[3], 2);
    assert_int_equal(out.rr[1].type, DNS_AAAA);
    assert_int_equal(out.rr[1].ip[15], 1);
    dns_hosts_find(h, SL("other"), arena, &out);
    assert_int_equal(out.n_rr, 1);
    assert_true(dns_hosts_name(h, AF_INET, loopback, arena, &name));
    assert_true(slice_eqs(name, "mail.Example"));
    memset(loopback, 0, 16);
    assert_false(dns_hosts_name(h, AF_INET, loopback, arena, &name));
    loopback[15] = 1;
    assert_true(dns_hosts_name(h, AF_INET6, loopback, arena, &name));
    assert_true(slice_eqs(name, "mail.example"));
    dns_hosts_find(h, SL("nor"), arena, &out);
    assert_int_equal(out.result, DNS_NXDOMAIN);
    dns_hosts_find(h, SL("comment"), arena, &out);
    assert_int_equal(out.result, DNS_NXDOMAIN);

    write_file(path, "192.0.2.8 new.example another\n");
    dns_hosts_find(h, SL("another"), arena, &out);
    assert_int_equal(out.result, DNS_OK);
    assert_int_equal(out.rr[0].ip[3], 8);
    /* Out of sight, as in an empty root: what was read stays. */
    unlink(path);
    dns_hosts_find(h, SL("new.example"), arena, &out);
    assert_int_equal(out.result, DNS_OK);
    dns_hosts_free(&h);
    assert_true(dns_is_native(path));
    write_file(path, "#hosts: dns\npasswd: files\nhosts:\tfiles # dns\n");
    assert_false(dns_is_native(path));
    write_file(path, "hosts: files mdns4_minimal [NOTFOUND=return] dns");
    assert_true(dns_is_native(path));
    unlink(path);
    h = dns_hosts_new("/nonexistent/hosts");
    dns_hosts_find(h, SL("x"), arena, &out);
    assert_int_equal(out.result, DNS_NXDOMAIN);
    dns_hosts_free(&h);
}

static void invent(void *arg, const struct dns_question *q, struct arena *a,
                   struct dns_answer *out)
{
    *out = (struct dns_answer){ .result = DNS_NODATA, .why = SL("") };
    out->canonical = slice_dup(a, q->name);
    ++*(int *)arg;
}

static void a_fake(void **state UNUSED)
{
    int n = 0;
    struct dns *d = dns_new_fake(invent, &n);
    struct dns_question q[2] = { { .name = SL("a.example"), .type = DNS_MX },
                                 { .name = SL("b.example."), .type = DNS_A } };
    struct dns_answer out[2];
    struct err err;

    assert_int_equal(dns_query_all(d, q, 2, arena, out, &err), 0);
    assert_int_equal(n, 2);
    assert_slice(out[1].canonical, SL("b.example"));
    dns_free(&d);
    dns_free(&d);
}

/* covers: resolver_dnssec */
static void trust(void **state UNUSED)
{
    enum { SECOND = 1000, MINUTE = 60 * SECOND };

    struct dns_trust t = { .is_plain = false };
    msec now = 1000;

    /* Nothing is known: nothing changes, and it is asked again soon. */
    assert_int_equal(dns_trust_step(&t, DNS_PROBE_LOST, now), 5 * SECOND);
    assert_false(t.is_plain);
    /* Never signed: go without, but look again before long. */
    assert_int_equal(dns_trust_step(&t, DNS_PROBE_BOGUS, now), 2 * MINUTE);
    assert_true(t.is_plain);
    (void)dns_trust_step(&t, DNS_PROBE_LOST, now);
    assert_true(t.is_plain);
    /* Signed: validate from then on. */
    assert_int_equal(dns_trust_step(&t, DNS_PROBE_SIGNED, now), 10 * MINUTE);
    assert_false(t.is_plain);
    /* Who stops to pass signatures on is not believed for an hour, though
     * answers are lost meanwhile. */
    for (int i = 0; i < 30; i++, now += 2 * MINUTE) {
        assert_int_equal(dns_trust_step(&t, DNS_PROBE_BOGUS, now), 2 * MINUTE);
        assert_false(t.is_plain);
        (void)dns_trust_step(&t, DNS_PROBE_LOST, now);
    }
    (void)dns_trust_step(&t, DNS_PROBE_BOGUS, now);
    assert_true(t.is_plain);
    /* The hour begins anew with each good answer. */
    (void)dns_trust_step(&t, DNS_PROBE_SIGNED, now);
    (void)dns_trust_step(&t, DNS_PROBE_BOGUS, now + 50 * MINUTE);
    (void)dns_trust_step(&t, DNS_PROBE_SIGNED, now + 70 * MINUTE);
    (void)dns_trust_step(&t, DNS_PROBE_BOGUS, now + 120 * MINUTE);
    (void)dns_trust_step(&t, DNS_PROBE_BOGUS, now + 170 * MINUTE);
    assert_false(t.is_plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wire_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_fake, set_up, tear_down),
        cmocka_unit_test(trust),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
