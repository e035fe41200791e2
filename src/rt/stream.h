#ifndef RT_STREAM_H
#define RT_STREAM_H

/*
 * A stream is a byte connection with buffers: TCP, UNIX, pipe, memory, and
 * TLS over any of them (tls.h) behind one face.  Input: stream_fill() waits for
 * bytes, stream_peek() shows what is buffered, stream_consume() drops from its
 * front. Output: stream_write() collects, stream_flush() waits until the kernel
 * has all of it; a full output buffer flushes by itself.  Buffers are taken
 * from a pool when needed and given back when empty, so that a quiet stream is
 * one small struct.
 *
 * Errors: ERR_PEER when the peer is gone or the task was cancelled, ERR_TEMP at
 * the deadline.  End of input is not an error: stream_fill() returns 0 with
 * stream_eof() true.  One task reads and one (possibly another) writes at a
 * time.
 */
#include "base/base.h"
#include "base/clock.h"

struct stream;

/* Take over a connected, non-blocking socket (or pipe end). */
struct stream *stream_from_fd(int fd);
/* The same for a descriptor that no other process has nor will get, as one that
 * was just accepted: closing it ends its registration with the loop. */
struct stream *stream_from_own_fd(int fd);
/* Pipe ends: in_fd for reading, out_fd for writing; may be equal or -1. */
struct stream *stream_from_fds(int in_fd, int out_fd);
/* Two connected streams in memory, for tests. */
void stream_pair(struct stream **a, struct stream **b);
void stream_free(struct stream **s); /* closes at once; unsent output is lost */

/* Deadline of every later wait, absolute on clock_mono(). */
void stream_deadline(struct stream *s, msec at);
/* Upper bounds of the buffers; default 64 KiB in, 32 KiB out. */
void stream_limits(struct stream *s, size_t in_max, size_t out_max);
/* About `n` bytes of input are on their way: the next buffer takes them in one
 * read, as far as one buffer of the pool (64 KiB) does. */
void stream_expect(struct stream *s, size_t n);

/* ---- input */
slice stream_peek(const struct stream *s);
void stream_consume(struct stream *s, size_t n);
/* Put bytes in front of what is buffered, as if they had just come: those that
 * somebody else read before he gave the connection away.  At most 64 KiB in
 * all. */
void stream_unread(struct stream *s, slice bytes);
/* Wait until more bytes are buffered than before, or end of input.  Full
 * buffer is a bug of the caller (CHECK).  0 or -1. */
MAY_WAIT int stream_fill(struct stream *s, struct err *err);
/* Take what is there without waiting; true when bytes were added. */
bool stream_fill_now(struct stream *s);
bool stream_eof(const struct stream *s);
/* Next line with its LF (or CRLF) still on it, a view valid until the next
 * call on s; consumed already.  Longer than max: ERR_PERM, nothing consumed.
 * End of input before LF: ERR_PEER. */
MAY_WAIT int stream_line(struct stream *s, size_t max, slice *line,
                         struct err *err);
/* True when the buffer holds a whole line. */
bool stream_has_line(const struct stream *s);
/* Exactly n bytes into dst. */
MAY_WAIT int stream_read_exact(struct stream *s, void *dst, size_t n,
                               struct err *err);

/* ---- output */
MAY_WAIT int stream_write(struct stream *s, slice data, struct err *err);
MAY_WAIT int stream_puts(struct stream *s, const char *text, struct err *err);
MAY_WAIT int stream_printf(struct stream *s, struct err *err, const char *fmt,
                           ...) __attribute__((format(printf, 3, 4)));
MAY_WAIT int stream_flush(struct stream *s, struct err *err);
size_t stream_unsent(const struct stream *s);
/* Half-close: flush, then no more output. */
MAY_WAIT int stream_shutdown(struct stream *s, struct err *err);

/* ---- quiet sessions */
enum stream_why { STREAM_INPUT, STREAM_EOF, STREAM_DEADLINE, STREAM_KICKED };

/* Register with the loop and let the calling task end.  One-shot: when input
 * or end of file is there, or at `deadline`, or at stream_kick(), fn(arg, why)
 * runs as a new task.  If bytes are already buffered it fires in this turn.
 * Unsent output must have been flushed. */
void stream_park(struct stream *s, msec deadline,
                 void (*fn)(void *arg, enum stream_why why), void *arg);
/* Wake a parked stream with STREAM_KICKED; nothing when it is not parked. */
void stream_kick(struct stream *s);
bool stream_is_parked(const struct stream *s);

int stream_fd(const struct stream *s); /* for socket options, or -1 */
/* Give the descriptor away (no TLS, buffers empty); frees the stream. */
int stream_release_fd(struct stream **s);

#endif
