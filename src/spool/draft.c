/* A message while it is received, and its commit. */
#include "spool/writer_priv.h"

#include "base/codec.h"
#include "base/digest.h"
#include "rt/file.h"
#include <fcntl.h>

#define BODY_AT (ENGINE_LOG_HEAD + ENGINE_RECORD_HEAD) /* in an own file */

#define FIRST_BYTES ((size_t)6144) /* of memory for a new draft */

/* ------------------------------------------------------------- own files */

/* One step of writing an own file, for a pool thread. */
struct file_job {
    int fd;
    struct iovec v[3];
    int n;
    uint64_t at;
    uint32_t crc;
    /* the last step */
    bool is_last;
    struct engine_record_head head;
    int sys;
};

static int file_job_run(void *arg)
{
    struct file_job *j = arg;
    uint8_t head[ENGINE_RECORD_HEAD];

    for (int i = 0; i < j->n; i++) {
        slice s = slice_of(j->v[i].iov_base, j->v[i].iov_len);

        j->crc = crc32c(j->crc, s.p, s.n);
        if (file_write_all(j->fd, s, (off_t)j->at) < 0)
            goto failed;
        j->at += s.n;
    }
    if (!j->is_last) {
        /* Let the disk begin, so that the sync at the end is short. */
        (void)sync_file_range(j->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
    }
    engine_record_encode(head, &j->head, engine_record_crc(&j->head, j->crc));
    if (file_write_all(j->fd, slice_of(head, sizeof head), ENGINE_LOG_HEAD) <
            0 ||
        file_fdatasync(j->fd) < 0)
        goto failed;
    return 0;

failed:
    j->sys = errno;
    return -1;
}

static void count_memory(struct spool_draft *d)
{
    d->writer->stats.draft_bytes += d->body.size - d->counted;
    d->counted = d->body.size;
}

static MAY_WAIT int draft_flush(struct spool_draft *d, struct err *err)
{
    struct file_job j = { .fd = d->file.fd,
                          .v = { { d->body.p, d->body.n } },
                          .n = 1,
                          .at = BODY_AT + d->written,
                          .crc = d->crc };

    if (d->body.n == 0)
        return 0;
    if (offload(file_job_run, &j) < 0) {
        d->is_broken = true;
        return writer_fail(err, j.sys, "write own file");
    }
    d->crc = j.crc;
    d->written += d->body.n;
    buf_clear(&d->body);
    return 0;
}

static MAY_WAIT int draft_to_file(struct spool_draft *d, struct err *err)
{
    uint8_t head[ENGINE_LOG_HEAD];

    if (writer_file(d->writer, &d->file, err) < 0)
        return -1;
    d->is_file = true;
    if (pread(d->file.fd, head, sizeof head, 0) != (ssize_t)sizeof head) {
        d->is_broken = true;
        return writer_fail(err, errno, "read own file");
    }
    d->crc = engine_crc_start(head, SEG_FIRST);
    return 0;
}

/* ---------------------------------------------------------------- the draft */

int spool_draft_open(struct spool_writer *w, uint64_t size_hint,
                     struct spool_draft **out, struct err *err)
{
    struct spool_draft *d = xcalloc(1, sizeof *d);

    CHECK_OBJ(w, WRITER_MAGIC);
    d->magic = DRAFT_MAGIC;
    d->writer = w;
    d->file.fd = -1;
    list_init(&d->pending);
    buf_init(&d->body, SPOOL_DRAFT_MEMORY);
    buf_init(&d->envelope, ENVELOPE_MAX_BYTES);
    w->stats.n_drafts++;
    /* One allocation for the usual mail, no more on a mere promise. */
    (void)buf_reserve(&d->body, size_hint > 0 && size_hint < FIRST_BYTES
                                    ? (size_t)size_hint
                                    : FIRST_BYTES);
    count_memory(d);
    if (size_hint > SPOOL_DRAFT_MEMORY && draft_to_file(d, err) < 0) {
        spool_draft_abort(&d);
        return -1;
    }
    *out = d;
    return 0;
}

static bool must_spill(const struct spool_draft *d, size_t more)
{
    const struct spool_writer *w = d->writer;

    if (d->body.n + more > SPOOL_DRAFT_MEMORY)
        return true;
    return d->body.n + more > d->body.size &&
           w->stats.draft_bytes + more > w->conf.draft_memory_bytes;
}

int spool_draft_write(struct spool_draft *d, slice data, struct err *err)
{
    CHECK_OBJ(d, DRAFT_MAGIC);
    if (d->is_broken)
        return writer_fail(err, 0, "write after a failed write");
    if (!d->is_file && must_spill(d, data.n) && draft_to_file(d, err) < 0)
        return -1;
    while (data.n > 0) {
        size_t n = min_size(data.n, SPOOL_DRAFT_MEMORY - d->body.n);

        CHECK(buf_put(&d->body, data.p, n));
        d->bytes += n;
        data = slice_from(data, n);
        count_memory(d);
        if (d->is_file && d->body.n == SPOOL_DRAFT_MEMORY &&
            draft_flush(d, err) < 0)
            return -1;
    }
    return 0;
}

uint64_t spool_draft_bytes(const struct spool_draft *d)
{
    return d->bytes;
}

void spool_draft_abort(struct spool_draft **dp)
{
    struct spool_draft *d = *dp;
    struct spool_writer *w;

    if (d == NULL)
        return;
    CHECK_OBJ(d, DRAFT_MAGIC);
    w = d->writer;
    CHECK(list_empty(&d->pending));
    /* Invariant 2: a record that was refused must not be found by a scan. */
    if (d->file.fd >= 0 && d->is_broken)
        (void)file_ftruncate(d->file.fd, 0);
    if (d->file.fd >= 0)
        writer_file_unused(w, &d->file);
    w->stats.draft_bytes -= d->counted;
    w->stats.n_drafts--;
    buf_done(&d->body);
    buf_done(&d->envelope);
    d->magic = 0;
    free(d);
    *dp = NULL;
}

/* ------------------------------------------------------------------ commit */

static int make_envelope(struct spool_draft *d, struct envelope *e,
                         uint64_t seq, struct err *err)
{
    struct seg_trailer t;

    e->seq = seq;
    if (e->arrival_usec == 0)
        e->arrival_usec = clock_wall_usec();
    envelope_make_id(e);
    if (e->on_id != NULL)
        e->on_id(e, e->on_id_arg);
    e->body_bytes = d->bytes;
    e->size = d->bytes + e->headers.n;
    buf_clear(&d->envelope);
    if (!envelope_encode(&d->envelope, e))
        return err_temp(err, "envelope larger than %u bytes",
                        ENVELOPE_MAX_BYTES);
    t.body_bytes = d->bytes;
    t.envelope_bytes = (uint32_t)d->envelope.n;
    seg_trailer_put(d->trailer, &t);
    return 0;
}

static MAY_WAIT int commit_file(struct spool_draft *d, struct envelope *e,
                                struct err *err)
{
    struct file_job j = { .fd = d->file.fd, .n = 3, .is_last = true };

    if (make_envelope(d, e, d->file.segment * SEG_PLACES, err) < 0)
        return -1;
    j.v[0] = (struct iovec){ d->body.p, d->body.n };
    j.v[1] = (struct iovec){ d->envelope.p, d->envelope.n };
    j.v[2] = (struct iovec){ d->trailer, sizeof d->trailer };
    j.at = BODY_AT + d->written;
    j.crc = d->crc;
    j.head.type = SEG_TYPE_MESSAGE;
    j.head.length = d->bytes + d->envelope.n + SEG_TRAILER;
    d->is_broken = true; /* this file is never synced twice */
    if (offload(file_job_run, &j) < 0) {
        d->writer->stats.n_failed++;
        return writer_fail(err, j.sys, "write own file");
    }
    writer_file_done(d->writer, d, e);
    return 0;
}

/* Append to a segment; on success the caller waits. */
static int append_record(struct spool_draft *d, struct wseg *g, struct err *err)
{
    struct iovec v[3] = { { d->body.p, d->body.n },
                          { d->envelope.p, d->envelope.n },
                          { d->trailer, sizeof d->trailer } };
    struct err why = { 0 };

    if (engine_log_append(g->log, SEG_TYPE_MESSAGE, v, 3, 0, &d->at, &why) !=
        ENGINE_OK)
        return writer_fail(err, why.sys, "append to a segment");
    d->end = engine_log_end(g->log);
    list_push(&g->pending, &d->pending);
    g->next_place++;
    g->n_using++;
    return 0;
}

static MAY_WAIT int commit_segment(struct spool_draft *d, struct envelope *e,
                                   struct err *err)
{
    uint64_t need = SEG_OVERHEAD + d->bytes + d->envelope.n + 16384;
    struct err why = { 0 };
    struct wseg *g;
    enum engine_outcome o;

    for (int tries = 0;; tries++) {
        if (writer_segment(d->writer, need, &g, err) < 0)
            return -1;
        if (make_envelope(d, e, g->number * SEG_PLACES + g->next_place, err) <
            0)
            return -1;
        need = SEG_OVERHEAD + d->bytes + d->envelope.n;
        if (need <= engine_log_room(g->log))
            break;
        if (tries == 3)
            return err_temp(err, "envelope keeps growing");
    }
    if (append_record(d, g, err) < 0)
        return -1;
    writer_prefetch(d->writer);
    o = engine_log_durable(g->log, d->end, &why);
    wseg_done(g, d, o);
    if (o != ENGINE_OK) {
        d->is_broken = true;
        return writer_fail(err, why.sys, why.log);
    }
    return 0;
}

int spool_draft_commit(struct spool_draft **dp, struct envelope *e,
                       struct err *err)
{
    struct spool_draft *d = *dp;
    int r;

    CHECK_OBJ(d, DRAFT_MAGIC);
    if (d->is_broken)
        return writer_fail(err, 0, "commit after a failed write");
    /* Its size is wanted before the segment, and so the number, is known. */
    e->body_bytes = d->bytes;
    if (!envelope_encode(&d->envelope, e))
        return err_temp(err, "envelope larger than %u bytes",
                        ENVELOPE_MAX_BYTES);
    if (!d->is_file && d->body.n + d->envelope.n + 65536 > ENGINE_RECORD_MAX &&
        draft_to_file(d, err) < 0)
        return -1;
    r = d->is_file ? commit_file(d, e, err) : commit_segment(d, e, err);
    if (r < 0)
        return -1;
    spool_draft_abort(dp); /* frees; the file's descriptor is gone already */
    return 0;
}
