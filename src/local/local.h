#ifndef LOCAL_LOCAL_H
#define LOCAL_LOCAL_H

/*
 * local - local delivery: aliases, .forward and mailboxes, for the transports
 * `local` (system users), `virtual` (virtual mailboxes), `error` and `discard`.
 *
 * The `local` process uses it.  qmgr asks with DELIVER_REQUEST: one message,
 * some recipients of one transport.  Each recipient ends as sent, deferred or
 * bounced, or is *expanded*: an alias or a .forward turned it into others,
 * which qmgr journals and sends back one by one.  So expansion is never done
 * twice in part, and local keeps nothing.
 *
 *     recipient --alias--> others
 *               --~/.forward--> others
 *               --mailbox, file or command--> a worker of the uid (LMTP XHATO)
 *                  --visible--> shared sync at the broker --durable--> sent
 *
 * Expansion can name things that no address from outside can: a mailbox without
 * further expansion, a command, a file.  They travel as addresses that start
 * with the byte 1 (special.c); addresses from outside, from aliases and from
 * .forward files that hold control bytes are refused, so none can be forged.
 *
 * Invariants: (1) OUT_SENT only after the worker said durable, or a sync of its
 * file system that began after it said visible has ended; (2) what comes from a
 * user's .forward is untrusted: commands and files in it keep the user's uid,
 * addresses are plain recipients; (3) no command or file of an alias runs as
 * root; (4) an address that stands among its own ancestors is not expanded
 * again but delivered; (5) trouble of ours is deferred, never bounced.
 *
 * Waits: nearly everything; each request is a task.
 */
#include "base/base.h"
#include "ipc/ipc.h"

struct local;
struct tables;

struct local *local_new(struct process *p, struct tables *tables);
/* Compile the lists of the configuration; before the first request. */
CHECKED int local_setup(struct local *l, struct err *err);
/* qmgr connected: serve DELIVER_REQUEST on fd. */
void local_on_peer(struct local *l, int fd);
/* Finish what is under way, take no more, then call on_idle(arg). */
void local_drain(struct local *l, void (*on_idle)(void *arg), void *arg);
void local_dump(const struct local *l, struct buf *out);

/* In a mailbox worker: answer WORKER_FORWARD, WORKER_INCLUDE and, with a store,
 * WORKER_MAILBOX on a channel over fd (taken over), with this process's own
 * rights. */
struct store;
void local_files_serve(int fd, struct store *store);

#endif
