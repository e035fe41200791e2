#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

/*
 * auth - sign-in: SASL mechanisms, passdb, userdb, tickets, reputation.
 *
 * The process `auth` (hato-auth, sandboxed) serves Dovecot's authentication
 * protocol to smtpd and login, and on the socket of the service line `auth`
 * (unix) to other programs (its client side).  The passdb is a list of tables
 * tried in turn; `pam` and `shadow` are asked of authworker, the only part that
 * is root.  A sign-in for imap or pop3 yields a ticket: 128 random bits, good
 * once, for a minute, for the session it was asked for; only the broker may
 * redeem it.
 *
 *     request -> reputation (may delay) -> mechanism -> passdb -> userdb ->
 *         OK + ticket | FAIL after the same time and with the same text,
 *         whether the user exists or not
 *
 * Invariants: (1) a password never reaches a log, a name only as a field that
 * the log room escapes;
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
/* A new configuration; requests under way keep theirs.  On failure nothing
 * changes. */
int auth_reload(struct auth *a, struct conf *conf, struct err *err);
/* smtpd or login connected: the line protocol; `from` also decides whether
 * tickets are given.  broker and commands: a channel. */
void auth_on_peer(struct auth *a, enum ptype from, int fd);
/* A client of the UNIX socket. */
void auth_listen(struct auth *a, const struct process_listener *l);
void auth_drain(struct auth *a, void (*on_idle)(void *arg), void *arg);
void auth_dump(const struct auth *a, struct buf *out);
void auth_free(struct auth **a); /* tests; no request may run */

/* ---- authworker: answer AUTH_CHECK on fd, at most `max` at once, each by a
 * child that starts as "hato: authcheck" and runs authworker_check(). */
void authworker_serve(int fd, unsigned max);
int authworker_check(void);
/* Does the passdb of `conf` need it? */
bool auth_config_needs_worker(const struct conf *conf);

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
