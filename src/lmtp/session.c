#include "lmtp/server_priv.h"

#define TX_ARENA_MAX (64u << 20)
#define IDLE_MS      ((msec)3600 * 1000)
#define BUSY_MS      ((msec)1800 * 1000)
/* Of the arena, for what a recipient is parsed into: trouble of our own must
 * not look like bad syntax. */
#define RCPT_RESERVE ((size_t)8 * LMTP_LINE_MAX)
/* Milliseconds that still are microseconds in 63 bits. */
#define ARRIVAL_MAX (UINT64_C(1) << 50)

struct session {
    struct list link;
    struct lmtp_server *server;
    struct stream *stream;
    struct lmtp_tx *tx;
    struct task *task; /* while it runs */
    bool is_closing;
};

struct lmtp_server *lmtp_server_new(const struct lmtp_server_parts *parts)
{
    struct lmtp_server *server = xcalloc(1, sizeof *server);

    server->parts = *parts;
    list_init(&server->sessions);
    return server;
}

void lmtp_server_set_conf(struct lmtp_server *server, const struct conf *conf)
{
    server->parts.conf = conf;
    server->parts.host = conf_str(conf, NULL, "myhostname");
}

size_t lmtp_server_sessions(const struct lmtp_server *server)
{
    return server->n_sessions;
}

bool lmtp_server_is_idle(const struct lmtp_server *server)
{
    return server->n_busy == 0;
}

void lmtp_server_free(struct lmtp_server **sp)
{
    if (*sp == NULL)
        return;
    CHECK((*sp)->n_sessions == 0);
    free(*sp);
    *sp = NULL;
}

static void session_free(struct session *s)
{
    list_remove(&s->link);
    s->server->n_sessions--;
    lmtp_tx_free(&s->tx);
    stream_free(&s->stream);
    free(s);
}

void lmtp_server_close_all(struct lmtp_server *server)
{
    list_each_safe(it, next, &server->sessions) {
        struct session *s = CONTAINER_OF(it, struct session, link);

        s->is_closing = true;
        if (s->task != NULL)
            task_cancel(s->task);
        else
            stream_kick(s->stream);
    }
}

MAY_WAIT static int reply(struct session *s, const char *text)
{
    struct err err;

    return stream_puts(s->stream, text, &err);
}

MAY_WAIT static int reply_target(struct session *s, const struct lmtp_target *t)
{
    struct err err;
    struct buf line;
    int r;

    buf_init(&line, 2048);
    (void)buf_printf(&line, "%d %s %.*s", t->code, t->status,
                     SLF(slice_sub(t->text, 0, 1000)));
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.p[i] < ' ')
            line.p[i] = '?';
    (void)buf_puts(&line, "\r\n");
    r = stream_write(s->stream, buf_view(&line), &err);
    buf_done(&line);
    return r;
}

/* ---- MAIL */

MAY_WAIT static int cmd_mail(struct session *s, slice args)
{
    struct arena *arena;
    struct mail_path path;
    struct mail_param p;
    struct err err;

    if (s->tx != NULL)
        return reply(s, "503 5.5.1 nested MAIL\r\n");
    if (!slice_istarts(args, SL("FROM:")))
        return reply(s, "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
    arena = arena_new(TX_ARENA_MAX);
    s->tx = ARENA_NEW(arena, struct lmtp_tx);
    s->tx->arena = arena;
    s->tx->body_fd = -1;
    args = slice_from(args, 5);
    if (mail_path_parse(arena, &args, MAIL_PATH_NULL | MAIL_PATH_8BIT, &path,
                        &err) < 0) {
        lmtp_tx_free(&s->tx);
        return reply(s, "501 5.1.7 Bad sender address syntax\r\n");
    }
    s->tx->sender = slice_dup(arena, path.addr);
    while (mail_param_next(&args, &p) > 0) {
        if (slice_ieqs(p.key, "SIZE"))
            (void)slice_u64(p.value, &s->tx->size);
        else if (slice_ieqs(p.key, "XARRIVAL"))
            (void)slice_u64(p.value, &s->tx->arrival_ms);
    }
    if (s->tx->arrival_ms > ARRIVAL_MAX)
        s->tx->arrival_ms = 0; /* now */
    return reply(s, "250 2.1.0 Ok\r\n");
}

/* ---- RCPT */

static bool xtext(struct arena *a, slice v, slice *out)
{
    struct buf b;
    bool ok;

    buf_init(&b, LMTP_LINE_MAX);
    ok = mail_xtext_get(&b, v) && slice_chr(buf_view(&b), '\0') < 0;
    if (ok)
        *out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    return ok;
}

static bool kind_of(slice v, enum lmtp_kind *out)
{
    if (slice_ieqs(v, "mailbox"))
        *out = LMTP_MAILBOX;
    else if (slice_ieqs(v, "file"))
        *out = LMTP_FILE;
    else if (slice_ieqs(v, "command"))
        *out = LMTP_COMMAND;
    else
        return false;
    return true;
}

static bool rcpt_param(struct arena *a, const struct mail_param *p,
                       struct lmtp_target *t)
{
    if (slice_ieqs(p->key, "XID")) {
        t->has_id = hex_get(p->value, t->id, sizeof t->id);
        return t->has_id;
    }
    if (slice_ieqs(p->key, "XKIND"))
        return kind_of(p->value, &t->kind);
    if (slice_ieqs(p->key, "XUSER"))
        return xtext(a, p->value, &t->user);
    if (slice_ieqs(p->key, "XHOME"))
        return xtext(a, p->value, &t->home);
    if (slice_ieqs(p->key, "XMAIL"))
        return xtext(a, p->value, &t->mail);
    if (slice_ieqs(p->key, "XARG"))
        return xtext(a, p->value, &t->arg);
    if (slice_ieqs(p->key, "XORIG"))
        return xtext(a, p->value, &t->orig);
    return false;
}

static struct lmtp_target *add_target(struct lmtp_tx *tx)
{
    if (tx->n_targets == tx->room) {
        size_t room = tx->room == 0 ? 4 : tx->room * 2;
        struct lmtp_target *v =
            arena_alloc(tx->arena, room * sizeof *tx->targets);

        if (v == NULL)
            return NULL;
        if (tx->n_targets > 0)
            memcpy(v, tx->targets, tx->n_targets * sizeof *v);
        tx->targets = v;
        tx->room = room;
    }
    return &tx->targets[tx->n_targets++];
}

MAY_WAIT static int cmd_rcpt(struct session *s, slice args)
{
    struct lmtp_tx *tx = s->tx;
    struct lmtp_target t = { .kind = LMTP_MAILBOX };
    struct lmtp_target *place;
    struct mail_path path;
    struct mail_param p;
    struct err err;
    int r;

    if (tx == NULL)
        return reply(s, "503 5.5.1 need MAIL\r\n");
    if (!slice_istarts(args, SL("TO:")))
        return reply(s, "501 5.5.4 Syntax: RCPT TO:<address>\r\n");
    if (tx->n_targets >= LMTP_RCPTS_MAX ||
        arena_used(tx->arena) + RCPT_RESERVE > arena_cap(tx->arena))
        return reply(s, "452 4.5.3 too many recipients\r\n");
    args = slice_from(args, 3);
    if (mail_path_parse(tx->arena, &args, MAIL_PATH_8BIT, &path, &err) < 0)
        return reply(s, "501 5.1.3 Bad recipient address syntax\r\n");
    t.addr = slice_dup(tx->arena, path.addr);
    while ((r = mail_param_next(&args, &p)) != 0)
        if (r < 0 || !rcpt_param(tx->arena, &p, &t))
            return reply(s, "501 5.5.4 bad parameter\r\n");
    if (tx->n_targets > 0 &&
        (t.kind != LMTP_MAILBOX || tx->kind != LMTP_MAILBOX))
        return reply(s, "452 4.5.3 files and commands come alone\r\n");
    if (t.kind == LMTP_MAILBOX ? t.mail.n == 0 || t.user.n == 0 : t.arg.n == 0)
        return reply(s, "501 5.5.4 account is missing\r\n");
    place = add_target(tx);
    if (place == NULL)
        return reply(s, "452 4.5.3 too many recipients\r\n");
    *place = t;
    tx->kind = t.kind;
    return reply(s, "250 2.1.5 Ok\r\n");
}

/* ---- BDAT */

/* The chunk's bytes into the transaction; `tx` NULL: past it. */
MAY_WAIT static int read_chunk(struct session *s, uint64_t left,
                               struct lmtp_tx *tx)
{
    struct err err;

    while (left > 0) {
        slice in = stream_peek(s->stream);

        if (in.n > 0) {
            slice part = slice_sub(in, 0, left < in.n ? (size_t)left : in.n);

            if (tx != NULL)
                lmtp_tx_write(tx, part);
            left -= part.n;
            stream_consume(s->stream, part.n);
            continue;
        }
        /* A long message must not keep the account's sessions waiting. */
        task_yield_if_long();
        if (stream_eof(s->stream) || stream_fill(s->stream, &err) < 0)
            return -1;
    }
    return 0;
}

static void set_busy(struct lmtp_server *server, int change)
{
    server->n_busy += (size_t)change;
    if (server->parts.busy != NULL)
        server->parts.busy(server->parts.arg, change);
}

MAY_WAIT static int cmd_bdat(struct session *s, slice args)
{
    struct lmtp_tx *tx = s->tx;
    uint64_t size;
    slice word;

    if (!slice_token(&args, " ", &word) || !slice_u64(word, &size) ||
        !slice_token(&args, " ", &word) || !slice_ieqs(word, "LAST")) {
        s->is_closing = true; /* where the next command is nobody knows */
        return reply(s, "501 5.5.4 Syntax: BDAT count LAST\r\n");
    }
    if (tx == NULL || tx->n_targets == 0) {
        int r = read_chunk(s, size, NULL);

        lmtp_tx_free(&s->tx);
        return r < 0 ? -1 : reply(s, "503 5.5.1 no valid recipients\r\n");
    }
    set_busy(s->server, 1);
    lmtp_tx_begin(s->server, tx);
    int r = read_chunk(s, size, tx);
    if (r == 0)
        lmtp_tx_finish(s->server, tx);
    for (size_t i = 0; r == 0 && i < tx->n_targets; i++)
        r = reply_target(s, &tx->targets[i]);
    set_busy(s->server, -1);
    lmtp_tx_free(&s->tx);
    return r;
}

/* ---- the rest */

MAY_WAIT static int cmd_other(struct session *s, slice verb)
{
    if (slice_ieqs(verb, "LHLO"))
        return reply(s, "250-hato\r\n250-PIPELINING\r\n250-CHUNKING\r\n"
                        "250-8BITMIME\r\n250-SMTPUTF8\r\n"
                        "250-ENHANCEDSTATUSCODES\r\n250 XHATO\r\n");
    if (slice_ieqs(verb, "RSET")) {
        lmtp_tx_free(&s->tx);
        return reply(s, "250 2.0.0 Ok\r\n");
    }
    if (slice_ieqs(verb, "NOOP"))
        return reply(s, "250 2.0.0 Ok\r\n");
    if (slice_ieqs(verb, "QUIT")) {
        s->is_closing = true;
        return reply(s, "221 2.0.0 Bye\r\n");
    }
    return reply(s, "500 5.5.2 command not recognized\r\n");
}

MAY_WAIT static int command(struct session *s, slice line)
{
    slice args = slice_trim(line);
    slice verb;

    if (!slice_cut(&args, ' ', &verb)) {
        verb = slice_trim(line);
        args = SLICE_NONE;
    }
    /* The line's bytes go with the next read: what a command keeps it copies
     * into its arena at once. */
    if (slice_ieqs(verb, "MAIL"))
        return cmd_mail(s, args);
    if (slice_ieqs(verb, "RCPT"))
        return cmd_rcpt(s, args);
    if (slice_ieqs(verb, "BDAT"))
        return cmd_bdat(s, args);
    return cmd_other(s, verb);
}

MAY_WAIT static void on_input(void *arg, enum stream_why why);

/* All commands that are there, then flush and wait for more. */
MAY_WAIT static void session_run(struct session *s)
{
    struct err err;
    slice line;

    for (;;) {
        stream_deadline(s->stream, loop_after(BUSY_MS));
        if (s->is_closing)
            break;
        if (stream_has_line(s->stream)) {
            if (stream_line(s->stream, LMTP_LINE_MAX, &line, &err) < 0 ||
                command(s, line) < 0)
                goto gone;
            continue;
        }
        if (stream_peek(s->stream).n > LMTP_LINE_MAX)
            goto gone;
        if (stream_fill_now(s->stream))
            continue;
        if (stream_eof(s->stream) || stream_peek(s->stream).n == 0)
            break;
        /* Half a line: parking would fire at once, so wait for the rest. */
        if (stream_flush(s->stream, &err) < 0 ||
            stream_fill(s->stream, &err) < 0)
            goto gone;
    }
    if (stream_flush(s->stream, &err) < 0 || s->is_closing ||
        stream_eof(s->stream))
        goto gone;
    s->task = NULL;
    stream_park(s->stream, loop_after(IDLE_MS), on_input, s);
    return;
gone:
    session_free(s);
}

MAY_WAIT static void on_input(void *arg, enum stream_why why)
{
    struct session *s = arg;

    if (why == STREAM_KICKED || s->is_closing) {
        session_free(s);
        return;
    }
    s->task = task_self();
    session_run(s);
}

void lmtp_serve(struct lmtp_server *server, int fd)
{
    struct session *s = xcalloc(1, sizeof *s);

    s->server = server;
    s->stream = stream_from_fd(fd);
    stream_limits(s->stream, 256u << 10, 128u << 10);
    list_push(&server->sessions, &s->link);
    server->n_sessions++;
    stream_park(s->stream, loop_after(IDLE_MS), on_input, s);
}
