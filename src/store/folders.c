#include "store/store_priv.h"

#include "rt/file.h"
#include "rt/rt.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Folders come, go, and get other names. */

enum {
    REMOVE_DEPTH = 4,
    RENAMES_MAX = 10000, /* a folder and all below it */
};

bool store_folder_name_ok(slice name, struct err *err)
{
    char dir[MAILBOX_DIR_MAX + 1];

    return mailbox_dir_of(name, dir, err) == 0;
}

static bool dir_exists(struct store_account *a, const char *dir)
{
    char path[PATH_IN_DIR_MAX];
    uint64_t size;
    struct err err;

    (void)snprintf(path, sizeof path, "%s/cur", dir);
    return engine_size(a->dir, path, &size, &err) == ENGINE_OK;
}

int store_folder_create(struct store_account *a, slice name, unsigned use,
                        struct err *err)
{
    char dir[MAILBOX_DIR_MAX + 1];
    struct store_mailbox *m;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (mailbox_dir_of(name, dir, err) < 0)
        return -1;
    if (dir[0] == '\0' || dir_exists(a, dir))
        return mailbox_refuse(err, EEXIST, "Mailbox already exists");
    if (store_mailbox_open(a, name, STORE_CREATE, &m, err) < 0)
        return -1;
    if (use != 0 && account_set_use(a, m->guid, use, err) < 0) {
        store_mailbox_unref(&m);
        return -1;
    }
    store_mailbox_unref(&m);
    return 0;
}

/* ---- deleting ---- */

static int remove_tree_at(int dirfd, const char *path, unsigned depth);

/* NOLINTNEXTLINE(misc-no-recursion): `depth` bounds it. */
static int remove_entries(DIR *d, unsigned depth)
{
    int rc = 0;

    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (file_unlinkat(dirfd(d), e->d_name, 0) == 0)
            continue;
        if ((errno == EISDIR || errno == EPERM) && depth > 0)
            rc |= remove_tree_at(dirfd(d), e->d_name, depth - 1);
        else if (errno != ENOENT)
            rc = -1;
    }
    return rc;
}

/* NOLINTNEXTLINE(misc-no-recursion): `depth` bounds it. */
static int remove_tree_at(int dirfd, const char *path, unsigned depth)
{
    int fd =
        openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int rc;

    if (!d) {
        close_fd(&fd);
        return -1;
    }
    rc = remove_entries(d, depth);
    (void)closedir(d);
    return file_unlinkat(dirfd, path, AT_REMOVEDIR) < 0 ? -1 : rc;
}

struct removal {
    int dirfd;
    char path[PATH_IN_DIR_MAX];
};

static int removal_run(void *arg)
{
    const struct removal *r = arg;

    return remove_tree_at(r->dirfd, r->path, REMOVE_DEPTH);
}

void folder_remove_trash(int dirfd, const char *path)
{
    (void)remove_tree_at(dirfd, path, REMOVE_DEPTH);
}

/* What the queue may still try again must not come back. */
static int remember_all(struct store_mailbox *m, struct err *err)
{
    size_t n = rows_count(m);
    uint8_t(*ids)[ID_BYTES] = xcalloc(n + 1, ID_BYTES);
    size_t n_ids = 0;
    int rc = 0;

    for (size_t r = 0; r < n; r++) {
        struct row row;

        row_load(m, r, &row);
        if (!(row.state & ROW_HOLE) && !id_is_zero(row.id) &&
            account_may_retry(m->account, row.sdate))
            memcpy(ids[n_ids++], row.id, ID_BYTES);
    }
    if (n_ids > 0)
        rc = account_gone(m->account, (const uint8_t(*)[ID_BYTES])ids, n_ids,
                          err);
    free(ids);
    return rc;
}

/* Out of the way in one step; what is left of it after a crash goes with the
 * next recovery of INBOX (FOLDER_TRASH). */
MAY_WAIT static void discard(struct engine_dir *d, const char *dir,
                             const char *to)
{
    struct removal *r = xcalloc(1, sizeof *r);

    if (engine_rename(d, dir, to, NULL) == ENGINE_OK) {
        r->dirfd = engine_dir_fd(d);
        (void)snprintf(r->path, sizeof r->path, "%s", to);
        (void)offload(removal_run, r);
    }
    free(r);
}

MAY_WAIT static int delete_folder(struct store_mailbox *m, const char *dir,
                                  struct err *err)
{
    struct store_account *a = m->account;
    struct removal *r;
    enum engine_outcome o;

    if (remember_all(m, err) < 0)
        return -1;
    r = xcalloc(1, sizeof *r);
    r->dirfd = engine_dir_fd(a->dir);
    (void)snprintf(r->path, sizeof r->path, "tmp/" FOLDER_TRASH "%016" PRIx64,
                   random_u64());
    o = engine_rename(a->dir, dir, r->path, err);
    if (o == ENGINE_NOENT && account_make_dirs(a, err) == 0)
        o = engine_rename(a->dir, dir, r->path, err);
    if (o != ENGINE_OK) {
        free(r);
        return store_fail(o, err, "delete mailbox", m->name);
    }
    account_drop_mailbox(a, m->guid);
    m->is_gone = true;
    list_remove(&m->link);
    index_close(m);
    mailbox_changed(m);
    if (a->index_dir != a->dir)
        discard(a->index_dir, dir, r->path + strlen("tmp/"));
    (void)offload(removal_run, r);
    free(r);
    return 0;
}

int store_folder_delete(struct store_account *a, slice name, struct err *err)
{
    char dir[MAILBOX_DIR_MAX + 1];
    struct store_mailbox *m;
    int rc;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (mailbox_dir_of(name, dir, err) < 0)
        return -1;
    if (dir[0] == '\0')
        return mailbox_refuse(err, EPERM, "INBOX cannot be deleted");
    if (!dir_exists(a, dir))
        return folder_has_children(a, dir)
                   ? mailbox_refuse(err, ENOTEMPTY, "Mailbox has children")
                   : mailbox_refuse(err, ENOENT, "No such mailbox");
    if (store_mailbox_open(a, name, 0, &m, err) < 0)
        return -1;
    rc = delete_folder(m, dir, err);
    store_mailbox_unref(&m);
    return rc;
}

/* ---- renaming ---- */

struct renaming {
    struct store_account *account;
    const char *from, *to; /* directories */

    struct one {
        char from[MAILBOX_DIR_MAX + 1];
        char to[MAILBOX_DIR_MAX + 1];
    } * list;

    size_t n, size;
    bool too_long;
};

/* Is `dir` the folder or below it? */
static bool is_within(const char *dir, const char *top)
{
    size_t n = strlen(top);

    return strncmp(dir, top, n) == 0 && (dir[n] == '\0' || dir[n] == '.');
}

static bool find_one(const char *entry, void *arg)
{
    struct renaming *w = arg;
    struct one *one;
    int n;

    if (!is_within(entry, w->from) || !dir_exists(w->account, entry))
        return true;
    if (w->n == w->size) {
        w->size = w->size ? w->size * 2 : 8;
        w->list = xrealloc(w->list, w->size * sizeof *w->list);
    }
    one = &w->list[w->n++];
    n = snprintf(one->from, sizeof one->from, "%s", entry);
    if (n > 0 && (size_t)n < sizeof one->from)
        n = snprintf(one->to, sizeof one->to, "%s%s", w->to,
                     entry + strlen(w->from));
    w->too_long = n < 0 || (size_t)n >= sizeof one->to || w->n > RENAMES_MAX;
    return !w->too_long;
}

struct child_search {
    struct store_account *account;
    const char *dir;
    bool found;
};

static bool find_child(const char *entry, void *arg)
{
    struct child_search *c = arg;

    c->found = is_within(entry, c->dir) && entry[strlen(c->dir)] == '.' &&
               dir_exists(c->account, entry);
    return !c->found;
}

bool folder_has_children(struct store_account *a, const char *dir)
{
    struct child_search c = { a, dir, false };

    (void)engine_list(a->dir, "", find_child, &c, NULL);
    return c.found;
}

/* The directories, or none of them. */
static int rename_dirs(struct renaming *w, struct err *err)
{
    struct store_account *a = w->account;
    size_t done = 0;
    enum engine_outcome o = ENGINE_OK;

    for (; done < w->n; done++) {
        o = engine_rename(a->dir, w->list[done].from, w->list[done].to, err);
        if (o != ENGINE_OK)
            break;
        if (a->index_dir != a->dir)
            (void)engine_rename(a->index_dir, w->list[done].from,
                                w->list[done].to, NULL);
    }
    if (done == w->n)
        return 0;
    while (done-- > 0) {
        (void)engine_rename(a->dir, w->list[done].to, w->list[done].from, NULL);
        if (a->index_dir != a->dir)
            (void)engine_rename(a->index_dir, w->list[done].to,
                                w->list[done].from, NULL);
    }
    return store_fail(o, err, "rename mailbox of", a->user);
}

/* The account's list and those who have it open follow. */
static void follow(struct store_account *a, const struct one *one)
{
    struct store_mailbox *m = mailbox_find_open(a, one->from);
    struct buf was CLEANUP(buf_done) = { 0 };
    struct buf now CLEANUP(buf_done) = { 0 };
    const struct mailbox_entry *e;
    struct err err;

    buf_init(&was, (size_t)4 * MAILBOX_DIR_MAX);
    buf_init(&now, (size_t)4 * MAILBOX_DIR_MAX);
    if (!mailbox_name_of(slice_str(one->from), &was) ||
        !mailbox_name_of(slice_str(one->to), &now))
        return;
    e = account_mailbox(a, buf_view(&was));
    /* Should this record get lost, the next to open the mailbox writes it. */
    if (e && account_add_mailbox(a, buf_view(&now), e->guid, e->uidvalidity,
                                 &err) < 0)
        store_note(a, "rename: %s", err.log);
    if (!m)
        return;
    free(m->name);
    m->name = slice_xstrdup(buf_view(&now));
    (void)snprintf(m->dir, sizeof m->dir, "%s/", one->to);
    memcpy(m->index_dir, m->dir, sizeof m->index_dir);
    mailbox_changed(m);
}

static int rename_all(struct renaming *w, struct err *err)
{
    struct store_account *a = w->account;
    enum engine_outcome o = engine_list(a->dir, "", find_one, w, err);

    if (o != ENGINE_OK)
        return store_fail(o, err, "list mailboxes of", a->user);
    if (w->too_long)
        return mailbox_refuse(err, EINVAL, "Mailbox name is too long");
    if (w->n == 0)
        return mailbox_refuse(err, ENOENT, "No such mailbox");
    if (is_within(w->to, w->from))
        return mailbox_refuse(err, EINVAL,
                              "A mailbox cannot be renamed into itself");
    for (size_t i = 0; i < w->n; i++)
        if (dir_exists(a, w->list[i].to))
            return mailbox_refuse(err, EEXIST, "Mailbox already exists");
    if (rename_dirs(w, err) < 0)
        return -1;
    for (size_t i = 0; i < w->n; i++)
        follow(a, &w->list[i]);
    return 0;
}

MAY_WAIT static int move_all(struct store_copy *job, struct err *err)
{
    int rc = store_copy(job, err);

    if (rc < 0)
        return -1;
    rc = store_mailbox_durable(job->to, err);
    return store_move_end(job, rc == 0, rc == 0 ? err : NULL) < 0 ? -1 : rc;
}

/* INBOX stays, its messages move (RFC 9051 6.3.6). */
MAY_WAIT static int move_inbox(struct store_account *a, slice to,
                               struct err *err)
{
    struct store_mailbox *inbox = NULL;
    struct store_mailbox *m = NULL;
    struct store_copied *pairs;
    uint32_t *uids;
    size_t n = 0;
    int rc = -1;

    if (store_folder_create(a, to, 0, err) < 0)
        return -1;
    if (store_mailbox_open(a, SL("INBOX"), STORE_CREATE, &inbox, err) < 0)
        return -1;
    uids = xcalloc(rows_count(inbox) + 1, sizeof *uids);
    pairs = xcalloc(rows_count(inbox) + 1, sizeof *pairs);
    for (size_t r = 0; r < rows_count(inbox); r++)
        if (!row_is_hole(inbox, r))
            uids[n++] = ROW_FIELD(inbox, r, uid);
    if (store_mailbox_open(a, to, 0, &m, err) == 0)
        rc = move_all(&(struct store_copy){ .from = inbox,
                                            .to = m,
                                            .uids = uids,
                                            .n = n,
                                            .flags = STORE_MOVE,
                                            .out = pairs },
                      err);
    store_mailbox_unref(&m);
    store_mailbox_unref(&inbox);
    free(uids);
    free(pairs);
    return rc;
}

int store_folder_rename(struct store_account *a, slice from, slice to,
                        struct err *err)
{
    char from_dir[MAILBOX_DIR_MAX + 1];
    char to_dir[MAILBOX_DIR_MAX + 1];
    struct renaming w = { .account = a, .from = from_dir, .to = to_dir };
    int rc;

    CHECK_OBJ(a, ACCOUNT_MAGIC);
    if (mailbox_dir_of(from, from_dir, err) < 0 ||
        mailbox_dir_of(to, to_dir, err) < 0)
        return -1;
    if (to_dir[0] == '\0' || dir_exists(a, to_dir))
        return mailbox_refuse(err, EEXIST, "Mailbox already exists");
    if (from_dir[0] == '\0')
        return move_inbox(a, to, err);
    rc = rename_all(&w, err);
    free(w.list);
    return rc;
}
