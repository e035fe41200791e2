#include "smtp/server/server_priv.h"

#include "dns/dns.h"
#include "mail/domain.h"

#include <sys/socket.h>

/*
 * Names of clients: what PTR says, and whether that name has the address
 * (Postfix's smtpd_peer).  Kept for some minutes per address, so that who comes
 * often is not asked for often; sessions share what is kept.
 */

#define NAMES_MAX       20000
#define KEEP_MAX_MS     ((msec)5 * 60 * 1000)
#define KEEP_MIN_MS     ((msec)10 * 1000)
#define KEEP_TROUBLE_MS ((msec)5 * 1000)

struct smtp_names {
    struct map known;  /* by address */
    struct list order; /* the oldest first */
    size_t n;
    uint64_t n_asked;
};

struct smtp_names *smtp_names_new(void)
{
    struct smtp_names *all = xcalloc(1, sizeof *all);

    map_init(&all->known, false);
    list_init(&all->order);
    return all;
}

void smtp_name_unref(struct smtp_name **np)
{
    struct smtp_name *n = *np;

    *np = NULL;
    if (n == NULL || --n->n_refs > 0)
        return;
    free(n->name);
    free(n->reverse);
    free(n);
}

static void forget(struct smtp_names *all, struct smtp_name *n)
{
    map_del(&all->known, &n->node);
    list_remove(&n->link);
    all->n--;
    smtp_name_unref(&n);
}

void smtp_names_free(struct smtp_names **ap)
{
    struct smtp_names *all = *ap;

    *ap = NULL;
    if (all == NULL)
        return;
    while (!list_empty(&all->order))
        forget(all, CONTAINER_OF(all->order.next, struct smtp_name, link));
    map_done(&all->known);
    free(all);
}

void smtp_names_dump(const struct smtp_names *all, struct buf *out)
{
    (void)buf_printf(out, "names of clients: %zu kept, %" PRIu64 " looked up\n",
                     all->n, all->n_asked);
}

static struct smtp_name *find(struct smtp_names *all, slice addr)
{
    struct map_node *found = map_get(&all->known, addr);
    struct smtp_name *n;

    if (found == NULL)
        return NULL;
    n = CONTAINER_OF(found, struct smtp_name, node);
    if (n->until > loop_now())
        return n;
    forget(all, n);
    return NULL;
}

static void keep(struct smtp_names *all, struct smtp_name *n, msec ms)
{
    struct smtp_name *old = find(all, slice_str(n->addr));

    if (old != NULL) /* two sessions asked at once */
        forget(all, old);
    if (all->n >= NAMES_MAX)
        forget(all, CONTAINER_OF(all->order.next, struct smtp_name, link));
    n->until = loop_after(ms);
    n->n_refs++;
    all->n++;
    map_put(&all->known, &n->node, slice_str(n->addr));
    list_push(&all->order, &n->link);
}

/* ---- asking */

struct asking {
    struct smtp_server *server;
    const struct peer_addr *peer;
    struct arena *a;
    struct smtp_name *n;
    uint32_t ttl; /* of all that was heard */
};

static void heard(struct asking *q, const struct dns_answer *answer)
{
    if (answer->ttl < q->ttl)
        q->ttl = answer->ttl;
}

/* It is unsafe to take a number for a name. */
static bool is_good_name(slice name)
{
    uint8_t ip[16];
    int family;

    return name.n > 0 && name.n < 256 && mail_domain_valid(name) &&
           !mail_ip_parse(name, &family, ip);
}

static bool has_address(const struct asking *q, const struct dns_answer *answer)
{
    bool is_v6 = q->peer->family == AF_INET6;
    enum dns_type type = is_v6 ? DNS_AAAA : DNS_A;

    for (size_t i = 0; i < answer->n_rr; i++)
        if (answer->rr[i].type == type &&
            memcmp(answer->rr[i].ip, q->peer->ip, is_v6 ? 16 : 4) == 0)
            return true;
    return false;
}

/* The name that PTR (or /etc/hosts) gives; "" when there is none. */
MAY_WAIT static int ask_reverse(struct asking *q, slice *name, struct err *err)
{
    struct dns_answer answer;
    char question[100];

    *name = SLICE_NONE;
    if (q->server->parts.hosts != NULL &&
        dns_hosts_name(q->server->parts.hosts, q->peer->family, q->peer->ip,
                       q->a, name))
        return 0;
    dns_reverse_name(q->peer->family, q->peer->ip, NULL, NULL, question);
    if (dns_query(q->server->parts.dns, slice_str(question), DNS_PTR, 0, q->a,
                  &answer, err) < 0)
        return -1;
    heard(q, &answer);
    if (answer.result == DNS_FAIL)
        q->n->reverse_status = ACCESS_NAME_TEMP;
    for (size_t i = 0; i < answer.n_rr; i++)
        if (answer.rr[i].type == DNS_PTR) {
            *name = answer.rr[i].name;
            break;
        }
    return 0;
}

static void warn_mismatch(const struct asking *q, slice name,
                          const struct dns_answer *answer)
{
    slice why =
        answer->why.n > 0 ? answer->why : SL("Name or service not known");

    if (answer->result == DNS_OK)
        log_warning("hostname %.*s does not resolve to address %s", SLF(name),
                    q->peer->text);
    else
        log_warning("hostname %.*s does not resolve to address %s: %.*s",
                    SLF(name), q->peer->text, SLF(why));
}

/* The addresses of a name: /etc/hosts, then DNS. */
MAY_WAIT static int find_addrs(struct asking *q, slice name,
                               struct dns_answer *out, struct err *err)
{
    enum dns_type type = q->peer->family == AF_INET6 ? DNS_AAAA : DNS_A;

    *out = (struct dns_answer){ .result = DNS_NXDOMAIN };
    if (q->server->parts.hosts != NULL)
        dns_hosts_find(q->server->parts.hosts, name, q->a, out);
    if (out->result == DNS_OK)
        return 0;
    if (dns_query(q->server->parts.dns, name, type, 0, q->a, out, err) < 0)
        return -1;
    heard(q, out);
    return 0;
}

/* Does the name have the address? */
MAY_WAIT static int ask_forward(struct asking *q, slice name, struct err *err)
{
    struct dns_answer answer;

    if (find_addrs(q, name, &answer, err) < 0)
        return -1;
    if (has_address(q, &answer)) {
        q->n->name_status = ACCESS_NAME_OK;
        return 0;
    }
    q->n->name_status =
        answer.result == DNS_FAIL ? ACCESS_NAME_TEMP : ACCESS_NAME_FORGED;
    warn_mismatch(q, name, &answer);
    return 0;
}

MAY_WAIT static int ask(struct asking *q, struct err *err)
{
    struct smtp_name *n = q->n;
    slice name;

    if (ask_reverse(q, &name, err) < 0)
        return -1;
    if (name.n > 0 && !is_good_name(name)) {
        log_warning("address %s has no valid name: %.*s", q->peer->text,
                    SLF(slice_sub(name, 0, 100)));
        name = SLICE_NONE;
    }
    n->name_status = n->reverse_status;
    if (name.n == 0)
        return 0;
    n->reverse_status = ACCESS_NAME_OK;
    n->reverse = slice_xstrdup(name);
    if (ask_forward(q, name, err) < 0)
        return -1;
    if (n->name_status == ACCESS_NAME_OK)
        n->name = slice_xstrdup(name);
    return 0;
}

static msec keep_ms(const struct asking *q)
{
    msec ms = (msec)q->ttl * 1000;

    if (q->n->name_status == ACCESS_NAME_TEMP ||
        q->n->reverse_status == ACCESS_NAME_TEMP)
        return KEEP_TROUBLE_MS;
    return ms > KEEP_MAX_MS ? KEEP_MAX_MS : ms < KEEP_MIN_MS ? KEEP_MIN_MS : ms;
}

static bool is_wanted(const struct smtp *s)
{
    return s->service->looks_up_names && !s->service->is_pickup &&
           s->service->server->parts.dns != NULL &&
           (s->peer.family == AF_INET || s->peer.family == AF_INET6);
}

int smtp_name_find(struct smtp *s)
{
    struct smtp_server *server = s->service->server;
    struct asking q = { .server = server, .peer = &s->peer, .ttl = UINT32_MAX };
    struct err err;
    int rc;

    if (!is_wanted(s))
        return 0;
    s->name = find(server->names, slice_str(s->peer.text));
    if (s->name != NULL) {
        s->name->n_refs++;
        return 0;
    }
    q.n = xcalloc(1, sizeof *q.n);
    q.n->n_refs = 1;
    (void)snprintf(q.n->addr, sizeof q.n->addr, "%s", s->peer.text);
    q.a = arena_new(1u << 20);
    server->names->n_asked++;
    rc = ask(&q, &err);
    arena_free(&q.a);
    if (rc < 0 && err.class == ERR_PEER) {
        smtp_name_unref(&q.n);
        return -1;
    }
    if (rc < 0) { /* more than the arena holds */
        log_warning("%s: %s", s->peer.text, err.log);
        q.n->name_status = ACCESS_NAME_TEMP;
    }
    keep(server->names, q.n, keep_ms(&q));
    s->name = q.n;
    return 0;
}

const char *smtp_client_name(const struct smtp *s)
{
    if (s->service->is_pickup)
        return "localhost";
    return s->name != NULL && s->name->name != NULL ? s->name->name : "unknown";
}

void smtp_name_policy(const struct smtp *s, struct access_session *policy)
{
    const struct smtp_name *n = s->name;

    policy->name = SL("unknown");
    policy->reverse_name = SL("unknown");
    if (n == NULL)
        return;
    if (n->name != NULL)
        policy->name = slice_str(n->name);
    if (n->reverse != NULL)
        policy->reverse_name = slice_str(n->reverse);
    policy->name_status = n->name_status;
    policy->reverse_status = n->reverse_status;
}
