#include "command/command.h"

#include "conf/conf.h"
#include "mail/mail.h"
#include "rt/rt.h"
#include "rt/stream.h"

#include <fcntl.h>
#include <pwd.h>
#include <sysexits.h>

/*
 * sendmail(1): the face that programs know.  A message goes by SMTP over the
 * pickup socket, where smtpd knows the caller by his credentials; nothing is
 * written into the queue from here, so no set-uid program is needed.
 */

#define MESSAGE_MAX (1u << 30)
#define HEADER_MAX  (1u << 20)
#define TIMEOUT_MS  ((msec)300 * 1000)
#define STDIN_MS    ((msec)3600 * 1000)

enum mode {
    MODE_SEND,
    MODE_LIST,
    MODE_ALIASES,
    MODE_STDIN,
    MODE_QUEUE,
    MODE_DAEMON,
    MODE_VERIFY
};

struct options {
    enum mode mode;
    const char *config;
    const char *sender;
    const char *full_name;
    const char *notify; /* -N */
    const char *ret;    /* -R */
    const char *envid;  /* -V */
    const char *verp;   /* -XV; "": the default delimiters */
    const char *site;   /* -qR */
    bool has_sender;
    bool from_header; /* -t */
    bool ignore_dots; /* -i */
    bool is_8bit;
    bool is_traced; /* -v */
    int first;      /* argv index of the first recipient */
};

struct send {
    struct options *o;
    struct conf *conf;
    struct arena *arena;
    slice *rcpts;
    size_t n_rcpts;
    size_t room;
    struct buf message; /* LF */
    int status;
};

/* ---- options */

static const char *value_of(int argc, char **argv, int *i, const char *rest)
{
    if (*rest != '\0')
        return rest;
    if (*i + 1 >= argc)
        command_die(EX_USAGE, "option %s needs a value", argv[*i]);
    return argv[++*i];
}

static void option_b(struct options *o, const char *rest)
{
    switch (*rest) {
    case 'm':
    case 'a':
        o->mode = MODE_SEND;
        return;
    case 'p':
        o->mode = MODE_LIST;
        return;
    case 'i':
    case 'I':
        o->mode = MODE_ALIASES;
        return;
    case 's':
        o->mode = MODE_STDIN;
        return;
    case 'd':
    case 'D':
    case 'l':
        o->mode = MODE_DAEMON;
        return;
    case 'v':
        o->mode = MODE_VERIFY;
        return;
    default:
        command_die(EX_USAGE, "unsupported: -b%s", rest);
    }
}

/* -N "delay, failure": as NOTIFY= has it (RFC 3461 4.1). */
static const char *notify_words(const char *value)
{
    static const char *const words[] = { "never", "success", "failure",
                                         "delay" };
    slice rest = slice_str(value);
    size_t n_words = 0;
    bool is_never = false;
    static struct buf b; /* as long as the process */
    slice word;

    buf_done(&b);
    buf_init(&b, 200);
    while (slice_token(&rest, ", \t", &word)) {
        bool ok = false;

        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            ok |= slice_ieqs(word, words[i]);
        if (!ok)
            command_die(EX_USAGE, "bad -N option value -- %s", value);
        is_never |= slice_ieqs(word, "never");
        (void)buf_printf(&b, "%s%.*s", n_words++ > 0 ? "," : "", SLF(word));
    }
    if (n_words == 0 || b.overflow || (is_never && n_words > 1))
        command_die(EX_USAGE, "bad -N option value -- %s", value);
    return buf_cstr(&b);
}

static void option_o(struct options *o, const char *rest)
{
    if (*rest == 'i')
        o->ignore_dots = true;
    else if (*rest == '8')
        o->is_8bit = true;
    /* The other -o of Sendmail set what main.cf sets here. */
}

/* One option word; false for an unknown letter. */
static bool option(struct options *o, int argc, char **argv, int *i)
{
    const char *a = argv[*i] + 1;
    const char *rest = a + 1;

    switch (*a) {
    case 'b':
        option_b(o, rest);
        return true;
    case 'o':
        option_o(o, rest);
        return true;
    case 't':
        o->from_header = true;
        return true;
    case 'i':
        o->ignore_dots = true;
        return true;
    case 'f':
    case 'r':
        o->sender = value_of(argc, argv, i, rest);
        o->has_sender = true;
        return true;
    case 'F':
        o->full_name = value_of(argc, argv, i, rest);
        return true;
    case 'C':
        o->config = value_of(argc, argv, i, rest);
        return true;
    case 'N':
        o->notify = notify_words(value_of(argc, argv, i, rest));
        return true;
    case 'R':
        o->ret = value_of(argc, argv, i, rest);
        if (strcasecmp(o->ret, "full") != 0 && strcasecmp(o->ret, "hdrs") != 0)
            command_die(EX_USAGE, "bad -R option value -- %s", o->ret);
        return true;
    case 'V':
        o->envid = value_of(argc, argv, i, rest);
        return true;
    case 'B':
        o->is_8bit = strcmp(value_of(argc, argv, i, rest), "8BITMIME") == 0;
        return true;
    case 'q':
        o->mode = MODE_QUEUE;
        if (*rest == 'R')
            o->site = rest + 1;
        return true;
    case 'X':
        rest = value_of(argc, argv, i, rest);
        if (*rest == 'V')
            o->verp = rest + 1; /* else a log file of Sendmail's */
        return true;
    case 'L':
    case 'h':
    case 'O':
        (void)value_of(argc, argv, i, rest);
        return true;
    case 'v':
        o->is_traced = true;
        return true;
    case 'A': /* -Ac, -Am: one queue here */
    case 'G':
    case 'I':
    case 'U':
    case 'm':
    case 'n':
    case 'x':
        return true;
    default:
        return false;
    }
}

static void parse_options(struct options *o, int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0')
            break;
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        /* Flags may stand together: -ti. */
        if (strcmp(argv[i], "-ti") == 0 || strcmp(argv[i], "-it") == 0) {
            o->from_header = o->ignore_dots = true;
            continue;
        }
        if (!option(o, argc, argv, &i))
            command_die(EX_USAGE, "unknown option %s", argv[i]);
    }
    o->first = i;
}

/* ---- recipients */

static void add_rcpt(struct send *s, slice addr)
{
    if (addr.n == 0)
        return;
    /* One that a header folds within quotes would be a command of its own. */
    for (size_t i = 0; i < addr.n; i++)
        if ((unsigned char)addr.p[i] < ' ')
            command_die(EX_DATAERR, "a recipient address holds a control "
                                    "character");
    if (s->n_rcpts == s->room) {
        s->room = s->room == 0 ? 16 : s->room * 2;
        s->rcpts = xrealloc(s->rcpts, s->room * sizeof *s->rcpts);
    }
    s->rcpts[s->n_rcpts++] = slice_dup(s->arena, addr);
}

static void add_list(struct send *s, slice value)
{
    struct mail_dest_iter it;
    struct mail_dest d;
    int r;

    mail_dest_iter_init(&it, s->arena, value, true, 50000);
    while ((r = mail_dest_next(&it, &d)) > 0)
        add_rcpt(s, d.text);
    if (r < 0)
        command_die(EX_DATAERR, "too many recipients");
}

/* -t: To, Cc and Bcc, or with Resent- fields those alone (RFC 5322 3.6.6). */
static void rcpts_of_header(struct send *s)
{
    struct mail_header_iter it;
    struct mail_field f;
    slice head = slice_sub(buf_view(&s->message), 0, HEADER_MAX);
    bool resent = mail_header_count(head, "Resent-To") > 0 ||
                  mail_header_count(head, "Resent-Cc") > 0 ||
                  mail_header_count(head, "Resent-Bcc") > 0;

    mail_header_iter_init(&it, head, false);
    while (mail_header_next(&it, &f)) {
        slice name = f.name;

        if (slice_istarts(name, SL("Resent-")) != resent)
            continue;
        if (resent)
            name = slice_from(name, 7);
        if (slice_ieqs(name, "To") || slice_ieqs(name, "Cc") ||
            slice_ieqs(name, "Bcc"))
            add_list(s, f.value);
    }
}

/* ---- reading the message */

static void read_message(struct send *s)
{
    struct buf raw;
    slice in;

    buf_init(&raw, MESSAGE_MAX);
    for (;;) {
        char *room = buf_reserve(&raw, 65536);
        ssize_t n;

        if (room == NULL)
            command_die(EX_DATAERR, "message is too large");
        n = read(STDIN_FILENO, room, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            command_die(EX_IOERR, "read standard input: %s", strerror(errno));
        if (n == 0)
            break;
        buf_commit(&raw, (size_t)n);
    }
    buf_init(&s->message, MESSAGE_MAX);
    in = buf_view(&raw);
    while (in.n > 0) {
        ssize_t lf = slice_chr(in, '\n');
        slice line = lf < 0 ? in : slice_sub(in, 0, (size_t)lf);

        in = slice_from(in, lf < 0 ? in.n : (size_t)lf + 1);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--; /* programs send both */
        if (!s->o->ignore_dots && slice_eqs(line, "."))
            break;
        (void)buf_slice(&s->message, line);
        (void)buf_byte(&s->message, '\n');
    }
    buf_done(&raw);
}

/* From: with the full name, where the message lacks one. */
static void complete_message(struct send *s, slice sender)
{
    const char *name = s->o->full_name;
    slice head = slice_sub(buf_view(&s->message), 0, HEADER_MAX);
    struct buf all;
    slice raw;

    if (name == NULL)
        name = getenv("NAME");
    if (name == NULL || *name == '\0' || sender.n == 0 ||
        mail_header_find(head, "From", 0, &raw))
        return;
    buf_init(&all, MESSAGE_MAX);
    (void)buf_puts(&all, "From: ");
    (void)mail_words_encode(&all, slice_str(name), 6);
    (void)buf_puts(&all, " <");
    (void)mail_addr_quote(&all, sender);
    (void)buf_byte(&all, '>');
    (void)buf_byte(&all, '\n');
    (void)buf_slice(&all, buf_view(&s->message));
    buf_done(&s->message);
    s->message = all;
}

/* ---- speaking SMTP to the pickup socket */

MAY_WAIT static int connect_pickup(const struct conf *conf, int *fd,
                                   struct err *err)
{
    struct buf where;
    int r;

    buf_init(&where, 4096);
    (void)buf_printf(&where, "unix:%s/run/pickup",
                     conf_str(conf, NULL, "queue_directory"));
    r = socket_connect(buf_view(&where), clock_after(TIMEOUT_MS), fd, err);
    buf_done(&where);
    return r;
}

/* Read a reply; its code, or -1. */
MAY_WAIT static int reply(struct stream *st, struct buf *text)
{
    struct err err;
    slice line;
    uint64_t code = 0;

    do {
        if (stream_line(st, 4096, &line, &err) < 0)
            return -1;
        line = slice_rtrim(line);
        if (line.n < 3 || !slice_u64(slice_sub(line, 0, 3), &code))
            return -1;
    } while (line.n > 3 && line.p[3] == '-');
    buf_clear(text);
    (void)buf_slice(text, line);
    return (int)code;
}

static int exit_of(int code, slice text)
{
    if (slice_starts(text, SL("550 5.7.1 User ")))
        return EX_NOPERM; /* authorized_submit_users */
    if (code < 0)
        return EX_TEMPFAIL;
    return code >= 500 ? EX_UNAVAILABLE : EX_TEMPFAIL;
}

MAY_WAIT static int ask(struct stream *st, struct buf *command,
                        struct buf *text)
{
    struct err err;

    (void)buf_puts(command, "\r\n");
    if (stream_write(st, buf_view(command), &err) < 0 ||
        stream_flush(st, &err) < 0)
        return -1;
    buf_clear(command);
    return reply(st, text);
}

static void put_mail(const struct send *s, slice sender, struct buf *b)
{
    const struct options *o = s->o;

    (void)buf_puts(b, "MAIL FROM:<");
    if (sender.n > 0)
        (void)mail_addr_quote(b, sender);
    (void)buf_printf(b, "> SIZE=%zu BODY=8BITMIME", s->message.n);
    if (o->ret != NULL)
        (void)buf_printf(b, " RET=%s",
                         strcasecmp(o->ret, "full") == 0 ? "FULL" : "HDRS");
    if (o->envid != NULL) {
        (void)buf_puts(b, " ENVID=");
        (void)mail_xtext_put(b, slice_str(o->envid));
    }
    if (o->verp != NULL)
        (void)buf_printf(b, " XVERP%s%s", *o->verp != '\0' ? "=" : "", o->verp);
    if (o->mode == MODE_VERIFY)
        (void)buf_puts(b, " XTRACE=VERIFY");
    else if (o->is_traced)
        (void)buf_puts(b, " XTRACE=RECORD");
    (void)o->is_8bit;
}

static void put_rcpt(const struct send *s, slice addr, struct buf *b)
{
    (void)buf_puts(b, "RCPT TO:<");
    (void)mail_addr_quote(b, addr);
    (void)buf_puts(b, ">");
    if (s->o->notify != NULL)
        (void)buf_printf(b, " NOTIFY=%s", s->o->notify);
}

MAY_WAIT static int put_data(struct send *s, struct stream *st,
                             struct buf *text)
{
    bool at_start = true;
    struct buf wire;
    struct err err;
    int r;

    buf_init(&wire, MESSAGE_MAX + MESSAGE_MAX / 2);
    (void)mail_dot_stuff(&wire, buf_view(&s->message), true, &at_start);
    (void)buf_puts(&wire, at_start ? ".\r\n" : "\r\n.\r\n");
    r = stream_write(st, buf_view(&wire), &err) < 0 ||
                stream_flush(st, &err) < 0
            ? -1
            : reply(st, text);
    buf_done(&wire);
    return r;
}

MAY_WAIT static int converse(struct send *s, struct stream *st, slice sender,
                             struct buf *text)
{
    struct buf b;
    int code = reply(st, text);

    buf_init(&b, 65536);
    if (code == 220) {
        (void)buf_puts(&b, "EHLO localhost");
        code = ask(st, &b, text);
    }
    if (code == 250) {
        put_mail(s, sender, &b);
        code = ask(st, &b, text);
    }
    for (size_t i = 0; code == 250 && i < s->n_rcpts; i++) {
        put_rcpt(s, s->rcpts[i], &b);
        code = ask(st, &b, text);
    }
    if (code == 250) {
        (void)buf_puts(&b, "DATA");
        code = ask(st, &b, text);
    }
    if (code == 354)
        code = put_data(s, st, text);
    buf_done(&b);
    return code;
}

static slice sender_of(struct send *s)
{
    const char *text = s->o->has_sender ? s->o->sender : command_login();
    slice in = slice_str(text);
    struct mail_path path;
    struct err err;

    if (in.n == 0 || slice_eqs(in, "<>"))
        return SLICE_NONE;
    if (mail_path_parse(s->arena, &in, MAIL_PATH_NULL | MAIL_PATH_8BIT, &path,
                        &err) < 0)
        command_die(EX_USAGE, "malformed sender address: %s", text);
    return path.addr;
}

MAY_WAIT static void send_task(void *arg)
{
    struct send *s = arg;
    slice sender = sender_of(s);
    struct stream *st;
    struct err err;
    struct buf text;
    int fd;
    int code;

    complete_message(s, sender);
    if (connect_pickup(s->conf, &fd, &err) < 0) {
        command_warn("the mail system is down: %s", err.log);
        s->status = EX_TEMPFAIL;
        return;
    }
    st = stream_from_fd(fd);
    stream_deadline(st, clock_after(TIMEOUT_MS));
    buf_init(&text, 4096);
    code = converse(s, st, sender, &text);
    if (code == 250) {
        s->status = EX_OK;
    } else {
        command_warn("message was not accepted: %s",
                     text.n > 0 ? buf_cstr(&text) : "connection lost");
        s->status = exit_of(code, buf_view(&text));
    }
    buf_done(&text);
    stream_free(&st);
}

/* ---- -bs: our standard input speaks SMTP itself */

MAY_WAIT static void copy_task(void *arg);

struct copy {
    struct stream *from;
    struct stream *to;
    bool *done;
};

MAY_WAIT static void copy_task(void *arg)
{
    struct copy *c = arg;
    struct err err;

    for (;;) {
        slice in = stream_peek(c->from);

        if (in.n > 0) {
            if (stream_write(c->to, in, &err) < 0 ||
                stream_flush(c->to, &err) < 0)
                break;
            stream_consume(c->from, in.n);
            continue;
        }
        if (stream_eof(c->from) || stream_fill(c->from, &err) < 0)
            break;
    }
    (void)stream_shutdown(c->to, &err);
    *c->done = true;
}

MAY_WAIT static void stdin_task(void *arg)
{
    struct send *s = arg;
    bool done_in = false;
    bool done_out = false;
    struct copy in;
    struct copy out;
    struct err err;
    int fd;

    if (connect_pickup(s->conf, &fd, &err) < 0) {
        command_warn("the mail system is down: %s", err.log);
        s->status = EX_TEMPFAIL;
        return;
    }
    (void)fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    (void)fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
    struct stream *client = stream_from_fds(0, 1);
    struct stream *server = stream_from_fd(fd);

    stream_deadline(client, clock_after(STDIN_MS));
    stream_deadline(server, clock_after(STDIN_MS));
    in = (struct copy){ client, server, &done_in };
    out = (struct copy){ server, client, &done_out };
    (void)task_spawn("stdin", copy_task, &in);
    copy_task(&out);
    while (!done_in && task_sleep(10, &err) == 0 && !done_out)
        ;
    s->status = EX_OK;
}

/* ---- modes */

static void do_send(struct send *s, int argc, char **argv)
{
    for (int i = s->o->first; i < argc; i++)
        add_list(s, slice_str(argv[i]));
    if (s->o->mode == MODE_VERIFY)
        buf_init(&s->message, MESSAGE_MAX); /* addresses only */
    else
        read_message(s);
    if (s->o->from_header)
        rcpts_of_header(s);
    if (s->n_rcpts == 0)
        command_die(EX_USAGE, "Recipient addresses must be specified on the "
                              "command line or via the -t option");
    command_run_task(send_task, s);
}

int command_sendmail(int argc, char **argv)
{
    struct options o = { 0 };
    struct send s = { .o = &o, .status = EX_OK };

    if (strcmp(command_name, "mailq") == 0)
        o.mode = MODE_LIST;
    else if (strcmp(command_name, "newaliases") == 0)
        o.mode = MODE_ALIASES;
    parse_options(&o, argc, argv);
    if (o.config != NULL)
        (void)setenv("MAIL_CONFIG", o.config, 1);
    switch (o.mode) {
    case MODE_LIST: {
        char *args[] = { argv[0], (char[]){ "-p" }, NULL };

        return command_postqueue(2, args);
    }
    case MODE_QUEUE: {
        char *args[] = { argv[0], (char[]){ "-f" }, NULL };

        return command_postqueue(2, args);
    }
    case MODE_ALIASES:
        return command_newaliases(1, argv);
    case MODE_DAEMON:
        command_die(EX_USAGE, "start the mail system with `hato start`");
    case MODE_VERIFY:
    case MODE_SEND:
    case MODE_STDIN:
        break;
    }
    s.conf = command_conf(NULL, CONF_MAIN_ONLY);
    s.arena = arena_new(256u << 20);
    if (o.mode == MODE_STDIN)
        command_run_task(stdin_task, &s);
    else
        do_send(&s, argc, argv);
    buf_done(&s.message);
    free(s.rcpts);
    arena_free(&s.arena);
    conf_unref(&s.conf);
    return s.status;
}
