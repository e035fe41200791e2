#ifndef IMAP_MAILBOXES_H
#define IMAP_MAILBOXES_H

/* What the commands about mailboxes share: mailboxes.c, list.c, append.c. */
#include "imap/imap_priv.h"

#include "ipc/event.h"

enum imap_status_item {
    IMAP_ST_MESSAGES = 1,
    IMAP_ST_RECENT = 2,
    IMAP_ST_UIDNEXT = 4,
    IMAP_ST_UIDVALIDITY = 8,
    IMAP_ST_UNSEEN = 16,
    IMAP_ST_DELETED = 32,
    IMAP_ST_SIZE = 64,
    IMAP_ST_MODSEQ = 128,
    IMAP_ST_APPENDLIMIT = 256,
    IMAP_ST_MAILBOXID = 512,
};

/* "(MESSAGES UNSEEN)"; false: syntax. */
bool imap_status_items(struct imap_cursor *in, unsigned *items);
/* "* STATUS name (...)". */
MAY_WAIT int imap_say_status(struct imap_session *s, slice name, unsigned items,
                             struct err *err);
/* "\Sent" for i = 0, 1, ... until NULL. */
const char *imap_use_name(size_t i, unsigned *use);
/* Largest message of APPEND; 0: no limit. */
uint64_t imap_append_limit(const struct imap_session *s);

#endif
