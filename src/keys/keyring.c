/* The keyring of a process that speaks TLS. */
#include "keys/keys_priv.h"

#include "rt/rt.h"

#define SIGN_MS 10000
#define HAVE_MS 10000
/* The other half of a pair may still be on its way. */
#define PATIENCE_MS 3000

/* A certificate file: what it holds now, and the last text that could be used.
 */
struct cert_file {
    struct list link;
    char *path;
    struct buf fresh;
    struct buf good;
    bool is_given;      /* `fresh` has come; it may be empty */
    bool is_complained; /* of `fresh` */
};

/* An entry of a map of names. */
struct name_entry {
    struct list link;
    char *name; /* lower case */
    char *files;
};

struct name_map {
    struct list link;
    char *path;
    struct list entries;
    size_t n;
};

/* A context that was made: for a service line, and perhaps a name of SNI. */
struct ring_context {
    struct list link;
    struct keyring *ring;
    const struct conf_service *service;
    char alpn[16];
    char *name_files;        /* of an SNI entry; NULL: the service's own */
    bool is_client, is_lmtp; /* of keyring_client_context() */
    struct tls_settings base;
    struct tls_context *context; /* NULL: none can be made */
    bool is_stale;
};

struct keyring {
    struct process *process;
    struct link *link; /* NULL: nobody wants TLS */
    struct list files;
    struct list maps;
    struct list contexts;
    uint8_t (*have)[32];
    size_t n_have;
    bool is_known; /* the answer to KEYS_HAVE has come once */
    struct tls_ticket_key tickets[TLS_TICKET_KEYS_MAX];
    size_t n_tickets;
    struct waitq known;
    struct timer patience;
    bool is_freed;
    unsigned n_asking;
};

/* ---- what can be used */

static bool have_key(const struct keyring *r, const uint8_t id[static 32])
{
    for (size_t i = 0; i < r->n_have; i++)
        if (memcmp(r->have[i], id, 32) == 0)
            return true;
    return false;
}

static bool is_usable(const struct keyring *r, slice text)
{
    uint8_t id[32];
    struct err err;

    return text.n > 0 && tls_cert_key_id(text, id, &err) == 0 &&
           have_key(r, id);
}

static void mark_stale(struct keyring *r)
{
    list_each(it, &r->contexts)
        CONTAINER_OF(it, struct ring_context, link)->is_stale = true;
}

static void complain(struct cert_file *f)
{
    uint8_t id[32];
    struct err err;
    const char *then = f->good.n > 0 ? "; the one before stays in use" : "";

    if (f->is_complained)
        return;
    f->is_complained = true;
    if (tls_cert_key_id(buf_view(&f->fresh), id, &err) < 0)
        log_warning("certificate file %s cannot be used: %s%s", f->path,
                    err.log, then);
    else
        log_warning("no private key that was given fits the certificate in "
                    "%s%s",
                    f->path, then);
}

/* Which of the files are named as a pair's certificate, not as authorities. */
static void patience_over(struct timer *t)
{
    struct keyring *r = CONTAINER_OF(t, struct keyring, patience);

    list_each(it, &r->files) {
        struct cert_file *f = CONTAINER_OF(it, struct cert_file, link);

        if (f->is_given && !is_usable(r, buf_view(&f->fresh)) && f->good.n > 0)
            complain(f);
    }
}

/* The text of a file that works; `fresh` if it does. */
static slice usable_text(struct keyring *r, struct cert_file *f)
{
    if (is_usable(r, buf_view(&f->fresh))) {
        buf_clear(&f->good);
        (void)buf_slice(&f->good, buf_view(&f->fresh));
        f->is_complained = false;
        return buf_view(&f->good);
    }
    if (is_usable(r, buf_view(&f->good)))
        return buf_view(&f->good);
    return SLICE_NONE;
}

static struct cert_file *find_file(struct keyring *r, slice path, bool add)
{
    struct cert_file *f;

    list_each(it, &r->files) {
        f = CONTAINER_OF(it, struct cert_file, link);
        if (slice_eqs(path, f->path))
            return f;
    }
    if (!add)
        return NULL;
    f = xcalloc(1, sizeof *f);
    f->path = slice_xstrdup(path);
    buf_init(&f->fresh, KEYS_FILE_MAX);
    buf_init(&f->good, KEYS_FILE_MAX);
    list_push(&r->files, &f->link);
    return f;
}

/* ---- maps of names */

static void drop_entries(struct name_map *m)
{
    struct list *it;

    while ((it = list_pop(&m->entries)) != NULL) {
        struct name_entry *e = CONTAINER_OF(it, struct name_entry, link);

        free(e->name);
        free(e->files);
        free(e);
    }
    m->n = 0;
}

static void add_entry(void *arg, slice name, slice files)
{
    struct name_map *m = arg;
    struct name_entry *e;

    if (m->n == KEYS_NAMES_MAX)
        return;
    m->n++;
    e = xcalloc(1, sizeof *e);
    e->name = slice_xstrdup(name);
    for (char *p = e->name; *p != '\0'; p++)
        *p = ascii_lower(*p);
    e->files = slice_xstrdup(files);
    list_push(&m->entries, &e->link);
}

static struct name_map *find_map(struct keyring *r, slice path)
{
    list_each(it, &r->maps) {
        struct name_map *m = CONTAINER_OF(it, struct name_map, link);

        if (slice_eqs(path, m->path))
            return m;
    }
    return NULL;
}

static void take_map(struct keyring *r, slice path, slice text)
{
    struct name_map *m = find_map(r, path);

    if (m == NULL) {
        m = xcalloc(1, sizeof *m);
        m->path = slice_xstrdup(path);
        list_init(&m->entries);
        list_push(&r->maps, &m->link);
    }
    drop_entries(m);
    keys_map_each(text, add_entry, m);
}

/* A search for one name in one map. */
struct search {
    struct keyring *ring;
    const char *name;
    char *files; /* found */
};

static void match_entry(void *arg, slice name, slice files)
{
    struct search *s = arg;

    if (s->files == NULL && slice_ieqs(name, s->name))
        s->files = slice_xstrdup(files);
}

static void search_map(void *arg, slice path, slice inside)
{
    struct search *s = arg;
    const struct name_map *m;

    if (path.n == 0) {
        keys_inline_each(inside, match_entry, s);
        return;
    }
    m = find_map(s->ring, path);
    if (m == NULL)
        return;
    list_each(it, &m->entries) {
        const struct name_entry *e = CONTAINER_OF(it, struct name_entry, link);

        match_entry(s, slice_str(e->name), slice_str(e->files));
    }
}

/* As Postfix: the name, then ".parent" for each domain above it.  The caller
 * frees. */
static char *files_of_name(struct keyring *r, const struct conf_service *s,
                           slice name)
{
    char *text CLEANUP(free_ptr) = slice_xstrdup(name);
    struct search search = { .ring = r, .name = text };
    const char *dot;

    for (char *p = text; *p != '\0'; p++)
        *p = ascii_lower(*p);
    keys_each_map(r->process->conf, s, search_map, &search);
    for (dot = strchr(text, '.'); search.files == NULL && dot != NULL;
         dot = strchr(dot + 1, '.')) {
        search.name = dot;
        keys_each_map(r->process->conf, s, search_map, &search);
    }
    return search.files;
}

/* ---- signatures */

MAY_WAIT static int sign(void *arg, const uint8_t id[static 32],
                         uint16_t scheme, slice tbs, struct buf *out,
                         struct err *err)
{
    struct keyring *r = arg;
    struct buf b;
    struct msg answer;
    slice signature = SLICE_NONE;
    int rc;

    if (!task_inside())
        return err_temp(err, "a signature was wanted outside a handshake");
    buf_init(&b, 65536);
    attr_put(&b, AT_KEY_ID, slice_of(id, 32));
    attr_put_u64(&b, AT_SCHEME, scheme);
    attr_put(&b, AT_CONTENT, tbs);
    rc = link_call(r->link, KEYS_SIGN, buf_view(&b), NULL, 0,
                   clock_after(SIGN_MS), &answer, err);
    buf_done(&b);
    if (rc < 0)
        return err_prefix(err, "keys");
    if (!attr_find(answer.body, AT_SIGNATURE, &signature) ||
        !buf_slice(out, signature))
        rc = err_temp(err, "keys: an answer without a signature");
    msg_free(&answer);
    return rc;
}

/* ---- contexts */

static struct tls_context *context_of(struct keyring *r,
                                      const struct conf_service *s,
                                      const char *alpn, const char *name_files);

static struct tls_context *by_name(void *arg, slice name)
{
    struct ring_context *c = arg;
    char *files CLEANUP(free_ptr) = files_of_name(c->ring, c->service, name);

    if (files == NULL)
        return NULL;
    return context_of(c->ring, c->service, c->alpn, files);
}

static int make_context(struct keyring *r, struct ring_context *c,
                        struct tls_context **out, struct err *err)
{
    const struct conf *conf = r->process->conf;
    struct tls_settings set = { .sign = sign, .sign_arg = r };
    struct tls_cert certs[KEYS_SET_MAX];
    struct keys_set files = { .n = 0 };
    struct cert_file *ca;
    struct arena *a = arena_new(1u << 18);
    int rc;

    if (c->is_client) {
        set = c->base;
        set.sign = sign;
        set.sign_arg = r;
        set.is_client = true;
    }
    if (c->name_files != NULL)
        keys_set_add_chains(&files, slice_str(c->name_files));
    else if (c->is_client)
        keys_client_set_of(conf, c->service, c->is_lmtp, &files);
    else
        keys_set_of(conf, c->service, &files);
    set.certs = certs;
    for (size_t i = 0; i < files.n; i++) {
        struct cert_file *f = find_file(r, files.v[i].cert, false);
        slice text = f != NULL ? usable_text(r, f) : SLICE_NONE;

        if (text.n > 0)
            certs[set.n_certs++].chain = text;
        else if (f != NULL)
            complain(f);
    }
    ca = c->is_client
             ? NULL
             : find_file(r, conf_slice(conf, c->service, "smtpd_tls_CAfile"),
                         false);
    if (ca != NULL)
        set.ca = buf_view(&ca->fresh);
    set.alpn = c->alpn[0] != '\0' ? c->alpn : NULL;
    if (c->name_files == NULL && !c->is_client) {
        set.by_name = by_name;
        set.by_name_arg = c;
    }
    if (set.n_certs == 0)
        rc = err_temp(err, "no certificate can be used");
    else if (c->is_client)
        rc = 0;
    else
        rc = keys_settings(conf, c->service, a, &set, err);
    if (rc == 0)
        rc = tls_context_new(&set, out, err);
    arena_free(&a);
    return rc;
}

static const char *name_of(const struct ring_context *c)
{
    if (c->service != NULL)
        return c->service->name;
    return c->is_lmtp ? "lmtp" : "smtp";
}

static void refresh(struct keyring *r, struct ring_context *c)
{
    struct tls_context *made = NULL;
    struct err err;

    c->is_stale = false;
    if (make_context(r, c, &made, &err) < 0) {
        log_warning("TLS of service %s: %s%s", name_of(c), err.log,
                    c->context != NULL ? "; what was there stays in use" : "");
        return;
    }
    tls_context_unref(&c->context);
    c->context = made;
}

static struct tls_context *context_of(struct keyring *r,
                                      const struct conf_service *s,
                                      const char *alpn, const char *name_files)
{
    struct ring_context *c;

    list_each(it, &r->contexts) {
        c = CONTAINER_OF(it, struct ring_context, link);
        if (c->service == s && !c->is_client && strcmp(c->alpn, alpn) == 0 &&
            (c->name_files == NULL
                 ? name_files == NULL
                 : name_files != NULL &&
                       strcmp(c->name_files, name_files) == 0)) {
            if (c->is_stale && r->is_known)
                refresh(r, c);
            return c->context;
        }
    }
    if (!r->is_known)
        return NULL;
    c = xcalloc(1, sizeof *c);
    c->ring = r;
    c->service = s;
    (void)snprintf(c->alpn, sizeof c->alpn, "%s", alpn);
    if (name_files != NULL)
        c->name_files = xstrdup(name_files);
    list_push(&r->contexts, &c->link);
    refresh(r, c);
    return c->context;
}

struct tls_context *keyring_context(struct keyring *r,
                                    const struct conf_service *service,
                                    const char *alpn)
{
    if (r->link == NULL || service == NULL)
        return NULL;
    return context_of(r, service, alpn != NULL ? alpn : "", NULL);
}

struct tls_context *keyring_client_context(struct keyring *r,
                                           const struct conf_service *line,
                                           bool is_lmtp,
                                           const struct tls_settings *base)
{
    struct ring_context *c;
    struct keys_set set;

    keys_client_set_of(r->process->conf, line, is_lmtp, &set);
    if (r->link == NULL || set.n == 0 || !r->is_known)
        return NULL;
    list_each(it, &r->contexts) {
        c = CONTAINER_OF(it, struct ring_context, link);
        if (!c->is_client || c->service != line || c->is_lmtp != is_lmtp)
            continue;
        if (c->is_stale)
            refresh(r, c);
        return c->context;
    }
    c = xcalloc(1, sizeof *c);
    c->ring = r;
    c->service = line;
    c->is_client = true;
    c->is_lmtp = is_lmtp;
    c->base = *base;
    list_push(&r->contexts, &c->link);
    refresh(r, c);
    return c->context;
}

/* ---- news */

void keyring_on_fd(struct keyring *r, slice name, int fd)
{
    int owned CLEANUP(close_fd) = fd;
    slice path = slice_from(name, 5);
    struct cert_file *f;
    struct buf text;
    struct err err;

    if (!slice_starts(name, SL("cert:")) && !slice_starts(name, SL("map:")))
        return;
    buf_init(&text, KEYS_FILE_MAX);
    if (keys_read_fd(owned, &text, &err) < 0) {
        log_warning("%.*s: %s", SLF(name), err.log);
    } else if (slice_starts(name, SL("map:"))) {
        take_map(r, slice_from(name, 4), buf_view(&text));
    } else {
        f = find_file(r, path, true);
        (void)usable_text(r, f); /* keeps the old as `good` */
        buf_clear(&f->fresh);
        (void)buf_slice(&f->fresh, buf_view(&text));
        f->is_given = true;
        f->is_complained = false;
        timer_set(&r->patience, clock_after(PATIENCE_MS), patience_over);
    }
    buf_done(&text);
    mark_stale(r);
}

static void take_have(struct keyring *r, slice body)
{
    struct attr at;
    size_t n = 0;

    free(r->have);
    r->have = xcalloc(KEYS_IDS_MAX, sizeof *r->have);
    while (n < KEYS_IDS_MAX && attr_next(&body, &at) == 1)
        if (at.tag == AT_KEY_ID && at.v.n == 32)
            memcpy(r->have[n++], at.v.p, 32);
    r->n_have = n;
    r->is_known = true;
    waitq_wake_all(&r->known);
    mark_stale(r);
}

static void end_asking(struct keyring *r)
{
    r->n_asking--;
    if (r->is_freed && r->n_asking == 0)
        free(r);
}

MAY_WAIT static void ask_have(void *arg)
{
    struct keyring *r = arg;
    struct msg answer;
    struct err err;

    if (!r->is_freed && link_call(r->link, KEYS_HAVE, SLICE_NONE, NULL, 0,
                                  clock_after(HAVE_MS), &answer, &err) == 0) {
        if (!r->is_freed)
            take_have(r, answer.body);
        msg_free(&answer);
    }
    end_asking(r);
}

static void ask(struct keyring *r)
{
    r->n_asking++;
    (void)task_spawn("keys-have", ask_have, r);
}

static bool knows_ticket(const struct tls_ticket_key *v, size_t n,
                         const uint8_t name[static 16])
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(v[i].name, name, 16) == 0)
            return true;
    return false;
}

/* The new ones, and as many of the old as there is room for: a new `keys`
 * process has others, and tickets of the old ones are about. */
static void take_tickets(struct keyring *r, slice body)
{
    struct tls_ticket_key v[TLS_TICKET_KEYS_MAX];
    struct attr at;
    size_t n = 0;
    slice name = SLICE_NONE;

    while (n < TLS_TICKET_KEYS_MAX && attr_next(&body, &at) == 1) {
        if (at.tag == AT_NAME)
            name = at.v;
        if (at.tag != AT_CONTENT || at.v.n != 64 || name.n != 16)
            continue;
        memcpy(v[n].name, name.p, 16);
        memcpy(v[n].aes, at.v.p, 32);
        memcpy(v[n].hmac, at.v.p + 32, 32);
        n++;
    }
    if (n == 0)
        return;
    for (size_t i = 0; i < r->n_tickets && n < TLS_TICKET_KEYS_MAX; i++)
        if (!knows_ticket(v, n, r->tickets[i].name))
            v[n++] = r->tickets[i];
    memcpy(r->tickets, v, n * sizeof v[0]);
    r->n_tickets = n;
    tls_ticket_keys(r->tickets, n);
    explicit_bzero(v, sizeof v);
}

static void on_msg(struct chan *c UNUSED, struct msg *m, void *arg)
{
    struct keyring *r = arg;

    if (m->type == KEYS_TICKETS)
        take_tickets(r, m->body);
    else if (m->type == KEYS_CHANGED)
        ask(r);
}

static void on_up(struct link *l UNUSED, void *arg)
{
    ask(arg);
}

struct keyring *keyring_new(struct process *p)
{
    static const struct chan_ops ops = { .on_msg = on_msg };
    struct keyring *r = xcalloc(1, sizeof *r);

    r->process = p;
    list_init(&r->files);
    list_init(&r->maps);
    list_init(&r->contexts);
    waitq_init(&r->known);
    if (keys_wanted(p->conf)) {
        tls_init(); /* before the sandbox */
        r->link = link_new(p, PT_KEYS, &ops, r, on_up);
    }
    return r;
}

void keyring_wait(struct keyring *r, msec deadline)
{
    struct err err;

    while (r->link != NULL && !r->is_known)
        if (waitq_wait(&r->known, deadline, &err) < 0) {
            log_warning("the process keys does not answer; TLS waits for it");
            return;
        }
}

static void free_contexts(struct keyring *r)
{
    struct list *it;

    while ((it = list_pop(&r->contexts)) != NULL) {
        struct ring_context *c = CONTAINER_OF(it, struct ring_context, link);

        tls_context_unref(&c->context);
        free(c->name_files);
        free(c);
    }
}

void keyring_free(struct keyring **rp)
{
    struct keyring *r = *rp;
    struct list *it;

    *rp = NULL;
    if (r == NULL)
        return;
    free_contexts(r);
    while ((it = list_pop(&r->files)) != NULL) {
        struct cert_file *f = CONTAINER_OF(it, struct cert_file, link);

        buf_done(&f->fresh);
        buf_done(&f->good);
        free(f->path);
        free(f);
    }
    while ((it = list_pop(&r->maps)) != NULL) {
        struct name_map *m = CONTAINER_OF(it, struct name_map, link);

        drop_entries(m);
        free(m->path);
        free(m);
    }
    timer_cancel(&r->patience);
    if (r->link != NULL)
        link_free(&r->link);
    free(r->have);
    r->have = NULL;
    r->is_freed = true;
    if (r->n_asking == 0)
        free(r);
}

void keyring_dump(const struct keyring *r, struct buf *out)
{
    if (r->link == NULL)
        return;
    (void)buf_printf(out, "keyring: %zu keys known, %zu ticket keys\n",
                     r->n_have, r->n_tickets);
    list_each(it, &r->contexts) {
        const struct ring_context *c =
            CONTAINER_OF(it, struct ring_context, link);

        (void)buf_printf(out, "tls %s%s%s: %s\n", name_of(c),
                         c->name_files != NULL ? " name of " : "",
                         c->name_files != NULL ? c->name_files : "",
                         c->context != NULL ? "ready" : "no certificate");
    }
}
