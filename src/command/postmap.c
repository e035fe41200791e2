#include "command/command.h"

#include "conf/conf.h"
#include "rt/file.h"
#include "table/table.h"

#include <fcntl.h>
#include <sysexits.h>

/*
 * postmap(1) and postalias(1).  Hato indexes a table by itself when its source
 * is newer; building by hand checks the source and is done in
 * $data_directory/tables.  -q and -s ask, as the daemons would.
 */

struct options {
    const char *query;
    bool list;
    bool no_fold;
    bool dup_last;
    bool dup_first;
    enum table_format format;
};

static void usage(void)
{
    command_die(EX_USAGE,
                "usage: %s [-c config_dir] [-fNrsvw] [-q key] "
                "[type:]file ...",
                command_name);
}

/* ---- asking */

MAY_WAIT static bool ask(const struct options *o, struct tables *t, slice spec,
                         slice key)
{
    struct arena *a = arena_new(8u << 20);
    struct err err;
    slice value;
    bool found;

    if (table_lookup(t, spec, key, o->no_fold ? TABLE_NO_FOLD : 0, a, &value,
                     &err) < 0)
        command_die(EX_TEMPFAIL, "table %.*s: %s", SLF(spec), err.log);
    found = value.p != NULL;
    if (found && o->query[0] == '-' && o->query[1] == '\0')
        printf("%.*s\t%.*s\n", SLF(key), SLF(value));
    else if (found)
        printf("%.*s\n", SLF(value));
    arena_free(&a);
    return found;
}

MAY_WAIT static bool ask_stdin(const struct options *o, struct tables *t,
                               slice spec)
{
    static char line[8192];
    bool found = false;

    while (fgets(line, sizeof line, stdin) != NULL) {
        slice key = slice_str(line);

        if (key.n > 0 && key.p[key.n - 1] == '\n')
            key.n--;
        found = ask(o, t, spec, key) || found;
    }
    return found;
}

static int print_one(void *ctx, slice key, slice value, struct err *err)
{
    const struct options *o = ctx;

    (void)err;
    printf(o->format == TABLE_POSTALIAS ? "%.*s:\t%.*s\n" : "%.*s\t%.*s\n",
           SLF(key), SLF(value));
    return 0;
}

/* ---- building */

static void warn(void *ctx, const char *text)
{
    (void)ctx;
    command_warn("warning: %s", text);
}

static void build(const struct options *o, const struct conf *conf, slice path)
{
    struct table_build b = { .source_fd = -1,
                             .format = o->format,
                             .warn = warn,
                             .no_fold = o->no_fold,
                             .dup_is_ok = o->dup_last,
                             .dup_is_first = o->dup_first };
    char *name = slice_xstrdup(path);
    char *dir = xasprintf("%s/tables", conf_str(conf, NULL, "data_directory"));
    char file[TABLE_FILE_NAME];
    struct err err;
    int dirfd;

    b.source_name = name;
    b.source_fd = open(name, O_RDONLY | O_CLOEXEC);
    if (b.source_fd < 0)
        command_die(EX_NOINPUT, "open %s: %s", name, strerror(errno));
    if (file_mkdirs(dir, 0755, &err) < 0)
        command_die(EX_CANTCREAT, "%s", err.log);
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        command_die(EX_CANTCREAT, "open %s: %s", dir, strerror(errno));
    table_built_name(path, o->format, file);
    if (table_build_file(&b, dirfd, file, 0644, &err) < 0)
        command_die(EX_IOERR, "%s: %s", name, err.log);
    close(dirfd);
    close(b.source_fd);
    free(dir);
    free(name);
}

/* ---- */

struct asking {
    const struct options *o;
    const struct conf *conf;
    slice spec;
    bool found;
};

/* In a task: some tables are servers on a socket. */
MAY_WAIT static void ask_task(void *arg)
{
    struct asking *q = arg;
    const struct options *o = q->o;
    struct tables *t = tables_new();
    struct options copy = *o;
    struct err err;

    q->found = true;
    tables_set_direct(t, conf_str(q->conf, NULL, "data_directory"));
    tables_on_warning(t, warn, NULL);
    if (o->format == TABLE_POSTALIAS)
        tables_set_alias_format(t, q->spec);
    if (o->list) {
        if (table_each(t, q->spec, print_one, &copy, &err) < 0)
            command_die(EX_TEMPFAIL, "%s", err.log);
    } else if (strcmp(o->query, "-") == 0) {
        q->found = ask_stdin(o, t, q->spec);
    } else {
        q->found = ask(o, t, q->spec, slice_str(o->query));
    }
    tables_free(&t);
}

static bool one(const struct options *o, const struct conf *conf,
                const char *arg)
{
    struct asking q = { .o = o, .conf = conf, .found = true };
    slice type = SLICE_NONE, name = SLICE_NONE;
    char *spec;

    if (conf_split_table(slice_str(arg), &type, &name))
        spec = xstrdup(arg);
    else
        spec = xasprintf("%s:%s", conf_str(conf, NULL, "default_database_type"),
                         arg);
    (void)conf_split_table(slice_str(spec), &type, &name);
    if (o->query == NULL && !o->list) {
        if (table_kind(type) != TABLE_BUILT)
            command_die(EX_USAGE, "tables of type %.*s are not indexed",
                        SLF(type));
        build(o, conf, name);
    } else {
        q.spec = slice_str(spec);
        command_run_task(ask_task, &q);
    }
    free(spec);
    return q.found;
}

int command_postmap(int argc, char **argv)
{
    struct options o = { 0 };
    struct conf *conf;
    bool found = true;
    int c;

    if (strcmp(command_name, "postalias") == 0)
        o.format = TABLE_POSTALIAS;
    optind = 1;
    while ((c = getopt(argc, argv, "Nbc:d:fhimnopq:rsuUvwF")) != -1) {
        switch (c) {
        case 'c':
            (void)setenv("MAIL_CONFIG", optarg, 1);
            break;
        case 'q':
            o.query = optarg;
            break;
        case 's':
            o.list = true;
            break;
        case 'f':
            o.no_fold = true;
            break;
        case 'r':
            o.dup_last = true;
            break;
        case 'w':
            o.dup_first = true;
            break;
        case 'd':
        case 'i':
            command_die(EX_UNAVAILABLE,
                        "-%c: an index is made from its source alone; change "
                        "the source file",
                        c);
        case '?':
            usage();
            break;
        default:
            break; /* options that say how a database file is made */
        }
    }
    if (optind >= argc)
        usage();
    conf = command_conf(NULL, CONF_MAIN_ONLY);
    for (int i = optind; i < argc; i++)
        found = one(&o, conf, argv[i]) && found;
    conf_unref(&conf);
    return found ? 0 : 1;
}

/* newaliases: index everything that alias_database names. */
int command_newaliases(int argc, char **argv)
{
    struct options o = { .format = TABLE_POSTALIAS };
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    slice list = conf_slice(conf, NULL, "alias_database");
    slice spec;

    (void)argc;
    (void)argv;
    while (conf_list_next(&list, &spec)) {
        char *text = slice_xstrdup(spec);
        slice type, name;

        if (conf_split_table(spec, &type, &name) &&
            table_kind(type) == TABLE_BUILT)
            (void)one(&o, conf, text);
        free(text);
    }
    conf_unref(&conf);
    return 0;
}
