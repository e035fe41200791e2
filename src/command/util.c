#include "command/command.h"

#include "conf/conf.h"
#include "rt/rt.h"

#include <pwd.h>
#include <sysexits.h>

const char *command_name = "hato";

void command_warn(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%s: ", command_name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void command_die(int status, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%s: fatal: ", command_name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(status);
}

struct conf *command_conf(const char *dir, unsigned flags)
{
    struct conf_diags diags;
    struct conf *conf;
    struct err err;

    conf_diags_init(&diags);
    if (conf_load(conf_dir_default(dir), flags, &conf, &diags, &err) < 0)
        command_die(EX_CONFIG, "%s", err.log);
    conf_diags_done(&diags);
    return conf;
}

void command_print(const struct buf *b, FILE *to)
{
    if (b->n > 0)
        (void)fwrite(b->p, 1, b->n, to);
}

struct run {
    void (*fn)(void *arg);
    void *arg;
};

static void run_task(void *arg)
{
    struct run *r = arg;

    r->fn(r->arg);
    loop_stop();
}

void command_run_task(void (*fn)(void *arg), void *arg)
{
    struct run r = { fn, arg };

    loop_init(command_name, 1);
    (void)task_spawn("command", run_task, &r);
    loop_run();
    loop_done();
}

const char *command_login(void)
{
    const struct passwd *pw = getpwuid(getuid());

    return pw != NULL ? pw->pw_name : "";
}
