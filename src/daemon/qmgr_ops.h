#ifndef DAEMON_QMGR_OPS_H
#define DAEMON_QMGR_OPS_H

/* What the queue asks of other rooms and processes: routes and addresses (by
 * the tables of this process), deliveries (by `local`). */
#include "queue/queue.h"

struct process;

/* Compile the configuration's address rules; again at a reload: lookups that
 * wait go on with the old ones. */
int qmgr_rules_set(struct conf *c, struct err *err);
/* Make the links to `tables` and `local`; the second one's partial answers go
 * to q, until qmgr_links_free(). */
void qmgr_links(struct process *p, struct queue *q);
void qmgr_links_free(void);

/* ---- qmgr_users.c: looking and flushing for ordinary users */
struct process_listener;
/* Who may; as qmgr_rules_set(). */
int qmgr_users_set(struct conf *c, struct err *err);
void qmgr_users_open(struct queue *q);
void qmgr_users_listen(const struct process_listener *l);
void qmgr_users_deafen(void); /* who is connected stays */
void qmgr_users_close(void);

extern const struct queue_ops qmgr_queue_ops;

#endif
