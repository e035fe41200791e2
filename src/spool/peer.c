/* What writers say, and what they are given. */
#include "spool/owner_priv.h"

#include "base/codec.h"

/* ---------------------------------------------------------------- accepting */

static void apply_settles(struct spool *s, const struct envelope *e)
{
    for (size_t i = 0; i < e->n_settles; i++) {
        const struct envelope_settles *x = &e->settles[i];
        struct spool_message *m = spool_find(s, x->seq);
        bool is_last;

        if (m == NULL || !message_settle(s, m, x->rcpt, OUT_BOUNCED))
            continue;
        is_last = m->n_pending == 0;
        if (is_last)
            op_seq(&s->batch, J_DONE, x->seq);
        else
            op_settle(&s->batch, x->seq, x->rcpt, OUT_BOUNCED);
        if (!s->is_opening && s->ops->on_settled != NULL)
            s->ops->on_settled(s, m, x->rcpt, is_last, s->arg);
        if (is_last)
            message_drop(s, m);
        if (s->batch.n >= JOURNAL_RECORD_MAX)
            journal_flush(s);
    }
}

static bool is_known(struct spool *s, uint64_t seq)
{
    return imap_get(&s->seen, seq) != NULL || spool_find(s, seq) != NULL;
}

static void accept_new(struct spool *s, struct segment *g,
                       const struct seg_found *f, const struct envelope *e)
{
    struct message_place p = { .seq = e->seq,
                               .segment = g->by_number.key,
                               .at = f->at,
                               .length = f->length,
                               .body_bytes = f->body_bytes,
                               .envelope_bytes = f->envelope_bytes,
                               .n_rcpts = (uint32_t)e->n_rcpts,
                               .arrival_usec = e->arrival_usec,
                               .size = e->size,
                               .flags = e->flags };
    struct spool_message *m;

    m = message_new(s, &p, g);
    /* What it settles may be too much for one record: first that, so that it
     * is found in its segment again if only some of it was written. */
    apply_settles(s, e);
    op_message(&s->batch, &p);
    if (m->n_pending == 0) {
        op_seq(&s->batch, J_DONE, p.seq);
        message_drop(s, m);
    } else if (!s->is_opening && s->ops->on_message != NULL) {
        s->ops->on_message(s, m, e, s->arg);
    }
    journal_kick(s);
}

void spool_accept(struct spool *s, struct segment *g, const struct seg_found *f,
                  slice envelope)
{
    struct envelope e;
    struct err err;

    g->known_end = f->at + f->length;
    if (envelope_decode(envelope, s->scratch, false, &e, &err) < 0) {
        spool_trouble(s, "segment %012" PRIx64 " at %" PRIu64 ": %s",
                      g->by_number.key, f->at, err.log);
    } else if (e.seq / SEG_PLACES != g->by_number.key) {
        spool_trouble(s,
                      "segment %012" PRIx64 " at %" PRIu64
                      ": sequence number of another segment",
                      g->by_number.key, f->at);
    } else if (!is_known(s, e.seq)) {
        accept_new(s, g, f, &e);
    }
    arena_reset(s->scratch);
}

/* ------------------------------------------------------------------- telling
 */

struct note {
    uint64_t segment;
    uint64_t length; /* of SEALED and ANNOUNCE too */
    struct seg_found f;
    slice head;
};

static int note_parse(slice body, struct note *out)
{
    struct note n = { 0 };
    struct attr a;
    int r;

    while ((r = attr_next(&body, &a)) == 1) {
        bool ok = true;

        if (a.tag == AT_SEGMENT)
            ok = attr_u64(&a, &n.segment);
        else if (a.tag == AT_OFFSET)
            ok = attr_u64(&a, &n.f.at);
        else if (a.tag == AT_LENGTH)
            ok = attr_u64(&a, &n.length);
        else if (a.tag == AT_BODY_BYTES)
            ok = attr_u64(&a, &n.f.body_bytes);
        else if (a.tag == AT_HEAD)
            n.head = a.v;
        if (!ok)
            return -1;
    }
    n.f.length = n.length;
    n.f.envelope_bytes = (uint32_t)n.head.n;
    *out = n;
    return r;
}

static void told_note(struct spool *s, struct segment *g, const struct note *n)
{
    if (n->f.at < SEG_FIRST ||
        n->length != SEG_OVERHEAD + n->f.body_bytes + n->head.n) {
        spool_trouble(s, "segment %012" PRIx64 ": a note that cannot be",
                      g->by_number.key);
        return;
    }
    if (n->f.at < g->known_end)
        return; /* told again */
    if (n->f.at > g->known_end || g->is_scanning) {
        segment_want(s, g, n->f.at + n->length);
        return;
    }
    spool_accept(s, g, &n->f, n->head);
    if (g->kind == SEGMENT_OWN)
        segment_seal(s, g, g->known_end);
}

static void told_sealed(struct spool *s, struct segment *g, uint64_t end)
{
    if (g->known_end >= end && !g->is_scanning) {
        segment_seal(s, g, end);
        return;
    }
    g->want_seal = end;
    segment_want(s, g, end);
}

int spool_told(struct spool *s, struct spool_peer *p, uint16_t type, slice body)
{
    struct segment *g;
    struct note n;

    if (note_parse(body, &n) < 0)
        return -1;
    g = segment_get(s, n.segment);
    if (g == NULL || g->kind == SEGMENT_BULK || g->is_dying)
        return 0; /* settled and gone: it is told again */
    if (g->is_sealed && type != SPOOL_NOTE)
        return 0;
    if (g->is_foreign && p != NULL) {
        g->is_foreign = false; /* its writer is back */
        g->peer = p;
    }
    if (type == SPOOL_NOTE)
        told_note(s, g, &n);
    else if (type == SPOOL_SEALED)
        told_sealed(s, g, n.length);
    else if (type == SPOOL_UNUSED && g->known_end == SEG_FIRST)
        segment_seal(s, g, SEG_FIRST);
    else if (type == SPOOL_ANNOUNCE)
        segment_want(s, g, n.length);
    return 0;
}

/* -------------------------------------------------------------------- peers */

struct spool_peer *spool_peer_new(struct spool *s, struct chan *c)
{
    struct spool_peer *p = xcalloc(1, sizeof *p);

    p->magic = PEER_MAGIC;
    p->spool = s;
    p->chan = c;
    p->refs = 1;
    list_push(&s->peers, &p->link);
    return p;
}

static void peer_unref(struct spool_peer *p)
{
    if (--p->refs > 0)
        return;
    list_remove(&p->link);
    p->magic = 0;
    free(p);
}

void spool_peer_gone(struct spool_peer **pp)
{
    struct spool_peer *p = *pp;
    struct imap_node *n = NULL;
    size_t pos = 0;

    if (p == NULL)
        return;
    CHECK_OBJ(p, PEER_MAGIC);
    *pp = NULL;
    p->chan = NULL;
    while ((n = imap_next(&p->spool->segments, &pos, n)) != NULL) {
        struct segment *g = CONTAINER_OF(n, struct segment, by_number);

        if (g->peer == p)
            segment_orphan(p->spool, g);
    }
    peer_unref(p);
}

struct grant_job {
    struct spool_peer *peer;
    uint32_t call;
    size_t n_files; /* 0: a segment */
};

/* Give made segments to the peer, or, when it is gone, to the graveyard: their
 * locks end with our descriptors. */
static void hand_out(struct grant_job *j, struct segment **g, int *fds,
                     size_t n, uint64_t bytes)
{
    struct spool_peer *p = j->peer;
    struct buf b;

    buf_init(&b, 1024);
    for (size_t i = 0; i < n; i++) {
        (void)attr_put_u64(&b, AT_SEGMENT, g[i]->by_number.key);
        if (p->chan != NULL)
            g[i]->peer = p;
    }
    (void)attr_put_u64(&b, AT_OFFSET, SEG_FIRST);
    (void)attr_put_u64(&b, AT_LENGTH, bytes);
    if (p->chan != NULL)
        chan_answer(p->chan, j->call, buf_view(&b), fds, n);
    buf_done(&b);
    for (size_t i = 0; i < n; i++) {
        close_fd(&fds[i]);
        if (p->chan == NULL)
            segment_orphan(p->spool, g[i]);
    }
}

static MAY_WAIT void grant_task(void *arg)
{
    struct grant_job *j = arg;
    struct spool *s = j->peer->spool;
    struct segment *g[CHAN_MAX_FDS];
    int fds[CHAN_MAX_FDS];
    size_t n = 1;
    struct err err;
    int r;

    if (j->n_files > 0)
        r = segment_create_files(s, min_size(j->n_files, CHAN_MAX_FDS), g, fds,
                                 &n, &err);
    else
        r = segment_create(s, SEGMENT_PLAIN, g, fds, &err);
    if (r == 0)
        hand_out(j, g, fds, n, s->conf.segment_bytes);
    else if (j->peer->chan != NULL)
        chan_fail(j->peer->chan, j->call, &err);
    peer_unref(j->peer);
    free(j);
    spool_task_end(s);
}

static void serve_grant(struct spool_peer *p, const struct msg *m)
{
    struct grant_job *j = xcalloc(1, sizeof *j);

    j->peer = p;
    j->call = m->id;
    if (m->type == SPOOL_FILE)
        j->n_files = attr_u64_or(m->body, AT_SIZE, 1);
    if (m->type == SPOOL_FILE && j->n_files == 0)
        j->n_files = 1;
    p->refs++;
    spool_spawn(p->spool, "spool-grant", grant_task, j);
}

static void serve_limits(struct spool_peer *p, const struct msg *m)
{
    struct buf b;

    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_FLAGS, spool_willing(p->spool));
    chan_answer(p->chan, m->id, buf_view(&b), NULL, 0);
    buf_done(&b);
}

void spool_serve(struct spool_peer *p, struct msg *m)
{
    CHECK_OBJ(p, PEER_MAGIC);
    switch (m->type) {
    case SPOOL_SEGMENT:
    case SPOOL_FILE:
        serve_grant(p, m);
        return;
    case SPOOL_LIMITS:
        serve_limits(p, m);
        return;
    case SPOOL_NOTE:
    case SPOOL_SEALED:
    case SPOOL_UNUSED:
    case SPOOL_ANNOUNCE:
        if (spool_told(p->spool, p, m->type, m->body) < 0)
            spool_trouble(p->spool, "a writer sent a malformed message %u",
                          m->type);
        return;
    default:
        return;
    }
}

/* --------------------------------------------------------------- own writer */

static MAY_WAIT int own_segment(void *arg, struct spool_grant *out,
                                struct err *err)
{
    struct spool *s = arg;
    struct segment *g;

    if (segment_create(s, SEGMENT_PLAIN, &g, &out->fd, err) < 0)
        return -1;
    g->is_own_writer = true;
    out->segment = g->by_number.key;
    out->start = SEG_FIRST;
    out->bytes = s->conf.segment_bytes;
    return 0;
}

static MAY_WAIT int own_files(void *arg, struct spool_grant *out, size_t max,
                              size_t *n_out, struct err *err)
{
    struct spool *s = arg;
    struct segment *g[CHAN_MAX_FDS];
    int fds[CHAN_MAX_FDS];

    if (segment_create_files(s, min_size(max, CHAN_MAX_FDS), g, fds, n_out,
                             err) < 0)
        return -1;
    for (size_t i = 0; i < *n_out; i++) {
        g[i]->is_own_writer = true;
        out[i] = (struct spool_grant){ .segment = g[i]->by_number.key,
                                       .start = SEG_FIRST,
                                       .fd = fds[i] };
    }
    return 0;
}

static int own_tell(void *arg, uint16_t type, slice body, struct err *err)
{
    (void)err;
    return spool_told(arg, NULL, type, body);
}

static const struct spool_source own_source = { own_segment, own_files,
                                                own_tell };

struct spool_writer *own_writer_new(struct spool *s)
{
    return spool_writer_new(&own_source, s, NULL);
}
