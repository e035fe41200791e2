#include "store/store_priv.h"

#include "rt/rt.h"

/* COPY and MOVE within an account: links, then records. */

enum {
    COPY_CHUNK = 128 << 10,
    FIND_TRIES = 3,
};

struct copying {
    struct store_mailbox *from, *to;
    struct arrival *list;
    uint32_t *uids; /* of the originals, as list[] */
    size_t n;
    uint8_t (*ids)[ID_BYTES]; /* of a move's copies, as they were asked for */
    unsigned char bit[N_KEYWORDS]; /* of the target; 255: not asked yet */
};

/* Keywords by their names: the two mailboxes number them differently. */
static int map_keywords(struct copying *c, uint64_t keywords, uint64_t *out,
                        struct err *err)
{
    *out = 0;
    if (c->from == c->to) {
        *out = keywords;
        return 0;
    }
    for (unsigned i = 0; keywords != 0 && i < N_KEYWORDS; i++) {
        unsigned bit;
        slice name = store_keyword(c->from, i);

        if (!(keywords >> i & 1) || name.n == 0)
            continue;
        if (c->bit[i] == UINT8_MAX) {
            if (store_keyword_bit(c->to, name, &bit, err) < 0)
                return -1;
            c->bit[i] = (unsigned char)bit;
        }
        *out |= UINT64_C(1) << c->bit[i];
    }
    return 0;
}

/* Where the original's file lies; false when nobody knows. */
static bool source_path(struct store_mailbox *m, size_t r, char *dst,
                        size_t size)
{
    if (ROW_FIELD(m, r, state) & ROW_ODD_NAME)
        return find_by_base(m, row_name(m, r), dst, size);
    return row_path(m, r, dst, size);
}

/* A file of its own, where links are not to be had. */
static int copy_bytes(struct copying *c, const char *from, const char *base,
                      const char *to, struct err *err)
{
    struct engine_dir *dir = c->to->account->dir;
    char *chunk CLEANUP(free_ptr) = xmalloc(COPY_CHUNK);
    int fd CLEANUP(close_fd) = -1;
    char tmp[PATH_IN_DIR_MAX + 64];
    struct engine_put *put = NULL;
    enum engine_outcome o;
    uint64_t size;
    off_t at = 0;
    ssize_t n;

    (void)snprintf(tmp, sizeof tmp, "%stmp/%s", c->to->dir, base);
    o = engine_get(dir, from, &fd, &size, err);
    if (o == ENGINE_OK)
        o = engine_put_open(dir, tmp, 0600, &put, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "copy to", c->to->name);
    while ((n = pread(fd, chunk, COPY_CHUNK, at)) > 0) {
        struct iovec v = { chunk, (size_t)n };

        if (engine_put_write(put, &v, 1, err) != ENGINE_OK) {
            engine_put_abort(&put);
            return store_fail(ENGINE_TRYLATER, err, "copy to", c->to->name);
        }
        at += n;
    }
    if (n < 0) {
        engine_put_abort(&put);
        return err_sys(err, "read message");
    }
    o = engine_put_commit(&put, to, err);
    return o == ENGINE_OK ? 0 : store_fail(o, err, "copy to", c->to->name);
}

/* 1: linked; 0: the original is not where it was; -1: no. */
static int link_one(struct copying *c, size_t r, struct arrival *a,
                    struct err *err)
{
    struct engine_dir *dir = c->to->account->dir;
    char from[PATH_IN_DIR_MAX + 64];
    char to[PATH_IN_DIR_MAX + 64];
    enum engine_outcome o;

    if (!source_path(c->from, r, from, sizeof from))
        return 0;
    if (!arrival_path(c->to, a, to, sizeof to))
        return err_temp(err, "file name is too long");
    o = engine_link(dir, from, dir, to, err);
    if (o == ENGINE_OK)
        return 1;
    if (o == ENGINE_NOENT)
        return 0;
    if (err->sys != EMLINK && err->sys != EXDEV && err->sys != EPERM &&
        err->sys != EOPNOTSUPP)
        return store_fail(o, err, "copy to", c->to->name);
    return copy_bytes(c, from, a->base, to, err) < 0 ? -1 : 1;
}

static int describe(struct copying *c, size_t r, struct arrival *a,
                    struct err *err)
{
    struct row *row = &a->row;

    row_load(c->from, r, row);
    if (map_keywords(c, row->keywords, &row->keywords, err) < 0)
        return -1;
    arrival_name(c->to, a);
    return 0;
}

/* Put the copy of one message into place; passes over what is gone. */
static int copy_one(struct copying *c, uint32_t uid, const uint8_t *id,
                    struct err *err)
{
    struct arrival *a = &c->list[c->n];

    if (id)
        memcpy(a->id, id, ID_BYTES);
    for (int tries = 0; tries < FIND_TRIES; tries++) {
        size_t r = row_find(c->from, uid);
        int done;

        if (r >= rows_count(c->from))
            return 0;
        if (describe(c, r, a, err) < 0)
            return -1;
        done = link_one(c, r, a, err);
        if (done < 0)
            return -1;
        if (done > 0) {
            a->placed = true;
            c->uids[c->n++] = uid;
            return 0;
        }
        if (mailbox_scan(c->from, SCAN_FORCE, err) < 0)
            return -1;
    }
    return err_temp(err, "file of UID %u in %s keeps moving", uid,
                    c->from->name);
}

MAY_WAIT static int copy_files(struct copying *c, const uint32_t *uids,
                               size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (mailbox_check_there(c->from, err) < 0 ||
            mailbox_check_there(c->to, err) < 0 ||
            copy_one(c, uids[i], c->ids ? c->ids[i] : NULL, err) < 0)
            return -1;
        if (task_inside())
            task_yield_if_long();
    }
    return 0;
}

/* The strings lie in the original's log: they are looked up last, as nothing
 * may change or wait between this and the records. */
static void find_strings(struct copying *c)
{
    for (size_t i = 0; i < c->n; i++) {
        size_t r = store_row_at(c->from, c->uids[i]);
        struct arrival *a = &c->list[i];

        a->strings = SLICE_NONE;
        if (r < rows_count(c->from) &&
            ROW_FIELD(c->from, r, uid) == c->uids[i] &&
            index_strings_view(c->from, r, &a->strings))
            continue;
        a->row.cache_version = 0;
    }
}

MAY_WAIT static int copy_all(struct copying *c, const uint32_t *uids, size_t n,
                             struct err *err)
{
    if (copy_files(c, uids, n, err) < 0) {
        arrival_undo(c->to, c->list, c->n);
        return -1;
    }
    find_strings(c);
    return arrival_record(c->to, c->list, c->n, err);
}

/* Before the first file is in place it is known what is to become of it. */
static int begin_move(struct copying *c, struct store_copy *job,
                      struct err *err)
{
    c->ids = xcalloc(job->n + 1, sizeof *c->ids);
    for (size_t i = 0; i < job->n; i++)
        random_bytes(c->ids[i], ID_BYTES);
    return move_begin(job, (const uint8_t(*)[ID_BYTES])c->ids, err);
}

/* Not inlined: paths lie in the frames below. */
MAY_WAIT __attribute__((noinline)) static int run(struct copying *c,
                                                  struct store_copy *job,
                                                  struct err *err)
{
    bool is_move = (job->flags & STORE_MOVE) != 0;
    int rc;

    if (is_move && begin_move(c, job, err) < 0)
        return -1;
    arrival_begin(c->to);
    rc = copy_all(c, job->uids, job->n, err);
    arrival_end(c->to);
    if (rc < 0 && is_move)
        move_end(c->from, job->key);
    return rc;
}

int store_copy(struct store_copy *job, struct err *err)
{
    struct copying c = { .from = job->from, .to = job->to };
    int rc;

    CHECK_OBJ(c.from, MAILBOX_MAGIC);
    CHECK_OBJ(c.to, MAILBOX_MAGIC);
    CHECK(c.from->account == c.to->account);
    job->n_out = 0;
    if (job->n >= UINT32_MAX - c.to->uidnext)
        return err_temp(err, "mailbox %s has no UIDs left", c.to->name);
    memset(c.bit, UINT8_MAX, sizeof c.bit);
    c.list = xcalloc(job->n + 1, sizeof *c.list);
    c.uids = xcalloc(job->n + 1, sizeof *c.uids);
    rc = run(&c, job, err);
    for (size_t i = 0; rc == 0 && i < c.n; i++)
        job->out[job->n_out++] =
            (struct store_copied){ c.uids[i], c.list[i].row.uid };
    free(c.list);
    free(c.uids);
    free(c.ids);
    return rc;
}
