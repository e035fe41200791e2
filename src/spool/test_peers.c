/* Writers on the other end of a channel: grants, notes, announcements, and what
 * happens when one side dies. */
#include "spool/test_util_spool.h"

#include "base/codec.h"
#include "spool/writer_priv.h"

/* ---- the owner's end, as qmgr has it */
struct owner_end {
    struct spool *spool;
    struct spool_peer *peer;
    struct chan *chan;
};

static void owner_msg(struct chan *c, struct msg *m, void *arg)
{
    struct owner_end *o = arg;

    (void)c;
    if (o->peer != NULL)
        spool_serve(o->peer, m);
}

static void owner_closed(struct chan *c, void *arg)
{
    struct owner_end *o = arg;

    (void)c;
    spool_peer_gone(&o->peer);
}

static const struct chan_ops owner_ops = { .on_msg = owner_msg,
                                           .on_close = owner_closed };

/* ---- the writer's end */
struct writer_end {
    struct chan *chan; /* NULL: the link is down */
    struct spool_writer *writer;
};

static void writer_msg(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    (void)m;
    (void)arg;
}

static const struct chan_ops writer_ops = { .on_msg = writer_msg };

static int down(struct err *err)
{
    return err_temp(err, "the link is down");
}

static MAY_WAIT int ask_segment(void *arg, struct spool_grant *out,
                                struct err *err)
{
    struct writer_end *w = arg;
    struct msg m;

    if (w->chan == NULL || chan_call(w->chan, SPOOL_SEGMENT, SLICE_NONE, NULL,
                                     0, clock_after(5000), &m, err) < 0)
        return down(err);
    assert_int_equal(m.n_fds, 1);
    out->segment = attr_u64_or(m.body, AT_SEGMENT, 0);
    out->start = attr_u64_or(m.body, AT_OFFSET, 0);
    out->bytes = attr_u64_or(m.body, AT_LENGTH, 0);
    out->fd = m.fds[0];
    m.fds[0] = -1;
    msg_free(&m);
    return 0;
}

static MAY_WAIT int ask_files(void *arg, struct spool_grant *out, size_t max,
                              size_t *n_out, struct err *err)
{
    struct writer_end *w = arg;
    struct attr a;
    struct msg m;
    slice in;

    (void)max;
    if (w->chan == NULL || chan_call(w->chan, SPOOL_FILE, SLICE_NONE, NULL, 0,
                                     clock_after(5000), &m, err) < 0)
        return down(err);
    assert_int_equal(m.n_fds, 1);
    in = m.body;
    while (attr_next(&in, &a) == 1 && a.tag != AT_SEGMENT)
        continue;
    assert_true(attr_u64(&a, &out[0].segment));
    out[0].fd = m.fds[0];
    m.fds[0] = -1;
    msg_free(&m);
    *n_out = 1;
    return 0;
}

static int tell(void *arg, uint16_t type, slice body, struct err *err)
{
    struct writer_end *w = arg;

    return w->chan != NULL ? chan_send(w->chan, type, body, NULL, 0, err)
                           : down(err);
}

static const struct spool_source source = { ask_segment, ask_files, tell };

static void connect_ends(struct owner_end *o, struct writer_end *w)
{
    struct err err;
    int fds[2];

    assert_int_equal(chan_socketpair(fds, &err), 0);
    o->chan = chan_new(fds[0], &owner_ops, o);
    o->peer = spool_peer_new(o->spool, o->chan);
    w->chan = chan_new(fds[1], &writer_ops, w);
}

static void disconnect(struct owner_end *o, struct writer_end *w)
{
    chan_free(&w->chan);
    spool_peer_gone(&o->peer);
    chan_free(&o->chan);
}

/* Let notes travel. */
static MAY_WAIT void settle_down(void)
{
    struct err err;

    assert_int_equal(task_sleep(20, &err), 0);
}

static void notes_arrive_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };
    uint64_t seqs[3];

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    seqs[0] = put_mail(w.writer, 1, 'a', 3000);
    seqs[1] = put_mail(w.writer, 2, 'b', 3000);
    seqs[2] = put_mail(w.writer, 1, 'c', 700000);
    settle_down();
    assert_int_equal(q.n_messages, 3);
    for (int i = 0; i < 3; i++)
        check_body(o.spool, seqs[i], (char)('a' + i), i == 2 ? 700000 : 3000);
    spool_writer_free(&w.writer);
    settle_down();
    disconnect(&o, &w);
    assert_int_equal(q.n_trouble, 0);
    spool_close(&o.spool);
}

/* A busy writer's notes go together: the first at once, those soon after it
 * when it is time, and all of them before the segment is told to be sealed. */
static void gathered_notes_task(void *arg)
{
    struct spool_writer_conf conf = { .gather = 1500 };
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };
    struct err err;

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, &conf);
    (void)put_mail(w.writer, 1, 'a', 3000);
    settle_down();
    assert_int_equal(q.n_messages, 1);
    w.writer->gathered_at = loop_now(); /* however slow this machine is */
    (void)put_mail(w.writer, 1, 'b', 3000);
    (void)put_mail(w.writer, 1, 'c', 3000);
    assert_int_equal(q.n_messages, 1);
    assert_true(timer_is_set(&w.writer->gather));
    for (int i = 0; i < 200 && q.n_messages < 3; i++)
        assert_int_equal(task_sleep(50, &err), 0);
    assert_int_equal(q.n_messages, 3);
    w.writer->gathered_at = loop_now();
    (void)put_mail(w.writer, 1, 'd', 3000);
    spool_writer_free(&w.writer);
    settle_down();
    assert_int_equal(q.n_messages, 4);
    assert_int_equal(q.n_trouble, 0);
    disconnect(&o, &w);
    spool_close(&o.spool);
}

/* The link is down for a while: commits go on, nothing is lost. */
static void lost_notes_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };
    uint64_t seq;
    uint64_t big;

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    (void)put_mail(w.writer, 1, 'a', 3000);
    big = put_mail(w.writer, 1, 'B', 300000);
    settle_down();
    disconnect(&o, &w);
    seq = put_mail(w.writer, 1, 'b', 3000);
    spool_tick(o.spool);
    settle_down();
    /* The writer lives: its segment was not taken over. */
    assert_int_equal(q.n_messages, 2);
    connect_ends(&o, &w);
    spool_writer_announce(w.writer);
    settle_down();
    assert_int_equal(q.n_messages, 3);
    check_body(o.spool, seq, 'b', 3000);
    check_body(o.spool, big, 'B', 300000);
    (void)put_mail(w.writer, 1, 'c', 3000);
    settle_down();
    assert_int_equal(q.n_messages, 4);
    spool_writer_free(&w.writer);
    disconnect(&o, &w);
    spool_close(&o.spool);
}

/* The writer dies with commits that were never noted. */
static void writer_dies_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };
    struct chan *keep;
    uint64_t seqs[2];

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    (void)put_mail(w.writer, 1, 'a', 3000);
    settle_down();
    keep = w.chan;
    w.chan = NULL; /* notes get lost */
    seqs[0] = put_mail(w.writer, 1, 'b', 3000);
    seqs[1] = put_mail(w.writer, 1, 'c', 3000);
    spool_writer_free(&w.writer); /* as the kernel closes its files */
    w.chan = keep;
    disconnect(&o, &w);
    for (int i = 0; i < 200 && q.n_messages < 3; i++)
        settle_down();
    assert_int_equal(q.n_messages, 3);
    check_body(o.spool, seqs[0], 'b', 3000);
    check_body(o.spool, seqs[1], 'c', 3000);
    spool_close(&o.spool);
}

/* A copy of the directory is what is left when both die. */
static void both_die_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    char *copy CLEANUP(free_ptr) = xasprintf("%s-crash", test_dir);
    struct writer_end w = { 0 };
    struct watch_queue after = { .is_loud = true };
    struct spool *s;
    uint64_t seqs[3];

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    seqs[0] = put_mail(w.writer, 1, 'a', 3000);
    seqs[1] = put_mail(w.writer, 1, 'B', 300000);
    seqs[2] = put_mail(w.writer, 1, 'c', 3000);
    copy_dir(test_dir, copy, 0);
    s = open_spool(copy, &after);
    assert_int_equal(after.n_messages, 3);
    check_body(s, seqs[0], 'a', 3000);
    check_body(s, seqs[1], 'B', 300000);
    check_body(s, seqs[2], 'c', 3000);
    spool_close(&s);
    remove_dir(copy, 0);
    spool_writer_free(&w.writer);
    disconnect(&o, &w);
    spool_close(&o.spool);
}

/* qmgr ends and another one starts while the writer lives and commits. */
static void owner_restarts_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };
    uint64_t seqs[2];

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    seqs[0] = put_mail(w.writer, 1, 'a', 3000);
    settle_down();
    disconnect(&o, &w);
    spool_close(&o.spool);
    seqs[1] = put_mail(w.writer, 1, 'b', 3000);
    q = (struct watch_queue){ .is_loud = true };
    o.spool = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 1);
    connect_ends(&o, &w);
    spool_writer_announce(w.writer);
    settle_down();
    assert_int_equal(q.n_messages, 2);
    check_body(o.spool, seqs[0], 'a', 3000);
    check_body(o.spool, seqs[1], 'b', 3000);
    /* Numbers go on where they were. */
    assert_int_equal(put_mail(w.writer, 1, 'c', 100), seqs[1] + 1);
    spool_writer_free(&w.writer);
    settle_down();
    disconnect(&o, &w);
    spool_close(&o.spool);
}

/* Segments roll; each message is told once. */
static void rolling_task(void *arg)
{
    struct watch_queue q = { .is_loud = true };
    struct owner_end o = { .spool = open_spool(test_dir, &q) };
    struct writer_end w = { 0 };

    (void)arg;
    connect_ends(&o, &w);
    w.writer = spool_writer_new(&source, &w, NULL);
    for (int i = 0; i < 60; i++)
        (void)put_mail(w.writer, 1, 'r', 20000);
    settle_down();
    assert_int_equal(q.n_messages, 60);
    assert_true(count_files(test_dir, "plain-") > 4);
    spool_writer_free(&w.writer);
    disconnect(&o, &w);
    spool_close(&o.spool);
    q.n_messages = 0;
    o.spool = open_spool(test_dir, &q);
    assert_int_equal(q.n_messages, 60);
    assert_int_equal(q.n_trouble, 0);
    spool_close(&o.spool);
}

/* ---- an owner that is away */

static unsigned n_asked;

static MAY_WAIT int away_segment(void *arg, struct spool_grant *out,
                                 struct err *err)
{
    (void)arg;
    (void)out;
    n_asked++;
    (void)task_sleep(100, err);
    return err_temp(err, "the owner is away");
}

static MAY_WAIT int away_files(void *arg, struct spool_grant *out, size_t max,
                               size_t *n_out, struct err *err)
{
    (void)max;
    (void)n_out;
    return away_segment(arg, out, err);
}

struct
try {
    struct spool_writer *w;
    uint64_t size_hint;
    unsigned n_refused;
};

static void try_task(void *arg)
{
    struct try *t = arg;
    struct envelope_rcpt rcpt = { .addr = SL("a@example.org") };
    struct envelope e = mail_to(&rcpt, 1);
    struct spool_draft *d = NULL;
    struct err err;

    if (spool_draft_open(t->w, t->size_hint, &d, &err) == 0) {
        assert_int_equal(spool_draft_write(d, SL("body\n"), &err), 0);
        assert_int_equal(spool_draft_commit(&d, &e, &err), -1);
        spool_draft_abort(&d);
    }
    assert_int_equal(err.class, ERR_TEMP);
    t->n_refused++;
}

/* Whatever their number, all who wait are told together. */
static void away_task(void *arg)
{
    static const struct spool_source away = { away_segment, away_files, tell };
    struct writer_end w = { 0 };
    struct try t = { .w = spool_writer_new(&away, &w, NULL) };

    (void)arg;
    for (unsigned round = 0; round < 2; round++) {
        msec begin = clock_mono();

        t.n_refused = 0;
        t.size_hint = round == 0 ? 0 : 2 * SPOOL_DRAFT_MEMORY;
        n_asked = 0;
        for (int i = 0; i < 40; i++)
            (void)task_spawn("try", try_task, &t);
        while (t.n_refused < 40)
            (void)task_sleep(5, &(struct err){ .sys = 0 });
        assert_int_equal(n_asked, 1);
        assert_true(clock_mono() - begin < 2000);
    }
    spool_writer_free(&t.w);
}

SPOOL_TEST(away)
SPOOL_TEST(notes_arrive)
SPOOL_TEST(gathered_notes)
SPOOL_TEST(lost_notes)
SPOOL_TEST(writer_dies)
SPOOL_TEST(both_die)
SPOOL_TEST(owner_restarts)
SPOOL_TEST(rolling)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_away),
        cmocka_unit_test(test_notes_arrive),
        cmocka_unit_test(test_gathered_notes),
        cmocka_unit_test(test_lost_notes),
        cmocka_unit_test(test_writer_dies),
        cmocka_unit_test(test_both_die),
        cmocka_unit_test(test_owner_restarts),
        cmocka_unit_test(test_rolling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
