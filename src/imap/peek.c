/*
 * Whom to wake: packed sessions in IDLE, grouped by mailbox.  A delivery of
 * this worker tells its mailbox by store_on_change(); for what strangers do,
 * the directories' times are looked at, a few mailboxes each second.
 */
#include "imap/park.h"

enum {
    ROUND_MS = 1000,
    ROUND_S = 5,      /* each mailbox as often, as long as they are few */
    ROUND_MOST = 500, /* mailboxes a second */
};

static void next_round(struct timer *t);

static struct imap_group *group_get(struct imap_server *server,
                                    const uint8_t *guid)
{
    struct map_node *n = map_get(&server->groups, slice_of(guid, 16));

    return n != NULL ? CONTAINER_OF(n, struct imap_group, node) : NULL;
}

void imap_group_join(struct imap_session *s, const uint8_t *guid,
                     const char *path, uint64_t stamp)
{
    struct imap_server *server = s->server;
    struct imap_group *g = group_get(server, guid);

    if (g == NULL) {
        g = xcalloc(1, sizeof *g + strlen(path) + 1);
        memcpy(g->guid, guid, sizeof g->guid);
        memcpy(g->path, path, strlen(path) + 1);
        list_init(&g->sessions);
        map_put(&server->groups, &g->node, slice_of(g->guid, sizeof g->guid));
        list_push(&server->round, &g->round);
    }
    g->stamp = stamp;
    s->packed->group = g;
    list_push(&g->sessions, &s->packed->link);
    if (!timer_is_set(&server->round_timer))
        timer_set(&server->round_timer, clock_after(ROUND_MS), next_round);
}

void imap_group_leave(struct imap_packed *p)
{
    struct imap_server *server = p->session->server;
    struct imap_group *g = p->group;

    if (g == NULL)
        return;
    p->group = NULL;
    list_remove(&p->link);
    if (!list_empty(&g->sessions))
        return;
    map_del(&server->groups, &g->node);
    list_remove(&g->round);
    free(g);
}

static void wake_group(struct imap_group *g)
{
    list_each_safe(it, next, &g->sessions)
        imap_session_news(CONTAINER_OF(it, struct imap_packed, link)->session);
}

void imap_peek_changed(void *arg, struct store_mailbox *m)
{
    struct imap_server *server = arg;
    struct store_status st;
    struct imap_group *g;

    if (server->groups.n == 0)
        return;
    store_mailbox_status(m, &st);
    g = group_get(server, st.guid);
    if (g != NULL)
        wake_group(g);
}

/* ---- rounds */

struct look {
    size_t n;

    struct look_at {
        uint8_t guid[16];
        uint64_t stamp;
        char *path;
    } v[];
};

static int look_at_all(void *arg)
{
    struct look *l = arg;

    for (size_t i = 0; i < l->n; i++)
        l->v[i].stamp = store_peek(l->v[i].path);
    return 0;
}

static struct look *collect(struct imap_server *server)
{
    size_t n = server->groups.n / ROUND_S + 1;
    struct look *l;

    if (n > ROUND_MOST)
        n = ROUND_MOST;
    l = xcalloc(1, sizeof *l + n * sizeof l->v[0]);
    while (l->n < n && l->n < server->groups.n) {
        struct list *e = list_pop(&server->round);
        struct imap_group *g;

        if (e == NULL)
            break;
        g = CONTAINER_OF(e, struct imap_group, round);
        list_push(&server->round, e);
        memcpy(l->v[l->n].guid, g->guid, sizeof g->guid);
        l->v[l->n++].path = xstrdup(g->path);
    }
    return l;
}

MAY_WAIT static void round_task(void *arg)
{
    struct imap_server *server = arg;
    struct look *l = collect(server);

    (void)offload(look_at_all, l);
    for (size_t i = 0; i < l->n; i++) {
        struct imap_group *g = group_get(server, l->v[i].guid);

        if (g != NULL && l->v[i].stamp != g->stamp) {
            g->stamp = l->v[i].stamp;
            wake_group(g);
        }
        free(l->v[i].path);
    }
    free(l);
    server->is_looking = false;
    if (server->groups.n > 0)
        timer_set(&server->round_timer, clock_after(ROUND_MS), next_round);
}

static void next_round(struct timer *t)
{
    struct imap_server *server =
        CONTAINER_OF(t, struct imap_server, round_timer);

    if (server->groups.n == 0 || server->is_looking)
        return;
    server->is_looking = true;
    (void)task_spawn("imap-peek", round_task, server);
}
