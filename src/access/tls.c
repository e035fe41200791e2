/* Restrictions that look at TLS and at client certificates. */
#include "access/access_priv.h"

#include "ipc/event.h"

/* relay_clientcerts, by the certificate's and its public key's fingerprint. */
MAY_WAIT static enum verdict ask_prints(struct check *c,
                                        struct table_list *table,
                                        struct arena *a, slice *key,
                                        slice *value)
{
    const slice prints[] = { c->s->ccert_fingerprint,
                             c->s->ccert_key_fingerprint };
    struct err err;

    *value = SLICE_NONE;
    for (size_t i = 0; i < ARRAY_LEN(prints) && value->p == NULL; i++) {
        if (prints[i].n == 0)
            continue;
        *key = prints[i];
        if (table_list_lookup(table, prints[i], 0, a, value, &err) == 0)
            continue;
        if (err.class == ERR_PEER)
            return SAYS_GONE;
        return check_trouble(c, c->reply_name, &err);
    }
    return SAYS_DUNNO;
}

enum verdict check_permit_clientcerts(struct check *c,
                                      const struct rule *r UNUSED)
{
    struct arena *a CLEANUP(arena_free) = arena_new(1u << 20);
    slice key, value;
    enum verdict says;

    if (table_list_is_empty(c->a->relay_ccerts))
        return SAYS_DUNNO;
    says = ask_prints(c, c->a->relay_ccerts, a, &key, &value);
    if (says != SAYS_DUNNO || value.p == NULL)
        return says;
    c->grants_relay = true;
    return SAYS_OK;
}

enum verdict check_permit_all_clientcerts(struct check *c,
                                          const struct rule *r UNUSED)
{
    if (!c->s->ccert_ok)
        return SAYS_DUNNO;
    c->grants_relay = true;
    return SAYS_OK;
}

enum verdict check_ccert_access(struct check *c, const struct rule *r)
{
    struct arena *a CLEANUP(arena_free) = arena_new(4u << 20);
    slice saved_name = c->reply_name;
    const char *saved_class = c->reply_class;
    slice key, value;
    enum verdict says;

    c->reply_name = check_client_text(c->a, c->s);
    c->reply_class = "Client certificate";
    says = ask_prints(c, r->table, a, &key, &value);
    if (says == SAYS_DUNNO && value.p != NULL)
        says = check_result(c, r, key, value);
    c->reply_name = saved_name;
    c->reply_class = saved_class;
    return says;
}

enum verdict check_reject_plaintext(struct check *c,
                                    const struct rule *r UNUSED)
{
    if (c->s->is_tls)
        return SAYS_DUNNO;
    return check_refuse(c, false, c->a->plaintext_code, "4.7.1",
                        "<%.*s>: %s rejected: Session encryption is required",
                        SLF(c->reply_name), c->reply_class);
}
