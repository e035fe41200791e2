#include "store/store_priv.h"

#include "mail/mime.h"
#include "rt/file.h"
#include "rt/rt.h"

#include <fcntl.h>

/*
 * One message, many recipients.  The first recipient on a file system gets the
 * file itself: it is written into that account's tmp/, all others are linked
 * from there, and at the end it is renamed into its own place.  So a stranger
 * cannot move what we still link from, and a crash in the middle leaves some
 * with their copy, others without, nobody with half of one; the queue tries
 * again, and the delivery ids keep it at one copy each.
 */

enum { SOURCES_MAX = 8 };

/* A file in some account's tmp/ that holds the message. */
struct source {
    struct engine_put *put;
    struct store_account *account; /* pinned */
    char tmp[MAILBOX_DIR_MAX + FILE_NAME_MAX + 8];
    unsigned n_links;
    bool is_spill; /* the draft's own file: `put` stays there until the end */
    /* Whose file it becomes; rcpt NULL: nobody's. */
    struct store_rcpt *rcpt;
    struct store_mailbox *mailbox; /* pinned */
};

struct delivery {
    struct store_draft *d;
    struct source sources[SOURCES_MAX];
    size_t n_sources;
    const struct mail_part *root;
};

static void fail(struct store_rcpt *r, const struct err *err)
{
    r->failed = true;
    r->err = *err;
    if (r->err.class != ERR_PERM)
        r->err.class = ERR_TEMP;
}

static bool wants_sync(const struct delivery *v)
{
    return v->d->store->cfg.fsync == STORE_FSYNC_ALWAYS;
}

static void make_name(const struct delivery *v, struct store_rcpt *r)
{
    struct name_parts parts = { .usec = v->d->arrival_usec,
                                .crc = v->d->crc,
                                .size = v->d->size,
                                .crlf_size = v->d->crlf_size,
                                .host = v->d->store->host };

    memcpy(parts.id, r->id, ID_BYTES);
    base_name_make(r->file, sizeof r->file, &parts);
}

static uint32_t place_state(const struct store_rcpt *r)
{
    return r->flags ? ROW_HAS_INFO : ROW_IN_NEW;
}

static bool place_path(const struct store_mailbox *m,
                       const struct store_rcpt *r, char *dst, size_t size)
{
    return file_path(m, slice_str(r->file), letters_of(r->flags, 0),
                     place_state(r), dst, size);
}

/* ---- the record ---- */

struct sync_job {
    int dir_fd;
    int log_fd;
};

static int sync_run(void *arg)
{
    const struct sync_job *job = arg;

    return file_fsync(job->dir_fd) < 0 || file_fdatasync(job->log_fd) < 0 ? -1
                                                                          : 0;
}

/* mail_fsync=always: directory and index of one delivery. */
MAY_WAIT static int sync_place(struct store_mailbox *m,
                               const struct store_rcpt *r, struct err *err)
{
    char path[MAILBOX_DIR_MAX + 8];
    struct sync_job job = { -1, engine_log_fd(m->log) };
    int rc = 0;

    (void)snprintf(path, sizeof path, "%s%s", m->dir, r->flags ? "cur" : "new");
    job.dir_fd = openat(engine_dir_fd(m->account->dir), path,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (job.dir_fd < 0 || offload(sync_run, &job) < 0)
        rc = err_sys(err, "sync mailbox %s of %s", m->name, m->account->user);
    close_fd(&job.dir_fd);
    return rc;
}

MAY_WAIT static void compact_task(void *arg)
{
    struct store_mailbox *m = arg;
    struct err err;

    if (store_mailbox_compact(m, &err) < 0)
        store_note(m->account, "snapshot of %s: %s", m->name, err.log);
    store_mailbox_unref(&m);
}

void mailbox_compact_if_due(struct store_mailbox *m)
{
    if (m->compacting || !task_inside() || !index_wants_compact(m))
        return;
    m->pins++;
    m->account->pins++;
    (void)task_spawn("store-compact", compact_task, m);
}

/* The file is in place: now the index may name it (invariant 1). */
MAY_WAIT static int record(struct delivery *v, struct store_mailbox *m,
                           struct store_rcpt *r, struct err *err)
{
    const struct store_draft *d = v->d;
    struct buf own CLEANUP(buf_done) = { 0 };
    slice strings = buf_view(&d->strings);
    struct row row = {
        .idate = d->arrival_usec / 1000000,
        .sdate = clock_wall() / 1000,
        .size = d->size,
        .crlf_size = d->crlf_size,
        .flags = r->flags,
        .letters = letters_of(r->flags, 0),
        .state = place_state(r),
        .crc = d->crc,
        .cache_version = MAIL_MIME_VERSION,
    };

    memcpy(row.id, r->id, ID_BYTES);
    memcpy(row.emailid, r->id, ID_BYTES);
    if (d->n_rcpts > 1 && r->delivered_to.n + r->orig_to.n > 0) {
        buf_init(&own, strings.n + r->delivered_to.n + r->orig_to.n + 64);
        buf_slice(&own, strings);
        if (r->delivered_to.n > 0)
            attr_put(&own, STORE_DELIVERED_TO, r->delivered_to);
        if (r->orig_to.n > 0)
            attr_put(&own, STORE_X_ORIGINAL_TO, r->orig_to);
        strings = buf_view(&own);
    }
    if (mailbox_add(m, &row, slice_str(r->file), strings, err) < 0)
        return -1;
    r->uid = row.uid;
    if (wants_sync(v)) {
        if (sync_place(m, r, err) < 0)
            return -1;
        r->durable = true;
    }
    mailbox_changed(m);
    mailbox_compact_if_due(m);
    return 0;
}

/* Make the record of a file that is in place, or take the file away again. */
MAY_WAIT static void settle(struct delivery *v, struct store_mailbox *m,
                            struct store_rcpt *r, const char *path)
{
    struct err err;

    if (record(v, m, r, &err) == 0)
        return;
    fail(r, &err);
    /* It may stand in the index already (only the sync failed): then the next
     * try finds the id there. */
    if (row_by_id(m, r->id) == rows_count(m) &&
        engine_unlink(m->account->dir, path, NULL) != ENGINE_OK)
        m->must_scan = true;
}

/* ---- sources ---- */

/* Not inlined: its path is half a stack frame. */
MAY_WAIT __attribute__((noinline)) static void source_finish(struct delivery *v,
                                                             struct source *s)
{
    char path[PATH_IN_DIR_MAX + 64];
    struct err err;

    if (s->is_spill) {
        s->put = v->d->spill;
        v->d->spill = NULL;
    }
    /* Another task may have delivered the same id while this one waited. */
    if (s->rcpt &&
        row_by_id(s->mailbox, s->rcpt->id) < rows_count(s->mailbox)) {
        s->rcpt->duplicate = true;
    } else if (s->rcpt && s->put &&
               place_path(s->mailbox, s->rcpt, path, sizeof path)) {
        enum engine_outcome o = engine_put_commit(&s->put, path, &err);

        if (o == ENGINE_OK) {
            settle(v, s->mailbox, s->rcpt, path);
        } else {
            (void)store_fail(o, &err, "deliver to", s->account->user);
            fail(s->rcpt, &err);
        }
    }
    engine_put_abort(&s->put);
    store_mailbox_unref(&s->mailbox);
    store_account_unref(&s->account);
}

MAY_WAIT static struct source *source_slot(struct delivery *v)
{
    size_t oldest;

    if (v->n_sources < SOURCES_MAX)
        return &v->sources[v->n_sources++];
    /* The spilled bytes are read back for every new file: they stay. */
    oldest = v->sources[0].is_spill ? 1 : 0;
    source_finish(v, &v->sources[oldest]);
    memmove(&v->sources[oldest], &v->sources[oldest + 1],
            (SOURCES_MAX - 1 - oldest) * sizeof v->sources[0]);
    return &v->sources[SOURCES_MAX - 1];
}

static int fdatasync_run(void *arg)
{
    return file_fdatasync(*(int *)arg);
}

MAY_WAIT static int source_sync(const struct delivery *v,
                                struct engine_put *put, struct err *err)
{
    int fd = engine_put_fd(put);

    if (wants_sync(v) && offload(fdatasync_run, &fd) < 0)
        return err_sys(err, "sync message");
    return 0;
}

/* Copy the spilled bytes into another file. */
static int copy_spill(struct delivery *v, struct engine_put *put,
                      struct err *err)
{
    struct store_draft *d = v->d;
    char *chunk CLEANUP(free_ptr) = xmalloc(256 << 10);
    uint64_t at = 0;

    while (at < d->size) {
        ssize_t n = pread(engine_put_fd(d->spill), chunk,
                          min_size(256 << 10, d->size - at), (off_t)at);
        struct iovec piece = { chunk, n > 0 ? (size_t)n : 0 };

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(err, "read back the message");
        if (engine_put_write(put, &piece, 1, err) != ENGINE_OK)
            return -1;
        at += (uint64_t)n;
    }
    return 0;
}

static int write_body(struct delivery *v, struct engine_put *put,
                      struct err *err)
{
    struct store_draft *d = v->d;
    struct iovec all = { d->mem.p, d->mem.n };

    if (d->spill)
        return copy_spill(v, put, err);
    return engine_put_write(put, &all, 1, err) == ENGINE_OK ? 0 : -1;
}

static int put_open(struct store_mailbox *m, const char *tmp,
                    struct engine_put **out, struct err *err)
{
    enum engine_outcome o =
        engine_put_open(m->account->dir, tmp, 0600, out, err);

    /* Somebody removed tmp/: it costs nothing to have it again. */
    if (o == ENGINE_NOENT && mailbox_make_dirs(m, err) == 0)
        o = engine_put_open(m->account->dir, tmp, 0600, out, err);
    return o == ENGINE_OK ? 0
                          : store_fail(o, err, "deliver to", m->account->user);
}

/* A new file for this recipient, from which others may be linked. */
MAY_WAIT static int source_new(struct delivery *v, struct store_mailbox *m,
                               struct store_rcpt *r, struct err *err)
{
    struct engine_put *put = NULL;
    struct source *s;
    char tmp[MAILBOX_DIR_MAX + FILE_NAME_MAX + 8];

    (void)snprintf(tmp, sizeof tmp, "%stmp/%s", m->dir, r->file);
    if (put_open(m, tmp, &put, err) < 0)
        return -1;
    if (write_body(v, put, err) < 0 || source_sync(v, put, err) < 0) {
        engine_put_abort(&put);
        return store_fail(ENGINE_TRYLATER, err, "deliver to", m->account->user);
    }
    s = source_slot(v);
    *s = (struct source){
        .put = put, .account = m->account, .n_links = 1, .rcpt = r, .mailbox = m
    };
    memcpy(s->tmp, tmp, sizeof s->tmp);
    m->pins++;
    m->account->pins += 2; /* the mailbox's and our own */
    return 0;
}

/* The draft's own file is the first source. */
MAY_WAIT static void source_spill(struct delivery *v)
{
    struct store_draft *d = v->d;
    struct source *s;

    if (!d->spill)
        return;
    s = source_slot(v);
    *s = (struct source){ .account = d->spill_account,
                          .n_links = 1,
                          .is_spill = true };
    memcpy(s->tmp, d->spill_tmp, sizeof d->spill_tmp);
    s->account->pins++;
}

/* ---- one recipient ---- */

enum linked { LINKED, NOT_LINKED, LINK_FAILED };

static enum linked link_from(struct source *s, struct store_mailbox *m,
                             const char *path, struct err *err)
{
    unsigned max = m->account->store->cfg.max_links;
    enum engine_outcome o;

    if (s->account->dev != m->account->dev || (max > 0 && s->n_links >= max))
        return NOT_LINKED;
    o = engine_link(s->account->dir, s->tmp, m->account->dir, path, err);
    if (o == ENGINE_OK) {
        s->n_links++;
        return LINKED;
    }
    /* What a file of its own may cure: full link counts, file systems without
     * links or with borders inside, a source that was cleaned away. */
    if (err->sys == EMLINK || err->sys == EXDEV || err->sys == EPERM ||
        err->sys == EOPNOTSUPP || err->sys == ENOENT)
        return NOT_LINKED;
    (void)store_fail(o, err, "deliver to", m->account->user);
    return LINK_FAILED;
}

/* The spilled file becomes the file of the first recipient in its account. */
static bool take_spill(struct delivery *v, struct store_mailbox *m,
                       struct store_rcpt *r)
{
    for (size_t i = 0; i < v->n_sources; i++) {
        struct source *s = &v->sources[i];

        if (!s->is_spill || s->rcpt || s->account != m->account)
            continue;
        s->rcpt = r;
        s->mailbox = m;
        m->pins++;
        m->account->pins++;
        return true;
    }
    return false;
}

MAY_WAIT static int place(struct delivery *v, struct store_mailbox *m,
                          struct store_rcpt *r, struct err *err)
{
    char path[PATH_IN_DIR_MAX + 64];

    if (take_spill(v, m, r))
        return 0;
    if (!place_path(m, r, path, sizeof path))
        return err_temp(err, "file name is too long");
    for (size_t i = v->n_sources; i > 0; i--) {
        enum linked l = link_from(&v->sources[i - 1], m, path, err);

        if (l == LINKED) {
            settle(v, m, r, path);
            return 0;
        }
        if (l == LINK_FAILED)
            return -1;
    }
    return source_new(v, m, r, err);
}

/* Answered as delivered, though nothing is written. */
static bool is_known(struct store_mailbox *m, struct store_rcpt *r)
{
    size_t row = row_by_id(m, r->id);

    if (row < rows_count(m)) {
        (void)slice_copy_to(row_name(m, row), r->file, sizeof r->file);
        r->uid = ROW_FIELD(m, row, uid);
        return true;
    }
    return account_knows_gone(m->account, r->id);
}

/* A retry: what was promised to nobody is written once more. */
static int renew(struct store_mailbox *m, struct store_rcpt *r, struct err *err)
{
    size_t row = row_by_id(m, r->id);

    if (row < rows_count(m) && store_renew(m, row, err) < 0)
        return -1;
    r->duplicate = is_known(m, r);
    return 0;
}

MAY_WAIT static int deliver_to(struct delivery *v, struct store_account *a,
                               struct store_rcpt *r, struct err *err)
{
    struct store_mailbox *m = NULL;
    slice name = r->mailbox.n > 0 ? r->mailbox : SL("INBOX");
    int rc = 0;

    if (store_mailbox_open(a, name, STORE_CREATE, &m, err) < 0)
        return -1;
    r->fs = a->dev;
    if (!r->has_id)
        random_bytes(r->id, ID_BYTES);
    if (m->must_scan)
        rc = mailbox_scan(m, SCAN_FORCE, err);
    if (rc == 0 && is_known(m, r))
        rc = renew(m, r, err);
    if (rc == 0 && !r->duplicate) {
        make_name(v, r);
        rc = place(v, m, r, err);
    }
    store_mailbox_unref(&m);
    return rc;
}

MAY_WAIT __attribute__((noinline)) static void deliver_one(struct delivery *v,
                                                           struct store_rcpt *r)
{
    struct store_account *a = NULL;
    struct err err = { 0 };

    for (int tries = 0; tries < 2; tries++) {
        bool again = false;

        if (store_account_open(v->d->store, r->user, r->location, true, &a,
                               &err) == 0 &&
            deliver_to(v, a, r, &err) == 0) {
            store_account_unref(&a);
            return;
        }
        /* A Maildir that was removed or moved under our hands is made anew. */
        if (a && err.sys == ENOENT)
            again = store_account_detach_if_moved(a);
        store_account_unref(&a);
        if (!again)
            break;
    }
    fail(r, &err);
}

/* The same id twice in one transaction, in the source's account: the first has
 * no record yet. */
static bool is_repeat(const struct delivery *v, struct store_rcpt *r)
{
    for (size_t k = 0; r->has_id && k < v->n_sources; k++) {
        const struct store_rcpt *o = v->sources[k].rcpt;

        if (!o || memcmp(o->id, r->id, ID_BYTES) != 0 ||
            !slice_eq(o->location, r->location))
            continue;
        r->duplicate = true;
        r->fs = o->fs;
        return true;
    }
    return false;
}

MAY_WAIT static int prepare(struct delivery *v, struct err *err)
{
    struct store_draft *d = v->d;

    v->root = mail_mime_finish(d->mime);
    d->crlf_size = mail_part_virtual_size(v->root);
    if (d->spill_account) {
        if (!d->spill)
            return err_temp(err, "the message could not be written");
        if (draft_flush(d, err) < 0 || source_sync(v, d->spill, err) < 0)
            return -1;
    }
    (void)tree_strings(v->root, d->spill ? SLICE_NONE : buf_view(&d->mem),
                       d->spill ? engine_put_fd(d->spill) : -1, &d->strings);
    return 0;
}

void store_deliver(struct store_draft **dp)
{
    struct store_draft *d = *dp;
    struct delivery *v = xcalloc(1, sizeof *v);
    struct err err = { 0 };

    CHECK_OBJ(d, DRAFT_MAGIC);
    v->d = d;
    if (prepare(v, &err) < 0) {
        for (size_t i = 0; i < d->n_rcpts; i++)
            fail(&d->rcpts[i], &err);
    } else {
        source_spill(v);
        for (size_t i = 0; i < d->n_rcpts; i++) {
            if (!is_repeat(v, &d->rcpts[i]))
                deliver_one(v, &d->rcpts[i]);
            if (task_inside())
                task_yield_if_long();
        }
    }
    for (size_t i = 0; i < v->n_sources; i++)
        source_finish(v, &v->sources[i]);
    free(v);
    store_draft_free(dp);
}
