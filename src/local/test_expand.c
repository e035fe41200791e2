/* Where `local` sends a recipient: aliases, .forward and :include: files by
 * real tables and a faked worker, the system's users faked. */
#include "local/fake_workers.h"

#include "table/test_util.h"

#include <sys/mman.h>

/* ---- fakes: the users of the system, and their workers */

static struct table_user fake_user(slice name)
{
    return (struct table_user){
        .name = name,
        .home = slice_eqs(name, "tomo") ? SL("/home/tomo") : SL("/home/ana"),
        .uid = slice_eqs(name, "tomo") ? 1001 : 1002,
        .gid = 100,
        .has_uid = true,
        .has_gid = true,
    };
}

int users_system_user(struct users *u, slice name, struct arena *a,
                      struct table_user *out, bool *found, struct err *err)
{
    (void)u;
    (void)a;
    if (slice_eqs(name, "trouble"))
        return err_temp(err, "NSS is away");
    *found = slice_eqs(name, "tomo") || slice_eqs(name, "ana");
    if (*found)
        *out = fake_user(name);
    return 0;
}

int users_system_place(struct users *u, const struct table_user *who,
                       unsigned flags, struct arena *a, struct user_place *out,
                       struct err *err)
{
    (void)u;
    (void)flags;
    (void)a;
    (void)err;
    *out = (struct user_place){ .kind = USER_MAILBOX,
                                .uid = who->uid,
                                .gid = who->gid,
                                .account = who->name,
                                .user = who->name,
                                .home = who->home,
                                .mail = SL("maildir:~/Maildir") };
    return 0;
}

int users_virtual(struct users *u, slice addr, struct arena *a,
                  struct user_place *out, bool *found, struct err *err)
{
    (void)u;
    (void)addr;
    (void)a;
    (void)out;
    (void)err;
    *found = false;
    return 0;
}

int users_new(const struct conf *conf, struct tables *tables, bool is_root_mode,
              struct users **out, struct err *err)
{
    (void)conf;
    (void)tables;
    (void)is_root_mode;
    (void)out;
    return err_temp(err, "not in this test");
}

/* What the worker reads: path, contents. */
static struct {
    const char *path;
    const char *text;
} files[8];

static uint64_t last_uid; /* of the last question */

int lmtp_worker_ask(struct lmtp_workers *w, const struct lmtp_place *place,
                    uint16_t type, slice body, struct msg *answer,
                    struct err *err)
{
    slice in = body;
    struct attr a;
    struct buf b;

    (void)w;
    last_uid = place->uid;
    memset(answer, 0, sizeof *answer);
    buf_init(&b, LOCAL_INCLUDE_MAX + 64);
    while (attr_next(&in, &a) > 0)
        for (size_t i = 0; i < ARRAY_LEN(files) && b.n == 0; i++)
            if (a.tag == AT_PATH && files[i].path != NULL &&
                slice_eqs(a.v, files[i].path))
                (void)attr_put_str(&b, AT_CONTENT, files[i].text);
    if (b.n == 0 && type == WORKER_INCLUDE) {
        buf_done(&b);
        return err_temp(err, "no such file");
    }
    answer->heap = b.p; /* the caller's now */
    answer->body = buf_view(&b);
    return 0;
}

/* ---- one recipient's way */

struct stand {
    struct bench b;
    struct process process;
    struct local local;
    struct local_job job;
};

/* Aliases are a texthash file: what stands behind a name may hold all. */
static void stand_open(struct stand *s, const char *conf, const char *aliases)
{
    slice source;
    struct err err;

    memset(s, 0, sizeof *s);
    memset(files, 0, sizeof files);
    bench_init(&s->b);
    source = bench_file(&s->b, 0, "texthash", aliases);
    s->process.conf =
        conf_from_text(slice_str(arena_printf(s->b.arena,
                                              "myhostname = mx.example.com\n"
                                              "myorigin = example.com\n"
                                              "mydestination = example.com\n"
                                              "recipient_delimiter = +\n"
                                              "default_privs = nobody\n"
                                              "alias_maps = %.*s\n%s",
                                              SLF(source), conf)),
                       SLICE_NONE, NULL);
    s->local.p = &s->process;
    s->local.tables = s->b.tables;
    if (address_new(s->process.conf, NULL, s->b.tables, &s->local.address,
                    &err) < 0 ||
        table_list_param(s->b.tables, s->process.conf, NULL, "alias_maps",
                         &s->local.aliases, &err) < 0)
        fail_msg("%s", err.log);
    s->job.local = &s->local;
    s->job.arena = s->b.arena;
    s->job.body_fd = memfd_create("body", MFD_CLOEXEC);
    s->job.body_bytes = 1000;
}

static void stand_close(struct stand *s)
{
    close(s->job.body_fd);
    table_list_free(&s->local.aliases);
    address_free(&s->local.address);
    conf_unref(&s->process.conf);
    bench_done(&s->b);
}

/* Specials as one can read them: '|' for the mark. */
static void put_readable(struct buf *b, slice s)
{
    for (size_t i = 0; i < s.n; i++)
        (void)buf_byte(b, s.p[i] == '\001' ? '|' : s.p[i]);
}

static const char *result(struct stand *s, const struct local_rcpt *r)
{
    struct buf b CLEANUP(buf_done) = { 0 };

    buf_init(&b, 1u << 20);
    if (!r->is_done) {
        assert_true(r->has_place);
        (void)buf_printf(&b, "%u %.*s", r->place.kind, SLF(r->place.user));
    } else if (r->outcome == OUT_EXPANDED) {
        for (size_t i = 0; i < r->n_others; i++) {
            put_readable(&b, r->others[i]);
            (void)buf_puts(&b, i + 1 < r->n_others ? ", " : "");
        }
        if (r->has_owner)
            (void)buf_printf(&b, " owner %.*s", SLF(r->owner));
    } else {
        (void)buf_printf(&b, "%s %s %.*s",
                         r->outcome == OUT_BOUNCED ? "bounced" : "deferred",
                         r->status, SLF(r->diag));
    }
    return slice_cstr(s->b.arena, buf_view(&b));
}

MAY_WAIT static const char *way(struct stand *s, slice addr, const char *path,
                                unsigned depth)
{
    struct local_rcpt r = {
        .addr = addr, .shown = addr, .depth = depth, .path = slice_str(path)
    };

    local_route(&s->job, &r);
    return result(s, &r);
}

#define EXPECT(s, addr, want)                                                  \
 assert_string_equal(way((s), slice_str(addr), (addr), 0), (want))

/* ---- tests */

static void test_aliases(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "",
               "list tomo, ana@example.com, far@elsewhere.example\n"
               "commas x y <z@example.com>, \"a b\"@c.example (comment)\n"
               "root root, tomo\n"
               "raw \\tomo\n"
               "empty ,\n");
    EXPECT(&s, "list@example.com",
           "tomo@example.com, ana@example.com, far@elsewhere.example");
    EXPECT(&s, "LIST@example.com",
           "tomo@example.com, ana@example.com, far@elsewhere.example");
    EXPECT(&s, "list+ext@example.com",
           "tomo@example.com, ana@example.com, far@elsewhere.example");
    EXPECT(&s, "commas@example.com", "z@example.com, a b@c.example");
    EXPECT(&s, "root@example.com", "root@example.com, tomo@example.com");
    EXPECT(&s, "raw@example.com", "|Utomo@example.com");
    EXPECT(&s, "empty@example.com",
           "bounced 5.3.5 alias \"empty\" has no destination");
    EXPECT(&s, "tomo@example.com", "0 tomo");
    EXPECT(&s, "tomo+x@example.com", "0 tomo");
    EXPECT(&s, "nobody-here@example.com",
           "bounced 5.1.1 unknown user: \"nobody-here\"");
    EXPECT(&s, "trouble@example.com", "deferred 4.3.0 NSS is away");
    stand_close(&s);
}

static void test_loops(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "", "tomo tomo, ana\na b\nb a\n");
    EXPECT(&s, "tomo@example.com", "tomo@example.com, ana@example.com");
    /* It came from itself: no alias is asked again. */
    assert_string_equal(way(&s, SL("tomo@example.com"),
                            "tomo@example.com\ntomo@example.com", 1),
                        "0 tomo");
    assert_string_equal(way(&s, SL("a@example.com"),
                            "a@example.com\nb@example.com\na@example.com", 2),
                        "bounced 5.1.1 unknown user: \"a\"");
    assert_string_equal(way(&s, SL("ana@example.com"), "x", 101),
                        "bounced 5.4.6 unreasonable alias/forward nesting");
    /* The message was here before. */
    s.job.has_header = false;
    assert_int_equal(
        pwrite(s.job.body_fd, "Delivered-To: Tomo@example.com\n\n", 32, 0), 32);
    EXPECT(&s, "tomo@example.com",
           "bounced 5.4.6 mail forwarding loop for tomo@example.com");
    EXPECT(&s, "a@example.com", "b@example.com");
    stand_close(&s);
}

static void test_owners(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "",
               "list tomo\nowner-list ana@elsewhere.example\n"
               "two tomo\nowner-two a, b\n");
    EXPECT(&s, "list@example.com",
           "tomo@example.com owner owner-list@example.com");
    EXPECT(&s, "owner-list@example.com", "ana@elsewhere.example");
    stand_close(&s);
    stand_open(&s, "expand_owner_alias = yes\n",
               "list tomo\nowner-list ana@elsewhere.example\n"
               "two tomo\nowner-two a, b\n");
    EXPECT(&s, "list@example.com",
           "tomo@example.com owner ana@elsewhere.example");
    EXPECT(&s, "two@example.com",
           "tomo@example.com owner owner-two@example.com");
    stand_close(&s);
}

/* The uid of `nobody`, whom default_privs names. */
static const char *with_nobody(struct stand *s, const char *fmt)
{
    uint64_t uid = 0;
    uint64_t gid = 0;
    struct err err;
    char ids[64];
    struct buf b CLEANUP(buf_done) = { 0 };

    if (local_default_privs(&s->job, &uid, &gid, &err) < 0)
        fail_msg("%s", err.log);
    (void)snprintf(ids, sizeof ids, "%" PRIu64 "|%" PRIu64, uid, gid);
    buf_init(&b, 4096);
    for (; *fmt != '\0'; fmt++) {
        if (*fmt == '$')
            (void)buf_puts(&b, ids);
        else
            (void)buf_byte(&b, *fmt);
    }
    return slice_cstr(s->b.arena, buf_view(&b));
}

static void test_commands_and_files(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "",
               "run \"|/bin/prog a, b\"\n"
               "file /var/mail/x\n"
               "inc :include:/lists/one\n"
               "deep :include:/lists/self\n"
               "gone :include:/lists/none\n"
               "rel :include:lists/one\n");
    files[0].path = "/lists/one";
    files[0].text = "# members\n tomo\nana, far@elsewhere.example\n";
    files[1].path = "/lists/self";
    files[1].text = ":include:/lists/self\n";
    EXPECT(&s, "run@example.com",
           with_nobody(&s, "|C|$|1|nobody|/|/bin/prog a, b"));
    EXPECT(&s, "file@example.com",
           with_nobody(&s, "|F|$|1|nobody|/|/var/mail/x"));
    EXPECT(&s, "inc@example.com",
           "tomo@example.com, ana@example.com, far@elsewhere.example");
    assert_int_not_equal(last_uid, 0);
    EXPECT(&s, "deep@example.com",
           "deferred 4.3.0 :include: files are nested too deep at "
           "/lists/self");
    EXPECT(&s, "gone@example.com",
           "deferred 4.3.0 open include file /lists/none: no such file");
    EXPECT(&s, "rel@example.com",
           "deferred 4.3.0 :include: file \"lists/one\" is no absolute path");
    /* Not from an :include: file, by default. */
    files[0].text = "|/bin/prog";
    EXPECT(&s, "inc@example.com",
           "bounced 5.7.1 mail to command is "
           "restricted");
    stand_close(&s);
    stand_open(&s, "allow_mail_to_commands =\nallow_mail_to_files =\n",
               "run |/bin/prog\nfile /var/mail/x\n");
    EXPECT(&s, "run@example.com",
           "bounced 5.7.1 mail to command is restricted");
    EXPECT(&s, "file@example.com", "bounced 5.7.1 mail to file is restricted");
    stand_close(&s);
}

static void test_forward(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "", "x y\n");
    files[0].path = "/home/tomo/.forward";
    files[0].text = "\\tomo, far@elsewhere.example\n|prog\n~/mail\n";
    EXPECT(&s, "tomo@example.com",
           "|Utomo@example.com, far@elsewhere.example, "
           "|C|1001|100|0|tomo|/home/tomo|prog, "
           "|F|1001|100|0|tomo|/home/tomo|/home/tomo/mail");
    assert_int_equal(last_uid, 1001);
    /* An extension has a file of its own, where there is one. */
    files[1].path = "/home/tomo/.forward+x";
    files[1].text = "ana\n";
    EXPECT(&s, "tomo+x@example.com", "ana@example.com");
    files[0].text = "# nothing\n";
    EXPECT(&s, "tomo@example.com", "0 tomo");
    /* What is wrong in it delays. */
    files[0].text = "\"x\001Ctomo\"@example.com\n";
    EXPECT(&s, "tomo@example.com",
           "deferred 4.3.0 bad address in alias or .forward");
    files[0].text = "\\\001C|0|0\n";
    EXPECT(&s, "tomo@example.com",
           "deferred 4.3.0 bad address in alias or .forward");
    files[0].text = "\"|a\nroot@example.com\"\n";
    EXPECT(&s, "tomo@example.com", "deferred 4.3.0 bad destination");
    /* It does not matter where it was asked for himself. */
    assert_string_equal(way(&s, SL("\001Utomo@example.com"),
                            "tomo@example.com\n\001Utomo@example.com", 1),
                        "0 tomo");
    stand_close(&s);
}

/* Only what an expansion made is special. */
static void test_specials(void **state)
{
    static const char *const bad[] = { "\001C\0010\0010", "\001X\001",
                                       "\001C\001x\0010\0011\001u\001/\001p" };
    struct local_source src = { .uid = 7, .gid = 8, .user = SL("u") };
    struct lmtp_place place;
    slice mailbox, special;
    struct stand s;

    (void)state;
    stand_open(&s, "", "x y\n");
    special = local_special_target(s.b.arena, LMTP_COMMAND, &src, SL("p\t q"));
    assert_true(local_special_parse(special, &mailbox, &place));
    assert_true(place.uid == 7 && place.gid == 8 && place.by_command_worker);
    assert_slice(place.arg, SL("p\t q"));
    assert_string_equal(way(&s, special, "x", 1), "2 u");
    assert_string_equal(way(&s, special, "x", 0),
                        "bounced 5.1.3 bad address syntax");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_string_equal(way(&s, slice_str(bad[i]), "x", 1),
                            "bounced 5.1.3 bad address syntax");
    src.home = SL("/h\001");
    assert_null(local_special_target(s.b.arena, LMTP_FILE, &src, SL("/x")).p);
    stand_close(&s);
}

static void test_luser_relay(void **state)
{
    struct stand s;

    (void)state;
    stand_open(&s, "luser_relay = $local@other.example\n", "x y\n");
    EXPECT(&s, "who+x@example.com", "who+x@other.example");
    EXPECT(&s, "a,|b c@example.com", "a__b_c@other.example");
    stand_close(&s);
    stand_open(&s, "luser_relay = tomo+$user${extension?.$extension}\n",
               "x y\n");
    EXPECT(&s, "who+x@example.com", "tomo+who.x@example.com");
    EXPECT(&s, "who@example.com", "tomo+who@example.com");
    stand_close(&s);
    /* To an unknown user: not for ever. */
    stand_open(&s, "luser_relay = none\n", "x y\n");
    EXPECT(&s, "who@example.com", "none@example.com");
    EXPECT(&s, "none@example.com", "none@example.com");
    assert_string_equal(
        way(&s, SL("none@example.com"),
            "who@example.com\nnone@example.com\nnone@example.com", 2),
        "bounced 5.1.1 unknown user: \"none\"");
    stand_close(&s);
}

static void test_too_many(void **state)
{
    const size_t room = (size_t)LOCAL_EXPANSION_MAX * 8 + 64;
    char *text = xcalloc(1, room);
    size_t n = 0;
    struct stand s;

    (void)state;
    for (size_t i = 0; i <= LOCAL_EXPANSION_MAX; i++)
        n += (size_t)snprintf(text + n, room - n, "u%zu\n", i);
    stand_open(&s, "", "big :include:/lists/big\n");
    files[0].path = "/lists/big";
    files[0].text = text;
    s.job.arena = arena_new(LOCAL_JOB_ARENA_MAX);
    EXPECT(&s, "big@example.com",
           "deferred 4.3.0 alias or .forward of big@example.com is too long");
    arena_free(&s.job.arena);
    s.job.arena = arena_new(1u << 20); /* and memory that does not suffice */
    assert_int_equal(
        strncmp(way(&s, SL("big@example.com"), "x", 0), "deferred 4", 10), 0);
    arena_free(&s.job.arena);
    stand_close(&s);
    free(text);
}

/* ---- a request, over its channel */

static void put_rcpt(struct buf *b, const char *addr, unsigned index)
{
    struct buf one CLEANUP(buf_done) = { 0 };

    buf_init(&one, 4096);
    (void)attr_put_u64(&one, AT_RCPT_INDEX, index);
    (void)attr_put_str(&one, AT_ADDR, addr);
    (void)attr_put_str(&one, AT_PATH, addr);
    (void)attr_put_str(&one, AT_DELIVERY_ID, "0123456789abcdef");
    (void)attr_put(b, AT_RCPT, buf_view(&one));
}

static void put_request(struct buf *b)
{
    struct envelope e = { .seq = 1, .arrival_usec = 1000000 };
    struct buf head CLEANUP(buf_done) = { 0 };

    buf_init(&head, 65536);
    envelope_make_id(&e);
    assert_true(envelope_encode(&head, &e));
    (void)attr_put_str(b, AT_QUEUE_ID, e.id);
    (void)attr_put_str(b, AT_SENDER, "");
    (void)attr_put_str(b, AT_TRANSPORT, "local");
    (void)attr_put_u64(b, AT_ARRIVAL, 1000);
    (void)attr_put_u64(b, AT_BODY_BYTES, 10);
    (void)attr_put(b, AT_HEAD, buf_view(&head));
}

/* The outcome of one recipient; *n_out what it was expanded to. */
static enum outcome outcome_of(slice in, unsigned index, size_t *n_out)
{
    struct attr a;
    slice list;

    *n_out = 0;
    while (attr_next(&in, &a) > 0) {
        if (a.tag != AT_RCPT || attr_u64_or(a.v, AT_RCPT_INDEX, 99) != index)
            continue;
        if (attr_find(a.v, AT_EXPANSION, &list)) {
            struct attr other;

            while (attr_next(&list, &other) > 0)
                ++*n_out;
        }
        return (enum outcome)attr_u64_or(a.v, AT_OUTCOME, 99);
    }
    fail_msg("no answer for recipient %u", index);
    return OUT_SENT;
}

MAY_WAIT static void ask_task(void *arg)
{
    static const struct chan_ops ops = { 0 };
    struct stand *s = arg;
    struct chan *c;
    struct msg answer;
    struct buf b CLEANUP(buf_done) = { 0 };
    struct buf more CLEANUP(buf_done) = { 0 };
    slice body = SLICE_NONE;
    struct err err;
    size_t n;
    int fds[2];

    assert_int_equal(chan_socketpair(fds, &err), 0);
    local_on_peer(&s->local, fds[0]);
    c = chan_new(fds[1], &ops, NULL);
    buf_init(&b, CHAN_MAX_BYTES);
    buf_init(&more, LOCAL_ANSWER_MAX);
    put_request(&b);
    put_rcpt(&b, "big@example.com", 0);
    put_rcpt(&b, "list@example.com", 1);
    put_rcpt(&b, "unknown@example.com", 2);
    put_rcpt(&b, "tomo@example.com", 3);
    if (chan_call(c, DELIVER_REQUEST, buf_view(&b), &s->job.body_fd, 1,
                  clock_after(10000), &answer, &err) < 0)
        fail_msg("%s", err.log);
    /* Longer than a frame: in memory of its own, and whole. */
    assert_int_equal(answer.n_fds, 1);
    assert_int_equal(msg_read_big(&answer, &more, &body, &err), 0);
    assert_int_equal(outcome_of(body, 0, &n), OUT_EXPANDED);
    assert_int_equal(n, 5001);
    assert_int_equal(outcome_of(body, 1, &n), OUT_EXPANDED);
    assert_int_equal(n, 2);
    assert_int_equal(outcome_of(body, 2, &n), OUT_BOUNCED);
    assert_int_equal(outcome_of(body, 3, &n), OUT_DEFERRED); /* no worker */
    msg_free(&answer);
    /* What is no request is told so, and hurts nothing. */
    assert_int_equal(chan_call(c, DELIVER_REQUEST, SL("x"), NULL, 0,
                               clock_after(10000), &answer, &err),
                     -1);
    assert_int_equal(chan_call(c, QUEUE_LIST, SLICE_NONE, NULL, 0,
                               clock_after(10000), &answer, &err),
                     -1);
    chan_free(&c);
}

static void test_request(void **state)
{
    enum { ROOM = 6000 * 920 };

    char *text = xcalloc(1, ROOM);
    size_t n = 0;
    struct stand s;

    (void)state;
    n += (size_t)snprintf(text, ROOM, "list tomo, ana\nbig x");
    for (size_t i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, ROOM - n, ",%0900zu", i);
    loop_init("test", 1);
    stand_open(&s, "", text);
    list_init(&s.local.peers);
    (void)task_spawn("ask", ask_task, &s);
    loop_run_until_idle();
    assert_int_equal(s.local.n_jobs, 0);
    stand_close(&s);
    loop_done();
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_commands_and_files),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_specials),
        cmocka_unit_test(test_luser_relay),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_request),
    };

    return cmocka_run_group_tests_name("local expansion", tests, NULL, NULL);
}
