/* Output of streams. */
#include "rt/stream_priv.h"

#include <sys/uio.h>

/* Send what is buffered and then `more`, all of it or as much as goes now.
 * The count of `more` that went, or -1: broken. */
static ssize_t send_now(struct stream *s, slice more)
{
    struct iovec v[2];
    size_t used = iobuf_used(&s->out);
    int n_v = 0;
    ssize_t n;

    if (used > 0)
        v[n_v++] = (struct iovec){ s->out.p + s->out.from, used };
    if (more.n > 0)
        v[n_v++] = (struct iovec){ unconst(more.p), more.n };
    do
        n = s->io->writev(s, v, n_v);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        s->out_ready = false;
        return 0;
    }
    if (n < 0) {
        s->broken = (int16_t)errno;
        return -1;
    }
    if ((size_t)n < used) {
        s->out.from += (uint32_t)n;
        return 0;
    }
    iobuf_free(&s->out);
    return n - (ssize_t)used;
}

int stream_wait_out(struct stream *s, struct err *err)
{
    enum wait_end end;

    s->io->arm_out(s);
    if (s->out_ready)
        return 0;
    s->writer = task_self();
    end = task_block(WAIT_WAKE, s->deadline);
    CHECK_OBJ(s, STREAM_MAGIC);
    s->writer = NULL;
    return end == WAIT_WOKEN ? 0 : wait_result(end, err);
}

MAY_WAIT static int send_all(struct stream *s, slice more, struct err *err)
{
    CHECK(s->writer == NULL);
    while (iobuf_used(&s->out) + more.n > 0) {
        ssize_t n;

        if (s->broken != 0)
            return stream_broken(s, err);
        n = send_now(s, more);
        if (n < 0)
            return stream_broken(s, err);
        more = slice_from(more, (size_t)n);
        if (iobuf_used(&s->out) + more.n == 0)
            break;
        if (!s->out_ready && stream_wait_out(s, err) < 0)
            return -1;
    }
    return 0;
}

static void put(struct stream *s, slice data)
{
    iobuf_room(&s->out, data.n);
    memcpy(s->out.p + s->out.to, data.p, data.n);
    s->out.to += (uint32_t)data.n;
}

int stream_write(struct stream *s, slice data, struct err *err)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(!s->out_shut);
    if (s->broken != 0)
        return stream_broken(s, err);
    if (data.n == 0)
        return 0;
    if (data.n > s->out_max || iobuf_used(&s->out) > s->out_max - data.n)
        return send_all(s, data, err);
    put(s, data);
    return 0;
}

int stream_puts(struct stream *s, const char *text, struct err *err)
{
    return stream_write(s, slice_str(text), err);
}

__attribute__((format(printf, 3, 0))) MAY_WAIT static int print_large(
    struct stream *s, struct err *err, const char *fmt, va_list ap)
{
    struct buf b;
    int rc;

    buf_init(&b, (size_t)1 << 20);
    if (!buf_vprintf(&b, fmt, ap))
        rc = err_temp(err, "more than 1 MiB in one stream_printf");
    else
        rc = stream_write(s, buf_view(&b), err);
    buf_done(&b);
    return rc;
}

int stream_printf(struct stream *s, struct err *err, const char *fmt, ...)
{
    enum { USUAL = 512 };

    va_list ap;
    int n = USUAL;
    int rc;

    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK(!s->out_shut);
    if (s->broken != 0)
        return stream_broken(s, err);
    if (iobuf_used(&s->out) + USUAL <= s->out_max) {
        iobuf_room(&s->out, USUAL);
        va_start(ap, fmt);
        n = vsnprintf(s->out.p + s->out.to, USUAL, fmt, ap);
        va_end(ap);
        CHECK(n >= 0);
        if (n < USUAL) {
            s->out.to += (uint32_t)n;
            return 0;
        }
    }
    va_start(ap, fmt);
    rc = print_large(s, err, fmt, ap);
    va_end(ap);
    return rc;
}

int stream_flush(struct stream *s, struct err *err)
{
    CHECK_OBJ(s, STREAM_MAGIC);
    if (s->broken != 0)
        return stream_broken(s, err);
    if (iobuf_used(&s->out) == 0) {
        iobuf_free(&s->out);
        return 0;
    }
    return send_all(s, SLICE_NONE, err);
}

size_t stream_unsent(const struct stream *s)
{
    return iobuf_used(&s->out);
}

int stream_shutdown(struct stream *s, struct err *err)
{
    if (s->out_shut)
        return 0;
    if (stream_flush(s, err) < 0)
        return -1;
    s->out_shut = true;
    s->io->shut_out(s);
    return 0;
}
