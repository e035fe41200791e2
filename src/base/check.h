#ifndef BASE_CHECK_H
#define BASE_CHECK_H

/*
 * CHECK() states what must hold unless the program is wrong.  It is on in
 * production: a failed check writes the place, the text and the panic dump to
 * standard error (and to whatever hook the process installed) and aborts.
 * Never CHECK what a peer, a file or the system can cause: that is an err.
 */
#include <stdint.h>

__attribute__((noreturn)) void check_failed(const char *file, int line,
                                            const char *what);
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *fmt,
                                                           ...);

/* Called once by check_failed() and panic() before abort(), with the text;
 * rt installs one that dumps the tasks and the long-lived objects. */
extern void (*check_hook)(const char *text);

#define CHECK(cond)                                                            \
 do {                                                                          \
  if (__builtin_expect(!(cond), 0))                                            \
   check_failed(__FILE__, __LINE__, #cond);                                    \
 } while (0)

/* Long-lived structs start with `uint32_t magic`.  MAGIC('S','E','S','S'). */
#define MAGIC(a, b, c, d)                                                      \
 ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 |                   \
  (uint32_t)(d) << 24)
#define CHECK_OBJ(p, m) CHECK((p) != NULL && (p)->magic == (m))

#endif
