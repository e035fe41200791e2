/* Reading the journal back. */
#include "spool/owner_priv.h"

#include "base/codec.h"

/* ---------------------------------------------------------- one operation */

static struct spool_message *find(struct spool *s, const uint8_t *p)
{
    return spool_find(s, get_u64(p));
}

/* How much of its segment is known after this message; false: there is a gap
 * before it, which must be read from the file without taking this one again. */
static void learn_place(struct spool *s, struct segment *g,
                        const struct message_place *p)
{
    struct seen *seen;

    if (p->at == g->known_end) {
        g->known_end = p->at + p->length;
    } else if (p->at > g->known_end && imap_get(&s->seen, p->seq) == NULL) {
        seen = xcalloc(1, sizeof *seen);
        imap_put(&s->seen, &seen->node, p->seq);
    }
}

static bool apply_message(struct spool *s, slice v)
{
    const uint8_t *p = (const uint8_t *)v.p;
    struct message_place place;
    struct segment *g;

    if (v.n < PLACE_BYTES)
        return false;
    place = (struct message_place){ .seq = get_u64(p),
                                    .segment = get_u64(p + 8),
                                    .at = get_u64(p + 16),
                                    .length = get_u64(p + 24),
                                    .body_bytes = get_u64(p + 32),
                                    .envelope_bytes = get_u32(p + 40),
                                    .n_rcpts = get_u32(p + 44),
                                    .arrival_usec = (int64_t)get_u64(p + 48),
                                    .size = get_u64(p + 56),
                                    .flags = get_u32(p + 64) };
    if (place.at < SEG_FIRST || place.at > UINT32_MAX ||
        place.n_rcpts > ENVELOPE_MAX_RCPTS || place.arrival_usec < 0 ||
        place.body_bytes > INT64_MAX || place.length > INT64_MAX)
        return false;
    g = segment_need(s, place.segment);
    if (g->is_gone)
        return true;
    learn_place(s, g, &place);
    if (spool_find(s, place.seq) == NULL)
        (void)message_new(s, &place, g);
    return true;
}

static void settle_if_pending(struct spool *s, struct spool_message *m,
                              uint32_t rcpt, enum outcome how)
{
    (void)message_settle(s, m, rcpt, how);
}

static bool apply_settle(struct spool *s, slice v)
{
    const uint8_t *p = (const uint8_t *)v.p;
    struct spool_message *m;

    if (v.n < 13)
        return false;
    m = find(s, p);
    if (m != NULL)
        settle_if_pending(s, m, get_u32(p + 8), (enum outcome)p[12]);
    return true;
}

static bool apply_done(struct spool *s, slice v)
{
    struct spool_message *m;

    if (v.n < 8)
        return false;
    m = find(s, (const uint8_t *)v.p);
    if (m != NULL)
        message_drop(s, m);
    return true;
}

static bool apply_try(struct spool *s, slice v)
{
    const uint8_t *p = (const uint8_t *)v.p;
    struct spool_message *m;

    if (v.n < 20)
        return false;
    m = find(s, p);
    if (m == NULL)
        return true;
    if (get_u64(p + 8) == 0 && get_u32(p + 16) == 0)
        message_forget_tries(s, m);
    m->next_try = (msec)get_u64(p + 8);
    m->attempts = get_u32(p + 16);
    return true;
}

static bool apply_reason(struct spool *s, slice v)
{
    struct spool_message *m;
    slice status;
    slice text;
    size_t n;

    if (v.n < 8 + 1 + 2)
        return false;
    m = find(s, (const uint8_t *)v.p);
    n = (uint8_t)v.p[8];
    if (v.n < 8 + 1 + n + 2)
        return false;
    status = slice_sub(v, 9, n);
    v = slice_from(v, 9 + n);
    n = get_u16(v.p);
    if (v.n < 2 + n)
        return false;
    text = slice_sub(v, 2, n);
    v = slice_from(v, 2 + n);
    for (; m != NULL && v.n >= 4; v = slice_from(v, 4))
        message_reason(s, m, get_u32(v.p), status, text);
    return true;
}

static bool apply_expand(struct spool *s, slice v)
{
    struct spool_expansion x = { 0 };
    struct spool_message *m;
    struct attr a;
    uint64_t notify;
    uint32_t parent;
    uint32_t index;
    int r;

    if (v.n < 16)
        return false;
    m = find(s, (const uint8_t *)v.p);
    parent = get_u32(v.p + 8);
    index = get_u32(v.p + 12);
    v = slice_from(v, 16);
    while ((r = attr_next(&v, &a)) == 1) {
        if (a.tag == X_ADDR) {
            x.addr = a.v;
        } else if (a.tag == X_ORIG) {
            x.orig = a.v;
        } else if (a.tag == X_ORCPT) {
            x.orcpt = a.v;
        } else if (a.tag == X_OWNER) {
            x.owner = a.v;
            x.has_owner = true;
        } else if (a.tag == X_NOTIFY && attr_u64(&a, &notify)) {
            x.notify = (uint32_t)notify;
        } else if (a.must) {
            return false;
        }
    }
    if (r < 0)
        return false;
    /* Idempotent: an index that is there already is skipped. */
    if (m == NULL || index < m->n_rcpts)
        return true;
    return index == m->n_rcpts && parent < index &&
           message_expand(m, parent, &x);
}

static bool apply_hold(struct spool *s, slice v)
{
    struct spool_message *m;

    if (v.n < 9)
        return false;
    m = find(s, (const uint8_t *)v.p);
    if (m != NULL)
        m->is_held = v.p[8] != 0;
    return true;
}

static bool apply_move(struct spool *s, slice v)
{
    const uint8_t *p = (const uint8_t *)v.p;
    struct spool_message *m;
    struct segment *g;

    if (v.n < 24 || get_u64(p + 16) > UINT32_MAX)
        return false;
    m = find(s, p);
    if (m == NULL)
        return true;
    g = segment_need(s, get_u64(p + 8));
    if (!g->is_gone && m->segment != g)
        message_move(s, m, g, get_u64(p + 16));
    return true;
}

static bool apply_segment(struct spool *s, uint16_t op, slice v)
{
    struct segment *g;
    uint64_t end;

    if (v.n < 16)
        return false;
    g = segment_need(s, get_u64(v.p));
    end = get_u64(v.p + 8);
    if (op == J_SEAL) {
        g->is_sealed = true;
        g->seal_end = end;
    } else if (end > g->known_end) {
        g->known_end = end;
    }
    return true;
}

static bool apply_gone(struct spool *s, slice v)
{
    struct segment *g;

    if (v.n < 8)
        return false;
    g = segment_need(s, get_u64(v.p));
    g->is_gone = g->n_live == 0;
    return true;
}

static bool apply_reserve(struct spool *s, slice v)
{
    if (v.n < 8)
        return false;
    if (get_u64(v.p) > s->reserved)
        s->reserved = get_u64(v.p);
    return true;
}

static bool apply(struct spool *s, const struct attr *a, bool *end_seen)
{
    switch (a->tag) {
    case J_RESERVE:
        return apply_reserve(s, a->v);
    case J_MESSAGE:
        return apply_message(s, a->v);
    case J_SETTLE:
        return apply_settle(s, a->v);
    case J_DONE:
        return apply_done(s, a->v);
    case J_TRY:
        return apply_try(s, a->v);
    case J_REASON:
        return apply_reason(s, a->v);
    case J_EXPAND:
        return apply_expand(s, a->v);
    case J_HOLD:
        return apply_hold(s, a->v);
    case J_MOVE:
        return apply_move(s, a->v);
    case J_SEAL:
    case J_MARK:
        return apply_segment(s, a->tag, a->v);
    case J_GONE:
        return apply_gone(s, a->v);
    case J_END:
        *end_seen = true;
        return true;
    default:
        return !a->must;
    }
}

int replay_batch(struct spool *s, slice batch, bool *end_seen, struct err *err)
{
    struct attr a;
    int r;

    while ((r = attr_next(&batch, &a)) == 1) {
        if (!apply(s, &a, end_seen))
            return err_temp(err, "operation %u is not understood", a.tag);
    }
    return r < 0 ? err_temp(err, "damaged batch of operations") : 0;
}

/* --------------------------------------------------------------- whole files
 */

static bool is_blank(struct spool *s, const char *name)
{
    uint64_t size;
    bool blank;
    int fd;

    if (engine_get(s->dir, name, &fd, &size, NULL) != ENGINE_OK)
        return false;
    blank = engine_log_is_blank(fd);
    close_fd(&fd);
    return blank;
}

/* What a file of operations turned out to be. */
struct replayed {
    bool end_seen; /* J_END */
    bool is_empty;
};

static MAY_WAIT int replay_records(struct spool *s, struct engine_reader *r,
                                   struct replayed *out, struct err *err)
{
    struct engine_record rec;
    int got;

    while ((got = engine_reader_next(r, &rec, err)) == 1) {
        out->is_empty = false;
        s->bytes_since += rec.payload.n + ENGINE_RECORD_HEAD;
        (void)engine_lease_raise(s->lease, rec.epoch, NULL);
        if (rec.type == (JOURNAL_TYPE_BATCH & ~ENGINE_MUST_UNDERSTAND)) {
            if (replay_batch(s, rec.payload, &out->end_seen, err) < 0)
                return -1;
        } else if (rec.must) {
            return err_temp(err, "record of type %u is not understood",
                            rec.type);
        }
        if (task_inside())
            task_yield_if_long();
    }
    return got;
}

/* 1: read; 0: there is no such file; -1. */
static MAY_WAIT int replay_log(struct spool *s, const char *what,
                               uint64_t number, struct replayed *out,
                               struct err *err)
{
    const char *kind = strcmp(what, "snapshot") == 0 ? "SNAP" : "JRNL";
    char name[JOURNAL_NAME_SIZE];
    struct engine_log_spec spec;
    struct engine_reader *r = NULL;
    struct engine_log_info info;
    enum engine_outcome o;
    int got;

    journal_name(name, what, number);
    spec = journal_spec(s, name, kind, number);
    o = engine_reader_open(s->dir, &spec, &r, &info, err);
    if (o == ENGINE_NOENT || (o == ENGINE_CHANGED && is_blank(s, name)))
        return 0;
    if (o != ENGINE_OK)
        return -1;
    out->is_empty = true;
    got = replay_records(s, r, out, err);
    if (got == 0 && engine_reader_torn(r))
        spool_trouble(s,
                      "%s: what follows offset %" PRIu64
                      " was not written whole and is ignored",
                      name, engine_reader_end(r));
    engine_reader_free(&r);
    return got < 0 ? err_prefix(err, "%s", name) : 1;
}

/* Expansions whose end was not written: they were never acted upon. */
static void drop_half_expansions(struct spool *s)
{
    struct imap_node *n = NULL;
    size_t pos = 0;

    while ((n = imap_next(&s->messages, &pos, n)) != NULL) {
        struct spool_message *m = CONTAINER_OF(n, struct spool_message, by_seq);

        for (uint32_t i = m->n_first; i < m->n_rcpts; i++) {
            uint32_t parent = m->expansions[i - m->n_first]->parent;

            if (spool_message_is_pending(m, parent)) {
                message_unexpand(s, m, i);
                break;
            }
        }
    }
}

static void drop_finished(struct spool *s)
{
    struct imap_node *n = NULL;
    size_t pos = 0;

    while ((n = imap_next(&s->messages, &pos, n)) != NULL) {
        struct spool_message *m = CONTAINER_OF(n, struct spool_message, by_seq);

        if (m->n_pending == 0)
            message_drop(s, m);
    }
}

void replay_finish(struct spool *s)
{
    drop_half_expansions(s);
    drop_finished(s);
}

static int read_current(struct spool *s, bool *is_new, struct err *err)
{
    struct engine_log_spec spec = journal_spec(s, "current", "CURR", 0);
    struct engine_log_info info;
    enum engine_outcome o;
    struct buf b;

    *is_new = false;
    buf_init(&b, 4096);
    o = engine_load(s->dir, "current", &b, err);
    if (o == ENGINE_OK && b.n != ENGINE_LOG_HEAD) {
        err_temp(err, "current: wrong size");
        o = ENGINE_CHANGED;
    } else if (o == ENGINE_OK) {
        o = engine_log_head_decode((const uint8_t *)b.p, &spec, &info, err);
    }
    buf_done(&b);
    if (o == ENGINE_NOENT) {
        *is_new = true;
        return 0;
    }
    if (o != ENGINE_OK)
        return -1;
    memcpy(s->uuid, info.uuid, sizeof s->uuid);
    s->base = info.number;
    return 0;
}

int replay_all(struct spool *s, bool *is_new, struct err *err)
{
    struct replayed x = { 0 };
    int r;

    if (read_current(s, is_new, err) < 0)
        return -1;
    if (*is_new)
        return 0;
    s->is_replaying = true;
    r = replay_log(s, "snapshot", s->base, &x, err);
    if (r < 0)
        return -1;
    if (s->base > 1 && (r == 0 || !x.end_seen))
        return err_temp(err, "snapshot-%08" PRIx64 " is missing or not whole",
                        s->base);
    s->snapshot_bytes = s->bytes_since;
    s->bytes_since = 0;
    x.is_empty = false;
    s->log_number = s->base - 1;
    for (uint64_t n = s->base;; n++) {
        r = replay_log(s, "journal", n, &x, err);
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        s->log_number = n;
    }
    /* What stands behind a hole was never promised to anybody. */
    snapshot_remove_above(s, s->log_number);
    /* An empty one at the end was made ahead: it is the one to go on with. */
    if (x.is_empty && s->log_number >= s->base) {
        s->next_log = s->log_number;
        s->log_number--;
    }
    replay_finish(s);
    s->is_replaying = false;
    return 0;
}
