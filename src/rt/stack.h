#ifndef RT_STACK_H
#define RT_STACK_H

/*
 * The pool of stacks.  A stack is 128 KiB of address space (1 MiB under ASan)
 * with a guard page at its low end; only what was touched costs memory.  The
 * pool keeps a bounded number of idle ones; one that was used more deeply than
 * 16 KiB gives the pages below that back first.
 */
#include <stddef.h>

void stack_get(char **lo_out, size_t *size_out);
void stack_put(char *lo, size_t size);
void stack_pool_drain(void);
/* Mappings made and not yet unmapped, for tests and benchmarks. */
size_t stack_count(void);

#endif
