#ifndef IMAP_IMAP_H
#define IMAP_IMAP_H

/*
 * imap - IMAP4rev1 (RFC 3501, with the rules of RFC 9051 where they are
 * stricter about responses) after sign-in, in a mailbox worker, over room
 * store.
 *
 * A session waits as a struct and a parked stream; a complete command runs as a
 * task.  What a client sees of its mailbox is a view: sequence numbers over the
 * rows of store, changed only where a response may say so (RFC 9051 7.5.2).
 *
 *     start -> AUTHENTICATED <-> SELECTED(view) -> LOGOUT
 *                  \________ IDLE, or quiet: parked ________/
 *
 * Parking: a session that idles (IDLE, or no command for a while) is at first a
 * struct on a parked stream; over TLS its socket to login is given up too
 * (parts.park), news then go out by parts.push, and the client's next bytes
 * come with a new socket (imap_wake).  A record (imap_record) holds all that is
 * needed to go on in another worker.
 *
 * Invariants: (1) one file per group of commands, session.c has the table of
 * them; (2) literals, nesting, numbers of arguments and set members are bounded
 * before memory is taken for them; (3) EXPUNGE and EXISTS are told only where
 * the RFC allows; UIDs, sequence numbers and MODSEQs told are never taken back;
 * (4) APPEND, COPY, MOVE, STORE and EXPUNGE are answered OK when durable; (5) a
 * client that reads slowly stops its own session only.
 */
#include "base/base.h"
#include "base/clock.h"
#include "conf/conf.h"

struct store;
struct imap_server;
struct imap_session;

/* Who signed in, from where; of imap_start() and pop3_start() alike. */
struct imap_start {
    int fd;                 /* owned: the client's socket, or login's */
    const uint8_t *handle;  /* 16 bytes: names the session to the owner */
    slice user, home, mail; /* mail: expanded mail_location */
    slice session;          /* id for logs */
    slice remote, local;    /* "192.0.2.1" */
    bool is_tls;
    bool is_relay; /* fd leads to login, which can park */
    slice tag;     /* of the command that signed in; answered by us */
    slice input;   /* bytes that followed it */
};

struct imap_parts {
    struct store *store;
    const struct conf *conf;
    /* A session began (1) or ended (-1), or became parked / awake: what keeps
     * the worker busy. */
    void (*busy)(void *arg, int change);
    /* The session is over; its handle is void.  `text`: for SESSION logs. */
    void (*ended)(void *arg, const uint8_t *handle);
    /* Ask login to hold the line: see LOGIN_PARK. */
    void (*park)(void *arg, const uint8_t *handle, uint64_t n_read,
                 uint64_t n_written, unsigned keepalive_s, slice keepalive);
    void (*push)(void *arg, const uint8_t *handle, slice bytes);
    /* Wait until everything visible on this file system is durable (a shared
     * sync by the broker); NULL: store's own. */
    MAY_WAIT int (*sync)(void *arg, uint64_t fs, int dirfd, struct err *err);
    void *arg;
};

struct imap_server *imap_server_new(const struct imap_parts *parts);
void imap_server_set_conf(struct imap_server *s, const struct conf *conf);
void imap_start(struct imap_server *s, const struct imap_start *start);
/* The client of a parked session sends; fd leads to it.  done() is called when
 * what was pushed before is on its way.  False: no such session. */
bool imap_wake(struct imap_server *s, const uint8_t *handle, int fd);
void imap_drop(struct imap_server *s, const uint8_t *handle);
void imap_kick(struct imap_server *s, const uint8_t *handle, slice why);
/* The record of a parked session, for another worker; and back.  `start.fd` may
 * be -1: parked there too. */
int imap_record(struct imap_server *s, const uint8_t *handle, struct buf *out,
                struct err *err);
int imap_restore(struct imap_server *s, const struct imap_start *start,
                 slice record, struct err *err);
/* Give all parked sessions away, for a worker that leaves: each becomes a
 * record, with an inotify descriptor of its mailbox (-1: none; closed behind
 * the call).  Those that have something to do just now are left. */
void imap_give_parked(struct imap_server *s,
                      void (*keep)(void *arg, const uint8_t *handle,
                                   slice record, int watch_fd),
                      void *arg);
size_t imap_sessions(const struct imap_server *s);
/* "* BYE" to all (a worker that retires, a server that stops). */
void imap_close_all(struct imap_server *s, slice why);
void imap_dump(const struct imap_server *s, struct buf *out);
void imap_server_free(struct imap_server **s); /* no sessions left */

#endif
