/* HTTP over TLS as far as policies and reports need it: one request, one
 * answer, no redirections, nothing kept. */
#include "fetch/fetch_priv.h"

#include "rt/stream.h"

#define HEAD_MAX   ((size_t)16 << 10)
#define CONNECT_MS 10000

/* ---- pure */

static bool one_field(slice line, struct http_answer *out, int64_t *length,
                      bool *chunked)
{
    slice name;

    if (!slice_cut(&line, ':', &name) || name.n == 0)
        return false;
    line = slice_trim(line);
    if (slice_ieqs(name, "content-length")) {
        uint64_t n;

        if (!slice_u64(line, &n) || n > INT64_MAX)
            return false;
        *length = (int64_t)n;
    } else if (slice_ieqs(name, "transfer-encoding")) {
        if (!slice_ieqs(line, "chunked"))
            return false;
        *chunked = true;
    } else if (slice_ieqs(name, "content-type")) {
        slice type;

        (void)slice_cut(&line, ';', &type);
        out->is_text = slice_ieqs(slice_trim(type), "text/plain");
    } else if (slice_ieqs(name, "content-encoding")) {
        return slice_ieqs(line, "identity");
    }
    return true;
}

bool http_parse_head(slice head, struct http_answer *out, int64_t *length,
                     bool *chunked)
{
    slice line;
    uint64_t status;

    *length = -1;
    *chunked = false;
    out->is_text = true;
    (void)slice_cut(&head, '\n', &line);
    if (!slice_starts(line, SL("HTTP/1.")) || line.n < 12 || line.p[8] != ' ' ||
        !slice_u64(slice_sub(line, 9, 3), &status))
        return false;
    out->status = (int)status;
    while (head.n > 0) {
        (void)slice_cut(&head, '\n', &line);
        line = slice_rtrim(line);
        if (line.n > 0 && !one_field(line, out, length, chunked))
            return false;
    }
    return true;
}

/* RFC 9112 7.1.  Trailers are passed over with the connection. */
int http_take_chunks(slice *in, struct buf *out)
{
    for (;;) {
        slice rest = *in, line;
        size_t size = 0;

        if (!slice_cut(&rest, '\n', &line))
            return line.n > 64 ? -1 : 0;
        line = slice_rtrim(line);
        if (slice_chr(line, ';') >= 0)
            line.n = (size_t)slice_chr(line, ';');
        line = slice_trim(line);
        if (line.n == 0 || line.n > 8)
            return -1;
        for (size_t i = 0; i < line.n; i++) {
            static const char hex[] = "0123456789abcdef";
            ssize_t v = slice_chr(SL(hex), ascii_lower(line.p[i]));

            if (v < 0)
                return -1;
            size = size * 16 + (size_t)v;
        }
        if (size == 0)
            return 1;
        if (size > out->max - out->n)
            return -1;
        if (rest.n < size + 2)
            return 0;
        (void)buf_put(out, rest.p, size);
        rest = slice_from(rest, size);
        if (!slice_starts(rest, SL("\r\n")))
            return -1;
        *in = slice_from(rest, 2);
    }
}

/* ---- talking */

MAY_WAIT static int send_request(struct stream *st,
                                 const struct http_request *r, struct err *err)
{
    char port[8] = "";

    if (r->port != 443)
        (void)snprintf(port, sizeof port, ":%u", r->port);
    if (stream_printf(st, err,
                      "%s %.*s HTTP/1.1\r\nHost: %.*s%s\r\nUser-Agent: "
                      "Hato/" HATO_VERSION "\r\nConnection: close\r\n",
                      r->body.n > 0 ? "POST" : "GET", SLF(r->path),
                      SLF(r->host), port) < 0)
        return -1;
    if (r->body.n > 0 &&
        (stream_printf(st, err, "Content-Type: %.*s\r\nContent-Length: %zu\r\n",
                       SLF(r->content_type), r->body.n) < 0))
        return -1;
    if (stream_puts(st, "\r\n", err) < 0 ||
        (r->body.n > 0 && stream_write(st, r->body, err) < 0))
        return -1;
    return stream_flush(st, err);
}

/* The head's bytes with its empty line; consumed by the caller. */
MAY_WAIT static int read_head(struct stream *st, size_t *n, struct err *err)
{
    for (;;) {
        slice have = stream_peek(st);
        ssize_t at = slice_find(have, SL("\r\n\r\n"));

        if (at >= 0) {
            *n = (size_t)at + 4;
            return 0;
        }
        if (have.n >= HEAD_MAX)
            return err_perm(err, "the answer's header is too long");
        if (stream_eof(st))
            return err_perm(err, "the connection ended before the answer");
        if (stream_fill(st, err) < 0)
            return -1;
    }
}

MAY_WAIT static int read_chunks(struct stream *st, struct buf *out,
                                struct err *err)
{
    for (;;) {
        slice have = stream_peek(st), rest = have;
        int rc = http_take_chunks(&rest, out);

        stream_consume(st, have.n - rest.n);
        if (rc > 0)
            return 0;
        if (rc < 0)
            return err_perm(err, "the answer is too long, or no HTTP");
        if (stream_eof(st))
            return err_perm(err, "the connection ended within the answer");
        if (stream_fill(st, err) < 0)
            return -1;
    }
}

static bool was_cut(const struct stream *st)
{
    struct tls_info *info = xcalloc(1, sizeof *info);
    bool cut = stream_tls_info(st, info) && info->was_cut;

    free(info);
    return cut;
}

MAY_WAIT static int read_body(struct stream *st, int64_t length,
                              struct buf *out, struct err *err)
{
    if (length > (int64_t)out->max)
        return err_perm(err, "the answer is longer than %zu bytes", out->max);
    for (;;) {
        slice have = stream_peek(st);

        if (length >= 0)
            have = slice_sub(have, 0, (size_t)length - out->n);
        if (!buf_slice(out, have))
            return err_perm(err, "the answer is longer than %zu bytes",
                            out->max);
        stream_consume(st, have.n);
        if (length >= 0 && out->n == (size_t)length)
            return 0;
        if (stream_eof(st) && (length >= 0 || was_cut(st)))
            return err_perm(err, "the connection ended within the answer");
        if (stream_eof(st))
            return 0;
        if (stream_fill(st, err) < 0)
            return -1;
    }
}

MAY_WAIT static int read_answer(struct stream *st, struct http_answer *out,
                                struct err *err)
{
    int64_t length;
    bool chunked;
    size_t n = 0;

    if (read_head(st, &n, err) < 0)
        return -1;
    if (!http_parse_head(slice_sub(stream_peek(st), 0, n), out, &length,
                         &chunked))
        return err_perm(err, "the answer is no HTTP");
    stream_consume(st, n);
    return chunked ? read_chunks(st, &out->body, err)
                   : read_body(st, length, &out->body, err);
}

MAY_WAIT static int talk(struct stream *st, const struct http_request *r,
                         struct http_answer *out, struct err *err)
{
    const struct tls_connect how = { .check = TLS_CHECK_NAMES,
                                     .sni = r->host,
                                     .names = &r->host,
                                     .n_names = 1,
                                     .min_version = 0x0303 };
    struct tls_server_info *info = xcalloc(1, sizeof *info);
    int rc = stream_tls_connect(st, r->ctx, &how, info, err);

    if (rc == 0 && !info->is_matched)
        rc = err_set(err, ERR_PERM, "4.7.5", "%s", info->why);
    free(info);
    if (rc < 0 || send_request(st, r, err) < 0)
        return -1;
    return read_answer(st, out, err);
}

static msec sooner(msec a, msec b)
{
    return a < b ? a : b;
}

int http_ask(const struct http_request *r, struct http_answer *out,
             struct err *err)
{
    (void)err_temp(err, "%.*s has no address", SLF(r->host));
    for (size_t i = 0; i < r->n_addrs; i++) {
        bool is_v6 = slice_chr(r->addrs[i], ':') >= 0;
        struct stream *st;
        char where[100];
        int fd, rc;

        (void)snprintf(where, sizeof where,
                       is_v6 ? "inet:[%.*s]:%u" : "inet:%.*s:%u",
                       SLF(r->addrs[i]), r->port);
        /* One that does not answer leaves time for the others. */
        if (socket_connect(slice_str(where),
                           sooner(clock_after(CONNECT_MS), r->deadline), &fd,
                           err) < 0)
            continue;
        st = stream_from_own_fd(fd);
        stream_deadline(st, r->deadline);
        rc = talk(st, r, out, err);
        stream_free(&st);
        return rc;
    }
    return -1;
}
