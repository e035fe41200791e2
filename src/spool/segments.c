/* The owner's segments: making, sealing, burying them. */
#include "spool/owner_priv.h"

#include "rt/file.h"
#include <fcntl.h>
#include <sys/file.h>

#define RESERVE_STEP 1024

struct segment *segment_get(struct spool *s, uint64_t number)
{
    struct imap_node *n = imap_get(&s->segments, number);

    return n != NULL ? CONTAINER_OF(n, struct segment, by_number) : NULL;
}

struct segment *segment_need(struct spool *s, uint64_t number)
{
    struct segment *g = segment_get(s, number);

    if (g != NULL)
        return g;
    g = xcalloc(1, sizeof *g);
    list_init(&g->link);
    list_init(&g->messages);
    list_init(&g->in_lru);
    g->known_end = SEG_FIRST;
    g->fd = -1;
    g->made = clock_mono();
    imap_put(&s->segments, &g->by_number, number);
    return g;
}

void segment_close_fd(struct spool *s, struct segment *g)
{
    if (g->fd < 0)
        return;
    close_fd(&g->fd);
    list_remove(&g->in_lru);
    s->n_open--;
}

void segment_free(struct spool *s, struct segment *g)
{
    CHECK(list_empty(&g->messages) && !g->is_scanning);
    segment_close_fd(s, g);
    list_remove(&g->link);
    imap_del(&s->segments, &g->by_number);
    free(g);
}

/* ------------------------------------------------------------- descriptors */

int segment_fd(struct spool *s, struct segment *g, struct err *err)
{
    char name[SEG_NAME_SIZE];
    uint64_t size;

    if (g->fd >= 0) {
        list_remove(&g->in_lru);
        list_push(&s->lru, &g->in_lru);
        return g->fd;
    }
    seg_name(name, g->kind, g->by_number.key);
    if (engine_get(s->dir, name, &g->fd, &size, err) != ENGINE_OK)
        return -1;
    /* Reading is no change that the writer's sync should have to write. */
    (void)fcntl(g->fd, F_SETFL, O_NOATIME);
    list_push(&s->lru, &g->in_lru);
    if (++s->n_open > OPEN_FDS_MAX) {
        list_each_safe(l, tmp, &s->lru) {
            struct segment *old = CONTAINER_OF(l, struct segment, in_lru);

            if (old == g || old->is_scanning)
                continue;
            segment_close_fd(s, old);
            break;
        }
    }
    return g->fd;
}

bool segment_is_locked(struct spool *s, struct segment *g)
{
    char name[SEG_NAME_SIZE];
    uint64_t size;
    bool locked;
    int fd = -1;

    /* A descriptor of its own: closing it gives back what the probe took. */
    seg_name(name, g->kind, g->by_number.key);
    if (engine_get(s->dir, name, &fd, &size, NULL) != ENGINE_OK)
        return false;
    locked = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    close_fd(&fd);
    return locked;
}

/* ----------------------------------------------------------------- making */

/* Numbers are used only when their reservation is durable. */
static MAY_WAIT int take_number(struct spool *s, uint64_t *out, struct err *err)
{
    uint64_t number = s->next_segment;
    uint64_t upto;

    if (number >= s->reserved) {
        s->reserved = number + RESERVE_STEP;
        op_seq(&s->batch, J_RESERVE, s->reserved);
        journal_kick(s);
    }
    s->next_segment++;
    *out = number;
    if (number < s->reserved_durable)
        return 0;
    upto = s->reserved;
    if (journal_sync(s, err) < 0)
        return -1;
    if (upto > s->reserved_durable)
        s->reserved_durable = upto;
    return 0;
}

static int no_space(struct err *err, const char *log)
{
    err_set(err, ERR_TEMP, "4.3.1", "Insufficient system storage");
    err_log(err, "%s", log);
    return -1;
}

static int check_space(struct spool *s, uint64_t bytes, struct err *err)
{
    uint64_t free_bytes;
    struct err why;

    if (file_free_bytes(engine_dir_fd(s->dir), &free_bytes, &why) == 0 &&
        free_bytes < bytes + s->conf.min_free_bytes) {
        s->was_full = true;
        s->is_willing = false;
        return no_space(err, "too little free space for a new segment");
    }
    return 0;
}

/* Making files, for a pool thread: it reads of the spool what never changes. */
struct make_job {
    const struct spool *s;
    enum segment_kind kind;
    uint64_t bytes; /* to preallocate */
    uint64_t number[CHAN_MAX_FDS];
    int *fds;
    size_t n;
    size_t n_made;
    struct err err;
};

static int make_one(const struct make_job *j, uint64_t number, struct err *err)
{
    const struct spool *s = j->s;
    char name[SEG_NAME_SIZE];
    struct engine_log_spec spec;
    struct engine_log *log = NULL;
    int fd;

    seg_name(name, j->kind, number);
    spec = seg_spec(name, j->kind, number, s->uuid);
    spec.preallocate_bytes = j->bytes;
    if (engine_log_create(s->dir, s->lease, &spec, &log, err) != ENGINE_OK)
        return -1;
    fd = fcntl(engine_log_fd(log), F_DUPFD_CLOEXEC, 0);
    engine_log_close(&log);
    if (fd < 0)
        return err_sys(err, "duplicate a segment's descriptor");
    /* The lock goes with the open file to the writer, and ends with it. */
    (void)flock(fd, LOCK_EX | LOCK_NB);
    return fd;
}

/* Invariant 1: names are durable before anything is in the files; of segments
 * the header too. */
static int make_run(void *arg)
{
    struct make_job *j = arg;
    int dir;
    int r;

    for (; j->n_made < j->n; j->n_made++) {
        int fd = make_one(j, j->number[j->n_made], &j->err);

        if (fd < 0)
            break;
        j->fds[j->n_made] = fd;
        if (j->kind != SEGMENT_OWN && file_fdatasync(fd) < 0) {
            j->n_made++;
            return err_sys(&j->err, "sync a new segment");
        }
    }
    if (j->n_made == 0)
        return -1;
    dir = openat(engine_dir_fd(j->s->dir), "segments",
                 O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(&j->err, "open directory segments");
    r = file_fsync(dir);
    if (r < 0)
        (void)err_sys(&j->err, "sync directory segments");
    close_fd(&dir);
    return r;
}

static MAY_WAIT int make_files(struct spool *s, struct make_job *j,
                               struct segment **out, struct err *err)
{
    int r;

    for (size_t i = 0; i < j->n; i++) {
        if (take_number(s, &j->number[i], err) < 0)
            return -1;
    }
    r = offload(make_run, j);
    for (size_t i = 0; i < j->n_made; i++) {
        out[i] = segment_need(s, j->number[i]);
        out[i]->kind = j->kind;
        out[i]->has_file = true;
    }
    if (r == 0)
        return 0;
    for (size_t i = 0; i < j->n_made; i++) {
        close_fd(&j->fds[i]);
        segment_seal(s, out[i], SEG_FIRST);
    }
    if (j->err.sys == ENOSPC || j->err.sys == EDQUOT) {
        s->was_full = true;
        return no_space(err, j->err.log);
    }
    if (err != NULL)
        *err = j->err;
    return -1;
}

int segment_create(struct spool *s, enum segment_kind kind,
                   struct segment **out, int *fd_out, struct err *err)
{
    struct make_job j = {
        .s = s, .kind = kind, .bytes = s->conf.segment_bytes, .n = 1
    };

    j.fds = fd_out;
    if (check_space(s, s->conf.segment_bytes, err) < 0)
        return -1;
    return make_files(s, &j, out, err);
}

int segment_create_files(struct spool *s, size_t n, struct segment **out,
                         int *fds, size_t *n_out, struct err *err)
{
    struct make_job j = { .s = s,
                          .kind = SEGMENT_OWN,
                          .n = min_size(n, CHAN_MAX_FDS) };

    j.fds = fds;
    if (check_space(s, s->conf.segment_bytes / 4, err) < 0 ||
        make_files(s, &j, out, err) < 0)
        return -1;
    *n_out = j.n_made;
    return 0;
}

/* ------------------------------------------------------------ sealing, dying
 */

void segment_check(struct spool *s, struct segment *g)
{
    if (s->is_replaying || !g->is_sealed || g->n_live > 0 || g->is_dying ||
        g->is_scanning)
        return;
    g->is_dying = true;
    list_push(&s->dying, &g->link);
}

void segment_seal(struct spool *s, struct segment *g, uint64_t end)
{
    char name[SEG_NAME_SIZE];
    int fd;

    if (g->is_sealed)
        return;
    if (end < g->known_end)
        end = g->known_end;
    g->is_sealed = true;
    g->seal_end = end;
    g->peer = NULL;
    g->is_foreign = false;
    op_two(&s->batch, J_SEAL, g->by_number.key, end);
    journal_kick(s);
    if (g->n_live > 0 && g->kind == SEGMENT_PLAIN) {
        /* Give back what was preallocated behind the end. */
        seg_name(name, g->kind, g->by_number.key);
        fd = openat(engine_dir_fd(s->dir), name, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)file_ftruncate(fd, (off_t)end);
        close_fd(&fd);
    }
    segment_check(s, g);
}

/* Removing files, for a pool thread: a large one takes milliseconds. */
struct bury_job {
    int dir;
    struct list graves; /* struct segment.link */
    int failed_errno;
};

static int bury_run(void *arg)
{
    struct bury_job *j = arg;

    list_each(l, &j->graves) {
        const struct segment *g = CONTAINER_OF(l, struct segment, link);
        char name[SEG_NAME_SIZE];

        seg_name(name, g->kind, g->by_number.key);
        if (file_unlinkat(j->dir, name, 0) < 0 && errno != ENOENT)
            j->failed_errno = errno;
    }
    return 0;
}

/* Invariant 5: the journal first, the files then. */
void segments_bury(struct spool *s)
{
    struct bury_job j = { .dir = engine_dir_fd(s->dir) };
    struct err err = { 0 };

    if (list_empty(&s->dying))
        return;
    list_init(&j.graves);
    for (struct list *l = list_pop(&s->dying); l != NULL;
         l = list_pop(&s->dying))
        list_push(&j.graves, l);
    if (journal_sync(s, &err) < 0) {
        for (struct list *l = list_pop(&j.graves); l != NULL;
             l = list_pop(&j.graves))
            list_push(&s->dying, l);
        return;
    }
    (void)offload(bury_run, &j);
    if (j.failed_errno != 0)
        spool_trouble(s, "remove a segment: %s", strerror(j.failed_errno));
    for (struct list *l = list_pop(&j.graves); l != NULL;
         l = list_pop(&j.graves)) {
        struct segment *g = CONTAINER_OF(l, struct segment, link);

        op_seq(&s->batch, J_GONE, g->by_number.key);
        segment_free(s, g);
    }
    journal_kick(s);
}
