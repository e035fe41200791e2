/* ucontext: makecontext() enters a new stack, sigsetjmp() and siglongjmp()
 * switch (without the system calls of swapcontext()). */

/* The fortified longjmp takes every jump to another stack for a bug. */
#undef _FORTIFY_SOURCE
#include "rt/context.h"

#include <ucontext.h>

/* makecontext() passes ints only; the first jump is made at once, so the
 * context being prepared can stand here. */
static struct context *starting;
static void (*first)(struct context *c); /* the same for all */
static ucontext_t back;

static void trampoline(void)
{
    struct context *c = starting;

    if (sigsetjmp(c->at, 0) == 0)
        (void)setcontext(&back);
    first(c);
}

void context_prepare(struct context *c, void (*entry)(struct context *c))
{
    static ucontext_t start;

    CHECK(getcontext(&start) == 0);
    start.uc_stack.ss_sp = c->stack_lo;
    start.uc_stack.ss_size = c->stack_size;
    start.uc_link = NULL;
    starting = c;
    first = entry;
    makecontext(&start, trampoline, 0);
    CHECK(swapcontext(&back, &start) == 0);
}

void context_jump(struct context *from, struct context *to)
{
    if (sigsetjmp(from->at, 0) == 0)
        siglongjmp(to->at, 1);
}

size_t context_depth(UNUSED const struct context *c)
{
    return 0; /* the C library keeps the stack pointer mangled */
}

void context_backtrace(UNUSED const struct context *c, UNUSED unsigned max,
                       UNUSED void (*fn)(void *arg, uintptr_t pc),
                       UNUSED void *arg)
{
}
