#ifndef DAEMON_FRAME_H
#define DAEMON_FRAME_H

/* What several processes do alike: ending when all is done, and the private
 * keys of those that speak TLS. */
#include "base/base.h"

struct keyring;
struct process;

/* For the drain of a room: `process` is its struct process, which ends. */
void frame_on_idle(void *process);
/* The keyring of this process, made at the first call. */
struct keyring *frame_keyring(struct process *p);
/* process_ops.on_fd of a process that gets certificates and nothing else. */
void frame_on_fd(struct process *p, slice name, int fd);
/* At the end of on_start(), sandboxed: gives `keys` a while to answer. */
MAY_WAIT void frame_keyring_wait(struct process *p);

#endif
