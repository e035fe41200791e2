#ifndef DAEMON_MAILBOX_SESSIONS_H
#define DAEMON_MAILBOX_SESSIONS_H

/* The IMAP and POP3 sessions of a mailbox worker: between the broker's messages
 * and the rooms imap and pop3. */
#include "broker/broker.h"

struct store;

void mailbox_sessions_start(struct worker *w, struct store *store,
                            const struct conf *conf);
void mailbox_sessions_set_conf(const struct conf *conf);
/* worker_ops.on_session and on_session_end. */
void mailbox_sessions_take(struct worker *w, struct msg *m);
void mailbox_sessions_end(struct worker *w, const struct msg *m);
/* The worker leaves: parked sessions go to the broker, the others are told;
 * waits until there are none. */
MAY_WAIT void mailbox_sessions_leave(struct worker *w);
void mailbox_sessions_dump(struct buf *out);

#endif
