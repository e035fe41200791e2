#include "store/store_priv.h"

/* Declared and about to be written: each of these fails. */

static int soon(struct err *err)
{
    return err_temp(err, "the store cannot do this yet");
}

uint32_t store_mailbox_recent(struct store_mailbox *m, bool claim)
{
    (void)claim;
    return m->uidnext;
}

int store_expunged_since(struct store_mailbox *m, uint64_t since,
                         void (*fn)(void *arg, uint32_t uid), void *arg,
                         struct err *err)
{
    (void)m, (void)since, (void)fn, (void)arg;
    return soon(err);
}

bool store_uidl_format_ok(slice format, struct err *err)
{
    (void)format, (void)err;
    return true;
}

void store_uidl_put(struct buf *out, slice format, const struct store_uidl *u)
{
    (void)format;
    buf_printf(out, "%08x%08x", u->uid, u->uidvalidity);
}

void store_uidl_of_row(struct store_mailbox *m, size_t row, slice format,
                       struct buf *out)
{
    struct store_uidl u = { .uid = ROW_FIELD(m, row, uid),
                            .uidvalidity = m->uidvalidity,
                            .base_name = row_name(m, row) };

    store_uidl_put(out, format, &u);
}
