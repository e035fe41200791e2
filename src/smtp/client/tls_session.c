/*
 * TLS sessions of servers, kept in this process: a later connection to the same
 * host that demands the same goes on with one.  A place is known by its number,
 * for a connection may give a session when its place is somebody else's.
 */
#include "smtp/client/policy.h"

#define PLACES_MAX 2000

struct place {
    struct map_node node;
    struct imap_node by_number;
    struct list by_use;          /* the longest unused first */
    struct tls_session *session; /* NULL: none yet */
    msec until;
    msec keep_ms;
    char key[];
};

static struct {
    struct map map;
    struct imap numbers;
    struct list by_use;
    uint64_t last;
    bool is_ready;
} kept;

static void place_free(struct place *p)
{
    map_del(&kept.map, &p->node);
    imap_del(&kept.numbers, &p->by_number);
    list_remove(&p->by_use);
    tls_session_free(&p->session);
    free(p);
}

static struct place *place_new(slice key)
{
    struct place *p = xcalloc(1, sizeof(*p) + key.n);

    if (kept.map.n >= PLACES_MAX)
        place_free(CONTAINER_OF(kept.by_use.next, struct place, by_use));
    memcpy(p->key, key.p, key.n);
    map_put(&kept.map, &p->node, slice_of(p->key, key.n));
    imap_put(&kept.numbers, &p->by_number, ++kept.last);
    list_push(&kept.by_use, &p->by_use);
    return p;
}

static void on_session(void *arg, struct tls_session *s)
{
    struct imap_node *n = imap_get(&kept.numbers, (uintptr_t)arg);
    struct place *p;

    if (n == NULL) {
        tls_session_free(&s);
        return;
    }
    p = CONTAINER_OF(n, struct place, by_number);
    tls_session_free(&p->session);
    p->session = s;
    p->until = clock_wall() + p->keep_ms;
}

static void release(void *arg)
{
    struct tls_session *s = arg;

    tls_session_free(&s);
}

static struct place *place_of(slice key)
{
    struct map_node *n;
    struct place *p;

    if (!kept.is_ready) {
        kept.is_ready = true;
        map_init(&kept.map, false);
        imap_init(&kept.numbers);
        list_init(&kept.by_use);
    }
    n = map_get(&kept.map, key);
    if (n == NULL)
        return place_new(key);
    p = CONTAINER_OF(n, struct place, node);
    list_remove(&p->by_use);
    list_push(&kept.by_use, &p->by_use);
    return p;
}

void policy_use_session(struct policy_job *j)
{
    struct tls_policy *out = j->out;
    struct tls_session *copy;
    struct place *p;
    struct buf b;

    if (j->tls->session_ms == 0 || out->refused.n > 0)
        return;
    buf_init(&b, 70000);
    (void)buf_printf(&b, "%s %.*s %.*s %u\n", j->service->transport,
                     SLF(j->host->name), SLF(j->host->addr), j->host->port);
    (void)buf_slice(&b, out->key);
    p = place_of(buf_view(&b));
    buf_done(&b);
    p->keep_ms = j->tls->session_ms;
    out->how.on_session = on_session;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): a number that travels. */
    out->how.on_session_arg = (void *)(uintptr_t)p->by_number.key;
    if (p->session == NULL || p->until <= clock_wall())
        return;
    copy = tls_session_dup(p->session);
    arena_defer(j->a, release, copy);
    out->how.session = copy;
}
