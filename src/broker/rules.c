#include "broker/broker_priv.h"

#include <pwd.h>
#include <sys/stat.h>

const char *worker_kind(slice text)
{
    static const char *const kinds[] = { "mailbox", "command", "spool" };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_eqs(text, kinds[i]))
            return kinds[i];
    return NULL;
}

bool template_allows(const struct template_rules *r, slice kind, uint64_t uid,
                     uint64_t gid)
{
    bool in_range = uid >= r->first_uid && uid <= UINT32_MAX - 1 &&
                    (r->last_uid == 0 || uid <= r->last_uid);
    bool gid_ok = gid >= r->first_gid && gid <= UINT32_MAX - 1 &&
                  (r->last_gid == 0 || gid <= r->last_gid);

    if (uid == 0 || gid == 0)
        return false;
    if (slice_eqs(kind, "mailbox") || slice_eqs(kind, "spool"))
        return in_range && gid_ok;
    if (!slice_eqs(kind, "command"))
        return false;
    for (size_t i = 0; i < r->n_command_uids; i++)
        if (r->command_uids[i] == uid)
            return true;
    return in_range;
}

static void add_command_uid(struct template_rules *r, uid_t uid)
{
    if (uid != 0 && r->n_command_uids < ARRAY_LEN(r->command_uids))
        r->command_uids[r->n_command_uids++] = uid;
}

/* The owner of an alias file runs its commands. */
static void add_alias_owner(void *ctx, const struct conf_table_ref *ref)
{
    struct template_rules *r = ctx;
    struct stat st;
    char *path;

    if (strcmp(ref->param, "alias_maps") != 0 || ref->name.n == 0 ||
        ref->name.p[0] != '/')
        return;
    path = slice_xstrdup(ref->name);
    if (stat(path, &st) == 0)
        add_command_uid(r, st.st_uid);
    free(path);
}

/* Debian's /var/mail is of root and group mail, mode 2775: who makes a file or
 * a lock there needs the group. */
static void read_spool_group(struct template_rules *r, const struct conf *c)
{
    struct stat st;

    r->spool_gid = 0;
    if (conf_is_set(c, NULL, "mail_spool_directory") &&
        stat(conf_str(c, NULL, "mail_spool_directory"), &st) == 0 &&
        S_ISDIR(st.st_mode) && (st.st_mode & S_IWGRP) != 0)
        r->spool_gid = st.st_gid;
}

void template_read_rules(struct template_rules *r, const struct conf *c)
{
    const struct passwd *pw;

    memset(r, 0, sizeof *r);
    r->first_uid = (uid_t)conf_int(c, NULL, "first_valid_uid");
    r->last_uid = (uid_t)conf_int(c, NULL, "last_valid_uid");
    r->first_gid = (gid_t)conf_int(c, NULL, "first_valid_gid");
    r->last_gid = (gid_t)conf_int(c, NULL, "last_valid_gid");
    pw = getpwnam(conf_str(c, NULL, "default_privs"));
    if (pw != NULL)
        add_command_uid(r, pw->pw_uid);
    conf_each_table(c, add_alias_owner, r);
    read_spool_group(r, c);
}
