#include "store/store_priv.h"

/* Messages come into the index: one by one, or many in one record. */

static int no_uids(const struct store_mailbox *m, struct err *err)
{
    return err_temp(err, "mailbox %s has no UIDs left", m->name);
}

int mailbox_add(struct store_mailbox *m, struct row *r, slice name,
                slice strings, struct err *err)
{
    uint64_t instance = m->account->store->cfg.instance;
    uint8_t fixed[ADD_FIXED];
    struct iovec v[3];
    uint64_t at;

    if (account_next_modseq(m->account, m, &r->modseq, err) < 0)
        return -1;
    if (m->uidnext == UINT32_MAX)
        return no_uids(m, err);
    r->uid = m->uidnext;
    r->created = r->modseq;
    r->name_len = (uint32_t)name.n;
    r->cache_len = (uint32_t)strings.n;
    add_encode(fixed, r, instance, name.n);
    v[0] = (struct iovec){ fixed, sizeof fixed };
    v[1] = piece_of(name.p, name.n);
    v[2] = piece_of(strings.p, strings.n);
    if (index_append(m, IR_ADD | ENGINE_MUST_UNDERSTAND, v, strings.n ? 3 : 2,
                     &at, err) < 0)
        return -1;
    r->cache_off = at + ADD_FIXED + name.n;
    if (!row_add(m, r, name))
        return err_temp(err, "mailbox %s is full", m->name);
    m->last_instance = instance;
    m->log_bytes_live += ENGINE_RECORD_HEAD + ADD_FIXED + name.n + strings.n;
    return 0;
}

/* ---- many ---- */

void add_batch_init(struct add_batch *b, struct store_mailbox *m)
{
    *b = (struct add_batch){ .m = m, .next_uid = m->uidnext };
    buf_init(&b->bytes, ENGINE_RECORD_MAX - 64);
}

void add_batch_done(struct add_batch *b)
{
    buf_done(&b->bytes);
    idset_done(&b->ids);
}

bool add_batch_knows(const struct add_batch *b, const uint8_t *id)
{
    return idset_get(&b->ids, id) != 0;
}

int add_batch_flush(struct add_batch *b, struct err *err)
{
    struct iovec v = piece_of(b->bytes.p, b->bytes.n);
    uint64_t at;

    if (b->bytes.n == 0)
        return 0;
    if (index_append(b->m, IR_ADDS | ENGINE_MUST_UNDERSTAND, &v, 1, &at, err) <
        0)
        return -1;
    if (!index_apply(b->m, IR_ADDS, buf_view(&b->bytes), at))
        return err_temp(err, "mailbox %s is full", b->m->name);
    buf_clear(&b->bytes);
    idset_done(&b->ids);
    return 0;
}

/* One that fills a record by itself. */
static int add_alone(struct add_batch *b, struct row *r, slice name,
                     slice strings, struct err *err)
{
    if (add_batch_flush(b, err) < 0)
        return -1;
    if (b->next_uid > b->m->uidnext)
        b->m->uidnext = b->next_uid;
    if (mailbox_add(b->m, r, name, strings, err) < 0)
        return -1;
    b->next_uid = b->m->uidnext;
    return 0;
}

int add_batch_put(struct add_batch *b, struct row *r, slice name, slice strings,
                  struct err *err)
{
    struct store_mailbox *m = b->m;
    uint8_t fixed[ADD_FIXED];
    size_t bytes = ADD_FIXED + name.n + strings.n;

    if (r->uid > b->next_uid)
        b->next_uid = r->uid;
    if (b->next_uid == UINT32_MAX)
        return no_uids(m, err);
    if (4 + bytes > b->bytes.max)
        return add_alone(b, r, name, strings, err);
    if (4 + bytes > b->bytes.max - b->bytes.n && add_batch_flush(b, err) < 0)
        return -1;
    if (account_next_modseq(m->account, m, &r->modseq, err) < 0)
        return -1;
    r->uid = b->next_uid++;
    r->created = r->modseq;
    add_encode(fixed, r, m->account->store->cfg.instance, name.n);
    buf_u32(&b->bytes, (uint32_t)bytes);
    buf_put(&b->bytes, fixed, sizeof fixed);
    buf_slice(&b->bytes, name);
    buf_slice(&b->bytes, strings);
    if (!id_is_zero(r->id))
        idset_put(&b->ids, r->id, 1);
    return 0;
}
