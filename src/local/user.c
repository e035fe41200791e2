#include "local/local_priv.h"

/* What room user says, as local's deliveries need it. */

static void take_place(const struct user_place *p, struct lmtp_place *out)
{
    static const enum lmtp_kind kinds[] = {
        [USER_MAILBOX] = LMTP_MAILBOX,
        [USER_FILE] = LMTP_FILE,
        [USER_COMMAND] = LMTP_COMMAND,
    };

    *out = (struct lmtp_place){
        .kind = kinds[p->kind],
        .uid = p->uid,
        .gid = p->gid,
        .account = p->account,
        .user = p->user,
        .home = p->home,
        .mail = p->mail,
        .arg = p->arg,
        .by_spool_worker = p->is_spool,
    };
}

int local_default_privs(struct local_job *j, uint64_t *uid, uint64_t *gid,
                        struct err *err)
{
    slice name = conf_slice(j->local->p->conf, NULL, "default_privs");
    struct table_user u;
    bool found;

    if (tables_system_user(j->local->tables, name, j->arena, &u, &found, err) <
        0)
        return -1;
    if (!found || u.uid == 0)
        return err_temp(err, "default_privs: %s user \"%.*s\"",
                        found ? "privileged" : "no such", SLF(name));
    *uid = u.uid;
    *gid = u.gid;
    return 0;
}

int local_system_user(struct local_job *j, slice name, struct table_user *out,
                      bool *found, struct err *err)
{
    return users_system_user(j->local->users, name, j->arena, out, found, err);
}

int local_user_place(struct local_job *j, const struct table_user *u,
                     struct lmtp_place *out, struct err *err)
{
    struct user_place p;

    if (users_system_place(j->local->users, u, 0, j->arena, &p, err) < 0)
        return -1;
    take_place(&p, out);
    return 0;
}

int local_virtual_place(struct local_job *j, slice addr, struct lmtp_place *out,
                        bool *found, struct err *err)
{
    struct user_place p;

    if (users_virtual(j->local->users, addr, j->arena, &p, found, err) < 0)
        return -1;
    if (*found)
        take_place(&p, out);
    return 0;
}
