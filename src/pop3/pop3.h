#ifndef POP3_POP3_H
#define POP3_POP3_H

/*
 * pop3 - POP3 (RFC 1939, 2449, 5034, 6856) after sign-in, in a mailbox worker,
 * over room store.
 *
 *     start -> TRANSACTION -> QUIT -> UPDATE (expunge, durable, "+OK")
 *                    \-> dropped line, timeout, kick: nothing is deleted
 *
 * Message numbers are those of the mailbox at start; what others deliver or
 * remove meanwhile does not change them.  Invariants: (1) only QUIT deletes,
 * and what it reports deleted is durable; (2) UIDLs stay the same over
 * take-over, rebuild and restart (pop3_uidl_format); (3) a client that
 * pipelines without end, or reads slowly, holds bounded memory.
 */
#include "imap/imap.h"

struct pop3_server;

struct pop3_parts {
    struct store *store;
    const struct conf *conf;
    void (*busy)(void *arg, int change);
    void (*ended)(void *arg, const uint8_t *handle);
    MAY_WAIT int (*sync)(void *arg, uint64_t fs, int dirfd, struct err *err);
    void *arg;
};

struct pop3_server *pop3_server_new(const struct pop3_parts *parts);
void pop3_server_set_conf(struct pop3_server *s, const struct conf *conf);
void pop3_start(struct pop3_server *s, const struct imap_start *start);
void pop3_kick(struct pop3_server *s, const uint8_t *handle, slice why);
size_t pop3_sessions(const struct pop3_server *s);
void pop3_close_all(struct pop3_server *s, slice why);
void pop3_dump(const struct pop3_server *s, struct buf *out);
void pop3_server_free(struct pop3_server **s);

#endif
