#ifndef RT_STREAM_PRIV_H
#define RT_STREAM_PRIV_H

/*
 * The inside of a stream.  Readiness is edge-triggered and remembered, so that
 * a command costs no epoll_ctl(): `in_ready` is false only after the kernel
 * said that there is nothing more (EAGAIN or a short read), and once
 * `is_armed`, new bytes bring an event that sets it again.  A descriptor is
 * registered for reading at its first wait and for writing at its first full
 * socket buffer.
 *
 * Under TLS `io` is that of tls_stream.c, which sits on the one that was there
 * before and moves in_ready itself: there may be bytes in its buffers when the
 * kernel has none.
 *
 * Invariant: while in_ready is false and the stream is not armed, arming
 * reports at once what has come meanwhile (epoll does).
 */
#include "rt/rt_priv.h"

#define STREAM_MAGIC MAGIC('S', 'T', 'R', 'M')

struct stream;

/* What is beneath: descriptors or memory.  Each as read(2) and writev(2) on a
 * non-blocking descriptor: the count, or -1 and errno. */
struct stream_io {
    ssize_t (*read)(struct stream *s, void *p, size_t n);
    ssize_t (*writev)(struct stream *s, const struct iovec *v, int n);
    /* Ask for events; they come through stream_event(). */
    void (*arm_in)(struct stream *s);
    void (*arm_out)(struct stream *s);
    void (*shut_out)(struct stream *s);
    void (*close)(struct stream *s);
};

struct stream {
    struct source source; /* first: epoll points here */
    uint32_t magic;
    int fd;
    int out_fd;
    int16_t broken; /* errno that ended it */
    bool in_armed : 1, out_armed : 1;
    bool in_ready : 1, out_ready : 1;
    bool hung_up : 1; /* the kernel told of the end: read until it shows */
    bool eof : 1;
    bool out_shut : 1;
    bool is_parked : 1;
    bool read_wants_out : 1; /* TLS must answer before it can read on */
    bool is_own : 1;         /* no other process has the descriptor */
    const struct stream_io *io;
    void *side; /* of the io: the other end, the second registration */
    struct tls_conn *tls; /* NULL: plain (tls_stream.c) */
    struct iobuf in, out;
    uint32_t in_max, out_max;
    uint32_t in_next; /* size of the next input buffer */
    uint32_t scanned; /* bytes of `in` known to hold no LF */
    msec deadline;
    struct task *reader, *writer;
    struct timer timer; /* lazy, of the park */
    msec park_deadline;
    void (*park_fn)(void *arg, enum stream_why why);
    void *park_arg;
    struct list link; /* rt_loop.streams */
};

struct stream *stream_new(const struct stream_io *io, int fd, int out_fd);
/* Readiness has come (EPOLLIN, EPOLLOUT, EPOLLHUP …). */
void stream_event(struct stream *s, uint32_t events);
/* Events while parked. */
void stream_parked_event(struct stream *s);
void stream_unpark(struct stream *s);

enum stream_got { GOT_NOTHING, GOT_BYTES, GOT_EOF, GOT_ERROR };
/* Read once if there may be something. */
enum stream_got stream_try_read(struct stream *s);
int stream_broken(const struct stream *s, struct err *err);
/* Until there may be something to read; until the kernel takes more. */
MAY_WAIT int stream_wait_in(struct stream *s, struct err *err);
MAY_WAIT int stream_wait_out(struct stream *s, struct err *err);

extern const struct stream_io stream_fd_io;

#endif
