#include "queue/test_util_queue.h"

#include "base/digest.h"
#include "ipc/ipc.h"
#include "mail/mail.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define ASKED_MAX 200000

static int64_t *offset;
static int log_fds[2];

/* ----------------------------------------------------------------- clock, log
 */

void world_main(void)
{
    char name[] = "/tmp/hato-clock-XXXXXX";
    int fd = mkstemp(name);
    int size = 4 << 20;

    CHECK(fd >= 0 && ftruncate(fd, sizeof(int64_t)) == 0);
    offset =
        mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(offset != MAP_FAILED);
    CHECK(setenv("HATO_TEST_CLOCK", name, 1) == 0);
    clock_setup();
    close(fd);
    unlink(name);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                     log_fds) == 0);
    (void)setsockopt(log_fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    event_setup(log_fds[0], "qmgr");
}

static void read_log(struct world *w)
{
    char *raw = xmalloc(EVENT_MAX_BYTES);
    struct ev_field *fields = xcalloc(EVENT_MAX_FIELDS, sizeof(*fields));
    char(*keys)[24] = xcalloc(EVENT_MAX_FIELDS, 24);
    ssize_t n;

    while ((n = recv(log_fds[1], raw, EVENT_MAX_BYTES, 0)) > 0) {
        slice in = slice_of(raw, (size_t)n);

        while (in.n > 2) {
            size_t len = get_u16(in.p);
            struct event e;

            in = slice_from(in, 2);
            if (event_decode(slice_sub(in, 0, len), &e, fields, keys)) {
                (void)buf_printf(&w->log, "%.*s: ", SLF(e.service));
                event_render_postfix(&w->log, &e);
                (void)buf_byte(&w->log, '\n');
            }
            in = slice_from(in, len);
        }
    }
    free(raw);
    free(fields);
    free(keys);
}

const char *world_log(struct world *w)
{
    event_flush();
    read_log(w);
    return buf_cstr(&w->log);
}

void world_log_clear(struct world *w)
{
    (void)world_log(w);
    buf_clear(&w->log);
}

/* -------------------------------------------------------------- the test's MTA
 */

static int resolve(void *arg, slice sender, slice addr, struct arena *a,
                   struct queue_route *out, struct err *err)
{
    slice local;
    slice domain;

    (void)arg;
    (void)sender;
    (void)a;
    (void)mail_addr_split(addr, &local, &domain);
    *out = (struct queue_route){ SL("virtual"), domain, addr };
    if (slice_ends(domain, SL("local.example")))
        out->transport = SL("local");
    else if (slice_ends(domain, SL("far.example")))
        out->transport = SL("smtp");
    else if (slice_eqs(domain, "error.example"))
        *out = (struct queue_route){ SL("error"), SL("5.1.1 nobody"), addr };
    else if (slice_eqs(domain, "retry.example"))
        *out = (struct queue_route){ SL("retry"), SL("4.2.9 not now"), addr };
    else if (slice_eqs(domain, "table.example"))
        return err_temp(err, "table hash:/x is gone");
    return 0;
}

static void set_text(slice s, char *to, size_t size)
{
    CHECK(slice_copy_to(slice_sub(s, 0, size - 1), to, size));
}

static void take_text(slice in, uint16_t tag, char *to, size_t size)
{
    slice v = SLICE_NONE;

    CHECK(attr_find(in, tag, &v));
    set_text(v, to, size);
}

static void note_asked(struct world *w, slice body, slice in)
{
    struct asked *r = &w->asked[w->n_asked];
    struct buf hex;
    slice v = SLICE_NONE;

    CHECK(w->n_asked < ASKED_MAX);
    memset(r, 0, sizeof(*r));
    take_text(body, AT_SENDER, r->sender, sizeof(r->sender));
    take_text(body, AT_TRANSPORT, r->transport, sizeof(r->transport));
    take_text(body, AT_NEXTHOP, r->nexthop, sizeof(r->nexthop));
    take_text(body, AT_QUEUE_ID, r->queue_id, sizeof(r->queue_id));
    take_text(in, AT_ADDR, r->addr, sizeof(r->addr));
    take_text(in, AT_PATH, r->path, sizeof(r->path));
    if (attr_find(in, AT_ORIG_ADDR, &v))
        set_text(v, r->orig, sizeof(r->orig));
    CHECK(attr_find(in, AT_DELIVERY_ID, &v) && v.n == SPOOL_DELIVERY_ID);
    buf_init(&hex, 64);
    (void)hex_put(&hex, v);
    set_text(buf_view(&hex), r->id, sizeof(r->id));
    buf_done(&hex);
    r->index = (uint32_t)attr_u64_or(in, AT_RCPT_INDEX, UINT32_MAX);
    r->notify = (uint32_t)attr_u64_or(in, AT_NOTIFY, 99);
    r->depth = (uint32_t)attr_u64_or(in, AT_DEPTH, 99);
    r->at = clock_wall();
    r->job = w->n_jobs;
    w->n_asked++;
}

static void put_members(struct buf *b, const struct told *t)
{
    struct buf all;
    struct buf one;

    buf_init(&all, 65536);
    buf_init(&one, 4096);
    for (size_t i = 0; i < ARRAY_LEN(t->members) && t->members[i] != NULL;
         i++) {
        buf_clear(&one);
        (void)attr_put_str(&one, AT_ADDR, t->members[i]);
        (void)attr_put(&all, AT_RCPT, buf_view(&one));
    }
    (void)attr_put(b, AT_EXPANSION, buf_view(&all));
    buf_done(&all);
    buf_done(&one);
}

static void put_told(struct buf *b, const struct asked *r, const struct told *t)
{
    struct buf one;

    if (t->is_silent)
        return;
    buf_init(&one, 65536);
    (void)attr_put_u64(&one, AT_RCPT_INDEX, r->index);
    (void)attr_put_u64(&one, AT_OUTCOME, t->outcome);
    if (t->status != NULL)
        (void)attr_put_str(&one, AT_STATUS, t->status);
    if (t->diag != NULL)
        (void)attr_put_str(&one, AT_DIAG, t->diag);
    if (t->remote_mta != NULL)
        (void)attr_put_str(&one, AT_REMOTE_MTA, t->remote_mta);
    (void)attr_put_u64(&one, AT_ACTION, t->relayed);
    if (t->tried != 0)
        (void)attr_put_u64(&one, AT_LAST_ATTEMPT, (uint64_t)t->tried);
    if (t->owner != NULL)
        (void)attr_put_str(&one, AT_OWNER, t->owner);
    if (t->outcome == OUT_EXPANDED)
        put_members(&one, t);
    (void)attr_put(b, AT_RCPT, buf_view(&one));
    buf_done(&one);
}

/* The message as a mailbox would get it: headers of the head, then the body. */
static void keep_message(struct world *w, slice body, int fd)
{
    struct arena *a = arena_new(1 << 20);
    struct envelope e;
    struct err err;
    uint64_t at = attr_u64_or(body, AT_BODY_OFFSET, 0);
    size_t n = (size_t)attr_u64_or(body, AT_BODY_BYTES, 0);
    slice head = SLICE_NONE;
    char *p;

    CHECK(attr_find(body, AT_HEAD, &head));
    CHECK(envelope_decode(head, a, true, &e, &err) == 0);
    buf_clear(&w->last);
    (void)buf_slice(&w->last, e.headers);
    p = buf_reserve(&w->last, n);
    CHECK(p != NULL && pread(fd, p, n, (off_t)at) == (ssize_t)n);
    buf_commit(&w->last, n);
    arena_free(&a);
}

static void answer_all(struct world *w, size_t from, struct buf *b)
{
    for (size_t i = from; i < w->n_asked; i++) {
        struct told t = { .outcome = OUT_SENT,
                          .status = "2.0.0",
                          .diag = "delivered to maildir" };

        if (w->asked[i].job != w->asked[from].job)
            continue;
        if (w->answer != NULL)
            w->answer(w, &w->asked[i], &t);
        put_told(b, &w->asked[i], &t);
        if (t.hop_status != NULL && i == from) {
            (void)attr_put_str(b, AT_HOP_STATUS, t.hop_status);
            (void)attr_put_str(b, AT_HOP_TEXT, t.hop_text);
        }
    }
}

static int deliver(void *arg, const struct queue_request *r, struct msg *answer,
                   struct err *err)
{
    struct world *w = arg;
    slice body = r->body;
    slice in = body;
    struct attr at;
    size_t from = w->n_asked;
    struct buf b;
    int rc = 0;

    w->n_jobs++;
    while (attr_next(&in, &at) == 1)
        if (at.tag == AT_RCPT)
            note_asked(w, body, at.v);
    if (w->keep_last)
        keep_message(w, body, r->fd);
    w->n_open++;
    w->max_open = w->n_open > w->max_open ? w->n_open : w->max_open;
    if (w->before != NULL)
        rc = w->before(w, w->asked[from].job, err);
    w->n_open--;
    if (rc < 0)
        return -1;
    buf_init(&b, CHAN_MAX_BYTES);
    answer_all(w, from, &b);
    *answer = (struct msg){ .body = buf_view(&b), .heap = b.p };
    return 0;
}

static bool has_transport(void *arg, slice transport)
{
    const struct world *w = arg;

    return w->has_smtp && slice_eqs(transport, "smtp");
}

static const struct queue_ops ops = { .resolve = resolve,
                                      .deliver = deliver,
                                      .has_transport = has_transport };

/* --------------------------------------------------------------------- worlds
 */

void world_open(struct world *w, const char *main_cf)
{
    /* Small files: dozens of spools are made and synced here. */
    struct spool_conf conf = { .dir = w->dir,
                               .segment_bytes = 4u << 20,
                               .journal_bytes = 1u << 20,
                               .reserve_bytes = 256u << 10 };
    struct err err;

    w->conf = conf_from_text(slice_str(main_cf), SL(""), NULL);
    w->q = queue_new(w->conf, &ops, w);
    if (queue_open(w->q, &conf, &err) < 0)
        fail_msg("%s", err.log);
}

void world_close(struct world *w)
{
    queue_stop(w->q, clock_after(SECOND));
    queue_close(&w->q);
    conf_unref(&w->conf);
}

struct run {
    const char *main_cf;
    void (*fn)(struct world *w);
};

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

static void run_task(void *arg)
{
    struct run *r = arg;
    struct world *w = xcalloc(1, sizeof(*w));

    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/hato-queue-XXXXXX");
    CHECK(mkdtemp(w->dir) != NULL);
    w->asked = xcalloc(ASKED_MAX, sizeof(*w->asked));
    buf_init(&w->log, 256u << 20);
    buf_init(&w->last, 64u << 20);
    world_open(w, r->main_cf);
    world_log_clear(w);
    r->fn(w);
    if (w->q != NULL)
        world_close(w);
    buf_done(&w->log);
    buf_done(&w->last);
    (void)nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(w->asked);
    free(w);
    loop_stop();
}

void world_run(const char *main_cf, void (*fn)(struct world *w))
{
    struct run r = { main_cf, fn };

    loop_init("test", 2);
    (void)task_spawn("test", run_task, &r);
    loop_run();
    loop_done();
}

/* ------------------------------------------------------------------------ mail
 */

uint64_t world_mail_of(struct world *w, struct envelope *e, const char *rcpts,
                       slice body)
{
    struct spool_draft *d = NULL;
    struct envelope_rcpt *v = xcalloc(1 + strlen(rcpts) / 2, sizeof(*v));
    struct err err;
    slice in = slice_str(rcpts);
    slice one;

    if (e->rcpts == NULL) {
        while (slice_token(&in, " ", &one))
            v[e->n_rcpts++].addr = one;
        e->rcpts = v;
    }
    if (spool_draft_open(spool_own_writer(queue_spool(w->q)), 0, &d, &err) <
            0 ||
        spool_draft_write(d, body, &err) < 0 ||
        spool_draft_commit(&d, e, &err) < 0)
        fail_msg("%s", err.log);
    if (e->rcpts == v)
        e->rcpts = NULL;
    free(v);
    return e->seq;
}

uint64_t world_mail(struct world *w, const char *sender, const char *rcpts)
{
    struct envelope e = {
        .sender = slice_str(sender),
        .service = SL("smtpd"),
        .client_name = SL("unknown"),
        .headers = SL("Received: from there\n"),
    };

    return world_mail_of(w, &e, rcpts,
                         SL("From: a@far.example\nSubject: s\n\nbody\n"));
}

void world_advance(msec ms)
{
    __atomic_fetch_add(offset, ms, __ATOMIC_RELAXED);
}

void world_settle(struct world *w)
{
    unsigned n_quiet = 0;

    for (unsigned i = 0; i < 20000 && n_quiet < 3; i++) {
        struct heap_node *n = heap_top(&w->q->waiting);
        bool is_due = n != NULL && n->key <= clock_wall();

        n_quiet = w->q->n_tasks == 0 && w->q->n_active == 0 && !is_due
                      ? n_quiet + 1
                      : 0;
        (void)task_sleep(1, &(struct err){ .sys = 0 });
    }
    assert_int_equal(n_quiet, 3);
}

size_t world_count(struct world *w)
{
    return spool_count(queue_spool(w->q));
}

size_t world_asked(struct world *w, const char *addr)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_asked; i++)
        n += strcmp(w->asked[i].addr, addr) == 0;
    return n;
}

const struct asked *world_last(struct world *w, const char *addr)
{
    for (size_t i = w->n_asked; i-- > 0;)
        if (strcmp(w->asked[i].addr, addr) == 0)
            return &w->asked[i];
    fail_msg("nobody was asked for %s", addr);
    return NULL;
}
