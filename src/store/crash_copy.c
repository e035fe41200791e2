/*
 * APPEND, COPY, MOVE, EXPUNGE and flags under power cuts
 * (test/crash/test_crash_copy.py), in the order in which imap does them: each
 * user's commands come one after another, each is OK when it is durable.
 *
 *     crash_copy run DIR COUNT SEED     on standard output, each with the
 *         length of the trace at that moment:
 *             begin OFFSET USER OP BOX BOX2 FLAGS ITEM ...
 *             ok OFFSET USER UIDVALIDITY UID ...
 *         OP is append (ITEM is a token, BOX2 is where), copy, move (ITEM is
 *         UID:TOKEN in BOX, they go to BOX2), flags or expunge (ITEM is
 *         UID:TOKEN in BOX).  UIDs of ok are those in BOX2.
 *     crash_copy check DIR 0            open all, twice, as two starts do:
 *             have USER BOX UIDVALIDITY UID TOKEN FLAGS
 *             after USER BOX UIDVALIDITY UID TOKEN FLAGS
 *             next USER BOX UIDVALIDITY UIDNEXT
 *             bad TEXT
 */
#include "rt/crash_run.h"
#include "rt/rt.h"
#include "store/store_priv.h"

enum { USERS = 3, BOXES = 3, AT_ONCE = 4, LIVE_MAX = 4096, BODY_MAX = 1 << 20 };

static const char *const boxes[BOXES] = { "INBOX", "Work.Hato", "Trash" };

struct letter {
    unsigned box;
    uint32_t uid;
    uint32_t token;
    uint32_t flags;
};

struct user {
    unsigned number;
    char name[8];
    char place[512];
    struct letter live[LIVE_MAX];
    size_t n;
};

static struct {
    uint32_t tokens;
    struct engine *engine;
    struct store *store;
    struct user users[USERS];
} t;

static void on_note(void *arg, const char *account, const char *text)
{
    (void)arg;
    if (getenv("TEST_NOTES"))
        fprintf(stderr, "note: %s: %s\n", account, text);
}

static void body_of(uint32_t token, struct buf *out)
{
    size_t size = token % 19 == 0 ? 300000 + token : 100 + token * 53 % 9000;

    buf_clear(out);
    buf_printf(out, "Subject: %" PRIu32 "\n\n", token);
    while (out->n < size)
        buf_byte(out, (char)('a' + token % 26));
    buf_byte(out, '\n');
}

static int open_box(struct user *u, unsigned box, struct store_mailbox **m)
{
    struct store_account *a = NULL;
    struct err err;

    if (store_account_open(t.store, slice_str(u->name), slice_str(u->place),
                           true, &a, &err) < 0) {
        crash_bad("open account", &err);
        return -1;
    }
    if (store_mailbox_open(a, slice_str(boxes[box]), STORE_CREATE, m, &err) <
        0) {
        crash_bad("open mailbox", &err);
        store_account_unref(&a);
        return -1;
    }
    store_account_unref(&a);
    return 0;
}

/* ---- what is said ---- */

static void say_begin(const struct user *u, const char *op, unsigned box,
                      unsigned box2, uint32_t flags)
{
    printf("begin %" PRIu64 " %u %s %s %s %" PRIu32, crash_trace_bytes(),
           u->number, op, boxes[box], boxes[box2], flags);
}

static void say_ok(const struct user *u, const struct store_mailbox *m)
{
    struct store_status st;

    store_mailbox_status(m, &st);
    printf("ok %" PRIu64 " %u %" PRIu32, crash_trace_bytes(), u->number,
           st.uidvalidity);
}

/* Up to AT_ONCE letters of one mailbox, by their places in u->live. */
static size_t choose(const struct user *u, size_t picked[AT_ONCE])
{
    size_t n = 0;
    size_t at = (size_t)crash_draw(u->n);
    unsigned box = u->live[at].box;

    for (size_t k = 0; k < u->n && n < 1 + crash_draw(AT_ONCE); k++) {
        size_t i = (at + k) % u->n;

        if (u->live[i].box == box)
            picked[n++] = i;
    }
    return n;
}

static void say_items(const struct user *u, const size_t *picked, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf(" %" PRIu32 ":%" PRIu32, u->live[picked[i]].uid,
               u->live[picked[i]].token);
    printf("\n");
}

static void keep(struct user *u, unsigned box, uint32_t uid, uint32_t token,
                 uint32_t flags)
{
    CHECK(u->n < LIVE_MAX);
    u->live[u->n++] = (struct letter){ box, uid, token, flags };
}

/* ---- commands ---- */

static MAY_WAIT int shown(struct store_mailbox *m)
{
    struct err err;

    if (store_mailbox_durable(m, &err) < 0 ||
        store_mailbox_reserve(m, 10, &err) < 0) {
        crash_bad("sync", &err);
        return -1;
    }
    return 0;
}

static MAY_WAIT int upload(struct store_mailbox *m, const uint32_t *tokens,
                           size_t n, uint32_t flags, uint32_t *uids)
{
    struct store_upload_message msg = { flags, 0, INT64_MIN };
    struct store_upload *up = store_upload_new(m);
    struct buf body CLEANUP(buf_done) = { 0 };
    struct err err;

    buf_init(&body, BODY_MAX);
    for (size_t i = 0; i < n; i++) {
        body_of(tokens[i], &body);
        if (store_upload_begin(up, &msg, &err) < 0 ||
            store_upload_write(up, buf_view(&body), &err) < 0) {
            crash_bad("upload", &err);
            store_upload_free(&up);
            return -1;
        }
    }
    if (store_upload_commit(&up, uids, &err) < 0) {
        crash_bad("commit", &err);
        return -1;
    }
    return 0;
}

static MAY_WAIT void append(struct user *u)
{
    uint32_t tokens[AT_ONCE];
    uint32_t uids[AT_ONCE];
    struct store_mailbox *m = NULL;
    size_t n = 1 + (size_t)crash_draw(AT_ONCE);
    unsigned box = (unsigned)crash_draw(BOXES);
    uint32_t flags = crash_draw(2) ? STORE_SEEN : 0;

    if (open_box(u, box, &m) < 0)
        return;
    say_begin(u, "append", box, box, flags);
    for (size_t i = 0; i < n; i++) {
        tokens[i] = ++t.tokens;
        printf(" %" PRIu32, tokens[i]);
    }
    printf("\n");
    if (upload(m, tokens, n, flags, uids) == 0 && shown(m) == 0) {
        say_ok(u, m);
        for (size_t i = 0; i < n; i++) {
            keep(u, box, uids[i], tokens[i], flags);
            printf(" %" PRIu32, uids[i]);
        }
        printf("\n");
    }
    store_mailbox_unref(&m);
}

static int uid_cmp(const void *a, const void *b)
{
    const struct letter *const *x = a;
    const struct letter *const *y = b;

    return (*x)->uid < (*y)->uid ? -1 : 1;
}

static void forget(struct user *u, size_t *picked, size_t n)
{
    /* From behind: the last one takes the place of one that goes. */
    for (size_t i = 0; i < n; i++)
        u->live[picked[i]].uid = 0;
    for (size_t i = u->n; i-- > 0;)
        if (u->live[i].uid == 0)
            u->live[i] = u->live[--u->n];
}

static MAY_WAIT int do_copy(struct store_copy *job)
{
    struct err err;

    if (store_copy(job, &err) < 0) {
        crash_bad("copy", &err);
        return -1;
    }
    if (job->n_out != job->n)
        printf("bad copy: %zu of %zu\n", job->n_out, job->n);
    if (shown(job->to) < 0)
        return -1;
    if (!(job->flags & STORE_MOVE))
        return 0;
    if (store_move_end(job, true, &err) < 0 ||
        store_mailbox_durable(job->from, &err) < 0) {
        crash_bad("expunge of moved", &err);
        return -1;
    }
    return 0;
}

static MAY_WAIT void copy(struct user *u, bool is_move)
{
    struct store_copied out[AT_ONCE];
    struct letter *from[AT_ONCE];
    uint32_t uids[AT_ONCE];
    size_t picked[AT_ONCE];
    size_t n = choose(u, picked);
    struct store_mailbox *m = NULL;
    struct store_mailbox *to = NULL;
    unsigned box = u->live[picked[0]].box;
    unsigned box2 = (unsigned)crash_draw(BOXES);
    struct store_copy job = { .uids = uids, .n = n, .out = out };

    if (is_move && box2 == box)
        box2 = (box + 1) % BOXES;
    if (open_box(u, box, &m) < 0 || open_box(u, box2, &to) < 0) {
        store_mailbox_unref(&m);
        return;
    }
    say_begin(u, is_move ? "move" : "copy", box, box2, 0);
    say_items(u, picked, n);
    for (size_t i = 0; i < n; i++)
        from[i] = &u->live[picked[i]];
    qsort(from, n, sizeof from[0], uid_cmp);
    for (size_t i = 0; i < n; i++)
        uids[i] = from[i]->uid;
    job.from = m;
    job.to = to;
    job.flags = is_move ? STORE_MOVE : 0;
    if (do_copy(&job) == 0) {
        size_t before = u->n;

        say_ok(u, to);
        for (size_t i = 0; i < job.n_out; i++)
            printf(" %" PRIu32 ":%" PRIu32, out[i].from, out[i].to);
        printf("\n");
        for (size_t i = 0; i < job.n_out; i++)
            keep(u, box2, out[i].to, from[i]->token, from[i]->flags);
        CHECK(u->n == before + job.n_out);
        if (is_move)
            forget(u, picked, n);
    }
    store_mailbox_unref(&to);
    store_mailbox_unref(&m);
}

static MAY_WAIT void flags_or_expunge(struct user *u, bool is_expunge)
{
    struct store_change changes[AT_ONCE];
    uint32_t uids[AT_ONCE];
    size_t picked[AT_ONCE];
    size_t n = choose(u, picked);
    uint32_t flags = (uint32_t)crash_draw(32);
    struct store_mailbox *m = NULL;
    unsigned box = u->live[picked[0]].box;
    struct err err;
    int rc;

    if (open_box(u, box, &m) < 0)
        return;
    say_begin(u, is_expunge ? "expunge" : "flags", box, box, flags);
    say_items(u, picked, n);
    for (size_t i = 0; i < n; i++) {
        uids[i] = u->live[picked[i]].uid;
        changes[i] = (struct store_change){ uids[i], flags, 0 };
    }
    rc = is_expunge ? store_expunge(m, uids, n, NULL, &err)
                    : store_set_flags(m, changes, n, NULL, &err);
    if (rc < 0 || store_mailbox_durable(m, &err) < 0) {
        crash_bad("change", &err);
    } else {
        say_ok(u, m);
        printf("\n");
        for (size_t i = 0; i < n; i++)
            u->live[picked[i]].flags = flags;
        if (is_expunge)
            forget(u, picked, n);
    }
    store_mailbox_unref(&m);
}

/* What goes on besides: names follow the flags, snapshots, new logs. */
static MAY_WAIT void besides(struct user *u)
{
    struct store_mailbox *m = NULL;
    struct err err;

    if (crash_draw(3) != 0 || open_box(u, (unsigned)crash_draw(BOXES), &m) < 0)
        return;
    (void)store_mailbox_tidy(m, crash_draw(10));
    if (crash_draw(2) == 0)
        (void)tidy_settle(m);
    if (crash_draw(6) == 0 && store_mailbox_compact(m, &err) < 0)
        crash_bad("compact", &err);
    if (crash_draw(12) == 0 && store_mailbox_rebuild(m, &err) < 0)
        crash_bad("rebuild", &err);
    store_mailbox_unref(&m);
}

static MAY_WAIT void work_task(void *arg)
{
    struct user *u = arg;

    for (uint64_t i = 0; i < crash.count; i++) {
        unsigned what = (unsigned)crash_draw(10);

        if (u->n < 4 || what < 3)
            append(u);
        else if (what < 5)
            copy(u, false);
        else if (what < 7)
            copy(u, true);
        else
            flags_or_expunge(u, what == 7);
        besides(u);
        task_yield();
    }
}

/* ---- looking ---- */

static bool token_of(struct store_mailbox *m, uint32_t uid, uint32_t *token)
{
    struct buf want CLEANUP(buf_done) = { 0 };
    struct buf have CLEANUP(buf_done) = { 0 };
    int fd CLEANUP(close_fd) = -1;
    uint64_t number;
    struct err err;
    ssize_t got, end;
    slice text;

    buf_init(&want, BODY_MAX);
    buf_init(&have, BODY_MAX);
    if (store_open_body(m, uid, &fd, &err) < 0)
        return false;
    got = pread(fd, buf_reserve(&have, BODY_MAX - 1), BODY_MAX - 1, 0);
    buf_commit(&have, got > 0 ? (size_t)got : 0);
    text = buf_view(&have);
    end = slice_chr(text, '\n');
    if (end < 0 || !slice_starts(text, SL("Subject: ")) ||
        !slice_u64(slice_sub(text, 9, (size_t)end - 9), &number))
        return false;
    *token = (uint32_t)number;
    body_of(*token, &want);
    return slice_eq(text, buf_view(&want));
}

static void look_at(const char *what, struct user *u, unsigned box)
{
    struct store_mailbox *m = NULL;
    struct store_status st;
    struct store_row row;
    struct err err;

    if (open_box(u, box, &m) < 0)
        return;
    if (store_mailbox_sync(m, true, &err) < 0)
        crash_bad("sync", &err);
    store_mailbox_status(m, &st);
    printf("next %u %s %u %u\n", u->number, boxes[box], st.uidvalidity,
           st.uidnext);
    for (size_t r = 0; r < store_rows(m); r++) {
        uint32_t token = 0;

        if (!store_row_get(m, r, &row))
            continue;
        if (!token_of(m, row.uid, &token))
            printf("bad body of UID %u in %s of %u\n", row.uid, boxes[box],
                   u->number);
        printf("%s %u %s %u %u %u %u\n", what, u->number, boxes[box],
               st.uidvalidity, row.uid, token, row.flags);
    }
    store_mailbox_unref(&m);
}

static void look(const char *what, unsigned first)
{
    for (size_t i = 0; i < USERS; i++)
        for (unsigned b = 0; b < BOXES; b++)
            look_at(what, &t.users[i], (b + first) % BOXES);
}

/* Until what a crash has ended is done. */
static MAY_WAIT void wait_moves(void)
{
    struct err err;

    for (unsigned i = 0; i < USERS * BOXES; i++) {
        struct store_mailbox *m = NULL;

        if (open_box(&t.users[i / BOXES], i % BOXES, &m) < 0)
            continue;
        for (int k = 0; m->moves && k < 10000; k++)
            (void)task_sleep(1, &err);
        store_mailbox_unref(&m);
    }
}

static void store_start(void)
{
    t.store = store_new(&(struct store_config){ .engine = t.engine,
                                                .host = "crash.example.org",
                                                .max_accounts = USERS - 1,
                                                .note = on_note });
}

static MAY_WAIT void check_task(void *arg)
{
    (void)arg;
    look("have", (unsigned)crash.count % BOXES);
    wait_moves();
    store_free(&t.store);
    store_start();
    look("after", 0);
    store_free(&t.store);
}

int main(int argc, char **argv)
{
    if (crash_begin(argc, argv, 2) < 0)
        return 2;
    for (unsigned i = 0; i < USERS; i++) {
        struct user *u = &t.users[i];

        u->number = i;
        (void)snprintf(u->name, sizeof u->name, "u%u", i);
        (void)snprintf(u->place, sizeof u->place, "maildir:%s/u%u", crash.dir,
                       i);
    }
    (void)setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    loop_init("crash_copy", 4);
    t.engine = engine_local_new();
    store_start();
    for (size_t i = 0; crash.is_run && i < USERS; i++)
        (void)task_spawn("work", work_task, &t.users[i]);
    if (!crash.is_run)
        (void)task_spawn("check", check_task, NULL);
    loop_run_until_idle();
    store_free(&t.store);
    engine_free(&t.engine);
    loop_done();
    return crash.status;
}
