#ifndef FILTER_FILTER_H
#define FILTER_FILTER_H

/*
 * filter - what looks into a message while it comes in: header_checks,
 * mime_header_checks, nested_header_checks and body_checks (header_checks(5)).
 *
 * smtpd compiles a `struct filter` per service and runs each message through
 * it: header first, then body, in pieces of any size, in stored form (LF).
 *
 *     filter_begin -> filter_feed * -> filter_finish -> filter_result()
 *                                                    -> filter_end
 *
 * Checks run on one logical header (folded lines and all, at most
 * header_size_limit) or one body line at a time, the first
 * body_checks_size_limit bytes of each body part.  Log lines are Postfix's
 * cleanup's.
 *
 * Invariants: (1) with no checks configured nothing is copied
 * (filter_is_idle()); (2) bytes that no action changes come out as they went
 * in; (3) after REJECT or DISCARD the rest passes unchecked; (4) memory per
 * message is bounded by header_size_limit, the longest line that is checked and
 * mime_nesting_limit boundaries.
 *
 * feed and finish may wait (tables).
 */
#include "base/base.h"
#include "conf/conf.h"
#include "table/table.h"

struct filter;
int filter_new(const struct conf *c, const struct conf_service *service,
               struct tables *t, struct filter **out, struct err *err);
/* For mail that leaves: smtp_header_checks and its kin (`prefix` "smtp_"),
 * where only actions that change or log a line work. */
int filter_new_client(const struct conf *c, const struct conf_service *service,
                      struct tables *t, const char *prefix, struct filter **out,
                      struct err *err);
void filter_free(struct filter **f);
/* Nothing is configured: do not bother. */
bool filter_is_idle(const struct filter *f);

/* For the log; must outlive the message. */
struct filter_context {
    const char *queue_id;
    slice client; /* "unknown[192.0.2.1]", or "local" */
    slice sender;
    slice recipient; /* the first one */
    slice protocol;
    slice helo;
    const char *service; /* in the log; NULL: cleanup */
};

struct filter_result {
    bool reject;
    slice status; /* "5.7.1" (4.x.x: temporary) */
    slice text;   /* "message content rejected" or the table's */
    bool discard;
    bool hold;
    slice redirect;
    slice filter; /* FILTER transport:destination, the last one */
    slice *bcc;
    size_t n_bcc;
    bool pass; /* PASS: no further checks were made */
};

struct filter_message;
/* `arena` bounds and holds the results. */
struct filter_message *filter_begin(const struct filter *f,
                                    const struct filter_context *context,
                                    struct arena *arena);
/* Take all of `in`, append what becomes of it to `out` (what is not complete
 * yet follows later). */
MAY_WAIT int filter_feed(struct filter_message *m, slice in, struct buf *out,
                         struct err *err);
MAY_WAIT int filter_finish(struct filter_message *m, struct buf *out,
                           struct err *err);
const struct filter_result *filter_result(const struct filter_message *m);
void filter_end(struct filter_message **m);

#endif
