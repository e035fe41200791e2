#ifndef LOG_LOG_H
#define LOG_LOG_H

/*
 * log - where events become lines.
 *
 * The `log` process alone uses this room.  Events come as datagrams from all
 * processes over one socket that master keeps open, so that they wait there
 * while the log process starts anew.  Each becomes one line: by default
 *
 *     Nov 21 18:05:35 host postfix/smtpd[123]: connect from unknown[192.0.2.1]
 *
 * else JSON or logfmt (`hato_log_format`).  Lines of one turn are written
 * together, to the file that master opened (maillog_file; opened anew by
 * master on request) or, each for itself, to syslog.
 *
 * Invariants: (1) no sender ever waits for the log; (2) a line is written whole
 * or counted as lost, and the number of lost ones is told in the log as soon as
 * it can be; (3) what a stranger put into a field cannot begin a line or
 * control a terminal (ipc/event.h renders it).
 *
 * Waits for nothing but the write to a file.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "ipc/event.h"

enum log_format { LOG_POSTFIX, LOG_JSON, LOG_LOGFMT };

struct log_settings {
    enum log_format format;
    char tag[64];  /* syslog_name */
    char host[64]; /* short name of this machine */
    int facility;  /* of syslog, shifted: 16 is mail */
};

void log_settings_read(struct log_settings *s, const struct conf *c);

/* One line with its LF, as it stands in a file. */
void log_line(struct buf *b, const struct log_settings *s,
              const struct event *e);
/* The same as a datagram for syslog (RFC 3164 4.1), without LF. */
void log_syslog_line(struct buf *b, const struct log_settings *s,
                     const struct event *e);

struct logger;
struct logger *logger_new(const struct log_settings *s);
void logger_free(struct logger **l);
void logger_set(struct logger *l, const struct log_settings *s);
/* Take the socket that events come from, and start reading (owned). */
void logger_events(struct logger *l, int fd);
/* Where lines go from now on (owned). */
void logger_output(struct logger *l, int fd, bool is_syslog);
/* One datagram, as if it had come from the socket. */
void logger_take(struct logger *l, slice datagram);
/* Write what is collected. */
void logger_flush(struct logger *l);
/* Read and write all that waits in the socket: the last deed at a stop. */
void logger_drain(struct logger *l);
void logger_dump(const struct logger *l, struct buf *out);

#endif
