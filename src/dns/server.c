/*
 * The process `resolver`.  A question that somebody asks while it is under way
 * is shared; libunbound has the cache.
 *
 *     DNS_QUERY -> asked --dns_engine_ask--> under way --> answered
 *                                            |
 *                                            +--timeout--> abandoned: asked for
 *                                               still, so that the next one who
 *                                               wants to know finds it cached
 */
#include "dns/dns_priv.h"

#include "base/map.h"
#include "rt/rt.h"

#define QUESTIONS_MAX 4096
#define WAITERS_MAX   65536
#define ABANDONED_MS  30000
#define PROBE_MS      5000
#define DNSKEY        48

struct waiter {
    struct list link;
    struct chan *chan;
    uint32_t id;
};

struct question {
    struct map_node node;
    struct list link; /* among those that wait for the probe */
    struct dns_server *server;
    struct dns_engine *engine;
    struct dns_call *call; /* NULL: not put yet */
    struct list waiters;
    struct timer timer;
    unsigned type;
    unsigned flags;
    size_t n_key;
    size_t at_name; /* in key */
    char key[DNS_NAME_MAX + 40];
};

struct peer {
    struct list link;
    struct dns_server *server;
    struct chan *chan;
};

struct dns_server {
    struct arena *arena;
    struct dns_settings settings;
    struct dns_engine *strict; /* validates; NULL: never */
    struct dns_engine *plain;  /* NULL: always validate */
    /* Forwarders of the system may not pass on signatures.  Then nothing they
     * say could be validated, so resolver_dnssec = auto goes without. */
    bool is_probed, is_probing;
    struct dns_trust trust;
    struct dns_call *probe_call;
    struct timer probe;
    struct list held; /* questions that wait for the probe */
    struct map questions;
    struct list peers;
    size_t n_waiters;
    bool is_draining;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
    uint64_t n_asked, n_shared, n_ok, n_none, n_failed, n_bogus, n_timeout;
};

static void idle_if_done(struct dns_server *s)
{
    if (s->is_draining && list_empty(&s->peers))
        s->on_idle(s->on_idle_arg);
}

/* ---- answering */

static void count(struct dns_server *s, const struct dns_engine_result *r)
{
    switch (r->result) {
    case DNS_OK:
        s->n_ok++;
        break;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        s->n_none++;
        break;
    case DNS_FAIL:
    case DNS_BAD_NAME:
    default:
        s->n_failed++;
        s->n_bogus += r->is_bogus;
        break;
    }
}

static slice without_dot(const char *name)
{
    slice s = slice_str(name);

    if (s.n > 1 && s.p[s.n - 1] == '.')
        s.n--;
    return s;
}

static void put_answer(const struct question *q,
                       const struct dns_engine_result *r, struct buf *b)
{
    slice name = slice_of(q->key + q->at_name, q->n_key - q->at_name);
    slice canonical = r->canonical != NULL ? without_dot(r->canonical) : name;
    bool is_cname = !slice_ieq(canonical, name);
    enum dns_result result = r->result;

    if (result == DNS_OK && is_cname && (q->flags & DNS_RAW))
        result = DNS_NODATA;
    (void)attr_put_u64(b, AT_RCODE, (uint64_t)result);
    (void)attr_put_u64(b, AT_FLAGS,
                       (r->is_secure ? DNS_IS_SECURE : 0u) |
                           (r->is_bogus ? DNS_IS_BOGUS : 0u) |
                           (is_cname ? DNS_IS_CNAME : 0u));
    (void)attr_put(b, AT_NAME, canonical);
    (void)attr_put_u64(b, AT_TTL, r->ttl);
    (void)attr_put_str(b, AT_TEXT, r->why);
    for (size_t i = 0; result == DNS_OK && i < r->n_data; i++) {
        if (r->len[i] < 0 || (size_t)r->len[i] > DNS_ANSWER_BYTES - b->n)
            break;
        (void)attr_put(b, AT_RDATA, slice_of(r->data[i], (size_t)r->len[i]));
    }
}

static void waiter_free(struct dns_server *s, struct waiter *w)
{
    s->n_waiters--;
    chan_unref(&w->chan);
    free(w);
}

static void answer_all(struct question *q, const struct dns_engine_result *r)
{
    struct buf b;

    count(q->server, r);
    buf_init(&b, DNS_ANSWER_BYTES + 4096);
    put_answer(q, r, &b);
    for (struct list *it = list_pop(&q->waiters); it != NULL;
         it = list_pop(&q->waiters)) {
        struct waiter *w = CONTAINER_OF(it, struct waiter, link);

        chan_answer(w->chan, w->id, buf_view(&b), NULL, 0);
        waiter_free(q->server, w);
    }
    buf_done(&b);
}

static void question_free(struct question *q)
{
    timer_cancel(&q->timer);
    list_remove(&q->link);
    map_del(&q->server->questions, &q->node);
    free(q);
}

static void on_answer(void *arg, const struct dns_engine_result *r)
{
    struct question *q = arg;

    if (!list_empty(&q->waiters))
        answer_all(q, r);
    question_free(q);
}

static void fail_all(struct question *q, const char *why)
{
    const struct dns_engine_result r = { .result = DNS_FAIL, .why = why };

    answer_all(q, &r);
}

static void give_up(struct timer *t)
{
    struct question *q = CONTAINER_OF(t, struct question, timer);

    dns_engine_cancel(q->engine, q->call);
    if (!list_empty(&q->waiters))
        fail_all(q, "timeout");
    question_free(q);
}

static void on_timeout(struct timer *t)
{
    struct question *q = CONTAINER_OF(t, struct question, timer);

    q->server->n_timeout++;
    fail_all(q, "timeout");
    if (q->call == NULL)
        question_free(q);
    else
        timer_set(&q->timer, clock_after(ABANDONED_MS), give_up);
}

/* ---- asking */

static void put(struct question *q)
{
    struct dns_server *s = q->server;
    struct dns_engine *e =
        s->trust.is_plain || s->strict == NULL ? s->plain : s->strict;
    struct err err;

    q->engine = e;
    q->call = dns_engine_ask(e, q->key + q->at_name, (int)q->type, on_answer, q,
                             &err);
    if (q->call == NULL) {
        fail_all(q, err.log);
        question_free(q);
    }
}

static void release_held(struct dns_server *s)
{
    for (struct list *it = list_pop(&s->held); it != NULL;
         it = list_pop(&s->held))
        put(CONTAINER_OF(it, struct question, link));
}

static void probe_start(struct dns_server *s);

static void probe_again(struct timer *t)
{
    struct dns_server *s = CONTAINER_OF(t, struct dns_server, probe);

    /* With the next question. */
    s->is_probed = false;
}

static void tell_trust(const struct dns_trust *was, const struct dns_trust *is)
{
    if (is->is_plain && !was->is_plain)
        log_warning("the name servers of /etc/resolv.conf do not pass on "
                    "signatures (DNSSEC): answers are not validated, and DANE "
                    "is not used; name better ones by resolver_forwarders, or "
                    "\"root\" to ask without them");
    else if (is->is_bogus && !was->is_bogus)
        log_warning("the name servers of /etc/resolv.conf have passed on "
                    "signatures (DNSSEC) and now give wrong ones for the root: "
                    "their answers are refused, and mail waits, for an hour at "
                    "most; a reload believes them at once");
    else if (was->is_bogus && !is->is_bogus)
        log_info("the name servers of /etc/resolv.conf pass on signatures "
                 "(DNSSEC) again");
}

static void probe_done(struct dns_server *s, enum dns_probe what)
{
    struct dns_trust was = s->trust;
    msec next = dns_trust_step(&s->trust, what, clock_mono());

    s->is_probing = false;
    s->is_probed = true;
    tell_trust(&was, &s->trust);
    timer_set(&s->probe, clock_after(next), probe_again);
    release_held(s);
}

static void on_probe(void *arg, const struct dns_engine_result *r)
{
    probe_done(arg, r->is_bogus           ? DNS_PROBE_BOGUS
                    : r->result == DNS_OK ? DNS_PROBE_SIGNED
                                          : DNS_PROBE_LOST);
}

static void probe_timeout(struct timer *t)
{
    struct dns_server *s = CONTAINER_OF(t, struct dns_server, probe);

    dns_engine_cancel(s->strict, s->probe_call);
    probe_done(s, DNS_PROBE_LOST);
}

static void probe_start(struct dns_server *s)
{
    struct err err;

    s->probe_call = dns_engine_ask(s->strict, ".", DNSKEY, on_probe, s, &err);
    if (s->probe_call == NULL) {
        probe_done(s, DNS_PROBE_LOST);
        return;
    }
    s->is_probing = true;
    timer_set(&s->probe, clock_after(PROBE_MS), probe_timeout);
}

static struct question *question_new(struct dns_server *s, const char *key,
                                     size_t n_key, size_t at_name)
{
    struct question *q = xcalloc(1, sizeof *q);

    q->server = s;
    q->n_key = n_key;
    q->at_name = at_name;
    memcpy(q->key, key, n_key);
    list_init(&q->link);
    list_init(&q->waiters);
    map_put(&s->questions, &q->node, slice_of(q->key, n_key));
    return q;
}

static void put_or_hold(struct question *q)
{
    struct dns_server *s = q->server;

    if (s->strict == NULL || s->plain == NULL || s->is_probed) {
        put(q);
        return;
    }
    if (s->trust.is_plain)
        put(q); /* and do not wait for what will hardly change */
    else
        list_push(&s->held, &q->link);
    if (!s->is_probing)
        probe_start(s);
}

/* The question under way, or a new one that is not put yet; NULL at the limit.
 */
static struct question *find(struct dns_server *s, slice name, unsigned type,
                             unsigned flags, bool *is_new)
{
    char key[DNS_NAME_MAX + 40];
    int at = snprintf(key, sizeof key, "%u %u ", type, flags);
    size_t n = (size_t)at + name.n;
    struct map_node *found;

    CHECK(at > 0 && n < sizeof key);
    for (size_t i = 0; i < name.n; i++)
        key[(size_t)at + i] = ascii_lower(name.p[i]);
    found = map_get(&s->questions, slice_of(key, n));
    *is_new = found == NULL;
    if (found != NULL)
        return CONTAINER_OF(found, struct question, node);
    if (s->questions.n >= QUESTIONS_MAX)
        return NULL;
    return question_new(s, key, n, (size_t)at);
}

static void refuse(struct chan *c, uint32_t id, enum dns_result result,
                   const char *why)
{
    struct buf b;

    buf_init(&b, 1024);
    (void)attr_put_u64(&b, AT_RCODE, (uint64_t)result);
    (void)attr_put_str(&b, AT_TEXT, why);
    chan_answer(c, id, buf_view(&b), NULL, 0);
    buf_done(&b);
}

static void add_waiter(struct question *q, struct chan *c, uint32_t id)
{
    struct waiter *w = xcalloc(1, sizeof *w);

    w->chan = chan_ref(c);
    w->id = id;
    if (list_empty(&q->waiters))
        timer_set(&q->timer, clock_after(q->server->settings.timeout_ms),
                  on_timeout);
    list_push(&q->waiters, &w->link);
    q->server->n_waiters++;
}

static void on_query(struct dns_server *s, struct chan *c, const struct msg *m)
{
    uint64_t type = attr_u64_or(m->body, AT_RRTYPE, 0);
    uint64_t flags = attr_u64_or(m->body, AT_FLAGS, 0);
    slice name = SLICE_NONE;
    struct question *q;
    bool is_new;

    s->n_asked++;
    if (!attr_find(m->body, AT_NAME, &name) || !dns_name_ok(name) ||
        type == 0 || type > UINT16_MAX) {
        refuse(c, m->id, DNS_BAD_NAME, "not a domain name");
        return;
    }
    q = find(s, name, (unsigned)type, (unsigned)flags & DNS_RAW, &is_new);
    if (q == NULL || s->n_waiters >= WAITERS_MAX) {
        refuse(c, m->id, DNS_FAIL, "too many questions");
        return;
    }
    add_waiter(q, c, m->id);
    if (!is_new) {
        s->n_shared++;
        return;
    }
    q->type = (unsigned)type;
    q->flags = (unsigned)flags & DNS_RAW;
    put_or_hold(q);
}

static void on_msg(struct chan *c, struct msg *m, void *arg)
{
    struct peer *p = arg;
    struct err err;

    if (m->type == DNS_QUERY) {
        on_query(p->server, c, m);
        return;
    }
    err_perm(&err, "resolver: %s is not for here", proto_name(m->type));
    chan_fail(c, m->id, &err);
}

static void on_close(struct chan *c UNUSED, void *arg)
{
    struct peer *p = arg;
    struct dns_server *s = p->server;

    list_remove(&p->link);
    chan_free(&p->chan);
    free(p);
    idle_if_done(s);
}

static const struct chan_ops ops = { .on_msg = on_msg, .on_close = on_close };

void dns_server_on_peer(struct dns_server *s, int fd)
{
    struct peer *p = xcalloc(1, sizeof *p);

    p->server = s;
    list_push(&s->peers, &p->link);
    p->chan = chan_new(fd, &ops, p);
    if (s->is_draining)
        chan_bye(p->chan);
}

/* ---- life */

static int open_engines(struct dns_server *s, struct err *err)
{
    bool wants_strict = s->settings.dnssec != DNSSEC_NO;
    bool wants_plain = !wants_strict || (s->settings.dnssec == DNSSEC_AUTO &&
                                         s->settings.is_system);

    if (dns_engine_load(err) < 0)
        return -1;
    if (wants_strict && dns_engine_new(&s->settings, true, &s->strict, err) < 0)
        return -1;
    if (wants_plain && dns_engine_new(&s->settings, false, &s->plain, err) < 0)
        return -1;
    return 0;
}

/* libunbound wants more stack than a task has, and a thread for it would be
 * one too many for the sandbox: it is opened on the loop's own stack. */
struct opening {
    struct deferred deferred;
    struct dns_server *server;
    struct task *task;
    struct err *err;
    int rc;
    bool is_done;
};

static void open_on_loop(struct deferred *d)
{
    struct opening *o = CONTAINER_OF(d, struct opening, deferred);

    o->rc = open_engines(o->server, o->err);
    o->is_done = true;
    task_wake(o->task);
}

int dns_server_new(struct process *p, struct dns_server **out, struct err *err)
{
    struct dns_server *s = xcalloc(1, sizeof *s);
    struct opening o = { .server = s, .task = task_self(), .err = err };

    s->arena = arena_new(1u << 20);
    list_init(&s->held);
    list_init(&s->peers);
    map_init(&s->questions, false);
    *out = s;
    if (dns_settings_read(p->conf, s->arena, &s->settings, err) < 0)
        return -1;
    if (o.task == NULL)
        return open_engines(s, err);
    deferred_set(&o.deferred, open_on_loop);
    while (!o.is_done)
        if (task_wait(MSEC_NEVER, err) < 0)
            task_uncancel(); /* it runs in this turn */
    return o.rc;
}

void dns_server_free(struct dns_server **sp)
{
    struct dns_server *s = *sp;
    size_t pos = 0;

    *sp = NULL;
    if (s == NULL)
        return;
    CHECK(list_empty(&s->peers));
    for (struct map_node *n = map_next(&s->questions, &pos, NULL); n != NULL;) {
        struct question *q = CONTAINER_OF(n, struct question, node);

        n = map_next(&s->questions, &pos, n);
        fail_all(q, "the resolver ends");
        question_free(q);
    }
    timer_cancel(&s->probe);
    map_done(&s->questions);
    dns_engine_free(&s->strict);
    dns_engine_free(&s->plain);
    arena_free(&s->arena);
    free(s);
}

void dns_server_drain(struct dns_server *s, void (*on_idle)(void *arg),
                      void *arg)
{
    s->is_draining = true;
    s->on_idle = on_idle;
    s->on_idle_arg = arg;
    list_each(it, &s->peers)
        chan_bye(CONTAINER_OF(it, struct peer, link)->chan);
    idle_if_done(s);
}

void dns_server_dump(const struct dns_server *s, struct buf *out)
{
    (void)buf_printf(out, "dns questions %" PRIu64 "\n", s->n_asked);
    (void)buf_printf(out, "dns shared %" PRIu64 "\n", s->n_shared);
    (void)buf_printf(out, "dns found %" PRIu64 "\n", s->n_ok);
    (void)buf_printf(out, "dns nothing %" PRIu64 "\n", s->n_none);
    (void)buf_printf(out, "dns failed %" PRIu64 "\n", s->n_failed);
    (void)buf_printf(out, "dns bogus %" PRIu64 "\n", s->n_bogus);
    (void)buf_printf(out, "dns timeout %" PRIu64 "\n", s->n_timeout);
    (void)buf_printf(out, "dns waiting %zu\n", s->n_waiters);
    (void)buf_printf(out, "dns validating %d\n",
                     s->strict != NULL && !s->trust.is_plain);
}
