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

static inline void stand_set_one(struct stand *t, slice key, slice value)
{
    struct access_session *s = &t->s;
    uint64_t n = 0;

    (void)slice_u64(value, &n);
    value = slice_dup(s->arena, value);
    if (slice_eqs(key, "rcpt"))
        s->recipient = value;
    else if (slice_eqs(key, "norcpt"))
        s->recipient = SLICE_NONE;
    else if (slice_eqs(key, "sender"))
        s->sender = value;
    else if (slice_eqs(key, "addr"))
        s->addr = value;
    else if (slice_eqs(key, "name"))
        s->name = value;
    else if (slice_eqs(key, "helo"))
        s->helo = value;
    else if (slice_eqs(key, "sasl"))
        s->sasl_user = value;
    else if (slice_eqs(key, "etrn"))
        s->etrn = value;
    else if (slice_eqs(key, "early"))
        s->has_early_input = true;
    else if (slice_eqs(key, "rname"))
        s->reverse_name = value;
    else if (slice_eqs(key, "status"))
        s->name_status = (enum access_name)n;
    else if (slice_eqs(key, "rstatus"))
        s->reverse_status = (enum access_name)n;
    else if (slice_eqs(key, "n"))
        s->n_recipients = (size_t)n;
    else if (!slice_eqs(key, "ours")) /* test_names.c's own */
        fail_msg("%.*s?", SLF(key));
}

/* "rcpt=a@b,name=x": what the tests' rows change of the session. */
static inline void stand_set(struct stand *t, const char *fields)
{
    slice rest = slice_str(fields);
    slice word;

    while (slice_token(&rest, ",", &word)) {
        slice value = word;
        slice key;

        slice_cut(&value, '=', &key);
        stand_set_one(t, key, value);
    }
}

#endif
