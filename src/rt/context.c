/* What the back ends that switch stacks themselves have in common: a pooled
 * stack, and telling ASan of each switch. */
#include "rt/context.h"

#include "rt/stack.h"

#if defined(__SANITIZE_ADDRESS__)
# define RT_ASAN 1
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define RT_ASAN 1
# endif
#endif

#ifdef RT_ASAN
# include <sanitizer/common_interface_defs.h>
/* The bounds of the loop's stack, learned at the first switch out of it. */
static const void *main_lo;
static size_t main_size;

static void leave_begin(void **save, const struct context *to)
{
    __sanitizer_start_switch_fiber(save, to->stack_lo ? to->stack_lo : main_lo,
                                   to->stack_lo ? to->stack_size : main_size);
}

static void enter_end(void *saved)
{
    const void *lo;
    size_t size;

    __sanitizer_finish_switch_fiber(saved, &lo, &size);
    if (saved == NULL) {
        /* A first entry comes from the loop. */
        main_lo = lo;
        main_size = size;
    }
}
#else
static inline void leave_begin(UNUSED void **save,
                               UNUSED const struct context *to)
{
}

static inline void enter_end(UNUSED void *saved)
{
}
#endif

static void first_entry(struct context *c)
{
    enter_end(NULL);
    c->entry(c->arg);
    panic("a task's entry returned");
}

void context_main(struct context *c)
{
    memset(c, 0, sizeof(*c));
}

void context_make(struct context *c, void (*entry)(void *arg), void *arg)
{
    memset(c, 0, sizeof(*c));
    stack_get(&c->stack_lo, &c->stack_size);
    c->entry = entry;
    c->arg = arg;
    context_prepare(c, first_entry);
}

void context_switch(struct context *from, struct context *to)
{
    leave_begin(&from->fake_stack, to);
    context_jump(from, to);
    enter_end(from->fake_stack);
}

void context_leave(struct context *from, struct context *to)
{
    leave_begin(NULL, to);
    context_jump(from, to);
    panic("a task that ended was switched to");
}

void context_free(struct context *c)
{
    if (c->stack_lo != NULL)
        stack_put(c->stack_lo, c->stack_size);
    c->stack_lo = NULL;
}

void context_pool_drain(void)
{
    stack_pool_drain();
}
