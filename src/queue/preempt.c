#include "base/base.h"

#include "queue/queue_priv.h"

/*
 * Preemption, by the algorithm of Postfix's SCHEDULER_README.
 *
 * Each delivery of a message earns it a slot.  <transport>_delivery_slot_cost
 * slots are worth one delivery of another message, which then goes first: the
 * one with the best delay/deliveries that is small enough to be paid.  It is
 * let in early by _slot_discount per cent of its deliveries and _slot_loan
 * more; the big message earns the rest before it is preempted again.  So a
 * message is delayed by 1/slot_cost of its own time at most.
 *
 * Unlike in Postfix destinations of unrelated messages take turns (dest.c), so
 * the algorithm begins with the message whose turn it is, and a message that
 * preempts it goes on until its last delivery or until it has to wait for its
 * destinations.  No more than CANDIDATES_MAX messages are looked at.
 */

#define CANDIDATES_MAX 1000
/* Destinations of one message that are looked at for room. */
#define LOOK_MAX 64

/* -------------------------------------------------------------------- works */

struct work *work_get(struct active *a, struct transport *t)
{
    struct work *w;

    list_each(it, &a->works) {
        w = CONTAINER_OF(it, struct work, of_active);
        if (w->t == t)
            return w;
    }
    w = xcalloc(1, sizeof *w);
    w->t = t;
    w->order = ++a->q->n_works;
    w->since = clock_mono();
    list_init(&w->jobs);
    list_init(&w->children);
    list_init(&w->sibling);
    list_push(&t->works, &w->link);
    list_push(&a->works, &w->of_active);
    t->n_changes++;
    return w;
}

void work_add(struct work *w, struct job *j)
{
    j->work = w;
    list_push(&w->jobs, &j->of_work);
    w->n_all++;
    w->t->n_changes++;
}

/* Out of the stack: what it used less than expected is given back, and who
 * preempted it has preempted its parent. */
static void work_pop(struct work *w)
{
    struct work *parent = w->parent;
    struct list *l;

    if (parent != NULL)
        parent->slots -= w->used * w->t->slot_cost;
    while ((l = list_pop(&w->children)) != NULL) {
        CONTAINER_OF(l, struct work, sibling)->parent = parent;
        if (parent != NULL)
            list_push(&parent->children, l);
    }
    list_remove(&w->sibling);
    w->parent = NULL;
}

static void work_retire(struct work *w)
{
    struct transport *t = w->t;
    struct work *parent = w->parent;

    work_pop(w);
    if (t->current == w)
        t->current = parent != NULL && parent->parent != NULL ? parent : NULL;
    if (t->sought == w)
        t->sought = NULL;
    list_remove(&w->link);
    list_remove(&w->of_active);
    free(w);
}

void work_leave(struct job *j)
{
    struct work *w = j->work;

    if (w == NULL)
        return;
    j->work = NULL;
    list_remove(&j->of_work);
    w->n_taken++;
    w->slots++;
    w->used++;
    if (list_empty(&w->jobs))
        work_retire(w);
}

/* --------------------------------------------------------------- candidates */

static bool is_ready(const struct job *j)
{
    return !list_empty(&j->d->ready[j->kind]);
}

static struct job *ready_job(const struct work *w)
{
    size_t n = 0;

    list_each(it, &w->jobs) {
        struct job *j = CONTAINER_OF(it, struct job, of_work);

        if (is_ready(j))
            return j;
        if (++n == LOOK_MAX)
            break;
    }
    return NULL;
}

/* The best one for the slots that w has and will have; none of those it stands
 * behind. */
static struct work *find_candidate(const struct work *w)
{
    const struct transport *t = w->t;
    int64_t max_slots =
        ((int64_t)(w->n_all - w->n_taken) + w->slots) / t->slot_cost;
    msec now = clock_mono();
    struct work *best = NULL;
    double best_score = 0;
    size_t n = 0;

    for (struct list *it = w->link.next;
         max_slots > 0 && it != &t->works && n < CANDIDATES_MAX;
         it = it->next, n++) {
        struct work *c = CONTAINER_OF(it, struct work, link);
        int64_t seconds = (now - c->since) / 1000 + 1;
        double delay = (double)seconds;
        int64_t need = (int64_t)(c->n_all - c->n_taken);

        if (!list_empty(&c->children) || ready_job(c) == NULL)
            continue;
        if (need <= max_slots && delay / c->n_all > best_score) {
            best_score = delay / c->n_all;
            best = c;
        }
        if (delay <= best_score && c->parent == NULL)
            break; /* who comes later is no better */
    }
    return best;
}

static struct work *candidate(struct work *w)
{
    struct transport *t = w->t;
    struct work *c;

    if (t->sought == w && t->n_changes_then == t->n_changes)
        return NULL;
    c = find_candidate(w);
    t->sought = c == NULL ? w : NULL;
    t->n_changes_then = t->n_changes;
    return c;
}

/* --------------------------------------------------------------- preemption */

static void preempt(struct work *w, struct work *by)
{
    int64_t need = (int64_t)(by->n_all - by->n_taken);

    work_pop(by);
    list_remove(&by->link);
    list_insert(&w->link, &by->link);
    by->parent = w;
    list_push(&w->children, &by->sibling);
    w->slots -= need * w->t->slot_cost;
    by->used = -need;
    for (struct list *it = by->jobs.prev; it != &by->jobs; it = it->prev) {
        struct job *j = CONTAINER_OF(it, struct job, of_work);

        list_remove(&j->link);
        list_push_front(&j->d->jobs[j->kind], &j->link);
    }
    w->t->current = by;
}

struct job *preempt_choose(struct transport *t, struct job *big)
{
    struct work *w = big->work;
    struct work *by;
    int64_t need;

    if (t->slot_cost < 2 || w->slots <= 0 ||
        w->n_all < t->min_slots * t->slot_cost)
        return NULL;
    by = candidate(w);
    if (by == NULL)
        return NULL;
    need = (int64_t)(by->n_all - by->n_taken);
    if ((w->slots / t->slot_cost + (int64_t)t->slot_loan) * 100 <
        need * (100 - (int64_t)t->slot_discount))
        return NULL;
    preempt(w, by);
    return ready_job(by);
}

struct job *preempt_next(struct transport *t)
{
    struct work *w = t->current;

    for (; w != NULL && w->parent != NULL; w = w->parent) {
        struct job *j = ready_job(w);
        struct job *other = j != NULL ? preempt_choose(t, j) : NULL;

        if (other != NULL)
            return other;
        if (j != NULL)
            return j;
    }
    return NULL;
}
