#include "lmtp/lmtp.h"

#include "base/digest.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "rt/stream.h"

#include <unistd.h>

#define COPY_BYTES (64u << 10)
#define ANSWER_MS  ((msec)1800 * 1000)
/* So much of several transactions goes out in one write. */
#define BATCH_BYTES (32u << 10)

/* A transaction that was written and is not answered yet. */
struct pending {
    struct list link;
    struct task *task; /* waits for the answers; NULL: given up */
    struct lmtp_rcpt *rcpts;
    struct arena *arena;
    size_t n_rcpts;
    size_t n_refused; /* by RCPT: no answer after the data */
    size_t next;      /* recipient whose answer comes next */

    enum { WAIT_MAIL, WAIT_RCPT, WAIT_DATA, WAIT_DONE } phase;

    bool mail_refused;
    bool is_done;
    bool is_broken;
};

struct lmtp_client {
    struct stream *stream;
    struct list pending; /* in the order they were written */
    struct sema writing; /* one transaction is written at a time */
    size_t n_pending;
    struct task *reader; /* NULL: nobody reads */
    bool is_broken;
    bool is_flushing; /* somebody will flush what is buffered */
    bool is_released;
};

struct lmtp_client *lmtp_client_new(int fd)
{
    struct lmtp_client *c = xcalloc(1, sizeof *c);

    c->stream = stream_from_fd(fd);
    stream_limits(c->stream, 256u << 10, 256u << 10);
    list_init(&c->pending);
    sema_init(&c->writing, 1);
    return c;
}

bool lmtp_client_is_broken(struct lmtp_client *c)
{
    /* Nobody reads a quiet connection: look whether the worker has left. */
    if (!c->is_broken && c->reader == NULL && c->n_pending == 0 &&
        (stream_fill_now(c->stream) || stream_eof(c->stream)))
        c->is_broken = true;
    return c->is_broken;
}

size_t lmtp_client_pending(const struct lmtp_client *c)
{
    return c->n_pending;
}

static void client_free(struct lmtp_client *c)
{
    stream_free(&c->stream);
    free(c);
}

void lmtp_client_free(struct lmtp_client **cp)
{
    struct lmtp_client *c = *cp;

    if (c == NULL)
        return;
    CHECK(c->n_pending == 0);
    *cp = NULL;
    if (c->reader != NULL)
        c->is_released = true; /* the reader is about to end and frees it */
    else
        client_free(c);
}

/* ---- reading answers */

static void finish(struct lmtp_client *c, struct pending *p, bool broken)
{
    list_remove(&p->link);
    c->n_pending--;
    p->is_done = true;
    p->is_broken = broken;
    if (p->task != NULL)
        task_wake(p->task);
}

static void break_all(struct lmtp_client *c)
{
    c->is_broken = true;
    /* Nothing comes that anybody waits for: the connection may go. */
    if (c->reader != NULL && c->reader != task_self())
        task_cancel(c->reader);
    while (!list_empty(&c->pending))
        finish(c, CONTAINER_OF(c->pending.next, struct pending, link), true);
}

/* "5.1.1", RFC 3463; what a worker says is not to be trusted. */
static bool is_status(slice word)
{
    if (word.n < 5 || word.n >= sizeof((struct lmtp_rcpt *)NULL)->status ||
        word.p[1] != '.' || slice_chr(SL("245"), word.p[0]) < 0)
        return false;
    for (size_t i = 0; i < word.n; i++)
        if (!ascii_isdigit(word.p[i]) && word.p[i] != '.')
            return false;
    return true;
}

/* "250 2.1.5 XVISIBLE fs=ab12 ..." into the recipient. */
static void keep_answer(struct pending *p, struct lmtp_rcpt *r, int code,
                        slice text)
{
    slice word;
    slice rest = text;
    uint64_t fs = 0;

    r->code = code;
    if (slice_token(&rest, " ", &word) && is_status(word)) {
        (void)slice_copy_to(word, r->status, sizeof r->status);
        text = slice_trim(rest);
    }
    r->text = slice_dup(p->arena, text);
    rest = text;
    while (code == 250 && slice_token(&rest, " ", &word)) {
        if (slice_eqs(word, "XDURABLE")) {
            r->is_durable = true;
        } else if (slice_starts(word, SL("fs="))) {
            for (size_t i = 3; i < word.n; i++) {
                char d = ascii_lower(word.p[i]);

                fs = fs << 4 | (uint64_t)(d <= '9' ? d - '0' : d - 'a' + 10);
            }
            r->fs = fs;
        }
    }
}

static void skip_refused(struct pending *p)
{
    while (p->next < p->n_rcpts && p->rcpts[p->next].code != 0)
        p->next++;
}

/* One reply line moves the first pending transaction on. */
static void answer(struct lmtp_client *c, int code, slice text)
{
    struct pending *p;

    if (list_empty(&c->pending))
        return;
    p = CONTAINER_OF(c->pending.next, struct pending, link);
    switch (p->phase) {
    case WAIT_MAIL:
        p->mail_refused = code != 250;
        p->phase = WAIT_RCPT;
        p->next = 0;
        return;
    case WAIT_RCPT:
        if (code != 250) {
            keep_answer(p, &p->rcpts[p->next], code, text);
            p->n_refused++;
        }
        if (++p->next < p->n_rcpts)
            return;
        p->phase = WAIT_DATA;
        p->next = 0;
        skip_refused(p);
        return;
    case WAIT_DATA:
        if (p->next < p->n_rcpts) {
            keep_answer(p, &p->rcpts[p->next], code, text);
            p->next++;
            skip_refused(p);
        }
        if (p->n_refused == p->n_rcpts || p->next >= p->n_rcpts)
            finish(c, p, false);
        return;
    case WAIT_DONE:
        return;
    }
}

MAY_WAIT static int read_answers(struct lmtp_client *c)
{
    slice line;
    struct err err;
    uint64_t code;

    for (;;) {
        while (stream_has_line(c->stream)) {
            if (stream_line(c->stream, LMTP_LINE_MAX, &line, &err) < 0)
                return -1;
            line = slice_rtrim(line);
            if (line.n < 3 || !slice_u64(slice_sub(line, 0, 3), &code) ||
                code < 200)
                return -1;
            if (line.n > 3 && line.p[3] == '-')
                continue;
            answer(c, (int)code, slice_from(line, 4));
        }
        if (stream_peek(c->stream).n > LMTP_LINE_MAX)
            return -1;
        if (!stream_fill_now(c->stream))
            return stream_eof(c->stream) ? -1 : 0;
    }
}

/* Reads while answers are outstanding. */
MAY_WAIT static void reader(void *arg)
{
    struct lmtp_client *c = arg;
    struct err err;

    while (c->n_pending > 0 && !c->is_broken) {
        stream_deadline(c->stream, loop_after(ANSWER_MS));
        if (stream_fill(c->stream, &err) < 0 || read_answers(c) < 0)
            break_all(c);
    }
    c->reader = NULL;
    if (c->is_released)
        client_free(c);
}

static void start_reader(struct lmtp_client *c)
{
    if (c->reader == NULL)
        c->reader = task_spawn("lmtp-answers", reader, c);
}

/* ---- writing a transaction */

static void put_xtext(struct buf *b, const char *key, slice v)
{
    if (v.n == 0)
        return;
    (void)buf_printf(b, " %s=", key);
    (void)mail_xtext_put(b, v);
}

static void put_rcpt(struct buf *b, const struct lmtp_rcpt *r)
{
    static const char *const kinds[] = { "mailbox", "file", "command" };

    (void)buf_puts(b, "RCPT TO:<");
    (void)mail_addr_quote(b, r->addr);
    (void)buf_puts(b, "> XID=");
    (void)hex_put(b, slice_of(r->id, sizeof r->id));
    (void)buf_printf(b, " XKIND=%s", kinds[r->kind]);
    put_xtext(b, "XUSER", r->user);
    put_xtext(b, "XHOME", r->home);
    put_xtext(b, "XMAIL", r->mail);
    put_xtext(b, "XARG", r->arg);
    put_xtext(b, "XORIG", r->orig);
    (void)buf_puts(b, "\r\n");
}

/* The head and, when it is small, the body go with the commands in one
 * write. */
static int put_commands(struct buf *b, const struct lmtp_message *m,
                        const struct lmtp_rcpt *rcpts, size_t n)
{
    uint64_t size = m->head.n + m->body_bytes;

    (void)buf_puts(b, "MAIL FROM:<");
    if (m->sender.n > 0)
        (void)mail_addr_quote(b, m->sender);
    (void)buf_printf(b, "> SIZE=%" PRIu64 " XARRIVAL=%" PRId64 "\r\n", size,
                     m->arrival_ms);
    for (size_t i = 0; i < n; i++) {
        size_t before = b->n;

        put_rcpt(b, &rcpts[i]);
        /* The worker would end the connection, with all that is on it. */
        if (b->n - before > LMTP_LINE_MAX)
            return -1;
    }
    (void)buf_printf(b, "BDAT %" PRIu64 " LAST\r\n", size);
    (void)buf_slice(b, m->head);
    return b->overflow ? -1 : 0;
}

MAY_WAIT static int copy_body(struct lmtp_client *c,
                              const struct lmtp_message *m, struct buf *b,
                              struct err *err)
{
    uint64_t done = 0;

    while (done < m->body_bytes) {
        size_t want = min_size(COPY_BYTES, m->body_bytes - done);
        char *room = buf_reserve(b, want);

        CHECK(room != NULL);
        ssize_t got = pread(m->body_fd, room, want, (off_t)(m->body_at + done));
        if (got <= 0) {
            if (got == 0)
                errno = EIO;
            return err_sys(err, "read the message from the spool");
        }
        buf_commit(b, (size_t)got);
        done += (uint64_t)got;
        if (b->n >= COPY_BYTES || done == m->body_bytes) {
            if (stream_write(c->stream, buf_view(b), err) < 0)
                return -1;
            buf_clear(b);
        }
    }
    if (b->n > 0 && stream_write(c->stream, buf_view(b), err) < 0)
        return -1;
    if (stream_unsent(c->stream) < BATCH_BYTES)
        return 0; /* flush() follows */
    return stream_flush(c->stream, err);
}

MAY_WAIT static int write_transaction(struct lmtp_client *c,
                                      const struct lmtp_message *m,
                                      struct pending *p, struct err *err)
{
    struct buf b;
    int r = -1;

    buf_init(&b, 64u << 20);
    if (put_commands(&b, m, p->rcpts, p->n_rcpts) < 0) {
        (void)err_temp(err, "delivery request is too large");
        buf_done(&b);
        return -1;
    }
    stream_deadline(c->stream, m->deadline);
    list_push(&c->pending, &p->link);
    c->n_pending++;
    start_reader(c);
    r = copy_body(c, m, &b, err);
    buf_done(&b);
    if (r < 0) {
        /* Half a transaction is on the wire: nothing can follow it. */
        break_all(c);
    }
    return r;
}

/* Send what is buffered, with what other tasks of this turn still add: each
 * write wakes the worker. */
MAY_WAIT static int flush(struct lmtp_client *c, msec deadline, struct err *err)
{
    int r;

    if (c->is_flushing || c->is_broken || stream_unsent(c->stream) == 0)
        return 0;
    c->is_flushing = true;
    task_yield();
    r = sema_down(&c->writing, deadline, err);
    c->is_flushing = false;
    if (r == 0) {
        stream_deadline(c->stream, deadline);
        r = c->is_broken ? 0 : stream_flush(c->stream, err);
        sema_up(&c->writing);
    }
    if (r < 0) /* others believe that it goes out */
        break_all(c);
    return r;
}

MAY_WAIT static int wait_answers(struct lmtp_client *c, struct pending *p,
                                 msec deadline, struct err *err)
{
    while (!p->is_done)
        if (task_wait(deadline, err) < 0) {
            /* The answers refer to the caller's memory: the connection cannot
             * be used any more. */
            if (!p->is_done)
                break_all(c);
            return -1;
        }
    if (p->is_broken)
        return err_temp(err, "the mailbox worker went away");
    return 0;
}

int lmtp_deliver(struct lmtp_client *c, const struct lmtp_message *m,
                 struct lmtp_rcpt *rcpts, size_t n, struct arena *a,
                 struct err *err)
{
    struct pending p = {
        .task = task_self(),
        .rcpts = rcpts,
        .arena = a,
        .n_rcpts = n,
        .phase = WAIT_MAIL,
    };
    int r;

    CHECK(n > 0 && n <= LMTP_RCPTS_MAX && p.task != NULL);
    list_init(&p.link);
    for (size_t i = 0; i < n; i++)
        rcpts[i].code = 0;
    if (sema_down(&c->writing, m->deadline, err) < 0)
        return -1;
    if (c->is_broken) {
        sema_up(&c->writing);
        return err_temp(err, "the mailbox worker went away");
    }
    r = write_transaction(c, m, &p, err);
    sema_up(&c->writing);
    if (r < 0 || flush(c, m->deadline, err) < 0)
        return -1;
    return wait_answers(c, &p, m->deadline, err);
}
