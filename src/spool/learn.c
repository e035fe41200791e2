/* Learning what a segment holds from its file: after a restart, after the
 * death of a writer, over a gap in the notes. */
#include "spool/owner_priv.h"

#include "rt/file.h"

int segment_learn(struct spool *s, struct segment *g, uint64_t limit,
                  bool sync_first)
{
    struct seg_scan scan;
    struct err err = { 0 };
    int r = -1;

    CHECK(!g->is_scanning);
    seg_scan_init(&scan);
    scan.kind = g->kind;
    scan.from = g->known_end;
    scan.limit = limit;
    scan.sync_first = sync_first;
    scan.fd = segment_fd(s, g, &err);
    if (scan.fd >= 0) {
        g->is_scanning = true; /* keeps the descriptor and the segment */
        r = offload(seg_scan_run, &scan);
        g->is_scanning = false;
        if (r < 0)
            err = scan.err;
    }
    if (scan.sync_failed)
        spool_trouble(s, "segment %012" PRIx64 ": sync failed",
                      g->by_number.key);
    for (size_t i = 0; i < scan.n_found; i++) {
        const struct seg_found *f = &scan.found[i];

        if (f->at >= g->known_end) /* else a note came meanwhile */
            spool_accept(s, g, f,
                         slice_sub(buf_view(&scan.envelopes), f->envelope_at,
                                   f->envelope_bytes));
    }
    if (r == 0 && scan.end > g->known_end)
        g->known_end = scan.end;
    if (r < 0)
        spool_trouble(s, "segment %012" PRIx64 ": %s", g->by_number.key,
                      err.log);
    seg_scan_done(&scan);
    return r;
}

/* --------------------------------------------------------------------- gaps */

struct learn_job {
    struct spool *s;
    uint64_t number;
};

/* True when nothing more is to be done for this segment. */
static MAY_WAIT bool learn_step(struct spool *s, struct segment *g)
{
    uint64_t before = g->known_end;

    if (g->is_scanning)
        return task_sleep(20, NULL) < 0;
    if (segment_learn(s, g, g->want_end, false) < 0)
        return true;
    return g->known_end == before;
}

static MAY_WAIT void learn_task(void *arg)
{
    struct learn_job *j = arg;
    struct spool *s = j->s;
    struct segment *g = segment_get(s, j->number);
    bool ended = false;

    /* More notes may come while the file is read: go on until all is known. */
    for (int i = 0; g != NULL && !ended && i < 1000; i++) {
        if (g->want_end <= g->known_end)
            break;
        ended = learn_step(s, g);
        g = segment_get(s, j->number);
    }
    if (g != NULL && g->want_seal != 0 && g->known_end >= g->want_seal)
        segment_seal(s, g, g->want_seal);
    else if (g != NULL && g->want_seal != 0)
        segment_orphan(s, g);
    free(j);
    spool_task_end(s);
}

void segment_want(struct spool *s, struct segment *g, uint64_t end)
{
    struct learn_job *j;

    if (end > g->want_end)
        g->want_end = end;
    if (g->is_scanning || g->want_end <= g->known_end)
        return;
    j = xcalloc(1, sizeof *j);
    j->s = s;
    j->number = g->by_number.key;
    spool_spawn(s, "spool-learn", learn_task, j);
}

/* ------------------------------------------------------------ dead writers */

/* The writer is dead: all it wrote is learnt, and the segment is sealed. */
static MAY_WAIT void take_over(struct spool *s, uint64_t number)
{
    struct segment *g = segment_get(s, number);

    if (g->is_scanning)
        return;
    if (segment_learn(s, g, UINT64_MAX, true) < 0) {
        g->n_failures++; /* tried again at the next probe */
        return;
    }
    segment_seal(s, g, g->known_end);
}

static MAY_WAIT void probe_task(void *arg)
{
    struct spool *s = arg;

    segments_probe(s);
    spool_task_end(s);
}

static void probe_soon(struct timer *t)
{
    struct spool *s = CONTAINER_OF(t, struct spool, probe_timer);

    spool_spawn(s, "spool-probe", probe_task, s);
}

void segment_orphan(struct spool *s, struct segment *g)
{
    g->peer = NULL;
    if (g->is_sealed)
        return;
    g->is_foreign = true;
    /* A process that dies closes its socket and its files in some order. */
    if (!timer_is_set(&s->probe_timer) && !s->is_closing)
        timer_set(&s->probe_timer, clock_after(20), probe_soon);
}

void segments_probe(struct spool *s)
{
    uint64_t *numbers = xcalloc(s->segments.n + 1, sizeof *numbers);
    struct imap_node *n = NULL;
    size_t count = 0;
    size_t pos = 0;

    while ((n = imap_next(&s->segments, &pos, n)) != NULL) {
        if (CONTAINER_OF(n, struct segment, by_number)->is_foreign)
            numbers[count++] = n->key;
    }
    for (size_t i = 0; i < count; i++) {
        struct segment *g = segment_get(s, numbers[i]);

        if (g != NULL && g->is_foreign && g->n_failures < 3 &&
            !segment_is_locked(s, g))
            take_over(s, numbers[i]);
    }
    free(numbers);
}

/* -------------------------------------------------------------------- start */

struct load {
    struct spool *s;
    uint64_t highest;
};

static bool load_entry(const char *entry, void *arg)
{
    struct load *l = arg;
    enum segment_kind kind;
    struct segment *g;
    uint64_t number;

    if (!seg_name_parse(entry, &kind, &number))
        return true;
    g = segment_need(l->s, number);
    g->kind = kind;
    g->has_file = true;
    if (number > l->highest)
        l->highest = number;
    return true;
}

/* Messages whose file is gone cannot be delivered: say so, loudly. */
static void lost_file(struct spool *s, struct segment *g)
{
    if (g->n_live > 0)
        spool_trouble(s,
                      "segment %012" PRIx64 " is missing: %zu messages in it "
                      "are lost",
                      g->by_number.key, g->n_live);
    list_each_safe(l, tmp, &g->messages)
        message_drop(s, CONTAINER_OF(l, struct spool_message, in_segment));
    segment_free(s, g);
}

static MAY_WAIT void load_segment(struct spool *s, struct segment *g)
{
    char name[SEG_NAME_SIZE];

    seg_name(name, g->kind, g->by_number.key);
    if (g->is_gone) {
        (void)engine_unlink(s->dir, name, NULL);
        segment_free(s, g);
        return;
    }
    if (g->kind == SEGMENT_BULK) {
        /* Ours, and only moves say what is in it. */
        segment_seal(s, g, g->known_end);
    } else if (g->is_sealed) {
        if (g->known_end < g->seal_end)
            (void)segment_learn(s, g, g->seal_end, false);
    } else {
        g->is_foreign = true;
    }
}

int segments_load(struct spool *s, struct err *err)
{
    struct load l = { .s = s };
    struct imap_node *n = NULL;
    size_t count = 0;
    size_t pos = 0;
    uint64_t *numbers;

    if (engine_list(s->dir, "segments", load_entry, &l, err) != ENGINE_OK)
        return -1;
    s->next_segment = s->reserved;
    if (s->next_segment <= l.highest)
        s->next_segment = l.highest + 1;
    if (s->next_segment == 0)
        s->next_segment = 1;
    s->reserved = s->next_segment;
    numbers = xcalloc(s->segments.n + 1, sizeof *numbers);
    while ((n = imap_next(&s->segments, &pos, n)) != NULL)
        numbers[count++] = n->key;
    for (size_t i = 0; i < count; i++) {
        struct segment *g = segment_get(s, numbers[i]);

        if (!g->has_file)
            lost_file(s, g);
        else
            load_segment(s, g);
    }
    segments_probe(s);
    for (size_t i = 0; i < count; i++) {
        struct segment *g = segment_get(s, numbers[i]);

        if (g != NULL)
            segment_check(s, g);
    }
    free(numbers);
    return 0;
}
