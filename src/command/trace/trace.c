/* hato trace [--json] [-n N] [-f FILE]... ID|ADDRESS|MESSAGE-ID */
#include "command/command.h"
#include "command/trace/trace_priv.h"
#include "conf/conf.h"

#include <sysexits.h>

#define MATCHES_DEFAULT 100

struct options {
    bool is_json;
    size_t max_matches;
    const char *key;
    struct trace_files files;
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: hato trace [--json] [-n NUMBER] [-f FILE]... "
                          "QUEUE-ID|ADDRESS|@DOMAIN|MESSAGE-ID\n");
    return EX_USAGE;
}

static bool parse(int argc, char **argv, struct options *o)
{
    uint64_t n;

    for (int i = 1; i < argc; i++) {
        slice word = slice_str(argv[i]);
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (slice_eqs(word, "--json")) {
            o->is_json = true;
        } else if (slice_eqs(word, "-f") && value != NULL) {
            trace_files_add(&o->files, value);
            i++;
        } else if (slice_eqs(word, "-n") && value != NULL &&
                   slice_u64(slice_str(value), &n) && n > 0) {
            o->max_matches = (size_t)(n < TRACE_MESSAGES ? n : TRACE_MESSAGES);
            i++;
        } else if (word.n > 0 && word.p[0] != '-' && o->key == NULL) {
            o->key = argv[i];
        } else {
            return false;
        }
    }
    return o->key != NULL;
}

/* Where the log is: maillog_file, or syslog's usual place. */
static void find_log(struct options *o)
{
    struct conf *conf;
    const char *path;

    if (o->files.n > 0)
        return;
    conf = command_conf(NULL, CONF_MAIN_ONLY);
    path = conf_str(conf, NULL, "maillog_file");
    if (path[0] == '/' && strncmp(path, "/dev/", 5) != 0)
        trace_files_find(&o->files, path);
    else if (access("/var/log/mail.log", R_OK) == 0)
        trace_files_find(&o->files, "/var/log/mail.log");
    else if (access("/var/log/maillog", R_OK) == 0)
        trace_files_find(&o->files, "/var/log/maillog");
    else
        command_die(EX_NOINPUT, "maillog_file is not set: name the file that "
                                "syslog writes (-f FILE)");
    conf_unref(&conf);
}

int command_trace(int argc, char **argv)
{
    static struct options o = { .max_matches = MATCHES_DEFAULT };
    struct trace t;
    struct err err;
    bool is_found;

    if (!parse(argc, argv, &o))
        return usage();
    find_log(&o);
    trace_init(&t, slice_str(o.key), o.max_matches);
    if (trace_follow(&t, &o.files, &err) < 0)
        command_die(EX_NOINPUT, "%s", err.log);
    if (o.is_json)
        trace_print_json(&t);
    else
        trace_print(&t);
    command_flush();
    if (t.n_dropped > 0)
        command_warn("%zu older messages are not shown; -n shows more",
                     t.n_dropped);
    if (t.is_full)
        command_warn("not all is shown: there is too much of it");
    is_found = !list_empty(&t.order) || t.n_loose > 0;
    trace_done(&t);
    trace_files_done(&o.files);
    if (!is_found)
        command_warn("nothing of %s is in the log", o.key);
    return is_found ? 0 : 1;
}
