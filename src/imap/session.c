/*
 * One session.  Its task runs while there is something to do; in between the
 * session is its struct and a parked stream.
 *
 *     session_task -> commands ... -> imap_session_park -> (input, news of the
 *     mailbox in IDLE, a deadline, imap_session_end) -> session_task
 *
 * Only its task frees a session.
 */
#include "imap/imap_priv.h"

enum {
    LAST_WORDS_MS = 5000, /* for "* BYE" to one that reads nothing */
};

/* ---- making and ending */

static slice pack(char **at, slice v)
{
    slice out = { *at, v.n };

    if (v.n > 0)
        memcpy(*at, v.p, v.n);
    *at += v.n;
    return out;
}

static void copy_texts(struct imap_session *s, const struct imap_start *st)
{
    char *at;

    s->text = xmalloc(st->user.n + st->home.n + st->mail.n + st->session.n +
                      st->remote.n + st->local.n + 1);
    at = s->text;
    s->user = pack(&at, st->user);
    s->home = pack(&at, st->home);
    s->mail = pack(&at, st->mail);
    s->session_id = pack(&at, st->session);
    s->remote = pack(&at, st->remote);
    s->local = pack(&at, st->local);
}

void imap_session_busy(struct imap_session *s, bool is_busy)
{
    const struct imap_parts *parts = &s->server->parts;

    if (s->is_busy == is_busy)
        return;
    s->is_busy = is_busy;
    if (parts->busy != NULL)
        parts->busy(parts->arg, is_busy ? 1 : -1);
}

void imap_session_set_stream(struct imap_session *s, struct stream *stream)
{
    s->stream = stream;
    s->n_read = 0;
    s->n_written = 0;
    /* A line that is too long is seen as such before the buffer is full. */
    if (stream != NULL)
        stream_limits(stream, s->server->line_max + 65536, IMAP_OUT_FLUSH);
}

struct imap_session *imap_session_new(struct imap_server *server,
                                      const struct imap_start *start,
                                      struct stream *stream)
{
    struct imap_session *s = xcalloc(1, sizeof *s);

    s->magic = IMAP_SESSION_MAGIC;
    s->server = server;
    copy_texts(s, start);
    s->is_tls = start->is_tls;
    s->is_relay = start->is_relay;
    s->active_at = loop_now();
    buf_init(&s->early, 2 * server->line_max + start->input.n + 131072);
    if (start->input.n > 0)
        buf_slice(&s->early, start->input);
    if (start->handle != NULL) {
        memcpy(s->handle, start->handle, sizeof s->handle);
        s->has_handle = true;
        map_put(&server->by_handle, &s->node,
                slice_of(s->handle, sizeof s->handle));
    }
    list_push(&server->sessions, &s->link);
    server->n_sessions++;
    imap_session_set_stream(s, stream);
    imap_session_busy(s, stream != NULL);
    return s;
}

static void log_end(const struct imap_session *s)
{
    imap_log(s, EV_INFO,
             "Disconnected: %s in=%" PRIu64 " out=%" PRIu64 " expunged=%" PRIu64
             " fetched=%" PRIu64,
             s->is_logout
                 ? "Logged out"
                 : (s->is_closing ? "Ended by server" : "Connection closed"),
             s->n_in, s->n_out, s->n_expunged, s->n_fetched);
}

void imap_session_free(struct imap_session *s)
{
    struct imap_server *server = s->server;

    CHECK_OBJ(s, IMAP_SESSION_MAGIC);
    if (!s->is_given)
        log_end(s);
    imap_unselect(s);
    imap_packed_free(s);
    store_account_unref(&s->account);
    stream_free(&s->stream);
    if (s->has_handle)
        map_del(&server->by_handle, &s->node);
    list_remove(&s->link);
    server->n_sessions--;
    imap_session_busy(s, false);
    timer_cancel(&s->timer);
    if (s->has_handle && !s->is_given && server->parts.ended != NULL)
        server->parts.ended(server->parts.arg, s->handle);
    buf_done(&s->early);
    free(s->idle_tag);
    free(s->text);
    s->magic = 0;
    free(s);
}

void imap_bye(struct imap_session *s, const char *why)
{
    if (s->is_closing)
        return;
    s->is_closing = true;
    imap_says(s, "* BYE ");
    imap_says(s, why);
    imap_says(s, "\r\n");
}

void imap_session_end(struct imap_session *s, slice why)
{
    if (s->is_kicked)
        return;
    s->is_kicked = true;
    free(s->idle_tag);
    s->idle_tag = NULL;
    buf_clear(&s->early);
    buf_slice(&s->early, why); /* the last words */
    if (s->task != NULL)
        task_cancel(s->task);
    else if (s->stream != NULL)
        stream_kick(s->stream);
    else
        imap_session_spawn(s);
}

/* ---- its work */

MAY_WAIT static void end_idle(struct imap_session *s)
{
    char *tag = s->idle_tag;
    slice line;
    bool ok;

    if (!imap_read_line(s, &line))
        return;
    ok = slice_ieqs(line, "DONE");
    s->idle_tag = NULL;
    s->active_at = loop_now();
    if (imap_sync(s, true)) {
        imap_says(s, tag);
        imap_says(s,
                  ok ? " OK Idle completed.\r\n" : " BAD Expected DONE.\r\n");
    }
    free(tag);
    if (!ok && ++s->n_bad >= IMAP_BAD_MAX)
        imap_bye(s, "Too many invalid IMAP commands.");
}

MAY_WAIT static void work_once(struct imap_session *s)
{
    if (s->idle_tag != NULL) {
        end_idle(s);
        return;
    }
    if (imap_read_command(s) <= 0)
        return;
    imap_command_run(s);
    s->work->claims = 0;
    imap_lanes_settle(s);
}

/* Before anything looks at the mailbox. */
MAY_WAIT static bool awake(struct imap_session *s)
{
    struct err err;

    if (!s->is_packed || imap_unpack(s, &err) == 0)
        return true;
    if (err.class != ERR_PERM)
        imap_log(s, EV_ERROR, "%s", err.log);
    imap_bye(s, err.peer);
    return false;
}

static bool idle_news(const struct imap_session *s)
{
    return s->idle_tag != NULL && s->has_news;
}

/* One step; false: there is nothing to do. */
MAY_WAIT static bool step(struct imap_session *s)
{
    if (imap_has_input(s)) {
        s->is_quiet = false;
        s->park_asked = false;
        if (awake(s))
            work_once(s);
        (void)imap_room(s);
        return true;
    }
    if (s->stream != NULL && imap_fill_now(s))
        return true;
    if (idle_news(s) && !s->park_asked) {
        s->is_quiet = false;
        if (awake(s))
            (void)imap_sync(s, true);
        return true;
    }
    return false;
}

/* All that is there.  False: the client is gone. */
MAY_WAIT static bool work(struct imap_session *s)
{
    for (;;) {
        if (s->is_closing || s->is_broken || s->is_kicked)
            return !s->is_broken;
        if (step(s))
            continue;
        if (s->stream != NULL && stream_eof(s->stream))
            return s->park_asked;
        if (!imap_flush(s))
            return false;
        /* What came while that waited. */
        if (!imap_has_input(s) && !(idle_news(s) && !s->park_asked))
            return true;
    }
}

MAY_WAIT static void on_event(void *arg, enum stream_why why);

void imap_session_park(struct imap_session *s)
{
    msec at = s->active_at + IMAP_IDLE_OUT_MS;
    msec quiet = imap_quiet_at(s);

    if (s->stream == NULL) {
        imap_session_wait_parked(s);
        return;
    }
    if (s->idle_tag != NULL)
        at = s->told_at + s->server->idle_notify_ms;
    if (s->park_asked || quiet < at)
        at = quiet;
    stream_park(s->stream, at, on_event, s);
}

/* The last words of a session that was told to end. */
MAY_WAIT static void say_kicked(struct imap_session *s)
{
    char why[160];

    task_uncancel();
    if (!slice_copy_to(slice_sub(buf_view(&s->early), 0, sizeof why - 1), why,
                       sizeof why) ||
        why[0] == '\0')
        (void)snprintf(why, sizeof why, "Server shutting down.");
    buf_clear(&s->early);
    s->is_kicked = false;
    s->is_broken = false;
    buf_clear(&s->work->out);
    imap_bye(s, why);
}

MAY_WAIT static void farewell(struct imap_session *s)
{
    struct err err;

    if (s->stream == NULL) {
        (void)imap_flush(s);
        return;
    }
    stream_deadline(s->stream, clock_after(LAST_WORDS_MS));
    if (stream_write(s->stream, buf_view(&s->work->out), &err) == 0)
        (void)stream_flush(s->stream, &err);
}

/* A deadline: the next quiet step, the client's last chance, a sign of life. */
MAY_WAIT static void deadline(struct imap_session *s)
{
    if (imap_quiet_at(s) <= loop_now())
        imap_quiet(s);
    else if (s->idle_tag == NULL)
        imap_bye(s, "Disconnected for inactivity.");
    else
        imap_says(s, "* OK Still here\r\n");
}

MAY_WAIT static void sign_in(struct imap_session *s, slice tag)
{
    struct err err;

    if (imap_account(s, &err) < 0) {
        imap_log(s, EV_ERROR, "%s", err.log);
        imap_say(s, tag);
        imap_says(s, " NO [UNAVAILABLE] ");
        imap_says(s, err.peer);
        imap_says(s, "\r\n");
        imap_bye(s, "Mailbox is not available now.");
        return;
    }
    imap_say(s, tag);
    imap_says(s, slice_eqs(tag, "*") ? " PREAUTH [CAPABILITY "
                                     : " OK [CAPABILITY ");
    imap_says(s, imap_capability);
    imap_says(s, "] Logged in\r\n");
}

MAY_WAIT static bool do_work(struct imap_session *s, enum stream_why why,
                             slice tag)
{
    bool is_there;

    if (tag.n > 0)
        sign_in(s, tag);
    else if (why == STREAM_EOF)
        return s->is_kicked;
    else if (why == STREAM_DEADLINE)
        deadline(s);
    is_there = work(s);
    /* It waits at login's: nothing is pinned for it again. */
    if (is_there && s->stream == NULL && !s->is_closing && !s->is_kicked)
        imap_quiet(s);
    return is_there && !s->is_broken;
}

/* Runs the session until it waits again, or is over. */
MAY_WAIT static void run(struct imap_session *s, enum stream_why why, slice tag)
{
    struct imap_work *w = xcalloc(1, sizeof *w);
    bool was_busy = s->is_busy;
    bool is_there;

    imap_session_busy(s, true);
    timer_cancel(&s->timer);
    s->task = task_self();
    s->work = w;
    w->task = s->task;
    buf_init(&w->line, (size_t)IMAP_COMMAND_MAX + 2 * s->server->line_max);
    buf_init(&w->out, IMAP_OUT_MAX);
    is_there = do_work(s, why, tag);
    if (s->is_kicked) {
        say_kicked(s);
        is_there = true;
    }
    if (is_there && s->is_closing)
        farewell(s);
    buf_done(&w->line);
    buf_done(&w->out);
    free(w);
    s->work = NULL;
    s->task = NULL;
    if (!is_there || s->is_closing) {
        imap_session_free(s);
        return;
    }
    if (s->stream == NULL && !was_busy)
        imap_session_busy(s, false);
    imap_session_park(s);
}

void imap_session_run(struct imap_session *s, enum stream_why why)
{
    s->is_spawned = false;
    if (s->is_stale) { /* that was about the stream before this one */
        s->is_stale = false;
        why = STREAM_INPUT;
    }
    if (why == STREAM_EOF && s->park_asked && !s->is_kicked)
        imap_session_parked(s);
    else
        run(s, why, SLICE_NONE);
}

MAY_WAIT static void on_event(void *arg, enum stream_why why)
{
    imap_session_run(arg, why);
}

struct first {
    struct imap_session *session;
    size_t n;
    char tag[];
};

MAY_WAIT static void first_task(void *arg)
{
    struct first *f = arg;

    run(f->session, STREAM_INPUT, slice_of(f->tag, f->n));
    free(f);
}

void imap_session_begin(struct imap_session *s, slice tag)
{
    struct first *f = xcalloc(1, sizeof *f + tag.n + 1);

    f->session = s;
    f->n = tag.n > 0 ? tag.n : 1;
    f->tag[0] = '*'; /* a greeting, when nothing was asked */
    if (tag.n > 0)
        memcpy(f->tag, tag.p, tag.n);
    s->task = task_spawn("imap", first_task, f);
}
