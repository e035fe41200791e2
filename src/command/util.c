#include "command/command.h"

#include "conf/conf.h"
#include "rt/rt.h"

#include <pwd.h>
#include <sysexits.h>

const char *command_name = "hato";

/* To standard error, as one line. */
__attribute__((format(printf, 2, 0))) static void say(const char *kind,
                                                      const char *fmt,
                                                      va_list ap)
{
    (void)fprintf(stderr, "%s: %s", command_name, kind);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
}

void command_warn(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
}

void command_die(int status, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say("fatal: ", fmt, ap);
    va_end(ap);
    exit(status);
}

void command_print_text(slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        (void)putchar(c < ' ' || c == 0x7f ? '?' : c);
    }
}

void command_flush(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        command_die(EX_IOERR, "write standard output: %s", strerror(errno));
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
