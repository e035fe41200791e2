#include "store/store_priv.h"

#include "rt/file.h"
#include "rt/rt.h"

/* What waits for the disk: durability, reservations, snapshots. */

enum {
    RESERVE_MODSEQ = 65536,
    SYNC_WAIT_MS = 120000,
};

int store_mailbox_durable(struct store_mailbox *m, struct err *err)
{
    struct store_account *a = m->account;
    msec deadline = clock_after(SYNC_WAIT_MS);
    enum engine_outcome o = engine_durable(a->dir, deadline, err);

    if (o == ENGINE_OK && a->index_dir != a->dir)
        o = engine_durable(a->index_dir, deadline, err);
    return o == ENGINE_OK ? 0 : store_fail(o, err, "sync", m->name);
}

/* Of all rows that there were when a sync began that succeeded.  The mark holds
 * for what stands before it, so none may have come meanwhile. */
void mailbox_mark_durable(struct store_mailbox *m, size_t rows)
{
    struct err err;

    if (rows <= m->durable_rows || rows != rows_count(m) || m->damaged)
        return;
    if (index_append_buf(m, IR_DURABLE, slice_of("", 0), &err) == 0)
        m->durable_rows = rows;
}

int store_mailbox_reserve(struct store_mailbox *m, uint32_t n_uids,
                          struct err *err)
{
    uint32_t upto = m->uidnext - 1;
    size_t rows = rows_count(m);
    uint64_t floor;
    uint8_t b[4];

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (m->shown_safe >= upto + n_uids / 2 &&
        m->account->modseq_safe >=
            store_account_modseq(m->account) + RESERVE_MODSEQ / 2)
        return 0;
    upto = n_uids < UINT32_MAX - 1 - upto ? upto + n_uids : UINT32_MAX - 1;
    set_u32(b, upto);
    if (account_raise_floor(m->account,
                            store_account_modseq(m->account) + RESERVE_MODSEQ,
                            err) < 0 ||
        index_append_buf(m, IR_RESERVE | ENGINE_MUST_UNDERSTAND,
                         slice_of(b, sizeof b), err) < 0)
        return -1;
    m->reserved = upto;
    floor = m->account->floor;
    if (store_mailbox_durable(m, err) < 0)
        return -1;
    mailbox_mark_durable(m, rows);
    m->shown_safe = upto;
    if (floor > m->account->modseq_safe)
        m->account->modseq_safe = floor;
    return 0;
}

struct snapshot_job {
    int dirfd;
    char path[INDEX_PATH_MAX];
    struct buf bytes;
    struct err err;
};

static int snapshot_write(void *arg)
{
    struct snapshot_job *job = arg;

    return file_replace(job->dirfd, job->path, buf_view(&job->bytes), 0600,
                        &job->err);
}

MAY_WAIT static int compact(struct store_mailbox *m, struct snapshot_job *job,
                            struct err *err)
{
    uint64_t at;
    size_t n;

    if (index_wants_rewrite(m) && index_rewrite(m, err) < 0)
        return -1;
    if (!snapshot_encode(m, &job->bytes))
        return err_temp(err, "snapshot of %s is too big", m->name);
    at = m->log_end;
    n = rows_count(m);
    /* What the snapshot holds is not held against the files again: so they
     * must be durable before it is in place. */
    if (store_mailbox_durable(m, err) < 0)
        return -1;
    if (offload(snapshot_write, job) < 0) {
        *err = job->err;
        return -1;
    }
    m->snapshot_at = at;
    m->snapshot_rows = n;
    m->durable_rows = n;
    return 0;
}

int store_mailbox_compact(struct store_mailbox *m, struct err *err)
{
    struct store_account *a = m->account;
    struct snapshot_job *job;
    int rc;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (m->compacting || m->is_gone || m->moves) /* which it does not hold */
        return 0;
    m->compacting = true;
    m->pins++;
    a->pins++;
    job = xcalloc(1, sizeof *job);
    buf_init(&job->bytes, (size_t)1 << 34);
    job->dirfd = engine_dir_fd(a->index_dir);
    (void)snprintf(job->path, sizeof job->path, "%s%s", m->index_dir, SNAPSHOT);
    rc = compact(m, job, err);
    buf_done(&job->bytes);
    free(job);
    m->compacting = false;
    store_mailbox_unref(&m);
    return rc;
}
