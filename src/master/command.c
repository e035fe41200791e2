/* The smallest command line. */
#include "ipc/ipc.h"
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
                          "abort|flush|status|check|reopen\n"
                          "       hato dns NAME [TYPE] | metrics\n"
                          "       hato trace [--json] KEY\n"
                          "       hato who [USER] | kick USER [ADDRESS]\n"
                          "       hato queue [FILTER ...] [--json | --shape] "
                          "[ACTION]\n"
                          "       hato init DIR [--domain DOMAIN] [--user "
                          "NAME]\n"
                          "       hato mailbox list|status|check|rebuild USER "
                          "[MAILBOX]\n");
    return 64;
}

/* PROCESS, or mailbox, command or spool UID GID. */
static void put_probe(struct buf *b, int argc, char **argv)
{
    static const char *const numbers[] = { "1000", "1000" };
    bool is_worker =
        strcmp(argv[0], "command") == 0 || strcmp(argv[0], "spool") == 0;

    attr_put_u64(b, AT_PTYPE,
                 (uint64_t)(is_worker ? PT_MAILBOX
                                      : ptype_of(slice_str(argv[0]))));
    attr_put_str(b, AT_KIND, argv[0]);
    for (int i = 0; i < 2; i++) {
        uint64_t n = 0;

        (void)slice_u64(slice_str(i + 1 < argc ? argv[i + 1] : numbers[i]), &n);
        attr_put_u64(b, i == 0 ? AT_UID : AT_GID, n);
    }
}

static int ask(const char *dir, uint16_t what, slice body)
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
        rc = master_ask(c, what, body, &text, NULL, &err);
    if (text.n > 0)
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
    if (argc >= at + 2 && strcmp(argv[at], "probe") == 0) {
        struct buf body;
        int rc;

        buf_init(&body, 256);
        put_probe(&body, argc - at - 1, argv + at + 1);
        rc = ask(o.conf_dir, CTL_PROBE, buf_view(&body));
        buf_done(&body);
        return rc;
    }
    if (argc != at + 1)
        return usage();
    o.is_foreground = strcmp(argv[at], "start-fg") == 0;
    if (o.is_foreground || strcmp(argv[at], "start") == 0)
        return master_start(&o);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(argv[at], words[i].word) == 0)
            return ask(o.conf_dir, words[i].what, SLICE_NONE);
    return usage();
}
