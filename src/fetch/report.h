#ifndef FETCH_REPORT_H
#define FETCH_REPORT_H

/* Reports of TLSRPT as bytes (RFC 8460 4 and 5).  Pure; JSON and gzip by
 * libraries that fetch_libs_load() must have loaded. */
#include "fetch/fetch_priv.h"

struct report_names {
    char domain[256]; /* whose sessions */
    char submitter[256], sender[320], id[400];
    char from[32], until[32]; /* RFC 3339 */
    int64_t from_s, until_s;
};

void report_names_init(struct report_names *n, const struct conf *c,
                       slice domain, int64_t day);
/* JSON: the head, a policy at a time, the text.  Writing frees it; false: no
 * room, or it is incomplete. */
struct json_t *report_new(const struct report_names *n);
void report_add(struct json_t *report, const struct counted *c);
bool report_write(struct json_t *report, struct buf *out);
/* RFC 1952.  False: no room. */
bool report_gzip(slice in, struct buf *out);
/* The mail: header fields, and the body with LF line ends. */
void report_mail(const struct report_names *n, slice gzip, slice to,
                 struct buf *head, struct buf *body);
/* The list behind "rua=" of a record. */
slice report_places(slice txt);
/* The address of a mailto: URI, percent-decoded; "" when it is none. */
slice report_address(struct arena *a, slice uri);

#endif
