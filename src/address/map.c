#include "address/address_priv.h"

#include "ipc/event.h"

/* Address mapping: mail_addr_find(3), mail_addr_map(3), and what cleanup(8)
 * makes of them. */

#define MAP_RESULTS 100000 /* bound of one result list */

/* NOLINTNEXTLINE(readability-function-size): a lookup has seven facts */
int address_find(const struct address *a, const struct maps *m, slice addr,
                 struct arena *arena, slice *value, slice *ext, struct err *err)
{
    struct table_addr_find how = { .strategy = TABLE_ADDR_DEFAULT,
                                   .delimiters = a->delimiters,
                                   .flags = m->flags };
    slice local;
    slice domain;

    *value = SLICE_NONE;
    if (table_list_is_empty(m->list))
        return 0;
    if (mail_addr_split(addr, &local, &domain)) {
        how.is_local = slice_ieq(domain, a->myorigin);
        if (!how.is_local &&
            address_is_local(a, domain, &how.is_local, err) < 0)
            return -1;
    }
    if (table_list_find_addr(m->list, addr, &how, arena, value, ext, err) < 0)
        return err_prefix(err, "%s map lookup problem for %.*s", m->param,
                          SLF(slice_sub(addr, 0, 100)));
    return 0;
}

/* user@domain and +ext to user+ext@domain. */
static slice with_extension(struct arena *arena, slice addr, slice ext)
{
    slice local;
    slice domain;

    if (!mail_addr_split(addr, &local, &domain))
        return address_join(arena, addr, ext, SLICE_NONE);
    return address_join(arena, local, ext, slice_from(addr, local.n));
}

/* "@other": the same user there. */
static slice with_user(struct arena *arena, slice addr, slice ext, slice value)
{
    slice local = addr;
    slice domain;

    (void)mail_addr_split(addr, &local, &domain);
    if (ext.n > 0 && slice_ends(local, ext))
        local.n -= ext.n;
    return address_join(arena, local, value, SLICE_NONE);
}

slice *address_list_parse(const struct address *a, slice text,
                          struct arena *arena, size_t *n_out)
{
    struct mail_dest_iter it;
    struct mail_dest dest;
    size_t size = 8;
    size_t n = 0;
    slice *v = arena_alloc(arena, size * sizeof(slice));
    int rc = -1;

    mail_dest_iter_init(&it, arena, text, true, MAP_RESULTS);
    while (v != NULL && (rc = mail_dest_next(&it, &dest)) > 0) {
        slice addr;

        if (address_rewrite(a, ADDRESS_LOCAL, dest.text, arena, &addr, NULL) <
            0)
            return NULL;
        if (n == size) {
            slice *bigger = arena_alloc(arena, 2 * size * sizeof(slice));

            if (bigger == NULL)
                return NULL;
            memcpy(bigger, v, n * sizeof(slice));
            v = bigger;
            size *= 2;
        }
        if (addr.n > 0)
            v[n++] = addr;
    }
    *n_out = n;
    return rc < 0 ? NULL : v;
}

/* NOLINTNEXTLINE(readability-function-size): a lookup and two results */
int address_map(const struct address *a, const struct maps *m, slice addr,
                bool propagates, struct arena *arena, slice **out,
                size_t *n_out, struct err *err)
{
    slice ext = SLICE_NONE;
    slice value;
    size_t n;
    slice *v;

    *n_out = 0;
    if (address_find(a, m, addr, arena, &value, &ext, err) < 0)
        return -1;
    if (value.p == NULL)
        return 0;
    if (value.n > 0 && value.p[0] == '@')
        value = with_user(arena, addr, ext, value);
    v = value.p != NULL ? address_list_parse(a, value, arena, &n) : NULL;
    if (v == NULL)
        return err_set(err, ERR_TEMP, "4.6.0", "Alias expansion error");
    for (size_t i = 0; propagates && ext.n > 0 && i < n; i++) {
        v[i] = with_extension(arena, v[i], ext);
        if (v[i].p == NULL)
            return err_set(err, ERR_TEMP, "4.6.0", "Alias expansion error");
    }
    *out = v;
    *n_out = n;
    return 0;
}

int address_map_one(const struct address *a, const struct maps *m,
                    bool propagates, slice *addr, struct arena *arena,
                    struct err *err)
{
    for (int i = 0; i < ADDRESS_MAP; i++) {
        bool to_self;
        slice *v;
        size_t n;

        if (address_map(a, m, *addr, propagates, arena, &v, &n, err) < 0)
            return -1;
        if (n == 0)
            return 0;
        if (n > 1)
            log_warning("multi-valued %s entry for %.*s", m->param, SLF(*addr));
        to_self = slice_ieq(*addr, v[0]);
        *addr = v[0];
        if (to_self || a->is_generic)
            return 0;
    }
    err_set(err, ERR_TEMP, "4.6.0", "Alias expansion error");
    err_log(err,
            "unreasonable %s map nesting for %.*s -- message not accepted, try "
            "again later",
            m->param, SLF(slice_sub(*addr, 0, 100)));
    return -1;
}

int address_masquerade(const struct address *a, slice *addr,
                       struct arena *arena, struct err *err)
{
    slice local;
    slice domain;
    bool is_excepted;

    if (a->n_masquerade == 0 || !mail_addr_split(*addr, &local, &domain))
        return 0;
    if (table_match_string(a->masquerade_exceptions, local, &is_excepted, err) <
        0)
        return -1;
    for (size_t i = 0; i < a->n_masquerade && !is_excepted; i++) {
        const struct masquerade *m = &a->masquerade[i];

        if (slice_ieq(m->domain, domain))
            return 0;
        if (m->domain.n >= domain.n ||
            domain.p[domain.n - m->domain.n - 1] != '.' ||
            !slice_iends(domain, m->domain))
            continue;
        if (!m->truncate)
            return 0;
        *addr = address_join(arena, local, SL("@"),
                             slice_from(domain, domain.n - m->domain.n));
        return addr->p != NULL ? 0 : err_temp(err, "address too long");
    }
    return 0;
}

int address_canonical(const struct address *a, unsigned where, slice *addr,
                      struct arena *arena, struct err *err)
{
    bool is_sender = (where & (IN_ENVELOPE_SENDER | IN_HEADER_SENDER)) != 0;
    const struct maps *own =
        is_sender ? &a->sender_canonical : &a->recipient_canonical;

    if (a->maps_off || addr->n == 0)
        return 0;
    if ((own->classes & where) != 0 &&
        address_map_one(a, own, a->propagates_canonical, addr, arena, err) < 0)
        return -1;
    if ((a->canonical.classes & where) != 0 &&
        address_map_one(a, &a->canonical, a->propagates_canonical, addr, arena,
                        err) < 0)
        return -1;
    if ((a->masquerade_classes & where) != 0)
        return address_masquerade(a, addr, arena, err);
    return 0;
}

int address_generic(const struct address *a, slice *addr, struct arena *arena,
                    struct err *err)
{
    if (addr->n == 0)
        return 0;
    return address_map_one(a, &a->canonical, a->propagates_canonical, addr,
                           arena, err);
}
