#include "store/store_priv.h"

#include "rt/rt.h"

#include <fcntl.h>
#include <sys/stat.h>

/*
 * Strangers in the Maildir, told by inotify.
 *
 * A mailbox that a session has opened has its new/ and cur/ watched.  Most
 * events are of our own doing: they fit what the index says, and are dropped at
 * once.  The others are kept, and looked at by store_mailbox_sync(): a file
 * that came or got another name is taken over by itself; one that is missing
 * has the directories listed, as it may have moved.  So a sync costs one
 * read() when nothing happened.  While somebody watches the mailbox
 * (store_watch_add()), a task of its own syncs soon after an event.
 *
 * Without inotify a sync goes by the directories' times, and watched mailboxes
 * are looked at every 30 seconds.
 */

enum {
    SYNC_SOON_MS = 50,   /* a rename is two events, a client renames many */
    SYNC_AGAIN_MS = 400, /* between two syncs of a task of its own */
    POLL_MS = 30000,
    RETRY_MS = 60000, /* when the system has no watches left */
    QUEUE_BYTES = 256 << 10,
    WATCHES_MAX = 65536,
    WATCHES_FEW = 64,
};

/* ---- how many ---- */

unsigned watch_limit(void)
{
    char text[32];
    unsigned limit = WATCHES_MAX;
    int fd CLEANUP(close_fd) =
        open("/proc/sys/fs/inotify/max_user_watches", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    uint64_t v;

    if (n > 0 && slice_u64(slice_trim(slice_of(text, (size_t)n)), &v))
        limit = v / 2 < WATCHES_MAX ? (unsigned)(v / 2) : WATCHES_MAX;
    return limit > WATCHES_FEW ? limit : WATCHES_FEW;
}

static void stop(struct store_mailbox *m)
{
    struct store *s = m->account->store;

    for (size_t i = 0; i < 2; i++) {
        if (m->stranger.dir[i])
            s->n_watches--;
        engine_watch_free(&m->stranger.dir[i]);
    }
    m->stranger.on = false;
    buf_release(&m->stranger.names);
    free(m->stranger.table);
    m->stranger.table = NULL;
    m->stranger.n_table = m->stranger.n_in_table = 0;
}

/* Mailboxes that nobody has open give their watches up. */
static void make_room(struct store *s)
{
    list_each(l, &s->lru) {
        struct store_account *a = CONTAINER_OF(l, struct store_account, lru);

        list_each(k, &a->mailboxes) {
            struct store_mailbox *m =
                CONTAINER_OF(k, struct store_mailbox, link);

            if (s->n_watches + 2 <= s->cfg.max_watches)
                return;
            if (m->pins == 0)
                stop(m);
        }
    }
}

/* ---- base names of rows without an id of ours ---- */

static void table_put(struct stranger *w, slice base, size_t row)
{
    size_t at = slice_hash(base) & (w->n_table - 1);

    while (w->table[at])
        at = (at + 1) & (w->n_table - 1);
    w->table[at] = (uint32_t)(row + 1);
}

static void table_follow(struct store_mailbox *m)
{
    struct stranger *w = &m->stranger;
    size_t n = rows_count(m);

    if (!w->table || n * 2 > w->n_table) {
        free(w->table);
        w->n_table = 256;
        while (w->n_table < n * 4)
            w->n_table *= 2;
        w->table = xcalloc(w->n_table, sizeof *w->table);
        w->n_in_table = 0;
    }
    for (; w->n_in_table < n; w->n_in_table++)
        if (!row_is_hole(m, w->n_in_table))
            table_put(w, row_name(m, w->n_in_table), w->n_in_table);
}

static size_t row_by_base(struct store_mailbox *m, const struct file_name *f)
{
    size_t n = rows_count(m);
    size_t at;

    if (f->has_id) {
        size_t r = row_by_id(m, f->id);

        if (r < n && slice_eq(row_name(m, r), f->base))
            return r;
    }
    table_follow(m);
    at = slice_hash(f->base) & (m->stranger.n_table - 1);
    for (; m->stranger.table[at]; at = (at + 1) & (m->stranger.n_table - 1)) {
        size_t r = m->stranger.table[at] - 1;

        if (!row_is_hole(m, r) && slice_eq(row_name(m, r), f->base))
            return r;
    }
    return n;
}

/* ---- events ---- */

static bool is_doomed(const struct store_mailbox *m, slice base)
{
    for (size_t i = 0; i < m->n_doomed; i++)
        if (slice_eqs(base, m->doomed[i].name))
            return true;
    return false;
}

static bool is_at(const struct store_mailbox *m, size_t r,
                  const struct file_name *f, bool in_new)
{
    uint32_t state = ROW_FIELD(m, r, state);

    return in_new == ((state & ROW_IN_NEW) != 0) &&
           f->has_info == ((state & ROW_HAS_INFO) != 0) &&
           f->odd == ((state & ROW_ODD_NAME) != 0) &&
           f->letters == ROW_FIELD(m, r, letters);
}

/* Does it say what the index says? */
static bool fits(struct store_mailbox *m, bool in_new, bool created,
                 slice entry)
{
    struct file_name f;
    size_t r;

    if (!file_name_parse(entry, &f))
        return true; /* no message */
    r = row_by_base(m, &f);
    if (r >= rows_count(m))
        return !created || is_doomed(m, f.base);
    return is_at(m, r, &f, in_new) == created;
}

static void timer_fired(struct timer *t);

static void schedule(struct store_mailbox *m)
{
    msec at = clock_after(SYNC_SOON_MS);

    if (list_empty(&m->watches) || timer_is_set(&m->stranger.timer) ||
        m->stranger.is_syncing)
        return;
    if (at < m->stranger.synced + SYNC_AGAIN_MS)
        at = m->stranger.synced + SYNC_AGAIN_MS;
    timer_set(&m->stranger.timer, at, timer_fired);
}

static void on_event(struct store_mailbox *m, bool in_new, unsigned events,
                     slice entry)
{
    struct stranger *w = &m->stranger;
    bool created = (events & ENGINE_EV_CREATED) != 0;

    if (events & (ENGINE_EV_GONE | ENGINE_EV_RESYNC)) {
        w->lost = true;
        w->dir_gone = w->dir_gone || (events & ENGINE_EV_GONE);
    } else if (!(events & (ENGINE_EV_CREATED | ENGINE_EV_REMOVED)) ||
               entry.n == 0 || entry.n > FILE_NAME_MAX ||
               fits(m, in_new, created, entry)) {
        return;
    } else if (!w->lost) {
        buf_byte(&w->names, (char)((in_new ? 1 : 0) | (created ? 2 : 0)));
        buf_byte(&w->names, (char)entry.n);
        if (!buf_slice(&w->names, entry))
            w->lost = true;
    }
    schedule(m);
}

static void new_event(void *arg, unsigned events, const char *entry)
{
    on_event(arg, true, events, slice_str(entry));
}

static void cur_event(void *arg, unsigned events, const char *entry)
{
    on_event(arg, false, events, slice_str(entry));
}

/* ---- on and off ---- */

static bool start_one(struct store_mailbox *m, size_t i)
{
    struct store *s = m->account->store;
    char path[PATH_IN_DIR_MAX];
    struct err err;

    (void)snprintf(path, sizeof path, "%s%s", m->dir, i ? "cur" : "new");
    if (engine_watch(m->account->dir, path, i ? cur_event : new_event, m,
                     &m->stranger.dir[i], &err) != ENGINE_OK) {
        m->stranger.dir[i] = NULL;
        return false;
    }
    s->n_watches++;
    return true;
}

/* From here on every change is told; what was before is the next scan's. */
static bool start(struct store_mailbox *m)
{
    struct store *s = m->account->store;

    if (!task_inside() || clock_mono() < s->no_watch_until)
        return false;
    if (s->n_watches + 2 > s->cfg.max_watches)
        make_room(s);
    buf_init(&m->stranger.names, QUEUE_BYTES);
    if (s->n_watches + 2 > s->cfg.max_watches || !start_one(m, 0) ||
        !start_one(m, 1)) {
        stop(m);
        s->no_watch_until = clock_after(RETRY_MS);
        return false;
    }
    m->stranger.on = true;
    m->stranger.lost = m->stranger.dir_gone = false;
    return true;
}

bool watch_is_quiet(struct store_mailbox *m)
{
    if (!m->stranger.on)
        return false;
    engine_watch_poll(m->account->store->cfg.engine);
    return !m->stranger.lost && m->stranger.names.n == 0;
}

void watch_stop(struct store_mailbox *m)
{
    timer_cancel(&m->stranger.timer);
    stop(m);
    buf_done(&m->stranger.names);
}

/* ---- looking at what was told ---- */

static bool exists(const struct store_mailbox *m, bool in_new, slice entry)
{
    char path[PATH_IN_DIR_MAX + 64];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s%s/%.*s", m->dir,
                     in_new ? "new" : "cur", SLF(entry));

    return n > 0 && (size_t)n < sizeof path &&
           fstatat(engine_dir_fd(m->account->dir), path, &st,
                   AT_SYMLINK_NOFOLLOW) == 0;
}

/* One event off the front; false at the end. */
static bool take(slice *q, bool *in_new, bool *created, slice *entry)
{
    size_t n;

    if (q->n < 2)
        return false;
    *in_new = (q->p[0] & 1) != 0;
    *created = (q->p[0] & 2) != 0;
    n = (uint8_t)q->p[1];
    *entry = slice_sub(*q, 2, n);
    *q = slice_from(*q, 2 + n);
    return true;
}

/* Files that came; true in *missing when one went, and did not come again. */
static int apply(struct store_mailbox *m, slice queue, bool *missing,
                 struct err *err)
{
    struct scan_names *names = scan_names_new(m);
    bool in_new, created;
    slice q = queue;
    slice entry;
    int rc;

    while (take(&q, &in_new, &created, &entry))
        if (created && !fits(m, in_new, true, entry) &&
            exists(m, in_new, entry))
            scan_names_put(names, entry, in_new);
    rc = scan_names_apply(&names, err);
    q = queue;
    while (rc == 0 && !*missing && take(&q, &in_new, &created, &entry))
        *missing = !created && !fits(m, in_new, false, entry) &&
                   !exists(m, in_new, entry);
    return rc;
}

static int look(struct store_mailbox *m, struct err *err)
{
    struct stranger *w = &m->stranger;
    struct buf queue = w->names;
    bool lost = w->lost;
    int rc = 0;

    if (m->arriving > 0) {
        schedule(m);
        return 0;
    }
    buf_init(&w->names, QUEUE_BYTES);
    w->lost = false;
    if (!lost && queue.n > 0)
        rc = apply(m, buf_view(&queue), &lost, err);
    buf_done(&queue);
    if (rc == 0 && (lost || m->must_scan))
        rc = mailbox_scan(m, SCAN_FORCE, err);
    if (rc < 0)
        w->lost = true;
    return rc;
}

int store_mailbox_sync(struct store_mailbox *m, bool force, struct err *err)
{
    struct stranger *w = &m->stranger;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (mailbox_check_there(m, err) < 0)
        return -1;
    m->stranger.synced = clock_mono();
    if (w->dir_gone)
        stop(m); /* a directory was replaced */
    w->dir_gone = false;
    if (!w->on) {
        (void)start(m);
        return mailbox_scan(m, force ? SCAN_FORCE : 0, err);
    }
    engine_watch_poll(m->account->store->cfg.engine);
    if (force)
        w->lost = true;
    return w->lost || w->names.n > 0 || m->must_scan ? look(m, err) : 0;
}

/* ---- by itself ---- */

static void arm_poll(struct store_mailbox *m)
{
    if (!m->stranger.on && !list_empty(&m->watches) &&
        !timer_is_set(&m->stranger.timer))
        timer_set(&m->stranger.timer, clock_after(POLL_MS), timer_fired);
}

MAY_WAIT static void sync_task(void *arg)
{
    struct store_mailbox *m = arg;
    struct err err;

    if (store_mailbox_sync(m, false, &err) < 0 && !m->is_gone)
        store_note(m->account, "%s: %s", m->name, err.log);
    m->stranger.is_syncing = false;
    if (m->stranger.lost || m->stranger.names.n > 0)
        schedule(m);
    arm_poll(m);
    store_mailbox_unref(&m);
}

static void timer_fired(struct timer *t)
{
    struct stranger *w = CONTAINER_OF(t, struct stranger, timer);
    struct store_mailbox *m = CONTAINER_OF(w, struct store_mailbox, stranger);

    if (list_empty(&m->watches) || m->is_gone)
        return;
    w->is_syncing = true;
    m->pins++;
    m->account->pins++;
    (void)task_spawn("store-sync", sync_task, m);
}

void store_watch_add(struct store_mailbox *m, struct store_watch *w)
{
    list_push(&m->watches, &w->link);
    if (!task_inside())
        return;
    if (m->stranger.lost || m->stranger.names.n > 0)
        schedule(m);
    arm_poll(m);
}

void store_watch_del(struct store_watch *w)
{
    if (w->link.next)
        list_remove(&w->link);
}

void mailbox_changed(struct store_mailbox *m)
{
    list_each_safe(l, tmp, &m->watches) {
        struct store_watch *w = CONTAINER_OF(l, struct store_watch, link);

        w->fn(w, m);
    }
    peek_changed(m);
}
