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

static int create_file(struct spool *s, enum segment_kind kind, uint64_t number,
                       uint64_t bytes, struct err *err)
{
    char name[SEG_NAME_SIZE];
    struct engine_log_spec spec;
    struct engine_log *log = NULL;
    struct err why = { 0 };
    int fd;

    seg_name(name, kind, number);
    spec = seg_spec(name, kind, number, s->uuid);
    spec.preallocate_bytes = bytes;
    if (engine_log_create(s->dir, s->lease, &spec, &log, &why) != ENGINE_OK) {
        if (why.sys == ENOSPC || why.sys == EDQUOT) {
            s->was_full = true;
            return no_space(err, why.log);
        }
        if (err != NULL)
            *err = why;
        return -1;
    }
    fd = fcntl(engine_log_fd(log), F_DUPFD_CLOEXEC, 0);
    engine_log_close(&log);
    if (fd < 0)
        return err_sys(err, "duplicate a segment's descriptor");
    /* The lock goes with the open file to the writer, and ends with it. */
    (void)flock(fd, LOCK_EX | LOCK_NB);
    return fd;
}

static struct segment *made(struct spool *s, enum segment_kind kind,
                            uint64_t number)
{
    struct segment *g = segment_need(s, number);

    g->kind = kind;
    g->has_file = true;
    return g;
}

static int sync_header(void *arg)
{
    return file_fdatasync(*(int *)arg);
}

int segment_create(struct spool *s, enum segment_kind kind,
                   struct segment **out, int *fd_out, struct err *err)
{
    uint64_t number;
    int fd;

    if (check_space(s, s->conf.segment_bytes, err) < 0 ||
        take_number(s, &number, err) < 0)
        return -1;
    fd = create_file(s, kind, number, s->conf.segment_bytes, err);
    if (fd < 0)
        return -1;
    *out = made(s, kind, number);
    /* Invariant 1: header and entry are durable before anything is in it. */
    if (offload(sync_header, &fd) < 0 ||
        engine_dir_sync(s->dir, "segments", err) != ENGINE_OK) {
        close_fd(&fd);
        segment_seal(s, *out, SEG_FIRST);
        return -1;
    }
    *fd_out = fd;
    return 0;
}

int segment_create_files(struct spool *s, size_t n, struct segment **out,
                         int *fds, size_t *n_out, struct err *err)
{
    size_t k = 0;

    if (check_space(s, s->conf.segment_bytes / 4, err) < 0)
        return -1;
    for (k = 0; k < n; k++) {
        uint64_t number;

        if (take_number(s, &number, err) < 0)
            break;
        fds[k] = create_file(s, SEGMENT_OWN, number, 0, err);
        if (fds[k] < 0)
            break;
        out[k] = made(s, SEGMENT_OWN, number);
    }
    if (k > 0 && engine_dir_sync(s->dir, "segments", err) == ENGINE_OK) {
        *n_out = k;
        return 0;
    }
    for (size_t i = 0; i < k; i++) {
        close_fd(&fds[i]);
        segment_seal(s, out[i], SEG_FIRST);
    }
    return -1;
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

/* Invariant 5: the journal first, the files then. */
void segments_bury(struct spool *s)
{
    struct list now;
    struct err err = { 0 };

    if (list_empty(&s->dying))
        return;
    list_init(&now);
    for (struct list *l = list_pop(&s->dying); l != NULL;
         l = list_pop(&s->dying))
        list_push(&now, l);
    if (journal_sync(s, &err) < 0) {
        for (struct list *l = list_pop(&now); l != NULL; l = list_pop(&now))
            list_push(&s->dying, l);
        return;
    }
    for (struct list *l = list_pop(&now); l != NULL; l = list_pop(&now)) {
        struct segment *g = CONTAINER_OF(l, struct segment, link);
        char name[SEG_NAME_SIZE];

        seg_name(name, g->kind, g->by_number.key);
        if (engine_unlink(s->dir, name, &err) != ENGINE_OK && err.sys != ENOENT)
            spool_trouble(s, "%s: %s", name, err.log);
        op_seq(&s->batch, J_GONE, g->by_number.key);
        segment_free(s, g);
    }
    journal_kick(s);
}
