#include "smtp/client/job.h"

#include "mail/domain.h"

/* What a server says (RFC 5321 4.2).  Lines that are no reply are passed over,
 * as in Postfix; long ones are cut; a reply of all too many bytes is none. */

#define LINE_KEEP   1024        /* of one line */
#define REPLY_TOTAL (16u << 20) /* what it may come to, kept or not */

/* "5.1.1 " at the front of a text, of the same class as the code. */
static size_t status_len(slice s, int code)
{
    size_t n = 2;
    size_t digits;

    if (s.n < 5 || s.p[0] != code / 100 + '0' || s.p[1] != '.' ||
        slice_chr(SL("245"), s.p[0]) < 0)
        return 0;
    for (digits = 0; n < s.n && ascii_isdigit(s.p[n]) && digits < 3; digits++)
        n++;
    if (digits == 0 || n >= s.n || s.p[n] != '.')
        return 0;
    n++;
    for (digits = 0; n < s.n && ascii_isdigit(s.p[n]) && digits < 3; digits++)
        n++;
    if (digits == 0 || (n < s.n && s.p[n] != ' '))
        return 0;
    return n;
}

static void find_status(struct client_reply *r)
{
    slice rest = slice_from(r->text, 4);
    size_t n = status_len(rest, r->code);

    if (n > 0 && n < sizeof r->status) {
        (void)slice_copy_to(slice_sub(rest, 0, n), r->status, sizeof r->status);
        return;
    }
    memcpy(r->status, "2.0.0", sizeof "2.0.0");
    if (r->code / 100 != 3)
        r->status[0] = (char)('0' + r->code / 100);
}

/* Append a line as it may be shown: control bytes and what is no UTF-8 become
 * "?" (invariant 3). */
static void keep(struct buf *b, slice line)
{
    bool ascii = true;

    if (b->n > 0)
        (void)buf_byte(b, ' ');
    line = slice_sub(line, 0, LINE_KEEP);
    for (size_t i = 0; i < line.n && ascii; i++)
        ascii = (unsigned char)line.p[i] >= 32 && line.p[i] < 127;
    if (ascii) {
        (void)buf_slice(b, slice_sub(line, 0, b->max - b->n));
        return;
    }
    while (line.n > 0 && b->n + 4 < b->max) {
        size_t n = mail_utf8_len(line);

        if (n > 1 || (n == 1 && (unsigned char)*line.p >= 32 && *line.p != 127))
            (void)buf_put(b, line.p, n);
        else
            (void)buf_byte(b, '?');
        line = slice_from(line, n > 0 ? n : 1);
    }
}

struct reading {
    size_t total;
    int code;
    bool is_last;
    bool is_cutting; /* inside a line whose front was taken */
};

/* smtp_reply_filter: what a line is taken for. */
MAY_WAIT static slice filtered(struct client_conn *conn, slice line)
{
    struct err err;
    slice value;

    if (conn->service->reply_filter == NULL)
        return line;
    if (arena_used(conn->arena) > arena_cap(conn->arena) / 2)
        return line;
    if (table_list_lookup(conn->service->reply_filter, line, 0, conn->arena,
                          &value, &err) < 0) {
        log_warning("%s", err.log);
        return line;
    }
    return value.p != NULL ? slice_rtrim(value) : line;
}

MAY_WAIT static void take_line(struct client_conn *conn, slice line,
                               struct reading *rd)
{
    uint64_t code;

    if (rd->is_cutting)
        return;
    line = filtered(conn, slice_rtrim(line));
    if (line.n < 3 || !slice_u64(slice_sub(line, 0, 3), &code) || code < 100 ||
        code > 599 || (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')) {
        event_text(EV_WARNING, conn->service->log_name, NULL,
                   "non-%s response from %s: %.*s",
                   conn->service->is_lmtp ? "LMTP" : "SMTP", conn->name,
                   SLF(slice_sub(line, 0, 100)));
        return;
    }
    rd->code = (int)code;
    rd->is_last = line.n == 3 || line.p[3] == ' ';
    if (conn->in_hello && code / 100 == 2)
        client_hello_line(conn, slice_trim(slice_from(line, 4)));
    keep(&conn->text, line);
}

/* The next line, or the front of one that is too long. */
MAY_WAIT static void take_input(struct client_conn *conn, struct reading *rd)
{
    slice in;

    while ((!rd->is_last || rd->is_cutting) &&
           (in = stream_peek(conn->st)).n > 0) {
        ssize_t lf = slice_chr(in, '\n');
        size_t n = lf >= 0 ? (size_t)lf + 1 : in.n;

        if (lf < 0 && n <= CLIENT_REPLY_MAX)
            return;
        take_line(conn, slice_sub(in, 0, n), rd);
        rd->is_cutting = lf < 0;
        rd->total += n;
        stream_consume(conn->st, n);
    }
}

int client_read_reply(struct client_conn *conn, msec deadline,
                      struct client_reply *out, struct err *err)
{
    struct reading rd = { 0 };

    CHECK_OBJ(conn, CLIENT_CONN_MAGIC);
    buf_clear(&conn->text);
    stream_deadline(conn->st, deadline);
    for (;;) {
        take_input(conn, &rd);
        if (rd.is_last && !rd.is_cutting)
            break;
        if (rd.total > REPLY_TOTAL)
            return err_peer(err, "its reply is endless");
        if (stream_eof(conn->st))
            return err_peer(err, "connection closed");
        if (stream_fill(conn->st, err) < 0)
            return -1;
    }
    out->code = rd.code;
    out->text = buf_view(&conn->text);
    find_status(out);
    return 0;
}

int client_ask(struct client_conn *conn, msec deadline,
               struct client_reply *out, struct err *err, const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done);
    va_list ap;

    buf_init(&b, 65536);
    va_start(ap, fmt);
    (void)buf_vprintf(&b, fmt, ap);
    va_end(ap);
    (void)buf_puts(&b, "\r\n");
    if (b.overflow)
        return err_temp(err, "a command is too long");
    stream_deadline(conn->st, deadline);
    if (stream_write(conn->st, buf_view(&b), err) < 0 ||
        stream_flush(conn->st, err) < 0)
        return -1;
    return client_read_reply(conn, deadline, out, err);
}
