/* The process `fetcher`. */
#include "fetch/fetch_priv.h"
#include "fetch/libs.h"

#include "rt/file.h"

#include <arpa/inet.h>
#include <fcntl.h>

#define POLICIES_MAX 20000
#define FETCH_MS     60000 /* RFC 8461 3.3 suggests a minute */
#define FAILED_MS    ((msec)300 * 1000)
#define ADDRS_MAX    16
#define ROOTS_MAX    ((size_t)4 << 20)
#define ARENA_BYTES  ((size_t)256 << 10)

/* ---- what is kept */

void fetch_policy_free(struct fetch_server *s, struct fetched *f)
{
    map_del(&s->policies, &f->node);
    list_remove(&f->by_age);
    free(f->id);
    free(f->text);
    free(f->failed_id);
    free(f);
}

struct fetched *fetch_policy_of(struct fetch_server *s, slice domain)
{
    struct map_node *n = map_get(&s->policies, domain);
    struct fetched *f;

    if (n != NULL) {
        f = CONTAINER_OF(n, struct fetched, node);
        list_remove(&f->by_age);
        list_push(&s->by_age, &f->by_age);
        return f;
    }
    if (s->policies.n >= POLICIES_MAX) {
        f = CONTAINER_OF(s->by_age.next, struct fetched, by_age);
        if (!f->is_busy)
            fetch_policy_free(s, f);
    }
    f = xcalloc(1, sizeof(*f) + domain.n + 1);
    memcpy(f->domain, domain.p, domain.n);
    waitq_init(&f->waiting);
    list_push(&s->by_age, &f->by_age);
    map_put(&s->policies, &f->node, slice_of(f->domain, domain.n));
    return f;
}

/* ---- fetching */

static void put_addresses(const struct dns_answer *answer, int family,
                          struct arena *a, slice *out, size_t *n)
{
    for (size_t i = 0; answer->result == DNS_OK && i < answer->n_rr; i++) {
        char text[INET6_ADDRSTRLEN];

        if (*n == ADDRS_MAX ||
            inet_ntop(family, answer->rr[i].ip, text, sizeof text) == NULL)
            continue;
        out[*n] = slice_dup(a, slice_str(text));
        *n += out[*n].n > 0;
    }
}

int fetch_addresses(struct fetch_server *s, slice host, struct arena *a,
                    slice **out, size_t *n, struct err *err)
{
    const struct dns_question q[2] = { { host, DNS_AAAA, 0 },
                                       { host, DNS_A, 0 } };
    struct dns_answer answer[2] = { { 0 } };

    *n = 0;
    *out = arena_alloc(a, sizeof(slice) * ADDRS_MAX);
    if (*out == NULL)
        return err_temp(err, "too many addresses");
    if (dns_query_all(s->dns, q, 2, a, answer, err) < 0)
        return -1;
    if (s->has_v6)
        put_addresses(&answer[0], AF_INET6, a, *out, n);
    if (s->has_v4)
        put_addresses(&answer[1], AF_INET, a, *out, n);
    return *n > 0 ? 0 : err_temp(err, "%.*s has no address", SLF(host));
}

MAY_WAIT static int get_policy(struct fetch_server *s, const char *domain,
                               struct http_answer *out, struct sts_policy *p,
                               struct err *err)
{
    struct arena *a = arena_new(ARENA_BYTES);
    char *host = arena_printf(a, "mta-sts.%s", domain);
    struct http_request r = { .host = slice_str(host),
                              .port = s->port,
                              .path = SL("/.well-known/mta-sts.txt"),
                              .roots = &s->roots,
                              .deadline = clock_after(FETCH_MS) };
    slice *addrs;
    int rc = -1;

    if (fetch_addresses(s, r.host, a, &addrs, &r.n_addrs, err) == 0) {
        r.addrs = addrs;
        rc = http_ask(&r, out, err);
    }
    if (rc == 0 && out->status != 200)
        rc = err_perm(err, "the answer is %d", out->status);
    else if (rc == 0 && !out->is_text)
        rc = err_perm(err, "the answer is not text/plain");
    else if (rc == 0 && (slice_chr(buf_view(&out->body), '\0') >= 0 ||
                         !sts_parse(buf_view(&out->body), p)))
        rc = err_perm(err, "the policy is malformed");
    arena_free(&a);
    return rc;
}

MAY_WAIT static void renew(struct fetch_server *s, struct fetched *f, slice id)
{
    struct sts_policy *p = xcalloc(1, sizeof *p);
    char *new_id = slice_xstrdup(id);
    struct http_answer answer = { 0 };
    struct err err;

    buf_init(&answer.body, FETCH_MAX_BYTES);
    if (get_policy(s, f->domain, &answer, p, &err) == 0) {
        s->n_fetched++;
        free(f->id);
        free(f->text);
        f->id = new_id;
        f->text = slice_xstrdup(buf_view(&answer.body));
        f->until = clock_wall() + (msec)p->max_age * 1000;
        f->failed_until = 0;
        new_id = NULL;
        store_touch(s);
    } else {
        s->n_failed++;
        log_warning("MTA-STS policy of %s: %s%s", f->domain, err.log,
                    f->text != NULL && f->until > clock_wall()
                        ? "; the one before stays in use"
                        : "");
        free(f->failed_id);
        f->failed_id = new_id;
        new_id = NULL;
        f->failed_until = clock_wall() + FAILED_MS;
    }
    free(new_id);
    buf_done(&answer.body);
    free(p);
}

static bool is_due(const struct fetched *f, slice id)
{
    if (id.n == 0)
        return false;
    if (f->failed_until > clock_wall() && slice_eqs(id, f->failed_id))
        return false;
    return f->text == NULL || f->until <= clock_wall() || !slice_eqs(id, f->id);
}

MAY_WAIT static void answer_policy(struct fetch_server *s, struct chan *c,
                                   const struct msg *m)
{
    slice domain = SLICE_NONE, id = SLICE_NONE;
    struct fetched *f;
    struct buf b;
    struct err err;

    (void)attr_find(m->body, AT_NAME, &domain);
    (void)attr_find(m->body, AT_ID, &id);
    if (domain.n == 0 || domain.n > 253 || id.n > 32) {
        (void)err_perm(&err, "no domain");
        chan_fail(c, m->id, &err);
        return;
    }
    f = fetch_policy_of(s, domain);
    while (f->is_busy) {
        if (waitq_wait(&f->waiting, clock_after(2 * (msec)FETCH_MS), &err) < 0)
            break;
        f = fetch_policy_of(s, domain);
    }
    if (!f->is_busy && is_due(f, id)) {
        f->is_busy = true;
        renew(s, f, id);
        f->is_busy = false;
        waitq_wake_all(&f->waiting);
    }
    buf_init(&b, FETCH_MAX_BYTES + 4096);
    (void)attr_put_str(&b, AT_CONTENT,
                       f->text != NULL && f->until > clock_wall() ? f->text
                                                                  : "");
    chan_answer(c, m->id, buf_view(&b), NULL, 0);
    buf_done(&b);
}

/* ---- peers */

struct peer {
    struct list link;
    struct fetch_server *server;
    struct chan *chan;
};

void fetch_maybe_idle(struct fetch_server *s)
{
    if (!s->is_draining || !list_empty(&s->peers) || s->n_tasks > 0 ||
        s->on_idle == NULL)
        return;
    store_close(s);
    s->on_idle(s->on_idle_arg);
    s->on_idle = NULL;
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    /* The channel's owner may be gone after a wait. */
    struct fetch_server *s = ((struct peer *)arg)->server;

    s->n_tasks++;
    if (m->type == FETCH_POLICY) {
        answer_policy(s, c, m);
    } else if (m->type == FETCH_COUNT) {
        report_count(s, m->body);
        chan_answer(c, m->id, SLICE_NONE, NULL, 0);
    }
    s->n_tasks--;
    fetch_maybe_idle(s);
}

static void on_close(struct chan *c, void *arg)
{
    struct peer *p = arg;
    struct fetch_server *s = p->server;

    list_remove(&p->link);
    chan_free(&c);
    free(p);
    fetch_maybe_idle(s);
}

void fetch_server_on_peer(struct fetch_server *s, int fd)
{
    static const struct chan_ops ops = { .serve = serve,
                                         .max_tasks = 200,
                                         .on_close = on_close };
    struct peer *p = xcalloc(1, sizeof *p);

    p->server = s;
    list_push(&s->peers, &p->link);
    p->chan = chan_new(fd, &ops, p);
    if (s->is_draining)
        chan_bye(p->chan);
}

/* ---- life */

static int read_roots(const struct conf *c, struct buf *out, struct err *err)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    };
    const char *own = conf_str(c, NULL, "smtp_tls_mta_sts_CAfile");

    if (own[0] != '\0')
        return file_read(AT_FDCWD, own, out, err) < 0
                   ? err_prefix(err, "smtp_tls_mta_sts_CAfile")
                   : 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (file_read(AT_FDCWD, places[i], out, err) == 0)
            return 0;
    buf_clear(out);
    log_warning("fetcher: the system has no authorities to trust; no policy of "
                "MTA-STS can be fetched (smtp_tls_mta_sts_CAfile)");
    return 0;
}

static bool has_protocol(const struct conf *c, const char *name)
{
    slice list = conf_slice(c, NULL, "inet_protocols"), word;

    while (slice_token(&list, ", \t\r\n", &word))
        if (slice_ieqs(word, "all") || slice_ieqs(word, name))
            return true;
    return false;
}

int fetch_server_new(struct process *p, struct fetch_server **out,
                     struct err *err)
{
    struct fetch_server *s = xcalloc(1, sizeof *s);

    *out = s;
    s->p = p;
    s->port = (uint16_t)conf_int(p->conf, NULL, "smtp_tls_mta_sts_port");
    s->has_v4 = has_protocol(p->conf, "ipv4");
    s->has_v6 = has_protocol(p->conf, "ipv6");
    s->reports = conf_bool(p->conf, NULL, "smtp_tls_reporting");
    map_init(&s->policies, true);
    map_init(&s->counts, true);
    list_init(&s->by_age);
    list_init(&s->peers);
    buf_init(&s->roots, ROOTS_MAX);
    if (fetch_libs_load(err) < 0 || read_roots(p->conf, &s->roots, err) < 0 ||
        store_open(s, err) < 0)
        return -1;
    s->dns = dns_new(p);
    report_start(s);
    return 0;
}

void fetch_server_drain(struct fetch_server *s, void (*on_idle)(void *arg),
                        void *arg)
{
    s->is_draining = true;
    s->on_idle = on_idle;
    s->on_idle_arg = arg;
    timer_cancel(&s->midnight);
    list_each(it, &s->peers)
        chan_bye(CONTAINER_OF(it, struct peer, link)->chan);
    fetch_maybe_idle(s);
}

void fetch_server_dump(const struct fetch_server *s, struct buf *out)
{
    (void)buf_printf(out,
                     "policies %zu, fetched %llu, failed %llu; reported "
                     "domains %zu\n",
                     s->policies.n, (unsigned long long)s->n_fetched,
                     (unsigned long long)s->n_failed, s->counts.n);
}
