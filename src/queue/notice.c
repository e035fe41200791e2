#include "base/base.h"

#include <fcntl.h>

#include "ipc/event.h"
#include "mail/mail.h"
#include "queue/queue_priv.h"

/*
 * Making a report about a message: the text from dsn.c, the returned message
 * from the segment, and an envelope that settles what it tells.
 */

#define FRONT_MAX     ((size_t)32 << 20) /* above GROUP_BYTES of settle.c */
#define READ_BYTES    (64u << 10)
#define HEADER_MAX    (100u << 10) /* of a message returned by its header */
#define NOTICE_MAX_TO 1000

struct maker {
    struct active *a;
    const struct notice *n;
    struct arena *arena;
    struct dsn dsn;
    slice to; /* with its domain */
    struct envelope env;
    struct buf headers;
    char message_id[400];
    int fd;
    uint64_t at, bytes; /* of the original's body */
    char boundary[400];
};

static void maker_done(struct maker *k)
{
    arena_free(&k->arena);
    buf_done(&k->headers);
    close_fd(&k->fd);
}

/* ------------------------------------------------------------ the original */

struct read_job {
    int fd;
    char *p;
    size_t n;
    off_t at;
    ssize_t got;
};

static int read_some(void *arg)
{
    struct read_job *j = arg;

    do {
        j->got = pread(j->fd, j->p, j->n, j->at);
    } while (j->got < 0 && errno == EINTR);
    return j->got < 0 ? -1 : 0;
}

/* A descriptor of our own: the spool's is good until the next wait only. */
static int open_original(struct maker *k, struct err *err)
{
    int fd;

    if (spool_read_fd(k->a->q->spool, k->a->qm->sm, &fd, &k->at, &k->bytes,
                      err) < 0)
        return -1;
    k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (k->fd < 0)
        return err_sys(err, "duplicate a segment's descriptor");
    return 0;
}

/* Bytes [from, from + n) of the body; *got may be short at the end only. */
static MAY_WAIT int read_body(struct maker *k, uint64_t from, char *p, size_t n,
                              size_t *got, struct err *err)
{
    struct read_job j = { .fd = k->fd, .p = p };
    size_t done = 0;

    while (done < n && from + done < k->bytes) {
        j.p = p + done;
        j.n = n - done;
        if (j.n > k->bytes - from - done)
            j.n = (size_t)(k->bytes - from - done);
        j.at = (off_t)(k->at + from + done);
        if (offload(read_some, &j) < 0)
            return err_sys(err, "read a message that is to be returned");
        if (j.got == 0)
            return err_temp(err, "a segment ends inside of a message");
        done += (size_t)j.got;
    }
    *got = done;
    return 0;
}

static MAY_WAIT int write_body(struct maker *k, struct spool_draft *d,
                               struct err *err)
{
    char *p CLEANUP(free_ptr) = xmalloc(READ_BYTES);
    uint64_t from = 0;
    size_t got = 0;

    while (from < k->bytes) {
        if (read_body(k, from, p, READ_BYTES, &got, err) < 0 ||
            spool_draft_write(d, slice_of(p, got), err) < 0)
            return -1;
        from += got;
    }
    return 0;
}

/* The original's own header: our trace fields are in the envelope, the rest is
 * the front of the body. */
static MAY_WAIT int write_header(struct maker *k, struct spool_draft *d,
                                 struct err *err)
{
    char *p CLEANUP(free_ptr) = xmalloc(HEADER_MAX);
    struct mail_header_iter it;
    struct mail_field f;
    size_t got = 0;
    size_t n;

    if (read_body(k, 0, p, HEADER_MAX, &got, err) < 0)
        return -1;
    mail_header_iter_init(&it, slice_of(p, got), false);
    n = it.pos;
    while (mail_header_next(&it, &f))
        n = f.offset + f.whole.n;
    return spool_draft_write(d, slice_of(p, min_size(n, got)), err);
}

/* ------------------------------------------------------------ the envelope */

/* Received, Date and Message-ID of the report; they hold its queue id. */
static void on_id(struct envelope *e, void *arg)
{
    struct maker *k = arg;
    const struct settings *s = k->a->set;
    int64_t sec = e->arrival_usec / 1000000;
    struct civil c;
    char date[40];

    clock_rfc5322(sec, date);
    clock_utc(sec, &c);
    (void)snprintf(k->message_id, sizeof(k->message_id),
                   "<%04d%02d%02d%02d%02d%02d.%s@%.300s>", c.year, c.month,
                   c.day, c.hour, c.min, c.sec, e->id, s->hostname);
    buf_clear(&k->headers);
    (void)buf_printf(&k->headers,
                     "Received: by %s (%s)\n\tid %s; %s\nDate: %s\n"
                     "Message-Id: %s\n",
                     s->hostname, s->mail_name, e->id, date, date,
                     k->message_id);
    e->headers = buf_view(&k->headers);
    e->message_id = slice_str(k->message_id);
    event_log(EV_INFO, "cleanup", "message-id", e->id,
              EV_PAIRS(ev_str("message-id", e->message_id)));
}

static MAY_WAIT int set_recipients(struct maker *k, struct err *err)
{
    const struct queue *q = k->a->q;
    const slice *to = &k->to;
    size_t n = 1;

    if (q->ops->recipients != NULL &&
        q->ops->recipients(q->arg, k->to, k->arena, &to, &n, err) < 0)
        return err_prefix(err, "recipients of a notification");
    if (n == 0 || n > NOTICE_MAX_TO)
        return err_temp(err, "a notification to %.*s has %zu recipients",
                        SLF(k->to), n);
    k->env.rcpts = ARENA_ARRAY(k->arena, struct envelope_rcpt, n);
    k->env.n_rcpts = n;
    for (size_t i = 0; i < n; i++) {
        k->env.rcpts[i].addr = to[i];
        if (!slice_eq(to[i], k->to))
            k->env.rcpts[i].orig = k->to;
    }
    return 0;
}

static void set_settles(struct maker *k)
{
    struct envelope_settles *v;

    if (k->n->n_settles == 0)
        return;
    v = xcalloc(k->n->n_settles, sizeof(*v));
    arena_defer(k->arena, free, v);
    for (size_t i = 0; i < k->n->n_settles; i++)
        v[i] = (struct envelope_settles){
            .seq = spool_message_seq(k->a->qm->sm),
            .rcpt = k->n->settles[i],
        };
    k->env.settles = v;
    k->env.n_settles = k->n->n_settles;
}

static MAY_WAIT int set_envelope(struct maker *k, struct err *err)
{
    k->env = (struct envelope){
        .sender = k->n->from,
        .flags = k->n->from.n == 0 ? ENV_BOUNCE : ENV_NOTICE,
        .client_name = SL("localhost"),
        .service = SL("bounce"),
        .on_id = on_id,
        .on_id_arg = k,
    };
    if (k->dsn.is_8bit)
        k->env.flags |= ENV_8BITMIME | ENV_8BIT_BODY;
    if (k->dsn.is_utf8)
        k->env.flags |= ENV_SMTPUTF8;
    set_settles(k);
    return set_recipients(k, err);
}

/* --------------------------------------------------------------- the report */

static const char *action_of(const struct active *a, const struct notice *n,
                             uint32_t i)
{
    const struct qrcpt *r = &a->v[i];

    if (r->state == RS_TRACED)
        return r->action;
    if (n->kind == DSN_FAILURE || r->state == RS_FAILED)
        return "failed";
    if (n->kind == DSN_DELAY || r->state == RS_DEFERRED)
        return "delayed";
    if (r->state != RS_SENT)
        return "expanded";
    return r->relayed == RELAYED_DELIVERED ? "delivered" : "relayed";
}

/* RFC 6533 forms only where the sender's client could ask for them and there
 * is something to say in them. */
static bool needs_utf8(const struct active *a, const struct notice *n)
{
    if ((a->env.flags & ENV_SMTPUTF8) == 0)
        return false;
    if (!mail_is_ascii(n->sender))
        return true;
    for (size_t i = 0; i < n->n; i++)
        if (!mail_is_ascii(a->v[n->idx[i]].addr) ||
            !mail_is_ascii(a->v[n->idx[i]].orig))
            return true;
    return false;
}

static void set_dsn(struct maker *k)
{
    struct active *a = k->a;
    const struct settings *s = a->set;
    const struct notice *n = k->n;
    struct dsn_rcpt *v = xcalloc(n->n, sizeof(*v));
    msec arrival = envelope_arrival_ms(&a->env);

    arena_defer(k->arena, free, v);
    for (size_t i = 0; i < n->n; i++) {
        const struct qrcpt *r = &a->v[n->idx[i]];

        v[i] = (struct dsn_rcpt){
            .addr = queue_shown(r->addr, r->path),
            .orig = r->orig,
            .orcpt = r->orcpt,
            .status = r->status,
            .diag = r->diag,
            .remote_mta = r->remote_mta,
            .last_attempt = r->tried,
            .action = action_of(a, n, n->idx[i]),
        };
    }
    (void)snprintf(k->boundary, sizeof(k->boundary), "%s.%" PRId64 "/%.300s",
                   a->env.id, clock_wall() / 1000, s->hostname);
    k->dsn = (struct dsn){
        .kind = n->kind,
        .is_postmaster_copy = n->is_postmaster_copy,
        .is_utf8 = needs_utf8(a, n),
        .is_8bit = (a->env.flags & ENV_8BIT_BODY) != 0 ||
                   !mail_is_ascii(a->env.headers),
        /* covers bounce_size_limit */
        .is_headers_only = n->is_headers_only ||
                           spool_message_size(a->qm->sm) > s->bounce_size,
        .hostname = slice_str(s->hostname),
        .origin = slice_str(s->origin),
        .mail_name = slice_str(s->mail_name),
        .to = k->to,
        .queue_id = slice_str(a->env.id),
        .sender = n->sender,
        .envid = a->env.envid,
        .references = s->is_threaded ? a->env.message_id : SLICE_NONE,
        .boundary = k->boundary,
        .arrival = arrival,
        .retry_until = arrival + s->times.lifetime,
        .delay_warning = s->delay_warning,
        .lifetime = s->times.lifetime,
        .rcpts = v,
        .n_rcpts = n->n,
    };
    (void)templates_use(a->q->templates, s->conf, &k->dsn, k->arena);
}

static MAY_WAIT int write_report(struct maker *k, struct spool_draft *d,
                                 struct err *err)
{
    struct buf b CLEANUP(buf_done);
    int rc = -1;

    buf_init(&b, FRONT_MAX);
    if (!dsn_put_front(&b, &k->dsn) || !buf_slice(&b, k->a->env.headers))
        return err_temp(err, "a notification is too large");
    if (spool_draft_write(d, buf_view(&b), err) < 0)
        return -1;
    rc = k->dsn.is_headers_only ? write_header(k, d, err)
                                : write_body(k, d, err);
    if (rc < 0)
        return -1;
    buf_clear(&b);
    (void)dsn_put_back(&b, &k->dsn);
    return spool_draft_write(d, buf_view(&b), err);
}

static MAY_WAIT int make(struct maker *k, struct spool_draft **d,
                         struct err *err)
{
    struct queue *q = k->a->q;
    uint64_t hint =
        k->dsn.is_headers_only ? 0 : spool_message_size(k->a->qm->sm) + 4096;

    if (open_original(k, err) < 0 || set_envelope(k, err) < 0)
        return -1;
    if (active_is_gone(k->a))
        return err_temp(err, "the message was deleted");
    if (spool_draft_open(spool_own_writer(q->spool), hint, d, err) < 0 ||
        write_report(k, *d, err) < 0)
        return -1;
    /* What an administrator deletes meanwhile is not reported. */
    if (active_is_gone(k->a))
        return err_temp(err, "the message was deleted");
    return spool_draft_commit(d, &k->env, err);
}

int notice_send(struct active *a, const struct notice *n,
                char id_out[static MAIL_QUEUE_ID_SIZE], struct err *err)
{
    struct spool_draft *d CLEANUP(spool_draft_abort) = NULL;
    struct maker k = { .a = a, .n = n, .fd = -1 };
    int rc;

    k.arena = arena_new(4u << 20);
    buf_init(&k.headers, 8192);
    k.to = n->to;
    if (slice_chr(n->to, '@') < 0) /* "postmaster" of main.cf */
        k.to = slice_str(
            arena_printf(k.arena, "%.*s@%s", SLF(n->to), a->set->origin));
    set_dsn(&k);
    rc = make(&k, &d, err);
    if (rc == 0)
        memcpy(id_out, k.env.id, MAIL_QUEUE_ID_SIZE);
    maker_done(&k);
    return rc;
}
