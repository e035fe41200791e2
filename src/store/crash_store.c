/*
 * The store under crash test 2 (test/crash/test_crash_store.py).
 *
 *     crash_store run DIR COUNT SEED    deliver, flag, expunge; on standard
 *         output, each with the length of the trace at that moment:
 *             begin OFFSET N            message N is going to be delivered
 *             durable OFFSET N USER     USER's copy is, by a shared sync
 *             expunge OFFSET N USER     may be gone from now on
 *             gone OFFSET N USER        is gone durably
 *             shown OFFSET USER BOX UIDVALIDITY UID N
 *     crash_store check DIR LAST        open all; what is there; then deliver
 *         messages 1 to LAST again, as the queue would; what is there now:
 *             have USER BOX UIDVALIDITY UID N      body checked
 *             after USER BOX UIDVALIDITY UID N
 *             bad TEXT
 */
#include "rt/crash_run.h"
#include "rt/rt.h"
#include "store/store_priv.h"

enum { USERS = 4, TASKS = 3, BODY_MAX = 400 << 10 };

static const char *const boxes[] = { "INBOX", "Sub.Folder" };

static struct {
    uint64_t next;
    struct engine *engine;
    struct store *store;
    char users[USERS][8];
    char places[USERS][512];
    unsigned n_running;
} t;

static void on_note(void *arg, const char *account, const char *text)
{
    (void)arg;
    if (getenv("TEST_NOTES"))
        fprintf(stderr, "note: %s: %s\n", account, text);
}

/* ---- what message N is, by its number alone ---- */

static const char *box_of(uint64_t n)
{
    return boxes[n % 5 == 0];
}

static bool is_for(uint64_t n, unsigned user)
{
    return n % 3 != 0 || n % USERS == user; /* to all, or to one */
}

static void id_of(uint64_t n, unsigned user, uint8_t id[static 16])
{
    uint64_t key[2] = { n, user };
    uint8_t digest[32];

    sha256_of(slice_of(key, sizeof key), digest);
    memcpy(id, digest, 16);
}

static void body_of(uint64_t n, struct buf *out)
{
    size_t size = n % 17 == 0 ? BODY_MAX - 1000 + n : 200 + n * 37 % 6000;

    buf_clear(out);
    buf_printf(out, "Subject: %" PRIu64 "\n\n", n);
    while (out->n < size)
        buf_byte(out, (char)('a' + n % 26));
    buf_byte(out, '\n');
}

/* ---- delivering ---- */

static MAY_WAIT void deliver(uint64_t n, bool first_time)
{
    struct store_rcpt *rcpts = xcalloc(USERS, sizeof *rcpts);
    struct store_message msg = { .return_path = SL("s@example.org") };
    struct buf body CLEANUP(buf_done) = { 0 };
    struct store_draft *d;
    size_t n_rcpts = 0;
    struct err err;

    buf_init(&body, BODY_MAX + 65536);
    body_of(n, &body);
    for (unsigned u = 0; u < USERS; u++) {
        struct store_rcpt *r = &rcpts[n_rcpts];

        if (!is_for(n, u))
            continue;
        r->user = slice_str(t.users[u]);
        r->location = slice_str(t.places[u]);
        r->mailbox = slice_str(box_of(n));
        r->has_id = true;
        id_of(n, u, r->id);
        n_rcpts++;
    }
    if (first_time)
        printf("begin %" PRIu64 " %" PRIu64 "\n", crash_trace_bytes(), n);
    d = store_draft_new(t.store, &msg, rcpts, n_rcpts);
    if (store_draft_write(d, buf_view(&body), &err) < 0) {
        crash_bad("write", &err);
        store_draft_free(&d);
    } else {
        store_deliver(&d);
        for (size_t i = 0; i < n_rcpts; i++)
            if (rcpts[i].failed)
                crash_bad("deliver", &rcpts[i].err);
    }
    free(rcpts);
}

static int open_box(unsigned user, const char *box, struct store_mailbox **m)
{
    struct store_account *a = NULL;
    struct err err;

    if (store_account_open(t.store, slice_str(t.users[user]),
                           slice_str(t.places[user]), true, &a, &err) < 0) {
        crash_bad("open account", &err);
        return -1;
    }
    if (store_mailbox_open(a, slice_str(box), STORE_CREATE, m, &err) < 0) {
        crash_bad("open mailbox", &err);
        store_account_unref(&a);
        return -1;
    }
    store_account_unref(&a);
    return 0;
}

/* All who were delivered before now are durable behind a shared sync. */
static MAY_WAIT void sync_all(uint64_t n)
{
    struct store_mailbox *m = NULL;
    struct err err;

    if (open_box(0, "INBOX", &m) < 0)
        return;
    if (store_mailbox_durable(m, &err) < 0)
        crash_bad("sync", &err);
    else
        for (unsigned u = 0; u < USERS; u++)
            if (is_for(n, u))
                printf("durable %" PRIu64 " %" PRIu64 " %u\n",
                       crash_trace_bytes(), n, u);
    store_mailbox_unref(&m);
}

/* A client looks at the mailbox: it is told UIDs, sets flags, may expunge. */
static MAY_WAIT void visit(uint64_t n, unsigned user)
{
    struct store_mailbox *m = NULL;
    struct store_change change = { .flags = STORE_SEEN };
    uint8_t id[16];
    struct err err;
    uint32_t uid;
    size_t row;

    if (open_box(user, box_of(n), &m) < 0)
        return;
    id_of(n, user, id);
    if (store_mailbox_reserve(m, 10, &err) < 0)
        crash_bad("reserve", &err);
    row = store_row_by_delivery_id(m, id);
    if (row < store_rows(m)) {
        uid = change.uid = store_row_uid(m, row);
        printf("shown %" PRIu64 " %u %s %u %u %" PRIu64 "\n",
               crash_trace_bytes(), user, m->name, m->uidvalidity, uid, n);
        if (store_set_flags(m, &change, 1, NULL, &err) < 0)
            crash_bad("flags", &err);
        if (crash_draw(3) == 0) {
            printf("expunge %" PRIu64 " %" PRIu64 " %u\n", crash_trace_bytes(),
                   n, user);
            if (store_expunge(m, &uid, 1, NULL, &err) < 0)
                crash_bad("expunge", &err);
            (void)store_mailbox_tidy(m, crash_draw(20));
            if (crash_draw(2) == 0 && store_mailbox_durable(m, &err) == 0)
                printf("gone %" PRIu64 " %" PRIu64 " %u\n", crash_trace_bytes(),
                       n, user);
        }
    }
    (void)store_mailbox_tidy(m, crash_draw(5));
    if (crash_draw(10) == 0 && store_mailbox_compact(m, &err) < 0)
        crash_bad("compact", &err);
    if (crash_draw(25) == 0 && store_mailbox_rebuild(m, &err) < 0)
        crash_bad("rebuild", &err);
    store_mailbox_unref(&m);
}

static MAY_WAIT void work_task(void *arg)
{
    (void)arg;
    while (t.next <= crash.count) {
        uint64_t n = t.next++;

        deliver(n, true);
        if (crash_draw(3) == 0)
            sync_all(n);
        if (crash_draw(4) == 0)
            visit(n, (unsigned)(is_for(n, 1) ? 1 : n % USERS));
        task_yield();
    }
    t.n_running--;
}

/* ---- looking ---- */

static bool body_is(struct store_mailbox *m, uint32_t uid, uint64_t n)
{
    struct buf want CLEANUP(buf_done) = { 0 };
    struct buf have CLEANUP(buf_done) = { 0 };
    int fd CLEANUP(close_fd) = -1;
    struct err err;
    ssize_t got;

    buf_init(&want, BODY_MAX + 65536);
    buf_init(&have, BODY_MAX + 65536);
    body_of(n, &want);
    if (store_open_body(m, uid, &fd, &err) < 0)
        return false;
    got = pread(fd, buf_reserve(&have, BODY_MAX + 60000), BODY_MAX + 60000, 0);
    buf_commit(&have, got > 0 ? (size_t)got : 0);
    return slice_ends(buf_view(&have), buf_view(&want)) &&
           slice_starts(buf_view(&have), SL("Return-Path: <s@example.org>\n"));
}

static void look_at(const char *what, unsigned user, const char *box,
                    uint64_t last)
{
    struct store_mailbox *m = NULL;
    size_t known = 0;
    struct err err;

    if (open_box(user, box, &m) < 0)
        return;
    if (store_mailbox_sync(m, true, &err) < 0)
        crash_bad("sync", &err);
    for (uint64_t n = 1; n <= last; n++) {
        uint8_t id[16];
        size_t row;

        id_of(n, user, id);
        row = store_row_by_delivery_id(m, id);
        if (row >= store_rows(m))
            continue;
        known++;
        if (!body_is(m, store_row_uid(m, row), n))
            printf("bad body of %" PRIu64 " of %u\n", n, user);
        printf("%s %u %s %u %u %" PRIu64 "\n", what, user, box, m->uidvalidity,
               store_row_uid(m, row), n);
    }
    /* Nothing else may be there. */
    if (known != m->messages)
        printf("bad %s of %u has %" PRIu64 " messages, %zu known\n", box, user,
               m->messages, known);
    store_mailbox_unref(&m);
}

static void look(const char *what, uint64_t last)
{
    for (unsigned u = 0; u < USERS; u++)
        for (size_t b = 0; b < ARRAY_LEN(boxes); b++)
            look_at(what, u, boxes[b], last);
}

static MAY_WAIT void check_task(void *arg)
{
    (void)arg;
    look("have", crash.count);
    for (uint64_t n = 1; n <= crash.count; n++)
        deliver(n, false);
    store_free(&t.store);
    t.store = store_new(&(struct store_config){
        .engine = t.engine, .host = "crash.example.org", .note = on_note });
    look("after", crash.count);
    store_free(&t.store); /* or its timers would run to their end */
}

int main(int argc, char **argv)
{
    struct store_config cfg = { .host = "crash.example.org",
                                .max_accounts = 3, /* they close meanwhile */
                                .note = on_note };

    if (crash_begin(argc, argv, 2) < 0)
        return 2;
    t.next = 1;
    for (unsigned u = 0; u < USERS; u++) {
        (void)snprintf(t.users[u], sizeof t.users[u], "u%u", u);
        (void)snprintf(t.places[u], sizeof t.places[u], "maildir:%s/u%u",
                       crash.dir, u);
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    loop_init("crash_store", 4);
    cfg.engine = t.engine = engine_local_new();
    t.store = store_new(&cfg);
    t.n_running = TASKS;
    if (crash.is_run)
        for (int i = 0; i < TASKS; i++)
            (void)task_spawn("work", work_task, NULL);
    else
        (void)task_spawn("check", check_task, NULL);
    loop_run_until_idle();
    store_free(&t.store);
    engine_free(&t.engine);
    loop_done();
    return crash.status;
}
