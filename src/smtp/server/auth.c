#include "smtp/server/auth.h"

#include "base/digest.h"
#include "ipc/auth_client.h"
#include "rt/tls.h"

/* AUTH, RFC 4954, with Postfix's parameters: passwords are checked by the
 * process `auth`, which also makes a failed answer wait. */

#define ASK_MS       120000
#define NAMES_MAX    256
#define RESPONSE_MAX 49152 /* what an input buffer can hold */
#define INITIAL_MAX  16384
#define NO_REASON    "(reason unavailable)"

enum {
    NO_PLAINTEXT = 1,
    NO_ACTIVE = 2,
    NO_DICTIONARY = 4,
    NO_ANONYMOUS = 8,
    FORWARD_SECRECY = 16,
    MUTUAL_AUTH = 32,
};

struct smtp_auth {
    struct auth_client *client; /* the server's */
    const char *service;
    slice local_domain;
    size_t response_max;
    unsigned options, tls_options;
    bool is_broken_too;
    bool shows_sender;
    struct table_match *exceptions, *filter;
};

/* ---- settings */

static int read_options(const struct smtp_service *v, const char *param,
                        unsigned *out, struct err *err)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        { "noplaintext", NO_PLAINTEXT },
        { "noactive", NO_ACTIVE },
        { "nodictionary", NO_DICTIONARY },
        { "noanonymous", NO_ANONYMOUS },
        { "mutual_auth", MUTUAL_AUTH },
        { "forward_secrecy", FORWARD_SECRECY },
    };

    slice rest = conf_slice(v->conf, v->line, param);
    slice word;

    while (conf_list_next(&rest, &word)) {
        size_t i = 0;

        while (i < ARRAY_LEN(names) && !slice_ieqs(word, names[i].name))
            i++;
        if (i == ARRAY_LEN(names))
            return err_perm(err, "%s: unknown option %.*s", param,
                            SLF(slice_sub(word, 0, 60)));
        *out |= names[i].bit;
    }
    return 0;
}

int smtp_auth_new(struct smtp_service *v, struct err *err)
{
    struct smtp_server *server = v->server;
    struct tables *t = server->parts.tables;
    struct smtp_auth *a;
    int64_t max;

    if (v->is_pickup || !conf_bool(v->conf, v->line, "smtpd_sasl_auth_enable"))
        return 0;
    if (server->auth == NULL)
        server->auth = auth_client_new(server->parts.process);
    a = v->auth = xcalloc(1, sizeof *a);
    a->client = server->auth;
    a->service = conf_str(v->conf, v->line, "smtpd_sasl_service");
    a->local_domain = conf_slice(v->conf, v->line, "smtpd_sasl_local_domain");
    max = conf_int(v->conf, v->line, "smtpd_sasl_response_limit");
    a->response_max = max > RESPONSE_MAX ? RESPONSE_MAX
                      : max < 128        ? 128
                                         : (size_t)max;
    a->is_broken_too = conf_bool(v->conf, v->line, "broken_sasl_auth_clients");
    a->shows_sender =
        conf_bool(v->conf, v->line, "smtpd_sasl_authenticated_header");
    if (read_options(v, "smtpd_sasl_security_options", &a->options, err) < 0 ||
        read_options(v, "smtpd_sasl_tls_security_options", &a->tls_options,
                     err) < 0 ||
        table_match_new(t, v->conf, v->line, "smtpd_sasl_exceptions_networks",
                        &a->exceptions, err) < 0)
        return -1;
    return table_match_new(t, v->conf, v->line, "smtpd_sasl_mechanism_filter",
                           &a->filter, err);
}

void smtp_auth_free(struct smtp_service *v)
{
    if (v->auth == NULL)
        return;
    table_match_free(&v->auth->exceptions);
    table_match_free(&v->auth->filter);
    free(v->auth);
    v->auth = NULL;
}

void smtp_auth_reset(struct smtp *s)
{
    free(s->sasl_user);
    free(s->sasl_method);
    s->sasl_user = s->sasl_method = NULL;
}

bool smtp_auth_shows_sender(const struct smtp *s)
{
    return s->sasl_user != NULL && s->service->auth != NULL &&
           s->service->auth->shows_sender;
}

/* ---- which mechanisms */

/* What Dovecot says of its mechanisms, for the options. */
static unsigned lacks(slice mech)
{
    unsigned bits = FORWARD_SECRECY;

    if (slice_ieqs(mech, "PLAIN") || slice_ieqs(mech, "LOGIN"))
        bits |= NO_PLAINTEXT | NO_DICTIONARY | NO_ACTIVE;
    if (slice_ieqs(mech, "ANONYMOUS"))
        bits |= NO_ANONYMOUS;
    if (!slice_istarts(mech, SL("SCRAM-")))
        bits |= MUTUAL_AUTH;
    return bits;
}

MAY_WAIT static int is_offered(struct smtp *s, slice mech, bool *out,
                               struct err *err)
{
    const struct smtp_auth *a = s->service->auth;
    unsigned options = stream_is_tls(s->stream) ? a->tls_options : a->options;
    char low[64];
    slice name = slice_lower(s->tx->arena, mech);

    *out = false;
    if ((lacks(mech) & options) || !slice_copy_to(name, low, sizeof low))
        return 0;
    return table_match_string(a->filter, name, out, err);
}

/* The offered mechanisms, with a blank before each. */
MAY_WAIT static int offered(struct smtp *s, struct buf *out, struct err *err)
{
    struct tls_bindings bindings;
    char all[NAMES_MAX];
    slice rest, mech;
    bool ok;

    /* auth hides nothing from SMTP: smtpd_tls_auth_only and the options do. */
    if (auth_client_mechs(s->service->auth->client, true,
                          stream_tls_bindings(s->stream, &bindings), &rest,
                          err) < 0)
        return -1;
    if (!slice_copy_to(rest, all, sizeof all))
        return err_temp(err, "too many mechanisms");
    rest = slice_str(all);
    while (slice_token(&rest, " ", &mech)) {
        if (is_offered(s, mech, &ok, err) < 0)
            return -1;
        if (ok)
            (void)buf_printf(out, " %.*s", SLF(mech));
    }
    return 0;
}

MAY_WAIT static int is_mech(struct smtp *s, slice mech, bool *out,
                            struct err *err)
{
    struct buf names;
    slice rest, word;
    int r;

    *out = false;
    buf_init(&names, NAMES_MAX);
    r = offered(s, &names, err);
    rest = buf_view(&names);
    while (r == 0 && slice_token(&rest, " ", &word))
        *out |= slice_ieq(word, mech);
    buf_done(&names);
    return r;
}

/* smtpd_sasl_exceptions_networks: clients that stumble over AUTH. */
MAY_WAIT static bool is_excepted(struct smtp *s, struct err *err)
{
    bool out = false;

    if (table_match_client(s->service->auth->exceptions, s->tx->policy.name,
                           s->tx->policy.addr, &out, err) < 0)
        return true;
    return out;
}

void smtp_auth_ehlo(struct smtp *s, struct buf *out)
{
    const struct smtp_auth *a = s->service->auth;
    struct err err = { .class = ERR_NONE };
    struct buf names;

    if (a == NULL || (s->service->ehlo_off & EHLO_AUTH) || !smtp_tls_auth_ok(s))
        return;
    (void)smtp_tx_get(s);
    buf_init(&names, NAMES_MAX);
    if (!is_excepted(s, &err) && offered(s, &names, &err) == 0 && names.n > 0) {
        (void)buf_printf(out, "250-AUTH%s\r\n", buf_cstr(&names));
        if (a->is_broken_too)
            (void)buf_printf(out, "250-AUTH=%s\r\n", buf_cstr(&names) + 1);
    }
    if (err.class != ERR_NONE)
        event_text(EV_WARNING, s->service->tag, NULL,
                   "%s: AUTH is not offered: %s", s->client, err.log);
    buf_done(&names);
}

/* ---- the dialogue */

/* What a client sent must not stay in the stream's buffer. */
static void wipe_view(slice view)
{
    char *p;

    memcpy(&p, &view.p, sizeof p);
    if (view.n > 0)
        explicit_bzero(p, view.n);
}

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_done(b);
}

struct dialog {
    struct smtp *s;
    char mech[32];
    struct auth_request *r;
    struct auth_answer answer;
    struct buf response; /* decoded; wiped */
    bool is_over;        /* a reply went out already */
};

/* "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: ...", which
 * fail2ban's filter knows. */
static void log_failure(struct dialog *d, const char *why)
{
    struct smtp *s = d->s;
    const char *user = d->answer.user;

    event_text(EV_WARNING, s->service->tag, NULL,
               "%s: SASL %s authentication failed: %s%s%s", s->client, d->mech,
               why, user[0] != '\0' ? ", sasl_username=" : "", user);
}

MAY_WAIT static int refuse(struct dialog *d)
{
    const char *why =
        d->answer.text.n > 0 ? buf_cstr(&d->answer.text) : NO_REASON;

    d->is_over = true;
    log_failure(d, why);
    if (d->answer.result == AUTH_TEMP)
        return smtp_reply(d->s, 454, "4.7.0",
                          "Temporary authentication failure: %s", why);
    return smtp_reply(d->s, 535, "5.7.8", "Error: authentication failed: %s",
                      why);
}

MAY_WAIT static int trouble(struct dialog *d, const struct err *err)
{
    d->is_over = true;
    if (err->class == ERR_PEER)
        return -1;
    event_text(EV_WARNING, d->s->service->tag, NULL,
               "%s: SASL %s authentication failed: %s", d->s->client, d->mech,
               err->log);
    return smtp_reply(d->s, 454, "4.7.0",
                      "Temporary authentication failure: %s", NO_REASON);
}

MAY_WAIT static int say(struct dialog *d, int code, const char *status,
                        const char *text)
{
    d->is_over = true;
    log_failure(d, text);
    return smtp_reply(d->s, code, status, "%s", text);
}

/* Send the challenge, read the client's line into d->response.  -1: the client
 * is gone; d->is_over: refused. */
MAY_WAIT static int challenge(struct dialog *d)
{
    struct smtp *s = d->s;
    size_t max = s->service->auth->response_max;
    struct buf b;
    struct err err;
    slice line, text;
    int r;

    buf_init(&b, (size_t)2 * AUTH_SERVER_RESPONSE_MAX);
    (void)buf_puts(&b, "334 ");
    (void)base64_put(&b, buf_view(&d->answer.text));
    (void)buf_puts(&b, "\r\n");
    r = stream_write(s->stream, buf_view(&b), &err);
    wipe(&b);
    if (r < 0 || stream_flush(s->stream, &err) < 0)
        return -1;
    stream_deadline(s->stream, loop_after(s->service->timeout_ms));
    if (stream_line(s->stream, max + 2, &line, &err) < 0) {
        s->is_timeout = err.class == ERR_TEMP;
        if (err.class != ERR_PERM)
            return -1;
        s->must_close = true; /* the rest of it is no command */
        return say(d, 500, "5.5.6", "Authentication exchange line is too long");
    }
    text = slice_trim(line);
    if (slice_eqs(text, "*"))
        return say(d, 501, "5.7.0", "Authentication aborted");
    buf_clear(&d->response);
    if (!base64_get(&d->response, text))
        r = say(d, 501, "5.5.2", "Invalid base64 data in response");
    wipe_view(line);
    return r;
}

/* Until auth has decided. */
MAY_WAIT static int talk(struct dialog *d, const struct auth_params *p)
{
    struct err err;
    int r;

    if (auth_begin(d->s->service->auth->client, p, clock_after(ASK_MS), &d->r,
                   &d->answer, &err) < 0)
        return trouble(d, &err);
    while (d->answer.result == AUTH_CONTINUE) {
        r = challenge(d);
        auth_answer_done(&d->answer);
        d->answer = (struct auth_answer){ .result = AUTH_TEMP };
        if (r < 0 || d->is_over) {
            auth_abort(&d->r);
            return r;
        }
        if (auth_continue(&d->r, buf_view(&d->response), clock_after(ASK_MS),
                          &d->answer, &err) < 0)
            return trouble(d, &err);
    }
    return 0;
}

MAY_WAIT static int welcome(struct dialog *d)
{
    struct smtp *s = d->s;
    slice realm = s->service->auth->local_domain;
    const char *user = d->answer.user;

    if (realm.n > 0 && strchr(user, '@') == NULL)
        s->sasl_user = xasprintf("%s@%.*s", user, SLF(realm));
    else
        s->sasl_user = xstrdup(user);
    s->sasl_method = xstrdup(d->mech);
    for (char *p = s->sasl_method; *p != '\0'; p++)
        *p = ascii_upper(*p);
    return smtp_reply(s, 235, "2.7.0", "Authentication successful");
}

/* A client that could bind the channel, and says that we cannot, has been lied
 * to by someone between: auth refuses it.  Where a filter hides the mechanism
 * that is us, so it hears of no binding. */
MAY_WAIT static void bind_channel(struct smtp *s, slice mech,
                                  struct tls_bindings *room,
                                  struct auth_params *p)
{
    const char *plus;
    bool is_shown = slice_iends(mech, SL("-PLUS"));
    struct err err;

    if (!slice_istarts(mech, SL("SCRAM-")) ||
        !stream_tls_bindings(s->stream, room))
        return;
    plus = arena_printf(s->tx->arena, "%.*s-PLUS", SLF(mech));
    if (!is_shown &&
        (plus == NULL || is_mech(s, slice_str(plus), &is_shown, &err) < 0 ||
         !is_shown))
        return;
    p->tls_exporter = slice_of(room->exporter, room->n_exporter);
    p->tls_unique = slice_of(room->unique, room->n_unique);
}

/* `initial` is the base64 text behind the mechanism; p NULL: none. */
MAY_WAIT static int sign_in(struct smtp *s, slice mech, slice initial)
{
    const struct smtp_auth *a = s->service->auth;
    struct dialog *d = ARENA_NEW(s->tx->arena, struct dialog);
    struct auth_params p = {
        .service = a->service,
        .mech = mech,
        .is_tls = stream_is_tls(s->stream),
        .remote_ip = slice_str(s->peer.text),
        .remote_port = s->peer.port,
        .client_name = slice_str(s->helo),
    };
    struct tls_bindings bindings;
    int r = 0;

    bind_channel(s, mech, &bindings, &p);
    d->s = s;
    d->answer.result = AUTH_TEMP;
    (void)slice_copy_to(mech, d->mech, sizeof d->mech);
    buf_init(&d->response, RESPONSE_MAX);
    if (initial.p != NULL && !slice_eqs(initial, "=") &&
        !base64_get(&d->response, initial))
        r = say(d, 501, "5.5.2", "Invalid base64 data in initial response");
    if (initial.p != NULL) {
        p.initial = buf_view(&d->response);
        if (p.initial.p == NULL)
            p.initial = SL("");
    }
    wipe_view(initial);
    if (!d->is_over)
        r = talk(d, &p);
    if (r == 0 && !d->is_over)
        r = d->answer.result == AUTH_OK ? welcome(d) : refuse(d);
    auth_answer_done(&d->answer);
    wipe(&d->response);
    return r;
}

/* ---- the verb */

/* What must hold before anything is asked.  NULL, or the refusal. */
static const char *objection(const struct smtp *s, int *code,
                             const char **status)
{
    const struct smtp_service *v = s->service;

    *code = 503;
    *status = "5.5.1";
    if (v->helo_required && s->helo == NULL)
        return "Error: send HELO/EHLO first";
    if (v->auth == NULL || (v->ehlo_off & EHLO_AUTH))
        return "Error: authentication not enabled";
    if (!smtp_tls_auth_ok(s)) {
        *code = 538;
        *status = "5.7.0";
        return "Encryption required for requested authentication mechanism";
    }
    if (s->sasl_user != NULL)
        return "Error: already authenticated";
    if (s->tx != NULL && s->tx->has_mail)
        return "Error: MAIL transaction in progress";
    return NULL;
}

int smtp_cmd_auth(struct smtp *s, slice args)
{
    slice rest = args;
    slice mech, initial = SLICE_NONE, more;
    const char *status, *why;
    char name[32];
    bool ok;
    struct err err;
    int code;

    why = objection(s, &code, &status);
    if (why != NULL)
        return smtp_reply(s, code, status, "%s", why);
    if (!slice_token(&rest, " \t", &mech) ||
        (slice_token(&rest, " \t", &initial) &&
         slice_token(&rest, " \t", &more)))
        return smtp_reply(s, 501, "5.5.4", "Syntax: AUTH mechanism");
    if (smtp_count(s, ACCESS_EVENT_AUTH, &ok) < 0)
        return -1;
    if (!ok)
        return 0;
    (void)smtp_tx_get(s);
    if (is_mech(s, mech, &ok, &err) < 0)
        return smtp_fail(s, &err);
    if (!ok || !slice_copy_to(mech, name, sizeof name)) {
        event_text(EV_WARNING, s->service->tag, NULL,
                   "%s: SASL %.*s authentication failed: Invalid "
                   "authentication mechanism",
                   s->client, SLF(slice_sub(mech, 0, 31)));
        return smtp_reply(s, 535, "5.7.8",
                          "Error: authentication failed: Invalid "
                          "authentication mechanism");
    }
    return sign_in(s, slice_str(name), initial);
}

/* ---- AUTH= of MAIL */

const char *smtp_auth_param(struct smtp *s, slice value)
{
    struct buf b;
    bool ok;

    if (s->sasl_user == NULL)
        return "Error: send AUTH command first";
    if (s->tx->sasl_sender.n > 0)
        return "Error: multiple AUTH= options";
    buf_init(&b, 1024);
    ok = mail_xtext_get(&b, value);
    if (ok && !slice_eqs(buf_view(&b), "<>"))
        s->tx->sasl_sender = slice_dup(s->tx->arena, buf_view(&b));
    buf_done(&b);
    return ok ? NULL : "Error: bad AUTH= syntax";
}
