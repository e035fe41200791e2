#include "command/command.h"

#include "conf/conf.h"

#include <sysexits.h>

/*
 * hato check [--coverage]: everything that is wrong with the configuration,
 * with file, line and cure.  0: it would start.
 */
int command_check(int argc, char **argv)
{
    struct conf_diags diags;
    struct conf *conf;
    struct err err;
    struct buf out;
    bool ok;

    buf_init(&out, 4u << 20);
    if (argc > 1 && strcmp(argv[1], "--coverage") == 0) {
        conf_coverage_print(&out);
        fwrite(out.p, 1, out.n, stdout);
        buf_done(&out);
        return 0;
    }
    if (argc > 1) {
        fputs("usage: hato [-c DIR] check [--coverage]\n", stderr);
        return EX_USAGE;
    }
    conf_diags_init(&diags);
    if (conf_load(conf_dir_default(NULL), 0, &conf, &diags, &err) < 0)
        command_die(EX_CONFIG, "%s", err.log);
    ok = conf_check(conf, true, &diags) && diags.n_errors == 0;
    conf_diags_print(&diags, &out);
    fwrite(out.p, 1, out.n, stderr);
    if (ok)
        printf("%s: %zu warnings, no errors\n", conf_dir(conf),
               diags.n_warnings);
    buf_done(&out);
    conf_diags_done(&diags);
    conf_unref(&conf);
    return ok ? 0 : EX_CONFIG;
}
