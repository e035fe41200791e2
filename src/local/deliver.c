#include "local/local_priv.h"

/*
 * Recipients that have a place, grouped: those of one worker whose mailboxes
 * are all of kind LMTP_MAILBOX share one transaction, so the message goes to
 * the worker once and lies on the disk once.
 */
struct group {
    struct local_job *job;
    struct running *running;
    struct lmtp_worker *worker;
    struct local_rcpt **rcpts;
    size_t n;
};

/* Groups of one job on their way at once: each is another worker's, mostly
 * another user's, so they need not wait for each other. */
#define GROUPS_MAX 20

struct running {
    size_t n;
    struct task *waiter; /* the job's, while it waits */
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
                                  const struct lmtp_rcpt *answers,
                                  uint64_t since)
{
    struct lmtp_syncs *syncs = g->job->local->syncs;
    uint64_t synced = 0;
    bool has_synced = false;
    struct err err;
    int result = 0;

    for (size_t i = 0; i < g->n; i++) {
        const struct lmtp_rcpt *a = &answers[i];

        if (a->code != 250 || a->is_durable)
            continue;
        if (!has_synced || a->fs != synced) {
            result = lmtp_sync(syncs, a->fs, since, &err);
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
    const struct lmtp_place *p = &r->place;

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
    uint64_t since = lmtp_syncs_generation(j->local->syncs);
    struct err err;
    int result;

    if (v == NULL) {
        err_temp(&err, "delivery: no memory");
        fail_all(g, &err);
        return;
    }
    for (size_t i = 0; i < g->n; i++)
        fill(g->rcpts[i], with_orig, &v[i]);
    result = lmtp_worker_deliver(g->worker, &m, v, g->n, j->arena, &err);
    make_durable(g, v, since);
    for (size_t i = 0; i < g->n; i++)
        if (!g->rcpts[i]->is_done && v[i].code != 0)
            answer_one(j, g->rcpts[i], &v[i]);
    if (result < 0)
        fail_all(g, &err);
}

/* Gather every waiting recipient of the same worker as rcpts[first] into
 * `found`; what is found belongs to this group alone. */
MAY_WAIT static size_t gather(struct local_job *j, size_t first,
                              struct lmtp_worker *to, struct local_rcpt **found)
{
    struct local_rcpt *lead = &j->rcpts[first];
    struct err err;
    size_t n = 0;

    found[n++] = lead;
    lead->has_place = false;
    if (lead->place.kind != LMTP_MAILBOX)
        return n;
    for (size_t i = first + 1; i < j->n_rcpts && n < LMTP_RCPTS_MAX; i++) {
        struct local_rcpt *r = &j->rcpts[i];
        struct lmtp_worker *w;

        if (r->is_done || !r->has_place || r->place.kind != LMTP_MAILBOX ||
            r->place.uid != lead->place.uid)
            continue;
        if (lmtp_worker_get(j->local->workers, &r->place, &w, &err) < 0) {
            local_failed(j, r, &err);
            continue;
        }
        if (w == to) {
            found[n++] = r;
            r->has_place = false;
        }
        lmtp_worker_put(&w);
    }
    return n;
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

/* Until fewer than `below` groups run.  They end by their own deadlines, and
 * refer to the job, so nothing shortens this wait. */
MAY_WAIT static void wait_groups(struct running *running, size_t below)
{
    struct err ignored;

    running->waiter = task_self();
    while (running->n >= below)
        (void)task_wait(clock_after((msec)60 * 1000), &ignored);
    running->waiter = NULL;
}

/* Send rcpts[i], and who shares its worker, on their way. */
MAY_WAIT static void begin_group(struct local_job *j, size_t i,
                                 struct running *running,
                                 struct local_rcpt **found)
{
    struct local_rcpt *lead = &j->rcpts[i];
    struct group *g = arena_alloc(j->arena, sizeof *g);
    struct err err;

    if (g != NULL)
        *g = (struct group){ .job = j, .running = running };
    if (g == NULL) {
        err_temp(&err, "delivery: no memory");
        local_failed(j, lead, &err);
        return;
    }
    if (lmtp_worker_get(j->local->workers, &lead->place, &g->worker, &err) <
        0) {
        local_failed(j, lead, &err);
        return;
    }
    g->n = gather(j, i, g->worker, found);
    g->rcpts = arena_alloc(j->arena, g->n * sizeof(struct local_rcpt *));
    if (g->rcpts == NULL) {
        err_temp(&err, "delivery: no memory");
        for (size_t k = 0; k < g->n; k++)
            local_failed(j, found[k], &err);
        lmtp_worker_put(&g->worker);
        return;
    }
    memcpy(g->rcpts, found, g->n * sizeof(struct local_rcpt *));
    running->n++;
    if (g->n == j->n_rcpts)
        group_task(g); /* all there is: no task of its own */
    else
        (void)task_spawn("local-group", group_task, g);
}

void local_deliver(struct local_job *j)
{
    struct local_rcpt **found CLEANUP(free_ptr) =
        xcalloc(j->n_rcpts < LMTP_RCPTS_MAX ? j->n_rcpts : LMTP_RCPTS_MAX,
                sizeof(struct local_rcpt *));
    struct running running = { 0 };

    for (size_t i = 0; i < j->n_rcpts; i++) {
        if (j->rcpts[i].is_done || !j->rcpts[i].has_place)
            continue;
        wait_groups(&running, GROUPS_MAX);
        begin_group(j, i, &running, found);
    }
    wait_groups(&running, 1);
}
