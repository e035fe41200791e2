/*
 * For test_peer.py: what this room makes of a configuration directory.
 *
 * peer_dump DIR check          diagnostics of loading and checking
 * peer_dump DIR values NAME..  "value\n" each, expanded; "error: text" when a
 *                              value does not expand
 * peer_dump DIR changed        as postconf -n
 * peer_dump DIR services       as postconf -M
 * peer_dump DIR defaults       as postconf -d
 */
#include "conf/conf.h"

static void put_values(const struct conf *c, char **names, struct buf *out)
{
    for (; *names != NULL; names++) {
        struct buf value;
        struct err err;

        buf_init(&value, 1 << 20);
        if (conf_expand(c, NULL, slice_str(conf_raw(c, NULL, *names)), &value,
                        &err) < 0)
            buf_printf(out, "error: %s\n", err.log);
        else
            buf_printf(out, "%s\n", conf_str(c, NULL, *names));
        buf_done(&value);
    }
}

static int run(const struct conf *c, char **argv, struct buf *out,
               struct err *err)
{
    const char *verb = argv[2];

    if (strcmp(verb, "values") == 0)
        put_values(c, argv + 3, out);
    else if (strcmp(verb, "changed") == 0)
        return conf_print(c, NULL, CONF_PRINT_CHANGED, out, err);
    else if (strcmp(verb, "services") == 0)
        return conf_print_services(c, NULL, 0, out, err);
    else if (strcmp(verb, "defaults") == 0)
        return conf_print(c, NULL, CONF_PRINT_DEFAULTS, out, err);
    return 0;
}

int main(int argc, char **argv)
{
    struct conf_diags d;
    struct conf *c = NULL;
    struct buf out;
    struct err err;
    int rc;

    if (argc < 3)
        return 2;
    conf_diags_init(&d);
    buf_init(&out, 4 << 20);
    rc = conf_load(argv[1], 0, &c, &d, &err);
    if (rc == 0 && strcmp(argv[2], "check") == 0) {
        conf_check(c, true, &d);
        conf_diags_print(&d, &out);
    } else if (rc == 0) {
        rc = run(c, argv, &out, &err);
    }
    if (rc < 0)
        buf_printf(&out, "error: %s\n", err.log);
    (void)fputs(buf_cstr(&out), stdout);
    buf_done(&out);
    conf_diags_done(&d);
    conf_unref(&c);
    return rc == 0 ? 0 : 1;
}
