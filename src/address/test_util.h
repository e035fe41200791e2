#ifndef ADDRESS_TEST_UTIL_H
#define ADDRESS_TEST_UTIL_H

/* For the tests of address, access and filter: a compiled configuration. */
#include "address/address.h"
#include "table/test_util.h"

struct setup {
    struct bench b;
    struct conf *conf;
    struct address *address;
};

#define SETUP_BASE                                                             \
 "compatibility_level = 3.6\n"                                                 \
 "myhostname = mx.example.com\n"                                               \
 "mydomain = example.com\n"                                                    \
 "myorigin = example.com\n"                                                    \
 "mydestination = mx.example.com, example.com, localhost\n"                    \
 "mynetworks = 127.0.0.0/8\n"                                                  \
 "local_recipient_maps =\n"

/* main.cf: SETUP_BASE, then `more`, whose values win. */
static inline void setup_init(struct setup *s, const char *more)
{
    char *text;
    struct err err;

    *s = (struct setup){ .address = NULL };
    bench_init(&s->b);
    text = arena_printf(s->b.arena, "%s%s", SETUP_BASE, more);
    s->conf = conf_from_text(slice_str(text), SLICE_NONE, NULL);
    if (address_new(s->conf, NULL, s->b.tables, &s->address, &err) < 0)
        fail_msg("%s", err.log);
}

static inline void setup_done(struct setup *s)
{
    address_free(&s->address);
    conf_unref(&s->conf);
    bench_done(&s->b);
}

#endif
