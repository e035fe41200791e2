#include "address/address_priv.h"

/* What trivial-rewrite(8) does to the form of an address. */

slice address_join(struct arena *arena, slice x, slice y, slice z)
{
    size_t n = x.n + y.n + z.n;
    char *p = n > ADDRESS_BYTES ? NULL : arena_alloc(arena, n + 1);

    if (p == NULL)
        return SLICE_NONE;
    if (x.n > 0)
        memcpy(p, x.p, x.n);
    if (y.n > 0)
        memcpy(p + x.n, y.p, y.n);
    if (z.n > 0)
        memcpy(p + x.n + y.n, z.p, z.n);
    return slice_of(p, n);
}

static int too_long(struct err *err)
{
    return err_set(err, ERR_TEMP, "4.3.0", "address too long");
}

/* An address without @: site!user, user%site, or a bare user. */
static int complete(const struct address *a, slice origin, slice *addr,
                    struct arena *arena)
{
    ssize_t bang = slice_chr(*addr, '!');
    ssize_t percent = slice_rchr(*addr, '%');

    if (a->swap_bangpath && bang >= 0)
        *addr = address_join(arena, slice_from(*addr, (size_t)bang + 1),
                             SL("@"), slice_sub(*addr, 0, (size_t)bang));
    else if (a->percent_hack && percent >= 0)
        *addr = address_join(arena, slice_sub(*addr, 0, (size_t)percent),
                             SL("@"), slice_from(*addr, (size_t)percent + 1));
    else if (a->append_at_myorigin && origin.n > 0)
        *addr = address_join(arena, *addr, SL("@"), origin);
    return addr->p != NULL ? 0 : -1;
}

int address_rewrite(const struct address *a, enum address_context context,
                    slice addr, struct arena *arena, slice *out,
                    struct err *err)
{
    bool is_local = context == ADDRESS_LOCAL;
    slice origin = is_local ? a->myorigin : a->remote_domain;
    slice domain = is_local ? a->mydomain : a->remote_domain;
    ssize_t at;

    if (addr.n == 0 || slice_eqs(addr, "@")) {
        *out = slice_of("", 0);
        return 0;
    }
    at = slice_rchr(addr, '@');
    if (at < 0 && complete(a, origin, &addr, arena) < 0)
        return too_long(err);
    at = slice_rchr(addr, '@');
    /* Broken forms that end in @ are left alone. */
    if (a->append_dot_mydomain && domain.n > 0 && at >= 0 &&
        (size_t)at + 1 < addr.n) {
        slice name = slice_from(addr, (size_t)at + 1);

        if (slice_chr(name, '.') < 0 && slice_chr(name, '[') < 0)
            addr = address_join(arena, addr, SL("."), domain);
        if (addr.p == NULL)
            return too_long(err);
    }
    /* One dot at the end goes, but not of ".." and "@.". */
    if (addr.n > 1 && addr.p[addr.n - 1] == '.' && addr.p[addr.n - 2] != '.' &&
        addr.p[addr.n - 2] != '@')
        addr.n--;
    *out = addr;
    return 0;
}
