#include "auth/auth_priv.h"

#include "rt/stream.h"
#include "table/test_util.h"

#include <gsasl.h>

/* The whole of auth behind its line protocol, in one process. */

static struct bench bench;
static struct process p;
static struct auth *auth;
static struct stream *client;
static unsigned next_id = 1;
static const char *main_cf;

static const char users[] =
    "tomo:{PLAIN}secret:::::::\n"
    "hash@example.org:{SHA256-CRYPT}$5$7O6QByKVP/XyzubH$mesxz6WL9znFwFoyFVBKp"
    "TIE6jsJhabEPiXnsuEKSx8:::::::\n"
    "scram:{SCRAM-SHA-256}4096,J5HiYn7aSpZNAcrfUVK6Bg==,uBdCci5b2PT4M5nrhzCFe4"
    "O0fW3PQK4AwIJ36Ifjm0I=,fQuABRaSisqvefL0rblla2ST3hfTZk79dt8ysoW0pNQ=::::::"
    "\n"
    "broken:{ROT13}x::::::\n"
    "empty:::::::\n"
    "open:::::::nopassword\n"
    "nets:{PLAIN}x::::::allow_nets=192.0.2.0/24,2001:db8::/32\n"
    "other:{PLAIN}x::::::user=tomo\n"
    "off:{PLAIN}x::::::nologin reason=gone\n";

static void ask(const char *fmt, ...) PRINTF(1, 2);

static void ask(const char *fmt, ...)
{
    struct buf b;
    va_list ap;

    buf_init(&b, 65536);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    assert_int_equal(stream_write(client, buf_view(&b), NULL), 0);
    assert_int_equal(stream_flush(client, NULL), 0);
    buf_done(&b);
}

/* The next line, without its end. */
static const char *answer(void)
{
    static char text[AUTH_LINE_MAX + 1];
    struct err err;
    slice line;

    stream_deadline(client, clock_after(20000));
    if (stream_line(client, AUTH_LINE_MAX, &line, &err) < 0)
        fail_msg("%s", err.log);
    assert_true(
        slice_copy_to(slice_sub(line, 0, line.n - 1), text, sizeof text));
    return text;
}

static void assert_starts(const char *got, const char *want)
{
    if (strncmp(got, want, strlen(want)) != 0)
        fail_msg("got \"%s\", want \"%s\"", got, want);
}

static const char *base64(slice s)
{
    static char text[300000];
    struct buf b;

    buf_init(&b, sizeof text - 1);
    (void)base64_put(&b, s);
    assert_true(slice_copy_to(buf_view(&b), text, sizeof text));
    buf_done(&b);
    return text;
}

/* Sign in by PLAIN from `rip`; what is said behind the id. */
static const char *plain_from(const char *rip, const char *name,
                              const char *password)
{
    struct buf b;
    const char *got;
    unsigned id = next_id++;
    char head[32];

    buf_init(&b, 100000);
    (void)buf_printf(&b, "%c%s%c%s", 0, name, 0, password);
    ask("AUTH\t%u\tPLAIN\tservice=smtp\trip=%s\tresp=%s\n", id, rip,
        base64(buf_view(&b)));
    buf_done(&b);
    got = answer();
    (void)snprintf(head, sizeof head, "\t%u", id);
    assert_non_null(strstr(got, head));
    return got;
}

static const char *plain(const char *name, const char *password)
{
    /* each from a place of its own, so that no try waits for another */
    char ip[40];

    (void)snprintf(ip, sizeof ip, "198.51.%u.7", next_id % 250);
    return plain_from(ip, name, password);
}

static void greeting(void)
{
    assert_string_equal(answer(), "VERSION\t1\t2");
    assert_string_equal(answer(), "MECH\tPLAIN\tplaintext");
    assert_string_equal(answer(), "MECH\tLOGIN\tplaintext");
    assert_string_equal(answer(), "MECH\tSCRAM-SHA-1\tmutual-auth");
    assert_string_equal(answer(), "MECH\tSCRAM-SHA-256\tmutual-auth");
    assert_string_equal(answer(),
                        "MECH\tSCRAM-SHA-1-PLUS\tmutual-auth\tchannel-binding");
    assert_string_equal(
        answer(), "MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tchannel-binding");
    assert_starts(answer(), "SPID\t");
    assert_starts(answer(), "CUID\t");
    assert_starts(answer(), "COOKIE\t");
    assert_string_equal(answer(), "DONE");
    ask("VERSION\t1\t2\nCPID\t7\n");
}

static void connect_from(enum ptype from)
{
    int fds[2];

    stream_free(&client);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    client = stream_from_fd(fds[0]);
    auth_on_peer(auth, from, fds[1]);
    greeting();
}

/* ---- the tests, as tasks */

static void do_plain(void)
{
    assert_starts(plain("tomo", "secret"), "OK\t");
    assert_starts(plain("Tomo", "secret"), "OK\t2\tuser=tomo");
    assert_starts(plain("tomo", "Secret"), "FAIL\t3\tuser=tomo");
    assert_null(strstr(plain("tomo", ""), "temp"));
    assert_starts(plain("hash@example.org", "seCr t{}: \xc3\xa9"), "OK\t");
    assert_starts(plain("hash@example.org", "seCr t{}: \xc3\xa9"), "OK\t");
    assert_int_equal(memo_count(auth->memo), 2);
    assert_starts(plain("scram", "seCr t{}: \xc3\xa9"), "OK\t");
    assert_starts(plain("hash", "x"), "FAIL\t8\tuser=hash");
    assert_non_null(strstr(plain("broken", "x"), "temp\tcode=temp_fail"));
    assert_starts(plain("empty", ""), "FAIL\t");
    assert_starts(plain("open", "whatever"), "OK\t");
    assert_starts(plain("other", "x"), "OK\t12\tuser=tomo");
    assert_non_null(strstr(plain("off", "x"), "reason=gone\tcode=user_dis"));
    assert_starts(plain("off", "y"), "FAIL\t14\tuser=off");
    assert_starts(plain_from("192.0.2.9", "nets", "x"), "OK\t");
    assert_starts(plain_from("2001:db8::5", "nets", "x"), "OK\t");
    assert_starts(plain_from("192.0.3.9", "nets", "x"), "FAIL\t");
}

static void do_dialogs(void)
{
    ask("AUTH\t900\tlogin\tservice=smtp\trip=203.0.113.1\n");
    assert_string_equal(answer(), "CONT\t900\tVXNlcm5hbWU6");
    ask("CONT\t900\t%s\n", base64(SL("tomo")));
    assert_string_equal(answer(), "CONT\t900\tUGFzc3dvcmQ6");
    ask("CONT\t900\t%s\n", base64(SL("secret")));
    assert_string_equal(answer(), "OK\t900\tuser=tomo");
    /* the name as initial response */
    ask("AUTH\t901\tLOGIN\tservice=smtp\tresp=%s\n", base64(SL("tomo")));
    assert_string_equal(answer(), "CONT\t901\tUGFzc3dvcmQ6");
    ask("CONT\t901\t%s\n", base64(SL("wrong")));
    assert_string_equal(answer(), "FAIL\t901\tuser=tomo");
    /* PLAIN in two steps */
    ask("AUTH\t902\tPLAIN\tservice=smtp\n");
    assert_string_equal(answer(), "CONT\t902\t");
    ask("CONT\t902\t%s\n", base64(SL("\0tomo\0secret")));
    assert_string_equal(answer(), "OK\t902\tuser=tomo");
    /* as itself, and as another */
    ask("AUTH\t903\tPLAIN\tservice=smtp\tresp=%s\n",
        base64(SL("tomo\0tomo\0secret")));
    assert_string_equal(answer(), "OK\t903\tuser=tomo");
    ask("AUTH\t904\tPLAIN\tservice=smtp\tresp=%s\n",
        base64(SL("root\0tomo\0secret")));
    assert_string_equal(answer(), "FAIL\t904\tuser=tomo\tcode=authz_fail");
    ask("AUTH\t905\tCRAM-MD5\tservice=smtp\n");
    assert_starts(answer(), "FAIL\t905\treason=Unsupported");
    /* A dialogue given up is nobody's any more. */
    ask("AUTH\t906\tLOGIN\tservice=smtp\n");
    assert_starts(answer(), "CONT\t906");
    ask("CANCEL\t906\nCONT\t906\tAAAA\nCANCEL\t4711\n");
    ask("AUTH\t907\tPLAIN\tservice=imap\tresp=\n");
    assert_starts(answer(), "FAIL\t907\treason=Cleartext");
}

static void do_hostile(void)
{
    static const char *const names[] = {
        "../tomo", "/etc/passwd", "%d",       "%u",     "",
        "tomo\n",  "a b",         "tomo\x7f", "x@../y",
    };
    char *big = xmalloc(200001);

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *got = plain(names[i], "secret");

        assert_starts(got, "FAIL\t");
        assert_null(strstr(got, "temp"));
    }
    memset(big, 'a', 12000);
    big[12000] = '\0';
    assert_starts(plain(big, "secret"), "FAIL\t");
    assert_starts(plain("tomo", big), "FAIL\t");
    /* NUL in a name or a password, and messages of no form */
    ask("AUTH\t910\tPLAIN\tservice=smtp\tresp=%s\n",
        base64(SL("\0to\0mo\0secret")));
    assert_starts(answer(), "FAIL\t910");
    ask("AUTH\t911\tPLAIN\tservice=smtp\tresp=%s\n", base64(SL("tomo")));
    assert_starts(answer(), "FAIL\t911");
    ask("AUTH\t912\tPLAIN\tservice=smtp\tresp=!!!\n");
    assert_starts(answer(), "FAIL\t912\treason=Invalid base64");
    assert_starts(plain("tomo", "secret"), "OK\t");
    /* 200 KB: not this protocol, and nobody else is harmed */
    memset(big, 'A', 200000);
    big[200000] = '\0';
    stream_deadline(client, clock_after(5000));
    (void)stream_write(client, SL("AUTH\t913\tPLAIN\tresp="), NULL);
    (void)stream_write(client, slice_str(big), NULL);
    (void)stream_flush(client, NULL);
    while (!stream_eof(client)) {
        slice have = stream_peek(client);

        stream_consume(client, have.n);
        if (stream_fill(client, NULL) < 0)
            break;
    }
    connect_from(PT_SMTPD);
    assert_starts(plain("tomo", "secret"), "OK\t");
    free(big);
}

/* ---- SCRAM with GNU SASL's client */

static char scram_name[64], scram_password[64];
/* The client's binding, and what auth is told; "": none. */
static const char *scram_exporter = "", *scram_unique = "", *scram_told = "";

static int scram_property(Gsasl *lib, Gsasl_session *s, Gsasl_property prop)
{
    (void)lib;
    if (prop == GSASL_AUTHID)
        return gsasl_property_set(s, prop, scram_name);
    if (prop == GSASL_PASSWORD)
        return gsasl_property_set(s, prop, scram_password);
    if (prop == GSASL_CB_TLS_EXPORTER && scram_exporter[0] != '\0')
        return gsasl_property_set(s, prop, scram_exporter);
    if (prop == GSASL_CB_TLS_UNIQUE && scram_unique[0] != '\0')
        return gsasl_property_set(s, prop, scram_unique);
    return GSASL_NO_CALLBACK;
}

/* Returns the last line of auth; *salt what it said of itself. */
static const char *scram(const char *mech, const char *name,
                         const char *password, char salt[static 512])
{
    Gsasl *lib;
    Gsasl_session *s;
    unsigned id = next_id++;
    char *out = NULL;
    size_t n = 0;
    const char *line;
    bool is_first = true;
    int rc;

    (void)snprintf(scram_name, sizeof scram_name, "%s", name);
    (void)snprintf(scram_password, sizeof scram_password, "%s", password);
    assert_int_equal(gsasl_init(&lib), GSASL_OK);
    gsasl_callback_set(lib, scram_property);
    assert_int_equal(gsasl_client_start(lib, mech, &s), GSASL_OK);
    rc = gsasl_step(s, NULL, 0, &out, &n);
    assert_true(rc == GSASL_OK || rc == GSASL_NEEDS_MORE);
    ask("AUTH\t%u\t%s\tservice=smtp\trip=203.0.%u.5%s\tresp=%s\n", id, mech,
        id % 250, scram_told, base64(slice_of(out, n)));
    gsasl_free(out);
    for (;;) {
        struct buf b;
        slice rest, skip;

        line = answer();
        if (strncmp(line, "CONT\t", 5) != 0)
            break;
        rest = slice_str(line);
        (void)auth_field(&rest, &skip);
        (void)auth_field(&rest, &skip);
        buf_init(&b, 8192);
        assert_true(base64_get(&b, rest));
        if (is_first) /* behind the nonce, which is new each time */
            (void)snprintf(salt, 512, "%s", strstr(buf_cstr(&b), ",s="));
        is_first = false;
        out = NULL;
        n = 0;
        rc = gsasl_step(s, b.p, b.n, &out, &n);
        buf_done(&b);
        ask("CONT\t%u\t%s\n", id, base64(slice_of(out, n)));
        gsasl_free(out);
    }
    gsasl_finish(s);
    gsasl_done(lib);
    return line;
}

static void do_scram(void)
{
    char one[512], two[512];

    assert_starts(scram("SCRAM-SHA-256", "tomo", "secret", one), "OK\t");
    assert_starts(scram("SCRAM-SHA-1", "tomo", "secret", one), "OK\t");
    assert_starts(scram("SCRAM-SHA-256", "tomo", "wrong", one), "FAIL\t");
    assert_starts(scram("SCRAM-SHA-256", "scram", "seCr t{}: x", one),
                  "FAIL\t");
    /* Who is not there looks as who is, and always the same. */
    assert_starts(scram("SCRAM-SHA-256", "nobody", "x", one), "FAIL\t");
    assert_starts(scram("SCRAM-SHA-256", "nobody", "y", two), "FAIL\t");
    assert_string_equal(one, two);
    assert_starts(scram("SCRAM-SHA-256", "hash@example.org", "x", one),
                  "FAIL\t");
    assert_null(strstr(answer == NULL ? "" : one, "temp"));
}

/* The answer to a client's first message. */
static const char *first_words(const char *text)
{
    unsigned id = next_id++;
    const char *line;

    ask("AUTH\t%u\tSCRAM-SHA-256\tservice=smtp%s\tresp=%s\n", id, scram_told,
        base64(slice_str(text)));
    line = answer();
    if (strncmp(line, "CONT\t", 5) == 0)
        ask("CANCEL\t%u\n", id);
    return line;
}

/* Bound to the channel, as GNU SASL's client does it. */
static void do_bound(void)
{
    char salt[512];

    scram_exporter = "RXhwb3J0ZWQ=";
    scram_told = "\ttls-exporter=RXhwb3J0ZWQ=";
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "secret", salt), "OK\t");
    assert_starts(scram("SCRAM-SHA-1-PLUS", "tomo", "secret", salt), "OK\t");
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "wrong", salt), "FAIL\t");
    /* It was told that there is no such mechanism, and there is. */
    assert_starts(first_words("y,,n=tomo,r=abcdef"), "FAIL\t");
    assert_starts(first_words("n,,n=tomo,r=abcdef"), "CONT\t");
    /* Another channel, none, one that is not known. */
    scram_told = "\ttls-exporter=b3RoZXI=";
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "secret", salt),
                  "FAIL\t");
    scram_told = "\ttls-unique=RXhwb3J0ZWQ=";
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "secret", salt),
                  "FAIL\t");
    scram_told = "";
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "secret", salt),
                  "FAIL\t");
    /* Without TLS it may say so. */
    assert_starts(first_words("y,,n=tomo,r=abcdef"), "CONT\t");
    scram_exporter = "";
    scram_unique = "RmluaXNoZWQ=";
    scram_told = "\ttls-unique=RmluaXNoZWQ=";
    assert_starts(scram("SCRAM-SHA-256-PLUS", "tomo", "secret", salt), "OK\t");
    scram_unique = scram_told = "";
    assert_starts(scram("SCRAM-SHA-256", "tomo", "secret", salt), "OK\t");
}

/* ---- tickets */

static unsigned n_pushed;

static void pushed(struct chan *c UNUSED, struct msg *m, void *arg UNUSED)
{
    slice v;

    assert_int_equal(m->type, AUTH_TICKET);
    assert_true(attr_find(m->body, AT_TICKET, &v) && v.n == 16);
    assert_true(attr_find(m->body, AT_SESSION, &v));
    assert_slice(v, SL("abc"));
    assert_true(attr_find(m->body, AT_USER, &v));
    assert_slice(v, SL("tomo"));
    n_pushed++;
}

/* A broker that is there has the ticket before the login has the answer. */
static void do_push(void)
{
    static const struct chan_ops ops = { .on_msg = pushed };
    size_t kept = tickets_count(auth->tickets);
    struct chan *broker;
    int fds[2];

    assert_int_equal(chan_socketpair(fds, NULL), 0);
    auth_on_peer(auth, PT_BROKER, fds[0]);
    broker = chan_new(fds[1], &ops, NULL);
    ask("AUTH\t923\tPLAIN\tservice=imap\tsecured\tsession=abc\tresp=%s\n",
        base64(SL("\0tomo\0secret")));
    assert_starts(answer(), "OK\t923\tuser=tomo\tticket=");
    while (n_pushed == 0)
        task_yield();
    assert_int_equal(n_pushed, 1);
    assert_int_equal(tickets_count(auth->tickets), kept);
    chan_free(&broker);
    task_yield();
}

static void do_tickets(void)
{
    struct arena *a = arena_new(65536);
    struct ticket_for whom = { SL("imap"), SL("s1"), SL("192.0.2.1") };
    struct ticket_for other = { SL("imap"), SL("s2"), SL("192.0.2.1") };
    struct user_place place = { .account = SL("x"), .uid = 7 };
    uint8_t id[16], forged[16] = { 0 };
    struct user_place got;
    struct err err;

    ticket_give(auth->tickets, &whom, &place, id);
    assert_int_equal(ticket_redeem(auth->tickets, slice_of(id, 16), &whom, a,
                                   &got, &err),
                     0);
    assert_int_equal(got.uid, 7);
    assert_slice(got.account, SL("x"));
    /* once */
    assert_int_equal(ticket_redeem(auth->tickets, slice_of(id, 16), &whom, a,
                                   &got, &err),
                     -1);
    /* for another session, and then not at all */
    ticket_give(auth->tickets, &whom, &place, id);
    assert_int_equal(ticket_redeem(auth->tickets, slice_of(id, 16), &other, a,
                                   &got, &err),
                     -1);
    assert_int_equal(ticket_redeem(auth->tickets, slice_of(id, 16), &whom, a,
                                   &got, &err),
                     -1);
    assert_int_equal(ticket_redeem(auth->tickets, slice_of(forged, 16), &whom,
                                   a, &got, &err),
                     -1);
    assert_int_equal(
        ticket_redeem(auth->tickets, SL("short"), &whom, a, &got, &err), -1);
    for (int i = 0; i < AUTH_TICKETS_MAX + 10; i++)
        ticket_give(auth->tickets, &whom, &place, id);
    assert_int_equal(tickets_count(auth->tickets), AUTH_TICKETS_MAX);
    arena_free(&a);

    /* smtpd gets none, login does. */
    ask("AUTH\t920\tPLAIN\tservice=imap\tsecured\tresp=%s\n",
        base64(SL("\0tomo\0secret")));
    assert_string_equal(answer(), "OK\t920\tuser=tomo");
    connect_from(PT_LOGIN);
    ask("AUTH\t921\tPLAIN\tservice=imap\tsecured\tsession=abc\tresp=%s\n",
        base64(SL("\0daemon\0secret")));
    assert_starts(answer(), "FAIL\t921");
    ask("AUTH\t922\tPLAIN\tservice=imap\tsecured\tsession=abc\tresp=%s\n",
        base64(SL("\0tomo\0secret")));
    assert_starts(answer(), "OK\t922\tuser=tomo\tticket=");
    do_push();
}

static void all(void *arg)
{
    (void)arg;
    connect_from(PT_SMTPD);
    do_plain();
    do_dialogs();
    do_hostile();
    do_scram();
    do_bound();
    do_tickets();
    stream_free(&client);
    (void)task_sleep(50, NULL);
    loop_stop();
}

static void setup(const char *more)
{
    slice file;
    struct err err;

    loop_init("test", 2);
    bench_init(&bench);
    file = bench_file(&bench, 0, "passwd-file", users);
    main_cf = arena_printf(
        bench.arena,
        "compatibility_level = 3.6\nmyhostname = mx.example.com\n"
        "passdb = %.*s\nuserdb = %.*s\nmail_location = maildir:/m/%%u\n"
        "auth_mechanisms = plain login scram-sha-256 scram-sha-1 "
        "scram-sha-256-plus scram-sha-1-plus\n%s",
        SLF(file), SLF(file), more);
    p.conf = conf_from_text(slice_str(main_cf), SLICE_NONE, NULL);
    if (auth_new(&p, bench.tables, &auth, &err) < 0)
        fail_msg("%s", err.log);
}

static void teardown(void)
{
    stream_free(&client);
    auth_free(&auth);
    conf_unref(&p.conf);
    bench_done(&bench);
    loop_done();
}

static void test_all(void **state)
{
    (void)state;
    setup("auth_failure_delay = 0\n");
    task_spawn("all", all, NULL);
    loop_run();
    teardown();
}

/* Unknown user and wrong password: the same text after the same time. */
static void delays(void *arg)
{
    msec took[2];

    (void)arg;
    connect_from(PT_SMTPD);
    for (int i = 0; i < 2; i++) {
        msec began = clock_mono();
        const char *got =
            plain(i == 0 ? "hash@example.org" : "hish@example.org", "x");

        assert_starts(got, "FAIL\t");
        took[i] = clock_mono() - began;
        assert_true(took[i] >= 950 && took[i] < 1900);
    }
    /* A good one does not wait. */
    {
        msec began = clock_mono();

        assert_starts(plain("tomo", "secret"), "OK\t");
        assert_true(clock_mono() - began < 500);
    }
    loop_stop();
}

static void test_delay(void **state)
{
    (void)state;
    setup("auth_failure_delay = 1s\n");
    task_spawn("delays", delays, NULL);
    loop_run();
    teardown();
}

static void test_reputation(void **state)
{
    struct reputation *r = reputation_new(100);
    char ip[40];

    (void)state;
    loop_init("test", 1);
    assert_int_equal(reputation_delay(r, SL("192.0.2.1"), SL("tomo")), 0);
    reputation_bad(r, SL("192.0.2.1"), SL("tomo"), 10);
    assert_int_equal(reputation_delay(r, SL("192.0.2.1"), SL("tomo")), 1000);
    /* the same wrong password again is nothing new */
    reputation_bad(r, SL("192.0.2.1"), SL("tomo"), 10);
    assert_int_equal(reputation_delay(r, SL("192.0.2.1"), SL("tomo")), 1000);
    for (uint64_t i = 20; i < 60; i += 2)
        reputation_bad(r, SL("192.0.2.1"), SL("tomo"), i);
    assert_int_equal(reputation_delay(r, SL("192.0.2.1"), SL("ann")), 15000);
    /* its neighbours, and the account from elsewhere */
    assert_true(reputation_delay(r, SL("192.0.2.9"), SL("ann")) > 0);
    assert_int_equal(reputation_delay(r, SL("192.0.3.9"), SL("ann")), 0);
    assert_true(reputation_delay(r, SL("198.51.100.1"), SL("tomo")) > 0);
    /* who has signed in well is not hindered */
    reputation_good(r, SL("198.51.100.1"), SL("tomo"));
    assert_int_equal(reputation_delay(r, SL("198.51.100.1"), SL("tomo")), 0);
    reputation_good(r, SL("192.0.2.9"), SL("ann"));
    assert_int_equal(reputation_delay(r, SL("192.0.2.9"), SL("ann")), 0);
    /* IPv6: the /64 */
    for (uint64_t i = 20; i < 100; i += 2) {
        (void)snprintf(ip, sizeof ip, "2001:db8:1:2:%x::1", (unsigned)i);
        reputation_bad(r, slice_str(ip), SL(""), i);
    }
    assert_int_equal(reputation_delay(r, SL("2001:db8:1:2::7"), SL("bob")),
                     15000);
    assert_int_equal(reputation_delay(r, SL("2001:db8:1:3::7"), SL("bob")), 0);
    /* bounded */
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(ip, sizeof ip, "10.%u.%u.1", i / 250, i % 250);
        reputation_bad(r, slice_str(ip), SL("x"), i);
    }
    assert_true(reputation_count(r) <= 100);
    reputation_free(&r);
    loop_done();
}

static void test_names(void **state)
{
    static const struct {
        const char *conf, *given, *want;
    } cases[] = {
        { "", "Tomo@Example.ORG", "tomo@example.org" },
        { "auth_username_format = %u\n", "Tomo", "Tomo" },
        { "auth_username_format = %Ln\n", "Tomo@Example.ORG", "tomo" },
        { "auth_username_format = %n@%Ld\n", "Tomo@X.ORG", "Tomo@x.org" },
        { "auth_default_realm = example.net\n", "tomo", "tomo@example.net" },
        { "auth_default_realm = example.net\n", "tomo@a.b", "tomo@a.b" },
        { "", "to mo", "" },
        { "", "tomo%x", "" },
        { "auth_username_chars =\n", "to mo%x", "to mo%x" },
        { "auth_username_chars =\n", "to\nmo", "" },
        { "", "", "" },
    };

    (void)state;
    bench_init(&bench);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf *c =
            conf_from_text(slice_str(cases[i].conf), SLICE_NONE, NULL);
        struct auth_config *ac = NULL;
        slice got;

        assert_int_equal(auth_config_new(c, bench.tables, false, &ac, NULL), 0);
        got = auth_config_name(ac, slice_str(cases[i].given), bench.arena);
        if (!slice_eqs(got, cases[i].want))
            fail_msg("%s%s: %.*s", cases[i].conf, cases[i].given, SLF(got));
        auth_config_unref(&ac);
        conf_unref(&c);
    }
    bench_done(&bench);
}

static void test_bad_conf(void **state)
{
    static const char *const bad[] = {
        "auth_mechanisms = plain ntlm\n",
        "auth_username_format = %x\n",
        "passdb = nonsense\n",
        "passdb = ldap:/etc/x\n",
        "passdb = pam:../x\n",
    };

    (void)state;
    bench_init(&bench);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct conf *c = conf_from_text(slice_str(bad[i]), SLICE_NONE, NULL);
        struct auth_config *ac = NULL;
        struct err err;

        if (auth_config_new(c, bench.tables, false, &ac, &err) == 0)
            fail_msg("%s is taken", bad[i]);
        conf_unref(&c);
    }
    bench_done(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_bad_conf),
        cmocka_unit_test(test_reputation), cmocka_unit_test(test_all),
        cmocka_unit_test(test_delay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
