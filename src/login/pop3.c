/* POP3 before sign-in (RFC 1939 7, 2449, 2595, 3206, 5034). */
#include "login/login_priv.h"

static bool offers_stls(const struct conn *c)
{
    return !c->pre->is_tls && c->service->tls.level != KEYS_NO_TLS &&
           conn_tls_context(c) != NULL;
}

MAY_WAIT static int greet(struct conn *c)
{
    return conn_printf(c, "+OK %.*s\r\n", SLF(c->service->greeting));
}

MAY_WAIT static int bye(struct conn *c, const char *text)
{
    return conn_printf(c, "-ERR %s\r\n", text);
}

/* RFC 3206: AUTH for what the user can cure, SYS/TEMP for what he cannot. */
MAY_WAIT static int no(struct conn *c, const char *code, const char *text)
{
    bool is_temp = strcmp(code, "UNAVAILABLE") == 0;

    return conn_printf(c, "-ERR [%s] %s\r\n", is_temp ? "SYS/TEMP" : "AUTH",
                       text);
}

MAY_WAIT static enum step ok(struct conn *c, const char *text)
{
    c->pre->n_bad = 0;
    return conn_printf(c, "+OK%s%s\r\n", text[0] != '\0' ? " " : "", text) < 0
               ? STEP_END
               : STEP_DONE;
}

MAY_WAIT static enum step cmd_capa(struct conn *c, slice args UNUSED)
{
    bool may_show = !c->service->plaintext_disabled || conn_is_secured(c);
    slice mechs = conn_mechs(c);

    c->pre->n_bad = 0;
    return conn_printf(c,
                       "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\n"
                       "PIPELINING\r\nAUTH-RESP-CODE\r\n%s%sSASL%s%.*s\r\n"
                       ".\r\n",
                       offers_stls(c) ? "STLS\r\n" : "",
                       may_show ? "USER\r\n" : "", mechs.n > 0 ? " " : "",
                       SLF(mechs)) < 0
               ? STEP_END
               : STEP_DONE;
}

MAY_WAIT static enum step cmd_user(struct conn *c, slice args)
{
    enum step step;
    bool refused;

    step = signin_refuse(c, SL("PLAIN"), &refused);
    if (refused)
        return step;
    if (args.n == 0 || memchr(args.p, '\0', args.n) != NULL)
        return conn_bad(c, "-ERR Invalid user name.\r\n");
    buf_clear(&c->pre->user);
    (void)buf_slice(&c->pre->user, args);
    c->pre->has_user = true;
    return ok(c, "");
}

MAY_WAIT static enum step cmd_pass(struct conn *c, slice args)
{
    struct buf user;
    enum step step;

    if (!c->pre->has_user)
        return conn_bad(c, "-ERR No username given.\r\n");
    if (args.n > 0 && memchr(args.p, '\0', args.n) != NULL)
        return conn_bad(c, "-ERR Invalid password.\r\n");
    c->pre->has_user = false;
    buf_init(&user, PRE_INPUT_MAX);
    (void)buf_slice(&user, buf_view(&c->pre->user));
    step = signin_plain(c, buf_view(&user), args);
    buf_done(&user);
    return step;
}

MAY_WAIT static enum step cmd_auth(struct conn *c, slice args)
{
    slice mech, initial = slice_trim(args), mechs;
    enum step step;
    bool refused;

    if (args.n == 0) {
        if (conn_puts(c, "+OK\r\n") < 0)
            return STEP_END;
        for (mechs = conn_mechs(c); slice_token(&mechs, " ", &mech);)
            if (conn_printf(c, "%.*s\r\n", SLF(mech)) < 0)
                return STEP_END;
        return conn_puts(c, ".\r\n") < 0 ? STEP_END : STEP_DONE;
    }
    if (!slice_cut(&initial, ' ', &mech))
        initial = SLICE_NONE;
    if (mech.n > 20)
        return conn_bad(c, "-ERR Unsupported authentication mechanism.\r\n");
    step = signin_refuse(c, mech, &refused);
    return refused ? step : signin_begin(c, mech, slice_trim(initial));
}

MAY_WAIT static enum step cmd_stls(struct conn *c, slice args UNUSED)
{
    struct pre *p = c->pre;
    struct err err;

    if (p->is_tls)
        return conn_bad(c, "-ERR TLS is already active.\r\n");
    if (!offers_stls(c))
        return conn_bad(c, "-ERR TLS support isn't enabled.\r\n");
    /* Invariant 3, as IMAP's STARTTLS. */
    if (p->in.n > p->in_use || stream_peek(c->client).n > 0) {
        (void)conn_bad(c, "-ERR Input behind STLS.\r\n");
        p->why = "Disconnected: Input behind STLS";
        return STEP_END;
    }
    if (ok(c, "Begin TLS negotiation now.") == STEP_END ||
        stream_flush(c->client, &err) < 0 || conn_start_tls(c) < 0)
        return STEP_END;
    buf_clear(&p->user); /* said in the clear: it counts for nothing */
    p->has_user = false;
    return STEP_DONE;
}

MAY_WAIT static enum step cmd_noop(struct conn *c, slice args UNUSED)
{
    return ok(c, "");
}

MAY_WAIT static enum step cmd_quit(struct conn *c, slice args UNUSED)
{
    c->pre->why = "Aborted login by logging out";
    (void)ok(c, "Logging out");
    return STEP_END;
}

MAY_WAIT static enum step cmd_apop(struct conn *c, slice args UNUSED)
{
    return conn_bad(c, "-ERR APOP not enabled.\r\n");
}

/* XCLIENT ADDR=192.0.2.1 PORT=1234 SESSION=x, of a proxy in
 * login_trusted_networks. */
MAY_WAIT static enum step cmd_xclient(struct conn *c, slice args)
{
    slice word;

    if (!c->pre->is_trusted)
        return conn_bad(c, "-ERR You are not from trusted IP\r\n");
    while (slice_token(&args, " ", &word)) {
        if (slice_istarts(word, SL("ADDR=")))
            conn_set_remote(c, slice_from(word, 5), SLICE_NONE);
        else if (slice_istarts(word, SL("PORT=")))
            conn_set_remote(c, SLICE_NONE, slice_from(word, 5));
        else if (slice_istarts(word, SL("SESSION=")))
            conn_set_session(c, slice_from(word, 8));
    }
    return ok(c, "Updated");
}

static const struct {
    const char *name;
    enum step (*run)(struct conn *c, slice args);
} commands[] = {
    { "CAPA", cmd_capa }, { "USER", cmd_user }, { "PASS", cmd_pass },
    { "AUTH", cmd_auth }, { "STLS", cmd_stls }, { "NOOP", cmd_noop },
    { "QUIT", cmd_quit }, { "APOP", cmd_apop }, { "XCLIENT", cmd_xclient },
};

MAY_WAIT static enum step command(struct conn *c, slice line)
{
    slice args = line, name;

    (void)slice_cut(&args, ' ', &name);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (slice_ieqs(name, commands[i].name))
            return commands[i].run(c, args);
    return conn_bad(c, "-ERR Unknown command.\r\n");
}

MAY_WAIT static enum step step(struct conn *c)
{
    struct pre *p = c->pre;
    slice in = buf_view(&p->in), line;
    ssize_t lf = slice_chr(in, '\n');
    enum step result;

    if (lf < 0)
        return STEP_NONE;
    p->in_use = (size_t)lf + 1;
    line = slice_sub(in, 0, (size_t)lf);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    result = p->request != NULL ? signin_continue(c, slice_trim(line))
                                : command(c, line);
    if (result == STEP_DONE) {
        explicit_bzero(p->in.p, p->in_use);
        buf_consume(&p->in, p->in_use);
        p->in_use = 0;
    }
    return result;
}

const struct login_protocol login_pop3 = {
    .name = "pop3",
    .log = "pop3-login",
    .greet = greet,
    .step = step,
    .bye = bye,
    .no = no,
};
