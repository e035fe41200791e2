#ifndef POP3_POP3_PRIV_H
#define POP3_POP3_PRIV_H

/* What session.c (life and table of commands), commands.c (what they do) and
 * message.c (RETR, TOP, UIDL's texts) share. */
#include "ipc/ipc.h"
#include "mail/mail.h"
#include "pop3/pop3.h"
#include "rt/rt.h"
#include "rt/stream.h"
#include "store/store.h"

#define POP3_LINE_MAX     512 /* RFC 2449 4 says 255 */
#define POP3_MESSAGES_MAX 1000000

/* A message as it was when the session began. */
struct pop3_message {
    uint32_t uid;
    bool is_deleted;
    bool is_seen;  /* by RETR: told to the store at QUIT */
    uint64_t size; /* with CRLF */
};

struct pop3_server {
    struct pop3_parts parts;
    struct list sessions;
    size_t n_sessions;
    uint64_t n_done;
};

struct pop3_session {
    struct list link;
    struct pop3_server *server;
    struct stream *stream;
    struct task *task; /* while it runs */
    struct store_account *account;
    struct store_mailbox *mailbox;
    struct pop3_message *messages;
    size_t n_messages;
    uint8_t handle[16];
    char *user;
    char *session_id;
    bool is_closing;
    char why[96]; /* last words, when somebody else ends it */

    struct {
        uint64_t retr, retr_bytes, top, top_bytes, deleted;
    } n;
};

/* ---- commands.c: answer one command line; -1: the client is gone */
MAY_WAIT int pop3_command(struct pop3_session *s, slice line);
/* Open the mailbox and look what is in it. */
MAY_WAIT int pop3_open(struct pop3_session *s, slice user, slice mail,
                       struct err *err);
/* QUIT: set flags, expunge, wait until that is durable. */
MAY_WAIT int pop3_update(struct pop3_session *s, struct err *err);
/* Number of messages not deleted, and their bytes. */
size_t pop3_count(const struct pop3_session *s, uint64_t *bytes);

/* ---- message.c: -1 with err ERR_PEER when the client is gone, else the text
 * for -ERR (nothing has been written then). */
enum { POP3_WHOLE = -1 };

MAY_WAIT int pop3_send(struct pop3_session *s, struct pop3_message *m,
                       int64_t body_lines, struct err *err);
/* The unique id of a message (pop3_uidl_format). */
int pop3_uidl(struct pop3_session *s, const struct pop3_message *m,
              struct buf *out, struct err *err);

#endif
