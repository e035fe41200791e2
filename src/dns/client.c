/* The asking side.  A question under way is a task that asks the resolver, and
 * whoever else wants to know the same waits for it. */
#include "dns/dns_priv.h"

#include "base/map.h"
#include "rt/rt.h"

#define DNS_MAGIC MAGIC('D', 'N', 'S', 'C')

struct dns {
    uint32_t magic;
    struct link *link; /* or */
    struct chan *chan;
    struct map asked;
    msec timeout_ms;
    dns_fake_fn *fake;
    void *fake_arg;
    unsigned n_refs;
};

struct asked {
    struct map_node node;
    struct dns *dns;
    struct waitq waiters;
    unsigned n_refs;
    bool is_done;
    bool is_failed; /* `err` instead of `answer` */
    struct msg answer;
    struct err err;
    enum dns_type type;
    unsigned flags;
    size_t n_key;
    char key[]; /* "28 0 name", lower case */
};

static const struct chan_ops ops = { .on_msg = NULL };

struct dns *dns_new(struct process *p)
{
    struct dns *d = xcalloc(1, sizeof *d);

    d->magic = DNS_MAGIC;
    d->n_refs = 1;
    d->timeout_ms = conf_time(p->conf, NULL, "resolver_query_timeout") * 1000;
    d->link = link_new_lazy(p, PT_RESOLVER, 0, &ops, d, NULL);
    map_init(&d->asked, false);
    return d;
}

struct dns *dns_new_socket(int fd, msec timeout_ms)
{
    struct dns *d = xcalloc(1, sizeof *d);

    d->magic = DNS_MAGIC;
    d->n_refs = 1;
    d->timeout_ms = timeout_ms;
    d->chan = chan_new(fd, &ops, d);
    map_init(&d->asked, false);
    return d;
}

struct dns *dns_new_fake(dns_fake_fn *fn, void *arg)
{
    struct dns *d = xcalloc(1, sizeof *d);

    d->magic = DNS_MAGIC;
    d->n_refs = 1;
    d->fake = fn;
    d->fake_arg = arg;
    map_init(&d->asked, false);
    return d;
}

static void dns_unref(struct dns *d)
{
    if (--d->n_refs > 0)
        return;
    map_done(&d->asked);
    d->magic = 0;
    free(d);
}

void dns_free(struct dns **dp)
{
    struct dns *d = *dp;

    *dp = NULL;
    if (d == NULL)
        return;
    CHECK_OBJ(d, DNS_MAGIC);
    link_free(&d->link);
    chan_free(&d->chan);
    dns_unref(d);
}

static void asked_unref(struct asked *k)
{
    struct dns *d = k->dns;

    if (--k->n_refs > 0)
        return;
    if (k->is_done && !k->is_failed)
        msg_free(&k->answer);
    free(k);
    dns_unref(d);
}

/* The resolver may have died, or gone for a new configuration, with our call:
 * once more, then. */
MAY_WAIT static int ask_twice(struct asked *k, slice body)
{
    msec deadline = clock_after(k->dns->timeout_ms + DNS_GRACE_MS);
    int rc = -1;

    if (k->dns->chan != NULL)
        return chan_call(k->dns->chan, DNS_QUERY, body, NULL, 0, deadline,
                         &k->answer, &k->err);
    for (int i = 0; i < 2 && rc < 0 && k->dns->link != NULL; i++)
        rc = link_call(k->dns->link, DNS_QUERY, body, NULL, 0, deadline,
                       &k->answer, &k->err);
    return rc;
}

MAY_WAIT static void ask_task(void *arg)
{
    struct asked *k = arg;
    struct buf b;
    slice rest = slice_of(k->key, k->n_key), number;

    (void)slice_cut(&rest, ' ', &number);
    (void)slice_cut(&rest, ' ', &number);
    buf_init(&b, 1024);
    (void)attr_put(&b, AT_NAME, rest);
    (void)attr_put_u64(&b, AT_RRTYPE, (uint64_t)k->type);
    (void)attr_put_u64(&b, AT_FLAGS, k->flags);
    err_temp(&k->err, "the resolver is gone");
    k->is_failed = ask_twice(k, buf_view(&b)) < 0;
    buf_done(&b);
    k->is_done = true;
    map_del(&k->dns->asked, &k->node);
    waitq_wake_all(&k->waiters);
    asked_unref(k);
}

/* The question under way, with a reference. */
static struct asked *ask(struct dns *d, const struct dns_question *q)
{
    char key[DNS_NAME_MAX + 64];
    struct map_node *found;
    struct asked *k;
    int n = snprintf(key, sizeof key, "%d %u %.*s", (int)q->type, q->flags,
                     SLF(q->name));

    CHECK(n > 0 && (size_t)n < sizeof key);
    for (int i = 0; i < n; i++)
        key[i] = ascii_lower(key[i]);
    found = map_get(&d->asked, slice_of(key, (size_t)n));
    if (found != NULL) {
        k = CONTAINER_OF(found, struct asked, node);
        k->n_refs++;
        return k;
    }
    k = xcalloc(1, sizeof *k + (size_t)n);
    k->dns = d;
    d->n_refs++;
    k->n_refs = 2; /* the task's, and the caller's */
    k->type = q->type;
    k->flags = q->flags;
    k->n_key = (size_t)n;
    memcpy(k->key, key, (size_t)n);
    waitq_init(&k->waiters);
    map_put(&d->asked, &k->node, slice_of(k->key, k->n_key));
    (void)task_spawn("dns", ask_task, k);
    return k;
}

static void fail(const struct dns_question *q, enum dns_result result,
                 slice why, struct arena *a, struct dns_answer *out)
{
    *out = (struct dns_answer){ .result = result };
    out->canonical = slice_dup(a, q->name);
    out->why = slice_dup(a, why);
}

/* Wait for one answer; the reference stays the caller's. */
MAY_WAIT static int take(struct asked *k, const struct dns_question *q,
                         struct arena *a, struct dns_answer *out,
                         struct err *err)
{
    while (!k->is_done)
        if (waitq_wait(&k->waiters, MSEC_NEVER, err) < 0)
            return -1;
    if (!k->is_failed)
        return dns_answer_parse(k->answer.body, q, a, out, err);
    fail(q, DNS_FAIL, slice_str(k->err.log), a, out);
    return 0;
}

/* What is asked in truth: no final dot. */
static struct dns_question tidy(const struct dns_question *q)
{
    struct dns_question t = *q;

    if (t.name.n > 1 && t.name.p[t.name.n - 1] == '.')
        t.name.n--;
    return t;
}

MAY_WAIT static int collect(struct asked *const *asked,
                            const struct dns_question *q, size_t n,
                            struct arena *a, struct dns_answer *out,
                            struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct dns_question t = tidy(&q[i]);

        if (asked[i] == NULL)
            fail(&t, DNS_BAD_NAME, SL("not a domain name"), a, &out[i]);
        else if (take(asked[i], &t, a, &out[i], err) < 0)
            return -1;
    }
    return 0;
}

int dns_query_all(struct dns *d, const struct dns_question *q, size_t n,
                  struct arena *a, struct dns_answer *out, struct err *err)
{
    struct asked **asked;
    int rc;

    CHECK_OBJ(d, DNS_MAGIC);
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): of pointers */
    asked = xcalloc(n + 1, sizeof *asked);
    for (size_t i = 0; i < n; i++) {
        struct dns_question t = tidy(&q[i]);

        if (d->fake == NULL && dns_name_ok(t.name))
            asked[i] = ask(d, &t);
        else if (d->fake != NULL)
            d->fake(d->fake_arg, &t, a, &out[i]);
    }
    rc = d->fake == NULL ? collect(asked, q, n, a, out, err) : 0;
    for (size_t i = 0; i < n; i++)
        if (asked[i] != NULL)
            asked_unref(asked[i]);
    free(asked);
    return rc;
}

/* NOLINTNEXTLINE(readability-function-size): what a question has */
int dns_query(struct dns *d, slice name, enum dns_type type, unsigned flags,
              struct arena *a, struct dns_answer *out, struct err *err)
{
    const struct dns_question q = { .name = name,
                                    .type = type,
                                    .flags = flags };

    return dns_query_all(d, &q, 1, a, out, err);
}
