#ifndef IPC_EVENT_H
#define IPC_EVENT_H

/*
 * Log events.  A room that owns a session or a message says a fact once, with
 * typed fields; the `log` process renders it as Postfix's (or Dovecot's) line,
 * as JSON or as logfmt.  Sending never blocks and never fails: what the socket
 * does not take is counted and told later ("dropped N events").
 *
 * Rendered shape: "<syslog-tag>/<service>[<pid>]: " then, in the order given,
 *   queue id "ID: ", then `key=value` pairs joined by ", ", then text.
 * So   event_log(EV_INFO, "smtpd", "accepted", id, EV_PAIRS(ev_str("client",
 * "unknown[127.0.0.1]")), NULL)  gives  "postfix/smtpd[7]: ID:
 * client=unknown[..]". An address field is rendered as <a@b>, a secret as ***;
 * control bytes and bytes that are not UTF-8 are shown as '?'.
 */
#include "base/base.h"

enum ev_level { EV_PANIC, EV_FATAL, EV_ERROR, EV_WARNING, EV_INFO, EV_TRACE };

enum ev_type {
    EVT_STR,
    EVT_ADDR,
    EVT_U64,
    EVT_I64,
    EVT_MS,
    EVT_SECRET,
    EVT_TAIL
};

struct ev_field {
    const char *key; /* literal; "" for EVT_TAIL */
    enum ev_type type;
    slice str;
    int64_t num;
};

static inline struct ev_field ev_str(const char *key, slice v)
{
    return (struct ev_field){ key, EVT_STR, v, 0 };
}

static inline struct ev_field ev_addr(const char *key, slice v)
{
    return (struct ev_field){ key, EVT_ADDR, v, 0 };
}

static inline struct ev_field ev_u64(const char *key, uint64_t v)
{
    return (struct ev_field){ key, EVT_U64, { NULL, 0 }, (int64_t)v };
}

/* Milliseconds, shown as seconds with up to two significant decimals as
 * Postfix shows delays. */
static inline struct ev_field ev_ms(const char *key, int64_t ms)
{
    return (struct ev_field){ key, EVT_MS, { NULL, 0 }, ms };
}

/* Free text appended after the pairs with one space: "(delivered to maildir)".
 */
static inline struct ev_field ev_tail(slice v)
{
    return (struct ev_field){ "", EVT_TAIL, v, 0 };
}

#define EV_PAIRS(...)                                                          \
 (const struct ev_field[]){ __VA_ARGS__ },                                     \
     sizeof((const struct ev_field[]){ __VA_ARGS__ }) /                        \
         sizeof(struct ev_field)

/* Where events of this process go: a datagram socket to `log`, or -1 for
 * standard error (commands, tests).  `service` is the default service. */
void event_setup(int fd, const char *service);
int event_fd(void);
/* Collect events and send them at the end of the loop's turn (one system call
 * for many).  For processes with a loop; a warning or worse goes out at once.
 */
void event_batch(bool on);
void event_flush(void);
/* Seconds as Postfix shows delays: "0.07", "1.2", "12".  Returns the length. */
size_t event_format_ms(int64_t ms, char out[static 24]);
/* `name`: the event's stable name for JSON ("accepted", "delivered", ...).
 * `queue_id` may be NULL; `service` NULL means the default one. */
void event_log(enum ev_level level, const char *service, const char *name,
               const char *queue_id, const struct ev_field *fields,
               size_t n_fields);
/* A plain sentence: "warning: ..." etc. as Postfix prints levels. */
void event_text(enum ev_level level, const char *service, const char *queue_id,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Topic bits of EV_TRACE that are on; 0 by default. */
extern uint64_t event_trace_topics;

/* The wire form, for the log process and its fuzzer.  One datagram holds one
 * event or several, each behind its length (u16). */
struct event {
    enum ev_level level;
    int64_t wall_usec;
    pid_t pid;
    slice service, name, queue_id;
    const struct ev_field *fields;
    size_t n_fields;
};

#define EVENT_MAX_BYTES  8192
#define EVENT_MAX_FIELDS 32
/* One text field; what is longer is cut. */
#define EVENT_MAX_TEXT 2000
bool event_encode(struct buf *b, const struct event *e);
/* Cut the next event off a datagram; false at its end. */
bool event_next(slice *datagram, slice *event);
/* `fields` is storage for up to EVENT_MAX_FIELDS; keys are interned slices. */
bool event_decode(slice in, struct event *out, struct ev_field *fields,
                  char keys[EVENT_MAX_FIELDS][24]);
/* Append the line after "tag/service[pid]: " in Postfix's shape. */
void event_render_postfix(struct buf *b, const struct event *e);
void event_render_json(struct buf *b, const struct event *e);
void event_render_logfmt(struct buf *b, const struct event *e);

#endif
