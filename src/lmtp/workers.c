/* Connections to mailbox workers, which the broker gives. */
#include "base/digest.h"
#include "base/map.h"
#include "ipc/ipc.h"
#include "lmtp/lmtp.h"
#include "rt/rt.h"

#define CONNECT_MS ((msec)60 * 1000)
#define DELIVER_MS ((msec)1800 * 1000)
/* Connections to workers kept open; the least recently used idle one goes. */
#define WORKERS_MAX 1024

/*
 * A connection to one worker.  The broker spreads the accounts of one uid over
 * `n_slots` workers by CRC-32C of the account's name; its answers tell n_slots.
 */
struct lmtp_worker {
    struct list link;
    struct map_node node;
    char key[64]; /* "uid:gid:kind:slot" */
    struct lmtp_workers *workers;
    struct lmtp_client *client; /* NULL while it is being made */
    unsigned n_users;
    bool is_gone; /* broken: out of the map, freed by its last user */
};

struct lmtp_workers {
    struct link *broker;
    struct lmtp_syncs *syncs;
    struct map map;
    struct list lru;  /* oldest first */
    unsigned n_slots; /* 0: not told yet */
};

struct lmtp_workers *lmtp_workers_new(struct link *broker,
                                      struct lmtp_syncs *syncs)
{
    struct lmtp_workers *w = xcalloc(1, sizeof *w);

    w->broker = broker;
    w->syncs = syncs;
    map_init(&w->map, false);
    list_init(&w->lru);
    return w;
}

/* A worker that holds mailboxes may start no program: a user's commands run in
 * another one with his uid. */
static bool is_for_command(const struct lmtp_place *place)
{
    return place->by_command_worker || place->kind == LMTP_COMMAND;
}

static const char *kind_of(const struct lmtp_place *place)
{
    if (is_for_command(place))
        return "command";
    return place->by_spool_worker ? "spool" : "mailbox";
}

static void request(const struct lmtp_place *place, struct buf *b)
{
    (void)attr_put_u64(b, AT_UID, place->uid);
    (void)attr_put_u64(b, AT_GID, place->gid);
    (void)attr_put(b, AT_USER, place->user);
    (void)attr_put(b, AT_ACCOUNT, place->account);
    (void)attr_put_str(b, AT_KIND, kind_of(place));
}

/* A socket to the worker of this place from the broker. */
MAY_WAIT static int connect_worker(struct lmtp_workers *w,
                                   const struct lmtp_place *place,
                                   uint16_t type, int *fd_out, struct err *err)
{
    struct msg answer;
    struct buf b;
    int r;

    buf_init(&b, 65536);
    request(place, &b);
    r = link_call(w->broker, type, buf_view(&b), NULL, 0,
                  clock_after(CONNECT_MS), &answer, err);
    buf_done(&b);
    if (r < 0)
        return err_prefix(err, "mailbox worker of %.*s", SLF(place->user));
    w->n_slots = (unsigned)attr_u64_or(answer.body, AT_NSLOTS, 1);
    lmtp_syncs_learn(w->syncs, answer.body);
    if (answer.n_fds < 1) {
        msg_free(&answer);
        return err_temp(err, "the broker gave no socket");
    }
    *fd_out = answer.fds[0];
    answer.fds[0] = -1;
    msg_free(&answer);
    return 0;
}

static void worker_free(struct lmtp_worker *v)
{
    list_remove(&v->link);
    lmtp_client_free(&v->client);
    free(v);
}

static void drop(struct lmtp_worker *v)
{
    if (!v->is_gone) {
        v->is_gone = true;
        map_del(&v->workers->map, &v->node);
        list_remove(&v->link);
    }
}

static void make_room(struct lmtp_workers *w)
{
    if (w->map.n < WORKERS_MAX)
        return;
    list_each_safe(it, next, &w->lru) {
        struct lmtp_worker *v = CONTAINER_OF(it, struct lmtp_worker, link);

        if (v->n_users == 0) {
            drop(v);
            worker_free(v);
            return;
        }
    }
}

static void make_key(const struct lmtp_workers *w,
                     const struct lmtp_place *place, char key[static 64])
{
    unsigned slot = 0;

    if (strcmp(kind_of(place), "mailbox") == 0 && w->n_slots > 1)
        slot = crc32c(0, place->account.p, place->account.n) % w->n_slots;
    (void)snprintf(key, 64, "%" PRIu64 ":%" PRIu64 ":%s:%u", place->uid,
                   place->gid, kind_of(place), slot);
}

static struct lmtp_worker *find(struct lmtp_workers *w, const char *key)
{
    struct map_node *n = map_get(&w->map, slice_str(key));
    struct lmtp_worker *v;

    if (n == NULL)
        return NULL;
    v = CONTAINER_OF(n, struct lmtp_worker, node);
    if (!lmtp_client_is_broken(v->client))
        return v;
    drop(v);
    if (v->n_users == 0)
        worker_free(v);
    return NULL;
}

int lmtp_worker_get(struct lmtp_workers *w, const struct lmtp_place *place,
                    struct lmtp_worker **out, struct err *err)
{
    struct lmtp_worker *v;
    char key[64];
    int fd = -1;

    make_key(w, place, key);
    v = w->n_slots > 0 ? find(w, key) : NULL;
    if (v == NULL) {
        if (connect_worker(w, place, BROKER_DELIVER, &fd, err) < 0)
            return -1;
        make_key(w, place, key); /* n_slots is known now */
        v = find(w, key);        /* somebody was quicker */
        if (v != NULL) {
            close(fd);
        } else {
            make_room(w);
            v = xcalloc(1, sizeof *v);
            v->workers = w;
            memcpy(v->key, key, sizeof key);
            v->client = lmtp_client_new(fd);
            list_push(&w->lru, &v->link);
            map_put(&w->map, &v->node, slice_str(v->key));
        }
    }
    v->n_users++;
    list_remove(&v->link);
    list_push(&w->lru, &v->link);
    *out = v;
    return 0;
}

void lmtp_worker_put(struct lmtp_worker **vp)
{
    struct lmtp_worker *v = *vp;

    *vp = NULL;
    if (v == NULL)
        return;
    CHECK(v->n_users > 0);
    v->n_users--;
    if (lmtp_client_is_broken(v->client))
        drop(v);
    if (v->n_users == 0 && v->is_gone)
        worker_free(v);
}

int lmtp_worker_deliver(struct lmtp_worker *v, const struct lmtp_message *m,
                        struct lmtp_rcpt *rcpts, size_t n, struct arena *a,
                        struct err *err)
{
    struct lmtp_message timed = *m;

    timed.deadline = loop_after(DELIVER_MS);
    return lmtp_deliver(v->client, &timed, rcpts, n, a, err);
}

/* ---- questions */

static void on_chan_msg(struct chan *c, struct msg *m, void *arg)
{
    (void)c;
    (void)m;
    (void)arg;
}

int lmtp_worker_ask(struct lmtp_workers *w, const struct lmtp_place *place,
                    uint16_t type, slice body, struct msg *answer,
                    struct err *err)
{
    static const struct chan_ops ops = { .on_msg = on_chan_msg };
    struct lmtp_place asked = *place;
    struct chan *c;
    int fd = -1;
    int r;

    /* Who may write into the spool directory answers no questions. */
    asked.by_spool_worker = false;
    if (connect_worker(w, &asked, BROKER_ASK, &fd, err) < 0)
        return -1;
    c = chan_new(fd, &ops, NULL);
    r = chan_call(c, type, body, NULL, 0, clock_after(CONNECT_MS), answer, err);
    chan_free(&c);
    return r;
}

void lmtp_workers_dump(const struct lmtp_workers *w, struct buf *out)
{
    (void)buf_printf(out, "worker connections %zu\n", w->map.n);
}
