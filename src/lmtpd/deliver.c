/* A message to the workers of its recipients, side by side. */
#include "base/digest.h"
#include "lmtpd/lmtpd_priv.h"

#define GROUPS_MAX 20 /* workers at once, of one transaction */

struct group {
    struct lmtpd_session *s;
    struct running *running;
    struct lmtp_worker *worker;
    struct lmtpd_rcpt **rcpts;
    size_t n;
};

struct running {
    size_t n;
    struct task *waiter;
};

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

/* Wait until what is only visible is durable. */
MAY_WAIT static void make_durable(struct group *g, const struct lmtp_rcpt *v,
                                  uint64_t since)
{
    struct lmtp_syncs *syncs = g->s->server->syncs;
    uint64_t synced = 0;
    bool has_synced = false;
    struct err err;
    int result = 0;

    for (size_t i = 0; i < g->n; i++) {
        if (v[i].code != 250 || v[i].is_durable)
            continue;
        if (!has_synced || v[i].fs != synced) {
            lmtpd_tx_arrived(g->s);
            result = lmtp_sync(syncs, v[i].fs, since, &err);
            synced = v[i].fs;
            has_synced = true;
        }
        if (result < 0)
            answer_err(g->s, g->rcpts[i], &err);
    }
}

static void judge(struct group *g, struct lmtpd_rcpt *r,
                  const struct lmtp_rcpt *a)
{
    const struct lmtpd_tx *tx = g->s->tx;

    if (a->code != 250) {
        answer(r, a->code >= 500 ? 550 : 451,
               a->status[0] != '\0' ? a->status
               : a->code >= 500     ? "5.2.0"
                                    : "4.3.0",
               a->text);
        event_text(EV_WARNING, "lmtpd", NULL, "lmtp(%.*s)<%d><%s>: %.*s",
                   SLF(r->place.user), (int)getpid(), g->s->id, SLF(a->text));
        return;
    }
    answer(r, 250, "2.0.0", SLICE_NONE);
    g->s->server->n_delivered++;
    event_text(EV_INFO, "lmtpd", NULL,
               "lmtp(%.*s)<%d><%s>: msgid=%.*s: saved mail to INBOX",
               SLF(r->place.user), (int)getpid(), g->s->id,
               SLF(tx->message_id));
}

MAY_WAIT static void run_group(struct group *g)
{
    struct lmtpd_tx *tx = g->s->tx;
    struct lmtp_message m = {
        .sender = tx->sender,
        .arrival_ms = clock_wall(),
        .head = tx->body_fd < 0 ? buf_view(&tx->bytes) : SLICE_NONE,
        .body_fd = tx->body_fd,
        .body_bytes = tx->body_bytes,
    };
    struct lmtp_rcpt *v = arena_alloc(tx->arena, g->n * sizeof *v);
    uint64_t since = lmtp_syncs_generation(g->s->server->syncs);
    struct err err;
    int result;

    if (v == NULL) {
        err_temp(&err, "delivery: no memory");
        for (size_t i = 0; i < g->n; i++)
            answer_err(g->s, g->rcpts[i], &err);
        return;
    }
    for (size_t i = 0; i < g->n; i++)
        v[i] = g->rcpts[i]->lmtp;
    result = lmtp_worker_deliver(g->worker, &m, v, g->n, tx->arena, &err);
    make_durable(g, v, since);
    for (size_t i = 0; i < g->n; i++)
        if (!g->rcpts[i]->is_done && v[i].code != 0)
            judge(g, g->rcpts[i], &v[i]);
    for (size_t i = 0; result < 0 && i < g->n; i++)
        if (!g->rcpts[i]->is_done)
            answer_err(g->s, g->rcpts[i], &err);
}

MAY_WAIT static void group_task(void *arg)
{
    struct group *g = arg;
    struct running *running = g->running;

    run_group(g);
    lmtp_worker_put(&g->worker);
    running->n--;
    if (running->waiter != NULL)
        task_wake(running->waiter);
}

/* The groups refer to the transaction and end by their own deadlines. */
MAY_WAIT static void wait_groups(struct running *running, size_t below)
{
    struct err ignored;

    running->waiter = task_self();
    while (running->n >= below)
        (void)task_wait(clock_after((msec)60 * 1000), &ignored);
    running->waiter = NULL;
}

/* Everybody who shares the worker of rcpts[first]. */
MAY_WAIT static size_t gather(struct lmtpd_session *s, size_t first,
                              struct lmtp_worker *to, struct lmtpd_rcpt **found)
{
    struct lmtpd_tx *tx = s->tx;
    struct lmtpd_rcpt *lead = &tx->rcpts[first];
    struct err err;
    size_t n = 0;

    found[n++] = lead;
    lead->is_sent = true;
    if (lead->place.kind != LMTP_MAILBOX)
        return n;
    for (size_t i = first + 1; i < tx->n_rcpts; i++) {
        struct lmtpd_rcpt *r = &tx->rcpts[i];
        struct lmtp_worker *w;

        if (r->is_done || r->is_sent || r->place.kind != LMTP_MAILBOX ||
            r->place.uid != lead->place.uid)
            continue;
        if (lmtp_worker_get(s->server->workers, &r->place, &w, &err) < 0) {
            answer_err(s, r, &err);
            continue;
        }
        if (w == to) {
            found[n++] = r;
            r->is_sent = true;
        }
        lmtp_worker_put(&w);
    }
    return n;
}

MAY_WAIT static void begin_group(struct lmtpd_session *s, size_t first,
                                 struct running *running,
                                 struct lmtpd_rcpt **found)
{
    struct lmtpd_tx *tx = s->tx;
    struct lmtpd_rcpt *lead = &tx->rcpts[first];
    struct group *g = ARENA_NEW(tx->arena, struct group);
    struct err err;

    *g = (struct group){ .s = s, .running = running };
    if (lmtp_worker_get(s->server->workers, &lead->place, &g->worker, &err) <
        0) {
        answer_err(s, lead, &err);
        return;
    }
    g->n = gather(s, first, g->worker, found);
    g->rcpts = ARENA_ARRAY(tx->arena, struct lmtpd_rcpt *, g->n);
    memcpy(g->rcpts, found, g->n * sizeof(struct lmtpd_rcpt *));
    running->n++;
    if (g->n == tx->n_rcpts)
        group_task(g); /* all there is: no task of its own */
    else
        (void)task_spawn("lmtpd-group", group_task, g);
}

static void fill(struct lmtpd_rcpt *r, struct arena *a)
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
    struct lmtpd_rcpt **found CLEANUP(free_ptr) =
        xcalloc(tx->n_rcpts, sizeof(struct lmtpd_rcpt *));
    struct running running = { 0 };

    for (size_t i = 0; i < tx->n_rcpts; i++) {
        if (tx->is_failed) {
            answer_err(s, &tx->rcpts[i], &tx->why);
            continue;
        }
        fill(&tx->rcpts[i], tx->arena);
    }
    s->server->n_messages++;
    for (size_t i = 0; i < tx->n_rcpts; i++) {
        if (tx->rcpts[i].is_done || tx->rcpts[i].is_sent)
            continue;
        wait_groups(&running, GROUPS_MAX);
        begin_group(s, i, &running, found);
    }
    wait_groups(&running, 1);
}
