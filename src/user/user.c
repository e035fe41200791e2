#include "user/user_priv.h"

#include "mail/mail.h"

int users_new(const struct conf *conf, struct tables *tables, bool is_root_mode,
              struct users **out, struct err *err)
{
    struct users *u = xcalloc(1, sizeof *u);

    u->conf = conf;
    u->tables = tables;
    u->is_root_mode = is_root_mode;
    if (table_list_param(tables, conf, NULL, "virtual_mailbox_maps",
                         &u->virtual_maps, err) < 0 ||
        table_list_param(tables, conf, NULL, "virtual_uid_maps",
                         &u->virtual_uids, err) < 0 ||
        table_list_param(tables, conf, NULL, "virtual_gid_maps",
                         &u->virtual_gids, err) < 0 ||
        table_list_param(tables, conf, NULL, "userdb", &u->userdb, err) < 0 ||
        table_match_new(tables, conf, NULL, "mydestination", &u->mydestination,
                        err) < 0) {
        users_free(&u);
        return -1;
    }
    *out = u;
    return 0;
}

void users_free(struct users **pu)
{
    struct users *u = *pu;

    *pu = NULL;
    if (u == NULL)
        return;
    table_list_free(&u->virtual_maps);
    table_list_free(&u->virtual_uids);
    table_list_free(&u->virtual_gids);
    table_list_free(&u->userdb);
    table_match_free(&u->mydestination);
    free(u);
}

/* ---- places */

/* "path/" is a Maildir with an index, "path" an mbox file. */
static void path_place(struct arena *a, slice path, struct user_place *out)
{
    if (path.n > 0 && path.p[path.n - 1] == '/') {
        out->kind = USER_MAILBOX;
        out->mail =
            slice_str(arena_printf(a, "maildir:%.*s",
                                   SLF(slice_sub(path, 0, path.n - 1))));
    } else {
        out->kind = USER_FILE;
        out->arg = path;
    }
}

/* Before the template refuses: the reason with its cure, for mailq. */
static int check_uid(const struct users *u, slice name, uint64_t uid,
                     struct err *err)
{
    uint64_t first = (uint64_t)conf_int(u->conf, NULL, "first_valid_uid");
    uint64_t last = (uint64_t)conf_int(u->conf, NULL, "last_valid_uid");

    if (!u->is_root_mode)
        return 0;
    if (uid != 0 && uid >= first && (last == 0 || uid <= last))
        return 0;
    return err_temp(err,
                    "%.*s has uid %" PRIu64 ", outside first_valid_uid and "
                    "last_valid_uid: give the name an alias to somebody else",
                    SLF(name), uid);
}

/* mail_spool_directory/name */
static int spool_place(struct users *u, slice name, struct arena *a,
                       struct user_place *out, struct err *err)
{
    slice dir = conf_slice(u->conf, NULL, "mail_spool_directory");
    bool slash = dir.n > 0 && dir.p[dir.n - 1] == '/';

    if (!user_is_safe(name))
        return err_temp(err, "unsafe user name");
    path_place(a,
               slice_str(arena_printf(a, slash ? "%.*s%.*s/" : "%.*s/%.*s",
                                      SLF(dir), SLF(name))),
               out);
    out->is_spool = out->kind == USER_FILE;
    return 0;
}

int users_system_place(struct users *u, const struct table_user *who,
                       unsigned flags, struct arena *a, struct user_place *out,
                       struct err *err)
{
    slice command = conf_slice(u->conf, NULL, "mailbox_command");
    slice home_mailbox = conf_slice(u->conf, NULL, "home_mailbox");

    *out = (struct user_place){
        .kind = USER_MAILBOX,
        .uid = who->uid,
        .gid = who->gid,
        .account = who->name,
        .user = who->name,
        .home = who->home,
    };
    if (check_uid(u, who->name, who->uid, err) < 0)
        return -1;
    if (command.n > 0 && !(flags & USERS_NO_COMMAND)) {
        out->kind = USER_COMMAND;
        out->arg = command;
        return 0;
    }
    if (home_mailbox.n > 0) {
        path_place(a,
                   slice_str(arena_printf(a, "%.*s/%.*s", SLF(who->home),
                                          SLF(home_mailbox))),
                   out);
        return 0;
    }
    if (conf_is_set(u->conf, NULL, "mail_spool_directory"))
        return spool_place(u, who->name, a, out, err);
    return user_expand_location(a,
                                who->mail.n > 0 ? who->mail
                                                : conf_slice(u->conf, NULL,
                                                             "mail_location"),
                                who->name, who->home, &out->mail, err);
}

/* ---- virtual mailboxes */

/* What a table has for an address. */
struct hit {
    slice value; /* p NULL: nothing */
    slice ext;   /* what of the address did not match: its extension */
};

MAY_WAIT static int find_addr(struct users *u, struct table_list *list,
                              slice addr, struct arena *a, struct hit *out,
                              struct err *err)
{
    struct table_addr_find how = {
        .strategy = TABLE_ADDR_FULL | TABLE_ADDR_NOEXT | TABLE_ADDR_AT_DOMAIN,
        .delimiters = conf_slice(u->conf, NULL, "recipient_delimiter"),
    };

    out->ext = SLICE_NONE;
    return table_list_find_addr(list, addr, &how, a, &out->value, &out->ext,
                                err);
}

MAY_WAIT static int find_id(struct users *u, struct table_list *list,
                            slice addr, struct arena *a, uint64_t *out,
                            struct err *err)
{
    const char *param =
        list == u->virtual_uids ? "virtual_uid_maps" : "virtual_gid_maps";
    struct hit h;

    if (find_addr(u, list, addr, a, &h, err) < 0)
        return -1;
    if (h.value.p == NULL)
        return err_temp(err, "%s: no entry for \"%.*s\"", param, SLF(addr));
    if (!slice_u64(slice_trim(h.value), out) || *out >= UINT32_MAX)
        return err_temp(err, "%s: bad value \"%.*s\" for \"%.*s\"", param,
                        SLF(h.value), SLF(addr));
    return 0;
}

/* A path of virtual_mailbox_maps below virtual_mailbox_base. */
MAY_WAIT static int mapped_place(struct users *u, slice addr, slice value,
                                 struct arena *a, struct user_place *out,
                                 struct err *err)
{
    slice base = conf_slice(u->conf, NULL, "virtual_mailbox_base");
    uint64_t min = (uint64_t)conf_int(u->conf, NULL, "virtual_minimum_uid");

    if (slice_find(value, SL("../")) >= 0)
        return err_temp(err,
                        "virtual_mailbox_maps: \"%.*s\" leaves "
                        "virtual_mailbox_base",
                        SLF(value));
    path_place(a,
               slice_str(arena_printf(a, "%.*s/%.*s", SLF(base), SLF(value))),
               out);
    if (find_id(u, u->virtual_uids, addr, a, &out->uid, err) < 0)
        return -1;
    if (out->uid < min)
        return err_temp(err,
                        "virtual_uid_maps: bad value \"%" PRIu64
                        "\" for \"%.*s\"",
                        out->uid, SLF(addr));
    if (find_id(u, u->virtual_gids, addr, a, &out->gid, err) < 0)
        return -1;
    if (out->gid < 1)
        return err_temp(err, "virtual_gid_maps: bad value \"0\" for \"%.*s\"",
                        SLF(addr));
    return 0;
}

/* mail_uid, mail_gid: a number or the name of a system user. */
MAY_WAIT static int named_id(struct users *u, bool is_gid, struct arena *a,
                             uint32_t *out, bool *has, struct err *err)
{
    const char *param = is_gid ? "mail_gid" : "mail_uid";
    slice text = conf_slice(u->conf, NULL, param);
    struct table_user named;
    uint64_t id;
    bool found;

    *has = text.n > 0;
    if (!*has)
        return 0;
    if (slice_u64(text, &id) && id < UINT32_MAX) {
        *out = (uint32_t)id;
        return 0;
    }
    if (tables_system_user(u->tables, text, a, &named, &found, err) < 0)
        return -1;
    if (!found)
        return err_temp(err, "%s: no such user \"%.*s\"", param, SLF(text));
    *out = is_gid ? named.gid : named.uid;
    return 0;
}

/* The uid and gid of a user for whom no table says one. */
MAY_WAIT static int default_ids(struct users *u, struct table_user *who,
                                struct arena *a, struct err *err)
{
    if (!u->is_root_mode) { /* all is one uid */
        who->uid = getuid();
        who->gid = getgid();
        who->has_uid = who->has_gid = true;
        return 0;
    }
    if (!who->has_uid &&
        named_id(u, false, a, &who->uid, &who->has_uid, err) < 0)
        return -1;
    if (!who->has_gid &&
        named_id(u, true, a, &who->gid, &who->has_gid, err) < 0)
        return -1;
    return 0;
}

/* The user's line in userdb: by the whole name, without extension.  Without a
 * userdb h->ext stays as it was. */
MAY_WAIT static int userdb_user(struct users *u, slice addr, struct arena *a,
                                struct table_user *who, struct hit *h,
                                struct err *err)
{
    h->value = SLICE_NONE;
    if (table_list_is_empty(u->userdb))
        return 0;
    if (find_addr(u, u->userdb, addr, a, h, err) < 0)
        return -1;
    if (h->value.p != NULL && !table_user_parse(h->value, who))
        return err_temp(err, "userdb: malformed entry for \"%.*s\"",
                        SLF(slice_sub(addr, 0, 100)));
    return 0;
}

/* The one name of an address: lower case, without the extension `ext`, so that
 * Tomo+lists@Example.org and tomo@example.org are one account. */
static slice canonical(struct arena *a, slice addr, slice ext)
{
    slice local, domain;

    if (ext.n > 0 && mail_addr_split(addr, &local, &domain) &&
        slice_ends(local, ext))
        addr = slice_str(arena_printf(a, "%.*s@%.*s",
                                      SLF(slice_sub(local, 0, local.n - ext.n)),
                                      SLF(domain)));
    return slice_lower(a, addr);
}

/* The place of a user of userdb, or of one that is only in a map. */
MAY_WAIT static int userdb_place(struct users *u, slice addr,
                                 struct table_user *who, struct arena *a,
                                 struct user_place *out, struct err *err)
{
    slice mail = conf_slice(u->conf, NULL, "mail_location");

    if (default_ids(u, who, a, err) < 0)
        return -1;
    if (!who->has_uid || !who->has_gid)
        return err_temp(err,
                        "no uid for \"%.*s\": set mail_uid and mail_gid, "
                        "or give it in userdb",
                        SLF(addr));
    *out = (struct user_place){
        .kind = USER_MAILBOX,
        .uid = who->uid,
        .gid = who->gid,
        .home = who->home,
        .user = who->name.n > 0 ? slice_lower(a, who->name) : addr,
    };
    out->account = out->user;
    if (check_uid(u, out->user, out->uid, err) < 0)
        return -1;
    return user_expand_location(a, who->mail.n > 0 ? who->mail : mail,
                                out->user, who->home, &out->mail, err);
}

int users_virtual(struct users *u, slice addr, struct arena *a,
                  struct user_place *out, bool *found, struct err *err)
{
    bool has_maps = !table_list_is_empty(u->virtual_maps);
    struct table_user who = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
    struct hit h = { SLICE_NONE, SLICE_NONE };

    *found = false;
    if (has_maps) {
        if (find_addr(u, u->virtual_maps, addr, a, &h, err) < 0)
            return -1;
        if (h.value.p == NULL)
            return 0;
        if (conf_slice(u->conf, NULL, "virtual_mailbox_base").n > 0) {
            *found = true;
            *out = (struct user_place){ .kind = USER_MAILBOX };
            out->user = out->account = canonical(a, addr, h.ext);
            return mapped_place(u, addr, h.value, a, out, err);
        }
    }
    if (userdb_user(u, addr, a, &who, &h, err) < 0)
        return -1;
    if (h.value.p == NULL && !has_maps)
        return 0;
    *found = true;
    return userdb_place(u, canonical(a, addr, h.ext), &who, a, out, err);
}

/* ---- users of the system */

int users_system_user(struct users *u, slice name, struct arena *a,
                      struct table_user *out, bool *found, struct err *err)
{
    struct table_user in_system = { .name = SLICE_NONE };
    struct table_user who;
    struct hit h = { SLICE_NONE, SLICE_NONE };

    if (userdb_user(u, name, a, &who, &h, err) < 0 ||
        tables_system_user(u->tables, name, a, &in_system, found, err) < 0)
        return -1;
    if (h.value.p == NULL) {
        if (*found)
            *out = in_system;
        return 0;
    }
    if (*found && !who.has_uid && !who.has_gid) {
        who.uid = in_system.uid;
        who.gid = in_system.gid;
        who.has_uid = who.has_gid = true;
    }
    if (*found && who.home.n == 0)
        who.home = in_system.home;
    if (default_ids(u, &who, a, err) < 0)
        return -1;
    if (!who.has_uid || !who.has_gid)
        return err_temp(err,
                        "no uid for \"%.*s\": set mail_uid and mail_gid, "
                        "or give it in userdb",
                        SLF(name));
    who.name = name;
    *out = who;
    *found = true;
    return 0;
}

int users_system(struct users *u, slice name, struct arena *a,
                 struct user_place *out, bool *found, struct err *err)
{
    struct table_user who = { .uid = (uid_t)-1, .gid = (gid_t)-1 };

    if (users_system_user(u, name, a, &who, found, err) < 0)
        return -1;
    return *found ? users_system_place(u, &who, 0, a, out, err) : 0;
}

/* ---- any name */

/* Is this a name of the system: without domain, or of mydestination?  *local is
 * what stands before the domain and the extension. */
MAY_WAIT static int is_system_name(struct users *u, slice name, struct arena *a,
                                   slice *local, bool *out, struct err *err)
{
    slice domain, user, ext;

    *out = true;
    *local = name;
    if (mail_addr_split(name, local, &domain) &&
        table_match_string(u->mydestination, domain, out, err) < 0)
        return -1;
    *local = slice_lower(a, *local);
    if (mail_local_split(*local,
                         conf_slice(u->conf, NULL, "recipient_delimiter"), true,
                         &user, &ext))
        *local = user;
    return 0;
}

int users_any(struct users *u, slice name, struct arena *a,
              struct user_place *out, bool *found, struct err *err)
{
    struct table_user who = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
    bool is_system;
    slice local;

    *found = false;
    if (!user_is_safe(name))
        return 0;
    if (is_system_name(u, name, a, &local, &is_system, err) < 0)
        return -1;
    if (is_system && user_is_safe(local)) {
        if (users_system_user(u, local, a, &who, found, err) < 0)
            return -1;
        if (*found)
            return users_system_place(u, &who, USERS_NO_COMMAND, a, out, err);
    }
    return users_virtual(u, name, a, out, found, err);
}
