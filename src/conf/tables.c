/* Table types, and finding every table that the configuration names. */
#include "conf/conf_priv.h"

#include <arpa/inet.h>

#define LATER "this type of table is not there yet"
#define NODNS "it asks over the network, which is not there yet"

static const struct {
    const char *name;
    enum conf_verdict verdict;
    const char *why;
} types[] = {
    { "btree", CONF_OK, "" },
    { "cdb", CONF_OK, "" },
    { "cidr", CONF_OK, "" },
    { "dbm", CONF_OK, "" },
    { "environ", CONF_REFUSE, LATER },
    { "fail", CONF_OK, "" },
    { "hash", CONF_OK, "" },
    { "inline", CONF_OK, "" },
    { "internal", CONF_REFUSE, LATER },
    { "ldap", CONF_REFUSE, NODNS },
    { "lmdb", CONF_OK, "" },
    { "memcache", CONF_REFUSE, NODNS },
    { "mysql", CONF_REFUSE, NODNS },
    { "netinfo", CONF_REFUSE, LATER },
    { "nis", CONF_REFUSE, NODNS },
    { "nisplus", CONF_REFUSE, NODNS },
    { "passwd-file", CONF_OK, "" },
    { "pcre", CONF_OK, "" },
    { "pgsql", CONF_REFUSE, NODNS },
    { "pipemap", CONF_OK, "" },
    { "randmap", CONF_OK, "" },
    { "regexp", CONF_OK, "" },
    { "sdbm", CONF_REFUSE, LATER },
    { "socketmap", CONF_OK, "" },
    { "sqlite", CONF_REFUSE, LATER },
    { "static", CONF_OK, "" },
    { "tcp", CONF_OK, "" },
    { "texthash", CONF_OK, "" },
    { "unionmap", CONF_OK, "" },
    { "unix", CONF_OK, "" },
};

bool conf_table_type_known(slice type)
{
    const char *why;

    (void)conf_table_type_verdict(type, &why);
    return why != NULL;
}

enum conf_verdict conf_table_type_verdict(slice type, const char **why)
{
    *why = NULL;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (slice_eqs(type, types[i].name)) {
            *why = types[i].why;
            return types[i].verdict;
        }
    }
    return CONF_REFUSE;
}

/* Where the tables that are being listed stand. */
struct walk {
    const struct conf *c;
    const struct conf_service *s;
    const char *param;
    const char *file;
    int line;
    conf_table_fn *fn;
    void *ctx;
};

static void walk_words(const struct walk *w, slice list, unsigned depth);

/* NOLINTNEXTLINE(misc-no-recursion): at most CONF_MAX_NESTED deep */
static void walk_file(const struct walk *w, slice path, unsigned depth)
{
    const struct conf_file *f = conf_get_file(w->c, path);

    if (f != NULL && f->trouble == NULL)
        walk_words(w, f->text, depth + 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): at most CONF_MAX_NESTED deep */
static void walk_words(const struct walk *w, slice list, unsigned depth)
{
    slice word;

    while (depth <= CONF_MAX_NESTED && conf_list_next(&list, &word)) {
        struct conf_table_ref ref = { 0 };
        slice inside;

        while (word.n > 0 && word.p[0] == '!')
            word = slice_from(word, 1);
        inside = conf_list_unbrace(word);
        if (conf_split_table(word, &ref.type, &ref.name)) {
            ref.param = w->param;
            ref.service = w->s;
            ref.file = w->file;
            ref.line = w->line;
            w->fn(w->ctx, &ref);
        } else if (inside.n != word.n) {
            walk_words(w, inside, depth + 1);
        } else if (word.n > 0 && word.p[0] == '/') {
            walk_file(w, word, depth);
        }
    }
}

static bool has_tables(const struct conf_param *p)
{
    return p->type == CONF_T_TABLES || p->type == CONF_T_MATCH ||
           p->type == CONF_T_RESTRICTIONS || p->type == CONF_T_LIST;
}

/* One parameter as one service (or none) sees it.  A service counts only
 * when the value differs from main.cf's. */
static void walk_param(struct walk *w, const char *name)
{
    slice value = conf_slice(w->c, w->s, name);

    if (w->s != NULL && slice_eq(value, conf_slice(w->c, NULL, name)))
        return;
    w->param = name;
    conf_where(w->c, w->s, name, &w->file, &w->line);
    if (w->line == 0 && w->s != NULL) {
        w->file = w->s->file;
        w->line = w->s->line;
    }
    walk_words(w, value, 0);
}

static void walk_service(struct walk *w)
{
    slice classes;
    slice class;
    char name[200];

    for (size_t i = 0; i < conf_param_count(); i++)
        if (has_tables(conf_param_at(i)))
            walk_param(w, conf_param_at(i)->name);
    classes = conf_slice(w->c, w->s, "smtpd_restriction_classes");
    while (conf_list_next(&classes, &class))
        if (slice_copy_to(class, name, sizeof(name)))
            walk_param(w, name);
}

void conf_each_table(const struct conf *c, conf_table_fn *fn, void *ctx)
{
    struct walk w = { .c = c, .fn = fn, .ctx = ctx };

    CHECK_OBJ(c, CONF_MAGIC);
    walk_service(&w);
    for (size_t i = 0; i < c->n_services; i++) {
        w.s = &c->services[i];
        if (w.s->n_overrides > 0)
            walk_service(&w);
    }
}

/* "127.0.0.1", "[::1]" or "localhost", then ":port". */
static bool is_numeric_address(slice s)
{
    ssize_t colon = slice_rchr(s, ':');
    slice host;
    uint64_t port;
    unsigned char ip[16];
    char text[64];

    if (colon <= 0 || !slice_u64(slice_from(s, (size_t)colon + 1), &port) ||
        port == 0 || port > 65535)
        return false;
    host = slice_sub(s, 0, (size_t)colon);
    if (slice_eqs(host, "localhost"))
        return true;
    if (slice_starts(host, SL("[")) && slice_ends(host, SL("]")))
        return slice_copy_to(slice_sub(host, 1, host.n - 2), text,
                             sizeof text) &&
               inet_pton(AF_INET6, text, ip) == 1;
    return slice_copy_to(host, text, sizeof text) &&
           inet_pton(AF_INET, text, ip) == 1;
}

/* What is wrong with a table on a socket; NULL: nothing. */
static const char *socket_fault(const struct conf_table_ref *ref)
{
    static const char *const sensitive[] = { "alias_maps",
                                             "alias_database",
                                             "virtual_mailbox_maps",
                                             "virtual_uid_maps",
                                             "virtual_gid_maps",
                                             "userdb",
                                             "passdb" };
    slice name = ref->name;
    ssize_t colon = slice_rchr(name, ':');

    if (slice_eqs(ref->type, "socketmap")) {
        if (slice_starts(name, SL("unix:/")) && colon > 4)
            return NULL;
        if (!slice_starts(name, SL("inet:")) || colon <= 4)
            return "must be inet:host:port:name or unix:path:name";
        name = slice_sub(name, 5, (size_t)colon - 5);
    } else if (slice_eqs(ref->type, "tcp")) {
        for (size_t i = 0; i < ARRAY_LEN(sensitive); i++)
            if (strcmp(ref->param, sensitive[i]) == 0)
                return "tcp tables are not allowed for security-sensitive "
                       "data";
    } else {
        return NULL;
    }
    return is_numeric_address(name)
               ? NULL
               : "the address must be a number (or localhost) and a port: "
                 "names need DNS";
}

static void check_table(void *ctx, const struct conf_table_ref *ref)
{
    struct conf_check *k = ctx;
    const struct conf_param *p = conf_param_find(slice_str(ref->param));
    const char *why;
    enum conf_verdict v = conf_table_type_verdict(ref->type, &why);

    if (v == CONF_OK && ref->line != 0) {
        why = socket_fault(ref);
        v = why != NULL ? CONF_REFUSE : CONF_OK;
    }
    /* A default is always accepted, and what is not looked at yet may name
     * any table. */
    if (v == CONF_OK || ref->line == 0 ||
        (p != NULL && p->state != CONF_HONOURED))
        return;
    conf_diags_add(k->d, v == CONF_WARN ? CONF_WARNING : CONF_ERROR, ref->file,
                   ref->line,
                   "use a hash:, texthash:, inline:, static:, "
                   "regexp:, pcre:, cidr: or unix: table",
                   "%s: %.*s:%.*s: %s", ref->param, SLF(ref->type),
                   (int)min_size(ref->name.n, 100), ref->name.p, why);
}

void conf_check_tables(struct conf_check *k)
{
    conf_each_table(k->c, check_table, k);
}
