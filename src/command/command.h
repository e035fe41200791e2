#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

/*
 * command - the command-line tools, all in the one executable, chosen by the
 * name it is called by (sendmail, mailq, newaliases, postconf, postmap,
 * postalias, postqueue, postsuper, postcat, postlog, qshape) or by the first
 * argument of `hato`.  One file per command.
 *
 * They run as whoever calls them, read the configuration (-c DIR, -C, or
 * MAIL_CONFIG), talk to the running system over its sockets, never write into
 * the queue or a mailbox themselves, and end with the codes of sysexits.h.
 */
#include "base/base.h"

struct conf;

/* Run what argv[0] or argv[1] names; returns the exit status. */
int command_main(int argc, char **argv);
/* The names that the executable answers to, one a line (`hato --names`). */
void command_print_names(void);

int command_sendmail(int argc, char **argv); /* also mailq, newaliases */
int command_postconf(int argc, char **argv);
int command_postmap(int argc, char **argv); /* also postalias */
int command_newaliases(int argc, char **argv);
int command_postqueue(int argc, char **argv);
int command_postsuper(int argc, char **argv);
int command_postcat(int argc, char **argv);
int command_postlog(int argc, char **argv);
int command_qshape(int argc, char **argv);
int command_queue(int argc, char **argv);
int command_user(int argc, char **argv);
int command_who(int argc, char **argv);
int command_kick(int argc, char **argv);
int command_init(int argc, char **argv);
MAY_WAIT int command_check(int argc, char **argv);
int command_mailbox(int argc, char **argv);
int command_dns(int argc, char **argv);
int command_metrics(int argc, char **argv);
int command_trace(int argc, char **argv);

/* ---- what commands share (util.c) */
/* Print "NAME: fatal: ..." to standard error and exit with `status`. */
void command_die(int status, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
void command_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern const char *command_name; /* for messages */
/* The configuration of `dir` (NULL: default); dies with a clear text. */
struct conf *command_conf(const char *dir, unsigned flags);
/* Run fn(arg) as a task on a loop of its own; returns when it returned. */
void command_run_task(void (*fn)(void *arg), void *arg);
/* Write the whole buffer; an empty one is fine. */
void command_print(const struct buf *b, FILE *to);
/* On standard output, with '?' for control bytes: what strangers wrote must not
 * steer a terminal. */
void command_print_text(slice text);
/* Standard output to its end; dies when it could not be written. */
void command_flush(void);
/* The name of the calling user; "" when the uid has none. */
const char *command_login(void);

#endif
