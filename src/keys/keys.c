/* The process: private keys, signatures, ticket keys. */
#include "keys/keys_priv.h"

#include "base/clock.h"
#include "rt/rt.h"

/* How long a key stays when no parameter names its file any more: sessions of
 * processes that drain may still shake hands with it. */
#define FORGET_MS 60000
/* Versions of a file whose keys stay, so that a certificate that is replaced
 * later than its key goes on working. */
#define VERSIONS   4
#define N_TICKETS  3
#define TICKET_MIN 120
#define TICKET_MAX 86400

struct key_file {
    struct list link;
    char *path;
    struct tls_key *v[KEYS_PEM_MAX * VERSIONS]; /* the newest first */
    size_t n;
    bool is_named; /* by the configuration */
    msec forget_at;
};

struct user {
    struct list link;
    struct keys *keys;
    struct chan *chan;
};

struct keys {
    struct process *process;
    struct list files;
    struct list users;
    struct tls_ticket_key tickets[N_TICKETS];
    int64_t until[N_TICKETS]; /* seconds 1970 */
    size_t n_tickets;
    int64_t period_sec;
    struct timer rotate;
    struct timer forget;
    uint64_t n_signed;
    uint64_t n_refused;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

/* ---- ticket keys */

static void put_tickets(const struct keys *k, struct buf *b)
{
    for (size_t i = 0; i < k->n_tickets; i++) {
        const struct tls_ticket_key *t = &k->tickets[i];
        uint8_t secret[64];

        memcpy(secret, t->aes, 32);
        memcpy(secret + 32, t->hmac, 32);
        attr_put(b, AT_NAME, slice_of(t->name, sizeof t->name));
        attr_put(b, AT_CONTENT, slice_of(secret, sizeof secret));
        attr_put_u64(b, AT_TIME, (uint64_t)k->until[i]);
        explicit_bzero(secret, sizeof secret);
    }
}

static void tell_tickets(const struct keys *k, struct chan *c)
{
    struct buf b;

    buf_init(&b, 4096);
    put_tickets(k, &b);
    (void)chan_send(c, KEYS_TICKETS, buf_view(&b), NULL, 0, NULL);
    explicit_bzero(b.p, b.n);
    buf_done(&b);
}

/* A new key makes tickets for one period; it opens them for two more. */
static void rotate_now(struct timer *t)
{
    struct keys *k = CONTAINER_OF(t, struct keys, rotate);

    memmove(k->tickets + 1, k->tickets,
            sizeof k->tickets - sizeof k->tickets[0]);
    memmove(k->until + 1, k->until, sizeof k->until - sizeof k->until[0]);
    random_bytes(&k->tickets[0], sizeof k->tickets[0]);
    k->until[0] = clock_wall() / 1000 + k->period_sec * N_TICKETS;
    if (k->n_tickets < N_TICKETS)
        k->n_tickets++;
    list_each(it, &k->users)
        tell_tickets(k, CONTAINER_OF(it, struct user, link)->chan);
    timer_set(&k->rotate, clock_after(k->period_sec * 1000), rotate_now);
}

/* Half the longest life of a session: a ticket's key lives as long as it. */
static int64_t period_of(const struct conf *c)
{
    int64_t most = TICKET_MIN;

    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service_at(c, i);
        int64_t sec = conf_time(c, s, "smtpd_tls_session_cache_timeout");

        if (keys_is_tls_service(s) && sec > most)
            most = sec;
    }
    return (most > TICKET_MAX ? TICKET_MAX : most) / 2;
}

struct keys *keys_new(struct process *p)
{
    struct keys *k = xcalloc(1, sizeof *k);

    k->process = p;
    list_init(&k->files);
    list_init(&k->users);
    k->period_sec = period_of(p->conf);
    rotate_now(&k->rotate);
    return k;
}

/* ---- files */

static struct key_file *find_file(struct keys *k, slice path)
{
    struct key_file *f;

    list_each(it, &k->files) {
        f = CONTAINER_OF(it, struct key_file, link);
        if (slice_eqs(path, f->path))
            return f;
    }
    f = xcalloc(1, sizeof *f);
    f->path = slice_xstrdup(path);
    list_push(&k->files, &f->link);
    return f;
}

static bool has_key(const struct key_file *f, const struct tls_key *key)
{
    for (size_t i = 0; i < f->n; i++)
        if (memcmp(tls_key_id(f->v[i]), tls_key_id(key), 32) == 0)
            return true;
    return false;
}

/* Takes over `key`. */
static void add_key(struct key_file *f, struct tls_key *key)
{
    if (has_key(f, key)) {
        tls_key_free(&key);
        return;
    }
    if (f->n == ARRAY_LEN(f->v))
        tls_key_free(&f->v[--f->n]);
    memmove(f->v + 1, f->v, f->n * sizeof(struct tls_key *));
    f->v[0] = key;
    f->n++;
}

/* All keys of a text, or none when one is broken. */
static int read_keys(slice text, struct tls_key **v, size_t *n, struct err *err)
{
    slice label, block;

    *n = 0;
    while (keys_pem_next(&text, &label, &block)) {
        if (!keys_is_key_label(label))
            continue;
        if (*n == KEYS_PEM_MAX)
            return err_perm(err, "more than %d keys", KEYS_PEM_MAX);
        if (tls_key_new(block, &v[*n], err) < 0)
            return -1;
        (*n)++;
    }
    return *n > 0 ? 0 : err_perm(err, "no private key in PEM");
}

static void tell_changed(const struct keys *k)
{
    list_each(it, &k->users)
        (void)chan_send(CONTAINER_OF(it, struct user, link)->chan, KEYS_CHANGED,
                        SLICE_NONE, NULL, 0, NULL);
}

static void take_file(struct keys *k, slice path, slice text)
{
    struct tls_key *v[KEYS_PEM_MAX];
    struct key_file *f;
    struct err err;
    size_t n;

    if (read_keys(text, v, &n, &err) < 0) {
        for (size_t i = 0; i < n; i++)
            tls_key_free(&v[i]);
        log_warning("key file %.*s cannot be used: %s", SLF(path), err.log);
        return;
    }
    f = find_file(k, path);
    f->is_named = true;
    for (size_t i = 0; i < n; i++)
        add_key(f, v[i]);
    tell_changed(k);
}

static void forget_file(struct key_file *f)
{
    list_remove(&f->link);
    for (size_t i = 0; i < f->n; i++)
        tls_key_free(&f->v[i]);
    free(f->path);
    free(f);
}

static void forget_now(struct timer *t)
{
    struct keys *k = CONTAINER_OF(t, struct keys, forget);

    list_each_safe(it, tmp, &k->files) {
        struct key_file *f = CONTAINER_OF(it, struct key_file, link);

        if (!f->is_named && f->forget_at <= loop_now())
            forget_file(f);
    }
    tell_changed(k);
}

/* After a reload: the paths that count, a line each. */
static void take_list(struct keys *k, slice text)
{
    bool is_any = false;

    list_each(it, &k->files) {
        struct key_file *f = CONTAINER_OF(it, struct key_file, link);
        slice rest = text, line;

        f->is_named = false;
        while (rest.n > 0 && !f->is_named) {
            slice_cut(&rest, '\n', &line);
            f->is_named = slice_eqs(line, f->path);
        }
        if (!f->is_named) {
            f->forget_at = clock_after(FORGET_MS);
            is_any = true;
        }
    }
    if (is_any)
        timer_set(&k->forget, clock_after(FORGET_MS), forget_now);
}

void keys_on_fd(struct keys *k, slice name, int fd)
{
    int owned CLEANUP(close_fd) = fd;
    struct buf text;
    struct err err;

    buf_init(&text, KEYS_FILE_MAX);
    if (keys_read_fd(owned, &text, &err) < 0)
        log_warning("%.*s: %s", SLF(name), err.log);
    else if (slice_starts(name, SL("key:")))
        take_file(k, slice_from(name, 4), buf_view(&text));
    else if (slice_eqs(name, "keylist"))
        take_list(k, buf_view(&text));
    if (text.p != NULL)
        explicit_bzero(text.p, text.size);
    buf_done(&text);
}

/* ---- users */

static const struct tls_key *find_key(const struct keys *k, slice id)
{
    list_each(it, &k->files) {
        const struct key_file *f = CONTAINER_OF(it, struct key_file, link);

        for (size_t i = 0; i < f->n; i++)
            if (memcmp(tls_key_id(f->v[i]), id.p, 32) == 0)
                return f->v[i];
    }
    return NULL;
}

static int sign(struct keys *k, slice body, struct buf *out, struct err *err)
{
    slice id = SLICE_NONE, tbs = SLICE_NONE;
    uint64_t scheme = attr_u64_or(body, AT_SCHEME, 0);
    const struct tls_key *key;

    attr_find(body, AT_KEY_ID, &id);
    attr_find(body, AT_CONTENT, &tbs);
    if (id.n != 32 || scheme > UINT16_MAX)
        return err_perm(err, "keys: a broken question");
    key = find_key(k, id);
    if (key == NULL)
        return err_temp(err, "keys: the private key is not here (any more)");
    return tls_key_sign(key, (uint16_t)scheme, tbs, out, err);
}

static void on_sign(struct keys *k, struct chan *c, const struct msg *m)
{
    struct buf signature, b;
    struct err err;

    buf_init(&signature, 4096);
    if (sign(k, m->body, &signature, &err) < 0) {
        k->n_refused++;
        chan_fail(c, m->id, &err);
    } else {
        k->n_signed++;
        buf_init(&b, 8192);
        attr_put(&b, AT_SIGNATURE, buf_view(&signature));
        chan_answer(c, m->id, buf_view(&b), NULL, 0);
        buf_done(&b);
    }
    buf_done(&signature);
}

static void on_have(struct keys *k, struct chan *c, const struct msg *m)
{
    struct buf b;

    buf_init(&b, CHAN_MAX_BYTES / 2);
    list_each(it, &k->files) {
        const struct key_file *f = CONTAINER_OF(it, struct key_file, link);

        for (size_t i = 0; i < f->n; i++)
            attr_put(&b, AT_KEY_ID, slice_of(tls_key_id(f->v[i]), 32));
    }
    chan_answer(c, m->id, buf_view(&b), NULL, 0);
    buf_done(&b);
}

static void on_msg(struct chan *c, struct msg *m, void *arg)
{
    struct user *u = arg;
    struct err err;

    if (m->type == KEYS_SIGN) {
        on_sign(u->keys, c, m);
    } else if (m->type == KEYS_HAVE) {
        on_have(u->keys, c, m);
    } else if (m->id != 0) {
        err_temp(&err, "keys does not know %s", proto_name(m->type));
        chan_fail(c, m->id, &err);
    }
}

static void look_idle(struct keys *k)
{
    if (k->on_idle != NULL && list_empty(&k->users))
        k->on_idle(k->on_idle_arg);
}

static void on_close(struct chan *c UNUSED, void *arg)
{
    struct user *u = arg;
    struct keys *k = u->keys;

    list_remove(&u->link);
    chan_free(&u->chan);
    free(u);
    look_idle(k);
}

void keys_on_peer(struct keys *k, int fd)
{
    static const struct chan_ops ops = { .on_msg = on_msg,
                                         .on_close = on_close };
    struct user *u = xcalloc(1, sizeof *u);

    u->keys = k;
    list_push(&k->users, &u->link);
    u->chan = chan_new(fd, &ops, u);
    tell_tickets(k, u->chan);
    if (k->on_idle != NULL)
        chan_bye(u->chan);
}

void keys_drain(struct keys *k, void (*fn)(void *arg), void *arg)
{
    k->on_idle = fn;
    k->on_idle_arg = arg;
    list_each(it, &k->users)
        chan_bye(CONTAINER_OF(it, struct user, link)->chan);
    look_idle(k);
}

void keys_dump(const struct keys *k, struct buf *out)
{
    (void)buf_printf(out,
                     "keys: %" PRIu64 " signatures, %" PRIu64
                     " refused, %zu ticket keys\n",
                     k->n_signed, k->n_refused, k->n_tickets);
    list_each(it, &k->files) {
        const struct key_file *f = CONTAINER_OF(it, struct key_file, link);

        for (size_t i = 0; i < f->n; i++)
            (void)buf_printf(out, "key %s: %s, %d bits%s\n", f->path,
                             tls_key_type(f->v[i]), tls_key_bits(f->v[i]),
                             f->is_named ? "" : " (not named any more)");
    }
}
