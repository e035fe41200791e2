#include "auth/auth_priv.h"

#include "ipc/event.h"

#include <fcntl.h>

#define REPUTATIONS_MAX 32768

/* Salts of names that nobody has must be the same after a restart. */
static void make_secret(struct auth *a)
{
    char id[64] = "";
    int fd CLEANUP(close_fd) = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    struct sha256 h;
    ssize_t n = fd >= 0 ? read(fd, id, sizeof id) : -1;

    if (n <= 0) {
        random_bytes(a->secret, sizeof a->secret);
        return;
    }
    sha256_init(&h);
    sha256_update(&h, SL("hato auth "));
    sha256_update(&h, slice_of(id, (size_t)n));
    sha256_update(&h, slice_str(conf_str(a->p->conf, NULL, "queue_directory")));
    sha256_final(&h, a->secret);
}

static void set_limits(struct auth *a)
{
    memo_limit(a->memo, a->config->cache_bytes, a->config->cache_ttl_ms);
}

int auth_new(struct process *p, struct tables *tables, struct auth **out,
             struct err *err)
{
    static const struct chan_ops ops = { 0 };
    struct auth *a = xcalloc(1, sizeof *a);
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (auth_config_new(p->conf, tables, p->is_root_mode, &a->config, err) <
        0) {
        free(a);
        return -1;
    }
    if (!sasl_load() && (a->config->mechs & MECH_SCRAM) != 0) {
        auth_config_unref(&a->config);
        free(a);
        return err_perm(err, "auth_mechanisms: SCRAM needs GNU SASL "
                             "(install libgsasl18)");
    }
    a->magic = AUTH_MAGIC;
    a->p = p;
    a->tables = tables;
    a->reputation = reputation_new(REPUTATIONS_MAX);
    a->memo = memo_new();
    a->tickets = tickets_new();
    sema_init(&a->hashing, n_cpus > 0 && n_cpus < 4 ? (unsigned)n_cpus : 4);
    buf_init(&a->usual, SCHEME_VALUE_MAX);
    if (auth_password_hash("SHA512-CRYPT", SL("unknown"), &a->usual, err) < 0)
        buf_clear(&a->usual);
    make_secret(a);
    list_init(&a->peers);
    list_init(&a->channels);
    list_init(&a->listeners);
    heap_init(&a->delayed);
    set_limits(a);
    if (p->master != NULL && auth_config_needs_worker(p->conf))
        a->worker = link_new(p, PT_AUTHWORKER, &ops, NULL, NULL);
    *out = a;
    return 0;
}

int auth_reload(struct auth *a, struct conf *conf, struct err *err)
{
    static const struct chan_ops ops = { 0 };
    struct auth_config *c = NULL;

    if (auth_config_new(conf, a->tables, a->p->is_root_mode, &c, err) < 0)
        return -1;
    auth_config_unref(&a->config); /* requests hold theirs */
    a->config = c;
    set_limits(a);
    if (a->worker == NULL && auth_config_needs_worker(conf))
        a->worker = link_new(a->p, PT_AUTHWORKER, &ops, NULL, NULL);
    else if (a->worker != NULL && !auth_config_needs_worker(conf) &&
             a->n_requests == 0)
        link_free(&a->worker);
    return 0;
}

/* ---- the broker and commands */

struct channel {
    struct list link;
    struct auth *auth;
    struct chan *chan;
    enum ptype from;
};

static void put_place(const struct user_place *p, struct buf *out)
{
    (void)attr_put(out, AT_USER, p->user);
    (void)attr_put(out, AT_ACCOUNT, p->account);
    (void)attr_put_u64(out, AT_UID, p->uid);
    (void)attr_put_u64(out, AT_GID, p->gid);
    (void)attr_put(out, AT_HOME, p->home);
    (void)attr_put(out, AT_MAIL, p->mail);
}

/* Ahead of its question, which then need not be asked. */
bool auth_push_ticket(struct auth *a, const struct ticket_for *whom,
                      const struct user_place *place, uint8_t id[static 16])
{
    list_each(it, &a->channels) {
        struct channel *ch = CONTAINER_OF(it, struct channel, link);
        struct buf body;
        int rc = -1;

        if (ch->from != PT_BROKER || !chan_is_open(ch->chan))
            continue;
        random_bytes(id, 16);
        buf_init(&body, 65536);
        (void)attr_put(&body, AT_TICKET, slice_of(id, 16));
        (void)attr_put(&body, AT_SERVICE_NAME, whom->service);
        (void)attr_put(&body, AT_SESSION, whom->session);
        (void)attr_put(&body, AT_REMOTE, whom->remote);
        put_place(place, &body);
        if (!body.overflow)
            rc = chan_send(ch->chan, AUTH_TICKET, buf_view(&body), NULL, 0,
                           NULL);
        explicit_bzero(body.p, body.size);
        buf_done(&body);
        return rc == 0;
    }
    return false;
}

static int redeem(struct auth *a, slice body, struct arena *arena,
                  struct buf *out, struct err *err)
{
    struct ticket_for whom = { SLICE_NONE, SLICE_NONE, SLICE_NONE };
    struct user_place place;
    slice id = SLICE_NONE;

    (void)attr_find(body, AT_TICKET, &id);
    (void)attr_find(body, AT_SERVICE_NAME, &whom.service);
    (void)attr_find(body, AT_SESSION, &whom.session);
    (void)attr_find(body, AT_REMOTE, &whom.remote);
    if (ticket_redeem(a->tickets, id, &whom, arena, &place, err) < 0) {
        event_text(EV_WARNING, "auth", NULL, "ticket refused: %s", err->log);
        return -1;
    }
    put_place(&place, out);
    return 0;
}

MAY_WAIT static int find_user(struct auth *a, slice body, struct arena *arena,
                              struct buf *out, struct err *err)
{
    struct auth_config *c CLEANUP(auth_config_unref) =
        auth_config_ref(a->config);
    struct user_place place;
    slice name = SLICE_NONE;
    bool found = false;

    (void)attr_find(body, AT_NAME, &name);
    name = auth_config_name(c, name, arena);
    if (name.n > 0 && users_any(c->users, name, arena, &place, &found, err) < 0)
        return -1;
    if (found)
        put_place(&place, out);
    return 0;
}

MAY_WAIT static void serve(struct chan *c, struct msg *m, void *arg)
{
    struct channel *ch = arg;
    struct auth *a = ch->auth;
    enum ptype from = ch->from;
    struct chan *held = chan_ref(c);
    struct arena *arena CLEANUP(arena_free) = arena_new(1u << 20);
    struct err err;
    struct buf out;
    int rc;

    buf_init(&out, 65536);
    if (m->type == AUTH_REDEEM && from == PT_BROKER)
        rc = redeem(a, m->body, arena, &out, &err);
    else if (m->type == AUTH_USER)
        rc = find_user(a, m->body, arena, &out, &err);
    else
        rc = err_perm(&err, "auth does not answer this");
    if (rc < 0)
        chan_fail(held, m->id, &err);
    else
        chan_answer(held, m->id, buf_view(&out), NULL, 0);
    chan_unref(&held);
    buf_done(&out);
}

static void on_close(struct chan *c UNUSED, void *arg)
{
    struct channel *ch = arg;
    struct auth *a = ch->auth;

    list_remove(&ch->link);
    chan_free(&ch->chan);
    free(ch);
    auth_tell_idle(a);
}

static void channel_new(struct auth *a, enum ptype from, int fd)
{
    static const struct chan_ops ops = { .serve = serve, .on_close = on_close };
    struct channel *ch = xcalloc(1, sizeof *ch);

    ch->auth = a;
    ch->from = from;
    list_init(&ch->link);
    list_push(&a->channels, &ch->link);
    ch->chan = chan_new(fd, &ops, ch);
}

void auth_on_peer(struct auth *a, enum ptype from, int fd)
{
    CHECK_OBJ(a, AUTH_MAGIC);
    if (from == PT_BROKER || from == PT_COMMAND)
        channel_new(a, from, fd);
    else
        auth_peer_new(a, from, fd);
}

/* ---- the UNIX socket */

struct auth_listener {
    struct list link;
    struct auth *auth;
    struct listener *listener;
    int fd;
};

static void on_accept(int fd, const struct peer_addr *peer UNUSED, void *arg)
{
    struct auth_listener *l = arg;

    auth_peer_new(l->auth, PT_NONE, fd);
}

void auth_listen(struct auth *a, const struct process_listener *l)
{
    struct auth_listener *al = xcalloc(1, sizeof *al);

    al->auth = a;
    al->fd = l->fd;
    al->listener = listener_new(l->fd, on_accept, al);
    list_init(&al->link);
    list_push(&a->listeners, &al->link);
}

/* ---- the end */

void auth_tell_idle(struct auth *a)
{
    if (!a->is_draining || a->n_requests > 0 || a->on_idle == NULL)
        return;
    a->on_idle(a->on_idle_arg);
    a->on_idle = NULL;
}

void auth_drain(struct auth *a, void (*on_idle)(void *arg), void *arg)
{
    CHECK_OBJ(a, AUTH_MAGIC);
    a->is_draining = true;
    a->on_idle = on_idle;
    a->on_idle_arg = arg;
    list_each_safe(it, tmp, &a->listeners) {
        struct auth_listener *l = CONTAINER_OF(it, struct auth_listener, link);

        listener_free(&l->listener);
        close_fd(&l->fd);
        list_remove(&l->link);
        free(l);
    }
    list_each(it, &a->channels)
        chan_bye(CONTAINER_OF(it, struct channel, link)->chan);
    auth_tell_idle(a);
}

void auth_dump(const struct auth *a, struct buf *out)
{
    CHECK_OBJ(a, AUTH_MAGIC);
    (void)buf_printf(out,
                     "sign-ins good %" PRIu64 ", refused %" PRIu64
                     ", failed %" PRIu64 "; under way %zu, connections %zu\n",
                     a->n_good, a->n_bad, a->n_temp, a->n_requests, a->n_peers);
    (void)buf_printf(out,
                     "reputations %zu, waiting %zu, checked passwords %zu, "
                     "tickets %zu\n",
                     reputation_count(a->reputation), a->n_sleepers,
                     memo_count(a->memo), tickets_count(a->tickets));
}

void auth_free(struct auth **pa)
{
    struct auth *a = *pa;

    *pa = NULL;
    if (a == NULL)
        return;
    CHECK_OBJ(a, AUTH_MAGIC);
    a->on_idle = NULL;
    while (!list_empty(&a->peers))
        auth_peer_close(
            (struct auth_peer *)(void *)a->peers.next); /* first member */
    CHECK(a->n_requests == 0);
    timer_cancel(&a->batch);
    heap_done(&a->delayed);
    reputation_free(&a->reputation);
    memo_free(&a->memo);
    tickets_free(&a->tickets);
    auth_config_unref(&a->config);
    explicit_bzero(a->usual.p, a->usual.size);
    buf_done(&a->usual);
    a->magic = 0;
    free(a);
}
