#ifndef ACCESS_TEST_UTIL_H
#define ACCESS_TEST_UTIL_H

/* For the tests of access: a compiled service and a client. */
#include "access/access.h"
#include "address/test_util.h"

#include <sys/socket.h>

struct stand {
    struct setup setup;
    struct access *access;
    struct access_session s;
    struct peer_addr peer;
};

static inline void stand_init(struct stand *t, const char *settings)
{
    struct err err;

    memset(t, 0, sizeof(*t));
    setup_init(&t->setup, settings);
    if (access_new(t->setup.conf, NULL, t->setup.b.tables, t->setup.address,
                   &t->access, &err) < 0)
        fail_msg("%s: %s", settings, err.log);
    t->peer = (struct peer_addr){ .family = AF_INET, .port = 4711 };
    t->s = (struct access_session){
        .peer = &t->peer,
        .name = SL("unknown"),
        .reverse_name = SL("unknown"),
        .addr = SL("192.0.2.1"),
        .helo = SL("helo.example.org"),
        .protocol = SL("ESMTP"),
        .sender = SL("s@from.example"),
        .has_sender = true,
        .recipient = SL("joe@example.com"),
        .arena = t->setup.b.arena,
    };
}

static inline void stand_done(struct stand *t)
{
    access_free(&t->access);
    setup_done(&t->setup);
}

/* The reply at `stage`; "" when the session goes on. */
static inline const char *stand_ask(struct stand *t, enum access_stage stage)
{
    struct access_reply reply;
    struct err err;

    if (access_check(t->access, &t->s, stage, &reply, &err) < 0)
        fail_msg("%s", err.log);
    return reply.ok ? "" : slice_cstr(t->s.arena, reply.line);
}

#endif
