#ifndef SMTP_SMTP_H
#define SMTP_SMTP_H

/*
 * smtp - SMTP as a server (RFC 5321), and as a client once "Sending" is there.
 *
 * The server is used by the smtpd processes: one per core serves every smtpd
 * line of master.cf and the pickup socket.  A session that waits for its client
 * is a struct and a parked stream; a command that came in runs as a task that
 * answers every complete command in the buffer and ends.
 *
 *     accept -> greet -> [HELO/EHLO] -> MAIL -> RCPT... -> DATA | BDAT -> MAIL
 *                                          \___ RSET ___/
 *
 * One file per verb in server/; server/session.c has the session's life and the
 * table of verbs, server/receive.c a message's way from the socket to the
 * spool.
 *
 * Invariants: (1) 250 after DATA or the last BDAT is said only when
 * spool_draft_commit() has returned: the message is durable; (2) only
 * <CR><LF>.<CR><LF> ends DATA, and whatever we think of a message, its bytes
 * are read to that end, so the session stays in step; (3) a recipient is
 * accepted only if a relay decision was made for it (room access); (4) every
 * line, header, list, count and wait of a session has a limit from main.cf.
 *
 * Waits: on the client, on tables, and on the spool.  Never: opens a file.
 */
#include "base/base.h"
#include "ipc/process.h"

struct smtp_server;
struct tables;
struct spool_writer;
struct keyring;
struct dns;
struct dns_hosts;

/* What the process gives the server; all must outlive it. */
struct smtp_server_parts {
    struct process *process; /* configuration and slot */
    struct tables *tables;
    struct spool_writer *spool;
    struct keyring *keyring; /* NULL: no TLS */
    struct dns *dns;         /* NULL: every name is unknown */
    struct dns_hosts *hosts; /* NULL: DNS alone */
    int counters_fd; /* shared counters of clients, or -1 for private ones */
    int passes_fd;   /* access/access.h; 0: private ones */
};

/* Reads the settings of every smtpd service of the configuration.  Fails with
 * the parameter's name when one cannot be used. */
CHECKED int smtp_server_new(const struct smtp_server_parts *parts,
                            struct smtp_server **out, struct err *err);
/* Serve a listener ("smtpd" or "pickup") of master; takes over l->fd. */
int smtp_server_listen(struct smtp_server *server,
                       const struct process_listener *l, struct err *err);
/* Accept no more; call on_idle(arg) once the last session has ended (at once
 * when there is none). */
void smtp_server_drain(struct smtp_server *server, void (*on_idle)(void *arg),
                       void *arg);
/* End every session with 421 at its next command or wait. */
void smtp_server_close_all(struct smtp_server *server);
size_t smtp_server_sessions(const struct smtp_server *server);
void smtp_server_dump(const struct smtp_server *server, struct buf *out);
void smtp_server_free(struct smtp_server **sp);

#endif
