/*
 * MTA-STS (RFC 8461) as the client sees it: the record that says whether there
 * is a policy, and which, is asked of DNS; the policy itself of the process
 * `fetcher`, which keeps it.  What came of it is remembered here for as long as
 * DNS says, so most mail asks nobody.
 */
#include "smtp/client/policy.h"

#include "fetch/fetch.h"
#include "ipc/ipc.h"

#define SEEN_MAX     20000
#define TTL_MIN      60
#define TTL_MAX      3600
#define TTL_FAILED   300 /* RFC 8461 3.3 */
#define FETCH_MS     70000
#define COUNT_MS     30000
#define COUNTING_MAX 1000
#define POLICY_ARENA ((size_t)256 << 10)

/* What is known of one domain. */
struct known {
    struct map_node node;
    struct list by_age; /* the oldest first */
    msec until;         /* when to ask again; wall clock */
    bool is_busy;       /* somebody is asking */
    bool has_policy;
    char *text; /* NULL: none */
    struct waitq waiting;
    char domain[];
};

/* One for each process. */
static struct {
    struct map map;
    struct list by_age;
    struct link *fetcher;
    bool is_ready;
    bool has_asked; /* the fetcher was asked for a policy once */
    bool has_file;  /* it had kept some before we started */
    unsigned n_counting;
} sts;

static void on_close(struct chan *c UNUSED, void *arg UNUSED)
{
}

static void setup(struct smtp_client *c)
{
    static const struct chan_ops ops = { .on_close = on_close };

    if (sts.is_ready)
        return;
    sts.is_ready = true;
    map_init(&sts.map, true);
    list_init(&sts.by_age);
    if (c->p != NULL)
        sts.fetcher = link_new_lazy(c->p, PT_FETCHER, 0, &ops, NULL, NULL);
}

void client_sts_note_files(const char *data_dir)
{
    char *path CLEANUP(free_ptr) = xasprintf("%s/fetcher.0", data_dir);

    sts.has_file = access(path, F_OK) == 0;
}

static void known_free(struct known *k)
{
    map_del(&sts.map, &k->node);
    list_remove(&k->by_age);
    free(k->text);
    free(k);
}

static struct known *known_of(slice domain)
{
    struct map_node *n = map_get(&sts.map, domain);
    struct known *k;

    if (n != NULL)
        return CONTAINER_OF(n, struct known, node);
    if (sts.map.n >= SEEN_MAX) {
        k = CONTAINER_OF(sts.by_age.next, struct known, by_age);
        if (!k->is_busy)
            known_free(k);
    }
    k = xcalloc(1, sizeof(*k) + domain.n + 1);
    memcpy(k->domain, domain.p, domain.n);
    waitq_init(&k->waiting);
    list_push(&sts.by_age, &k->by_age);
    map_put(&sts.map, &k->node, slice_of(k->domain, domain.n));
    return k;
}

/* ---- asking */

/* The id of the one record there is.  RFC 8461 3.1: two are none. */
static bool find_id(const struct dns_answer *answer, slice *id)
{
    size_t n = 0;

    for (size_t i = 0; answer->result == DNS_OK && i < answer->n_rr; i++)
        if (slice_starts(answer->rr[i].text, SL("v=STSv1"))) {
            n++;
            if (!sts_parse_record(answer->rr[i].text, id))
                return false;
        }
    return n == 1;
}

static msec within(uint32_t ttl)
{
    uint32_t sec = ttl < TTL_MIN ? TTL_MIN : ttl > TTL_MAX ? TTL_MAX : ttl;

    return clock_wall() + (msec)sec * 1000;
}

/* `id` empty: what the fetcher still has, nothing new.  The text is the
 * caller's; NULL: none. */
MAY_WAIT static char *fetch(slice domain, slice id, bool *failed)
{
    struct buf body;
    struct msg answer;
    struct err err;
    char *text = NULL;
    slice got;
    int rc;

    *failed = true;
    buf_init(&body, 4096);
    (void)attr_put(&body, AT_NAME, domain);
    (void)attr_put(&body, AT_ID, id);
    rc = sts.fetcher == NULL
             ? -1
             : link_call(sts.fetcher, FETCH_POLICY, buf_view(&body), NULL, 0,
                         clock_after(FETCH_MS), &answer, &err);
    buf_done(&body);
    if (rc < 0)
        return NULL;
    *failed = false;
    if (attr_find(answer.body, AT_CONTENT, &got) && got.n > 0)
        text = slice_xstrdup(got);
    msg_free(&answer);
    return text;
}

/* 0, or -1: cancelled. */
MAY_WAIT static int renew(struct smtp_client *c, struct known *k,
                          struct err *err)
{
    struct arena *a = arena_new(POLICY_ARENA);
    slice domain = slice_str(k->domain);
    char *name = arena_printf(a, "_mta-sts.%s", k->domain);
    struct dns_answer answer = { .result = DNS_FAIL };
    slice id = SLICE_NONE;
    bool failed = false, has_id;
    char *text = NULL;
    int rc = name == NULL ? 0
                          : dns_query(c->dns, slice_str(name), DNS_TXT, 0, a,
                                      &answer, err);

    has_id = rc == 0 && find_id(&answer, &id);
    if (!has_id)
        id = SLICE_NONE;
    /* RFC 8461 5.1: a policy that was had is kept though its record is gone. */
    if (rc == 0 && (has_id || sts.has_asked || sts.has_file)) {
        sts.has_asked |= has_id;
        text = fetch(domain, id, &failed);
    }
    if (rc == 0) {
        if (!failed) {
            free(k->text);
            k->text = text;
        }
        k->until = within(failed || answer.result == DNS_FAIL ||
                                  (has_id && text == NULL)
                              ? TTL_FAILED
                              : answer.ttl);
    }
    arena_free(&a);
    return rc;
}

/* ---- what it says */

static int make(slice domain, slice text, struct arena *a,
                struct client_sts **out, struct err *err)
{
    struct sts_policy *p = arena_alloc(a, sizeof *p);
    struct client_sts *s = arena_alloc(a, sizeof *s);

    *out = NULL;
    if (p == NULL || s == NULL)
        return err_temp(err, "a policy of MTA-STS is too long");
    s->text = slice_dup(a, text);
    s->domain = slice_dup(a, domain);
    if (s->text.n == 0 || !sts_parse(s->text, p) || p->mode == STS_NONE)
        return 0;
    s->is_strict = p->mode == STS_ENFORCE;
    s->mx = p->mx;
    s->n_mx = p->n_mx;
    *out = s;
    return 0;
}

int client_sts_find(struct smtp_client *c, slice domain, struct arena *a,
                    struct client_sts **out, struct err *err)
{
    struct known *k;
    int rc = 0;

    *out = NULL;
    setup(c);
    k = known_of(domain);
    while (k->is_busy) {
        if (waitq_wait(&k->waiting, clock_after(2 * (msec)FETCH_MS), err) < 0)
            return task_is_cancelled() ? -1 : 0;
        k = known_of(domain);
    }
    if (k->until <= clock_wall()) {
        k->is_busy = true;
        rc = renew(c, k, err);
        k->is_busy = false;
        waitq_wake_all(&k->waiting);
        list_remove(&k->by_age);
        list_push(&sts.by_age, &k->by_age);
    }
    if (rc < 0 || k->text == NULL)
        return rc;
    return make(domain, slice_str(k->text), a, out, err);
}

bool client_sts_matches(const struct client_sts *s, slice host)
{
    for (size_t i = 0; i < s->n_mx; i++)
        if (sts_mx_matches(s->mx[i], host))
            return true;
    return false;
}

/* ---- reports */

/* On its way to the fetcher: nobody waits for it. */
MAY_WAIT static void send_count(void *arg)
{
    struct buf *b = arg;
    struct msg answer;
    struct err err;

    if (link_call(sts.fetcher, FETCH_COUNT, buf_view(b), NULL, 0,
                  clock_after(COUNT_MS), &answer, &err) == 0)
        msg_free(&answer);
    sts.n_counting--;
    buf_done(b);
    free(b);
}

void client_policy_report(struct smtp_client *c, const struct tls_policy *p,
                          const struct client_way *way, slice local_addr,
                          const char *result, slice text)
{
    const struct client_host *h = way->host;
    const char *kind = p->report_kind;
    slice nexthop = way->nexthop;
    struct buf *b;

    if (!conf_bool(c->conf, NULL, "smtp_tls_reporting") || h->is_fallback ||
        h->unix_path.n > 0 || !slice_ieq(nexthop, h->nexthop) ||
        slice_chr(nexthop, '[') >= 0)
        return;
    setup(c);
    if (sts.fetcher == NULL || sts.n_counting >= COUNTING_MAX)
        return;
    b = xcalloc(1, sizeof *b);
    buf_init(b, 65536 + FETCH_MAX_BYTES);
    (void)attr_put(b, AT_NAME, nexthop);
    (void)attr_put_str(b, AT_KIND, kind != NULL ? kind : "no-policy-found");
    (void)attr_put(b, AT_CONTENT, p->report_policy);
    (void)attr_put(b, AT_REMOTE, h->name);
    (void)attr_put(b, AT_ADDR, h->addr);
    (void)attr_put(b, AT_LOCAL, local_addr);
    (void)attr_put_str(b, AT_REASON, result != NULL ? result : "");
    (void)attr_put(b, AT_DIAG, text);
    (void)attr_put_u64(b, AT_SIZE, 1);
    sts.n_counting++;
    (void)task_spawn("tls-count", send_count, b);
}
