/*
 * Logs over local files, with group commit: appends of one turn of the loop,
 * and all that come while a sync is in flight, go out in one write and one sync
 * by a pool thread.
 *
 *     collecting --flush--> flying --(thread: pwritev, fdatasync)--> done
 *
 * A small batch that nobody waits to be durable is written by the loop itself.
 *
 * At most one batch flies.  Where it reaches blocks that were never written, it
 * also writes zeroes ahead: a sync into blocks that only are reserved makes the
 * file system commit its journal (to note that they hold something), and waits
 * for every other change of metadata under way; one into written blocks does
 * not.
 *
 * A waiter is a struct on its task's stack; it is
 * answered by job_done() and never looks at the log again, so that the log may
 * be closed while it waits.
 */
#include "engine/engine_priv.h"

#include "base/digest.h"
#include "rt/file.h"
#include <fcntl.h>
#include <sys/stat.h>

#define TYPE_SEAL    0x7fff
#define PIECES_MAX   4
#define INLINE_BYTES (64u << 10)
#define AHEAD_FIRST  (64u << 10) /* zeroes written ahead, doubled each time, */
#define AHEAD_MAX    (2u << 20)  /* up to this */
#define AHEAD_BATCH                                                            \
 (1u << 20) /* larger batches bear a slow sync by themselves */

/* Bytes that wait to be written: the caller's, or (p NULL) in `copies`. */
struct piece {
    void *p;
    size_t at;
    size_t n;
};

struct batch {
    struct piece *pieces;
    size_t n_pieces;
    size_t n_alloc;
    struct buf copies;
    uint64_t from; /* file offsets */
    uint64_t to;
};

struct log_waiter {
    struct list link;
    struct task *task;
    uint64_t upto;
    bool done;
    enum engine_outcome outcome;
    struct err err;
};

struct engine_log {
    uint32_t magic;
    int fd;
    bool self_sync;
    bool is_open;
    bool is_flying;
    bool is_closing;
    bool want_push;
    uint8_t head[ENGINE_LOG_HEAD];
    char *name;
    uint64_t epoch;
    uint64_t end; /* queued */
    uint64_t written_end;
    uint64_t durable_end;
    uint64_t max;
    uint64_t prepared_end; /* below it every block has been written */
    uint64_t reserved_end; /* below it blocks belong to the file */
    size_t ahead;          /* zeroes to write when prepared_end is reached */
    struct batch collecting;
    struct batch flying;
    bool flying_sync;
    int flying_errno;
    const char *flying_what;
    struct list waiters; /* upto ascending is not promised */
    struct deferred flush;
    bool (*more)(void *arg); /* NULL: nobody can tell */
    void *more_arg;
    struct timer patience;
    msec patience_end;           /* 0: nobody is kept waiting */
    enum engine_outcome outcome; /* once closed */
    struct err err;
};

static void batch_reset(struct batch *b)
{
    b->n_pieces = 0;
    if (b->copies.size > (1u << 20))
        buf_release(&b->copies);
    else
        buf_clear(&b->copies);
}

static void batch_add(struct batch *b, struct piece p)
{
    struct piece *last = b->n_pieces > 0 ? &b->pieces[b->n_pieces - 1] : NULL;

    if (p.n == 0)
        return;
    if (p.p == NULL && last != NULL && last->p == NULL &&
        last->at + last->n == p.at) {
        last->n += p.n;
        return;
    }
    if (b->n_pieces == b->n_alloc) {
        b->n_alloc = b->n_alloc == 0 ? 16 : b->n_alloc * 2;
        b->pieces = xrealloc(b->pieces, b->n_alloc * sizeof *b->pieces);
    }
    CHECK(b->pieces != NULL);
    b->pieces[b->n_pieces++] = p;
}

static void batch_copy(struct batch *b, const void *p, size_t n)
{
    size_t at = b->copies.n;

    CHECK(buf_put(&b->copies, p, n));
    batch_add(b, (struct piece){ NULL, at, n });
}

/* ------------------------------------------------------- making and opening */

static struct engine_log *log_new(int fd, const struct engine_log_spec *spec,
                                  uint64_t epoch, uint64_t end)
{
    struct engine_log *l = xcalloc(1, sizeof *l);
    struct stat st;

    l->magic = ENGINE_LOG_MAGIC;
    l->fd = fd;
    l->name = xstrdup(spec->name);
    l->self_sync = spec->self_sync;
    l->is_open = true;
    l->epoch = epoch;
    l->max = spec->max_bytes != 0 ? spec->max_bytes : ENGINE_LOG_MAX;
    l->end = end;
    l->written_end = end;
    l->durable_end = end;
    l->prepared_end = end;
    if (fstat(fd, &st) == 0)
        l->reserved_end = min_size((uint64_t)st.st_size, l->max);
    l->ahead = AHEAD_FIRST;
    /* No more can be queued than fits into the file (and its seal). */
    buf_init(&l->collecting.copies, l->max + ENGINE_RECORD_HEAD);
    buf_init(&l->flying.copies, l->max + ENGINE_RECORD_HEAD);
    list_init(&l->waiters);
    return l;
}

enum engine_outcome engine_log_create(struct engine_dir *d,
                                      struct engine_lease *lease,
                                      const struct engine_log_spec *spec,
                                      struct engine_log **out, struct err *err)
{
    enum engine_outcome o = engine_name_check(spec->name, err);
    uint64_t epoch = lease != NULL ? engine_lease_epoch(lease) : 0;
    uint8_t head[ENGINE_LOG_HEAD];
    int fd;

    if (o != ENGINE_OK)
        return o;
    fd = file_openat(d->fd, spec->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                     0600);
    if (fd < 0)
        return engine_fail(err, "create %s", spec->name);
    engine_log_head_encode(head, spec, epoch);
    if (file_write_all(fd, slice_of(head, sizeof head), 0) < 0) {
        o = engine_fail(err, "write %s", spec->name);
    } else if (spec->preallocate_bytes > 0 &&
               file_fallocate(fd, 0, (off_t)spec->preallocate_bytes) < 0 &&
               errno != EOPNOTSUPP) {
        o = engine_fail(err, "preallocate %s", spec->name);
    }
    if (o != ENGINE_OK) {
        close_fd(&fd);
        (void)file_unlinkat(d->fd, spec->name, 0);
        return o;
    }
    *out = log_new(fd, spec, epoch, ENGINE_LOG_HEAD);
    memcpy((*out)->head, head, sizeof head);
    return ENGINE_OK;
}

static enum engine_outcome log_read_head(int fd,
                                         const struct engine_log_spec *spec,
                                         uint8_t head[static ENGINE_LOG_HEAD],
                                         struct engine_log_info *info,
                                         struct err *err)
{
    ssize_t n = pread(fd, head, ENGINE_LOG_HEAD, 0);

    if (n < 0)
        return engine_fail(err, "read %s", spec->name);
    if (n < ENGINE_LOG_HEAD) {
        err_temp(err, "%s: the file has no header", spec->name);
        return ENGINE_CHANGED;
    }
    return engine_log_head_decode(head, spec, info, err);
}

enum engine_outcome engine_log_open(struct engine_dir *d,
                                    struct engine_lease *lease,
                                    const struct engine_log_spec *spec,
                                    uint64_t end, struct engine_log **out,
                                    struct err *err)
{
    enum engine_outcome o = engine_name_check(spec->name, err);
    uint8_t head[ENGINE_LOG_HEAD] = { 0 };
    struct engine_log_info info = { 0 };
    int fd;

    if (o != ENGINE_OK)
        return o;
    fd = openat(d->fd, spec->name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return engine_fail(err, "open %s", spec->name);
    o = log_read_head(fd, spec, head, &info, err);
    if (o == ENGINE_OK && lease != NULL)
        o = engine_lease_raise(lease, info.epoch, err);
    if (o != ENGINE_OK) {
        close_fd(&fd);
        return o;
    }
    *out =
        log_new(fd, spec, lease != NULL ? engine_lease_epoch(lease) : 0, end);
    memcpy((*out)->head, head, sizeof head);
    return ENGINE_OK;
}

enum engine_outcome engine_log_adopt(struct engine *e, int fd, uint64_t end,
                                     const struct engine_log_spec *spec,
                                     struct engine_log **out, struct err *err)
{
    uint8_t head[ENGINE_LOG_HEAD] = { 0 };
    struct engine_log_info info = { 0 };
    enum engine_outcome o;

    CHECK_OBJ(e, ENGINE_MAGIC);
    o = log_read_head(fd, spec, head, &info, err);
    if (o != ENGINE_OK) {
        close_fd(&fd);
        return o;
    }
    *out = log_new(fd, spec, info.epoch, end);
    memcpy((*out)->head, head, sizeof head);
    return ENGINE_OK;
}

/* ---------------------------------------------------------------- looking */

int engine_log_fd(const struct engine_log *l)
{
    return l->fd;
}

bool engine_log_is_open(const struct engine_log *l)
{
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    return l->is_open;
}

uint64_t engine_log_end(const struct engine_log *l)
{
    return l->end;
}

uint64_t engine_log_durable_end(const struct engine_log *l)
{
    return l->durable_end;
}

uint64_t engine_log_room(const struct engine_log *l)
{
    return l->end < l->max ? l->max - l->end : 0;
}

/* ------------------------------------------------------------ group commit */

static void waiter_answer(struct log_waiter *w, enum engine_outcome o,
                          const struct err *err)
{
    list_remove(&w->link);
    w->outcome = o;
    if (o != ENGINE_OK)
        w->err = *err;
    w->done = true;
    if (w->task != NULL)
        task_wake(w->task);
}

/* Invariant 2: from here on nobody appends and nobody syncs. */
static void log_fail(struct engine_log *l, enum engine_outcome o)
{
    l->is_open = false;
    l->outcome = o;
    l->end = l->written_end;
    batch_reset(&l->collecting);
}

static void answer_waiters(struct engine_log *l)
{
    list_each_safe(it, tmp, &l->waiters) {
        struct log_waiter *w = CONTAINER_OF(it, struct log_waiter, link);

        if (w->upto <= l->durable_end)
            waiter_answer(w, ENGINE_OK, NULL);
        else if (!l->is_open)
            waiter_answer(w, l->outcome, &l->err);
    }
}

static void log_delete(struct engine_log *l)
{
    CHECK(list_empty(&l->waiters));
    deferred_cancel(&l->flush);
    timer_cancel(&l->patience);
    close_fd(&l->fd);
    free(l->collecting.pieces);
    free(l->flying.pieces);
    buf_done(&l->collecting.copies);
    buf_done(&l->flying.copies);
    free(l->name);
    l->magic = 0;
    free(l);
}

/* Write v[0..n) at `at`, whatever the kernel takes at a time. */
static int write_fully(int fd, struct iovec *v, size_t n, off_t at)
{
    while (n > 0) {
        ssize_t wrote = file_pwritev(fd, v, (int)n, at);
        size_t left;

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return -1;
        at += wrote;
        left = (size_t)wrote;
        while (n > 0 && left >= v->iov_len) {
            left -= v->iov_len;
            v++;
            n--;
        }
        if (n > 0 && left > 0) {
            v->iov_base = (char *)v->iov_base + left;
            v->iov_len -= left;
        }
    }
    return 0;
}

/* Zeroes behind the batch.  When that fails the batch is none the worse. */
static void prepare_blocks(struct engine_log *l)
{
    static uint8_t zeroes[AHEAD_FIRST]; /* never written: the zero page */
    struct iovec v[AHEAD_MAX / AHEAD_FIRST];
    uint64_t at = l->flying.to;
    uint64_t left;
    size_t n = 0;

    if (at <= l->prepared_end || at >= l->reserved_end ||
        at - l->flying.from > AHEAD_BATCH)
        return;
    left = min_size(l->ahead, l->reserved_end - at);
    l->prepared_end = at + left;
    l->ahead = min_size(l->ahead * 2, AHEAD_MAX);
    for (; left > 0; left -= v[n++].iov_len)
        v[n] = (struct iovec){ zeroes, min_size(left, sizeof zeroes) };
    if (write_fully(l->fd, v, n, (off_t)at) < 0)
        l->reserved_end = 0;
}

/* Runs in a pool thread; touches only `flying*`, fd, what prepare_blocks()
 * keeps. */
static int job_run(void *arg)
{
    struct engine_log *l = arg;
    struct batch *b = &l->flying;
    struct iovec v[64];
    uint64_t at = b->from;
    size_t i = 0;

    while (i < b->n_pieces) {
        size_t n = 0;
        uint64_t bytes = 0;

        while (n < ARRAY_LEN(v) && i < b->n_pieces) {
            const struct piece *p = &b->pieces[i++];

            v[n].iov_base = p->p != NULL ? p->p : b->copies.p + p->at;
            v[n++].iov_len = p->n;
            bytes += p->n;
        }
        if (write_fully(l->fd, v, n, (off_t)at) < 0) {
            l->flying_errno = errno;
            l->flying_what = "write";
            return -1;
        }
        at += bytes;
    }
    if (l->flying_sync)
        prepare_blocks(l);
    if (l->flying_sync && file_fdatasync(l->fd) < 0) {
        l->flying_errno = errno;
        l->flying_what = "sync";
        return -1;
    }
    return 0;
}

static void log_kick(struct engine_log *l);

/* What the thread did is known: tell who waited. */
static void job_finish(struct engine_log *l, int result)
{
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    l->is_flying = false;
    batch_reset(&l->flying);
    if (result == 0) {
        l->written_end = l->flying.to;
        if (l->flying_sync)
            l->durable_end = l->flying.to;
    } else {
        errno = l->flying_errno;
        log_fail(l, engine_fail(&l->err, "%s %s", l->flying_what, l->name));
    }
    if (l->is_closing && l->is_open) {
        err_temp(&l->err, "%s was closed", l->name);
        log_fail(l, ENGINE_UNKNOWN);
    }
    answer_waiters(l);
}

static void job_done(void *arg, int result)
{
    struct engine_log *l = arg;

    job_finish(l, result);
    if (l->is_closing)
        log_delete(l);
    else
        log_kick(l);
}

/* Somebody waits for a sync that is not yet done? */
static bool sync_wanted(const struct engine_log *l)
{
    return !list_empty(&l->waiters);
}

static void log_flush(struct engine_log *l)
{
    struct batch swap;

    if (!l->is_open || l->is_flying)
        return;
    if (l->collecting.n_pieces == 0 && !sync_wanted(l))
        return;
    timer_cancel(&l->patience);
    l->patience_end = 0;
    swap = l->flying;
    l->flying = l->collecting;
    l->collecting = swap;
    l->flying.from = l->written_end;
    l->flying.to = l->end;
    l->flying_sync = sync_wanted(l);
    l->want_push = false;
    l->is_flying = true;
    /* A little that nobody waits for goes to the page cache: handing it to a
     * thread and hearing of its end would cost more than the write. */
    if (!l->flying_sync && l->flying.to - l->flying.from <= INLINE_BYTES)
        job_done(l, job_run(l));
    else
        offload_bg(job_run, job_done, l);
}

static void patience_over(struct timer *t)
{
    log_flush(CONTAINER_OF(t, struct engine_log, patience));
}

/* Is somebody coming who would share the sync? */
static bool is_worth_waiting(struct engine_log *l)
{
    if (l->more == NULL || !sync_wanted(l) ||
        l->end - l->written_end > INLINE_BYTES)
        return false;
    if (l->patience_end == 0)
        l->patience_end = loop_now() + ENGINE_PATIENCE_MS;
    if (loop_now() >= l->patience_end || !l->more(l->more_arg))
        return false;
    if (!timer_is_set(&l->patience))
        timer_set(&l->patience, l->patience_end, patience_over);
    return true;
}

static void flush_deferred(struct deferred *d)
{
    struct engine_log *l = CONTAINER_OF(d, struct engine_log, flush);

    if (l->is_open && !l->is_flying && is_worth_waiting(l))
        return;
    log_flush(l);
}

void engine_log_patience(struct engine_log *l, bool (*more)(void *arg),
                         void *arg)
{
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    l->more = more;
    l->more_arg = arg;
}

/* See to it that what waits goes out after this turn of the loop. */
static void log_kick(struct engine_log *l)
{
    if (l->is_open && !l->is_flying && (l->want_push || sync_wanted(l)))
        deferred_set(&l->flush, flush_deferred);
}

/* --------------------------------------------------------------- appending */

static enum engine_outcome log_closed(const struct engine_log *l,
                                      struct err *err)
{
    if (err != NULL)
        *err = l->err;
    return l->outcome;
}

void engine_log_why(const struct engine_log *l, struct err *err)
{
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    CHECK(!l->is_open);
    *err = l->err;
}

/* The record's header, with the CRC over the payload's pieces. */
static void record_head(const struct engine_log *l, uint16_t type,
                        const struct iovec *v, int n,
                        uint8_t out[static ENGINE_RECORD_HEAD])
{
    struct engine_record_head h = { .type = type, .epoch = l->epoch };
    uint32_t crc = engine_crc_start(l->head, l->end);

    for (int i = 0; i < n; i++) {
        crc = crc32c(crc, v[i].iov_base, v[i].iov_len);
        h.length += v[i].iov_len;
    }
    engine_record_encode(out, &h, engine_record_crc(&h, crc));
}

static enum engine_outcome append_now(struct engine_log *l, uint8_t *head,
                                      const struct iovec *v, int n,
                                      uint64_t bytes, struct err *err)
{
    struct iovec all[1 + PIECES_MAX];

    all[0].iov_base = head;
    all[0].iov_len = ENGINE_RECORD_HEAD;
    for (int i = 0; i < n; i++)
        all[1 + i] = v[i];
    if (write_fully(l->fd, all, (size_t)n + 1, (off_t)l->end) < 0) {
        log_fail(l, engine_fail(&l->err, "write %s", l->name));
        return log_closed(l, err);
    }
    l->end += bytes;
    l->written_end = l->end;
    return ENGINE_OK;
}

/* NOLINTNEXTLINE(readability-function-size): a struct on the hottest path? */
enum engine_outcome engine_log_append(struct engine_log *l, uint16_t type,
                                      const struct iovec *v, int n,
                                      unsigned flags, uint64_t *at_out,
                                      struct err *err)
{
    uint8_t head[ENGINE_RECORD_HEAD];
    uint64_t bytes = ENGINE_RECORD_HEAD;
    uint64_t at = l->end;

    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    CHECK(n >= 0 && n <= PIECES_MAX);
    if (!l->is_open)
        return log_closed(l, err);
    for (int i = 0; i < n; i++)
        bytes += v[i].iov_len;
    CHECK(bytes <= engine_log_room(l));
    record_head(l, type, v, n, head);
    if (!l->self_sync) {
        enum engine_outcome o = append_now(l, head, v, n, bytes, err);

        if (o != ENGINE_OK)
            return o;
    } else {
        batch_copy(&l->collecting, head, sizeof head);
        for (int i = 0; i < n; i++) {
            if ((flags & ENGINE_COPY) != 0)
                batch_copy(&l->collecting, v[i].iov_base, v[i].iov_len);
            else
                batch_add(&l->collecting,
                          (struct piece){ v[i].iov_base, 0, v[i].iov_len });
        }
        l->end += bytes;
    }
    if (at_out != NULL)
        *at_out = at;
    return ENGINE_OK;
}

void engine_log_push(struct engine_log *l)
{
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    if (!l->self_sync || l->collecting.n_pieces == 0)
        return;
    l->want_push = true;
    log_kick(l);
}

/* Outside any task there is nobody to share with: do it here and now. */
static void flush_blocking(struct engine_log *l)
{
    CHECK(!l->is_flying);
    while (l->is_open && sync_wanted(l)) {
        struct batch swap = l->flying;
        int result;

        l->flying = l->collecting;
        l->collecting = swap;
        l->flying.from = l->written_end;
        l->flying.to = l->end;
        l->flying_sync = true;
        result = job_run(l);
        job_finish(l, result);
    }
}

/* The thread reads the caller's bytes: a cancel has to wait for it. */
static MAY_WAIT void waiter_wait(const struct log_waiter *w)
{
    bool cancelled = false;

    while (!w->done) {
        if (task_wait(MSEC_NEVER, NULL) < 0 && task_is_cancelled()) {
            cancelled = true;
            task_uncancel();
        }
    }
    if (cancelled)
        task_cancel(task_self());
}

enum engine_outcome engine_log_durable(struct engine_log *l, uint64_t upto,
                                       struct err *err)
{
    struct log_waiter w = { .task = task_self(), .upto = upto };

    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    CHECK(l->self_sync);
    if (upto <= l->durable_end)
        return ENGINE_OK;
    if (!l->is_open)
        return log_closed(l, err);
    CHECK(upto <= l->end);
    list_init(&w.link);
    list_push(&l->waiters, &w.link);
    if (!task_inside()) {
        flush_blocking(l);
        CHECK(w.done);
    } else {
        log_kick(l);
    }
    waiter_wait(&w);
    if (w.outcome != ENGINE_OK && err != NULL)
        *err = w.err;
    return w.outcome;
}

enum engine_outcome engine_log_seal(struct engine_log *l, struct err *err)
{
    enum engine_outcome o;

    /* Room for this one is not counted in max_bytes. */
    l->max += ENGINE_RECORD_HEAD;
    o = engine_log_append(l, TYPE_SEAL | ENGINE_MUST_UNDERSTAND, NULL, 0,
                          ENGINE_COPY, NULL, err);
    if (o == ENGINE_OK && l->self_sync)
        o = engine_log_durable(l, l->end, err);
    if (l->is_open) {
        err_temp(&l->err, "%s is sealed", l->name);
        log_fail(l, ENGINE_FENCED);
    }
    return o;
}

void engine_log_close(struct engine_log **lp)
{
    struct engine_log *l = *lp;

    if (l == NULL)
        return;
    CHECK_OBJ(l, ENGINE_LOG_MAGIC);
    *lp = NULL;
    l->is_closing = true;
    if (l->is_flying)
        return; /* job_done() answers and deletes */
    if (l->is_open) {
        err_temp(&l->err, "%s was closed", l->name);
        log_fail(l, ENGINE_UNKNOWN);
    }
    answer_waiters(l);
    log_delete(l);
}

enum engine_outcome engine_log_remove(struct engine_dir *d, const char *name,
                                      struct err *err)
{
    return engine_unlink(d, name, err);
}
