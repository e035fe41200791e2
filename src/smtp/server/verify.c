#include "smtp/server/server_priv.h"

/* What smtpd asks the queue, and tells it beside the usual envelope:
 * reject_unverified_recipient and _sender, XVERP, sendmail -v and -bv. */

#define ASK_MS 10000

MAY_WAIT static int ask(void *arg, slice addr, struct arena *a,
                        struct access_verified *out, struct err *err)
{
    struct spool_writer *w = arg;
    struct msg answer;
    struct buf b;
    slice text = SLICE_NONE;
    uint64_t status;
    int r;

    buf_init(&b, 8192);
    (void)attr_put(&b, AT_ADDR, addr);
    r = spool_writer_ask(w, VERIFY_ASK, buf_view(&b), clock_after(ASK_MS),
                         &answer, err);
    buf_done(&b);
    if (r < 0)
        return -1;
    status = attr_u64_or(answer.body, AT_VERIFY, VERIFY_DEFER);
    (void)attr_find(answer.body, AT_TEXT, &text);
    *out = (struct access_verified){
        .status = status <= VERIFY_OVERLOAD ? (enum verify_status)status
                                            : VERIFY_DEFER,
        .text = slice_dup(a, text),
    };
    msg_free(&answer);
    return 0;
}

void smtp_verify_policy(const struct smtp *s, struct smtp_tx *tx)
{
    tx->policy.verify = ask;
    tx->policy.verify_arg = s->service->server->parts.spool;
}

/* ------------------------------------------------------------ VERP, tracing */

bool smtp_verp_allowed(const struct smtp *s)
{
    struct err err;
    bool ok = false;

    if (s->service->is_pickup)
        return true;
    if (table_match_client(s->service->verp_clients, SL("unknown"),
                           slice_str(s->peer.text), &ok, &err) < 0) {
        log_warning("smtpd_authorized_verp_clients: %s", err.log);
        return false;
    }
    return ok;
}

/* default_verp_delimiters, verp_delimiter_filter */
bool smtp_verp_take(struct smtp *s, slice value)
{
    const struct smtp_service *v = s->service;
    slice good = conf_slice(v->conf, v->line, "verp_delimiter_filter");

    if (value.n == 0)
        value = conf_slice(v->conf, v->line, "default_verp_delimiters");
    if (value.n != 2)
        return false;
    for (size_t i = 0; i < value.n; i++)
        if (slice_chr(good, value.p[i]) < 0)
            return false;
    s->tx->env.verp = slice_dup(s->tx->arena, value);
    return true;
}

bool smtp_trace_take(struct smtp *s, slice value)
{
    if (slice_ieqs(value, "RECORD"))
        s->tx->env.flags |= ENV_TRACE;
    else if (slice_ieqs(value, "VERIFY"))
        s->tx->env.flags |= ENV_VERIFY;
    else
        return false;
    return true;
}
