/*
 * auth's side of its line protocol: whatever a client sends, the answers are
 * lines, nobody signs in without the password, and nothing stays behind.
 */
#include "auth/auth_priv.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct process process;
static struct auth *auth;
static slice input;

MAY_WAIT static void drain(int fd, struct buf *seen)
{
    char text[4096];
    ssize_t n;

    while ((n = read(fd, text, sizeof text)) > 0)
        (void)buf_put(seen, text, (size_t)n);
}

MAY_WAIT static void client(void *arg)
{
    struct buf seen;
    size_t done = 0;
    int fds[2];

    (void)arg;
    buf_init(&seen, 8u << 20);
    CHECK(chan_socketpair(fds, NULL) == 0);
    auth_on_peer(auth, PT_LOGIN, fds[1]);
    CHECK(write(fds[0], "VERSION\t1\t2\nCPID\t1\n", 19) == 19);
    while (done < input.n) {
        size_t step = min_size(input.n - done, 700);
        ssize_t n = write(fds[0], input.p + done, step);

        if (n <= 0)
            break;
        done += (size_t)n;
        task_yield();
        task_yield();
        drain(fds[0], &seen);
    }
    for (int i = 0; i < 5; i++) {
        (void)task_sleep(1, NULL);
        drain(fds[0], &seen);
    }
    close(fds[0]);
    while (auth->n_peers > 0 || auth->n_requests > 0)
        (void)task_sleep(1, NULL);
    CHECK(seen.n == 0 || seen.p[seen.n - 1] == '\n' || seen.overflow);
    /* The password is a hash of 128 random bits. */
    CHECK(slice_find(buf_view(&seen), SL("\nOK\t")) < 0);
    buf_done(&seen);
    loop_stop();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tables *tables;
    struct err err;

    loop_init("fuzz", 1);
    process.conf = conf_from_text(
        SL("compatibility_level = 3.6\nauth_failure_delay = 0\n"
           "auth_username_chars =\n"
           "auth_mechanisms = plain login scram-sha-256 scram-sha-1 "
           "scram-sha-256-plus scram-sha-1-plus\n"
           "passdb = inline:{ {tomo={PLAIN}8f14e45fceea167a5a36dedd4bea2543} }\n"),
        SLICE_NONE, NULL);
    tables = tables_new();
    tables_set_direct(tables, NULL);
    if (auth_new(&process, tables, &auth, &err) < 0)
        panic("%s", err.log);
    buf_clear(&auth->usual);
    (void)buf_puts(&auth->usual, "{PLAIN}x");
    reputation_free(&auth->reputation);
    auth->reputation = reputation_new(1); /* nobody waits long */
    input = slice_of(data, size);
    task_spawn("client", client, NULL);
    loop_run();
    auth_free(&auth);
    tables_free(&tables);
    conf_unref(&process.conf);
    loop_done();
    return 0;
}
