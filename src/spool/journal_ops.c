/* The journal's operations as bytes; doc/spool.md, "Journal". */
#include "spool/owner_priv.h"

#include "base/codec.h"

/* Every operation must be understood: what is skipped would be mail lost or
 * sent twice. */
static void op_put(struct buf *b, enum journal_op op, const void *p, size_t n)
{
    CHECK(attr_put(b, (uint16_t)op | ATTR_MUST, slice_of(p, n)));
}

void op_message(struct buf *b, const struct message_place *p)
{
    uint8_t raw[PLACE_BYTES];

    set_u64(raw, p->seq);
    set_u64(raw + 8, p->segment);
    set_u64(raw + 16, p->at);
    set_u64(raw + 24, p->length);
    set_u64(raw + 32, p->body_bytes);
    set_u32(raw + 40, p->envelope_bytes);
    set_u32(raw + 44, p->n_rcpts);
    set_u64(raw + 48, (uint64_t)p->arrival_usec);
    set_u64(raw + 56, p->size);
    set_u32(raw + 64, p->flags);
    op_put(b, J_MESSAGE, raw, sizeof raw);
}

void op_seq(struct buf *b, enum journal_op op, uint64_t seq)
{
    uint8_t raw[8];

    set_u64(raw, seq);
    op_put(b, op, raw, sizeof raw);
}

void op_two(struct buf *b, enum journal_op op, uint64_t x, uint64_t y)
{
    uint8_t raw[16];

    set_u64(raw, x);
    set_u64(raw + 8, y);
    op_put(b, op, raw, sizeof raw);
}

void op_settle(struct buf *b, uint64_t seq, uint32_t rcpt, enum outcome how)
{
    uint8_t raw[13];

    set_u64(raw, seq);
    set_u32(raw + 8, rcpt);
    raw[12] = (uint8_t)how;
    op_put(b, J_SETTLE, raw, sizeof raw);
}

void op_try(struct buf *b, const struct spool_message *m)
{
    uint8_t raw[20];

    set_u64(raw, m->by_seq.key);
    set_u64(raw + 8, (uint64_t)m->next_try);
    set_u32(raw + 16, m->attempts);
    op_put(b, J_TRY, raw, sizeof raw);
}

void op_hold(struct buf *b, uint64_t seq, bool held)
{
    uint8_t raw[9];

    set_u64(raw, seq);
    raw[8] = held;
    op_put(b, J_HOLD, raw, sizeof raw);
}

void op_move(struct buf *b, uint64_t seq, uint64_t segment, uint64_t at)
{
    uint8_t raw[24];

    set_u64(raw, seq);
    set_u64(raw + 8, segment);
    set_u64(raw + 16, at);
    op_put(b, J_MOVE, raw, sizeof raw);
}

/* Operations of unknown length: the length is set behind. */
static size_t op_begin(struct buf *b, enum journal_op op)
{
    op_put(b, op, NULL, 0);
    return b->n;
}

static void op_finish(struct buf *b, size_t begin)
{
    CHECK(!b->overflow);
    set_u32(b->p + begin - 4, (uint32_t)(b->n - begin));
}

void op_reason(struct buf *b, uint64_t seq, const struct reason *r,
               const uint32_t *rcpts, size_t n)
{
    size_t begin = op_begin(b, J_REASON);

    (void)buf_u64(b, seq);
    (void)buf_byte(b, (char)r->status_n);
    (void)buf_slice(b, reason_status(r));
    (void)buf_u16(b, (uint16_t)r->text_n);
    (void)buf_slice(b, reason_text(r));
    for (size_t i = 0; i < n; i++)
        (void)buf_u32(b, rcpts[i]);
    op_finish(b, begin);
}

void op_expand(struct buf *b, uint64_t seq, uint32_t parent, uint32_t index,
               const struct spool_expansion *v)
{
    size_t begin = op_begin(b, J_EXPAND);

    (void)buf_u64(b, seq);
    (void)buf_u32(b, parent);
    (void)buf_u32(b, index);
    (void)attr_put(b, X_ADDR, v->addr);
    if (v->orig.n > 0)
        (void)attr_put(b, X_ORIG, v->orig);
    if (v->orcpt.n > 0)
        (void)attr_put(b, X_ORCPT, v->orcpt);
    if (v->notify != 0)
        (void)attr_put_u64(b, X_NOTIFY, v->notify);
    if (v->has_owner)
        (void)attr_put(b, X_OWNER, v->owner);
    op_finish(b, begin);
}
