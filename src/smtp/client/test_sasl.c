/* Signing in to a server: every mechanism against GNU SASL's server side or, by
 * hand, against what the RFC says; choice, refusals and their memory.
 *
 * covers: smtp_sasl_auth_enable smtp_sasl_password_maps
 * covers: smtp_sasl_mechanism_filter smtp_sasl_security_options
 * covers: smtp_sasl_tls_security_options
 * covers: smtp_sasl_tls_verified_security_options
 * covers: smtp_sasl_auth_soft_bounce smtp_sasl_auth_cache_name
 * covers: smtp_sasl_auth_cache_time smtp_sender_dependent_authentication
 * covers: lmtp_sender_dependent_authentication
 * covers: lmtp_sasl_auth_enable lmtp_sasl_password_maps
 * covers: lmtp_sasl_mechanism_filter lmtp_sasl_security_options
 * covers: lmtp_sasl_tls_security_options
 * covers: lmtp_sasl_tls_verified_security_options
 * covers: lmtp_sasl_auth_soft_bounce lmtp_sasl_auth_cache_name
 * covers: lmtp_sasl_auth_cache_time
 */
#include "smtp/client/sasl.h"

#include "base/digest.h"
#include "rt/rt.h"

/* cmocka wants these before it. */
#include <setjmp.h>

#include <cmocka.h>
#include <gsasl.h>

#define PASSWORD                                                               \
 "pencil, \"s\xc3\xa9"                                                         \
 "cret\""

static slice line_of(struct client_sasl *s, const char *challenge,
                     bool *has_line, struct buf *out)
{
    struct err err;
    struct buf b;

    buf_init(&b, 20000);
    buf_clear(out);
    assert_int_equal(
        client_sasl_step(s, slice_str(challenge), has_line, &b, &err), 0);
    assert_true(base64_get(out, buf_view(&b)));
    buf_done(&b);
    return buf_view(out);
}

static struct client_sasl *begin(const char *mechs, const char *security)
{
    struct client_sasl_wish w = {
        .mechs = slice_str(mechs),
        .user = SL("tomo"),
        .password = SL(PASSWORD),
        .host = SL("mx.example.com"),
        .security = slice_str(security),
    };
    struct client_sasl *s = NULL;
    struct err err;

    if (client_sasl_new(&w, &s, &err) < 0)
        assert_non_null(strstr(err.peer, "no mechanism available"));
    return s;
}

static void test_choice(void **state)
{
    static const struct {
        const char *mechs, *security, *want;
    } cases[] = {
        { "PLAIN LOGIN", "noanonymous", "PLAIN" },
        { "login plain", "", "PLAIN" },
        { "LOGIN", "noanonymous", "LOGIN" },
        { "PLAIN LOGIN", "noplaintext, noanonymous", NULL },
        { "PLAIN CRAM-MD5 LOGIN", "noplaintext, noanonymous", "CRAM-MD5" },
        { "PLAIN CRAM-MD5", "", "CRAM-MD5" },
        { "CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 PLAIN", "", "SCRAM-SHA-256" },
        { "CRAM-MD5 SCRAM-SHA-1", "mutual_auth", "SCRAM-SHA-1" },
        { "CRAM-MD5 PLAIN", "mutual_auth", NULL },
        { "SCRAM-SHA-256", "forward_secrecy", NULL },
        { "SCRAM-SHA-256", "nodictionary", NULL },
        { "SCRAM-SHA-256", "nonsense", NULL },
        { "XOAUTH2 OAUTHBEARER", "noanonymous", "OAUTHBEARER" },
        { "XOAUTH2 PLAIN", "noanonymous", "PLAIN" },
        { "XOAUTH2", "noanonymous", "XOAUTH2" },
        { "XOAUTH2", "noplaintext", NULL },
        { "EXTERNAL GSSAPI ANONYMOUS NTLM", "", NULL },
        { "", "", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client_sasl *s = begin(cases[i].mechs, cases[i].security);

        if (cases[i].want == NULL) {
            assert_null(s);
            continue;
        }
        assert_non_null(s);
        assert_string_equal(client_sasl_mech(s), cases[i].want);
        client_sasl_free(&s);
    }
}

#define EXPECT(s, challenge, text)                                             \
 do {                                                                          \
  slice got_ = line_of((s), (challenge), &has_line, &b);                       \
  if (!slice_eq(got_, SL(text)))                                               \
   fail_msg("%.*s instead of %s", SLF(got_), text);                            \
 } while (0)

static void test_simple(void **state)
{
    struct client_sasl *s = begin("PLAIN", "");
    struct err err;
    struct buf b;
    bool has_line;

    (void)state;
    buf_init(&b, 20000);
    EXPECT(s, "", "\0tomo\0" PASSWORD);
    assert_true(has_line && client_sasl_is_done(s));
    assert_int_equal(client_sasl_step(s, SL(""), &has_line, &b, &err), -1);
    client_sasl_free(&s);

    s = begin("LOGIN", "");
    EXPECT(s, "", "");
    assert_false(has_line);
    EXPECT(s, "VXNlcm5hbWU6", "tomo");
    assert_false(client_sasl_is_done(s));
    EXPECT(s, "Password:", PASSWORD); /* not even base64 */
    assert_true(has_line && client_sasl_is_done(s));
    assert_int_equal(client_sasl_step(s, SL(""), &has_line, &b, &err), -1);
    client_sasl_free(&s);

    s = begin("XOAUTH2", "");
    EXPECT(s, "", "user=tomo\001auth=Bearer " PASSWORD "\001\001");
    assert_true(has_line && client_sasl_is_done(s));
    EXPECT(s, "eyJzdGF0dXMiOiI0MDEifQ==", "");
    client_sasl_free(&s);

    s = begin("OAUTHBEARER", "");
    EXPECT(s, "",
           "n,a=tomo,\001host=mx.example.com\001auth=Bearer " PASSWORD
           "\001\001");
    EXPECT(s, "eyJzdGF0dXMiOiI0MDEifQ==", "\001");
    assert_int_equal(client_sasl_step(s, SL(""), &has_line, &b, &err), -1);
    client_sasl_free(&s);
    buf_done(&b);
}

/* A token that does not fit into the line of AUTH comes after it. */
static void test_long(void **state)
{
    static char token[12000];
    struct client_sasl_wish w = { .mechs = SL("PLAIN"),
                                  .user = SL("a=b,c"),
                                  .password = { token, 1000 },
                                  .host = SL("") };
    struct client_sasl *s = NULL;
    struct err err;
    struct buf b;
    bool has_line = true;

    (void)state;
    buf_init(&b, 20000);
    memset(token, 't', sizeof token);
    assert_int_equal(client_sasl_new(&w, &s, &err), 0);
    assert_int_equal(line_of(s, "", &has_line, &b).n, 0);
    assert_false(has_line);
    assert_int_equal(line_of(s, "", &has_line, &b).n, 1007);
    assert_true(has_line);
    client_sasl_free(&s);

    w.mechs = SL("OAUTHBEARER");
    w.password.n = 100;
    assert_int_equal(client_sasl_new(&w, &s, &err), 0);
    assert_true(slice_starts(line_of(s, "", &has_line, &b),
                             SL("n,a=a=3Db=2Cc,\001auth=Bearer ttt")));
    client_sasl_free(&s);

    w.password.n = sizeof token; /* beyond RFC 4954's line */
    assert_int_equal(client_sasl_new(&w, &s, &err), 0);
    assert_int_equal(client_sasl_step(s, SL(""), &has_line, &b, &err), -1);
    client_sasl_free(&s);

    w.password = SL("a\0b");
    assert_int_equal(client_sasl_new(&w, &s, &err), -1);
    buf_done(&b);
}

/* ---- against the library's server */

static bool knows_other;

static int server_property(Gsasl *lib, Gsasl_session *s, Gsasl_property prop)
{
    (void)lib;
    if (prop == GSASL_PASSWORD)
        return gsasl_property_set(s, prop, knows_other ? "other" : PASSWORD);
    return GSASL_NO_CALLBACK;
}

/* What the server makes of it all; `spoil` changes a server's message. */
static int talk(const char *mech, unsigned spoil, bool *is_done)
{
    struct client_sasl *s = begin(mech, "");
    Gsasl *lib = NULL;
    Gsasl_session *server = NULL;
    char *out = NULL;
    struct err err;
    struct buf line;
    bool has_line = false;
    int rc;

    assert_non_null(s);
    buf_init(&line, 20000);
    assert_int_equal(gsasl_init(&lib), GSASL_OK);
    gsasl_callback_set(lib, server_property);
    assert_int_equal(gsasl_server_start(lib, mech, &server), GSASL_OK);
    assert_int_equal(client_sasl_step(s, SLICE_NONE, &has_line, &line, &err),
                     0);
    assert_true(has_line == (strcmp(mech, "CRAM-MD5") != 0));
    for (unsigned turn = 1;; turn++) {
        rc = gsasl_step64(server, buf_cstr(&line), &out);
        if (out != NULL && turn == spoil)
            out[strlen(out) / 2] = out[strlen(out) / 2] == 'x' ? 'y' : 'x';
        buf_clear(&line);
        if ((rc != GSASL_OK && rc != GSASL_NEEDS_MORE) ||
            (rc == GSASL_OK && (out == NULL || out[0] == '\0')))
            break;
        if (client_sasl_step(s, slice_str(out), &has_line, &line, &err) < 0) {
            rc = -1;
            break;
        }
        gsasl_free(out);
        out = NULL;
        if (rc == GSASL_OK)
            break;
    }
    gsasl_free(out);
    gsasl_finish(server);
    gsasl_done(lib);
    *is_done = client_sasl_is_done(s);
    client_sasl_free(&s);
    buf_done(&line);
    return rc;
}

static void test_library(void **state)
{
    static const char *const names[] = { "CRAM-MD5", "SCRAM-SHA-1",
                                         "SCRAM-SHA-256" };
    bool is_done;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        knows_other = false;
        assert_int_equal(talk(names[i], 0, &is_done), GSASL_OK);
        assert_true(is_done);
        knows_other = true;
        assert_true(talk(names[i], 0, &is_done) != GSASL_OK);
        knows_other = false;
    }
    /* The server's first message, then its proof, is not what it should be. */
    assert_true(talk("SCRAM-SHA-256", 1, &is_done) != GSASL_OK);
    assert_false(is_done);
    assert_int_equal(talk("SCRAM-SHA-256", 2, &is_done), -1);
    assert_false(is_done);
}

/* Rounds without end are not begun. */
static void test_hostile(void **state)
{
    static const char *const bad[] = {
        "r=%s1,s=QSXCR+Q6sek8bd92,i=2000000000",
        "r=%s1,s=QSXCR+Q6sek8bd92,i=99999999999999999999",
        "r=%s1,s=QSXCR+Q6sek8bd92,i=",
        "r=%s1,s=QSXCR+Q6sek8bd92",
        "r=other,s=QSXCR+Q6sek8bd92,i=4096",
        "e=other-error",
        "",
    };
    struct err err;
    struct buf b, in;
    bool has_line;

    (void)state;
    buf_init(&b, 20000);
    buf_init(&in, 20000);
    for (size_t i = 0; i < ARRAY_LEN(bad) + 1; i++) {
        struct client_sasl *s = begin("SCRAM-SHA-256", "");
        slice first = line_of(s, "", &has_line, &b);
        char text[300];
        char nonce[200];

        assert_true(slice_copy_to(
            slice_from(first, (size_t)slice_find(first, SL("r=")) + 2), nonce,
            sizeof nonce));
        buf_clear(&in);
        if (i < ARRAY_LEN(bad)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(text, sizeof text, bad[i], nonce);
#pragma GCC diagnostic pop
            (void)base64_put(&in, slice_str(text));
        } else {
            (void)buf_puts(&in, "not base64 %%%");
        }
        buf_clear(&b);
        assert_int_equal(
            client_sasl_step(s, buf_view(&in), &has_line, &b, &err), -1);
        assert_false(client_sasl_is_done(s));
        client_sasl_free(&s);
    }
    buf_done(&b);
    buf_done(&in);
}

/* ---- who, and what comes of it */

static struct tables *tables;

static struct client_login *login_of(const char *more)
{
    struct client_login *l = NULL;
    struct conf *c;
    struct buf text;
    struct err err;

    buf_init(&text, 20000);
    buf_printf(&text,
               "smtp_sasl_auth_enable = yes\n"
               "smtp_sasl_security_options = noanonymous\n"
               "smtp_sasl_password_maps = inline:{{mx.example.com=host:pw:1}"
               " {[mx.example.net]:587=port:pw2} {bare.example=alone}"
               " {ann@example.org=ann:pw3} {@example.org=all:pw4}}\n%s",
               more);
    c = conf_from_text(buf_view(&text), SLICE_NONE, NULL);
    if (client_login_new(tables, c, NULL, "smtp", &l, &err) < 0)
        l = NULL;
    conf_unref(&c);
    buf_done(&text);
    return l;
}

static void test_find(void **state)
{
    static const struct {
        const char *sender, *host, *dest, *user, *password;
        bool by_sender;
    } cases[] = {
        { "", "mx.example.com", "example.com", "host", "pw:1", false },
        { "", "MX.example.com", "example.com", "host", "pw:1", false },
        { "", "mx.example.net", "[mx.example.net]:587", "port", "pw2", false },
        { "", "mx.example.net", "[mx.example.net]", NULL, NULL, false },
        { "", "a.bare.example", "bare.example", "alone", "", false },
        { "ann@example.org", "mx.example.com", "x", "host", "pw:1", false },
        { "ann@example.org", "mx.example.com", "x", "ann", "pw3", true },
        { "bob@example.org", "mx.example.com", "x", "all", "pw4", true },
        { "bob@example.net", "mx.example.com", "x", "host", "pw:1", true },
        { "", "mx.example.com", "x", "host", "pw:1", true },
        { "", "other", "other", NULL, NULL, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client_login *l = login_of(
            cases[i].by_sender ? "smtp_sender_dependent_authentication = yes\n"
                               : "");
        struct client_login_ask ask = { .sender = slice_str(cases[i].sender),
                                        .host = slice_str(cases[i].host),
                                        .dest = slice_str(cases[i].dest) };
        struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
        struct client_credentials who;
        struct err err;

        assert_non_null(l);
        assert_true(client_login_by_sender(l) == cases[i].by_sender);
        assert_int_equal(client_login_find(l, &ask, a, &who, &err), 0);
        assert_true(who.found == (cases[i].user != NULL));
        if (who.found) {
            assert_true(slice_eqs(who.user, cases[i].user));
            assert_true(slice_eqs(who.password, cases[i].password));
        }
        client_credentials_wipe(&who);
        client_login_free(&l);
    }
}

static void test_filter(void **state)
{
    static const struct {
        const char *filter, *offered, *want;
    } cases[] = {
        { "", "PLAIN LOGIN  plain", "PLAIN LOGIN" },
        { "plain", "CRAM-MD5 PLAIN LOGIN", "PLAIN" },
        { "!gssapi, !login, static:rest", "GSSAPI LOGIN PLAIN", "PLAIN" },
        { "ntlm", "PLAIN", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
        char *more = arena_printf(a, "smtp_sasl_mechanism_filter = %s\n",
                                  cases[i].filter);
        struct client_login *l = login_of(more);
        struct err err;
        slice got;

        assert_non_null(l);
        assert_int_equal(client_login_mechs(l, slice_str(cases[i].offered), a,
                                            &got, &err),
                         0);
        assert_true(slice_eqs(got, cases[i].want));
        client_login_free(&l);
    }
}

/* A server of lines. */
struct script {
    const char *const *v; /* "AUTH PLAIN ...", "235 2.7.0 ok", ..., NULL */
    size_t at;
};

static int script_say(void *arg, slice line, struct client_sasl_reply *out,
                      struct err *err)
{
    struct script *s = arg;
    const char *want = s->v[s->at];
    const char *answer;
    slice rest;
    slice code;
    uint64_t n;

    assert_non_null(want);
    if (!slice_eqs(line, want))
        fail_msg("%.*s instead of %s", SLF(line), want);
    answer = s->v[s->at + 1];
    s->at += 2;
    if (answer == NULL)
        return err_peer(err, "gone");
    rest = slice_str(answer);
    (void)slice_cut(&rest, ' ', &code);
    assert_true(slice_u64(code, &n));
    *out = (struct client_sasl_reply){ .code = (int)n };
    out->text = rest;
    if (n != 334)
        (void)slice_cut(&rest, ' ', &out->status);
    return 0;
}

static enum client_login_result run_script(struct client_login *l,
                                           const char *mechs,
                                           const char *const *v,
                                           struct err *err)
{
    struct client_login_ask ask = { .host = SL("mx.example.com"),
                                    .dest = SL("example.com"),
                                    .mechs = slice_str(mechs) };
    struct script script = { .v = v };
    struct client_sasl_talk talk_ = { script_say, &script };
    enum client_login_result result = CLIENT_LOGIN_STRANGER;

    if (client_login_do(l, &ask, "mx.example.com[192.0.2.1]:25", &talk_,
                        &result, err) < 0)
        assert_int_equal(err->class, ERR_PEER);
    return result;
}

#define PLAIN_LINE "AUTH PLAIN AGhvc3QAcHc6MQ=="

static void test_do(void **state)
{
    static const char *const good[] = { PLAIN_LINE, "235 2.7.0 ok", NULL };
    static const char *const login[] = { "AUTH LOGIN", "334 VXNlcm5hbWU6",
                                         "aG9zdA==",   "334 UGFzc3dvcmQ6",
                                         "cHc6MQ==",   "235 2.7.0 ok",
                                         NULL };
    static const char *const wrong[] = { PLAIN_LINE, "535 5.7.8 no such",
                                         NULL };
    static const char *const later[] = { PLAIN_LINE, "454 4.7.0 later", NULL };
    static const char *const gone[] = { PLAIN_LINE, NULL };
    static const char *const odd[] = { PLAIN_LINE, "334 ", NULL };
    static const char *const early[] = { "AUTH LOGIN", "235 2.7.0 ok", NULL };
    static const char *const none[] = { NULL };
    struct client_login *l = login_of("");
    struct err err;

    (void)state;
    assert_int_equal(run_script(l, "PLAIN", good, &err), CLIENT_LOGIN_OK);
    assert_int_equal(run_script(l, "LOGIN", login, &err), CLIENT_LOGIN_OK);
    assert_int_equal(run_script(l, "", none, &err), CLIENT_LOGIN_STRANGER);
    assert_int_equal(run_script(l, "NTLM", none, &err), CLIENT_LOGIN_FAILED);
    assert_int_equal(err.class, ERR_TEMP);
    assert_string_equal(err.status, "4.7.0");
    assert_string_equal(err.log,
                        "SASL authentication failed; cannot authenticate to "
                        "server mx.example.com[192.0.2.1]:25: no mechanism "
                        "available (the security options \"noanonymous\" allow "
                        "none that it offers)");
    assert_int_equal(run_script(l, "PLAIN", wrong, &err), CLIENT_LOGIN_FAILED);
    assert_int_equal(err.class, ERR_TEMP); /* smtp_sasl_auth_soft_bounce */
    assert_string_equal(err.status, "4.7.8");
    assert_string_equal(err.log,
                        "SASL authentication failed; server "
                        "mx.example.com[192.0.2.1]:25 said: 535 5.7.8 no "
                        "such");
    assert_int_equal(run_script(l, "PLAIN", later, &err), CLIENT_LOGIN_FAILED);
    assert_string_equal(err.status, "4.7.0");
    assert_int_equal(run_script(l, "PLAIN", odd, &err), CLIENT_LOGIN_BROKEN);
    assert_int_equal(err.class, ERR_TEMP);
    assert_int_equal(run_script(l, "LOGIN", early, &err), CLIENT_LOGIN_BROKEN);
    (void)run_script(l, "PLAIN", gone, &err);
    assert_int_equal(err.class, ERR_PEER);
    client_login_free(&l);
    assert_int_equal(run_script(NULL, "PLAIN", none, &err),
                     CLIENT_LOGIN_STRANGER);
}

static void test_memory(void **state)
{
    static const char *const wrong[] = { PLAIN_LINE, "535 5.7.8 no such",
                                         NULL };
    static const char *const later[] = { PLAIN_LINE, "454 4.7.0 later", NULL };
    static const char *const none[] = { NULL };
    struct client_login *l = login_of("smtp_sasl_auth_cache_name = hash:/x\n"
                                      "smtp_sasl_auth_soft_bounce = no\n");
    struct err err;

    (void)state;
    assert_int_equal(run_script(l, "PLAIN", later, &err), CLIENT_LOGIN_FAILED);
    assert_int_equal(err.class, ERR_TEMP);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_script(l, "PLAIN", i == 0 ? wrong : none, &err),
                         CLIENT_LOGIN_FAILED);
        assert_int_equal(err.class, ERR_PERM);
        assert_string_equal(err.status, "5.7.8");
        assert_string_equal(err.log,
                            i == 0 ? "SASL authentication failed; server "
                                     "mx.example.com[192.0.2.1]:25 said: 535 "
                                     "5.7.8 no such"
                                   : "SASL [CACHED] authentication failed; "
                                     "server mx.example.com[192.0.2.1]:25 "
                                     "said: 535 5.7.8 no such");
    }
    client_login_free(&l);
}

static void test_settings(void **state)
{
    struct client_login *l;

    (void)state;
    assert_null(login_of("smtp_sasl_auth_enable = no\n"));
    assert_null(login_of("smtp_sasl_password_maps =\n"));
    l = login_of("smtp_sasl_security_options = noplaintext\n"
                 "smtp_sasl_tls_verified_security_options =\n");
    assert_non_null(l);
    assert_true(
        slice_eqs(client_login_security(l, CLIENT_LOGIN_CLEAR), "noplaintext"));
    assert_true(
        slice_eqs(client_login_security(l, CLIENT_LOGIN_TLS), "noplaintext"));
    assert_true(slice_eqs(client_login_security(l, CLIENT_LOGIN_VERIFIED), ""));
    assert_true(client_login_soft_bounce(l));
    client_login_free(&l);
}

/* lmtp_* are parameters of their own. */
static void test_lmtp(void **state)
{
    static const char text[] =
        "smtp_sasl_auth_enable = no\n"
        "smtp_sender_dependent_authentication = yes\n"
        "lmtp_sasl_auth_enable = yes\n"
        "lmtp_sasl_password_maps = inline:{{mx.example.com=host:pw:1}"
        " {ann@example.org=ann:pw}}\n"
        "lmtp_sasl_mechanism_filter = plain\n"
        "lmtp_sasl_security_options =\n"
        "lmtp_sasl_tls_security_options = noanonymous\n"
        "lmtp_sasl_auth_soft_bounce = no\n"
        "lmtp_sasl_auth_cache_name = any\n"
        "lmtp_sasl_auth_cache_time = 0\n";
    static const char *const wrong[] = { PLAIN_LINE, "535 5.7.8 no such",
                                         NULL };
    struct conf *c = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    struct client_login *l = NULL;
    struct err err;

    (void)state;
    assert_int_equal(client_login_new(tables, c, NULL, "smtp", &l, &err), 0);
    assert_null(l);
    assert_int_equal(client_login_new(tables, c, NULL, "lmtp", &l, &err), 0);
    assert_non_null(l);
    assert_false(client_login_by_sender(l)); /* that is smtp's */
    assert_true(slice_eqs(client_login_security(l, CLIENT_LOGIN_VERIFIED),
                          "noanonymous"));
    /* Remembered for no time at all: asked again. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_script(l, "CRAM-MD5 LOGIN PLAIN", wrong, &err),
                         CLIENT_LOGIN_FAILED);
        assert_int_equal(err.class, ERR_PERM);
        assert_true(strstr(err.log, "[CACHED]") == NULL);
    }
    client_login_free(&l);
    conf_unref(&c);
}

static int setup(void **state)
{
    struct err err;

    (void)state;
    tables = tables_new();
    return client_sasl_setup(&err);
}

static int teardown(void **state)
{
    (void)state;
    tables_free(&tables);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),  cmocka_unit_test(test_simple),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_library),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_find),
        cmocka_unit_test(test_filter),  cmocka_unit_test(test_do),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_settings),
        cmocka_unit_test(test_lmtp),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
