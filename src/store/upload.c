#include "store/store_priv.h"

#include "mail/mime.h"

/*
 * Messages from a client.  One that is small stays in memory until it is whole;
 * a bigger one is written into tmp/ as it comes.  All are files in tmp/ before
 * the commit, which renames them into cur/ and writes their records.
 */

enum {
    UPLOAD_MEMORY = 256 << 10,
    UPLOAD_MIME_CAP = 4 << 20,
    UPLOAD_STRINGS = ENGINE_RECORD_MAX - 32768,
};

struct store_upload {
    uint32_t magic;
    struct store_mailbox *to; /* pinned */
    struct arrival *list;     /* strings on the heap */
    size_t n, size;
    bool failed;

    /* The last one, until it is whole. */
    bool is_open;
    bool has_cr; /* a CR that may belong to a CRLF */
    struct arena *arena;
    struct mail_mime *mime;
    struct buf mem;
    struct engine_put *put; /* stays open until the next one begins */
};

#define UPLOAD_MAGIC MAGIC('U', 'P', 'L', 'D')

struct store_upload *store_upload_new(struct store_mailbox *to)
{
    struct store_upload *u = xcalloc(1, sizeof *u);

    CHECK_OBJ(to, MAILBOX_MAGIC);
    u->magic = UPLOAD_MAGIC;
    u->to = to;
    to->pins++;
    to->account->pins++;
    buf_init(&u->mem, UPLOAD_MEMORY + 16);
    return u;
}

size_t store_upload_count(const struct store_upload *u)
{
    return u->n;
}

static struct arrival *last(struct store_upload *u)
{
    return &u->list[u->n - 1];
}

static void tmp_path(const struct store_upload *u, const struct arrival *a,
                     const char *suffix, char *dst, size_t size)
{
    (void)snprintf(dst, size, "%stmp/%s%s", u->to->dir, a->base, suffix);
}

/* ---- bytes ---- */

static int put_open(struct store_upload *u, struct err *err)
{
    char path[PATH_IN_DIR_MAX + 64];
    enum engine_outcome o;

    /* The final base name holds size and CRC; until then any will do that a
     * recovery knows for ours. */
    if (last(u)->base[0] == '\0')
        arrival_name(u->to, last(u));
    tmp_path(u, last(u), ".part", path, sizeof path);
    o = engine_put_open(u->to->account->dir, path, 0600, &u->put, err);
    if (o == ENGINE_NOENT && mailbox_make_dirs(u->to, err) == 0)
        o = engine_put_open(u->to->account->dir, path, 0600, &u->put, err);
    return o == ENGINE_OK ? 0 : store_fail(o, err, "save into", u->to->name);
}

static int flush(struct store_upload *u, struct err *err)
{
    struct iovec v = { u->mem.p, u->mem.n };
    enum engine_outcome o;

    if (!u->put && put_open(u, err) < 0)
        return -1;
    if (u->mem.n == 0)
        return 0;
    o = engine_put_write(u->put, &v, 1, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "save into", u->to->name);
    buf_clear(&u->mem);
    return 0;
}

static int emit(struct store_upload *u, slice bytes, struct err *err)
{
    struct row *row = &last(u)->row;

    mail_mime_feed(u->mime, bytes);
    row->crc = crc32c(row->crc, bytes.p, bytes.n);
    row->size += bytes.n;
    while (bytes.n > 0) {
        size_t n = min_size(UPLOAD_MEMORY - u->mem.n, bytes.n);

        buf_put(&u->mem, bytes.p, n);
        bytes = slice_from(bytes, n);
        if (bytes.n > 0 && flush(u, err) < 0)
            return -1;
    }
    return 0;
}

/* CRLF to LF; a CR at the end waits for what comes. */
static int feed(struct store_upload *u, slice bytes, struct err *err)
{
    if (u->has_cr && bytes.n > 0) {
        u->has_cr = false;
        if (bytes.p[0] != '\n' && emit(u, SL("\r"), err) < 0)
            return -1;
    }
    while (bytes.n > 0) {
        ssize_t cr = slice_chr(bytes, '\r');
        size_t n = cr < 0 ? bytes.n : (size_t)cr;

        if (cr >= 0 && n + 1 == bytes.n) {
            u->has_cr = true;
            return emit(u, slice_sub(bytes, 0, n), err);
        }
        if (cr >= 0 && bytes.p[n + 1] != '\n')
            n++; /* a CR by itself stays */
        if (emit(u, slice_sub(bytes, 0, n), err) < 0)
            return -1;
        bytes = slice_from(bytes, (size_t)cr == n ? n + 1 : n);
    }
    return 0;
}

int store_upload_write(struct store_upload *u, slice bytes, struct err *err)
{
    CHECK_OBJ(u, UPLOAD_MAGIC);
    CHECK(u->is_open);
    if (u->failed)
        return err_temp(err, "an earlier write has failed");
    if (feed(u, bytes, err) < 0) {
        u->failed = true;
        return -1;
    }
    return 0;
}

/* ---- one message is whole ---- */

static void keep_strings(struct store_upload *u, const struct mail_part *root)
{
    struct buf b CLEANUP(buf_done) = { 0 };
    struct arrival *a = last(u);
    bool in_memory = a->row.size == u->mem.n;

    buf_init(&b, UPLOAD_STRINGS);
    if (!tree_strings(root, in_memory ? buf_view(&u->mem) : SLICE_NONE,
                      in_memory ? -1 : engine_put_fd(u->put), &b))
        return;
    a->row.cache_version = MAIL_MIME_VERSION;
    a->strings = buf_view(&b);
    a->own = b.p;
    b.p = NULL;
    b.n = b.size = 0;
}

/* `row` is complete, the file stands in tmp/ under its ".part" name. */
static int finish_one(struct store_upload *u, struct err *err)
{
    const struct mail_part *root;
    int rc = 0;

    if (!u->is_open)
        return 0;
    if (u->has_cr && emit(u, SL("\r"), err) < 0)
        rc = -1;
    root = mail_mime_finish(u->mime);
    last(u)->row.crlf_size = mail_part_virtual_size(root);
    /* What is in the file must all be there before it is read back. */
    if (rc == 0 && u->put && flush(u, err) < 0)
        rc = -1;
    if (rc == 0)
        keep_strings(u, root);
    if (rc == 0 && flush(u, err) < 0)
        rc = -1;
    if (rc == 0) {
        arrival_name(u->to, last(u));
        memcpy(last(u)->row.emailid, last(u)->row.id, ID_BYTES);
    }
    arena_free(&u->arena);
    u->mime = NULL;
    u->is_open = false;
    u->failed = u->failed || rc < 0;
    return rc;
}

/* So that many do not need a descriptor each. */
static int park(struct store_upload *u, struct err *err)
{
    char path[PATH_IN_DIR_MAX + 64];
    enum engine_outcome o;

    if (!u->put)
        return 0;
    tmp_path(u, last(u), "", path, sizeof path);
    o = engine_put_commit(&u->put, path, err);
    if (o != ENGINE_OK)
        return store_fail(o, err, "save into", u->to->name);
    last(u)->in_tmp = true;
    return 0;
}

int store_upload_begin(struct store_upload *u,
                       const struct store_upload_message *msg, struct err *err)
{
    struct arrival *a;

    CHECK_OBJ(u, UPLOAD_MAGIC);
    if (mailbox_check_there(u->to, err) < 0)
        return -1;
    if (u->failed)
        return err_temp(err, "an earlier write has failed");
    if (finish_one(u, err) < 0 || park(u, err) < 0) {
        u->failed = true;
        return -1;
    }
    if (u->n == u->size) {
        u->size = u->size ? u->size * 2 : 4;
        u->list = xrealloc(u->list, u->size * sizeof *u->list);
    }
    a = &u->list[u->n++];
    *a = (struct arrival){ 0 };
    a->row.flags = msg->flags & STORE_FLAGS_ALL;
    a->row.keywords = msg->keywords;
    a->row.idate = msg->internaldate == INT64_MIN ? clock_wall() / 1000
                                                  : msg->internaldate;
    u->arena = arena_new(UPLOAD_MIME_CAP);
    u->mime = mail_mime_new(u->arena);
    u->is_open = true;
    u->has_cr = false;
    buf_clear(&u->mem);
    return 0;
}

/* ---- all of them ---- */

static int place_one(struct store_upload *u, struct arrival *a, struct err *err)
{
    char tmp[PATH_IN_DIR_MAX + 64];
    char path[PATH_IN_DIR_MAX + 64];
    enum engine_outcome o;

    if (!arrival_path(u->to, a, path, sizeof path))
        return err_temp(err, "file name is too long");
    if (a->in_tmp) {
        tmp_path(u, a, "", tmp, sizeof tmp);
        o = engine_rename(u->to->account->dir, tmp, path, err);
    } else {
        o = engine_put_commit(&u->put, path, err);
    }
    if (o != ENGINE_OK)
        return store_fail(o, err, "save into", u->to->name);
    a->in_tmp = false;
    a->placed = true;
    return 0;
}

MAY_WAIT static int commit(struct store_upload *u, uint32_t *uids,
                           struct err *err)
{
    if (u->failed)
        return err_temp(err, "an earlier write has failed");
    if (finish_one(u, err) < 0 || mailbox_check_there(u->to, err) < 0)
        return -1;
    if (u->n >= UINT32_MAX - u->to->uidnext)
        return err_temp(err, "mailbox %s has no UIDs left", u->to->name);
    for (size_t i = 0; i < u->n; i++) {
        if (place_one(u, &u->list[i], err) < 0) {
            arrival_undo(u->to, u->list, u->n);
            return -1;
        }
    }
    if (arrival_record(u->to, u->list, u->n, err) < 0)
        return -1;
    for (size_t i = 0; i < u->n; i++)
        uids[i] = u->list[i].row.uid;
    if (u->to->account->store->cfg.fsync == STORE_FSYNC_ALWAYS)
        return store_mailbox_durable(u->to, err);
    return 0;
}

int store_upload_commit(struct store_upload **up, uint32_t *uids,
                        struct err *err)
{
    struct store_upload *u = *up;
    int rc;

    CHECK_OBJ(u, UPLOAD_MAGIC);
    arrival_begin(u->to);
    rc = commit(u, uids, err);
    arrival_end(u->to);
    store_upload_free(up);
    return rc;
}

void store_upload_free(struct store_upload **up)
{
    struct store_upload *u = *up;
    char path[PATH_IN_DIR_MAX + 64];

    if (!u)
        return;
    CHECK_OBJ(u, UPLOAD_MAGIC);
    engine_put_abort(&u->put);
    for (size_t i = 0; i < u->n; i++) {
        struct arrival *a = &u->list[i];

        if (a->in_tmp) {
            tmp_path(u, a, "", path, sizeof path);
            (void)engine_unlink(u->to->account->dir, path, NULL);
        }
        free(a->own);
    }
    free(u->list);
    arena_free(&u->arena);
    buf_done(&u->mem);
    store_mailbox_unref(&u->to);
    u->magic = 0;
    free(u);
    *up = NULL;
}
