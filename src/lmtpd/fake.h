#ifndef LMTPD_FAKE_H
#define LMTPD_FAKE_H

/*
 * For the test and the fuzzer of lmtpd: users, workers and syncs that are made
 * up.  The functions of rooms user, lmtp and ipc that lmtpd uses are defined
 * here, so the linker takes these and not the rooms' own.
 */
#include "lmtpd/lmtpd_priv.h"

#include <sys/socket.h>

struct lmtp_worker {
    int number;
};

static struct {
    struct lmtpd *server;
    struct process process;
    struct tables *tables;
    struct buf delivered; /* "user: whole message" of each recipient */
    size_t n_workers_out;
    size_t n_syncs;
    bool fails_sync;
} fake;

int users_new(const struct conf *conf, struct tables *tables, bool is_root_mode,
              struct users **out, struct err *err)
{
    (void)conf;
    (void)tables;
    (void)is_root_mode;
    (void)out;
    (void)err;
    return 0;
}

void users_free(struct users **u)
{
    *u = NULL;
}

/* "temp" cannot be looked up; names with "no" are not there. */
int users_any(struct users *u, slice name, struct arena *a,
              struct user_place *out, bool *found, struct err *err)
{
    (void)u;
    if (slice_starts(name, SL("temp")))
        return err_temp(err, "a table is gone");
    *found = slice_find(name, SL("no")) < 0;
    *out = (struct user_place){ .uid = 1000 + (name.n & 1),
                                .user = slice_dup(a, name),
                                .account = slice_dup(a, name),
                                .mail = SL("maildir:/x") };
    return 0;
}

struct lmtp_syncs *lmtp_syncs_new(struct link *broker, bool hurry)
{
    (void)broker;
    (void)hurry;
    return NULL;
}

uint64_t lmtp_syncs_generation(const struct lmtp_syncs *s)
{
    (void)s;
    return 0;
}

void lmtp_syncs_coming(UNUSED struct lmtp_syncs *s, UNUSED int change)
{
}

int lmtp_sync(struct lmtp_syncs *s, uint64_t fs, uint64_t since,
              struct err *err)
{
    (void)s;
    (void)fs;
    (void)since;
    fake.n_syncs++;
    task_yield();
    return fake.fails_sync ? err_temp(err, "the disk is gone") : 0;
}

struct lmtp_workers *lmtp_workers_new(struct link *broker,
                                      struct lmtp_syncs *syncs)
{
    (void)broker;
    (void)syncs;
    return NULL;
}

int lmtp_worker_get(struct lmtp_workers *w, const struct lmtp_place *place,
                    struct lmtp_worker **out, struct err *err)
{
    static struct lmtp_worker workers[2];

    (void)w;
    task_yield();
    if (slice_starts(place->user, SL("gone")))
        return err_temp(err, "no worker");
    fake.n_workers_out++;
    *out = &workers[place->uid & 1];
    return 0;
}

void lmtp_worker_put(struct lmtp_worker **w)
{
    if (*w != NULL)
        fake.n_workers_out--;
    *w = NULL;
}

static inline void fake_body(const struct lmtp_message *m, struct buf *b)
{
    char piece[1024];

    (void)buf_slice(b, m->head);
    for (uint64_t at = 0; at < m->body_bytes;) {
        ssize_t n = pread(m->body_fd, piece, sizeof piece, (off_t)at);

        CHECK(n > 0);
        (void)buf_put(b, piece, (size_t)n);
        at += (uint64_t)n;
    }
}

/* "full" has no room, "break" loses its line after the message. */
int lmtp_worker_deliver(struct lmtp_worker *w, const struct lmtp_message *m,
                        struct lmtp_rcpt *rcpts, size_t n, struct arena *a,
                        struct err *err)
{
    (void)w;
    (void)a;
    task_yield();
    for (size_t i = 0; i < n; i++) {
        if (slice_starts(rcpts[i].user, SL("break")))
            return err_temp(err, "the worker is gone");
        rcpts[i].code = slice_starts(rcpts[i].user, SL("full")) ? 550 : 250;
        rcpts[i].text = SL("why\r\n250 forged");
        if (rcpts[i].code != 250)
            continue;
        (void)buf_printf(&fake.delivered, "%.*s: ", SLF(rcpts[i].user));
        fake_body(m, &fake.delivered);
    }
    return 0;
}

void lmtp_workers_dump(const struct lmtp_workers *w, struct buf *out)
{
    (void)w;
    (void)out;
}

static inline void fake_open(const char *main_cf)
{
    static const struct chan_ops ops = { 0 };
    struct lmtpd_parts parts = { .process = &fake.process };
    struct err err;
    int fds[2];

    /* A master that is gone: no link comes up. */
    CHECK(chan_socketpair(fds, &err) == 0);
    close(fds[1]);
    fake.process.master = chan_new(fds[0], &ops, NULL);

    fake.process.conf = conf_from_text(slice_str(main_cf),
                                       SL("24 inet n - n - - lmtpd\n"), NULL);
    fake.tables = tables_new();
    parts.tables = fake.tables;
    buf_init(&fake.delivered, 64u << 20);
    CHECK(lmtpd_new(&parts, &fake.server, &err) == 0);
}

static inline void fake_close(void)
{
    lmtpd_free(&fake.server);
    tables_free(&fake.tables);
    conf_unref(&fake.process.conf);
    chan_free(&fake.process.master);
}

/* The client's end of a new session. */
static inline struct stream *fake_connect(void)
{
    struct peer_addr peer = { .family = AF_UNIX };
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                     fds) == 0);
    lmtpd_session_start(CONTAINER_OF(fake.server->lines.next, struct lmtpd_line,
                                     link),
                        fds[0], &peer);
    return stream_from_fd(fds[1]);
}

#endif
