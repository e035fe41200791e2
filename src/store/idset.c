#include "store/store_priv.h"

/* Delivery ids are digests or random, so their first bytes are the hash. */
static size_t id_slot(const uint8_t *id, size_t n_slots)
{
    return (size_t)get_u64(id) & (n_slots - 1);
}

bool id_is_zero(const uint8_t *id)
{
    return get_u64(id) == 0 && get_u64(id + 8) == 0;
}

void idset_done(struct idset *s)
{
    free(s->slots);
    *s = (struct idset){ 0 };
}

static void slot_put(struct idset *s, const uint8_t *id, uint32_t value)
{
    size_t at = id_slot(id, s->n_slots);

    while (s->slots[at].value && memcmp(s->slots[at].id, id, ID_BYTES) != 0)
        at = (at + 1) & (s->n_slots - 1);
    if (!s->slots[at].value)
        s->n++;
    memcpy(s->slots[at].id, id, ID_BYTES);
    s->slots[at].value = value;
}

static void idset_grow(struct idset *s)
{
    struct idset old = *s;

    s->n_slots = old.n_slots ? old.n_slots * 2 : 16;
    s->slots = xcalloc(s->n_slots, sizeof *s->slots);
    s->n = 0;
    for (size_t i = 0; i < old.n_slots; i++)
        if (old.slots[i].value)
            slot_put(s, old.slots[i].id, old.slots[i].value);
    free(old.slots);
}

void idset_put(struct idset *s, const uint8_t *id, uint32_t value)
{
    CHECK(value > 0);
    if ((s->n + 1) * 3 > s->n_slots * 2)
        idset_grow(s);
    slot_put(s, id, value);
}

uint32_t idset_get(const struct idset *s, const uint8_t *id)
{
    size_t at;

    if (s->n_slots == 0)
        return 0;
    at = id_slot(id, s->n_slots);
    while (s->slots[at].value) {
        if (memcmp(s->slots[at].id, id, ID_BYTES) == 0)
            return s->slots[at].value;
        at = (at + 1) & (s->n_slots - 1);
    }
    return 0;
}
