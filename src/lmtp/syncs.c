/* One BROKER_SYNC for many deliveries. */
#include "ipc/ipc.h"
#include "lmtp/lmtp.h"
#include "rt/rt.h"

#define SYNC_MS ((msec)300 * 1000)
/* A round of few waits so long for deliveries that are on their way. */
#define GATHER_MS     2
#define GATHER_ENOUGH 16

/* Deliveries on one file system that wait for a sync to begin after them. */
struct round {
    struct list link;
    uint64_t fs;
    uint64_t since; /* the lowest generation of those who wait */
    bool is_begun;  /* its task is there */
    bool is_sent;   /* no more may join */
    bool is_done;
    int result;
    struct err err;
    unsigned n_waiters;
    struct waitq done;
};

struct lmtp_syncs {
    struct link *broker;
    bool hurry;
    struct list rounds;
    size_t n_coming; /* deliveries that will want to join */
    struct waitq calm;
    uint64_t generation; /* of failed syncs, as the broker last told */
};

struct lmtp_syncs *lmtp_syncs_new(struct link *broker, bool hurry)
{
    struct lmtp_syncs *s = xcalloc(1, sizeof *s);

    s->broker = broker;
    s->hurry = hurry;
    list_init(&s->rounds);
    waitq_init(&s->calm);
    return s;
}

uint64_t lmtp_syncs_generation(const struct lmtp_syncs *s)
{
    return s->generation;
}

void lmtp_syncs_learn(struct lmtp_syncs *s, slice answer)
{
    uint64_t now = attr_u64_or(answer, AT_GENERATION, 0);

    if (now > s->generation)
        s->generation = now;
}

/* A round of this file system that has not begun, and whether one runs. */
static struct round *open_round(struct lmtp_syncs *s, uint64_t fs, bool *runs)
{
    struct round *open = NULL;

    *runs = false;
    list_each(it, &s->rounds) {
        struct round *r = CONTAINER_OF(it, struct round, link);

        if (r->fs != fs || r->is_done)
            continue;
        if (r->is_sent)
            *runs = true;
        else
            open = r;
    }
    return open;
}

MAY_WAIT static void run_round(void *arg);

struct run {
    struct lmtp_syncs *syncs;
    struct round *round;
};

static void next_round(struct lmtp_syncs *s, uint64_t fs)
{
    bool runs;
    struct round *r = open_round(s, fs, &runs);

    if (r != NULL && !runs && !r->is_begun) {
        struct run *run = xcalloc(1, sizeof *run);

        r->is_begun = true;
        run->syncs = s;
        run->round = r;
        task_spawn("local-sync", run_round, run);
    }
}

void lmtp_syncs_coming(struct lmtp_syncs *s, int change)
{
    CHECK(change > 0 || s->n_coming > 0);
    s->n_coming = change > 0 ? s->n_coming + 1 : s->n_coming - 1;
    if (s->n_coming == 0)
        waitq_wake_all(&s->calm);
}

/* Half as many syncs as if each were begun at once: who is answered by the one
 * sends again while the next one runs. */
MAY_WAIT static void gather(struct lmtp_syncs *s, const struct round *r)
{
    msec until = clock_after(GATHER_MS);
    struct err ignored;

    while (s->n_coming > 0 && r->n_waiters < GATHER_ENOUGH)
        if (waitq_wait(&s->calm, until, &ignored) < 0)
            return;
}

MAY_WAIT static void run_round(void *arg)
{
    struct run *run = arg;
    struct lmtp_syncs *s = run->syncs;
    struct round *r = run->round;
    struct msg answer;
    struct buf b;
    slice why;

    free(run);
    gather(s, r);
    r->is_sent = true;
    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_FSID, r->fs);
    (void)attr_put_u64(&b, AT_GENERATION, r->since);
    if (s->hurry)
        (void)attr_put_u64(&b, AT_FLAGS, 1);
    r->result = link_call(s->broker, BROKER_SYNC, buf_view(&b), NULL, 0,
                          clock_after(SYNC_MS), &answer, &r->err);
    if (r->result == 0) {
        lmtp_syncs_learn(s, answer.body);
        if (attr_find(answer.body, AT_LOGTEXT, &why))
            r->result = err_temp(&r->err, "%.*s", SLF(why));
        msg_free(&answer);
    }
    buf_done(&b);
    r->is_done = true;
    waitq_wake_all(&r->done);
    next_round(s, r->fs);
    if (r->n_waiters == 0) { /* they gave up */
        list_remove(&r->link);
        free(r);
    }
}

int lmtp_sync(struct lmtp_syncs *s, uint64_t fs, uint64_t since,
              struct err *err)
{
    struct err ignored;
    bool runs;
    struct round *r = open_round(s, fs, &runs);
    int result;

    if (r == NULL) {
        r = xcalloc(1, sizeof *r);
        r->fs = fs;
        r->since = since;
        waitq_init(&r->done);
        list_push(&s->rounds, &r->link);
    }
    if (since < r->since)
        r->since = since;
    if (++r->n_waiters == GATHER_ENOUGH)
        waitq_wake_all(&s->calm);
    /* Let the deliveries that end in this turn join before it goes out. */
    if (!runs) {
        task_yield();
        next_round(s, fs);
    }
    while (!r->is_done)
        if (waitq_wait(&r->done, clock_after(SYNC_MS), &ignored) < 0)
            break;
    result = r->is_done ? r->result : -1;
    if (!r->is_done)
        err_temp(err, "the shared sync did not end in time");
    else if (result < 0)
        *err = r->err;
    if (--r->n_waiters == 0 && r->is_done) {
        list_remove(&r->link);
        free(r);
    }
    return result;
}
