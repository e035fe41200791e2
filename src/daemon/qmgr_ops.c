#include "daemon/qmgr_ops.h"
#include "daemon/fed.h"

#include "address/address.h"
#include "base/base.h"
#include "base/digest.h"
#include "ipc/ipc.h"
#include "table/table.h"

#include <fcntl.h>

struct rules {
    struct address *address;
    struct address *probes; /* the ways of address verification */
    struct conf *conf;
    struct table_match *fast_flush;
    unsigned n_users;
};

static struct rules *rules;
static struct link *local;
static struct link **smtp; /* one to each process */
static unsigned n_smtp;

/* ------------------------------------------------------------ address rules */

static void rules_unref(struct rules *r)
{
    if (r == NULL || --r->n_users > 0)
        return;
    address_free(&r->address);
    address_free(&r->probes);
    table_match_free(&r->fast_flush);
    conf_unref(&r->conf);
    free(r);
}

int qmgr_rules_set(struct conf *c, struct err *err)
{
    struct rules *r = xcalloc(1, sizeof(*r));

    if (address_new(c, NULL, fed_tables(), &r->address, err) < 0 ||
        address_new_probe(c, fed_tables(), &r->probes, err) < 0 ||
        table_match_new(fed_tables(), c, NULL, "fast_flush_domains",
                        &r->fast_flush, err) < 0) {
        address_free(&r->probes);
        address_free(&r->address);
        free(r);
        return -1;
    }
    r->n_users = 1;
    r->conf = conf_ref(c);
    rules_unref(rules);
    rules = r;
    return 0;
}

/* By one of the two sets of rules, which stays until it has answered. */
static MAY_WAIT int resolve_by(const struct address *address, slice sender,
                               slice addr, struct arena *a,
                               struct queue_route *out, struct err *err)
{
    struct rules *r = rules;
    struct address_route route;
    int rc;

    r->n_users++;
    rc = address_resolve(address, sender, addr, a, &route, err);
    rules_unref(r);
    if (rc == 0)
        *out = (struct queue_route){ route.transport, route.nexthop,
                                     route.recipient };
    return rc;
}

static MAY_WAIT int resolve(void *arg UNUSED, slice sender, slice addr,
                            struct arena *a, struct queue_route *out,
                            struct err *err)
{
    return resolve_by(rules->address, sender, addr, a, out, err);
}

static MAY_WAIT int resolve_probe(void *arg UNUSED, slice sender, slice addr,
                                  struct arena *a, struct queue_route *out,
                                  struct err *err)
{
    return resolve_by(rules->probes, sender, addr, a, out, err);
}

static MAY_WAIT int expand(struct address *address, slice addr,
                           struct address_list *l, struct err *err)
{
    slice full;

    if (address_rewrite(address, ADDRESS_LOCAL, addr, l->arena, &full, err) < 0)
        return -1;
    return address_add_recipient(address, l, full, SLICE_NONE, 0, err);
}

static MAY_WAIT int recipients(void *arg, slice addr, struct arena *a,
                               const slice **out, size_t *n_out,
                               struct err *err)
{
    struct rules *r = rules;
    struct address_list l;
    slice *v;
    int rc;

    (void)arg;
    address_list_init(&l, a);
    r->n_users++;
    rc = expand(r->address, addr, &l, err);
    rules_unref(r);
    if (rc < 0)
        return -1;
    v = ARENA_ARRAY(a, slice, l.n + 1);
    for (size_t i = 0; i < l.n; i++)
        v[i] = l.v[i].addr;
    *out = v;
    *n_out = l.n;
    return 0;
}

/* --------------------------------------------------------------- deliveries */

/* Which process serves a transport: its line of master.cf says; Postfix's own
 * need no line. */
static enum ptype server_of(slice transport)
{
    static const struct {
        const char *command;
        enum ptype type;
    } servers[] = { { "smtp", PT_SMTP },
                    { "lmtp", PT_SMTP },
                    { "relay", PT_SMTP } };

    const char *command = NULL;

    if (queue_transport_is_local(transport))
        return PT_LOCAL;
    for (size_t i = 0; i < conf_service_count(rules->conf); i++) {
        const struct conf_service *s = conf_service_at(rules->conf, i);

        if (s->type == CONF_UNIX && slice_eqs(transport, s->name))
            command = s->command;
    }
    for (size_t i = 0; i < ARRAY_LEN(servers); i++)
        if (command != NULL ? strcmp(command, servers[i].command) == 0
                            : slice_eqs(transport, servers[i].command))
            return servers[i].type;
    return PT_NONE;
}

static bool has_transport(void *arg UNUSED, slice transport)
{
    return server_of(transport) != PT_NONE;
}

/* One destination goes to one process, which keeps its connections. */
static struct link *link_for(const struct queue_request *r)
{
    uint32_t h;

    if (server_of(r->transport) != PT_SMTP)
        return local;
    h = crc32c(crc32c(0, r->transport.p, r->transport.n), r->nexthop.p,
               r->nexthop.n);
    return smtp[h % n_smtp];
}

static MAY_WAIT int deliver(void *arg UNUSED, const struct queue_request *r,
                            struct msg *answer, struct err *err)
{
    int own CLEANUP(close_fd) = -1;
    struct link *link = link_for(r);
    int fd = r->fd;

    /* The spool's descriptor is good until the next wait, and while there is no
     * connection link_call() waits before it sends. */
    if (fd >= 0 && link_chan(link) == NULL) {
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
            return err_sys(err, "duplicate a segment's descriptor");
        fd = own;
    }
    return link_call(link, DELIVER_REQUEST, r->body, &fd, fd >= 0 ? 1 : 0,
                     r->deadline, answer, err);
}

static MAY_WAIT int is_fast_flush(void *arg UNUSED, slice domain, bool *out,
                                  struct err *err)
{
    struct rules *r = rules;
    int rc;

    r->n_users++;
    rc = table_match_domain(r->fast_flush, domain, out, err);
    rules_unref(r);
    return rc;
}

const struct queue_ops qmgr_queue_ops = {
    .resolve = resolve,
    .recipients = recipients,
    .deliver = deliver,
    .has_transport = has_transport,
    .resolve_probe = resolve_probe,
    .is_fast_flush = is_fast_flush,
};

static MAY_WAIT void local_serve(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    if (m->type == DELIVER_PARTIAL)
        queue_partial(arg, m->body);
}

static void local_up(struct link *l, void *arg)
{
    (void)l;
    queue_kick(arg);
}

void qmgr_links(struct process *p, struct queue *q)
{
    static const struct chan_ops ops = { .serve = local_serve };

    (void)fed_link(p);
    local = link_new(p, PT_LOCAL, &ops, q, local_up);
    n_smtp = process_n_smtp();
    smtp = xcalloc(n_smtp, sizeof(struct link *));
    for (unsigned i = 0; i < n_smtp; i++)
        smtp[i] = link_new_lazy(p, PT_SMTP, i, &ops, q, local_up);
}

void qmgr_links_free(void)
{
    link_free(&local);
    for (unsigned i = 0; i < n_smtp; i++)
        link_free(&smtp[i]);
    free(smtp);
    smtp = NULL;
}
