#include "smtp/client/job.h"

#include "ipc/event.h"

/* Hosts one after the other until no recipient is left, and what a failure
 * means: Postfix's smtp_connect.c and smtp_trouble.c. */

/* ------------------------------------------------------------------- reasons
 */

void client_why_set(struct client_job *j, const char *status, const char *fmt,
                    ...)
{
    char text[1200];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->why = (struct client_why){ .status = "" };
    (void)snprintf(j->why.status, sizeof j->why.status, "%s", status);
    j->why.text = slice_dup(j->arena, n < 0 ? SL("trouble") : slice_str(text));
}

void client_why_reply(struct client_job *j, const struct client_conn *conn,
                      const struct client_reply *reply, const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done);
    va_list ap;

    buf_init(&b, CLIENT_REPLY_MAX + 1024);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    j->why = (struct client_why){ .status = "" };
    (void)snprintf(j->why.status, sizeof j->why.status, "%s", reply->status);
    /* Neither 4 nor 5: the server is out of its mind. */
    if (reply->status[0] != '4' && reply->status[0] != '5')
        (void)snprintf(j->why.status, sizeof j->why.status, "4.5.0");
    j->why.text = slice_dup(j->arena, buf_view(&b));
    j->why.diag =
        slice_str(arena_printf(j->arena, "smtp; %.*s", SLF(reply->text)));
    j->why.remote = slice_dup(j->arena, conn->host.name);
}

/* ------------------------------------------------------------------ failures
 */

void client_throttle(struct client_job *j)
{
    if (!j->is_final_server || j->hop_status[0] != '\0' ||
        !client_why_is_soft(&j->why))
        return;
    (void)snprintf(j->hop_status, sizeof j->hop_status, "%s", j->why.status);
    j->hop_text = j->why.text;
}

/* Another host may still take it. */
static bool is_kept(const struct client_job *j)
{
    return !j->is_final_server &&
           (client_why_is_soft(&j->why) || j->service->soft_bounce);
}

void client_rcpt_fail(struct client_job *j, struct client_rcpt *r,
                      const struct client_conn *conn)
{
    if (is_kept(j)) {
        event_text(EV_INFO, j->service->log_name, j->queue_id, "%.*s",
                   SLF(j->why.text));
        return;
    }
    client_fail(j, r, conn);
}

void client_bulk_fail(struct client_job *j, const struct client_conn *conn,
                      bool throttle)
{
    if (is_kept(j)) {
        event_text(EV_INFO, j->service->log_name, j->queue_id, "%.*s",
                   SLF(j->why.text));
        return;
    }
    for (size_t i = 0; i < j->n_rcpts; i++)
        if (!j->rcpts[i].is_done)
            client_fail(j, &j->rcpts[i], conn);
    if (throttle)
        client_throttle(j);
}

void client_broken(struct client_job *j, struct client_conn *conn,
                   const struct err *err, const char *doing)
{
    conn->is_dead = true;
    if (err->class == ERR_TEMP && err->sys == 0)
        client_why_set(j, "4.4.2", "conversation with %s timed out while %s",
                       conn->name, doing);
    else if (err->class == ERR_TEMP)
        client_why_set(j, "4.3.0", "local data error while talking to %s",
                       conn->name);
    else
        client_why_set(j, "4.4.2", "lost connection with %s while %s",
                       conn->name, doing);
    client_bulk_fail(j, conn, true);
}

/* ------------------------------------------------------------------ sessions
 */

MAY_WAIT static void transfer(struct client_job *j, struct client_conn **conn)
{
    if (client_transfer(j, *conn) < 0)
        (*conn)->is_dead = true;
    client_conn_put(j, conn);
}

/* With what is open already.  A failure is not the last word: the connection
 * may just have been too old. */
MAY_WAIT static void reuse(struct client_job *j)
{
    struct client_conn *conn;

    j->is_final_server = false;
    while (j->n_left > 0 && (conn = client_cache_take(j)) != NULL) {
        j->connected = loop_now();
        transfer(j, &conn);
    }
}

/* What TLS must be for the host that was reached.  -1: mail does not go there:
 * the reason is told. */
MAY_WAIT static int find_policy(struct client_job *j, slice dest,
                                struct client_conn *conn,
                                struct tls_policy *out)
{
    struct client_way way = { .nexthop = dest, .host = &conn->host };
    struct err err;

    /* RFC 8689 is of SMTP: LMTP leads into a mailbox. */
    way.requires_tls =
        (j->env.flags & ENV_REQUIRETLS) != 0 && !j->service->is_lmtp;
    if (client_policy(j->service, &way, j->arena, out, &err) < 0)
        client_why_set(j, "4.3.0", "%s", err.log);
    else if (out->refused.n > 0)
        client_why_set(j, slice_cstr(j->arena, out->refused_status), "%.*s",
                       SLF(out->refused));
    else
        return 0;
    if (out->result != NULL)
        client_policy_report(j->client, out, &way, SLICE_NONE, out->result,
                             out->refused);
    client_bulk_fail(j, conn, true);
    return -1;
}

/* TLS by chance did not come about: the same host once more, in the clear. */
MAY_WAIT static enum client_hello in_the_clear(struct client_job *j,
                                               struct client_conn **conn)
{
    const struct tls_policy clear = { .level = TLS_LEVEL_NONE };
    struct client_host host = (*conn)->host;
    size_t n_addresses = 0;

    host.name = slice_dup(j->arena, host.name);
    host.addr = slice_dup(j->arena, host.addr);
    host.unix_path = slice_dup(j->arena, host.unix_path);
    host.canonical = slice_dup(j->arena, host.canonical);
    host.nexthop = slice_dup(j->arena, host.nexthop);
    host.is_tried = false;
    client_conn_put(j, conn);
    *conn = client_connect(j, &host, 1, &n_addresses);
    return *conn != NULL ? client_hello(j, *conn, &clear) : HELLO_FAILED;
}

/* As in Postfix, a session counts for smtp_mx_session_limit once its handshake
 * is done. */
struct counts {
    size_t addresses, sessions;
};

/* A new connection to one of the hosts; false: there is none left. */
MAY_WAIT static bool session(struct client_job *j, struct client_host *hosts,
                             size_t n, struct counts *count)
{
    struct client_conn *conn = client_connect(j, hosts, n, &count->addresses);
    struct tls_policy policy;
    enum client_hello h;
    bool is_last = true;

    if (conn == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        is_last &= hosts[i].is_tried;
    j->is_final_server = j->is_final_nexthop &&
                         (is_last || j->is_final_server ||
                          (j->service->address_limit > 0 &&
                           count->addresses >= j->service->address_limit));
    j->connected = loop_now();
    if (find_policy(j, j->place, conn, &policy) < 0) {
        conn->is_dead = true;
        client_conn_put(j, &conn);
        return true;
    }
    conn->policy_key = slice_dup(conn->arena, policy.key);
    h = client_hello(j, conn, &policy);
    if (h == HELLO_NO_TLS)
        h = in_the_clear(j, &conn);
    if (h == HELLO_OK) {
        if (++count->sessions == j->service->session_limit &&
            j->is_final_nexthop)
            j->is_final_server = true;
        j->connected = loop_now();
        transfer(j, &conn);
    } else {
        /* One that did not pass is not kept for other mail. */
        if (conn != NULL)
            conn->is_dirty = true;
        client_conn_put(j, &conn);
    }
    return true;
}

MAY_WAIT static void try_dest(struct client_job *j, slice dest,
                              bool is_fallback)
{
    struct client_host *hosts;
    size_t n = 0;
    struct counts count = { 0, 0 };

    j->place = dest;
    if (client_hosts(j, dest, &hosts, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        hosts[i].is_fallback = is_fallback;
    if (n == 0 && j->is_best_mx && j->service->best_mx.n > 0)
        client_pass_on(j);
    if (n == 0 && j->is_loop)
        j->is_final_nexthop = true; /* a fallback would only prolong it */
    j->is_final_server = false;
    while (j->n_left > 0 && clock_mono() < j->deadline)
        if (!session(j, hosts, n, &count) ||
            (j->service->session_limit > 0 &&
             count.sessions >= j->service->session_limit))
            return;
}

/* Whoever is left after all hosts. */
MAY_WAIT static void leftovers(struct client_job *j, bool had_fallback)
{
    slice relayhost =
        conf_slice(j->client->conf, j->service->line, "relayhost");

    if (j->why.status[0] == '\0')
        client_why_set(j, "4.3.0",
                       "server unavailable or unable to receive mail");
    if (!client_why_is_soft(&j->why)) {
        const char *blamed = NULL;

        if (had_fallback)
            blamed = client_param(j->service, "fallback_relay");
        else if (relayhost.n > 0 && slice_eq(j->nexthop, relayhost))
            blamed = "relayhost";
        if (blamed != NULL) {
            event_text(EV_WARNING, j->service->log_name, j->queue_id,
                       "%s configuration problem", blamed);
            (void)snprintf(j->why.status, sizeof j->why.status, "4.3.5");
        }
    }
    j->is_final_server = true;
    client_bulk_fail(j, NULL, true);
}

void client_deliver(struct client_job *j)
{
    slice rest = j->nexthop;
    slice fallback = j->service->fallback;
    slice dest;
    bool had_fallback = false;

    client_dest_begin(j);
    reuse(j);
    while (j->n_left > 0 && conf_list_next(&rest, &dest)) {
        j->is_final_nexthop =
            slice_trim(rest).n == 0 && slice_trim(fallback).n == 0;
        try_dest(j, dest, false);
    }
    rest = j->is_loop ? SLICE_NONE : fallback;
    while (j->n_left > 0 && conf_list_next(&rest, &dest)) {
        had_fallback = true;
        j->is_final_nexthop = slice_trim(rest).n == 0;
        try_dest(j, dest, true);
    }
    if (j->n_left > 0)
        leftovers(j, had_fallback);
    client_dest_end(j);
}
