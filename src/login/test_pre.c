/* IMAP and POP3 before sign-in. */
#include "login/test_util_login.h"

#include <sys/socket.h>

static void imap_plain_body(void)
{
    struct stream *s, *worker;

    world.offers_tls = false;
    s = world_client(0, false);
    expect(s, "* OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ "
              "LOGINDISABLED AUTH=SCRAM-SHA-256] Hato ready.");
    say(s, "a CAPABILITY\r\nb NOOP\r\nc ID (\"name\" \"x\" \"y\" NIL)\r\n"
           "d ID NIL\r\ne STARTTLS\r\n");
    expect_start(s, "* CAPABILITY IMAP4rev1 SASL-IR");
    expect_start(s, "a OK Pre-login capabilities listed");
    expect(s, "b OK NOOP completed.");
    expect(s, "* ID (\"name\" \"Hato\")");
    expect(s, "c OK ID completed.");
    expect(s, "* ID (\"name\" \"Hato\")");
    expect(s, "d OK ID completed.");
    expect(s, "e BAD TLS support isn't enabled.");
    say(s, "f LOGIN joe secret\r\n");
    expect_start(s, "* BAD [ALERT] Plaintext authentication not allowed");
    expect_start(s, "f NO [PRIVACYREQUIRED] Plaintext authentication disal");
    say(s, "g AUTHENTICATE PLAIN\r\n");
    expect_start(s, "* BAD [ALERT]");
    expect_start(s, "g NO [PRIVACYREQUIRED]");
    assert_int_equal(world.n_sessions, 0);
    /* A mechanism that shows no password may do so; no TLS: the worker gets
     * the client's own socket, and what came behind the sign-in. */
    say(s, "h AUTHENTICATE X-TEST AGpvZQBzZWNyZXQ=\r\ni SELECT inbox\r\n");
    worker = world_worker();
    assert_string_equal(world.tag, "h");
    assert_string_equal(world.service, "imap");
    assert_string_equal(world.remote, "192.0.2.7");
    assert_true(slice_eqs(buf_view(&world.content), "i SELECT inbox\r\n"));
    say(worker, "h OK Logged in\r\n");
    expect(s, "h OK Logged in");
    say(s, "j NOOP\r\n");
    expect(worker, "j NOOP");
    UNTIL(world.login->n_conns == 0);
    stream_free(&s);
    expect_end(worker);
    stream_free(&worker);
}

static void imap_plain(void **state UNUSED)
{
    in_world("", imap_plain_body, 0);
}

/* covers: disable_plaintext_auth login_greeting login_trusted_networks */
static void imap_trusted_body(void)
{
    struct stream *s, *worker;

    s = world_client(0, false);
    expect(s, "* OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ "
              "AUTH=PLAIN AUTH=LOGIN] Good day.");
    say(s, "a ID (\"x-originating-ip\" \"198.51.100.3\" \"x-session-id\" "
           "\"abc\")\r\n");
    expect_start(s, "* ID");
    expect(s, "a OK ID completed.");
    say(s, "b LOGIN \"joe\" {6}\r\n");
    expect(s, "+ OK");
    say(s, "secret\r\n");
    worker = world_worker();
    assert_string_equal(world.remote, "198.51.100.3");
    stream_free(&s);
    stream_free(&worker);
    UNTIL(world.login->n_conns == 0);
}

static void imap_trusted(void **state UNUSED)
{
    in_world("login_trusted_networks = 10.0.0.0/8, 192.0.2.0/29\n"
             "login_greeting = Good day.\n",
             imap_trusted_body, 0);
}

static void imap_untrusted_id_body(void)
{
    struct stream *s = world_client(0, true);
    struct stream *worker;

    expect_start(s, "* OK");
    say(s, "a ID (\"x-originating-ip\" \"198.51.100.3\")\r\n");
    expect_start(s, "* ID");
    expect_start(s, "a OK");
    say(s, "b AUTHENTICATE PLAIN\r\n");
    expect(s, "+");
    say(s, "AGpvZQBzZWNyZXQ=\r\nc NOOP\r\n");
    worker = world_worker();
    assert_string_equal(world.remote, "192.0.2.7");
    assert_true(slice_eqs(buf_view(&world.content), "c NOOP\r\n"));
    stream_free(&s);
    expect_end(worker);
    stream_free(&worker);
    UNTIL(world.login->n_conns == 0);
}

static void imap_untrusted_id(void **state UNUSED)
{
    in_world("login_trusted_networks = 10.0.0.0/8\n", imap_untrusted_id_body,
             0);
}

static void failures_body(void)
{
    struct stream *s = world_client(0, true);

    expect_start(s, "* OK");
    say(s, "a LOGIN joe wrong\r\n");
    expect(s, "a NO [AUTHENTICATIONFAILED] Authentication failed.");
    say(s, "b LOGIN nobody wrong\r\n");
    expect(s, "b NO [AUTHENTICATIONFAILED] Authentication failed.");
    say(s, "c LOGIN temp x\r\n");
    expect(s, "c NO [UNAVAILABLE] Temporary authentication failure.");
    expect(s, "* BYE Too many authentication failures.");
    expect_end(s);
    stream_free(&s);

    s = world_client(0, true);
    expect_start(s, "* OK");
    say(s, "a AUTHENTICATE PLAIN\r\n");
    expect(s, "+");
    say(s, "*\r\n");
    expect_start(s, "a NO [AUTHENTICATIONFAILED] Authentication aborted");
    say(s, "b AUTHENTICATE PLAIN =!=\r\n");
    expect_start(s, "b NO [AUTHENTICATIONFAILED] Invalid base64");
    world.is_full = true;
    say(s, "c LOGIN joe secret\r\n");
    expect(s, "c NO [UNAVAILABLE] Maximum number of connections");
    expect_start(s, "* BYE");
    stream_free(&s);

    s = world_client(0, true);
    expect_start(s, "* OK");
    world.is_full = false;
    world.refuse_session = true;
    say(s, "c LOGIN joe secret\r\n");
    expect_start(s, "c NO [UNAVAILABLE] Internal error occurred");
    world.auth_down = true;
    say(s, "d LOGIN joe secret\r\n");
    expect(s, "d NO [UNAVAILABLE] Temporary authentication failure.");
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void failures(void **state UNUSED)
{
    in_world("", failures_body, 0);
}

static void bad_commands_body(void)
{
    static const char *const bad[] = {
        "a SELECT inbox\r\n",
        "a ENABLE CONDSTORE\r\n",
        "a\r\n",
        "\r\n",
        "* NOOP\r\n",
        "a LOGIN joe\r\n",
        "a LOGIN a b c\r\n",
        "a ID (\r\n",
        "a AUTHENTICATE\r\n",
        "+ NOOP\r\n",
    };
    struct stream *s;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        s = world_client(0, true);
        expect_start(s, "* OK");
        for (int n = 0; n < 2; n++) {
            say(s, bad[i]);
            expect_start(s, bad[i][0] == 'a' && bad[i][1] == ' ' ? "a BAD "
                            : bad[i][0] == 'a'                   ? "a BAD "
                                                                 : "* BAD ");
        }
        say(s, bad[i]);
        expect(s, "* BYE Too many invalid IMAP commands.");
        expect_end(s);
        stream_free(&s);
    }
    UNTIL(world.login->n_conns == 0);
}

static void bad_commands(void **state UNUSED)
{
    in_world("", bad_commands_body, 0);
}

static void put_many(struct stream *s, const char *text, int n)
{
    struct err err;

    for (int i = 0; i < n; i++)
        if (stream_puts(s, text, &err) < 0)
            return; /* it was cut off */
    (void)stream_flush(s, &err);
}

MAY_WAIT static void expect_bye(struct stream *s, const char *bye)
{
    struct err err;
    slice line;

    stream_deadline(s, clock_after(20000));
    do
        assert_int_equal(stream_line(s, 60000, &line, &err), 0);
    while (!slice_starts(line, slice_str(bye)));
    expect_end(s);
}

static void hostile_body(void)
{
    struct stream *s;

    /* A line without end. */
    s = world_client(0, true);
    expect_start(s, "* OK");
    put_many(s, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 200);
    expect(s, "* BYE Input buffer full, aborting");
    stream_free(&s);
    /* A name of 200 KB, each way. */
    s = world_client(0, true);
    expect_start(s, "* OK");
    say(s, "a LOGIN {200000}\r\n");
    expect(s, "a BAD Too long argument.");
    say(s, "b LOGIN {200000+}\r\n");
    expect(s, "* BYE Too long argument.");
    stream_free(&s);
    /* NUL in a name. */
    s = world_client(0, true);
    expect_start(s, "* OK");
    {
        struct err err;

        assert_int_equal(
            stream_write(s, SL("a LOGIN {5+}\r\na\0joe secret\r\n"), &err), 0);
    }
    say(s, "");
    expect_start(s, "a BAD");
    stream_free(&s);
    /* More commands than anybody needs. */
    s = world_client(0, true);
    put_many(s, "a NOOP\r\n", 3000);
    expect_bye(s, "* BYE Too many commands.");
    stream_free(&s);
    /* One who is silent, with half a command. */
    s = world_client(0, true);
    say(s, "a NOO");
    expect_start(s, "* OK");
    expect(s, "* BYE Disconnected for inactivity.");
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
    assert_int_equal(world.n_sessions, 0);
}

/* covers: imap_login_timeout */
static void hostile(void **state UNUSED)
{
    in_world("imap_login_timeout = 2s\n", hostile_body, 0);
}

static void injection_body(void)
{
    struct stream *s;

    world.offers_tls = true;
    world_end();
    world.offers_tls = true;
    world_begin("");
    s = world_client(0, false);
    expect_start(s, "* OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE "
                    "LITERAL+ STARTTLS LOGINDISABLED");
    say(s, "a STARTTLS\r\nb LOGIN joe secret\r\n");
    expect(s, "a BAD Input behind STARTTLS.");
    expect_end(s);
    stream_free(&s);
    s = world_client(1, false);
    expect(s, "+OK Hato ready.");
    say(s, "STLS\r\nCAPA\r\n");
    expect(s, "-ERR Input behind STLS.");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void injection(void **state UNUSED)
{
    in_world("", injection_body, 0);
}

static void pop3_body(void)
{
    struct stream *s = world_client(1, false), *worker;

    expect(s, "+OK Hato ready.");
    say(s, "CAPA\r\n");
    for (const char *const *l =
             (const char *const[]){ "+OK", "CAPA", "TOP", "UIDL", "RESP-CODES",
                                    "PIPELINING", "AUTH-RESP-CODE",
                                    "SASL SCRAM-SHA-256", ".", NULL };
         *l != NULL; l++)
        expect(s, *l);
    say(s, "USER joe\r\nNOOP\r\nAPOP joe 1234\r\nSTLS\r\nLIST\r\n");
    expect_start(s, "-ERR [AUTH] Plaintext authentication disallowed");
    expect(s, "+OK");
    expect(s, "-ERR APOP not enabled.");
    expect(s, "-ERR TLS support isn't enabled.");
    expect(s, "-ERR Too many invalid bad commands.");
    stream_free(&s);

    s = world_client(1, true);
    expect(s, "+OK Hato ready.");
    say(s, "PASS x\r\nUSER joe\r\nPASS wrong\r\nAUTH\r\n");
    expect(s, "-ERR No username given.");
    expect(s, "+OK");
    expect(s, "-ERR [AUTH] Authentication failed.");
    expect(s, "+OK");
    expect(s, "PLAIN");
    expect(s, "LOGIN");
    expect(s, ".");
    say(s, "XCLIENT ADDR=1.2.3.4\r\nUSER temp\r\nPASS x\r\n");
    expect(s, "-ERR You are not from trusted IP");
    expect(s, "+OK");
    expect(s, "-ERR [SYS/TEMP] Temporary authentication failure.");
    say(s, "AUTH PLAIN\r\nAGpvZQBzZWNyZXQ=\r\nSTAT\r\n");
    expect(s, "+");
    worker = world_worker();
    assert_string_equal(world.service, "pop3");
    assert_true(slice_eqs(buf_view(&world.content), "STAT\r\n"));
    say(worker, "+OK Logged in.\r\n");
    expect(s, "+OK Logged in.");
    say(s, "QUIT\r\n");
    expect(worker, "QUIT");
    say(worker, "+OK\r\n");
    stream_free(&worker);
    expect(s, "+OK");
    expect_end(s);
    stream_free(&s);

    s = world_client(1, true);
    expect(s, "+OK Hato ready.");
    say(s, "QUIT\r\n");
    expect(s, "+OK Logging out");
    expect_end(s);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

/* covers: pop3_login_timeout */
static void pop3(void **state UNUSED)
{
    in_world("pop3_login_timeout = 20s\n", pop3_body, 0);
}

static void pop3_proxy_body(void)
{
    struct stream *s = world_client(1, false), *worker;

    expect(s, "+OK Hato ready.");
    say(s, "XCLIENT ADDR=2001:db8::7 PORT=99 SESSION=x\r\nUSER joe\r\n"
           "PASS secret\r\n");
    expect(s, "+OK Updated");
    expect(s, "+OK");
    worker = world_worker();
    assert_string_equal(world.remote, "2001:db8::7");
    stream_free(&worker);
    stream_free(&s);
    UNTIL(world.login->n_conns == 0);
}

static void pop3_proxy(void **state UNUSED)
{
    in_world("login_trusted_networks = 192.0.2.7\n", pop3_proxy_body, 0);
}

static void stop_body(void)
{
    struct stream *s = world_client(0, true), *p = world_client(1, true);

    expect_start(s, "* OK");
    expect(p, "+OK Hato ready.");
    login_close_all(world.login);
    expect(s, "* BYE Server shutting down.");
    expect(p, "-ERR Server shutting down.");
    expect_end(s);
    expect_end(p);
    stream_free(&s);
    stream_free(&p);
    UNTIL(world.login->n_conns == 0);
}

static void stop(void **state UNUSED)
{
    in_world("", stop_body, 0);
}

static void too_many_body(void)
{
    struct stream *s[8];

    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        s[i] = world_client(0, true);
        expect_start(s[i], "* OK");
    }
    conn_end_oldest(world.login);
    conn_end_oldest(world.login);
    expect(s[0], "* BYE Connection queue full");
    expect(s[1], "* BYE Connection queue full");
    say(s[2], "a LOGOUT\r\n");
    expect(s[2], "* BYE Logging out");
    expect(s[2], "a OK Logout completed.");
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        stream_free(&s[i]);
    UNTIL(world.login->n_conns == 0);
}

static void too_many(void **state UNUSED)
{
    in_world("", too_many_body, 0);
}

/* covers: login_client_waiting_limit */
static void per_client_body(void)
{
    struct peer_addr one = { .family = AF_INET, .ip = { 192, 0, 2, 1 } };
    struct peer_addr two = { .family = AF_INET, .ip = { 192, 0, 2, 2 } };
    struct peer_addr proxy = { .family = AF_INET, .ip = { 198, 51, 100, 7 } };
    struct login_service *s = login_service_at(world.login, 0);
    struct stream *stream = world_client(0, true);
    struct client *c[3];

    expect_start(stream, "* OK");
    assert_true(login_client_up(s, &one, &c[0]));
    assert_true(login_client_up(s, &one, &c[1]));
    assert_false(login_client_up(s, &one, &c[2]));
    assert_null(c[2]);
    assert_true(login_client_up(s, &two, &c[2]));
    login_client_down(world.login, &c[2]);
    login_client_down(world.login, &c[1]);
    assert_true(login_client_up(s, &one, &c[1]));
    for (int i = 0; i < 9; i++) {
        assert_true(login_client_up(s, &proxy, &c[2]));
        assert_null(c[2]);
    }
    login_client_down(world.login, &c[0]);
    login_client_down(world.login, &c[1]);
    assert_int_equal(world.login->clients.n, 0);
    stream_free(&stream);
    UNTIL(world.login->n_conns == 0);
}

static void per_client(void **state UNUSED)
{
    in_world("login_client_waiting_limit = 2\n"
             "login_trusted_networks = 198.51.100.0/24\n",
             per_client_body, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imap_plain),        cmocka_unit_test(imap_trusted),
        cmocka_unit_test(imap_untrusted_id), cmocka_unit_test(failures),
        cmocka_unit_test(bad_commands),      cmocka_unit_test(hostile),
        cmocka_unit_test(injection),         cmocka_unit_test(pop3),
        cmocka_unit_test(pop3_proxy),        cmocka_unit_test(stop),
        cmocka_unit_test(too_many),          cmocka_unit_test(per_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
