#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * A failure carries a class and two texts: one that may be shown to the peer
 * and one for the log.  A function that can fail returns 0 or -1 and takes a
 * `struct err *err` as its last argument; it lives on the caller's stack, is
 * never allocated, and is meaningful only after -1.
 */
#include <stdarg.h>
#include <stddef.h>

enum err_class {
    ERR_NONE,
    ERR_TEMP, /* try later: 4xx, TRYAGAIN, [UNAVAILABLE] */
    ERR_PERM, /* never: 5xx */
    ERR_PEER, /* the peer is gone or the task was cancelled: unwind silently */
};

struct err {
    enum err_class class;
    int sys;        /* errno where one was the cause, else 0 */
    char status[8]; /* enhanced status code, "4.3.0"; "" when unset */
    char peer[120]; /* safe to send */
    char log[240];  /* for the log: names the file, line, command, cause */
};

/* Each fills *err (NULL is allowed and ignored) and returns -1.  The peer text
 * of err_sys() and err_temp() is neutral ("try again later"); the peer text of
 * err_perm() is the message itself. */
int err_sys(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* adds strerror(errno), ERR_TEMP */
int err_temp(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int err_perm(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int err_peer(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Full form: class, enhanced status and the text for the peer; log text is the
 * same until err_log() replaces it. */
int err_set(struct err *err, enum err_class class, const char *status,
            const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Replace the log text only. */
void err_log(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Put "context: " in front of the log text.  Returns -1, as a tail call. */
int err_prefix(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
