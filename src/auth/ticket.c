#include "auth/auth_priv.h"

struct ticket {
    struct map_node node;
    struct list link; /* the oldest first */
    msec until;
    uint8_t id[16];
    struct arena *arena;
    slice service, session, remote;
    struct user_place place;
};

struct tickets {
    struct map map;
    struct list order;
};

struct tickets *tickets_new(void)
{
    struct tickets *t = xcalloc(1, sizeof *t);

    map_init(&t->map, false);
    list_init(&t->order);
    return t;
}

static void drop(struct tickets *t, struct ticket *k)
{
    map_del(&t->map, &k->node);
    list_remove(&k->link);
    arena_free(&k->arena);
    explicit_bzero(k, sizeof *k);
    free(k);
}

static void expire(struct tickets *t, size_t max)
{
    while (!list_empty(&t->order)) {
        struct ticket *k = CONTAINER_OF(t->order.next, struct ticket, link);

        if (k->until > loop_now() && t->map.n <= max)
            break;
        drop(t, k);
    }
}

void tickets_free(struct tickets **pt)
{
    struct tickets *t = *pt;

    *pt = NULL;
    if (t == NULL)
        return;
    expire(t, 0);
    while (!list_empty(&t->order))
        drop(t, CONTAINER_OF(t->order.next, struct ticket, link));
    map_done(&t->map);
    free(t);
}

size_t tickets_count(struct tickets *t)
{
    expire(t, AUTH_TICKETS_MAX);
    return t->map.n;
}

static void copy_place(struct arena *a, const struct user_place *from,
                       struct user_place *to)
{
    *to = *from;
    to->account = slice_dup(a, from->account);
    to->user = slice_dup(a, from->user);
    to->home = slice_dup(a, from->home);
    to->mail = slice_dup(a, from->mail);
    to->arg = slice_dup(a, from->arg);
}

void ticket_give(struct tickets *t, const struct ticket_for *whom,
                 const struct user_place *place, uint8_t id[static 16])
{
    struct ticket *k = xcalloc(1, sizeof *k);

    expire(t, AUTH_TICKETS_MAX - 1);
    list_init(&k->link);
    k->until = clock_after(AUTH_TICKET_MS);
    random_bytes(k->id, sizeof k->id);
    k->arena = arena_new(65536);
    k->service = slice_dup(k->arena, whom->service);
    k->session = slice_dup(k->arena, whom->session);
    k->remote = slice_dup(k->arena, whom->remote);
    copy_place(k->arena, place, &k->place);
    memcpy(id, k->id, sizeof k->id);
    map_put(&t->map, &k->node, slice_of(k->id, sizeof k->id));
    list_push(&t->order, &k->link);
}

int ticket_redeem(struct tickets *t, slice id, const struct ticket_for *whom,
                  struct arena *a, struct user_place *out, struct err *err)
{
    struct map_node *n;
    struct ticket *k;
    bool fits;

    expire(t, AUTH_TICKETS_MAX);
    n = id.n == 16 ? map_get(&t->map, id) : NULL;
    if (n == NULL)
        return err_perm(err, "no such ticket");
    k = CONTAINER_OF(n, struct ticket, node);
    fits = slice_eq(k->service, whom->service) &&
           slice_eq(k->session, whom->session) &&
           slice_eq(k->remote, whom->remote);
    if (fits)
        copy_place(a, &k->place, out);
    drop(t, k);
    if (!fits)
        return err_perm(err, "a ticket that was given for another session");
    return 0;
}
