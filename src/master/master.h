#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

/*
 * master - the one process that is root: reads the configuration, binds ports,
 * opens root-only files, starts and watches all others.
 *
 * It reads no network input.  Children get what they need as descriptors over
 * their control channels (ipc/process.h); master gives two processes a socket
 * pair when the joint between them is in its list.
 *
 *     STARTING --every service READY--> RUNNING --stop, abort--> STOPPING
 *         |                              |    ^
 *         +--something failed--> end     +-reload
 *
 * A slot is a place for one process of a type (one smtpd per processor, one of
 * each other); its child is STARTING, READY or gone, and comes back with
 * back-off.  A reload starts next children of smtpd, local and tables, and
 * when all are READY makes them current and lets the old ones drain; qmgr,
 * broker, template and log take the new configuration in place.
 *
 * Invariants: (1) a configured listener is never closed and always has a child
 * that accepts or is about to; (2) a configuration with an error never replaces
 * a running one; (3) a child that is not in the list of joints cannot reach
 * another one; (4) a source of a table is parsed only with its owner's uid;
 * (5) one administrative action at a time; (6) children die with master.
 */
#include "base/base.h"
#include "conf/conf.h"

struct master_options {
    const char *conf_dir; /* of -c, or NULL */
    bool is_foreground;   /* stay; log may be /dev/stdout */
};

/* `hato start`: check, start everything, and wait until it serves.  Texts go to
 * standard error.  Returns the exit status: in the background mode of the
 * caller's process, in the foreground when the server has ended. */
int master_start(const struct master_options *o);

/* Ask the running master (blocking): one of CTL_*, with attributes.  `text`
 * (may be NULL) gets what it says; `fd_out` (may be NULL) a descriptor, -1
 * when none came.  ERR_TEMP "not running" when there is none. */
int master_ask(const struct conf *c, uint16_t what, slice body,
               struct buf *text, int *fd_out, struct err *err);

/* start, start-fg, stop, reload, abort, status, flush, reopen: the smallest
 * command line, for a build without the command room. */
int master_command(int argc, char **argv);

#endif
