/* Lines and literals.  Bytes that came with the start (s->early) go first. */
#include "imap/imap_priv.h"

static slice peek(const struct imap_session *s)
{
    if (s->early.n > 0)
        return buf_view(&s->early);
    return s->stream != NULL ? stream_peek(s->stream) : SLICE_NONE;
}

static void consume(struct imap_session *s, size_t n)
{
    s->n_in += n;
    if (s->early.n == 0) {
        s->n_read += n;
        stream_consume(s->stream, n);
        return;
    }
    buf_consume(&s->early, n);
    if (s->early.n == 0)
        buf_release(&s->early);
}

/* What is in the stream goes behind the early bytes. */
static void join(struct imap_session *s)
{
    slice in = stream_peek(s->stream);

    if (s->early.n == 0 || in.n == 0)
        return;
    buf_slice(&s->early, in);
    s->n_read += in.n;
    stream_consume(s->stream, in.n);
}

/* More than there is by now.  False: nothing comes any more. */
MAY_WAIT static bool fill(struct imap_session *s)
{
    struct err err;

    if (!imap_flush(s) || s->is_kicked)
        return false;
    stream_deadline(s->stream, clock_after(IMAP_STALL_MS));
    if (stream_eof(s->stream) || stream_fill(s->stream, &err) < 0)
        return false;
    if (stream_eof(s->stream))
        return false;
    join(s);
    return !s->early.overflow;
}

bool imap_fill_now(struct imap_session *s)
{
    if (!stream_fill_now(s->stream))
        return false;
    join(s);
    return true;
}

int imap_input_line(const struct imap_session *s, slice *out)
{
    slice in = peek(s);
    ssize_t at = slice_chr(in, '\n');

    if (at < 0)
        return in.n > s->server->line_max ? -1 : 0;
    *out = slice_sub(in, 0, (size_t)at + 1);
    return (size_t)at > s->server->line_max ? -1 : 1;
}

bool imap_input_wait(struct imap_session *s)
{
    struct err err;

    if (stream_eof(s->stream))
        return false;
    stream_deadline(s->stream, clock_after(IMAP_STALL_MS));
    if (stream_fill(s->stream, &err) < 0) {
        /* The client is gone: what runs for it stops as well. */
        if (err.class == ERR_PEER && !task_is_cancelled())
            s->is_broken = true;
        return false;
    }
    join(s);
    return !stream_eof(s->stream) && !s->early.overflow;
}

void imap_input_consume(struct imap_session *s, size_t n)
{
    consume(s, n);
}

bool imap_has_input(const struct imap_session *s)
{
    return peek(s).n > 0;
}

bool imap_has_line(struct imap_session *s)
{
    return slice_chr(peek(s), '\n') >= 0;
}

/* What is at the end of a line goes. */
static slice chomp(slice line)
{
    if (slice_ends(line, SL("\n")))
        line.n--;
    if (slice_ends(line, SL("\r")))
        line.n--;
    return line;
}

/* A line with its end, still in the buffer. */
MAY_WAIT static bool line_there(struct imap_session *s, slice *out)
{
    for (;;) {
        slice in = peek(s);
        ssize_t at = slice_chr(in, '\n');

        if (at >= 0 && (size_t)at <= s->server->line_max) {
            *out = slice_sub(in, 0, (size_t)at + 1);
            return true;
        }
        if (at >= 0 || in.n > s->server->line_max) {
            imap_bye(s, "Too long command line.");
            return false;
        }
        if (!fill(s)) {
            s->is_broken = true;
            return false;
        }
    }
}

bool imap_read_line(struct imap_session *s, slice *out)
{
    struct buf *line = &s->work->line;
    slice in;

    if (!line_there(s, &in))
        return false;
    buf_clear(line);
    buf_slice(line, in);
    consume(s, in.n);
    *out = chomp(buf_view(line));
    return true;
}

/* n bytes of the client's into b (NULL: away with them). */
MAY_WAIT static bool read_bytes(struct imap_session *s, uint64_t n,
                                struct buf *b)
{
    while (n > 0) {
        slice in = slice_sub(peek(s), 0, n < SIZE_MAX ? (size_t)n : SIZE_MAX);

        if (in.n == 0) {
            if (!fill(s)) {
                s->is_broken = true;
                return false;
            }
            continue;
        }
        if (b != NULL)
            buf_slice(b, in);
        n -= in.n;
        consume(s, in.n);
    }
    return true;
}

/* The tag, for a refusal of what is not read whole. */
static slice tag_of(slice line)
{
    slice tag;

    if (!slice_cut(&line, ' ', &tag) || tag.n == 0 || tag.n > 128)
        return SL("*");
    for (size_t i = 0; i < tag.n; i++)
        if ((unsigned char)tag.p[i] <= ' ' || (unsigned char)tag.p[i] > '~' ||
            strchr("(){%*\"\\+", tag.p[i]) != NULL)
            return SL("*");
    return tag;
}

/* RFC 3501 4.3: who asked first is told no; who sends at once gets no further
 * (RFC 7888 4). */
static int refuse_literal(struct imap_session *s, bool is_plus)
{
    if (is_plus) {
        imap_bye(s, "Too long literal.");
        return 0;
    }
    imap_say(s, tag_of(buf_view(&s->work->line)));
    imap_says(s, " BAD [TOOBIG] Literal size too large.\r\n");
    return -1;
}

/* APPEND reads what it is to read itself. */
static bool is_streamed(slice line)
{
    slice word;

    return slice_cut(&line, ' ', &word) &&
           (slice_cut(&line, ' ', &word), slice_ieqs(word, "APPEND"));
}

int imap_read_command(struct imap_session *s)
{
    struct buf *all = &s->work->line;
    size_t start = 0;

    buf_clear(all);
    for (;;) {
        bool is_plus;
        uint64_t n;
        slice in;

        if (!line_there(s, &in))
            return 0;
        buf_slice(all, in);
        consume(s, in.n);
        in = chomp(slice_from(buf_view(all), start));
        if (!imap_line_literal(in, &n, &is_plus) ||
            (start == 0 && is_streamed(in))) {
            all->n = start + in.n;
            return 1;
        }
        if (n > IMAP_LITERAL_MAX || all->n + n > IMAP_COMMAND_MAX)
            return refuse_literal(s, is_plus);
        if (!is_plus)
            imap_says(s, "+ OK\r\n");
        if (!read_bytes(s, n, all))
            return 0;
        start = all->n;
        if (all->n + s->server->line_max > all->max) {
            imap_bye(s, "Too long command.");
            return 0;
        }
    }
}

/* ---- literals of IMAP_STREAM commands */

bool imap_literal_ask(struct imap_cmd *c, bool is_plus)
{
    if (!is_plus)
        imap_says(c->s, "+ OK\r\n");
    return is_plus || imap_flush(c->s);
}

bool imap_literal_next(struct imap_cmd *c, uint64_t *left, slice *out)
{
    struct imap_session *s = c->s;

    if (*left == 0)
        return false;
    if (peek(s).n == 0 && !fill(s)) {
        s->is_broken = true;
        return false;
    }
    /* A copy: the stream's own bytes move when they are consumed. */
    buf_clear(&s->work->line);
    buf_slice(&s->work->line,
              slice_sub(peek(s), 0,
                        *left < IMAP_LITERAL_MAX ? (size_t)*left
                                                 : (size_t)IMAP_LITERAL_MAX));
    consume(s, s->work->line.n);
    *left -= s->work->line.n;
    *out = buf_view(&s->work->line);
    return true;
}

bool imap_literal_whole(struct imap_cmd *c, uint64_t n, slice *out)
{
    char *p =
        n <= IMAP_LITERAL_MAX ? arena_alloc(c->arena, (size_t)n + 1) : NULL;
    uint64_t left = n;
    slice piece;

    if (p == NULL)
        return false;
    while (left > 0) {
        size_t at = (size_t)(n - left);

        if (!imap_literal_next(c, &left, &piece))
            return false;
        memcpy(p + at, piece.p, piece.n);
    }
    *out = slice_of(p, (size_t)n);
    return true;
}

bool imap_line_rest(struct imap_cmd *c)
{
    slice line;

    if (!imap_read_line(c->s, &line))
        return false;
    c->in.rest = slice_dup(c->arena, line);
    return c->in.rest.p != NULL || line.n == 0;
}
