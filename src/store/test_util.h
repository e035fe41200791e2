#ifndef STORE_TEST_UTIL_H
#define STORE_TEST_UTIL_H

/* A store in a directory of its own, and letters for it; for the tests of this
 * room. */

#include "store/store_priv.h"

#include "base/test_util.h"

struct bench {
    char dir[64];
    struct engine *engine;
    struct store *store;
    struct store_config cfg;
    unsigned n_notes;
};

void bench_open(struct bench *b);
/* Close and open the store, as another start of the server. */
void bench_restart(struct bench *b);
/* The same without the store knowing: what a SIGKILL leaves. */
void bench_close(struct bench *b);
/* "maildir:DIR/user" in a static buffer. */
slice bench_location(const struct bench *b, const char *user);
/* DIR/user/rest in a static buffer. */
const char *bench_path(const struct bench *b, const char *rest);
/* Delivery id number n. */
void bench_id(uint8_t id[static 16], uint64_t n);
/* Deliver `text` to one user under id n; the recipient as it came back. */
const struct store_rcpt *bench_deliver(struct bench *b, const char *user,
                                       uint64_t n, const char *text);
struct store_mailbox *bench_mailbox(struct bench *b, const char *user,
                                    const char *name);
size_t bench_files(const struct bench *b, const char *dir);
void bench_shell(const struct bench *b, const char *fmt, ...) PRINTF(2, 3);

#endif
