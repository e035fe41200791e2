#ifndef DAEMON_QMGR_PASSES_H
#define DAEMON_QMGR_PASSES_H

/* What clients have passed of postscreen's tests (access/access.h), kept in the
 * file `postscreen` of the spool: read at the start, written once a minute when
 * something has changed, and at the end.  smtpd, which tests, has no files. */
#include "ipc/process.h"

/* The memory, from master; it comes before the start. */
void qmgr_passes_on_fd(struct process *p, slice name, int fd);
/* Read what was kept; `dir` must stay. */
void qmgr_passes_open(struct conf *c, const char *dir);
void qmgr_passes_set(struct conf *c); /* a new configuration */
MAY_WAIT void qmgr_passes_close(void);

#endif
