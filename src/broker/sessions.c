/* Signed-in sessions: who has which, and what of the parked ones passes by. */
#include "broker/broker_priv.h"

#define SESSIONS_MAX 250000
#define HANDLE_BYTES 16
#define RECORD_MAX   65536
#define REDEEM_MS    20000
#define WAKE_MS      30000
#define TICKET_MS    60000
#define TICKETS_MAX  16384
/* RFC 3501 5.4: a client that is not in IDLE must speak within so long. */
#define INACTIVE_MS ((msec)30 * 60 * 1000)
/* How many items of a list are sent before they are waited for. */
#define LIST_BATCH 500

/* Connections of one user from one address to one service. */
struct count {
    struct map_node node;
    size_t n;
    char key[];
};

struct session {
    struct map_node node; /* of broker.sessions */
    uint8_t handle[HANDLE_BYTES];
    struct broker *b;
    struct list by_worker, by_login;
    struct entry *worker; /* NULL: its worker left, the record is here */
    struct peer *login;   /* NULL: gone, of a session without TLS */
    struct count *count;
    bool is_tls, is_parked;
    int64_t since;
    slice about; /* WORKER_SESSION's attributes, with UID, GID and ACCOUNT */
    slice record;
    struct timer inactive; /* of a record that is not in IDLE */
    int watch_fd;          /* inotify, -1: none */
    struct fd_watch *watch;
};

void sessions_init(struct broker *b)
{
    map_init(&b->sessions, false);
    map_init(&b->counts, false);
    map_init(&b->tickets, false);
    list_init(&b->oldest);
}

/* ------------------------------------------------------------------- counts */

/* One more of this user and address, or NULL: there are enough. */
static struct count *count_up(struct broker *b, slice service, slice user,
                              slice remote)
{
    int64_t max = conf_int(b->p->conf, NULL, "mail_max_userip_connections");
    struct map_node *n;
    struct count *c;
    struct buf key;

    buf_init(&key, 4096);
    buf_slice(&key, service);
    buf_byte(&key, '\0');
    buf_slice(&key, user);
    buf_byte(&key, '\0');
    buf_slice(&key, remote);
    n = map_get(&b->counts, buf_view(&key));
    if (n != NULL) {
        c = CONTAINER_OF(n, struct count, node);
    } else {
        c = xcalloc(1, sizeof *c + key.n);
        memcpy(c->key, key.p, key.n);
        map_put(&b->counts, &c->node, slice_of(c->key, key.n));
    }
    buf_done(&key);
    if (max > 0 && c->n >= (uint64_t)max)
        return NULL;
    c->n++;
    return c;
}

static void count_down(struct broker *b, struct count **cp)
{
    struct count *c = *cp;

    *cp = NULL;
    if (c == NULL)
        return;
    CHECK(c->n > 0);
    if (--c->n > 0)
        return;
    map_del(&b->counts, &c->node);
    free(c);
}

/* ------------------------------------------------------------ life and death
 */

static slice find(slice body, uint16_t tag)
{
    slice v = SLICE_NONE;

    attr_find(body, tag, &v);
    return v;
}

static struct session *session_of(struct broker *b, slice body)
{
    slice handle = find(body, AT_HANDLE);
    struct map_node *n;

    if (handle.n != HANDLE_BYTES)
        return NULL;
    n = map_get(&b->sessions, handle);
    return n != NULL ? CONTAINER_OF(n, struct session, node) : NULL;
}

/* That login's own, or NULL: a handle is good on its channel alone. */
static struct session *session_of_login(struct broker *b, const struct chan *c,
                                        slice body)
{
    struct session *s = session_of(b, body);

    return s != NULL && s->login != NULL && s->login->chan == c ? s : NULL;
}

static slice copy(slice from)
{
    char *p = from.n > 0 ? xmalloc(from.n) : NULL;

    if (p != NULL)
        memcpy(p, from.p, from.n);
    return slice_of(p, from.n);
}

static void free_slice(slice *s)
{
    void *mine;

    memcpy(&mine, &s->p, sizeof mine); /* copy() took it for us to change */
    free(mine);
    *s = SLICE_NONE;
}

static void leave_worker(struct session *s)
{
    if (s->worker == NULL)
        return;
    list_remove(&s->by_worker);
    s->worker->n_sessions--;
    s->worker = NULL;
}

static void join_worker(struct session *s, struct entry *e)
{
    s->worker = e;
    list_push(&e->sessions, &s->by_worker);
    e->n_sessions++;
}

static void drop_record(struct session *s)
{
    timer_cancel(&s->inactive);
    fd_watch_free(&s->watch);
    if (s->watch_fd >= 0)
        close(s->watch_fd);
    s->watch_fd = -1;
    free_slice(&s->record);
}

static void session_free(struct session *s)
{
    struct broker *b = s->b;

    leave_worker(s);
    drop_record(s);
    list_remove(&s->by_login);
    map_del(&b->sessions, &s->node);
    count_down(b, &s->count);
    free_slice(&s->about);
    free(s);
}

static void put_handle(struct buf *out, const struct session *s)
{
    attr_put(out, AT_HANDLE, slice_of(s->handle, HANDLE_BYTES));
}

/* Tell the login of a session that has TLS that it is over. */
static void tell_end(struct session *s, slice last_words)
{
    struct buf body;

    if (s->login == NULL || !s->is_tls)
        return;
    buf_init(&body, 4096);
    put_handle(&body, s);
    if (last_words.n > 0)
        attr_put(&body, AT_TEXT, last_words);
    (void)chan_send(s->login->chan, LOGIN_END, buf_view(&body), NULL, 0, NULL);
    buf_done(&body);
}

static void tell_worker(struct session *s, uint16_t type, slice text)
{
    struct buf body;

    if (s->worker == NULL || s->worker->chan == NULL)
        return;
    buf_init(&body, 4096);
    put_handle(&body, s);
    if (text.n > 0)
        attr_put(&body, AT_TEXT, text);
    (void)chan_send(s->worker->chan, type, buf_view(&body), NULL, 0, NULL);
    buf_done(&body);
}

/* Ours is the blame. */
static void lose(struct session *s)
{
    /* login says this to a parked client only. */
    tell_end(s, SL("* BYE Internal error, please sign in again.\r\n"));
    session_free(s);
}

void sessions_worker_gone(struct entry *e)
{
    struct list *it;

    while ((it = list_pop(&e->sessions)) != NULL)
        lose(CONTAINER_OF(it, struct session, by_worker));
}

void sessions_login_gone(struct peer *login)
{
    struct list *it;

    while ((it = list_pop(&login->sessions)) != NULL) {
        struct session *s = CONTAINER_OF(it, struct session, by_login);

        s->login = NULL;
        if (!s->is_tls)
            continue; /* the worker has the client's own socket */
        tell_worker(s, WORKER_DROP, SLICE_NONE);
        session_free(s);
    }
}

/* ------------------------------------------------------------------ sign-in */

/* Auth sends a ticket ahead of the login that will bring it. */
struct ticket {
    struct map_node node; /* of broker.tickets */
    struct list link;     /* broker.oldest */
    msec until;
    slice body; /* of AUTH_TICKET */
};

static void ticket_free(struct broker *b, struct ticket *t)
{
    map_del(&b->tickets, &t->node);
    list_remove(&t->link);
    free_slice(&t->body);
    free(t);
}

static void tickets_expire(struct broker *b, size_t max)
{
    while (!list_empty(&b->oldest)) {
        struct ticket *t = CONTAINER_OF(b->oldest.next, struct ticket, link);

        if (t->until > loop_now() && b->tickets.n <= max)
            return;
        ticket_free(b, t);
    }
}

static void auth_says(struct chan *c UNUSED, struct msg *m, void *arg)
{
    struct broker *b = arg;
    struct ticket *t;
    slice id = find(m->body, AT_TICKET);

    if (m->type != AUTH_TICKET || id.n != 16 || map_get(&b->tickets, id))
        return;
    tickets_expire(b, TICKETS_MAX - 1);
    t = xcalloc(1, sizeof *t);
    t->until = clock_after(TICKET_MS);
    t->body = copy(m->body);
    map_put(&b->tickets, &t->node, find(t->body, AT_TICKET));
    list_push(&b->oldest, &t->link);
}

static const uint16_t ticket_tags[] = { AT_TICKET, AT_SERVICE_NAME, AT_SESSION,
                                        AT_REMOTE };

/* One that was sent ahead: each once, and for what it was given only.  1: who
 * it is for; 0: there is none. */
static int redeem_here(struct broker *b, slice request, struct buf *who,
                       struct err *err)
{
    struct map_node *n;
    struct ticket *t;
    bool fits = true;

    tickets_expire(b, TICKETS_MAX);
    n = map_get(&b->tickets, find(request, AT_TICKET));
    if (n == NULL)
        return 0;
    t = CONTAINER_OF(n, struct ticket, node);
    for (size_t i = 0; i < ARRAY_LEN(ticket_tags); i++)
        fits = fits && slice_eq(find(request, ticket_tags[i]),
                                find(t->body, ticket_tags[i]));
    if (fits)
        buf_slice(who, t->body);
    ticket_free(b, t);
    if (fits)
        return 1;
    err_perm(err, "a ticket that was given for another session");
    event_text(EV_WARNING, "auth", NULL, "ticket refused: %s", err->log);
    return -1;
}

MAY_WAIT static int redeem(struct broker *b, slice request, struct buf *who,
                           struct err *err)
{
    static const struct chan_ops ops = { .on_msg = auth_says };
    const uint16_t *tags = ticket_tags;
    struct msg answer;
    struct buf body;
    int rc = redeem_here(b, request, who, err);

    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (b->auth == NULL)
        b->auth = link_new(b->p, PT_AUTH, &ops, b, NULL);
    buf_init(&body, 4096);
    for (size_t i = 0; i < ARRAY_LEN(ticket_tags); i++)
        attr_put(&body, tags[i], find(request, tags[i]));
    rc = body.overflow ? err_temp(err, "a session with too long a name")
                       : link_call(b->auth, AUTH_REDEEM, buf_view(&body), NULL,
                                   0, clock_after(REDEEM_MS), &answer, err);
    buf_done(&body);
    if (rc == 0) {
        buf_slice(who, answer.body);
        msg_free(&answer);
        return 0;
    }
    /* It may have overtaken what auth sent ahead, but not auth's answer. */
    return redeem_here(b, request, who, err) > 0 ? 0 : -1;
}

/* What the worker is told: who it is, from auth; whence, from login. */
static int describe(struct session *s, slice who, slice request,
                    struct err *err)
{
    static const uint16_t of_auth[] = { AT_USER, AT_HOME, AT_MAIL,
                                        AT_UID,  AT_GID,  AT_ACCOUNT };
    static const uint16_t of_login[] = { AT_SERVICE_NAME, AT_SESSION,
                                         AT_REMOTE,       AT_REMOTE_PORT,
                                         AT_LOCAL,        AT_LOCAL_PORT };
    struct buf body;
    int rc = 0;

    buf_init(&body, 16384);
    put_handle(&body, s);
    for (size_t i = 0; i < ARRAY_LEN(of_auth); i++)
        attr_put(&body, of_auth[i], find(who, of_auth[i]));
    for (size_t i = 0; i < ARRAY_LEN(of_login); i++)
        attr_put(&body, of_login[i], find(request, of_login[i]));
    attr_put_u64(&body, AT_FLAGS, s->is_tls ? 1 : 0);
    if (body.overflow)
        rc = err_temp(err, "a session with too long a name");
    else
        s->about = copy(buf_view(&body));
    buf_done(&body);
    return rc;
}

static struct session *session_new(struct broker *b, slice who, slice request,
                                   struct err *err)
{
    struct session *s;
    struct count *count;

    if (b->sessions.n >= SESSIONS_MAX) {
        err_temp(err, "more than %d sessions", SESSIONS_MAX);
        return NULL;
    }
    count = count_up(b, find(request, AT_SERVICE_NAME), find(who, AT_USER),
                     find(request, AT_REMOTE));
    if (count == NULL) {
        err_set(err, ERR_PERM, "4.7.0",
                "Maximum number of connections from user+IP exceeded "
                "(mail_max_userip_connections=%" PRId64 ")",
                conf_int(b->p->conf, NULL, "mail_max_userip_connections"));
        return NULL;
    }
    s = xcalloc(1, sizeof *s);
    s->b = b;
    s->count = count;
    s->watch_fd = -1;
    s->since = clock_wall() / 1000;
    s->is_tls = (attr_u64_or(request, AT_FLAGS, 0) & 1) != 0;
    list_init(&s->by_worker);
    list_init(&s->by_login);
    random_bytes(s->handle, sizeof s->handle);
    map_put(&b->sessions, &s->node, slice_of(s->handle, HANDLE_BYTES));
    if (describe(s, who, request, err) < 0) {
        session_free(s);
        return NULL;
    }
    return s;
}

/* Give the session to a worker; *fd_out is login's end of the new socket pair
 * (TLS), or -1. */
static int hand_over(struct session *s, struct entry *e, slice request,
                     int client_fd, int *fd_out, struct err *err)
{
    slice tag = find(request, AT_TAG), content = find(request, AT_CONTENT);
    struct buf body;
    int fds[2] = { -1, -1 }, rc;

    if (s->is_tls && chan_socketpair(fds, err) < 0)
        return -1;
    buf_init(&body, 65536);
    buf_slice(&body, s->about);
    if (tag.n > 0)
        attr_put(&body, AT_TAG, tag);
    if (content.n > 0)
        attr_put(&body, AT_CONTENT, content);
    rc = body.overflow ? err_temp(err, "too much input behind a sign-in")
                       : chan_send(e->chan, WORKER_SESSION, buf_view(&body),
                                   s->is_tls ? &fds[1] : &client_fd, 1, err);
    buf_done(&body);
    close_fd(&fds[1]);
    if (rc < 0) {
        close_fd(&fds[0]);
        return -1;
    }
    e->n_given++;
    e->last_used = loop_now();
    join_worker(s, e);
    *fd_out = fds[0];
    return 0;
}

static void answer_session(struct chan *c, uint32_t id, struct session *s,
                           int fd)
{
    struct buf body;

    buf_init(&body, 4096);
    put_handle(&body, s);
    attr_put(&body, AT_USER, find(s->about, AT_USER));
    attr_put_u64(&body, AT_PID, (uint64_t)s->worker->pid);
    chan_answer(c, id, buf_view(&body), &fd, fd >= 0 ? 1 : 0);
    buf_done(&body);
}

MAY_WAIT static int sign_in(struct broker *b, struct chan *c, struct msg *m,
                            struct err *err)
{
    int client = m->n_fds == 1 ? m->fds[0] : -1;
    struct entry wanted, *e = NULL;
    struct session *s;
    struct buf who CLEANUP(buf_done) = { 0 };
    int fd = -1;

    buf_init(&who, 65536);
    if (((attr_u64_or(m->body, AT_FLAGS, 0) & 1) == 0) != (client >= 0))
        return err_temp(err, "a session without TLS brings its socket");
    if (redeem(b, m->body, &who, err) < 0)
        return -1;
    if (broker_read_request(b, buf_view(&who), &wanted, err) == 0)
        e = broker_get_worker(b, &wanted, err);
    if (e == NULL)
        return -1;
    /* From here on nothing waits: the login and the worker are there. */
    if (!chan_is_open(c))
        return err_peer(err, "the login that asked is gone");
    s = session_new(b, buf_view(&who), m->body, err);
    if (s == NULL)
        return -1;
    if (hand_over(s, e, m->body, client, &fd, err) < 0) {
        session_free(s);
        return -1;
    }
    s->login = chan_arg(c);
    list_push(&s->login->sessions, &s->by_login);
    b->n_signed_in++;
    answer_session(c, m->id, s, fd);
    close_fd(&fd);
    return 0;
}

/* ------------------------------------------------------------------- waking */

/* The worker of a session, forked again where it has left: NULL with err, or
 * when the session has ended meanwhile.  After the wait `s` may be gone: look
 * again. */
MAY_WAIT static struct entry *worker_again(struct broker *b, slice handle_body,
                                           struct err *err)
{
    msec deadline = clock_after(REQUEST_MS);

    for (;;) {
        struct session *s = session_of(b, handle_body);
        struct entry wanted, *e;

        if (s == NULL) {
            err_temp(err, "the session has ended");
            return NULL;
        }
        if (s->worker != NULL && s->worker->state == READY)
            return s->worker;
        if (s->worker != NULL) { /* about to leave: it gives the record */
            if (waitq_wait(&b->changed, deadline, err) < 0)
                return NULL;
            continue;
        }
        if (broker_read_request(b, s->about, &wanted, err) < 0)
            return NULL;
        e = broker_get_worker(b, &wanted, err);
        if (e == NULL || session_of(b, handle_body) != NULL)
            return e;
    }
}

/* WORKER_WAKE; `fd` leads to login, or is -1: only look at the mailbox. */
MAY_WAIT static int wake_worker(struct session *s, struct entry *e, int fd,
                                struct err *err)
{
    struct chan *chan = chan_ref(e->chan);
    struct msg answer;
    struct buf body;
    int rc;

    buf_init(&body, RECORD_MAX + 32768);
    if (s->worker == NULL) {
        buf_slice(&body, s->about);
        attr_put(&body, AT_RECORD, s->record);
        drop_record(s);
        join_worker(s, e);
    } else {
        put_handle(&body, s);
    }
    e->n_given++;
    e->last_used = loop_now();
    if (fd >= 0)
        s->is_parked = false;
    rc = chan_call(chan, WORKER_WAKE, buf_view(&body), &fd, fd >= 0 ? 1 : 0,
                   clock_after(WAKE_MS), &answer, err);
    if (rc == 0)
        msg_free(&answer);
    buf_done(&body);
    chan_unref(&chan);
    return rc;
}

MAY_WAIT static int wake(struct broker *b, struct chan *c, struct msg *m,
                         struct err *err)
{
    struct session *s = session_of_login(b, c, m->body);
    struct entry *e;
    int fds[2], rc;

    if (s == NULL || !s->is_tls)
        return err_temp(err, "no such session");
    e = worker_again(b, m->body, err);
    if (e == NULL)
        return -1;
    s = session_of_login(b, c, m->body);
    if (s == NULL || chan_socketpair(fds, err) < 0)
        return s == NULL ? err_temp(err, "the session has ended") : -1;
    rc = wake_worker(s, e, fds[1], err);
    close(fds[1]);
    if (rc == 0)
        chan_answer(c, m->id, SLICE_NONE, &fds[0], 1);
    close(fds[0]);
    return rc;
}

struct look {
    struct broker *b;
    uint8_t handle[HANDLE_BYTES];
};

/* A stranger changed the mailbox of a session that is kept here. */
MAY_WAIT static void look_task(void *arg)
{
    struct look *look = arg;
    struct session *s;
    struct entry *e;
    struct buf body;
    struct err err;

    buf_init(&body, 64);
    attr_put(&body, AT_HANDLE, slice_of(look->handle, HANDLE_BYTES));
    e = worker_again(look->b, buf_view(&body), &err);
    s = session_of(look->b, buf_view(&body));
    if (e != NULL && s != NULL && s->worker == NULL &&
        wake_worker(s, e, -1, &err) < 0) {
        log_warning("a parked session cannot be looked at: %s", err.log);
        s = session_of(look->b, buf_view(&body));
        if (s != NULL)
            lose(s);
    }
    buf_done(&body);
    free(look);
}

static void mailbox_changed(void *arg, int events UNUSED)
{
    struct session *s = arg;
    struct look *look = xcalloc(1, sizeof *look);

    fd_watch_free(&s->watch); /* once: the worker will make another */
    look->b = s->b;
    memcpy(look->handle, s->handle, sizeof look->handle);
    task_spawn("look", look_task, look);
}

static void inactive(struct timer *t)
{
    struct session *s = CONTAINER_OF(t, struct session, inactive);

    tell_end(s, SL("* BYE Disconnected for inactivity.\r\n"));
    session_free(s);
}

/* ----------------------------------------------------- messages of a worker */

static void keep(struct session *s, struct msg *m)
{
    slice record = find(m->body, AT_RECORD);

    if (s->worker->state == READY || record.n > RECORD_MAX || !s->is_tls) {
        log_warning("a worker gave a session away that cannot be kept");
        lose(s);
        return;
    }
    leave_worker(s);
    if (s->b->is_draining) {
        tell_end(s, SL("* BYE Server shutting down.\r\n"));
        session_free(s);
        return;
    }
    s->is_parked = true;
    s->record = copy(record);
    if (m->n_fds == 1) {
        s->watch_fd = m->fds[0];
        m->fds[0] = -1;
        s->watch = fd_watch_new(s->watch_fd, WATCH_READ, mailbox_changed, s);
    } else {
        timer_set(&s->inactive, clock_after(INACTIVE_MS), inactive);
    }
    waitq_wake_all(&s->b->changed);
}

static void to_login(struct session *s, uint16_t type, slice body)
{
    if (s->login != NULL && s->is_tls &&
        chan_send(s->login->chan, type, body, NULL, 0, NULL) < 0)
        log_warning("a login does not take what is sent to it");
}

void sessions_worker_msg(struct entry *e, struct msg *m)
{
    struct session *s = session_of(e->b, m->body);

    /* A worker speaks of its own sessions only. */
    if (s == NULL || s->worker != e)
        return;
    if (m->type == WORKER_PARK) {
        s->is_parked = true;
        if (!(attr_u64_or(m->body, AT_FLAGS, 0) & 1))
            to_login(s, LOGIN_PARK, m->body);
    } else if (m->type == WORKER_PUSH) {
        to_login(s, LOGIN_PUSH, m->body);
    } else if (m->type == WORKER_ENDED) {
        /* The end of its socket says it to a login that has one. */
        if (s->is_parked)
            tell_end(s, find(m->body, AT_TEXT));
        session_free(s);
    } else if (m->type == WORKER_KEEP) {
        keep(s, m);
    }
}

/* ------------------------------------------------------------ who is there */

static void put_item(struct buf *out, const struct session *s)
{
    buf_clear(out);
    attr_put(out, AT_USER, find(s->about, AT_USER));
    attr_put(out, AT_SERVICE_NAME, find(s->about, AT_SERVICE_NAME));
    attr_put(out, AT_REMOTE, find(s->about, AT_REMOTE));
    attr_put(out, AT_SESSION, find(s->about, AT_SESSION));
    attr_put_u64(out, AT_TIME, (uint64_t)s->since);
    attr_put_u64(out, AT_FLAGS,
                 (s->is_tls ? 1u : 0u) | (s->is_parked ? 2u : 0u));
    attr_put_u64(out, AT_UID, attr_u64_or(s->about, AT_UID, 0));
}

/* A copy of all items first: what is sent may wait, and the map may change. */
MAY_WAIT static int list_all(struct broker *b, struct chan *c, uint32_t id,
                             struct err *err)
{
    struct buf item, all;
    struct map_node *n = NULL;
    slice rest;
    size_t pos = 0, n_sent = 0;
    int rc = 0;

    buf_init(&item, 8192);
    buf_init(&all, 256u << 20);
    while ((n = map_next(&b->sessions, &pos, n)) != NULL) {
        put_item(&item, CONTAINER_OF(n, struct session, node));
        buf_u32(&all, (uint32_t)item.n);
        buf_slice(&all, buf_view(&item));
    }
    for (rest = buf_view(&all); rc == 0 && rest.n > 0; n_sent++) {
        size_t len = get_u32(rest.p);

        if (n_sent % LIST_BATCH == LIST_BATCH - 1)
            rc = chan_flush(c, clock_after(REQUEST_MS), err);
        if (rc == 0)
            rc = chan_send(c, SESSION_ITEM, slice_sub(rest, 4, len), NULL, 0,
                           err);
        rest = slice_from(rest, 4 + len);
    }
    if (rc == 0)
        rc = chan_send(c, SESSION_LIST_END, SLICE_NONE, NULL, 0, err);
    if (rc == 0)
        chan_answer(c, id, SLICE_NONE, NULL, 0);
    buf_done(&item);
    buf_done(&all);
    return rc;
}

static void kick_one(struct session *s)
{
    static const char why[] = "Logged out by the administrator.";

    if (s->worker != NULL) {
        tell_worker(s, WORKER_KICK, SL(why));
        return;
    }
    tell_end(s, SL("* BYE Logged out by the administrator.\r\n"));
    session_free(s);
}

static void kick(struct broker *b, struct chan *c, struct msg *m)
{
    slice user = find(m->body, AT_USER), remote = find(m->body, AT_REMOTE);
    struct map_node *n = NULL;
    size_t pos = 0;
    uint64_t n_kicked = 0;
    struct buf body;

    /* Each time another one: the map has forgotten what was freed, and compares
     * its address only.  NOLINTBEGIN(clang-analyzer-unix.Malloc) */
    while ((n = map_next(&b->sessions, &pos, n)) != NULL) {
        struct session *s = CONTAINER_OF(n, struct session, node);

        if (!slice_eq(find(s->about, AT_USER), user) ||
            (remote.n > 0 && !slice_eq(find(s->about, AT_REMOTE), remote)))
            continue;
        kick_one(s);
        n_kicked++;
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    buf_init(&body, 64);
    attr_put_u64(&body, AT_SIZE, n_kicked);
    chan_answer(c, m->id, buf_view(&body), NULL, 0);
    buf_done(&body);
}

/* ----------------------------------------------------------------- requests */

static void drop(struct broker *b, const struct chan *c, slice body)
{
    struct session *s = session_of_login(b, c, body);

    if (s == NULL)
        return;
    tell_worker(s, WORKER_DROP, SLICE_NONE);
    session_free(s);
}

void sessions_serve(struct broker *b, struct chan *c, struct msg *m)
{
    struct err err = { 0 };
    int rc = 0;

    if (m->type == BROKER_SESSION)
        rc = sign_in(b, c, m, &err);
    else if (m->type == BROKER_WAKE)
        rc = wake(b, c, m, &err);
    else if (m->type == BROKER_DROP)
        drop(b, c, m->body);
    else if (m->type == SESSION_LIST)
        rc = list_all(b, c, m->id, &err);
    else if (m->type == SESSION_KICK)
        kick(b, c, m);
    if (rc < 0) {
        if (err.class == ERR_TEMP)
            log_warning("%s", err.log);
        chan_fail(c, m->id, &err);
    }
}

void sessions_dump(struct broker *b, struct buf *out)
{
    struct map_node *n = NULL;
    size_t pos = 0, n_parked = 0, n_kept = 0;

    while ((n = map_next(&b->sessions, &pos, n)) != NULL) {
        const struct session *s = CONTAINER_OF(n, struct session, node);

        n_parked += s->is_parked;
        n_kept += s->worker == NULL;
    }
    buf_printf(out,
               "sessions %zu (parked %zu, without a worker %zu), signed in "
               "%" PRIu64 "\n",
               b->sessions.n, n_parked, n_kept, b->n_signed_in);
}
