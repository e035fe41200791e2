/* The smallest command line. */
#include "ipc/proto.h"
#include "master/master.h"

static const struct {
    const char *word;
    uint16_t what;
} words[] = {
    { "stop", CTL_STOP },   { "reload", CTL_RELOAD },
    { "abort", CTL_ABORT }, { "status", CTL_STATUS },
    { "flush", CTL_FLUSH }, { "reopen", CTL_REOPEN },
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: hato [-c DIR] start|start-fg|stop|reload|"
                          "abort|status|flush|reopen\n");
    return 64;
}

static int ask(const char *dir, uint16_t what)
{
    struct conf_diags diags;
    struct conf *c = NULL;
    struct buf text;
    struct err err;
    int rc;

    conf_diags_init(&diags);
    buf_init(&text, 16 << 20);
    rc = conf_load(conf_dir_default(dir), CONF_MAIN_ONLY, &c, &diags, &err);
    if (rc == 0)
        rc = master_ask(c, what, SLICE_NONE, &text, NULL, &err);
    (void)fwrite(text.p, 1, text.n, stdout);
    if (rc < 0 && text.n == 0)
        (void)fprintf(stderr, "hato: fatal: %s\n", err.log);
    buf_done(&text);
    conf_diags_done(&diags);
    conf_unref(&c);
    return rc < 0 ? 1 : 0;
}

int master_command(int argc, char **argv)
{
    struct master_options o = { 0 };
    int at = 1;

    if (argc > 2 && strcmp(argv[1], "-c") == 0) {
        o.conf_dir = argv[2];
        at = 3;
    }
    if (argc != at + 1)
        return usage();
    o.is_foreground = strcmp(argv[at], "start-fg") == 0;
    if (o.is_foreground || strcmp(argv[at], "start") == 0)
        return master_start(&o);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(argv[at], words[i].word) == 0)
            return ask(o.conf_dir, words[i].what);
    return usage();
}
