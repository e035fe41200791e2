/* Reading a message's envelope back, and where its body is. */
#include "spool/owner_priv.h"

#include "base/codec.h"
#include "base/digest.h"

struct read_job {
    int fd;
    struct iovec v;
    off_t at;
};

static int read_run(void *arg)
{
    struct read_job *j = arg;
    char *to = j->v.iov_base;
    size_t left = j->v.iov_len;

    while (left > 0) {
        ssize_t n = pread(j->fd, to, left, j->at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return -1;
        to += n;
        j->at += n;
        left -= (size_t)n;
    }
    return 0;
}

/* From the page cache at once, else by a pool thread. */
static MAY_WAIT int read_some(int fd, void *p, size_t n, uint64_t at)
{
    struct read_job j = { fd, { p, n }, (off_t)at };

    if (preadv2(fd, &j.v, 1, j.at, RWF_NOWAIT) == (ssize_t)n)
        return 0;
    return offload(read_run, &j);
}

static uint64_t body_at(const struct spool_message *m)
{
    return (uint64_t)m->at + ENGINE_RECORD_HEAD;
}

static MAY_WAIT int load_envelope(struct spool *s, struct spool_message *m,
                                  struct arena *a, struct envelope *out,
                                  struct err *err)
{
    uint64_t seq = m->by_seq.key;
    size_t n = m->envelope_bytes;
    struct segment *g = m->segment;
    char *raw = arena_alloc(a, n > 0 ? n : 1);
    int fd;
    int r;

    if (raw == NULL)
        return err_temp(err, "envelope too large for its memory");
    fd = segment_fd(s, g, err);
    if (fd < 0)
        return -1;
    /* A copy: the cached descriptor may be closed while a thread reads. */
    fd = dup(fd);
    if (fd < 0)
        return err_sys(err, "duplicate a segment's descriptor");
    r = read_some(fd, raw, n, body_at(m) + m->body_bytes);
    if (r < 0)
        (void)err_sys(err, "read an envelope");
    close_fd(&fd);
    if (r < 0)
        return -1;
    if (envelope_decode(slice_of(raw, n), a, false, out, err) < 0)
        return -1;
    if (out->seq != seq || spool_find(s, seq) != m)
        return err_temp(err, "message is gone");
    return 0;
}

static void fill_state(const struct spool_message *m, struct spool_rcpt *r)
{
    const struct rcpt_state *state =
        m->rcpts != NULL ? &m->rcpts[r->index] : NULL;

    if (state == NULL)
        return;
    r->settled = state->is_settled;
    r->outcome = (enum outcome)state->outcome;
    if (state->reason != NULL) {
        r->status = reason_status(state->reason);
        r->reason = reason_text(state->reason);
    }
}

/* The texts stand in shared memory that may go with the next settlement. */
static bool keep_texts(struct arena *a, struct spool_rcpt *r)
{
    slice *texts[] = { &r->status, &r->reason, &r->addr,
                       &r->orig,   &r->orcpt,  &r->owner };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i]->n == 0)
            continue;
        *texts[i] = slice_dup(a, *texts[i]);
        if (texts[i]->p == NULL)
            return false;
    }
    return true;
}

static bool fill_first(const struct spool_message *m, const struct envelope *e,
                       struct arena *a, struct spool_rcpt *r)
{
    const struct envelope_rcpt *from = &e->rcpts[r->index];

    r->parent = UINT32_MAX;
    r->addr = from->addr;
    r->orig = from->orig;
    r->orcpt = from->orcpt;
    r->notify = from->notify;
    fill_state(m, r);
    r->path = slice_dup(a, r->addr);
    return (r->addr.n == 0 || r->path.p != NULL) && keep_texts(a, r);
}

static bool fill_expanded(const struct spool_message *m, struct arena *a,
                          struct spool_rcpt *all, struct spool_rcpt *r)
{
    const struct expanded *x = m->expansions[r->index - m->n_first];
    const struct spool_rcpt *parent = &all[x->parent];
    char *path;

    r->parent = x->parent;
    r->depth = parent->depth + 1;
    r->notify = x->notify;
    r->addr = expanded_part(x, 0);
    r->orig = expanded_part(x, 1);
    r->orcpt = expanded_part(x, 2);
    r->owner = x->has_owner ? expanded_part(x, 3) : parent->owner;
    r->has_owner = x->has_owner || parent->has_owner;
    fill_state(m, r);
    path = arena_alloc(a, parent->path.n + 1 + r->addr.n);
    if (path == NULL)
        return false;
    if (parent->path.n > 0)
        memcpy(path, parent->path.p, parent->path.n);
    path[parent->path.n] = '\n';
    if (r->addr.n > 0)
        memcpy(path + parent->path.n + 1, r->addr.p, r->addr.n);
    r->path = slice_of(path, parent->path.n + 1 + r->addr.n);
    return keep_texts(a, r);
}

int spool_load(struct spool *s, struct spool_message *m, struct arena *a,
               struct spool_detail *out, struct err *err)
{
    struct spool_detail d = { 0 };

    CHECK_OBJ(s, SPOOL_MAGIC);
    if (load_envelope(s, m, a, &d.envelope, err) < 0)
        return -1;
    if (d.envelope.n_rcpts != m->n_first)
        return err_temp(err, "envelope does not agree with the journal");
    d.n_rcpts = m->n_rcpts;
    d.rcpts = arena_alloc(a, (d.n_rcpts + 1) * sizeof *d.rcpts);
    if (d.rcpts == NULL)
        return err_temp(err, "too many recipients for their memory");
    for (uint32_t i = 0; i < m->n_rcpts; i++) {
        struct spool_rcpt *r = &d.rcpts[i];

        r->index = i;
        if (!(i < m->n_first ? fill_first(m, &d.envelope, a, r)
                             : fill_expanded(m, a, d.rcpts, r)))
            return err_temp(err, "too many recipients for their memory");
    }
    *out = d;
    return 0;
}

int spool_read_fd(struct spool *s, struct spool_message *m, int *fd,
                  uint64_t *at, uint64_t *bytes, struct err *err)
{
    int got;

    CHECK_OBJ(s, SPOOL_MAGIC);
    got = segment_fd(s, m->segment, err);
    if (got < 0)
        return -1;
    *fd = got;
    *at = body_at(m);
    *bytes = m->body_bytes;
    return 0;
}

void spool_delivery_id(const struct spool *s, uint64_t seq, slice path,
                       uint8_t out[static SPOOL_DELIVERY_ID])
{
    uint8_t number[8];
    uint8_t digest[32];
    struct sha256 h;

    set_u64(number, seq);
    sha256_init(&h);
    sha256_update(&h, slice_of(s->uuid, sizeof s->uuid));
    sha256_update(&h, slice_of(number, sizeof number));
    sha256_update(&h, path);
    sha256_final(&h, digest);
    memcpy(out, digest, SPOOL_DELIVERY_ID);
}
