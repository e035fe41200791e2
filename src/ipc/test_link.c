#include "ipc/bchan.h"
#include "ipc/chan_priv.h"
#include "ipc/ipc.h"
#include "rt/rt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A master in the same process: it gives every MASTER_CONNECT a connection to
 * the newest of the servers below. */
static struct process p;
static struct chan *master;
static struct chan *server[8];
static unsigned n_servers, n_up, n_down, refuse;
static uint64_t slot;    /* that was asked for */
static uint32_t held_id; /* a call that the first server answers late */

static void server_msg(struct chan *c, struct msg *m, void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    char text[8];

    if (m->type == 99) {
        held_id = m->id;
        return;
    }
    (void)snprintf(text, sizeof text, "s%u", me);
    chan_answer(c, m->id, slice_str(text), NULL, 0);
}

static void server_close(struct chan *c UNUSED, void *arg)
{
    chan_free(&server[(uintptr_t)arg]);
}

static const struct chan_ops server_ops = { .on_msg = server_msg,
                                            .on_close = server_close };

static void master_msg(struct chan *c, struct msg *m, void *arg UNUSED)
{
    struct err err;
    int fds[2];

    assert_int_equal(m->type, MASTER_CONNECT);
    slot = attr_u64_or(m->body, AT_SLOT, 0);
    if (refuse > 0) {
        refuse--;
        err_temp(&err, "not running");
        chan_fail(c, m->id, &err);
        return;
    }
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    server[n_servers] =
        chan_new(fds[0], &server_ops, (void *)(uintptr_t)n_servers);
    n_servers++;
    chan_answer(c, m->id, SLICE_NONE, &fds[1], 1);
    close(fds[1]);
}

static const struct chan_ops master_ops = { .on_msg = master_msg };
static const struct chan_ops quiet_ops = { .on_msg = NULL };

static void link_down(struct chan *c UNUSED, void *arg)
{
    assert_string_equal(arg, "mine");
    n_down++;
}

static const struct chan_ops link_ops = { .on_close = link_down };

static void up(struct link *l, void *arg)
{
    assert_string_equal(arg, "mine");
    assert_non_null(link_chan(l));
    n_up++;
}

static void expect(struct link *l, const char *text)
{
    struct msg answer;
    struct err err;

    assert_int_equal(link_call(l, 50, SLICE_NONE, NULL, 0, clock_after(5000),
                               &answer, &err),
                     0);
    assert_true(slice_eqs(answer.body, text));
    msg_free(&answer);
}

static bool late_done;

static void late_call(void *arg)
{
    struct msg answer;
    struct err err;

    assert_int_equal(link_call(arg, 99, SLICE_NONE, NULL, 0, clock_after(5000),
                               &answer, &err),
                     0);
    assert_true(slice_eqs(answer.body, "late"));
    msg_free(&answer);
    late_done = true;
}

static void body(void *arg UNUSED)
{
    char mine[] = "mine";
    struct link *l = link_new(&p, PT_QMGR, &link_ops, mine, up);
    struct err err;

    assert_int_equal(link_send(l, 1, SLICE_NONE, NULL, 0, &err), -1);
    expect(l, "s0"); /* after two refusals of master */
    assert_int_equal(n_up, 1);

    /* A server that goes: a new connection by itself. */
    chan_free(&server[0]);
    while (n_down == 0 && task_sleep(2, &err) == 0)
        ;
    expect(l, "s1");
    assert_int_equal(n_up, 2);

    /* Goodbye: new calls go elsewhere, the open one is answered still. */
    task_spawn("late", late_call, l);
    while (held_id == 0 && task_sleep(2, &err) == 0)
        ;
    chan_bye(server[1]);
    while (n_up < 3 && task_sleep(2, &err) == 0)
        ;
    expect(l, "s2");
    assert_non_null(server[1]);
    chan_answer(server[1], held_id, SL("late"), NULL, 0);
    while (server[1] != NULL && task_sleep(2, &err) == 0)
        ; /* the link closes what owes it nothing */
    assert_true(late_done);
    assert_int_equal(n_down, 1);
    link_free(&l);
    chan_free(&server[2]);
    chan_free(&p.master);
    chan_free(&master);
    loop_stop();
}

/* Connects when it is first needed, not before, and after a break again when
 * it is needed again; it says which of several it wants. */
static void lazy_body(void *arg UNUSED)
{
    char mine[] = "mine";
    struct link *l = link_new_lazy(&p, PT_SMTP, 3, &link_ops, mine, up);
    struct err err;

    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(n_up, 0);
    expect(l, "s0");
    assert_int_equal(n_up, 1);
    assert_int_equal(slot, 3);
    chan_free(&server[0]);
    while (n_down == 0 && task_sleep(2, &err) == 0)
        ;
    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(n_servers, 1);
    expect(l, "s1");
    chan_bye(server[1]);
    assert_int_equal(task_sleep(30, &err), 0);
    assert_int_equal(n_servers, 2);
    expect(l, "s2");
    link_free(&l);
    chan_free(&server[2]);
    chan_free(&p.master);
    chan_free(&master);
    loop_stop();
}

static void run(void (*body_of)(void *arg), unsigned n_refused)
{
    int fds[2];

    n_servers = n_up = n_down = 0;
    held_id = 0;
    loop_init("test", 1);
    assert_int_equal(chan_socketpair(fds, NULL), 0);
    refuse = n_refused;
    p.master = chan_new(fds[0], &quiet_ops, NULL);
    master = chan_new(fds[1], &master_ops, NULL);
    task_spawn("test", body_of, NULL);
    loop_run();
    loop_done();
}

static void links_reconnect_and_say_goodbye(void **state UNUSED)
{
    run(body, 2);
}

static void a_lazy_link_waits_until_it_is_needed(void **state UNUSED)
{
    run(lazy_body, 0);
}

static void the_blocking_face(void **state UNUSED)
{
    struct bchan a = { .fd = -1 }, b = { .fd = -1 };
    struct msg m;
    struct err err;
    int fds[2];

    assert_int_equal(chan_socketpair(fds, NULL), 0);
    assert_int_equal(bchan_open(&a, fds[0], &err), 0);
    assert_int_equal(bchan_open(&b, fds[1], &err), 0);
    assert_int_equal(bchan_send(&a, 7, SL("one"), &err), 0);
    assert_int_equal(bchan_answer(&a, 1, SL("answer"), &err), 0);
    assert_int_equal(bchan_fill(&b, &err), 0);
    assert_int_equal(bchan_next(&b, &m), 1);
    assert_int_equal(m.type, 7);
    assert_true(slice_eqs(m.body, "one"));
    msg_free(&m);
    /* The answer waits in the buffer already. */
    assert_int_equal(bchan_call(&b, 8, SL("ask"), 1000, &m, &err), 0);
    assert_true(slice_eqs(m.body, "answer"));
    msg_free(&m);
    assert_int_equal(bchan_call(&b, 8, SL("ask"), 20, &m, &err), -1);
    assert_string_equal(err.log, "no answer");
    err_perm(&err, "never");
    assert_int_equal(bchan_fail(&a, 1, &err), 0);
    assert_int_equal(bchan_call(&b, 8, SL("ask"), 1000, &m, &err), -1);
    assert_int_equal(err.class, ERR_PERM);
    bchan_close(&a);
    assert_int_equal(bchan_call(&b, 8, SL("ask"), 1000, &m, &err), -1);
    bchan_close(&b);
    bchan_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_reconnect_and_say_goodbye),
        cmocka_unit_test(a_lazy_link_waits_until_it_is_needed),
        cmocka_unit_test(the_blocking_face),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
