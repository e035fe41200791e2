/* Own assembly: the stack of a new context is laid out as if it had been left
 * by switch_stacks(), whose "return" goes to switch_start. */
#include "rt/context.h"

/* switch_<cpu>.S.  Save the callee-saved registers on the running stack, its
 * stack pointer in *save, and go on where `load` was saved. */
extern void switch_stacks(void **save, void *load);
/* Where a new stack begins: calls the function in one saved register with the
 * argument in another. */
extern void switch_start(void);

#if defined(__x86_64__)
/* As switch_x86_64.S pushes them, lowest address first. */
struct saved {
    uint32_t mxcsr;
    uint16_t x87_cw, pad;
    uint64_t r15, r14, r13, r12, rbx, rbp, rip;
    uint64_t zero[2]; /* return address of the bottom frame, alignment */
};

static void saved_init(struct saved *r, void (*entry)(struct context *c),
                       struct context *c)
{
    *r = (struct saved){
        .r12 = (uintptr_t)entry,
        .r13 = (uintptr_t)c,
        .rip = (uintptr_t)switch_start,
    };
    __asm__("stmxcsr %0" : "=m"(r->mxcsr));
    __asm__("fnstcw %0" : "=m"(r->x87_cw));
}

static uintptr_t saved_fp(const struct saved *r)
{
    return r->rbp;
}

static uintptr_t saved_pc(const struct saved *r)
{
    return r->rip;
}
#elif defined(__aarch64__)
struct saved {
    uint64_t d[8];  /* d8..d15 */
    uint64_t x[10]; /* x19..x28 */
    uint64_t fp, lr;
};

static void saved_init(struct saved *r, void (*entry)(struct context *c),
                       struct context *c)
{
    *r = (struct saved){
        .x = { (uintptr_t)entry, (uintptr_t)c },
        .lr = (uintptr_t)switch_start,
    };
}

static uintptr_t saved_fp(const struct saved *r)
{
    return r->fp;
}

static uintptr_t saved_pc(const struct saved *r)
{
    return r->lr;
}
#else
# error "no assembly for this processor: use -Dtask_backend=ucontext"
#endif

_Static_assert(sizeof(struct saved) % 16 == 0, "stacks are 16-byte aligned");

void context_prepare(struct context *c, void (*entry)(struct context *c))
{
    char *top = c->stack_lo + c->stack_size;
    struct saved *r = (void *)(top - (uintptr_t)top % 16 - sizeof(*r));

    saved_init(r, entry, c);
    c->sp = r;
}

void context_jump(struct context *from, struct context *to)
{
    switch_stacks(&from->sp, to->sp);
}

size_t context_depth(const struct context *c)
{
    if (c->stack_lo == NULL || c->sp == NULL)
        return 0;
    return (size_t)(c->stack_lo + c->stack_size - (char *)c->sp);
}

void context_backtrace(const struct context *c, unsigned max,
                       void (*fn)(void *arg, uintptr_t pc), void *arg)
{
    uintptr_t lo = (uintptr_t)c->stack_lo;
    uintptr_t hi = lo + c->stack_size;
    uintptr_t fp;

    if (c->stack_lo == NULL || c->sp == NULL)
        return;
    fn(arg, saved_pc(c->sp));
    fp = saved_fp(c->sp);
    /* Both ABIs keep {caller's frame pointer, return address} at fp. */
    for (unsigned i = 1; i < max && fp >= lo && fp + 16 <= hi && fp % 8 == 0;
         i++) {
        const uintptr_t *frame = (const void *)(c->stack_lo + (fp - lo));

        fn(arg, frame[1]);
        if (frame[0] <= fp)
            return;
        fp = frame[0];
    }
}
