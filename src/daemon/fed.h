#ifndef DAEMON_FED_H
#define DAEMON_FED_H

/* The tables of a process that looks something up: what master hands to it, and
 * a link to the process `tables` for the rest. */
#include "base/base.h"

struct process;
struct tables;

/* The set, made at the first call. */
struct tables *fed_tables(void);
/* process_ops.on_table */
void fed_on_table(struct process *p, slice name, int fd, int64_t mtime);
/* In on_start(): ask `tables` what needs NSS, a password or a socket. */
struct tables *fed_link(struct process *p);

#endif
