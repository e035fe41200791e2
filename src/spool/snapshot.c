/*
 * A snapshot: the operations that make the state that memory holds, so that the
 * journals before it can go.  It is taken while work goes on: the journal rolls
 * first, marks of all segments are written at once, messages then one by one.
 * What changes meanwhile stands in the new journal as well, whose operations
 * are idempotent.
 */
#include "spool/owner_priv.h"

#include "rt/file.h"

#define SNAPSHOT_MAX ((uint64_t)1 << 40)

struct snapshot {
    struct spool *s;
    struct engine_log *log;
    uint64_t number;
    struct buf batch;
    uint64_t bytes;
};

void current_encode(const struct spool *s, uint64_t base,
                    uint8_t out[static ENGINE_LOG_HEAD])
{
    struct engine_log_spec spec = journal_spec(s, "current", "CURR", base);

    engine_log_head_encode(out, &spec, engine_lease_epoch(s->lease));
}

bool snapshot_is_due(const struct spool *s)
{
    uint64_t limit = 2 * s->snapshot_bytes;

    if (limit < s->conf.journal_bytes)
        limit = s->conf.journal_bytes;
    return s->needs_snapshot || s->bytes_since > limit;
}

static int batch_out(struct snapshot *n, struct err *err)
{
    struct iovec v = { n->batch.p, n->batch.n };

    if (n->batch.n == 0)
        return 0;
    if (engine_log_append(n->log, JOURNAL_TYPE_BATCH, &v, 1, ENGINE_COPY, NULL,
                          err) != ENGINE_OK)
        return -1;
    n->bytes += n->batch.n;
    buf_clear(&n->batch);
    return 0;
}

/* After each operation: a list of recipients may be long. */
static int put_done(struct snapshot *n, struct err *err)
{
    return n->batch.n < JOURNAL_RECORD_MAX ? 0 : batch_out(n, err);
}

static int put_segments(struct snapshot *n, struct err *err)
{
    struct imap_node *it = NULL;
    size_t pos = 0;

    op_seq(&n->batch, J_RESERVE, n->s->reserved);
    while ((it = imap_next(&n->s->segments, &pos, it)) != NULL) {
        struct segment *g = CONTAINER_OF(it, struct segment, by_number);

        op_two(&n->batch, J_MARK, it->key, g->known_end);
        if (g->is_sealed)
            op_two(&n->batch, J_SEAL, it->key, g->seal_end);
        if (put_done(n, err) < 0)
            return -1;
    }
    return 0;
}

static int put_expansions(struct snapshot *n, const struct spool_message *m,
                          struct err *err)
{
    for (uint32_t i = m->n_first; i < m->n_rcpts; i++) {
        const struct expanded *x = m->expansions[i - m->n_first];
        struct spool_expansion v = { .addr = expanded_part(x, 0),
                                     .orig = expanded_part(x, 1),
                                     .orcpt = expanded_part(x, 2),
                                     .owner = expanded_part(x, 3),
                                     .has_owner = x->has_owner,
                                     .notify = x->notify };

        op_expand(&n->batch, m->by_seq.key, x->parent, i, &v);
        if (put_done(n, err) < 0)
            return -1;
    }
    return 0;
}

static int put_message(struct snapshot *n, const struct spool_message *m,
                       struct err *err)
{
    uint64_t seq = m->by_seq.key;
    struct message_place p;

    message_place_of(m, &p);
    op_message(&n->batch, &p);
    if (put_expansions(n, m, err) < 0)
        return -1;
    for (uint32_t i = 0; m->rcpts != NULL && i < m->n_rcpts; i++) {
        const struct rcpt_state *r = &m->rcpts[i];

        if (r->is_settled)
            op_settle(&n->batch, seq, i, (enum outcome)r->outcome);
        else if (r->reason != NULL)
            op_reason(&n->batch, seq, r->reason, &i, 1);
        if (put_done(n, err) < 0)
            return -1;
    }
    if (m->next_try != 0 || m->attempts != 0)
        op_try(&n->batch, m);
    if (m->is_held != ((m->flags & ENV_HOLD) != 0))
        op_hold(&n->batch, seq, m->is_held);
    return put_done(n, err);
}

static MAY_WAIT int put_messages(struct snapshot *n, const uint64_t *seqs,
                                 size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct spool_message *m = spool_find(n->s, seqs[i]);

        if (m != NULL && put_message(n, m, err) < 0)
            return -1;
        if (i % 64 == 63 && task_inside())
            task_yield_if_long();
    }
    op_seq(&n->batch, J_END, count);
    return batch_out(n, err);
}

static int sync_fd(void *arg)
{
    return file_fdatasync(*(int *)arg);
}

/* Make it the one that counts. */
static MAY_WAIT int publish(struct snapshot *n, struct err *err)
{
    struct spool *s = n->s;
    uint64_t dir_changes = s->dir_changes;
    uint8_t was[ENGINE_LOG_HEAD];
    uint8_t now[ENGINE_LOG_HEAD];
    int fd = engine_log_fd(n->log);
    struct buf have;
    enum engine_outcome o;

    if (offload(sync_fd, &fd) < 0)
        return err_sys(err, "sync a snapshot");
    /* Segments that were unlinked are not in the marks any more: they must
     * not come back after a power cut (doc/spool.md, "Snapshots"). */
    if (engine_dir_sync(s->dir, "segments", err) != ENGINE_OK ||
        engine_dir_sync(s->dir, "", err) != ENGINE_OK)
        return -1;
    s->dir_synced = dir_changes;
    current_encode(s, n->number, now);
    buf_init(&have, 4096);
    o = engine_load(s->dir, "current", &have, err);
    if (o == ENGINE_OK && have.n == sizeof was) {
        memcpy(was, have.p, sizeof was);
        o = engine_swap(s->dir, "current", slice_of(was, sizeof was),
                        slice_of(now, sizeof now), 0, err);
    }
    buf_done(&have);
    if (o != ENGINE_OK)
        return -1;
    s->base = n->number;
    s->bytes_since = 0;
    s->snapshot_bytes = n->bytes;
    return 0;
}

static MAY_WAIT int snapshot_body(struct snapshot *n, struct err *err)
{
    struct spool *s = n->s;
    char name[JOURNAL_NAME_SIZE];
    struct engine_log_spec spec;
    uint64_t *seqs = NULL;
    size_t count;
    int r;

    journal_name(name, "snapshot", n->number);
    spec = journal_spec(s, name, "SNAP", n->number);
    spec.self_sync = false;
    spec.max_bytes = SNAPSHOT_MAX;
    (void)engine_unlink(s->dir, name, NULL);
    if (engine_log_create(s->dir, s->lease, &spec, &n->log, err) != ENGINE_OK)
        return -1;
    r = put_segments(n, err);
    count = spool_seqs(s, &seqs);
    if (r == 0)
        r = put_messages(n, seqs, count, err);
    free(seqs);
    if (r == 0)
        r = publish(n, err);
    if (r < 0 && n->log != NULL)
        (void)engine_unlink(s->dir, name, NULL);
    engine_log_close(&n->log);
    return r;
}

int snapshot_write(struct spool *s, struct err *err)
{
    struct snapshot n = { .s = s };
    bool had_lost = s->needs_snapshot;
    int r;

    journal_flush(s);
    if (journal_roll(s, err) < 0)
        return -1;
    n.number = s->log_number;
    s->needs_snapshot = false; /* set again by what goes wrong from here on */
    /* One operation more than what is written at once. */
    buf_init(&n.batch, ENGINE_RECORD_MAX);
    r = snapshot_body(&n, err);
    buf_done(&n.batch);
    if (r < 0) {
        s->needs_snapshot = s->needs_snapshot || had_lost;
        return -1;
    }
    snapshot_remove_old(s);
    journal_make_next(s);
    return 0;
}

/* ---------------------------------------------------------------- old files */

struct old_files {
    uint64_t below; /* journals below and above go */
    uint64_t above;
    uint64_t snapshot; /* the one to keep */
    char names[64][JOURNAL_NAME_SIZE];
    size_t n;
};

static bool old_file(const char *entry, void *arg)
{
    struct old_files *o = arg;
    const char *dash = strrchr(entry, '-');
    uint64_t number;
    bool is_snapshot;

    if (dash == NULL || strlen(entry) >= JOURNAL_NAME_SIZE)
        return true;
    is_snapshot = strncmp(entry, "snapshot-", 9) == 0;
    if (!is_snapshot && strncmp(entry, "journal-", 8) != 0)
        return true;
    if (!hex_u64(dash + 1, &number))
        return true;
    if (is_snapshot ? number == o->snapshot
                    : number >= o->below && number <= o->above)
        return true;
    (void)snprintf(o->names[o->n++], JOURNAL_NAME_SIZE, "%s", entry);
    return o->n < ARRAY_LEN(o->names);
}

static void remove_files(struct spool *s, uint64_t below, uint64_t above)
{
    struct old_files *o CLEANUP(free_ptr) = xcalloc(1, sizeof *o);

    o->below = below;
    o->above = above;
    o->snapshot = s->base;
    if (engine_list(s->dir, "", old_file, o, NULL) != ENGINE_OK)
        return;
    for (size_t i = 0; i < o->n; i++)
        (void)engine_unlink(s->dir, o->names[i], NULL);
}

void snapshot_remove_old(struct spool *s)
{
    remove_files(s, s->base, UINT64_MAX);
}

void snapshot_remove_above(struct spool *s, uint64_t number)
{
    remove_files(s, 0, number);
}
