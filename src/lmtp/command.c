#include "lmtp/server_priv.h"

#include "mail/date.h"
#include "rt/proc.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>

/*
 * `|command` of an alias or .forward, as Postfix's local runs it (local(8),
 * EXTERNAL COMMAND DELIVERY): /bin/sh -c, or directly when there is no shell
 * character in it; the message with its trace lines as input; results by
 * sysexits.h.
 */

#define OUTPUT_MAX 4096
#define ENV_MAX    24

/* Exit codes that are the sender's or the system's trouble for good; all other
 * non-zero codes too, EX_TEMPFAIL and EX_OSERR... aside (Postfix's pipe). */
static const struct {
    int code;
    const char *status;
    const char *text;
} results[] = {
    { EX_USAGE, "5.3.0", "command line usage error" },
    { EX_DATAERR, "5.6.0", "data format error" },
    { EX_NOINPUT, "5.3.0", "cannot open input" },
    { EX_NOUSER, "5.1.1", "user unknown" },
    { EX_NOHOST, "5.1.2", "host name unknown" },
    { EX_UNAVAILABLE, "5.3.0", "service unavailable" },
    { EX_SOFTWARE, "5.3.0", "internal software error" },
    { EX_OSERR, "4.3.0", "system resource problem" },
    { EX_OSFILE, "5.3.0", "critical OS file missing" },
    { EX_CANTCREAT, "5.2.0", "can't create user output file" },
    { EX_IOERR, "5.3.0", "input/output error" },
    { EX_TEMPFAIL, "4.3.0", "temporary failure" },
    { EX_PROTOCOL, "5.5.0", "remote error in protocol" },
    { EX_NOPERM, "5.7.0", "permission denied" },
    { EX_CONFIG, "5.3.5", "local configuration error" },
};

static void set_answer(struct lmtp_tx *tx, struct lmtp_target *t,
                       const char *status, const char *text, slice output)
{
    char *full;

    output = slice_trim(output);
    if (output.n > 0)
        full = arena_printf(tx->arena, "%s. Command output: %.*s", text,
                            SLF(slice_sub(output, 0, 500)));
    else
        full = arena_printf(tx->arena, "%s", text);
    t->code = status[0] == '4' ? 451 : 550;
    t->status = status;
    t->text = slice_str(full);
}

static void judge_exit(struct lmtp_tx *tx, struct lmtp_target *t, int wstatus,
                       slice output)
{
    char text[120];

    if (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0) {
        t->code = 250;
        t->status = "2.0.0";
        t->text = SL("XDURABLE fs=0 delivered to command");
        return;
    }
    if (WIFSIGNALED(wstatus)) {
        (void)snprintf(text, sizeof text, "Command died with signal %d",
                       WTERMSIG(wstatus));
        set_answer(tx, t, "4.3.0", text, output);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        if (results[i].code == WEXITSTATUS(wstatus)) {
            set_answer(tx, t, results[i].status, results[i].text, output);
            return;
        }
    (void)snprintf(text, sizeof text, "Command died with status %d",
                   WEXITSTATUS(wstatus));
    set_answer(tx, t, "5.3.0", text, output);
}

/* ---- environment */

struct environment {
    struct arena *arena;
    const char *v[ENV_MAX + 1];
    size_t n;
};

static void put_env(struct environment *e, const char *name, slice value)
{
    char *text;

    if (e->n >= ENV_MAX || slice_chr(value, '\0') >= 0)
        return;
    text = arena_printf(e->arena, "%s=%.*s", name, SLF(value));
    if (text != NULL)
        e->v[e->n++] = text;
}

static void make_env(struct lmtp_server *server, struct lmtp_tx *tx,
                     const struct lmtp_target *t, struct environment *e)
{
    slice local = t->addr;
    slice domain = SLICE_NONE;
    slice list = conf_slice(server->parts.conf, NULL, "export_environment");
    slice word;

    (void)mail_addr_split(t->addr, &local, &domain);
    put_env(e, "HOME", t->home.n > 0 ? t->home : SL("/"));
    put_env(e, "LOGNAME", t->user);
    put_env(e, "USER", t->user);
    put_env(e, "SHELL", SL("/bin/sh"));
    put_env(e, "PATH", SL("/usr/bin:/bin:/usr/sbin:/sbin"));
    put_env(e, "SENDER", tx->sender);
    put_env(e, "RECIPIENT", t->addr);
    put_env(e, "ORIGINAL_RECIPIENT", t->orig.n > 0 ? t->orig : t->addr);
    put_env(e, "LOCAL", local);
    put_env(e, "DOMAIN", domain);
    while (conf_list_next(&list, &word)) {
        word = conf_list_unbrace(word);
        if (slice_chr(word, '=') > 0 && e->n < ENV_MAX) {
            char *text = slice_cstr(tx->arena, word);

            if (text != NULL)
                e->v[e->n++] = text;
        }
    }
    e->v[e->n] = NULL;
}

/* ---- the input: trace lines, then the message */

static int make_input(struct lmtp_tx *tx, const struct lmtp_target *t,
                      struct err *err)
{
    int fd = memfd_create("command", MFD_CLOEXEC);
    struct civil now;
    char date[32];
    struct buf b;
    int r = 0;

    if (fd < 0)
        return err_sys(err, "memory for a message");
    clock_local(clock_wall() / 1000, &now);
    mail_date_mbox(&now, date);
    buf_init(&b, 16384);
    (void)buf_puts(&b, "From ");
    if (tx->sender.n > 0)
        (void)mail_addr_quote(&b, tx->sender);
    else
        (void)buf_puts(&b, "MAILER-DAEMON");
    (void)buf_printf(&b, "  %s\nReturn-Path: <", date);
    if (tx->sender.n > 0)
        (void)mail_addr_quote(&b, tx->sender);
    (void)buf_puts(&b, ">\n");
    if (t->orig.n > 0)
        (void)buf_printf(&b, "X-Original-To: %.*s\n", SLF(t->orig));
    (void)buf_puts(&b, "Delivered-To: ");
    (void)mail_addr_quote(&b, t->addr);
    (void)buf_byte(&b, '\n');
    if (write(fd, b.p, b.n) != (ssize_t)b.n)
        r = err_sys(err, "memory for a message");
    buf_done(&b);
    for (uint64_t at = 0; r == 0 && at < tx->body_bytes;) {
        char piece[1024];
        ssize_t n = pread(tx->body_fd, piece, sizeof piece, (off_t)at);

        if (n <= 0 || write(fd, piece, (size_t)n) != n)
            r = err_sys(err, "copy a message for a command");
        else
            at += (uint64_t)n;
    }
    if (r == 0 && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    close(fd);
    return -1;
}

void lmtp_run_command(struct lmtp_server *server, struct lmtp_tx *tx,
                      struct lmtp_target *t)
{
    struct environment env = { .arena = tx->arena };
    char *line = slice_cstr(tx->arena, t->arg);
    const char *argv[] = { "sh", "-c", line, NULL };
    struct proc_spec spec = {
        .path = "/bin/sh",
        .argv = argv,
        .envp = env.v,
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
        .new_session = true,
    };
    msec deadline = clock_after(
        conf_time(server->parts.conf, NULL, "command_time_limit") * 1000);
    struct buf output;
    struct err err;
    int wstatus = 0;
    int fd = make_input(tx, t, &err);

    if (fd >= 0 && line == NULL)
        err_temp(&err, "no memory for the command");
    if (fd < 0 || line == NULL) {
        close_fd(&fd);
        lmtp_target_fail(tx, t, &err);
        return;
    }
    make_env(server, tx, t, &env);
    spec.chdir = t->home.n > 0 ? slice_cstr(tx->arena, t->home) : "/";
    buf_init(&output, OUTPUT_MAX);
    if (proc_run_fd(&spec, fd, &output, deadline, &wstatus, &err) < 0) {
        if (err.sys == 0 && clock_mono() >= deadline)
            err_log(&err, "Command time limit exceeded: \"%s\"", line);
        else
            (void)err_prefix(&err, "command \"%s\"", line);
        lmtp_target_fail(tx, t, &err);
    } else {
        judge_exit(tx, t, wstatus, buf_view(&output));
    }
    buf_done(&output);
    close(fd);
}
