#include "smtp/server/server_priv.h"

/* RCPT TO, RFC 5321 4.1.1.3, with NOTIFY and ORCPT (RFC 3461). */

#define ORCPT_MAX 500 /* RFC 3461 4.2 */

static bool notify_words(slice value, unsigned *out)
{
    unsigned bits = 0;
    slice word;

    while (slice_token(&value, ",", &word)) {
        if (slice_ieqs(word, "NEVER"))
            bits |= ENV_NOTIFY_NEVER;
        else if (slice_ieqs(word, "SUCCESS"))
            bits |= ENV_NOTIFY_SUCCESS;
        else if (slice_ieqs(word, "FAILURE"))
            bits |= ENV_NOTIFY_FAILURE;
        else if (slice_ieqs(word, "DELAY"))
            bits |= ENV_NOTIFY_DELAY;
        else
            return false;
    }
    if ((bits & ENV_NOTIFY_NEVER) && bits != ENV_NOTIFY_NEVER)
        return false;
    *out = bits;
    return bits != 0;
}

/* "rfc822;xtext" to "rfc822;decoded". */
static bool orcpt_value(struct arena *a, slice value, slice *out)
{
    struct buf b;
    slice type;
    bool ok = false;

    buf_init(&b, (size_t)ORCPT_MAX * 2);
    if (value.n <= ORCPT_MAX && slice_cut(&value, ';', &type) && type.n > 0 &&
        value.n > 0 && buf_slice(&b, type) && buf_byte(&b, ';')) {
        ok = slice_ieqs(type, "utf-8") ? mail_uxtext_get(&b, value)
                                       : mail_xtext_get(&b, value);
    }
    if (ok) {
        slice copy = slice_dup(a, buf_view(&b));

        ok = copy.n > 0;
        if (ok)
            *out = copy;
    }
    buf_done(&b);
    return ok;
}

struct rcpt {
    slice addr;
    slice orcpt;
    unsigned notify;
};

/* One parameter.  *ok false: a refusal went out. */
MAY_WAIT static int param(struct smtp *s, const struct mail_param *p,
                          struct rcpt *out, bool *ok)
{
    bool is_notify = p->has_value && slice_ieqs(p->key, "NOTIFY");
    bool is_orcpt = p->has_value && slice_ieqs(p->key, "ORCPT");

    *ok = false;
    if (!is_notify && !is_orcpt)
        return smtp_reply(s, 555, "5.5.4", "Unsupported option: %.*s",
                          SLF(slice_sub(p->key, 0, 100)));
    if (s->service->ehlo_off & EHLO_DSN)
        return smtp_reply(s, 501, "5.7.1", "DSN support is disabled");
    if (is_notify)
        *ok = out->notify == 0 && notify_words(p->value, &out->notify);
    else
        *ok = out->orcpt.n == 0 &&
              orcpt_value(s->tx->arena, p->value, &out->orcpt);
    if (*ok)
        return 0;
    return smtp_reply(s, 501, "5.5.4", "Error: Bad %s parameter syntax",
                      is_notify ? "NOTIFY" : "ORCPT");
}

MAY_WAIT static int parse(struct smtp *s, slice args, struct rcpt *out,
                          bool *ok)
{
    struct smtp_tx *tx = s->tx;
    struct mail_path path;
    struct mail_param p;
    struct err err;
    unsigned flags =
        tx->env.flags & ENV_SMTPUTF8 ? MAIL_PATH_UTF8 : MAIL_PATH_8BIT;
    int r;

    *ok = false;
    if (s->service->strict_paths)
        flags |= MAIL_PATH_STRICT;
    if (mail_path_parse(tx->arena, &args, flags, &path, &err) < 0)
        return smtp_reply(s, 501, "5.1.3", "Bad recipient address syntax");
    if (path.has_8bit && !(tx->env.flags & ENV_SMTPUTF8) &&
        conf_bool(s->service->conf, s->service->line, "strict_smtputf8"))
        return smtp_reply(s, 553, "5.6.7",
                          "Must declare SMTPUTF8 to send unicode address");
    out->addr = slice_dup(tx->arena, path.addr);
    *ok = true;
    while (*ok && (r = mail_param_next(&args, &p)) != 0) {
        if (r < 0) {
            *ok = false;
            return smtp_reply(s, 501, "5.5.4", "Unsupported option: %.*s",
                              SLF(slice_sub(p.key, 0, 100)));
        }
        if (param(s, &p, out, ok) < 0)
            return -1;
    }
    return 0;
}

/* Rewrite, expand and note it.  ERR_TEMP when a table is gone. */
MAY_WAIT static int accept_rcpt(struct smtp *s, const struct rcpt *r,
                                struct err *err)
{
    struct smtp_tx *tx = s->tx;

    if (address_add_recipient(s->service->address, &tx->rcpts, r->addr,
                              r->orcpt, r->notify, err) < 0)
        return -1;
    if (tx->n_rcpts++ == 0)
        tx->first_rcpt = r->addr;
    tx->policy.n_recipients = tx->n_rcpts;
    return 0;
}

/* RFC 5321 4.5.3.1.10: 452 for too many.  A client may send a whole list before
 * it reads the answers: only those beyond smtpd_recipient_overshoot_limit count
 * as errors. */
MAY_WAIT static int too_many(struct smtp *s)
{
    bool is_error = s->tx->n_refused++ >= s->service->rcpt_overshoot;
    int r = smtp_reply(s, 452, "4.5.3", "Error: too many recipients");

    s->reply_failed = is_error;
    return r;
}

/* So much of the transaction's memory is left for what is not counted, such as
 * the address as it is parsed: a full arena must not look like bad syntax. */
#define ARENA_RESERVE (256u << 10)

static bool is_full(const struct smtp_tx *tx)
{
    return arena_used(tx->arena) + ARENA_RESERVE > arena_cap(tx->arena);
}

int smtp_cmd_rcpt(struct smtp *s, slice args)
{
    struct rcpt r = { SLICE_NONE, SLICE_NONE, 0 };
    struct smtp_tx *tx = s->tx;
    struct err err;
    bool ok;

    if (tx == NULL || !tx->has_mail)
        return smtp_reply(s, 503, "5.5.1", "Error: need MAIL command");
    if (!slice_istarts(args, SL("TO:")) || slice_trim(args).n == 3)
        return smtp_reply(s, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    if (is_full(tx))
        return smtp_reply(s, 452, "4.5.3", "Error: too many recipients");
    if (parse(s, slice_from(args, 3), &r, &ok) < 0)
        return -1;
    if (!ok)
        return 0;
    if (!s->service->is_pickup && tx->n_rcpts >= s->service->rcpt_max)
        return too_many(s);
    if (s->screening != NULL)
        return smtp_screen_refuse(s, r.addr);
    tx->policy.recipient = r.addr;
    if (smtp_count(s, ACCESS_EVENT_RCPT, &ok) < 0)
        return -1;
    if (ok && smtp_check(s, ACCESS_RCPT, &ok) < 0)
        return -1;
    if (!ok) {
        tx->policy.recipient = tx->first_rcpt;
        return 0;
    }
    if (accept_rcpt(s, &r, &err) < 0)
        return smtp_fail(s, &err);
    return smtp_reply(s, 250, "2.1.5", "Ok");
}
