#include "local/local_priv.h"

/* DELIVER_REQUEST in, outcomes out (ipc/proto.h). */

#define RCPTS_MAX 100000

struct peer {
    struct list link;
    struct local *local;
    struct chan *chan;
};

/* ---- outcomes */

void local_sent(struct local_rcpt *r, const char *diag)
{
    r->is_done = true;
    r->outcome = OUT_SENT;
    (void)snprintf(r->status, sizeof r->status, "2.0.0");
    r->diag = slice_str(diag);
}

static void set_failed(struct local_job *j, struct local_rcpt *r, bool temp,
                       const char *status, const char *text)
{
    r->is_done = true;
    r->outcome = temp ? OUT_DEFERRED : OUT_BOUNCED;
    (void)snprintf(r->status, sizeof r->status, "%s", status);
    r->diag = slice_dup(j->arena, slice_str(text));
    r->n_others = 0;
}

void local_failed(struct local_job *j, struct local_rcpt *r,
                  const struct err *err)
{
    bool temp = err->class != ERR_PERM;
    const char *status = err->status[0] != '\0' ? err->status
                         : temp                 ? "4.3.0"
                                                : "5.3.0";

    set_failed(j, r, temp, status, err->log[0] != '\0' ? err->log : err->peer);
}

void local_bounced(struct local_job *j, struct local_rcpt *r,
                   const char *status, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    set_failed(j, r, false, status, n < 0 ? "undeliverable" : text);
}

/* ---- the log line */

/* "0.02", "1.5", "12": as many digits as Postfix shows
 * (delay_logging_resolution_limit 2). */
static int put_delay(char *out, size_t size, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    if (ms >= 10000)
        return snprintf(out, size, "%" PRId64, (ms + 500) / 1000);
    if (ms >= 1000)
        return snprintf(out, size, "%.1f", (double)ms / 1000);
    if (ms < 10)
        return snprintf(out, size, "%s", ms >= 5 ? "0.01" : "0");
    return snprintf(out, size, "%.2f", (double)ms / 1000);
}

static slice delays(struct local_job *j, int64_t total)
{
    int64_t here = loop_now() - j->started;
    char before[32];
    char during[32];

    (void)put_delay(before, sizeof before, total - here);
    (void)put_delay(during, sizeof during, here);
    return slice_str(arena_printf(j->arena, "%s/0/0/%s", before, during));
}

void local_log(struct local_job *j, struct local_rcpt *r)
{
    static const char *const words[] = { "sent", "deferred", "bounced",
                                         "expanded", "sent" };
    static const char *const probes[] = { "deliverable", "undeliverable",
                                          "undeliverable", "deliverable",
                                          "deliverable" };
    const char *service = slice_eqs(j->transport, "virtual")   ? "virtual"
                          : slice_eqs(j->transport, "error")   ? "error"
                          : slice_eqs(j->transport, "discard") ? "discard"
                                                               : "local";
    struct ev_field f[10];
    size_t n = 0;
    int64_t total = clock_wall() - j->arrival_ms;
    /* The queue makes it so (soft_bounce). */
    bool is_soft = r->outcome == OUT_BOUNCED && !j->is_probe &&
                   r->status[0] == '5' &&
                   conf_bool(j->local->p->conf, NULL, "soft_bounce");
    const char *status = r->status;
    char delay[32];
    char *tail;

    if (r->outcome == OUT_EXPANDED)
        return; /* its children are logged */
    if (is_soft)
        status = arena_printf(j->arena, "4%s", status + 1);
    (void)put_delay(delay, sizeof delay, total);
    f[n++] = ev_addr("to", r->shown);
    if (r->orig.n > 0 && !slice_ieq(r->orig, r->shown))
        f[n++] = ev_addr("orig_to", r->orig);
    f[n++] = ev_str("relay", r->relay.n > 0 ? r->relay : slice_str(service));
    f[n++] = ev_str("delay", slice_str(delay));
    f[n++] = ev_str("delays", delays(j, total));
    f[n++] = ev_str("dsn", slice_str(status));
    f[n++] =
        ev_str("status",
               slice_str(is_soft ? "SOFTBOUNCE"
                                 : (j->is_probe ? probes : words)[r->outcome]));
    tail = arena_printf(j->arena, "(%.*s)", SLF(slice_sub(r->diag, 0, 1000)));
    f[n++] = ev_tail(slice_str(tail));
    event_log(EV_INFO, service, "delivered", j->queue_id, f, n);
}

/* ---- in */

static int parse_rcpt(struct local_job *j, slice in, struct local_rcpt *r,
                      struct err *err)
{
    slice id;

    r->index = (uint32_t)attr_u64_or(in, AT_RCPT_INDEX, 0);
    r->depth = (uint32_t)attr_u64_or(in, AT_DEPTH, 0);
    r->notify = (uint32_t)attr_u64_or(in, AT_NOTIFY, 0);
    if (!attr_find(in, AT_ADDR, &r->addr) ||
        !attr_find(in, AT_DELIVERY_ID, &id) || id.n != sizeof r->id)
        return err_temp(err, "a delivery request lacks attributes");
    memcpy(r->id, id.p, sizeof r->id);
    (void)attr_find(in, AT_ORIG_ADDR, &r->orig);
    (void)attr_find(in, AT_ORCPT, &r->orcpt);
    (void)attr_find(in, AT_PATH, &r->path);
    r->shown = r->addr;
    if (local_is_special(r->addr)) {
        /* Logs and Delivered-To name whom it was expanded from. */
        slice path = r->path;
        slice step;

        while (slice_cut(&path, '\n', &step))
            if (!local_is_special(step))
                r->shown = step;
    }
    (void)j;
    return 0;
}

static int parse_rcpts(struct local_job *j, slice body, struct err *err)
{
    slice in = body;
    struct attr a;
    size_t n = 0;
    int r;

    while ((r = attr_next(&in, &a)) > 0)
        n += a.tag == AT_RCPT;
    if (r < 0 || n == 0 || n > RCPTS_MAX)
        return err_temp(err, "a delivery request is damaged");
    j->rcpts = arena_alloc(j->arena, n * sizeof *j->rcpts);
    if (j->rcpts == NULL)
        return err_temp(err, "a delivery request is too large");
    in = body;
    while (attr_next(&in, &a) > 0)
        if (a.tag == AT_RCPT &&
            parse_rcpt(j, a.v, &j->rcpts[j->n_rcpts++], err) < 0)
            return -1;
    return 0;
}

static int parse(struct local_job *j, struct msg *m, struct err *err)
{
    slice body = m->body;
    slice id = SLICE_NONE;
    slice head;

    j->is_probe = (attr_u64_or(body, AT_FLAGS, 0) & DELIVER_PROBE) != 0;
    if (!j->is_probe && (m->n_fds < 1 || m->fds[0] < 0))
        return err_temp(err, "a delivery request has no message");
    j->body_fd = m->n_fds > 0 ? m->fds[0] : -1;
    (void)attr_find(body, AT_QUEUE_ID, &id);
    (void)attr_find(body, AT_SENDER, &j->sender);
    (void)attr_find(body, AT_TRANSPORT, &j->transport);
    (void)attr_find(body, AT_NEXTHOP, &j->nexthop);
    j->queue_id = slice_cstr(j->arena, id);
    j->arrival_ms = (int64_t)attr_u64_or(body, AT_ARRIVAL, 0);
    j->body_at = attr_u64_or(body, AT_BODY_OFFSET, 0);
    j->body_bytes = attr_u64_or(body, AT_BODY_BYTES, 0);
    if (j->queue_id == NULL || !attr_find(body, AT_HEAD, &head))
        return err_temp(err, "a delivery request lacks attributes");
    if (envelope_decode(head, j->arena, false, &j->env, err) < 0)
        return -1;
    return parse_rcpts(j, body, err);
}

/* ---- out */

static void put_others(struct buf *b, const struct local_rcpt *r)
{
    struct buf list;

    buf_init(&list, LOCAL_ANSWER_MAX);
    for (size_t i = 0; i < r->n_others; i++) {
        struct buf one;
        /* DSN parameters follow an address, not what an alias names. */
        slice orig = r->orig.n > 0 ? r->orig : r->shown;

        buf_init(&one, 65536);
        (void)attr_put(&one, AT_ADDR, r->others[i]);
        (void)attr_put(&one, AT_ORIG_ADDR, orig);
        (void)attr_put(&one, AT_ORCPT, r->orcpt);
        (void)attr_put_u64(&one, AT_NOTIFY, r->notify);
        (void)attr_put(&list, AT_RCPT, buf_view(&one));
        buf_done(&one);
    }
    (void)attr_put(b, AT_EXPANSION, buf_view(&list));
    b->overflow |= list.overflow;
    buf_done(&list);
    if (r->has_owner)
        (void)attr_put(b, AT_OWNER, r->owner);
}

/* What a frame's head and a recipient's take besides. */
#define FRAME_MARGIN 64

/* False, and nothing added, when it does not fit. */
static bool put_rcpt(struct buf *b, const struct local_rcpt *r)
{
    struct buf one;
    bool fits;

    buf_init(&one, LOCAL_ANSWER_MAX);
    (void)attr_put_u64(&one, AT_RCPT_INDEX, r->index);
    (void)attr_put_u64(&one, AT_OUTCOME, r->outcome);
    (void)attr_put_str(&one, AT_STATUS, r->status);
    (void)attr_put(&one, AT_DIAG, r->diag);
    (void)attr_put(&one, AT_RELAY, r->relay);
    if (r->outcome == OUT_EXPANDED)
        put_others(&one, r);
    fits = !one.overflow && b->n + one.n + FRAME_MARGIN <= b->max;
    if (fits)
        (void)attr_put(b, AT_RCPT, buf_view(&one));
    buf_done(&one);
    return fits;
}

/* A recipient whose expansion does not fit waits: none of it may be lost, and
 * without those that did fit, it may fit the next time. */
static void answer(struct local_job *j, uint32_t call)
{
    struct err err;
    struct buf b;

    buf_init(&b, LOCAL_ANSWER_MAX);
    for (size_t i = 0; i < j->n_rcpts; i++) {
        struct local_rcpt *r = &j->rcpts[i];

        if (!r->is_done) {
            err_temp(&err, "delivery did not end");
            local_failed(j, r, &err);
        }
        if (!put_rcpt(&b, r)) {
            err_temp(&err, "alias expansion is too large for one answer");
            local_failed(j, r, &err);
            b.overflow |= !put_rcpt(&b, r);
        }
        local_log(j, r);
    }
    if (b.overflow) {
        err_temp(&err, "the answer to a delivery request is too large");
        chan_fail(j->chan, call, &err);
    } else {
        chan_answer_big(j->chan, call, buf_view(&b));
    }
    buf_done(&b);
}

/* ---- transports */

MAY_WAIT static void route_virtual(struct local_job *j, struct local_rcpt *r)
{
    struct err err;
    bool found;

    if (local_virtual_place(j, r->addr, &r->place, &found, &err) < 0)
        local_failed(j, r, &err);
    else if (!found)
        local_bounced(j, r, "5.1.1", "unknown user: \"%.*s\"", SLF(r->addr));
    else
        r->has_place = true;
}

/* error:5.1.1 text, or error:text (error(8)). */
static void route_error(struct local_job *j, struct local_rcpt *r)
{
    slice text = slice_trim(j->nexthop);
    slice rest = text;
    slice word;
    char status[8] = "5.0.0";

    if (slice_token(&rest, " ", &word) && word.n >= 5 && word.n < 8 &&
        word.p[1] == '.' && (word.p[0] == '4' || word.p[0] == '5')) {
        (void)slice_copy_to(word, status, sizeof status);
        text = slice_trim(rest);
    }
    set_failed(j, r, status[0] == '4', status,
               text.n > 0 ? slice_cstr(j->arena, text) : "undeliverable");
}

MAY_WAIT static void route(struct local_job *j, struct local_rcpt *r)
{
    r->relay = SLICE_NONE;
    if (r->addr.n > 0 && r->addr.p[0] == '-' &&
        !conf_bool(j->local->p->conf, NULL, "allow_min_user")) {
        /* It could be taken for an option by what it is handed to. */
        local_bounced(j, r, "5.1.3", "Invalid recipient syntax");
        return;
    }
    /* What an alias named beside addresses is ours, whatever the transport. */
    if (local_is_special(r->addr) || slice_eqs(j->transport, "local"))
        local_route(j, r);
    else if (slice_eqs(j->transport, "virtual"))
        route_virtual(j, r);
    else if (slice_eqs(j->transport, "discard")) {
        local_sent(r, "discarded");
        r->relay = SL("none");
    } else if (slice_eqs(j->transport, "error")) {
        route_error(j, r);
        r->relay = SL("none");
    } else {
        struct err err;

        err_temp(&err, "mail transport unavailable: %.*s", SLF(j->transport));
        local_failed(j, r, &err);
    }
}

/* A probe: what would be done is known now, and is not done. */
static void probe_done(struct local_job *j, struct local_rcpt *r)
{
    char *to;

    r->relay = r->relay.n > 0 ? r->relay : slice_str("local");
    if (r->outcome == OUT_EXPANDED && r->is_done) {
        to = arena_printf(j->arena, "aliased to %.*s%s",
                          SLF(slice_sub(r->others[0], 0, 200)),
                          r->n_others > 1 ? ", ..." : "");
        local_sent(r, to != NULL && !local_is_special(r->others[0])
                          ? to
                          : "aliased");
        r->n_others = 0;
    } else if (!r->is_done && r->has_place) {
        local_sent(r, r->place.kind == LMTP_MAILBOX ? "delivers to mailbox"
                      : r->place.kind == LMTP_FILE  ? "delivers to file"
                                                    : "delivers to command");
    }
}

/* A peer that heard our goodbye closes when its last call is answered; until
 * then more calls may be on their way. */
static void tell_idle(struct local *l)
{
    if (l->is_draining && l->n_jobs == 0 && list_empty(&l->peers) &&
        l->on_idle != NULL)
        l->on_idle(l->on_idle_arg);
}

static void job_done(struct local *l)
{
    CHECK(l->n_jobs > 0);
    l->n_jobs--;
    l->n_done++;
    tell_idle(l);
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    struct peer *peer = arg;
    struct local *l = peer->local;
    struct local_job j = { .local = l, .chan = c, .body_fd = -1 };
    struct err err;

    if (m->type != DELIVER_REQUEST) {
        err_temp(&err, "local knows delivery requests only");
        chan_fail(c, m->id, &err);
        return;
    }
    l->n_jobs++;
    j.started = loop_now();
    j.arena = arena_new(LOCAL_JOB_ARENA_MAX);
    if (parse(&j, m, &err) < 0) {
        log_warning("%s", err.log);
        chan_fail(c, m->id, &err);
    } else {
        for (size_t i = 0; i < j.n_rcpts; i++)
            route(&j, &j.rcpts[i]);
        for (size_t i = 0; j.is_probe && i < j.n_rcpts; i++)
            probe_done(&j, &j.rcpts[i]);
        local_deliver(&j);
        answer(&j, m->id);
    }
    arena_free(&j.arena);
    job_done(l);
}

static void on_close(struct chan *c, void *arg)
{
    struct peer *peer = arg;
    struct local *l = peer->local;

    (void)c;
    list_remove(&peer->link);
    chan_free(&peer->chan);
    free(peer);
    tell_idle(l);
}

static const struct chan_ops peer_ops = {
    .serve = serve,
    .on_close = on_close,
    .max_tasks = 2000,
};

void local_on_peer(struct local *l, int fd)
{
    struct peer *peer = xcalloc(1, sizeof *peer);

    peer->local = l;
    list_push(&l->peers, &peer->link);
    peer->chan = chan_new(fd, &peer_ops, peer);
    if (l->is_draining)
        chan_bye(peer->chan);
}

/* ---- the process */

struct local *local_new(struct process *p, struct tables *tables)
{
    static const struct chan_ops ops = { 0 };
    struct local *l = xcalloc(1, sizeof *l);

    l->p = p;
    l->tables = tables;
    list_init(&l->peers);
    l->broker = link_new(p, PT_BROKER, &ops, l, NULL);
    l->syncs = lmtp_syncs_new(l->broker, false);
    l->workers = lmtp_workers_new(l->broker, l->syncs);
    return l;
}

int local_setup(struct local *l, struct err *err)
{
    struct conf *c = l->p->conf;
    struct tables *t = l->tables;

    if (address_new(c, NULL, t, &l->address, err) < 0 ||
        table_list_param(t, c, NULL, "alias_maps", &l->aliases, err) < 0)
        return -1;
    return users_new(c, t, l->p->is_root_mode, &l->users, err);
}

void local_drain(struct local *l, void (*on_idle)(void *arg), void *arg)
{
    l->is_draining = true;
    l->on_idle = on_idle;
    l->on_idle_arg = arg;
    list_each(it, &l->peers)
        chan_bye(CONTAINER_OF(it, struct peer, link)->chan);
    tell_idle(l);
}

void local_dump(const struct local *l, struct buf *out)
{
    (void)buf_printf(out, "deliveries under way %zu, done %" PRIu64 "\n",
                     l->n_jobs, l->n_done);
    lmtp_workers_dump(l->workers, out);
}
