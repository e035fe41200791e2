/* The exchange with auth, and the hand-over to a worker. */
#include "login/login_priv.h"

#include "base/digest.h"

#define AUTH_MS    120000
#define SESSION_MS 90000

static const char internal_error[] =
    "Internal error occurred. Refer to server log for more information.";

/* ---------------------------------------------------------------- hand-over */

static void describe(struct buf *body, const struct conn *c,
                     const struct auth_answer *a)
{
    const struct pre *p = c->pre;
    slice rest = slice_from(buf_view(&p->in), p->in_use);
    slice more = p->is_tls ? SLICE_NONE : stream_peek(c->client);

    attr_put(body, AT_TICKET, slice_of(a->ticket, sizeof a->ticket));
    attr_put_str(body, AT_SERVICE_NAME, c->service->protocol->name);
    attr_put_str(body, AT_SESSION, p->session);
    attr_put_str(body, AT_REMOTE, p->remote);
    attr_put_u64(body, AT_REMOTE_PORT, p->remote_port);
    attr_put_str(body, AT_LOCAL, p->local);
    attr_put_u64(body, AT_LOCAL_PORT, p->local_port);
    attr_put_u64(body, AT_FLAGS, p->is_tls ? 1 : 0);
    attr_put_str(body, AT_TAG, p->tag);
    if (rest.n + more.n > 0) {
        struct buf content;

        buf_init(&content, (size_t)4 * PRE_INPUT_MAX);
        buf_slice(&content, rest);
        buf_slice(&content, more);
        attr_put(body, AT_CONTENT, buf_view(&content));
        buf_done(&content);
    }
}

/* The session is the worker's: from here on this only moves bytes, or, without
 * TLS, forgets it. */
static enum step handed_over(struct conn *c, struct msg *answer)
{
    struct login *g = c->service->login;
    slice handle = SLICE_NONE, user = SLICE_NONE;

    attr_find(answer->body, AT_HANDLE, &handle);
    attr_find(answer->body, AT_USER, &user);
    say_signed_in(c, user, attr_u64_or(answer->body, AT_PID, 0));
    g->n_signed_in++;
    if (!c->pre->is_tls) {
        conn_free(c);
        return STEP_GONE;
    }
    memcpy(c->handle, handle.p, HANDLE_BYTES);
    c->has_handle = true;
    map_put(&g->handles, &c->node, slice_of(c->handle, HANDLE_BYTES));
    conn_leave_pre(c);
    relay_start(c, answer->fds[0]);
    answer->fds[0] = -1;
    login_early_offer(c);
    return STEP_GONE;
}

static bool is_sound(const struct conn *c, const struct msg *answer)
{
    slice handle;

    return attr_find(answer->body, AT_HANDLE, &handle) &&
           handle.n == HANDLE_BYTES &&
           answer->n_fds == (c->pre->is_tls ? 1u : 0u) &&
           map_get(&c->service->login->handles, handle) == NULL;
}

MAY_WAIT static enum step hand_over(struct conn *c, const struct auth_answer *a)
{
    struct login *g = c->service->login;
    struct msg answer;
    struct buf body;
    struct err err;
    int fd = stream_fd(c->client), rc;

    c->pre->n_good++;
    /* The worker writes next. */
    if (stream_flush(c->client, &err) < 0)
        return STEP_END;
    buf_init(&body, 65536);
    describe(&body, c, a);
    rc = link_call(g->broker, BROKER_SESSION, buf_view(&body), &fd,
                   c->pre->is_tls ? 0 : 1, clock_after(SESSION_MS), &answer,
                   &err);
    buf_done(&body);
    if (rc == 0) {
        enum step step = STEP_END;

        if (is_sound(c, &answer))
            step = handed_over(c, &answer);
        msg_free(&answer);
        return step;
    }
    if (err.class == ERR_PERM)
        say_trouble(c, EV_INFO, err.peer);
    else
        say_trouble(c, EV_ERROR, err.log);
    c->pre->n_refused++;
    rc = c->service->protocol->no(
        c, "UNAVAILABLE", err.class == ERR_PERM ? err.peer : internal_error);
    return rc < 0 ? STEP_END : STEP_DONE;
}

/* ---------------------------------------------------------- auth's answers */

MAY_WAIT static enum step failed(struct conn *c, const struct auth_answer *a)
{
    static const struct {
        const char *code, *shown, *text;
    } codes[] = {
        { "temp_fail", "UNAVAILABLE", "Temporary authentication failure." },
        { "authz_fail", "AUTHORIZATIONFAILED", "Authorization failed." },
        { "user_disabled", "AUTHENTICATIONFAILED", "Account is disabled." },
        { "pass_expired", "EXPIRED", "Password expired." },
        { "", "AUTHENTICATIONFAILED", "Authentication failed." },
    };

    const char *code = a->result == AUTH_TEMP ? "temp_fail" : a->code;
    size_t i = 0;
    struct buf text;
    int rc;

    while (i + 1 < ARRAY_LEN(codes) && strcmp(codes[i].code, code) != 0)
        i++;
    c->pre->n_refused++;
    buf_init(&text, 1000);
    if (a->text.n > 0 && a->text.n < 500 &&
        memchr(a->text.p, '\n', a->text.n) == NULL)
        (void)buf_slice(&text, buf_view(&a->text));
    else
        (void)buf_puts(&text, codes[i].text);
    rc = c->service->protocol->no(c, codes[i].shown, buf_cstr(&text));
    buf_done(&text);
    return rc < 0 ? STEP_END : STEP_DONE;
}

MAY_WAIT static enum step challenge(struct conn *c, slice text)
{
    struct buf b;
    struct err err;
    int rc;

    buf_init(&b, (size_t)2 * AUTH_SERVER_RESPONSE_MAX + 100);
    buf_puts(&b, "+ ");
    base64_put(&b, text);
    buf_puts(&b, "\r\n");
    rc = stream_write(c->client, buf_view(&b), &err);
    buf_done(&b);
    return rc < 0 ? STEP_END : STEP_DONE;
}

MAY_WAIT static enum step answered(struct conn *c, int rc,
                                   struct auth_answer *a)
{
    struct pre *p = c->pre;
    enum step step;

    if (rc < 0) {
        p->request = NULL;
        a->result = AUTH_TEMP;
        a->code[0] = '\0';
    }
    if (a->user[0] != '\0' && a->result != AUTH_CONTINUE) {
        buf_clear(&p->user);
        (void)buf_puts(&p->user, a->user);
    }
    if (a->result == AUTH_CONTINUE)
        step = challenge(c, buf_view(&a->text));
    else if (a->result == AUTH_OK && a->has_ticket)
        step = hand_over(c, a);
    else
        step = failed(c, a);
    auth_answer_done(a);
    return step;
}

/* ------------------------------------------------------------ the exchange */

enum step signin_refuse(struct conn *c, slice mech, bool *refused)
{
    const struct login_service *s = c->service;
    bool shows = slice_ieqs(mech, "PLAIN") || slice_ieqs(mech, "LOGIN");

    *refused = true;
    if (conn_is_secured(c)) {
        *refused = false;
        return STEP_DONE;
    }
    if (s->tls.level == KEYS_ENCRYPT)
        return s->protocol->no(c, "PRIVACYREQUIRED",
                               "Authentication not allowed until SSL/TLS is "
                               "enabled.") < 0
                   ? STEP_END
                   : STEP_DONE;
    if (!shows || !s->plaintext_disabled) {
        *refused = false;
        return STEP_DONE;
    }
    c->pre->tried_plaintext = true;
    if (s->protocol == &login_imap &&
        conn_puts(c, "* BAD [ALERT] Plaintext authentication not allowed "
                     "without SSL/TLS, but your client did it anyway. If "
                     "anyone was listening, the password was exposed.\r\n") < 0)
        return STEP_END;
    return s->protocol->no(c, "PRIVACYREQUIRED",
                           "Plaintext authentication disallowed on non-secure "
                           "(SSL/TLS) connections.") < 0
               ? STEP_END
               : STEP_DONE;
}

static void fill_params(struct auth_params *a, const struct conn *c)
{
    const struct pre *p = c->pre;

    *a = (struct auth_params){
        .service = c->service->protocol->name,
        .mech = slice_str(p->mech),
        .secured = conn_is_secured(c),
        .is_tls = p->is_tls,
        .remote_ip = slice_str(p->remote),
        .local_ip = slice_str(p->local),
        .remote_port = p->remote_port,
        .local_port = p->local_port,
        .session = slice_str(p->session),
        .client_name = slice_str(p->client_name),
    };
}

MAY_WAIT static enum step begin(struct conn *c, slice mech, slice initial)
{
    struct login *g = c->service->login;
    struct auth_answer a = { 0 };
    struct auth_params params;
    struct tls_bindings bindings;
    struct err err;
    int rc;

    for (size_t i = 0; i < mech.n; i++)
        c->pre->mech[i] = ascii_upper(mech.p[i]);
    c->pre->mech[mech.n] = '\0';
    c->pre->n_attempts++;
    fill_params(&params, c);
    params.initial = initial;
    if (slice_istarts(mech, SL("SCRAM-")) &&
        stream_tls_bindings(c->client, &bindings)) {
        params.tls_exporter = slice_of(bindings.exporter, bindings.n_exporter);
        params.tls_unique = slice_of(bindings.unique, bindings.n_unique);
    }
    rc = auth_begin(g->auth, &params, clock_after(AUTH_MS), &c->pre->request,
                    &a, &err);
    if (rc < 0)
        say_trouble(c, EV_ERROR, err.log);
    return answered(c, rc, &a);
}

static bool is_mech(slice mech)
{
    if (mech.n == 0 || mech.n >= 20)
        return false;
    for (size_t i = 0; i < mech.n; i++)
        if (!ascii_isalnum(mech.p[i]) && mech.p[i] != '-' && mech.p[i] != '_')
            return false;
    return true;
}

/* "=": there is one, and it is empty (RFC 4959 3). */
static bool decode(slice text, struct buf *out)
{
    buf_init(out, PRE_INPUT_MAX);
    if (buf_reserve(out, 1) == NULL)
        return false; /* so that an empty one is not "none" */
    return slice_eqs(text, "=") || base64_get(out, text);
}

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_done(b);
}

enum step signin_begin(struct conn *c, slice mech, slice initial)
{
    struct buf decoded;
    enum step step;

    if (!is_mech(mech))
        return c->service->protocol->no(
                   c, "AUTHENTICATIONFAILED",
                   "Unsupported authentication mechanism.") < 0
                   ? STEP_END
                   : STEP_DONE;
    if (initial.n == 0)
        return begin(c, mech, SLICE_NONE);
    if (!decode(initial, &decoded)) {
        wipe(&decoded);
        c->pre->n_attempts++;
        c->pre->n_refused++;
        return c->service->protocol->no(c, "AUTHENTICATIONFAILED",
                                        "Invalid base64 data in initial "
                                        "response.") < 0
                   ? STEP_END
                   : STEP_DONE;
    }
    step = begin(c, mech, slice_of(decoded.p, decoded.n));
    wipe(&decoded);
    return step;
}

enum step signin_continue(struct conn *c, slice line)
{
    struct auth_answer a = { 0 };
    struct buf decoded;
    struct err err;
    bool is_star = slice_eqs(line, "*");
    int rc;

    if (is_star || !decode(line, &decoded)) {
        if (!is_star)
            wipe(&decoded);
        auth_abort(&c->pre->request);
        c->pre->is_aborted = true;
        c->pre->n_refused++;
        return c->service->protocol->no(
                   c, "AUTHENTICATIONFAILED",
                   is_star ? "Authentication aborted by client."
                           : "Invalid base64 data in response.") < 0
                   ? STEP_END
                   : STEP_DONE;
    }
    rc = auth_continue(&c->pre->request, slice_of(decoded.p, decoded.n),
                       clock_after(AUTH_MS), &a, &err);
    wipe(&decoded);
    if (rc < 0)
        say_trouble(c, EV_ERROR, err.log);
    return answered(c, rc, &a);
}

enum step signin_plain(struct conn *c, slice user, slice password)
{
    struct buf response;
    enum step step;

    buf_clear(&c->pre->user);
    (void)buf_slice(&c->pre->user, user);
    buf_init(&response, (size_t)2 * PRE_INPUT_MAX);
    (void)buf_byte(&response, '\0');
    (void)buf_slice(&response, user);
    (void)buf_byte(&response, '\0');
    (void)buf_slice(&response, password);
    step = begin(c, SL("PLAIN"), buf_view(&response));
    wipe(&response);
    return step;
}
