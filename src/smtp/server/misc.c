#include "smtp/server/server_priv.h"

#include "mail/domain.h"

/* RSET NOOP QUIT VRFY ETRN HELP: RFC 5321 4.1.1, RFC 1985. */

int smtp_cmd_rset(struct smtp *s, slice args)
{
    if (args.n > 0)
        return smtp_reply(s, 501, "5.5.4", "Syntax: RSET");
    smtp_tx_reset(s);
    return smtp_reply(s, 250, "2.0.0", "Ok");
}

int smtp_cmd_noop(struct smtp *s, slice args)
{
    (void)args; /* RFC 5321 4.1.1.9: a string is allowed and ignored */
    return smtp_reply(s, 250, "2.0.0", "Ok");
}

int smtp_cmd_quit(struct smtp *s, slice args)
{
    (void)args;
    s->said_quit = true;
    s->must_close = true;
    smtp_tx_reset(s);
    return smtp_reply(s, 221, "2.0.0", "Bye");
}

int smtp_cmd_help(struct smtp *s, slice args)
{
    (void)args;
    return smtp_reply(s, 502, "5.5.1", "Error: command not implemented");
}

/* VRFY: the recipient lists decide, as in Postfix; 252 for what would be
 * taken. */
int smtp_cmd_vrfy(struct smtp *s, slice args)
{
    struct smtp_tx *tx;
    struct mail_path path;
    struct err err;
    bool in_mail = s->tx != NULL && s->tx->has_mail;
    bool ok;

    if (s->service->vrfy_disabled)
        return smtp_reply(s, 502, "5.5.1", "VRFY command is disabled");
    if (args.n == 0)
        return smtp_reply(s, 501, "5.5.4", "Syntax: VRFY address");
    if (in_mail)
        return smtp_reply(s, 503, "5.5.1",
                          "Error: MAIL transaction in "
                          "progress");
    tx = smtp_tx_get(s);
    slice rest = args;
    if (mail_path_parse(tx->arena, &rest, MAIL_PATH_8BIT, &path, &err) < 0) {
        smtp_tx_reset(s);
        return smtp_reply(s, 501, "5.1.3", "Bad recipient address syntax");
    }
    tx->policy.recipient = path.addr;
    tx->policy.etrn = path.addr;
    int r = smtp_check(s, ACCESS_VRFY, &ok);
    if (r == 0 && ok)
        r = smtp_reply(s, 252, "2.0.0", "%.*s", SLF(args));
    smtp_tx_reset(s);
    return r;
}

#define ETRN_MS 10000

/* qmgr begins to deliver what waits for that domain. */
static MAY_WAIT int start_etrn(struct smtp *s, slice name)
{
    struct msg m;
    struct buf b CLEANUP(buf_done);
    struct err err;
    uint64_t says;

    buf_init(&b, 1024);
    (void)attr_put(&b, AT_NAME, name);
    if (spool_writer_ask(s->service->server->parts.spool, QUEUE_ETRN,
                         buf_view(&b), clock_after(ETRN_MS), &m, &err) < 0)
        return smtp_reply(s, 458, NULL, "Unable to queue messages");
    says = attr_u64_or(m.body, AT_FLAGS, 2);
    msg_free(&m);
    if (says == 2)
        return smtp_reply(s, 459, NULL, "<%.*s>: service unavailable",
                          SLF(name));
    return smtp_reply(s, 250, NULL, "Queuing started");
}

/* ETRN, RFC 1985, with Postfix's fast flush behind it. */
int smtp_cmd_etrn(struct smtp *s, slice args)
{
    slice name = args;
    uint8_t ip[16];
    int family;
    bool ok;
    int r;

    if (s->service->ehlo_off & EHLO_ETRN)
        return smtp_reply(s, 502, "5.5.1", "Error: command not implemented");
    if (s->helo == NULL)
        return smtp_reply(s, 503, NULL, "Error: send HELO/EHLO first");
    if (s->tx != NULL && s->tx->has_mail)
        return smtp_reply(s, 503, NULL, "Error: MAIL transaction in progress");
    if (args.n == 0)
        return smtp_reply(s, 500, NULL, "Syntax: ETRN domain");
    /* As Postfix does, subdomains and queues are taken for domains. */
    if (name.p[0] == '@' || name.p[0] == '#')
        name = slice_from(name, 1);
    if (!mail_domain_valid(name) && !mail_literal_parse(name, &family, ip))
        return smtp_reply(s, 501, NULL, "Error: invalid parameter syntax");
    smtp_tx_get(s)->policy.etrn = name;
    r = smtp_check(s, ACCESS_ETRN, &ok);
    if (r == 0 && ok)
        r = start_etrn(s, name);
    smtp_tx_reset(s);
    return r;
}
