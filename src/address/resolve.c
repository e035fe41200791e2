#include "address/address_priv.h"

#include "ipc/event.h"

/* Which class a domain is of, and where an address goes: resolve_local(3),
 * resolve(3) and transport(3) of Postfix's trivial-rewrite. */

/* ------------------------------------------------------------------ *
 * Classes
 */

static bool is_own_literal(const struct address *a, slice domain)
{
    uint8_t ip[16];
    int family;

    if (!mail_literal_parse(domain, &family, ip))
        return false;
    for (size_t i = 0; i < a->n_own; i++) {
        if (a->own[i].is_v6 == (family == 6) &&
            memcmp(a->own[i].ip, ip, family == 6 ? 16 : 4) == 0)
            return true;
    }
    return false;
}

int address_is_local(const struct address *a, slice domain, bool *out,
                     struct err *err)
{
    CHECK_OBJ(a, ADDRESS_MAGIC);
    *out = false;
    if (domain.n > 0 && domain.p[domain.n - 1] == '.')
        domain.n--;
    if (domain.n == 0 || domain.p[domain.n - 1] == '.')
        return 0;
    if (table_match_string(a->mydestination, domain, out, err) < 0)
        return -1;
    if (!*out)
        *out = is_own_literal(a, domain);
    return 0;
}

/* The class of a domain that is not local. */
MAY_WAIT static int other_class(const struct address *a, slice domain,
                                enum address_class *out, struct err *err)
{
    bool found;

    if (table_match_string(a->virtual_alias_domains, domain, &found, err) < 0)
        return -1;
    if (found) {
        *out = ADDRESS_CLASS_ALIAS;
        return 0;
    }
    if (table_match_string(a->virtual_mailbox_domains, domain, &found, err) < 0)
        return -1;
    if (found) {
        *out = ADDRESS_CLASS_VIRTUAL;
        return 0;
    }
    if (table_match_domain(a->relay_domains, domain, &found, err) < 0)
        return -1;
    *out = found ? ADDRESS_CLASS_RELAY : ADDRESS_CLASS_DEFAULT;
    return 0;
}

int address_class(const struct address *a, slice domain,
                  enum address_class *out, struct err *err)
{
    bool is_local;

    if (address_is_local(a, domain, &is_local, err) < 0)
        return -1;
    if (!is_local)
        return other_class(a, domain, out, err);
    *out = ADDRESS_CLASS_LOCAL;
    return 0;
}

/* ------------------------------------------------------------------ *
 * The preliminary resolver: take off local domains and routes
 */

struct resolving {
    const struct address *a;
    struct arena *arena;
    struct err *err;
    slice local;  /* what is left, or the local part when is_remote */
    slice domain; /* behind the last @; of a local address the last one taken */
    bool is_remote;
    bool has_domain; /* some @domain was there */
};

static void strip_tail(const struct address *a, slice *s)
{
    if (s->n > 1 && s->p[s->n - 1] == '.' && s->p[s->n - 2] != '.' &&
        s->p[s->n - 2] != '@')
        s->n--;
    if (a->resolve_null_domain && s->n > 0 && s->p[s->n - 1] == '@')
        s->n--;
}

static bool has_route(const struct address *a, slice s)
{
    return (a->resolve_dequoted && slice_chr(s, '@') >= 0) ||
           (a->swap_bangpath && slice_chr(s, '!') >= 0) ||
           (a->percent_hack && slice_chr(s, '%') >= 0);
}

/* One turn; *again says that the address must be looked at once more. */
MAY_WAIT static int resolve_step(struct resolving *r, slice *addr, bool *again)
{
    const struct address *a = r->a;
    ssize_t at;

    *again = false;
    strip_tail(a, addr);
    at = slice_rchr(*addr, '@');
    if (at >= 0) {
        slice domain = slice_from(*addr, (size_t)at + 1);
        bool is_local = true;

        if (domain.n > 0 && address_is_local(a, domain, &is_local, r->err) < 0)
            return -1;
        r->domain = domain;
        r->has_domain = true;
        r->local = slice_sub(*addr, 0, (size_t)at);
        r->is_remote = !is_local;
        if (r->is_remote)
            return 0;
        *addr = r->local;
    }
    r->local = *addr;
    if (has_route(a, *addr)) {
        *again = true;
        return address_rewrite(a, ADDRESS_LOCAL, *addr, r->arena, addr, r->err);
    }
    if (addr->n == 0) {
        *addr = a->empty_recipient;
        *again = addr->n > 0;
    } else if (!r->has_domain) {
        *addr = address_join(r->arena, *addr, SL("@"), a->myhostname);
        *again = true;
        if (addr->p == NULL)
            return err_temp(r->err, "address too long");
    }
    return 0;
}

MAY_WAIT static int resolve_parts(struct resolving *r, slice addr)
{
    bool again = true;

    for (int i = 0; again; i++) {
        if (i == ADDRESS_STEPS)
            return err_temp(r->err, "address takes too many steps: %.*s",
                            SLF(slice_sub(addr, 0, 100)));
        if (resolve_step(r, &addr, &again) < 0)
            return -1;
    }
    if (!r->has_domain || (!r->is_remote && r->domain.n == 0))
        r->domain = r->has_domain ? SLICE_NONE : r->a->myhostname;
    return 0;
}

static bool domain_is_usable(const struct address *a, slice *domain,
                             struct arena *arena)
{
    uint8_t ip[16];
    int family;

    if (domain->n == 0)
        return false;
    if (domain->p[0] == '[')
        return mail_literal_parse(*domain, &family, ip);
    if (mail_ip_parse(*domain, &family, ip)) {
        if (!a->resolve_numeric_domain)
            return false;
        *domain = address_join(arena, SL("["), *domain, SL("]"));
        return domain->p != NULL;
    }
    return mail_domain_valid(*domain);
}

/* ------------------------------------------------------------------ *
 * Transports
 */

/* "transport:nexthop" on top of a nexthop that stands already. */
static void set_transport(struct address_route *r, slice value)
{
    slice rest = value;
    slice name;

    slice_cut(&rest, ':', &name);
    r->transport = name;
    if (rest.n > 0)
        r->nexthop = rest;
}

/* What a sender is looked up by in sender_dependent_*. */
static slice sender_key(slice sender, slice key_of_null)
{
    return sender.n > 0 ? sender : key_of_null;
}

/* Off-host: relayhost and its kin, then what a transport says itself. */
MAY_WAIT static int set_remote(const struct address *a, slice sender,
                               struct address_route *r, slice domain,
                               struct arena *arena, struct err *err)
{
    slice transport = r->class == ADDRESS_CLASS_RELAY ? a->relay_transport
                                                      : a->default_transport;
    slice value;

    if (r->class == ADDRESS_CLASS_DEFAULT) {
        if (address_find(a, &a->sender_transport,
                         sender_key(sender, a->null_transport_key), arena,
                         &value, NULL, err) < 0)
            return -1;
        if (value.n > 0 && !slice_ieqs(value, "DUNNO"))
            transport = value;
    }
    r->nexthop = a->relayhost.n > 0 ? a->relayhost : domain;
    if (address_find(a, &a->sender_relayhost,
                     sender_key(sender, a->null_relayhost_key), arena, &value,
                     NULL, err) < 0)
        return -1;
    if (value.n > 0)
        r->nexthop = slice_ieqs(value, "DUNNO") ? domain : value;
    set_transport(r, transport);
    return 0;
}

MAY_WAIT static int set_class_route(const struct address *a, slice sender,
                                    struct address_route *r, slice domain,
                                    struct arena *arena, struct err *err)
{
    switch (r->class) {
    case ADDRESS_CLASS_LOCAL:
        r->nexthop = domain;
        set_transport(r, a->local_transport);
        return 0;
    case ADDRESS_CLASS_ALIAS:
        r->transport = SL("error");
        r->nexthop = a->show_table
                         ? SL("5.1.1 User unknown in virtual alias table")
                         : SL("5.1.1 User unknown");
        return 0;
    case ADDRESS_CLASS_VIRTUAL:
        r->nexthop = domain;
        set_transport(r, a->virtual_transport);
        return 0;
    case ADDRESS_CLASS_RELAY:
    case ADDRESS_CLASS_DEFAULT:
        break;
    }
    return set_remote(a, sender, r, domain, arena, err);
}

static void apply_transport(struct address_route *r, slice value, slice domain)
{
    slice nexthop = value;
    slice name;

    slice_cut(&nexthop, ':', &name);
    if (name.n == 0) {
        if (nexthop.n > 0)
            r->nexthop = nexthop;
        return;
    }
    r->transport = name;
    if (nexthop.n > 0)
        r->nexthop = nexthop;
    else if (slice_eqs(name, "error") || slice_eqs(name, "retry"))
        r->nexthop = SL("Address is undeliverable");
    else
        r->nexthop = domain;
}

/* transport_maps: the address, its domain, parents, then "*". */
MAY_WAIT static int apply_transport_maps(const struct address *a,
                                         struct address_route *r, slice domain,
                                         struct arena *arena, struct err *err)
{
    struct table_addr_find how = {
        .strategy =
            TABLE_ADDR_FULL | TABLE_ADDR_NOEXT | TABLE_ADDR_DOMAIN |
            (a->transport_parents ? TABLE_ADDR_PARENT_BARE : TABLE_ADDR_PARENT),
        .delimiters = a->delimiters,
        .flags = a->transport.flags,
    };
    slice value;

    if (table_list_is_empty(a->transport.list))
        return 0;
    if (table_list_find_addr(a->transport.list, r->recipient, &how, arena,
                             &value, NULL, err) < 0)
        return err_prefix(err, "transport_maps lookup problem");
    if (value.p == NULL &&
        table_list_lookup(a->transport.list, SL("*"),
                          TABLE_FIXED_ONLY | a->transport.flags, arena, &value,
                          err) < 0)
        return err_prefix(err, "transport_maps lookup problem");
    if (value.p != NULL)
        apply_transport(r, value, domain);
    return 0;
}

MAY_WAIT static int apply_relocated(const struct address *a,
                                    struct address_route *r,
                                    struct arena *arena, struct err *err)
{
    slice value;

    if (address_find(a, &a->relocated, r->recipient, arena, &value, NULL, err) <
        0)
        return -1;
    if (value.p == NULL)
        return 0;
    r->transport = SL("error");
    r->nexthop =
        address_join(arena, SL("5.1.6 User has moved to "), value, SLICE_NONE);
    return r->nexthop.p != NULL ? 0 : err_temp(err, "relocated_maps: too long");
}

static const struct address_route bad_route = {
    .class = ADDRESS_CLASS_DEFAULT,
    .transport = { "error", 5 },
    .nexthop = { "5.1.3 bad address syntax", 24 },
    .is_bad = true,
};

int address_resolve(const struct address *a, slice sender, slice addr,
                    struct arena *arena, struct address_route *out,
                    struct err *err)
{
    struct resolving r = { .a = a, .arena = arena, .err = err };
    struct address_route route = { .class = ADDRESS_CLASS_LOCAL };

    CHECK_OBJ(a, ADDRESS_MAGIC);
    if (resolve_parts(&r, addr) < 0)
        return -1;
    if (!domain_is_usable(a, &r.domain, arena)) {
        *out = bad_route;
        out->recipient = addr;
        return 0;
    }
    route.recipient = address_join(arena, r.local, SL("@"), r.domain);
    if (route.recipient.p == NULL)
        return err_temp(err, "address too long");
    /* What a next host may take for a route, whatever we make of it. */
    route.is_routed = r.is_remote && (slice_chr(r.local, '@') >= 0 ||
                                      slice_chr(r.local, '!') >= 0 ||
                                      slice_chr(r.local, '%') >= 0);
    if (r.is_remote && other_class(a, r.domain, &route.class, err) < 0)
        return -1;
    if (set_class_route(a, sender, &route, r.domain, arena, err) < 0 ||
        apply_transport_maps(a, &route, r.domain, arena, err) < 0 ||
        apply_relocated(a, &route, arena, err) < 0)
        return -1;
    *out = route;
    return 0;
}
