#ifndef USER_USER_H
#define USER_USER_H

/*
 * user - who has mail here and where it lies: one answer for everybody who
 * asks (local, lmtpd, auth), so that a delivery and a sign-in always mean the
 * same account in the same worker.
 *
 * Names without a domain, or with one of mydestination, are the system's users,
 * whose line in `userdb` (by the bare name) changes what it says; all others,
 * and those that the system does not have, are virtual mailboxes:
 * virtual_mailbox_maps below virtual_mailbox_base, else userdb by the whole
 * address, else mail_location, with its variables.
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
    bool is_spool; /* a file in mail_spool_directory */
};

struct users;
/* Compiles the lists of the configuration.  `tables` and `conf` are borrowed
 * and must outlive it. */
int users_new(const struct conf *conf, struct tables *tables, bool is_root_mode,
              struct users **out, struct err *err);
void users_free(struct users **u);
/* A system user by name, with what userdb says about him. */
MAY_WAIT int users_system_user(struct users *u, slice name, struct arena *a,
                               struct table_user *out, bool *found,
                               struct err *err);

/* His place. */
enum { USERS_NO_COMMAND = 1 }; /* pass over mailbox_command */

int users_system_place(struct users *u, const struct table_user *who,
                       unsigned flags, struct arena *a, struct user_place *out,
                       struct err *err);
/* Both in one. */
MAY_WAIT int users_system(struct users *u, slice name, struct arena *a,
                          struct user_place *out, bool *found, struct err *err);
/* A virtual mailbox by address (recipient_delimiter is honoured). */
MAY_WAIT int users_virtual(struct users *u, slice addr, struct arena *a,
                           struct user_place *out, bool *found,
                           struct err *err);
/* A name somebody signed in with, or a recipient of LMTP: any of the above.
 * mailbox_command is passed over: it is for local's deliveries. */
MAY_WAIT int users_any(struct users *u, slice name, struct arena *a,
                       struct user_place *out, bool *found, struct err *err);

#endif
