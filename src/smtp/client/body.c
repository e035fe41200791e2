#include "smtp/client/job.h"

#include "filter/filter.h"
#include "ipc/event.h"
#include "mail/domain.h"
#include "rt/file.h"
#include "smtp/client/convert.h"

/* The message as it goes over the wire: CRLF, dots doubled, long lines folded
 * (smtp_line_length_limit). */

#define PIECE ((size_t)64 << 10)

struct out {
    struct client_job *job;
    struct client_conn *conn;
    struct buf wire; /* one piece as it will go */
    size_t limit;    /* of lines; 0: none */
    size_t column;   /* in the line under way */
    bool is_stuffed; /* dots are doubled: DATA, not BDAT */
    bool is_open;    /* a line without its end */
    bool is_broken;  /* the connection, not our own side */
    msec began;
    uint64_t n_sent;
};

/* A part of a line, or a whole one. */
static void put_text(struct out *o, slice text)
{
    if (o->is_stuffed && o->column == 0 && text.n > 0 && text.p[0] == '.')
        (void)buf_byte(&o->wire, '.');
    while (o->limit > 0 && text.n > o->limit - o->column) {
        slice head = slice_sub(text, 0, o->limit - o->column);

        (void)buf_slice(&o->wire, head);
        (void)buf_puts(&o->wire, "\r\n ");
        text = slice_from(text, head.n);
        o->column = 1;
    }
    (void)buf_slice(&o->wire, text);
    o->column += text.n;
}

/* Bytes of the stored form. */
static void put_stored(struct out *o, slice in)
{
    while (in.n > 0) {
        const char *lf = memchr(in.p, '\n', in.n);
        size_t n = lf != NULL ? (size_t)(lf - in.p) : in.n;

        put_text(o, slice_sub(in, 0, n));
        o->is_open = lf == NULL;
        if (lf == NULL)
            return;
        (void)buf_put(&o->wire, "\r\n", 2);
        o->column = 0;
        in = slice_from(in, n + 1);
    }
}

/* Each piece has its time; with smtp_per_request_deadline the whole message
 * has it once, and what smtp_min_data_rate allows for its bytes. */
static msec deadline_of(const struct out *o)
{
    const struct client_service *s = o->job->service;
    uint64_t rate = s->min_data_rate > 0 ? s->min_data_rate : 1;

    if (!s->per_request_deadline)
        return loop_after(s->data_xfer_ms);
    return o->began + s->data_xfer_ms +
           (msec)((o->n_sent + o->wire.n) / rate * 1000);
}

MAY_WAIT static int flush_wire(struct out *o, struct err *err)
{
    if (o->wire.overflow)
        return err_temp(err, "a piece of the message grew too long");
    stream_deadline(o->conn->st, deadline_of(o));
    if (stream_write(o->conn->st, buf_view(&o->wire), err) < 0) {
        o->is_broken = true;
        return -1;
    }
    o->n_sent += o->wire.n;
    buf_clear(&o->wire);
    return 0;
}

/* The next piece of the body into `in`. */
MAY_WAIT static int read_piece(const struct client_job *j, uint64_t done,
                               struct buf *in, struct err *err)
{
    size_t want =
        (size_t)(j->body_bytes - done < PIECE ? j->body_bytes - done : PIECE);
    char *room;
    ssize_t got;

    buf_clear(in);
    room = buf_reserve(in, want);
    CHECK(room != NULL);
    got = file_pread_wait(j->body_fd, room, want, j->body_at + done);
    if (got == 0)
        errno = EIO;
    if (got <= 0)
        return err_sys(err, "read the message from the spool");
    buf_commit(in, (size_t)got);
    return 0;
}

/* ------------------------------------------------------------------ changes */

/* Between the spool and the wire, where anything changes. */
struct change {
    struct client_convert *convert;
    struct filter_message *filter;
    struct filter_context context;
    struct buf a, b;
};

static bool has_changes(const struct client_job *j, bool to_7bit)
{
    return to_7bit || j->service->generic != NULL || j->service->checks != NULL;
}

static void change_begin(struct change *x, struct client_job *j, bool to_7bit)
{
    const struct client_service *s = j->service;

    *x = (struct change){ .convert = NULL };
    buf_init(&x->a, PIECE * 8 + (4u << 20));
    buf_init(&x->b, PIECE * 8 + (4u << 20));
    if (s->checks != NULL) {
        x->context = (struct filter_context){
            .queue_id = j->queue_id,
            .client = j->env.client_name,
            .sender = j->sender,
            .recipient = j->rcpts[0].addr,
            .protocol = j->env.protocol,
            .helo = j->env.helo,
            .service = s->log_name,
        };
        x->filter = filter_begin(s->checks, &x->context, j->arena);
    }
    if (s->generic != NULL || to_7bit)
        x->convert = client_convert_new(s->generic, to_7bit);
}

static void change_end(struct change *x)
{
    client_convert_free(&x->convert);
    filter_end(&x->filter);
    buf_done(&x->a);
    buf_done(&x->b);
}

/* `in` changed, as stored form in *out. */
MAY_WAIT static int change_feed(struct change *x, slice in, slice *out,
                                struct err *err)
{
    buf_clear(&x->a);
    buf_clear(&x->b);
    if (x->filter != NULL) {
        if (filter_feed(x->filter, in, &x->a, err) < 0)
            return -1;
        in = buf_view(&x->a);
    }
    if (x->convert != NULL) {
        if (client_convert_feed(x->convert, in, &x->b, err) < 0)
            return -1;
        in = buf_view(&x->b);
    }
    *out = in;
    return 0;
}

MAY_WAIT static int change_finish(struct change *x, slice *out, struct err *err)
{
    buf_clear(&x->a);
    buf_clear(&x->b);
    if (x->filter != NULL && filter_finish(x->filter, &x->a, err) < 0)
        return -1;
    *out = buf_view(&x->a);
    if (x->convert != NULL) {
        if (client_convert_feed(x->convert, *out, &x->b, err) < 0 ||
            client_convert_finish(x->convert, &x->b, err) < 0)
            return -1;
        *out = buf_view(&x->b);
    }
    return 0;
}

/* ------------------------------------------------------------------ sending */

MAY_WAIT static int put_piece(struct out *o, struct change *x, slice in,
                              struct err *err)
{
    if (x != NULL && change_feed(x, in, &in, err) < 0)
        return -1;
    put_stored(o, in);
    return 0;
}

/* Headers and body to the wire; `sends` false: only into o->wire. */
MAY_WAIT static int put_message(struct out *o, struct change *x, bool sends,
                                struct err *err)
{
    struct client_job *j = o->job;
    struct buf in CLEANUP(buf_done);
    uint64_t done = 0;
    slice rest;

    buf_init(&in, PIECE);
    if (put_piece(o, x, j->env.headers, err) < 0)
        return -1;
    while (done < j->body_bytes) {
        if (read_piece(j, done, &in, err) < 0)
            return -1;
        done += in.n;
        if (put_piece(o, x, buf_view(&in), err) < 0 ||
            (sends && flush_wire(o, err) < 0))
            return -1;
    }
    if (x != NULL) {
        if (change_finish(x, &rest, err) < 0)
            return -1;
        put_stored(o, rest);
    }
    if (o->is_open)
        (void)buf_put(&o->wire, "\r\n", 2);
    return 0;
}

MAY_WAIT static int run(struct out *o, bool to_7bit, bool sends,
                        struct err *err)
{
    struct change x;
    int rc;

    buf_init(&o->wire, (PIECE * 8 + (4u << 20)) * 2);
    if (!has_changes(o->job, to_7bit))
        return put_message(o, NULL, sends, err);
    change_begin(&x, o->job, to_7bit);
    rc = put_message(o, &x, sends, err);
    change_end(&x);
    return rc;
}

/* That firewall cannot take the dot in the segment of what is before it. */
MAY_WAIT static int pause_before_dot(struct out *o, struct err *err)
{
    if (flush_wire(o, err) < 0)
        return -1;
    o->is_broken = true; /* whatever fails from here on */
    if (stream_flush(o->conn->st, err) < 0)
        return -1;
    return task_sleep(o->job->service->pix_delay, err);
}

int client_send_body(struct client_job *j, struct client_conn *conn,
                     bool to_7bit, struct err *err)
{
    struct out o = { .job = j,
                     .conn = conn,
                     .is_stuffed = true,
                     .limit = j->service->line_limit };
    int rc;

    o.began = clock_mono();
    rc = run(&o, to_7bit, true, err);
    if (rc == 0 && conn->delays_dot)
        rc = pause_before_dot(&o, err);
    if (rc == 0) {
        (void)buf_put(&o.wire, ".\r\n", 3);
        rc = flush_wire(&o, err);
    }
    if (rc < 0 && !o.is_broken) {
        log_warning("%s", err->log);
        err->sys = EIO; /* trouble of ours, and half a message is out */
        err->class = ERR_TEMP;
    }
    buf_done(&o.wire);
    return rc;
}

int client_make_body(struct client_job *j, bool to_7bit, struct buf *out,
                     struct err *err)
{
    struct out o = { .job = j, .limit = j->service->line_limit };

    if (run(&o, to_7bit, false, err) < 0 || o.wire.overflow) {
        buf_done(&o.wire);
        return -1;
    }
    *out = o.wire;
    return 0;
}

bool client_header_is_ascii(const struct client_job *j)
{
    struct buf in CLEANUP(buf_done);
    ssize_t end;
    struct err err;

    buf_init(&in, PIECE);
    if (!mail_is_ascii(j->env.headers))
        return false;
    if (j->body_bytes == 0 || read_piece(j, 0, &in, &err) < 0)
        return true;
    end = slice_find(buf_view(&in), SL("\n\n"));
    return mail_is_ascii(
        slice_sub(buf_view(&in), 0, end >= 0 ? (size_t)end : in.n));
}
