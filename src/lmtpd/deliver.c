/* A message to the workers of its recipients, side by side. */
#include "base/digest.h"
#include "lmtpd/lmtpd_priv.h"

static void answer(struct lmtpd_rcpt *r, int code, const char *status,
                   slice text)
{
    r->is_done = true;
    r->lmtp.code = code;
    (void)snprintf(r->lmtp.status, sizeof r->lmtp.status, "%s", status);
    r->lmtp.text = text;
}

static void answer_err(struct lmtpd_session *s, struct lmtpd_rcpt *r,
                       const struct err *err)
{
    bool never = err->class == ERR_PERM;

    event_text(EV_WARNING, "lmtpd", NULL, "lmtp(%.*s)<%d><%s>: %s",
               SLF(r->place.user), (int)getpid(), s->id, err->log);
    answer(r, never ? 550 : 451,
           err->status[0] != '\0' ? err->status
           : never                ? "5.2.0"
                                  : "4.3.0",
           slice_dup(s->tx->arena, slice_str(err->peer)));
}

static const struct lmtp_place *place(void *arg, size_t i)
{
    const struct lmtpd_session *s = arg;
    const struct lmtpd_rcpt *r = &s->tx->rcpts[i];

    return r->is_done ? NULL : &r->place;
}

static void fill(void *arg, size_t i, struct lmtp_rcpt *out)
{
    const struct lmtpd_session *s = arg;

    *out = s->tx->rcpts[i].lmtp;
}

static void failed(void *arg, size_t i, const struct err *err)
{
    struct lmtpd_session *s = arg;

    answer_err(s, &s->tx->rcpts[i], err);
}

static void syncing(void *arg)
{
    lmtpd_tx_arrived(arg);
}

static void answered(void *arg, size_t i, const struct lmtp_rcpt *a)
{
    struct lmtpd_session *s = arg;
    struct lmtpd_rcpt *r = &s->tx->rcpts[i];

    if (a->code != 250) {
        answer(r, a->code >= 500 ? 550 : 451,
               a->status[0] != '\0' ? a->status
               : a->code >= 500     ? "5.2.0"
                                    : "4.3.0",
               a->text);
        event_text(EV_WARNING, "lmtpd", NULL, "lmtp(%.*s)<%d><%s>: %.*s",
                   SLF(r->place.user), (int)getpid(), s->id, SLF(a->text));
        return;
    }
    answer(r, 250, "2.0.0", SLICE_NONE);
    s->server->n_delivered++;
    event_text(EV_INFO, "lmtpd", NULL,
               "lmtp(%.*s)<%d><%s>: msgid=%.*s: saved mail to INBOX",
               SLF(r->place.user), (int)getpid(), s->id,
               SLF(s->tx->message_id));
}

static void describe(struct lmtpd_rcpt *r, struct arena *a)
{
    struct buf b;

    r->lmtp.user = r->place.user;
    r->lmtp.home = r->place.home;
    r->lmtp.mail = r->place.mail;
    r->lmtp.arg = r->place.arg;
    r->lmtp.kind = r->place.kind;
    random_bytes(r->lmtp.id, sizeof r->lmtp.id);
    buf_init(&b, 4096);
    (void)mail_addr_unquote(&b, r->addr);
    r->lmtp.addr = slice_dup(a, buf_view(&b));
    buf_done(&b);
}

void lmtpd_deliver(struct lmtpd_session *s)
{
    struct lmtpd_tx *tx = s->tx;
    struct lmtp_message m = {
        .sender = tx->sender,
        .arrival_ms = clock_wall(),
        .head = tx->body_fd < 0 ? buf_view(&tx->bytes) : SLICE_NONE,
        .body_fd = tx->body_fd,
        .body_bytes = tx->body_bytes,
    };
    struct lmtp_spread spread = {
        .workers = s->server->workers,
        .syncs = s->server->syncs,
        .message = &m,
        .n = tx->n_rcpts,
        .arena = tx->arena,
        .arg = s,
        .place = place,
        .fill = fill,
        .answered = answered,
        .failed = failed,
        .syncing = syncing,
    };

    for (size_t i = 0; i < tx->n_rcpts; i++) {
        if (tx->is_failed)
            answer_err(s, &tx->rcpts[i], &tx->why);
        else
            describe(&tx->rcpts[i], tx->arena);
    }
    s->server->n_messages++;
    lmtp_spread(&spread);
}
