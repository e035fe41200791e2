/* IMAP before sign-in (RFC 3501 6.1, 6.2; RFC 2971, 4959, 7888). */
#include "login/login_priv.h"

#define BAD_COMMAND "BAD Error in IMAP command received by server.\r\n"

/* ------------------------------------------------------------------ answers */

static bool offers_starttls(const struct conn *c)
{
    return !c->pre->is_tls && c->service->tls.level != KEYS_NO_TLS &&
           conn_tls_context(c) != NULL;
}

MAY_WAIT static void put_capabilities(struct conn *c, struct buf *out)
{
    slice mechs = conn_mechs(c), mech;

    buf_puts(out, "IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+");
    if (offers_starttls(c))
        buf_puts(out, " STARTTLS");
    if (c->service->plaintext_disabled && !conn_is_secured(c))
        buf_puts(out, " LOGINDISABLED");
    while (slice_token(&mechs, " ", &mech))
        buf_printf(out, " AUTH=%.*s", SLF(mech));
}

MAY_WAIT static int greet(struct conn *c)
{
    struct buf caps;
    int rc;

    buf_init(&caps, 4096);
    put_capabilities(c, &caps);
    rc = conn_printf(c, "* OK [CAPABILITY %s] %.*s\r\n", buf_cstr(&caps),
                     SLF(c->service->greeting));
    buf_done(&caps);
    return rc;
}

MAY_WAIT static int bye(struct conn *c, const char *text)
{
    return conn_printf(c, "* BYE %s\r\n", text);
}

MAY_WAIT static int no(struct conn *c, const char *code, const char *text)
{
    return conn_printf(c, "%s NO [%s] %s\r\n", c->pre->tag, code, text);
}

MAY_WAIT static enum step ok(struct conn *c, const char *text)
{
    c->pre->n_bad = 0;
    return conn_printf(c, "%s OK %s\r\n", c->pre->tag, text) < 0 ? STEP_END
                                                                 : STEP_DONE;
}

MAY_WAIT static enum step bad(struct conn *c, const char *text)
{
    char line[200];

    (void)snprintf(line, sizeof line, "%s BAD %s\r\n", c->pre->tag, text);
    return conn_bad(c, line);
}

/* ----------------------------------------------------------------- commands */

MAY_WAIT static enum step cmd_capability(struct conn *c,
                                         struct imap_words *args UNUSED)
{
    struct buf caps;
    int rc;

    buf_init(&caps, 4096);
    put_capabilities(c, &caps);
    rc = conn_printf(c, "* CAPABILITY %s\r\n", buf_cstr(&caps));
    buf_done(&caps);
    return rc < 0 ? STEP_END
                  : ok(c, "Pre-login capabilities listed, post-login "
                          "capabilities have more.");
}

MAY_WAIT static enum step cmd_noop(struct conn *c,
                                   struct imap_words *args UNUSED)
{
    return ok(c, "NOOP completed.");
}

MAY_WAIT static enum step cmd_logout(struct conn *c,
                                     struct imap_words *args UNUSED)
{
    c->pre->why = "Aborted login by logging out";
    (void)bye(c, "Logging out");
    (void)ok(c, "Logout completed.");
    return STEP_END;
}

static void take_id(struct conn *c, slice key, slice value)
{
    struct pre *p = c->pre;

    if (slice_ieqs(key, "name"))
        (void)slice_copy_to(slice_sub(value, 0, sizeof p->client_name - 1),
                            p->client_name, sizeof p->client_name);
    if (!p->is_trusted)
        return;
    if (slice_ieqs(key, "x-originating-ip"))
        conn_set_remote(c, value, SLICE_NONE);
    else if (slice_ieqs(key, "x-originating-port"))
        conn_set_remote(c, SLICE_NONE, value);
    else if (slice_ieqs(key, "x-session-id") ||
             slice_ieqs(key, "x-session-ext-id"))
        conn_set_session(c, value);
}

/* ID NIL | ( "key" "value" ... ) */
MAY_WAIT static enum step cmd_id(struct conn *c, struct imap_words *args)
{
    slice key, value;
    enum imap_token t = login_imap_token(args, &key);

    if (t != IMAP_OPEN && !(t == IMAP_ATOM && slice_ieqs(key, "NIL")))
        return bad(c, "Error in IMAP command ID: Invalid parameter list");
    while (t == IMAP_OPEN || t == IMAP_STRING) {
        t = login_imap_token(args, &key);
        if (t == IMAP_CLOSE)
            break;
        if (t != IMAP_STRING)
            return bad(c, "Error in IMAP command ID: Invalid parameter list");
        t = login_imap_token(args, &value);
        if (t == IMAP_STRING)
            take_id(c, key, value);
        else if (t == IMAP_ATOM && slice_ieqs(value, "NIL"))
            t = IMAP_STRING;
    }
    if (conn_puts(c, "* ID (\"name\" \"Hato\")\r\n") < 0)
        return STEP_END;
    return ok(c, "ID completed.");
}

MAY_WAIT static enum step cmd_starttls(struct conn *c,
                                       struct imap_words *args UNUSED)
{
    struct pre *p = c->pre;
    struct err err;

    if (c->pre->is_tls)
        return bad(c, "TLS is already active.");
    if (!offers_starttls(c))
        return bad(c, "TLS support isn't enabled.");
    /* Invariant 3: what an attacker put behind the command is not heard inside
     * TLS, and who does so is not served. */
    if (p->in.n > p->in_use || stream_peek(c->client).n > 0) {
        (void)bad(c, "Input behind STARTTLS.");
        p->why = "Disconnected: Input behind STARTTLS";
        return STEP_END;
    }
    if (ok(c, "Begin TLS negotiation now.") == STEP_END ||
        stream_flush(c->client, &err) < 0 || conn_start_tls(c) < 0)
        return STEP_END;
    /* What was said in the clear counts for nothing. */
    p->client_name[0] = '\0';
    buf_clear(&p->user);
    return STEP_DONE;
}

MAY_WAIT static enum step cmd_login(struct conn *c, struct imap_words *args)
{
    slice user, password, rest;
    enum imap_token a = login_imap_token(args, &user);
    enum imap_token b = login_imap_token(args, &password);
    bool refused;
    enum step step;

    if ((a != IMAP_ATOM && a != IMAP_STRING) ||
        (b != IMAP_ATOM && b != IMAP_STRING) ||
        login_imap_token(args, &rest) != IMAP_END)
        return bad(c, "Error in IMAP command LOGIN: Invalid arguments.");
    step = signin_refuse(c, SL("PLAIN"), &refused);
    return refused ? step : signin_plain(c, user, password);
}

MAY_WAIT static enum step cmd_authenticate(struct conn *c,
                                           struct imap_words *args)
{
    slice mech, initial = SLICE_NONE, rest;
    enum imap_token t;
    bool refused;
    enum step step;

    if (login_imap_token(args, &mech) != IMAP_ATOM || mech.n > 20)
        return bad(c, "Error in IMAP command AUTHENTICATE: Missing mechanism.");
    t = login_imap_token(args, &initial);
    if (t != IMAP_END &&
        (t != IMAP_ATOM || login_imap_token(args, &rest) != IMAP_END))
        return bad(c, "Error in IMAP command AUTHENTICATE: Invalid arguments.");
    step = signin_refuse(c, mech, &refused);
    return refused ? step : signin_begin(c, mech, initial);
}

static const struct {
    const char *name;
    enum step (*run)(struct conn *c, struct imap_words *args);
} commands[] = {
    { "LOGIN", cmd_login },           { "AUTHENTICATE", cmd_authenticate },
    { "CAPABILITY", cmd_capability }, { "NOOP", cmd_noop },
    { "LOGOUT", cmd_logout },         { "ID", cmd_id },
    { "STARTTLS", cmd_starttls },
};

/* RFC 3501 9: tag = 1*<any ASTRING-CHAR except "+"> */
static bool is_tag(slice tag)
{
    if (tag.n == 0 || tag.n > 40)
        return false;
    for (size_t i = 0; i < tag.n; i++)
        if ((unsigned char)tag.p[i] <= ' ' || (unsigned char)tag.p[i] >= 0x7f ||
            strchr("(){%*\"\\+", tag.p[i]) != NULL)
            return false;
    return true;
}

MAY_WAIT static enum step command(struct conn *c, struct imap_words words)
{
    slice tag, name;

    if (login_imap_token(&words, &tag) != IMAP_ATOM || !is_tag(tag))
        return conn_bad(c, "* " BAD_COMMAND);
    (void)slice_copy_to(tag, c->pre->tag, sizeof c->pre->tag);
    if (login_imap_token(&words, &name) == IMAP_ATOM)
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
            if (slice_ieqs(name, commands[i].name))
                return commands[i].run(c, &words);
    return bad(c, "Error in IMAP command received by server.");
}

/* A literal that will not be read: the line before it is all there is. */
MAY_WAIT static enum step too_long(struct conn *c, size_t n)
{
    struct imap_words words = { c->pre->in.p, n };
    slice tag = SLICE_NONE;
    enum step step;

    if (login_imap_token(&words, &tag) != IMAP_ATOM || !is_tag(tag))
        tag = SL("*");
    (void)slice_copy_to(tag, c->pre->tag, sizeof c->pre->tag);
    step = bad(c, "Too long argument.");
    buf_consume(&c->pre->in, n);
    c->pre->asked = 0;
    return step;
}

/* The input is consumed when the command is done, since its arguments lie
 * there; sign-in takes what follows along. */
MAY_WAIT static enum step step(struct conn *c)
{
    struct pre *p = c->pre;
    slice in = buf_view(&p->in);
    enum step result;
    ssize_t lf;
    size_t n;

    if (p->request != NULL) {
        lf = slice_chr(in, '\n');
        if (lf < 0)
            return STEP_NONE;
        p->in_use = (size_t)lf + 1;
        result = signin_continue(c, slice_trim(slice_sub(in, 0, (size_t)lf)));
    } else {
        switch (login_imap_extent(in, p->asked, PRE_INPUT_MAX - 2, &n)) {
        case IMAP_NONE:
            return STEP_NONE;
        case IMAP_LITERAL:
            p->asked = n;
            return conn_puts(c, "+ OK\r\n") < 0 ? STEP_END : STEP_DONE;
        case IMAP_TOO_LONG:
            return too_long(c, n);
        case IMAP_FLOOD:
            p->why = "Disconnected: Too long argument";
            (void)bye(c, "Too long argument.");
            return STEP_END;
        case IMAP_COMMAND:
            break;
        }
        p->in_use = n;
        p->asked = 0;
        result = command(c, (struct imap_words){ p->in.p, n });
    }
    if (result == STEP_DONE) { /* STEP_END frees it all soon */
        explicit_bzero(p->in.p, p->in_use);
        buf_consume(&p->in, p->in_use);
        p->in_use = 0;
    }
    return result;
}

const struct login_protocol login_imap = {
    .name = "imap",
    .log = "imap-login",
    .greet = greet,
    .step = step,
    .bye = bye,
    .no = no,
};
