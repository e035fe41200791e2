/*
 * libunbound, as this process alone has it loaded.
 *
 * A context has a thread of its own that asks, caches and validates; answers
 * come through a pipe that the loop watches.  Everything that a context reads
 * it is given as text before the sandbox; later its thread needs sockets only.
 */
#include "dns/dns_priv.h"

#include "rt/rt.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unbound.h>

struct dns_engine {
    struct ub_ctx *ctx;
    struct fd_watch *watch;
    struct list calls;
};

struct dns_call {
    struct list link;
    int id;
    dns_engine_fn *fn;
    void *arg;
};

static struct {
    bool is_loaded;
    struct ub_ctx *(*create)(void);
    void (*delete)(struct ub_ctx *);
    int (*config)(struct ub_ctx *, const char *);
    int (*add_ta)(struct ub_ctx *, const char *);
    int (*async)(struct ub_ctx *, int);
    int (*data_remove)(struct ub_ctx *, const char *);
    int (*fd)(struct ub_ctx *);
    int (*process)(struct ub_ctx *);
    int (*resolve_async)(struct ub_ctx *, const char *, int, int, void *,
                         ub_callback_type, int *);
    int (*cancel)(struct ub_ctx *, int);
    void (*resolve_free)(struct ub_result *);
    const char *(*strerror)(int);
} ub;

int dns_engine_load(struct err *err)
{
    const struct {
        const char *name;
        void *at;
    } functions[] = {
        { "ub_ctx_create", &ub.create },
        { "ub_ctx_delete", &ub.delete },
        { "ub_ctx_config", &ub.config },
        { "ub_ctx_add_ta", &ub.add_ta },
        { "ub_ctx_async", &ub.async },
        { "ub_ctx_data_remove", &ub.data_remove },
        { "ub_fd", &ub.fd },
        { "ub_process", &ub.process },
        { "ub_resolve_async", &ub.resolve_async },
        { "ub_cancel", &ub.cancel },
        { "ub_resolve_free", &ub.resolve_free },
        { "ub_strerror", &ub.strerror },
    };

    void *so;

    if (ub.is_loaded)
        return 0;
    so = dlopen("libunbound.so.8", RTLD_NOW | RTLD_LOCAL);
    if (so == NULL)
        so = dlopen("libunbound.so", RTLD_NOW | RTLD_LOCAL);
    if (so == NULL)
        return err_perm(err,
                        "libunbound cannot be loaded (Debian: "
                        "libunbound8): %s",
                        dlerror());
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(so, functions[i].name);

        if (f == NULL)
            return err_perm(err, "libunbound has no %s", functions[i].name);
        memcpy(functions[i].at, &f, sizeof f);
    }
    ub.is_loaded = true;
    return 0;
}

/* ---- the configuration: libunbound takes much of it from a file only, so it
 * gets one, in memory */

static void put_options(const struct dns_settings *s, bool is_validating,
                        struct buf *b)
{
    /* Hundreds of questions at once, not the 16 of a small program; a server
     * that was down is asked again soon, as mail waits for it; why an answer is
     * bogus goes to the log. */
    (void)buf_puts(b, "server:\n outgoing-range: 1024\n"
                      " num-queries-per-thread: 2048\n"
                      " outgoing-num-tcp: 64\n"
                      " infra-host-ttl: 60\n"
                      " infra-keep-probing: yes\n"
                      " cache-max-negative-ttl: 3600\n"
                      " val-log-level: 2\n use-syslog: no\n logfile: \"\"\n");
    /* Messages take about half of what records take. */
    (void)buf_printf(b, " msg-cache-size: %" PRIu64 "\n", s->cache_bytes / 3);
    (void)buf_printf(b, " rrset-cache-size: %" PRIu64 "\n",
                     s->cache_bytes / 3 * 2);
    (void)buf_printf(b, " module-config: \"%siterator\"\n",
                     is_validating ? "validator " : "");
    if (s->has_local)
        (void)buf_puts(b, " do-not-query-localhost: no\n");
    for (size_t i = 0; i < s->n_insecure; i++)
        (void)buf_printf(b, " domain-insecure: \"%s\"\n", s->insecure[i]);
}

#define NIL_8       "0.0.0.0.0.0.0.0."
#define LOCALHOST_6 "1.0.0.0.0.0.0.0." NIL_8 NIL_8 NIL_8 "ip6.arpa."

static void put_zones(struct buf *b, const char *const *zones, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(b, " local-zone: \"%s\" nodefault\n", zones[i]);
}

/* Zones that libunbound would answer itself, with "no such name".  Who has
 * servers of his own may have such zones there: a private network's reverse
 * names, .test.  (RFC 6761 6.2 and 6.3 mean resolvers that ask the root.)  Our
 * own addresses are asked for only where a parameter names the servers. */
static void put_unblocked(const struct dns_settings *s, struct buf *b)
{
    static const char *const zones[] = { "test.", "invalid.", "home.arpa.",
                                         "onion." };
    static const char *const ours[] = { "127.in-addr.arpa.", LOCALHOST_6 };

    (void)buf_puts(b, " unblock-lan-zones: yes\n insecure-lan-zones: yes\n");
    put_zones(b, zones, ARRAY_LEN(zones));
    if (!s->is_system)
        put_zones(b, ours, ARRAY_LEN(ours));
}

static void put_forwards(const struct dns_settings *s, struct buf *b)
{
    for (size_t i = 0; i < s->n_forwards; i++) {
        const char *zone = s->forwards[i].zone;
        bool is_first = true;

        for (size_t k = 0; k < i; k++)
            is_first &= strcmp(s->forwards[k].zone, zone) != 0;
        if (!is_first)
            continue;
        (void)buf_printf(b, "forward-zone:\n name: \"%s\"\n", zone);
        for (size_t k = i; k < s->n_forwards; k++)
            if (strcmp(s->forwards[k].zone, zone) == 0)
                (void)buf_printf(b, " forward-addr: %s\n", s->forwards[k].addr);
    }
}

static int write_config(const struct dns_settings *s, bool is_validating,
                        int fd, struct err *err)
{
    struct buf b;
    bool is_written;

    buf_init(&b, 65536);
    put_options(s, is_validating, &b);
    if (s->n_forwards > 0)
        put_unblocked(s, &b);
    put_forwards(s, &b);
    is_written = !b.overflow && write(fd, b.p, b.n) == (ssize_t)b.n;
    buf_done(&b);
    return is_written ? 0 : err_sys(err, "the resolver's configuration");
}

static int configure(struct dns_engine *e, const struct dns_settings *s,
                     bool is_validating, struct err *err)
{
    int fd CLEANUP(close_fd) = memfd_create("unbound", MFD_CLOEXEC);
    char path[40];
    int rc;

    if (fd < 0)
        return err_sys(err, "memfd_create");
    if (write_config(s, is_validating, fd, err) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    rc = ub.config(e->ctx, path);
    return rc == 0 ? 0
                   : err_perm(err,
                              "libunbound refuses the resolver's "
                              "configuration: %s",
                              ub.strerror(rc));
}

/* A line for each record; the file's comments and blank lines are passed over.
 */
static int add_anchors(struct dns_engine *e, const char *text, struct err *err)
{
    slice rest = slice_str(text), line, record_text;
    size_t n = 0;

    while (rest.n > 0) {
        char *record CLEANUP(free_ptr) = NULL;
        int rc;

        (void)slice_cut(&rest, '\n', &line);
        (void)slice_cut(&line, ';', &record_text);
        line = slice_trim(record_text);
        if (line.n == 0)
            continue;
        record = slice_xstrdup(line);
        rc = ub.add_ta(e->ctx, record);
        if (rc != 0)
            return err_perm(err, "resolver_trust_anchor_file: %s",
                            ub.strerror(rc));
        n++;
    }
    return n > 0 ? 0
                 : err_perm(err, "resolver_trust_anchor_file: no DS or DNSKEY");
}

static void on_readable(void *arg, int events UNUSED)
{
    struct dns_engine *e = arg;

    (void)ub.process(e->ctx);
}

static int prepare(struct dns_engine *e, const struct dns_settings *s,
                   bool is_validating, struct err *err)
{
    int rc;

    if (configure(e, s, is_validating, err) < 0)
        return -1;
    if (is_validating && add_anchors(e, s->anchors, err) < 0)
        return -1;
    rc = ub.async(e->ctx, 1);
    /* Any change of local data makes the configuration final: what is wrong
     * with it shows now, and what it allocates is there. */
    if (rc == 0)
        rc = ub.data_remove(e->ctx, "never.invalid.");
    return rc == 0 ? 0
                   : err_perm(err,
                              "libunbound refuses the resolver's "
                              "configuration: %s",
                              ub.strerror(rc));
}

int dns_engine_new(const struct dns_settings *s, bool is_validating,
                   struct dns_engine **out, struct err *err)
{
    struct dns_engine *e = xcalloc(1, sizeof *e);

    list_init(&e->calls);
    e->ctx = ub.create();
    if (e->ctx == NULL) {
        free(e);
        return err_temp(err, "libunbound: no context");
    }
    if (prepare(e, s, is_validating, err) < 0) {
        dns_engine_free(&e);
        return -1;
    }
    e->watch = fd_watch_new(ub.fd(e->ctx), WATCH_READ, on_readable, e);
    *out = e;
    return 0;
}

void dns_engine_free(struct dns_engine **ep)
{
    struct dns_engine *e = *ep;

    *ep = NULL;
    if (e == NULL)
        return;
    fd_watch_free(&e->watch);
    ub.delete(e->ctx);
    for (struct list *it = list_pop(&e->calls); it != NULL;
         it = list_pop(&e->calls))
        free(CONTAINER_OF(it, struct dns_call, link));
    free(e);
}

/* ---- questions */

static enum dns_result result_of(const struct ub_result *u)
{
    if (u->bogus)
        return DNS_FAIL;
    if (u->havedata)
        return DNS_OK;
    if (u->nxdomain)
        return DNS_NXDOMAIN;
    return u->rcode == 0 ? DNS_NODATA : DNS_FAIL;
}

static const char *why_of(const struct ub_result *u)
{
    static const char *const names[] = { "",         "FORMERR", "SERVFAIL",
                                         "NXDOMAIN", "NOTIMP",  "REFUSED" };

    if (u->bogus)
        return u->why_bogus != NULL ? u->why_bogus : "validation failure";
    if (u->nxdomain || u->rcode == 0)
        return "";
    return u->rcode > 0 && u->rcode < (int)ARRAY_LEN(names) ? names[u->rcode]
                                                            : "SERVFAIL";
}

static void on_result(void *arg, int error, struct ub_result *u)
{
    struct dns_call *c = arg;
    struct dns_engine_result r = { .result = DNS_FAIL, .why = "" };

    list_remove(&c->link);
    if (error != 0 || u == NULL) {
        r.why = ub.strerror(error);
    } else {
        r.result = result_of(u);
        r.is_bogus = u->bogus;
        r.is_secure = u->secure && !u->bogus;
        r.canonical = u->canonname;
        r.why = why_of(u);
        r.ttl = u->ttl > 0 ? (uint32_t)u->ttl : 0;
        r.data = u->data;
        r.len = u->len;
        while (r.result == DNS_OK && u->data[r.n_data] != NULL &&
               r.n_data < DNS_MAX_RECORDS)
            r.n_data++;
    }
    c->fn(c->arg, &r);
    if (u != NULL)
        ub.resolve_free(u);
    free(c);
}

struct dns_call *dns_engine_ask(struct dns_engine *e, const char *name,
                                int type, dns_engine_fn *fn, void *arg,
                                struct err *err)
{
    struct dns_call *c = xcalloc(1, sizeof *c);
    int rc;

    c->fn = fn;
    c->arg = arg;
    list_push(&e->calls, &c->link);
    rc = ub.resolve_async(e->ctx, name, type, 1, c, on_result, &c->id);
    if (rc == 0)
        return c;
    list_remove(&c->link);
    free(c);
    (void)err_temp(err, "libunbound: %s", ub.strerror(rc));
    return NULL;
}

void dns_engine_cancel(struct dns_engine *e, struct dns_call *c)
{
    (void)ub.cancel(e->ctx, c->id);
    list_remove(&c->link);
    free(c);
}
