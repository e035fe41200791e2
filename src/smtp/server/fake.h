#ifndef SMTP_SERVER_FAKE_H
#define SMTP_SERVER_FAKE_H

/*
 * For the tests and the fuzzer of the SMTP server: a server whose spool lies in
 * memory.  The functions of spool's writer that the server uses are defined
 * here, so the linker takes these and not the room's own.
 */
#include "smtp/server/server_priv.h"

#include <sys/socket.h>

struct spool_draft {
    struct buf body;
};

static struct {
    size_t n_open; /* drafts that live */
    size_t n_committed;
    struct buf last; /* headers, '\001', body of the last message */
    struct buf rcpts;
    struct buf sender;
    struct buf envid;
    uint32_t flags;
    bool fails_open;
    bool fails_write;
    bool fails_commit;
} fake_spool;

static inline int fake_full(struct err *err)
{
    return err_set(err, ERR_TEMP, "4.3.1", "Insufficient system storage");
}

int spool_draft_open(struct spool_writer *w, uint64_t size_hint,
                     struct spool_draft **out, struct err *err)
{
    (void)w;
    (void)size_hint;
    if (fake_spool.fails_open)
        return fake_full(err);
    *out = xcalloc(1, sizeof **out);
    buf_init(&(*out)->body, 64u << 20);
    fake_spool.n_open++;
    return 0;
}

int spool_draft_write(struct spool_draft *d, slice data, struct err *err)
{
    if (fake_spool.fails_write || !buf_slice(&d->body, data))
        return fake_full(err);
    return 0;
}

/* Nobody shares a sync here. */
void spool_coming(struct spool_writer *w, struct spool_coming *c)
{
    (void)w;
    (void)c;
}

void spool_coming_over(struct spool_coming *c)
{
    (void)c;
}

int spool_writer_ask(struct spool_writer *w, uint16_t type, slice body,
                     msec deadline, struct msg *answer, struct err *err)
{
    (void)w;
    (void)type;
    (void)body;
    (void)deadline;
    (void)answer;
    return err_temp(err, "nobody to ask");
}

uint64_t spool_draft_bytes(const struct spool_draft *d)
{
    return d->body.n;
}

void spool_draft_abort(struct spool_draft **d)
{
    if (*d == NULL)
        return;
    buf_done(&(*d)->body);
    free(*d);
    *d = NULL;
    fake_spool.n_open--;
}

static inline void fake_keep(struct buf *b, slice s)
{
    if (b->max == 0)
        buf_init(b, 128u << 20);
    buf_clear(b);
    (void)buf_slice(b, s);
}

int spool_draft_commit(struct spool_draft **d, struct envelope *e,
                       struct err *err)
{
    task_yield(); /* the real one waits for the disk */
    if (fake_spool.fails_commit)
        return fake_full(err);
    e->seq = fake_spool.n_committed + 1;
    e->arrival_usec = 1000000;
    envelope_make_id(e);
    if (e->on_id != NULL)
        e->on_id(e, e->on_id_arg);
    fake_keep(&fake_spool.last, e->headers);
    (void)buf_byte(&fake_spool.last, '\001');
    (void)buf_slice(&fake_spool.last, buf_view(&(*d)->body));
    fake_keep(&fake_spool.sender, e->sender);
    fake_keep(&fake_spool.envid, e->envid);
    fake_keep(&fake_spool.rcpts, SLICE_NONE);
    for (size_t i = 0; i < e->n_rcpts; i++) {
        (void)buf_slice(&fake_spool.rcpts, e->rcpts[i].addr);
        (void)buf_byte(&fake_spool.rcpts, '\n');
    }
    fake_spool.flags = e->flags;
    fake_spool.n_committed++;
    spool_draft_abort(d);
    return 0;
}

static inline void fake_spool_reset(void)
{
    CHECK(fake_spool.n_open == 0);
    buf_done(&fake_spool.last);
    buf_done(&fake_spool.rcpts);
    buf_done(&fake_spool.sender);
    buf_done(&fake_spool.envid);
    memset(&fake_spool, 0, sizeof fake_spool);
}

/* ---- the server */

#define FAKE_BASE                                                              \
 "compatibility_level = 3.6\n"                                                 \
 "myhostname = mx.example.com\n"                                               \
 "mydomain = example.com\n"                                                    \
 "myorigin = example.com\n"                                                    \
 "mydestination = example.com\n"                                               \
 "mynetworks = 127.0.0.0/8\n"                                                  \
 "local_recipient_maps =\n"                                                    \
 "smtpd_error_sleep_time = 0\n"

struct fake {
    struct process process;
    struct tables *tables;
    struct smtp_server *server;
    struct peer_addr peer;
};

/* `more` follows FAKE_BASE; its values win.  `lines` are those of master.cf. */
static inline void fake_open_lines(struct fake *f, const char *more,
                                   const char *lines)
{
    char *text = xasprintf("%s%s", FAKE_BASE, more);
    struct smtp_server_parts parts = { .process = &f->process,
                                       .counters_fd = -1 };
    struct err err;

    memset(f, 0, sizeof *f);
    f->process.n_slots = 1;
    f->process.conf = conf_from_text(slice_str(text), slice_str(lines), NULL);
    free(text);
    f->tables = tables_new();
    tables_set_direct(f->tables, NULL);
    parts.tables = f->tables;
    if (smtp_server_new(&parts, &f->server, &err) < 0)
        panic("%s", err.log);
    f->peer = (struct peer_addr){ .family = AF_INET, .port = 4711 };
    (void)snprintf(f->peer.text, sizeof f->peer.text, "192.0.2.1");
}

static inline void fake_open(struct fake *f, const char *more)
{
    fake_open_lines(f, more, "smtp inet n - n - - smtpd\n");
}

static inline void fake_close(struct fake *f)
{
    smtp_server_free(&f->server);
    tables_free(&f->tables);
    conf_unref(&f->process.conf);
    fake_spool_reset();
}

static inline struct smtp_service *fake_service(struct fake *f, bool is_pickup)
{
    list_each(it, &f->server->services) {
        struct smtp_service *v = CONTAINER_OF(it, struct smtp_service, link);

        if (v->is_pickup == is_pickup)
            return v;
    }
    panic("no such service");
}

/* A session of the service; the client's end of it. */
static inline struct stream *fake_connect(struct fake *f, bool is_pickup)
{
    struct stream *client;
    struct stream *server;

    stream_pair(&client, &server);
    smtp_session_begin(fake_service(f, is_pickup), server, &f->peer);
    return client;
}

#endif
