/*
 * TLSRPT (RFC 8460): sessions are counted by policy domain, and once a day
 * (UTC) a report goes to whom the domain's record names: by mail, or by HTTPS.
 * What was counted is kept over a restart; what could not be sent is told in
 * the log and dropped, for mail waits in the queue like any other.
 */
#include "fetch/report.h"
#include "fetch/fetch_priv.h"

#include "spool/envelope.h"
#include "spool/spool.h"

#define COUNTS_MAX   10000
#define FAILURES_MAX 100
#define TEXT_MAX     200
#define DAY_S        86400
#define DAY_MS       ((msec)DAY_S * 1000)
#define SPREAD_MS    ((uint64_t)3600 * 1000)
#define POST_MS      60000
#define ARENA_BYTES  ((size_t)1 << 20)
#define REPORT_MAX   ((size_t)4 << 20)

static int64_t day_now(void)
{
    return clock_wall() / DAY_MS;
}

/* ---- counting */

static struct counted *counted_of(struct fetch_server *s, slice domain,
                                  slice kind)
{
    char *key CLEANUP(free_ptr) =
        xasprintf("%.*s\n%.*s", SLF(domain), SLF(kind));
    struct map_node *n = map_get(&s->counts, slice_str(key));
    struct counted *c;

    if (n != NULL)
        return CONTAINER_OF(n, struct counted, node);
    if (s->counts.n >= COUNTS_MAX)
        return NULL;
    c = xcalloc(1, sizeof(*c) + strlen(key) + 1);
    memcpy(c->key, key, strlen(key));
    c->domain = slice_xstrdup(domain);
    c->kind = slice_xstrdup(kind);
    c->lines = xstrdup("");
    list_init(&c->failures);
    map_put(&s->counts, &c->node, slice_str(c->key));
    return c;
}

static void counted_free(struct fetch_server *s, struct counted *c)
{
    struct list *it;

    map_del(&s->counts, &c->node);
    while ((it = list_pop(&c->failures)) != NULL) {
        struct failure *f = CONTAINER_OF(it, struct failure, link);

        free(f->type);
        free(f->local);
        free(f->remote);
        free(f->addr);
        free(f->text);
        free(f);
    }
    free(c->domain);
    free(c->kind);
    free(c->lines);
    free(c);
}

/* What a failure is known by. */
struct fields {
    slice domain, kind, lines, type, local, remote, addr, text;
    uint64_t n;
};

static slice printable(slice s, char *room)
{
    size_t n = min_size(s.n, TEXT_MAX);

    for (size_t i = 0; i < n; i++)
        room[i] = s.p[i] >= ' ' && s.p[i] < 0x7f ? s.p[i] : '?';
    return slice_of(room, n);
}

static void count_failure(struct counted *c, const struct fields *v)
{
    struct failure *f;

    c->n_failed += v->n;
    list_each(it, &c->failures) {
        f = CONTAINER_OF(it, struct failure, link);
        if (slice_eqs(v->type, f->type) && slice_eqs(v->remote, f->remote) &&
            slice_eqs(v->addr, f->addr) && slice_eqs(v->local, f->local)) {
            f->n += v->n;
            return;
        }
    }
    if (c->n_failures >= FAILURES_MAX)
        return;
    c->n_failures++;
    f = xcalloc(1, sizeof *f);
    f->type = slice_xstrdup(v->type);
    f->local = slice_xstrdup(v->local);
    f->remote = slice_xstrdup(v->remote);
    f->addr = slice_xstrdup(v->addr);
    f->text = slice_xstrdup(v->text);
    f->n = v->n;
    list_push(&c->failures, &f->link);
}

static void add(struct fetch_server *s, const struct fields *v)
{
    struct counted *c;

    if (v->domain.n == 0 || v->domain.n > 253 || v->kind.n > 20)
        return;
    c = counted_of(s, v->domain, v->kind);
    if (c == NULL)
        return;
    if (v->lines.n > 0 && v->lines.n <= FETCH_LINES_MAX) {
        free(c->lines);
        c->lines = slice_xstrdup(v->lines);
    }
    if (v->type.n == 0)
        c->n_good += v->n;
    else
        count_failure(c, v);
}

static struct fields read_fields(slice in, char room[static 4][TEXT_MAX])
{
    struct fields v = { .n = attr_u64_or(in, AT_SIZE, 1) };

    (void)attr_find(in, AT_NAME, &v.domain);
    (void)attr_find(in, AT_KIND, &v.kind);
    (void)attr_find(in, AT_CONTENT, &v.lines);
    (void)attr_find(in, AT_REASON, &v.type);
    (void)attr_find(in, AT_LOCAL, &v.local);
    (void)attr_find(in, AT_REMOTE, &v.remote);
    (void)attr_find(in, AT_ADDR, &v.addr);
    (void)attr_find(in, AT_DIAG, &v.text);
    v.type = slice_sub(v.type, 0, 64);
    v.local = printable(v.local, room[0]);
    v.remote = printable(v.remote, room[1]);
    v.addr = printable(v.addr, room[2]);
    v.text = printable(v.text, room[3]);
    return v;
}

void report_load(struct fetch_server *s, slice attributes)
{
    char room[4][TEXT_MAX];
    struct fields v = read_fields(attributes, room);

    add(s, &v);
}

void report_count(struct fetch_server *s, slice attributes)
{
    if (!s->reports)
        return;
    if (s->counts.n == 0)
        s->day = day_now();
    report_load(s, attributes);
    store_touch(s);
}

/* ---- keeping: a record for the good sessions, one for each failure */

static void put_one(struct buf *b, const struct counted *c,
                    const struct failure *f)
{
    struct buf one;

    buf_init(&one, FETCH_LINES_MAX + 4096);
    (void)attr_put_str(&one, AT_NAME, c->domain);
    (void)attr_put_str(&one, AT_KIND, c->kind);
    (void)attr_put_str(&one, AT_CONTENT, c->lines);
    (void)attr_put_u64(&one, AT_SIZE, f != NULL ? f->n : c->n_good);
    if (f != NULL) {
        (void)attr_put_str(&one, AT_REASON, f->type);
        (void)attr_put_str(&one, AT_LOCAL, f->local);
        (void)attr_put_str(&one, AT_REMOTE, f->remote);
        (void)attr_put_str(&one, AT_ADDR, f->addr);
        (void)attr_put_str(&one, AT_DIAG, f->text);
    }
    (void)attr_put(b, AT_VALUE, buf_view(&one));
    buf_done(&one);
}

void report_put(struct fetch_server *s, struct buf *b)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&s->counts, &pos, n)) != NULL) {
        const struct counted *c = CONTAINER_OF(n, struct counted, node);

        put_one(b, c, NULL);
        list_each(it, &c->failures)
            put_one(b, c, CONTAINER_OF(it, struct failure, link));
    }
}

/* ---- sending */

struct sending {
    struct fetch_server *server;
    struct arena *a;
    slice domain;
    struct buf json, gzip;
    struct report_names names;
};

MAY_WAIT static int send_mail(struct sending *v, slice to, struct err *err)
{
    struct fetch_server *s = v->server;
    struct spool_draft *d = NULL;
    struct envelope_rcpt rcpt = { .addr = to, .notify = ENV_NOTIFY_NEVER };
    struct envelope e = { .sender = slice_str(v->names.sender),
                          .rcpts = &rcpt,
                          .n_rcpts = 1,
                          .client_name = SL("localhost"),
                          .client_addr = SL("127.0.0.1"),
                          .protocol = SL("internal"),
                          .service = SL("fetcher") };
    struct buf head, body;
    int rc = -1;

    if (s->spool == NULL)
        s->spool = spool_writer_link(s->p, NULL);
    buf_init(&head, 16384);
    buf_init(&body, REPORT_MAX);
    report_mail(&v->names, buf_view(&v->gzip), to, &head, &body);
    e.headers = buf_view(&head);
    if (head.overflow || body.overflow)
        (void)err_temp(err, "the report is too long");
    else if (spool_draft_open(s->spool, body.n, &d, err) == 0 &&
             spool_draft_write(d, buf_view(&body), err) == 0)
        rc = spool_draft_commit(&d, &e, err);
    spool_draft_abort(&d);
    buf_done(&head);
    buf_done(&body);
    return rc;
}

MAY_WAIT static int post(struct sending *v, slice url, struct err *err)
{
    slice rest = slice_from(url, strlen("https://")), host;
    struct http_request r = { .content_type = SL("application/tlsrpt+gzip"),
                              .body = buf_view(&v->gzip),
                              .roots = &v->server->roots,
                              .port = 443,
                              .deadline = clock_after(POST_MS) };
    struct http_answer answer = { 0 };
    uint64_t port;
    slice *addrs;
    ssize_t at = slice_chr(rest, '/');
    int rc = -1;

    host = at >= 0 ? slice_sub(rest, 0, (size_t)at) : rest;
    r.path = at >= 0 ? slice_from(rest, (size_t)at) : SL("/");
    at = slice_chr(host, ':');
    if (at >= 0) {
        if (!slice_u64(slice_from(host, (size_t)at + 1), &port) || port == 0 ||
            port > 65535)
            return err_perm(err, "no port");
        r.port = (uint16_t)port;
        host = slice_sub(host, 0, (size_t)at);
    }
    r.host = host;
    buf_init(&answer.body, FETCH_MAX_BYTES);
    if (fetch_addresses(v->server, host, v->a, &addrs, &r.n_addrs, err) == 0) {
        r.addrs = addrs;
        rc = http_ask(&r, &answer, err);
    }
    if (rc == 0 && (answer.status < 200 || answer.status > 299))
        rc = err_perm(err, "the answer is %d", answer.status);
    buf_done(&answer.body);
    return rc;
}

/* RFC 8460 3: the places of the one record. */
static slice find_places(const struct dns_answer *answer)
{
    slice found = SLICE_NONE;

    for (size_t i = 0; answer->result == DNS_OK && i < answer->n_rr; i++) {
        if (!slice_starts(answer->rr[i].text, SL("v=TLSRPTv1")))
            continue;
        if (found.n > 0)
            return SLICE_NONE;
        found = report_places(answer->rr[i].text);
    }
    return found;
}

MAY_WAIT static int send_to(struct sending *v, slice place, struct err *err)
{
    slice to;

    if (slice_istarts(place, SL("https://")))
        return post(v, place, err);
    if (!slice_istarts(place, SL("mailto:")))
        return err_perm(err, "neither mailto: nor https:");
    to = report_address(v->a, slice_from(place, 7));
    return to.n > 0 ? send_mail(v, to, err) : err_perm(err, "no address");
}

static void tell_sent(const struct sending *v, slice place)
{
    event_text(EV_INFO, "fetcher", NULL, "report on TLS to %.*s sent to %.*s",
               SLF(v->domain), SLF(place));
}

static void tell_not_sent(const struct sending *v, slice place,
                          const struct err *err)
{
    event_text(EV_WARNING, "fetcher", NULL,
               "report on TLS to %.*s not sent to %.*s: %s", SLF(v->domain),
               SLF(place), err->log);
}

MAY_WAIT static void send_to_all(struct sending *v, slice places)
{
    slice place;

    while (slice_token(&places, ", \t", &place)) {
        struct err err = { 0 };

        if (send_to(v, place, &err) == 0)
            tell_sent(v, place);
        else
            tell_not_sent(v, place, &err);
    }
}

/* All kinds of one domain, taken out of the counts. */
static bool take_counts(struct sending *v)
{
    static const char *const kinds[] = { "tlsa", "sts", "no-policy-found" };
    struct fetch_server *s = v->server;
    struct json_t *report = report_new(&v->names);

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char *key = arena_printf(v->a, "%.*s\n%s", SLF(v->domain), kinds[i]);
        struct map_node *at = map_get(&s->counts, slice_str(key));

        if (at == NULL)
            continue;
        report_add(report, CONTAINER_OF(at, struct counted, node));
        counted_free(s, CONTAINER_OF(at, struct counted, node));
    }
    return report_write(report, &v->json);
}

MAY_WAIT static void report_domain(struct fetch_server *s, slice domain,
                                   int64_t day)
{
    struct sending *v = xcalloc(1, sizeof *v);
    struct dns_answer answer = { .result = DNS_FAIL };
    slice places = SLICE_NONE;
    struct err err;
    char *name;

    v->server = s;
    v->domain = domain;
    v->a = arena_new(ARENA_BYTES);
    report_names_init(&v->names, s->p->conf, domain, day);
    name = arena_printf(v->a, "_smtp._tls.%.*s", SLF(domain));
    if (name != NULL && dns_query(s->dns, slice_str(name), DNS_TXT, 0, v->a,
                                  &answer, &err) == 0)
        places = find_places(&answer);
    buf_init(&v->json, REPORT_MAX);
    buf_init(&v->gzip, REPORT_MAX);
    if (take_counts(v) && places.n > 0 &&
        report_gzip(buf_view(&v->json), &v->gzip))
        send_to_all(v, places);
    buf_done(&v->json);
    buf_done(&v->gzip);
    arena_free(&v->a);
    free(v);
}

/* The domains there are now: what is counted meanwhile is of the new day. */
static char **domains_of(struct fetch_server *s, size_t *n_out)
{
    char **v = xcalloc(s->counts.n + 1, sizeof *v);
    struct map_node *n = NULL;
    size_t pos = 0, got = 0;

    while ((n = map_next(&s->counts, &pos, n)) != NULL)
        v[got++] = xstrdup(CONTAINER_OF(n, struct counted, node)->domain);
    *n_out = got;
    return v;
}

static bool is_counted(struct fetch_server *s, const char *domain)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    while ((n = map_next(&s->counts, &pos, n)) != NULL)
        if (strcmp(CONTAINER_OF(n, struct counted, node)->domain, domain) == 0)
            return true;
    return false;
}

MAY_WAIT static void report_all(void *arg)
{
    struct fetch_server *s = arg;
    int64_t day = s->day;
    size_t n;
    char **domains = domains_of(s, &n);

    s->n_tasks++;
    s->day = day_now();
    for (size_t i = 0; i < n; i++) {
        /* It stands there once for each kind. */
        bool is_again = i > 0 && strcmp(domains[i], domains[i - 1]) == 0;

        if (!is_again && is_counted(s, domains[i]))
            report_domain(s, slice_str(domains[i]), day);
    }
    for (size_t i = 0; i < n; i++)
        free(domains[i]);
    free(domains);
    store_touch(s);
    s->is_reporting = false;
    s->n_tasks--;
    report_start(s);
    fetch_maybe_idle(s);
}

static void on_midnight(struct timer *t)
{
    struct fetch_server *s = CONTAINER_OF(t, struct fetch_server, midnight);

    if (s->counts.n == 0 || s->is_reporting || s->day >= day_now()) {
        report_start(s);
        return;
    }
    s->is_reporting = true;
    (void)task_spawn("tls-reports", report_all, s);
}

void report_start(struct fetch_server *s)
{
    msec next = (day_now() + 1) * DAY_MS - clock_wall();
    uint32_t r;

    if (!s->reports || s->is_draining)
        return;
    /* RFC 8460 4.1: not everybody at midnight. */
    random_bytes(&r, sizeof r);
    if (!clock_is_test())
        next += (msec)(r % SPREAD_MS);
    if (s->counts.n > 0 && s->day < day_now())
        next = 5000;
    timer_set(&s->midnight, clock_after(next + 1000), on_midnight);
}
