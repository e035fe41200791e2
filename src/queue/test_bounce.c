/*
 * covers: notify_classes bounce_notice_recipient 2bounce_notice_recipient
 * covers: double_bounce_sender bounce_size_limit mail_name
 * covers: confirm_delay_cleared enable_threaded_bounces disable_verp_bounces
 */
#include "queue/test_util_queue.h"

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

/* Addresses that begin with "no" do not exist; with "later", not now. */
static void picky(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    if (strncmp(r->addr, "no", 2) == 0)
        *out = (struct told){ .outcome = OUT_BOUNCED,
                              .status = "5.1.1",
                              .diag = "unknown user: \"no\"" };
    else if (strncmp(r->addr, "later", 5) == 0)
        *out = (struct told){ .outcome = OUT_DEFERRED,
                              .status = "4.2.2",
                              .diag = "mailbox is full" };
}

static void begin(struct world *w)
{
    w->answer = picky;
    w->keep_last = true;
}

/* One report for all failures of one attempt, and the settlement with it. */
static void report_in(struct world *w)
{
    const char *text;
    const char *log;

    begin(w);
    world_mail(w, "a@virtual.example",
               "no1@virtual.example ok@virtual.example no2@other.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_string_equal(world_last(w, "a@virtual.example")->sender, "");
    text = buf_cstr(&w->last);
    assert_has(text, "Received: by hato.example.com (Hato)\n\tid ");
    assert_has(text, "From: MAILER-DAEMON@");
    assert_has(text, " (Mail Delivery System)\n");
    assert_has(text, "Subject: Undelivered Mail Returned to Sender\n");
    assert_has(text, "To: a@virtual.example\n");
    assert_has(text, "Auto-Submitted: auto-replied\n");
    assert_has(text, "This is the mail system at host hato.example.com.\n");
    assert_has(text, "\n<no1@virtual.example>: unknown user: \"no\"\n");
    assert_has(text, "\nReporting-MTA: dns; hato.example.com\n");
    assert_has(text, "\nX-Hato-Sender: rfc822; a@virtual.example\n");
    assert_has(text, "\nFinal-Recipient: rfc822; no1@virtual.example\n"
                     "Original-Recipient: rfc822; no1@virtual.example\n"
                     "Action: failed\nStatus: 5.1.1\n"
                     "Diagnostic-Code: X-Hato; unknown user: \"no\"\n");
    assert_has(text, "rfc822; no2@other.example");
    assert_has_not(text, "ok@virtual.example");
    assert_has(text, "\nContent-Type: message/rfc822\n\nReturn-Path: "
                     "<a@virtual.example>\nReceived: from there\n"
                     "From: a@far.example\nSubject: s\n\nbody\n\n--");
    log = world_log(w);
    assert_has(log, "bounce: ");
    assert_has(log, ": sender non-delivery notification: ");
    assert_has(log, "cleanup: ");
    assert_true(strstr(log, ": sender non-delivery notification: ") <
                strstr(log, ": removed"));
}

RUN(report, "");

static void send_one(struct world *w, const char *rcpt, uint32_t notify,
                     enum envelope_ret ret)
{
    struct envelope_rcpt v = { .addr = slice_str(rcpt),
                               .orcpt = SL("rfc822;First@there.example"),
                               .notify = notify };
    struct envelope e = { .sender = SL("a@virtual.example"),
                          .envid = SL("QQ314159"),
                          .ret = ret,
                          .rcpts = &v,
                          .n_rcpts = 1 };

    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
}

/* RFC 3461 4.1 and 4.3. */
static void notify_in(struct world *w)
{
    const char *text;

    begin(w);
    send_one(w, "no@virtual.example", ENV_NOTIFY_NEVER, ENV_RET_NONE);
    send_one(w, "no@virtual.example", ENV_NOTIFY_SUCCESS, ENV_RET_NONE);
    send_one(w, "no@virtual.example", ENV_NOTIFY_DELAY, ENV_RET_NONE);
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
    assert_int_equal(world_count(w), 0);
    send_one(w, "no@virtual.example", ENV_NOTIFY_FAILURE | ENV_NOTIFY_SUCCESS,
             ENV_RET_HDRS);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    text = buf_cstr(&w->last);
    assert_has(text, "\nOriginal-Envelope-Id: QQ314159\n");
    assert_has(text, "\nOriginal-Recipient: rfc822;First@there.example\n");
    assert_has(text, "text/rfc822-headers");
    assert_has(text, "\nSubject: one\n");
    assert_has_not(text, "secret");
}

RUN(notify, "");

static void success_in(struct world *w)
{
    const char *text;

    begin(w);
    send_one(w, "ok@virtual.example", ENV_NOTIFY_FAILURE, ENV_RET_FULL);
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
    send_one(w, "ok@virtual.example", ENV_NOTIFY_SUCCESS, ENV_RET_FULL);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_int_equal(world_count(w), 0);
    text = buf_cstr(&w->last);
    assert_has(text, "Subject: Successful Mail Delivery Report\n");
    assert_has(text, "\nAction: delivered\nStatus: 2.0.0\n"
                     "Diagnostic-Code: X-Hato; delivered to maildir\n");
    assert_has(text, "text/rfc822-headers");
    assert_has_not(text, "secret");
    assert_has(world_log(w), ": sender delivery status notification: ");
}

RUN(success, "");

/* What another host said, and how far the mail is, as RFC 3464 2.3 tells. */
static void far(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    if (strchr(r->sender, '@') == NULL)
        return; /* our report */
    out->remote_mta = "dns; mx.far.example";
    out->tried = 1000000000000;
    if (strncmp(r->addr, "no", 2) == 0) {
        out->outcome = OUT_BOUNCED;
        out->status = "5.7.26";
        out->diag = "smtp; 550 5.7.26 not from you";
    } else if (strncmp(r->addr, "late", 4) == 0) {
        out->outcome = OUT_DEFERRED;
        out->status = "4.2.1";
        out->diag = "smtp; 450 4.2.1 not now";
    } else {
        out->status = "2.6.0";
        out->diag = "smtp; 250 2.6.0 taken";
        out->relayed =
            strncmp(r->addr, "dsn", 3) == 0 ? RELAYED_DSN : RELAYED_NO_DSN;
    }
}

static void foreign_in(struct world *w)
{
    const char *text = NULL;

    begin(w);
    w->answer = far;
    send_one(w, "no@virtual.example", 0, ENV_RET_NONE);
    text = buf_cstr(&w->last);
    assert_has(text, "\n<no@virtual.example>: host mx.far.example said: 550 "
                     "5.7.26 not from you\n");
    assert_has(text, "Action: failed\nStatus: 5.7.26\n"
                     "Remote-MTA: dns; mx.far.example\n"
                     "Diagnostic-Code: smtp; 550 5.7.26 not from you\n"
                     "Last-Attempt-Date: Sun, 9 Sep 2001 01:46:40 ");
    send_one(w, "ok@virtual.example", ENV_NOTIFY_SUCCESS, ENV_RET_NONE);
    assert_has(buf_cstr(&w->last),
               "Action: relayed\nStatus: 2.6.0\nRemote-MTA: dns; mx.far.");
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    /* A host that knows DSN reports by itself. */
    send_one(w, "dsn@virtual.example", ENV_NOTIFY_SUCCESS, ENV_RET_NONE);
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    assert_int_equal(world_count(w), 0);
}

RUN(foreign, "");

/* The warning, and the good news after it; both belong to the original. */
static void cleared_in(struct world *w)
{
    struct envelope_rcpt v[] = { { .addr = SL("late@virtual.example") },
                                 { .addr = SL("late2@virtual.example"),
                                   .notify = ENV_NOTIFY_FAILURE } };
    struct envelope e = { .sender = SL("a@virtual.example"),
                          .message_id = SL("<1@there.example>"),
                          .rcpts = v,
                          .n_rcpts = 2 };

    begin(w);
    w->answer = far;
    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
    world_advance(2 * HOUR);
    world_settle(w);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_has(buf_cstr(&w->last), "Subject: Delayed Mail");
    assert_has(buf_cstr(&w->last), "\nAction: delayed\nStatus: 4.2.1\n");
    assert_has(buf_cstr(&w->last), "\nWill-Retry-Until: ");
    assert_has(buf_cstr(&w->last), "\nReferences: <1@there.example>\n"
                                   "In-Reply-To: <1@there.example>\n");
    assert_has_not(buf_cstr(&w->last), "late2@");
    w->answer = NULL;
    world_advance(5 * HOUR);
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    assert_has(buf_cstr(&w->last), "Subject: Successful Mail Delivery");
    assert_has(buf_cstr(&w->last), "\nAction: delivered\n");
    assert_has_not(buf_cstr(&w->last), "late2@");
}

RUN(cleared, "delay_warning_time = 1h\nconfirm_delay_cleared = yes\n"
             "enable_threaded_bounces = yes\n");

/* A bounce that fails is dropped, unless the postmaster wants to know. */
static void null_sender_in(struct world *w)
{
    begin(w);
    world_mail(w, "", "no@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->n_asked, 1);
    world_mail(w, "no-return@virtual.example", "no@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->n_asked, 3); /* the message, its bounce */
}

RUN(null_sender, "");

static void double_bounce_in(struct world *w)
{
    begin(w);
    world_mail(w, "no-return@virtual.example", "no@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "pm2@virtual.example"), 1);
    assert_string_equal(world_last(w, "pm2@virtual.example")->sender,
                        "twice@hato.example.com");
    assert_has(buf_cstr(&w->last),
               "Subject: Postmaster Copy: Undelivered Mail\n");
    assert_has(buf_cstr(&w->last), "<no-return@virtual.example>: unknown");
    assert_has(world_log(w), ": postmaster non-delivery notification: ");
}

RUN(double_bounce, "notify_classes = 2bounce\ndouble_bounce_sender = twice\n"
                   "2bounce_notice_recipient = pm2@virtual.example\n");

/* A notice to the postmaster that fails ends there. */
static void triple_in(struct world *w)
{
    begin(w);
    world_mail(w, "no-return@virtual.example", "no@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->n_asked, 3);
    assert_has(world_log(w), "undeliverable postmaster notification discarded");
}

RUN(triple, "notify_classes = 2bounce\n"
            "2bounce_notice_recipient = nobody@virtual.example\n");

static void copy_in(struct world *w)
{
    begin(w);
    world_mail(w, "a@virtual.example", "no@virtual.example");
    world_settle(w);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_int_equal(world_asked(w, "pm@virtual.example"), 1);
    assert_int_equal(world_count(w), 0);
}

RUN(copy, "notify_classes = bounce\n"
          "bounce_notice_recipient = pm@virtual.example\n");

static void size_in(struct world *w)
{
    struct envelope e = { .sender = SL("a@virtual.example") };
    struct buf b;

    begin(w);
    buf_init(&b, 1 << 20);
    (void)buf_puts(&b, "Subject: big\nX-Two: 2\n\n");
    for (int i = 0; i < 100; i++)
        (void)buf_puts(&b, "0123456789\n");
    world_mail_of(w, &e, "no@virtual.example", buf_view(&b));
    world_settle(w);
    assert_has(buf_cstr(&w->last), "text/rfc822-headers");
    assert_has(buf_cstr(&w->last), "\nSubject: big\nX-Two: 2\n\n--");
    assert_has_not(buf_cstr(&w->last), "0123456789");
    buf_done(&b);
}

RUN(size, "bounce_size_limit = 1000\nmail_name = Mailer\n");

/* A large message goes back whole when it may, through a file of its own. */
static void large_in(struct world *w)
{
    struct envelope e = { .sender = SL("a@virtual.example"),
                          .flags = ENV_8BIT_BODY };
    struct buf b;

    begin(w);
    buf_init(&b, 8 << 20);
    (void)buf_puts(&b, "Subject: big\n\n");
    for (int i = 0; i < 100000; i++)
        (void)buf_printf(&b, "%d \xc3\xa4\n", i);
    world_mail_of(w, &e, "no@virtual.example", buf_view(&b));
    world_settle(w);
    assert_true(slice_find(buf_view(&w->last), buf_view(&b)) > 0);
    assert_has(buf_cstr(&w->last), "Content-Transfer-Encoding: 8bit\n");
    buf_done(&b);
}

RUN(large, "bounce_size_limit = 10000000\n");

static char wordy_text[3900];

static void wordy(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    if (strncmp(r->addr, "no", 2) == 0)
        *out = (struct told){ .outcome = OUT_BOUNCED,
                              .status = "5.1.1",
                              .diag = wordy_text };
}

/* More failures than one report can tell of. */
static void many_in(struct world *w)
{
    struct buf b;

    begin(w);
    w->answer = wordy;
    w->keep_last = false;
    memset(wordy_text, 'x', sizeof wordy_text - 1);
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 4600; i++)
        (void)buf_printf(&b, "no%d@virtual.example ", i);
    world_mail(w, "a@virtual.example", buf_cstr(&b));
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    assert_int_equal(world_asked(w, "no0@virtual.example"), 1);
    buf_done(&b);
}

RUN(many, "");

/* Deferred and failed at once: the report tells the failed one only. */
static void mixed_in(struct world *w)
{
    begin(w);
    world_mail(w, "a@virtual.example",
               "later@virtual.example no@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 1);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_has_not(buf_cstr(&w->last), "later@");
    world_close(w);
    world_open(w, "");
    world_advance(HOUR);
    w->answer = NULL;
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "later@virtual.example"), 2);
    assert_int_equal(world_asked(w, "no@virtual.example"), 1);
}

RUN(mixed, "");

/* -------------------------------------------------------------- expansions */

static void aliases(struct world *w, const struct asked *r, struct told *out)
{
    static const struct {
        const char *name;
        const char *owner;
        const char *members[4];
    } table[] = {
        { "all",
          NULL,
          { "x@virtual.example", "y@virtual.example", "sub@local.example" } },
        { "sub", NULL, { "y@virtual.example", "z@virtual.example" } },
        { "self", NULL, { "self@local.example", "x@virtual.example" } },
        { "list",
          "owner-list@virtual.example",
          { "x@virtual.example", "no@virtual.example" } },
        { "single", NULL, { "x@virtual.example" } },
        { "cmd",
          NULL,
          { "\001C\0011\0011\0011\001u\001/home/u\001/bin/x a@b" } },
    };

    picky(w, r, out);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        size_t n = strlen(table[i].name);

        if (strncmp(r->addr, table[i].name, n) != 0 || r->addr[n] != '@' ||
            strchr(r->path, '\n') != NULL)
            continue;
        out->outcome = OUT_EXPANDED;
        memcpy(out->members, table[i].members, sizeof(table[i].members));
        out->owner = table[i].owner;
    }
    if (strncmp(r->addr, "loop", 4) == 0) {
        static char names[200][32];

        (void)snprintf(names[r->depth % 200], 32, "loop%u@local.example",
                       r->depth);
        *out = (struct told){ .outcome = OUT_EXPANDED,
                              .members = { names[r->depth % 200] } };
    }
}

/* Everybody once, however often he is named. */
static void nested_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    world_mail(w, "a@virtual.example", "all@local.example z@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "x@virtual.example"), 1);
    assert_int_equal(world_asked(w, "y@virtual.example"), 1);
    assert_int_equal(world_asked(w, "z@virtual.example"), 1);
    assert_string_equal(world_last(w, "x@virtual.example")->path,
                        "all@local.example\nx@virtual.example");
    assert_string_equal(world_last(w, "x@virtual.example")->orig,
                        "all@local.example");
    assert_int_equal(world_last(w, "x@virtual.example")->depth, 1);
}

RUN(nested, "");

static void self_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    world_mail(w, "a@virtual.example", "self@local.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "self@local.example"), 2);
    assert_string_equal(world_last(w, "self@local.example")->path,
                        "self@local.example\nself@local.example");
    assert_string_not_equal(w->asked[0].id,
                            world_last(w, "self@local.example")->id);
    assert_int_equal(world_asked(w, "x@virtual.example"), 1);
}

RUN(self, "");

/* Failures of a list's members go to its owner. */
static void owner_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    world_mail(w, "a@virtual.example", "list@local.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_string_equal(world_last(w, "x@virtual.example")->sender,
                        "owner-list@virtual.example");
    assert_int_equal(world_asked(w, "a@virtual.example"), 0);
    assert_int_equal(world_asked(w, "owner-list@virtual.example"), 1);
    assert_has(buf_cstr(&w->last), "<no@virtual.example> (expanded from "
                                   "<list@local.example>): unknown user");
}

RUN(owner, "");

static void loop_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    world_mail(w, "a@virtual.example", "loop@local.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_has(buf_cstr(&w->last), "\nStatus: 5.4.6\n");
    assert_has(world_log(w), "status=bounced (mail forwarding loop for ");
    assert_in_range(w->n_asked, 100, 103);
}

RUN(loop, "");

/* A command made of an alias goes to `local` as it is; from outside it is no
 * address. */
static void special_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    world_mail(w, "a@virtual.example", "cmd@virtual.example");
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->n_asked, 2);
    assert_string_equal(w->asked[1].transport, "local");
    assert_int_equal(w->asked[1].addr[0], 1);
    world_mail(w, "a@virtual.example", "\001Ca@virtual.example");
    world_settle(w);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_has(world_log(w), "dsn=5.1.3, status=bounced (bad address syntax)");
}

RUN(special, "");

/* RFC 3461 5.2.7: a list is reported as expanded, an alias hands on. */
static void success_expanded_in(struct world *w)
{
    begin(w);
    w->answer = aliases;
    send_one(w, "all@local.example", ENV_NOTIFY_SUCCESS, ENV_RET_NONE);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 1);
    assert_has(buf_cstr(&w->last), "\nAction: expanded\n");
    assert_int_equal(world_last(w, "x@virtual.example")->notify,
                     ENV_NOTIFY_NEVER);
    send_one(w, "single@local.example", ENV_NOTIFY_SUCCESS, ENV_RET_NONE);
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    assert_has(buf_cstr(&w->last), "\nAction: delivered\n");
    assert_has(buf_cstr(&w->last), "rfc822; x@virtual.example");
}

RUN(success_expanded, "");

/* ------------------------------------------------------------------- VERP */

static void verp_mail(struct world *w)
{
    struct envelope_rcpt v[] = {
        { .addr = SL("ok@virtual.example") },
        { .addr = SL("no@virtual.example"), .orig = SL("No@there.example") },
        { .addr = SL("no2@virtual.example") },
    };
    struct envelope e = { .sender = SL("list@virtual.example"),
                          .verp = SL("+="),
                          .rcpts = v,
                          .n_rcpts = 3 };

    begin(w);
    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
}

static void verp_in(struct world *w)
{
    verp_mail(w);
    assert_int_equal(world_count(w), 0);
    assert_string_equal(world_last(w, "ok@virtual.example")->sender,
                        "list+ok=virtual.example@virtual.example");
    assert_string_equal(world_last(w, "no@virtual.example")->sender,
                        "list+No=there.example@virtual.example");
    assert_int_equal(world_asked(w, "list+No=there.example@virtual.example"),
                     1);
    assert_int_equal(world_asked(w, "list+no2=virtual.example@virtual.example"),
                     1);
    assert_int_equal(world_asked(w, "list@virtual.example"), 0);
}

RUN(verp, "");

static void verp_one_in(struct world *w)
{
    verp_mail(w);
    assert_int_equal(world_asked(w, "list@virtual.example"), 1);
    assert_has(buf_cstr(&w->last), "<no@virtual.example>");
    assert_has(buf_cstr(&w->last), "<no2@virtual.example>");
    assert_string_equal(world_last(w, "ok@virtual.example")->sender,
                        "list+ok=virtual.example@virtual.example");
}

RUN(verp_one, "disable_verp_bounces = yes\n");

/* It is remembered over a restart, and by what an alias becomes. */
static void verp_kept_in(struct world *w)
{
    struct envelope_rcpt v[] = { { .addr = SL("all@local.example") } };
    struct envelope e = { .sender = SL("list@virtual.example"),
                          .verp = SL("-="),
                          .rcpts = v,
                          .n_rcpts = 1 };
    const char *want = "list-all=local.example@virtual.example";

    w->answer = aliases;
    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
    assert_string_equal(world_last(w, "x@virtual.example")->sender, want);
    w->answer = far;
    v[0].addr = SL("late@virtual.example");
    e = (struct envelope){ .sender = SL("list@virtual.example"),
                           .verp = SL("-="),
                           .rcpts = v,
                           .n_rcpts = 1 };
    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
    world_close(w);
    world_open(w, "");
    w->n_asked = 0;
    world_advance(HOUR);
    world_settle(w);
    assert_string_equal(world_last(w, "late@virtual.example")->sender,
                        "list-late=virtual.example@virtual.example");
}

RUN(verp_kept, "");

/* -------------------------------------------------------------- sendmail -v */

static void traced(struct world *w, uint32_t flags)
{
    struct envelope_rcpt v[] = { { .addr = SL("ok@virtual.example") },
                                 { .addr = SL("later@virtual.example") },
                                 { .addr = SL("no@virtual.example") } };
    struct envelope e = { .sender = SL("a@virtual.example"),
                          .flags = flags,
                          .rcpts = v,
                          .n_rcpts = 3 };

    begin(w);
    world_mail_of(w, &e, "", SL("Subject: one\n\nsecret\n"));
    world_settle(w);
}

static void probe_in(struct world *w)
{
    traced(w, ENV_VERIFY);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(w->n_asked, 4);
    assert_has(buf_cstr(&w->last), "Subject: Mail Delivery Status Report\n");
    assert_has(buf_cstr(&w->last), "\nAction: deliverable\nStatus: 2.0.0\n");
    assert_has(buf_cstr(&w->last), "\nAction: undeliverable\nStatus: 4.2.2\n");
    assert_has(buf_cstr(&w->last), "\nAction: undeliverable\nStatus: 5.1.1\n");
}

RUN(probe, "");

static void trace_in(struct world *w)
{
    traced(w, ENV_TRACE);
    assert_int_equal(world_count(w), 1);
    /* The report of the attempt, and the bounce. */
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    w->answer = NULL;
    world_advance(HOUR);
    world_settle(w);
    assert_int_equal(world_count(w), 0);
    assert_int_equal(world_asked(w, "a@virtual.example"), 2);
    assert_int_equal(world_asked(w, "ok@virtual.example"), 1);
}

RUN(trace, "");

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report),
        cmocka_unit_test(notify),
        cmocka_unit_test(success),
        cmocka_unit_test(null_sender),
        cmocka_unit_test(double_bounce),
        cmocka_unit_test(triple),
        cmocka_unit_test(copy),
        cmocka_unit_test(size),
        cmocka_unit_test(large),
        cmocka_unit_test(mixed),
        cmocka_unit_test(many),
        cmocka_unit_test(nested),
        cmocka_unit_test(self),
        cmocka_unit_test(owner),
        cmocka_unit_test(loop),
        cmocka_unit_test(special),
        cmocka_unit_test(success_expanded),
        cmocka_unit_test(foreign),
        cmocka_unit_test(cleared),
        cmocka_unit_test(verp),
        cmocka_unit_test(verp_one),
        cmocka_unit_test(verp_kept),
        cmocka_unit_test(probe),
        cmocka_unit_test(trace),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
