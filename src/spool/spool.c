/* Opening, closing, housekeeping. */
#include "spool/owner_priv.h"

#include "rt/file.h"
#include "spool/writer_priv.h"

#define TICK_MS      1000
#define SCRATCH_MAX  (16u << 20)
#define WILLING_ROOM 2 /* segments' worth of free space */

void spool_trouble(struct spool *s, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    if (s->ops == NULL || s->ops->on_trouble == NULL)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->ops->on_trouble(s, text, s->arg);
}

void spool_spawn(struct spool *s, const char *name, task_fn *fn, void *arg)
{
    s->n_tasks++;
    (void)task_spawn(name, fn, arg);
}

void spool_task_end(struct spool *s)
{
    if (--s->n_tasks == 0)
        waitq_wake_all(&s->idle);
}

/* ------------------------------------------------------------ housekeeping */

static void look_at_space(struct spool *s)
{
    uint64_t free_bytes;
    uint64_t want = s->conf.min_free_bytes;

    if (s->was_full)
        want += WILLING_ROOM * s->conf.segment_bytes;
    if (file_free_bytes(engine_dir_fd(s->dir), &free_bytes, NULL) < 0)
        return;
    s->is_willing = free_bytes >= want && !journal_is_tight(s);
    if (s->is_willing)
        s->was_full = false;
}

void spool_set_min_free(struct spool *s, uint64_t bytes)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    s->conf.min_free_bytes = bytes;
    s->was_full = false;
    look_at_space(s);
}

void spool_tick(struct spool *s)
{
    struct err err = { 0 };

    CHECK_OBJ(s, SPOOL_MAGIC);
    if (s->is_ticking)
        return;
    s->is_ticking = true;
    segments_probe(s);
    journal_make_next(s);
    if (snapshot_is_due(s) && snapshot_write(s, &err) < 0 && !s->was_full) {
        s->was_full = err.sys == ENOSPC;
        spool_trouble(s, "snapshot: %s", err.log);
    }
    bulk_move_stragglers(s);
    segments_bury(s);
    look_at_space(s);
    s->is_ticking = false;
}

static void tick_due(struct timer *t);

static MAY_WAIT void tick_task(void *arg)
{
    struct spool *s = arg;

    spool_tick(s);
    if (!s->is_closing)
        timer_set(&s->tick_timer, clock_after(TICK_MS), tick_due);
    spool_task_end(s);
}

static void tick_due(struct timer *t)
{
    struct spool *s = CONTAINER_OF(t, struct spool, tick_timer);

    spool_spawn(s, "spool-tick", tick_task, s);
}

bool spool_willing(const struct spool *s)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    return s->is_willing;
}

/* ------------------------------------------------------------------ opening */

static void set_defaults(struct spool_conf *c)
{
    if (c->segment_bytes == 0)
        c->segment_bytes = SPOOL_SEGMENT_BYTES;
    if (c->journal_bytes == 0)
        c->journal_bytes = 16u << 20;
    if (c->reserve_bytes == 0)
        c->reserve_bytes = c->journal_bytes / 4;
    if (c->straggler_age_ms == 0)
        c->straggler_age_ms = (msec)10 * 60 * 1000;
}

struct spool *spool_alloc(const struct spool_conf *conf,
                          const struct spool_ops *ops, void *arg)
{
    struct spool *s = xcalloc(1, sizeof *s);

    s->magic = SPOOL_MAGIC;
    s->conf = *conf;
    set_defaults(&s->conf);
    s->ops = ops;
    s->arg = arg;
    s->is_willing = true;
    s->is_opening = true;
    s->scratch = arena_new(SCRATCH_MAX);
    waitq_init(&s->idle);
    imap_init(&s->messages);
    imap_init(&s->segments);
    imap_init(&s->seen);
    map_init(&s->reasons, false);
    list_init(&s->lru);
    list_init(&s->dying);
    list_init(&s->peers);
    list_init(&s->old_logs);
    /* A batch is flushed at JOURNAL_RECORD_MAX; one operation more fits. */
    buf_init(&s->batch, ENGINE_RECORD_MAX);
    return s;
}

static void free_messages(struct spool *s)
{
    struct imap_node *n = NULL;
    size_t pos = 0;

    s->is_replaying = true; /* nothing dies of this */
    while ((n = imap_next(&s->messages, &pos, n)) != NULL)
        message_drop(s, CONTAINER_OF(n, struct spool_message, by_seq));
    pos = 0;
    n = NULL;
    while ((n = imap_next(&s->segments, &pos, n)) != NULL)
        segment_free(s, CONTAINER_OF(n, struct segment, by_number));
    pos = 0;
    n = NULL;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): n is only compared. */
    while ((n = imap_next(&s->seen, &pos, n)) != NULL) {
        imap_del(&s->seen, n);
        free(CONTAINER_OF(n, struct seen, node));
    }
}

void spool_delete_memory(struct spool *s)
{
    journal_close(s);
    timer_cancel(&s->tick_timer);
    timer_cancel(&s->probe_timer);
    free_messages(s);
    imap_done(&s->messages);
    imap_done(&s->segments);
    imap_done(&s->seen);
    map_done(&s->reasons);
    buf_done(&s->batch);
    arena_free(&s->scratch);
    engine_lease_drop(&s->lease);
    engine_dir_close(&s->dir);
    engine_free(&s->engine);
    s->magic = 0;
    free(s);
}

static int sync_all(void *arg)
{
    return file_syncfs(*(int *)arg);
}

static bool stop_at_first(const char *entry, void *arg)
{
    (void)entry;
    *(bool *)arg = true;
    return false;
}

/* `current` is durable before the first segment is made: where there are
 * segments and no `current`, this is damage and not a new spool. */
static int check_is_new(struct spool *s, struct err *err)
{
    bool has_segments = false;

    if (engine_list(s->dir, "segments", stop_at_first, &has_segments, err) !=
        ENGINE_OK)
        return -1;
    if (has_segments)
        return err_temp(err, "\"current\" is missing, yet there are segments");
    snapshot_remove_above(s, 0); /* of a first start that did not end */
    return 0;
}

static MAY_WAIT int make_new(struct spool *s, struct err *err)
{
    uint8_t now[ENGINE_LOG_HEAD];
    int fd = engine_dir_fd(s->dir);

    if (check_is_new(s, err) < 0)
        return -1;
    random_bytes(s->uuid, sizeof s->uuid);
    s->base = 1;
    s->log_number = 0;
    if (journal_roll(s, err) < 0 || journal_sync_names(s, err) < 0)
        return -1;
    /* The directories above may be as new as this one: once, sync it all. */
    if (offload(sync_all, &fd) < 0)
        return err_sys(err, "sync the file system of the spool");
    current_encode(s, s->base, now);
    if (engine_swap(s->dir, "current", SLICE_NONE, slice_of(now, sizeof now), 0,
                    err) != ENGINE_OK)
        return -1;
    return 0;
}

static MAY_WAIT int open_files(struct spool *s, struct err *err)
{
    bool is_new;
    enum engine_outcome o;

    s->engine = engine_local_new();
    if (engine_dir_open(s->engine, s->conf.dir, ENGINE_CREATE, &s->dir, err) !=
            ENGINE_OK ||
        engine_lease_take(s->dir, "lock", &s->lease, err) != ENGINE_OK)
        return -1;
    o = engine_mkdir(s->dir, "segments", 0700, err);
    if (o != ENGINE_OK && o != ENGINE_EXISTS)
        return -1;
    if (replay_all(s, &is_new, err) < 0)
        return -1;
    if (is_new ? make_new(s, err) < 0 : journal_roll(s, err) < 0) {
        if (is_new)
            return -1;
        /* No journal can be made: mail already here still goes out. */
        spool_trouble(s, "journal: %s", err->log);
        s->was_full = true;
    }
    return segments_load(s, err);
}

static MAY_WAIT void tell_all(struct spool *s)
{
    uint64_t *seqs;
    size_t n;

    s->is_opening = false;
    if (s->ops->on_message == NULL)
        return;
    n = spool_seqs(s, &seqs);
    for (size_t i = 0; i < n; i++) {
        struct spool_message *m = spool_find(s, seqs[i]);

        if (m != NULL)
            s->ops->on_message(s, m, NULL, s->arg);
        if (i % 256 == 255 && task_inside())
            task_yield_if_long();
    }
    free(seqs);
}

int spool_open(const struct spool_conf *conf, const struct spool_ops *ops,
               void *arg, struct spool **out, struct err *err)
{
    struct spool *s = spool_alloc(conf, ops, arg);
    struct wseg *g;
    struct err why;

    if (open_files(s, err) < 0) {
        err_prefix(err, "spool %s", conf->dir);
        s->is_closing = true;
        spool_delete_memory(s);
        return -1;
    }
    snapshot_remove_old(s);
    journal_make_next(s);
    s->own = own_writer_new(s);
    /* Made now, while there may be room (invariant 6). */
    if (writer_segment(s->own, SEG_OVERHEAD, &g, &why) < 0)
        spool_trouble(s, "segment for bounces: %s", why.log);
    tell_all(s);
    timer_set(&s->tick_timer, clock_after(TICK_MS), tick_due);
    *out = s;
    return 0;
}

void spool_close(struct spool **sp)
{
    struct spool *s = *sp;
    struct err err = { 0 };

    if (s == NULL)
        return;
    CHECK_OBJ(s, SPOOL_MAGIC);
    CHECK(list_empty(&s->peers));
    s->is_closing = true;
    timer_cancel(&s->tick_timer);
    timer_cancel(&s->probe_timer);
    while (s->n_tasks > 0)
        (void)waitq_wait(&s->idle, MSEC_NEVER, NULL);
    spool_writer_free(&s->own);
    spool_tick(s); /* may move messages into the bulk segment */
    if (s->bulk != NULL)
        segment_seal(s, s->bulk_segment, s->bulk_segment->known_end);
    engine_log_close(&s->bulk);
    s->bulk_segment = NULL;
    if (journal_sync(s, &err) < 0)
        spool_trouble(s, "journal: %s", err.log);
    spool_delete_memory(s);
    *sp = NULL;
}

struct spool_writer *spool_own_writer(struct spool *s)
{
    CHECK_OBJ(s, SPOOL_MAGIC);
    return s->own;
}

void spool_dump(const struct spool *s, struct buf *out)
{
    (void)buf_printf(out,
                     "spool %s: %zu messages, %zu segments (%zu open), journal "
                     "%08" PRIx64 " base %08" PRIx64 " %" PRIu64 " bytes%s%s\n",
                     s->conf.dir, s->messages.n, s->segments.n, s->n_open,
                     s->log_number, s->base, s->bytes_since,
                     s->is_willing ? "" : ", not willing",
                     s->needs_snapshot ? ", needs a snapshot" : "");
}
