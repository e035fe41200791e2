#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

/*
 * metrics - numbers of all processes, as Prometheus reads them.
 *
 * `hato status` collects a few lines from every process; this room gives the
 * numbers in them names, types and labels (doc/metrics.md).  What has no row in
 * its table is left out, so a changed wording loses a metric and breaks no
 * other.  The command `hato metrics` prints them; the process `metrics`, which
 * a line of master.cf asks for, serves them over HTTP.
 *
 *     Prometheus --GET /metrics--> metrics --MASTER_STATUS--> master --> all
 *
 * Invariants: (1) the process reads nothing but a request's head, at most 8
 * KiB, and asks master at most once a second, whoever asks it; (2) each metric
 * has one HELP and one TYPE line in front of all its samples.
 *
 * Waits: the sessions, in their tasks.  It never changes anything.
 */
#include "base/base.h"
#include "ipc/process.h"

/* The text of `hato status` as metrics, in Prometheus' text format 0.0.4. */
void metrics_render(slice status, struct buf *out);

struct metrics;
struct metrics *metrics_new(struct process *p);
void metrics_listen(struct metrics *m, const struct process_listener *l);
/* Accept no more; on_idle() when the last session ended. */
void metrics_drain(struct metrics *m, void (*on_idle)(void *arg), void *arg);
void metrics_dump(const struct metrics *m, struct buf *out);

#endif
