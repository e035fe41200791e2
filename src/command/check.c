#include "command/command.h"

#include "base/map.h"
#include "conf/conf.h"
#include "keys/keys.h"
#include "table/table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>

/*
 * hato check [--coverage]: everything that is wrong with the configuration and
 * in the tables that it names, with file, line and cure.  0: it would start.
 */

struct checking {
    struct conf_diags *diags;
    const struct conf_table_ref *ref;
    bool is_set; /* now those that stand in a file, then those of defaults */
    struct map seen; /* of struct seen: tables that were read */
    struct arena *arena;
};

struct seen {
    struct map_node node;
};

static bool is_first(struct checking *k, slice whole)
{
    struct seen *s;

    if (map_get(&k->seen, whole) != NULL)
        return false;
    s = ARENA_NEW(k->arena, struct seen);
    if (s != NULL)
        map_put(&k->seen, &s->node, slice_dup(k->arena, whole));
    return true;
}

/* A table complains of a line; its text says which. */
static void on_warning(void *ctx, const char *text)
{
    struct checking *k = ctx;

    conf_diags_add(k->diags, CONF_WARNING, NULL, 0, "", "%s", text);
}

static void unusable(struct checking *k, slice whole, const char *why)
{
    const struct conf_table_ref *ref = k->ref;

    /* A default that names what is not there harms nobody's start. */
    conf_diags_add(k->diags, ref->line > 0 ? CONF_ERROR : CONF_WARNING,
                   ref->line > 0 ? ref->file : NULL, ref->line,
                   "make the file, or take its name out", "%s: %.*s: %s",
                   ref->param, SLF(whole), why);
}

/* Index it as master would, but into memory. */
static void try_build(struct checking *k, slice whole, const char *path,
                      int source_fd)
{
    struct table_build b = { .source_fd = source_fd,
                             .source_name = path,
                             .format = table_format_of(k->ref->param),
                             .warn = on_warning,
                             .warn_ctx = k };
    int out CLEANUP(close_fd) = memfd_create("index", MFD_CLOEXEC);
    struct err err;
    size_t n;

    if (out < 0)
        unusable(k, whole, strerror(errno));
    else if (table_build(&b, out, &n, &err) < 0)
        unusable(k, whole, err.log);
}

/* One question makes a table read its source. */
MAY_WAIT static void try_lookup(struct checking *k, slice whole)
{
    struct tables *t = tables_new();
    struct arena *a = arena_new(1u << 20);
    struct err err;
    slice value;

    tables_set_direct(t, NULL);
    tables_on_warning(t, on_warning, k);
    if (table_lookup(t, whole, SL("postmaster"), 0, a, &value, &err) < 0)
        unusable(k, whole, err.log);
    arena_free(&a);
    tables_free(&t);
}

MAY_WAIT static void check_leaf(void *ctx, slice type, slice name, slice whole)
{
    struct checking *k = ctx;
    enum table_kind kind = table_kind(type);
    char *path CLEANUP(free_ptr) = slice_xstrdup(name);
    int fd CLEANUP(close_fd) = -1;
    struct stat st;

    if (path[0] != '/' || !is_first(k, whole) ||
        (kind != TABLE_BUILT && kind != TABLE_SOURCE &&
         !table_is_served_file(type)))
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        unusable(k, whole, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        unusable(k, whole, "not a file");
    else if (kind == TABLE_BUILT)
        try_build(k, whole, path, fd);
    else
        try_lookup(k, whole);
}

MAY_WAIT static void check_ref(void *ctx, const struct conf_table_ref *ref)
{
    struct checking *k = ctx;
    const struct conf_param *p = conf_param_find(slice_str(ref->param));
    char *spec CLEANUP(free_ptr) = NULL;

    /* What nobody reads may be missing. */
    if ((ref->line > 0) != k->is_set ||
        (p != NULL && p->state != CONF_HONOURED) ||
        strcmp(ref->param, "alias_database") == 0)
        return;
    spec = xasprintf("%.*s:%.*s", SLF(ref->type), SLF(ref->name));
    k->ref = ref;
    table_each_leaf(slice_str(spec), check_leaf, k);
}

/* Patterns of networks: a slip in one would match nobody. */
static void check_lists(struct checking *k, const struct conf *conf)
{
    struct tables *t = tables_new();
    struct table_match *match;
    struct err err;

    for (size_t i = 0; i < conf_param_count(); i++) {
        const struct conf_param *p = conf_param_at(i);
        const char *file;
        int line;

        if (p->type != CONF_T_MATCH || p->state != CONF_HONOURED ||
            !conf_is_set(conf, NULL, p->name))
            continue;
        if (table_match_new(t, conf, NULL, p->name, &match, &err) == 0) {
            table_match_free(&match);
            continue;
        }
        conf_where(conf, NULL, p->name, &file, &line);
        conf_diags_add(k->diags, CONF_ERROR, file, line, "", "%s", err.log);
    }
    tables_free(&t);
}

MAY_WAIT static bool check_tables(const struct conf *conf,
                                  struct conf_diags *diags)
{
    struct checking k = { .diags = diags, .arena = arena_new(4u << 20) };

    map_init(&k.seen, false);
    k.is_set = true;
    conf_each_table(conf, check_ref, &k);
    k.is_set = false;
    conf_each_table(conf, check_ref, &k);
    check_lists(&k, conf);
    map_done(&k.seen);
    arena_free(&k.arena);
    return diags->n_errors == 0;
}

static int coverage(void)
{
    struct buf out;

    buf_init(&out, 4u << 20);
    conf_coverage_print(&out);
    (void)command_print(&out, stdout);
    buf_done(&out);
    return 0;
}

MAY_WAIT int command_check(int argc, char **argv)
{
    struct conf_diags diags;
    struct conf *conf;
    struct err err;
    struct buf out;
    bool ok;

    if (argc > 1 && strcmp(argv[1], "--coverage") == 0)
        return coverage();
    if (argc > 1) {
        (void)fputs("usage: hato [-c DIR] check [--coverage]\n", stderr);
        return EX_USAGE;
    }
    conf_diags_init(&diags);
    if (conf_load(conf_dir_default(NULL), 0, &conf, &diags, &err) < 0)
        command_die(EX_CONFIG, "%s", err.log);
    (void)conf_check(conf, true, &diags);
    keys_check(conf, &diags);
    ok = check_tables(conf, &diags);
    buf_init(&out, 4u << 20);
    conf_diags_print(&diags, &out);
    (void)command_print(&out, stderr);
    if (ok)
        (void)printf("%s: %zu warning%s, no errors\n", conf_dir(conf),
                     diags.n_warnings, diags.n_warnings == 1 ? "" : "s");
    buf_done(&out);
    conf_diags_done(&diags);
    conf_unref(&conf);
    return ok ? 0 : EX_CONFIG;
}
