#include "smtp/server/server_priv.h"

/* What a message is expected to have at least: one read takes it. */
#define USUAL_BYTES ((size_t)8192)

/* DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030). */

/* Read the message from the client until the dot; what went wrong with it is
 * remembered in the transaction.  -1: the client is gone. */
MAY_WAIT static int read_data(struct smtp *s)
{
    while (!smtp_body_done(s)) {
        slice in = stream_peek(s->stream);
        size_t had = in.n;

        if (had > 0) {
            smtp_body_feed(s, &in);
            stream_consume(s->stream, had - in.n);
            continue;
        }
        if (smtp_fill(s) < 0)
            return -1;
    }
    return 0;
}

/* Is there a transaction that may take a message?  *ok false: refused. */
MAY_WAIT static int may_start(struct smtp *s, bool *ok)
{
    struct smtp_tx *tx = s->tx;

    *ok = false;
    if (tx == NULL || !tx->has_mail)
        return smtp_reply(s, 503, "5.5.1", "Error: need RCPT command");
    if (tx->n_rcpts == 0)
        return smtp_reply(s, 554, "5.5.1", "Error: no valid recipients");
    return smtp_check(s, ACCESS_DATA, ok);
}

int smtp_cmd_data(struct smtp *s, slice args)
{
    struct err err;
    bool ok;

    if (args.n > 0)
        return smtp_reply(s, 501, "5.5.4", "Syntax: DATA");
    if (may_start(s, &ok) < 0)
        return -1;
    if (!ok)
        return 0;
    if (smtp_body_begin(s, true, &err) < 0) {
        smtp_tx_reset(s);
        return smtp_fail(s, &err);
    }
    if (smtp_reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>") < 0 ||
        stream_flush(s->stream, &err) < 0)
        return -1;
    spool_coming(s->service->server->parts.spool, &s->tx->coming);
    stream_expect(s->stream, USUAL_BYTES);
    /* From here on the client talks until the dot, whatever we think of the
     * mail. */
    if (read_data(s) < 0)
        return -1;
    return smtp_body_end(s);
}

/* The chunk's bytes into the message, or past it when there is none. */
MAY_WAIT static int read_chunk(struct smtp *s, uint64_t left)
{
    while (left > 0) {
        slice in = stream_peek(s->stream);

        if (in.n > 0) {
            slice part = slice_sub(in, 0, left < in.n ? (size_t)left : in.n);
            size_t n = part.n;

            if (s->tx != NULL && s->tx->body != NULL)
                smtp_body_feed(s, &part);
            stream_consume(s->stream, n);
            left -= n;
            continue;
        }
        if (smtp_fill(s) < 0)
            return -1;
    }
    return 0;
}

static bool parse_bdat(slice args, uint64_t *size, bool *last)
{
    slice word;

    if (!slice_token(&args, " \t", &word) || !slice_u64(word, size))
        return false;
    *last = false;
    if (!slice_token(&args, " \t", &word))
        return true;
    *last = slice_ieqs(word, "LAST");
    return *last && !slice_token(&args, " \t", &word);
}

/* A chunk that cannot be taken is still read, as its bytes are under way
 * already (RFC 3030 2); an absurd size ends the session instead. */
MAY_WAIT static int refuse_chunk(struct smtp *s, uint64_t size)
{
    uint64_t max = s->service->message_max;

    if (max == 0 || max > UINT64_MAX / 2)
        max = UINT64_MAX / 2;
    if (size > max + (1u << 20)) {
        s->must_close = true;
        return 0;
    }
    return read_chunk(s, size);
}

int smtp_cmd_bdat(struct smtp *s, slice args)
{
    struct smtp_tx *tx = s->tx;
    struct err err;
    uint64_t size;
    bool last;
    bool ok;

    if (s->service->ehlo_off & EHLO_CHUNKING) {
        s->must_close = true; /* its chunk would be taken for commands */
        return smtp_reply(s, 521, "5.5.1", "Error: command not implemented");
    }
    if (!parse_bdat(args, &size, &last)) {
        s->must_close = true; /* we cannot know where the next command is */
        return smtp_reply(s, 521, "5.5.4", "Syntax: BDAT count [LAST]");
    }
    if (tx == NULL || tx->body == NULL) {
        if (may_start(s, &ok) < 0)
            return -1;
        tx = s->tx;
        if (!ok) {
            if (refuse_chunk(s, size) < 0)
                return -1;
            smtp_tx_reset(s);
            return 0;
        }
        if (smtp_body_begin(s, false, &err) < 0) {
            smtp_tx_reset(s);
            return refuse_chunk(s, size) < 0 ? -1 : smtp_fail(s, &err);
        }
        tx->is_bdat = true;
    }
    if (read_chunk(s, size) < 0)
        return -1;
    if (last)
        return smtp_body_end(s);
    if (tx->is_failed) {
        struct err why = tx->why;

        /* RFC 3030 4.2: the reply to a chunk may refuse the message. */
        smtp_tx_reset(s);
        return smtp_fail(s, &why);
    }
    return smtp_reply(s, 250, "2.0.0", "Ok: %" PRIu64 " bytes", size);
}
