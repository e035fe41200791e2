#ifndef LOGIN_TEST_UTIL_LOGIN_H
#define LOGIN_TEST_UTIL_LOGIN_H

/*
 * A world for login's tests, in one process: a master that connects, a broker
 * whose workers are the test itself, an auth that knows joe with the password
 * secret, and keys without any certificate.
 */
#include "login/login_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct world {
    struct login *login;
    struct chan *broker; /* the broker's end */
    int worker_fd;       /* of the newest session or waking; -1: taken */
    uint8_t handle[16];
    unsigned n_sessions, n_wakes, n_drops;
    bool refuse_session, refuse_wake, is_full;
    bool hold_wake; /* answer by world_wake() */
    uint32_t held_id;
    char service[16], tag[64], user[64], remote[64];
    struct buf content;
    char offered[64]; /* mechanisms */
    bool auth_down;
    bool offers_tls;
};

extern struct world world;

/* The loop, the world, login with an imapd and a pop3d line; `more` is added
 * to main.cf. */
void world_begin(const char *more);
void world_end(void);

/* A client of service 0 (imapd) or 1 (pop3d); is_tls: as if it had TLS. */
struct stream *world_client(int service, bool is_tls);
struct conn *world_conn(void); /* the newest connection */

/* Read one line, without its end. */
MAY_WAIT void expect(struct stream *s, const char *line);
MAY_WAIT void expect_start(struct stream *s, const char *start);
MAY_WAIT void expect_end(struct stream *s);
MAY_WAIT void say(struct stream *s, const char *text);
/* The worker's end of the newest session. */
MAY_WAIT struct stream *world_worker(void);
MAY_WAIT void world_park(uint64_t n_read, uint64_t n_written, unsigned seconds,
                         const char *text);
void world_push(slice bytes);
void world_tell_end(const char *text);
void world_wake(void);
/* Until cond, looked at again and again; fails after some seconds. */
#define UNTIL(cond)                                                            \
 do {                                                                          \
  for (int u_ = 0; !(cond); u_++) {                                            \
   struct err e_;                                                              \
   assert_true(u_ < 3000);                                                     \
   assert_int_equal(task_sleep(2, &e_), 0);                                    \
  }                                                                            \
 } while (0)

/* Sign in, as a relayed session over TLS. */
MAY_WAIT struct stream *world_signed_in(struct stream **worker);

/* Run body as a task in a world, and the loop until it has returned. */
void in_world(const char *more, void (*body)(void), uint64_t seed);

#endif
