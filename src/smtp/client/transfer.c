#include "smtp/client/job.h"

#include "address/address.h"
#include "mail/address.h"
#include "mail/domain.h"

/* One transaction: MAIL, RCPT for who is left, DATA, and the answers.  With
 * PIPELINING the commands go out in groups, the last with DATA. */

/* Commands that are sent before their answers are read: as many answers fit
 * into any server's buffers, so neither side waits for the other. */
#define GROUP_RCPTS 100
#define COMMAND_MAX ((size_t)2 << 20)
#define CHUNK_MAX   ((uint64_t)256 << 10) /* a message that goes by BDAT */

static const char sending_data[] =
    "sending end of data -- message may be sent more than once";

struct transfer {
    struct client_job *job;
    struct client_conn *conn;
    struct client_rcpt **rcpts; /* those of this transaction */
    size_t n;
    size_t n_accepted;
    bool needs_utf8, to_7bit;
    bool mail_refused;
    unsigned n_xforward; /* answers to come */
    struct buf out;      /* commands */
};

/* --------------------------------------------------------------- failures */

/* "host mx[192.0.2.1] said: 550 ... (in reply to RCPT TO command)" */
static void said(struct transfer *t, const struct client_reply *r,
                 const char *request)
{
    client_why_reply(t->job, t->conn, r, "host %s said: %.*s (in reply to %s)",
                     t->conn->name, SLF(r->text), request);
    if (r->code == 421)
        t->conn->is_dead = true;
}

/* The whole message is refused: for all that are left of this transaction. */
MAY_WAIT static void message_refused(struct transfer *t,
                                     const struct client_reply *r,
                                     const char *request)
{
    said(t, r, request);
    for (size_t i = 0; i < t->n; i++)
        if (!t->rcpts[i]->is_done && !t->rcpts[i]->is_refused) {
            t->rcpts[i]->is_refused = true;
            client_rcpt_fail(t->job, t->rcpts[i], t->conn);
        }
    if (r->code == 421)
        client_throttle(t->job);
}

MAY_WAIT static int broken(struct transfer *t, const struct err *err,
                           const char *doing)
{
    client_broken(t->job, t->conn, err, doing);
    return -1;
}

/* A reason of ours why this server cannot have the message. */
MAY_WAIT static int not_for_it(struct transfer *t, const char *status,
                               const char *text)
{
    client_why_set(t->job, status, "%s %s", text, t->conn->name);
    client_bulk_fail(t->job, t->conn, false);
    return 0;
}

/* --------------------------------------------------------------- commands */

/* smtp_generic_maps and quotes.  A table that fails fails the command. */
MAY_WAIT static void put_address(struct transfer *t, slice addr)
{
    struct err err;

    if (addr.n == 0)
        return;
    if (t->job->service->generic != NULL &&
        address_generic(t->job->service->generic, &addr, t->job->arena, &err) <
            0) {
        log_warning("%s", err.log);
        t->out.overflow = true;
    }
    if (t->job->service->quote_envelope)
        (void)mail_addr_quote(&t->out, addr);
    else
        (void)buf_slice(&t->out, addr);
}

MAY_WAIT static void put_mail(struct transfer *t)
{
    const struct client_job *j = t->job;
    unsigned can = t->conn->can;
    struct buf *b = &t->out;

    (void)buf_puts(b, "MAIL FROM:<");
    put_address(t, j->sender);
    (void)buf_byte(b, '>');
    /* As Postfix: what is still to be encoded has no size yet. */
    if ((can & CAN_SIZE) != 0 && (j->flags & DELIVER_PROBE) == 0 && !t->to_7bit)
        (void)buf_printf(b, " SIZE=%" PRIu64,
                         (uint64_t)j->env.headers.n + j->body_bytes);
    if ((can & CAN_8BITMIME) != 0 &&
        (j->env.flags & (ENV_8BITMIME | ENV_8BIT_BODY)) != 0)
        (void)buf_puts(b, " BODY=8BITMIME");
    if ((can & CAN_SMTPUTF8) != 0 && (j->env.flags & ENV_SMTPUTF8) != 0)
        (void)buf_puts(b, " SMTPUTF8");
    if ((can & CAN_DSN) != 0) {
        if (j->env.envid.n > 0) {
            (void)buf_puts(b, " ENVID=");
            (void)mail_xtext_put(b, j->env.envid);
        }
        if (j->env.ret != ENV_RET_NONE)
            (void)buf_puts(b, j->env.ret == ENV_RET_FULL ? " RET=FULL"
                                                         : " RET=HDRS");
    }
    if ((can & CAN_REQUIRETLS) != 0 && (j->env.flags & ENV_REQUIRETLS) != 0)
        (void)buf_puts(b, " REQUIRETLS");
    if ((can & CAN_AUTH) != 0 && j->service->dummy_auth)
        (void)buf_puts(b, " AUTH=<>");
    (void)buf_puts(b, "\r\n");
}

static bool put_attribute(struct transfer *t, const char *name, slice value,
                          bool is_first)
{
    slice offered = t->conn->xforward;
    slice word;

    while (slice_token(&offered, " \t", &word)) {
        if (!slice_ieqs(word, name))
            continue;
        if (is_first)
            (void)buf_puts(&t->out, "XFORWARD");
        (void)buf_printf(&t->out, " %s=", name);
        (void)mail_xtext_put(&t->out,
                             value.n > 0 ? value : SL("[UNAVAILABLE]"));
        return true;
    }
    return false;
}

/* Who sent us the message (XFORWARD_README). */
static void put_xforward(struct transfer *t)
{
    const struct envelope *e = &t->job->env;
    bool is_known =
        e->client_name.n > 0 && !slice_ieqs(e->client_name, "unknown");
    bool has[2] = { false, false };
    char port[8];

    if (!t->job->service->send_xforward || (t->conn->can & CAN_XFORWARD) == 0)
        return;
    (void)snprintf(port, sizeof port, "%u", e->client_port);
    has[0] |= put_attribute(t, "NAME", is_known ? e->client_name : SLICE_NONE,
                            !has[0]);
    has[0] |= put_attribute(t, "ADDR", e->client_addr, !has[0]);
    has[0] |= put_attribute(t, "PORT",
                            e->client_port != 0 ? slice_str(port) : SLICE_NONE,
                            !has[0]);
    if (has[0])
        (void)buf_puts(&t->out, "\r\n");
    has[1] |= put_attribute(t, "PROTO", e->protocol, !has[1]);
    has[1] |= put_attribute(t, "HELO", e->helo, !has[1]);
    has[1] |= put_attribute(t, "IDENT", slice_str(t->job->queue_id), !has[1]);
    has[1] |= put_attribute(t, "SOURCE",
                            e->client_addr.n > 0 ? SL("REMOTE") : SL("LOCAL"),
                            !has[1]);
    if (has[1])
        (void)buf_puts(&t->out, "\r\n");
    t->n_xforward = (unsigned)has[0] + has[1];
}

static void put_notify(struct buf *b, unsigned notify)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = { { ENV_NOTIFY_NEVER, "NEVER" },
                  { ENV_NOTIFY_SUCCESS, "SUCCESS" },
                  { ENV_NOTIFY_FAILURE, "FAILURE" },
                  { ENV_NOTIFY_DELAY, "DELAY" } };

    const char *sep = " NOTIFY=";

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if ((notify & words[i].bit) != 0) {
            (void)buf_printf(b, "%s%s", sep, words[i].word);
            sep = ",";
        }
}

/* ORCPT is decoded "type;address" here. */
static void put_orcpt(struct buf *b, const struct client_rcpt *r, bool is_utf8)
{
    struct buf quoted CLEANUP(buf_done);
    slice rest = r->orcpt;
    slice type;

    buf_init(&quoted, 4096);
    if (rest.n == 0 && r->orig.n == 0)
        return;
    if (rest.n == 0 || !slice_cut(&rest, ';', &type)) {
        (void)mail_addr_quote(&quoted, r->orig);
        type = mail_is_ascii(r->orig) ? SL("rfc822") : SL("utf-8");
        rest = buf_view(&quoted);
    }
    (void)buf_printf(b, " ORCPT=%.*s;", SLF(type));
    if (slice_ieqs(type, "utf-8"))
        (void)mail_uxtext_put(b, rest, is_utf8);
    else
        (void)mail_xtext_put(b, rest);
}

MAY_WAIT static void put_rcpt(struct transfer *t, const struct client_rcpt *r)
{
    struct buf *b = &t->out;

    (void)buf_puts(b, "RCPT TO:<");
    put_address(t, r->addr);
    (void)buf_byte(b, '>');
    if ((t->conn->can & CAN_DSN) != 0) {
        put_orcpt(b, r, (t->conn->can & CAN_SMTPUTF8) != 0);
        put_notify(b, r->notify);
    }
    (void)buf_puts(b, "\r\n");
}

/* Trouble of ours, told apart from a stall by its errno. */
static int local_error(struct err *err)
{
    errno = EMSGSIZE;
    return err_sys(err, "make the commands");
}

MAY_WAIT static int send_commands(struct transfer *t, struct err *err)
{
    struct stream *st = t->conn->st;

    if (t->out.overflow)
        return local_error(err);
    stream_deadline(st, loop_after(t->job->service->mail_ms));
    if (stream_write(st, buf_view(&t->out), err) < 0 ||
        stream_flush(st, err) < 0)
        return -1;
    buf_clear(&t->out);
    return 0;
}

/* --------------------------------------------------------------- answers */

MAY_WAIT static int reply_to_reset(struct transfer *t)
{
    struct client_reply r;
    struct err err;

    if (client_read_reply(t->conn, loop_after(t->job->service->rset_ms), &r,
                          &err) < 0)
        return broken(t, &err, "sending RSET");
    t->conn->is_dirty = false;
    return 0;
}

/* Answers to XFORWARD: a refusal changes nothing. */
MAY_WAIT static int replies_to_xforward(struct transfer *t)
{
    struct client_reply r;
    struct err err;

    for (; t->n_xforward > 0; t->n_xforward--) {
        if (client_read_reply(t->conn, loop_after(t->job->service->xforward_ms),
                              &r, &err) < 0)
            return broken(t, &err, "sending XFORWARD name/address");
        if (r.code / 100 != 2)
            event_text(EV_WARNING, t->job->service->log_name, t->job->queue_id,
                       "host %s said: %.*s (in reply to XFORWARD "
                       "name/address command)",
                       t->conn->name, SLF(r.text));
    }
    return 0;
}

MAY_WAIT static int reply_to_mail(struct transfer *t)
{
    struct client_reply r;
    struct err err;

    if (client_read_reply(t->conn, loop_after(t->job->service->mail_ms), &r,
                          &err) < 0)
        return broken(t, &err, "sending MAIL FROM");
    t->mail_refused = r.code / 100 != 2;
    if (t->mail_refused)
        message_refused(t, &r, "MAIL FROM command");
    else
        t->conn->is_dirty = true;
    return 0;
}

MAY_WAIT static int reply_to_rcpt(struct transfer *t, struct client_rcpt *rcpt)
{
    struct client_reply r;
    struct err err;

    if (client_read_reply(t->conn, loop_after(t->job->service->rcpt_ms), &r,
                          &err) < 0)
        return broken(t, &err, "sending RCPT TO");
    if (t->mail_refused)
        return 0;
    if (r.code / 100 == 2) {
        t->n_accepted++;
        if ((t->job->flags & DELIVER_PROBE) != 0 &&
            !t->job->service->probe_data)
            client_sent(t->job, rcpt, t->conn, &r);
        return 0;
    }
    rcpt->is_refused = true;
    said(t, &r, "RCPT TO command");
    client_rcpt_fail(t->job, rcpt, t->conn);
    if (r.code == 421)
        client_throttle(t->job);
    return 0;
}

/* After the dot: one answer, or with LMTP one for each recipient. */
MAY_WAIT static int reply_to_dot(struct transfer *t)
{
    msec wait = t->job->service->data_done_ms; /* for each answer */
    bool is_lmtp = t->job->service->is_lmtp;
    struct client_reply r;
    struct err err;

    for (size_t i = 0; i < t->n; i++) {
        struct client_rcpt *rcpt = t->rcpts[i];

        if (rcpt->is_refused || rcpt->is_done)
            continue;
        if (client_read_reply(t->conn, loop_after(wait), &r, &err) < 0)
            return broken(t, &err, sending_data);
        t->conn->is_dirty = false;
        if (r.code / 100 == 2 && is_lmtp) {
            client_sent(t->job, rcpt, t->conn, &r);
        } else if (is_lmtp) {
            rcpt->is_refused = true;
            said(t, &r, "end of DATA command");
            client_rcpt_fail(t->job, rcpt, t->conn);
        } else if (r.code / 100 == 2) {
            for (; i < t->n; i++)
                if (!t->rcpts[i]->is_refused && !t->rcpts[i]->is_done)
                    client_sent(t->job, t->rcpts[i], t->conn, &r);
            return 0;
        } else {
            message_refused(t, &r, "end of DATA command");
            return 0;
        }
    }
    return 0;
}

/* 354 came though nobody is to get the message: an empty one ends it. */
MAY_WAIT static int send_nothing(struct transfer *t)
{
    struct client_reply r;
    struct err err;

    if (client_ask(t->conn, loop_after(t->job->service->data_done_ms), &r, &err,
                   ".") < 0)
        t->conn->is_dead = true;
    t->conn->is_dirty = true;
    return 0;
}

MAY_WAIT static int reply_to_data(struct transfer *t)
{
    const struct client_service *s = t->job->service;
    struct client_reply r;
    struct err err;

    if (client_read_reply(t->conn, loop_after(s->data_init_ms), &r, &err) < 0)
        return broken(t, &err, "sending DATA command");
    if (r.code / 100 != 3) {
        if (t->n_accepted > 0)
            message_refused(t, &r, "DATA command");
        t->conn->is_dirty = true;
        return 0;
    }
    if (t->n_accepted == 0)
        return send_nothing(t);
    if ((t->job->flags & DELIVER_PROBE) != 0) {
        /* A probe that goes as far as DATA: nothing but leaving is left. */
        for (size_t i = 0; i < t->n; i++)
            if (!t->rcpts[i]->is_refused)
                client_sent(t->job, t->rcpts[i], t->conn, &r);
        t->conn->is_dead = true;
        return 0;
    }
    if (client_send_body(t->job, t->conn, t->to_7bit, &err) < 0)
        return broken(t, &err, "sending message body");
    stream_deadline(t->conn->st, loop_after(s->data_xfer_ms));
    if (stream_flush(t->conn->st, &err) < 0)
        return broken(t, &err, "sending message body");
    return reply_to_dot(t);
}

/* --------------------------------------------------------------- the dialogue
 */

static bool asks_data(const struct client_job *j)
{
    return (j->flags & DELIVER_PROBE) == 0 || j->service->probe_data;
}

/* BDAT (RFC 3030) saves a round trip: the message goes with the commands. */
static bool may_chunk(const struct transfer *t)
{
    const struct client_job *j = t->job;

    return j->service->use_chunking && (t->conn->can & CAN_CHUNKING) != 0 &&
           (j->flags & DELIVER_PROBE) == 0 && j->body_bytes <= CHUNK_MAX;
}

MAY_WAIT static int put_bdat(struct transfer *t)
{
    struct buf body;
    struct err err;

    if (client_make_body(t->job, t->to_7bit, &body, &err) < 0) {
        log_warning("%s", err.log);
        return -1;
    }
    (void)buf_printf(&t->out, "BDAT %zu LAST\r\n", body.n);
    (void)buf_slice(&t->out, buf_view(&body));
    buf_done(&body);
    return 0;
}

/* The answer to BDAT when nobody was to get it. */
MAY_WAIT static int reply_to_nothing(struct transfer *t)
{
    struct client_reply r;
    struct err err;

    if (client_read_reply(t->conn, loop_after(t->job->service->data_done_ms),
                          &r, &err) < 0)
        t->conn->is_dead = true;
    t->conn->is_dirty = true;
    return 0;
}

/* What follows the last recipient. */
MAY_WAIT static int put_end(struct transfer *t, bool with_data, bool with_bdat)
{
    struct err local = { .class = ERR_TEMP, .sys = EIO };

    if (with_bdat && put_bdat(t) < 0)
        return broken(t, &local, "sending message body");
    if (with_data && !with_bdat)
        (void)buf_puts(&t->out, "DATA\r\n");
    return 0;
}

/* The answers to all before the first recipient. */
MAY_WAIT static int replies_to_begin(struct transfer *t, bool with_reset)
{
    if (with_reset && reply_to_reset(t) < 0)
        return -1;
    return replies_to_xforward(t) < 0 ? -1 : reply_to_mail(t);
}

/* All commands in groups; then DATA's answer. */
MAY_WAIT static int run_pipelined(struct transfer *t)
{
    bool with_data = asks_data(t->job);
    bool with_bdat = with_data && may_chunk(t);
    bool with_reset = t->conn->is_dirty;
    struct err err;
    size_t done = 0;
    size_t to = 0;

    if (with_reset)
        (void)buf_puts(&t->out, "RSET\r\n");
    put_xforward(t);
    put_mail(t);
    do {
        to = min_size(t->n, done + GROUP_RCPTS);
        for (size_t i = done; i < to; i++)
            put_rcpt(t, t->rcpts[i]);
        if (to == t->n && put_end(t, with_data, with_bdat) < 0)
            return -1;
        if (send_commands(t, &err) < 0)
            return broken(t, &err, "sending MAIL FROM");
        if (done == 0 && replies_to_begin(t, with_reset) < 0)
            return -1;
        for (size_t i = done; i < to; i++)
            if (reply_to_rcpt(t, t->rcpts[i]) < 0)
                return -1;
        done = to;
    } while (done < t->n);
    if (with_bdat)
        return t->n_accepted > 0 ? reply_to_dot(t) : reply_to_nothing(t);
    return with_data ? reply_to_data(t) : 0;
}

/* One command at a time. */
MAY_WAIT static int run_stepwise(struct transfer *t)
{
    struct err err;

    if (t->conn->is_dirty) {
        (void)buf_puts(&t->out, "RSET\r\n");
        if (send_commands(t, &err) < 0)
            return broken(t, &err, "sending RSET");
        if (reply_to_reset(t) < 0)
            return -1;
    }
    put_xforward(t);
    if (t->n_xforward > 0 && send_commands(t, &err) < 0)
        return broken(t, &err, "sending XFORWARD name/address");
    if (replies_to_xforward(t) < 0)
        return -1;
    put_mail(t);
    if (send_commands(t, &err) < 0)
        return broken(t, &err, "sending MAIL FROM");
    if (reply_to_mail(t) < 0 || t->mail_refused)
        return t->mail_refused ? 0 : -1;
    for (size_t i = 0; i < t->n; i++) {
        put_rcpt(t, t->rcpts[i]);
        if (send_commands(t, &err) < 0)
            return broken(t, &err, "sending RCPT TO");
        if (reply_to_rcpt(t, t->rcpts[i]) < 0)
            return -1;
    }
    if (!asks_data(t->job) || t->n_accepted == 0)
        return 0;
    (void)buf_puts(&t->out, "DATA\r\n");
    if (send_commands(t, &err) < 0)
        return broken(t, &err, "sending DATA command");
    return reply_to_data(t);
}

/* What the message demands and the server does not have; true: not for it. */
MAY_WAIT static bool is_unfit(struct transfer *t)
{
    struct client_job *j = t->job;
    const struct client_conn *conn = t->conn;
    uint64_t size = j->env.headers.n + j->body_bytes;
    char text[200];

    if (conn->size_limit > 0 && size > conn->size_limit) {
        (void)snprintf(text, sizeof text,
                       "message size %" PRIu64 " exceeds size limit %" PRIu64
                       " of server",
                       size, conn->size_limit);
        (void)not_for_it(t, "5.3.4", text);
        return true;
    }
    if (t->needs_utf8 && (conn->can & CAN_SMTPUTF8) == 0) {
        (void)not_for_it(t, "5.6.7",
                         "SMTPUTF8 is required, but was not offered by host");
        return true;
    }
    if ((j->env.flags & ENV_REQUIRETLS) != 0 && !j->service->is_lmtp &&
        (conn->can & CAN_REQUIRETLS) == 0) {
        (void)not_for_it(t, "5.7.30",
                         "REQUIRETLS is required, but was not offered by host");
        return true;
    }
    return false;
}

MAY_WAIT static bool needs_utf8(const struct client_job *j)
{
    if ((j->env.flags & ENV_SMTPUTF8) == 0)
        return false;
    if (!mail_is_ascii(j->sender) || !client_header_is_ascii(j))
        return true;
    for (size_t i = 0; i < j->n_rcpts; i++)
        if (!mail_is_ascii(j->rcpts[i].addr))
            return true;
    return false;
}

int client_transfer(struct client_job *j, struct client_conn *conn)
{
    struct transfer t = { .job = j, .conn = conn };
    int rc;

    t.needs_utf8 = needs_utf8(j);
    if (is_unfit(&t))
        return 0;
    t.rcpts = arena_alloc(j->arena, j->n_left * sizeof(struct client_rcpt *));
    if (t.rcpts == NULL)
        return not_for_it(&t, "4.3.0", "out of memory talking to");
    for (size_t i = 0; i < j->n_rcpts; i++)
        if (!j->rcpts[i].is_done) {
            j->rcpts[i].is_refused = false;
            t.rcpts[t.n++] = &j->rcpts[i];
        }
    t.to_7bit = (conn->can & CAN_8BITMIME) == 0 && !j->service->no_mime_out &&
                (j->env.flags & (ENV_8BITMIME | ENV_8BIT_BODY)) != 0;
    buf_init(&t.out, COMMAND_MAX);
    rc = (conn->can & CAN_PIPELINING) != 0 ? run_pipelined(&t)
                                           : run_stepwise(&t);
    buf_done(&t.out);
    return rc;
}
