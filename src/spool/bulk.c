/*
 * Stragglers: the few messages that keep an old segment alive are copied into a
 * bulk segment, so that the old one can go.  The copy is durable before the
 * journal says so, and the journal before the old file goes.
 */
#include "spool/owner_priv.h"

#include "rt/file.h"
#include <fcntl.h>

#define MOVE_BYTES_MAX (8u << 20) /* copied under one sync */
#define MOVE_COUNT_MAX 2048
#define LIVE_PART      4 /* less than a quarter is alive */

struct moved {
    uint64_t seq;
    uint64_t at;
};

struct move {
    struct spool *s;
    struct segment *from;
    struct moved *v;
    size_t n;
    uint64_t bytes;
};

static bool is_straggling(const struct spool *s, const struct segment *g)
{
    return g->is_sealed && !g->is_dying && !g->is_scanning && g->n_live > 0 &&
           g->kind != SEGMENT_OWN && g != s->bulk_segment &&
           g->live_bytes < g->known_end / LIVE_PART &&
           clock_mono() - g->made > s->conf.straggler_age_ms;
}

static MAY_WAIT int bulk_open(struct spool *s, uint64_t need, struct err *err)
{
    char name[SEG_NAME_SIZE];
    struct engine_log_spec spec;
    int fd;

    if (s->bulk != NULL && engine_log_is_open(s->bulk) &&
        engine_log_room(s->bulk) >= need)
        return 0;
    if (s->bulk != NULL) {
        segment_seal(s, s->bulk_segment, s->bulk_segment->known_end);
        engine_log_close(&s->bulk);
        s->bulk_segment = NULL;
    }
    if (segment_create(s, SEGMENT_BULK, &s->bulk_segment, &fd, err) < 0)
        return -1;
    seg_name(name, SEGMENT_BULK, s->bulk_segment->by_number.key);
    spec =
        seg_spec(name, SEGMENT_BULK, s->bulk_segment->by_number.key, s->uuid);
    spec.max_bytes = s->conf.segment_bytes;
    if (engine_log_adopt(s->engine, fd, SEG_FIRST, &spec, &s->bulk, err) !=
        ENGINE_OK) {
        segment_seal(s, s->bulk_segment, SEG_FIRST);
        s->bulk_segment = NULL;
        return -1;
    }
    return 0;
}

/* Copy one record as it is; its sum is made anew for the new place. */
static int copy_one(struct move *mv, const struct spool_message *m,
                    struct err *err)
{
    struct spool *s = mv->s;
    size_t n = (size_t)message_length(m) - ENGINE_RECORD_HEAD;
    char *payload = xmalloc(n);
    struct iovec v = { payload, n };
    int fd = segment_fd(s, mv->from, err);
    enum engine_outcome o = ENGINE_TRYLATER;

    if (fd >= 0 &&
        pread(fd, payload, n, (off_t)m->at + ENGINE_RECORD_HEAD) == (ssize_t)n)
        o = engine_log_append(s->bulk, SEG_TYPE_MESSAGE, &v, 1, ENGINE_COPY,
                              &mv->v[mv->n].at, err);
    else if (fd >= 0)
        (void)err_sys(err, "read a message");
    free(payload);
    if (o != ENGINE_OK)
        return -1;
    mv->v[mv->n++].seq = m->by_seq.key;
    mv->bytes += n;
    return 0;
}

static int copy_some(struct move *mv, struct err *err)
{
    list_each(l, &mv->from->messages) {
        const struct spool_message *m =
            CONTAINER_OF(l, struct spool_message, in_segment);

        if (mv->n == MOVE_COUNT_MAX || mv->bytes > MOVE_BYTES_MAX ||
            engine_log_room(mv->s->bulk) < message_length(m))
            break;
        if (copy_one(mv, m, err) < 0)
            return -1;
    }
    return 0;
}

static MAY_WAIT int move_out(struct spool *s, struct segment *from,
                             struct err *err)
{
    struct move mv = { .s = s, .from = from };
    struct segment *bulk;
    int r = -1;

    if (bulk_open(s,
                  min_size((size_t)from->live_bytes, s->conf.segment_bytes / 2),
                  err) < 0)
        return -1;
    bulk = s->bulk_segment;
    mv.v = xcalloc(MOVE_COUNT_MAX, sizeof *mv.v);
    from->is_scanning = true; /* stays while we wait */
    if (copy_some(&mv, err) == 0 &&
        engine_log_durable(s->bulk, engine_log_end(s->bulk), err) == ENGINE_OK)
        r = 0;
    from->is_scanning = false;
    bulk->known_end = engine_log_end(s->bulk);
    for (size_t i = 0; r == 0 && i < mv.n; i++) {
        struct spool_message *m = spool_find(s, mv.v[i].seq);

        if (m == NULL || m->segment != from)
            continue; /* settled meanwhile */
        op_move(&s->batch, mv.v[i].seq, bulk->by_number.key, mv.v[i].at);
        message_move(s, m, bulk, mv.v[i].at);
    }
    op_two(&s->batch, J_MARK, bulk->by_number.key, bulk->known_end);
    journal_kick(s);
    free(mv.v);
    segment_check(s, from);
    return r;
}

void bulk_move_stragglers(struct spool *s)
{
    uint64_t *numbers = xcalloc(s->segments.n + 1, sizeof *numbers);
    struct imap_node *n = NULL;
    struct err err;
    size_t count = 0;
    size_t pos = 0;

    while ((n = imap_next(&s->segments, &pos, n)) != NULL) {
        if (is_straggling(s, CONTAINER_OF(n, struct segment, by_number)))
            numbers[count++] = n->key;
    }
    for (size_t i = 0; i < count; i++) {
        struct segment *g = segment_get(s, numbers[i]);

        if (g == NULL || !is_straggling(s, g))
            continue;
        if (move_out(s, g, &err) < 0) {
            if (!s->was_full)
                spool_trouble(s, "move old messages together: %s", err.log);
            break;
        }
    }
    free(numbers);
}
