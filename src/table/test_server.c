#include "table/test_util.h"

#include "ipc/chan.h"
#include "ipc/proto.h"

/* The `tables` process's answers over a channel, and socketmap and tcp servers
 * as it asks them. */

struct world {
    struct bench b;
    struct table_server *server;
    struct chan *client;
    struct chan *other;
    slice passwd;
    int socketmap_fd;
    int n_done;
};

static void client_closed(struct chan *c, void *arg)
{
    (void)c;
    (void)arg;
}

static void no_message(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    (void)m;
    (void)arg;
}

static const struct chan_ops client_ops = { .on_msg = no_message,
                                            .on_close = client_closed };

static const char *lookup(struct world *w, slice table, const char *key)
{
    struct msg answer;
    struct buf body;
    struct err err;
    slice value;
    const char *out = NULL;

    buf_init(&body, 4096);
    attr_put(&body, AT_TABLE, table);
    attr_put_str(&body, AT_KEY, key);
    if (chan_call(w->client, TABLES_LOOKUP, buf_view(&body), NULL, 0,
                  clock_after(5000), &answer, &err) < 0) {
        out = arena_printf(w->b.arena, "!%s", err.log);
    } else {
        if (attr_find(answer.body, AT_VALUE, &value))
            out = slice_cstr(w->b.arena, value);
        msg_free(&answer);
    }
    buf_done(&body);
    return out;
}

static void ask_all(void *arg)
{
    struct world *w = arg;
    const char *got;

    assert_answer(lookup(w, w->passwd, "joe@x"), "joe@x::1:2::/h", "joe");
    assert_answer(lookup(w, w->passwd, "ann@x"), NULL, "ann");
    got = lookup(w, SL("unix:passwd.byname"), "root");
    assert_non_null(got);
    assert_int_equal(strncmp(got, "root:", 5), 0);
    assert_null(lookup(w, SL("unix:passwd.byname"), "no-such-user"));
    /* What the configuration does not name is not served. */
    got = lookup(w, SL("passwd-file:/etc/passwd"), "root");
    assert_non_null(strstr(got, "not one of the configuration"));
    got = lookup(w, SL("hash:/etc/aliases"), "root");
    assert_int_equal(got[0], '!');
    w->n_done++;
    loop_stop();
}

static void test_lookups(void **state)
{
    struct world w = { .n_done = 0 };
    struct conf *c;
    struct err err;
    int fds[2];
    const char *text;

    (void)state;
    loop_init("test", 1);
    bench_init(&w.b);
    w.passwd = bench_file(&w.b, 0, "passwd-file", "joe@x::1:2::/h\n");
    text =
        arena_printf(w.b.arena, "virtual_mailbox_maps = %.*s\n", SLF(w.passwd));
    c = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    w.server = table_server_new(w.b.tables);
    table_server_set_conf(w.server, c);
    assert_int_equal(chan_socketpair(fds, &err), 0);
    w.client = chan_new(fds[0], &client_ops, &w);
    w.other = chan_new(fds[1], table_server_ops(), w.server);
    task_spawn("test", ask_all, &w);
    loop_run();
    assert_int_equal(w.n_done, 1);
    chan_free(&w.client);
    chan_free(&w.other);
    table_server_free(&w.server);
    conf_unref(&c);
    bench_done(&w.b);
    loop_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
