/* A writer's segments: getting them, notes, sealing. */
#include "spool/writer_priv.h"

#include "base/codec.h"
#include "rt/file.h"

/* Who has not moved for so long is not waited for. */
#define COMING_MS    5
#define GATHER_BYTES (256u << 10) /* of notes kept back */

struct untold {
    struct list link;
    int fd; /* keeps the lock, so that the owner waits for the note */
    struct buf note;
};

struct spool_writer *spool_writer_new(const struct spool_source *source,
                                      void *arg,
                                      const struct spool_writer_conf *conf)
{
    struct spool_writer *w = xcalloc(1, sizeof *w);

    w->magic = WRITER_MAGIC;
    w->source = source;
    w->arg = arg;
    if (conf != NULL)
        w->conf = *conf;
    if (w->conf.draft_memory_bytes == 0)
        w->conf.draft_memory_bytes = 32u << 20;
    if (w->conf.file_pool == 0)
        w->conf.file_pool = 4;
    if (w->conf.file_pool > POOL_MAX)
        w->conf.file_pool = POOL_MAX;
    w->engine = engine_local_new();
    list_init(&w->segments);
    list_init(&w->untold);
    list_init(&w->coming);
    waitq_init(&w->fetched);
    waitq_init(&w->filled);
    buf_init(&w->note, ENVELOPE_MAX_BYTES + 4096);
    buf_init(&w->gathered, GATHER_BYTES);
    return w;
}

int writer_fail(struct err *err, int sys, const char *what)
{
    bool full = sys == ENOSPC || sys == EDQUOT || sys == EFBIG;

    err_set(err, ERR_TEMP, full ? "4.3.1" : "4.3.0",
            full ? "Insufficient system storage" : "Queue file write error");
    err_log(err, "%s: %s", what, sys != 0 ? strerror(sys) : "failed");
    if (err != NULL)
        err->sys = sys;
    return -1;
}

/* ------------------------------------------------------- telling the owner */

static int tell_note(struct spool_writer *w, slice note)
{
    struct err err;

    return w->source->tell(w->arg, SPOOL_NOTE, note, &err);
}

/* A link that is down loses them; the announcement makes up for it. */
static void gathered_send(struct spool_writer *w)
{
    slice rest = buf_view(&w->gathered);

    timer_cancel(&w->gather);
    w->gathered_at = loop_now();
    while (rest.n > 0) {
        size_t n = get_u32(rest.p);

        (void)tell_note(w, slice_sub(rest, 4, n));
        rest = slice_from(rest, 4 + n);
    }
    buf_clear(&w->gathered);
}

static void on_gather(struct timer *t)
{
    gathered_send(CONTAINER_OF(t, struct spool_writer, gather));
}

static void gather_note(struct spool_writer *w, slice note)
{
    if (note.n + 4 > GATHER_BYTES - w->gathered.n)
        gathered_send(w);
    if (note.n + 4 > GATHER_BYTES) {
        (void)tell_note(w, note);
        return;
    }
    (void)buf_u32(&w->gathered, (uint32_t)note.n);
    (void)buf_slice(&w->gathered, note);
    if (loop_now() - w->gathered_at >= w->conf.gather)
        gathered_send(w);
    else if (!timer_is_set(&w->gather))
        timer_set(&w->gather, w->gathered_at + w->conf.gather, on_gather);
}

static int tell_two(struct spool_writer *w, uint16_t type, uint64_t segment,
                    uint64_t length, const char *reason)
{
    struct buf b;
    struct err err;
    int r;

    gathered_send(w); /* in the order of what happened */
    buf_init(&b, 512);
    (void)attr_put_u64(&b, AT_SEGMENT, segment);
    (void)attr_put_u64(&b, AT_LENGTH, length);
    if (reason != NULL)
        (void)attr_put_str(&b, AT_REASON, reason);
    r = w->source->tell(w->arg, type, buf_view(&b), &err);
    buf_done(&b);
    return r;
}

static void note_put(struct buf *b, const struct spool_draft *d,
                     uint64_t segment, uint64_t at, uint64_t length)
{
    uint64_t seq = get_u64(d->envelope.p + ENVELOPE_SEQ_AT);

    (void)attr_put_u64(b, AT_SEGMENT, segment);
    (void)attr_put_u64(b, AT_OFFSET, at);
    (void)attr_put_u64(b, AT_LENGTH, length);
    (void)attr_put_u64(b, AT_SEQ, seq);
    (void)attr_put_u64(b, AT_BODY_OFFSET, at + ENGINE_RECORD_HEAD);
    (void)attr_put_u64(b, AT_BODY_BYTES, d->bytes);
    (void)attr_put(b, AT_HEAD, buf_view(&d->envelope));
}

/* ------------------------------------------------------------- who comes */

void spool_coming(struct spool_writer *w, struct spool_coming *c)
{
    if (c->link.next != NULL)
        list_remove(&c->link);
    list_push(&w->coming, &c->link);
    c->since = loop_now();
}

void spool_coming_over(struct spool_coming *c)
{
    if (c->link.next != NULL)
        list_remove(&c->link);
}

static bool is_more_coming(void *arg)
{
    const struct spool_writer *w = arg;
    const struct spool_coming *last;

    if (list_empty(&w->coming))
        return false;
    last = CONTAINER_OF(w->coming.prev, const struct spool_coming, link);
    return loop_now() - last->since <= COMING_MS;
}

/* ---------------------------------------------------------------- segments */

static struct wseg *wseg_new(struct spool_writer *w, struct spool_grant *grant,
                             struct err *err)
{
    char name[SEG_NAME_SIZE];
    struct engine_log_spec spec;
    struct wseg *g;
    struct engine_log *log = NULL;

    seg_name(name, SEGMENT_PLAIN, grant->segment);
    spec = seg_spec(name, SEGMENT_PLAIN, grant->segment, NULL);
    spec.max_bytes = grant->bytes;
    if (engine_log_adopt(w->engine, grant->fd, grant->start, &spec, &log,
                         err) != ENGINE_OK)
        return NULL;
    g = xcalloc(1, sizeof *g);
    g->writer = w;
    g->number = grant->segment;
    g->log = log;
    engine_log_patience(log, is_more_coming, w);
    list_init(&g->pending);
    list_push(&w->segments, &g->link);
    return g;
}

/* The last commit is out: the owner may take the segment over. */
static void wseg_finish(struct wseg *g)
{
    struct spool_writer *w = g->writer;

    CHECK(g->is_retired && g->n_using == 0 && list_empty(&g->pending));
    (void)tell_two(w, SPOOL_SEALED, g->number, engine_log_durable_end(g->log),
                   g->reason);
    list_remove(&g->link);
    engine_log_close(&g->log);
    free(g);
}

static void wseg_retire(struct wseg *g, const char *reason)
{
    struct spool_writer *w = g->writer;

    if (g->is_retired)
        return;
    g->is_retired = true;
    g->reason = reason;
    if (w->current == g)
        w->current = NULL;
    if (w->spare == g)
        w->spare = NULL;
    if (g->n_using == 0)
        wseg_finish(g);
}

static void send_notes(struct wseg *g)
{
    struct spool_writer *w = g->writer;
    uint64_t durable = engine_log_durable_end(g->log);

    /* Invariant 3: in the order of the records, whichever task runs first. */
    while (!list_empty(&g->pending)) {
        struct spool_draft *d =
            CONTAINER_OF(g->pending.next, struct spool_draft, pending);

        if (d->end > durable)
            break;
        list_remove(&d->pending);
        buf_clear(&w->note);
        note_put(&w->note, d, g->number, d->at, d->end - d->at);
        gather_note(w, buf_view(&w->note));
        w->stats.n_commits++;
    }
}

void wseg_done(struct wseg *g, struct spool_draft *d, enum engine_outcome o)
{
    send_notes(g);
    if (o != ENGINE_OK) {
        list_remove(&d->pending);
        g->writer->stats.n_failed++;
        /* Invariant 2: what was refused must not be found by a scan. */
        (void)file_ftruncate(engine_log_fd(g->log),
                             (off_t)engine_log_durable_end(g->log));
        if (!g->is_retired) {
            g->n_using--;
            wseg_retire(g, "write failed");
            return;
        }
    }
    g->n_using--;
    if (g->is_retired && g->n_using == 0)
        wseg_finish(g);
}

/* Ask the owner for one; who comes meanwhile waits for the same answer. */
static int fetch(struct spool_writer *w, struct wseg **out, struct err *err)
{
    struct spool_grant grant = { .fd = -1 };
    struct wseg *g = NULL;

    w->is_fetching = true;
    w->fetch_err = (struct err){ 0 };
    if (w->source->segment(w->arg, &grant, &w->fetch_err) == 0)
        g = wseg_new(w, &grant, &w->fetch_err);
    w->is_fetching = false;
    w->n_fetches++;
    waitq_wake_all(&w->fetched);
    if (g == NULL) {
        if (w->fetch_err.class == ERR_NONE)
            err_temp(&w->fetch_err, "no segment");
        if (err != NULL)
            *err = w->fetch_err;
        return -1;
    }
    w->fetch_err.class = ERR_NONE;
    *out = g;
    return 0;
}

/* What became of a request that another task made. */
static int shared_failure(const struct err *of, struct err *err)
{
    if (of->class == ERR_NONE)
        return 0;
    if (err != NULL)
        *err = *of;
    if (of->class == ERR_PEER) /* the other task's end is not ours */
        (void)err_temp(err, "a request for room was given up");
    return -1;
}

static MAY_WAIT int wait_for_fetch(struct spool_writer *w, struct err *err)
{
    uint64_t before = w->n_fetches;

    while (w->is_fetching && w->n_fetches == before) {
        if (waitq_wait(&w->fetched, clock_after(60000), err) < 0)
            return -1;
    }
    if (w->current == NULL && w->spare == NULL)
        return shared_failure(&w->fetch_err, err);
    return 0;
}

int writer_segment(struct spool_writer *w, uint64_t need, struct wseg **out,
                   struct err *err)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct wseg *g = w->current;

        if (g != NULL && engine_log_is_open(g->log) &&
            engine_log_room(g->log) >= need && g->next_place < SEG_PLACES) {
            *out = g;
            return 0;
        }
        if (g != NULL)
            wseg_retire(g, "full");
        if (w->spare != NULL) {
            w->current = w->spare;
            w->spare = NULL;
        } else if (w->is_fetching) {
            if (wait_for_fetch(w, err) < 0)
                return -1;
        } else {
            if (fetch(w, &g, err) < 0)
                return -1;
            if (w->current == NULL)
                w->current = g;
            else
                w->spare = g;
            if (engine_log_room(g->log) < need)
                return writer_fail(err, EFBIG, "message larger than a segment");
        }
    }
    return err_temp(err, "no segment with room after many tries");
}

static void prefetch_task(void *arg)
{
    struct spool_writer *w = arg;
    struct wseg *g;

    if (fetch(w, &g, NULL) == 0)
        w->spare = g;
}

void writer_prefetch(struct spool_writer *w)
{
    if (w->current != NULL && w->spare == NULL && !w->is_fetching &&
        w->fetch_err.class == ERR_NONE &&
        engine_log_room(w->current->log) <
            engine_log_end(w->current->log) / 4) {
        w->is_fetching = true; /* from here on, so that it is one */
        (void)task_spawn("spool-prefetch", prefetch_task, w);
    }
}

/* --------------------------------------------------------------- own files */

static MAY_WAIT int fill_pool(struct spool_writer *w, struct err *err)
{
    struct spool_grant got[POOL_MAX];
    size_t n = 0;
    int r;

    w->is_filling = true;
    w->fill_err = (struct err){ 0 };
    r = w->source->files(w->arg, got, w->conf.file_pool, &n, &w->fill_err);
    w->is_filling = false;
    w->n_fills++;
    waitq_wake_all(&w->filled);
    if (r < 0) {
        if (err != NULL)
            *err = w->fill_err;
        return -1;
    }
    w->fill_err.class = ERR_NONE;
    CHECK(n > 0 && n <= w->conf.file_pool);
    for (size_t i = 0; i < n; i++) {
        if (w->n_pool < POOL_MAX)
            w->pool[w->n_pool++] = got[i];
        else
            writer_file_unused(w, &got[i]);
    }
    return 0;
}

static MAY_WAIT void fill_task(void *arg)
{
    (void)fill_pool(arg, NULL);
}

/* Who waits for another's request fails with it: one after the other would
 * wait as long as all together. */
static MAY_WAIT int wait_for_fill(struct spool_writer *w, struct err *err)
{
    uint64_t before = w->n_fills;

    while (w->is_filling && w->n_fills == before)
        if (waitq_wait(&w->filled, clock_after(60000), err) < 0)
            return -1;
    return w->n_pool == 0 ? shared_failure(&w->fill_err, err) : 0;
}

int writer_file(struct spool_writer *w, struct spool_grant *out,
                struct err *err)
{
    while (w->n_pool == 0)
        if ((w->is_filling ? wait_for_fill(w, err) : fill_pool(w, err)) < 0)
            return -1;
    *out = w->pool[--w->n_pool];
    /* Ahead of need: making them costs a sync of their directory. */
    if (w->n_pool < w->conf.file_pool / 2 && !w->is_filling) {
        w->is_filling = true;
        (void)task_spawn("spool-files", fill_task, w);
    }
    return 0;
}

void writer_file_unused(struct spool_writer *w, struct spool_grant *g)
{
    close_fd(&g->fd);
    (void)tell_two(w, SPOOL_UNUSED, g->segment, 0, NULL);
}

void writer_file_done(struct spool_writer *w, struct spool_draft *d,
                      const struct envelope *e)
{
    struct untold *u = xcalloc(1, sizeof *u);

    (void)e;
    buf_init(&u->note, ENVELOPE_MAX_BYTES + 4096);
    note_put(&u->note, d, d->file.segment, SEG_FIRST,
             SEG_OVERHEAD + d->bytes + d->envelope.n);
    u->fd = d->file.fd;
    d->file.fd = -1;
    w->stats.n_commits++;
    if (tell_note(w, buf_view(&u->note)) < 0) {
        list_push(&w->untold, &u->link);
        return;
    }
    close_fd(&u->fd);
    buf_done(&u->note);
    free(u);
}

/* -------------------------------------------------------- owner came back */

void spool_writer_announce(struct spool_writer *w)
{
    CHECK_OBJ(w, WRITER_MAGIC);
    list_each(l, &w->segments) {
        struct wseg *g = CONTAINER_OF(l, struct wseg, link);

        (void)tell_two(w, SPOOL_ANNOUNCE, g->number,
                       engine_log_durable_end(g->log), NULL);
    }
    for (size_t i = 0; i < w->n_pool; i++)
        (void)tell_two(w, SPOOL_ANNOUNCE, w->pool[i].segment, SEG_FIRST, NULL);
    list_each_safe(l, tmp, &w->untold) {
        struct untold *u = CONTAINER_OF(l, struct untold, link);

        if (tell_note(w, buf_view(&u->note)) < 0)
            return;
        list_remove(&u->link);
        close_fd(&u->fd);
        buf_done(&u->note);
        free(u);
    }
}

void spool_writer_stats(const struct spool_writer *w,
                        struct spool_writer_stats *out)
{
    *out = w->stats;
}

void spool_writer_free(struct spool_writer **wp)
{
    struct spool_writer *w = *wp;

    if (w == NULL)
        return;
    CHECK_OBJ(w, WRITER_MAGIC);
    CHECK(w->stats.n_drafts == 0 && list_empty(&w->coming));
    while (w->is_fetching)
        (void)waitq_wait(&w->fetched, MSEC_NEVER, NULL);
    while (w->is_filling)
        (void)waitq_wait(&w->filled, MSEC_NEVER, NULL);
    list_each_safe(l, tmp, &w->segments)
        wseg_retire(CONTAINER_OF(l, struct wseg, link), "writer ends");
    for (size_t i = 0; i < w->n_pool; i++)
        writer_file_unused(w, &w->pool[i]);
    for (struct list *l = list_pop(&w->untold); l != NULL;
         l = list_pop(&w->untold)) {
        struct untold *u = CONTAINER_OF(l, struct untold, link);

        close_fd(&u->fd); /* the owner finds the file by its lock */
        buf_done(&u->note);
        free(u);
    }
    gathered_send(w);
    buf_done(&w->gathered);
    buf_done(&w->note);
    if (w->on_free != NULL)
        w->on_free(w->arg);
    engine_free(&w->engine);
    w->magic = 0;
    free(w);
    *wp = NULL;
}
