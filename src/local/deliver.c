#include "local/local_priv.h"

/*
 * Recipients that have a place, grouped: those of one worker whose mailboxes
 * are all of kind LMTP_MAILBOX share one transaction, so the message goes to
 * the worker once and lies on the disk once.
 */
struct group {
    struct local_job *job;
    struct local_worker *worker;
    struct local_rcpt **rcpts;
    size_t n;
};

static void answer_one(struct local_job *j, struct local_rcpt *r,
                       const struct lmtp_rcpt *a)
{
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

static void fail_all(struct group *g, const struct err *err)
{
    for (size_t i = 0; i < g->n; i++)
        if (!g->rcpts[i]->is_done)
            local_failed(g->job, g->rcpts[i], err);
}

/* Wait until what is only visible is durable: one wait per file system. */
MAY_WAIT static void make_durable(struct group *g,
                                  const struct lmtp_rcpt *answers)
{
    struct local_syncs *syncs = g->job->local->syncs;
    uint64_t synced = 0;
    bool has_synced = false;
    struct err err;
    int result = 0;

    for (size_t i = 0; i < g->n; i++) {
        const struct lmtp_rcpt *a = &answers[i];

        if (a->code != 250 || a->is_durable)
            continue;
        if (!has_synced || a->fs != synced) {
            result = local_sync(syncs, a->fs, &err);
            synced = a->fs;
            has_synced = true;
        }
        if (result < 0)
            local_failed(g->job, g->rcpts[i], &err);
    }
}

static void fill(const struct local_rcpt *r, bool with_orig,
                 struct lmtp_rcpt *out)
{
    const struct local_place *p = &r->place;

    out->addr = r->shown;
    out->user = p->user;
    out->home = p->home;
    out->mail = p->mail;
    out->arg = p->arg;
    out->kind = p->kind;
    if (with_orig)
        out->orig = r->orig;
    memcpy(out->id, r->id, sizeof out->id);
}

MAY_WAIT static void run_group(struct group *g)
{
    struct local_job *j = g->job;
    struct lmtp_message m = {
        .sender = j->sender,
        .arrival_ms = j->arrival_ms,
        .head = j->env.headers,
        .body_fd = j->body_fd,
        .body_at = j->body_at,
        .body_bytes = j->body_bytes,
    };
    struct lmtp_rcpt *v = arena_alloc(j->arena, g->n * sizeof *v);
    bool with_orig =
        conf_bool(j->local->p->conf, NULL, "enable_original_recipient");
    struct err err;
    int result;

    if (v == NULL) {
        err_temp(&err, "delivery: no memory");
        fail_all(g, &err);
        return;
    }
    for (size_t i = 0; i < g->n; i++)
        fill(g->rcpts[i], with_orig, &v[i]);
    result = local_worker_deliver(g->worker, &m, v, g->n, j->arena, &err);
    make_durable(g, v);
    for (size_t i = 0; i < g->n; i++)
        if (!g->rcpts[i]->is_done && v[i].code != 0)
            answer_one(j, g->rcpts[i], &v[i]);
    if (result < 0)
        fail_all(g, &err);
}

/* Gather every waiting recipient of the same worker as rcpts[first]. */
MAY_WAIT static void gather(struct local_job *j, size_t first, struct group *g)
{
    struct local_rcpt *lead = &j->rcpts[first];
    struct err err;

    g->rcpts[0] = lead;
    g->n = 1;
    if (lead->place.kind != LMTP_MAILBOX)
        return;
    for (size_t i = first + 1; i < j->n_rcpts && g->n < LMTP_RCPTS_MAX; i++) {
        struct local_rcpt *r = &j->rcpts[i];
        struct local_worker *w;

        if (r->is_done || !r->has_place || r->place.kind != LMTP_MAILBOX ||
            r->place.uid != lead->place.uid)
            continue;
        if (local_worker_get(j->local->workers, &r->place, &w, &err) < 0) {
            local_failed(j, r, &err);
            continue;
        }
        if (w == g->worker)
            g->rcpts[g->n++] = r;
        local_worker_put(&w);
    }
}

void local_deliver(struct local_job *j)
{
    struct group g = { .job = j };
    struct err err;

    g.rcpts = arena_alloc(j->arena, j->n_rcpts * sizeof *g.rcpts);
    for (size_t i = 0; i < j->n_rcpts; i++) {
        struct local_rcpt *r = &j->rcpts[i];

        if (r->is_done || !r->has_place)
            continue;
        if (g.rcpts == NULL) {
            err_temp(&err, "delivery: no memory");
            local_failed(j, r, &err);
            continue;
        }
        if (local_worker_get(j->local->workers, &r->place, &g.worker, &err) <
            0) {
            local_failed(j, r, &err);
            continue;
        }
        gather(j, i, &g);
        run_group(&g);
        local_worker_put(&g.worker);
    }
}
