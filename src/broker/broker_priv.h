#ifndef BROKER_BROKER_PRIV_H
#define BROKER_BROKER_PRIV_H

#include "broker/broker.h"

/* What the configuration allows the template (blocking: asks the system's
 * users, looks at alias files). */
void template_read_rules(struct template_rules *r, const struct conf *c);

/* Syncs of all file systems.  `fd_sync` may be replaced by tests. */
struct syncs;
struct syncs *syncs_new(int (*fd_sync)(int fd));
void syncs_free(struct syncs **s); /* nothing may be in flight */
/* A worker says where a file system can be reached; fd is taken over. */
void syncs_tell(struct syncs *s, uint64_t dev, int fd);
/* Wait until all that was visible on `dev` is durable. */
MAY_WAIT int syncs_wait(struct syncs *s, uint64_t dev, msec deadline,
                        struct err *err);
void syncs_dump(struct syncs *s, struct buf *out);

#endif
