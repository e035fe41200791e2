#include "address/address_priv.h"

/* reject_unlisted_recipient and reject_unlisted_sender: check_rcpt_maps() of
 * Postfix's smtpd. */

struct asking {
    const struct address *a;
    struct arena *arena;
    bool is_sender;
    struct err *err;
};

/* 1 listed, 0 not, -1 trouble. */
MAY_WAIT static int listed(const struct asking *q, const struct maps *m,
                           slice addr)
{
    slice value;

    if (address_find(q->a, m, addr, q->arena, &value, NULL, q->err) < 0)
        return -1;
    return value.p != NULL;
}

/* An address that is rewritten is taken for good: what it becomes is looked at
 * when it is delivered. */
MAY_WAIT static int is_rewritten(const struct asking *q, slice addr)
{
    const struct address *a = q->a;
    int rc = listed(q, &a->recipient_canonical, addr);

    if (rc == 0 && q->is_sender)
        rc = listed(q, &a->sender_canonical, addr);
    if (rc == 0)
        rc = listed(q, &a->canonical, addr);
    if (rc == 0)
        rc = listed(q, &a->virtual_alias, addr);
    return rc;
}

/* "5.1.1 text" of error: into its two parts. */
static void split_status(slice text, struct address_answer *out)
{
    slice rest = text;
    slice word;

    if (slice_token(&rest, " ", &word) && word.n >= 5 &&
        ascii_isdigit(word.p[0]) && word.p[1] == '.') {
        out->status = word;
        out->why = slice_trim(rest);
    } else {
        out->why = text;
    }
}

static bool is_left(slice addr, const char *name)
{
    slice local;
    slice domain;

    (void)mail_addr_split(addr, &local, &domain);
    return slice_ieqs(local, name);
}

/* Names that exist whatever the tables say. */
static bool is_system_name(slice addr)
{
    return is_left(addr, "double-bounce") || is_left(addr, "postmaster") ||
           is_left(addr, "mailer-daemon");
}

struct class_maps {
    const struct maps *maps;
    int code;
    const char *why;
    const char *why_table;
};

/* The table of the class; NULL: everybody is taken. */
static bool maps_of_class(const struct address *a, enum address_class of,
                          struct class_maps *out)
{
    *out = (struct class_maps){ .why = "User unknown" };
    if (of == ADDRESS_CLASS_LOCAL) {
        out->maps = &a->local_rcpt;
        out->code = a->local_code;
        out->why_table = "User unknown in local recipient table";
    } else if (of == ADDRESS_CLASS_VIRTUAL) {
        /* Without virtual_mailbox_maps the users are those of userdb. */
        out->maps = table_list_is_empty(a->virtual_mailbox.list)
                        ? &a->userdb
                        : &a->virtual_mailbox;
        out->code = a->mailbox_code;
        out->why_table = "User unknown in virtual mailbox table";
    } else if (of == ADDRESS_CLASS_RELAY) {
        out->maps = &a->relay_rcpt;
        out->code = a->relay_code;
        out->why_table = "User unknown in relay recipient table";
    }

    return out->maps != NULL && !table_list_is_empty(out->maps->list);
}

MAY_WAIT static int ask_class(const struct asking *q,
                              const struct address_route *route,
                              struct address_answer *out)
{
    const struct address *a = q->a;
    struct class_maps m;
    int rc;

    if (!maps_of_class(a, route->class, &m) ||
        (route->class == ADDRESS_CLASS_LOCAL &&
         is_system_name(route->recipient)))
        return 0;
    rc = listed(q, m.maps, route->recipient);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    out->exists = false;
    out->code = m.code;
    out->why = slice_str(a->show_table ? m.why_table : m.why);
    return 0;
}

MAY_WAIT static int ask_exists(const struct asking *q, slice addr,
                               struct address_answer *out)
{
    struct address_route route;
    int rc;

    *out = (struct address_answer){
        .exists = true,
        .code = 550,
        .status = q->is_sender ? SL("5.1.0") : SL("5.1.1"),
    };
    if (address_resolve(q->a, SLICE_NONE, addr, q->arena, &route, q->err) < 0)
        return -1;
    out->class = route.class;
    rc = is_rewritten(q, route.recipient);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (slice_eqs(route.transport, "error") ||
        slice_eqs(route.transport, "retry")) {
        out->exists = false;
        out->is_retry = slice_eqs(route.transport, "retry");
        if (out->is_retry) {
            out->code = 450;
            out->status = SL("4.0.0");

        } else if (route.class == ADDRESS_CLASS_ALIAS) {
            out->code = q->a->alias_code;
        }

        split_status(route.nexthop, out);
        return 0;
    }
    return ask_class(q, &route, out);
}

int address_recipient_exists(const struct address *a, slice addr,
                             struct arena *arena, struct address_answer *out,
                             struct err *err)
{
    struct asking q = { a, arena, false, err };

    CHECK_OBJ(a, ADDRESS_MAGIC);
    return ask_exists(&q, addr, out);
}

int address_sender_exists(const struct address *a, slice addr,
                          struct arena *arena, struct address_answer *out,
                          struct err *err)
{
    struct asking q = { a, arena, true, err };

    CHECK_OBJ(a, ADDRESS_MAGIC);
    return ask_exists(&q, addr, out);
}
