#include "local/local_priv.h"

/* local_expand() and include() call each other: LOCAL_INCLUDE_DEPTH bounds it.
 * NOLINTBEGIN(misc-no-recursion) */

/* An address from outside may hold no control byte: \001 marks our own. */
static bool is_plain(slice addr)
{
    for (size_t i = 0; i < addr.n; i++)
        if ((unsigned char)addr.p[i] < ' ' || addr.p[i] == 0x7f)
            return false;
    return addr.n > 0 && addr.n < MAIL_ADDRESS_MAX;
}

static int add(struct local_job *j, struct local_rcpt *r, slice other,
               struct err *err)
{
    if (other.n == 0)
        return err_perm(err, "bad destination");
    if (r->n_others >= LOCAL_EXPANSION_MAX)
        return err_set(err, ERR_PERM, "5.4.6",
                       "alias expands to too many "
                       "addresses");
    if (r->n_others == r->others_room) {
        size_t room = r->others_room == 0 ? 8 : r->others_room * 2;
        slice *v = arena_alloc(j->arena, room * sizeof *v);

        if (v == NULL)
            return err_temp(err, "alias expansion: no memory");
        if (r->n_others > 0)
            memcpy(v, r->others, r->n_others * sizeof *v);
        r->others = v;
        r->others_room = room;
    }
    r->others[r->n_others++] = other;
    return 0;
}

int local_expand_address(struct local_job *j, struct local_rcpt *r,
                         const struct local_source *src, slice text,
                         struct err *err)
{
    slice out;
    slice local, domain;

    if (!is_plain(text))
        return err_perm(err, "bad address in alias or .forward");
    if (!mail_addr_split(text, &local, &domain) && src->domain.n > 0) {
        const char *full =
            arena_printf(j->arena, "%.*s@%.*s", SLF(text), SLF(src->domain));

        if (full == NULL)
            return err_temp(err, "alias expansion: no memory");
        text = slice_str(full);
    }
    if (address_rewrite(j->local->address, ADDRESS_LOCAL, text, j->arena, &out,
                        err) < 0)
        return -1;
    return add(j, r, slice_dup(j->arena, out), err);
}

/* One text that is being expanded: `depth` counts the :include: files. */
struct expansion {
    struct local_job *j;
    struct local_rcpt *r;
    const struct local_source *src;
    unsigned depth;
};

static bool is_allowed(const struct expansion *x, const char *param)
{
    const char *kind = x->src->is_forward ? "forward"
                       : x->depth > 0     ? "include"
                                          : "alias";
    slice list = conf_slice(x->j->local->p->conf, NULL, param);
    slice word;

    while (conf_list_next(&list, &word))
        if (slice_ieqs(word, kind))
            return true;
    return false;
}

static int add_target(const struct expansion *x, enum lmtp_kind kind, slice arg,
                      struct err *err)
{
    struct arena *a = x->j->arena;
    const char *param =
        kind == LMTP_COMMAND ? "allow_mail_to_commands" : "allow_mail_to_files";

    if (!is_allowed(x, param))
        return err_set(err, ERR_PERM, "5.7.1", "mail to %s is restricted",
                       kind == LMTP_COMMAND ? "command" : "file");
    if (kind == LMTP_FILE && arg.n > 1 && arg.p[0] == '~' && arg.p[1] == '/')
        arg = slice_str(arena_printf(a, "%.*s%.*s", SLF(x->src->home),
                                     SLF(slice_from(arg, 1))));
    if (kind == LMTP_FILE && (arg.n == 0 || arg.p[0] != '/'))
        return err_perm(err, "bad file name in .forward");
    return add(x->j, x->r, local_special_target(a, kind, x->src, arg), err);
}

/* :include: files are read with the uid that commands of this source get. */
MAY_WAIT static int read_include(const struct expansion *x, slice path,
                                 slice *content, struct err *err)
{
    const struct local_source *src = x->src;
    struct buf long_text;
    slice body = SLICE_NONE;
    struct lmtp_place place = {
        .uid = src->uid,
        .gid = src->gid,
        .user = src->user,
        .account = src->user,
        .by_command_worker = !src->is_forward,
    };
    struct msg answer = { 0 };
    struct buf b;
    slice text = SLICE_NONE;
    int result = -1;

    buf_init(&b, PATH_MAX + 16);
    if (!attr_put(&b, AT_PATH, path))
        err_temp(err, "its name is too long");
    else
        result = lmtp_worker_ask(x->j->local->workers, &place, WORKER_INCLUDE,
                                 buf_view(&b), &answer, err);
    buf_done(&b);
    if (result < 0)
        return err_prefix(err, "open include file %.*s",
                          SLF(slice_sub(path, 0, 200)));
    buf_init(&long_text, LOCAL_INCLUDE_MAX + 4096);
    result = msg_read_big(&answer, &long_text, &body, err);
    /* Nothing is not the same as an empty list: its members would be lost. */
    if (result == 0 && !attr_find(body, AT_CONTENT, &text))
        result = err_temp(err, "include file %.*s was not read", SLF(path));
    *content = slice_dup(x->j->arena, text);
    if (content->n < text.n)
        result = err_temp(err, "no memory for include file %.*s", SLF(path));
    buf_done(&long_text);
    msg_free(&answer);
    return result;
}

MAY_WAIT static int include(const struct expansion *x, slice path,
                            struct err *err)
{
    slice content = SLICE_NONE;

    if (x->depth >= LOCAL_INCLUDE_DEPTH)
        return err_temp(err, ":include: files are nested too deep at %.*s",
                        SLF(path));
    if (path.n == 0 || path.p[0] != '/')
        return err_temp(err, ":include: file \"%.*s\" is no absolute path",
                        SLF(path));
    if (read_include(x, path, &content, err) < 0)
        return -1;
    return local_expand(x->j, x->r, x->src, content, x->depth + 1, err);
}

MAY_WAIT static int one(const struct expansion *x, const struct mail_dest *d,
                        struct err *err)
{
    switch (d->kind) {
    case MAIL_DEST_ADDRESS:
        return local_expand_address(x->j, x->r, x->src, d->text, err);
    case MAIL_DEST_USER: {
        slice user, domain;

        if (!is_plain(d->text))
            return err_perm(err, "bad address in alias or .forward");
        if (mail_addr_split(d->text, &user, &domain))
            return local_expand_address(x->j, x->r, x->src, d->text, err);
        return add(x->j, x->r,
                   local_special_mailbox(x->j->arena, d->text, x->src->domain),
                   err);
    }
    case MAIL_DEST_COMMAND:
        return add_target(x, LMTP_COMMAND, d->text, err);
    case MAIL_DEST_FILE:
        return add_target(x, LMTP_FILE, d->text, err);
    case MAIL_DEST_INCLUDE:
        return include(x, d->text, err);
    }
    return 0;
}

int local_expand(struct local_job *j, struct local_rcpt *r,
                 const struct local_source *src, slice text, unsigned depth,
                 struct err *err)
{
    const struct expansion x = { j, r, src, depth };
    struct mail_dest_iter it;
    struct mail_dest d = { 0 };
    int got;

    mail_dest_iter_init(&it, j->arena, text, false, LOCAL_EXPANSION_MAX);
    while ((got = mail_dest_next(&it, &d)) > 0) {
        if (one(&x, &d, err) < 0)
            return -1;
        task_yield_if_long();
    }
    if (got < 0)
        return err_temp(err, "alias or .forward of %.*s is too long",
                        SLF(r->shown));
    return 0;
}

/* NOLINTEND(misc-no-recursion) */
