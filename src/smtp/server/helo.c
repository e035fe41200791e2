#include "smtp/server/auth.h"

/* HELO and EHLO, RFC 5321 4.1.1.1. */

#define HELO_MAX 512

/* What a name may not bring into a Received field, as Postfix has it. */
#define NEUTERED " <>()\\\";@"

static void replace(char *name, const char *set, bool only_ascii)
{
    for (char *p = name; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;

        if (c < ' ' || c == 0x7f || (only_ascii && c > 0x7f) ||
            strchr(set, c) != NULL)
            *p = '?';
    }
}

/* RFC 5321 4.1.4: a name that is refused leaves all as it was. */
static void take_back(struct smtp *s, char *helo, bool is_esmtp)
{
    free(s->helo);
    s->helo = helo;
    s->is_esmtp = is_esmtp;
    if (s->tx != NULL && !s->tx->has_mail)
        smtp_tx_reset(s);
    else if (s->tx != NULL)
        (void)smtp_tx_get(s); /* it refers to the name */
}

/* What DEFER_IF_PERMIT said of an earlier name goes with that name. */
static void forget_deferral(struct smtp *s)
{
    if (s->deferred == NULL || s->deferred_stage != ACCESS_HELO)
        return;
    free(s->deferred);
    s->deferred = NULL;
}

/* Take the name, ask the lists.  *ok: it may be greeted. */
MAY_WAIT static int greet_name(struct smtp *s, bool is_esmtp, slice args,
                               bool *ok)
{
    const char *verb = is_esmtp ? "EHLO" : "HELO";
    bool was_esmtp = s->is_esmtp;
    char *was = s->helo;
    slice name;
    slice rest = args;
    int r;

    *ok = false;
    if (!slice_token(&rest, " \t", &name))
        return smtp_reply(s, 501, NULL, "Syntax: %s hostname", verb);
    if (name.n > HELO_MAX || slice_chr(name, '\0') >= 0)
        return smtp_reply(s, 501, "5.5.4", "Error: %s name too long", verb);
    s->is_esmtp = is_esmtp;
    s->helo = slice_xstrdup(name);
    replace(s->helo, "", !s->service->smtputf8);
    forget_deferral(s);
    r = smtp_check(s, ACCESS_HELO, ok);
    if (r < 0 || !*ok) {
        take_back(s, was, was_esmtp);
        return r;
    }
    free(was);
    smtp_tx_reset(s); /* RFC 5321 4.1.4: EHLO implies RSET */
    replace(s->helo, NEUTERED, !s->service->smtputf8);
    return 0;
}

int smtp_cmd_helo(struct smtp *s, slice args)
{
    bool ok;

    if (greet_name(s, false, args, &ok) < 0)
        return -1;
    return ok ? smtp_reply(s, 250, NULL, "%s", s->service->myhostname) : 0;
}

/* One line of the answer to EHLO; the last has a space behind the code. */
static void ehlo_line(struct buf *b, const char *text)
{
    (void)buf_printf(b, "250-%s\r\n", text);
}

MAY_WAIT static void ehlo_keywords(struct smtp *s, struct buf *b)
{
    static const struct {
        unsigned bit;
        const char *text;
    } keywords[] = {
        { EHLO_PIPELINING, "PIPELINING" },
        { EHLO_SIZE, "SIZE" },
        { EHLO_VRFY, "VRFY" },
        { EHLO_ETRN, "ETRN" },
        { EHLO_STARTTLS, "STARTTLS" },
        { EHLO_ENHANCED, "ENHANCEDSTATUSCODES" },
        { EHLO_8BITMIME, "8BITMIME" },
        { EHLO_DSN, "DSN" },
        { EHLO_SMTPUTF8, "SMTPUTF8" },
        { EHLO_CHUNKING, "CHUNKING" },
        { EHLO_REQUIRETLS, "REQUIRETLS" },
    };
    const struct smtp_service *service = s->service;
    unsigned off = service->ehlo_off;

    if (service->vrfy_disabled)
        off |= EHLO_VRFY;
    if (smtp_screen_is_deep(s)) /* whether it pipelines is what is tested */
        off |= EHLO_PIPELINING | EHLO_CHUNKING;
    if (!smtp_tls_offered(s))
        off |= EHLO_STARTTLS;
    if (!service->smtputf8)
        off |= EHLO_SMTPUTF8;
    if (!stream_is_tls(s->stream)) /* RFC 8689 3 */
        off |= EHLO_REQUIRETLS;
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (keywords[i].bit == EHLO_ENHANCED)
            smtp_auth_ehlo(s, b);
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

    if (greet_name(s, true, args, &ok) < 0)
        return -1;
    if (!ok)
        return 0;
    buf_init(&b, 4096);
    ehlo_line(&b, s->service->myhostname);
    ehlo_keywords(s, &b);
    if (!s->service->is_pickup && smtp_verp_allowed(s))
        ehlo_line(&b, "XVERP");
    /* The last line differs from the others by one byte. */
    size_t at = b.n - 2;
    while (at > 0 && b.p[at - 1] != '\n')
        at--;
    b.p[at + 3] = ' ';
    r = stream_write(s->stream, buf_view(&b), &err);
    buf_done(&b);
    return r;
}
