#include "base/base.h"

#include <fcntl.h>

#include "base/codec.h"
#include "ipc/event.h"
#include "mail/mail.h"
#include "queue/queue_priv.h"
#include "rt/file.h"

/*
 * Address verification, Postfix's verify(8): what is known of addresses, and
 * probes that find it out.  A probe is a DELIVER_REQUEST without a message,
 * made here; it never sees the spool.
 *
 *     unknown --asked--> ASKED (probe waits or runs) --answer--> OK, BOUNCE or
 *     DEFER --expired--> unknown;  --refresh time, asked--> probed again
 *
 * What is known is kept in a file of the spool's directory, written now and
 * then: what a crash loses of it is asked again.
 */

#define CACHE_MAX   200000 /* addresses */
#define CACHE_BYTES ((size_t)128 << 20)
#define CACHE_FILE  "verify"
#define SAVE_MS     60000
#define PROBE_TASKS 50
#define PROBE_MS    ((msec)3600 * 1000)
#define PROBE_TTL   ((msec)1000 * 1000) /* a probe that was lost */
#define TEXT_MAX    500

struct verified {
    struct map_node node;
    struct list link; /* in verify.all, least recently learned first */
    struct list todo; /* in verify.todo */
    enum verify_status status;
    msec updated; /* wall; 0: nothing is known */
    msec probed;  /* wall; 0: no probe is on its way */
    bool is_running;
    char *text;
    char dsn[12];
    char addr[];
};

struct probing {
    struct list link;
    struct task *task;
};

struct verify {
    struct queue *q;
    struct map map;
    struct list all;
    struct list todo;
    struct list tasks;
    size_t n_todo, n_tasks;
    bool is_dirty;
    bool is_stopped;
    char *dir; /* NULL: in memory only */
    msec saved;
    struct timer timer;
};

/* ------------------------------------------------------------------ the cache
 */

static msec time_of(const struct verify *v, const char *param)
{
    return conf_time(v->q->set->conf, NULL, param) * 1000;
}

static struct verified *entry_get(struct verify *v, slice addr)
{
    struct map_node *n = map_get(&v->map, addr);

    return n == NULL ? NULL : CONTAINER_OF(n, struct verified, node);
}

static void entry_free(struct verify *v, struct verified *e)
{
    map_del(&v->map, &e->node);
    list_remove(&e->link);
    if (!list_empty(&e->todo)) {
        list_remove(&e->todo);
        v->n_todo--;
    }
    free(e->text);
    free(e);
}

static struct verified *entry_new(struct verify *v, slice addr)
{
    struct verified *e;

    if (v->map.n >= CACHE_MAX) {
        struct verified *old = CONTAINER_OF(v->all.next, struct verified, link);

        if (!old->is_running && list_empty(&old->todo))
            entry_free(v, old);
    }
    e = xcalloc(1, sizeof(*e) + addr.n + 1);
    memcpy(e->addr, addr.p, addr.n);
    e->status = VERIFY_TODO;
    list_init(&e->todo);
    list_push(&v->all, &e->link);
    map_put(&v->map, &e->node, slice_of(e->addr, addr.n));
    return e;
}

static void entry_set(struct verified *e, enum verify_status status, slice dsn,
                      slice text)
{
    struct buf b;

    buf_init(&b, (size_t)TEXT_MAX + 1);
    for (size_t i = 0; i < text.n && i < TEXT_MAX; i++) {
        unsigned char c = (unsigned char)text.p[i];

        (void)buf_byte(&b, c < ' ' || c > '~' ? ' ' : (char)c);
    }
    e->status = status;
    free(e->text);
    e->text = slice_xstrdup(buf_view(&b));
    if (!slice_copy_to(dsn, e->dsn, sizeof(e->dsn)))
        e->dsn[0] = '\0';
    buf_done(&b);
}

static bool is_expired(const struct verify *v, const struct verified *e,
                       msec now)
{
    /* covers address_verify_positive_expire_time
     * covers address_verify_negative_expire_time */
    return e->updated +
               time_of(v, e->status == VERIFY_OK
                              ? "address_verify_positive_expire_time"
                              : "address_verify_negative_expire_time") <
           now;
}

static bool is_stale(const struct verify *v, const struct verified *e, msec now)
{
    return e->updated +
               time_of(v, e->status == VERIFY_OK
                              ? "address_verify_positive_refresh_time"
                              : "address_verify_negative_refresh_time") <
           now;
}

/* ---------------------------------------------------------------- on the disk
 */

static void put_entry(struct buf *b, const struct verified *e)
{
    struct buf one;

    buf_init(&one, 16384);
    (void)attr_put(&one, AT_ADDR, e->node.key);
    (void)attr_put_u64(&one, AT_VERIFY, e->status);
    (void)attr_put_u64(&one, AT_TIME, (uint64_t)e->updated);
    (void)attr_put_str(&one, AT_STATUS, e->dsn);
    (void)attr_put_str(&one, AT_TEXT, e->text);
    (void)attr_put(b, AT_RCPT, buf_view(&one));
    buf_done(&one);
}

struct saving {
    const char *dir;
    slice data;
    struct err err;
};

static int save_it(void *arg)
{
    struct saving *s = arg;
    int dir CLEANUP(close_fd) =
        open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return err_sys(&s->err, "open %s", s->dir);
    return file_replace(dir, CACHE_FILE, s->data, 0600, &s->err);
}

static MAY_WAIT void save(struct verify *v)
{
    struct saving s = { .dir = v->dir };
    struct buf b;

    v->saved = clock_wall();
    v->is_dirty = false;
    buf_init(&b, CACHE_BYTES);
    list_each(it, &v->all) {
        const struct verified *e = CONTAINER_OF(it, struct verified, link);

        if (e->updated != 0)
            put_entry(&b, e);
    }
    s.data = buf_view(&b);
    if (b.overflow || offload(save_it, &s) < 0) {
        v->is_dirty = true;
        log_warning("what is known of addresses cannot be kept: %s",
                    b.overflow ? "too much" : s.err.log);
    }
    buf_done(&b);
}

static void take_entry(struct verify *v, slice in)
{
    slice addr = SLICE_NONE;
    slice dsn = SLICE_NONE;
    slice text = SLICE_NONE;
    uint64_t status = attr_u64_or(in, AT_VERIFY, VERIFY_TODO);
    struct verified *e;

    if (!attr_find(in, AT_ADDR, &addr) || addr.n == 0 ||
        status > VERIFY_BOUNCE || entry_get(v, addr) != NULL)
        return;
    (void)attr_find(in, AT_STATUS, &dsn);
    (void)attr_find(in, AT_TEXT, &text);
    e = entry_new(v, addr);
    entry_set(e, (enum verify_status)status, dsn, text);
    e->updated = (msec)attr_u64_or(in, AT_TIME, 0);
}

static void load_cache(struct verify *v)
{
    int dir CLEANUP(close_fd) =
        open(v->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct attr at;
    struct err err;
    struct buf b;
    slice in;

    buf_init(&b, CACHE_BYTES);
    if (dir >= 0 && faccessat(dir, CACHE_FILE, F_OK, 0) == 0) {
        if (file_read(dir, CACHE_FILE, &b, &err) < 0)
            log_warning("what was known of addresses is lost: %s", err.log);
        in = buf_view(&b);
        while (attr_next(&in, &at) == 1)
            if (at.tag == AT_RCPT)
                take_entry(v, at.v);
    }
    buf_done(&b);
}

/* --------------------------------------------------------------------- probes
 */

/* covers address_verify_sender address_verify_sender_ttl: a name that changes
 * cannot be learned by who sends junk to it. */
static uint64_t epoch_of(const struct conf *c, msec now)
{
    int64_t ttl = conf_time(c, NULL, "address_verify_sender_ttl");

    return ttl > 0 ? (uint64_t)(now / 1000 / ttl) : 0;
}

void queue_verify_sender(const struct conf *c, msec now, struct buf *out)
{
    (void)mail_probe_sender(conf_slice(c, NULL, "address_verify_sender"),
                            conf_slice(c, NULL, "myorigin"), epoch_of(c, now),
                            out);
}

bool verify_is_sender(const struct conf *c, slice addr)
{
    slice origin = conf_slice(c, NULL, "myorigin");

    return mail_probe_is_sender(addr,
                                conf_slice(c, NULL, "double_bounce_sender"),
                                origin, 0) ||
           mail_probe_is_sender(addr,
                                conf_slice(c, NULL, "address_verify_sender"),
                                origin, epoch_of(c, clock_wall()));
}

struct probe {
    struct arena *arena;
    slice sender, addr;
    struct queue_route route;
    enum verify_status status;
    slice dsn, text;
};

static void decide(struct probe *p, enum verify_status status, slice dsn,
                   slice text)
{
    p->status = status;
    p->dsn = slice_dup(p->arena, dsn);
    p->text = slice_dup(p->arena, text);
}

static void decide_err(struct probe *p, const struct err *err)
{
    bool is_perm = err->class == ERR_PERM;
    const char *status = err->status[0] != '\0' ? err->status
                         : is_perm              ? "5.3.0"
                                                : "4.3.0";

    decide(p, is_perm ? VERIFY_BOUNCE : VERIFY_DEFER, slice_str(status),
           is_perm ? slice_str(err->peer) : SL("address resolver failure"));
}

/* Where the probe goes; false when that decided already. */
static MAY_WAIT bool route(struct queue *q, struct probe *p)
{
    const slice *to = &p->addr;
    size_t n = 1;
    struct err err;

    if (q->ops->recipients != NULL &&
        q->ops->recipients(q->arg, p->addr, p->arena, &to, &n, &err) < 0) {
        decide_err(p, &err);
        return false;
    }
    if (n != 1) {
        decide(p, VERIFY_OK, SL("2.0.0"), SL("aliased to multiple recipients"));
        return false;
    }
    if ((q->ops->resolve_probe != NULL ? q->ops->resolve_probe
                                       : q->ops->resolve)(
            q->arg, p->sender, to[0], p->arena, &p->route, &err) < 0) {
        decide_err(p, &err);
        return false;
    }
    if (slice_eqs(p->route.transport, "retry")) {
        decide(p, VERIFY_DEFER, SL("4.3.0"), p->route.nexthop);
        return false;
    }
    if (!queue_transport_is_local(p->route.transport) &&
        (q->ops->has_transport == NULL ||
         !q->ops->has_transport(q->arg, p->route.transport))) {
        decide(p, VERIFY_DEFER, SL("4.3.0"), SL("mail transport unavailable"));
        return false;
    }
    return true;
}

static void put_probe(struct buf *b, struct queue *q, const struct probe *p)
{
    static uint64_t serial;
    uint8_t zero[32] = { 0 };
    struct envelope e = { .arrival_usec = clock_wall() * 1000,
                          .seq = ++serial,
                          .sender = p->sender,
                          .service = SL("verify") };
    struct buf *n = &q->scratch;

    if (!mail_is_ascii(p->addr))
        e.flags |= ENV_SMTPUTF8;
    envelope_make_id(&e);
    (void)attr_put_str(b, AT_QUEUE_ID, e.id);
    (void)attr_put_u64(b, AT_SEQ, 0);
    (void)attr_put(b, AT_SENDER, p->sender);
    (void)attr_put_u64(b, AT_ARRIVAL, (uint64_t)clock_wall());
    (void)attr_put_u64(b, AT_SIZE, 0);
    (void)attr_put_u64(b, AT_BODY_OFFSET, 0);
    (void)attr_put_u64(b, AT_BODY_BYTES, 0);
    (void)attr_put_u64(b, AT_FLAGS, DELIVER_PROBE);
    (void)attr_put(b, AT_TRANSPORT, p->route.transport);
    (void)attr_put(b, AT_NEXTHOP, p->route.nexthop);
    (void)attr_put(b, AT_DELAYS, slice_of(zero, 32));
    buf_clear(n);
    (void)envelope_encode(n, &e);
    (void)attr_put(b, AT_HEAD, buf_view(n));
    buf_clear(n);
    (void)attr_put_u64(n, AT_RCPT_INDEX, 0);
    (void)attr_put(n, AT_ADDR, p->route.recipient);
    (void)attr_put_u64(n, AT_NOTIFY, ENV_NOTIFY_NEVER);
    (void)attr_put(n, AT_DELIVERY_ID, slice_of(zero, SPOOL_DELIVERY_ID));
    (void)attr_put(n, AT_PATH, p->route.recipient);
    (void)attr_put_u64(n, AT_DEPTH, 0);
    (void)attr_put(b, AT_RCPT, buf_view(n));
}

static void take_answer(struct probe *p, slice body)
{
    slice one = SLICE_NONE;
    slice dsn = SLICE_NONE;
    slice diag = SLICE_NONE;
    slice mta = SLICE_NONE;
    enum verify_status status = VERIFY_DEFER;
    struct buf text;

    if (!attr_find(body, AT_RCPT, &one)) {
        decide(p, VERIFY_DEFER, SL("4.3.0"), SL("no answer"));
        return;
    }
    switch (attr_u64_or(one, AT_OUTCOME, OUT_DEFERRED)) {
    case OUT_SENT:
    case OUT_EXPANDED:
    case OUT_DISCARDED:
        status = VERIFY_OK;
        break;
    case OUT_BOUNCED:
        status = VERIFY_BOUNCE;
        break;
    default:
        break;
    }
    (void)attr_find(one, AT_STATUS, &dsn);
    (void)attr_find(one, AT_DIAG, &diag);
    (void)attr_find(one, AT_REMOTE_MTA, &mta);
    buf_init(&text, 8192);
    dsn_put_reason(&text, slice_sub(diag, 0, 4096), slice_sub(mta, 0, 300));
    decide(p, status, dsn, buf_view(&text));
    buf_done(&text);
}

/* False: it was cancelled, nothing was learned. */
static MAY_WAIT bool ask(struct queue *q, struct probe *p)
{
    struct queue_request r = { .fd = -1, .deadline = clock_after(PROBE_MS) };
    struct msg answer;
    struct err err;
    struct buf b;
    int rc;

    if (!route(q, p))
        return !task_is_cancelled();
    buf_init(&b, 1u << 20);
    put_probe(&b, q, p);
    r.transport = p->route.transport;
    r.nexthop = p->route.nexthop;
    r.body = buf_view(&b);
    rc = q->ops->deliver(q->arg, &r, &answer, &err);
    buf_done(&b);
    if (rc < 0) {
        decide(p, VERIFY_DEFER, SL("4.3.0"), SL("mail transport unavailable"));
        return err.class != ERR_PEER;
    }
    take_answer(p, answer.body);
    msg_free(&answer);
    return true;
}

/* Optimistic, as Postfix: an address that was good stays so until it expires.
 */
static void learn(struct verify *v, struct verified *e, const struct probe *p)
{
    /* covers address_verify_negative_cache */
    bool keeps =
        p->status == VERIFY_OK ||
        conf_bool(v->q->set->conf, NULL, "address_verify_negative_cache");
    msec now = clock_wall();

    e->probed = 0;
    if (p->status != VERIFY_OK && e->updated != 0 && e->status == VERIFY_OK &&
        !is_expired(v, e, now))
        return;
    if (!keeps) {
        entry_free(v, e);
        return;
    }
    entry_set(e, p->status, p->dsn, p->text);
    e->updated = now;
    list_remove(&e->link);
    list_push(&v->all, &e->link);
    v->is_dirty = true;
}

static MAY_WAIT void probe_one(struct verify *v, struct verified *e)
{
    struct probe p = { .arena = arena_new(4u << 20) };
    struct buf sender;
    bool is_answered;

    e->is_running = true;
    buf_init(&sender, 1024);
    queue_verify_sender(v->q->set->conf, clock_wall(), &sender);
    p.sender = buf_view(&sender);
    p.addr = slice_dup(p.arena, e->node.key);
    is_answered = ask(v->q, &p);
    e->is_running = false;
    if (is_answered)
        learn(v, e, &p);
    else
        e->probed = 0;
    buf_done(&sender);
    arena_free(&p.arena);
}

static MAY_WAIT void probe_task(void *arg)
{
    struct verify *v = arg;
    struct queue *q = v->q;
    struct probing me = { .task = task_self() };
    struct list *l;

    list_push(&v->tasks, &me.link);
    while (!v->is_stopped && (l = list_pop(&v->todo)) != NULL) {
        v->n_todo--;
        probe_one(v, CONTAINER_OF(l, struct verified, todo));
    }
    list_remove(&me.link);
    v->n_tasks--;
    queue_task_ended(q);
}

/* covers address_verify_pending_request_limit.  False: too many already. */
static bool begin_probe(struct verify *v, struct verified *e)
{
    int64_t max =
        conf_int(v->q->set->conf, NULL, "address_verify_pending_request_limit");

    if (max > 0 && v->n_todo >= (size_t)max)
        return false;
    e->probed = clock_wall();
    list_push(&v->todo, &e->todo);
    v->n_todo++;
    if (v->n_tasks < PROBE_TASKS) {
        v->n_tasks++;
        v->q->n_tasks++;
        (void)task_spawn("queue-probe", probe_task, v);
    }
    return true;
}

/* ------------------------------------------------------------------ questions
 */

static void answer(struct chan *c, const struct msg *m,
                   enum verify_status status, const char *dsn, const char *text)
{
    struct buf b;

    buf_init(&b, 4096);
    (void)attr_put_u64(&b, AT_VERIFY, status);
    (void)attr_put_str(&b, AT_STATUS, dsn);
    (void)attr_put_str(&b, AT_TEXT, text);
    chan_answer(c, m->id, buf_view(&b), NULL, 0);
    buf_done(&b);
}

#define IN_PROGRESS "Address verification in progress"

void queue_verify(struct queue *q, struct chan *c, const struct msg *m)
{
    struct verify *v = q->verify;
    msec now = clock_wall();
    struct verified *e;
    bool is_known;
    slice addr;

    if (v == NULL || v->is_stopped || !attr_find(m->body, AT_ADDR, &addr) ||
        addr.n == 0 || addr.n > MAIL_ADDRESS_MAX) {
        answer(c, m, VERIFY_DEFER, "4.3.0", "address verification problem");
        return;
    }
    e = entry_get(v, addr);
    is_known = e != NULL && e->updated != 0 && !is_expired(v, e, now);
    if (e == NULL)
        e = entry_new(v, addr);
    if (!is_known)
        e->updated = 0;
    /* A probe that was lost is made again some time. */
    if (!e->is_running && list_empty(&e->todo) &&
        (e->probed == 0 || now - e->probed > PROBE_TTL) &&
        (!is_known || is_stale(v, e, now)) && !begin_probe(v, e) && !is_known) {
        entry_free(v, e);
        answer(c, m, VERIFY_OVERLOAD, "4.3.2",
               "too many address verification requests");
        return;
    }
    if (is_known)
        answer(c, m, e->status, e->dsn, e->text);
    else
        answer(c, m, VERIFY_TODO, "4.0.0", IN_PROGRESS);
}

/* ------------------------------------------------------------------- its life
 */

static void clean(struct verify *v)
{
    msec now = clock_wall();

    list_each_safe(it, tmp, &v->all) {
        struct verified *e = CONTAINER_OF(it, struct verified, link);

        if (!e->is_running && list_empty(&e->todo) &&
            (e->updated == 0 || is_expired(v, e, now)))
            entry_free(v, e);
    }
}

static MAY_WAIT void save_task(void *arg)
{
    struct verify *v = arg;
    struct queue *q = v->q;

    if (!v->is_stopped)
        save(v);
    queue_task_ended(q);
}

static void on_timer(struct timer *t)
{
    struct verify *v = CONTAINER_OF(t, struct verify, timer);
    static msec cleaned;

    /* covers address_verify_cache_cleanup_interval */
    if (clock_mono() - cleaned >=
        time_of(v, "address_verify_cache_cleanup_interval")) {
        cleaned = clock_mono();
        clean(v);
    }
    if (v->is_dirty && v->dir != NULL && !v->is_stopped) {
        v->q->n_tasks++;
        (void)task_spawn("queue-verify-save", save_task, v);
    }
    timer_set(&v->timer, clock_after(SAVE_MS), on_timer);
}

void verify_open(struct queue *q, const char *dir)
{
    struct verify *v = xcalloc(1, sizeof(*v));

    v->q = q;
    map_init(&v->map, false);
    list_init(&v->all);
    list_init(&v->todo);
    list_init(&v->tasks);
    q->verify = v;
    /* covers address_verify_map */
    if (conf_slice(q->set->conf, NULL, "address_verify_map").n > 0) {
        v->dir = xstrdup(dir);
        load_cache(v);
    }
    timer_set(&v->timer, clock_after(SAVE_MS), on_timer);
}

void verify_stop(struct queue *q)
{
    struct verify *v = q->verify;

    if (v == NULL || v->is_stopped)
        return;
    v->is_stopped = true;
    timer_cancel(&v->timer);
    list_each(it, &v->tasks)
        task_cancel(CONTAINER_OF(it, struct probing, link)->task);
}

void verify_free(struct queue *q)
{
    struct verify *v = q->verify;

    if (v == NULL)
        return;
    q->verify = NULL;
    if (v->is_dirty && v->dir != NULL)
        save(v);
    list_each_safe(it, tmp, &v->all)
        entry_free(v, CONTAINER_OF(it, struct verified, link));
    map_done(&v->map);
    free(v->dir);
    free(v);
}
