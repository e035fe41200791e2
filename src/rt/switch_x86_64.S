/*
 * Written from the System V ABI, AMD64 supplement, 3.2.1 and 3.2.3: a call
 * preserves rbx, rbp, r12..r15, rsp, the control bits of MXCSR and the x87
 * control word.  The layout is struct saved in context_asm.c.
 */
    .text

/* void switch_stacks(void **save, void *load) */
    .globl switch_stacks
    .hidden switch_stacks
    .type switch_stacks, @function
    .p2align 4
switch_stacks:
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    pushq %r12
    .cfi_adjust_cfa_offset 8
    pushq %r13
    .cfi_adjust_cfa_offset 8
    pushq %r14
    .cfi_adjust_cfa_offset 8
    pushq %r15
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    /* The other stack looks the same from here, so the CFI stays true. */
    movq %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r15
    .cfi_adjust_cfa_offset -8
    popq %r14
    .cfi_adjust_cfa_offset -8
    popq %r13
    .cfi_adjust_cfa_offset -8
    popq %r12
    .cfi_adjust_cfa_offset -8
    popq %rbx
    .cfi_adjust_cfa_offset -8
    popq %rbp
    .cfi_adjust_cfa_offset -8
    /* A ret would be predicted to go back to our own caller. */
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register rip, rcx
    jmpq *%rcx
    .cfi_endproc
    .size switch_stacks, . - switch_stacks

/* The bottom frame: rbp is 0, and so is the return address above. */
    .globl switch_start
    .hidden switch_start
    .type switch_start, @function
    .p2align 4
switch_start:
    .cfi_startproc
    .cfi_undefined rip
    movq %r13, %rdi
    callq *%r12
    ud2
    .cfi_endproc
    .size switch_start, . - switch_start

    .section .note.GNU-stack, "", @progbits
