#include "smtp/client/job.h"

#include "rt/rt.h"

/* Connections: making them, racing addresses, keeping them for more mail. */

#define CONN_ARENA_MAX ((size_t)256 << 10)
#define RACE_MS        250 /* RFC 8305 5: before the next address is tried too */
#define DESTS_MAX      10000
#define DEST_OLD_MS    5000
#define INPUT_MAX      ((size_t)64 << 10)
#define OUTPUT_MAX     ((size_t)128 << 10)

/* A nexthop of a service: how much goes there, and its idle connections. */
struct client_dest {
    struct map_node node;
    struct list by_use; /* of the cache, the least recently used first */
    struct list idle;
    size_t n_active;
    msec last;
    char key[];
};

struct client_cache {
    struct map dests;
    struct list by_use;
    struct list idle; /* all connections, by_host */
    size_t n_idle;
    bool is_closed;
};

struct client_cache *client_cache_new(void)
{
    struct client_cache *c = xcalloc(1, sizeof *c);

    map_init(&c->dests, true);
    list_init(&c->by_use);
    list_init(&c->idle);
    return c;
}

/* ------------------------------------------------------------- destinations */

static void dest_free(struct client_cache *c, struct client_dest *d)
{
    CHECK(d->n_active == 0 && list_empty(&d->idle));
    map_del(&c->dests, &d->node);
    list_remove(&d->by_use);
    free(d);
}

static bool dest_is_free(const struct client_dest *d)
{
    return d->n_active == 0 && list_empty(&d->idle);
}

/* Forget what has been quiet for some time. */
static void dests_shrink(struct client_cache *c)
{
    for (int i = 0; i < 2 && !list_empty(&c->by_use); i++) {
        struct client_dest *d =
            CONTAINER_OF(c->by_use.next, struct client_dest, by_use);

        if (dest_is_free(d)) {
            if (loop_now() - d->last < DEST_OLD_MS && c->dests.n < DESTS_MAX)
                return;
            dest_free(c, d);
            continue;
        }
        /* One that is slow does not keep others from being forgotten. */
        list_remove(&d->by_use);
        list_push(&c->by_use, &d->by_use);
    }
}

void client_dest_begin(struct client_job *j)
{
    struct client_cache *c = j->client->cache;
    char *key = arena_printf(j->arena, "%s\n%.*s", j->service->transport,
                             SLF(j->nexthop));
    slice k = slice_str(key);
    struct map_node *n = map_get(&c->dests, k);
    struct client_dest *d;

    if (n != NULL) {
        d = CONTAINER_OF(n, struct client_dest, node);
        list_remove(&d->by_use);
    } else {
        dests_shrink(c);
        d = xcalloc(1, sizeof *d + k.n);
        memcpy(d->key, k.p, k.n);
        list_init(&d->idle);
        list_init(&d->by_use);
        d->last = loop_now() - DEST_OLD_MS;
        map_put(&c->dests, &d->node, slice_of(d->key, k.n));
    }
    list_push(&c->by_use, &d->by_use);
    d->n_active++;
    j->dest = d;
}

void client_dest_end(struct client_job *j)
{
    j->dest->n_active--;
    j->dest->last = loop_now();
    j->dest = NULL;
}

/* -------------------------------------------------------------- connections */

static void conn_unlist(struct client_conn *conn)
{
    /* The analyzer takes the next of a list for the one that was freed.
     * NOLINTBEGIN(clang-analyzer-unix.Malloc) */
    timer_cancel(&conn->timer);
    if (conn->dest == NULL)
        return;
    list_remove(&conn->link);
    list_remove(&conn->by_host);
    conn->dest = NULL;
    conn->service->client->cache->n_idle--;
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
}

void client_conn_free(struct client_conn **cp)
{
    struct client_conn *conn = *cp;

    if (conn == NULL)
        return;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): as above */
    CHECK_OBJ(conn, CLIENT_CONN_MAGIC);
    conn_unlist(conn);
    stream_free(&conn->st);
    arena_free(&conn->arena);
    buf_done(&conn->text);
    conn->magic = 0;
    free(conn);
    *cp = NULL;
}

MAY_WAIT static void quit_task(void *arg)
{
    struct client_conn *conn = arg;
    struct smtp_client *c = conn->service->client;
    struct client_reply reply;
    struct err err;

    stream_deadline(conn->st, loop_after(conn->service->quit_ms));
    if (stream_puts(conn->st, "QUIT\r\n", &err) == 0 &&
        stream_flush(conn->st, &err) == 0 && !conn->service->skip_quit)
        (void)client_read_reply(conn, loop_after(conn->service->quit_ms),
                                &reply, &err);
    client_conn_free(&conn);
    c->n_quits--;
}

static void quit(struct client_conn **cp)
{
    struct client_conn *conn = *cp;

    *cp = NULL;
    conn_unlist(conn);
    if (conn->is_dead) {
        client_conn_free(&conn);
        return;
    }
    conn->service->client->n_quits++;
    (void)task_spawn("smtp-quit", quit_task, conn);
}

static void on_old(struct timer *t)
{
    struct client_conn *conn = CONTAINER_OF(t, struct client_conn, timer);

    quit(&conn);
}

void client_cache_close(struct client_cache *c)
{
    c->is_closed = true;
    while (!list_empty(&c->idle)) {
        struct client_conn *conn =
            CONTAINER_OF(c->idle.next, struct client_conn, by_host);

        quit(&conn);
    }
}

void client_cache_free(struct client_cache **cp)
{
    struct client_cache *c = *cp;

    if (c == NULL)
        return;
    while (!list_empty(&c->idle)) {
        struct client_conn *conn =
            CONTAINER_OF(c->idle.next, struct client_conn, by_host);

        client_conn_free(&conn);
    }
    while (!list_empty(&c->by_use))
        dest_free(c, CONTAINER_OF(c->by_use.next, struct client_dest, by_use));
    map_done(&c->dests);
    free(c);
    *cp = NULL;
}

void client_cache_dump(const struct client_cache *c, struct buf *out)
{
    (void)buf_printf(out, "destinations %zu, idle connections %zu\n",
                     c->dests.n, c->n_idle);
}

/* ------------------------------------------------------------------ the cache
 */

/* A server that has spoken or gone while nobody listened is of no use. */
static bool is_quiet(struct client_conn *conn)
{
    return stream_peek(conn->st).n == 0 && !stream_fill_now(conn->st) &&
           !stream_eof(conn->st);
}

/* Out of the cache, or closed when it is no good any more. */
static struct client_conn *take(struct client_conn *conn)
{
    conn_unlist(conn);
    if (!is_quiet(conn)) {
        client_conn_free(&conn);
        return NULL;
    }
    conn->n_used++;
    conn->service->client->n_reuses++;
    return conn;
}

static bool same_credentials(struct client_job *j,
                             const struct client_conn *conn)
{
    /* With passwords by sender, a connection belongs to one sender. */
    if (j->service->login == NULL || !client_login_by_sender(j->service->login))
        return true;
    return slice_ieq(conn->credentials, j->sender);
}

struct client_conn *client_cache_take(struct client_job *j)
{
    bool requires_tls = (j->env.flags & ENV_REQUIRETLS) != 0;

    list_each_safe(it, tmp, &j->dest->idle) {
        struct client_conn *conn = CONTAINER_OF(it, struct client_conn, link);

        if (requires_tls || !same_credentials(j, conn))
            continue;
        conn = take(conn);
        if (conn != NULL)
            return conn;
    }
    return NULL;
}

/* Will there be more for this nexthop soon?  When others are on their way, or
 * the last one was here a moment ago. */
static bool is_wanted(const struct client_job *j)
{
    const struct client_service *s = j->service;
    const struct client_dest *d = j->dest;

    if (j->client->cache->is_closed || s->cache_ms == 0)
        return false;
    return s->cache_on_demand &&
           (d->n_active > 1 || loop_now() - d->last < s->cache_ms);
}

MAY_WAIT static bool is_configured(const struct client_job *j)
{
    struct err err;
    bool found;
    bool is_literal;
    uint16_t port;
    slice host;

    return j->service->cache_destinations != NULL &&
           !j->client->cache->is_closed &&
           client_dest_parse(j->service, j->nexthop, &host, &port,
                             &is_literal) &&
           table_match_domain(j->service->cache_destinations, host, &found,
                              &err) == 0 &&
           found;
}

/* The next message goes to the nexthop's own hosts first, under its own policy
 * of TLS: what a fallback relay had, or what went in the clear because TLS
 * failed, is for one message. */
static bool is_first_choice(const struct client_conn *conn)
{
    return !conn->host.is_fallback && conn->policy_key.n > 0;
}

void client_conn_put(struct client_job *j, struct client_conn **cp)
{
    struct client_conn *conn = *cp;
    const struct client_service *s = j->service;
    msec now = loop_now();

    *cp = NULL;
    if (conn == NULL)
        return;
    if (conn->is_dead || conn->is_dirty || !is_first_choice(conn) ||
        now - conn->born >= s->reuse_ms ||
        (s->reuse_count > 0 && conn->n_used + 1 >= s->reuse_count) ||
        (!is_wanted(j) && !is_configured(j))) {
        quit(&conn);
        return;
    }
    conn->dest = j->dest;
    list_push_front(&j->dest->idle, &conn->link);
    list_push(&j->client->cache->idle, &conn->by_host);
    j->client->cache->n_idle++;
    timer_set(&conn->timer, clock_after(s->cache_ms), on_old);
}

/* ----------------------------------------------------------------- connecting
 */

static slice where_of(const struct client_job *j, const struct client_host *h)
{
    if (h->unix_path.n > 0)
        return slice_str(
            arena_printf(j->arena, "unix:%.*s", SLF(h->unix_path)));
    return slice_str(arena_printf(
        j->arena,
        slice_chr(h->addr, ':') >= 0 ? "inet:[%.*s]:%u" : "inet:%.*s:%u",
        SLF(h->addr), h->port));
}

static slice own_address(const struct client_job *j,
                         const struct client_host *h)
{
    bool is_v6 = slice_chr(h->addr, ':') >= 0;
    slice own = is_v6 ? j->service->bind6 : j->service->bind4;

    if (h->unix_path.n > 0 || own.n == 0)
        return SLICE_NONE;
    return slice_str(arena_printf(
        j->arena, is_v6 ? "inet:[%.*s]:0" : "inet:%.*s:0", SLF(own)));
}

static struct client_conn *conn_new(struct client_job *j,
                                    const struct client_host *h, int fd)
{
    struct client_conn *conn = xcalloc(1, sizeof *conn);

    conn->magic = CLIENT_CONN_MAGIC;
    conn->service = j->service;
    conn->st = stream_from_own_fd(fd);
    stream_limits(conn->st, INPUT_MAX, OUTPUT_MAX);
    conn->arena = arena_new(CONN_ARENA_MAX);
    buf_init(&conn->text, CLIENT_REPLY_MAX);
    list_init(&conn->link);
    list_init(&conn->by_host);
    conn->host = *h;
    conn->host.name = slice_dup(conn->arena, h->name);
    conn->host.addr = slice_dup(conn->arena, h->addr);
    conn->host.unix_path = slice_dup(conn->arena, h->unix_path);
    conn->host.canonical = slice_dup(conn->arena, h->canonical);
    conn->host.nexthop = slice_dup(conn->arena, h->nexthop);
    if (h->unix_path.n > 0) {
        conn->name = arena_printf(conn->arena, "%.*s[%.*s]", SLF(h->name),
                                  SLF(h->unix_path));
        conn->name_port = conn->name;
    } else {
        conn->name =
            arena_printf(conn->arena, "%.*s[%.*s]", SLF(h->name), SLF(h->addr));
        conn->name_port =
            arena_printf(conn->arena, "%s:%u", conn->name, h->port);
    }
    conn->born = loop_now();
    j->client->n_connects++;
    return conn;
}

static void connect_failed(struct client_job *j, const struct client_host *h,
                           const struct err *err)
{
    const char *why =
        err->sys == 0 ? "Connection timed out" : strerror(err->sys);

    if (h->unix_path.n > 0)
        client_why_set(j, "4.4.1", "connect to %.*s[%.*s]: %s", SLF(h->name),
                       SLF(h->unix_path), why);
    else
        client_why_set(j, "4.4.1", "connect to %.*s[%.*s]:%u: %s", SLF(h->name),
                       SLF(h->addr), h->port, why);
    event_text(EV_INFO, j->service->log_name, NULL, "%.*s", SLF(j->why.text));
}

/* One attempt of a race. */
struct attempt {
    struct race *race;
    struct client_host *host;
    struct task *task;
    slice where, from;
    int fd; /* -1: under way, or failed */
    bool is_over;
    bool failed;
    struct err err;
};

#define RACE_MAX 8

struct race {
    struct client_job *job;
    struct attempt v[RACE_MAX];
    size_t n;
    size_t n_running;
    struct task *waiter;
};

MAY_WAIT static int connect_one(struct client_job *j, slice where, slice from,
                                int *fd, struct err *err)
{
    msec deadline = clock_after(j->service->connect_ms);

    if (socket_connect_from(where, from, deadline, fd, err) == 0)
        return 0;
    /* An address that is not ours (any more). */
    if (from.n == 0 || err->sys != EADDRNOTAVAIL || j->service->bind_enforce)
        return -1;
    event_text(EV_WARNING, j->service->log_name, NULL, "%s", err->log);
    return socket_connect_from(where, SLICE_NONE, deadline, fd, err);
}

MAY_WAIT static void attempt_task(void *arg)
{
    struct attempt *a = arg;
    struct race *race = a->race;

    a->failed = connect_one(race->job, a->where, a->from, &a->fd, &a->err) < 0;
    a->is_over = true;
    race->n_running--;
    if (race->waiter != NULL)
        task_wake(race->waiter);
}

static void attempt_start(struct race *race, struct client_host *h)
{
    struct attempt *a = &race->v[race->n++];

    h->is_tried = true;
    *a = (struct attempt){ .race = race,
                           .host = h,
                           .where = where_of(race->job, h),
                           .from = own_address(race->job, h),
                           .fd = -1 };
    race->n_running++;
    a->task = task_spawn("smtp-connect", attempt_task, a);
}

/* The first that is there; failures are told and counted out. */
static struct attempt *race_winner(struct race *race)
{
    for (size_t i = 0; i < race->n; i++) {
        struct attempt *a = &race->v[i];

        if (a->is_over && a->fd >= 0)
            return a;
        if (a->is_over && a->failed) {
            connect_failed(race->job, a->host, &a->err);
            a->failed = false;
        }
    }
    return NULL;
}

/* Whoever has not won is ended; an address that did not fail may be tried
 * again for another session. */
MAY_WAIT static void race_end(struct race *race, const struct attempt *winner)
{
    struct err ignored;

    for (size_t i = 0; i < race->n; i++)
        if (!race->v[i].is_over)
            task_cancel(race->v[i].task);
    race->waiter = task_self();
    while (race->n_running > 0)
        (void)task_wait(clock_after(60000), &ignored);
    race->waiter = NULL;
    for (size_t i = 0; i < race->n; i++) {
        struct attempt *a = &race->v[i];

        if (a == winner)
            continue;
        if (a->fd >= 0 || (a->failed && a->err.class == ERR_PEER))
            a->host->is_tried = false;
        if (a->fd >= 0)
            close(a->fd);
    }
}

static struct client_host *next_host(struct client_host *hosts, size_t n,
                                     const struct client_host *after)
{
    for (size_t i = 0; i < n; i++)
        if (!hosts[i].is_tried &&
            (after == NULL || hosts[i].pref == after->pref))
            return &hosts[i];
    return NULL;
}

/* Race the addresses of one preference. */
MAY_WAIT static struct client_conn *run_race(struct client_job *j,
                                             struct client_host *hosts,
                                             size_t n, size_t max)
{
    struct race *race = arena_alloc(j->arena, sizeof *race);
    struct client_host *first = next_host(hosts, n, NULL);
    struct attempt *winner = NULL;
    struct client_conn *conn = NULL;
    struct client_host *h = first;
    struct err ignored;

    if (race == NULL)
        return NULL;
    *race = (struct race){ .job = j };
    while (winner == NULL && (h != NULL || race->n_running > 0)) {
        bool may_start = h != NULL && race->n < RACE_MAX && race->n < max;

        if (may_start)
            attempt_start(race, h);
        else if (race->n_running == 0)
            break;
        race->waiter = task_self();
        (void)task_wait(clock_after(may_start ? RACE_MS : 60000), &ignored);
        race->waiter = NULL;
        winner = race_winner(race);
        h = next_host(hosts, n, first);
        if (task_is_cancelled())
            break;
    }
    race_end(race, winner);
    if (winner != NULL)
        conn = conn_new(j, winner->host, winner->fd);
    return conn;
}

struct client_conn *client_connect(struct client_job *j,
                                   struct client_host *hosts, size_t n,
                                   size_t *used)
{
    struct client_conn *conn = NULL;
    struct client_host *h;

    while (conn == NULL && (h = next_host(hosts, n, NULL)) != NULL) {
        size_t before = 0;
        size_t after = 0;
        size_t limit = j->service->address_limit;
        struct err err;
        int fd;

        if (limit == 0)
            limit = SIZE_MAX;
        if (*used >= limit)
            return NULL;
        for (size_t i = 0; i < n; i++)
            before += hosts[i].is_tried;
        h->is_tried = true;
        if (next_host(hosts, n, h) != NULL) {
            h->is_tried = false;
            conn = run_race(j, hosts, n, limit - *used);
        } else if (connect_one(j, where_of(j, h), own_address(j, h), &fd,
                               &err) == 0) {
            conn = conn_new(j, h, fd);
        } else {
            connect_failed(j, h, &err);
        }
        for (size_t i = 0; i < n; i++)
            after += hosts[i].is_tried;
        *used += after - before;
        if (after == before || task_is_cancelled())
            return conn;
    }
    return conn;
}
