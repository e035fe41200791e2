#include "smtp/server/auth.h"

#include <sys/socket.h>

/* How many commands a task answers before it lets others run. */
#define COMMANDS_A_TURN 20
/* For the last words to a client. */
#define FAREWELL_MS 5000
/* Buffers, where a stream's own limits do not do. */
#define INPUT_MAX  (64u << 10)
#define OUTPUT_MAX (32u << 10)

enum {
    IS_JUNK = 1,  /* smtpd_junk_command_limit counts it */
    IS_LAST = 2,  /* RFC 2920 3.1: the client must wait for the answer */
    IS_PLAIN = 4, /* allowed before TLS where TLS is demanded */
};

struct verb {
    slice name;
    int (*run)(struct smtp *s, slice args);
    unsigned flags;
};

static const struct verb verbs[VERB_N] = {
    [VERB_CONNECT] = { { "CONNECT", 7 }, NULL, 0 },
    [VERB_HELO] = { { "HELO", 4 },
                    smtp_cmd_helo,
                    IS_JUNK | IS_LAST | IS_PLAIN },
    [VERB_EHLO] = { { "EHLO", 4 },
                    smtp_cmd_ehlo,
                    IS_JUNK | IS_LAST | IS_PLAIN },
    [VERB_STARTTLS] = { { "STARTTLS", 8 },
                        smtp_cmd_starttls,
                        IS_LAST | IS_PLAIN },
    [VERB_AUTH] = { { "AUTH", 4 }, smtp_cmd_auth, IS_LAST },
    [VERB_MAIL] = { { "MAIL", 4 }, smtp_cmd_mail, 0 },
    [VERB_RCPT] = { { "RCPT", 4 }, smtp_cmd_rcpt, 0 },
    [VERB_DATA] = { { "DATA", 4 }, smtp_cmd_data, IS_LAST },
    [VERB_BDAT] = { { "BDAT", 4 }, smtp_cmd_bdat, 0 },
    [VERB_RSET] = { { "RSET", 4 }, smtp_cmd_rset, IS_JUNK },
    [VERB_NOOP] = { { "NOOP", 4 },
                    smtp_cmd_noop,
                    IS_JUNK | IS_LAST | IS_PLAIN },
    [VERB_QUIT] = { { "QUIT", 4 }, smtp_cmd_quit, IS_PLAIN },
    [VERB_VRFY] = { { "VRFY", 4 }, smtp_cmd_vrfy, IS_JUNK | IS_LAST },
    [VERB_ETRN] = { { "ETRN", 4 }, smtp_cmd_etrn, IS_JUNK },
    [VERB_HELP] = { { "HELP", 4 }, smtp_cmd_help, IS_JUNK | IS_PLAIN },
    [VERB_UNKNOWN] = { { "UNKNOWN", 7 }, NULL, 0 },
};

slice smtp_verb_name(unsigned verb)
{
    return verb < VERB_N ? verbs[verb].name : SL("UNKNOWN");
}

/* ---- the transaction */

struct smtp_tx *smtp_tx_get(struct smtp *s)
{
    struct smtp_tx *tx = s->tx;

    if (tx == NULL) {
        struct arena *arena = arena_new(SMTP_TX_ARENA_MAX);

        tx = ARENA_NEW(arena, struct smtp_tx);
        tx->arena = arena;
        tx->policy.arena = arena;
        tx->policy.peer = &s->peer;
        smtp_name_policy(s, &tx->policy);
        tx->policy.addr = slice_str(s->peer.text);
        address_list_init(&tx->rcpts, arena);
        if (s->deferred != NULL) {
            (void)snprintf(tx->policy.deferred, sizeof tx->policy.deferred,
                           "%s", s->deferred);
            tx->policy.deferred_stage = s->deferred_stage;
        }
        s->tx = tx;
        smtp_tls_policy(s, tx);
        smtp_verify_policy(s, tx);
    }
    tx->policy.helo = slice_str(s->helo);
    tx->policy.sasl_user = slice_str(s->sasl_user);
    tx->policy.protocol = s->is_esmtp ? SL("ESMTP") : SL("SMTP");
    return tx;
}

/* What DEFER_IF_PERMIT of CONNECT or HELO said outlives the transaction. */
static void deferral_keep(struct smtp *s)
{
    const struct access_session *policy = &s->tx->policy;

    if (policy->deferred[0] == '\0' || policy->deferred_stage > ACCESS_HELO)
        return;
    free(s->deferred);
    s->deferred = xstrdup(policy->deferred);
    s->deferred_stage = policy->deferred_stage;
}

void smtp_tx_reset(struct smtp *s)
{
    struct smtp_tx *tx = s->tx;
    struct arena *arena;

    if (tx == NULL)
        return;
    deferral_keep(s);
    spool_coming_over(&tx->coming);
    smtp_body_free(&tx->body);
    spool_draft_abort(&tx->draft);
    access_reset(&tx->policy);
    s->tx = NULL;
    arena = tx->arena; /* the transaction itself lies in its arena */
    arena_free(&arena);
}

int smtp_check(struct smtp *s, enum access_stage stage, bool *ok)
{
    struct smtp_tx *tx = smtp_tx_get(s);
    struct access_reply reply = { 0 };
    struct err err;

    *ok = false;
    if (s->service->is_pickup) {
        *ok = true;
        return 0;
    }
    /* reject_unauth_pipelining: without ESMTP nothing may come early, with it
     * DATA is a command to wait behind; BDAT's chunk is no command. */
    tx->policy.has_early_input =
        (!s->is_esmtp || (stage == ACCESS_DATA && s->last_verb == VERB_DATA)) &&
        stage != ACCESS_CONNECT && stream_peek(s->stream).n > 0;
    if (access_check(s->service->access, &tx->policy, stage, &reply, &err) < 0)
        return smtp_fail(s, &err);
    if (reply.ok) {
        *ok = true;
        return 0;
    }
    return smtp_reply_line(s, &reply);
}

int smtp_count(struct smtp *s, enum access_event event, bool *ok)
{
    struct smtp_tx *tx = smtp_tx_get(s);
    struct access_reply reply = { 0 };
    struct err err;

    *ok = s->service->is_pickup;
    if (*ok)
        return 0;
    if (access_count(s->service->access, s->service->server->counters,
                     &s->counted, &tx->policy, event, &reply, &err) < 0)
        return smtp_fail(s, &err);
    *ok = reply.ok;
    return reply.ok ? 0 : smtp_reply_line(s, &reply);
}

/* ---- the end of a session */

static void log_disconnect(struct smtp *s)
{
    struct buf b;
    unsigned n_ok = 0;
    unsigned n_all = 0;

    buf_init(&b, 1000);
    (void)buf_printf(&b, "disconnect from %s", s->client);
    for (unsigned v = VERB_HELO; v < VERB_N; v++) {
        if (s->n_all[v] == 0)
            continue;
        n_ok += s->n_ok[v];
        n_all += s->n_all[v];
        (void)buf_byte(&b, ' ');
        for (size_t i = 0; i < verbs[v].name.n; i++)
            (void)buf_byte(&b, ascii_lower(verbs[v].name.p[i]));
        if (s->n_ok[v] == s->n_all[v])
            (void)buf_printf(&b, "=%u", s->n_ok[v]);
        else
            (void)buf_printf(&b, "=%u/%u", s->n_ok[v], s->n_all[v]);
    }
    if (n_ok == n_all)
        (void)buf_printf(&b, " commands=%u", n_all);
    else
        (void)buf_printf(&b, " commands=%u/%u", n_ok, n_all);
    event_text(EV_INFO, s->service->tag, NULL, "%s", buf_cstr(&b));
    buf_done(&b);
}

static void session_free(struct smtp *s)
{
    struct smtp_service *service = s->service;
    struct smtp_server *server = service->server;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    if (s->is_introduced)
        log_disconnect(s);
    else if (service->screen != NULL)
        event_text(EV_INFO, "postscreen", NULL, "DISCONNECT [%s]:%u",
                   s->peer.text, s->peer.port);
    smtp_screen_end(s);
    smtp_notes_free(s);
    smtp_tx_reset(s);
    access_client_gone(server->counters, &s->counted);
    stream_free(&s->stream);
    list_remove(&s->link);
    free(s->helo);
    free(s->client);
    smtp_name_unref(&s->name);
    free(s->login);
    smtp_auth_reset(s);
    free(s->deferred);
    s->magic = 0;
    free(s);
    CHECK(service->n_sessions > 0 && server->n_sessions > 0);
    service->n_sessions--;
    server->n_sessions--;
    if (service->is_limited)
        smtp_service_limit(service);
    if (server->is_draining && server->n_sessions == 0 &&
        server->on_idle != NULL)
        server->on_idle(server->on_idle_arg);
}

int smtp_fill(struct smtp *s)
{
    struct err err;

    stream_deadline(s->stream, loop_after(s->service->timeout_ms));
    if (stream_fill(s->stream, &err) < 0) {
        s->is_timeout = err.class == ERR_TEMP;
        return -1;
    }
    /* Who sends faster than we read must not keep the others waiting. */
    task_yield_if_long();
    return stream_eof(s->stream) && stream_peek(s->stream).n == 0 ? -1 : 0;
}

/* RFC 5321 3.8: the word before we leave by ourselves. */
MAY_WAIT static int say_shutdown(struct smtp *s)
{
    s->must_close = true;
    s->said_quit = true;
    return smtp_reply(s, 421, "4.3.2", "%s Service shutting down",
                      s->service->myhostname);
}

/* The last words to a client that was not asked to go, in a time of its own. */
MAY_WAIT static void farewell(struct smtp *s)
{
    struct err err;
    int r;

    if (s->is_shutdown)
        task_uncancel();
    stream_deadline(s->stream, clock_after(FAREWELL_MS));
    r = s->is_shutdown
            ? say_shutdown(s)
            : smtp_reply(s, 421, "4.4.2", "%s Error: timeout exceeded",
                         s->service->myhostname);
    if (r == 0)
        (void)stream_flush(s->stream, &err);
}

static void log_broken(const struct smtp *s)
{
    slice verb = smtp_verb_name(s->last_verb);
    const char *how = s->is_timeout ? "timeout" : "lost connection";
    const struct smtp_tx *tx = s->tx;
    uint64_t bytes;

    if (tx == NULL || tx->body == NULL) {
        event_text(EV_INFO, s->service->tag, NULL, "%s after %.*s from %s", how,
                   SLF(verb), s->client);
        return;
    }
    bytes = tx->draft != NULL ? spool_draft_bytes(tx->draft) : 0;
    event_text(EV_INFO, s->service->tag, NULL,
               "%s after %.*s (%" PRIu64 " bytes) from %s", how, SLF(verb),
               bytes, s->client);
}

/* The client vanished, was silent too long, or we were told to end. */
MAY_WAIT static void session_broken(struct smtp *s)
{
    s->must_close = true;
    if ((s->is_shutdown || s->is_timeout) && !s->said_quit)
        farewell(s);
    if (!s->said_quit && !s->service->is_pickup)
        log_broken(s);
    smtp_notes_send(s);
    session_free(s);
}

/* ---- commands */

static unsigned find_verb(slice name)
{
    for (unsigned v = VERB_HELO; v < VERB_UNKNOWN; v++)
        if (slice_ieq(verbs[v].name, name))
            return v;
    return VERB_UNKNOWN;
}

/* smtpd_soft_error_limit: each answer of a client that had so many errors
 * before comes late.  It goes out at once then, lest a long run of pipelined
 * commands delays the first answers by all those that follow. */
MAY_WAIT static int slow_down(struct smtp *s, unsigned errors_before)
{
    struct err err;

    if (errors_before < s->service->soft_errors ||
        s->service->error_sleep_ms == 0 || s->service->is_pickup)
        return 0;
    if (task_sleep(s->service->error_sleep_ms, &err) < 0)
        return -1;
    stream_deadline(s->stream, loop_after(s->service->timeout_ms));
    return stream_flush(s->stream, &err);
}

/* Too many errors: say so and end (smtpd_hard_error_limit). */
MAY_WAIT static int limit_errors(struct smtp *s)
{
    if (s->service->is_pickup || s->must_close)
        return 0;
    if (s->n_errors >= s->service->hard_errors) {
        event_text(EV_INFO, s->service->tag, NULL,
                   "too many errors after %.*s from %s",
                   SLF(smtp_verb_name(s->last_verb)), s->client);
        s->must_close = true;
        s->said_quit = true;
        return smtp_reply(s, 421, "4.7.0", "%s Error: too many errors",
                          s->service->myhostname);
    }
    return 0;
}

static bool is_listed(slice list, slice name)
{
    slice word;

    while (conf_list_next(&list, &word))
        if (slice_ieq(word, name))
            return true;
    return false;
}

/* "Subject:" */
static bool is_header(slice name)
{
    slice label = slice_sub(name, 0, name.n - 1);

    if (name.n < 2 || name.p[name.n - 1] != ':')
        return false;
    for (size_t i = 0; i < label.n; i++)
        if ((unsigned char)label.p[i] <= ' ' ||
            (unsigned char)label.p[i] >= 0x7f || label.p[i] == ':')
            return false;
    return true;
}

MAY_WAIT static int access_denied(struct smtp *s)
{
    return smtp_reply(s, 503, "5.7.0", "Error: access denied for %s",
                      s->client);
}

MAY_WAIT static int unknown_command(struct smtp *s, slice name, slice line)
{
    bool is_foreign =
        is_listed(s->service->forbidden_commands, name) || is_header(name);

    if (is_foreign && s->screening != NULL) {
        int r = smtp_screen_foreign(s, line);

        if (r != 0)
            return r < 0 ? -1 : 0;
    }
    /* A web browser that was made to speak to us, or a letter whose envelope
     * was refused: end it before its text is taken for commands. */
    if (is_foreign) {
        event_text(EV_WARNING, s->service->tag, NULL,
                   "non-SMTP command from %s: %.*s", s->client,
                   SLF(slice_sub(line, 0, 100)));
        s->must_close = true;
        s->reply_failed = true;
        return smtp_reply(s, 221, "2.7.0",
                          "Error: I can break rules, too. Goodbye.");
    }
    if (s->is_denied)
        return access_denied(s);
    return smtp_reply(s, 500, "5.5.2", "Error: command not recognized");
}

/* Did the client send more than it may before this command is answered?  -1:
 * it was told to go. */
MAY_WAIT static int check_early_input(struct smtp *s, const struct verb *v)
{
    slice early = stream_peek(s->stream);
    struct err err;

    if (early.n == 0 || s->service->is_pickup || v->run == smtp_cmd_bdat ||
        (s->is_esmtp && !(v->flags & IS_LAST)))
        return 0;
    if (v->run == smtp_cmd_auth)
        early = SL("(not shown)"); /* it may be a password */
    if (!s->was_early)
        event_text(EV_INFO, s->service->tag, NULL,
                   "improper command pipelining after %.*s from %s: %.*s",
                   SLF(v->name), s->client, SLF(slice_sub(early, 0, 100)));
    s->was_early = true;
    if (!s->service->forbids_pipelining)
        return 0;
    s->must_close = true;
    s->said_quit = true;
    if (smtp_reply(s, 554, "5.5.0", "Error: SMTP protocol synchronization") < 0)
        return -1;
    (void)stream_flush(s->stream, &err);
    return -1;
}

MAY_WAIT static int dispatch(struct smtp *s, unsigned v, slice args)
{
    if (s->is_denied && v != VERB_QUIT)
        return access_denied(s);
    if (smtp_tls_missing(s) && !(verbs[v].flags & IS_PLAIN))
        return smtp_reply(s, 530, "5.7.0",
                          "Must issue a STARTTLS command first");
    if (s->tx != NULL && s->tx->is_bdat && v != VERB_BDAT && v != VERB_RSET &&
        v != VERB_QUIT && v != VERB_NOOP)
        return smtp_reply(s, 503, "5.5.1", "Error: %s after BDAT",
                          verbs[v].name.p);
    if (check_early_input(s, &verbs[v]) < 0)
        return -1;
    return verbs[v].run(s, args);
}

/* Cut the verb off; *args is what stands behind it. */
static slice cut_verb(slice line, slice *args)
{
    slice name;

    line = slice_trim(line);
    name = line;
    *args = SLICE_NONE;
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] == ' ' || line.p[i] == '\t') {
            name = slice_sub(line, 0, i);
            *args = slice_trim(slice_from(line, i));
            break;
        }
    return name;
}

/* No verb can be read from it. */
MAY_WAIT static int bad_line(struct smtp *s, const char *why)
{
    s->n_errors++;
    return smtp_reply(s, 500, "5.5.2", "Error: %s", why);
}

MAY_WAIT static int command(struct smtp *s, slice line)
{
    slice args;
    slice name = cut_verb(line, &args);
    unsigned v;
    bool is_noop;
    int r;

    if (s->screening != NULL) {
        r = smtp_screen_line(s, line);
        if (r != 0)
            return r < 0 ? -1 : 0;
    }
    if (s->service->smtputf8 && !mail_utf8_valid(line))
        return bad_line(s, "bad UTF-8 syntax");
    if (name.n == 0)
        return bad_line(s, "bad syntax");
    v = find_verb(name);
    s->last_verb = (unsigned char)v;
    s->n_all[v]++;
    s->reply_failed = false;
    smtp_note_in(s, line);
    is_noop = s->service->noop_commands.n > 0 &&
              is_listed(s->service->noop_commands, name);
    if (is_noop)
        r = smtp_reply(s, 250, "2.0.0", "Ok");
    else if (v == VERB_UNKNOWN)
        r = unknown_command(s, name, line);
    else
        r = dispatch(s, v, args);
    if (s->reply_failed)
        s->n_errors++;
    else
        s->n_ok[v]++;
    if ((is_noop || (verbs[v].flags & IS_JUNK)) &&
        s->n_junk++ > s->service->junk_max)
        s->n_errors++;
    return r;
}

/* A line longer than line_length_limit: it is passed over to its end, within
 * message_size_limit's spirit a client may not feed us forever. */
MAY_WAIT static int overlong_line(struct smtp *s)
{
    size_t passed = 0;

    for (;;) {
        slice in = stream_peek(s->stream);
        ssize_t lf = slice_chr(in, '\n');

        if (lf >= 0) {
            stream_consume(s->stream, (size_t)lf + 1);
            break;
        }
        passed += in.n;
        stream_consume(s->stream, in.n);
        if (passed > 1u << 20) {
            s->must_close = true;
            break;
        }
        if (smtp_fill(s) < 0)
            return -1;
    }
    s->n_errors++;
    s->last_verb = VERB_UNKNOWN;
    s->n_all[VERB_UNKNOWN]++;
    return smtp_reply(s, 500, "5.5.2", "Error: line too long");
}

/* Answer one command.  1: done; 0: none complete; -1: end the session. */
MAY_WAIT static int next_command(struct smtp *s)
{
    unsigned errors = s->n_errors;
    slice line;
    struct err err;
    int r;

    if (!stream_has_line(s->stream)) {
        /* With its CR, a line that is long enough may still end. */
        if (stream_peek(s->stream).n <= s->service->line_max + 1)
            return 0;
        r = overlong_line(s);
    } else if (stream_line(s->stream, s->service->line_max + 2, &line, &err) <
               0) {
        if (err.class != ERR_PERM)
            return -1;
        r = overlong_line(s);
    } else {
        r = command(s, line);
    }
    if (r < 0 || slow_down(s, errors) < 0 || limit_errors(s) < 0)
        return -1;
    return 1;
}

MAY_WAIT static void session_wake(void *arg, enum stream_why why);

/* Nothing to do until the client speaks again. */
static void session_park(struct smtp *s)
{
    s->task = NULL;
    stream_park(s->stream, loop_after(s->service->timeout_ms), session_wake, s);
}

MAY_WAIT static void session_close(struct smtp *s)
{
    struct err err;

    if (s->is_shutdown) { /* the last words still go out */
        task_uncancel();
        stream_deadline(s->stream, clock_after(FAREWELL_MS));
    }
    (void)stream_flush(s->stream, &err);
    smtp_notes_send(s);
    session_free(s);
}

/* Answer all that is complete.  1: nothing complete is left; 0: the session is
 * to be closed; -1: the client is gone. */
MAY_WAIT static int answer_all(struct smtp *s)
{
    unsigned n = 0;

    for (;;) {
        stream_deadline(s->stream, loop_after(s->service->timeout_ms));
        if (s->is_shutdown && !s->must_close && say_shutdown(s) < 0)
            return -1;
        if (s->must_close)
            return 0;
        switch (next_command(s)) {
        case -1:
            return -1;
        case 0:
            if (!stream_fill_now(s->stream))
                return 1;
            break;
        default:
            if (!s->must_close && stream_eof(s->stream) &&
                !stream_has_line(s->stream))
                return 1;
            break;
        }
        if (++n % COMMANDS_A_TURN == 0)
            task_yield();
    }
}

/* Answer, flush, and park until the client speaks again.  With half a line
 * buffered parking would fire at once: then the task waits for the rest. */
MAY_WAIT static void session_run(struct smtp *s)
{
    struct err err;
    int r;

    do {
        r = answer_all(s);
        if (r < 0) {
            session_broken(s);
            return;
        }
        if (r == 0) {
            session_close(s);
            return;
        }
        if (stream_flush(s->stream, &err) < 0 ||
            (stream_peek(s->stream).n > 0 && !stream_eof(s->stream) &&
             stream_fill(s->stream, &err) < 0)) {
            s->is_timeout = err.class == ERR_TEMP;
            session_broken(s);
            return;
        }
        if (stream_eof(s->stream) && !stream_has_line(s->stream)) {
            session_broken(s);
            return;
        }
    } while (stream_peek(s->stream).n > 0);
    session_park(s);
}

MAY_WAIT static void session_wake(void *arg, enum stream_why why)
{
    struct smtp *s = arg;

    CHECK_OBJ(s, SMTP_SESSION_MAGIC);
    s->task = task_self();
    switch (why) {
    case STREAM_INPUT:
    case STREAM_EOF:
        if (!stream_fill_now(s->stream) && stream_eof(s->stream) &&
            stream_peek(s->stream).n == 0) {
            session_broken(s);
            return;
        }
        session_run(s);
        return;
    case STREAM_DEADLINE:
        s->is_timeout = true;
        session_broken(s);
        return;
    case STREAM_KICKED:
        session_run(s);
        return;
    }
}

/* ---- the beginning */

static void set_client(struct smtp *s)
{
    free(s->client);
    if (s->service->logs_port)
        s->client = xasprintf("%s[%s]:%u", smtp_client_name(s), s->peer.text,
                              s->peer.port);
    else
        s->client = xasprintf("%s[%s]", smtp_client_name(s), s->peer.text);
}

/* Who is it? */
MAY_WAIT static int introduce(struct smtp *s)
{
    int rc = smtp_name_find(s);

    if (s->name != NULL)
        set_client(s);
    if (!s->service->is_pickup) {
        event_text(EV_INFO, s->service->tag, NULL, "connect from %s",
                   s->client);
        s->is_introduced = true;
    }
    return rc;
}

void smtp_session_greet(struct smtp *s)
{
    struct smtp_service *service = s->service;
    bool ok = true;
    struct err err;

    if (introduce(s) < 0) {
        session_broken(s);
        return;
    }
    stream_deadline(s->stream, loop_after(service->timeout_ms));
    if (smtp_tls_wrap(s) < 0) {
        session_broken(s);
        return;
    }
    if (s->must_close) {
        session_close(s);
        return;
    }
    if (smtp_count(s, ACCESS_EVENT_CONNECT, &ok) < 0 ||
        (ok && smtp_check(s, ACCESS_CONNECT, &ok) < 0) ||
        (ok && smtp_reply(s, 220, NULL, "%s", service->banner) < 0)) {
        session_broken(s);
        return;
    }
    smtp_tx_reset(s);
    s->is_denied = !ok; /* RFC 5321 3.1 */
    if (s->must_close || s->is_shutdown) {
        session_run(s);
        return;
    }
    /* The client waits for the greeting: no look at its input before. */
    if (stream_flush(s->stream, &err) < 0) {
        s->is_timeout = err.class == ERR_TEMP;
        session_broken(s);
        return;
    }
    session_park(s);
}

void smtp_session_drop(struct smtp *s)
{
    session_free(s);
}

MAY_WAIT static void begin(void *arg)
{
    struct smtp *s = arg;

    s->task = task_self();
    if (s->service->screen != NULL)
        smtp_screen_begin(s);
    else
        smtp_session_greet(s);
}

void smtp_session_start(struct smtp_service *service, int fd,
                        const struct peer_addr *peer)
{
    smtp_session_begin(service, stream_from_own_fd(fd), peer);
}

void smtp_session_begin(struct smtp_service *service, struct stream *stream,
                        const struct peer_addr *peer)
{
    struct smtp *s = xcalloc(1, sizeof *s);

    s->magic = SMTP_SESSION_MAGIC;
    s->service = service;
    s->peer = *peer;
    s->stream = stream;
    /* A buffer that is full must hold more than the longest line. */
    if (service->line_max > INPUT_MAX / 2)
        stream_limits(s->stream, INPUT_MAX + service->line_max, OUTPUT_MAX);
    if (peer->family == AF_UNIX)
        (void)snprintf(s->peer.text, sizeof s->peer.text, "%s", "127.0.0.1");
    set_client(s);
    list_push(&service->server->sessions, &s->link);
    service->n_sessions++;
    service->server->n_sessions++;
    service->server->n_accepted++;
    if (service->is_limited)
        smtp_service_limit(service);
    task_spawn("smtp-greet", begin, s);
}
