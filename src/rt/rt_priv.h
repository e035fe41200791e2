#ifndef RT_PRIV_H
#define RT_PRIV_H

/*
 * What the files of rt share: the loop's state, sources of readiness, and the
 * inside of a task.
 *
 * The loop waits in one epoll descriptor of ours.  Libuv (signals) is embedded:
 * its back-end descriptor is one source among the others, so that a turn in
 * which only sockets are ready costs one epoll_wait().
 */
#include "rt/context.h"
#include "rt/rt.h"
#include "rt/stream.h"

#include <sys/epoll.h>
#include <uv.h>

/* ---- sources: what epoll's user data points to.  The first member of what
 * is registered. */
struct source {
    void (*fn)(struct source *src, uint32_t events);
};

/* 0 or -1 and errno (EPERM: a regular file, always ready). */
int source_add(int fd, uint32_t events, struct source *src);
int source_mod(int fd, uint32_t events, struct source *src);
/* Also forgets events that were fetched and not dispatched yet. */
void source_del(int fd, struct source *src);
/* Only the latter: the descriptor is about to be closed, and no other process
 * has a duplicate of it. */
void source_forget(struct source *src);

/* ---- the loop */
struct loop {
    bool is_open;
    bool is_running;
    bool is_stopping;
    bool is_until_idle;
    bool uv_dirty; /* libuv must look at its queues before we sleep */
    int epoll_fd;
    pid_t pid; /* who made it: a forked child must not touch epoll_fd */
    msec now;
    uint64_t n_turns;
    struct heap timers;
    struct list deferred;
    struct list tasks;   /* all */
    struct list ready;   /* to be run in this turn */
    struct list yielded; /* in the next */
    struct list streams; /* all */
    size_t n_tasks;
    size_t n_lazy;   /* timers in the heap that nobody waits for (timer.c) */
    size_t n_parked; /* streams */
    size_t n_background; /* offload_bg() not done */
    size_t n_children;   /* proc_on_exit() not called */
    uint64_t seed;       /* of the order of ready tasks; 0: FIFO */
    struct context context;
    struct epoll_event *batch;
    int n_batch;
    char name[32];
    uv_loop_t uv;
    uv_async_t keep_alive; /* without a handle uv_run() does not poll */
    struct source uv_source;
};
extern struct loop rt_loop;
extern struct loop rt_parent_loop; /* in a forked child */

/* For system calls that take what they do not change without const. */
static inline void *unconst(const void *p)
{
    void *out;

    memcpy(&out, &p, sizeof(out));
    return out;
}

/* Real milliseconds, whatever the test clock says. */
int64_t real_ms_coarse(void);
int64_t real_ms(void);
/* Tell loop_on_stall what ran from `since` (real_ms_coarse) until now. */
void stall_check(const char *name, int64_t since);
/* The soft limit of descriptors before loop_init() raised it; 0: unknown. */
uint64_t loop_old_nofile(void);

/* ---- timers that stay in the heap when nobody waits for them any more, so
 * that a later deadline costs nothing.  fn is called when the key has come; it
 * decides whether the owner waits, and calls lazy_timer_set() again if for
 * longer. */
void lazy_timer_set(struct timer *t, msec at, void (*fn)(struct timer *t));
void lazy_timer_drop(struct timer *t);
void timers_run(msec now);
msec timers_next(void); /* MSEC_NEVER: none */
size_t timers_live(void);

/* ---- tasks */
enum task_state { TASK_READY = 1, TASK_RUNNING, TASK_WAITING, TASK_GONE };

enum wait_kind {
    WAIT_WAKE,  /* ended by wake, deadline, cancel */
    WAIT_SLEEP, /* by deadline, cancel; wakes are remembered */
    WAIT_FIRM,  /* by task_resume() only: offload */
};

enum wait_end { WAIT_WOKEN, WAIT_DEADLINE, WAIT_CANCELLED };

/* Run what is ready now, at most a bounded number of tasks. */
void tasks_run(void);
/* What task_wait() is made of. */
MAY_WAIT enum wait_end task_block(enum wait_kind kind, msec deadline);
/* Turn the end of a wait into 0 or -1 and an error. */
int wait_result(enum wait_end end, struct err *err);
/* End a WAIT_FIRM. */
void task_resume(struct task *t);
/* Start fn(arg, why). */
struct task *task_spawn_why(const char *name,
                            void (*fn)(void *arg, enum stream_why why),
                            void *arg, enum stream_why why);
const char *task_name(const struct task *t);
void tasks_cancel_all(void);
/* In a forked child. */
void tasks_forget(void);
void tasks_dump(struct buf *out);
void streams_dump(struct buf *out);

/* ---- pooled input and output buffers of streams */
enum { IOBUF_MIN = 4096, IOBUF_MAX = 65536 };

struct iobuf {
    char *p; /* NULL: none */
    uint32_t size;
    uint32_t from, to; /* the bytes in it */
};

static inline size_t iobuf_used(const struct iobuf *b)
{
    return b->to - b->from;
}

/* Give the memory back; what is in it is lost. */
void iobuf_free(struct iobuf *b);
/* Room for `n` more bytes behind `to`, by moving or by a larger buffer. */
void iobuf_room(struct iobuf *b, size_t n);
void iobuf_pool_drain(void);

/* ---- OpenSSL's memory (tls_mem.c): before its first use */
void tls_memory_setup(void);

/* ---- the pool of threads: of a loop, and forgotten in a forked child */
void offload_open(unsigned n_threads);
void offload_close(void);
void offload_forget(void);

/* ---- children */
void children_forget(void);
void proc_prepare(void); /* before a sandbox is entered */
/* proc_spawn() in a process group of its own. */
struct proc_spec;
int proc_spawn_group(const struct proc_spec *spec, pid_t *pid_out,
                     struct err *err);

#endif
