#ifndef IMAP_PARK_H
#define IMAP_PARK_H

/*
 * Quiet sessions, in two steps that do not depend on each other.
 *
 *   pack.c   packed: account and mailbox are not pinned; what the client was
 *            told is kept as a few numbers and the UIDs in runs.  Only where
 *            many sessions wait: a packed one learns what strangers do in its
 *            Maildir by looking now and then (peek.c), others by inotify.
 *   park.c   parked: login holds the line, there is no stream here.
 *
 *     awake --quiet--> packed? --parts.park--> asked --EOF--> parked
 *       ^------------- news, input, imap_wake() ----------------/
 */
#include "imap/imap_priv.h"

/* Packed sessions in IDLE on one mailbox. */
struct imap_group {
    struct map_node node; /* in server->groups, by guid */
    uint8_t guid[16];
    struct list sessions; /* struct imap_packed.link */
    struct list round;    /* in server->round: whom to look at next */
    uint64_t stamp;
    char path[]; /* of the mailbox */
};

struct imap_packed {
    struct list link; /* in the group; zeroed: in none */
    struct imap_session *session;
    struct imap_group *group;
    uint64_t modseq;
    uint32_t uidvalidity;
    uint32_t last_uid; /* of the view */
    uint32_t messages;
    uint32_t recent_from;
    uint32_t n_keywords;
    uint32_t n_runs; /* bytes of them */
    uint16_t n_name;
    bool is_read_only;
    char bytes[]; /* the name (UTF-8), then the runs */
};

/* Give up account and mailbox; false when there is news in the way. */
bool imap_pack(struct imap_session *s);

/* peek.c */
void imap_group_join(struct imap_session *s, const uint8_t *guid,
                     const char *path, uint64_t stamp);
void imap_group_leave(struct imap_packed *p);
/* Of store_on_change(). */
void imap_peek_changed(void *arg, struct store_mailbox *m);

#endif
