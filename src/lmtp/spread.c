/* A message to the workers of its recipients, side by side. */
#include "ipc/ipc.h"
#include "lmtp/lmtp.h"

/* Groups on their way at once: each is another worker's, mostly another user's,
 * so they need not wait for each other. */
#define GROUPS_MAX 20

struct running {
    const struct lmtp_spread *s;
    size_t n;
    struct task *waiter; /* while it waits */
    bool *is_taken;      /* a recipient has a group, or had one */
    size_t *found;       /* who belongs to the next group */
};

struct group {
    struct running *running;
    struct lmtp_worker *worker;
    size_t *rcpts;
    size_t n;
};

static bool is_open(const struct lmtp_spread *s, size_t i)
{
    return s->place(s->arg, i) != NULL;
}

static void fail_all(const struct lmtp_spread *s, const size_t *rcpts, size_t n,
                     const struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (is_open(s, rcpts[i]))
            s->failed(s->arg, rcpts[i], err);
}

/* Wait until what is only visible is durable: one wait per file system. */
MAY_WAIT static void make_durable(const struct group *g,
                                  const struct lmtp_rcpt *answers,
                                  uint64_t since)
{
    const struct lmtp_spread *s = g->running->s;
    uint64_t synced = 0;
    bool has_synced = false;
    struct err err;
    int result = 0;

    for (size_t i = 0; i < g->n; i++) {
        const struct lmtp_rcpt *a = &answers[i];

        if (a->code != 250 || a->is_durable)
            continue;
        if (!has_synced || a->fs != synced) {
            if (s->syncing != NULL)
                s->syncing(s->arg);
            result = lmtp_sync(s->syncs, a->fs, since, &err);
            synced = a->fs;
            has_synced = true;
        }
        if (result < 0)
            s->failed(s->arg, g->rcpts[i], &err);
    }
}

MAY_WAIT static void run_group(const struct group *g)
{
    const struct lmtp_spread *s = g->running->s;
    struct lmtp_rcpt *v = arena_alloc(s->arena, g->n * sizeof *v);
    uint64_t since = lmtp_syncs_generation(s->syncs);
    struct err err;
    int result;

    if (v == NULL) {
        err_temp(&err, "delivery: no memory");
        fail_all(s, g->rcpts, g->n, &err);
        return;
    }
    for (size_t i = 0; i < g->n; i++)
        s->fill(s->arg, g->rcpts[i], &v[i]);
    result =
        lmtp_worker_deliver(g->worker, s->message, v, g->n, s->arena, &err);
    make_durable(g, v, since);
    for (size_t i = 0; i < g->n; i++)
        if (v[i].code != 0 && is_open(s, g->rcpts[i]))
            s->answered(s->arg, g->rcpts[i], &v[i]);
    if (result < 0)
        fail_all(s, g->rcpts, g->n, &err);
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
 * refer to the message, so nothing shortens this wait. */
MAY_WAIT static void wait_groups(struct running *running, size_t below)
{
    struct err ignored;

    running->waiter = task_self();
    while (running->n >= below)
        (void)task_wait(clock_after((msec)60 * 1000), &ignored);
    running->waiter = NULL;
}

/* Everybody who shares the worker of `lead`, into running->found. */
MAY_WAIT static size_t gather(struct running *running, size_t lead,
                              struct lmtp_worker *to)
{
    const struct lmtp_spread *s = running->s;
    const struct lmtp_place *first = s->place(s->arg, lead);
    struct err err;
    size_t n = 0;

    running->found[n++] = lead;
    running->is_taken[lead] = true;
    if (first->kind != LMTP_MAILBOX)
        return n;
    for (size_t i = lead + 1; i < s->n && n < LMTP_RCPTS_MAX; i++) {
        const struct lmtp_place *p = s->place(s->arg, i);
        struct lmtp_worker *w;

        if (running->is_taken[i] || p == NULL || p->kind != LMTP_MAILBOX ||
            p->uid != first->uid)
            continue;
        if (lmtp_worker_get(s->workers, p, &w, &err) < 0) {
            s->failed(s->arg, i, &err);
            continue;
        }
        if (w == to) {
            running->found[n++] = i;
            running->is_taken[i] = true;
        }
        lmtp_worker_put(&w);
    }
    return n;
}

/* Send recipient i, and who shares its worker, on their way. */
MAY_WAIT static void begin_group(struct running *running, size_t i)
{
    const struct lmtp_spread *s = running->s;
    struct group *g = arena_alloc(s->arena, sizeof *g);
    struct lmtp_worker *worker = NULL;
    struct err err;
    size_t n;

    if (lmtp_worker_get(s->workers, s->place(s->arg, i), &worker, &err) < 0) {
        s->failed(s->arg, i, &err);
        return;
    }
    n = gather(running, i, worker);
    if (g != NULL)
        *g = (struct group){ running, worker,
                             arena_alloc(s->arena, n * sizeof *g->rcpts), n };
    if (g == NULL || g->rcpts == NULL) {
        err_temp(&err, "delivery: no memory");
        fail_all(s, running->found, n, &err);
        lmtp_worker_put(&worker);
        return;
    }
    memcpy(g->rcpts, running->found, n * sizeof *g->rcpts);
    running->n++;
    if (n == s->n)
        group_task(g); /* all there is: no task of its own */
    else
        (void)task_spawn("lmtp-group", group_task, g);
}

void lmtp_spread(const struct lmtp_spread *s)
{
    bool *is_taken CLEANUP(free_ptr) = xcalloc(s->n, sizeof *is_taken);
    size_t *found CLEANUP(free_ptr) =
        xcalloc(s->n < LMTP_RCPTS_MAX ? s->n : LMTP_RCPTS_MAX, sizeof *found);
    struct running running = { .s = s, .is_taken = is_taken, .found = found };

    for (size_t i = 0; i < s->n; i++) {
        if (is_taken[i] || !is_open(s, i))
            continue;
        wait_groups(&running, GROUPS_MAX);
        begin_group(&running, i);
    }
    wait_groups(&running, 1);
}
