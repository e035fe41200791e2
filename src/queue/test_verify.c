#include "queue/test_util_queue.h"

#include "ipc/ipc.h"

#include <sys/socket.h>

#define RUN(name, conf)                                                        \
 static void name(void **state)                                                \
 {                                                                             \
  (void)state;                                                                 \
  world_run(conf, name##_in);                                                  \
 }                                                                             \
 static_assert(1, "")

/* smtpd's end of a channel to the queue. */
static struct world *world;

static void on_msg(struct chan *c, struct msg *m, void *arg)
{
    (void)arg;
    assert_int_equal(m->type, VERIFY_ASK);
    queue_verify(world->q, c, m);
}

static const struct chan_ops server_ops = { .on_msg = on_msg };
static const struct chan_ops client_ops = { .on_msg = NULL };

static char text[600];

/* What the queue says of an address now. */
static enum verify_status say(struct world *w, const char *addr)
{
    struct chan *server;
    struct chan *client;
    struct msg answer;
    struct err err;
    struct buf b;
    slice t = SLICE_NONE;
    uint64_t status;
    int fds[2];

    world = w;
    assert_int_equal(chan_socketpair(fds, &err), 0);
    server = chan_new(fds[0], &server_ops, NULL);
    client = chan_new(fds[1], &client_ops, NULL);
    buf_init(&b, 4096);
    (void)attr_put_str(&b, AT_ADDR, addr);
    if (chan_call(client, VERIFY_ASK, buf_view(&b), NULL, 0, MSEC_NEVER,
                  &answer, &err) < 0)
        fail_msg("%s", err.log);
    assert_true(attr_find_u64(answer.body, AT_VERIFY, &status));
    (void)attr_find(answer.body, AT_TEXT, &t);
    assert_true(slice_copy_to(t, text, sizeof(text)));
    msg_free(&answer);
    buf_done(&b);
    chan_free(&client);
    chan_free(&server);
    return (enum verify_status)status;
}

static void picky(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    if (strncmp(r->addr, "no", 2) == 0)
        *out = (struct told){ .outcome = OUT_BOUNCED,
                              .status = "5.1.1",
                              .remote_mta = "dns; mx.example",
                              .diag = "smtp; 550 5.1.1 nobody" };
    else if (strncmp(r->addr, "later", 5) == 0)
        *out = (struct told){ .outcome = OUT_DEFERRED,
                              .status = "4.2.2",
                              .diag = "full" };
}

static void known_in(struct world *w)
{
    w->answer = picky;
    assert_int_equal(say(w, "ok@virtual.example"), VERIFY_TODO);
    assert_string_equal(text, "Address verification in progress");
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_TODO);
    assert_int_equal(say(w, "later@virtual.example"), VERIFY_TODO);
    world_settle(w);
    assert_int_equal(say(w, "ok@virtual.example"), VERIFY_OK);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_BOUNCE);
    assert_string_equal(text, "host mx.example said: 550 5.1.1 nobody");
    assert_int_equal(say(w, "later@virtual.example"), VERIFY_DEFER);
    assert_int_equal(w->n_asked, 3);
    assert_string_equal(world_last(w, "ok@virtual.example")->sender,
                        "twice@there.example");
    assert_int_equal(world_count(w), 0);
    /* Nobody serves it, and where a table fails. */
    assert_int_equal(say(w, "x@far.example"), VERIFY_TODO);
    assert_int_equal(say(w, "x@table.example"), VERIFY_TODO);
    world_settle(w);
    assert_int_equal(say(w, "x@far.example"), VERIFY_DEFER);
    assert_string_equal(text, "mail transport unavailable");
    assert_int_equal(say(w, "x@table.example"), VERIFY_DEFER);
    assert_int_equal(w->n_asked, 3);
}

RUN(known, "address_verify_sender = twice@there.example\n");

/* Refreshed while it is used, forgotten when nobody could say again. */
static void ages_in(struct world *w)
{
    w->answer = NULL;
    (void)say(w, "no@virtual.example");
    world_settle(w);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_OK);
    assert_int_equal(w->n_asked, 1);
    world_advance(8 * DAY);
    w->answer = picky;
    /* The old answer, and a new probe; its failure does not count yet. */
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_OK);
    world_settle(w);
    assert_int_equal(w->n_asked, 2);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_OK);
    world_settle(w);
    world_advance(31 * DAY);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_TODO);
    world_settle(w);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_BOUNCE);
    /* A failure is asked again after three hours, and by then better. */
    w->n_asked = 0;
    world_advance(2 * HOUR);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_BOUNCE);
    world_settle(w);
    assert_int_equal(w->n_asked, 0);
    world_advance(2 * HOUR);
    w->answer = NULL;
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_BOUNCE);
    world_settle(w);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_OK);
    assert_int_equal(w->n_asked, 1);
}

RUN(ages, "");

static void kept_in(struct world *w)
{
    w->answer = picky;
    (void)say(w, "ok@virtual.example");
    (void)say(w, "no@virtual.example");
    world_settle(w);
    world_close(w);
    world_open(w, "");
    w->n_asked = 0;
    assert_int_equal(say(w, "ok@virtual.example"), VERIFY_OK);
    assert_int_equal(say(w, "no@virtual.example"), VERIFY_BOUNCE);
    assert_string_equal(text, "host mx.example said: 550 5.1.1 nobody");
    assert_int_equal(w->n_asked, 0);
    world_close(w);
    /* In memory only. */
    world_open(w, "address_verify_map =\n");
    assert_int_equal(say(w, "ok@virtual.example"), VERIFY_TODO);
    world_settle(w);
    assert_int_equal(say(w, "ok@virtual.example"), VERIFY_OK);
}

RUN(kept, "");

static void no_negative_in(struct world *w)
{
    w->answer = picky;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(say(w, "no@virtual.example"), VERIFY_TODO);
        world_settle(w);
    }
    assert_int_equal(w->n_asked, 3);
}

RUN(no_negative, "address_verify_negative_cache = no\n");

static void limit_in(struct world *w)
{
    unsigned n_over = 0;
    char addr[64];

    w->answer = picky;
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(addr, sizeof(addr), "u%u@virtual.example", i);
        n_over += say(w, addr) == VERIFY_OVERLOAD;
    }
    world_settle(w);
    /* Probes run while we ask: not all are too many. */
    assert_in_range(w->n_asked, 2, 200);
    assert_int_equal(w->n_asked + n_over, 200);
}

RUN(limit, "address_verify_pending_request_limit = 2\n");

static void sender_is(const char *main_cf, msec now, const char *want)
{
    struct conf *c = conf_from_text(slice_str(main_cf), SL(""), NULL);
    struct buf b;

    buf_init(&b, 1000);
    queue_verify_sender(c, now, &b);
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
    conf_unref(&c);
}

static void senders(void **state)
{
    (void)state;
    sender_is("myhostname = h.example\nmyorigin = o.example\n", 1,
              "double-bounce@o.example");
    sender_is("address_verify_sender = <>\n", 1, "");
    sender_is("address_verify_sender =\n", 1, "");
    sender_is("address_verify_sender = a@b.example\n"
              "address_verify_sender_ttl = 100s\n",
              3200000, "a11@b.example");
}

/*
 * covers: address_verify_sender address_verify_sender_ttl address_verify_map
 * covers: address_verify_positive_expire_time
 * covers: address_verify_positive_refresh_time
 * covers: address_verify_negative_expire_time
 * covers: address_verify_negative_refresh_time address_verify_negative_cache
 * covers: address_verify_pending_request_limit
 * covers: address_verify_cache_cleanup_interval
 */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known), cmocka_unit_test(ages),
        cmocka_unit_test(kept),  cmocka_unit_test(no_negative),
        cmocka_unit_test(limit), cmocka_unit_test(senders),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
