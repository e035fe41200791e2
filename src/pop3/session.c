/* A session's life. */
#include "pop3/pop3_priv.h"

#define IDLE_MS      ((msec)10 * 60 * 1000) /* RFC 1939 3: at least ten minutes */
#define BAD_COMMANDS 20

struct pop3_server *pop3_server_new(const struct pop3_parts *parts)
{
    struct pop3_server *server = xcalloc(1, sizeof *server);

    server->parts = *parts;
    list_init(&server->sessions);
    return server;
}

void pop3_server_set_conf(struct pop3_server *server, const struct conf *conf)
{
    server->parts.conf = conf;
}

size_t pop3_sessions(const struct pop3_server *server)
{
    return server->n_sessions;
}

void pop3_server_free(struct pop3_server **sp)
{
    if (*sp == NULL)
        return;
    CHECK((*sp)->n_sessions == 0);
    free(*sp);
    *sp = NULL;
}

void pop3_dump(const struct pop3_server *server, struct buf *out)
{
    (void)buf_printf(out, "pop3 sessions %zu, ended %" PRIu64 "\n",
                     server->n_sessions, server->n_done);
}

/* ----------------------------------------------------------------- the end */

static void tell_end(const struct pop3_session *s, const char *why)
{
    uint64_t bytes;

    (void)pop3_count(s, &bytes);
    event_text(EV_INFO, "pop3", NULL,
               "pop3(%s)<%d><%s>: Disconnected: %s top=%" PRIu64 "/%" PRIu64
               ", retr=%" PRIu64 "/%" PRIu64 ", del=%" PRIu64
               "/%zu, size=%" PRIu64,
               s->user, (int)getpid(), s->session_id, why, s->n.top,
               s->n.top_bytes, s->n.retr, s->n.retr_bytes, s->n.deleted,
               s->n_messages, bytes);
}

static void session_free(struct pop3_session *s, const char *why)
{
    struct pop3_server *server = s->server;

    tell_end(s, why);
    list_remove(&s->link);
    server->n_sessions--;
    server->n_done++;
    store_mailbox_unref(&s->mailbox);
    store_account_unref(&s->account);
    stream_free(&s->stream);
    if (server->parts.ended != NULL)
        server->parts.ended(server->parts.arg, s->handle);
    if (server->parts.busy != NULL)
        server->parts.busy(server->parts.arg, -1);
    free(s->messages);
    free(s->user);
    free(s->session_id);
    free(s);
}

/* Last words to a client that somebody else ends; it gets no long wait. */
MAY_WAIT static void say_bye(struct pop3_session *s)
{
    struct err err;

    task_uncancel();
    stream_deadline(s->stream, clock_after(2000));
    if (stream_printf(s->stream, &err, "-ERR [SYS/TEMP] %s\r\n", s->why) == 0)
        (void)stream_flush(s->stream, &err);
    session_free(s, s->why);
}

static void end_soon(struct pop3_session *s, slice why)
{
    if (s->is_closing)
        return;
    s->is_closing = true;
    (void)snprintf(s->why, sizeof s->why, "%.*s", SLF(slice_sub(why, 0, 90)));
    if (s->task != NULL)
        task_cancel(s->task);
    else
        stream_kick(s->stream);
}

void pop3_kick(struct pop3_server *server, const uint8_t *handle, slice why)
{
    list_each_safe(it, next, &server->sessions) {
        struct pop3_session *s = CONTAINER_OF(it, struct pop3_session, link);

        if (memcmp(s->handle, handle, sizeof s->handle) == 0)
            end_soon(s, why);
    }
}

void pop3_close_all(struct pop3_server *server, slice why)
{
    list_each_safe(it, next, &server->sessions)
        end_soon(CONTAINER_OF(it, struct pop3_session, link), why);
}

/* --------------------------------------------------------------- the talk */

MAY_WAIT static void on_input(void *arg, enum stream_why why);

/* Answer what is there; false when the session is over, *why its reason. */
MAY_WAIT static bool answer_all(struct pop3_session *s, const char **why)
{
    struct err err;
    slice line;

    for (;;) {
        /* A client that reads slowly has as long as one that sends slowly. */
        stream_deadline(s->stream, clock_after(IDLE_MS));
        if (s->is_closing)
            return false;
        if (stream_has_line(s->stream)) {
            if (stream_line(s->stream, POP3_LINE_MAX, &line, &err) < 0)
                break;
            if (pop3_command(s, line) < 0)
                goto gone;
            task_yield_if_long();
            continue;
        }
        if (stream_peek(s->stream).n > POP3_LINE_MAX)
            break;
        if (stream_fill_now(s->stream))
            continue;
        if (stream_eof(s->stream))
            goto gone;
        if (stream_peek(s->stream).n == 0)
            return true;
        /* Half a line: parking would fire at once, so wait for the rest. */
        if (stream_flush(s->stream, &err) < 0 ||
            stream_fill(s->stream, &err) < 0)
            goto gone;
    }
    *why = "Input line too long";
    (void)stream_puts(s->stream, "-ERR Input line too long.\r\n", &err);
    (void)stream_flush(s->stream, &err);
    s->is_closing = true;
    return false;
gone:
    if (s->why[0] == '\0')
        *why = "Connection closed";
    return false;
}

MAY_WAIT static void session_run(struct pop3_session *s)
{
    const char *why = "Logged out";
    struct err err;
    bool goes_on = answer_all(s, &why);

    if (s->why[0] != '\0') { /* kicked */
        say_bye(s);
        return;
    }
    if (stream_flush(s->stream, &err) < 0) {
        why = "Connection closed";
        goes_on = false;
    }
    if (!goes_on) {
        session_free(s, why);
        return;
    }
    s->task = NULL;
    stream_park(s->stream, clock_after(IDLE_MS), on_input, s);
}

MAY_WAIT static void on_input(void *arg, enum stream_why why)
{
    struct pop3_session *s = arg;
    struct err err;

    s->task = task_self();
    if (s->why[0] != '\0') {
        say_bye(s);
    } else if (why == STREAM_DEADLINE) {
        stream_deadline(s->stream, clock_after(2000));
        if (stream_puts(s->stream, "-ERR Disconnected for inactivity.\r\n",
                        &err) == 0)
            (void)stream_flush(s->stream, &err);
        session_free(s, "Disconnected for inactivity");
    } else {
        session_run(s);
    }
}

struct opening {
    struct pop3_session *s;
    char *user, *mail;
    struct buf input; /* what followed the sign-in */
};

MAY_WAIT static void open_session(void *arg)
{
    struct opening *o = arg;
    struct pop3_session *s = o->s;
    slice user = slice_str(o->user), mail = slice_str(o->mail);
    struct err err;
    bool ok;

    s->task = task_self();
    stream_deadline(s->stream, clock_after(IDLE_MS));
    ok = pop3_open(s, user, mail, &err) == 0;
    if (ok) {
        stream_unread(s->stream, buf_view(&o->input));
        ok = stream_puts(s->stream, "+OK Logged in.\r\n", &err) == 0;

    } else if (err.class != ERR_PEER) {
        event_text(EV_ERROR, "pop3", NULL, "pop3(%s)<%d><%s>: %s", s->user,
                   (int)getpid(), s->session_id, err.log);
        (void)stream_puts(s->stream,
                          "-ERR [SYS/TEMP] Internal error occurred. Refer to "
                          "server log for more information.\r\n",
                          &err);
        (void)stream_flush(s->stream, &err);
    }

    buf_done(&o->input);
    free(o->user);
    free(o->mail);
    free(o);
    if (ok)
        session_run(s);
    else if (s->why[0] != '\0')
        say_bye(s);
    else
        session_free(s, "Mailbox not opened");
}

void pop3_start(struct pop3_server *server, const struct imap_start *start)
{
    struct pop3_session *s = xcalloc(1, sizeof *s);
    struct opening *o = xcalloc(1, sizeof *o);

    s->server = server;
    s->stream = stream_from_fd(start->fd);
    s->user = slice_xstrdup(start->user);
    s->session_id = slice_xstrdup(start->session);
    memcpy(s->handle, start->handle, sizeof s->handle);
    list_push(&server->sessions, &s->link);
    server->n_sessions++;
    if (server->parts.busy != NULL)
        server->parts.busy(server->parts.arg, 1);
    o->s = s;
    o->user = slice_xstrdup(start->user);
    o->mail = slice_xstrdup(start->mail);
    buf_init(&o->input, 65536);
    (void)buf_slice(&o->input, start->input);
    s->task = task_spawn("pop3", open_session, o);
}
