#include "address/address_priv.h"

#include "base/map.h"
#include "ipc/event.h"

/* A message's envelope, as cleanup(8) makes it: sender, recipients with their
 * virtual aliases expanded, and copies by bcc maps. */

#define LIST_MAX 1000000 /* recipients of one message, whatever the limits */

struct seen {
    struct map_node node;
};

void address_list_init(struct address_list *l, struct arena *arena)
{
    *l = (struct address_list){ .arena = arena };
}

static void seen_done(void *p)
{
    map_done(p);
}

/* Has this key come before?  -1 when the arena is full. */
static int seen_before(struct address_list *l, slice key)
{
    struct seen *s;

    if (l->seen == NULL) {
        l->seen = arena_alloc(l->arena, sizeof(*l->seen));
        if (l->seen == NULL)
            return -1;
        map_init(l->seen, true);
        arena_defer(l->arena, seen_done, l->seen);
    }
    if (map_get(l->seen, key) != NULL)
        return 1;
    s = arena_alloc(l->arena, sizeof(*s));
    if (s == NULL)
        return -1;
    map_put(l->seen, &s->node, key);
    return 0;
}

static int list_full(struct err *err)
{
    return err_set(err, ERR_TEMP, "4.3.0", "too many recipients");
}

static int list_append(struct address_list *l, const struct address_rcpt *r,
                       struct err *err)
{
    if (l->n == l->size) {
        size_t size = l->size == 0 ? 4 : 2 * l->size;
        struct address_rcpt *v =
            size > LIST_MAX ? NULL : arena_alloc(l->arena, size * sizeof(*v));

        if (v == NULL)
            return list_full(err);
        if (l->n > 0)
            memcpy(v, l->v, l->n * sizeof(*v));
        l->v = v;
        l->size = size;
    }
    l->v[l->n++] = *r;
    return 0;
}

/* Append unless the same recipient with the same original stands there. */
static int list_add(const struct address *a, struct address_list *l,
                    const struct address_rcpt *r, struct err *err)
{
    struct address_rcpt one = *r;
    char *key;
    int rc;

    /* Without the original, recipients that meet in one address are one. */
    if (!a->keeps_original)
        one.orig = one.addr;
    r = &one;
    key = arena_printf(l->arena, "%u\n%.*s\n%.*s\n%.*s", r->notify,
                       SLF(r->orcpt), SLF(r->orig), SLF(r->addr));
    rc = key != NULL ? seen_before(l, slice_str(key)) : -1;
    if (rc < 0)
        return list_full(err);
    return rc > 0 ? 0 : list_append(l, r, err);
}

/* ------------------------------------------------------------------ *
 * virtual_alias_maps
 */

struct expansion {
    const struct address *a;
    struct arena *arena;
    struct err *err;
    slice *v;
    size_t n;
    size_t size;
    struct map selves; /* addresses that expanded to themselves */
    slice addr;        /* the one we started with, for messages */
};

static int unreasonable(struct expansion *x, const char *what)
{
    err_set(x->err, ERR_TEMP, "4.6.0", "Alias expansion error");
    err_log(x->err,
            "unreasonable virtual_alias_maps map %s for %.*s -- message not "
            "accepted, try again later",
            what, SLF(slice_sub(x->addr, 0, 80)));
    return -1;
}

static int expansion_add(struct expansion *x, slice addr)
{
    if (x->n == x->size) {
        size_t size = 2 * x->size;
        slice *v = arena_alloc(x->arena, size * sizeof(slice));

        if (v == NULL)
            return unreasonable(x, "expansion size");
        memcpy(v, x->v, x->n * sizeof(slice));
        x->v = v;
        x->size = size;
    }
    x->v[x->n++] = addr;
    return 0;
}

/* Put the results of one lookup of x->v[at] in its place and at the end. */
static int expansion_take(struct expansion *x, size_t at, const slice *found,
                          size_t n)
{
    slice lhs = x->v[at];

    for (size_t i = 0; i < n; i++) {
        if (found[i].n > (size_t)x->a->length_limit)
            return unreasonable(x, "result length");
        if (i == 0)
            x->v[at] = found[i];
        else if (expansion_add(x, found[i]) < 0)
            return -1;
        /* An address may expand to itself once: it is not looked up again. */
        if (slice_ieq(lhs, found[i]) && map_get(&x->selves, lhs) == NULL) {
            struct seen *s = arena_alloc(x->arena, sizeof(*s));

            if (s == NULL)
                return unreasonable(x, "expansion size");
            map_put(&x->selves, &s->node, lhs);
        }
    }
    return 0;
}

MAY_WAIT static int expand_at(struct expansion *x, size_t at)
{
    for (int64_t count = 0;; count++) {
        slice *found;
        size_t n;

        if (map_get(&x->selves, x->v[at]) != NULL)
            return 0;
        if (count >= x->a->recursion_limit)
            return unreasonable(x, "nesting");
        if (address_map(x->a, &x->a->virtual_alias, x->v[at],
                        x->a->propagates_virtual, x->arena, &found, &n,
                        x->err) < 0)
            return -1;
        if (n == 0)
            return 0;
        if (expansion_take(x, at, found, n) < 0)
            return -1;
    }
}

MAY_WAIT static int expand(struct expansion *x, slice addr)
{
    int rc = 0;

    x->addr = addr;
    x->size = 4;
    x->v = arena_alloc(x->arena, x->size * sizeof(slice));
    if (x->v == NULL)
        return unreasonable(x, "expansion size");
    x->v[x->n++] = addr;
    map_init(&x->selves, true);
    for (size_t i = 0; rc == 0 && i < x->n; i++) {
        if (x->n > (size_t)x->a->expansion_limit)
            rc = unreasonable(x, "expansion size");
        else
            rc = expand_at(x, i);
    }
    map_done(&x->selves);
    return rc;
}

/* One recipient behind all rewriting: its aliases' addresses. */
MAY_WAIT static int out_recipient(const struct address *a,
                                  struct address_list *l,
                                  const struct address_rcpt *r, struct err *err)
{
    struct expansion x = { .a = a, .arena = l->arena, .err = err };
    struct address_rcpt one = *r;

    if (a->maps_off || table_list_is_empty(a->virtual_alias.list))
        return list_add(a, l, r, err);
    if (expand(&x, r->addr) < 0)
        return -1;
    for (size_t i = 0; i < x.n; i++) {
        one.addr = x.v[i];
        if (list_add(a, l, &one, err) < 0)
            return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------ *
 * Sender, recipients, copies
 */

static bool is_own_daemon(const struct address *a, slice addr)
{
    slice local;
    slice domain;

    return mail_addr_split(addr, &local, &domain) &&
           slice_ieqs(local, "MAILER-DAEMON") && slice_ieq(domain, a->myorigin);
}

int address_sender(const struct address *a, slice sender, struct arena *arena,
                   slice *out, struct err *err)
{
    slice addr;

    CHECK_OBJ(a, ADDRESS_MAGIC);
    if (address_rewrite(a, ADDRESS_LOCAL, sender, arena, &addr, err) < 0)
        return -1;
    if (is_own_daemon(a, addr))
        addr = slice_of("", 0);
    if (address_canonical(a, IN_ENVELOPE_SENDER, &addr, arena, err) < 0)
        return -1;
    *out = addr;
    return 0;
}

/* Rewrite and map one recipient's address. */
MAY_WAIT static int clean_recipient(const struct address *a, slice rcpt,
                                    struct arena *arena, slice *plain,
                                    slice *out, struct err *err)
{
    slice addr = rcpt.n > 0 ? rcpt : a->empty_recipient;

    if (address_rewrite(a, ADDRESS_LOCAL, addr, arena, &addr, err) < 0)
        return -1;
    *plain = addr;
    if (address_canonical(a, IN_ENVELOPE_RCPT, &addr, arena, err) < 0)
        return -1;
    *out = addr;
    return 0;
}

/* NOTIFY=NEVER of RFC 3461, as mail/ and spool/ have it. */
#define NOTIFY_NEVER 1u

int address_add_extra(const struct address *a, struct address_list *l,
                      slice rcpt, struct err *err)
{
    struct address_rcpt r = { .is_bcc = true, .notify = NOTIFY_NEVER };
    slice plain;

    CHECK_OBJ(a, ADDRESS_MAGIC);
    if (clean_recipient(a, rcpt, l->arena, &plain, &r.addr, err) < 0)
        return -1;
    r.orig = plain;
    return out_recipient(a, l, &r, err);
}

/* A copy by a bcc map: one address, not looked up again. */
MAY_WAIT static int add_bcc(const struct address *a, struct address_list *l,
                            const struct maps *m, slice addr, struct err *err)
{
    slice value;

    if (a->maps_off || addr.n == 0)
        return 0;
    if (address_find(a, m, addr, l->arena, &value, NULL, err) < 0)
        return -1;
    return value.p != NULL && value.n > 0 ? address_add_extra(a, l, value, err)
                                          : 0;
}

int address_add_recipient(const struct address *a, struct address_list *l,
                          slice rcpt, slice orcpt, unsigned notify,
                          struct err *err)
{
    struct address_rcpt r = { .orcpt = orcpt, .notify = notify };
    slice plain;

    CHECK_OBJ(a, ADDRESS_MAGIC);
    if (clean_recipient(a, rcpt, l->arena, &plain, &r.addr, err) < 0)
        return -1;
    r.orig = rcpt.n > 0 ? rcpt : plain;
    if (out_recipient(a, l, &r, err) < 0)
        return -1;
    return add_bcc(a, l, &a->recipient_bcc, r.addr, err);
}

int address_add_bcc(const struct address *a, struct address_list *l,
                    slice sender, struct err *err)
{
    CHECK_OBJ(a, ADDRESS_MAGIC);
    if (a->always_bcc.n > 0 && !a->maps_off &&
        address_add_extra(a, l, a->always_bcc, err) < 0)
        return -1;
    return add_bcc(a, l, &a->sender_bcc, sender, err);
}
