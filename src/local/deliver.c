/* Recipients that have a place, to the workers of their accounts. */
#include "local/local_priv.h"

static const struct lmtp_place *place(void *arg, size_t i)
{
    const struct local_job *j = arg;
    const struct local_rcpt *r = &j->rcpts[i];

    return r->is_done || !r->has_place ? NULL : &r->place;
}

static void answered(void *arg, size_t i, const struct lmtp_rcpt *a)
{
    struct local_job *j = arg;
    struct local_rcpt *r = &j->rcpts[i];

    if (a->code == 250) {
        const char *what =
            r->place.kind == LMTP_MAILBOX ? "delivered to maildir"
            : r->place.kind == LMTP_FILE  ? "delivered to file"
                                          : "delivered to command";
        local_sent(r, what);
        if (r->place.kind != LMTP_MAILBOX)
            r->diag = slice_str(
                arena_printf(j->arena, "%s: %.*s", what, SLF(r->place.arg)));
        return;
    }
    r->is_done = true;
    r->outcome = a->code >= 500 ? OUT_BOUNCED : OUT_DEFERRED;
    (void)snprintf(r->status, sizeof r->status, "%s",
                   a->status[0] != '\0' ? a->status
                   : a->code >= 500     ? "5.2.0"
                                        : "4.3.0");
    r->diag = a->text;
}

static void failed(void *arg, size_t i, const struct err *err)
{
    struct local_job *j = arg;

    local_failed(j, &j->rcpts[i], err);
}

static void fill(void *arg, size_t i, struct lmtp_rcpt *out)
{
    const struct local_job *j = arg;
    const struct local_rcpt *r = &j->rcpts[i];
    const struct lmtp_place *p = &r->place;

    out->addr = r->shown;
    out->user = p->user;
    out->home = p->home;
    out->mail = p->mail;
    out->arg = p->arg;
    out->kind = p->kind;
    if (j->shows_orig)
        out->orig = r->orig;
    memcpy(out->id, r->id, sizeof out->id);
}

void local_deliver(struct local_job *j)
{
    struct lmtp_message m = {
        .sender = j->sender,
        .arrival_ms = j->arrival_ms,
        .head = j->env.headers,
        .body_fd = j->body_fd,
        .body_at = j->body_at,
        .body_bytes = j->body_bytes,
    };
    struct lmtp_spread spread = {
        .workers = j->local->workers,
        .syncs = j->local->syncs,
        .message = &m,
        .n = j->n_rcpts,
        .arena = j->arena,
        .arg = j,
        .place = place,
        .fill = fill,
        .answered = answered,
        .failed = failed,
    };

    j->shows_orig =
        conf_bool(j->local->p->conf, NULL, "enable_original_recipient");
    lmtp_spread(&spread);
}
