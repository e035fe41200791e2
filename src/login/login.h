#ifndef LOGIN_LOGIN_H
#define LOGIN_LOGIN_H

/*
 * login - IMAP and POP3 before sign-in, and the TLS of sessions after it.
 *
 * The login processes (hato-login, empty root, no files, no sockets of their
 * own making; as many as imapd's and pop3d's lines say, at least one for each
 * processor) accept the connections of the imapd and pop3d lines of master.cf.
 * A client is greeted, may start TLS, and signs in: `auth` checks it and gives
 * a ticket, the broker takes the ticket and gives the session to a worker:
 * without TLS the client's own socket goes there and login forgets it; with TLS
 * login goes on to move bytes between the TLS stream and a socket to the
 * worker.
 *
 *     GREETED -> [TLS] -> signing in -> handed over (no TLS): forgotten
 *                                    \> RELAYING <-> PARKED (TLS): see below
 *
 * Parking (ipc/proto.h, LOGIN_PARK): the worker says that it has nothing to do
 * and how many bytes it has read and written; when that is all that login has
 * relayed, the socket is closed and only the TLS connection and a handle stay.
 * Bytes from the client (BROKER_WAKE) bring a new socket; news of the worker
 * come as LOGIN_PUSH without one.
 *
 * Invariants: (1) login can name no user: it has tickets and handles, both
 * unguessable and bound to it; (2) before sign-in a connection holds at most
 * 8 KiB of input and lives at most imap_login_timeout / 3 minutes; (3) bytes
 * that came before TLS are never taken for bytes inside it; (4) no byte is
 * lost, doubled or reordered at a hand-over, parking or waking; (5) the number
 * of connections, in all and for each client (mail_max_userip_connections), is
 * bounded; (6) a sign-in's text and time do not tell whether a user exists.
 */
#include "base/base.h"
#include "ipc/process.h"
#include "keys/keys.h"

struct login;

struct login_parts {
    struct process *process;
    struct keyring *keyring;
    int counters_fd;
};

int login_new(const struct login_parts *parts, struct login **out,
              struct err *err);
/* A listener of an imapd or pop3d line; takes over l->fd. */
int login_listen(struct login *g, const struct process_listener *l,
                 struct err *err);
/* Accept no more; on_idle(arg) once the last connection has ended. */
void login_drain(struct login *g, void (*on_idle)(void *arg), void *arg);
/* The whole server stops: end all with "* BYE" or "-ERR". */
void login_close_all(struct login *g);
/* For tests: no task may be at a connection. */
void login_free(struct login **g);
void login_dump(const struct login *g, struct buf *out);

#endif
