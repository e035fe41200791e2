#ifndef LOG_COUNTS_H
#define LOG_COUNTS_H

/*
 * Events counted by what they say: "delivered TRANSPORT STATUS", "accepted
 * SERVICE", "connected SERVICE", "rejected SERVICE", "login SERVICE", "tls
 * SERVICE", "level LEVEL" (of warnings and worse).  doc/metrics.md.
 */
#include "base/base.h"
#include "ipc/event.h"

struct counts;
struct counts *counts_new(void);
void counts_free(struct counts **c);
void counts_event(struct counts *c, const struct event *e);
/* A line for each: "delivered virtual sent 12". */
void counts_dump(const struct counts *c, struct buf *out);

#endif
