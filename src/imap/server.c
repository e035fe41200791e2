/* The sessions of a worker. */
#include "imap/park.h"

struct imap_server *imap_server_new(const struct imap_parts *parts)
{
    struct imap_server *server = xcalloc(1, sizeof *server);

    server->parts = *parts;
    list_init(&server->sessions);
    map_init(&server->by_handle, false);
    map_init(&server->groups, false);
    list_init(&server->round);
    server->pack_above = IMAP_PACK_ABOVE;
    server->quiet_ms = IMAP_QUIET_MS;
    server->quiet_idle_ms = IMAP_QUIET_IDLE_MS;
    store_on_change(parts->store, imap_peek_changed, server);
    imap_server_set_conf(server, parts->conf);
    return server;
}

void imap_server_set_conf(struct imap_server *server, const struct conf *conf)
{
    server->parts.conf = conf;
    server->idle_notify_ms =
        conf_time(conf, NULL, "imap_idle_notify_interval") * 1000;
    if (server->idle_notify_ms <= 0)
        server->idle_notify_ms = MSEC_NEVER / 2;
    server->line_max = (size_t)conf_size(conf, NULL, "imap_max_line_length");
    server->no_sync = strcmp(conf_str(conf, NULL, "mail_fsync"), "never") == 0;
}

void imap_server_free(struct imap_server **sp)
{
    struct imap_server *server = *sp;

    if (server == NULL)
        return;
    CHECK(server->n_sessions == 0 && !server->is_looking);
    store_on_change(server->parts.store, NULL, NULL);
    timer_cancel(&server->round_timer);
    map_done(&server->groups);
    *sp = NULL;
    map_done(&server->by_handle);
    free(server);
}

size_t imap_sessions(const struct imap_server *server)
{
    return server->n_sessions;
}

void imap_start(struct imap_server *server, const struct imap_start *start)
{
    struct imap_session *s =
        imap_session_new(server, start, stream_from_fd(start->fd));

    imap_session_begin(s, start->tag);
}

static struct imap_session *find(struct imap_server *server,
                                 const uint8_t *handle)
{
    struct map_node *n = map_get(&server->by_handle, slice_of(handle, 16));

    return n != NULL ? CONTAINER_OF(n, struct imap_session, node) : NULL;
}

void imap_kick(struct imap_server *server, const uint8_t *handle, slice why)
{
    struct imap_session *s = find(server, handle);

    if (s != NULL)
        imap_session_end(s, why);
}

void imap_drop(struct imap_server *server, const uint8_t *handle)
{
    struct imap_session *s = find(server, handle);

    if (s == NULL)
        return;
    if (s->stream == NULL && s->task == NULL && !s->is_spawned)
        imap_session_free(s);
    else
        imap_session_end(s, SL("Connection closed."));
}

void imap_close_all(struct imap_server *server, slice why)
{
    list_each_safe(it, next, &server->sessions)
        imap_session_end(CONTAINER_OF(it, struct imap_session, link), why);
}

void imap_dump(const struct imap_server *server, struct buf *out)
{
    (void)buf_printf(out, "imap sessions %zu\n", server->n_sessions);
    list_each(it, &server->sessions) {
        const struct imap_session *s =
            CONTAINER_OF(it, struct imap_session, link);

        (void)buf_printf(out, "imap user=%.*s remote=%.*s%s%s%s\n",
                         SLF(s->user), SLF(s->remote),
                         s->selected != NULL ? " selected" : "",
                         s->idle_tag != NULL ? " idle" : "",
                         s->stream == NULL ? " parked" : "");
    }
}
