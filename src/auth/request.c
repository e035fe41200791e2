#include "auth/auth_priv.h"

#include "ipc/event.h"

/*
 * A request: from AUTH to OK or FAIL.  It belongs to its peer's map while the
 * peer is there, and to its task while that runs; a failure waits in
 * auth.delayed for its time, without a task.
 */
#define ARENA_MAX (256u << 10)

static void wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    buf_release(b);
}

static void leave_peer(struct auth_request *r)
{
    if (r->peer != NULL)
        imap_del(auth_peer_requests(r->peer), &r->node);
    r->peer = NULL;
}

static void request_free(struct auth_request *r)
{
    struct auth *a = r->auth;

    CHECK(!r->is_running);
    leave_peer(r);
    timer_cancel(&r->dialog);
    heap_del(&a->delayed, &r->due);
    sasl_free(&r->sasl);
    wipe(&r->input);
    buf_done(&r->input);
    auth_config_unref(&r->config);
    arena_free(&r->arena);
    free(r);
    a->n_requests--;
    auth_tell_idle(a);
}

void auth_request_orphan(struct auth_request *r)
{
    r->peer = NULL;
    if (!r->is_running)
        request_free(r); /* else its task does */
}

/* ---- answers */

static void put_field(struct buf *b, const char *key, slice value)
{
    if (value.n == 0)
        return;
    (void)buf_printf(b, "\t%s=", key);
    (void)auth_escape(b, value);
}

static void say_fail(struct auth_request *r)
{
    bool is_temp = r->verdict == VERDICT_TEMP;
    const char *code = is_temp ? "temp_fail" : r->code;
    struct buf b;

    buf_init(&b, AUTH_LINE_MAX);
    (void)buf_printf(&b, "FAIL\t%" PRIu64, r->node.key);
    put_field(&b, "user", r->user);
    put_field(&b, "reason", r->reason);
    if (is_temp)
        (void)buf_puts(&b, "\ttemp");
    if (code != NULL)
        (void)buf_printf(&b, "\tcode=%s", code);
    (void)buf_byte(&b, '\n');
    auth_peer_say(r->peer, &b);
}

static void send_batch(struct timer *t);

/* Failures leave at multiples of the batch's time, so that neither their order
 * nor their distance tells what was done for them. */
static void set_batch(struct auth *a)
{
    struct heap_node *n = heap_top(&a->delayed);

    if (n == NULL)
        timer_cancel(&a->batch);
    else
        timer_set(&a->batch, n->key, send_batch);
}

static void send_batch(struct timer *t)
{
    struct auth *a = CONTAINER_OF(t, struct auth, batch);
    struct heap_node *n;

    while ((n = heap_top(&a->delayed)) != NULL && n->key <= loop_now()) {
        struct auth_request *r = CONTAINER_OF(n, struct auth_request, due);

        say_fail(r);
        request_free(r);
    }
    set_batch(a);
}

static void fail_later(struct auth_request *r)
{
    msec due = r->arrived + r->config->failure_delay_ms;

    if (r->config->failure_delay_ms == 0 || r->verdict == VERDICT_TEMP) {
        say_fail(r);
        request_free(r);
        return;
    }
    if (due < loop_now())
        due = loop_now();
    due = (due + AUTH_BATCH_MS - 1) / AUTH_BATCH_MS * AUTH_BATCH_MS;
    heap_put(&r->auth->delayed, &r->due, due);
    set_batch(r->auth);
}

/* IMAP and POP3: whose mail it is, and the ticket for it. */
MAY_WAIT static int add_ticket(struct auth_request *r, struct buf *b,
                               struct err *err)
{
    struct ticket_for whom = { r->service, r->session, r->remote };
    struct user_place place;
    uint8_t id[16];
    bool found;

    if (users_any(r->config->users, r->user, r->arena, &place, &found, err) < 0)
        return -1;
    if (!found)
        return err_temp(err, "userdb does not know the user");
    if (place.kind != USER_MAILBOX)
        return err_temp(err, "mail goes to a file, which cannot be read here");
    if (!auth_push_ticket(r->auth, &whom, &place, id))
        ticket_give(r->auth->tickets, &whom, &place, id);
    r->user = place.user;
    put_field(b, "user", r->user);
    (void)buf_puts(b, "\tticket=");
    (void)hex_put(b, slice_of(id, sizeof id));
    explicit_bzero(id, sizeof id);
    return 0;
}

/* Of a service that reads mail.  SMTP has rules of its own about passwords
 * without TLS. */
static bool is_session(const struct auth_request *r)
{
    return slice_eqs(r->service, "imap") || slice_eqs(r->service, "pop3");
}

MAY_WAIT static void finish_good(struct auth_request *r)
{
    struct buf b, rest;
    struct err err;
    int rc = 0;

    buf_init(&b, AUTH_LINE_MAX);
    buf_init(&rest, AUTH_LINE_MAX);
    if (is_session(r) && auth_peer_gives_tickets(r->peer))
        rc = add_ticket(r, &rest, &err);
    else
        put_field(&rest, "user", r->user);
    if (r->peer == NULL) { /* left while we waited */
        wipe(&rest);
        buf_done(&rest);
        return;
    }
    if (rc < 0) {
        event_text(EV_ERROR, "auth", NULL, "userdb(%.*s): %s", SLF(r->user),
                   err.log);
        r->verdict = VERDICT_TEMP;
        r->auth->n_temp++;
        say_fail(r);
    } else {
        (void)buf_printf(&b, "OK\t%" PRIu64, r->node.key);
        (void)buf_slice(&b, buf_view(&rest));
        (void)buf_byte(&b, '\n');
        r->auth->n_good++;
        auth_peer_say(r->peer, &b);
    }
    wipe(&rest);
    buf_done(&rest);
    buf_done(&b);
}

MAY_WAIT static void finish(struct auth_request *r)
{
    if (r->verdict == VERDICT_GOOD) {
        finish_good(r);
        r->is_running = false;
        request_free(r);
        return;
    }
    if (r->verdict == VERDICT_TEMP)
        r->auth->n_temp++;
    else
        r->auth->n_bad++;
    r->is_running = false;
    fail_later(r);
}

/* ---- steps */

static void dialog_over(struct timer *t)
{
    struct auth_request *r = CONTAINER_OF(t, struct auth_request, dialog);

    r->verdict = VERDICT_WRONG;
    r->reason = SL("Authentication timed out");
    say_fail(r);
    request_free(r);
}

static void say_cont(struct auth_request *r, slice challenge)
{
    struct buf b;

    buf_init(&b, AUTH_LINE_MAX);
    (void)buf_printf(&b, "CONT\t%" PRIu64 "\t", r->node.key);
    (void)base64_put(&b, challenge);
    (void)buf_byte(&b, '\n');
    auth_peer_say(r->peer, &b);
    r->is_dialog = true;
    r->is_running = false;
    timer_set(&r->dialog, clock_after(AUTH_DIALOG_MS), dialog_over);
}

MAY_WAIT static void step_task(void *arg)
{
    struct auth_request *r = arg;
    enum sasl_step step = SASL_DONE;
    struct buf out;

    buf_init(&out, AUTH_LINE_MAX);
    if (!r->sent_final)
        step = sasl_step(r->sasl, r, buf_view(&r->input), &out);
    wipe(&r->input);
    if (step == SASL_BROKEN) {
        r->verdict = VERDICT_WRONG;
        auth_verify_plain(r, SLICE_NONE, SLICE_NONE);
    }
    if (r->peer == NULL) {
        r->is_running = false;
        request_free(r);
    } else if (step == SASL_MORE) {
        say_cont(r, buf_view(&out));
    } else if (step == SASL_DONE && r->verdict == VERDICT_GOOD && out.n > 0) {
        /* The server's last word goes out as a challenge, and the client
         * answers it with nothing. */
        r->sent_final = true;
        say_cont(r, buf_view(&out));
    } else {
        finish(r);
    }
    wipe(&out);
    buf_done(&out);
}

static void run(struct auth_request *r)
{
    r->is_running = true;
    r->is_dialog = false;
    timer_cancel(&r->dialog);
    task_spawn("auth", step_task, r);
}

/* ---- what the peer says */

static slice take(struct auth_request *r, slice value, size_t max)
{
    return slice_sub(auth_unescape(r->arena, value), 0, max);
}

/* False: damaged. */
static bool take_param(struct auth_request *r, slice key, slice value)
{
    if (slice_eqs(key, "service"))
        r->service = take(r, value, 32);
    else if (slice_eqs(key, "rip"))
        r->remote = take(r, value, 64);
    else if (slice_eqs(key, "lip"))
        r->local = take(r, value, 64);
    else if (slice_eqs(key, "session"))
        r->session = take(r, value, 64);
    else if (slice_eqs(key, "tls-exporter"))
        r->tls_exporter = take(r, value, 256);
    else if (slice_eqs(key, "tls-unique"))
        r->tls_unique = take(r, value, 256);
    else if (slice_eqs(key, "secured"))
        r->is_secured = true;
    else if (slice_eqs(key, "resp")) {
        if (!base64_get(&r->input, value))
            return false;
        /* "resp=" alone is an empty response, which is one as well. */
        if (r->input.p == NULL)
            (void)buf_reserve(&r->input, 1);
    }
    return true;
}

static bool refuse(struct auth_peer *p, uint64_t id, const char *reason)
{
    struct buf b;

    buf_init(&b, 256);
    (void)buf_printf(&b, "FAIL\t%" PRIu64 "%s\n", id, reason);
    auth_peer_say(p, &b);
    return true;
}

static struct auth_request *request_new(struct auth_peer *p, struct auth *a,
                                        uint64_t id)
{
    struct auth_request *r = xcalloc(1, sizeof *r);

    r->auth = a;
    r->peer = p;
    r->config = auth_config_ref(a->config);
    r->arena = arena_new(ARENA_MAX);
    r->arrived = loop_now();
    buf_init(&r->input, AUTH_LINE_MAX);
    imap_put(auth_peer_requests(p), &r->node, id);
    a->n_requests++;
    return r;
}

bool auth_request_begin(struct auth_peer *p, struct auth *a, slice rest)
{
    struct auth_request *r;
    slice field, key, value;
    unsigned mech;
    uint64_t id;

    if (!auth_field(&rest, &field) || !slice_u64(field, &id) ||
        imap_get(auth_peer_requests(p), id) != NULL ||
        !auth_field(&rest, &field))
        return false;
    if (a->n_requests >= AUTH_REQUESTS_MAX)
        return refuse(p, id, "\ttemp\tcode=temp_fail");
    mech = sasl_find(field);
    if ((mech & a->config->mechs) == 0)
        return refuse(p, id, "\treason=Unsupported authentication mechanism");
    r = request_new(p, a, id);
    r->mech = slice_dup(r->arena, field);
    while (auth_field(&rest, &field)) {
        auth_key(field, &key, &value);
        if (!take_param(r, key, value)) {
            request_free(r);
            return refuse(p, id,
                          "\treason=Invalid base64 data in initial "
                          "response");
        }
    }
    if (!r->is_secured && r->config->hides_plaintext &&
        (mech & (MECH_PLAIN | MECH_LOGIN)) && is_session(r)) {
        request_free(r);
        return refuse(p, id,
                      "\treason=Cleartext authentication disallowed on "
                      "non-secure (SSL/TLS) connections.");
    }
    r->sasl = sasl_new(mech);
    run(r);
    return true;
}

static struct auth_request *request_of(struct auth_peer *p, slice *rest)
{
    struct imap_node *n = NULL;
    slice field;
    uint64_t id;

    if (auth_field(rest, &field) && slice_u64(field, &id))
        n = imap_get(auth_peer_requests(p), id);
    return n != NULL ? CONTAINER_OF(n, struct auth_request, node) : NULL;
}

bool auth_request_continue(struct auth_peer *p, slice rest)
{
    struct auth_request *r = request_of(p, &rest);
    slice data = SLICE_NONE;

    if (r == NULL)
        return true; /* it ended meanwhile */
    if (!r->is_dialog)
        return false;
    (void)auth_field(&rest, &data);
    if (!base64_get(&r->input, data)) {
        uint64_t id = r->node.key;

        request_free(r);
        return refuse(p, id,
                      "\treason=Invalid base64 data in continued "
                      "response");
    }
    if (r->input.p == NULL)
        (void)buf_reserve(&r->input, 1);
    run(r);
    return true;
}

bool auth_request_cancel(struct auth_peer *p, slice rest)
{
    struct auth_request *r = request_of(p, &rest);

    if (r == NULL)
        return true;
    leave_peer(r);
    auth_request_orphan(r);
    return true;
}
