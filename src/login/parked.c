/* Signed-in connections of which the worker keeps no socket: waiting, news,
 * texts that keep the line open, waking. */
#include "login/login_priv.h"

#define WAKE_MS        100000
#define KEEPALIVES_MAX 64

MAY_WAIT static void client_event(void *arg, enum stream_why why);

void parked_arm(struct conn *c, msec deadline)
{
    c->is_armed = true;
    stream_park(c->client, deadline, client_event, c);
}

/* ---------------------------------------------------------------- keepalive */

void parked_keepalive_drop(struct conn *c)
{
    struct keepalive *k = c->keepalive;

    c->keepalive = NULL;
    c->keepalive_s = 0;
    if (k == NULL || --k->n_users > 0)
        return;
    map_del(&c->service->login->keepalives, &k->node);
    free(k);
}

void parked_keepalive_set(struct conn *c, unsigned seconds, slice text)
{
    struct login *g = c->service->login;
    struct keepalive *k;
    struct map_node *n;

    if (c->keepalive != NULL && slice_eq(c->keepalive->text, text)) {
        c->keepalive_s = seconds;
        return;
    }
    parked_keepalive_drop(c);
    if (seconds == 0 || text.n == 0 || text.n > 1000)
        return;
    n = map_get(&g->keepalives, text);
    if (n == NULL) {
        if (g->keepalives.n >= KEEPALIVES_MAX)
            return;
        k = xcalloc(1, sizeof *k + text.n);
        memcpy(k->bytes, text.p, text.n);
        k->text = slice_of(k->bytes, text.n);
        map_put(&g->keepalives, &k->node, k->text);
    } else {
        k = CONTAINER_OF(n, struct keepalive, node);
    }
    k->n_users++;
    c->keepalive = k;
    c->keepalive_s = seconds;
}

/* Spread: connections that parked together do not all speak together. */
static msec next_text(const struct conn *c)
{
    msec period = (msec)c->keepalive_s * 1000;

    if (c->keepalive == NULL || period == 0)
        return MSEC_NEVER;
    return clock_after(period - (msec)(random_u64() % (uint64_t)period) / 4);
}

/* ------------------------------------------------------- news for the client
 */

/* A task will look at it. */
static void call(struct conn *c)
{
    if (!c->is_busy)
        stream_kick(c->client);
}

static void give_up(struct conn *c)
{
    login_tell_broker(c, BROKER_DROP);
    c->is_ended = true;
    c->must_close = true;
}

static void put(struct conn *c, slice bytes)
{
    if (bytes.n == 0)
        return;
    if (c->pushed == NULL) {
        c->pushed = xcalloc(1, sizeof *c->pushed);
        buf_init(c->pushed, PUSHED_MAX);
    }
    if (!buf_slice(c->pushed, bytes))
        give_up(c); /* it reads nothing */
}

void parked_push(struct conn *c, slice bytes)
{
    if (c->state != CONN_PARKED && c->state != CONN_WAKING)
        return;
    put(c, bytes);
    call(c);
}

void parked_end(struct conn *c, slice last_words)
{
    if (c->state != CONN_PARKED && c->state != CONN_WAKING)
        return;
    put(c, last_words);
    c->must_close = true;
    call(c);
}

void parked_close(struct conn *c)
{
    if (c->must_close)
        return;
    put(c, SL("* BYE Server shutting down.\r\n"));
    give_up(c);
    call(c);
}

void parked_forget(struct conn *c)
{
    parked_keepalive_drop(c);
    if (c->pushed != NULL)
        buf_done(c->pushed);
    free(c->pushed);
    c->pushed = NULL;
    if (c->state == CONN_PARKED || c->state == CONN_WAKING)
        c->service->login->n_parked--;
}

/* Everything that was pushed, also what comes meanwhile.  -1: the client is
 * gone, or takes nothing. */
MAY_WAIT static int send_pushed(struct conn *c)
{
    struct err err;

    while (c->pushed != NULL) {
        struct buf *b = c->pushed;
        int rc;

        c->pushed = NULL;
        stream_deadline(c->client,
                        clock_after(c->must_close ? FAREWELL_MS : STALL_MS));
        rc = stream_write(c->client, buf_view(b), &err);
        if (rc == 0)
            rc = stream_flush(c->client, &err);
        buf_done(b);
        free(b);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------- waking */

MAY_WAIT static int ask_for_socket(struct conn *c, int *fd_out)
{
    struct login *g = c->service->login;
    struct msg answer;
    struct buf body;
    struct err err;
    int rc;

    buf_init(&body, 64);
    attr_put(&body, AT_HANDLE, slice_of(c->handle, HANDLE_BYTES));
    rc = link_call(g->broker, BROKER_WAKE, buf_view(&body), NULL, 0,
                   clock_after(WAKE_MS), &answer, &err);
    buf_done(&body);
    if (rc < 0) {
        if (!c->must_close)
            log_warning("a session cannot be woken: %s", err.log);
        return -1;
    }
    if (answer.n_fds == 1) {
        *fd_out = answer.fds[0];
        answer.fds[0] = -1;
    } else {
        rc = -1;
    }
    msg_free(&answer);
    return rc;
}

/* The client speaks: a worker is needed.  -1: it is over. */
MAY_WAIT static int wake(struct conn *c)
{
    struct login *g = c->service->login;
    int fd = -1;

    c->state = CONN_WAKING;
    if (ask_for_socket(c, &fd) < 0) {
        if (!c->must_close) {
            put(c, SL("* BYE Internal error, please sign in again.\r\n"));
            give_up(c);
        }
        (void)send_pushed(c);
        return -1;
    }
    /* What was pushed before the worker had the socket comes first. */
    if (send_pushed(c) < 0 || c->must_close) {
        close(fd);
        return -1;
    }
    g->n_wakes++;
    g->n_parked--;
    c->is_busy = false;
    relay_start(c, fd);
    return 0;
}

/* The end of a parked connection, by whomever. */
static void finish(struct conn *c)
{
    login_tell_broker(c, BROKER_DROP);
    conn_free(c);
}

MAY_WAIT static void parked_event(struct conn *c, enum stream_why why)
{
    c->is_busy = true;
    if (why == STREAM_DEADLINE && c->keepalive != NULL && !c->must_close)
        put(c, c->keepalive->text);
    if (send_pushed(c) < 0 || c->must_close) {
        if (c->must_close)
            (void)send_pushed(c);
        finish(c);
        return;
    }
    if (stream_peek(c->client).n > 0 || stream_fill_now(c->client)) {
        if (wake(c) < 0)
            finish(c);
        return;
    }
    if (why == STREAM_EOF || stream_eof(c->client)) {
        finish(c);
        return;
    }
    c->is_busy = false;
    parked_arm(c, next_text(c));
}

void parked_begin(struct conn *c)
{
    bool was_armed = c->is_armed;

    c->state = CONN_PARKED;
    c->is_busy = false;
    c->service->login->n_parked++;
    if (c->is_ended) /* by a broker that is gone */
        c->must_close = true;
    if (!was_armed)
        parked_arm(c, next_text(c));
    /* A task arms it anew, with another deadline. */
    if (was_armed || c->must_close)
        stream_kick(c->client);
}

MAY_WAIT static void client_event(void *arg, enum stream_why why)
{
    struct conn *c = arg;

    CHECK_OBJ(c, CONN_MAGIC);
    c->is_armed = false;
    if (c->state == CONN_RELAYED)
        relay_client_event(c, why);
    else
        parked_event(c, why);
}
