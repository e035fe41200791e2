/* The client against servers that follow a script, one address for each.
 * covers: smtp_mx_session_limit lmtp_mx_session_limit soft_bounce
 */
#include "base/test_util.h"
#include "smtp/client/fake.h"

#include "rt/rt.h"

#define SERVERS_MAX 3
#define SAID_MAX    20000

struct line {
    const char *verb;   /* what the client's line begins with */
    const char *answer; /* NULL: says no word and hangs up */
};

struct server {
    const char *banner;
    struct line lines[8];
    msec slowness; /* before each answer to the dot */
    unsigned n_dots;
    struct listener *listener;
    int fd;
    unsigned n_sessions;
    struct buf heard;
};

struct scene {
    struct server v[SERVERS_MAX];
    uint16_t port;
    unsigned n_open;
    struct fake f;
};

struct visit {
    struct server *server;
    struct scene *scene;
    int fd;
};

static const char *answer_to(const struct server *s, slice line)
{
    static const struct line defaults[] = {
        { "EHLO", "250-x\r\n250 8BITMIME" },
        { "LHLO", "250 x" },
        { "HELO", "250 x" },
        { "DATA", "354 go" },
        { "QUIT", "221 bye" },
        { "", "250 2.0.0 ok" },
    };

    for (size_t i = 0; i < ARRAY_LEN(s->lines) && s->lines[i].verb; i++)
        if (slice_istarts(line, slice_str(s->lines[i].verb)))
            return s->lines[i].answer;
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
        if (slice_istarts(line, slice_str(defaults[i].verb)))
            return defaults[i].answer;
    return NULL;
}

MAY_WAIT static bool answer_dot(struct server *s, struct stream *st)
{
    unsigned n = s->n_dots != 0 ? s->n_dots : 1;
    struct err err;

    for (unsigned i = 0; i < n; i++) {
        if (s->slowness > 0)
            (void)task_sleep(s->slowness, &err);
        if (stream_puts(st, answer_to(s, SL(".")), &err) < 0 ||
            stream_puts(st, "\r\n", &err) < 0 || stream_flush(st, &err) < 0)
            return false;
    }
    return true;
}

MAY_WAIT static bool serve(struct server *s, struct stream *st)
{
    const char *answer = s->banner != NULL ? s->banner : "220 x ESMTP";
    bool in_data = false;
    struct err err;
    slice line;

    for (;;) {
        if (answer != NULL &&
            (stream_puts(st, answer, &err) < 0 ||
             stream_puts(st, "\r\n", &err) < 0 || stream_flush(st, &err) < 0))
            return false;
        if (stream_line(st, 60000, &line, &err) < 0)
            return false;
        (void)buf_slice(&s->heard, line);
        line = slice_rtrim(line);
        answer = NULL;
        if (in_data && slice_eqs(line, ".")) {
            in_data = false;
            if (!answer_dot(s, st))
                return false;
        } else if (!in_data) {
            answer = answer_to(s, line);
            in_data = slice_ieqs(line, "DATA") && answer[0] == '3';
            if (answer == NULL || slice_ieqs(line, "QUIT"))
                return false;
        }
    }
}

MAY_WAIT static void visit_task(void *arg)
{
    struct visit *v = arg;
    struct stream *st = stream_from_own_fd(v->fd);

    stream_deadline(st, clock_after(60000));
    (void)serve(v->server, st);
    stream_free(&st);
    v->scene->n_open--;
    free(v);
}

static struct scene *stage;

static void on_visit(int fd, const struct peer_addr *peer UNUSED, void *arg)
{
    struct visit *v = xcalloc(1, sizeof *v);

    *v = (struct visit){ arg, stage, fd };
    v->server->n_sessions++;
    stage->n_open++;
    (void)task_spawn("visit", visit_task, v);
}

/* Server i listens on 127.0.0.(i + 2), all on one port. */
static void scene_open(struct scene *sc, const char *conf,
                       const char *transport)
{
    static const char *const rcpts[] = { "a@many.test", "b@many.test" };

    stage = sc;
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        struct server *s = &sc->v[i];
        struct peer_addr a;
        char where[64];
        struct err err;

        (void)snprintf(where, sizeof where, "inet:127.0.0.%u:%u", i + 2,
                       sc->port);
        assert_int_equal(
            socket_listen(slice_str(where), 50, 0, 0, &s->fd, &err), 0);
        assert_int_equal(local_addr_of(s->fd, &a, &err), 0);
        sc->port = a.port;
        s->listener = listener_new(s->fd, on_visit, s);
        buf_init(&s->heard, SAID_MAX);
    }
    fake_open(&sc->f, conf, transport,
              "one.test A 127.0.0.2\n"
              "many.test A 127.0.0.2\nmany.test A 127.0.0.3\n"
              "many.test A 127.0.0.4\n"
              "two.test MX 1 a.two.test\na.two.test A 127.0.0.2\n"
              "two.test MX 2 b.two.test\nb.two.test A 127.0.0.3\n");
    fake_rcpts(&sc->f, rcpts, 1);
    sc->f.job.env.headers = SL("Subject: x\n\nbody\n");
    sc->f.job.sender = SL("me@here.test");
}

MAY_WAIT static void scene_close(struct scene *sc)
{
    struct err err;

    fake_close(&sc->f);
    while (sc->n_open > 0)
        assert_int_equal(task_sleep(1, &err), 0);
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        listener_free(&sc->v[i].listener);
        close(sc->v[i].fd);
        buf_done(&sc->v[i].heard);
    }
}

MAY_WAIT static void deliver(struct scene *sc, const char *nexthop)
{
    struct client_job *j = &sc->f.job;

    j->nexthop = slice_str(arena_printf(j->arena, "%s:%u", nexthop, sc->port));
    client_deliver(j);
    assert_int_equal(j->n_left, 0);
}

static bool has_heard(const struct server *s, const char *what)
{
    return slice_find(buf_view(&s->heard), slice_str(what)) >= 0;
}

/* A host that is full while another takes the mail is no reason to call the
 * destination dead. */
MAY_WAIT static void next_host_task(void *arg UNUSED)
{
    static struct scene sc = { .v = { { .banner = "450 4.3.2 full" } } };

    scene_open(&sc, "", "plain");
    deliver(&sc, "two.test");
    assert_int_equal(sc.v[0].n_sessions, 1);
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_SENT);
    assert_true(has_heard(&sc.v[1], "Subject: x"));
    assert_string_equal(sc.f.job.hop_status, "");
    scene_close(&sc);
}

/* A message is offered to smtp_mx_session_limit hosts; then it waits.  Who does
 * not come as far as MAIL is not counted. */
MAY_WAIT static void session_limit_task(void *arg UNUSED)
{
    static const struct {
        const char *conf;
        const char *transport;
        bool is_early;
        unsigned want;
    } v[] = {
        { "", "plain", false, 2 },
        { "smtp_mx_session_limit = 0\n", "plain", false, 3 },
        { "smtp_mx_session_limit = 1\n", "plain", false, 1 },
        { "smtp_mx_session_limit = 1\n", "plain", true, 3 },
        { "lmtp_mx_session_limit = 1\n", "lm", false, 1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        static struct scene sc;
        unsigned n = 0;

        sc = (struct scene){ .port = 0 };
        for (unsigned k = 0; k < SERVERS_MAX; k++) {
            sc.v[k].banner = v[i].is_early ? "450 4.3.2 no" : NULL;
            sc.v[k].lines[0] = (struct line){ "MAIL", "450 4.3.2 no" };
        }
        scene_open(&sc, v[i].conf, v[i].transport);
        deliver(&sc, "[many.test]");
        for (unsigned k = 0; k < SERVERS_MAX; k++)
            n += sc.v[k].n_sessions;
        assert_int_equal(n, v[i].want);
        assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_DEFERRED);
        assert_string_equal(sc.f.job.rcpts[0].status, "4.3.2");
        assert_string_equal(sc.f.job.hop_status, v[i].is_early ? "4.3.2" : "");
        scene_close(&sc);
    }
}

/* With soft_bounce a refusal is no last word: the next host is asked, and then
 * the mail waits. */
MAY_WAIT static void soft_task(void *arg UNUSED)
{
    static struct scene sc = {
        .v = { { .lines = { { "RCPT", "550 5.1.1 no" } } },
               { .lines = { { "RCPT", "550 5.1.2 no" } } } }
    };

    scene_open(&sc, "soft_bounce = yes\n", "plain");
    deliver(&sc, "two.test");
    assert_true(has_heard(&sc.v[1], "RCPT TO:<a@many.test>"));
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_DEFERRED);
    assert_string_equal(sc.f.job.rcpts[0].status, "4.1.2");
    scene_close(&sc);
}

/* What stands in the commands. */
MAY_WAIT static void commands_task(void *arg UNUSED)
{
    static const struct {
        const char *ehlo;
        const char *banner;
        unsigned flags;
        const char *orcpt;
        const char *want;
    } v[] = {
        { "250-x\r\n250 SIZE", NULL, 0, "", "<me@here.test> SIZE=17\r\n" },
        { "250-x\r\n250 SIZE", NULL, ENV_8BIT_BODY, "",
          "<me@here.test>\r\n" }, /* to be encoded */
        { "250-x\r\n250-8BITMIME\r\n250 SIZE", NULL, ENV_8BIT_BODY, "",
          "<me@here.test> SIZE=17 BODY=8BITMIME\r\n" },
        { "250-x\r\n250 DSN", NULL, 0, "", "<a@many.test> NOTIFY=NEVER\r\n" },
        { "250 x", "220 ***** **", 0, "", "HELO " },
        { "250-x\r\n250 DSN", NULL, 0, "utf-8;\xC3\xA9@x",
          "<a@many.test> ORCPT=utf-8;\\x{E9}@x NOTIFY=NEVER\r\n" },
        { "250-x\r\n250-SMTPUTF8\r\n250 DSN", NULL, 0, "utf-8;\xC3\xA9@x",
          "<a@many.test> ORCPT=utf-8;\xC3\xA9@x NOTIFY=NEVER\r\n" },
        { "250-x\r\n250 DSN", NULL, 0, "rfc822;a+b@x",
          "<a@many.test> ORCPT=rfc822;a+2Bb@x NOTIFY=NEVER\r\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        static struct scene sc;

        sc = (struct scene){ .v = { { .banner = v[i].banner,
                                      .lines = { { "EHLO", v[i].ehlo } } } } };
        scene_open(&sc, "", "plain");
        sc.f.job.env.flags = v[i].flags;
        sc.f.job.rcpts[0].orcpt = slice_str(v[i].orcpt);
        sc.f.job.rcpts[0].notify = ENV_NOTIFY_NEVER;
        deliver(&sc, "[127.0.0.2]");
        assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_SENT);
        if (!has_heard(&sc.v[0], v[i].want))
            fail_msg("%s: heard %.*s", v[i].want,
                     SLF(buf_view(&sc.v[0].heard)));
        scene_close(&sc);
    }
}

/* However short the lines have to be, the message comes to an end. */
MAY_WAIT static void short_lines_task(void *arg UNUSED)
{
    static struct scene sc;

    scene_open(&sc, "smtp_line_length_limit = 1\n", "plain");
    deliver(&sc, "[127.0.0.2]");
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_SENT);
    assert_true(has_heard(&sc.v[0], "bo\r\n d\r\n y\r\n"));
    scene_close(&sc);
}

/* A fallback relay that is not there is an error of the configuration. */
MAY_WAIT static void blamed_task(void *arg UNUSED)
{
    static struct scene sc = { .v = { { .banner = "450 4.3.2 full" } } };

    scene_open(&sc, "smtp_fallback_relay = [no.test]\n", "plain");
    deliver(&sc, "[127.0.0.2]");
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_DEFERRED);
    assert_string_equal(sc.f.job.rcpts[0].status, "4.3.5");
    scene_close(&sc);
}

/* The password of a nexthop is for the nexthop, not for its fallback. */
MAY_WAIT static void fallback_task(void *arg UNUSED)
{
    static struct scene sc = {
        .v = { { .banner = "450 4.3.2 full" },
               { .lines = { { "EHLO", "250-x\r\n250 AUTH PLAIN" },
                            { "AUTH", "235 2.7.0 ok" } } } }
    };
    static char conf[1000];
    struct buf dump;

    /* The port is known once somebody listens: any is tried at first. */
    sc.port = 0;
    scene_open(&sc, "", "plain");
    scene_close(&sc);
    (void)snprintf(conf, sizeof conf,
                   "smtp_fallback_relay = [127.0.0.3]:%u\n"
                   "smtp_sasl_auth_enable = yes\n"
                   "smtp_sasl_security_options =\n"
                   "smtp_connection_cache_destinations = static:all\n"
                   "smtp_sasl_password_maps = inline:{ {[127.0.0.2]:%u = "
                   "me:secret} }\n",
                   sc.port, sc.port);
    scene_open(&sc, conf, "plain");
    deliver(&sc, "[127.0.0.2]");
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_SENT);
    assert_true(has_heard(&sc.v[1], "Subject: x"));
    assert_false(has_heard(&sc.v[1], "AUTH"));
    /* What comes next tries the nexthop first. */
    buf_init(&dump, 1000);
    client_cache_dump(sc.f.client->cache, &dump);
    assert_true(slice_find(buf_view(&dump), SL("idle connections 0")) >= 0);
    buf_done(&dump);
    scene_close(&sc);
}

/* The time for an answer to the dot is each recipient's own. */
MAY_WAIT static void lmtp_task(void *arg UNUSED)
{
    static struct scene sc = { .v = { { .slowness = 2000, .n_dots = 2 } } };

    scene_open(&sc, "lmtp_data_done_timeout = 3s\n", "lm");
    sc.f.job.rcpts = NULL;
    fake_rcpts(&sc.f, (const char *const[]){ "a@x.test", "b@x.test" }, 2);
    deliver(&sc, "[127.0.0.2]");
    assert_int_equal(sc.f.job.rcpts[0].outcome, OUT_SENT);
    assert_int_equal(sc.f.job.rcpts[1].outcome, OUT_SENT);
    scene_close(&sc);
}

/* TLS that fails is left out for old mail, though there are passwords for other
 * hosts; for a host with one never. */
MAY_WAIT static void clear_task(void *arg UNUSED)
{
    static const struct {
        const char *of;
        enum outcome want;
    } v[] = { { "elsewhere.test", OUT_SENT }, { "one.test", OUT_DEFERRED } };

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        static struct scene sc;
        char conf[500];
        struct buf dump;

        sc = (struct scene){
            .v = { { .lines = { { "EHLO", "250-x\r\n250 STARTTLS" },
                                { "STARTTLS", "220 go\r\nno handshake" } } } }
        };
        (void)snprintf(conf, sizeof conf,
                       "smtp_tls_security_level = may\n"
                       "smtp_sasl_auth_enable = yes\n"
                       "smtp_connection_cache_destinations = static:all\n"
                       "smtp_sasl_password_maps = inline:{ {%s = me:secret} "
                       "}\n",
                       v[i].of);
        scene_open(&sc, conf, "plain");
        sc.f.job.before_ms = 1000000;
        deliver(&sc, "one.test");
        assert_int_equal(sc.f.job.rcpts[0].outcome, v[i].want);
        /* The next message has TLS tried again. */
        buf_init(&dump, 1000);
        client_cache_dump(sc.f.client->cache, &dump);
        assert_true(slice_find(buf_view(&dump), SL("idle connections 0")) >= 0);
        buf_done(&dump);
        scene_close(&sc);
    }
}

/* One slow destination does not keep all others in memory. */
MAY_WAIT static void dests_task(void *arg UNUSED)
{
    static struct fake f;
    struct client_job slow;
    struct buf dump;

    fake_open(&f, "", "plain", "");
    slow = f.job;
    slow.nexthop = SL("slow.test");
    client_dest_begin(&slow);
    for (int i = 0; i < 10100; i++) {
        f.job.nexthop = slice_str(arena_printf(f.job.arena, "d%d.test", i));
        client_dest_begin(&f.job);
        client_dest_end(&f.job);
    }
    buf_init(&dump, 1000);
    client_cache_dump(f.client->cache, &dump);
    assert_true(slice_find(buf_view(&dump), SL("destinations 10000,")) >= 0);
    buf_done(&dump);
    client_dest_end(&slow);
    fake_close(&f);
}

static void run_task(void (*fn)(void *))
{
    loop_init("test", 1);
    (void)task_spawn("test", fn, NULL);
    loop_run_until_idle();
    loop_done();
}

static void test_next_host(void **state UNUSED)
{
    run_task(next_host_task);
}

static void test_fallback(void **state UNUSED)
{
    run_task(fallback_task);
}

static void test_lmtp(void **state UNUSED)
{
    run_task(lmtp_task);
}

static void test_clear(void **state UNUSED)
{
    run_task(clear_task);
}

static void test_dests(void **state UNUSED)
{
    run_task(dests_task);
}

static void test_session_limit(void **state UNUSED)
{
    run_task(session_limit_task);
}

static void test_soft(void **state UNUSED)
{
    run_task(soft_task);
}

static void test_commands(void **state UNUSED)
{
    run_task(commands_task);
}

static void test_blamed(void **state UNUSED)
{
    run_task(blamed_task);
}

static void test_short_lines(void **state UNUSED)
{
    run_task(short_lines_task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_host), cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_lmtp),      cmocka_unit_test(test_clear),
        cmocka_unit_test(test_dests),     cmocka_unit_test(test_session_limit),
        cmocka_unit_test(test_soft),      cmocka_unit_test(test_commands),
        cmocka_unit_test(test_blamed),    cmocka_unit_test(test_short_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
