/* TLS between a stream and the io beneath it. */
#include "rt/tls_priv.h"

#include <openssl/err.h>

enum { HELD = 1024 };

/* ---- beneath: OpenSSL reads and writes through a BIO that has no buffers */

static int under_read(BIO *b, char *p, int n)
{
    struct stream *s = BIO_get_data(b);
    struct tls_conn *t = s->tls;
    ssize_t got;

    BIO_clear_retry_flags(b);
    if (!s->in_ready) {
        BIO_set_retry_read(b);
        return -1;
    }
    do
        got = t->io->read(s, p, (size_t)n);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        s->in_ready = got == n || s->hung_up;
    } else if (got == 0) {
        t->saw_end = true;
    } else if (errno == EAGAIN) {
        s->in_ready = false;
        BIO_set_retry_read(b);
    } else {
        t->broken = (int16_t)errno;
    }
    return (int)got;
}

/* The tickets of a new TLS 1.3 connection: nobody waits for them, and mostly a
 * greeting follows at once. */
static bool hold(struct tls_conn *t, const char *p, int n)
{
    if (t->is_up || SSL_get_state(t->ssl) != TLS_ST_SW_SESSION_TICKET ||
        SSL_version(t->ssl) != TLS1_3_VERSION || t->n_held + (size_t)n > HELD)
        return false;
    if (t->held == NULL)
        t->held = xmalloc(HELD);
    memcpy(t->held + t->n_held, p, (size_t)n);
    t->n_held += (size_t)n;
    return true;
}

/* What was held and then v[1]; the count of the latter that went, or -1. */
static ssize_t send_held(struct stream *s, struct iovec v[2])
{
    struct tls_conn *t = s->tls;
    ssize_t put;

    v[0] = (struct iovec){ t->held, t->n_held };
    do
        put = t->io->writev(s, v, v[1].iov_len > 0 ? 2 : 1);
    while (put < 0 && errno == EINTR);
    if (put < 0)
        return -1;
    if ((size_t)put < t->n_held) {
        t->n_held -= (size_t)put;
        memmove(t->held, t->held + put, t->n_held);
        errno = EAGAIN;
        return -1;
    }
    put -= (ssize_t)t->n_held;
    free(t->held);
    t->held = NULL;
    t->n_held = 0;
    if (put == 0 && v[1].iov_len > 0) {
        errno = EAGAIN;
        return -1;
    }
    return put;
}

/* Nothing follows for now. */
static void flush_held(struct stream *s)
{
    struct iovec v[2] = { 0 };

    if (s->tls->n_held > 0 && send_held(s, v) < 0 && errno != EAGAIN)
        s->tls->broken = (int16_t)errno;
}

static int under_write(BIO *b, const char *p, int n)
{
    struct stream *s = BIO_get_data(b);
    struct tls_conn *t = s->tls;
    struct iovec v[2] = { { 0 }, { unconst(p), (size_t)n } };
    ssize_t put;

    BIO_clear_retry_flags(b);
    if (hold(t, p, n))
        return n;
    do
        put = t->n_held > 0 ? send_held(s, v) : t->io->writev(s, &v[1], 1);
    while (put < 0 && errno == EINTR);
    if (put < 0 && errno == EAGAIN) {
        s->out_ready = false;
        BIO_set_retry_write(b);
    } else if (put < 0) {
        t->broken = (int16_t)errno;
    }
    return (int)put;
}

static long under_ctrl(BIO *b, int what, UNUSED long number,
                       UNUSED void *pointer)
{
    const struct stream *s = BIO_get_data(b);

    if (what == BIO_CTRL_FLUSH)
        return 1;
    return what == BIO_CTRL_EOF && s->tls->saw_end;
}

static BIO *under_new(struct stream *s)
{
    static BIO_METHOD *method;
    BIO *b;

    if (method == NULL) {
        method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(),
                              "hato stream");
        CHECK(method != NULL);
        BIO_meth_set_read(method, under_read);
        BIO_meth_set_write(method, under_write);
        BIO_meth_set_ctrl(method, under_ctrl);
    }
    b = BIO_new(method);
    CHECK(b != NULL);
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    return b;
}

/* ---- the stream's io */

/* What a call that failed means, as errno; nothing may be called after a fatal
 * failure, but for freeing. */
static int why_failed(struct stream *s, int rc)
{
    struct tls_conn *t = s->tls;
    int why = SSL_get_error(t->ssl, rc);

    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return EAGAIN;
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    ERR_clear_error();
    t->is_up = false;
    if (t->saw_end) {
        t->was_cut = true;
        return 0;
    }
    return t->broken != 0 ? t->broken : EPROTO;
}

static ssize_t tls_read(struct stream *s, void *p, size_t n)
{
    struct tls_conn *t = s->tls;
    int rc, why;

    if (!t->is_up) {
        errno = EPROTO;
        return t->was_cut ? 0 : -1;
    }
    ERR_clear_error();
    rc = SSL_read(t->ssl, p, (int)min_size(n, INT_MAX));
    if (rc > 0) {
        if (SSL_has_pending(t->ssl))
            s->in_ready = true;
        return rc;
    }
    why = SSL_get_error(t->ssl, rc);
    if (why == SSL_ERROR_WANT_WRITE) {
        /* The answer to a key update does not go out: no reading before. */
        s->read_wants_out = true;
        t->io->arm_out(s);
        errno = EAGAIN;
        return -1;
    }
    errno = why_failed(s, rc);
    return errno == 0 ? 0 : -1;
}

static ssize_t tls_writev(struct stream *s, const struct iovec *v, int n)
{
    struct tls_conn *t = s->tls;
    size_t total = 0;

    if (!t->is_up) {
        errno = EPIPE;
        return -1;
    }
    for (int i = 0; i < n; i++) {
        const char *p = v[i].iov_base;
        size_t left = v[i].iov_len;

        while (left > 0) {
            int rc;

            ERR_clear_error();
            rc = SSL_write(t->ssl, p, (int)min_size(left, INT_MAX));
            if (rc <= 0) {
                errno = why_failed(s, rc);
                if (errno == 0)
                    errno = EPIPE;
                return total > 0 && errno == EAGAIN ? (ssize_t)total : -1;
            }
            p += rc;
            left -= (size_t)rc;
            total += (size_t)rc;
        }
    }
    return (ssize_t)total;
}

static void tls_arm_in(struct stream *s)
{
    flush_held(s);
    s->tls->io->arm_in(s);
}

static void tls_arm_out(struct stream *s)
{
    s->tls->io->arm_out(s);
}

/* close_notify, if it goes at once: nobody waits for it. */
static void say_bye(struct tls_conn *t)
{
    if (!t->is_up || t->saw_end)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}

static void tls_shut_out(struct stream *s)
{
    flush_held(s);
    say_bye(s->tls);
    s->tls->io->shut_out(s);
}

static void tls_close(struct stream *s)
{
    struct tls_conn *t = s->tls;

    if (s->broken == 0 && !s->out_shut) {
        flush_held(s);
        say_bye(t);
    }
    free(t->held);
    SSL_free(t->ssl);
    tls_judge_free(&t->judge);
    tls_context_unref(&t->context);
    s->tls = NULL;
    s->io = t->io;
    free(t);
    s->io->close(s);
}

static const struct stream_io tls_io = {
    .read = tls_read,
    .writev = tls_writev,
    .arm_in = tls_arm_in,
    .arm_out = tls_arm_out,
    .shut_out = tls_shut_out,
    .close = tls_close,
};

/* ---- the handshake */

static int handshake_failed(struct stream *s, struct err *err)
{
    struct tls_conn *t = s->tls;

    s->broken = EPROTO;
    if (t->broken != 0) {
        s->broken = t->broken;
        ERR_clear_error();
        return err_peer(err, "lost connection: %s", strerror(t->broken));
    }
    if (t->saw_end) {
        ERR_clear_error();
        return err_peer(err, "lost connection");
    }
    return tls_fail(err, ERR_PEER, "");
}

int tls_handshake(struct stream *s, struct err *err)
{
    struct tls_conn *t = s->tls;

    for (;;) {
        int rc, why;

        ERR_clear_error();
        rc = SSL_do_handshake(t->ssl);
        if (rc == 1)
            return 0;
        why = SSL_get_error(t->ssl, rc);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return handshake_failed(s, err);
        rc = why == SSL_ERROR_WANT_READ ? stream_wait_in(s, err)
                                        : stream_wait_out(s, err);
        if (rc < 0) {
            s->broken = EPROTO;
            return -1;
        }
    }
}

struct tls_conn *tls_attach(struct stream *s, struct tls_context *ctx)
{
    struct tls_conn *t = xcalloc(1, sizeof(*t));
    BIO *b;

    iobuf_free(&s->in); /* invariant 1 */
    s->scanned = 0;
    t->ssl = SSL_new(ctx->ctx);
    CHECK(t->ssl != NULL);
    t->context = tls_context_ref(ctx);
    t->io = s->io;
    s->tls = t;
    s->io = &tls_io;
    b = under_new(s);
    SSL_set_bio(t->ssl, b, b);
    return t;
}

int stream_tls_accept(struct stream *s, struct tls_context *ctx,
                      struct err *err)
{
    struct tls_conn *t;

    CHECK_OBJ(s, STREAM_MAGIC);
    CHECK_OBJ(ctx, TLS_CONTEXT_MAGIC);
    CHECK(s->tls == NULL && !s->is_parked && s->reader == NULL);
    CHECK(ctx->is_server);
    if (stream_flush(s, err) < 0)
        return -1;
    if (s->eof)
        return err_peer(err, "lost connection");
    t = tls_attach(s, ctx);
    SSL_set_accept_state(t->ssl);
    if (tls_handshake(s, err) < 0)
        return -1;
    t->is_up = true;
    s->in_ready |= SSL_has_pending(t->ssl) != 0;
    return 0;
}

bool stream_is_tls(const struct stream *s)
{
    return s->tls != NULL;
}
