#ifndef IMAP_TEST_UTIL_H
#define IMAP_TEST_UTIL_H

/* A server over a store in a directory of its own, and clients over memory. */
#include "imap/imap_priv.h"

#include "base/test_util.h"
#include "engine/engine.h"

struct bench {
    char dir[64];
    struct engine *engine;
    struct store *store;
    struct conf *conf;
    struct imap_server *server;
    unsigned n_ended;
    unsigned n_deliveries;
    /* of parts.park and parts.push */
    unsigned n_parked;
    uint64_t park_read, park_written;
    struct buf pushed;
};

void bench_open(struct bench *b, const char *main_cf);
void bench_close(struct bench *b);
/* Deliver into the INBOX of "anna" (LF line ends). */
void bench_deliver(struct bench *b, const char *text);
/* Run fn as a task with the loop, between open and close. */
void bench_run(const char *main_cf, void (*fn)(struct bench *b));

struct client {
    struct stream *stream;
    struct buf seen; /* since the last command */
};

/* Sign in: the greeting is read. */
void client_start(struct bench *b, struct client *c, slice input);
/* One that login can park. */
void client_relay_handle(struct bench *b, struct client *c,
                         const uint8_t *handle);
void client_relay(struct bench *b, struct client *c, uint8_t n);
void client_send(struct client *c, const char *text);
/* What came until a line starts with `until` (that line as well). */
const char *client_read(struct client *c, const char *until);
/* Send "x cmd" and read to the answer. */
const char *client_do(struct client *c, const char *cmd);
void client_stop(struct client *c);
/* Everything must have come: assert that `text` occurs / does not. */
void has(const char *all, const char *text);
void has_not(const char *all, const char *text);

#endif
