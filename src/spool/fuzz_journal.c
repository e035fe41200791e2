/* Any bytes as a batch of the journal's operations. */
#include "spool/owner_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct spool_ops ops = { 0 };
    struct spool_conf conf = { .dir = "none" };
    struct spool *s = spool_alloc(&conf, &ops, NULL);
    bool end_seen = false;
    struct err err;

    s->is_replaying = true;
    (void)replay_batch(s, slice_of(data, size), &end_seen, &err);
    replay_finish(s);
    s->is_closing = true;
    spool_delete_memory(s);
    return 0;
}
