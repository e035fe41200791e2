/* Giving the line to login and taking it back (ipc/proto.h, LOGIN_PARK). */
#include "imap/park.h"

enum {
    ANSWER_MS = 30000, /* then login did not want it */
};

static const char still_here[] = "* OK Still here\r\n";

MAY_WAIT static void news_task(void *arg)
{
    imap_session_run(arg, STREAM_KICKED);
}

void imap_session_spawn(struct imap_session *s)
{
    if (s->is_spawned || s->task != NULL)
        return;
    s->is_spawned = true;
    (void)task_spawn("imap-news", news_task, s);
}

void imap_session_news(struct imap_session *s)
{
    s->has_news = true;
    /* Nothing may be written between asking and the answer. */
    if (s->idle_tag == NULL || s->park_asked || s->task != NULL)
        return;
    if (s->stream == NULL)
        imap_session_spawn(s);
    else if (stream_is_parked(s->stream))
        stream_kick(s->stream);
}

static void inactive(struct timer *t)
{
    imap_session_end(CONTAINER_OF(t, struct imap_session, timer),
                     SL("Disconnected for inactivity."));
}

void imap_session_wait_parked(struct imap_session *s)
{
    if (s->idle_tag == NULL)
        timer_set(&s->timer, s->active_at + IMAP_IDLE_OUT_MS, inactive);
    else if (s->has_news)
        imap_session_spawn(s);
}

void imap_session_parked(struct imap_session *s)
{
    stream_free(&s->stream);
    s->park_asked = false;
    imap_session_busy(s, false);
    if (s->is_kicked)
        imap_session_spawn(s);
    else
        imap_session_wait_parked(s);
}

/* When the next quiet step is due: MSEC_NEVER: never. */
msec imap_quiet_at(const struct imap_session *s)
{
    bool in_idle = s->idle_tag != NULL;
    msec since = s->active_at > s->told_at ? s->active_at : s->told_at;

    if (s->park_asked)
        return s->asked_at + ANSWER_MS;
    if (s->is_quiet)
        return MSEC_NEVER;
    return since + (in_idle ? s->server->quiet_idle_ms : s->server->quiet_ms);
}

void imap_quiet(struct imap_session *s)
{
    struct imap_server *server = s->server;
    bool in_idle = s->idle_tag != NULL;

    if (s->park_asked) { /* no answer came */
        s->park_asked = false;
        s->is_quiet = true;
        return;
    }
    if (server->n_sessions > server->pack_above && !s->is_packed &&
        !imap_pack(s) && in_idle) {
        /* Told first; the next time it is quiet again. */
        if (!imap_sync(s, true) || !imap_flush(s))
            return;
        (void)imap_pack(s);
    }
    if (s->stream == NULL)
        return;
    s->is_quiet = true;
    if (!s->is_relay || !s->has_handle || server->parts.park == NULL ||
        imap_has_input(s) || s->is_closing || !imap_flush(s))
        return;
    s->park_asked = true;
    s->asked_at = loop_now();
    server->parts.park(server->parts.arg, s->handle, s->n_read, s->n_written,
                       in_idle ? (unsigned)(server->idle_notify_ms / 1000) : 0,
                       in_idle ? SL(still_here) : SLICE_NONE);
}

static struct imap_session *find(struct imap_server *server,
                                 const uint8_t *handle)
{
    struct map_node *n = map_get(&server->by_handle, slice_of(handle, 16));

    return n != NULL ? CONTAINER_OF(n, struct imap_session, node) : NULL;
}

bool imap_wake(struct imap_server *server, const uint8_t *handle, int fd)
{
    return imap_wake_stream(server, handle, stream_from_fd(fd));
}

bool imap_wake_stream(struct imap_server *server, const uint8_t *handle,
                      struct stream *stream)
{
    struct imap_session *s = find(server, handle);

    if (s == NULL || s->is_kicked ||
        (s->stream != NULL && (!s->park_asked || s->task != NULL))) {
        stream_free(&stream);
        return false;
    }
    if (s->stream != NULL) {
        /* The end of the old one has not been seen yet; when it is on its way
         * to us, it is no end any more. */
        s->is_stale = !stream_is_parked(s->stream);
        stream_free(&s->stream);
        s->park_asked = false;
    } else {
        timer_cancel(&s->timer);
        imap_session_busy(s, true);
    }
    imap_session_set_stream(s, stream);
    if (s->task == NULL && !s->is_stale && !s->is_spawned)
        imap_session_park(s);
    return true;
}

int imap_record(struct imap_server *server, const uint8_t *handle,
                struct buf *out, struct err *err)
{
    struct imap_session *s = find(server, handle);

    if (s == NULL || s->stream != NULL || s->task != NULL || s->is_spawned ||
        s->is_kicked)
        return err_temp(err, "session is not parked");
    if (!s->is_packed && !imap_pack(s))
        return err_temp(err, "session has news");
    imap_packed_put(s, out);
    return out->overflow ? err_temp(err, "record is too long") : 0;
}

void imap_give_parked(struct imap_server *server,
                      void (*keep)(void *arg, const uint8_t *handle,
                                   slice record, int watch_fd),
                      void *arg)
{
    struct buf record;
    struct err err;

    buf_init(&record, 1u << 30);
    list_each_safe(it, next, &server->sessions) {
        struct imap_session *s = CONTAINER_OF(it, struct imap_session, link);
        int fd = -1;

        buf_clear(&record);
        if (!s->has_handle || s->stream != NULL ||
            imap_record(server, s->handle, &record, &err) < 0)
            continue;
        if (s->packed != NULL && s->packed->group != NULL)
            fd = store_peek_watch(s->packed->group->path);
        keep(arg, s->handle, buf_view(&record), fd);
        close_fd(&fd);
        s->is_given = true;
        imap_session_free(s);
    }
    buf_done(&record);
}

int imap_restore(struct imap_server *server, const struct imap_start *start,
                 slice record, struct err *err)
{
    struct stream *stream = start->fd >= 0 ? stream_from_fd(start->fd) : NULL;
    struct imap_session *s;

    if (find(server, start->handle) != NULL) {
        stream_free(&stream);
        return err_temp(err, "session is here already");
    }
    s = imap_session_new(server, start, stream);
    if (imap_packed_get(s, record, err) < 0) {
        imap_session_free(s);
        return -1;
    }
    /* What happened meanwhile. */
    s->has_news = s->idle_tag != NULL;
    if (s->stream != NULL) {
        imap_session_park(s);
        return 0;
    }
    imap_session_busy(s, false);
    imap_session_wait_parked(s);
    return 0;
}
