#include "access/access_priv.h"

#include "base/digest.h"
#include "ipc/event.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * Rates and connections per client, what anvil(8) counts, in memory that all
 * smtpd share.  No locks, so a process may die at any instruction:
 *
 *   - a slot's key is set by compare-and-swap; its event counters are atomic,
 *     and a lost update costs one count;
 *   - connections are counted in a row of each process, written by that process
 *     alone; the number of a client is the sum over the rows; a dead process's
 *     row is zeroed by master and by whoever takes the row over;
 *   - a slot without connections whose time unit is over is free.
 *
 * A client hashes to one bucket of slots.  A full bucket counts nobody new: the
 * memory is bounded, and what cannot be counted is let in.
 */

#define RATE_MAGIC   0x31726c74616863u
#define RATE_BUCKET  16 /* slots that a key may live in */
#define RATE_PROCS   64
#define RATE_CLIENTS 16384

struct slot {
    _Atomic uint64_t key;  /* 0: never used */
    _Atomic int64_t start; /* of the time unit, milliseconds */
    _Atomic uint32_t n[ACCESS_EVENT_N];
    uint32_t spare[6];
};

struct rate_header {
    uint64_t magic;
    uint64_t n_slots;
    uint8_t seed[32];
    _Atomic int32_t pids[RATE_PROCS]; /* 0: the row is free */
};

#define RATE_HEADER 4096
_Static_assert(sizeof(struct rate_header) <= RATE_HEADER, "header page");

struct access_counters {
    void *map;
    size_t n_bytes;
    struct rate_header *header;
    struct slot *slots;
    _Atomic uint16_t *rows; /* [RATE_PROCS][n_slots] */
    size_t n_slots;
    size_t row; /* ours; RATE_PROCS: none (master) */
};

static size_t map_bytes(size_t n_slots)
{
    return RATE_HEADER + n_slots * sizeof(struct slot) +
           RATE_PROCS * n_slots * sizeof(uint16_t);
}

int access_counters_create(size_t n_clients, int *fd_out, struct err *err)
{
    struct rate_header header = { .magic = RATE_MAGIC };
    size_t n = n_clients > 0 ? n_clients : RATE_CLIENTS;
    int fd CLEANUP(close_fd) = memfd_create("hato-clients", MFD_CLOEXEC);

    n = (n + RATE_BUCKET - 1) / RATE_BUCKET * RATE_BUCKET;
    header.n_slots = n;
    random_bytes(header.seed, sizeof(header.seed));
    if (fd < 0 || ftruncate(fd, (off_t)map_bytes(n)) < 0 ||
        pwrite(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header))
        return err_sys(err, "memory for client rates");
    *fd_out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return *fd_out < 0 ? err_sys(err, "memory for client rates") : 0;
}

static void row_clear(struct access_counters *c, size_t row)
{
    for (size_t i = 0; i < c->n_slots; i++) {
        _Atomic uint16_t *n = &c->rows[row * c->n_slots + i];

        if (atomic_load(n) != 0)
            atomic_store(n, 0);
    }
}

/* Rows of processes that are gone, should master not have said so. */
static void rows_reclaim(struct access_counters *c)
{
    for (size_t i = 0; i < RATE_PROCS; i++) {
        int32_t pid = atomic_load(&c->header->pids[i]);

        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        row_clear(c, i);
        (void)atomic_compare_exchange_strong(&c->header->pids[i], &pid, 0);
    }
}

/* A row of our own; none left: this process counts no connections. */
static void row_take(struct access_counters *c)
{
    rows_reclaim(c);
    for (c->row = 0; c->row < RATE_PROCS; c->row++) {
        int32_t none = 0;

        if (atomic_compare_exchange_strong(&c->header->pids[c->row], &none,
                                           (int32_t)getpid())) {
            row_clear(c, c->row);
            return;
        }
    }
}

static int counters_map(int fd, struct access_counters **out, struct err *err)
{
    struct access_counters *c = NULL;
    struct rate_header *h;
    struct stat st;
    void *map;

    if (fstat(fd, &st) < 0 || (size_t)st.st_size < map_bytes(RATE_BUCKET))
        return err_temp(err, "no memory of client rates");
    map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
               0);
    if (map == MAP_FAILED)
        return err_sys(err, "map the memory of client rates");
    h = map;
    if (h->magic != RATE_MAGIC || map_bytes(h->n_slots) != (size_t)st.st_size) {
        (void)munmap(map, (size_t)st.st_size);
        return err_temp(err, "the memory of client rates is damaged");
    }
    c = xcalloc(1, sizeof(*c));
    c->map = map;
    c->n_bytes = (size_t)st.st_size;
    c->header = h;
    c->n_slots = h->n_slots;
    c->slots = (struct slot *)(void *)((char *)map + RATE_HEADER);
    c->rows = (_Atomic uint16_t *)(void *)(c->slots + c->n_slots);
    c->row = RATE_PROCS;
    *out = c;
    return 0;
}

int access_counters_open(int fd, struct access_counters **out, struct err *err)
{
    struct access_counters *c = NULL;

    if (counters_map(fd, &c, err) < 0)
        return -1;
    CHECK(c != NULL);
    row_take(c);
    *out = c;
    return 0;
}

void access_counters_close(struct access_counters **cp)
{
    struct access_counters *c = *cp;

    if (c == NULL)
        return;
    if (c->row < RATE_PROCS) {
        row_clear(c, c->row);
        atomic_store(&c->header->pids[c->row], 0);
    }
    (void)munmap(c->map, c->n_bytes);
    free(c);
    *cp = NULL;
}

void access_counters_process_died(int fd, pid_t pid)
{
    struct access_counters *c = NULL;
    struct err err;

    if (counters_map(fd, &c, &err) < 0) {
        log_warning("%s", err.log);
        return;
    }
    CHECK(c != NULL);
    for (size_t i = 0; i < RATE_PROCS; i++) {
        if (atomic_load(&c->header->pids[i]) != (int32_t)pid)
            continue;
        row_clear(c, i);
        atomic_store(&c->header->pids[i], 0);
    }
    access_counters_close(&c);
}

/* ------------------------------------------------------------------ *
 * Slots
 */

static uint32_t connections(const struct access_counters *c, size_t at)
{
    uint32_t n = 0;

    for (size_t row = 0; row < RATE_PROCS; row++) {
        if (atomic_load(&c->header->pids[row]) != 0)
            n += atomic_load(&c->rows[row * c->n_slots + at]);
    }
    return n;
}

static bool is_free(const struct access_counters *c, size_t at, int64_t now,
                    int64_t unit)
{
    const struct slot *s = &c->slots[at];

    if (atomic_load(&s->key) == 0)
        return true;
    return now - atomic_load(&s->start) >= unit && connections(c, at) == 0;
}

/* The slot of `key`, made if need be; n_slots when the bucket is full. */
static size_t slot_find(struct access_counters *c, uint64_t key, int64_t now,
                        int64_t unit)
{
    size_t base = key % (c->n_slots / RATE_BUCKET) * RATE_BUCKET;

    for (size_t i = base; i < base + RATE_BUCKET; i++) {
        if (atomic_load(&c->slots[i].key) == key)
            return i;
    }
    for (size_t i = base; i < base + RATE_BUCKET; i++) {
        struct slot *s = &c->slots[i];
        uint64_t was = atomic_load(&s->key);

        if (!is_free(c, i, now, unit) ||
            !atomic_compare_exchange_strong(&s->key, &was, key))
            continue;
        for (int e = 0; e < ACCESS_EVENT_N; e++)
            atomic_store(&s->n[e], 0);
        atomic_store(&s->start, now);
        return i;
    }
    return c->n_slots;
}

/* Hold the slot by a connection: from then on nobody takes it over. */
static size_t slot_hold(struct access_counters *c, uint64_t key, int64_t now,
                        int64_t unit)
{
    for (int tries = 0; tries < 8; tries++) {
        size_t at = slot_find(c, key, now, unit);
        _Atomic uint16_t *mine;

        if (at == c->n_slots || c->row == RATE_PROCS)
            return c->n_slots;
        mine = &c->rows[c->row * c->n_slots + at];
        if (atomic_load(mine) == UINT16_MAX)
            return c->n_slots;
        atomic_fetch_add(mine, 1);
        if (atomic_load(&c->slots[at].key) == key)
            return at;
        atomic_fetch_sub(mine, 1); /* taken over in between */
    }
    return c->n_slots;
}

static uint32_t slot_count(struct slot *s, enum access_event event, int64_t now,
                           int64_t unit)
{
    int64_t start = atomic_load(&s->start);

    if (now - start >= unit &&
        atomic_compare_exchange_strong(&s->start, &start, now)) {
        for (int e = 0; e < ACCESS_EVENT_N; e++)
            atomic_store(&s->n[e], 0);
    }
    return atomic_fetch_add(&s->n[event], 1) + 1;
}

static uint64_t client_key(const struct access_counters *c,
                           const struct access *a, slice ip)
{
    uint8_t digest[32];
    char text[300];
    uint64_t key;
    int n = snprintf(text, sizeof(text), "%.*s:%.*s",
                     (int)min_size(a->service_name.n, 200), a->service_name.p,
                     (int)min_size(ip.n, 64), ip.p);

    hmac_sha256(slice_of(c->header->seed, sizeof(c->header->seed)),
                slice_of(text, (size_t)n), digest);
    memcpy(&key, digest, sizeof(key));
    return key != 0 ? key : 1;
}

/* ------------------------------------------------------------------ *
 * Events
 */

struct event_kind {
    enum limit limit;
    int code;
    const char *log;
    const char *reply; /* the client's address follows */
    const char *status;
};

static const struct event_kind kinds[ACCESS_EVENT_N] = {
    [ACCESS_EVENT_CONNECT] = { LIMIT_CONNECT_RATE, 421, "Connection rate",
                               "too many connections", "4.7.0" },
    [ACCESS_EVENT_MESSAGE] = { LIMIT_MESSAGE_RATE, 450,
                               "Message delivery request rate", "too much mail",
                               "4.7.1" },
    [ACCESS_EVENT_RCPT] = { LIMIT_RCPT_RATE, 450, "Recipient address rate",
                            "too many recipients", "4.7.1" },
    [ACCESS_EVENT_AUTH] = { LIMIT_AUTH_RATE, 450, "AUTH command rate",
                            "too many AUTH commands", "4.7.1" },
    [ACCESS_EVENT_TLS] = { LIMIT_TLS_RATE, 421, "New TLS session rate",
                           "too many new TLS sessions", "4.7.0" },
};

static void refuse(const struct access *a, struct access_session *s,
                   const struct event_kind *k, const char *what, uint32_t n,
                   struct access_reply *out)
{
    char *line;

    log_warning("%s limit exceeded: %u from %.*s for service %.*s", what, n,
                SLF(check_client_text(a, s)), SLF(a->service_name));
    if (k->code == 421)
        line =
            arena_printf(s->arena, "421 %s %.*s Error: %s from %.*s", k->status,
                         SLF(a->myhostname), k->reply, SLF(s->addr));
    else
        line = arena_printf(s->arena, "%d %s Error: %s from %.*s", k->code,
                            k->status, k->reply, SLF(s->addr));
    out->ok = false;
    out->code = k->code;
    out->disconnect = k->code == 421;
    out->line = line != NULL ? slice_str(line) : SL("421 4.7.0 Error");
}

MAY_WAIT static int is_exempt(const struct access *a,
                              const struct access_session *s, bool *out,
                              struct err *err)
{
    struct err local;

    if (table_match_client(a->limit_exceptions, s->name, s->addr, out,
                           &local) == 0)
        return 0;
    if (local.class == ERR_PEER)
        return err_peer(err, "cancelled");
    log_warning("%s", local.log);
    *out = true; /* a broken table of exceptions refuses nobody */
    return 0;
}

static bool no_limits(const struct access *a)
{
    for (int i = 0; i < LIMIT_N; i++) {
        if (a->limits[i] > 0)
            return false;
    }
    return true;
}

/* CONNECT: take a hold, count, and look at the number of connections. */
static bool connect_count(const struct access *a, struct access_counters *c,
                          struct access_client *client,
                          struct access_session *s, struct access_reply *out)
{
    int64_t now = clock_mono();
    uint32_t n;
    size_t at;

    client->key = client_key(c, a, s->addr);
    at = slot_hold(c, client->key, now, a->rate_unit_ms);
    if (at == c->n_slots)
        return false;
    client->slot = (uint32_t)at + 1;
    client->is_counted = true;
    n = connections(c, at);
    if (a->limits[LIMIT_COUNT] > 0 && n > a->limits[LIMIT_COUNT])
        refuse(a, s, &kinds[ACCESS_EVENT_CONNECT], "Connection concurrency", n,
               out);
    return true;
}

/* NOLINTNEXTLINE(readability-function-size): seven facts of one event */
int access_count(const struct access *a, struct access_counters *c,
                 struct access_client *client, struct access_session *s,
                 enum access_event event, struct access_reply *out,
                 struct err *err)
{
    const struct event_kind *k = &kinds[event];
    bool exempt;
    uint32_t n;

    CHECK_OBJ(a, ACCESS_MAGIC);
    *out = (struct access_reply){ .ok = true };
    if (c == NULL || no_limits(a))
        return 0;
    if (event == ACCESS_EVENT_CONNECT) {
        if (is_exempt(a, s, &exempt, err) < 0)
            return -1;
        if (exempt || !connect_count(a, c, client, s, out))
            return 0;
    }
    if (client->slot == 0 || client->slot > c->n_slots)
        return 0;
    n = slot_count(&c->slots[client->slot - 1], event, clock_mono(),
                   a->rate_unit_ms);
    if (out->ok && a->limits[k->limit] > 0 && n > a->limits[k->limit])
        refuse(a, s, k, k->log, n, out);
    return 0;
}

void access_client_gone(struct access_counters *c, struct access_client *client)
{
    _Atomic uint16_t *mine;

    if (c == NULL || !client->is_counted || client->slot == 0 ||
        c->row == RATE_PROCS)
        return;
    mine = &c->rows[c->row * c->n_slots + client->slot - 1];
    if (atomic_load(mine) > 0)
        atomic_fetch_sub(mine, 1);
    *client = (struct access_client){ .slot = 0 };
}

void access_counters_dump(struct access_counters *c, struct buf *out)
{
    size_t n_used = 0;
    uint64_t n_connections = 0;

    for (size_t i = 0; i < c->n_slots; i++) {
        if (atomic_load(&c->slots[i].key) == 0)
            continue;
        n_used++;
        n_connections += connections(c, i);
    }
    buf_printf(out, "clients %zu of %zu, connections %" PRIu64 "\n", n_used,
               c->n_slots, n_connections);
}
