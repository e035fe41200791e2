#include "base/base.h"

#include "ipc/event.h"
#include "queue/queue_priv.h"

/* ----------------------------------------------- outcomes of one recipient */

void active_settle(struct active *a, uint32_t i, enum outcome how)
{
    struct qmsg *qm = a->qm;

    if (qm == NULL)
        return;
    a->v[i].state = RS_NONE;
    if (!spool_message_is_pending(qm->sm, i))
        return;
    if (spool_settle(a->q->spool, qm->sm, i, how)) {
        log_removed(a->env.id);
        queue_msg_gone(a->q, qm);
    }
}

/* RFC 3461 4.1: reports of success go to a sender who asked and exists. */
static bool asked_success(const struct qrcpt *r)
{
    /* The next host will report, or fail, by itself. */
    return (r->notify & ENV_NOTIFY_SUCCESS) != 0 && r->relayed != RELAYED_DSN;
}

/* confirm_delay_cleared: who was told that it is late hears that it arrived. */
static bool is_cleared(const struct active *a, const struct qrcpt *r)
{
    uint32_t notify = r->notify;

    /* As Postfix: the wish for success went on to the next host. */
    if (r->relayed == RELAYED_DSN)
        notify &= ~(uint32_t)ENV_NOTIFY_SUCCESS;
    return a->set->confirms_cleared &&
           (notify == 0 || (notify & ENV_NOTIFY_DELAY) != 0) &&
           (spool_message_attempts(a->qm->sm) & ATTEMPTS_WARNED) != 0;
}

/* sendmail -v: the first attempt is told. */
static bool is_traced(const struct active *a)
{
    return (a->env.flags & ENV_TRACE) != 0 && !active_is_gone(a) &&
           spool_message_attempts(a->qm->sm) == 0;
}

/* A probe: whatever came out is told, and that is all.  False: no probe. */
static bool take_probe(struct active *a, struct qrcpt *r, const char *action,
                       slice status, slice diag)
{
    if ((a->env.flags & ENV_VERIFY) == 0)
        return false;
    r->state = RS_TRACED;
    r->action = action;
    r->status = active_dup(a, status);
    r->diag = active_dup(a, diag);
    return true;
}

static bool wants_success(const struct active *a, const struct qrcpt *r)
{
    return !active_is_gone(a) &&
           (asked_success(r) || is_cleared(a, r) || is_traced(a)) &&
           !r->has_owner && a->env.sender.n > 0;
}

void rcpt_sent(struct active *a, uint32_t i, slice status, slice diag)
{
    struct qrcpt *r = &a->v[i];

    if (take_probe(a, r, "deliverable", status.n > 0 ? status : SL("2.0.0"),
                   diag))
        return;
    a->q->count.n_sent++;
    if (!wants_success(a, r)) {
        /* A report that is due needs the message until the end. */
        if (a->n_expanded > 0)
            r->state = RS_QUIET;
        else
            active_settle(a, i, OUT_SENT);
        return;
    }
    r->state = RS_SENT;
    r->status = status.n > 0 ? active_dup(a, status) : SL("2.0.0");
    r->diag = active_dup(a, diag);
}

void rcpt_discarded(struct active *a, uint32_t i)
{
    if (a->n_expanded > 0)
        a->v[i].state = RS_QUIET;
    else
        active_settle(a, i, OUT_DISCARDED);
}

void rcpt_deferred(struct active *a, uint32_t i, slice status, slice diag)
{
    struct qrcpt *r = &a->v[i];

    if (take_probe(a, r, "undeliverable", status.n > 0 ? status : SL("4.0.0"),
                   diag))
        return;
    a->q->count.n_deferred++;
    r->state = RS_DEFERRED;
    r->status = status.n > 0 ? active_dup(a, status) : SL("4.0.0");
    r->diag = active_dup(a, diag);
}

/* covers soft_bounce: 5.x.x becomes 4.x.x and stays in the queue. */
static slice soften(struct active *a, slice status)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "4%.*s",
                   SLF(slice_sub(status.n > 0 ? status : SL("5.0.0"), 1, 10)));
    return active_dup(a, slice_str(text));
}

void rcpt_bounced(struct active *a, uint32_t i, slice status, slice diag)
{
    struct qrcpt *r = &a->v[i];

    if (take_probe(a, r, "undeliverable", status.n > 0 ? status : SL("5.0.0"),
                   diag))
        return;
    if (a->set->soft_bounce) {
        rcpt_deferred(a, i, soften(a, status), diag);
        return;
    }
    a->q->count.n_bounced++;
    r->state = RS_FAILED;
    r->status = status.n > 0 ? active_dup(a, status) : SL("5.0.0");
    r->diag = active_dup(a, diag);
}

void rcpt_decide(struct active *a, uint32_t i, bool is_bounced, slice status,
                 slice text)
{
    const char *how = "deferred";

    a->v[i].remote_mta = SLICE_NONE;
    a->v[i].tried = clock_wall();
    if (is_bounced) {
        rcpt_bounced(a, i, status, text);
        how = a->v[i].state == RS_DEFERRED ? "SOFTBOUNCE" : "bounced";
    } else {
        rcpt_deferred(a, i, status, text);
    }
    log_decided(a, &a->v[i], how, a->v[i].status, text);
}

/* ------------------------------------------------------ groups of recipients
 */

struct group {
    uint32_t *v; /* indexes */
    size_t n;
    slice sender;
};

static void groups_begin(struct active *a)
{
    for (size_t i = 0; i < a->n; i++)
        a->v[i].is_grouped = false;
}

/* covers disable_verp_bounces: a report for each recipient of VERP mail, or one
 * for all. */
static slice report_sender(const struct active *a, const struct qrcpt *r)
{
    if (a->set->has_verp_bounces || r->has_owner)
        return active_sender(a, r);
    return a->env.sender;
}

/* What a report says of recipients, at most; more of them get a second one.
 * notice.c writes no longer front. */
#define GROUP_BYTES ((size_t)24 << 20)

/* Of one recipient, not less than dsn.c writes: its words twice, with line ends
 * and blanks between them, its addresses with every byte quoted. */
static size_t report_bytes(const struct qrcpt *r)
{
    return 400 + 5 * queue_shown(r->addr, r->path).n + 4 * r->orig.n +
           r->orcpt.n + 2 * r->remote_mta.n + 2 * r->diag.n + r->diag.n / 4;
}

/* Collect the recipients in `state` whose sender is that of the first one that
 * is in no group yet, as many as a report takes.  False when none is left.
 * Free g->v. */
static bool next_group(struct active *a, enum rcpt_state state, struct group *g)
{
    size_t bytes = 0;
    size_t i = 0;

    while (i < a->n && (a->v[i].state != state || a->v[i].is_grouped))
        i++;
    if (i >= a->n)
        return false;
    g->sender = report_sender(a, &a->v[i]);
    g->n = 0;
    g->v = xcalloc(a->n - i, sizeof(*g->v));
    for (; i < a->n; i++) {
        struct qrcpt *r = &a->v[i];

        if (r->state != state || r->is_grouped ||
            !slice_eq(report_sender(a, r), g->sender))
            continue;
        bytes += report_bytes(r);
        if (g->n > 0 && bytes > GROUP_BYTES)
            break;
        r->is_grouped = true;
        g->v[g->n++] = (uint32_t)i;
    }
    return true;
}

/* Those of `g` that a report of this kind is due for: RFC 3461 4.1; without
 * NOTIFY, failures and delays are reported. */
static size_t keep_due(const struct active *a, const struct group *g,
                       uint32_t bit, uint32_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++) {
        uint32_t notify = a->v[g->v[i]].notify;

        if (notify == 0 || (notify & bit) != 0)
            out[n++] = g->v[i];
    }
    return n;
}

static bool is_double_bounce(const struct active *a, slice sender)
{
    return (a->env.flags & ENV_NOTICE) != 0 ||
           slice_ieqs(sender, a->set->double_bounce);
}

static void log_notice(const struct active *a, const char *what, const char *id)
{
    event_text(EV_INFO, "bounce", a->env.id, "%s notification: %s", what, id);
}

/* Send one report and log it; -1 when it could not be queued. */
static MAY_WAIT int send_notice(struct active *a, const struct notice *n,
                                const char *what)
{
    char id[MAIL_QUEUE_ID_SIZE];
    struct err err;

    if (active_is_gone(a))
        return -1;
    if (notice_send(a, n, id, &err) < 0) {
        event_text(EV_WARNING, "bounce", a->env.id,
                   "the %s notification could not be queued: %s", what,
                   err.log);
        return -1;
    }
    a->q->count.n_notices++;
    log_notice(a, what, id);
    return 0;
}

/* A copy for the postmaster (notify_classes); losing it loses no mail. */
static MAY_WAIT void send_copy(struct active *a, const struct group *g,
                               enum dsn_kind kind, const char *rcpt_param,
                               const char *what)
{
    struct notice n = {
        .kind = kind,
        .is_postmaster_copy = true,
        .is_headers_only = true,
        .from = slice_str(a->set->double_bounce),
        .to = conf_slice(a->set->conf, NULL, rcpt_param),
        .sender = g->sender,
        .idx = g->v,
        .n = g->n,
    };

    if (n.to.n > 0)
        (void)send_notice(a, &n, what);
}

/* -------------------------------------------------------------- failures */

/* The report about one group.  0 when it is queued, or none is due. */
static MAY_WAIT int bounce_group(struct active *a, const struct group *g)
{
    uint32_t *due CLEANUP(free_ptr) = xcalloc(g->n, sizeof(*due));
    bool is_null = g->sender.n == 0;
    struct notice n = {
        .kind = DSN_FAILURE,
        .from = is_null ? slice_str(a->set->double_bounce) : SL(""),
        .to = is_null
                  ? conf_slice(a->set->conf, NULL, "2bounce_notice_recipient")
                  : g->sender,
        .sender = g->sender,
        .is_postmaster_copy = is_null,
        .idx = due,
        .settles = g->v,
        .n_settles = g->n,
    };

    if (is_double_bounce(a, g->sender)) {
        /* invariant 6 */
        event_text(EV_WARNING, "bounce", a->env.id,
                   "undeliverable postmaster notification discarded");
        return 0;
    }
    if (is_null) {
        bool is_wanted =
            (a->set->classes & (CLASS_2BOUNCE | CLASS_BOUNCE)) != 0;

        n.n = is_wanted && n.to.n > 0 ? g->n : 0;
        memcpy(due, g->v, g->n * sizeof(*due));
    } else {
        n.n = keep_due(a, g, ENV_NOTIFY_FAILURE, due);
        n.is_headers_only = a->env.ret == ENV_RET_HDRS;
    }
    /* The copy first: the report may end the message. */
    if (!is_null && (a->set->classes & CLASS_BOUNCE) != 0)
        send_copy(a, g, DSN_FAILURE, "bounce_notice_recipient",
                  "postmaster non-delivery");
    if (n.n == 0)
        return 0;
    return send_notice(
        a, &n, is_null ? "postmaster non-delivery" : "sender non-delivery");
}

static MAY_WAIT void report_failures(struct active *a)
{
    struct group g;

    groups_begin(a);
    while (!active_is_gone(a) && next_group(a, RS_FAILED, &g)) {
        int rc = bounce_group(a, &g);

        for (size_t i = 0; i < g.n && !active_is_gone(a); i++) {
            if (rc == 0)
                active_settle(a, g.v[i], OUT_BOUNCED);
            else
                a->v[g.v[i]].state = RS_DEFERRED; /* and told next time */
        }
        free(g.v);
    }
}

/* ------------------------------------------------------ sendmail -v and -bv */

/* What the first attempt came to, recipient by recipient, to who asked. */
static MAY_WAIT void report_trace(struct active *a)
{
    bool is_probe = (a->env.flags & ENV_VERIFY) != 0;
    uint32_t *idx CLEANUP(free_ptr) = NULL;
    struct notice n = {
        .kind = is_probe ? DSN_VERIFY : DSN_SUCCESS,
        .is_headers_only = true,
        .from = SL(""),
        .to = a->env.sender,
        .sender = a->env.sender,
    };

    if (active_is_gone(a) || (!is_probe && !is_traced(a)))
        return;
    idx = xcalloc(a->n + 1, sizeof(*idx));
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].state == RS_TRACED || a->v[i].state == RS_SENT ||
            a->v[i].state == RS_FAILED || a->v[i].state == RS_DEFERRED)
            idx[n.n++] = (uint32_t)i;
    n.idx = idx;
    if (n.n > 0 && n.to.n > 0)
        (void)send_notice(a, &n,
                          is_probe ? "sender address verification"
                                   : "sender delivery status");
    for (size_t i = 0; i < a->n && !active_is_gone(a); i++)
        if (a->v[i].state == RS_TRACED || a->v[i].state == RS_SENT ||
            a->v[i].state == RS_QUIET)
            active_settle(a, (uint32_t)i, OUT_SENT);
}

/* --------------------------------------------------------------- success */

static MAY_WAIT void report_success(struct active *a)
{
    struct notice n = {
        .kind = DSN_SUCCESS,
        .is_headers_only = true,
        .from = SL(""),
        .to = a->env.sender,
        .sender = a->env.sender,
    };
    uint32_t *idx CLEANUP(free_ptr) = NULL;
    size_t n_sent = 0;

    if (active_is_gone(a))
        return;
    idx = xcalloc(a->n + a->n_expanded + 1, sizeof(*idx));
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].state == RS_SENT)
            idx[n_sent++] = (uint32_t)i;
    n.settles = idx;
    n.n_settles = n_sent;
    for (size_t i = 0; i < a->n_expanded; i++)
        idx[n_sent + i] = a->expanded[i];
    n.idx = idx;
    n.n = n_sent + a->n_expanded;
    if (n.n == 0)
        return;
    (void)send_notice(a, &n, "sender delivery status");
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].state == RS_SENT || a->v[i].state == RS_QUIET)
            active_settle(a, (uint32_t)i, OUT_SENT);
}

/* ---------------------------------------------------------------- delays */

static void expire(struct active *a, msec now)
{
    const struct queue_times *t = &a->set->times;
    msec limit = t->lifetime;
    bool is_first = true;

    if (a->env.sender.n == 0 && t->bounce_lifetime < limit)
        limit = t->bounce_lifetime;
    if (now - envelope_arrival_ms(&a->env) < limit)
        return;
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].state != RS_DEFERRED)
            continue;
        a->v[i].state = RS_FAILED;
        if (!is_first)
            continue;
        is_first = false;
        event_log(EV_INFO, NULL, "expired", a->env.id,
                  EV_PAIRS(ev_addr("from", a->env.sender),
                           ev_str("status",
                                  SL("expired, returned to sender"))));
    }
}

static MAY_WAIT void warn_group(struct active *a, const struct group *g)
{
    uint32_t *due CLEANUP(free_ptr) = xcalloc(g->n, sizeof(*due));
    struct notice n = {
        .kind = DSN_DELAY,
        .is_headers_only = true,
        .from = SL(""),
        .to = g->sender,
        .sender = g->sender,
        .idx = due,
        .n = keep_due(a, g, ENV_NOTIFY_DELAY, due),
    };

    if (is_double_bounce(a, g->sender))
        return;
    if (g->sender.n > 0 && n.n > 0)
        (void)send_notice(a, &n, "sender delay");
    if ((a->set->classes & CLASS_DELAY) != 0)
        send_copy(a, g, DSN_DELAY, "delay_notice_recipient",
                  "postmaster delay");
}

/* Once in a message's life; the journal remembers by ATTEMPTS_WARNED. */
static MAY_WAIT bool warn_delay(struct active *a, msec now)
{
    struct group g;

    if (a->set->delay_warning <= 0 ||
        now - envelope_arrival_ms(&a->env) < a->set->delay_warning)
        return false;
    groups_begin(a);
    while (!active_is_gone(a) && next_group(a, RS_DEFERRED, &g)) {
        warn_group(a, &g);
        free(g.v);
    }
    return true;
}

/* The reason as mailq shows it. */
static slice reason_of(struct active *a, const struct qrcpt *r)
{
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 8192);
    dsn_put_reason(&b, slice_sub(r->diag, 0, 1000), r->remote_mta);
    return active_dup(a, slice_sub(buf_view(&b), 0, 1000));
}

static size_t collect_deferred(struct active *a, struct spool_deferral *out)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].state != RS_DEFERRED)
            continue;
        out[n++] = (struct spool_deferral){
            .rcpt = (uint32_t)i,
            .status = a->v[i].status,
            .reason = reason_of(a, &a->v[i]),
        };
    }
    return n;
}

/* Recipients that got no answer before the queue closed. */
static bool has_untried(const struct active *a)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].state == RS_JOB || a->v[i].state == RS_PENDING)
            return true;
    return false;
}

static MAY_WAIT void defer_rest(struct active *a, msec now)
{
    struct spool_deferral *v CLEANUP(free_ptr) = xcalloc(a->n + 1, sizeof(*v));
    uint32_t attempts = spool_message_attempts(a->qm->sm);
    size_t n = collect_deferred(a, v);

    if (n == 0)
        return; /* none was tried to the end: the queue is closing */
    if ((attempts & ATTEMPTS_WARNED) == 0 && warn_delay(a, now))
        attempts |= ATTEMPTS_WARNED;
    if (active_is_gone(a))
        return;
    if ((attempts & ~ATTEMPTS_WARNED) < ATTEMPTS_WARNED - 1)
        attempts++;
    a->next_try = queue_next_try(&a->set->times, envelope_arrival_ms(&a->env),
                                 now, a->q->epoch);
    if (has_untried(a))
        a->next_try = now;
    spool_defer(a->q->spool, a->qm->sm, a->next_try, attempts, v, n);
}

void active_finish(struct active *a)
{
    msec now = clock_wall();

    a->next_try = now;
    if (active_is_gone(a))
        return;
    /* The queue closes and its jobs were cancelled: what is known by now is
     * told all the same, it takes no longer than a write. */
    if (task_is_cancelled())
        task_uncancel();
    expire(a, now);
    report_trace(a);
    report_success(a);
    report_failures(a);
    if (!active_is_gone(a))
        defer_rest(a, now);
}
