#ifndef RT_CONTEXT_H
#define RT_CONTEXT_H

/*
 * A context is a place to be switched to: the loop's own stack, or a task's.
 * This is the face of the three back ends (task.h); nothing outside task.c and
 * loop.c includes it.
 *
 *     context_make -> context_switch (to and fro) -> context_leave ->
 * context_free
 *
 * Invariant: all contexts of a process run on the thread that called loop_init,
 * or, with the thread back end, one at a time.
 */
#include "base/base.h"

#ifdef RT_BACKEND_UCONTEXT
# include <setjmp.h>
#endif
#ifdef RT_BACKEND_THREAD
struct baton_thread;
#endif

struct context {
    void *sp;       /* asm: where the registers are saved */
    char *stack_lo; /* usable stack, or NULL for the loop's */
    size_t stack_size;
    void *fake_stack; /* ASan's */
    void (*entry)(void *arg);
    void *arg;
#ifdef RT_BACKEND_UCONTEXT
    sigjmp_buf at;
#endif
#ifdef RT_BACKEND_THREAD
    struct baton_thread *thread;
#endif
};

/* The context of the caller, which runs on the process's first stack. */
void context_main(struct context *c);
/* A context that will run entry(arg) when it is switched to.  `entry` ends by
 * context_leave(), never by returning. */
void context_make(struct context *c, void (*entry)(void *arg), void *arg);
void context_switch(struct context *from, struct context *to);
/* The last switch out of `from`. */
NO_RETURN void context_leave(struct context *from, struct context *to);
/* Give back the stack of a context that was left. */
void context_free(struct context *c);
/* Call fn for up to `max` return addresses of a suspended context. */
void context_backtrace(const struct context *c, unsigned max,
                       void (*fn)(void *arg, uintptr_t pc), void *arg);
/* Bytes of stack between its top and where it is suspended; 0: unknown. */
size_t context_depth(const struct context *c);
/* Give back all pooled stacks or threads. */
void context_pool_drain(void);

/* ---- for the back ends that switch stacks themselves */
void context_prepare(struct context *c, void (*entry)(struct context *c));
void context_jump(struct context *from, struct context *to);

#endif
