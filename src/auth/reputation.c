#include "auth/auth_priv.h"

#include <arpa/inet.h>

/*
 * Who failed how often: clients ("c" + address), their networks ("n" + /24 or
 * /64) and accounts ("a" + name); and which client has signed in well to which
 * account ("g" + name, NUL, address), whom the account's and the network's bad
 * days do not concern.
 */
#define HALF_LIFE_MS  600000 /* a count of failures halves in this time */
#define FORGET_MS     3600000
#define GOOD_MS       (30 * 86400000LL)
#define DELAY_MAX_MS  15000
#define NETWORK_FREE  16 /* failures of others nearby that cost nothing */
#define ACCOUNT_FREE  8
#define KEY_MAX       (AUTH_NAME_MAX + 80)
#define SAME_PASSWORD 4 /* last wrong passwords of a client */

struct entry {
    struct map_node node;
    struct list link; /* the oldest use first */
    msec last;
    unsigned n_bad;
    uint64_t seen[SAME_PASSWORD];
    unsigned n_seen;
    size_t n;
    char key[];
};

struct reputation {
    struct map map;
    struct list order;
    size_t max;
};

struct reputation *reputation_new(size_t max)
{
    struct reputation *r = xcalloc(1, sizeof *r);

    map_init(&r->map, false);
    list_init(&r->order);
    r->max = max;
    return r;
}

static void drop(struct reputation *r, struct entry *e)
{
    map_del(&r->map, &e->node);
    list_remove(&e->link);
    free(e);
}

void reputation_free(struct reputation **pr)
{
    struct reputation *r = *pr;

    *pr = NULL;
    if (r == NULL)
        return;
    while (!list_empty(&r->order))
        drop(r, CONTAINER_OF(r->order.next, struct entry, link));
    map_done(&r->map);
    free(r);
}

size_t reputation_count(const struct reputation *r)
{
    return r->map.n;
}

static struct entry *get(struct reputation *r, slice key)
{
    struct map_node *n = map_get(&r->map, key);
    struct entry *e;
    msec now = loop_now();

    if (n == NULL)
        return NULL;
    e = CONTAINER_OF(n, struct entry, node);
    if (now - e->last > (key.p[0] == 'g' ? GOOD_MS : FORGET_MS)) {
        drop(r, e);
        return NULL;
    }
    while (e->n_bad > 0 && now - e->last >= HALF_LIFE_MS) {
        e->n_bad /= 2;
        e->last += HALF_LIFE_MS;
    }
    return e;
}

static struct entry *make(struct reputation *r, slice key)
{
    struct entry *e = get(r, key);

    if (e == NULL) {
        if (r->map.n >= r->max)
            drop(r, CONTAINER_OF(r->order.next, struct entry, link));
        e = xcalloc(1, sizeof *e + key.n);
        list_init(&e->link);
        memcpy(e->key, key.p, key.n);
        e->n = key.n;
        map_put(&r->map, &e->node, (slice){ e->key, key.n });
    }
    list_remove(&e->link);
    list_push(&r->order, &e->link);
    e->last = loop_now();
    return e;
}

/* ---- keys */

struct keys {
    char text[4][KEY_MAX];
    slice client, network, account, good;
};

static slice put_key(char text[static KEY_MAX], char kind, slice one, slice two)
{
    int n =
        snprintf(text, KEY_MAX, "%c%.*s%c%.*s", kind, SLF(one), '\0', SLF(two));

    return (slice){ text, n < 0 ? 0 : min_size((size_t)n, KEY_MAX - 1) };
}

/* "192.0.2" of "192.0.2.7"; the first eight bytes of an IPv6 address in hex. */
static slice network_of(slice ip, char text[static 40])
{
    unsigned char raw[16];
    ssize_t dot = slice_rchr(ip, '.');

    if (!slice_copy_to(ip, text, 40) || inet_pton(AF_INET6, text, raw) != 1)
        return dot > 0 ? slice_sub(ip, 0, (size_t)dot) : ip;
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", raw[i]);
    return slice_str(text);
}

static void keys_of(struct keys *k, slice ip, slice account)
{
    char network[40];

    ip = slice_sub(ip, 0, 64);
    account = slice_sub(account, 0, AUTH_NAME_MAX);
    k->client = k->network = k->account = k->good = SLICE_NONE;
    if (ip.n > 0) {
        k->client = put_key(k->text[0], 'c', ip, SLICE_NONE);
        k->network =
            put_key(k->text[1], 'n', network_of(ip, network), SLICE_NONE);
    }
    if (account.n > 0)
        k->account = put_key(k->text[2], 'a', account, SLICE_NONE);
    if (ip.n > 0 && account.n > 0)
        k->good = put_key(k->text[3], 'g', account, ip);
}

/* ---- questions and events */

/* 0, 1, 2, 4, 8, 15 seconds. */
static msec delay_of(struct reputation *r, slice key, unsigned free_tries)
{
    struct entry *e = key.n > 0 ? get(r, key) : NULL;
    unsigned n = e != NULL && e->n_bad > free_tries ? e->n_bad - free_tries : 0;
    msec ms = n == 0 ? 0 : n > 4 ? DELAY_MAX_MS : (msec)500 << n;

    return ms < DELAY_MAX_MS ? ms : DELAY_MAX_MS;
}

static msec longer(msec a, msec b)
{
    return a > b ? a : b;
}

msec reputation_delay(struct reputation *r, slice ip, slice account)
{
    struct keys k;
    msec ms;

    keys_of(&k, ip, account);
    if (k.good.n > 0 && get(r, k.good) != NULL)
        return 0;
    ms = delay_of(r, k.client, 0);
    ms = longer(ms, delay_of(r, k.network, NETWORK_FREE));
    return longer(ms, delay_of(r, k.account, ACCOUNT_FREE));
}

/* A mail program that repeats a password which was changed is no attack. */
static bool is_repetition(struct entry *e, uint64_t digest)
{
    for (size_t i = 0; i < SAME_PASSWORD; i++)
        if (e->seen[i] == digest)
            return true;
    e->seen[e->n_seen++ % SAME_PASSWORD] = digest;
    return false;
}

static void count(struct reputation *r, slice key)
{
    struct entry *e;

    if (key.n == 0)
        return;
    e = make(r, key);
    if (e->n_bad < 1000)
        e->n_bad++;
}

void reputation_bad(struct reputation *r, slice ip, slice account,
                    uint64_t digest)
{
    struct keys k;
    struct entry *e;

    keys_of(&k, ip, account);
    if (k.client.n > 0) {
        e = make(r, k.client);
        if (is_repetition(e, digest | 1))
            return;
        if (e->n_bad < 1000)
            e->n_bad++;
    }
    count(r, k.network);
    count(r, k.account);
    /* Somebody at a good place who goes on failing is not good any more. */
    e = k.good.n > 0 ? get(r, k.good) : NULL;
    if (e != NULL && ++e->n_bad > ACCOUNT_FREE)
        drop(r, e);
}

void reputation_good(struct reputation *r, slice ip, slice account)
{
    struct keys k;
    struct entry *e;

    keys_of(&k, ip, account);
    if (k.good.n == 0)
        return;
    e = make(r, k.good);
    e->n_bad = 0;
}
