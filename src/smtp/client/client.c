#include "smtp/client/job.h"

#include "rt/rt.h"

/* The process `smtp`: who asks, and when it may end. */

#define CLIENT_MAGIC MAGIC('S', 'M', 'T', 'C')
#define ARENA_MAX    (16u << 20)
#define MAX_TASKS    2000
#define OWN_MAX      1024 /* addresses of this machine */

struct peer {
    struct list link;
    struct smtp_client *client;
    struct chan *chan;
};

static void tell_idle(struct smtp_client *c)
{
    if (c->is_draining && c->n_jobs == 0 && list_empty(&c->peers) &&
        c->on_idle != NULL)
        c->on_idle(c->on_idle_arg);
}

MAY_WAIT static void serve(struct chan *chan, struct msg *m, void *arg)
{
    struct peer *peer = arg;
    struct smtp_client *c = peer->client;
    struct err err;

    if (m->type != DELIVER_REQUEST) {
        err_temp(&err, "smtp knows delivery requests only");
        chan_fail(chan, m->id, &err);
        return;
    }
    c->n_jobs++;
    client_serve(c, chan, m);
    c->n_jobs--;
    c->n_done++;
    tell_idle(c);
}

static void on_close(struct chan *chan, void *arg)
{
    struct peer *peer = arg;
    struct smtp_client *c = peer->client;

    (void)chan;
    list_remove(&peer->link);
    chan_free(&peer->chan);
    free(peer);
    tell_idle(c);
}

static const struct chan_ops peer_ops = {
    .serve = serve,
    .on_close = on_close,
    .max_tasks = MAX_TASKS,
};

void smtp_client_on_peer(struct smtp_client *c, int fd)
{
    struct peer *peer = xcalloc(1, sizeof *peer);

    CHECK_OBJ(c, CLIENT_MAGIC);
    peer->client = c;
    list_push(&c->peers, &peer->link);
    peer->chan = chan_new(fd, &peer_ops, peer);
    if (c->is_draining)
        chan_bye(peer->chan);
}

int smtp_client_new(const struct smtp_client_parts *parts,
                    struct smtp_client **out, struct err *err)
{
    struct smtp_client *c = xcalloc(1, sizeof *c);

    c->magic = CLIENT_MAGIC;
    c->p = parts->process;
    c->conf = conf_ref(parts->process->conf);
    c->tables = parts->tables;
    c->dns = parts->dns;
    c->keyring = parts->keyring;
    c->arena = arena_new(ARENA_MAX);
    c->own = ARENA_ARRAY(c->arena, struct conf_addr, OWN_MAX);
    c->n_own = conf_own_addrs(c->conf, true, c->own, OWN_MAX);
    c->hosts = dns_hosts_new("/etc/hosts");
    c->native_dns = dns_is_native("/etc/nsswitch.conf");
    c->cache = client_cache_new();
    list_init(&c->peers);
    if (client_sasl_setup(err) < 0 || client_services_new(c, err) < 0) {
        smtp_client_free(&c);
        return -1;
    }
    *out = c;
    return 0;
}

void smtp_client_free(struct smtp_client **cp)
{
    struct smtp_client *c = *cp;

    if (c == NULL)
        return;
    client_cache_free(&c->cache);
    client_services_free(c);
    dns_hosts_free(&c->hosts);
    arena_free(&c->arena);
    conf_unref(&c->conf);
    c->magic = 0;
    free(c);
    *cp = NULL;
}

void smtp_client_drain(struct smtp_client *c, void (*on_idle)(void *arg),
                       void *arg)
{
    c->is_draining = true;
    c->on_idle = on_idle;
    c->on_idle_arg = arg;
    client_cache_close(c->cache);
    list_each(it, &c->peers)
        chan_bye(CONTAINER_OF(it, struct peer, link)->chan);
    tell_idle(c);
}

void smtp_client_dump(const struct smtp_client *c, struct buf *out)
{
    (void)buf_printf(out,
                     "deliveries under way %zu, done %" PRIu64
                     "\nconnections made %" PRIu64 ", used again %" PRIu64 "\n",
                     c->n_jobs, c->n_done, c->n_connects, c->n_reuses);
    client_cache_dump(c->cache, out);
}
