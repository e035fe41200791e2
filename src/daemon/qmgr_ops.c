#include "daemon/qmgr_ops.h"
#include "daemon/fed.h"

#include "address/address.h"
#include "base/base.h"
#include "ipc/ipc.h"
#include "table/table.h"

#include <fcntl.h>

struct rules {
    struct address *address;
    unsigned n_users;
};

static struct rules *rules;
static struct link *local;

/* ------------------------------------------------------------ address rules */

static void rules_unref(struct rules *r)
{
    if (r == NULL || --r->n_users > 0)
        return;
    address_free(&r->address);
    free(r);
}

int qmgr_rules_set(struct conf *c, struct err *err)
{
    struct rules *r = xcalloc(1, sizeof(*r));

    if (address_new(c, NULL, fed_tables(), &r->address, err) < 0) {
        free(r);
        return -1;
    }
    r->n_users = 1;
    rules_unref(rules);
    rules = r;
    return 0;
}

static MAY_WAIT int resolve(void *arg, slice sender, slice addr,
                            struct arena *a, struct queue_route *out,
                            struct err *err)
{
    struct rules *r = rules;
    struct address_route route;
    int rc;

    (void)arg;
    r->n_users++;
    rc = address_resolve(r->address, sender, addr, a, &route, err);
    rules_unref(r);
    if (rc == 0)
        *out = (struct queue_route){ route.transport, route.nexthop,
                                     route.recipient };
    return rc;
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

static MAY_WAIT int deliver(void *arg, slice body, int fd, msec deadline,
                            struct msg *answer, struct err *err)
{
    int own CLEANUP(close_fd) = -1;

    (void)arg;
    /* The spool's descriptor is good until the next wait, and while there is no
     * connection link_call() waits before it sends. */
    if (link_chan(local) == NULL) {
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
            return err_sys(err, "duplicate a segment's descriptor");
        fd = own;
    }
    return link_call(local, DELIVER_REQUEST, body, &fd, 1, deadline, answer,
                     err);
}

const struct queue_ops qmgr_queue_ops = { resolve, recipients, deliver };

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
}

void qmgr_links_free(void)
{
    link_free(&local);
}
