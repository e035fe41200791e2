#include "command/command.h"

#include "base/buf.h"
#include "conf/conf.h"
#include "ipc/ipc.h"
#include "master/master.h"

#include <sysexits.h>
#include <unistd.h>

/* postlog(1): write a line, or those of standard input, to the mail log. */

#define TEXT_MAX ((size_t)1 << 20)

struct options {
    const char *tag;
    const char *priority;
};

static const char *const priorities[] = { "info",  "warn",  "warning",
                                          "error", "fatal", "panic" };

static bool is_priority(const char *s)
{
    for (size_t i = 0; i < ARRAY_LEN(priorities); i++)
        if (strcmp(priorities[i], s) == 0)
            return true;
    return false;
}

static void read_lines(struct buf *text)
{
    char chunk[1024];
    ssize_t n;

    while ((n = read(0, chunk, sizeof chunk)) > 0)
        if (!buf_put(text, chunk, (size_t)n))
            command_die(EX_DATAERR, "standard input is longer than %zu bytes",
                        TEXT_MAX);
    if (n < 0)
        command_die(EX_IOERR, "read standard input: %s", strerror(errno));
}

static void send_text(const struct options *o, slice text)
{
    struct conf *conf = command_conf(NULL, CONF_MAIN_ONLY);
    struct buf body CLEANUP(buf_done);
    struct err err;

    buf_init(&body, TEXT_MAX + 1024);
    (void)attr_put_str(&body, AT_NAME, o->tag);
    (void)attr_put_str(&body, AT_KIND, o->priority);
    (void)attr_put(&body, AT_TEXT, text);
    if (isatty(2))
        (void)fprintf(stderr, "%s: %.*s\n", o->tag, SLF(slice_rtrim(text)));
    if (master_ask(conf, CTL_LOG, buf_view(&body), NULL, NULL, &err) < 0)
        command_die(EX_UNAVAILABLE, "%s", err.log);
    conf_unref(&conf);
}

int command_postlog(int argc, char **argv)
{
    struct options o = { .tag = "postlog", .priority = "info" };
    struct buf text CLEANUP(buf_done);
    int c;

    optind = 1;
    while ((c = getopt(argc, argv, "c:ip:t:v")) != -1) {
        if (c == 'c')
            (void)setenv("MAIL_CONFIG", optarg, 1);
        else if (c == 'p')
            o.priority = optarg;
        else if (c == 't')
            o.tag = optarg;
        else if (c == '?')
            command_die(EX_USAGE, "usage: postlog [-c config_dir] [-i] "
                                  "[-p priority] [-t tag] [-v] [text]");
    }
    if (!is_priority(o.priority))
        command_die(EX_USAGE, "unknown priority: %s", o.priority);
    buf_init(&text, TEXT_MAX);
    for (int i = optind; i < argc; i++)
        (void)buf_printf(&text, "%s%s", i > optind ? " " : "", argv[i]);
    if (optind >= argc)
        read_lines(&text);
    if (text.overflow)
        command_die(EX_DATAERR, "the text is too long");
    send_text(&o, buf_view(&text));
    return 0;
}
