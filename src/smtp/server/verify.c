#include "smtp/server/server_priv.h"

/* What the queue knows of an address: reject_unverified_recipient, _sender. */

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
