#ifndef RT_RT_H
#define RT_RT_H

/*
 * rt - the run time: one loop per process, tasks on it, and everything that
 * waits.
 *
 * Protocol code is straight-line code in a *task*, a stackful coroutine on a
 * pooled stack.  A task exists while work is being done, not while a
 * connection is quiet: stream_park() registers a small struct with the loop and
 * the task ends; input, end of file or the deadline starts a fresh task.
 * 100,000 quiet sessions cost structs only.
 *
 *     loop_init -> (spawn tasks, set listeners, timers) -> loop_run ->
 * loop_done
 *
 * This is the only room that knows libuv and OpenSSL's SSL.  Headers:
 * rt.h (loop, timers, signals, listeners, offload), task.h, stream.h,
 * proc.h (children, descriptor passing), sandbox.h, file.h (every call that
 * changes a disk, recorded in the crash-test build).
 *
 * Invariants: (1) one thread runs program logic; a task never changes thread;
 * (2) every wait has a deadline and is ended early, with ERR_PEER, by
 * task_cancel(); (3) a suspended stack is never freed; (4) the loop never
 * blocks on the disk: fsync and cold reads go through offload(); (5) between
 * two waits code is atomic; after a wait, re-read shared state.
 */

#include "base/base.h"
#include "base/clock.h"
#include "base/heap.h"
#include "rt/task.h"

/* Make the process's one loop.  Raises RLIMIT_NOFILE to its hard limit.
 * Ignores SIGPIPE.  `n_threads` is the size of offload's pool (0: 4). */
void loop_init(const char *process_name, unsigned n_threads);
/* Run until loop_stop(), then return.  Not a task. */
void loop_run(void);
void loop_stop(void);
void loop_done(void);
/* Stop by itself when nothing but `background` watches is left (tests). */
void loop_run_until_idle(void);
/* getpid() without asking the kernel; a forked child has its own. */
pid_t loop_pid(void);
/* Cached time of this turn of the loop, clock_mono() otherwise the same. */
msec loop_now(void);
/* That, `ms` later: for deadlines that do not care for milliseconds. */
msec loop_after(msec ms);
/* A turn of more than this long without a wait is told through
 * loop_on_stall (default: 50 ms, NULL hook). */
extern void (*loop_on_stall)(const char *task_name, msec took);

/* ---- timers: not waits; fn runs on the loop, outside any task, and must not
 * wait (it may spawn).  Embed the struct; zeroed is valid and unset. */
struct timer {
    struct heap_node node;
    void (*fn)(struct timer *t);
};

void timer_set(struct timer *t, msec at, void (*fn)(struct timer *t));
void timer_cancel(struct timer *t);
bool timer_is_set(const struct timer *t);

/* Run fn(arg) once, on the loop, after the current turn's tasks ran and before
 * the loop sleeps: the place to flush batches.  Setting a set one is a no-op.
 */
struct deferred {
    struct list link; /* zeroed is unset */
    void (*fn)(struct deferred *d);
    bool is_set;
};

void deferred_set(struct deferred *d, void (*fn)(struct deferred *d));
void deferred_cancel(struct deferred *d);

/* ---- signals; fn runs on the loop, outside any task. */
void signal_on(int signo, void (*fn)(int signo, void *arg), void *arg);

/* ---- offload: park this task while a pool thread runs fn(arg); returns what
 * fn returned.  Not cancellable (the thread cannot be stopped); errno of the
 * thread is carried over.  fn touches only what arg points to.  Called outside
 * a task it simply runs fn. */
MAY_WAIT int offload(int (*fn)(void *arg), void *arg);
/* Fire and forget: run fn(arg) on a pool thread, then done(arg, result) on the
 * loop. */
void offload_bg(int (*fn)(void *arg), void (*done)(void *arg, int result),
                void *arg);

/* ---- readiness of a foreign descriptor. */
enum { WATCH_READ = 1, WATCH_WRITE = 2 };

/* Wait until fd is ready for one of `events` or has an error.  0, or -1 at the
 * deadline (ERR_TEMP) or cancel (ERR_PEER). */
MAY_WAIT int fd_wait(int fd, int events, msec deadline, struct err *err);
struct fd_watch;
/* Call fn on the loop (outside tasks) whenever fd is ready, level-triggered. */
struct fd_watch *fd_watch_new(int fd, int events,
                              void (*fn)(void *arg, int events), void *arg);
void fd_watch_free(struct fd_watch **w); /* does not close fd */

/* ---- listeners */
struct listener;

struct peer_addr {
    int family;     /* AF_INET, AF_INET6, AF_UNIX */
    uint16_t port;  /* host order */
    char text[64];  /* "192.0.2.1", "2001:db8::1", "" for UNIX */
    uint8_t ip[16]; /* IPv4 in the first four */
    uid_t uid;      /* AF_UNIX: the peer's credentials, else (uid_t)-1 */
    gid_t gid;
    pid_t pid;
};
/* fn runs on the loop, outside any task, and takes over fd (non-blocking,
 * close-on-exec; TCP_NODELAY set).  v4-mapped addresses appear as IPv4.
 * Does not close `fd` at free.  Descriptor shortage pauses and retries. */
struct listener *listener_new(int fd,
                              void (*fn)(int fd, const struct peer_addr *peer,
                                         void *arg),
                              void *arg);
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
void listener_free(struct listener **l);

/* Fill `out` from the socket's peer / local name.  0 or -1. */
int peer_addr_of(int fd, struct peer_addr *out, struct err *err);
int local_addr_of(int fd, struct peer_addr *out, struct err *err);

/* Connected/bound sockets; numeric addresses only (no resolver here).
 * `where`: "unix:/path", "inet:127.0.0.1:25", "inet:[::1]:25". */
MAY_WAIT int socket_connect(slice where, msec deadline, int *fd_out,
                            struct err *err);
/* The same from an address of ours ("inet:192.0.2.1:0"; "": any). */
MAY_WAIT int socket_connect_from(slice where, slice from, msec deadline,
                                 int *fd_out, struct err *err);

enum { LISTEN_REUSEPORT = 1 };

int socket_listen(slice where, int backlog, unsigned flags, mode_t unix_mode,
                  int *fd_out, struct err *err);

/* One line a live task and each open stream; for the panic dump and status. */
void rt_dump(struct buf *out);

#endif
