#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

/*
 * auth - sign-in: SASL mechanisms, passdb, userdb, tickets, reputation.
 *
 * The process `auth` (hato-auth, sandboxed) serves Dovecot's authentication
 * protocol to smtpd and login, and on the socket of the service line `auth`
 * (unix) to other programs (client side; its master side too when the line says
 * so).  The passdb is a list of tables tried in turn; `pam` and `shadow` are
 * asked of authworker, the only part that is root.  A sign-in for imap or pop3
 * yields a ticket: 128 random bits, good once, for a minute, for the session it
 * was asked for; only the broker may redeem it.
 *
 *     request -> reputation (may delay) -> mechanism -> passdb -> userdb ->
 *         OK + ticket | FAIL after the same time and with the same text,
 *         whether the user exists or not
 *
 * Invariants: (1) a name or a password never reaches a log unless
 * auth_verbose_passwords says so (and then never in the clear by default);
 * (2) unknown user and wrong password cannot be told apart from outside, by
 * text or time; (3) a ticket is redeemed at most once, and only for what it was
 * given for; (4) tickets, requests, caches and the table of reputations are
 * bounded, the oldest goes first; (5) trouble of ours (a table that is gone) is
 * a temporary failure, never "wrong password".
 *
 * What waits: nearly everything; each request is a task, hashes run on
 * offload's pool.
 */
#include "base/base.h"
#include "ipc/ipc.h"
#include "table/table.h"
#include "user/user.h"

struct auth;
int auth_new(struct process *p, struct tables *tables, struct auth **out,
             struct err *err);
/* smtpd or login connected: the line protocol; `from` also decides whether
 * tickets are given. */
void auth_on_peer(struct auth *a, enum ptype from, int fd);
/* A client of the UNIX socket. */
int auth_listen(struct auth *a, const struct process_listener *l,
                struct err *err);
void auth_drain(struct auth *a, void (*on_idle)(void *arg), void *arg);
void auth_dump(const struct auth *a, struct buf *out);

/* ---- authworker: answer AUTH_CHECK on fd, one at a time */
void authworker_serve(int fd);

/* ---- pure parts, for `hato user` and tests */
/* Does `password` fit `stored` ("{SCHEME}...", or of `default_scheme`)?  Slow
 * (milliseconds to seconds of processor): call through offload().  -1: the
 * scheme is unknown or the value broken. */
int auth_password_verify(slice stored, const char *default_scheme,
                         slice password, bool *fits, struct err *err);
/* A new hash: scheme "SHA512-CRYPT", "BLF-CRYPT", "ARGON2ID", "SCRAM-SHA-256",
 * ...; {SCHEME} stands in front. */
int auth_password_hash(const char *scheme, slice password, struct buf *out,
                       struct err *err);

#endif
