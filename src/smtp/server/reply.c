#include "smtp/server/server_priv.h"

#define REPLY_MAX 640 /* RFC 5321 4.5.3.1.5 says 512; long texts are cut */

int smtp_reply(struct smtp *s, int code, const char *status, const char *fmt,
               ...)
{
    char line[REPLY_MAX];
    size_t n = 4;
    struct err err;
    va_list ap;
    int text;

    CHECK(code >= 200 && code <= 599);
    s->reply_failed = code >= 400;
    line[0] = (char)('0' + code / 100);
    line[1] = (char)('0' + code / 10 % 10);
    line[2] = (char)('0' + code % 10);
    line[3] = ' ';
    if (status != NULL) {
        for (size_t i = 0; i < 16 && status[i] != '\0'; i++)
            line[n++] = status[i];
        line[n++] = ' ';
    }
    va_start(ap, fmt);
    text = vsnprintf(line + n, sizeof line - 2 - n, fmt, ap);
    va_end(ap);
    if (text < 0)
        return -1;
    n = min_size(n + (size_t)text, sizeof line - 3);
    /* What came from a peer or a table never breaks the line. */
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    smtp_note_out(s, code, slice_of(line, n));
    line[n++] = '\r';
    line[n++] = '\n';
    return stream_write(s->stream, slice_of(line, n), &err);
}

int smtp_reply_line(struct smtp *s, const struct access_reply *r)
{
    struct err err;

    s->reply_failed = r->code >= 400;
    if (r->disconnect || r->code == 421 || r->code == 521)
        s->must_close = true;
    if (r->line.n >= 3 && slice_chr(r->line, '\n') < 0) {
        size_t n = min_size(r->line.n, REPLY_MAX);

        smtp_note_out(s, r->code, slice_sub(r->line, 0, n));
        if (stream_write(s->stream, slice_sub(r->line, 0, n), &err) < 0)
            return -1;
        return stream_write(s->stream, SL("\r\n"), &err);
    }
    return smtp_reply(s, r->code, NULL, "%s", "Access denied");
}

void smtp_log_reject(struct smtp *s, const char *where, const char *reply)
{
    struct smtp_tx *tx = smtp_tx_get(s);
    const struct access_session *p = &tx->policy;
    struct buf b;

    buf_init(&b, 4096);
    (void)buf_printf(&b, "reject: %s from %s: %s;", where, s->client, reply);
    if (p->has_sender)
        (void)buf_printf(&b, " from=<%.*s>", SLF(p->sender));
    if (tx->n_rcpts > 0)
        (void)buf_printf(&b, " to=<%.*s>", SLF(tx->first_rcpt));
    (void)buf_printf(&b, " proto=%.*s", SLF(p->protocol));
    if (s->helo != NULL)
        (void)buf_printf(&b, " helo=<%s>", s->helo);
    event_text(EV_INFO, s->service->tag, "NOQUEUE", "%s", buf_cstr(&b));
    buf_done(&b);
}

int smtp_fail_code(const struct err *err)
{
    if (err->class == ERR_TEMP) /* RFC 5321 4.2.3: 452 insufficient storage */
        return strcmp(err->status, "4.3.1") == 0 ? 452 : 451;
    return strcmp(err->status, "5.3.4") == 0 ? 552 : 554;
}

int smtp_fail(struct smtp *s, const struct err *err)
{
    const char *status = err->status[0] != '\0' ? err->status : NULL;
    bool temp = err->class == ERR_TEMP;

    if (err->class == ERR_PEER)
        return -1;
    if (status == NULL)
        status = temp ? "4.3.0" : "5.0.0";
    if (temp)
        event_text(EV_WARNING, s->service->tag, NULL, "%s: %s", s->client,
                   err->log);
    return smtp_reply(s, smtp_fail_code(err), status, "%s%s",
                      temp ? "" : "Error: ",
                      err->peer[0] != '\0' ? err->peer
                                           : "Error: queue file write error");
}
