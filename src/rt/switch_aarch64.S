/*
 * Written from the Procedure Call Standard for the Arm 64-bit Architecture,
 * 6.1.1 and 6.1.2: a call preserves x19..x29, sp and the low halves of v8..v15
 * (d8..d15); x30 is where it returns to.  FPCR is process-wide state that a call
 * does not change.  The layout is struct saved in context_asm.c.
 */
    .text

/* void switch_stacks(void **save, void *load) */
    .globl switch_stacks
    .hidden switch_stacks
    .type switch_stacks, %function
    .p2align 4
switch_stacks:
    .cfi_startproc
    sub sp, sp, #160
    .cfi_adjust_cfa_offset 160
    stp d8, d9, [sp, #0]
    stp d10, d11, [sp, #16]
    stp d12, d13, [sp, #32]
    stp d14, d15, [sp, #48]
    stp x19, x20, [sp, #64]
    stp x21, x22, [sp, #80]
    stp x23, x24, [sp, #96]
    stp x25, x26, [sp, #112]
    stp x27, x28, [sp, #128]
    stp x29, x30, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp d8, d9, [sp, #0]
    ldp d10, d11, [sp, #16]
    ldp d12, d13, [sp, #32]
    ldp d14, d15, [sp, #48]
    ldp x19, x20, [sp, #64]
    ldp x21, x22, [sp, #80]
    ldp x23, x24, [sp, #96]
    ldp x25, x26, [sp, #112]
    ldp x27, x28, [sp, #128]
    ldp x29, x30, [sp, #144]
    add sp, sp, #160
    .cfi_adjust_cfa_offset -160
    br x30
    .cfi_endproc
    .size switch_stacks, . - switch_stacks

/* The bottom frame: the frame pointer is 0, and there is nowhere to return. */
    .globl switch_start
    .hidden switch_start
    .type switch_start, %function
    .p2align 4
switch_start:
    .cfi_startproc
    .cfi_undefined x30
    mov x29, xzr
    mov x30, xzr
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size switch_start, . - switch_start

    .section .note.GNU-stack, "", %progbits
