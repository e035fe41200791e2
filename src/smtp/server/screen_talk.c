#include "smtp/server/screen_priv.h"

/* postscreen's tests of what the client says: pipelining, foreign commands,
 * bare newlines. */

bool smtp_screen_is_deep(const struct smtp *s)
{
    return s->screening != NULL && s->screening->has_deep;
}

/* A fault.  1: the client was told to go; 0: go on; -1: it is gone. */
MAY_WAIT static int deep_fault(struct smtp_screening *k, enum deep which,
                               const char *status, const char *words)
{
    struct smtp *s = k->s;

    k->wants_deep[which] = false;
    k->has_failed = true;
    switch (k->screen->deep[which].action) {
    case ACTION_IGNORE:
        return 0;
    case ACTION_ENFORCE:
        if (k->refusal == NULL)
            k->refusal = xstrdup("550 5.5.1 Protocol error");
        return 0;
    case ACTION_DROP:
        break;
    }
    s->must_close = true;
    s->said_quit = true;
    return smtp_reply(s, 521, status, "%s", words) < 0 ? -1 : 1;
}

MAY_WAIT static int pipelined(struct smtp_screening *k, slice line)
{
    struct smtp *s = k->s;
    struct buf b CLEANUP(buf_done);

    buf_init(&b, 1000);
    screen_put_escaped(&b, slice_sub(stream_peek(s->stream), 0, 100));
    event_text(EV_INFO, "postscreen", NULL,
               "COMMAND PIPELINING from [%s]:%u after %.*s: %.*s", s->peer.text,
               s->peer.port, SLF(slice_sub(slice_trim(line), 0, 100)),
               SLF(slice_sub(buf_view(&b), 0, 100)));
    return deep_fault(k, DEEP_PIPELINING, "5.5.1", "Protocol error");
}

int smtp_screen_line(struct smtp *s, slice line)
{
    struct smtp_screening *k = s->screening;
    int r = 0;

    k->where = s->last_verb;
    if (k->wants_deep[DEEP_NEWLINE] && !slice_ends(line, SL("\r\n"))) {
        event_text(EV_INFO, "postscreen", NULL,
                   "BARE NEWLINE from [%s]:%u after %.*s", s->peer.text,
                   s->peer.port, SLF(smtp_verb_name(k->where)));
        r = deep_fault(k, DEEP_NEWLINE, "5.5.1", "Protocol error");
    }
    if (r == 0 && k->wants_deep[DEEP_PIPELINING] &&
        stream_peek(s->stream).n > 0 && !slice_istarts(line, SL("BDAT")))
        r = pipelined(k, line);
    return r;
}

int smtp_screen_foreign(struct smtp *s, slice line)
{
    struct smtp_screening *k = s->screening;

    if (!k->wants_deep[DEEP_FOREIGN])
        return 0;
    event_text(EV_INFO, "postscreen", NULL,
               "NON-SMTP COMMAND from [%s]:%u after %.*s: %.*s", s->peer.text,
               s->peer.port, SLF(smtp_verb_name(k->where)),
               SLF(slice_sub(slice_trim(line), 0, 100)));
    return deep_fault(k, DEEP_FOREIGN, "5.7.0",
                      "Error: I can break rules, too. Goodbye.");
}

/* Who came so far without a fault has passed. */
static void deep_pass(struct smtp_screening *k)
{
    if (!k->has_deep || k->has_rcpt)
        return;
    k->has_rcpt = true;
    for (int i = 0; i < DEEP_N; i++)
        if (k->wants_deep[i])
            screen_pass(k, (enum access_pass)(ACCESS_PASS_PIPELINING + i),
                        k->screen->deep[i].ttl_ms);
    screen_tell_pass(k);
}

int smtp_screen_refuse(struct smtp *s, slice rcpt)
{
    struct smtp_screening *k = s->screening;
    slice sender =
        s->tx != NULL && s->tx->has_mail ? s->tx->sender : SLICE_NONE;
    struct access_reply reply = { .code = 550 };
    const char *words = k->refusal;

    if (words == NULL) {
        words = "450 4.3.2 Service currently unavailable";
        reply.code = 450;
    }
    reply.line = slice_str(words);
    event_text(EV_INFO, "postscreen", NULL,
               "NOQUEUE: reject: RCPT from [%s]:%u: %s; from=<%.*s>, "
               "to=<%.*s>, proto=%s, helo=<%s>",
               s->peer.text, s->peer.port, words, SLF(sender), SLF(rcpt),
               s->is_esmtp ? "ESMTP" : "SMTP", s->helo != NULL ? s->helo : "");
    deep_pass(k);
    return smtp_reply_line(s, &reply);
}
