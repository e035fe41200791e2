#ifndef LMTPD_LMTPD_H
#define LMTPD_LMTPD_H

/*
 * lmtpd - LMTP (RFC 2033) for other programs: a Postfix with
 * `virtual_transport = lmtp:unix:...`, a list manager, a script.
 *
 * The lmtpd processes (hato-smtp, sandboxed as smtpd) serve the lmtpd lines of
 * master.cf, TCP or UNIX.  A recipient is looked up by room user, so that what
 * is delivered here, by smtpd's way or read over IMAP is one account; the
 * message goes to the mailbox workers over the broker's sockets (room lmtp, the
 * extension XHATO stays inside), is made durable by the syncs that all share,
 * and only then each recipient is answered.
 *
 *     greeted -> LHLO -> MAIL -> RCPT... -> DATA | BDAT -> an answer for each
 *
 * Invariants: (1) 250 behind the data means durable; (2) as many answers as
 * recipients were accepted, in their order; (3) a client over TCP is of
 * mynetworks (an `-o mynetworks=` of the line counts), else it is refused at
 * its greeting; (4) lines, recipients, message sizes, sessions and the memory
 * of all messages together are bounded; (5) trouble of ours is 4xx.
 *
 * Delivery is at least once: a client whose line breaks before the answer will
 * send again, and nothing in LMTP tells that it is the same.
 */
#include "base/base.h"
#include "ipc/process.h"

struct lmtpd;
struct tables;
struct keyring;

struct lmtpd_parts {
    struct process *process;
    struct tables *tables;
    struct keyring *keyring; /* STARTTLS; NULL: not offered */
};

CHECKED int lmtpd_new(const struct lmtpd_parts *parts, struct lmtpd **out,
                      struct err *err);
/* Serve a listener of an lmtpd line; takes over l->fd. */
int lmtpd_listen(struct lmtpd *d, const struct process_listener *l,
                 struct err *err);
/* Accept no more; on_idle(arg) once the last session has ended. */
void lmtpd_drain(struct lmtpd *d, void (*on_idle)(void *arg), void *arg);
/* End every session with 421 at its next command or wait. */
void lmtpd_close_all(struct lmtpd *d);
/* For tests: no session is left. */
void lmtpd_free(struct lmtpd **d);
void lmtpd_dump(const struct lmtpd *d, struct buf *out);

#endif
