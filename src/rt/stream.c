/* Input of streams, making and freeing them. */
#include "rt/stream.h"

#include "rt/stream_priv.h"

/* 100,000 quiet sessions are 100,000 of these. */
_Static_assert(sizeof(struct stream) <= 256, "a stream stays small");

enum { IN_MAX = 65536, OUT_MAX = 32768 };

struct stream *stream_new(const struct stream_io *io, int fd, int out_fd)
{
    struct stream *s = xcalloc(1, sizeof(*s));

    CHECK(rt_loop.is_open);
    s->magic = STREAM_MAGIC;
    s->io = io;
    s->fd = fd;
    s->out_fd = out_fd;
    s->in_ready = true;
    s->out_ready = true;
    s->in_max = IN_MAX;
    s->out_max = OUT_MAX;
    s->in_next = IOBUF_MIN;
    s->deadline = MSEC_NEVER;
    s->park_deadline = MSEC_NEVER;
    list_push(&rt_loop.streams, &s->link);
    return s;
}

void stream_free(struct stream **sp)
{
    struct stream *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(s->reader == NULL && s->writer == NULL);
    stream_unpark(s);
    lazy_timer_drop(&s->timer);
    s->io->close(s);
    iobuf_free(&s->in);
    iobuf_free(&s->out);
    list_remove(&s->link);
    s->magic = 0;
    free(s);
}

void stream_deadline(struct stream *s, msec at)
{
    s->deadline = at;
}

void stream_limits(struct stream *s, size_t in_max, size_t out_max)
{
    CHECK(in_max > 0 && in_max <= 1 << 30 && out_max > 0 && out_max <= 1 << 30);
    s->in_max = (uint32_t)in_max;
    s->out_max = (uint32_t)out_max;
}

void stream_expect(struct stream *s, size_t n)
{
    size_t size = IOBUF_MIN;

    while (size < n && size < IOBUF_MAX)
        size *= 2;
    if (s->in_next < size)
        s->in_next = (uint32_t)size;
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

int stream_release_fd(struct stream **sp)
{
    struct stream *s = *sp;
    int fd;

    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(s->tls == NULL);
    CHECK(s->fd == s->out_fd && iobuf_used(&s->in) == 0 &&
          iobuf_used(&s->out) == 0);
    fd = s->fd;
    if (fd >= 0 && (s->in_armed || s->out_armed))
        source_del(fd, &s->source);
    s->in_armed = false;
    s->out_armed = false;
    s->fd = -1;
    s->out_fd = -1;
    stream_free(sp);
    return fd;
}

int stream_broken(const struct stream *s, struct err *err)
{
    return err_peer(err, "connection lost: %s", strerror(s->broken));
}

/* ---- input */

slice stream_peek(const struct stream *s)
{
    size_t n = iobuf_used(&s->in);

    return n == 0 ? SLICE_NONE : slice_of(s->in.p + s->in.from, n);
}

void stream_consume(struct stream *s, size_t n)
{
    CHECK(n <= iobuf_used(&s->in));
    s->in.from += (uint32_t)n;
    s->scanned = s->scanned > n ? s->scanned - (uint32_t)n : 0;
    if (s->in.from == s->in.to)
        iobuf_free(&s->in);
}

void stream_unread(struct stream *s, slice bytes)
{
    size_t used = iobuf_used(&s->in);

    if (bytes.n == 0)
        return;
    CHECK(used + bytes.n <= 65536);
    iobuf_room(&s->in, bytes.n);
    memmove(s->in.p + s->in.from + bytes.n, s->in.p + s->in.from, used);
    memcpy(s->in.p + s->in.from, bytes.p, bytes.n);
    s->in.to += (uint32_t)bytes.n;
    s->scanned = 0;
}

bool stream_eof(const struct stream *s)
{
    return s->eof;
}

/* A buffer that was filled to the brim is followed by a larger one. */
static void adapt_size(struct stream *s, size_t got, size_t room)
{
    if (got == room && s->in_next < IOBUF_MAX)
        s->in_next *= 2;
    else if (got < IOBUF_MIN / 2 && s->in_next > IOBUF_MIN)
        s->in_next /= 2;
}

static size_t make_room(struct stream *s)
{
    size_t used = iobuf_used(&s->in);
    size_t room;

    if (used == 0) {
        /* Also when a line that was handed out lies in it. */
        if (s->in.p != NULL && s->in.size < s->in_next)
            iobuf_free(&s->in);
        s->in.from = 0;
        s->in.to = 0;
    }
    room = min_size(max_size(s->in_next, used + 1024), s->in_max);
    iobuf_room(&s->in, room - used);
    return min_size(s->in.size - s->in.to, s->in_max - used);
}

enum stream_got stream_try_read(struct stream *s)
{
    size_t room;
    ssize_t n;

    if (s->broken != 0)
        return GOT_ERROR;
    if (s->eof)
        return GOT_EOF;
    if (!s->in_ready)
        return GOT_NOTHING;
    room = make_room(s);
    do
        n = s->io->read(s, s->in.p + s->in.to, room);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        s->in.to += (uint32_t)n;
        if (s->tls == NULL)
            s->in_ready = (size_t)n == room || s->hung_up;
        adapt_size(s, (size_t)n, room);
        return GOT_BYTES;
    }
    if (iobuf_used(&s->in) == 0)
        iobuf_free(&s->in);
    if (n == 0) {
        s->eof = true;
        return GOT_EOF;
    }
    if (errno == EAGAIN) {
        s->in_ready = false;
        return GOT_NOTHING;
    }
    s->broken = (int16_t)errno;
    return GOT_ERROR;
}

bool stream_fill_now(struct stream *s)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    if (iobuf_used(&s->in) >= s->in_max)
        return false;
    return stream_try_read(s) == GOT_BYTES;
}

int stream_wait_in(struct stream *s, struct err *err)
{
    enum wait_end end;

    if (iobuf_used(&s->in) == 0)
        iobuf_free(&s->in);
    s->io->arm_in(s);
    if (s->in_ready)
        return 0; /* a regular file */
    s->reader = task_self();
    end = task_block(WAIT_WAKE, s->deadline);
    CHECK_OBJ(s, STREAM_MAGIC);
    s->reader = NULL;
    return wait_result(end, err);
}

int stream_fill(struct stream *s, struct err *err)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(iobuf_used(&s->in) < s->in_max);
    CHECK(s->reader == NULL && !s->is_parked);
    for (;;) {
        enum stream_got got = stream_try_read(s);

        if (got == GOT_ERROR)
            return stream_broken(s, err);
        if (got != GOT_NOTHING)
            return 0;
        if (stream_wait_in(s, err) < 0)
            return -1;
    }
}

void stream_event(struct stream *s, uint32_t events)
{
    const uint32_t end = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

    if (events & end)
        s->hung_up = true;
    if (s->read_wants_out && (events & EPOLLOUT)) {
        s->read_wants_out = false;
        events |= EPOLLIN;
    }
    if (events & (EPOLLIN | end)) {
        s->in_ready = true;
        if (s->reader != NULL)
            task_wake(s->reader);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        s->out_ready = true;
        if (s->writer != NULL)
            task_wake(s->writer);
    }
    if (s->is_parked && s->in_ready)
        stream_parked_event(s);
}

/* The end of the first line in the buffer, behind its LF; 0: none yet. */
static size_t line_end(struct stream *s)
{
    slice all = stream_peek(s);
    ssize_t at;

    if (all.n <= s->scanned)
        return 0;
    at = slice_chr(slice_from(all, s->scanned), '\n');
    if (at < 0) {
        s->scanned = (uint32_t)all.n;
        return 0;
    }
    return s->scanned + (size_t)at + 1;
}

bool stream_has_line(const struct stream *s)
{
    slice all = stream_peek(s);

    return all.n > s->scanned &&
           slice_chr(slice_from(all, s->scanned), '\n') >= 0;
}

int stream_line(struct stream *s, size_t max, slice *line, struct err *err)
{
    size_t end;

    CHECK_OBJ(s, STREAM_MAGIC);
    while ((end = line_end(s)) == 0) {
        size_t used = iobuf_used(&s->in);

        if (used >= max || used >= s->in_max)
            return err_perm(err, "line too long");
        if (s->eof)
            return err_peer(err, "end of input");
        if (stream_fill(s, err) < 0)
            return -1;
    }
    if (end > max)
        return err_perm(err, "line too long");
    *line = slice_sub(stream_peek(s), 0, end);
    /* Not stream_consume(): the view has to stay. */
    s->in.from += (uint32_t)end;
    s->scanned = 0;
    return 0;
}

int stream_read_exact(struct stream *s, void *dst, size_t n, struct err *err)
{
    char *to = dst;

    while (n > 0) {
        slice have = slice_sub(stream_peek(s), 0, n);

        if (have.n == 0) {
            if (s->eof)
                return err_peer(err, "end of input");
            if (stream_fill(s, err) < 0)
                return -1;
            continue;
        }
        memcpy(to, have.p, have.n);
        stream_consume(s, have.n);
        to += have.n;
        n -= have.n;
    }
    return 0;
}

void streams_dump(struct buf *out)
{
    list_each(e, &rt_loop.streams) {
        const struct stream *s = CONTAINER_OF(e, struct stream, link);

        (void)buf_printf(out, "stream fd=%d in=%zu out=%zu%s%s%s%s%s%s\n",
                         s->fd, iobuf_used(&s->in), iobuf_used(&s->out),
                         s->tls ? " tls" : "", s->is_parked ? " parked" : "",
                         s->reader ? " reading" : "",
                         s->writer ? " writing" : "", s->eof ? " eof" : "",
                         s->broken ? " broken" : "");
    }
}
