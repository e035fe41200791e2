#include "smtp/server/server_priv.h"

/* Bytes taken from the input buffer in one step. */
#define FEED_MAX (64u << 10)

/*
 * A message on its way:  client -> dot (unstuffed, LF) -> head (the header is
 * kept until it is complete) -> filter (header and body checks) -> draft.
 */
struct smtp_body {
    struct mail_dot dot;
    struct mail_head head;
    struct buf chunk;              /* output of dot */
    struct buf out;                /* output of the filter */
    struct filter_message *filter; /* NULL: no checks */
    struct filter_context context;
    bool is_header_done;
};

void smtp_body_free(struct smtp_body **bp)
{
    struct smtp_body *b = *bp;

    if (b == NULL)
        return;
    filter_end(&b->filter);
    mail_head_done(&b->head);
    buf_done(&b->chunk);
    buf_done(&b->out);
    free(b);
    *bp = NULL;
}

bool smtp_body_done(const struct smtp *s)
{
    return s->tx->body->dot.done;
}

MAY_WAIT int smtp_body_begin(struct smtp *s, bool stuffed, struct err *err)
{
    struct smtp_service *service = s->service;
    struct smtp_tx *tx = s->tx;
    struct mail_dot_options opt = {
        .stuffed = stuffed,
        .bare_lf = service->bare_lf,
        .from_line = service->is_pickup ? MAIL_FROM_DROP : MAIL_FROM_RENAME,
        .stray_cr_to_space = service->stray_cr_to_space,
        .strip = service->has_strip ? service->strip : NULL,
        .reject = service->has_reject ? service->reject : NULL,
    };
    struct smtp_body *b;

    if (spool_draft_open(service->server->parts.spool, tx->size_said,
                         &tx->draft, err) < 0)
        return -1;
    b = xcalloc(1, sizeof *b);
    mail_dot_init(&b->dot, &opt);
    mail_head_init(&b->head, service->header_max);
    buf_init(&b->chunk, FEED_MAX + 2 * MAIL_DOT_SLACK);
    buf_init(&b->out, service->header_max + FEED_MAX + (1u << 20));
    b->context = (struct filter_context){
        .queue_id = "NOQUEUE",
        .client = slice_str(s->client),
        .sender = tx->sender,
        .recipient = tx->first_rcpt,
        .protocol = tx->policy.protocol,
        .helo = slice_str(s->helo),
    };
    if (!filter_is_idle(service->filter))
        b->filter = filter_begin(service->filter, &b->context, tx->arena);
    tx->body = b;
    return 0;
}

static void fail(struct smtp *s, const struct err *err)
{
    struct smtp_tx *tx = s->tx;

    if (!tx->is_failed) {
        tx->is_failed = true;
        tx->why = *err;
        spool_draft_abort(&tx->draft); /* free what it holds at once */
    }
}

/* Stored bytes of the body (or the finished header) into the draft. */
MAY_WAIT static void write_out(struct smtp *s, slice bytes)
{
    struct smtp_tx *tx = s->tx;
    struct err err;

    if (tx->is_failed || bytes.n == 0)
        return;
    if (spool_draft_write(tx->draft, bytes, &err) < 0)
        fail(s, &err);
}

/* Through the filter, if there is one. */
MAY_WAIT static void check_and_write(struct smtp *s, slice bytes)
{
    struct smtp_body *b = s->tx->body;
    struct err err;

    if (b->filter == NULL) {
        write_out(s, bytes);
        return;
    }
    buf_clear(&b->out);
    if (filter_feed(b->filter, bytes, &b->out, &err) < 0) {
        fail(s, &err);
        return;
    }
    write_out(s, buf_view(&b->out));
}

/* The header is complete: check, then rewrite and complete it. */
MAY_WAIT static void header_done(struct smtp *s)
{
    struct smtp_body *b = s->tx->body;
    slice header = buf_view(&b->head.bytes);
    struct err err;
    struct buf final;

    b->is_header_done = true;
    if (b->filter != NULL) {
        buf_clear(&b->out);
        if (filter_feed(b->filter, header, &b->out, &err) < 0) {
            fail(s, &err);
            return;
        }
        header = buf_view(&b->out);
    }
    buf_init(&final, header.n + (1u << 20));
    if (smtp_headers_complete(s, header, &final, &err) < 0)
        fail(s, &err);
    else
        write_out(s, buf_view(&final));
    buf_done(&final);
    buf_release(&b->head.bytes);
}

/* A run of stored bytes. */
MAY_WAIT static void take(struct smtp *s, slice bytes)
{
    struct smtp_body *b = s->tx->body;
    uint64_t max = s->service->message_max;
    struct err err;

    if (s->tx->is_failed)
        return;
    if (max > 0 && b->dot.n_out > max) {
        (void)err_set(&err, ERR_PERM, "5.3.4", "message file too big");
        fail(s, &err);
        return;
    }
    if (!b->is_header_done) {
        mail_head_feed(&b->head, &bytes);
        if (!b->head.done)
            return;
        header_done(s);
    }
    check_and_write(s, bytes);
}

void smtp_body_feed(struct smtp *s, slice *in)
{
    struct smtp_body *b = s->tx->body;

    while (in->n > 0 && !b->dot.done) {
        slice part = slice_sub(*in, 0, FEED_MAX);
        size_t had = part.n;

        buf_clear(&b->chunk);
        CHECK(buf_reserve(&b->chunk, had + MAIL_DOT_SLACK) != NULL);
        mail_dot_feed(&b->dot, &part, &b->chunk);
        *in = slice_from(*in, had - part.n);
        take(s, buf_view(&b->chunk));
    }
}

/* ---- the end */

/* What the bytes themselves speak against. */
static int judge_bytes(struct smtp *s, struct err *err)
{
    const struct smtp_body *b = s->tx->body;

    if (b->dot.is_bad) {
        err_set(err, ERR_PERM, "5.5.2", "bare <LF> received");
        return -1;
    }
    if (b->dot.saw_rejected)
        return err_set(err, ERR_PERM, "5.6.0",
                       "message contains a forbidden character");
    return 0;
}

/* What header and body checks said.  *refused: the client has its answer. */
MAY_WAIT static int judge_filter(struct smtp *s, bool *discard, bool *refused,
                                 struct err *err)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_body *b = tx->body;
    const struct filter_result *r;

    if (b->filter == NULL)
        return 0;
    buf_clear(&b->out);
    if (filter_finish(b->filter, &b->out, err) < 0)
        return -1;
    write_out(s, buf_view(&b->out));
    r = filter_result(b->filter);
    if (r->reject) {
        bool temp = r->status.n > 0 && r->status.p[0] == '4';
        char status[16] = "5.7.1";

        tx->is_content_refusal = true;
        (void)slice_copy_to(r->status, status, sizeof status);
        *refused = true;
        if (smtp_reply(s, temp ? 451 : 550, status, "%.*s", SLF(r->text)) < 0)
            return err_peer(err, "lost connection");
        return 0;
    }
    *discard |= r->discard;
    if (r->hold)
        tx->env.flags |= ENV_HOLD;
    if (r->redirect.n > 0)
        tx->env.redirect = r->redirect;
    if (r->filter.n > 0)
        tx->env.filter = r->filter;
    for (size_t i = 0; i < r->n_bcc; i++)
        if (address_add_extra(s->service->address, &tx->rcpts, r->bcc[i], err) <
            0)
            return -1;
    return 0;
}

/* What the restriction lists said besides yes and no. */
MAY_WAIT static int apply_effects(struct smtp *s, bool *discard,
                                  struct err *err)
{
    struct smtp_tx *tx = s->tx;
    const struct access_effects *e = &tx->policy.effects;

    *discard |= e->discard;
    if (e->hold)
        tx->env.flags |= ENV_HOLD;
    if (e->redirect.n > 0)
        tx->env.redirect = e->redirect;
    if (e->filter.n > 0)
        tx->env.filter = e->filter;
    for (size_t i = 0; i < e->n_bcc; i++)
        if (address_add_extra(s->service->address, &tx->rcpts, e->bcc[i], err) <
            0)
            return -1;
    return 0;
}

/* The final envelope: sender, recipients, where it came from. */
MAY_WAIT static int fill_envelope(struct smtp *s, struct err *err)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_service *service = s->service;
    struct envelope *e = &tx->env;

    if (address_sender(service->address, tx->sender, tx->arena, &e->sender,
                       err) < 0 ||
        address_add_bcc(service->address, &tx->rcpts, e->sender, err) < 0)
        return -1;
    if (e->redirect.n > 0) {
        address_list_init(&tx->rcpts, tx->arena);
        if (address_add_extra(service->address, &tx->rcpts, e->redirect, err) <
            0)
            return -1;
    }
    if (tx->rcpts.n > ENVELOPE_MAX_RCPTS)
        return err_set(err, ERR_TEMP, "4.5.3", "too many recipients");
    e->rcpts =
        arena_alloc(tx->arena, sizeof *e->rcpts * max_size(tx->rcpts.n, 1));
    if (e->rcpts == NULL)
        return err_set(err, ERR_TEMP, "4.5.3", "too many recipients");
    e->n_rcpts = tx->rcpts.n;
    for (size_t i = 0; i < tx->rcpts.n; i++) {
        const struct address_rcpt *r = &tx->rcpts.v[i];

        e->rcpts[i] =
            (struct envelope_rcpt){ r->addr, r->orig, r->orcpt, r->notify };
    }
    e->client_name = service->is_pickup ? SL("localhost") : tx->policy.name;
    e->client_addr = tx->policy.addr;
    e->client_port = s->peer.port;
    e->helo = tx->policy.helo;
    e->protocol = tx->policy.protocol;
    e->login = slice_str(s->sasl_user != NULL ? s->sasl_user : s->login);
    e->service = service->is_pickup ? SL("pickup") : SL("smtpd");
    if (tx->body->dot.saw_8bit)
        e->flags |= ENV_8BIT_BODY;
    return 0;
}

/* Who sent it: the client, and who has signed in there. */
static void log_client(struct smtp *s)
{
    const struct smtp_tx *tx = s->tx;
    struct ev_field f[4] = { ev_str("client", slice_str(s->client)) };
    size_t n = 1;

    if (s->sasl_user != NULL) {
        f[n++] = ev_str("sasl_method", slice_str(s->sasl_method));
        f[n++] = ev_str("sasl_username", slice_str(s->sasl_user));
    }
    if (tx->sasl_sender.n > 0)
        f[n++] = ev_str("sasl_sender", tx->sasl_sender);
    event_log(EV_INFO, s->service->tag, "accepted", tx->env.id, f, n);
}

/* Said before the message is durable, so that these lines stand before those of
 * the queue; what becomes of it, the lines after them say. */
static void log_begun(struct smtp *s)
{
    struct smtp_tx *tx = s->tx;
    const struct envelope *e = &tx->env;

    if (s->service->is_pickup)
        event_text(EV_INFO, "pickup", e->id, "uid=%u from=<%.*s>",
                   (unsigned)s->peer.uid, SLF(tx->sender));
    else
        log_client(s);
    event_log(EV_INFO, "cleanup", "message-id", e->id,
              EV_PAIRS(ev_str("message-id",
                              e->message_id.n > 0 ? e->message_id : SL("<>"))));
}

/* Called by commit once the queue id is known, before the record is made. */
static void make_headers(struct envelope *e, void *arg)
{
    struct smtp *s = arg;
    struct smtp_tx *tx = s->tx;
    const struct access_effects *effects = &tx->policy.effects;
    struct buf b;

    buf_init(&b, 256u << 10);
    (void)smtp_received(s, &b);
    for (size_t i = 0; i < effects->n_prepend; i++) {
        (void)buf_slice(&b, effects->prepend[i]);
        (void)buf_byte(&b, '\n');
    }
    e->headers = slice_dup(tx->arena, buf_view(&b));
    buf_done(&b);
    log_begun(s);
}

MAY_WAIT static int commit(struct smtp *s, struct err *err)
{
    struct smtp_tx *tx = s->tx;
    struct envelope *e = &tx->env;

    e->on_id = make_headers;
    e->on_id_arg = s;
    spool_coming_over(&tx->coming);
    if (spool_draft_commit(&tx->draft, e, err) < 0)
        return -1;
    s->service->server->n_messages++;
    s->n_errors = 0;
    s->n_junk = 0;
    return 0;
}

/* All that can still refuse the message.  0: accepted or *discard. */
MAY_WAIT static int judge(struct smtp *s, bool *discard, bool *refused,
                          struct err *err)
{
    struct smtp_tx *tx = s->tx;
    bool ok;

    if (tx->is_failed) {
        *err = tx->why;
        return -1;
    }
    if (judge_bytes(s, err) < 0 || judge_filter(s, discard, refused, err) < 0)
        return -1;
    if (*refused)
        return 0;
    if (tx->is_failed) { /* the filter's last output did not fit */
        *err = tx->why;
        return -1;
    }
    tx->policy.size = spool_draft_bytes(tx->draft);
    if (smtp_check(s, ACCESS_END_OF_DATA, &ok) < 0)
        return err_peer(err, "lost connection");
    if (!ok) {
        *refused = true;
        return 0;
    }
    return apply_effects(s, discard, err) < 0 || fill_envelope(s, err) < 0 ? -1
                                                                           : 0;
}

MAY_WAIT static void finish_bytes(struct smtp *s)
{
    struct smtp_body *b = s->tx->body;

    if (!b->dot.done) { /* BDAT: there is no dot */
        buf_clear(&b->chunk);
        CHECK(buf_reserve(&b->chunk, MAIL_DOT_SLACK) != NULL);
        mail_dot_finish(&b->dot, &b->chunk);
        take(s, buf_view(&b->chunk));
    }
    if (!b->is_header_done && !s->tx->is_failed)
        header_done(s);
}

/* The reply to a message that is refused, and the transaction's end.  What
 * header and body checks refused is in the log already. */
MAY_WAIT static int refuse_message(struct smtp *s, const struct err *err)
{
    char line[300];
    char status[8];
    bool is_content = s->tx->is_content_refusal;

    (void)snprintf(status, sizeof status, "%s", err->status);
    if (err->class == ERR_PERM && !is_content) {
        (void)snprintf(line, sizeof line, "%d %s Error: %s",
                       smtp_fail_code(err), status, err->peer);
        smtp_log_reject(s, "END-OF-MESSAGE", line);
    }
    smtp_tx_reset(s);
    if (is_content)
        return smtp_reply(s, err->class == ERR_TEMP ? 450 : 550, status, "%s",
                          err->peer);
    return smtp_fail(s, err);
}

int smtp_body_end(struct smtp *s)
{
    struct smtp_tx *tx = s->tx;
    bool discard = false;
    bool refused = false;
    struct err err;
    int r;

    finish_bytes(s);
    if (judge(s, &discard, &refused, &err) < 0)
        return refuse_message(s, &err);
    if (refused) {
        smtp_tx_reset(s);
        return 0;
    }
    if (discard || tx->rcpts.n == 0) {
        s->n_errors = 0;
        s->n_junk = 0;
        smtp_tx_reset(s);
        return smtp_reply(s, 250, "2.0.0", "Ok: queued as DISCARDED");
    }
    if (commit(s, &err) < 0) {
        smtp_tx_reset(s);
        return smtp_fail(s, &err);
    }
    /* Durable: the mail is ours now, even if this reply gets lost. */
    r = smtp_reply(s, 250, "2.0.0", "Ok: queued as %s", tx->env.id);
    smtp_tx_reset(s);
    return r;
}
