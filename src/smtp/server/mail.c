#include "smtp/server/auth.h"

/* MAIL FROM, RFC 5321 4.1.1.2, with SIZE (RFC 1870), BODY (RFC 6152), RET and
 * ENVID (RFC 3461), SMTPUTF8 (RFC 6531), AUTH (RFC 4954) and REQUIRETLS (RFC
 * 8689). */

#define ENVID_MAX 100 /* RFC 3461 4.4 */

/* ---- parameters: each takes its value into the transaction, or is false */

static bool take_size(struct smtp *s, slice value)
{
    return slice_u64(value, &s->tx->size_said);
}

static bool take_body(struct smtp *s, slice value)
{
    if (slice_ieqs(value, "8BITMIME"))
        s->tx->env.flags |= ENV_8BITMIME;
    else
        return slice_ieqs(value, "7BIT");
    return true;
}

static bool take_utf8(struct smtp *s, slice value UNUSED)
{
    s->tx->env.flags |= ENV_SMTPUTF8;
    return true;
}

static bool take_requiretls(struct smtp *s, slice value UNUSED)
{
    s->tx->env.flags |= ENV_REQUIRETLS;
    return true;
}

static bool take_ret(struct smtp *s, slice value)
{
    struct envelope *env = &s->tx->env;

    if (env->ret != ENV_RET_NONE)
        return false;
    if (slice_ieqs(value, "FULL"))
        env->ret = ENV_RET_FULL;
    else if (slice_ieqs(value, "HDRS"))
        env->ret = ENV_RET_HDRS;
    return env->ret != ENV_RET_NONE;
}

/* RFC 3461 4.4: what xtext hides is printable ASCII. */
static bool is_printable(slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return true;
}

static bool take_envid(struct smtp *s, slice value)
{
    struct smtp_tx *tx = s->tx;
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, (size_t)ENVID_MAX * 3);
    if (tx->env.envid.n > 0 || value.n > ENVID_MAX ||
        !mail_xtext_get(&b, value) || !is_printable(buf_view(&b)))
        return false;
    tx->env.envid = slice_dup(tx->arena, buf_view(&b));
    return true;
}

static const struct param {
    const char *key;
    bool has_value;
    unsigned ehlo; /* the keyword that must not be discarded */
    bool (*take)(struct smtp *s, slice value);
} params[] = {
    { "SIZE", true, EHLO_SIZE, take_size },
    { "BODY", true, EHLO_8BITMIME, take_body },
    { "SMTPUTF8", false, EHLO_SMTPUTF8, take_utf8 },
    { "REQUIRETLS", false, EHLO_REQUIRETLS, take_requiretls },
    { "RET", true, EHLO_DSN, take_ret },
    { "ENVID", true, EHLO_DSN, take_envid },
};

static const struct param *find_param(const struct smtp *s,
                                      const struct mail_param *p)
{
    for (size_t i = 0; i < ARRAY_LEN(params); i++)
        if (slice_ieqs(p->key, params[i].key) &&
            p->has_value == params[i].has_value &&
            (params[i].ehlo != EHLO_SMTPUTF8 || s->service->smtputf8) &&
            (params[i].ehlo != EHLO_REQUIRETLS || stream_is_tls(s->stream)))
            return &params[i];
    return NULL;
}

/* One parameter into the transaction.  A refusal goes out with *ok false. */
MAY_WAIT static int param(struct smtp *s, const struct mail_param *p, bool *ok)
{
    const struct param *known = find_param(s, p);
    unsigned off = s->service->ehlo_off;

    *ok = false;
    if (slice_ieqs(p->key, "XVERP") && smtp_verp_allowed(s)) {
        *ok = smtp_verp_take(s, p->has_value ? p->value : SLICE_NONE);
        return *ok ? 0
                   : smtp_reply(s, 501, "5.5.4",
                                "Error: XVERP needs two characters from %s",
                                conf_str(s->service->conf, s->service->line,
                                         "verp_delimiter_filter"));
    }
    if (s->service->is_pickup && p->has_value && slice_ieqs(p->key, "XTRACE")) {
        *ok = smtp_trace_take(s, p->value);
        return *ok ? 0 : smtp_reply(s, 501, "5.5.4", "Bad XTRACE parameter");
    }
    if (s->service->auth != NULL && slice_ieqs(p->key, "AUTH") &&
        p->has_value) {
        const char *why = smtp_auth_param(s, p->value); /* RFC 4954 5 */

        *ok = why == NULL;
        return *ok ? 0 : smtp_reply(s, 503, "5.5.4", "%s", why);
    }
    if (known != NULL && (known->ehlo & off & EHLO_DSN))
        return smtp_reply(s, 501, "5.7.1", "DSN support is disabled");
    if (known == NULL || (known->ehlo & off))
        return smtp_reply(s, 555, "5.5.4", "Unsupported option: %.*s",
                          SLF(slice_sub(p->key, 0, 100)));
    *ok = known->take(s, p->value);
    if (*ok)
        return 0;
    if (known->take == take_size)
        return smtp_reply(s, 501, "5.5.4", "Bad message size syntax");
    return smtp_reply(s, 501, "5.5.4", "Bad %s parameter syntax", known->key);
}

static bool has_utf8_param(slice args)
{
    struct mail_param p;

    while (mail_param_next(&args, &p) > 0)
        if (slice_ieqs(p.key, "SMTPUTF8"))
            return true;
    return false;
}

/* The address and the parameters.  *ok false: a refusal went out. */
MAY_WAIT static int parse(struct smtp *s, slice args, bool *ok)
{
    struct smtp_tx *tx = s->tx;
    struct mail_path path;
    struct mail_param p;
    struct err err;
    slice rest = args;
    unsigned flags = MAIL_PATH_NULL;
    int r;

    *ok = false;
    if (s->service->strict_paths)
        flags |= MAIL_PATH_STRICT;
    ssize_t gt = slice_rchr(args, '>');
    if (gt >= 0 && has_utf8_param(slice_from(args, (size_t)gt + 1)))
        flags |= MAIL_PATH_UTF8;
    else
        flags |= MAIL_PATH_8BIT;
    if (mail_path_parse(tx->arena, &rest, flags, &path, &err) < 0)
        return smtp_reply(s, 501, "5.1.7", "Bad sender address syntax");
    *ok = true;
    while (*ok && (r = mail_param_next(&rest, &p)) != 0) {
        if (r < 0) {
            *ok = false;
            return smtp_reply(s, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
        }
        if (param(s, &p, ok) < 0)
            return -1;
    }
    tx->sender = slice_dup(tx->arena, path.addr);
    if (*ok && tx->env.verp.n > 0 && tx->sender.n == 0) {
        *ok = false;
        return smtp_reply(s, 503, "5.5.4",
                          "Error: XVERP requires non-null sender");
    }
    if (*ok && path.has_8bit && !(tx->env.flags & ENV_SMTPUTF8) &&
        conf_bool(s->service->conf, s->service->line, "strict_smtputf8")) {
        *ok = false;
        return smtp_reply(s, 553, "5.6.7",
                          "Must declare SMTPUTF8 to send unicode address");
    }
    return 0;
}

/* authorized_submit_users: who it is, the socket's credentials say. */
MAY_WAIT static int check_submitter(struct smtp *s, bool *ok)
{
    char text[200];
    slice name = SLICE_NONE;
    struct err err;

    if (tables_user_matches(s->service->server->parts.tables,
                            s->service->submitters, s->peer.uid, s->tx->arena,
                            &name, ok, &err) < 0) {
        *ok = false;
        return smtp_fail(s, &err);
    }
    if (*ok)
        return 0;
    (void)snprintf(text, sizeof text,
                   "User %.*s(%ld) is not allowed to submit mail",
                   SLF(slice_sub(name, 0, 100)), (long)s->peer.uid);
    event_text(EV_WARNING, s->service->tag, NULL, "%s", text);
    return smtp_reply(s, 550, "5.7.1", "%s", text);
}

MAY_WAIT static int admit(struct smtp *s, bool *ok)
{
    struct smtp_tx *tx = s->tx;
    uint64_t max = s->service->message_max;

    if (s->service->is_pickup) {
        if (check_submitter(s, ok) < 0)
            return -1;
        if (!*ok)
            return 0;
    }
    tx->policy.sender = tx->sender;
    tx->policy.has_sender = true;
    if (max > 0 && tx->size_said > max) {
        *ok = false;
        smtp_log_reject(s, "MAIL",
                        "552 5.3.4 Message size exceeds fixed limit");
        return smtp_reply(s, 552, "5.3.4", "Message size exceeds fixed limit");
    }
    tx->policy.size = tx->size_said;
    if (smtp_count(s, ACCESS_EVENT_MESSAGE, ok) < 0)
        return -1;
    return *ok ? smtp_check(s, ACCESS_MAIL, ok) : 0;
}

int smtp_cmd_mail(struct smtp *s, slice args)
{
    bool ok = true;

    if (s->service->helo_required && s->helo == NULL && !s->service->is_pickup)
        return smtp_reply(s, 503, "5.5.1", "Error: send HELO/EHLO first");
    if (s->tx != NULL && s->tx->has_mail)
        return smtp_reply(s, 503, "5.5.1", "Error: nested MAIL command");
    if (!slice_istarts(args, SL("FROM:")) || slice_trim(args).n == 5)
        return smtp_reply(s, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
    smtp_tx_reset(s);
    (void)smtp_tx_get(s);
    if (parse(s, slice_from(args, 5), &ok) < 0)
        return -1;
    if (ok && admit(s, &ok) < 0)
        return -1;
    if (!ok) {
        smtp_tx_reset(s);
        return 0;
    }
    s->tx->has_mail = true;
    spool_coming(s->service->server->parts.spool, &s->tx->coming);
    return smtp_reply(s, 250, "2.1.0", "Ok");
}
