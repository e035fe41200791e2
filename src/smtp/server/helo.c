#include "smtp/server/server_priv.h"

/* HELO and EHLO, RFC 5321 4.1.1.1. */

#define HELO_MAX 512

/* Take the name, ask the lists.  *ok: it may be greeted. */
MAY_WAIT static int greet_name(struct smtp *s, const char *verb, slice args,
                               bool *ok)
{
    slice name;
    slice rest = args;

    *ok = false;
    if (!slice_token(&rest, " \t", &name))
        return smtp_reply(s, 501, NULL, "Syntax: %s hostname", verb);
    if (name.n > HELO_MAX || slice_chr(name, '\0') >= 0)
        return smtp_reply(s, 501, "5.5.4", "Error: %s name too long", verb);
    smtp_tx_reset(s); /* RFC 5321 4.1.4: EHLO implies RSET */
    free(s->helo);
    s->helo = slice_xstrdup(name);
    for (char *p = s->helo; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (smtp_check(s, ACCESS_HELO, ok) < 0)
        return -1;
    smtp_tx_reset(s);
    if (!*ok) {
        free(s->helo);
        s->helo = NULL;
    }
    return 0;
}

int smtp_cmd_helo(struct smtp *s, slice args)
{
    bool ok;

    s->is_esmtp = false;
    if (greet_name(s, "HELO", args, &ok) < 0)
        return -1;
    return ok ? smtp_reply(s, 250, NULL, "%s", s->service->myhostname) : 0;
}

/* One line of the answer to EHLO; the last has a space behind the code. */
static void ehlo_line(struct buf *b, const char *text)
{
    (void)buf_printf(b, "250-%s\r\n", text);
}

static void ehlo_keywords(const struct smtp *s, struct buf *b)
{
    static const struct {
        unsigned bit;
        const char *text;
    } keywords[] = {
        { EHLO_PIPELINING, "PIPELINING" },
        { EHLO_SIZE, "SIZE" },
        { EHLO_VRFY, "VRFY" },
        { EHLO_ETRN, "ETRN" },
        { EHLO_ENHANCED, "ENHANCEDSTATUSCODES" },
        { EHLO_8BITMIME, "8BITMIME" },
        { EHLO_DSN, "DSN" },
        { EHLO_SMTPUTF8, "SMTPUTF8" },
        { EHLO_CHUNKING, "CHUNKING" },
    };
    const struct smtp_service *service = s->service;
    unsigned off = service->ehlo_off;

    if (service->vrfy_disabled)
        off |= EHLO_VRFY;
    if (!service->smtputf8)
        off |= EHLO_SMTPUTF8;
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (off & keywords[i].bit)
            continue;
        if (keywords[i].bit == EHLO_SIZE)
            (void)buf_printf(b, "250-SIZE %" PRIu64 "\r\n",
                             service->message_max);
        else
            ehlo_line(b, keywords[i].text);
    }
}

int smtp_cmd_ehlo(struct smtp *s, slice args)
{
    struct buf b;
    struct err err;
    bool ok;
    int r;

    s->is_esmtp = true;
    if (greet_name(s, "EHLO", args, &ok) < 0)
        return -1;
    if (!ok)
        return 0;
    buf_init(&b, 4096);
    ehlo_line(&b, s->service->myhostname);
    ehlo_keywords(s, &b);
    /* The last line differs from the others by one byte. */
    size_t at = b.n - 2;
    while (at > 0 && b.p[at - 1] != '\n')
        at--;
    b.p[at + 3] = ' ';
    r = stream_write(s->stream, buf_view(&b), &err);
    buf_done(&b);
    return r;
}
