#ifndef BASE_PRIV_H
#define BASE_PRIV_H

/* What only base's own files and tests see. */
#include <stddef.h>
#include <stdint.h>

#if defined(__has_include)
# if __has_include(<valgrind/valgrind.h>)
#  include <valgrind/valgrind.h>
# endif
#endif
#ifndef RUNNING_ON_VALGRIND
# define RUNNING_ON_VALGRIND 0
#endif

/* crc32c() without the processor's instruction. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

/* Where each allocation has to be one of malloc's own, so that the tools see
 * every overrun and every late use. */
#if defined(__SANITIZE_ADDRESS__)
# define HAS_ASAN 1
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define HAS_ASAN 1
# endif
#endif
#ifndef HAS_ASAN
# define HAS_ASAN 0
#endif

/* Memory of `size` bytes from malloc; of the usual larger sizes (powers of two
 * from 2 to 16 KiB) a few are kept for the next who asks, as each message takes
 * and gives back the same ones and malloc is slow above 1 KiB.  Either may be
 * given to free() instead. */
enum { BLOCK_MAX = 16384 };

void *block_get(size_t size);
void block_put(void *p, size_t size); /* of that size, or NULL */

#endif
