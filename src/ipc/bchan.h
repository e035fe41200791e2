#ifndef IPC_BCHAN_H
#define IPC_BCHAN_H

/*
 * The blocking face of a channel, for the one process without a loop: the
 * template, which forks and must have neither threads nor tasks.  It speaks
 * the frames of chan.h; it answers calls and sends messages.  Commands use
 * it to ask one thing after the other.
 */
#include "ipc/chan.h"

struct bchan {
    int fd; /* -1: closed */
    struct buf in;
    int fds[64];
    size_t n_fds;
    bool has_hello;
};

/* Take over fd and say hello (blocking). */
int bchan_open(struct bchan *c, int fd, struct err *err);
void bchan_close(struct bchan *c); /* fine on a closed one */
/* Read what is there (poll() said so).  -1 at the end or on damage. */
int bchan_fill(struct bchan *c, struct err *err);
/* The next whole message: 1, 0 none, -1 damaged.  Its body is valid until the
 * next call on c; descriptors not taken must be closed with msg_free(). */
int bchan_next(struct bchan *c, struct msg *m);
/* Send or answer, waiting until the kernel has it. */
int bchan_send(struct bchan *c, uint16_t type, slice body, struct err *err);
int bchan_answer(struct bchan *c, uint32_t id, slice body, struct err *err);
int bchan_fail(struct bchan *c, uint32_t id, const struct err *why);
/* Ask and wait for the answer, at most `ms` (-1: for ever); what else comes
 * meanwhile is dropped.  For commands, which have nothing else to do. */
int bchan_call(struct bchan *c, uint16_t type, slice body, int ms,
               struct msg *answer_out, struct err *err);

#endif
