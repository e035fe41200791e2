#ifndef USER_USER_H
#define USER_USER_H

/*
 * user - who has mail here and where it lies: one answer for everybody who
 * asks (local, lmtpd, auth), so that a delivery and a sign-in always mean the
 * same account in the same worker.
 *
 * A name is looked up as Dovecot and Postfix do: virtual mailboxes
 * (virtual_mailbox_maps with virtual_uid_maps, virtual_gid_maps,
 * virtual_mailbox_base), then the tables of `userdb`, then, for names without
 * domain or of mydestination, the system's users; then mail_location with its
 * variables.
 *
 * Invariants: (1) a name that could leave its place in a path ("/", "..",
 * control bytes) has no account; (2) uids outside first_valid_uid ..
 * last_valid_uid have none; (3) the account's name is what the worker is chosen
 * by, and is the same for delivery and sign-in.
 */
#include "base/base.h"
#include "conf/conf.h"
#include "table/table.h"

enum user_kind { USER_MAILBOX, USER_FILE, USER_COMMAND };

struct user_place {
    enum user_kind kind;
    uint64_t uid;
    uint64_t gid;
    slice account; /* what the worker is chosen by */
    slice user;    /* as shown: in logs, %u */
    slice home;    /* may be empty */
    slice mail;    /* USER_MAILBOX: expanded mail_location */
    slice arg;     /* path of USER_FILE (mbox), text of USER_COMMAND */
};

struct users;
/* Compiles the lists of the configuration.  `tables` and `conf` are borrowed
 * and must outlive it. */
int users_new(const struct conf *conf, struct tables *tables, bool is_root_mode,
              struct users **out, struct err *err);
void users_free(struct users **u);
/* A system user by name. */
MAY_WAIT int users_system(struct users *u, slice name, struct arena *a,
                          struct user_place *out, bool *found, struct err *err);
/* A virtual mailbox by address (recipient_delimiter is honoured). */
MAY_WAIT int users_virtual(struct users *u, slice addr, struct arena *a,
                           struct user_place *out, bool *found,
                           struct err *err);
/* A name somebody signed in with, or a recipient of LMTP: any of the above. */
MAY_WAIT int users_any(struct users *u, slice name, struct arena *a,
                       struct user_place *out, bool *found, struct err *err);

#endif
