#include "smtp/client/job.h"

#include "rt/file.h"

/* The message as it goes over the wire: CRLF, dots doubled, long lines folded
 * (smtp_line_length_limit). */

#define PIECE ((size_t)64 << 10)

struct out {
    struct client_job *job;
    struct client_conn *conn;
    struct buf wire; /* one piece as it will go */
    size_t limit;    /* of lines; 0: none */
    size_t column;   /* in the line under way */
    bool is_open;    /* a line without its end */
};

/* A part of a line, or a whole one. */
static void put_text(struct out *o, slice text)
{
    if (o->column == 0 && text.n > 0 && text.p[0] == '.')
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

MAY_WAIT static int flush_wire(struct out *o, struct err *err)
{
    if (o->wire.overflow)
        return err_temp(err, "a piece of the message grew too long");
    stream_deadline(o->conn->st, loop_after(o->job->service->data_xfer_ms));
    if (stream_write(o->conn->st, buf_view(&o->wire), err) < 0)
        return -1;
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

int client_send_body(struct client_job *j, struct client_conn *conn,
                     bool to_7bit, struct err *err)
{
    struct out o = { .job = j, .conn = conn, .limit = j->service->line_limit };
    struct buf in CLEANUP(buf_done);
    uint64_t done = 0;
    int rc = 0;

    (void)to_7bit;
    buf_init(&in, PIECE);
    buf_init(&o.wire, (PIECE + j->env.headers.n) * 4 + 4096);
    put_stored(&o, j->env.headers);
    while (rc == 0 && done < j->body_bytes) {
        rc = read_piece(j, done, &in, err);
        if (rc < 0) {
            conn->is_dead = true;
            break;
        }
        done += in.n;
        put_stored(&o, buf_view(&in));
        rc = flush_wire(&o, err);
    }
    if (rc == 0) {
        (void)buf_puts(&o.wire, o.is_open ? "\r\n.\r\n" : ".\r\n");
        rc = flush_wire(&o, err);
    }
    buf_done(&o.wire);
    return rc;
}
