#include "table/table_priv.h"

#include "mail/address.h"

/* Lists of tables, maps_find(3), and the lookup of addresses in them,
 * mail_addr_find(3). */

struct table_list {
    uint32_t magic;
    struct table **v;
    size_t n;
};

#define TABLE_LIST_MAGIC MAGIC('T', 'L', 'S', 'T')

int table_list_new(struct tables *t, slice specs, struct table_list **out,
                   struct err *err)
{
    struct table_list *l = xcalloc(1, sizeof(*l));
    slice rest = specs;
    slice item;

    CHECK_OBJ(t, TABLES_MAGIC);
    l->magic = TABLE_LIST_MAGIC;
    l->v = xcalloc(specs.n / 2 + 1, sizeof(struct table *));
    while (conf_list_next(&rest, &item)) {
        struct table *one = NULL;

        if (tables_entry(t, conf_list_unbrace(item), 0, &one, err) < 0) {
            table_list_free(&l);
            return -1;
        }
        l->v[l->n++] = one;
    }
    *out = l;
    return 0;
}

int table_list_param(struct tables *t, const struct conf *c,
                     const struct conf_service *service, const char *param,
                     struct table_list **out, struct err *err)
{
    if (table_list_new(t, conf_slice(c, service, param), out, err) < 0)
        return err_prefix(err, "%s", param);
    return 0;
}

void table_list_free(struct table_list **lp)
{
    struct table_list *l = *lp;

    if (l == NULL)
        return;
    CHECK_OBJ(l, TABLE_LIST_MAGIC);
    l->magic = 0;
    free((void *)l->v);
    free(l);
    *lp = NULL;
}

bool table_list_is_empty(const struct table_list *l)
{
    return l == NULL || l->n == 0;
}

/* What the first table that knows the key says. */
struct said {
    slice value;
    const struct table *by; /* NULL: none */
};

MAY_WAIT static int ask_all(struct table_list *l, slice key, unsigned flags,
                            struct arena *a, struct said *out, struct err *err)
{
    *out = (struct said){ .by = NULL };
    if (l == NULL)
        return 0;
    CHECK_OBJ(l, TABLE_LIST_MAGIC);
    for (size_t i = 0; i < l->n; i++) {
        if ((flags & TABLE_FIXED_ONLY) != 0 && !l->v[i]->is_fixed)
            continue;
        if (table_ask(l->v[i], key, flags, a, &out->value, err) < 0)
            return -1;
        if (out->value.p != NULL) {
            out->by = l->v[i];
            return 0;
        }
    }
    return 0;
}

int table_list_lookup(struct table_list *l, slice key, unsigned flags,
                      struct arena *a, slice *value, struct err *err)
{
    struct said said;
    int r = ask_all(l, key, flags, a, &said, err);

    *value = said.value;
    return r;
}

int table_list_lookup_owned(struct table_list *l, slice key, struct arena *a,
                            slice *value, uid_t *owner, struct err *err)
{
    struct said said;

    if (ask_all(l, key, 0, a, &said, err) < 0)
        return -1;
    *value = said.value;
    *owner = said.by != NULL ? said.by->owner : (uid_t)-1;
    return 0;
}

/* ------------------------------------------------------------------ *
 * Addresses
 */

struct finding {
    struct table_list *list;
    const struct table_addr_find *how;
    struct arena *a;
    slice value; /* found when p is set */
    struct err *err;
};

static slice join(struct arena *a, slice x, slice y, slice z)
{
    char *p = arena_alloc(a, x.n + y.n + z.n + 1);

    if (p == NULL)
        return SLICE_NONE;
    memcpy(p, x.p != NULL ? x.p : "", x.n);
    memcpy(p + x.n, y.p != NULL ? y.p : "", y.n);
    memcpy(p + x.n + y.n, z.p != NULL ? z.p : "", z.n);
    return slice_of(p, x.n + y.n + z.n);
}

MAY_WAIT static int find(struct finding *f, slice key, unsigned flags)
{
    if (key.p == NULL)
        return err_temp(f->err, "address too long for a lookup");
    return table_list_lookup(f->list, key, f->how->flags | flags, f->a,
                             &f->value, f->err);
}

/* local part and what stands behind it, first quoted as in SMTP, then, where
 * that is another text, as it is. */
MAY_WAIT static int find_form(struct finding *f, slice local, slice at,
                              unsigned flags)
{
    struct buf quoted CLEANUP(buf_done);
    slice plain;

    buf_init(&quoted, 16384);
    if (mail_local_quote(&quoted, local) &&
        !slice_eq(buf_view(&quoted), local)) {
        if (find(f, join(f->a, buf_view(&quoted), at, SLICE_NONE), flags) < 0)
            return -1;
        if (f->value.p != NULL)
            return 0;
    }
    plain = join(f->a, local, at, SLICE_NONE);
    return find(f, plain, flags);
}

/* domain, then its parents as the strategy says. */
MAY_WAIT static int find_domain(struct finding *f, slice domain)
{
    slice rest = domain;

    if (find(f, domain, TABLE_FIXED_ONLY) < 0)
        return -1;
    while (f->value.p == NULL) {
        ssize_t dot = slice_chr(slice_from(rest, 1), '.');
        slice parent;

        if (rest.n == 0 || dot < 0)
            return 0;
        rest = slice_from(rest, (size_t)dot + 1); /* ".parent" */
        parent = slice_from(rest, 1);
        if ((f->how->strategy & TABLE_ADDR_PARENT_BARE) != 0 && parent.n > 0) {
            if (find(f, parent, TABLE_FIXED_ONLY) < 0)
                return -1;
        } else if ((f->how->strategy & TABLE_ADDR_PARENT) != 0) {
            if (find(f, rest, TABLE_FIXED_ONLY) < 0)
                return -1;
        }
    }
    return 0;
}

/* One step of the order: `tail` behind the local part, with and without the
 * extension. */
struct address {
    slice local;
    slice user; /* without extension; empty when there is none */
    slice ext;  /* with its delimiter */
    slice at;   /* "@domain" */
    slice domain;
};

MAY_WAIT static int find_both(struct finding *f, const struct address *x,
                              slice tail, slice *ext)
{
    if (find_form(f, x->local, tail, TABLE_FIXED_ONLY) < 0)
        return -1;
    if (f->value.p != NULL || x->user.n == 0)
        return 0;
    if (find_form(f, x->user, tail, TABLE_FIXED_ONLY) < 0)
        return -1;
    if (f->value.p != NULL)
        *ext = x->ext;
    return 0;
}

MAY_WAIT static int find_steps(struct finding *f, const struct address *x,
                               slice *ext)
{
    unsigned s = f->how->strategy;

    if ((s & TABLE_ADDR_FULL) != 0 && find_form(f, x->local, x->at, 0) < 0)
        return -1;
    if (f->value.p == NULL && (s & TABLE_ADDR_NOEXT) != 0 && x->user.n > 0) {
        if (find_form(f, x->user, x->at, TABLE_FIXED_ONLY) < 0)
            return -1;
        if (f->value.p != NULL)
            *ext = x->ext;
    }
    if (f->value.p == NULL && (s & TABLE_ADDR_LOCAL) != 0 && f->how->is_local &&
        x->at.n > 0 && find_both(f, x, SLICE_NONE, ext) < 0)
        return -1;
    if (f->value.p == NULL && (s & TABLE_ADDR_AT_DOMAIN) != 0 && x->at.n > 0) {
        if (find(f, x->at, TABLE_FIXED_ONLY) < 0)
            return -1;
        if (f->value.p != NULL)
            *ext = x->ext;
    }
    if (f->value.p == NULL && (s & TABLE_ADDR_DOMAIN) != 0 && x->domain.n > 0 &&
        find_domain(f, x->domain) < 0)
        return -1;
    if (f->value.p == NULL && (s & TABLE_ADDR_USER_AT) != 0 &&
        find_both(f, x, SL("@"), ext) < 0)
        return -1;
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): a lookup has seven facts */
int table_list_find_addr(struct table_list *l, slice internal,
                         const struct table_addr_find *how, struct arena *a,
                         slice *value, slice *ext, struct err *err)
{
    struct finding f = { l, how, a, SLICE_NONE, err };
    struct address x = { .local = internal };
    slice found_ext = SLICE_NONE;
    slice bare_ext;

    if (table_list_is_empty(l)) {
        *value = SLICE_NONE;
        return 0;
    }
    if (mail_addr_split(internal, &x.local, &x.domain))
        x.at = slice_from(internal, x.local.n);
    if (mail_local_split(x.local, how->delimiters, true, &x.user, &bare_ext))
        x.ext = slice_from(x.local, x.user.n);
    else
        x.user = SLICE_NONE;
    if (find_steps(&f, &x, &found_ext) < 0)
        return -1;
    *value = f.value;
    if (ext != NULL)
        *ext = found_ext;
    return 0;
}
