#include "smtp/server/server_priv.h"

#include "ipc/auth_client.h"

#include <sys/socket.h>

static struct smtp_service *find_service(struct smtp_server *server, int index)
{
    list_each(it, &server->services) {
        struct smtp_service *v = CONTAINER_OF(it, struct smtp_service, link);

        if (v->index == index)
            return v;
    }
    return NULL;
}

static int open_passes(struct smtp_server *server, struct err *err)
{
    int fd CLEANUP(close_fd) = -1;

    if (server->parts.passes_fd > 0)
        return access_passes_open(server->parts.passes_fd, &server->passes,
                                  err);
    if (access_passes_create(&fd, err) < 0)
        return -1;
    return access_passes_open(fd, &server->passes, err);
}

/* postscreen hands clients over to the line `smtpd pass`; without one, smtpd
 * has the settings of postscreen's own line. */
static int add_screened(struct smtp_server *server,
                        const struct conf_service *line, struct err *err)
{
    const struct conf_service *behind =
        conf_service_find(server->conf, "smtpd", "pass");
    struct smtp_service *service;

    if (behind == NULL || strcmp(behind->command, "smtpd") != 0)
        behind = line;
    if (smtp_service_new(server, behind, &service, err) < 0)
        return -1;
    service->index = (int)line->index;
    if (server->passes == NULL && open_passes(server, err) < 0)
        return -1;
    return smtp_screen_new(service, line, err);
}

int smtp_server_new(const struct smtp_server_parts *parts,
                    struct smtp_server **out, struct err *err)
{
    struct smtp_server *server = xcalloc(1, sizeof *server);
    struct smtp_service *service;

    server->parts = *parts;
    server->conf = conf_ref(parts->process->conf);
    list_init(&server->services);
    list_init(&server->listeners);
    list_init(&server->sessions);
    server->names = smtp_names_new();
    if (parts->counters_fd >= 0 &&
        access_counters_open(parts->counters_fd, &server->counters, err) < 0)
        goto undo;
    for (size_t i = 0; i < conf_service_count(server->conf); i++) {
        const struct conf_service *line = conf_service_at(server->conf, i);

        if (line->type == CONF_INET &&
            strcmp(line->command, "postscreen") == 0 &&
            add_screened(server, line, err) < 0)
            goto undo;
        if (line->type != CONF_INET || strcmp(line->command, "smtpd") != 0)
            continue;
        if (smtp_service_new(server, line, &service, err) < 0)
            goto undo;
    }
    if (smtp_service_new(server, NULL, &service, err) < 0)
        goto undo;
    *out = server;
    return 0;
undo:
    smtp_server_free(&server);
    return -1;
}

void smtp_service_limit(struct smtp_service *service)
{
    bool is_full =
        service->is_limited && service->n_sessions >= service->max_sessions;

    list_each(it, &service->server->listeners) {
        struct smtp_listener *l = CONTAINER_OF(it, struct smtp_listener, link);

        if (l->service != service)
            continue;
        /* Who comes now waits in the backlog, or for another process. */
        if (is_full)
            listener_pause(l->listener);
        else
            listener_resume(l->listener);
    }
}

static void on_accept(int fd, const struct peer_addr *peer, void *arg)
{
    smtp_session_start(arg, fd, peer);
}

int smtp_server_listen(struct smtp_server *server,
                       const struct process_listener *l, struct err *err)
{
    bool is_pickup = strcmp(l->kind, "pickup") == 0;
    struct smtp_service *service =
        find_service(server, is_pickup ? -1 : l->service);
    struct smtp_listener *listener;

    if (service == NULL) {
        close(l->fd);
        return err_perm(err, "no smtpd service %d for listener %s", l->service,
                        l->where);
    }
    listener = xcalloc(1, sizeof *listener);
    listener->service = service;
    listener->fd = l->fd;
    listener->listener = listener_new(l->fd, on_accept, service);
    list_push(&server->listeners, &listener->link);
    if (service->is_limited)
        smtp_service_limit(service);
    return 0;
}

static void close_listeners(struct smtp_server *server)
{
    struct list *it;

    while ((it = list_pop(&server->listeners)) != NULL) {
        struct smtp_listener *l = CONTAINER_OF(it, struct smtp_listener, link);

        listener_free(&l->listener);
        close(l->fd);
        free(l);
    }
}

void smtp_server_drain(struct smtp_server *server, void (*on_idle)(void *arg),
                       void *arg)
{
    close_listeners(server);
    server->is_draining = true;
    server->on_idle = on_idle;
    server->on_idle_arg = arg;
    if (server->n_sessions == 0)
        on_idle(arg);
}

void smtp_server_close_all(struct smtp_server *server)
{
    close_listeners(server);
    list_each(it, &server->sessions) {
        struct smtp *s = CONTAINER_OF(it, struct smtp, link);

        s->is_shutdown = true;
        if (s->task != NULL)
            task_cancel(s->task); /* a commit under way ends all the same */
        else
            stream_kick(s->stream);
    }
}

size_t smtp_server_sessions(const struct smtp_server *server)
{
    return server->n_sessions;
}

void smtp_server_dump(const struct smtp_server *server, struct buf *out)
{
    (void)buf_printf(out,
                     "sessions %zu, accepted %" PRIu64 ", messages %" PRIu64
                     "%s\n",
                     server->n_sessions, server->n_accepted, server->n_messages,
                     server->is_draining ? ", draining" : "");
    smtp_names_dump(server->names, out);
}

void smtp_server_free(struct smtp_server **sp)
{
    struct smtp_server *server = *sp;

    if (server == NULL)
        return;
    CHECK(server->n_sessions == 0);
    close_listeners(server);
    list_each_safe(it, next, &server->services) {
        struct smtp_service *v = CONTAINER_OF(it, struct smtp_service, link);

        smtp_service_free(&v);
    }
    smtp_names_free(&server->names);
    auth_client_free(&server->auth);
    access_counters_close(&server->counters);
    access_passes_close(&server->passes);
    conf_unref(&server->conf);
    free(server);
    *sp = NULL;
}
