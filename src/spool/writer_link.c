/* A writer whose owner is qmgr, over a link. */
#include "spool/writer_priv.h"

#include "base/codec.h"

/* A client waits this long for qmgr, which may be starting again, and is then
 * told to come later. */
#define GRANT_WAIT_MS 10000
/* Who comes after one that waited in vain: else sessions pile up. */
#define GRANT_AWAY_MS 2000
/* Each note wakes qmgr, local, a worker and the broker in turn, and the disk
 * for the worker's sync; the many notes of a busy server share that. */
#define GATHER_MS 20

struct link_source {
    struct link *link;
    struct spool_writer *writer;
    bool is_away; /* the last request got no answer */
};

static MAY_WAIT int ls_call(struct link_source *ls, uint16_t type, slice body,
                            struct msg *answer, struct err *err)
{
    msec patience = ls->is_away ? GRANT_AWAY_MS : GRANT_WAIT_MS;
    int rc = link_call(ls->link, type, body, NULL, 0, clock_after(patience),
                       answer, err);

    ls->is_away = rc < 0;
    return rc;
}

static MAY_WAIT int ls_segment(void *arg, struct spool_grant *out,
                               struct err *err)
{
    struct link_source *ls = arg;
    struct msg m;

    if (ls_call(ls, SPOOL_SEGMENT, SLICE_NONE, &m, err) < 0)
        return -1;
    if (m.n_fds != 1 || !attr_find_u64(m.body, AT_SEGMENT, &out->segment)) {
        msg_free(&m);
        return err_temp(err, "qmgr answered without a segment");
    }
    out->start = attr_u64_or(m.body, AT_OFFSET, SEG_FIRST);
    out->bytes = attr_u64_or(m.body, AT_LENGTH, SPOOL_SEGMENT_BYTES);
    out->fd = m.fds[0];
    m.fds[0] = -1;
    msg_free(&m);
    return 0;
}

static MAY_WAIT int ls_files(void *arg, struct spool_grant *out, size_t max,
                             size_t *n_out, struct err *err)
{
    struct link_source *ls = arg;
    struct msg m;
    struct attr a;
    struct buf b;
    slice in;
    size_t n = 0;
    int r;

    buf_init(&b, 64);
    (void)attr_put_u64(&b, AT_SIZE, max);
    r = ls_call(ls, SPOOL_FILE, buf_view(&b), &m, err);
    buf_done(&b);
    if (r < 0)
        return -1;
    in = m.body;
    while (n < max && n < m.n_fds && attr_next(&in, &a) == 1) {
        if (a.tag != AT_SEGMENT || !attr_u64(&a, &out[n].segment))
            continue;
        out[n].start = SEG_FIRST;
        out[n].bytes = 0;
        out[n].fd = m.fds[n];
        m.fds[n] = -1;
        n++;
    }
    msg_free(&m);
    if (n == 0)
        return err_temp(err, "qmgr answered without a file");
    *n_out = n;
    return 0;
}

static int ls_tell(void *arg, uint16_t type, slice body, struct err *err)
{
    struct link_source *ls = arg;

    return link_send(ls->link, type, body, NULL, 0, err);
}

static void ls_up(struct link *l, void *arg)
{
    struct link_source *ls = arg;

    (void)l;
    ls->is_away = false;
    spool_writer_announce(ls->writer);
}

static void ls_free(void *arg)
{
    struct link_source *ls = arg;

    link_free(&ls->link);
    free(ls);
}

/* qmgr sends nothing by itself. */
static void ls_on_msg(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    (void)m;
    (void)arg;
}

static const struct spool_source link_source = { ls_segment, ls_files,
                                                 ls_tell };
static const struct chan_ops link_ops = { .on_msg = ls_on_msg };

struct spool_writer *spool_writer_link(struct process *p,
                                       const struct spool_writer_conf *conf)
{
    struct link_source *ls = xcalloc(1, sizeof *ls);

    ls->writer = spool_writer_new(&link_source, ls, conf);
    ls->writer->conf.gather = GATHER_MS;
    ls->writer->on_free = ls_free;
    ls->link = link_new(p, PT_QMGR, &link_ops, ls, ls_up);
    ls->writer->link = ls->link;
    return ls->writer;
}

int spool_writer_ask(struct spool_writer *w, uint16_t type, slice body,
                     msec deadline, struct msg *answer, struct err *err)
{
    if (w->link == NULL)
        return err_temp(err, "there is no link to the queue");
    return link_call(w->link, type, body, NULL, 0, deadline, answer, err);
}
