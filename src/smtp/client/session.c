#include "smtp/client/job.h"

#include "rt/tls.h"

/* From the greeting to where mail may be sent: EHLO, STARTTLS, AUTH. */

#define SMTP_PORT 25

/* ----------------------------------------------------------------- keywords */

static const struct {
    const char *word;
    unsigned can;
} keywords[] = {
    { "PIPELINING", CAN_PIPELINING },
    { "8BITMIME", CAN_8BITMIME },
    { "SIZE", CAN_SIZE },
    { "STARTTLS", CAN_STARTTLS },
    { "AUTH", CAN_AUTH },
    { "DSN", CAN_DSN },
    { "SMTPUTF8", CAN_SMTPUTF8 },
    { "CHUNKING", CAN_CHUNKING },
    { "REQUIRETLS", CAN_REQUIRETLS },
    { "XFORWARD", CAN_XFORWARD },
    { "ENHANCEDSTATUSCODES", CAN_STATUSCODES },
};

static unsigned keyword(slice word)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (slice_ieqs(word, keywords[i].word))
            return keywords[i].can;
    return 0;
}

static unsigned keyword_list(slice list)
{
    unsigned can = 0;
    slice word;

    while (slice_token(&list, " ,\t\n", &word))
        can |= keyword(word);
    return can;
}

void client_hello_line(struct client_conn *conn, slice line)
{
    const char *own = conf_str(conn->service->client->conf, NULL, "myhostname");
    slice rest = line;
    slice word;
    unsigned can;

    if (!slice_token(&rest, " \t", &word))
        return;
    if (conn->n_hello++ == 0) {
        conn->is_self = slice_ieqs(word, own);
        return;
    }
    rest = slice_trim(rest);
    /* "AUTH=PLAIN LOGIN" of old servers. */
    if (slice_istarts(word, SL("AUTH="))) {
        rest = slice_from(line, 5);
        word = SL("AUTH");
    }
    can = keyword(word) & ~conn->discard;
    conn->can |= can;
    if (can == CAN_SIZE) {
        conn->size_limit = 0;
        (void)slice_u64(rest, &conn->size_limit);
    } else if (can == CAN_AUTH && rest.n > 0) {
        conn->auth = slice_dup(conn->arena, slice_sub(rest, 0, 1000));
    } else if (can == CAN_XFORWARD) {
        conn->xforward = slice_dup(conn->arena, slice_sub(rest, 0, 200));
    }
}

/* smtp_discard_ehlo_keyword_address_maps, else smtp_discard_ehlo_keywords. */
MAY_WAIT static int find_discard(struct client_job *j, struct client_conn *conn,
                                 struct err *err)
{
    const struct client_service *s = j->service;
    slice list = SLICE_NONE;

    if (s->discard_ehlo_maps != NULL &&
        table_list_lookup(s->discard_ehlo_maps, conn->host.addr, 0, j->arena,
                          &list, err) < 0)
        return -1;
    conn->discard = keyword_list(list.p != NULL ? list : s->discard_ehlo);
    return 0;
}

/* ----------------------------------------------------------------- failures */

/* This host will not do.  A 5xx counts like any other; `status` NULL: that of
 * the reply. */
MAY_WAIT static enum client_hello refused(struct client_job *j,
                                          struct client_conn *conn,
                                          const struct client_reply *r,
                                          bool make_soft)
{
    client_why_reply(j, conn, r, "host %s refused to talk to me: %.*s",
                     conn->name, SLF(r->text));
    if (make_soft)
        j->why.status[0] = '4';
    client_bulk_fail(j, conn, true);
    conn->is_dead = r->code == 421;
    return HELLO_FAILED;
}

MAY_WAIT static enum client_hello own_failure(struct client_job *j,
                                              struct client_conn *conn,
                                              const char *status,
                                              const char *text)
{
    client_why_set(j, status, "%s", text);
    client_bulk_fail(j, conn, true);
    return HELLO_FAILED;
}

MAY_WAIT static enum client_hello broken(struct client_job *j,
                                         struct client_conn *conn,
                                         const struct err *err,
                                         const char *doing)
{
    client_broken(j, conn, err, doing);
    return HELLO_FAILED;
}

/* ----------------------------------------------------------------- greeting */

/* "220 ****...": an old firewall has wiped it. */
static bool looks_like_pix(slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (slice_chr(SL("20 *\t"), text.p[i]) < 0)
            return false;
    return true;
}

/* The pause is for mail that failed for some time
 * (smtp_pix_workaround_threshold_time). */
MAY_WAIT static int find_pix(struct client_job *j, struct client_conn *conn,
                             struct err *err)
{
    const struct client_service *s = j->service;
    slice list = SLICE_NONE;

    if (s->is_lmtp)
        return 0;
    if (s->pix_maps != NULL && table_list_lookup(s->pix_maps, conn->host.addr,
                                                 0, j->arena, &list, err) < 0)
        return -1;
    if (list.p == NULL)
        list = s->pix_workarounds;
    conn->no_esmtp = slice_ifind(list, SL("disable_esmtp")) >= 0;
    conn->delays_dot = slice_ifind(list, SL("delay_dotcrlf")) >= 0 &&
                       clock_wall() - j->arrival_ms >= s->pix_threshold;
    if (conn->no_esmtp || conn->delays_dot)
        event_text(EV_INFO, s->log_name, j->queue_id,
                   "enabling PIX workarounds: %.*s for %s", SLF(list),
                   conn->name_port);
    return 0;
}

MAY_WAIT static enum client_hello greeting(struct client_job *j,
                                           struct client_conn *conn)
{
    const struct client_service *s = j->service;
    struct client_reply r;
    struct err err;

    if (client_read_reply(conn, clock_after(s->helo_ms), &r, &err) < 0)
        return broken(j, conn, &err, "receiving the initial server greeting");
    if (r.code / 100 != 2)
        return refused(j, conn, &r, r.code / 100 == 5 && s->skip_5xx);
    conn->is_pix = !s->is_lmtp && looks_like_pix(r.text);
    if (conn->is_pix && find_pix(j, conn, &err) < 0)
        return own_failure(j, conn, "4.3.0", err.log);
    if (slice_ifind(r.text, SL("ESMTP")) >= 0)
        conn->can |= CAN_ESMTP;
    return HELLO_OK;
}

/* ----------------------------------------------------------------- EHLO */

/* One of the three; *refused_out when the server says no. */
MAY_WAIT static int say_hello(struct client_job *j, struct client_conn *conn,
                              const char *verb, struct client_reply *r,
                              struct err *err)
{
    const struct client_service *s = j->service;
    int rc;

    conn->in_hello = verb[0] != 'H';
    conn->n_hello = 0;
    rc = client_ask(conn, clock_after(s->helo_ms), r, err, "%s %.*s", verb,
                    SLF(s->helo_name));
    conn->in_hello = false;
    return rc;
}

/* We have reached ourselves. */
MAY_WAIT static enum client_hello found_self(struct client_job *j,
                                             struct client_conn *conn)
{
    event_text(EV_WARNING, j->service->log_name, j->queue_id,
               "host %s replied to HELO/EHLO with my own hostname %s",
               conn->name_port, conf_str(j->client->conf, NULL, "myhostname"));
    client_why_set(j, "5.4.6", "mail for %.*s loops back to myself",
                   SLF(j->nexthop));
    j->is_loop = true;
    client_bulk_fail(j, conn, false);
    return HELLO_FAILED;
}

MAY_WAIT static enum client_hello ehlo(struct client_job *j,
                                       struct client_conn *conn)
{
    const struct client_service *s = j->service;
    unsigned was = conn->can & CAN_ESMTP;
    bool is_esmtp = !s->never_ehlo && (s->always_ehlo || was != 0);
    struct client_reply r;
    struct err err;

    conn->can = was;
    conn->size_limit = 0;
    conn->auth = SLICE_NONE;
    if (find_discard(j, conn, &err) < 0)
        return own_failure(j, conn, "4.3.0", err.log);
    if (s->is_lmtp) {
        if (say_hello(j, conn, "LHLO", &r, &err) < 0)
            return broken(j, conn, &err, "performing the LHLO handshake");
        return r.code / 100 == 2 ? HELLO_OK : refused(j, conn, &r, false);
    }
    if (conn->no_esmtp)
        is_esmtp = false;
    if (is_esmtp) {
        if (say_hello(j, conn, "EHLO", &r, &err) < 0)
            return broken(j, conn, &err, "performing the EHLO handshake");
        if (r.code == 421)
            return refused(j, conn, &r, false);
        is_esmtp = r.code / 100 == 2;
    }
    if (is_esmtp) {
        conn->can |= CAN_ESMTP;
    } else {
        conn->can = 0;
        if (say_hello(j, conn, "HELO", &r, &err) < 0)
            return broken(j, conn, &err, "performing the HELO handshake");
        if (r.code / 100 != 2)
            return refused(j, conn, &r, false);
    }
    return conn->is_self && conn->host.port == SMTP_PORT ? found_self(j, conn)
                                                         : HELLO_OK;
}

/* ----------------------------------------------------------------- AUTH */

struct talk {
    struct client_job *job;
    struct client_conn *conn;
};

MAY_WAIT static int say(void *arg, slice line, struct client_sasl_reply *out,
                        struct err *err)
{
    struct talk *t = arg;
    struct client_reply r;
    slice text;

    if (client_ask(t->conn, clock_after(t->job->service->helo_ms), &r, err,
                   "%.*s", SLF(line)) < 0)
        return -1;
    text = slice_from(r.text, 4);
    *out = (struct client_sasl_reply){ r.code, SLICE_NONE, text };
    if (r.code != 334 && slice_starts(text, slice_str(r.status)))
        out->status = slice_sub(text, 0, strlen(r.status));
    return 0;
}

MAY_WAIT static enum client_hello sign_in(struct client_job *j,
                                          struct client_conn *conn)
{
    struct talk t = { j, conn };
    struct client_sasl_talk talk = { say, &t };
    struct client_login_ask ask = {
        .sender = j->sender,
        .host = conn->host.name,
        .dest = j->place,
        .mechs = conn->auth,
        .level = conn->is_verified ? CLIENT_LOGIN_VERIFIED
                 : conn->is_tls    ? CLIENT_LOGIN_TLS
                                   : CLIENT_LOGIN_CLEAR,
    };
    enum client_login_result result;
    struct err err;

    if (j->service->login == NULL)
        return HELLO_OK;
    if (client_login_do(j->service->login, &ask, conn->name_port, &talk,
                        &result, &err) < 0)
        return broken(j, conn, &err, "performing the SASL handshake");
    switch (result) {
    case CLIENT_LOGIN_STRANGER:
    case CLIENT_LOGIN_OK:
        conn->credentials = slice_dup(conn->arena, j->sender);
        return HELLO_OK;
    case CLIENT_LOGIN_BROKEN:
        conn->is_dead = true;
        break;
    case CLIENT_LOGIN_FAILED:
        break;
    }
    return own_failure(j, conn,
                       err.status[0] != '\0'   ? err.status
                       : err.class == ERR_PERM ? "5.7.8"
                                               : "4.7.8",
                       err.log);
}

/* ----------------------------------------------------------------- STARTTLS */

/* For the reports of RFC 8460; `result` NULL: well. */
static void report(struct client_job *j, struct client_conn *conn,
                   const struct tls_policy *p, const char *result,
                   const char *text)
{
    struct client_way way = { .nexthop = j->place, .host = &conn->host };
    struct peer_addr own;
    struct err err;

    if (local_addr_of(stream_fd(conn->st), &own, &err) < 0)
        own.text[0] = '\0';
    client_policy_report(j->client, p, &way, slice_str(own.text),
                         result == NULL ? p->result : result, slice_str(text));
}

/* Is there a password for this host?  What a table cannot tell counts as one.
 */
MAY_WAIT static bool has_password(struct client_job *j,
                                  const struct client_conn *conn)
{
    struct client_login_ask ask = { .sender = j->sender,
                                    .host = conn->host.name,
                                    .dest = j->place };
    struct client_credentials who;
    struct err err;
    bool found;

    if (j->service->login == NULL)
        return false;
    if (client_login_find(j->service->login, &ask, j->arena, &who, &err) < 0) {
        log_warning("%s", err.log);
        return true;
    }
    found = who.found;
    client_credentials_wipe(&who);
    return found;
}

/* As Postfix: what fails once may be an accident, or somebody who wants to read
 * along; so not at the first attempt, and no password goes out in the clear for
 * it. */
MAY_WAIT static bool may_go_clear(struct client_job *j,
                                  const struct client_conn *conn,
                                  const struct tls_policy *p)
{
    return p->may_fall_back &&
           j->before_ms >= 1000 * conf_time(j->client->conf, j->service->line,
                                            "minimal_backoff_time") &&
           !has_password(j, conn);
}

MAY_WAIT static enum client_hello handshake(struct client_job *j,
                                            struct client_conn *conn,
                                            const struct tls_policy *p)
{
    bool must_match = p->level >= TLS_LEVEL_FINGERPRINT;
    struct tls_server_info info;
    struct err err;

    stream_deadline(conn->st, clock_after(j->service->starttls_ms));
    if (stream_tls_connect(conn->st, p->ctx, &p->how, &info, &err) < 0) {
        conn->is_dead = true;
        event_text(EV_INFO, j->service->log_name, NULL,
                   "SSL_connect error to %s: %s", conn->name_port, err.log);
        report(j, conn, p, "validation-failure", err.log);
        if (may_go_clear(j, conn, p))
            return HELLO_NO_TLS;
        return own_failure(j, conn, "4.7.5",
                           "Cannot start TLS: handshake failure");
    }
    conn->is_tls = true;
    conn->is_verified = must_match && info.is_matched;
    client_tls_log(j->service, conn->name_port, conn->st, p, &info);
    if (p->how.check != TLS_CHECK_NONE && !info.is_matched)
        report(j, conn, p, info.result_type, info.why);
    else
        report(j, conn, p, NULL, "");
    if (must_match && !info.is_matched)
        return own_failure(j, conn, "4.7.5",
                           info.is_trusted ? "Server certificate not verified"
                                           : "Server certificate not trusted");
    return HELLO_OK;
}

MAY_WAIT static enum client_hello starttls(struct client_job *j,
                                           struct client_conn *conn,
                                           const struct tls_policy *p)
{
    struct client_reply r;
    struct err err;
    enum client_hello h;
    char text[300];

    if ((conn->can & CAN_STARTTLS) == 0) {
        report(j, conn, p, "starttls-not-supported", "");
        if (p->level < TLS_LEVEL_ENCRYPT)
            return HELLO_OK;
        (void)snprintf(text, sizeof text,
                       "TLS is required, but was not offered by host %s",
                       conn->name);
        return own_failure(j, conn, "4.7.4", text);
    }
    if (client_ask(conn, clock_after(j->service->starttls_ms), &r, &err,
                   "STARTTLS") < 0)
        return broken(j, conn, &err, "sending STARTTLS");
    if (r.code / 100 != 2) {
        report(j, conn, p, "starttls-not-supported", "");
        if (p->level < TLS_LEVEL_ENCRYPT)
            return HELLO_OK;
        client_why_reply(j, conn, &r,
                         "TLS is required, but host %s refused to start TLS: "
                         "%.*s",
                         conn->name, SLF(r.text));
        j->why.status[0] = '4';
        client_bulk_fail(j, conn, true);
        return HELLO_FAILED;
    }
    if (stream_peek(conn->st).n > 0) { /* injected: CVE-2011-0411 */
        conn->is_dead = true;
        report(j, conn, p, "validation-failure", "data behind STARTTLS");
        if (may_go_clear(j, conn, p))
            return HELLO_NO_TLS;
        return own_failure(j, conn, "4.7.5",
                           "the server spoke in the clear behind STARTTLS");
    }
    h = handshake(j, conn, p);
    return h == HELLO_OK ? ehlo(j, conn) : h;
}

enum client_hello client_hello(struct client_job *j, struct client_conn *conn,
                               const struct tls_policy *p)
{
    enum client_hello h = HELLO_OK;

    if (p->is_wrapper && p->level != TLS_LEVEL_NONE)
        h = handshake(j, conn, p);
    if (h == HELLO_OK)
        h = greeting(j, conn);
    if (h == HELLO_OK)
        h = ehlo(j, conn);
    if (h == HELLO_OK && p->level == TLS_LEVEL_NONE &&
        (conn->can & CAN_STARTTLS) != 0)
        client_tls_note_offer(j->service, conn->host.name);
    if (h == HELLO_OK && !p->is_wrapper && p->level != TLS_LEVEL_NONE)
        h = starttls(j, conn, p);
    if (h == HELLO_OK)
        h = sign_in(j, conn);
    if (h == HELLO_OK)
        j->has_positive = true;
    return h;
}
