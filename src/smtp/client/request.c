#include "smtp/client/job.h"

#include "ipc/ipc.h"

/* DELIVER_REQUEST in, outcomes out (ipc/proto.h), and the line in the log. */

#define RCPTS_MAX  100000
#define ANSWER_MAX ((size_t)128 << 20)

/* ------------------------------------------------------------ the log line */

static void put_delays(const struct client_job *j, char *out, size_t size)
{
    char part[4][24];
    msec now = loop_now();
    int64_t v[4] = { j->before_ms, j->queued_ms, 0, 0 };

    if (j->connected != 0) {
        v[2] = j->connected - j->started;
        v[3] = now - j->connected;
    } else {
        v[2] = now - j->started;
    }
    for (int i = 0; i < 4; i++)
        (void)event_format_ms(v[i] > 0 ? v[i] : 0, part[i]);
    (void)snprintf(out, size, "%s/%s/%s/%s", part[0], part[1], part[2],
                   part[3]);
}

static void log_rcpt(const struct client_job *j, const struct client_rcpt *r,
                     unsigned n_used)
{
    static const char *const words[] = { "sent", "deferred", "bounced",
                                         "expanded", "sent" };
    struct ev_field f[10];
    size_t n = 0;
    char delay[24];
    char delays[100];
    char *tail;

    f[n++] = ev_addr("to", r->addr);
    if (r->orig.n > 0 && !slice_ieq(r->orig, r->addr))
        f[n++] = ev_addr("orig_to", r->orig);
    f[n++] = ev_str("relay", r->relay.n > 0 ? r->relay : SL("none"));
    if (n_used > 0)
        f[n++] = ev_u64("conn_use", n_used + 1);
    (void)event_format_ms(clock_wall() - j->arrival_ms, delay);
    f[n++] = ev_str("delay", slice_str(delay));
    put_delays(j, delays, sizeof delays);
    f[n++] = ev_str("delays", slice_str(delays));
    f[n++] = ev_str("dsn", slice_str(r->status));
    f[n++] = ev_str("status",
                    slice_str((j->flags & DELIVER_PROBE) != 0
                                  ? r->outcome == OUT_SENT ? "deliverable"
                                                           : "undeliverable"
                              : r->is_softened ? "SOFTBOUNCE"
                                               : words[r->outcome]));
    tail = arena_printf(j->arena, "(%.*s)", SLF(slice_sub(r->text, 0, 1000)));
    f[n++] = ev_tail(slice_str(tail));
    event_log(EV_INFO, j->service->log_name, "delivered", j->queue_id, f, n);
}

/* ----------------------------------------------------------------- outcomes */

/* smtp_delivery_status_filter: "5.7.1 text" may become another one; a success
 * stays one, as does a failure. */
MAY_WAIT static void filter_status(struct client_job *j, struct client_rcpt *r)
{
    struct err err;
    slice value;
    slice word;
    char *key;

    if (j->service->status_filter == NULL)
        return;
    key = arena_printf(j->arena, "%s %.*s", r->status, SLF(r->text));
    if (table_list_lookup(j->service->status_filter, slice_str(key), 0,
                          j->arena, &value, &err) < 0) {
        log_warning("%s", err.log);
        return;
    }
    if (value.p == NULL || !slice_token(&value, " \t", &word))
        return;
    if (word.n < 5 || word.n >= sizeof r->status || word.p[1] != '.' ||
        (word.p[0] == '2') != (r->status[0] == '2') ||
        slice_chr(SL("245"), word.p[0]) < 0) {
        log_warning("%s: bad result for \"%s\"",
                    client_param(j->service, "delivery_status_filter"), key);
        return;
    }
    (void)slice_copy_to(word, r->status, sizeof r->status);
    r->text = slice_trim(value);
    if (r->outcome != OUT_SENT)
        r->outcome = r->status[0] == '4' ? OUT_DEFERRED : OUT_BOUNCED;
}

MAY_WAIT static void settle(struct client_job *j, struct client_rcpt *r,
                            const struct client_conn *conn)
{
    filter_status(j, r);
    if (r->outcome == OUT_BOUNCED && j->service->soft_bounce &&
        (j->flags & DELIVER_PROBE) == 0) {
        r->outcome = OUT_DEFERRED;
        r->status[0] = '4';
        r->is_softened = true;
    }
    CHECK(!r->is_done && j->n_left > 0);
    r->is_done = true;
    j->n_left--;
    if (conn != NULL)
        r->relay = slice_dup(j->arena, slice_str(conn->name_port));
    log_rcpt(j, r, conn != NULL ? conn->n_used : 0);
}

void client_sent(struct client_job *j, struct client_rcpt *r,
                 const struct client_conn *conn,
                 const struct client_reply *reply)
{
    bool passes_dsn = (conn->can & CAN_DSN) != 0;

    r->outcome = OUT_SENT;
    /* The end is an LMTP server only where the configuration says so. */
    r->action = passes_dsn                    ? RELAYED_DSN
                : conn->service->assume_final ? RELAYED_DELIVERED
                                              : RELAYED_NO_DSN;
    (void)snprintf(r->status, sizeof r->status, "%s", reply->status);
    r->text = slice_dup(j->arena, reply->text);
    r->diag = slice_str(arena_printf(j->arena, "smtp; %.*s", SLF(reply->text)));
    r->remote = slice_dup(j->arena, conn->host.name);
    settle(j, r, conn);
}

void client_fail(struct client_job *j, struct client_rcpt *r,
                 const struct client_conn *conn)
{
    const struct client_why *w = &j->why;

    r->outcome = client_why_is_soft(w) ? OUT_DEFERRED : OUT_BOUNCED;
    (void)snprintf(r->status, sizeof r->status, "%s", w->status);
    r->text = w->text;
    r->diag = w->diag;
    r->remote = w->remote;
    settle(j, r, conn);
}

/* ----------------------------------------------------------------------- in */

static int parse_rcpt(slice in, struct client_rcpt *r, struct err *err)
{
    r->index = (uint32_t)attr_u64_or(in, AT_RCPT_INDEX, 0);
    r->notify = (uint32_t)attr_u64_or(in, AT_NOTIFY, 0);
    if (!attr_find(in, AT_ADDR, &r->addr))
        return err_temp(err, "a delivery request lacks attributes");
    (void)attr_find(in, AT_ORIG_ADDR, &r->orig);
    (void)attr_find(in, AT_ORCPT, &r->orcpt);
    return 0;
}

static int parse_rcpts(struct client_job *j, slice body, struct err *err)
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
            parse_rcpt(a.v, &j->rcpts[j->n_rcpts++], err) < 0)
            return -1;
    j->n_left = j->n_rcpts;
    return 0;
}

static int parse(struct client_job *j, struct msg *m, struct err *err)
{
    slice body = m->body;
    slice id = SLICE_NONE;
    slice transport = SLICE_NONE;
    slice delays = SLICE_NONE;
    slice head;

    (void)attr_find(body, AT_QUEUE_ID, &id);
    (void)attr_find(body, AT_SENDER, &j->sender);
    (void)attr_find(body, AT_TRANSPORT, &transport);
    (void)attr_find(body, AT_NEXTHOP, &j->nexthop);
    (void)attr_find(body, AT_DELAYS, &delays);
    j->flags = (unsigned)attr_u64_or(body, AT_FLAGS, 0);
    j->queue_id = slice_cstr(j->arena, id);
    j->arrival_ms = (int64_t)attr_u64_or(body, AT_ARRIVAL, 0);
    j->body_at = attr_u64_or(body, AT_BODY_OFFSET, 0);
    j->body_bytes = attr_u64_or(body, AT_BODY_BYTES, 0);
    if (delays.n >= 16) {
        j->before_ms = (int64_t)get_u64(delays.p);
        j->queued_ms = (int64_t)get_u64(delays.p + 8);
    }
    if (m->n_fds >= 1)
        j->body_fd = m->fds[0];
    if (j->body_fd < 0 && (j->flags & DELIVER_PROBE) == 0)
        return err_temp(err, "a delivery request has no message");
    j->service = client_service_of(j->client, transport);
    if (j->service == NULL)
        return err_temp(err, "no such transport: %.*s", SLF(transport));
    if (j->queue_id == NULL || !attr_find(body, AT_HEAD, &head))
        return err_temp(err, "a delivery request lacks attributes");
    if (envelope_decode(head, j->arena, false, &j->env, err) < 0)
        return -1;
    return parse_rcpts(j, body, err);
}

/* ---------------------------------------------------------------------- out */

/* "transport:nexthop", either may be missing. */
static void put_best_mx(struct buf *b, const struct client_job *j)
{
    slice rest = j->service->best_mx;
    slice transport = rest;

    (void)slice_cut(&rest, ':', &transport);
    (void)attr_put(b, AT_TRANSPORT, transport);
    (void)attr_put(b, AT_NEXTHOP, rest.n > 0 ? rest : j->nexthop);
}

void client_pass_on(struct client_job *j)
{
    for (size_t i = 0; i < j->n_rcpts; i++) {
        struct client_rcpt *r = &j->rcpts[i];

        if (r->is_done)
            continue;
        r->is_done = r->is_passed_on = true;
        r->outcome = OUT_DEFERRED;
        (void)snprintf(r->status, sizeof r->status, "4.3.0");
        r->text = SL("goes to best_mx_transport");
        j->n_left--;
    }
}

static void put_rcpt(struct buf *b, const struct client_job *j,
                     const struct client_rcpt *r)
{
    struct buf n CLEANUP(buf_done);

    buf_init(&n, 65536);
    if (r->is_passed_on)
        put_best_mx(&n, j);
    (void)attr_put_u64(&n, AT_RCPT_INDEX, r->index);
    (void)attr_put_u64(&n, AT_OUTCOME, r->outcome);
    (void)attr_put_str(&n, AT_STATUS, r->status);
    (void)attr_put(&n, AT_DIAG, r->diag.n > 0 ? r->diag : r->text);
    (void)attr_put(&n, AT_REASON, r->text);
    (void)attr_put(&n, AT_RELAY, r->relay);
    if (r->remote.n > 0) {
        char name[300];

        (void)snprintf(name, sizeof name, "dns; %.*s",
                       SLF(slice_sub(r->remote, 0, 255)));
        (void)attr_put_str(&n, AT_REMOTE_MTA, name);
    }
    if (r->outcome == OUT_SENT)
        (void)attr_put_u64(&n, AT_ACTION, r->action);
    (void)attr_put_u64(&n, AT_LAST_ATTEMPT, (uint64_t)clock_wall());
    (void)attr_put(b, AT_RCPT, buf_view(&n));
}

static void answer(struct client_job *j, uint32_t call)
{
    struct buf b CLEANUP(buf_done);
    struct err err;

    buf_init(&b, ANSWER_MAX);
    if (j->hop_status[0] != '\0') {
        (void)attr_put_str(&b, AT_HOP_STATUS, j->hop_status);
        (void)attr_put(&b, AT_HOP_TEXT, j->hop_text);
    }
    if (j->has_positive)
        (void)attr_put_u64(&b, AT_POSITIVE, 1);
    for (size_t i = 0; i < j->n_rcpts; i++)
        if (j->rcpts[i].is_done)
            put_rcpt(&b, j, &j->rcpts[i]);
    if (b.overflow) {
        err_temp(&err, "the answer to a delivery request is too large");
        chan_fail(j->chan, call, &err);
        return;
    }
    chan_answer_big(j->chan, call, buf_view(&b));
}

MAY_WAIT void client_serve(struct smtp_client *c, struct chan *chan,
                           struct msg *m)
{
    struct client_job j = { .client = c, .chan = chan, .body_fd = -1 };
    struct err err;

    j.started = loop_now();
    j.deadline = clock_after(CLIENT_ATTEMPT_MS);
    j.arena = arena_new(CLIENT_ARENA_MAX);
    if (parse(&j, m, &err) < 0) {
        log_warning("%s", err.log);
        chan_fail(chan, m->id, &err);
    } else {
        client_deliver(&j);
        answer(&j, m->id);
    }
    arena_free(&j.arena);
}
