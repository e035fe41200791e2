#include "base/base.h"

#include "base/codec.h"
#include "ipc/event.h"
#include "mail/mail.h"
#include "queue/queue_priv.h"

/*
 * What the commands (mailq, postqueue, postsuper, postcat) ask for and change.
 * The queue may be long: sequence numbers are taken once, messages are found
 * again one by one, and output waits for the reader.
 */

#define VIEW_MESSAGE_MAX ((size_t)64 << 20)
#define FLUSH_EVERY      32
#define FLUSH_MS         60000

struct request {
    struct list link; /* in queue.serving */
    struct task *task;
    struct queue *q;
    struct chan *c;
    struct msg *m;
    bool is_all;
    bool has_routes;
    slice site; /* NAME of a flush or list; empty: all */
};

static const char *kind_of(const struct spool_message *m)
{
    const struct qmsg *qm = spool_message_user(m);

    if (spool_message_held(m))
        return "hold";
    if (qm != NULL && queue_msg_active(qm) != NULL)
        return "active";
    return spool_message_attempts(m) == 0 ? "incoming" : "deferred";
}

/* Is this kind wanted?  Without KIND attributes all are. */
static bool is_kind_wanted(const struct request *r,
                           const struct spool_message *m)
{
    slice in = r->m->body;
    struct attr at;
    bool is_any = true;

    while (attr_next(&in, &at) == 1) {
        if (at.tag != AT_KIND)
            continue;
        if (slice_eqs(at.v, kind_of(m)))
            return true;
        is_any = false;
    }
    return is_any;
}

/* ------------------------------------------------------- choosing messages */

/* The numbers of the messages that the request is about, on the heap. */
static size_t chosen(struct request *r, uint64_t **out)
{
    slice in = r->m->body;
    struct attr at;
    size_t n = 0;
    bool has_id = false;

    *out = NULL;
    while (attr_next(&in, &at) == 1) {
        struct spool_message *m;

        if (at.tag != AT_QUEUE_ID)
            continue;
        has_id = true;
        if (slice_eqs(at.v, "ALL"))
            r->is_all = true;
        m = spool_find_id(r->q->spool, at.v);
        if (m == NULL)
            continue;
        *out = xrealloc(*out, (n + 1) * sizeof(**out));
        (*out)[n++] = spool_message_seq(m);
    }
    if (has_id && !r->is_all)
        return n;
    free(*out);
    r->is_all = true;
    return spool_seqs(r->q->spool, out);
}

/* `postqueue -s site`: has it a waiting recipient there? */
uint32_t queue_site_bit(slice addr)
{
    slice local;
    slice domain;
    uint32_t h = 2166136261u; /* FNV-1a, without regard to case */

    if (!mail_addr_split(addr, &local, &domain))
        return 0;
    for (size_t i = 0; i < domain.n; i++)
        h = (h ^ (uint8_t)(domain.p[i] | 0x20)) * 16777619u;
    return 1u << (h >> 27);
}

static uint32_t site_bit(slice site)
{
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 8192);
    (void)buf_puts(&b, "x@");
    (void)buf_slice(&b, site);
    return queue_site_bit(buf_view(&b));
}

static bool has_site(const struct spool_detail *d, slice site)
{
    for (size_t i = 0; i < d->n_rcpts; i++) {
        slice local;
        slice domain;

        if (!d->rcpts[i].settled &&
            mail_addr_split(d->rcpts[i].addr, &local, &domain) &&
            slice_ieq(domain, site))
            return true;
    }
    return false;
}

/* ------------------------------------------------------------------ looking */

/* Where it would go now; nothing where that cannot be said. */
static MAY_WAIT void put_route(struct queue *q, struct buf *one,
                               const struct spool_detail *d,
                               const struct spool_rcpt *r)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    struct queue_route route;
    struct err err;

    if (queue_is_special(r->addr)) {
        (void)attr_put_str(one, AT_TRANSPORT, "local");
        return;
    }
    a = arena_new(1 << 20);
    if (q->ops->resolve(q->arg, r->has_owner ? r->owner : d->envelope.sender,
                        r->addr, a, &route, &err) < 0)
        return;
    (void)attr_put(one, AT_TRANSPORT, route.transport);
    (void)attr_put(one, AT_NEXTHOP, route.nexthop);
}

static MAY_WAIT void put_rcpts(struct buf *b, struct queue *q,
                               const struct spool_detail *d, bool has_routes)
{
    struct buf one;

    buf_init(&one, CHAN_MAX_BYTES);
    for (size_t i = 0; i < d->n_rcpts; i++) {
        if (d->rcpts[i].settled)
            continue;
        buf_clear(&one);
        (void)attr_put(&one, AT_ADDR,
                       queue_shown(d->rcpts[i].addr, d->rcpts[i].path));
        if (d->rcpts[i].reason.n > 0)
            (void)attr_put(&one, AT_REASON, d->rcpts[i].reason);
        if (d->rcpts[i].status.n > 0)
            (void)attr_put(&one, AT_STATUS, d->rcpts[i].status);
        if (has_routes)
            put_route(q, &one, d, &d->rcpts[i]);
        /* A message may have more recipients than a frame holds: who looks at
         * the queue sees the first some ten thousand. */
        if (b->n + one.n + 8192 > b->max)
            break;
        (void)attr_put(b, AT_RCPT, buf_view(&one));
    }
    buf_done(&one);
}

/* Why it is not delivered just now, for people. */
static void put_why(struct buf *b, const struct queue *q,
                    const struct spool_message *m)
{
    const struct qmsg *qm = spool_message_user(m);

    if (spool_message_held(m))
        (void)attr_put_str(b, AT_TEXT, "held by the administrator");
    else if (qm == NULL)
        return;
    else if (qm->where == QM_PARKED)
        (void)attr_put_str(b, AT_TEXT,
                           "its destination has more than its share of the "
                           "active queue");
    else if (qm->where != QM_WAITING)
        (void)attr_put_str(b, AT_TEXT, "being delivered");
    else if (qm->in.node.key > clock_wall())
        (void)attr_put_str(b, AT_TEXT, "waits for its next try");
    else if (q->n_active >= q->set->active_limit)
        (void)attr_put_str(b, AT_TEXT,
                           "due, but qmgr_message_active_limit is reached");
    else
        (void)attr_put_str(b, AT_TEXT, "due");
}

static void put_item(struct buf *b, const struct queue *q,
                     const struct spool_message *m,
                     const struct spool_detail *d)
{
    char id[MAIL_QUEUE_ID_SIZE];

    spool_message_id(m, id);
    (void)attr_put_str(b, AT_QUEUE_ID, id);
    (void)attr_put(b, AT_SENDER, d->envelope.sender);
    (void)attr_put_u64(b, AT_SIZE, spool_message_size(m));
    (void)attr_put_u64(b, AT_ARRIVAL, (uint64_t)spool_message_arrival_ms(m));
    (void)attr_put_str(b, AT_KIND, kind_of(m));
    (void)attr_put_u64(b, AT_TIME, (uint64_t)spool_message_next_try(m));
    (void)attr_put_u64(b, AT_ATTEMPTS,
                       spool_message_attempts(m) & ~ATTEMPTS_WARNED);
    put_why(b, q, m);
    for (size_t i = 0; i < d->n_rcpts; i++)
        if (!d->rcpts[i].settled && d->rcpts[i].reason.n > 0) {
            (void)attr_put(b, AT_REASON, d->rcpts[i].reason);
            break;
        }
}

/* Send one message's item; false when the reader is gone. */
static MAY_WAIT bool list_one(struct request *r, uint64_t seq)
{
    struct arena *a CLEANUP(arena_free) = arena_new(VIEW_MESSAGE_MAX);
    struct spool_message *m = spool_find(r->q->spool, seq);
    struct spool_detail d;
    struct buf b CLEANUP(buf_done);
    struct err err;

    buf_init(&b, CHAN_MAX_BYTES - 1024);
    if (m == NULL || !is_kind_wanted(r, m) ||
        spool_load(r->q->spool, m, a, &d, &err) < 0)
        return true;
    m = spool_find(r->q->spool, seq); /* we may have waited */
    if (m == NULL || (r->site.n > 0 && !has_site(&d, r->site)))
        return true;
    put_item(&b, r->q, m, &d);
    put_rcpts(&b, r->q, &d, r->has_routes);
    return chan_send(r->c, QUEUE_ITEM, buf_view(&b), NULL, 0, &err) == 0;
}

static MAY_WAIT void serve_list(struct request *r)
{
    uint64_t *seqs CLEANUP(free_ptr) = NULL;
    size_t n = chosen(r, &seqs);
    struct err err;

    for (size_t i = 0; i < n && !r->q->is_closing; i++) {
        if (!list_one(r, seqs[i]))
            return;
        if (i % FLUSH_EVERY == FLUSH_EVERY - 1 &&
            chan_flush(r->c, clock_after(FLUSH_MS), &err) < 0)
            return;
        task_yield_if_long();
    }
    (void)chan_send(r->c, QUEUE_END, SL(""), NULL, 0, &err);
    chan_answer(r->c, r->m->id, SL(""), NULL, 0);
}

static MAY_WAIT int cat(struct request *r, struct spool_message *m,
                        struct err *err)
{
    struct arena *a CLEANUP(arena_free) = arena_new(VIEW_MESSAGE_MAX);
    uint64_t seq = spool_message_seq(m);
    struct buf *head = &r->q->scratch;
    struct buf b CLEANUP(buf_done);
    struct spool_detail d;
    uint64_t at;
    uint64_t bytes;
    int fd;

    buf_init(&b, CHAN_MAX_BYTES - 1024);
    if (spool_load(r->q->spool, m, a, &d, err) < 0)
        return -1;
    m = spool_find(r->q->spool, seq);
    if (m == NULL)
        return err_perm(err, "the message was deleted");
    if (spool_read_fd(r->q->spool, m, &fd, &at, &bytes, err) < 0)
        return -1;
    buf_clear(head);
    if (!envelope_encode(head, &d.envelope) ||
        !attr_put(&b, AT_HEAD, buf_view(head)))
        return err_temp(err, "the envelope is too large to be shown");
    (void)attr_put_u64(&b, AT_BODY_OFFSET, at);
    (void)attr_put_u64(&b, AT_BODY_BYTES, bytes);
    put_item(&b, r->q, m, &d);
    put_rcpts(&b, r->q, &d, false);
    chan_answer(r->c, r->m->id, buf_view(&b), &fd, 1);
    return 0;
}

static MAY_WAIT void serve_cat(struct request *r)
{
    struct spool_message *m = NULL;
    struct err err;
    slice id;

    if (attr_find(r->m->body, AT_QUEUE_ID, &id))
        m = spool_find_id(r->q->spool, id);
    if (m == NULL) {
        (void)err_perm(&err, "no such message in the queue");
        chan_fail(r->c, r->m->id, &err);
    } else if (cat(r, m, &err) < 0) {
        chan_fail(r->c, r->m->id, &err);
    }
}

/* ----------------------------------------------------------------- changing */

typedef void change_fn(struct queue *q, struct spool_message *m);

static void schedule_now(struct queue *q, struct spool_message *m)
{
    struct qmsg *qm = spool_message_user(m);

    if (qm != NULL)
        queue_msg_wait(q, qm, 0);
}

static void change_hold(struct queue *q, struct spool_message *m)
{
    spool_hold(q->spool, m, true);
    schedule_now(q, m); /* takes it out of the heap */
}

static void change_release(struct queue *q, struct spool_message *m)
{
    spool_hold(q->spool, m, false);
    schedule_now(q, m);
}

static void change_requeue(struct queue *q, struct spool_message *m)
{
    if (spool_message_held(m))
        spool_hold(q->spool, m, false);
    spool_requeue(q->spool, m);
    schedule_now(q, m);
}

static void change_delete(struct queue *q, struct spool_message *m)
{
    struct qmsg *qm = spool_message_user(m);
    char id[MAIL_QUEUE_ID_SIZE];

    spool_message_id(m, id);
    spool_delete(q->spool, m);
    if (qm != NULL)
        queue_msg_gone(q, qm);
    log_removed(id);
}

static void change_flush(struct queue *q, struct spool_message *m)
{
    struct qmsg *qm = spool_message_user(m);

    if (qm == NULL || queue_msg_active(qm) != NULL || spool_message_held(m))
        return;
    qm->is_flushed = true;
    schedule_now(q, m);
}

/* Most of a long queue is for other sites, which shows without a look at the
 * disk once a message was read. */
static MAY_WAIT bool is_message_at(struct queue *q, uint64_t seq, slice site)
{
    struct arena *a CLEANUP(arena_free) = NULL;
    struct spool_message *m = spool_find(q->spool, seq);
    struct qmsg *qm = m != NULL ? spool_message_user(m) : NULL;
    struct spool_detail d;
    struct err err;

    if (qm == NULL || (qm->sites != 0 && (qm->sites & site_bit(site)) == 0))
        return false;
    a = arena_new(VIEW_MESSAGE_MAX);
    if (spool_load(q->spool, m, a, &d, &err) < 0)
        return false;
    m = spool_find(q->spool, seq); /* we may have waited */
    qm = m != NULL ? spool_message_user(m) : NULL;
    for (size_t i = 0; qm != NULL && i < d.n_rcpts; i++)
        qm->sites |= queue_site_bit(d.rcpts[i].addr);
    return has_site(&d, site);
}

static MAY_WAIT bool is_at_site(struct request *r, uint64_t seq)
{
    return r->site.n == 0 || is_message_at(r->q, seq, r->site);
}

/* Does the change make sense for this message? */
static bool is_meant(const struct request *r, const struct spool_message *m)
{
    bool is_held = spool_message_held(m);

    if (!is_kind_wanted(r, m))
        return false;
    if (r->m->type == QUEUE_HOLD || r->m->type == QUEUE_FLUSH)
        return !is_held;
    if (r->m->type == QUEUE_RELEASE)
        return is_held;
    return true;
}

static MAY_WAIT void serve_change(struct request *r, change_fn *fn)
{
    uint64_t *seqs CLEANUP(free_ptr) = NULL;
    size_t n = chosen(r, &seqs);
    size_t n_done = 0;
    struct buf b CLEANUP(buf_done);
    struct err err;

    buf_init(&b, 64);
    if (r->m->type == QUEUE_FLUSH)
        dests_revive(r->q);
    for (size_t i = 0; i < n && !r->q->is_closing; i++) {
        struct spool_message *m;

        task_yield_if_long();
        if (!is_at_site(r, seqs[i]))
            continue;
        m = spool_find(r->q->spool, seqs[i]);
        if (m == NULL || !is_meant(r, m))
            continue;
        fn(r->q, m);
        n_done++;
    }
    /* What the administrator was told must hold after a crash. */
    if (r->m->type != QUEUE_FLUSH && n_done > 0 &&
        spool_sync(r->q->spool, &err) < 0) {
        chan_fail(r->c, r->m->id, &err);
        return;
    }
    (void)attr_put_u64(&b, AT_SIZE, n_done);
    chan_answer(r->c, r->m->id, buf_view(&b), NULL, 0);
}

/* -------------------------------------------------------------------- ETRN */

/* Searches of a long queue at once. */
#define ETRNS_MAX 4

static MAY_WAIT void flush_site(struct queue *q, slice site)
{
    uint64_t *seqs CLEANUP(free_ptr) = NULL;
    size_t n = spool_seqs(q->spool, &seqs);

    dests_revive(q);
    for (size_t i = 0; i < n && !q->is_closing; i++) {
        struct spool_message *m;

        task_yield_if_long();
        if (!is_message_at(q, seqs[i], site))
            continue;
        m = spool_find(q->spool, seqs[i]);
        if (m != NULL)
            change_flush(q, m);
    }
}

/* FLAGS of the answer. */
enum { ETRN_STARTED = 0, ETRN_NOT_HERE = 2 };

static void answer_etrn(struct chan *c, const struct msg *m, uint64_t flags)
{
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_FLAGS, flags);
    chan_answer(c, m->id, buf_view(&b), NULL, 0);
}

void queue_etrn(struct queue *q, struct chan *c, struct msg *m)
{
    slice site = SLICE_NONE;
    bool is_ours = false;
    struct err err;

    (void)attr_find(m->body, AT_NAME, &site);
    if (!q->is_open || q->is_closing || q->n_etrns >= ETRNS_MAX) {
        (void)err_temp(&err, "the queue is busy");
        chan_fail(c, m->id, &err);
        return;
    }
    q->n_tasks++;
    q->n_etrns++;
    if (q->ops->is_fast_flush != NULL && site.n > 0 &&
        q->ops->is_fast_flush(q->arg, site, &is_ours, &err) < 0)
        chan_fail(c, m->id, &err);
    else
        answer_etrn(c, m, is_ours ? ETRN_STARTED : ETRN_NOT_HERE);
    if (is_ours)
        flush_site(q, site);
    q->n_etrns--;
    queue_task_ended(q);
}

/* ----------------------------------------------------------------- dispatch */

static const struct {
    uint16_t type;
    change_fn *fn;
} changes[] = {
    { QUEUE_FLUSH, change_flush },     { QUEUE_HOLD, change_hold },
    { QUEUE_RELEASE, change_release }, { QUEUE_DELETE, change_delete },
    { QUEUE_REQUEUE, change_requeue },
};

static MAY_WAIT void serve(struct request *r)
{
    struct err err;

    (void)attr_find(r->m->body, AT_NAME, &r->site);
    r->has_routes = (attr_u64_or(r->m->body, AT_FLAGS, 0) & 1) != 0;
    if (r->m->type == QUEUE_LIST) {
        serve_list(r);
        return;
    }
    if (r->m->type == QUEUE_CAT) {
        serve_cat(r);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        if (changes[i].type == r->m->type) {
            serve_change(r, changes[i].fn);
            return;
        }
    (void)err_perm(&err, "the queue does not know this request");
    chan_fail(r->c, r->m->id, &err);
}

/* One who does not read what he asked for does not hold up the stop. */
void requests_cancel(struct queue *q)
{
    list_each(it, &q->serving)
        task_cancel(CONTAINER_OF(it, struct request, link)->task);
}

void queue_serve(struct queue *q, struct chan *c, struct msg *m)
{
    struct request r = { .q = q, .c = c, .m = m, .task = task_self() };
    struct err err;

    if (!q->is_open || q->is_closing) {
        (void)err_temp(&err, "the queue is not open");
        chan_fail(c, m->id, &err);
        return;
    }
    q->n_tasks++;
    list_push(&q->serving, &r.link);
    serve(&r);
    list_remove(&r.link);
    queue_task_ended(q);
}
