/* The talk with one client. */
#include "lmtpd/lmtpd_priv.h"

#include <sys/socket.h>

#define FAREWELL_MS 2000

/* ----------------------------------------------------------------- answers */

int lmtpd_reply(struct lmtpd_session *s, const char *fmt, ...)
{
    struct err err;
    struct buf line;
    va_list ap;
    int r;

    buf_init(&line, 1024);
    va_start(ap, fmt);
    if (!buf_vprintf(&line, fmt, ap))
        line.n = min_size(line.n, 1000);
    va_end(ap);
    if (line.n > 0 && line.p[0] >= '4')
        s->n_bad++;
    /* What came from a peer or a table never breaks the line. */
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.p[i] < ' ' || line.p[i] == 0x7f)
            line.p[i] = '?';
    r = stream_write(s->stream, buf_view(&line), &err);
    buf_done(&line);
    return r < 0 ? -1 : stream_write(s->stream, SL("\r\n"), &err);
}

/* -------------------------------------------------------------- LHLO, MAIL */

static struct tls_context *context(const struct lmtpd_session *s)
{
    struct keyring *ring = s->server->parts.keyring;

    return ring == NULL ? NULL : keyring_context(ring, s->line->service, NULL);
}

static bool offers_tls(const struct lmtpd_session *s)
{
    return s->line->tls.level != KEYS_NO_TLS && !s->line->tls.is_wrapper &&
           s->peer.family != AF_UNIX && !stream_is_tls(s->stream) &&
           context(s) != NULL;
}

MAY_WAIT static int cmd_lhlo(struct lmtpd_session *s, slice args)
{
    struct err err;

    lmtpd_tx_free(s);
    if (args.n == 0 || args.n > 255)
        return lmtpd_reply(s, "501 5.5.4 Syntax: LHLO hostname");
    free(s->helo);
    s->helo = slice_xstrdup(args);
    for (char *p = s->helo; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || strchr("()<>\"\\", *p) != NULL)
            *p = '?';
    return stream_printf(s->stream, &err,
                         "250-%s\r\n250-PIPELINING\r\n250-SIZE %" PRIu64 "\r\n"
                         "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n%s"
                         "250-SMTPUTF8\r\n250 CHUNKING\r\n",
                         s->server->host, s->line->message_max,
                         offers_tls(s) ? "250-STARTTLS\r\n" : "");
}

/* Over this stream from now on.  False: the client is gone. */
MAY_WAIT static bool secure(struct lmtpd_session *s)
{
    struct tls_context *ctx = context(s);
    struct tls_info info;
    struct err err;
    int r;

    if (ctx == NULL)
        return false;
    ctx = tls_context_ref(ctx);
    stream_deadline(s->stream, clock_after(s->line->timeout));
    r = stream_tls_accept(s->stream, ctx, &err);
    tls_context_unref(&ctx);
    if (r < 0) {
        event_text(EV_INFO, "lmtpd", NULL, "lmtp(%d): TLS with %s failed: %s",
                   (int)getpid(), s->client, err.log);
        return false;
    }
    if (stream_tls_info(s->stream, &info))
        event_text(EV_INFO, "lmtpd", NULL, "lmtp(%d): %s: %s with cipher %s",
                   (int)getpid(), s->client, info.protocol, info.cipher);
    return true;
}

/* RFC 3207 */
MAY_WAIT static int cmd_starttls(struct lmtpd_session *s, slice args)
{
    struct err err;

    if (args.n > 0)
        return lmtpd_reply(s, "501 5.5.4 Syntax: STARTTLS");
    if (stream_is_tls(s->stream))
        return lmtpd_reply(s, "554 5.5.1 Error: TLS already active");
    if (!offers_tls(s))
        return lmtpd_reply(s, "502 5.5.1 Error: command not implemented");
    if (stream_peek(s->stream).n > 0) {
        /* What came in the clear must not count as said inside. */
        s->is_closing = true;
        return lmtpd_reply(s, "554 5.5.0 Error: input behind STARTTLS");
    }
    if (lmtpd_reply(s, "220 2.0.0 Ready to start TLS") < 0 ||
        stream_flush(s->stream, &err) < 0 || !secure(s))
        return -1;
    lmtpd_tx_free(s);
    free(s->helo);
    s->helo = NULL;
    return 0;
}

/* SIZE and BODY; what else a client of ours might send is refused.  *code 0
 * when all is well. */
static const char *mail_param(struct lmtpd_session *s,
                              const struct mail_param *p)
{
    uint64_t size;

    if (slice_ieqs(p->key, "SIZE")) {
        if (!slice_u64(p->value, &size))
            return "501 5.5.4 Bad message size syntax";
        if (s->line->message_max > 0 && size > s->line->message_max)
            return "552 5.3.4 Message size exceeds file system imposed limit";
        return NULL;
    }
    if (slice_ieqs(p->key, "BODY"))
        return slice_ieqs(p->value, "7BIT") || slice_ieqs(p->value, "8BITMIME")
                   ? NULL
                   : "501 5.5.4 Error: bad BODY parameter";
    if (slice_ieqs(p->key, "SMTPUTF8"))
        return NULL;
    return "555 5.5.4 Unsupported option";
}

MAY_WAIT static int cmd_mail(struct lmtpd_session *s, slice args)
{
    struct mail_path path;
    struct mail_param p;
    struct arena *arena;
    const char *bad = NULL;
    struct err err;
    int r;

    if (s->helo == NULL)
        return lmtpd_reply(s, "503 5.5.1 Error: send LHLO first");
    if (s->line->tls.level == KEYS_ENCRYPT && s->peer.family != AF_UNIX &&
        !stream_is_tls(s->stream))
        return lmtpd_reply(s, "530 5.7.0 Must issue a STARTTLS command first");
    if (s->tx != NULL)
        return lmtpd_reply(s, "503 5.5.1 Error: nested MAIL command");
    if (!slice_istarts(args, SL("FROM:")))
        return lmtpd_reply(s, "501 5.5.4 Syntax: MAIL FROM:<address>");
    arena = arena_new(LMTPD_TX_ARENA);
    s->tx = ARENA_NEW(arena, struct lmtpd_tx);
    s->tx->arena = arena;
    s->tx->body_fd = -1;
    s->tx->is_coming = true;
    lmtp_syncs_coming(s->server->syncs, 1);
    args = slice_from(args, 5);
    if (mail_path_parse(arena, &args, MAIL_PATH_NULL | MAIL_PATH_8BIT, &path,
                        &err) < 0) {
        lmtpd_tx_free(s);
        return lmtpd_reply(s, "501 5.1.7 Bad sender address syntax");
    }
    s->tx->sender = slice_dup(arena, path.addr);
    while (bad == NULL && (r = mail_param_next(&args, &p)) != 0)
        bad =
            r < 0 ? "501 5.5.4 Syntax error in parameters" : mail_param(s, &p);
    if (bad != NULL) {
        lmtpd_tx_free(s);
        return lmtpd_reply(s, "%s", bad);
    }
    return lmtpd_reply(s, "250 2.1.0 OK");
}

/* ------------------------------------------------------------------- RCPT */

static struct lmtpd_rcpt *add_rcpt(struct lmtpd_tx *tx)
{
    if (tx->n_rcpts == tx->room) {
        size_t room = tx->room == 0 ? 4 : tx->room * 2;
        struct lmtpd_rcpt *v = arena_alloc(tx->arena, room * sizeof *tx->rcpts);

        if (v == NULL)
            return NULL;
        if (tx->n_rcpts > 0)
            memcpy(v, tx->rcpts, tx->n_rcpts * sizeof *v);
        tx->rcpts = v;
        tx->room = room;
    }
    return &tx->rcpts[tx->n_rcpts++];
}

static enum lmtp_kind kind_of(enum user_kind kind)
{
    switch (kind) {
    case USER_FILE:
        return LMTP_FILE;
    case USER_COMMAND:
        return LMTP_COMMAND;
    case USER_MAILBOX:
        break;
    }
    return LMTP_MAILBOX;
}

MAY_WAIT static int cmd_rcpt(struct lmtpd_session *s, slice args)
{
    struct lmtpd_tx *tx = s->tx;
    struct user_place place;
    struct mail_path path;
    struct mail_param p;
    struct lmtpd_rcpt *r;
    struct err err;
    struct buf ext;
    bool found = false;

    if (tx == NULL)
        return lmtpd_reply(s, "503 5.5.1 Error: need MAIL command");
    if (!slice_istarts(args, SL("TO:")))
        return lmtpd_reply(s, "501 5.5.4 Syntax: RCPT TO:<address>");
    if (tx->n_rcpts >= s->line->rcpt_max)
        return lmtpd_reply(s, "452 4.5.3 Error: too many recipients");
    args = slice_from(args, 3);
    if (mail_path_parse(tx->arena, &args, MAIL_PATH_8BIT, &path, &err) < 0)
        return lmtpd_reply(s, "501 5.1.3 Bad recipient address syntax");
    if (mail_param_next(&args, &p) != 0)
        return lmtpd_reply(s, "555 5.5.4 Unsupported option");
    if (users_any(s->server->users, path.addr, tx->arena, &place, &found,
                  &err) < 0) {
        event_text(EV_WARNING, "lmtpd", NULL, "lmtp: %.*s: %s", SLF(path.addr),
                   err.log);
        return lmtpd_reply(s, "451 4.3.0 <%.*s> Temporary internal error",
                           SLF(path.addr));
    }
    if (!found)
        return lmtpd_reply(s, "550 5.1.1 <%.*s> User doesn't exist: %.*s",
                           SLF(path.addr), SLF(path.addr));
    r = add_rcpt(tx);
    if (r == NULL)
        return lmtpd_reply(s, "452 4.5.3 Error: too many recipients");
    *r = (struct lmtpd_rcpt){ .place = {
                                  .kind = kind_of(place.kind),
                                  .uid = place.uid,
                                  .gid = place.gid,
                                  .account = place.account,
                                  .user = place.user,
                                  .home = place.home,
                                  .mail = place.mail,
                                  .arg = place.arg,
                              } };
    buf_init(&ext, (size_t)4 * MAIL_ADDRESS_MAX);
    (void)mail_addr_quote(&ext, path.addr);
    r->addr = slice_dup(tx->arena, buf_view(&ext));
    buf_done(&ext);
    return lmtpd_reply(s, "250 2.1.5 OK");
}

/* -------------------------------------------------------------- the message */

MAY_WAIT static int fill_input(struct lmtpd_session *s)
{
    struct err err;

    if (stream_peek(s->stream).n > 0)
        return 0;
    stream_deadline(s->stream, clock_after(s->line->timeout));
    if (stream_eof(s->stream) || stream_fill(s->stream, &err) < 0 ||
        stream_peek(s->stream).n == 0)
        return -1;
    return 0;
}

/* One answer for each recipient (RFC 2033 4.2). */
MAY_WAIT static int finish(struct lmtpd_session *s)
{
    struct lmtpd_tx *tx = s->tx;
    int result = 0;

    lmtpd_body_finish(s);
    lmtpd_deliver(s);
    stream_deadline(s->stream, clock_after(s->line->timeout));
    for (size_t i = 0; result == 0 && i < tx->n_rcpts; i++) {
        const struct lmtpd_rcpt *r = &tx->rcpts[i];

        if (r->lmtp.code == 250)
            result = lmtpd_reply(s, "250 2.0.0 <%.*s> %s.%u Saved",
                                 SLF(r->addr), s->id, s->n_messages);
        else
            result = lmtpd_reply(s, "%d %s <%.*s> %.*s", r->lmtp.code,
                                 r->lmtp.status, SLF(r->addr),
                                 SLF(slice_sub(r->lmtp.text, 0, 400)));
    }
    lmtpd_tx_free(s);
    return result;
}

MAY_WAIT static int cmd_data(struct lmtpd_session *s, UNUSED slice args)
{
    struct err err;

    if (s->tx == NULL || s->tx->n_rcpts == 0)
        return lmtpd_reply(s, s->tx == NULL
                                  ? "503 5.5.1 Error: need MAIL command"
                                  : "503 5.5.1 Error: no valid recipients");
    if (s->tx->is_bdat)
        return lmtpd_reply(s, "503 5.5.1 Error: DATA after BDAT");
    if (lmtpd_reply(s, "354 OK") < 0 || stream_flush(s->stream, &err) < 0)
        return -1;
    lmtpd_body_begin(s, true);
    while (!s->tx->dot.done) {
        slice in;
        size_t had;

        if (fill_input(s) < 0)
            return -1;
        in = stream_peek(s->stream);
        had = in.n;
        lmtpd_body_feed(s, &in);
        stream_consume(s->stream, had - in.n);
        task_yield_if_long();
    }
    return finish(s);
}

/* `left` bytes of a chunk; of no use when there is no transaction. */
MAY_WAIT static int read_chunk(struct lmtpd_session *s, uint64_t left,
                               bool is_wanted)
{
    while (left > 0) {
        slice in;

        if (fill_input(s) < 0)
            return -1;
        in = stream_peek(s->stream);
        in = slice_sub(in, 0, left < in.n ? (size_t)left : in.n);
        left -= in.n;
        if (is_wanted) {
            slice rest = in;

            lmtpd_body_feed(s, &rest);
        }
        stream_consume(s->stream, in.n);
        task_yield_if_long();
    }
    return 0;
}

/* RFC 3030 2. */
MAY_WAIT static int cmd_bdat(struct lmtpd_session *s, slice args)
{
    struct lmtpd_tx *tx = s->tx;
    bool is_wanted = tx != NULL && tx->n_rcpts > 0;
    bool is_last = false;
    uint64_t size;
    slice word;

    if (!slice_token(&args, " ", &word) || !slice_u64(word, &size) ||
        (slice_token(&args, " ", &word) &&
         !(is_last = slice_ieqs(word, "LAST")))) {
        s->is_closing = true; /* where the next command is nobody knows */
        return lmtpd_reply(s, "501 5.5.4 Syntax: BDAT count [LAST]");
    }
    if (is_wanted && !tx->is_bdat) {
        tx->is_bdat = true;
        lmtpd_body_begin(s, false);
    }
    if (read_chunk(s, size, is_wanted) < 0)
        return -1;
    if (!is_wanted)
        return lmtpd_reply(s, "503 5.5.1 Error: no valid recipients");
    if (is_last)
        return finish(s);
    return lmtpd_reply(s, "250 2.0.0 OK, %" PRIu64 " bytes", size);
}

/* -------------------------------------------------------------- the others */

MAY_WAIT static int cmd_rset(struct lmtpd_session *s, UNUSED slice args)
{
    lmtpd_tx_free(s);
    return lmtpd_reply(s, "250 2.0.0 OK");
}

MAY_WAIT static int cmd_noop(struct lmtpd_session *s, UNUSED slice args)
{
    return lmtpd_reply(s, "250 2.0.0 OK");
}

MAY_WAIT static int cmd_vrfy(struct lmtpd_session *s, UNUSED slice args)
{
    return lmtpd_reply(s, "252 2.3.3 Try RCPT instead");
}

MAY_WAIT static int cmd_quit(struct lmtpd_session *s, UNUSED slice args)
{
    s->is_closing = true;
    return lmtpd_reply(s, "221 2.0.0 Bye");
}

static const struct {
    const char *name;
    MAY_WAIT int (*fn)(struct lmtpd_session *s, slice args);
} commands[] = {
    { "LHLO", cmd_lhlo },         { "MAIL", cmd_mail }, { "RCPT", cmd_rcpt },
    { "DATA", cmd_data },         { "BDAT", cmd_bdat }, { "RSET", cmd_rset },
    { "NOOP", cmd_noop },         { "VRFY", cmd_vrfy }, { "QUIT", cmd_quit },
    { "STARTTLS", cmd_starttls },
};

MAY_WAIT static int command(struct lmtpd_session *s, slice line)
{
    slice args = slice_trim(line);
    slice verb;

    if (!slice_cut(&args, ' ', &verb))
        args = SLICE_NONE;
    args = slice_trim(args);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (slice_ieqs(verb, commands[i].name)) {
            /* RFC 3030 2: chunks are not interrupted. */
            if (s->tx != NULL && s->tx->is_bdat && commands[i].fn != cmd_bdat &&
                commands[i].fn != cmd_rset && commands[i].fn != cmd_quit &&
                commands[i].fn != cmd_noop && commands[i].fn != cmd_data)
                return lmtpd_reply(s, "503 5.5.1 Error: %s after BDAT",
                                   commands[i].name);
            return commands[i].fn(s, args);
        }
    if (slice_ieqs(verb, "HELO") || slice_ieqs(verb, "EHLO"))
        return lmtpd_reply(s, "500 5.5.1 This is LMTP: use LHLO");
    return lmtpd_reply(s, "500 5.5.2 Unknown command");
}

/* ---------------------------------------------------------------- its life */

static void session_free(struct lmtpd_session *s, const char *why)
{
    struct lmtpd *d = s->server;

    event_text(EV_INFO, "lmtpd", NULL, "lmtp(%d): Disconnect from %s: %s",
               (int)getpid(), s->client, why);
    lmtpd_tx_free(s);
    list_remove(&s->link);
    stream_free(&s->stream);
    d->n_sessions--;
    lmtpd_line_count(s->line, -1);
    if (d->is_draining && d->n_sessions == 0)
        d->on_idle(d->on_idle_arg);
    free(s->client);
    free(s->helo);
    free(s);
}

MAY_WAIT static void say_goodbye(struct lmtpd_session *s)
{
    struct err err;

    stream_deadline(s->stream, clock_after(FAREWELL_MS));
    if (lmtpd_reply(s, "421 4.3.2 %s Shutting down", s->server->host) == 0)
        (void)stream_flush(s->stream, &err);
    session_free(s, "Shutting down");
}

/* 1: answered one; 0: nothing complete is there; -1: the end, see *why. */
MAY_WAIT static int next_command(struct lmtpd_session *s, const char **why)
{
    struct err err;
    slice line;

    stream_deadline(s->stream, clock_after(s->line->timeout));
    if (s->is_closing) {
        *why = "Logged out";
        return -1;
    }
    if (!stream_has_line(s->stream) &&
        stream_peek(s->stream).n <= LMTPD_LINE_MAX) {
        if (stream_fill_now(s->stream))
            return 1;
        *why = "Connection closed";
        return stream_eof(s->stream) ? -1 : 0;
    }
    if (stream_line(s->stream, LMTPD_LINE_MAX, &line, &err) < 0) {
        *why = "Line too long";
        (void)lmtpd_reply(s, "500 5.5.2 Line too long");
        /* Unread bytes would turn the end into a reset before the answer. */
        do
            stream_consume(s->stream, stream_peek(s->stream).n);
        while (stream_fill_now(s->stream));
        return -1;
    }
    if (command(s, line) < 0) {
        *why = "Connection closed";
        return -1;
    }
    if (s->n_bad > LMTPD_BAD_MAX) {
        *why = "Too many errors";
        (void)lmtpd_reply(s, "421 4.7.0 Error: too many errors");
        return -1;
    }
    return 1;
}

MAY_WAIT static void on_input(void *arg, enum stream_why why);

MAY_WAIT static void session_run(struct lmtpd_session *s)
{
    const char *why = "";
    struct err err;
    int r;

    for (;;) {
        while ((r = next_command(s, &why)) > 0 && !s->is_ending)
            task_yield_if_long();
        if (stream_flush(s->stream, &err) < 0)
            r = -1;
        if (r < 0 || s->is_ending || stream_peek(s->stream).n == 0)
            break;
        /* Half a line: parking would fire at once, so wait for the rest. */
        if (stream_fill(s->stream, &err) < 0) {
            why = "Connection closed";
            r = -1;
            break;
        }
    }
    if (r < 0)
        session_free(s, why);
    else if (s->is_ending)
        say_goodbye(s);
    else
        stream_park(s->stream, clock_after(s->line->timeout), on_input, s);
}

MAY_WAIT static void on_input(void *arg, enum stream_why why)
{
    struct lmtpd_session *s = arg;
    struct err err;

    if (why == STREAM_KICKED || s->is_ending) {
        say_goodbye(s);
    } else if (why == STREAM_DEADLINE) {
        stream_deadline(s->stream, clock_after(FAREWELL_MS));
        if (lmtpd_reply(s, "421 4.4.2 %s Error: timeout exceeded",
                        s->server->host) == 0)
            (void)stream_flush(s->stream, &err);
        session_free(s, "Timeout");
    } else {
        session_run(s);
    }
}

MAY_WAIT static void greet(void *arg)
{
    struct lmtpd_session *s = arg;
    struct err err;
    bool ok = s->peer.family == AF_UNIX;

    if (s->line->tls.is_wrapper && !ok && !secure(s)) {
        session_free(s, "No TLS");
        return;
    }
    stream_deadline(s->stream, clock_after(s->line->timeout));
    if (!ok && table_match_client(s->line->trusted, SLICE_NONE,
                                  slice_str(s->peer.text), &ok, &err) < 0) {
        event_text(EV_WARNING, "lmtpd", NULL, "lmtp: mynetworks: %s", err.log);
        (void)lmtpd_reply(s, "421 4.3.0 %s Temporary internal error",
                          s->server->host);
        s->is_closing = true;
    } else if (!ok) {
        event_text(EV_WARNING, "lmtpd", NULL,
                   "lmtp: %s is not of mynetworks: refused", s->client);
        (void)lmtpd_reply(s, "554 5.7.1 %s Access denied", s->server->host);
        s->is_closing = true;
    } else {
        (void)lmtpd_reply(s, "220 %s Hato LMTP ready", s->server->host);
    }
    s->n_bad = 0;
    session_run(s);
}

void lmtpd_session_start(struct lmtpd_line *line, int fd,
                         const struct peer_addr *peer)
{
    struct lmtpd_session *s = xcalloc(1, sizeof *s);

    s->server = line->server;
    s->line = line;
    s->peer = *peer;
    s->stream = stream_from_fd(fd);
    stream_limits(s->stream, 256u << 10, 32u << 10);
    s->client = peer->family == AF_UNIX ? xstrdup("local")
                                        : xasprintf("[%s]", peer->text);
    (void)snprintf(s->id, sizeof s->id, "%016" PRIx64, random_u64());
    list_push(&line->server->sessions, &s->link);
    line->server->n_sessions++;
    lmtpd_line_count(line, 1);
    event_text(EV_INFO, "lmtpd", NULL, "lmtp(%d): Connect from %s",
               (int)getpid(), s->client);
    (void)task_spawn("lmtpd", greet, s);
}
