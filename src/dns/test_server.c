/* The resolver and who asks it in one process, with a name server of our own
 * that lies as the test wants. */
#include "dns/dns_priv.h"

#include "base/test_util.h"
#include "rt/rt.h"

#include <arpa/inet.h>
#include <sys/socket.h>

struct world {
    struct process p;
    struct chan *master;
    struct dns_server *server;
    struct dns *dns;
    struct arena *arena;
    struct fd_watch *watch;
    int udp;
    unsigned n_asked, n_connected;
    bool is_silent;
    bool is_idle;
};

/* ---- the name server: answers by the first label of the question */

static size_t put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return 2;
}

/* A record of the question's name (a pointer to it). */
static size_t put_rr(uint8_t *p, unsigned type, const char *rdata, size_t n)
{
    size_t at = put16(p, 0xc00c);

    at += put16(p + at, type);
    at += put16(p + at, 1);
    at += put16(p + at, 0);
    at += put16(p + at, 300);
    at += put16(p + at, (unsigned)n);
    memcpy(p + at, rdata, n);
    return at + n;
}

static size_t answer(struct world *w, uint8_t *m, size_t n)
{
    slice label = slice_of(m + 13, m[12]);
    size_t end = 12;
    unsigned type, rcode = 0;

    while (end < n && m[end] != 0)
        end += m[end] + 1u;
    end++;
    type = (unsigned)(m[end] << 8 | m[end + 1]);
    end += 4;
    m[2] = 0x84; /* an authoritative answer */
    memset(m + 6, 0, 6);
    if (slice_eqs(label, "nothing"))
        rcode = 3;
    else if (slice_eqs(label, "fails"))
        rcode = 2;
    else if (slice_eqs(label, "silent") || w->is_silent)
        return 0;
    m[3] = (uint8_t)(0x80 | rcode);
    if (slice_eqs(label, "mx") && type == DNS_MX) {
        m[7] = 2;
        end += put_rr(m + end, DNS_MX, "\0\12\2m1\0", 6);
        end += put_rr(m + end, DNS_MX, "\0\24\2m2\0", 6);
    } else if (slice_eqs(label, "host") && type == DNS_A) {
        m[7] = 1;
        end += put_rr(m + end, DNS_A, "\x7f\0\0\2", 4);
    } else if (slice_eqs(label, "alias")) {
        m[7] = 1;
        end += put_rr(m + end, DNS_CNAME, "\4host\7example\0", 14);
    } else if (slice_eqs(label, "loop")) {
        m[7] = 1;
        end += put_rr(m + end, DNS_CNAME, "\4loop\7example\0", 14);
    } else if (slice_eqs(label, "garbage")) {
        memset(m + 4, 0xff, n - 4);
    }
    return end;
}

static void on_udp(void *arg, int events UNUSED)
{
    struct world *w = arg;
    uint8_t m[1024];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(w->udp, m, 512, 0, (struct sockaddr *)&from, &len);
    size_t end;

    if (n < 17)
        return;
    w->n_asked++;
    end = answer(w, m, (size_t)n);
    if (end > 0)
        (void)sendto(w->udp, m, end, 0, (const struct sockaddr *)&from, len);
}

/* ---- master: connects whoever asks to the server */

static void master_msg(struct chan *c, struct msg *m, void *arg)
{
    struct world *w = arg;
    int fds[2];

    assert_int_equal(m->type, MASTER_CONNECT);
    assert_int_equal(attr_u64_or(m->body, AT_PTYPE, 0), PT_RESOLVER);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    w->n_connected++;
    dns_server_on_peer(w->server, fds[0]);
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };
static const struct chan_ops quiet_ops = { .on_msg = NULL };

static void start(struct world *w, const char *more)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    char main_cf[512];
    struct err err;
    int fds[2];

    memset(w, 0, sizeof *w);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(w->udp, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(w->udp, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(main_cf, sizeof main_cf,
                   "resolver_forwarders = 127.0.0.1\nresolver_port = %u\n%s",
                   ntohs(at.sin_port), more);
    loop_init("test", 1);
    w->watch = fd_watch_new(w->udp, WATCH_READ, on_udp, w);
    w->arena = arena_new(1u << 20);
    w->p.conf = conf_from_text(slice_str(main_cf), SL(""), NULL);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    w->p.master = chan_new(fds[0], &quiet_ops, NULL);
    w->master = chan_new(fds[1], &master_ops, w);
    if (dns_server_new(&w->p, &w->server, &err) < 0)
        fail_msg("%s", err.log);
    w->dns = dns_new(&w->p);
}

static void drained(void *arg)
{
    *(bool *)arg = true;
}

static void finish(struct world *w)
{
    struct err err;

    dns_free(&w->dns);
    dns_server_drain(w->server, drained, &w->is_idle);
    while (!w->is_idle && task_sleep(2, &err) == 0)
        ;
    dns_server_free(&w->server);
    chan_free(&w->p.master);
    chan_free(&w->master);
    fd_watch_free(&w->watch);
    close(w->udp);
    conf_unref(&w->p.conf);
    arena_free(&w->arena);
    loop_stop();
}

static void run(void (*body)(void *arg), struct world *w)
{
    task_spawn("test", body, w);
    loop_run();
    loop_done();
}

static struct dns_answer ask(struct world *w, slice name, enum dns_type type,
                             unsigned flags)
{
    struct dns_answer out;
    struct err err;

    assert_int_equal(dns_query(w->dns, name, type, flags, w->arena, &out, &err),
                     0);
    return out;
}

static void questions_body(void *arg)
{
    struct world *w = arg;
    struct dns_question same[5];
    struct dns_answer out[5], one;
    struct err err;
    unsigned before;

    one = ask(w, SL("mx.example"), DNS_MX, 0);
    assert_int_equal(one.result, DNS_OK);
    assert_int_equal(one.n_rr, 2);
    assert_int_equal(one.rr[0].pref + one.rr[1].pref, 30);
    assert_false(one.is_secure);
    one = ask(w, SL("Mx.Example."), DNS_A, 0);
    assert_int_equal(one.result, DNS_NODATA);
    one = ask(w, SL("nothing.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_NXDOMAIN);
    one = ask(w, SL("fails.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);
    assert_slice(one.why, SL("SERVFAIL"));
    one = ask(w, SL("not a name"), DNS_A, 0);
    assert_int_equal(one.result, DNS_BAD_NAME);
    one = ask(w, SL("garbage.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);

    one = ask(w, SL("alias.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_OK);
    assert_true(one.is_cname);
    assert_slice(one.canonical, SL("host.example"));
    assert_int_equal(one.n_rr, 1);
    one = ask(w, SL("alias.example"), DNS_A, DNS_RAW);
    assert_int_equal(one.result, DNS_NODATA);
    assert_true(one.is_cname);
    one = ask(w, SL("loop.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);

    /* What is cached is not asked for; what is asked for is shared. */
    before = w->n_asked;
    one = ask(w, SL("HOST.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_OK);
    assert_int_equal(w->n_asked, before);
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        same[i] = (struct dns_question){ SL("mx.other.example"), DNS_MX, 0 };
    assert_int_equal(
        dns_query_all(w->dns, same, ARRAY_LEN(same), w->arena, out, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        assert_int_equal(out[i].n_rr, 2);
    assert_int_equal(w->n_asked, before + 1);
    assert_int_equal(w->n_connected, 1);
    finish(w);
}

static void questions(void **state UNUSED)
{
    struct world w;

    start(&w, "resolver_dnssec = no\n");
    run(questions_body, &w);
}

struct asker {
    struct world *w;
    int rc;
    bool is_done;
};

static void ask_silent(void *arg)
{
    struct asker *a = arg;
    struct dns_answer out;
    struct err err;

    a->rc = dns_query(a->w->dns, SL("silent.example"), DNS_A, 0, a->w->arena,
                      &out, &err);
    a->is_done = true;
}

static void timeouts_body(void *arg)
{
    struct world *w = arg;
    struct asker a = { .w = w };
    struct dns_answer one;
    struct task *t;
    struct err err;

    one = ask(w, SL("silent.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);
    assert_slice(one.why, SL("timeout"));

    /* Who gives up goes at once, and does not disturb who asked the same. */
    t = task_spawn("silent", ask_silent, &a);
    assert_int_equal(task_sleep(10, &err), 0);
    task_cancel(t);
    one = ask(w, SL("silent.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);
    assert_true(a.is_done);
    assert_int_equal(a.rc, -1);
    finish(w);
}

static void timeouts(void **state UNUSED)
{
    struct world w;

    start(&w, "resolver_dnssec = no\nresolver_query_timeout = 1s\n");
    run(timeouts_body, &w);
}

/* covers: resolver_insecure_zones */
static void unsigned_body(void *arg)
{
    struct world *w = arg;
    struct dns_answer one;

    /* An anchor, and a server that signs nothing. */
    one = ask(w, SL("host.example"), DNS_A, 0);
    assert_int_equal(one.result, DNS_FAIL);
    assert_true(one.is_bogus);
    assert_true(one.why.n > 0);
    one = ask(w, SL("host.private"), DNS_A, 0);
    assert_int_equal(one.result, DNS_OK);
    assert_false(one.is_secure || one.is_bogus);
    finish(w);
}

static void unsigned_is_bogus(void **state UNUSED)
{
    static const char ds[] =
        "; the root\n\n. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E8"
        "80409BBC683457104237C7F8EC8D\n";
    char path[] = "/tmp/hato-anchor-XXXXXX";
    char more[200];
    struct world w;
    int fd = mkstemp(path);

    assert_int_equal(write(fd, ds, sizeof ds - 1), sizeof ds - 1);
    close(fd);
    (void)snprintf(more, sizeof more,
                   "resolver_trust_anchor_file = %s\n"
                   "resolver_insecure_zones = private.\n",
                   path);
    start(&w, more);
    unlink(path);
    run(unsigned_body, &w);
}

static int settings_of(const char *main_cf, struct dns_settings *out,
                       struct err *err)
{
    struct arena *a = arena_new(1u << 20);
    struct conf *c = conf_from_text(slice_str(main_cf), SL(""), NULL);
    int rc = dns_settings_read(c, a, out, err);

    conf_unref(&c);
    arena_free(&a);
    return rc;
}

/* covers: resolver_forwarders resolver_cache_size resolver_query_timeout
 * covers: resolver_port resolver_dnssec resolver_trust_anchor_file */
static void settings(void **state UNUSED)
{
    static const char *const bad[] = {
        "resolver_forwarders = ns.example\n",
        "resolver_forwarders = 192.0.2.1@0\n",
        "resolver_forwarders = 192.0.2.1@x\n",
        "resolver_forwarders = a..b=192.0.2.1\n",
        "resolver_forwarders = root, 192.0.2.1\n",
        "resolver_trust_anchor_file = /nonexistent\n",
        "resolver_insecure_zones = a..b\n",
    };
    static struct dns_settings s;
    struct err err;

    assert_int_equal(settings_of("resolver_dnssec = no\n"
                                 "resolver_forwarders = 192.0.2.1@5300 "
                                 "2001:db8::1, corp.example.=10.0.0.1\n"
                                 "resolver_cache_size = 1000000\n"
                                 "resolver_query_timeout = 7s\n",
                                 &s, &err),
                     0);
    assert_int_equal(s.n_forwards, 3);
    assert_string_equal(s.forwards[0].addr, "192.0.2.1@5300");
    assert_string_equal(s.forwards[1].addr, "2001:db8::1@53");
    assert_string_equal(s.forwards[2].addr, "10.0.0.1@53");
    assert_true(s.has_forwarder && !s.has_local && !s.is_system);
    assert_int_equal(s.cache_bytes, 1000000);
    assert_int_equal(s.timeout_ms, 7000);
    assert_int_equal(settings_of("resolver_dnssec = no\n"
                                 "resolver_forwarders = root, x=127.0.0.1\n",
                                 &s, &err),
                     0);
    assert_true(!s.has_forwarder && s.has_local && s.n_forwards == 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(settings_of(bad[i], &s, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings),
        cmocka_unit_test(questions),
        cmocka_unit_test(timeouts),
        cmocka_unit_test(unsigned_is_bogus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
