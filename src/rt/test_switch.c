/*
 * The assembly alone: without the loop and without cmocka, so that it can be
 * cross-built and run under qemu-user.  Two contexts go to and fro with values
 * of their own in every callee-saved register.
 */
#include "rt/context.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__)
enum { N_REGS = 5, N_FLOATS = 0 };

/* Fill rbx and r12..r15, call fn(arg), and say what they hold then. */
static void around(const uint64_t in[N_REGS], uint64_t out[N_REGS],
                   void (*fn)(void *arg), void *arg)
{
    uint64_t save[2] = { (uint64_t)(uintptr_t)fn, (uint64_t)(uintptr_t)arg };
    const void *ends[3] = { in, out, save };
    const void **at = ends;

    __asm__ volatile("subq $136, %%rsp\n" /* beyond the red zone, aligned */
                     "pushq %%rax\n"
                     "movq (%%rax), %%rcx\n"
                     "movq 16(%%rax), %%rdx\n"
                     "movq 0(%%rcx), %%rbx\n"
                     "movq 8(%%rcx), %%r12\n"
                     "movq 16(%%rcx), %%r13\n"
                     "movq 24(%%rcx), %%r14\n"
                     "movq 32(%%rcx), %%r15\n"
                     "movq 8(%%rdx), %%rdi\n"
                     "callq *0(%%rdx)\n"
                     "popq %%rax\n"
                     "movq 8(%%rax), %%rcx\n"
                     "movq %%rbx, 0(%%rcx)\n"
                     "movq %%r12, 8(%%rcx)\n"
                     "movq %%r13, 16(%%rcx)\n"
                     "movq %%r14, 24(%%rcx)\n"
                     "movq %%r15, 32(%%rcx)\n"
                     "addq $136, %%rsp\n"
                     : "+a"(at)
                     :
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
                       "r11", "r12", "r13", "r14", "r15", "memory", "cc",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7");
}

static uint32_t control_get(void)
{
    uint32_t mxcsr;

    __asm__("stmxcsr %0" : "=m"(mxcsr));
    return mxcsr;
}

/* The rounding mode, which a call preserves. */
static void control_set(unsigned mode)
{
    uint32_t mxcsr = (control_get() & ~0x6000u) | (mode & 3) << 13;
    uint16_t cw = (uint16_t)(0x037f | (mode & 3) << 10);

    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fldcw %0" : : "m"(cw));
}

static bool control_is(unsigned mode)
{
    uint16_t cw;

    __asm__("fnstcw %0" : "=m"(cw));
    return ((control_get() >> 13) & 3) == (mode & 3) &&
           ((cw >> 10) & 3) == (mode & 3);
}
#else
enum { N_REGS = 18 };

/* Fill x19..x28 and d8..d15, call fn(arg), and say what they hold then. */
static void around(const uint64_t in[N_REGS], uint64_t out[N_REGS],
                   void (*fn)(void *arg), void *arg)
{
    const void *ends[4] = { in, out, (void *)(uintptr_t)fn, arg };
    register const void **at __asm__("x9") = ends;

    __asm__ volatile("sub sp, sp, #32\n"
                     "str %0, [sp]\n"
                     "ldr x10, [%0, #16]\n"
                     "ldr x0, [%0, #24]\n"
                     "ldr x9, [%0]\n"
                     "ldp x19, x20, [x9, #0]\n"
                     "ldp x21, x22, [x9, #16]\n"
                     "ldp x23, x24, [x9, #32]\n"
                     "ldp x25, x26, [x9, #48]\n"
                     "ldp x27, x28, [x9, #64]\n"
                     "ldp d8, d9, [x9, #80]\n"
                     "ldp d10, d11, [x9, #96]\n"
                     "ldp d12, d13, [x9, #112]\n"
                     "ldp d14, d15, [x9, #128]\n"
                     "blr x10\n"
                     "ldr x9, [sp]\n"
                     "ldr x9, [x9, #8]\n"
                     "stp x19, x20, [x9, #0]\n"
                     "stp x21, x22, [x9, #16]\n"
                     "stp x23, x24, [x9, #32]\n"
                     "stp x25, x26, [x9, #48]\n"
                     "stp x27, x28, [x9, #64]\n"
                     "stp d8, d9, [x9, #80]\n"
                     "stp d10, d11, [x9, #96]\n"
                     "stp d12, d13, [x9, #112]\n"
                     "stp d14, d15, [x9, #128]\n"
                     "add sp, sp, #32\n"
                     : "+r"(at)
                     :
                     : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8",
                       "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                       "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
                       "x26", "x27", "x28", "x30", "d8", "d9", "d10", "d11",
                       "d12", "d13", "d14", "d15", "memory", "cc");
}

static void control_set(UNUSED unsigned mode)
{
}

static bool control_is(UNUSED unsigned mode)
{
    return true;
}
#endif

enum { N_TASKS = 3, ROUNDS = 1000, STACK = 65536 };

static struct context main_context;
static struct context contexts[N_TASKS];
static unsigned running;
static int failures;

static void expect(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "task %u: %s\n", running, what);
    failures++;
}

static void to_main(void *arg)
{
    context_jump(arg, &main_context);
}

static void task(struct context *c)
{
    unsigned id = (unsigned)(c - contexts);

    expect((uintptr_t)__builtin_frame_address(0) % 16 == 0 ||
               sizeof(void *) != 8,
           "the stack is not aligned");
    control_set(id);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t in[N_REGS], out[N_REGS] = { 0 };

        for (unsigned i = 0; i < N_REGS; i++)
            in[i] = (id + 1) * 0x0101010101010101u + (round << 20) + i;
        around(in, out, to_main, c);
        for (unsigned i = 0; i < N_REGS; i++)
            expect(in[i] == out[i], "a register changed");
        expect(control_is(id), "the rounding mode changed");
    }
    for (;;)
        to_main(c);
}

static void count_frames(void *arg, uintptr_t pc)
{
    expect(pc != 0, "no return address");
    ++*(unsigned *)arg;
}

int main(void)
{
    control_set(0);
    for (unsigned i = 0; i < N_TASKS; i++) {
        contexts[i].stack_size = STACK;
        contexts[i].stack_lo = malloc(STACK);
        if (contexts[i].stack_lo == NULL)
            return 1;
        context_prepare(&contexts[i], task);
    }
    for (int round = 0; round <= ROUNDS; round++) {
        for (running = 0; running < N_TASKS; running++) {
            context_jump(&main_context, &contexts[running]);
            expect(control_is(0), "the loop's rounding mode changed");
        }
    }
    for (running = 0; running < N_TASKS; running++) {
        unsigned frames = 0;

        expect(context_depth(&contexts[running]) < 4096, "depth");
        context_backtrace(&contexts[running], 50, count_frames, &frames);
        /* It ends by itself at the zero frame pointer of the bottom. */
        expect(frames >= 2 && frames < 10, "the backtrace has no end");
        free(contexts[running].stack_lo);
    }
    if (failures == 0)
        (void)puts("ok");
    return failures == 0 ? 0 : 1;
}
