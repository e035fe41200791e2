/* What mailq, postqueue, postsuper and postcat ask of the queue. */
#include "queue/test_util_queue.h"

#include "base/codec.h"
#include "ipc/ipc.h"

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

struct item {
    char id[MAIL_QUEUE_ID_SIZE];
    char kind[16];
    char sender[64];
    char addr[64];
    char reason[200];
    size_t n_rcpts;
    uint64_t size;
};

/* A command's end of a channel to the queue. */
static struct {
    struct chan *ours;
    struct chan *queues;
    struct item items[4000];
    size_t n_items;
    bool has_end;
} cmd;

static void copy(slice from, uint16_t tag, char *to, size_t size)
{
    slice v;

    to[0] = '\0';
    if (attr_find(from, tag, &v))
        assert_true(slice_copy_to(slice_sub(v, 0, size - 1), to, size));
}

static void on_item(struct chan *c, struct msg *m, void *arg)
{
    struct item *it = &cmd.items[cmd.n_items];
    slice in = m->body;
    struct attr at;

    (void)c;
    (void)arg;
    if (m->type == QUEUE_END)
        cmd.has_end = true;
    if (m->type != QUEUE_ITEM)
        return;
    assert_true(cmd.n_items < ARRAY_LEN(cmd.items));
    cmd.n_items++;
    *it = (struct item){ .size = attr_u64_or(m->body, AT_SIZE, 0) };
    copy(m->body, AT_QUEUE_ID, it->id, sizeof(it->id));
    copy(m->body, AT_KIND, it->kind, sizeof(it->kind));
    copy(m->body, AT_SENDER, it->sender, sizeof(it->sender));
    copy(m->body, AT_REASON, it->reason, sizeof(it->reason));
    while (attr_next(&in, &at) == 1)
        if (at.tag == AT_RCPT) {
            it->n_rcpts++;
            copy(at.v, AT_ADDR, it->addr, sizeof(it->addr));
        }
}

static void on_request(struct chan *c, struct msg *m, void *arg)
{
    struct world *w = arg;

    queue_serve(w->q, c, m);
}

static void connect_to(struct world *w)
{
    static const struct chan_ops ours = { .on_msg = on_item };
    static const struct chan_ops queues = { .serve = on_request };
    int fds[2];
    struct err err;

    assert_int_equal(chan_socketpair(fds, &err), 0);
    cmd.ours = chan_new(fds[0], &ours, w);
    cmd.queues = chan_new(fds[1], &queues, w);
}

static void disconnect(void)
{
    chan_free(&cmd.ours);
    chan_free(&cmd.queues);
}

/* Ask and take the answer's number (SIZE); UINT64_MAX when it failed. */
static uint64_t ask(uint16_t type, uint16_t tag, const char *value)
{
    struct buf b;
    struct msg answer;
    struct err err;
    uint64_t n = UINT64_MAX;

    buf_init(&b, 4096);
    if (value != NULL)
        (void)attr_put_str(&b, tag, value);
    if (chan_call(cmd.ours, type, buf_view(&b), NULL, 0, clock_after(MINUTE),
                  &answer, &err) == 0) {
        n = attr_u64_or(answer.body, AT_SIZE, 0);
        msg_free(&answer);
    }
    buf_done(&b);
    return n;
}

static size_t list(uint16_t tag, const char *value)
{
    cmd.n_items = 0;
    cmd.has_end = false;
    assert_int_equal(ask(QUEUE_LIST, tag, value), 0);
    assert_true(cmd.has_end);
    return cmd.n_items;
}

static const char *id_of(struct world *w, uint64_t seq)
{
    static char id[MAIL_QUEUE_ID_SIZE];

    spool_message_id(spool_find(queue_spool(w->q), seq), id);
    return id;
}

static void list_all_in(struct world *w)
{
    const struct item *it = &cmd.items[0];

    connect_to(w);
    assert_int_equal(list(0, NULL), 0);
    world_mail(w, "a@far.example",
               "x@far.example y@far.example u@virtual.example");
    world_settle(w);
    assert_int_equal(list(0, NULL), 1);
    assert_string_equal(it->kind, "deferred");
    assert_string_equal(it->sender, "a@far.example");
    assert_int_equal(it->n_rcpts, 2);
    assert_int_equal(it->size, 58);
    assert_string_equal(it->addr, "y@far.example");
    assert_has(it->reason, "mail transport unavailable");
    world_mail(w, "b@far.example", "z@other.far.example");
    world_settle(w);
    assert_int_equal(list(0, NULL), 2);
    assert_int_equal(list(AT_NAME, "Other.far.example"), 1);
    assert_string_equal(it->sender, "b@far.example");
    assert_int_equal(list(AT_KIND, "hold"), 0);
    disconnect();
}

RUN(list_all, "");

static void many_in(struct world *w)
{
    connect_to(w);
    for (int i = 0; i < 1000; i++)
        world_mail(w, "a@far.example", "x@far.example");
    world_settle(w);
    assert_int_equal(list(0, NULL), 1000);
    assert_int_equal(ask(QUEUE_DELETE, AT_QUEUE_ID, "ALL"), 1000);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->q->n_msgs, 0);
    disconnect();
}

RUN(many, "");

static void change_in(struct world *w)
{
    uint64_t one;
    uint64_t two;

    connect_to(w);
    one = world_mail(w, "a@far.example", "x@far.example");
    two = world_mail(w, "a@far.example", "y@far.example");
    world_settle(w);
    assert_int_equal(ask(QUEUE_HOLD, AT_QUEUE_ID, id_of(w, one)), 1);
    assert_int_equal(ask(QUEUE_HOLD, AT_QUEUE_ID, id_of(w, one)), 0);
    assert_int_equal(list(AT_KIND, "hold"), 1);
    assert_int_equal(w->q->waiting.n, 1);
    /* Held mail is not tried, whatever the clock says, nor when flushed. */
    world_log_clear(w);
    world_advance(DAY);
    world_settle(w);
    assert_int_equal(ask(QUEUE_FLUSH, AT_NAME, ""), 1);
    world_settle(w);
    assert_has_not(world_log(w), id_of(w, one));
    assert_has(world_log(w), id_of(w, two));
    world_close(w);
    world_open(w, "");
    assert_int_equal(list(AT_KIND, "hold"), 1);
    world_log_clear(w);
    assert_int_equal(ask(QUEUE_RELEASE, AT_QUEUE_ID, "ALL"), 1);
    world_settle(w);
    assert_has(world_log(w), id_of(w, one));
    assert_int_equal(ask(QUEUE_REQUEUE, AT_QUEUE_ID, id_of(w, two)), 1);
    world_settle(w); /* tried at once, and counted anew */
    assert_int_equal(spool_message_attempts(spool_find(queue_spool(w->q), two)),
                     1);
    world_log_clear(w);
    assert_int_equal(ask(QUEUE_DELETE, AT_QUEUE_ID, id_of(w, one)), 1);
    assert_has(world_log(w), ": removed\n");
    assert_int_equal(world_count(w), 1);
    assert_int_equal(ask(QUEUE_DELETE, AT_QUEUE_ID, "3Tz0000000zXXXX"), 0);
    disconnect();
}

RUN(change, "");

/* A flush is what defer_transports waits for; of one site, only that one. */
static void flush_in(struct world *w)
{
    connect_to(w);
    world_mail(w, "a@far.example", "u@virtual.example");
    world_mail(w, "a@far.example", "v@other.example");
    world_settle(w);
    assert_int_equal(w->n_asked, 0);
    assert_int_equal(ask(QUEUE_FLUSH, AT_NAME, "other.example"), 1);
    world_settle(w);
    assert_int_equal(world_asked(w, "v@other.example"), 1);
    assert_int_equal(world_count(w), 1);
    assert_int_equal(ask(QUEUE_FLUSH, AT_NAME, ""), 1);
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    disconnect();
}

RUN(flush, "defer_transports = virtual\n");

static void cat_in(struct world *w)
{
    struct buf b;
    struct msg m;
    struct err err;
    struct arena *a = arena_new(1 << 20);
    struct envelope e;
    char text[64];
    slice head;
    uint64_t seq;

    connect_to(w);
    seq = world_mail(w, "a@far.example", "x@far.example");
    world_settle(w);
    buf_init(&b, 4096);
    (void)attr_put_str(&b, AT_QUEUE_ID, id_of(w, seq));
    assert_int_equal(chan_call(cmd.ours, QUEUE_CAT, buf_view(&b), NULL, 0,
                               clock_after(MINUTE), &m, &err),
                     0);
    assert_true(attr_find(m.body, AT_HEAD, &head));
    assert_int_equal(envelope_decode(head, a, true, &e, &err), 0);
    assert_slice(e.sender, SL("a@far.example"));
    assert_int_equal(e.n_rcpts, 1);
    assert_int_equal(m.n_fds, 1);
    assert_int_equal(pread(m.fds[0], text, 37,
                           (off_t)attr_u64_or(m.body, AT_BODY_OFFSET, 0)),
                     37);
    assert_slice(slice_of(text, 37),
                 SL("From: a@far.example\nSubject: s\n\nbody\n"));
    msg_free(&m);
    assert_int_equal(ask(QUEUE_CAT, AT_QUEUE_ID, "3Tz0000000zXXXX"),
                     UINT64_MAX);
    assert_int_equal(ask(SPOOL_NOTE, 0, NULL), UINT64_MAX);
    buf_done(&b);
    arena_free(&a);
    disconnect();
}

RUN(cat, "");

/* Deleted while a delivery is on its way: nothing is left, nothing breaks. */
static int delete_it(struct world *w, unsigned job, struct err *err)
{
    (void)w;
    (void)err;
    if (job == 1)
        assert_int_equal(ask(QUEUE_DELETE, AT_QUEUE_ID, "ALL"), 1);
    return 0;
}

static void deferred(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    (void)r;
    out->outcome = OUT_DEFERRED;
    out->diag = "no";
}

static void delete_active_in(struct world *w)
{
    connect_to(w);
    w->before = delete_it;
    w->answer = deferred;
    world_mail(w, "a@far.example", "u@virtual.example v@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->q->n_msgs, 0);
    assert_int_equal(w->q->waiting.n, 0);
    disconnect();
}

RUN(delete_active, "");

/* Held while active: what was asked ends, what is deferred stays held. */
static int hold_it(struct world *w, unsigned job, struct err *err)
{
    (void)w;
    (void)err;
    if (job == 1)
        assert_int_equal(ask(QUEUE_HOLD, AT_QUEUE_ID, "ALL"), 1);
    return 0;
}

static void hold_active_in(struct world *w)
{
    connect_to(w);
    w->before = hold_it;
    w->answer = deferred;
    world_mail(w, "a@far.example", "u@virtual.example");
    world_settle(w);
    assert_int_equal(list(AT_KIND, "hold"), 1);
    assert_int_equal(w->q->waiting.n, 0);
    world_advance(DAY);
    world_settle(w);
    assert_int_equal(w->n_jobs, 1);
    disconnect();
}

RUN(hold_active, "");

/* A HOLD action: it starts on hold. */
static void born_held_in(struct world *w)
{
    struct envelope e = { .sender = SL("a@far.example"), .flags = ENV_HOLD };

    connect_to(w);
    world_mail_of(w, &e, "u@virtual.example", SL("\n"));
    world_settle(w);
    assert_int_equal(w->n_jobs, 0);
    assert_int_equal(list(AT_KIND, "hold"), 1);
    assert_int_equal(ask(QUEUE_RELEASE, AT_QUEUE_ID, "ALL"), 1);
    world_settle(w);
    assert_int_equal(w->n_jobs, 1);
    disconnect();
}

RUN(born_held, "");

static void status_in(struct world *w)
{
    struct buf b;

    world_mail(w, "a@far.example", "x@far.example");
    world_settle(w);
    buf_init(&b, 4096);
    queue_status(w->q, &b);
    assert_has(buf_cstr(&b), "messages 1\nactive 0\nwaiting 1\n");
    queue_dump(w->q, &b);
    buf_done(&b);
}

RUN(status, "");

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_all),    cmocka_unit_test(many),
        cmocka_unit_test(change),      cmocka_unit_test(flush),
        cmocka_unit_test(cat),         cmocka_unit_test(delete_active),
        cmocka_unit_test(hold_active), cmocka_unit_test(born_held),
        cmocka_unit_test(status),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
