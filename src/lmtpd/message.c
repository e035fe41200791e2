/* A transaction and the bytes of its message. */
#include "lmtpd/lmtpd_priv.h"

#include <sys/mman.h>
#include <sys/socket.h>

#define FEED_MAX (64u << 10)

static void fail(struct lmtpd_tx *tx, const struct err *err)
{
    if (tx->is_failed)
        return;
    tx->is_failed = true;
    tx->why = *err;
    buf_release(&tx->bytes);
    close_fd(&tx->body_fd);
}

void lmtpd_tx_arrived(struct lmtpd_session *s)
{
    if (!s->tx->is_coming)
        return;
    s->tx->is_coming = false;
    lmtp_syncs_coming(s->server->syncs, -1);
}

void lmtpd_tx_free(struct lmtpd_session *s)
{
    struct lmtpd_tx *tx = s->tx;
    struct arena *arena;

    if (tx == NULL)
        return;
    lmtpd_tx_arrived(s);
    s->tx = NULL;
    s->server->memory -= tx->counted;
    buf_done(&tx->bytes);
    close_fd(&tx->body_fd);
    arena = tx->arena; /* the transaction itself lies in it */
    arena_free(&arena);
}

static void put_received(struct lmtpd_session *s, struct buf *out)
{
    const struct lmtpd_tx *tx = s->tx;
    char date[40];

    clock_rfc5322(clock_wall() / 1000, date);
    (void)buf_printf(out, "Received: from %s", s->helo);
    if (s->peer.family != AF_UNIX)
        (void)buf_printf(out, " ([%s])", s->peer.text);
    (void)buf_printf(out, "\n\tby %s with LMTP\n\tid %s.%u", s->server->host,
                     s->id, s->n_messages);
    if (tx->n_rcpts == 1)
        (void)buf_printf(out, "\n\t(envelope-from <%.*s>)\n\tfor <%.*s>",
                         SLF(tx->sender), SLF(tx->rcpts[0].addr));
    (void)buf_printf(out, "; %s\n", date);
}

void lmtpd_body_begin(struct lmtpd_session *s, bool stuffed)
{
    struct lmtpd_tx *tx = s->tx;
    struct mail_dot_options opt = {
        .stuffed = stuffed,
        .bare_lf = s->line->bare_lf,
        .from_line = MAIL_FROM_RENAME,
    };

    mail_dot_init(&tx->dot, &opt);
    buf_init(&tx->bytes, LMTPD_INLINE + 3 * FEED_MAX);
    put_received(s, &tx->bytes);
    tx->has_body = true;
    s->n_messages++;
}

/* Memory that a message has taken counts until its transaction ends. */
static int count(struct lmtpd_session *s, struct err *err)
{
    struct lmtpd_tx *tx = s->tx;
    size_t now = tx->bytes.size + (size_t)tx->body_bytes;

    if (now > tx->counted) {
        s->server->memory += now - tx->counted;
        tx->counted = now;
    }
    if (s->server->memory > LMTPD_MEMORY)
        return err_set(err, ERR_TEMP, "4.3.1",
                       "Insufficient system storage, try again later");
    return 0;
}

static int write_all(int fd, slice in)
{
    while (in.n > 0) {
        ssize_t n = write(fd, in.p, in.n);

        if (n < 0)
            return -1;
        in = slice_from(in, (size_t)n);
    }
    return 0;
}

/* What is over LMTPD_INLINE goes to a file in memory. */
static int spill(struct lmtpd_tx *tx, struct err *err)
{
    slice all = buf_view(&tx->bytes);

    if (all.n <= LMTPD_INLINE)
        return 0;
    if (tx->body_fd < 0)
        tx->body_fd = memfd_create("message", MFD_CLOEXEC);
    if (tx->body_fd < 0 || write_all(tx->body_fd, all) < 0)
        return err_sys(err, "memory for a message");
    tx->body_bytes += all.n;
    buf_clear(&tx->bytes);
    return 0;
}

static void check(struct lmtpd_session *s)
{
    struct lmtpd_tx *tx = s->tx;
    struct err err;

    if (s->line->message_max > 0 && tx->dot.n_out > s->line->message_max) {
        (void)err_set(&err, ERR_PERM, "5.3.4", "message file too big");
        fail(tx, &err);
    } else if (count(s, &err) < 0 || spill(tx, &err) < 0) {
        fail(tx, &err);
    }
}

void lmtpd_body_feed(struct lmtpd_session *s, slice *in)
{
    struct lmtpd_tx *tx = s->tx;

    while (in->n > 0 && !tx->dot.done) {
        slice part = slice_sub(*in, 0, FEED_MAX);
        size_t had = part.n;

        /* Failed or not, the input is read to its end. */
        if (tx->is_failed)
            buf_clear(&tx->bytes);
        CHECK(buf_reserve(&tx->bytes, had + MAIL_DOT_SLACK) != NULL);
        mail_dot_feed(&tx->dot, &part, &tx->bytes);
        *in = slice_from(*in, had - part.n);
        if (!tx->is_failed)
            check(s);
    }
}

static void find_message_id(struct lmtpd_tx *tx)
{
    char *head CLEANUP(free_ptr) = NULL;
    slice in = buf_view(&tx->bytes);
    slice raw;

    if (tx->body_fd >= 0) {
        ssize_t n;

        head = xmalloc(FEED_MAX);
        n = pread(tx->body_fd, head, FEED_MAX, 0);
        in = slice_of(head, n > 0 ? (size_t)n : 0);
    }
    if (mail_header_find(in, "Message-Id", 0, &raw))
        tx->message_id =
            slice_dup(tx->arena, slice_sub(slice_trim(raw), 0, 500));
}

void lmtpd_body_finish(struct lmtpd_session *s)
{
    struct lmtpd_tx *tx = s->tx;
    struct err err;

    if (!tx->dot.done)
        mail_dot_finish(&tx->dot, &tx->bytes);
    if (tx->dot.is_bad && !tx->is_failed) {
        (void)err_set(&err, ERR_PERM, "5.5.2", "bare <LF> received");
        fail(tx, &err);
    }
    if (tx->is_failed)
        return;
    find_message_id(tx);
    if (tx->body_fd >= 0 && write_all(tx->body_fd, buf_view(&tx->bytes)) < 0) {
        (void)err_sys(&err, "memory for a message");
        fail(tx, &err);
    } else if (tx->body_fd >= 0) {
        tx->body_bytes += tx->bytes.n;
        buf_release(&tx->bytes);
    }
}
