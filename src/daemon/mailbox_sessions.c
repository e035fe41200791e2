#include "daemon/mailbox_sessions.h"

#include "imap/imap.h"
#include "pop3/pop3.h"
#include "rt/rt.h"

#define LEAVE_MS 8000

static struct imap_server *imap;
static struct pop3_server *pop3;

/* ------------------------------------------------------- of the rooms to us */

static void busy(void *arg, int change)
{
    worker_busy(arg, change);
}

static void ended(void *arg, const uint8_t *handle)
{
    worker_ended(arg, handle);
}

/* NOLINTNEXTLINE(readability-function-size): imap's callback */
static void park(void *arg, const uint8_t *handle, uint64_t n_read,
                 uint64_t n_written, unsigned keepalive_s, slice keepalive)
{
    worker_park(arg, &(struct worker_parking){ .handle = handle,
                                               .n_read = n_read,
                                               .n_written = n_written,
                                               .keepalive_s = keepalive_s,
                                               .keepalive = keepalive });
}

static void push(void *arg, const uint8_t *handle, slice bytes)
{
    worker_push(arg, handle, bytes);
}

MAY_WAIT static int sync_fs(void *arg, uint64_t fs, int dirfd, struct err *err)
{
    return worker_sync(arg, fs, dirfd, err);
}

void mailbox_sessions_start(struct worker *w, struct store *store,
                            const struct conf *conf)
{
    const struct imap_parts imap_parts = { .store = store,
                                           .conf = conf,
                                           .busy = busy,
                                           .ended = ended,
                                           .park = park,
                                           .push = push,
                                           .sync = sync_fs,
                                           .arg = w };
    const struct pop3_parts pop3_parts = { .store = store,
                                           .conf = conf,
                                           .busy = busy,
                                           .ended = ended,
                                           .sync = sync_fs,
                                           .arg = w };

    imap = imap_server_new(&imap_parts);
    pop3 = pop3_server_new(&pop3_parts);
}

void mailbox_sessions_set_conf(const struct conf *conf)
{
    imap_server_set_conf(imap, conf);
    pop3_server_set_conf(pop3, conf);
}

/* ---------------------------------------------------- of the broker to them */

static slice find(slice body, uint16_t tag)
{
    slice v = SLICE_NONE;

    attr_find(body, tag, &v);
    return v;
}

static void read_start(struct imap_start *out, const struct msg *m)
{
    bool is_tls = (attr_u64_or(m->body, AT_FLAGS, 0) & 1) != 0;

    *out = (struct imap_start){
        .fd = m->n_fds == 1 ? m->fds[0] : -1,
        .handle = (const uint8_t *)find(m->body, AT_HANDLE).p,
        .user = find(m->body, AT_USER),
        .home = find(m->body, AT_HOME),
        .mail = find(m->body, AT_MAIL),
        .session = find(m->body, AT_SESSION),
        .remote = find(m->body, AT_REMOTE),
        .local = find(m->body, AT_LOCAL),
        .is_tls = is_tls,
        .is_relay = is_tls,
        .tag = find(m->body, AT_TAG),
        .input = find(m->body, AT_CONTENT),
    };
}

/* The client of a parked session sends; or, with a record, a session that was
 * parked in a worker before this one (without a descriptor: its mailbox
 * changed). */
static void wake(struct worker *w, struct msg *m,
                 const struct imap_start *start)
{
    struct err err;
    slice record;
    int rc;

    if (m->n_fds == 1)
        m->fds[0] = -1; /* the room's, whatever comes */
    if (attr_find(m->body, AT_RECORD, &record))
        rc = imap_restore(imap, start, record, &err);
    else if (start->fd >= 0 && imap_wake(imap, start->handle, start->fd))
        rc = 0;
    else
        rc = err_temp(&err, "no such session");
    if (rc < 0)
        worker_refuse(w, m, &err);
    else
        worker_answer(w, m);
}

void mailbox_sessions_take(struct worker *w, struct msg *m)
{
    struct imap_start start;

    if (find(m->body, AT_HANDLE).n != 16)
        return;
    read_start(&start, m);
    if (m->type == WORKER_WAKE) {
        wake(w, m, &start);
        return;
    }
    if (start.fd < 0)
        return;
    m->fds[0] = -1;
    if (slice_eqs(find(m->body, AT_SERVICE_NAME), "pop3"))
        pop3_start(pop3, &start);
    else
        imap_start(imap, &start);
}

void mailbox_sessions_end(struct worker *w UNUSED, const struct msg *m)
{
    slice handle = find(m->body, AT_HANDLE), why = find(m->body, AT_TEXT);
    const uint8_t *h = (const uint8_t *)handle.p;

    if (handle.n != 16)
        return;
    if (m->type == WORKER_DROP) {
        imap_drop(imap, h);
        return; /* POP3 sees the end of its input */
    }
    imap_kick(imap, h, why);
    pop3_kick(pop3, h, why);
}

static void keep(void *arg, const uint8_t *handle, slice record, int watch_fd)
{
    worker_keep(arg, handle, record, watch_fd);
}

void mailbox_sessions_leave(struct worker *w)
{
    msec until = clock_after(LEAVE_MS);
    struct err err;

    imap_give_parked(imap, keep, w);
    imap_close_all(imap, SL("Server shutting down."));
    pop3_close_all(pop3, SL("Server shutting down."));
    while (imap_sessions(imap) + pop3_sessions(pop3) > 0 && loop_now() < until)
        if (task_sleep(20, &err) < 0)
            break;
}

void mailbox_sessions_dump(struct buf *out)
{
    imap_dump(imap, out);
    pop3_dump(pop3, out);
}
