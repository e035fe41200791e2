#include "access/access_priv.h"

#include "ipc/event.h"

/* Refusals: their texts, and the lines of the log. */

slice check_client_text(const struct access *a, struct access_session *s)
{
    slice name = s->name.n > 0 ? s->name : SL("unknown");
    char *text;

    if (a->logs_port && s->peer != NULL)
        text = arena_printf(s->arena, "%.*s[%.*s]:%u", SLF(name), SLF(s->addr),
                            s->peer->port);
    else
        text = arena_printf(s->arena, "%.*s[%.*s]", SLF(name), SLF(s->addr));
    return text != NULL ? slice_str(text) : name;
}

static void put_pair(struct buf *b, const char *key, slice value)
{
    buf_printf(b, " %s=<%.*s>", key, SLF(value));
}

void check_log(struct check *c, const char *what, slice text)
{
    struct access_session *s = c->s;
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 4096);
    buf_printf(&b, "%s: %s from %.*s: %.*s;", what, c->where,
               SLF(check_client_text(c->a, s)), SLF(text));
    if (s->has_sender)
        put_pair(&b, "from", s->sender);
    if (s->recipient.p != NULL)
        put_pair(&b, "to", s->recipient);
    if (s->protocol.n > 0)
        buf_printf(&b, " proto=%.*s", SLF(s->protocol));
    if (s->helo.n > 0)
        put_pair(&b, "helo", s->helo);
    if (s->sasl_user.n > 0)
        put_pair(&b, "sasl_username", s->sasl_user);
    event_text(EV_INFO, NULL, s->queue_id != NULL ? s->queue_id : "NOQUEUE",
               "%s", buf_cstr(&b));
}

/* 5 becomes 4 in code and status; both agree. */
static void soften(const struct access *a, char *line)
{
    if (a->soft_bounce && line[0] == '5')
        line[0] = '4';
    if (ascii_isdigit(line[4]) && line[5] == '.')
        line[4] = line[0];
}

static enum verdict refuse_line(struct check *c, bool is_own_fault, char *line)
{
    bool only_warn = c->warn_depth > 0 && !is_own_fault;
    uint64_t code;

    /* DEFER_IF_REJECT: a refusal for good waits for better times. */
    if (line != NULL && !only_warn && c->if_reject.is_active &&
        line[0] == '5') {
        c->if_reject.is_active = false;
        c->warn_depth = 0;
        line = slice_cstr(c->s->arena, c->if_reject.line);
    }
    if (line == NULL) {
        c->line = SL("451 4.3.0 Error: queue file write error");
        c->code = 451;
        return SAYS_REJECT;
    }
    soften(c->a, line);
    check_log(c, only_warn ? "reject_warning" : "reject", slice_str(line));
    if (only_warn)
        return SAYS_DUNNO;
    c->line = slice_str(line);
    c->code = slice_u64(slice_sub(c->line, 0, 3), &code) ? (int)code : 451;
    return SAYS_REJECT;
}

/* Replies are one line; a table must not be able to add another. */
static void flatten(char *line)
{
    for (; *line != '\0'; line++) {
        if ((unsigned char)*line < ' ')
            *line = ' ';
    }
}

enum verdict check_refuse(struct check *c, bool is_own_fault, int code,
                          const char *status, const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done);
    char *line;
    va_list ap;

    buf_init(&b, 1024);
    if (code < 400 || code > 599) {
        log_warning("bad SMTP reply code %d; using 450", code);
        code = 450;
    }
    buf_printf(&b, "%03d %s ", code, status);
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    line = arena_printf(c->s->arena, "%.*s", SLF(buf_view(&b)));
    if (line != NULL)
        flatten(line);
    return refuse_line(c, is_own_fault, line);
}

enum verdict check_trouble(struct check *c, slice name, const struct err *err)
{
    if (err->class == ERR_PEER)
        return SAYS_GONE;
    log_warning("%s", err->log);
    return check_refuse(c, true, 451, "4.3.0",
                        "<%.*s>: Temporary lookup failure", SLF(name));
}

enum verdict check_server_error(struct check *c)
{
    return check_refuse(c, true, 451, "4.3.5", "Server configuration error");
}

void check_defer_if_text(struct check *c, struct deferral *d,
                         const char *status, const char *fmt, ...)
{
    struct buf b CLEANUP(buf_done);
    va_list ap;
    char *line;

    buf_init(&b, 1024);
    if (d->is_active)
        return;
    buf_printf(&b, "450 %s ", status);
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    line = slice_cstr(c->s->arena, buf_view(&b));
    if (line == NULL)
        return;
    flatten(line);
    d->is_active = true;
    d->line = slice_str(line);
}

void check_defer_if(struct check *c, struct deferral *d, const char *status,
                    const char *text)
{
    char *line;

    if (d->is_active)
        return;
    line = arena_printf(c->s->arena, "450 %s <%.*s>: %s rejected: %s", status,
                        SLF(c->reply_name), c->reply_class, text);
    if (line == NULL)
        return;
    flatten(line);
    d->is_active = true;
    d->line = slice_str(line);
}
