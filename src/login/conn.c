/* A connection before sign-in, whatever its protocol. */
#include "login/login_priv.h"

#include "base/digest.h"

#include <stdarg.h>
#include <sys/socket.h>

/* How many commands a task answers before it lets others run. */
#define COMMANDS_A_TURN 20

static void pre_wake(void *arg, enum stream_why why);

/* ------------------------------------------------------------ birth and end */

static void pre_free(struct conn *c)
{
    struct pre *p = c->pre;

    if (p == NULL)
        return;
    c->pre = NULL;
    list_remove(&p->link);
    c->service->login->n_waiting--;
    login_client_down(c->service->login, &p->from);
    auth_abort(&p->request);
    /* Passwords have stood there. */
    if (p->in.p != NULL)
        explicit_bzero(p->in.p, p->in.size);
    buf_done(&p->in);
    buf_done(&p->user);
    free(p);
}

void conn_leave_pre(struct conn *c)
{
    pre_free(c);
}

void conn_free(struct conn *c)
{
    struct login_service *s = c->service;
    struct login *g = s->login;

    CHECK_OBJ(c, CONN_MAGIC);
    pre_free(c);
    relay_free(&c->relay);
    parked_forget(c);
    if (c->has_handle)
        map_del(&g->handles, &c->node);
    stream_free(&c->client);
    list_remove(&c->link);
    c->magic = 0;
    free(c);
    CHECK(s->n_conns > 0 && g->n_conns > 0);
    s->n_conns--;
    g->n_conns--;
    if (s->n_conns + 1 >= s->max_conns || g->n_conns + 1 >= CONNS_MAX)
        login_service_limit(s);
    login_was_freed(g);
}

/* The last line, and the end. */
MAY_WAIT static void pre_end(struct conn *c)
{
    struct err err;

    stream_deadline(c->client, clock_after(FAREWELL_MS));
    (void)stream_flush(c->client, &err);
    say_ended(c);
    conn_free(c);
}

MAY_WAIT static void say_bye(struct conn *c, const char *why, const char *text)
{
    c->pre->why = why;
    if (!c->pre->is_mute)
        (void)c->service->protocol->bye(c, text);
}

void conn_close(struct conn *c)
{
    c->must_close = true;
    stream_kick(c->client); /* a task that works on it sees must_close */
    if (c->pre->handshake != NULL)
        task_cancel(c->pre->handshake);
}

void conn_end_oldest(struct login *g)
{
    list_each(it, &g->waiting) {
        struct pre *p = CONTAINER_OF(it, struct pre, link);

        if (!p->is_kicked) {
            p->is_kicked = true;
            stream_kick(p->conn->client);
            return;
        }
    }
}

/* ------------------------------------------------------------------- output */

int conn_puts(struct conn *c, const char *text)
{
    struct err err;

    return stream_puts(c->client, text, &err);
}

int conn_printf(struct conn *c, const char *fmt, ...)
{
    struct buf b;
    struct err err;
    va_list ap;
    int rc;

    buf_init(&b, 65536);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    rc = stream_write(c->client, buf_view(&b), &err);
    buf_done(&b);
    return rc;
}

/* ---------------------------------------------------------------------- TLS */

bool conn_is_secured(const struct conn *c)
{
    return c->pre->is_tls || c->pre->is_local || c->pre->is_trusted;
}

struct tls_context *conn_tls_context(const struct conn *c)
{
    const struct login_service *s = c->service;

    if (s->tls.level == KEYS_NO_TLS && !s->tls.is_wrapper)
        return NULL;
    return keyring_context(s->login->parts.keyring, s->line, s->protocol->name);
}

int conn_start_tls(struct conn *c)
{
    struct tls_context *ctx = conn_tls_context(c);
    struct err err;
    int rc;

    c->pre->is_tls = true;
    if (ctx == NULL) {
        c->pre->is_mute = true;
        c->pre->why = "Disconnected: TLS is not available at present";
        return -1;
    }
    ctx = tls_context_ref(ctx);
    c->pre->is_mute = true;
    c->pre->handshake = task_self();
    rc = stream_tls_accept(c->client, ctx, &err);
    c->pre->handshake = NULL;
    tls_context_unref(&ctx);
    if (rc == 0)
        c->pre->is_mute = false;
    if (rc < 0) {
        (void)snprintf(c->pre->why_text, sizeof c->pre->why_text,
                       "Disconnected: TLS handshake failed: %.150s", err.log);
        c->pre->why = c->pre->why_text;
    }
    return rc;
}

slice conn_mechs(struct conn *c)
{
    struct tls_bindings bindings;
    struct err err;
    slice mechs = SLICE_NONE;

    if (auth_client_mechs(c->service->login->auth, conn_is_secured(c),
                          stream_tls_bindings(c->client, &bindings), &mechs,
                          &err) < 0)
        return SLICE_NONE;
    return mechs;
}

/* -------------------------------------------------------- said by a proxy */

void conn_set_remote(struct conn *c, slice ip, slice port)
{
    struct pre *p = c->pre;
    uint64_t n;

    if (ip.n > 0 && ip.n < sizeof p->remote) {
        for (size_t i = 0; i < ip.n; i++)
            if (!ascii_isalnum(ip.p[i]) && ip.p[i] != '.' && ip.p[i] != ':')
                return;
        (void)slice_copy_to(ip, p->remote, sizeof p->remote);
    }
    if (slice_u64(port, &n) && n <= UINT16_MAX)
        p->remote_port = (uint16_t)n;
}

void conn_set_session(struct conn *c, slice id)
{
    if (id.n == 0 || id.n >= sizeof c->pre->session)
        return;
    for (size_t i = 0; i < id.n; i++)
        if ((unsigned char)id.p[i] <= ' ' || id.p[i] == '<' || id.p[i] == '>' ||
            (unsigned char)id.p[i] >= 0x7f)
            return;
    (void)slice_copy_to(id, c->pre->session, sizeof c->pre->session);
}

/* ----------------------------------------------------------------- commands */

enum step conn_bad(struct conn *c, const char *line)
{
    struct pre *p = c->pre;

    if (++p->n_bad >= PRE_BAD_MAX) {
        say_bye(c, "Disconnected: Too many bad commands",
                c->service->protocol == &login_imap
                    ? "Too many invalid IMAP commands."
                    : "Too many invalid bad commands.");
        return STEP_END;
    }
    return conn_puts(c, line) < 0 ? STEP_END : STEP_DONE;
}

/* Move what the stream has into pre->in; true when something came. */
static bool take_input(struct conn *c)
{
    struct pre *p = c->pre;
    slice in = stream_peek(c->client);
    size_t room = PRE_INPUT_MAX - p->in.n;

    if (room == 0)
        return false;
    if (in.n == 0 && stream_fill_now(c->client))
        in = stream_peek(c->client);
    in = slice_sub(in, 0, room);
    if (in.n == 0)
        return false;
    CHECK(buf_slice(&p->in, in));
    stream_consume(c->client, in.n);
    return true;
}

/* Is there a reason to end that the client did not give? */
MAY_WAIT static bool must_end(struct conn *c)
{
    struct pre *p = c->pre;

    if (c->must_close)
        say_bye(c, "Disconnected: Shutting down", "Server shutting down.");
    else if (p->is_kicked)
        say_bye(c, "Disconnected: Connection queue full",
                "Connection queue full");
    else if (p->n_commands > PRE_COMMANDS_MAX)
        say_bye(c, "Disconnected: Too many commands before sign-in",
                "Too many commands.");
    else if (p->n_refused >= PRE_ATTEMPTS_MAX)
        say_bye(c, "Disconnected: Too many authentication failures",
                "Too many authentication failures.");
    else
        return false;
    return true;
}

/* All that is complete.  STEP_NONE: the rest must come. */
MAY_WAIT static enum step answer_all(struct conn *c)
{
    for (unsigned n = 1;; n++) {
        bool came = take_input(c);
        enum step step;

        if (must_end(c))
            return STEP_END;
        step = c->service->protocol->step(c);
        if (step == STEP_END || step == STEP_GONE)
            return step;
        if (step == STEP_NONE) {
            if (c->pre->in.n >= PRE_INPUT_MAX) {
                say_bye(c, "Disconnected: Input buffer full",
                        "Input buffer full, aborting");
                return STEP_END;
            }
            if (!came)
                return STEP_NONE;
            continue;
        }
        c->pre->n_commands++;
        if (n % COMMANDS_A_TURN == 0)
            task_yield();
    }
}

static msec ends_at(const struct conn *c)
{
    return c->pre->since + c->service->timeout_ms;
}

/* Answer, flush, and wait as a struct until the client speaks again. */
MAY_WAIT static void pre_run(struct conn *c)
{
    enum step step;
    struct err err;

    stream_deadline(c->client, ends_at(c));
    step = answer_all(c);
    if (step == STEP_GONE)
        return;
    if (step == STEP_END || stream_flush(c->client, &err) < 0 ||
        stream_eof(c->client)) {
        pre_end(c);
        return;
    }
    if (c->must_close || c->pre->is_kicked) { /* while it flushed */
        (void)must_end(c);
        pre_end(c);
        return;
    }
    stream_park(c->client, ends_at(c), pre_wake, c);
}

MAY_WAIT static void pre_wake(void *arg, enum stream_why why)
{
    struct conn *c = arg;

    CHECK_OBJ(c, CONN_MAGIC);
    if (why == STREAM_DEADLINE) {
        stream_deadline(c->client, clock_after(FAREWELL_MS));
        if (c->pre->request != NULL)
            say_bye(c, "Disconnected: Inactivity during authentication",
                    "Disconnected for inactivity during authentication.");
        else
            say_bye(c, "Disconnected: Inactivity",
                    "Disconnected for inactivity.");
        pre_end(c);
        return;
    }
    pre_run(c);
}

MAY_WAIT static void greet(void *arg)
{
    struct conn *c = arg;

    stream_deadline(c->client, ends_at(c));
    if (c->service->tls.is_wrapper && conn_start_tls(c) < 0) {
        pre_end(c);
        return;
    }
    if (c->service->protocol->greet(c) < 0) {
        pre_end(c);
        return;
    }
    pre_run(c);
}

static void make_session_id(struct pre *p)
{
    uint8_t raw[12];
    struct buf b;

    random_bytes(raw, sizeof raw);
    buf_init(&b, 64);
    (void)base64_put(&b, slice_of(raw, sizeof raw));
    (void)slice_copy_to(buf_view(&b), p->session, sizeof p->session);
    buf_done(&b);
}

static void pre_new(struct conn *c, int fd, const struct peer_addr *peer)
{
    struct login *g = c->service->login;
    struct pre *p = xcalloc(1, sizeof *p);
    struct peer_addr local;
    struct err err;

    c->pre = p;
    p->conn = c;
    p->since = loop_now();
    buf_init(&p->in, PRE_INPUT_MAX);
    buf_init(&p->user, PRE_INPUT_MAX);
    (void)snprintf(p->remote, sizeof p->remote, "%s",
                   peer->text[0] != '\0' ? peer->text : "127.0.0.1");
    p->remote_port = peer->port;
    if (local_addr_of(fd, &local, &err) == 0) {
        (void)snprintf(p->local, sizeof p->local, "%s",
                       local.text[0] != '\0' ? local.text : "127.0.0.1");
        p->local_port = local.port;
    }
    p->is_local = strcmp(p->remote, p->local) == 0;
    p->is_trusted = login_is_trusted(c->service, peer);
    make_session_id(p);
    list_push(&g->waiting, &p->link);
    g->n_waiting++;
}

struct conn *conn_start(struct login_service *s, int fd,
                        const struct peer_addr *peer)
{
    struct conn *c = xcalloc(1, sizeof *c);
    struct login *g = s->login;
    int on = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    c->magic = CONN_MAGIC;
    c->service = s;
    c->state = CONN_PRE;
    c->client = stream_from_fd(fd);
    stream_limits(c->client, PRE_INPUT_MAX, 32768);
    list_push(&g->conns, &c->link);
    s->n_conns++;
    g->n_conns++;
    g->n_accepted++;
    pre_new(c, fd, peer);
    if (s->n_conns >= s->max_conns || g->n_conns >= CONNS_MAX)
        login_service_limit(s);
    task_spawn("login-greet", greet, c);
    return c;
}
