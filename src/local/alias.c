#include "local/local_priv.h"

#define HEADER_READ (64u << 10)

/* ---- loops */

/* The message's header as it was accepted, read once per job. */
static slice job_header(struct local_job *j)
{
    size_t n = (size_t)min_size(j->body_bytes, HEADER_READ);
    char *p;

    if (j->has_header || j->body_fd < 0)
        return j->header;
    j->has_header = true;
    p = arena_alloc(j->arena, n + 1);
    if (p == NULL)
        return SLICE_NONE;
    ssize_t got = pread(j->body_fd, p, n, (off_t)j->body_at);
    j->header = slice_of(p, got > 0 ? (size_t)got : 0);
    return j->header;
}

/* Does the address stand among those that led to it? */
static bool is_own_ancestor(const struct local_rcpt *r)
{
    slice path = r->path;
    slice step;

    while (slice_cut(&path, '\n', &step))
        if (slice_ieq(step, r->addr))
            return true;
    return false;
}

/* ---- aliases */

struct found {
    slice value; /* p NULL: there is none */
    slice rest;  /* the extension that did not match */
    uid_t owner; /* of the file */
};

/* "user+ext", then "user". */
MAY_WAIT static int find_alias(struct local_job *j, slice local, slice user,
                               slice ext, struct found *out, struct err *err)
{
    struct table_list *l = j->local->aliases;

    *out = (struct found){ .value = SLICE_NONE };
    if (table_list_lookup_owned(l, local, j->arena, &out->value, &out->owner,
                                err) < 0)
        return -1;
    if (out->value.p != NULL || ext.n == 0)
        return 0;
    out->rest = ext;
    return table_list_lookup_owned(l, user, j->arena, &out->value, &out->owner,
                                   err);
}

/* Commands, files and :include: of an alias file have its owner's rights; where
 * that is root or not known, those of default_privs; where all is one user,
 * nobody has others. */
MAY_WAIT static int alias_rights(struct local_job *j, uid_t owner,
                                 struct local_source *src, struct err *err)
{
    struct table_user u;
    bool found;

    if (owner == 0 || owner == (uid_t)-1 || !j->local->p->is_root_mode) {
        src->user = conf_slice(j->local->p->conf, NULL, "default_privs");
        return local_default_privs(j, &src->uid, &src->gid, err);
    }
    if (tables_system_uid(j->local->tables, owner, j->arena, &u, &found, err) <
        0)
        return -1;
    if (!found)
        return err_temp(err, "cannot find alias database owner (uid %lu)",
                        (unsigned long)owner);
    src->user = u.name;
    src->home = u.home;
    src->uid = u.uid;
    src->gid = u.gid;
    return 0;
}

/* An alias with an owner: bounces of what it expands to go there. */
MAY_WAIT static int find_owner(struct local_job *j, struct local_rcpt *r,
                               slice user, slice domain, struct err *err)
{
    slice owner = slice_str(arena_printf(j->arena, "owner-%.*s", SLF(user)));
    slice value;

    if (slice_istarts(user, SL("owner-")))
        return 0;
    if (table_list_lookup(j->local->aliases, owner, 0, j->arena, &value, err) <
        0)
        return -1;
    if (value.p == NULL)
        return 0;
    r->has_owner = true;
    if (!conf_bool(j->local->p->conf, NULL, "expand_owner_alias") ||
        slice_chr(slice_trim(value), ',') >= 0) {
        r->owner = slice_str(
            arena_printf(j->arena, "%.*s@%.*s", SLF(owner), SLF(domain)));
        return 0;
    }
    if (address_rewrite(j->local->address, ADDRESS_LOCAL, slice_trim(value),
                        j->arena, &value, err) < 0)
        return -1;
    r->owner = slice_dup(j->arena, value);
    return 0;
}

static void expanded(struct local_rcpt *r)
{
    r->is_done = true;
    r->outcome = OUT_EXPANDED;
    (void)snprintf(r->status, sizeof r->status, "2.0.0");
    r->diag = SL("expanded");
    r->relay = SL("local");
}

/* True: the recipient is done (expanded or failed). */
MAY_WAIT static bool try_alias(struct local_job *j, struct local_rcpt *r,
                               slice local, slice user, slice ext, slice domain)
{
    struct local_source src = { .domain = domain, .home = SL("/") };
    struct err err;
    struct found f;

    if (table_list_is_empty(j->local->aliases))
        return false;
    if (find_alias(j, local, user, ext, &f, &err) < 0) {
        local_failed(j, r, &err);
        return true;
    }
    if (f.value.p == NULL)
        return false;
    if (alias_rights(j, f.owner, &src, &err) < 0 ||
        find_owner(j, r, f.rest.n > 0 ? user : local, domain, &err) < 0 ||
        local_expand(j, r, &src, f.value, 0, &err) < 0) {
        local_failed(j, r, &err);
        return true;
    }
    if (r->n_others == 0)
        local_bounced(j, r, "5.3.5", "alias \"%.*s\" has no destination",
                      SLF(local));
    else
        expanded(r);
    return true;
}

/* ---- .forward */

struct forward_names {
    const struct table_user *u;
    slice ext;
    slice delimiter;
};

static bool forward_name(void *ctx, slice name, struct buf *out)
{
    const struct forward_names *f = ctx;

    if (slice_eqs(name, "home"))
        return buf_slice(out, f->u->home);
    if (slice_eqs(name, "user"))
        return buf_slice(out, f->u->name);
    if (slice_eqs(name, "extension") && f->ext.n > 0)
        return buf_slice(out, f->ext);
    if (slice_eqs(name, "recipient_delimiter") && f->ext.n > 0)
        return buf_slice(out, f->delimiter);
    return false;
}

static int forward_paths(struct local_job *j, const struct table_user *u,
                         slice ext, struct buf *b, struct err *err)
{
    const struct conf *c = j->local->p->conf;
    slice list = slice_str(conf_raw(c, NULL, "forward_path"));
    struct forward_names names = {
        .u = u,
        .ext = ext,
        .delimiter =
            slice_sub(conf_slice(c, NULL, "recipient_delimiter"), 0, 1),
    };
    slice word;
    slice last = SLICE_NONE;

    while (conf_list_next(&list, &word)) {
        struct buf path;
        int r;

        buf_init(&path, 4096);
        r = conf_expand_filtered(word, forward_name, &names,
                                 conf_str(c, NULL, "forward_expansion_filter"),
                                 &path, err);
        if (r == 0 && !slice_eq(buf_view(&path), last)) {
            last = slice_dup(j->arena, buf_view(&path));
            (void)attr_put(b, AT_PATH, last);
        }
        buf_done(&path);
        if (r < 0)
            return -1;
    }
    return 0;
}

/* The contents of the user's .forward by his own worker; p NULL when there is
 * none. */
MAY_WAIT static int read_forward(struct local_job *j,
                                 const struct table_user *u,
                                 const struct lmtp_place *place, slice ext,
                                 slice *content, struct err *err)
{
    struct msg answer = { 0 };
    struct buf b;
    slice text = SLICE_NONE;
    int r;

    *content = SLICE_NONE;
    buf_init(&b, 32768);
    (void)attr_put(&b, AT_USER, u->name);
    (void)attr_put(&b, AT_HOME, u->home);
    r = forward_paths(j, u, ext, &b, err);
    if (r == 0 && b.overflow)
        r = err_temp(err, "forward_path is too long");
    if (r == 0)
        r = lmtp_worker_ask(j->local->workers, place, WORKER_FORWARD,
                            buf_view(&b), &answer, err);
    buf_done(&b);
    if (r < 0)
        return err_prefix(err, "look for .forward of %.*s", SLF(u->name));
    if (attr_find(answer.body, AT_CONTENT, &text)) {
        *content = slice_dup(j->arena, text);
        /* Without memory for it, it is not as if there were none. */
        r = content->p == NULL && text.n > 0
                ? err_temp(err, "no memory for .forward of %.*s", SLF(u->name))
                : 0;
    }
    msg_free(&answer);
    return r;
}

/* True: the recipient is done. */
MAY_WAIT static bool try_forward(struct local_job *j, struct local_rcpt *r,
                                 const struct table_user *u,
                                 const struct lmtp_place *place, slice ext,
                                 slice domain)
{
    struct local_source src = {
        .is_forward = true,
        .user = u->name,
        .home = u->home,
        .uid = u->uid,
        .gid = u->gid,
        .domain = domain,
    };
    struct err err;
    slice content = SLICE_NONE;

    if (read_forward(j, u, place, ext, &content, &err) < 0) {
        local_failed(j, r, &err);
        return true;
    }
    if (content.n == 0)
        return false;
    if (local_expand(j, r, &src, content, 0, &err) < 0) {
        /* As Postfix: what a user wrote wrongly delays his mail, it does not
         * bounce it. */
        err.class = ERR_TEMP;
        (void)snprintf(err.status, sizeof err.status, "4.3.0");
        local_failed(j, r, &err);
        return true;
    }
    if (r->n_others == 0)
        return false; /* an empty .forward is none */
    expanded(r);
    return true;
}

/* ---- users */

struct luser_names {
    const struct local_rcpt *r;
    slice local, user, ext, domain, delimiter;
};

static bool luser_name(void *ctx, slice name, struct buf *out)
{
    const struct luser_names *n = ctx;

    const struct {
        const char *name;
        slice value;
    } known[] = {
        { "local", n->local },
        { "user", n->user },
        { "extension", n->ext },
        { "domain", n->domain },
        { "recipient", n->r->addr },
        { "recipient_delimiter", n->ext.n > 0 ? n->delimiter : SLICE_NONE },
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_eqs(name, known[i].name) && known[i].value.n > 0)
            return buf_slice(out, known[i].value);
    return false; /* $home and $shell: there is no such user */
}

/* luser_relay, an address.  *out empty: there is none. */
static int luser_relay(struct local_job *j, struct luser_names *names,
                       slice *out, struct err *err)
{
    const struct conf *c = j->local->p->conf;
    struct buf b CLEANUP(buf_done) = { 0 };

    *out = SLICE_NONE;
    buf_init(&b, MAIL_ADDRESS_MAX);
    /* What a stranger wrote must not become a list or a command. */
    if (conf_expand_filtered(slice_str(conf_raw(c, NULL, "luser_relay")),
                             luser_name, names,
                             "abcdefghijklmnopqrstuvwxyz"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_=+%!#&'*",
                             &b, err) < 0) {
        err->class = ERR_TEMP; /* our own configuration */
        return -1;
    }
    *out = slice_dup(j->arena, slice_trim(buf_view(&b)));
    return 0;
}

/* Nobody of that name: to luser_relay, unless we come from there. */
MAY_WAIT static void ask_luser(struct local_job *j, struct local_rcpt *r,
                               struct luser_names *names)
{
    struct local_source src = { .domain = names->domain };
    struct err err;
    slice relay;

    if (luser_relay(j, names, &relay, &err) < 0) {
        local_failed(j, r, &err);
        return;
    }
    if (relay.n == 0 || is_own_ancestor(r)) {
        local_bounced(j, r, "5.1.1", "unknown user: \"%.*s\"",
                      SLF(names->local));
        return;
    }
    if (local_expand_address(j, r, &src, relay, &err) < 0)
        local_failed(j, r, &err);
    else
        expanded(r);
}

MAY_WAIT static void user_route(struct local_job *j, struct local_rcpt *r,
                                slice local, bool to_mailbox)
{
    const struct conf *c = j->local->p->conf;
    slice user = SLICE_NONE, ext = SLICE_NONE, name, domain;
    struct table_user u;
    struct err err;
    bool found;

    if (!mail_addr_split(local, &name, &domain)) {
        name = local;
        domain = conf_slice(c, NULL, "myhostname");
    }
    name = slice_lower(j->arena, name);
    if (!mail_local_split(name, conf_slice(c, NULL, "recipient_delimiter"),
                          true, &user, &ext))
        user = name;
    if (!to_mailbox && try_alias(j, r, name, user, ext, domain))
        return;
    if (local_system_user(j, user, &u, &found, &err) < 0 ||
        (found && local_user_place(j, &u, &r->place, &err) < 0)) {
        local_failed(j, r, &err);
        return;
    }
    if (!found) {
        struct luser_names names = {
            r,      name,
            user,   ext,
            domain, slice_sub(conf_slice(c, NULL, "recipient_delimiter"), 0, 1),
        };

        ask_luser(j, r, &names);
        return;
    }
    if (!to_mailbox && !j->is_probe &&
        try_forward(j, r, &u, &r->place, ext, domain))
        return;
    r->has_place = true;
}

void local_route(struct local_job *j, struct local_rcpt *r)
{
    slice mailbox = SLICE_NONE;

    if (r->depth > LOCAL_DEPTH_MAX) {
        local_bounced(j, r, "5.4.6", "unreasonable alias/forward nesting");
        return;
    }
    if (local_is_special(r->addr)) {
        if (r->depth == 0 ||
            !local_special_parse(r->addr, &mailbox, &r->place)) {
            local_bounced(j, r, "5.1.3", "bad address syntax");
            return;
        }
        if (mailbox.n == 0) {
            r->has_place = true;
            return;
        }
        user_route(j, r, mailbox, true);
        return;
    }
    if (mail_header_delivered_to(job_header(j), r->addr)) {
        local_bounced(j, r, "5.4.6", "mail forwarding loop for %.*s",
                      SLF(r->addr));
        return;
    }
    user_route(j, r, r->addr, is_own_ancestor(r));
}
