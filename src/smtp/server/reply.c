#include "smtp/server/server_priv.h"

#define REPLY_MAX 640 /* RFC 5321 4.5.3.1.5 says 512; long texts are cut */

MAY_WAIT static int reply_text(struct smtp *s, int code, const char *status,
                               const char *text)
{
    char line[REPLY_MAX];
    struct err err;
    int n;

    s->reply_failed = code >= 400;
    if (status != NULL)
        n = snprintf(line, sizeof line - 2, "%d %s %s", code, status, text);
    else
        n = snprintf(line, sizeof line - 2, "%d %s", code, text);
    if (n < 0)
        return -1;
    if ((size_t)n > sizeof line - 3)
        n = (int)sizeof line - 3;
    /* What came from a peer or a table never breaks the line. */
    for (int i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\r';
    line[n++] = '\n';
    return stream_write(s->stream, slice_of(line, (size_t)n), &err);
}

int smtp_reply(struct smtp *s, int code, const char *status, const char *fmt,
               ...)
{
    char text[REPLY_MAX];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -1;
    return reply_text(s, code, status, text);
}

int smtp_reply_line(struct smtp *s, const struct access_reply *r)
{
    struct err err;

    s->reply_failed = r->code >= 400;
    if (r->disconnect || r->code == 421 || r->code == 521)
        s->must_close = true;
    if (r->line.n >= 3 && slice_chr(r->line, '\n') < 0) {
        size_t n = min_size(r->line.n, REPLY_MAX);

        if (stream_write(s->stream, slice_sub(r->line, 0, n), &err) < 0)
            return -1;
        return stream_write(s->stream, SL("\r\n"), &err);
    }
    return smtp_reply(s, r->code, NULL, "%s", "Access denied");
}

int smtp_fail(struct smtp *s, const struct err *err)
{
    const char *status = err->status[0] != '\0' ? err->status : NULL;
    bool temp = err->class == ERR_TEMP;
    int code = temp ? 451 : 554;

    if (err->class == ERR_PEER)
        return -1;
    if (status == NULL)
        status = temp ? "4.3.0" : "5.0.0";
    if (temp && strcmp(status, "4.3.1") == 0)
        code = 452; /* RFC 5321 4.2.3: insufficient system storage */
    if (!temp && strcmp(status, "5.3.4") == 0)
        code = 552;
    if (temp)
        event_text(EV_WARNING, s->service->tag, NULL, "%s: %s", s->client,
                   err->log);
    return smtp_reply(s, code, status, "%s%s", temp ? "" : "Error: ",
                      err->peer[0] != '\0' ? err->peer
                                           : "Error: queue file write error");
}
