#include "store/store_priv.h"

/* What sessions ask of a mailbox's past: which messages nobody was told of, and
 * which are gone since a MODSEQ. */

uint32_t store_mailbox_recent(struct store_mailbox *m, bool claim)
{
    uint32_t first = m->recent > 0 ? m->recent : 1;
    uint8_t b[4];
    struct err err;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (!claim || first >= m->uidnext || m->is_gone)
        return first;
    set_u32(b, m->uidnext);
    /* Should it get lost, another session is told that they are recent. */
    if (index_append_buf(m, IR_RECENT, slice_of(b, sizeof b), &err) < 0)
        store_note(m->account, "%s: %s", m->name, err.log);
    m->recent = m->uidnext;
    return first;
}

struct history {
    uint64_t since;
    void (*fn)(void *arg, uint32_t uid);
    void *arg;
};

/* False: what is asked for was before the log began. */
static bool take_expunge(const struct history *h, slice payload)
{
    ssize_t n = list_count(payload, 16, 4);

    if (n < 0 || get_u64(payload.p) <= h->since)
        return true;
    /* A log that was written anew says so in this way (rewrite.c). */
    if (n == 0)
        return false;
    for (ssize_t i = 0; i < n; i++)
        h->fn(h->arg, get_u32(payload.p + 16 + 4 * i));
    return true;
}

static int walk(const struct history *h, struct engine_reader *r,
                struct err *err)
{
    struct engine_record rec;
    int got;

    while ((got = engine_reader_next(r, &rec, err)) > 0)
        if (rec.type == IR_EXPUNGE && !take_expunge(h, rec.payload))
            return 0;
    return got < 0 ? -1 : 1;
}

int store_expunged_since(struct store_mailbox *m, uint64_t since,
                         void (*fn)(void *arg, uint32_t uid), void *arg,
                         struct err *err)
{
    struct history h = { since, fn, arg };
    struct engine_reader *r = NULL;
    int rc;

    CHECK_OBJ(m, MAILBOX_MAGIC);
    if (mailbox_check_there(m, err) < 0 || index_reader(m, &r, err) < 0)
        return -1;
    rc = walk(&h, r, err);
    engine_reader_free(&r);
    return rc;
}
