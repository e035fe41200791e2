#include "command/command.h"

#include "conf/conf.h"
#include "queue/queue.h"
#include "rt/file.h"

#include <fcntl.h>
#include <sysexits.h>

/* postconf(1): show and edit main.cf; -d -n -x -h -H -f, -M, -P, -e, -#, -X,
 * -m (table types), -b and -t (texts of reports). */

static int print(const struct conf *conf, char mode, unsigned flags,
                 const char *what)
{
    struct buf out;
    struct err err;
    int r;

    buf_init(&out, 16u << 20);
    if (mode == 'M')
        r = conf_print_services(conf, what, flags, &out, &err);
    else if (mode == 'P')
        r = conf_print_overrides(conf, what, flags, &out, &err);
    else
        r = conf_print(conf, what, flags, &out, &err);
    if (r < 0)
        command_warn("warning: %s", err.log);
    else
        command_print(&out, stdout);
    buf_done(&out);
    return r < 0 ? 1 : 0;
}

static void edit(const char *dir, char mode, char *arg)
{
    enum conf_edit how = mode == '#'   ? CONF_EDIT_COMMENT_OUT
                         : mode == 'X' ? CONF_EDIT_REMOVE
                                       : CONF_EDIT_SET;
    slice value = slice_str(arg);
    slice name = value;
    struct err err;

    if (how == CONF_EDIT_SET && !slice_cut(&value, '=', &name))
        command_die(EX_USAGE, "missing '=' after attribute name: \"%s\"", arg);
    if (conf_edit_file(dir, how, slice_trim(name), slice_trim(value), &err) < 0)
        command_die(EX_IOERR, "%s", err.log);
}

static void print_types(void)
{
    static const char *const types[] = {
        "btree",    "cdb",      "cidr",   "dbm",         "environ", "fail",
        "hash",     "inline",   "lmdb",   "passwd-file", "pcre",    "pipemap",
        "proxy",    "randmap",  "regexp", "socketmap",   "static",  "tcp",
        "texthash", "unionmap", "unix",
    };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        puts(types[i]);
}

/* The texts of reports: as templates, or expanded; of `path`, else of
 * bounce_template_file. */
static int print_templates(const char *path, bool is_expanded)
{
    struct conf *conf = command_conf(NULL, 0);
    struct buf in, out;
    struct err err;
    int rc = 0;

    if (path == NULL)
        path = conf_str(conf, NULL, "bounce_template_file");
    buf_init(&in, 1u << 20);
    buf_init(&out, 4u << 20);
    if (*path != '\0')
        rc = file_read(AT_FDCWD, path, &in, &err);
    if (rc == 0)
        rc = queue_show_templates(conf, buf_view(&in), is_expanded, &out, &err);
    if (rc == 0)
        command_print(&out, stdout);
    else
        command_warn("fatal: bounce_template_file %s: %s", path, err.log);
    buf_done(&in);
    buf_done(&out);
    conf_unref(&conf);
    return rc == 0 ? 0 : 1;
}

/* The last option that says what to do; 0: print parameters. */
static char options(int argc, char **argv, unsigned *out)
{
    unsigned flags = 0;
    char mode = 0;
    int c;

    optind = 1;
    while ((c = getopt(argc, argv, "#MPXbc:defhHmnopqtvx")) != -1) {
        switch (c) {
        case 'c':
            (void)setenv("MAIL_CONFIG", optarg, 1);
            break;
        case 'd':
            flags |= CONF_PRINT_DEFAULTS;
            break;
        case 'n':
            flags |= CONF_PRINT_CHANGED;
            break;
        case 'x':
            flags |= CONF_PRINT_EXPANDED;
            break;
        case 'h':
            flags |= CONF_PRINT_NO_NAME;
            break;
        case 'H':
            flags |= CONF_PRINT_NO_VALUE;
            break;
        case 'f':
            flags |= CONF_PRINT_FOLD;
            break;
        case '#':
        case 'M':
        case 'P':
        case 'X':
        case 'b':
        case 'e':
        case 'm':
        case 't':
            mode = (char)c;
            break;
        case '?':
            command_die(EX_USAGE, "usage: postconf [-c config_dir] [-dfhHnx] "
                                  "[-M|-P] [name ...] | -e name=value ... | "
                                  "-# name ... | -X name ... | -m | "
                                  "-b|-t [template_file]");
        default:
            break;
        }
    }
    *out = flags;
    return mode;
}

int command_postconf(int argc, char **argv)
{
    unsigned flags = 0;
    char mode = options(argc, argv, &flags);
    struct conf *conf;
    int status = 0;

    if (mode == 'm') {
        print_types();
        return 0;
    }
    if (mode == 'b' || mode == 't')
        return print_templates(optind < argc ? argv[optind] : NULL,
                               mode == 'b');
    for (int i = optind; i < argc; i++)
        if (mode == 0 && strchr(argv[i], '=') != NULL)
            mode = 'e'; /* as Postfix since 2.8: name=value edits */
    if (mode == 'e' || mode == '#' || mode == 'X') {
        for (int i = optind; i < argc; i++)
            edit(conf_dir_default(NULL), mode, argv[i]);
        return 0;
    }
    conf = command_conf(NULL, 0);
    if (optind >= argc)
        status = print(conf, mode, flags, NULL);
    for (int i = optind; i < argc; i++)
        status |= print(conf, mode, flags, argv[i]);
    conf_unref(&conf);
    return status;
}
