/*
 * The journal: a chain of logs, journal-<n>, each preallocated.  The next one
 * is made ahead, so that a full disk leaves room for what must always go
 * through (invariant 6).  Operations of one turn of the loop make one record.
 */
#include "spool/owner_priv.h"

#include "rt/file.h"

struct engine_log_spec journal_spec(const struct spool *s, const char *name,
                                    const char *kind, uint64_t number)
{
    struct engine_log_spec spec = { .name = name,
                                    .version = 1,
                                    .oldest = 1,
                                    .number = number,
                                    .self_sync = true,
                                    .max_bytes = s->conf.journal_bytes };

    memcpy(spec.kind, kind, sizeof spec.kind);
    memcpy(spec.uuid, s->uuid, sizeof spec.uuid);
    return spec;
}

void journal_name(char out[static JOURNAL_NAME_SIZE], const char *what,
                  uint64_t number)
{
    (void)snprintf(out, JOURNAL_NAME_SIZE, "%s-%08" PRIx64, what, number);
}

/* ----------------------------------------------------------------- rolling */

static enum engine_outcome create_log(struct spool *s, uint64_t number,
                                      struct engine_log **out, struct err *err)
{
    char name[JOURNAL_NAME_SIZE];
    struct engine_log_spec spec;

    journal_name(name, "journal", number);
    spec = journal_spec(s, name, "JRNL", number);
    spec.preallocate_bytes = s->conf.journal_bytes;
    s->dir_changes++;
    return engine_log_create(s->dir, s->lease, &spec, out, err);
}

static enum engine_outcome open_log(struct spool *s, uint64_t number,
                                    struct engine_log **out, struct err *err)
{
    char name[JOURNAL_NAME_SIZE];
    struct engine_log_spec spec;

    journal_name(name, "journal", number);
    spec = journal_spec(s, name, "JRNL", number);
    return engine_log_open(s->dir, s->lease, &spec, ENGINE_LOG_HEAD, out, err);
}

static void remove_log(struct spool *s, uint64_t number)
{
    char name[JOURNAL_NAME_SIZE];

    journal_name(name, "journal", number);
    (void)engine_unlink(s->dir, name, NULL);
}

/* The header goes to the disk before any record, so that after a power cut a
 * record never stands behind a header that is not there.  Rare here: no file
 * was made ahead, or only just now; then the loop waits. */
static enum engine_outcome next_or_new(struct spool *s, struct engine_log **out,
                                       struct err *err)
{
    uint64_t number = s->log_number + 1;
    enum engine_outcome o;

    if (s->next_log != 0 && !s->next_unsynced)
        return open_log(s, number, out, err);
    if (s->next_log != 0)
        o = open_log(s, number, out, err);
    else
        o = create_log(s, number, out, err);
    if (o != ENGINE_OK)
        return o;
    if (file_fdatasync(engine_log_fd(*out)) == 0)
        return ENGINE_OK;
    (void)err_sys(err, "sync a new journal");
    engine_log_close(out);
    remove_log(s, number);
    s->next_log = 0;
    return ENGINE_UNKNOWN;
}

int journal_roll(struct spool *s, struct err *err)
{
    struct engine_log *fresh = NULL;

    if (next_or_new(s, &fresh, err) != ENGINE_OK)
        return -1;
    s->log_number++;
    s->next_log = 0;
    s->next_unsynced = false;
    if (s->log != NULL && engine_log_is_open(s->log)) {
        struct old_log *old = xcalloc(1, sizeof *old);

        old->log = s->log;
        list_push(&s->old_logs, &old->link);
    } else {
        if (s->log != NULL) {
            struct err why;

            engine_log_why(s->log, &why);
            if (!s->needs_snapshot)
                spool_trouble(s, "journal: cannot be written: %s", why.log);
            s->needs_snapshot = true; /* what it holds is not known */
        }
        engine_log_close(&s->log);
    }
    s->log = fresh;
    return 0;
}

static MAY_WAIT void make_next_task(void *arg)
{
    struct spool *s = arg;

    journal_make_next(s);
    spool_task_end(s);
}

static int sync_header(void *arg)
{
    return file_fdatasync(*(int *)arg);
}

void journal_make_next(struct spool *s)
{
    struct engine_log *l = NULL;
    uint64_t number = s->log_number + 1;
    struct err err;
    int fd;
    int r;

    if (s->next_log != 0)
        return;
    if (create_log(s, number, &l, &err) != ENGINE_OK) {
        if (!s->was_full)
            spool_trouble(s, "journal's reserve: %s", err.log);
        s->was_full = true;
        return;
    }
    s->next_log = number;
    s->next_unsynced = true; /* a roll meanwhile syncs it itself */
    fd = engine_log_fd(l);
    r = offload(sync_header, &fd);
    engine_log_close(&l);
    if (s->next_log != number)
        return; /* it is in use by now */
    if (r < 0) {
        remove_log(s, number);
        s->next_log = 0;
        return;
    }
    s->next_unsynced = false;
    (void)journal_sync_names(s, &err); /* if not: with the next sync */
}

bool journal_is_tight(const struct spool *s)
{
    return s->next_log == 0 &&
           (s->log == NULL ||
            engine_log_room(s->log) < s->conf.reserve_bytes + s->batch.n);
}

/* --------------------------------------------------------------- appending */

static MAY_WAIT void sync_task(void *arg)
{
    struct spool *s = arg;
    struct err err;

    if (journal_sync(s, &err) < 0)
        spool_trouble(s, "journal: %s", err.log);
    spool_task_end(s);
}

static void sync_due(struct timer *t)
{
    struct spool *s = CONTAINER_OF(t, struct spool, sync_timer);

    spool_spawn(s, "spool-sync", sync_task, s);
}

static bool log_takes(const struct spool *s, size_t n)
{
    return s->log != NULL && engine_log_is_open(s->log) &&
           engine_log_room(s->log) >= n + ENGINE_RECORD_HEAD;
}

void journal_flush(struct spool *s)
{
    struct iovec v = { s->batch.p, s->batch.n };
    struct err err = { 0 };

    deferred_cancel(&s->flush);
    if (s->batch.n == 0)
        return;
    if (!log_takes(s, s->batch.n)) {
        if (journal_roll(s, &err) == 0 && !s->is_closing)
            spool_spawn(s, "spool-journal", make_next_task, s);
    }
    if (!log_takes(s, s->batch.n) ||
        engine_log_append(s->log, JOURNAL_TYPE_BATCH, &v, 1, ENGINE_COPY, NULL,
                          &err) != ENGINE_OK) {
        /* Memory is ahead of the disk now; a snapshot mends it. */
        if (!s->needs_snapshot)
            spool_trouble(s, "journal: cannot be written: %s", err.log);
        s->needs_snapshot = true;
    } else {
        s->bytes_since += s->batch.n + ENGINE_RECORD_HEAD;
        engine_log_push(s->log);
        if (!timer_is_set(&s->sync_timer) && !s->is_closing)
            timer_set(&s->sync_timer, clock_after(SPOOL_SYNC_MS), sync_due);
    }
    buf_clear(&s->batch);
}

static void flush_now(struct deferred *d)
{
    journal_flush(CONTAINER_OF(d, struct spool, flush));
}

void journal_kick(struct spool *s)
{
    if (s->batch.n >= JOURNAL_RECORD_MAX)
        journal_flush(s);
    else
        deferred_set(&s->flush, flush_now);
}

/* Older logs first: what follows builds on them. */
static MAY_WAIT int sync_old_logs(struct spool *s, struct err *err)
{
    while (!list_empty(&s->old_logs)) {
        struct old_log *old =
            CONTAINER_OF(s->old_logs.next, struct old_log, link);
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it was taken out. */
        struct engine_log *l = old->log;
        enum engine_outcome o = engine_log_durable(l, engine_log_end(l), err);

        /* Another task may have done the same meanwhile. */
        if (!list_empty(&s->old_logs) &&
            CONTAINER_OF(s->old_logs.next, struct old_log, link) == old &&
            old->log == l) {
            list_remove(&old->link);
            engine_log_close(&old->log);
            free(old);
        }
        if (o != ENGINE_OK) {
            s->needs_snapshot = true;
            return -1;
        }
    }
    return 0;
}

int journal_sync_names(struct spool *s, struct err *err)
{
    uint64_t want = s->dir_changes;

    if (s->dir_synced >= want)
        return 0;
    if (engine_dir_sync(s->dir, "", err) != ENGINE_OK)
        return -1;
    if (s->dir_synced < want)
        s->dir_synced = want;
    return 0;
}

int journal_sync(struct spool *s, struct err *err)
{
    struct engine_log *l;
    enum engine_outcome o;

    journal_flush(s);
    timer_cancel(&s->sync_timer);
    if (s->log == NULL || s->needs_snapshot) {
        err_set(err, ERR_TEMP, "4.3.1", "Queue journal cannot be written");
        return -1;
    }
    l = s->log;
    if (journal_sync_names(s, err) < 0)
        return -1;
    if (sync_old_logs(s, err) < 0)
        return -1;
    if (l != s->log) /* rolled meanwhile: it was among the old ones */
        l = s->log;
    o = engine_log_durable(l, engine_log_end(l), err);
    if (o != ENGINE_OK) {
        s->needs_snapshot = true;
        return -1;
    }
    return 0;
}

void journal_close(struct spool *s)
{
    deferred_cancel(&s->flush);
    timer_cancel(&s->sync_timer);
    for (struct list *l = list_pop(&s->old_logs); l != NULL;
         l = list_pop(&s->old_logs)) {
        struct old_log *old = CONTAINER_OF(l, struct old_log, link);

        engine_log_close(&old->log);
        free(old);
    }
    engine_log_close(&s->log);
}
