#ifndef IPC_CHAN_H
#define IPC_CHAN_H

/*
 * A channel: framed messages both ways over one UNIX stream socket.  Frame:
 *
 *     u32 length of body   u16 type   u8 flags (1 answer, 2 failed)   u8 n_fds
 *     u32 call id (0: no answer wanted)   body (codec attributes)
 *
 * Output is collected and written once per turn of the loop, so that many small
 * messages share a system call.  Descriptors keep their order and arrive with
 * their frame.  The first frame each way is a hello (release, features).
 *
 * A process that wants to leave says chan_bye(): the peer's link opens a new
 * channel for what it asks from then on, waits for the answers that are still
 * due and closes the old one, so that a drained process loses no call.
 */
#include "base/base.h"
#include "base/clock.h"
#include "base/codec.h"
#include "rt/rt.h"

#define CHAN_MAX_BYTES (4u << 20)
#define CHAN_MAX_FDS   8

struct chan;

struct msg {
    uint16_t type;
    uint32_t id; /* call id; 0 when the sender wants no answer */
    slice body;  /* attributes; valid during the handler, or until msg_free */
    int fds[CHAN_MAX_FDS]; /* taken over by setting the entry to -1; the rest
                            * are closed after the handler */
    size_t n_fds;
    void *heap; /* owned copy of body, when any */
};

struct chan_ops {
    /* A message arrived.  Runs on the loop, outside any task: must not wait;
     * to wait, task_spawn() with msg_take(), or use chan_serve. */
    void (*on_msg)(struct chan *c, struct msg *m, void *arg);
    /* As on_msg, but in a task of its own with an owned copy of m, freed after
     * the return; at most `max_tasks` (0: 1024) at once, then reading stops.
     * Used when on_msg is NULL. */
    MAY_WAIT void (*serve)(struct chan *c, struct msg *m, void *arg);
    unsigned max_tasks;
    /* The peer is gone (or chan_close from a failure); pending calls have been
     * answered with ERR_TEMP.  The owner frees the channel here or later. */
    void (*on_close)(struct chan *c, void *arg);
    /* The peer said chan_bye(): send no new call here.  May be NULL. */
    void (*on_bye)(struct chan *c, void *arg);
};

/* Take over a connected socket.  `ops` must outlive the channel. */
struct chan *chan_new(int fd, const struct chan_ops *ops, void *arg);
/* Close and free; pending calls get ERR_TEMP.  NULL is fine, sets NULL. */
void chan_free(struct chan **c);
bool chan_is_open(const struct chan *c);
/* Who answers later than the handler's end holds a reference: the memory stays
 * (the channel may be closed meanwhile; then answers go nowhere). */
struct chan *chan_ref(struct chan *c);
void chan_unref(struct chan **c);
/* Ask the peer to send no new calls here and to close when it is served. */
void chan_bye(struct chan *c);
/* Calls of ours that are still without answer. */
size_t chan_pending(const struct chan *c);
void *chan_arg(const struct chan *c);
uint64_t chan_peer_features(const struct chan *c);

/* Queue a message without answer.  fds are duplicated: the caller keeps his.
 * -1 (ERR_TEMP) when closed or when more than 16 MiB wait to be written. */
int chan_send(struct chan *c, uint16_t type, slice body, const int *fds,
              size_t n_fds, struct err *err);
/* Ask and wait for the answer.  The answer is owned by the caller: msg_free().
 * A failed answer (chan_fail) becomes the err it carries. */
MAY_WAIT int chan_call(struct chan *c, uint16_t type, slice body,
                       const int *fds, size_t n_fds, msec deadline,
                       struct msg *answer_out, struct err *err);
/* Answer call `id`.  Nothing happens for id 0 or a closed channel. */
void chan_answer(struct chan *c, uint32_t id, slice body, const int *fds,
                 size_t n_fds);
void chan_fail(struct chan *c, uint32_t id, const struct err *why);
/* The same for a body of any length: one that is longer than a frame goes in
 * memory that is passed as a descriptor (big.c).  Only where the other side
 * reads it by msg_read_big(). */
void chan_answer_big(struct chan *c, uint32_t id, slice body);
/* The body of such an answer: the message's own, or read into `b`, whose
 * maximum is the limit.  Good as long as both are.  The bytes are copied: who
 * sent them cannot change them any more. */
int msg_read_big(const struct msg *m, struct buf *b, slice *out,
                 struct err *err);
/* Wait until all output has been given to the kernel. */
MAY_WAIT int chan_flush(struct chan *c, msec deadline, struct err *err);
/* Stop / resume reading (back pressure). */
void chan_pause(struct chan *c, bool paused);

struct msg *msg_take(struct msg *m); /* heap copy that owns body and fds */
void msg_free(struct msg *m);        /* contents only: closes fds left */
void msg_delete(struct msg **m);     /* msg_free() and free() */

/* A connected pair of sockets for a channel or a stream, close-on-exec and
 * non-blocking. */
int chan_socketpair(int fds[2], struct err *err);

#endif
