#include "table/table_priv.h"

#include "base/codec.h"
#include "ipc/event.h"
#include "rt/file.h"

#include <fcntl.h>

/* The set of a process: which tables there are, and where their data come
 * from. */

static const struct table_ops table_ops_built[] = {
    { .type = "hash", .kind = TABLE_BUILT },
    { .type = "btree", .kind = TABLE_BUILT },
    { .type = "dbm", .kind = TABLE_BUILT },
    { .type = "lmdb", .kind = TABLE_BUILT },
    { .type = "cdb", .kind = TABLE_BUILT },
};

static const struct table_ops *const all_ops[] = {
    &table_ops_texthash,    &table_ops_inline,    &table_ops_static,
    &table_ops_fail,        &table_ops_environ,   &table_ops_randmap,
    &table_ops_unionmap,    &table_ops_pipemap,   &table_ops_regexp,
    &table_ops_pcre,        &table_ops_cidr,      &table_ops_unix,
    &table_ops_passwd_file, &table_ops_socketmap, &table_ops_tcp,
};

/* Types of Postfix 3.7 that need what Hato has not yet. */
static const char *const not_yet[] = {
    "ldap",    "mysql",   "pgsql", "sqlite", "memcache", "nis",
    "nisplus", "netinfo", "sdbm",  "proxy",  "debug",
};

const struct table_ops *table_ops_of(slice type)
{
    for (size_t i = 0; i < ARRAY_LEN(table_ops_built); i++) {
        if (slice_eqs(type, table_ops_built[i].type))
            return &table_ops_built[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(all_ops); i++) {
        if (slice_eqs(type, all_ops[i]->type))
            return all_ops[i];
    }
    return NULL;
}

enum table_kind table_kind(slice type)
{
    const struct table_ops *ops = table_ops_of(type);

    if (ops != NULL)
        return ops->kind;
    for (size_t i = 0; i < ARRAY_LEN(not_yet); i++) {
        if (slice_eqs(type, not_yet[i]))
            return TABLE_NOT_YET;
    }
    return TABLE_UNKNOWN;
}

bool table_is_served_file(slice type)
{
    return slice_eqs(type, "passwd-file");
}

bool table_canonical(slice spec, slice *type, slice *name, slice *whole)
{
    slice rest = slice_trim(spec);
    ssize_t colon;

    while (slice_starts(rest, SL("proxy:")) || slice_starts(rest, SL("debug:")))
        rest = slice_trim(slice_from(rest, 6));
    colon = slice_chr(rest, ':');
    if (colon <= 0)
        return false;
    *type = slice_sub(rest, 0, (size_t)colon);
    *name = slice_from(rest, (size_t)colon + 1);
    *whole = rest;
    return true;
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by TABLE_DEPTH */
static void each_leaf(slice spec, unsigned depth, table_leaf_fn *fn, void *ctx)
{
    slice type;
    slice name;
    slice whole;
    slice item;

    if (!table_canonical(spec, &type, &name, &whole))
        return;
    if (!slice_eqs(type, "unionmap") && !slice_eqs(type, "pipemap")) {
        fn(ctx, type, name, whole);
        return;
    }
    if (depth == TABLE_DEPTH)
        return;
    name = conf_list_unbrace(slice_trim(name));
    while (conf_list_next(&name, &item))
        each_leaf(conf_list_unbrace(item), depth + 1, fn, ctx);
}

void table_each_leaf(slice spec, table_leaf_fn *fn, void *ctx)
{
    each_leaf(spec, 0, fn, ctx);
}

struct tables *tables_new(void)
{
    struct tables *t = xcalloc(1, sizeof(*t));

    t->magic = TABLES_MAGIC;
    map_init(&t->by_name, false);
    map_init(&t->cache, false);
    list_init(&t->cache_order);
    return t;
}

static void data_free(struct table *e)
{
    if (e->data == NULL)
        return;
    if (e->ops->kind == TABLE_BUILT)
        built_unload(e->data);
    else if (e->ops->free != NULL)
        e->ops->free(e->data);
    e->data = NULL;
}

void tables_free(struct tables **tp)
{
    struct tables *t = *tp;
    struct map_node *n;
    size_t pos = 0;

    if (t == NULL)
        return;
    CHECK_OBJ(t, TABLES_MAGIC);
    while ((n = map_next(&t->by_name, &pos, NULL)) != NULL) {
        struct table *e = CONTAINER_OF(n, struct table, node);

        map_del(&t->by_name, n);
        data_free(e);
        free(e->whole);
        free(e);
    }
    map_done(&t->by_name);
    cache_clear(t);
    map_done(&t->cache);
    free(t->data_dir);
    t->magic = 0;
    free(t);
    *tp = NULL;
}

void tables_set_server(struct tables *t, struct link *server)
{
    t->server = server;
}

void tables_set_direct(struct tables *t, const char *data_dir)
{
    t->is_direct = true;
    free(t->data_dir);
    t->data_dir = data_dir != NULL ? xstrdup(data_dir) : NULL;
}

void tables_on_warning(struct tables *t,
                       void (*fn)(void *ctx, const char *text), void *ctx)
{
    t->warn = fn;
    t->warn_ctx = ctx;
}

void table_warn(struct table *t, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (t->set->warn != NULL)
        t->set->warn(t->set->warn_ctx, text);
    else
        log_warning("%s", text);
}

static int unknown_type(slice type, slice whole, struct err *err)
{
    if (table_kind(type) == TABLE_NOT_YET)
        return err_perm(err,
                        "%.*s: lookup tables of type %.*s are not done yet",
                        SLF(whole), SLF(type));
    return err_perm(err, "unsupported dictionary type: %.*s (in %.*s)",
                    SLF(type), SLF(whole));
}

/* TABLE_CONF types have their data in the name; a fault there is final. */
static void conf_open(struct table *e)
{
    struct err err;

    if (e->ops->load == NULL) {
        e->is_fixed = e->ops->is_fixed;
        return;
    }
    if (e->ops->load(e, e->name, &e->data, &err) < 0)
        (void)snprintf(e->trouble, sizeof(e->trouble), "%s", err.log);
}

int tables_entry(struct tables *t, slice spec, unsigned depth,
                 struct table **out, struct err *err)
{
    const struct table_ops *ops;
    slice type;
    slice name;
    slice whole;
    struct map_node *n;
    struct table *e = NULL;

    if (!table_canonical(spec, &type, &name, &whole))
        return err_perm(err, "need type:name, not \"%.*s\"", SLF(spec));
    n = map_get(&t->by_name, whole);
    if (n != NULL) {
        *out = CONTAINER_OF(n, struct table, node);
        return 0;
    }
    ops = table_ops_of(type);
    if (ops == NULL)
        return unknown_type(type, whole, err);
    if (depth > TABLE_DEPTH)
        return err_perm(err, "%.*s: nested too deep", SLF(whole));
    e = xcalloc(1, sizeof(*e));
    e->set = t;
    e->owner = (uid_t)-1;
    e->ops = ops;
    e->whole = slice_xstrdup(whole);
    e->depth = depth;
    e->is_fixed = ops->kind == TABLE_BUILT || ops->is_fixed;
    whole = slice_str(e->whole);
    (void)table_canonical(whole, &e->type, &e->name, &whole);
    map_put(&t->by_name, &e->node, whole);
    if (ops->kind == TABLE_CONF)
        conf_open(e);
    *out = e;
    return 0;
}

void tables_set_alias_format(struct tables *t, slice whole)
{
    struct table *e = NULL;

    if (tables_entry(t, whole, 0, &e, NULL) == 0 && e != NULL)
        e->is_alias_format = true;
}

/* ------------------------------------------------------------------ *
 * Data from a descriptor
 */

static int load_source(struct table *e, int fd, void **out, struct err *err)
{
    struct buf text CLEANUP(buf_done);

    buf_init(&text, TABLE_SOURCE_MAX);
    if (file_read_fd(fd, &text, err) < 0)
        return err_prefix(err, "%s", e->whole);
    return e->ops->load(e, buf_view(&text), out, err);
}

static int load_fd(struct table *e, int fd, int64_t mtime, struct err *err)
{
    void *data = NULL;
    int rc;

    if (e->ops->kind == TABLE_BUILT)
        rc = built_load(e, fd, &data, err);
    else if (e->ops->kind == TABLE_SOURCE || table_is_served_file(e->type))
        rc = load_source(e, fd, &data, err);
    else
        return err_perm(err, "%s: this type takes no data", e->whole);
    if (rc < 0)
        return -1;
    data_free(e);
    e->data = data;
    e->mtime = mtime;
    e->trouble[0] = '\0';
    return 0;
}

int tables_give(struct tables *t, slice name, int fd, int64_t mtime,
                struct err *err)
{
    struct err local;
    struct table *e = NULL;
    int rc;

    CHECK_OBJ(t, TABLES_MAGIC);
    if (err == NULL)
        err = &local;
    rc = tables_entry(t, name, 0, &e, err);
    if (rc == 0 && e != NULL) {
        rc = load_fd(e, fd, mtime, err);
        if (rc < 0 && e->data == NULL)
            (void)snprintf(e->trouble, sizeof(e->trouble), "%s", err->log);
    }
    close_fd(&fd);
    return rc;
}

void tables_set_owner(struct tables *t, slice name, uid_t owner)
{
    struct table *e = NULL;

    CHECK_OBJ(t, TABLES_MAGIC);
    if (tables_entry(t, name, 0, &e, NULL) == 0 && e != NULL)
        e->owner = owner;
}

/* ------------------------------------------------------------------ *
 * Direct mode: open files where they lie
 */

static int open_built(struct table *e, const struct stat *source,
                      struct err *err)
{
    enum table_format format =
        e->is_alias_format ? TABLE_POSTALIAS : TABLE_POSTMAP;
    char file[TABLE_FILE_NAME];
    char *path CLEANUP(free_ptr) = NULL;
    int fd CLEANUP(close_fd) = -1;

    if (e->set->data_dir == NULL)
        return -1;
    table_built_name(e->name, format, file);
    path = xasprintf("%s/tables/%s", e->set->data_dir, file);
    fd = file_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || (source != NULL && !table_built_is_fresh(fd, source)))
        return -1;
    return load_fd(e, fd, 0, err);
}

/* No built file: read the source itself, by building into memory. */
static int open_unbuilt(struct table *e, int source_fd, struct err *err)
{
    char *name CLEANUP(free_ptr) = slice_xstrdup(e->name);
    struct table_build b = {
        .source_fd = source_fd,
        .source_name = name,
        .format = e->is_alias_format ? TABLE_POSTALIAS : TABLE_POSTMAP,
        .warn = e->set->warn,
        .warn_ctx = e->set->warn_ctx,
    };
    int fd CLEANUP(close_fd) = built_memfd(err);

    if (fd < 0 || table_build(&b, fd, NULL, err) < 0)
        return -1;
    return load_fd(e, fd, 0, err);
}

static int open_direct(struct table *e, struct err *err)
{
    char *path CLEANUP(free_ptr) = slice_xstrdup(e->name);
    int fd CLEANUP(close_fd) = -1;
    struct stat st;

    fd = file_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &st) < 0) {
        if (e->ops->kind == TABLE_BUILT && open_built(e, NULL, err) == 0)
            return 0;
        return err_sys(err, "open %s", e->whole);
    }
    if (!S_ISREG(st.st_mode))
        return err_temp(err, "open %s: not a regular file", e->whole);
    if (e->ops->kind == TABLE_BUILT)
        return open_built(e, &st, err) == 0 ? 0 : open_unbuilt(e, fd, err);
    return load_fd(e, fd, st.st_mtime, err);
}

static bool needs_data(const struct table *e)
{
    return e->ops->kind == TABLE_BUILT || e->ops->kind == TABLE_SOURCE ||
           (table_is_served_file(e->type) && e->set->is_direct);
}

/* Data are there, or ERR_TEMP with the reason (invariant 1). */
static int table_ready(struct table *e, struct err *err)
{
    struct err why;

    if (e->data != NULL)
        return 0;
    if (e->trouble[0] != '\0')
        return err_temp(err, "%s", e->trouble);
    if (!needs_data(e))
        return 0;
    if (!e->set->is_direct)
        return err_temp(err, "table %s is not available", e->whole);
    if (open_direct(e, &why) == 0)
        return 0;
    (void)snprintf(e->trouble, sizeof(e->trouble), "%s", why.log);
    return err_temp(err, "%s", e->trouble);
}

int table_ask(struct table *t, slice key, unsigned flags, struct arena *a,
              slice *value, struct err *err)
{
    bool folds = t->ops->kind == TABLE_BUILT || t->ops->folds;

    /* Postfix's keys are C strings: one with NUL is in no table. */
    if (key.n == 0 || memchr(key.p, 0, key.n) != NULL) {
        *value = SLICE_NONE;
        return 0;
    }
    if (table_ready(t, err) < 0)
        return -1;
    if (folds && (flags & TABLE_NO_FOLD) == 0) {
        key = table_fold(a, key);
        if (key.p == NULL)
            return err_temp(err, "%s: no memory for the key", t->whole);
    }
    if (t->ops->kind == TABLE_BUILT)
        return built_lookup(t, key, flags, a, value, err);
    return t->ops->lookup(t, key, flags, a, value, err);
}

/* NOLINTNEXTLINE(readability-function-size): a lookup has seven facts */
int table_lookup(struct tables *t, slice spec, slice key, unsigned flags,
                 struct arena *a, slice *value, struct err *err)
{
    struct table *e = NULL;

    CHECK_OBJ(t, TABLES_MAGIC);
    if (tables_entry(t, spec, 0, &e, err) < 0)
        return -1;
    CHECK(e != NULL);
    return table_ask(e, key, flags, a, value, err);
}

int table_each(struct tables *t, slice spec, table_each_fn *fn, void *ctx,
               struct err *err)
{
    struct table *e = NULL;

    if (tables_entry(t, spec, 0, &e, err) < 0)
        return -1;
    CHECK(e != NULL);
    if (table_ready(e, err) < 0)
        return -1;
    if (e->ops->kind == TABLE_BUILT)
        return built_each(e, fn, ctx, err);
    if (e->ops->each == NULL)
        return err_perm(err,
                        "dictionary type %s does not support sequence "
                        "operations",
                        e->ops->type);
    return e->ops->each(e, fn, ctx, err);
}

void tables_dump(struct tables *t, struct buf *out)
{
    struct map_node *n = NULL;
    size_t pos = 0;

    CHECK_OBJ(t, TABLES_MAGIC);
    while ((n = map_next(&t->by_name, &pos, n)) != NULL) {
        const struct table *e = CONTAINER_OF(n, struct table, node);

        buf_printf(out, "table %s: %s\n", e->whole,
                   e->trouble[0] != '\0' ? e->trouble
                   : e->data != NULL     ? "loaded"
                                         : "no data");
    }
}
