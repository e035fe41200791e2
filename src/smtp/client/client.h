#ifndef SMTP_CLIENT_CLIENT_H
#define SMTP_CLIENT_CLIENT_H

/*
 * smtp/client - mail to other hosts: what Postfix's smtp(8) and lmtp(8) do,
 * under their parameters.
 *
 * The process `smtp` uses it.  qmgr asks with DELIVER_REQUEST: one message,
 * some recipients of one nexthop.  Each recipient ends as sent, deferred or
 * bounced.
 *
 *     request (request.c) -> hosts to try, in order (hosts.c: MX, address,
 *     relay, fallback) -> for each: policy of TLS (policy.c) -> a connection,
 *     from the cache or new (conn.c) -> dialogue (session.c; SASL: sasl.c;
 *     body: body.c) -> recipients that are left go to the next host -> answer
 *
 * Invariants: (1) a recipient is OUT_SENT only after the far side's answer to
 * the end of the data; a connection that breaks between the final dot and its
 * answer defers (the message may arrive twice, never not at all); (2) nothing
 * of the envelope or message, and no password, is sent before the demands of
 * the policy are met on this connection; (3) what a host says is data: at most
 * CLIENT_REPLY_MAX bytes of a reply are kept, control bytes become "?", none
 * reaches a log or a report unquoted; (4) a server that stalls costs one task
 * until its deadline, and the whole attempt at most CLIENT_ATTEMPT_MS; (5) mail
 * that DNS leads back to us (our names or addresses in the MX list) is told as
 * a loop, never sent; (6) RELAYED_* says truly whether the next host will
 * report; (7) connections in the cache have been RSET, carry no state of a
 * message, and are used again only for the same service, host, port, policy of
 * TLS and credentials.
 *
 * Waits: nearly everything; each request is a task.
 */
#include "base/base.h"
#include "dns/dns.h"
#include "ipc/ipc.h"

#define CLIENT_REPLY_MAX  4096
#define CLIENT_ATTEMPT_MS ((msec)3 * 3600 * 1000)

struct smtp_client;
struct tables;
struct keyring;

struct smtp_client_parts {
    struct process *process;
    struct tables *tables;
    struct dns *dns;
    struct keyring *keyring; /* client certificates; NULL: none */
};

CHECKED int smtp_client_new(const struct smtp_client_parts *parts,
                            struct smtp_client **out, struct err *err);
void smtp_client_free(struct smtp_client **c);
/* qmgr connected: serve DELIVER_REQUEST on fd. */
void smtp_client_on_peer(struct smtp_client *c, int fd);
/* Finish what is under way, take no more, then call on_idle(arg). */
void smtp_client_drain(struct smtp_client *c, void (*on_idle)(void *arg),
                       void *arg);
void smtp_client_dump(const struct smtp_client *c, struct buf *out);

#endif
