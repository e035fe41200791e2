#include "table/table_priv.h"

#include "ipc/process.h"
#include "ipc/proto.h"

/* Tables that the `tables` process serves: the client's side, and the choice
 * between it and this process. */

MAY_WAIT static int ask(struct table *t, slice key, struct arena *a,
                        slice *value, struct err *err)
{
    struct buf body CLEANUP(buf_done);
    struct msg answer = { .type = 0 };
    slice found;
    int rc = 0;

    buf_init(&body, CHAN_MAX_BYTES);
    attr_put_str(&body, AT_TABLE, t->whole);
    if (!attr_put(&body, AT_KEY, key))
        return err_temp(err, "%s: key too long", t->whole);
    if (link_call(t->set->server, TABLES_LOOKUP, buf_view(&body), NULL, 0,
                  clock_after(TABLE_ASK_MS), &answer, err) < 0)
        return err_prefix(err, "lookup in %s", t->whole);
    if (!attr_find(answer.body, AT_VALUE, &found)) {
        *value = SLICE_NONE;
    } else {
        slice copy = slice_dup(a, found);

        if (copy.p == NULL)
            rc = err_temp(err, "%s: no memory for the value", t->whole);
        else
            *value = copy;
    }
    msg_free(&answer);
    return rc;
}

MAY_WAIT static int lookup_here(struct table *t, slice key, struct arena *a,
                                slice *value, struct err *err)
{
    slice found;

    if (slice_eqs(t->type, "unix"))
        return nss_lookup(t, key, a, value, err);
    if (!table_is_served_file(t->type))
        return remote_lookup(t, key, a, value, err);
    if (!pairs_find(t->data, key, &found)) {
        *value = SLICE_NONE;
        return 0;
    }
    *value = slice_dup(a, found);
    if (value->p == NULL)
        return err_temp(err, "%s: no memory for the value", t->whole);
    return 0;
}

MAY_WAIT static int lookup_any(struct table *t, slice key, struct arena *a,
                               slice *value, struct err *err)
{
    /* passwd-file data that were given are used, whoever has them. */
    if (t->set->is_direct || (t->data != NULL && table_is_served_file(t->type)))
        return lookup_here(t, key, a, value, err);
    if (t->set->server == NULL)
        return err_temp(err, "table %s is not available", t->whole);
    return ask(t, key, a, value, err);
}

/* How long an answer may be kept; 0: not at all. */
static msec keep_ms(const struct table *t, bool found)
{
    if (!t->ops->folds)
        return 0; /* socketmap, tcp: their servers may change their mind */
    if (!t->set->is_direct) /* nothing is asked for data that were given */
        return t->data != NULL ? 0 : CACHE_CLIENT_MS;
    if (!slice_eqs(t->type, "unix"))
        return 0;
    return found ? CACHE_HIT_MS : CACHE_MISS_MS;
}

int served_lookup(struct table *t, slice key, unsigned flags, struct arena *a,
                  slice *value, struct err *err)
{
    slice found = SLICE_NONE;
    msec keep;

    (void)flags;
    if (cache_get(t->set, t, key, a, value))
        return 0;
    if (lookup_any(t, key, a, &found, err) < 0)
        return -1;
    keep = keep_ms(t, found.p != NULL);
    if (keep > 0)
        cache_put(t->set, t, key, found, keep);
    *value = found;
    return 0;
}

const struct table_ops table_ops_unix = {
    .type = "unix",
    .kind = TABLE_SERVED,
    .is_fixed = true,
    .folds = true,
    .lookup = served_lookup,
};

const struct table_ops table_ops_socketmap = {
    .type = "socketmap",
    .kind = TABLE_SERVED,
    .is_fixed = true,
    .lookup = served_lookup,
    .free = remote_free,
};

const struct table_ops table_ops_tcp = {
    .type = "tcp",
    .kind = TABLE_SERVED,
    .is_fixed = true,
    .lookup = served_lookup,
    .free = remote_free,
};
