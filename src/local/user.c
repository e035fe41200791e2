#include "local/local_priv.h"

int local_system_user(struct local_job *j, slice name, struct table_user *out,
                      bool *found, struct err *err)
{
    return tables_system_user(j->local->tables, name, j->arena, out, found,
                              err);
}

int local_default_privs(struct local_job *j, uint64_t *uid, uint64_t *gid,
                        struct err *err)
{
    slice name = conf_slice(j->local->p->conf, NULL, "default_privs");
    struct table_user u;
    bool found;

    if (local_system_user(j, name, &u, &found, err) < 0)
        return -1;
    if (!found || u.uid == 0)
        return err_temp(err, "default_privs: %s user \"%.*s\"",
                        found ? "privileged" : "no such", SLF(name));
    *uid = u.uid;
    *gid = u.gid;
    return 0;
}

/* ---- locations */

struct location {
    slice user; /* whole: "tomo@sample.com" or "tomo" */
    slice home;
};

/* %u %n %d %h of mail_location (Dovecot's variables), ~/ as home. */
static bool location_letter(const struct location *l, char c, struct buf *b)
{
    slice local = l->user;
    slice domain = SLICE_NONE;

    (void)mail_addr_split(l->user, &local, &domain);
    switch (c) {
    case 'u':
        return buf_slice(b, l->user);
    case 'n':
        return buf_slice(b, local);
    case 'd':
        return buf_slice(b, domain);
    case 'h':
        return l->home.n > 0 && buf_slice(b, l->home);
    case '%':
        return buf_byte(b, '%');
    default:
        return false;
    }
}

static bool is_safe_user(slice user)
{
    /* A user name becomes part of a path: nothing in it may leave its place. */
    for (size_t i = 0; i < user.n; i++)
        if (user.p[i] == '/' || (unsigned char)user.p[i] < ' ')
            return false;
    return user.n > 0 && user.p[0] != '.' && slice_find(user, SL("@.")) < 0;
}

static int expand_location(struct arena *a, slice text,
                           const struct location *l, slice *out,
                           struct err *err)
{
    struct buf b;
    bool ok = is_safe_user(l->user);

    buf_init(&b, 4096);
    for (size_t i = 0; ok && i < text.n; i++) {
        char c = text.p[i];
        bool at_start = i == 0 || text.p[i - 1] == ':' || text.p[i - 1] == '=';

        if (c == '~' && at_start && (i + 1 == text.n || text.p[i + 1] == '/'))
            ok = l->home.n > 0 && buf_slice(&b, l->home);
        else if (c == '%' && i + 1 < text.n)
            ok = location_letter(l, text.p[++i], &b);
        else
            ok = buf_byte(&b, c);
    }
    ok = ok && !b.overflow;
    if (ok)
        *out = slice_dup(a, buf_view(&b));
    buf_done(&b);
    if (!ok)
        return err_temp(err,
                        "mail_location \"%.*s\" has no place for \"%.*s\" "
                        "(unsafe name, or it needs a home directory)",
                        SLF(text), SLF(l->user));
    return 0;
}

/* "path/" is a Maildir with an index, "path" an mbox file. */
static void path_place(struct arena *a, slice path, struct local_place *out)
{
    if (path.n > 0 && path.p[path.n - 1] == '/') {
        out->kind = LMTP_MAILBOX;
        out->mail =
            slice_str(arena_printf(a, "maildir:%.*s",
                                   SLF(slice_sub(path, 0, path.n - 1))));
    } else {
        out->kind = LMTP_FILE;
        out->arg = path;
    }
}

/* Before the template refuses: the reason with its cure, for mailq. */
static int check_uid(const struct local_job *j, const struct table_user *u,
                     struct err *err)
{
    const struct conf *c = j->local->p->conf;
    int64_t first = conf_int(c, NULL, "first_valid_uid");
    int64_t last = conf_int(c, NULL, "last_valid_uid");

    if (!j->local->p->is_root_mode)
        return 0;
    if (u->uid != 0 && u->uid >= first && (last == 0 || u->uid <= last))
        return 0;
    return err_temp(err,
                    "%.*s has uid %u, outside first_valid_uid and "
                    "last_valid_uid: give the name an alias to somebody else",
                    SLF(u->name), (unsigned)u->uid);
}

int local_user_place(struct local_job *j, const struct table_user *u,
                     struct local_place *out, struct err *err)
{
    const struct conf *c = j->local->p->conf;
    slice command = conf_slice(c, NULL, "mailbox_command");
    slice home_mailbox = conf_slice(c, NULL, "home_mailbox");
    struct location l = { u->name, u->home };

    *out = (struct local_place){
        .kind = LMTP_MAILBOX,
        .uid = u->uid,
        .gid = u->gid,
        .account = u->name,
        .user = u->name,
        .home = u->home,
    };
    if (check_uid(j, u, err) < 0)
        return -1;
    if (command.n > 0) {
        out->kind = LMTP_COMMAND;
        out->arg = command;
        return 0;
    }
    if (home_mailbox.n > 0) {
        path_place(j->arena,
                   slice_str(arena_printf(j->arena, "%.*s/%.*s", SLF(u->home),
                                          SLF(home_mailbox))),
                   out);
        return 0;
    }
    if (conf_is_set(c, NULL, "mail_spool_directory")) {
        slice dir = conf_slice(c, NULL, "mail_spool_directory");
        bool slash = dir.n > 0 && dir.p[dir.n - 1] == '/';

        if (!is_safe_user(u->name))
            return err_temp(err, "unsafe user name");
        path_place(j->arena,
                   slice_str(arena_printf(j->arena,
                                          slash ? "%.*s%.*s/" : "%.*s/%.*s",
                                          SLF(dir), SLF(u->name))),
                   out);
        return 0;
    }
    return expand_location(j->arena, conf_slice(c, NULL, "mail_location"), &l,
                           &out->mail, err);
}

/* ---- virtual mailboxes */

MAY_WAIT static int find_addr(struct local_job *j, struct table_list *list,
                              slice addr, slice *value, struct err *err)
{
    struct table_addr_find how = {
        .strategy = TABLE_ADDR_FULL | TABLE_ADDR_NOEXT | TABLE_ADDR_AT_DOMAIN,
        .delimiters =
            conf_slice(j->local->p->conf, NULL, "recipient_delimiter"),
    };
    slice ext;

    return table_list_find_addr(list, addr, &how, j->arena, value, &ext, err);
}

MAY_WAIT static int find_id(struct local_job *j, struct table_list *list,
                            slice addr, const char *param, uint64_t minimum,
                            uint64_t *out, struct err *err)
{
    slice value;

    if (find_addr(j, list, addr, &value, err) < 0)
        return -1;
    if (value.p == NULL)
        return err_temp(err, "%s: no entry for \"%.*s\"", param, SLF(addr));
    if (!slice_u64(slice_trim(value), out) || *out < minimum)
        return err_temp(err, "%s: bad value \"%.*s\" for \"%.*s\"", param,
                        SLF(value), SLF(addr));
    return 0;
}

/* A path of virtual_mailbox_maps below virtual_mailbox_base. */
MAY_WAIT static int mapped_place(struct local_job *j, slice addr, slice value,
                                 struct local_place *out, struct err *err)
{
    const struct conf *c = j->local->p->conf;
    slice base = conf_slice(c, NULL, "virtual_mailbox_base");
    uint64_t min = (uint64_t)conf_int(c, NULL, "virtual_minimum_uid");

    if (slice_find(value, SL("../")) >= 0)
        return err_temp(err,
                        "virtual_mailbox_maps: \"%.*s\" leaves "
                        "virtual_mailbox_base",
                        SLF(value));
    path_place(j->arena,
               slice_str(
                   arena_printf(j->arena, "%.*s/%.*s", SLF(base), SLF(value))),
               out);
    if (find_id(j, j->local->virtual_uids, addr, "virtual_uid_maps", min,
                &out->uid, err) < 0)
        return -1;
    return find_id(j, j->local->virtual_gids, addr, "virtual_gid_maps", 1,
                   &out->gid, err);
}

/* mail_uid, mail_gid: a number or the name of a system user. */
MAY_WAIT static int named_id(struct local_job *j, const char *param,
                             bool is_gid, uint64_t *out, bool *has,
                             struct err *err)
{
    slice text = conf_slice(j->local->p->conf, NULL, param);
    struct table_user u;
    bool found;

    *has = text.n > 0;
    if (!*has || slice_u64(text, out))
        return 0;
    if (local_system_user(j, text, &u, &found, err) < 0)
        return -1;
    if (!found)
        return err_temp(err, "%s: no such user \"%.*s\"", param, SLF(text));
    *out = is_gid ? u.gid : u.uid;
    return 0;
}

MAY_WAIT static int default_ids(struct local_job *j, struct table_user *u,
                                struct err *err)
{
    uint64_t id = 0;
    bool has;

    if (!j->local->p->is_root_mode) { /* all is one uid */
        u->uid = getuid();
        u->gid = getgid();
        u->has_uid = u->has_gid = true;
        return 0;
    }
    if (!u->has_uid) {
        if (named_id(j, "mail_uid", false, &id, &has, err) < 0)
            return -1;
        u->uid = (uid_t)id;
        u->has_uid = has;
    }
    if (!u->has_gid) {
        if (named_id(j, "mail_gid", true, &id, &has, err) < 0)
            return -1;
        u->gid = (gid_t)id;
        u->has_gid = has;
    }
    return 0;
}

/* The user's line in userdb: by the whole address, without extension. */
MAY_WAIT static int userdb_user(struct local_job *j, slice addr,
                                struct table_user *u, bool *found,
                                struct err *err)
{
    slice value;

    *found = false;
    if (table_list_is_empty(j->local->userdb))
        return 0;
    if (find_addr(j, j->local->userdb, addr, &value, err) < 0)
        return -1;
    if (value.p == NULL)
        return 0;
    if (!table_user_parse(value, u))
        return err_temp(err, "userdb: malformed entry for \"%.*s\"", SLF(addr));
    *found = true;
    return 0;
}

int local_virtual_place(struct local_job *j, slice addr,
                        struct local_place *out, bool *found, struct err *err)
{
    const struct conf *c = j->local->p->conf;
    bool has_maps = !table_list_is_empty(j->local->virtual_maps);
    struct table_user u = { 0 };
    struct location l = { addr, SLICE_NONE };
    slice value = SLICE_NONE;
    slice mail;

    *out = (struct local_place){ .kind = LMTP_MAILBOX, .user = addr };
    if (has_maps) {
        if (find_addr(j, j->local->virtual_maps, addr, &value, err) < 0)
            return -1;
        *found = value.p != NULL;
        if (!*found)
            return 0;
        if (conf_slice(c, NULL, "virtual_mailbox_base").n > 0) {
            out->account = addr;
            return mapped_place(j, addr, value, out, err);
        }
    }
    if (userdb_user(j, addr, &u, found, err) < 0)
        return -1;
    if (!*found && !has_maps)
        return 0;
    *found = true;
    if (default_ids(j, &u, err) < 0)
        return -1;
    if (!u.has_uid || !u.has_gid)
        return err_temp(err,
                        "no uid for \"%.*s\": set mail_uid and mail_gid, "
                        "or give it in userdb",
                        SLF(addr));
    if (u.name.n > 0)
        l.user = u.name;
    l.home = u.home;
    out->uid = u.uid;
    out->gid = u.gid;
    out->home = u.home;
    out->user = l.user;
    out->account = l.user;
    mail = u.mail.n > 0 ? u.mail : conf_slice(c, NULL, "mail_location");
    return expand_location(j->arena, mail, &l, &out->mail, err);
}
