#ifndef BASE_PRIV_H
#define BASE_PRIV_H

/* What only base's own files and tests see. */
#include <stddef.h>
#include <stdint.h>

/* crc32c() without the processor's instruction. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

#endif
