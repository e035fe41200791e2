#include "login/login_priv.h"

#include <sys/socket.h>

struct login_listener {
    struct list link;
    struct login_service *service;
    struct listener *listener;
    int fd;
};

/* ------------------------------------------------------ words of the broker */

static struct conn *conn_of(struct login *g, slice body)
{
    slice handle = SLICE_NONE;
    struct map_node *n;

    attr_find(body, AT_HANDLE, &handle);
    if (handle.n != HANDLE_BYTES)
        return NULL;
    n = map_get(&g->handles, handle);
    return n != NULL ? CONTAINER_OF(n, struct conn, node) : NULL;
}

/* The offer to park may be here before the task that asked for the session has
 * seen its answer. */
static void keep_early(struct login *g, struct msg *m)
{
    if (g->n_early == ARRAY_LEN(g->early)) {
        msg_delete(&g->early[0]);
        g->n_early--;
        for (size_t i = 0; i < g->n_early; i++)
            g->early[i] = g->early[i + 1];
    }
    g->early[g->n_early++] = msg_take(m);
}

void login_early_offer(struct conn *c)
{
    struct login *g = c->service->login;
    size_t kept = 0;

    for (size_t i = 0; i < g->n_early; i++) {
        struct msg *m = g->early[i];

        if (conn_of(g, m->body) == c) {
            relay_offer(c, m->body);
            msg_delete(&m);
        } else {
            g->early[kept++] = m;
        }
    }
    g->n_early = kept;
}

static void broker_msg(struct chan *ch UNUSED, struct msg *m, void *arg)
{
    struct login *g = arg;
    struct conn *c = conn_of(g, m->body);
    slice text = SLICE_NONE;

    if (c == NULL) {
        if (m->type == LOGIN_PARK)
            keep_early(g, m);
        return;
    }
    if (m->type == LOGIN_PARK) {
        relay_offer(c, m->body);
    } else if (m->type == LOGIN_PUSH) {
        attr_find(m->body, AT_CONTENT, &text);
        parked_push(c, text);
    } else if (m->type == LOGIN_END) {
        attr_find(m->body, AT_TEXT, &text);
        c->is_ended = true;
        parked_end(c, text);
    }
}

/* Its handles are void.  Sessions that a worker still serves go on until their
 * worker, which lost the broker too, says goodbye. */
static void broker_gone(struct chan *ch UNUSED, void *arg)
{
    struct login *g = arg;

    list_each_safe(it, tmp, &g->conns) {
        struct conn *c = CONTAINER_OF(it, struct conn, link);

        if (!c->has_handle)
            continue;
        c->is_ended = true;
        parked_end(c, SL("* BYE Internal error, please sign in again.\r\n"));
    }
}

void login_tell_broker(struct conn *c, uint16_t type)
{
    struct buf body;

    if (!c->has_handle || c->is_ended)
        return;
    buf_init(&body, 64);
    attr_put(&body, AT_HANDLE, slice_of(c->handle, HANDLE_BYTES));
    (void)link_send(c->service->login->broker, type, buf_view(&body), NULL, 0,
                    NULL);
    buf_done(&body);
}

/* ------------------------------------------------------------------- limits */

struct login_service *login_service_at(struct login *g, int index)
{
    list_each(it, &g->services) {
        struct login_service *s = CONTAINER_OF(it, struct login_service, link);

        if (s->index == index)
            return s;
    }
    return NULL;
}

void login_service_limit(struct login_service *s)
{
    struct login *g = s->login;
    bool is_full = s->n_conns >= s->max_conns || g->n_conns >= CONNS_MAX;

    list_each(it, &g->listeners) {
        struct login_listener *l =
            CONTAINER_OF(it, struct login_listener, link);

        /* Who comes now waits in the backlog, or for another process. */
        if (l->service == s && is_full)
            listener_pause(l->listener);
        else if (l->service == s)
            listener_resume(l->listener);
    }
}

/* Who refuses to sign in keeps others of his address out, not all. */
bool login_client_up(struct login_service *s, const struct peer_addr *peer,
                     struct client **out)
{
    struct login *g = s->login;
    slice key = slice_of(peer->ip, peer->family == AF_INET ? 4 : 16);
    struct map_node *n;
    struct client *c;

    *out = NULL;
    if (g->client_max == 0 || login_is_trusted(s, peer) ||
        (peer->family != AF_INET && peer->family != AF_INET6))
        return true;
    n = map_get(&g->clients, key);
    if (n != NULL) {
        c = CONTAINER_OF(n, struct client, node);
    } else {
        c = xcalloc(1, sizeof *c);
        memcpy(c->ip, key.p, key.n);
        map_put(&g->clients, &c->node, slice_of(c->ip, key.n));
    }
    if (c->n >= g->client_max) {
        if (!c->is_told)
            event_text(EV_WARNING, s->protocol->log, NULL,
                       "%s: more than %zu connections of %s that have not "
                       "signed in (login_client_waiting_limit)",
                       s->protocol->log, g->client_max, peer->text);
        c->is_told = true;
        return false;
    }
    c->n++;
    *out = c;
    return true;
}

void login_client_down(struct login *g, struct client **cp)
{
    struct client *c = *cp;

    *cp = NULL;
    if (c == NULL || --c->n > 0)
        return;
    map_del(&g->clients, &c->node);
    free(c);
}

static void on_accept(int fd, const struct peer_addr *peer, void *arg)
{
    struct login_service *s = arg;
    struct login *g = s->login;
    struct client *from;

    if (!login_client_up(s, peer, &from)) {
        close(fd);
        return;
    }

    if (g->n_waiting >= PRE_WAITING_MAX)
        conn_end_oldest(g);
    conn_start(s, fd, peer)->pre->from = from;
}

struct conn *login_adopt(struct login_service *s, int fd,
                         const struct peer_addr *peer)
{
    return conn_start(s, fd, peer);
}

/* ------------------------------------------------------------ life and end */

int login_new(const struct login_parts *parts, struct login **out,
              struct err *err)
{
    static const struct chan_ops ops = { .on_msg = broker_msg,
                                         .on_close = broker_gone };
    struct login *g = xcalloc(1, sizeof *g);
    struct login_service *s;

    g->magic = LOGIN_MAGIC;
    g->parts = *parts;
    g->conf = conf_ref(parts->process->conf);
    map_init(&g->handles, false);
    map_init(&g->keepalives, false);
    map_init(&g->clients, false);
    /* Connections are spread over the processes. */
    g->client_max =
        (size_t)conf_int(g->conf, NULL, "login_client_waiting_limit");
    if (g->parts.process->n_slots > 1)
        g->client_max = (g->client_max + g->parts.process->n_slots - 1) /
                        g->parts.process->n_slots;
    list_init(&g->services);
    list_init(&g->listeners);
    list_init(&g->conns);
    list_init(&g->waiting);
    for (size_t i = 0; i < conf_service_count(g->conf); i++) {
        const struct conf_service *line = conf_service_at(g->conf, i);

        if (line->type == CONF_INET &&
            (strcmp(line->command, "imapd") == 0 ||
             strcmp(line->command, "pop3d") == 0) &&
            login_service_new(g, line, &s, err) < 0)
            return -1; /* the process ends */
    }
    g->auth = auth_client_new(parts->process);
    g->broker = link_new(parts->process, PT_BROKER, &ops, g, NULL);
    *out = g;
    return 0;
}

int login_listen(struct login *g, const struct process_listener *l,
                 struct err *err)
{
    struct login_service *s = login_service_at(g, l->service);
    struct login_listener *listener;

    CHECK_OBJ(g, LOGIN_MAGIC);
    if (s == NULL) {
        close(l->fd);
        return err_perm(err, "no service %d for listener %s", l->service,
                        l->where);
    }
    listener = xcalloc(1, sizeof *listener);
    listener->service = s;
    listener->fd = l->fd;
    listener->listener = listener_new(l->fd, on_accept, s);
    list_push(&g->listeners, &listener->link);
    return 0;
}

static void close_listeners(struct login *g)
{
    struct list *it;

    while ((it = list_pop(&g->listeners)) != NULL) {
        struct login_listener *l =
            CONTAINER_OF(it, struct login_listener, link);

        listener_free(&l->listener);
        close(l->fd);
        free(l);
    }
}

void login_was_freed(struct login *g)
{
    if (g->is_draining && g->n_conns == 0 && g->on_idle != NULL)
        g->on_idle(g->on_idle_arg);
}

static void drained_long_enough(struct timer *t)
{
    login_close_all(CONTAINER_OF(t, struct login, drain_timer));
}

void login_drain(struct login *g, void (*on_idle)(void *arg), void *arg)
{
    msec longest = conf_time(g->conf, NULL, "login_drain_timeout") * 1000;

    CHECK_OBJ(g, LOGIN_MAGIC);
    close_listeners(g);
    g->is_draining = true;
    g->on_idle = on_idle;
    g->on_idle_arg = arg;
    if (longest > 0 && !timer_is_set(&g->drain_timer))
        timer_set(&g->drain_timer, clock_after(longest), drained_long_enough);
    login_was_freed(g);
}

void login_close_all(struct login *g)
{
    CHECK_OBJ(g, LOGIN_MAGIC);
    close_listeners(g);
    g->is_stopping = true;
    list_each_safe(it, tmp, &g->conns) {
        struct conn *c = CONTAINER_OF(it, struct conn, link);

        /* Relayed ones hear it from their worker. */
        if (c->state == CONN_PRE)
            conn_close(c);
        else if (c->state != CONN_RELAYED)
            parked_close(c);
    }
}

void login_free(struct login **gp)
{
    struct login *g = *gp;

    *gp = NULL;
    CHECK_OBJ(g, LOGIN_MAGIC);
    g->on_idle = NULL;
    close_listeners(g);
    timer_cancel(&g->drain_timer);
    list_each_safe(it, tmp, &g->conns)
        conn_free(CONTAINER_OF(it, struct conn, link));
    list_each_safe(it, tmp, &g->services) {
        struct login_service *s = CONTAINER_OF(it, struct login_service, link);

        login_service_free(&s);
    }
    for (size_t i = 0; i < g->n_early; i++)
        msg_delete(&g->early[i]);
    link_free(&g->broker);
    auth_client_free(&g->auth);
    map_done(&g->handles);
    map_done(&g->keepalives);
    map_done(&g->clients);
    conf_unref(&g->conf);
    free(g);
}

void login_dump(const struct login *g, struct buf *out)
{
    (void)buf_printf(out,
                     "connections %zu (before sign-in %zu, relayed %zu, parked "
                     "%zu), accepted %" PRIu64 ", signed in %" PRIu64
                     ", woken %" PRIu64 "%s\n",
                     g->n_conns, g->n_waiting, g->n_relayed, g->n_parked,
                     g->n_accepted, g->n_signed_in, g->n_wakes,
                     g->is_draining ? ", draining" : "");
}
