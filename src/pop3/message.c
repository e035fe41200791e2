/* A message on its way to the client, and its unique id. */
#include "mail/dot.h"
#include "pop3/pop3_priv.h"
#include "rt/file.h"

#define PIECE 16384

/* What TOP is still to send. */
struct top {
    bool in_header;
    bool line_is_empty; /* so far */
    int64_t lines;      /* of the body; POP3_WHOLE: all */
};

/* How much of `in` goes out; less than all: the end. */
static size_t top_part(struct top *t, slice in)
{
    if (t->lines == POP3_WHOLE)
        return in.n;
    for (size_t i = 0; i < in.n; i++) {
        if (!t->in_header && t->lines == 0)
            return i;
        if (in.p[i] != '\n') {
            t->line_is_empty = false;
            continue;
        }
        if (!t->in_header)
            t->lines--;
        else if (t->line_is_empty)
            t->in_header = false;
        t->line_is_empty = true;
    }
    return in.n;
}

/* The bytes from fd as POP3 sends them, up to the dot. */
MAY_WAIT static int send_file(struct pop3_session *s, int fd, struct top *t,
                              uint64_t *sent, struct err *err)
{
    bool at_start = true;
    uint64_t at = 0;
    char *piece CLEANUP(free_ptr) = xmalloc(PIECE);
    struct buf out;
    ssize_t n;
    int r = 0;

    buf_init(&out, (size_t)4 * PIECE);
    while (r == 0 && (n = file_pread_wait(fd, piece, PIECE, at)) != 0) {
        slice in = { piece, n > 0 ? (size_t)n : 0 };
        size_t part = top_part(t, in);

        if (n < 0) {
            /* +OK has gone out: only the end of the line tells the client. */
            event_text(EV_ERROR, "pop3", NULL,
                       "pop3(%s)<%d><%s>: read a message: %s", s->user,
                       (int)getpid(), s->session_id, strerror(errno));
            r = err_peer(err, "a message could not be read");
            break;
        }
        buf_clear(&out);
        (void)mail_dot_stuff(&out, slice_sub(in, 0, part), true, &at_start);
        r = stream_write(s->stream, buf_view(&out), err);
        *sent += out.n;
        at += (uint64_t)n;
        if (part < in.n)
            break;
        task_yield_if_long();
    }
    buf_done(&out);
    if (r < 0)
        return -1;
    return stream_puts(s->stream, at_start ? ".\r\n" : "\r\n.\r\n", err);
}

int pop3_send(struct pop3_session *s, struct pop3_message *m,
              int64_t body_lines, struct err *err)
{
    struct top t = { .in_header = true,
                     .line_is_empty = true,
                     .lines = body_lines };
    uint64_t sent = 0;
    int fd CLEANUP(close_fd) = -1;

    if (store_open_body(s->mailbox, m->uid, &fd, err) < 0)
        return -1;
    if (body_lines != POP3_WHOLE) {
        if (stream_puts(s->stream, "+OK\r\n", err) < 0 ||
            send_file(s, fd, &t, &sent, err) < 0)
            return err_peer(err, "gone");
        s->n.top++;
        s->n.top_bytes += sent;
        return 0;
    }
    if (stream_printf(s->stream, err, "+OK %" PRIu64 " octets\r\n", m->size) <
            0 ||
        send_file(s, fd, &t, &sent, err) < 0)
        return err_peer(err, "gone");
    s->n.retr++;
    s->n.retr_bytes += sent;
    m->is_seen = true;
    return 0;
}

int pop3_uidl(struct pop3_session *s, const struct pop3_message *m,
              struct buf *out, struct err *err)
{
    slice format = conf_slice(s->server->parts.conf, NULL, "pop3_uidl_format");
    size_t row = store_row_at(s->mailbox, m->uid);

    if (row >= store_rows(s->mailbox) ||
        store_row_uid(s->mailbox, row) != m->uid)
        return err_perm(err, "Message was removed by another session.");
    store_uidl_of_row(s->mailbox, row, format, out);
    return 0;
}
